use std::fmt::Write as _;

use super::command::{Command, Speaker, command};
use super::*;
use crate::golden;

mod waves; // disturbed in all ways
mod world; // a small world

/// plans/wave: a view; what each node does then, and the order with what speaks against each.
#[test]
fn golden_answers() {
    golden::check_cases("wave", 30, "answers.txt", |read| match read_view(&read("view.yaml")) {
        Ok(view) => answers(&view),
        Err(error) => format!("{error}\n"),
    });
}

/// plans/places: who runs which machines; where those of each node go, and why some cannot.
#[test]
fn golden_places() {
    #[derive(Deserialize)]
    struct Case {
        wish: Option<Wish>,
        nodes: BTreeMap<NodeId, Member>,
    }
    golden::check_cases("places", 13, "answers.txt", |read| {
        let Case { wish, nodes } = match serde_yaml::from_str(&read("view.yaml")) {
            Ok(case) => case,
            Err(error) => return format!("{error}\n"),
        };
        let health = Health::of(&nodes, None, parts::Commits::default(), wish.as_ref());
        let mut text = String::new();
        for (id, health::Machines { running, stuck, moves }) in health.machines {
            writeln!(text, "node {id}: {running} running").unwrap();
            for Move { machine, name, to } in moves {
                writeln!(text, "  {name} ({machine}) to {to}").unwrap();
            }
            for (name, why) in stuck {
                writeln!(text, "  {name} stays: {why}").unwrap();
            }
        }
        text
    });
}

/// YAML with enums as maps, as in JSON, which is how they are kept.
fn read_view(text: &str) -> Result<View, serde_yaml::Error> {
    serde_yaml::with::singleton_map_recursive::deserialize(serde_yaml::Deserializer::from_str(text))
}

fn answers(view: &View) -> String {
    let mut text = String::new();
    for (id, member) in &view.nodes {
        match &member.silent {
            Some(silent) => writeln!(text, "node {id} is silent: {}", silent.why).unwrap(),
            None => writeln!(text, "node {id}: {}", next(*id, view)).unwrap(),
        }
    }
    writeln!(text, "order:").unwrap();
    for Place { node, why, against } in order(view) {
        writeln!(text, "  node {node}, {why}").unwrap();
        for reason in against {
            writeln!(text, "    {reason}").unwrap();
        }
    }
    text
}

/// The lock of a node that hangs would outlast everything, for its session does.
#[test]
fn a_node_that_cannot_look_at_itself_holds_no_lock() {
    let id = |n: u16| NodeId::try_from(n).unwrap();
    assert_eq!(blind(id(4), Some(id(4))), Next::Do(Step::Unlock));
    assert_eq!(blind(id(4), Some(id(1))), Next::Rest);
    assert_eq!(blind(id(4), None), Next::Rest);
}

fn view(case: &str) -> View {
    let text = match case {
        "going" => include_str!("../../plans/wave/first_hypervisor_begins/view.yaml"),
        "failed" => include_str!("../../plans/wave/failed_on_one/view.yaml"),
        "paused" => include_str!("../../plans/wave/paused/view.yaml"),
        "restarting" => include_str!("../../plans/wave/it_restarts/view.yaml"),
        _ => include_str!("../../plans/wave/all_over/view.yaml"),
    };
    read_view(text).unwrap()
}

fn say(view: &View, said: &Command) -> Result<Wish, String> {
    let speaker = Speaker { who: "operator:bob".into(), at: 7 };
    command(view, said, speaker).map_err(|refusal| refusal.to_string())
}

fn upgrade(version: &str, again: bool) -> Command {
    let version = version.parse().unwrap();
    Command::Upgrade { version, again, without: BTreeSet::new() }
}

#[test]
fn commands_change_the_wish() {
    let wish = say(&view("going"), &Command::Pause).unwrap();
    assert_eq!((wish.state, wish.who.as_str(), wish.at), (Asked::Paused, "operator:bob", 7));
    assert_eq!(wish.number, view("going").wish.unwrap().number);
    assert_eq!(say(&view("paused"), &Command::Resume).unwrap().state, Asked::Running);
    assert_eq!(say(&view("paused"), &Command::Abort).unwrap().state, Asked::Aborted);
    let before = view("over").wish.unwrap().number;
    let wish = say(&view("over"), &upgrade("3", false)).unwrap();
    assert_eq!((wish.number, wish.state), (before + 1, Asked::Running));
    let wish = say(&view("failed"), &upgrade("2", true)).unwrap();
    assert!(wish.again);
}

#[test]
fn commands_that_make_no_sense_are_refused() {
    let mut aborted = view("going");
    aborted.wish.as_mut().unwrap().state = Asked::Aborted;
    let nothing = View { wish: None, ..view("going") };
    let unknown = Command::Upgrade {
        version: "2".parse().unwrap(),
        again: false,
        without: [NodeId::try_from(99).unwrap()].into(),
    };
    for (view, said, expected) in [
        (&nothing, Command::Pause, "there is no wave"),
        (&aborted, Command::Resume, "the wave to 2 is aborted: begin another one"),
        (&view("going"), Command::Resume, "the wave to 2 is not paused"),
        (&view("paused"), Command::Pause, "the wave to 2 is paused: resume it"),
        (&view("going"), upgrade("3", false), "the wave to 2 is under way: abort it first"),
        (&view("going"), upgrade("2", false), "the wave to 2 is under way already"),
        (&view("paused"), upgrade("2", false), "the wave to 2 is paused: resume it"),
        (&nothing, upgrade("0.9", false), "n1 runs 1, which is newer than 0.9: this is no upgrade"),
        (&nothing, unknown, "the cluster has no node 99"),
    ] {
        assert_eq!(say(view, &said).unwrap_err(), expected);
    }
    let failed = View { wish: None, ..view("failed") };
    let error = say(&failed, &upgrade("2", false)).unwrap_err();
    assert!(error.contains("2 has failed on n4") && error.contains("--again"), "{error}");
    let mut restarting = view("restarting");
    restarting.wish.as_mut().unwrap().state = Asked::Aborted;
    let error = say(&restarting, &upgrade("3", false)).unwrap_err();
    assert!(error.contains("in its turn to 2"), "{error}");
}

#[test]
fn what_is_kept_is_read_again() {
    let view = view("restarting");
    let text = serde_json::to_string(&view).unwrap();
    assert_eq!(serde_json::from_str::<View>(&text).unwrap(), view);
    let wish = text.replace("\"number\"", "\"nummer\"");
    assert!(serde_json::from_str::<View>(&wish).is_err(), "an unknown key is an error");
}
