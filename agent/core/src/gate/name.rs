//! How the boot loader counts tries, in the names of systems: `trilith_2.0+2-1.efi` has two tries left and had one
//! (UAPI group, UAPI.1 Boot Loader Specification, "Boot counting").

use std::fmt;
use std::str::FromStr;

use crate::version::Version;

/// What the name of a system (UKI) ends with.
pub const SUFFIX: &str = ".efi";

/// The name of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Without tries and suffix: `trilith_2.0`.
    pub stem: String,
    /// Its tries; `None`: it is proven, or nobody counts.
    pub tries: Option<Tries>,
}

/// Tries of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    /// How many are left.
    pub left: u32,
    /// How many it had.
    pub done: u32,
}

impl Name {
    /// The release in it; `None`: it is named otherwise.
    pub fn version(&self) -> Option<Version> {
        Version::of_label(&self.stem)
    }

    /// The same without tries: what it is called once it has proven itself.
    #[must_use]
    pub fn proven(&self) -> Self {
        Self { stem: self.stem.clone(), tries: None }
    }

    /// Whether all tries are used.
    pub fn is_used_up(&self) -> bool {
        self.tries.is_some_and(|tries| tries.left == 0)
    }
}

/// A name that is no system's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of a system, such as trilith_2.0+3.efi")]
pub struct NoName(String);

impl FromStr for Name {
    type Err = NoName;

    /// Kernels' own versions have a `+` as well: what is not all digits is part of the name.
    fn from_str(text: &str) -> Result<Self, NoName> {
        let stem = text.strip_suffix(SUFFIX).filter(|stem| !stem.is_empty());
        let stem = stem.ok_or_else(|| NoName(text.to_owned()))?;
        let counted = stem.rsplit_once('+').and_then(|(name, tries)| Some((name, read(tries)?)));
        Ok(match counted {
            Some((name, tries)) if !name.is_empty() => {
                Self { stem: name.to_owned(), tries: Some(tries) }
            }
            _ => Self { stem: stem.to_owned(), tries: None },
        })
    }
}

fn read(text: &str) -> Option<Tries> {
    let (left, done) = text.split_once('-').unwrap_or((text, "0"));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    Some(Tries { left: number(left)?, done: number(done)? })
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stem)?;
        match self.tries {
            None => {}
            Some(Tries { left, done: 0 }) => write!(f, "+{left}")?,
            Some(Tries { left, done }) => write!(f, "+{left}-{done}")?,
        }
        f.write_str(SUFFIX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (text, stem, tries) in [
            ("trilith_2.0.efi", "trilith_2.0", None),
            ("trilith_2.0+3.efi", "trilith_2.0", Some((3, 0))),
            ("trilith_2.0+2-1.efi", "trilith_2.0", Some((2, 1))),
            ("trilith_2026.11.22-1+0-3.efi", "trilith_2026.11.22-1", Some((0, 3))),
            // As mkosi names a system.
            ("trilith-6.12+deb13-amd64-0123.efi", "trilith-6.12+deb13-amd64-0123", None),
            (
                "trilith-6.12+deb13-amd64-0123+1-2.efi",
                "trilith-6.12+deb13-amd64-0123",
                Some((1, 2)),
            ),
            ("a+3-.efi", "a+3-", None),
            ("a++3.efi", "a+", Some((3, 0))),
            ("+3.efi", "+3", None),
            ("a+99999999999.efi", "a+99999999999", None),
        ] {
            let name: Name = text.parse().unwrap();
            assert_eq!(name.stem, stem, "{text}");
            assert_eq!(name.tries.map(|it| (it.left, it.done)), tries, "{text}");
            assert_eq!(name.to_string(), text);
        }
        for text in ["", ".efi", "a", "a.efi.part", "a+3.part"] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_has_no_tries_left_is_used_up() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        assert!(name("trilith_2+0-3.efi").is_used_up());
        assert!(!name("trilith_2+1-2.efi").is_used_up());
        assert!(!name("trilith_2.efi").is_used_up());
        assert_eq!(name("trilith_2+1-2.efi").proven().to_string(), "trilith_2.efi");
        assert_eq!(name("trilith_2+1-2.efi").version(), Some("2".parse().unwrap()));
        assert_eq!(name("debian.efi").version(), None);
    }
}
