//! What Patroni answers to `GET /patroni` (its documentation, "Patroni REST API").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Behind, Change};

/// Parameters of which a replica must have at least as much as its leader.
const ORDERED: [&str; 5] = [
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];

/// What matters of the answer, and of the questions that follow from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// What Postgres does: `running`, `starting`, `creating replica`, …
    pub state: String,
    /// `primary`, `replica`, …
    pub role: String,
    /// Which line of history it is on: one more at each change of the leader.
    pub timeline: Option<u64>,
    /// When Postgres was started, as Patroni writes it.
    pub since: Option<String>,
    /// The last position in the write-ahead log that it has written, as the leader, or received.
    pub position: Option<u64>,
    /// The leader's, asked at the same time, when another node leads.
    pub leader: Option<u64>,
    /// How a replica gets its data: `streaming`, `in archive recovery`, …
    pub replication: Option<String>,
    /// Whether it is a replica that commits wait for.
    pub synchronous: bool,
    /// Those that stream from it, by name, with `sync_state` of `pg_stat_replication`.
    pub replicas: BTreeMap<String, String>,
    /// Nobody has the leader's lock.
    pub unlocked: bool,
    /// A person has told Patroni to leave everything as it is.
    pub paused: bool,
    /// The parameters that wait for a restart of Postgres.
    pub restart: BTreeMap<String, Change>,
    /// Of a leader that waits for a restart: the members that have not taken notice of the new configuration yet, or
    /// wait for their own restart.
    pub behind_configuration: Behind,
    /// The shared configuration, asked of a leader.
    pub shared: Option<Value>,
}

impl Answer {
    /// Reads an answer; `None` if it is not understood.
    pub fn parse(text: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        let word = |key: &str| json[key].as_str().map(str::to_owned);
        let is = |key: &str| json[key].as_bool().unwrap_or(false);
        let log = &json["xlog"];
        let position = log["location"].as_u64().or_else(|| log["received_location"].as_u64());
        Some(Self {
            state: word("state")?,
            role: word("role")?,
            timeline: json["timeline"].as_u64(),
            since: word("postmaster_start_time"),
            position,
            leader: None,
            replication: word("replication_state"),
            synchronous: is("sync_standby") || is("quorum_standby"),
            replicas: replicas(&json["replication"]),
            unlocked: is("cluster_unlocked"),
            paused: is("pause"),
            restart: restart(&json),
            behind_configuration: Behind::new(),
            shared: None,
        })
    }

    /// Whether it takes writes.
    pub fn leads(&self) -> bool {
        matches!(self.role.as_str(), "primary" | "promoted")
    }

    /// How many bytes of the log it has not received yet.
    pub fn behind(&self) -> Option<u64> {
        Some(self.leader?.saturating_sub(self.position?))
    }
}

/// Replicas are named as Patroni names its members; others, such as backups, are none.
fn replicas(list: &Value) -> BTreeMap<String, String> {
    let entries = list.as_array().into_iter().flatten();
    let streaming = entries.filter(|entry| entry["state"] == "streaming");
    streaming
        .filter_map(|entry| {
            let name = entry["application_name"].as_str()?;
            Some((name.to_owned(), entry["sync_state"].as_str()?.to_owned()))
        })
        .collect()
}

fn restart(json: &Value) -> BTreeMap<String, Change> {
    let reasons = json["pending_restart_reason"].as_object().into_iter().flatten();
    let mut found: BTreeMap<String, Change> =
        reasons.map(|(name, reason)| (name.clone(), change(name, reason))).collect();
    if found.is_empty() && json["pending_restart"].as_bool().unwrap_or(false) {
        found.insert("a parameter".into(), Change::Other);
    }
    found
}

fn change(name: &str, reason: &Value) -> Change {
    let number = |key: &str| match &reason[key] {
        Value::String(text) => text.parse::<i64>().ok(),
        value => value.as_i64(),
    };
    match (number("old_value"), number("new_value")) {
        (Some(old), Some(new)) if new < old && ORDERED.contains(&name) => Change::Shrinks,
        _ => Change::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Patroni 4.0.7 with Postgres 17 answers.
    const LEADER: &str = r#"{"state": "running", "postmaster_start_time": "2026-11-21 08:00:00.123456+00:00",
        "role": "primary", "server_version": 170006, "xlog": {"location": 67109632}, "timeline": 2,
        "replication": [
            {"usename": "replicator", "application_name": "n2", "client_addr": "10.30.1.2", "state": "streaming",
             "sync_state": "sync", "sync_priority": 1},
            {"usename": "replicator", "application_name": "n3", "client_addr": "10.30.1.3", "state": "streaming",
             "sync_state": "async", "sync_priority": 0}],
        "dcs_last_seen": 1795248000, "database_system_identifier": "7575",
        "pending_restart": true, "pending_restart_reason": {
            "max_connections": {"old_value": "100", "new_value": "90"},
            "shared_buffers": {"old_value": "128MB", "new_value": "64MB"}},
        "patroni": {"version": "4.0.7", "scope": "lab", "name": "n1"}}"#;

    #[test]
    fn a_leader() {
        let answer = Answer::parse(LEADER).unwrap();
        assert!(answer.leads() && !answer.unlocked && answer.behind().is_none());
        assert_eq!(answer.position, Some(67_109_632));
        assert_eq!(
            answer.replicas.into_iter().collect::<Vec<_>>(),
            [("n2".into(), "sync".into()), ("n3".into(), "async".into())]
        );
        assert_eq!(
            answer.restart.into_iter().collect::<Vec<_>>(),
            [("max_connections".into(), Change::Shrinks), ("shared_buffers".into(), Change::Other)]
        );
    }

    #[test]
    fn a_replica_and_one_that_is_being_made() {
        let replica = r#"{"state": "running", "role": "replica", "xlog": {"received_location": 90, "replayed_location": 80,
            "replayed_timestamp": null, "paused": false}, "sync_standby": true, "timeline": 2,
            "replication_state": "streaming", "dcs_last_seen": 1795248000}"#;
        let answer = Answer { leader: Some(100), ..Answer::parse(replica).unwrap() };
        assert!(answer.synchronous && !answer.leads());
        assert_eq!(answer.behind(), Some(10));
        let made = r#"{"state": "creating replica", "role": "replica", "cluster_unlocked": true}"#;
        assert!(Answer::parse(made).unwrap().unlocked);
        for odd in ["", "[]", "null", r#"{"state": 1}"#] {
            assert_eq!(Answer::parse(odd), None, "{odd:?}");
        }
    }
}
