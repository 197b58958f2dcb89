//! The node's bundle, where the initrd has it: in the order of the agent, which looks at it again.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use trilith_core::boot;
use trilith_core::bundle::Bundle;
use trilith_core::identity::{self, Offer};
use trilith_core::sealed;

use crate::machine;

/// What systemd was given for this boot.
const CREDENTIAL: &str = "/run/credentials/@system/trilith.bundle";

/// A bundle of this machine's. Whether it is one for the node whose /var is found, that is judged by what is on it.
pub(super) struct Given {
    /// What it says.
    pub(super) bundle: Bundle,
    /// The same as text.
    pub(super) text: String,
    /// Whether it came over the network in this boot.
    pub(super) handed_out: bool,
}

/// The first that is good. One that is not is told of: the agent says it again, to whoever is there by then.
pub(super) fn read() -> Result<Option<Given>> {
    if Path::new(CREDENTIAL).exists() {
        let text = fs::read_to_string(CREDENTIAL).context("cannot read the credential")?;
        if let Some(given) = judge("the credential", text, false) {
            return Ok(Some(given));
        }
    }
    let folder = Path::new(boot::FOLDER);
    for (name, handed_out) in [(boot::MEDIUM, false), (boot::NETWORK, true)] {
        let offers = offers(&folder.join(name))?;
        if offers.is_empty() {
            continue;
        }
        let machine = machine::read(Path::new(machine::FIRMWARE));
        match identity::choose(&machine, &offers) {
            Ok(chosen) => {
                let given = judge(&chosen.offer.name, chosen.offer.text.clone(), handed_out);
                if given.is_some() {
                    return Ok(given);
                }
            }
            Err(none) => eprintln!("{name}: {none}"),
        }
    }
    Ok(None)
}

fn judge(name: &str, text: String, handed_out: bool) -> Option<Given> {
    match Bundle::parse(&text) {
        Ok(bundle) => Some(Given { bundle, text, handed_out }),
        Err(error) => {
            eprintln!("{name}: {error}");
            None
        }
    }
}

/// Every bundle in a folder, by name.
fn offers(folder: &Path) -> Result<Vec<Offer>> {
    let failed = || format!("cannot read {}", folder.display());
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut offers = Vec::new();
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if [".yaml", sealed::ENDING].iter().any(|ending| name.ends_with(ending)) {
            offers.push(Offer { text: fs::read_to_string(&path).with_context(failed)?, name });
        }
    }
    offers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(offers)
}
