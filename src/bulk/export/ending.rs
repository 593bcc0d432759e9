//! How exports and their runs end, as ledgers keep it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::Exit;

/// How an export ended, or how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Complete,
    /// Everything is there, and something is wrong with it.
    CompleteWithErrors,
    /// Files are missing.
    Incomplete,
}

impl Status {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Complete => "complete",
            Status::CompleteWithErrors => "complete_with_errors",
            Status::Incomplete => "incomplete",
        }
    }
}

/// The end of an export, from its ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Conclusion {
    pub status: Status,
    pub exit_code: u8,
    pub transaction_time: Option<String>,
    pub finished_at: Timestamp,
    pub duration_ms: u64,
    /// Of the receipt.
    pub sha256: String,
}

/// Why the last run of an export ended before its time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stopped {
    /// A reason code.
    pub code: String,
    /// Our words.
    pub message: String,
    pub at: Timestamp,
    #[serde(default)]
    pub exit_code: Option<u8>,
}

impl Stopped {
    /// Whether the other side has given it up, or what it said is none: time alone changes nothing.
    #[must_use]
    pub fn is_final(&self) -> bool {
        [Exit::UNAVAILABLE, Exit::DATA].iter().any(|exit| self.exit_code == Some(exit.0))
    }
}
