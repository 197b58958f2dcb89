//! Every shipped kernel module finds its firmware in the image, or is on the list of waivers with a reason.

use std::collections::{BTreeMap, BTreeSet};

/// A firmware file that no one would find when the module asks for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Missing {
    /// The path below `/usr/lib/firmware`, as the module names it.
    pub(crate) firmware: String,
    /// The modules that name it.
    pub(crate) modules: Vec<String>,
}

/// What the check found: firmware that is missing, and waivers that nothing needs any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Named by a module, not in the image, not waived.
    pub(crate) missing: Vec<Missing>,
    /// Lines of the waiver file that match nothing: the list must not rot.
    pub(crate) unused_waivers: Vec<String>,
}

/// A line of the waiver file: `module-or-firmware-pattern  # reason`.
struct Waiver<'a> {
    pattern: &'a str,
    line: &'a str,
}

/// Compares what modules ask for with what is there.
///
/// `wanted` has the pairs of module and firmware that `modinfo -F firmware` gives for each shipped
/// module; `files` the paths below `/usr/lib/firmware`; `waivers` the text of the waiver file: one
/// pattern a line, `*` for any text, matched against `module:firmware`, and a reason after `#`.
///
/// # Errors
/// A waiver without a reason.
pub(crate) fn check(
    wanted: &[(String, String)],
    files: &BTreeSet<String>,
    waivers: &str,
) -> Result<Report, String> {
    let waivers = parse_waivers(waivers)?;
    let mut used = vec![false; waivers.len()];
    let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (module, firmware) in wanted.iter().filter(|(_, firmware)| !is_present(firmware, files)) {
        let asked = format!("{module}:{firmware}");
        match waivers.iter().position(|waiver| matches(waiver.pattern, &asked)) {
            Some(i) => used[i] = true,
            None => missing.entry(firmware).or_default().push(module.clone()),
        }
    }
    let unused = waivers.iter().zip(used).filter(|(_, used)| !used).map(|(w, _)| w.line.into());
    Ok(Report {
        missing: missing
            .into_iter()
            .map(|(f, modules)| Missing { firmware: f.into(), modules })
            .collect(),
        unused_waivers: unused.collect(),
    })
}

fn parse_waivers(text: &str) -> Result<Vec<Waiver<'_>>, String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split_once('#') {
            Some((pattern, reason)) if !reason.trim().is_empty() => {
                Ok(Waiver { pattern: pattern.trim(), line })
            }
            _ => Err(format!(
                "the waiver {line:?} has no reason: write '{line}  # why it may be missing'"
            )),
        })
        .collect()
}

/// The kernel takes a file as it is or compressed (`CONFIG_FW_LOADER_COMPRESS`); a module may name a pattern.
fn is_present(firmware: &str, files: &BTreeSet<String>) -> bool {
    let forms = ["", ".zst", ".xz"].map(|ending| format!("{firmware}{ending}"));
    if firmware.contains('*') {
        return files.iter().any(|file| forms.iter().any(|form| matches(form, file)));
    }
    forms.iter().any(|form| files.contains(form))
}

/// Whether `text` has the form of `pattern`, where `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    text.char_indices().map(|(i, _)| i).chain([text.len()]).any(|i| matches(rest, &text[i..]))
}

#[cfg(test)]
mod tests;
