//! An error as one JSON object.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{Error, ErrorKind};

/// An error before or instead of a result: one line on standard error.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorDocument {
    /// `fhirctl/error/v1`
    pub schema: &'static str,
    pub kind: ErrorKind,
    pub exit_code: u8,
    pub message: String,
    pub location: Option<ErrorLocation>,
    /// What to try, first things first.
    pub hints: Vec<String>,
}

/// A place in a file; lines and columns count from 1.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorLocation {
    pub file: String,
    pub line: Option<u32>,
    pub column: Option<u32>,
    /// The key path inside the file, such as `servers[2].auth.method`.
    pub key: Option<String>,
}

/// The document of an error. The exit code is the process's, which can differ from the error's.
#[must_use]
pub fn document(error: &Error, exit_code: u8) -> ErrorDocument {
    ErrorDocument {
        schema: "fhirctl/error/v1",
        kind: error.kind,
        exit_code,
        message: error.message.clone(),
        location: error.location.as_ref().map(|location| ErrorLocation {
            // A path need not be text.
            file: location.file.display().to_string(),
            line: location.line,
            column: location.column,
            key: location.key.clone(),
        }),
        hints: error.hints.clone(),
    }
}
