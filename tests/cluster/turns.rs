//! Changes that make every coordinator restart something: one after the other, the leader last.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use trilith_core::status::State;
use trilith_tests::lab::{Container, Lab};
use trilith_tests::quorums::{
    PATIENCE, address, all_formed, database_leader, leader, nodes, subject,
};

use crate::say;

/// ZooKeeper's configuration and a parameter of Postgres that only a restart changes, both for all coordinators.
pub(crate) fn a_change_of_all_is_made_one_after_the_other(lab: &Lab) -> Result<()> {
    lab.cluster().edit(|file| {
        file["zookeeper"]["max_connections"] = 77.into();
        file["postgres"]["max_connections"] = 130.into();
    })?;
    let last = leader(lab)?;
    let (from, begin) = (now()?, Instant::now());
    lab.deliver()?;
    let all = nodes(lab)?;
    for node in &all {
        node.until("ZooKeeper has the new configuration", PATIENCE, || has_restarted(node, from))?;
        nothing_waits(node)?;
    }
    say("ZooKeeper restarted on all coordinators", begin);
    let outages = outages(&all, from, &ZOOKEEPER)?;
    apart(&outages)?;
    ensure!(outages.len() == all.len(), "each restarts once: {outages:?}");
    ensure!(outages.last().is_some_and(|it| it.node == last), "{last} led: {outages:?}");
    for node in &all {
        node.until("Postgres has the new value", PATIENCE, || {
            let value = node.shell(
                "runuser -u postgres -- psql --host=/run/patroni --no-psqlrc -Atqc 'show max_connections'",
            )?;
            ensure!(value.trim() == "130", "{value}");
            Ok(())
        })?;
    }
    say("Postgres restarted on all coordinators", begin);
    apart(&self::outages(&all, from, &POSTGRES)?)?;
    all_formed(lab)
}

pub(crate) fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

fn has_restarted(node: &Container<'_>, from: Duration) -> Result<()> {
    let file = node.shell("cat /etc/zookeeper/zoo.cfg")?;
    ensure!(file.contains("maxClientCnxns=77"), "{file}");
    let outages = outages(std::slice::from_ref(node), from, &ZOOKEEPER)?;
    ensure!(!outages.is_empty(), "not restarted yet");
    Ok(())
}

/// The agent has taken back what it gave, and waits for nothing more.
pub(crate) fn nothing_waits(node: &Container<'_>) -> Result<()> {
    node.wait_status("ZooKeeper's turn is over", PATIENCE, |status| {
        let zookeeper = subject(status, "zookeeper");
        zookeeper.is_ok_and(|it| {
            let turn = it.details.turn.unwrap_or_default();
            it.state == State::Converged && !turn.holds && turn.asks.is_none()
        })
    })?;
    let permit = node.shell("ls /run/trilith/permits /run/trilith/pending")?;
    // Postgres and Ceph may have theirs at the same time.
    let waits = ["zookeeper-restart", "zookeeper.service"].iter().any(|it| permit.contains(it));
    ensure!(!waits, "{permit}");
    Ok(())
}

/// How a service's journal tells that it stops and that it serves again.
pub(crate) struct Marks {
    unit: &'static str,
    ends: &'static str,
    begins: &'static [&'static str],
}

pub(crate) const ZOOKEEPER: Marks = Marks {
    unit: "zookeeper.service",
    ends: "Stopping zookeeper.service",
    begins: &[
        "Peer state changed: following - broadcast",
        "Peer state changed: leading - broadcast",
    ],
};

const POSTGRES: Marks = Marks {
    unit: "patroni.service",
    ends: "received fast shutdown request",
    begins: &["database system is ready to accept"],
};

/// From when to when a node's service did not serve, by the one clock of this host.
#[derive(Debug, Clone)]
pub(crate) struct Outage {
    pub(crate) node: String,
    from: Duration,
    to: Duration,
}

/// Every outage that is over, in order of time.
pub(crate) fn outages(
    nodes: &[Container<'_>],
    from: Duration,
    marks: &Marks,
) -> Result<Vec<Outage>> {
    let mut all = Vec::new();
    for node in nodes {
        let log = node.shell(&format!(
            "journalctl --boot --output json --unit {} --since @{}.{:06}",
            marks.unit,
            from.as_secs(),
            from.subsec_micros()
        ))?;
        let mut ended = None;
        for line in log.lines() {
            let line: Value = serde_json::from_str(line)?;
            let text = line["MESSAGE"].as_str().unwrap_or_default();
            let time = line["__REALTIME_TIMESTAMP"].as_str().context("no time")?;
            let time = Duration::from_micros(time.parse()?);
            if text.contains(marks.ends) {
                ended.get_or_insert(time);
            } else if marks.begins.iter().any(|begins| text.contains(begins)) {
                let node = node.name().to_owned();
                all.extend(ended.take().map(|from| Outage { node, from, to: time }));
            }
        }
    }
    all.sort_by_key(|outage| outage.from);
    Ok(all)
}

/// No two at the same time.
pub(crate) fn apart(outages: &[Outage]) -> Result<()> {
    for pair in outages.windows(2) {
        ensure!(pair[0].to <= pair[1].from, "two at once: {outages:#?}");
    }
    Ok(())
}

/// Every secret that can be replaced while the cluster runs, all at once. Of the authority it is the first of three
/// steps: the new one is trusted.
pub(crate) fn secrets_are_replaced(lab: &Lab) -> Result<()> {
    let before: Vec<_> = nodes(lab)?.iter().map(password_of_replicas).collect::<Result<_>>()?;
    for secret in [
        "certificates",
        "authority",
        "bgp",
        "postgres-superuser",
        "postgres-replication",
        "postgres-rewind",
        "zookeeper-agent",
        "zookeeper-patroni",
    ] {
        lab.cluster().rotate(secret)?;
    }
    let (from, begin) = (now()?, Instant::now());
    lab.deliver()?;
    let all = nodes(lab)?;
    for (node, before) in all.iter().zip(&before) {
        has_the_new_files(node, from)?;
        let password = node.until("Patroni has the new password", PATIENCE, || {
            let password = password_of_replicas(node)?;
            ensure!(password != *before, "the old one");
            Ok(password)
        })?;
        node.until("the new password is the right one", PATIENCE, || {
            logs_in(lab, node, &password)
        })?;
        ensure!(logs_in(lab, node, before).is_err(), "the old password is still right");
    }
    apart(&outages(&all, from, &ZOOKEEPER)?)?;
    all_formed(lab)?;
    for node in &all {
        node.until("every service shows the new certificate", PATIENCE, || shows_its_own(node))?;
    }
    say("every secret replaced, all as before", begin);
    Ok(())
}

/// The password by which replicas stream, as the node's bundle has it.
pub(crate) fn password_of_replicas(node: &Container<'_>) -> Result<String> {
    let file = node.shell("grep -v '^#' /run/trilith/patroni/patroni.yml")?;
    let file: Value = serde_json::from_str(&file)?;
    let password = &file["postgresql"]["authentication"]["replication"]["password"];
    Ok(password.as_str().context("no password")?.to_owned())
}

/// Logs in to the leader from this node, as a replica does.
fn logs_in(lab: &Lab, node: &Container<'_>, password: &str) -> Result<()> {
    logs_in_by(lab, node, password, OWN)
}

/// The same by the certificate and the key in these files.
pub(crate) fn logs_in_by(
    lab: &Lab,
    node: &Container<'_>,
    password: &str,
    files: &str,
) -> Result<()> {
    let leader = address(&database_leader(lab, node.name())?)?;
    node.shell(&format!(
        "PGPASSWORD={password} psql --no-psqlrc --no-password -Atqc 'select 1' 'host={leader} user=replicator \
         dbname=postgres sslmode=verify-full sslrootcert={AUTHORITY} sslcert={files}.pem sslkey={files}.key'"
    ))
    .map(drop)
}

/// Where a node's certificate and its key lie for Patroni, and who signs them.
pub(crate) const OWN: &str = "/run/trilith/patroni/node";
pub(crate) const AUTHORITY: &str = "/run/trilith/patroni/authority.pem";

/// Waits until ZooKeeper has restarted with what the node was given.
pub(crate) fn has_the_new_files(node: &Container<'_>, from: Duration) -> Result<()> {
    node.until("ZooKeeper has the new certificate", PATIENCE, || {
        let own = outages(std::slice::from_ref(node), from, &ZOOKEEPER)?;
        ensure!(!own.is_empty(), "not restarted yet");
        Ok(())
    })?;
    nothing_waits(node)
}

/// ZooKeeper, Patroni, Postgres and the agent show the certificate that the node has.
pub(crate) fn shows_its_own(node: &Container<'_>) -> Result<()> {
    let address = address(node)?;
    let own = node.shell(&format!("openssl x509 -noout -serial -in {OWN}.pem"))?;
    for service in ["2281", "8008", "5432 -starttls postgres", "29810"] {
        let shown = node.shell(&format!(
            "openssl s_client -connect {address}:{service} -cert {OWN}.pem -key {OWN}.key </dev/null \
             2>/dev/null | openssl x509 -noout -serial"
        ))?;
        ensure!(shown == own, "{}: port {service} shows {shown}, not {own}", node.name());
    }
    Ok(())
}
