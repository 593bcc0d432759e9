//! The signature itself: AWS Signature Version 4 in the `Authorization` header.
//!
//! As AWS describes it for every service but S3: the path is encoded once more than it is sent, the
//! query is sorted, and the body's digest is signed without a header of its own.

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use url::Url;
use zeroize::Zeroizing;

use super::keys::Keys;
use crate::auth::header_value;
use crate::http::{Failure, Unsigned};

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// What a signature is good for.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    pub region: &'a str,
    pub service: &'a str,
}

/// The headers that prove a request: `x-amz-date`, with temporary keys `x-amz-security-token`, and
/// `Authorization`.
///
/// `covers` says by its name in lower case whether another header of the request is signed; host
/// and the headers named here always are.
///
/// # Errors
/// When a key has characters that no header can carry.
pub fn headers(
    unsigned: &Unsigned,
    keys: &Keys,
    scope: Scope<'_>,
    at: Timestamp,
    covers: impl Fn(&str) -> bool,
) -> Result<Vec<(HeaderName, HeaderValue)>, Failure> {
    let instant = at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = &instant[..8];
    let mut added = vec![(X_AMZ_DATE, header_value("x-amz-date", &instant, false)?)];
    if let Some(token) = &keys.session_token {
        let value = header_value("x-amz-security-token", token.expose(), true)?;
        added.push((X_AMZ_SECURITY_TOKEN, value));
    }
    let signed = signed_headers(unsigned, &added, covers);
    let names = signed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    // It holds the session token.
    let request = Zeroizing::new(canonical_request(unsigned, &signed, &names));
    let scope_text = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let to_sign =
        format!("AWS4-HMAC-SHA256\n{instant}\n{scope_text}\n{}", hex(&Sha256::digest(&*request)));
    let signature = hex(sign(&signing_key(keys, day, scope), &to_sign).as_ref());
    let proof = Zeroizing::new(format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope_text}, SignedHeaders={names}, Signature={signature}",
        keys.access_key.expose()
    ));
    added.push((AUTHORIZATION, header_value("Authorization", &proof, true)?));
    Ok(added)
}

/// Names in lower case, sorted, with values in their canonical form.
fn signed_headers(
    unsigned: &Unsigned,
    added: &[(HeaderName, HeaderValue)],
    covers: impl Fn(&str) -> bool,
) -> Vec<(String, Zeroizing<String>)> {
    let mut signed: Vec<(String, Zeroizing<String>)> = Vec::new();
    for name in unsigned.headers.keys() {
        let replaced = added.iter().any(|(other, _)| other == name) || name == AUTHORIZATION;
        if replaced || !(name == HOST || covers(name.as_str())) {
            continue;
        }
        let values: Vec<_> = unsigned.headers.get_all(name).iter().map(trimmed).collect();
        signed.push((name.as_str().to_owned(), Zeroizing::new(values.join(","))));
    }
    for (name, value) in added {
        signed.push((name.as_str().to_owned(), Zeroizing::new(trimmed(value))));
    }
    if !unsigned.headers.contains_key(HOST) {
        signed.push(("host".to_owned(), Zeroizing::new(host(&unsigned.url))));
    }
    signed.sort_by(|(one, _), (other, _)| one.cmp(other));
    signed
}

/// Without white space around it, and with one blank where there was more inside.
fn trimmed(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// As it goes into the `Host` header: the port only where it is not the scheme's own.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn canonical_request(
    unsigned: &Unsigned,
    signed: &[(String, Zeroizing<String>)],
    names: &str,
) -> String {
    let mut text = format!(
        "{}\n{}\n{}\n",
        unsigned.method,
        canonical_path(unsigned.url.path()),
        canonical_query(unsigned.url.query().unwrap_or_default())
    );
    for (name, value) in signed {
        let _ = writeln!(text, "{name}:{}", value.as_str());
    }
    let _ = write!(text, "\n{names}\n{}", hex(&Sha256::digest(&unsigned.body)));
    text
}

/// The path as it is sent, without empty segments, and encoded once more.
fn canonical_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len() + 16);
    // Dots are resolved already where a URL is parsed.
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        encoded.push('/');
        encode(segment, &mut encoded);
    }
    if encoded.is_empty() || path.ends_with('/') {
        encoded.push('/');
    }
    encoded
}

/// The parameters as they are sent, sorted by name and then by value. The client has
/// encoded them strictly already.
fn canonical_query(query: &str) -> String {
    if query.is_empty() {
        return String::new();
    }
    let mut pairs: Vec<_> =
        query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    pairs.sort_unstable();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Leaves only the unreserved characters of RFC 3986 §2.3.
fn encode(text: &str, encoded: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
}

fn signing_key(keys: &Keys, day: &str, scope: Scope<'_>) -> hmac::Tag {
    let secret = Zeroizing::new(format!("AWS4{}", keys.secret_key.expose()));
    let of_day = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), day.as_bytes());
    let of_region = sign(&of_day, scope.region);
    let of_service = sign(&of_region, scope.service);
    sign(&of_service, "aws4_request")
}

fn sign(key: &hmac::Tag, text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
