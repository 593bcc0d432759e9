//! Bundles: what a search really answered, and which parameters it did not use.

use std::collections::BTreeMap;

use super::body::BodyKind;
use super::capability::wrong_resource;
use super::outcome::{Issue, IssueSeverity, read_issue};
use super::types::is_any_resource_type;
use super::wire::{self, Nested, ParseError, Shape, Text, Want};

/// What there is to know of a Bundle without keeping any of its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BundleFacts {
    /// Such as `searchset`; empty when missing.
    pub type_: String,
    /// `None` when the server did not say; then the number is not known (HT-15).
    pub total: Option<u64>,
    /// Entries in this page, outcomes and included records too.
    pub entry_count: usize,
    /// Entries that are matches: neither included records nor outcomes.
    pub match_count: usize,
    pub self_link: Option<String>,
    pub next_link: Option<String>,
    /// Resource types of the entries and how many there are of each.
    pub types: BTreeMap<String, usize>,
    /// Issues of OperationOutcomes among the entries.
    pub issues: Vec<Issue>,
}

impl BundleFacts {
    /// Reads a Bundle. Protocol checks HT-12 to HT-15.
    ///
    /// # Errors
    /// [`ParseError::WrongResource`] for another resource, such as an OperationOutcome.
    pub fn parse(kind: BodyKind, body: &[u8]) -> Result<BundleFacts, ParseError> {
        let mut root = Root::default();
        wire::read(kind, body, &mut root)?;
        if root.resource_type != "Bundle" {
            return Err(wrong_resource(&root.resource_type));
        }
        Ok(root.facts)
    }

    /// Whether an outcome among the entries has an error.
    #[must_use]
    pub fn has_error(&self) -> bool {
        self.issues.iter().any(|issue| issue.severity >= IssueSeverity::Error)
    }

    /// Whether the search found nothing at all: no match here and no total that says otherwise.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.match_count == 0 && self.total.unwrap_or(0) == 0
    }
}

/// Parameters that shape the answer and select nothing. Leaving one out is no wrong result.
const CONTROL_PARAMETERS: [&str; 17] = [
    "_format",
    "_pretty",
    "_summary",
    "_elements",
    "_count",
    "_total",
    "_sort",
    "_include",
    "_revinclude",
    "_contained",
    "_containedType",
    "_score",
    "_maxresults",
    "_graph",
    "_offset",
    "_page",
    "_language",
];

/// What stands in a link that points into a stored result and repeats no parameters.
const CURSOR_PARAMETERS: [&str; 10] = [
    "_getpages",
    "_page_token",
    "_cursor",
    "_continuation",
    "ct",
    "__t",
    "sessionid",
    "stateid",
    "searchid",
    "queryid",
];

/// Names of the parameters that a search asked for and its `self` link does not show, in the order
/// they were asked, each once; with their modifier when only that was left out. Never a value (HT-13).
///
/// Without a `self` link nothing is known, so nothing is reported.
#[must_use]
pub fn ignored_parameters(requested_path_and_query: &str, self_link: Option<&str>) -> Vec<String> {
    let Some(self_link) = self_link.map(str::trim).filter(|link| !link.is_empty()) else {
        return Vec::new();
    };
    let used: Vec<String> = parameters(self_link).into_iter().map(|(name, _)| name).collect();
    let mut ignored: Vec<String> = Vec::new();
    let mut shown = 0;
    for (name, has_value) in parameters(requested_path_and_query) {
        let plain = name.split(':').next().unwrap_or(&name);
        // A parameter without a value is to be left out.
        if !has_value || CONTROL_PARAMETERS.contains(&plain) {
            continue;
        }
        if used.iter().any(|used| same_parameter(&name, used)) {
            shown += 1;
        } else if !ignored.contains(&name) {
            ignored.push(name);
        }
    }
    let is_cursor = shown == 0
        && used
            .iter()
            .any(|name| CURSOR_PARAMETERS.iter().any(|cursor| name.eq_ignore_ascii_case(cursor)));
    if is_cursor {
        return Vec::new();
    }
    // Control characters and length are the asker's own, but the message is shown.
    ignored.iter().map(|name| super::capability::shown(name)).collect()
}

/// Decoded names of a query's parameters, and whether each has a value.
fn parameters(link: &str) -> Vec<(String, bool)> {
    let query = link.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.into_owned(), !value.is_empty()))
        .collect()
}

/// Whether a parameter of the self link is the requested one. A type as modifier, `subject:Patient`,
/// may move into the value: `subject=Patient/1`.
fn same_parameter(requested: &str, used: &str) -> bool {
    requested == used || without_type(requested) == without_type(used)
}

fn without_type(name: &str) -> String {
    name.split('.')
        .map(|step| match step.split_once(':') {
            Some((plain, modifier)) if is_any_resource_type(modifier) => plain,
            _ => step,
        })
        .collect::<Vec<_>>()
        .join(".")
}

#[derive(Default)]
struct Root<'a> {
    resource_type: Text<'a>,
    facts: BundleFacts,
}

impl<'a> Shape<'a> for Root<'a> {
    const NAME: &'static str = "";

    fn want(&self, key: &str) -> Want {
        match key {
            "resourceType" | "type" => Want::Text,
            "total" => Want::Number,
            "link" | "entry" => Want::Object,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "resourceType" => self.resource_type = value,
            "type" => self.facts.type_ = value.into_owned(),
            _ => self.facts.total = value.parse().ok(),
        }
    }

    fn object<N: Nested<'a>>(&mut self, key: &str, nested: N) -> Result<(), N::Error> {
        if key == "link" {
            let mut link = Link::default();
            nested.read(&mut link)?;
            match &*link.relation {
                "self" => self.facts.self_link = Some(link.url.into_owned()),
                "next" => self.facts.next_link = Some(link.url.into_owned()),
                _ => {}
            }
            return Ok(());
        }
        let mut entry =
            Entry { issues: std::mem::take(&mut self.facts.issues), ..Entry::default() };
        nested.read(&mut entry)?;
        self.facts.issues = entry.issues;
        self.facts.entry_count += 1;
        let is_outcome = entry.mode == "outcome" || entry.resource_type == "OperationOutcome";
        if entry.mode != "include" && !is_outcome {
            self.facts.match_count += 1;
        }
        if !entry.resource_type.is_empty() {
            // A server that invents types without end is not followed.
            let name = if is_any_resource_type(&entry.resource_type) {
                entry.resource_type.as_str()
            } else {
                "unknown"
            };
            match self.facts.types.get_mut(name) {
                Some(count) => *count += 1,
                None => {
                    self.facts.types.insert(name.to_owned(), 1);
                }
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Link<'a> {
    relation: Text<'a>,
    url: Text<'a>,
}

impl<'a> Shape<'a> for Link<'a> {
    const NAME: &'static str = "link";

    fn want(&self, key: &str) -> Want {
        if matches!(key, "relation" | "url") { Want::Text } else { Want::Skip }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "relation" => self.relation = value,
            _ => self.url = value,
        }
    }
}

#[derive(Default)]
struct Entry<'a> {
    mode: Text<'a>,
    resource_type: String,
    issues: Vec<Issue>,
}

impl<'a> Shape<'a> for Entry<'a> {
    const NAME: &'static str = "entry";

    fn want(&self, key: &str) -> Want {
        if matches!(key, "resource" | "search") { Want::Object } else { Want::Skip }
    }

    fn text(&mut self, _key: &str, _value: Text<'a>) {}

    fn object<N: Nested<'a>>(&mut self, key: &str, nested: N) -> Result<(), N::Error> {
        if key == "search" {
            let mut search = Search::default();
            nested.read(&mut search)?;
            self.mode = search.mode;
            return Ok(());
        }
        let before = self.issues.len();
        let mut slot = Slot { issues: std::mem::take(&mut self.issues), ..Slot::default() };
        nested.read(&mut slot)?;
        self.issues = slot.issues;
        // `issue` of another resource is its own business.
        if slot.resource_type != "OperationOutcome" {
            self.issues.truncate(before);
        }
        self.resource_type = slot.resource_type.into_owned();
        Ok(())
    }
}

#[derive(Default)]
struct Search<'a> {
    mode: Text<'a>,
}

impl<'a> Shape<'a> for Search<'a> {
    const NAME: &'static str = "entry.search";

    fn want(&self, key: &str) -> Want {
        if key == "mode" { Want::Text } else { Want::Skip }
    }

    fn text(&mut self, _key: &str, value: Text<'a>) {
        self.mode = value;
    }
}

/// The resource of an entry. In XML one more element, named by the type, stands around it.
#[derive(Default)]
struct Slot<'a> {
    resource_type: Text<'a>,
    issues: Vec<Issue>,
}

impl<'a> Shape<'a> for Slot<'a> {
    const NAME: &'static str = "entry.resource";

    fn want(&self, key: &str) -> Want {
        match key {
            "resourceType" => Want::Text,
            "issue" => Want::Object,
            // No member of a JSON resource starts with a capital.
            _ if key.starts_with(|first: char| first.is_ascii_uppercase()) => Want::Object,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, _key: &str, value: Text<'a>) {
        self.resource_type = value;
    }

    fn object<N: Nested<'a>>(&mut self, key: &str, nested: N) -> Result<(), N::Error> {
        if key == "issue" {
            return read_issue(nested, &mut self.issues);
        }
        if !self.resource_type.is_empty() {
            return nested.skip();
        }
        self.resource_type = Text::Owned(key.to_owned());
        nested.read(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_the_self_link_does_not_show_was_ignored() {
        let cases: [(&str, Option<&str>, &[&str]); 16] = [
            ("Patient?family=X", Some("http://h/fhir/Patient"), &["family"]),
            ("Patient?family=X", Some("http://h/fhir/Patient?family=X"), &[]),
            ("Patient?family=X", Some("Patient?family=x"), &[]),
            ("Patient?family=X", None, &[]),
            ("Patient?family=X", Some(""), &[]),
            ("Patient?_id=1&_summary=count", Some("http://h/Patient?_id=1"), &[]),
            ("Patient?_id=1&_count=5", Some("http://h/Patient?_count=5"), &["_id"]),
            ("Patient?name%3Aexact=X", Some("http://h/Patient?name:exact=X"), &[]),
            ("Patient?name:exact=X", Some("http://h/Patient?name=X"), &["name:exact"]),
            ("Observation?subject:Patient=1", Some("Observation?subject=Patient%2F1"), &[]),
            ("Observation?subject:Patient.name=x", Some("Observation?subject.name=x"), &[]),
            ("Patient?name=", Some("http://h/Patient"), &[]),
            ("Patient?a=1&b=2&a=3", Some("http://h/Patient?c=1"), &["a", "b"]),
            ("Patient?family=X", Some("http://h/fhir?_getpages=abc&_bundletype=searchset"), &[]),
            ("Patient?_sort=name&_include=Patient:organization", Some("http://h/Patient"), &[]),
            ("/Patient?_lastUpdated=gt2020#x", Some("/Patient?_format=json"), &["_lastUpdated"]),
        ];
        for (requested, link, expected) in cases {
            assert_eq!(ignored_parameters(requested, link), expected, "{requested} {link:?}");
        }
    }

    #[test]
    fn a_page_is_counted_without_keeping_its_records() {
        let body = br#"{"resourceType":"Bundle","type":"searchset","total":2,
            "link":[{"relation":"self","url":"http://h/Patient"},{"relation":"next","url":"http://h/p2"}],
            "entry":[
              {"resource":{"resourceType":"Patient","id":"1"},"search":{"mode":"match"}},
              {"resource":{"id":"o","resourceType":"Organization"},"search":{"mode":"include"}},
              {"resource":{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"not-supported","diagnostics":"ignored"}]},"search":{"mode":"outcome"}},
              {"resource":{"resourceType":"Claim","issue":[{"severity":"fatal"}]}}]}"#;
        let facts = BundleFacts::parse(BodyKind::Json, body).unwrap();
        assert_eq!(facts.total, Some(2));
        assert_eq!((facts.entry_count, facts.match_count), (4, 2));
        assert_eq!(facts.self_link.as_deref(), Some("http://h/Patient"));
        assert_eq!(facts.next_link.as_deref(), Some("http://h/p2"));
        assert_eq!(facts.types["Patient"], 1);
        assert_eq!(facts.issues.len(), 1);
        assert!(!facts.has_error());
        assert!(!facts.is_empty());
    }

    #[test]
    fn an_xml_page_reads_like_a_json_one() {
        let body = br#"<?xml version="1.0"?><Bundle xmlns="http://hl7.org/fhir"><type value="searchset"/>
            <total value="0"/><link><relation value="self"/><url value="http://h/P?a=1&amp;b=2"/></link>
            <entry><resource><OperationOutcome><issue><severity value="error"/><code value="processing"/>
            </issue></OperationOutcome></resource><search><mode value="outcome"/></search></entry></Bundle>"#;
        let facts = BundleFacts::parse(BodyKind::Xml, body).unwrap();
        assert_eq!(facts.total, Some(0));
        assert_eq!(facts.self_link.as_deref(), Some("http://h/P?a=1&b=2"));
        assert!(facts.has_error());
        assert!(facts.is_empty());
        assert_eq!(facts.types["OperationOutcome"], 1);
    }

    #[test]
    fn a_missing_total_is_unknown_and_another_resource_is_refused() {
        let facts = BundleFacts::parse(BodyKind::Json, br#"{"resourceType":"Bundle"}"#).unwrap();
        assert_eq!(facts.total, None);
        assert_eq!(
            BundleFacts::parse(BodyKind::Json, br#"{"resourceType":"OperationOutcome"}"#),
            Err(ParseError::WrongResource("OperationOutcome".to_owned()))
        );
    }
}
