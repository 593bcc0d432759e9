//! `dns`, `tcp` and `tls`: read off the handshake that the first request made.

use jiff::Timestamp;

use crate::http::Stage;
use crate::model::{Code, Observation, Party, Status, Timing};
use crate::probe::CheckName;
use crate::probe::session::Session;
use crate::probe::verdict::{Draft, Problem, conclude, left_out};

/// The stages below HTTP that were reached or broke. In a `check`, one that went well and has
/// nothing to say is left away; a `test` shows every one.
pub(in crate::probe) fn observe(session: &Session<'_>, now: Timestamp) -> Vec<Observation> {
    [(CheckName::Dns, Stage::Dns), (CheckName::Tcp, Stage::Tcp), (CheckName::Tls, Stage::Tls)]
        .into_iter()
        .filter(|(name, _)| session.wants(*name) || breaks_here(session, *name))
        .filter_map(|(name, stage)| one(session, name, stage, now))
        .collect()
}

/// Whether the session broke in this stage; trouble with our own TLS files counts as TLS.
fn breaks_here(session: &Session<'_>, name: CheckName) -> bool {
    session.broken.as_ref().is_some_and(|failure| home(failure.stage) == name)
}

/// The stage's check, where a failure is shown.
pub(in crate::probe) fn home(stage: Stage) -> CheckName {
    match stage {
        Stage::Dns => CheckName::Dns,
        Stage::Tcp => CheckName::Tcp,
        Stage::Tls | Stage::Setup | Stage::Http => CheckName::Tls,
    }
}

fn one(
    session: &Session<'_>,
    name: CheckName,
    stage: Stage,
    now: Timestamp,
) -> Option<Observation> {
    let every_stage = session.options.every_stage;
    let started = std::time::Instant::now();
    let done = |draft: Draft| {
        Some(conclude(name.as_str().to_owned(), draft, session.server, 1, started, now))
    };
    if breaks_here(session, name) {
        let own = (name == CheckName::Tls).then(|| client_certificate(session)).flatten();
        return session.broken.as_ref().and_then(|failure| {
            let mut draft = Draft::broken(failure);
            // An end of our own explains a refusal, and not the other way round.
            let at = if own.as_ref().is_some_and(|own| own.code == Code::new("tls.expired")) {
                0
            } else {
                draft.problems.len()
            };
            draft.problems.splice(at..at, own);
            done(draft)
        });
    }
    let left = |code: &'static str, why: &str| {
        every_stage.then(|| left_out(name, Code::new(code), why, now))
    };
    if session.broken.as_ref().is_some_and(|failure| failure.stage < stage) {
        return left("check.skipped", "an earlier stage broke");
    }
    let Some(handshake) = session.handshake else {
        return left("check.skipped", "nothing was sent");
    };
    let phase = match name {
        CheckName::Dns => handshake.dns_ms,
        CheckName::Tcp => handshake.connect_ms,
        _ => handshake.tls_ms,
    };
    let only = |ms: f64| Timing { total_ms: ms, ..phases(name, ms) };
    match (name, phase) {
        (CheckName::Tls, _) if session.server.url.url().scheme() != "https" => {
            left("check.not_applicable", "plain HTTP")
        }
        (CheckName::Tls, phase) => {
            let mut draft = certificate(session).with(client_certificate(session));
            draft.timing = phase.map(only);
            done(draft)
        }
        (_, Some(ms)) if every_stage => {
            let good = if name == CheckName::Dns {
                "the name resolves"
            } else {
                "the connection is accepted"
            };
            done(Draft { timing: Some(only(ms)), ..Draft::default() }.good(good))
        }
        (CheckName::Dns, None) if session.client().is_proxied() => {
            left("check.not_applicable", "the proxy looks names up")
        }
        (CheckName::Dns, None) => left("check.not_applicable", "the URL holds an address"),
        _ => left("check.not_applicable", "nothing to tell"),
    }
}

fn phases(name: CheckName, ms: f64) -> Timing {
    match name {
        CheckName::Dns => Timing { dns_ms: Some(ms), ..Timing::default() },
        CheckName::Tcp => Timing { connect_ms: Some(ms), ..Timing::default() },
        _ => Timing { tls_ms: Some(ms), ..Timing::default() },
    }
}

/// How long the certificate that was just shown is still good.
fn certificate(session: &Session<'_>) -> Draft {
    let Some(certificate) = session.client().certificate() else {
        return Draft::default().good("the certificate is good");
    };
    let ends = format!(
        "the certificate ends on {} ({})",
        certificate.not_after.strftime("%F"),
        days(certificate.days_left)
    );
    match near_end(session, certificate.not_after) {
        None => Draft::default().good(ends),
        Some(status) => {
            Draft::default().with(Problem::new(Code::new("tls.expiring"), ends).at(status))
        }
    }
}

/// The end of the certificate that we show, when it is near or past.
fn client_certificate(session: &Session<'_>) -> Option<Problem> {
    let facts = session.client().client_certificate()?;
    let status = near_end(session, facts.not_after)?;
    let left = seconds_left(session, facts.not_after);
    let whose = format!("our client certificate ({})", facts.subject);
    let day = facts.not_after.strftime("%F");
    let problem = if left < 0 {
        Problem::new(Code::new("tls.expired"), format!("{whose} ended on {day}"))
    } else {
        let left = days(left.div_euclid(86_400));
        Problem::new(Code::new("tls.expiring"), format!("{whose} ends on {day} ({left})"))
            .at(status)
    };
    Some(problem.by(Party::Ours).hint(format!(
        "Have a new one issued, then: fhirctl auth rotate {} --certificate FILE",
        session.server.name
    )))
}

/// How bad it is that a certificate ends then; `None` when it is long enough.
fn near_end(session: &Session<'_>, end: Timestamp) -> Option<Status> {
    let tls = &session.server.tls;
    let left = seconds_left(session, end);
    let within =
        |limit: std::time::Duration| left < i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    if within(tls.expiry_critical) {
        Some(Status::Critical)
    } else {
        within(tls.expiry_warning).then_some(Status::Warning)
    }
}

fn seconds_left(session: &Session<'_>, end: Timestamp) -> i64 {
    end.as_second() - session.surroundings.clock.now().as_second()
}

fn days(count: i64) -> String {
    match count {
        0 => "less than a day left".to_owned(),
        1 => "1 day left".to_owned(),
        count => format!("{count} days left"),
    }
}
