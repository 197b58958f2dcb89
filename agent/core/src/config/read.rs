//! Tree → raw types, by serde, in one pass: every wrong value and unknown key is told with its place,
//! and the reading goes on with the next.

mod parts; // lists, maps and places, as visitors take them

use std::cell::RefCell;
use std::fmt;

use parts::{Entries, Items, Next, Placed, Word};
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

use super::document::{Kind, Node};
use super::given::GIVEN;
use super::problem::{Problems, error};
use super::tidy::is_secret_key;
use crate::names::QUANTITY;

/// Reads a `T`; `None` if it is wrong, which is told in `problems`.
pub(super) fn read<'a, T: Deserialize<'a>>(
    node: &'a Node,
    problems: &'a RefCell<Problems>,
) -> Option<T> {
    T::deserialize(Reader { node, problems }).ok()
}

/// An error on its way from where it arises to where its place is known.
#[derive(Debug)]
enum ReadError {
    /// Not told yet.
    New(String),
    /// Already in the list.
    Told,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New(reason) => f.write_str(reason),
            Self::Told => f.write_str("told before"),
        }
    }
}

impl std::error::Error for ReadError {}

impl serde::de::Error for ReadError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::New(reason.to_string())
    }
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    problems: &'a RefCell<Problems>,
}

impl Reader<'_> {
    fn tell(self, reason: impl Into<String>, help: Option<String>) -> ReadError {
        let mut draft = error(self.node.spot, reason);
        if let Some(help) = help {
            draft = draft.help(help);
        }
        self.problems.borrow_mut().push(draft);
        ReadError::Told
    }

    /// Tells an error that has not been told, with this place.
    fn place<T>(self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        result.map_err(|error| match error {
            ReadError::New(reason) => self.tell(reason, None),
            ReadError::Told => ReadError::Told,
        })
    }

    fn expected(self, what: &str, help: Option<String>) -> ReadError {
        self.tell(format!("{what} is expected here, not {}", self.node.kind.describe()), help)
    }

    fn integer(self, least: i128, most: i128) -> Result<i128, ReadError> {
        let what = "a whole number";
        match &self.node.kind {
            Kind::Int(value) if (least..=most).contains(value) => Ok(*value),
            Kind::Text(text) if text.parse::<i128>().is_ok() => {
                Err(self.expected(what, Some(format!("remove the quotes: {text}"))))
            }
            Kind::Int(_) => {
                Err(self.tell(format!("{what} from {least} to {most} is expected here"), None))
            }
            _ => Err(self.expected(what, None)),
        }
    }
}

impl Kind {
    fn describe(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

macro_rules! integers {
    ($($method:ident, $visit:ident, $type:ty;)*) => {
        $(
            fn $method<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, ReadError> {
                let value = self.integer(<$type>::MIN.into(), <$type>::MAX.into())?;
                let value = <$type>::try_from(value).map_err(ReadError::custom)?;
                self.place(visitor.$visit(value))
            }
        )*
    };
}

impl<'a> Deserializer<'a> for Reader<'a> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Null => self.place(visitor.visit_unit()),
            Kind::Bool(value) => self.place(visitor.visit_bool(*value)),
            Kind::Int(value) => self.place(visitor.visit_i128(*value)),
            Kind::Float(value) => self.place(visitor.visit_f64(*value)),
            Kind::Text(text) => self.place(visitor.visit_borrowed_str(text)),
            Kind::List(_) => self.deserialize_seq(visitor),
            Kind::Map(_) => self.deserialize_map(visitor),
        }
    }

    integers! {
        deserialize_u8, visit_u8, u8;
        deserialize_u16, visit_u16, u16;
        deserialize_u32, visit_u32, u32;
        deserialize_u64, visit_u64, u64;
    }

    fn deserialize_bool<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.node.kind {
            Kind::Bool(value) => self.place(visitor.visit_bool(value)),
            _ => Err(self.expected("true or false", None)),
        }
    }

    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Text(text) => self.place(visitor.visit_borrowed_str(text)),
            Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) => {
                let help = "if it is meant as a text, put it in quotes".to_owned();
                Err(self.expected("a text", Some(help)))
            }
            Kind::Null | Kind::List(_) | Kind::Map(_) => Err(self.expected("a text", None)),
        }
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::List(items) => self.place(visitor.visit_seq(Items { reader: self, items })),
            _ => Err(self.expected("a list", Some("write [a, b] or lines with '- '".to_owned()))),
        }
    }

    fn deserialize_map<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Map(entries) => {
                self.place(visitor.visit_map(Entries { reader: self, known: None, rest: entries }))
            }
            _ => Err(self.expected("a map", Some("write `name: value` lines below it".to_owned()))),
        }
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let Kind::Map(entries) = &self.node.kind else {
            return Err(self.expected("a map", Some(format!("its keys are {}", list(fields)))));
        };
        for (key, value) in entries.iter().filter(|(key, _)| !fields.contains(&key.as_str())) {
            Reader { node: value, ..self }.tell_unknown(key, fields);
        }
        self.place(visitor.visit_map(Entries { reader: self, known: Some(fields), rest: entries }))
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Text(text) if variants.contains(&text.as_str()) => {
                self.place(visitor.visit_enum(Word(text)))
            }
            Kind::Text(text) => {
                let nearest = nearest(text, variants).map(|word| format!("did you mean {word}?"));
                Err(self.tell(format!("one of {} is expected here", list(variants)), nearest))
            }
            _ => Err(self.expected(&format!("one of {}", list(variants)), None)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name == GIVEN {
            return visitor.visit_seq(Placed { reader: self, next: Next::Place });
        }
        if name == QUANTITY && matches!(self.node.kind, Kind::Int(_) | Kind::Float(_)) {
            let help = "write a unit: 500GB or 4GiB for a size, 30s or 10m for a time";
            return Err(self.tell("a number without a unit", Some(help.to_owned())));
        }
        self.place(visitor.visit_newtype_struct(self))
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.node.kind {
            Kind::Null => self.place(visitor.visit_none()),
            _ => self.place(visitor.visit_some(self)),
        }
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'a>>
        i8 i16 i32 i64 i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

impl Reader<'_> {
    fn tell_unknown(self, key: &str, known: &[&str]) {
        // Told by `tidy`, in better words.
        if is_secret_key(key) {
            return;
        }
        let help = nearest(key, known).map_or_else(
            || format!("the keys here are {}", list(known)),
            |word| format!("did you mean `{word}`? The keys here are {}", list(known)),
        );
        let draft = error(self.node.spot, format!("unknown key `{key}`")).on_key().help(help);
        self.problems.borrow_mut().push(draft);
    }
}

/// `a, b, c`.
fn list(words: &[&str]) -> String {
    words.join(", ")
}

/// The known word that a person most likely meant.
pub(super) fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let likeness = |candidate: &str| {
        let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
        strsim::jaro_winkler(&plain(word), &plain(candidate))
    };
    let ranked = known.iter().map(|candidate| (*candidate, likeness(candidate)));
    let best = ranked.max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.filter(|(_, likeness)| *likeness > 0.75).map(|(candidate, _)| candidate)
}
