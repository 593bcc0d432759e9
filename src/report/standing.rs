//! How each server stands, from history alone: what is wrong, since when, whose it is.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::incident::{Evidence, key_of, worst};
use super::seen::{DAY_MS, FURTHER_DAYS, Seen, expected_interval};
use super::sla::settle;
use super::{instant, seen};
use crate::history::{Known, Store};
use crate::model::{Party, Reading, Result, Server, State, Status};
use crate::stats::sla::{Percent, Verdict};
use crate::stats::span::Span;
use crate::stats::uptime::{Kind, Rule};

/// Clocks differ: a reading may be so much later than now.
const TOLERANCE_MS: i64 = 300_000;

/// One server as history last saw it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Standing {
    pub server: String,
    pub vendor: Option<String>,
    /// As the inventory says now.
    pub state: State,
    /// Of the last reading; unknown when that is too old to say.
    pub status: Status,
    pub code: Option<String>,
    pub message: Option<String>,
    pub party: Option<Party>,
    /// Since when it has been so, as far as history goes.
    pub since: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
    pub age_ms: Option<i64>,
    /// Whether the last reading is older than a reading may be.
    pub stale: bool,
    /// The newest of the readings that are later than now, which decide nothing: a clock was wrong.
    pub future: Option<Timestamp>,
    /// The incident that is open.
    pub incident: Option<String>,
    pub evidence: Option<Evidence>,
    pub budget: Option<Budget>,
}

/// What is left of the error budget of the running period.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Budget {
    pub objective: Percent,
    pub period_from: Timestamp,
    pub period_to: Timestamp,
    pub verdict: Verdict,
    pub availability: Option<f64>,
    pub coverage: Option<f64>,
    pub budget_ms: Option<i64>,
    pub remaining_ms: Option<i64>,
    /// Above 1 it does not last.
    pub burn_rate: Option<f64>,
}

/// # Errors
/// When the history cannot be read.
pub async fn standing(
    store: &Store,
    server: &Server,
    known: Option<&Known>,
    now: Timestamp,
) -> Result<Standing> {
    let mut standing = Standing {
        server: server.name.clone(),
        vendor: server.vendor.clone(),
        state: server.state(now),
        status: Status::Unknown,
        code: None,
        message: None,
        party: None,
        since: None,
        last_seen: None,
        age_ms: None,
        stale: false,
        future: None,
        incident: None,
        evidence: None,
        budget: None,
    };
    let now_ms = now.as_millisecond();
    let mut last = if known.is_some() { store.last(&server.name).await? } else { None };
    let latest = now_ms.saturating_add(TOLERANCE_MS);
    if let Some(future) = last.take_if(|last| last.at.as_millisecond() > latest) {
        standing.future = Some(future.at);
        last = newest(store, &server.name, latest).await?;
    }
    let Some(last) = last else { return Ok(standing) };
    let at = last.at.as_millisecond();
    standing.last_seen = Some(last.at);
    standing.age_ms = Some(now_ms - at);
    standing.evidence = worst(&last);
    standing.status = last.status;
    standing.code = last.code.as_deref().map(str::to_owned);
    standing.party = last.party;
    standing.message = standing.evidence.as_ref().map(|evidence| evidence.message.clone());
    let (since, interval_ms) = since(store, server, at, last.status).await?;
    standing.since = Some(instant(since));
    if last.status == Status::Critical && standing.state != State::Maintenance {
        standing.incident = Some(key_of(&server.name, since));
    }
    let reach = Rule::every(interval_ms).reach_ms();
    if expected_interval(server).is_some() && now_ms - at > reach {
        standing.stale = true;
        standing.status = Status::Unknown;
        standing.since = Some(instant(at.saturating_add(interval_ms).min(now_ms)));
    }
    standing.budget = budget(store, server, known, now_ms).await?;
    Ok(standing)
}

/// The last reading that is not later than an instant.
async fn newest(store: &Store, server: &str, latest: i64) -> Result<Option<Reading>> {
    let mut at = None;
    let behind = latest.saturating_add(1);
    store
        .points(server, behind..behind.saturating_add(1), |point| {
            at = at.max(Some(point.at).filter(|at| *at <= latest));
            Ok(())
        })
        .await?;
    let Some(at) = at else { return Ok(None) };
    let mut found = None;
    store
        .readings(server, at..at.saturating_add(1), |reading| {
            if reading.at.as_millisecond() == at {
                found = Some(reading);
            }
            Ok(())
        })
        .await?;
    Ok(found)
}

/// When the row of equal statuses began that the last reading belongs to, and the interval.
async fn since(store: &Store, server: &Server, at: i64, status: Status) -> Result<(i64, i64)> {
    let mut found = (at, seen::ASSUMED_MS);
    for days in FURTHER_DAYS {
        let window = Span::new(at - days * DAY_MS, at + 1);
        let seen = Seen::load(store, server, true, window, 0).await?;
        let kind = Kind::of(status);
        let until = seen.points.partition_point(|point| point.at <= at);
        let row = seen.points[..until].iter().rev().take_while(|point| point.kind == kind).count();
        let first = until - row;
        found = (seen.points.get(first).map_or(at, |point| point.at), seen.interval.interval_ms);
        if first > 0 {
            break;
        }
    }
    Ok(found)
}

async fn budget(
    store: &Store,
    server: &Server,
    known: Option<&Known>,
    now: i64,
) -> Result<Option<Budget>> {
    let Some(agreement) = &server.agreement else { return Ok(None) };
    let terms = super::sla::objective(agreement)?;
    let Some(objective) = terms.availability else { return Ok(None) };
    let period = terms.period.containing(now, &terms.zone);
    let judgement = settle(store, server, known, agreement, period, now).await?.judged.judgement;
    Ok(Some(Budget {
        objective,
        period_from: instant(period.from),
        period_to: instant(period.to),
        verdict: judgement.verdict,
        availability: judgement.availability,
        coverage: judgement.coverage,
        budget_ms: judgement.budget_ms,
        remaining_ms: judgement.remaining_ms,
        burn_rate: judgement.burn_rate,
    }))
}
