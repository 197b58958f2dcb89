//! Which boot of the machine this is.

/// The kernel's ID of this boot (random(4)); empty if it cannot be read.
pub(crate) fn id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}
