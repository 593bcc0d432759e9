//! One ordinary exchange of each operation before the load: what is not FHIR then is not loaded.

use http::Method;
use http::header::CONTENT_TYPE;

use crate::auth::caller::Ask;
use crate::diag::{Desk, Problem};
use crate::fhir::body::{BodyKind, is_json_type, is_xml_type, sniff};
use crate::fhir::outcome::OperationOutcome;
use crate::fhir::resource;
use crate::http::load::{Likeness, Operation};
use crate::http::{Body, Exchange};
use crate::model::{Code, Status, limits};

/// A server that is busy for a moment is asked again.
const TRIES: usize = 3;

/// Asks for each operation once, and keeps what its good answer is like.
///
/// # Errors
/// The first operation without a good answer, as a problem.
pub(super) async fn look(
    desk: &Desk,
    names: &[String],
    operations: &mut [Operation],
) -> Result<(), Problem> {
    for (name, operation) in names.iter().zip(operations) {
        let mut tries = 1;
        let exchange = loop {
            let Some(exchange) = ask(desk, operation).await? else { break None };
            if !matches!(exchange.status(), 429 | 500..=599) || tries == TRIES {
                break Some(exchange);
            }
            tries += 1;
        };
        let Some(exchange) = exchange else { continue };
        let is_plain = operation.targets.iter().any(|target| is_no_resource(target.url.path()));
        if let Some(problem) = judge(&exchange, &operation.method, is_plain) {
            return Err(Problem {
                message: format!("no load was sent: {name}: {}", problem.message),
                ..problem
            });
        }
        operation.likeness = likeness(&exchange);
    }
    Ok(())
}

async fn ask(desk: &Desk, operation: &Operation) -> Result<Option<Exchange>, Problem> {
    let Some(target) = operation.targets.first() else { return Ok(None) };
    let body = target.form.as_deref().map(|form| Body {
        content_type: "application/x-www-form-urlencoded",
        bytes: form.as_bytes(),
        confidential: false,
    });
    let ask =
        Ask { method: operation.method.clone(), body, ..Ask::get(&target.url, desk.accept()) };
    desk.ask(&ask).await.map(Some).map_err(|failure| Problem::from(&failure).at(Status::Critical))
}

/// Answers that are JSON and no resource, by what the specification has them be.
fn is_no_resource(path: &str) -> bool {
    path.contains("/.well-known/") || path.ends_with("/$graphql")
}

/// What is wrong with an answer; the same names as in a check.
fn judge(exchange: &Exchange, method: &Method, is_plain: bool) -> Option<Problem> {
    let status = exchange.status();
    let kind = sniff(exchange.content_type(), &exchange.body);
    let outcome = OperationOutcome::parse(kind, &exchange.body);
    let (code, message) = match status {
        200..=299 if *method == Method::HEAD => return None,
        200..=299 => match kind {
            BodyKind::Empty => ("fhir.not_fhir", format!("HTTP {status} with an empty body")),
            BodyKind::Html => ("fhir.not_fhir", format!("HTTP {status} with an HTML page")),
            BodyKind::Other => ("fhir.not_fhir", format!("HTTP {status} with {}", kind.as_str())),
            _ if outcome.as_ref().is_some_and(OperationOutcome::has_error) => (
                "fhir.operation_outcome",
                format!("HTTP {status} with an OperationOutcome that speaks of an error"),
            ),
            BodyKind::Json if !crate::fhir::body::is_json(&exchange.body) => {
                ("fhir.malformed", format!("HTTP {status} with broken JSON"))
            }
            _ if is_plain || resource::type_of(kind, &exchange.body).is_some() => return None,
            _ => ("fhir.not_fhir", format!("HTTP {status} with {} and no resource", kind.as_str())),
        },
        300..=399 => {
            ("http.redirect_refused", format!("HTTP {status}: a redirect, which is not followed"))
        }
        401 => ("auth.unauthorized", "the server refuses the credential (HTTP 401)".to_owned()),
        403 => ("auth.forbidden", "not permitted with this credential (HTTP 403)".to_owned()),
        429 => ("http.rate_limited", "the server asks for fewer requests (HTTP 429)".to_owned()),
        _ => ("http.status", format!("HTTP {status}")),
    };
    let words = outcome.map(|outcome| outcome.summary(limits::SERVER_TEXT_CHARS));
    Some(Problem::new(Code::new(code), message).at(Status::Critical).server_text(words))
}

fn likeness(exchange: &Exchange) -> Likeness {
    let is_alike: Option<fn(&str) -> bool> = match exchange.content_type() {
        Some(text) if is_json_type(text) => Some(is_json_type),
        Some(text) if is_xml_type(text) => Some(is_xml_type),
        _ => None,
    };
    Likeness {
        // One that promises neither says nothing of what is good.
        content_type: is_alike.and_then(|_| exchange.headers.get(CONTENT_TYPE).cloned()),
        is_alike,
        has_body: !exchange.body.is_empty(),
    }
}
