//! One tolerant reader for the two forms of a FHIR document.
//!
//! A [`Shape`] says which members it wants and of what type; everything else is passed over without
//! being kept. The same shape is filled from JSON and from XML. What has the wrong type becomes an
//! [`Oddity`], never an error. Texts are borrowed from the body wherever they hold no escapes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::body::BodyKind;

mod xml;

/// A text of the document, borrowed from the body where it can be.
pub type Text<'a> = Cow<'a, str>;

/// Why a body is not the resource that was expected. It never holds anything of the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// An HTML page, an empty body, or JSON or XML that is no FHIR resource.
    #[error("the body is not FHIR: {0}")]
    NotFhir(&'static str),
    /// It starts as JSON or XML and cannot be read to its end. Line and column count from 1.
    #[error("the body cannot be parsed, at line {line}, column {column}")]
    Malformed { line: usize, column: usize },
    /// A FHIR resource of another type.
    #[error("the body is a {0}")]
    WrongResource(String),
}

/// A member whose type is not the one that FHIR gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oddity {
    /// Such as `rest.resource.type`.
    pub element: String,
    pub expected: &'static str,
    pub found: &'static str,
    /// How often it was met.
    pub count: usize,
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, {} expected", self.element, self.found, self.expected)?;
        if self.count > 1 {
            write!(f, " ({} times)", self.count)?;
        }
        Ok(())
    }
}

/// What a shape wants of a member.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Skip,
    Text,
    Flag,
    Number,
    Object,
    TextOrObject,
}

impl Want {
    fn takes_text(self) -> bool {
        !matches!(self, Want::Skip | Want::Object)
    }

    fn takes_object(self) -> bool {
        matches!(self, Want::Object | Want::TextOrObject)
    }

    fn name(self) -> &'static str {
        match self {
            Want::Skip => "nothing",
            Want::Text => "a text",
            Want::Flag => "true or false",
            Want::Number => "a number",
            Want::Object => "an object",
            Want::TextOrObject => "a text or an object",
        }
    }
}

/// Something that is filled by the members of a JSON object or an XML element.
///
/// An array gives one call for each of its items.
pub(super) trait Shape<'a> {
    /// Where it stands in the document, such as `rest.resource`; empty for the root.
    const NAME: &'static str;

    fn want(&self, key: &str) -> Want;

    /// A scalar: numbers and booleans come as their text.
    fn text(&mut self, key: &str, value: Text<'a>);

    /// An object, which has to be read or skipped.
    fn object<N: Nested<'a>>(&mut self, key: &str, nested: N) -> Result<(), N::Error> {
        let _ = key;
        nested.skip()
    }
}

/// An object that waits to be read.
pub(super) trait Nested<'a>: Sized {
    type Error;

    fn read<S: Shape<'a>>(self, shape: &mut S) -> Result<(), Self::Error>;

    fn skip(self) -> Result<(), Self::Error> {
        self.read(&mut Nothing)
    }

    /// Reads it into a new item of a list.
    fn push<S: Shape<'a> + Default>(self, list: &mut Vec<S>) -> Result<(), Self::Error> {
        let mut item = S::default();
        self.read(&mut item)?;
        list.push(item);
        Ok(())
    }
}

/// A shape that wants nothing.
struct Nothing;

impl<'a> Shape<'a> for Nothing {
    const NAME: &'static str = "";

    fn want(&self, _key: &str) -> Want {
        Want::Skip
    }

    fn text(&mut self, _key: &str, _value: Text<'a>) {}
}

/// What was odd, each kind once.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) list: Vec<Oddity>,
}

impl Notes {
    /// Kinds beyond this are not kept; the places are those of our own table, so they are few.
    const MOST: usize = 50;

    #[cold]
    fn add(&mut self, shape: &str, key: &str, want: Want, found: &'static str) {
        let element = if shape.is_empty() { key.to_owned() } else { format!("{shape}.{key}") };
        if let Some(known) =
            self.list.iter_mut().find(|odd| odd.element == element && odd.found == found)
        {
            known.count += 1;
        } else if self.list.len() < Self::MOST {
            self.list.push(Oddity { element, expected: want.name(), found, count: 1 });
        }
    }
}

/// Fills a shape from a body; gives what was odd.
///
/// The shape's `resourceType` member gets the name of the root element when the body is XML.
///
/// # Errors
/// [`ParseError::NotFhir`] and [`ParseError::Malformed`].
pub(super) fn read<'a, S: Shape<'a>>(
    kind: BodyKind,
    body: &'a [u8],
    shape: &mut S,
) -> Result<Vec<Oddity>, ParseError> {
    let mut notes = Notes::default();
    let text = match kind {
        BodyKind::Empty => return Err(ParseError::NotFhir("it is empty")),
        BodyKind::Html => return Err(ParseError::NotFhir("it is an HTML page")),
        BodyKind::Other => return Err(ParseError::NotFhir("it is neither JSON nor XML")),
        BodyKind::Json | BodyKind::Xml => text(body)?,
    };
    if kind == BodyKind::Json {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let is_object = Root { shape, notes: &mut notes }
            .deserialize(&mut deserializer)
            .and_then(|is_object| deserializer.end().map(|()| is_object))
            .map_err(|error| ParseError::Malformed {
                line: error.line().max(1),
                column: error.column().max(1),
            })?;
        if !is_object {
            return Err(ParseError::NotFhir("it is JSON, but no object"));
        }
    } else {
        xml::read(text, shape, &mut notes)?;
    }
    Ok(notes.list)
}

/// The body as text, without a byte order mark.
fn text(body: &[u8]) -> Result<&str, ParseError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    std::str::from_utf8(body).map_err(|error| place(body, error.valid_up_to()))
}

/// Line and column of a byte.
fn place(body: &[u8], offset: usize) -> ParseError {
    let before = &body[..offset.min(body.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    ParseError::Malformed { line, column: before.len() - start + 1 }
}

/// The document itself: says whether it is an object.
struct Root<'s, S> {
    shape: &'s mut S,
    notes: &'s mut Notes,
}

impl<'a, S: Shape<'a>> DeserializeSeed<'a> for Root<'_, S> {
    type Value = bool;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a, S: Shape<'a>> Visitor<'a> for Root<'_, S> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, map: A) -> Result<bool, A::Error> {
        members(map, self.shape, self.notes)?;
        Ok(true)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<bool, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
}

fn members<'a, A: MapAccess<'a>, S: Shape<'a>>(
    mut map: A,
    shape: &mut S,
    notes: &mut Notes,
) -> Result<(), A::Error> {
    while let Some(key) = map.next_key_seed(Key)? {
        match shape.want(&key) {
            Want::Skip => {
                map.next_value::<IgnoredAny>()?;
            }
            want => map.next_value_seed(Member {
                key: &key,
                want,
                in_array: false,
                shape: &mut *shape,
                notes: &mut *notes,
            })?,
        }
    }
    Ok(())
}

/// A member's name.
struct Key;

impl<'a> DeserializeSeed<'a> for Key {
    type Value = Text<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Text<'a>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Key {
    type Value = Text<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, key: &'a str) -> Result<Text<'a>, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Text<'a>, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// A member's value, or one item of it.
struct Member<'s, S> {
    key: &'s str,
    want: Want,
    in_array: bool,
    shape: &'s mut S,
    notes: &'s mut Notes,
}

impl<'a, S: Shape<'a>> Member<'_, S> {
    fn scalar(self, value: Text<'a>, natural: Want, found: &'static str) {
        let fits = self.want == natural || (self.want, natural) == (Want::TextOrObject, Want::Text);
        if !fits {
            self.notes.add(S::NAME, self.key, self.want, found);
        }
        if self.want.takes_text() {
            self.shape.text(self.key, value);
        }
    }
}

impl<'a, S: Shape<'a>> DeserializeSeed<'a> for Member<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a, S: Shape<'a>> Visitor<'a> for Member<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.want.name())
    }

    fn visit_borrowed_str<E>(self, value: &'a str) -> Result<(), E> {
        self.scalar(Cow::Borrowed(value), Want::Text, "a text");
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.scalar(Cow::Owned(value.to_owned()), Want::Text, "a text");
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        let text = if value { "true" } else { "false" };
        self.scalar(Cow::Borrowed(text), Want::Flag, "true or false");
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.scalar(Cow::Owned(value.to_string()), Want::Number, "a number");
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.scalar(Cow::Owned(value.to_string()), Want::Number, "a number");
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.scalar(Cow::Owned(value.to_string()), Want::Number, "a number");
        Ok(())
    }

    // Null says the same as nothing; many servers write it.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<(), A::Error> {
        if self.in_array {
            self.notes.add(S::NAME, self.key, self.want, "an array in an array");
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        while items
            .next_element_seed(Member {
                key: self.key,
                want: self.want,
                in_array: true,
                shape: &mut *self.shape,
                notes: &mut *self.notes,
            })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        if self.want.takes_object() {
            return self.shape.object(self.key, JsonObject { map, notes: self.notes });
        }
        self.notes.add(S::NAME, self.key, self.want, "an object");
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

struct JsonObject<'n, A> {
    map: A,
    notes: &'n mut Notes,
}

impl<'a, A: MapAccess<'a>> Nested<'a> for JsonObject<'_, A> {
    type Error = A::Error;

    fn read<S: Shape<'a>>(self, shape: &mut S) -> Result<(), A::Error> {
        members(self.map, shape, self.notes)
    }
}
