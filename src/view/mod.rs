//! What each command shows: plain structs that are the published JSON, and the document beside it.
//!
//! Enters: what a command found out. Leaves: an [`Output`](crate::render::Output). Called by
//! commands, and by app for errors; nothing here prints or decides.

pub mod audit;
pub mod bulk_export;
pub mod check;
pub mod diag;
pub mod doctor;
pub mod error;
pub mod expiring;
pub mod explain;
pub mod history;
pub mod human;
pub mod incidents;
pub mod lint;
pub mod migrate;
pub mod query;
pub mod report;
pub mod run;
mod server;
pub mod status;
pub mod sync;
pub mod test;
pub mod vendors;
pub mod version;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The version that stands in every document.
pub(crate) const FHIRCTL_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Makes a document's schema.
pub type SchemaOf = fn() -> Value;

/// The JSON Schemas of the documents that views make, by the name that `schema NAME` knows.
#[must_use]
pub fn schemas() -> Vec<(&'static str, SchemaOf)> {
    vec![
        ("check", schema::<check::CheckDocument>),
        ("check-server", schema::<check::ServerLine>),
        ("test", schema::<test::TestDocument>),
        ("diag", schema::<diag::DiagDocument>),
        ("diag-commands", schema::<diag::CommandsDocument>),
        ("status", schema::<status::StatusDocument>),
        ("report-summary", schema::<report::ReportDocument<report::summary::SummaryRow>>),
        ("report-availability", schema::<report::ReportDocument<crate::report::Availability>>),
        (
            "report-performance",
            schema::<report::ReportDocument<report::performance::PerformanceRow>>,
        ),
        ("report-errors", schema::<report::ReportDocument<report::errors::ErrorRow>>),
        ("report-sla", schema::<report::ReportDocument<crate::report::Agreed>>),
        ("report-trends", schema::<report::ReportDocument<crate::report::Line>>),
        ("report-security", schema::<report::ReportDocument<crate::report::SecurityEvent>>),
        ("report-incident", schema::<report::ReportDocument<crate::report::Outage>>),
        ("proof", schema::<crate::report::Proof>),
        ("query", schema::<query::QueryDocument>),
        ("query-count", schema::<query::CountDocument>),
        ("audit-verify", schema::<audit::VerifyDocument>),
        ("audit-log", schema::<audit::LogDocument>),
        ("audit-head", schema::<audit::HeadDocument>),
        ("audit-record", schema::<audit::RecordLine>),
        ("explain", schema::<explain::ExplainDocument>),
        ("version", schema::<version::VersionDocument>),
        ("error", schema::<error::ErrorDocument>),
    ]
}

/// The JSON Schema (2020-12) of a type as it is written.
#[must_use]
pub fn schema<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}
