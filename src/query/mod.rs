//! One FHIR request as a user words it, and all the pages that follow a search.
//!
//! Enters: a signed way to a server and a [`Question`]. Leaves: the answer as it came, or an error
//! whose kind decides the exit code. Called by the command of the same name. `question` knows paths
//! and parameters, `pages` follows `next`, `answer` judges.

mod answer;
mod pages;
mod question;

pub use answer::{Judged, Wanted, judge};
pub use pages::{Page, Pages};
pub use question::{Method, Question, shape};

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};

use crate::auth::Surroundings;
use crate::auth::caller::{Ask, Caller};
use crate::http::{Body, Client, Exchange, Failure, Stage};
use crate::model::server::Server;
use crate::model::{Error, ErrorKind};

/// The largest answer that is held, after decompression, in bytes.
pub const LARGEST: u64 = 64 * 1024 * 1024;

/// Who asks one server.
pub struct Asker {
    caller: Caller,
    client: Arc<Client>,
    /// The longest that one answer may take, its attempts and its sign-in with it.
    limit: Option<Duration>,
}

impl Asker {
    /// # Errors
    /// When there is nothing to sign in with, or the settings make no client.
    pub async fn new(server: &Server, surroundings: &Surroundings) -> Result<Asker, Error> {
        let caller = Caller::new(server, surroundings).await.map_err(error_of)?;
        let client = caller.client().map_err(error_of)?;
        Ok(Asker { caller, client, limit: None })
    }

    /// Bounds how long each answer may take, all in all.
    #[must_use]
    pub fn within(self, limit: Option<Duration>) -> Asker {
        Asker { limit, ..self }
    }

    #[must_use]
    pub fn server(&self) -> &Server {
        &self.caller.server
    }

    /// Sends a question. What changes nothing is sent again after a transient failure, as the
    /// server's retry settings say; what changes something is sent once.
    ///
    /// # Errors
    /// When no answer came: exit 77 for the sign-in, 69 for all else.
    pub async fn ask(&self, question: &Question) -> Result<Exchange, Error> {
        let headers = question.headers();
        let body = question.body.as_ref().map(|bytes| Body {
            content_type: question.content_type,
            bytes,
            confidential: true,
        });
        let ask = Ask {
            method: question.method.http(),
            url: &question.url,
            accept: question.accept,
            headers: &headers,
            body,
            signed: true,
        };
        self.in_time(&ask, question.method.is_safe()).await
    }

    /// Reads an address that the server gave, at its own origin.
    ///
    /// # Errors
    /// As [`Asker::ask`].
    pub async fn follow(
        &self,
        url: &url::Url,
        accept: &str,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Exchange, Error> {
        self.in_time(&Ask { headers, ..Ask::get(url, accept) }, true).await
    }

    async fn in_time(&self, ask: &Ask<'_>, is_safe: bool) -> Result<Exchange, Error> {
        let attempts = self.attempts(ask, is_safe);
        let Some(limit) = self.limit else { return attempts.await.map_err(error_of) };
        match tokio::time::timeout(limit, attempts).await {
            Ok(answer) => answer.map_err(error_of),
            Err(_) => {
                let shown = humantime::format_duration(limit);
                let error = Error::new(
                    ErrorKind::Unavailable,
                    format!("no complete answer within {shown} (http.timeout)"),
                );
                Err(if is_safe {
                    error.hint("a longer --timeout waits longer")
                } else {
                    error.hint("what was asked for may have been done all the same: look before doing it again")
                })
            }
        }
    }

    async fn attempts(&self, ask: &Ask<'_>, is_safe: bool) -> Result<Exchange, Failure> {
        let retry = self.caller.server.retry;
        let attempts = if is_safe { retry.attempts.max(1) } else { 1 };
        let mut backoff = retry.backoff;
        let mut attempt = 1;
        loop {
            let result = self.caller.fetch(&self.client, ask, LARGEST).await;
            let wait = match &result {
                _ if attempt >= attempts => return result,
                Ok(answer)
                    if matches!(answer.status(), 408 | 425 | 429 | 500 | 502 | 503 | 504) =>
                {
                    answer.retry_after()
                }
                Err(failure) if is_transient(failure) => None,
                _ => return result,
            };
            let wait = match wait {
                // More patience than the settings allow: the answer stands.
                Some(wait) if wait > retry.max_backoff => return result,
                Some(wait) => wait.max(backoff),
                None => backoff.mul_f64(0.5 + fastrand::f64()),
            };
            tokio::time::sleep(wait).await;
            backoff = backoff.saturating_mul(2).min(retry.max_backoff);
            attempt += 1;
        }
    }
}

fn is_transient(failure: &Failure) -> bool {
    matches!(failure.stage, Stage::Dns | Stage::Tcp)
        || matches!(failure.code.as_str(), "http.timeout" | "http.closed")
}

/// A request that got no answer, as the error of a command.
fn error_of(failure: Failure) -> Error {
    let kind = match failure.code.as_str() {
        code if code.starts_with("auth.") => ErrorKind::Credential,
        _ if failure.stage == Stage::Setup => ErrorKind::Config,
        _ => ErrorKind::Unavailable,
    };
    let mut error = Error::new(kind, format!("{} ({})", failure.message, failure.code));
    error.hints.extend(failure.hint.or_else(|| failure.code.hint().map(str::to_owned)));
    if let Some(text) = failure.server_text {
        error.hints.push(format!("the server says: {text}"));
    }
    error
}
