//! A cluster in containers on this host. `ci/lab` calls it.

#![expect(clippy::print_stdout, reason = "its output is for people")]

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use trilith_tests::artifact;
use trilith_tests::lab::{self, Container, Cut, Lab, Spec, Wait, text};

/// A cluster in containers on this host: one container per node, on private links.
#[derive(Debug, Parser)]
#[command(name = "ci/lab", max_term_width = 80)]
struct Cli {
    /// Which lab, if there are several at a time.
    #[arg(long, default_value = "default", global = true)]
    lab: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the lab, switch all nodes on and wait for their agents.
    Up(Up),
    /// Show where every node stands.
    Status {
        /// Print JSON: what each agent says, by the node's name.
        #[arg(long)]
        json: bool,
    },
    /// Run a command on a node, as root; without one, a shell.
    Exec {
        node: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run a command of this host in the lab's network: the gateway, and a neighbour on each core network.
    Outside {
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Show a node's journal, or what it said on its console if it is off.
    Logs {
        node: String,
        /// Passed on to journalctl.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Cut a node off: its links stay up, but nothing passes.
    Cut {
        node: String,
        /// Only from these nodes.
        #[arg(long, num_args = 1..)]
        from: Vec<String>,
        /// Only on this core network.
        #[arg(long)]
        network: Option<String>,
    },
    /// Undo all cuts, or those that concern these nodes.
    Heal { nodes: Vec<String> },
    /// Switch nodes on, and wait for their agents.
    Start(Nodes),
    /// Shut nodes down in order.
    Stop(Nodes),
    /// Cut nodes' power, all at once.
    Kill(Nodes),
    /// Empty /var and the disks of nodes that are off.
    Wipe(Nodes),
    /// End the lab: nothing of it is left.
    Down,
    #[command(hide = true)]
    Keep {
        folder: PathBuf,
        #[arg(long)]
        tied: bool,
    },
    #[command(hide = true)]
    Reap {
        #[arg(long)]
        tied: bool,
    },
    #[command(hide = true)]
    Boot { folder: PathBuf, node: String },
}

#[derive(Debug, Args)]
struct Up {
    /// The cluster file; tests/clusters/valid/lab.yaml if none is named.
    #[arg(long)]
    cluster: Option<PathBuf>,
    /// Only the first so many nodes of it.
    #[arg(long)]
    nodes: Option<usize>,
    /// An agent in place of the image's own, taken anew at each start of a node.
    #[arg(long)]
    agent: Option<PathBuf>,
    /// A folder laid over the root, such as overlays/rootfs.
    #[arg(long)]
    overlay: Option<PathBuf>,
    /// A node whose clock is wrong: `n2=+600s`.
    #[arg(long, value_parser = clock)]
    clock: Vec<(String, String)>,
    /// What to wait for.
    #[arg(long, value_enum, default_value_t = Until::Converged)]
    wait: Until,
    /// For how long at most, in seconds.
    #[arg(long, default_value_t = 120)]
    timeout: u64,
}

#[derive(Debug, Args)]
struct Nodes {
    /// The nodes' names, or `all`.
    #[arg(required = true)]
    nodes: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Until {
    /// Nothing.
    Off,
    /// Every agent answers.
    Answers,
    /// No agent has a step left.
    Settled,
    /// Every agent has converged.
    Converged,
}

fn clock(text: &str) -> Result<(String, String), String> {
    let (node, offset) = text.split_once('=').ok_or("write NODE=OFFSET, such as n2=+600s")?;
    Ok((node.to_owned(), offset.to_owned()))
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let folder = artifact::target().join("lab").join(&cli.lab);
    match cli.command {
        Command::Keep { folder, tied } => lab::keep(&folder, tied),
        Command::Reap { tied } => lab::reap(tied),
        Command::Boot { folder, node } => lab::boot(&folder, &node),
        Command::Up(up) => self::up(&folder, up),
        other => command(Lab::open(&folder)?, other),
    }
}

fn up(folder: &std::path::Path, up: Up) -> Result<()> {
    let begin = Instant::now();
    let sample = Spec::sample()?;
    let spec = Spec {
        cluster: up.cluster.unwrap_or(sample.cluster),
        nodes: up.nodes,
        agent: up.agent.or(sample.agent),
        overlay: up.overlay.or(sample.overlay),
        clocks: up.clock,
        slots: false,
        releases: Vec::new(),
    };
    let lab = Lab::up(folder, &spec)?;
    say(
        begin,
        &format!("lab ready: {} nodes, {} switches", lab.names().len(), lab.plan().switches.len()),
    );
    let what = match up.wait {
        Until::Off => None,
        Until::Answers => Some(Wait::Answers),
        Until::Settled => Some(Wait::Settled),
        Until::Converged => Some(Wait::Converged),
    };
    if let Some(what) = what {
        start(&lab, &lab.names(), what, Duration::from_secs(up.timeout))?;
    }
    Ok(())
}

fn command(lab: Lab, command: Command) -> Result<()> {
    match command {
        Command::Status { json } => status(&lab, json),
        Command::Exec { node, command } => exec(&lab.node(&node)?, &command),
        Command::Outside { command } => {
            Err(lab.outside(&command[0]).args(&command[1..]).exec().into())
        }
        Command::Logs { node, arguments } => logs(&lab, &node, &arguments),
        Command::Cut { node, from, network } => lab.cut(Cut { node, from, network }),
        Command::Heal { nodes } => lab.heal(&nodes.iter().map(String::as_str).collect::<Vec<_>>()),
        Command::Start(nodes) => {
            start(&lab, &named(&lab, &nodes), Wait::Answers, Duration::from_mins(1))
        }
        Command::Stop(nodes) => each(&lab, &nodes, "is off", Lab::stop),
        Command::Kill(nodes) => each(&lab, &nodes, "is dead", Lab::kill),
        Command::Wipe(nodes) => each(&lab, &nodes, "is empty", Lab::wipe),
        Command::Down => lab.down(),
        Command::Up(_) | Command::Keep { .. } | Command::Reap { .. } | Command::Boot { .. } => {
            bail!("this command makes a lab and needs none")
        }
    }
}

fn say(begin: Instant, text: &str) {
    println!("[{:5.1} s] {text}", begin.elapsed().as_secs_f64());
}

fn named<'a>(lab: &'a Lab, nodes: &'a Nodes) -> Vec<&'a str> {
    let all = nodes.nodes.iter().any(|name| name == "all");
    if all { lab.names() } else { nodes.nodes.iter().map(String::as_str).collect() }
}

/// Does the same to several nodes at once: three coordinators lose their power together or not at all.
fn each(lab: &Lab, nodes: &Nodes, done: &str, act: fn(&Lab, &str) -> Result<()>) -> Result<()> {
    let begin = Instant::now();
    at_once(&named(lab, nodes), |name| {
        act(lab, name)?;
        say(begin, &format!("{name} {done}"));
        Ok(())
    })
}

fn start(lab: &Lab, names: &[&str], what: Wait, patience: Duration) -> Result<()> {
    let begin = Instant::now();
    at_once(names, |name| {
        lab.start(name)?;
        let node = lab.node(name)?;
        node.wait(Wait::Answers, patience)?;
        say(begin, &format!("{name}: the agent answers"));
        let status = node.wait(what, patience)?;
        say(begin, &format!("{name}: {}", text(&status)));
        Ok(())
    })
}

/// Runs the same for all names, each on its own thread, and gives every error.
fn at_once(names: &[&str], act: impl Fn(&str) -> Result<()> + Sync) -> Result<()> {
    let act = &act;
    let failed = std::thread::scope(|scope| {
        let threads: Vec<_> = names.iter().map(|name| scope.spawn(move || act(name))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()?.err()).collect::<Vec<_>>()
    });
    if failed.is_empty() {
        return Ok(());
    }
    let all: Vec<_> = failed.iter().map(|error| format!("{error:#}")).collect();
    bail!("{}", all.join("\n"))
}

fn status(lab: &Lab, json: bool) -> Result<()> {
    if json {
        let all: std::collections::BTreeMap<_, _> =
            lab.nodes().map(|node| (node.name(), node.status().ok())).collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    for node in lab.nodes() {
        let stands = if node.is_on() {
            node.status().map_or_else(|error| format!("on, {error:#}"), |status| text(&status))
        } else {
            "off".to_owned()
        };
        println!("{:8} {stands}", node.name());
    }
    for cut in lab.cuts()? {
        let from = if cut.from.is_empty() { "everything".to_owned() } else { cut.from.join(", ") };
        let on = cut.network.map(|network| format!(" on {network}")).unwrap_or_default();
        println!("{} is cut off from {from}{on}", cut.node);
    }
    Ok(())
}

fn exec(node: &Container<'_>, command: &[String]) -> Result<()> {
    let (program, arguments) =
        command.split_first().map_or(("/bin/bash", command), |(p, rest)| (p, rest));
    Err(node.command(program)?.args(arguments).exec().into())
}

fn logs(lab: &Lab, name: &str, arguments: &[String]) -> Result<()> {
    let node = lab.node(name)?;
    if node.is_on() {
        return Err(node.command("journalctl")?.args(arguments).exec().into());
    }
    print!("{}", lab.console(name)?);
    Ok(())
}
