//! Writing what a build needs: the generated Rust, the encoded program, its text and the weights.

use crate::codegen::{Assets, module};
use crate::custom;
use crate::diag::{Diag, Diags};
use crate::model::{Compiled, Model, WeightPlace};
use crate::{env, hash, records, tuning};
use proc_macro2::{Literal, TokenStream};
use quote::quote;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Weights up to this size go into the executable by default.
const EMBED_LIMIT: usize = 16 << 20;
/// Weights above this size never do: linkers give up.
const EMBED_NEVER: usize = 1 << 30;

/// What a build made.
#[derive(Debug)]
pub struct Report {
    /// The generated Rust, for `wpk::include_model!`.
    pub rust: PathBuf,
    /// The plan's text.
    pub plan: PathBuf,
    /// Bytes of weights.
    pub weight_bytes: usize,
    /// Problems of the GPU plans whose schedules are estimated, because no tuning record serves.
    pub untuned: usize,
    /// Why there is no plan for a GPU: the architecture, and every step without a kernel.
    pub refused: Vec<(&'static str, Vec<String>)>,
    /// Dimensions with ranges that run only at the plans' sizes, and why.
    pub inflexible: Vec<String>,
    /// The calls of custom operators.
    calls: Vec<custom::Call>,
}

impl Model {
    /// Compiles in a build script: writes the model's module to `OUT_DIR` for `wpk::include_model!`, and tells cargo what
    /// to watch. Problems go to cargo as errors, one after another, and fail the build.
    ///
    /// # Errors
    /// Everything wrong with the model.
    pub fn compile(&self) -> Result<Report, Diags> {
        let result = self.absolute().and_then(|model| {
            let (report, files) = model.emit()?;
            custom::link(&report.calls)?;
            if report.untuned == 0 {
                return Ok((report, files, None));
            }
            match model.tuned_now() {
                // What was found is in the user's cache now.
                Ok(()) => model.emit().map(|(report, files)| (report, files, None)),
                Err(reason) => Ok((report, files, reason)),
            }
        });
        match &result {
            Ok((report, files, reason)) => {
                if report.untuned > 0 {
                    let (model, n) = (self.path.display(), report.untuned);
                    let reason = reason.as_ref().map_or(String::new(), |r| format!(" (not tuned in this build: {r})"));
                    let advice = match tuning::is_said(self) {
                        true => format!("`cargo wpk tune {model}` finds and records faster ones{reason}"),
                        false => "`cargo wpk tune` has no options for its bound inputs, images or custom operators yet".to_owned(),
                    };
                    let message = format!("{model}: {n} kernels have estimated schedules: {advice}");
                    env::directive("warning", &message);
                }
                self.limits(&report.inflexible, &report.refused).iter().for_each(|limit| env::directive("warning", limit));
                for file in files.iter().filter(|f| f.exists()) {
                    env::directive("rerun-if-changed", &file.display().to_string());
                }
            }
            Err(diags) => {
                env::directive("rerun-if-changed", &self.path.display().to_string());
                diags.to_string().lines().for_each(|line| env::directive("error", line));
            }
        }
        result.map(|r| r.0)
    }

    /// Has missing records searched for, where this build may.
    fn tuned_now(&self) -> Result<(), Option<String>> {
        let settings = tuning::settings(env::ambient, Path::exists)?;
        let compiled = self.build().map_err(|_| None)?;
        let [arch] = self.gpus[..] else { return Err(Some("it is compiled for several GPUs".to_owned())) };
        let arguments = tuning::arguments(self, arch.target, &settings)
            .ok_or_else(|| Some("`cargo wpk tune` has no options for bound inputs, images and custom operators".to_owned()))?;
        tuning::tune(&arguments, &settings, &compiled.program.to_bytes())
    }

    fn absolute(&self) -> Result<Model, Diags> {
        let base = env::var("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
        let options = crate::import::Options { base: base.clone(), ..self.options.clone() };
        Ok(Model { path: base.join(&self.path), options, ..self.clone() })
    }

    /// Writes the generated files, without a word to cargo; returns the files that were read too.
    ///
    /// # Errors
    /// Everything wrong with the model.
    pub fn emit(&self) -> Result<(Report, Vec<PathBuf>), Diags> {
        let dir = match &self.out_dir {
            Some(dir) => dir.clone(),
            None => env::var("OUT_DIR").map(PathBuf::from).ok_or_else(|| {
                Diag::new("OUT_DIR is not set").help("call `compile` from build.rs, or name a folder with `.out_dir(...)`")
            })?,
        };
        let compiled = self.build()?;
        let name = self.type_name();
        let fail = |path: &Path| {
            let path = path.display().to_string();
            move |e: std::io::Error| Diags::from(Diag::new(format!("cannot write {path}: {e}")))
        };
        fs::create_dir_all(&dir).map_err(fail(&dir))?;
        let write = |file: String, bytes: &[u8]| {
            let path = dir.join(file);
            fs::write(&path, bytes).map_err(fail(&path)).map(|()| path)
        };
        let bytes = compiled.program.to_bytes();
        let program = format!("{name}-{}.plan", hash::hex(&bytes));
        write(program.clone(), &bytes)?;
        let plan = write(format!("{name}.plan.txt"), compiled.program.to_string().as_bytes())?;
        let weights = write_weights(&compiled, &name, &dir).map_err(fail(&dir))?;
        let assets = self.assets(&program, &weights, compiled.blob.len())?;
        let tokens = module(&compiled.program, &name, &quote!(pub), &quote!(), &assets).map_err(|e| Diags::from(Diag::new(e)))?;
        let rust = write(format!("{name}.rs"), format!("// @generated by wpk {}\n{tokens}\n", env!("CARGO_PKG_VERSION")).as_bytes())?;
        // A new record changes the plan. The user's cache is not watched: builds write it.
        let user = records::user_folder(env::ambient);
        let folders = compiled.records.folders.into_iter().filter(|f| user.as_ref() != Some(f));
        let files = compiled.files.into_iter().chain(folders).collect();
        let calls = custom::calls(compiled.graphs.iter().map(|g| &g.1)).into_iter().cloned().collect();
        let (weight_bytes, untuned) = (compiled.blob.len(), compiled.untuned.len());
        Ok((Report { rust, plan, weight_bytes, untuned, refused: compiled.refused, inflexible: compiled.inflexible, calls }, files))
    }

    /// How generated code reaches files in `OUT_DIR`, without a path of this machine in it.
    fn assets(&self, program: &str, weights: &str, len: usize) -> Result<Assets, Diags> {
        let embed = match self.weights {
            WeightPlace::Auto => len <= EMBED_LIMIT,
            WeightPlace::Embedded if len > EMBED_NEVER => {
                return Err(Diag::new(format!("{len} bytes of weights are too many to embed"))
                    .help("use `.weights(WeightPlace::File)`")
                    .into());
            }
            place => place == WeightPlace::Embedded,
        };
        let at = |file: &str| quote!(concat!(env!("OUT_DIR"), "/", #file));
        let (place, symbol) =
            (at(weights), format!("wpk_weights_{}", weights.trim_end_matches(".weights").rsplit('-').next().unwrap_or_default()));
        let program = at(program);
        let mut assets = Assets { program: quote!(include_bytes!(#program)), items: quote!(), weights: quote!() };
        if len == 0 {
            assets.weights = quote!(::core::result::Result::<_, ::wpk::Error>::Ok(::wpk::__private::Weights::Static(&[])));
        } else if embed {
            (assets.items, assets.weights) = incbin(&place, &symbol, len);
        } else {
            assets.weights = quote!(::wpk::__private::Weights::find(#weights, #place, #len));
        }
        Ok(assets)
    }

    /// What the model was asked for and does not get: sizes between those of plans, plans for GPUs.
    fn limits(&self, inflexible: &[String], refused: &[(&'static str, Vec<String>)]) -> Vec<String> {
        let model = self.path.display();
        let sizes = inflexible.iter().map(|reason| format!("{model}: {}", reason.replace('\n', " ")));
        let plans = refused.iter().map(|(arch, steps)| {
            let first = steps.first().map_or("", String::as_str).replace('\n', " ");
            format!("{model}: no plan for {arch}: {} steps have no kernel, as {first}", steps.len())
        });
        sizes.chain(plans).collect()
    }

    /// The tokens of `wpk::model!`: everything inline.
    ///
    /// # Errors
    /// Everything wrong with the model; weights above 16 MB, which belong into build.rs.
    pub fn expand(&self, visibility: &TokenStream, docs: &TokenStream) -> Result<TokenStream, Diags> {
        let compiled = self.build()?;
        let len = compiled.blob.len();
        if len > EMBED_LIMIT {
            let help = format!(
                "compile it in build.rs: `wpk_build::Model::new(\"...\").name({:?}).compile()`, and `wpk::include_model!({:?})`",
                self.type_name(),
                self.type_name()
            );
            return Err(Diag::new(format!("{} MB of weights are too many for `wpk::model!`", len >> 20)).help(help).into());
        }
        let (program, weights) = (Literal::byte_string(&compiled.program.to_bytes()), Literal::byte_string(&compiled.blob.to_bytes()));
        // A macro cannot warn, but what is deprecated where it is used is told with its note.
        let limits = self.limits(&compiled.inflexible, &compiled.refused);
        let tracked = compiled.files.iter().map(|f| f.display().to_string());
        let assets = Assets {
            program: quote!(#program),
            items: quote! {
                #(const _: () = { let _ = include_bytes!(#tracked); };)*
                #(const _: () = {
                    #[deprecated(note = #limits)]
                    const LIMIT: () = ();
                    LIMIT
                };)*
            },
            weights: quote! {{
                #[repr(align(64))]
                struct Aligned<T: ?Sized>(T);
                static WEIGHTS: &Aligned<[u8]> = &Aligned(*#weights);
                ::core::result::Result::<_, ::wpk::Error>::Ok(::wpk::__private::Weights::Static(&WEIGHTS.0))
            }},
        };
        module(&compiled.program, &self.type_name(), visibility, docs, &assets).map_err(|e| Diag::new(e).into())
    }
}

/// Writes the weights under a name that holds their hash; the same content is written once.
fn write_weights(compiled: &Compiled, name: &str, dir: &Path) -> std::io::Result<String> {
    let part = dir.join(format!("{name}.weights.part"));
    let mut file = Hashed { to: BufWriter::with_capacity(1 << 20, fs::File::create(&part)?), hash: 0 };
    compiled.blob.write(&mut file)?;
    file.flush()?;
    let weights = format!("{name}-{:032x}.weights", file.hash);
    fs::rename(part, dir.join(&weights))?;
    Ok(weights)
}

/// Hashes what is written.
struct Hashed<W> {
    to: W,
    hash: u128,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.hash = self.hash.rotate_left(41) ^ hash::hash(bytes);
        self.to.write_all(bytes)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// Weights in the executable by the assembler's `.incbin`, which costs the compiler nothing.
fn incbin(place: &TokenStream, symbol: &str, len: usize) -> (TokenStream, TokenStream) {
    let ident = quote::format_ident!("{}", symbol);
    let elf = format!(".pushsection .rodata.{symbol},\"a\",%progbits\n.balign 64\n.globl {symbol}\n{symbol}:\n.incbin \"");
    let mach = format!(".pushsection __TEXT,__const\n.balign 64\n.globl _{symbol}\n_{symbol}:\n.incbin \"");
    let coff = format!(".pushsection .rdata,\"dr\"\n.balign 64\n.globl {symbol}\n{symbol}:\n.incbin \"");
    let end = "\"\n.popsection\n";
    let items = quote! {
        #[cfg(all(not(target_vendor = "apple"), not(windows)))]
        ::core::arch::global_asm!(concat!(#elf, #place, #end), options(raw));
        #[cfg(target_vendor = "apple")]
        ::core::arch::global_asm!(concat!(#mach, #place, #end), options(raw));
        #[cfg(windows)]
        ::core::arch::global_asm!(concat!(#coff, #place, #end), options(raw));
        #[allow(unsafe_code, non_upper_case_globals)]
        unsafe extern "C" {
            static #ident: [u8; #len];
        }
    };
    let weights = quote! {{
        #[allow(unsafe_code)]
        // SAFETY: the symbol is the included file, which has this length and is never written.
        let bytes: &'static [u8] = unsafe { &*(&raw const #ident) };
        ::core::result::Result::<_, ::wpk::Error>::Ok(::wpk::__private::Weights::Static(bytes))
    }};
    (items, weights)
}
