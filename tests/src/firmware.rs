//! What firmware and boot loader do in a lab with slots: they start nodes that are off.

use anyhow::Result;
use trilith_core::version::Version;

use crate::command::run;
use crate::lab::Lab;

/// Starts nodes that are off, and remembers in which order.
#[derive(Debug)]
pub struct Firmware<'a> {
    lab: &'a Lab,
    /// Who has restarted, in this order.
    pub restarted: Vec<String>,
    /// A release whose kernel panics at once on the node that comes to it as this one, counted from 0.
    pub bad: Option<(Version, usize)>,
}

impl<'a> Firmware<'a> {
    /// For the nodes of this lab.
    pub fn new(lab: &'a Lab) -> Self {
        Self { lab, restarted: Vec::new(), bad: None }
    }

    /// The lab.
    pub fn lab(&self) -> &'a Lab {
        self.lab
    }

    /// Starts all that are off now, each with the release that comes next there.
    pub fn start(&mut self) -> Result<Vec<(String, Version)>> {
        let mut started = Vec::new();
        for name in self.lab.names() {
            if self.lab.node(name)?.is_on() {
                continue;
            }
            let version = self.lab.boot_newest(name)?;
            self.restarted.push(name.to_owned());
            let mut each = self.restarted.clone();
            each.dedup();
            if self.bad.as_ref().is_some_and(|(bad, at)| *bad == version && each.len() == at + 1) {
                self.lab.kill(name)?;
            }
            started.push((name.to_owned(), version));
        }
        Ok(started)
    }
}

/// `trilith upgrade FILE WORDS…` from a neighbour on upstream.
pub fn upgrade(lab: &Lab, words: &[&str]) -> Result<String> {
    lab.inside(|| run(&mut lab.cluster().upgrade(words)?))
}
