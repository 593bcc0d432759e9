//! Why a token endpoint refused: which claim, key, scope or clock is wrong.
//!
//! The provider's own words come first. Where it hides its reasons, what was sent is held against
//! what the provider publishes and against its clock.

use jiff::Timestamp;

use super::discovery::SmartConfiguration;
use super::token::{Refusal, Sent};
use crate::http::{Failure, Stage};
use crate::model::Code;
use crate::model::server::SignInPolicy;

/// A difference between the clocks that counts, in milliseconds.
pub(super) const SKEW_MS: i64 = 60_000;

/// What is known beside the refusal itself.
#[derive(Debug, Default)]
pub(super) struct Facts<'a> {
    pub sent: Option<&'a Sent>,
    pub configuration: Option<&'a SmartConfiguration>,
    /// The key ids of the published set, where it could be read.
    pub published_keys: Option<&'a [String]>,
    /// Why the published set could not be read.
    pub unreadable_keys: Option<&'a str>,
    pub policy: Option<&'a SignInPolicy>,
}

/// The refusal as a failure with its own code, in our words; the provider's own go into
/// `server_text`.
pub(super) fn explain(
    refusal: &Refusal,
    facts: &Facts<'_>,
    place: &str,
    now: Timestamp,
) -> Failure {
    let cause = cause(refusal, facts, now);
    let (code, message, hint) = told(cause, refusal, facts, place);
    let mut failure = Failure::new(Stage::Setup, Code::new(code), message);
    failure.hint = hint;
    failure.server_text = server_text(refusal);
    failure
}

/// Whether the credential as such was refused: then it counts for the hold-back.
pub(super) fn is_refusal(code: Code) -> bool {
    [
        Code::new("auth.invalid_client"),
        Code::new("auth.unauthorized"),
        Code::new("auth.audience"),
        Code::new("auth.clock_skew"),
        Code::new("auth.key_unknown"),
        Code::new("auth.algorithm"),
        Code::new("auth.secret_expired"),
        Code::new("auth.token_expired"),
    ]
    .contains(&code)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Audience,
    Clock,
    KeyUnknown,
    Algorithm,
    Scope,
    SecretExpired,
    ClientUnknown,
    GrantEnded,
    Client,
    /// Nothing about the credential: the request or the endpoint.
    Endpoint,
}

fn cause(refusal: &Refusal, facts: &Facts<'_>, now: Timestamp) -> Cause {
    let words = format!("{} {}", refusal.error, refusal.description).to_ascii_lowercase();
    if let Some(cause) = by_number(&words) {
        return cause;
    }
    if refusal.error == "invalid_scope" {
        return Cause::Scope;
    }
    let is_assertion = facts.sent.is_some_and(|sent| sent.signature.is_some());
    if let Some(cause) = by_words(&refusal.description.to_ascii_lowercase(), is_assertion) {
        return cause;
    }
    if !matches!(
        refusal.error.as_str(),
        "" | "invalid_client" | "unauthorized_client" | "invalid_grant" | "access_denied"
    ) {
        return Cause::Endpoint;
    }
    if is_assertion && refusal.clock_skew_ms.is_some_and(|skew| skew.abs() > SKEW_MS) {
        return Cause::Clock;
    }
    let ended = facts
        .policy
        .and_then(|policy| policy.expires)
        .is_some_and(|day| day < now.to_zoned(jiff::tz::TimeZone::UTC).date());
    if ended {
        return Cause::SecretExpired;
    }
    let Some(sent) = facts.sent else { return Cause::Client };
    if let (Some(audience), Some(expected)) = (&sent.audience, expected_audience(facts))
        && audience != expected
    {
        return Cause::Audience;
    }
    if let (Some(signature), Some(supported)) = (sent.signature, algorithms(facts))
        && !supported.iter().any(|name| name == signature.as_str())
    {
        return Cause::Algorithm;
    }
    if let (Some(id), Some(published)) = (&sent.key_id, facts.published_keys)
        && !published.contains(id)
    {
        return Cause::KeyUnknown;
    }
    if refusal.error == "invalid_grant" && !is_assertion {
        return Cause::GrantEnded;
    }
    Cause::Client
}

/// Microsoft Entra ID numbers its reasons.
fn by_number(words: &str) -> Option<Cause> {
    // A longer number comes before one that it begins with.
    const NUMBERS: &[(&str, Cause)] = &[
        ("aadsts7000222", Cause::SecretExpired),
        ("aadsts7000215", Cause::Client),
        ("aadsts700024", Cause::Clock),
        ("aadsts700027", Cause::KeyUnknown),
        ("aadsts700023", Cause::Audience),
        ("aadsts700016", Cause::ClientUnknown),
        ("aadsts500011", Cause::Scope),
        ("aadsts70011", Cause::Scope),
        ("aadsts1002012", Cause::Scope),
        ("aadsts90002", Cause::ClientUnknown),
    ];
    NUMBERS.iter().find(|(number, _)| words.contains(number)).map(|(_, cause)| *cause)
}

fn by_words(description: &str, is_assertion: bool) -> Option<Cause> {
    let has = |texts: &[&str]| texts.iter().any(|text| description.contains(text));
    let word = |wanted: &str| {
        description.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|it| it == wanted)
    };
    if has(&["scope"])
        && has(&["invalid", "not allowed", "unknown", "not granted", "not permitted"])
    {
        return Some(Cause::Scope);
    }
    if has(&["audience"]) || word("aud") {
        return Some(Cause::Audience);
    }
    if has(&["secret", "certificate", "credential"])
        && has(&["expired", "has ended"])
        && !is_assertion
    {
        return Some(Cause::SecretExpired);
    }
    if has(&["secret expired", "secret has expired", "keys are expired"]) {
        return Some(Cause::SecretExpired);
    }
    if has(&[
        "unknown client",
        "client unknown",
        "client is unknown",
        "client not found",
        "no such client",
        "client_id not found",
        "client does not exist",
        "not a registered client",
        "client is not registered",
    ]) {
        return Some(Cause::ClientUnknown);
    }
    if has(&["jwks", "key id", "key_id", "matching key", "find key", "no key", "unknown key"])
        || word("kid")
        || (has(&["key"]) && has(&["not found", "not registered", "unknown"]))
    {
        return Some(Cause::KeyUnknown);
    }
    if has(&["algorithm"]) || word("alg") {
        return Some(Cause::Algorithm);
    }
    if is_assertion
        && (has(&["expired", "in the future", "not yet valid", "clock", "lifetime", "too old"])
            || ["exp", "iat", "nbf"].iter().any(|claim| word(claim)))
    {
        return Some(Cause::Clock);
    }
    None
}

fn expected_audience<'a>(facts: &Facts<'a>) -> Option<&'a String> {
    facts.configuration.and_then(|configuration| configuration.token_endpoint.as_ref())
}

fn algorithms<'a>(facts: &Facts<'a>) -> Option<&'a [String]> {
    facts
        .configuration
        .map(|configuration| {
            configuration.token_endpoint_auth_signing_alg_values_supported.as_slice()
        })
        .filter(|names| !names.is_empty())
}

/// Code, our words, and what to do.
fn told(
    cause: Cause,
    refusal: &Refusal,
    facts: &Facts<'_>,
    place: &str,
) -> (&'static str, String, Option<String>) {
    let sent = facts.sent.cloned().unwrap_or_default();
    let client = sent.client_id.as_deref().unwrap_or("the client");
    let skew = refusal.clock_skew_ms.map(seconds);
    match cause {
        Cause::Audience => {
            let was = sent.audience.as_deref().unwrap_or("none");
            let expected = match expected_audience(facts) {
                Some(expected) if expected == was => {
                    "another, though this is the token endpoint it publishes".to_owned()
                }
                Some(expected) => expected.clone(),
                None => "another; it publishes none".to_owned(),
            };
            (
                "auth.audience",
                format!("{place} does not take the audience: sent {was}, expected {expected}"),
                Some("Set auth.audience (or auth.token_url) to what the provider calls its token endpoint, to the letter: a final slash counts.".into()),
            )
        }
        Cause::Clock => (
            "auth.clock_skew",
            match skew {
                Some(skew) => format!(
                    "{place} does not take the assertion's times; this machine's clock is {skew} the provider's"
                ),
                None => format!("{place} does not take the assertion's times"),
            },
            Some("Set this machine's clock right (timedatectl set-ntp true); fhirctl doctor shows the difference.".into()),
        ),
        Cause::KeyUnknown => {
            let id = sent.key_id.as_deref().unwrap_or("none");
            let published = match (facts.published_keys, facts.unreadable_keys, &sent.jwks_url) {
                (Some(keys), _, Some(url)) if keys.iter().any(|key| key == id) => {
                    format!("; {url} publishes it: the provider's copy may be old")
                }
                (Some(keys), _, Some(url)) => {
                    format!("; {url} publishes {}", listed(keys))
                }
                (None, Some(why), Some(url)) => format!("; {url} could not be read: {why}"),
                _ => String::new(),
            };
            (
                "auth.key_unknown",
                format!("{place} does not know the key that signed: key id {id}{published}"),
                Some("Publish or register the public key: fhirctl auth jwks NAME prints the set; then fhirctl auth test NAME.".into()),
            )
        }
        Cause::Algorithm => {
            let used = sent.signature.map_or("none", super::key::Signature::as_str);
            let supported = algorithms(facts)
                .map(|names| format!("; it lists {}", listed(names)))
                .unwrap_or_default();
            (
                "auth.algorithm",
                format!("{place} does not take the signing algorithm {used}{supported}"),
                Some("Register a key of the other kind: fhirctl auth jwks NAME --generate.".into()),
            )
        }
        Cause::Scope => {
            let unknown = facts.configuration.map(|it| unsupported(&sent.scopes, &it.scopes_supported));
            let which = match unknown {
                Some(unknown) if !unknown.is_empty() => {
                    format!("; not among those it lists: {}", unknown.join(" "))
                }
                _ => String::new(),
            };
            let asked = if sent.scopes.is_empty() { "none".into() } else { sent.scopes.join(" ") };
            (
                "auth.invalid_scope",
                format!("{place} refuses the scopes that were asked for: {asked}{which}"),
                None,
            )
        }
        Cause::SecretExpired => (
            "auth.secret_expired",
            match facts.policy.and_then(|policy| policy.expires) {
                Some(day) => format!("the secret of {client} has ended (auth.expires says {day})"),
                None => format!("{place} says that the secret of {client} has ended"),
            },
            Some("Make a new one at the provider, then: fhirctl auth rotate NAME".into()),
        ),
        Cause::ClientUnknown => (
            "auth.invalid_client",
            format!("{place} does not know the client {client}"),
            Some("Compare client id and environment (test or production) with the registration; a new one may take half a day to spread.".into()),
        ),
        Cause::GrantEnded => (
            "auth.token_expired",
            format!("{place} does not take the kept sign-in any more"),
            Some("Sign in again: fhirctl auth login NAME".into()),
        ),
        Cause::Client => {
            let error = if refusal.error.is_empty() { String::new() } else { format!(" ({})", refusal.error) };
            (
                "auth.invalid_client",
                format!("{place} refuses the client {client} (HTTP {}){error}", refusal.status),
                None,
            )
        }
        Cause::Endpoint => (
            "auth.token_endpoint",
            format!("{place} refuses the request (HTTP {}): {}", refusal.status, refusal.error),
            None,
        ),
    }
}

/// `10 min ahead of`.
fn seconds(skew_ms: i64) -> String {
    let direction = if skew_ms >= 0 { "ahead of" } else { "behind" };
    let seconds = (skew_ms.abs() + 500) / 1000;
    if seconds >= 120 {
        format!("{} min {direction}", (seconds + 30) / 60)
    } else {
        format!("{seconds} s {direction}")
    }
}

fn listed(names: &[String]) -> String {
    const MOST: usize = 8;
    if names.is_empty() {
        return "none".into();
    }
    let mut shown: Vec<String> = names
        .iter()
        .take(MOST)
        .map(|name| crate::model::text::one_line(&crate::model::text::bounded(name, 60)))
        .collect();
    if names.len() > MOST {
        shown.push(format!("and {} more", names.len() - MOST));
    }
    shown.join(", ")
}

fn unsupported(asked: &[String], supported: &[String]) -> Vec<String> {
    if supported.is_empty() {
        return Vec::new();
    }
    super::scope::missing(asked, supported)
}

fn server_text(refusal: &Refusal) -> Option<String> {
    match (refusal.error.as_str(), refusal.description.as_str()) {
        ("", "") => None,
        (error, "") => Some(error.to_owned()),
        ("", description) => Some(description.to_owned()),
        (error, description) => Some(format!("{error}: {description}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::key::Signature;

    fn refusal(error: &str, description: &str) -> Refusal {
        Refusal {
            status: 400,
            error: error.into(),
            description: description.into(),
            clock_skew_ms: Some(1_000),
        }
    }

    fn assertion() -> Sent {
        Sent {
            client_id: Some("c".into()),
            audience: Some("https://h/token".into()),
            key_id: Some("k1".into()),
            signature: Some(Signature::Rs384),
            ..Sent::default()
        }
    }

    fn code(refusal: &Refusal, facts: &Facts<'_>) -> Code {
        explain(refusal, facts, "https://h/token", Timestamp::UNIX_EPOCH).code
    }

    #[test]
    fn the_providers_words_name_the_cause() {
        let sent = assertion();
        let facts = Facts { sent: Some(&sent), ..Facts::default() };
        for (error, description, expected) in [
            ("invalid_client", "audience is https://a, expected https://b", "auth.audience"),
            ("invalid_client", "Invalid aud claim", "auth.audience"),
            ("invalid_client", "kid k9 is not registered", "auth.key_unknown"),
            ("invalid_client", "no matching key in the JWKS", "auth.key_unknown"),
            ("invalid_client", "unexpected \"alg\" value", "auth.algorithm"),
            ("invalid_client", "assertion expired", "auth.clock_skew"),
            ("invalid_client", "\"iat\" is in the future", "auth.clock_skew"),
            ("invalid_client", "Unknown client", "auth.invalid_client"),
            ("invalid_client", "client authentication failed", "auth.invalid_client"),
            ("invalid_scope", "", "auth.invalid_scope"),
            (
                "invalid_client",
                "AADSTS7000222: The provided client secret keys are expired",
                "auth.secret_expired",
            ),
            ("unauthorized_client", "AADSTS700016: Application not found", "auth.invalid_client"),
            (
                "invalid_client",
                "AADSTS700024: Client assertion is not within its valid time range",
                "auth.clock_skew",
            ),
            (
                "invalid_client",
                "AADSTS700027: The certificate with identifier was not found",
                "auth.key_unknown",
            ),
            ("unsupported_grant_type", "", "auth.token_endpoint"),
            ("temporarily_unavailable", "", "auth.token_endpoint"),
        ] {
            assert_eq!(
                code(&refusal(error, description), &facts),
                Code::new(expected),
                "{error} {description}"
            );
        }
        let secret = Sent { signature: None, audience: None, ..assertion() };
        let facts = Facts { sent: Some(&secret), ..Facts::default() };
        assert_eq!(
            code(&refusal("invalid_client", "client secret expired"), &facts),
            Code::new("auth.secret_expired")
        );
    }

    #[test]
    fn a_silent_refusal_is_held_against_what_is_published() {
        let sent = assertion();
        let silent = refusal("invalid_client", "client authentication failed");
        let published = SmartConfiguration {
            token_endpoint: Some("https://h/token/".into()),
            ..SmartConfiguration::default()
        };
        let audience =
            Facts { sent: Some(&sent), configuration: Some(&published), ..Facts::default() };
        let failure = explain(&silent, &audience, "https://h/token", Timestamp::UNIX_EPOCH);
        assert_eq!(failure.code, Code::new("auth.audience"));
        assert!(failure.message.contains("sent https://h/token, expected https://h/token/"));

        let late = Refusal { clock_skew_ms: Some(-600_000), ..silent.clone() };
        let failure = explain(
            &late,
            &Facts { sent: Some(&sent), ..Facts::default() },
            "x",
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(failure.code, Code::new("auth.clock_skew"));
        assert!(failure.message.contains("10 min behind"), "{}", failure.message);

        let only_ec = SmartConfiguration {
            token_endpoint_auth_signing_alg_values_supported: vec!["ES384".into()],
            ..SmartConfiguration::default()
        };
        let facts = Facts { sent: Some(&sent), configuration: Some(&only_ec), ..Facts::default() };
        assert_eq!(code(&silent, &facts), Code::new("auth.algorithm"));

        let keys = ["k2".to_owned()];
        let facts = Facts { sent: Some(&sent), published_keys: Some(&keys), ..Facts::default() };
        assert_eq!(code(&silent, &facts), Code::new("auth.key_unknown"));
        assert_eq!(
            code(&silent, &Facts { sent: Some(&sent), ..Facts::default() }),
            Code::new("auth.invalid_client")
        );
    }
}
