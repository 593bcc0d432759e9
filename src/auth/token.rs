//! One request to a token endpoint, and what its answer means (RFC 6749 §5).

use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use super::discovery::SmartConfiguration;
use super::key::Signature;
use crate::http::{Body, Client, Credential, Failure, Request, Stage, machine};
use crate::model::{Code, Secret, limits};

/// Most bytes of a token endpoint's answer.
const ANSWER_BYTES: u64 = 256 * 1024;
/// A token that says it lives longer is taken to live so long.
const LONGEST_LIFE: i64 = 24 * 60 * 60;
/// Share of its life after which a token is renewed.
const RENEWED_AFTER: f64 = 0.8;

/// An access token with what came with it.
#[derive(Clone, Debug)]
pub struct Token {
    pub value: Secret,
    /// When it was asked for.
    pub obtained_at: Timestamp,
    pub expires_at: Timestamp,
    /// As granted; `None` when the answer named none, which means as asked (RFC 6749 §5.1).
    pub scopes: Option<Vec<String>>,
    pub endpoint: String,
    pub refresh_token: Option<Secret>,
}

impl Token {
    /// Whether less than four fifths of its life are over.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        let life = self.expires_at.as_second() - self.obtained_at.as_second();
        let age = now.as_second() - self.obtained_at.as_second();
        // A clock that was set back makes no token young again.
        age >= -60 && (age as f64) < life as f64 * RENEWED_AFTER
    }

    /// The header that carries it (RFC 6750 §2.1).
    pub(super) fn header(&self) -> Result<(HeaderName, HeaderValue), Failure> {
        let text = Zeroizing::new(format!("Bearer {}", self.value.expose()));
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            failed("the token has characters that no header can carry", &self.endpoint)
        })?;
        value.set_sensitive(true);
        Ok((AUTHORIZATION, value))
    }

    /// For sealing.
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let stored = Stored {
            access_token: self.value.expose(),
            obtained_at: self.obtained_at,
            expires_at: self.expires_at,
            scopes: self.scopes.clone(),
            endpoint: &self.endpoint,
            refresh_token: self.refresh_token.as_ref().map(Secret::expose),
        };
        Zeroizing::new(serde_json::to_vec(&stored).unwrap_or_default())
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Token> {
        let stored: Stored<'_> = serde_json::from_slice(bytes).ok()?;
        Some(Token {
            value: Secret::new(stored.access_token.to_owned()),
            obtained_at: stored.obtained_at,
            expires_at: stored.expires_at,
            scopes: stored.scopes,
            endpoint: stored.endpoint.to_owned(),
            refresh_token: stored.refresh_token.map(|token| Secret::new(token.to_owned())),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    access_token: &'a str,
    obtained_at: Timestamp,
    expires_at: Timestamp,
    scopes: Option<Vec<String>>,
    endpoint: &'a str,
    refresh_token: Option<&'a str>,
}

/// What a method asks its token endpoint for.
#[derive(Debug)]
pub(super) struct Ask {
    pub endpoint: Url,
    pub how: How,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub sent: Sent,
}

#[derive(Debug)]
pub(super) enum How {
    /// A form, urlencoded. It holds the secret.
    Post(Secret),
    /// The metadata services of cloud machines are asked so.
    Get,
}

/// What an explanation of a refusal needs to know of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    pub client_id: Option<String>,
    /// Whether a signed assertion was sent, whose times the other side checks.
    pub audience: Option<String>,
    pub key_id: Option<String>,
    pub signature: Option<Signature>,
    /// The scopes that were asked for; empty when none were.
    pub scopes: Vec<String>,
    /// Where the public half of the key is published.
    pub jwks_url: Option<Url>,
    pub discovered: Option<SmartConfiguration>,
    /// Numbers come as texts from this provider, by its own paper.
    pub texts_as_numbers: bool,
    /// What counts where the answer does not say how long the token lives, in seconds.
    pub life: Option<i64>,
}

/// A form's fields, urlencoded.
pub(super) fn form<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Secret {
    let mut form = url::form_urlencoded::Serializer::new(String::with_capacity(4096));
    form.extend_pairs(fields);
    Secret::new(form.finish())
}

/// What came back.
pub(super) enum Answer {
    Token(Box<Token>),
    /// The provider's own refusal, with the exchange that carried it.
    Refused(Refusal),
}

/// A refusal in the provider's words (RFC 6749 §5.2).
#[derive(Clone, Debug, Default)]
pub(super) struct Refusal {
    pub status: u16,
    pub error: String,
    pub description: String,
    /// This machine's clock minus the provider's, in milliseconds.
    pub clock_skew_ms: Option<i64>,
}

/// Sends the request, once.
///
/// # Errors
/// `auth.token_endpoint` when no answer came that is one of a token endpoint, and
/// `auth.insecure_transport` when it would have gone over plain HTTP.
pub(super) async fn request(
    client: &Client,
    ask: &Ask,
    now: Timestamp,
    deadline: Instant,
) -> Result<Answer, Failure> {
    let credential =
        Credential { headers: ask.headers.clone(), confidential: true, ..Credential::default() };
    let body = match &ask.how {
        How::Post(form) => Some(Body {
            content_type: "application/x-www-form-urlencoded",
            bytes: form.expose().as_bytes(),
            confidential: true,
        }),
        How::Get => None,
    };
    let request = Request {
        url: ask.endpoint.clone(),
        accept: "application/json",
        credential: Some(&credential),
        max_body: ANSWER_BYTES,
        deadline,
        if_none_match: None,
        body,
    };
    let exchange = client.send(&request).await.map_err(|failure| unreached(failure, ask))?;
    let came = Came {
        status: exchange.status(),
        body: &exchange.body,
        clock_skew_ms: exchange.http.clock_skew_ms,
        retry_after: exchange.retry_after(),
    };
    judge(&came, ask, now)
}

/// Asks the service of the machine that this runs on.
///
/// # Errors
/// `auth.token_endpoint` when it does not answer, or not with a token.
pub(super) async fn ask_machine(ask: &Ask, now: Timestamp) -> Result<Answer, Failure> {
    let place = place(&ask.endpoint);
    let answer =
        machine::ask(http::Method::GET, &ask.endpoint, &ask.headers).await.map_err(|why| {
            failed(&format!("no token from this machine: {why}"), &place)
                .hint("Does this run on a machine of that cloud, and has it an identity?")
        })?;
    let came =
        Came { status: answer.status, body: &answer.body, clock_skew_ms: None, retry_after: None };
    judge(&came, ask, now)
}

/// What is looked at of an answer.
struct Came<'a> {
    status: u16,
    body: &'a [u8],
    clock_skew_ms: Option<i64>,
    retry_after: Option<Duration>,
}

/// The endpoint without its query, for messages.
pub(super) fn place(endpoint: &Url) -> String {
    let mut shown = endpoint.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    shown.to_string()
}

fn unreached(failure: Failure, ask: &Ask) -> Failure {
    let place = place(&ask.endpoint);
    if failure.code == Code::new("auth.insecure_transport") {
        return Failure {
            message: format!("the token endpoint {place} is plain HTTP; nothing was sent"),
            ..failure
        };
    }
    if failure.code == Code::new("http.redirect_refused") {
        return Failure::new(
            Stage::Setup,
            Code::new("auth.token_endpoint"),
            format!("the token endpoint {place} redirects; a credential is not sent on"),
        )
        .hint("Set auth.token_url to the address that answers itself, if the vendor confirms it.");
    }
    let mut told = Failure::new(
        Stage::Setup,
        Code::new("auth.token_endpoint"),
        format!(
            "no answer from the token endpoint {place}: {} ({})",
            failure.message, failure.code
        ),
    );
    told.hint = failure.hint;
    told
}

fn failed(message: &str, place: &str) -> Failure {
    Failure::new(
        Stage::Setup,
        Code::new("auth.token_endpoint"),
        format!("the token endpoint {place}: {message}"),
    )
}

fn judge(came: &Came<'_>, ask: &Ask, now: Timestamp) -> Result<Answer, Failure> {
    let place = place(&ask.endpoint);
    let status = came.status;
    let json: Option<Value> = serde_json::from_slice(came.body).ok();
    let words = || server_words(came.body);
    if !(200..300).contains(&status) {
        let error = json.as_ref().and_then(error_name);
        if let Some(error) = error {
            let description = json
                .as_ref()
                .and_then(|json| json.get("error_description"))
                .and_then(Value::as_str)
                .unwrap_or_default();
            let bounded = |text: &str| {
                crate::model::text::one_line(&crate::model::text::bounded(
                    text,
                    limits::SERVER_TEXT_CHARS,
                ))
            };
            return Ok(Answer::Refused(Refusal {
                status,
                error: bounded(&error),
                description: bounded(description),
                clock_skew_ms: came.clock_skew_ms,
            }));
        }
        if status == 401 {
            return Ok(Answer::Refused(Refusal {
                status,
                clock_skew_ms: came.clock_skew_ms,
                ..Refusal::default()
            }));
        }
        let wait = match (status, came.retry_after) {
            (429 | 503, Some(wait)) => format!("; it asks to wait {} s", wait.as_secs()),
            _ => String::new(),
        };
        return Err(failed(&format!("HTTP {status}{wait}"), &place).server_text(words()));
    }
    let Some(json) = json.filter(Value::is_object) else {
        let what = match came.body.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None => "an empty body",
            Some(b'<') => "an HTML or XML page",
            Some(_) => "no JSON object",
        };
        return Err(failed(&format!("HTTP {status} with {what} where a token was due"), &place)
            .server_text(words())
            .hint(
                "Is auth.token_url the token endpoint, and is no sign-in page or proxy before it?",
            ));
    };
    Ok(Answer::Token(Box::new(token(&json, ask, now, &place)?)))
}

/// `error` as RFC 6749 has it; some providers wrap it into an object.
fn error_name(json: &Value) -> Option<String> {
    match json.get("error")? {
        Value::String(error) => Some(error.clone()),
        Value::Object(error) => {
            let text = ["code", "status", "message"].into_iter().find_map(|key| error.get(key))?;
            Some(text.as_str().map_or_else(|| text.to_string(), str::to_owned))
        }
        _ => None,
    }
}

fn server_words(body: &[u8]) -> Option<String> {
    let start = &body[..body.len().min(limits::SERVER_TEXT_CHARS * 4)];
    let text = String::from_utf8_lossy(start);
    let text = text.trim();
    // A body that holds a token is nobody's to see.
    (!text.is_empty() && !text.contains("access_token"))
        .then(|| crate::model::text::bounded(text, limits::SERVER_TEXT_CHARS).to_owned())
}

fn token(json: &Value, ask: &Ask, now: Timestamp, place: &str) -> Result<Token, Failure> {
    let value = match json.get("access_token") {
        Some(Value::String(token)) if !token.trim().is_empty() => Secret::new(token.clone()),
        Some(Value::String(_)) => {
            return Err(failed("the answer's access_token is empty", place));
        }
        Some(_) => return Err(failed("the answer's access_token is not a text", place)),
        None => {
            return Err(failed("HTTP 200 without an access_token", place)
                .hint("Is auth.token_url really the token endpoint?"));
        }
    };
    match json.get("token_type").and_then(Value::as_str) {
        Some(kind) if kind.eq_ignore_ascii_case("bearer") => {}
        // Required by RFC 6749 §5.1 and left out by some; what we send is a bearer token anyway.
        None => {}
        Some(other) => {
            let kind = crate::model::text::bounded(other, 20);
            return Err(failed(&format!("the token's type is {kind:?}, not Bearer"), place));
        }
    }
    let life = life(json.get("expires_in"), &ask.sent, place)?;
    let scopes = json.get("scope").and_then(Value::as_str).map(super::scope::split);
    let expires_at =
        Timestamp::from_second(now.as_second().saturating_add(life)).unwrap_or(Timestamp::MAX);
    Ok(Token {
        value,
        obtained_at: now,
        expires_at,
        scopes,
        endpoint: place.to_owned(),
        refresh_token: json
            .get("refresh_token")
            .and_then(Value::as_str)
            .filter(|token| !token.is_empty())
            .map(|token| Secret::new(token.to_owned())),
    })
}

/// `expires_in`, seconds (RFC 6749 §5.1).
fn life(expires_in: Option<&Value>, sent: &Sent, place: &str) -> Result<i64, Failure> {
    let said = match expires_in {
        Some(Value::Number(number)) => number.as_f64().map(|seconds| seconds as i64),
        Some(Value::String(text)) if sent.texts_as_numbers => text.trim().parse().ok(),
        _ => None,
    };
    if let Some(seconds) = said.filter(|seconds| *seconds > 0) {
        return Ok(seconds.min(LONGEST_LIFE));
    }
    if let Some(life) = sent.life {
        return Ok(life.clamp(1, LONGEST_LIFE));
    }
    let what = match expires_in {
        None | Some(Value::Null) => "the answer does not say how long the token lives (expires_in)",
        Some(Value::String(_)) => "expires_in is a text where a number of seconds is due",
        Some(Value::Number(_)) => "expires_in is 0 or less: the token is over as it comes",
        Some(_) => "expires_in is not a number of seconds",
    };
    Err(failed(what, place).hint(
        "Tell the provider; until it is mended, auth.token_lifetime says how long a token lives.",
    ))
}
