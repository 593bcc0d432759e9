//! Gauges out of a table in CSV, as `history export --gauges` prints it.

use std::io::Read;

use jiff::Timestamp;

use super::table::{AT, Names, SERVER, instant, no_time, place, wrong};
use crate::history::Gauge;
use crate::model::{Error, ErrorKind, Result};

/// Reads CSV with a head, row by row. Columns by name, in any order: `at` (or `time`, `timestamp`:
/// RFC 3339, or seconds since the epoch), `gauge`, `value`, and where they are there `server` and
/// `limit`. A gauge has one of the names that there are.
///
/// # Errors
/// Exit 65 for a head that lacks a column. Each row is one too when it cannot be read or was taken at
/// no time that can be meant, with its line.
pub fn gauges_csv<R: Read>(
    input: R,
    server: Option<&str>,
    now: Timestamp,
    is_name: impl Fn(&str) -> bool,
) -> Result<impl Iterator<Item = Result<Gauge>>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
    let head = reader.headers().map_err(|error| wrong(1, &error.to_string()))?.clone();
    let columns = Columns::of(&head, server.is_some())?;
    let server = server.map(str::to_owned);
    let mut record = csv::StringRecord::new();
    let mut names = Names::default();
    Ok(std::iter::from_fn(move || {
        let line = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(true) => {
                let row = columns.row(&record, server.as_deref(), &mut names);
                let row = row.and_then(|gauge| match no_time(gauge.at, now) {
                    Some(why) => Err(format!("{} is {why}", gauge.at)),
                    None if is_name(&gauge.name) => Ok(gauge),
                    None => Err(format!("\"{}\" is no gauge", gauge.name.escape_debug())),
                });
                Some(row.map_err(|why| wrong(line, &why)))
            }
            Ok(false) => None,
            Err(error) => Some(Err(wrong(line, &error.to_string()))),
        }
    }))
}

struct Columns {
    at: usize,
    gauge: usize,
    value: usize,
    server: Option<usize>,
    limit: Option<usize>,
}

impl Columns {
    fn of(head: &csv::StringRecord, is_about_one: bool) -> Result<Columns> {
        let lacks = |what: &str| {
            let why = format!("the head names no column {what}; nothing was imported");
            Error::new(ErrorKind::Data, why)
                .hint("columns of gauges: at, gauge, value, and where they are there server, limit")
        };
        let columns = Columns {
            at: place(head, AT)?.ok_or_else(|| lacks("at"))?,
            gauge: place(head, &["gauge"])?.ok_or_else(|| lacks("gauge"))?,
            value: place(head, &["value"])?.ok_or_else(|| lacks("value"))?,
            server: place(head, SERVER)?,
            limit: place(head, &["limit"])?,
        };
        if columns.server.is_none() && !is_about_one {
            return Err(lacks("server").hint("or name the server: --server NAME"));
        }
        Ok(columns)
    }

    fn row(
        &self,
        record: &csv::StringRecord,
        server: Option<&str>,
        names: &mut Names,
    ) -> Result<Gauge, String> {
        let text = |at: usize| record.get(at).filter(|text| !text.is_empty());
        let number = |text: &str| {
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            number.ok_or_else(|| format!("\"{}\" is no number", text.escape_debug()))
        };
        let at = text(self.at).ok_or("there is no time")?;
        let server = self.server.and_then(text).or(server).ok_or("there is no server")?;
        Ok(Gauge {
            server: names.name(server),
            name: names.name(text(self.gauge).ok_or("there is no gauge")?),
            at: instant(at).ok_or_else(|| format!("\"{}\" is no time", at.escape_debug()))?,
            value: Some(number(text(self.value).ok_or("there is no value")?)?),
            limit: self.limit.and_then(text).map(number).transpose()?,
        })
    }
}
