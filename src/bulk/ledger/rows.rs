//! What stands in a ledger: files, findings, and their sums.

use std::path::Path;

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use super::super::database::trouble;
use crate::model::Result;

/// Most findings that are kept for one file; the others are counted.
pub const FINDINGS_KEPT: usize = 100;

/// Which list of the manifest a file stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Output,
    Error,
    Deleted,
}

impl Kind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Output => "output",
            Kind::Error => "error",
            Kind::Deleted => "deleted",
        }
    }

    pub(super) fn number(self) -> u8 {
        match self {
            Kind::Output => 0,
            Kind::Error => 1,
            Kind::Deleted => 2,
        }
    }

    pub(super) fn of(number: u8) -> Kind {
        match number {
            0 => Kind::Output,
            1 => Kind::Error,
            _ => Kind::Deleted,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Wanted,
    There,
    GivenUp,
    /// In a file with all others of its type.
    Joined,
}

/// One file of an export.
#[derive(Clone, Debug)]
pub struct FileRow {
    pub id: u32,
    pub page: u32,
    pub kind: Kind,
    pub position: u32,
    /// The resource type of the manifest; empty where it names none.
    pub resource_type: String,
    pub sequence: u32,
    pub url: String,
    /// The manifest's `count`.
    pub expected: Option<u64>,
    pub state: State,
    /// Whether it is in its object store, and no longer here.
    pub is_stored: bool,
    /// Of a joined one: the file that it is in, and how many lines stand before it there.
    pub joined: Option<(u32, u64)>,
    pub done: Option<Done>,
    /// Why it was given up: a reason code and our words.
    pub trouble: Option<(String, String)>,
}

/// What there is to say of a file that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Below the export's folder.
    pub name: String,
    /// Which attempt at which file brought it; tells its ids from those of an attempt that failed.
    pub attempt: u64,
    pub lines: u64,
    /// As stored.
    pub bytes: u64,
    /// After decompression.
    pub content_bytes: u64,
    /// Of the stored bytes, in hex.
    pub sha256: String,
    pub duration_ms: u64,
    pub retries: u32,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Below the export's folder.
    pub file: Option<String>,
    /// Counts from 1.
    pub line: Option<u64>,
    pub code: String,
    pub severity: Severity,
    /// Our words; never what stands in the data.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Note,
    Warning,
    Error,
}

impl Severity {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }

    fn parse(text: &str) -> Severity {
        match text {
            "note" => Severity::Note,
            "warning" => Severity::Warning,
            _ => Severity::Error,
        }
    }
}

/// An entry of a manifest on its way into the ledger.
#[derive(Clone, Debug)]
pub struct Entry {
    pub kind: Kind,
    pub position: u32,
    pub resource_type: String,
    pub url: String,
    pub expected: Option<u64>,
}

/// How far an export is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub files: u64,
    pub files_done: u64,
    pub files_missing: u64,
    /// Lines of output files.
    pub resources: u64,
    /// As stored.
    pub bytes: u64,
    pub content_bytes: u64,
    /// Of files that name a count, lines that are expected.
    pub expected: u64,
    pub retries: u64,
}

pub(super) fn put_findings(
    connection: &Connection,
    file: u32,
    findings: &[Finding],
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM finding WHERE file = ?1 AND overall = 0")?
        .execute([file])?;
    findings.iter().try_for_each(|finding| put_finding(connection, Some(file), false, finding))
}

pub(super) fn put_finding(
    connection: &Connection,
    file: Option<u32>,
    overall: bool,
    finding: &Finding,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO finding (file, overall, line, code, severity, message)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            file,
            overall,
            finding.line.map(signed),
            finding.code,
            finding.severity.as_str(),
            finding.message
        ])
        .map(drop)
}

pub(super) fn findings(connection: &Connection, folder: &Path) -> Result<Vec<Finding>> {
    let read = || -> rusqlite::Result<Vec<Finding>> {
        connection
            .prepare_cached(
                "SELECT file.name, finding.line, finding.code, finding.severity, finding.message
                 FROM finding LEFT JOIN file ON file.id = finding.file
                 ORDER BY CASE finding.severity WHEN 'error' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END,
                     finding.file IS NOT NULL, finding.file, finding.id",
            )?
            .query_map([], |row| {
                Ok(Finding {
                    file: row.get(0)?,
                    line: row.get::<_, Option<i64>>(1)?.map(i64::unsigned_abs),
                    code: row.get(2)?,
                    severity: Severity::parse(&row.get::<_, String>(3)?),
                    message: row.get(4)?,
                })
            })?
            .collect()
    };
    read().map_err(|error| trouble(folder, &error))
}

pub(super) fn totals(connection: &Connection, folder: &Path) -> Result<Totals> {
    connection
        .query_row(
            "SELECT COUNT(*), COALESCE(SUM(state IN (1, 3)), 0), COALESCE(SUM(state = 2), 0),
                 COALESCE(SUM(CASE WHEN kind = 0 THEN lines END), 0), COALESCE(SUM(bytes), 0),
                 COALESCE(SUM(content_bytes), 0), COALESCE(SUM(expected), 0),
                 COALESCE(SUM(retries), 0)
             FROM file WHERE state <> 4",
            [],
            |row| {
                let number = |index: usize| row.get::<_, i64>(index).map(i64::unsigned_abs);
                Ok(Totals {
                    files: number(0)?,
                    files_done: number(1)?,
                    files_missing: number(2)?,
                    resources: number(3)?,
                    bytes: number(4)?,
                    content_bytes: number(5)?,
                    expected: number(6)?,
                    retries: number(7)?,
                })
            },
        )
        .map_err(|error| trouble(folder, &error))
}

pub(super) fn each_file(
    connection: &Connection,
    folder: &Path,
    tell: &mut dyn FnMut(FileRow) -> Result<()>,
) -> Result<()> {
    let broken = |error: rusqlite::Error| trouble(folder, &error);
    let mut all = connection
        .prepare_cached("SELECT * FROM file ORDER BY kind, type, sequence")
        .map_err(broken)?;
    let mut rows = all.query([]).map_err(broken)?;
    while let Some(next) = rows.next().map_err(broken)? {
        tell(row(next).map_err(broken)?)?;
    }
    Ok(())
}

pub(super) fn row(row: &Row<'_>) -> rusqlite::Result<FileRow> {
    let number = |name: &str| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(name)?.map(i64::unsigned_abs))
    };
    let number_of_state = row.get::<_, u8>("state")?;
    let state = match number_of_state {
        0 => State::Wanted,
        1 | 3 => State::There,
        4 => State::Joined,
        _ => State::GivenUp,
    };
    let done = match (state, row.get::<_, Option<String>>("name")?) {
        (State::There | State::Joined, Some(name)) => Some(Done {
            name,
            attempt: number("attempt")?.unwrap_or(0),
            lines: number("lines")?.unwrap_or(0),
            bytes: number("bytes")?.unwrap_or(0),
            content_bytes: number("content_bytes")?.unwrap_or(0),
            sha256: row.get::<_, Option<String>>("sha256")?.unwrap_or_default(),
            duration_ms: number("duration_ms")?.unwrap_or(0),
            retries: row.get::<_, Option<u32>>("retries")?.unwrap_or(0),
        }),
        _ => None,
    };
    let trouble = match (state, row.get::<_, Option<String>>("code")?) {
        (State::GivenUp, Some(code)) => {
            Some((code, row.get::<_, Option<String>>("message")?.unwrap_or_default()))
        }
        _ => None,
    };
    Ok(FileRow {
        id: row.get("id")?,
        page: row.get("page")?,
        kind: Kind::of(row.get("kind")?),
        position: row.get("position")?,
        resource_type: row.get("type")?,
        sequence: row.get("sequence")?,
        url: row.get("url")?,
        expected: number("expected")?,
        state,
        is_stored: number_of_state == 3,
        joined: row.get::<_, Option<u32>>("joined_into")?.zip(number("line_offset")?),
        done,
        trouble,
    })
}

/// SQLite's integers have a sign.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
