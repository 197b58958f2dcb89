//! Ceph, Postgres, ZooKeeper, updates, logs, metrics: defaults, and what cannot work.

use std::collections::BTreeSet;

use super::{Check, Told, given_or, items};
use crate::config::given::Given;
use crate::config::merge::MergedNode;
use crate::config::problem::{error, warning};
use crate::config::raw::{RawFile, RawLogRemote, RawPool, RawWindow, RawZooKeeper};
use crate::config::spots::Spot;
use crate::config::{
    Ceph, FailureDomain, LogProtocol, LogRemote, Logging, Metrics, Patroni, Pool, Postgres, Update,
    Weekday, Window, ZooKeeper,
};
use crate::names::{ByteSize, Channel, Count, LabelKey, Period};

/// The shortest and the longest trial of a release.
const MIN_TRIAL: Period = Period::seconds(60);
const MAX_TRIAL: Period = Period::seconds(2 * 3600);

/// Ceph.
pub(super) fn ceph(check: Check<'_>, file: &RawFile, nodes: &[MergedNode]) -> Option<Ceph> {
    if matches!(file.ceph, Given::Wrong) {
        return None;
    }
    let raw = file.ceph.get().cloned().unwrap_or_default();
    let failure_domain = failure_domain(raw.failure_domain.get());
    let spot = raw.failure_domain.at().map(|(_, spot)| spot);
    check_domain_labels(check, &failure_domain, spot, nodes);
    let pool = pool(check, raw.pool.get().cloned().unwrap_or_default());
    let spot =
        raw.pool.at().or(None).map(|(_, spot)| spot).or(file.ceph.at().map(|(_, spot)| spot));
    warn_of_few_domains(check, &failure_domain, pool, nodes, spot.unwrap_or(Spot::ROOT));
    Some(Ceph {
        public_network: given_or(&raw.public_network, Ceph::DEFAULT.public_network),
        cluster_network: given_or(&raw.cluster_network, Ceph::DEFAULT.cluster_network),
        failure_domain,
        pool,
        osd_memory: given_or(&raw.osd_memory, Ceph::DEFAULT.osd_memory),
    })
}

fn failure_domain(word: Option<&LabelKey>) -> FailureDomain {
    match word.map(LabelKey::as_str) {
        Some("osd") => FailureDomain::Osd,
        None => Ceph::DEFAULT.failure_domain,
        Some("host") => FailureDomain::Host,
        Some(_) => word.cloned().map_or(FailureDomain::Host, FailureDomain::Label),
    }
}

fn carries_osds(node: &MergedNode) -> bool {
    node.osds.get().is_some_and(|osds| !osds.is_empty())
}

/// A node with OSDs and without the label would be in no failure domain.
fn check_domain_labels(
    check: Check<'_>,
    domain: &FailureDomain,
    spot: Option<Spot>,
    nodes: &[MergedNode],
) {
    let (FailureDomain::Label(key), Some(spot)) = (domain, spot) else { return };
    for node in nodes.iter().filter(|node| carries_osds(node) && !node.labels.contains_key(key)) {
        let reason = format!("the failure domain is the label `{key}`, which nodes with OSDs lack");
        let help = format!("write `labels: {{{key}: …}}` for each node, or `failure_domain: host`");
        check.tell_on(node, error(spot, reason).help(help));
    }
}

fn pool(check: Check<'_>, raw: RawPool) -> Pool {
    let RawPool { size: raw_size, min_size: raw_min } = raw;
    let size = given_or(&raw_size, Pool::DEFAULT.size);
    let min_size = given_or(&raw_min, size.min(Pool::DEFAULT.min_size));
    if let Some((0, spot)) = raw_size.at() {
        check.tell(error(spot, "a pool has at least one copy").help("write 3"));
    } else if let Some((1, spot)) = raw_size.at() {
        let reason = "with a single copy, one lost disk loses data";
        check.tell(warning(spot, reason).help("write 3, unless this is a lab"));
    }
    if let Some((min, spot)) = raw_min.at() {
        if *min == 0 || *min > size {
            let reason = format!("min_size is 1 to size, which is {size}");
            check.tell(error(spot, reason).help(format!("write {}", size.clamp(1, 2))));
        } else if *min == 1 && size > 1 {
            let reason = "with min_size 1, writes go on with one copy left, and the next lost disk loses them";
            check.tell(warning(spot, reason).help("write 2"));
        }
    }
    Pool { size, min_size }
}

fn warn_of_few_domains(
    check: Check<'_>,
    domain: &FailureDomain,
    pool: Pool,
    nodes: &[MergedNode],
    spot: Spot,
) {
    let carriers: Vec<&MergedNode> = nodes.iter().filter(|node| carries_osds(node)).collect();
    let count = match domain {
        FailureDomain::Osd => return,
        FailureDomain::Host => carriers.len(),
        FailureDomain::Label(key) => {
            let values = carriers.iter().filter_map(|node| node.labels.get(key)?.get());
            values.collect::<BTreeSet<_>>().len()
        }
    };
    if count > 0 && count < usize::from(pool.size) {
        let reason = format!(
            "a pool keeps {} copies apart by {domain}, and there are OSDs in only {count}: pools stay degraded",
            pool.size
        );
        let help = format!("write `ceph: {{pool: {{size: {count}}}}}`, or give more nodes OSDs");
        check.tell(warning(spot, reason).help(help));
    }
}

/// Postgres and Patroni. A default in place of a wrong value does no harm: the file is refused anyway.
pub(super) fn postgres(check: Check<'_>, file: &RawFile) -> Postgres {
    let raw = file.postgres.get().cloned().unwrap_or_default();
    Postgres {
        port: count_or(&raw.port, Postgres::DEFAULT.port),
        max_connections: count_or(&raw.max_connections, Postgres::DEFAULT.max_connections),
        shared_buffers: given_or(&raw.shared_buffers, Postgres::DEFAULT.shared_buffers),
        patroni: patroni(check, &raw.patroni),
    }
}

fn count_or(given: &Given<Count>, default: u16) -> u16 {
    given.get().map_or(default, |count| count.get())
}

/// Patroni's own lower bounds (its documentation, "Dynamic configuration settings").
fn patroni(check: Check<'_>, given: &Given<crate::config::raw::RawPatroni>) -> Patroni {
    let raw = given.get().cloned().unwrap_or_default();
    let bounds = [
        ("ttl", &raw.ttl, Period::seconds(20)),
        ("loop_wait", &raw.loop_wait, Period::seconds(1)),
        ("retry_timeout", &raw.retry_timeout, Period::seconds(3)),
    ];
    for (key, period, least) in bounds {
        if let Some((period, spot)) = period.at()
            && *period < least
        {
            let reason = format!("Patroni takes a {key} of at least {least}");
            check.tell(error(spot, reason).help(format!("write {least} or more")));
        }
    }
    let patroni = Patroni {
        ttl: given_or(&raw.ttl, Patroni::DEFAULT.ttl),
        loop_wait: given_or(&raw.loop_wait, Patroni::DEFAULT.loop_wait),
        retry_timeout: given_or(&raw.retry_timeout, Patroni::DEFAULT.retry_timeout),
        max_lag: given_or(&raw.max_lag, Patroni::DEFAULT.max_lag),
        synchronous: given_or(&raw.synchronous, Patroni::DEFAULT.synchronous),
    };
    let needed = patroni.loop_wait.as_duration() + 2 * patroni.retry_timeout.as_duration();
    if let Some((_, spot)) = given.at()
        && patroni.ttl.as_duration() < needed
    {
        let reason = format!(
            "ttl {} is less than loop_wait {} + 2 * retry_timeout {}: a slow answer would cost the leader its place",
            patroni.ttl, patroni.loop_wait, patroni.retry_timeout
        );
        check.tell(error(spot, reason).help(format!("write `ttl: {}s` or more", needed.as_secs())));
    }
    patroni
}

/// ZooKeeper. Its sessions live 2 to 20 ticks, so that the tick bounds how fast a dead node is noticed.
pub(super) fn zookeeper(check: Check<'_>, file: &RawFile) -> Option<ZooKeeper> {
    if matches!(file.zookeeper, Given::Wrong) {
        return None;
    }
    let raw = file.zookeeper.get().cloned().unwrap_or_default();
    let RawZooKeeper { tick, init_limit, sync_limit, max_connections, heap } = raw;
    if let Some((period, spot)) = tick.at()
        && !(Period::millis(200)..=Period::seconds(10)).contains(period)
    {
        let reason =
            "the tick is 200ms to 10s: shorter loses sessions to a pause, longer hides dead nodes";
        check.tell(error(spot, reason).help("2s is usual"));
    }
    if let Some((size, spot)) = heap.at()
        && *size < ByteSize::mib(64)
    {
        check.tell(error(spot, "ZooKeeper needs a heap of at least 64MiB").help("256MiB is usual"));
    }
    Some(ZooKeeper {
        tick: given_or(&tick, ZooKeeper::DEFAULT.tick),
        init_limit: count_or(&init_limit, ZooKeeper::DEFAULT.init_limit),
        sync_limit: count_or(&sync_limit, ZooKeeper::DEFAULT.sync_limit),
        max_connections: count_or(&max_connections, ZooKeeper::DEFAULT.max_connections),
        heap: given_or(&heap, ZooKeeper::DEFAULT.heap),
    })
}

/// Updates, if there is such a section.
pub(super) fn update(check: Check<'_>, file: &RawFile) -> Result<Option<Update>, Told> {
    let (raw, spot) = match &file.update {
        Given::Absent => return Ok(None),
        Given::Wrong => return Err(Told),
        Given::Is(raw, spot) => (raw, *spot),
    };
    let help = "write `source: https://os.example.net/trilith`";
    let source = check.need(&raw.source, spot, "source", help);
    let help = "write the line `trust: …` that `trilith keys show --keys DIR` prints: who signs the releases";
    let trust = check.need(&raw.trust, spot, "trust", help);
    let channel = given_or(&raw.channel, Channel::stable());
    let window = raw.window.at().and_then(|(window, spot)| self::window(check, window, spot));
    let trial = trial(check, &raw.trial);
    Ok(Some(Update {
        source: source.ok_or(Told)?,
        trust: trust.ok_or(Told)?,
        channel,
        window,
        trial,
    }))
}

/// How long a node may take to prove a release.
fn trial(check: Check<'_>, trial: &Given<Period>) -> Period {
    if let Some((period, spot)) = trial.at()
        && !(MIN_TRIAL..=MAX_TRIAL).contains(period)
    {
        let reason = "a trial is 1m to 2h: shorter ends before services are up, longer keeps the next node waiting";
        check.tell(error(spot, reason).help("write `trial: 15m`"));
    }
    given_or(trial, Update::TRIAL)
}

fn window(check: Check<'_>, raw: &RawWindow, spot: Spot) -> Option<Window> {
    let from = check.need(&raw.from, spot, "from", "write `from: \"02:00\"`, UTC");
    let to = check.need(&raw.to, spot, "to", "write `to: \"05:00\"`, UTC");
    let days: BTreeSet<Weekday> = items(&raw.days).map(|(day, _)| *day).collect();
    if let Some((list, spot)) = raw.days.at()
        && list.is_empty()
    {
        check.tell(
            error(spot, "a window on no day never opens")
                .help("write `days: [sat, sun]`, or remove it"),
        );
    }
    if let (Some((from, _)), Some((to, at))) = (raw.from.at(), raw.to.at())
        && from == to
    {
        let reason = "the window ends when it begins";
        check.tell(
            error(at, reason)
                .help("write a later time, or remove the window: then any time is right"),
        );
    }
    let days = if raw.days.is_absent() { Weekday::ALL.into() } else { days };
    Some(Window { days, from: from?, to: to? })
}

/// Logging.
pub(super) fn logging(check: Check<'_>, file: &RawFile) -> Option<Logging> {
    if matches!(file.logging, Given::Wrong) {
        return None;
    }
    let raw = file.logging.get().cloned().unwrap_or_default();
    let keep = given_or(&raw.keep, Logging::DEFAULT.keep);
    let remote = match raw.remote.at() {
        None => None,
        Some((RawLogRemote { address, protocol }, spot)) => {
            let help = "write `address: logs.example.net:6514`";
            let address = check.need(address, spot, "address", help)?;
            Some(LogRemote { address, protocol: given_or(protocol, LogProtocol::SyslogTls) })
        }
    };
    Some(Logging { remote, keep })
}

/// Metrics.
pub(super) fn metrics(file: &RawFile) -> Metrics {
    let raw = file.metrics.get().cloned().unwrap_or_default();
    Metrics {
        network: raw.network.get().copied(),
        port: count_or(&raw.port, Metrics::DEFAULT.port),
    }
}
