//! `bulk`: exports of this server that do not get on, and how old the newest data are.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::shell::{Command, curl};
use super::{Desk, Problem, Topic, TopicName};
use crate::auth::caller::Ask;
use crate::bulk::export::Stopped;
use crate::bulk::known::{self, Job, Known};
use crate::model::{Code, Party, Status};

/// No more than these, the newest, are looked at.
const MOST: usize = 20;
/// A job that nobody waits for is asked about after this.
const ALONE: SignedDuration = SignedDuration::from_mins(30);
/// A job that has run for longer is called stuck.
const STUCK: SignedDuration = SignedDuration::from_hours(24);

#[derive(Debug, Serialize, JsonSchema)]
struct Details {
    exports: Vec<Export>,
    /// How old the newest complete data are, in seconds, by the server's transaction time.
    watermark_lag_s: Option<i64>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Export {
    id: String,
    place: String,
    phase: &'static str,
    created_at: Timestamp,
    transaction_time: Option<String>,
    /// Why the last run stopped.
    stopped: Option<String>,
    /// What the server said of the job just now.
    job_status: Option<u16>,
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let not_here =
        |why: &str| Topic::left_out(TopicName::Bulk, Code::new("check.not_applicable"), why);
    let Some(state) = &desk.options.state else { return not_here("there is no state folder") };
    let known = match known::of_server(state, &desk.server) {
        Ok(known) => known,
        Err(error) => return not_here(&error.message),
    };
    if known.is_empty() {
        return not_here("no export of this server is known on this machine");
    }
    let now = desk.surroundings.clock.now();
    let mut topic = Topic::new(TopicName::Bulk);
    let mut exports = Vec::new();
    // What failed long ago and worked since is history.
    let mut is_newest = true;
    for export in known.iter().take(MOST) {
        let job_status = job(desk, &mut topic, export, now).await;
        if is_newest {
            judge(&mut topic, export);
        }
        is_newest &= export.conclusion.is_none();
        exports.push(Export {
            id: export.identity.id.clone(),
            place: export.identity.place(),
            phase: phase(export),
            created_at: export.identity.created_at,
            transaction_time: export.conclusion.as_ref().and_then(|it| it.transaction_time.clone()),
            stopped: export.stopped.as_ref().map(|stopped| stopped.code.clone()),
            job_status,
        });
    }
    let lag = known
        .iter()
        .filter_map(|export| export.conclusion.as_ref()?.transaction_time.as_deref()?.parse().ok())
        .max()
        .map(|newest: Timestamp| now.as_second() - newest.as_second());
    if let Some(lag) = lag {
        topic.fact("newest complete data", format!("{} old", age(lag)));
    }
    let row = |export: &Export| {
        vec![
            export.created_at.strftime("%Y-%m-%d %H:%M").to_string(),
            export.phase.to_owned(),
            export.stopped.clone().unwrap_or_default(),
            export.job_status.map(|status| format!("HTTP {status}")).unwrap_or_default(),
            export.place.clone(),
        ]
    };
    let rows = exports.iter().map(row).collect();
    topic.table("", &["begun", "phase", "stopped by", "job now", "place"], rows);
    topic.details(&Details { exports, watermark_lag_s: lag });
    topic.good("the exports of this server get on")
}

fn phase(export: &Known) -> &'static str {
    match &export.conclusion {
        _ if export.is_cancelled => "cancelled",
        Some(conclusion) => conclusion.status.as_str(),
        None if export.worker.is_none()
            && export.stopped.as_ref().is_some_and(Stopped::is_final) =>
        {
            "failed"
        }
        None if export.has_manifest => "downloading",
        None if export.job.is_some() => "waiting",
        None => "begun",
    }
}

/// What the last run of an export says of it.
fn judge(topic: &mut Topic, export: &Known) {
    if export.is_cancelled {
        return;
    }
    let place = export.identity.place();
    if let Some(conclusion) = &export.conclusion {
        let worst = export
            .findings
            .iter()
            .find(|finding| finding.severity == crate::bulk::ledger::Severity::Error);
        if conclusion.exit_code != 0
            && let Some(worst) = worst
            && let Some(code) = Code::find(&worst.code)
        {
            let message = format!(
                "the export in {place} ended {}: {}",
                conclusion.status.as_str().replace('_', " "),
                worst.message
            );
            topic.problem(Problem::new(code, message).at(Status::Warning));
        }
        return;
    }
    if let Some(stopped) = &export.stopped
        && export.worker.is_none()
        && stopped.code != "bulk.interrupted"
        && let Some(code) = Code::find(&stopped.code)
    {
        let message =
            format!("the export in {place} stopped at {:.0}: {}", stopped.at, stopped.message);
        topic.problem(Problem::new(code, message).at(Status::Warning));
    }
}

/// Asks once about a job that nobody waits for, or that runs for very long; gives the answer's
/// status.
async fn job(desk: &Desk, topic: &mut Topic, export: &Known, now: Timestamp) -> Option<u16> {
    let job = export.job.as_ref()?;
    let age = now.duration_since(job.kicked_off_at);
    let is_waiting = export.conclusion.is_none() && !export.has_manifest && !export.is_cancelled;
    if !is_waiting || (export.worker.is_some() && age < STUCK) || age < ALONE {
        return None;
    }
    let caller = desk.caller().await.ok()?;
    if !caller.is_own(&job.status_url) {
        topic.note("a job's status is at another origin and was not asked for");
        return None;
    }
    let answer = desk.ask(&Ask::get(&job.status_url, "application/json")).await.ok()?;
    topic.problems.extend(told(job, export, answer.status(), age));
    Some(answer.status())
}

fn told(job: &Job, export: &Known, status: u16, age: SignedDuration) -> Option<Problem> {
    let place = export.identity.place();
    let since = format!("{:.0}", job.kicked_off_at);
    let warning = |code: &'static str, message: String| {
        Some(Problem::new(Code::new(code), message).at(Status::Warning))
    };
    match status {
        202 if age > STUCK => warning(
            "bulk.max_wait",
            format!("the server still works on the job for {place}, begun at {since}"),
        ),
        404 | 410 => warning(
            "bulk.job_gone",
            format!("the server knows nothing any more of the job for {place}, begun at {since}"),
        ),
        200 => Some(
            Problem::new(
                Code::new("bulk.interrupted"),
                format!("the job for {place} is done, and nobody fetches its files"),
            )
            .at(Status::Warning)
            .by(Party::Ours)
            .next_step(format!("fetch them before they end: fhirctl bulk-export resume {place}")),
        ),
        500..=599 => warning(
            "bulk.status_failed",
            format!("the server answers HTTP {status} for the job for {place}, begun at {since}"),
        ),
        _ => None,
    }
}

fn age(seconds: i64) -> String {
    match seconds {
        ..0 => "0 s".to_owned(),
        0..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    let mut commands = vec![Command::new(&["fhirctl", "bulk-export", "list"])];
    let known =
        desk.options.state.as_ref().and_then(|state| known::of_server(state, &desk.server).ok());
    let jobs = known.into_iter().flatten().filter_map(|export| export.job).take(1);
    commands.extend(jobs.map(|job| curl(&desk.server, &job.status_url)));
    commands
}
