//! What a monitor answers to `mon_status` on its admin socket.

use serde::Deserialize;

use super::Monitor;

/// The part of the answer that counts.
#[derive(Deserialize)]
struct Status {
    state: String,
    /// Ranks; the first is the leader's, since the lowest of a quorum leads.
    quorum: Vec<u32>,
    monmap: Map,
}

#[derive(Deserialize)]
struct Map {
    mons: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    rank: u32,
    name: String,
}

/// Reads the answer to `mon_status`.
pub fn parse(json: &[u8]) -> Monitor {
    let Status { state, quorum, monmap } = match serde_json::from_slice(json) {
        Ok(status) => status,
        Err(error) => {
            return Monitor::Away(format!("its answer to `mon_status` is not understood: {error}"));
        }
    };
    if state != "leader" && state != "peon" {
        return Monitor::Out(state);
    }
    let name = |rank: &u32| {
        let member = monmap.mons.iter().find(|member| member.rank == *rank);
        member.map(|member| member.name.clone())
    };
    let quorum: Vec<String> = quorum.iter().filter_map(name).collect();
    let leader = quorum.first().cloned().unwrap_or_default();
    Monitor::In { role: state, leader, quorum }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As 18.2.7 answers, shortened.
    const PEON: &str = r#"{"name":"node2","rank":1,"state":"peon","election_epoch":6,"quorum":[0,1],
        "quorum_age":12,"monmap":{"epoch":2,"fsid":"6b1e1c5e-7c31-4c4f-9f0a-0d5a3c7d9a11","mons":[
        {"rank":0,"name":"node1"},{"rank":1,"name":"node2"},{"rank":2,"name":"node3"}]}}"#;

    #[test]
    fn answers_of_a_monitor() {
        let quorum = vec!["node1".to_owned(), "node2".to_owned()];
        let role = "peon".to_owned();
        let expected = Monitor::In { role, leader: "node1".into(), quorum };
        assert_eq!(parse(PEON.as_bytes()), expected);
        let probing = PEON.replace("peon", "probing").replace("[0,1]", "[]");
        assert_eq!(parse(probing.as_bytes()), Monitor::Out("probing".into()));
        assert!(matches!(parse(b"{}"), Monitor::Away(_)));
    }
}
