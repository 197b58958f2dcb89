//! From the node bundle to who the node is and what each subject should be.

mod search; // where the bundle comes from

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trilith_core::belonging::Belonging;
use trilith_core::bundle::{Bundle, BundleError};
use trilith_core::peers::Circle;
use trilith_core::secrets::Secret;
use trilith_core::secrets::redact::Redactor;
use trilith_core::status::{NodeIdentity, Problem};
use trilith_core::{
    ceph, config, frr, libvirt, network, node, osds, patroni, pools, services, zookeeper,
};

use crate::peers::Membership;
use crate::reconcile::chain;
use crate::system::memory::Memory;

pub(crate) use crate::system::bundle::{in_memory, kept};
pub(crate) use search::{Depth, Findings, search};

/// What was found where a bundle may lie.
#[derive(Debug)]
pub(crate) enum Reading {
    /// No bundle anywhere.
    Nothing,
    /// A bundle that cannot be used, with every reason.
    Bad { problems: Vec<Problem> },
    /// A bundle.
    Good(Box<Found>),
}

/// A bundle that this machine may follow.
#[derive(Debug)]
pub(crate) struct Found {
    /// The file that it was read from.
    pub(crate) source: PathBuf,
    /// All of it, with its secrets.
    pub(crate) text: Secret,
    /// What it makes of the machine.
    pub(crate) assignment: Assignment,
    /// Whom the machine belongs to by it, if that is to be remembered anew.
    pub(crate) joins: Option<Belonging>,
    /// What is wrong with those that came before it.
    pub(crate) problems: Vec<Problem>,
}

/// What a bundle makes of this machine: what each subject should be, and whom it talks with.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) identity: NodeIdentity,
    /// Whether the node has a disk of its own, and is installed on it.
    pub(crate) installs: bool,
    /// Whether it has a disk for its /var alone.
    pub(crate) keeps_var: bool,
    pub(crate) peers: Membership,
    pub(crate) network: network::Desired,
    pub(crate) services: services::Desired,
    pub(crate) zookeeper: zookeeper::Desired,
    pub(crate) ceph: ceph::Desired,
    pub(crate) osds: osds::Desired,
    pub(crate) pools: pools::Desired,
    pub(crate) patroni: patroni::Desired,
    pub(crate) frr: frr::Desired,
    pub(crate) libvirt: libvirt::Desired,
}

fn bad(object: &str, reason: String) -> Reading {
    Reading::Bad { problems: vec![Problem { object: object.into(), reason }] }
}

/// Whether a text is a bundle, and one for this machine.
fn judge(source: &Path, text: String, memory: &Memory) -> Reading {
    let bundle = match Bundle::parse(&text) {
        Ok(bundle) => bundle,
        Err(error) => return Reading::Bad { problems: problems(source, &error) },
    };
    let joins = match joins(&bundle, memory) {
        Ok(joins) => joins,
        Err(reason) => return bad(&source.display().to_string(), reason),
    };
    match assign(&bundle) {
        Some(assignment) => {
            let (source, text) = (source.to_owned(), Secret::from(text));
            let problems = Vec::new();
            Reading::Good(Box::new(Found { source, text, assignment, joins, problems }))
        }
        None => Reading::Bad { problems: problems(source, &BundleError::NoSuchNode(bundle.node)) },
    }
}

/// Whom the machine belongs to by this bundle, if that is news; or why it is not for this machine.
fn joins(bundle: &Bundle, memory: &Memory) -> Result<Option<Belonging>, String> {
    let Some(new) = Belonging::of(bundle) else { return Ok(None) };
    let unreadable = |error: &dyn std::error::Error| {
        let path = memory.belonging_path().display();
        format!("whom this machine belongs to cannot be read from {path}: {}", chain(error))
    };
    let Some(text) = memory.belonging().map_err(|error| unreadable(&error))? else {
        return Ok(Some(new));
    };
    let own = Belonging::parse(&text).map_err(|error| unreadable(&error))?;
    own.admits(&new, &bundle.signer).map_err(|refusal| refusal.to_string())?;
    Ok((own != new).then_some(new))
}

/// Derives everything that the node should be. `None` if the cluster has no such node, which no parsed bundle has.
fn assign(bundle: &Bundle) -> Option<Assignment> {
    let Bundle { node: id, config, secrets, signer: _ } = bundle;
    let about = config.node(*id)?;
    let identity = NodeIdentity {
        cluster: config.name.to_string(),
        id: (*id).into(),
        name: about.name.to_string(),
    };
    let circle = Circle::new(config, *id)?;
    Some(Assignment {
        identity,
        installs: about.system_disk.is_some(),
        keeps_var: about.var_disk.is_some(),
        peers: Membership {
            circle,
            identity: secrets.identity.clone(),
            redactor: Arc::new(Redactor::new(secrets)),
        },
        network: node::network(config, *id)?,
        services: node::services(config, *id, secrets)?,
        zookeeper: node::zookeeper(config, *id, secrets),
        ceph: node::ceph(config, *id, secrets),
        osds: node::osds(config, *id, secrets),
        pools: node::pools(config),
        patroni: node::patroni(config, *id, secrets),
        frr: node::frr(config, *id, secrets)?,
        libvirt: node::libvirt(config, *id, secrets),
    })
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
