//! What is taken and what is not, in tables.

use std::fmt::Debug;

use serde::de::DeserializeOwned;

use super::*;

/// Texts as they stand in a YAML file.
fn table<T: DeserializeOwned + Debug>(good: &[&str], bad: &[&str]) {
    for text in good {
        let read = serde_yaml::from_str::<T>(text);
        assert!(read.is_ok(), "{text} was refused: {read:?}");
    }
    for text in bad {
        let read = serde_yaml::from_str::<T>(text);
        assert!(read.is_err(), "{text} was taken: {read:?}");
    }
}

#[test]
fn interfaces() {
    table::<IfName>(
        &["eth0", "enp3s0f0", "bond0.100", "a", "abcdefghijklmno"],
        &["''", "abcdefghijklmnop", "a/b", "'a b'", "'a:b'", ".", ".."],
    );
    table::<MacAddr>(
        &["52:54:00:12:34:56", "52-54-00-12-34-56", "AA:bb:cc:dd:ee:ff"],
        &["''", "52:54:00:12:34", "52:54:00:12:34:56:78", "5:54:00:12:34:56", "gg:54:00:12:34:56"],
    );
    table::<VlanId>(&["1", "4094"], &["0", "4095", "-1", "x"]);
    table::<Mtu>(&["1280", "1500", "65535"], &["1279", "65536"]);
    table::<PciPath>(
        &["'0000:03:00.1'", "10de:ff:1f.7"],
        &["'03:00.0'", "'0000:03:00.8'", "'0000:03:00:1'", "'0000:G3:00.1'", "'0000.03.00.1'"],
    );
    table::<DriverName>(&["ixgbe", "virtio_net"], &["''", "'a b'", "a/b"]);
}

#[test]
fn hosts() {
    table::<NodeName>(&["a", "hv-1", "n1"], &["''", "A", "-a", "a-", "a_b", "a.b"]);
    table::<DomainName>(&["lab", "a.b-c.d"], &["''", "a.", ".a", "a..b", "A.b"]);
    table::<Host>(
        &["10.0.0.1", "'fd00::1'", "ntp.example.net"],
        &["10.0.0.256", "''", "a b", "10.0.0"],
    );
    table::<Endpoint>(
        &["a:1", "10.0.0.1:514", "'[fd00::1]:514'"],
        &["a", "a:0", "a:65536", "'fd00::1:514'", "'[fd00::1]'", "'[fd00::1]x514'"],
    );
    table::<HttpUrl>(
        &["https://a.b/c", "http://10.0.0.1:8080", "https://[fd00::1]/x?y=z"],
        &[
            "a.b",
            "ftp://a",
            "https://",
            "https://me@a",
            "https://a b",
            "https://a/#x",
            "https://a:b/",
        ],
    );
}

#[test]
fn hardware() {
    table::<HardwareUuid>(
        &["4c4c4544-0035-5a10-8051-b9c04f4d3232"],
        &[
            "''",
            "4c4c4544",
            "4C4C4544-0035-5A10-8051-B9C04F4D3232",
            "4c4c4544-0035-5a10-8051-b9c04f4d323",
        ],
    );
    table::<HardwareSerial>(&["X1", "'A B'"], &["''", "' X'", "'X '"]);
    table::<DiskId>(&["nvme-eui.0025385b71b0a1b2"], &["''", "/dev/sda", "'a b'"]);
}

#[test]
fn units() {
    table::<Period>(
        &["0s", "30s", "500ms", "2h", "365d"],
        &["30", "s", "1.5s", "-1s", "1w", "366d", "1 s"],
    );
    table::<ByteSize>(
        &["0B", "8GiB", "900GB", "1TiB"],
        &["8", "8G", "8gib", "1.5GiB", "99999999TiB"],
    );
    table::<TimeOfDay>(&["'00:00'", "'23:59'"], &["'24:00'", "'1:00'", "'01:60'", "'0100'"]);
    table::<Count>(&["1", "65535"], &["0", "65536"]);
}

/// What is written is read again as the same, in the largest unit without a rest.
#[test]
fn units_are_written_as_they_are_read() {
    for text in ["0ms", "1500ms", "30s", "90s", "2m", "36h", "2d"] {
        assert_eq!(serde_yaml::from_str::<Period>(text).unwrap().to_string(), text);
    }
    for text in ["0B", "1536B", "900GB", "8GiB", "1TiB"] {
        assert_eq!(serde_yaml::from_str::<ByteSize>(text).unwrap().to_string(), text);
    }
}

#[test]
fn words_and_secrets() {
    table::<LabelKey>(&["rack", "a.b-c_1"], &["''", "1a", "A", "'a b'"]);
    table::<LabelValue>(&["r1", "R-1/2"], &["''", "'a b'", "ä"]);
    table::<SecretName>(&["bmc", "bgp-core-1"], &["''", "Hunter2!", "1a", "a_b"]);
    table::<Asn>(&["1", "64512", "4294967294"], &["0", "23456", "65535", "4294967295"]);
    table::<SshKey>(
        &[
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti me@host",
        ],
        &[
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "ssh-dss AAAAB3NzaC1kc3MAAACB",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
        ],
    );
    table::<NodeId>(&["1", "65535"], &["0", "65536"]);
}
