//! What a server says of an import that it has done: a manifest, or an OperationOutcome.

use serde::Deserialize;
use serde_json::Value;

use super::bundle::issue_codes;
use super::family::shown;
use crate::model::{Error, ErrorKind, Result};

/// Most files that are told of.
const FILES: usize = 100_000;

/// What came of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    pub files: Vec<Done>,
    pub error_files: Vec<ErrorFile>,
    /// Codes of errors that the answer itself tells, one for each.
    pub errors: Vec<String>,
}

/// One file of ours, as the server tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub resource_type: Option<String>,
    /// The address that it fetched.
    pub input: Option<String>,
    pub count: Option<u64>,
}

/// A file with errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorFile {
    pub input: Option<String>,
    pub url: Option<String>,
    pub count: Option<u64>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "resourceType", default)]
    resource_type: Option<String>,
    #[serde(default)]
    issue: Value,
    #[serde(default)]
    output: Option<Vec<Item>>,
    #[serde(default)]
    error: Option<Vec<Item>>,
    #[serde(default)]
    outcome: Option<Vec<Item>>,
    #[serde(rename = "transactionTime", default)]
    transaction_time: Option<Value>,
    #[serde(rename = "submissionId", default)]
    submission: Option<Value>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    r#type: Option<String>,
    #[serde(default)]
    count: Option<Value>,
    #[serde(rename = "inputUrl", default)]
    input: Option<String>,
    #[serde(default)]
    url: Option<String>,
}

/// Reads the body of a job that is done.
///
/// # Errors
/// Exit 65 when it is neither.
pub fn read(body: &[u8]) -> Result<Completion> {
    if body.trim_ascii().is_empty() {
        return Ok(Completion::default());
    }
    let unknown = || {
        Error::new(
            ErrorKind::Data,
            "the server says that the import is done, and not what came of it (no manifest, no OperationOutcome)",
        )
        .hint("compare the counts on the server with what was sent")
    };
    let answer: Answer = serde_json::from_slice(body).map_err(|_| unknown())?;
    if answer.resource_type.as_deref() == Some("OperationOutcome") {
        // One error for each issue, so that none is lost in the sum.
        let issues = answer.issue.as_array().into_iter().flatten();
        let is_error = |issue: &&Value| {
            let severity = issue.get("severity").and_then(Value::as_str);
            matches!(severity, Some("error" | "fatal") | None)
        };
        let errors = issues.filter(is_error).map(|issue| {
            let code = issue_codes(&Value::Array(vec![issue.clone()])).into_iter().next();
            code.unwrap_or_else(|| "unknown".to_owned())
        });
        return Ok(Completion { errors: errors.collect(), ..Completion::default() });
    }
    let is_manifest = answer.output.is_some()
        || answer.error.is_some()
        || answer.outcome.is_some()
        || answer.transaction_time.is_some()
        || answer.submission.is_some();
    if !is_manifest {
        return Err(unknown());
    }
    let number = |count: &Option<Value>| count.as_ref().and_then(Value::as_u64);
    // Some list what they have to say among what they took.
    let is_outcome = |it: &Item| it.r#type.as_deref() == Some("OperationOutcome");
    let (said, output): (Vec<Item>, Vec<Item>) =
        answer.output.unwrap_or_default().into_iter().partition(is_outcome);
    let errors = answer.error.unwrap_or_default().into_iter().chain(said);
    Ok(Completion {
        files: output
            .into_iter()
            .take(FILES)
            .map(|it| Done { count: number(&it.count), resource_type: it.r#type, input: it.input })
            .collect(),
        error_files: errors
            .chain(answer.outcome.unwrap_or_default())
            .take(FILES)
            .map(|it| ErrorFile { count: number(&it.count), input: it.input, url: it.url })
            .collect(),
        errors: Vec::new(),
    })
}

/// One row of the table that every family comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct Row {
    pub url: String,
    pub r#type: Option<String>,
    /// `None`: the server does not say.
    pub count: Option<u64>,
    pub errors: u64,
}

/// Rows by file. `sent`: type and address of each file; `errors`: those of each error file, in
/// the order of `error_files`.
#[must_use]
pub fn rows(sent: &[(String, String)], completion: &Completion, errors: &[u64]) -> Vec<Row> {
    let mut rows: Vec<Row> = sent
        .iter()
        .map(|(name, url)| Row { url: shown(url), r#type: Some(name.clone()), ..Row::default() })
        .collect();
    let at = |rows: &mut Vec<Row>, input: Option<&str>, name: Option<&str>| {
        let by_url = input.map(shown);
        let known = match &by_url {
            Some(url) => rows.iter().position(|row| row.url == *url),
            None => rows.iter().position(|row| name.is_some() && row.r#type.as_deref() == name),
        };
        known.unwrap_or_else(|| {
            // A server may tell of what nobody sent, or not of which file it speaks.
            let url = by_url.unwrap_or_else(|| "(not told)".to_owned());
            rows.push(Row { url, r#type: name.map(str::to_owned), ..Row::default() });
            rows.len() - 1
        })
    };
    for done in &completion.files {
        let at = at(&mut rows, done.input.as_deref(), done.resource_type.as_deref());
        if let (Some(count), Some(row)) = (done.count, rows.get_mut(at)) {
            row.count = Some(row.count.unwrap_or(0) + count);
        }
    }
    for (file, errors) in completion.error_files.iter().zip(errors).filter(|(_, it)| **it > 0) {
        let at = at(&mut rows, file.input.as_deref(), None);
        if let Some(row) = rows.get_mut(at) {
            row.errors += errors;
        }
    }
    if !completion.errors.is_empty() {
        let input = (sent.len() == 1).then(|| sent[0].1.as_str());
        let at = at(&mut rows, input, None);
        if let Some(row) = rows.get_mut(at) {
            row.errors += completion.errors.len() as u64;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_family_comes_to_the_same_rows() {
        let url = "https://f/Patient.ndjson?sig=1";
        let sent = [("Patient".to_owned(), url.to_owned())];
        let microsoft = json!({"transactionTime": "2026-01-01T00:00:00Z", "request": "x",
            "output": [{"type": "Patient", "count": 4, "inputUrl": url}],
            "error": [{"type": "OperationOutcome", "count": 1, "inputUrl": url, "url": "https://h/e"}]});
        let manifest = json!({"transactionTime": "2026-01-01T00:00:00Z",
            "output": [{"type": "Patient", "count": 4, "inputUrl": url}],
            "outcome": [{"url": "https://h/e", "count": 1, "inputUrl": url}]});
        let hapi = json!({"resourceType": "OperationOutcome", "issue": [
            {"severity": "information", "code": "informational"}, {"severity": "error", "code": "processing"}]});
        let row = |count| Row {
            url: "https://f/Patient.ndjson?(redacted)".into(),
            r#type: Some("Patient".into()),
            count,
            errors: 1,
        };
        for (body, count) in [(microsoft, Some(4)), (manifest, Some(4)), (hapi, None)] {
            let completion = read(body.to_string().as_bytes()).unwrap();
            let errors = vec![1; completion.error_files.len()];
            assert_eq!(rows(&sent, &completion, &errors), [row(count)], "{body}");
        }
    }

    #[test]
    fn counts_without_an_address_go_to_the_file_of_their_type() {
        let sent =
            ["Patient", "Organization"].map(|name| (name.to_owned(), format!("https://f/{name}")));
        let body = json!({"submissionId": "i", "output": [
            {"type": "Organization", "count": 1, "manifestUrl": "https://f/m", "url": "https://h/1"},
            {"type": "Patient", "count": 2, "manifestUrl": "https://f/m", "url": "https://h/2"},
            {"type": "Patient", "count": 3, "manifestUrl": "https://f/m", "url": "https://h/3"},
            {"type": "OperationOutcome", "count": 1, "url": "https://h/4"}]});
        let completion = read(body.to_string().as_bytes()).unwrap();
        assert_eq!(completion.error_files.len(), 1);
        let rows = rows(&sent, &completion, &[0]);
        let counts: Vec<_> = rows.iter().map(|row| row.count).collect();
        assert_eq!(counts, [Some(5), Some(1)]);
    }

    #[test]
    fn a_page_is_no_completion() {
        for body in ["<html>", "{}", "[]", r#"{"resourceType":"Bundle"}"#] {
            assert_eq!(read(body.as_bytes()).unwrap_err().kind, ErrorKind::Data, "{body}");
        }
        assert_eq!(read(b" ").unwrap(), Completion::default());
    }
}
