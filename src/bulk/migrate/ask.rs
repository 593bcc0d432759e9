//! Reads from one server, a few at once, each asked again where that helps.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

use crate::auth::Surroundings;
use crate::auth::caller::{Ask, Caller};
use crate::bulk::halt::Halt;
use crate::bulk::import::post::FOR_CHECKS;
use crate::bulk::wait::Pace;
use crate::http::Client;
use crate::model::server::Server;
use crate::model::{Error, ErrorKind};

const FHIR_JSON: &str = "application/fhir+json";
const ATTEMPTS: u32 = 6;
/// No wait between two attempts is longer.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// Who reads from a server.
pub struct Reader {
    caller: Caller,
    /// Those that nobody uses now.
    clients: Mutex<Vec<Arc<Client>>>,
}

/// What a read brought.
pub enum Found {
    Body(Vec<u8>),
    /// HTTP 404 or 410.
    Absent,
    /// Another refusal for good.
    Refused(u16),
}

/// What one attempt brought.
enum Got {
    Found(Found),
    Again(Halt, Option<Duration>),
}

impl Reader {
    /// # Errors
    /// When there is nothing to sign in with.
    pub async fn new(server: &Server, surroundings: &Surroundings) -> Result<Reader, Halt> {
        let mut surroundings = surroundings.clone();
        surroundings.credentials = surroundings.credentials.serving(&server.name);
        let caller =
            Caller::new(server, &surroundings).await.map_err(|failure| Halt::of(failure, true))?;
        Ok(Reader { caller, clients: Mutex::default() })
    }

    #[must_use]
    pub fn server(&self) -> &Server {
        &self.caller.server
    }

    /// Reads below the base URL, such as `Patient/1`.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses the credential, or has too much for too long.
    pub async fn read(&self, path: &str, most: u64) -> Result<Found, Halt> {
        let url = self.caller.server.url.join(path);
        let url = url.map_err(|error| Error::internal(format!("{path} is no path: {error}")))?;
        self.get(&url, most).await
    }

    /// # Errors
    /// As [`Reader::read`].
    pub async fn get(&self, url: &Url, most: u64) -> Result<Found, Halt> {
        let idle = self.clients.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let client = match idle {
            Some(client) => client,
            None => self.caller.client().map_err(|failure| Halt::of(failure, true))?,
        };
        let found = self.attempts(&client, url, most).await;
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        found
    }

    async fn attempts(&self, client: &Arc<Client>, url: &Url, most: u64) -> Result<Found, Halt> {
        let mut tried = 0;
        loop {
            tried += 1;
            match self.once(client, url, most).await? {
                Got::Found(found) => return Ok(found),
                Got::Again(halt, wait) if tried < ATTEMPTS => {
                    let retry = self.caller.server.retry;
                    let pace = Pace { floor: retry.backoff, ceiling: LONGEST };
                    let grown = retry.backoff.saturating_mul(2_u32.saturating_pow(tried));
                    let wait = wait.or(Some(grown.min(retry.max_backoff)));
                    drop(halt);
                    tokio::time::sleep(pace.wait(wait, tried)).await;
                }
                Got::Again(halt, _) => {
                    return Err(halt.hint(
                        "run the same command again later: what is imported stays, and the \
                         comparison begins anew",
                    ));
                }
            }
        }
    }

    async fn once(&self, client: &Arc<Client>, url: &Url, most: u64) -> Result<Got, Halt> {
        let server = &self.caller.server;
        // The built-in limit is meant for checks; one that somebody has set holds here too.
        if server.rate_limit != FOR_CHECKS {
            client.admit(url).await;
        }
        let again = |halt: Halt| match halt.kind {
            ErrorKind::Resumable => Ok(Got::Again(halt, None)),
            _ => Err(halt),
        };
        let answer = match self.caller.ask(client, &Ask::get(url, FHIR_JSON)).await {
            Ok(answer) => answer,
            Err(failure) => return again(Halt::of(failure, true)),
        };
        let status = answer.status().as_u16();
        let wait = answer.retry_after();
        let name = &server.name;
        match status {
            200 => {
                let deadline = Instant::now() + server.timeouts.total;
                match answer.whole(most, deadline).await {
                    Ok(body) => Ok(Got::Found(Found::Body(body))),
                    // It is not going to get smaller.
                    Err(failure) if failure.code.as_str() == "http.too_large" => {
                        Ok(Got::Found(Found::Refused(status)))
                    }
                    Err(failure) => again(Halt::of(failure, true)),
                }
            }
            404 | 410 => Ok(Got::Found(Found::Absent)),
            401 => Err(Halt::new(
                ErrorKind::Credential,
                "auth.unauthorized",
                format!("{name} refuses the credential at a read (HTTP 401)"),
            )),
            429 | 503 => Ok(Got::Again(
                Halt::later("http.rate_limited", format!("{name} is too busy (HTTP {status})")),
                wait,
            )),
            408 | 425 | 500..=599 => Ok(Got::Again(
                Halt::later("http.status", format!("{name} fails at a read: HTTP {status}")),
                wait,
            )),
            _ => Ok(Got::Found(Found::Refused(status))),
        }
    }
}
