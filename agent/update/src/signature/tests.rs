//! What a program is without tools: with sbsign's own signatures `ci/vm` shows it.

use std::collections::BTreeSet;

use super::*;

/// A program with one section and something behind it, and room for signatures.
fn program() -> Vec<u8> {
    const HEAD: usize = 0x200;
    let mut bytes = vec![0; 0x40];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x40;
    bytes.extend(b"PE\0\0");
    bytes.extend([0x64, 0x86, 1, 0]);
    bytes.extend([0; 12]);
    bytes.extend([240, 0, 0x22, 0]);
    let mut optional = vec![0; 240];
    optional[..2].copy_from_slice(&[0x0b, 0x02]);
    optional[60..64].copy_from_slice(&u32::try_from(HEAD).unwrap().to_le_bytes());
    optional[108] = 16;
    bytes.extend(optional);
    bytes.extend(b".cmdline");
    for word in [16_u32, 0x1000, 16, 0x200, 0, 0, 0, 0x4000_0040] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.resize(HEAD, 0);
    bytes.extend(b"roothash=0123456");
    bytes.extend(b"behind it");
    bytes
}

fn judged(bytes: &[u8], db: &Database, dbx: &Database) -> Result<(), String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    check(file.path(), db, dbx).map_err(|error| format!("{error:#}"))
}

fn digest_of(bytes: &[u8]) -> [u8; 32] {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    Program::read(file.path()).unwrap().digest
}

fn by_digest(bytes: &[u8]) -> Database {
    Database { programs: BTreeSet::from([digest_of(bytes)]), ..Database::default() }
}

#[test]
fn what_is_not_signed_needs_its_digest_in_db() {
    let (bytes, none) = (program(), Database::default());
    assert_eq!(judged(&bytes, &none, &none).unwrap_err(), "it is not signed");
    judged(&bytes, &by_digest(&bytes), &none).unwrap();
    let both = by_digest(&bytes);
    assert_eq!(judged(&bytes, &both, &both).unwrap_err(), "it is in the firmware's dbx");
}

/// The sum over the file and the place of the signatures are not part of the digest; every other byte is.
#[test]
fn the_digest_is_of_all_that_is_started() {
    let bytes = program();
    let digest = digest_of(&bytes);
    let optional = 0x40 + 24;
    for at in [2, optional + 40, 0x1f0, 0x205, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert_ne!(digest_of(&changed), digest, "byte {at}");
    }
    let mut changed = bytes;
    changed[optional + 64] ^= 1;
    assert_eq!(digest_of(&changed), digest);
}

#[test]
fn what_is_no_program_is_refused() {
    let (bytes, none) = (program(), Database::default());
    for broken in [b"MZ".as_slice(), b"roothash", &bytes[..0x100], &bytes[..0x208]] {
        judged(broken, &none, &none).unwrap_err();
    }
    let mut table = bytes;
    let entry = 0x40 + 24 + 112 + 32;
    table[entry..entry + 8].copy_from_slice(&[0xff; 8]);
    assert!(judged(&table, &none, &none).unwrap_err().contains("does not fit"));
}

#[test]
fn a_signature_that_is_none_does_not_count() {
    let mut bytes = program();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let at = u32::try_from(bytes.len()).unwrap();
    let entry = 0x40 + 24 + 112 + 32;
    bytes[entry..entry + 4].copy_from_slice(&at.to_le_bytes());
    bytes[entry + 4..entry + 8].copy_from_slice(&16_u32.to_le_bytes());
    bytes.extend([16, 0, 0, 0, 0, 2, 2, 0, 0x30, 0x80, 1, 2, 3, 4, 5, 6]);
    let none = Database::default();
    assert!(judged(&bytes, &none, &none).unwrap_err().contains("no signature"));
}
