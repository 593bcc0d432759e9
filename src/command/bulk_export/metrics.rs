//! How an export is, in a file for the textfile collector of Prometheus (OpenMetrics 1.0).
//!
//! Every figure is that of the export and not of the run: a run that finds everything done says the
//! same as the one that did it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::bulk::export::{self, Identity, Report};
use crate::bulk::ledger::Ledger;
use crate::context::{replace_file, replaceable};
use crate::model::{Error, Exit, Result};

/// The file of one export.
pub(super) struct Metrics {
    path: PathBuf,
    server: String,
    created_at: Timestamp,
    ledger: Arc<Ledger>,
}

/// How a run ended.
pub(super) struct End {
    exit: Exit,
    at: Timestamp,
}

impl End {
    pub(super) fn of(result: &Result<Report>, now: Timestamp) -> End {
        match result {
            Ok(Report { conclusion, .. }) => {
                End { exit: Exit(conclusion.exit_code), at: conclusion.finished_at }
            }
            Err(error) => End { exit: error.exit(), at: now },
        }
    }
}

/// Whether the file can be written, before anything is begun.
///
/// # Errors
/// Exit 73 when it cannot.
pub(super) fn check(path: Option<&Path>) -> Result<()> {
    let advise =
        |error: Error| error.hint("name another file for --metrics-file, or leave it away");
    path.map_or(Ok(()), |path| replaceable(path).map_err(advise))
}

impl Metrics {
    /// # Errors
    /// Exit 73 when the file cannot be written.
    pub(super) fn begin(path: &Path, identity: &Identity, ledger: &Arc<Ledger>) -> Result<Metrics> {
        check(Some(path))?;
        Ok(Metrics {
            path: path.to_owned(),
            server: identity.server.clone(),
            created_at: identity.created_at,
            ledger: Arc::clone(ledger),
        })
    }

    /// Writes how far it is, or how it ended.
    ///
    /// # Errors
    /// When the file cannot be written, or the ledger not be read.
    pub(super) fn write(&self, end: Option<&End>) -> Result<()> {
        let totals = self.ledger.totals()?;
        let as_of = export::transaction_time(&self.ledger)?;
        let whole = |number: u64| Some(number.to_string());
        let seconds = |at: Timestamp| format!("{:.3}", at.as_millisecond() as f64 / 1000.0);
        let server = self.server.replace('\\', "\\\\").replace('"', "\\\"");
        let mut text = String::new();
        for (name, help, value) in [
            ("running", "Whether the export goes on now", whole(u64::from(end.is_none()))),
            (
                "success",
                "Whether the last run ended with exit code 0",
                end.and_then(|end| whole(u64::from(end.exit == Exit::OK))),
            ),
            (
                "exit_code",
                "The exit code of the last run",
                end.and_then(|end| whole(u64::from(end.exit.0))),
            ),
            ("start_time_seconds", "When the export was begun", Some(seconds(self.created_at))),
            ("end_time_seconds", "When it ended or was stopped", end.map(|end| seconds(end.at))),
            (
                "transaction_time_seconds",
                "As of when the data are, by the server",
                as_of.and_then(|text| text.parse().ok()).map(seconds),
            ),
            ("files", "Files that the manifest names", whole(totals.files)),
            ("files_done", "Files that are there", whole(totals.files_done)),
            ("files_missing", "Files that were given up", whole(totals.files_missing)),
            ("resources", "Resources that are there", whole(totals.resources)),
            ("stored_bytes", "Bytes of the files that are there", whole(totals.bytes)),
        ] {
            // What is not known yet is left out: a number would be a lie.
            let Some(value) = value else { continue };
            let name = format!("fhirctl_bulk_export_{name}");
            text.push_str(&format!(
                "# TYPE {name} gauge\n# HELP {name} {help}\n{name}{{server=\"{server}\"}} {value}\n"
            ));
        }
        text.push_str("# EOF\n");
        replace_file(&self.path, text.as_bytes())
    }
}
