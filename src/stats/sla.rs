//! What was agreed, and whether it was kept.
//!
//! The figures, in this order, over the time of a period that counts: within service hours, without
//! holidays.
//!
//! 1. Readings are down where the agreement says so; by default where they are critical. A critical
//!    one that is not down by the agreement is degraded.
//! 2. They become a timeline by the one rule of [`uptime`](super::uptime).
//! 3. Exclusions, in the order in which they are written: `maintenance` lays planned time over what
//!    was seen; named spans leave the window; `party=` takes the down time of a party out of
//!    numerator and denominator. Without `maintenance` among them, planned time is as it was seen.
//! 4. Planned time beyond the agreed amount counts as down: the first so many milliseconds of it in a
//!    period are planned, in the order of time, and all that follow are down. Of a period in which
//!    nothing was seen up, degraded or down, nothing is judged, and so none of it counts.
//! 5. Outages with less down time than the agreed least are degraded, not down; an outage is measured
//!    whole, also where a part of it is outside of service hours or, as far as the agreed least and a
//!    reading reach, of the period.
//!
//! availability = (up + degraded) ÷ (up + degraded + down); coverage = 1 − unknown ÷ (window −
//! maintenance). Under 95 % coverage the verdict is unknown.
//!
//! The budget is (1 − objective) × the time that is judged: of a finished period what is known, of a
//! running one also what is still to come. So a finished period is breached exactly where more is
//! spent than the budget, and a running one where nothing that is to come could make it good. Both
//! are decided in whole numbers; no rounding moves a figure over the edge.

use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::incident::least_outage;
use super::sketch::rank;
use super::span::{Span, Spans};
use super::uptime::{Kind, Piece, Point, Rule, Totals, lay, timeline};
use super::window::{Period, ServiceHours};
use crate::model::{Party, Status};

mod exclusion;
mod percent;

pub use exclusion::{Exclusion, Step};
pub use percent::Percent;

use exclusion::Adjusted;

/// The least coverage at which there is a verdict.
pub const LEAST_COVERAGE: Percent = Percent::whole(95);

/// An agreement about one server.
#[derive(Clone, Debug)]
pub struct Objective {
    pub availability: Option<Percent>,
    /// The longest that these percentiles of all answers may be, in microseconds.
    pub latency_p50_us: Option<u64>,
    pub latency_p95_us: Option<u64>,
    pub latency_p99_us: Option<u64>,
    pub period: Period,
    pub zone: TimeZone,
    pub hours: ServiceHours,
    pub holidays: Vec<Date>,
    pub exclude: Vec<Exclusion>,
    /// Outages with less down time than this do not count.
    pub least_outage_ms: i64,
    /// How much planned time is agreed for a period; `None` is any.
    pub planned_max_ms: Option<i64>,
    /// What counts as down; empty for the default, what is critical.
    pub down: Vec<DownWhen>,
    pub credits: Vec<Credit>,
}

/// What counts as down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownWhen {
    Status(Status),
    /// A reason code, or a family of them such as `tcp.*`.
    Code(Arc<str>),
}

/// What is given back when availability is below a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credit {
    pub below: Percent,
    pub credit: Percent,
}

/// What an agreement is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// What was seen, planned or not; also of the [`margin`](Objective::margin_ms) before and behind
    /// the period.
    pub points: &'a [Point],
    pub rule: Rule,
    /// Planned time, also what was entered afterwards.
    pub maintenance: &'a Spans,
    /// All response times of the period, in microseconds, ascending.
    pub latencies_us: &'a [u64],
    /// What was seen before is no longer kept.
    pub kept_from: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Met,
    Breached,
    /// Too little is known to say.
    Unknown,
}

impl Verdict {
    /// As it is written in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::Breached => "breached",
            Verdict::Unknown => "unknown",
        }
    }
}

/// A verdict, with all that it stands on. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Judgement {
    /// The whole period.
    pub period: Span,
    /// What of it is judged: up to its end, or up to now.
    pub judged: Span,
    /// Not over yet: the verdict says whether it can still be met.
    pub running: bool,
    pub verdict: Verdict,
    /// In percent.
    pub objective: Option<Percent>,
    /// From 0 to 1, after all exclusions.
    pub availability: Option<f64>,
    /// Whether availability so far is at least the objective.
    pub on_course: Option<bool>,
    /// From 0 to 1.
    pub coverage: Option<f64>,
    pub budget_ms: Option<i64>,
    pub spent_ms: i64,
    /// Below zero when overspent.
    pub remaining_ms: Option<i64>,
    /// Share of the budget that is spent ÷ share of the time that has passed: above 1, the budget
    /// does not last. Null for an objective of 100 %, which has no budget.
    pub burn_rate: Option<f64>,
    /// What is due of a finished period, in percent of its price.
    pub credit_due: Option<Percent>,
    pub latency: Vec<LatencyJudgement>,
    /// Before any exclusion.
    pub before: Totals,
    /// What each exclusion moves.
    pub steps: Vec<Step>,
    /// After all of them.
    pub totals: Totals,
    /// Planned time that counts as down, because it is beyond the agreed amount.
    pub planned_over_ms: i64,
    /// Time of the whole period within service hours, without holidays.
    pub counted_ms: i64,
    /// Of that, time whose readings are no longer kept. With any there is no verdict: an outage may have
    /// gone with them.
    pub lost_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LatencyJudgement {
    /// Such as `p95`.
    pub percentile: &'static str,
    pub limit_ms: f64,
    /// Exact, by nearest rank.
    pub measured_ms: Option<f64>,
    /// The same as it was measured, in microseconds.
    pub measured_us: Option<u64>,
    pub met: Option<bool>,
}

/// A judgement and the timeline behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub judgement: Judgement,
    /// After all exclusions; it begins before and ends behind the period, for outages over its ends.
    pub pieces: Vec<Piece>,
    /// The time that counts, up to the end of what is judged.
    pub counted: Spans,
    without: Vec<Party>,
}

impl Objective {
    /// How long before and behind a period readings matter to it: an outage over its end is measured
    /// whole.
    #[must_use]
    pub fn margin_ms(&self, rule: &Rule) -> i64 {
        rule.reach_ms().saturating_add(self.least_outage_ms.max(0))
    }

    /// The agreement's points: what it calls down is down, and nothing else.
    #[must_use]
    pub fn counted_as(&self, points: &[Point]) -> Vec<Point> {
        let counted = |point: &Point| {
            let bad = match point.kind {
                Kind::Up | Kind::Maintenance => return point.clone(),
                _ if self.down.is_empty() => point.kind == Kind::Down,
                _ => self.down.iter().any(|when| when.matches(point)),
            };
            let kind = match point.kind {
                _ if bad => Kind::Down,
                Kind::Down => Kind::Degraded,
                kind => kind,
            };
            Point { kind, ..point.clone() }
        };
        points.iter().map(counted).collect()
    }
}

impl DownWhen {
    /// A status, a reason code or a family of them: `critical`, `http.status`, `tcp.*`.
    ///
    /// # Errors
    /// A sentence that says how to write it.
    pub fn parse(text: &str) -> Result<DownWhen, String> {
        let text = text.trim();
        for status in [Status::Warning, Status::Critical, Status::Unknown] {
            if status.as_str() == text {
                return Ok(DownWhen::Status(status));
            }
        }
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        match text.split_once('.') {
            Some((family, name)) if is_word(family) && (name == "*" || is_word(name)) => {
                Ok(DownWhen::Code(text.into()))
            }
            _ => Err(format!(
                "\"{}\" is neither a status nor a reason code; write critical, warning or unknown, a code such as http.status, or a family such as tcp.*",
                text.escape_debug()
            )),
        }
    }

    fn matches(&self, point: &Point) -> bool {
        match self {
            DownWhen::Status(status) => point.kind == Kind::of(*status),
            DownWhen::Code(named) => point.code.as_deref().is_some_and(|code| {
                // With its dot: `tcp.` of `tcp.*`.
                named.strip_suffix('*').map_or(code == &**named, |family| code.starts_with(family))
            }),
        }
    }
}

/// Judges one period of an agreement, up to its end or, while it is running, up to `upto`.
#[must_use]
pub fn judge(objective: &Objective, evidence: &Evidence<'_>, period: Span, upto: i64) -> Judged {
    let counted = objective.hours.spans(period, &objective.zone, &objective.holidays);
    settle(objective, evidence, period, upto, &counted)
}

fn settle(
    objective: &Objective,
    evidence: &Evidence<'_>,
    period: Span,
    upto: i64,
    whole: &Spans,
) -> Judged {
    let judged = Span::new(period.from, upto.min(period.to));
    let counted = whole.clip(judged);
    let kept_from = evidence.kept_from.unwrap_or(i64::MIN).clamp(judged.from, judged.to);
    let lost_ms = counted.clip(Span::new(judged.from, kept_from)).total();
    let margin = objective.margin_ms(&evidence.rule);
    let wide = Span::new(judged.from.saturating_sub(margin), judged.to.saturating_add(margin));
    let points = objective.counted_as(evidence.points);
    let pieces = timeline(&points, wide, &evidence.rule, &Spans::none());

    let mut adjusted = Adjusted::new(pieces, counted);
    let before = adjusted.totals();
    let mut coming = whole.subtract(&Spans::one(judged));
    let mut planned_over_ms = 0;
    for exclusion in &objective.exclude {
        adjusted.exclude(exclusion, evidence.maintenance);
        match exclusion {
            Exclusion::Maintenance => coming = coming.subtract(evidence.maintenance),
            Exclusion::Named { spans, .. } => coming = coming.subtract(spans),
            Exclusion::Party(_) => {}
        }
    }
    if let Some(most) = objective.planned_max_ms.filter(|_| before.judged_ms() > 0) {
        let over = planned_beyond(&adjusted.pieces, &adjusted.counted, most);
        planned_over_ms = over.total();
        if planned_over_ms > 0 {
            adjusted.step("planned_max".into(), |now| {
                now.pieces = lay(std::mem::take(&mut now.pieces), &over, Kind::Down);
            });
        }
    }
    if objective.least_outage_ms > 0 {
        adjusted.step("least_outage".into(), |now| {
            now.pieces = least_outage(std::mem::take(&mut now.pieces), objective.least_outage_ms);
        });
    }

    let totals = adjusted.totals();
    let running = judged.to < period.to;
    let mut judgement = Judgement {
        period,
        judged,
        running,
        verdict: Verdict::Unknown,
        objective: objective.availability,
        availability: totals.availability(),
        on_course: None,
        coverage: totals.coverage(),
        budget_ms: None,
        spent_ms: totals.down_ms,
        remaining_ms: None,
        burn_rate: None,
        credit_due: None,
        latency: latencies(objective, evidence.latencies_us),
        before,
        steps: adjusted.steps,
        totals,
        planned_over_ms,
        counted_ms: whole.total(),
        lost_ms,
    };
    judgement.spend(coming.total());
    judgement.decide(&objective.credits);
    let (pieces, counted, without) = (adjusted.pieces, adjusted.counted, adjusted.without);
    Judged { judgement, pieces, counted, without }
}

impl Judgement {
    /// Puts down time against the budget; `coming_ms` is the time of the period that is still to come.
    fn spend(&mut self, coming_ms: i64) {
        let Some(objective) = self.objective else { return };
        let judged = self.totals.judged_ms();
        let budget = objective.rest().of(judged.saturating_add(coming_ms));
        self.budget_ms = Some(budget);
        self.remaining_ms = Some(budget - self.spent_ms);
        self.on_course =
            (judged > 0).then(|| !objective.is_above(self.totals.available_ms(), judged));
        // (spent ÷ budget) ÷ (judged ÷ (judged + coming)), without the rounding of the budget.
        let allowed = objective.rest().share() * judged as f64;
        self.burn_rate = (allowed > 0.0).then(|| self.spent_ms as f64 / allowed);
    }

    fn decide(&mut self, credits: &[Credit]) {
        let due = self.totals.window_ms - self.totals.maintenance_ms;
        let known = due - self.totals.unknown_ms;
        let (available, judged) = (self.totals.available_ms(), self.totals.judged_ms());
        if self.lost_ms > 0 || due <= 0 || LEAST_COVERAGE.is_above(known, due) {
            return;
        }
        let mut all: Vec<Option<bool>> = self.latency.iter().map(|latency| latency.met).collect();
        if let Some(remaining) = self.remaining_ms {
            all.push((judged > 0).then_some(remaining >= 0));
        }
        self.verdict = if all.contains(&Some(false)) {
            Verdict::Breached
        } else if all.is_empty() || all.contains(&None) {
            Verdict::Unknown
        } else {
            Verdict::Met
        };
        if !self.running && judged > 0 {
            let due = credits.iter().filter(|step| step.below.is_above(available, judged));
            self.credit_due = due.map(|step| step.credit).max();
        }
    }
}

impl Judged {
    /// How the part of a span that counts was spent, after all exclusions.
    #[must_use]
    pub fn within(&self, span: Span) -> Totals {
        Totals::within(&self.pieces, span, &self.counted, &self.without)
    }

    /// The budget that is spent at each of some instants, which are in ascending order.
    #[must_use]
    pub fn spent_at(&self, instants: &[i64]) -> Vec<i64> {
        let mut spent = 0;
        let mut from = self.judgement.judged.from;
        let sum = |to: &i64| {
            let span = Span::new(from, *to);
            spent += self.within(span).down_ms;
            from = from.max(*to);
            spent
        };
        instants.iter().map(sum).collect()
    }
}

/// Planned time that counts, behind the first `most` milliseconds of it.
fn planned_beyond(pieces: &[Piece], counted: &Spans, most: i64) -> Spans {
    let planned = pieces.iter().filter(|piece| piece.kind == Kind::Maintenance);
    let planned: Spans = planned.map(|piece| piece.span).collect();
    let mut left = most.max(0);
    let planned = planned.intersect(counted);
    let beyond = planned.iter().map(|span| {
        let within = span.ms().min(left);
        left -= within;
        Span::new(span.from + within, span.to)
    });
    beyond.collect::<Vec<_>>().into()
}

fn latencies(objective: &Objective, sorted: &[u64]) -> Vec<LatencyJudgement> {
    let limits = [
        ("p50", 0.5, objective.latency_p50_us),
        ("p95", 0.95, objective.latency_p95_us),
        ("p99", 0.99, objective.latency_p99_us),
    ];
    let judged = limits.into_iter().filter_map(|(percentile, q, limit)| {
        let limit = limit?;
        let place = rank(q, sorted.len() as u64).and_then(|rank| usize::try_from(rank - 1).ok());
        let measured = place.and_then(|place| sorted.get(place)).copied();
        Some(LatencyJudgement {
            percentile,
            limit_ms: limit as f64 / 1000.0,
            measured_ms: measured.map(|us| us as f64 / 1000.0),
            measured_us: measured,
            met: measured.map(|us| us <= limit),
        })
    });
    judged.collect()
}

#[cfg(test)]
mod tests;
