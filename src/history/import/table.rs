//! A table in CSV, row by row.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use jiff::Timestamp;

use super::{Exported, Foreign, usual_code};
use crate::model::{Code, Error, ErrorKind, Party, Phases, Result, State, Status};

/// The check of rows that name none.
const CHECK: &str = "import";
/// The longest response time: eleven days, in microseconds.
const LONGEST_US: f64 = 1e12;
/// Most rows of a file whose rows are in no order: they are put in order in memory.
const MOST_UNORDERED: u64 = 5_000_000;

/// What a first look at a whole table found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    pub rows: u64,
    pub servers: BTreeSet<Arc<str>>,
    /// The rows of each server come in the order of time, so that a reading is whole when the next one
    /// begins.
    pub in_order: bool,
    /// Columns that are not read and that `history export` does not write.
    pub unread: Vec<String>,
}

/// Reads a table to its end and keeps nothing of it: that every row can be read is known before the
/// first is written.
///
/// # Errors
/// Exit 65 for a row that cannot be read or was taken at no time that can be meant, with its line, and
/// for too many rows that are in no order.
pub fn survey_csv(input: impl Read, server: Option<&str>, now: Timestamp) -> Result<Survey> {
    let mut survey = Survey { in_order: true, ..Survey::default() };
    let mut newest: HashMap<Arc<str>, Timestamp> = HashMap::default();
    let (unread, rows) = table(input, server)?;
    survey.unread = unread;
    for row in rows {
        let row = row?;
        survey.rows += 1;
        if let Some(why) = no_time(row.at, now) {
            // Behind the head.
            return Err(wrong(survey.rows + 1, &format!("{} is {why}", row.at)));
        }
        match newest.get_mut(&row.server) {
            Some(last) => {
                survey.in_order &= *last <= row.at;
                *last = row.at;
            }
            None => {
                newest.insert(row.server, row.at);
            }
        }
    }
    survey.servers = newest.into_keys().collect();
    if !survey.in_order && survey.rows > MOST_UNORDERED {
        let why = format!(
            "{} rows in no order of time are too many to put in order here; nothing was imported",
            survey.rows
        );
        return Err(Error::new(ErrorKind::Data, why).hint("sort the file by time"));
    }
    Ok(survey)
}

/// Why an instant is no time of a look; such a one would be rolled up hour by hour from there on.
pub(super) fn no_time(at: Timestamp, now: Timestamp) -> Option<&'static str> {
    /// 1990-01-01T00:00:00Z: nothing was watched over HTTP before.
    const EARLIEST_S: i64 = 631_152_000;
    const DAY_S: i64 = 86_400;
    if at.as_second() < EARLIEST_S {
        return Some("before 1990, when nothing was watched");
    }
    // Clocks differ.
    (at.as_second() > now.as_second() + DAY_S).then_some("in the future")
}

/// Reads CSV with a head, row by row. Columns by name, in any order: `at` (or `time`, `timestamp`:
/// RFC 3339, or seconds since the epoch), `status` (a status, or up/down, true/false, 1/0; `success`
/// too), and where they are there `server`, `check`, `code`, `party`, `duration_ms`,
/// `duration_seconds`, `http_status`. What `history export -o csv` writes is read as it is.
///
/// # Errors
/// Exit 65 for a head that lacks a column. Each row is one too when it cannot be read, with its line.
pub fn rows_csv<R: Read>(
    input: R,
    server: Option<&str>,
) -> Result<impl Iterator<Item = Result<Foreign>> + use<R>> {
    table(input, server).map(|(_, rows)| rows)
}

/// The columns that are not read, and the rows.
fn table<R: Read>(
    input: R,
    server: Option<&str>,
) -> Result<(Vec<String>, impl Iterator<Item = Result<Foreign>> + use<R>)> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::Headers)
        .buffer_capacity(1 << 18)
        .from_reader(input);
    let head = reader.headers().map_err(|error| wrong(1, &error.to_string()))?.clone();
    let columns = Columns::of(&head, server.is_some())?;
    let unread = unread(&head);
    let server = server.map(str::to_owned);
    let mut record = csv::StringRecord::new();
    let mut names = Names::default();
    let rows = std::iter::from_fn(move || {
        let line = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(true) => Some(
                columns
                    .row(&record, server.as_deref(), &mut names)
                    .map_err(|why| wrong(line, &why)),
            ),
            Ok(false) => None,
            Err(error) => Some(Err(wrong(line, &error.to_string()))),
        }
    });
    Ok((unread, rows))
}

pub(super) const AT: &[&str] = &["at", "time", "timestamp"];
pub(super) const SERVER: &[&str] = &["server", "name"];
/// Names of the columns that are read; those in one row say the same.
const COLUMNS: [&[&str]; 8] = [
    AT,
    &["status", "success", "up"],
    SERVER,
    &["check"],
    &["code"],
    &["party"],
    &["duration_ms", "response_ms", "duration_seconds", "duration"],
    &["http_status", "http"],
];
/// Columns of `history export` that no other table has.
const EXPORTED: [(&str, More); 10] = [
    ("state", More::State),
    ("counts", More::Counts),
    ("attempts", More::Attempts),
    ("dns_ms", More::Phase(|phases| &mut phases.dns_us)),
    ("connect_ms", More::Phase(|phases| &mut phases.connect_us)),
    ("tls_ms", More::Phase(|phases| &mut phases.tls_us)),
    ("first_byte_ms", More::Phase(|phases| &mut phases.first_byte_us)),
    ("transfer_ms", More::Phase(|phases| &mut phases.transfer_us)),
    ("wire_bytes", More::WireBytes),
    ("issue", More::Issue),
];
/// What comes in is of an import, whoever saw it first.
const ORIGIN: &str = "origin";

#[derive(Clone, Copy)]
enum More {
    State,
    Counts,
    Attempts,
    Phase(fn(&mut Phases) -> &mut Option<u64>),
    WireBytes,
    Issue,
}

fn unread(head: &csv::StringRecord) -> Vec<String> {
    let exported = || EXPORTED.iter().map(|(name, _)| name).chain([&ORIGIN]);
    let known = || COLUMNS.iter().copied().flatten().chain(exported());
    let is_known = |name: &&str| known().any(|known| known.eq_ignore_ascii_case(name));
    head.iter().filter(|name| !is_known(name)).map(str::to_owned).collect()
}

/// Names that come again and again, each kept once.
#[derive(Default)]
pub(super) struct Names(HashSet<Arc<str>>);

impl Names {
    /// A file with a new name in every row must not fill the memory.
    const MOST: usize = 100_000;

    pub fn name(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        if self.0.len() >= Names::MOST {
            self.0.clear();
        }
        let name: Arc<str> = text.into();
        self.0.insert(name.clone());
        name
    }
}

pub(super) fn wrong(line: u64, why: &str) -> Error {
    Error::new(ErrorKind::Data, format!("line {line}: {why}; nothing was imported"))
}

/// Where the column of one of these names is.
///
/// # Errors
/// Exit 65 when two of them are there.
pub(super) fn place(head: &csv::StringRecord, names: &[&str]) -> Result<Option<usize>> {
    let is_one = |name: &str| names.iter().any(|known| name.eq_ignore_ascii_case(known));
    let mut found = head.iter().enumerate().filter(|(_, name)| is_one(name));
    match (found.next(), found.next()) {
        (Some((_, one)), Some((_, other))) => {
            let why = format!(
                "the columns \"{}\" and \"{}\" say the same",
                one.escape_debug(),
                other.escape_debug()
            );
            Err(wrong(1, &why).hint("leave one of them out"))
        }
        (one, _) => Ok(one.map(|(at, _)| at)),
    }
}

struct Columns {
    at: usize,
    status: usize,
    server: Option<usize>,
    check: Option<usize>,
    code: Option<usize>,
    party: Option<usize>,
    /// And how many microseconds its unit has.
    duration: Option<(usize, f64)>,
    http_status: Option<usize>,
    exported: Vec<(usize, More)>,
}

impl Columns {
    fn of(head: &csv::StringRecord, is_about_one: bool) -> Result<Columns> {
        let lacks = |what: &str| {
            Error::new(ErrorKind::Data, format!("the head names no column {what}; nothing was imported"))
                .hint("columns: at, status, and where they are there server, check, code, party, duration_ms, http_status")
        };
        let [at, status, server, check, code, party, duration, http_status] =
            COLUMNS.map(|names| place(head, names));
        let unit = |at: usize| match head.get(at).map(|name| name.to_ascii_lowercase()) {
            Some(name) if name.ends_with("_ms") => (at, 1_000.0),
            _ => (at, 1_000_000.0),
        };
        let columns = Columns {
            at: at?.ok_or_else(|| lacks("at"))?,
            status: status?.ok_or_else(|| lacks("status"))?,
            server: server?,
            check: check?,
            code: code?,
            party: party?,
            duration: duration?.map(unit),
            http_status: http_status?,
            exported: EXPORTED
                .iter()
                .filter_map(|(name, more)| Some((place(head, &[name]).transpose()?, *more)))
                .map(|(at, more)| Ok((at?, more)))
                .collect::<Result<_>>()?,
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
    ) -> Result<Foreign, String> {
        let text = |at: Option<usize>| {
            at.and_then(|at| record.get(at)).map(str::trim).filter(|it| !it.is_empty())
        };
        let at = text(Some(self.at)).ok_or("there is no time")?;
        let status = text(Some(self.status)).ok_or("there is no status")?;
        let server = text(self.server).or(server).ok_or("there is no server")?;
        let status = status_of(status)
            .ok_or_else(|| format!("\"{}\" is no status", status.escape_debug()))?;
        let code = match text(self.code) {
            Some(code) => Some(
                Code::find(code)
                    .ok_or_else(|| format!("\"{}\" is no reason code", code.escape_debug()))?,
            ),
            None => usual_code(status),
        };
        let party = text(self.party)
            .map(|party| {
                Party::find(party)
                    .ok_or_else(|| format!("\"{}\" is no party", party.escape_debug()))
            })
            .transpose()?;
        let duration_us = match (text(self.duration.map(|(at, _)| at)), self.duration) {
            (Some(text), Some((_, unit))) => microseconds(text, unit)?,
            _ => 0,
        };
        let http_status = text(self.http_status)
            .map(|text| {
                text.parse().map_err(|_| format!("\"{}\" is no HTTP status", text.escape_debug()))
            })
            .transpose()?;
        let check = text(self.check).unwrap_or(CHECK);
        if !is_name(check) {
            return Err(format!("\"{}\" is no name of a check", check.escape_debug()));
        }
        Ok(Foreign {
            server: names.name(server),
            at: instant(at).ok_or_else(|| format!("\"{}\" is no time", at.escape_debug()))?,
            check: names.name(check),
            party: party.or(code.map(Code::party)),
            code: code.map(|code| names.name(code.as_str())),
            status,
            duration_us,
            http_status,
            exported: self.exported(record, names)?,
        })
    }

    fn exported(
        &self,
        record: &csv::StringRecord,
        names: &mut Names,
    ) -> Result<Option<Box<Exported>>, String> {
        if self.exported.is_empty() {
            return Ok(None);
        }
        let mut exported = Exported::default();
        for (at, more) in &self.exported {
            let Some(text) = record.get(*at).map(str::trim).filter(|text| !text.is_empty()) else {
                continue;
            };
            let wrong = |what: &str| format!("\"{}\" is no {what}", text.escape_debug());
            match more {
                More::State => {
                    exported.state = State::find(text).ok_or_else(|| wrong("state"))?;
                }
                More::Counts => {
                    exported.counts = text.parse().map_err(|_| wrong("yes or no: true, false"))?;
                }
                More::Attempts => {
                    exported.attempts = text.parse().map_err(|_| wrong("number of attempts"))?;
                }
                More::Phase(of) => *of(&mut exported.phases) = Some(microseconds(text, 1_000.0)?),
                More::WireBytes => {
                    exported.wire_bytes = text.parse().map_err(|_| wrong("number of bytes"))?;
                }
                More::Issue => {
                    let is_code = text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
                    let code = is_code.then(|| names.name(text));
                    exported.issue = Some(code.ok_or_else(|| wrong("type of an issue"))?);
                }
            }
        }
        Ok(Some(Box::new(exported)))
    }
}

/// Whether it is as checks are named, such as `search[1]`: an export is no place for formulas.
fn is_name(check: &str) -> bool {
    check.starts_with(|c: char| c.is_alphanumeric())
        && check.chars().all(|c| c.is_alphanumeric() || "_-.:/[]() ".contains(c))
}

fn microseconds(text: &str, unit: f64) -> Result<u64, String> {
    let us = text.parse::<f64>().ok().map(|number| (number * unit).round());
    // Within bounds that both have.
    us.filter(|us| (0.0..=LONGEST_US).contains(us))
        .map(|us| us as u64)
        .ok_or_else(|| format!("\"{}\" is no duration", text.escape_debug()))
}

fn status_of(text: &str) -> Option<Status> {
    const WORDS: [(Status, &[&str]); 4] = [
        (Status::Healthy, &["healthy", "up", "true", "1", "1.0", "ok"]),
        (Status::Warning, &["warning", "degraded"]),
        (Status::Critical, &["critical", "down", "false", "0", "0.0"]),
        (Status::Unknown, &["unknown"]),
    ];
    let is_one = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    WORDS.iter().find(|(_, words)| is_one(words)).map(|(status, _)| *status)
}

/// RFC 3339, or seconds since the epoch.
pub(super) fn instant(text: &str) -> Option<Timestamp> {
    // A date is no number.
    let seconds: f64 = match text.parse() {
        Ok(seconds) => seconds,
        Err(_) => return text.parse().ok(),
    };
    // A float is clamped by the cast.
    Timestamp::from_millisecond((seconds * 1000.0).round() as i64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-02T00:00:00Z.
    const NOW: Timestamp = Timestamp::constant(1_793_577_600, 0);

    #[test]
    fn a_row_that_cannot_be_read_is_told_with_its_line() {
        for (text, words) in [
            (
                "at,status\n2025-11-01T00:00:00Z,up\nyesterday,up\n",
                "line 3: \"yesterday\" is no time",
            ),
            ("at,status\n2025-11-01T00:00:00Z,fine\n", "line 2: \"fine\" is no status"),
            ("when,status\n", "no column at"),
            ("at,status\n0001-01-01T00:00:00Z,up\n", "line 2: 0001-01-01T00:00:00Z is before 1990"),
            (
                "at,status\n1761955200,up\n2040-01-01T00:00:00Z,up\n",
                "line 3: 2040-01-01T00:00:00Z is in",
            ),
            ("at,status,duration_ms\n1761955200,up,1e300\n", "\"1e300\" is no duration"),
            ("at,status,code\n2025-11-01T00:00:00Z,down,tcp.refusal\n", "is no reason code"),
            ("at,status,check\n1761955200,up,=1+1\n", "\"=1+1\" is no name of a check"),
            ("at,status,check\n1761955200,up,\"a,b\"\n", "\"a,b\" is no name of a check"),
            (
                "at,status,issue\n1761955200,down,Throttled\n",
                "\"Throttled\" is no type of an issue",
            ),
            ("at,status,state\n1761955200,up,away\n", "\"away\" is no state"),
            ("at,status,state,state\n1761955200,up,active,active\n", "say the same"),
        ] {
            let error = survey_csv(text.as_bytes(), Some("a"), NOW).unwrap_err();
            assert!(error.message.contains(words), "{}", error.message);
            assert_eq!(error.exit().0, 65);
        }
        assert!(survey_csv("at,status\n".as_bytes(), None, NOW).is_err());
    }
}
