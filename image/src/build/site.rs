//! The operator's own additions: a folder laid out like `overlays/`, with `mkosi.conf` for packages and
//! kernel arguments and `rootfs/` for files and units.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::mkosi;
use super::place::Place;
use super::tools::Tools;
use crate::exec;

/// A site folder that was found to have the right form.
pub(crate) struct Site {
    folder: PathBuf,
}

impl Site {
    /// Looks at the folder.
    ///
    /// # Errors
    /// It is not there, or holds neither `mkosi.conf` nor `rootfs/`, or something else, which would be
    /// ignored without a word.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let folder = folder
            .canonicalize()
            .with_context(|| format!("no site folder at {}", folder.display()))?;
        let mut found = 0;
        for entry in folder.read_dir()? {
            match entry?.file_name().to_str() {
                Some("mkosi.conf" | "rootfs") => found += 1,
                Some(name) if name.starts_with('.') || name.starts_with("README") => {}
                name => bail!(
                    "{}: {} is neither mkosi.conf nor rootfs/, and nothing would read it",
                    folder.display(),
                    name.unwrap_or("a file with a strange name")
                ),
            }
        }
        if found == 0 {
            bail!("{} has neither mkosi.conf nor rootfs/", folder.display());
        }
        Ok(Self { folder })
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its mkosi.conf, if there is one: packages and kernel arguments.
    pub(crate) fn config(&self) -> Option<PathBuf> {
        Some(self.folder.join("mkosi.conf")).filter(|path| path.is_file())
    }

    /// Its files for the root, if there are any.
    pub(crate) fn rootfs(&self) -> Option<PathBuf> {
        Some(self.folder.join("rootfs")).filter(|path| path.is_dir())
    }

    /// Its users and groups, which must be there before its packages are configured.
    pub(crate) fn users(&self) -> PathBuf {
        self.folder.join("rootfs/usr/lib/sysusers.d")
    }

    /// The kernel arguments that its mkosi.conf adds, as mkosi itself understands the file.
    ///
    /// # Errors
    /// mkosi refuses the file.
    pub(crate) fn kernel_arguments(&self, place: &Place, tools: &Tools) -> Result<Vec<String>> {
        let Some(config) = self.config() else { return Ok(Vec::new()) };
        let mut command = mkosi::command(place, tools, &place.overlay("packages"));
        command.arg("--include").arg(config).args(["--json", "summary"]);
        let text = exec::output(&mut command).context("the site's mkosi.conf is not accepted")?;
        kernel_arguments(&text)
    }
}

/// Finds the kernel arguments in what `mkosi --json summary` prints.
fn kernel_arguments(summary: &str) -> Result<Vec<String>> {
    let summary: Value = serde_json::from_str(summary).context("mkosi's summary is not JSON")?;
    let images = summary["Images"].as_array().context("mkosi's summary has no images")?;
    let arguments = images.iter().filter_map(|image| image["KernelCommandLine"].as_array());
    Ok(arguments.flatten().filter_map(Value::as_str).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn kernel_arguments_come_from_the_summary() {
        let text = r#"{"Images": [{"KernelCommandLine": ["a=b", "c"]}]}"#;
        assert_eq!(kernel_arguments(text).unwrap(), ["a=b", "c"]);
        assert!(kernel_arguments("{}").is_err());
    }

    #[test]
    fn what_nothing_reads_is_refused() {
        let folder = std::env::temp_dir().join(format!("trilith-site-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert!(Site::open(&folder).is_err(), "an empty folder");
        fs::write(folder.join("mkosi.conf"), "").unwrap();
        assert!(Site::open(&folder).is_ok());
        fs::write(folder.join("rootsf"), "").unwrap();
        assert!(Site::open(&folder).is_err(), "a typing error");
        fs::remove_dir_all(&folder).unwrap();
    }
}
