//! What was built: programs, image, tools tree.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The repository's top.
pub fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// Where cargo and `trilith build` put what they make.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// Where disks, logs and pictures of virtual machines are put, absolute; the first who asks makes it.
pub fn machines() -> Result<PathBuf> {
    let folder = target().join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    folder.canonicalize().with_context(|| folder.display().to_string())
}

/// A program of this workspace, built by the same profile as the running test: `trilithd`, `trilith`.
pub fn program(name: &str) -> Result<PathBuf> {
    let me = env::current_exe().context("cannot tell where this program lies")?;
    // target/debug/deps/vm-0123 or target/debug/trilith-demo
    let found =
        me.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|p| p.is_file());
    found.with_context(|| {
        format!("no {name} beside {}: `cargo build --bins` makes it", me.display())
    })
}

/// The Debian root with QEMU and OVMF in it, as `trilith build` makes it; `TRILITH_TOOLS` names another.
pub fn tools() -> Result<PathBuf> {
    let tools = env::var_os("TRILITH_TOOLS").map_or_else(|| target().join("tools"), PathBuf::from);
    let tools = tools.canonicalize().with_context(|| {
        format!("no tools tree at {}: `trilith build` makes it", tools.display())
    })?;
    if !tools.join("usr/bin/qemu-system-x86_64").exists() {
        bail!("the tools tree at {} has no qemu-system-x86_64", tools.display());
    }
    Ok(tools)
}

/// The newest raw disk image that `trilith build` made; `TRILITH_IMAGE` names another.
pub fn image() -> Result<PathBuf> {
    if let Some(path) = env::var_os("TRILITH_IMAGE") {
        return PathBuf::from(&path)
            .canonicalize()
            .with_context(|| format!("TRILITH_IMAGE={}", path.display()));
    }
    newest(&target().join("image"), |name| {
        Path::new(name).extension().is_some_and(|extension| extension == "raw")
    })
}

/// The newest package layer that `trilith build` made, without an operator's additions.
pub fn layer() -> Result<PathBuf> {
    newest(&target().join("build"), |name| {
        name.strip_prefix("layer-")
            .is_some_and(|key| key.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

/// The newest entry of a folder by name.
fn newest(folder: &Path, accept: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let context = || format!("nothing in {} yet: `trilith build` makes it", folder.display());
    let entries = folder.read_dir().with_context(context)?.filter_map(Result::ok);
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(&accept))
        .map(|entry| entry.path())
        .max_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok())
        .with_context(context)?
        .canonicalize()
        .with_context(context)
}

/// The root file system of [`image`], which `trilith build` leaves beside it.
pub fn root() -> Result<PathBuf> {
    let root = image()?.with_extension("root");
    if !root.is_file() {
        bail!("no {}: `trilith build` makes it", root.display());
    }
    Ok(root)
}

/// A cluster file that stands under tests/clusters/valid.
pub fn cluster(name: &str) -> PathBuf {
    repository().join("tests/clusters/valid").join(name)
}
