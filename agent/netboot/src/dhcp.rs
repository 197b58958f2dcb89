//! DHCP messages (RFC 2131), as far as a client needs them that only wants to start.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, anyhow};
use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};
use trilith_core::netboot::{ARCHITECTURE, VENDOR_CLASS};

/// Options by number (RFC 2132, RFC 4578).
const VENDOR: u8 = 60;
const BOOT_FILE: u8 = 67;
const CLIENT_ARCHITECTURE: u8 = 93;

/// Subnet mask, router, lease time, server, T1, T2, vendor class, boot file.
const WANTED: [u8; 8] = [1, 3, 51, 54, 58, 59, VENDOR, BOOT_FILE];

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    /// The NIC's address.
    pub(crate) mac: [u8; 6],
    /// The number of the conversation.
    pub(crate) number: u32,
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Whether it is an acknowledgement; else an offer.
    pub(crate) final_word: bool,
    /// The address with its prefix length; a proxy gives none.
    pub(crate) address: Option<(Ipv4Addr, u8)>,
    /// The way to everywhere.
    pub(crate) router: Option<Ipv4Addr>,
    /// Who says it.
    pub(crate) server: Option<Ipv4Addr>,
    /// The URL of a netboot server.
    pub(crate) url: Option<String>,
}

impl Client {
    /// Who gives an address, and who knows a netboot server?
    pub(crate) fn discover(self) -> Result<Vec<u8>> {
        self.message(DhcpMessageType::Discover, None)
    }

    /// Takes what a server offered.
    pub(crate) fn request(self, address: Ipv4Addr, server: Ipv4Addr) -> Result<Vec<u8>> {
        self.message(DhcpMessageType::Request, Some((address, server)))
    }

    fn message(self, kind: DhcpMessageType, wish: Option<(Ipv4Addr, Ipv4Addr)>) -> Result<Vec<u8>> {
        let none = Ipv4Addr::UNSPECIFIED;
        let architecture = ARCHITECTURE.to_be_bytes();
        let mac = EthernetAddress(self.mac);
        let message = DhcpRepr {
            message_type: kind,
            transaction_id: self.number,
            secs: 0,
            client_hardware_address: mac,
            client_ip: none,
            your_ip: none,
            server_ip: none,
            router: None,
            subnet_mask: None,
            relay_agent_ip: none,
            // Without an address nothing else arrives.
            broadcast: true,
            requested_ip: wish.map(|(address, _)| address),
            client_identifier: Some(mac),
            server_identifier: wish.map(|(_, server)| server),
            parameter_request_list: Some(&WANTED),
            dns_servers: None,
            max_size: Some(1400),
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[
                DhcpOption { kind: VENDOR, data: VENDOR_CLASS.as_bytes() },
                DhcpOption { kind: CLIENT_ARCHITECTURE, data: &architecture },
            ],
        };
        let mut bytes = vec![0; message.buffer_len()];
        let mut packet = DhcpPacket::new_unchecked(bytes.as_mut_slice());
        message.emit(&mut packet).map_err(|_| anyhow!("a DHCP message cannot be written"))?;
        Ok(bytes)
    }

    /// Reads an answer. `None` if it is none to this client, or a no.
    pub(crate) fn read(self, bytes: &[u8]) -> Option<Answer> {
        let packet = DhcpPacket::new_checked(bytes).ok()?;
        let message = DhcpRepr::parse(&packet).ok()?;
        let mine = message.transaction_id == self.number
            && message.client_hardware_address == EthernetAddress(self.mac);
        let final_word = match message.message_type {
            DhcpMessageType::Offer => false,
            DhcpMessageType::Ack => true,
            _ => return None,
        };
        let prefix = |mask: Ipv4Addr| u8::try_from(u32::from(mask).leading_ones()).ok();
        let prefix = message.subnet_mask.and_then(prefix);
        let given = Some(message.your_ip).filter(|address| !address.is_unspecified());
        mine.then(|| Answer {
            final_word,
            address: given.and_then(|address| Some((address, prefix?))),
            router: message.router,
            server: message.server_identifier,
            url: url(&packet),
        })
    }
}

/// The boot file of a server that answers our vendor class: as an option, else in the header's own field. Other servers
/// name files of others.
fn url(packet: &DhcpPacket<&[u8]>) -> Option<String> {
    let option = |kind: u8| packet.options().find(|option| option.kind == kind);
    let text = match option(BOOT_FILE) {
        Some(option) => std::str::from_utf8(option.data).ok()?,
        None => packet.get_boot_file().ok()?,
    };
    let text = text.trim_end_matches('\0');
    text.starts_with("http://").then(|| text.to_owned())
}

/// The bytes of a MAC address.
pub(crate) fn mac(text: &str) -> Result<[u8; 6]> {
    let mac = trilith_core::names::MacAddr::try_from(text.to_owned());
    Ok(mac.context("an odd hardware address")?.0)
}

#[cfg(test)]
mod tests;
