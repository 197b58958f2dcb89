//! The commands.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use sd_notify::NotifyState;
use trilith_core::boot::RootHash;
use trilith_core::gate::{BOOTED, Before, FOLDER, LIMIT, Parts, RUN, STATE, Said, Stand};
use trilith_core::version::Version;
use trilith_metal::trial as esp;

use crate::agent;
use crate::kept::{Kept, put};
use crate::record::record;
use crate::trial::{self, Trial};

/// Whether a boot on trial has brought back what the node was part of before.
#[derive(Debug, Parser)]
#[command(name = "trilith-gate", version, max_term_width = 80)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    places: Places,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write down what this node is part of, before it is rebooted into a
    /// release on trial.
    ///
    /// Fails if the agent does not say it: then nothing may be activated.
    #[command(verbatim_doc_comment)]
    Remember {
        /// The release that is to be on trial.
        #[arg(long, value_name = "VERSION")]
        version: Version,
        /// Its root hash, if it is known.
        #[arg(long, value_name = "HASH", value_parser = root_hash)]
        root_hash: Option<RootHash>,
        /// How long a boot of it may take to prove itself, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = LIMIT)]
        limit: u64,
    },
    /// Judge this boot, if it is on trial.
    ///
    /// Ends when it is proven and marked so, or when its time is over and the
    /// machine reboots. Its unit calls this.
    #[command(verbatim_doc_comment)]
    Run {
        #[command(flatten)]
        stage: Stage,
    },
}

/// Where things are; tests have their own.
#[derive(Debug, Args)]
pub(crate) struct Places {
    #[arg(long, hide = true, global = true, default_value = agent::SOCKET)]
    pub(crate) socket: PathBuf,
    #[arg(long, hide = true, global = true, default_value = FOLDER)]
    pub(crate) state: PathBuf,
    #[arg(long, hide = true, global = true, default_value = RUN)]
    pub(crate) run: PathBuf,
}

/// What tests put in the place of a machine that was booted by a boot loader.
#[derive(Debug, Args)]
pub(crate) struct Stage {
    /// A folder instead of the ESP.
    #[arg(long, hide = true)]
    esp: Option<PathBuf>,
    /// The system that is on trial, on that ESP.
    #[arg(long, hide = true, requires = "esp")]
    counted: Option<String>,
    /// The release that runs.
    #[arg(long, hide = true, requires = "esp")]
    running: Option<String>,
    /// How the machine is rebooted.
    #[arg(long, hide = true, default_value = "systemctl reboot")]
    reboot: String,
}

/// Carries out a command.
pub(crate) fn run(cli: Cli) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let places = cli.places;
    match cli.command {
        Command::Remember { version, root_hash, limit } => {
            runtime.block_on(remember(&places, version, root_hash, limit))
        }
        Command::Run { stage } => runtime.block_on(judge(&places, &stage)),
    }
}

async fn remember(
    places: &Places,
    version: Version,
    root: Option<RootHash>,
    limit: u64,
) -> Result<()> {
    let now = agent::look(&places.socket, &places.run.join(BOOTED)).await;
    let why = now.silent.unwrap_or_default();
    let status = now.status.with_context(|| format!("the agent does not answer: {why}"))?;
    let parts = Parts::of(&status, &now.links);
    let before = Before { version, root, from: status.version, limit, parts };
    Kept::new(places.state.clone()).remember(&before)
}

async fn judge(places: &Places, stage: &Stage) -> Result<()> {
    let running = stage.running()?;
    let kept = Kept::new(places.state.clone());
    // A list that lacks a failure must not keep a boot from being judged.
    if let Err(error) = look_back(&kept, stage, &running) {
        eprintln!("trilith-gate: cannot tell whether a release has failed: {error:#}");
    }
    if let Some(counted) = stage.counted()? {
        trial::run(Trial::new(places, stage, kept, running, counted)?).await?;
    } else {
        let said = Said { version: running, stand: Stand::Old, failed: kept.failed() };
        put(&places.run.join(STATE), &said.text()?)?;
    }
    sd_notify::notify(&[NotifyState::Ready]).context("cannot tell systemd")
}

fn look_back(kept: &Kept, stage: &Stage, running: &str) -> Result<()> {
    // Most boots have nobody's failure to tell, and the ESP is left alone.
    if kept.before().is_none_or(|before| before.version.as_str() == running) {
        return Ok(());
    }
    let systems = stage.with_esp(esp::all)?;
    // For people to read; nothing is decided by it.
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    record(kept, running, &systems, at)
}

impl Stage {
    /// The system on trial in this boot.
    fn counted(&self) -> Result<Option<String>> {
        if self.esp.is_some() { Ok(self.counted.clone()) } else { esp::counted() }
    }

    /// The release that runs (`IMAGE_VERSION`, os-release(5)).
    fn running(&self) -> Result<String> {
        if let Some(version) = &self.running {
            return Ok(version.clone());
        }
        let path = "/usr/lib/os-release";
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        let version = text.lines().find_map(|line| line.strip_prefix("IMAGE_VERSION="));
        let version = version.with_context(|| format!("{path} names no IMAGE_VERSION"))?;
        Ok(version.trim_matches('"').to_owned())
    }

    /// Does something to the ESP.
    pub(crate) fn with_esp<T>(
        &self,
        work: impl FnOnce(&std::path::Path) -> Result<T>,
    ) -> Result<T> {
        match &self.esp {
            Some(folder) => work(folder),
            None => esp::with_esp(work),
        }
    }

    /// Calls for the reboot.
    pub(crate) fn reboot(&self) -> Result<()> {
        let words: Vec<&str> = self.reboot.split_whitespace().collect();
        let (program, arguments) = words.split_first().context("no command to reboot by")?;
        trilith_metal::exec::run(program, arguments)
    }
}

fn root_hash(text: &str) -> Result<RootHash, String> {
    RootHash::try_from(text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_its_help_fits_80_columns() {
        Cli::command().debug_assert();
        let mut cli = Cli::command();
        cli.build();
        for command in std::iter::once(&mut cli.clone()).chain(cli.get_subcommands_mut()) {
            let help = command.render_long_help().to_string();
            let long: Vec<_> = help.lines().filter(|line| line.chars().count() > 80).collect();
            assert!(long.is_empty(), "{long:#?}");
        }
    }
}
