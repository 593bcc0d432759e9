//! `auth`: whether the server takes the credential.

use std::time::Duration;

use crate::auth::{self, Freshness, Token};
use crate::model::{Code, limits};
use crate::probe::session::{Session, client_certificate, judge_status, refused_signature};
use crate::probe::verdict::{Draft, Problem};

/// A search that names no patient there is and asks for a number only.
const HARMLESS: &str = "Patient?_id=fhirctl-sign-in-check&_summary=count";

/// How old a token may be that still proves that signing in works.
const PROOF_AGE: Duration = Duration::from_secs(15 * 60);

/// Gets a token and holds its scopes against those that were asked for; with a fixed credential,
/// makes one signed request, where what matters is whether the server refuses it.
///
/// The first declared search serves, since that is what the credential has to be good for. Where
/// none is declared, a count of no one is asked for.
pub(in crate::probe) async fn run(session: &mut Session<'_>) -> Draft {
    let freshness =
        if session.options.by_hand { Freshness::New } else { Freshness::AtMost(PROOF_AGE) };
    if let Err(failure) = session.sign_in(freshness).await {
        return Draft::broken(&failure);
    }
    match session.token().cloned() {
        Some(token) => run_with_token(session, &token).await,
        None => run_with_request(session).await,
    }
}

async fn run_with_token(session: &mut Session<'_>, token: &Token) -> Draft {
    let mut asked = auth::asked_scopes(session.server);
    if token.refresh_token.is_some() {
        // A renewed token speaks of the records alone; who the user is was told at the sign-in.
        asked.retain(|scope| auth::scope::is_resource(scope));
    }
    let missing = match &token.scopes {
        Some(granted) => auth::scope::missing(&asked, granted),
        None => Vec::new(),
    };
    let mut draft = Draft::default().good(described(session, token));
    if !missing.is_empty() {
        let granted = token.scopes.as_ref().map(|scopes| scopes.join(" ")).unwrap_or_default();
        draft = draft.with(Problem::new(
            Code::new("auth.scope_reduced"),
            format!(
                "asked for {}, granted {}; missing: {}",
                asked.join(" "),
                if granted.is_empty() { "nothing" } else { &granted },
                missing.join(" ")
            ),
        ));
    }
    // Whether the server takes what the provider gave is seen where it is used; a test that would
    // use it nowhere else asks once.
    let asks = session.options.every_stage && session.server.checks.search.is_empty();
    if !asks || !missing.is_empty() {
        return draft;
    }
    let Ok(url) = session.url(HARMLESS) else { return draft };
    match session.get_signed(url, limits::SMALL_BODY_BYTES).await {
        Ok(exchange) if exchange.status() == 401 => {
            Draft::of(&exchange).with(judge_status(&exchange, true))
        }
        Ok(exchange) => match client_certificate(&exchange) {
            Some(problem) => Draft::of(&exchange).with(problem),
            None => Draft::of(&exchange).good(described(session, token)),
        },
        Err(failure) => Draft::broken(&failure),
    }
}

fn described(session: &Session<'_>, token: &Token) -> String {
    let seconds = token.expires_at.as_second() - token.obtained_at.as_second();
    format!("{}: a token for {seconds} s, scopes as asked", session.server.auth.method())
}

async fn run_with_request(session: &mut Session<'_>) -> Draft {
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
    // Some refuse with HTTP 400.
    if let Some(problem) = refused_signature(&exchange).or_else(|| client_certificate(&exchange)) {
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
