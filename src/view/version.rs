//! What this program is.

use schemars::JsonSchema;
use serde::Serialize;

use super::FHIRCTL_VERSION;
use super::human::facts;
use crate::model::{Error, Result};
use crate::render::{Block, Output};

#[derive(Debug, Serialize, JsonSchema)]
pub struct VersionDocument {
    /// `fhirctl/version/v1`
    pub schema: &'static str,
    pub version: &'static str,
    /// The oldest compiler that builds it.
    pub minimum_rust: &'static str,
    pub os: &'static str,
    pub architecture: &'static str,
    /// `release` or `debug`.
    pub profile: &'static str,
    /// What was compiled in beyond the usual.
    pub features: Vec<&'static str>,
}

/// # Errors
/// When the document cannot be written, which is a fault of this program.
pub fn output() -> Result<Output> {
    let document = VersionDocument {
        schema: "fhirctl/version/v1",
        version: FHIRCTL_VERSION,
        minimum_rust: env!("CARGO_PKG_RUST_VERSION"),
        os: std::env::consts::OS,
        architecture: std::env::consts::ARCH,
        profile: if cfg!(debug_assertions) { "debug" } else { "release" },
        features: Vec::new(),
    };
    Ok(Output {
        json: serde_json::to_value(&document)
            .map_err(|error| Error::internal(error.to_string()))?,
        document: vec![
            Block::text(format!("fhirctl {FHIRCTL_VERSION}")),
            Block::Indented(vec![facts([
                ("built for", Some(format!("{} {}", document.os, document.architecture).into())),
                ("profile", Some(document.profile.into())),
                ("minimum Rust", Some(document.minimum_rust.into())),
            ])]),
        ],
        ..Output::default()
    })
}
