//! What is declared, tried: read-only, counting only, a bounded number of requests.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use http::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Serialize;

use crate::diag::declared::{self, Declared, Kind};
use crate::diag::query::is_of;
use crate::diag::sample::{self, Came, Sample, search, what};
use crate::diag::{Desk, Problem, Topic};
use crate::fhir::body::sniff;
use crate::fhir::bundle::ignored_parameters;
use crate::fhir::capability::format_family;
use crate::fhir::resource;
use crate::http::Exchange;
use crate::model::{Code, Finding, Severity, Status};

/// Most requests of one probe.
const MOST_REQUESTS: usize = 400;
/// How long a probe may go on.
const MOST_TIME: Duration = Duration::from_secs(300);
/// Answers in a row that may stay out.
const MOST_SILENCE: usize = 3;
/// Rows that people are shown; programs get all.
const SHOWN: usize = 60;
/// Requests on their way at once; the server's rate limit holds as well.
const AT_ONCE: usize = 2;
/// Types whose declared read is tried with an id that nobody has.
const READS: usize = 20;
/// Search parameters of a type that are tried together.
const PARAMETERS: usize = 6;
/// Names in a message.
const NAMED: usize = 6;

/// Types that are asked for although they are not declared.
const UNDECLARED: [&str; 6] =
    ["Patient", "Observation", "Encounter", "Condition", "Practitioner", "Organization"];

/// Operations that only tell something and take nothing.
const HARMLESS: [&str; 2] = ["versions", "healthcheck"];

/// What came of it.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct ProbeDetails {
    pub requests: usize,
    /// Why it ended early, where it did.
    pub stopped: Option<String>,
    pub tried: Vec<Tried>,
}

/// One thing that was tried.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Tried {
    /// `search`, `parameters`, `read`, `format`, `operation`, `undeclared`.
    pub kind: &'static str,
    /// What was asked, without values.
    pub what: String,
    pub result: Result,
    /// The HTTP status; `null` when no answer came.
    pub status: Option<u16>,
    pub duration_ms: f64,
    /// In a few words.
    pub came: String,
}

/// How it came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Result {
    Works,
    /// It works though it is not declared.
    Undeclared,
    /// It is declared and does not work.
    Broken,
    /// It wants more than was sent, or does not let us in: nothing is known.
    Unclear,
}

impl Result {
    fn as_str(self) -> &'static str {
        match self {
            Result::Works => "works",
            Result::Undeclared => "works undeclared",
            Result::Broken => "broken",
            Result::Unclear => "unclear",
        }
    }
}

/// What a probe keeps in mind.
struct Probe<'d> {
    desk: &'d Desk,
    details: ProbeDetails,
    until: Instant,
    broken: Vec<(String, String, Option<String>)>,
}

pub(super) async fn run(
    desk: &Desk,
    topic: &mut Topic,
    declared: &Declared,
    statement: &Exchange,
    findings: &mut Vec<Finding>,
) -> ProbeDetails {
    let mut probe = Probe {
        desk,
        details: ProbeDetails::default(),
        until: Instant::now() + MOST_TIME,
        broken: Vec::new(),
    };
    probe.searches(declared).await;
    probe.tell_broken(topic, findings);
    probe.parameters(topic, declared).await;
    probe.reads(topic, declared, findings).await;
    probe.formats(topic, declared).await;
    probe.operations(topic, declared).await;
    probe.undeclared(topic, declared).await;
    probe.statement(statement, findings).await;
    probe.details
}

impl Probe<'_> {
    /// Whether there may be `more` requests.
    fn may(&self, more: usize) -> bool {
        self.details.stopped.is_none()
            && self.details.requests + more <= MOST_REQUESTS
            && Instant::now() < self.until
    }

    fn keep(&mut self, kind: &'static str, result: Result, sample: &Sample) {
        self.details.requests += 1;
        if matches!(sample.came, Came::Limited) && self.details.stopped.is_none() {
            let wait = sample.retry_after.map(|wait| format!(", wait {} s", wait.as_secs()));
            let why = format!("the server said: too often{}", wait.unwrap_or_default());
            self.details.stopped = Some(why);
        }
        self.details.tried.push(Tried {
            kind,
            what: sample.what.clone(),
            result,
            status: sample.status,
            duration_ms: sample.ms,
            came: sample.shown(),
        });
    }

    /// Sends paths a few at a time, in their order, until it is too much.
    async fn send(&mut self, paths: Vec<String>) -> Vec<Sample> {
        let mut samples = Vec::with_capacity(paths.len());
        let desk = self.desk;
        let room = MOST_REQUESTS.saturating_sub(self.details.requests);
        if self.details.stopped.is_some() {
            return samples;
        }
        let paths = paths.into_iter().take(room);
        let mut answers =
            stream::iter(paths.map(|path| async move { search(desk, &path, &[]).await }))
                .buffered(AT_ONCE);
        let mut silent = 0;
        let mut stopped = None;
        while let Some(sample) = answers.next().await {
            silent = if matches!(sample.came, Came::Silent(_)) { silent + 1 } else { 0 };
            if let Some(failure) = sample.hindrance() {
                stopped = Some(failure.message.clone());
            } else if silent == MOST_SILENCE {
                stopped = Some("the server does not answer any more".to_owned());
            } else if Instant::now() >= self.until {
                stopped = Some(format!("it took longer than {} s", MOST_TIME.as_secs()));
            }
            let is_enough = matches!(sample.came, Came::Limited) || stopped.is_some();
            samples.push(sample);
            if is_enough {
                break;
            }
        }
        drop(answers);
        self.details.stopped = stopped;
        samples
    }

    /// A count of every type that is declared to be searchable.
    async fn searches(&mut self, declared: &Declared) {
        let kinds: Vec<&Kind> =
            declared.kinds.iter().filter(|kind| kind.has("search-type")).collect();
        let paths = kinds.iter().map(|kind| format!("{}?_summary=count", kind.name)).collect();
        let samples = self.send(paths).await;
        for (kind, sample) in kinds.into_iter().zip(samples) {
            let result = match (&sample.came, sample.fault()) {
                (_, Some(why)) => {
                    self.broken.push((kind.name.clone(), why, sample.words.clone()));
                    Result::Broken
                }
                (Came::Bundle(_), None) => Result::Works,
                _ => Result::Unclear,
            };
            self.keep("search", result, &sample);
        }
    }

    /// Types that the inventory speaks of are critical, others a warning.
    fn tell_broken(&self, topic: &mut Topic, findings: &mut Vec<Finding>) {
        let wanted = declared::wanted(&self.desk.server);
        let (ours, others): (Vec<_>, Vec<_>) =
            self.broken.iter().partition(|(name, ..)| wanted.contains(name));
        for (list, status) in [(ours, Status::Critical), (others, Status::Warning)] {
            let Some((_, _, words)) = list.first() else { continue };
            let named = list.iter().map(|(name, why, _)| format!("{name} ({why})"));
            let message = format!("declared to be searchable, but broken: {}", several(named));
            findings.push(cs12(&message));
            topic.problem(
                Problem::new(Code::new("fhir.search_failed"), message)
                    .at(status)
                    .server_text(words.clone()),
            );
        }
    }

    /// Declared search parameters, several of a type in one search; one by one where that fails.
    async fn parameters(&mut self, topic: &mut Topic, declared: &Declared) {
        let broken: BTreeSet<String> = self.broken.iter().map(|(name, ..)| name.clone()).collect();
        let kinds = declared
            .kinds
            .iter()
            .filter(|kind| kind.has("search-type") && !broken.contains(&kind.name));
        let asked: Vec<(&str, Vec<String>)> = kinds
            .map(|kind| (kind.name.as_str(), samples_of(kind)))
            .filter(|(_, samples)| !samples.is_empty())
            .collect();
        let path =
            |name: &str, parts: &[String]| format!("{name}?{}&_summary=count", parts.join("&"));
        let paths: Vec<String> = asked.iter().map(|(name, parts)| path(name, parts)).collect();
        let answers = self.send(paths.clone()).await;
        let mut ignored = Vec::new();
        let mut failing = Vec::new();
        for (((name, parts), path_of), sample) in asked.iter().zip(&paths).zip(answers) {
            let fault = sample.fault().is_some();
            self.keep("parameters", worked(&sample), &sample);
            ignored.extend(left_out(name, path_of, &sample));
            if !fault || !self.may(parts.len()) {
                continue;
            }
            for part in parts {
                let alone = path(name, std::slice::from_ref(part));
                let sample = search(self.desk, &alone, &[]).await;
                if let Some(why) = sample.fault() {
                    let parameter = part.split('=').next().unwrap_or_default();
                    failing.push((format!("{name}?{parameter} ({why})"), sample.words.clone()));
                }
                self.keep("parameters", worked(&sample), &sample);
            }
        }
        if let Some((_, words)) = failing.first() {
            let words = words.clone();
            let message = format!(
                "search parameters that are declared, but broken: {}",
                several(failing.into_iter().map(|(text, _)| text))
            );
            topic.problem(
                Problem::new(Code::new("fhir.search_failed"), message)
                    .at(Status::Warning)
                    .server_text(words),
            );
        }
        if !ignored.is_empty() {
            topic.problem(Problem::new(
                Code::new("fhir.parameter_ignored"),
                format!(
                    "search parameters that are declared, but left out of the self link: {}",
                    several(ignored)
                ),
            ));
        }
    }

    /// A read of a record that nobody has: it is missed, not refused.
    async fn reads(&mut self, topic: &mut Topic, declared: &Declared, findings: &mut Vec<Finding>) {
        let wanted = declared::wanted(&self.desk.server);
        let mut kinds: Vec<&Kind> = declared.kinds.iter().filter(|kind| kind.has("read")).collect();
        kinds.sort_by_key(|kind| !wanted.contains(&kind.name));
        kinds.truncate(READS);
        let id = format!("fhirctl-none-{:08x}", fastrand::u32(..));
        let paths = kinds.iter().map(|kind| format!("{}/{id}", kind.name)).collect();
        let mut broken = Vec::new();
        for (kind, mut sample) in kinds.into_iter().zip(self.send(paths).await) {
            let result = match (sample.status, &sample.came) {
                (Some(404 | 410), _) => {
                    // As it should be.
                    sample.came = Came::Absent;
                    Result::Works
                }
                (Some(405 | 501), _) | (Some(500..), _) => {
                    broken.push(format!("{} (HTTP {})", kind.name, sample.status.unwrap_or(0)));
                    Result::Broken
                }
                _ => Result::Unclear,
            };
            self.keep("read", result, &sample);
        }
        broken.extend(self.versions(declared).await);
        if !broken.is_empty() {
            let message = format!("declared to be readable, but broken: {}", several(broken));
            findings.push(cs12(&message));
            topic.problem(Problem::new(Code::new("fhir.read_failed"), message).at(Status::Warning));
        }
    }

    /// History and an old version of a synthetic record, where they are declared.
    async fn versions(&mut self, declared: &Declared) -> Vec<String> {
        let mut broken = Vec::new();
        let Some(reference) = declared::synthetic(self.desk).await.into_iter().next() else {
            return broken;
        };
        let name = reference.split('/').next().unwrap_or_default();
        let Some(kind) = declared.kind(name).filter(|_| self.may(3)) else { return broken };
        let mut paths = Vec::new();
        if kind.has("history-instance") {
            paths.push(("history", format!("{reference}/_history?_count=1")));
        }
        if kind.has("vread")
            && let Ok(url) = self.desk.url(&reference)
            && let Ok(read) = self.desk.get(&url, &[]).await
        {
            self.details.requests += 1;
            let form = sniff(read.content_type(), &read.body);
            let facts = resource::facts(form, &read.body);
            let version = facts.and_then(|facts| facts.meta_version_id);
            if let Some(version) = version.filter(|it| declared::is_plain(it)) {
                paths.push(("vread", format!("{reference}/_history/{version}")));
            }
        }
        for (what, path) in paths {
            let mut sample = search(self.desk, &path, &[]).await;
            sample.what = format!("{} {what}", kind.name);
            let result = match sample.status {
                Some(200) => Result::Works,
                Some(404 | 405 | 501) | Some(500..) => Result::Broken,
                _ => Result::Unclear,
            };
            if result == Result::Broken {
                broken.push(format!("{} ({})", sample.what, sample.shown()));
            }
            self.keep("read", result, &sample);
            if let (Result::Works, Some(tried)) = (result, self.details.tried.last_mut()) {
                tried.came = "answered".to_owned();
            }
        }
        broken
    }

    /// Every declared format, over a count.
    async fn formats(&mut self, topic: &mut Topic, declared: &Declared) {
        let families: BTreeSet<String> =
            declared.formats.iter().take(20).map(|format| format_family(format)).collect();
        let Some(kind) = declared.common(&self.desk.server).map(|kind| kind.name.clone()) else {
            return;
        };
        let mut wrong = Vec::new();
        for (family, accept) in [("json", "application/fhir+json"), ("xml", "application/fhir+xml")]
        {
            if !families.contains(family) || !self.may(1) {
                continue;
            }
            let path = format!("{kind}?_summary=count");
            let Ok(url) = self.desk.url(&path) else { continue };
            let shown = format!("{} as {accept}", what(&path));
            let sample = sample::search_at(self.desk, &url, shown, accept, &[]).await;
            let is_served = is_of(sample.kind, family) && sample.bundle().is_some();
            let is_clear = sample.bundle().is_some() || matches!(sample.status, Some(406 | 415));
            let result = match (is_served, is_clear) {
                (true, _) => Result::Works,
                (false, true) => Result::Broken,
                (false, false) => Result::Unclear,
            };
            if result == Result::Broken {
                wrong.push(format!("{accept} ({})", sample.kind.as_str()));
            }
            self.keep("format", result, &sample);
        }
        if !wrong.is_empty() {
            topic.problem(Problem::new(
                Code::new("fhir.format_failed"),
                format!("formats that are declared, but not served: {}", wrong.join(", ")),
            ));
        }
    }

    /// Declared operations that take nothing and change nothing.
    async fn operations(&mut self, topic: &mut Topic, declared: &Declared) {
        let mut wrong = Vec::new();
        for name in HARMLESS {
            let is_declared = declared.operations.iter().any(|known| known == name);
            if !is_declared || !self.may(1) {
                continue;
            }
            let sample = search(self.desk, &format!("${name}"), &[]).await;
            let result = match sample.status {
                Some(200..=299) => Result::Works,
                Some(404 | 405 | 501) | Some(500..) | None => Result::Broken,
                _ => Result::Unclear,
            };
            if result == Result::Broken {
                wrong.push(format!("${name} ({})", sample.shown()));
            }
            self.keep("operation", result, &sample);
            // It answers with no Bundle, and need not.
            if let (Result::Works, Some(tried)) = (result, self.details.tried.last_mut()) {
                tried.came = "answered".to_owned();
            }
        }
        if !wrong.is_empty() {
            topic.problem(Problem::new(
                Code::new("fhir.operation_failed"),
                format!("operations that are declared, but fail: {}", wrong.join(", ")),
            ));
        }
    }

    /// Common types that are not declared; a type that nobody knows tells whether that means anything.
    async fn undeclared(&mut self, topic: &mut Topic, declared: &Declared) {
        let missing: Vec<&str> = UNDECLARED
            .into_iter()
            .filter(|name| !declared.kind(name).is_some_and(|kind| kind.has("search-type")))
            .collect();
        if missing.is_empty() || !self.may(missing.len() + 1) {
            return;
        }
        let nothing = search(self.desk, "FhirctlNone?_summary=count", &[]).await;
        let answers_all = nothing.bundle().is_some();
        self.keep("undeclared", Result::Unclear, &nothing);
        if answers_all {
            topic.note("the server answers searches for types that do not exist");
            return;
        }
        let paths = missing.iter().map(|name| format!("{name}?_summary=count")).collect();
        let mut found = Vec::new();
        for (name, sample) in missing.iter().zip(self.send(paths).await) {
            let works = sample.bundle().is_some();
            if works {
                found.push((*name).to_owned());
            }
            self.keep(
                "undeclared",
                if works { Result::Undeclared } else { Result::Unclear },
                &sample,
            );
        }
        if !found.is_empty() {
            topic.note(format!(
                "works, though it is not declared to be searchable: {}",
                found.join(", ")
            ));
        }
    }

    /// CS-14 and CS-19: whether the statement is revalidated, and what it says to browsers.
    async fn statement(&mut self, first: &Exchange, findings: &mut Vec<Finding>) {
        let Ok(url) = self.desk.url("metadata") else { return };
        if let Some(tag) = first.headers.get("etag").filter(|_| self.may(1)) {
            let header = [(HeaderName::from_static("if-none-match"), tag.clone())];
            self.details.requests += 1;
            if let Ok(again) = self.desk.get(&url, &header).await
                && again.status() == 200
            {
                findings.push(Finding {
                    id: "CS-19".to_owned(),
                    severity: Severity::Info,
                    message: "it has an ETag, but is sent whole to who knows it".to_owned(),
                });
            }
        }
        if !self.may(1) {
            return;
        }
        let origin = [(
            HeaderName::from_static("origin"),
            HeaderValue::from_static("https://app.example.org"),
        )];
        self.details.requests += 1;
        let Ok(asked) = self.desk.get_open(&url, &origin).await else { return };
        let allows = asked.header("access-control-allow-origin").is_some();
        let message =
            if allows { "browsers of other origins are let in" } else { "no CORS headers" };
        findings.push(Finding {
            id: "CS-14".to_owned(),
            severity: Severity::Info,
            message: message.to_owned(),
        });
    }
}

impl ProbeDetails {
    /// What people see: what does not work or was not expected; the rest as numbers.
    pub(super) fn show(&self, topic: &mut Topic) {
        let count = |result| self.tried.iter().filter(|tried| tried.result == result).count();
        topic.fact(
            "tried",
            format!(
                "{} requests: {} work, {} broken, {} unclear, {} work undeclared",
                self.requests,
                count(Result::Works),
                count(Result::Broken),
                count(Result::Unclear),
                count(Result::Undeclared),
            ),
        );
        if let Some(stopped) = &self.stopped {
            topic.note(format!("the probe ended early: {stopped}"));
        }
        let mut rows: Vec<&Tried> = self.tried.iter().collect();
        rows.sort_by_key(|tried| match tried.result {
            Result::Broken => 0,
            Result::Undeclared => 1,
            Result::Unclear => 2,
            Result::Works => 3,
        });
        let rows = rows.into_iter().map(|tried| {
            vec![
                tried.kind.to_owned(),
                tried.what.clone(),
                tried.result.as_str().to_owned(),
                format!("{:.0} ms", tried.duration_ms),
                tried.came.clone(),
            ]
        });
        let head = ["kind", "what", "result", "time", "came"];
        topic.table("tried, what does not work first", &head, rows.take(SHOWN).collect());
    }
}

fn cs12(message: &str) -> Finding {
    Finding { id: "CS-12".to_owned(), severity: Severity::Error, message: message.to_owned() }
}

fn worked(sample: &Sample) -> Result {
    match (&sample.came, sample.fault()) {
        (_, Some(_)) => Result::Broken,
        (Came::Bundle(_), None) => Result::Works,
        _ => Result::Unclear,
    }
}

/// Parameters of a search that its self link does not show, with their type.
fn left_out(kind: &str, path: &str, sample: &Sample) -> Vec<String> {
    let link = sample.bundle().and_then(|facts| facts.self_link.as_deref());
    ignored_parameters(path, link).into_iter().map(|name| format!("{kind}.{name}")).collect()
}

/// Some names, and how many more.
fn several(names: impl IntoIterator<Item = String>) -> String {
    let mut names = names.into_iter();
    let mut list: Vec<String> = names.by_ref().take(NAMED).collect();
    let rest = names.count();
    if rest > 0 {
        list.push(format!("and {rest} more"));
    }
    list.join(", ")
}

/// A few declared parameters with values that match nothing.
fn samples_of(kind: &Kind) -> Vec<String> {
    let value = |kind: &str| match kind {
        "string" | "token" => Some("fhirctl-none"),
        "date" => Some("lt1700-01-01"),
        "number" => Some("lt-1000000"),
        "uri" => Some("urn:fhirctl:none"),
        // References, quantities, composites and special ones mean too many things.
        _ => None,
    };
    let parameters = kind.parameters.iter().filter(|(name, _)| !name.starts_with('_'));
    parameters
        // A token may be a code of a fixed list or a truth: what is not of it is refused.
        .filter(|(name, _)| !matches!(name.as_str(), "active" | "deceased" | "gender" | "status"))
        .filter_map(|(name, kind)| value(kind).map(|value| format!("{name}={value}")))
        .take(PARAMETERS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_tried_with_values_that_match_nothing() {
        let parameter = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
        let kind = Kind {
            name: "Patient".to_owned(),
            parameters: vec![
                parameter("_id", "token"),
                parameter("family", "string"),
                parameter("active", "token"),
                parameter("birthdate", "date"),
                parameter("link", "reference"),
            ],
            ..Kind::default()
        };
        assert_eq!(samples_of(&kind), ["family=fhirctl-none", "birthdate=lt1700-01-01"]);
    }

    #[test]
    fn many_names_are_told_by_number() {
        let names = (0..9).map(|n| n.to_string());
        assert_eq!(several(names), "0, 1, 2, 3, 4, 5, and 3 more");
    }
}
