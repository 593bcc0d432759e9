//! `health`: every stage of `test`, as a topic.

use super::shell::{Command, curl};
use super::{Desk, Layer, Problem, Topic, TopicName};
use crate::model::{Code, Observation, ServerReport, Status};

pub(super) async fn run(desk: &Desk) -> Topic {
    topic_of(desk.report().await)
}

/// A test's report as a topic.
pub(super) fn topic_of(report: &ServerReport) -> Topic {
    let mut topic = Topic::new(TopicName::Health)
        .good(format!("every stage of a test passes: {}", report.message));
    let looked = |check: &&Observation| !check.code.is_some_and(Code::is_left_out);
    let row = |check: &Observation| {
        vec![
            check.name.clone(),
            check.status.as_str().to_owned(),
            format!("{:.0} ms", check.duration_ms),
            check.message.clone(),
        ]
    };
    topic.table(
        "",
        &["stage", "status", "time", "what"],
        report.checks.iter().filter(looked).map(row).collect(),
    );
    for check in report.checks.iter().filter(looked) {
        topic.problems.extend(problem_of(check));
    }
    topic.details(report);
    topic
}

pub(super) fn problem_of(check: &Observation) -> Option<Problem> {
    let code = check.code.filter(|_| check.status != Status::Healthy)?;
    let mut problem = Problem::new(code, &check.message).at(check.status);
    problem.party = check.party.unwrap_or(problem.party);
    problem.next_step = check.hint.clone().or(problem.next_step);
    problem.accepted = check.accepted.as_ref().map(|accepted| accepted.reason.clone());
    Some(problem.server_text(check.server_text.clone()))
}

/// Why there is no use in talking to the server: it was not reached.
pub(super) fn out_of_reach(topic: &Topic) -> Option<String> {
    topic
        .problems
        .iter()
        .filter(|problem| problem.status == Status::Critical)
        .find(|problem| {
            problem.layer <= Layer::Tls || problem.code == Code::new("network.address_not_allowed")
        })
        .map(|problem| format!("the server is out of reach ({})", problem.code))
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    desk.url("metadata").map(|url| vec![curl(&desk.server, &url)]).unwrap_or_default()
}
