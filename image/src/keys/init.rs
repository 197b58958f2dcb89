//! `trilith keys init`: all keys, and the first root.

use std::num::NonZeroU64;

use anyhow::{Context as _, ensure};
use clap::Args;
use time::OffsetDateTime;
use uuid::Uuid;

use super::store::{Offline, Online, VERSION};
use super::{Folders, make, show, tuf, write_public};
use crate::exit::Exit;
use crate::release::files;
use crate::vault::{Lock, Protection, Vault};

/// Make all keys that releases are signed with: Secure Boot's PK, KEK and db,
/// the key of root hashes, and the keys of the signed metadata.
///
/// They are encrypted for age recipients, or with a passphrase. Nothing that is
/// there is overwritten.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    folders: Folders,
    /// Whose they are: it stands in the certificates that firmware shows.
    #[arg(long, value_name = "NAME", default_value = "Trilith")]
    name: String,
    /// For how many days the first root holds.
    #[arg(long, value_name = "DAYS", default_value_t = ROOT_DAYS)]
    root_days: u32,
    #[command(flatten)]
    protection: Protection,
}

/// Who trusts a release trusts it by a root, and nodes that are never updated must not lose that by themselves: it is
/// replaced when a key is.
pub(super) const ROOT_DAYS: u32 = 365 * 5;

/// Carries out the command.
pub(crate) fn run(options: &Options) -> anyhow::Result<Exit> {
    let Options { folders, name, root_days, protection } = options;
    let (online, offline) = (folders.online(), folders.offline());
    let roots = tuf::folder(&folders.keys);
    for there in [&online, &offline, &roots] {
        ensure!(!there.exists(), "{} exists already; it is not overwritten", there.display());
    }
    for folder in [Some(&folders.keys), folders.root_keys.as_ref()].into_iter().flatten() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let lock = protection.lock()?;
    let (inside, outside) = keys(name, &lock)?;
    let first = tuf::next_root((&inside, &outside), None, NonZeroU64::MIN, *root_days);
    let first = crate::release::block_on(first)?;
    Vault::create(&offline, &lock, &outside)?;
    Vault::create(&online, &lock, &inside)?;
    write_certificates(folders, &inside, &outside)?;
    // The last one: without it nothing else counts.
    files::make_folder(&roots)?;
    write_public(&roots.join("1.root.json"), &first)?;
    eprintln!("{}: signs releases", online.display());
    eprintln!("{}: says who may sign them; keep it apart, and keep a copy", offline.display());
    eprintln!("{}: what nodes trust from the beginning", roots.join("1.root.json").display());
    eprintln!("for the cluster file's `update`:\n{}", show::trust(&first));
    Ok(Exit::Ok)
}

fn keys(name: &str, lock: &Lock) -> anyhow::Result<(Online, Offline)> {
    let firmware = |role: &str| make::firmware_key(name, role, OffsetDateTime::now_utc());
    let online = Online {
        version: VERSION,
        recipients: lock.recipients(),
        db: vec![firmware("db")?],
        verity: firmware("verity")?,
        targets: make::role_key()?,
        snapshot: make::role_key()?,
        timestamp: make::role_key()?,
    };
    let offline = Offline {
        version: VERSION,
        recipients: lock.recipients(),
        root: make::role_key()?,
        root_before: None,
        pk: firmware("PK")?,
        kek: firmware("KEK")?,
        owner: Uuid::new_v4().to_string(),
    };
    Ok((online, offline))
}

/// What is public, for people and other tools.
pub(super) fn write_certificates(
    folders: &Folders,
    online: &Online,
    offline: &Offline,
) -> anyhow::Result<()> {
    let db: String = online.db.iter().map(|pair| pair.certificate.as_str()).collect();
    for (name, text) in [
        ("PK.pem", &offline.pk.certificate),
        ("KEK.pem", &offline.kek.certificate),
        ("db.pem", &db),
        ("verity.pem", &online.verity.certificate),
    ] {
        write_public(&folders.keys.join(name), text.as_bytes())?;
    }
    Ok(())
}
