//! Tagged ports in user space, for hosts whose kernel has neither VLAN links nor filtering bridges.

use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// IEEE 802.1Q: the two addresses come first, then the tag's type, then the tag.
const ADDRESSES: usize = 12;
const TAG: usize = 4;
const TYPE: [u8; 2] = [0x81, 0x00];
/// The largest frame: 9216 bytes, its header and two tags.
const FRAME: usize = 9216 + 14 + 2 * TAG;

/// An access port of one VLAN: what leaves `port` goes out of `trunk` with the tag, and the other way.
pub(crate) struct TaggedPort {
    trunk: Arc<SyncDevice>,
    port: Arc<SyncDevice>,
    vlan: u16,
}

impl TaggedPort {
    /// Makes both interfaces; they vanish with this process.
    pub(crate) fn open(trunk: &str, port: &str, vlan: u16) -> Result<Self> {
        Ok(Self { trunk: Arc::new(tap(trunk)?), port: Arc::new(tap(port)?), vlan })
    }

    /// Starts to forward, until the process ends.
    pub(crate) fn forward(self) {
        let Self { trunk, port, vlan } = self;
        let (trunk_in, port_out) = (Arc::clone(&trunk), Arc::clone(&port));
        thread::spawn(move || copy(&trunk_in, &port_out, |frame| untag(frame, vlan)));
        thread::spawn(move || copy(&port, &trunk, |frame| tag(frame, vlan)));
    }
}

fn tap(name: &str) -> Result<SyncDevice> {
    let builder = DeviceBuilder::new().name(name).layer(Layer::L2).enable(false);
    builder.build_sync().with_context(|| format!("cannot make the tap {name}"))
}

/// Copies frames until an interface is gone. A frame that the other side refuses (it is down) is lost, as on
/// a wire.
fn copy(from: &SyncDevice, to: &SyncDevice, change: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    let mut buffer = [0; FRAME];
    while let Ok(size) = from.recv(&mut buffer) {
        if let Some(frame) = change(&buffer[..size]) {
            let _lost = to.send(&frame);
        }
    }
}

/// The frame with the VLAN's tag after its addresses.
fn tag(frame: &[u8], vlan: u16) -> Option<Vec<u8>> {
    let (addresses, rest) = frame.split_at_checked(ADDRESSES)?;
    Some([addresses, &TYPE, &vlan.to_be_bytes(), rest].concat())
}

/// The frame without its tag, if it is one of this VLAN. Priority bits do not matter.
fn untag(frame: &[u8], vlan: u16) -> Option<Vec<u8>> {
    let (addresses, rest) = frame.split_at_checked(ADDRESSES)?;
    let (tag, rest) = rest.split_at_checked(TAG)?;
    let id = u16::from_be_bytes([tag[2], tag[3]]) & 0x0fff;
    (tag[..2] == TYPE && id == vlan).then(|| [addresses, rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = b"aaaaaabbbbbb\x08\x00payload";

    #[test]
    fn a_tag_goes_between_addresses_and_type() {
        let tagged = tag(PLAIN, 20).unwrap();
        assert_eq!(tagged, b"aaaaaabbbbbb\x81\x00\x00\x14\x08\x00payload");
        assert_eq!(untag(&tagged, 20).unwrap(), PLAIN);
    }

    #[test]
    fn priority_bits_do_not_matter() {
        assert_eq!(
            untag(b"aaaaaabbbbbb\x81\x00\xe0\x14\x08\x00x", 20).unwrap(),
            b"aaaaaabbbbbb\x08\x00x"
        );
    }

    #[test]
    fn other_vlans_untagged_and_short_frames_are_not_for_the_port() {
        assert_eq!(untag(&tag(PLAIN, 21).unwrap(), 20), None);
        assert_eq!(untag(PLAIN, 20), None);
        assert_eq!(untag(b"short", 20), None);
        assert_eq!(tag(b"short", 20), None);
    }
}
