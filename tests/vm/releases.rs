//! `trilith keys` and `trilith release`: small builds become releases, signed by the real tools. What nodes make of the
//! signed metadata is shown among the unit tests of `image/src/release/repository.rs`.

use std::fs;
use std::io::Read as _;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use trilith_core::release::{Manifest, Part, WINDOW};
use trilith_tests::artifact;
use trilith_tests::build::{Build, UKI};
use trilith_tests::command::{output, run};
use trilith_tests::machine::in_tools;
use trilith_tests::operator;
use trilith_tests::program::Program;

use crate::faults::next_image;

/// An operator whose commands are looked at one by one.
pub(super) struct Operator(operator::Operator);

impl Deref for Operator {
    type Target = operator::Operator;

    fn deref(&self) -> &operator::Operator {
        &self.0
    }
}

impl Operator {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(operator::Operator::new()?))
    }

    /// `trilith` with these words, and the folder of keys.
    pub(super) fn trilith(&self, words: &[&str]) -> Result<Command> {
        let mut command = self.0.trilith(words)?;
        command.arg("--keys").arg(self.keys());
        Ok(command)
    }

    pub(super) fn releasing(&self, build: &str) -> Result<Command> {
        let mut command = self.trilith(&["release"])?;
        command.arg(self.at(build)).arg("--into").arg(self.at("releases"));
        command.arg("--identity").arg(self.at("identity")).arg("--tools").arg(artifact::tools()?);
        Ok(command)
    }

    pub(super) fn release(&self, build: &str) -> Result<Output> {
        output(&mut self.releasing(build)?)
    }

    pub(super) fn manifest(&self, version: &str) -> Result<Manifest> {
        self.0.manifest(&version.parse()?)
    }

    /// What a node makes of the part that it has.
    fn by_delta(&self, part: &Part, old: &[u8]) -> Result<Vec<u8>> {
        let delta = part.deltas.first().context("there is no delta")?;
        let bytes = fs::read(self.target(&delta.download.target)?)?;
        let (mut new, mut rest) = (Vec::new(), bytes.as_slice());
        for piece in &delta.pieces {
            let (frame, behind) = rest.split_at(usize::try_from(piece.size)?);
            rest = behind;
            let prefix = &old[usize::try_from(piece.from)?..][..usize::try_from(piece.reads)?];
            let mut decoder = zstd::stream::read::Decoder::with_ref_prefix(frame, prefix)?;
            decoder.window_log_max(WINDOW)?;
            decoder.read_to_end(&mut new)?;
        }
        Ok(new)
    }

    /// Looks at what the disk image has on its ESP.
    fn disk(&self, manifest: &Manifest) -> Result<()> {
        for name in ["EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI", UKI] {
            let program = self.on_media(manifest, name)?;
            ensure!(self.starts(&program, "db.pem")?, "{name} on the disk image");
        }
        let keys = self.on_media(manifest, "loader/keys/auto/PK.auth");
        ensure!(keys.is_err(), "firmware is given keys that nobody has made");
        Ok(())
    }

    /// A file on the ESP of the disk image.
    fn on_media(&self, manifest: &Manifest, name: &str) -> Result<Vec<u8>> {
        let disk = self.disk_image(&manifest.version)?;
        let (esp, taken) = (format!("{}@@1M", disk.display()), self.at("taken"));
        let mut mcopy = in_tools("mcopy", &[self.folder()])?;
        run(mcopy.args(["-o", "-i", &esp, &format!("::/{name}")]).arg(&taken))?;
        Ok(fs::read(&taken)?)
    }

    /// Whether firmware that has this certificate would start a program.
    fn starts(&self, program: &[u8], certificate: &str) -> Result<bool> {
        let path = self.at("program.efi");
        fs::write(&path, program)?;
        let mut command = in_tools("sbverify", &[self.folder()])?;
        command.arg("--cert").arg(self.at("keys").join(certificate)).arg(&path);
        Ok(output(&mut command)?.status.success())
    }
}

pub(super) fn done(command: &mut Command) -> Result<()> {
    run(command).map(drop)
}

pub(super) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every file below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// mkosi's zstd and the library are of one version, and so what differs between two systems is told of what is in their
/// initrds: the packages' part, and the kernel's modules.
#[test]
fn initrds_of_images_are_made_again() -> Result<()> {
    let (image, next) = (artifact::image()?, next_image()?);
    let operator = operator::Operator::kept(&[&image, &next])?;
    let manifest = operator.manifest(&operator::version(&next)?)?;
    let delta = manifest.uki.deltas.first().context("there is no delta")?;
    let inside = delta.pieces.iter().filter(|piece| piece.inside.is_some()).count();
    ensure!(inside == 2, "{:?}", delta.pieces);
    Ok(())
}

#[test]
fn builds_become_releases() -> Result<()> {
    let operator = Operator::new()?;
    let first = Build::make(&operator.at("first"), "1.0-1", "one")?;
    let second = Build::make(&operator.at("second"), "1.0-2", "two")?;
    // From here on the offline keys are in a safe, and nothing needs them.
    fs::rename(operator.at("safe"), operator.at("away"))?;
    for build in ["first", "second"] {
        let released = operator.release(build)?;
        ensure!(released.status.success(), "{}", said(&released));
    }
    ensure!(!operator.at("releases/.work").exists(), "the folder to work in is gone");
    let (old, new) = (operator.manifest("1.0-1")?, operator.manifest("1.0-2")?);
    ensure!(new.root_hash.to_string() == second.hash && old.root_hash.to_string() == first.hash);
    ensure!(old.may_follow(&new).is_ok() && new.may_return(&old).is_ok());
    ensure!(operator.whole(&new.root)? == fs::read(second.path("root"))?, "the root");
    ensure!(operator.whole(&new.verity)? == fs::read(second.path("verity"))?, "the hash tree");
    for (name, old, new) in [
        ("uki", &old.uki, &new.uki),
        ("root", &old.root, &new.root),
        ("verity", &old.verity, &new.verity),
    ] {
        let made = operator.by_delta(new, &operator.whole(old)?)?;
        ensure!(made == operator.whole(new)?, "{name} by delta");
        let (delta, whole) = (new.deltas[0].download.size, new.whole.size);
        ensure!(delta < whole / 2, "{name}: {delta} of {whole} bytes");
    }
    let seeds = &new.root.chunks.as_ref().context("no chunks")?.seeds;
    ensure!(seeds.len() == 1 && seeds[0].fetch < new.root.whole.size / 2, "{seeds:?}");

    let uki = operator.whole(&new.uki)?;
    ensure!(operator.starts(&uki, "db.pem")? && !operator.starts(&uki, "KEK.pem")?, "the UKI");
    ensure!(
        !operator.starts(&fs::read(second.path("efi"))?, "db.pem")?,
        "what was built is unsigned"
    );
    ensure!(
        operator.starts(&fs::read(operator.target(&new.loader.target)?)?, "db.pem")?,
        "the loader"
    );
    let mut changed = uki;
    changed[5000] ^= 1;
    ensure!(!operator.starts(&changed, "db.pem")?, "a changed UKI");

    operator.disk(&new)?;
    never_changed(&operator)
}

/// A release that is there is left as it is, and is never another one.
fn never_changed(operator: &Operator) -> Result<()> {
    let before = files(&operator.at("releases"))?;
    let again = operator.release("second")?;
    ensure!(
        again.status.success() && files(&operator.at("releases"))? == before,
        "{}",
        said(&again)
    );
    let other = Build::make(&operator.at("other"), "1.0-2", "three")?;
    let refused = operator.release("other")?;
    ensure!(
        said(&refused).contains("1.0-2 is released already, of another build"),
        "{}",
        said(&refused)
    );
    // The system of one build and the rest of another, as a build leaves it that is cut off.
    fs::copy(operator.at("second/trilith_1.0-2.efi"), other.path("efi"))?;
    let mixed = said(&operator.release("other")?);
    ensure!(mixed.contains("trilith_1.0-2.efi is not what SHA256SUMS says"), "{mixed}");
    ensure!(files(&operator.at("releases"))? == before, "nothing was changed");

    let mut refresh = operator.trilith(&["release", "refresh"])?;
    refresh.arg(operator.at("releases")).arg("--identity").arg(operator.at("identity"));
    done(&mut refresh)?;
    let metadata = |name: &str| operator.at("releases/metadata").join(name).exists();
    ensure!(metadata("3.snapshot.json") && !metadata("3.targets.json"), "only what had to be");
    Ok(())
}

/// SIGKILL in the middle: what nodes see is what was there before, and the next run leaves nothing over.
#[test]
fn a_release_is_cut_off() -> Result<()> {
    let operator = Operator::new()?;
    Build::make(&operator.at("first"), "1.0-1", "one")?;
    Build::make(&operator.at("second"), "1.0-2", "two")?;
    ensure!(operator.release("first")?.status.success());
    let metadata = || -> Result<Vec<Vec<u8>>> {
        let files = files(&operator.at("releases/metadata"))?;
        Ok(files.iter().map(fs::read).collect::<Result<_, _>>()?)
    };
    let (before, targets) = (metadata()?, files(&operator.at("releases/targets"))?);
    for step in ["disk image", "root: chunks", "what differs from 1.0-1"] {
        let running = Program::start(&mut operator.releasing("second")?)?;
        running.until(step)?;
        drop(running);
        ensure!(metadata()? == before, "at {step}: nobody is told");
        let left = files(&operator.at("releases/targets"))?;
        ensure!(targets.iter().all(|target| left.contains(target)), "at {step}: nothing is lost");
    }
    let released = operator.release("second")?;
    ensure!(released.status.success(), "{}", said(&released));
    ensure!(!operator.at("releases/.work").exists(), "the folder to work in is gone");
    let list = fs::read_to_string(operator.at("releases/metadata/2.targets.json"))?;
    for target in files(&operator.at("releases/targets"))? {
        let name = target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (sha256, name) = name.split_once('.').context("an odd name")?;
        ensure!(list.contains(sha256) && list.contains(name), "{name} is left over");
    }
    Ok(())
}

#[test]
fn keys_are_kept_and_replaced() -> Result<()> {
    let operator = Operator::new()?;
    for path in files(&operator.at("keys"))?.into_iter().chain(files(&operator.at("safe"))?) {
        let secret = path.extension().is_some_and(|end| end == "age");
        let mode = path.metadata()?.permissions().mode() & 0o777;
        ensure!(!secret || mode == 0o600, "{}: {mode:o}", path.display());
        let content = fs::read(&path)?;
        ensure!(!String::from_utf8_lossy(&content).contains("PRIVATE KEY"), "{}", path.display());
    }
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    let again = output(
        operator
            .trilith(&["keys", "init", "--recipient", &recipient])?
            .arg("--root-keys")
            .arg(operator.at("safe")),
    )?;
    ensure!(said(&again).contains("it is not overwritten"), "{}", said(&again));

    // A new key of db signs beside the one before, and one that was replaced twice signs no more.
    Build::make(&operator.at("first"), "1.0-1", "one")?;
    let certificate =
        |name: &str| fs::copy(operator.at("keys/db.pem"), operator.at("keys").join(name));
    certificate("first.pem")?;
    let rotate = |role: &str| -> Result<()> {
        let mut command = operator.trilith(&["keys", "rotate", role])?;
        command.arg("--root-keys").arg(operator.at("safe"));
        done(command.arg("--identity").arg(operator.at("identity")))
    };
    rotate("db")?;
    let pem = fs::read_to_string(operator.at("keys/db.pem"))?;
    let end = pem.rfind("-----BEGIN").context("no certificate")?;
    fs::write(operator.at("keys/second.pem"), &pem[end..])?;
    for role in ["targets", "snapshot", "timestamp", "root"] {
        rotate(role)?;
    }
    let released = operator.release("first")?;
    ensure!(released.status.success(), "{}", said(&released));
    let uki = operator.whole(&operator.manifest("1.0-1")?.uki)?;
    ensure!(operator.starts(&uki, "first.pem")? && operator.starts(&uki, "second.pem")?, "both");
    rotate("db")?;
    Build::make(&operator.at("second"), "1.0-2", "two")?;
    let released = operator.release("second")?;
    ensure!(released.status.success(), "{}", said(&released));
    let uki = operator.whole(&operator.manifest("1.0-2")?.uki)?;
    ensure!(
        !operator.starts(&uki, "first.pem")? && operator.starts(&uki, "second.pem")?,
        "the last two"
    );
    Ok(())
}

#[test]
fn firmware_is_given_keys_that_are_signed() -> Result<()> {
    let operator = Operator::new()?;
    let enroll = |more: &[&str], into: &str| -> Result<()> {
        let mut command = operator.trilith(&["keys", "enroll"])?;
        command.arg("--root-keys").arg(operator.at("safe")).arg("--tools").arg(artifact::tools()?);
        command.arg("--identity").arg(operator.at("identity")).arg("--into").arg(operator.at(into));
        done(command.args(more))
    };
    enroll(&[], "all")?;
    enroll(&["--no-microsoft"], "own")?;
    for (folder, numbers) in [("all", [1, 3, 6]), ("own", [1, 1, 1])] {
        for ((name, signer), number) in
            [("PK", "PK"), ("KEK", "PK"), ("db", "KEK")].into_iter().zip(numbers)
        {
            let variable = Variable::read(&operator, folder, name)?;
            variable.check(&operator, name, signer)?;
            ensure!(variable.certificates()? == number, "{folder}/{name}");
        }
    }
    // Media of a release carry them; but not those of keys that sign no more.
    Build::make(&operator.at("build"), "1.0-1", "one")?;
    done(operator.releasing("build")?.arg("--enroll").arg(operator.at("own")))?;
    let manifest = operator.manifest("1.0-1")?;
    for name in ["PK.auth", "KEK.auth", "db.auth"] {
        let given = operator.on_media(&manifest, &format!("loader/keys/auto/{name}"))?;
        ensure!(given == fs::read(operator.at("own").join(name))?, "{name} on the disk image");
    }
    let settings = String::from_utf8(operator.on_media(&manifest, "loader/loader.conf")?)?;
    ensure!(settings == "#timeout 3\nsecure-boot-enroll force\n", "{settings}");
    for _ in 0..2 {
        let mut rotate = operator.trilith(&["keys", "rotate", "db"])?;
        rotate.arg("--root-keys").arg(operator.at("safe"));
        done(rotate.arg("--identity").arg(operator.at("identity")))?;
    }
    Build::make(&operator.at("next"), "1.0-2", "two")?;
    let old = output(operator.releasing("next")?.arg("--enroll").arg(operator.at("own")))?;
    ensure!(said(&old).contains("run `trilith keys enroll` again"), "{}", said(&old));
    Ok(())
}

/// What firmware is given: a time, a signature and the lists that it is about (UEFI 2.10, 8.2.2).
struct Variable {
    time: Vec<u8>,
    signature: Vec<u8>,
    lists: Vec<u8>,
}

impl Variable {
    fn read(operator: &Operator, folder: &str, name: &str) -> Result<Self> {
        let bytes = fs::read(operator.at(folder).join(format!("{name}.auth")))?;
        // EFI_TIME; then WIN_CERTIFICATE_UEFI_GUID: its length, revision 2.0, type EFI_GUID, and EFI_CERT_TYPE_PKCS7_GUID.
        let (time, rest) = bytes.split_at(16);
        let length = usize::try_from(u32::from_le_bytes(rest[..4].try_into()?))?;
        ensure!(rest[4..8] == [0, 2, 0xf1, 0x0e], "{name}: no WIN_CERTIFICATE");
        ensure!(rest[8..12] == 0x4aaf_d29d_u32.to_le_bytes(), "{name}: no PKCS #7");
        let (certificate, lists) = rest.split_at(length);
        Ok(Self { time: time.into(), signature: certificate[24..].into(), lists: lists.into() })
    }

    /// Whether it is signed by that key, for that variable alone, as firmware checks it.
    fn check(&self, operator: &Operator, name: &str, signer: &str) -> Result<()> {
        // EFI_GLOBAL_VARIABLE, and EFI_IMAGE_SECURITY_DATABASE for db.
        let global = "61dfe48bca93d211aa0d00e098032b8c";
        let database = "cbb219d73a3d9645a3bcdad00e67656f";
        let vendor = if name == "db" { database } else { global };
        let vendor = (0..16).map(|at| u8::from_str_radix(&vendor[2 * at..][..2], 16));
        let mut content: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        content.extend(vendor.collect::<Result<Vec<u8>, _>>()?);
        // Kept, seen by boot and run time, written by signatures with a time.
        content.extend(0x27_u32.to_le_bytes());
        content.extend(&self.time);
        content.extend(&self.lists);
        let at = |name: &str| operator.at(name);
        fs::write(at("content"), content)?;
        fs::write(at("signature"), wrapped(&self.signature)?)?;
        let mut openssl = in_tools("openssl", &[operator.folder()])?;
        openssl.args(["smime", "-verify", "-binary", "-noverify", "-nointern", "-inform", "DER"]);
        openssl.arg("-in").arg(at("signature")).arg("-content").arg(at("content"));
        openssl.arg("-certfile").arg(at("keys").join(format!("{signer}.pem")));
        done(openssl.args(["-out", "/dev/null"]))
    }

    /// How many lists there are, each with one X.509 certificate (UEFI 2.10, 32.4.1: `EFI_SIGNATURE_LIST`).
    fn certificates(&self) -> Result<usize> {
        let (mut rest, mut count) = (self.lists.as_slice(), 0);
        while !rest.is_empty() {
            ensure!(rest[..4] == 0xa5c0_59a1_u32.to_le_bytes(), "a list of other things");
            rest = &rest[usize::try_from(u32::from_le_bytes(rest[16..20].try_into()?))?..];
            count += 1;
        }
        Ok(count)
    }
}

/// Firmware takes a bare `SignedData`; openssl wants it in a `ContentInfo` (RFC 2315, 7).
fn wrapped(data: &[u8]) -> Result<Vec<u8>> {
    let length = |content: usize| u16::try_from(content).map(u16::to_be_bytes);
    let oid = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
    let inner = [&[0xa0, 0x82][..], &length(data.len())?, data].concat();
    Ok([&[0x30, 0x82][..], &length(oid.len() + inner.len())?, &oid, &inner].concat())
}
