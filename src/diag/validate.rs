//! `validate`: resources from the server or from files, by the server's `$validate` and locally.

use std::time::Duration;

use http::Method;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::shell::{Command, curl};
use super::{Desk, Layer, Problem, Topic, TopicName, declared};
use crate::auth::caller::Ask;
use crate::fhir::body::sniff;
use crate::fhir::outcome::{IssueSeverity, OperationOutcome};
use crate::fhir::types;
use crate::fhir::validate::{self, Fault, FaultKind};
use crate::http::{Body, Failure};
use crate::model::server::FhirVersion;
use crate::model::{Code, Party, Severity, Status, limits, text};

/// How long all local validation may take.
const LOCAL: Duration = Duration::from_secs(60);
/// How long the server may take for one resource.
const REMOTE: Duration = Duration::from_secs(20);
/// Most resources that are sent to the server.
const MOST_SENT: usize = 10;
/// Most resources of one run.
const MOST_RESOURCES: usize = 10_000;
/// Most faults that people are shown.
const SHOWN: usize = 50;

/// What is to be validated, beside what the inventory names.
#[derive(Clone, Debug, Default)]
pub struct ValidateOptions {
    /// Such as `Patient/1`; empty: the synthetic records of the inventory.
    pub references: Vec<String>,
    /// Files and standard input, as they were read.
    pub documents: Vec<Document>,
    /// Texts of the StructureDefinitions of given packages.
    pub definitions: std::sync::Arc<Vec<String>>,
    pub remote: Remote,
}

/// A text with one resource, or one a line.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file's name, or `-`.
    pub name: String,
    pub text: String,
}

/// Whether the server validates, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Remote {
    /// Where it declares `$validate`.
    #[default]
    Declared,
    /// Whether it declares it or not.
    Try,
    Never,
}

/// What was found, for programs.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct ValidateDetails {
    /// The version by which it was validated locally; `null` where it was not.
    pub local: Option<String>,
    /// Why it was not validated locally, where it was not.
    pub not_local: Option<String>,
    pub resources: Vec<Validated>,
}

/// One resource and what is wrong with it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Validated {
    /// Where it came from, without an id: `Patient/…`, or a file and its line.
    pub source: String,
    pub resource_type: String,
    pub faults: Vec<Fault>,
    /// What the server's `$validate` made of it; `null` where it was not asked.
    pub server: Option<RemoteVerdict>,
}

/// What the server's `$validate` said.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RemoteVerdict {
    pub status: Option<u16>,
    pub duration_ms: f64,
    pub errors: usize,
    pub warnings: usize,
    /// Whether what came is a verdict at all.
    pub usable: bool,
}

/// A resource on its way through.
struct Subject {
    source: String,
    /// Whose it is to mend.
    party: Party,
    text: String,
    /// Lines of the file above it.
    lines_above: usize,
    value: Value,
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let mut topic = Topic::new(TopicName::Validate);
    let mut subjects = Vec::new();
    for document in &desk.options.validate.documents {
        read_document(document, &mut topic, &mut subjects);
    }
    fetch(desk, &mut topic, &mut subjects).await;
    if subjects.is_empty() && topic.problems.is_empty() {
        return Topic::left_out(
            TopicName::Validate,
            Code::new("check.not_applicable"),
            "nothing to validate: name a record with --ref, a file with --resource, or a synthetic \
             read in the inventory",
        );
    }
    let mut details = ValidateDetails::default();
    let found = local(desk, &mut topic, &mut details, &subjects).await;
    for (index, subject) in subjects.iter().enumerate() {
        let faults = found.get(index).cloned().unwrap_or_default();
        details.resources.push(validated(subject, faults));
    }
    tell(&mut topic, &details, &subjects);
    remote(desk, &mut topic, &mut details, &subjects).await;
    show(&mut topic, &details);
    topic.message =
        format!("{}, none with an error", text::counted(details.resources.len(), "resource"));
    topic.details(&details);
    topic
}

/// A file with one resource, or with one a line.
fn read_document(document: &Document, topic: &mut Topic, subjects: &mut Vec<Subject>) {
    let mut push = |text: &str, lines_above: usize, source: String| match serde_json::from_str::<
        Value,
    >(text)
    {
        Ok(value) => {
            let party = Party::Ours;
            let text = text.to_owned();
            subjects.push(Subject { source, party, text, lines_above, value });
        }
        Err(error) => topic.problem(
            Problem::new(
                Code::new("fhir.malformed"),
                format!("{source}: no JSON at line {}", lines_above + error.line()),
            )
            .layer(Layer::Fhir)
            .by(Party::Ours),
        ),
    };
    let whole = document.text.trim_start_matches('\u{feff}');
    // One resource over many lines, or a file of one line.
    if serde_json::from_str::<serde::de::IgnoredAny>(whole).is_ok() || !is_ndjson(whole) {
        push(whole, 0, document.name.clone());
        return;
    }
    for (index, line) in whole.lines().enumerate().take(MOST_RESOURCES) {
        if !line.trim().is_empty() {
            push(line, index, format!("{}:{}", document.name, index + 1));
        }
    }
}

/// Whether the first line stands for itself.
fn is_ndjson(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str::<serde::de::IgnoredAny>(first).is_ok()
}

/// Reads what was named, else the synthetic records of the inventory.
async fn fetch(desk: &Desk, topic: &mut Topic, subjects: &mut Vec<Subject>) {
    let options = &desk.options.validate;
    let references = match options.references.is_empty() {
        false => options.references.clone(),
        true if options.documents.is_empty() => declared::synthetic(desk).await,
        true => return,
    };
    for reference in references {
        let kind = reference.split('/').next().unwrap_or_default();
        let source = match types::is_any_resource_type(kind) {
            true => format!("{kind}/…"),
            false => "a record".to_owned(),
        };
        let answer = match desk.url(&reference) {
            Ok(url) => desk.ask(&Ask::get(&url, "application/fhir+json")).await,
            Err(failure) => Err(failure),
        };
        let exchange = match answer {
            Ok(exchange) => exchange,
            Err(failure) => {
                topic.problem(Problem::from(&failure));
                continue;
            }
        };
        let read = String::from_utf8(exchange.body).ok();
        let parsed = read.and_then(|text| {
            let value: Value = serde_json::from_str(&text).ok()?;
            Some((text, value))
        });
        match parsed {
            Some((text, value)) if exchange.http.status == Some(200) => {
                subjects.push(Subject {
                    source,
                    party: Party::Vendor,
                    text,
                    lines_above: 0,
                    value,
                });
            }
            _ => topic.problem(Problem::new(
                Code::new("fhir.read_failed"),
                format!(
                    "{source} cannot be read as JSON: HTTP {}",
                    exchange.http.status.unwrap_or_default()
                ),
            )),
        }
    }
}

/// The version to validate by: as the server says, else as the inventory does.
async fn version(desk: &Desk) -> Option<FhirVersion> {
    let said = desk.report().await.fhir_version.as_deref().and_then(FhirVersion::of);
    said.or(desk.server.fhir_version)
}

async fn local(
    desk: &Desk,
    topic: &mut Topic,
    details: &mut ValidateDetails,
    subjects: &[Subject],
) -> Vec<Vec<Fault>> {
    let Some(version) = version(desk).await else {
        details.not_local = Some("the version of FHIR is not known".to_owned());
        return Vec::new();
    };
    if !validate::supports(version) {
        details.not_local = Some(format!("{version} is not supported; R4, R4B and R5 are"));
        return Vec::new();
    }
    let values = subjects.iter().map(|subject| subject.value.clone()).collect();
    let definitions = std::sync::Arc::clone(&desk.options.validate.definitions);
    match validate::validate_all(version, definitions, values, LOCAL).await {
        Ok(mut found) => {
            details.local = Some(version.to_string());
            for (faults, subject) in found.iter_mut().zip(subjects) {
                for fault in faults {
                    let line = validate::line_of(&subject.text, &fault.path);
                    fault.line = Some(subject.lines_above + line);
                }
            }
            found
        }
        Err(why) => {
            topic.note(format!("not validated locally: {why}"));
            details.not_local = Some(why);
            Vec::new()
        }
    }
}

fn validated(subject: &Subject, faults: Vec<Fault>) -> Validated {
    let kind = subject.value["resourceType"].as_str().unwrap_or_default();
    Validated {
        source: text::bounded(&text::one_line(&subject.source), 200),
        resource_type: match types::is_any_resource_type(kind) {
            true => kind.to_owned(),
            false => "unknown".to_owned(),
        },
        faults,
        server: None,
    }
}

/// Names what is wrong, once for those who have to mend it.
fn tell(topic: &mut Topic, details: &ValidateDetails, subjects: &[Subject]) {
    for party in [Party::Vendor, Party::Ours] {
        let own = details.resources.iter().zip(subjects).filter(|(_, it)| it.party == party);
        let own: Vec<&Validated> = own.map(|(validated, _)| validated).collect();
        for (severity, status) in
            [(Severity::Error, Status::Critical), (Severity::Warning, Status::Warning)]
        {
            let faults = |it: &Validated| {
                let count = it.faults.iter().filter(|fault| fault.severity == severity).count();
                (count > 0).then_some(count)
            };
            let Some(first) = own.iter().find(|it| faults(it).is_some()) else { continue };
            let Some(fault) = first.faults.iter().find(|fault| fault.severity == severity) else {
                continue;
            };
            let wrong = own.iter().filter(|it| faults(it).is_some()).count();
            let all: usize = own.iter().filter_map(|it| faults(it)).sum();
            let what = if severity == Severity::Error { "errors" } else { "warnings" };
            topic.problem(
                Problem::new(
                    Code::new("fhir.invalid_resource"),
                    format!(
                        "{wrong} of {} resources with {all} {what}, the first in {} line {}: {}: {}",
                        own.len(),
                        first.source,
                        fault.line.unwrap_or(1),
                        fault.path,
                        fault.message
                    ),
                )
                .at(status)
                .layer(Layer::Fhir)
                .by(party)
                .next_step(match party {
                    Party::Ours => "Mend the file at the places that are named.",
                    _ => "Send the vendor the paths; fhirctl diag NAME validate -o markdown has them.",
                }),
            );
        }
    }
}

/// Has the server validate, where it does and is to.
async fn remote(
    desk: &Desk,
    topic: &mut Topic,
    details: &mut ValidateDetails,
    subjects: &[Subject],
) {
    let wanted = desk.options.validate.remote;
    if wanted == Remote::Never {
        return;
    }
    let statement = declared::declared(desk).await.unwrap_or_default();
    let mut errors = 0;
    let mut words = None;
    for (validated, subject) in details.resources.iter_mut().zip(subjects).take(MOST_SENT) {
        let kind = &validated.resource_type;
        if kind == "unknown"
            || (wanted == Remote::Declared && !statement.has_operation(kind, "validate"))
        {
            continue;
        }
        let Ok(url) = desk.url(&format!("{kind}/$validate")) else { continue };
        let body = Body {
            content_type: "application/fhir+json",
            bytes: subject.text.as_bytes(),
            confidential: false,
        };
        let ask = Ask {
            method: Method::POST,
            body: Some(body),
            ..Ask::get(&url, "application/fhir+json")
        };
        let answer = tokio::time::timeout(REMOTE.min(desk.server.timeouts.total), desk.ask(&ask));
        let Some(answer) = answered(answer.await, kind, topic) else {
            validated.server = Some(RemoteVerdict {
                status: None,
                duration_ms: 0.0,
                errors: 0,
                warnings: 0,
                usable: false,
            });
            // A validator that hangs once would hang again.
            break;
        };
        let form = sniff(answer.content_type(), &answer.body);
        let outcome = OperationOutcome::parse(form, &answer.body);
        let count = |at: &dyn Fn(IssueSeverity) -> bool| {
            outcome.iter().flat_map(|it| &it.issues).filter(|issue| at(issue.severity)).count()
        };
        let wrong = count(&|severity| severity >= IssueSeverity::Error);
        let usable = outcome.is_some() && matches!(answer.status(), 200 | 400 | 412 | 422);
        validated.server = Some(RemoteVerdict {
            status: Some(answer.status()),
            duration_ms: answer.timing.total_ms,
            errors: wrong,
            warnings: count(&|severity| severity == IssueSeverity::Warning),
            usable,
        });
        if !usable {
            topic.problem(
                Problem::new(
                    Code::new("fhir.operation_failed"),
                    format!("{kind}/$validate gives no verdict: HTTP {}", answer.status()),
                )
                .server_text(outcome.map(|it| it.summary(limits::SERVER_TEXT_CHARS))),
            );
            break;
        }
        if wrong > 0 {
            errors += 1;
            words = words.or(outcome.map(|it| it.summary(limits::SERVER_TEXT_CHARS)));
        }
    }
    if errors > 0 {
        topic.problem(
            Problem::new(
                Code::new("fhir.invalid_resource"),
                format!("the server's own $validate finds errors in {errors} resources"),
            )
            .server_text(words),
        );
    }
}

/// The answer of a validator; one that does not answer is named.
fn answered(
    answer: std::result::Result<
        std::result::Result<crate::http::Exchange, Failure>,
        tokio::time::error::Elapsed,
    >,
    kind: &str,
    topic: &mut Topic,
) -> Option<crate::http::Exchange> {
    let why = match answer {
        Ok(Ok(exchange)) => return Some(exchange),
        Ok(Err(failure)) => failure.message,
        Err(_) => format!("no answer within {} s", REMOTE.as_secs()),
    };
    topic.problem(Problem::new(
        Code::new("fhir.operation_failed"),
        format!("{kind}/$validate does not come to an end: {why}"),
    ));
    None
}

fn show(topic: &mut Topic, details: &ValidateDetails) {
    match (&details.local, &details.not_local) {
        (Some(version), _) => topic.fact("locally", format!("by the definitions of {version}")),
        (None, Some(why)) => topic.fact("locally", format!("not: {why}")),
        _ => {}
    }
    let resources = details.resources.iter().take(SHOWN).map(|it| {
        let count = |severity| it.faults.iter().filter(|fault| fault.severity == severity).count();
        let server = match &it.server {
            None => "not asked".to_owned(),
            Some(said) if !said.usable => "no verdict".to_owned(),
            Some(said) => format!("{} errors, {:.0} ms", said.errors, said.duration_ms),
        };
        vec![
            it.source.clone(),
            it.resource_type.clone(),
            count(Severity::Error).to_string(),
            count(Severity::Warning).to_string(),
            server,
        ]
    });
    let head = ["resource", "type", "errors", "warnings", "$validate"];
    topic.table("", &head, resources.collect());
    let faults = details.resources.iter().flat_map(|it| {
        it.faults.iter().map(move |fault| {
            vec![
                severity(fault).to_owned(),
                it.source.clone(),
                fault.line.map(|line| line.to_string()).unwrap_or_default(),
                fault.path.clone(),
                match &fault.rule {
                    Some(rule) => format!("{} ({rule})", fault.message),
                    None => fault.message.clone(),
                },
            ]
        })
    });
    let head = ["severity", "resource", "line", "path", "what"];
    topic.table("faults", &head, faults.take(SHOWN).collect());
}

fn severity(fault: &Fault) -> &'static str {
    match (fault.kind, fault.severity) {
        (FaultKind::NotEvaluated | FaultKind::UnknownProfile, _) | (_, Severity::Info) => "note",
        (_, Severity::Warning) => "warning",
        (_, Severity::Error) => "error",
    }
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    let url = desk.url("Patient/$validate");
    let validate = url.map(|url| {
        curl(&desk.server, &url)
            .with(&["-H", "Content-Type: application/fhir+json", "--data-binary", "@FILE"])
            .about("FILE holds one resource as JSON")
    });
    validate.into_iter().collect()
}
