//! What zstd makes of a stream, written to its place as it comes.

use anyhow::Result;
use trilith_core::release::WINDOW;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

use super::Place;
use crate::source::Bad;

/// How much is written at a time.
const STEP: usize = 256 << 10;

/// A stream while it is decompressed.
pub(super) struct Unpack<'a> {
    decoder: Decoder<'static>,
    to: &'a Place,
    /// How much there will be.
    size: u64,
    /// How much there is.
    done: u64,
    step: Vec<u8>,
}

impl<'a> Unpack<'a> {
    pub(super) fn new(to: &'a Place, size: u64) -> Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW))?;
        Ok(Self { decoder, to, size, done: 0, step: vec![0; STEP] })
    }

    /// Takes more of it, and gives how much there is now.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<u64> {
        let mut input = InBuffer::around(bytes);
        loop {
            let mut output = OutBuffer::around(self.step.as_mut_slice());
            let run = self.decoder.run(&mut input, &mut output);
            run.map_err(|error| Bad(format!("it cannot be decompressed: {error}")))?;
            let (written, full) = (output.pos(), output.pos() == output.capacity());
            if self.done + written as u64 > self.size {
                return Err(Bad("it makes more than it should".into()).into());
            }
            self.to.write(self.done, &self.step[..written])?;
            self.done += written as u64;
            if !full && input.pos() == input.src.len() {
                return Ok(self.done);
            }
        }
    }

    /// That was all of it.
    pub(super) fn finish(self) -> Result<(), Bad> {
        if self.done == self.size {
            return Ok(());
        }
        Err(Bad(format!("it makes {} bytes and should make {}", self.done, self.size)))
    }
}
