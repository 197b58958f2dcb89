//! The TPM, by its tools (tpm2-tools), which find it by themselves. The one door to other programs.

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use trilith_core::names::EndorsementKey;
use trilith_core::sealed::Sealed;

/// The endorsement key in the TPM, as the tools keep it.
const KEY: &str = "endorsement.ctx";
/// A session that proves the right to use it.
const SESSION: &str = "session.ctx";
/// An uncompressed point of P-256: the end of its `SubjectPublicKeyInfo` (RFC 5480).
const POINT: usize = 65;

/// A TPM whose endorsement key is at hand.
pub(crate) struct Tpm {
    /// The key's public part.
    pub(crate) key: EndorsementKey,
    /// The file that stands for it.
    context: &'static str,
}

impl Tpm {
    /// Makes the endorsement key: always the same of the same TPM.
    pub(crate) fn endorsed() -> Result<Self> {
        let public = "endorsement.der";
        call("tpm2_createek", &["-G", "ecc", "-c", KEY, "-u", public, "-f", "der"])?;
        let der = fs::read(public).context("the TPM's tools left no key")?;
        let point = der.len().checked_sub(POINT).map(|start| &der[start..]);
        let point = BASE64_STANDARD.encode(point.context("the TPM's key is too short")?);
        let key = point.try_into().context("the TPM's key is of another kind")?;
        Ok(Self { key, context: KEY })
    }

    /// The data of an object that is wrapped to the endorsement key.
    pub(crate) fn unseal(&self, sealed: &Sealed) -> Result<Vec<u8>> {
        for (name, text) in [
            ("object.pub", &sealed.public),
            ("object.dup", &sealed.duplicate),
            ("object.seed", &sealed.seed),
        ] {
            let bytes = BASE64_STANDARD.decode(text).with_context(|| format!("{name}: base64"))?;
            fs::write(name, bytes).with_context(|| format!("cannot write {name}"))?;
        }
        let import = ["-i", "object.dup", "-s", "object.seed", "-u", "object.pub"];
        self.with_key("tpm2_import", &[&import[..], &["-r", "object.priv"]].concat())?;
        let load = ["-u", "object.pub", "-r", "object.priv", "-c", "object.ctx"];
        self.with_key("tpm2_load", &load)?;
        call("tpm2_unseal", &["-c", "object.ctx"])
    }

    /// A command on the endorsement key. Its policy asks for a session that proves the right to the endorsement
    /// hierarchy, which has no password (TCG EK Credential Profile, policy A).
    fn with_key(&self, program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
        let session = format!("session:{SESSION}");
        call("tpm2_startauthsession", &["--policy-session", "-S", SESSION])?;
        call("tpm2_policysecret", &["-S", SESSION, "-c", "endorsement"])?;
        let done = call(program, &[&["-C", self.context, "-P", &session], arguments].concat());
        call("tpm2_flushcontext", &[SESSION])?;
        done
    }
}

/// Runs a program to its end; gives what it writes.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
fn call(program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<Vec<u8>> {
    let name = program.as_ref().to_string_lossy().into_owned();
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name}: {}", said.trim().replace('\n', "; "));
    }
    ensure!(output.stdout.len() < 1 << 16, "{name} has too much to say");
    Ok(output.stdout)
}
