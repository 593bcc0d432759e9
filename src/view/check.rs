//! The gate: many servers, their verdict, and what is wrong with those that are not healthy.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::FHIRCTL_VERSION;
use super::human::{count, duration, or_dash, status, table};
use super::server;
use crate::model::{Observation, Result, ServerReport, Status};
use crate::render::{Block, Cell, CheckRun, Output, Row, Table, Tone, Typed, json};

/// What is known of a run beside its verdict.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    /// The inventory's path as the user knows it.
    pub inventory: String,
    /// Names this run in every document that it leaves.
    pub run_id: String,
    /// Whether the run stands in the history.
    pub recorded: bool,
    /// What a reader has to know beside the results, a sentence each.
    pub notes: Vec<String>,
}

/// The whole run.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CheckDocument {
    /// `fhirctl/check/v1`
    pub schema: &'static str,
    pub fhirctl_version: &'static str,
    pub run_id: String,
    pub generated_at: Timestamp,
    pub inventory: String,
    /// The raw worst of the servers that count.
    pub status: Status,
    /// What the process returns.
    pub exit_code: u8,
    pub recorded: bool,
    pub notes: Vec<String>,
    pub summary: Summary,
    /// In the order of the inventory.
    #[serde(rename = "servers", serialize_with = "reports")]
    #[schemars(with = "Vec<ServerReport>")]
    pub run: Arc<CheckRun>,
}

/// How many servers are what. `total` is the sum of the others: a server in maintenance that does
/// not count is in `maintenance` alone, one that was left out on purpose in `skipped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Summary {
    pub total: usize,
    pub healthy: usize,
    pub warning: usize,
    pub critical: usize,
    pub unknown: usize,
    pub maintenance: usize,
    pub skipped: usize,
}

/// One server on one line.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ServerLine<'a> {
    /// `fhirctl/check-server/v1`
    pub schema: &'static str,
    pub fhirctl_version: &'static str,
    pub run_id: &'a str,
    pub generated_at: Timestamp,
    #[serde(flatten)]
    pub server: &'a ServerReport,
}

/// A run in every form.
#[must_use]
pub fn output(run: CheckRun, meta: Meta) -> Output {
    let run = Arc::new(run);
    let summary = Summary::of(&run);
    let mut notes = meta.notes;
    if summary.total > 0 && summary.maintenance == summary.total {
        notes.push("Every server is in maintenance: nothing was judged.".to_owned());
    }
    let output = Output {
        document: document(&run, summary, &notes),
        rows: Some(rows(&run)),
        checks: Some(Arc::clone(&run)),
        ..Output::default()
    };
    let document = CheckDocument {
        schema: "fhirctl/check/v1",
        fhirctl_version: FHIRCTL_VERSION,
        run_id: meta.run_id,
        generated_at: to_millisecond(run.generated_at),
        inventory: meta.inventory,
        status: run.status,
        exit_code: run.exit_code,
        recorded: meta.recorded,
        notes,
        summary,
        run,
    };
    Output { typed: Some(Arc::new(document)), ..output }
}

impl Summary {
    /// Counts the servers of a run.
    #[must_use]
    pub fn of(run: &CheckRun) -> Summary {
        let mut summary = Summary { total: run.reports.len(), ..Summary::default() };
        for report in &run.reports {
            let counter = match report.status {
                _ if report.was_left_out() => &mut summary.skipped,
                _ if !run.counts(report) => &mut summary.maintenance,
                Status::Healthy => &mut summary.healthy,
                Status::Warning => &mut summary.warning,
                Status::Critical => &mut summary.critical,
                Status::Unknown => &mut summary.unknown,
            };
            *counter += 1;
        }
        summary
    }
}

impl Typed for CheckDocument {
    fn json(&self) -> Result<String> {
        json::pretty(self)
    }

    fn ndjson(&self) -> Result<String> {
        json::lines(self.run.reports.iter().map(|server| ServerLine {
            schema: "fhirctl/check-server/v1",
            fhirctl_version: self.fhirctl_version,
            run_id: &self.run_id,
            generated_at: self.generated_at,
            server,
        }))
    }

    fn yaml(&self) -> Result<String> {
        json::yaml(self)
    }
}

/// Finer than a millisecond is noise to a reader.
pub(super) fn to_millisecond(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// The rows of `csv` and `markdown`: one check each.
pub(super) fn rows(run: &CheckRun) -> Table {
    let rows = run
        .reports
        .iter()
        .flat_map(|report| report.checks.iter().map(|check| row(report, check)))
        .collect();
    table(&["server", "check", "status", "code", "duration_ms", "message"], rows)
}

fn row(report: &ServerReport, check: &Observation) -> Row {
    vec![
        report.name.as_str().into(),
        check.name.as_str().into(),
        check.status.as_str().into(),
        check.code.map_or("", |code| code.as_str()).into(),
        format!("{:.1}", check.duration_ms).into(),
        check.message.as_str().into(),
    ]
}

fn reports<S: Serializer>(run: &Arc<CheckRun>, serializer: S) -> Result<S::Ok, S::Error> {
    run.reports.serialize(serializer)
}

fn document(run: &CheckRun, summary: Summary, notes: &[String]) -> Vec<Block> {
    let mut blocks = Vec::new();
    if !run.reports.is_empty() {
        blocks.push(overview(run));
        blocks.push(Block::Blank);
    }
    for report in run.reports.iter().filter(|report| run.counts(report)) {
        let details: Vec<Block> = report.checks.iter().flat_map(server::short).collect();
        if !details.is_empty() {
            blocks.push(Block::Heading(report.name.clone()));
            blocks.push(Block::Indented(details));
            blocks.push(Block::Blank);
        }
    }
    blocks.push(Block::Text(summary_line(run, summary)));
    blocks.extend(notes.iter().map(|note| Block::text(format!("note: {note}"))));
    blocks
}

/// One line a server.
fn overview(run: &CheckRun) -> Block {
    let rows = run
        .reports
        .iter()
        .map(|report| {
            let verdict = if run.counts(report) {
                status(report.status)
            } else if report.was_left_out() {
                Cell::toned("skipped", Tone::Dim)
            } else {
                Cell::toned("maintenance", Tone::Dim)
            };
            vec![
                verdict,
                Cell::toned(&report.name, Tone::Strong),
                or_dash(report.code.map(|code| code.as_str())),
                duration(report.duration_ms).into(),
                report.message.as_str().into(),
            ]
        })
        .collect();
    Block::Table(table(&["status", "server", "code", "time", "message"], rows))
}

fn summary_line(run: &CheckRun, summary: Summary) -> Row {
    let mut line = vec![Cell::plain(format!(
        "{} in {}: ",
        count(summary.total, "server"),
        duration(run.duration_ms)
    ))];
    let parts = [
        (summary.healthy, "healthy", Tone::Good),
        (summary.warning, "warning", Tone::Warning),
        (summary.critical, "critical", Tone::Bad),
        (summary.unknown, "unknown", Tone::Unknown),
        (summary.maintenance, "in maintenance", Tone::Dim),
        (summary.skipped, "not checked", Tone::Dim),
    ];
    let mut any = false;
    for (number, name, tone) in parts.into_iter().filter(|(number, ..)| *number > 0) {
        if any {
            line.push(", ".into());
        }
        line.push(Cell::toned(format!("{number} {name}"), tone));
        any = true;
    }
    if !any {
        line.push("nothing to check".into());
    }
    line.push(Cell::plain(". Verdict: "));
    line.push(status(run.status));
    line.push(Cell::plain(format!(", exit code {}.", run.exit_code)));
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::State;

    fn report(name: &str, state: State, status: Status) -> ServerReport {
        ServerReport {
            name: name.into(),
            url: "https://fhir.example.org".into(),
            vendor: None,
            state,
            status,
            code: None,
            message: String::new(),
            party: None,
            duration_ms: 1.0,
            fhir_version: None,
            software: None,
            certificate: None,
            certificate_threshold_days: None,
            checks: Vec::new(),
        }
    }

    fn run(include_maintenance: bool, reports: Vec<ServerReport>) -> CheckRun {
        CheckRun {
            command: "check",
            status: Status::Healthy,
            exit_code: 0,
            warning_fails: true,
            include_maintenance,
            generated_at: Timestamp::UNIX_EPOCH,
            duration_ms: 1.0,
            reports,
        }
    }

    #[test]
    fn a_server_in_maintenance_is_counted_apart_unless_it_is_included() {
        let reports = vec![
            report("a", State::Active, Status::Healthy),
            report("b", State::Maintenance, Status::Critical),
        ];
        assert_eq!(
            Summary::of(&run(false, reports.clone())),
            Summary { total: 2, healthy: 1, maintenance: 1, ..Summary::default() }
        );
        assert_eq!(
            Summary::of(&run(true, reports)),
            Summary { total: 2, healthy: 1, critical: 1, ..Summary::default() }
        );
    }

    #[test]
    fn a_fleet_in_maintenance_is_healthy_with_a_note() {
        let meta = Meta {
            inventory: "servers.yaml".into(),
            run_id: "r".into(),
            recorded: false,
            notes: Vec::new(),
        };
        let output =
            output(run(false, vec![report("a", State::Maintenance, Status::Critical)]), meta);
        let json: serde_json::Value =
            serde_json::from_str(&output.typed.unwrap().json().unwrap()).unwrap();
        assert_eq!(json["status"], "healthy");
        assert_eq!(json["notes"][0], "Every server is in maintenance: nothing was judged.");
    }
}
