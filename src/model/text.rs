//! Text that came from outside, made fit to be shown.

/// Makes a text safe for a terminal: every control character but the newline and the tab becomes
/// its visible picture, and bidirectional overrides are dropped.
#[must_use]
pub fn visible(text: &str) -> String {
    text.chars()
        .filter_map(|c| match c {
            '\n' | '\t' => Some(c),
            '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + c as u32),
            '\u{7f}' => Some('\u{2421}'),
            '\u{80}'..='\u{9f}' => Some('\u{fffd}'),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
            other => Some(other),
        })
        .collect()
}

/// The same on one line: newlines and tabs become spaces.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in visible(text).split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// At most `max` characters, with an ellipsis where something was cut.
#[must_use]
pub fn bounded(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The known word nearest to a mistyped one, when it is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            let shorter = candidate.len().min(word.len());
            // One letter is near to every other one.
            *distance <= 1 + shorter / 4 && *distance < shorter
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `1 hop`, `2 hops`.
#[must_use]
pub fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// How long something takes, for people: `1 day 2h`, `30s`.
#[must_use]
pub fn span(duration: std::time::Duration) -> String {
    let mut text = humantime::format_duration(duration).to_string();
    for unit in ["day", "month", "year"] {
        text = text.replace(unit, &format!(" {unit}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_controls_are_made_visible() {
        assert_eq!(visible("a\u{1b}[31mb"), "a␛[31mb");
        assert_eq!(one_line("a\r\n b\tc"), "a␍ b c");
    }

    #[test]
    fn a_misspelt_word_finds_the_one_that_was_meant() {
        assert_eq!(nearest("tiemouts", ["timeouts", "tls"]), Some("timeouts"));
        assert_eq!(nearest("zebra", ["timeouts", "tls"]), None);
        assert_eq!(nearest("h", ["a", "b"]), None);
    }
}
