//! The part of a proof that is about an agreement: its terms, and what each period comes to by them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::readings::Readings;
use super::{Outcome, millionths, pairs};
use crate::model::Result;
use crate::report::instant;
use crate::report::seen::{Seen, wide};
use crate::report::sla::{Planned, Terms, begun, judged, margin_ms};
use crate::stats::sla::{Judged, Objective, Percent, Verdict};
use crate::stats::span::Span;

/// What was agreed about a server, and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvenAgreement {
    pub terms: Terms,
    /// Those that the window meets and that have begun.
    pub periods: Vec<ProvenPeriod>,
}

/// One period as the agreement judges it, in whole numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvenPeriod {
    /// `[from, to)`
    pub from: Timestamp,
    pub to: Timestamp,
    /// Up to when it is judged: its end, or when the proof was made.
    pub until: Timestamp,
    /// How often a reading is expected.
    pub interval_ms: i64,
    /// Time up to then that counts: within service hours, without holidays; as pairs of milliseconds
    /// since the epoch, `[from, to)`.
    pub counted: Vec<[i64; 2]>,
    /// Planned time up to then.
    pub planned: Vec<[i64; 2]>,
    /// Before any exclusion.
    pub before: Outcome,
    /// What each exclusion moves, one after the other.
    pub steps: Vec<ProvenStep>,
    /// After all of them.
    pub result: Outcome,
    /// Planned time that counts as down, because it is beyond the agreed amount.
    pub planned_over_ms: i64,
    /// Time of the whole period that counts.
    pub counted_ms: i64,
    /// Of that, time whose readings are no longer kept; with any there is no verdict.
    pub lost_ms: i64,
    /// (1 − objective) × what is judged and still to come, rounded down; null without an objective.
    pub budget_ms: Option<i64>,
    /// The budget without the time down; below zero when overspent.
    pub remaining_ms: Option<i64>,
    /// Percentiles that were agreed upon.
    pub latency: Vec<ProvenLatency>,
    pub verdict: Verdict,
    /// What is due of a finished period, in percent of its price.
    pub credit_due: Option<Percent>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvenStep {
    /// As it is written: `maintenance`, `party=ours`; `planned_max` and `least_outage` for the limits
    /// of the agreement.
    pub exclusion: String,
    /// What availability is a share of: up, degraded and down.
    pub judged_before_ms: i64,
    pub judged_after_ms: i64,
    /// Of that, what it takes out; below zero where it brings some in.
    pub excluded_ms: i64,
    pub down_before_ms: i64,
    pub down_after_ms: i64,
    pub availability_before_millionths: Option<i64>,
    pub availability_after_millionths: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvenLatency {
    /// Such as `p95`.
    pub percentile: String,
    /// How many response times there are.
    pub answers: u64,
    /// Exact, by nearest rank.
    pub measured_us: Option<u64>,
    pub met: Option<bool>,
}

/// What of history the periods of an agreement are made from: as many windows as periods.
pub(super) fn windows(objective: &Objective, window: Span, now: i64) -> Vec<Span> {
    let judged = |period: Span| Span::new(period.from, period.to.min(now));
    begun(objective, window, now).into_iter().map(judged).collect()
}

/// Judges every period by the terms alone.
///
/// # Errors
/// When a text of the terms cannot be read.
pub(super) fn reckon(
    terms: &Terms,
    readings: &Readings,
    windows: &[Planned],
    window: Span,
    now: i64,
) -> Result<Vec<ProvenPeriod>> {
    let objective = terms.objective()?;
    let periods = begun(&objective, window, now).into_iter().map(|period| {
        let until = Span::new(period.from, period.to.min(now));
        let wide = wide(until, readings.scheduled_ms, margin_ms(&objective));
        let seen = readings.seen(windows, until, wide);
        let latencies = readings.latencies(until);
        let kept_from = readings.kept_from_ms;
        let judged = judged(&objective, &seen, &latencies, kept_from, period, now);
        ProvenPeriod::of(&seen, &judged, latencies.len() as u64)
    });
    Ok(periods.collect())
}

impl ProvenPeriod {
    fn of(seen: &Seen, judged: &Judged, answers: u64) -> ProvenPeriod {
        let judgement = &judged.judgement;
        let steps = judgement.steps.iter().map(|step| {
            let share = |judged: i64, down: i64| millionths(judged - down, judged);
            ProvenStep {
                exclusion: step.exclusion.clone(),
                judged_before_ms: step.judged_before_ms,
                judged_after_ms: step.judged_after_ms,
                excluded_ms: step.judged_before_ms - step.judged_after_ms,
                down_before_ms: step.down_before_ms,
                down_after_ms: step.down_after_ms,
                availability_before_millionths: share(step.judged_before_ms, step.down_before_ms),
                availability_after_millionths: share(step.judged_after_ms, step.down_after_ms),
            }
        });
        let latency = judgement.latency.iter().map(|latency| ProvenLatency {
            percentile: latency.percentile.to_owned(),
            answers,
            measured_us: latency.measured_us,
            met: latency.met,
        });
        ProvenPeriod {
            from: instant(judgement.period.from),
            to: instant(judgement.period.to),
            until: instant(judgement.judged.to),
            interval_ms: seen.interval.interval_ms,
            counted: pairs(&judged.counted),
            planned: pairs(&seen.planned.clip(judgement.judged)),
            before: Outcome::of(&judgement.before),
            steps: steps.collect(),
            result: Outcome::of(&judgement.totals),
            planned_over_ms: judgement.planned_over_ms,
            counted_ms: judgement.counted_ms,
            lost_ms: judgement.lost_ms,
            budget_ms: judgement.budget_ms,
            remaining_ms: judgement.remaining_ms,
            latency: latency.collect(),
            verdict: judgement.verdict,
            credit_due: judgement.credit_due,
        }
    }
}
