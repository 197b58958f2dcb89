//! What changed, told by the kernel's multicast groups.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;

use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_REPLACE, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::route::{RouteHeader, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::io::unix::AsyncFd;
use trilith_core::network::ROUTE_PROTOCOL;

use super::observe;

/// Links, addresses, routes, and the parameters of which the kernel tells (forwarding, `rp_filter`).
const GROUPS: [rtnetlink::MulticastGroup; 7] = [
    rtnetlink::MulticastGroup::Link,
    rtnetlink::MulticastGroup::Ipv4Ifaddr,
    rtnetlink::MulticastGroup::Ipv4Route,
    rtnetlink::MulticastGroup::Ipv4Netconf,
    rtnetlink::MulticastGroup::Ipv6Ifaddr,
    rtnetlink::MulticastGroup::Ipv6Route,
    rtnetlink::MulticastGroup::Ipv6Netconf,
];

/// The largest message that the kernel builds for a multicast group (`NLMSG_GOODSIZE` is a page; links with
/// many virtual functions take more).
const LARGEST: usize = 64 * 1024;

/// Lets tokio wait for a socket.
#[expect(
    deprecated,
    reason = "the new constructor is unsafe, for types whose descriptor may change or be closed by others: ours own theirs"
)]
pub(super) fn watch<S: AsRawFd>(socket: S) -> io::Result<AsyncFd<S>> {
    AsyncFd::new(socket)
}

/// A socket that hears of changes.
#[derive(Debug)]
pub(super) struct Events {
    socket: AsyncFd<Socket>,
    buffer: Vec<u8>,
    /// Destinations whose routes matter, whoever changes them.
    routes: BTreeSet<IpNet>,
}

impl Events {
    /// From now on nothing is missed.
    pub(super) fn open(routes: BTreeSet<IpNet>) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        let groups = GROUPS.iter().fold(0, |mask, group| mask | 1 << (*group as u32 - 1));
        socket.bind(&SocketAddr::new(0, groups))?;
        Ok(Self { socket: watch(socket)?, buffer: Vec::with_capacity(LARGEST), routes })
    }

    /// Throws away what has been told so far.
    pub(super) fn forget(&mut self, routes: BTreeSet<IpNet>) {
        self.routes = routes;
        // A read error other than "nothing there" is left to `changed`, which gives the socket up.
        while matches!(self.read(), Ok(Some(_))) {}
    }

    /// Resolves when something that matters has changed. What else is queued by then is thrown away too: one
    /// look sees it all. Cancel-safe: nothing is read before the socket is readable, and what was read is
    /// judged without waiting.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            ready.clear_ready();
            drop(ready);
            let mut matters = false;
            while let Some(change) = self.read()? {
                matters |= change;
            }
            if matters {
                return Ok(());
            }
        }
    }

    /// Reads one datagram: whether it matters, `None` if there is none.
    fn read(&mut self) -> io::Result<Option<bool>> {
        self.buffer.clear();
        match self.socket.get_ref().recv(&mut self.buffer, 0) {
            Ok(_) => Ok(Some(self.matters())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(false)),
            // The kernel had more to tell than the socket holds: anything may have changed.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32) => {
                Ok(Some(true))
            }
            Err(error) => Err(error),
        }
    }

    fn matters(&self) -> bool {
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&self.buffer) else {
            // Of parameters, or something that the crate cannot read: a look will tell.
            return true;
        };
        let replaces = message.header.flags & NLM_F_REPLACE != 0;
        match message.payload {
            // A bridge tells of the state of each port by this family; the link itself has its own message.
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link),
            ) => link.header.interface_family != AddressFamily::Bridge,
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
            ) => self.route_matters(&route, replaces),
            _ => true,
        }
    }

    /// A routing daemon may change thousands of routes: only the agent's own matter, those to the same
    /// destination, and those that took the place of one (IPv4 tells nothing else of the one that went).
    fn route_matters(&self, route: &RouteMessage, replaces: bool) -> bool {
        let main = route.header.table == RouteHeader::RT_TABLE_MAIN;
        let own = u8::from(route.header.protocol) == ROUTE_PROTOCOL;
        let wanted = observe::destination(route).is_some_and(|net| self.routes.contains(&net));
        main && (own || wanted || replaces)
    }
}
