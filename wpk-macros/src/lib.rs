//! `model!` and `include_model!`: they parse, call the compiler and return its tokens.

use quote::quote;
use std::path::PathBuf;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Ident, LitFloat, LitInt, LitStr, Token, Visibility, braced, bracketed};

/// Compiles a model of up to 16 MB where it stands.
///
/// ```ignore
/// wpk::model! {
///     /// Handwritten digits.
///     pub struct Digits = "models/digits.onnx";
///     dims = { batch: [1, 8, 32] };
/// }
/// ```
///
/// The path starts at the package's folder. Options: `precision = fp16`, `cpu_precision = bf16`, `gpu = [sm_80]`, `keep_fp32 = ["/head/*"]`,
/// `libraries = never` for GPU plans without calls of cuDNN and cuBLASLt,
/// `dims = { batch: [1, 8], rows: 1..=128 }`, `shapes = { input: [1, 3, 224, 224] }`, and for inputs given as bytes with channels last,
/// `images = { input: [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]] }` with the mean and the deviation of each channel.
#[proc_macro]
pub fn model(tokens: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let declaration = syn::parse_macro_input!(tokens as Declaration);
    let error = |message: String| syn::Error::new(declaration.path.span(), message).to_compile_error();
    let (visibility, attributes) = (&declaration.visibility, &declaration.attributes);
    let expanded = declaration.model().expand(&quote!(#visibility), &quote!(#(#attributes)*));
    expanded.unwrap_or_else(|diags| error(diags.to_string())).into()
}

/// Includes a model that build.rs compiled under this name with `wpk_build::Model`.
#[proc_macro]
pub fn include_model(tokens: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let name = syn::parse_macro_input!(tokens as LitStr);
    let file = format!("/{}.rs", name.value());
    if std::env::var_os("OUT_DIR").is_none() {
        let message = "include_model! needs a build.rs that calls `wpk_build::Model::new(...).compile()`";
        return syn::Error::new(name.span(), message).to_compile_error().into();
    }
    quote!(include!(concat!(env!("OUT_DIR"), #file));).into()
}

struct Declaration {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    name: Ident,
    path: LitStr,
    lists: Vec<(String, String, Vec<usize>)>,
    ranges: Vec<(String, std::ops::RangeInclusive<usize>)>,
    precision: wpk_build::Precision,
    cpu_precision: wpk_build::Precision,
    gpus: Vec<String>,
    keep_fp32: Vec<String>,
    libraries: bool,
    images: Vec<(String, Vec<Vec<f64>>)>,
}

impl Declaration {
    fn model(&self) -> wpk_build::Model {
        let base = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
        let model = wpk_build::Model::new(base.join(self.path.value())).name(&self.name.to_string()).precision(self.precision);
        let model = model.cpu_precision(self.cpu_precision).libraries(self.libraries);
        let model = self.gpus.iter().fold(model, |model, arch| model.gpu(arch));
        let model = self.keep_fp32.iter().fold(model, |model, pattern| model.keep_fp32(pattern));
        let part = |list: &[Vec<f64>], i: usize| list.get(i).cloned().unwrap_or_default();
        let model = self.images.iter().fold(model, |model, (input, list)| model.image(input, &part(list, 0), &part(list, 1)));
        let model = self.ranges.iter().fold(model, |model, (name, sizes)| model.range(name, sizes.clone()));
        self.lists.iter().fold(model, |model, (option, key, values)| match option.as_str() {
            "dims" => model.dim(key, values.iter().copied()),
            _ => model.shape(key, values),
        })
    }
}

impl Parse for Declaration {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        input.parse::<Token![struct]>()?;
        let name = input.parse()?;
        input.parse::<Token![=]>()?;
        let path = input.parse()?;
        input.parse::<Token![;]>()?;
        let (precision, cpu_precision) = (wpk_build::Precision::default(), wpk_build::Precision::default());
        let (lists, ranges, gpus, keep_fp32, images) = (vec![], vec![], vec![], vec![], vec![]);
        let libraries = true;
        let mut declaration =
            Self { attributes, visibility, name, path, lists, ranges, precision, cpu_precision, gpus, keep_fp32, libraries, images };
        while !input.is_empty() {
            declaration.option(input)?;
            input.parse::<Token![;]>()?;
        }
        Ok(declaration)
    }
}

impl Declaration {
    fn option(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        let option: Ident = input.parse()?;
        input.parse::<Token![=]>()?;
        match option.to_string().as_str() {
            which @ ("precision" | "cpu_precision") => {
                let value: Ident = input.parse()?;
                let precision = match value.to_string().as_str() {
                    "fp32" => wpk_build::Precision::Fp32,
                    "tf32" => wpk_build::Precision::Tf32,
                    "fp16" => wpk_build::Precision::Fp16,
                    "bf16" => wpk_build::Precision::Bf16,
                    _ => return Err(syn::Error::new(value.span(), "expected fp32, tf32, fp16 or bf16")),
                };
                *(if which == "precision" { &mut self.precision } else { &mut self.cpu_precision }) = precision;
            }
            "gpu" => {
                let list;
                bracketed!(list in input);
                self.gpus = list.parse_terminated(Ident::parse, Token![,])?.iter().map(Ident::to_string).collect();
            }
            "keep_fp32" => {
                let list;
                bracketed!(list in input);
                self.keep_fp32 = list.parse_terminated(<LitStr as Parse>::parse, Token![,])?.iter().map(LitStr::value).collect();
            }
            "libraries" => {
                let value: Ident = input.parse()?;
                self.libraries = match value.to_string().as_str() {
                    "allowed" => true,
                    "never" => false,
                    _ => return Err(syn::Error::new(value.span(), "expected allowed or never")),
                };
            }
            name @ ("dims" | "shapes") => by_name(input, |key, input| {
                if name == "dims" && input.peek(LitInt) {
                    let (first, _, last) = (input.parse::<LitInt>()?, input.parse::<Token![..=]>()?, input.parse::<LitInt>()?);
                    self.ranges.push((key, first.base10_parse()?..=last.base10_parse()?));
                    return Ok(());
                }
                let list;
                bracketed!(list in input);
                let values = list.parse_terminated(LitInt::parse, Token![,])?;
                let values = values.iter().map(LitInt::base10_parse).collect::<syn::Result<_>>()?;
                self.lists.push((name.to_owned(), key, values));
                Ok(())
            })?,
            "images" => by_name(input, |key, input| {
                let list;
                bracketed!(list in input);
                let numbers = |list: ParseStream<'_>| {
                    let inner;
                    bracketed!(inner in list);
                    let numbers = inner.parse_terminated(LitFloat::parse, Token![,])?;
                    numbers.iter().map(LitFloat::base10_parse).collect::<syn::Result<Vec<f64>>>()
                };
                let lists = list.parse_terminated(numbers, Token![,])?.into_iter().collect();
                self.images.push((key, lists));
                Ok(())
            })?,
            _ => {
                return Err(syn::Error::new(
                    option.span(),
                    "expected precision, cpu_precision, gpu, keep_fp32, libraries, dims, shapes or images",
                ));
            }
        }
        Ok(())
    }
}

/// `{ name: ..., "another name": ... }`
fn by_name(input: ParseStream<'_>, mut take: impl FnMut(String, ParseStream<'_>) -> syn::Result<()>) -> syn::Result<()> {
    let body;
    braced!(body in input);
    while !body.is_empty() {
        let key = if body.peek(LitStr) { body.parse::<LitStr>()?.value() } else { body.parse::<Ident>()?.to_string() };
        body.parse::<Token![:]>()?;
        take(key, &body)?;
        if !body.is_empty() {
            body.parse::<Token![,]>()?;
        }
    }
    Ok(())
}
