//! A table in CSV, row by row.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use jiff::Timestamp;

use super::{Foreign, usual_code};
use crate::model::{Code, Error, ErrorKind, Party, Result, Status};

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
fn no_time(at: Timestamp, now: Timestamp) -> Option<&'static str> {
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
) -> Result<impl Iterator<Item = Result<Foreign>>> {
    table(input, server).map(|(_, rows)| rows)
}

/// The columns that are not read, and the rows.
fn table<R: Read>(
    input: R,
    server: Option<&str>,
) -> Result<(Vec<String>, impl Iterator<Item = Result<Foreign>>)> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::Headers)
        .buffer_capacity(1 << 18)
        .from_reader(input);
    let head = reader.headers().map_err(|error| wrong(1, &error.to_string()))?.clone();
    let columns = Columns::of(&head, server)?;
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

/// Names of the columns that are read; those in one row say the same.
const COLUMNS: [&[&str]; 8] = [
    &["at", "time", "timestamp"],
    &["status", "success", "up"],
    &["server", "name"],
    &["check"],
    &["code"],
    &["party"],
    &["duration_ms", "response_ms", "duration_seconds", "duration"],
    &["http_status", "http"],
];
/// What `history export` writes besides.
const EXPORTED: [&str; 11] = [
    "origin",
    "state",
    "counts",
    "attempts",
    "dns_ms",
    "connect_ms",
    "tls_ms",
    "first_byte_ms",
    "transfer_ms",
    "wire_bytes",
    "issue",
];

fn unread(head: &csv::StringRecord) -> Vec<String> {
    let known = || COLUMNS.iter().copied().flatten().chain(&EXPORTED);
    let is_known = |name: &&str| known().any(|known| known.eq_ignore_ascii_case(name));
    head.iter().filter(|name| !is_known(name)).map(str::to_owned).collect()
}

/// Names that come again and again, each kept once.
#[derive(Default)]
struct Names(HashSet<Arc<str>>);

impl Names {
    /// A file with a new name in every row must not fill the memory.
    const MOST: usize = 100_000;

    fn name(&mut self, text: &str) -> Arc<str> {
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

fn wrong(line: u64, why: &str) -> Error {
    Error::new(ErrorKind::Data, format!("line {line}: {why}; nothing was imported"))
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
}

impl Columns {
    fn of(head: &csv::StringRecord, server: Option<&str>) -> Result<Columns> {
        let find = |names: &[&str]| {
            head.iter()
                .position(|name| names.iter().any(|wanted| name.eq_ignore_ascii_case(wanted)))
        };
        for names in COLUMNS {
            let is_one = |name: &&str| names.iter().any(|known| name.eq_ignore_ascii_case(known));
            let found: Vec<&str> = head.iter().filter(is_one).collect();
            if let [one, other, ..] = found[..] {
                let why = format!(
                    "the columns \"{}\" and \"{}\" say the same",
                    one.escape_debug(),
                    other.escape_debug()
                );
                return Err(wrong(1, &why).hint("leave one of them out"));
            }
        }
        let lacks = |what: &str| {
            Error::new(ErrorKind::Data, format!("the head names no column {what}; nothing was imported"))
                .hint("columns: at, status, and where they are there server, check, code, party, duration_ms, http_status")
        };
        let ms = find(&["duration_ms", "response_ms"]).map(|at| (at, 1_000.0));
        let seconds = find(&["duration_seconds", "duration"]).map(|at| (at, 1_000_000.0));
        let columns = Columns {
            at: find(&["at", "time", "timestamp"]).ok_or_else(|| lacks("at"))?,
            status: find(&["status", "success", "up"]).ok_or_else(|| lacks("status"))?,
            server: find(&["server", "name"]),
            check: find(&["check"]),
            code: find(&["code"]),
            party: find(&["party"]),
            duration: ms.or(seconds),
            http_status: find(&["http_status", "http"]),
        };
        if columns.server.is_none() && server.is_none() {
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
        let duration = match (text(self.duration.map(|(at, _)| at)), self.duration) {
            (Some(text), Some((_, unit))) => text
                .parse::<f64>()
                .ok()
                .map(|number| number * unit)
                .filter(|us| (0.0..=LONGEST_US).contains(us))
                .ok_or_else(|| format!("\"{}\" is no duration", text.escape_debug()))?,
            _ => 0.0,
        };
        let http_status = text(self.http_status)
            .map(|text| {
                text.parse().map_err(|_| format!("\"{}\" is no HTTP status", text.escape_debug()))
            })
            .transpose()?;
        // Checked above.
        Ok(Foreign {
            server: names.name(server),
            at: instant(at).ok_or_else(|| format!("\"{}\" is no time", at.escape_debug()))?,
            check: names.name(text(self.check).unwrap_or(CHECK)),
            party: party.or(code.map(Code::party)),
            code: code.map(|code| names.name(code.as_str())),
            status,
            duration_us: duration as u64,
            http_status,
        })
    }
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
fn instant(text: &str) -> Option<Timestamp> {
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
        ] {
            let error = survey_csv(text.as_bytes(), Some("a"), NOW).unwrap_err();
            assert!(error.message.contains(words), "{}", error.message);
            assert_eq!(error.exit().0, 65);
        }
        assert!(survey_csv("at,status\n".as_bytes(), None, NOW).is_err());
    }
}
