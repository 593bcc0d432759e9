//! What a URL has to be like for a signature over it to hold.

use std::fmt::Write as _;

use url::Url;

/// The URL with a query of which there is one spelling only: every character but the unreserved
/// ones of RFC 3986 §2.3 percent-encoded.
///
/// Whoever verifies a signature decodes the parameters and encodes them strictly. Sent so, what is
/// signed is what is sent, and no two readings of `+`, `,`, `|` or `'` can differ. Order and
/// repetition stay; a `+` is a blank, as in forms.
pub fn strictly_encoded(mut url: Url) -> Url {
    let Some(query) = url.query() else { return url };
    let mut strict = String::with_capacity(query.len() + 16);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if !strict.is_empty() {
            strict.push('&');
        }
        match pair.split_once('=') {
            Some((name, value)) => {
                encode(name, &mut strict);
                strict.push('=');
                encode(value, &mut strict);
            }
            None => encode(pair, &mut strict),
        }
    }
    // None of these characters is one that `Url` would encode again.
    url.set_query((!strict.is_empty()).then_some(&strict));
    url
}

fn encode(text: &str, strict: &mut String) {
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let byte = match (first, hex_pair(after)) {
            (b'+', _) => b' ',
            (b'%', Some(decoded)) => {
                rest = &after[2..];
                decoded
            }
            (other, _) => *other,
        };
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            strict.push(char::from(byte));
        } else {
            let _ = write!(strict, "%{byte:02X}");
        }
    }
}

fn hex_pair(rest: &[u8]) -> Option<u8> {
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(rest.first()?)? << 4 | digit(rest.get(1)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_spelling_of_a_query() {
        for (query, strict) in [
            ("_count=1", "_count=1"),
            ("a=b c", "a=b%20c"),
            ("a=b+c", "a=b%20c"),
            ("a=b%2Bc", "a=b%2Bc"),
            ("a=b%2bc", "a=b%2Bc"),
            ("a=%41%7e", "a=A~"),
            ("code=http://loinc.org|8480-6", "code=http%3A%2F%2Floinc.org%7C8480-6"),
            ("name=O'Brien", "name=O%27Brien"),
            ("name=Müller", "name=M%C3%BCller"),
            ("_id=a,b", "_id=a%2Cb"),
            ("b=2&a=1&b=1", "b=2&a=1&b=1"),
            ("a=&b&=c", "a=&b&=c"),
            ("a==b", "a=%3Db"),
            ("a=1&&b=2", "a=1&b=2"),
            ("a=100%", "a=100%25"),
            ("a=%zz", "a=%25zz"),
            ("a=%ff", "a=%FF"),
            ("a=%E4%BD%A0", "a=%E4%BD%A0"),
            ("_has:Observation:patient:code=1", "_has%3AObservation%3Apatient%3Acode=1"),
        ] {
            let url = Url::parse(&format!("https://x.test/r4/Patient?{query}")).unwrap();
            let sent = strictly_encoded(url);
            assert_eq!(sent.query(), Some(strict), "{query}");
            assert_eq!(strictly_encoded(sent.clone()), sent, "{query}: once is enough");
        }
        let bare = Url::parse("https://x.test/r4/$export").unwrap();
        assert_eq!(strictly_encoded(bare.clone()), bare);
    }
}
