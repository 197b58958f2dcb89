//! Device paths: the way from the machine to a file (UEFI specification 2.10, 10.3).

use serde::{Deserialize, Serialize};

use super::Guid;
use super::bytes::{self, Reader};

/// Types of nodes, each with the subtypes that are told apart here.
const MESSAGING: u8 = 3;
const NETWORK: [u8; 4] = [11, 12, 13, 24]; // MAC address, IPv4, IPv6, URI
const MEDIA: u8 = 4;
const HARD_DRIVE: u8 = 1;
const CDROM: u8 = 2;
const FILE: u8 = 4;
const END: u8 = 0x7f;
const WHOLE: u8 = 0xff;

/// The form of a partition's table, and of its signature.
const GPT: u8 = 2;
const GUID: u8 = 2;

/// One stop on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Node {
    /// A partition of a GPT, on whichever disk it is.
    Partition(Partition),
    /// An El Torito image on a disc.
    Optical,
    /// A file, by its path with `\`.
    File(String),
    /// Anything else.
    Other {
        /// Its type.
        kind: u8,
        /// Its type within that.
        subtype: u8,
        /// What it says.
        #[serde(default)]
        data: Vec<u8>,
    },
}

/// A partition of a GPT, as a boot entry names it. Firmware finds it by its UUID; some also compare the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Its number, from 1.
    pub number: u32,
    /// Its first block, in logical blocks of the disk.
    pub start: u64,
    /// Its length in logical blocks.
    pub size: u64,
    /// Its own UUID.
    pub uuid: Guid,
}

impl Node {
    /// Whether what comes behind it is on the network.
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Other { kind: MESSAGING, subtype, .. } if NETWORK.contains(subtype))
    }

    fn read(kind: u8, subtype: u8, data: &[u8]) -> Self {
        let known = match (kind, subtype) {
            (MEDIA, HARD_DRIVE) => partition(data).map(Self::Partition),
            (MEDIA, CDROM) => Some(Self::Optical),
            (MEDIA, FILE) => Reader(data).text().map(Self::File),
            _ => None,
        };
        known.unwrap_or_else(|| Self::Other { kind, subtype, data: data.to_vec() })
    }

    fn write(&self) -> Vec<u8> {
        match self {
            Self::Partition(partition) => node(MEDIA, HARD_DRIVE, &partition.write()),
            // Entries of this kind are read, never written.
            Self::Optical => node(MEDIA, CDROM, &[0; 20]),
            Self::File(path) => node(MEDIA, FILE, &bytes::text(path)),
            Self::Other { kind, subtype, data } => node(*kind, *subtype, data),
        }
    }
}

impl Partition {
    fn write(&self) -> Vec<u8> {
        let mut data = self.number.to_le_bytes().to_vec();
        data.extend(self.start.to_le_bytes());
        data.extend(self.size.to_le_bytes());
        data.extend(self.uuid.to_firmware());
        data.extend([GPT, GUID]);
        data
    }
}

/// A hard drive node, if its signature is a GUID.
fn partition(data: &[u8]) -> Option<Partition> {
    let mut reader = Reader(data);
    let (number, start, size) = (reader.u32()?, reader.u64()?, reader.u64()?);
    let uuid = Guid::from_firmware(reader.array()?);
    let (_table, signature) = (reader.u8()?, reader.u8()?);
    (signature == GUID).then_some(Partition { number, start, size, uuid })
}

fn node(kind: u8, subtype: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 4).unwrap_or(u16::MAX);
    let mut node = vec![kind, subtype];
    node.extend(length.to_le_bytes());
    node.extend(data);
    node
}

/// The first path in these bytes. `None` if it has no end, or a node of no length.
pub(super) fn read(data: &[u8]) -> Option<Vec<Node>> {
    let (mut reader, mut path) = (Reader(data), Vec::new());
    loop {
        let (kind, subtype, length) = (reader.u8()?, reader.u8()?, reader.u16()?);
        let data = reader.take(usize::from(length).checked_sub(4)?)?;
        if (kind, subtype) == (END, WHOLE) {
            return Some(path);
        }
        path.push(Node::read(kind, subtype, data));
    }
}

/// With its end.
pub(super) fn write(path: &[Node]) -> Vec<u8> {
    let mut data: Vec<u8> = path.iter().flat_map(Node::write).collect();
    data.extend(node(END, WHOLE, &[]));
    data
}
