//! The agents' peer API: what each agent tells the others, over mutual TLS on the cluster network.
//!
//! A server tells this node's facts ([`Facts`]) and status; a client for each coordinator keeps a view of it by
//! long polling: one request at a time, answered when there is news. Nothing here compares the clocks of two
//! machines: that a node is gone is told by its connection.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::warn;
use trilith_core::names::NodeId;
use trilith_core::peers::{Circle, Facts};
use trilith_core::quorum::{Others, Witness};
use trilith_core::secrets::Identity;
use trilith_core::secrets::redact::Redactor;
use trilith_core::status::{NodeStatus, PeerStatus};

use crate::diagnosis;
use crate::reconcile::chain;
use crate::report::{Report, unix_now};
use crate::upgrade;

mod client; // follows one node
mod dial; // connections to the cluster's nodes
mod door; // who is let in, and where
pub(crate) mod http; // one question to a service of a node
mod operators; // lets people look
mod server; // tells the others
#[cfg(test)]
mod tests;
mod tls; // who may talk to whom

pub(crate) use dial::{DialError, Dialer, ends};
pub(crate) use door::Guest;

/// Who this node talks with, and by which certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) circle: Circle,
    pub(crate) identity: Identity,
    /// Takes the node's secrets out of what people look at.
    pub(crate) redactor: Arc<Redactor>,
}

/// What is known of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum View {
    /// Its agent answers, and says this.
    Reachable { facts: Box<Facts>, since: u64 },
    /// It does not, for this reason.
    Unreachable { reason: String, since: u64 },
}

/// What is known of the nodes that this one follows. One that was not asked yet is not there.
pub(crate) type Views = BTreeMap<NodeId, View>;

/// What these nodes say of one subject, as far as they were asked.
pub(crate) fn witnesses<'a>(
    views: &Views,
    nodes: impl Iterator<Item = &'a NodeId>,
    subject: &str,
) -> Others {
    nodes.filter_map(|id| Some((*id, views.get(id)?.witness(subject)))).collect()
}

impl View {
    /// What the node says of one subject.
    fn witness(&self, subject: &str) -> Witness {
        match self {
            Self::Reachable { facts, .. } => Witness::Says(Box::new(facts.details(subject))),
            Self::Unreachable { reason, .. } => Witness::Silent(reason.clone()),
        }
    }

    fn status(&self) -> PeerStatus {
        match self {
            Self::Reachable { since, .. } => PeerStatus { silent: None, since: *since },
            Self::Unreachable { reason, since } => {
                PeerStatus { silent: Some(reason.clone()), since: *since }
            }
        }
    }
}

/// Where the views are kept.
#[derive(Clone)]
struct Board {
    views: Arc<watch::Sender<Views>>,
}

impl Board {
    /// Writes what a node said last; `since` stays while it is the same news.
    fn set(&self, node: NodeId, news: Result<Facts, String>) {
        self.views.send_if_modified(|views| {
            let (old, now) = (views.get(&node), unix_now());
            let view = match (news, old) {
                (Ok(facts), Some(View::Reachable { since, .. })) => {
                    View::Reachable { facts: Box::new(facts), since: *since }
                }
                (Ok(facts), _) => View::Reachable { facts: Box::new(facts), since: now },
                (Err(reason), Some(View::Unreachable { since, .. })) => {
                    View::Unreachable { reason, since: *since }
                }
                (Err(reason), _) => View::Unreachable { reason, since: now },
            };
            let changed = old != Some(&view);
            views.insert(node, view);
            changed
        });
    }
}

/// The conversation with the other agents, and what comes of it.
pub(crate) struct Talk {
    wish: watch::Receiver<Option<Membership>>,
    views: Arc<watch::Sender<Views>>,
    dialer: watch::Sender<Option<Dialer>>,
    redactor: watch::Sender<Arc<Redactor>>,
}

impl Talk {
    /// Talks with nobody yet. The sender says with whom.
    pub(crate) fn new() -> (Self, watch::Sender<Option<Membership>>) {
        let (sender, wish) = watch::channel(None);
        let views = Arc::new(watch::Sender::new(Views::new()));
        let (dialer, redactor) = (watch::Sender::new(None), watch::Sender::default());
        (Self { wish, views, dialer, redactor }, sender)
    }

    /// What is known of the followed nodes, from now on.
    pub(crate) fn views(&self) -> watch::Receiver<Views> {
        self.views.subscribe()
    }

    /// What makes connections to the cluster's nodes; `None` while this node has no certificate.
    pub(crate) fn dialer(&self) -> watch::Receiver<Option<Dialer>> {
        self.dialer.subscribe()
    }

    /// What takes this node's secrets out of texts.
    pub(crate) fn redactor(&self) -> watch::Receiver<Arc<Redactor>> {
        self.redactor.subscribe()
    }

    /// Talks until the agent stops. Begins when the network stands as well as it can.
    pub(crate) async fn run(mut self, report: Report) -> anyhow::Result<()> {
        let mut status = report.subscribe();
        let settled = |status: &NodeStatus| {
            status.subjects.get("network").is_some_and(|network| network.has_settled)
        };
        status.wait_for(settled).await?;
        loop {
            let membership = self.wish.borrow_and_update().clone();
            // Dropped with all its tasks and connections when somebody else is to be talked with, or by another
            // certificate.
            let mut round = JoinSet::new();
            self.views.send_replace(Views::new());
            if let Some(membership) = membership {
                self.start(&mut round, &membership, &report);
            }
            self.wish.changed().await?;
        }
    }

    /// Starts everything for one membership.
    fn start(&self, round: &mut JoinSet<()>, membership: &Membership, report: &Report) {
        let Membership { circle, identity, redactor } = membership;
        self.redactor.send_replace(Arc::clone(redactor));
        report.set_addresses(addresses(circle));
        let board = Board { views: Arc::clone(&self.views) };
        let show = show(circle.clone(), report.clone(), self.views());
        round.spawn_local(show);
        let ends = tls::server(identity).and_then(|tls| Ok((tls, Dialer::new(membership)?)));
        let (server_tls, dialer) = match ends {
            Ok(ends) => ends,
            Err(error) => {
                let reason = format!("this node's certificate cannot be used: {}", chain(&error));
                warn!("peers: {reason}");
                for node in &circle.followed {
                    board.set(*node, Err(reason.clone()));
                }
                return;
            }
        };
        self.dialer.send_replace(Some(dialer.clone()));
        let mut nudges = BTreeMap::new();
        for peer in circle.followed.iter().filter_map(|id| circle.others.get(id)) {
            let nudge = Arc::new(Notify::new());
            nudges.insert(peer.id, Arc::clone(&nudge));
            let own = report.subscribe();
            let follower = client::Follower::new(peer.clone(), dialer.clone(), own);
            round.spawn_local(follower.follow(board.clone(), nudge));
        }
        let routes =
            diagnosis::routes(report.subscribe(), self.redactor()).merge(upgrade::routes());
        let people = operators::door(Arc::clone(&server_tls));
        for ip in &circle.operators {
            round.spawn_local(Rc::clone(&people).listen(*ip, routes.clone()));
        }
        let addresses = circle.me.addresses.clone();
        let door = server::door(circle.clone(), server_tls, nudges);
        round.spawn_local(server::serve(door, addresses, report.subscribe()));
    }
}

/// Where a node is reached by people and by the other nodes; collapsed networks have one address.
fn addresses(circle: &Circle) -> Vec<String> {
    let inside = circle.me.addresses.iter().filter(|ip| !circle.operators.contains(ip));
    circle.operators.iter().chain(inside).map(ToString::to_string).collect()
}

/// Asks each followed node once: for a look that changes nothing.
pub(crate) async fn ask_once(circle: &Circle, dialer: &Dialer) -> Views {
    let own = Report::new().subscribe();
    let mut views = Views::new();
    for peer in circle.followed.iter().filter_map(|id| circle.others.get(id)) {
        let follower = client::Follower::new(peer.clone(), dialer.clone(), own.clone());
        let since = unix_now();
        let view = match follower.once().await {
            Ok(facts) => View::Reachable { facts: Box::new(facts), since },
            Err(error) => View::Unreachable { reason: error.to_string(), since },
        };
        views.insert(peer.id, view);
    }
    views
}

/// Keeps the status right about who answers.
async fn show(circle: Circle, report: Report, mut views: watch::Receiver<Views>) {
    loop {
        let name = |id: &NodeId| circle.others.get(id).map(|peer| peer.name.to_string());
        let peers = views
            .borrow_and_update()
            .iter()
            .filter_map(|(id, view)| Some((name(id)?, view.status())))
            .collect();
        report.set_peers(peers);
        if views.changed().await.is_err() {
            return;
        }
    }
}
