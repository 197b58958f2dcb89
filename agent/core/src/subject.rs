//! One thing that the agent keeps right: desired → observed → plan → apply.

use std::fmt::{Debug, Display};

use crate::status::{Details, Problem};

/// A thing that the agent keeps right. The decision is [`Subject::plan`], a pure function; an adapter of
/// the agent observes and applies.
pub trait Subject {
    /// What the node should be, derived from the cluster file and the node ID.
    type Desired: Clone + PartialEq + Debug;
    /// What the host shows at one moment.
    type Observed: Debug;
    /// One change, carried out by one call to the outside. `Display` is what people read in a plan.
    type Step: Clone + PartialEq + Debug + Display;

    /// Its name in the status, the same on every node.
    const NAME: &'static str;
    /// What a failed step means for the steps after it.
    const ON_FAILURE: OnFailure = OnFailure::Stop;

    /// The steps that lead from `observed` towards `desired`, removals first, and what stands in the way.
    ///
    /// A plan has no branches: if a later step needs the result of an earlier one, the plan ends there
    /// and the next pass sees more.
    fn plan(desired: &Self::Desired, observed: &Self::Observed) -> Plan<Self::Step>;

    /// What the observed state means for people and for the other nodes, beyond whether it is as desired.
    fn details(_desired: &Self::Desired, _observed: &Self::Observed) -> Details {
        Details::default()
    }
}

/// What becomes of the rest of a plan when a step of it fails. Either way the failure is the pass's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Later steps lean on earlier ones, as when a daemon may stop only after its data is safe.
    Stop,
    /// The steps are safe by themselves: one refused MTU must not keep every other link down.
    GoOn,
}

/// The steps to take now, and the reasons why they will not be enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<S> {
    /// In the order in which they are to be applied.
    pub steps: Vec<S>,
    /// What keeps the subject from its desired state and no step can mend, such as a missing NIC.
    pub problems: Vec<Problem>,
}

/// Nothing to do, yet.
impl<S> Default for Plan<S> {
    fn default() -> Self {
        Self { steps: Vec::new(), problems: Vec::new() }
    }
}

impl<S> Plan<S> {
    /// Nothing to do and nothing in the way: the subject has converged.
    pub fn is_converged(&self) -> bool {
        self.steps.is_empty() && self.problems.is_empty()
    }
}
