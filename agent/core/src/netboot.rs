//! What a netboot server and a node that boots from it say to each other: plain HTTP, in which nothing is secret and
//! nothing is believed. The root image is checked against the root hash that the node was started with; the bundle is
//! encrypted to a key that the node has just made, and signed by the cluster.

use std::fmt::Write as _;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::names::MacAddr;

pub mod verity; // a disk's root against its root hash

/// What a node in its initrd calls itself to DHCP servers (option 60), so that ours tells it the server's URL.
pub const VENDOR_CLASS: &str = "trilith";

/// The architecture that it names beside that (option 93): UEFI HTTP boot on x86-64 (RFC 5970 and IANA's list). dnsmasq
/// answers as a proxy only those who name one.
pub const ARCHITECTURE: u16 = 16;

/// The TCP port of the server, unless it is told another.
pub const PORT: u16 = 29812;

/// A server, on the kernel's command line; there may be several. A machine that was told one by iPXE was started from the
/// network, whatever its firmware says.
pub const SERVER: &str = "trilith.netboot=";

/// What the server has, as paths below its URL.
pub mod path {
    /// What else there is ([`super::Manifest`], JSON).
    pub const MANIFEST: &str = "manifest.json";
    /// The UKI.
    pub const UKI: &str = "uki.efi";
    /// The release's disk, compressed with zstd.
    pub const DISK: &str = "disk.zst";
    /// The script for iPXE.
    pub const SCRIPT: &str = "boot.ipxe";
    /// Where a node asks for its bundle ([`super::Asking`], JSON).
    pub const BUNDLE: &str = "bundle";
    /// Where it says that it has it ([`super::Report`], JSON).
    pub const REPORT: &str = "report";
}

/// What a server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The release, as `trilith_VERSION`.
    pub release: String,
    /// The root hash of its root, in hex.
    pub root_hash: String,
    /// The size of its disk, in bytes.
    pub disk: u64,
    /// The size of the disk as it is sent, in bytes.
    pub compressed: u64,
}

/// A node asks for its bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asking {
    /// The age recipient (public key, `age1…`) that the answer is to be encrypted to.
    pub key: String,
    /// The MAC addresses that its NICs came with.
    pub macs: Vec<MacAddr>,
    /// Its serial number (SMBIOS type 1).
    pub serial: Option<String>,
    /// Its UUID (SMBIOS type 1).
    pub uuid: Option<String>,
}

/// Why there is no bundle, or not yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For the person at the node's console.
    pub reason: String,
}

/// A node has its bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The key that it had asked with.
    pub key: String,
    /// [`proof`] of the bundle.
    pub proof: String,
}

/// What a person compares at the node's console and at the server: the first 80 bits of the key's SHA-256. To make
/// another key that shows the same takes 2^80 tries on average.
pub fn fingerprint(key: &str) -> String {
    let hex = hex(&digest(&SHA256, key.as_bytes()).as_ref()[..10]);
    [&hex[..4], &hex[4..8], &hex[8..12], &hex[12..16], &hex[16..]].join("-")
}

/// What only who could decrypt the bundle knows, and what tells nothing about it: it holds long random secrets.
pub fn proof(bundle: &str) -> String {
    hex(digest(&SHA256, bundle.as_bytes()).as_ref())
}

/// Bytes as hex digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The address that follows from a URL of the kind that is used here: plain HTTP, an address in digits, because there
/// is no DNS in the initrd, and a folder. Gives host and port as a socket wants them, and the folder with a `/` at its
/// end.
pub fn split_url(url: &str) -> Option<(std::net::SocketAddr, String)> {
    let rest = url.trim().strip_prefix("http://")?;
    let (host, folder) = rest.split_once('/').unwrap_or((rest, ""));
    let address = host.parse().ok().or_else(|| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(std::net::SocketAddr::new(host.parse().ok()?, 80))
    })?;
    let folder = folder.trim_end_matches('/');
    let folder = if folder.is_empty() { "/".to_owned() } else { format!("/{folder}/") };
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~%".contains(c);
    folder.chars().all(plain).then_some((address, folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_short_and_follows_from_the_key() {
        let print = fingerprint("age1example");
        assert_eq!(print.len(), 24);
        assert_eq!(print, fingerprint("age1example"));
        assert_ne!(print, fingerprint("age1exampld"));
        assert!(print.split('-').all(|group| group.len() == 4), "{print}");
    }

    #[test]
    fn urls() {
        let url = |text| split_url(text).map(|(address, folder)| format!("{address}{folder}"));
        for (text, expected) in [
            ("http://10.0.0.1:29812/", "10.0.0.1:29812/"),
            ("http://10.0.0.1", "10.0.0.1:80/"),
            ("http://10.0.0.1/a/b", "10.0.0.1:80/a/b/"),
            ("http://[fd00::1]:81/x/", "[fd00::1]:81/x/"),
            ("http://[fd00::1]/", "[fd00::1]:80/"),
            (" http://10.0.0.1/\n", "10.0.0.1:80/"),
        ] {
            assert_eq!(url(text).as_deref(), Some(expected), "{text}");
        }
        for bad in ["", "10.0.0.1", "https://10.0.0.1/", "http://server/", "http://10.0.0.1/a b"] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }
}
