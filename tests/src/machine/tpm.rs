//! A machine's TPM 2.0: swtpm, which keeps its keys in the machine's folder.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use super::{end, in_tools};

/// A running TPM. It ends when this value goes out of scope.
#[derive(Debug)]
pub(super) struct Tpm(Child);

impl Tpm {
    /// Starts the one whose state is in this folder, or a new one.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let state = folder.join("tpm");
        fs::create_dir_all(&state).context("cannot make a folder for the TPM")?;
        let socket = socket(folder);
        let _left_by_the_last = fs::remove_file(&socket);
        // It is listened on before QEMU looks for it, whoever of the two starts first.
        let listener = UnixListener::bind(&socket)
            .with_context(|| format!("cannot listen on {}", socket.display()))?;
        let mut swtpm = in_tools("swtpm", &[folder])?;
        swtpm.args(["socket", "--tpm2", "--ctrl", "type=unixio,fd=0", "--tpmstate"]);
        swtpm.arg(format!("dir={}", state.display()));
        swtpm.stdin(Stdio::from(OwnedFd::from(listener)));
        Ok(Self(swtpm.spawn().context("cannot start swtpm")?))
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("tpm.socket")
}

/// QEMU's arguments for it.
pub(super) fn arguments(folder: &Path) -> String {
    let socket = socket(folder).display().to_string();
    format!(
        "-chardev socket,id=tpm,path={socket} -tpmdev emulator,id=tpm,chardev=tpm -device tpm-crb,tpmdev=tpm"
    )
}
