//! Machines leave a node before it restarts: what the wave wishes for, what the program that moves them says of it, and
//! which one it moves next.
//!
//! The wish is there as long as the wave stands by it. The program that carries it out (`trilith-evacuate`) looks at what
//! still runs here each time, so that nothing is lost when it or the wave ends in the middle: a machine is always whole on
//! one of two nodes, and who looks again finds out on which.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::NodeName;

/// The wish, in YAML. In the folder of the wave's unit: it ends with the wave's program, which makes it anew.
pub const WISH: &str = "/run/trilith-wave/evacuate.yaml";
/// What is said of it, in YAML.
pub const STATE: &str = "/run/trilith-evacuate/state.yaml";

/// What the wave wishes for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// The number of the wave. What has failed in one is tried again in another.
    pub wave: u64,
    /// Which machines go where, in this order.
    pub moves: Vec<Move>,
}

/// A machine that goes to another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// Its UUID, by which libvirt knows it on every node.
    pub machine: String,
    /// Its name, for people.
    pub name: String,
    /// Where it goes.
    pub to: NodeName,
}

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The wave whose wish this is about.
    pub wave: u64,
    /// What is being done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
    /// Why a machine could not be moved. Nothing more is done in this wave then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A machine of the wish, as it is seen here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It does not run here.
    Away,
    /// It runs here.
    Here,
    /// It runs here, and libvirt is at work with it: a move goes on without whoever has begun it.
    Busy,
}

/// What is done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next<'a> {
    /// Move this machine.
    Go(&'a Move),
    /// Wait until libvirt has done with this machine what it is at.
    Wait(&'a Move),
    /// Nothing.
    Rest,
}

/// What is done now, one machine after the other: two at once would only share the network.
pub fn next<'a>(wish: &'a Wish, state: &State, seen: &BTreeMap<String, Seen>) -> Next<'a> {
    if state.wave == wish.wave && state.failed.is_some() {
        return Next::Rest;
    }
    let first = |wanted: Seen| wish.moves.iter().find(|it| seen.get(&it.machine) == Some(&wanted));
    first(Seen::Busy)
        .map(Next::Wait)
        .or_else(|| first(Seen::Here).map(Next::Go))
        .unwrap_or(Next::Rest)
}

/// How long a move may take, in seconds: memory that changes faster than it is copied is never done. For a network that
/// carries 16 MiB each second, and ten minutes.
pub fn limit(memory: u64) -> u64 {
    600 + memory / (16 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moves(name: &str) -> Move {
        Move {
            machine: format!("u-{name}"),
            name: name.into(),
            to: "n5".to_owned().try_into().unwrap(),
        }
    }

    #[test]
    fn one_after_the_other_and_what_is_under_way_first() {
        let wish = Wish { wave: 4, moves: vec![moves("a"), moves("b")] };
        let seen = |a, b| [("u-a".to_owned(), a), ("u-b".to_owned(), b)].into();
        let (a, b) = (&wish.moves[0], &wish.moves[1]);
        let idle = State::default();
        for (first, second, expected) in [
            (Seen::Here, Seen::Here, Next::Go(a)),
            (Seen::Away, Seen::Here, Next::Go(b)),
            (Seen::Here, Seen::Busy, Next::Wait(b)),
            (Seen::Busy, Seen::Here, Next::Wait(a)),
            (Seen::Away, Seen::Away, Next::Rest),
        ] {
            assert_eq!(next(&wish, &idle, &seen(first, second)), expected);
        }
        assert_eq!(next(&wish, &idle, &BTreeMap::new()), Next::Rest, "nobody has looked");
        let failed = State { wave: 4, failed: Some("no".into()), doing: None };
        let both = seen(Seen::Here, Seen::Here);
        assert_eq!(next(&wish, &failed, &both), Next::Rest);
        let before = State { wave: 3, ..failed };
        assert_eq!(next(&wish, &before, &both), Next::Go(a), "another wave is another try");
    }

    #[test]
    fn what_is_written_is_read() {
        let wish = Wish { wave: 4, moves: vec![moves("a")] };
        let text = serde_yaml::to_string(&wish).unwrap();
        assert_eq!(serde_yaml::from_str::<Wish>(&text).unwrap(), wish);
        assert!(serde_yaml::from_str::<Wish>(&text.replace("wave", "wag")).is_err());
        let wrong = text.replace("n5", "'n5/system?socket=/tmp/x'");
        assert!(serde_yaml::from_str::<Wish>(&wrong).is_err(), "a name is no part of a URI");
    }

    #[test]
    fn large_machines_have_longer() {
        assert_eq!((limit(0), limit(16 << 30)), (600, 600 + 1024));
    }
}
