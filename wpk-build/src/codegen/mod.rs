//! Generated Rust: a typed struct around the encoded program. Nothing is decided here.

mod calls;

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{format_ident, quote};
use std::collections::BTreeSet;
use wpk_plan::{DType, Port, Problem, Program};

/// How generated code gets at the program and the weights.
pub struct Assets {
    /// An expression of type `&'static [u8]`: the encoded program.
    pub program: TokenStream,
    /// Items the weights need, outside the struct.
    pub items: TokenStream,
    /// An expression of type `Result<Weights, Error>`.
    pub weights: TokenStream,
}

/// The struct, its `load` and its calls.
pub fn module(program: &Program, name: &str, visibility: &TokenStream, docs: &TokenStream, assets: &Assets) -> Result<TokenStream, String> {
    let ident = syn_ident(name)?;
    let summary = doc_lines(program);
    let (bytes, items, weights) = (&assets.program, &assets.items, &assets.weights);
    let calls = calls::calls(program, &ident)?;
    let outputs = outputs_struct(program, &ident, visibility);
    let version = wpk_plan::VERSION;
    let (functions, options) = functions(program);
    let mismatch = "wpk and wpk-build have different versions: use the same for both";
    Ok(quote! {
        const _: () = assert!(::wpk::__private::VERSION == #version, #mismatch);
        #items
        #functions
        #docs
        #(#[doc = #summary])*
        #visibility struct #ident {
            model: ::wpk::__private::Model,
        }
        #outputs
        #[allow(clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks, unused)]
        impl #ident {
            /// Loads the model on the best device of this machine.
            ///
            /// # Errors
            /// Where the weights cannot be found or the device cannot be used.
            #visibility fn load() -> ::core::result::Result<Self, ::wpk::Error> {
                Self::load_on(::wpk::Device::Auto)
            }
            /// Loads the model on a chosen device.
            ///
            /// # Errors
            /// Where the weights cannot be found or the device cannot be used.
            #visibility fn load_on(device: ::wpk::Device) -> ::core::result::Result<Self, ::wpk::Error> {
                Self::load_with(::wpk::Options { device, ..::core::default::Default::default() })
            }
            /// Loads the model with all options: the device, and how many calls run at once.
            ///
            /// # Errors
            /// Where the weights cannot be found or the device cannot be used.
            #visibility fn load_with(options: ::wpk::Options) -> ::core::result::Result<Self, ::wpk::Error> {
                ::core::result::Result::Ok(Self { model: ::wpk::__private::Model::load(#bytes, #weights?, #options)? })
            }
            /// The device the model runs on.
            #visibility fn device(&self) -> ::wpk::Device {
                self.model.device()
            }
            /// The plan, as text.
            #visibility fn plan(&self) -> ::std::string::String {
                ::std::string::ToString::to_string(self.model.program())
            }
        }
        #calls
    })
}

/// The functions of custom operators, and the options that name them.
fn functions(program: &Program) -> (TokenStream, TokenStream) {
    let steps = program.buckets.iter().flat_map(|b| b.1.body.steps());
    let called = |s: &wpk_plan::Step| if let Problem::Custom(c) = s.kernel.problem() { Some(c.symbol.clone()) } else { None };
    let symbols: BTreeSet<String> = steps.filter_map(called).collect();
    if symbols.is_empty() {
        return (quote!(), quote!(options));
    }
    let names: Vec<Ident> = symbols.iter().map(|s| Ident::new(s, Span::call_site())).collect();
    let symbols = symbols.iter();
    let items = quote! {
        #[allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
        const _WPK_FUNCTIONS: &[::wpk::__private::CustomFunction] = {
            unsafe extern "C" {
                #(fn #names(inputs: *const *const ::core::ffi::c_void, outputs: *const *mut ::core::ffi::c_void);)*
            }
            // SAFETY: the sources were compiled for the operands that the plan gives.
            &[#(unsafe { ::wpk::__private::CustomFunction::new(#symbols, #names) }),*]
        };
    };
    (items, quote!(::wpk::Options { functions: _WPK_FUNCTIONS, ..options }))
}

fn syn_ident(name: &str) -> Result<Ident, String> {
    let valid = name.chars().enumerate().all(|(i, c)| c == '_' || c.is_alphabetic() || i > 0 && c.is_alphanumeric()) && !name.is_empty();
    if valid {
        Ok(Ident::new(name, Span::call_site()))
    } else {
        Err(format!("{name:?} is not a Rust type name: choose one with `.name(\"...\")`"))
    }
}

/// The name of a tensor as a Rust identifier.
pub fn field(name: &str, taken: &mut Vec<String>) -> Ident {
    const KEYWORDS: &[&str] = &[
        "as", "break", "const", "continue", "crate", "else", "enum", "extern", "false", "fn", "for", "if", "impl", "in", "let", "loop",
        "match", "mod", "move", "mut", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true", "type", "unsafe",
        "use", "where", "while", "async", "await", "dyn", "abstract", "become", "box", "do", "final", "macro", "override", "priv",
        "typeof", "unsized", "virtual", "yield", "try", "gen", "model",
    ];
    let mut ident = String::new();
    let mut lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && lower {
            ident.push('_');
        }
        lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        ident.push(if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    }
    if ident.chars().next().is_none_or(|c| c.is_ascii_digit()) || KEYWORDS.contains(&ident.as_str()) || ident.chars().all(|c| c == '_') {
        ident = format!("t_{ident}");
    }
    while taken.contains(&ident) {
        ident.push('_');
    }
    taken.push(ident.clone());
    Ident::new(&ident, Span::call_site())
}

fn element(t: DType) -> TokenStream {
    match t {
        DType::F16 => quote!(::wpk::f16),
        DType::BF16 => quote!(::wpk::bf16),
        DType::Text => quote!(::wpk::Text),
        other => {
            let ident = Ident::new(other.name(), Span::call_site());
            quote!(#ident)
        }
    }
}

/// The parameters of a tensor's type: `f32, ::wpk::Shape2<1, 10>`.
fn parameters(port: &Port) -> Result<TokenStream, String> {
    if port.shape.len() > 6 {
        return Err(format!("tensor {:?} has {} dimensions; at most 6 can be inputs or outputs", port.name, port.shape.len()));
    }
    if port.dtype.is_storage() {
        let help = "convert it in the model with Cast, or with QuantizeLinear or DequantizeLinear";
        return Err(format!("tensor {:?} has elements of {}, which cannot be inputs or outputs: {help}", port.name, port.dtype));
    }
    let shape = format_ident!("Shape{}", port.shape.len());
    let dims = port.shape.iter().map(|&n| Literal::usize_unsuffixed(n));
    let element = element(port.dtype);
    Ok(quote!(#element, ::wpk::#shape<#(#dims),*>))
}

/// The names of some tensors as Rust identifiers, as generated code spells them.
pub fn field_names(ports: &[Port]) -> Vec<String> {
    idents(ports).iter().map(ToString::to_string).collect()
}

fn idents(ports: &[Port]) -> Vec<Ident> {
    let mut taken = vec![];
    ports.iter().map(|p| field(&p.name, &mut taken)).collect()
}

fn doc_lines(program: &Program) -> Vec<String> {
    let mut lines = vec![String::new()];
    for (sizes, plan) in &program.buckets {
        let sizes: Vec<String> = program.dims.iter().zip(sizes).map(|(d, n)| format!("{} = {n}", d.name)).collect();
        if !sizes.is_empty() {
            lines.push(format!(" With {}:", sizes.join(", ")));
        }
        for (kind, ports) in [("input", plan.given()), ("output", plan.results())] {
            lines.extend(ports.iter().map(|p| format!(" - {kind} `{}`: `{}{:?}`", p.name, p.dtype, p.shape)));
        }
        lines.push(String::new());
    }
    for dim in program.dims.iter().filter_map(|d| Some((&d.name, d.least?))) {
        lines.push(format!(" Requests may have {} from {} on, and run in the plan of the next larger size.", dim.0, dim.1));
    }
    lines
}

/// The struct of several results, generic over their types, since they differ by bucket.
fn outputs_struct(program: &Program, name: &Ident, visibility: &TokenStream) -> TokenStream {
    let Some((_, plan)) = program.buckets.first().filter(|b| b.1.results().len() > 1) else { return quote!() };
    let fields = idents(plan.results());
    let kinds: Vec<Ident> = (0..fields.len()).map(|i| format_ident!("T{i}")).collect();
    let outputs = format_ident!("{name}Outputs");
    let docs = plan.results().iter().map(|p| format!("Output `{}`.", p.name));
    let doc = format!("The results of [`{name}::forward`].");
    quote! {
        #[doc = #doc]
        #[derive(Debug, Clone)]
        #visibility struct #outputs<#(#kinds),*> {
            #(#[doc = #docs] #visibility #fields: #kinds,)*
        }
    }
}
