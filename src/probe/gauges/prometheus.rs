//! The text format of Prometheus, line by line, whatever the length of the page.

use std::collections::BTreeMap;

/// A longer line is left out.
const LINE_BYTES: usize = 64 * 1024;
/// Most samples that are kept.
const SAMPLES: usize = 5_000;
/// Most labels of one sample.
const LABELS: usize = 64;

/// One value, with the labels that it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Reads pieces of a page as they come, and keeps the samples that are wanted.
pub struct Reader {
    wanted: fn(&str) -> bool,
    line: Vec<u8>,
    /// The rest of a line that is too long.
    skipping: bool,
    pub samples: Vec<Sample>,
    /// Lines that are samples, kept or not.
    pub seen: u64,
    /// Lines that are neither a sample nor a comment.
    pub strange: u64,
}

impl Reader {
    #[must_use]
    pub fn new(wanted: fn(&str) -> bool) -> Reader {
        Reader {
            wanted,
            line: Vec::new(),
            skipping: false,
            samples: Vec::new(),
            seen: 0,
            strange: 0,
        }
    }

    pub fn push(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end]);
            self.end_line();
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes);
    }

    /// Takes the last line, which may lack its end.
    pub fn finish(&mut self) {
        self.end_line();
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.skipping || self.line.len() + bytes.len() > LINE_BYTES {
            self.skipping = true;
            self.line.clear();
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.skipping) {
            self.strange += 1;
            return;
        }
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
        } else if let Some((name, rest)) = name(text) {
            if !(self.wanted)(name) {
                self.seen += 1;
            } else if let Some((labels, value)) = sample(rest) {
                self.seen += 1;
                if self.samples.len() < SAMPLES {
                    self.samples.push(Sample { name: name.to_owned(), labels, value });
                }
            } else {
                self.strange += 1;
            }
        } else {
            self.strange += 1;
        }
        // The buffer is used again.
        self.line = line;
        self.line.clear();
    }
}

/// The name of a metric, and what follows it.
fn name(line: &str) -> Option<(&str, &str)> {
    let end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':');
    (begins && rest.starts_with(['{', ' ', '\t'])).then_some((name, rest))
}

fn sample(rest: &str) -> Option<(BTreeMap<String, String>, f64)> {
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (BTreeMap::new(), rest),
    };
    // A timestamp, or an exemplar, may follow.
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some((labels, value))
}

/// What stands between the braces, and what follows them.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        if labels.len() == LABELS {
            return None;
        }
        let (name, after) = rest.split_once('=')?;
        let mut characters = after.trim_start().strip_prefix('"')?.chars();
        let mut value = String::new();
        loop {
            match characters.next()? {
                '"' => break,
                '\\' => match characters.next()? {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                other => value.push(other),
            }
        }
        labels.insert(name.trim().to_owned(), value);
        rest = characters.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(_: &str) -> bool {
        true
    }

    fn read(pieces: &[&[u8]]) -> (Vec<Sample>, u64) {
        let mut reader = Reader::new(all);
        for piece in pieces {
            reader.push(piece);
        }
        reader.finish();
        (reader.samples, reader.strange)
    }

    #[test]
    fn samples_are_read_as_prometheus_writes_them() {
        for (line, name, labels, value) in [
            ("up 1", "up", "", 1.0),
            ("a_b:c{} 2.5e9 1700000000000", "a_b:c", "", 2.5e9),
            ("x{a=\"1\",b=\"two words\",} -1", "x", "a=1,b=two words", -1.0),
            (r#"x{p="C:\\d\"q\nz"} 3"#, "x", "p=C:\\d\"q\nz", 3.0),
            ("x{ a = \"}\" } +Inf", "x", "a=}", f64::INFINITY),
            ("x_bucket{le=\"1\"} 3 # {trace_id=\"a\"} 0.5", "x_bucket", "le=1", 3.0),
        ] {
            let (samples, strange) = read(&[line.as_bytes()]);
            assert_eq!((samples.len(), strange), (1, 0), "{line}");
            let found: Vec<_> =
                samples[0].labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!((samples[0].name.as_str(), found.join(",").as_str()), (name, labels));
            assert!((samples[0].value - value).abs() < 1e-9 || samples[0].value == value, "{line}");
        }
        let (samples, _) = read(&[b"x NaN"]);
        assert!(samples[0].value.is_nan());
    }

    #[test]
    fn what_is_no_sample_is_counted_and_breaks_nothing() {
        for line in [
            "x",
            "x{",
            "x{a",
            "x{a=",
            "x{a=\"",
            "x{a=\"\\",
            "x{a=\"1\"",
            "x{a=\"1\"}",
            "x{a=1} 1",
            "x one",
            "1x 1",
            "{} 1",
            "<html>",
            "é 1",
            "\u{0} 1",
            "x{\"a\"} 1",
        ] {
            let (samples, strange) = read(&[line.as_bytes()]);
            assert_eq!((samples.len(), strange), (0, 1), "{line:?}");
        }
        let (samples, strange) = read(&[b"# HELP x y\n# TYPE x gauge\n\n  \n# EOF"]);
        assert_eq!((samples.len(), strange), (0, 0));
        let (_, strange) = read(&[&[0xff, 0xfe, b'\n', 0x80]]);
        assert_eq!(strange, 2);
    }

    #[test]
    fn pieces_may_be_cut_anywhere() {
        let page = "a 1\r\nb{x=\"é\"} 2\nc 3";
        for cut in 0..page.len() {
            let (first, second) = page.as_bytes().split_at(cut);
            let (samples, strange) = read(&[first, second]);
            assert_eq!((samples.len(), strange), (3, 0), "cut at {cut}");
        }
    }

    #[test]
    fn endless_lines_and_endless_samples_stay_bounded() {
        let mut reader = Reader::new(all);
        for _ in 0..100 {
            reader.push(&[b'x'; 16 * 1024]);
            assert!(reader.line.len() <= LINE_BYTES);
        }
        reader.push(b"\nup 1\n");
        assert_eq!((reader.samples.len(), reader.strange), (1, 1));
        for number in 0..2 * SAMPLES {
            reader.push(format!("x{{n=\"{number}\"}} 1\n").as_bytes());
        }
        assert_eq!(reader.samples.len(), SAMPLES);
        assert_eq!(reader.seen as usize, 2 * SAMPLES + 1);
        let many: String = (0..200).map(|number| format!("l{number}=\"\",")).collect();
        let (samples, strange) = read(&[format!("x{{{many}}} 1").as_bytes()]);
        assert_eq!((samples.len(), strange), (0, 1));
    }
}
