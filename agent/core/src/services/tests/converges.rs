//! From any state of units and files, with a crash of the agent in the middle: everything that can be had is there in
//! a few passes, no running service is left with an old configuration, and nothing foreign is touched.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::services::*;

/// Mark, write, reload, look; and the crash costs one more.
const PASSES: usize = 6;

/// A content that the checker refuses.
const BAD: &str = "bad";

const FILES: [&str; 3] = ["/run/trilith/a/one", "/run/trilith/a/two", "/etc/three"];

/// A unit of the world.
#[derive(Debug, Clone, PartialEq)]
struct Process {
    active: Active,
    /// What it runs with, by path.
    with: BTreeMap<String, String>,
    /// How many jobs it was given.
    jobs: u32,
}

#[derive(Debug, Clone)]
struct World {
    wishes: BTreeMap<UnitName, UnitWish>,
    processes: BTreeMap<UnitName, Process>,
    files: BTreeMap<String, Found>,
    folders: BTreeMap<String, Folder>,
    pending: Marks,
}

/// How far the agent gets with a step before it is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Progress {
    /// A file's readers are marked; a job is given and its mark stays.
    Half,
    Whole,
}

impl World {
    fn observe(&self) -> Observed {
        let unit = |process: &Process| Unit {
            load: "loaded".into(),
            active: process.active,
            job: false,
            result: "success".into(),
            runs_for: 0,
            restarts: 0,
            since: None,
            lines: Vec::new(),
            limits: Limits::default(),
        };
        let units = self.processes.iter().map(|(name, process)| (name.clone(), unit(process)));
        Observed {
            units: Manager::Units(units.collect()),
            files: self.files.clone(),
            folders: self.folders.clone(),
            pending: self.pending.clone(),
            ..Observed::default()
        }
    }

    fn content(&self, path: &str) -> String {
        self.files.get(path).map(|found| found.content.clone()).unwrap_or_default()
    }

    /// Lets a unit read the files of which a change asks for at most this.
    fn read(&mut self, unit: &UnitName, at_most: OnChange) {
        let reads = self.wishes.get(unit).map(|wish| wish.reads.clone()).unwrap_or_default();
        for (path, _) in reads.iter().filter(|(_, change)| **change <= at_most) {
            let content = self.content(path);
            self.process(unit).with.insert(path.clone(), content);
        }
    }

    fn process(&mut self, unit: &UnitName) -> &mut Process {
        self.processes.get_mut(unit).unwrap()
    }

    fn become_(&mut self, unit: &UnitName, active: Active) {
        let process = self.process(unit);
        process.jobs += 1;
        process.active = active;
    }

    /// Takes a step. A refused file is an error, and changes nothing.
    fn apply(&mut self, step: &Step, progress: Progress) -> bool {
        let whole = progress == Progress::Whole;
        match step {
            Step::Stop(unit) => self.become_(unit, Active::Inactive),
            Step::Start(unit) => {
                self.become_(unit, Active::Active);
                self.read(unit, OnChange::Restart);
            }
            Step::Reload(unit) | Step::Restart(unit) => {
                self.become_(unit, Active::Active);
                let reload = matches!(step, Step::Reload(_));
                self.read(unit, if reload { OnChange::Reload } else { OnChange::Restart });
                whole.then(|| self.pending.remove(unit));
            }
            Step::Unmark(unit) => drop(self.pending.remove(unit)),
            Step::Folder { path, folder } => {
                drop(self.folders.insert(path.clone(), folder.clone()));
            }
            Step::Write { file, .. } if file.content == BAD => return false,
            Step::Write { path, file, marks } => {
                self.pending.extend(marks.clone());
                let File { content, mode, owner, .. } = file.clone();
                whole.then(|| self.files.insert(path.clone(), Found { content, mode, owner }));
            }
            Step::Remove { path, marks } => {
                self.pending.extend(marks.clone());
                whole.then(|| self.files.remove(path));
            }
            Step::Limit { .. } | Step::Forgive(_) => panic!("nothing asks for {step}"),
        }
        true
    }
}

fn unit(name: &str) -> UnitName {
    UnitName::try_from(format!("{name}.service")).unwrap()
}

/// What each of the files should be and is.
type Contents = (&'static str, Option<&'static str>);

fn contents() -> impl Strategy<Value = Vec<Contents>> {
    let wanted = prop_oneof![4 => Just("a"), 4 => Just("b"), 1 => Just(BAD)];
    let is = prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))];
    proptest::collection::vec((wanted, is), FILES.len())
}

fn changes() -> impl Strategy<Value = OnChange> {
    prop_oneof![Just(OnChange::Nothing), Just(OnChange::Reload), Just(OnChange::Restart)]
}

/// A unit: what it reads, its state, and its mark, without which it runs with what is on the disk.
fn units() -> impl Strategy<Value = (UnitWish, Active, Option<OnChange>)> {
    let states = prop_oneof![Just(Active::Active), Just(Active::Inactive), Just(Active::Failed)];
    let reads =
        proptest::collection::btree_map(proptest::sample::select(&FILES[..]), changes(), 0..3);
    let mark = proptest::option::of(prop_oneof![Just(OnChange::Reload), Just(OnChange::Restart)]);
    (reads, states, mark).prop_map(|(reads, active, mark)| {
        let reads = reads.into_iter().map(|(path, change)| (path.to_owned(), change)).collect();
        (UnitWish { reads, ..UnitWish::default() }, active, mark)
    })
}

fn start(
    contents: &[Contents],
    units: Vec<(UnitWish, Active, Option<OnChange>)>,
) -> (Desired, World) {
    let mut desired = Desired::default();
    let mut files = BTreeMap::new();
    for (path, (wanted, is)) in FILES.iter().zip(contents) {
        let file = File::secret(*wanted, Owner::default()).checked_by(Checker::Nft);
        desired.files.insert((*path).into(), file);
        files.extend(is.map(|content| {
            let found = Found { content: content.into(), mode: 0o600, owner: Owner::default() };
            ((*path).to_owned(), found)
        }));
    }
    let mut world = World {
        wishes: BTreeMap::new(),
        processes: BTreeMap::new(),
        files,
        folders: BTreeMap::new(),
        pending: Marks::new(),
    };
    for (number, (wish, active, mark)) in units.into_iter().enumerate() {
        let name = unit(&format!("u{number}"));
        desired.units.insert(name.clone(), wish);
        world.processes.insert(name.clone(), Process { active, with: BTreeMap::new(), jobs: 0 });
        world.wishes = desired.units.clone();
        match mark {
            // It may run with anything, as far as the mark says.
            Some(mark) => {
                world.read(&name, OnChange::Restart);
                let wish = &desired.units[&name];
                let stale = wish.reads.iter().filter(|(_, change)| **change <= mark);
                let stale = stale.map(|(path, _)| (path.clone(), "older".to_owned()));
                world.process(&name).with.extend(stale);
                world.pending.insert(name, mark);
            }
            None => world.read(&name, OnChange::Restart),
        }
    }
    for name in [SSH, unit("foreign")] {
        let process = Process { active: Active::Active, with: BTreeMap::new(), jobs: 0 };
        world.processes.insert(name, process);
    }
    (desired, world)
}

/// Passes until nothing is left but what is refused, with the agent killed in the middle of one step.
fn run(desired: &Desired, world: &mut World, mut kill: usize) -> Vec<Step> {
    for _ in 0..PASSES {
        let plan = Services::plan(desired, &world.observe());
        if plan
            .steps
            .iter()
            .all(|step| matches!(step, Step::Write { file, .. } if file.content == BAD))
        {
            return plan.steps;
        }
        for step in &plan.steps {
            if kill == 0 {
                world.apply(step, Progress::Half);
                kill = usize::MAX;
                break;
            }
            kill = kill.saturating_sub(usize::from(kill != usize::MAX));
            world.apply(step, Progress::Whole);
        }
    }
    panic!("no end: {:#?}", Services::plan(desired, &world.observe()));
}

proptest! {
    #[test]
    fn plans_lead_from_any_state_to_the_desired_one(
        contents in contents(),
        units in proptest::collection::vec(units(), 0..4),
        kill in 0usize..12,
    ) {
        let (desired, mut world) = start(&contents, units);
        let before = world.clone();
        let refused = run(&desired, &mut world, kill);
        let refused: BTreeSet<&String> = refused.iter().map(|step| match step {
            Step::Write { path, .. } => path,
            _ => panic!("only writes are refused"),
        }).collect();
        for (path, (wanted, is)) in FILES.iter().zip(&contents) {
            let expected = if *wanted == BAD { is.unwrap_or_default() } else { wanted };
            prop_assert_eq!(world.content(path), expected);
        }
        for (name, wish) in &desired.units {
            let (process, was) = (&world.processes[name], &before.processes[name]);
            if wish.reads.keys().any(|path| refused.contains(path)) {
                prop_assert_eq!(process, was, "it is left alone");
                continue;
            }
            prop_assert_eq!(process.active, Active::Active);
            prop_assert!(!world.pending.contains_key(name));
            for (path, _) in wish.reads.iter().filter(|(_, change)| **change > OnChange::Nothing) {
                prop_assert_eq!(&process.with[path], &world.content(path), "{} of {}", path, name);
            }
        }
        prop_assert_eq!(world.processes[&SSH].active, Active::Inactive);
        prop_assert_eq!(&world.processes[&unit("foreign")], &before.processes[&unit("foreign")]);
    }
}
