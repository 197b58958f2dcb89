//! Text → one tree of values with their places. What is wrong here ends the reading: a text that is not
//! one plain YAML document has no keys and values to judge.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::problem::Position;
use super::spots::{NOT_YAML, Refusal, Spot, Spots};

/// Larger files are refused: 1,000 nodes take about a tenth of it.
const LARGEST: usize = 4 << 20;

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) spot: Spot,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// Every entry by its key, in the order of the file; a key may stand there twice.
    Map(Vec<(String, Node)>),
}

/// Reads a text.
pub(super) fn parse(text: &str) -> Result<(Node, Spots), Refusal> {
    if text.len() > LARGEST {
        let reason = format!("the file is larger than {} MiB", LARGEST >> 20);
        return Err(Refusal { position: START, reason, help: None });
    }
    refuse_controls(text)?;
    let spots = Spots::locate(text)?;
    let value: Value = serde_yaml::from_str(text).map_err(|error| not_yaml(&error))?;
    let node = join(value, Spot::ROOT, &spots)?;
    Ok((node, spots))
}

const START: Position = Position { line: 1, column: 1, length: 0 };

/// Control characters are no YAML, and would disturb the terminal that shows the message. Line breaks other
/// than LF and CR LF are breaks in YAML 1.1 and none in 1.2, or the reverse: lines could not be counted.
fn refuse_controls(text: &str) -> Result<(), Refusal> {
    let bad = |c: char| (c.is_control() && c != '\t') || matches!(c, '\u{2028}' | '\u{2029}');
    for (line, content) in text.lines().enumerate() {
        let Some(column) = content.chars().position(bad) else { continue };
        return Err(Refusal {
            position: Position { line: line + 1, column: column + 1, length: 1 },
            reason: "a control character or an odd line break stands here".to_owned(),
            help: Some("remove it; a cluster file is plain text in UTF-8"),
        });
    }
    Ok(())
}

fn not_yaml(error: &serde_yaml::Error) -> Refusal {
    let position = error.location().map_or(START, |location| Position {
        line: location.line(),
        column: location.column(),
        length: 1,
    });
    Refusal { position, reason: format!("this is not YAML: {error}"), help: Some(NOT_YAML) }
}

/// Puts values and places together. They come from two parsers: where these disagree about the shape,
/// people would too.
fn join(value: Value, spot: Spot, spots: &Spots) -> Result<Node, Refusal> {
    let children = spots.children(spot);
    let kind = match value {
        Value::Scalar(kind) if children.is_empty() => kind,
        Value::List(items) if items.len() == children.len() => {
            let pairs = items.into_iter().zip(children);
            Kind::List(pairs.map(|(item, at)| join(item, *at, spots)).collect::<Result<_, _>>()?)
        }
        Value::Map(entries) if entries.len() == children.len() => {
            let named = |(value, at): (Value, &Spot)| {
                let key = spots.key(*at).unwrap_or_default().to_owned();
                Ok((key, join(value, *at, spots)?))
            };
            Kind::Map(entries.into_iter().zip(children).map(named).collect::<Result<_, _>>()?)
        }
        Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
            return Err(Refusal {
                position: spots.position(spot),
                reason: "two YAML parsers read this in different ways".to_owned(),
                help: Some("write it in plainer YAML: quotes, or a line of its own"),
            });
        }
    };
    Ok(Node { spot, kind })
}

/// What `serde_yaml` sees. Its own `Value` refuses a key given twice without going on.
#[derive(Debug)]
enum Value {
    Scalar(Kind),
    List(Vec<Value>),
    Map(Vec<Value>),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Scalar(Kind::Null))
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Scalar(Kind::Bool(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.visit_i128(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.visit_i128(value.into())
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Scalar(Kind::Int(value)))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        self.visit_i128(i128::try_from(value).unwrap_or(i128::MAX))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Scalar(Kind::Float(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Scalar(Kind::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        // The key's text comes from the other parser, which also knows its place.
        while let Some((_key, value)) = map.next_entry::<Value, Value>()? {
            values.push(value);
        }
        Ok(Value::Map(values))
    }
}
