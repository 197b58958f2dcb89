//! Where node bundles come from.

use std::path::{Path, PathBuf};

use trilith_core::boot;
use trilith_core::identity::Offer;
use trilith_core::keep::Outcome;
use trilith_core::names::EndorsementKey;
use trilith_core::sealed;

use super::files::{self, ANYTHING, FileError};

/// Where systemd keeps the unit's credentials: a person who runs `trilithd plan` sees what the agent sees.
const CREDENTIALS: &str = "/run/credentials/trilithd.service";

/// How the name of a bundle in a folder ends; of one that is sealed to a TPM, as [`sealed::ENDING`] says.
const ENDING: &str = ".yaml";

/// One place where a bundle, or many, may lie.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// What it is called on the console.
    pub(crate) name: &'static str,
    /// Where that is.
    pub(crate) place: Place,
}

/// What kind of place it is.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// A file that is the bundle of this machine.
    File(PathBuf),
    /// A folder with the bundles of many machines.
    Folder(PathBuf),
    /// The agent's own memory, encrypted.
    Kept,
}

/// The sources, in the order in which they count.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    sources: Vec<Source>,
    /// What lies here lies unencrypted on the disk.
    plain: Option<PathBuf>,
}

impl Places {
    /// One file alone, or the usual ones: what somebody put there since the boot, what systemd was given for this boot
    /// (SMBIOS, a credential on the ESP), the medium that was booted, what the installation left in the agent's folder
    /// or the agent kept there, and what a netboot server gave.
    pub(crate) fn new(only: Option<&Path>, folder: &Path) -> std::io::Result<Self> {
        if let Some(path) = only {
            let place = Place::File(std::path::absolute(path)?);
            return Ok(Self { sources: vec![Source { name: "file", place }], plain: None });
        }
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
        let credentials = credentials.map_or_else(|| PathBuf::from(CREDENTIALS), PathBuf::from);
        let here = std::path::absolute(folder)?.join("bundle.yaml");
        let told = Path::new(boot::FOLDER);
        let sources = [
            ("by hand", Place::File("/run/trilith/bundle.yaml".into())),
            ("credential", Place::File(credentials.join("trilith.bundle"))),
            // Put there by the initrd; missing on a node that was booted from its own disk.
            ("medium", Place::Folder(told.join(boot::MEDIUM))),
            ("installation", Place::File(here.clone())),
            ("disk", Place::Kept),
            ("network", Place::Folder(told.join(boot::NETWORK))),
        ];
        let sources = sources.map(|(name, place)| Source { name, place }).into();
        Ok(Self { sources, plain: Some(here) })
    }

    /// Whether one file alone was named: then nothing is kept beside it.
    pub(crate) fn is_only(&self) -> bool {
        self.plain.is_none()
    }

    /// Whether a bundle lies unencrypted on the disk, and the agent's own folder is where it lies.
    pub(crate) fn is_plain_on_disk(&self, path: &Path) -> bool {
        self.plain.as_deref() == Some(path)
    }

    /// The sources, in the order in which they count.
    pub(crate) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The paths whose change may mean another bundle.
    pub(crate) fn watched(&self) -> Vec<PathBuf> {
        let path = |source: &Source| match &source.place {
            Place::File(path) => Some(path.clone()),
            Place::Folder(folder) => Some(folder.join(ANYTHING)),
            Place::Kept => None,
        };
        self.sources.iter().filter_map(path).collect()
    }
}

/// Whether this boot's /var is memory, as the initrd has left word.
pub(crate) fn in_memory() -> bool {
    Path::new(boot::FOLDER).join(boot::RAM).exists()
}

/// Where /var is in a boot that leaves what was booted as it is, as the initrd has left word. `None`: this boot is none.
pub(crate) fn kept() -> Option<Outcome> {
    let text = std::fs::read_to_string(Path::new(boot::FOLDER).join(boot::KEEP)).ok()?;
    Outcome::parse(&text).ok()
}

/// Whether what was booted was fetched over the network.
pub(crate) fn is_fetched() -> bool {
    Path::new(boot::FOLDER).join(boot::FETCHED).exists()
}

/// The endorsement key of this machine's TPM, where `trilith-tpm` has asked it in this boot.
pub(crate) fn endorsement() -> Option<EndorsementKey> {
    let text = std::fs::read_to_string(Path::new(boot::FOLDER).join(sealed::ENDORSEMENT)).ok()?;
    text.trim().to_owned().try_into().ok()
}

/// Every bundle in a folder, by name.
pub(crate) fn offers(folder: &Path) -> Result<Vec<Offer>, FileError> {
    let mut offers = Vec::new();
    for (name, _) in files::list(folder)? {
        if ![ENDING, sealed::ENDING].iter().any(|ending| name.ends_with(ending)) {
            continue;
        }
        if let Some(found) = files::read(&folder.join(&name))? {
            offers.push(Offer { name, text: found.text });
        }
    }
    offers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(offers)
}
