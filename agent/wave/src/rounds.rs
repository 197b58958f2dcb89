//! Look, decide, do, over and over.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::info;
use trilith_core::names::{NodeId, NodeName};
use trilith_core::wave::command::{Command, Speaker, command};
use trilith_core::wave::health::Ceph;
use trilith_core::wave::settings::{SOCKET, Seat, Settings};
use trilith_core::wave::word::{Vain, Word};
use trilith_core::wave::{
    Health, Hours, Member, Next, Silence, Step, Stranger, View, Wish, hours, next,
};
use zookeeper_client::PersistentWatcher;

use crate::ceph::{CephError, Hosts};
use crate::commands::{self, Order, Unsaid};
use crate::host::HostError;
use crate::keeper::{Keeper, KeeperError, Seen};
use crate::patroni::PatroniError;
use crate::{ceph, host, patroni};

/// How often it looks when nothing brings a look sooner: the updater and the agent tell nobody here.
const PERIOD: Duration = Duration::from_secs(3);
/// The pause before it connects anew.
const AGAIN: Duration = Duration::from_secs(2);
/// The longest that a session may take to stand.
const CONNECT: Duration = Duration::from_secs(30);

/// What failed in a round.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Ceph(#[from] CephError),
    #[error(transparent)]
    Patroni(#[from] PatroniError),
    #[error("the agent's version: {0}")]
    Version(#[from] trilith_core::names::BadValue),
}

/// What is remembered between two rounds: nothing that the others would miss.
struct Rounds {
    settings: Settings,
    names: BTreeMap<NodeName, NodeId>,
    /// Since when each node is silent, by this machine's steady clock.
    silent: BTreeMap<NodeId, Instant>,
    orders: mpsc::Receiver<Order>,
    /// The last thing that was logged.
    logged: String,
    /// What went wrong in the last round.
    trouble: Option<String>,
    /// The last step: one that is due again has not shown yet, and is given time.
    last: Option<Step>,
}

/// Goes on until the program is stopped.
pub(crate) async fn run(settings: Settings) -> io::Result<()> {
    let (give, orders) = mpsc::channel(4);
    let listener = commands::listen(Path::new(SOCKET))?;
    tokio::spawn(commands::serve(listener, give));
    let names = settings.nodes.iter().map(|(id, seat)| (seat.name.clone(), *id)).collect();
    let (silent, logged, trouble, last) = (BTreeMap::new(), String::new(), None, None);
    let mut rounds = Rounds { settings, names, silent, orders, logged, trouble, last };
    loop {
        let ended = rounds.session().await;
        rounds.stay();
        rounds.tell(format!("begins a new session: {ended}"));
        rounds.excuse(&ended.to_string()).await;
    }
}

impl Rounds {
    /// Nobody knows by now whose turn it is: no machine leaves.
    fn stay(&mut self) {
        if let Err(error) = host::stay() {
            self.tell(error.to_string());
        }
    }

    /// One session, until it ends.
    async fn session(&mut self) -> RoundError {
        let connecting = timeout(CONNECT, Keeper::connect(&self.settings)).await;
        let keeper = match connecting {
            Ok(Ok(keeper)) => keeper,
            Ok(Err(error)) => return error.into(),
            Err(_) => return KeeperError::Client(zookeeper_client::Error::Timeout).into(),
        };
        let mut watcher = match keeper.watch().await {
            Ok(watcher) => watcher,
            Err(error) => return error.into(),
        };
        loop {
            match self.round(&keeper).await {
                Ok(Pace::AtOnce) => self.trouble = None,
                Ok(Pace::Calm) => {
                    self.trouble = None;
                    self.wait(&keeper, &mut watcher).await;
                }
                Err(RoundError::Keeper(KeeperError::Client(error))) => {
                    return KeeperError::Client(error).into();
                }
                // Somebody was faster.
                Err(RoundError::Keeper(KeeperError::Changed)) => {}
                Err(error) => {
                    self.stay();
                    self.trouble = Some(error.to_string());
                    self.tell(error.to_string());
                    self.wait(&keeper, &mut watcher).await;
                }
            }
        }
    }

    /// One look, and at most one step.
    async fn round(&mut self, keeper: &Keeper) -> Result<Pace, RoundError> {
        let (seen, ceph) = self.see(keeper).await?;
        let me = self.settings.node;
        let next = next(me, &self.view(&seen, ceph.clone()));
        self.tell(next.to_string());
        if !matches!(next, Next::Do(Step::Move(_))) {
            host::stay()?;
        }
        match next {
            Next::Do(Step::Commit { boot }) => self.commit(keeper, boot, ceph).await,
            Next::Do(step) => {
                let again = self.last.replace(step.clone()).as_ref() == Some(&step);
                self.carry_out(keeper, &seen, step).await?;
                Ok(if again { Pace::Calm } else { Pace::AtOnce })
            }
            Next::Wait(_) | Next::Halted(_) | Next::Rest => {
                self.last = None;
                Ok(Pace::Calm)
            }
        }
    }

    /// All that is decided from. Ceph may take long to answer: what stands in ZooKeeper is looked at behind it.
    async fn see(&mut self, keeper: &Keeper) -> Result<(Seen, Option<Ceph>), RoundError> {
        let seen = self.look(keeper).await?;
        if !seen.is_busy() {
            return Ok((seen, None));
        }
        let ceph = self.ceph(Hosts::Only(self.settings.node), &seen).await;
        Ok((self.look(keeper).await?, ceph))
    }

    /// Commits, if that is still what is to be done at a last look: behind it there is no way back, and ZooKeeper itself
    /// sees to wish and turn alone.
    async fn commit(
        &mut self,
        keeper: &Keeper,
        boot: String,
        ceph: Option<Ceph>,
    ) -> Result<Pace, RoundError> {
        let seen = self.look(keeper).await?;
        let step = Step::Commit { boot };
        if next(self.settings.node, &self.view(&seen, ceph)) == Next::Do(step.clone()) {
            self.last = Some(step.clone());
            self.carry_out(keeper, &seen, step).await?;
        }
        Ok(Pace::AtOnce)
    }

    /// What there is to see, once this node has said where it stands itself. One that cannot tell that, or does not
    /// understand what it sees, would hold up all others with its lock and an old word: to them it is silent.
    async fn look(&self, keeper: &Keeper) -> Result<Seen, RoundError> {
        let looked = self.look_and_say(keeper).await;
        if let Err(error) = &looked
            && !matches!(error, RoundError::Keeper(KeeperError::Client(_)))
        {
            keeper.withdraw().await?;
        }
        looked
    }

    async fn look_and_say(&self, keeper: &Keeper) -> Result<Seen, RoundError> {
        let me = self.settings.node;
        let mut seen = keeper.look().await?;
        let local = host::look(self.trouble.clone()).await?;
        let before = seen.words.get(&me);
        let wish = seen.wish.as_ref().map(|(wish, _)| wish);
        let word = local.word(wish, before.and_then(|word| word.vain.as_ref()))?;
        if before != Some(&word) {
            keeper.say(&word).await?;
            seen.words.insert(me, word);
        }
        // Only now: its word is not older than its sign of life.
        if !seen.alive.contains(&me) {
            keeper.appear().await?;
        }
        Ok(seen)
    }

    /// The cluster as it is seen now.
    fn view(&mut self, seen: &Seen, ceph: Option<Ceph>) -> View {
        let me = self.settings.node;
        let mut nodes = BTreeMap::new();
        for (id, Seat { name, coordinator }) in self.settings.nodes.clone() {
            let silent = if id == me { None } else { self.silence(id, seen) };
            let word = seen.words.get(&id).cloned();
            nodes.insert(id, Member { name, coordinator, word, silent });
        }
        let wish = seen.wish.as_ref().map(|(wish, _)| wish.clone());
        let turn = seen.turn.as_ref().map(|(turn, _)| turn.clone());
        let stranger = self.stranger(seen).map(|(id, name)| {
            let silent = self.silence(id, seen);
            Stranger { name, silent }
        });
        let health = Health::of(&nodes, ceph, self.settings.commits, wish.as_ref());
        let hours = self.hours();
        View { wish, hours, lock: seen.lock, turn, stranger, nodes, health }
    }

    /// The turn's node, if the cluster file does not name it, and its name by its own word.
    fn stranger(&self, seen: &Seen) -> Option<(NodeId, Option<NodeName>)> {
        let (turn, _) = seen.turn.as_ref()?;
        let named = self.settings.nodes.contains_key(&turn.node);
        let name = seen.words.get(&turn.node).and_then(|word| word.name.clone());
        (!named).then_some((turn.node, name))
    }

    /// The hosts of whom Ceph is asked.
    fn names(&self, seen: &Seen) -> BTreeMap<NodeName, NodeId> {
        let mut names = self.names.clone();
        if let Some((id, Some(name))) = self.stranger(seen) {
            names.entry(name).or_insert(id);
        }
        names
    }

    fn silence(&mut self, id: NodeId, seen: &Seen) -> Option<Silence> {
        if seen.alive.contains(&id) {
            self.silent.remove(&id);
            return None;
        }
        let since = *self.silent.entry(id).or_insert_with(Instant::now);
        Some(Silence { why: "it has no session".into(), seconds: since.elapsed().as_secs() })
    }

    async fn ceph(&mut self, hosts: Hosts, seen: &Seen) -> Option<Ceph> {
        match ceph::look(hosts, &self.names(seen)).await {
            Ok(ceph) => Some(ceph),
            Err(error) => {
                self.tell(error.to_string());
                None
            }
        }
    }

    fn hours(&self) -> Hours {
        // A session stands, by TLS: so the clock is at least within the time of the servers' certificates.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
        hours(self.settings.window.as_ref(), now)
    }

    async fn carry_out(
        &mut self,
        keeper: &Keeper,
        seen: &Seen,
        step: Step,
    ) -> Result<(), RoundError> {
        let fetch = self.settings.fetch.as_ref();
        let wave = seen.wish.as_ref().map(|(wish, _)| wish.number);
        match step {
            Step::Stage { version, again } => host::wish(fetch, (wave, &version, again), false)?,
            Step::Activate { version, again } => host::wish(fetch, (wave, &version, again), true)?,
            Step::Lock => keeper.lock().await?,
            Step::Unlock => keeper.unlock().await?,
            Step::Begin(turn) => keeper.begin(&turn, seen).await?,
            Step::Commit { boot } => keeper.commit(&boot, seen).await?,
            Step::End => keeper.end(seen).await?,
            Step::Switch { from, to } => {
                patroni::switch(self.settings.patroni, &from, &to).await?;
            }
            Step::SetNoout(host) => ceph::noout(&host, true).await?,
            Step::TakeBackNoout(host) => ceph::noout(&host, false).await?,
            Step::Move(moves) => {
                host::evacuate(seen.turn.as_ref().map(|(turn, _)| turn.wish), moves)?;
            }
            Step::Withdraw(_) => host::withdraw()?,
            Step::Fail { wish, why } => {
                host::calm()?;
                let word = seen.words.get(&self.settings.node).cloned();
                if let Some(word) = word {
                    keeper.say(&Word { vain: Some(Vain { wish, why }), ..word }).await?;
                }
            }
        }
        Ok(())
    }

    /// Until something changes, an operator says something, or a while is over.
    async fn wait(&mut self, keeper: &Keeper, watcher: &mut PersistentWatcher) {
        tokio::select! {
            _ = watcher.changed() => {}
            order = self.orders.recv() => if let Some(order) = order {
                self.obey(keeper, order).await;
            },
            () = sleep(PERIOD) => {}
        }
    }

    async fn obey(&mut self, keeper: &Keeper, order: Order) {
        // Whoever asked may be gone.
        match order {
            Order::Look(answer) => _ = answer.send(self.show(keeper).await),
            Order::Say(said, speaker, answer) => {
                _ = answer.send(self.change(keeper, &said, speaker).await);
            }
        }
    }

    /// For a person: as things stand, also while nothing is wished.
    async fn show(&mut self, keeper: &Keeper) -> Result<View, String> {
        let seen = keeper.look().await.map_err(|error| error.to_string())?;
        let ceph = self.ceph(Hosts::All, &seen).await;
        Ok(self.view(&seen, ceph))
    }

    async fn change(
        &mut self,
        keeper: &Keeper,
        said: &Command,
        speaker: Speaker,
    ) -> Result<Wish, Unsaid> {
        let away = |error: KeeperError| Unsaid::Away(error.to_string());
        let seen = keeper.look().await.map_err(away)?;
        let who = speaker.who.clone();
        let judged = command(&self.view(&seen, None), said, speaker);
        let wish = judged.map_err(|refusal| Unsaid::Refused(refusal.to_string()))?;
        keeper.wish(&wish, &seen).await.map_err(|error| match error {
            KeeperError::Changed => Unsaid::Refused(error.to_string()),
            error => away(error),
        })?;
        info!(operator = who, "{who}: {said}");
        Ok(wish)
    }

    /// Tells whoever asks that nobody can be asked, until it is time to try again.
    async fn excuse(&mut self, why: &str) {
        let again = Instant::now() + AGAIN;
        while let Ok(Some(order)) = timeout_at(again, self.orders.recv()).await {
            match order {
                Order::Look(answer) => _ = answer.send(Err(why.to_owned())),
                Order::Say(_, _, answer) => _ = answer.send(Err(Unsaid::Away(why.to_owned()))),
            }
        }
        sleep_until(again).await;
    }

    /// Logs what is news.
    fn tell(&mut self, what: String) {
        if what != self.logged {
            info!("{what}");
            self.logged = what;
        }
    }
}

/// When the next round comes.
enum Pace {
    AtOnce,
    Calm,
}
