//! The wave's program: its settings, with the password of the agents' account in ZooKeeper, and the node's certificate.

use super::tls::{self, Names};
use super::{Facts, address, ports};
use crate::config::{NetworkName, Node, Role, Update};
use crate::patroni::PORT;
use crate::services::{Desired, File, Owner, UnitName, UnitWish};
use crate::wave::parts::Commits;
use crate::wave::settings::{Fetch, SECRETS, SETTINGS, Seat, Settings};

/// The unit, on every node.
pub const UNIT: UnitName = UnitName::fixed("trilith-wave.service");

/// The program of the wave, on every node. It reads its settings at its start alone.
pub fn desired(facts: Facts<'_>) -> Desired {
    let owner = Owner::default();
    let names = Names {
        authority: Some("authority.pem"),
        certificates: &["node.pem"],
        keys: &["node.key"],
    };
    let mut desired = tls::apart(&facts.secrets.identity, SECRETS, &owner, &names);
    // Plain values: they can always be written.
    let text = serde_json::to_string_pretty(&settings(facts)).unwrap_or_default();
    let path = format!("{SECRETS}/{SETTINGS}");
    desired.files.insert(path.clone(), File::secret(format!("{text}\n"), owner));
    let wish = UnitWish::default().restarts_on(format!("{SECRETS}/")).needs(path);
    desired.units.insert(UNIT, wish);
    desired
}

fn settings(facts: Facts<'_>) -> Settings {
    let patroni = &facts.config.settings.postgres.patroni;
    let update = facts.config.settings.update.as_ref();
    let seat =
        |node: &Node| Seat { name: node.name.clone(), coordinator: node.role == Role::Coordinator };
    let keepers = facts.coordinators(NetworkName::Cluster);
    let own = address(facts.node, NetworkName::Cluster).filter(|_| facts.coordinates());
    Settings {
        node: facts.node.id,
        nodes: facts.config.nodes.values().map(|node| (node.id, seat(node))).collect(),
        keepers: keepers
            .map(|(_, address)| format!("{}:{}", super::bracketed(address), ports::ZOOKEEPER))
            .collect(),
        password: facts.secrets.zookeeper.agent.reveal().to_owned(),
        patroni: own.map(|address| (address, PORT).into()),
        commits: Commits { synchronous: patroni.synchronous, max_lag: patroni.max_lag.bytes() },
        window: update.and_then(|update| update.window.clone()),
        fetch: update.map(fetch),
    }
}

fn fetch(update: &Update) -> Fetch {
    Fetch {
        source: update.source.clone(),
        trust: update.trust.clone(),
        trial: update.trial.as_duration().as_secs(),
    }
}
