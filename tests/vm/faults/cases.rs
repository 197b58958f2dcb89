//! Every fault: how it is made, and where the node ends.

use super::bench::Start;

/// A row of the matrix.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) start: Start,
    pub(crate) fault: Fault,
    /// Where the node rests in the end.
    pub(crate) ends: Ends,
    /// What it says of the release then, in part. Nothing: whatever it says.
    pub(crate) why: &'static str,
    /// What was on the console, so that the fault is seen to have been there.
    pub(crate) shows: &'static str,
}

/// What is wrong.
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The new system's file.
    File(File),
    /// What the new system does: it is as it was released in all else, and signed.
    System(System),
    /// This was done to the new release's slot, by a script that knows `$data` and `$tree`.
    Slot(&'static str),
    /// This was done to the node before the release was wished for, which is refused with these words.
    Refused(&'static str, &'static str),
    /// The power goes while the release comes.
    Cut(Cut),
    /// The clock shows this in the new release's first boot.
    Clock(&'static str),
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum File {
    Unsigned,
    Stranger,
    Truncated,
    Missing,
}

/// A system that is broken.
pub(crate) struct System {
    /// Kernel arguments behind its own.
    pub(crate) arguments: &'static str,
    /// Arguments that begin with this are another one, where it is given.
    pub(crate) instead: Option<(&'static str, &'static str)>,
    /// What is done in the initrd when root and /var are there; nothing is done if it is empty.
    pub(crate) script: &'static str,
    /// How often it is tried: where each try takes minutes, one shows what three would.
    pub(crate) tries: u32,
}

/// When the power goes.
pub(crate) struct Cut {
    /// Whether the release is wished to be started as well.
    pub(crate) activate: bool,
    pub(crate) when: When,
    /// And when so many MiB more are on the disk.
    pub(crate) more: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// The wish is there.
    Wished,
    /// The updater, or the gate, has said this in the journal.
    Says(&'static str),
    /// The release has been staged.
    Staged,
    /// The machine has restarted, and says this on its console.
    Restarted(&'static str),
    /// The gate calls the release proven.
    Proven,
}

/// Where a node rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    Old,
    New,
    /// On the old one where signatures are checked, else it is none.
    OldIfSigned,
    /// On either: the release is not at fault, and the node is whole on both.
    Either,
}

impl Ends {
    /// Whether that is where it should rest.
    pub(crate) fn allows(self, new: bool, secure_boot: bool) -> bool {
        match self {
            Self::Old => !new,
            Self::New => new,
            Self::OldIfSigned => new != secure_boot,
            Self::Either => true,
        }
    }
}

/// The seconds that a boot may take to prove itself, where nobody says otherwise.
pub(crate) const LIMIT: u64 = 900;
/// The same where it will not.
const SHORT_LIMIT: u64 = 150;
/// The same where a try may well end without proof: in 2038 no certificate holds, and libvirt does not start with one.
const CLOCK_LIMIT: u64 = 300;
/// The same of a coordinator, whose services take that long to come up.
const FORMED_LIMIT: u64 = 420;

impl Case {
    /// The seconds that the new release has to prove itself.
    pub(crate) fn limit(&self) -> u64 {
        match (&self.fault, self.start) {
            (Fault::System(_) | Fault::Slot(_), Start::Formed) => FORMED_LIMIT,
            (Fault::System(_) | Fault::Slot(_), _) => SHORT_LIMIT,
            (Fault::Clock(_), _) => CLOCK_LIMIT,
            _ => LIMIT,
        }
    }
}

fn case(name: &'static str, fault: Fault, ends: Ends) -> Case {
    Case { name, start: Start::Staged, fault, ends, why: "", shows: "" }
}

/// Quickly over, so that all tries are made.
fn quick(arguments: &'static str, script: &'static str) -> Fault {
    Fault::System(System { arguments, instead: None, script, tries: 3 })
}

/// Not noticed before its time is over.
fn slow(arguments: &'static str, script: &'static str) -> Fault {
    Fault::System(System { arguments, instead: None, script, tries: 1 })
}

fn cut(name: &'static str, when: When, ends: Ends) -> Case {
    let before = matches!(when, When::Staged) || name.starts_with("cut: fetch");
    let start = if ends == Ends::Old { Start::Plain } else { Start::Staged };
    Case { start, ..case(name, Fault::Cut(Cut { activate: !before, when, more: 0 }), ends) }
}

fn after(mib: u64, mut case: Case) -> Case {
    if let Fault::Cut(cut) = &mut case.fault {
        cut.more = mib;
    }
    case
}

fn saying(why: &'static str, case: Case) -> Case {
    Case { why, ..case }
}

fn showing(shows: &'static str, case: Case) -> Case {
    Case { shows, ..case }
}

fn from(start: Start, case: Case) -> Case {
    Case { start, ..case }
}

/// All of them, in the order of an upgrade.
pub(crate) fn cases() -> Vec<Case> {
    let mut all = vec![
        case("no fault", Fault::None, Ends::New),
        from(Start::Formed, case("no fault: all quorums", Fault::None, Ends::New)),
    ];
    all.extend(node());
    all.extend(system());
    all.extend(services());
    all.extend(cuts());
    all
}

/// The node has no room.
fn node() -> Vec<Case> {
    vec![
        from(Start::Plain, case("ESP full", Fault::Refused(FILL_ESP, "are free"), Ends::Old)),
        // It is staged: what is missing is room to write down what the node is part of.
        case("/var full", Fault::Refused(FILL_VAR, "No space left"), Ends::Old),
        from(
            Start::Plain,
            case("/var: no room", Fault::Refused(CROWD_VAR, "make room"), Ends::Old),
        ),
    ]
}

/// The new system does not come up.
fn system() -> Vec<Case> {
    let nowhere = ("roothash=", NO_ROOT);
    let no_root = System { arguments: "", instead: Some(nowhere), script: "", tries: 1 };
    let file = |name, file, ends| saying(NO_WORD, case(name, Fault::File(file), ends));
    let silent = |shows, case| saying(NO_WORD, showing(shows, case));
    vec![
        file("UKI unsigned", File::Unsigned, Ends::OldIfSigned),
        file("UKI signed by a stranger", File::Stranger, Ends::OldIfSigned),
        file("UKI truncated", File::Truncated, Ends::Old),
        saying("no longer", case("UKI missing", Fault::File(File::Missing), Ends::Old)),
        silent(
            "Kernel panic",
            case("kernel panics", quick("rdinit=/none init=/none", ""), Ends::Old),
        ),
        silent(
            "this boot has failed",
            case("initrd finds no root", Fault::System(no_root), Ends::Old),
        ),
        silent("+ sleep", case("initrd hangs", slow("", "sleep infinity"), Ends::Old)),
        silent("is corrupted", case("verity: hash tree", Fault::Slot(SPOIL_TREE), Ends::Old)),
        silent("is corrupted", case("verity: a block", Fault::Slot(SPOIL_BLOCK), Ends::Old)),
        // It says nothing more on a console that is not the kernel's own. The gate may have said something before.
        showing("Started fault.service", case("PID 1 crashes", quick("", CRASH), Ends::Old)),
        saying("boot:", case("unit hangs", slow("", HANG), Ends::Old)),
        case("clock at 1970", Fault::Clock("1970-01-01T00:00:00"), Ends::Either),
        case("clock at 2038", Fault::Clock("2038-01-19T03:14:00"), Ends::Either),
    ]
}

/// The new system comes up, and is not what the node was before.
fn services() -> Vec<Case> {
    let formed = |case| from(Start::Formed, case);
    let no_driver = slow("module_blacklist=virtio_net", "");
    vec![
        saying("agent", case("agent missing", slow("", NO_AGENT), Ends::Old)),
        saying("agent", case("agent crashes", slow("", AGENT_CRASHES), Ends::Old)),
        saying("agent", case("agent hangs", slow("", AGENT_HANGS), Ends::Old)),
        saying("network", case("network: no driver", no_driver, Ends::Old)),
        saying("network", case("network: wrong NIC", slow("", OTHER_NIC), Ends::Old)),
        saying("libvirt", case("libvirt does not start", slow("", NO_LIBVIRT), Ends::Old)),
        saying("zookeeper", formed(case("quorum not rejoined", slow("", NO_ZOOKEEPER), Ends::Old))),
        saying("osds", formed(case("OSD does not start", slow("", NO_OSD), Ends::Old))),
    ]
}

/// The power goes.
fn cuts() -> Vec<Case> {
    use When::{Proven, Restarted, Says, Staged, Wished};
    vec![
        after(1, cut("cut: fetch begins", Wished, Ends::Old)),
        after(700, cut("cut: fetch half done", Wished, Ends::Old)),
        cut("cut: fetched and read back", Says("read slot"), Ends::Old),
        cut("cut: slot named", Says("name slot"), Ends::Old),
        cut("cut: system staged", Says("stage the system"), Ends::Old),
        after(40, cut("cut: system half staged", Says("stage the system"), Ends::Old)),
        cut("cut: staged", Staged, Ends::Old),
        cut("cut: written down", Says("written down"), Ends::Either),
        cut("cut: activation", Says("activate"), Ends::Either),
        after(40, cut("cut: half activated", Says("activate"), Ends::Either)),
        cut("cut: about to reboot", Says("reboot"), Ends::New),
        cut("cut: boot loader", Restarted("BdsDxe: starting Boot"), Ends::New),
        cut("cut: initrd", Restarted("Running in initrd"), Ends::New),
        cut("cut: on trial", Restarted("trilithd: network converged"), Ends::New),
        cut("cut: blessed", Proven, Ends::New),
    ]
}

/// What is said of a release that was never up for long enough.
const NO_WORD: &str = "never got so far";

/// A root that nobody has.
const NO_ROOT: &str = "roothash=0000000000000000000000000000000000000000000000000000000000000000";

/// Leaves a few MiB.
const FILL_ESP: &str = r"set -e
    free=$(df --output=avail --block-size=1M /run/test-esp | tail -n 1)
    dd if=/dev/zero of=/run/test-esp/fill bs=1M count=$((free - 8)) status=none";

/// Leaves less than a system.
const CROWD_VAR: &str = r"set -e
    free=$(($(stat -f -c '%a*%S' /var)))
    fallocate -l $((free - (32 << 20))) /var/fill";

/// Leaves nothing, not even what only root may use.
const FILL_VAR: &str = r#"size=$(($(stat -f -c '%f*%S' /var))) number=0
    while [ "$size" -gt 2048 ]; do
        fallocate -l "$size" "/var/fill.$number" 2> /dev/null || size=$((size / 2))
        number=$((number + 1))
    done"#;

/// The block below the superblock is the root of the tree.
const SPOIL_TREE: &str =
    "dd if=/dev/urandom of=$tree bs=4096 seek=1 count=1 conv=notrunc,fsync status=none";
/// The root's first block has its superblock in it.
const SPOIL_BLOCK: &str =
    "dd if=/dev/urandom of=$data bs=4096 count=1 conv=notrunc,fsync status=none";

/// Something else, or nothing, in the place of a program: the root itself cannot be changed. What is written before this to
/// the folder is what is there then.
macro_rules! in_place_of_the_agent {
    ($what:literal) => {
        concat!(
            "mkdir -p /run/fault/upper /run/fault/work\n",
            $what,
            "\nmount -t overlay fault /sysroot/usr/bin -o ",
            "lowerdir=/sysroot/usr/bin,upperdir=/run/fault/upper,workdir=/run/fault/work"
        )
    };
}

const NO_AGENT: &str = in_place_of_the_agent!("mknod /run/fault/upper/trilithd c 0 0");
const AGENT_CRASHES: &str = in_place_of_the_agent!(
    "printf '#!/bin/sh\\nkill -SEGV $$\\n' > /run/fault/upper/trilithd
    chmod 755 /run/fault/upper/trilithd"
);
/// It says that it is ready, and then nothing any more.
const AGENT_HANGS: &str = in_place_of_the_agent!(
    "printf '#!/bin/sh\\nexec systemd-notify --ready --exec \";\" sleep infinity\\n' > /run/fault/upper/trilithd
    chmod 755 /run/fault/upper/trilithd"
);

/// The first bundle that a node looks for is one of the same cluster, with a NIC that the machine has not got.
const OTHER_NIC: &str = "mkdir -m 0711 -p /run/trilith
    cp /usr/lib/trilith/fault.yaml /run/trilith/bundle.yaml
    chmod 600 /run/trilith/bundle.yaml";

const NO_LIBVIRT: &str = "mkdir -p /run/systemd/system
    ln -s /dev/null /run/systemd/system/libvirtd.service";
const NO_ZOOKEEPER: &str = "mkdir -p /run/systemd/system
    ln -s /dev/null /run/systemd/system/zookeeper.service";
/// Not its number, which nobody knows here, but all of them.
const NO_OSD: &str = "mkdir -p /run/systemd/system/ceph-osd@.service.d
    printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\n' > /run/systemd/system/ceph-osd@.service.d/fault.conf";

/// In the middle of the boot, by what no program catches.
const CRASH: &str = "mkdir -p /run/systemd/system/multi-user.target.wants
    printf '[Service]\\nExecStart=/bin/sh -c \"kill -SEGV 1\"\\n' > /run/systemd/system/fault.service
    ln -s ../fault.service /run/systemd/system/multi-user.target.wants/fault.service";

/// The boot waits for it, and nothing else is wrong.
const HANG: &str = "mkdir -p /run/systemd/system/multi-user.target.wants
    printf '[Unit]\\nBefore=multi-user.target\\n[Service]\\nType=oneshot\\nTimeoutStartSec=infinity\\nExecStart=sleep infinity\\n' \\
        > /run/systemd/system/fault.service
    ln -s ../fault.service /run/systemd/system/multi-user.target.wants/fault.service";
