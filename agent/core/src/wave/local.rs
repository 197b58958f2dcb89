//! From what a node finds on itself to its word.

use super::Wish;
use super::parts::Parts;
use super::word::{Failed, Vain, Word, Work};
use crate::boot::RootHash;
use crate::evacuate;
use crate::gate::Stand;
use crate::names::{BadValue, NodeName};
use crate::status::{NodeStatus, Problem};
use crate::update::{self, State};

/// What a node finds on itself.
#[derive(Debug, Clone)]
pub struct Local {
    /// What its agent says.
    pub status: NodeStatus,
    /// The kernel's ID of this boot.
    pub boot: String,
    /// The root that runs.
    pub root_hash: Option<RootHash>,
    /// Whether the boot loader counted this boot (`LoaderBootCountPath`): it was on trial when it began. What the gate says
    /// comes later.
    pub counted: bool,
    /// What the gate says of this boot; `None`: nothing.
    pub stand: Option<Stand>,
    /// What the updater is told; `None`: nothing.
    pub told: Option<update::Wish>,
    /// What the updater says; `None`: it has not run in this boot.
    pub updater: Option<State>,
    /// What the program that moves machines says; `None`: it has not run in this boot.
    pub mover: Option<evacuate::State>,
    /// Releases that failed here, as the gate remembers them.
    pub failed: Vec<Failed>,
    /// What went wrong when it did its part last.
    pub trouble: Option<String>,
}

impl Local {
    /// This node's word. How its turn ended is in no other place than in the word before.
    ///
    /// # Errors
    /// The agent's version is none of a release.
    pub fn word(&self, wish: Option<&Wish>, before: Option<&Vain>) -> Result<Word, BadValue> {
        let (parts, leads) = Parts::of(&self.status);
        let updater = self.updater.clone().unwrap_or_default();
        let activated = updater.trial.is_some();
        let node = self.status.node.as_ref();
        let blessed = self.stand == Some(Stand::Proven);
        let trial = match &self.stand {
            Some(Stand::Trial { verdict, .. }) => Some(verdict.to_string()),
            Some(Stand::Old | Stand::Proven) | None => None,
        };
        Ok(Word {
            name: node.and_then(|node| NodeName::try_from(node.name.clone()).ok()),
            running: self.status.version.parse()?,
            root_hash: self.root_hash.clone(),
            proven: !activated && (blessed || !(self.counted || trial.is_some())),
            trial,
            boot: self.boot.clone(),
            work: wish.map(|wish| work(&updater, wish)).unwrap_or_default(),
            activates: Some(activates(self.told.as_ref(), &updater)),
            told_for: self.told.as_ref().and_then(|told| told.wave),
            staged: updater.staged,
            moving: self
                .mover
                .as_ref()
                .zip(wish)
                .map(|(it, wish)| moving(it, wish))
                .unwrap_or_default(),
            failed: self.failed.clone(),
            vain: before.cloned(),
            trouble: self.trouble.clone(),
            leads,
            parts,
        })
    }
}

/// What becomes of the machines in this wave.
fn moving(mover: &evacuate::State, wish: &Wish) -> Work {
    match mover {
        evacuate::State { wave, .. } if *wave != wish.number => Work::Idle,
        evacuate::State { failed: Some(why), .. } => Work::Refused(why.clone()),
        evacuate::State { doing: Some(doing), .. } => Work::Busy(doing.clone()),
        evacuate::State { .. } => Work::Idle,
    }
}

/// Whether an updater is told to activate. One from which the wish was taken shows that it has heard so by naming none.
fn activates(told: Option<&update::Wish>, updater: &State) -> bool {
    told.map_or(updater.wished.is_some(), |told| told.activate)
}

/// What an updater does about a wish.
fn work(updater: &State, wish: &Wish) -> Work {
    let State { wished, doing, progress, refused, failed, .. } = updater;
    if wished.is_none() && updater.staged.as_ref() == Some(&wish.version) {
        // What failed is of a wish that was taken back.
        return Work::Idle;
    }
    if let (None, Some(failed)) = (wished, failed) {
        // It has not come so far as to read its wish.
        return Work::Busy(failed.clone());
    }
    if wished.as_ref() != Some(&wish.version) {
        return Work::Idle;
    }
    if !refused.is_empty() {
        let reasons: Vec<String> = refused.iter().map(Problem::to_string).collect();
        return Work::Refused(reasons.join("; "));
    }
    let percent = progress.map(|it| format!(": {} %", it.percent())).unwrap_or_default();
    match (doing, failed) {
        (Some(doing), _) => Work::Busy(format!("{doing}{percent}")),
        (None, Some(failed)) => Work::Busy(failed.clone()),
        (None, None) => Work::Idle,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::gate::{Spent, Verdict};
    use crate::status::BundleStatus;
    use crate::wave::Asked;

    fn local(counted: bool, blessed: bool, updater: &str) -> Local {
        let status = NodeStatus {
            version: "2026.11.21-1".into(),
            node: None,
            bundle: BundleStatus::default(),
            subjects: BTreeMap::new(),
            peers: BTreeMap::new(),
            addresses: Vec::new(),
            sighting: None,
            installation: None,
            trial: None,
            update: None,
        };
        let updater = (!updater.is_empty()).then(|| serde_yaml::from_str(updater).unwrap());
        let stand = blessed.then_some(Stand::Proven);
        let (root_hash, told, mover, failed, trouble) = (None, None, None, Vec::new(), None);
        let boot = "b1".into();
        Local { status, boot, root_hash, counted, stand, told, updater, mover, failed, trouble }
    }

    fn wish() -> Wish {
        Wish {
            number: 1,
            version: "2".parse().unwrap(),
            state: Asked::Running,
            again: false,
            without: std::collections::BTreeSet::new(),
            who: "operator".into(),
            at: 0,
        }
    }

    #[test]
    fn proven_is_what_was_not_counted_or_was_blessed() {
        let trial = "trial: {version: '2', left: 3, done: 0}";
        for (counted, blessed, updater, expected) in [
            (false, false, "", true),
            (true, false, "", false),
            (true, true, "", true),
            (false, false, trial, false),
        ] {
            let word = local(counted, blessed, updater).word(None, None).unwrap();
            assert_eq!(word.proven, expected, "{counted} {blessed} {updater}");
        }
    }

    #[test]
    fn what_the_gate_says_is_told_while_it_is_on_trial() {
        let reason = "no other node answers; before, n2 did".to_owned();
        let verdict = Verdict::Inconclusive { reason: reason.clone() };
        let stand = Stand::Trial { number: 1, limit: 900, spent: Spent::new(), verdict };
        let word = Local { stand: Some(stand), ..local(false, false, "") }.word(None, None);
        let word = word.unwrap();
        assert_eq!((word.proven, word.trial), (false, Some(reason)));
        assert_eq!(local(true, true, "").word(None, None).unwrap().trial, None);
    }

    #[test]
    fn work_is_about_the_wish_alone() {
        let work =
            |updater: &str| local(false, false, updater).word(Some(&wish()), None).unwrap().work;
        assert_eq!(work(""), Work::Idle);
        assert_eq!(work("{wished: '3', doing: fetching}"), Work::Idle);
        assert_eq!(work("{failed: no disk}"), Work::Busy("no disk".into()));
        let busy =
            "{wished: '2', doing: fetching the root, progress: {done: 3, of: 8}, fetched: 3}";
        assert_eq!(work(busy), Work::Busy("fetching the root: 37 %".into()));
        let refused = "{wished: '2', refused: [{object: '2', reason: it is older}]}";
        assert_eq!(work(refused), Work::Refused("2: it is older".into()));
        let failed = "{wished: '2', failed: 'no answer; again in 4 s'}";
        assert_eq!(work(failed), Work::Busy("no answer; again in 4 s".into()));
    }

    #[test]
    fn the_updater_is_told_to_activate_until_it_has_heard_that_it_is_not() {
        let word = |told: Option<bool>, updater: &str| {
            let told = told.map(|activate| update::Wish {
                version: "2".parse().unwrap(),
                source: update::Source::try_from("/srv".to_owned()).unwrap(),
                trust: "0".repeat(64).try_into().unwrap(),
                activate,
                again: false,
                back: false,
                trial: 900,
                wave: Some(4),
            });
            Local { told, ..local(false, false, updater) }.word(Some(&wish()), None).unwrap()
        };
        assert_eq!(word(None, "").activates, Some(false));
        assert_eq!(word(Some(false), "{wished: '2'}").activates, Some(false));
        assert_eq!(word(Some(true), "").activates, Some(true));
        assert_eq!(word(None, "{wished: '2', doing: activate 2}").activates, Some(true));
        let heard = word(None, "{staged: '2', failed: 'no answer; again in 60 s'}");
        assert_eq!((heard.activates, heard.work), (Some(false), Work::Idle));
        assert_eq!((word(Some(false), "").told_for, heard.told_for), (Some(4), None));
    }

    #[test]
    fn moves_are_about_the_wave_alone() {
        let moving = |wave: u64, doing: Option<&str>, failed: Option<&str>| {
            let (doing, failed) = (doing.map(Into::into), failed.map(Into::into));
            let mover = Some(evacuate::State { wave, doing, failed });
            Local { mover, ..local(false, false, "") }.word(Some(&wish()), None).unwrap().moving
        };
        assert_eq!(moving(1, None, None), Work::Idle);
        assert_eq!(moving(1, Some("db1: 3 %"), None), Work::Busy("db1: 3 %".into()));
        assert_eq!(moving(1, None, Some("no")), Work::Refused("no".into()));
        assert_eq!(moving(2, None, Some("no")), Work::Idle);
    }

    #[test]
    fn how_a_turn_ended_is_kept() {
        let vain = Vain { wish: 4, why: "it did not come back".into() };
        let word = local(false, false, "").word(None, Some(&vain)).unwrap();
        assert_eq!(word.vain, Some(vain));
        let mut odd = local(false, false, "");
        odd.status.version = "no version".into();
        assert!(odd.word(None, None).is_err());
    }
}
