//! A cluster file under test with throw-away secrets, and the cables that its nodes need.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use age::secrecy::ExposeSecret as _;
use anyhow::{Context, Result, anyhow};
use ipnet::IpNet;
use serde_yaml::{Mapping, Value};
use tempfile::TempDir;
use trilith_core::config::{Config, LinkKind, NicChoice, Node, NodeNetwork};
use trilith_core::names::{IfName, NodeId};
use trilith_core::secrets::Secret;
use trilith_core::secrets::needs::all_named;

use crate::artifact;
use crate::command::run;
use crate::machine::{Nic, Place};
use crate::network::{Network, Switch};

/// A cluster file with a throw-away SSH key in it, and throw-away secrets beside it.
#[derive(Debug)]
pub struct Cluster {
    config: Config,
    folder: PathBuf,
    /// Removes the folder at the end, unless it is somebody else's.
    _temporary: Option<TempDir>,
}

impl Cluster {
    /// Takes a cluster file from the repository, gives it a new SSH key and makes its secrets.
    pub fn sample(path: &Path) -> Result<Self> {
        let folder = TempDir::new().context("cannot make a folder")?;
        let cluster = Self::create(path, folder.path())?;
        Ok(Self { _temporary: Some(folder), ..cluster })
    }

    /// The same in a folder that stays, for [`Cluster::open`].
    pub fn create(path: &Path, folder: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let key = folder.join(KEY);
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
            .arg(&key))?;
        let public = fs::read_to_string(key.with_extension("pub"))?;
        fs::write(folder.join(FILE), with_ssh_key(&text, public.trim())?)?;
        let cluster = Self::open(folder)?;
        cluster.make_secrets()?;
        Ok(cluster)
    }

    /// A cluster that was created before.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let config = trilith_core::config::load(&text)
            .map_err(|problems| anyhow!("{}: {problems:#?}", path.display()))?;
        Ok(Self { config, folder: folder.to_owned(), _temporary: None })
    }

    /// What the cluster file says.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// As an operator does it, with an age key in place of a passphrase: deriving a key from one takes a second.
    fn make_secrets(&self) -> Result<()> {
        let identity = age::x25519::Identity::generate();
        fs::write(self.at(IDENTITY), identity.to_string().expose_secret())?;
        run(self
            .trilith(&["secrets", "init"])?
            .arg("--recipient")
            .arg(identity.to_public().to_string()))?;
        for name in all_named(&self.config) {
            let mut set = self.trilith(&["secrets", "set"])?;
            set.arg(name.as_str()).arg("--identity").arg(self.at(IDENTITY));
            run(set.stdin(given(&format!("secret-of-{name}"))?))?;
        }
        Ok(())
    }

    /// `trilith cluster WORDS… CLUSTER_FILE`
    fn trilith(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(artifact::program("trilith")?);
        command.arg("cluster").args(words).arg(self.at(FILE));
        Ok(command)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The cluster file's text, with the key.
    pub fn text(&self) -> Result<String> {
        Ok(fs::read_to_string(self.at(FILE))?)
    }

    /// Changes the cluster file, as an operator with an editor does. What [`Cluster::config`] says stays as it was.
    pub fn edit(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut file: Value = serde_yaml::from_str(&self.text()?)?;
        change(&mut file);
        fs::write(self.at(FILE), serde_yaml::to_string(&file)?)
            .with_context(|| format!("cannot write {}", self.at(FILE).display()))
    }

    /// Has every node installed on the disk of this serial number, and carry no OSD.
    pub fn install_on(&self, serial: &str) -> Result<()> {
        self.edit(|file| {
            let defaults = &mut file["node_defaults"];
            defaults["system_disk"] = Value::Mapping(Mapping::new());
            defaults["system_disk"]["serial"] = serial.into();
            defaults["osds"] = Value::Sequence(Vec::new());
        })
    }

    /// `trilith cluster rotate`: replaces a secret by a new one.
    pub fn rotate(&self, secret: &str) -> Result<()> {
        let mut rotate = self.trilith(&["rotate"])?;
        rotate.arg(secret).arg("--identity").arg(self.at(IDENTITY));
        run(&mut rotate).map(drop)
    }

    /// `trilith cluster operator MORE…`: makes the certificate by which a person looks at nodes.
    pub fn make_operator(&self, more: &[&str]) -> Result<()> {
        let mut operator = self.trilith(&["operator"])?;
        operator.args(more).args(["--name", "alice", "--identity"]).arg(self.at(IDENTITY));
        run(&mut operator).map(drop)
    }

    /// `trilith node NODE WORDS…`, by the certificate that [`Cluster::make_operator`] made.
    pub fn look(&self, node: &str, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(artifact::program("trilith")?);
        command.arg("node").arg("--cluster").arg(self.at(FILE)).arg(node).args(words);
        Ok(command)
    }

    /// `trilith upgrade FILE WORDS…`, by the same certificate.
    pub fn upgrade(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(artifact::program("trilith")?);
        command.arg("upgrade").arg(self.at(FILE)).args(words);
        Ok(command)
    }

    /// The cluster file.
    pub fn file(&self) -> PathBuf {
        self.at(FILE)
    }

    /// What opens its secrets file.
    pub fn identity(&self) -> PathBuf {
        self.at(IDENTITY)
    }

    /// The private key.
    pub fn key(&self) -> PathBuf {
        self.at(KEY)
    }

    /// One node as the cluster file describes it.
    pub fn node(&self, id: u16) -> Result<&Node> {
        self.config.node(NodeId::try_from(id)?).with_context(|| format!("no node {id}"))
    }

    /// What `trilith cluster bundle` makes for a node.
    pub fn bundle(&self, id: u16) -> Result<String> {
        let output = self.at(&format!("bundle-{id}.yaml"));
        let mut bundle = self.trilith(&["bundle"])?;
        bundle.args(["--node", &id.to_string(), "--identity"]).arg(self.at(IDENTITY));
        run(bundle.arg("--output").arg(&output))?;
        Ok(fs::read_to_string(output)?)
    }

    /// What `trilith usb` makes of a release's image: a medium with the bundles of all nodes, in the cluster's folder.
    pub fn medium(&self, image: &Path) -> Result<PathBuf> {
        let output = self.at("medium.raw");
        run(&mut self.usb(image, &output)?)?;
        Ok(output)
    }

    /// `trilith usb`, with this output.
    pub fn usb(&self, image: &Path, output: &Path) -> Result<Command> {
        let mut usb = Command::new(artifact::program("trilith")?);
        usb.arg("usb").arg(self.at(FILE)).arg("--image").arg(image).arg("--output").arg(output);
        usb.arg("--identity").arg(self.at(IDENTITY));
        Ok(usb)
    }

    /// A bundle whose text was changed, signed anew by the cluster's authority: what is wrong with it is then not that it
    /// was changed.
    pub fn sign(&self, bundle: &str) -> Result<String> {
        let identity = fs::read_to_string(self.at(IDENTITY))?;
        let identity: age::x25519::Identity =
            identity.parse().map_err(|reason| anyhow!("the age identity: {reason}"))?;
        let secrets = age::decrypt(&identity, &fs::read(self.at(SECRETS))?)?;
        let secrets: Value = serde_yaml::from_slice(&secrets)?;
        let key = secrets["authority"]["current"]["key"].as_str().context("no authority")?;
        let signed = bundle.split_once('\n').filter(|(line, _)| line.starts_with("# signature"));
        let body = signed.map_or(bundle, |(_, body)| body);
        Ok(trilith_core::bundle::sign(body, &Secret::from(key.to_owned()))?)
    }
}

/// In the cluster's folder: the cluster file, the private SSH key, what opens the secrets file, the secrets file.
const FILE: &str = "cluster.yaml";
const KEY: &str = "key";
const IDENTITY: &str = "identity";
const SECRETS: &str = "secrets.age";

/// Standard input with this text and nothing more.
fn given(text: &str) -> Result<fs::File> {
    use std::io::{Seek as _, Write as _};
    let mut file = tempfile::tempfile()?;
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

fn with_ssh_key(text: &str, key: &str) -> Result<String> {
    let mut cluster: Value = serde_yaml::from_str(text)?;
    if cluster["ssh"].is_null() {
        cluster["ssh"] = Value::Mapping(Mapping::new());
    }
    cluster["ssh"]["keys"] = Value::Sequence(vec![Value::from(key)]);
    Ok(serde_yaml::to_string(&cluster)?)
}

/// Lays the cables of one node: NICs that belong together (ports of one bond or bridge) go into one switch,
/// and this thread's network becomes a peer on every core network, tagged where the node's link is.
///
/// The peer holds the gateway's address where there is one.
pub fn cable(network: &Network, node: &Node) -> Result<Vec<Nic>> {
    let mut cables = Cables { network, node, nics: Vec::new(), switches: Vec::new() };
    for attached in &node.networks {
        let (ports, vlan) = wires(node, &attached.link)?;
        let switch = cables.switch(ports)?;
        let addresses: Vec<_> = attached
            .addresses
            .iter()
            .flat_map(|own| peer_addresses(own.address, own.gateway, &BTreeSet::new()))
            .collect();
        match vlan {
            Some(vlan) => switch.tagged_peer(vlan, &addresses)?,
            None => switch.peer(&addresses)?,
        }
    }
    Ok(cables.nics)
}

struct Cables<'a> {
    network: &'a Network,
    node: &'a Node,
    nics: Vec<Nic>,
    /// Each with the NICs that are plugged into it.
    switches: Vec<(Vec<IfName>, Switch)>,
}

impl Cables<'_> {
    /// The switch that these NICs are plugged into, now if not before.
    fn switch(&mut self, nics: Vec<IfName>) -> Result<&Switch> {
        let known =
            self.switches.iter().position(|(with, _)| with.iter().any(|nic| nics.contains(nic)));
        let number = match known {
            Some(number) => number,
            None => self.plug(nics)?,
        };
        Ok(&self.switches[number].1)
    }

    /// Plugs NICs into a new switch.
    fn plug(&mut self, nics: Vec<IfName>) -> Result<usize> {
        let switch = self.network.switch(&format!("sw{}", self.switches.len()))?;
        for name in &nics {
            let number = self.nics.len();
            let tap = format!("tap{number}");
            switch.tap(&tap)?;
            if nics.len() > 1 {
                switch.group(&tap)?;
            }
            self.nics.push(nic(self.node, name, number, tap)?);
        }
        self.switches.push((nics, switch));
        Ok(self.switches.len() - 1)
    }
}

/// The NICs below a link, and the tag that its frames have there.
fn wires(node: &Node, link: &IfName) -> Result<(Vec<IfName>, Option<u16>)> {
    let found = node.links.get(link).with_context(|| format!("no link {link}"))?;
    let mut tag = match &found.kind {
        LinkKind::Nic(_) => return Ok((vec![link.clone()], None)),
        LinkKind::Vlan { id, .. } => Some(u16::from(*id)),
        LinkKind::Bond(_) | LinkKind::Bridge { .. } => None,
    };
    let mut nics = Vec::new();
    for lower in found.lower() {
        let (below, vlan) = wires(node, lower)?;
        nics.extend(below);
        tag = tag.or(vlan);
    }
    Ok((nics, tag))
}

/// A NIC that the cluster file's choice fits: its address or its place. Another one may have any address.
fn nic(node: &Node, name: &IfName, number: usize, tap: String) -> Result<Nic> {
    let mut nic = Nic {
        mac: format!("52:54:00:00:{:02x}:{number:02x}", u16::from(node.id) & 0xff),
        tap,
        place: Place::Slot,
    };
    match node.links.get(name).map(|link| &link.kind) {
        Some(LinkKind::Nic(NicChoice::Mac(mac))) => nic.mac = mac.to_string(),
        Some(LinkKind::Nic(NicChoice::Path(path))) => nic.place = Place::at(path.as_str())?,
        _ => {}
    }
    Ok(nic)
}

/// The gateway's address if it is one of the subnet, else the last but one of the subnet that is not taken, both with the
/// prefix length; and a gateway from outside, such as a link-local one.
pub(crate) fn peer_addresses(
    own: IpNet,
    gateway: Option<IpAddr>,
    taken: &BTreeSet<IpAddr>,
) -> Vec<String> {
    let before = |step: u32| match own.broadcast() {
        IpAddr::V4(last) => IpAddr::from(u32::from(last).saturating_sub(step).to_be_bytes()),
        IpAddr::V6(last) => {
            IpAddr::from(u128::from(last).saturating_sub(step.into()).to_be_bytes())
        }
    };
    let inside = gateway.filter(|gateway| own.contains(gateway));
    // One of so many is free: no more than these are taken.
    let last = u32::try_from(taken.len()).unwrap_or(u32::MAX - 2) + 2;
    let free = (2..=last).map(before).find(|address| !taken.contains(address));
    let neighbour = inside.or(free).unwrap_or_else(|| before(2));
    let mut addresses = vec![format!("{neighbour}/{}", own.prefix_len())];
    addresses.extend(gateway.filter(|_| inside.is_none()).map(|outside| format!("{outside}/64")));
    addresses
}

/// What `ping` must reach from the peer: each address of the node with the largest payload that goes over
/// that network unbroken.
pub fn pings(networks: &[NodeNetwork]) -> Vec<(IpAddr, u32)> {
    networks
        .iter()
        .flat_map(|network| {
            network.addresses.iter().map(move |a| (a.address.addr(), u32::from(network.mtu)))
        })
        .map(|(address, mtu)| match address {
            IpAddr::V4(_) => (address, mtu - 20 - 8), // headers of IPv4 and ICMP
            IpAddr::V6(_) => (address, mtu - 40 - 8), // headers of IPv6 and ICMPv6
        })
        .collect()
}
