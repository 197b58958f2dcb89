//! `trilith keys rotate`: a key takes the place of another.

use clap::{Args, ValueEnum};
use time::OffsetDateTime;
use tough::schema::RoleType;
use trilith_core::secrets::Secret;

use super::store::{Offline, Online};
use super::tuf::Roots;
use super::{Folders, init, make, tuf};
use crate::exit::Exit;
use crate::vault::Unlock;

/// Replace a key by a new one.
///
/// Keys of the metadata get a new root, which is signed by the one before; it
/// reaches nodes with the next `trilith release` or `trilith release refresh`.
/// A new db key signs beside the one before it, so that firmware that knows
/// either of them starts what is released.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which one.
    role: Role,
    #[command(flatten)]
    folders: Folders,
    /// Whose it is, for the certificates of Secure Boot.
    #[arg(long, value_name = "NAME", default_value = "Trilith")]
    name: String,
    /// For how many days the new root holds.
    #[arg(long, value_name = "DAYS", default_value_t = init::ROOT_DAYS)]
    root_days: u32,
    #[command(flatten)]
    unlock: Unlock,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Root,
    Targets,
    Snapshot,
    Timestamp,
    Db,
    Kek,
    Pk,
    Verity,
}

/// How many keys of db sign: the new one and the one before.
const DB_KEYS: usize = 2;

/// Carries out the command.
pub(crate) fn run(options: &Options) -> anyhow::Result<Exit> {
    let Options { role, folders, name, root_days, unlock } = options;
    let (offline_vault, mut offline) = folders.open_offline(unlock)?;
    let (online_vault, mut online) = folders.open_online(unlock, &offline_vault)?;
    let roots = Roots::read(&folders.keys)?;
    let trusted = trusted(&roots, &offline)?;
    let next = replace(*role, name, &mut online, &mut offline)?;
    let root = match role {
        Role::Root | Role::Targets | Role::Snapshot | Role::Timestamp => {
            let keys = (&online, &offline);
            let root = tuf::next_root(keys, Some(&trusted), roots.next(), *root_days);
            Some(crate::release::block_on(root)?)
        }
        Role::Db | Role::Kek | Role::Pk | Role::Verity => None,
    };
    offline.root_before = Some(trusted).filter(|trusted| *trusted != offline.root);
    // First kept, then told: a key that a root names is never lost here.
    offline_vault.save(&offline)?;
    online_vault.save(&online)?;
    init::write_certificates(folders, &online, &offline)?;
    if let Some(root) = root {
        roots.add(&root)?;
    }
    eprintln!("{next}");
    Ok(Exit::Ok)
}

/// The key of the newest root. After a cut it is not the last one that was made.
fn trusted(roots: &Roots, offline: &Offline) -> anyhow::Result<Secret> {
    for key in [Some(&offline.root), offline.root_before.as_ref()].into_iter().flatten() {
        if roots.gives(RoleType::Root, key)? {
            return Ok(key.clone());
        }
    }
    anyhow::bail!("these are not the offline keys of the newest root")
}

/// Replaces it, and says what comes next.
fn replace(
    role: Role,
    name: &str,
    online: &mut Online,
    offline: &mut Offline,
) -> anyhow::Result<&'static str> {
    let firmware = |role: &str| make::firmware_key(name, role, OffsetDateTime::now_utc());
    let metadata = |key: &mut Secret| -> anyhow::Result<&'static str> {
        *key = make::role_key()?;
        Ok("replaced: now `trilith release refresh`, with the key that is new")
    };
    match role {
        Role::Root => metadata(&mut offline.root),
        Role::Targets => metadata(&mut online.targets),
        Role::Snapshot => metadata(&mut online.snapshot),
        Role::Timestamp => metadata(&mut online.timestamp),
        Role::Db => {
            online.db.push(firmware("db")?);
            let surplus = online.db.len().saturating_sub(DB_KEYS);
            online.db.drain(..surplus);
            Ok(
                "replaced: the one before signs as well until the next time; now enroll the new one \
                in all firmware",
            )
        }
        Role::Kek => {
            offline.kek = firmware("KEK")?;
            Ok("replaced: firmware takes it in setup mode alone")
        }
        Role::Pk => {
            offline.pk = firmware("PK")?;
            Ok("replaced: firmware takes it in setup mode alone")
        }
        Role::Verity => {
            online.verity = firmware("verity")?;
            Ok("replaced: the next release is signed with it")
        }
    }
}
