//! What struck faults make of an answer.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress};
use futures_util::stream;
use jiff::Timestamp;

use super::answer::{Content, Reply};
use super::fault::{Effect, RetryAfter};
use super::fhir::outcome::{Refusal, outcome};
use super::persona::{Throttle, Wait};
use super::sign_in::Method;
use crate::serve::{Answer, Body, HeaderName, HeaderValue, Piece, Response, StatusCode, header};

/// How long the first part of a truncated body has to get on its way.
const BEFORE_BREAK: Duration = Duration::from_millis(20);
/// What `Retry-After` as a date promises.
const RETRY_AFTER_SECONDS: i64 = 30;
const MIB: usize = 1024 * 1024;
/// MiB that a bomb expands to.
const BOMB_MIB: usize = 4 * 1024;

/// The effects that struck one request, sorted by when they take hold.
#[derive(Debug, Default)]
pub(super) struct Struck<'a> {
    /// Waits before anything else, added up.
    pub(super) latency: Duration,
    /// Takes the place of the answer; the first one wins.
    pub(super) instead: Option<&'a Effect>,
    /// Changes the answer on its way out, in their order.
    pub(super) changes: Vec<&'a Effect>,
    pub(super) health_down: bool,
    pub(super) ignore_parameters: bool,
    pub(super) empty_search: bool,
    pub(super) paging_loop: bool,
    pub(super) plain_links: bool,
    pub(super) prefer_lost: bool,
}

impl<'a> Struck<'a> {
    pub(super) fn of(effects: impl Iterator<Item = &'a Effect>) -> Struck<'a> {
        let mut struck = Struck::default();
        for effect in effects {
            match effect {
                Effect::Latency(time) => struck.latency += *time,
                Effect::HealthDown => struck.health_down = true,
                Effect::IgnoreParameters => struck.ignore_parameters = true,
                Effect::EmptySearch => struck.empty_search = true,
                Effect::PagingLoop => struck.paging_loop = true,
                Effect::PlainLinks => struck.plain_links = true,
                Effect::PreferLost => struck.prefer_lost = true,
                Effect::Truncate | Effect::SlowDrip(_) | Effect::ContentType(_) => {
                    struck.changes.push(effect);
                }
                Effect::Status(_)
                | Effect::Drop
                | Effect::Reset
                | Effect::Garbage
                | Effect::Endless
                | Effect::Bomb
                | Effect::Redirect(_)
                | Effect::RateLimited(_)
                | Effect::OutcomeError
                | Effect::LoginPage => {
                    struck.instead.get_or_insert(effect);
                }
                // At work in the handshake already.
                Effect::CertificateExpired
                | Effect::CertificateWrongHost
                | Effect::CertificateSelfSigned => {}
            }
        }
        struck
    }
}

/// What an effect puts in the place of the answer.
pub(super) enum Instead {
    Reply(Reply),
    Raw(Answer),
}

/// `None` for an effect that leaves the answer in its place. `throttle`: how a persona refuses those
/// who ask too often.
pub(super) fn instead(
    effect: &Effect,
    method: Method,
    throttle: Option<&'static Throttle>,
    now: Timestamp,
) -> Option<Instead> {
    let reply = match effect {
        Effect::Drop => return Some(Instead::Raw(Answer::Close)),
        Effect::Reset => return Some(Instead::Raw(Answer::Reset)),
        Effect::Endless => return Some(Instead::Raw(Answer::Reply(endless()))),
        Effect::Bomb => return Some(Instead::Raw(Answer::Reply(bomb()))),
        Effect::Status(code) => status(*code, method),
        Effect::Garbage => Reply::new(
            StatusCode::OK,
            Content::Text(
                "application/fhir+json; charset=utf-8",
                Bytes::from_static(b"}{ \"resourceType\": \xff\x00 this is no JSON <<<"),
            ),
        ),
        Effect::Redirect(to) => {
            Reply::new(StatusCode::FOUND, Content::Empty).with(header::LOCATION, to)
        }
        Effect::RateLimited(after) => throttled(*after, throttle, now),
        Effect::OutcomeError => Reply::ok(outcome(
            "error",
            "exception",
            "the data store does not answer (a fault of this sandbox)",
        )),
        Effect::LoginPage => Reply::new(
            StatusCode::OK,
            Content::Text("text/html; charset=utf-8", Bytes::from_static(LOGIN_PAGE)),
        ),
        _ => return None,
    };
    Some(Instead::Reply(reply))
}

const LOGIN_PAGE: &[u8] = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>\
    <h1>Sign in</h1><form method=\"post\" action=\"/login\">\
    <label>User <input name=\"user\"></label>\
    <label>Password <input name=\"password\" type=\"password\"></label>\
    <button>Sign in</button></form></body></html>\n";

fn status(code: u16, method: Method) -> Reply {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if matches!(code, 204 | 205 | 304) {
        return Reply::new(status, Content::Empty);
    }
    let issue = match code {
        200..=399 => "informational",
        401 => "login",
        403 => "forbidden",
        404 => "not-found",
        429 => "throttled",
        503 | 504 => "transient",
        _ => "processing",
    };
    let severity = if code < 400 { "information" } else { "error" };
    let text = format!("status {code} (a fault of this sandbox)");
    let reply = Reply::new(status, Content::Resource(outcome(severity, issue, &text)));
    match code {
        401 => reply.with(header::WWW_AUTHENTICATE, &method.challenge(false)),
        _ => reply,
    }
}

/// Changes an answer on its way out.
pub(super) fn change(response: &mut Response<Body>, effect: &Effect) {
    if let Effect::ContentType(kind) = effect {
        if let Ok(kind) = HeaderValue::from_str(kind) {
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        return;
    }
    let Body::Whole(body) = response.body() else { return };
    if body.is_empty() {
        return;
    }
    let body = body.clone();
    let length = HeaderValue::from(body.len());
    *response.body_mut() = match effect {
        Effect::Truncate => truncated(&body),
        Effect::SlowDrip(interval) => dripping(body, *interval),
        _ => return,
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
}

/// The first half of a body, and then the end of the connection.
fn truncated(body: &Bytes) -> Body {
    let half = body.slice(..body.len() / 2);
    Body::pieces(stream::unfold(Some(half), |half| async {
        match half {
            Some(half) => Some((Piece::Data(half), None)),
            None => {
                tokio::time::sleep(BEFORE_BREAK).await;
                Some((Piece::Break, None))
            }
        }
    }))
}

fn dripping(body: Bytes, interval: Duration) -> Body {
    Body::pieces(stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(interval).await;
        let byte = rest.split_to(1);
        Some((Piece::Data(byte), rest))
    }))
}

/// A Bundle whose entries never end; one piece of it is shared by all who read it.
fn endless() -> Response<Body> {
    static ENTRIES: LazyLock<Bytes> = LazyLock::new(|| {
        let entry = "{\"resource\":{\"resourceType\":\"Patient\",\"id\":\"again\"}},";
        Bytes::from(entry.repeat(16 * 1024 / entry.len()))
    });
    let head = Bytes::from_static(BUNDLE_HEAD);
    let body = stream::unfold(Some(head), |head| async {
        let piece = head.unwrap_or_else(|| ENTRIES.clone());
        Some((Piece::Data(piece), None))
    });
    json_response(Body::pieces(body))
}

const BUNDLE_HEAD: &[u8] = b"{\"resourceType\":\"Bundle\",\"type\":\"searchset\",\"entry\":[";
const BUNDLE_TAIL: &[u8] = b"]}";

/// A gzip stream in four parts: `middle` is sent many times over. It is valid to the last byte, and
/// so is the Bundle inside: nothing but its size gives it away.
struct Bomb {
    head: Bytes,
    middle: Bytes,
    tail: Bytes,
}

static BOMB: LazyLock<Bomb> = LazyLock::new(|| {
    let blank = vec![b' '; MIB];
    let mut head = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    head.extend(deflated(BUNDLE_HEAD));
    let mut tail = deflated(BUNDLE_TAIL);
    // An empty last block, then the sum and the size modulo 2^32 (RFC 1951 and RFC 1952).
    tail.extend([3, 0]);
    let mut sum = Crc::new();
    sum.update(BUNDLE_HEAD);
    let mut one = Crc::new();
    one.update(&blank);
    for _ in 0..BOMB_MIB {
        sum.combine(&one);
    }
    sum.update(BUNDLE_TAIL);
    tail.extend(sum.sum().to_le_bytes());
    let size = (BUNDLE_HEAD.len() + BOMB_MIB * MIB + BUNDLE_TAIL.len()) as u64;
    tail.extend(&size.to_le_bytes()[..4]);
    Bomb { head: head.into(), middle: deflated(&blank).into(), tail: tail.into() }
});

/// Deflate blocks that end on a byte and look back at nothing before them.
fn deflated(plain: &[u8]) -> Vec<u8> {
    let mut packer = Compress::new(Compression::best(), false);
    let mut packed = Vec::with_capacity(64 + plain.len() / 8);
    // Room enough was made, so that one call packs all of it.
    let _ = packer.compress_vec(plain, &mut packed, FlushCompress::Full);
    packed
}

fn bomb() -> Response<Body> {
    let Bomb { head, middle, tail } = &*BOMB;
    let length = head.len() + BOMB_MIB * middle.len() + tail.len();
    let body = stream::unfold(0, move |step| async move {
        let piece = match step {
            0 => head.clone(),
            step if step <= BOMB_MIB => middle.clone(),
            step if step == BOMB_MIB + 1 => tail.clone(),
            _ => return None,
        };
        Some((Piece::Data(piece), step + 1))
    });
    let mut response = json_response(Body::pieces(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

fn json_response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/fhir+json; charset=utf-8"),
    );
    response
}

fn throttled(after: RetryAfter, own: Option<&'static Throttle>, now: Timestamp) -> Reply {
    let seconds = match after {
        RetryAfter::Seconds(seconds) => i64::from(seconds),
        RetryAfter::Date => RETRY_AFTER_SECONDS,
    };
    let filled = |text: &str| {
        let text = text.replace("{seconds}", &seconds.to_string());
        text.replace("{ms}", &(seconds * 1000).to_string())
    };
    let mut reply = Reply::from(Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        "throttled",
        "too many requests (a fault of this sandbox)",
    ));
    // A date is what was asked for, whoever it is that answers.
    let retry_after = match (after, own.map(|own| own.retry_after).unwrap_or_default()) {
        (RetryAfter::Date, _) => Some(http_date(now, seconds)),
        (_, Wait::Seconds) => Some(seconds.to_string()),
        (_, Wait::EpochMs) => Some((now.as_millisecond() + seconds * 1000).to_string()),
        (_, Wait::Absent) => None,
    };
    if let Some(retry_after) = retry_after {
        reply = reply.with(header::RETRY_AFTER, &retry_after);
    }
    let Some(own) = own else { return reply };
    if let Some(page) = &own.page {
        reply.content = Content::Text(&page.content_type, filled(&page.body).into());
    }
    for (name, value) in &own.headers {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            reply = reply.with(name, &filled(value));
        }
    }
    reply
}

/// An HTTP date (RFC 9110, section 5.6.7) some seconds from now.
pub(super) fn http_date(now: Timestamp, seconds: i64) -> String {
    let later = now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now);
    later.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_bomb_is_small_on_the_wire_and_valid_where_it_is_opened() {
        let Bomb { head, middle, tail } = &*BOMB;
        assert!(head.len() + BOMB_MIB * middle.len() + tail.len() < 8 * MIB);
        let start = [head.as_ref(), middle.as_ref(), middle.as_ref()].concat();
        let mut opened = vec![0; BUNDLE_HEAD.len() + 2 * MIB];
        flate2::read::GzDecoder::new(start.as_slice()).read_exact(&mut opened).unwrap();
        assert!(opened.starts_with(BUNDLE_HEAD));
        assert!(opened[BUNDLE_HEAD.len()..].iter().all(|byte| *byte == b' '));
    }

    #[test]
    fn a_retry_date_is_written_as_http_writes_it() {
        let now = "2026-01-02T23:59:45Z".parse().unwrap();
        assert_eq!(http_date(now, 30), "Sat, 03 Jan 2026 00:00:15 GMT");
    }

    #[test]
    fn the_first_answer_wins_and_latencies_add_up() {
        let effects = [
            Effect::Latency(Duration::from_secs(1)),
            Effect::Status(503),
            Effect::Latency(Duration::from_secs(2)),
            Effect::Drop,
            Effect::Truncate,
        ];
        let struck = Struck::of(effects.iter());
        assert_eq!(struck.latency, Duration::from_secs(3));
        assert_eq!(struck.instead, Some(&Effect::Status(503)));
        assert_eq!(struck.changes, [&Effect::Truncate]);
    }

    #[test]
    fn a_status_comes_with_an_outcome_where_a_body_may_be() {
        for (code, has_body) in [(503, true), (401, true), (204, false), (304, false)] {
            let reply = status(code, Method::Basic);
            assert_eq!(reply.status.as_u16(), code);
            assert_eq!(matches!(reply.content, Content::Resource(_)), has_body, "{code}");
        }
        assert!(status(401, Method::Basic).headers.contains_key(header::WWW_AUTHENTICATE));
    }
}
