//! A build in small: what `trilith build` leaves, made by the same programs, but for what is in it. Root, hash tree, UKI
//! and ESP are real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::run;
use crate::machine::in_tools;

/// Where systemd's programs for firmware are.
const BOOT: &str = "/usr/lib/systemd/boot/efi";

/// Where the UKI is on the ESP, under the name that mkosi gives it.
pub const UKI: &str = "EFI/Linux/trilith-6.12.0-0123.efi";

/// What tells formats.
const PACKAGES: &str = "\
ceph-mon 18.2.7+ds-1+deb13u1 amd64
libvirt-daemon 11.3.0-3+deb13u3 amd64
postgresql-17 17.12-0+deb13u1 amd64
qemu-system-x86 1:10.0.13+ds-0+deb13u1 amd64
zookeeper 3.9.3-1+deb13u1 all
";

/// How many bytes each file of the root has.
const FILE: usize = 300_000;

/// A build.
#[derive(Debug)]
pub struct Build {
    folder: PathBuf,
    name: String,
    /// The root's hash.
    pub hash: String,
}

impl Build {
    /// Makes one of this version, in a folder that it makes. Two with different words differ in one file of forty.
    pub fn make(folder: &Path, version: &str, word: &str) -> Result<Self> {
        Self::of_size(folder, version, word, FILE)
    }

    /// The same with so many bytes in each of the forty files.
    pub fn of_size(folder: &Path, version: &str, word: &str, size: usize) -> Result<Self> {
        Self::differing(folder, (version, word), size, 1)
    }

    /// The same, but that so many of the files differ.
    pub fn differing(
        folder: &Path,
        (version, word): (&str, &str),
        size: usize,
        files: usize,
    ) -> Result<Self> {
        fs::create_dir_all(folder.join("tree/usr"))?;
        for number in 0..40 {
            let word = if (7..7 + files).contains(&number) { word } else { "the same" };
            fs::write(
                folder.join(format!("tree/usr/{number}")),
                noise(&format!("{number} {word}"), size),
            )?;
        }
        let name = format!("trilith_{version}");
        let mut build = Self { folder: folder.to_owned(), name, hash: String::new() };
        build.root()?;
        build.uki()?;
        build.disk()?;
        fs::write(build.path("packages.txt"), PACKAGES)?;
        fs::write(build.path("spdx.json"), "{}\n")?;
        build.sum_up()?;
        Ok(build)
    }

    /// One of its files, by the end of the name.
    pub fn path(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", self.name))
    }

    /// Writes down what its files are.
    fn sum_up(&self) -> Result<()> {
        let files = ["efi", "root", "verity", "packages.txt", "spdx.json"];
        let files = files.map(|ending| format!("{}.{ending}", self.name));
        let sums = run(Command::new("sha256sum").current_dir(&self.folder).args(files))?;
        Ok(fs::write(self.path("SHA256SUMS"), sums)?)
    }

    fn tool(&self, program: &str) -> Result<Command> {
        in_tools(program, &[&self.folder])
    }

    fn root(&mut self) -> Result<()> {
        let (root, tree) = (self.path("root"), self.path("verity"));
        let mut erofs = self.tool("mkfs.erofs")?;
        erofs.args(["--quiet", "-T0", "-U", "11111111-1111-4111-8111-111111111111"]);
        run(erofs.arg(&root).arg(self.folder.join("tree")))?;
        let said =
            run(self.tool("veritysetup")?.arg("format").arg(&root).arg(&tree).arg("--salt=00"))?;
        let hash = said.lines().find_map(|line| line.strip_prefix("Root hash:"));
        hash.context("veritysetup names no root hash")?.trim().clone_into(&mut self.hash);
        // It makes the file for root alone.
        Ok(fs::set_permissions(tree, fs::Permissions::from_mode(0o644))?)
    }

    fn uki(&self) -> Result<()> {
        let kernel = self.folder.join("kernel");
        fs::write(&kernel, [b"MZ".as_slice(), &noise("kernel", FILE)].concat())?;
        let mut ukify = self.tool("ukify")?;
        ukify.arg("build").arg(format!("--linux={}", kernel.display()));
        ukify.arg(format!("--stub={BOOT}/linuxx64.efi.stub")).arg("--uname=6.12.0");
        ukify.arg(format!("--cmdline=root=/dev/mapper/root ro roothash={}", self.hash));
        run(ukify.arg(format!("--output={}", self.path("efi").display())))?;
        Ok(())
    }

    /// A disk with nothing on it but an ESP, and nothing on that but boot loader and UKI, and what `bootctl install` makes.
    fn disk(&self) -> Result<()> {
        let disk = self.path("raw");
        fs::File::create(&disk)?.set_len(16 << 20)?;
        let table = "echo 'label: gpt\nstart=2048, size=20480, type=uefi' | sfdisk --quiet $0";
        run(self.tool("sh")?.args(["-c", table]).arg(&disk))?;
        run(self.tool("mkfs.vfat")?.args(["--offset=2048", "-F16"]).arg(&disk).arg("10240"))?;
        let esp = format!("{}@@1M", disk.display());
        let mut folders = self.tool("mmd")?;
        run(folders
            .args(["-i", &esp, "::/EFI", "::/EFI/systemd", "::/EFI/BOOT", "::/EFI/Linux"])
            .args(["::/loader", "::/loader/keys"]))?;
        let (loader, uki) = (format!("{BOOT}/systemd-bootx64.efi"), self.path("efi"));
        let settings = self.folder.join("loader.conf");
        fs::write(&settings, "#timeout 3\n")?;
        for (from, to) in [
            (Path::new(&loader), "EFI/systemd/systemd-bootx64.efi"),
            (Path::new(&loader), "EFI/BOOT/BOOTX64.EFI"),
            (&uki, UKI),
            (&settings, "loader/loader.conf"),
        ] {
            run(self.tool("mcopy")?.args(["-i", &esp]).arg(from).arg(format!("::/{to}")))?;
        }
        Ok(())
    }
}

/// Bytes that nothing can compress, the same for the same word (xorshift).
fn noise(word: &str, size: usize) -> Vec<u8> {
    let seed = word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let step = |state: &u64| {
        let state = state ^ (state << 13);
        let state = state ^ (state >> 7);
        Some(state ^ (state << 17))
    };
    let words = std::iter::successors(Some(seed), step);
    words.flat_map(u64::to_le_bytes).take(size).collect()
}
