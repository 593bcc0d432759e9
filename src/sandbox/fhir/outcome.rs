//! What went wrong, as FHIR says it.

use serde_json::{Value, json};

use crate::serve::StatusCode;

/// A refusal: its status, the code of its issue (value set `issue-type`), and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sandbox) struct Refusal {
    pub(in crate::sandbox) status: StatusCode,
    pub(in crate::sandbox) code: &'static str,
    pub(in crate::sandbox) text: String,
}

impl Refusal {
    pub(in crate::sandbox) fn new(
        status: StatusCode,
        code: &'static str,
        text: impl Into<String>,
    ) -> Refusal {
        Refusal { status, code, text: text.into() }
    }

    pub(in crate::sandbox) fn bad_request(code: &'static str, text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, code, text)
    }

    pub(in crate::sandbox) fn not_found(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "not-found", text)
    }
}

/// An OperationOutcome with one issue.
pub(in crate::sandbox) fn outcome(severity: &str, code: &str, text: &str) -> Value {
    json!({
        "resourceType": "OperationOutcome",
        "issue": [{"severity": severity, "code": code, "diagnostics": text}],
    })
}
