//! Values of the raw file that know where they stand, and that survive being wrong: one wrong value
//! must not hide the next.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::spots::Spot;

/// A value that a person may have written.
#[derive(Debug, Clone, Default)]
pub(super) enum Given<T> {
    /// The key is not there, or has no value.
    #[default]
    Absent,
    /// It is there and wrong; the problem is already told.
    Wrong,
    /// It is there and of the right type.
    Is(T, Spot),
}

impl<T> Given<T> {
    /// The value, if it is there and right.
    pub(super) fn get(&self) -> Option<&T> {
        match self {
            Self::Is(value, _) => Some(value),
            Self::Absent | Self::Wrong => None,
        }
    }

    /// The value and its place, if it is there and right.
    pub(super) fn at(&self) -> Option<(&T, Spot)> {
        match self {
            Self::Is(value, spot) => Some((value, *spot)),
            Self::Absent | Self::Wrong => None,
        }
    }

    /// Whether nobody wrote it. A wrong value is not absent.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Itself, or the default if nobody wrote it.
    pub(super) fn or<'a>(&'a self, default: &'a Self) -> &'a Self {
        if self.is_absent() { default } else { self }
    }
}

/// The name by which the reader of this module knows [`Given`]. Other deserializers cannot tell places.
pub(super) const GIVEN: &str = "trilith::config::Given";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(GIVEN, GivenVisitor(PhantomData))
    }
}

struct GivenVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for GivenVisitor<T> {
    type Value = Given<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value with its place")
    }

    /// The reader hands over the place, then the value unless it is null. Its error is not passed on,
    /// because the reader has told the problem by then.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Given<T>, A::Error> {
        let spot = seq.next_element()?.map_or(Spot::ROOT, Spot::from_number);
        Ok(match seq.next_element() {
            Ok(Some(value)) => Given::Is(value, spot),
            Ok(None) => Given::Absent,
            Err(_told) => Given::Wrong,
        })
    }
}

impl<T: JsonSchema> JsonSchema for Given<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A map whose keys a person chose, in the order of the file.
#[derive(Debug, Clone)]
pub(super) struct Table<K, V>(pub(super) Vec<(Given<K>, Given<V>)>);

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K, V> Table<K, V> {
    /// The entries whose keys are right.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&K, &Given<V>)> {
        self.0.iter().filter_map(|(key, value)| Some((key.get()?, value)))
    }
}

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Table<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TableVisitor(PhantomData))
    }
}

struct TableVisitor<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for TableVisitor<K, V> {
    type Value = Table<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table<K, V>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Table(entries))
    }
}

impl<K, V: JsonSchema> JsonSchema for Table<K, V> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Map_of_{}", V::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<V>();
        schemars::json_schema!({ "type": "object", "additionalProperties": value })
    }
}
