//! The libvirt adapter: the daemon on this node over its own socket, and KVM.
//!
//! The C library blocks, so that one thread makes its calls and another one turns its events; see [`worker`]. What it
//! costs: 11 MiB of the agent's resident memory, of which 9.3 MiB are clean pages of the 62 libraries that it needs
//! (measured with libvirt 11.3).

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use trilith_core::libvirt::{
    Answer, Daemon, Desired, Found, KVM, Libvirt, Observed, Step, StorageSecret, USAGE, Value,
};
use trilith_libvirt::value_of;
use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};
use virt::secret::Secret;
use virt::sys;
use zeroize::Zeroizing;

use super::files::{FileError, Watched};
use crate::reconcile::{Host, HostError, chain};

mod kvm; // whether guests run under it
mod machines; // those that run, and what keeps them here
#[cfg(test)]
mod tests;
mod worker; // the threads

use kvm::Prober;
use worker::{CallError, Worker};

/// The daemon's socket. It is systemd's, and there once the daemon's unit was started.
const SOCKET: &str = "/run/libvirt/libvirt-sock";

/// The node's libvirt and KVM.
pub(crate) struct Hypervisor {
    worker: Worker,
    prober: Prober,
    /// The node's processor, once it is known: it stays the same, and its description is the longest of all.
    processor: Option<String>,
    /// Tells when the socket or KVM's device appears or goes.
    files: Watched,
    /// How often the daemon was asked for something.
    requests: u64,
}

/// The questions of one look: two versions, the node, two lists of machines, two of secrets, the one that is ours and its
/// value.
const QUESTIONS: u64 = 9;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LibvirtError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Hypervisor {
    /// Connects at the first look.
    pub(crate) fn new() -> Self {
        // By the socket of the one daemon: libvirt would else look for the many small ones first.
        Self::at(format!("qemu+unix:///system?socket={SOCKET}"))
    }

    fn at(uri: String) -> Self {
        Self {
            worker: Worker::new(uri),
            prober: Prober::default(),
            processor: None,
            files: Watched::default(),
            requests: 0,
        }
    }

    async fn daemon(&mut self, wanted: Option<StorageSecret>) -> Result<Daemon, CallError> {
        if !Path::new(SOCKET).exists() {
            return Ok(Daemon::Away(format!("there is no {SOCKET}: it was not started yet")));
        }
        self.requests = self.requests.saturating_add(QUESTIONS);
        let known = self.processor.clone();
        match self.worker.call(move |connect| look(connect, wanted.as_ref(), known)).await {
            Ok(answer) => {
                self.processor.clone_from(&answer.processor);
                let machines = u64::try_from(answer.machines.len()).unwrap_or_default();
                self.requests = self.requests.saturating_add(machines);
                Ok(Daemon::Answers(answer))
            }
            Err(error @ (CallError::Late(_) | CallError::Refused(_))) => {
                Ok(Daemon::Away(chain(&error).to_string()))
            }
            Err(error) => Err(error),
        }
    }

    async fn look(&mut self, desired: &Desired) -> Result<Observed, LibvirtError> {
        self.files.on([SOCKET.into(), KVM.into()])?;
        let mut prober = std::mem::take(&mut self.prober);
        let (daemon, kvm) = tokio::join!(self.daemon(desired.secret.clone()), prober.look());
        self.prober = prober;
        Ok(Observed { daemon: daemon?, kvm, host: kvm::host() })
    }
}

/// Everything that the daemon has to say.
fn look(
    connect: &Connect,
    wanted: Option<&StorageSecret>,
    processor: Option<String>,
) -> Result<Answer, Error> {
    let machines = machines::look(connect)?;
    let node = connect.get_node_info()?;
    let mut answer = Answer {
        libvirt: connect.get_lib_version()?,
        qemu: connect.get_hyp_version()?,
        running: machines.len(),
        defined: connect.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_PERSISTENT)?.len(),
        machines,
        cpus: u16::try_from(node.cpus).unwrap_or(u16::MAX),
        memory: node.memory.saturating_mul(1024),
        processor: processor.or_else(|| machines::processor(connect)),
        ..Answer::default()
    };
    let open = sys::VIR_CONNECT_LIST_SECRETS_EPHEMERAL | sys::VIR_CONNECT_LIST_SECRETS_NO_PRIVATE;
    let open = connect.list_all_secrets(open)?;
    let open = open.iter().map(Secret::get_uuid_string).collect::<Result<Vec<_>, _>>()?;
    let own = own(connect)?;
    for secret in connect.list_all_secrets(0)? {
        let uuid = secret.get_uuid_string()?;
        let (ours, open) = (own.as_ref() == Some(&uuid), open.contains(&uuid));
        let value = match wanted.filter(|wanted| wanted.uuid == uuid) {
            Some(wanted) if open && ours => compare(&secret, wanted)?,
            _ => Value::Unknown,
        };
        answer.secrets.insert(uuid, Found { ours, open, value });
    }
    Ok(answer)
}

/// The UUID of the secret that is ours. Asked for by its use: what a secret is for cannot be read by `virt` 0.4.3,
/// whose `get_usage_id` frees a text that is libvirt's.
fn own(connect: &Connect) -> Result<Option<String>, Error> {
    let kind = sys::VIR_SECRET_USAGE_TYPE_CEPH.cast_signed();
    match Secret::lookup_by_usage(connect, kind, USAGE) {
        Ok(secret) => secret.get_uuid_string().map(Some),
        Err(error) if error.code() == ErrorNumber::NoSecret => Ok(None),
        Err(error) => Err(error),
    }
}

fn compare(secret: &Secret, wanted: &StorageSecret) -> Result<Value, Error> {
    match value_of(secret) {
        Ok(value) if decoded(wanted).as_ref() == Some(&value) => Ok(Value::Right),
        Ok(_) => Ok(Value::Wrong),
        Err(error) if error.code() == ErrorNumber::NoSecret => Ok(Value::Unknown),
        Err(error) => Err(error),
    }
}

/// The key's bytes, which are the secret's value. A bundle whose keys are no base64 is refused before.
fn decoded(secret: &StorageSecret) -> Option<Zeroizing<Vec<u8>>> {
    BASE64_STANDARD.decode(secret.key.reveal()).ok().map(Zeroizing::new)
}

fn carry_out(connect: &Connect, step: &Step) -> Result<(), Error> {
    match step {
        Step::Undefine(uuid) => Secret::lookup_by_uuid_string(connect, uuid)?.undefine(),
        Step::Define(uuid) => {
            let xml = format!(
                "<secret ephemeral='yes' private='no'><uuid>{uuid}</uuid>\
                 <description>Ceph's key for machines; trilithd keeps it</description>\
                 <usage type='ceph'><name>{USAGE}</name></usage></secret>"
            );
            Secret::define_xml(connect, &xml, 0).map(drop)
        }
        Step::Fill(wanted) => {
            let value = decoded(wanted).unwrap_or_default();
            Secret::lookup_by_uuid_string(connect, &wanted.uuid)?.set_value(&value, 0)
        }
    }
}

impl Host<Libvirt> for Hypervisor {
    async fn observe(&mut self, desired: &Desired) -> Result<Observed, HostError> {
        Ok(self.look(desired).await?)
    }

    async fn apply(&mut self, step: &Step) -> Result<(), HostError> {
        let step = step.clone();
        self.requests = self.requests.saturating_add(1);
        Ok(self.worker.call(move |connect| carry_out(connect, &step)).await?)
    }

    fn requests(&self) -> u64 {
        self.requests
    }

    async fn changed(&mut self) {
        let news = Arc::clone(self.worker.news());
        // Cancel safety: a `Notify` that is dropped while it waits keeps its permit, and `Watched::changed` says of
        // itself that it is.
        tokio::select! {
            () = news.notified() => {}
            () = self.files.changed() => {}
        }
    }
}
