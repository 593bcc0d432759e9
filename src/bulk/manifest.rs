//! The manifest of a finished export, read as a stream: it may name millions of files.
//!
//! Bulk Data Access, "Response - Output Manifest", in the shapes of STU1 to the STU4 ballot.

use std::io::Read;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde::{Deserialize, Serialize};

use super::ledger::{Entry, Kind};
use super::lines::is_type;
use crate::model::{Error, ErrorKind, Result};

/// Longest text in a manifest, in bytes: a URL has a few hundred.
const TEXT_BYTES: usize = 64 * 1024;

/// Most oddities that are kept.
const ODDITIES: usize = 20;

/// What a manifest says beside its files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Verbatim: it goes back to the server as `_since`.
    pub transaction_time: Option<String>,
    pub request: Option<String>,
    /// `None` where it is missing or no boolean.
    pub requires_access_token: Option<bool>,
    /// The type by which files are organised (`outputOrganizedBy`, STU3).
    pub organized_by: Option<String>,
    /// The next page.
    pub next: Option<String>,
    /// What is not as the specification has it, in our words.
    pub oddities: Vec<String>,
    pub files: u64,
}

impl Head {
    fn odd(&mut self, what: String) {
        if self.oddities.len() < ODDITIES {
            self.oddities.push(what);
        }
    }
}

/// Reads a manifest and hands on each file that it names.
///
/// # Errors
/// Exit 65 when it is no manifest; what `take` says.
pub fn read(input: impl Read, take: &mut dyn FnMut(Entry) -> Result<()>) -> Result<Head> {
    let mut stopped = None;
    let mut head = Head::default();
    let mut json = serde_json::Deserializer::from_reader(std::io::BufReader::with_capacity(
        64 * 1024,
        ShortTexts { inner: input, length: None, is_escaped: false },
    ));
    let read = Page { head: &mut head, take, stopped: &mut stopped }
        .deserialize(&mut json)
        .and_then(|()| json.end());
    match (stopped, read) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(Error::new(
            ErrorKind::Data,
            format!("the export's manifest cannot be read: {}", plain(&error)),
        )
        .hint("the server says that the export is done and sends no manifest; tell its operator")),
        (None, Ok(())) => Ok(head),
    }
}

/// The parser's words without what stands in the document.
fn plain(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let place = format!("line {}, column {}", error.line(), error.column());
    match error.classify() {
        Category::Io => format!("{error}"),
        Category::Eof => format!("it ends in the middle ({place})"),
        Category::Syntax => format!("it is no JSON ({place})"),
        Category::Data => format!("{error}"),
    }
}

/// Ends a document in which a text grows beyond all measure, before it fills the memory.
struct ShortTexts<R> {
    inner: R,
    /// Of the text that is being read.
    length: Option<usize>,
    is_escaped: bool,
}

impl<R: Read> Read for ShortTexts<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        for byte in &buffer[..read] {
            match (&mut self.length, byte) {
                (None, b'"') => self.length = Some(0),
                (None, _) => {}
                (Some(_), _) if self.is_escaped => self.is_escaped = false,
                (Some(_), b'\\') => self.is_escaped = true,
                (Some(_), b'"') => self.length = None,
                (Some(length), _) => {
                    *length += 1;
                    if *length > TEXT_BYTES {
                        return Err(std::io::Error::other("a text in it is longer than 64 KiB"));
                    }
                }
            }
        }
        Ok(read)
    }
}

struct Page<'a> {
    head: &'a mut Head,
    take: &'a mut dyn FnMut(Entry) -> Result<()>,
    stopped: &'a mut Option<Error>,
}

impl<'de> DeserializeSeed<'de> for Page<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Page<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a manifest, which is an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Page { head, take, stopped } = self;
        let mut seen = Vec::new();
        let mut position = [0_u32; 3];
        while let Some(key) = map.next_key::<String>()? {
            let kind = match key.as_str() {
                "output" => Some(Kind::Output),
                "error" | "outcome" => Some(Kind::Error),
                "deleted" => Some(Kind::Deleted),
                _ => None,
            };
            if let Some(kind) = kind {
                let position = &mut position[kind as usize];
                map.next_value_seed(Files { kind, position, head, take, stopped })?;
            } else {
                match key.as_str() {
                    "transactionTime" => head.transaction_time = map.next_value::<Loose>()?.text(),
                    "request" => head.request = map.next_value::<Loose>()?.text(),
                    "outputOrganizedBy" => head.organized_by = map.next_value::<Loose>()?.text(),
                    "requiresAccessToken" => {
                        let value: Loose = map.next_value()?;
                        if let Loose::Text(text) = &value {
                            head.oddities.push("requiresAccessToken is a text".to_owned());
                            head.requires_access_token = text.parse().ok();
                        } else {
                            head.requires_access_token = value.boolean();
                        }
                    }
                    "link" => head.next = next_link(&map.next_value()?),
                    "resourceType" => {
                        let value: Loose = map.next_value()?;
                        return Err(A::Error::custom(format!(
                            "it is a resource of type {}",
                            match value.text() {
                                Some(text) if text.chars().all(|c| c.is_ascii_alphabetic()) => text,
                                _ => "unknown".to_owned(),
                            }
                        )));
                    }
                    _ => drop(map.next_value::<IgnoredAny>()?),
                }
            }
            seen.push(key);
        }
        let has = |key: &str| seen.iter().any(|it| it == key);
        if !["output", "error", "outcome", "deleted", "transactionTime"].iter().any(|key| has(key))
        {
            return Err(A::Error::custom("it has none of a manifest's members"));
        }
        if has("error") && has("outcome") {
            head.oddities.push("it has both error and outcome".to_owned());
        }
        if head.transaction_time.is_none() {
            head.oddities.push("transactionTime is missing".to_owned());
        } else if !head.transaction_time.as_deref().is_some_and(is_instant) {
            head.oddities.push("transactionTime is no FHIR instant".to_owned());
        }
        if head.requires_access_token.is_none() {
            head.oddities.push("requiresAccessToken is missing".to_owned());
        }
        if !has("output") && !has("outcome") {
            head.oddities.push("output is missing".to_owned());
        }
        Ok(())
    }
}

/// Whether a text is a FHIR instant: a date, a time with seconds, and a zone.
#[must_use]
pub fn is_instant(text: &str) -> bool {
    text.len() >= 20
        && text.as_bytes().get(10) == Some(&b'T')
        && text.parse::<jiff::Timestamp>().is_ok()
}

fn next_link(value: &serde_json::Value) -> Option<String> {
    let links = value.as_array()?;
    let next = links.iter().find(|link| link.get("relation").is_some_and(|it| it == "next"))?;
    next.get("url")?.as_str().map(str::to_owned)
}

struct Files<'a> {
    kind: Kind,
    position: &'a mut u32,
    head: &'a mut Head,
    take: &'a mut dyn FnMut(Entry) -> Result<()>,
    stopped: &'a mut Option<Error>,
}

impl<'de> DeserializeSeed<'de> for Files<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Files<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a list of files")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element::<Item>()? {
            let place = format!("{}[{}]", self.kind.as_str(), self.position);
            let Some(url) = item.url.text() else {
                return Err(A::Error::custom(format!("{place} has no url")));
            };
            let resource_type = item.r#type.text().unwrap_or_default();
            let resource_type = match resource_type.is_empty() || is_type(&resource_type) {
                true => resource_type,
                // Names of files are made of it.
                false => {
                    self.head.odd(format!("the type of {place} is no resource type"));
                    String::new()
                }
            };
            let expected = match &item.count {
                Loose::Number(number) => u64::try_from(*number).ok(),
                Loose::Nothing => None,
                _ => {
                    self.head.odd(format!("the count of {place} is no number"));
                    None
                }
            };
            let entry =
                Entry { kind: self.kind, position: *self.position, resource_type, url, expected };
            *self.position += 1;
            self.head.files += 1;
            if let Err(error) = (self.take)(entry) {
                *self.stopped = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    r#type: Loose,
    #[serde(default)]
    url: Loose,
    #[serde(default)]
    count: Loose,
}

/// A value of whatever kind a server sends.
#[derive(Debug, Default)]
enum Loose {
    #[default]
    Nothing,
    Text(String),
    Number(i64),
    Boolean(bool),
    Other,
}

impl Loose {
    fn text(self) -> Option<String> {
        match self {
            Loose::Text(text) => Some(text),
            _ => None,
        }
    }

    fn boolean(&self) -> Option<bool> {
        match self {
            Loose::Boolean(value) => Some(*value),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Loose, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Loose;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Loose, E> {
                Ok(Loose::Text(text.to_owned()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Loose, E> {
                Ok(Loose::Number(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Loose, E> {
                Ok(i64::try_from(number).map_or(Loose::Other, Loose::Number))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Loose, E> {
                Ok(Loose::Other)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Loose, E> {
                Ok(Loose::Boolean(value))
            }

            fn visit_unit<E>(self) -> Result<Loose, E> {
                Ok(Loose::Nothing)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Loose, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Loose::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Loose::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(Head, Vec<Entry>)> {
        let mut entries = Vec::new();
        let head = read(text.as_bytes(), &mut |entry| {
            entries.push(entry);
            Ok(())
        })?;
        Ok((head, entries))
    }

    #[test]
    fn every_published_shape_is_read() {
        let (head, files) = parse(
            r#"{"transactionTime":"2026-01-01T00:00:00Z","request":"https://h/$export","requiresAccessToken":true,
            "output":[{"type":"Patient","url":"https://h/1","count":3},{"type":"Observation","url":"https://h/2"}],
            "deleted":[{"type":"Bundle","url":"https://h/3"}],"error":[],"extension":{"a":[1,{"b":null}]},
            "link":[{"relation":"next","url":"https://h/more"}]}"#,
        )
        .unwrap();
        assert_eq!(head.next.as_deref(), Some("https://h/more"));
        assert_eq!(head.oddities, Vec::<String>::new());
        assert_eq!((files.len(), files[0].expected, files[1].position), (3, Some(3), 1));
        assert_eq!(files[2].kind, Kind::Deleted);

        let (head, files) = parse(
            r#"{"transactionTime":"2026-01-01T00:00:00.000+02:00","requiresAccessToken":false,
            "outcome":[{"url":"https://h/o","countSeverity":[{"code":"warning","count":1}]}],"extension":[{"url":"x"}]}"#,
        )
        .unwrap();
        assert_eq!(head.requires_access_token, Some(false));
        assert_eq!((files[0].kind, files[0].resource_type.as_str()), (Kind::Error, ""));
    }

    #[test]
    fn a_type_that_is_a_path_names_no_file() {
        let (head, files) = parse(
            r#"{"transactionTime":"2026-01-01T00:00:00Z","requiresAccessToken":true,"output":[{"type":"../../etc","url":"u"}]}"#,
        )
        .unwrap();
        assert_eq!(files[0].resource_type, "");
        assert_eq!(head.oddities, ["the type of output[0] is no resource type"]);
    }

    #[test]
    fn what_is_odd_is_said_and_what_is_no_manifest_refused() {
        let (head, _) = parse(r#"{"transactionTime":"2020/01/20 16:53:41","requiresAccessToken":"true","output":[{"type":"Patient","url":"u","count":"3"}]}"#).unwrap();
        assert_eq!(
            head.oddities,
            [
                "requiresAccessToken is a text",
                "the count of output[0] is no number",
                "transactionTime is no FHIR instant"
            ]
        );
        for bad in [
            "",
            "<html></html>",
            "[]",
            "{}",
            r#"{"resourceType":"OperationOutcome","issue":[]}"#,
            r#"{"output":[{"type":"Patient"}]}"#,
            r#"{"output":[{"type":"Patient","url":"u"}"#,
        ] {
            assert_eq!(parse(bad).unwrap_err().kind, ErrorKind::Data, "{bad}");
        }
        let long = format!(r#"{{"output":[{{"type":"Patient","url":"{}"}}]}}"#, "x".repeat(70_000));
        assert!(parse(&long).unwrap_err().message.contains("longer than 64 KiB"));
    }
}
