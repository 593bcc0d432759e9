//! Why AWS refused a signed request, told by its answer.

use jiff::Timestamp;
use serde_json::Value;

use crate::model::Code;

/// Most bytes of an answer that are looked at.
const LOOKED_AT: usize = 16 * 1024;

/// A refusal in our words, beside the server's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub message: String,
    pub hint: Option<String>,
    /// The server's own words, for a live screen and never for a log.
    pub server_text: Option<String>,
}

/// What an error answer to a signed request says about the signature; `None` when it says nothing
/// about it, as when the caller is known and not permitted.
///
/// AWS answers 403 and in some protocols 400, with its error in JSON (`__type`, `message`) or in
/// XML (`Code`, `Message`).
#[must_use]
pub fn explain(status: u16, body: &[u8]) -> Option<Refusal> {
    if !matches!(status, 400 | 401 | 403) {
        return None;
    }
    let (kind, words) = error_of(&body[..body.len().min(LOOKED_AT)]);
    let kind = kind.as_deref().unwrap_or_default();
    // The namespace before it and the suffix after it differ between services.
    let kind = kind.rsplit('#').next().unwrap_or(kind);
    let kind = kind.split(':').next().unwrap_or(kind);
    let kind = kind.strip_suffix("Exception").unwrap_or(kind);
    let said = words.as_deref().unwrap_or_default();
    let (code, message, hint) = judge(kind, said)?;
    Some(Refusal {
        code,
        message: format!("{message} (HTTP {status})"),
        hint: hint.map(str::to_owned),
        server_text: words.or_else(|| (!kind.is_empty()).then(|| kind.to_owned())),
    })
}

fn judge(kind: &str, said: &str) -> Option<(Code, String, Option<&'static str>)> {
    const CLOCK: &str = "Set this machine's clock right: timedatectl set-ntp true";
    const SCOPE: &str = "auth.region and auth.service have to be those of the datastore's URL.";
    if matches!(kind, "RequestTimeTooSkewed" | "RequestExpired")
        || said.contains("Signature expired")
        || said.contains("Signature not yet current")
        || said.contains("Date in Credential scope does not match")
    {
        return Some((Code::new("auth.clock_skew"), skew(said), Some(CLOCK)));
    }
    if kind == "ExpiredToken" || said.contains("security token included in the request is expired")
    {
        return Some((
            Code::new("auth.token_expired"),
            "the temporary AWS keys have ended".to_owned(),
            Some("Get fresh keys where these came from, session token included."),
        ));
    }
    if said.contains("Credential should be scoped to") {
        let what = if said.contains("region") { "region" } else { "service" };
        return Some((
            Code::new("auth.unauthorized"),
            format!("the signature is for another {what} than the server's"),
            Some(SCOPE),
        ));
    }
    let (message, hint) = match kind {
        "InvalidSignature" | "SignatureDoesNotMatch" => (
            "the server computes another signature than was sent",
            "Most often the secret key is not the one of this access key. Less often a proxy changes the URL, or auth.service is wrong.",
        ),
        "UnrecognizedClient" | "InvalidClientTokenId" | "InvalidAccessKeyId" => (
            "AWS does not know this access key, or not together with this session token",
            "Temporary keys (they begin with ASIA) need their session token; a deleted or inactive key has to be replaced.",
        ),
        "MissingAuthenticationToken" | "IncompleteSignature" => (
            "the server saw no complete signature",
            "Does a proxy or gateway on the way take the Authorization header out, or is the path of the base URL wrong?",
        ),
        _ if said.contains("signature we calculated does not match") => (
            "the server computes another signature than was sent",
            "Most often the secret key is not the one of this access key. Less often a proxy changes the URL, or auth.service is wrong.",
        ),
        _ if said.contains("security token included in the request is invalid") => (
            "AWS does not know this access key, or not together with this session token",
            "Temporary keys (they begin with ASIA) need their session token; a deleted or inactive key has to be replaced.",
        ),
        _ => return None,
    };
    Some((Code::new("auth.unauthorized"), message.to_owned(), Some(hint)))
}

/// How far the clocks are apart, where the server's words tell both instants:
/// `Signature expired: 20260301T120000Z is now earlier than 20260301T120500Z (20260301T121000Z - 5 min.)`.
fn skew(said: &str) -> String {
    let instants: Vec<Timestamp> = said
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| word.len() == 16)
        .filter_map(|word| {
            jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", word).ok()?.in_tz("UTC").ok()
        })
        .map(|at| at.timestamp())
        .collect();
    let (Some(ours), Some(theirs)) = (instants.first(), instants.get(2)) else {
        return "the server refuses the signature's time: the clocks differ".to_owned();
    };
    let minutes = (ours.as_second() - theirs.as_second()) / 60;
    let which = if minutes < 0 { "behind" } else { "ahead of" };
    format!(
        "the server refuses the signature's time: this machine's clock is {} min {which} the server's",
        minutes.abs()
    )
}

/// The error's kind and words.
fn error_of(body: &[u8]) -> (Option<String>, Option<String>) {
    if let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(body) {
        let text = |names: [&str; 2]| {
            names.iter().find_map(|name| fields.get(*name)?.as_str().map(str::to_owned))
        };
        let kind = text(["__type", "code"]).or_else(|| text(["Code", "errorCode"]));
        return (kind, text(["message", "Message"]));
    }
    let text = String::from_utf8_lossy(body);
    (element(&text, "Code"), element(&text, "Message"))
}

/// The text of the first element of a name. AWS writes these without attributes.
pub fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inside, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inside.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_gets_its_own_code() {
        for (status, body, code, part) in [
            (
                403,
                r#"{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"The request signature we calculated does not match the signature you provided."}"#,
                "auth.unauthorized",
                "another signature",
            ),
            (
                403,
                r#"{"message":"The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key"}"#,
                "auth.unauthorized",
                "another signature",
            ),
            (
                403,
                "<ErrorResponse><Error><Type>Sender</Type><Code>SignatureDoesNotMatch</Code><Message>x</Message></Error></ErrorResponse>",
                "auth.unauthorized",
                "another signature",
            ),
            (
                400,
                r#"{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}"#,
                "auth.unauthorized",
                "does not know this access key",
            ),
            (
                403,
                "<Error><Code>InvalidClientTokenId</Code></Error>",
                "auth.unauthorized",
                "does not know this access key",
            ),
            (
                403,
                r#"{"__type":"InvalidSignatureException","message":"Credential should be scoped to a valid region. "}"#,
                "auth.unauthorized",
                "another region",
            ),
            (
                403,
                r#"{"__type":"InvalidSignatureException","message":"Credential should be scoped to correct service: 'healthlake'."}"#,
                "auth.unauthorized",
                "another service",
            ),
            (
                403,
                r#"{"message":"Missing Authentication Token","__type":"MissingAuthenticationTokenException"}"#,
                "auth.unauthorized",
                "no complete signature",
            ),
            (
                400,
                r#"{"__type":"com.amazon.coral.service#ExpiredTokenException","Message":"The security token included in the request is expired"}"#,
                "auth.token_expired",
                "have ended",
            ),
            (
                403,
                "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>",
                "auth.token_expired",
                "have ended",
            ),
            (
                403,
                "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>",
                "auth.clock_skew",
                "the clocks differ",
            ),
            (
                403,
                r#"{"__type":"InvalidSignatureException","message":"Signature expired: 20260301T120000Z is now earlier than 20260301T120500Z (20260301T121000Z - 5 min.)"}"#,
                "auth.clock_skew",
                "10 min behind",
            ),
            (
                403,
                r#"{"__type":"InvalidSignatureException","message":"Signature not yet current: 20260301T121000Z is still later than 20260301T120500Z (20260301T120000Z + 5 min.)"}"#,
                "auth.clock_skew",
                "10 min ahead",
            ),
        ] {
            let refusal = explain(status, body.as_bytes()).unwrap_or_else(|| panic!("{body}"));
            assert_eq!(refusal.code.as_str(), code, "{body}");
            assert!(refusal.message.contains(part), "{}", refusal.message);
            assert!(refusal.server_text.is_some(), "{body}");
        }
    }

    #[test]
    fn what_says_nothing_about_the_signature_is_left_alone() {
        for (status, body) in [
            (403, &br#"{"__type":"AccessDeniedException","message":"User is not authorized"}"#[..]),
            (403, br#"{"resourceType":"OperationOutcome"}"#),
            (403, b"<html>"),
            (403, b""),
            (403, b"\xff\xfe"),
            (403, br#"{"__type":7,"message":[]}"#),
            (404, br#"{"__type":"InvalidSignatureException"}"#),
            (200, br#"{"__type":"InvalidSignatureException"}"#),
        ] {
            assert_eq!(explain(status, body), None, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn the_servers_words_stay_out_of_our_message() {
        let body = br#"{"__type":"InvalidSignatureException","message":"planted words"}"#;
        let refusal = explain(403, body).unwrap();
        assert!(!refusal.message.contains("planted"), "{}", refusal.message);
        assert_eq!(refusal.server_text.as_deref(), Some("planted words"));
    }
}
