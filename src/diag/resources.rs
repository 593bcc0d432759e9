//! `resources`: what the server says of its own memory, threads, pools and disk.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::shell::{Command, curl};
use super::{Desk, Problem, Topic, TopicName};
use crate::http::Failure;
use crate::model::server::ResourcesCheck;
use crate::model::{Code, Status};
use crate::probe::gauges::{PAGE_BYTES, Page, Reading, Unit, address, read};

/// The longest that the figures may take: they are beside the point where they take longer.
const PATIENCE: Duration = Duration::from_secs(15);

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

pub(super) async fn run(desk: &Desk) -> Topic {
    let Some(check) = &desk.server.checks.resources else {
        let why = "neither the preset nor the inventory names the server's metrics";
        return left_out(why);
    };
    match page(desk, check).await {
        Ok(page) => found(page),
        Err(failure) if failure.code.is_left_out() => left_out(&failure.message),
        Err(failure) => {
            let mut topic = Topic::new(TopicName::Resources);
            // Whoever cannot read a server's metrics can still use the server.
            topic.problem(Problem::from(&failure).at(Status::Warning));
            topic
        }
    }
}

async fn page(desk: &Desk, check: &ResourcesCheck) -> Result<Page, Failure> {
    let url = address(&desk.server, &check.place)?;
    let caller = desk.caller().await?;
    read(&caller, check, &url, desk.remaining().min(PATIENCE)).await
}

fn left_out(why: &str) -> Topic {
    Topic::left_out(TopicName::Resources, Code::new("check.not_applicable"), why)
}

fn found(page: Page) -> Topic {
    let strange = page.strange;
    let details = &ResourcesDetails {
        format: page.format,
        bytes: page.bytes,
        samples: page.samples,
        truncated: page.truncated,
        readings: page.readings,
    };
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
    if strange > 0 {
        topic.note(format!("{strange} lines of the page are no metrics."));
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
    let Some(Ok(url)) = place.map(|place| address(&desk.server, place)) else { return Vec::new() };
    if url.origin() == desk.server.url.url().origin() {
        return vec![curl(&desk.server, &url)];
    }
    // Elsewhere the credential does not go.
    vec![Command::new(&["curl", "-sS", url.as_str()])]
}
