//! `perf`: a short measured series, to say where the time goes.

use std::time::Instant;

use http::header::{ACCEPT_ENCODING, HeaderValue};
use schemars::JsonSchema;
use serde::Serialize;
use url::Url;

use super::shell::{Command, curl};
use super::{Desk, Layer, Problem, Topic, TopicName};
use crate::auth::caller::Ask;
use crate::http::{Exchange, Failure};
use crate::model::server::Threshold;
use crate::model::{Code, Party, Status, Timing, limits, text};

/// A measured series for programs.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PerfDetails {
    /// What was asked for, without the base URL.
    pub resource: &'static str,
    pub requests: Vec<PerfRequest>,
    /// Of the whole answers, in milliseconds.
    pub total_p50_ms: f64,
    pub total_max_ms: f64,
    /// How much sooner an answer is there on an open connection, in milliseconds.
    pub reuse_gain_ms: Option<f64>,
    /// How many bytes compression saves on the wire, in percent; `null` where the server sends none.
    pub compression_gain_percent: Option<f64>,
    /// What the server says that it took, in milliseconds.
    pub server_time_ms: Option<f64>,
    /// The header that says it.
    pub server_time_from: Option<String>,
}

/// One request of the series; phases in milliseconds.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PerfRequest {
    /// `new`, or `reused` where the connection was open.
    pub connection: &'static str,
    pub encoding: Option<String>,
    pub status: u16,
    pub timing: Timing,
    pub wire_bytes: u64,
    pub body_bytes: u64,
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let mut topic = Topic::new(TopicName::Perf);
    let series = match series(desk).await {
        Ok(series) => series,
        Err(failure) => {
            topic.problem(Problem::from(&failure));
            return topic;
        }
    };
    let details = details(&series);
    topic.message = format!(
        "the CapabilityStatement comes in {:.0} ms (median of {})",
        details.total_p50_ms,
        series.len()
    );
    if let Some(failed) = series.iter().find(|exchange| exchange.status() >= 400) {
        topic.note(format!(
            "Measured are answers with HTTP {}: what a refusal takes says little.",
            failed.status()
        ));
    } else {
        let timings: Vec<_> = series.iter().map(|exchange| exchange.timing).collect();
        topic.problems.extend(judge(&timings, desk.server.thresholds.metadata));
    }
    show(&mut topic, &details);
    topic.details(&details);
    topic
}

/// Three answers on connections of their own: the first on a new one, the last one not compressed.
async fn series(desk: &Desk) -> Result<Vec<Exchange>, Failure> {
    let url = desk.url("metadata")?;
    let caller = desk.caller().await?;
    let client = caller.client()?;
    let packed = [(ACCEPT_ENCODING, HeaderValue::from_static("gzip, br, zstd, deflate"))];
    let plain = [(ACCEPT_ENCODING, HeaderValue::from_static("identity"))];
    let signed = desk.server.metadata_needs_auth;
    let mut series = Vec::with_capacity(3);
    for headers in [&packed, &packed, &plain] {
        let ask = Ask { headers: headers.as_slice(), signed, ..Ask::get(&url, desk.accept()) };
        series.push(caller.fetch(&client, &ask, limits::BODY_BYTES).await?);
        if Instant::now() >= desk.deadline {
            break;
        }
    }
    Ok(series)
}

fn details(series: &[Exchange]) -> PerfDetails {
    let requests: Vec<_> = series
        .iter()
        .map(|exchange| PerfRequest {
            connection: if is_new(&exchange.timing) { "new" } else { "reused" },
            encoding: exchange
                .header("content-encoding")
                .map(|encoding| text::one_line(&text::bounded(encoding, 40))),
            status: exchange.status(),
            timing: exchange.timing,
            wire_bytes: exchange.http.wire_bytes,
            body_bytes: exchange.http.body_bytes,
        })
        .collect();
    let totals: Vec<_> = requests.iter().map(|request| request.timing.total_ms).collect();
    let new = requests.iter().find(|request| request.connection == "new");
    let reused = requests.iter().find(|request| request.connection == "reused");
    let packed = requests.iter().find(|request| request.encoding.is_some());
    let plain = requests.iter().find(|request| request.encoding.is_none());
    let (server_time_ms, server_time_from) = series.iter().find_map(server_time).unzip();
    PerfDetails {
        resource: "metadata",
        total_p50_ms: median(&totals),
        total_max_ms: totals.iter().copied().fold(0.0, f64::max),
        reuse_gain_ms: new
            .zip(reused)
            .map(|(new, reused)| new.timing.total_ms - reused.timing.total_ms),
        compression_gain_percent: packed.zip(plain).filter(|(_, plain)| plain.wire_bytes > 0).map(
            |(packed, plain)| 100.0 - packed.wire_bytes as f64 * 100.0 / plain.wire_bytes as f64,
        ),
        server_time_ms,
        server_time_from,
        requests,
    }
}

fn is_new(timing: &Timing) -> bool {
    timing.connect_ms.is_some()
}

/// Says which phase makes answers slow, where they are.
fn judge(timings: &[Timing], threshold: Threshold) -> Option<Problem> {
    let of = |phase: fn(&Timing) -> Option<f64>| {
        let all: Vec<_> = timings.iter().filter_map(phase).collect();
        median(&all)
    };
    let total = of(|timing| Some(timing.total_ms));
    let millis = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
    let (status, limit) = if total > millis(threshold.critical) {
        (Status::Critical, millis(threshold.critical))
    } else if total > millis(threshold.warning) {
        (Status::Warning, millis(threshold.warning))
    } else {
        return None;
    };
    let first_byte = of(|timing| timing.first_byte_ms);
    let transfer = of(|timing| timing.transfer_ms);
    let opening = of(|timing| {
        let parts = [timing.dns_ms, timing.connect_ms, timing.tls_ms];
        parts.iter().any(Option::is_some).then(|| parts.iter().flatten().sum())
    });
    // Opening counts only where every request had to: else the median has none of it.
    let opening = if timings.iter().all(is_new) { opening } else { 0.0 };
    let head =
        format!("an answer takes {total:.0} ms, above {limit:.0} ms (median of {})", timings.len());
    let slow = |message: String| Problem::new(Code::new("perf.slow"), message).at(status);
    Some(if first_byte >= transfer.max(opening) {
        slow(format!(
            "{head}: {first_byte:.0} ms of it pass before the first byte, while the server works on it"
        ))
        .layer(Layer::Server)
        .by(Party::Vendor)
        .next_step("Give the operator these times and the X-Request-Id; ask for load, database and caches.")
    } else if transfer >= opening {
        slow(format!("{head}: {transfer:.0} ms of it pass while the body comes over the network"))
            .layer(Layer::Tcp)
            .by(Party::Network)
            .next_step("Compare from another network, and see whether compression is on.")
    } else {
        slow(format!("{head}: {opening:.0} ms of it pass until a connection is open, every time"))
            .layer(Layer::Tcp)
            .by(Party::Network)
            .next_step("See why connections are not kept open, and how far away the server is.")
    })
}

/// The middle one; 0 of nothing.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// What the server says that it took, in milliseconds, and in which header: `Server-Timing`, or one of
/// those that gateways and frameworks write.
fn server_time(exchange: &Exchange) -> Option<(f64, String)> {
    if let Some(longest) = exchange.header("server-timing").and_then(longest_duration) {
        return Some((longest, "Server-Timing".to_owned()));
    }
    // What each counts in, as a share of a millisecond.
    [
        ("X-Envoy-Upstream-Service-Time", 1.0),
        ("X-Kong-Upstream-Latency", 1.0),
        ("X-Response-Time", 1.0),
        ("X-Runtime", 1000.0),
    ]
    .into_iter()
    .find_map(|(name, factor)| {
        let value = exchange.header(name)?.trim();
        let number: f64 = value.trim_end_matches("ms").trim().parse().ok()?;
        plausible(number * factor).map(|millis| (millis, name.to_owned()))
    })
}

/// The longest `dur` of a `Server-Timing` header: metrics may lie within each other.
fn longest_duration(header: &str) -> Option<f64> {
    header
        .split(',')
        .take(50)
        .flat_map(|metric| metric.split(';').skip(1))
        .filter_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            let is_duration = name.trim().eq_ignore_ascii_case("dur");
            is_duration.then(|| value.trim().trim_matches('"').parse().ok())?
        })
        .filter_map(plausible)
        .max_by(f64::total_cmp)
}

fn plausible(millis: f64) -> Option<f64> {
    (millis.is_finite() && (0.0..3_600_000.0).contains(&millis)).then_some(millis)
}

fn show(topic: &mut Topic, details: &PerfDetails) {
    let millis = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.1} ms"));
    let row = |request: &PerfRequest| {
        let timing = &request.timing;
        vec![
            request.connection.to_owned(),
            request.encoding.clone().unwrap_or_else(|| "-".to_owned()),
            millis(timing.dns_ms),
            millis(timing.connect_ms),
            millis(timing.tls_ms),
            millis(timing.first_byte_ms),
            millis(timing.transfer_ms),
            millis(Some(timing.total_ms)),
            request.wire_bytes.to_string(),
        ]
    };
    let mut rows: Vec<_> = details.requests.iter().map(row).collect();
    let phase = |of: fn(&Timing) -> Option<f64>| {
        let all: Vec<_> = details.requests.iter().filter_map(|one| of(&one.timing)).collect();
        millis((!all.is_empty()).then(|| median(&all)))
    };
    rows.push(vec![
        "median".to_owned(),
        String::new(),
        phase(|timing| timing.dns_ms),
        phase(|timing| timing.connect_ms),
        phase(|timing| timing.tls_ms),
        phase(|timing| timing.first_byte_ms),
        phase(|timing| timing.transfer_ms),
        millis(Some(details.total_p50_ms)),
        String::new(),
    ]);
    let head = [
        "connection",
        "encoding",
        "dns",
        "connect",
        "tls",
        "first byte",
        "transfer",
        "total",
        "bytes",
    ];
    topic.table("metadata", &head, rows);
    match details.reuse_gain_ms {
        Some(gain) => topic.fact("an open connection saves", format!("{gain:.1} ms")),
        None => topic.fact("an open connection saves", "unknown: no connection was kept open"),
    }
    match details.compression_gain_percent {
        Some(gain) => topic.fact("compression saves", format!("{gain:.0} % of the bytes")),
        None => topic.fact("compression saves", "nothing: the server does not compress"),
    }
    if let (Some(time), Some(from)) = (details.server_time_ms, &details.server_time_from) {
        topic.fact("the server says it took", format!("{time:.1} ms ({from})"));
    }
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    let Ok(url) = desk.url("metadata") else { return Vec::new() };
    vec![measured(desk, &url)]
}

fn measured(desk: &Desk, url: &Url) -> Command {
    let phases = "dns %{time_namelookup} connect %{time_connect} tls %{time_appconnect} \
                  first-byte %{time_starttransfer} total %{time_total} bytes %{size_download}\\n";
    curl(&desk.server, url)
        .with(&["-o", "/dev/null", "-w", phases])
        .about("seconds from the start to the end of each phase")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn timing(connect: Option<f64>, first_byte: f64, transfer: f64) -> Timing {
        Timing {
            dns_ms: None,
            connect_ms: connect,
            tls_ms: None,
            first_byte_ms: Some(first_byte),
            transfer_ms: Some(transfer),
            total_ms: connect.unwrap_or_default() + first_byte + transfer,
        }
    }

    #[test]
    fn a_slow_answer_is_blamed_on_its_slowest_phase() {
        let threshold =
            Threshold { warning: Duration::from_millis(100), critical: Duration::from_secs(1) };
        let new = Some(5.0);
        let far = Some(400.0);
        for (series, expected) in [
            ([timing(new, 20.0, 5.0), timing(None, 10.0, 5.0), timing(None, 10.0, 5.0)], None),
            // One slow answer of three is an accident.
            ([timing(new, 900.0, 5.0), timing(None, 10.0, 5.0), timing(None, 10.0, 5.0)], None),
            (
                [timing(new, 300.0, 5.0), timing(None, 310.0, 5.0), timing(None, 290.0, 5.0)],
                Some((Status::Warning, Layer::Server, Party::Vendor, "first byte")),
            ),
            (
                [timing(new, 3000.0, 5.0), timing(None, 3100.0, 5.0), timing(None, 290.0, 5.0)],
                Some((Status::Critical, Layer::Server, Party::Vendor, "first byte")),
            ),
            (
                [timing(new, 10.0, 500.0), timing(None, 10.0, 500.0), timing(None, 10.0, 500.0)],
                Some((Status::Warning, Layer::Tcp, Party::Network, "body")),
            ),
            (
                [timing(far, 10.0, 5.0), timing(far, 10.0, 5.0), timing(far, 10.0, 5.0)],
                Some((Status::Warning, Layer::Tcp, Party::Network, "connection is open")),
            ),
        ] {
            let found = judge(&series, threshold);
            let said = found.as_ref().map(|problem| {
                (problem.status, problem.layer, problem.party, problem.message.as_str())
            });
            match (said, expected) {
                (None, None) => {}
                (Some((status, layer, party, message)), Some(wanted)) => {
                    assert_eq!((status, layer, party), (wanted.0, wanted.1, wanted.2), "{message}");
                    assert!(message.contains(wanted.3), "{message}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn server_timing_is_read_as_it_is_written() {
        for (header, longest) in [
            ("db;dur=53, app;dur=47.2", Some(53.0)),
            ("total;desc=\"all\";dur=123.4", Some(123.4)),
            ("cache;desc=hit", None),
            ("x;dur=\"7\"", Some(7.0)),
            ("x;dur=NaN, y;dur=-1, z;dur=1e99", None),
            ("", None),
        ] {
            assert_eq!(longest_duration(header), longest, "{header}");
        }
    }
}
