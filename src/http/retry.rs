//! When to ask again, and after how long.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use jiff::Timestamp;

use super::{Client, Exchange, Failure, Request};
use crate::model::server::Retry;

/// The longest wait that a server may ask for and get.
pub const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads `Retry-After` (RFC 9110 §10.2.3): a number of seconds or an HTTP date.
///
/// Dates in the past and negative numbers are no wait at all. A number too large to be a wait is
/// what some limiters send instead, the instant itself in seconds or milliseconds since 1970. What
/// is longer than a day is a day. `None` for anything else.
#[must_use]
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    /// 2001-09-09: no wait is that long, and no instant sent today is that early.
    const EPOCH_SECONDS: i64 = 1_000_000_000;
    const EPOCH_MILLIS: i64 = EPOCH_SECONDS * 1000;
    let value = value.trim();
    let seconds = match value.parse::<i64>() {
        Ok(millis) if millis >= EPOCH_MILLIS => millis / 1000 - now.as_second(),
        Ok(instant) if instant >= EPOCH_SECONDS => instant - now.as_second(),
        Ok(seconds) => seconds,
        Err(_) => parse_http_date(value)?.as_second() - now.as_second(),
    };
    let wait = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Some(wait.min(LONGEST_WAIT))
}

/// An HTTP date in its present form, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
#[must_use]
pub fn parse_http_date(value: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()
}

impl Client {
    /// Sends a request for a data command: again after a transient failure, as the server's retry
    /// settings say, with jitter and with respect for `Retry-After`.
    ///
    /// Only what is safe is repeated: the requests of this client are all `GET`. A refusal (401,
    /// 403) is never repeated.
    ///
    /// # Errors
    /// The last attempt's [`Failure`].
    pub async fn fetch(&self, request: &Request<'_>, retry: Retry) -> Result<Exchange, Failure> {
        let mut waits = ExponentialBuilder::default()
            .with_min_delay(retry.backoff)
            .with_max_delay(retry.max_backoff)
            .with_max_times(retry.attempts.saturating_sub(1) as usize)
            .with_jitter()
            .build();
        loop {
            let result = self.send(request).await;
            let asked_for = match &result {
                Ok(answer) if is_transient(answer.status()) => answer.retry_after(),
                Err(failure) if is_transient_code(failure.code.as_str()) => None,
                _ => return result,
            };
            let Some(backoff) = waits.next() else { return result };
            // A server that asks for more patience than the settings allow gets the answer kept.
            match asked_for {
                Some(wait) if wait > retry.max_backoff => return result,
                Some(wait) => tokio::time::sleep(wait.max(backoff)).await,
                None => tokio::time::sleep(backoff).await,
            }
        }
    }
}

fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

fn is_transient_code(code: &str) -> bool {
    matches!(
        code,
        "dns.timeout"
            | "dns.servfail"
            | "tcp.refused"
            | "tcp.timeout"
            | "tcp.reset"
            | "tcp.unreachable"
            | "http.timeout"
            | "http.closed"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_retry_after_are_read_and_the_absurd_is_bounded() {
        let now: Timestamp = "2026-11-23T06:00:00Z".parse().unwrap();
        let seconds = |text: &str| parse_retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("-5"), Some(0));
        assert_eq!(seconds("Mon, 23 Nov 2026 06:02:00 GMT"), Some(120));
        assert_eq!(seconds("Sun, 22 Nov 2026 06:02:00 GMT"), Some(0));
        assert_eq!(seconds("864000"), Some(86_400));
        assert_eq!(seconds(&(now.as_second() + 30).to_string()), Some(30));
        assert_eq!(seconds(&((now.as_second() + 30) * 1000).to_string()), Some(30));
        assert_eq!(seconds("soon"), None);
    }
}
