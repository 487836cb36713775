//! Generated Rust: a typed struct around the encoded program. Nothing is decided here.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{format_ident, quote};
use wpk_plan::{DType, Plan, Port, Program};

/// How generated code gets at the program and the weights.
pub struct Assets {
    /// An expression of type `&'static [u8]`: the encoded program.
    pub program: TokenStream,
    /// Items the weights need, outside the struct.
    pub items: TokenStream,
    /// An expression of type `Result<Weights, Error>`.
    pub weights: TokenStream,
}

/// The struct, its `load` and its `forward`.
pub fn module(program: &Program, name: &str, visibility: &TokenStream, docs: &TokenStream, assets: &Assets) -> Result<TokenStream, String> {
    let ident = syn_ident(name)?;
    let summary = doc_lines(program);
    let (bytes, items, weights) = (&assets.program, &assets.items, &assets.weights);
    let forward = forward(program, &ident)?;
    let outputs = outputs_struct(program, &ident, visibility);
    let version = wpk_plan::VERSION;
    let mismatch = "wpk and wpk-build have different versions: use the same for both";
    Ok(quote! {
        const _: () = assert!(::wpk::__private::VERSION == #version, #mismatch);
        #items
        #docs
        #(#[doc = #summary])*
        #visibility struct #ident {
            model: ::wpk::__private::Model,
        }
        #outputs
        #[allow(clippy::all, clippy::pedantic, unused)]
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
                ::core::result::Result::Ok(Self { model: ::wpk::__private::Model::load(#bytes, #weights?, options)? })
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
        #forward
    })
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

/// The type of a tensor: `::wpk::Tensor<f32, ::wpk::Shape2<1, 10>>`.
fn tensor(port: &Port) -> Result<TokenStream, String> {
    if port.shape.len() > 6 {
        return Err(format!("tensor {:?} has {} dimensions; at most 6 can be inputs or outputs", port.name, port.shape.len()));
    }
    let shape = format_ident!("Shape{}", port.shape.len());
    let dims = port.shape.iter().map(|&n| Literal::usize_unsuffixed(n));
    let element = element(port.dtype);
    Ok(quote!(::wpk::Tensor<#element, ::wpk::#shape<#(#dims),*>>))
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
        let sizes: Vec<String> = program.dims.iter().zip(sizes).map(|(d, n)| format!("{d} = {n}")).collect();
        if !sizes.is_empty() {
            lines.push(format!(" With {}:", sizes.join(", ")));
        }
        for (kind, ports) in [("input", &plan.inputs), ("output", &plan.outputs)] {
            lines.extend(ports.iter().map(|p| format!(" - {kind} `{}`: `{}{:?}`", p.name, p.dtype, p.shape)));
        }
        lines.push(String::new());
    }
    lines
}

/// The struct of several results, generic over their types, since they differ by bucket.
fn outputs_struct(program: &Program, name: &Ident, visibility: &TokenStream) -> TokenStream {
    let Some((_, plan)) = program.buckets.first().filter(|b| b.1.outputs.len() > 1) else { return quote!() };
    let fields = idents(&plan.outputs);
    let kinds: Vec<Ident> = (0..fields.len()).map(|i| format_ident!("T{i}")).collect();
    let outputs = format_ident!("{name}Outputs");
    let docs = plan.outputs.iter().map(|p| format!("Output `{}`.", p.name));
    let doc = format!("The results of [`{name}::forward`].");
    quote! {
        #[doc = #doc]
        #[derive(Debug, Clone)]
        #visibility struct #outputs<#(#kinds),*> {
            #(#[doc = #docs] #visibility #fields: #kinds,)*
        }
    }
}

fn forward(program: &Program, name: &Ident) -> Result<TokenStream, String> {
    match program.buckets.as_slice() {
        [] => Err("the program has no plan".to_owned()),
        [(_, plan)] => single(plan, name),
        buckets => several(buckets.iter().map(|b| &b.1), name),
    }
}

/// The type of all results and the statements that compute them.
fn call(plan: &Plan, bucket: usize, name: &Ident, inputs: &[TokenStream]) -> Result<(TokenStream, TokenStream), String> {
    let (types, fields) = (plan.outputs.iter().map(tensor).collect::<Result<Vec<_>, _>>()?, idents(&plan.outputs));
    let locals: Vec<Ident> = (0..fields.len()).map(|i| format_ident!("out{i}")).collect();
    let (ty, value) = match (types.as_slice(), locals.as_slice()) {
        ([ty], [local]) => (quote!(#ty), quote!(#local)),
        _ => {
            let outputs = format_ident!("{name}Outputs");
            (quote!(#outputs<#(#types),*>), quote!(#outputs { #(#fields: #locals),* }))
        }
    };
    let body = quote! {
        #(let mut #locals: #types = model.output();)*
        model.run(
            #bucket,
            &[#(::wpk::__private::Model::bytes(#inputs)),*],
            &mut [#(::wpk::__private::Model::bytes_mut(&mut #locals)),*],
        )?;
        ::core::result::Result::Ok(#value)
    };
    Ok((ty, body))
}

fn single(plan: &Plan, name: &Ident) -> Result<TokenStream, String> {
    let (types, names) = (plan.inputs.iter().map(tensor).collect::<Result<Vec<_>, _>>()?, idents(&plan.inputs));
    let inputs: Vec<TokenStream> = names.iter().map(|n| quote!(#n)).collect();
    let (output, body) = call(plan, 0, name, &inputs)?;
    Ok(quote! {
        #[allow(clippy::all, clippy::pedantic, unused)]
        impl #name {
            /// Runs the model.
            ///
            /// # Errors
            /// Where the device fails; a wrong shape or type does not compile.
            pub fn forward(&self, #(#names: &#types),*) -> ::core::result::Result<#output, ::wpk::Error> {
                let model = &self.model;
                #body
            }
        }
    })
}

/// One `forward` over all buckets: a sealed trait of the tuple of inputs finds the bucket when the program is compiled.
fn several<'a>(plans: impl Iterator<Item = &'a Plan> + Clone, name: &Ident) -> Result<TokenStream, String> {
    let Some(first) = plans.clone().next() else { return Err("the program has no plan".to_owned()) };
    let names = idents(&first.inputs);
    let kinds: Vec<Ident> = (0..names.len()).map(|i| format_ident!("T{i}")).collect();
    let bucket = format_ident!("{name}Bucket");
    let mut known: Vec<String> = vec![];
    let mut implementations = vec![];
    for (i, plan) in plans.enumerate() {
        let types = plan.inputs.iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
        let key = quote!(#(#types),*).to_string();
        // Dimensions that no input shows cannot choose a bucket: the first one stands.
        if known.contains(&key) {
            continue;
        }
        known.push(key);
        let inputs: Vec<TokenStream> = (0..types.len()).map(syn_index).map(|i| quote!(inputs.#i)).collect();
        let (output, body) = call(plan, i, name, &inputs)?;
        implementations.push(quote! {
            impl #bucket for (#(&#types,)*) {
                type Outputs = #output;
                fn run(model: &::wpk::__private::Model, inputs: Self) -> ::core::result::Result<Self::Outputs, ::wpk::Error> {
                    #body
                }
            }
        });
    }
    let doc = format!("Combinations of inputs that [`{name}`] has a plan for.");
    let message = format!("`{name}` has no plan for inputs of these shapes");
    Ok(quote! {
        #[doc = #doc]
        #[diagnostic::on_unimplemented(message = #message, note = "add the size to the model's `dims`")]
        pub trait #bucket: Sized {
            /// The results.
            type Outputs;
            #[doc(hidden)]
            fn run(model: &::wpk::__private::Model, inputs: Self) -> ::core::result::Result<Self::Outputs, ::wpk::Error>;
        }
        #[allow(clippy::all, clippy::pedantic, unused)]
        const _: () = { #(#implementations)* };
        #[allow(clippy::all, clippy::pedantic, unused)]
        impl #name {
            /// Runs the model with the plan for the inputs' sizes.
            ///
            /// # Errors
            /// Where the device fails; a wrong shape or type, or a size that was not declared, does not compile.
            pub fn forward<'a, #(#kinds),*>(&self, #(#names: &'a #kinds),*) -> ::core::result::Result<<(#(&'a #kinds,)*) as #bucket>::Outputs, ::wpk::Error>
            where
                (#(&'a #kinds,)*): #bucket,
            {
                <(#(&'a #kinds,)*) as #bucket>::run(&self.model, (#(#names,)*))
            }
        }
    })
}

fn syn_index(i: usize) -> Literal {
    Literal::usize_unsuffixed(i)
}
