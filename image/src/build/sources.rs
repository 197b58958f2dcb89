//! Where Debian's packages come from. The repository names no mirror: it is the one that mmdebstrap
//! writes into the tools tree by itself, or the one of `--mirror`.

use anyhow::{Result, bail};

/// The Debian release that everything is built from.
pub(crate) const RELEASE: &str = "trixie";

/// What mmdebstrap takes for `--mirror URL`: the release, its updates, and the security archive, which
/// mirrors keep beside the main one under the same name with `-security`.
pub(crate) fn one_line(mirror: &str) -> [String; 3] {
    let mirror = mirror.trim_end_matches('/');
    [
        format!("deb {mirror} {RELEASE} main"),
        format!("deb {mirror} {RELEASE}-updates main"),
        format!("deb {mirror}-security {RELEASE}-security main"),
    ]
}

/// mkosi's sources from the tools tree's: the same archives, with firmware, and without the debug
/// archive that mkosi adds by itself and not every mirror carries. `point_release`: without the archives of what has changed
/// since Debian's last point release.
///
/// # Errors
/// A line that is not `deb URL SUITE COMPONENT…`, or none at all.
pub(crate) fn deb822(list: &str, point_release: bool) -> Result<String> {
    let lines =
        list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut stanzas = Vec::new();
    for line in lines {
        let words: Vec<_> = line.split_whitespace().filter(|word| !word.starts_with('[')).collect();
        let ["deb", url, suite, _, ..] = words[..] else {
            bail!("the tools tree's apt sources have a line that is not understood: {line}");
        };
        if point_release && suite != RELEASE {
            continue;
        }
        stanzas.push(format!(
            "Types: deb\nURIs: {url}\nSuites: {suite}\nComponents: main non-free-firmware\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        ));
    }
    if stanzas.is_empty() {
        bail!("the tools tree has no apt sources");
    }
    Ok(stanzas.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_becomes_sources_with_firmware() {
        let text = deb822(&one_line("http://mirror.example/debian/").join("\n"), false).unwrap();
        let urls: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("URIs: ")).collect();
        assert_eq!(
            urls,
            [
                "http://mirror.example/debian",
                "http://mirror.example/debian",
                "http://mirror.example/debian-security"
            ]
        );
        assert_eq!(text.matches("non-free-firmware").count(), 3);
    }

    #[test]
    fn a_point_release_has_no_updates() {
        let text = deb822(&one_line("http://mirror.example/debian").join("\n"), true).unwrap();
        assert!(text.contains("Suites: trixie\n"));
        assert_eq!(text.matches("Suites: ").count(), 1);
        assert!(deb822("deb http://a/debian-security trixie-security main", true).is_err());
    }

    #[test]
    fn options_and_comments_are_left_out_and_nonsense_is_refused() {
        let text =
            deb822("# c\n\ndeb [signed-by=/k] http://a/debian trixie main\n", false).unwrap();
        assert!(text.contains("URIs: http://a/debian\nSuites: trixie\n"));
        assert!(deb822("rpm http://a b c", false).is_err());
        assert!(deb822("", false).is_err());
    }
}
