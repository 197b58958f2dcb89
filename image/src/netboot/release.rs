//! What is served: one release, as `trilith build` leaves it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use object::read::pe::PeFile64;
use object::{Object as _, ObjectSection as _};
use trilith_core::netboot::{Manifest, SERVER, path};

use crate::build::root_hash;

/// A release.
pub(crate) struct Release {
    /// What nodes are told about it.
    pub(crate) manifest: Manifest,
    /// The UKI.
    pub(crate) uki: PathBuf,
    /// The disk, compressed.
    pub(crate) disk: PathBuf,
    /// The kernel's command line in the UKI.
    command_line: String,
}

impl Release {
    /// Finds the one in a folder; of several the one that was made last.
    pub(crate) fn find(folder: &Path) -> Result<Self> {
        let reading =
            || format!("cannot read {}; `trilith build` makes a release", folder.display());
        let entries = fs::read_dir(folder).with_context(reading)?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let ukis = paths.filter(|path| path.extension().is_some_and(|end| end == "efi"));
        let uki = ukis.max_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok());
        let uki = uki.with_context(|| format!("{} has no release in it", folder.display()))?;
        let name = uki.file_stem().and_then(|name| name.to_str()).context("an odd name")?;
        // Not `with_extension`: a version may have points in it.
        let beside = |ending: &str| folder.join(format!("{name}.{ending}"));
        let disk = beside("raw.zst");
        let size = |path: &Path| {
            let meta = fs::metadata(path);
            meta.map(|meta| meta.len()).with_context(|| format!("no {}", path.display()))
        };
        let manifest = Manifest {
            release: name.to_owned(),
            root_hash: root_hash(&uki)?,
            disk: size(&beside("raw"))?,
            compressed: size(&disk)?,
        };
        let command_line = command_line(&fs::read(&uki)?);
        let command_line = command_line.with_context(|| format!("{}", uki.display()))?;
        Ok(Self { manifest, uki, disk, command_line })
    }

    /// What iPXE does: start the UKI, and try again for as long as that fails.
    ///
    /// iPXE always gives a program arguments, its name at least, and without Secure Boot those take the place of the
    /// UKI's own command line (systemd-stub(7)), in which the root hash is: so it gives the same ones, and the server.
    pub(crate) fn script(&self, url: &str) -> String {
        let Self { manifest: Manifest { release, .. }, command_line, .. } = self;
        let uki = path::UKI;
        format!(
            "#!ipxe\n\
             :start\n\
             echo {release} from {url}\n\
             chain {url}{uki} {command_line} {SERVER}{url} ||\n\
             echo It cannot be started; once more in 5 seconds\n\
             sleep 5\n\
             goto start\n"
        )
    }
}

/// The section `.cmdline` of a UKI (UAPI group, Unified Kernel Image).
fn command_line(uki: &[u8]) -> Result<String> {
    let file = PeFile64::parse(uki).context("it is no UKI")?;
    let section = file.section_by_name(".cmdline").context("it has no command line in it")?;
    let text = std::str::from_utf8(section.data()?).context("its command line is not text")?;
    let text = text.trim_end_matches('\0').trim();
    // iPXE takes `${…}` for a setting, `||` and `&&` for its own, and a new line for the end.
    let odd = ["${", "||", "&&", "\n"].iter().find(|odd| text.contains(**odd));
    ensure!(odd.is_none(), "iPXE cannot give it its command line, which has {odd:?} in it");
    Ok(text.to_owned())
}
