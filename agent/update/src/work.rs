//! The steps of an update, carried out.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use trilith_core::boot::RootHash;
use trilith_core::install::{Layout, Release, Slot};
use trilith_core::release::Manifest;
use trilith_core::update::{Disk, Observed, Offer, Place as Where, Step};
use trilith_core::version::Version;
use trilith_metal::block::{self, Device};
use trilith_metal::efi::Variables;
use trilith_metal::mounted::Way;
use trilith_metal::{esp, exec, slot, table};

use crate::fetch::{Fetch, Neighbours, Old, Place};
use crate::look::{Machine, device};
use crate::memory::{self, FOLDER, Memory};
use crate::metadata::{Releases, Trust};
use crate::peers::Peers;
use crate::run::Session;
use crate::tell::Teller;
use crate::{Options, clock, firmware};

/// Who writes down what the node is part of.
const GATE: &str = "/usr/lib/trilith/trilith-gate";
/// The system while it is fetched, in [`FOLDER`].
const SYSTEM: &str = "uki";

/// What a step is carried out with.
pub(crate) struct Work<'a> {
    pub(crate) options: &'a Options,
    pub(crate) machine: &'a Machine,
    pub(crate) teller: &'a Teller,
    pub(crate) observed: &'a Observed,
    pub(crate) session: &'a mut Session,
}

impl Work<'_> {
    pub(crate) async fn apply(&mut self, step: &Step) -> Result<()> {
        self.teller.doing(&step.to_string())?;
        match step {
            Step::Look => self.look().await,
            Step::Retire(_) => {
                let keep = [self.running()?.clone()];
                self.on_esp(|esp| esp::retire(esp, &keep))
            }
            Step::EmptySlot(slot) => {
                Memory::forget(Path::new(FOLDER))?;
                table::empty(&self.device()?, *slot)?;
                block::settle()
            }
            Step::Fetch { slot, .. } => self.fetch(*slot).await,
            Step::VerifySlot(slot) => self.verify(*slot),
            Step::NameSlot(slot) => {
                table::name(&self.device()?, *slot, &Release::of(self.next()?))?;
                block::settle()?;
                // From now on the slot says itself what is in it; the system is fetched under the same name.
                self.teller.say(|state| state.fetching = None)?;
                Memory::forget(Path::new(FOLDER))
            }
            Step::Stage(version) => self.stage(version).await,
            Step::Remember(version) => self.remember(version),
            Step::Activate(version) => {
                let sha256 = self.next()?.uki.sha256.clone();
                self.on_esp(|esp| esp::carry_out(&esp::activate(esp, version, &sha256)?))
            }
            Step::Demote(version) => {
                let root = self.running()?.clone();
                self.on_esp(|esp| esp::carry_out(&esp::demote(esp, version, &root)?))
            }
            Step::Reboot => exec::run("systemctl", &["reboot"]),
        }
    }

    async fn look(&mut self) -> Result<()> {
        let doubt = if self.options.trust_clock { None } else { clock::doubt() };
        let note = doubt.as_ref().map(|why| {
            format!("{why}: whether the source's signatures have expired is not looked at")
        });
        self.teller.say(|state| state.notes = note.into_iter().collect())?;
        let session = &mut *self.session;
        let trust =
            Trust { root: &session.wish.trust, memory: Path::new(FOLDER), clock: doubt.is_none() };
        let (source, wish) = (&session.source, &session.wish);
        session.releases = Releases::look(source, trust).await?;
        let next = session.releases.manifest(source, &wish.version).await?;
        let (layout, root) = (&self.disk()?.layout, self.running()?);
        let here = layout.slot_running(root).and_then(|slot| layout.version(slot));
        let here = here.context("the root that runs is in no slot")?;
        let session = &mut *self.session;
        let running = session.releases.manifest(&session.source, &here).await?;
        let running =
            running.filter(|manifest| Some(&manifest.root_hash) == self.observed.running.as_ref());
        session.offer = Some(Offer { next, running });
        Ok(())
    }

    async fn fetch(&mut self, slot: Slot) -> Result<()> {
        let disk = self.device()?;
        let here = self.layout()?.slot_running(self.running()?).context("no slot runs")?;
        let (next, old) = (self.next()?.clone(), self.offered()?.clone());
        let parts = |slot: Slot| -> Result<[PathBuf; 2]> {
            let (root, tree) = &self.layout()?.slots[slot.0];
            Ok([device(&disk, root.number)?, device(&disk, tree.number)?])
        };
        let ([root, tree], [old_root, old_tree]) = (parts(slot)?, parts(here)?);
        let (root_room, tree_room) = self.disk()?.room[slot.0];
        let (root, tree) = (Place::device(&root, root_room)?, Place::device(&tree, tree_room)?);
        let (peers, root_hash) = (self.gather(&next).await?, &next.root_hash);
        for (name, part, to, above, path, size) in [
            ("hash tree", &next.verity, &tree, None, old_tree, old.verity.size),
            ("root", &next.root, &root, Some(&tree), old_root, old.root.size),
        ] {
            self.teller.doing(&format!("fetching the {name} of {}", next.version))?;
            let from = Old { root_hash: old.root_hash.clone(), path, size };
            let neighbours = Neighbours { peers, root_hash, tree: above };
            let fetched =
                self.part((root_hash, Some(neighbours)), (name, part), to, Some(&from)).await;
            self.left_alone(root_hash)?;
            fetched?;
        }
        let (source, others) = self.session.given();
        eprintln!(
            "{}: {source} bytes from the source so far, {others} from other nodes",
            next.version
        );
        Ok(())
    }

    /// Sees who else has it, or fetches it, and tells the others that this node does.
    async fn gather(&self, next: &Manifest) -> Result<&Peers> {
        let (session, teller) = (&*self.session, self.teller);
        teller.say(|state| state.fetching = Some(next.root_hash.clone()))?;
        let tell = |words: &str| {
            Session::still_wished(&session.wish)?;
            teller.doing(words)
        };
        session.peers.gather(&next.root_hash, &tell).await?;
        Ok(&session.peers)
    }

    /// Says who is not asked any more.
    fn left_alone(&self, root_hash: &RootHash) -> Result<()> {
        let notes = self.session.peers.notes(root_hash);
        self.teller.say(|state| {
            let new = notes.into_iter().filter(|note| !state.notes.contains(note));
            let new: Vec<String> = new.collect();
            state.notes.extend(new);
        })
    }

    async fn part(
        &self,
        (root_hash, neighbours): (&RootHash, Option<Neighbours<'_>>),
        (name, part): (&str, &trilith_core::release::Part),
        to: &Place,
        old: Option<&Old>,
    ) -> Result<()> {
        let (session, teller) = (&*self.session, self.teller);
        let told = Cell::new(None);
        let tell = |done: u64, of: u64| {
            // Chunks have a few KiB, and the wish is a file.
            let mib = Some(done >> 20);
            if told.replace(mib) == mib && done < of {
                return Ok(());
            }
            Session::still_wished(&session.wish)?;
            teller.progress(done, of, session.given())
        };
        let folder = Path::new(FOLDER);
        let memory = Memory::of(folder, root_hash)?;
        let (source, releases) = (&session.source, &session.releases);
        let mut fetch = Fetch { source, releases, neighbours, folder, memory, tell: &tell };
        fetch.part(name, part, to, old).await
    }

    fn verify(&self, slot: Slot) -> Result<()> {
        let disk = self.device()?;
        let (root, tree) = &self.layout()?.slots[slot.0];
        let path =
            |number: u32| Ok::<_, anyhow::Error>(device(&disk, number)?.display().to_string());
        let (root, tree) = (path(root.number)?, path(tree.number)?);
        slot::forget(&root)?;
        slot::forget(&tree)?;
        let verified = slot::verify(&root, &tree, &self.next()?.root_hash);
        if verified.is_err() {
            // Whatever was claimed to be there is not.
            Memory::forget(Path::new(FOLDER))?;
        }
        verified.with_context(|| format!("what was written to {slot} is not the release"))
    }

    /// The system is fetched into /var, judged there, and copied onto the ESP.
    async fn stage(&mut self, version: &Version) -> Result<()> {
        let next = self.next()?.clone();
        let path = Path::new(FOLDER).join(SYSTEM);
        self.old_system()?;
        let reference = Path::new(FOLDER).join(format!("{SYSTEM}.old"));
        let running = self.offered()?;
        let old = reference.exists().then(|| Old {
            root_hash: running.root_hash.clone(),
            path: reference.clone(),
            size: running.uki.size,
        });
        let to = Place::file(&path)?;
        self.part((&next.root_hash, None), ("system", &next.uki), &to, old.as_ref()).await?;
        let file = std::fs::File::options().write(true).open(&path);
        let cut = file.and_then(|file| file.set_len(next.uki.size).and_then(|()| file.sync_all()));
        cut.with_context(|| format!("cannot write {}", path.display()))?;
        firmware::check(&Variables::here(), &path)?;
        self.on_esp(|esp| esp::stage(esp, version, &path))?;
        for path in [path, reference] {
            memory::remove(&path)?;
        }
        Memory::forget(Path::new(FOLDER))
    }

    /// The system that runs, as it was released, comes to where a delta can refer to it: the ESP is not mounted so long.
    fn old_system(&self) -> Result<()> {
        let to = Path::new(FOLDER).join(format!("{SYSTEM}.old"));
        let is_it = &self.offered()?.uki.sha256;
        let mut systems = self.disk()?.esp.systems.iter();
        let Some(found) = systems.find(|it| it.sha256 == *is_it && it.place == Where::Boot) else {
            return memory::remove(&to);
        };
        let file = Path::new("EFI/Linux").join(&found.file);
        self.on_esp(|esp| {
            let copied = std::fs::copy(esp.join(&file), &to);
            copied.map(drop).with_context(|| format!("cannot copy {}", file.display()))
        })
    }

    fn remember(&mut self, version: &Version) -> Result<()> {
        let limit = self.session.wish.trial.to_string();
        let arguments = ["remember", "--version", version.as_str(), "--limit", &limit];
        exec::run(GATE, &arguments).context("nobody would know whether it is as good as before")?;
        self.session.remembered = true;
        Ok(())
    }

    fn on_esp<T>(&self, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        self.machine.on_esp(&self.device()?, self.layout()?, Way::Write, work)
    }

    fn device(&self) -> Result<Device> {
        self.machine.disk()?.context("the node is not installed")
    }

    fn disk(&self) -> Result<&Disk> {
        self.observed.disk.as_ref().context("the node is not installed")
    }

    fn layout(&self) -> Result<&Layout> {
        Ok(&self.disk()?.layout)
    }

    fn running(&self) -> Result<&RootHash> {
        self.observed.running.as_ref().context("no root runs")
    }

    fn next(&self) -> Result<&Manifest> {
        let offer = self.session.offer.as_ref();
        offer.and_then(|offer| offer.next.as_ref()).context("the source was not looked at")
    }

    fn offered(&self) -> Result<&Manifest> {
        let Some(offer) = &self.session.offer else { bail!("the source was not looked at") };
        offer.running.as_ref().context("the source does not have what runs")
    }
}
