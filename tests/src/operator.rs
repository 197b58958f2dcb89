//! An operator who makes releases: keys, and the folder that a web server serves, made by the real commands. The folder is
//! kept from one test to the next, for a release takes minutes to make.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use age::secrecy::ExposeSecret as _;
use anyhow::{Context as _, Result, anyhow, ensure};
use serde_yaml::Value;
use tempfile::TempDir;
use trilith_core::release::{Manifest, Part};
use trilith_core::version::Version;

use crate::artifact;
use crate::command::{output, run};
use crate::machine::in_tools;

/// How old the kept folder may be: what is signed holds for 30 days, and tests change the clock of machines.
const KEPT: Duration = Duration::from_hours(24);

/// Keys, and a folder of releases.
#[derive(Debug)]
pub struct Operator {
    folder: PathBuf,
    /// How hard zstd works; `None`: as for a user.
    level: Option<&'static str>,
    /// Removes the folder at the end, unless it is kept.
    _temporary: Option<TempDir>,
}

impl Operator {
    /// The one whose releases are kept, with a release of each of these images in it. They are made fast rather than small.
    pub fn kept(images: &[&Path]) -> Result<Self> {
        Self::at_hand("operator", Some(FAST), images)
    }

    /// The same with releases as users make them, which takes some minutes each.
    pub fn kept_for_users(images: &[&Path]) -> Result<Self> {
        Self::at_hand("operator-for-users", None, images)
    }

    fn at_hand(name: &str, level: Option<&'static str>, images: &[&Path]) -> Result<Self> {
        let folder = artifact::machines()?.join(name);
        // Two tests may run at once: what one of them finds in order is not made anew by the other.
        let lock = File::create(folder.with_extension("lock"))?;
        lock.lock().context("cannot wait for the kept releases")?;
        let operator = Self { folder, level, _temporary: None };
        if operator.is_of_use() && operator.release_all(images).is_ok() {
            return Ok(operator);
        }
        if operator.folder.exists() {
            fs::remove_dir_all(&operator.folder).context("cannot remove the kept releases")?;
        }
        operator.make_keys()?;
        operator.release_all(images)?;
        Ok(operator)
    }

    /// A new one, without releases, who goes with this value.
    pub fn new() -> Result<Self> {
        let temporary = TempDir::new()?;
        let folder = temporary.path().canonicalize()?;
        let operator = Self { folder, level: Some(FAST), _temporary: Some(temporary) };
        operator.make_keys()?;
        Ok(operator)
    }

    /// Another one with the same keys, who serves the same releases: what is signed or replaced here is not there.
    pub fn twin(&self) -> Result<Self> {
        let temporary = TempDir::new_in(artifact::machines()?)?;
        let folder = temporary.path().canonicalize()?;
        let twin = Self { folder, level: self.level, _temporary: Some(temporary) };
        let copied = ["keys", "safe", IDENTITY].map(|name| self.at(name));
        run(Command::new("cp").arg("--archive").args(copied).arg(&twin.folder))?;
        fs::create_dir(twin.releases())?;
        let metadata = self.releases().join("metadata");
        run(Command::new("cp").arg("--archive").arg(metadata).arg(twin.releases()))?;
        let targets = twin.releases().join("targets");
        std::os::unix::fs::symlink(self.releases().join("targets"), targets)?;
        Ok(twin)
    }

    /// The folder of releases.
    pub fn releases(&self) -> PathBuf {
        self.at("releases")
    }

    /// The folder of keys, with the certificates in clear.
    pub fn keys(&self) -> PathBuf {
        self.at("keys")
    }

    /// Keys, releases and what else is the operator's.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path in that folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn is_of_use(&self) -> bool {
        let made = self.at(IDENTITY).metadata().and_then(|meta| meta.modified());
        made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age < KEPT))
            && self.at("safe/offline.age").exists()
    }

    fn make_keys(&self) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let identity = age::x25519::Identity::generate();
        fs::write(self.at(IDENTITY), identity.to_string().expose_secret())?;
        let mut init = self.trilith(&["keys", "init", "--name", "attic"])?;
        init.arg("--recipient").arg(identity.to_public().to_string());
        run(init.arg("--keys").arg(self.keys()).arg("--root-keys").arg(self.at("safe")))?;
        Ok(())
    }

    /// `trilith` with these words, in that folder.
    pub fn trilith(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(artifact::program("trilith")?);
        command.args(words).current_dir(&self.folder);
        Ok(command)
    }

    /// What opens the keys.
    fn open(&self, command: &mut Command) {
        command.arg("--keys").arg(self.keys()).arg("--identity").arg(self.at(IDENTITY));
    }

    /// `trilith release` of each, the oldest first. One that is there already costs nothing.
    pub fn release_all(&self, images: &[&Path]) -> Result<()> {
        let mut images: Vec<(Version, &Path)> =
            images.iter().map(|image| Ok((version(image)?, *image))).collect::<Result<_>>()?;
        images.sort();
        for (version, image) in images {
            let build = TempDir::new_in(&self.folder)?;
            gather(image, &version, build.path())?;
            let mut release = self.trilith(&["release"])?;
            release.args(self.level.map(|level| format!("--level={level}")));
            release.arg(build.path()).arg("--into").arg(self.releases());
            release.arg("--tools").arg(artifact::tools()?);
            self.open(&mut release);
            run(&mut release)?;
        }
        Ok(())
    }

    /// `trilith release refresh`: the newest of the metadata holds for so many days.
    pub fn refresh(&self, days: u32) -> Result<()> {
        let mut refresh = self.trilith(&["release", "refresh"])?;
        refresh.arg(self.releases()).arg(format!("--timestamp-days={days}"));
        self.open(&mut refresh);
        run(&mut refresh).map(drop)
    }

    /// `trilith keys rotate`.
    pub fn rotate(&self, role: &str) -> Result<()> {
        let mut rotate = self.trilith(&["keys", "rotate", role])?;
        rotate.arg("--root-keys").arg(self.at("safe"));
        self.open(&mut rotate);
        run(&mut rotate).map(drop)
    }

    /// `trilith keys enroll`: gives the folder with what firmware takes. Media of later releases have it.
    pub fn enroll(&self) -> Result<PathBuf> {
        let mut enroll = self.trilith(&["keys", "enroll"])?;
        enroll.arg("--root-keys").arg(self.at("safe")).arg("--tools").arg(artifact::tools()?);
        self.open(&mut enroll);
        run(&mut enroll)?;
        Ok(self.keys().join("enroll"))
    }

    /// The disk image of a release, from which media are made.
    pub fn disk_image(&self, version: &Version) -> Result<PathBuf> {
        let (packed, disk) = (self.target(&self.manifest(version)?.disk.target)?, self.at("raw"));
        zstd::stream::copy_decode(File::open(packed)?, File::create(&disk)?)?;
        Ok(disk)
    }

    /// What nodes trust from the beginning: the SHA-256 of the first root.
    pub fn trust(&self) -> Result<String> {
        let root = self.releases().join("metadata/1.root.json");
        let said = run(Command::new("sha256sum").arg(root))?;
        Ok(said.split_whitespace().next().context("sha256sum says nothing")?.to_owned())
    }

    /// The manifest of a release.
    pub fn manifest(&self, version: &Version) -> Result<Manifest> {
        let text = fs::read_to_string(self.target(&Manifest::target(version))?)?;
        Ok(Manifest::parse(&text)?)
    }

    /// A target's file.
    pub fn target(&self, name: &str) -> Result<PathBuf> {
        let folder = self.releases().join("targets");
        let ending = format!(".{name}");
        let mut all = fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path()));
        let is = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with(&ending));
        all.find(is).with_context(|| format!("no target {name} in {}", folder.display()))
    }

    /// A part of a release, as it is in a slot or on an ESP.
    pub fn whole(&self, part: &Part) -> Result<Vec<u8>> {
        Ok(zstd::decode_all(File::open(self.target(&part.whole.target)?)?)?)
    }

    /// Signs a program for firmware, as `trilith release` does.
    pub fn sign(&self, program: &Path) -> Result<()> {
        let identity = fs::read_to_string(self.at(IDENTITY))?;
        let identity: age::x25519::Identity =
            identity.parse().map_err(|reason| anyhow!("the age identity: {reason}"))?;
        let keys = age::decrypt(&identity, &fs::read(self.at("keys/online.age"))?)?;
        let keys: Value = serde_yaml::from_slice(&keys)?;
        let pair = keys["db"].as_sequence().and_then(|all| all.last()).context("no db key")?;
        let text = |name: &str| pair[name].as_str().with_context(|| format!("db has no {name}"));
        sign(program, text("key")?, text("certificate")?)
    }
}

/// One build in a folder of its own: of several the command takes the one that was made last.
fn gather(image: &Path, version: &Version, into: &Path) -> Result<()> {
    let own = format!("{}.", version.label());
    for entry in fs::read_dir(folder_of(image)?)? {
        let (name, from) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        if name.to_string_lossy().starts_with(&own) {
            let to = into.join(&name);
            fs::hard_link(&from, &to)
                .or_else(|_| fs::copy(&from, &to).map(drop))
                .with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(())
}

/// The level at which zstd is done soonest.
const FAST: &str = "1";
/// What opens the keys.
const IDENTITY: &str = "identity";

/// The version of an image, by its name.
pub fn version(image: &Path) -> Result<Version> {
    let label = image.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    Version::of_label(label).with_context(|| format!("{} is no release's", image.display()))
}

/// Signs a program for firmware with a key that was made for this alone.
pub fn sign_as_a_stranger(program: &Path) -> Result<()> {
    let folder = folder_of(program)?;
    let (key, certificate) = (folder.join("stranger.key"), folder.join("stranger.pem"));
    let mut openssl = in_tools("openssl", &[folder])?;
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=stranger"]);
    run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate))?;
    sign(program, &fs::read_to_string(key)?, &fs::read_to_string(certificate)?)
}

fn sign(program: &Path, key: &str, certificate: &str) -> Result<()> {
    // Keys of a test, that nobody will trust tomorrow, may lie in a file.
    let folder = TempDir::new_in(folder_of(program)?)?;
    let (key_file, certificate_file) = (folder.path().join("key"), folder.path().join("pem"));
    fs::write(&key_file, key)?;
    fs::write(&certificate_file, certificate)?;
    let signed = folder.path().join("signed.efi");
    let mut sbsign = in_tools("sbsign", &[folder_of(program)?])?;
    sbsign.arg("--key").arg(&key_file).arg("--cert").arg(&certificate_file);
    let said = output(sbsign.arg("--output").arg(&signed).arg(program))?;
    let why = String::from_utf8_lossy(&said.stderr);
    ensure!(said.status.success(), "cannot sign {}: {why}", program.display());
    fs::rename(signed, program).context("cannot put the signed program in place")
}

fn folder_of(file: &Path) -> Result<&Path> {
    file.parent().with_context(|| format!("{} has no folder", file.display()))
}
