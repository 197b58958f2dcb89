//! A node that was booted from a medium and has a system disk: nothing is brought up, it is installed. The agent only wishes
//! for that, and passes on what the installer says (agent/metal); it has not the rights to do more.

use std::path::Path;

use trilith_core::install::{FOLDER, STATE, WISH};
use trilith_core::secrets::Secret;

use crate::bundle::{Assignment, in_memory};
use crate::system::files::{self, FileError, Ids, Staged, Watched};

/// What is said until the installer says something.
const BEGUN: &str = "the installation begins";

/// The installation, if there is one.
#[derive(Default)]
pub(super) struct Installation(Watched);

impl Installation {
    /// Whether that is what a bundle means for this boot.
    pub(super) fn is_due(assignment: &Assignment) -> bool {
        assignment.installs && in_memory()
    }

    /// Wishes for it.
    pub(super) fn wish(&mut self, bundle: &Secret) -> Result<(), FileError> {
        self.0.on([STATE.into()])?;
        let folder = Path::new(FOLDER);
        files::make_folder(folder, 0o700, Ids::us())?;
        Staged::new(&folder.join(WISH), bundle.reveal(), 0o600, Ids::us())?.replace()
    }

    /// What the installer says.
    pub(super) fn text() -> String {
        let said = files::read(Path::new(STATE)).ok().flatten();
        said.map_or_else(|| BEGUN.into(), |found| found.text.trim_end().to_owned())
    }

    /// Resolves when it may say something else; never while nothing is wished for. Cancel-safe, as [`Watched::changed`] is.
    pub(super) async fn changed(&mut self) {
        self.0.changed().await;
    }
}
