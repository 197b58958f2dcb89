//! What a support bundle holds beyond status, journal, network and disks: what programs say and files hold. Files that
//! are there to keep secrets are not among them, and what is read is cleaned of secrets by who asked.

/// Where a part comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// What a program writes to its output.
    Program(&'static str, &'static [&'static str]),
    /// A file.
    File(&'static str),
}

use Source::{File, Program};

/// Every part by the name of its file in the bundle.
const PARTS: [(&str, Source); 27] = [
    ("journal.txt", Program("journalctl", &journal(["--boot=0", "--lines=20000"]))),
    ("journal-before.txt", Program("journalctl", &journal(["--boot=-1", "--lines=5000"]))),
    ("boots.txt", Program("journalctl", &["--list-boots", "--no-pager"])),
    ("units.txt", Program("systemctl", &["list-units", "--all", "--plain", "--no-pager"])),
    ("failed.txt", Program("systemctl", &["status", "--failed", "--lines=50", "--no-pager"])),
    ("jobs.txt", Program("systemctl", &["list-jobs", "--no-pager"])),
    ("addresses.txt", Program("ip", &["-details", "-statistics", "address"])),
    ("routes.txt", Program("ip", &["route", "show", "table", "all"])),
    ("routes6.txt", Program("ip", &["-6", "route", "show", "table", "all"])),
    ("neighbours.txt", Program("ip", &["neighbour"])),
    ("sockets.txt", Program("ss", &["--all", "--numeric", "--tcp", "--udp"])),
    ("firewall.txt", Program("nft", &["list", "ruleset"])),
    ("bgp.txt", Program("vtysh", &["-c", "show bgp summary", "-c", "show bfd peers brief"])),
    ("time.txt", Program("chronyc", &["-n", "tracking"])),
    ("time-sources.txt", Program("chronyc", &["-n", "sources"])),
    (
        "block.txt",
        Program("lsblk", &["--bytes", "--output", "NAME,SIZE,TYPE,FSTYPE,PARTLABEL,MOUNTPOINTS"]),
    ),
    ("mounts.txt", File("/proc/self/mounts")),
    ("memory.txt", File("/proc/meminfo")),
    ("load.txt", File("/proc/loadavg")),
    ("pressure-memory.txt", File("/proc/pressure/memory")),
    ("pressure-io.txt", File("/proc/pressure/io")),
    ("cmdline.txt", File("/proc/cmdline")),
    ("version.txt", File("/proc/version")),
    ("os-release.txt", File("/etc/os-release")),
    ("ceph.conf", File("/etc/ceph/ceph.conf")),
    ("zoo.cfg", File("/etc/zookeeper/zoo.cfg")),
    ("frr.conf", File("/etc/frr/frr.conf")),
];

const fn journal(more: [&'static str; 2]) -> [&'static str; 5] {
    ["--output=short-iso-precise", "--no-pager", "--quiet", more[0], more[1]]
}

/// The names of all parts.
pub(crate) fn names() -> Vec<&'static str> {
    PARTS.iter().map(|(name, _)| *name).collect()
}

/// Where this part comes from.
pub(crate) fn part(name: &str) -> Option<Source> {
    PARTS.iter().find(|(part, _)| *part == name).map(|(_, source)| *source)
}
