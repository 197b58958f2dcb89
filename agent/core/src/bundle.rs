//! The node bundle: what one node gets. The cluster file, the node's ID, and only the secrets that this
//! node needs; signed by the cluster's authority, so that nobody between the operator and the node changes it.

use serde::{Deserialize, Serialize};

use crate::config::{self, Config};
use crate::names::NodeId;
use crate::secrets::certificate::{Certificate, CertificateError};
use crate::secrets::needs::Needs;
use crate::secrets::{self, NodeSecrets, Secret};
use crate::status::Problem;

mod signature; // the first line of a bundle
#[cfg(test)]
mod tests;

pub use signature::sign;

/// A node bundle that fits together: the cluster file is right and has the node, and the secrets are whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Which node this is.
    pub node: NodeId,
    /// The cluster.
    pub config: Config,
    /// Everything secret that this node needs.
    pub secrets: NodeSecrets,
    /// Which of the authorities in it has signed it.
    pub signer: Certificate,
}

/// Why a text is not a node bundle. Nothing of the text is in it but names of keys.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It is not YAML of this shape.
    #[error("the bundle cannot be read: {0}")]
    Unreadable(String),
    /// It is of another version.
    #[error("this program reads version {VERSION} of the node bundle, not {0}: {OTHER_VERSION}")]
    Version(u32),
    /// It has no signature.
    #[error("the bundle is not signed; `trilith cluster bundle` makes one that is")]
    Unsigned,
    /// Its signature is not one over this text by the authority that the text names.
    #[error(
        "the bundle was changed after the cluster's authority had signed it; make it anew with `trilith cluster bundle`"
    )]
    Changed,
    /// It cannot be signed with this key.
    #[error("the authority's key cannot sign")]
    Key(#[from] CertificateError),
    /// The cluster file in it has errors.
    #[error("the cluster file in the bundle has problems, such as: {}", first(.0))]
    BadConfig(Vec<config::Problem>),
    /// The cluster file has no such node.
    #[error("the cluster file in the bundle has no node {0}")]
    NoSuchNode(NodeId),
    /// Secrets are missing, malformed, or of another node or cluster.
    #[error("the secrets in the bundle have problems, such as: {}", .0.first().map_or_else(String::new, Problem::to_string))]
    BadSecrets(Vec<Problem>),
}

fn first(problems: &[config::Problem]) -> String {
    let error = problems.iter().find(|problem| problem.severity == config::Severity::Error);
    match error {
        None => String::new(),
        Some(config::Problem { path, reason, .. }) if path.is_empty() => reason.clone(),
        Some(config::Problem { path, reason, .. }) => format!("{path}: {reason}"),
    }
}

const VERSION: u32 = 3;

/// What helps against another version.
const OTHER_VERSION: &str = "make it with the `trilith` of the same release";

/// The bundle as text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBundle {
    version: u32,
    node: NodeId,
    /// The cluster file, verbatim: positions in messages are those of the operator's file.
    cluster: String,
    secrets: NodeSecrets,
}

/// What every version has.
#[derive(Deserialize)]
struct AnyVersion {
    version: u32,
}

impl Bundle {
    /// Reads a bundle. What it says counts only once its signature does.
    pub fn parse(text: &str) -> Result<Self, BundleError> {
        let AnyVersion { version } = serde_yaml::from_str(text).map_err(|e| unreadable(&e))?;
        if version != VERSION {
            return Err(BundleError::Version(version));
        }
        let raw: RawBundle = serde_yaml::from_str(text).map_err(|error| unreadable(&error))?;
        let (signature, body) = signature::split(text).ok_or(BundleError::Unsigned)?;
        let authorities = Certificate::read_all(&raw.secrets.identity.authority);
        let mut authorities = authorities.map_err(|_| BundleError::Changed)?.into_iter();
        let signer = authorities.find(|it| signature::is_by(it, body, &signature));
        let signer = signer.ok_or(BundleError::Changed)?;
        let (node, config, secrets) = raw.judge()?;
        Ok(Self { node, config, secrets, signer })
    }

    /// Writes the bundle of a node from the text of the cluster file, which must be right, and the node's
    /// secrets, which must be all that it needs; signs it with the key of the cluster's authority.
    pub fn write(
        node: NodeId,
        cluster: &str,
        secrets: &NodeSecrets,
        authority: &Secret,
    ) -> Result<String, BundleError> {
        let cluster = cluster.to_owned();
        let raw = RawBundle { version: VERSION, node, cluster, secrets: secrets.clone() };
        let body = serde_yaml::to_string(&raw).map_err(|error| unreadable(&error))?;
        raw.judge()?;
        let text = sign(&body, authority)?;
        Self::parse(&text)?;
        Ok(text)
    }
}

impl RawBundle {
    /// What it says, if that fits together.
    fn judge(self) -> Result<(NodeId, Config, NodeSecrets), BundleError> {
        let raw = self;
        let config = config::load(&raw.cluster).map_err(BundleError::BadConfig)?;
        let node = config.node(raw.node).ok_or(BundleError::NoSuchNode(raw.node))?;
        let problems = secrets::judge(&raw.secrets, &Needs::of(&config, node));
        if !problems.is_empty() {
            return Err(BundleError::BadSecrets(problems));
        }
        Ok((raw.node, config, raw.secrets))
    }
}

/// For which node of which cluster file a text says that it is, if it is a bundle at all. Nothing of it is to be
/// believed: neither its signature nor its content was looked at.
pub fn peek(text: &str) -> Option<(NodeId, String)> {
    #[derive(Deserialize)]
    struct Peek {
        node: NodeId,
        cluster: String,
    }
    let Peek { node, cluster } = serde_yaml::from_str(text).ok()?;
    Some((node, cluster))
}

/// Says where it went wrong. serde's own words quote what they found, and that may be a secret; only the words
/// about a missing key have nothing but names of keys in them.
fn unreadable(error: &serde_yaml::Error) -> BundleError {
    let words = error.to_string();
    BundleError::Unreadable(match error.location() {
        _ if words.contains("missing field") => words,
        Some(place) => {
            format!("line {}, column {} is not as it should be", place.line(), place.column())
        }
        None => "it is not YAML of the right shape".to_owned(),
    })
}
