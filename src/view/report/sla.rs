//! `report sla`: agreements kept or breached, and what is sent to a vendor in a dispute.

use super::incident::{changed, outage_table, timeline, words};
use super::{Head, percent, percent_text};
use crate::render::chart::{BurnDown, Chart, Period, Plot, Point};
use crate::render::{Block, Cell, Figure, Output, Row, Table, Tone};
use crate::report::{Agreed, Expected, LeftOut, Outage, PeriodFigures, WhyLeftOut};
use crate::stats::sla::{Percent, Verdict};
use crate::stats::window::zone;
use crate::view::human::{duration, lasting, length, or_dash, table};

/// What a program reads of each agreement and period. Shares are from 0 to 1.
const PERIODS: [&str; 35] = [
    "server",
    "from",
    "to",
    "running",
    "verdict",
    "availability",
    "objective",
    "coverage",
    "spent_ms",
    "budget_ms",
    "remaining_ms",
    "burn_rate",
    "credit",
    "counted_ms",
    "up_ms",
    "degraded_ms",
    "down_ms",
    "unknown_ms",
    "maintenance_ms",
    "excluded_ms",
    "down_before_exclusions_ms",
    "availability_before_exclusions",
    "planned_over_ms",
    "outages",
    "outages_left_out",
    "readings_expected",
    "readings_taken",
    "readings_missing",
    "p50_ms",
    "p50_limit_ms",
    "p95_ms",
    "p95_limit_ms",
    "p99_ms",
    "p99_limit_ms",
    "agreement",
];

fn records(all: &[Agreed]) -> Table {
    let periods = all.iter().flat_map(|one| one.periods.iter().map(move |period| (one, period)));
    table(&PERIODS, periods.map(|(one, period)| record(one, period)).collect())
}

fn record(one: &Agreed, period: &PeriodFigures) -> Row {
    fn said<T: ToString>(value: Option<T>) -> Option<String> {
        value.map(|value| value.to_string())
    }
    let judgement = &period.judgement;
    let totals = &judgement.totals;
    let latency = |percentile: &str| {
        let found = judgement.latency.iter().find(|one| one.percentile == percentile);
        let measured = found.and_then(|one| one.measured_ms);
        [said(measured), said(found.map(|one| one.limit_ms))]
    };
    let [p50, p50_limit] = latency("p50");
    let [p95, p95_limit] = latency("p95");
    let [p99, p99_limit] = latency("p99");
    let cells = [
        Some(one.server.clone()),
        said(Some(period.from)),
        said(Some(period.to)),
        said(Some(judgement.running)),
        Some(judgement.verdict.as_str().to_owned()),
        said(judgement.availability),
        said(judgement.objective.map(Percent::share)),
        said(judgement.coverage),
        said(Some(judgement.spent_ms)),
        said(judgement.budget_ms),
        said(judgement.remaining_ms),
        said(judgement.burn_rate),
        said(judgement.credit_due.map(Percent::share)),
        said(Some(judgement.counted_ms)),
        said(Some(totals.up_ms)),
        said(Some(totals.degraded_ms)),
        said(Some(totals.down_ms)),
        said(Some(totals.unknown_ms)),
        said(Some(totals.maintenance_ms)),
        said(Some(totals.excluded_ms)),
        said(Some(judgement.before.down_ms)),
        said(judgement.before.availability()),
        said(Some(judgement.planned_over_ms)),
        said(Some(period.incidents.len())),
        said(Some(period.left_out.len())),
        said(Some(period.readings.expected)),
        said(Some(period.readings.taken)),
        said(Some(period.readings.missing)),
        p50,
        p50_limit,
        p95,
        p95_limit,
        p99,
        p99_limit,
        one.agreement.text.clone(),
    ];
    cells.map(|cell| cell.map_or_else(Cell::nothing, Cell::plain)).into()
}

/// The report in every form.
#[must_use]
pub fn output(head: Head, all: Vec<Agreed>) -> Output {
    let mut blocks = Vec::new();
    if all.is_empty() {
        blocks.push(Block::text("Nothing was agreed about these servers: none has an sla."));
    } else {
        blocks.push(Block::Table(overview(&all)));
        blocks.push(Block::Blank);
    }
    for one in &all {
        for period in &one.periods {
            let title = format!("{}, {}", one.server, span(one, period));
            blocks.push(Block::section(title, told(&head, one, period)));
        }
    }
    let rows = records(&all);
    head.output("Service level agreements", all, rows, blocks)
}

fn overview(all: &[Agreed]) -> Table {
    let periods = all.iter().flat_map(|one| one.periods.iter().map(move |period| (one, period)));
    let rows = periods.map(|(one, period)| {
        let judgement = &period.judgement;
        vec![
            Cell::plain(&one.server),
            Cell::plain(span(one, period)),
            verdict(judgement.verdict, judgement.running),
            percent(judgement.availability),
            or_dash(judgement.objective.map(|objective| objective.to_string()).as_deref()),
            percent(judgement.coverage),
            lasting(judgement.spent_ms),
            judgement.budget_ms.map_or_else(Cell::nothing, lasting),
            match judgement.remaining_ms {
                Some(ms) if ms < 0 => Cell::toned(length(ms), Tone::Bad),
                Some(ms) => lasting(ms),
                None => Cell::nothing(),
            },
            or_dash(judgement.burn_rate.map(|rate| format!("{rate:.2}")).as_deref()),
            or_dash(judgement.credit_due.map(|credit| credit.to_string()).as_deref()),
        ]
    });
    let head = [
        "server",
        "period",
        "verdict",
        "availability",
        "objective",
        "coverage",
        "spent",
        "budget",
        "left",
        "burn rate",
        "credit",
    ];
    table(&head, rows.collect())
}

/// One server's agreement with all evidence, and nothing of ours: no path, no other server. What people
/// wrote was [cleared](crate::report::for_vendor) before.
#[must_use]
pub fn for_vendor(mut head: Head, one: &Agreed) -> Output {
    head.inventory = String::new();
    head.history = String::new();
    head.notes = Vec::new();
    let title = format!("Service level of {}", one.server);
    let mut blocks = vec![agreement(one)];
    for period in &one.periods {
        let mut inner = told(&head, one, period);
        inner.push(excluded(&head, period));
        inner.extend(evidence(&head, period));
        blocks.push(Block::section(span(one, period), inner));
    }
    let rows = records(std::slice::from_ref(one));
    head.output(&title, vec![one.clone()], rows, blocks)
}

fn told(head: &Head, one: &Agreed, period: &PeriodFigures) -> Vec<Block> {
    let judgement = &period.judgement;
    let mut figures = vec![
        Figure {
            label: "Availability".to_owned(),
            value: percent(judgement.availability),
            note: judgement
                .objective
                .map_or_else(String::new, |objective| format!("objective {objective}")),
        },
        Figure {
            label: "Verdict".to_owned(),
            value: verdict(judgement.verdict, judgement.running),
            note: match (judgement.lost_ms, judgement.coverage) {
                (0, None) => String::new(),
                (0, Some(coverage)) => format!("coverage {}", percent_text(coverage)),
                (lost, _) => format!("readings of {} are no longer kept", length(lost)),
            },
        },
    ];
    if let (Some(budget), Some(left), Some(_)) =
        (judgement.budget_ms, judgement.remaining_ms, judgement.availability)
    {
        figures.push(Figure {
            label: "Error budget left".to_owned(),
            value: Cell::toned(length(left), if left < 0 { Tone::Bad } else { Tone::Plain }),
            note: format!("of {}", length(budget)),
        });
    }
    if let Some(credit) = judgement.credit_due {
        figures.push(Figure {
            label: "Credit due".to_owned(),
            value: Cell::toned(credit.to_string(), Tone::Bad),
            note: "of the fee of the period".to_owned(),
        });
    }
    let mut blocks = vec![Block::Figures(figures)];
    for latency in &judgement.latency {
        let measured = latency.measured_ms.map_or_else(|| "-".to_owned(), duration);
        blocks.push(Block::text(format!(
            "Response time, {}: {measured}, agreed {}{}",
            latency.percentile,
            duration(latency.limit_ms),
            if latency.met == Some(false) { ": too slow" } else { "" }
        )));
    }
    let Expected { expected, taken, missing } = period.readings;
    blocks.push(Block::text(match judgement.lost_ms {
        0 => format!("{expected} readings were expected, {taken} taken, {missing} are missing."),
        _ => format!(
            "{expected} readings were expected, {taken} are kept, {missing} are missing or no longer kept."
        ),
    }));
    if judgement.planned_over_ms > 0 {
        blocks.push(Block::text(format!(
            "{} of planned work are beyond what was agreed, and count as down.",
            length(judgement.planned_over_ms)
        )));
    }
    if let Some(chart) = burn_down(head, one, period) {
        blocks.push(Block::chart(chart));
    }
    if !period.incidents.is_empty() {
        let server = [one.server.as_str()];
        blocks.push(Block::chart(timeline(head, "Outages that count", &server, &period.incidents)));
        let mut outages = outage_table(head, &period.incidents);
        outages.head.push("counts".to_owned());
        for (row, outage) in outages.rows.iter_mut().zip(&period.incidents) {
            row.push(outage.counts_ms.map_or_else(Cell::nothing, lasting));
        }
        blocks.push(Block::Table(outages));
        blocks.extend(changes(head, &period.incidents));
    }
    blocks.push(Block::Blank);
    if !period.left_out.is_empty() {
        blocks.push(left_out(head, &period.left_out));
    }
    if !judgement.steps.is_empty() {
        let rows = judgement.steps.iter().map(|step| {
            vec![
                Cell::plain(&step.exclusion),
                percent(step.availability_before),
                percent(step.availability_after),
                lasting(step.down_before_ms),
                lasting(step.down_after_ms),
            ]
        });
        let head = ["exclusion", "before", "after", "down before", "down after"];
        blocks.push(Block::section(
            "What exclusions move",
            vec![Block::Table(table(&head, rows.collect()))],
        ));
    }
    blocks
}

/// Whose outages people say that they are.
fn changes<'a>(
    head: &'a Head,
    outages: impl IntoIterator<Item = &'a Outage> + 'a,
) -> impl Iterator<Item = Block> + 'a {
    outages.into_iter().filter_map(|outage| changed(head, outage)).map(Block::text)
}

/// Outages that were seen and are in no figure.
fn left_out(head: &Head, all: &[LeftOut]) -> Block {
    let outages: Vec<Outage> = all.iter().map(|one| one.outage.clone()).collect();
    let mut seen = outage_table(head, &outages);
    seen.head.push("why".to_owned());
    for (row, one) in seen.rows.iter_mut().zip(all) {
        row.push(Cell::plain(match one.why {
            WhyLeftOut::Party => "of a party that is left out",
            WhyLeftOut::PlannedWork => "planned work",
            WhyLeftOut::TooShort => "shorter than the least outage",
            WhyLeftOut::OutsideOfServiceHours => "outside of service hours",
        }));
    }
    let mut blocks = vec![Block::Table(seen)];
    blocks.extend(changes(head, &outages));
    Block::section("Outages that do not count", blocks)
}

fn agreement(one: &Agreed) -> Block {
    let terms = &one.agreement;
    let list = |words: &[String]| match words {
        [] => "nothing".to_owned(),
        words => words.join(", "),
    };
    let holidays: Vec<String> = terms.holidays.iter().map(ToString::to_string).collect();
    let mut facts: Vec<(String, Cell)> = vec![
        ("server".into(), Cell::plain(&one.server)),
        ("agreement".into(), or_dash(terms.text.as_deref())),
        (
            "availability".into(),
            or_dash(terms.availability.map(|share| share.to_string()).as_deref()),
        ),
        ("period".into(), Cell::plain(terms.period.as_str())),
        ("time zone".into(), Cell::plain(&terms.time_zone)),
        ("service hours".into(), Cell::plain(&terms.service_hours)),
        ("counts as down".into(), Cell::plain(list(&terms.down))),
        ("excluded".into(), Cell::plain(list(&terms.exclude))),
    ];
    if !holidays.is_empty() {
        facts.push(("holidays".into(), Cell::plain(list(&holidays))));
    }
    let ms = |ms: u64| length(i64::try_from(ms).unwrap_or(i64::MAX));
    if terms.least_outage_ms > 0 {
        facts.push(("least outage".into(), Cell::plain(ms(terms.least_outage_ms))));
    }
    if let Some(most) = terms.planned_max_ms {
        let text = format!("{}; more counts as down", ms(most));
        facts.push(("largest planned time".into(), Cell::plain(text)));
    }
    let limits = [
        ("p50", terms.latency_p50_ms),
        ("p95", terms.latency_p95_ms),
        ("p99", terms.latency_p99_ms),
    ];
    for (percentile, limit) in limits {
        if let Some(limit) = limit {
            let name = format!("response time, {percentile}");
            facts.push((name, Cell::plain(format!("at most {}", ms(limit)))));
        }
    }
    for step in &terms.credits {
        let name = format!("credit below {}", step.below);
        facts.push((name, Cell::plain(format!("{} of the fee of the period", step.credit))));
    }
    Block::section("What was agreed", vec![Block::Facts(facts)])
}

/// Planned work, and who entered it when.
fn excluded(head: &Head, period: &PeriodFigures) -> Block {
    if period.planned.is_empty() {
        return Block::text("No planned work was entered.");
    }
    let rows = period.planned.iter().map(|window| {
        let at = |at: Option<jiff::Timestamp>| at.map_or_else(Cell::nothing, |at| head.at(at));
        vec![
            at(window.from),
            at(window.until),
            or_dash(window.reason.as_deref()),
            match window.entered {
                Some(at) => Cell::toned(format!("afterwards, {}", head.clock(at)), Tone::Warning),
                None => Cell::plain("not marked as later"),
            },
            or_dash(window.entered_by.as_deref()),
        ]
    });
    Block::section(
        "Planned work",
        vec![Block::Table(table(&["from", "until", "reason", "entered", "by"], rows.collect()))],
    )
}

fn evidence(head: &Head, period: &PeriodFigures) -> Option<Block> {
    let mut rows = Vec::new();
    for outage in &period.incidents {
        for (what, evidence) in [("first", &outage.first), ("last", &outage.last)] {
            let Some(evidence) = evidence else { continue };
            let status = evidence.http_status.map(|status| status.to_string());
            rows.push(vec![
                Cell::plain(head.clock(outage.from)),
                Cell::toned(what, Tone::Dim),
                Cell::plain(head.clock(evidence.at)),
                or_dash(evidence.code.as_deref()),
                or_dash(status.as_deref()),
                or_dash(evidence.request_id.as_deref()),
                or_dash(evidence.server_request_id.as_deref()),
                or_dash(evidence.remote_address.as_deref()),
            ]);
        }
    }
    let columns =
        ["outage", "", "at", "reason", "HTTP", "our request id", "your request id", "address"];
    let seen = Block::Table(table(&columns, rows));
    let earlier = |ms: Option<i64>| match ms {
        Some(ms) => Cell::plain(format!("by up to {}", length(ms))),
        None => Cell::nothing(),
    };
    let uncertain = period.incidents.iter().map(|outage| {
        vec![
            Cell::plain(head.clock(outage.from)),
            earlier(outage.begin_uncertainty_ms),
            earlier(outage.end_uncertainty_ms),
        ]
    });
    let columns = ["outage", "may have begun earlier", "may have ended earlier"];
    let uncertain = Block::Table(table(&columns, uncertain.collect()));
    let written = period.incidents.iter().flat_map(|outage| {
        outage.notes.iter().map(|note| {
            vec![
                Cell::plain(head.clock(outage.from)),
                Cell::plain(head.clock(note.written_at)),
                Cell::plain(&note.author),
                Cell::plain(&note.kind),
                Cell::plain(words(note)),
            ]
        })
    });
    let written: Vec<_> = written.collect();
    let mut blocks = vec![seen, Block::Blank, uncertain];
    if !written.is_empty() {
        let columns = ["outage", "at", "by", "", "what was written"];
        blocks.extend([Block::Blank, Block::Table(table(&columns, written))]);
    }
    (!period.incidents.is_empty()).then(|| Block::section("Evidence", blocks))
}

fn burn_down(head: &Head, one: &Agreed, period: &PeriodFigures) -> Option<Chart> {
    let budget = period.judgement.budget_ms.filter(|budget| *budget > 0)?;
    let left = |spent: i64| 1.0 - spent as f64 / budget as f64;
    let start = Point { at_ms: period.from.as_millisecond(), value: Some(1.0) };
    let points = period.burned.iter().map(|burned| Point {
        at_ms: burned.at.as_millisecond(),
        value: Some(left(burned.spent_ms)),
    });
    let rows = period.burned.iter().map(|burned| {
        vec![head.at(burned.at), lasting(burned.spent_ms), lasting(budget - burned.spent_ms)]
    });
    Some(Chart {
        title: "Error budget".to_owned(),
        description: format!(
            "{} of {} are spent.",
            length(period.judgement.spent_ms),
            length(budget)
        ),
        plot: Plot::BurnDown(BurnDown {
            period: Period {
                from_ms: period.from.as_millisecond(),
                until_ms: period.to.as_millisecond(),
                zone: zone(&one.agreement.time_zone).unwrap_or(jiff::tz::TimeZone::UTC),
            },
            budget: length(budget),
            left: std::iter::once(start).chain(points).collect(),
        }),
        table: table(&["by", "spent", "left"], rows.collect()),
    })
}

pub(super) fn verdict(verdict: Verdict, running: bool) -> Cell {
    match (verdict, running) {
        (Verdict::Met, false) => Cell::toned("met", Tone::Good),
        (Verdict::Met, true) => Cell::toned("met so far", Tone::Good),
        (Verdict::Breached, _) => Cell::toned("breached", Tone::Bad),
        (Verdict::Unknown, _) => Cell::toned("unknown", Tone::Unknown),
    }
}

/// The period by the agreement's own clock.
fn span(one: &Agreed, period: &PeriodFigures) -> String {
    let zone = zone(&one.agreement.time_zone).unwrap_or(jiff::tz::TimeZone::UTC);
    let from = period.from.to_zoned(zone.clone());
    let to = period.to.to_zoned(zone);
    if from.day() == 1
        && from
            .date()
            .first_of_month()
            .checked_add(jiff::Span::new().months(1))
            .is_ok_and(|next| next == to.date())
    {
        return from.strftime("%B %Y").to_string();
    }
    format!("{} to {}", from.date(), to.date())
}
