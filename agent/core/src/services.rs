//! The units that run on a node, and the files that they read. The one owner of starting and stopping.
//!
//! Nothing is enabled or disabled: that writes `/etc`, and the agent starts everything at each boot anyway.
//!
//! A changed file of a running unit takes two passes. The first marks the unit and writes the file; the second sees
//! a mark and files that are all as desired, and lets the unit read them. So a file that its checker refuses neither
//! replaces the old one nor disturbs the service, and a crash between the two costs a needless restart at most.
//!
//! How often a unit that fails is tried again is systemd's affair (`Restart=`, `RestartSteps=` in its file), for
//! systemd does it also while there is no agent; the agent shows it, and forgives what is long ago.

use std::collections::BTreeMap;

use crate::status::problem;
use crate::subject::{OnFailure, Plan, Subject};

mod desired; // what should be
mod files; // the steps for files
mod limits; // resource controls, and what a machine has to share
mod names; // UnitName, Template
mod observed; // what is
pub mod owned; // what may be stopped and removed
mod step; // one change
#[cfg(test)]
mod tests;
mod units; // the steps for units

pub use desired::{Checker, Desired, File, Folder, Instances, OnChange, Owner, UnitWish};
pub use limits::{Capacity, Limits};
pub use names::{Template, UnitName};
pub use observed::{Active, Found, Manager, Observed, Unit};
pub use owned::{AUTHORIZED_KEYS, SSH};
pub use step::{Marks, Step};

/// The units of a node and what they read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Services;

impl Subject for Services {
    const NAME: &'static str = "services";
    type Desired = Desired;
    type Observed = Observed;
    type Step = Step;

    /// One unit that cannot start must not keep the others down. A step that leans on one before it is not in the
    /// same plan.
    const ON_FAILURE: OnFailure = OnFailure::GoOn;

    /// Stops before removals, since a unit may still read its file; writes before starts, for the same reason.
    fn plan(desired: &Desired, observed: &Observed) -> Plan<Step> {
        let mut plan = Plan::default();
        let view = View::new(desired, observed);
        if let Manager::Units(units) = &observed.units {
            plan.steps
                .extend(units.iter().filter_map(|(name, unit)| units::stop(&view, name, unit)));
        }
        files::plan(&view, &mut plan);
        match &observed.units {
            Manager::Away(reason) => {
                plan.problems.push(problem("system bus", format!("not there yet: {reason}")));
            }
            Manager::Units(units) => {
                for (name, wish) in &view.wishes {
                    units::keep(&view, (name, wish, units.get(name)), &mut plan);
                }
            }
        }
        plan.steps.extend(units::marks_of_nothing(&view));
        plan
    }
}

/// Both sides of the comparison, with the units of templates spelled out.
struct View<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    wishes: BTreeMap<UnitName, UnitWish>,
}

impl<'a> View<'a> {
    fn new(desired: &'a Desired, observed: &'a Observed) -> Self {
        Self { desired, observed, wishes: desired.wishes(&observed.instances, &observed.capacity) }
    }

    /// The desired files that are not as they should be.
    fn differing(&self) -> impl Iterator<Item = (&'a String, &'a File)> {
        let observed = self.observed;
        let differs = |(path, file): &(&String, &File)| {
            observed.files.get(path.as_str()).is_none_or(|found| !found.is(file))
        };
        self.desired.files.iter().filter(differs)
    }

    /// A unit as systemd shows it, if systemd can be asked.
    fn unit(&self, name: &UnitName) -> Option<&'a Unit> {
        match &self.observed.units {
            Manager::Units(units) => units.get(name),
            Manager::Away(_) => None,
        }
    }
}
