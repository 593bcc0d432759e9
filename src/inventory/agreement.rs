//! What was agreed, when servers are looked at, and where results are kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::raw_later::{RawHistory, RawSchedule, RawSla};
use super::{leaf, sign_in};
use crate::model::{Agreement, Schedule, SecretRef};

/// Where results are kept, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistorySettings {
    /// As it stands in the file; a relative path in it is relative to the inventory's folder. `None`:
    /// beside the inventory.
    pub url: Option<String>,
    pub password: Option<SecretRef>,
    /// Certificates that replace the system's trust store.
    pub ca: Option<PathBuf>,
    pub retention: Retention,
}

/// How long results are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub raw: Duration,
    pub hourly: Duration,
    pub daily: Duration,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for Retention {
    fn default() -> Retention {
        Retention { raw: DAY * 120, hourly: DAY * 800, daily: DAY * 3653 }
    }
}

impl Default for HistorySettings {
    fn default() -> HistorySettings {
        history(None, Path::new(""))
    }
}

pub(super) fn history(raw: Option<&RawHistory>, folder: &Path) -> HistorySettings {
    let raw = raw.cloned().unwrap_or_default();
    let retention = raw.retention.unwrap_or_default();
    let usual = Retention::default();
    HistorySettings {
        url: raw.url,
        password: raw.password.map(|password| sign_in::absolute(folder, password.0)),
        ca: raw.ca.map(|file| folder.join(file)),
        retention: Retention {
            raw: retention.raw.map_or(usual.raw, |length| length.0),
            hourly: retention.hourly.map_or(usual.hourly, |length| length.0),
            daily: retention.daily.map_or(usual.daily, |length| length.0),
        },
    }
}

pub(super) fn schedule(raw: Option<RawSchedule>) -> Option<Schedule> {
    let raw = raw?.0;
    match (raw.every, raw.cron) {
        (Some(every), _) => Some(Schedule::Every(every.0)),
        (None, Some(expression)) => Some(Schedule::Cron { expression, time_zone: raw.time_zone }),
        (None, None) => None,
    }
}

/// The texts have been checked while the file was walked: what cannot be read here was told there.
pub(super) fn agreement(raw: Option<RawSla>) -> Option<Agreement> {
    let raw = raw?;
    let days = raw.holidays.unwrap_or_default();
    let credits = raw.credits.unwrap_or_default().into_iter();
    Some(Agreement {
        text: raw.agreement,
        availability: raw.availability,
        latency_p50: raw.latency_p50.map(|length| length.0),
        latency_p95: raw.latency_p95.map(|length| length.0),
        latency_p99: raw.latency_p99.map(|length| length.0),
        period: raw.period.map(|period| period.as_str().to_owned()),
        time_zone: raw.time_zone,
        service_hours: raw.service_hours,
        holidays: days.iter().filter_map(|day| leaf::day(day).ok()).collect(),
        exclude: raw.exclude.unwrap_or_default(),
        down: raw.down.unwrap_or_default(),
        least_outage: raw.least_outage.map_or(Duration::ZERO, |pause| pause.0),
        planned_max: raw.planned_max.map(|pause| pause.0),
        credits: credits.filter_map(|step| Some((step.below?, step.credit?))).collect(),
    })
}
