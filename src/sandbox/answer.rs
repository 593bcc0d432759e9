//! From what a server has to say to the bytes of an answer: format, compression, headers.

use std::io::Write as _;
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use super::fhir::outcome::{Refusal, outcome};
use super::fhir::xml;
use crate::serve::{Body, HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

/// Bodies below this size are not worth compressing.
const GZIP_FROM_BYTES: usize = 256;

/// The formats of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Xml,
}

impl Format {
    /// `_format` wins over `Accept` (FHIR, section 3.1.0.1.11).
    ///
    /// # Errors
    /// 406 when nothing that is asked for is served.
    pub(super) fn negotiate(
        headers: &HeaderMap,
        query: &[(String, String)],
    ) -> Result<Format, Refusal> {
        if let Some((_, asked)) = query.iter().find(|(name, _)| name == "_format") {
            // A plus that was not percent-encoded reads as a space.
            let asked = asked.replace(' ', "+");
            return Format::named(&asked).ok_or_else(|| not_acceptable(&asked));
        }
        let accept = text(headers, &header::ACCEPT).unwrap_or("*/*");
        let mut best: Option<(f32, Format)> = None;
        for part in accept.split(',') {
            let quality = part
                .split(';')
                .skip(1)
                .find_map(|parameter| parameter.trim().strip_prefix("q="))
                .map_or(1.0, |quality| quality.trim().parse().unwrap_or(1.0));
            if let Some(format) = Format::named(part)
                && quality > 0.0
                && best.is_none_or(|(other, _)| quality > other)
            {
                best = Some((quality, format));
            }
        }
        best.map(|(_, format)| format).ok_or_else(|| not_acceptable(accept))
    }

    /// Whether JSON is among what is asked for.
    pub(super) fn takes_json(headers: &HeaderMap, query: &[(String, String)]) -> bool {
        if query.iter().any(|(name, _)| name == "_format") {
            return false;
        }
        let accept = text(headers, &header::ACCEPT).unwrap_or("*/*");
        accept.split(',').any(|part| Format::named(part) == Some(Format::Json))
    }

    fn named(media_type: &str) -> Option<Format> {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "json"
            | "application/json"
            | "application/fhir+json"
            | "text/json"
            | "*/*"
            | "application/*" => Some(Format::Json),
            "xml" | "application/xml" | "application/fhir+xml" | "text/xml" => Some(Format::Xml),
            _ => None,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/fhir+json; charset=utf-8",
            Format::Xml => "application/fhir+xml; charset=utf-8",
        }
    }

    pub(super) fn write(self, resource: &Value) -> Bytes {
        match self {
            Format::Json => Bytes::from(resource.to_string()),
            Format::Xml => Bytes::from(xml::write(resource)),
        }
    }
}

fn not_acceptable(asked: &str) -> Refusal {
    Refusal::new(
        StatusCode::NOT_ACCEPTABLE,
        "not-supported",
        format!("{asked:?} is not served; ask for application/fhir+json or application/fhir+xml"),
    )
}

/// A body that is kept, with its compressed form once somebody asked for it.
#[derive(Debug)]
pub(super) struct Kept {
    plain: Bytes,
    compressed: OnceLock<Bytes>,
}

impl Kept {
    pub(super) fn new(plain: Bytes) -> Kept {
        Kept { plain, compressed: OnceLock::new() }
    }
}

/// What a server has to say to one request.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Empty,
    Resource(Value),
    /// Its media type and bytes.
    Text(&'static str, Bytes),
    /// Its media type, and a body that is made while it is sent.
    Pieces(&'static str, Body),
    /// A resource that was written out before, in the format that is asked for.
    Kept(std::sync::Arc<Kept>),
}

impl Reply {
    pub(super) fn new(status: StatusCode, content: Content) -> Reply {
        Reply { status, headers: HeaderMap::new(), content }
    }

    pub(super) fn ok(resource: Value) -> Reply {
        Reply::new(StatusCode::OK, Content::Resource(resource))
    }

    /// Sets a header; a value that cannot be one is left out.
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Reply {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// The answer as it is sent.
    pub(super) fn finish(self, format: Format, gzip: bool, without_body: bool) -> Response<Body> {
        let Reply { status, mut headers, content } = self;
        let content = match content {
            Content::Pieces(content_type, body) => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
                let body = if without_body { Body::empty() } else { body };
                return response(status, headers, body);
            }
            content => content,
        };
        let (content_type, kept) = match content {
            Content::Empty | Content::Pieces(..) => (None, None),
            Content::Resource(resource) => (
                Some(format.content_type()),
                Some(std::sync::Arc::new(Kept::new(format.write(&resource)))),
            ),
            Content::Text(content_type, bytes) => {
                (Some(content_type), Some(std::sync::Arc::new(Kept::new(bytes))))
            }
            Content::Kept(kept) => (Some(format.content_type()), Some(kept)),
        };
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        }
        let mut body = Bytes::new();
        if let Some(kept) = kept {
            body = kept.plain.clone();
            if gzip && body.len() >= GZIP_FROM_BYTES {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                body = kept.compressed.get_or_init(|| compressed(&kept.plain)).clone();
            }
        }
        if without_body {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            body = Bytes::new();
        }
        response(status, headers, Body::Whole(body))
    }
}

fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Reply {
        let issue = outcome("error", refusal.code, &refusal.text);
        Reply::new(refusal.status, Content::Resource(issue))
    }
}

/// Whether a client takes gzip.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let Some(accepted) = text(headers, &header::ACCEPT_ENCODING) else { return false };
    accepted.split(',').any(|part| {
        let mut words = part.split(';').map(str::trim);
        let coding = words.next().unwrap_or_default();
        let refused = words
            .filter_map(|word| word.strip_prefix("q="))
            .any(|quality| quality.parse::<f32>() == Ok(0.0));
        (coding.eq_ignore_ascii_case("gzip") || coding == "*") && !refused
    })
}

/// A header as text, when it is there and is text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What cannot be compressed in memory is sent as nothing; writing to memory does not fail.
fn compressed(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    match encoder.write_all(plain).and_then(|()| encoder.finish()) {
        Ok(bytes) => Bytes::from(bytes),
        Err(_) => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn the_format_is_the_one_that_is_wanted_most() {
        for (accept, format) in [
            ("*/*", Some(Format::Json)),
            ("application/fhir+json", Some(Format::Json)),
            ("application/fhir+xml", Some(Format::Xml)),
            ("application/fhir+xml;q=0.5, application/fhir+json;q=0.9", Some(Format::Json)),
            ("application/fhir+json; fhirVersion=4.0", Some(Format::Json)),
            ("text/html, application/xml;q=0.9, */*;q=0.8", Some(Format::Xml)),
            ("text/turtle", None),
        ] {
            let negotiated = Format::negotiate(&headers(header::ACCEPT, accept), &[]);
            assert_eq!(negotiated.ok(), format, "{accept}");
        }
        let query = [("_format".to_owned(), "application/fhir xml".to_owned())];
        let accept = headers(header::ACCEPT, "application/fhir+json");
        assert_eq!(Format::negotiate(&accept, &query), Ok(Format::Xml));
    }

    #[test]
    fn gzip_is_sent_only_to_those_who_ask() {
        for (accepted, yes) in [
            ("gzip, br", true),
            ("br", false),
            ("gzip;q=0", false),
            ("*", true),
            ("identity", false),
        ] {
            assert_eq!(
                accepts_gzip(&headers(header::ACCEPT_ENCODING, accepted)),
                yes,
                "{accepted}"
            );
        }
    }
}
