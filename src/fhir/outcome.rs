//! OperationOutcome: what a server says of an answer.

use crate::model::limits;
use crate::model::text::{bounded, one_line};

use super::body::BodyKind;
use super::wire::{self, Nested, Shape, Text, Want};

/// Most issues that are kept.
const MOST_ISSUES: usize = 50;

/// The code system <http://hl7.org/fhir/issue-type>, R4 and R5.
const ISSUE_TYPES: [&str; 33] = [
    "invalid",
    "structure",
    "required",
    "value",
    "invariant",
    "security",
    "login",
    "unknown",
    "expired",
    "forbidden",
    "suppressed",
    "processing",
    "not-supported",
    "duplicate",
    "multiple-matches",
    "not-found",
    "deleted",
    "too-long",
    "code-invalid",
    "extension",
    "too-costly",
    "business-rule",
    "conflict",
    "limited-filter",
    "transient",
    "lock-error",
    "no-store",
    "exception",
    "timeout",
    "incomplete",
    "throttled",
    "informational",
    "success",
];

/// The server's issues. Their texts are the server's own words: bounded, to be shown, never stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationOutcome {
    pub issues: Vec<Issue>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    pub severity: IssueSeverity,
    /// Such as `exception`; empty when the server gave none.
    pub code: String,
    /// `details.text`, or the display of its first code.
    pub text: Option<String>,
    pub diagnostics: Option<String>,
}

/// In rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IssueSeverity {
    /// R5 and later.
    Success,
    Information,
    Warning,
    Error,
    Fatal,
}

impl IssueSeverity {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            IssueSeverity::Success => "success",
            IssueSeverity::Information => "information",
            IssueSeverity::Warning => "warning",
            IssueSeverity::Error => "error",
            IssueSeverity::Fatal => "fatal",
        }
    }

    /// What is missing or no code counts as an error: an outcome is sent for a reason.
    fn parse(text: &str) -> IssueSeverity {
        match text {
            "success" => IssueSeverity::Success,
            "information" => IssueSeverity::Information,
            "warning" => IssueSeverity::Warning,
            "fatal" => IssueSeverity::Fatal,
            _ => IssueSeverity::Error,
        }
    }
}

impl OperationOutcome {
    /// Reads an OperationOutcome; `None` when the body is something else or cannot be read (HT-04).
    #[must_use]
    pub fn parse(kind: BodyKind, body: &[u8]) -> Option<OperationOutcome> {
        let mut root = Root::default();
        wire::read(kind, body, &mut root).ok()?;
        (root.resource_type == "OperationOutcome")
            .then_some(OperationOutcome { issues: root.issues })
    }

    /// The worst severity; `None` without issues.
    #[must_use]
    pub fn worst(&self) -> Option<IssueSeverity> {
        self.issues.iter().map(|issue| issue.severity).max()
    }

    /// The type of the first of the worst issues, where the specification knows it: a server's own
    /// word could be anything.
    #[must_use]
    pub fn issue_type(&self) -> Option<&'static str> {
        let worst = self.worst()?;
        let issue = self.issues.iter().find(|issue| issue.severity == worst)?;
        ISSUE_TYPES.iter().copied().find(|known| *known == issue.code)
    }

    /// Whether an issue is an error or fatal.
    #[must_use]
    pub fn has_error(&self) -> bool {
        self.worst() >= Some(IssueSeverity::Error)
    }

    /// The issues on one line, worst first, in the server's words, at most so many characters.
    #[must_use]
    pub fn summary(&self, max_chars: usize) -> String {
        summary(&self.issues, max_chars)
    }
}

pub(super) fn summary(issues: &[Issue], max_chars: usize) -> String {
    let mut issues: Vec<&Issue> = issues.iter().collect();
    issues.sort_by_key(|issue| std::cmp::Reverse(issue.severity));
    let mut line = String::new();
    for issue in issues {
        if line.len() > max_chars * 4 {
            break;
        }
        if !line.is_empty() {
            line.push_str("; ");
        }
        line.push_str(issue.severity.as_str());
        if !issue.code.is_empty() {
            line.push(' ');
            line.push_str(&issue.code);
        }
        let mut said = [&issue.text, &issue.diagnostics].into_iter().flatten();
        if let Some(first) = said.next() {
            line.push_str(": ");
            line.push_str(first);
        }
        if let Some(second) = said.next().filter(|second| !line.ends_with(second.as_str())) {
            line.push_str(" (");
            line.push_str(second);
            line.push(')');
        }
    }
    bounded(&one_line(&line), max_chars)
}

#[derive(Default)]
struct Root<'a> {
    resource_type: Text<'a>,
    issues: Vec<Issue>,
}

impl<'a> Shape<'a> for Root<'a> {
    const NAME: &'static str = "";

    fn want(&self, key: &str) -> Want {
        match key {
            "resourceType" => Want::Text,
            "issue" => Want::Object,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, _key: &str, value: Text<'a>) {
        self.resource_type = value;
    }

    fn object<N: Nested<'a>>(&mut self, _key: &str, nested: N) -> Result<(), N::Error> {
        read_issue(nested, &mut self.issues)
    }
}

/// Reads one `issue` into a list that is kept short; worse ones are not pushed out by the bound
/// because servers send them first.
pub(super) fn read_issue<'a, N: Nested<'a>>(
    nested: N,
    issues: &mut Vec<Issue>,
) -> Result<(), N::Error> {
    if issues.len() >= MOST_ISSUES {
        return nested.skip();
    }
    let mut raw = RawIssue::default();
    nested.read(&mut raw)?;
    let kept = |text: Text<'a>| {
        let text = bounded(&one_line(&text), limits::SERVER_TEXT_CHARS);
        (!text.is_empty()).then_some(text)
    };
    issues.push(Issue {
        severity: IssueSeverity::parse(&raw.severity),
        code: bounded(&one_line(&raw.code), 40),
        text: raw.text.or(raw.display).and_then(kept),
        diagnostics: raw.diagnostics.and_then(kept),
    });
    Ok(())
}

#[derive(Default)]
struct RawIssue<'a> {
    severity: Text<'a>,
    code: Text<'a>,
    diagnostics: Option<Text<'a>>,
    text: Option<Text<'a>>,
    display: Option<Text<'a>>,
}

impl<'a> Shape<'a> for RawIssue<'a> {
    const NAME: &'static str = "issue";

    fn want(&self, key: &str) -> Want {
        match key {
            "severity" | "code" | "diagnostics" => Want::Text,
            "details" => Want::TextOrObject,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "severity" => self.severity = value,
            "code" => self.code = value,
            "details" => self.text = Some(value),
            _ => self.diagnostics = Some(value),
        }
    }

    fn object<N: Nested<'a>>(&mut self, _key: &str, nested: N) -> Result<(), N::Error> {
        let mut details = Details::default();
        nested.read(&mut details)?;
        self.text = details.text;
        self.display = details.display;
        Ok(())
    }
}

#[derive(Default)]
struct Details<'a> {
    text: Option<Text<'a>>,
    display: Option<Text<'a>>,
}

impl<'a> Shape<'a> for Details<'a> {
    const NAME: &'static str = "issue.details";

    fn want(&self, key: &str) -> Want {
        match key {
            "text" | "display" => Want::Text,
            "coding" => Want::Object,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "text" => self.text = Some(value),
            _ => self.display = Some(value),
        }
    }

    fn object<N: Nested<'a>>(&mut self, _key: &str, nested: N) -> Result<(), N::Error> {
        let mut coding = Details::default();
        nested.read(&mut coding)?;
        self.display = self.display.take().or(coding.display);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_issue_comes_first_in_the_summary() {
        let body = br#"{"resourceType":"OperationOutcome","text":{"div":"<div/>"},"issue":[
            {"severity":"information","code":"informational","diagnostics":"All fine"},
            {"severity":"error","code":"exception","details":{"coding":[{"display":"Oops"}]},
             "diagnostics":"line\u001b one\nline two"}]}"#;
        let outcome = OperationOutcome::parse(BodyKind::Json, body).unwrap();
        assert_eq!(outcome.worst(), Some(IssueSeverity::Error));
        assert!(outcome.has_error());
        assert_eq!(
            outcome.summary(200),
            "error exception: Oops (line␛ one line two); information informational: All fine"
        );
        assert_eq!(outcome.summary(5), "error…");
    }

    #[test]
    fn xml_is_read_and_other_resources_are_not_an_outcome() {
        let body = b"<OperationOutcome xmlns=\"http://hl7.org/fhir\"><issue><severity value=\"warning\"/>
            <code value=\"not-supported\"/><details><text value=\"a &lt; b\"/></details></issue></OperationOutcome>";
        let outcome = OperationOutcome::parse(BodyKind::Xml, body).unwrap();
        assert_eq!(outcome.issues[0].text.as_deref(), Some("a < b"));
        assert!(!outcome.has_error());
        let patient = br#"{"resourceType":"Patient","issue":[{"severity":"error"}]}"#;
        assert_eq!(OperationOutcome::parse(BodyKind::Json, patient), None);
    }

    #[test]
    fn an_issue_without_a_severity_counts_as_an_error() {
        let body = br#"{"resourceType":"OperationOutcome","issue":[{}]}"#;
        assert!(OperationOutcome::parse(BodyKind::Json, body).unwrap().has_error());
        let empty = br#"{"resourceType":"OperationOutcome"}"#;
        assert_eq!(OperationOutcome::parse(BodyKind::Json, empty).unwrap().worst(), None);
    }
}
