//! Which nodes have said that they have their bundles: kept beside the cluster file, so that a server that was started
//! again does not hand them out once more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use trilith_core::names::NodeId;

use crate::vault::write_private;

/// The file.
pub(crate) struct Reported {
    path: PathBuf,
    /// Each with the fingerprint of the key that it had.
    nodes: BTreeMap<NodeId, String>,
}

impl Reported {
    /// Reads the one beside a cluster file, `CLUSTER.yaml.netboot`.
    pub(crate) fn open(cluster: &Path) -> Result<Self> {
        let mut name = cluster.file_name().unwrap_or_default().to_owned();
        name.push(".netboot");
        let path = cluster.with_file_name(name);
        let reading = || format!("cannot read {}; remove it to begin anew", path.display());
        let nodes = match std::fs::read_to_string(&path) {
            Ok(text) => serde_yaml::from_str(&text).with_context(reading)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(reading),
        };
        Ok(Self { path, nodes })
    }

    /// The nodes.
    pub(crate) fn nodes(&self) -> &BTreeMap<NodeId, String> {
        &self.nodes
    }

    /// Adds one.
    pub(crate) fn add(&mut self, node: NodeId, fingerprint: String) -> Result<()> {
        self.nodes.insert(node, fingerprint);
        let text = serde_yaml::to_string(&self.nodes).context("cannot write it as YAML")?;
        write_private(&self.path, text.as_bytes())
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}
