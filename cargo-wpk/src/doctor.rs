//! `cargo wpk doctor`: what this machine has that plans and tuning use, and what to do where something is missing.

use crate::Outcome;
use crate::compile::ptxas;
use clap::Args;
use serde_json::json;
use std::path::Path;
use wpk_build::records::{Records, places, user_folder};
use wpk_kernels::arch::ARCHES;
use wpk_rt::measure::{Bench, driver, runs};
use wpk_rt::trace::instruction_set;

#[derive(Args)]
pub struct DoctorArgs {
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

pub fn doctor(args: &DoctorArgs) -> Outcome {
    let mut rows: Vec<(String, String)> = vec![];
    let mut say = |topic: &str, text: String| rows.push((topic.to_owned(), text));
    say("wpk", format!("{}, plans of version {}", env!("CARGO_PKG_VERSION"), wpk_plan::VERSION));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    say("processor", format!("{threads} threads, {} kernels", instruction_set()));
    match driver() {
        Err(e) => say("GPU", format!("none: {e}; models run on the CPU, and kernels cannot be tuned here")),
        Ok((version, count)) => {
            say("driver", format!("for CUDA {}.{}, {count} devices", version / 1000, version % 1000 / 10));
            for ordinal in 0..count {
                say(&format!("device {ordinal}"), device(ordinal).unwrap_or_else(|e| format!("not usable: {e}")));
            }
            for (library, found) in Bench::new(0).map(|b| b.libraries()).unwrap_or_default() {
                let text = match found {
                    Ok((version, path)) => format!("{version} in {path}"),
                    Err(e) => format!("not used: {e}; WPK_LIBRARIES may name its folder"),
                };
                say(&library.to_string(), text);
            }
        }
    }
    let assembler = ptxas()
        .map_or("none: the driver compiles kernels one after the other; WPK_PTXAS may name one".to_owned(), |p| p.display().to_string());
    say("ptxas", assembler);
    let user = user_folder(|name| std::env::var(name).ok());
    for folder in places(&std::env::current_dir()?, user) {
        say("records", counted(&folder));
    }
    let set = [
        "WPK_TUNE",
        "WPK_TUNE_BUDGET",
        "WPK_TUNER",
        "WPK_CACHE_DIR",
        "WPK_LIBRARIES",
        "WPK_PTXAS",
        "WPK_WEIGHTS_DIR",
        "WPK_PROFILE",
        "WPK_ISA",
    ];
    for (name, value) in set.iter().filter_map(|n| std::env::var(n).ok().map(|v| (n, v))) {
        say("environment", format!("{name}={value}"));
    }
    if args.json {
        println!("{}", json!(rows.iter().map(|(topic, text)| json!({"topic": topic, "text": text})).collect::<Vec<_>>()));
    } else {
        rows.iter().for_each(|(topic, text)| println!("{topic:12} {text}"));
    }
    Ok(())
}

/// A device's name, and the architecture to make plans for it.
fn device(ordinal: usize) -> Result<String, wpk_rt::Error> {
    let bench = Bench::new(ordinal)?;
    let (name, capability) = (bench.name()?, bench.capability()?);
    // The table of architectures goes from old to new.
    let best = ARCHES.iter().map(|a| a.target).rfind(|target| runs(target, capability));
    Ok(match best {
        Some(target) => format!("{name}, compute capability {}.{}: --gpu {target}", capability / 10, capability % 10),
        None => format!("{name}, compute capability {}.{}: older than wpk makes kernels for", capability / 10, capability % 10),
    })
}

fn counted(folder: &Path) -> String {
    let records = Records::open(&[folder.to_owned()]);
    let (count, unread) = (records.iter().count(), records.unread.len());
    let unread = if unread > 0 { format!(", {unread} files are none: `cargo wpk db gc` removes them") } else { String::new() };
    format!("{count} in {}{unread}", folder.display())
}
