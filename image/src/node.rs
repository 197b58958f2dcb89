//! `trilith node`: looks at a node through its agent, as an operator.

pub(crate) mod agent; // the connection
mod support; // everything in one file

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use trilith_core::config::Node;
use trilith_core::diagnosis::disks::{self, Disk};
use trilith_core::diagnosis::journal::Line;
use trilith_core::diagnosis::net::Net;
use trilith_core::operators;
use trilith_core::secrets::Secret;
use trilith_core::status::{NodeStatus, text};

use crate::cluster::Access;
use crate::cluster::{Cluster, operator};
use crate::config;
use crate::exit::{self, Exit};
use agent::Agent;

/// Look at a node: status, journal, network, disks.
///
/// Asks the node's agent over the upstream network, by the certificate that
/// `trilith cluster operator` made, else by the one in the secrets file.
/// Changes nothing.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The node's ID or name.
    node: String,
    /// The cluster file.
    #[arg(long, value_name = "FILE", default_value = "cluster.yaml", global = true)]
    cluster: PathBuf,
    /// The operator's certificate and key. Default: operator.pem beside the
    /// cluster file; without it, what the secrets file has.
    #[arg(long, value_name = "FILE", global = true)]
    operator: Option<PathBuf>,
    /// Where the node is reached, if not at its address on upstream.
    #[arg(long, value_name = "IP", global = true)]
    address: Option<IpAddr>,
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Where every subject stands, since when and why.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// The node's journal.
    Logs(LogsOptions),
    /// Links, addresses, routes and routing sessions.
    Net {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Disks, what is on them, and how they are.
    Disks {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Everything that helps to find a fault, without any secret, in one file.
    SupportBundle {
        /// Where to write it. Default: NODE-TIME.tar.zst here.
        #[arg(long, value_name = "PATH")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct LogsOptions {
    /// Only of this unit.
    #[arg(long, short, value_name = "UNIT")]
    unit: Option<String>,
    /// So many of the newest messages.
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 100)]
    lines: u32,
    /// Go on with every new one, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Only this bad or worse: 0 (emergency) to 7 (debug).
    #[arg(long, short, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=7))]
    priority: Option<u8>,
    /// Only of this boot (0), the one before (-1), and so on.
    #[arg(long, short, value_name = "NUMBER", allow_negative_numbers = true)]
    boot: Option<i32>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Carries out the command.
pub(crate) fn run(options: &Options) -> Result<Exit> {
    let Options { node, cluster: file, operator, address, access, question } = options;
    let cluster = match Cluster::read(file)? {
        Ok(cluster) => cluster,
        Err(exit) => return Ok(exit),
    };
    let named = |one: &&Node| one.name.as_str() == node || one.id.to_string() == *node;
    let Some(found) = cluster.config.nodes.values().find(named) else {
        return Ok(exit::usage(&format!("{} has no node {node}", file.display())));
    };
    let operator = credential(file, operator.as_deref(), (&cluster, access))?;
    let host = format!("{}.{}", found.name, cluster.config.domain);
    let addresses = address.map_or_else(|| operators::addresses(found), |one| vec![one]);
    let mut agent = Agent::connect(&host, &addresses, &operator)
        .with_context(|| format!("cannot ask node {}", found.name))?;
    if let Question::SupportBundle { output } = question {
        let path = support::write(&mut agent, &cluster, found.name.as_str(), output.as_deref())?;
        eprintln!("{}", path.display());
    } else {
        show(&mut agent, question)?;
    }
    Ok(Exit::Ok)
}

/// An operator's certificate, key and authority: as told, else beside the cluster file, else what its secrets have.
pub(crate) fn credential(
    file: &Path,
    told: Option<&Path>,
    (cluster, access): (&Cluster, &Access),
) -> Result<Secret> {
    let beside = file.with_file_name(operator::FILE);
    let path = match told {
        Some(path) => path,
        None if beside.exists() => &beside,
        None => return cluster.operator(access),
    };
    let text = std::fs::read_to_string(path);
    Ok(Secret::from(text.with_context(|| format!("cannot read {}", path.display()))?))
}

fn show(agent: &mut Agent, question: &Question) -> Result<()> {
    match question {
        Question::Status { json } => {
            let status: NodeStatus = serde_json::from_slice(&agent.get("/v1/status")?)?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
            print(*json, &status, |status| {
                text::full(status, now).lines().map(Into::into).collect()
            })
        }
        Question::Net { json } => {
            let net: Net = serde_json::from_slice(&agent.get("/v1/net")?)?;
            print(*json, &net, Net::lines)
        }
        Question::Disks { json } => {
            let disks: Vec<Disk> = serde_json::from_slice(&agent.get("/v1/disks")?)?;
            print(*json, &disks, |disks| disks::lines(disks))
        }
        Question::Logs(options) => logs(agent, options),
        Question::SupportBundle { .. } => Ok(()),
    }
}

fn print<T: serde::Serialize>(json: bool, it: &T, lines: impl Fn(&T) -> Vec<String>) -> Result<()> {
    let text = if json { serde_json::to_string_pretty(it)? } else { lines(it).join("\n") };
    config::print(&format!("{text}\n"))
}

fn logs(agent: &mut Agent, options: &LogsOptions) -> Result<()> {
    let LogsOptions { unit, lines, follow, priority, boot, json } = options;
    let parts = [
        Some(format!("lines={lines}&follow={follow}")),
        unit.as_ref().map(|unit| format!("unit={}", escaped(unit))),
        priority.map(|priority| format!("priority={priority}")),
        boot.map(|boot| format!("boot={boot}")),
    ];
    let query = parts.into_iter().flatten().collect::<Vec<_>>().join("&");
    agent.lines(&format!("/v1/logs?{query}"), |text| {
        let line: Line = serde_json::from_str(text)?;
        let shown = if *json { text.to_owned() } else { line.to_string() };
        config::print(&format!("{shown}\n"))
    })
}

/// For a query: everything but letters and digits as its bytes (RFC 3986, 2.1).
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_units_survive_a_query() {
        assert_eq!(escaped("ceph-osd@1.service"), "ceph%2Dosd%401%2Eservice");
        assert_eq!(escaped("a&b=ö"), "a%26b%3D%C3%B6");
    }
}
