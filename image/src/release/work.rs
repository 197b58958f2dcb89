//! The steps from a build to a release.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use trilith_core::names::Sha256;
use trilith_core::release::{Chunks, Delta, Download, Manifest, Part, Seed, WINDOW, formats};
use trilith_core::version::Version;
use zstd::stream::raw::CParameter;

use super::repository::{Lifetimes, Repository};
use super::sign::Bench;
use super::source::Source;
use super::store::Store;
use super::{Options, block_on, chunks, delta, files};
use crate::build::{Progress, hex};
use crate::keys::Enrollment;
use crate::keys::store::Online;

/// Makes a build a release. One that is there already, of the same build, is left as it is.
pub(super) fn release(
    options: &Options,
    repository: &mut Repository,
    signing: (&Online, &Lifetimes),
) -> Result<()> {
    let progress = Progress::start();
    let source = Source::find(&options.build)?;
    let version = source.version.clone();
    progress.step(&format!("{} from {}", version.label(), options.build.display()));
    let fingerprint = source.fingerprint()?;
    if let Some(there) = repository.fingerprint(&version) {
        ensure!(
            there == fingerprint,
            "{version} is released already, of another build: what nodes have once fetched never changes; give the \
             build another version"
        );
        progress.kept(&version.label());
        return Ok(());
    }
    let folder = repository.work();
    drop_folder(&folder)?;
    files::make_folder(&folder)?;
    let store = Store::new(&repository.targets())?;
    store.sweep(&repository.named())?;
    let bench = Bench::new(options.tools.as_deref(), &folder)?;
    let mut making = Making { options, progress, source, store, bench, folder: folder.clone() };
    let manifest = making.manifest(repository, signing.0)?;
    making.write("yaml", &serde_yaml::to_string(&manifest)?)?;
    making.progress.step("metadata");
    let targets = making.store.targets;
    block_on(repository.add(&version, fingerprint, targets, signing))?;
    drop_folder(&folder)?;
    making.progress.step("done");
    Ok(())
}

fn drop_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// A release that is being made.
struct Making<'a> {
    options: &'a Options,
    progress: Progress,
    source: Source,
    store: Store,
    bench: Bench,
    folder: PathBuf,
}

impl Making<'_> {
    /// Everything but the manifest itself, which it gives.
    fn manifest(&mut self, repository: &Repository, online: &Online) -> Result<Manifest> {
        let keys = self.options.enrollment(online)?;
        self.progress.step("signatures for firmware");
        self.bench.show(&self.options.build)?;
        let uki = self.bench.sign(&self.source.path("efi"), &online.db, "efi")?;
        let loader = self.bench.loader(&self.source.path("raw"))?;
        let loader = self.bench.sign(&loader, &online.db, "loader")?;
        let disk = self.disk((&loader, &uki), keys.as_ref())?;
        let signature = self.bench.sign_root(&self.source.root_hash, &online.verity)?;
        let packages = self.source.path("packages.txt");
        let packages = fs::read_to_string(&packages)
            .with_context(|| format!("cannot read {}", packages.display()))?;
        let [efi, root, verity] = [
            ("efi", uki),
            ("root", self.source.path("root")),
            ("verity", self.source.path("verity")),
        ];
        let mut manifest = Manifest {
            version: self.source.version.clone(),
            min_from: self.options.min_from.clone(),
            formats: formats(&packages)?,
            root_hash: self.source.root_hash.clone(),
            uki: self.part(&efi)?,
            root: self.part(&root)?,
            verity: self.part(&verity)?,
            loader: self.take(&loader, "loader")?,
            disk,
            root_signature: Some(self.take(&signature, "roothash.p7s")?),
            packages: self.write("packages.txt", &packages)?,
            sbom: self.copy("spdx.json")?,
        };
        let archive = self.chunks(&root.1)?;
        manifest.root.chunks = Some(Chunks { archive, seeds: Vec::new() });
        for version in self.previous(repository) {
            let old = repository.manifest(&version)?;
            self.progress.step(&format!("what differs from {version}"));
            manifest.uki.deltas.extend(self.delta(&old, &efi, repository)?);
            manifest.root.deltas.extend(self.delta(&old, &root, repository)?);
            manifest.verity.deltas.extend(self.delta(&old, &verity, repository)?);
            self.seed(&old, repository, &mut manifest.root.chunks)?;
        }
        Ok(manifest)
    }

    /// The releases that there are differences from, the newest first.
    fn previous(&self, repository: &Repository) -> Vec<Version> {
        let all = repository.releases().into_iter().rev();
        all.filter(|it| *it < self.source.version).take(self.options.previous).collect()
    }

    fn name(&self, ending: &str) -> String {
        format!("{}.{ending}", self.source.version.label())
    }

    fn take(&mut self, path: &Path, ending: &str) -> Result<Download> {
        let name = self.name(ending);
        self.store.take(path, &name)
    }

    fn write(&mut self, ending: &str, text: &str) -> Result<Download> {
        let path = self.folder.join(ending);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        self.take(&path, ending)
    }

    fn copy(&mut self, ending: &str) -> Result<Download> {
        let (from, to) = (self.source.path(ending), self.folder.join(ending));
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        self.take(&to, ending)
    }

    /// A part, whole.
    fn part(&mut self, (ending, path): &(&str, PathBuf)) -> Result<Part> {
        self.progress.step(&format!("{ending}: whole"));
        let (sha256, size) = files::digest(path)?;
        let packed = self.folder.join("whole.zst");
        pack(path, &packed, self.options.level)
            .with_context(|| format!("cannot compress {}", path.display()))?;
        let whole = self.take(&packed, &format!("{ending}.zst"))?;
        let sha256 = Sha256::try_from(hex(&sha256))?;
        Ok(Part { size, sha256, whole, chunks: None, deltas: Vec::new() })
    }

    /// The disk image that media are made from, with what is signed on it.
    fn disk(
        &mut self,
        (loader, uki): (&Path, &Path),
        keys: Option<&Enrollment>,
    ) -> Result<Download> {
        self.progress.step("disk image");
        let (built, disk) = (self.source.path("raw"), self.folder.join("raw"));
        fs::copy(&built, &disk).with_context(|| format!("cannot copy {}", built.display()))?;
        self.bench.dress(&disk, loader, uki)?;
        if let Some(keys) = keys {
            self.bench.enroll(&disk, keys)?;
        }
        let packed = self.folder.join("raw.zst");
        pack(&disk, &packed, self.options.level)
            .with_context(|| format!("cannot compress {}", disk.display()))?;
        fs::remove_file(&disk).context("cannot remove the disk image")?;
        self.take(&packed, "raw.zst")
    }

    fn chunks(&mut self, root: &Path) -> Result<Download> {
        self.progress.step("root: chunks");
        let path = self.folder.join("root.cba");
        block_on(chunks::make(root, &path))?;
        self.take(&path, "root.cba")
    }

    /// What makes a part out of that of an older release. None where all of it costs no more.
    fn delta(
        &mut self,
        old: &Manifest,
        (ending, new): &(&str, PathBuf),
        repository: &Repository,
    ) -> Result<Option<Delta>> {
        let (kind, part) = match *ending {
            "efi" => (delta::Kind::System, &old.uki),
            "root" => (delta::Kind::Other, &old.root),
            _ => (delta::Kind::Other, &old.verity),
        };
        let unpacked = self.folder.join("old");
        unpack(&repository.file(&part.whole.target)?, &unpacked)
            .with_context(|| format!("cannot unpack {}", part.whole.target))?;
        let path = self.folder.join("delta");
        let pieces = delta::make(kind, (&unpacked, new), &path, self.options.level)?;
        fs::remove_file(&unpacked).context("cannot remove an old part")?;
        let size = fs::metadata(&path).context("cannot measure what differs")?.len();
        let target = self.name(&format!("{ending}.zst"));
        let whole = self.store.size(&target).context("it was never there whole")?;
        if size >= whole {
            return Ok(None);
        }
        let download = self.take(&path, &format!("{ending}.from_{}.delta", old.version))?;
        Ok(Some(Delta { base: old.base(), download, pieces }))
    }

    /// How much of the chunks is fetched by who has an older release.
    fn seed(
        &self,
        old: &Manifest,
        repository: &Repository,
        chunks: &mut Option<Chunks>,
    ) -> Result<()> {
        let (Some(new), Some(old_chunks)) = (chunks, &old.root.chunks) else { return Ok(()) };
        let archive = self.store.path(&new.archive.target)?;
        let before = repository.file(&old_chunks.archive.target)?;
        let fetch = block_on(chunks::lacking(&archive, &before))?;
        new.seeds.push(Seed { base: old.base(), fetch });
        Ok(())
    }
}

/// Compresses a file. A window of 128 MiB is what every zstd decompresses without being asked.
fn pack(from: &Path, to: &Path, level: i32) -> io::Result<()> {
    let mut input = File::open(from)?;
    let mut encoder = zstd::Encoder::new(File::create(to)?, level)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    encoder.multithread(u32::try_from(threads).unwrap_or(1))?;
    encoder.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
    encoder.set_parameter(CParameter::WindowLog(WINDOW))?;
    encoder.set_pledged_src_size(Some(input.metadata()?.len()))?;
    encoder.include_checksum(true)?;
    io::copy(&mut input, &mut encoder)?;
    encoder.finish().map(drop)
}

fn unpack(from: &Path, to: &Path) -> io::Result<()> {
    let mut decoder = zstd::Decoder::new(File::open(from)?)?;
    io::copy(&mut decoder, &mut File::create(to)?).map(drop)
}
