//! `health`: the server's own health endpoint, and whether its body agrees with its status.

use crate::fhir::body::{BodyKind, sniff};
use crate::fhir::health::{HealthVerdict, json_subset, judge};
use crate::fhir::outcome::OperationOutcome;
use crate::http::Exchange;
use crate::model::server::HealthCheck;
use crate::model::{Code, limits};
use crate::probe::session::{Session, judge_status, server_words};
use crate::probe::verdict::{Draft, Problem};

pub(in crate::probe) async fn run(session: &mut Session<'_>, check: &HealthCheck) -> Draft {
    let base = &session.server.url;
    let url = if check.path.starts_with('/') {
        base.at_root(&check.path)
    } else {
        base.join(&check.path)
    };
    let Ok(url) = url else {
        return Draft::default().with(Problem::new(
            Code::new("health.down"),
            "the health path makes no URL with the base",
        ));
    };
    let exchange = match session.get_open_first(url, limits::SMALL_BODY_BYTES, false).await {
        Ok(exchange) => exchange,
        Err(failure) => return Draft::broken(&failure),
    };
    let problem = judge_answer(&exchange, check, session.has_proof());
    Draft::of(&exchange)
        .with(problem)
        .good("the server says that it is well")
        .judge_speed("the health endpoint", session.server.thresholds.health)
}

fn judge_answer(exchange: &Exchange, check: &HealthCheck, signed: bool) -> Option<Problem> {
    let status = exchange.status();
    let kind = sniff(exchange.content_type(), &exchange.body);
    let says = judge(kind, &exchange.body, check.json.as_ref());
    let words = || server_words(exchange);
    if status != check.status {
        // A refusal, a limit or a gateway's error tells more by its own name than "down" would.
        let by_status = judge_status(exchange, signed);
        return Some(
            match (says, by_status) {
                (HealthVerdict::Down(what), _) if status >= 500 => Problem::new(
                    Code::new("health.down"),
                    format!("the server says that it is down (HTTP {status}): {what}"),
                ),
                (_, Some(problem)) => problem,
                (_, None) => Problem::new(
                    Code::new("health.down"),
                    format!(
                        "HTTP {status} from the health endpoint, where {} is expected",
                        check.status
                    ),
                ),
            }
            .server_text(words()),
        );
    }
    if kind == BodyKind::Html {
        return Some(
            Problem::new(
                Code::new("fhir.not_fhir"),
                format!("HTTP {status} with an HTML page, such as a sign-in or maintenance page"),
            )
            .server_text(words()),
        );
    }
    if let Some(outcome) =
        OperationOutcome::parse(kind, &exchange.body).filter(OperationOutcome::has_error)
    {
        return Some(
            Problem::new(
                Code::new("fhir.operation_outcome"),
                format!("HTTP {status} with an OperationOutcome that tells of an error"),
            )
            .server_text(Some(outcome.summary(limits::SERVER_TEXT_CHARS))),
        );
    }
    match says {
        HealthVerdict::Down(what) => {
            return Some(
                Problem::new(Code::new("health.down"), format!("HTTP {status}, but {what}"))
                    .server_text(words()),
            );
        }
        HealthVerdict::Degraded(what) => {
            return Some(
                Problem::new(
                    Code::new("health.degraded"),
                    format!("the server says that it is degraded: {what}"),
                )
                .server_text(words()),
            );
        }
        HealthVerdict::Up | HealthVerdict::Unrecognised => {}
    }
    unmet(exchange, check).map(|what| {
        Problem::new(
            Code::new("health.down"),
            format!("the health endpoint's answer is not the expected one: {what}"),
        )
        .server_text(words())
    })
}

/// What the inventory expects of the body and does not find.
fn unmet(exchange: &Exchange, check: &HealthCheck) -> Option<String> {
    if let Some(expected) = &check.json {
        let Ok(actual) = serde_json::from_slice(&exchange.body) else {
            return Some("it is not JSON".into());
        };
        if let Err(path) = json_subset(expected, &actual) {
            return Some(format!("{path} differs"));
        }
    }
    match &check.contains {
        Some(text) if !String::from_utf8_lossy(&exchange.body).contains(text) => {
            Some("the expected text is not in it".into())
        }
        _ => None,
    }
}
