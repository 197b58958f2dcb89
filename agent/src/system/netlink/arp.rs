//! Who has an IPv4 address: ARP probes and announcements (RFC 5227), through one packet socket.
//!
//! The socket hears ARP of every link; which link a packet came by stands in its address. The waits are
//! shorter than the RFC's (up to 7 s in all, made for 10 Mbit/s and sleeping switches): a node that boots
//! should not stand still for seconds, and a holder that answers does so within milliseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, MsgFlags, recvfrom, sendto};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};
use trilith_core::names::{IfName, MacAddr};
use trilith_core::network::Probe;

use super::events::watch;

/// Probes per address (`PROBE_NUM`).
const ROUNDS: u32 = 3;
/// How long each round waits for an answer, in place of `PROBE_MIN` … `PROBE_MAX` and `ANNOUNCE_WAIT`.
const WAIT: Duration = Duration::from_millis(100);
/// `ETH_P_ARP` in `linux/if_ether.h`.
const ETHERTYPE_ARP: u16 = 0x0806;
/// An Ethernet header and an ARP packet for IPv4 over Ethernet (RFC 826).
const FRAME: usize = 42;

/// What went wrong with ARP.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArpError {
    /// No packet socket, or no list of links.
    #[error("cannot open a packet socket")]
    Open(#[source] io::Error),
    /// A link is gone, or no Ethernet.
    #[error("{0} has no hardware address")]
    NoAddress(IfName),
    /// A frame could not be sent.
    #[error("cannot send on {link}")]
    Send {
        /// By this link.
        link: IfName,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing could be received.
    #[error("cannot receive")]
    Receive(#[source] io::Error),
}

/// Asks on all links at once who has the addresses. A link that cannot send gives an error and no answer, and
/// does not keep the others from theirs.
pub(super) async fn probe(
    targets: &[(IfName, Ipv4Addr)],
) -> Result<(Vec<Probe>, Option<ArpError>), ArpError> {
    let ports = Ports::look()?;
    let socket = watch(open().map_err(ArpError::Open)?).map_err(ArpError::Open)?;
    let mut asked = targets.to_vec();
    let mut holders = BTreeMap::new();
    let mut failed = None;
    for _ in 0..ROUNDS {
        asked.retain(|(link, address)| {
            let sent = ports.send(socket.get_ref(), link, *address, Ask::Probe);
            sent.map_err(|error| failed = Some(error)).is_ok()
        });
        let until = Instant::now() + WAIT;
        listen(&socket, &ports, &asked, &mut holders, until).await?;
        if holders.len() == asked.len() {
            break;
        }
    }
    let answer = |target: &(IfName, Ipv4Addr)| Probe {
        link: target.0.clone(),
        address: target.1,
        holder: holders.get(target).copied(),
    };
    Ok((asked.iter().map(answer).collect(), failed))
}

/// Tells everybody on the link who has the address now.
pub(super) fn announce(link: &IfName, address: Ipv4Addr) -> Result<(), ArpError> {
    let socket = open().map_err(ArpError::Open)?;
    Ports::look()?.send(&socket, link, address, Ask::Announce)
}

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// Who has this? Without a sender's address, so that nobody's cache takes it for a fact.
    Probe,
    /// I have this.
    Announce,
}

/// Links that can send ARP, by name.
struct Ports {
    by_name: BTreeMap<String, LinkAddr>,
}

impl Ports {
    fn look() -> Result<Self, ArpError> {
        let all = getifaddrs().map_err(|errno| ArpError::Open(errno.into()))?;
        let hardware = |storage: nix::sys::socket::SockaddrStorage| storage.as_link_addr().copied();
        let by_name = all.filter_map(|one| Some((one.interface_name, hardware(one.address?)?)));
        Ok(Self { by_name: by_name.collect() })
    }

    fn send(
        &self,
        socket: &Socket,
        link: &IfName,
        address: Ipv4Addr,
        ask: Ask,
    ) -> Result<(), ArpError> {
        let port = self.by_name.get(link.as_str()).filter(|port| port.halen() == 6);
        let (port, mac) = port
            .and_then(|port| Some((port, port.addr()?)))
            .ok_or_else(|| ArpError::NoAddress(link.clone()))?;
        let frame = frame(mac, address, ask);
        // The kernel takes link and protocol from this address; its hardware address plays no part in a raw
        // frame.
        sendto(socket.as_raw_fd(), &frame, port, MsgFlags::empty())
            .map(|_| ())
            .map_err(|errno| ArpError::Send { link: link.clone(), source: errno.into() })
    }

    /// The target that a frame contests, and by whom.
    fn contest<'t>(
        &self,
        frame: &[u8],
        from: &LinkAddr,
        targets: &'t [(IfName, Ipv4Addr)],
    ) -> Option<(&'t (IfName, Ipv4Addr), MacAddr)> {
        let claim = Claim::read(frame)?;
        // What this host sent comes back by bridges, bonds and switches.
        let own: BTreeSet<_> = self.by_name.values().filter_map(LinkAddr::addr).collect();
        if own.contains(&claim.mac.0) {
            return None;
        }
        let target = targets.iter().find(|(link, address)| {
            let port = self.by_name.get(link.as_str());
            port.is_some_and(|port| port.ifindex() == from.ifindex()) && claim.contests(*address)
        })?;
        Some((target, claim.mac))
    }
}

fn open() -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from(ETHERTYPE_ARP.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Gathers who contests the targets until the moment comes.
async fn listen(
    socket: &AsyncFd<Socket>,
    ports: &Ports,
    targets: &[(IfName, Ipv4Addr)],
    holders: &mut BTreeMap<(IfName, Ipv4Addr), MacAddr>,
    until: Instant,
) -> Result<(), ArpError> {
    let mut buffer = [0; 128];
    while let Ok(ready) = timeout_at(until, socket.readable()).await {
        let mut ready = ready.map_err(ArpError::Receive)?;
        let read = ready.try_io(|socket| {
            recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer).map_err(io::Error::from)
        });
        let (length, from) = match read {
            Ok(Ok((length, Some(from)))) => (length, from),
            Ok(Ok((_, None))) | Err(_) => continue,
            // A link went down while it was listened to: the others go on.
            Ok(Err(error)) if error.raw_os_error() == Some(nix::errno::Errno::ENETDOWN as i32) => {
                continue;
            }
            Ok(Err(error)) => return Err(ArpError::Receive(error)),
        };
        let frame = buffer.get(..length).unwrap_or_default();
        if let Some((target, mac)) = ports.contest(frame, &from, targets) {
            holders.insert(target.clone(), mac);
        }
        if holders.len() == targets.len() {
            break;
        }
    }
    Ok(())
}

/// An ARP request for IPv4 over Ethernet with its Ethernet header, to everybody.
fn frame(mac: [u8; 6], address: Ipv4Addr, ask: Ask) -> [u8; FRAME] {
    let sender = if ask == Ask::Announce { address } else { Ipv4Addr::UNSPECIFIED };
    let mut frame = [0; FRAME];
    let parts: [&[u8]; 8] = [
        &[0xff; 6],
        &mac,
        &ETHERTYPE_ARP.to_be_bytes(),
        // Ethernet, IPv4, their lengths, a request.
        &[0, 1, 8, 0, 6, 4, 0, 1],
        &mac,
        &sender.octets(),
        &[0; 6],
        &address.octets(),
    ];
    for (byte, value) in frame.iter_mut().zip(parts.concat()) {
        *byte = value;
    }
    frame
}

/// What an ARP packet says about its sender.
struct Claim {
    mac: MacAddr,
    sender: Ipv4Addr,
    target: Ipv4Addr,
}

impl Claim {
    /// `None` if it is not ARP for IPv4 over Ethernet.
    fn read(frame: &[u8]) -> Option<Self> {
        let arp = frame.get(14..FRAME)?;
        if arp.get(..6)? != [0, 1, 8, 0, 6, 4] {
            return None;
        }
        let ip = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(arp.get(at..at + 4)?).ok()?));
        let mac = MacAddr(arp.get(8..14)?.try_into().ok()?);
        Some(Self { mac, sender: ip(14)?, target: ip(24)? })
    }

    /// Somebody has the address, or is asking for it at this moment to take it (RFC 5227, 2.1.1).
    fn contests(&self, address: Ipv4Addr) -> bool {
        self.sender == address || (self.sender.is_unspecified() && self.target == address)
    }
}

#[cfg(test)]
mod tests {
    use super::{Ask, Claim, frame};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    #[test]
    fn a_probe_names_no_sender_and_an_announcement_does() {
        let address = "10.0.0.3".parse().unwrap();
        let probe = Claim::read(&frame(MAC, address, Ask::Probe)).unwrap();
        assert!(probe.sender.is_unspecified() && probe.target == address && probe.mac.0 == MAC);
        assert!(probe.contests(address) && !probe.contests("10.0.0.4".parse().unwrap()));
        let announcement = Claim::read(&frame(MAC, address, Ask::Announce)).unwrap();
        assert!(announcement.sender == address && announcement.target == address);
    }

    #[test]
    fn what_is_no_arp_says_nothing() {
        let mut other = frame(MAC, "10.0.0.3".parse().unwrap(), Ask::Probe);
        other[16] = 9;
        assert!(Claim::read(&other).is_none());
        assert!(Claim::read(&other[..20]).is_none());
    }
}
