//! Readings out of a table that another program wrote.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::model::{
    Code, Error, ErrorKind, Origin, Party, Phases, Reading, Result, Sample, State, Status,
};

/// The check of rows that name none.
const CHECK: &str = "import";
/// Most rows of one file.
const MOST_ROWS: usize = 50_000_000;

/// One result that was taken elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreign {
    pub server: Arc<str>,
    pub at: Timestamp,
    pub check: Arc<str>,
    pub status: Status,
    pub code: Option<Arc<str>>,
    pub party: Option<Party>,
    pub duration_us: u64,
    pub http_status: Option<u16>,
}

/// Reads CSV with a head. Columns by name, in any order: `at` (or `time`, `timestamp`: RFC 3339, or
/// seconds since the epoch), `status` (a status, or up/down, true/false, 1/0; `success` too), and where
/// they are there `server`, `check`, `code`, `party`, `duration_ms`, `duration_seconds`, `http_status`. What `history export
/// -o csv` writes is read as it is.
///
/// # Errors
/// Exit 65 for a row that cannot be read, with its line.
pub fn read_csv(input: impl Read, server: Option<&str>) -> Result<Vec<Foreign>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
    let head = reader.headers().map_err(|error| wrong(1, &error.to_string()))?.clone();
    let columns = Columns::of(&head, server)?;
    let mut all = Vec::new();
    let mut record = csv::StringRecord::new();
    loop {
        let line = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(true) => all.push(columns.row(&record, server).map_err(|why| wrong(line, &why))?),
            Ok(false) => return Ok(all),
            Err(error) => return Err(wrong(line, &error.to_string())),
        }
        if all.len() > MOST_ROWS {
            return Err(wrong(line, "there are more than 50 million rows; import them in parts"));
        }
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

    fn row(&self, record: &csv::StringRecord, server: Option<&str>) -> Result<Foreign, String> {
        let text = |at: Option<usize>| at.and_then(|at| record.get(at)).filter(|it| !it.is_empty());
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
                .filter(|number| number.is_finite() && *number >= 0.0)
                .map(|number| number * unit)
                .ok_or_else(|| format!("\"{}\" is no duration", text.escape_debug()))?,
            _ => 0.0,
        };
        let http_status = text(self.http_status)
            .map(|text| {
                text.parse().map_err(|_| format!("\"{}\" is no HTTP status", text.escape_debug()))
            })
            .transpose()?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
        Ok(Foreign {
            server: server.into(),
            at: instant(at).ok_or_else(|| format!("\"{}\" is no time", at.escape_debug()))?,
            check: text(self.check).unwrap_or(CHECK).into(),
            party: party.or(code.map(Code::party)),
            code: code.map(|code| code.as_str().into()),
            status,
            duration_us: duration as u64,
            http_status,
        })
    }
}

/// What stands for a result that came without a reason.
#[must_use]
pub fn usual_code(status: Status) -> Option<Code> {
    match status {
        Status::Healthy => None,
        Status::Warning => Some(Code::new("health.degraded")),
        Status::Critical => Some(Code::new("health.down")),
        Status::Unknown => Some(Code::new("check.deadline")),
    }
}

fn status_of(text: &str) -> Option<Status> {
    match text.to_ascii_lowercase().as_str() {
        "healthy" | "up" | "true" | "1" | "1.0" | "ok" => Some(Status::Healthy),
        "warning" | "degraded" => Some(Status::Warning),
        "critical" | "down" | "false" | "0" | "0.0" => Some(Status::Critical),
        "unknown" => Some(Status::Unknown),
        _ => None,
    }
}

/// RFC 3339, or seconds since the epoch.
fn instant(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    let seconds: f64 = text.parse().ok()?;
    #[allow(clippy::cast_possible_truncation, reason = "a float is clamped by the cast")]
    Timestamp::from_millisecond((seconds * 1000.0).round() as i64).ok()
}

/// Results of one server at one instant are one reading, its status the worst of them.
#[must_use]
pub fn readings(rows: Vec<Foreign>, run: Uuid) -> Vec<Reading> {
    let mut grouped: BTreeMap<(Arc<str>, i64), Vec<Foreign>> = BTreeMap::new();
    for row in rows {
        grouped.entry((row.server.clone(), row.at.as_millisecond())).or_default().push(row);
    }
    grouped
        .into_iter()
        .map(|((server, at), rows)| {
            let samples: Vec<Sample> = rows.into_iter().map(sample).collect();
            let worst = samples.iter().rev().max_by_key(|sample| sample.status.rank());
            Reading {
                server,
                at: Timestamp::from_millisecond(at).unwrap_or_default(),
                run,
                origin: Origin::Import,
                vantage: None,
                state: State::Active,
                status: worst.map_or(Status::Unknown, |worst| worst.status),
                code: worst.and_then(|worst| worst.code.clone()),
                party: worst.and_then(|worst| worst.party),
                duration_us: samples.iter().map(|sample| sample.duration_us).sum(),
                samples,
            }
        })
        .collect()
}

fn sample(row: Foreign) -> Sample {
    Sample {
        check: row.check,
        status: row.status,
        code: row.code,
        party: row.party,
        counts: true,
        attempts: 1,
        duration_us: row.duration_us,
        phases: Phases::default(),
        http_status: row.http_status,
        wire_bytes: 0,
        issue: None,
        detail: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_several_kinds_are_read() {
        let text = "time,success,duration_seconds\n1761955200,1,0.25\n2025-11-01T00:01:00Z,0,\n";
        let rows = read_csv(text.as_bytes(), Some("a")).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].status, rows[0].duration_us), (Status::Healthy, 250_000));
        assert_eq!(rows[0].at.to_string(), "2025-11-01T00:00:00Z");
        assert_eq!(rows[1].code.as_deref(), Some("health.down"));
        let made = readings(rows, Uuid::nil());
        assert_eq!(made.len(), 2);
        assert_eq!(made[1].status, Status::Critical);
    }

    #[test]
    fn a_row_that_cannot_be_read_is_told_with_its_line() {
        for (text, words) in [
            (
                "at,status\n2025-11-01T00:00:00Z,up\nyesterday,up\n",
                "line 3: \"yesterday\" is no time",
            ),
            ("at,status\n2025-11-01T00:00:00Z,fine\n", "line 2: \"fine\" is no status"),
            ("when,status\n", "no column at"),
            ("at,status,code\n2025-11-01T00:00:00Z,down,tcp.refusal\n", "is no reason code"),
        ] {
            let error = read_csv(text.as_bytes(), Some("a")).unwrap_err();
            assert!(error.message.contains(words), "{}", error.message);
            assert_eq!(error.exit().0, 65);
        }
        assert!(read_csv("at,status\n".as_bytes(), None).is_err());
    }
}
