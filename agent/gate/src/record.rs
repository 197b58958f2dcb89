//! What a release that has failed leaves behind: found in the boot after it, by what the boot loader made of its tries.

use anyhow::Result;
use trilith_core::gate::{Before, Failed, NO_WORD, Why};
use trilith_metal::trial::System;

use crate::kept::Kept;

/// What is said of a release whose system has gone.
const GONE: &str = "its system is no longer on the boot partition";

/// Writes down that the release on trial has failed, if it has. `running` is the release of this boot.
pub(crate) fn record(kept: &Kept, running: &str, systems: &[System], at: u64) -> Result<()> {
    let Some(failed) = fallen(kept.before(), kept.why(), running, systems) else { return Ok(()) };
    eprintln!("trilith-gate: {} has failed on this node: {}", failed.version, failed.why);
    kept.add_failed(Failed { at, ..failed })?;
    kept.close()
}

/// The release that was on trial before this boot, if the boot loader does not try it any more. Only one that was remembered
/// when it was activated: a system without tries may also have lost them to make room for an older release.
fn fallen(
    before: Option<Before>,
    why: Option<Why>,
    running: &str,
    systems: &[System],
) -> Option<Failed> {
    let before = before.filter(|it| it.version.as_str() != running)?;
    let is_it = |it: &&System| it.name.version().as_ref() == Some(&before.version);
    let own: Vec<&System> = systems.iter().filter(is_it).collect();
    let why = why.filter(|it| it.version == before.version);
    let used_up = own.iter().find(|it| !it.staged && it.name.is_bad());
    let told = why.as_ref().map(Why::sentence);
    let sentence = match used_up {
        Some(_) => told.unwrap_or_else(|| NO_WORD.into()),
        // Staged: its activation was cut off. With tries left: somebody has chosen another system, and it comes next.
        None if !own.is_empty() => return None,
        None => told.map_or_else(|| GONE.into(), |told| format!("{GONE}; {told}")),
    };
    let root = used_up.and_then(|it| it.root.clone()).or(before.root);
    let root = root.or_else(|| why.and_then(|it| it.root));
    Some(Failed { version: before.version, root, why: sentence, at: 0 })
}

#[cfg(test)]
mod tests {
    use trilith_core::boot::{Name, RootHash};

    use super::*;

    fn system(name: &str, staged: bool) -> System {
        System { name: Name::of(name).unwrap(), root: None, staged }
    }

    fn before(version: &str) -> Before {
        Before::unknown(version.parse().unwrap())
    }

    fn why(version: &str) -> Why {
        let version = version.parse().unwrap();
        Why { version, root: None, why: "ceph: gone".into(), over: true }
    }

    /// What is said of the release `before` that was on trial, after what it has left of itself.
    fn sentence(
        before: impl Into<Option<Before>>,
        why: impl Into<Option<Why>>,
        running: &str,
        systems: &[System],
    ) -> Option<String> {
        fallen(before.into(), why.into(), running, systems).map(|failed| failed.why)
    }

    #[test]
    fn a_release_without_tries_has_failed_and_says_why_if_it_could() {
        let systems = [system("trilith_1.efi", false), system("trilith_2+0-3.efi", false)];
        let told = "it did not prove itself in time: ceph: gone";
        assert_eq!(
            sentence(Some(before("2")), Some(why("2")), "1", &systems).as_deref(),
            Some(told)
        );
        assert_eq!(sentence(Some(before("2")), None, "1", &systems).as_deref(), Some(NO_WORD));
        // Of an earlier trial.
        assert_eq!(
            sentence(Some(before("2")), Some(why("1.5")), "1", &systems).as_deref(),
            Some(NO_WORD)
        );
        // Its last try, or it was the last that there was.
        assert_eq!(sentence(Some(before("2")), None, "2", &systems), None);
        // It has lost its tries for an older release.
        assert_eq!(sentence(None, None, "1", &systems), None);
        let mut list = systems;
        list[1].root = Some(RootHash::try_from("a".repeat(64)).unwrap());
        let failed = fallen(Some(before("2")), None, "1", &list).unwrap();
        assert_eq!((failed.version, failed.root), ("2".parse().unwrap(), list[1].root.clone()));
    }

    #[test]
    fn a_release_that_may_still_come_has_not_failed() {
        let old = system("trilith_1.efi", false);
        let staged = [old.clone(), system("trilith_2.efi", true)];
        assert_eq!(sentence(Some(before("2")), None, "1", &staged), None, "not activated");
        let left = [old.clone(), system("trilith_2+2-1.efi", false)];
        assert_eq!(
            sentence(Some(before("2")), Some(why("2")), "1", &left),
            None,
            "somebody chose the old one"
        );
        assert_eq!(sentence(Some(before("2")), None, "1", &[old]).as_deref(), Some(GONE));
    }

    #[test]
    fn it_is_recorded_once() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path().to_owned());
        kept.remember(&before("2")).unwrap();
        let systems = [system("trilith_2+0-3.efi", false)];
        record(&kept, "1", &systems, 5).unwrap();
        record(&kept, "1", &systems, 9).unwrap();
        let list = kept.failed();
        assert_eq!(list.has(&"2".parse().unwrap(), None).unwrap().at, 5);
        assert_eq!(kept.before(), None);
    }
}
