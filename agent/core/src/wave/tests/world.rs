//! Waves in a small world: nodes that see it late, crash, lose their sessions, fail with the release, and operators who
//! pause and abort. What is in ZooKeeper changes as it does there: a change names what it has seen, and is refused if that
//! is not so any more.

use super::super::health::{Ceph, Database, Patroni, Server};
use super::super::word::{Failed, Silence, Vain, Word, Work};
use super::*;
use crate::machines::{Hosting, Machine};

mod updater; // it hears late, and acts late

use updater::Updater;

pub(super) const OLD: &str = "1";
pub(super) const NEW: &str = "2";
/// As many coordinators, and as many nodes that are none.
pub(super) const COORDINATORS: u16 = 3;
pub(super) const ALL: u16 = 5;
const GIB: u64 = 1 << 30;

#[expect(clippy::struct_excessive_bools, reason = "what may befall a node, in any combination")]
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// It is up; else it is off, or restarting by the wave's doing.
    up: bool,
    /// It is up, and cannot look at itself.
    pub(super) blind: bool,
    /// Whatever it is, down or blind, it is for good.
    pub(super) dead: bool,
    pub(super) word: Word,
    /// What the boot loader starts: `true` for the new release. How many tries it has left; `None`: it is proven.
    activated: Option<u8>,
    /// What it is about to do, as it decided some time ago.
    decided: Option<(Step, Seen)>,
    /// Whether its updater is told to activate.
    told: bool,
    updater: Updater,
    /// Whether the new release works on it.
    pub(super) sound: bool,
    silent: u64,
}

impl Node {
    /// As the others see it.
    fn is_silent(&self) -> bool {
        !self.up || self.blind
    }
}

/// What a decision was made from.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    wish: Option<Wish>,
    turn: Option<Turn>,
    session: u64,
}

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) wish: Option<Wish>,
    lock: Option<NodeId>,
    pub(super) turn: Option<Turn>,
    pub(super) noout: BTreeSet<NodeId>,
    pub(super) leader: NodeId,
    /// Counts sessions and boots.
    count: u64,
    pub(super) activations: Vec<(u64, NodeId)>,
}

pub(super) fn id(n: u16) -> NodeId {
    NodeId::try_from(n).unwrap()
}

pub(super) fn version(text: &str) -> Version {
    text.parse().unwrap()
}

impl World {
    pub(super) fn new() -> Self {
        let word = Word {
            name: None,
            running: version(OLD),
            root_hash: None,
            proven: true,
            trial: None,
            boot: "b0".into(),
            staged: None,
            work: Work::Idle,
            activates: Some(false),
            told_for: None,
            moving: Work::Idle,
            failed: Vec::new(),
            vain: None,
            trouble: None,
            leads: BTreeSet::new(),
            parts: parts::Parts::default(),
        };
        let node = Node {
            up: true,
            blind: false,
            dead: false,
            word,
            activated: None,
            told: false,
            updater: Updater::Rests,
            decided: None,
            sound: true,
            silent: 0,
        };
        let mut made = Self {
            nodes: (1..=ALL).map(|n| (id(n), node.clone())).collect(),
            wish: None,
            lock: None,
            turn: None,
            noout: BTreeSet::new(),
            leader: id(1),
            count: 0,
            activations: Vec::new(),
        };
        (1..=ALL).for_each(|n| made.furnish(id(n)));
        made.say(&upgrade(NEW, false));
        made
    }

    fn coordinates(node: NodeId) -> bool {
        u16::from(node) <= COORDINATORS
    }

    pub(super) fn view(&self) -> View {
        let member = |(node, it): (&NodeId, &Node)| {
            let mut word = it.word.clone();
            if *node == self.leader {
                word.leads.insert(word::Leads::Patroni);
            }
            let silent = Silence { why: "it has no session".into(), seconds: it.silent };
            let name = NodeName::try_from(format!("n{node}")).unwrap();
            let silent = it.is_silent().then_some(silent);
            (
                *node,
                Member { name, coordinator: Self::coordinates(*node), word: Some(word), silent },
            )
        };
        let nodes: BTreeMap<NodeId, Member> = self.nodes.iter().map(member).collect();
        View {
            wish: self.wish.clone(),
            hours: Hours::Open,
            lock: self.lock,
            turn: self.turn.clone(),
            stranger: None,
            health: self.health(&nodes),
            nodes,
        }
    }

    /// Machines that run on a node from the start, and its room for more: that of two nodes is enough for those of one.
    fn furnish(&mut self, node: NodeId) {
        let name = |n: u16| format!("m{node}-{n}");
        let machine = |n| Machine { name: name(n), memory: GIB, cpus: 1, ..Machine::default() };
        let machines: BTreeMap<String, Machine> = (1..=2).map(|n| (name(n), machine(n))).collect();
        self.get(node).word.parts.machines = Some(2);
        self.get(node).word.parts.hosting =
            Some(Hosting { cpus: 4, room: 10 * GIB, machines, ..Hosting::default() });
    }

    /// The machines on a node.
    fn hosts(&mut self, node: NodeId) -> &mut BTreeMap<String, Machine> {
        &mut self.get(node).word.parts.hosting.get_or_insert_default().machines
    }

    /// One of the machines that are to go to other nodes goes, if that node is there: the others another time.
    fn move_one(&mut self, node: NodeId, moves: &[Move]) {
        for Move { machine, name: _, to } in moves {
            if !self.nodes[&named(to)].up {
                continue;
            }
            if let Some(moved) = self.hosts(node).remove(machine) {
                self.hosts(named(to)).insert(machine.clone(), moved);
                return;
            }
        }
    }

    fn up(&self) -> BTreeSet<NodeId> {
        self.nodes.iter().filter(|(_, it)| it.up).map(|(node, _)| *node).collect()
    }

    fn health(&self, nodes: &BTreeMap<NodeId, Member>) -> Health {
        let up = self.up();
        let quorum: BTreeSet<NodeId> =
            up.iter().filter(|node| Self::coordinates(**node)).copied().collect();
        let first = quorum.first().copied();
        let server = |node: &NodeId| {
            (*node, if Some(*node) == first { Server::Leader } else { Server::Follower })
        };
        let database = |node: NodeId| match () {
            () if !up.contains(&node) => Database::Away,
            () if node == self.leader => Database::Leader,
            () => Database::Synchronous,
        };
        let all_up = up.len() == self.nodes.len();
        let unclean = if all_up { 0 } else { 7 };
        let stop = self.nodes.keys().map(|node| {
            let why = if all_up { "" } else { "others are away" };
            (*node, why.to_owned())
        });
        Health {
            zookeeper: quorum.iter().map(server).collect(),
            ceph: Some(Ceph {
                quorum: quorum.clone(),
                osds: self.nodes.keys().map(|node| (*node, 1)).collect(),
                unclean: [("degraded".to_owned(), unclean)].into(),
                stop: stop.collect(),
                noout: self.noout.clone(),
            }),
            patroni: Some(Patroni {
                paused: false,
                synchronous: true,
                max_lag: 1,
                members: (1..=COORDINATORS).map(|n| (id(n), database(id(n)))).collect(),
            }),
            machines: Health::of(nodes, None, parts::Commits::default(), self.wish.as_ref())
                .machines,
        }
    }

    pub(super) fn say(&mut self, said: &Command) {
        let speaker = Speaker { who: "operator".into(), at: 0 };
        if let Ok(wish) = command(&self.view(), said, speaker) {
            self.wish = Some(wish);
        }
    }

    fn quorate(&self) -> bool {
        self.up().iter().filter(|node| Self::coordinates(**node)).count() * 2
            > usize::from(COORDINATORS)
    }

    fn seen(&self) -> Seen {
        Seen { wish: self.wish.clone(), turn: self.turn.clone(), session: self.count }
    }

    /// A node looks and decides. Without ZooKeeper it sees nothing.
    pub(super) fn decide(&mut self, node: NodeId) {
        if !self.nodes[&node].up || !self.quorate() {
            return;
        }
        let seen = self.seen();
        let it = &self.nodes[&node];
        let next = if it.blind { blind(node, self.lock) } else { next(node, &self.view()) };
        let decided = match next {
            Next::Do(step) => Some((step, seen)),
            Next::Wait(_) | Next::Halted(_) | Next::Rest => None,
        };
        self.get(node).decided = decided;
    }

    pub(super) fn get(&mut self, node: NodeId) -> &mut Node {
        self.nodes.get_mut(&node).unwrap()
    }

    /// What it decided some time ago is done, as far as that can be done now.
    pub(super) fn act(&mut self, node: NodeId) {
        let Some((step, seen)) = self.get(node).decided.take() else { return };
        if !self.nodes[&node].up || !self.quorate() {
            return;
        }
        let holds = self.lock == Some(node);
        let same = holds && self.turn == seen.turn;
        match step {
            Step::Stage { version, .. } => {
                let word = &mut self.get(node).word;
                (word.staged, word.told_for) = (Some(version), seen.wish.map(|it| it.number));
            }
            Step::Lock if self.lock.is_none() => self.lock = Some(node),
            Step::Unlock if holds => self.lock = None,
            Step::Begin(turn) if same && self.turn.is_none() && self.wish == seen.wish => {
                self.turn = Some(turn);
            }
            Step::Switch { to, .. } if holds => {
                let to = to.as_str().trim_start_matches('n').parse().unwrap();
                self.leader = id(to);
            }
            Step::Move(moves) if holds => self.move_one(node, &moves),
            Step::SetNoout(host) if holds => _ = self.noout.insert(named(&host)),
            Step::TakeBackNoout(host) if holds => _ = self.noout.remove(&named(&host)),
            // That another one crashes between look and commit nobody can exclude; all else is seen by ZooKeeper.
            Step::Commit { boot } if same && self.wish == seen.wish && self.commits(node) => {
                self.check_commit(node);
                if let Some(turn) = &mut self.turn {
                    turn.phase = Phase::Activated { boot };
                }
            }
            Step::Activate { .. } if same => self.get(node).tell(true),
            Step::Withdraw(_) => {
                self.get(node).tell(false);
                self.get(node).word.told_for = None;
            }
            Step::Fail { wish, why } => self.get(node).word.vain = Some(Vain { wish, why }),
            Step::End if same => self.turn = None,
            _ => {}
        }
    }

    fn commits(&self, node: NodeId) -> bool {
        matches!(next(node, &self.view()), Next::Do(Step::Commit { .. }))
    }

    /// All that must hold when a node commits to activate.
    fn check_commit(&mut self, node: NodeId) {
        let wish = self.wish.clone().unwrap();
        assert_eq!(wish.state, Asked::Running, "paused or aborted");
        let others = || self.nodes.iter().filter(|(other, _)| **other != node);
        assert!(others().all(|(_, it)| it.activated.is_none()), "another is on trial");
        let proven =
            |(other, it): (&NodeId, &Node)| Self::coordinates(*other) && it.up && it.word.proven;
        let left = others().filter(|it| proven(*it)).count();
        let enough = left * 2 > usize::from(COORDINATORS);
        assert!(enough || !Self::coordinates(node), "no majority without node {node}");
        assert!(self.leader != node, "it leads");
        assert!(self.hosts(node).is_empty(), "machines run on it");
        let failed = |it: &Node| it.word.vain.as_ref().is_some_and(|vain| vain.wish == wish.number);
        assert!(!self.nodes.values().any(failed), "it has failed");
        self.activations.push((wish.number, node));
    }

    fn activate(&mut self, node: NodeId) {
        let it = self.get(node);
        it.activated = Some(3);
        it.word.staged = None;
        it.word.work = Work::Busy("restarts".into());
        self.stop(node);
    }

    pub(super) fn stop(&mut self, node: NodeId) {
        let it = self.get(node);
        (it.up, it.blind, it.decided) = (false, false, None);
        // The wish lay in memory.
        it.updater = Updater::Rests;
        it.tell(false);
        it.word.told_for = None;
        // They end with it; after the wave's own restart there are none.
        self.hosts(node).clear();
        if self.lock == Some(node) {
            self.lock = None;
        }
    }

    /// A node that is off starts; what, the boot loader decides.
    pub(super) fn start(&mut self, node: NodeId) {
        self.count += 1;
        let boot = format!("b{}", self.count);
        let it = self.get(node);
        if it.up || it.dead {
            return;
        }
        (it.up, it.silent, it.word.boot, it.word.work) = (true, 0, boot, Work::Idle);
        // Until it is asked, the updater of this boot says nothing of what lies there.
        it.word.staged = None;
        match it.activated {
            Some(0) => {
                it.activated = None;
                let failed = Failed { version: version(NEW), why: "it did not work".into() };
                it.word.failed = vec![failed];
                (it.word.running, it.word.proven) = (version(OLD), true);
            }
            Some(tries) => {
                it.activated = Some(tries - 1);
                (it.word.running, it.word.proven) = (version(NEW), false);
            }
            None => {}
        }
    }

    /// The gate of a node on trial: it is proven, or restarts.
    pub(super) fn judge(&mut self, node: NodeId) {
        let quorate = self.quorate();
        let it = self.get(node);
        if it.is_silent() || it.word.proven || !quorate {
            return;
        }
        if it.sound {
            (it.word.proven, it.activated) = (true, None);
            it.word.failed.clear();
        } else {
            self.stop(node);
        }
    }

    /// A node's agent hangs, or answers again.
    pub(super) fn see(&mut self, node: NodeId, sees: bool) {
        let it = self.get(node);
        if it.dead {
            return;
        }
        it.blind = it.up && !sees;
        if !it.is_silent() {
            it.silent = 0;
        }
    }

    pub(super) fn lose_session(&mut self, node: NodeId) {
        if self.lock == Some(node) {
            self.lock = None;
        }
    }

    pub(super) fn wait(&mut self, seconds: u64) {
        for it in self.nodes.values_mut().filter(|it| it.is_silent()) {
            it.silent += seconds;
        }
    }

    /// What must hold at any moment: a power cut here leaves at most one that starts the new release unproven.
    pub(super) fn check(&self) {
        let on_trial = self.nodes.values().filter(|it| it.activated.is_some()).count();
        assert!(on_trial <= 1, "{self:#?}");
        for host in &self.noout {
            let turn = self.turn.as_ref().is_some_and(|turn| turn.node == *host && turn.noout);
            assert!(turn, "noout of node {host} is nobody's\n{self:#?}");
        }
    }

    /// Everybody goes on, but for the updaters, until something has come about.
    pub(super) fn until(&mut self, come: impl Fn(&Self) -> bool) {
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        let mut turns = nodes.iter().cycle().take(500);
        while !come(self) {
            let node = *turns.next().unwrap();
            self.decide(node);
            self.act(node);
            self.check();
        }
    }

    /// Everybody goes on until nothing changes, for longer than anybody waits for a node that is silent.
    pub(super) fn settle(&mut self) {
        let mut idle = 0;
        while idle < 15 {
            let mut rests = true;
            for node in self.nodes.keys().copied().collect::<Vec<_>>() {
                self.start(node);
                self.see(node, true);
                self.judge(node);
                self.update(node, false);
                self.decide(node);
                rests &= self.nodes[&node].decided.is_none();
                self.act(node);
                self.check();
            }
            idle = if rests { idle + 1 } else { 0 };
            self.wait(if rests { 600 } else { 20 });
        }
    }
}

pub(super) fn named(host: &NodeName) -> NodeId {
    id(host.as_str().trim_start_matches('n').parse().unwrap())
}
