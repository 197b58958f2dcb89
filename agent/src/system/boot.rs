//! Which boot of the machine this is, and of which release.

/// The kernel's ID of this boot (random(4)); empty if it cannot be read.
pub(crate) fn id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// The release that was booted (`IMAGE_VERSION`, os-release(5)). `None` where this is no image.
pub(crate) fn release() -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let version = text.lines().find_map(|line| line.strip_prefix("IMAGE_VERSION="))?;
    Some(version.trim_matches('"').to_owned())
}
