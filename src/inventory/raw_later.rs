//! The parts of the file that are read and checked here, and used by other parts of the program:
//! groups, jobs, alerts, history, schedules and agreements.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::layer::Layer;
use super::leaf::{Length, Pause};
use super::raw::record;
use super::reference::{RawAbove, RawHeaderValue, RawSecret};

record! {
    /// Servers that belong together.
    #[schemars(extend("required" = ["name", "members"]))]
    RawGroup {
        #[schemars(extend("x-kind" = "name", "pattern" = "^[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength" = 128))]
        name: String,
        /// Names of servers, the preferred one first.
        members: Vec<String>,
        /// failover: the first healthy member is the active one.
        policy: Policy,
        recovery: RawRecovery,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Policy {
    Failover,
}

record! {
    /// What a recovery may cost.
    RawRecovery {
        /// Recovery time objective: how long the group may be down.
        rto: Length,
        /// Recovery point objective: how far the data may lag.
        rpo: Length,
    }
}

record! {
    /// Recurring data work; it names what it does by one of export, import, sync and migrate.
    #[schemars(extend("required" = ["name"]))]
    RawJob {
        #[schemars(extend("x-kind" = "name"))]
        name: String,
        /// The server to export from.
        export: String,
        /// The server to import into.
        import: String,
        /// The server to copy from, incrementally.
        sync: String,
        /// The server to move away from.
        migrate: String,
        /// The id of a FHIR Group.
        group: String,
        level: Level,
        #[schemars(extend("x-items" = "type"))]
        types: Vec<String>,
        /// An instant, or last: the transaction time of the job's last good run.
        since: String,
        type_filter: Vec<String>,
        /// A folder or object store; {date}, {time}, {job} and {server} are replaced. For migrate,
        /// the server to move to.
        to: String,
        /// A folder or files, parted by commas; placeholders as in to.
        from: String,
        compress: Compress,
        /// The time of day by which it has to be done, or how long it may take.
        deadline: String,
        schedule: RawSchedule,
        /// How long after an export the same one is asked for again at the earliest; 0s: whenever.
        min_interval: Pause,
        /// Resource type to what its count has to be, such as within 10% of last, >= 1000 or 5..9.
        #[schemars(extend("x-keys" = "type"))]
        expect: BTreeMap<String, String>,
        /// Channels that hear of the outcome.
        channels: Vec<String>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    System,
    Patient,
    Group,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Compress {
    None,
    Gzip,
    Zstd,
}

record! {
    /// Either every so often, or by cron.
    RawTimes {
        every: Length,
        /// minute hour day month weekday
        #[schemars(extend("x-kind" = "cron"))]
        cron: String,
        #[schemars(extend("x-kind" = "zone"))]
        time_zone: String,
    }
}

/// `schedule` as a layer: what says `cron` leaves out the `every` of a lower layer, and the other
/// way round.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct RawSchedule(pub(super) RawTimes);

impl Layer for RawSchedule {
    fn fill(&mut self, lower: &Self) {
        let said = self.0.every.is_some() || self.0.cron.is_some();
        let mut lower = lower.0.clone();
        if said {
            (lower.every, lower.cron) = (None, None);
        }
        self.0.fill(&lower);
    }
}

record! {
    /// What was agreed.
    RawSla {
        /// Such as 99.9%.
        #[schemars(extend("x-kind" = "percentage", "pattern" = "^[0-9.]+ *%$"))]
        availability: String,
        latency_p50: Length,
        latency_p95: Length,
        latency_p99: Length,
        period: RawPeriod,
        #[schemars(extend("x-kind" = "zone"))]
        time_zone: String,
        /// 24x7, or days and hours such as Mon-Fri 08:00-18:00.
        #[schemars(extend("x-kind" = "service-hours"))]
        service_hours: String,
        /// Days without service, such as 2026-12-25.
        #[schemars(extend("x-items" = "day"))]
        holidays: Vec<String>,
        /// What counts as down: critical, warning, unknown, or reason codes; critical where nothing is said.
        #[schemars(extend("x-items" = "down"))]
        down: Vec<String>,
        /// Shorter outages do not count.
        least_outage: Pause,
        /// Most planned work in one period; what goes beyond it counts as down.
        planned_max: Pause,
        /// What is owed, by steps.
        credits: Vec<RawCredit>,
        /// The name, number or wording of the agreement, for a dispute.
        agreement: String,
        /// What does not count: maintenance, or a party such as party=ours.
        #[schemars(extend("x-items" = "exclusion"))]
        exclude: Vec<String>,
    }
}

record! {
    /// What is owed when the availability is below.
    #[schemars(extend("required" = ["below", "credit"]))]
    RawCredit {
        #[schemars(extend("x-kind" = "percentage"))]
        below: String,
        /// Of the fee of the period.
        #[schemars(extend("x-kind" = "percentage"))]
        credit: String,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawPeriod {
    CalendarMonth,
    CalendarQuarter,
    CalendarYear,
    #[serde(rename = "rolling-30d")]
    Rolling30d,
    #[serde(rename = "rolling-90d")]
    Rolling90d,
}

impl RawPeriod {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            RawPeriod::CalendarMonth => "calendar-month",
            RawPeriod::CalendarQuarter => "calendar-quarter",
            RawPeriod::CalendarYear => "calendar-year",
            RawPeriod::Rolling30d => "rolling-30d",
            RawPeriod::Rolling90d => "rolling-90d",
        }
    }
}

record! {
    /// Who is told of what.
    RawAlerts {
        channels: Vec<RawChannel>,
        rules: Vec<RawAlertRule>,
    }
}

record! {
    /// A way to tell somebody.
    #[schemars(extend("required" = ["name", "type"]))]
    RawChannel {
        #[schemars(extend("x-kind" = "name"))]
        name: String,
        #[serde(rename = "type")]
        channel_type: ChannelType,
        /// Where it goes; a URL that is itself a secret is a reference.
        #[schemars(extend("x-kind" = "link"))]
        url: RawHeaderValue,
        /// webhook: signs what is sent.
        secret: RawSecret,
        /// pagerduty
        routing_key: RawSecret,
        /// opsgenie
        api_key: RawSecret,
        /// ntfy, sms
        token: RawSecret,
        /// ntfy
        topic: String,
        /// email
        #[schemars(extend("x-kind" = "smtp-url"))]
        smtp: String,
        username: String,
        password: RawSecret,
        from: String,
        to: Vec<String>,
        #[schemars(extend("x-keys" = "header"))]
        headers: BTreeMap<String, RawHeaderValue>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ChannelType {
    Email,
    Sms,
    Webhook,
    Slack,
    Teams,
    Pagerduty,
    Opsgenie,
    Ntfy,
}

record! {
    /// When which channels hear of it.
    #[schemars(extend("required" = ["name", "when"]))]
    RawAlertRule {
        #[schemars(extend("x-kind" = "name"))]
        name: String,
        when: When,
        /// How many checks in a row.
        #[schemars(range(min = 1, max = 1000))]
        failures: u32,
        /// How many good checks in a row end it.
        #[schemars(range(min = 1, max = 1000))]
        recoveries: u32,
        percentile: Percentile,
        above: RawAbove,
        window: Length,
        /// Labels that have to match.
        #[schemars(extend("x-kind" = "condition"))]
        select: String,
        /// Names of channels.
        channels: Vec<String>,
        /// How long until it is said again.
        repeat: Pause,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum When {
    Down,
    Degraded,
    ErrorRate,
    Security,
    Expiring,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Percentile {
    P50,
    P95,
    P99,
}

record! {
    /// Where results are kept, and for how long.
    RawHistory {
        /// sqlite:FILE or postgresql://HOST/DATABASE
        #[schemars(extend("x-kind" = "history-url"))]
        url: String,
        /// PostgreSQL: the password.
        password: RawSecret,
        /// PostgreSQL: a PEM file whose certificates replace the system's trust store.
        ca: String,
        retention: RawRetention,
    }
}

record! {
    /// How long results are kept.
    RawRetention {
        raw: Length,
        hourly: Length,
        daily: Length,
    }
}
