//! One search as a sample: what came of it, told without a value, an id or a record.

use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::{Desk, Layer, Problem};
use crate::auth::caller::Ask;
use crate::fhir::body::{BodyKind, sniff};
use crate::fhir::bundle::BundleFacts;
use crate::fhir::outcome::OperationOutcome;
use crate::http::{Exchange, Failure, Stage};
use crate::model::{Code, Party, limits};

/// One answered or unanswered search.
#[derive(Debug)]
pub(super) struct Sample {
    /// `Patient?family&_summary=count`: control parameters with their value, others by name alone.
    pub what: String,
    /// `None` when no answer came.
    pub status: Option<u16>,
    pub ms: f64,
    pub headers: HeaderMap,
    pub kind: BodyKind,
    pub came: Came,
    /// The server's own words about what it did not do.
    pub words: Option<String>,
    /// What a server that limits us asks us to wait.
    pub retry_after: Option<Duration>,
}

/// What came of a search.
#[derive(Debug)]
pub(super) enum Came {
    /// A Bundle that can be used.
    Bundle(BundleFacts),
    /// 304: as it was known.
    Unchanged,
    /// 400, 422 or 412: the server wants it otherwise, perhaps with further parameters.
    Otherwise,
    /// 401, 403, 407: not for who asked.
    NotForUs,
    /// 429: too often.
    Limited,
    /// 404, 405, 410, 501: it is not there.
    Absent,
    /// Anything else that is no answer to a search, in our words.
    Broken(String),
    /// No answer at all.
    Silent(Box<Failure>),
}

impl Sample {
    /// The Bundle, where there is one.
    pub(super) fn bundle(&self) -> Option<&BundleFacts> {
        match &self.came {
            Came::Bundle(facts) => Some(facts),
            _ => None,
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// What is wrong, in our words; `None` where it works or only we are not let in.
    pub(super) fn fault(&self) -> Option<String> {
        let status = self.status.unwrap_or_default();
        match &self.came {
            Came::Absent => Some(format!("HTTP {status}")),
            Came::Broken(why) => Some(why.clone()),
            Came::Silent(failure) if is_the_answers(failure) => Some(failure.message.clone()),
            _ => None,
        }
    }

    /// What kept the search from being asked at all, such as a secret that is not there.
    pub(super) fn hindrance(&self) -> Option<&Failure> {
        match &self.came {
            Came::Silent(failure) if !is_the_answers(failure) => Some(failure),
            _ => None,
        }
    }

    /// A word or two for a table.
    pub(super) fn shown(&self) -> String {
        let status = self.status.unwrap_or_default();
        match &self.came {
            Came::Bundle(facts) => match facts.total {
                Some(total) => format!("{total} in all"),
                None if facts.entry_count > 0 => format!("{} on the page", facts.entry_count),
                None => "a Bundle without a total".to_owned(),
            },
            Came::Unchanged => "304, as it was".to_owned(),
            Came::Otherwise => format!("HTTP {status}: it wants other or more parameters"),
            Came::NotForUs => format!("HTTP {status}: not for this client"),
            Came::Limited => "HTTP 429: too often".to_owned(),
            Came::Absent => format!("HTTP {status}: not there"),
            Came::Broken(why) => why.clone(),
            Came::Silent(failure) => failure.message.clone(),
        }
    }
}

/// Whether an exchange broke over its answer, and not on the way to the server or in the sign-in.
fn is_the_answers(failure: &Failure) -> bool {
    failure.stage == Stage::Http && failure.code.as_str().starts_with("http.")
}

/// Sends a search below the base URL; it never fails, it tells.
pub(super) async fn search(
    desk: &Desk,
    path: &str,
    headers: &[(HeaderName, HeaderValue)],
) -> Sample {
    match desk.url(path) {
        Ok(url) => search_at(desk, &url, what(path), desk.accept(), headers).await,
        Err(failure) => silent(what(path), failure),
    }
}

/// Sends a search to an address of the server's own, such as a `next` link.
pub(super) async fn search_at(
    desk: &Desk,
    url: &Url,
    what: String,
    accept: &str,
    headers: &[(HeaderName, HeaderValue)],
) -> Sample {
    let ask = Ask { headers, ..Ask::get(url, accept) };
    match desk.ask(&ask).await {
        Ok(exchange) => judged(what, exchange),
        Err(failure) => silent(what, failure),
    }
}

fn silent(what: String, failure: Failure) -> Sample {
    Sample {
        what,
        status: None,
        ms: failure.timing.map(|timing| timing.total_ms).unwrap_or_default(),
        headers: HeaderMap::new(),
        kind: BodyKind::Empty,
        came: Came::Silent(Box::new(failure)),
        words: None,
        retry_after: None,
    }
}

fn judged(what: String, exchange: Exchange) -> Sample {
    let status = exchange.status();
    let kind = sniff(exchange.content_type(), &exchange.body);
    let outcome = OperationOutcome::parse(kind, &exchange.body);
    let words = outcome.as_ref().map(|outcome| outcome.summary(limits::SERVER_TEXT_CHARS));
    let came = match status {
        200..=299 if outcome.is_some() => {
            Came::Broken(format!("HTTP {status} with an OperationOutcome instead of a Bundle"))
        }
        200..=299 => match BundleFacts::parse(kind, &exchange.body) {
            Ok(facts) => Came::Bundle(facts),
            Err(_) if kind == BodyKind::Html => {
                Came::Broken(format!("HTTP {status} with an HTML page"))
            }
            Err(error) => Came::Broken(format!("HTTP {status}, but {error}")),
        },
        304 => Came::Unchanged,
        400 | 412 | 422 => Came::Otherwise,
        401 | 403 | 407 => Came::NotForUs,
        429 => Came::Limited,
        404 | 405 | 410 | 501 => Came::Absent,
        _ => Came::Broken(format!("HTTP {status}")),
    };
    Sample {
        what,
        status: Some(status),
        ms: exchange.timing.total_ms,
        retry_after: exchange.retry_after(),
        headers: exchange.headers,
        kind,
        came,
        words,
    }
}

/// A query as it may be shown: a value may be a patient's, so only those of parameters that shape
/// the answer are told.
pub(super) fn what(path: &str) -> String {
    let (place, query) = path.split_once('?').unwrap_or((path, ""));
    // Of an instance only its type.
    let place = match place.split_once('/') {
        Some((kind, rest)) if !rest.starts_with(['_', '$']) => format!("{kind}/…"),
        _ => place.to_owned(),
    };
    let names: Vec<String> = url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| match name.as_ref() {
            "_summary" | "_count" | "_format" | "_elements" | "_total" | "_sort" => {
                format!("{name}={value}")
            }
            _ => name.into_owned(),
        })
        .collect();
    let shown = if names.is_empty() { place } else { format!("{place}?{}", names.join("&")) };
    crate::model::text::bounded(&crate::model::text::one_line(&shown), 120)
}

/// A search that is declared and does not work.
pub(super) fn declared_and_broken(kind: &str, sample: &Sample, why: &str) -> Problem {
    Problem::new(
        Code::new("fhir.search_failed"),
        format!("{kind} is declared to be searchable, but {} fails: {why}", sample.what),
    )
    .layer(Layer::Fhir)
    .by(Party::Vendor)
    .server_text(sample.words.clone())
}

#[cfg(test)]
mod tests {
    use super::what;

    #[test]
    fn a_query_is_shown_without_what_may_be_a_patients() {
        for (path, shown) in [
            ("Patient?_summary=count", "Patient?_summary=count"),
            ("Patient?family=Oak&_count=2", "Patient?family&_count=2"),
            ("Patient/abc", "Patient/…"),
            ("Patient/abc/_history?_count=1", "Patient/…?_count=1"),
            ("Patient/$match", "Patient/$match"),
            ("Patient", "Patient"),
        ] {
            assert_eq!(what(path), shown);
        }
    }
}
