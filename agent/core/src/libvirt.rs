//! libvirt on every node: the secret by which machines reach their disks in Ceph, whether KVM works, and what room there
//! is for machines.
//!
//! The subject `services` starts the daemon; this one gives it what it keeps in memory alone, and sees what it has.
//! Ceph's key for machines is a secret of libvirt's (`<auth><secret uuid=…>` of a disk): *ephemeral*, so that it is
//! never on a disk, which means that it is defined anew after each start of the daemon; not *private*, so that the
//! agent can compare it. Who can read it then are root on this node and the other nodes, which have it anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::Reserve;
use crate::machines::{Hosting, Machine};
use crate::secrets::Secret;
use crate::services::{Capacity, Limits};
use crate::status::{Details, problem};
use crate::subject::{Plan, Subject};

#[cfg(test)]
mod tests;

/// Under which name the storage secret is in libvirt (`<usage type='ceph'>`): the mark of the one that is ours.
pub const USAGE: &str = "trilithd client.libvirt";

/// The key's name in Ceph.
pub const ENTITY: &str = "client.libvirt";

/// The device by which KVM is used.
pub const KVM: &str = "/dev/kvm";

/// libvirt and KVM on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Libvirt;

/// What libvirt should have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Desired {
    /// The key of machines' disks; a node that was given none has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<StorageSecret>,
    /// What is kept from machines.
    pub reserve: Option<Reserve>,
}

/// Ceph's key for machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSecret {
    /// By which machines name it: the same on every node, so that machines can move.
    pub uuid: String,
    /// The key, base64 as in a keyring.
    pub key: Secret,
}

/// What the node shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// The daemon and what it has.
    pub daemon: Daemon,
    /// Whether guests run under KVM.
    pub kvm: Kvm,
    /// What the node itself is.
    pub host: Host,
}

/// libvirt's daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Daemon {
    /// It cannot be asked, with the reason.
    Away(String),
    /// It answers.
    Answers(Answer),
}

/// What the daemon says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// Its own version, as `virConnectGetLibVersion` has it.
    pub libvirt: u32,
    /// QEMU's, as `virConnectGetVersion` has it.
    pub qemu: u32,
    /// How many machines run.
    pub running: usize,
    /// How many machines it would know after a restart, running or not.
    pub defined: usize,
    /// Those that run, by UUID.
    pub machines: BTreeMap<String, Machine>,
    /// How many CPUs the node has.
    pub cpus: u16,
    /// The node's memory in bytes; 0: it is not known.
    pub memory: u64,
    /// The node's processor.
    pub processor: Option<String>,
    /// Its secrets, by UUID.
    pub secrets: BTreeMap<String, Found>,
}

/// A secret that libvirt has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Whether it is for [`USAGE`]. libvirt has no two secrets for one use.
    pub ours: bool,
    /// Whether it is in memory alone and can be read, as ours are made.
    pub open: bool,
    /// What its value is, against the desired one of this UUID.
    pub value: Value,
}

/// A secret's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// The desired one.
    Right,
    /// Another one.
    Wrong,
    /// It has none, or it is nobody's business.
    Unknown,
}

/// Whether guests run under KVM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kvm {
    /// One did.
    Works,
    /// There is no device. With what the processor has for it: `vmx`, `svm`.
    Missing(Option<String>),
    /// The device is there and a guest does not run. With what QEMU said.
    Fails(String),
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Host {
    /// A server of its own.
    Hardware,
    /// A machine on another hypervisor.
    Machine,
    /// A container.
    Container,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Remove a secret of ours.
    Undefine(String),
    /// Make the secret, without a value.
    Define(String),
    /// Give the secret its value.
    Fill(StorageSecret),
}

impl Subject for Libvirt {
    const NAME: &'static str = "libvirt";
    type Desired = Desired;
    type Observed = Observed;
    type Step = Step;

    fn plan(desired: &Desired, observed: &Observed) -> Plan<Step> {
        let mut plan = Plan::default();
        match &observed.daemon {
            Daemon::Away(reason) => {
                plan.problems.push(problem("libvirtd", reason.clone()));
            }
            Daemon::Answers(answer) => {
                remove(desired, answer, &mut plan);
                if let Some(wanted) = &desired.secret {
                    keep(wanted, answer.secrets.get(&wanted.uuid), &mut plan);
                }
            }
        }
        // A node that is a container or a machine is somebody's trial: its guests are emulated, and that is known.
        if observed.host == Host::Hardware {
            plan.problems.extend(observed.without_kvm().map(|reason| problem("KVM", reason)));
        }
        plan
    }

    fn details(desired: &Desired, observed: &Observed) -> Details {
        let hosting = match &observed.daemon {
            Daemon::Answers(answer) => answer.hosting(desired.reserve),
            Daemon::Away(_) => None,
        };
        let mut details = Details { hosting, ..Details::default() };
        let mut say = |name: &str, text: String| details.more.insert(name.into(), text);
        if let Daemon::Answers(answer) = &observed.daemon {
            say("libvirt", version(answer.libvirt));
            say("qemu", version(answer.qemu));
            let Answer { running, defined, .. } = answer;
            say("machines", format!("{running} running, {defined} defined"));
        }
        let without = observed.without_kvm();
        say("kvm", without.map_or_else(|| "works".into(), |why| format!("does not work: {why}")));
        details
    }
}

impl Answer {
    /// The machines, and what is left for others. What machines may take counts, not what they take now: that grows. `None`:
    /// nobody knows how large the node is.
    fn hosting(&self, reserve: Option<Reserve>) -> Option<Hosting> {
        let capacity = Capacity { cpus: (0..self.cpus).collect(), memory: self.memory };
        let limits = capacity.without(reserve.unwrap_or(Reserve::DEFAULT), &Limits::default());
        let machines = self.machines.clone();
        let taken = machines.values().fold(0, |sum: u64, it| sum.saturating_add(it.takes()));
        Some(Hosting {
            cpus: limits.allowed_cpus.as_ref().map_or(0, BTreeSet::len),
            room: limits.memory_max?.saturating_sub(taken),
            qemu: self.qemu,
            processor: self.processor.clone(),
            machines,
        })
    }
}

impl Observed {
    /// Why no guest runs under KVM; `None` if guests do.
    fn without_kvm(&self) -> Option<String> {
        let reason = match (&self.kvm, self.host) {
            (Kvm::Works, _) => return None,
            (Kvm::Fails(said), _) => return Some(format!("a guest does not run under it: {said}")),
            (Kvm::Missing(_), Host::Container) => "this node is a container and was not given it".into(),
            (Kvm::Missing(Some(flag)), _) => {
                let module = if flag == "svm" { "kvm_amd" } else { "kvm_intel" };
                format!(
                    "the processor has {flag}, and the module {module} made no use of it: the kernel's log says why; \
                     often it is locked in the firmware"
                )
            }
            (Kvm::Missing(None), Host::Machine) => {
                "this node is itself a machine, to which its hypervisor gives neither vmx nor svm".into()
            }
            (Kvm::Missing(None), Host::Hardware) => {
                "the processor shows neither vmx nor svm: virtualization is switched off in the firmware".into()
            }
        };
        Some(format!("there is no {KVM}: {reason}"))
    }
}

/// Removes what is ours and not, or not so, asked for.
fn remove(desired: &Desired, answer: &Answer, plan: &mut Plan<Step>) {
    let wanted = desired.secret.as_ref().map(|secret| &secret.uuid);
    let stale =
        |(uuid, found): &(&String, &Found)| found.ours && !(wanted == Some(*uuid) && found.open);
    let stale = answer.secrets.iter().filter(stale);
    plan.steps.extend(stale.map(|(uuid, _)| Step::Undefine(uuid.clone())));
}

/// Makes the wanted secret as it should be.
fn keep(wanted: &StorageSecret, found: Option<&Found>, plan: &mut Plan<Step>) {
    let define = match found {
        Some(found) if !found.ours => {
            let reason = "libvirt has another secret of this UUID; it is left alone, and machines cannot reach Ceph";
            return plan.problems.push(problem(&format!("secret {}", wanted.uuid), reason.into()));
        }
        Some(Found { open: true, value: Value::Right, .. }) => return,
        Some(Found { open: true, .. }) => None,
        Some(_) | None => Some(Step::Define(wanted.uuid.clone())),
    };
    plan.steps.extend(define.into_iter().chain([Step::Fill(wanted.clone())]));
}

/// A version as libvirt's calls have it (`1000000 * major + 1000 * minor + release`).
fn version(number: u32) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 1000 % 1000, number % 1000)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undefine(uuid) => write!(f, "remove libvirt's secret {uuid}"),
            Self::Define(uuid) => write!(f, "make libvirt's secret {uuid} for Ceph's {ENTITY}"),
            Self::Fill(secret) => write!(f, "give libvirt's secret {} its value", secret.uuid),
        }
    }
}
