//! SSH: the node's host key, and who may log in. What holds for every node stands in the image's own
//! `sshd_config.d`.

use super::Facts;
use crate::services::{AUTHORIZED_KEYS, Desired, File, OnChange, Owner, SSH, UnitWish};

/// The folder of the host key.
pub const SECRETS: &str = "/run/trilith/ssh";
/// The node's host key (`HostKey` in the image's sshd configuration).
pub const HOST_KEY: &str = "/run/trilith/ssh/ssh_host_ed25519_key";

/// SSH where somebody may log in; nothing elsewhere.
pub fn desired(facts: Facts<'_>) -> Desired {
    let mut desired = Desired::default();
    let keys: Vec<String> = facts.config.ssh_keys.iter().map(|key| format!("{key}\n")).collect();
    if keys.is_empty() {
        return desired;
    }
    desired.files.insert(AUTHORIZED_KEYS.into(), File::secret(keys.concat(), Owner::default()));
    let host_key = facts.secrets.ssh_host_key.reveal();
    desired.files.insert(HOST_KEY.into(), File::secret(host_key, Owner::default()));
    // sshd looks for the keys at each login.
    let wish = UnitWish::default().reads(AUTHORIZED_KEYS, OnChange::Nothing).reloads_on(HOST_KEY);
    desired.units.insert(SSH, wish);
    desired
}
