//! A calendar after RFC 5545: one event for each day to remember, with its reminder.

use std::fmt::Write as _;

use super::{Calendar, Event};
use crate::model::text::visible;

/// Octets of a line before it is folded (RFC 5545 §3.1).
const LINE_OCTETS: usize = 75;

pub(super) fn render(calendar: &Calendar) -> String {
    let mut text = String::new();
    line(&mut text, "BEGIN:VCALENDAR");
    line(&mut text, "VERSION:2.0");
    line(&mut text, concat!("PRODID:-//fhirctl//fhirctl ", env!("CARGO_PKG_VERSION"), "//EN"));
    line(&mut text, "CALSCALE:GREGORIAN");
    line(&mut text, "METHOD:PUBLISH");
    for entry in &calendar.events {
        event(&mut text, entry, calendar.made_at);
    }
    line(&mut text, "END:VCALENDAR");
    text
}

fn event(text: &mut String, event: &Event, made_at: jiff::Timestamp) {
    let summary = escaped(&event.summary);
    line(text, "BEGIN:VEVENT");
    line(text, &format!("UID:{}", escaped(&event.uid)));
    line(text, &format!("DTSTAMP:{}", instant(made_at)));
    line(text, &format!("DTSTART:{}", instant(event.at)));
    line(text, &format!("SUMMARY:{summary}"));
    if !event.description.is_empty() {
        line(text, &format!("DESCRIPTION:{}", escaped(&event.description)));
    }
    // Nobody is busy because of it.
    line(text, "TRANSP:TRANSPARENT");
    line(text, "BEGIN:VALARM");
    line(text, "ACTION:DISPLAY");
    line(text, &format!("DESCRIPTION:{summary}"));
    line(text, &format!("TRIGGER:-P{}D", event.remind_days));
    line(text, "END:VALARM");
    line(text, "END:VEVENT");
}

fn instant(at: jiff::Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A text value (RFC 5545 §3.3.11).
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '\\' => safe.push_str("\\\\"),
            ';' => safe.push_str("\\;"),
            ',' => safe.push_str("\\,"),
            '\n' => safe.push_str("\\n"),
            _ => safe.push(c),
        }
    }
    safe
}

/// Writes one line, folded between characters, with CRLF.
fn line(text: &mut String, content: &str) {
    let mut room = LINE_OCTETS;
    for c in content.chars() {
        if c.len_utf8() > room {
            text.push_str("\r\n ");
            room = LINE_OCTETS - 1;
        }
        room -= c.len_utf8();
        let _ = text.write_char(c);
    }
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calendar_is_folded_escaped_and_ends_its_lines_with_crlf() {
        let made_at: jiff::Timestamp = "2026-11-01T08:00:00Z".parse().unwrap();
        let text = render(&Calendar {
            made_at,
            events: vec![Event {
                uid: "a@fhirctl".into(),
                at: "2026-12-24T23:59:59Z".parse().unwrap(),
                summary: "a, b; c\\d\r\nBEGIN:VEVENT".into(),
                description: "é".repeat(100),
                remind_days: 7,
            }],
        });
        assert!(text.ends_with("END:VCALENDAR\r\n"));
        assert!(text.split("\r\n").all(|line| line.len() <= 75 && !line.contains(['\r', '\n'])));
        let whole = text.replace("\r\n ", "");
        assert!(whole.contains(&format!("DESCRIPTION:{}\r\n", "é".repeat(100))));
        assert!(whole.contains("SUMMARY:a\\, b\\; c\\\\d␍\\nBEGIN:VEVENT\r\n"), "{whole}");
        assert!(whole.contains("DTSTART:20261224T235959Z\r\n"));
        assert!(whole.contains("TRIGGER:-P7D\r\n"));
        assert_eq!(whole.matches("\r\nBEGIN:VEVENT").count(), 1);
    }
}
