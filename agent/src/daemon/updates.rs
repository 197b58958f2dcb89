//! What the updater says (agent/update): the agent passes it on, and has not the rights to do more.

use std::path::Path;

use trilith_core::update::{STATE, State};

use crate::system::files::{self, FileError, Watched};

/// The updates of the node.
#[derive(Default)]
pub(super) struct Updates(Watched);

impl Updates {
    /// Listens from now on.
    pub(super) fn listen(&mut self) -> Result<(), FileError> {
        self.0.on([STATE.into()]).map(drop)
    }

    /// What the updater says; `None`: nothing in this boot.
    pub(super) fn state() -> Option<State> {
        let said = files::read(Path::new(STATE)).ok().flatten()?;
        State::parse(&said.text).ok()
    }

    /// Resolves when it may say something else. Cancel-safe, as [`Watched::changed`] is.
    pub(super) async fn changed(&mut self) {
        self.0.changed().await;
    }
}
