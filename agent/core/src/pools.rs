//! Ceph's pools, what its clients may, the OSDs that were replaced, and how the whole cluster stands. One node answers for them: the
//! coordinator whose monitor leads.
//!
//! The cluster file says how many copies there are and what keeps them apart; everything else of a pool is Ceph's
//! affair, above all the number of its placement groups, which its autoscaler finds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::status::{Details, Problem};
use crate::subject::{Plan, Subject};

pub mod answer; // what the monitors say
#[cfg(test)]
mod tests;

/// The pool of the machines' disks.
pub const MACHINES: &str = "machines";

/// What the pools are for (`osd pool application`).
const APPLICATION: &str = "rbd";

/// Placement groups of a new pool (`osd_pool_default_pg_num`): left to itself the autoscaler begins with one, on one
/// disk, and finds more only after minutes.
const FIRST_GROUPS: u32 = 32;

/// What a client may ask (`caps`), by the kind of daemon: `mon`, `mgr`, `osd`.
pub type Capabilities = BTreeMap<String, String>;

/// Ceph's pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pools;

/// Which pools there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// Every pool by its name. Others are left alone.
    pub pools: BTreeMap<String, Wish>,
    /// What clients may that were made when the cluster was: releases that came later may want more, or less.
    #[serde(default)]
    pub clients: BTreeMap<String, Capabilities>,
}

/// How a pool should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Copies when all is well.
    pub size: u8,
    /// Copies below which it stops writing.
    pub min_size: u8,
    /// The level of the hierarchy at which copies are kept apart: `host`, `rack`.
    pub domain: String,
}

/// What the node shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Observed {
    /// The cluster, if this node's monitor leads; else it is not asked.
    pub cluster: Option<Cluster>,
}

/// How the whole cluster stands, as its monitors say (`status`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// `HEALTH_OK`, `HEALTH_WARN`, `HEALTH_ERR`.
    pub health: String,
    /// Why it is not OK: a sentence for each check that fails, by its name.
    pub checks: BTreeMap<String, String>,
    /// Monitors in the quorum, and all of them.
    pub monitors: Share,
    /// Managers at work, 0 or 1, and with those that stand by.
    pub managers: Share,
    /// OSDs that are up, and all of them.
    pub osds: Share,
    /// OSDs that get data (`in`).
    pub osds_in: u64,
    /// OSDs that are down, and whose disk carries another one that is up: they are gone for good.
    pub replaced: BTreeMap<u64, Replaced>,
    /// How many placement groups are in each state.
    pub placement: BTreeMap<String, u64>,
    /// The pools that there are. Of those that are not desired, only the name is known.
    pub pools: BTreeMap<String, Option<Pool>>,
    /// The CRUSH rules.
    pub rules: BTreeSet<String>,
    /// What the clients may that are desired and known.
    pub clients: BTreeMap<String, Capabilities>,
}

/// How Ceph still counts on an OSD that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replaced {
    /// It is to get data (`in`).
    In,
    /// It is not, and the copies that it had are not all made anew yet.
    Missed,
    /// Nothing of it is missed (`osd safe-to-destroy`).
    Free,
}

/// So many of so many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Those that work.
    pub of: u64,
    /// All.
    pub all: u64,
}

/// A pool as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Copies when all is well.
    pub size: u8,
    /// Copies below which it stops writing.
    pub min_size: u8,
    /// The CRUSH rule that places them.
    pub rule: String,
    /// What it says that it is for.
    pub applications: BTreeSet<String>,
}

/// One change: one command to the monitors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the CRUSH rule that keeps copies apart at a level.
    MakeRule(String),
    /// Make a pool.
    Make {
        /// Its name.
        pool: String,
        /// How it should be.
        wish: Wish,
    },
    /// Change a number of copies or the rule (`osd pool set`).
    Set {
        /// The pool.
        pool: String,
        /// Of what.
        key: &'static str,
        /// The new value.
        value: String,
    },
    /// Say what the pool is for.
    Use(String),
    /// Change what a client may.
    Allow {
        /// The client.
        client: String,
        /// All that it may from then on.
        may: Capabilities,
    },
    /// Count on an OSD no more, so that its copies are made elsewhere.
    Out(u64),
    /// Forget an OSD.
    Forget(u64),
}

impl Subject for Pools {
    const NAME: &'static str = "pools";
    type Desired = Desired;
    type Observed = Observed;
    type Step = Step;

    fn plan(desired: &Desired, observed: &Observed) -> Plan<Step> {
        let mut plan = Plan::default();
        let Some(cluster) = &observed.cluster else { return plan };
        let domains: BTreeSet<_> = desired.pools.values().map(|wish| &wish.domain).collect();
        let missing = domains.into_iter().filter(|domain| !cluster.rules.contains(&rule(domain)));
        plan.steps.extend(missing.cloned().map(Step::MakeRule));
        for (name, wish) in &desired.pools {
            match cluster.pools.get(name) {
                Some(Some(pool)) => plan.steps.extend(mend(name, wish, pool)),
                Some(None) => {
                    let reason = "it is there, and the monitors do not say how it is".into();
                    plan.problems.push(Problem { object: name.clone(), reason });
                }
                None => plan.steps.push(Step::Make { pool: name.clone(), wish: wish.clone() }),
            }
        }
        for (client, may) in &desired.clients {
            match cluster.clients.get(client) {
                Some(now) if now == may => {}
                Some(_) => {
                    plan.steps.push(Step::Allow { client: client.clone(), may: may.clone() });
                }
                None => {
                    let reason = "Ceph does not know this client".into();
                    plan.problems.push(Problem { object: client.clone(), reason });
                }
            }
        }
        plan.steps.extend(cluster.replaced.iter().filter_map(|(osd, state)| match state {
            Replaced::In => Some(Step::Out(*osd)),
            Replaced::Missed => None,
            Replaced::Free => Some(Step::Forget(*osd)),
        }));
        if cluster.health == "HEALTH_ERR" {
            let problem = |(name, reason): (&String, &String)| Problem {
                object: name.clone(),
                reason: reason.clone(),
            };
            plan.problems.extend(cluster.checks.iter().map(problem));
        }
        plan
    }

    fn details(_desired: &Desired, observed: &Observed) -> Details {
        let Some(cluster) = &observed.cluster else { return Details::default() };
        let Cluster { health, checks, monitors, managers, osds, osds_in, placement, pools, .. } =
            cluster;
        let reasons: Vec<_> = checks.values().map(String::as_str).collect();
        let health = match reasons.as_slice() {
            [] => health.clone(),
            reasons => format!("{health}: {}", reasons.join("; ")),
        };
        let groups: Vec<_> =
            placement.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let more = [
            ("health", health),
            ("monitors", format!("{} of {} in quorum", monitors.of, monitors.all)),
            ("managers", format!("{} of {} active", managers.of, managers.all)),
            ("osds", format!("{} up, {osds_in} in, of {}", osds.of, osds.all)),
            ("placement groups", groups.join(", ")),
            ("pools", pools.keys().cloned().collect::<Vec<_>>().join(", ")),
        ];
        let more = more.map(|(name, text)| (name.to_owned(), text)).into();
        Details { more, ..Details::default() }
    }
}

/// The name of the CRUSH rule for a level. It says what the rule does, so that one with the name is right.
fn rule(domain: &str) -> String {
    format!("by-{domain}")
}

/// What brings a pool to what it should be. The number below which it stops writing is never above the number of
/// copies, in between neither.
fn mend(name: &str, wish: &Wish, pool: &Pool) -> Vec<Step> {
    let set = |key, wanted: String, is: &str| {
        (wanted != is).then(|| Step::Set { pool: name.to_owned(), key, value: wanted })
    };
    let size = set("size", wish.size.to_string(), &pool.size.to_string());
    let min_size = set("min_size", wish.min_size.to_string(), &pool.min_size.to_string());
    let numbers = if wish.min_size <= pool.size { [min_size, size] } else { [size, min_size] };
    let rule = set("crush_rule", rule(&wish.domain), &pool.rule);
    let used = pool.applications.contains(APPLICATION);
    let used = (!used).then(|| Step::Use(name.to_owned()));
    numbers.into_iter().chain([rule, used]).flatten().collect()
}

/// What is asked of the monitors to see the cluster, in this order.
pub fn questions(desired: &Desired) -> Vec<Value> {
    let mut all = vec![
        json!({"prefix": "status", "format": "json"}),
        json!({"prefix": "osd crush rule ls", "format": "json"}),
        json!({"prefix": "osd pool ls", "format": "json"}),
        json!({"prefix": "osd dump", "format": "json"}),
    ];
    for pool in desired.pools.keys() {
        all.push(json!({"prefix": "osd pool get", "pool": pool, "var": "all", "format": "json"}));
        all.push(json!({"prefix": "osd pool application get", "pool": pool, "format": "json"}));
    }
    let ask = |client| json!({"prefix": "auth get", "entity": client, "format": "json"});
    all.extend(desired.clients.keys().map(ask));
    all
}

/// Whether an OSD that is gone is missed: an answer says that it is not, a refusal that it is.
pub fn is_missed(osd: u64) -> Value {
    json!({"prefix": "osd safe-to-destroy", "ids": [osd.to_string()], "format": "json"})
}

impl Step {
    /// The command, as the monitors take it.
    pub fn command(&self) -> Value {
        match self {
            Self::MakeRule(domain) => json!({
                "prefix": "osd crush rule create-replicated",
                "name": rule(domain), "root": "default", "type": domain,
            }),
            Self::Make { pool, wish } => json!({
                "prefix": "osd pool create",
                "pool": pool, "pool_type": "replicated", "rule": rule(&wish.domain),
                "pg_num": FIRST_GROUPS, "size": wish.size, "yes_i_really_mean_it": true,
            }),
            // The cluster file is where a person really means it: `config check` warns of a single copy.
            Self::Set { pool, key, value } => json!({
                "prefix": "osd pool set",
                "pool": pool, "var": key, "val": value, "yes_i_really_mean_it": true,
            }),
            Self::Use(pool) => json!({
                "prefix": "osd pool application enable", "pool": pool, "app": APPLICATION,
            }),
            Self::Allow { client, may } => {
                let caps: Vec<_> = may.iter().flat_map(|(kind, allowed)| [kind, allowed]).collect();
                json!({"prefix": "auth caps", "entity": client, "caps": caps})
            }
            Self::Out(osd) => json!({"prefix": "osd out", "ids": [osd.to_string()]}),
            // What the managers order for `osd purge`, after the same question as [`is_missed`].
            Self::Forget(osd) => {
                json!({"prefix": "osd purge-actual", "id": osd, "yes_i_really_mean_it": true})
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeRule(domain) => {
                write!(f, "make the CRUSH rule {}: copies apart by {domain}", rule(domain))
            }
            Self::Make { pool, wish } => {
                write!(
                    f,
                    "make the pool {pool} with {} copies, apart by {}",
                    wish.size, wish.domain
                )
            }
            Self::Set { pool, key, value } => write!(f, "set {key} of the pool {pool} to {value}"),
            Self::Use(pool) => write!(f, "mark the pool {pool} as one for {APPLICATION}"),
            Self::Allow { client, may } => {
                let may: Vec<_> =
                    may.iter().map(|(kind, allowed)| format!("{kind} {allowed:?}")).collect();
                write!(f, "change what {client} may to {}", may.join(", "))
            }
            Self::Out(osd) => {
                write!(f, "count on OSD {osd} no more: its disk carries another one")
            }
            Self::Forget(osd) => write!(f, "forget OSD {osd}: its disk carries another one"),
        }
    }
}
