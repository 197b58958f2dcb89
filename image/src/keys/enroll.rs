//! `trilith keys enroll`: what firmware in setup mode is given, so that it starts what we sign and nothing else.
//!
//! systemd-boot takes the three files from `loader/keys/auto/` of the ESP (systemd-boot(7), "Secure Boot").

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;

use super::store::{Offline, Online};
use super::{Folders, write_public};
use crate::exit::Exit;
use crate::release::{Bench, files};
use crate::vault::Unlock;

/// Microsoft's certificates, from its repository `microsoft/secureboot_objects` (`PreSignedObjects`, under the licence
/// beside them). Firmware in network cards and storage controllers is signed with the UEFI ones: without them such a card
/// may fall silent, and the machine with it. Those of 2011 have expired, which firmware does not look at; much is signed
/// with them alone.
const MICROSOFT_KEK: [&str; 2] =
    [include_str!("microsoft/kek-2011.pem"), include_str!("microsoft/kek-2023.pem")];
const MICROSOFT_DB: [&str; 5] = [
    include_str!("microsoft/uefi-2011.pem"),
    include_str!("microsoft/uefi-2023.pem"),
    include_str!("microsoft/option-rom-2023.pem"),
    include_str!("microsoft/windows-2011.pem"),
    include_str!("microsoft/windows-2023.pem"),
];
/// Who Microsoft is to firmware (`microsoft/secureboot_objects`, README).
const MICROSOFT: &str = "77fa9abd-0359-4d32-bd60-28f4e78f784b";

/// Write what firmware in setup mode takes as its keys: PK.auth, KEK.auth and
/// db.auth. `trilith release` puts them onto its disk image, so that a machine
/// in setup mode that starts from a medium has Secure Boot from then on.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    folders: Folders,
    /// The folder to write them into. Default: enroll/ in that of the keys.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Leave out Microsoft's certificates. Only for machines whose cards need
    /// none: others may not start any more, with no way back but their
    /// maker's.
    #[arg(long)]
    no_microsoft: bool,
    /// The tools tree with efitools; `/` is this machine's own. Default:
    /// target/tools of the repository.
    #[arg(long, value_name = "DIR")]
    tools: Option<PathBuf>,
    #[command(flatten)]
    unlock: Unlock,
}

/// What is written: each file's name and content.
pub(crate) struct Enrollment([(String, Vec<u8>); 3]);

impl Enrollment {
    /// Where it is written if nobody says where, of the folder of the keys.
    pub(crate) fn folder(keys: &Path) -> PathBuf {
        keys.join("enroll")
    }

    /// Reads what was written into a folder.
    ///
    /// # Errors
    /// It is not whole, or firmware with it would not start what these keys sign.
    pub(crate) fn read(folder: &Path, online: &Online) -> anyhow::Result<Self> {
        let read = |variable: &str| {
            let name = format!("{variable}.auth");
            let path = folder.join(&name);
            let content =
                std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            anyhow::Ok((name, content))
        };
        let files = [read("PK")?, read("KEK")?, read("db")?];
        let [.., (_, db)] = &files;
        let known = online.db.iter().any(|pair| has_certificate(db, &pair.certificate));
        ensure!(
            known,
            "{}: firmware with these keys starts nothing that is signed now: run `trilith keys enroll` again",
            folder.display()
        );
        Ok(Self(files))
    }

    /// Each file with its name.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, content)| (name.as_str(), content.as_slice()))
    }
}

/// Whether a variable holds this certificate: firmware is given it as DER.
fn has_certificate(variable: &[u8], pem: &str) -> bool {
    pem_rfc7468::decode_vec(pem.as_bytes())
        .is_ok_and(|(_, der)| variable.windows(der.len()).any(|part| part == der))
}

/// Carries out the command.
pub(crate) fn run(options: &Options) -> anyhow::Result<Exit> {
    let Options { folders, into, no_microsoft, tools, unlock } = options;
    let (vault, offline) = folders.open_offline(unlock)?;
    let (_online_vault, online) = folders.open_online(unlock, &vault)?;
    let into = into.clone().unwrap_or_else(|| Enrollment::folder(&folders.keys));
    files::make_folder(&into)?;
    let work = tempfile::tempdir().context("cannot make a folder to work in")?;
    let bench = Bench::new(tools.as_deref(), work.path())?;
    for (name, certificates) in lists(&online, &offline, !no_microsoft) {
        let signer = if name == "db" { &offline.kek } else { &offline.pk };
        let made = bench.variable(name, &certificates, signer)?;
        let path = into.join(format!("{name}.auth"));
        let content = std::fs::read(&made).context("cannot read what was signed")?;
        write_public(&path, &content)?;
        eprintln!("{}: {} certificates", path.display(), certificates.len());
    }
    Ok(Exit::Ok)
}

/// Each variable with its certificates and their owners.
fn lists<'a>(
    online: &'a Online,
    offline: &'a Offline,
    microsoft: bool,
) -> [(&'static str, Vec<(&'a str, &'a str)>); 3] {
    let owner = offline.owner.as_str();
    let theirs = |all: &'static [&'static str]| {
        all.iter().filter(move |_| microsoft).map(|certificate| (MICROSOFT, *certificate))
    };
    let mut kek = vec![(owner, offline.kek.certificate.as_str())];
    kek.extend(theirs(&MICROSOFT_KEK));
    let mut db: Vec<_> = online.db.iter().map(|pair| (owner, pair.certificate.as_str())).collect();
    db.extend(theirs(&MICROSOFT_DB));
    [("PK", vec![(owner, offline.pk.certificate.as_str())]), ("KEK", kek), ("db", db)]
}
