//! What `query` shows beside the answer itself.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::model::{Error, Result};
use crate::render::{Block, Output, Typed, json};

/// One request and its answer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct QueryDocument {
    /// `fhirctl/query/v1`
    pub schema: &'static str,
    pub server: String,
    pub method: String,
    /// Types, operations and names of parameters; no id and no value.
    pub path: String,
    /// The HTTP status code.
    pub status: u16,
    /// `http/1.0`, `http/1.1` or `h2`.
    pub version: Option<String>,
    /// By lower-case name; several of one name are joined by a comma and a space.
    pub headers: BTreeMap<String, String>,
    /// The `X-Request-Id` that we sent.
    pub request_id: Option<String>,
    pub duration_ms: f64,
    /// The resource as it came, its decimals with it; `null` where there is none or it is no JSON.
    #[schemars(with = "Value")]
    pub body: Option<Box<RawValue>>,
    /// The body where it is no JSON.
    pub text: Option<String>,
    /// What `--fhirpath` yields; `null` without it.
    pub result: Option<Vec<Value>>,
}

impl Typed for QueryDocument {
    fn json(&self) -> Result<String> {
        json::pretty(self)
    }

    fn ndjson(&self) -> Result<String> {
        // A body on several lines would be several lines.
        let line = json::lines([self])?;
        let mut compact = Vec::new();
        crate::fhir::text::compact(&line, &mut compact);
        compact.push(b'\n');
        String::from_utf8(compact).map_err(|error| Error::internal(error.to_string()))
    }

    fn yaml(&self) -> Result<String> {
        json::yaml(self)
    }
}

/// How many there are.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CountDocument {
    /// `fhirctl/query-count/v1`
    pub schema: &'static str,
    pub server: String,
    /// Types, operations and names of parameters; no id and no value.
    pub path: String,
    pub count: u64,
    /// Whether the server gave a total; else its pages were counted.
    pub is_total: bool,
}

impl CountDocument {
    /// # Errors
    /// When the document cannot be written, which is a fault of this program.
    pub fn output(&self) -> Result<Output> {
        let json =
            serde_json::to_value(self).map_err(|error| Error::internal(error.to_string()))?;
        let document = vec![Block::Verbatim(self.count.to_string())];
        Ok(Output { json, document, ..Output::default() })
    }
}
