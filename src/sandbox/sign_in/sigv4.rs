//! Checks AWS Signature Version 4 of a request, from what arrived.

use aws_lc_rs::hmac;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{same, text};
use crate::model::Secret;
use crate::sandbox::site::pairs;
use crate::serve::{Received, Request};

pub(super) const ACCESS_KEY: &str = "AKIASANDBOX0000000001";
pub(super) const REGION: &str = "us-east-1";
const SERVICE: &str = "healthlake";
/// How far the clocks may be apart, in seconds.
const SKEW: i64 = 300;

/// Why a signature is not taken: AWS's name for it, and words.
pub(super) type Refused = (&'static str, String);

/// # Errors
/// What is wrong; `None` in the place of an error when no signature came at all.
pub(super) fn check(
    request: &Request,
    secret: &Secret,
    now: Timestamp,
) -> Result<(), Option<Refused>> {
    let Some(brought) = text(&request.headers, "authorization") else { return Err(None) };
    let bad = |name: &'static str, why: &str| Some((name, why.to_owned()));
    let Some(rest) = brought.strip_prefix("AWS4-HMAC-SHA256 ") else {
        return Err(bad("IncompleteSignatureException", "the header is not AWS4-HMAC-SHA256"));
    };
    let part = |name: &str| {
        rest.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
    };
    let (Some(credential), Some(signed), Some(signature)) =
        (part("Credential"), part("SignedHeaders"), part("Signature"))
    else {
        return Err(bad("IncompleteSignatureException", "a part of the header is missing"));
    };
    let mut scope = credential.split('/');
    let (key, day) = (scope.next().unwrap_or_default(), scope.next().unwrap_or_default());
    if key != ACCESS_KEY {
        return Err(bad(
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ));
    }
    if scope.collect::<Vec<_>>() != [REGION, SERVICE, "aws4_request"] {
        return Err(bad(
            "InvalidSignatureException",
            "Credential should be scoped to the region and to healthlake.",
        ));
    }
    let date = text(&request.headers, "x-amz-date").unwrap_or_default();
    let Some(at) = instant(&date).filter(|_| date.starts_with(day)) else {
        return Err(bad("IncompleteSignatureException", "x-amz-date is missing or does not fit"));
    };
    if (at.as_second() - now.as_second()).abs() > SKEW {
        return Err(Some((
            "InvalidSignatureException",
            format!("Signature expired: {date} is too far from the server's time."),
        )));
    }
    if !signed.split(';').any(|name| name == "host") {
        return Err(bad("InvalidSignatureException", "'Host' must be a 'SignedHeader'."));
    }
    let canonical = canonical(request, signed);
    let scope = format!("{day}/{REGION}/{SERVICE}/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let mut key = format!("AWS4{}", secret.expose()).into_bytes();
    for step in [day, REGION, SERVICE, "aws4_request"] {
        key = sign(&key, step);
    }
    let expected = hex(&sign(&key, &to_sign));
    if same(expected.as_bytes(), signature.as_bytes()) {
        Ok(())
    } else {
        Err(bad(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided.",
        ))
    }
}

fn canonical(request: &Request, signed: &str) -> String {
    let path: Vec<String> = request.path.split('/').map(encoded).collect();
    let query = request.query.as_deref().unwrap_or_default();
    let mut all: Vec<(String, String)> = pairs(query.as_bytes())
        .iter()
        .map(|(name, value)| (encoded(name), encoded(value)))
        .collect();
    all.sort();
    let query: Vec<String> = all.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let headers: String = signed
        .split(';')
        .map(|name| {
            let value = match name {
                "host" => request.authority.clone().unwrap_or_default(),
                name => text(&request.headers, name).unwrap_or_default(),
            };
            let value: Vec<&str> = value.split_whitespace().collect();
            format!("{name}:{}\n", value.join(" "))
        })
        .collect();
    let body = match &request.body {
        Received::Whole(body) => hex(&Sha256::digest(body)),
        Received::TooLarge => String::new(),
    };
    let path = path.join("/");
    format!("{}\n{path}\n{}\n{headers}\n{signed}\n{body}", request.method, query.join("&"))
}

/// Everything but the unreserved characters of RFC 3986.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `20261123T094350Z`.
fn instant(text: &str) -> Option<Timestamp> {
    let parsed = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(parsed.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}
