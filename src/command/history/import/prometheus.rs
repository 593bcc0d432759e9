//! Readings out of a Prometheus, over its HTTP API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use url::Url;

use super::ImportArgs;
use crate::context::Context;
use crate::history::{Foreign, usual_code};
use crate::http::{Call, Client, Identity};
use crate::inventory::Inventory;
use crate::model::{Code, Error, ErrorKind, Result, Server, Status};

/// Prometheus gives at most 11,000 points a series.
const MOST_POINTS: i64 = 10_000;
/// Most bytes of one of its answers.
const MAX_BODY: u64 = 64 << 20;

/// What `query_range` answers.
#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    /// Seconds since the epoch, and the value as a text.
    values: Vec<(f64, String)>,
}

/// The rows of a window, by `probe_success` and `probe_duration_seconds`.
pub(super) async fn from_prometheus(
    args: &ImportArgs,
    address: &str,
    context: &Context,
    inventory: &Inventory,
) -> Result<Vec<Foreign>> {
    let name = args.server.as_deref().unwrap_or_default();
    let server = crate::command::check::exact(inventory, name)?;
    let chosen = args.window.choose(context.clock.now())?;
    let address = Url::parse(address)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| Error::usage("--prometheus is no address; write http://HOST:PORT"))?;
    if !address.username().is_empty() || address.password().is_some() {
        return Err(Error::usage("a password does not belong into a URL"));
    }
    let transport = Arc::clone(&context.surroundings(inventory).transport);
    // Nothing of the server's own is for a Prometheus.
    let mut plain: Server = server.clone();
    plain.network.allowed_addresses.clear();
    let client = Client::beside(&plain, &address, &Identity::default(), transport)
        .map_err(|failure| Error::new(ErrorKind::Unavailable, failure.message))?;
    let step = i64::try_from(args.step.as_millis()).unwrap_or(60_000).max(1_000);
    let mut rows = Vec::new();
    let mut from = chosen.window.from;
    while from < chosen.window.to {
        let to = (from + step * MOST_POINTS).min(chosen.window.to);
        let range = (from, to - 1, step);
        let success = ask(&client, &address, "probe_success", &args.matchers, range).await?;
        let took = ask(&client, &address, "probe_duration_seconds", &args.matchers, range).await?;
        let took: BTreeMap<i64, f64> = took.into_iter().collect();
        rows.extend(success.into_iter().filter_map(|(at, value)| {
            let status = if value >= 1.0 { Status::Healthy } else { Status::Critical };
            let code = usual_code(status);
            let seconds = took.get(&at).copied().unwrap_or(0.0).clamp(0.0, 1e6);
            // Clamped.
            Some(Foreign {
                server: name.into(),
                at: Timestamp::from_millisecond(at).ok()?,
                check: "probe".into(),
                status,
                party: code.map(Code::party),
                code: code.map(|code| code.as_str().into()),
                duration_us: (seconds * 1e6) as u64,
                http_status: None,
                exported: None,
            })
        }));
        from = to;
    }
    Ok(rows)
}

/// One series of one metric, as milliseconds since the epoch and values.
async fn ask(
    client: &Client,
    address: &Url,
    metric: &str,
    matchers: &str,
    (from, to, step): (i64, i64, i64),
) -> Result<Vec<(i64, f64)>> {
    let mut url = address.clone();
    let path = format!("{}/api/v1/query_range", address.path().trim_end_matches('/'));
    url.set_path(&path);
    let seconds = |ms: i64| format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000));
    url.query_pairs_mut()
        .append_pair("query", &format!("{metric}{{{matchers}}}"))
        .append_pair("start", &seconds(from))
        .append_pair("end", &seconds(to))
        .append_pair("step", &seconds(step));
    let call = Call {
        method: Method::GET,
        url: &url,
        accept: "application/json",
        headers: &[],
        credential: None,
        body: None,
        deadline: Instant::now() + Duration::from_secs(60),
    };
    let exchange = client.receive(&call, MAX_BODY).await.map_err(|failure| {
        Error::new(ErrorKind::Unavailable, format!("Prometheus: {}", failure.message))
    })?;
    if exchange.status() != 200 {
        return Err(Error::new(
            ErrorKind::Unavailable,
            format!("Prometheus answers HTTP {}", exchange.status()),
        )
        .hint("look whether --match holds label matchers such as instance=\"ehr\""));
    }
    let answer: Answer = serde_json::from_slice(&exchange.body).map_err(|error| {
        Error::new(ErrorKind::Data, format!("what Prometheus answers cannot be read: {error}"))
    })?;
    let mut series = answer.data.result;
    if series.len() > 1 {
        return Err(Error::new(
            ErrorKind::Data,
            format!("{} series of {metric} match; one server has one", series.len()),
        )
        .hint("narrow it with --match, such as --match 'instance=\"ehr\",job=\"blackbox\"'"));
    }
    let Some(series) = series.pop() else { return Ok(Vec::new()) };
    // A float is clamped by the cast.
    let point =
        |(at, value): (f64, String)| Some(((at * 1000.0).round() as i64, value.parse().ok()?));
    Ok(series.values.into_iter().filter_map(point).collect())
}
