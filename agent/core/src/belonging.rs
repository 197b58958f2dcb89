//! Whom a machine belongs to. It remembers that in its state, so that a bundle that was put into the wrong server
//! does not start a second life on the disks of the first.

use serde::{Deserialize, Serialize};

use crate::bundle::Bundle;
use crate::names::{ClusterName, NodeId, NodeName};
use crate::secrets::certificate::Certificate;

/// The cluster and the node that a machine is part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Belonging {
    /// The cluster's name, for people: it may change.
    pub cluster: ClusterName,
    /// The cluster's identity, which never changes: Ceph's fsid, made once with the cluster's secrets.
    pub fsid: String,
    /// The node's ID.
    pub node: NodeId,
    /// The node's name, for people: it may change.
    pub name: NodeName,
    /// The certificates of those who may sign bundles for this machine, in PEM: the cluster's authorities as of the last
    /// bundle that was taken. Empty: the machine has taken none yet, and believes the first.
    #[serde(default)]
    pub authority: String,
}

/// Why a bundle is not for this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is for another machine.
    #[error(transparent)]
    Stranger(#[from] Stranger),
    /// It says that it is for this machine, and nobody of this cluster has signed it.
    #[error(
        "the bundle is signed by an authority that this machine does not know; if the authority is being replaced \
         (`trilith cluster rotate`), give the machine the bundle of the step before first"
    )]
    Signer,
}

/// The bundle is of another node or cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this machine is node {} ({}) of the cluster {} with the fsid {}, and the bundle is for node {} ({}) of the cluster \
     {} with the fsid {}; to give the machine away, erase its disks",
    own.node, own.name, own.cluster, own.fsid, other.node, other.name, other.cluster, other.fsid
)]
pub struct Stranger {
    own: Box<Belonging>,
    other: Box<Belonging>,
}

impl Belonging {
    /// Whom a bundle makes the machine part of. `None` if its cluster file lacks its node, which no parsed bundle does.
    pub fn of(bundle: &Bundle) -> Option<Self> {
        let Bundle { node, config, secrets, signer: _ } = bundle;
        Some(Self {
            cluster: config.name.clone(),
            fsid: secrets.ceph.fsid.clone(),
            node: *node,
            name: config.node(*node)?.name.clone(),
            authority: secrets.identity.authority.clone(),
        })
    }

    /// Reads what [`Belonging::text`] wrote.
    pub fn parse(text: &str) -> Result<Self, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }

    /// As it is kept.
    pub fn text(&self) -> Result<String, serde_yaml::Error> {
        serde_yaml::to_string(self)
    }

    /// Whether `other` is the same node of the same cluster, whatever these are called, and `signer`, who has signed
    /// the bundle that says so, is one whom this machine knows.
    pub fn admits(&self, other: &Self, signer: &Certificate) -> Result<(), Refusal> {
        if self.fsid != other.fsid || self.node != other.node {
            let (own, other) = (Box::new(self.clone()), Box::new(other.clone()));
            return Err(Stranger { own, other }.into());
        }
        // What cannot be read knows nobody: a damaged memory must not let strangers in.
        let known = || Certificate::read_all(&self.authority).unwrap_or_default();
        if self.authority.is_empty() || known().contains(signer) {
            return Ok(());
        }
        Err(Refusal::Signer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, secrets::sample};

    const HOMELAB: &str = include_str!("../../../tests/clusters/valid/homelab.yaml");

    fn of_node(id: u16) -> Belonging {
        Belonging::of(&bundle(id)).unwrap()
    }

    fn bundle(id: u16) -> Bundle {
        let node = NodeId::try_from(id).unwrap();
        let secrets = sample::secrets(&config::load(HOMELAB).unwrap(), node);
        Bundle::parse(&sample::bundle(node, HOMELAB, &secrets).unwrap()).unwrap()
    }

    fn signer() -> Certificate {
        bundle(2).signer
    }

    #[test]
    fn what_is_kept_is_read() {
        let own = of_node(2);
        assert_eq!(Belonging::parse(&own.text().unwrap()).unwrap(), own);
    }

    #[test]
    fn a_new_name_is_no_other_node() {
        let own = of_node(2);
        let name = NodeName::try_from("big2".to_owned()).unwrap();
        let cluster = ClusterName::try_from("attic".to_owned()).unwrap();
        assert_eq!(own.admits(&Belonging { cluster, name, ..own.clone() }, &signer()), Ok(()));
    }

    /// Who signs must be known from before; a new authority comes in by a bundle that the old one has signed.
    #[test]
    fn a_bundle_of_another_signer_is_refused() {
        let own = of_node(2);
        let next = sample::Authority::new("home");
        let stranger = Certificate::read(&next.certificate).unwrap();
        assert_eq!(own.admits(&own, &stranger), Err(Refusal::Signer));
        let both =
            Belonging { authority: own.authority.clone() + &next.certificate, ..own.clone() };
        assert_eq!(own.admits(&both, &signer()), Ok(()));
        assert_eq!(both.admits(&own, &stranger), Ok(()));
        let damaged = Belonging { authority: "?".into(), ..own.clone() };
        assert_eq!(damaged.admits(&own, &signer()), Err(Refusal::Signer));
        let before = Belonging { authority: String::new(), ..own.clone() };
        assert_eq!(before.admits(&own, &signer()), Ok(()), "nobody was pinned yet");
    }

    #[test]
    fn another_node_or_cluster_is_refused() {
        let own = of_node(2);
        let fsid = "00000000-0000-4000-8000-000000000000".to_owned();
        assert!(own.admits(&of_node(3), &signer()).is_err());
        assert_eq!(
            own.admits(&Belonging { fsid, ..own.clone() }, &signer()).unwrap_err().to_string(),
            "this machine is node 2 (hv2) of the cluster home with the fsid 5f5be4a3-1f1c-4c9b-8a53-0c7e7e9a4b11, \
             and the bundle is for node 2 (hv2) of the cluster home with the fsid \
             00000000-0000-4000-8000-000000000000; to give the machine away, erase its disks"
        );
    }
}
