//! `auth`: whether the server takes the credential.

use crate::model::{Code, limits};
use crate::probe::session::{Session, judge_status, refused_signature};
use crate::probe::verdict::{Draft, Problem};

/// A search that names no patient there is and asks for a number only.
const HARMLESS: &str = "Patient?_id=fhirctl-sign-in-check&_summary=count";

/// Makes one signed request; what matters is whether the server refuses it.
///
/// The first declared search serves, since that is what the credential has to be good for. Where
/// none is declared, a count of no one is asked for.
pub(in crate::probe) async fn run(session: &mut Session<'_>) -> Draft {
    if let Some(failure) = session.missing_proof() {
        return Draft::broken(failure);
    }
    let path = session.server.checks.search.first().cloned().unwrap_or_else(|| HARMLESS.to_owned());
    let url = match session.url(&path) {
        Ok(url) => url,
        Err(problem) => return Draft::default().with(problem),
    };
    let exchange = match session.get_signed(url, limits::SMALL_BODY_BYTES).await {
        Ok(exchange) => exchange,
        Err(failure) => return Draft::broken(&failure),
    };
    let method = session.server.auth.method();
    let draft = Draft::of(&exchange);
    if let Some(problem) = refused_signature(&exchange) {
        return draft.with(problem);
    }
    match exchange.status() {
        401 | 403 | 407 | 429 => {
            let problem = judge_status(&exchange, true);
            draft.with(problem)
        }
        // The server got as far as answering the question: it did not mind who asked.
        status @ 200..=499 => {
            draft.good(format!("{method}: the credential was not refused (HTTP {status})"))
        }
        status => draft.with(Problem::new(
            Code::new("http.status"),
            format!("whether the credential is accepted cannot be told: HTTP {status}"),
        )),
    }
}
