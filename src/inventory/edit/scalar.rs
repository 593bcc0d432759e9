//! Values as YAML text on one line.

use serde_json::Value;

use super::tree::Style;

/// Where a value is going to stand, which decides what needs quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Block,
    Flow,
    /// Among quoted keys: as JSON.
    Json,
}

/// A value on one line; maps and lists in flow style.
pub(super) fn render(value: &Value, place: Place) -> String {
    if place == Place::Json {
        return value.to_string();
    }
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => string(text, place),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| render(item, Place::Flow)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, value)| entry(key, value, Place::Flow)).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// `key: value`.
pub(super) fn entry(key: &str, value: &Value, place: Place) -> String {
    let name = match place {
        Place::Json => double(key),
        _ => string(key, Place::Flow),
    };
    format!("{name}: {}", render(value, place))
}

/// A value that takes the place of a scalar: a text keeps the quotes that stood there.
pub(super) fn in_style(value: &Value, style: Style, place: Place) -> String {
    match (value, style) {
        (Value::String(text), Style::Double) => double(text),
        (Value::String(text), Style::Single) if !text.contains(char::is_control) => {
            format!("'{}'", text.replace('\'', "''"))
        }
        _ => render(value, place),
    }
}

fn string(text: &str, place: Place) -> String {
    if is_plain(text, place) { text.to_owned() } else { double(text) }
}

/// Whether a text can stand without quotes and is still read as that text, by this program and by
/// parsers of YAML 1.1.
fn is_plain(text: &str, place: Place) -> bool {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return false };
    let inner = |c: char| {
        c.is_alphanumeric()
            || matches!(c, '_' | '-' | '.' | '/' | '+' | '%' | '@' | '=')
            || (place == Place::Block && matches!(c, ' ' | ',' | '(' | ')' | '?' | '&' | '~'))
    };
    // A time reads best bare; any other text with a colon is quoted inside braces.
    let colons = place == Place::Block || first.is_ascii_digit();
    let shape = (first.is_alphanumeric() || matches!(first, '/' | '_'))
        && text
            .chars()
            .zip(text.chars().skip(1).chain([' ']))
            .all(|(c, next)| inner(c) || (c == ':' && colons && next != ' ' && inner(next)))
        && !text.ends_with(' ');
    let word = text.to_ascii_lowercase();
    shape
        && !matches!(word.as_str(), "y" | "n" | "yes" | "no" | "on" | "off" | "null")
        && !is_sexagesimal(text)
        && super::parse_value(&format!("[{text}]"))
            .is_ok_and(|value| value == serde_json::json!([text]) || text.contains(','))
        && super::parse_value(text).is_ok_and(|value| value == Value::String(text.to_owned()))
}

/// `1:30`, which YAML 1.1 reads as a number.
fn is_sexagesimal(text: &str) -> bool {
    text.contains(':')
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, ':' | '.' | '_' | '+' | '-'))
}

fn double(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_quoted_where_it_has_to_be() {
        let cases = [
            (json!("prod"), Place::Block, "prod"),
            (json!("https://h.example/fhir"), Place::Block, "https://h.example/fhir"),
            (json!("https://h.example/fhir"), Place::Flow, "\"https://h.example/fhir\""),
            (json!("2026-12-01T22:00:00Z"), Place::Flow, "2026-12-01T22:00:00Z"),
            (json!("06:00"), Place::Block, "\"06:00\""),
            (json!("yes"), Place::Block, "\"yes\""),
            (json!("1.2"), Place::Block, "\"1.2\""),
            (json!("a: b"), Place::Block, "\"a: b\""),
            (json!("a #b"), Place::Block, "\"a #b\""),
            (json!("*x"), Place::Block, "\"*x\""),
            (json!(""), Place::Block, "\"\""),
            (json!("two words"), Place::Block, "two words"),
            (json!("two words"), Place::Flow, "\"two words\""),
            (json!({"a": [1, true, "x,y"]}), Place::Block, "{a: [1, true, \"x,y\"]}"),
            (json!({"a": "b"}), Place::Json, "{\"a\":\"b\"}"),
            (json!("Zoë\u{1b}"), Place::Flow, "\"Zoë\\u001b\""),
        ];
        for (value, place, expected) in cases {
            assert_eq!(render(&value, place), expected, "{value} in {place:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_text_reads_back_as_itself(text in "\\PC{0,12}|[ -~\\n\\t]{0,12}") {
            for place in [Place::Block, Place::Flow, Place::Json] {
                let line = entry("k", &json!([text.clone(), {"x": text.clone()}]), place);
                let wrapped = if place == Place::Json { format!("{{{line}}}") } else { line };
                let value = super::super::parse_value(&wrapped).unwrap();
                proptest::prop_assert_eq!(&value["k"][0], &json!(text.clone()));
                proptest::prop_assert_eq!(&value["k"][1]["x"], &json!(text.clone()));
            }
            let line = entry("k", &json!(text.clone()), Place::Block);
            let value = super::super::parse_value(&line).unwrap();
            proptest::prop_assert_eq!(&value["k"], &json!(text));
        }
    }
}
