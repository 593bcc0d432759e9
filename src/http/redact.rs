//! What a server repeats of our secrets is taken out of its answer before anybody sees it.
//!
//! Some servers print the request in their error pages, credential and all.

use http::header::{HeaderMap, HeaderValue};
use memchr::memmem::Finder;
use zeroize::Zeroizing;

use super::exchange::{Body, Credential};

const REDACTED: &[u8] = b"(redacted)";
/// Shorter texts stand in ordinary answers, too.
const SHORTEST: usize = 6;
/// Fields of a form that prove who we are (RFC 6749, RFC 7521, RFC 7662).
const FIELDS: &[&str] = &[
    "assertion",
    "client_assertion",
    "client_secret",
    "code",
    "code_verifier",
    "password",
    "refresh_token",
    "token",
];

/// The secrets that went with one request.
#[derive(Default)]
pub(super) struct Sent(Vec<Zeroizing<Vec<u8>>>);

impl Sent {
    /// Those in headers that are marked as sensitive, in the query, and in a form.
    pub(super) fn of(
        headers: &HeaderMap,
        credential: Option<&Credential>,
        body: Option<&Body<'_>>,
    ) -> Sent {
        let mut sent = Sent::default();
        for value in headers.values().filter(|value| value.is_sensitive()) {
            sent.add(value.as_bytes());
            // `Bearer TOKEN`: the token alone, too.
            if let Some(last) = value.as_bytes().rsplit(|&byte| byte == b' ').next() {
                sent.add(last);
            }
        }
        if let Some((_, value)) = credential.and_then(|credential| credential.query.as_ref()) {
            sent.add(value.expose().as_bytes());
        }
        let form = body.filter(|body| {
            body.confidential && body.content_type == "application/x-www-form-urlencoded"
        });
        for (name, value) in form.iter().flat_map(|body| url::form_urlencoded::parse(body.bytes)) {
            if FIELDS.contains(&name.as_ref()) {
                sent.add(value.as_bytes());
            }
        }
        sent
    }

    fn add(&mut self, secret: &[u8]) {
        if secret.len() >= SHORTEST && !self.0.iter().any(|known| known.as_slice() == secret) {
            self.0.push(Zeroizing::new(secret.to_vec()));
        }
    }

    /// The answer without what was sent; as it came where nothing is repeated.
    pub(super) fn taken_out_of(&self, headers: &mut HeaderMap, body: &mut Vec<u8>) {
        for secret in &self.0 {
            if let Some(clean) = without(body, secret) {
                *body = clean;
            }
            for value in headers.values_mut() {
                let clean = without(value.as_bytes(), secret);
                if let Some(clean) = clean.and_then(|clean| HeaderValue::from_bytes(&clean).ok()) {
                    *value = clean;
                }
            }
        }
    }
}

fn without(text: &[u8], secret: &[u8]) -> Option<Vec<u8>> {
    let finder = Finder::new(secret);
    let mut places = finder.find_iter(text).peekable();
    places.peek()?;
    let mut clean = Vec::with_capacity(text.len());
    let mut end = 0;
    for place in places {
        clean.extend_from_slice(&text[end..place]);
        clean.extend_from_slice(REDACTED);
        end = place + secret.len();
    }
    clean.extend_from_slice(&text[end..]);
    Some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_repeats_of_a_secret_is_taken_out() {
        let mut value = HeaderValue::from_static("Bearer abcdef.ghijkl");
        value.set_sensitive(true);
        let request = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
        let form = Body {
            content_type: "application/x-www-form-urlencoded",
            bytes: b"client_secret=s3cr3t%2B1&scope=system%2F*.rs&family=Smithers",
            confidential: true,
        };
        let sent = Sent::of(&request, None, Some(&form));
        let mut headers =
            HeaderMap::from_iter([(http::header::WARNING, "abcdef.ghijkl".parse().unwrap())]);
        let mut body = b"<Bearer abcdef.ghijkl> abcdef.ghijkl s3cr3t+1 Smithers".to_vec();
        sent.taken_out_of(&mut headers, &mut body);
        assert_eq!(String::from_utf8(body).unwrap(), "<(redacted)> (redacted) (redacted) Smithers");
        assert_eq!(headers[http::header::WARNING], "(redacted)");
    }
}
