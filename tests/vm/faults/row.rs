//! One row: the node is brought to the fault, and watched until it rests.

use std::fmt;
use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use trilith_tests::machine::{BOOT, REACTION};
use trilith_tests::node::Node;
use trilith_tests::operator::sign_as_a_stranger;
use trilith_tests::uki::Uki;
use trilith_tests::upgrade::{self, ESP, Ended, Wish};

use super::bench::{Bench, Start};
use super::cases::{Case, Cut, Fault, File, System, When};
use crate::install::TARGET;

/// How a row came out.
pub(crate) struct Row {
    name: &'static str,
    secure_boot: bool,
    seconds: u64,
    outcome: Result<Outcome>,
}

/// Where the node rests.
struct Outcome {
    new: bool,
    /// What it says of the release.
    why: String,
}

impl Row {
    /// What the columns are.
    pub(crate) const HEAD: &'static str = "case                       Secure Boot  ended on  seconds  what the node says of the release";

    /// Runs it.
    pub(crate) fn run(bench: &Bench, case: &Case) -> Self {
        // Both halves of the matrix may speak at once.
        eprintln!("--- {}, Secure Boot {}", case.name, on_or_off(bench.secure_boot));
        let mut start = Instant::now();
        let outcome = outcome(bench, case, &mut start);
        let (name, secure_boot) = (case.name, bench.secure_boot);
        Self { name, secure_boot, seconds: start.elapsed().as_secs(), outcome }
    }

    /// Whether it came out as it should.
    pub(crate) fn is_right(&self) -> bool {
        self.outcome.is_ok()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, secure_boot, seconds, outcome } = self;
        write!(f, "{name:<26} {:<12} ", on_or_off(*secure_boot))?;
        match outcome {
            Ok(Outcome { new, why }) => {
                let ended = if *new { "new" } else { "old" };
                write!(f, "{ended:<9} {seconds:>7}  {why}")
            }
            Err(error) => write!(f, "WRONG     {seconds:>7}  {error:#}"),
        }
    }
}

fn on_or_off(secure_boot: bool) -> &'static str {
    if secure_boot { "on" } else { "off" }
}

/// `start` is set anew when the node leaves the old release, or is told what it cannot do.
fn outcome(bench: &Bench, case: &Case, start: &mut Instant) -> Result<Outcome> {
    let mut node = bench.node(case.start, case.name)?;
    node.console().until("it answers", REACTION, || upgrade::running(&node))?;
    *start = Instant::now();
    let ended = match &case.fault {
        Fault::None => {
            upgrade::wish(&node, &bench.wish(true)?)?;
            node.machine().wait_reset(upgrade::STAGING)?;
            *start = Instant::now();
            rest(bench, &node)?
        }
        Fault::File(file) => tried(bench, case, node, (broken_file(bench, *file)?, 3), start)?,
        Fault::System(system) => {
            let file = broken_system(bench, system)?;
            tried(bench, case, node, (Some(file), system.tries), start)?
        }
        Fault::Slot(script) => {
            spoil(bench, &node, script)?;
            let file = as_released(bench)?;
            tried(bench, case, node, (Some(file), 3), start)?
        }
        Fault::Refused(script, words) => {
            refused(bench, &node, script, words)?;
            rest(bench, &node)?
        }
        Fault::Cut(cut) => cut_off(bench, case.start, node, cut, start)?,
        Fault::Clock(clock) => {
            upgrade::wish(&node, &Wish { trial: case.limit(), ..bench.wish(true)? })?;
            node.machine().wait_reset(upgrade::STAGING)?;
            *start = Instant::now();
            let mut hardware = node.kill();
            hardware.spec.clock = Some(clock);
            rest(bench, &bench.switch_on(hardware, case.start)?)?
        }
    };
    judge(bench, case, &ended)
}

fn rest(bench: &Bench, node: &Node<'_>) -> Result<Ended> {
    upgrade::wait_rest(node, [&bench.old, &bench.new])
}

/// Whether that is where it should have ended, with the words that it should have.
fn judge(bench: &Bench, case: &Case, ended: &Ended) -> Result<Outcome> {
    let new = ended.running == bench.new.as_str();
    let why = ended.why(&bench.new).unwrap_or_default().to_owned();
    ensure!(case.ends.allows(new, bench.secure_boot), "it should not have ended there: {ended}");
    let tried = matches!(case.fault, Fault::File(_) | Fault::System(_) | Fault::Slot(_));
    ensure!(new || !tried || !why.is_empty(), "it does not know that the release has failed");
    ensure!(new || why.contains(case.why), "it says {why:?} of it, and nothing of {}", case.why);
    ensure!(!new || why.is_empty(), "a release that is proven is among those that failed: {why}");
    Ok(Outcome { new, why })
}

/// The name under which a file is served.
const SERVED: &str = "system.efi";

/// The system's file, broken; `None`: there is none.
fn broken_file(bench: &Bench, file: File) -> Result<Option<String>> {
    let system = bench.system()?;
    let path = bench.folder().join(SERVED);
    match file {
        File::Missing => return Ok(None),
        File::Truncated => fs::write(&path, &system[..system.len() / 2])?,
        File::Unsigned | File::Stranger => {
            fs::rename(Uki::parse(&system)?.build(bench.folder(), "unsigned.efi")?, &path)?;
        }
    }
    if file == File::Stranger {
        sign_as_a_stranger(&path)?;
    }
    Ok(Some(bench.broken.url() + "/" + SERVED))
}

fn as_released(bench: &Bench) -> Result<String> {
    fs::write(bench.folder().join(SERVED), bench.system()?)?;
    Ok(bench.broken.url() + "/" + SERVED)
}

/// What runs the script in the initrd, once root, /var and /etc are there.
const UNIT: &str = "[Unit]
Description=What is wrong with this release
DefaultDependencies=no
Requires=trilith-etc.service
After=trilith-etc.service
Before=initrd-root-fs.target initrd-parse-etc.service

[Service]
Type=oneshot
ExecStart=/bin/sh -eux /usr/lib/trilith/fault
TimeoutStartSec=infinity
StandardError=journal+console
";

/// How long an initrd on trial may take is too long to be waited for here.
const SOON: &str = "[Unit]\nJobTimeoutSec=3min\n";

/// The system, released and signed as any other, but broken.
fn broken_system(bench: &Bench, system: &System) -> Result<String> {
    let mut uki = Uki::parse(&bench.system()?)?;
    let line = uki.command_line()?;
    let words = line.split_whitespace().map(|word| match system.instead {
        Some((from, to)) if word.starts_with(from) => to,
        _ => word,
    });
    let words: Vec<&str> = words.chain(system.arguments.split_whitespace()).collect();
    uki.set_command_line(&words.join(" "));
    if !system.script.is_empty() {
        let units = "/usr/lib/systemd/system";
        let wanted = format!("{units}/initrd-root-fs.target.wants/fault.service");
        uki.link_in_initrd(&wanted, "../fault.service");
        uki.add_to_initrd(&format!("{units}/fault.service"), 0o644, UNIT);
        uki.add_to_initrd(&format!("{units}/initrd.target.d/90-fault.conf"), 0o644, SOON);
        uki.add_to_initrd("/usr/lib/trilith/fault", 0o755, system.script);
        uki.add_to_initrd("/usr/lib/trilith/fault.yaml", 0o600, bench.other_nic()?);
    }
    let built = uki.build(bench.folder(), "broken.efi")?;
    bench.operator.sign(&built)?;
    fs::rename(built, bench.folder().join(SERVED))?;
    Ok(bench.broken.url() + "/" + SERVED)
}

/// Activates a system, past all that the updater would look at, and waits until the machine rests.
fn tried(
    bench: &Bench,
    case: &Case,
    mut node: Node<'_>,
    (url, tries): (Option<String>, u32),
    start: &mut Instant,
) -> Result<Ended> {
    let limit = case.limit();
    let fetch = url.map(|url| {
        format!(
            "python3 -c 'import shutil, sys, urllib.request as u; \
             shutil.copyfileobj(u.urlopen(sys.argv[1]), open(sys.argv[2], \"wb\"))' \
             {url} '{ESP}/EFI/Linux/{}+{tries}.efi'",
            bench.new.label()
        )
    });
    let script = format!(
        "set -e; PATH=$PATH:/usr/lib/trilith; trilith-gate remember --version {} --limit {limit}; \
         rm -rf {ESP}/trilith/staged; {}; sync; umount {ESP}",
        bench.new,
        fetch.unwrap_or_else(|| ":".into())
    );
    upgrade::mount_esp(&node)?;
    node.ssh(&script).context("cannot activate it")?;
    let mark = node.console().mark();
    // The connection may go before the answer comes.
    let _answer = node.ssh("systemctl --no-block reboot");
    node.machine().wait_reset(REACTION)?;
    *start = Instant::now();
    let ended = rest(bench, &node)?;
    let said = node.console().since(mark);
    ensure!(said.contains(case.shows), "{:?} was never on the console: {ended}", case.shows);
    Ok(ended)
}

/// Spoils the slot of the new release.
fn spoil(bench: &Bench, node: &Node<'_>, script: &str) -> Result<()> {
    let hash = bench.operator.manifest(&bench.new)?.root_hash;
    let device = |uuid: String| format!("/dev/disk/by-partuuid/{uuid}");
    let (data, tree) = (device(hash.data()), device(hash.tree()));
    node.ssh(&format!("data={data} tree={tree}; {script}")).map(drop)
}

/// The wish is refused, or cannot be fulfilled, and nothing has changed.
fn refused(bench: &Bench, node: &Node<'_>, script: &str, words: &str) -> Result<()> {
    let before = upgrade::look(node)?;
    upgrade::mount_esp(node)?;
    node.ssh(&format!("{script}\nsync; umount {ESP}")).context("cannot fill it")?;
    upgrade::wish(node, &bench.wish(true)?)?;
    let why = upgrade::wait_refused(node, &bench.new, words)?;
    eprintln!("refused: {why}");
    let after = upgrade::look(node)?;
    ensure!(after == before, "before: {before}, after: {after}");
    Ok(())
}

/// Has the power fail at that moment, and come back at once.
fn cut_off(
    bench: &Bench,
    from: Start,
    mut node: Node<'_>,
    cut: &Cut,
    start: &mut Instant,
) -> Result<Ended> {
    let said = "sh -c 'journalctl --follow --lines=0 --output=cat --unit=trilith-update \
                --unit=trilith-gate > /dev/ttyS0'";
    node.ssh(&format!("systemd-run --quiet --collect --unit=test-watch {said}"))?;
    let mark = node.console().mark();
    let before = node.machine().written_to(TARGET)?;
    upgrade::wish(&node, &bench.wish(cut.activate)?)?;
    match cut.when {
        When::Wished => {}
        When::Says(words) => {
            node.console().wait_after(mark, words, upgrade::STAGING)?;
        }
        When::Staged => upgrade::wait_staged(&node, &bench.new)?,
        When::Restarted(words) => {
            node.machine().wait_reset(upgrade::STAGING)?;
            let mark = node.console().mark();
            node.console().wait_after(mark, words, BOOT)?;
        }
        When::Proven => proven(&mut node)?,
    }
    if cut.more > 0 {
        let since =
            if cut.when == When::Wished { before } else { node.machine().written_to(TARGET)? };
        wait_written(&mut node, since + (cut.more << 20))?;
    }
    let hardware = node.kill();
    *start = Instant::now();
    rest(bench, &bench.switch_on(hardware, from)?)
}

/// Waits for the gate's word, and not for what it does then.
fn proven(node: &mut Node<'_>) -> Result<()> {
    node.machine().wait_reset(upgrade::STAGING)?;
    node.console().until("the gate calls it proven", BOOT, || {
        let stand = node.ssh("cat /run/trilith-gate/state.yaml")?;
        ensure!(stand.contains("stand: proven"), "{stand}");
        Ok(())
    })
}

fn wait_written(node: &mut Node<'_>, bytes: u64) -> Result<()> {
    let console = node.console().clone();
    console.until("more is written", upgrade::STAGING, || {
        let written = node.machine().written_to(TARGET)?;
        if written < bytes {
            bail!("{written} bytes of {bytes}");
        }
        Ok(())
    })
}
