//! The disk over HTTP: from several servers, going on where a connection broke, decompressed as it comes, so that memory
//! never holds both the compressed and the other.

use std::fs::File;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use trilith_core::netboot::{Manifest, path};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

use crate::disk::Image;
use crate::http::{Source, in_time};
use crate::pauses::Pauses;
use crate::say;
use crate::sparse::Sparse;

/// The window that `trilith build` compresses with: 128 MiB.
const WINDOW: u32 = 27;

const MIB: u64 = 1 << 20;

/// Why the disk is not there.
enum Broken {
    /// The connection: what has come is good.
    Off(anyhow::Error),
    /// What has come.
    Bad(anyhow::Error),
}

/// Fetches the disk, and checks that its root is the one with this root hash.
///
/// # Errors
/// None of the servers has it. That a server does not answer is no error: it is asked again.
pub(crate) async fn image(sources: &[Source], root_hash: &str, image: &Image) -> Result<()> {
    let mut fitting = fitting(sources, root_hash).await?;
    while let Some((_, manifest)) = fitting.first().cloned() {
        // What is the same release to the byte count is taken for the same bytes; the check below says whether it was.
        let same = |(_, other): &(Source, Manifest)| *other == manifest;
        let servers: Vec<Source> =
            fitting.iter().filter(|it| same(it)).map(|(source, _)| source.clone()).collect();
        let fetched = Fetch::new(&servers, &manifest).run(image.file()).await;
        match fetched.and_then(|()| image.check(root_hash)) {
            Ok(()) => return Ok(()),
            Err(error) => {
                let urls: Vec<&str> = servers.iter().map(|source| source.url.as_str()).collect();
                say(&format!("REFUSED what {} gave: {error:#}", urls.join(" and ")));
                fitting.retain(|it| !same(it));
            }
        }
    }
    bail!("no server gives the root that this UKI stands for, with the root hash {root_hash}")
}

/// The servers that have the release. Waits for the first one.
async fn fitting(sources: &[Source], root_hash: &str) -> Result<Vec<(Source, Manifest)>> {
    let mut pauses = Pauses::new();
    loop {
        let (mut fitting, mut others) = (Vec::new(), 0);
        for source in sources {
            match manifest(source).await {
                Ok(manifest) if manifest.root_hash == root_hash => {
                    fitting.push((source.clone(), manifest));
                }
                Ok(Manifest { release, .. }) => {
                    others += 1;
                    say(&format!("{} has {release}, and this UKI is of another", source.url));
                }
                Err(error) => say(&format!("{error:#}")),
            }
        }
        if !fitting.is_empty() {
            return Ok(fitting);
        }
        // The machine starts again and gets the UKI that is served now.
        ensure!(others < sources.len(), "no server has the release of this UKI");
        pauses.wait().await;
    }
}

async fn manifest(source: &Source) -> Result<Manifest> {
    let bytes = source.short(path::MANIFEST).await?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is no netboot server", source.url))
}

/// A download under way.
struct Fetch<'a> {
    servers: &'a [Source],
    manifest: &'a Manifest,
    /// How much of the compressed disk has come.
    position: u64,
    started: Instant,
    /// The last tenth that was told.
    told: u64,
}

impl<'a> Fetch<'a> {
    fn new(servers: &'a [Source], manifest: &'a Manifest) -> Self {
        Self { servers, manifest, position: 0, started: Instant::now(), told: 0 }
    }

    async fn run(mut self, file: &File) -> Result<()> {
        let Manifest { release, compressed, .. } = self.manifest;
        say(&format!("fetching {release}, {} MiB", compressed.div_ceil(MIB)));
        let mut unpack = Unpack::new(file)?;
        let mut pauses = Pauses::new();
        for source in self.servers.iter().cycle() {
            let before = self.position;
            match self.stream(source, &mut unpack).await {
                Ok(()) => break,
                Err(Broken::Bad(error)) => return Err(error),
                Err(Broken::Off(error)) => say(&format!(
                    "{} broke off at {} MiB, going on: {error:#}",
                    source.url,
                    self.position / MIB
                )),
            }
            if self.position > before {
                pauses.progress();
            }
            pauses.wait().await;
        }
        unpack.finish(self.manifest.disk)?;
        say(&format!("fetched in {} s", self.started.elapsed().as_secs()));
        Ok(())
    }

    /// One connection.
    async fn stream(&mut self, source: &Source, unpack: &mut Unpack<'_>) -> Result<(), Broken> {
        let response = source.get(path::DISK, self.position).await.map_err(Broken::Off)?;
        let status = response.status();
        let expected =
            if self.position == 0 { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
        if status != expected {
            return Err(Broken::Off(anyhow::anyhow!("the answer is {status}")));
        }
        let mut body = response.into_body();
        while self.position < self.manifest.compressed {
            let frame = in_time(async { Ok(body.frame().await) }).await.map_err(Broken::Off)?;
            let frame = match frame {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err(Broken::Off(error.into())),
                None => return Err(Broken::Off(anyhow::anyhow!("the connection was closed"))),
            };
            if let Ok(bytes) = frame.into_data() {
                self.position += bytes.len() as u64;
                unpack.add(&bytes).map_err(Broken::Bad)?;
                self.tell();
            }
        }
        Ok(())
    }

    /// Every tenth is a line: a serial console shows no other progress.
    fn tell(&mut self) {
        let all = self.manifest.compressed.max(1);
        let tenth = self.position * 10 / all;
        if tenth > self.told {
            self.told = tenth;
            let seconds = self.started.elapsed().as_secs().max(1);
            let (done, pace) = (self.position / MIB, self.position / MIB / seconds);
            say(&format!("{} % ({done} of {} MiB, {pace} MiB/s)", tenth * 10, all.div_ceil(MIB)));
        }
    }
}

/// The disk while it is decompressed.
struct Unpack<'a> {
    decoder: Decoder<'static>,
    sparse: Sparse<'a>,
    buffer: Vec<u8>,
}

impl<'a> Unpack<'a> {
    fn new(file: &'a File) -> Result<Self> {
        let mut decoder = Decoder::new().context("no decompression")?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW))?;
        let sparse = Sparse::new(file).context("the disk in memory cannot be emptied")?;
        Ok(Self { decoder, sparse, buffer: vec![0; 256 << 10] })
    }

    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        let mut input = InBuffer::around(bytes);
        loop {
            let mut output = OutBuffer::around(self.buffer.as_mut_slice());
            self.decoder.run(&mut input, &mut output).context("it cannot be decompressed")?;
            let (written, full) = (output.pos(), output.pos() == output.capacity());
            let bytes = &self.buffer[..written];
            self.sparse.write(bytes).context("the disk in memory cannot be written")?;
            if !full && input.pos() == input.src.len() {
                return Ok(());
            }
        }
    }

    fn finish(self, size: u64) -> Result<()> {
        let written = self.sparse.written();
        ensure!(written == size, "it is a disk of {written} bytes, not of {size}");
        self.sparse.finish().context("the disk in memory cannot be ended")
    }
}
