//! Locks of the whole machine, so that one measurement runs on a device, or on the processor, at a time: a search holds its device through a problem, and the
//! process that measures for it holds it through a request, since it may outlive a search that was killed.

use std::fs::File;

/// Who holds a device.
#[derive(Debug, Clone, Copy)]
pub enum Holder {
    Search,
    Worker,
    /// A search on the processor.
    Cpu,
}

/// Waits for a device and keeps it until the file is dropped.
pub fn hold(device: usize, holder: Holder) -> Result<File, String> {
    let name = match holder {
        Holder::Search => format!("wpk-gpu-{device}.lock"),
        Holder::Worker => format!("wpk-gpu-{device}-worker.lock"),
        Holder::Cpu => "wpk-cpu.lock".to_owned(),
    };
    let path = std::env::temp_dir().join(name);
    let told = |e: std::io::Error| format!("{}: {e}", path.display());
    let file = File::options().create(true).append(true).open(&path).map_err(told)?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another measurement on this device to end ({})", path.display());
        file.lock().map_err(told)?;
    }
    Ok(file)
}
