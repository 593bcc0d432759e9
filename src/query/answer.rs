//! What an answer means for who asked.

use crate::fhir::body::{BodyKind, is_json, sniff};
use crate::fhir::outcome::OperationOutcome;
use crate::fhir::resource;
use crate::http::Exchange;
use crate::model::{Error, ErrorKind, limits};

/// An answer's kind, and what is wrong with it.
#[derive(Debug)]
pub struct Judged {
    pub kind: BodyKind,
    /// Its kind decides the exit code; `None`: it is what was asked for.
    pub trouble: Option<Error>,
}

/// What an answer has to hold to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A FHIR resource.
    Resource,
    /// JSON that need not be a resource, such as `.well-known/smart-configuration`.
    Json,
    /// A resource where there is a body; there need not be one.
    AnyOrNothing,
}

/// Judges an answer: 401 and 403 are exit 77, 404 and 410 are 66, 429 is 75, every other refusal
/// is 69; success with something that is not FHIR is 65, and so is nothing where a body is wanted.
#[must_use]
pub fn judge(exchange: &Exchange, wanted: Wanted) -> Judged {
    let kind = sniff(exchange.content_type(), &exchange.body);
    let status = exchange.status();
    let outcome = OperationOutcome::parse(kind, &exchange.body);
    let words = outcome.as_ref().map(|outcome| outcome.summary(limits::SERVER_TEXT_CHARS));
    let refused = |kind: ErrorKind, message: String, hint: &str| {
        let mut error = Error::new(kind, message);
        if !hint.is_empty() {
            error.hints.push(hint.to_owned());
        }
        if let Some(words) = words.as_ref().filter(|words| !words.is_empty()) {
            error.hints.push(format!("the server says: {words}"));
        }
        Some(error)
    };
    let trouble = match status {
        200..=299 | 304 => match (kind, &outcome) {
            (BodyKind::Html | BodyKind::Other, _) => refused(
                ErrorKind::Data,
                format!(
                    "HTTP {status} with something that is not FHIR: {} (fhir.not_fhir)",
                    kind.as_str()
                ),
                "a sign-in page or a proxy may have answered; --raw shows it",
            ),
            (BodyKind::Empty, _) if wanted != Wanted::AnyOrNothing && status == 200 => refused(
                ErrorKind::Data,
                "HTTP 200 with an empty body (fhir.not_fhir)".to_owned(),
                "",
            ),
            (BodyKind::Json, _) if !is_json(&exchange.body) => refused(
                ErrorKind::Data,
                format!(
                    "HTTP {status} with something that should be JSON and is not (fhir.malformed)"
                ),
                "",
            ),
            (BodyKind::Json | BodyKind::Xml, None)
                if wanted != Wanted::Json && resource::type_of(kind, &exchange.body).is_none() =>
            {
                refused(
                    ErrorKind::Data,
                    format!(
                        "HTTP {status} with {} that is no FHIR resource (fhir.not_fhir)",
                        kind.as_str()
                    ),
                    "",
                )
            }
            (_, Some(outcome)) if outcome.has_error() => refused(
                ErrorKind::Unavailable,
                format!(
                    "HTTP {status} with an OperationOutcome that speaks of an error (fhir.operation_outcome)"
                ),
                "",
            ),
            _ => None,
        },
        300..=399 => {
            let target = exchange.header("location").unwrap_or("nowhere");
            let target: String =
                target.split(['?', '#']).next().unwrap_or_default().chars().take(200).collect();
            refused(
                ErrorKind::Unavailable,
                format!(
                    "HTTP {status}: a redirect to {target}, which is not followed (http.redirect_refused)"
                ),
                "if the server has moved, change its url in the inventory",
            )
        }
        401 => refused(
            ErrorKind::Credential,
            "HTTP 401: the server refuses the credential (auth.unauthorized)".into(),
            "fhirctl auth test NAME says why",
        ),
        403 => refused(
            ErrorKind::Credential,
            "HTTP 403: not permitted with this credential (auth.forbidden)".into(),
            "compare the scopes: fhirctl auth test NAME",
        ),
        404 | 410 => refused(
            ErrorKind::NotFound,
            format!("HTTP {status}: there is nothing at this path"),
            "",
        ),
        429 => refused(
            ErrorKind::Resumable,
            "HTTP 429: the server asks for fewer requests (http.rate_limited)".into(),
            "run the same command again later",
        ),
        _ => refused(ErrorKind::Unavailable, format!("HTTP {status} (http.status)"), ""),
    };
    Judged { kind, trouble }
}
