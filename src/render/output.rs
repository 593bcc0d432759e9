//! What a view hands to the renderers.

use std::fmt::Debug;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::chart::Chart;
use crate::model::{Result, ServerReport, State, Status};

/// Everything that a command has to say on standard output, in every form it can be said.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// The object of `-o json` and `-o yaml`; it carries its own `schema`.
    pub json: Value,
    /// One object a line for `-o ndjson`; `None`: the whole of `json` on one line.
    pub lines: Option<Vec<Value>>,
    /// Stands for `json` and `lines` where the object is too large to be held a second time.
    pub typed: Option<Arc<dyn Typed>>,
    /// What a person reads, top to bottom.
    pub document: Vec<Block>,
    /// What `-o markdown` says where more than rows is to be told, such as a ticket.
    pub ticket: Option<Vec<Block>>,
    /// The rows of `-o csv`, and of `-o markdown` without a ticket; `None`: this output has no rows.
    pub rows: Option<Table>,
    /// Present for `check` and `test`: what `junit`, `nagios` and `openmetrics` are made of.
    pub checks: Option<Arc<CheckRun>>,
    /// What `junit` is made of where there is no run of checks.
    pub suites: Option<Suites>,
    /// The entries of `-o ics`; `None`: nothing here has a date.
    pub calendar: Option<Calendar>,
    /// What `-o html` says; `None`: this output has no page.
    pub page: Option<Page>,
}

/// A page that stands alone, for readers who have no `fhirctl`.
#[derive(Clone, Debug)]
pub struct Page {
    pub title: String,
    /// One line below the title, such as what it is about and from when until when.
    pub subtitle: String,
    pub generated_at: jiff::Timestamp,
    /// By whose clock it is told when it was made.
    pub zone: TimeZone,
    /// Of its words, such as `en`.
    pub language: String,
    /// Its sections make the table of contents.
    pub blocks: Vec<Block>,
}

/// Cases by suite, for build servers.
#[derive(Clone, Debug, Default)]
pub struct Suites {
    /// Such as `fhirctl lint`.
    pub name: String,
    pub suites: Vec<Suite>,
}

#[derive(Clone, Debug, Default)]
pub struct Suite {
    pub name: String,
    pub cases: Vec<Case>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Default)]
pub struct Case {
    pub name: String,
    /// What makes it fail, a line each; empty where it passed.
    pub failure: Vec<String>,
    /// Why nobody knows whether it passed, a line each.
    pub error: Vec<String>,
    /// Why it was not looked at.
    pub skipped: Option<String>,
    /// What else there is to say, a line each.
    pub notes: Vec<String>,
    /// How long it took; 0 where that was not measured.
    pub duration_ms: f64,
}

/// Days to remember.
#[derive(Clone, Debug)]
pub struct Calendar {
    /// When the calendar was made.
    pub made_at: jiff::Timestamp,
    pub events: Vec<Event>,
}

#[derive(Clone, Debug)]
pub struct Event {
    /// The same in every run for the same thing.
    pub uid: String,
    pub at: jiff::Timestamp,
    pub summary: String,
    pub description: String,
    /// How long before it somebody wants to be reminded, in days.
    pub remind_days: u32,
}

/// An object that writes itself from its own type, without a [`Value`] of the whole in between:
/// ten thousand servers would take more memory as values than as reports.
pub trait Typed: Debug + Send + Sync {
    /// # Errors
    /// When a value cannot be said in JSON, which is a fault of this program.
    fn json(&self) -> Result<String>;
    /// One object a line, each ended by a newline.
    ///
    /// # Errors
    /// As [`Typed::json`].
    fn ndjson(&self) -> Result<String>;
    /// # Errors
    /// As [`Typed::json`].
    fn yaml(&self) -> Result<String>;
}

/// A run of checks with its verdict.
#[derive(Clone, Debug)]
pub struct CheckRun {
    /// `check` or `test`.
    pub command: &'static str,
    /// The raw worst of the servers that count.
    pub status: Status,
    /// What the process returns.
    pub exit_code: u8,
    /// Whether a warning fails the gate (`--fail-on warning`, the default).
    pub warning_fails: bool,
    /// Whether servers in maintenance count.
    pub include_maintenance: bool,
    pub generated_at: jiff::Timestamp,
    pub duration_ms: f64,
    pub reports: Vec<ServerReport>,
}

impl CheckRun {
    /// Whether a server is in the verdict and the counts.
    #[must_use]
    pub fn counts(&self, report: &ServerReport) -> bool {
        (self.include_maintenance || report.state != State::Maintenance) && !report.was_left_out()
    }
}

/// One piece of a document for people.
#[derive(Clone, Debug)]
pub enum Block {
    Heading(String),
    /// One paragraph; wrapped to the terminal.
    Text(Row),
    /// Lines that are printed as they are, such as a command to copy.
    Verbatim(String),
    /// Names with their values, aligned.
    Facts(Vec<(String, Cell)>),
    Table(Table),
    /// Blocks set in by two columns.
    Indented(Vec<Block>),
    Section(Section),
    /// What counts most, large where there is room.
    Figures(Vec<Figure>),
    Chart(Box<Chart>),
    Blank,
}

impl Block {
    /// A plain paragraph.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Block {
        Block::Text(vec![Cell::plain(text)])
    }

    #[must_use]
    pub fn section(title: impl Into<String>, blocks: Vec<Block>) -> Block {
        Block::Section(Section { title: title.into(), blocks })
    }

    #[must_use]
    pub fn chart(chart: Chart) -> Block {
        Block::Chart(Box::new(chart))
    }
}

/// A part of a document with a name of its own.
#[derive(Clone, Debug, Default)]
pub struct Section {
    pub title: String,
    pub blocks: Vec<Block>,
}

/// A result that stands out.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    /// Such as `Availability`.
    pub label: String,
    /// Such as `99.912 %`.
    pub value: Cell,
    /// What it is held against, such as `objective 99.9 %`; may be empty.
    pub note: String,
}

/// A table with a head and rows of equal length.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub head: Vec<String>,
    pub rows: Vec<Row>,
}

pub type Row = Vec<Cell>;

/// A piece of text and how it is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    pub text: String,
    pub tone: Tone,
    /// The same for a program, where that is something else: a plain number, an instant of RFC 3339,
    /// empty for nothing.
    pub data: Option<String>,
}

/// What a piece of text means; the renderer picks the colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Plain,
    Strong,
    /// Less important than the rest.
    Dim,
    Good,
    Warning,
    Bad,
    Unknown,
}

impl Cell {
    #[must_use]
    pub fn plain(text: impl Into<String>) -> Cell {
        Cell::toned(text, Tone::Plain)
    }

    #[must_use]
    pub fn toned(text: impl Into<String>, tone: Tone) -> Cell {
        Cell { text: text.into(), tone, data: None }
    }

    /// A dash: there is nothing to say.
    #[must_use]
    pub fn nothing() -> Cell {
        Cell::toned("-", Tone::Dim).with_data("")
    }

    /// The same with what a program reads in its place.
    #[must_use]
    pub fn with_data(mut self, data: impl std::fmt::Display) -> Cell {
        self.data = Some(data.to_string());
        self
    }
}

impl From<Status> for Tone {
    fn from(status: Status) -> Tone {
        match status {
            Status::Healthy => Tone::Good,
            Status::Warning => Tone::Warning,
            Status::Critical => Tone::Bad,
            Status::Unknown => Tone::Unknown,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::plain(text)
    }
}
