//! Resource controls of units, and what a machine has to share.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::Reserve;

/// Resource controls that are set at run time, never on the disk (systemd.resource-control(5)). What is `None` stays
/// as the unit's file has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// `MemoryMax=`, bytes: above it the unit's processes are killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<u64>,
    /// `MemoryHigh=`, bytes: above it they are slowed down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<u64>,
    /// `MemoryLow=`, bytes that others cannot take from it easily.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_low: Option<u64>,
    /// `CPUWeight=`, 1 to 10000, 100 is usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u64>,
    /// `IOWeight=`, 1 to 10000, 100 is usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u64>,
    /// `AllowedCPUs=`, by their numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_cpus: Option<BTreeSet<u16>>,
}

impl Limits {
    /// The property of [`Limits::allowed_cpus`], the one that is no number.
    pub const ALLOWED_CPUS: &str = "AllowedCPUs";

    /// The controls that are numbers, by the names of their properties: the one list of them.
    pub fn numbers_mut(&mut self) -> [(&'static str, &mut Option<u64>); 5] {
        let Self { memory_max, memory_high, memory_low, cpu_weight, io_weight, allowed_cpus: _ } =
            self;
        [
            ("MemoryMax", memory_max),
            ("MemoryHigh", memory_high),
            ("MemoryLow", memory_low),
            ("CPUWeight", cpu_weight),
            ("IOWeight", io_weight),
        ]
    }

    /// The numbers that are given.
    pub fn numbers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = self.clone().numbers_mut().map(|(name, value)| (name, *value));
        all.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }

    /// Those that `observed` has otherwise.
    #[must_use]
    pub fn differing(&self, observed: &Self) -> Self {
        let (mut differing, mut observed) = (self.clone(), observed.clone());
        for ((_, wanted), (_, is)) in
            differing.numbers_mut().into_iter().zip(observed.numbers_mut())
        {
            *wanted = wanted.filter(|_| *wanted != *is);
        }
        differing.allowed_cpus.take_if(|cpus| Some(&*cpus) == observed.allowed_cpus.as_ref());
        differing
    }

    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> =
            self.numbers().map(|(name, value)| format!("{name}={value}")).collect();
        words.extend(self.allowed_cpus.as_ref().map(|cpus| {
            let cpus: Vec<_> = cpus.iter().map(ToString::to_string).collect();
            format!("{}={}", Self::ALLOWED_CPUS, cpus.join(","))
        }));
        f.write_str(&words.join(" "))
    }
}

/// What the host has to share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capacity {
    /// The logical CPUs that are online, by number; none if that is not known.
    pub cpus: BTreeSet<u16>,
    /// Bytes of memory; 0 if that is not known.
    pub memory: u64,
}

impl Capacity {
    /// All but what is reserved: of CPUs the higher numbers, since the kernel's own work and what is bound to no CPU
    /// tend to the lower ones. On a host too small for the reserve half of it is reserved: with nothing for
    /// machines it would be no node. `limits` keeps its other controls.
    pub(crate) fn without(&self, reserve: Reserve, limits: &Limits) -> Limits {
        let Reserve { cpus, memory } = reserve;
        let half = self.cpus.len() / 2;
        let kept = if usize::from(cpus) < self.cpus.len() { usize::from(cpus) } else { half };
        let bytes = memory.bytes();
        let bytes = if bytes < self.memory { bytes } else { self.memory / 2 };
        Limits {
            // Nothing that is not known is limited.
            allowed_cpus: (!self.cpus.is_empty())
                .then(|| self.cpus.iter().skip(kept).copied().collect()),
            memory_max: (self.memory > 0).then(|| self.memory - bytes),
            ..limits.clone()
        }
    }
}
