//! Resources as FHIR XML (FHIR, section 2.6.1).

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Writes a resource that is given as FHIR JSON. Elements keep the order that they have there.
pub(in crate::sandbox) fn write(resource: &Value) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    if let Value::Object(members) = resource {
        nested(&mut xml, members, " xmlns=\"http://hl7.org/fhir\"");
    }
    xml
}

/// A whole resource: its type is the element's name.
fn nested(xml: &mut String, members: &Map<String, Value>, namespace: &str) {
    let kind = name(members.get("resourceType").and_then(Value::as_str).unwrap_or("Resource"));
    let _ = write!(xml, "<{kind}{namespace}>");
    children(xml, members, true);
    let _ = write!(xml, "</{kind}>");
}

fn children(xml: &mut String, members: &Map<String, Value>, of_resource: bool) {
    for (key, value) in members {
        // A member with an underscore holds id and extensions of the primitive beside it.
        if key == "resourceType" || key.starts_with('_') || (key == "id" && !of_resource) {
            continue;
        }
        let extra = members.get(&format!("_{key}"));
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let extra = extra.and_then(|extra| extra.get(index));
                    element(xml, key, item, extra);
                }
            }
            other => element(xml, key, other, extra),
        }
    }
    // Primitives that have extensions but no value.
    for (key, extra) in members {
        if let Some(key) = key.strip_prefix('_')
            && !members.contains_key(key)
        {
            element(xml, key, &Value::Null, Some(extra));
        }
    }
}

fn element(xml: &mut String, key: &str, value: &Value, extra: Option<&Value>) {
    let key = name(key);
    match value {
        // Narrative is XHTML already.
        Value::String(text) if key == "div" => xml.push_str(text),
        Value::Object(members) if members.contains_key("resourceType") => {
            let _ = write!(xml, "<{key}>");
            nested(xml, members, "");
            let _ = write!(xml, "</{key}>");
        }
        Value::Object(members) => {
            let _ = write!(xml, "<{key}");
            // These two are attributes: the id of an element, and the url of an extension.
            if let Some(id) = members.get("id").and_then(Value::as_str) {
                let _ = write!(xml, " id=\"{}\"", escaped(id));
            }
            let is_extension = key == "extension" || key == "modifierExtension";
            let url = members.get("url").filter(|_| is_extension).and_then(Value::as_str);
            if let Some(url) = url {
                let _ = write!(xml, " url=\"{}\"", escaped(url));
            }
            xml.push('>');
            match url {
                Some(_) => {
                    let mut rest = members.clone();
                    rest.shift_remove("url");
                    children(xml, &rest, false);
                }
                None => children(xml, members, false),
            }
            let _ = write!(xml, "</{key}>");
        }
        primitive => {
            let _ = write!(xml, "<{key}");
            let extra = extra.and_then(Value::as_object);
            if let Some(id) = extra.and_then(|extra| extra.get("id")).and_then(Value::as_str) {
                let _ = write!(xml, " id=\"{}\"", escaped(id));
            }
            match primitive {
                Value::String(text) => {
                    let _ = write!(xml, " value=\"{}\"", escaped(text));
                }
                Value::Bool(_) | Value::Number(_) => {
                    let _ = write!(xml, " value=\"{primitive}\"");
                }
                Value::Null | Value::Array(_) | Value::Object(_) => {}
            }
            match extra {
                Some(extra) => {
                    xml.push('>');
                    children(xml, extra, false);
                    let _ = write!(xml, "</{key}>");
                }
                None => xml.push_str("/>"),
            }
        }
    }
}

/// A member's name as an element's name; what a client wrote into it cannot break out.
fn name(key: &str) -> String {
    let kept: String = key.chars().filter(char::is_ascii_alphanumeric).collect();
    match kept.chars().next() {
        Some(first) if first.is_ascii_alphabetic() => kept,
        _ => format!("x{kept}"),
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // An attribute's line breaks and tabs would become spaces.
            '\n' => safe.push_str("&#10;"),
            '\r' => safe.push_str("&#13;"),
            '\t' => safe.push_str("&#9;"),
            // XML 1.0 has no other controls.
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(resource: &Value) -> String {
        let xml = write(resource);
        xml.split_once('\n').unwrap().1.replace(" xmlns=\"http://hl7.org/fhir\"", "")
    }

    #[test]
    fn every_kind_of_element_is_written_as_fhir_says() {
        for (resource, xml) in [
            (
                json!({"resourceType": "Patient", "id": "a", "active": true}),
                "<Patient><id value=\"a\"/><active value=\"true\"/></Patient>",
            ),
            (
                json!({"resourceType": "Patient", "name": [{"id": "n", "given": ["A", "B"]}]}),
                "<Patient><name id=\"n\"><given value=\"A\"/><given value=\"B\"/></name></Patient>",
            ),
            (
                json!({"resourceType": "Patient", "extension": [{"url": "u", "valueInteger": 1}]}),
                "<Patient><extension url=\"u\"><valueInteger value=\"1\"/></extension></Patient>",
            ),
            (
                json!({"resourceType": "P", "a": "x", "_a": {"extension": [{"url": "u"}]}}),
                "<P><a value=\"x\"><extension url=\"u\"></extension></a></P>",
            ),
            (
                json!({"resourceType": "B", "entry": [{"resource": {"resourceType": "P"}}]}),
                "<B><entry><resource><P></P></resource></entry></B>",
            ),
            (
                json!({"resourceType": "P", "text": {"div": "<div>a</div>"}}),
                "<P><text><div>a</div></text></P>",
            ),
            (
                json!({"resourceType": "P", "a": "<&\"\n\u{1}"}),
                "<P><a value=\"&lt;&amp;&quot;&#10;\u{fffd}\"/></P>",
            ),
            (json!({"resourceType": "P", "a><b": 1}), "<P><ab value=\"1\"/></P>"),
        ] {
            assert_eq!(body(&resource), xml);
        }
    }
}
