//! `capability`: the CapabilityStatement against the specification, the inventory and a baseline,
//! and with `--probe` against what the server really does.

mod probe;

use schemars::JsonSchema;
use serde::Serialize;

use super::declared::Declared;
use super::shell::{Command, curl};
use super::{Desk, Problem, Topic, TopicName};
use crate::fhir::body::{BodyKind, sniff};
use crate::fhir::capability::{self, Capability, JudgeContext, TlsFacts};
use crate::fhir::drift::{Snapshot, compare};
use crate::http::Exchange;
use crate::model::server::Format;
use crate::model::{Code, Finding, FindingInfo, Severity, Status};

pub use probe::ProbeDetails;

/// How many changes are told in the message; all of them are shown below it.
const TOLD: usize = 3;

/// What was found, for programs.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct CapabilityDetails {
    /// As the server says it, such as `4.0.1`.
    pub fhir_version: Option<String>,
    /// Name and version as the server says them.
    pub software: Option<String>,
    /// How many resource types are declared.
    pub types: usize,
    /// Every check CS-01 to CS-23, passed or not.
    pub checks: Vec<Checked>,
    /// Differences from the baseline; `null` without one.
    pub changes: Option<Vec<Changed>>,
    /// What came of trying what is declared; `null` without `--probe`.
    pub probe: Option<ProbeDetails>,
}

/// One check of the statement.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Checked {
    /// Such as `CS-05`; `fhirctl explain CS-05` documents it.
    pub id: String,
    /// What is in order when it passes.
    pub title: String,
    pub result: CheckResult,
    /// What was found, in our words.
    pub messages: Vec<String>,
}

/// How a check of the statement came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckResult {
    Passed,
    /// Passed, with something to know.
    Note,
    Warning,
    Error,
    NotLooked,
}

impl CheckResult {
    fn as_str(self) -> &'static str {
        match self {
            CheckResult::Passed => "in order",
            CheckResult::Note => "note",
            CheckResult::Warning => "warning",
            CheckResult::Error => "error",
            CheckResult::NotLooked => "not looked at",
        }
    }
}

/// One difference from the baseline.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Changed {
    /// Such as `resources.Patient.search_parameters.family`.
    pub path: String,
    pub message: String,
    /// Whether a client that worked before may fail now.
    pub breaking: bool,
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let mut topic = Topic::new(TopicName::Capability);
    let exchange = match desk.statement().await {
        Ok(exchange) => exchange,
        Err(failure) => {
            topic.problem(Problem::from(&failure));
            return topic;
        }
    };
    let kind = sniff(exchange.content_type(), &exchange.body);
    match capability::parse(kind, &exchange.body) {
        Ok(statement) => judge(desk, topic, &exchange, kind, &statement).await,
        Err(error) => {
            // The test has named it already, with all that is known of the answer.
            let checks = &desk.report().await.checks;
            let told = checks.iter().find(|check| check.name == "metadata");
            topic.problems.extend(told.and_then(super::health::problem_of));
            if topic.problems.is_empty() {
                topic.problem(Problem::new(
                    Code::new("fhir.not_a_capability_statement"),
                    format!("/metadata: HTTP {}, {error}", exchange.status()),
                ));
            }
            topic
        }
    }
}

async fn judge(
    desk: &Desk,
    mut topic: Topic,
    exchange: &Exchange,
    kind: BodyKind,
    statement: &Capability<'_>,
) -> Topic {
    let server = &desk.server;
    let served = if kind == BodyKind::Xml { Format::Xml } else { Format::Json };
    let client = desk.client().await.ok();
    let certificate = client.as_ref().and_then(|client| client.certificate());
    let context = JudgeContext {
        base_url: server.url.as_str(),
        content_type: exchange.content_type(),
        format: served,
        now: desk.surroundings.clock.now(),
        tls: certificate.map(|certificate| TlsFacts {
            version: client.as_ref().and_then(|client| client.tls_version()),
            days_left: Some(certificate.days_left),
            warn_days: i64::try_from(server.tls.expiry_warning.as_secs() / 86_400)
                .unwrap_or(i64::MAX),
        }),
    };
    let mut findings = capability::judge(statement, &context);
    findings.push(capability::response_finding(
        exchange.status(),
        exchange.timing.total_ms,
        exchange.http.body_bytes,
    ));
    if exchange.header("etag").is_none() {
        findings.push(note("CS-19", "the answer has no ETag: it is sent whole every time"));
    }
    for unmet in capability::unmet(statement, &server.checks.metadata, Some(served)) {
        topic.problem(Problem::new(unmet.code, unmet.message));
    }
    let changes = drift(desk, &mut topic, statement, &mut findings);
    let declared = Declared::of(statement);
    let probe = if desk.options.probe {
        Some(probe::run(desk, &mut topic, &declared, exchange, &mut findings).await)
    } else {
        None
    };
    if server.checks.metadata.strict {
        topic.problems.extend(findings.iter().filter_map(strict));
    }
    let details = CapabilityDetails {
        fhir_version: statement
            .fhir_version
            .as_deref()
            .map(|version| crate::model::text::one_line(&crate::model::text::bounded(version, 40))),
        software: statement.software_label(),
        types: statement.resources().count(),
        checks: all(&findings, desk.options.probe, changes.is_some(), context.tls.is_some()),
        changes,
        probe,
    };
    show(&mut topic, &details);
    topic.details(&details);
    topic.message = good(&details);
    topic
}

fn note(id: &str, message: &str) -> Finding {
    Finding { id: id.to_owned(), severity: Severity::Info, message: message.to_owned() }
}

/// A finding as a problem, where the inventory asks for it.
fn strict(finding: &Finding) -> Option<Problem> {
    let status = match finding.severity {
        Severity::Error => Status::Critical,
        Severity::Warning => Status::Warning,
        Severity::Info => return None,
    };
    let message = format!("{}: {}", finding.id, finding.message);
    Some(Problem::new(Code::new("fhir.invalid_resource"), message).at(status))
}

/// What differs from the baseline; `None` where none was given or it does not know this server.
fn drift(
    desk: &Desk,
    topic: &mut Topic,
    statement: &Capability<'_>,
    findings: &mut Vec<Finding>,
) -> Option<Vec<Changed>> {
    let baseline = desk.options.baseline.as_ref()?;
    let Some(known) = baseline.servers.get(&desk.server.name) else {
        topic.note("the baseline does not know this server");
        return None;
    };
    let changes = compare(known, &Snapshot::of(statement));
    let breaking: Vec<_> = changes.iter().filter(|change| change.breaking).collect();
    let told = |changes: &[&crate::fhir::drift::Change]| {
        let mut told: Vec<_> =
            changes.iter().take(TOLD).map(|change| change.message.clone()).collect();
        if changes.len() > TOLD {
            told.push(format!("and {} more", changes.len() - TOLD));
        }
        told.join("; ")
    };
    if !breaking.is_empty() {
        topic.problem(Problem::new(
            Code::new("capability.breaking"),
            format!("{} breaking since the baseline: {}", breaking.len(), told(&breaking)),
        ));
    } else if !changes.is_empty() {
        let all: Vec<_> = changes.iter().collect();
        topic.problem(Problem::new(
            Code::new("capability.changed"),
            format!("{} changed since the baseline: {}", changes.len(), told(&all)),
        ));
    }
    findings.extend(changes.iter().map(|change| Finding {
        id: "CS-21".to_owned(),
        severity: if change.breaking { Severity::Error } else { Severity::Info },
        message: format!("{}: {}", change.path, change.message),
    }));
    let changed = |change: crate::fhir::drift::Change| Changed {
        path: change.path,
        message: change.message,
        breaking: change.breaking,
    };
    Some(changes.into_iter().map(changed).collect())
}

/// Every check with what was found by it.
fn all(findings: &[Finding], probed: bool, compared: bool, over_tls: bool) -> Vec<Checked> {
    let checked = |info: &FindingInfo| {
        let own: Vec<_> = findings.iter().filter(|finding| finding.id == info.id).collect();
        let has = |severity| own.iter().any(|finding| finding.severity == severity);
        let result = if has(Severity::Error) {
            CheckResult::Error
        } else if has(Severity::Warning) {
            CheckResult::Warning
        } else if !own.is_empty() {
            CheckResult::Note
        } else if is_left_out(&info.id, probed, compared, over_tls).is_some() {
            CheckResult::NotLooked
        } else {
            CheckResult::Passed
        };
        let mut messages: Vec<String> = own.iter().map(|it| it.message.clone()).collect();
        if result == CheckResult::NotLooked {
            messages.extend(is_left_out(&info.id, probed, compared, over_tls).map(str::to_owned));
        }
        Checked { id: info.id.clone(), title: info.title.clone(), result, messages }
    };
    FindingInfo::all().filter(|info| info.id.starts_with("CS-")).map(checked).collect()
}

/// Why a check was not looked at, where it was not.
fn is_left_out(id: &str, probed: bool, compared: bool, over_tls: bool) -> Option<&'static str> {
    match id {
        "CS-12" | "CS-14" if !probed => Some("only with --probe"),
        "CS-13" => Some("the topic smart compares them"),
        "CS-20" if !over_tls => Some("the connection is plain HTTP"),
        "CS-21" if !compared => Some("only with --baseline"),
        _ => None,
    }
}

fn good(details: &CapabilityDetails) -> String {
    let count = |result| details.checks.iter().filter(|check| check.result == result).count();
    let version = details.fhir_version.as_deref().unwrap_or("of no stated version");
    let mut text = format!("FHIR {version}, {} types", details.types);
    let (errors, warnings) = (count(CheckResult::Error), count(CheckResult::Warning));
    if errors + warnings > 0 {
        let many = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        text.push_str(&format!(
            "; {} and {} in the statement, which count with checks.metadata.strict",
            many(errors, "error"),
            many(warnings, "warning")
        ));
    }
    if let Some(probe) = &details.probe {
        text.push_str(&format!("; {} requests tried what is declared", probe.requests));
    }
    crate::model::text::one_line(&text)
}

fn show(topic: &mut Topic, details: &CapabilityDetails) {
    let rows = details.checks.iter().map(|check| {
        let mut what: Vec<_> = check.messages.iter().take(TOLD).cloned().collect();
        if check.messages.len() > TOLD {
            what.push(format!("and {} more", check.messages.len() - TOLD));
        }
        vec![
            check.id.clone(),
            check.result.as_str().to_owned(),
            check.title.clone(),
            what.join("; "),
        ]
    });
    topic.table("", &["check", "result", "what it looks at", "found"], rows.collect());
    if let Some(changes) = &details.changes {
        let rows = changes.iter().map(|change| {
            let kind = if change.breaking { "breaking" } else { "change" };
            vec![kind.to_owned(), change.path.clone(), change.message.clone()]
        });
        topic.table("since the baseline", &["kind", "where", "what"], rows.collect());
    }
    if let Some(probe) = &details.probe {
        probe.show(topic);
    }
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    desk.url("metadata").map(|url| vec![curl(&desk.server, &url)]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_its_row_passed_or_not() {
        let findings = vec![
            note("CS-23", "software is X"),
            Finding {
                id: "CS-05".to_owned(),
                severity: Severity::Warning,
                message: "implementation is missing".to_owned(),
            },
        ];
        let rows = all(&findings, false, false, false);
        assert_eq!(rows.len(), 23);
        let result = |id: &str| rows.iter().find(|row| row.id == id).map(|row| row.result);
        for (id, expected) in [
            ("CS-01", CheckResult::Passed),
            ("CS-05", CheckResult::Warning),
            ("CS-12", CheckResult::NotLooked),
            ("CS-21", CheckResult::NotLooked),
            ("CS-23", CheckResult::Note),
        ] {
            assert_eq!(result(id), Some(expected), "{id}");
        }
    }
}
