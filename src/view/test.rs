//! One server, stage by stage: where it broke and what to do.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::FHIRCTL_VERSION;
use super::check::{Meta, rows, to_millisecond};
use super::human::{days, duration, facts, status, table};
use super::server;
use crate::model::{Code, Error, Observation, Result, ServerReport, State, Status};
use crate::render::{Block, Cell, CheckRun, Output, Row, Tone};

/// One server's test.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TestDocument<'a> {
    /// `fhirctl/test/v1`
    pub schema: &'static str,
    pub fhirctl_version: &'static str,
    pub run_id: &'a str,
    pub generated_at: Timestamp,
    pub inventory: &'a str,
    pub status: Status,
    /// What the process returns.
    pub exit_code: u8,
    pub recorded: bool,
    pub notes: &'a [String],
    pub server: &'a ServerReport,
}

/// A test in every form. Every stage of the report is shown in its order; `exit_code` is what the
/// process returns.
///
/// # Errors
/// When the document cannot be written, which is a fault of this program.
pub fn output(
    report: ServerReport,
    exit_code: u8,
    generated_at: Timestamp,
    meta: &Meta,
) -> Result<Output> {
    let document = TestDocument {
        schema: "fhirctl/test/v1",
        fhirctl_version: FHIRCTL_VERSION,
        run_id: &meta.run_id,
        generated_at: to_millisecond(generated_at),
        inventory: &meta.inventory,
        status: report.status,
        exit_code,
        recorded: meta.recorded,
        notes: &meta.notes,
        server: &report,
    };
    let json =
        serde_json::to_value(&document).map_err(|error| Error::internal(error.to_string()))?;
    let document = blocks(&report, exit_code, &meta.notes);
    let run = CheckRun {
        command: "test",
        status: report.status,
        exit_code,
        warning_fails: true,
        // Who tests a server by name wants to know, maintenance or not.
        include_maintenance: true,
        generated_at,
        duration_ms: report.duration_ms,
        reports: vec![report],
    };
    Ok(Output {
        json,
        document,
        rows: Some(rows(&run)),
        checks: Some(Arc::new(run)),
        ..Output::default()
    })
}

fn blocks(report: &ServerReport, exit_code: u8, notes: &[String]) -> Vec<Block> {
    let certificate = report.certificate.as_ref().map(|certificate| {
        let day = certificate.not_after.strftime("%Y-%m-%d");
        let verb = if certificate.days_left < 0 { "ended" } else { "ends" };
        Cell::plain(format!(
            "{verb} {} ({day}), issued by {}",
            days(certificate.days_left),
            certificate.issuer
        ))
    });
    let state = match report.state {
        State::Active => None,
        State::Maintenance => Some(Cell::plain("in maintenance")),
        State::Inactive => Some(Cell::plain("inactive")),
    };
    let mut blocks = vec![
        Block::Heading(report.name.clone()),
        Block::Indented(vec![facts([
            ("url", Some(Cell::plain(&report.url))),
            ("vendor", report.vendor.as_ref().map(Cell::plain)),
            ("software", report.software.as_ref().map(Cell::plain)),
            ("FHIR", report.fhir_version.as_ref().map(Cell::plain)),
            ("certificate", certificate),
            ("state", state),
        ])]),
        Block::Blank,
        Block::Table(table(
            &["stage", "status", "time", "what"],
            report.checks.iter().map(stage).collect(),
        )),
        Block::Blank,
    ];
    for check in &report.checks {
        if check.status != Status::Healthy && !check.code.is_some_and(Code::is_left_out) {
            blocks.extend(server::long(check));
            blocks.push(Block::Blank);
        }
    }
    let findings = server::findings(&report.checks);
    if !findings.is_empty() {
        blocks.push(Block::Heading("Findings".to_owned()));
        blocks.push(Block::Indented(vec![Block::Table(table(
            &["finding", "severity", "what"],
            findings,
        ))]));
        blocks.push(Block::Blank);
    }
    let mut verdict =
        vec![Cell::toned(&report.name, Tone::Strong), Cell::plain(" is "), status(report.status)];
    if let Some(code) = report.code {
        verdict.push(Cell::plain(format!(": {code}")));
    }
    verdict.push(Cell::plain(format!(
        ", after {}. Exit code {}.",
        duration(report.duration_ms),
        exit_code
    )));
    blocks.push(Block::Text(verdict));
    blocks.extend(notes.iter().map(|note| Block::text(format!("note: {note}"))));
    blocks
}

/// One stage on one line. A stage that did not run says so instead of a status.
fn stage(check: &Observation) -> Row {
    let left_out = check.code.filter(|code| code.is_left_out());
    let (verdict, time) = match left_out {
        Some(code) if code.as_str() == "check.skipped" => {
            (Cell::toned("skipped", Tone::Dim), Cell::default())
        }
        Some(_) => (Cell::nothing(), Cell::default()),
        None if check.accepted.is_some() => {
            (Cell::toned("accepted", Tone::Dim), duration(check.duration_ms).into())
        }
        None => (status(check.status), duration(check.duration_ms).into()),
    };
    let tone = if left_out.is_some() { Tone::Dim } else { Tone::Plain };
    vec![Cell::toned(&check.name, Tone::Strong), verdict, time, Cell::toned(&check.message, tone)]
}
