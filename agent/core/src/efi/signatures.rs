//! The firmware's signature databases `db` and `dbx` (UEFI specification 2.10, 32.4.1): whose programs it starts, and which
//! it does not whoever signed them.

use std::collections::BTreeSet;

use super::Guid;

/// The vendor of the variables `db` and `dbx` (`EFI_IMAGE_SECURITY_DATABASE_GUID`).
pub const VENDOR: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";

/// Lists of certificates in DER.
const X509: &str = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072";
/// Lists of digests of programs.
const SHA256: &str = "c1c41626-504c-4092-aca9-41f936934328";
/// Lists of digests of what certificates sign (the "to be signed" part), each with a time.
const X509_SHA256: &str = "3bd2a492-96c0-4079-b420-fcf98ef103ed";

/// How many bytes a digest has.
const DIGEST: usize = 32;
/// How many bytes say whose an entry is.
const OWNER: usize = 16;
/// How many bytes a list begins with: its type, and three sizes.
const HEAD: usize = 28;

/// A database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Database {
    /// Certificates in DER.
    pub certificates: Vec<Vec<u8>>,
    /// Digests of programs, as Authenticode makes them.
    pub programs: BTreeSet<[u8; DIGEST]>,
    /// Digests of what certificates sign.
    pub signed: BTreeSet<[u8; DIGEST]>,
}

/// What is no list of signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the firmware's signature database breaks off in the middle of a list")]
pub struct Broken;

impl Database {
    /// Reads a variable's value. Lists of other kinds are left out.
    ///
    /// # Errors
    /// It is no such value.
    pub fn read(mut value: &[u8]) -> Result<Self, Broken> {
        let mut database = Self::default();
        while !value.is_empty() {
            let size = number(value, 16)?;
            if size < HEAD || size > value.len() {
                return Err(Broken);
            }
            let (list, rest) = value.split_at(size);
            database.add(list)?;
            value = rest;
        }
        Ok(database)
    }

    fn add(&mut self, list: &[u8]) -> Result<(), Broken> {
        let kind: [u8; 16] = list[..16].try_into().map_err(|_| Broken)?;
        let (header, size) = (number(list, 20)?, number(list, 24)?);
        let entries = HEAD.checked_add(header).and_then(|from| list.get(from..)).ok_or(Broken)?;
        if size <= OWNER {
            return Err(Broken);
        }
        let data = entries.chunks_exact(size).map(|entry| &entry[OWNER..]);
        let digest = |data: &[u8]| <[u8; DIGEST]>::try_from(data.get(..DIGEST)?).ok();
        match Guid::from_firmware(kind).to_string().as_str() {
            X509 => self.certificates.extend(data.map(<[u8]>::to_vec)),
            SHA256 => self.programs.extend(data.filter_map(digest)),
            X509_SHA256 => self.signed.extend(data.filter_map(digest)),
            _ => {}
        }
        Ok(())
    }
}

fn number(bytes: &[u8], at: usize) -> Result<usize, Broken> {
    let bytes = bytes.get(at..at + 4).and_then(|it| it.try_into().ok()).ok_or(Broken)?;
    usize::try_from(u32::from_le_bytes(bytes)).map_err(|_| Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(kind: &str, data: &[&[u8]]) -> Vec<u8> {
        let size = data[0].len() + OWNER;
        let mut list = kind.parse::<Guid>().unwrap().to_firmware().to_vec();
        for number in [HEAD + size * data.len(), 0, size] {
            list.extend(u32::try_from(number).unwrap().to_le_bytes());
        }
        for data in data {
            list.extend([7; OWNER]);
            list.extend(*data);
        }
        list
    }

    #[test]
    fn lists_of_every_kind() {
        let (a, b) = ([1; DIGEST], [2; DIGEST]);
        let timed = [[3; DIGEST].as_slice(), &[0; 16]].concat();
        let value = [
            list(X509, &[b"certificate"]),
            list(SHA256, &[&a, &b]),
            list(X509_SHA256, &[&timed]),
            list("826ca512-cf10-4ac9-b187-be01496631bd", &[&[0; 20]]),
        ];
        let read = Database::read(&value.concat()).unwrap();
        let expected = Database {
            certificates: vec![b"certificate".to_vec()],
            programs: [a, b].into(),
            signed: [[3; DIGEST]].into(),
        };
        assert_eq!(read, expected);
        assert_eq!(Database::read(&[]), Ok(Database::default()));
    }

    #[test]
    fn what_breaks_off_is_none() {
        let whole = list(SHA256, &[&[1; DIGEST]]);
        for end in 1..whole.len() {
            assert_eq!(Database::read(&whole[..end]), Err(Broken), "{end}");
        }
        let mut endless = whole;
        endless[16..20].copy_from_slice(&[0; 4]);
        assert_eq!(Database::read(&endless), Err(Broken));
    }
}
