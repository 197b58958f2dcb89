//! What an agent costs that has nothing to do.

use anyhow::{Result, bail};

/// Looks twice, a minute apart; [`Idle::read`] understands what it prints.
pub(crate) const SCRIPT: &str = include_str!("guest/idle");

/// Over a minute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    /// Resident memory in MiB.
    pub(crate) resident: f64,
    /// Per cent of one core.
    pub(crate) cpu: f64,
    /// Context switches per second.
    pub(crate) wakes: f64,
    /// How long was looked, in seconds.
    pub(crate) window: f64,
}

impl Idle {
    pub(crate) fn read(said: &str) -> Result<Self> {
        let numbers: Vec<f64> =
            said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [rss, ticks, cpu, wakes, start, cpu_end, wakes_end, end] = numbers[..] else {
            bail!("the idle script said {said:?}");
        };
        let window = end - start;
        Ok(Self {
            resident: rss / 1024.0,
            cpu: 100.0 * (cpu_end - cpu) / ticks / window,
            wakes: (wakes_end - wakes) / window,
            window,
        })
    }
}
