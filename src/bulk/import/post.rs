//! One bundle after another to its end: sent, answered, and what the answer means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use http::header::{HeaderName, HeaderValue};

use super::bundle::{self, Item, Verb};
use super::delivery::{Delivery, Fate, Reply, Stop, Then};
use super::send::Settings;
use super::window::Gate;
use crate::auth::caller::{Ask, Caller};
use crate::bulk::halt::Halt;
use crate::bulk::job::Words;
use crate::bulk::wait::Pace;
use crate::http::{Body, Client, Failure};
use crate::model::ErrorKind;
use crate::model::server::RateLimit;

const FHIR_JSON: &str = "application/fhir+json";
/// Most bytes of the answer to one bundle: some servers send every resource back.
const ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// The built-in rate limit is meant for checks. Bundles are paced by the window; another limit,
/// which somebody has set, holds for them too.
pub(in crate::bulk) const FOR_CHECKS: RateLimit = RateLimit { requests_per_second: 5.0, burst: 10 };
/// What all bundles have in common.
pub(super) struct Shared {
    pub(super) caller: Arc<Caller>,
    pub(super) gate: Gate,
    pub(super) settings: Settings,
    /// With a final slash.
    pub(super) base: String,
}

/// Something that must not be done twice was asked for, and no answer came.
pub(super) fn uncertain(what: &str) -> Halt {
    Halt::later(
        "bulk.import_uncertain",
        format!("{what}, and no answer came: nobody knows whether it arrived"),
    )
    .hint("look on the server whether the resources are there; if not, run it again with --resend")
}

impl Shared {
    /// Brings items to their end.
    ///
    /// # Errors
    /// Why it stopped before.
    pub(super) async fn deliver(
        &self,
        client: &Arc<Client>,
        items: &[Item],
    ) -> Result<Vec<(Fate, u32)>, Halt> {
        let is_repeatable = items.iter().all(|item| item.verb != Verb::Post);
        let mut delivery = Delivery::new(items.len(), is_repeatable, is_repeatable);
        let mut last: Option<Halt> = None;
        while let Some(group) = delivery.next_group() {
            let members: Vec<&Item> = group.members.iter().map(|&at| &items[at]).collect();
            let place = self.gate.enter().await;
            let begun = place.begun;
            let reply = self.post(client, &members, &mut last).await?;
            drop(place);
            let is_well = matches!(reply, Reply::Entries(_));
            match delivery.took(group, reply) {
                Then::GoOn if is_well => self.gate.went_well(),
                Then::GoOn => {}
                Then::SlowDown { wait, round } => {
                    self.gate.too_much(begun, self.pause(wait, round));
                }
                Then::Wait { wait, round } => tokio::time::sleep(self.pause(wait, round)).await,
                Then::Stop(Stop::Uncertain) => return Err(uncertain("the transaction was sent")),
                Then::Stop(Stop::Busy) => {
                    return Err(Halt::later(
                        "http.rate_limited",
                        "the server is too busy to take anything (HTTP 429 or 503)",
                    )
                    .hint("run the same command again later: what is done stays done"));
                }
                Then::Stop(Stop::Broken) => {
                    let halt = last.unwrap_or_else(|| {
                        Halt::later("http.closed", "the server breaks off again and again")
                    });
                    return Err(Halt { kind: ErrorKind::Resumable, ..halt }
                        .hint("run the same command again later: what is done stays done"));
                }
            }
        }
        Ok(delivery.ended())
    }

    /// How long to wait: as the server says, else longer with every round.
    fn pause(&self, asked_for: Option<Duration>, round: u32) -> Duration {
        let retry = self.caller.server.retry;
        if asked_for.is_some() {
            return Pace { floor: retry.backoff, ..Pace::default() }.wait(asked_for, 0);
        }
        let grown = retry.backoff.saturating_mul(2_u32.saturating_pow(round.min(20)));
        grown.min(retry.max_backoff).mul_f64(0.85 + 0.3 * fastrand::f64())
    }

    /// Sends one bundle and says what its answer is.
    async fn post(
        &self,
        client: &Arc<Client>,
        items: &[&Item],
        last: &mut Option<Halt>,
    ) -> Result<Reply, Halt> {
        let server = &self.caller.server;
        let is_atomic = self.settings.is_atomic || self.settings.assigns_ids;
        let body = bundle::body(items, is_atomic, &self.base);
        let prefer =
            [(HeaderName::from_static("prefer"), HeaderValue::from_static("return=minimal"))];
        let url = server.url.url();
        let ask = Ask {
            method: Method::POST,
            headers: &prefer,
            body: Some(Body { content_type: FHIR_JSON, bytes: &body, confidential: true }),
            ..Ask::get(url, FHIR_JSON)
        };
        if server.rate_limit != FOR_CHECKS {
            client.admit(url).await;
        }
        let answer = match self.caller.ask(client, &ask).await {
            Ok(answer) => answer,
            Err(failure) => return self.no_answer(failure, last),
        };
        drop(body);
        let status = answer.status().as_u16();
        let wait = answer.retry_after();
        match status {
            200..=299 => {
                let deadline = Instant::now() + server.timeouts.total;
                match answer.whole(ANSWER_BYTES, deadline).await {
                    Ok(body) => {
                        Ok(bundle::answers(&body).map_or(Reply::Unanswered, Reply::Entries))
                    }
                    Err(failure) => self.no_answer(failure, last),
                }
            }
            300..=399 => Err(Halt::failed(
                "http.redirect_refused",
                format!("the server redirects bundles (HTTP {status}); nothing was sent on"),
            )),
            401 | 403 => {
                let (words, _) = Words::read(answer).await;
                let (code, what) = match status {
                    401 => ("auth.unauthorized", "the server refuses the credential"),
                    _ => ("auth.forbidden", "the server does not permit writing"),
                };
                Err(Halt::new(ErrorKind::Credential, code, format!("{what} (HTTP {status})"))
                    .server_text(words.text)
                    .hint(
                        "run the same command again once it is put right: what is done stays done",
                    ))
            }
            404 | 405 | 501 => Err(Halt::failed(
                "fhir.interaction_missing",
                format!("the server takes no bundles at its base URL (HTTP {status})"),
            )
            .hint("look at rest.interaction of its CapabilityStatement: batch and transaction")),
            406 | 415 => Err(Halt::failed(
                "fhir.format_missing",
                format!("the server takes no {FHIR_JSON} (HTTP {status})"),
            )),
            413 => Ok(Reply::TooLarge),
            429 | 503 => Ok(Reply::Busy { wait }),
            500..=599 => {
                let (words, _) = Words::read(answer).await;
                let message = format!("the server failed at a bundle: HTTP {status}");
                *last = Some(Halt::later("http.status", message).server_text(words.text));
                Ok(Reply::Broken { status: Some(status), is_timeout: status == 504, wait })
            }
            _ => {
                let (words, _) = Words::read(answer).await;
                Ok(Reply::Refused { status, issues: words.issue.into_iter().collect() })
            }
        }
    }

    fn no_answer(&self, failure: Failure, last: &mut Option<Halt>) -> Result<Reply, Halt> {
        let is_timeout = failure.code.as_str() == "http.timeout";
        let halt = Halt::of(failure, true);
        if halt.kind != ErrorKind::Resumable {
            return Err(halt);
        }
        *last = Some(halt);
        Ok(Reply::Broken { status: None, is_timeout, wait: None })
    }
}
