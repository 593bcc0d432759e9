//! What was agreed with whoever runs a server, and when it is looked at.

use std::time::Duration;

use jiff::civil::Date;

/// A service level agreement as the inventory states it (`sla`): its texts are checked there, and
/// `stats::sla` makes figures of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Its name, number or wording, for a dispute.
    pub text: Option<String>,
    /// Such as `99.9%`.
    pub availability: Option<String>,
    pub latency_p50: Option<Duration>,
    pub latency_p95: Option<Duration>,
    pub latency_p99: Option<Duration>,
    /// Such as `calendar-month`; `None`: that.
    pub period: Option<String>,
    /// A name of the time zone database; `None`: UTC.
    pub time_zone: Option<String>,
    /// `24x7`, or days and hours such as `Mon-Fri 08:00-18:00`; `None`: always.
    pub service_hours: Option<String>,
    /// Days without service, in the time zone.
    pub holidays: Vec<Date>,
    /// `maintenance`, or `party=` and a party.
    pub exclude: Vec<String>,
    /// Statuses and reason codes that count as down; none: what is critical.
    pub down: Vec<String>,
    /// An outage shorter than this does not count.
    pub least_outage: Duration,
    /// Most planned work in one period; what goes beyond it counts as down. `None`: no bound.
    pub planned_max: Option<Duration>,
    /// What is owed: the percentage below which, and the percentage of the fee.
    pub credits: Vec<(String, String)>,
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
