//! `metadata`: the CapabilityStatement, what it says, and what the inventory expects of it.

use crate::fhir::ParseError;
use crate::fhir::body::{BodyKind, sniff};
use crate::fhir::capability::{self, Capability, JudgeContext, TlsFacts};
use crate::fhir::drift::Snapshot;
use crate::fhir::outcome::OperationOutcome;
use crate::http::Exchange;
use crate::model::server::{Format, Server};
use crate::model::{Code, Finding, Severity, Status, limits, text};
use crate::probe::Shown;
use crate::probe::session::{Session, document, judge_status, server_words};
use crate::probe::verdict::{Draft, Problem};

/// What is kept of a CapabilityStatement.
pub(in crate::probe) struct Statement {
    pub fhir_version: Option<String>,
    pub software: Option<String>,
    /// Only where it is asked for: it costs time.
    pub snapshot: Option<Snapshot>,
    /// Only in a test of every stage: a fleet need not carry it.
    pub shown: Option<Shown>,
}

/// The judgement, and what is kept of the statement where there is one.
pub(in crate::probe) async fn run(session: &mut Session<'_>) -> (Draft, Option<Statement>) {
    let url = match session.url("metadata") {
        Ok(url) => url,
        Err(problem) => return (Draft::default().with(problem), None),
    };
    let needs_auth = session.server.metadata_needs_auth;
    let exchange = match session.get_open_first(url, limits::BODY_BYTES, needs_auth).await {
        Ok(exchange) => exchange,
        Err(failure) => return (Draft::broken(&failure), None),
    };
    let draft = Draft::of(&exchange);
    match parse(&exchange, session.has_proof()) {
        Ok(capability) => {
            let statement = Statement {
                fhir_version: capability
                    .fhir_version
                    .as_deref()
                    .map(|version| text::one_line(&text::bounded(version, 40))),
                software: capability.software_label(),
                snapshot: session.options.wants_snapshot().then(|| Snapshot::of(&capability)),
                shown: session.options.every_stage.then(|| Shown::of(&capability, &exchange)),
            };
            (judge(session, &exchange, &capability, draft), Some(statement))
        }
        Err(problem) => {
            (draft.with(problem).judge_speed("metadata", session.server.thresholds.metadata), None)
        }
    }
}

fn parse(exchange: &Exchange, signed: bool) -> Result<Capability<'_>, Problem> {
    if let Some(problem) = judge_status(exchange, signed) {
        return Err(problem);
    }
    let kind = document(exchange)?;
    let words = || server_words(exchange);
    capability::parse(kind, &exchange.body).map_err(|error| match error {
        ParseError::NotFhir(why) => Problem::new(
            Code::new("fhir.not_fhir"),
            format!("/metadata answers with no FHIR document: {why}"),
        )
        .server_text(words()),
        ParseError::Malformed { line, column } => Problem::new(
            Code::new("fhir.malformed"),
            format!(
                "the document breaks off or is not well-formed at line {line}, column {column}"
            ),
        ),
        ParseError::WrongResource(found) if found == "OperationOutcome" => {
            let outcome = OperationOutcome::parse(kind, &exchange.body);
            let text = outcome.map(|outcome| outcome.summary(limits::SERVER_TEXT_CHARS));
            Problem::new(
                Code::new("fhir.operation_outcome"),
                "HTTP 200 with an OperationOutcome instead of a CapabilityStatement",
            )
            .server_text(text)
        }
        ParseError::WrongResource(found) => Problem::new(
            Code::new("fhir.not_a_capability_statement"),
            format!("/metadata answers with a resource of type {found}, not a CapabilityStatement"),
        ),
    })
}

fn judge(
    session: &Session<'_>,
    exchange: &Exchange,
    capability: &Capability<'_>,
    mut draft: Draft,
) -> Draft {
    let server = session.server;
    let served = served_format(exchange);
    let context = JudgeContext {
        base_url: server.url.as_str(),
        content_type: exchange.content_type(),
        format: served.unwrap_or(server.format),
        now: session.surroundings.clock.now(),
        tls: tls_facts(session),
    };
    draft.findings = capability::judge(capability, &context);
    draft.problems.extend(version_problem(server, capability));
    for unmet in capability::unmet(capability, &server.checks.metadata, served) {
        draft.problems.push(Problem::new(unmet.code, unmet.message));
    }
    if server.checks.metadata.strict {
        let strict: Vec<_> = draft.findings.iter().filter_map(strict_problem).collect();
        draft.problems.extend(strict);
    }
    draft.good(good(capability)).judge_speed("metadata", server.thresholds.metadata)
}

/// What the handshake told; `None` over plain HTTP.
fn tls_facts(session: &Session<'_>) -> Option<TlsFacts<'static>> {
    let certificate = session.client().certificate()?;
    let warning = session.server.tls.expiry_warning.as_secs() / 86_400;
    Some(TlsFacts {
        version: session.client().tls_version(),
        days_left: Some(certificate.days_left),
        warn_days: i64::try_from(warning).unwrap_or(i64::MAX),
    })
}

/// The registered version against the served one; where `expect` names one, `unmet` speaks.
fn version_problem(server: &Server, capability: &Capability<'_>) -> Option<Problem> {
    let expected = server.fhir_version.filter(|_| server.checks.metadata.fhir_version.is_none())?;
    let found = capability.version();
    (found != Some(expected)).then(|| {
        let served = capability.fhir_version.as_deref().map(|version| text::bounded(version, 20));
        Problem::new(
            Code::new("fhir.version_mismatch"),
            format!(
                "registered as {expected}, but the server says {}",
                served.as_deref().unwrap_or("nothing of its version")
            ),
        )
    })
}

fn strict_problem(finding: &Finding) -> Option<Problem> {
    let status = match finding.severity {
        Severity::Error => Status::Critical,
        Severity::Warning => Status::Warning,
        Severity::Info => return None,
    };
    Some(
        Problem::new(
            Code::new("fhir.invalid_resource"),
            format!("{}: {}", finding.id, finding.message),
        )
        .at(status),
    )
}

fn served_format(exchange: &Exchange) -> Option<Format> {
    match sniff(exchange.content_type(), &exchange.body) {
        BodyKind::Xml => Some(Format::Xml),
        BodyKind::Json => Some(Format::Json),
        _ => None,
    }
}

fn good(capability: &Capability<'_>) -> String {
    let version = capability.fhir_version.as_deref().unwrap_or("of no stated version");
    let types = capability.resources().count();
    text::one_line(&format!("FHIR {}, {types} resource types", text::bounded(version, 20)))
}
