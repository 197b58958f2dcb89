//! The updater of a node in the small world: what it is told it reads later, and shows later still.

use super::*;

/// An updater, as far as an activation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Updater {
    /// It has no wish.
    Rests,
    /// It has read one, and nobody sees it yet.
    Reads,
    /// It shows that it has one.
    Works,
}

impl Node {
    pub(super) fn tell(&mut self, activate: bool) {
        self.told = activate;
        self.word.activates = Some(activate || self.updater == Updater::Works);
    }
}

impl World {
    /// The updater gets on. `late`: it does what it was told when it last looked.
    pub(in super::super) fn update(&mut self, node: NodeId, late: bool) {
        let it = self.get(node);
        match it.updater {
            Updater::Rests if it.told => it.updater = Updater::Reads,
            Updater::Rests => {}
            Updater::Reads => {
                (it.updater, it.word.work) = (Updater::Works, Work::Busy("activates".into()));
            }
            Updater::Works if it.told || late => return self.activate(node),
            Updater::Works => (it.updater, it.word.work) = (Updater::Rests, Work::Idle),
        }
        let told = it.told;
        it.tell(told);
    }
}
