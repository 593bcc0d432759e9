//! JSON, one JSON object a line, and YAML.

use serde::Serialize;

use crate::model::{Error, Result};

/// One object over many lines, with a final newline.
///
/// # Errors
/// When a value cannot be said in JSON, which is a fault of this program.
pub fn pretty<T: Serialize>(value: &T) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value).map_err(fault)?;
    text.push('\n');
    Ok(safe(text))
}

/// One object a line.
///
/// # Errors
/// As [`pretty`].
pub fn lines<T: Serialize>(values: impl IntoIterator<Item = T>) -> Result<String> {
    let mut text = String::new();
    for value in values {
        text.push_str(&serde_json::to_string(&value).map_err(fault)?);
        text.push('\n');
    }
    Ok(safe(text))
}

/// The same object as YAML.
///
/// # Errors
/// As [`pretty`].
pub fn yaml<T: Serialize>(value: &T) -> Result<String> {
    let mut text =
        serde_yaml::to_string(value).map_err(|error| Error::internal(error.to_string()))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[expect(clippy::needless_pass_by_value, reason = "map_err hands the error over")]
fn fault(error: serde_json::Error) -> Error {
    Error::internal(format!("cannot write JSON: {error}"))
}

/// Escapes what JSON allows in a string but a terminal obeys: the upper control characters and
/// those that turn the writing direction. Outside of strings none of them occurs.
fn safe(text: String) -> String {
    if !text.chars().any(is_obeyed) {
        return text;
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_obeyed(c) {
            safe.push_str(&format!("\\u{:04x}", c as u32));
        } else {
            safe.push(c);
        }
    }
    safe
}

fn is_obeyed(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn no_control_character_reaches_the_terminal_and_none_is_lost() {
        let value = json!({"a": "\u{1b}[31m\u{9b}31m\u{202e}x\u{7f}"});
        let text = pretty(&value).unwrap();
        assert!(text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn yaml_keeps_texts_texts() {
        let texts = vec![
            "yes",
            "no",
            "on",
            "y",
            "~",
            "null",
            "",
            " a ",
            "1e3",
            "0x1f",
            "1_000",
            "12:30:45",
            "2026-11-01",
            "- a",
            "a: b",
            "a #b",
            "'",
            "\"",
            "multi\nline",
            "tab\t",
            "\u{1b}[0m",
            "\u{9b}x",
            "*a",
            "&a",
            "!t",
            "%d",
            "@a",
            "`a",
            "{a",
            "[a",
            "?",
            ":",
            "-",
            "=",
            "<<",
            ".inf",
            ".nan",
            "1.0",
            "+1",
            "0o7",
            "é",
            "\u{2028}",
            "\u{202e}x",
            "trailing\n",
        ];
        let value = json!({"texts": texts, "none": null, "number": 1.5, "empty": {}, "list": []});
        let text = yaml(&value).unwrap();
        assert_eq!(serde_yaml::from_str::<Value>(&text).unwrap(), value, "{text}");
        let controls: Vec<char> = text.chars().filter(|c| c.is_control() && *c != '\n').collect();
        assert!(controls.is_empty(), "{controls:?} in {text}");
    }
}
