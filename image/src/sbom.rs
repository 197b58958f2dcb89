//! What is in an image, for people and for scanners: the package list and the SBOM (SPDX 2.3, JSON).

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

/// What an SBOM is made from, as text, so that the same inputs give the same bytes.
pub(crate) struct Inputs<'a> {
    /// The image's name and version, as in its file names.
    pub(crate) name: &'a str,
    /// The image's version.
    pub(crate) version: &'a str,
    /// Seconds since 1970-01-01 UTC: `SOURCE_DATE_EPOCH`.
    pub(crate) epoch: u64,
    /// The image's dpkg status file (dpkg(1), `/var/lib/dpkg/status`).
    pub(crate) status: &'a str,
    /// What `cargo tree --prefix none --edges normal --format '{p}|{l}'` says of the agent.
    pub(crate) crates: &'a str,
}

/// A Debian package that is installed in the image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    /// Its name, without the architecture.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Its architecture: `amd64` or `all`.
    pub(crate) arch: String,
    /// The source package it is built from; scanners match advisories by it.
    pub(crate) source: String,
}

/// The installed packages in a dpkg status file, sorted by name.
pub(crate) fn packages(status: &str) -> Vec<Package> {
    let mut packages: Vec<_> = status.split("\n\n").filter_map(package).collect();
    packages.sort();
    packages
}

fn package(paragraph: &str) -> Option<Package> {
    let field = |name: &str| {
        let line = paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    };
    if field("Status")? != "install ok installed" {
        return None;
    }
    let name = field("Package")?;
    // `Source: name (version)` carries a version only where it differs from the package's own.
    let source = field("Source").and_then(|text| text.split(' ').next()).unwrap_or(name);
    Some(Package {
        name: name.into(),
        version: field("Version")?.into(),
        arch: field("Architecture")?.into(),
        source: source.into(),
    })
}

/// One line a package: name, version, architecture.
pub(crate) fn package_list(packages: &[Package]) -> String {
    let mut list = String::new();
    for package in packages {
        list.extend([&package.name, " ", &package.version, " ", &package.arch, "\n"]);
    }
    list
}

/// The SBOM as SPDX 2.3 JSON (<https://spdx.github.io/spdx-spec/v2.3/>).
pub(crate) fn spdx(inputs: &Inputs<'_>) -> String {
    let Inputs { name, version, epoch, status, crates } = inputs;
    let mut parts: Vec<Value> = packages(status).iter().map(debian_part).collect();
    let mut crates: Vec<_> = crates.lines().filter_map(crate_part).collect();
    crates.sort_by_key(|part| part["SPDXID"].to_string());
    crates.dedup();
    parts.extend(crates);
    let relationships: Vec<Value> = std::iter::once(relationship("DOCUMENT", "DESCRIBES", "image"))
        .chain(parts.iter().filter_map(|p| Some(contains(p["SPDXID"].as_str()?))))
        .collect();
    parts.insert(0, image_part(name, version));
    let created = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(*epoch));
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("{name}_{version}"),
        "documentNamespace": format!("urn:trilith:sbom:{name}:{version}:{epoch}"),
        "creationInfo": { "created": created.to_string(), "creators": ["Tool: trilith"] },
        "packages": parts,
        "relationships": relationships,
    });
    format!("{document:#}\n")
}

fn relationship(from: &str, kind: &str, to: &str) -> Value {
    json!({
        "spdxElementId": format!("SPDXRef-{from}"),
        "relationshipType": kind,
        "relatedSpdxElement": format!("SPDXRef-{to}"),
    })
}

fn contains(spdx_id: &str) -> Value {
    relationship("image", "CONTAINS", spdx_id.trim_start_matches("SPDXRef-"))
}

fn image_part(name: &str, version: &str) -> Value {
    json!({
        "SPDXID": "SPDXRef-image",
        "name": name,
        "versionInfo": version,
        "primaryPackagePurpose": "OPERATING-SYSTEM",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
    })
}

fn debian_part(package: &Package) -> Value {
    let Package { name, version, arch, source } = package;
    let purl =
        format!("pkg:deb/debian/{}@{}?arch={arch}&distro=debian-13", purl(name), purl(version));
    json!({
        "SPDXID": spdx_id("deb", name, arch),
        "name": name,
        "versionInfo": version,
        "supplier": "Organization: Debian",
        "sourceInfo": format!("built from the Debian source package {source}"),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "externalRefs": [reference(&purl)],
    })
}

/// A line of `cargo tree`: `name v1.2.3[ (path or "proc-macro")]|licence`, with ` (*)` after repeated ones.
fn crate_part(line: &str) -> Option<Value> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    let licence = licence.trim_end_matches(" (*)").replace('/', " OR ");
    Some(json!({
        "SPDXID": spdx_id("cargo", name, version),
        "name": name,
        "versionInfo": version,
        "licenseDeclared": if licence.is_empty() { "NOASSERTION" } else { licence.as_str() },
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "externalRefs": [reference(&format!("pkg:cargo/{}@{}", purl(name), purl(version)))],
    }))
}

fn reference(purl: &str) -> Value {
    json!({
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": purl,
    })
}

/// SPDX identifiers hold letters, digits, `.` and `-` only (SPDX 2.3, 7.2).
fn spdx_id(kind: &str, name: &str, rest: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let text = format!("{kind}-{name}-{rest}");
    let text: String = text.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    format!("SPDXRef-{text}")
}

/// Percent-encodes what the package URL specification wants encoded in names and versions.
fn purl(text: &str) -> String {
    let mut url = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => {
                url.push(byte.into());
            }
            // Writing to a `String` cannot fail.
            _ => _ = write!(url, "%{byte:02X}"),
        }
    }
    url
}

#[cfg(test)]
mod tests;
