//! Server numbers, names, routing, and the settings that are the same on every node.

use super::{Fact, Section, fact, list, section, setting, word};
use crate::config::{
    Ceph, Config, Frr, Logging, Metrics, NetworkName, Node, Patroni, Postgres, Role, Settings,
    Update, Window, ZooKeeper,
};

/// What a coordinator's services follow from; on other nodes, where they are found.
pub(super) fn services(config: &Config, node: &Node) -> Vec<Section> {
    let mut sections = Vec::new();
    if node.role == Role::Coordinator {
        sections.push(quorums(config, node));
    }
    sections.extend(config.settings.frr.as_ref().map(|frr| routing(frr, node)));
    sections
}

fn quorums(config: &Config, node: &Node) -> Section {
    let number = node.id;
    let facts = vec![
        fact("zookeeper myid", number, format!("node ID {number}")),
        fact(
            "zookeeper servers",
            peers(config, NetworkName::Cluster),
            "each coordinator on cluster",
        ),
        fact("ceph mon", &node.name, "the node's name"),
        fact(
            "ceph mon hosts",
            peers(config, config.settings.ceph.public_network),
            format!("each coordinator on {}", config.settings.ceph.public_network),
        ),
        fact("patroni member", &node.name, "the node's name"),
        fact("patroni scope", &config.name, "the cluster's name"),
    ];
    section("quorums", facts)
}

/// Every coordinator's first address on a network, by its number.
fn peers(config: &Config, name: NetworkName) -> String {
    let address = |node: &Node| {
        let first = node.network(name)?.addresses.first()?.address.addr();
        Some(format!("{}={first}", node.id))
    };
    list(config.coordinator_nodes().filter_map(address), "none")
}

fn routing(frr: &Frr, node: &Node) -> Section {
    let (id, because) = node.router_id();
    let mut facts = vec![fact("asn", frr.asn, "given")];
    facts.push(fact("router id", id, because));
    for peer in &frr.peers {
        let kind = if peer.asn == frr.asn { "internal" } else { "external" };
        let bfd = if peer.bfd { "watched by BFD" } else { "not watched by BFD" };
        let hops = if peer.multihop { ", several hops away" } else { "" };
        let secret = peer.secret.as_ref();
        let secret =
            secret.map_or(String::new(), |secret| format!(", password in secret {secret}"));
        let value = format!("{} AS {}, {kind}, {bfd}{hops}{secret}", peer.address, peer.asn);
        facts.push(fact("peer", value, "given"));
    }
    section("routing", facts)
}

/// The settings of all nodes, defaults filled in.
pub(super) fn settings(config: &Config) -> Section {
    let Settings { ceph, postgres, zookeeper, frr: _, update, logging, metrics } = &config.settings;
    let mut facts = vec![
        match config.time_servers.as_slice() {
            [] => fact(
                "time servers",
                "the coordinators",
                "none is given: they agree among themselves",
            ),
            servers => fact("time servers", list(servers, ""), "given"),
        },
        match config.dns_servers.as_slice() {
            [] => fact("dns servers", "none", "none is given: names are not looked up"),
            servers => fact("dns servers", list(servers, ""), "given"),
        },
    ];
    facts.extend(ceph_facts(ceph));
    facts.extend(postgres_facts(postgres));
    facts.extend(zookeeper_facts(zookeeper));
    facts.extend(update_facts(update.as_ref()));
    facts.extend(report_facts(logging, metrics));
    let keys = config.ssh_keys.len();
    facts.push(match keys {
        0 => fact("ssh keys", keys, "none is given: nobody can log in"),
        _ => fact("ssh keys", keys, "given: their owners may log in as root"),
    });
    section("settings", facts)
}

fn ceph_facts(ceph: &Ceph) -> Vec<Fact> {
    let Ceph { public_network, cluster_network, failure_domain, pool, osd_memory } = ceph;
    let default = Ceph::DEFAULT;
    vec![
        setting("ceph public network", public_network, &default.public_network),
        setting("ceph cluster network", cluster_network, &default.cluster_network),
        setting("ceph failure domain", failure_domain, &default.failure_domain),
        setting("ceph pool size", &pool.size, &default.pool.size),
        setting("ceph pool min size", &pool.min_size, &default.pool.min_size),
        setting("ceph osd memory", osd_memory, &default.osd_memory),
    ]
}

fn postgres_facts(postgres: &Postgres) -> Vec<Fact> {
    let Postgres { port, max_connections, shared_buffers, patroni } = postgres;
    let Patroni { ttl, loop_wait, retry_timeout, max_lag, synchronous } = patroni;
    let (default, patroni) = (Postgres::DEFAULT, Patroni::DEFAULT);
    vec![
        setting("postgres port", port, &default.port),
        setting("postgres connections", max_connections, &default.max_connections),
        setting("postgres shared buffers", shared_buffers, &default.shared_buffers),
        setting("patroni ttl", ttl, &patroni.ttl),
        setting("patroni loop wait", loop_wait, &patroni.loop_wait),
        setting("patroni retry timeout", retry_timeout, &patroni.retry_timeout),
        setting("patroni max lag", max_lag, &patroni.max_lag),
        setting("patroni synchronous", synchronous, &patroni.synchronous),
    ]
}

fn zookeeper_facts(zookeeper: &ZooKeeper) -> Vec<Fact> {
    let ZooKeeper { tick, init_limit, sync_limit, max_connections, heap } = zookeeper;
    let default = ZooKeeper::DEFAULT;
    vec![
        setting("zookeeper tick", tick, &default.tick),
        setting("zookeeper init limit", init_limit, &default.init_limit),
        setting("zookeeper sync limit", sync_limit, &default.sync_limit),
        setting("zookeeper connections", max_connections, &default.max_connections),
        setting("zookeeper heap", heap, &default.heap),
    ]
}

fn report_facts(logging: &Logging, metrics: &Metrics) -> Vec<Fact> {
    let Logging { remote, keep } = logging;
    let Metrics { network, port } = metrics;
    vec![
        match remote {
            Some(remote) => fact(
                "logs to",
                format!("{} by {}", remote.address, word(&remote.protocol)),
                "given",
            ),
            None => fact("logs to", "nowhere", "no remote is given: they stay on the node"),
        },
        setting("journal at most", keep, &Logging::DEFAULT.keep),
        match network {
            Some(network) => fact("metrics", format!("port {port} of {network}"), "given"),
            None => fact("metrics", "local socket", "no network is given"),
        },
    ]
}

fn update_facts(update: Option<&Update>) -> Vec<Fact> {
    let Some(Update { source, trust, channel, window, trial }) = update else {
        return vec![fact("updates", "by hand", "no update is given")];
    };
    let window = window.as_ref().map_or_else(|| "at any time".to_owned(), describe);
    vec![
        fact("updates", format!("{channel} from {source}, {window}"), "given"),
        fact("updates trust", trust, "given: releases are signed by whom this root names"),
        setting("updates trial", trial, &Update::TRIAL),
    ]
}

fn describe(window: &Window) -> String {
    let Window { days, from, to } = window;
    let days = days.iter().map(word);
    format!("{} {from} to {to} UTC", list(days, ""))
}
