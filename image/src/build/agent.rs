//! The agent, built in the tools tree by the host's Rust toolchain against Debian 13's libraries.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::place::Place;
use super::progress::Progress;
use super::tools::Tools;
use crate::exec;

/// The agent's programs, and where they lie in the image: those that no person calls apart.
const PROGRAMS: [(&str, &str); 11] = [
    ("trilithd", "usr/bin"),
    ("trilith-rados", "usr/lib/trilith"),
    ("trilith-console", "usr/lib/trilith"),
    ("trilith-tpm", "usr/lib/trilith"),
    ("trilith-install", "usr/lib/trilith"),
    ("trilith-boot-entries", "usr/lib/trilith"),
    ("trilith-gate", "usr/lib/trilith"),
    ("trilith-update", "usr/lib/trilith"),
    ("trilith-evacuate", "usr/lib/trilith"),
    ("trilith-share", "usr/lib/trilith"),
    ("trilith-wave", "usr/lib/trilith"),
];

/// The crates that they are made of.
const CRATES: [&str; 10] = [
    "trilith-agent",
    "trilith-console",
    "trilith-evacuate",
    "trilith-gate",
    "trilith-metal",
    "trilith-netboot",
    "trilith-rados",
    "trilith-tpm",
    "trilith-update",
    "trilith-wave",
];

/// What the initrd calls, and where it lies there.
const INITRD: [(&str, &str); 2] =
    [("trilith-initrd", "usr/lib/trilith"), ("trilith-netboot", "usr/lib/trilith")];

/// What the build of the agent gives.
pub(crate) struct Agent {
    /// A tree with the initrd's own programs in it.
    pub(crate) initrd: PathBuf,
    /// A tree with the agent in it, to be laid over the root.
    pub(crate) tree: PathBuf,
    /// Its crates with their licences, as `cargo tree` lists them.
    pub(crate) crates: String,
}

/// Builds the agent. cargo itself knows what changed, so that a second run takes a moment.
pub(crate) fn build(place: &Place, progress: &Progress, tools: &mut Tools) -> Result<Agent> {
    progress.step("agent: cargo build --release");
    let cargo = Cargo::of_the_host()?;
    tools.bind(&cargo.toolchain, false);
    tools.bind(&cargo.home, true);
    let target = place.kept.join("agent");
    let mut command = cargo.command(tools, &place.top, &target);
    command.args(["build", "--release", "--locked"]).args(packages());
    exec::run(&mut command, &place.log("agent"), &["Compiling", "error", "Finished"])?;
    let tree = place.kept.join("agent-tree");
    for (program, folder) in PROGRAMS {
        install(&target.join("release").join(program), &tree.join(folder).join(program))?;
    }
    let initrd = place.kept.join("initrd-tree");
    for (program, folder) in INITRD {
        install(&target.join("release").join(program), &initrd.join(folder).join(program))?;
    }
    let mut list = cargo.command(tools, &place.top, &target);
    list.args(["tree", "--locked", "--prefix", "none"]).args(packages());
    list.args(["--edges", "normal", "--format", "{p}|{l}"]);
    Ok(Agent { initrd, tree, crates: exec::output(&mut list)? })
}

/// The crates, as cargo wants them told.
fn packages() -> impl Iterator<Item = &'static str> {
    CRATES.iter().flat_map(|name| ["--package", name])
}

/// Copies the program, but only if it changed: its time is part of nothing, its bytes are.
fn install(program: &Path, to: &Path) -> Result<()> {
    let new = fs::read(program).with_context(|| format!("no agent at {}", program.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(program, to).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(())
}

/// The host's Rust: where the toolchain and cargo's home lie.
struct Cargo {
    toolchain: PathBuf,
    home: PathBuf,
}

impl Cargo {
    fn of_the_host() -> Result<Self> {
        let sysroot = exec::output(Command::new("rustc").args(["--print", "sysroot"]))
            .context("a Rust toolchain is needed on the host")?;
        let toolchain = PathBuf::from(sysroot.trim());
        if toolchain == Path::new("/usr") || !toolchain.join("bin/cargo").exists() {
            bail!(
                "the Rust toolchain at {} cannot be used in the tools tree: install one by rustup",
                toolchain.display()
            );
        }
        let home = env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")));
        let home = home.context("neither CARGO_HOME nor HOME is set")?;
        fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
        Ok(Self { toolchain, home })
    }

    /// cargo in the tools tree. No path of this machine gets into the program: the same sources give
    /// the same bytes wherever they lie.
    fn command(&self, tools: &Tools, top: &Path, target: &Path) -> Command {
        let mut command = tools.command("cargo");
        let maps = [(top, "/trilith"), (&*self.home, "/cargo"), (&*self.toolchain, "/rust")];
        let flags: Vec<_> = maps
            .iter()
            .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
            .collect();
        // cargo reads flags apart at this character, so that paths may have blanks.
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
        command.env("CARGO_HOME", &self.home).env("CARGO_TARGET_DIR", target);
        let path = format!("{}:/usr/bin:/usr/sbin", self.toolchain.join("bin").display());
        command.env("PATH", path).env("CARGO_TERM_COLOR", "never");
        command
    }
}
