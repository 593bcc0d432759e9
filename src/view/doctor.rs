//! What `doctor` shows: its checks, and what to do about those that are not fine.

use serde::Serialize;
use serde_json::Value;

use crate::model::{Error, Exit, Result, Status};
use crate::render::{Block, Cell, Output, Table, Tone};

/// The object of `fhirctl/doctor/v1`.
#[derive(Clone, Debug, Serialize)]
pub struct Doctor {
    pub schema: &'static str,
    pub fhirctl_version: &'static str,
    pub generated_at: jiff::Timestamp,
    /// The worst of the checks.
    pub status: Status,
    /// 0 fine, 1 warnings, 2 errors.
    pub exit_code: u8,
    pub checks: Vec<Check>,
}

/// One part of the tool's surroundings.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub status: Status,
    /// What was found.
    pub message: String,
    /// What to do, when there is something to do.
    pub hint: Option<String>,
    /// What was found, for programs; `null` when there is no more than the message.
    pub details: Value,
}

impl Check {
    #[must_use]
    pub fn new(name: &'static str, status: Status, message: impl Into<String>) -> Check {
        Check { name, status, message: message.into(), hint: None, details: Value::Null }
    }

    #[must_use]
    pub fn fine(name: &'static str, message: impl Into<String>) -> Check {
        Check::new(name, Status::Healthy, message)
    }

    #[must_use]
    pub fn warning(name: &'static str, message: impl Into<String>) -> Check {
        Check::new(name, Status::Warning, message)
    }

    #[must_use]
    pub fn error(name: &'static str, message: impl Into<String>) -> Check {
        Check::new(name, Status::Critical, message)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Check {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn details(mut self, details: Value) -> Check {
        self.details = details;
        self
    }
}

impl Doctor {
    /// Adds the checks up.
    #[must_use]
    pub fn new(generated_at: jiff::Timestamp, checks: Vec<Check>) -> Doctor {
        let status = Status::worst(checks.iter().map(|check| check.status));
        let exit_code = match status {
            Status::Healthy => Exit::OK.0,
            Status::Warning => Exit::WARNING.0,
            Status::Critical | Status::Unknown => Exit::CRITICAL.0,
        };
        Doctor {
            schema: "fhirctl/doctor/v1",
            fhirctl_version: env!("CARGO_PKG_VERSION"),
            generated_at,
            status,
            exit_code,
            checks,
        }
    }

    /// Makes what is printed.
    ///
    /// # Errors
    /// Never for what this program finds; an internal error otherwise.
    pub fn output(&self) -> Result<Output> {
        let json =
            serde_json::to_value(self).map_err(|error| Error::internal(error.to_string()))?;
        Ok(Output { json, document: self.document(), rows: Some(self.rows()), ..Output::default() })
    }

    fn document(&self) -> Vec<Block> {
        let rows = self.checks.iter().map(|check| {
            let (word, tone) = word(check.status);
            vec![
                Cell::toned(word, tone),
                Cell::toned(check.name.replace('_', " "), Tone::Strong),
                Cell::plain(check.message.clone()),
            ]
        });
        let head = ["", "check", "what was found"].map(str::to_owned).to_vec();
        let mut document = vec![Block::Table(Table { head, rows: rows.collect() })];
        let advice: Vec<(String, Cell)> = self
            .checks
            .iter()
            .filter_map(|check| {
                Some((check.name.replace('_', " "), Cell::plain(check.hint.clone()?)))
            })
            .collect();
        if !advice.is_empty() {
            document.extend([
                Block::Blank,
                Block::Heading("What to do".into()),
                Block::Facts(advice),
            ]);
        }
        document
    }

    fn rows(&self) -> Table {
        let rows = self.checks.iter().map(|check| {
            vec![
                Cell::plain(check.name),
                Cell::toned(check.status.as_str(), check.status.into()),
                Cell::plain(check.message.clone()),
                Cell::plain(check.hint.clone().unwrap_or_default()),
            ]
        });
        let head = ["check", "status", "message", "hint"].map(str::to_owned).to_vec();
        Table { head, rows: rows.collect() }
    }
}

fn word(status: Status) -> (&'static str, Tone) {
    let word = match status {
        Status::Healthy => "ok",
        Status::Warning => "warning",
        Status::Critical => "error",
        Status::Unknown => "unknown",
    };
    (word, status.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_check_decides_the_exit_code() {
        let fine = Check::fine("clock", "right");
        let warning = Check::warning("keyring", "none");
        let error = Check::error("trust_store", "empty");
        for (checks, code) in [
            (vec![], 0),
            (vec![fine.clone()], 0),
            (vec![fine.clone(), warning.clone()], 1),
            (vec![warning, error, fine], 2),
        ] {
            assert_eq!(Doctor::new(jiff::Timestamp::UNIX_EPOCH, checks).exit_code, code);
        }
    }

    #[test]
    fn every_key_is_there_and_advice_stands_below_the_table() {
        let checks = vec![
            Check::fine("clock", "right"),
            Check::warning("state_dir", "open").hint("chmod 700 it"),
        ];
        let output = Doctor::new(jiff::Timestamp::UNIX_EPOCH, checks).output().unwrap();
        assert_eq!(output.json["schema"], "fhirctl/doctor/v1");
        let check = output.json["checks"][0].as_object().unwrap();
        let keys: Vec<&str> = check.keys().map(String::as_str).collect();
        assert_eq!(keys, ["name", "status", "message", "hint", "details"]);
        assert!(check["hint"].is_null());
        let Some(Block::Facts(advice)) = output.document.last() else { panic!("no advice") };
        assert_eq!(advice, &[("state dir".to_owned(), Cell::plain("chmod 700 it"))]);
    }
}
