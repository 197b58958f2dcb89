//! What the monitors say to [`super::questions`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Capabilities, Cluster, Desired, Pool, Replaced, Share};
use crate::osds::mark::of_one_disk;

/// What came of one command, a line of JSON for each in the output of `trilith-rados`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The answer; null if there is none.
    Answer(Value),
    /// The monitors' reason to refuse it.
    Refusal(String),
}

/// Replies that are not understood, with the reason.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// They do not have the form that they should have.
    #[error("the answer to `{0}` is not understood")]
    Form(&'static str, #[source] serde_json::Error),
    /// The monitors refused a question.
    #[error("the monitors refuse `{0}`: {1}")]
    Refused(&'static str, String),
    /// Fewer replies than questions.
    #[error("there is no answer to `{0}`")]
    Missing(&'static str),
}

/// The part of `status` that counts.
#[derive(Deserialize)]
struct Status {
    health: Health,
    #[serde(default)]
    quorum_names: Vec<String>,
    monmap: Monitors,
    osdmap: Osds,
    pgmap: Groups,
    mgrmap: Managers,
}

#[derive(Deserialize)]
struct Health {
    status: String,
    #[serde(default)]
    checks: BTreeMap<String, Check>,
}

#[derive(Deserialize)]
struct Check {
    summary: Summary,
}

#[derive(Deserialize)]
struct Summary {
    message: String,
}

#[derive(Deserialize)]
struct Monitors {
    num_mons: u64,
}

#[derive(Deserialize)]
struct Osds {
    #[serde(rename = "num_osds")]
    all: u64,
    #[serde(rename = "num_up_osds")]
    up: u64,
    #[serde(rename = "num_in_osds")]
    data: u64,
}

#[derive(Deserialize)]
struct Groups {
    #[serde(default)]
    pgs_by_state: Vec<InState>,
}

#[derive(Deserialize)]
struct InState {
    state_name: String,
    count: u64,
}

#[derive(Deserialize)]
struct Managers {
    available: bool,
    num_standbys: u64,
}

/// The part of `osd dump` that counts.
#[derive(Deserialize)]
struct Map {
    osds: Vec<Osd>,
}

/// An OSD that Ceph knows. What is said of it is 0 or 1.
#[derive(Deserialize)]
struct Osd {
    #[serde(rename = "osd")]
    number: u64,
    uuid: String,
    up: u8,
    #[serde(rename = "in")]
    data: u8,
}

/// The part of `osd pool get … all` that counts.
#[derive(Deserialize)]
struct Settings {
    size: u8,
    min_size: u8,
    crush_rule: String,
}

/// The part of `auth get` that counts. The key stands there, too.
#[derive(Deserialize)]
struct Client {
    caps: Capabilities,
}

/// Reads the replies.
pub fn cluster(desired: &Desired, replies: Vec<Reply>) -> Result<Cluster, ReplyError> {
    let mut replies = replies.into_iter();
    let status: Status = answer("status", replies.next())?;
    let rules: BTreeSet<String> = answer("osd crush rule ls", replies.next())?;
    let names: Vec<String> = answer("osd pool ls", replies.next())?;
    let map: Map = answer("osd dump", replies.next())?;
    let mut pools: BTreeMap<_, _> = names.into_iter().map(|name| (name, None)).collect();
    for name in desired.pools.keys() {
        let (settings, applications) = (replies.next(), replies.next());
        // A pool that was not there when it was looked for is refused, and is looked for again soon.
        if let Some(pool) = pools.get_mut(name)
            && let (Some(Reply::Answer(_)), Some(Reply::Answer(_))) = (&settings, &applications)
        {
            *pool = Some(read(settings, applications)?);
        }
    }
    let mut clients = BTreeMap::new();
    for client in desired.clients.keys() {
        match replies.next() {
            // It is not there.
            Some(Reply::Refusal(_)) => {}
            reply => {
                let found: Vec<Client> = answer("auth get", reply)?;
                clients.extend(found.into_iter().map(|it| (client.clone(), it.caps)));
            }
        }
    }
    Ok(Cluster { pools, rules, clients, replaced: replaced(&map.osds), ..status.into() })
}

/// Those that are gone for good. Whether they are missed is another question.
fn replaced(osds: &[Osd]) -> BTreeMap<u64, Replaced> {
    let gone = |osd: &&Osd| {
        let instead = |other: &Osd| other.up == 1 && of_one_disk(&osd.uuid, &other.uuid);
        osd.up == 0 && osds.iter().any(instead)
    };
    let state = |osd: &Osd| if osd.data == 1 { Replaced::In } else { Replaced::Missed };
    osds.iter().filter(gone).map(|osd| (osd.number, state(osd))).collect()
}

fn read(settings: Option<Reply>, applications: Option<Reply>) -> Result<Pool, ReplyError> {
    let Settings { size, min_size, crush_rule } = answer("osd pool get", settings)?;
    let applications: BTreeMap<String, Value> = answer("osd pool application get", applications)?;
    let applications = applications.into_keys().collect();
    Ok(Pool { size, min_size, rule: crush_rule, applications })
}

fn answer<T>(question: &'static str, reply: Option<Reply>) -> Result<T, ReplyError>
where
    T: for<'de> Deserialize<'de>,
{
    match reply {
        Some(Reply::Answer(value)) => {
            serde_json::from_value(value).map_err(|source| ReplyError::Form(question, source))
        }
        Some(Reply::Refusal(reason)) => Err(ReplyError::Refused(question, reason)),
        None => Err(ReplyError::Missing(question)),
    }
}

impl From<Status> for Cluster {
    fn from(status: Status) -> Self {
        let Status { health, quorum_names, monmap, osdmap, pgmap, mgrmap } = status;
        let active = u64::from(mgrmap.available);
        let checks = health.checks.into_iter();
        let groups = pgmap.pgs_by_state.into_iter();
        Self {
            health: health.status,
            checks: checks.map(|(name, check)| (name, check.summary.message)).collect(),
            monitors: Share {
                of: u64::try_from(quorum_names.len()).unwrap_or(u64::MAX),
                all: monmap.num_mons,
            },
            managers: Share { of: active, all: active + mgrmap.num_standbys },
            osds: Share { of: osdmap.up, all: osdmap.all },
            osds_in: osdmap.data,
            placement: groups.map(|group| (group.state_name, group.count)).collect(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pools::Wish;

    fn desired() -> Desired {
        let wish = Wish { size: 3, min_size: 2, domain: "host".into() };
        let may = [("mon".to_owned(), "allow r".to_owned())].into();
        Desired {
            pools: [("machines".to_owned(), wish)].into(),
            clients: [("client.trilith".to_owned(), may)].into(),
        }
    }

    /// As 18.2.7 answers, shortened.
    fn replies() -> Vec<Reply> {
        let status = json!({
            "health": {"status": "HEALTH_WARN", "checks": {"OSD_DOWN": {
                "severity": "HEALTH_WARN", "summary": {"message": "1 osds down", "count": 1}}}},
            "quorum_names": ["n1", "n2"], "monmap": {"epoch": 1, "num_mons": 3},
            "osdmap": {"epoch": 9, "num_osds": 4, "num_up_osds": 3, "num_in_osds": 4},
            "pgmap": {"pgs_by_state": [{"state_name": "active+clean", "count": 33}], "num_pgs": 33},
            "mgrmap": {"available": true, "num_standbys": 1},
        });
        let pool = json!({"pool": "machines", "size": 3, "min_size": 2, "crush_rule": "by-host"});
        let disk = "90204252-85a7-8f98-8de3-0642dcdf89";
        let osd = |osd: u64, uuid: String, up: u8, data: u8| json!({"osd": osd, "uuid": uuid, "up": up, "in": data});
        let map = json!({"epoch": 9, "osds": [
            osd(0, format!("{disk}00"), 0, 1), osd(1, format!("{disk}01"), 0, 0), osd(2, format!("{disk}02"), 1, 1),
            osd(3, "6e598f47-0aaf-8318-85d5-2db5c7fb1300".into(), 0, 0),
        ]});
        let (rules, names) = (json!(["by-host"]), json!([".mgr", "machines"]));
        let client =
            json!([{"entity": "client.trilith", "key": "AQ==", "caps": {"mon": "allow *"}}]);
        [status, rules, names, map, pool, json!({"rbd": {}}), client].map(Reply::Answer).into()
    }

    #[test]
    fn a_cluster_is_what_the_monitors_say() {
        let found = cluster(&desired(), replies()).unwrap();
        assert_eq!(
            (found.monitors, found.osds),
            (Share { of: 2, all: 3 }, Share { of: 3, all: 4 })
        );
        assert_eq!(found.managers, Share { of: 1, all: 2 });
        assert_eq!(found.replaced, [(0, Replaced::In), (1, Replaced::Missed)].into());
        assert_eq!(found.checks["OSD_DOWN"], "1 osds down");
        let rule = "by-host".to_owned();
        let applications = ["rbd".to_owned()].into();
        let pool = Pool { size: 3, min_size: 2, rule, applications };
        assert_eq!(found.pools, [(".mgr".into(), None), ("machines".into(), Some(pool))].into());
        assert_eq!(found.clients["client.trilith"]["mon"], "allow *");
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let mut replies = replies();
        replies[2] = Reply::Answer(json!([]));
        replies[4] = Reply::Refusal("unrecognized pool".into());
        replies[5] = Reply::Refusal("unrecognized pool".into());
        replies[6] = Reply::Refusal("failed to find client.trilith in keyring".into());
        let found = cluster(&desired(), replies.clone()).unwrap();
        assert!(found.pools.is_empty() && found.clients.is_empty());
        replies[0] = Reply::Refusal("no".into());
        let error = cluster(&desired(), replies).unwrap_err();
        assert_eq!(error.to_string(), "the monitors refuse `status`: no");
        assert!(matches!(cluster(&desired(), Vec::new()), Err(ReplyError::Missing("status"))));
    }

    #[test]
    fn replies_as_lines() {
        let line = serde_json::to_string(&Reply::Refusal("no".into())).unwrap();
        assert_eq!(line, r#"{"refusal":"no"}"#);
    }
}
