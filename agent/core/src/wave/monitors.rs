//! What a wave asks Ceph's monitors, and what it makes of the answers.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::health::Ceph;
use crate::names::{NodeId, NodeName};
use crate::pools::answer::Reply;

/// The questions, in the order of their answers.
pub fn questions() -> Vec<Value> {
    ["status", "osd tree", "osd dump"]
        .iter()
        .map(|prefix| json!({ "prefix": prefix, "format": "json" }))
        .collect()
}

/// Whether these OSDs may stop, all at once.
pub fn may_stop(osds: &BTreeSet<u64>) -> Value {
    let ids: Vec<String> = osds.iter().map(u64::to_string).collect();
    json!({ "prefix": "osd ok-to-stop", "ids": ids, "format": "json" })
}

/// The order that sets `noout` for a host, or takes it back.
pub fn noout(host: &NodeName, set: bool) -> Value {
    let prefix = if set { "osd set-group" } else { "osd unset-group" };
    json!({ "prefix": prefix, "flags": "noout", "who": [host] })
}

/// Why the answers tell nothing.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The monitors refuse.
    #[error("the monitors refuse: {0}")]
    Refused(String),
    /// It is of another shape.
    #[error("an answer of the monitors is of another shape")]
    Form(#[from] serde_json::Error),
    /// There is one less.
    #[error("the monitors did not answer everything")]
    Missing,
}

/// Ceph, and the OSDs of each host.
///
/// # Errors
/// The answers tell nothing.
pub fn read(
    replies: Vec<Reply>,
    names: &BTreeMap<NodeName, NodeId>,
) -> Result<(Ceph, BTreeMap<NodeId, BTreeSet<u64>>), AnswerError> {
    let mut replies = replies.into_iter();
    let status: Status = answer(replies.next())?;
    let tree: Tree = answer(replies.next())?;
    let dump: Dump = answer(replies.next())?;
    let node = |host: &str| NodeName::try_from(host.to_owned()).ok().and_then(|it| names.get(&it));
    let hosts = tree.nodes.iter().filter(|item| item.kind == "host");
    let osds: BTreeMap<NodeId, BTreeSet<u64>> = hosts
        .filter_map(|host| {
            let children = host.children.iter().filter_map(|id| u64::try_from(*id).ok());
            Some((*node(&host.name)?, children.collect()))
        })
        .collect();
    let flagged = dump.crush_node_flags.iter().filter(|(_, flags)| flags.contains("noout"));
    let groups = status.pgmap.pgs_by_state.into_iter();
    let unclean = groups.filter(|it| !is_clean(&it.state_name));
    let counted =
        |(id, all): (&NodeId, &BTreeSet<u64>)| (*id, u32::try_from(all.len()).unwrap_or(u32::MAX));
    let quorum = status.quorum_names.iter().filter_map(|name| node(name).copied());
    let ceph = Ceph {
        quorum: quorum.collect(),
        osds: osds.iter().map(counted).collect(),
        unclean: unclean.map(|it| (it.state_name, it.count)).collect(),
        stop: BTreeMap::new(),
        noout: flagged.filter_map(|(host, _)| node(host).copied()).collect(),
    };
    Ok((ceph, osds))
}

/// What `osd ok-to-stop` answered, as [`Ceph::stop`] has it.
pub fn objection(reply: &Reply) -> String {
    match reply {
        Reply::Answer(_) => String::new(),
        Reply::Refusal(why) if why.trim().is_empty() => "the monitors do not say why".into(),
        Reply::Refusal(why) => why.trim().to_owned(),
    }
}

/// Scrubbing is no reason to wait: a group that is scrubbed is clean.
fn is_clean(state: &str) -> bool {
    let words: BTreeSet<&str> = state.split('+').collect();
    let scrubs = ["scrubbing", "deep", "snaptrim", "snaptrim_wait"];
    words.contains("active")
        && words.contains("clean")
        && words.iter().all(|word| ["active", "clean"].contains(word) || scrubs.contains(word))
}

fn answer<T: for<'de> Deserialize<'de>>(reply: Option<Reply>) -> Result<T, AnswerError> {
    match reply {
        Some(Reply::Answer(value)) => Ok(serde_json::from_value(value)?),
        Some(Reply::Refusal(why)) => Err(AnswerError::Refused(why)),
        None => Err(AnswerError::Missing),
    }
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    quorum_names: Vec<String>,
    pgmap: Groups,
}

#[derive(Deserialize)]
struct Groups {
    #[serde(default)]
    pgs_by_state: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    state_name: String,
    count: u64,
}

#[derive(Deserialize)]
struct Tree {
    nodes: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    children: Vec<i64>,
}

#[derive(Deserialize)]
struct Dump {
    #[serde(default)]
    crush_node_flags: BTreeMap<String, BTreeSet<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> BTreeMap<NodeName, NodeId> {
        let one =
            |n: u16| (NodeName::try_from(format!("n{n}")).unwrap(), NodeId::try_from(n).unwrap());
        [one(1), one(4)].into()
    }

    /// The shape of 18.2, shortened.
    fn replies() -> Vec<Reply> {
        let status = json!({"health": {}, "quorum_names": ["n1", "foreign"], "pgmap": {"pgs_by_state": [
            {"state_name": "active+clean", "count": 30},
            {"state_name": "active+clean+scrubbing+deep", "count": 2},
            {"state_name": "active+undersized+degraded", "count": 3}], "num_pgs": 35}});
        let tree = json!({"nodes": [
            {"id": -1, "name": "default", "type": "root", "children": [-3, -2]},
            {"id": -2, "name": "n1", "type": "host", "children": [0]},
            {"id": 0, "name": "osd.0", "type": "osd", "status": "up"},
            {"id": -3, "name": "n4", "type": "host", "children": [3, 1]},
            {"id": -4, "name": "foreign", "type": "host", "children": [7]}], "stray": []});
        let dump = json!({"epoch": 9, "crush_node_flags": {"n4": ["noout"], "n1": ["noup"]}});
        [status, tree, dump].map(Reply::Answer).into()
    }

    #[test]
    fn a_cluster_is_what_the_monitors_say() {
        let (ceph, osds) = read(replies(), &names()).unwrap();
        let id = |n: u16| NodeId::try_from(n).unwrap();
        assert_eq!(osds, [(id(1), [0].into()), (id(4), [1, 3].into())].into());
        assert_eq!(ceph.osds, [(id(1), 1), (id(4), 2)].into());
        assert_eq!(ceph.unclean, [("active+undersized+degraded".to_owned(), 3)].into());
        assert_eq!(ceph.noout, [id(4)].into());
        assert_eq!(ceph.quorum, [id(1)].into());
    }

    #[test]
    fn answers_that_tell_nothing() {
        assert!(matches!(read(Vec::new(), &names()), Err(AnswerError::Missing)));
        let refused = vec![Reply::Refusal("no".into())];
        assert_eq!(read(refused, &names()).unwrap_err().to_string(), "the monitors refuse: no");
        let odd = vec![Reply::Answer(json!([]))];
        assert!(matches!(read(odd, &names()), Err(AnswerError::Form(_))));
    }

    #[test]
    fn orders_and_objections() {
        let host = NodeName::try_from("n4".to_owned()).unwrap();
        let set = noout(&host, true).to_string();
        assert_eq!(set, r#"{"flags":"noout","prefix":"osd set-group","who":["n4"]}"#);
        assert!(noout(&host, false).to_string().contains("unset-group"));
        assert!(may_stop(&[1, 3].into()).to_string().contains(r#"["1","3"]"#));
        assert_eq!(objection(&Reply::Answer(json!({"ok_to_stop": true}))), "");
        assert_eq!(objection(&Reply::Refusal(" 3 PGs\n".into())), "3 PGs");
        assert!(!objection(&Reply::Refusal(String::new())).is_empty());
    }
}
