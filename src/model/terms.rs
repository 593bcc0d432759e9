//! Whether a server may be watched: what its vendor's terms say, and who has approved of it.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{Code, Server, ServerReport};

/// Whether checks on a schedule agree with the terms of a server's vendor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MonitoringPolicy {
    /// Nothing stands against it.
    #[default]
    Allowed,
    /// Nothing is known; whoever runs the server has to be asked.
    Ask,
    /// The terms forbid it unless somebody has approved of it.
    Forbidden,
}

impl MonitoringPolicy {
    /// As it stands in a preset: `allowed`, `ask`, `forbidden`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MonitoringPolicy::Allowed => "allowed",
            MonitoringPolicy::Ask => "ask",
            MonitoringPolicy::Forbidden => "forbidden",
        }
    }
}

/// What a server's preset says of watching it; a server without a preset may be watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Monitoring {
    pub policy: MonitoringPolicy,
    /// A shorter `schedule.every` asks more of the server than it should.
    pub least_interval: Option<Duration>,
    /// Where the policy is from.
    pub source: Option<&'static str>,
}

/// An approval of watching a server, as `terms` of the inventory records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub approved_by: String,
    /// The contract, ticket or letter that says so.
    pub reference: String,
    /// The last day on which it holds, UTC; `None` is an approval without an end.
    pub until: Option<Date>,
}

impl Terms {
    /// Whether it holds at this instant.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now.to_zoned(TimeZone::UTC).date() <= until)
    }
}

/// Why a server is not checked unless a person asks for it by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unapproved {
    /// The last day of an approval that has ended; `None` when there is none.
    pub ended: Option<Date>,
    /// Where the vendor's terms are told.
    pub source: Option<&'static str>,
}

impl Unapproved {
    /// What is wrong, in one sentence without a full stop.
    #[must_use]
    pub fn message(&self) -> String {
        let record = match self.ended {
            Some(day) => format!("the approval on record ended on {day}"),
            None => "no approval is on record".to_owned(),
        };
        format!("not checked: the vendor's terms forbid monitoring, and {record}")
    }

    /// How the record is written.
    #[must_use]
    pub fn hint(server: &str) -> String {
        format!(
            "with the vendor's approval: fhirctl set {server} terms.approved_by=WHO \
             terms.reference=CONTRACT terms.until=YYYY-MM-DD; one check by hand: fhirctl check {server}"
        )
    }
}

impl Server {
    /// Whether checks that nobody asked for by name may run: on a schedule, or over the fleet.
    ///
    /// # Errors
    /// When the vendor's terms forbid it and no approval holds.
    pub fn may_be_scheduled(&self, now: Timestamp) -> Result<(), Unapproved> {
        if self.monitoring.policy != MonitoringPolicy::Forbidden {
            return Ok(());
        }
        match &self.terms {
            Some(terms) if terms.holds(now) => Ok(()),
            terms => Err(Unapproved {
                ended: terms.as_ref().and_then(|terms| terms.until),
                source: self.monitoring.source,
            }),
        }
    }
}

impl ServerReport {
    /// Whether the server was left out on purpose: nothing was sent and nothing is judged.
    #[must_use]
    pub fn was_left_out(&self) -> bool {
        self.code == Some(Code::new("check.skipped"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_holds_through_its_last_day() {
        let terms = |until: Option<&str>| Terms {
            approved_by: "Legal".into(),
            reference: "C-1".into(),
            until: until.map(|day| day.parse().unwrap()),
        };
        for (until, now, expected) in [
            (None, "2099-01-01T00:00:00Z", true),
            (Some("2027-03-31"), "2027-03-31T23:59:59Z", true),
            (Some("2027-03-31"), "2027-04-01T00:00:00Z", false),
        ] {
            assert_eq!(terms(until).holds(now.parse().unwrap()), expected, "{until:?} {now}");
        }
    }
}
