//! What a body is, told by its bytes first and by its media type only where they do not say.

/// The kinds of body that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// No bytes, or white space only.
    Empty,
    Json,
    Xml,
    Html,
    Other,
}

impl BodyKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            BodyKind::Empty => "empty",
            BodyKind::Json => "JSON",
            BodyKind::Xml => "XML",
            BodyKind::Html => "HTML",
            BodyKind::Other => "neither JSON nor XML",
        }
    }
}

/// How the first element of an HTML page starts, in lower case.
const HTML_STARTS: [&str; 11] = [
    "<!doctype html",
    "<html",
    "<head",
    "<body",
    "<title",
    "<meta",
    "<script",
    "<center",
    "<h1",
    "<p>",
    "<div",
];

/// Says what a body is. Bytes count more than the media type: login pages come as
/// `application/json`, and searches as `text/plain`.
#[must_use]
pub fn sniff(content_type: Option<&str>, body: &[u8]) -> BodyKind {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    match body.first() {
        None => BodyKind::Empty,
        Some(b'{' | b'[') => BodyKind::Json,
        Some(b'<') => markup(body),
        Some(_) => match media_type(content_type) {
            // It claims to be one and is not: malformed rather than something else.
            Some(name) if is_json_name(&name) => BodyKind::Json,
            Some(name) if is_xml(&name) => BodyKind::Xml,
            Some(name) if name == "text/html" => BodyKind::Html,
            _ => BodyKind::Other,
        },
    }
}

/// Whether a `Content-Type` is one of FHIR's own, of any version: `application/fhir+json`,
/// `application/fhir+xml`, and DSTU2's `application/json+fhir`, `application/xml+fhir` (HT-01).
#[must_use]
pub fn is_fhir_media_type(content_type: &str) -> bool {
    matches!(
        media_type(Some(content_type)).as_deref(),
        Some(
            "application/fhir+json"
                | "application/fhir+xml"
                | "application/json+fhir"
                | "application/xml+fhir"
                | "application/fhir+turtle"
        )
    )
}

/// Whether a `Content-Type` promises JSON, of FHIR or not.
#[must_use]
pub fn is_json_type(content_type: &str) -> bool {
    media_type(Some(content_type)).is_some_and(|name| is_json_name(&name))
}

/// Whether a `Content-Type` promises XML, of FHIR or not.
#[must_use]
pub fn is_xml_type(content_type: &str) -> bool {
    media_type(Some(content_type)).is_some_and(|name| is_xml(&name))
}

/// Whether a body is one whole JSON value.
#[must_use]
pub fn is_json(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

/// Type and subtype in lower case, without parameters.
pub(super) fn media_type(content_type: Option<&str>) -> Option<String> {
    let name = content_type?.split(';').next()?.trim().to_ascii_lowercase();
    (!name.is_empty()).then_some(name)
}

/// One parameter of a media type, without quotes.
pub(super) fn media_parameter<'t>(content_type: &'t str, name: &str) -> Option<&'t str> {
    content_type.split(';').skip(1).find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

pub(super) fn is_json_name(media_type: &str) -> bool {
    matches!(media_type, "application/json" | "text/json" | "application/json+fhir")
        || media_type.ends_with("+json")
}

pub(super) fn is_xml(media_type: &str) -> bool {
    matches!(media_type, "application/xml" | "text/xml" | "application/xml+fhir")
        || (media_type.ends_with("+xml") && media_type != "application/xhtml+xml")
}

/// HTML or XML, told by the first element behind declarations and comments.
fn markup(mut body: &[u8]) -> BodyKind {
    loop {
        let end = if body.starts_with(b"<?") {
            find(body, b"?>")
        } else if body.starts_with(b"<!--") {
            find(body, b"-->")
        } else {
            break;
        };
        match end {
            Some(end) => body = body[end..].trim_ascii_start(),
            None => return BodyKind::Xml,
        }
    }
    let is_html = HTML_STARTS.iter().any(|start| {
        body.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()))
    });
    if is_html { BodyKind::Html } else { BodyKind::Xml }
}

/// The first byte after a mark.
fn find(body: &[u8], mark: &[u8]) -> Option<usize> {
    body.windows(mark.len()).position(|window| window == mark).map(|at| at + mark.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_more_than_the_media_type() {
        let cases: [(Option<&str>, &[u8], BodyKind); 14] = [
            (Some("application/fhir+json"), b"", BodyKind::Empty),
            (Some("application/fhir+json"), b" \r\n\t", BodyKind::Empty),
            (Some("text/plain"), b"{\"a\":1}", BodyKind::Json),
            (None, b"\xef\xbb\xbf  {}", BodyKind::Json),
            (None, b"[1]", BodyKind::Json),
            (Some("application/fhir+json"), b"<!DOCTYPE html><html>", BodyKind::Html),
            (Some("application/xml"), b"<?xml version='1.0'?>\n<!-- x -->\n<HTML>", BodyKind::Html),
            (
                Some("text/plain"),
                b"<CapabilityStatement xmlns='http://hl7.org/fhir'/>",
                BodyKind::Xml,
            ),
            (None, b"<?xml version='1.0'?><Bundle/>", BodyKind::Xml),
            (None, b"<!-- never closed", BodyKind::Xml),
            (Some("application/fhir+json; charset=utf-8"), b"oops", BodyKind::Json),
            (Some("application/fhir+xml"), b"oops", BodyKind::Xml),
            (Some("text/plain"), b"OK", BodyKind::Other),
            (None, b"\x1f\x8b\x08", BodyKind::Other),
        ];
        for (content_type, body, kind) in cases {
            assert_eq!(sniff(content_type, body), kind, "{content_type:?} {body:?}");
        }
    }

    #[test]
    fn fhir_media_types_of_every_version_are_known() {
        assert!(is_fhir_media_type("application/fhir+json; fhirVersion=4.0; charset=UTF-8"));
        assert!(is_fhir_media_type("application/json+fhir"));
        assert!(is_fhir_media_type("Application/FHIR+XML"));
        assert!(!is_fhir_media_type("application/json"));
        assert!(!is_fhir_media_type("text/html"));
    }
}
