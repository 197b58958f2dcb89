//! `trilith upgrade`: brings the whole cluster to a release, one node at a time, and shows why it waits.

mod packages; // what changes between two releases

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use trilith_core::config::Node;
use trilith_core::names::NodeId;
use trilith_core::operators;
use trilith_core::secrets::Secret;
use trilith_core::version::Version;
use trilith_core::wave::command::{Command, Speaker, command};
use trilith_core::wave::settings::PATH;
use trilith_core::wave::word::Work;
use trilith_core::wave::{Asked, Next, View, Wish, next, order};

use crate::cluster::{Access, Cluster};
use crate::config;
use crate::exit::{self, Exit};
use crate::node::agent::{Agent, Refusal};
use crate::node::credential;

/// How often it looks how far the wave is.
const PERIOD: Duration = Duration::from_secs(2);
/// For how many looks in a row nobody may answer: coordinators restart one after the other.
const PATIENCE: u32 = 60;

/// Bring the whole cluster to a release, one node at a time.
///
/// Every node gets it into its free slot; then one after the other restarts
/// with it, hypervisors first, those that lead something last, and only while
/// every quorum and all data stay safe without it. A failure stops the wave.
/// Without a version it shows how far the wave is. Changing anything needs a
/// certificate made with `trilith cluster operator --admin`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The cluster file.
    file: PathBuf,
    /// The release.
    version: Option<Version>,
    #[command(flatten)]
    what: What,
    /// Try it once more where it has failed.
    #[arg(long, requires = "version")]
    again: bool,
    /// Leave this node alone, and do not wait for it. May be repeated.
    #[arg(long, value_name = "ID", requires = "version")]
    without: Vec<u16>,
    /// With `--plan`: the folder of releases, to tell which packages change.
    #[arg(long, value_name = "DIR", requires = "plan")]
    releases: Option<PathBuf>,
    /// Do not wait for its end: say it, or show how far it is, and end.
    #[arg(long)]
    detach: bool,
    /// The operator's certificate and key. Default: operator.pem beside the
    /// cluster file; without it, what the secrets file has, which may only look.
    #[arg(long, value_name = "FILE")]
    operator: Option<PathBuf>,
    /// Where a coordinator is reached, if not at its address on upstream.
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    #[command(flatten)]
    access: Access,
}

/// What else than to begin.
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags of a command line, of which one at most is given"
)]
#[derive(Debug, Args)]
#[group(multiple = false)]
struct What {
    /// Show the order, what speaks against each restart now, and what changes;
    /// change nothing.
    #[arg(long)]
    plan: bool,
    /// Begin nothing more. A node that restarts just now comes to its end.
    #[arg(long)]
    pause: bool,
    /// Go on.
    #[arg(long)]
    resume: bool,
    /// Begin nothing more, for good. Nodes that have the release keep it.
    #[arg(long)]
    abort: bool,
}

/// Carries out the command.
pub(crate) fn run(options: &Options) -> Result<Exit> {
    let cluster = match Cluster::read(&options.file)? {
        Ok(cluster) => cluster,
        Err(exit) => return Ok(exit),
    };
    let told = options.operator.as_deref();
    let operator = credential(&options.file, told, (&cluster, &options.access))?;
    let mut way = Way { cluster: &cluster, operator, address: options.address, agent: None };
    let said = match options.command() {
        Ok(said) => said,
        Err(reason) => return Ok(exit::usage(&reason)),
    };
    if options.what.plan {
        let Some(said) = said else { return Ok(exit::usage("--plan needs a version")) };
        return plan(&way.view()?, &said, options);
    }
    let shows_once = options.detach && said.is_none();
    if let Some(said) = said {
        let wish: Wish = serde_json::from_slice(&way.ask(|agent| agent.say(PATH, &said))?)?;
        config::print(&format!("{}\n", words(&wish)))?;
    }
    if shows_once {
        show(&way.view()?, &mut BTreeMap::new())?;
    }
    if options.detach { Ok(Exit::Ok) } else { follow(&mut way) }
}

impl Options {
    /// What is to be said; `None`: nothing.
    fn command(&self) -> Result<Option<Command>, String> {
        let What { plan: _ /* changes nothing */, pause, resume, abort } = self.what;
        let other = [(pause, Command::Pause), (resume, Command::Resume), (abort, Command::Abort)];
        let other = other.into_iter().find(|(given, _)| *given).map(|(_, said)| said);
        match (&self.version, other) {
            (Some(_), Some(said)) => {
                Err(format!("`{said}` is about the wave that there is: no version"))
            }
            (None, other) => Ok(other),
            (Some(version), None) => {
                let without: Result<BTreeSet<NodeId>, _> =
                    self.without.iter().map(|id| NodeId::try_from(*id)).collect();
                let without = without.map_err(|error| error.to_string())?;
                let (version, again) = (version.clone(), self.again);
                Ok(Some(Command::Upgrade { version, again, without }))
            }
        }
    }
}

/// To the cluster, through whichever coordinator answers.
struct Way<'a> {
    cluster: &'a Cluster,
    operator: Secret,
    address: Option<IpAddr>,
    agent: Option<Agent>,
}

impl Way<'_> {
    /// Asks one coordinator after the other until one answers: an agent may be there whose wave has no session yet. The one
    /// that has answered is asked first the next time.
    fn ask<T>(&mut self, ask: impl Fn(&mut Agent) -> Result<T>) -> Result<T> {
        if let Some(agent) = &mut self.agent {
            match ask(agent) {
                Err(error) if passes_by(&error) => self.agent = None,
                answer => return answer,
            }
        }
        let try_one = |node: &Node| {
            let mut agent = self.reach(node)?;
            let answer = ask(&mut agent)?;
            Ok((agent, answer))
        };
        let nodes = self.cluster.config.coordinator_nodes();
        let (agent, answer) = first(nodes.map(|node| (node.name.to_string(), try_one(node))))?;
        self.agent = Some(agent);
        Ok(answer)
    }

    fn reach(&self, node: &Node) -> Result<Agent> {
        let host = format!("{}.{}", node.name, self.cluster.config.domain);
        let addresses = self.address.map_or_else(|| operators::addresses(node), |one| vec![one]);
        Agent::connect(&host, &addresses, &self.operator)
    }

    /// The cluster as it stands.
    fn view(&mut self) -> Result<View> {
        serde_json::from_slice(&self.ask(|agent| agent.get(PATH))?)
            .context("the answer is not understood: is this program older than the nodes?")
    }
}

/// Whether another coordinator may answer: this one is away, or cannot do its part just now.
fn passes_by(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_none_or(Refusal::is_of_this_node)
}

/// What the first of them gives that is there, else why each does not.
fn first<T>(answers: impl Iterator<Item = (String, Result<T>)>) -> Result<T> {
    let mut errors = Vec::new();
    for (name, answer) in answers {
        match answer {
            Err(error) if passes_by(&error) => errors.push(format!("node {name}: {error:#}")),
            answer => return answer,
        }
    }
    if errors.is_empty() {
        bail!("the cluster file has no coordinators");
    }
    bail!("no coordinator answers:\n  {}", errors.join("\n  "))
}

/// The order with its reasons, and what changes.
fn plan(view: &View, said: &Command, options: &Options) -> Result<Exit> {
    let speaker = Speaker { who: "you".into(), at: 0 };
    let wish = match command(view, said, speaker) {
        Ok(wish) => wish,
        Err(refusal) => bail!("{refusal}"),
    };
    let mut text = String::new();
    let view = View { wish: Some(wish.clone()), ..view.clone() };
    for (number, place) in order(&view).iter().enumerate() {
        let name = view.nodes.get(&place.node).map(|member| member.name.to_string());
        let name = name.unwrap_or_else(|| place.node.to_string());
        writeln!(text, "{}. {name}: {}", number + 1, place.why)?;
        for reason in &place.against {
            writeln!(text, "   now against it: {reason}")?;
        }
    }
    if let Some(folder) = &options.releases {
        let words = view.nodes.values().filter_map(|member| member.word.as_ref());
        let running: BTreeSet<&Version> =
            words.map(|word| &word.running).filter(|version| **version != wish.version).collect();
        for from in running {
            text += &packages::changes(folder, from, &wish.version)?;
        }
    }
    config::print(&text)?;
    Ok(Exit::Ok)
}

fn words(wish: &Wish) -> String {
    let state = match wish.state {
        Asked::Running => "goes on",
        Asked::Paused => "is paused",
        Asked::Aborted => "is aborted",
    };
    format!("the wave to {} {state} ({})", wish.version, wish.who)
}

/// Shows what is news until the wave is over, has stopped, or was stopped.
fn follow(way: &mut Way<'_>) -> Result<Exit> {
    let (mut shown, mut failures) = (BTreeMap::new(), 0);
    loop {
        match way.view() {
            Ok(view) => {
                failures = 0;
                if let Some(exit) = show(&view, &mut shown)? {
                    return Ok(exit);
                }
            }
            Err(error) if failures >= PATIENCE => return Err(error),
            Err(_) => failures += 1,
        }
        // The nodes do not tell when there is news.
        std::thread::sleep(PERIOD);
    }
}

/// Prints what is news; how it ends, if it has.
fn show(view: &View, shown: &mut BTreeMap<String, String>) -> Result<Option<Exit>> {
    let Some(wish) = &view.wish else {
        config::print("there is no wave\n")?;
        return Ok(Some(Exit::Ok));
    };
    let mut say = |name: &str, what: String| {
        let news = shown.get(name) != Some(&what);
        let line = news.then(|| format!("{name}: {what}\n"));
        shown.insert(name.to_owned(), what);
        line.map_or(Ok(()), |line| config::print(&line))
    };
    say("wave", words(wish))?;
    for (id, member) in &view.nodes {
        let what = match (&member.silent, &member.word) {
            (Some(silent), _) => format!("is silent: {}", silent.why),
            (None, Some(word)) => {
                let trouble = word.trouble.as_ref().map(|it| format!("; trouble: {it}"));
                let trouble = trouble.unwrap_or_default();
                let far = match &word.moving {
                    Work::Busy(how_far) => format!(" ({how_far})"),
                    Work::Idle | Work::Refused(_) => String::new(),
                };
                format!("runs {}, {}{far}{trouble}", word.running, next(*id, view))
            }
            (None, None) => "has not said anything yet".into(),
        };
        say(member.name.as_str(), what)?;
    }
    if view.is_over(wish) {
        say("wave", format!("all nodes run {}", wish.version))?;
        return Ok(Some(Exit::Ok));
    }
    let halted = view.nodes.keys().any(|id| matches!(next(*id, view), Next::Halted(_)));
    let ended = halted || wish.state != Asked::Running;
    Ok((ended && view.turn.is_none()).then_some(if halted { Exit::Failed } else { Exit::Ok }))
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use hyper::StatusCode;

    use super::*;

    fn refused(code: StatusCode, why: &str) -> Result<u8> {
        Err(Refusal { code, why: why.into() }.into())
    }

    fn ask(answers: Vec<Result<u8>>) -> Result<u8, String> {
        let named = answers.into_iter().enumerate().map(|(n, it)| (format!("n{}", n + 1), it));
        first(named).map_err(|error| error.to_string())
    }

    #[test]
    fn another_coordinator_is_asked_when_one_cannot_answer() {
        let starting = || refused(StatusCode::SERVICE_UNAVAILABLE, "no session");
        assert_eq!(ask(vec![starting(), Err(anyhow!("no answer")), Ok(3)]), Ok(3));
        let all = ask(vec![starting(), Err(anyhow!("no answer"))]).unwrap_err();
        let expected = "no coordinator answers:\n  node n1: it refuses (503 Service Unavailable): no session\n  \
                        node n2: no answer";
        assert_eq!(all, expected);
    }

    #[test]
    fn a_refusal_is_an_answer() {
        let refusal = ask(vec![refused(StatusCode::CONFLICT, "there is no wave"), Ok(2)]);
        assert_eq!(refusal, Err("it refuses (409 Conflict): there is no wave".into()));
    }
}
