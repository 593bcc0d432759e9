//! The line of an element in a JSON text, by its path.

/// The line, from 1, of the element that a FHIRPath such as `Patient.contact[0].name` leads to, or of
/// the nearest one above it that is there. The text has to be valid JSON.
#[must_use]
pub fn line_of(text: &str, path: &str) -> usize {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    scanner.blank();
    let mut found = scanner.at;
    // The first step is the type.
    let mut steps = path.split('.').skip(1).flat_map(parts).peekable();
    while let Some(step) = steps.next() {
        let there = match step {
            Step::Name(name) => {
                // `value.ofType(quantity)` is the member `valueQuantity`.
                let of_type = match steps.peek() {
                    Some(Step::OfType(kind)) => Some(*kind),
                    _ => None,
                };
                if of_type.is_some() {
                    steps.next();
                }
                scanner.member(name, of_type)
            }
            Step::Index(index) => scanner.item(index),
            Step::OfType(_) => true,
        };
        if !there {
            break;
        }
        found = scanner.at;
    }
    text.as_bytes()[..found.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Name(&'p str),
    Index(usize),
    OfType(&'p str),
}

/// `contact[0]` is a name and an index.
fn parts(step: &str) -> Vec<Step<'_>> {
    if let Some(kind) = step.strip_prefix("ofType(").and_then(|it| it.strip_suffix(')')) {
        return vec![Step::OfType(kind)];
    }
    let (name, rest) = step.split_once('[').unwrap_or((step, ""));
    let mut found = vec![Step::Name(name)];
    found.extend(rest.trim_end_matches(']').parse().ok().map(Step::Index));
    found
}

/// Goes through valid JSON; at anything else it stops moving.
struct Scanner<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blank(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Moves to the value of a member; `false` and no move where there is none.
    fn member(&mut self, name: &str, of_type: Option<&str>) -> bool {
        let start = self.at;
        if self.peek() != Some(b'{') {
            return false;
        }
        self.at += 1;
        loop {
            self.blank();
            if self.peek() != Some(b'"') {
                self.at = start;
                return false;
            }
            let from = self.at + 1;
            self.text();
            let key = self.bytes.get(from..self.at.saturating_sub(1)).unwrap_or_default();
            let key_at = from - 1;
            self.blank();
            self.at += 1;
            self.blank();
            if is_it(key, name, of_type) {
                // A scalar's line is that of its name; a value that is gone into begins at its brace.
                if !matches!(self.peek(), Some(b'{' | b'[')) {
                    self.at = key_at;
                }
                return true;
            }
            self.value();
            self.blank();
            if self.peek() == Some(b',') {
                self.at += 1;
            }
        }
    }

    /// Moves to an item of an array.
    fn item(&mut self, index: usize) -> bool {
        let start = self.at;
        if self.peek() != Some(b'[') {
            return false;
        }
        self.at += 1;
        for _ in 0..index {
            self.blank();
            if matches!(self.peek(), Some(b']') | None) {
                self.at = start;
                return false;
            }
            self.value();
            self.blank();
            if self.peek() == Some(b',') {
                self.at += 1;
            }
        }
        self.blank();
        let there = !matches!(self.peek(), Some(b']') | None);
        if !there {
            self.at = start;
        }
        there
    }

    /// Passes over a text, quotes included.
    fn text(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += match byte {
                b'\\' => 2,
                _ => 1,
            };
            if byte == b'"' {
                return;
            }
        }
    }

    /// Passes over any value.
    fn value(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.text();
                    if depth == 0 {
                        return;
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 0 => return,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return;
                    }
                }
                b',' if depth == 0 => return,
                _ => {}
            }
            self.at += 1;
        }
    }
}

fn is_it(key: &[u8], name: &str, of_type: Option<&str>) -> bool {
    match of_type {
        None => key == name.as_bytes(),
        Some(kind) => key
            .strip_prefix(name.as_bytes())
            .is_some_and(|rest| rest.eq_ignore_ascii_case(kind.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::line_of;

    #[test]
    fn the_line_is_that_of_the_element_or_of_the_nearest_above() {
        let text = "{\n \"resourceType\": \"Patient\",\n \"contact\": [\n  {\"a\": \"}\\\"]\"},\n  \
                    {\n   \"name\": {\"family\": 5}\n  }\n ],\n \"valueQuantity\": {\n  \"value\": \
                    1\n }\n}\n";
        for (path, line) in [
            ("Patient", 1),
            ("Patient.contact", 3),
            ("Patient.contact[0]", 4),
            ("Patient.contact[1]", 5),
            ("Patient.contact[1].name.family", 6),
            ("Patient.contact[7].name", 3),
            ("Patient.missing", 1),
            ("Patient.value.ofType(quantity).value", 10),
            ("", 1),
        ] {
            assert_eq!(line_of(text, path), line, "{path}");
        }
        assert_eq!(line_of("", "Patient.a"), 1);
        assert_eq!(line_of("{", "Patient.a[3].b"), 1);
    }
}
