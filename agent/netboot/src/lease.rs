//! An address, and the servers' URLs.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::dhcp::{self, Answer, Client};
use crate::http::Source;
use crate::links::{Links, Nic};
use crate::pauses::Pauses;
use crate::say;

/// How long answers are waited for. A proxy's come a little later than others; servers may look first whether an
/// address is in use (RFC 2131, 2.2), which dnsmasq does for three seconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long others may still answer once there are an address and a server.
const OTHERS: Duration = Duration::from_millis(500);

/// What a NIC got.
struct Lease {
    address: (Ipv4Addr, u8),
    router: Option<Ipv4Addr>,
    urls: Vec<String>,
}

/// Gets an address on the first NIC on which somebody names a netboot server, or on which there is an address if the
/// command line names one. Tries for ever: without it there is nothing to start.
pub(crate) async fn sources(links: &Links, named: &[&str]) -> Result<Vec<Source>> {
    let (mut pauses, mut lonely) = (Pauses::new(), false);
    loop {
        links.bring_up_new().await;
        for nic in links.connected() {
            match on(links, &nic, named).await {
                Ok(found) if !found.is_empty() => return Ok(found),
                Ok(_) => say(&format!("{}: nobody names a netboot server", nic.name)),
                Err(error) => say(&format!("{}: {error:#}", nic.name)),
            }
        }
        if links.connected().is_empty() {
            if !std::mem::replace(&mut lonely, true) {
                say("no NIC has a cable in it, or none is known to the kernel; waiting for one");
            }
            // Drivers are still at work, and to look costs nothing.
            pauses.progress();
        }
        pauses.wait().await;
    }
}

/// The servers that are known on one NIC, which then has its address.
async fn on(links: &Links, nic: &Nic, named: &[&str]) -> Result<Vec<Source>> {
    match lease(nic, named).await? {
        Some(lease) => take(links, nic, lease).await,
        None => Ok(Vec::new()),
    }
}

async fn take(links: &Links, nic: &Nic, lease: Lease) -> Result<Vec<Source>> {
    let Lease { address, router, urls } = lease;
    links.address(nic, address, router).await?;
    let sources: Vec<Source> = urls.iter().filter_map(|url| Source::new(url)).collect();
    let (ip, prefix) = address;
    say(&format!("{} ({}) has {ip}/{prefix}, servers: {}", nic.name, nic.mac, urls.join(" ")));
    if sources.is_empty() {
        say("none of these is a URL with an address in it, such as http://10.0.0.1:29812/");
        links.forget(nic, address).await;
    }
    Ok(sources)
}

/// One conversation on one NIC.
async fn lease(nic: &Nic, named: &[&str]) -> Result<Option<Lease>> {
    let socket = socket(nic).context("no socket for DHCP")?;
    let client = Client { mac: dhcp::mac(&nic.mac)?, number: number(nic) };
    socket.send_to(&client.discover()?, (Ipv4Addr::BROADCAST, 67)).await?;
    let offers = answers(&socket, client, |offers| {
        let any = |what: fn(&Answer) -> bool| offers.iter().any(what);
        let complete =
            any(|it| it.address.is_some()) && (!named.is_empty() || any(|it| it.url.is_some()));
        complete.then_some(OTHERS)
    })
    .await?;
    let mut urls: Vec<String> = named.iter().map(|&url| url.to_owned()).collect();
    for url in offers.iter().filter_map(|offer| offer.url.clone()) {
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    // One who gives an address and names a server comes first.
    let giving = |offer: &&Answer| offer.address.is_some() && offer.server.is_some();
    let best = offers.iter().filter(giving).max_by_key(|offer| offer.url.is_some());
    let Some((best, false)) = best.map(|best| (best, urls.is_empty())) else { return Ok(None) };
    let (Some((address, _)), Some(server)) = (best.address, best.server) else { return Ok(None) };
    socket.send_to(&client.request(address, server)?, (Ipv4Addr::BROADCAST, 67)).await?;
    let last = answers(&socket, client, |answers| {
        answers.last().is_some_and(|last| last.final_word).then_some(Duration::ZERO)
    })
    .await?;
    let last = last.into_iter().find(|answer| answer.final_word && answer.address.is_some());
    let last = last.with_context(|| format!("{server} offered {address} and did not give it"))?;
    let address = last.address.context("no address")?;
    Ok(Some(Lease { address, router: last.router, urls }))
}

/// Everything that is answered for some time. `enough` says how much longer others are waited for, once there is enough.
async fn answers(
    socket: &UdpSocket,
    client: Client,
    enough: impl Fn(&[Answer]) -> Option<Duration>,
) -> Result<Vec<Answer>> {
    let mut until = Instant::now() + PATIENCE;
    let (mut all, mut bytes) = (Vec::new(), [0; 2048]);
    while let Ok(received) = timeout_at(until, socket.recv(&mut bytes)).await {
        let Some(answer) = client.read(&bytes[..received?]) else { continue };
        all.push(answer);
        if let Some(longer) = enough(&all) {
            until = until.min(Instant::now() + longer);
        }
    }
    Ok(all)
}

/// A socket that sends and hears broadcasts on a NIC that has no address.
fn socket(nic: &Nic) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(nic.name.as_bytes()))?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::UNSPECIFIED, 68)).into())?;
    Ok(UdpSocket::from_std(socket.into())?)
}

/// A number that no other machine in the network uses at the same time: the kernel's randomness, by a UUID.
fn number(nic: &Nic) -> u32 {
    let [a, b, c, d, ..] = *uuid::Uuid::new_v4().as_bytes();
    u32::from_be_bytes([a, b, c, d]) ^ nic.index
}
