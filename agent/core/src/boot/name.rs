//! How the file of a system (UKI) is called, and how the boot loader counts tries in its name: `trilith_2.0+2-1.efi` has
//! two left and had one (UAPI group, UAPI.1 Boot Loader Specification, "Boot counting"; systemd-boot(7)).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::version::Version;

/// How often an activated release is tried before the boot loader takes another one.
pub const TRIES: u32 = 3;

/// How the files of systems end. FAT knows no case.
const ENDING: &str = ".efi";

/// The name of a system's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// What the release's files are called.
    pub stem: String,
    /// How often it may be tried; `None`: it is proven.
    pub tries: Option<Tries>,
}

/// A boot counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tries {
    /// How many are left.
    pub left: u32,
    /// How many were made.
    pub done: u32,
}

impl Name {
    /// A proven release's.
    pub fn proven(version: &Version) -> Self {
        Self { stem: version.label(), tries: None }
    }

    /// That of one that was never tried.
    pub fn fresh(version: &Version) -> Self {
        Self { stem: version.label(), tries: Some(Tries { left: TRIES, done: 0 }) }
    }

    /// That of one that has no tries left.
    pub fn bad(version: &Version) -> Self {
        Self { stem: version.label(), tries: Some(Tries { left: 0, done: TRIES }) }
    }

    /// What a file's name says. `None`: a boot loader does not look at it.
    pub fn of(file: &str) -> Option<Self> {
        let at = file.len().checked_sub(ENDING.len())?;
        let (stem, ending) = (file.get(..at)?, file.get(at..)?);
        if stem.is_empty() || !ending.eq_ignore_ascii_case(ENDING) {
            return None;
        }
        // Kernels' own versions have a `+` as well: what is not all digits is part of the name.
        let counted = stem.rsplit_once('+').filter(|(name, _)| !name.is_empty());
        let counted = counted.and_then(|(name, counter)| {
            Some(Self { stem: name.to_owned(), tries: Some(Tries::of(counter)?) })
        });
        Some(counted.unwrap_or_else(|| Self { stem: stem.to_owned(), tries: None }))
    }

    /// The same without tries: what it is called once it has proven itself.
    #[must_use]
    pub fn blessed(&self) -> Self {
        Self { stem: self.stem.clone(), tries: None }
    }

    /// Whether the boot loader takes it last: its tries are used up.
    pub fn is_bad(&self) -> bool {
        self.tries.is_some_and(|tries| tries.left == 0)
    }

    /// The release that it names, if it is one's.
    pub fn version(&self) -> Option<Version> {
        Version::of_label(&self.stem)
    }
}

impl Tries {
    /// `3`, `2-1`.
    fn of(text: &str) -> Option<Self> {
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| text.parse().ok())?
        };
        Some(match text.split_once('-') {
            Some((left, done)) => Self { left: number(left)?, done: number(done)? },
            None => Self { left: number(text)?, done: 0 },
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stem)?;
        match self.tries {
            None => {}
            Some(Tries { left, done: 0 }) => write!(f, "+{left}")?,
            Some(Tries { left, done }) => write!(f, "+{left}-{done}")?,
        }
        f.write_str(ENDING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_the_boot_loader_makes_of_them() {
        for (file, stem, tries) in [
            ("trilith_1.0-1.efi", "trilith_1.0-1", None),
            ("trilith_1.0-1+3.efi", "trilith_1.0-1", Some((3, 0))),
            ("trilith_1.0-1+2-1.efi", "trilith_1.0-1", Some((2, 1))),
            ("trilith_1+0-3.EFI", "trilith_1", Some((0, 3))),
            ("trilith-6.12+deb13-0ddd.efi", "trilith-6.12+deb13-0ddd", None),
            ("a++3.efi", "a+", Some((3, 0))),
            ("a+.efi", "a+", None),
            ("a+3-.efi", "a+3-", None),
            ("a+-1.efi", "a+-1", None),
            ("+3.efi", "+3", None),
            ("a+99999999999.efi", "a+99999999999", None),
        ] {
            let name = Name::of(file).unwrap();
            let tries = tries.map(|(left, done)| Tries { left, done });
            assert_eq!((name.stem.as_str(), name.tries), (stem, tries), "{file}");
            assert_eq!(name.to_string(), file.replace("EFI", "efi"));
        }
        for other in ["trilith_1.part", ".efi", "efi", "trilith_1.efi.part"] {
            assert_eq!(Name::of(other), None, "{other}");
        }
        let version = "1.0-1".parse().unwrap();
        assert_eq!(Name::fresh(&version).to_string(), "trilith_1.0-1+3.efi");
        assert_eq!(Name::bad(&version).to_string(), "trilith_1.0-1+0-3.efi");
        assert_eq!(Name::proven(&version).version(), Some(version));
    }

    #[test]
    fn what_has_no_tries_left_is_bad() {
        let name = |text: &str| Name::of(text).unwrap();
        assert!(name("trilith_2+0-3.efi").is_bad());
        assert!(!name("trilith_2+1-2.efi").is_bad());
        assert!(!name("trilith_2.efi").is_bad());
        assert_eq!(name("trilith_2+1-2.efi").blessed(), name("trilith_2.efi"));
        assert_eq!(name("debian.efi").version(), None);
    }
}
