//! What `report` shows: one file a kind, all with the same head and foot.

pub mod availability;
pub mod capacity;
pub mod errors;
pub mod incident;
pub mod performance;
pub mod security;
pub mod sla;
pub mod summary;
pub mod trends;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::human::{clock, or_dash, table};
use crate::model::Exit;
use crate::render::{Block, Cell, Output, Page, Row, Table, Tone};
use crate::report::{Checked, FORMULA, instant};
use crate::stats::span::Span;

/// What every report says of itself.
pub struct Head {
    pub kind: &'static str,
    pub generated_at: Timestamp,
    pub inventory: String,
    pub history: String,
    pub window: Span,
    pub zone: TimeZone,
    pub notes: Vec<String>,
}

/// A report's document; `T` is what is told of each server, outage or line.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReportDocument<T> {
    /// `fhirctl/report/v1`
    pub schema: &'static str,
    pub fhirctl_version: &'static str,
    /// `summary`, `availability`, `performance`, `errors`, `sla`, `trends`, `capacity`, `security` or
    /// `incident`.
    pub kind: &'static str,
    pub generated_at: Timestamp,
    pub inventory: String,
    /// Where the history is, without a credential.
    pub history: String,
    pub window: WindowFigures,
    /// The rules that the figures follow, a sentence each.
    pub formula: &'static [&'static str],
    pub notes: Vec<String>,
    pub servers: Vec<T>,
}

/// `[from, to)`
#[derive(Debug, Serialize, JsonSchema)]
pub struct WindowFigures {
    pub from: Timestamp,
    pub to: Timestamp,
    pub time_zone: String,
}

impl Head {
    fn document<T>(&self, servers: Vec<T>) -> ReportDocument<T> {
        ReportDocument {
            schema: "fhirctl/report/v1",
            fhirctl_version: super::FHIRCTL_VERSION,
            kind: self.kind,
            generated_at: self.generated_at,
            inventory: self.inventory.clone(),
            history: self.history.clone(),
            window: WindowFigures {
                from: instant(self.window.from),
                to: instant(self.window.to),
                time_zone: zone_name(&self.zone),
            },
            formula: FORMULA,
            notes: self.notes.clone(),
            servers,
        }
    }

    /// The window as a person reads it: days where it begins and ends with one.
    pub fn span(&self) -> String {
        let begin = instant(self.window.from).to_zoned(self.zone.clone());
        let end = instant(self.window.to).to_zoned(self.zone.clone());
        let midnight = jiff::civil::Time::midnight();
        if begin.time() == midnight && end.time() == midnight {
            let last = end.date().yesterday().unwrap_or(end.date());
            if begin.date() == last {
                return last.strftime("%-d %B %Y").to_string();
            }
            return format!(
                "{} to {}",
                begin.date().strftime("%-d %B %Y"),
                last.strftime("%-d %B %Y")
            );
        }
        format!("{} to {}", begin.strftime("%-d %B %Y %H:%M"), end.strftime("%-d %B %Y %H:%M"))
    }

    /// An instant by the report's clock.
    pub fn clock(&self, at: Timestamp) -> String {
        clock(at, &self.zone)
    }

    /// The same as a cell; a program reads UTC.
    fn at(&self, at: Timestamp) -> Cell {
        Cell::plain(self.clock(at)).with_data(at)
    }

    fn period(&self) -> crate::render::chart::Period {
        crate::render::chart::Period {
            from_ms: self.window.from,
            until_ms: self.window.to,
            zone: self.zone.clone(),
        }
    }

    /// One report in every form: its document, its rows for programs, its page.
    fn output<T: Serialize>(
        self,
        title: &str,
        servers: Vec<T>,
        rows: Table,
        mut blocks: Vec<Block>,
    ) -> Output {
        let subtitle = format!("{} ({})", self.span(), zone_name(&self.zone));
        for note in &self.notes {
            blocks.push(Block::Text(vec![Cell::toned(note.clone(), Tone::Dim)]));
        }
        let mut document = vec![
            Block::Heading(title.to_owned()),
            Block::Text(vec![Cell::toned(&subtitle, Tone::Dim)]),
        ];
        document.push(Block::Blank);
        document.extend(blocks.iter().cloned());
        let reckoned = Block::section("How it is reckoned", formula());
        let mut ticket = document.clone();
        ticket.push(reckoned.clone());
        blocks.push(reckoned);
        let page = Page {
            title: title.to_owned(),
            subtitle,
            generated_at: self.generated_at,
            zone: self.zone.clone(),
            language: "en".to_owned(),
            blocks,
        };
        let document_value = serde_json::to_value(self.document(servers)).unwrap_or_default();
        Output {
            json: document_value,
            rows: Some(rows),
            ticket: Some(ticket),
            document,
            page: Some(page),
            ..Output::default()
        }
    }
}

/// The rules, a line each.
fn formula() -> Vec<Block> {
    FORMULA.iter().map(|line| Block::text(*line)).collect()
}

/// A share as a percentage with three decimals, or a dash; a program reads it from 0 to 1.
fn percent(share: Option<f64>) -> Cell {
    match share {
        // Rounded down: 99.9996 % is no 100 %.
        Some(share) => Cell::plain(percent_text(share)).with_data(share),
        None => Cell::nothing(),
    }
}

fn percent_text(share: f64) -> String {
    format!("{:.3} %", (share * 100_000.0).floor() / 1000.0)
}

fn zone_name(zone: &TimeZone) -> String {
    zone.iana_name().map_or_else(|| "UTC".to_owned(), str::to_owned)
}

/// The look at a proof.
#[must_use]
pub fn verified(file: &str, checked: &Checked, exit: Exit) -> Output {
    let mut rows: Vec<Row> = Vec::new();
    for server in &checked.servers {
        rows.push(vec![
            Cell::plain(&server.name),
            match server.verified {
                true => Cell::toned("verified", Tone::Good),
                false => Cell::toned("does not verify", Tone::Bad),
            },
            server.readings.to_string().into(),
            percent(server.availability),
            percent(server.coverage),
        ]);
    }
    let table = table(&["server", "result", "readings", "availability", "coverage"], rows);
    let verdict = match checked.problems.is_empty() {
        true => Cell::toned("verifies", Tone::Good),
        false => Cell::toned("does not verify", Tone::Bad),
    };
    let mut document = vec![
        Block::Text(vec![Cell::plain(format!("{file} ")), verdict, Cell::plain(".")]),
        Block::Blank,
        Block::Table(table.clone()),
    ];
    let periods = settled(checked);
    if !periods.rows.is_empty() {
        document.extend([Block::Blank, Block::Table(periods)]);
    }
    for problem in &checked.problems {
        document.push(Block::text(problem));
    }
    let json: Value = json!({
        "schema": "fhirctl/report-verify/v1",
        "fhirctl_version": super::FHIRCTL_VERSION,
        "file": file,
        "verified": checked.problems.is_empty(),
        "exit_code": exit.0,
        "from": checked.from,
        "to": checked.to,
        "servers": checked.servers,
        "problems": checked.problems,
    });
    Output { json, rows: Some(table), document, ..Output::default() }
}

/// The agreements' periods of a proof.
fn settled(checked: &Checked) -> Table {
    let periods = checked
        .servers
        .iter()
        .flat_map(|server| server.periods.iter().map(move |period| (server, period)));
    let rows = periods.map(|(server, period)| {
        vec![
            Cell::plain(&server.name),
            Cell::plain(period.from.to_string()),
            Cell::plain(period.to.to_string()),
            sla::verdict(period.verdict, period.running),
            percent(period.availability),
            or_dash(period.objective.map(|objective| objective.to_string()).as_deref()),
            percent(period.coverage),
            or_dash(period.credit_due.map(|credit| credit.to_string()).as_deref()),
        ]
    });
    let head =
        ["server", "from", "to", "verdict", "availability", "objective", "coverage", "credit"];
    table(&head, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_rounded_up() {
        assert_eq!(percent_text(0.999_999_9), "99.999 %");
        assert_eq!(percent_text(1.0), "100.000 %");
    }
}
