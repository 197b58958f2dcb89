//! Files of secrets: each one YAML document encrypted with age, for recipients or with a passphrase.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use age::{Decryptor, Encryptor, Identity, IdentityFile, Recipient, scrypt, x25519};
use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use zeroize::Zeroizing;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What such a file holds.
pub(crate) trait Kept: Serialize + DeserializeOwned {
    /// What people call the file.
    const WHAT: &'static str;
    /// The command that makes one.
    const MADE_BY: &'static str;
    /// The one version of the format that this program reads and writes, in the key `version`.
    const VERSION: u32;

    /// The age recipients who can read the file: it is written anew for the same ones. Empty: it is encrypted with a
    /// passphrase, and written anew with the one that opened it.
    fn recipients(&self) -> &[String];
}

/// How such a file is opened.
#[derive(Debug, Args)]
pub(crate) struct Unlock {
    /// A file with an age identity (private key) that opens it.
    #[arg(long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// A file whose first line is the passphrase. Default: it is asked for.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Who will be able to open a new file.
#[derive(Debug, Args)]
pub(crate) struct Protection {
    /// An age recipient (public key, age1…) who can open it.
    #[arg(long, value_name = "RECIPIENT", conflicts_with = "passphrase_file")]
    recipient: Vec<String>,
    /// A file with age recipients, one per line.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    recipients_file: Vec<PathBuf>,
    /// A file whose first line is the passphrase. Default without recipients:
    /// it is asked for.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// What such a file is encrypted with.
pub(crate) enum Lock {
    /// A passphrase, turned into a key by scrypt.
    Passphrase(SecretString),
    /// The public keys of those who can open it, as text.
    Recipients(Vec<String>),
}

/// An open file of secrets that nobody else writes meanwhile.
pub(crate) struct Vault {
    path: PathBuf,
    lock: Lock,
    _held: Option<Held>,
}

/// The folder is locked and not the file, because the file is replaced and a lock would stay with the old one.
struct Held(#[expect(dead_code, reason = "the lock goes when it is closed")] File);

impl Protection {
    /// The lock that was asked for; a new passphrase is asked for twice.
    pub(crate) fn lock(&self) -> anyhow::Result<Lock> {
        if let Some(file) = &self.passphrase_file {
            return Ok(Lock::Passphrase(passphrase_in(file)?));
        }
        let mut recipients = self.recipient.clone();
        for file in &self.recipients_file {
            let text = std::fs::read_to_string(file);
            let text = text.with_context(|| format!("cannot read {}", file.display()))?;
            let lines = text.lines().map(str::trim);
            recipients.extend(
                lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned),
            );
        }
        if recipients.is_empty() {
            return Ok(Lock::Passphrase(new_passphrase()?));
        }
        recipients.iter().try_for_each(|text| recipient(text).map(drop))?;
        Ok(Lock::Recipients(recipients))
    }
}

impl Lock {
    /// The recipients' names; none for a passphrase.
    pub(crate) fn recipients(&self) -> Vec<String> {
        match self {
            Self::Passphrase(_) => Vec::new(),
            Self::Recipients(recipients) => recipients.clone(),
        }
    }

    /// Encrypts.
    pub(crate) fn encrypt(&self, text: &[u8]) -> anyhow::Result<Vec<u8>> {
        let encryptor = match self {
            Self::Passphrase(passphrase) => Encryptor::with_user_passphrase(passphrase.clone()),
            Self::Recipients(names) => {
                let recipients: anyhow::Result<Vec<x25519::Recipient>> =
                    names.iter().map(|name| recipient(name)).collect();
                let recipients = recipients?;
                let recipients = recipients.iter().map(|recipient| recipient as &dyn Recipient);
                Encryptor::with_recipients(recipients)?
            }
        };
        let mut encrypted = Vec::new();
        let mut writer = encryptor.wrap_output(&mut encrypted)?;
        writer.write_all(text)?;
        writer.finish()?;
        Ok(encrypted)
    }
}

impl Unlock {
    /// Opens such a file.
    pub(crate) fn open<K: Kept>(&self, path: &Path) -> anyhow::Result<(Vault, K)> {
        let held = hold(path)?;
        self.open_held(path, Some(held))
    }

    /// Opens such a file while another is open. If both are in one folder, that is locked already.
    pub(crate) fn open_beside<K: Kept>(
        &self,
        path: &Path,
        other: &Vault,
    ) -> anyhow::Result<(Vault, K)> {
        let held = if path.parent() == other.path.parent() { None } else { Some(hold(path)?) };
        self.open_held(path, held)
    }

    fn open_held<K: Kept>(&self, path: &Path, held: Option<Held>) -> anyhow::Result<(Vault, K)> {
        let opening = || format!("cannot open the {} {}", K::WHAT, path.display());
        let file = File::open(path);
        let file = file.with_context(|| format!("{}; `{}` makes one", opening(), K::MADE_BY))?;
        let (text, passphrase) = self.decrypt(file, K::WHAT).with_context(opening)?;
        let secrets: K = parse(&text).with_context(opening)?;
        let lock = match passphrase {
            Some(passphrase) => Lock::Passphrase(passphrase),
            None => Lock::Recipients(secrets.recipients().to_vec()),
        };
        Ok((Vault { path: path.to_owned(), lock, _held: held }, secrets))
    }

    /// The text, and the passphrase if it was one that opened it.
    fn decrypt(
        &self,
        file: File,
        what: &str,
    ) -> anyhow::Result<(Zeroizing<String>, Option<SecretString>)> {
        let decryptor = Decryptor::new_buffered(BufReader::new(file))?;
        let mut text = Zeroizing::new(String::new());
        if decryptor.is_scrypt() {
            ensure!(
                self.identity.is_empty(),
                "it is encrypted with a passphrase, not for identities"
            );
            let passphrase = match &self.passphrase_file {
                Some(file) => passphrase_in(file)?,
                None => ask(&format!("Passphrase of the {what}: "))?,
            };
            let identity = scrypt::Identity::new(passphrase.clone());
            let identity: &dyn Identity = &identity;
            decryptor.decrypt(std::iter::once(identity))?.read_to_string(&mut text)?;
            return Ok((text, Some(passphrase)));
        }
        ensure!(!self.identity.is_empty(), "it is encrypted for recipients: give --identity FILE");
        let identities = identities(&self.identity)?;
        let identities = identities.iter().map(|identity| identity.as_ref() as &dyn Identity);
        decryptor.decrypt(identities)?.read_to_string(&mut text)?;
        Ok((text, None))
    }
}

impl Vault {
    /// Puts a new file in place. There must be none.
    pub(crate) fn create<K: Kept>(path: &Path, lock: &Lock, secrets: &K) -> anyhow::Result<()> {
        let _held = hold(path)?;
        let text = write(secrets)?;
        create_private(path, &lock.encrypt(text.as_bytes())?)
            .with_context(|| format!("cannot make {}", path.display()))
    }

    /// Replaces the file, for the same readers.
    pub(crate) fn save<K: Kept>(&self, secrets: &K) -> anyhow::Result<()> {
        let text = write(secrets)?;
        write_private(&self.path, &self.lock.encrypt(text.as_bytes())?)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Waits until no other `trilith` works on secrets in this folder.
fn hold(path: &Path) -> anyhow::Result<Held> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let locked = File::open(folder).and_then(|folder| folder.lock().map(|()| folder));
    Ok(Held(locked.with_context(|| format!("cannot lock the folder {}", folder.display()))?))
}

/// serde's own words are left out: they quote what they found.
fn parse<K: Kept>(text: &str) -> anyhow::Result<K> {
    let broken = |_| anyhow!("what it holds was not written by this program");
    let any: serde_yaml::Value = serde_yaml::from_str(text).map_err(broken)?;
    let version = any.get("version").and_then(serde_yaml::Value::as_u64);
    if version != Some(K::VERSION.into()) {
        let version = version.map_or("an unknown one".to_owned(), |version| version.to_string());
        bail!("this program reads version {} of it, not {version}", K::VERSION);
    }
    serde_yaml::from_str(text).map_err(broken)
}

fn write<K: Kept>(secrets: &K) -> anyhow::Result<Zeroizing<String>> {
    Ok(Zeroizing::new(serde_yaml::to_string(secrets).context("cannot write the secrets")?))
}

fn recipient(text: &str) -> anyhow::Result<x25519::Recipient> {
    text.parse().map_err(|reason| anyhow!("{text:?} is not an age recipient: {reason}"))
}

fn identities(files: &[PathBuf]) -> anyhow::Result<Vec<Box<dyn Identity + Send + Sync>>> {
    let mut all = Vec::new();
    for file in files {
        let reading = || format!("cannot read the identity file {}", file.display());
        let opened = BufReader::new(File::open(file).with_context(reading)?);
        let read = IdentityFile::from_buffer(opened).with_context(reading)?;
        all.extend(read.into_identities().with_context(reading)?);
    }
    Ok(all)
}

fn passphrase_in(file: &Path) -> anyhow::Result<SecretString> {
    let text = std::fs::read_to_string(file).map(Zeroizing::new);
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    let line = text.lines().next().unwrap_or_default();
    ensure!(!line.is_empty(), "the first line of {} is empty", file.display());
    Ok(SecretString::from(line.to_owned()))
}

fn new_passphrase() -> anyhow::Result<SecretString> {
    use age::secrecy::ExposeSecret as _;
    let first = ask("New passphrase: ")?;
    let second = ask("Once more: ")?;
    ensure!(first.expose_secret() == second.expose_secret(), "the two passphrases differ");
    Ok(first)
}

fn ask(prompt: &str) -> anyhow::Result<SecretString> {
    let answer = rpassword::prompt_password(prompt)
        .context("nobody can be asked for the passphrase: give --passphrase-file")?;
    ensure!(!answer.is_empty(), "the passphrase is empty");
    Ok(SecretString::from(answer))
}

/// Writes a file that only its owner reads, whole or not at all: a new file beside it takes its place.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

/// Writes a file that only its owner reads, and never over another.
fn create_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a file would stand in the way of the next try.
        std::fs::remove_file(path)?;
    }
    written
}
