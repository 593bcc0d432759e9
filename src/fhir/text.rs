//! JSON as text: its spaces change, its numbers and strings stay as they came.
//!
//! A FHIR decimal means its trailing zeros (`1.10`), so a resource is never read and written again.

/// A JSON text on one line, added to `out`.
pub fn compact(json: &str, out: &mut Vec<u8>) {
    let (mut is_text, mut is_escaped) = (false, false);
    out.reserve(json.len() + 1);
    for byte in json.bytes() {
        if is_text {
            out.push(byte);
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => is_text = false,
                _ => {}
            }
        } else if !byte.is_ascii_whitespace() {
            is_text = byte == b'"';
            out.push(byte);
        }
    }
}

/// A JSON text with one member a line, set in by two columns. What is no JSON comes out as
/// something that is none either.
#[must_use]
pub fn pretty(json: &str) -> String {
    let mut line = Vec::new();
    compact(json, &mut line);
    let mut out = Vec::with_capacity(line.len() * 2);
    let (mut is_text, mut is_escaped, mut depth) = (false, false, 0_usize);
    let mut bytes = line.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if is_text {
            out.push(byte);
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => is_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'{' | b'[' => {
                out.push(byte);
                if let Some(end) = bytes.next_if(|next| matches!(next, b'}' | b']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                new_line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            _ => {
                is_text = byte == b'"';
                out.push(byte);
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Deeper than this nothing is set in any further: a hostile nesting must not multiply its size.
const DEEPEST: usize = 64;

fn new_line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.resize(out.len() + 2 * depth.min(DEEPEST), b' ');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_on_one_line_keeps_its_decimals_and_its_spaces() {
        let mut out = Vec::new();
        compact(
            "{\n  \"value\" : 1.10,\n \"text\": \"a \\\" b\\\\\" , \"x\":[ 1 , 2 ]\r\n}",
            &mut out,
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"value\":1.10,\"text\":\"a \\\" b\\\\\",\"x\":[1,2]}"
        );
    }

    #[test]
    fn a_pretty_resource_is_the_same_resource() {
        for (json, expected) in [
            (r#"{"a":1.10,"b":[],"c":{}}"#, "{\n  \"a\": 1.10,\n  \"b\": [],\n  \"c\": {}\n}"),
            (
                r#"["x,y:{}",{"n":[1,2]}]"#,
                "[\n  \"x,y:{}\",\n  {\n    \"n\": [\n      1,\n      2\n    ]\n  }\n]",
            ),
        ] {
            assert_eq!(pretty(json), expected);
        }
        let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
        assert!(pretty(&deep).len() < 2_000_000);
    }
}
