//! The four statuses and how they add up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a check, a server or a whole run is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Healthy,
    Warning,
    Critical,
    Unknown,
}

impl Status {
    pub const ALL: [Status; 4] =
        [Status::Healthy, Status::Warning, Status::Critical, Status::Unknown];

    #[must_use]
    pub fn find(text: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// The worse of two: critical, then unknown, then warning, then healthy.
    #[must_use]
    pub fn worse(self, other: Status) -> Status {
        if other.rank() > self.rank() { other } else { self }
    }

    /// The worst of many; healthy when there are none.
    pub fn worst(all: impl IntoIterator<Item = Status>) -> Status {
        all.into_iter().fold(Status::Healthy, Status::worse)
    }

    /// How bad it is, 0 to 3; for sorting only.
    #[must_use]
    pub fn rank(self) -> u8 {
        match self {
            Status::Healthy => 0,
            Status::Warning => 1,
            Status::Unknown => 2,
            Status::Critical => 3,
        }
    }

    /// The code of the Nagios plugin interface: 0, 1, 2 or 3.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Status::Healthy => 0,
            Status::Warning => 1,
            Status::Critical => 2,
            Status::Unknown => 3,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Healthy => "healthy",
            Status::Warning => "warning",
            Status::Critical => "critical",
            Status::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Status::{self, *};

    #[test]
    fn critical_beats_unknown_beats_warning_beats_healthy() {
        assert_eq!(Status::worst([Healthy, Warning, Unknown, Critical]), Critical);
        assert_eq!(Status::worst([Unknown, Warning]), Unknown);
        assert_eq!(Status::worst([Healthy, Warning]), Warning);
        assert_eq!(Status::worst([]), Healthy);
    }
}
