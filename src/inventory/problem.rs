//! What is wrong with a file, each with its place, and all of it in one error.

use std::path::Path;

use super::tree::{Place, floor};
use crate::model::text::visible;
use crate::model::{Error, Location};

/// More are counted, not shown: a file of another format has a problem in every line.
const SHOWN: usize = 40;
/// Most characters of a source line that are shown.
const LINE_CHARS: usize = 140;
/// What stands for a secret in a shown line.
const REDACTED: &str = "(redacted)";

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) place: Place,
    /// Such as `servers[2].auth.method`; empty for the file as a whole.
    pub(super) key: String,
    /// One line that never repeats a secret.
    pub(super) message: String,
}

/// The text with what was found in it.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) problems: Vec<Problem>,
    /// Where secrets stand in the clear: these places are never shown.
    pub(super) secrets: Vec<Place>,
    /// The text could not be read as a tree: what is secret in it is guessed by its look.
    pub(super) unread: bool,
}

impl Report {
    pub(super) fn add(&mut self, place: Place, key: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { place, key: key.into(), message: message.into() });
    }

    /// All problems as one configuration error: for each `FILE:LINE:COLUMN: message`, the line and
    /// a caret below it. The error's location is that of the first.
    pub(super) fn into_error(mut self, text: &str, path: &Path) -> Error {
        self.problems.sort_by_key(|problem| problem.place.start);
        self.problems.dedup();
        self.secrets.sort_by_key(|place| place.start);
        let lines = Lines::new(text);
        let mut blocks = Vec::new();
        for problem in self.problems.iter().take(SHOWN) {
            blocks.push(self.block(problem, text, &lines, path));
        }
        let count = self.problems.len();
        if count > SHOWN {
            blocks.push(format!("… and {} more", count - SHOWN));
        }
        let mut error = Error::config(blocks.join("\n"));
        if let Some(first) = self.problems.first() {
            let (line, column) = lines.position(text, first.place.start);
            error = error.at(Location {
                file: path.to_owned(),
                line: u32::try_from(line).ok(),
                column: u32::try_from(column).ok(),
                key: (!first.key.is_empty()).then(|| first.key.clone()),
            });
        }
        if count > 1 {
            error = error.hint(format!("{count} errors in {}", path.display()));
        }
        error
    }

    fn block(&self, problem: &Problem, text: &str, lines: &Lines, path: &Path) -> String {
        let (line, column) = lines.position(text, problem.place.start);
        let (start, end) = lines.bounds(text, line);
        let head = format!("{}:{line}:{column}: {}", path.display(), problem.message);
        let source = &text[start..end];
        if source.trim().is_empty() {
            return head;
        }
        let (shown, caret, width) = self.source(text, start, end, problem.place);
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        format!(
            "{head}\n  {number} | {shown}\n  {margin} | {}{}",
            " ".repeat(caret),
            "^".repeat(width.max(1))
        )
    }

    /// The line as it may be shown, and where the caret goes.
    fn source(&self, text: &str, start: usize, end: usize, place: Place) -> (String, usize, usize) {
        let mut hidden: Vec<Place> = self
            .secrets
            .iter()
            .filter(|secret| secret.start < end && secret.end > start)
            .copied()
            .collect();
        if self.unread {
            hidden.extend(suspicious(text, start, end));
            hidden.sort_by_key(|place| place.start);
        }

        let mut shown = String::new();
        let mut caret = None;
        let mut width = 0;
        let mut after = start;
        for (offset, c) in text[start..end].char_indices() {
            let at = start + offset;
            if at >= place.start && caret.is_none() {
                caret = Some(shown.chars().count());
            }
            if at < after {
                continue;
            }
            if let Some(secret) = hidden.iter().find(|secret| at >= secret.start && at < secret.end)
            {
                after = secret.end;
                if place.start < secret.end && secret.start < place.end {
                    width += REDACTED.len();
                }
                shown.push_str(REDACTED);
                continue;
            }
            if at >= place.start && at < place.end {
                width += 1;
            }
            shown.push(if c == '\t' { ' ' } else { c });
        }
        let shown = visible(&shown);
        let caret = caret.unwrap_or_else(|| shown.chars().count());
        crop(&shown, caret, width)
    }
}

/// Cuts a long line to what stands around the caret.
fn crop(line: &str, caret: usize, width: usize) -> (String, usize, usize) {
    let count = line.chars().count();
    if count <= LINE_CHARS {
        return (line.trim_end().to_owned(), caret, width);
    }
    let from = caret.saturating_sub(LINE_CHARS / 2);
    let mut shown: String = line.chars().skip(from).take(LINE_CHARS).collect();
    let mut caret = caret - from;
    if from > 0 {
        shown.insert(0, '…');
        caret += 1;
    }
    if from + LINE_CHARS < count {
        shown.push('…');
    }
    let width = width.min(shown.chars().count().saturating_sub(caret));
    (shown, caret, width)
}

/// Where lines begin.
pub(super) struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    pub(super) fn new(text: &str) -> Lines {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Lines { starts: std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect() }
    }

    /// Line and column of an offset, from 1; columns count characters.
    pub(super) fn position(&self, text: &str, at: usize) -> (usize, usize) {
        let at = floor(text, at);
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        (line, text[start..at].chars().count() + 1)
    }

    /// Start and end of a line, its line break left out.
    fn bounds(&self, text: &str, line: usize) -> (usize, usize) {
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let end = self.starts.get(line).map_or(text.len(), |next| next - 1);
        let end = start + text[start..end.max(start)].trim_end_matches('\r').len();
        (start, end)
    }
}

/// Finds by the look of the text alone what may be a secret in a line, for a file that could not be
/// read as a tree.
fn suspicious(text: &str, start: usize, end: usize) -> Vec<Place> {
    let line = &text[start..end];
    let mut places = Vec::new();
    if is_below_secret(text, start, line) {
        let indent = line.len() - line.trim_start().len();
        places.push(Place { start: start + indent, end });
        return places;
    }
    let mut from = 0;
    while let Some(colon) = line[from..].find(':').map(|at| from + at) {
        from = colon + 1;
        let key = line[..colon]
            .trim_end_matches(['"', '\'', ' '])
            .rsplit(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-')))
            .next()
            .unwrap_or_default();
        if !sounds_secret(key) {
            continue;
        }
        let value = &line[from..];
        let begin = from + (value.len() - value.trim_start().len());
        let value = line[begin..].trim_start_matches(['"', '\'']);
        if value.is_empty() || is_reference(value) {
            continue;
        }
        // To the end of the line: a comma or brace may belong to the secret.
        places.push(Place { start: start + begin, end });
        break;
    }
    // A password in a URL.
    if let Some(at) = line.find("://") {
        let rest = &line[at + 3..];
        let word = rest.split_whitespace().next().unwrap_or_default();
        if word.contains('@') {
            places.push(Place { start: start + at + 3, end: start + at + 3 + word.len() });
        } else if let Some(query) = word.find('?') {
            let begin = start + at + 3 + query;
            places.push(Place { start: begin, end: start + at + 3 + word.len() });
        }
    }
    places
}

/// Whether a line is the value of a secret key that stands alone in a line above.
fn is_below_secret(text: &str, start: usize, line: &str) -> bool {
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let own = indent(line);
    let above =
        text[..start].lines().rev().take(200).filter(|line| !line.trim().is_empty()).find(|line| {
            indent(line) < own || line.trim_end().ends_with(['"', '\'', '|', '>', ':'])
        });
    let Some(above) = above else { return false };
    let Some((key, value)) = above.trim().trim_start_matches("- ").split_once(':') else {
        return false;
    };
    let key = key.rsplit(['{', ',', ' ']).next().unwrap_or_default().trim_matches(['"', '\'']);
    let value = value.trim();
    sounds_secret(key)
        && !value.starts_with('{')
        && !is_reference(value.trim_start_matches(['"', '\'']))
}

fn is_reference(text: &str) -> bool {
    ["keyring:", "env:", "file:", "age:", "{exec:", "{ exec:", "exec:"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
}

/// Whether a key's name is that of a secret, or a misspelling of one.
pub(super) fn sounds_secret(key: &str) -> bool {
    let key: String =
        key.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>().to_ascii_lowercase();
    if key.len() < 3 || matches!(key.as_str(), "keyid" | "tokenurl" | "tokenauth" | "tokencache") {
        return false;
    }
    ["pass", "pwd", "secret", "token", "credential", "apikey", "authorization", "cookie", "bearer"]
        .iter()
        .any(|word| key.contains(word))
        || key.ends_with("key")
        || matches!(key.as_str(), "value" | "auth" | "exec")
        || crate::model::text::nearest(&key, ["password", "secret", "token", "credentials"])
            .is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, at: &str) -> String {
        let start = text.find(at).unwrap();
        let mut report = Report { unread: true, ..Report::default() };
        report.add(Place { start, end: start + at.len() }, "k", "wrong");
        report.into_error(text, Path::new("f.yaml")).message
    }

    #[test]
    fn a_problem_shows_its_line_and_a_caret() {
        assert_eq!(
            shown("a: 1\nbé: {wrong: 2}\r\n", "wrong"),
            "f.yaml:2:6: wrong\n  2 | bé: {wrong: 2}\n    |      ^^^^^"
        );
    }

    #[test]
    fn what_looks_like_a_secret_is_not_shown() {
        for text in [
            "auth: {x: 1, password: hunter2}",
            "auth: {x: 1, passwrod: \"hunter2, }",
            "x: https://u:hunter2@h/",
            "x: https://h/?k=hunter2",
            "password:\n  x hunter2",
            "password: |\n  one\n  x hunter2",
            "x: {client_secret: hunter2",
            "x: {\"api-key\": hunter2",
        ] {
            let message = shown(text, "x");
            assert!(!message.contains("hunter2"), "{message}");
        }
        assert!(shown("x: {password: env:PW}", "x").contains("env:PW"));
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!("{}wrong{}", "a".repeat(500), "b".repeat(500));
        let message = shown(&text, "wrong");
        assert!(message.lines().all(|line| line.chars().count() < 200), "{message}");
        assert!(message.contains("wrong"), "{message}");
    }

    #[test]
    fn many_problems_are_counted() {
        let mut report = Report::default();
        for start in 0..100 {
            report.add(Place { start, end: start }, "", format!("p{start}"));
        }
        let error = report.into_error(&"x\n".repeat(60), Path::new("f.yaml"));
        assert!(error.message.ends_with("… and 60 more"));
    }
}
