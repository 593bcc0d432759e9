//! The checks of one server, and of many at once.
//!
//! Enters: resolved servers and what the process shares. Leaves: one
//! [`ServerReport`](crate::model::ServerReport) each; a sick server is data, never an error. Called
//! by the commands. `engine` schedules, `session` talks to one server, `checks` has one file per
//! check, `verdict` turns what a check found into an observation.

mod checks;
mod engine;
mod fhirpath;
pub mod gauges;
mod session;
mod shown;
mod unapproved;
mod verdict;

use std::sync::Arc;

use futures_util::future::{BoxFuture, Shared};

use crate::auth::Surroundings;
use crate::history::GaugesAsked;

pub use engine::{Checked, check_all, check_one};
pub use fhirpath::values as fhirpath_values;
pub use shown::Shown;
pub use unapproved::unapproved;
pub use verdict::acceptance;

/// What to check and how often to try.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Empty: every check.
    pub only: Vec<CheckName>,
    pub skip: Vec<CheckName>,
    /// How often a failed check is tried again.
    pub retries: u32,
    /// Whether stages that do not apply or were never reached are reported too, as `test` does.
    pub every_stage: bool,
    /// Whether a person asked: then a credential that is held back is offered all the same.
    pub by_hand: bool,
    /// Whether to keep what `--save-baseline` writes.
    pub keep_snapshots: bool,
    /// What to hold each server's CapabilityStatement against, by name.
    pub baseline: Option<Arc<crate::fhir::drift::BaselineFile>>,
    /// When gauges were last asked for; `None`: none are asked for.
    pub gauges: Option<LastAsked>,
}

/// What history knows of when gauges were asked for, once it has said so; `None` when it cannot say.
pub type LastAsked = Shared<BoxFuture<'static, Option<Arc<GaugesAsked>>>>;

impl Options {
    /// Whether the statements themselves are needed, for a baseline.
    #[must_use]
    pub fn wants_snapshot(&self) -> bool {
        self.keep_snapshots || (self.baseline.is_some() && self.wants(CheckName::Capability))
    }

    #[must_use]
    pub fn wants(&self, check: CheckName) -> bool {
        (self.only.is_empty() || self.only.contains(&check)) && !self.skip.contains(&check)
    }
}

/// The stages of a check, in the order in which they can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CheckName {
    Dns,
    Tcp,
    Tls,
    Auth,
    Health,
    Metadata,
    Capability,
    Search,
    Read,
    Assert,
}

impl CheckName {
    pub const ALL: [CheckName; 10] = [
        CheckName::Dns,
        CheckName::Tcp,
        CheckName::Tls,
        CheckName::Auth,
        CheckName::Health,
        CheckName::Metadata,
        CheckName::Capability,
        CheckName::Search,
        CheckName::Read,
        CheckName::Assert,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            CheckName::Dns => "dns",
            CheckName::Tcp => "tcp",
            CheckName::Tls => "tls",
            CheckName::Auth => "auth",
            CheckName::Health => "health",
            CheckName::Metadata => "metadata",
            CheckName::Capability => "capability",
            CheckName::Search => "search",
            CheckName::Read => "read",
            CheckName::Assert => "assert",
        }
    }
}

impl std::str::FromStr for CheckName {
    type Err = String;

    fn from_str(text: &str) -> Result<CheckName, String> {
        CheckName::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = CheckName::ALL.iter().map(|name| name.as_str()).collect();
            format!("no such check; known are {}", known.join(", "))
        })
    }
}
