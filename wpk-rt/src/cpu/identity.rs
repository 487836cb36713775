//! What kind of processor this is, as records of searches name it: its model, the instruction set of the kernels, and its caches.

use std::sync::OnceLock;

/// The name, the same for every processor on which the same schedules are fast.
pub fn identity() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let caches: Vec<String> = (0..8).filter_map(cache).collect();
        [model(), super::instruction_set(), caches.join(" ")].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(" ")
    })
}

/// Where the system tells it; else the architecture.
fn model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |name: &str| text.lines().find_map(|l| Some(l.strip_prefix(name)?.split_once(':')?.1.trim().to_owned()));
    // Several models have one name in a virtual machine.
    let number = |name: &str| value(name).unwrap_or_default();
    match value("model name") {
        Some(name) => format!("{name} {}.{}.{}", number("cpu family"), number("model\t"), number("stepping")),
        None => std::env::consts::ARCH.to_owned(),
    }
}

/// A cache that holds data, by its number.
fn cache(i: usize) -> Option<String> {
    let read = |file: &str| std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{i}/{file}")).ok();
    let (level, kind, size) = (read("level")?, read("type")?, read("size")?);
    (kind.trim() != "Instruction").then(|| format!("L{} {}", level.trim(), size.trim()))
}
