//! `write`: a synthetic record is created, read, changed and deleted again.
//!
//! Never by default and only with `--yes`. The record says of itself that it is a test, and it is
//! gone on every way out, an interruption among them.

use http::Method;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use url::Url;

use super::shell::{Command, curl};
use super::{Desk, Problem, Topic, TopicName};
use crate::auth::caller::Ask;
use crate::fhir::body::sniff;
use crate::fhir::capability;
use crate::http::{Body, Exchange, Failure};
use crate::model::{Code, Party};

const FHIR_JSON: &str = "application/fhir+json";
/// Types that hold a record of no person, the best first.
const TYPES: &[&str] = &["Basic", "List", "Binary", "Organization", "Patient"];

#[derive(Debug, Default, Serialize, JsonSchema)]
struct Details {
    resource_type: String,
    steps: Vec<Step>,
    /// Whether the record is gone again.
    is_gone: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Step {
    what: &'static str,
    /// The HTTP status code.
    status: u16,
    duration_ms: f64,
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let mut topic =
        Topic::new(TopicName::Write).good("a record was created, read, changed and deleted");
    let mut details = Details { resource_type: resource_type(desk).await, ..Details::default() };
    let mut made = None;
    let trouble = tokio::select! {
        result = steps(desk, &mut details, &mut made) => result.err(),
        // Whoever stops it still wants it cleaned up.
        _ = tokio::signal::ctrl_c() => Some(Problem::new(
            Code::new("check.deadline"), "stopped before all was tried")),
    };
    topic.problems.extend(trouble);
    if let Some(address) = made {
        clean_up(desk, &mut topic, &mut details, &address).await;
    }
    let row = |step: &Step| {
        vec![step.what.to_owned(), step.status.to_string(), format!("{:.0} ms", step.duration_ms)]
    };
    topic.fact("type", details.resource_type.as_str());
    topic.table("", &["step", "HTTP", "time"], details.steps.iter().map(row).collect());
    topic.details(&details);
    topic
}

/// A declared type that can be created and deleted; the first of ours where nothing is declared.
async fn resource_type(desk: &Desk) -> String {
    let declared = || async {
        let exchange = desk.statement().await.ok()?;
        let kind = sniff(exchange.content_type(), &exchange.body);
        let statement = capability::parse(kind, &exchange.body).ok()?;
        let can = |wanted: &&&str| {
            statement.resources().any(|resource| {
                resource.type_ == **wanted
                    && ["create", "delete"].iter().all(|&verb| {
                        resource.interactions.iter().any(|declared| declared.as_ref() == verb)
                    })
            })
        };
        TYPES.iter().find(can).map(|&name| name.to_owned())
    };
    declared().await.unwrap_or_else(|| TYPES[0].to_owned())
}

async fn steps(desk: &Desk, details: &mut Details, made: &mut Option<Url>) -> Result<(), Problem> {
    let kind = details.resource_type.clone();
    let setup = |failure: Failure| Problem::from(&failure);
    let all = desk.url(&kind).map_err(setup)?;
    let first = canary(&kind, "1", None).to_string();
    let created = send(desk, details, "create", Method::POST, &all, Some(&first)).await?;
    let id = id_of(&created, &kind);
    let address = match &id {
        Some(id) => desk.url(&format!("{kind}/{id}")).map_err(setup)?,
        None => return Err(refused("create", &created, "it does not say where the record is")),
    };
    *made = Some(address.clone());
    if created.status() != 201 {
        return Err(refused("create", &created, "HTTP 201 was due"));
    }
    let read = send(desk, details, "read", Method::GET, &address, None).await?;
    if read.status() != 200 {
        return Err(refused("read", &read, "the record that was just created is not there"));
    }
    let second = canary(&kind, "2", id.as_deref()).to_string();
    let updated = send(desk, details, "update", Method::PUT, &address, Some(&second)).await?;
    if !matches!(updated.status(), 200 | 201) {
        return Err(refused("update", &updated, "HTTP 200 was due"));
    }
    Ok(())
}

/// Deletes the record and makes sure of it.
async fn clean_up(desk: &Desk, topic: &mut Topic, details: &mut Details, address: &Url) {
    let deleted = send(desk, details, "delete", Method::DELETE, address, None).await;
    let gone = send(desk, details, "read again", Method::GET, address, None).await;
    details.is_gone = gone.as_ref().is_ok_and(|gone| matches!(gone.status(), 404 | 410));
    match deleted {
        Ok(deleted) if (200..300).contains(&deleted.status()) && details.is_gone => {}
        Ok(deleted) => topic.problem(
            refused("delete", &deleted, "the test record may still be there")
                .next_step(format!("delete it by hand: {address}")),
        ),
        Err(problem) => {
            topic.problem(problem.next_step(format!("delete the test record by hand: {address}")));
        }
    }
}

async fn send(
    desk: &Desk,
    details: &mut Details,
    what: &'static str,
    method: Method,
    url: &Url,
    body: Option<&str>,
) -> Result<Exchange, Problem> {
    let body = body.map(|text| Body {
        content_type: FHIR_JSON,
        bytes: text.as_bytes(),
        confidential: false,
    });
    let ask = Ask { method, body, ..Ask::get(url, FHIR_JSON) };
    let exchange = desk.ask(&ask).await.map_err(|failure| Problem::from(&failure))?;
    details.steps.push(Step {
        what,
        status: exchange.status(),
        duration_ms: (exchange.timing.total_ms * 1000.0).round() / 1000.0,
    });
    Ok(exchange)
}

fn refused(what: &str, exchange: &Exchange, due: &str) -> Problem {
    let status = exchange.status();
    let code = match status {
        401 => "auth.unauthorized",
        403 => "auth.forbidden",
        _ => "http.status",
    };
    let kind = sniff(exchange.content_type(), &exchange.body);
    let words = crate::fhir::outcome::OperationOutcome::parse(kind, &exchange.body)
        .map(|outcome| outcome.summary(crate::model::limits::SERVER_TEXT_CHARS));
    Problem::new(Code::new(code), format!("{what} of a test record: HTTP {status}; {due}"))
        .by(if status == 403 { Party::Ours } else { Party::Vendor })
        .server_text(words)
}

/// From `Location`, absolute or not, or from the record that came back (FHIR R4, §3.1.0.8).
fn id_of(created: &Exchange, kind: &str) -> Option<String> {
    let from_location = created.header("location").and_then(|location| {
        let mut parts = location.split(['?', '#']).next()?.split('/');
        parts.find(|part| *part == kind)?;
        parts.next().map(str::to_owned)
    });
    let from_body = || {
        let body: Value = serde_json::from_slice(&created.body).ok()?;
        (body["resourceType"] == kind).then(|| body["id"].as_str().map(str::to_owned))?
    };
    let id = from_location.or_else(from_body)?;
    // An id as FHIR has it leads nowhere else (FHIR R4, §2.24.0.1).
    let is_id = (1..=64).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        && id.bytes().any(|b| b != b'.');
    is_id.then_some(id)
}

/// A record of nobody that says what it is.
fn canary(kind: &str, version: &str, id: Option<&str>) -> Value {
    let tag =
        json!({"system": "urn:fhirctl", "code": "canary", "display": "synthetic test record"});
    let mut record = json!({"resourceType": kind, "meta": {"tag": [tag]}});
    let text = format!("fhirctl canary {version}");
    let more = match kind {
        "Basic" => json!({"code": {"text": text}}),
        "List" => json!({"status": "entered-in-error", "mode": "snapshot", "title": text}),
        "Binary" => json!({"contentType": "text/plain", "data": "Y2FuYXJ5"}),
        "Organization" => json!({"active": false, "name": text}),
        _ => json!({"active": false, "name": [{"text": text}]}),
    };
    if let (Some(record), Value::Object(more)) = (record.as_object_mut(), more) {
        record.extend(more);
        if let Some(id) = id {
            record.insert("id".to_owned(), id.into());
        }
    }
    record
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    let record = canary("Basic", "1", None).to_string();
    let post = |url: &Url| {
        let json = "Content-Type: application/fhir+json";
        curl(&desk.server, url)
            .about("delete what this creates: its address is in the Location header")
            .with(&["-X", "POST", "-H", json, "--data-raw", &record])
    };
    desk.url("Basic").map(|url| vec![post(&url)]).unwrap_or_default()
}
