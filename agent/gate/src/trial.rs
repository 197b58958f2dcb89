//! A boot on trial, from its first second to its end.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;
use tokio::time::sleep;
use trilith_core::boot::Name;
use trilith_core::boot::RootHash;
use trilith_core::gate::{BOOTED, Before, STATE, Said, Spent, Stand, Verdict, Why, judge};
use trilith_core::pauses::Pauses;
use trilith_core::version::Version;
use trilith_metal::trial as esp;

use crate::agent;
use crate::cli::{Places, Stage};
use crate::kept::{Kept, put};

/// The pauses between two looks. It asks instead of listening, because an agent that hangs tells no news: its answer is what
/// shows that it lives. Nothing waits for the seconds by which a boot is proven later.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5);
/// How long this program may go without a sign of life before its unit gives it up, in microseconds.
const ALIVE: u32 = 180_000_000;

/// A boot on trial.
pub(crate) struct Trial<'a> {
    places: &'a Places,
    stage: &'a Stage,
    kept: Kept,
    /// The release that runs.
    running: String,
    /// Its system's path on the ESP.
    counted: String,
    /// Which of its tries this is.
    number: u32,
    before: Before,
    spent: Spent,
}

impl<'a> Trial<'a> {
    /// Goes on with the time that was used if this program has run before in this boot.
    pub(crate) fn new(
        places: &'a Places,
        stage: &'a Stage,
        kept: Kept,
        running: String,
        counted: String,
    ) -> Result<Self> {
        let version: Version = running.parse()?;
        let remembered = kept.before().filter(|before| before.version == version);
        if remembered.is_none() {
            eprintln!("trilith-gate: nobody has written down what this node was part of before");
        }
        let before = remembered.unwrap_or_else(|| Before::unknown(version));
        let name = PathBuf::from(&counted);
        let name = name.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        let number = Name::of(name).and_then(|name| name.tries).map_or(0, |it| it.done);
        let spent = spent(places).unwrap_or_default();
        Ok(Self { places, stage, kept, running, counted, number, before, spent })
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(self.before.limit)
    }

    /// What there is to say now. A boot that cannot be marked as proven is not.
    async fn look(&self) -> Verdict {
        let now = agent::look(&self.places.socket, &self.places.run.join(BOOTED)).await;
        let verdict = judge(&self.before, &now);
        if verdict != Verdict::Proven {
            return verdict;
        }
        match self.stage.with_esp(|folder| esp::bless(folder, &self.counted)) {
            Ok(()) => Verdict::Proven,
            Err(error) => {
                let reason = format!("esp: the boot is proven and cannot be marked so: {error:#}");
                Verdict::Waiting { reasons: vec![reason] }
            }
        }
    }

    /// Tells where the boot stands: people, and the boot after this one.
    fn tell(&self, verdict: &Verdict) {
        let (number, limit, spent) = (self.number, self.before.limit, self.spent.clone());
        let stand = Stand::Trial { number, limit, spent, verdict: verdict.clone() };
        self.leave(verdict, false);
        self.say(stand);
    }

    fn say(&self, stand: Stand) {
        let failed = self.kept.failed();
        let said = Said { version: self.running.clone(), stand, failed };
        let text = said.text().context("cannot be written");
        complain(text.and_then(|text| put(&self.places.run.join(STATE), &text)));
        for line in said.lines() {
            eprintln!("{line}");
        }
        if let Some(line) = said.lines().first() {
            // Outside of a unit nobody listens.
            let _ = sd_notify::notify(&[NotifyState::Status(line)]);
        }
    }

    /// Leaves word for the release that is booted if this one fails. A /var that is full must not keep it from that.
    fn leave(&self, verdict: &Verdict, over: bool) {
        let command_line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let root = RootHash::of_command_line(&command_line);
        let version = self.before.version.clone();
        complain(self.kept.put_why(&Why { version, root, why: verdict.to_string(), over }));
    }

    /// Nothing of the trial is needed any more.
    fn proven(&self) {
        complain(self.kept.forgive(&self.before.version).and_then(|()| self.kept.close()));
        self.say(Stand::Proven);
    }
}

/// Judges until the boot is proven.
///
/// # Errors
/// Its time is over, and the machine reboots.
pub(crate) async fn run(mut trial: Trial<'_>) -> Result<()> {
    let mut pauses = Pauses::new(FIRST, LONGEST);
    let mut told: Option<Verdict> = None;
    loop {
        let _ = sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(ALIVE)]);
        let verdict = trial.look().await;
        let now = since_start()?;
        trial.spent.hear(now, &verdict);
        if verdict == Verdict::Proven {
            trial.proven();
            return Ok(());
        }
        if told.as_ref() != Some(&verdict) {
            trial.tell(&verdict);
            pauses.reset();
        }
        let left = trial.spent.left(trial.limit(), now);
        let counts = !matches!(verdict, Verdict::Inconclusive { .. });
        if counts && left.is_zero() {
            trial.leave(&verdict, true);
            trial.stage.reboot().context("the time of this boot is over")?;
            bail!("the time of this boot is over, and it reboots: {verdict}");
        }
        told = Some(verdict);
        let pause = pauses.next_pause();
        sleep(if counts { pause.min(left) } else { pause }).await;
    }
}

/// What a program that ran before in this boot has left.
fn spent(places: &Places) -> Option<Spent> {
    let text = std::fs::read_to_string(places.run.join(STATE)).ok()?;
    let said = Said::parse(&text).ok()?;
    match said.stand {
        Stand::Trial { spent, .. } => Some(spent),
        Stand::Old | Stand::Proven => None,
    }
}

/// The time since the machine was started, whatever its clock says.
fn since_start() -> Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).context("the kernel has no clock")?;
    Ok(Duration::from(time))
}

fn complain(done: Result<()>) {
    if let Err(error) = done {
        eprintln!("trilith-gate: {error:#}");
    }
}
