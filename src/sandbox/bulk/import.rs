//! `$import`: the server fetches files and stores what is in them. Three families are understood:
//! HAPI's, Microsoft's, and the JSON manifest of the bulk import draft.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::answer::{Content as Said, Reply};
use super::super::fhir::outcome::{Refusal, outcome};
use super::super::fhir::store::{Store, instant};
use super::super::fhir::table;
use super::super::routes::is_id;
use super::super::site::{Site, locked};
use super::fetch::{Lines, fetch};
use super::kick_off::{prefer, value_of};
use super::plan::ImportStyle;
use super::{Bulk, BulkPlan, bundle};
use crate::model::Clock;
use crate::serve::{HeaderName, Method, Received, Request, StatusCode, header};

/// Most imports that are remembered.
const MOST: usize = 64;
/// Most inputs of one import.
const INPUTS: usize = 10_000;
/// Most errors of one input that are kept.
const ERRORS: usize = 10_000;

/// The imports of a server, oldest first.
#[derive(Debug, Default)]
pub(super) struct Imports {
    all: VecDeque<Import>,
}

#[derive(Debug)]
struct Import {
    id: String,
    style: ImportStyle,
    /// The URL of the kick-off.
    request: String,
    base: String,
    at: Timestamp,
    began: Instant,
    waits: u32,
    deleted: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    over: bool,
    rows: Vec<Row>,
}

/// One input and what became of it.
#[derive(Debug, Default)]
struct Row {
    kind: String,
    url: String,
    count: u64,
    errors: Vec<Value>,
    /// Whether it could not be fetched.
    failed: bool,
}

/// What an import is asked for.
struct Asked {
    style: ImportStyle,
    inputs: Vec<(String, String)>,
    /// `user:password` for the source.
    basic: Option<String>,
}

impl Bulk {
    /// Starts an import; called within the runtime.
    pub(super) fn import(&self, site: &Site, request: &Request) -> Result<Reply, Refusal> {
        if request.method != Method::POST {
            return Err(Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "not-supported",
                "$import is sent by POST",
            ));
        }
        if self.plan.import == Some(ImportStyle::None) {
            let why = "import is not offered here";
            return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "not-supported", why));
        }
        if !prefer(&request.headers).iter().any(|part| part == "respond-async") {
            return Err(Refusal::bad_request("required", "send Prefer: respond-async"));
        }
        let asked = Asked::read(request)?;
        if self.plan.import.is_some_and(|style| style != asked.style) {
            return Err(Refusal::bad_request("invalid", "this is not the form of $import here"));
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        let base = site.base_for(request);
        let status = format!("{base}{}", url_of(asked.style).replace("{job}", &id));
        let state = Arc::new(Mutex::new(State::default()));
        let mut imports = locked(&self.imports);
        imports.all.push_back(Import {
            id,
            style: asked.style,
            request: format!("{base}/$import"),
            base,
            at: site.now(),
            began: Instant::now(),
            waits: 0,
            deleted: false,
            state: state.clone(),
        });
        if imports.all.len() > MOST {
            imports.all.pop_front();
        }
        let task =
            Task { store: site.store.clone(), plan: self.plan.clone(), clock: site.clock(), state };
        tokio::spawn(task.run(asked));
        let said = outcome("information", "informational", "the import was accepted");
        Ok(Reply::new(StatusCode::ACCEPTED, Said::Resource(said))
            .with(header::CONTENT_LOCATION, &status))
    }

    /// Answers a poll or a DELETE.
    pub(super) fn import_status(
        &self,
        site: &Site,
        request: &Request,
        id: &str,
    ) -> Result<Reply, Refusal> {
        let mut imports = locked(&self.imports);
        let job = imports.all.iter_mut().find(|job| job.id == id && !job.deleted);
        let job = job.ok_or_else(|| Refusal::not_found(format!("there is no job {id} here")))?;
        if request.method == Method::DELETE {
            job.deleted = true;
            return Ok(Reply::new(StatusCode::ACCEPTED, Said::Empty));
        }
        let state = locked(&job.state);
        let wait = self.plan.wait.map(|wait| wait.0).unwrap_or_default();
        let polls = self.plan.polls.unwrap_or(1);
        if !state.over || job.waits < polls || job.began.elapsed() < wait {
            job.waits += 1;
            let progress = format!("{} inputs are read", state.rows.len());
            let reply = Reply::new(StatusCode::ACCEPTED, Said::Empty)
                .with(HeaderName::from_static("x-progress"), &progress);
            return Ok(match self.retry_after(site.now()) {
                Some(text) => reply.with(header::RETRY_AFTER, &text),
                None => reply,
            });
        }
        if job.style == ImportStyle::Hapi {
            let failed = state.rows.iter().any(|row| row.failed || !row.errors.is_empty());
            return match failed {
                true => Err(Refusal::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "processing",
                    told(&state.rows),
                )),
                false => Ok(Reply::ok(outcome("information", "informational", "Job is complete."))),
            };
        }
        let output: Vec<Value> = state
            .rows
            .iter()
            .filter(|row| row.count > 0)
            .map(|row| json!({"type": row.kind, "count": row.count, "inputUrl": row.url}))
            .collect();
        let errors: Vec<Value> = state
            .rows
            .iter()
            .enumerate()
            .filter(|(_, row)| !row.errors.is_empty())
            .map(|(n, row)| {
                json!({
                    "type": "OperationOutcome",
                    "count": row.errors.len(),
                    "inputUrl": row.url,
                    "url": format!("{}/bulk-import-errors/{}/{n}", job.base, job.id),
                })
            })
            .collect();
        let manifest = json!({
            "transactionTime": instant(job.at),
            "request": job.request,
            "requiresAccessToken": self.signed_in,
            "output": output,
            "error": errors,
        });
        let body = manifest.to_string().into_bytes().into();
        Ok(Reply::new(StatusCode::OK, Said::Text("application/json", body)))
    }

    /// Answers a request for the errors of an input.
    pub(super) fn import_errors(&self, id: &str, n: usize) -> Result<Reply, Refusal> {
        let imports = locked(&self.imports);
        let found = imports.all.iter().find(|job| job.id == id).and_then(|job| {
            let state = locked(&job.state);
            let lines = state.rows.get(n)?.errors.iter().map(|error| format!("{error}\n"));
            Some(lines.collect::<String>())
        });
        let text = found.ok_or_else(|| Refusal::not_found("there are no such errors"))?;
        Ok(Reply::new(StatusCode::OK, Said::Text("application/fhir+ndjson", text.into())))
    }
}

/// Where the status of an import is, below the base.
pub(super) fn url_of(style: ImportStyle) -> &'static str {
    match style {
        ImportStyle::Hapi => "/$import-poll-status?_jobId={job}",
        ImportStyle::Microsoft => "/_operations/import/{job}",
        ImportStyle::Manifest | ImportStyle::None => "/bulk-import/{job}",
    }
}

fn told(rows: &[Row]) -> String {
    let errors: usize = rows.iter().map(|row| row.errors.len()).sum();
    let first = rows.iter().find_map(|row| row.errors.first());
    let first = first.and_then(|error| error["issue"][0]["diagnostics"].as_str());
    format!("the import failed with {errors} errors, the first: {}", first.unwrap_or("unknown"))
}

impl Asked {
    fn read(request: &Request) -> Result<Asked, Refusal> {
        let Received::Whole(body) = &request.body else {
            let why = "the body is too long";
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too-long", why));
        };
        let document: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal::bad_request("structure", format!("no JSON: {error}")))?;
        let asked = match document["resourceType"].as_str() {
            Some("Parameters") => Asked::of_parameters(&document)?,
            Some(other) => {
                let why = format!("{other} is no form of $import");
                return Err(Refusal::bad_request("structure", why));
            }
            None => Asked::of_manifest(&document)?,
        };
        match asked.inputs.len() {
            1..=INPUTS => Ok(asked),
            _ => Err(Refusal::bad_request("required", format!("name from 1 to {INPUTS} inputs"))),
        }
    }

    fn of_parameters(document: &Value) -> Result<Asked, Refusal> {
        let rows = document["parameter"].as_array().map(Vec::as_slice).unwrap_or_default();
        let named = |name: &str| rows.iter().find(|row| row["name"] == name);
        let format = named("inputFormat");
        check_format(format.and_then(value_of).as_deref())?;
        let by_code = format.is_some_and(|row| row.get("valueCode").is_some());
        let is_hapi = named("storageDetail").is_some() || named("inputSource").is_some() || by_code;
        let mut inputs = Vec::new();
        for row in rows.iter().filter(|row| row["name"] == "input") {
            let part = |name: &str| {
                let parts = row["part"].as_array().map(Vec::as_slice).unwrap_or_default();
                parts.iter().find(|part| part["name"] == name).and_then(value_of)
            };
            let (Some(kind), Some(url)) = (part("type"), part("url")) else {
                return Err(Refusal::bad_request("required", "an input has a type and a url"));
            };
            inputs.push((kind, url));
        }
        let mut basic = None;
        if is_hapi {
            if named("inputSource").is_none() {
                return Err(Refusal::bad_request("required", "inputSource is missing"));
            }
            let detail = named("storageDetail").map(|row| &row["part"]);
            let parts = detail.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            basic =
                parts.iter().find(|part| part["name"] == "credentialHttpBasic").and_then(value_of);
        } else if let Some(mode) = named("mode").and_then(value_of)
            && !matches!(mode.as_str(), "InitialLoad" | "IncrementalLoad")
        {
            return Err(Refusal::bad_request("value", format!("{mode} is no mode of an import")));
        }
        let style = if is_hapi { ImportStyle::Hapi } else { ImportStyle::Microsoft };
        Ok(Asked { style, inputs, basic })
    }

    fn of_manifest(document: &Value) -> Result<Asked, Refusal> {
        check_format(document["inputFormat"].as_str())?;
        if document["inputSource"].as_str().is_none() {
            return Err(Refusal::bad_request("required", "inputSource is missing"));
        }
        let rows = document["input"].as_array().map(Vec::as_slice).unwrap_or_default();
        let word = |row: &Value, name: &str| row[name].as_str().map(str::to_owned);
        let inputs = rows.iter().map(|row| Some((word(row, "type")?, word(row, "url")?)));
        let inputs = inputs.collect::<Option<Vec<_>>>();
        let inputs = inputs
            .ok_or_else(|| Refusal::bad_request("required", "an input has a type and a url"))?;
        Ok(Asked { style: ImportStyle::Manifest, inputs, basic: None })
    }
}

fn check_format(format: Option<&str>) -> Result<(), Refusal> {
    match format {
        Some("application/fhir+ndjson") => Ok(()),
        other => Err(Refusal::bad_request(
            "not-supported",
            format!("inputFormat {} is not supported", other.unwrap_or("none")),
        )),
    }
}

/// An import at work.
struct Task {
    store: Arc<Mutex<Store>>,
    plan: BulkPlan,
    clock: Clock,
    state: Arc<Mutex<State>>,
}

impl Task {
    async fn run(self, asked: Asked) {
        for (kind, url) in asked.inputs {
            let mut row = Row { kind, url, ..Row::default() };
            if let Err(why) = self.input(&mut row, asked.basic.as_deref()).await {
                row.failed = true;
                row.errors.push(outcome("error", "exception", &format!("{}: {why}", row.url)));
            }
            locked(&self.state).rows.push(row);
        }
        locked(&self.state).over = true;
    }

    async fn input(&self, row: &mut Row, basic: Option<&str>) -> Result<(), String> {
        let mut lines: Lines = fetch(&row.url, basic).await?;
        let mut number = 0;
        while let Some(line) = lines.next().await? {
            number += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            match self.line(&row.kind, &line) {
                Ok(()) => row.count += 1,
                Err(why) if row.errors.len() < ERRORS => {
                    let text = format!("{} line {number}: {why}", row.url);
                    row.errors.push(outcome("error", "processing", &text));
                }
                Err(_) => return Err("too many errors".into()),
            }
        }
        Ok(())
    }

    fn line(&self, kind: &str, line: &[u8]) -> Result<(), String> {
        let resource: Value =
            serde_json::from_slice(line).map_err(|error| format!("no JSON: {error}"))?;
        let kind = table::find(kind).ok_or_else(|| format!("{kind} is not served here"))?;
        bundle::judge(&resource, kind, None, &self.plan).map_err(|refusal| refusal.text)?;
        let id = resource["id"].as_str().filter(|id| is_id(id)).ok_or("there is no id")?.to_owned();
        let mut store = locked(&self.store);
        let stored = store.update(kind.name, &id, resource, None, self.clock.now());
        stored.map(|_| ()).map_err(|refusal| refusal.text)
    }
}
