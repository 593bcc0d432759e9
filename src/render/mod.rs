//! From one [`Output`] to the bytes of a format.
//!
//! Enters: what a view made. Leaves: text for standard output, with everything escaped for the
//! one who reads it. Called by app alone; nothing here computes.

mod csv;
mod json;
mod junit;
mod markdown;
mod nagios;
mod openmetrics;
mod output;
mod table;

pub use output::{Block, Cell, CheckRun, Output, Row, Table, Tone};

use crate::model::{Error, Result};

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
}

/// How the human formats are drawn.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub color: bool,
    /// Columns of the terminal; `None` when it is none: then nothing is cut or wrapped.
    pub width: Option<u16>,
}

/// Writes an output in a format.
///
/// # Errors
/// A usage error when this output cannot be said in that format.
pub fn render(output: &Output, format: Format, style: Style) -> Result<String> {
    let _ = style;
    match format {
        Format::Json => serde_json::to_string_pretty(&output.json)
            .map_err(|error| Error::internal(error.to_string())),
        _ => Err(Error::usage("this format does not fit this command")),
    }
}
