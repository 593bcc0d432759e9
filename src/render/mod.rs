//! From one [`Output`] to the bytes of a format.
//!
//! Enters: what a view made. Leaves: text for standard output, with everything escaped for the
//! one who reads it. Called by app, and by commands that write a result to a file; nothing here
//! computes a verdict.

pub mod chart;
mod csv;
mod html;
mod ics;
pub mod json;
mod junit;
mod layout;
mod markdown;
pub mod nagios;
mod openmetrics;
mod output;
mod table;

use std::io::Write as _;

use clap::ValueEnum as _;

pub use output::{
    Block, Calendar, Case, Cell, CheckRun, Event, Figure, Output, Page, Row, Section, Suite,
    Suites, Table, Tone, Typed,
};

use crate::model::error::io_reason;
use crate::model::{Error, ErrorKind, Result};

/// The formats of `-o`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Format {
    Table,
    Json,
    Ndjson,
    Yaml,
    Csv,
    Markdown,
    Junit,
    Nagios,
    Openmetrics,
    /// A calendar, for expiring
    Ics,
    /// A page, for report
    Html,
}

/// How the human formats are drawn.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub color: bool,
    /// Columns of the terminal; `None` when it is none: then nothing is cut or wrapped.
    pub width: Option<u16>,
}

impl Format {
    /// Formats in which every command speaks.
    pub const COMMON: &'static [Format] =
        &[Format::Table, Format::Json, Format::Ndjson, Format::Yaml];
    /// Formats of a command whose result has rows.
    pub const ROWS: &'static [Format] =
        &[Format::Table, Format::Json, Format::Ndjson, Format::Yaml, Format::Csv, Format::Markdown];

    /// The name as it is written after `-o`.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether errors are told as JSON beside this format.
    #[must_use]
    pub fn is_structured(self) -> bool {
        matches!(self, Format::Json | Format::Ndjson | Format::Yaml)
    }

    /// Refuses a format that is not among the fitting ones. A command whose work takes time asks
    /// this before it starts.
    ///
    /// # Errors
    /// A usage error that names the formats that fit.
    pub fn among(self, fitting: &[Format]) -> Result<()> {
        if fitting.contains(&self) {
            return Ok(());
        }
        let names: Vec<String> = fitting.iter().map(|format| format.name()).collect();
        Err(Error::usage(format!("this command has no output as {}", self.name()))
            .hint(format!("formats that fit: {}", names.join(", "))))
    }
}

impl Output {
    /// The formats in which this output can be said.
    #[must_use]
    pub fn formats(&self) -> Vec<Format> {
        let mut formats =
            if self.rows.is_some() { Format::ROWS.to_vec() } else { Format::COMMON.to_vec() };
        if let Some(run) = &self.checks {
            formats.push(Format::Junit);
            if run.command == "check" {
                formats.extend([Format::Nagios, Format::Openmetrics]);
            }
        }
        if self.suites.is_some() {
            formats.push(Format::Junit);
        }
        if self.calendar.is_some() {
            formats.push(Format::Ics);
        }
        if self.page.is_some() {
            formats.push(Format::Html);
        }
        formats
    }
}

/// Writes an output in a format; the text ends with a newline unless it is empty.
///
/// # Errors
/// A usage error when this output cannot be said in that format.
pub fn render(output: &Output, format: Format, style: Style) -> Result<String> {
    format.among(&output.formats())?;
    match (format, &output.rows, &output.checks) {
        (Format::Json, ..) => match &output.typed {
            Some(typed) => typed.json(),
            None => json::pretty(&output.json),
        },
        (Format::Ndjson, ..) => match (&output.typed, &output.lines) {
            (Some(typed), _) => typed.ndjson(),
            (None, Some(lines)) => json::lines(lines),
            (None, None) => json::lines([&output.json]),
        },
        (Format::Yaml, ..) => match &output.typed {
            Some(typed) => typed.yaml(),
            None => json::yaml(&output.json),
        },
        (Format::Csv, Some(rows), _) => csv::render(rows),
        (Format::Markdown, ..) if let Some(blocks) = &output.ticket => {
            Ok(markdown::document(blocks))
        }
        (Format::Markdown, Some(rows), _) => Ok(markdown::render(rows)),
        (Format::Junit, _, Some(run)) => junit::render(run),
        (Format::Junit, ..) if let Some(suites) = &output.suites => Ok(junit::suites(suites)),
        (Format::Ics, ..) if let Some(calendar) = &output.calendar => Ok(ics::render(calendar)),
        (Format::Html, ..) if let Some(page) = &output.page => Ok(html::render(page)),
        (Format::Nagios, _, Some(run)) => Ok(nagios::render(run)),
        (Format::Openmetrics, _, Some(run)) => Ok(openmetrics::render(run)),
        _ => Ok(table::render(&output.document, style)),
    }
}

/// Writes to standard output; `false` when the reader has seen enough, which is no error.
///
/// # Errors
/// Exit 74 when it cannot be written.
pub fn write(text: &str) -> Result<bool> {
    write_bytes(text.as_bytes())
}

/// The same for what need not be text.
///
/// # Errors
/// As [`write()`].
pub fn write_bytes(bytes: &[u8]) -> Result<bool> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::new(
            ErrorKind::Io,
            format!("cannot write to standard output: {}", io_reason(&error)),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_that_does_not_fit_is_a_usage_error_that_names_those_that_do() {
        let style = Style { color: false, width: None };
        let error = render(&Output::default(), Format::Csv, style).unwrap_err();
        assert_eq!(error.exit(), crate::model::Exit::USAGE);
        assert_eq!(error.hints, ["formats that fit: table, json, ndjson, yaml"]);
    }

    #[test]
    fn a_page_is_written_where_there_is_one_and_refused_elsewhere() {
        let style = Style { color: false, width: None };
        let page = Page {
            title: "A & B".to_owned(),
            subtitle: String::new(),
            generated_at: jiff::Timestamp::UNIX_EPOCH,
            zone: jiff::tz::TimeZone::UTC,
            language: "en".to_owned(),
            blocks: vec![Block::text("all is well")],
        };
        let output = Output { page: Some(page), ..Output::default() };
        let text = render(&output, Format::Html, style).unwrap();
        assert!(
            text.starts_with("<!DOCTYPE html><html lang=\"en\">") && text.ends_with("</html>\n")
        );
        assert!(text.contains("<title>A &amp; B</title>") && text.contains("<p>all is well</p>"));
        let error = render(&Output::default(), Format::Html, style).unwrap_err();
        assert_eq!(error.exit(), crate::model::Exit::USAGE);
    }
}
