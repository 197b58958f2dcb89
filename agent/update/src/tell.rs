//! What is said of an update: to the agent, and to the journal.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use trilith_core::update::{Progress, STATE, State};

/// Says what there is to say, once.
pub(crate) struct Teller {
    said: RefCell<(State, String)>,
}

impl Teller {
    pub(crate) fn new() -> Result<Self> {
        let folder = Path::new(STATE).parent().context("no folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { said: RefCell::default() })
    }

    /// Changes what is said.
    pub(crate) fn say(&self, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut said = self.said.borrow_mut();
        let mut state = said.0.clone();
        change(&mut state);
        if state == said.0 {
            return Ok(());
        }
        let lines = State { notes: Vec::new(), ..state.clone() }.lines().join("; ");
        if lines != said.1 && !lines.is_empty() {
            eprintln!("{lines}");
        }
        state.notes.iter().filter(|note| !said.0.notes.contains(note)).for_each(|note| {
            eprintln!("{note}");
        });
        let text = serde_yaml::to_string(&state)?;
        *said = (state, lines);
        let beside = format!("{STATE}.new");
        let put = fs::write(&beside, text).and_then(|()| fs::rename(&beside, STATE));
        put.with_context(|| format!("cannot write {STATE}"))
    }

    /// What is being done.
    pub(crate) fn doing(&self, words: &str) -> Result<()> {
        self.say(|state| {
            (state.doing, state.progress) = (Some(words.to_owned()), None);
            (state.failed, state.refused) = (None, Vec::new());
        })
    }

    /// How far that is, if it is another per cent, and how many bytes the source and the other nodes have given.
    pub(crate) fn progress(&self, done: u64, of: u64, given: (u64, u64)) -> Result<()> {
        let progress = Progress { done, of };
        let same = |before: &Progress| before.percent() == progress.percent();
        if self.said.borrow().0.progress.as_ref().is_some_and(same) {
            return Ok(());
        }
        self.say(|state| {
            state.progress = Some(progress);
            (state.fetched, state.from_peers) = given;
        })
    }
}
