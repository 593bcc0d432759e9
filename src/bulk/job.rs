//! A job on the server: begun, waited for, cancelled. Export and import share it.
//!
//! Bulk Data Access, "Bulk Data Kick-off Request", "Bulk Data Status Request", "Bulk Data Delete
//! Request"; FHIR R4 asynchronous requests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use http::header::{HeaderName, HeaderValue};
use url::Url;

use super::halt::Halt;
use crate::auth::caller::{Ask, Caller};
use crate::fhir::body::{BodyKind, sniff};
use crate::fhir::outcome::{IssueSeverity, OperationOutcome};
use crate::http::{Answer, Body, Client, Failure, Stage};
use crate::model::{Code, ErrorKind, limits, text};

/// What a status request accepts.
const STATUS_ACCEPT: &str = "application/json, application/fhir+json;q=0.9";
/// Child codes of `transient` in the code system issue-type (FHIR R4).
const TRANSIENT: [&str; 7] =
    ["transient", "lock-error", "no-store", "exception", "timeout", "incomplete", "throttled"];
/// How often `exception` is believed to pass: many servers call every failure that.
const EXCEPTIONS: u32 = 3;
/// A kick-off that is refused for longer than this is not waited for.
const LONG_REST: Duration = Duration::from_secs(5 * 60);
/// How often in a row a status request may fail in ways that say nothing of the job.
const FAILURES: u32 = 6;
/// Most characters of `X-Progress` that are shown; the specification allows 100.
const PROGRESS_CHARS: usize = 200;

/// A request that begins a job.
#[derive(Clone, Debug)]
pub struct KickOff {
    pub method: Method,
    pub url: Url,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub accept: &'static str,
    pub content_type: &'static str,
    pub body: Option<Vec<u8>>,
}

/// A job that the server took.
#[derive(Clone, Debug)]
pub struct Started {
    pub status_url: Url,
    /// Whether the status comes in `X-Export-Status` (STU3, `separate-export-status`).
    pub separate_status: bool,
    pub oddities: Vec<String>,
}

/// What came of the request.
pub enum Began {
    Started(Started),
    /// Another job runs, or the server is busy: after this long again.
    Busy {
        wait: Option<Duration>,
        halt: Halt,
    },
}

/// Begins a job.
///
/// # Errors
/// When the server refuses, or answers with anything but a job.
pub async fn begin(
    caller: &Caller,
    client: &Arc<Client>,
    kick_off: &KickOff,
) -> Result<Began, Halt> {
    let ask = Ask {
        method: kick_off.method.clone(),
        url: &kick_off.url,
        accept: kick_off.accept,
        headers: &kick_off.headers,
        body: kick_off.body.as_deref().map(|bytes| Body {
            content_type: kick_off.content_type,
            bytes,
            confidential: true,
        }),
        signed: true,
    };
    client.admit(&kick_off.url).await;
    let answer = caller.ask(client, &ask).await.map_err(|failure| Halt::of(failure, false))?;
    let status = answer.status().as_u16();
    if status == 202 {
        return started(&answer, &kick_off.url).map(Began::Started);
    }
    let wait = answer.retry_after();
    let (words, is_html) = Words::read(answer).await;
    let what = words.told();
    // Whatever status it comes with: what ends within minutes is waited for as a busy server is.
    let is_early = (400..500).contains(&status) && words.says("too recently");
    if is_early && wait.is_none_or(|wait| wait > LONG_REST) {
        let when = match wait {
            Some(wait) => format!("; it takes it again in {}", text::span(wait)),
            None => String::new(),
        };
        return Err(Halt::later(
            "bulk.too_early",
            format!("the server was asked for this export too recently (HTTP {status}){when}"),
        )
        .server_text(words.text)
        .hint("run the same command again then: some vendors take the same export once a day"));
    }
    let halt = match status {
        200..=299 => Halt::failed(
            "bulk.kickoff_refused",
            format!("the server did not begin a job: HTTP {status}, and 202 was expected"),
        ),
        401 => Halt::new(
            ErrorKind::Credential,
            "auth.unauthorized",
            "the server refuses the credential at the kick-off (HTTP 401)",
        )
        .hint(format!("try it by hand: fhirctl auth test {}", caller.server.name)),
        403 => Halt::new(
            ErrorKind::Credential,
            "auth.forbidden",
            "the server does not permit this export (HTTP 403)",
        )
        .hint("compare the scopes and the group with what the vendor has registered"),
        300..=399 => Halt::failed(
            "http.redirect_refused",
            format!("the server redirects the kick-off (HTTP {status}); nothing was sent on"),
        ),
        429 => Halt::later("http.rate_limited", "the server takes no further job now (HTTP 429)"),
        404 | 405 | 501 => Halt::failed(
            "fhir.operation_missing",
            format!("the server knows no such operation here (HTTP {status})"),
        )
        .hint("fhirctl test NAME shows which exports it declares; --mode crawl does without"),
        _ => Halt::failed(
            "bulk.kickoff_refused",
            format!("the server refused the kick-off: HTTP {status}{what}"),
        ),
    };
    let halt = halt.server_text(words.text);
    let is_busy = status == 429
        || is_early
        || status == 503
        || (matches!(status, 500 | 502 | 504) && (is_html || words.transience == Some(true)));
    if is_busy { Ok(Began::Busy { wait, halt }) } else { Err(halt) }
}

fn started(answer: &Answer, asked: &Url) -> Result<Started, Halt> {
    let mut oddities = Vec::new();
    let location = match (answer.header("content-location"), answer.header("location")) {
        (Some(location), _) if !location.trim().is_empty() => location,
        (_, Some(location)) if !location.trim().is_empty() => {
            oddities.push("the status URL came in Location, not in Content-Location".to_owned());
            location
        }
        _ => {
            return Err(Halt::failed(
                "bulk.no_status_url",
                "the server began a job and did not say where its status is (no Content-Location)",
            )
            .hint("a proxy in between may have dropped the header; tell the server's operator"));
        }
    };
    let location = location.trim();
    if Url::parse(location).is_err() {
        oddities.push("the status URL is relative".to_owned());
    }
    let status_url = asked.join(location).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
    });
    let Some(status_url) = status_url else {
        return Err(Halt::failed(
            "bulk.no_status_url",
            "the status URL that the server gave is none",
        ));
    };
    let applied: Vec<String> = answer
        .headers()
        .get_all("preference-applied")
        .iter()
        .flat_map(|value| {
            String::from_utf8_lossy(value.as_bytes())
                .to_ascii_lowercase()
                .split(',')
                .map(|it| it.trim().to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    let separate_status = applied.iter().any(|it| it == "separate-export-status");
    Ok(Started { status_url, separate_status, oddities })
}

/// What one look at a job shows.
pub enum Look {
    Running {
        wait: Option<Duration>,
        /// The server's words on how far it is, made printable.
        progress: Option<String>,
        /// A manifest of what is there already (STU3, `allowPartialManifests`).
        partial: Option<Answer>,
    },
    /// Nothing was learnt; worth another look.
    Unclear {
        wait: Option<Duration>,
        halt: Halt,
    },
    Done(Answer),
}

/// Looks after one job. Counts what went wrong in a row.
pub struct Watch<'a> {
    pub caller: &'a Caller,
    pub status_url: Url,
    pub separate_status: bool,
    pub accept: &'static str,
    headers: [(HeaderName, HeaderValue); 1],
    failures: u32,
    exceptions: u32,
}

impl<'a> Watch<'a> {
    #[must_use]
    pub fn new(caller: &'a Caller, status_url: Url, separate_status: bool) -> Watch<'a> {
        Watch {
            caller,
            status_url,
            separate_status,
            accept: STATUS_ACCEPT,
            // A manifest is unpacked as it is read, and it may be large.
            headers: [(http::header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"))],
            failures: 0,
            exceptions: 0,
        }
    }

    /// Looks once.
    ///
    /// # Errors
    /// When the job failed, is gone, or cannot be looked at any more.
    pub async fn look(&mut self, client: &Arc<Client>) -> Result<Look, Halt> {
        client.admit(&self.status_url).await;
        let ask = Ask { headers: &self.headers, ..Ask::get(&self.status_url, self.accept) };
        let answer = match self.caller.ask(client, &ask).await {
            Ok(answer) => answer,
            Err(failure) => {
                let halt = Halt::of(failure, true);
                return if halt.kind == ErrorKind::Resumable {
                    self.unclear(None, halt)
                } else {
                    Err(halt)
                };
            }
        };
        let mut status = answer.status().as_u16();
        let wait = answer.retry_after();
        if self.separate_status
            && status == 200
            && let Some(told) = answer.header("x-export-status")
        {
            status = told.trim().split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(status);
        }
        match status {
            202 => {
                self.failures = 0;
                let progress = answer.header("x-progress").map(|it| progress_text(&it));
                let is_json = answer
                    .header("content-type")
                    .is_some_and(|it| it.to_ascii_lowercase().contains("json"));
                let has_body = answer.header("content-length").is_none_or(|it| it.trim() != "0");
                let partial = (is_json && has_body).then_some(answer);
                Ok(Look::Running { wait, progress, partial })
            }
            200 => Ok(Look::Done(answer)),
            429 => {
                // Asked too early is no failure of the job, however often it happens.
                let halt = Halt::later("http.rate_limited", "the server was asked too often");
                Ok(Look::Unclear { wait: wait.or(Some(Duration::from_secs(5))), halt })
            }
            401 | 403 => {
                let (words, _) = Words::read(answer).await;
                let code = if status == 401 { "auth.unauthorized" } else { "auth.forbidden" };
                Err(Halt::new(
                    ErrorKind::Credential,
                    code,
                    format!("the job's status is refused (HTTP {status})"),
                )
                .server_text(words.text)
                .hint("the job goes on; run the same command again once the credential is right"))
            }
            404 | 410 => {
                let (words, _) = Words::read(answer).await;
                Err(Halt::failed(
                    "bulk.job_gone",
                    format!("the server knows nothing of the job any more (HTTP {status})"),
                )
                .server_text(words.text)
                .hint("it was purged or cancelled; begin anew in another folder"))
            }
            300..=399 => Err(Halt::failed(
                "http.redirect_refused",
                format!("the job's status redirects (HTTP {status}); it is not followed"),
            )),
            _ => {
                let (words, _) = Words::read(answer).await;
                let what = words.told();
                let is_server = status >= 500 || status == 408;
                match words.transience {
                    Some(true) => {
                        if words.is_exception {
                            self.exceptions += 1;
                        }
                        let message =
                            format!("the status request failed for now: HTTP {status}{what}");
                        let halt =
                            Halt::later("bulk.status_failed", message).server_text(words.text);
                        if self.exceptions > EXCEPTIONS {
                            return Err(Halt { kind: ErrorKind::Unavailable, ..halt });
                        }
                        self.unclear(wait, halt)
                    }
                    // A gateway's page says nothing of the job.
                    None if is_server => {
                        let message = format!("the status request failed: HTTP {status}");
                        self.unclear(wait, Halt::later("bulk.status_failed", message))
                    }
                    _ => Err(Halt::failed(
                        "bulk.job_failed",
                        format!("the job failed on the server: HTTP {status}{what}"),
                    )
                    .server_text(words.text)
                    .hint("tell the server's operator; the ledger keeps the status URL")),
                }
            }
        }
    }

    fn unclear(&mut self, wait: Option<Duration>, halt: Halt) -> Result<Look, Halt> {
        self.failures += 1;
        if self.failures >= FAILURES {
            return Err(halt.hint("the job may still go on; run the same command again later"));
        }
        Ok(Look::Unclear { wait, halt })
    }
}

/// What came of a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    Done,
    /// Done, with another status than 202.
    Oddly(u16),
    /// The server knew nothing of it any more.
    Gone,
}

/// Deletes a job: a running one is cancelled, a finished one may be purged.
///
/// # Errors
/// When the server refuses or does not answer.
pub async fn delete(
    caller: &Caller,
    client: &Arc<Client>,
    status_url: &Url,
) -> Result<Cancelled, Halt> {
    let ask = Ask { method: Method::DELETE, ..Ask::get(status_url, STATUS_ACCEPT) };
    client.admit(status_url).await;
    let answer = caller.ask(client, &ask).await.map_err(|failure| Halt::of(failure, true))?;
    let status = answer.status().as_u16();
    match status {
        202 => Ok(Cancelled::Done),
        200 | 204 => Ok(Cancelled::Oddly(status)),
        404 | 410 => Ok(Cancelled::Gone),
        _ => {
            let (words, _) = Words::read(answer).await;
            let what = words.told();
            Err(Halt::failed(
                "bulk.delete_refused",
                format!("the server does not delete the job: HTTP {status}{what}"),
            )
            .server_text(words.text))
        }
    }
}

/// What an error says of itself.
pub struct Words {
    /// Whether every issue that counts is of the transient family; `None` without an outcome.
    pub transience: Option<bool>,
    /// Whether it is `exception`, which may be anything.
    pub is_exception: bool,
    /// The first issue's code.
    pub issue: Option<String>,
    /// The server's own words, bounded.
    pub text: Option<String>,
}

impl Words {
    /// Reads an answer's OperationOutcome; the second value says that it was a page or nothing.
    pub async fn read(answer: Answer) -> (Words, bool) {
        let content_type = answer.header("content-type").unwrap_or_default();
        let deadline = Instant::now() + Duration::from_secs(30);
        let bytes = answer.whole(limits::SMALL_BODY_BYTES, deadline).await.unwrap_or_default();
        let kind = sniff(Some(&content_type), &bytes);
        let outcome = match kind {
            BodyKind::Json | BodyKind::Xml => OperationOutcome::parse(kind, &bytes),
            _ => None,
        };
        let Some(outcome) = outcome else {
            let none = Words { transience: None, is_exception: false, issue: None, text: None };
            return (none, true);
        };
        let grave: Vec<_> =
            outcome.issues.iter().filter(|it| it.severity >= IssueSeverity::Error).collect();
        let transience =
            !grave.is_empty() && grave.iter().all(|it| TRANSIENT.contains(&it.code.as_str()));
        let issue = grave.first().map(|it| it.code.clone()).filter(|code| {
            !code.is_empty() && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
        });
        let words = Words {
            transience: Some(transience),
            is_exception: grave.iter().any(|it| it.code == "exception"),
            issue,
            text: Some(outcome.summary(limits::SERVER_TEXT_CHARS)).filter(|text| !text.is_empty()),
        };
        (words, false)
    }

    /// Whether the server's own words hold these.
    fn says(&self, words: &str) -> bool {
        self.text.as_ref().is_some_and(|text| text.to_ascii_lowercase().contains(words))
    }

    /// `, issue processing`, or nothing.
    fn told(&self) -> String {
        self.issue.as_ref().map(|issue| format!(", issue {issue}")).unwrap_or_default()
    }
}

/// The server's words on how far it is: printable, one line, bounded.
fn progress_text(raw: &str) -> String {
    text::one_line(&text::bounded(raw, PROGRESS_CHARS))
}

/// A link that the server gave, against the address that gave it.
///
/// # Errors
/// `bulk.bad_link` when it is no address over HTTP.
pub fn follow(from: &Url, link: &str) -> Result<Url, Failure> {
    let bad = |message: &str| Failure::new(Stage::Setup, Code::new("bulk.bad_link"), message);
    let url = from.join(link.trim()).map_err(|_| bad("a link of the manifest is no address"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("a link of the manifest is no HTTP address"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("a link of the manifest holds a user and a password"));
    }
    Ok(url)
}
