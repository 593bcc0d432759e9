//! A Bundle as it is sent, and what its answer says of each entry.
//!
//! FHIR R4, "batch/transaction": entries of the answer are in the order of the request.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

/// What is to be done with one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Under its own id.
    Put,
    /// Under an id that the server gives.
    Post,
    Delete,
}

/// One resource on its way.
#[derive(Clone, Debug)]
pub struct Item {
    /// Which of the inputs.
    pub file: u32,
    /// Counts from 1.
    pub line: u64,
    /// Which entry of the line, where a line has several.
    pub part: u32,
    pub verb: Verb,
    pub resource_type: String,
    /// Of a POST: the one it had.
    pub id: String,
    /// JSON; empty for a deletion.
    pub text: String,
}

impl Item {
    /// About how many bytes it takes in a Bundle.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.text.len() + 2 * (self.resource_type.len() + self.id.len()) + 160
    }
}

/// What an empty Bundle weighs.
pub const EMPTY: usize = 64;

/// The Bundle of some items. `base` ends with a slash.
#[must_use]
pub fn body(items: &[&Item], is_atomic: bool, base: &str) -> Vec<u8> {
    let size: usize = items.iter().map(|item| item.weight() + base.len()).sum();
    let mut body = String::with_capacity(size + EMPTY);
    let kind = if is_atomic { "transaction" } else { "batch" };
    body.push_str(r#"{"resourceType":"Bundle","type":""#);
    body.push_str(kind);
    body.push_str(r#"","entry":["#);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        // Types and ids are checked before: nothing in them has to be escaped.
        let (resource_type, id) = (&item.resource_type, &item.id);
        match item.verb {
            Verb::Put => {
                body.push_str(&format!(r#"{{"fullUrl":"{base}{resource_type}/{id}","resource":"#));
                body.push_str(&item.text);
                body.push_str(&format!(
                    r#","request":{{"method":"PUT","url":"{resource_type}/{id}"}}}}"#
                ));
            }
            Verb::Post => {
                body.push_str(&format!(r#"{{"fullUrl":"{id}","resource":"#));
                body.push_str(&item.text);
                body.push_str(&format!(
                    r#","request":{{"method":"POST","url":"{resource_type}"}}}}"#
                ));
            }
            Verb::Delete => body.push_str(&format!(
                r#"{{"request":{{"method":"DELETE","url":"{resource_type}/{id}"}}}}"#
            )),
        }
    }
    body.push_str("]}");
    body.into_bytes()
}

/// What the server says of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryAnswer {
    pub status: u16,
    /// Codes of the issues of its outcome.
    pub issues: Vec<String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "resourceType", default)]
    resource_type: String,
    #[serde(default)]
    entry: Vec<AnswerEntry>,
}

#[derive(Deserialize)]
struct AnswerEntry {
    response: Option<Response>,
    // Some put the outcome here.
    resource: Option<Outcome>,
}

#[derive(Deserialize)]
struct Response {
    status: Option<Value>,
    outcome: Option<Outcome>,
}

#[derive(Default, Deserialize)]
struct Outcome {
    #[serde(default)]
    issue: Value,
}

/// Reads the answer to a Bundle; `None` when it is none.
#[must_use]
pub fn answers(body: &[u8]) -> Option<Vec<EntryAnswer>> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    if answer.resource_type != "Bundle" {
        return None;
    }
    let answers = answer.entry.into_iter().map(|entry| {
        let response = entry.response?;
        let status = match response.status? {
            // It begins with the code and may go on in words.
            Value::String(text) => text.trim().get(..3)?.parse().ok()?,
            Value::Number(number) => u16::try_from(number.as_u64()?).ok()?,
            _ => return None,
        };
        let outcome = response.outcome.or(entry.resource).unwrap_or_default();
        let issues = if status >= 400 { issue_codes(&outcome.issue) } else { Vec::new() };
        Some(EntryAnswer { status, issues })
    });
    answers.collect()
}

/// Codes of issues that are errors, each once; what is no code is left out.
#[must_use]
pub fn issue_codes(issues: &Value) -> Vec<String> {
    let mut codes: Vec<String> = Vec::new();
    for issue in issues.as_array().into_iter().flatten().take(50) {
        let severity = issue.get("severity").and_then(Value::as_str).unwrap_or("error");
        let code = issue.get("code").and_then(Value::as_str).unwrap_or_default();
        let is_code = !code.is_empty()
            && code.len() <= 40
            && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        let counts = !matches!(severity, "information" | "warning" | "success");
        if is_code && counts && !codes.iter().any(|known| known == code) {
            codes.push(code.to_owned());
        }
    }
    codes
}

/// Takes a resource's id away and names what it refers to by the new names.
///
/// `new_names`: from `Type/id` to `urn:uuid:…`.
///
/// # Errors
/// When the text is no JSON.
pub fn renamed(text: &str, new_names: &HashMap<String, String>) -> serde_json::Result<String> {
    let mut resource: Value = serde_json::from_str(text)?;
    if let Value::Object(map) = &mut resource {
        map.shift_remove("id");
        if let Some(Value::Object(meta)) = map.get_mut("meta") {
            meta.shift_remove("versionId");
            meta.shift_remove("lastUpdated");
        }
    }
    rename(&mut resource, new_names);
    serde_json::to_string(&resource)
}

fn rename(value: &mut Value, new_names: &HashMap<String, String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, new_names)),
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value {
                    Value::String(text) if key == "reference" => {
                        let known = text.split("/_history/").next();
                        if let Some(new) = known.and_then(|known| new_names.get(known)) {
                            *text = new.clone();
                        }
                    }
                    other => rename(other, new_names),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn entries_keep_ids_or_get_new_ones_or_are_deleted() {
        let item = |verb, id: &str, text: &str| Item {
            file: 0,
            line: 1,
            part: 0,
            verb,
            resource_type: "Patient".into(),
            id: id.into(),
            text: text.into(),
        };
        let items = [
            item(Verb::Put, "1", r#"{"resourceType":"Patient","id":"1"}"#),
            item(Verb::Post, "urn:uuid:a", r#"{"resourceType":"Patient"}"#),
            item(Verb::Delete, "2", ""),
        ];
        let all: Vec<&Item> = items.iter().collect();
        let bytes = body(&all, true, "https://h/fhir/");
        assert!(bytes.len() <= all.iter().map(|it| it.weight() + 15).sum::<usize>() + EMPTY);
        let bundle: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            bundle,
            json!({"resourceType": "Bundle", "type": "transaction", "entry": [
                {"fullUrl": "https://h/fhir/Patient/1", "resource": {"resourceType": "Patient", "id": "1"},
                 "request": {"method": "PUT", "url": "Patient/1"}},
                {"fullUrl": "urn:uuid:a", "resource": {"resourceType": "Patient"},
                 "request": {"method": "POST", "url": "Patient"}},
                {"request": {"method": "DELETE", "url": "Patient/2"}},
            ]})
        );
    }

    #[test]
    fn every_form_of_status_and_outcome_is_read() {
        let body = json!({"resourceType": "Bundle", "type": "batch-response", "entry": [
            {"response": {"status": "201 Created", "location": "Patient/1/_history/1"}},
            {"response": {"status": "200"}},
            {"response": {"status": 204}},
            {"response": {"status": "422 Unprocessable Entity", "outcome": {"resourceType": "OperationOutcome",
                "issue": [{"severity": "error", "code": "invalid", "diagnostics": "Smith"},
                          {"severity": "warning", "code": "informational"},
                          {"severity": "fatal", "code": "NOT A CODE"}]}}},
            {"response": {"status": "400"}, "resource": {"resourceType": "OperationOutcome",
                "issue": [{"severity": "error", "code": "structure"}]}},
        ]});
        let told: Vec<_> = answers(body.to_string().as_bytes())
            .unwrap()
            .into_iter()
            .map(|it| (it.status, it.issues.join(",")))
            .collect();
        let told: Vec<_> = told.iter().map(|it| (it.0, it.1.as_str())).collect();
        assert_eq!(told, [(201, ""), (200, ""), (204, ""), (422, "invalid"), (400, "structure")]);
        for none in ["", "<html>", "{}", r#"{"resourceType":"Bundle","entry":[{"response":{}}]}"#] {
            assert_eq!(answers(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn references_follow_the_new_names() {
        let names = HashMap::from([("Patient/1".to_owned(), "urn:uuid:p".to_owned())]);
        let text = r#"{"resourceType":"Observation","id":"o","meta":{"versionId":"3","tag":[]},
            "subject":{"reference":"Patient/1"},"focus":[{"reference":"Patient/1/_history/2"},{"reference":"Patient/9"}]}"#;
        let renamed: Value = serde_json::from_str(&renamed(text, &names).unwrap()).unwrap();
        assert_eq!(
            renamed,
            json!({"resourceType": "Observation", "meta": {"tag": []}, "subject": {"reference": "urn:uuid:p"},
                "focus": [{"reference": "urn:uuid:p"}, {"reference": "Patient/9"}]})
        );
    }
}
