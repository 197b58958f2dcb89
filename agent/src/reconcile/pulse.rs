//! The watchdog's view of the loops: it asks, they answer. A timer that runs by itself would tell systemd that
//! the agent is well while a loop hangs.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::watch;

/// Asks every loop whether it still turns.
pub(crate) struct Pulses {
    question: watch::Sender<u64>,
    answers: Vec<(&'static str, Rc<Cell<u64>>)>,
}

/// One loop's end.
pub(crate) struct Pulse {
    question: watch::Receiver<u64>,
    answer: Rc<Cell<u64>>,
}

impl Pulses {
    /// No loops yet.
    pub(crate) fn new() -> Self {
        Self { question: watch::Sender::new(0), answers: Vec::new() }
    }

    /// The end for one more loop.
    pub(crate) fn add(&mut self, name: &'static str) -> Pulse {
        let answer = Rc::new(Cell::new(*self.question.borrow()));
        self.answers.push((name, Rc::clone(&answer)));
        Pulse { question: self.question.subscribe(), answer }
    }

    /// The loops that have not answered the last question.
    pub(crate) fn silent(&self) -> Vec<&'static str> {
        let asked = *self.question.borrow();
        self.answers
            .iter()
            .filter(|(_, answer)| answer.get() != asked)
            .map(|(name, _)| *name)
            .collect()
    }

    /// Asks again.
    pub(crate) fn ask(&self) {
        self.question.send_modify(|n| *n = n.wrapping_add(1));
    }
}

impl Pulse {
    /// Says that the loop turns. Called between all calls of an adapter, each of which is bounded.
    pub(crate) fn answer(&mut self) {
        self.answer.set(*self.question.borrow_and_update());
    }

    /// Resolves when the watchdog asks; never again once there is no watchdog. Cancel-safe: the question stays
    /// until it is answered.
    pub(crate) async fn asked(&mut self) {
        if self.question.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
