//! The tools tree: a Debian root with mkosi, the compilers, QEMU and OVMF, so that every host builds the
//! same thing. Made once by mmdebstrap, kept below `target/`, entered by bubblewrap.

use std::env;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::key::Key;
use super::place::{self, Place};
use super::progress::Progress;
use super::sources;
use crate::exec;

/// What is in the tools tree, by the work that needs it.
const PACKAGES: &[&str] = &[
    // mkosi and what it calls
    "mkosi",
    "apt",
    "cpio",
    "cryptsetup-bin",
    "debian-archive-keyring",
    "dosfstools",
    "e2fsprogs",
    "erofs-utils",
    "kmod",
    "mtools",
    "reprepro",
    "systemd-boot",
    "systemd-boot-efi",
    "systemd-container",
    "systemd-cryptsetup",
    "systemd-repart",
    "systemd-ukify",
    "uidmap",
    "xz-utils",
    "zstd",
    "bubblewrap",
    "ca-certificates",
    // the agent: Rust comes from the host, what it links against from Debian
    "gcc",
    "libc6-dev",
    "libvirt-dev",
    "librados-dev",
    "pkg-config",
    // ZooKeeper's JRE, by jlink; objcopy strips it
    "openjdk-21-jdk-headless",
    "binutils",
    // signing, tests and the demo
    "diffutils",
    "fdisk",
    "iproute2",
    "iputils-ping",
    "openssl",
    "ovmf",
    "qemu-system-x86",
    "qemu-utils",
    "sbsigntool",
    "swtpm",
    "swtpm-tools",
];

/// The tools tree, ready to run programs in.
pub(crate) struct Tools {
    /// The tree's root.
    root: PathBuf,
    /// The repository, seen at the same path inside.
    top: PathBuf,
    /// Other folders seen at the same path inside: (path, writable).
    bound: Vec<(PathBuf, bool)>,
    /// Where its key came from: part of the key of everything that is made in it.
    pub(crate) key: String,
}

/// Makes the tools tree, or finds the one made before. `refresh` makes it anew.
pub(crate) fn make(
    place: &Place,
    progress: &Progress,
    mirror: Option<&str>,
    refresh: bool,
) -> Result<Tools> {
    let key = PACKAGES.iter().fold(Key::new("tools 1"), |key, package| key.text(package));
    let key = key.text(mirror.unwrap_or_default()).finish();
    let root = place.keyed("tools", &key);
    if refresh || !root.exists() {
        progress.step("tools tree: mmdebstrap (about a minute)");
        let new = place.fresh("tools")?;
        debootstrap(&new, mirror, &place.log("tools"))?;
        place::remove(&root)?;
        fs::rename(&new, &root).context("cannot put the tools tree in place")?;
        place.forget_others("tools", &key)?;
    } else {
        progress.kept("tools tree");
    }
    publish(place, &root)?;
    Ok(Tools { root, top: place.top.clone(), bound: Vec::new(), key })
}

fn debootstrap(root: &Path, mirror: Option<&str>, log: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=apt", &format!("--include={}", PACKAGES.join(","))]);
    command.arg(sources::RELEASE).arg(root);
    if let Some(mirror) = mirror {
        command.args(sources::one_line(mirror));
    }
    exec::run(&mut command, log, &["I: ", "E: "])
        .context("cannot make the tools tree (mmdebstrap of the host, and root, are needed)")
}

/// `target/tools` leads to the tree, for tests and for people.
fn publish(place: &Place, root: &Path) -> Result<()> {
    let link = place.top.join("target/tools");
    if link.is_dir() && !link.is_symlink() {
        bail!("{} is in the way: it should be a link to the tools tree", link.display());
    }
    place::remove(&link)?;
    symlink(root, &link).with_context(|| format!("cannot make {}", link.display()))
}

impl Tools {
    /// One that is there, for work in a folder: that of the repository here, if no other is named.
    pub(crate) fn existing(root: Option<&Path>, folder: &Path) -> Result<Self> {
        let root = match root {
            Some(root) => root.to_owned(),
            None => place::top().context("give --tools")?.join("target/tools"),
        };
        let root = root.canonicalize().with_context(|| {
            format!("there is no tools tree in {}; `trilith build` makes one", root.display())
        })?;
        Ok(Self { root, top: folder.to_owned(), bound: Vec::new(), key: String::new() })
    }

    /// The root of the tree.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Shows another folder at its own path inside the tree.
    pub(crate) fn bind(&mut self, path: &Path, writable: bool) {
        self.bound.push((path.to_owned(), writable));
    }

    /// A program in the tools tree, with the repository as the working directory and an environment
    /// that does not depend on who builds.
    ///
    /// Plain chroot does not do: mkosi's own sandbox needs `/` to be a mount point.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.command_with(program, &[])
    }

    /// The same with the content of open files, which it inherits, at these paths; what the program sees there is in
    /// memory alone.
    pub(crate) fn command_with(&self, program: &str, shown: &[(&str, File)]) -> Command {
        let mut command = Command::new("bwrap");
        command.arg("--bind").arg(&self.root).arg("/");
        command.args([
            "--dev-bind",
            "/dev",
            "/dev",
            "--proc",
            "/proc",
            "--ro-bind",
            "/sys",
            "/sys",
        ]);
        // apt's helper programs run as another user and make files here.
        command.args(["--perms", "1777", "--tmpfs", "/tmp", "--tmpfs", "/run"]);
        for host in ["/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"] {
            command.args(["--ro-bind-try", host, host]);
        }
        command.arg("--bind").arg(&self.top).arg(&self.top);
        for (path, file) in shown {
            command.args(["--perms", "0400", "--ro-bind-data"]);
            command.arg(file.as_raw_fd().to_string()).arg(path);
        }
        for (path, writable) in &self.bound {
            command.arg(if *writable { "--bind" } else { "--ro-bind" }).arg(path).arg(path);
        }
        // When the build is interrupted, everything that it started ends with it.
        command.args(["--cap-add", "ALL", "--unshare-pid", "--die-with-parent"]);
        command.arg("--chdir").arg(&self.top);
        command.arg("--").arg(program);
        environment(&mut command);
        command
    }
}

fn environment(command: &mut Command) {
    command.env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("HOME", "/root").env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    // How the host reaches the archive is the host's affair.
    for name in ["http_proxy", "https_proxy", "no_proxy"] {
        for name in [name.to_owned(), name.to_uppercase()] {
            if let Some(value) = env::var_os(&name) {
                command.env(name, value);
            }
        }
    }
}
