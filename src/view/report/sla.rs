//! `report sla`: agreements kept or breached, and what is sent to a vendor in a dispute.

use super::incident::{outage_table, timeline};
use super::{Head, length, percent, percent_text};
use crate::render::chart::{BurnDown, Chart, Period, Plot, Point};
use crate::render::{Block, Cell, Figure, Output, Tone};
use crate::report::{Agreed, PeriodFigures};
use crate::stats::sla::Verdict;
use crate::stats::window::zone;
use crate::view::human::{or_dash, table};

/// The report in every form.
#[must_use]
pub fn output(head: Head, all: Vec<Agreed>) -> Output {
    let mut rows = Vec::new();
    for one in &all {
        for period in &one.periods {
            let judgement = &period.judgement;
            rows.push(vec![
                Cell::plain(&one.server),
                Cell::plain(span(one, period)),
                verdict(judgement.verdict, judgement.running),
                percent(judgement.availability),
                or_dash(judgement.objective.map(|objective| objective.to_string()).as_deref()),
                percent(judgement.coverage),
                Cell::plain(length(judgement.spent_ms)),
                or_dash(judgement.budget_ms.map(length).as_deref()),
                match judgement.remaining_ms {
                    Some(ms) if ms < 0 => Cell::toned(length(ms), Tone::Bad),
                    Some(ms) => Cell::plain(length(ms)),
                    None => Cell::toned("-", Tone::Dim),
                },
                or_dash(judgement.burn_rate.map(|rate| format!("{rate:.2}")).as_deref()),
                or_dash(judgement.credit_due.map(|credit| credit.to_string()).as_deref()),
            ]);
        }
    }
    let summary = table(
        &[
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
        ],
        rows,
    );
    let mut blocks = Vec::new();
    if all.is_empty() {
        blocks.push(Block::text("Nothing was agreed about these servers: none has an sla."));
    } else {
        blocks.push(Block::Table(summary.clone()));
        blocks.push(Block::Blank);
    }
    for one in &all {
        for period in &one.periods {
            let title = format!("{}, {}", one.server, span(one, period));
            blocks.push(Block::section(title, told(&head, one, period)));
        }
    }
    head.output("Service level agreements", all, summary, blocks)
}

/// One server's agreement with all evidence, and nothing of ours: no path, no other server.
#[must_use]
pub fn for_vendor(mut head: Head, one: &Agreed) -> Output {
    head.inventory = String::new();
    head.history = String::new();
    head.notes = Vec::new();
    let title = format!("Service level of {}", one.server);
    let mut blocks = vec![agreement(one)];
    for period in &one.periods {
        let mut inner = told(&head, one, period);
        inner.push(excluded(period));
        inner.push(evidence(&head, period));
        blocks.push(Block::section(span(one, period), inner));
    }
    let outages: Vec<_> =
        one.periods.iter().flat_map(|period| period.incidents.iter().cloned()).collect();
    let rows = outage_table(&head, &outages);
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
            note: judgement.coverage.map_or_else(String::new, |coverage| {
                format!("coverage {}", percent_text(coverage))
            }),
        },
    ];
    if let (Some(budget), Some(left)) = (judgement.budget_ms, judgement.remaining_ms) {
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
        let measured =
            latency.measured_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms"));
        blocks.push(Block::text(format!(
            "{}: {measured}, agreed {:.0} ms",
            latency.percentile, latency.limit_ms
        )));
    }
    blocks.push(Block::text(format!(
        "{} readings were expected, {} taken, {} are missing.",
        period.readings.expected, period.readings.taken, period.readings.missing
    )));
    if let Some(chart) = burn_down(one, period) {
        blocks.push(Block::chart(chart));
    }
    if !period.incidents.is_empty() {
        let server = [one.server.as_str()];
        let mut own = timeline(head, &server, &period.incidents);
        own.title = "Outages that count".to_owned();
        blocks.push(Block::chart(own));
        blocks.push(Block::Table(outage_table(head, &period.incidents)));
    }
    if !judgement.steps.is_empty() {
        let rows = judgement.steps.iter().map(|step| {
            vec![
                Cell::plain(&step.exclusion),
                percent(step.availability_before),
                percent(step.availability_after),
                Cell::plain(length(step.down_before_ms)),
                Cell::plain(length(step.down_after_ms)),
            ]
        });
        blocks.push(Block::Table(table(
            &["exclusion", "before", "after", "down before", "down after"],
            rows.collect(),
        )));
    }
    blocks
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
    if terms.least_outage_ms > 0 {
        let ms = i64::try_from(terms.least_outage_ms).unwrap_or(i64::MAX);
        facts.push(("least outage".into(), Cell::plain(length(ms))));
    }
    Block::section("What was agreed", vec![Block::Facts(facts)])
}

/// Planned work, and who entered it when.
fn excluded(period: &PeriodFigures) -> Block {
    if period.planned.is_empty() {
        return Block::text("No planned work was entered.");
    }
    let rows = period.planned.iter().map(|window| {
        let text = |at: Option<jiff::Timestamp>| at.map(|at| at.to_string());
        vec![
            or_dash(text(window.from).as_deref()),
            or_dash(text(window.until).as_deref()),
            or_dash(window.reason.as_deref()),
            match window.entered {
                Some(at) => Cell::toned(format!("afterwards, {at}"), Tone::Warning),
                None => Cell::plain("not marked as later"),
            },
        ]
    });
    Block::section(
        "Planned work",
        vec![Block::Table(table(&["from", "until", "reason", "entered"], rows.collect()))],
    )
}

fn evidence(head: &Head, period: &PeriodFigures) -> Block {
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
    Block::section(
        "Evidence",
        vec![Block::Table(table(
            &["outage", "", "at", "reason", "HTTP", "our request id", "your request id", "address"],
            rows,
        ))],
    )
}

fn burn_down(one: &Agreed, period: &PeriodFigures) -> Option<Chart> {
    let budget = period.judgement.budget_ms.filter(|budget| *budget > 0)?;
    let left = |spent: i64| 1.0 - spent as f64 / budget as f64;
    let start = Point { at_ms: period.from.as_millisecond(), value: Some(1.0) };
    let points = period.burned.iter().map(|burned| Point {
        at_ms: burned.at.as_millisecond(),
        value: Some(left(burned.spent_ms)),
    });
    let rows = period.burned.iter().map(|burned| {
        vec![
            Cell::plain(burned.at.to_string()),
            Cell::plain(length(burned.spent_ms)),
            Cell::plain(length(budget - burned.spent_ms)),
        ]
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
