//! Signatures for firmware, by the tools of the tools tree. Keys reach them through memory alone: not by a command line,
//! not by a file on a disk.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use gpt::GptConfig;
use nix::sys::memfd::{MFdFlags, memfd_create};
use trilith_core::boot::RootHash;
use trilith_core::secrets::Secret;

use crate::build::Tools;
use crate::cluster::KeyPair;
use crate::exec;
use crate::keys::Enrollment;

/// Where the tools see a key and its certificate.
const KEY: &str = "/run/trilith-keys/key.pem";
const CERTIFICATE: &str = "/run/trilith-keys/certificate.pem";

/// The sectors that a partition table counts in.
const SECTOR: u64 = 512;

/// Where systemd-boot lies on the ESP of a disk image: twice.
const LOADERS: [&str; 2] = ["EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"];
/// Where its systems lie, for mtools.
const SYSTEMS: &str = "::/EFI/Linux";
/// Where it looks for keys that it gives to firmware in setup mode (systemd-boot(7), "Secure Boot").
const KEYS: &str = "::/loader/keys/auto";
/// Its settings.
const SETTINGS: &str = "::/loader/loader.conf";
/// Without this it does so in virtual machines alone, unless somebody chooses it in the menu (loader.conf(5)). Whoever
/// makes these files and puts firmware into setup mode has chosen.
const ENROLL: &str = "secure-boot-enroll force\n";

/// The tools, and the folder that they work in.
pub(crate) struct Bench {
    tools: Tools,
    folder: PathBuf,
}

impl Bench {
    /// With this tools tree; `None`: that of the repository here.
    pub(crate) fn new(tools: Option<&Path>, folder: &Path) -> Result<Self> {
        let folder = fs::canonicalize(folder);
        let folder = folder.context("cannot find the folder to work in")?;
        Ok(Self { tools: Tools::existing(tools, &folder)?, folder })
    }

    /// Shows the tools another folder.
    pub(crate) fn show(&mut self, folder: &Path) -> Result<()> {
        let folder = fs::canonicalize(folder)
            .with_context(|| format!("cannot find {}", folder.display()))?;
        self.tools.bind(&folder, false);
        Ok(())
    }

    /// A file of the folder that they work in.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs a tool with a key: what it finds in [`KEY`] and [`CERTIFICATE`].
    fn run_with(&self, pair: &KeyPair, program: &str, arguments: &[&str]) -> Result<()> {
        let certificate = Secret::from(pair.certificate.clone());
        let shown = [(KEY, &pair.key), (CERTIFICATE, &certificate)];
        let shown = shown.map(|(path, text)| Ok((path, in_memory(text)?)));
        let shown: Vec<(&str, File)> = shown.into_iter().collect::<Result<_>>()?;
        let mut command = self.tools.command_with(program, &shown);
        exec::output(command.args(arguments)).map(drop)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        exec::output(self.tools.command(program).args(arguments)).map(drop)
    }

    /// Signs a program for firmware (Authenticode) with all of these keys, and checks that each signature counts.
    pub(crate) fn sign(&self, program: &Path, keys: &[KeyPair], output: &str) -> Result<PathBuf> {
        let mut from = fs::canonicalize(program)
            .with_context(|| format!("cannot find {}", program.display()))?;
        for (number, pair) in keys.iter().enumerate() {
            let to = self.path(&format!("{output}.{number}"));
            let arguments =
                ["--key", KEY, "--cert", CERTIFICATE, "--output", text(&to)?, text(&from)?];
            self.run_with(pair, "sbsign", &arguments)
                .with_context(|| format!("cannot sign {}", program.display()))?;
            from = to;
        }
        for pair in keys {
            self.run_with(pair, "sbverify", &["--cert", CERTIFICATE, text(&from)?]).with_context(
                || format!("the signature of {} does not count", program.display()),
            )?;
        }
        Ok(from)
    }

    /// Signs a root hash as the kernel asks for it (PKCS #7 over its text, without certificates and attributes), and
    /// checks the signature.
    pub(crate) fn sign_root(&self, hash: &RootHash, pair: &KeyPair) -> Result<PathBuf> {
        let (hash_file, signature) = (self.path("roothash"), self.path("roothash.p7s"));
        fs::write(&hash_file, hash.to_string()).context("cannot write the root hash")?;
        let (hash, signed) = (text(&hash_file)?, text(&signature)?);
        let sign = ["smime", "-sign", "-binary", "-nocerts", "-noattr", "-outform", "DER"];
        let keys = ["-inkey", KEY, "-signer", CERTIFICATE, "-in", hash, "-out", signed];
        self.run_with(pair, "openssl", &[&sign[..], &keys].concat())
            .context("cannot sign the root hash")?;
        let check = ["smime", "-verify", "-binary", "-noverify", "-nointern", "-inform", "DER"];
        let from = ["-in", signed, "-content", hash, "-certfile", CERTIFICATE, "-out", "/dev/null"];
        self.run_with(pair, "openssl", &[&check[..], &from].concat())
            .context("the root hash's signature does not count")?;
        Ok(signature)
    }

    /// Takes the boot loader off the ESP of a disk image.
    pub(crate) fn loader(&self, disk: &Path) -> Result<PathBuf> {
        let output = self.path("loader");
        self.run("mcopy", &["-i", &esp(disk)?, &format!("::/{}", LOADERS[0]), text(&output)?])
            .with_context(|| format!("{} has no boot loader", disk.display()))?;
        Ok(output)
    }

    /// Puts signed programs in the places of those that are on the ESP of a disk image.
    pub(crate) fn dress(&self, disk: &Path, loader: &Path, uki: &Path) -> Result<()> {
        let esp = esp(disk)?;
        let list = exec::output(self.tools.command("mdir").args(["-b", "-i", &esp, SYSTEMS]))
            .with_context(|| format!("{} has no system on its ESP", disk.display()))?;
        let systems: Vec<&str> = list.lines().filter(|line| is_program(line)).collect();
        let [system] = systems[..] else {
            bail!("{} has {} systems on its ESP, not one", disk.display(), systems.len())
        };
        let loaders = LOADERS.map(|name| (loader, format!("::/{name}")));
        for (from, to) in loaders.into_iter().chain([(uki, system.to_owned())]) {
            let from = fs::canonicalize(from)?;
            self.run("mcopy", &["-o", "-i", &esp, text(&from)?, &to])
                .with_context(|| format!("cannot put {to} onto {}", disk.display()))?;
        }
        Ok(())
    }

    /// Lets the boot loader on the ESP of a disk image give these keys to firmware in setup mode.
    pub(crate) fn enroll(&self, disk: &Path, keys: &Enrollment) -> Result<()> {
        let esp = esp(disk)?;
        let onto = || format!("cannot put the keys for firmware onto {}", disk.display());
        self.run("mmd", &["-i", &esp, KEYS]).with_context(onto)?;
        let settings = exec::output(self.tools.command("mtype").args(["-i", &esp, SETTINGS]));
        let settings = settings.with_context(onto)? + ENROLL;
        let files = keys.files().map(|(name, content)| (format!("{KEYS}/{name}"), content));
        for (to, content) in files.chain([(SETTINGS.to_owned(), settings.as_bytes())]) {
            let from = self.path("enroll");
            fs::write(&from, content)
                .with_context(|| format!("cannot write {}", from.display()))?;
            self.run("mcopy", &["-o", "-i", &esp, text(&from)?, &to]).with_context(onto)?;
        }
        Ok(())
    }

    /// Makes what firmware takes as a new value of one of its variables: a list of certificates with their owners,
    /// signed by a key (UEFI 2.10, 8.2.2 and 32.4.1).
    pub(crate) fn variable(
        &self,
        name: &str,
        certificates: &[(&str, &str)],
        signer: &KeyPair,
    ) -> Result<PathBuf> {
        let mut all = Vec::new();
        let (pem, list) = (self.path("certificate.pem"), self.path("certificate.esl"));
        for (owner, certificate) in certificates {
            fs::write(&pem, certificate).context("cannot write a certificate")?;
            self.run("cert-to-efi-sig-list", &["-g", owner, text(&pem)?, text(&list)?])?;
            all.extend(fs::read(&list).context("cannot read a certificate's list")?);
        }
        let (lists, output) = (self.path("all.esl"), self.path(&format!("{name}.auth")));
        fs::write(&lists, all).context("cannot write a list of certificates")?;
        let arguments = ["-k", KEY, "-c", CERTIFICATE, name, text(&lists)?, text(&output)?];
        self.run_with(signer, "sign-efi-sig-list", &arguments)
            .with_context(|| format!("cannot sign the variable {name}"))?;
        Ok(output)
    }
}

/// Whether a file on an ESP is one that firmware starts. FAT knows no case.
fn is_program(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|it| it.eq_ignore_ascii_case("efi"))
}

/// The ESP of a disk image, as mtools take it.
fn esp(disk: &Path) -> Result<String> {
    let reading = || format!("{} is no disk image of a release", disk.display());
    let table = GptConfig::new().open(disk).with_context(reading)?;
    let mut partitions = table.partitions().values();
    let esp = partitions.find(|it| it.part_type_guid == gpt::partition_types::EFI);
    let start = esp.with_context(reading)?.first_lba * SECTOR;
    let disk = fs::canonicalize(disk).with_context(reading)?;
    Ok(format!("{}@@{start}", disk.display()))
}

/// A file that is in memory only, and that programs inherit.
fn in_memory(content: &Secret) -> Result<File> {
    let name = CString::new("trilith").context("a name without zeros")?;
    let file =
        memfd_create(name.as_c_str(), MFdFlags::empty()).context("cannot make a file in memory")?;
    let mut file = File::from(file);
    file.write_all(content.reveal().as_bytes()).context("cannot write to memory")?;
    file.rewind().context("cannot go back in memory")?;
    Ok(file)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
