//! What was agreed about a server, and whether it was kept, with all that the verdict stands on.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::availability::Expected;
use super::incident::{Outage, incidents_of};
use super::instant;
use super::seen::{Interval, Seen};
use crate::history::{Known, Store};
use crate::model::server::Maintenance;
use crate::model::{Agreement, Error, Result, Server, Status};
use crate::stats::incident::{Confirmation, Level, Summary, incidents, summary};
use crate::stats::latency::took_time;
use crate::stats::sla::{
    Credit, DownWhen, Evidence, Exclusion, Judged, Judgement, Objective, Percent, Verdict, judge,
};
use crate::stats::span::{Span, Spans};
use crate::stats::uptime::{Piece, Totals, timeline};
use crate::stats::window::{Period, ServiceHours, days, zone};

/// One server's agreement and each of its periods that was asked for.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Agreed {
    pub server: String,
    pub vendor: Option<String>,
    pub organization: Option<String>,
    pub agreement: Terms,
    pub interval: Interval,
    pub periods: Vec<PeriodFigures>,
}

/// The agreement as it was judged by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    pub text: Option<String>,
    /// In percent.
    pub availability: Option<Percent>,
    pub latency_p50_ms: Option<u64>,
    pub latency_p95_ms: Option<u64>,
    pub latency_p99_ms: Option<u64>,
    pub period: Period,
    pub time_zone: String,
    pub service_hours: String,
    pub holidays: Vec<jiff::civil::Date>,
    pub exclude: Vec<String>,
    /// What counts as down.
    pub down: Vec<String>,
    pub least_outage_ms: u64,
    pub planned_max_ms: Option<u64>,
    pub credits: Vec<Credit>,
}

/// One period of an agreement.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PeriodFigures {
    pub from: Timestamp,
    pub to: Timestamp,
    pub judgement: Judgement,
    /// Within service hours, planned work aside.
    pub readings: Expected,
    /// Of those that count.
    pub outages: Summary,
    /// Those that count: a part of their down time is in the figures.
    pub incidents: Vec<Outage>,
    /// Those that do not, and why.
    pub left_out: Vec<LeftOut>,
    /// Planned work, as it was entered.
    pub planned: Vec<PlannedWork>,
    /// What was spent of the budget by the end of each day.
    pub burned: Vec<Burned>,
}

/// An outage that does not count.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LeftOut {
    pub why: WhyLeftOut,
    #[serde(flatten)]
    pub outage: Outage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhyLeftOut {
    /// It is of a party that the agreement leaves out.
    Party,
    PlannedWork,
    /// It is shorter than the least outage that counts.
    TooShort,
    OutsideOfServiceHours,
}

/// A window of planned work, and who entered it, where that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PlannedWork {
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub reason: Option<String>,
    /// When it was entered, where that was after its beginning.
    pub entered: Option<Timestamp>,
    pub entered_by: Option<String>,
}

/// A window of planned work, as a proof has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub reason: Option<String>,
    /// When it was entered, where that was after its beginning.
    pub entered: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct Burned {
    pub at: Timestamp,
    pub spent_ms: i64,
}

/// What a server's agreement says as figures.
///
/// # Errors
/// When a text of it cannot be read, which the inventory has seen to.
pub fn objective(agreement: &Agreement) -> Result<Objective> {
    Terms::of(agreement)?.objective()
}

fn unreadable(words: impl std::fmt::Display) -> Error {
    Error::config(format!("the agreement cannot be read: {words}"))
}

impl Terms {
    /// An agreement with what it leaves unsaid, in whole milliseconds.
    ///
    /// # Errors
    /// When a text of it cannot be read, which the inventory has seen to.
    pub fn of(agreement: &Agreement) -> Result<Terms> {
        let ms = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        // No promise is made stricter than it is written.
        let limit = |length: Duration| {
            u64::try_from(length.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
        };
        let percent = |text: &str| Percent::parse(text).map_err(unreadable);
        let period = agreement.period.as_deref().unwrap_or(Period::CalendarMonth.as_str());
        Ok(Terms {
            text: agreement.text.clone(),
            availability: agreement.availability.as_deref().map(percent).transpose()?,
            latency_p50_ms: agreement.latency_p50.map(limit),
            latency_p95_ms: agreement.latency_p95.map(limit),
            latency_p99_ms: agreement.latency_p99.map(limit),
            period: Period::find(period)
                .ok_or_else(|| unreadable(format!("no period is named {period}")))?,
            time_zone: zone_name(&zone(agreement.time_zone.as_deref().unwrap_or("UTC"))?),
            service_hours: agreement.service_hours.clone().unwrap_or_else(|| "24x7".to_owned()),
            holidays: agreement.holidays.clone(),
            exclude: agreement.exclude.clone(),
            down: match agreement.down.as_slice() {
                [] => vec![Status::Critical.as_str().to_owned()],
                some => some.to_vec(),
            },
            least_outage_ms: ms(agreement.least_outage),
            planned_max_ms: agreement.planned_max.map(ms),
            credits: agreement
                .credits
                .iter()
                .map(|(below, credit)| {
                    Ok(Credit { below: percent(below)?, credit: percent(credit)? })
                })
                .collect::<Result<_>>()?,
        })
    }

    /// The same as figures.
    ///
    /// # Errors
    /// When a text of it cannot be read.
    pub fn objective(&self) -> Result<Objective> {
        let us = |ms: u64| ms.saturating_mul(1000);
        let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        Ok(Objective {
            availability: self.availability,
            latency_p50_us: self.latency_p50_ms.map(us),
            latency_p95_us: self.latency_p95_ms.map(us),
            latency_p99_us: self.latency_p99_ms.map(us),
            period: self.period,
            zone: zone(&self.time_zone)?,
            hours: ServiceHours::parse(&self.service_hours).map_err(unreadable)?,
            holidays: self.holidays.clone(),
            exclude: self
                .exclude
                .iter()
                .map(|text| Exclusion::parse(text).map_err(unreadable))
                .collect::<Result<_>>()?,
            least_outage_ms: ms(self.least_outage_ms),
            planned_max_ms: self.planned_max_ms.map(ms),
            down: self
                .down
                .iter()
                .map(|text| DownWhen::parse(text).map_err(unreadable))
                .collect::<Result<_>>()?,
            credits: self.credits.clone(),
        })
    }
}

/// A period of a server's agreement, with its timeline, for the report and for its proof.
pub struct Settled {
    pub seen: Seen,
    pub objective: Objective,
    pub judged: Judged,
    pub period: Span,
}

/// Judges one period from raw readings.
///
/// # Errors
/// When the history cannot be read.
pub async fn settle(
    store: &Store,
    server: &Server,
    known: Option<&Known>,
    agreement: &Agreement,
    period: Span,
    now: i64,
) -> Result<Settled> {
    let objective = objective(agreement)?;
    let window = Span::new(period.from, period.to.min(now));
    let seen = Seen::load(store, server, known.is_some(), window, margin_ms(&objective)).await?;
    let latencies = latencies(store, server, known.is_some(), &objective, window).await?;
    let kept_from = known.and_then(|known| known.pruned_to);
    let judged = judged(&objective, &seen, &latencies, kept_from, period, now);
    Ok(Settled { seen, objective, judged, period })
}

/// What is read beyond the ends of a period: twice the least outage, since one over an end is measured
/// whole; what is read there counts nothing.
pub(super) fn margin_ms(objective: &Objective) -> i64 {
    objective.least_outage_ms.saturating_mul(2)
}

/// Judges one period from what was seen of it; response times are ascending, in microseconds.
pub(super) fn judged(
    objective: &Objective,
    seen: &Seen,
    latencies_us: &[u64],
    kept_from: Option<i64>,
    period: Span,
    now: i64,
) -> Judged {
    let evidence = Evidence {
        points: &seen.points,
        rule: seen.rule,
        maintenance: &seen.planned,
        latencies_us,
        kept_from,
    };
    judge(objective, &evidence, period, now)
}

/// The periods that a window meets and that have begun.
pub(super) fn begun(objective: &Objective, window: Span, now: i64) -> Vec<Span> {
    let mut periods = objective.period.within(window, &objective.zone);
    periods.retain(|period| period.from < now);
    periods
}

/// From the beginning of the first running period of all agreements up to now; `None` without one.
///
/// # Errors
/// When a text of an agreement cannot be read, which the inventory has seen to.
pub fn running(servers: &[Server], now: i64) -> Result<Option<Span>> {
    let mut from = None;
    for agreement in servers.iter().filter_map(|server| server.agreement.as_ref()) {
        for period in begun(&objective(agreement)?, Span::new(now - 1, now), now) {
            from = Some(from.map_or(period.from, |from: i64| from.min(period.from)));
        }
    }
    Ok(from.map(|from| Span::new(from, now)))
}

/// By which zone's calendar a server's agreement is judged; UTC where nothing was agreed.
///
/// # Errors
/// When the agreement's zone cannot be read, which the inventory has seen to.
pub fn calendar(server: &Server) -> Result<TimeZone> {
    let name = server.agreement.as_ref().and_then(|agreement| agreement.time_zone.as_deref());
    zone(name.unwrap_or("UTC"))
}

/// The periods of a server's agreement that a window meets; `None` where nothing was agreed.
///
/// # Errors
/// When the history cannot be read.
pub async fn sla(
    store: &Store,
    server: &Server,
    known: Option<&Known>,
    window: Span,
    now: i64,
) -> Result<Option<Agreed>> {
    let Some(agreement) = &server.agreement else { return Ok(None) };
    let terms = Terms::of(agreement)?;
    let mut interval = None;
    let mut periods = Vec::new();
    for period in begun(&terms.objective()?, window, now) {
        let settled = settle(store, server, known, agreement, period, now).await?;
        interval = Some(settled.seen.interval);
        periods.push(figures(store, server, &settled, now).await?);
    }
    let Some(interval) = interval else { return Ok(None) };
    Ok(Some(Agreed {
        server: server.name.clone(),
        vendor: server.vendor.clone(),
        organization: server.organization.clone(),
        agreement: terms,
        interval,
        periods,
    }))
}

async fn figures(
    store: &Store,
    server: &Server,
    settled: &Settled,
    now: i64,
) -> Result<PeriodFigures> {
    let Settled { seen, objective, judged, period } = settled;
    let judgement = judged.judgement.clone();
    let counted = &judged.counted;
    let inside = |pieces: &[Piece]| -> Vec<Piece> {
        let meets = |piece: &&Piece| !piece.span.intersect(&judgement.judged).is_empty();
        pieces.iter().filter(meets).cloned().collect()
    };
    let counts = |span: Span| judged.within(span).down_ms > 0;
    // As the agreement sees them.
    let pieces = inside(&judged.pieces);
    let found = incidents(&pieces, &seen.points, Level::Down, Confirmation::default());
    let counted_outages: Vec<_> =
        found.into_iter().filter(|incident| counts(incident.span)).collect();
    let ends: Vec<i64> =
        days(judgement.judged, &objective.zone).into_iter().map(|day| day.span.to).collect();
    let spent = judged.spent_at(&ends);
    let mut outages = incidents_of(store, server, seen, &pieces, Some(objective), now).await?;
    outages.retain(|outage| counts(outage.span()));
    for outage in &mut outages {
        outage.counts_ms = Some(judged.within(outage.span()).down_ms);
    }
    // As they were seen.
    let margin = objective.margin_ms(&seen.rule);
    let Span { from, to } = judgement.judged;
    let wide = Span::new(from.saturating_sub(margin), to.saturating_add(margin));
    let points = objective.counted_as(&seen.points);
    let all = inside(&timeline(&points, wide, &seen.rule, &Spans::none()));
    let all = incidents_of(store, server, seen, &all, Some(objective), now).await?;
    let left_out = all.into_iter().filter(|outage| !counts(outage.span())).map(|outage| {
        let why = WhyLeftOut::of(&judged.within(outage.span()));
        LeftOut { why, outage }
    });
    Ok(PeriodFigures {
        from: instant(period.from),
        to: instant(period.to),
        readings: Expected::of(seen, counted),
        outages: summary(&counted_outages, &judgement.totals),
        incidents: outages,
        left_out: left_out.collect(),
        planned: windows_within(server, *period)
            .map(|window| PlannedWork {
                from: window.from,
                until: window.until,
                reason: window.reason.clone(),
                entered: window.entered,
                entered_by: window.entered_by.clone(),
            })
            .collect(),
        burned: ends
            .into_iter()
            .zip(spent)
            .map(|(at, spent_ms)| Burned { at: instant(at), spent_ms })
            .collect(),
        judgement,
    })
}

/// Response times of the window in microseconds, ascending; read only where one was agreed.
async fn latencies(
    store: &Store,
    server: &Server,
    is_known: bool,
    objective: &Objective,
    window: Span,
) -> Result<Vec<u64>> {
    let limits = [objective.latency_p50_us, objective.latency_p95_us, objective.latency_p99_us];
    if !is_known || limits.iter().all(Option::is_none) {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    store
        .samples(&server.name, window.from..window.to, |reading| {
            if window.contains(reading.at.as_millisecond()) {
                let timed = reading.samples.iter().filter(|sample| took_time(sample));
                all.extend(timed.map(|sample| sample.duration_us));
            }
            Ok(())
        })
        .await?;
    all.sort_unstable();
    Ok(all)
}

/// The inventory's maintenance windows that a span meets, as a proof has them.
pub(super) fn planned(server: &Server, span: Span) -> Vec<Planned> {
    windows_within(server, span)
        .map(|window| Planned {
            from: window.from,
            until: window.until,
            reason: window.reason.clone(),
            entered: window.entered,
        })
        .collect()
}

fn windows_within(server: &Server, span: Span) -> impl Iterator<Item = &Maintenance> {
    server.maintenance.iter().filter(move |window| {
        let from = window.from.map_or(i64::MIN, Timestamp::as_millisecond);
        let until = window.until.map_or(i64::MAX, Timestamp::as_millisecond);
        from < span.to && until > span.from
    })
}

impl WhyLeftOut {
    /// By how the time of an outage was spent that counts nothing.
    fn of(totals: &Totals) -> WhyLeftOut {
        if totals.excluded_ms > 0 {
            WhyLeftOut::Party
        } else if totals.maintenance_ms > 0 {
            WhyLeftOut::PlannedWork
        } else if totals.degraded_ms > 0 {
            WhyLeftOut::TooShort
        } else {
            WhyLeftOut::OutsideOfServiceHours
        }
    }
}

fn zone_name(zone: &TimeZone) -> String {
    zone.iana_name().unwrap_or("UTC").to_owned()
}

/// The worst verdict of all periods: breached, then unknown, then met; `None` without a period.
#[must_use]
pub fn worst(all: &[Agreed]) -> Option<Verdict> {
    let verdicts =
        || all.iter().flat_map(|agreed| &agreed.periods).map(|period| period.judgement.verdict);
    [Verdict::Breached, Verdict::Unknown, Verdict::Met]
        .into_iter()
        .find(|wanted| verdicts().any(|verdict| verdict == *wanted))
}
