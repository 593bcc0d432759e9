//! What `run` shows: what a job came to beside the result of its work, and the list of jobs.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::human::{duration, facts, or_dash, table};
use crate::bulk::runs::Book;
use crate::model::Exit;
use crate::model::job::{Job, Verdict};
use crate::render::{Block, Cell, Output, Row, Tone};

/// Counts were not as expected, and somebody took them all the same.
pub const ACCEPTED: &str = "accepted";
/// Counts are not as expected.
pub const UNEXPECTED: &str = "unexpected";

/// A run's end in one word, from its exit code.
#[must_use]
pub fn verdict(exit: Exit) -> &'static str {
    match exit {
        Exit::OK => "complete",
        Exit::DATA => "bad_data",
        Exit::RESUMABLE | Exit::INTERRUPTED | Exit::TERMINATED => "stopped",
        _ => "failed",
    }
}

/// A count held against what is expected of it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The resource type.
    pub name: String,
    pub count: u64,
    pub last_count: Option<u64>,
    pub expectation: String,
    pub verdict: Verdict,
}

/// The end of a run.
#[derive(Debug)]
pub struct Shown<'a> {
    pub job: &'a Job,
    pub places: &'a [String],
    pub begun_at: Timestamp,
    pub ended_at: Timestamp,
    pub due_at: Option<Timestamp>,
    /// Whether it went on with what another process had begun.
    pub went_on: bool,
    /// `None` where there is nothing complete to judge.
    pub expectations: Option<Vec<Judged>>,
    pub accepted: Option<bool>,
    pub verdict: &'a str,
    pub exit: Exit,
    /// What the work itself has to show; `None` when only counts were accepted.
    pub result: Option<Output>,
}

impl Shown<'_> {
    #[must_use]
    pub fn output(self) -> Output {
        let late_ms = self
            .due_at
            .map(|due| self.ended_at.duration_since(due).as_millis())
            .filter(|late| *late > 0);
        let judged: Option<Vec<Value>> = self.expectations.as_ref().map(|all| {
            let one = |it: &Judged| {
                json!({
                    "type": it.name,
                    "count": it.count,
                    "last_count": it.last_count,
                    "expectation": it.expectation,
                    "verdict": it.verdict.as_str(),
                })
            };
            all.iter().map(one).collect()
        });
        let is_unexpected =
            self.expectations.iter().flatten().any(|it| it.verdict == Verdict::Unexpected);
        let json = json!({
            "schema": "fhirctl/run/v1",
            "fhirctl_version": super::FHIRCTL_VERSION,
            "job": self.job.name,
            "kind": self.job.work.kind(),
            "server": self.job.work.server(),
            "places": self.places,
            "begun_at": self.begun_at,
            "ended_at": self.ended_at,
            "went_on": self.went_on,
            "deadline": self.due_at.map(|due| json!({
                "written": self.job.deadline.map(|it| it.to_string()),
                "due_at": due,
            })),
            "late": late_ms.is_some(),
            "late_ms": late_ms.map(|late| u64::try_from(late).unwrap_or(u64::MAX)),
            "expectations": judged,
            "accepted": self.accepted,
            "verdict": self.verdict,
            "code": is_unexpected.then_some("bulk.count_unexpected"),
            "exit_code": self.exit.0,
            "result": self.result.as_ref().map(|result| result.json.clone()),
        });
        let mut document = Vec::new();
        let mut rows = None;
        if let Some(result) = self.result {
            document.extend(result.document);
            document.push(Block::Blank);
            rows = result.rows;
        }
        document.push(Block::Heading(format!("Job {}", self.job.name)));
        let late = late_ms
            .map(|late| Cell::toned(format!("late by {}", duration(late as f64)), Tone::Bad));
        document.push(facts([
            ("verdict", Some(word(self.verdict))),
            ("begun", Some(Cell::plain(second(self.begun_at)))),
            ("deadline", self.due_at.map(|due| Cell::plain(second(due)))),
            ("", late),
        ]));
        let expected = self.expectations.filter(|all| !all.is_empty());
        if let Some(all) = expected {
            let expected = table(
                &["type", "count", "last", "expectation", "verdict"],
                all.iter().map(row).collect(),
            );
            document.extend([Block::Blank, Block::Table(expected.clone())]);
            rows = rows.or(Some(expected));
        }
        if self.accepted == Some(false) {
            document.push(Block::Blank);
            document.push(Block::text(format!(
                "Counts are not as expected (bulk.count_unexpected): this run is held, and the next ones \
                 are not compared with it. fhirctl run {} --accept takes it as right.",
                self.job.name
            )));
        }
        let rows = rows.or_else(|| Some(table(&["type", "count"], Vec::new())));
        Output { json, document, rows, ..Output::default() }
    }
}

fn row(judged: &Judged) -> Row {
    let verdict = match judged.verdict {
        Verdict::AsExpected => Cell::toned("as expected", Tone::Good),
        Verdict::Unexpected => Cell::toned("UNEXPECTED", Tone::Bad),
        Verdict::NoComparison => Cell::toned("nothing to compare with yet", Tone::Dim),
    };
    vec![
        Cell::plain(&judged.name),
        judged.count.to_string().into(),
        or_dash(judged.last_count.map(|count| count.to_string()).as_deref()),
        Cell::plain(&judged.expectation),
        verdict,
    ]
}

fn word(verdict: &str) -> Cell {
    let tone = match verdict {
        "complete" | ACCEPTED => Tone::Good,
        "stopped" => Tone::Warning,
        _ => Tone::Bad,
    };
    Cell::toned(verdict.replace('_', " "), tone)
}

fn second(at: Timestamp) -> String {
    at.strftime("%FT%TZ").to_string()
}

/// A job with what is known of its runs.
#[derive(Debug)]
pub struct Line<'a> {
    pub job: &'a Job,
    /// `None` before its first run.
    pub book: Option<Book>,
    pub is_running: bool,
}

impl Line<'_> {
    fn json(&self) -> Value {
        let ended = self.book.as_ref().and_then(|book| book.ended.as_ref());
        let pending = self.book.as_ref().and_then(|book| book.pending.as_ref());
        json!({
            "name": self.job.name,
            "kind": self.job.work.kind(),
            "server": self.job.work.server(),
            "place": self.job.work.place(),
            "deadline": self.job.deadline.map(|it| it.to_string()),
            "running": self.is_running,
            "pending": pending,
            "last_run": ended,
        })
    }

    fn row(&self) -> Row {
        let ended = self.book.as_ref().and_then(|book| book.ended.as_ref());
        let pending = self.book.as_ref().is_some_and(|book| book.pending.is_some());
        let verdict = match ended {
            _ if self.is_running => Cell::toned("running", Tone::Strong),
            Some(ended) if ended.late => {
                Cell::toned(format!("{}, late", ended.verdict.replace('_', " ")), Tone::Bad)
            }
            Some(ended) => word(&ended.verdict),
            // Killed before it could say anything.
            None if pending => word("stopped"),
            None => Cell::nothing(),
        };
        vec![
            Cell::toned(&self.job.name, Tone::Strong),
            Cell::plain(self.job.work.kind()),
            Cell::plain(self.job.work.server()),
            Cell::plain(self.job.work.place()),
            or_dash(self.job.deadline.map(|it| it.to_string()).as_deref()),
            or_dash(ended.map(|ended| second(ended.ended_at)).as_deref()),
            verdict,
        ]
    }
}

/// The jobs of an inventory.
#[must_use]
pub fn list(inventory: &Path, lines: &[Line<'_>]) -> Output {
    let items: Vec<Value> = lines.iter().map(Line::json).collect();
    let head = ["job", "what", "server", "place", "deadline", "last run", "verdict"];
    let table = table(&head, lines.iter().map(Line::row).collect());
    let document = match lines.is_empty() {
        true => vec![Block::text(format!(
            "{} defines no job; they stand under jobs: in it.",
            inventory.display()
        ))],
        false => vec![Block::Table(table.clone())],
    };
    let ndjson = items.iter().map(|item| {
        let mut line = json!({ "schema": "fhirctl/run-job/v1" });
        if let (Some(line), Some(item)) = (line.as_object_mut(), item.as_object()) {
            line.extend(item.clone());
        }
        line
    });
    Output {
        lines: Some(ndjson.collect()),
        json: json!({
            "schema": "fhirctl/run-list/v1",
            "inventory": inventory,
            "jobs": items,
        }),
        document,
        rows: Some(table),
        ..Output::default()
    }
}
