//! Opens sealed bundles.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use age::Decryptor;
use age::x25519::Identity;
use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use trilith_core::sealed::{self, Sealed};

use crate::tpm::Tpm;

/// Opens those in a folder that are for this TPM, and puts each in the place of the sealed one. One that cannot be opened
/// does not stand in the way of another. A folder that is not there has none.
pub(crate) fn all(tpm: &Tpm, folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        let Some(stem) = path.to_str().and_then(|path| path.strip_suffix(sealed::ENDING)) else {
            continue;
        };
        match Sealed::parse(&fs::read_to_string(&path).unwrap_or_default()) {
            None => eprintln!("{}: no sealed bundle", path.display()),
            Some(sealed) if sealed.tpm != tpm.key => {
                eprintln!("{}: sealed to another TPM", sealed.name);
            }
            Some(sealed) => match open(tpm, &sealed).and_then(|text| put(stem, &text)) {
                Ok(()) => {
                    eprintln!("{}: opened by this machine's TPM", sealed.name);
                    fs::remove_file(&path)
                        .with_context(|| format!("cannot remove {}", path.display()))?;
                }
                Err(error) => eprintln!("{}: {error:#}", sealed.name),
            },
        }
    }
    Ok(())
}

fn open(tpm: &Tpm, sealed: &Sealed) -> Result<String> {
    let identity = String::from_utf8(tpm.unseal(sealed)?).context("no age identity in it")?;
    let identity: Identity = identity.parse().map_err(|reason: &str| anyhow!(reason))?;
    let bundle = BASE64_STANDARD.decode(&sealed.bundle).context("the bundle: base64")?;
    let decryptor = Decryptor::new(bundle.as_slice()).context("the bundle")?;
    let mut text = String::new();
    let mut reader = decryptor.decrypt(std::iter::once::<&dyn age::Identity>(&identity))?;
    reader.read_to_string(&mut text).context("the bundle")?;
    Ok(text)
}

/// Readable by its owner alone.
fn put(stem: &str, text: &str) -> Result<()> {
    let path = format!("{stem}.yaml");
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {path}"))
}
