//! The network adapter: rtnetlink for links, addresses and routes, /proc/sys for kernel parameters, a packet
//! socket for ARP. Nothing else on the host is asked, and no program is started.

mod apply; // one step → one message to the kernel
mod arp; // who has an IPv4 address (RFC 5227)
mod bond; // a bond's parameters in the kernel's words
mod connection; // requests and answers
mod device; // what /sys tells of a NIC
mod events; // what changed
#[cfg(test)]
mod netns; // tests on the real kernel, each in its own network namespace
mod observe; // the kernel's messages → Observed
mod sysctl; // /proc/sys

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tracing::debug;
use trilith_core::names::IfName;
use trilith_core::network::{Desired, Network, Observed, Probe, Step, sysctl_paths};

use crate::reconcile::{Host, HostError};
use arp::ArpError;
use connection::Connection;
use events::Events;

/// How long the answer to an ARP probe counts: long enough for the plan that asked for it, short enough that
/// an address is soon tried again when its holder has gone.
const PROBE_LIFE: Duration = Duration::from_secs(10);

/// What went wrong with the kernel, and about what.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetlinkError {
    /// No netlink socket.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    /// The connection is gone; the next look opens another.
    #[error("the netlink connection was lost")]
    Lost,
    /// A dump was overtaken by changes again and again.
    #[error("{0} changed while they were being read, again and again")]
    Interrupted(&'static str),
    /// The kernel said no.
    #[error("the kernel refused{}", detail.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// The kernel's own words, if it has any for this.
        detail: Option<String>,
        /// The error number.
        #[source]
        source: io::Error,
    },
    /// A link is gone, or not there yet.
    #[error("there is no link {0}")]
    NoLink(IfName),
    /// A kernel parameter could not be written.
    #[error("cannot write /proc/sys/{path}")]
    Sysctl {
        /// The path below /proc/sys.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// ARP did not work.
    #[error("cannot ask by ARP")]
    Arp(#[source] ArpError),
}

/// The host's network. It connects at the first look, and again when a connection was lost.
#[derive(Debug, Default)]
pub(crate) struct Netlink {
    connection: Option<Connection>,
    events: Option<Events>,
    probes: Vec<(Probe, Instant)>,
}

impl Netlink {
    /// Touches nothing yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The connection for requests.
    fn connection(&mut self) -> Result<&Connection, NetlinkError> {
        if self.connection.as_ref().is_some_and(Connection::is_lost) {
            self.connection = None;
        }
        match &mut self.connection {
            Some(connection) => Ok(connection),
            none => Ok(none.insert(Connection::open().map_err(NetlinkError::Open)?)),
        }
    }

    /// Forgets what has changed so far: the look that follows sees it. Events come first, then the look, so
    /// that no change falls between.
    fn listen(&mut self, desired: &Desired) -> Result<(), NetlinkError> {
        let routes: BTreeSet<IpNet> =
            desired.routes.iter().map(|route| route.destination).collect();
        match &mut self.events {
            Some(events) => events.forget(routes),
            none => *none = Some(Events::open(routes).map_err(NetlinkError::Open)?),
        }
        Ok(())
    }

    async fn look(&mut self, desired: &Desired) -> Result<Observed, NetlinkError> {
        self.listen(desired)?;
        let mut observed = observe::observe(self.connection()?).await?;
        observed.sysctls = sysctl::read(sysctl_paths(desired, &observed));
        self.probes.retain(|(_, at)| at.elapsed() < PROBE_LIFE);
        observed.probes = self.probes.iter().map(|(probe, _)| probe.clone()).collect();
        Ok(observed)
    }

    fn remember(&mut self, probes: Vec<Probe>) {
        self.probes.retain(|(old, _)| {
            !probes.iter().any(|new| new.link == old.link && new.address == old.address)
        });
        let now = Instant::now();
        self.probes.extend(probes.into_iter().map(|probe| (probe, now)));
    }

    async fn carry_out(&mut self, step: &Step) -> Result<(), NetlinkError> {
        match step {
            Step::SetSysctl { path, value } => sysctl::write(path, value),
            Step::Probe(targets) => {
                let (probes, failed) = arp::probe(targets).await.map_err(NetlinkError::Arp)?;
                self.remember(probes);
                failed.map_or(Ok(()), |error| Err(NetlinkError::Arp(error)))
            }
            Step::AddAddress { link, address } => {
                apply::apply(self.connection()?, step).await?;
                if let IpNet::V4(address) = address {
                    // The answer is used up: who needs the address again asks again.
                    let ip = address.addr();
                    self.probes.retain(|(old, _)| old.link != *link || old.address != ip);
                    announce(link, ip);
                }
                Ok(())
            }
            _ => apply::apply(self.connection()?, step).await,
        }
    }
}

/// Tells the neighbours who has the address now. That nobody hears it is no failure of adding it: whoever
/// needs the address asks for it.
fn announce(link: &IfName, address: std::net::Ipv4Addr) {
    if let Err(error) = arp::announce(link, address) {
        debug!(%link, %address, %error, "cannot announce");
    }
}

impl Host<Network> for Netlink {
    async fn observe(&mut self, desired: &Desired) -> Result<Observed, HostError> {
        Ok(self.look(desired).await?)
    }

    async fn apply(&mut self, step: &Step) -> Result<(), HostError> {
        Ok(self.carry_out(step).await?)
    }

    async fn changed(&mut self) {
        // Before the first look nothing is listened to, and nothing needs to be.
        let Some(events) = &mut self.events else { return std::future::pending().await };
        if events.changed().await.is_err() {
            self.events = None;
        }
    }
}
