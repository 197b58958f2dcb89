//! Turns in a small world: agents that hear of each other late, services that restart when they may.

use proptest::prelude::*;

use super::*;
use crate::status::Details;

/// One coordinator: its service, what its agent keeps, what it said last, and what it has heard.
#[derive(Debug, Clone)]
struct Coordinator {
    service: Service,
    stand: Stand,
    said: Details,
    heard: Others,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Service {
    Works,
    /// It works with an older configuration.
    Old,
    /// Its process is gone, and the mark is still there.
    Restarts,
    /// The new process is there and does not work yet.
    Begins,
    /// It was killed; it is started again, and a mark stays.
    Dead {
        due: bool,
    },
}

struct World {
    members: BTreeMap<NodeId, NodeName>,
    coordinators: BTreeMap<NodeId, Coordinator>,
    leader: NodeId,
    tickets: Ticket,
    restarts: BTreeMap<NodeId, usize>,
}

impl World {
    fn new(count: u16, leader: u16) -> Self {
        let id = |n: u16| NodeId::try_from(n).unwrap();
        let name = |n: u16| NodeName::try_from(format!("n{n}")).unwrap();
        let one = Coordinator {
            service: Service::Works,
            stand: Stand::default(),
            said: Details::default(),
            heard: Others::new(),
        };
        Self {
            members: (1..=count).map(|n| (id(n), name(n))).collect(),
            coordinators: (1..=count).map(|n| (id(n), one.clone())).collect(),
            leader: id(leader),
            tickets: 0,
            restarts: BTreeMap::new(),
        }
    }

    fn ids(&self) -> Vec<NodeId> {
        self.members.keys().copied().collect()
    }

    fn role(&self, id: NodeId) -> Option<&'static str> {
        match self.coordinators[&id].service {
            Service::Works | Service::Old if id == self.leader => Some("leader"),
            Service::Works | Service::Old => Some("follower"),
            Service::Restarts | Service::Begins | Service::Dead { .. } => None,
        }
    }

    /// One pass of an agent: it looks, says what it sees, plans and does it.
    fn pass(&mut self, id: NodeId) {
        let role = self.role(id);
        self.tickets += 1;
        let mut own = self.coordinators[&id].clone();
        own.said =
            Details { role: role.map(str::to_owned), turn: Some(own.stand), ..Details::default() };
        let due = match own.service {
            Service::Old | Service::Restarts | Service::Dead { due: true } => true,
            Service::Works | Service::Begins | Service::Dead { due: false } => false,
        };
        let seen = Seen { stand: own.stand, due, fresh: self.tickets };
        let table = Table { members: &self.members, me: id, role, others: &own.heard };
        for step in plan(table, &seen).steps {
            match step {
                Step::Say { asks, vote } => (own.stand.asks, own.stand.vote) = (asks, vote),
                Step::Permit => own.stand.holds = true,
                Step::Revoke => own.stand.holds = false,
            }
        }
        self.coordinators.insert(id, own);
    }

    fn hear(&mut self, id: NodeId, other: NodeId) {
        let said = self.coordinators[&other].said.clone();
        if id != other && said.turn.is_some() {
            let own = self.coordinators.get_mut(&id).unwrap();
            own.heard.insert(other, Witness::Says(Box::new(said)));
        }
    }

    /// The next thing that happens to a service.
    fn serve(&mut self, id: NodeId) {
        let own = self.coordinators.get_mut(&id).unwrap();
        own.service = match own.service {
            Service::Old if own.stand.holds => {
                *self.restarts.entry(id).or_default() += 1;
                Service::Restarts
            }
            Service::Restarts => Service::Begins,
            Service::Begins | Service::Dead { due: false } => Service::Works,
            Service::Dead { due: true } => Service::Old,
            service @ (Service::Works | Service::Old) => service,
        };
    }

    fn give_new_configuration(&mut self, id: NodeId) {
        let own = self.coordinators.get_mut(&id).unwrap();
        if own.service == Service::Works {
            own.service = Service::Old;
        }
    }

    fn kill(&mut self, id: NodeId) {
        let own = self.coordinators.get_mut(&id).unwrap();
        own.service = match own.service {
            Service::Works => Service::Dead { due: false },
            Service::Old => Service::Dead { due: true },
            service => service,
        };
    }

    fn restarting(&self) -> usize {
        let restarts =
            |it: &&Coordinator| matches!(it.service, Service::Restarts | Service::Begins);
        self.coordinators.values().filter(restarts).count()
    }

    /// Everybody hears everything and does what is to do, until nothing is left.
    fn settle(&mut self) -> bool {
        for _ in 0..60 {
            for id in self.ids() {
                self.ids().into_iter().for_each(|other| self.hear(id, other));
                self.pass(id);
                self.serve(id);
                assert!(self.restarting() <= 1);
            }
        }
        let rests = |it: &Coordinator| {
            it.service == Service::Works && !it.stand.holds && it.stand.asks.is_none()
        };
        self.coordinators.values().all(rests)
    }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Pass(u16),
    Hear(u16, u16),
    Serve(u16),
    Due(u16),
    Kill(u16),
    Elect(u16),
}

fn event() -> impl Strategy<Value = Event> {
    let node = 1_u16..=3;
    prop_oneof![
        6 => node.clone().prop_map(Event::Pass),
        8 => (node.clone(), node.clone()).prop_map(|(a, b)| Event::Hear(a, b)),
        4 => node.clone().prop_map(Event::Serve),
        2 => node.clone().prop_map(Event::Due),
        1 => node.clone().prop_map(Event::Elect),
        1 => node.prop_map(Event::Kill),
    ]
}

fn happen(world: &mut World, event: Event) {
    let id = |n: u16| NodeId::try_from(n).unwrap();
    match event {
        Event::Pass(n) => world.pass(id(n)),
        Event::Hear(n, other) => world.hear(id(n), id(other)),
        Event::Serve(n) => world.serve(id(n)),
        Event::Due(n) => world.give_new_configuration(id(n)),
        Event::Elect(n) => world.leader = id(n),
        Event::Kill(n) => world.kill(id(n)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is heard late: never two at once, and in the end all have restarted and nobody asks any more.
    #[test]
    fn never_two_at_once_and_all_in_the_end(events in prop::collection::vec(event(), 0..200)) {
        let mut world = World::new(3, 1);
        for event in events {
            // Killed services are no restarts; with all of them gone there is nothing to be lost.
            happen(&mut world, if let Event::Kill(_) = event { Event::Serve(1) } else { event });
            prop_assert!(world.restarting() <= 1);
        }
        prop_assert!(world.settle(), "{:#?}", world.coordinators);
    }

    /// With services that die in between it still ends.
    #[test]
    fn it_ends_though_services_die(events in prop::collection::vec(event(), 0..200)) {
        let mut world = World::new(3, 1);
        for event in events {
            happen(&mut world, event);
        }
        for _ in 0..60 {
            for id in world.ids() {
                world.ids().into_iter().for_each(|other| world.hear(id, other));
                world.pass(id);
                world.serve(id);
            }
        }
        prop_assert!(world.settle(), "{:#?}", world.coordinators);
    }
}

#[test]
fn the_leader_is_last_and_each_restarts_once() {
    for (count, leader) in [(1, 1), (3, 1), (3, 2), (5, 3), (7, 1)] {
        let mut world = World::new(count, leader);
        world.ids().into_iter().for_each(|id| world.give_new_configuration(id));
        let mut order = Vec::new();
        for _ in 0..200 {
            for id in world.ids() {
                world.ids().into_iter().for_each(|other| world.hear(id, other));
                world.pass(id);
            }
            let before = world.restarts.clone();
            world.ids().into_iter().for_each(|id| world.serve(id));
            order.extend(world.restarts.keys().filter(|id| !before.contains_key(*id)).copied());
            assert!(world.restarting() <= 1);
        }
        assert!(world.settle() && world.restarts.values().all(|times| *times == 1));
        let mut expected: Vec<u16> = (1..=count).filter(|n| *n != leader).collect();
        expected.push(leader);
        assert_eq!(order.iter().map(|id| u16::from(*id)).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn who_lost_the_quorum_with_all_others_does_not_wait_for_them() {
    let mut world = World::new(3, 1);
    for id in world.ids() {
        world.coordinators.get_mut(&id).unwrap().service = Service::Dead { due: true };
        world.pass(id);
    }
    for id in world.ids() {
        world.ids().into_iter().for_each(|other| world.hear(id, other));
        world.pass(id);
        assert!(world.coordinators[&id].stand.holds);
    }
}
