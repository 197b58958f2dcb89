//! A node's place in the turns of one service: its request and its vote, its permission, and the mark that it must
//! restart. All of it lies in memory, since a machine that boots has restarted everything.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};

use trilith_core::services::owned;
use trilith_core::turns::{self, Seen, Stand, Step};

use super::files::{self, ANYTHING, FileError};

/// The files of one service's turns.
pub(crate) struct Turns {
    stand: PathBuf,
    permit: PathBuf,
    marks: PathBuf,
    /// How the names of the units begin whose marks count.
    units: Option<&'static str>,
}

impl Turns {
    /// For a service by its name. A mark of a unit whose name begins so says that it must restart.
    pub(crate) fn of(service: &str, units: Option<&'static str>) -> Self {
        Self {
            stand: Path::new(turns::FOLDER).join(service),
            permit: turns::permit(service).into(),
            marks: owned::PENDING.into(),
            units,
        }
    }

    /// The same below another folder.
    #[cfg(test)]
    pub(crate) fn below(folder: &Path) -> Self {
        let at = |name: &str| folder.join(name);
        let (stand, permit) = (at("turns/it"), at("permits/it-restart"));
        Self { stand, permit, marks: at("pending"), units: Some("it-") }
    }

    /// What tells by its coming and going that something has changed.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        vec![self.stand.clone(), self.permit.clone(), self.marks.join(ANYTHING)]
    }

    /// Where the node stands.
    pub(crate) fn look(&self) -> Result<Seen, FileError> {
        let marks = files::list(&self.marks)?;
        // What cannot be read says nothing: then the node asks anew, with another ticket.
        let kept = files::read(&self.stand)?;
        let kept: Stand =
            kept.and_then(|kept| serde_json::from_str(&kept.text).ok()).unwrap_or_default();
        let stand = Stand { holds: self.permit.exists(), ..kept };
        let due =
            self.units.is_some_and(|units| marks.iter().any(|(name, _)| name.starts_with(units)));
        Ok(Seen { stand, due, fresh: random() })
    }

    /// Carries out one step.
    pub(crate) fn carry_out(&self, step: &Step) -> Result<(), FileError> {
        match step {
            Step::Say { asks: None, vote: None } => files::remove(&self.stand),
            Step::Say { asks, vote } => {
                let stand = Stand { asks: *asks, vote: *vote, holds: false };
                // Plain values can always be written.
                files::publish(&self.stand, &serde_json::to_string(&stand).unwrap_or_default())
            }
            Step::Permit => files::publish(&self.permit, ""),
            Step::Revoke => files::remove(&self.permit),
        }
    }
}

/// The standard library's one source of randomness: each `RandomState` has other keys. Half of the bits, so that
/// every reader of JSON takes it for a whole number.
fn random() -> u64 {
    RandomState::new().build_hasher().finish() >> 32
}

#[cfg(test)]
mod tests {
    use trilith_core::names::NodeId;
    use trilith_core::turns::Vote;

    use super::*;

    #[test]
    fn what_is_kept_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let turns = Turns::below(folder.path());
        let looked = || turns.look().unwrap();
        assert_eq!((looked().stand, looked().due), (Stand::default(), false));
        assert_ne!(looked().fresh, looked().fresh);
        let vote = Some(Vote { node: NodeId::try_from(2).unwrap(), ticket: u64::from(u32::MAX) });
        turns.carry_out(&Step::Say { asks: Some(7), vote }).unwrap();
        turns.carry_out(&Step::Permit).unwrap();
        std::fs::create_dir(folder.path().join("pending")).unwrap();
        std::fs::write(folder.path().join("pending/another.service"), "restart").unwrap();
        assert!(!looked().due);
        std::fs::write(folder.path().join("pending/it-1.service"), "restart").unwrap();
        assert_eq!(looked().stand, Stand { asks: Some(7), vote, holds: true });
        assert!(looked().due);
        turns.carry_out(&Step::Revoke).unwrap();
        turns.carry_out(&Step::Say { asks: None, vote: None }).unwrap();
        assert_eq!(looked().stand, Stand::default());
        std::fs::write(folder.path().join("turns/it"), "{\"asks\":").unwrap();
        assert_eq!(looked().stand, Stand::default(), "what cannot be read says nothing");
    }
}
