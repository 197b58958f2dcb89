//! The node bundle: what one node gets. The cluster file, the node's ID, and only the secrets that this
//! node needs.

use serde::{Deserialize, Serialize};

use crate::config::{self, Config, Problem};
use crate::names::NodeId;

/// A node bundle that fits together: the cluster file is right and has the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Which node this is.
    pub node: NodeId,
    /// The cluster.
    pub config: Config,
}

/// Why a text is not a node bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It is not YAML of this shape.
    #[error("the bundle cannot be read")]
    Unreadable(#[source] serde_yaml::Error),
    /// It is of another version.
    #[error("this program reads version {VERSION} of the node bundle, not {0}")]
    Version(u32),
    /// The cluster file in it has errors.
    #[error("the cluster file in the bundle has problems, such as: {}", first(.0))]
    BadConfig(Vec<Problem>),
    /// The cluster file has no such node.
    #[error("the cluster file in the bundle has no node {0}")]
    NoSuchNode(NodeId),
}

fn first(problems: &[Problem]) -> String {
    let error = problems.iter().find(|problem| problem.severity == config::Severity::Error);
    match error {
        None => String::new(),
        Some(Problem { path, reason, .. }) if path.is_empty() => reason.clone(),
        Some(Problem { path, reason, .. }) => format!("{path}: {reason}"),
    }
}

const VERSION: u32 = 1;

/// The bundle as text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBundle {
    version: u32,
    node: NodeId,
    /// The cluster file, verbatim: positions in messages are those of the operator's file.
    cluster: String,
}

impl Bundle {
    /// Reads a bundle.
    pub fn parse(text: &str) -> Result<Self, BundleError> {
        let raw: RawBundle = serde_yaml::from_str(text).map_err(BundleError::Unreadable)?;
        if raw.version != VERSION {
            return Err(BundleError::Version(raw.version));
        }
        let config = config::load(&raw.cluster).map_err(BundleError::BadConfig)?;
        if config.node(raw.node).is_none() {
            return Err(BundleError::NoSuchNode(raw.node));
        }
        Ok(Self { node: raw.node, config })
    }

    /// Writes the bundle of a node from the text of the cluster file, which must be right.
    pub fn write(node: NodeId, cluster: &str) -> Result<String, BundleError> {
        let raw = RawBundle { version: VERSION, node, cluster: cluster.to_owned() };
        let text = serde_yaml::to_string(&raw).map_err(BundleError::Unreadable)?;
        Self::parse(&text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = include_str!("../../../tests/clusters/valid/homelab.yaml");

    fn id(number: u16) -> NodeId {
        NodeId::try_from(number).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let text = Bundle::write(id(3), CLUSTER).unwrap();
        let bundle = Bundle::parse(&text).unwrap();
        assert_eq!(bundle.node, id(3));
        assert_eq!(bundle.config, config::load(CLUSTER).unwrap());
        let raw: RawBundle = serde_yaml::from_str(&text).unwrap();
        assert_eq!(raw.cluster, CLUSTER, "verbatim");
    }

    /// A bundle must hold the operator's file to the byte, whatever its line breaks are.
    #[test]
    fn line_breaks_stay() {
        let dos = CLUSTER.replace('\n', "\r\n");
        let text = Bundle::write(id(1), &dos).unwrap();
        let raw: RawBundle = serde_yaml::from_str(&text).unwrap();
        assert_eq!(raw.cluster, dos);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refusal = |text: &str| Bundle::parse(text).unwrap_err().to_string();
        assert!(matches!(Bundle::write(id(9), CLUSTER), Err(BundleError::NoSuchNode(_))));
        assert!(matches!(Bundle::write(id(1), "version: 1"), Err(BundleError::BadConfig(_))));
        assert_eq!(refusal("nonsense"), "the bundle cannot be read");
        assert_eq!(
            refusal("{version: 1, node: 1, cluster: '', more: 1}"),
            "the bundle cannot be read"
        );
        assert_eq!(
            refusal("{version: 2, node: 1, cluster: ''}"),
            "this program reads version 1 of the node bundle, not 2"
        );
        assert_eq!(
            refusal("{version: 1, node: 1, cluster: ''}"),
            "the cluster file in the bundle has problems, such as: the file is empty"
        );
    }
}
