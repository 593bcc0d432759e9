//! `write`: a synthetic record is created, read, changed and deleted again.
//!
//! Never by default and only with `--yes`. The record says of itself that it is a test and has an
//! identifier of its own, by which it is found where a create's answer got lost. It is gone on every
//! way out, an interruption among them; where it cannot be deleted, the output says where it is.

use std::time::Duration;

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
use crate::http::{Body, Exchange, Failure, Stage};
use crate::model::{Code, Party, Status};

const FHIR_JSON: &str = "application/fhir+json";
/// Types that hold a record of no person and can be found by an identifier, the best first.
const TYPES: &[&str] = &["Basic", "List", "Organization", "Patient"];
/// Of the identifier that each record has of its own, so that it can be told from every other.
const SYSTEM: &str = "urn:fhirctl:canary";
/// How long a request that is under way is waited for once it is to end.
const FINISH: Duration = Duration::from_secs(10);
/// How long it may take to clean up.
const CLEAN_UP: Duration = Duration::from_secs(60);
/// How often a record whose fate is not known is looked for: an index may lag behind.
const LOOKS: usize = 3;
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

#[derive(Debug, Default, Serialize, JsonSchema)]
struct Details {
    resource_type: String,
    /// The identifier of the record, as `system|value`.
    identifier: String,
    steps: Vec<Step>,
    /// Whether there is no record, or none any more; `false` also where nobody can tell.
    is_gone: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Step {
    what: &'static str,
    /// The HTTP status code.
    status: u16,
    duration_ms: f64,
}

/// What is known of the record.
#[derive(Debug)]
enum Record {
    /// Nothing was stored.
    Nowhere,
    At(Url),
    /// The create was sent, and what came of it is not known.
    Perhaps,
}

/// Why a request has no answer.
enum Unanswered {
    Failed(Box<Failure>),
    /// The time was up, or it was to stop.
    Cut,
}

impl Unanswered {
    fn problem(&self, what: &str) -> Problem {
        match self {
            Unanswered::Failed(failure) => Problem::from(&**failure),
            Unanswered::Cut => Problem::new(
                Code::new("check.deadline"),
                format!("{what} of the test record was cut short"),
            ),
        }
    }
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let mut topic =
        Topic::new(TopicName::Write).good("a record was created, read, changed and deleted");
    let value = uuid::Uuid::new_v4().to_string();
    let mut details = Details {
        resource_type: resource_type(desk).await,
        identifier: format!("{SYSTEM}|{value}"),
        ..Details::default()
    };
    let mut record = Record::Nowhere;
    topic.problems.extend(steps(desk, &mut details, &value, &mut record).await.err());
    let cleaning = clean_up(desk, &mut topic, &mut details, &value, record);
    if tokio::time::timeout(CLEAN_UP, cleaning).await.is_err() {
        topic.problem(left(desk, &details, "it was not deleted in time"));
    }
    let row = |step: &Step| {
        vec![step.what.to_owned(), step.status.to_string(), format!("{:.0} ms", step.duration_ms)]
    };
    topic.fact("type", details.resource_type.as_str());
    topic.fact("identifier", details.identifier.as_str());
    topic.table("", &["step", "HTTP", "time"], details.steps.iter().map(row).collect());
    topic.details(&details);
    topic
}

/// A declared type that can be created and deleted; the first of ours where nothing is declared.
async fn resource_type(desk: &Desk) -> String {
    let statement = desk.statement().await.ok();
    statement.and_then(|exchange| declared(&exchange)).unwrap_or_else(|| TYPES[0].to_owned())
}

fn declared(exchange: &Exchange) -> Option<String> {
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
}

async fn steps(
    desk: &Desk,
    details: &mut Details,
    value: &str,
    record: &mut Record,
) -> Result<(), Problem> {
    let kind = details.resource_type.clone();
    let setup = |failure: Failure| Problem::from(&failure);
    let all = desk.url(&kind).map_err(setup)?;
    let first = canary(&kind, "1", value, None).to_string();
    let created = send(desk, details, "create", Method::POST, &all, Some(&first)).await;
    let created = match created {
        Ok(created) => created,
        Err(unanswered) => {
            if may_have_arrived(&unanswered) {
                *record = Record::Perhaps;
            }
            return Err(unanswered.problem("create"));
        }
    };
    let id = id_of(&created, &kind);
    match &id {
        Some(id) if created.status() < 300 => {
            *record = Record::At(desk.url(&format!("{kind}/{id}")).map_err(setup)?);
        }
        // Refused for what it is: nothing was stored.
        _ if (400..500).contains(&created.status()) && created.status() != 408 => {}
        _ => *record = Record::Perhaps,
    }
    let Record::At(address) = &*record else {
        let due = if created.status() < 300 {
            "it does not say where the record is"
        } else {
            "HTTP 201 was due"
        };
        return Err(refused("create", &created, due));
    };
    if created.status() != 201 {
        return Err(refused("create", &created, "HTTP 201 was due"));
    }
    let cut = |what: &'static str| move |unanswered: Unanswered| unanswered.problem(what);
    let read =
        send(desk, details, "read", Method::GET, address, None).await.map_err(cut("read"))?;
    if read.status() != 200 {
        return Err(refused("read", &read, "the record that was just created is not there"));
    }
    let second = canary(&kind, "2", value, id.as_deref()).to_string();
    let updated = send(desk, details, "update", Method::PUT, address, Some(&second))
        .await
        .map_err(cut("update"))?;
    if !matches!(updated.status(), 200 | 201) {
        return Err(refused("update", &updated, "HTTP 200 was due"));
    }
    Ok(())
}

/// Whether a request without an answer may have reached the server.
fn may_have_arrived(unanswered: &Unanswered) -> bool {
    match unanswered {
        Unanswered::Failed(failure) => failure.stage == Stage::Http,
        Unanswered::Cut => true,
    }
}

/// Deletes what is there, or may be, and makes sure of it.
async fn clean_up(
    desk: &Desk,
    topic: &mut Topic,
    details: &mut Details,
    value: &str,
    record: Record,
) {
    let addresses = match record {
        Record::Nowhere => {
            details.is_gone = true;
            return;
        }
        Record::At(address) => vec![address],
        Record::Perhaps => match find(desk, details, value).await {
            Ok(found) => found,
            Err(why) => {
                topic.problem(left(desk, details, &why));
                return;
            }
        },
    };
    if addresses.is_empty() {
        details.is_gone = true;
        topic.note("No record with the identifier is found: the create stored none.");
        return;
    }
    let mut gone = true;
    for address in addresses {
        gone &= delete(desk, topic, details, &address).await;
    }
    details.is_gone = gone;
}

/// Deletes one record; whether it is gone.
async fn delete(desk: &Desk, topic: &mut Topic, details: &mut Details, address: &Url) -> bool {
    let deleted = ask(desk, details, "delete", Method::DELETE, address, None).await;
    let again = ask(desk, details, "read again", Method::GET, address, None).await;
    let is_gone = again.as_ref().is_ok_and(|again| matches!(again.status(), 404 | 410));
    let step = format!("delete the test record by hand: {address}");
    match deleted {
        Ok(deleted) if (200..300).contains(&deleted.status()) && is_gone => return true,
        Ok(deleted) if is_gone => {
            topic.problem(refused("delete", &deleted, "HTTP 200 or 204 was due; it is gone"));
        }
        Ok(deleted) => {
            let due = format!("the test record may still be at {address}");
            topic.problem(refused("delete", &deleted, &due).at(Status::Critical).next_step(step));
        }
        Err(_) if is_gone => {}
        Err(failure) => {
            let problem = Problem::from(&failure);
            let message = format!("the test record may still be at {address}: {}", problem.message);
            topic.problem(Problem { message, ..problem }.at(Status::Critical).next_step(step));
        }
    }
    is_gone
}

/// A record that may be there and that nobody here can delete.
fn left(desk: &Desk, details: &Details, why: &str) -> Problem {
    let Details { resource_type: kind, identifier, .. } = details;
    Problem::new(
        Code::new("http.status"),
        format!("a test record may be left behind, {kind} with the identifier {identifier}: {why}"),
    )
    .at(Status::Critical)
    .next_step(format!(
        "look for it and delete it by hand: {}/{kind}?identifier={identifier}",
        desk.server.url.as_str().trim_end_matches('/')
    ))
}

/// Where the records with the identifier are, several looks apart; only those that carry it, or a
/// server that ignores the parameter would have others deleted.
async fn find(desk: &Desk, details: &mut Details, value: &str) -> Result<Vec<Url>, String> {
    let kind = details.resource_type.clone();
    let url = desk
        .url(&format!("{kind}?identifier={SYSTEM}%7C{value}&_count=10"))
        .map_err(|failure| failure.message)?;
    let mut trouble = None;
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        match ask(desk, details, "search", Method::GET, &url, None).await {
            Ok(answer) => match own(&answer, &kind, value) {
                Some(ids) if ids.is_empty() => trouble = None,
                Some(ids) => {
                    let at = |id: &String| desk.url(&format!("{kind}/{id}")).ok();
                    return Ok(ids.iter().filter_map(at).collect());
                }
                None => {
                    trouble = Some(format!(
                        "the search for it is answered with HTTP {}",
                        answer.status()
                    ));
                }
            },
            Err(failure) => trouble = Some(format!("it cannot be searched: {}", failure.message)),
        }
    }
    match trouble {
        Some(why) => Err(why),
        None => Ok(Vec::new()),
    }
}

/// Ids of the records of a Bundle that carry our identifier; `None`: it is no Bundle.
fn own(answer: &Exchange, kind: &str, value: &str) -> Option<Vec<String>> {
    if answer.status() != 200 {
        return None;
    }
    let bundle: Value = serde_json::from_slice(&answer.body).ok()?;
    if bundle["resourceType"] != "Bundle" {
        return None;
    }
    let is_ours = |record: &&Value| {
        record["resourceType"] == kind
            && record["identifier"].as_array().is_some_and(|all| {
                all.iter().any(|one| one["system"] == SYSTEM && one["value"] == value)
            })
    };
    let entries = bundle["entry"].as_array().into_iter().flatten();
    let ids = entries.map(|entry| &entry["resource"]).filter(is_ours);
    Some(
        ids.filter_map(|record| record["id"].as_str())
            .filter(|id| is_id(id))
            .map(str::to_owned)
            .collect(),
    )
}

/// Sends one step, unless it is to end; one that is under way then is waited for a while.
async fn send(
    desk: &Desk,
    details: &mut Details,
    what: &'static str,
    method: Method,
    url: &Url,
    body: Option<&str>,
) -> Result<Exchange, Unanswered> {
    let stop = &desk.options.stop;
    if stop.is_said() || desk.remaining().is_zero() {
        // Nothing of it was sent: this is no failure of a request that may have arrived.
        let failure = Failure::new(
            Stage::Setup,
            Code::new("check.deadline"),
            format!("stopped before the {what} of the test record"),
        );
        return Err(Unanswered::Failed(Box::new(failure)));
    }
    let mut asking = std::pin::pin!(ask(desk, details, what, method, url, body));
    let end = tokio::time::sleep(desk.remaining());
    let done = tokio::select! {
        done = &mut asking => Some(done),
        () = stop.said() => None,
        () = end => None,
    };
    let done = match done {
        Some(done) => Some(done),
        // A create that is left alone now is one that nobody knows the end of.
        None => tokio::time::timeout(FINISH, asking).await.ok(),
    };
    match done {
        Some(done) => done.map_err(|failure| Unanswered::Failed(Box::new(failure))),
        None => Err(Unanswered::Cut),
    }
}

async fn ask(
    desk: &Desk,
    details: &mut Details,
    what: &'static str,
    method: Method,
    url: &Url,
    body: Option<&str>,
) -> Result<Exchange, Failure> {
    let body = body.map(|text| Body {
        content_type: FHIR_JSON,
        bytes: text.as_bytes(),
        confidential: false,
    });
    let ask = Ask { method, body, ..Ask::get(url, FHIR_JSON) };
    let exchange = desk.ask(&ask).await?;
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
    from_location.or_else(from_body).filter(|id| is_id(id))
}

/// An id as FHIR has it leads nowhere else (FHIR R4, §2.24.0.1).
fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        && id.bytes().any(|b| b != b'.')
}

/// A record of nobody that says what it is.
fn canary(kind: &str, version: &str, value: &str, id: Option<&str>) -> Value {
    let tag =
        json!({"system": "urn:fhirctl", "code": "canary", "display": "synthetic test record"});
    let identifier = json!({"system": SYSTEM, "value": value});
    let mut record =
        json!({"resourceType": kind, "meta": {"tag": [tag]}, "identifier": [identifier]});
    let text = format!("fhirctl canary {version}");
    let more = match kind {
        "Basic" => json!({"code": {"text": text}}),
        "List" => json!({"status": "entered-in-error", "mode": "snapshot", "title": text}),
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
    // The run takes what the statement declares; where it was not asked for, the first of ours.
    let known = desk.known_statement().and_then(declared);
    let about = match &known {
        Some(_) => "delete what this creates: its address is in the Location header".to_owned(),
        None => format!(
            "delete what this creates: its address is in the Location header; the run takes the \
             first of {} that the server declares",
            TYPES.join(", ")
        ),
    };
    let kind = known.unwrap_or_else(|| TYPES[0].to_owned());
    let record = canary(&kind, "1", "by-hand", None).to_string();
    let post = |url: &Url| {
        let json = "Content-Type: application/fhir+json";
        curl(&desk.server, url).about(about).with(&[
            "-X",
            "POST",
            "-H",
            json,
            "--data-raw",
            &record,
        ])
    };
    desk.url(&kind).map(|url| vec![post(&url)]).unwrap_or_default()
}
