//! What is said of it: to the wave, and to the journal.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context as _, Result};
use trilith_core::evacuate::{STATE, State};

/// Says what there is to say, once.
pub(crate) struct Teller {
    state: State,
}

impl Teller {
    /// What was said before this program started: what has failed in a wave, failed.
    pub(crate) fn read() -> Result<Self> {
        let state = match fs::read_to_string(STATE) {
            Ok(text) => {
                serde_yaml::from_str(&text).with_context(|| format!("{STATE} is not understood"))?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => State::default(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {STATE}")),
        };
        Ok(Self { state })
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// What is being done; `None`: nothing.
    pub(crate) fn doing(&mut self, wave: u64, doing: Option<String>) -> Result<()> {
        let failed = self.state.failed.clone().filter(|_| self.state.wave == wave);
        self.say(State { wave, doing, failed })
    }

    /// Why a machine could not be moved.
    pub(crate) fn failed(&mut self, wave: u64, why: String) -> Result<()> {
        eprintln!("{why}");
        self.say(State { wave, doing: None, failed: Some(why) })
    }

    fn say(&mut self, state: State) -> Result<()> {
        if state == self.state {
            return Ok(());
        }
        let text = serde_yaml::to_string(&state)?;
        let beside = format!("{STATE}.new");
        let put = fs::write(&beside, text).and_then(|()| fs::rename(&beside, STATE));
        put.with_context(|| format!("cannot write {STATE}"))?;
        self.state = state;
        Ok(())
    }
}
