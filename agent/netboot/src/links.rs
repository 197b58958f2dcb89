//! NICs: up while something is fetched, down again afterwards, so that the agent finds them as nobody had touched them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result};
use rtnetlink::{AddressMessageBuilder, Handle, LinkUnspec, RouteMessageBuilder};

use crate::say;

const LINKS: &str = "/sys/class/net";

/// A NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nic {
    /// Its name.
    pub(crate) name: String,
    /// Its number.
    pub(crate) index: u32,
    /// Its address.
    pub(crate) mac: String,
}

/// All Ethernet interfaces but the loopback: in an initrd there are no others than NICs.
pub(crate) fn nics() -> Vec<Nic> {
    let entries = fs::read_dir(LINKS).into_iter().flatten().filter_map(Result::ok);
    let mut nics: Vec<Nic> = entries.filter_map(|entry| nic(&entry.path())).collect();
    nics.sort_by_key(|nic| nic.index);
    nics
}

fn nic(path: &Path) -> Option<Nic> {
    let word = |name: &str| Some(fs::read_to_string(path.join(name)).ok()?.trim().to_owned());
    // ARPHRD_ETHER, linux/if_arp.h
    if word("type")? != "1" {
        return None;
    }
    let name = path.file_name()?.to_str()?.to_owned();
    Some(Nic { name, index: word("ifindex")?.parse().ok()?, mac: word("address")? })
}

impl Nic {
    /// Whether a cable is in it, and somebody at the other end.
    pub(crate) fn has_carrier(&self) -> bool {
        let carrier = Path::new(LINKS).join(&self.name).join("carrier");
        fs::read_to_string(carrier).is_ok_and(|carrier| carrier.trim() == "1")
    }
}

/// The kernel's links.
pub(crate) struct Links {
    handle: Handle,
    /// By number: udev may give one another name meanwhile.
    raised: RefCell<BTreeSet<u32>>,
}

impl Links {
    /// Brings all NICs up.
    pub(crate) async fn bring_up() -> Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection().context("no netlink")?;
        tokio::spawn(connection);
        let links = Self { handle, raised: RefCell::default() };
        links.bring_up_new().await;
        Ok(links)
    }

    /// Brings those up that have come since. Drivers take their time.
    pub(crate) async fn bring_up_new(&self) {
        for nic in nics() {
            if self.raised.borrow().contains(&nic.index) {
                continue;
            }
            let up = LinkUnspec::new_with_index(nic.index).up().build();
            match self.handle.link().set(up).execute().await {
                Ok(()) => {
                    self.raised.borrow_mut().insert(nic.index);
                }
                Err(error) => say(&format!("{} cannot be brought up: {error}", nic.name)),
            }
        }
    }

    /// Those that are up and have a carrier.
    pub(crate) fn connected(&self) -> Vec<Nic> {
        let raised = self.raised.borrow();
        nics().into_iter().filter(|nic| raised.contains(&nic.index) && nic.has_carrier()).collect()
    }

    /// Gives a NIC an address, and a way to everywhere if there is one.
    pub(crate) async fn address(
        &self,
        nic: &Nic,
        (address, prefix): (Ipv4Addr, u8),
        router: Option<Ipv4Addr>,
    ) -> Result<()> {
        let name = &nic.name;
        let adding = self.handle.address().add(nic.index, address.into(), prefix).replace();
        adding.execute().await.with_context(|| format!("{name} cannot have {address}"))?;
        if let Some(router) = router {
            let route = RouteMessageBuilder::<Ipv4Addr>::new();
            let route = route.gateway(router).output_interface(nic.index).build();
            let adding = self.handle.route().add(route).replace().execute().await;
            adding.with_context(|| format!("no route by {router} on {name}"))?;
        }
        Ok(())
    }

    /// Takes an address away again; that it is gone is fine.
    pub(crate) async fn forget(&self, nic: &Nic, (address, prefix): (Ipv4Addr, u8)) {
        let message =
            AddressMessageBuilder::<Ipv4Addr>::new().index(nic.index).address(address, prefix);
        let _gone = self.handle.address().del(message.build()).execute().await;
    }

    /// Takes all addresses away and the NICs down.
    pub(crate) async fn take_down(&self) -> Result<()> {
        use futures_util::TryStreamExt as _;
        let raised = self.raised.borrow().clone();
        for nic in nics().into_iter().filter(|nic| raised.contains(&nic.index)) {
            let mut all = self.handle.address().get().set_link_index_filter(nic.index).execute();
            while let Some(address) = all.try_next().await.context("cannot list addresses")? {
                let gone = self.handle.address().del(address).execute().await;
                gone.with_context(|| format!("cannot take an address from {}", nic.name))?;
            }
            let down = LinkUnspec::new_with_index(nic.index).down().build();
            let set = self.handle.link().set(down).execute().await;
            set.with_context(|| format!("cannot take {} down", nic.name))?;
        }
        Ok(())
    }
}
