//! dnsmasq's configuration: DHCP, as the only server or as a proxy beside another, and TFTP for the first stage.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::str::FromStr;

use trilith_core::netboot::{VENDOR_CLASS, path};

use super::lan::Lan;

/// What TFTP sends: iPXE that uses the firmware's own network driver.
pub(crate) const FIRST_STAGE: &str = "snponly.efi";

/// Who gives the addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dhcp {
    /// Another server; this one only adds what is to be started.
    Proxy,
    /// This one gives these.
    Own {
        /// The first.
        first: Ipv4Addr,
        /// The last.
        last: Ipv4Addr,
    },
}

impl FromStr for Dhcp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = "either `proxy` or two IPv4 addresses, such as 192.168.1.100-192.168.1.150";
        if text == "proxy" {
            return Ok(Self::Proxy);
        }
        let (first, last) = text.split_once('-').ok_or(rule)?;
        let parse = |text: &str| text.parse().map_err(|_| rule);
        let (first, last): (Ipv4Addr, Ipv4Addr) = (parse(first)?, parse(last)?);
        if first > last {
            return Err(format!("{first} comes after {last}"));
        }
        Ok(Self::Own { first, last })
    }
}

impl Dhcp {
    /// Whether it can be served there, else why not.
    pub(crate) fn fits(&self, lan: &Lan) -> Result<(), String> {
        let Self::Own { first, last } = self else { return Ok(()) };
        let net = lan.address;
        let strange = [first, last].into_iter().find(|address| {
            !net.contains(*address) || **address == net.network() || **address == net.broadcast()
        });
        if let Some(address) = strange {
            let Lan { interface, .. } = lan;
            return Err(format!(
                "--dhcp: {address} is no host's in {} on {interface}",
                net.trunc()
            ));
        }
        if (*first..=*last).contains(&net.addr()) {
            return Err(format!("--dhcp: {} is this host's own address", net.addr()));
        }
        Ok(())
    }
}

/// What the configuration follows from.
pub(crate) struct Plan<'a> {
    /// Where.
    pub(crate) lan: &'a Lan,
    /// How.
    pub(crate) dhcp: &'a Dhcp,
    /// The HTTP server, with a `/` at the end.
    pub(crate) url: &'a str,
    /// The folder with `tftp/` and the file of leases.
    pub(crate) folder: &'a Path,
    /// Whether there is a first stage for TFTP.
    pub(crate) ipxe: bool,
}

/// The configuration file.
pub(crate) fn config(plan: &Plan<'_>) -> String {
    let mut text = general(plan);
    let url = plan.url;
    // Writing to a `String` cannot fail.
    let _ = writeln!(
        text,
        "\n# Who asks: firmware for PXE or for HTTP boot, iPXE that was started before, a node in its initrd.\n\
         # Those without UEFI on x86-64 get nothing: there is nothing that they could start.\n\
         dhcp-vendorclass=set:node,{VENDOR_CLASS}\n\
         dhcp-match=set:ipxe,175\n\
         dhcp-match=set:efi,option:client-arch,7\n\
         dhcp-match=set:efi,option:client-arch,9\n\
         dhcp-vendorclass=set:http,HTTPClient:Arch:00016\n\
         dhcp-boot=tag:node,{url}\n\
         dhcp-boot=tag:http,{url}{}\n\
         dhcp-boot=tag:efi,tag:ipxe,{url}{}",
        path::UKI,
        path::SCRIPT,
    );
    if plan.ipxe {
        first_stage(plan, &mut text);
    }
    text
}

fn general(plan: &Plan<'_>) -> String {
    let Plan { lan, dhcp, folder, .. } = plan;
    let folder = folder.display();
    let net = lan.address;
    let mut text = format!(
        "# Made by `trilith netboot`. No DNS, this interface alone, the log on standard error.\n\
         port=0\n\
         keep-in-foreground\n\
         log-facility=-\n\
         log-dhcp\n\
         pid-file=\n\
         bind-dynamic\n\
         interface={}\n\
         except-interface=lo\n\n",
        lan.interface
    );
    let mask = net.netmask();
    let _ = match dhcp {
        Dhcp::Proxy => writeln!(
            text,
            "# Another server gives the addresses.\n\
             dhcp-range={},proxy,{mask}\n\
             dhcp-pxe-vendor=PXEClient,HTTPClient,{VENDOR_CLASS}",
            net.network()
        ),
        // The vendor class must come back: firmware takes no other offer for HTTP boot. No router is named, because
        // this host is none.
        Dhcp::Own { first, last } => writeln!(
            text,
            "# Short leases: they are for starting alone.\n\
             dhcp-range={first},{last},{mask},10m\n\
             dhcp-leasefile={folder}/leases\n\
             dhcp-option=option:router\n\
             dhcp-option-force=tag:http,option:vendor-class,HTTPClient\n\
             dhcp-option-force=tag:node,option:vendor-class,{VENDOR_CLASS}"
        ),
    };
    text
}

fn first_stage(plan: &Plan<'_>, text: &mut String) {
    let folder = plan.folder.display();
    let _ = writeln!(
        text,
        "\n# PXE: TFTP carries iPXE and nothing else, iPXE does the rest by HTTP.\n\
         enable-tftp\n\
         tftp-root={folder}/tftp\n\
         dhcp-boot=tag:efi,tag:!ipxe,tag:!http,tag:!node,{FIRST_STAGE}"
    );
    if *plan.dhcp == Dhcp::Proxy {
        // A proxy names the file in a second exchange, on port 4011; the architectures 7 and 9 as dnsmasq calls them.
        for service in ["X86-64_EFI", "BC_EFI"] {
            let _ =
                writeln!(text, "pxe-service=tag:efi,tag:!ipxe,{service},\"Trilith\",{FIRST_STAGE}");
        }
    }
}

#[cfg(test)]
mod tests;
