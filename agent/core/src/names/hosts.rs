//! What hosts are called and how they are reached.

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BadValue, require, text_value};

text_value! {
    /// A node's name, its short host name: one DNS label in lower case (RFC 1123, 2.1).
    NodeName, |name| require(
        is_label(name),
        "a node name is 1 to 63 of a-z, 0-9 and '-', and neither begins nor ends with '-'",
    )
}

text_value! {
    /// The cluster's name: one DNS label in lower case. It is also the Patroni scope.
    ClusterName, |name| require(
        is_label(name),
        "a cluster name is 1 to 63 of a-z, 0-9 and '-', and neither begins nor ends with '-'",
    )
}

text_value! {
    /// A DNS domain in lower case without the final dot (RFC 1035, 2.3.4: at most 253 bytes).
    DomainName, |name| require(
        is_domain(name),
        "a domain is labels of a-z, 0-9 and '-' joined by dots, such as lab.example.net",
    )
}

text_value! {
    /// An HTTP or HTTPS address without user, password or fragment.
    HttpUrl, |url| check_url(url)
}

fn is_label(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len())
        && name.chars().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_domain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

fn check_url(url: &str) -> Result<(), &'static str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let rest = rest.ok_or("a URL begins with https:// or http://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    require(!authority.contains('@'), "a URL in the cluster file has no user and no password")?;
    require(!url.contains('#'), "a URL here has no fragment ('#…')")?;
    require(url.chars().all(|c| c.is_ascii_graphic()), "a URL has no blanks; write them as %20")?;
    let known = split_port(authority).is_some_and(|(host, _)| parse_host(host).is_ok());
    require(known, "a URL has a host and at most a port, such as https://os.example.net:8443/path")
}

/// A host given by address or by name.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
    /// A DNS name.
    Name(DomainName),
}

const HOST_RULE: &str = "a host is an IPv4 or IPv6 address or a DNS name in lower case";

fn parse_host(text: &str) -> Result<Host, BadValue> {
    if let Ok(address) = text.parse() {
        return Ok(Host::Address(address));
    }
    // 10.0.0.300 is a well-formed DNS name, but nobody means it as one.
    let numeric = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    if numeric {
        return Err(BadValue(HOST_RULE.to_owned()));
    }
    let name = DomainName::try_from(text.to_owned()).map_err(|_| BadValue(HOST_RULE.to_owned()))?;
    Ok(Host::Name(name))
}

impl TryFrom<String> for Host {
    type Error = BadValue;

    fn try_from(text: String) -> Result<Self, BadValue> {
        parse_host(&text)
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.to_string()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// A host and a port, written `host:port` or `[v6 address]:port`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    /// Where it listens.
    pub host: Host,
    /// The TCP or UDP port, never 0.
    pub port: u16,
}

/// Splits `host`, `host:port`, `[v6]` and `[v6]:port`; `None` if the port is not 1 to 65535.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    match port.map(str::parse::<u16>) {
        None => Some((host, None)),
        Some(Ok(port)) if port > 0 => Some((host, Some(port))),
        Some(_) => None,
    }
}

impl TryFrom<String> for Endpoint {
    type Error = BadValue;

    fn try_from(text: String) -> Result<Self, BadValue> {
        let rule = "an endpoint is host:port, such as logs.example.net:514 or [fd00::1]:514";
        match split_port(&text) {
            Some((host, Some(port))) => Ok(Self { host: parse_host(host)?, port }),
            _ => Err(BadValue(rule.to_owned())),
        }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}
