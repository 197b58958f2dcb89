//! Who asked for a bundle, and what was decided. Nothing here speaks to the network or to a person.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use trilith_core::config::{Config, Match, Node};
use trilith_core::identity::Machine;
use trilith_core::names::{NodeId, NodeName};
use trilith_core::netboot::{Asking, Report, fingerprint};

use super::Rule;

#[cfg(test)]
mod tests;

/// More are not remembered: who floods the server with keys must not fill its memory.
const MOST: usize = 1000;

/// Everybody who has asked, and what nodes there are.
#[derive(Debug)]
pub(crate) struct Desk {
    nodes: Vec<Place>,
    rule: Rule,
    again: bool,
    /// Who has reported in, with the fingerprint of the key.
    reported: BTreeMap<NodeId, String>,
    visits: Vec<Visit>,
}

/// A node of the cluster.
#[derive(Debug, Clone)]
struct Place {
    id: NodeId,
    name: NodeName,
    matches: Match,
    /// Whether its bundle is handed out here.
    served: bool,
}

/// A machine that asks, told apart from others by its key.
#[derive(Debug)]
pub(crate) struct Visit {
    /// What it says about itself.
    pub(crate) asking: Asking,
    /// Where it asks from.
    pub(crate) from: IpAddr,
    /// The node that it is, or why it is none.
    pub(crate) node: Result<(NodeId, NodeName), String>,
    /// How far it is.
    pub(crate) stage: Stage,
}

/// How far a visit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nobody has decided.
    Waiting,
    /// It gets its bundle when it asks next.
    Approved,
    /// The operator said no.
    Refused,
    /// It was given a bundle with this proof.
    Given(String),
    /// It has its bundle, and said so.
    Reported,
    /// Another machine has the bundle of its node, and said so: it gets nothing.
    Late,
}

/// The answer to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The bundle of this node.
    Give(NodeId),
    /// A person decides.
    Wait,
    /// No, and why.
    No(String),
    /// It is no node, or more than one, and why.
    Unknown(String),
}

impl Desk {
    /// An empty one, for the `served` nodes of a cluster.
    pub(crate) fn new(
        config: &Config,
        served: &BTreeSet<NodeId>,
        rule: Rule,
        again: bool,
        reported: BTreeMap<NodeId, String>,
    ) -> Self {
        let place = |node: &Node| Place {
            id: node.id,
            name: node.name.clone(),
            matches: node.matches.clone(),
            served: served.contains(&node.id),
        };
        let nodes = config.nodes.values().map(place).collect();
        Self { nodes, rule, again, reported, visits: Vec::new() }
    }

    /// Everybody who has asked, in order; the operator names them by their place, beginning with 1.
    pub(crate) fn visits(&self) -> &[Visit] {
        &self.visits
    }

    /// A machine asks. The second is whether that is news: it asks for the first time, or was no node as long as one of its
    /// NICs was not there.
    pub(crate) fn ask(&mut self, asking: Asking, from: IpAddr) -> (Verdict, bool) {
        let known = self.visits.iter().position(|visit| visit.asking.key == asking.key);
        let Some(number) = known else {
            if self.visits.len() >= MOST {
                return (Verdict::No("too many have asked here".into()), false);
            }
            let visit = self.visit(asking, from);
            let verdict = self.verdict(&visit);
            self.visits.push(visit);
            return (verdict, true);
        };
        let (before, now) = (&self.visits[number].node, self.visit(asking, from));
        let is_news = before.is_err() && *before != now.node;
        if before.is_err() {
            self.visits[number] = now;
        }
        (self.verdict(&self.visits[number]), is_news)
    }

    fn visit(&self, asking: Asking, from: IpAddr) -> Visit {
        let node = self.node(&asking);
        let auto = node.is_ok() && self.rule == Rule::Auto;
        let late = node.as_ref().is_ok_and(|(id, _)| self.is_given(*id));
        let stage = match (late, auto) {
            (true, _) => Stage::Late,
            (false, true) => Stage::Approved,
            (false, false) => Stage::Waiting,
        };
        Visit { asking, from, node, stage }
    }

    fn verdict(&self, visit: &Visit) -> Verdict {
        let (id, name) = match &visit.node {
            Ok(node) => node,
            Err(reason) => return Verdict::Unknown(reason.clone()),
        };
        if let Some(key) = self.reported.get(id).filter(|_| !self.again) {
            return Verdict::No(format!(
                "node {id} ({name}) has reported in, with the key {key}; `trilith netboot --again` gives its bundle \
                 once more"
            ));
        }
        match &visit.stage {
            Stage::Waiting => Verdict::Wait,
            Stage::Refused => Verdict::No("the operator said no".into()),
            Stage::Late => Verdict::No("another machine has this node's bundle".into()),
            Stage::Approved | Stage::Given(_) | Stage::Reported => Verdict::Give(*id),
        }
    }

    /// Whether a node has reported in, and its bundle is handed out no more.
    fn is_given(&self, node: NodeId) -> bool {
        !self.again && self.reported.contains_key(&node)
    }

    /// Which node a machine is.
    fn node(&self, asking: &Asking) -> Result<(NodeId, NodeName), String> {
        let machine = Machine {
            macs: asking.macs.iter().copied().collect(),
            serial: asking.serial.as_deref().map(|serial| serial.trim().to_owned()),
            uuid: asking.uuid.as_deref().map(|uuid| uuid.trim().to_lowercase()),
            // A public key proves nothing by itself.
            tpm: None,
        };
        let fits = |place: &&Place| machine.fits(&place.matches).is_some();
        let fitting: Vec<&Place> = self.nodes.iter().filter(fits).collect();
        match fitting[..] {
            [] => Err("no node's `match` in the cluster file fits this machine".into()),
            [Place { id, name, served: false, .. }] => {
                Err(format!("this is node {id} ({name}), and `--nodes` leaves it out here"))
            }
            [Place { id, name, .. }] => Ok((*id, name.clone())),
            _ => {
                let names: Vec<String> =
                    fitting.iter().map(|place| format!("{} ({})", place.id, place.name)).collect();
                Err(format!("the `match` of more than one node fits: {}", names.join(", ")))
            }
        }
    }

    /// The operator decides about visit `number`, counted from 1. Gives what is to be told.
    pub(crate) fn decide(&mut self, number: usize, yes: bool) -> String {
        let visit = number.checked_sub(1).and_then(|at| self.visits.get_mut(at));
        let Some(visit) = visit else { return format!("nobody has the number {number}") };
        match (&visit.node, &visit.stage) {
            (Err(reason), _) => format!("number {number} gets nothing: {reason}"),
            (Ok((id, _)), Stage::Given(_) | Stage::Reported) => {
                format!("number {number} has the bundle of node {id} already")
            }
            (Ok((id, _)), Stage::Late) => {
                format!("number {number} gets nothing: node {id} has reported in")
            }
            (Ok((id, name)), _) => {
                visit.stage = if yes { Stage::Approved } else { Stage::Refused };
                let word = if yes { "gets" } else { "does not get" };
                format!("number {number} {word} the bundle of node {id} ({name})")
            }
        }
    }

    /// A bundle with this proof was sent to the machine with this key.
    pub(crate) fn gave(&mut self, key: &str, proof: String) {
        if let Some(visit) = self.visits.iter_mut().find(|visit| visit.asking.key == key) {
            visit.stage = Stage::Given(proof);
        }
    }

    /// A machine says that it has its bundle. Gives node and fingerprint.
    ///
    /// # Errors
    /// It does not have it, or never asked here: another server may have given it.
    pub(crate) fn report(&mut self, report: &Report) -> Result<(NodeId, String), String> {
        let visit = self.visits.iter_mut().find(|visit| visit.asking.key == report.key);
        let visit = visit.ok_or("this key has not asked here")?;
        let Ok((id, _)) = &visit.node else { return Err("it is no node".into()) };
        match &visit.stage {
            Stage::Given(proof) if *proof == report.proof => {}
            Stage::Reported => {}
            _ => return Err("that is not the bundle that was given".into()),
        }
        visit.stage = Stage::Reported;
        let print = fingerprint(&report.key);
        let id = *id;
        self.reported.insert(id, print.clone());
        self.close(id);
        Ok((id, print))
    }

    /// Nobody else is asked about for a node that has reported in.
    fn close(&mut self, node: NodeId) {
        if !self.is_given(node) {
            return;
        }
        let open = |visit: &&mut Visit| {
            visit.node.as_ref().is_ok_and(|(id, _)| *id == node)
                && matches!(visit.stage, Stage::Waiting | Stage::Approved | Stage::Given(_))
        };
        self.visits.iter_mut().filter(open).for_each(|visit| visit.stage = Stage::Late);
    }
}
