//! Every program and library of the image finds the libraries that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _};

use super::check::files_below;

/// Where the dynamic linker looks without being told (ld.so(8) and Debian's /etc/ld.so.conf.d).
const LINKER_PATH: &[&str] = &["usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64"];

/// What the dynamic section of a file says.
#[derive(Debug, Default)]
struct Dynamic {
    needed: Vec<String>,
    /// RPATH and RUNPATH; `$ORIGIN` is the file's own folder.
    paths: Vec<String>,
}

/// Looks at all ELF files below the roots, which lie over one another, and gives a fault for each
/// library that is named and not there.
///
/// `waivers` has one line per exception: the path of the file below the root, `*` at its end for any
/// ending, and the reason after `#`.
///
/// # Errors
/// A file cannot be read, or a waiver has no reason.
pub(crate) fn check(roots: &[&Path], waivers: &str) -> Result<Vec<String>> {
    let waivers = parse_waivers(waivers)?;
    let mut names = BTreeSet::new();
    let mut files = BTreeMap::new();
    for root in roots {
        for name in files_below(root)? {
            if name.starts_with("usr/") {
                files.insert(name.clone(), root.join(&name));
            }
            names.insert(name);
        }
    }
    let mut faults = Vec::new();
    for (name, path) in files.iter().filter(|(name, _)| !is_waived(name, &waivers)) {
        // Links are looked at where they lead to.
        if path.is_symlink() {
            continue;
        }
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let Some(dynamic) = dynamic(&bytes) else { continue };
        for library in dynamic.needed.iter().filter(|l| !is_found(name, l, &dynamic, &names)) {
            faults.push(format!("/{name} needs {library}, which is not in the image"));
        }
    }
    Ok(faults)
}

fn parse_waivers(text: &str) -> Result<Vec<&str>> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| match line.split_once('#') {
            Some((path, reason)) if !reason.trim().is_empty() => Ok(path.trim()),
            _ => bail!("overlays/library-waivers: no reason after '#': {line}"),
        })
        .collect()
}

fn is_waived(name: &str, waivers: &[&str]) -> bool {
    waivers.iter().any(|waiver| match waiver.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *waiver,
    })
}

fn is_found(name: &str, library: &str, dynamic: &Dynamic, names: &BTreeSet<String>) -> bool {
    let origin = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let own = dynamic.paths.iter().map(|path| {
        let path = path.replace("$ORIGIN", origin).replace("${ORIGIN}", origin);
        normalize(&path)
    });
    let linker = LINKER_PATH.iter().map(|path| (*path).to_owned());
    // A private library beside its user is found by whoever loads both.
    let mut folders = own.chain(linker).chain([origin.to_owned()]);
    folders.any(|folder| names.contains(&format!("{folder}/{library}")))
}

/// A path below the root without `.`, `..`, a leading slash, and with /lib as the link that it is.
fn normalize(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    match parts.first() {
        Some(&("lib" | "lib64" | "bin" | "sbin")) => format!("usr/{}", parts.join("/")),
        _ => parts.join("/"),
    }
}

/// The dynamic section, or nothing where the file is no 64-bit ELF file or needs no libraries.
fn dynamic(bytes: &[u8]) -> Option<Dynamic> {
    let header = FileHeader64::<Endianness>::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, bytes).ok()?;
    let (entries, strings) = sections.dynamic(endian, bytes).ok()??;
    let strings = sections.strings(endian, bytes, strings).ok()?;
    let mut dynamic = Dynamic::default();
    for entry in entries {
        let text =
            || Some(String::from_utf8_lossy(entry.string(endian, strings).ok()?).into_owned());
        match u32::try_from(entry.d_tag(endian)) {
            Ok(DT_NEEDED) => dynamic.needed.extend(text()),
            Ok(DT_RPATH | DT_RUNPATH) => {
                dynamic.paths.extend(text()?.split(':').map(str::to_owned));
            }
            _ => {}
        }
    }
    Some(dynamic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_needs_the_c_library() {
        let me = fs::read(std::env::current_exe().unwrap()).unwrap();
        let dynamic = dynamic(&me).unwrap();
        assert!(dynamic.needed.iter().any(|name| name == "libc.so.6"), "{dynamic:?}");
        assert!(super::dynamic(b"#!/bin/sh\n").is_none());
    }

    #[test]
    fn libraries_are_found_by_linker_path_rpath_and_neighbourhood() {
        let names = ["usr/lib/x86_64-linux-gnu/a.so", "usr/lib/x/b.so", "usr/libexec/y/c.so"];
        let names: BTreeSet<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let dynamic = Dynamic { needed: vec![], paths: vec!["$ORIGIN/../lib/x".into()] };
        let found = |library| is_found("usr/bin/p", library, &dynamic, &names);
        assert!(found("a.so") && found("b.so") && !found("c.so"));
        assert!(is_found("usr/libexec/y/p", "c.so", &Dynamic::default(), &names));
    }

    #[test]
    fn paths_are_taken_from_the_root() {
        assert_eq!(normalize("/lib/x86_64-linux-gnu"), "usr/lib/x86_64-linux-gnu");
        assert_eq!(normalize("usr/bin/../lib/./x"), "usr/lib/x");
    }

    #[test]
    fn a_waiver_needs_a_reason() {
        assert!(is_waived("usr/lib/a/b", &parse_waivers("usr/lib/a/* # why").unwrap()));
        assert!(parse_waivers("usr/lib/a").is_err());
    }
}
