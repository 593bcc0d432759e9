//! Reason codes: the stable, dotted names of what can go wrong.
//!
//! A code is one row of `data/codes.yaml`: its status, whose fault it usually is, what it means,
//! its causes and what to try. Code in other rooms names it by `Code::new("tcp.refused")`; a test
//! holds every such name against the table.

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize, Serializer};

use super::Status;

/// Who has to act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    Ours,
    Network,
    IdentityProvider,
    Vendor,
    Undetermined,
}

impl Party {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Party::Ours => "ours",
            Party::Network => "network",
            Party::IdentityProvider => "identity_provider",
            Party::Vendor => "vendor",
            Party::Undetermined => "undetermined",
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The name of one row of the table, such as `tls.expired`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(&'static str);

/// One row of `data/codes.yaml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeInfo {
    pub code: String,
    /// A few words, for headings.
    pub title: String,
    pub status: Status,
    pub party: Party,
    /// One or two sentences for a tired person.
    pub meaning: String,
    /// The usual causes, most likely first.
    pub causes: Vec<String>,
    /// What to try, first things first. The first one is shown beside a failed check.
    pub remedies: Vec<String>,
}

impl Code {
    /// Names a row of the table. The name has to be in `data/codes.yaml`; a test sees to it.
    #[must_use]
    pub const fn new(name: &'static str) -> Code {
        Code(name)
    }

    /// The row with this name, if there is one.
    #[must_use]
    pub fn find(name: &str) -> Option<Code> {
        table().get_key_value(name).map(|(key, _)| Code(key))
    }

    /// Every code, in the order of the table.
    pub fn all() -> impl Iterator<Item = &'static CodeInfo> {
        rows().iter()
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// The row itself; `None` only for a name that is not in the table.
    #[must_use]
    pub fn info(self) -> Option<&'static CodeInfo> {
        table().get(self.0).copied()
    }

    #[must_use]
    pub fn status(self) -> Status {
        self.info().map_or(Status::Critical, |info| info.status)
    }

    #[must_use]
    pub fn party(self) -> Party {
        self.info().map_or(Party::Undetermined, |info| info.party)
    }

    /// The first thing to try.
    #[must_use]
    pub fn hint(self) -> Option<&'static str> {
        self.info().and_then(|info| info.remedies.first()).map(String::as_str)
    }

    /// Whether a check with this code is left out of a verdict: it never ran or has nothing to say.
    #[must_use]
    pub fn is_left_out(self) -> bool {
        matches!(self.0, "check.not_applicable" | "check.skipped")
    }
}

fn rows() -> &'static [CodeInfo] {
    static ROWS: OnceLock<Vec<CodeInfo>> = OnceLock::new();
    ROWS.get_or_init(|| {
        // The table is compiled in and read by a test; a broken one cannot be released.
        serde_yaml::from_str(include_str!("../../data/codes.yaml")).unwrap_or_default()
    })
}

fn table() -> &'static HashMap<&'static str, &'static CodeInfo> {
    static TABLE: OnceLock<HashMap<&'static str, &'static CodeInfo>> = OnceLock::new();
    TABLE.get_or_init(|| rows().iter().map(|row| (row.code.as_str(), row)).collect())
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}
