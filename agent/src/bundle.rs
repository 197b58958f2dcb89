//! From the node bundle to who the node is and what each subject should be.

use std::path::{Path, PathBuf};

use trilith_core::bundle::{Bundle, BundleError};
use trilith_core::peers::Circle;
use trilith_core::status::{NodeIdentity, Problem};
use trilith_core::{config, network, node, services, zookeeper};

use crate::peers::Membership;
use crate::reconcile::chain;
use crate::system::bundle::Places;

/// What was found where a bundle may lie.
#[derive(Debug)]
pub(crate) enum Reading {
    /// No bundle anywhere.
    Nothing,
    /// A bundle that cannot be used, with every reason.
    Bad { problems: Vec<Problem> },
    /// A bundle.
    Good { source: PathBuf, assignment: Box<Assignment> },
}

/// What a bundle makes of this machine.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) identity: NodeIdentity,
    pub(crate) network: network::Desired,
    pub(crate) services: services::Desired,
    pub(crate) peers: Membership,
    pub(crate) zookeeper: zookeeper::Desired,
}

/// Reads the bundle that counts now.
pub(crate) fn read(places: &Places) -> Reading {
    match places.read() {
        Ok(None) => Reading::Nothing,
        Ok(Some((source, text))) => match assign(&source, &text) {
            Ok(assignment) => Reading::Good { source, assignment: Box::new(assignment) },
            Err(problems) => Reading::Bad { problems },
        },
        Err(error) => {
            let reason = chain(&error).to_string();
            Reading::Bad { problems: vec![Problem { object: "node bundle".into(), reason }] }
        }
    }
}

/// Derives everything that the node should be.
fn assign(source: &Path, text: &str) -> Result<Assignment, Vec<Problem>> {
    let Bundle { node: id, config, secrets } =
        Bundle::parse(text).map_err(|error| problems(source, &error))?;
    let derived = (config.node(id), node::network(&config, id), node::services(&config, id));
    let (Some(about), Some(network), Some(services)) = derived else {
        return Err(problems(source, &BundleError::NoSuchNode(id)));
    };
    let Some(circle) = Circle::new(&config, id) else {
        return Err(problems(source, &BundleError::NoSuchNode(id)));
    };
    let zookeeper = node::zookeeper(&config, id, &secrets);
    let peers = Membership { circle, identity: secrets.identity };
    let identity = NodeIdentity {
        cluster: config.name.to_string(),
        id: id.into(),
        name: about.name.to_string(),
    };
    Ok(Assignment { identity, network, services, peers, zookeeper })
}

/// Every reason, each with its place.
fn problems(source: &Path, error: &BundleError) -> Vec<Problem> {
    match error {
        BundleError::BadConfig(problems) => problems
            .iter()
            .filter(|problem| problem.severity == config::Severity::Error)
            .map(|problem| in_config(source, problem))
            .collect(),
        BundleError::BadSecrets(problems) => {
            problems.iter().map(|problem| in_secrets(source, problem)).collect()
        }
        _ => {
            vec![Problem { object: source.display().to_string(), reason: chain(error).to_string() }]
        }
    }
}

/// One problem of the cluster file inside the bundle, positions counted in the cluster file itself.
fn in_config(source: &Path, problem: &config::Problem) -> Problem {
    let config::Position { line, column, .. } = problem.position;
    let object = format!("{}, cluster file:{line}:{column}: {}", source.display(), problem.path);
    let help = problem.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    Problem { object, reason: format!("{}{help}", problem.reason) }
}

/// One problem of the bundle's secrets.
fn in_secrets(source: &Path, problem: &Problem) -> Problem {
    let Problem { object, reason } = problem;
    Problem { object: format!("{}, {object}", source.display()), reason: reason.clone() }
}
