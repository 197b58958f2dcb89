//! References to secrets, and keys that are public.

use super::{require, text_value};

text_value! {
    /// The name of an entry of the secrets file. The cluster file never holds a secret, only such a name.
    SecretName, |name| require(
        is_secret_name(name),
        "this is the name of an entry in the secrets file: 1 to 63 of a-z, 0-9 and '-', beginning with a letter",
    )
}

text_value! {
    /// A public SSH key as one line of an `authorized_keys` file (sshd(8)), without options.
    SshKey, |key| check_ssh_key(key)
}

fn is_secret_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(allowed)
}

fn check_ssh_key(key: &str) -> Result<(), &'static str> {
    require(
        !key.contains("PRIVATE KEY"),
        "this is a private key: it must not leave your machine; give the .pub file's line",
    )?;
    require(!key.contains(['\n', '\r']), "an SSH key is one line")?;
    require(!key.starts_with("ssh-dss"), "DSA keys are refused by OpenSSH; use ssh-ed25519")?;
    require(
        ssh_key::PublicKey::from_openssh(key).is_ok(),
        "a public SSH key is type, base64 and a comment, such as 'ssh-ed25519 AAAA… me@host'",
    )
}
