//! The XML form: an element is a member, its `value` attribute a scalar, a repeated element an item.

use std::borrow::Cow;

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::{Nested, Notes, ParseError, Shape, Want, place};

/// Deeper than any FHIR document that is wanted; what is deeper is passed over without recursion.
const MOST_DEEP: usize = 64;

const FHIR: &[u8] = b"http://hl7.org/fhir";

/// A place in the body where reading had to stop.
struct Broken(usize);

pub(super) fn read<'a, S: Shape<'a>>(
    text: &'a str,
    shape: &mut S,
    notes: &mut Notes,
) -> Result<(), ParseError> {
    let mut source = Source { reader: Reader::from_str(text), depth: 0 };
    source.document(shape, notes).map_err(|Broken(at)| place(text.as_bytes(), at))?.map_or(
        Err(ParseError::NotFhir("it is XML, but not in the namespace of FHIR")),
        |()| Ok(()),
    )
}

struct Source<'a> {
    reader: Reader<&'a [u8]>,
    depth: usize,
}

impl<'a> Source<'a> {
    fn next(&mut self) -> Result<Event<'a>, Broken> {
        self.reader.read_event().map_err(|_| self.broken())
    }

    fn broken(&self) -> Broken {
        Broken(
            usize::try_from(self.reader.error_position().max(self.reader.buffer_position()))
                .unwrap_or(usize::MAX),
        )
    }

    /// `None` when the root is not FHIR's.
    fn document<S: Shape<'a>>(
        &mut self,
        shape: &mut S,
        notes: &mut Notes,
    ) -> Result<Option<()>, Broken> {
        let mut found = false;
        loop {
            match self.next()? {
                Event::Start(element) if !found => {
                    if !is_fhir(&element) {
                        return Ok(None);
                    }
                    found = true;
                    shape.text("resourceType", Cow::Owned(name(&element)));
                    self.members(shape, notes)?;
                }
                Event::Empty(element) if !found => {
                    if !is_fhir(&element) {
                        return Ok(None);
                    }
                    found = true;
                    shape.text("resourceType", Cow::Owned(name(&element)));
                }
                Event::Start(_) | Event::Empty(_) | Event::End(_) => return Err(self.broken()),
                Event::Text(text) if text.iter().any(|byte| !byte.is_ascii_whitespace()) => {
                    return Err(self.broken());
                }
                Event::Eof if found => return Ok(Some(())),
                Event::Eof => return Err(self.broken()),
                _ => {}
            }
        }
    }

    /// What stands between a start tag that was just read and its end tag.
    fn members<S: Shape<'a>>(&mut self, shape: &mut S, notes: &mut Notes) -> Result<(), Broken> {
        loop {
            match self.next()? {
                Event::Start(element) => self.element(element, false, shape, notes)?,
                Event::Empty(element) => self.element(element, true, shape, notes)?,
                Event::End(_) => return Ok(()),
                Event::Eof => return Err(self.broken()),
                _ => {}
            }
        }
    }

    fn element<S: Shape<'a>>(
        &mut self,
        element: BytesStart<'a>,
        is_empty: bool,
        shape: &mut S,
        notes: &mut Notes,
    ) -> Result<(), Broken> {
        let key = name(&element);
        let want = shape.want(&key);
        if want == Want::Skip || self.depth >= MOST_DEEP {
            return self.pass(&element, is_empty);
        }
        let value = attribute(&element, b"value");
        if want.takes_text()
            && let Some(value) = &value
        {
            shape.text(&key, Cow::Owned(value.clone()));
            return self.pass(&element, is_empty);
        }
        if want.takes_object() {
            if value.is_some() {
                notes.add(S::NAME, &key, want, "a text");
            }
            self.depth += 1;
            shape.object(&key, XmlElement { element, is_empty, source: &mut *self, notes })?;
            self.depth -= 1;
            return Ok(());
        }
        // A scalar without a value carries an extension instead; that is FHIR's way to say "unknown".
        self.pass(&element, is_empty)
    }

    fn pass(&mut self, element: &BytesStart<'a>, is_empty: bool) -> Result<(), Broken> {
        if !is_empty {
            self.reader.read_to_end(element.name()).map_err(|_| self.broken())?;
        }
        Ok(())
    }
}

struct XmlElement<'s, 'a> {
    element: BytesStart<'a>,
    is_empty: bool,
    source: &'s mut Source<'a>,
    notes: &'s mut Notes,
}

impl<'a> Nested<'a> for XmlElement<'_, 'a> {
    type Error = Broken;

    fn read<S: Shape<'a>>(self, shape: &mut S) -> Result<(), Broken> {
        // The only attributes beside `value` are `id` and an extension's `url`.
        for key in ["url", "id"] {
            if shape.want(key) == Want::Text
                && let Some(value) = attribute(&self.element, key.as_bytes())
            {
                shape.text(key, Cow::Owned(value));
            }
        }
        if self.is_empty { Ok(()) } else { self.source.members(shape, self.notes) }
    }
}

fn name(element: &BytesStart<'_>) -> String {
    String::from_utf8_lossy(element.local_name().as_ref()).into_owned()
}

fn attribute(element: &BytesStart<'_>, key: &[u8]) -> Option<String> {
    let attribute = element.attributes().flatten().find(|found| found.key.as_ref() == key)?;
    // An entity of the document's own is not expanded: the text stays as it stands.
    Some(match attribute.normalized_value(XmlVersion::Implicit1_0) {
        Ok(value) => value.into_owned(),
        Err(_) => String::from_utf8_lossy(&attribute.value).into_owned(),
    })
}

/// Whether a namespace declaration of the root is FHIR's.
fn is_fhir(root: &BytesStart<'_>) -> bool {
    root.attributes()
        .flatten()
        .any(|found| found.key.as_ref().starts_with(b"xmlns") && found.value.as_ref() == FHIR)
}
