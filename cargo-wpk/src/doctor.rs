//! `cargo wpk doctor`: what this machine has that plans and tuning use, and what to do where something is missing.

use crate::Outcome;
use std::path::Path;
use wpk_build::records::{Records, places, user_folder};
use wpk_kernels::arch::ARCHES;
use wpk_rt::measure::{Bench, driver, runs};
use wpk_rt::trace::instruction_set;

pub fn doctor() -> Outcome {
    println!("wpk          {}, plans of version {}", env!("CARGO_PKG_VERSION"), wpk_plan::VERSION);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("processor    {threads} threads, {} kernels", instruction_set());
    match driver() {
        Err(e) => println!("GPU          none: {e}; models run on the CPU, and kernels cannot be tuned here"),
        Ok((version, count)) => {
            println!("driver       for CUDA {}.{}, {count} devices", version / 1000, version % 1000 / 10);
            for ordinal in 0..count {
                match device(ordinal) {
                    Ok(text) => println!("device {ordinal}     {text}"),
                    Err(e) => println!("device {ordinal}     not usable: {e}"),
                }
            }
        }
    }
    let user = user_folder(|name| std::env::var(name).ok());
    for folder in places(&std::env::current_dir()?, user) {
        println!("records      {}", counted(&folder));
    }
    let set = ["WPK_TUNE", "WPK_CACHE_DIR", "WPK_WEIGHTS_DIR", "WPK_PROFILE", "WPK_ISA"];
    for (name, value) in set.iter().filter_map(|n| std::env::var(n).ok().map(|v| (n, v))) {
        println!("environment  {name}={value}");
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
