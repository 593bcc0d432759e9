//! Reading a server's page of metrics, whatever it holds.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, HeaderValue};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::meaning::{Reading, is_known, readings};
use super::prometheus::{Reader, Sample};
use crate::auth::caller::{Ask, Caller};
use crate::http::{Answer, Failure, Stage};
use crate::model::Code;
use crate::model::server::{MetricsFormat, MetricsPlace, ResourcesCheck, Server};

/// Most bytes of a page that are read: what comes later is not looked at.
pub const PAGE_BYTES: u64 = 16 * 1024 * 1024;
/// Most bytes of an answer in JSON.
const JSON_BYTES: u64 = 1024 * 1024;
const ACCEPT: &str = "text/plain;version=0.0.4, application/openmetrics-text;q=0.8, */*;q=0.1";
/// What is asked of Actuator, one request each: as few as tell of a trouble, or of the load.
const ASKED: [(&str, &str); 11] = [
    ("jvm.memory.used", "area:heap"),
    ("jvm.memory.max", "area:heap"),
    ("hikaricp.connections.active", ""),
    ("hikaricp.connections.max", ""),
    ("hikaricp.connections.pending", ""),
    ("disk.free", ""),
    ("disk.total", ""),
    ("jvm.threads.live", ""),
    ("tomcat.threads.busy", ""),
    ("tomcat.threads.config.max", ""),
    ("executor.queued", ""),
];

/// What a page gave.
#[derive(Debug)]
pub struct Page {
    /// `prometheus` or `actuator`.
    pub format: &'static str,
    pub bytes: u64,
    /// Samples on the page, whether they are known or not.
    pub samples: u64,
    /// Lines that are neither a sample nor a comment.
    pub strange: u64,
    /// Whether it was longer than what is read of one, or took longer.
    pub truncated: bool,
    pub readings: Vec<Reading>,
}

/// Where a server's metrics are.
///
/// # Errors
/// When the path makes no address.
pub fn address(server: &Server, place: &MetricsPlace) -> Result<Url, Failure> {
    let made = match place {
        MetricsPlace::Url(url) => return Ok(url.clone()),
        MetricsPlace::Path(path) if path.starts_with('/') => server.url.url().join(path),
        MetricsPlace::Path(path) => server.url.join(path),
    };
    made.map_err(|_| unusable("the path of the metrics makes no address"))
}

/// Reads a page until it ends, is too long, or takes longer than `patience`.
///
/// # Errors
/// `check.not_applicable` when the server does not show it to us, `server.metrics` when it is none,
/// and what keeps it from being reached.
pub async fn read(
    caller: &Caller,
    check: &ResourcesCheck,
    url: &Url,
    patience: Duration,
) -> Result<Page, Failure> {
    let end = Instant::now() + patience;
    // What came of a page until then is worth reading.
    let leave = end - patience / 10;
    let read = tokio::time::timeout_at(end, asked(caller, check, url, leave));
    read.await.unwrap_or_else(|_| Err(unusable("the metrics did not come to their end in time")))
}

fn unusable(message: impl Into<String>) -> Failure {
    Failure::new(Stage::Http, Code::new("server.metrics"), message)
}

async fn asked(
    caller: &Caller,
    check: &ResourcesCheck,
    url: &Url,
    leave: Instant,
) -> Result<Page, Failure> {
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
        (MetricsFormat::Actuator | MetricsFormat::Auto, true) => {
            let list = whole(&mut answer, first.to_vec()).await?;
            actuator(caller, url, &list).await
        }
        (MetricsFormat::Actuator, false) => {
            Err(unusable("the metrics are no JSON of Spring's Actuator"))
        }
        (MetricsFormat::Prometheus, true) => {
            Err(unusable("the metrics are JSON and not the text of Prometheus"))
        }
        (_, false) => text(&mut answer, &first, leave).await,
    }
}

/// Reads a page of Prometheus piece by piece: none of it is kept but what is known.
async fn text(answer: &mut Answer, first: &[u8], leave: Instant) -> Result<Page, Failure> {
    let mut reader = Reader::new(is_known);
    reader.push(first);
    let mut bytes = first.len() as u64;
    let truncated = loop {
        if bytes >= PAGE_BYTES || Instant::now() >= leave {
            break true;
        }
        match tokio::time::timeout_at(leave, answer.chunk()).await {
            Err(_) => break true,
            Ok(piece) => match piece? {
                Some(piece) => {
                    bytes += piece.len() as u64;
                    reader.push(&piece);
                    // So much text takes its time, and others wait for their answers meanwhile.
                    tokio::task::yield_now().await;
                }
                None => break false,
            },
        }
    };
    reader.finish();
    Ok(Page {
        format: "prometheus",
        bytes,
        samples: reader.seen,
        strange: reader.strange,
        truncated,
        readings: readings(&reader.samples),
    })
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

/// Asks Actuator for one metric after the other.
async fn actuator(caller: &Caller, url: &Url, list: &[u8]) -> Result<Page, Failure> {
    let names: Names = serde_json::from_slice(list).map_err(|_| {
        unusable("the metrics are JSON, and not the list that /actuator/metrics is")
    })?;
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
    Ok(Page {
        format: "actuator",
        bytes,
        samples: names.names.len() as u64,
        strange: 0,
        truncated: false,
        readings: readings(&samples),
    })
}
