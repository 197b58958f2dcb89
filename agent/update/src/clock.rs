//! Whether the time can be believed. A clock that is wrong must not keep a node from its updates: signatures that have
//! expired are refused only by one that is right.

use std::fs;
use std::time::SystemTime;

use trilith_metal::exec;

/// Its time is that of the image's build.
const EPOCH: &str = "/usr/lib/clock-epoch";

/// Why the clock cannot be believed; `None`: it can.
pub(crate) fn doubt() -> Option<String> {
    let built = fs::metadata(EPOCH).and_then(|about| about.modified()).ok();
    if built.is_some_and(|built| SystemTime::now() < built) {
        return Some("the clock is before this release was built".into());
    }
    match exec::output("chronyc", &["-n", "-c", "tracking"]) {
        Ok(said) if is_synchronised(&said) => None,
        _ => Some("the clock is not synchronised".into()),
    }
}

/// What `chronyc -c tracking` says last is the leap status.
fn is_synchronised(said: &str) -> bool {
    let status = said.trim().rsplit(',').next().unwrap_or_default();
    matches!(status, "Normal" | "Insert second" | "Delete second")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As chrony 4.6 prints them.
    #[test]
    fn chrony_says_whether_it_follows_anybody() {
        let follows = "0A000001,10.0.0.1,3,1763800000.1,0.00001,-0.00001,0.00002,-1.2,0.0,0.1,0.02,0.001,64.4,Normal\n";
        let alone = "00000000,,0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,1.0,0.0,Not synchronised\n";
        assert!(is_synchronised(follows));
        assert!(!is_synchronised(alone) && !is_synchronised(""));
    }
}
