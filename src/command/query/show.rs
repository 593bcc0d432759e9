//! How an answer is printed.

use std::collections::BTreeMap;
use std::sync::Arc;

use quick_xml::events::Event;
use serde_json::Value;
use serde_json::value::RawValue;

use super::QueryArgs;
use crate::context::Context;
use crate::fhir::body::BodyKind;
use crate::fhir::text::pretty;
use crate::http::Exchange;
use crate::model::server::Server;
use crate::model::text::visible;
use crate::model::{ErrorKind, Result};
use crate::query::{Judged, Method, Question, shape};
use crate::render::{Format, Output};
use crate::view::query::QueryDocument;

/// Prints an answer: its body, pretty or raw, or the whole of it as a document.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn answer(
    args: &QueryArgs,
    context: &Context,
    server: &Server,
    question: &Question,
    exchange: &Exchange,
    judged: &Judged,
    result: Option<Vec<Value>>,
) -> Result<()> {
    let kind = judged.kind;
    if context.options.output != Format::Table {
        let document = document(server, question, exchange, kind, result);
        let output = Output { typed: Some(Arc::new(document)), ..Output::default() };
        return context.emit(&output).map(drop);
    }
    let mut out = Vec::new();
    if args.include || question.method == Method::Head {
        out.extend_from_slice(header(exchange).as_bytes());
        out.push(b'\n');
    }
    match result {
        Some(values) => {
            for value in values {
                out.extend_from_slice(value.to_string().as_bytes());
                out.push(b'\n');
            }
        }
        None if args.raw => out.extend_from_slice(&exchange.body),
        // A page in the place of a resource fills a screen and helps nobody.
        None if matches!(kind, BodyKind::Html | BodyKind::Other) => {}
        // Whatever it is, it does not get at a terminal or a log as it came.
        None if is_no_fhir(judged) => {
            out.extend_from_slice(visible(&String::from_utf8_lossy(&exchange.body)).as_bytes());
            out.push(b'\n');
        }
        None => out.extend_from_slice(body(exchange, kind).as_bytes()),
    }
    context.pass_on(&out).map(drop)
}

fn is_no_fhir(judged: &Judged) -> bool {
    judged.kind != BodyKind::Empty
        && judged.trouble.as_ref().is_some_and(|trouble| trouble.kind == ErrorKind::Data)
}

/// The status line and the header as HTTP/1.1 would write them.
fn header(exchange: &Exchange) -> String {
    let status = http::StatusCode::from_u16(exchange.status()).ok();
    let reason = status.and_then(|status| status.canonical_reason()).unwrap_or_default();
    let version = exchange.http.version.as_deref().unwrap_or("http/1.1").to_ascii_uppercase();
    let mut text = format!("{version} {} {reason}", exchange.status()).trim_end().to_owned();
    text.push('\n');
    for (name, value) in &exchange.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        text.push_str(&format!("{name}: {value}\n"));
    }
    text
}

fn body(exchange: &Exchange, kind: BodyKind) -> String {
    let text = String::from_utf8_lossy(&exchange.body);
    let mut shown = match kind {
        BodyKind::Empty => return String::new(),
        // What is no JSON after all is shown as it came.
        BodyKind::Json if serde_json::from_str::<&RawValue>(&text).is_ok() => pretty(&text),
        BodyKind::Xml => pretty_xml(&text).unwrap_or_else(|| text.into_owned()),
        _ => text.into_owned(),
    };
    if !shown.ends_with('\n') {
        shown.push('\n');
    }
    shown
}

/// XML with one element a line. Outside a narrative FHIR knows no text between elements (FHIR R4,
/// §2.6.1); a narrative stays byte for byte as it came. `None`: it is not well-formed.
fn pretty_xml(text: &str) -> Option<String> {
    let mut reader = quick_xml::Reader::from_str(text);
    let mut out = String::with_capacity(text.len() * 2);
    // How deep in the document, and since which depth in a narrative.
    let (mut depth, mut narrative) = (0_usize, None);
    let mut start = 0;
    loop {
        let event = reader.read_event().ok()?;
        let end = usize::try_from(reader.buffer_position()).ok()?;
        let piece = text.get(start..end)?;
        start = end;
        let is_end = matches!(event, Event::End(_));
        if is_end {
            depth = depth.saturating_sub(1);
        }
        match event {
            Event::Eof => break,
            _ if narrative.is_some() => out.push_str(piece),
            Event::Text(_) if piece.trim().is_empty() => {}
            _ => {
                if !out.is_empty() {
                    out.push('\n');
                    out.push_str(&" ".repeat(2 * depth.min(64)));
                }
                out.push_str(piece.trim());
            }
        }
        if is_end && narrative == Some(depth) {
            narrative = None;
        }
        if let Event::Start(element) = &event {
            if narrative.is_none() && element.local_name().as_ref() == b"div" {
                narrative = Some(depth);
            }
            depth += 1;
        }
    }
    Some(out)
}

fn document(
    server: &Server,
    question: &Question,
    exchange: &Exchange,
    kind: BodyKind,
    result: Option<Vec<Value>>,
) -> QueryDocument {
    let text = String::from_utf8_lossy(&exchange.body);
    let body = match kind {
        BodyKind::Json => serde_json::from_str::<Box<RawValue>>(&text).ok(),
        _ => None,
    };
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &exchange.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let known = headers.entry(name.as_str().to_owned()).or_default();
        if !known.is_empty() {
            known.push_str(", ");
        }
        known.push_str(&value);
    }
    QueryDocument {
        schema: "fhirctl/query/v1",
        server: server.name.clone(),
        method: question.method.http().to_string(),
        path: shape(&server.url, &question.url),
        status: exchange.status(),
        version: exchange.http.version.clone(),
        headers,
        request_id: exchange.http.request_id.clone(),
        duration_ms: (exchange.timing.total_ms * 1000.0).round() / 1000.0,
        text: (body.is_none() && kind != BodyKind::Empty).then(|| text.into_owned()),
        body,
        result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_is_set_in_and_a_narrative_stays_as_it_came() {
        let xml = "<Patient xmlns=\"http://hl7.org/fhir\"><text><status value=\"generated\"/>\
                   <div xmlns=\"http://www.w3.org/1999/xhtml\"><b>a</b> b <div>c</div></div></text>\
                   <active value=\"true\"/></Patient>";
        let pretty = pretty_xml(xml).unwrap();
        assert!(pretty.contains("<b>a</b> b <div>c</div></div>\n  </text>\n  <active"), "{pretty}");
        assert_eq!(
            pretty.split_whitespace().collect::<String>(),
            xml.split_whitespace().collect::<String>()
        );
        assert_eq!(pretty_xml("<a><b></a>"), None);
    }
}
