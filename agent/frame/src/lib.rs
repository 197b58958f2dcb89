//! Frames of zstd (RFC 8878) that a release and its nodes make alike, byte for byte.
//!
//! In a frame every changed byte changes the rest. So what differs between two systems is told of what is in the frames of
//! their initrds, and the node compresses it again. mkosi has made them with the program `zstd -8 -T0`; the library gives the
//! same bytes if it is of the same version, 1.5.7 in Debian 13. A release says so of no frame that was not made again first.

use std::io::{self, Write};

use zstd::stream::raw::CParameter;
use zstd::stream::write::Encoder;

/// What mkosi is told (mkosi.conf and overlays/initrd/mkosi.conf: `CompressLevel=`). The highest one with which a worker takes
/// 8 MiB at a time, and not 16: a node has little memory for this.
const LEVEL: i32 = 8;

/// Compresses what is written to it, as mkosi would.
///
/// # Errors
/// There is no memory for it.
pub fn encoder<W: Write>(to: W) -> io::Result<Encoder<'static, W>> {
    let mut encoder = Encoder::new(to, LEVEL)?;
    // With workers it cuts what it compresses, and any number of them cuts alike.
    encoder.set_parameter(CParameter::NbWorkers(1))?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}
