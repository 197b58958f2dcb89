use super::*;

const STATUS: &str = "\
Package: zlib1g
Status: install ok installed
Architecture: amd64
Source: zlib
Version: 1:1.3.dfsg+really1.3.1-1+b1
Description: compression library
 Version: of a continuation line, not a field

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2.37-2
";

const CRATES: &str = "\
trilith-agent v0.1.0 (/src/agent)|Apache-2.0 OR MIT
libc v0.2.180|MIT OR Apache-2.0
serde_derive v1.0.228 (proc-macro)|MIT OR Apache-2.0
libc v0.2.180|MIT OR Apache-2.0 (*)
";

fn inputs() -> Inputs<'static> {
    Inputs { name: "trilith", version: "1.2.3", epoch: 86_400, status: STATUS, crates: CRATES }
}

#[test]
fn packages_are_the_installed_ones_sorted() {
    let packages = packages(STATUS);
    assert_eq!(
        package_list(&packages),
        "bash 5.2.37-2 amd64\nzlib1g 1:1.3.dfsg+really1.3.1-1+b1 amd64\n"
    );
    assert_eq!(packages[1].source, "zlib");
}

#[test]
fn every_part_is_listed_once_and_contained_in_the_image() {
    let document: Value = serde_json::from_str(&spdx(&inputs())).unwrap();
    let ids: Vec<_> =
        document["packages"].as_array().unwrap().iter().map(|p| &p["SPDXID"]).collect();
    let expected = [
        "SPDXRef-image",
        "SPDXRef-deb-bash-amd64",
        "SPDXRef-deb-zlib1g-amd64",
        "SPDXRef-cargo-libc-0.2.180",
        "SPDXRef-cargo-serde-derive-1.0.228",
        "SPDXRef-cargo-trilith-agent-0.1.0",
    ];
    assert_eq!(ids, expected);
    assert_eq!(document["relationships"].as_array().unwrap().len(), expected.len());
    assert_eq!(document["creationInfo"]["created"], "1970-01-02T00:00:00Z");
}

#[test]
fn package_urls_are_encoded() {
    let document: Value = serde_json::from_str(&spdx(&inputs())).unwrap();
    assert_eq!(
        document["packages"][2]["externalRefs"][0]["referenceLocator"],
        "pkg:deb/debian/zlib1g@1%3A1.3.dfsg%2Breally1.3.1-1%2Bb1?arch=amd64&distro=debian-13"
    );
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    assert_eq!(spdx(&inputs()), spdx(&inputs()));
}
