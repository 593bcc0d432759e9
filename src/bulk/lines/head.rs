//! Type and id of a resource out of its line, with every byte of the line held against the grammar of
//! JSON (RFC 8259) on the way. It is most of the work that an export has with its bytes.
//!
//! Only what is plain is told. Whatever is unusual is left to the parser, as are errors and their words,
//! so that no line is refused by this alone.

/// What a line says of itself, where that is plain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub resource_type: Option<&'a str>,
    pub id: Option<&'a str>,
}

/// The head of a line that is one whole JSON object. `None`: it may be none, or it is unusual, with an
/// escape in a name or a value that is told, a member that stands twice, or values deep within values.
pub(super) fn of(line: &str) -> Option<Head<'_>> {
    let mut scan = Scan(line.as_bytes());
    let mut head = Head::default();
    scan.take(b'{')?;
    if scan.next()? == b'}' {
        scan.skip(1);
        return scan.is_over().then_some(head);
    }
    loop {
        let name = scan.plain(line)?;
        scan.take(b':')?;
        match name {
            "resourceType" => tell(&mut head.resource_type, scan.plain(line)?)?,
            "id" => tell(&mut head.id, scan.plain(line)?)?,
            _ => scan.value()?,
        }
        match scan.next()? {
            b',' => scan.skip(1),
            b'}' => {
                scan.skip(1);
                return scan.is_over().then_some(head);
            }
            _ => return None,
        }
    }
}

fn tell<'a>(place: &mut Option<&'a str>, text: &'a str) -> Option<()> {
    place.replace(text).is_none().then_some(())
}

/// Most values within each other.
const DEEPEST: u32 = 128;

/// What is left of a line. All of its parts are `None` where the grammar has no such thing.
struct Scan<'a>(&'a [u8]);

impl Scan<'_> {
    fn skip(&mut self, count: usize) {
        self.0 = self.0.get(count..).unwrap_or_default();
    }

    /// The next byte that is no blank.
    fn next(&mut self) -> Option<u8> {
        loop {
            match self.0 {
                [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] => self.0 = rest,
                [byte, ..] => return Some(*byte),
                [] => return None,
            }
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then(|| self.skip(1))
    }

    fn is_over(&mut self) -> bool {
        self.next().is_none()
    }

    /// A text without an escape; the bytes are the end of `line`.
    fn plain<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        self.take(b'"')?;
        let from = line.len() - self.0.len();
        self.seek_mark();
        let text = line.get(from..line.len() - self.0.len())?;
        (self.0.first() == Some(&b'"')).then(|| self.skip(1))?;
        Some(text)
    }

    /// To the next byte that means something in a text: a quote, a backslash, a control character.
    fn seek_mark(&mut self) {
        const ONES: u64 = u64::from_le_bytes([1; 8]);
        const TOPS: u64 = ONES << 7;
        let mut rest = self.0;
        while let Some((eight, behind)) = rest.split_first_chunk::<8>() {
            let word = u64::from_le_bytes(*eight);
            let quote = word ^ (ONES * u64::from(b'"'));
            let backslash = word ^ (ONES * u64::from(b'\\'));
            // The lowest byte that is marked is one; those above it may be marked by its borrow.
            let marks = (word.wrapping_sub(ONES * 0x20) & !word)
                | (quote.wrapping_sub(ONES) & !quote)
                | (backslash.wrapping_sub(ONES) & !backslash);
            let marks = marks & TOPS;
            if marks != 0 {
                self.0 = rest.get(marks.trailing_zeros() as usize / 8..).unwrap_or_default();
                return;
            }
            rest = behind;
        }
        let is_mark = |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20);
        let at = rest.iter().position(is_mark).unwrap_or(rest.len());
        self.0 = rest.get(at..).unwrap_or_default();
    }

    /// What follows the first quote of a text.
    fn text(&mut self) -> Option<()> {
        loop {
            self.seek_mark();
            match self.0 {
                [b'"', rest @ ..] => {
                    self.0 = rest;
                    return Some(());
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => {
                    self.0 = rest;
                }
                [b'\\', b'u', a, b, c, d, rest @ ..]
                    if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) =>
                {
                    self.0 = rest;
                }
                _ => return None,
            }
        }
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.skip(count);
        (count > 0).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        if let [b'-', rest @ ..] = self.0 {
            self.0 = rest;
        }
        match self.0 {
            [b'0', rest @ ..] => self.0 = rest,
            _ => self.digits()?,
        }
        if let [b'.', rest @ ..] = self.0 {
            self.0 = rest;
            self.digits()?;
        }
        if let [b'e' | b'E', rest @ ..] = self.0 {
            self.0 = rest.strip_prefix(b"+").or_else(|| rest.strip_prefix(b"-")).unwrap_or(rest);
            self.digits()?;
        }
        Some(())
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(word)?;
        Some(())
    }

    /// A member's name and its colon.
    fn name(&mut self) -> Option<()> {
        self.take(b'"')?;
        self.text()?;
        self.take(b':')
    }

    /// A value with all that is in it.
    fn value(&mut self) -> Option<()> {
        // A bit for each that is open, the innermost one last: set for an object.
        let (mut open, mut depth) = (0_u128, 0);
        loop {
            match self.next()? {
                b'"' => {
                    self.skip(1);
                    self.text()?;
                }
                begins @ (b'{' | b'[') => {
                    self.skip(1);
                    let is_object = begins == b'{';
                    let ends = if is_object { b'}' } else { b']' };
                    if self.next()? == ends {
                        self.skip(1);
                    } else {
                        if depth == DEEPEST {
                            return None;
                        }
                        (open, depth) = (open << 1 | u128::from(is_object), depth + 1);
                        if is_object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            loop {
                if depth == 0 {
                    return Some(());
                }
                let is_object = open & 1 == 1;
                match self.next()? {
                    b',' => {
                        self.skip(1);
                        if is_object {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' if is_object => {}
                    b']' if !is_object => {}
                    _ => return None,
                }
                self.skip(1);
                (open, depth) = (open >> 1, depth - 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn told(line: &str) -> Option<(Option<String>, Option<String>)> {
        of(line).map(|head| (head.resource_type.map(str::to_owned), head.id.map(str::to_owned)))
    }

    #[test]
    fn what_is_plain_is_told_and_the_rest_is_not() {
        let patient = Some((Some("Patient".to_owned()), Some("a-1".to_owned())));
        for line in [
            r#"{"resourceType":"Patient","id":"a-1"}"#,
            " {\t\"x\" : [ 1 , -0.5e+7 , { } , [ ] , [ { \"y\" : null } ] ] , \"id\" : \"a-1\" ,\
              \"resourceType\" : \"Patient\" } \r",
            r#"{"text":"\"\\\/\b\f\n\r\t\u00e9 ä","resourceType":"Patient","id":"a-1","n":0}"#,
        ] {
            assert_eq!(told(line), patient, "{line}");
        }
        assert_eq!(told("{}"), Some((None, None)));
        let deep = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(told(&deep(128)).is_some() && told(&deep(130)).is_none());
        for line in [
            "",
            "{",
            "[]",
            "{}}",
            r#"{"id":"a","id":"b"}"#,
            r#"{"id":"a\u0062"}"#,
            r#"{"id":1}"#,
            r#"{"\u0069d":"a"}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":-}"#,
            r#"{"a":.5}"#,
            r#"{"a":1e}"#,
            r#"{"a":tru}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12g4"}"#,
            "{\"a\":\"\u{1}\"}",
            r#"{"a":[1,]}"#,
            r#"{"a":[1}}"#,
            r#"{"a":{"b":1,}}"#,
            r#"{"a":{1:2}}"#,
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
        ] {
            assert_eq!(told(line), None, "{line}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 60, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((".{0,9}", inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// What is true is taken; what was broken is only taken where the parser takes it, and then for
        /// the same.
        #[test]
        fn it_takes_nothing_that_the_parser_refuses(
            members in prop::collection::vec(("[a-z]{1,9}", value()), 0..6),
            id in "[a-z0-9-]{1,30}",
            pretty in any::<bool>(),
            (at, insert) in (any::<prop::sample::Index>(), prop_oneof![
                Just(String::new()),
                "[\\[\\]{}:,\"\\\\0-9eE+.tfn\u{1} -]{1,2}",
            ]),
        ) {
            let mut object: Map<String, Value> = members.into_iter().collect();
            object.insert("id".to_owned(), id.clone().into());
            let object = Value::Object(object);
            let mut line = match pretty {
                true => serde_json::to_string_pretty(&object).unwrap(),
                false => object.to_string(),
            };
            prop_assert_eq!(told(&line), Some((None, Some(id))));
            let at = at.index(line.len());
            prop_assume!(line.is_char_boundary(at));
            if insert.is_empty() {
                line.remove(at);
            } else {
                line.insert_str(at, &insert);
            }
            if let Some((resource_type, id)) = told(&line) {
                let read: crate::bulk::lines::Parsed<'_> = serde_json::from_str(&line).unwrap();
                prop_assert_eq!(resource_type.as_deref(), read.resource_type.as_text());
                prop_assert_eq!(id.as_deref(), read.id.as_text());
            }
        }
    }
}
