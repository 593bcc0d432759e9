//! NDJSON held against what it claims to be, line by line, as it passes.

mod head;

use std::borrow::Cow;

use memchr::memchr;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::ids::Ids;
use super::ledger::{FINDINGS_KEPT, Finding, Kind, Severity};
use crate::fhir::body::BodyKind;
use crate::fhir::outcome::{IssueSeverity, OperationOutcome};

/// Longest line that is taken, in bytes, unless told.
pub const MAX_LINE: usize = 16 * 1024 * 1024;

/// What was seen in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Resources; without headers, blank and broken lines.
    pub lines: u64,
    pub findings: Vec<Finding>,
    /// Findings, those too many to be kept included.
    pub found: u64,
    pub errors: u64,
    /// Of outcomes: issues by severity.
    pub issues: Issues,
    /// Deletions in bundles of `deleted`.
    pub deletions: u64,
}

/// How many issues of each severity a server reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Issues {
    pub information: u64,
    pub warning: u64,
    pub error: u64,
}

/// Judges the lines of one file.
pub struct Lines {
    kind: Kind,
    /// The manifest's type; empty: any.
    expected_type: String,
    is_organized: bool,
    max_line: usize,
    number: u64,
    /// A line whose end has not come yet.
    rest: Vec<u8>,
    /// Whether the line is too long to be kept.
    is_skipping: bool,
    is_begun: bool,
    ids: Ids,
    seen: Seen,
}

impl Lines {
    #[must_use]
    pub fn new(
        kind: Kind,
        resource_type: &str,
        is_organized: bool,
        max_line: usize,
        ids: Ids,
    ) -> Lines {
        Lines {
            kind,
            expected_type: resource_type.to_owned(),
            is_organized,
            max_line,
            number: 0,
            rest: Vec::new(),
            is_skipping: false,
            is_begun: false,
            ids,
            seen: Seen::default(),
        }
    }

    /// Takes the next bytes of the content.
    ///
    /// # Errors
    /// When the ids cannot be written.
    pub fn feed(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while let Some(end) = memchr(b'\n', bytes) {
            let (head, tail) = bytes.split_at(end);
            bytes = &tail[1..];
            if self.is_skipping {
                self.is_skipping = false;
                self.too_long();
            } else if self.rest.is_empty() {
                self.line(head)?;
            } else if self.rest.len() + head.len() > self.max_line {
                self.rest.clear();
                self.too_long();
            } else {
                let mut whole = std::mem::take(&mut self.rest);
                whole.extend_from_slice(head);
                self.line(&whole)?;
                whole.clear();
                // One long line is no reason to keep its room.
                if whole.capacity() <= 1024 * 1024 {
                    self.rest = whole;
                }
            }
        }
        if self.is_skipping {
            return Ok(());
        }
        if self.rest.len() + bytes.len() > self.max_line {
            self.rest = Vec::new();
            self.is_skipping = true;
        } else {
            self.rest.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// The end of the content.
    ///
    /// # Errors
    /// When the ids cannot be written.
    pub fn finish(mut self, expected: Option<u64>) -> std::io::Result<Seen> {
        if self.is_skipping {
            self.too_long();
        } else if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.line(&rest)?;
        }
        self.ids.finish()?;
        let lines = self.seen.lines;
        if let Some(expected) = expected.filter(|expected| *expected != lines) {
            self.find(
                None,
                "bulk.count_mismatch",
                Severity::Error,
                format!("the manifest counts {expected} resources, {lines} are there"),
            );
        }
        Ok(self.seen)
    }

    fn too_long(&mut self) {
        self.number += 1;
        let limit = self.max_line >> 20;
        self.bad(format!("the line is longer than {limit} MiB"));
    }

    fn line(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.number += 1;
        let mut line = line.strip_suffix(b"\r").unwrap_or(line);
        if !self.is_begun {
            self.is_begun = true;
            if let Some(rest) = line.strip_prefix(b"\xef\xbb\xbf") {
                line = rest;
                self.odd("the file begins with a byte order mark");
            }
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            self.odd("the line is blank");
            return Ok(());
        }
        if line.len() > self.max_line {
            self.number -= 1;
            self.too_long();
            return Ok(());
        }
        let Ok(text) = std::str::from_utf8(line) else {
            self.bad("the line is not UTF-8".to_owned());
            return Ok(());
        };
        if !text.trim_start().starts_with('{') {
            self.bad("the line is not a JSON object (column 1)".to_owned());
            return Ok(());
        }
        let parsed: Parsed<'_>;
        let (resource_type, id) = match head::of(text) {
            Some(head) => (head.resource_type, head.id),
            None => match serde_json::from_str(text) {
                Ok(whole) => {
                    parsed = whole;
                    (parsed.resource_type.as_text(), parsed.id.as_text())
                }
                Err(error) => {
                    let what = if error.is_eof() { "ends in the middle of" } else { "is not" };
                    self.bad(format!("the line {what} a JSON object (column {})", error.column()));
                    return Ok(());
                }
            },
        };
        let Some(resource_type) = resource_type else {
            self.bad("the line has no resourceType".to_owned());
            return Ok(());
        };
        if self.is_organized && self.kind == Kind::Output && resource_type == "Parameters" {
            return Ok(());
        }
        self.seen.lines += 1;
        if !self.expected_type.is_empty()
            && !self.is_organized
            && resource_type != self.expected_type
        {
            let shown = if is_type(resource_type) { resource_type } else { "another type" };
            self.find(
                Some(self.number),
                "bulk.wrong_type",
                Severity::Error,
                format!("{shown} in a file of {}", self.expected_type),
            );
        }
        match self.kind {
            Kind::Output => {
                let id = id.unwrap_or_default();
                if id.is_empty() {
                    self.bad("the resource has no id".to_owned());
                } else if is_id(id) {
                    self.ids.add(resource_type, id, self.number)?;
                } else {
                    self.find(
                        Some(self.number),
                        "bulk.bad_line",
                        Severity::Warning,
                        "the resource's id is no FHIR id".to_owned(),
                    );
                    self.ids.add(resource_type, id, self.number)?;
                }
            }
            Kind::Error => self.outcome(text),
            Kind::Deleted => self.deletions(text)?,
        }
        Ok(())
    }

    fn outcome(&mut self, text: &str) {
        let Some(outcome) = OperationOutcome::parse(BodyKind::Json, text.as_bytes()) else {
            return;
        };
        for issue in &outcome.issues {
            match issue.severity {
                IssueSeverity::Error | IssueSeverity::Fatal => self.seen.issues.error += 1,
                IssueSeverity::Warning => self.seen.issues.warning += 1,
                _ => self.seen.issues.information += 1,
            }
        }
        let worst = outcome.worst().unwrap_or(IssueSeverity::Error);
        let code = outcome.issues.iter().find(|issue| issue.severity == worst).map(|it| &*it.code);
        let code = code.filter(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
        let severity = match worst {
            IssueSeverity::Error | IssueSeverity::Fatal => Severity::Error,
            IssueSeverity::Warning => Severity::Warning,
            _ => Severity::Note,
        };
        let code = code.filter(|code| !code.is_empty()).unwrap_or("without a code");
        self.find(
            Some(self.number),
            "bulk.outcome",
            severity,
            format!("the server reports an issue of severity {}: {code}", worst.as_str()),
        );
    }

    /// Bulk Data Access STU2, "deleted": transactions whose entries are deletions.
    fn deletions(&mut self, text: &str) -> std::io::Result<()> {
        let bundle: Deletions<'_> = match serde_json::from_str(text) {
            Ok(bundle) => bundle,
            Err(_) => {
                self.bad("the line is no Bundle of deletions".to_owned());
                return Ok(());
            }
        };
        for entry in bundle.entry {
            let url = entry.request.url.as_text().unwrap_or_default();
            let url = url.trim_start_matches('/');
            // A full URL ends in type and id too.
            let mut parts = url.rsplit('/');
            let (id, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            if entry.request.method.as_text() == Some("DELETE") && is_type(kind) && is_id(id) {
                self.seen.deletions += 1;
                self.ids.add(kind, id, self.number)?;
            } else {
                self.find(
                    Some(self.number),
                    "bulk.bad_line",
                    Severity::Error,
                    "an entry of the Bundle is no deletion of a resource".to_owned(),
                );
            }
        }
        Ok(())
    }

    fn bad(&mut self, message: String) {
        self.find(Some(self.number), "bulk.bad_line", Severity::Error, message);
    }

    fn odd(&mut self, message: &str) {
        self.find(Some(self.number), "bulk.odd_line", Severity::Warning, message.to_owned());
    }

    fn find(&mut self, line: Option<u64>, code: &str, severity: Severity, message: String) {
        self.seen.found += 1;
        if severity == Severity::Error {
            self.seen.errors += 1;
        }
        if self.seen.findings.len() < FINDINGS_KEPT {
            let code = code.to_owned();
            self.seen.findings.push(Finding { file: None, line, code, severity, message });
        } else if severity == Severity::Error
            && let Some(lesser) =
                self.seen.findings.iter().rposition(|it| it.severity != Severity::Error)
        {
            // What decides is kept before what does not.
            let code = code.to_owned();
            self.seen.findings[lesser] = Finding { file: None, line, code, severity, message };
        }
    }
}

/// A resource type by its looks.
#[must_use]
pub fn is_type(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// FHIR R4, data type `id`.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

#[derive(Deserialize)]
struct Parsed<'a> {
    #[serde(rename = "resourceType", borrow, default)]
    resource_type: Word<'a>,
    #[serde(borrow, default)]
    id: Word<'a>,
}

#[derive(Deserialize)]
struct Deletions<'a> {
    #[serde(borrow, default)]
    entry: Vec<Deletion<'a>>,
}

#[derive(Deserialize)]
struct Deletion<'a> {
    #[serde(borrow, default)]
    request: Requested<'a>,
}

#[derive(Default, Deserialize)]
struct Requested<'a> {
    #[serde(borrow, default)]
    method: Word<'a>,
    #[serde(borrow, default)]
    url: Word<'a>,
}

/// A text, or something that should have been one.
#[derive(Default)]
struct Word<'a>(Option<Cow<'a, str>>);

impl Word<'_> {
    fn as_text(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Word<'a>, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Word<'de>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Word<'de>, E> {
                Ok(Word(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E>(self, text: &str) -> Result<Word<'de>, E> {
                Ok(Word(Some(Cow::Owned(text.to_owned()))))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Word<'de>, E> {
                Ok(Word(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Word<'de>, E> {
                Ok(Word(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Word<'de>, E> {
                Ok(Word(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Word<'de>, E> {
                Ok(Word(None))
            }

            fn visit_unit<E>(self) -> Result<Word<'de>, E> {
                Ok(Word(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Word<'de>, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Word(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Word<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Word(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests;
