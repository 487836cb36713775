//! The calls of a generated struct: on tensors in host memory, started and waited for later, and on tensors of the device. With
//! several buckets a trait of the tuple of inputs finds the bucket when the program is compiled.

use super::{idents, parameters};
use crate::model::capitalized;
use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};
use wpk_plan::{Plan, Port, Program};

/// A way to call a model.
struct Form {
    method: &'static str,
    doc: &'static str,
    /// The type of its tensors.
    tensor: &'static str,
    /// Whether it returns before the results are there.
    started: bool,
}

const FORMS: &[Form] = &[
    Form { method: "forward", doc: "Runs the model.", tensor: "Tensor", started: false },
    Form {
        method: "submit",
        doc: "Starts the model; on the CPU it has ended when this returns. The results are waited for later.",
        tensor: "Tensor",
        started: true,
    },
    Form {
        method: "forward_on_device",
        doc: "Runs the model on tensors that lie where it runs; so do the results.",
        tensor: "DeviceTensor",
        started: false,
    },
];

/// Every form of call.
pub fn calls(program: &Program, name: &Ident) -> Result<TokenStream, String> {
    let plans: Vec<&Plan> = program.buckets.iter().map(|b| &b.1).collect();
    if program.dims.iter().any(|d| d.least.is_some()) {
        return dynamic(program, name);
    }
    let counted = plans.iter().any(|p| p.results().len() < p.outputs.len());
    let one = |form: &Form| match plans.as_slice() {
        [] => Err("the program has no plan".to_owned()),
        [plan] => single(plan, name, form),
        plans => several(plans, name, form),
    };
    // How much there is of a result is told to the host.
    let forms = FORMS.iter().filter(|f| !counted || f.tensor == "Tensor");
    let calls = forms.map(one).collect::<Result<Vec<_>, _>>()?;
    let uploads = uploads();
    Ok(quote! {
        #(#calls)*
        #[allow(clippy::all, clippy::pedantic, unused)]
        impl #name { #uploads }
    })
}

fn uploads() -> TokenStream {
    quote! {
        /// Copies a tensor to where the model runs.
        ///
        /// # Errors
        /// Where the device has no memory left.
        pub fn upload<T: ::wpk::Element, S: ::wpk::Shape>(&self, tensor: &::wpk::Tensor<T, S>) -> ::core::result::Result<::wpk::DeviceTensor<T, S>, ::wpk::Error> {
            self.model.upload(tensor)
        }
    }
}

impl Form {
    fn tensor(&self, port: &Port) -> Result<TokenStream, String> {
        let (kind, parameters) = (format_ident!("{}", self.tensor), parameters(port)?);
        Ok(quote!(::wpk::#kind<#parameters>))
    }

    /// What the method returns for results of a type; `'m` is the model's lifetime.
    fn returned(&self, results: &TokenStream) -> TokenStream {
        if self.started { quote!(::wpk::Submitted<'m, #results>) } else { results.clone() }
    }

    /// The type of all results, and the statements that compute what is returned.
    fn call(&self, plan: &Plan, bucket: usize, name: &Ident, inputs: &[TokenStream]) -> Result<(TokenStream, TokenStream), String> {
        let types = plan.outputs.iter().map(|p| self.tensor(p)).collect::<Result<Vec<_>, _>>()?;
        let locals: Vec<Ident> = (0..types.len()).map(|i| format_ident!("out{i}")).collect();
        let mut results = vec![];
        for (i, ((port, ty), local)) in plan.results().iter().zip(&types).zip(&locals).enumerate() {
            results.push(if port.bounds.is_empty() {
                (ty.clone(), quote!(#local))
            } else {
                let parameters = parameters(port)?;
                (quote!(::wpk::Bounded<#parameters>), quote!(model.bounded(#bucket, #i, &#local, &counts)))
            });
        }
        let counts =
            plan.outputs.iter().zip(&locals).enumerate().filter(|(_, (p, _))| p.dtype == wpk_plan::DType::I64 && p.shape.is_empty());
        let counts = counts.map(|(i, (_, local))| quote!((#i, #local.as_slice()[0])));
        let counts = quote!(let counts: &[(usize, i64)] = &[#(#counts),*];);
        let counts = if plan.results().len() < plan.outputs.len() { counts } else { quote!() };
        let (kinds, values): (Vec<_>, Vec<_>) = results.into_iter().unzip();
        let (ty, value) = match (kinds.as_slice(), values.as_slice()) {
            ([ty], [value]) => (quote!(#ty), quote!({ #counts #value })),
            _ => {
                let (outputs, fields) = (format_ident!("{name}Outputs"), idents(plan.results()));
                (quote!(#outputs<#(#kinds),*>), quote!({ #counts #outputs { #(#fields: #values),* } }))
            }
        };
        let host = quote!(#(let mut #locals: #types = model.output();)*);
        let targets = quote!(&mut [#(::wpk::__private::Model::bytes_mut(&mut #locals)),*]);
        let sources = quote!(&[#(::wpk::__private::Model::bytes(#inputs)),*]);
        let body = match (self.started, self.tensor) {
            (true, _) => quote! {
                let pending = model.submit(#bucket, #sources)?;
                ::core::result::Result::Ok(::wpk::Submitted::new(model, pending, |model, pending| {
                    #host
                    pending.finish(#targets)?;
                    ::core::result::Result::Ok(#value)
                }))
            },
            (_, "DeviceTensor") => quote! {
                #(let mut #locals: #types = model.device_output()?;)*
                model.run_on_device(
                    #bucket,
                    &[#(::wpk::__private::Model::memory(#inputs)),*],
                    &mut [#(::wpk::__private::Model::memory_mut(&mut #locals)),*],
                )?;
                ::core::result::Result::Ok(#value)
            },
            _ => quote! {
                #host
                model.run(#bucket, #sources, #targets)?;
                ::core::result::Result::Ok(#value)
            },
        };
        Ok((ty, body))
    }
}

/// The call of a model with ranges of sizes.
fn dynamic(program: &Program, name: &Ident) -> Result<TokenStream, String> {
    let Some((_, plan)) = program.buckets.first() else { return Err("the program has no plan".to_owned()) };
    let (names, fields) = (idents(plan.given()), idents(plan.results()));
    let tensor = |port: &Port| parameters(port).map(|_| super::element(port.dtype)).map(|t| quote!(::wpk::Dynamic<#t>));
    let types = plan.given().iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
    let results = plan.results().iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
    let next = quote!(::wpk::__private::Model::found(results.next().ok_or_else(::wpk::__private::lost)?));
    let (output, value) = match results.as_slice() {
        [one] => (quote!(#one), next),
        _ => {
            let outputs = format_ident!("{name}Outputs");
            (quote!(#outputs<#(#results),*>), quote!(#outputs { #(#fields: #next),* }))
        }
    };
    Ok(quote! {
        #[allow(clippy::all, clippy::pedantic, unused)]
        impl #name {
            /// Runs the model in the plan of the sizes that are next to the inputs'.
            ///
            /// # Errors
            /// Where extents do not fit the model or lie outside its ranges, or the device fails.
            pub fn forward(&self, #(#names: &#types),*) -> ::core::result::Result<#output, ::wpk::Error> {
                let mut results = self.model.run_dynamic(&[#(::wpk::__private::Model::given(#names)),*])?.into_iter();
                ::core::result::Result::Ok(#value)
            }
        }
    })
}

fn single(plan: &Plan, name: &Ident, form: &Form) -> Result<TokenStream, String> {
    let (types, names) = (plan.inputs.iter().map(|p| form.tensor(p)).collect::<Result<Vec<_>, _>>()?, idents(&plan.inputs));
    let inputs: Vec<TokenStream> = names.iter().map(|n| quote!(#n)).collect();
    let (output, body) = form.call(plan, 0, name, &inputs)?;
    let (method, doc, returned) = (format_ident!("{}", form.method), form.doc, form.returned(&output));
    Ok(quote! {
        #[allow(clippy::all, clippy::pedantic, unused)]
        impl #name {
            #[doc = #doc]
            ///
            /// # Errors
            /// Where the device fails; a wrong shape or type does not compile.
            pub fn #method<'m>(&'m self, #(#names: &#types),*) -> ::core::result::Result<#returned, ::wpk::Error> {
                let model = &self.model;
                #body
            }
        }
    })
}

/// One method over all buckets.
fn several(plans: &[&Plan], name: &Ident, form: &Form) -> Result<TokenStream, String> {
    let Some(first) = plans.first() else { return Err("the program has no plan".to_owned()) };
    let names = idents(&first.inputs);
    let kinds: Vec<Ident> = (0..names.len()).map(|i| format_ident!("T{i}")).collect();
    let suffix: String = form.method.split('_').skip(usize::from(form.method.starts_with("forward"))).map(capitalized).collect();
    let bucket = format_ident!("{name}{suffix}Bucket");
    let returned = form.returned(&quote!(Self::Outputs));
    let mut known: Vec<String> = vec![];
    let mut implementations = vec![];
    for (i, plan) in plans.iter().enumerate() {
        let types = plan.inputs.iter().map(|p| form.tensor(p)).collect::<Result<Vec<_>, _>>()?;
        let key = quote!(#(#types),*).to_string();
        // Dimensions that no input shows cannot choose a bucket: the first one stands.
        if known.contains(&key) {
            continue;
        }
        known.push(key);
        let inputs: Vec<TokenStream> = (0..types.len()).map(Literal::usize_unsuffixed).map(|i| quote!(inputs.#i)).collect();
        let (output, body) = form.call(plan, i, name, &inputs)?;
        implementations.push(quote! {
            impl #bucket for (#(&#types,)*) {
                type Outputs = #output;
                fn run<'m>(model: &'m ::wpk::__private::Model, inputs: Self) -> ::core::result::Result<#returned, ::wpk::Error> {
                    #body
                }
            }
        });
    }
    let (method, doc) = (format_ident!("{}", form.method), format!("{} The plan is that of the inputs' sizes.", form.doc));
    let about = format!("Combinations of inputs that [`{name}::{}`] has a plan for.", form.method);
    let message = format!("`{name}` has no plan for inputs of these shapes");
    let outer = form.returned(&quote!(<(#(&'a #kinds,)*) as #bucket>::Outputs));
    Ok(quote! {
        #[doc = #about]
        #[diagnostic::on_unimplemented(message = #message, note = "add the size to the model's `dims`")]
        pub trait #bucket: Sized {
            /// The results.
            type Outputs;
            #[doc(hidden)]
            fn run<'m>(model: &'m ::wpk::__private::Model, inputs: Self) -> ::core::result::Result<#returned, ::wpk::Error>;
        }
        #[allow(clippy::all, clippy::pedantic, unused)]
        const _: () = { #(#implementations)* };
        #[allow(clippy::all, clippy::pedantic, unused)]
        impl #name {
            #[doc = #doc]
            ///
            /// # Errors
            /// Where the device fails; a wrong shape or type, or a size that was not declared, does not compile.
            pub fn #method<'a, 'm, #(#kinds),*>(&'m self, #(#names: &'a #kinds),*) -> ::core::result::Result<#outer, ::wpk::Error>
            where
                (#(&'a #kinds,)*): #bucket,
            {
                <(#(&'a #kinds,)*) as #bucket>::run(&self.model, (#(#names,)*))
            }
        }
    })
}
