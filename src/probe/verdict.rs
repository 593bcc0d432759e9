//! From what a check found to its observation.

use std::time::Instant;

use jiff::Timestamp;

use super::CheckName;
use crate::http::{Exchange, Failure};
use crate::model::server::{Accept, Server, Threshold};
use crate::model::{
    Accepted, Code, Finding, HttpFacts, Observation, Party, ServerReport, State, Status, Timing,
    limits, text,
};

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub code: Code,
    pub status: Status,
    pub message: String,
    pub hint: Option<String>,
    pub server_text: Option<String>,
    /// The FHIR issue type of an OperationOutcome.
    pub issue: Option<&'static str>,
    /// Where it is not the code's own.
    pub party: Option<Party>,
}

impl Problem {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Problem {
        Problem {
            code,
            status: code.status(),
            message: message.into(),
            hint: None,
            server_text: None,
            issue: None,
            party: None,
        }
    }

    pub(super) fn at(mut self, status: Status) -> Problem {
        self.status = status;
        self
    }

    pub(super) fn by(mut self, party: Party) -> Problem {
        self.party = Some(party);
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn issue(mut self, issue: Option<&'static str>) -> Problem {
        self.issue = issue;
        self
    }

    /// Keeps the server's own words, bounded and made visible.
    pub(super) fn server_text(mut self, words: Option<String>) -> Problem {
        self.server_text = words
            .map(|words| text::bounded(&text::one_line(&words), limits::SERVER_TEXT_CHARS))
            .filter(|words| !words.is_empty());
        self
    }
}

impl From<&Failure> for Problem {
    fn from(failure: &Failure) -> Problem {
        let mut problem = Problem::new(failure.code, failure.message.clone());
        problem.hint.clone_from(&failure.hint);
        problem.server_text(failure.server_text.clone())
    }
}

/// What a check found before it is judged as a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    /// What is said when nothing is wrong.
    pub good: String,
    pub problems: Vec<Problem>,
    pub findings: Vec<Finding>,
    pub timing: Option<Timing>,
    pub http: Option<HttpFacts>,
    /// What the time is held against: warning and critical, in milliseconds.
    pub threshold_ms: Option<(f64, f64)>,
}

impl Draft {
    pub(super) fn of(exchange: &Exchange) -> Draft {
        Draft {
            timing: Some(exchange.timing),
            http: Some(exchange.http.clone()),
            ..Draft::default()
        }
    }

    pub(super) fn broken(failure: &Failure) -> Draft {
        Draft {
            problems: vec![Problem::from(failure)],
            timing: failure.timing,
            http: failure.http.clone(),
            ..Draft::default()
        }
    }

    pub(super) fn with(mut self, problem: impl Into<Option<Problem>>) -> Draft {
        self.problems.extend(problem.into());
        self
    }

    pub(super) fn good(mut self, message: impl Into<String>) -> Draft {
        self.good = message.into();
        self
    }

    /// Adds `perf.slow` when the whole exchange took longer than a threshold.
    pub(super) fn judge_speed(mut self, what: &str, threshold: Threshold) -> Draft {
        let millis = |limit: std::time::Duration| limit.as_secs_f64() * 1000.0;
        self.threshold_ms = Some((millis(threshold.warning), millis(threshold.critical)));
        let Some(timing) = self.timing else { return self };
        let took = timing.total_ms;
        let (limit, status) = match took {
            took if took > threshold.critical.as_secs_f64() * 1000.0 => {
                (threshold.critical, Status::Critical)
            }
            took if took > threshold.warning.as_secs_f64() * 1000.0 => {
                (threshold.warning, Status::Warning)
            }
            _ => return self,
        };
        let message = format!(
            "{what} took {}, {status} above {}",
            seconds(took),
            seconds(limit.as_secs_f64() * 1000.0)
        );
        self.with(Problem::new(Code::new("perf.slow"), message).at(status))
    }

    /// The worst status of what was found.
    pub(super) fn status(&self) -> Status {
        Status::worst(self.problems.iter().map(|problem| problem.status))
    }
}

fn seconds(ms: f64) -> String {
    if ms >= 1000.0 { format!("{:.1} s", ms / 1000.0) } else { format!("{ms:.0} ms") }
}

/// Makes the observation: the worst problem that no `accept` entry covers speaks for the check.
pub(super) fn conclude(
    name: String,
    draft: Draft,
    server: &Server,
    attempts: u32,
    started: Instant,
    now: Timestamp,
) -> Observation {
    let duration_ms = draft
        .timing
        .map_or_else(|| started.elapsed().as_secs_f64() * 1000.0, |timing| timing.total_ms);
    let problems = draft.problems;
    let worst = |accepted: bool| {
        problems
            .iter()
            .filter(|problem| acceptance(&server.accept, problem.code, now).is_some() == accepted)
            // Of equals the first one found: it is the nearest to the cause.
            .rev()
            .max_by_key(|problem| problem.status.rank())
    };
    let mut observation = Observation {
        name,
        status: Status::Healthy,
        code: None,
        message: draft.good,
        party: None,
        attempts,
        duration_ms,
        timing: draft.timing,
        http: draft.http,
        findings: draft.findings,
        server_text: None,
        issue: None,
        hint: None,
        accepted: None,
        observed_at: now,
        threshold_ms: draft.threshold_ms,
    };
    let Some(problem) = worst(false).or_else(|| worst(true)) else {
        if attempts > 1 {
            observation.message = format!("{} (passed on attempt {attempts})", observation.message)
                .trim_start()
                .to_owned();
        }
        return observation;
    };
    observation.accepted = acceptance(&server.accept, problem.code, now);
    observation.status = problem.status;
    observation.code = Some(problem.code);
    observation.party = Some(problem.party.unwrap_or(problem.code.party()));
    observation.message.clone_from(&problem.message);
    let others: Vec<_> = problems
        .iter()
        .filter(|other| other.code != problem.code || other.message != problem.message)
        .map(|other| other.message.as_str())
        .collect();
    if !others.is_empty() {
        observation.message.push_str("; also: ");
        observation.message.push_str(&others.join("; "));
    }
    observation.server_text.clone_from(&problem.server_text);
    observation.issue = problem.issue.map(str::to_owned);
    observation.hint = problem.hint.clone().or_else(|| problem.code.hint().map(str::to_owned));
    observation
}

/// The entry that covers a code today.
pub fn acceptance(accept: &[Accept], code: Code, now: Timestamp) -> Option<Accepted> {
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    accept
        .iter()
        .find(|entry| entry.code == code && entry.until.is_none_or(|until| today <= until))
        .map(|entry| Accepted { reason: entry.reason.clone(), until: entry.until })
}

/// An observation of a check that was not made.
pub(super) fn left_out(
    name: CheckName,
    code: Code,
    message: impl Into<String>,
    now: Timestamp,
) -> Observation {
    Observation {
        name: name.as_str().to_owned(),
        status: Status::Unknown,
        code: Some(code),
        message: message.into(),
        party: None,
        attempts: 0,
        duration_ms: 0.0,
        timing: None,
        http: None,
        findings: Vec::new(),
        server_text: None,
        issue: None,
        hint: None,
        accepted: None,
        observed_at: now,
        threshold_ms: None,
    }
}

/// What all checks of a server come to.
pub(super) struct Whole {
    pub status: Status,
    pub code: Option<Code>,
    pub message: String,
    pub party: Option<Party>,
}

/// The worst check that counts speaks for the server; of equals the first.
pub(super) fn whole(
    checks: &[Observation],
    fhir_version: Option<&str>,
    software: Option<&str>,
) -> Whole {
    let counted = || checks.iter().filter(|check| check.counts());
    let Some(worst) = counted().rev().max_by_key(|check| check.status.rank()) else {
        if checks.iter().any(|check| check.accepted.is_some()) {
            return Whole {
                status: Status::Healthy,
                code: None,
                message: "all troubles are accepted".into(),
                party: None,
            };
        }
        return Whole {
            status: Status::Unknown,
            code: Some(Code::new("check.not_applicable")),
            message: "no check applied to this server".into(),
            party: Some(Party::Ours),
        };
    };
    if worst.status == Status::Healthy {
        let mut said: Vec<String> = Vec::new();
        said.extend(fhir_version.map(|version| format!("FHIR {version}")));
        said.extend(software.map(str::to_owned));
        let message =
            if said.is_empty() { "all checks passed".to_owned() } else { said.join(", ") };
        return Whole { status: Status::Healthy, code: None, message, party: None };
    }
    Whole {
        status: worst.status,
        code: worst.code,
        message: worst.message.clone(),
        party: worst.party,
    }
}

/// A report of a server that could not be checked at all.
pub(super) fn unchecked(server: &Server, now: Timestamp, reason: &str) -> ServerReport {
    let observation = left_out(CheckName::Metadata, Code::new("check.deadline"), reason, now);
    ServerReport {
        name: server.name.clone(),
        url: server.url.to_string(),
        vendor: server.vendor.clone(),
        state: State::Active,
        status: Status::Unknown,
        code: observation.code,
        message: reason.to_owned(),
        party: Some(Party::Ours),
        duration_ms: 0.0,
        fhir_version: None,
        software: None,
        certificate: None,
        certificate_threshold_days: None,
        checks: vec![observation],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: &'static str, status: Status) -> Problem {
        Problem::new(Code::new(code), code).at(status)
    }

    fn accept(code: &'static str, until: &str) -> Accept {
        Accept { code: Code::new(code), reason: "vendor case 88".into(), until: until.parse().ok() }
    }

    #[test]
    fn an_entry_holds_through_its_last_day() {
        let entries = [accept("perf.slow", "2026-11-23")];
        let at = |time: &str| {
            acceptance(&entries, Code::new("perf.slow"), time.parse().unwrap()).is_some()
        };
        assert!(at("2026-11-23T23:59:59Z"));
        assert!(!at("2026-11-24T00:00:00Z"));
        assert!(
            acceptance(&entries, Code::new("tcp.refused"), "2026-11-01T00:00:00Z".parse().unwrap())
                .is_none()
        );
    }

    #[test]
    fn the_worst_problem_speaks_and_the_others_are_named() {
        let draft = Draft::default()
            .with(problem("perf.slow", Status::Warning))
            .with(problem("fhir.resource_missing", Status::Critical));
        assert_eq!(draft.status(), Status::Critical);
    }
}
