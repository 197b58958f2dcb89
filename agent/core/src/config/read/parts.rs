//! What a visitor is handed: the items of a list, the entries of a map, a value with its place.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::{ReadError, Reader};
use crate::config::document::{Kind, Node};
use crate::config::given::GIVEN;
use crate::config::problem::error;

/// The items of a list.
pub(super) struct Items<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) items: &'a [Node],
}

impl<'a> SeqAccess<'a> for Items<'a> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'a>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        let Some((node, rest)) = self.items.split_first() else { return Ok(None) };
        self.items = rest;
        let item = Reader { node, ..self.reader };
        if matches!(node.kind, Kind::Null) {
            item.tell("an empty list item", Some("give a value or remove the '-'".to_owned()));
        }
        seed.deserialize(item).map(Some)
    }
}

/// The entries of a map: all of them, or those whose keys a struct knows.
pub(super) struct Entries<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) known: Option<&'static [&'static str]>,
    pub(super) rest: &'a [(String, Node)],
}

impl<'a> MapAccess<'a> for Entries<'a> {
    type Error = ReadError;

    fn next_key_seed<S: DeserializeSeed<'a>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        while let Some(((key, node), rest)) = self.rest.split_first() {
            if self.known.is_none_or(|known| known.contains(&key.as_str())) {
                return seed.deserialize(KeyReader(key, Reader { node, ..self.reader })).map(Some);
            }
            self.rest = rest;
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        let Some(((_, node), rest)) = self.rest.split_first() else {
            return Err(ReadError::custom("a key without a value"));
        };
        self.rest = rest;
        seed.deserialize(Reader { node, ..self.reader })
    }
}

/// A key of a map; the reader is that of its value, for the place.
#[derive(Clone, Copy)]
struct KeyReader<'a>(&'a str, Reader<'a>);

impl KeyReader<'_> {
    /// Tells an error that has not been told, with the key's place.
    fn place<T>(self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        let Self(key, reader) = self;
        result.map_err(|problem| {
            if let ReadError::New(reason) = problem {
                let draft = error(reader.node.spot, reason).on_key().value(key);
                reader.problems.borrow_mut().push(draft);
            }
            ReadError::Told
        })
    }
}

impl<'a> Deserializer<'a> for KeyReader<'a> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.place(visitor.visit_borrowed_str(self.0))
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name == GIVEN {
            return visitor.visit_seq(PlacedKey { reader: self, next: Next::Place });
        }
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'a>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// What a `Given` is handed next.
pub(super) enum Next {
    Place,
    Value,
}

/// A value as `Given` takes it: the place, then the value unless it is null.
pub(super) struct Placed<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) next: Next,
}

impl<'a> SeqAccess<'a> for Placed<'a> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'a>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        match self.next {
            Next::Place => {
                self.next = Next::Value;
                let number = self.reader.node.spot.number();
                seed.deserialize(number.into_deserializer()).map(Some)
            }
            Next::Value if matches!(self.reader.node.kind, Kind::Null) => Ok(None),
            Next::Value => self.reader.place(seed.deserialize(self.reader)).map(Some),
        }
    }
}

/// A key as `Given` takes it. Its place is that of its value.
struct PlacedKey<'a> {
    reader: KeyReader<'a>,
    next: Next,
}

impl<'a> SeqAccess<'a> for PlacedKey<'a> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'a>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        match self.next {
            Next::Place => {
                self.next = Next::Value;
                let number = self.reader.1.node.spot.number();
                seed.deserialize(number.into_deserializer()).map(Some)
            }
            Next::Value => self.reader.place(seed.deserialize(self.reader)).map(Some),
        }
    }
}

/// A variant of an enum without contents.
pub(super) struct Word<'a>(pub(super) &'a str);

impl<'a> EnumAccess<'a> for Word<'a> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'a>>(self, seed: S) -> Result<(S::Value, Self), ReadError> {
        let word: StrDeserializer<'a, ReadError> = self.0.into_deserializer();
        Ok((seed.deserialize(word)?, self))
    }
}

impl<'a> VariantAccess<'a> for Word<'a> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'a>>(self, _seed: S) -> Result<S::Value, ReadError> {
        Err(ReadError::custom("a plain word is expected here"))
    }

    fn tuple_variant<V: Visitor<'a>>(
        self,
        _len: usize,
        _visitor: V,
    ) -> Result<V::Value, ReadError> {
        Err(ReadError::custom("a plain word is expected here"))
    }

    fn struct_variant<V: Visitor<'a>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, ReadError> {
        Err(ReadError::custom("a plain word is expected here"))
    }
}
