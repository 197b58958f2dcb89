//! `trilith keys show`: what keys there are. Nothing secret is needed for it.

use std::fmt::Write as _;

use anyhow::{Context as _, anyhow};
use clap::Args;
use sha2::{Digest as _, Sha256};
use tough::schema::RoleType;

use super::Folders;
use super::tuf::Roots;
use crate::config;
use crate::exit::Exit;

/// Show the certificates and the newest root, by their fingerprints.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    folders: Folders,
}

/// Carries out the command.
pub(crate) fn run(options: &Options) -> anyhow::Result<Exit> {
    let folder = &options.folders.keys;
    let roots = Roots::read(folder)?;
    let mut text = String::new();
    for name in ["PK", "KEK", "db", "verity"] {
        let path = folder.join(format!("{name}.pem"));
        let pem = std::fs::read_to_string(&path);
        let pem = pem.with_context(|| format!("cannot read {}", path.display()))?;
        for certificate in certificates(&pem)? {
            writeln!(text, "{name}: SHA-256 {}", crate::build::hex(&Sha256::digest(certificate)))?;
        }
    }
    for role in [RoleType::Root, RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp] {
        let keys = roots.newest.roles.get(&role).context("the newest root lacks a role")?;
        for id in &keys.keyids {
            writeln!(text, "{role}: key {}", crate::build::hex(id))?;
        }
    }
    let (version, expires) = (roots.newest.version, roots.newest.expires);
    writeln!(text, "root: version {version}, until {expires}")?;
    let first = roots.files.first().context("there is no first root")?;
    writeln!(text, "for the cluster file's `update`:\n{}", trust(first))?;
    config::print(&text)?;
    Ok(Exit::Ok)
}

/// The line of the cluster file by which nodes trust these keys: all others follow from the first root.
pub(super) fn trust(first: &[u8]) -> String {
    format!("  trust: {}", crate::build::hex(&Sha256::digest(first)))
}

/// The certificates of a PEM file, in DER.
fn certificates(pem: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let decode = |pem: &str| {
        let (_, der) = pem_rfc7468::decode_vec(pem.as_bytes())
            .map_err(|error| anyhow!("a certificate is not PEM: {error}"))?;
        Ok(der)
    };
    pem.split_inclusive(END).map(decode).collect()
}
