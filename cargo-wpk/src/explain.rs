//! The plan as text.

use crate::{ModelArgs, Outcome};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Writes the PTX of every generated kernel into this folder
    #[arg(long, requires = "gpu")]
    ptx: Option<PathBuf>,
    /// Assembles every generated kernel with this `ptxas`, and prints registers, shared memory and spills by family
    #[arg(long, requires = "gpu")]
    ptxas: Option<PathBuf>,
}

pub fn explain(args: &ExplainArgs) -> Outcome {
    let compiled = args.model.model().build()?;
    print!("{}", compiled.program);
    for (device, choices) in ["CPU", "GPU"].iter().zip(&compiled.choices) {
        for choice in choices {
            let mark = if choice.chosen { "chosen" } else { "considered" };
            println!("{device} cover {mark}: {}, estimated {:.3} ms", choice.name, choice.cost / 1e6);
        }
    }
    for remark in &compiled.remarks {
        println!("note: {remark}");
    }
    for (arch, steps) in &compiled.refused {
        println!("no plan for {arch}:");
        steps.iter().for_each(|s| println!("  {s}"));
    }
    if let Some(ptxas) = &args.ptxas {
        compiled.program.gpus.iter().try_for_each(|gpu| crate::assembled::print(ptxas, gpu))?;
    }
    if let Some(folder) = &args.ptx {
        std::fs::create_dir_all(folder)?;
        for gpu in &compiled.program.gpus {
            for (i, module) in gpu.modules.iter().enumerate() {
                std::fs::write(folder.join(format!("{}-{i:03}-{}.ptx", gpu.arch, module.entry)), &module.text)?;
            }
        }
    }
    Ok(())
}
