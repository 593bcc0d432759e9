//! URLs of the file, and the passwords and keys that people leave in them.

use std::borrow::Cow;

use url::Url;

use super::leaf::{Flaw, bad};
use crate::model::server::{BaseUrl, BaseUrlError};

pub(super) fn base_url(text: &str) -> Result<BaseUrl, Flaw> {
    secret_in_url(text)?;
    BaseUrl::parse(text).map_err(|error| match error {
        BaseUrlError::Credential => credential_in_url(),
        // `ehr.example.org/fhir` or `localhost:8080`.
        BaseUrlError::NotAUrl(url::ParseError::RelativeUrlWithoutBase) => {
            Flaw::Bad(BaseUrlError::Scheme.to_string())
        }
        other => Flaw::Bad(other.to_string()),
    })
}

/// A URL of one of the schemes, with a host and without a credential.
pub(super) fn url(text: &str, schemes: &[&str]) -> Result<Url, Flaw> {
    secret_in_url(text)?;
    let url = Url::parse(text.trim()).or_else(|error| bad(error.to_string()))?;
    if !schemes.contains(&url.scheme()) || !url.has_host() {
        return bad(format!("it starts with {}://", schemes.join(":// or ")));
    }
    Ok(url)
}

/// With the name of a user, perhaps, and never with a password.
pub(super) fn history_url(text: &str) -> Result<(), Flaw> {
    secret_in_url(&without_user(text))?;
    if ["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| text.starts_with(scheme)) {
        return Ok(());
    }
    bad("write sqlite:FILE or postgresql://HOST/DATABASE")
}

/// Without a plain name before the host's `@`. What could be more than a name stays.
fn without_user(text: &str) -> Cow<'_, str> {
    let is_name = |user: &str| {
        !user.is_empty() && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.$%".contains(&b))
    };
    match text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?))) {
        Some((scheme, (user, rest))) if is_name(user) => format!("{scheme}://{rest}").into(),
        _ => text.into(),
    }
}

fn credential_in_url() -> Flaw {
    Flaw::Secret("a password stands in the URL; move it to auth, as a reference".to_owned())
}

/// Finds a password or key in a URL or in a path with a query, by its text alone: what is no URL
/// at all may hold one all the same.
pub(super) fn secret_in_url(text: &str) -> Result<(), Flaw> {
    let (before, query) = match text.split_once('?') {
        Some((before, query)) => (before, query),
        None => (text, ""),
    };
    if let Some((_, rest)) = before.split_once("://") {
        let authority = rest.split(['/', '\\', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(credential_in_url());
        }
        // A slash in a password hides the sign from a strict reading, and a forgotten one leaves
        // the password where the port belongs.
        if !is_host_and_port(authority) {
            return Err(Flaw::Secret(
                "after the host's colon belongs a port; a password does not belong in a URL, move it to auth"
                    .to_owned(),
            ));
        }
    }
    for pair in query.split(['&', ';', '#']) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !value.is_empty() && is_secret_parameter(key) {
            return Err(Flaw::Secret(
                "a secret stands in the URL; move it to auth: {method: api-key, query: NAME, value: REFERENCE}"
                    .to_owned(),
            ));
        }
    }
    Ok(())
}

fn is_host_and_port(authority: &str) -> bool {
    let after = match authority.strip_prefix('[') {
        Some(address) => address.split_once(']').map_or("", |(_, after)| after),
        None => authority.find(':').map_or("", |colon| &authority[colon..]),
    };
    after.strip_prefix(':').is_none_or(|port| port.chars().all(|c| c.is_ascii_digit()))
}

fn is_secret_parameter(key: &str) -> bool {
    let key: String =
        key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    ["apikey", "accesstoken", "subscriptionkey", "clientsecret", "password", "passwd", "signature"]
        .iter()
        .any(|word| key.contains(word))
        || matches!(key.as_str(), "key" | "token" | "secret" | "sig" | "auth" | "pwd" | "authtoken")
}

#[cfg(test)]
mod tests {
    use crate::inventory::leaf::{Flaw, check};

    #[test]
    fn a_secret_in_a_url_is_told_from_a_bad_url() {
        for text in [
            "https://user:hunter2@ehr.example.org/fhir",
            "https://hunter2@ehr.example.org/fhir",
            "https://user:hun/ter2@ehr.example.org/fhir",
            "https://ehr.example.org/fhir?api_key=hunter2",
            "https://ehr.example.org/fhir?subscription-key=hunter2",
            "nonsense://u:p@",
        ] {
            assert!(matches!(check("base-url", text), Err(Flaw::Secret(_))), "{text}");
            assert!(matches!(check("url", text), Err(Flaw::Secret(_))), "{text}");
        }
        assert!(matches!(check("query", "Patient?token=hunter2"), Err(Flaw::Secret(_))));
        assert!(matches!(check("base-url", "https://h/fhir?x=1"), Err(Flaw::Bad(_))));
        assert!(check("base-url", "http://127.0.0.1:8080/a@b").is_ok());
    }
}
