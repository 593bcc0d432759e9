//! What a load test shows.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::LoadOptions;
use super::expect::Seen;
use crate::diag::Topic;
use crate::http::load::{Ended, Latency, Measured, Tally};

/// What was measured, beside what was asked.
pub struct Facts {
    pub names: Vec<String>,
    pub measured: Measured,
    /// All operations together.
    pub all: Tally,
    /// Good answers a second.
    pub rate: f64,
    details: LoadDetails,
}

/// A load test for programs.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LoadDetails {
    /// `closed`: each connection sends when it has its answer; `open`: on schedule.
    pub model: &'static str,
    /// Whether latencies are measured from when each request was due, so that requests that had to wait
    /// for a slow answer before them are not left out of it (coordinated omission).
    pub corrected: bool,
    pub connections: usize,
    /// Requests a second that were asked for.
    pub asked_rate: Option<f64>,
    pub elapsed_s: f64,
    /// `time`, `requests`, `errors` or `asked`.
    pub ended: &'static str,
    /// Requests that came to their end, with or without an answer.
    pub requests: u64,
    pub failures: u64,
    /// Good answers a second.
    pub rate: f64,
    /// Bytes of bodies, as they came over the wire.
    pub bytes: u64,
    pub latency: Percentiles,
    /// Answers by class of status: `2xx` and so on.
    pub statuses: BTreeMap<String, u64>,
    /// What failed: reason codes of requests without an answer, statuses of 300 and above, and
    /// `fhir.not_fhir` for answers that say success and are not FHIR.
    pub errors: BTreeMap<String, u64>,
    pub operations: Vec<OperationDetails>,
    /// Connections that were opened, and how long that took.
    pub connects: Percentiles,
    /// With a rate: requests that were due.
    pub scheduled: Option<u64>,
    /// With a rate: requests that were late because every connection was busy.
    pub late: Option<u64>,
    /// Requests without an answer when it ended.
    pub unfinished: u64,
    pub token_renewals: u64,
    /// The `X-Request-Id` of every request.
    pub request_id: String,
    pub expectations: Vec<ExpectationDetails>,
}

/// One operation of the mix.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct OperationDetails {
    /// Without ids and values.
    pub name: String,
    pub requests: u64,
    pub failures: u64,
    pub bytes: u64,
    pub latency: Percentiles,
}

/// One threshold and what became of it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ExpectationDetails {
    pub expected: String,
    pub seen: String,
    pub met: bool,
}

/// In milliseconds; `null` where nothing was measured.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Percentiles {
    pub count: u64,
    pub min: Option<f64>,
    pub mean: Option<f64>,
    pub p50: Option<f64>,
    pub p75: Option<f64>,
    pub p90: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    pub p99_9: Option<f64>,
    pub max: Option<f64>,
}

impl Percentiles {
    fn of(latency: &Latency) -> Percentiles {
        Percentiles {
            count: latency.count(),
            min: latency.min(),
            mean: latency.mean(),
            p50: latency.percentile(50.0),
            p75: latency.percentile(75.0),
            p90: latency.percentile(90.0),
            p95: latency.percentile(95.0),
            p99: latency.percentile(99.0),
            p99_9: latency.percentile(99.9),
            max: latency.max(),
        }
    }

    fn row(&self) -> Vec<String> {
        [self.p50, self.p90, self.p95, self.p99, self.p99_9, self.max].map(shown).to_vec()
    }
}

fn shown(millis: Option<f64>) -> String {
    match millis {
        None => "-".to_owned(),
        Some(millis) if millis >= 10_000.0 => format!("{:.1} s", millis / 1000.0),
        Some(millis) if millis >= 100.0 => format!("{millis:.0} ms"),
        Some(millis) => format!("{millis:.2} ms"),
    }
}

/// `2.5 s`.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

impl Facts {
    pub fn new(options: &LoadOptions, names: Vec<String>, measured: Measured) -> Facts {
        let mut all = Tally::default();
        for tally in &measured.operations {
            all.add(tally);
        }
        let elapsed = measured.elapsed.as_secs_f64();
        let good = all.requests() - all.failures();
        let rate = if elapsed > 0.0 { good as f64 / elapsed } else { 0.0 };
        let details = details(options, &names, &measured, &all, rate);
        Facts { names, measured, all, rate, details }
    }

    pub fn show(&self, topic: &mut Topic) {
        let details = &self.details;
        topic.details(details);
        let model = match details.asked_rate {
            Some(rate) => format!(
                "open: {rate} requests a second on schedule over {} connections; latency from when \
                 each was due",
                details.connections
            ),
            None => format!(
                "closed: {} connections, each with one request at a time; a stalled server is asked \
                 less, which flatters its percentiles (--rate does not)",
                details.connections
            ),
        };
        topic.fact("model", model);
        topic.fact("requests", format!("{} in {:.1} s", details.requests, details.elapsed_s));
        topic.fact("good answers a second", format!("{:.1}", details.rate));
        topic.fact("failed", details.failures.to_string());
        topic.fact("bytes of bodies", details.bytes.to_string());
        let counts = |counts: &BTreeMap<String, u64>| {
            let all: Vec<_> =
                counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            all.join(", ")
        };
        if !details.statuses.is_empty() {
            topic.fact("statuses", counts(&details.statuses));
        }
        if !details.errors.is_empty() {
            topic.fact("failures", counts(&details.errors));
        }
        topic.fact(
            "connections opened",
            format!("{}, p95 {}", details.connects.count, shown(details.connects.p95)),
        );
        if let (Some(scheduled), Some(late)) = (details.scheduled, details.late) {
            topic.fact("due by the schedule", format!("{scheduled}, of which {late} began late"));
        }
        if details.unfinished > 0 {
            topic.fact("without an answer at the end", details.unfinished.to_string());
        }
        topic.fact("X-Request-Id of all", details.request_id.clone());
        let line = |name: &str, tally: &Tally, latency: &Percentiles| {
            let mut row =
                vec![name.to_owned(), tally.requests().to_string(), tally.failures().to_string()];
            row.extend(latency.row());
            row
        };
        let mut rows: Vec<_> = self
            .names
            .iter()
            .zip(&self.measured.operations)
            .zip(&details.operations)
            .map(|((name, tally), details)| line(name, tally, &details.latency))
            .collect();
        if rows.len() > 1 {
            rows.push(line("all", &self.all, &details.latency));
        }
        let head =
            ["operation", "requests", "failed", "p50", "p90", "p95", "p99", "p99.9", "longest"];
        topic.table("latency", &head, rows);
        let row = |one: &ExpectationDetails| {
            let met = if one.met { "met" } else { "not met" };
            vec![one.expected.clone(), one.seen.clone(), met.to_owned()]
        };
        topic.table(
            "expectations",
            &["expected", "seen", "result"],
            details.expectations.iter().map(row).collect(),
        );
        topic.note("The inventory's rate limit does not hold here: load was asked for by name.");
        if details.ended == "asked" {
            topic.note("Ended by hand before its time; this is what was measured until then.");
        }
    }
}

fn details(
    options: &LoadOptions,
    names: &[String],
    measured: &Measured,
    all: &Tally,
    rate: f64,
) -> LoadDetails {
    let seen =
        Seen { latency: &all.latency, requests: all.requests(), failures: all.failures(), rate };
    let by_class = (1..).zip(all.classes).filter(|(_, count)| *count > 0);
    let without = all.errors.iter().map(|(code, count)| (code.to_string(), *count));
    let refused = all.refused.iter().map(|(status, count)| (status.to_string(), *count));
    let unlike = (all.unlike > 0).then(|| ("fhir.not_fhir".to_owned(), all.unlike));
    let operation = |(name, tally): (&String, &Tally)| OperationDetails {
        name: name.clone(),
        requests: tally.requests(),
        failures: tally.failures(),
        bytes: tally.bytes,
        latency: Percentiles::of(&tally.latency),
    };
    let held = |expectation: &super::Expectation| {
        let (seen, met) = expectation.judge(&seen);
        ExpectationDetails { expected: expectation.to_string(), seen, met }
    };
    LoadDetails {
        model: if options.rate.is_some() { "open" } else { "closed" },
        corrected: options.rate.is_some(),
        connections: options.connections,
        asked_rate: options.rate,
        elapsed_s: (measured.elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
        ended: match measured.ended {
            Ended::Time => "time",
            Ended::Requests => "requests",
            Ended::Errors => "errors",
            Ended::Asked => "asked",
        },
        requests: all.requests(),
        failures: all.failures(),
        rate: (rate * 1000.0).round() / 1000.0,
        bytes: all.bytes,
        latency: Percentiles::of(&all.latency),
        statuses: by_class.map(|(class, count): (u8, u64)| (format!("{class}xx"), count)).collect(),
        errors: without.chain(refused).chain(unlike).collect(),
        operations: names.iter().zip(&measured.operations).map(operation).collect(),
        connects: Percentiles::of(&measured.connects),
        scheduled: measured.scheduled,
        late: measured.scheduled.map(|_| measured.late),
        unfinished: measured.unfinished,
        token_renewals: measured.renewals,
        request_id: measured.request_id.clone(),
        expectations: options.expect.iter().map(held).collect(),
    }
}
