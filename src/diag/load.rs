//! `load`: many requests at once, on purpose. Never by default, and in production only on a word.

mod evidence;
mod expect;
mod mix;
mod preflight;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::shell::{Command, curl};
use super::{Desk, Layer, Problem, Topic, TopicName};
use crate::http::load::{self, Ended, Measured, Plan, Watch};
use crate::http::{Failure, Stage};
use crate::model::server::Server;
use crate::model::{Code, Party, Status};

pub use evidence::LoadDetails;
pub use expect::Expectation;
pub use mix::Mix;

use evidence::{Facts, seconds};
use expect::Seen;

/// How a load test is to be run.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    pub connections: usize,
    /// Requests a second; `None`: as many as the connections bring.
    pub rate: Option<f64>,
    pub duration: Duration,
    pub ramp: Duration,
    pub max_requests: Option<u64>,
    /// `None`: what the inventory declares.
    pub mix: Option<Mix>,
    pub expect: Vec<Expectation>,
    /// In percent; 100 and above never stops.
    pub stop_on_errors: f64,
    /// How far it is, and the way to end it.
    pub watch: Arc<Watch>,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions {
            connections: 8,
            rate: None,
            duration: Duration::from_secs(10),
            ramp: Duration::ZERO,
            max_requests: None,
            mix: None,
            expect: Vec::new(),
            stop_on_errors: 50.0,
            watch: Arc::default(),
        }
    }
}

/// Whether a server's labels say that it is in production.
#[must_use]
pub fn is_production(server: &Server) -> bool {
    server
        .labels
        .get("env")
        .is_some_and(|env| ["prod", "production"].iter().any(|word| env.eq_ignore_ascii_case(word)))
}

/// Above this share of the requests errors are worth a word, in percent.
const MANY_ERRORS: f64 = 1.0;
/// Below this share of the asked rate a server did not keep up.
const KEPT_UP: f64 = 0.9;

pub(super) async fn run(desk: &Desk) -> Topic {
    if is_production(&desk.server) && !desk.options.yes {
        let why = "the server is labelled env=prod: load needs --yes";
        return Topic::left_out(TopicName::Load, Code::new("check.skipped"), why);
    }
    let mut topic = Topic::new(TopicName::Load);
    let options = &desk.options.load;
    match measure(desk, options).await {
        Ok((names, measured)) => {
            let facts = Facts::new(options, names, measured);
            judge(&mut topic, options, &facts);
            facts.show(&mut topic);
            topic
        }
        Err(Unsent::Failed(failure)) if failure.code.is_left_out() => {
            Topic::left_out(TopicName::Load, failure.code, failure.message)
        }
        Err(Unsent::Failed(failure)) => {
            topic.problem(Problem::from(&*failure));
            topic
        }
        Err(Unsent::Unfit(problem)) => {
            topic.problem(*problem);
            topic
        }
    }
}

/// Why no load was sent.
enum Unsent {
    Failed(Box<Failure>),
    /// What an ordinary exchange showed before it.
    Unfit(Box<Problem>),
}

impl From<Failure> for Unsent {
    fn from(failure: Failure) -> Unsent {
        Unsent::Failed(Box::new(failure))
    }
}

async fn measure(desk: &Desk, options: &LoadOptions) -> Result<(Vec<String>, Measured), Unsent> {
    let mix = match &options.mix {
        Some(mix) => mix.clone(),
        None => Mix::declared(desk).await,
    };
    let (names, mut operations) = mix.operations(desk)?;
    let caller = desk.caller().await?;
    // One exchange of each kind by the ordinary way: what is no good answer once is none a thousand
    // times, and a credential that is not taken is offered once.
    let not_done = |code, why| Unsent::from(Failure::new(Stage::Setup, Code::new(code), why));
    tokio::select! {
        looked = preflight::look(desk, &names, &mut operations) => {
            looked.map_err(|problem| Unsent::Unfit(Box::new(problem)))?;
        }
        () = desk.options.stop.said() => {
            return Err(not_done("check.skipped", "stopped by hand before any load was sent"));
        }
        () = tokio::time::sleep(desk.remaining()) => {
            let why = "no load was sent: an ordinary exchange before it did not end in time";
            return Err(not_done("check.deadline", why));
        }
    }
    let plan = Plan {
        connections: options.connections,
        rate: options.rate,
        duration: options.duration,
        ramp: options.ramp,
        max_requests: options.max_requests,
        stop_on_errors: Some(options.stop_on_errors).filter(|percent| *percent < 100.0),
        accept: desk.accept(),
    };
    let renew = || {
        let caller = Arc::clone(&caller);
        async move { caller.standing().await }.boxed()
    };
    let measured = load::run(
        &desk.server,
        caller.identity(),
        Arc::clone(&desk.surroundings.transport),
        &renew,
        &operations,
        &plan,
        Arc::clone(&options.watch),
    )
    .await?;
    Ok((names, measured))
}

fn judge(topic: &mut Topic, options: &LoadOptions, facts: &Facts) {
    let all = &facts.all;
    let (requests, failures) = (all.requests(), all.failures());
    topic.message = format!(
        "{requests} requests in {}, {:.1} good answers a second",
        seconds(facts.measured.elapsed),
        facts.rate
    );
    if requests == 0 && facts.measured.ended != Ended::Asked {
        topic.problem(
            Problem::new(Code::new("perf.errors"), "no request came to its end")
                .at(Status::Critical)
                .next_step("Look at one request: fhirctl test NAME"),
        );
    }
    let share = failures as f64 * 100.0 / requests.max(1) as f64;
    let stopped = facts.measured.ended == Ended::Errors;
    if stopped || share >= MANY_ERRORS || all.answers() == 0 && requests > 0 {
        topic.problem(errors(facts, share, stopped));
    }
    if let (Some(asked), Some(scheduled)) = (options.rate, facts.measured.scheduled)
        && facts.measured.ended == Ended::Time
        && (all.answers() as f64) < KEPT_UP * scheduled as f64
    {
        topic.problem(Problem::new(
            Code::new("perf.slow"),
            format!(
                "{asked} requests a second were asked for; {} of {scheduled} were answered over {} \
                 connections",
                all.answers(),
                options.connections
            ),
        ));
    }
    let seen = Seen { latency: &all.latency, requests, failures, rate: facts.rate };
    for expectation in &options.expect {
        let (value, met) = expectation.judge(&seen);
        if !met {
            topic.problem(
                Problem::new(
                    Code::new("perf.expectation"),
                    format!("{expectation} was expected under load, and {value} was seen"),
                )
                .layer(Layer::Server),
            );
        }
    }
}

/// The problem behind failed requests, by what most of them say.
fn errors(facts: &Facts, share: f64, stopped: bool) -> Problem {
    let all = &facts.all;
    let what: Vec<_> = all
        .errors
        .iter()
        .map(|(code, count)| (*count, code.to_string()))
        .chain(all.refused.iter().map(|(status, count)| (*count, format!("HTTP {status}"))))
        .chain([(all.unlike, "an answer that says success and is not FHIR".to_owned())])
        .collect();
    let (_, most) = what.iter().max_by_key(|(count, _)| *count).cloned().unwrap_or_default();
    let ended = if stopped { "stopped: " } else { "" };
    let message = format!(
        "{ended}{share:.1} % of {} requests under load failed, most with {most}",
        all.requests()
    );
    let limited = all.refused.get(&429).copied().unwrap_or_default();
    if limited * 2 > all.failures() {
        return Problem::new(Code::new("http.rate_limited"), message).by(Party::Ours).next_step(
            "Stay below the server's limit with --rate, or ask the operator to lift it.",
        );
    }
    // Nothing was ever answered: what broke is on the way, not under the load.
    if all.answers() == 0
        && let Some(failure) = all.samples.values().next()
    {
        return Problem::from(failure);
    }
    let status = if stopped { Status::Critical } else { Status::Warning };
    let code = if all.unlike * 2 > all.failures() { "fhir.not_fhir" } else { "perf.errors" };
    Problem::new(Code::new(code), message).at(status)
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    let Ok(url) = desk.url("metadata") else { return Vec::new() };
    let one = curl(&desk.server, &url).about("one such request; there is no load by curl");
    let options = &desk.options.load;
    let mut many = Command::new(&["oha", "-c", &options.connections.to_string()]);
    // Of a number and a time the other program heeds one only.
    many = match options.max_requests {
        Some(most) => many.with(&["-n", &most.to_string()]),
        None => many.with(&["-z", &format!("{}s", options.duration.as_secs().max(1))]),
    };
    if let Some(rate) = options.rate {
        many = many.with(&["-q", &rate.ceil().to_string()]);
    }
    let many = many
        .with(&["-H", &format!("Accept: {}", desk.accept()), url.as_str()])
        .about("the same load by another program; it does not sign in");
    vec![one, many]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::load::{Latency, Tally};

    fn facts(ended: Ended, tally: Tally, scheduled: Option<u64>) -> Facts {
        let measured = Measured {
            operations: vec![tally],
            connects: Latency::default(),
            ended,
            elapsed: Duration::from_secs(2),
            scheduled,
            late: 0,
            unfinished: 0,
            renewals: 0,
            request_id: "id".to_owned(),
        };
        Facts::new(&LoadOptions::default(), vec!["GET metadata".to_owned()], measured)
    }

    fn answers(status: u16, count: u64, tally: &mut Tally) {
        for _ in 0..count {
            tally.answered(status, 10, Duration::from_millis(20));
        }
    }

    fn codes(options: &LoadOptions, facts: &Facts) -> Vec<(&'static str, Status)> {
        let mut topic = Topic::new(TopicName::Load);
        judge(&mut topic, options, facts);
        topic.problems.iter().map(|problem| (problem.code.as_str(), problem.status)).collect()
    }

    #[test]
    fn what_a_load_test_finds_has_its_code() {
        let mut good = Tally::default();
        answers(200, 1000, &mut good);
        let mut some = good.clone();
        answers(503, 50, &mut some);
        let mut fooled = good.clone();
        fooled.unlike(200, 10, Duration::from_millis(20));
        for _ in 0..50 {
            fooled.unlike(200, 10, Duration::from_millis(20));
        }
        let mut limited = good.clone();
        answers(429, 500, &mut limited);
        let mut dead = Tally::default();
        let refused = Failure::new(Stage::Tcp, Code::new("tcp.refused"), "refused");
        dead.failed(refused, Duration::ZERO);
        let options = LoadOptions::default();
        for (ended, tally, expected) in [
            (Ended::Time, &good, vec![]),
            (Ended::Time, &some, vec![("perf.errors", Status::Warning)]),
            (Ended::Errors, &some, vec![("perf.errors", Status::Critical)]),
            (Ended::Time, &fooled, vec![("fhir.not_fhir", Status::Warning)]),
            (Ended::Time, &limited, vec![("http.rate_limited", Status::Warning)]),
            (Ended::Errors, &dead, vec![("tcp.refused", Status::Critical)]),
            (Ended::Time, &Tally::default(), vec![("perf.errors", Status::Critical)]),
        ] {
            assert_eq!(codes(&options, &facts(ended, tally.clone(), None)), expected);
        }
        let expect = ["p95<10ms", "rate>100"].map(|text| text.parse().unwrap()).to_vec();
        let strict = LoadOptions { expect, ..LoadOptions::default() };
        assert_eq!(
            codes(&strict, &facts(Ended::Time, good.clone(), None)),
            [("perf.expectation", Status::Critical)]
        );
        let fast = LoadOptions { rate: Some(1000.0), ..LoadOptions::default() };
        assert_eq!(
            codes(&fast, &facts(Ended::Time, good, Some(2000))),
            [("perf.slow", Status::Warning)]
        );
    }
}
