//! Names of units and of templates of units.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::{BadValue, NodeName};

/// The full name of a systemd unit, such as `ceph-osd@3.service`: at most 255 characters of letters, digits and
/// `:-_.\@`, with a type after the last dot (systemd.unit(5)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(Cow<'static, str>);

/// The name of a template, such as `ceph-osd@.service`, of which a unit is made for each instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template(Cow<'static, str>);

impl UnitName {
    /// A name that is known when the agent is built: `const SSH: UnitName = UnitName::fixed("ssh.service")`.
    /// A wrong one does not compile.
    ///
    /// # Panics
    ///
    /// Of a wrong name, if it is called at run time.
    pub const fn fixed(name: &'static str) -> Self {
        assert!(is_unit_name(name.as_bytes()), "no name of a unit");
        Self(Cow::Borrowed(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What kind of unit it is: `service`, `socket`, `slice`, …
    pub fn kind(&self) -> &str {
        self.as_str().rsplit_once('.').map_or("", |(_, kind)| kind)
    }

    /// The template that it is an instance of, and which one.
    pub fn template(&self) -> Option<(Template, &str)> {
        let (stem, kind) = self.0.rsplit_once('.')?;
        let (prefix, instance) = stem.split_once('@')?;
        (!instance.is_empty())
            .then(|| (Template(Cow::Owned(format!("{prefix}@.{kind}"))), instance))
    }
}

impl Template {
    /// A name that is known when the agent is built. A wrong one does not compile.
    ///
    /// # Panics
    ///
    /// Of a wrong name, if it is called at run time.
    pub const fn fixed(name: &'static str) -> Self {
        assert!(is_template_name(name.as_bytes()), "no name of a template");
        Self(Cow::Borrowed(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The unit of this instance.
    pub fn instance(&self, name: &str) -> Result<UnitName, BadValue> {
        if name.is_empty() {
            return Err(BadValue("the name of an instance is not empty".into()));
        }
        UnitName::try_from(self.with(name))
    }

    /// The unit of the instance that has the node's name, as Ceph's monitors and managers have. A node name is
    /// short and made of letters, digits and dashes, so that this is always a name.
    pub fn of_node(&self, node: &NodeName) -> UnitName {
        UnitName(Cow::Owned(self.with(node.as_str())))
    }

    fn with(&self, instance: &str) -> String {
        self.0.replacen("@.", &format!("@{instance}."), 1)
    }
}

/// The rule, usable while compiling: hence bytes and a loop.
const fn is_unit_name(name: &[u8]) -> bool {
    if name.len() > 255 {
        return false;
    }
    let mut dot = None;
    let mut at = 0;
    while at < name.len() {
        let c = name[at];
        let mark = matches!(c, b':' | b'-' | b'_' | b'.' | b'\\' | b'@');
        if !(c.is_ascii_alphanumeric() || mark) {
            return false;
        }
        if c == b'.' {
            dot = Some(at);
        }
        at += 1;
    }
    match dot {
        None | Some(0) => false,
        Some(dot) => is_unit_type(name.split_at(dot + 1).1),
    }
}

const fn is_unit_type(kind: &[u8]) -> bool {
    matches!(
        kind,
        b"service"
            | b"socket"
            | b"device"
            | b"mount"
            | b"automount"
            | b"swap"
            | b"target"
            | b"path"
            | b"timer"
            | b"slice"
            | b"scope"
    )
}

const fn is_template_name(name: &[u8]) -> bool {
    let mut at = 0;
    while at + 1 < name.len() {
        if name[at] == b'@' {
            return at > 0 && name[at + 1] == b'.' && is_unit_name(name);
        }
        at += 1;
    }
    false
}

impl TryFrom<String> for UnitName {
    type Error = BadValue;

    fn try_from(name: String) -> Result<Self, BadValue> {
        if !is_unit_name(name.as_bytes()) || is_template_name(name.as_bytes()) {
            let rule = "a unit name is like ssh.service: letters, digits, ':-_.\\@' and a type";
            return Err(BadValue(rule.into()));
        }
        Ok(Self(Cow::Owned(name)))
    }
}

impl TryFrom<String> for Template {
    type Error = BadValue;

    fn try_from(name: String) -> Result<Self, BadValue> {
        if !is_template_name(name.as_bytes()) {
            return Err(BadValue("a template's name is like ceph-osd@.service".into()));
        }
        Ok(Self(Cow::Owned(name)))
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> Self {
        name.0.into_owned()
    }
}

impl From<Template> for String {
    fn from(name: Template) -> Self {
        name.0.into_owned()
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
