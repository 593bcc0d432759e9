//! `resources`: what the server says of its own memory, threads, pools and disk.

mod meaning;
mod prometheus;

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::shell::{Command, curl};
use super::{Desk, Problem, Topic, TopicName};
use crate::auth::caller::Ask;
use crate::http::{Answer, Failure, Stage};
use crate::model::server::{MetricsFormat, MetricsPlace, ResourcesCheck};
use crate::model::{Code, Status};

use meaning::{Reading, Unit, is_known, readings};
use prometheus::{Reader, Sample};

/// Most bytes of a page that are read: what comes later is not looked at.
const PAGE_BYTES: u64 = 16 * 1024 * 1024;
/// Most bytes of an answer in JSON.
const JSON_BYTES: u64 = 1024 * 1024;
/// The longest that the figures may take: they are beside the point where they take longer.
const PATIENCE: Duration = Duration::from_secs(15);
const ACCEPT: &str = "text/plain;version=0.0.4, application/openmetrics-text;q=0.8, */*;q=0.1";
/// What is asked of Actuator, one request each: as few as tell of a trouble.
const ASKED: [(&str, &str); 8] = [
    ("jvm.memory.used", "area:heap"),
    ("jvm.memory.max", "area:heap"),
    ("hikaricp.connections.active", ""),
    ("hikaricp.connections.max", ""),
    ("hikaricp.connections.pending", ""),
    ("disk.free", ""),
    ("disk.total", ""),
    ("jvm.threads.live", ""),
];

/// A server's own figures, for programs.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ResourcesDetails {
    /// `prometheus` or `actuator`.
    pub format: &'static str,
    pub bytes: u64,
    /// Samples on the page, whether they are known or not.
    pub samples: u64,
    /// Whether the page was longer than what is read of one, or took longer.
    pub truncated: bool,
    pub readings: Vec<Reading>,
}

/// What a page gave.
struct Page {
    details: ResourcesDetails,
    strange: u64,
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let Some(check) = &desk.server.checks.resources else {
        let why = "neither the preset nor the inventory names the server's metrics";
        return left_out(why);
    };
    let page = match address(desk, &check.place) {
        Ok(url) => read(desk, check, &url).await,
        Err(failure) => Err(failure),
    };
    match page {
        Ok(page) => found(&page),
        Err(failure) if failure.code.is_left_out() => left_out(&failure.message),
        Err(failure) => {
            let mut topic = Topic::new(TopicName::Resources);
            // Whoever cannot read a server's metrics can still use the server.
            topic.problem(Problem::from(&failure).at(Status::Warning));
            topic
        }
    }
}

fn left_out(why: &str) -> Topic {
    Topic::left_out(TopicName::Resources, Code::new("check.not_applicable"), why)
}

fn address(desk: &Desk, place: &MetricsPlace) -> Result<Url, Failure> {
    match place {
        MetricsPlace::Url(url) => Ok(url.clone()),
        MetricsPlace::Path(path) if path.starts_with('/') => desk
            .server
            .url
            .url()
            .join(path)
            .map_err(|_| unusable("the path of the metrics makes no address")),
        MetricsPlace::Path(path) => desk.url(path),
    }
}

fn unusable(message: impl Into<String>) -> Failure {
    Failure::new(Stage::Http, Code::new("server.metrics"), message)
}

async fn read(desk: &Desk, check: &ResourcesCheck, url: &Url) -> Result<Page, Failure> {
    let patience = desk.remaining().min(PATIENCE);
    let end = tokio::time::Instant::now() + patience;
    // What came of a page until then is worth reading.
    let leave = end - patience / 10;
    let late = || unusable("the metrics did not come to their end in time");
    let came = tokio::time::timeout_at(end, async {
        let caller = desk.caller().await?;
        // To another origin no credential goes: the caller sees to it.
        let client = caller.client_for(url)?;
        let plain = [(ACCEPT_ENCODING, HeaderValue::from_static("identity"))];
        client.admit(url).await;
        let ask = Ask { headers: &plain, ..Ask::get(url, ACCEPT) };
        let mut answer = caller.ask(&client, &ask).await?;
        let status = answer.status().as_u16();
        match status {
            200 => {}
            // Named by a preset it is only a guess that it is shown.
            401 | 403 | 404 => {
                return Err(Failure::new(
                    Stage::Http,
                    Code::new("check.not_applicable"),
                    format!("the server does not show its metrics to us (HTTP {status})"),
                ));
            }
            _ => return Err(unusable(format!("the server's metrics answer with HTTP {status}"))),
        }
        if let Some(encoding) = answer.header("content-encoding")
            && !encoding.eq_ignore_ascii_case("identity")
        {
            return Err(unusable("the metrics are compressed though that was not asked for"));
        }
        let first = loop {
            match answer.chunk().await? {
                Some(piece) if piece.is_empty() => {}
                piece => break piece.unwrap_or_default(),
            }
        };
        let is_json = first.trim_ascii_start().starts_with(b"{");
        match (check.format, is_json) {
            (MetricsFormat::Actuator, true) | (MetricsFormat::Auto, true) => {
                let list = whole(&mut answer, first.to_vec()).await?;
                actuator(desk, url, &list).await.map(Came::Read)
            }
            (MetricsFormat::Actuator, false) => {
                Err(unusable("the metrics are no JSON of Spring's Actuator"))
            }
            (MetricsFormat::Prometheus, true) => {
                Err(unusable("the metrics are JSON and not the text of Prometheus"))
            }
            (_, false) => text(&mut answer, &first, leave).await,
        }
    })
    .await
    .unwrap_or_else(|_| Err(late()))?;
    match came {
        Came::Read(page) => Ok(page),
        // So much text takes its time, and others wait for their answers meanwhile.
        Came::Text { page, truncated } => {
            tokio::task::spawn_blocking(move || parsed(&page, truncated))
                .await
                .map_err(|_| unusable("the page of metrics could not be read to its end"))
        }
    }
}

/// What came over the wire.
enum Came {
    Read(Page),
    /// A page of Prometheus, as far as anybody should read one.
    Text {
        page: Vec<u8>,
        truncated: bool,
    },
}

fn parsed(page: &[u8], truncated: bool) -> Page {
    let mut reader = Reader::new(&is_known);
    reader.push(page);
    reader.finish();
    let details = ResourcesDetails {
        format: "prometheus",
        bytes: page.len() as u64,
        samples: reader.seen,
        truncated,
        readings: readings(&reader.samples),
    };
    Page { details, strange: reader.strange }
}

/// Reads a page of Prometheus until it ends, is too long, or takes too long.
async fn text(
    answer: &mut Answer,
    first: &[u8],
    leave: tokio::time::Instant,
) -> Result<Came, Failure> {
    let most = usize::try_from(PAGE_BYTES).unwrap_or(usize::MAX);
    let mut page = first.to_vec();
    let truncated = loop {
        if page.len() > most {
            page.truncate(most);
            break true;
        }
        match tokio::time::timeout_at(leave, answer.chunk()).await {
            Err(_) => break true,
            Ok(piece) => match piece? {
                Some(piece) => page.extend_from_slice(&piece),
                None => break false,
            },
        }
    };
    Ok(Came::Text { page, truncated })
}

async fn whole(answer: &mut Answer, mut body: Vec<u8>) -> Result<Vec<u8>, Failure> {
    while let Some(piece) = answer.chunk().await? {
        body.extend_from_slice(&piece);
        if body.len() as u64 > JSON_BYTES {
            return Err(unusable("the list of metrics is longer than 1 MiB"));
        }
    }
    Ok(body)
}

/// What `/actuator/metrics` lists.
#[derive(Deserialize)]
struct Names {
    names: Vec<String>,
}

/// What `/actuator/metrics/NAME` answers.
#[derive(Deserialize)]
struct Metric {
    measurements: Vec<Measurement>,
}

#[derive(Deserialize)]
struct Measurement {
    statistic: String,
    value: f64,
}

/// Asks Actuator for one metric after the other, as few as tell of a trouble.
async fn actuator(desk: &Desk, url: &Url, list: &[u8]) -> Result<Page, Failure> {
    let names: Names = serde_json::from_slice(list).map_err(|_| {
        unusable("the metrics are JSON, and not the list that /actuator/metrics is")
    })?;
    let caller = desk.caller().await?;
    let client = caller.client_for(url)?;
    let mut samples: Vec<Sample> = Vec::new();
    let mut bytes = list.len() as u64;
    for (name, tag) in ASKED.iter().filter(|(name, _)| names.names.iter().any(|n| n == name)) {
        let mut one = url.clone();
        one.set_query(None);
        if let Ok(mut path) = one.path_segments_mut() {
            path.pop_if_empty().push(name);
        }
        if !tag.is_empty() {
            one.query_pairs_mut().append_pair("tag", tag);
        }
        let exchange =
            caller.fetch(&client, &Ask::get(&one, "application/json"), JSON_BYTES).await?;
        bytes += exchange.body.len() as u64;
        let Ok(metric) = serde_json::from_slice::<Metric>(&exchange.body) else { continue };
        let Some(first) = metric
            .measurements
            .iter()
            .find(|measured| measured.statistic.eq_ignore_ascii_case("value"))
        else {
            continue;
        };
        let labels: BTreeMap<_, _> = tag
            .split_once(':')
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        samples.push(Sample { name: name.replace('.', "_"), labels, value: first.value });
    }
    let details = ResourcesDetails {
        format: "actuator",
        bytes,
        samples: names.names.len() as u64,
        truncated: false,
        readings: readings(&samples),
    };
    Ok(Page { details, strange: 0 })
}

fn found(page: &Page) -> Topic {
    let details = &page.details;
    let mut topic = Topic::new(TopicName::Resources).good(match details.readings.len() {
        0 => "the server's metrics tell nothing that is known here".to_owned(),
        count => format!("nothing is short by {count} of the server's own figures"),
    });
    if details.samples == 0 {
        topic.problem(Problem::new(
            Code::new("server.metrics"),
            "what answers at the address of the server's metrics holds none",
        ));
    } else if details.truncated {
        topic.problem(Problem::new(
            Code::new("server.metrics"),
            format!(
                "the page of metrics is longer than {} MiB, or did not end in time, and was left there",
                PAGE_BYTES >> 20
            ),
        ));
    }
    for reading in details.readings.iter().filter(|one| one.status != Status::Healthy) {
        if let Some(code) = reading.code {
            topic.problem(Problem::new(code, message(reading)).at(reading.status));
        }
    }
    let row = |reading: &Reading| {
        vec![
            name(reading),
            shown(reading.unit, reading.value),
            reading.limit.map_or("-".to_owned(), |limit| shown(reading.unit, limit)),
            reading.percent.map_or("-".to_owned(), |percent| format!("{percent:.0} %")),
            reading.status.as_str().to_owned(),
        ]
    };
    let head = ["what", "value", "limit", "used", "status"];
    topic.table("the server's own figures", &head, details.readings.iter().map(row).collect());
    topic.fact("format", details.format);
    topic.fact("samples", format!("{} in {} bytes", details.samples, details.bytes));
    if page.strange > 0 {
        topic.note(format!("{} lines of the page are no metrics.", page.strange));
    }
    topic.details(details);
    topic
}

fn name(reading: &Reading) -> String {
    match &reading.of {
        Some(of) => format!("{} ({of})", reading.title),
        None => reading.title.clone(),
    }
}

fn message(reading: &Reading) -> String {
    let value = shown(reading.unit, reading.value);
    let used = match (reading.limit, reading.percent) {
        (Some(limit), Some(percent)) => {
            format!("{percent:.0} % used, {value} of {}", shown(reading.unit, limit))
        }
        _ => value,
    };
    let waiting = match reading.waiting {
        Some(waiting) if waiting > 0.0 => format!("; {waiting:.0} requests wait for one"),
        _ => String::new(),
    };
    format!("{} of the server: {used}{waiting}", name(reading))
}

fn shown(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Count => format!("{value:.0}"),
        Unit::Number => format!("{value:.2}"),
        Unit::Seconds => format!("{value:.3} s"),
        Unit::Share => format!("{:.0} %", value * 100.0),
        Unit::Bytes => {
            let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
            let mut value = value;
            let mut unit = 0;
            while value >= 1024.0 && unit + 1 < units.len() {
                value /= 1024.0;
                unit += 1;
            }
            format!("{value:.1} {}", units[unit])
        }
    }
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    let place = desk.server.checks.resources.as_ref().map(|check| &check.place);
    let Some(Ok(url)) = place.map(|place| address(desk, place)) else { return Vec::new() };
    if url.origin() == desk.server.url.url().origin() {
        return vec![curl(&desk.server, &url)];
    }
    // Elsewhere the credential does not go.
    vec![Command::new(&["curl", "-sS", url.as_str()])]
}
