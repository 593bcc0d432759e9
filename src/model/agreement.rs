//! What was agreed with whoever runs a server, and when it is looked at.

use std::fmt;
use std::time::Duration;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::{Code, Party, Status};

/// A service level agreement as the inventory states it (`sla`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Its name, number or wording, for a dispute.
    pub text: Option<String>,
    pub availability: Option<Share>,
    pub latency_p50: Option<Duration>,
    pub latency_p95: Option<Duration>,
    pub latency_p99: Option<Duration>,
    pub period: Period,
    /// A name of the time zone database; `None`: UTC.
    pub time_zone: Option<String>,
    /// `24x7`, or days and hours such as `Mon-Fri 08:00-18:00`.
    pub service_hours: String,
    /// Days without service, in the time zone.
    pub holidays: Vec<Date>,
    pub exclude: Vec<Exclusion>,
    /// What counts as down.
    pub down: Vec<DownWhen>,
    /// An outage shorter than this does not count.
    pub least_outage: Duration,
    /// Most planned work in one period; what goes beyond it counts as down. `None`: no bound.
    pub planned_max: Option<Duration>,
    /// What is owed when the availability is below, the dearest step that applies.
    pub credits: Vec<Credit>,
}

/// A share of a whole in parts of a million: `99.9%` is 999,000. Decided with, never rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
pub struct Share(pub u32);

/// Over what time an agreement is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Period {
    #[default]
    CalendarMonth,
    CalendarQuarter,
    CalendarYear,
    #[serde(rename = "rolling-30d")]
    Rolling30d,
    #[serde(rename = "rolling-90d")]
    Rolling90d,
}

/// Time that an agreement leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exclusion {
    /// Planned work.
    Maintenance,
    /// Outages that this party has to answer for.
    Party(Party),
}

/// What an agreement calls down.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DownWhen {
    Status(Status),
    Code(Code),
}

/// One step of what is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Credit {
    pub below: Share,
    /// Of the fee of the period.
    pub credit: Share,
}

/// When a server is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    Every(Duration),
    /// Five fields, in a time zone; `None`: the machine's own.
    Cron {
        expression: String,
        time_zone: Option<String>,
    },
}

impl Share {
    /// A whole.
    pub const WHOLE: Share = Share(1_000_000);

    /// Reads `99.9%`, with at most four decimals.
    #[must_use]
    pub fn parse(text: &str) -> Option<Share> {
        let number = text.trim().strip_suffix('%')?.trim_end();
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
        if (whole.is_empty() && decimals.is_empty()) || !digits(whole) || !digits(decimals) {
            return None;
        }
        if whole.len() > 3 || decimals.len() > 4 {
            return None;
        }
        let whole: u32 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let decimals: u32 = format!("{decimals:0<4}").parse().ok()?;
        let parts = whole * 10_000 + decimals;
        (parts <= Share::WHOLE.0).then_some(Share(parts))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 10_000, self.0 % 10_000);
        let decimals = format!("{rest:04}");
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{whole}%"),
            decimals => write!(f, "{whole}.{decimals}%"),
        }
    }
}

impl Serialize for Share {
    /// As a percentage: `99.9`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 10_000.0)
    }
}

impl Period {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Period::CalendarMonth => "calendar-month",
            Period::CalendarQuarter => "calendar-quarter",
            Period::CalendarYear => "calendar-year",
            Period::Rolling30d => "rolling-30d",
            Period::Rolling90d => "rolling-90d",
        }
    }
}

impl Exclusion {
    /// Reads `maintenance` or `party=ours`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Exclusion> {
        if text == "maintenance" {
            return Some(Exclusion::Maintenance);
        }
        Party::find(text.strip_prefix("party=")?).map(Exclusion::Party)
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exclusion::Maintenance => f.write_str("maintenance"),
            Exclusion::Party(party) => write!(f, "party={party}"),
        }
    }
}

impl DownWhen {
    /// Reads a status that is not healthy, or a reason code.
    #[must_use]
    pub fn parse(text: &str) -> Option<DownWhen> {
        [Status::Critical, Status::Warning, Status::Unknown]
            .into_iter()
            .find(|status| status.as_str() == text)
            .map(DownWhen::Status)
            .or_else(|| Code::find(text).map(DownWhen::Code))
    }
}

impl fmt::Display for DownWhen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DownWhen::Status(status) => f.write_str(status.as_str()),
            DownWhen::Code(code) => f.write_str(code.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exact_to_the_millionth() {
        for (text, parts) in [
            ("99.9%", Some(999_000)),
            ("99.95 %", Some(999_500)),
            ("100%", Some(1_000_000)),
            ("99.9999%", Some(999_999)),
            (".5%", Some(5_000)),
            ("100.0001%", None),
            ("99.99999%", None),
            ("99,9%", None),
            ("-1%", None),
            ("%", None),
            ("99.9", None),
        ] {
            assert_eq!(Share::parse(text).map(|share| share.0), parts, "{text}");
        }
        assert_eq!(Share(999_500).to_string(), "99.95%");
        assert_eq!(Share(1_000_000).to_string(), "100%");
        assert_eq!(serde_json::to_string(&Share(999_900)).unwrap(), "99.99");
    }
}
