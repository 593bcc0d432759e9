//! What `bulk-export` shows: a plan, the end of an export, what a verification found, ledgers.

use serde_json::{Value, json};

use super::human::{count, duration, facts, or_dash, table};
use crate::bulk::export::{Conclusion, Identity, Report, Status, Stopped};
use crate::bulk::job::KickOff;
use crate::bulk::ledger::{Finding, Severity, Totals};
use crate::bulk::receipt::Verified;
use crate::model::{Exit, text};
use crate::render::{Block, Cell, Output, Row, Tone};

/// Most findings that a person is shown.
const SHOWN: usize = 20;

/// What would be asked.
#[derive(Debug)]
pub struct Plan<'a> {
    pub server: String,
    pub auth: &'static str,
    pub kick_off: &'a KickOff,
    pub output_dir: String,
    pub notes: &'a [String],
}

impl Plan<'_> {
    #[must_use]
    pub fn output(&self) -> Output {
        let mut headers = vec![("accept".to_owned(), self.kick_off.accept.to_owned())];
        for (name, value) in &self.kick_off.headers {
            headers
                .push((name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        }
        if self.auth != "none" {
            headers.push(("authorization".to_owned(), format!("(redacted: {})", self.auth)));
        }
        let body = self.kick_off.body.as_deref().map(without_patients);
        if body.is_some() {
            headers.push(("content-type".to_owned(), self.kick_off.content_type.to_owned()));
        }
        let mut request = format!("{} {}\n", self.kick_off.method, self.kick_off.url);
        for (name, value) in &headers {
            request.push_str(&format!("{name}: {value}\n"));
        }
        if let Some(body) = &body {
            request.push_str(&format!("\n{body:#}\n"));
        }
        let headers: serde_json::Map<String, Value> =
            headers.into_iter().map(|(name, value)| (name, value.into())).collect();
        let mut document = vec![Block::Verbatim(text::visible(&request))];
        document.extend(self.notes.iter().map(|note| Block::text(format!("note: {note}"))));
        document.push(Block::text("Nothing was sent."));
        Output {
            json: json!({
                "schema": "fhirctl/bulk-export-plan/v1",
                "server": self.server,
                "output_dir": self.output_dir,
                "method": self.kick_off.method.as_str(),
                "url": self.kick_off.url.as_str(),
                "headers": headers,
                "body": body,
                "notes": self.notes,
            }),
            document,
            ..Output::default()
        }
    }
}

/// A plan is pasted into tickets: who a patient is stays out of it.
fn without_patients(body: &[u8]) -> Value {
    let mut body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    for parameter in body["parameter"].as_array_mut().into_iter().flatten() {
        if parameter["name"] == "patient" {
            parameter["valueReference"] = json!({ "reference": "Patient/(redacted)" });
        }
    }
    body
}

/// The end of an export.
#[must_use]
pub fn report(report: &Report) -> Output {
    let identity = &report.identity;
    let conclusion = &report.conclusion;
    let json = json!({
        "schema": "fhirctl/bulk-export/v1",
        "fhirctl_version": super::FHIRCTL_VERSION,
        "export_id": identity.id,
        "server": identity.server,
        "url": identity.url,
        "output_dir": identity.place(),
        "status": conclusion.status.as_str(),
        "exit_code": conclusion.exit_code,
        "was_done": report.was_done,
        "transaction_time": conclusion.transaction_time,
        "finished_at": conclusion.finished_at,
        "duration_ms": conclusion.duration_ms,
        "totals": report.totals,
        "types": report.by_type,
        "findings": report.findings,
        "receipt": identity.place_of(crate::bulk::receipt::NAME),
        "receipt_sha256": conclusion.sha256,
        "remote_job": report.remote,
    });
    let rows: Vec<Row> = report
        .by_type
        .iter()
        .map(|total| {
            vec![
                Cell::plain(total.kind),
                or_dash(Some(&total.name)),
                total.files.to_string().into(),
                total.missing.to_string().into(),
                total.count.to_string().into(),
                total.bytes.to_string().into(),
            ]
        })
        .collect();
    let head = ["kind", "type", "files", "missing", "resources", "bytes"];
    let (word, tone) = match conclusion.status {
        Status::Complete => ("complete", Tone::Good),
        Status::CompleteWithErrors => ("complete, with errors", Tone::Bad),
        Status::Incomplete => ("NOT complete", Tone::Bad),
    };
    let mut document = vec![
        Block::Text(vec![
            Cell::plain(format!("The export of {} is ", identity.server)),
            Cell::toned(word, tone),
            Cell::plain("."),
        ]),
        Block::Blank,
        facts([
            ("folder", Some(Cell::plain(identity.place()))),
            ("files", Some(files(&report.totals))),
            ("resources", Some(Cell::plain(report.totals.resources.to_string()))),
            ("stored", Some(Cell::plain(size(report.totals.bytes)))),
            ("as of", conclusion.transaction_time.as_ref().map(Cell::plain)),
            ("took", Some(Cell::plain(duration(conclusion.duration_ms as f64)))),
        ]),
    ];
    if !rows.is_empty() {
        document.extend([Block::Blank, Block::Table(table(&head, rows.clone()))]);
    }
    document.extend(found(&report.findings));
    if conclusion.status == Status::Incomplete {
        document.push(Block::Blank);
        document
            .push(Block::text("Run the same command again: what is there is not fetched again."));
    }
    Output { json, document, rows: Some(table(&head, rows)), ..Output::default() }
}

fn files(totals: &Totals) -> Cell {
    if totals.files_done == totals.files {
        Cell::plain(totals.files.to_string())
    } else {
        Cell::toned(format!("{} of {}", totals.files_done, totals.files), Tone::Bad)
    }
}

fn found(findings: &[Finding]) -> Vec<Block> {
    if findings.is_empty() {
        return Vec::new();
    }
    let mut blocks = vec![Block::Blank, Block::Heading("Findings".to_owned())];
    let rows = findings.iter().take(SHOWN).map(|finding| {
        let tone = match finding.severity {
            Severity::Error => Tone::Bad,
            Severity::Warning => Tone::Warning,
            Severity::Note => Tone::Dim,
        };
        let place = match (&finding.file, finding.line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            (Some(file), None) => file.clone(),
            _ => "-".to_owned(),
        };
        vec![
            Cell::toned(finding.severity.as_str(), tone),
            Cell::plain(place),
            Cell::plain(&finding.code),
            Cell::plain(&finding.message),
        ]
    });
    blocks.push(Block::Table(table(&["severity", "where", "code", "message"], rows.collect())));
    if findings.len() > SHOWN {
        let more = count(findings.len() - SHOWN, "finding");
        blocks.push(Block::text(format!("{more} more in the receipt and in -o json.")));
    }
    blocks
}

fn counted(number: u64, one: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), one)
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    let mib = bytes as f64 / 1_048_576.0;
    match bytes {
        0..=9999 => format!("{bytes} B"),
        10_000..=1_048_575 => format!("{:.0} KiB", bytes as f64 / 1024.0),
        1_048_576..=1_073_741_823 => format!("{mib:.1} MiB"),
        _ => format!("{:.1} GiB", mib / 1024.0),
    }
}

/// What a verification found.
#[must_use]
pub fn verified(dir: &str, verified: &Verified, exit: Exit) -> Output {
    let problems: Vec<Value> = verified
        .problems
        .iter()
        .map(|problem| json!({ "file": problem.file, "message": problem.message }))
        .collect();
    let is_good = verified.problem_count == 0;
    let rows: Vec<Row> = verified
        .problems
        .iter()
        .map(|problem| {
            vec![or_dash(problem.file.as_deref()), Cell::toned(&problem.message, Tone::Bad)]
        })
        .collect();
    let mut document = vec![Block::Text(if is_good {
        vec![
            Cell::toned("The export verifies", Tone::Good),
            Cell::plain(format!(
                ": {}, {}, {}.",
                counted(verified.files, "file"),
                counted(verified.resources, "resource"),
                size(verified.bytes)
            )),
        ]
    } else {
        vec![
            Cell::toned("The export does NOT verify", Tone::Bad),
            Cell::plain(format!(": {}.", counted(verified.problem_count, "problem"))),
        ]
    })];
    if !is_good {
        document.extend([Block::Blank, Block::Table(table(&["file", "problem"], rows.clone()))]);
    }
    Output {
        json: json!({
            "schema": "fhirctl/bulk-export-verify/v1",
            "output_dir": dir,
            "verified": is_good,
            "exit_code": exit.0,
            "export_id": verified.export_id,
            "server": verified.server,
            "status": verified.status,
            "transaction_time": verified.transaction_time,
            "files": verified.files,
            "resources": verified.resources,
            "bytes": verified.bytes,
            "problem_count": verified.problem_count,
            "problems": problems,
        }),
        document,
        rows: Some(table(&["file", "problem"], rows)),
        ..Output::default()
    }
}

/// One export, from its ledger.
#[derive(Clone, Debug)]
pub struct Line {
    pub identity: Identity,
    /// `begun`, `waiting`, `downloading`, `cancelled`, `failed`, or how it ended.
    pub phase: &'static str,
    pub conclusion: Option<Conclusion>,
    /// Why it ended without a receipt.
    pub failed: Option<Stopped>,
    pub totals: Totals,
    /// The process that works on it now.
    pub worker: Option<u32>,
}

impl Line {
    /// Whether nothing more is to be done.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase, "complete" | "complete_with_errors" | "cancelled" | "failed")
    }

    pub(super) fn json(&self) -> Value {
        let (finished_at, exit_code) = match (&self.conclusion, &self.failed) {
            (Some(end), _) => (Some(end.finished_at), Some(end.exit_code)),
            (None, Some(end)) if self.phase == "failed" => (Some(end.at), end.exit_code),
            _ => (None, None),
        };
        json!({
            "export_id": self.identity.id,
            "server": self.identity.server,
            "url": self.identity.url,
            "output_dir": self.identity.place(),
            "phase": self.phase,
            "running": self.worker.is_some(),
            "pid": self.worker,
            "created_at": self.identity.created_at,
            "finished_at": finished_at,
            "transaction_time": self.conclusion.as_ref().and_then(|it| it.transaction_time.clone()),
            "exit_code": exit_code,
            "totals": self.totals,
        })
    }
}

/// Exports, one a line.
#[must_use]
pub fn lines(schema: &'static str, lines: &[Line]) -> Output {
    let items: Vec<Value> = lines.iter().map(Line::json).collect();
    let rows: Vec<Row> = lines
        .iter()
        .map(|line| {
            let tone = match line.phase {
                "complete" => Tone::Good,
                "incomplete" | "complete_with_errors" | "failed" => Tone::Bad,
                _ => Tone::Plain,
            };
            vec![
                Cell::plain(&line.identity.server),
                Cell::toned(line.phase, tone),
                Cell::plain(format!("{}/{}", line.totals.files_done, line.totals.files)),
                line.totals.resources.to_string().into(),
                size(line.totals.bytes).into(),
                line.identity.created_at.strftime("%FT%TZ").to_string().into(),
                line.worker.map_or_else(String::new, |pid| pid.to_string()).into(),
                Cell::plain(line.identity.place()),
            ]
        })
        .collect();
    let head = ["server", "phase", "files", "resources", "stored", "begun", "pid", "folder"];
    let document = match rows.is_empty() {
        true => vec![Block::text("No exports.")],
        false => vec![Block::Table(table(&head, rows.clone()))],
    };
    Output {
        json: json!({ "schema": schema, "exports": items }),
        lines: Some(items),
        document,
        rows: Some(table(&head, rows)),
        ..Output::default()
    }
}

/// What was done to an export.
#[must_use]
pub fn told(schema: &'static str, identity: &Identity, told: &str) -> Output {
    Output {
        json: json!({
            "schema": schema,
            "export_id": identity.id,
            "server": identity.server,
            "output_dir": identity.place(),
            "message": told,
        }),
        document: vec![Block::text(format!("{}: {told}.", identity.server))],
        ..Output::default()
    }
}
