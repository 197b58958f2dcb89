//! The loop: observe → plan → apply → observe again, as [`trilith_core::update`] decides.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::unistd;
use trilith_core::pauses::Pauses;
use trilith_core::status::Problem;
use trilith_core::subject::{Plan, Subject as _};
use trilith_core::update::{
    FOLDER, Observed, Offer, Place, State, Step, System, Trial, Update, WISH, Wish,
};
use trilith_metal::block::{self, Devices, News};

use crate::Options;
use crate::look::Machine;
use crate::memory;
use crate::metadata::Releases;
use crate::peers::Peers;
use crate::source::Source;
use crate::tell::Teller;
use crate::work::Work;

/// How long a refusal stands before it is looked at again.
const AGAIN: Duration = Duration::from_mins(1);

/// Follows wishes, however often it takes, and never returns but with an error.
pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(follow(options))
}

/// What there is to do with a wish, beyond what is on the disk.
pub(crate) struct Session {
    pub(crate) wish: Wish,
    pub(crate) source: Source,
    pub(crate) peers: Peers,
    pub(crate) releases: Releases,
    pub(crate) offer: Option<Offer>,
    pub(crate) remembered: bool,
}

async fn follow(options: &Options) -> Result<()> {
    fs::create_dir_all(memory::FOLDER)
        .with_context(|| format!("cannot make {}", memory::FOLDER))?;
    let news = News::listen(&Devices::here())?.and(Path::new(FOLDER))?;
    let (machine, teller) = (Machine::new(options.esp.clone()), Teller::new()?);
    let mut pauses = Pauses::new(Duration::from_secs(1), Duration::from_mins(1));
    let mut session = None;
    loop {
        // It is large: TLS and the metadata are in it.
        let passing = Box::pin(pass(options, &machine, &teller, &mut session));
        match passing.await {
            // It is told to end by whoever takes the machine down.
            Ok(Outcome::Rebooting) => unistd::pause(),
            Ok(Outcome::GoneOn) => pauses.reset(),
            Ok(Outcome::Settled) => {
                pauses.reset();
                news.wait()?;
            }
            Ok(Outcome::Refused(problems)) => {
                teller.say(|state| {
                    (state.refused, state.doing, state.fetching) = (problems, None, None);
                })?;
                // The source may have by then what it lacks, or the boot may be proven.
                if let Some(session) = session.as_mut() {
                    session.offer = None;
                }
                news.wait_until(Instant::now() + AGAIN)?;
            }
            Err(error) => {
                let pause = pauses.next_pause();
                let words = format!("not updated yet: {error:#}; again in {} s", pause.as_secs());
                teller.say(|state| {
                    (state.failed, state.doing, state.fetching) = (Some(words), None, None);
                })?;
                // What the source has may be something else by then.
                if let Some(session) = session.as_mut() {
                    session.offer = None;
                }
                wait(&news, pause)?;
            }
        }
    }
}

/// Waits so long, or until there is another wish. Other news does not end it: most is of what was just tried.
fn wait(news: &News, pause: Duration) -> Result<()> {
    let (end, wish) = (Instant::now() + pause, text()?);
    while news.wait_until(end)? {
        if text()? != wish {
            break;
        }
    }
    Ok(())
}

/// What came of a pass.
enum Outcome {
    /// Everything is done, and the machine goes down.
    Rebooting,
    /// All steps are done, and there is more to see now.
    GoneOn,
    /// Nothing is left to do.
    Settled,
    /// Nothing can be done as things are.
    Refused(Vec<Problem>),
}

async fn pass(
    options: &Options,
    machine: &Machine,
    teller: &Teller,
    session: &mut Option<Session>,
) -> Result<Outcome> {
    follow_wish(session, wish()?)?;
    block::settle()?;
    let mut observed = machine.observe()?;
    tell(teller, &observed, session.as_ref())?;
    let Some(session) = session.as_mut() else { return settled(teller) };
    observed.offer = session.offer.clone();
    observed.remembered = session.remembered;
    let Plan { steps, problems } = Update::plan(&Some(session.wish.clone()), &observed);
    if !problems.is_empty() {
        return Ok(Outcome::Refused(problems));
    }
    for step in &steps {
        // What is activated is started, for the next reboot would do so, whoever calls for it.
        if *step != Step::Reboot && wish()?.as_ref() != Some(&session.wish) {
            return Ok(Outcome::GoneOn);
        }
        let mut work = Work { options, machine, teller, observed: &observed, session };
        work.apply(step).await.with_context(|| step.to_string())?;
    }
    match steps.last() {
        Some(Step::Reboot) => Ok(Outcome::Rebooting),
        Some(_) => Ok(Outcome::GoneOn),
        None => settled(teller),
    }
}

fn settled(teller: &Teller) -> Result<Outcome> {
    teller.say(|state| {
        (state.doing, state.progress, state.fetching) = (None, None, None);
        (state.failed, state.refused) = (None, Vec::new());
    })?;
    Ok(Outcome::Settled)
}

/// What is wished for now. What was seen of the source counts as long as the same release is meant: what is staged is
/// started also when nobody can be asked any more.
fn follow_wish(session: &mut Option<Session>, wish: Option<Wish>) -> Result<()> {
    match (session.as_mut(), wish) {
        (Some(session), Some(wish)) if session.wish == wish => {}
        (Some(session), Some(wish)) if session.wish.means_the_same_as(&wish) => {
            (session.wish, session.remembered) = (wish, false);
        }
        (_, wish) => *session = wish.map(Session::new).transpose()?,
    }
    Ok(())
}

/// What is seen before anything is done.
fn tell(teller: &Teller, observed: &Observed, session: Option<&Session>) -> Result<()> {
    let disk = observed.disk.as_ref();
    let running = disk
        .zip(observed.running.as_ref())
        .and_then(|(disk, root)| disk.layout.version(disk.layout.slot_running(root)?));
    let systems = || disk.iter().flat_map(|disk| &disk.esp.systems);
    let version = |file: &str| trilith_core::boot::Name::of(file)?.version();
    let staged = systems().find(|it| it.place == Place::Staged);
    // What is no system, the boot loader passes over, whatever it is called.
    let tried = |it: &&System| it.place == Place::Boot && it.on_trial() && it.root.is_some();
    let trial = systems().find(tried);
    let trial = trial.and_then(|it| Some((version(&it.file)?, it.tries()?)));
    teller.say(|state: &mut State| {
        state.running = running;
        state.staged = staged.and_then(|it| version(&it.file));
        state.trial =
            trial.map(|(version, tries)| Trial { version, left: tries.left, done: tries.done });
        state.wished = session.map(|it| it.wish.version.clone());
        (state.fetched, state.from_peers) = session.map_or((0, 0), Session::given);
    })
}

/// The wish, if there is one.
fn wish() -> Result<Option<Wish>> {
    let text = text()?;
    let wish = text.map(|text| serde_yaml::from_str(&text));
    wish.transpose().context("the wish is none")
}

fn text() -> Result<Option<String>> {
    let path = Path::new(FOLDER).join(WISH);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

impl Session {
    fn new(wish: Wish) -> Result<Self> {
        let source = Source::new(&wish.source)?;
        let releases = Releases::default();
        let peers = Peers::new();
        Ok(Self { wish, source, peers, releases, offer: None, remembered: false })
    }

    /// How many bytes the source has given, and how many other nodes.
    pub(crate) fn given(&self) -> (u64, u64) {
        (self.source.fetched(), self.peers.fetched())
    }

    /// An error if something else is wished for by now.
    pub(crate) fn still_wished(wished: &Wish) -> Result<()> {
        if wish()?.as_ref() != Some(wished) {
            bail!("something else is wished for by now");
        }
        Ok(())
    }
}
