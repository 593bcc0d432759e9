//! What a server publishes of its own sign-in (SMART App Launch 2.2, "Conformance").

use std::time::Instant;

use serde_json::Value;
use url::Url;

use crate::http::{Client, Failure, Request};
use crate::model::limits;
use crate::model::server::Server;

/// `.well-known/smart-configuration`, as far as a server fills it in. Unknown members are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SmartConfiguration {
    pub issuer: Option<String>,
    pub jwks_uri: Option<String>,
    pub authorization_endpoint: Option<String>,
    pub token_endpoint: Option<String>,
    pub introspection_endpoint: Option<String>,
    pub revocation_endpoint: Option<String>,
    pub registration_endpoint: Option<String>,
    pub grant_types_supported: Vec<String>,
    pub scopes_supported: Vec<String>,
    pub capabilities: Vec<String>,
    pub code_challenge_methods_supported: Vec<String>,
    pub token_endpoint_auth_methods_supported: Vec<String>,
    pub token_endpoint_auth_signing_alg_values_supported: Vec<String>,
}

/// Reads a server's SMART configuration; `None` when it publishes none. Nothing of a credential is
/// sent.
///
/// # Errors
/// When the server cannot be reached.
pub async fn smart_configuration(
    client: &Client,
    server: &Server,
    deadline: Instant,
) -> Result<Option<SmartConfiguration>, Failure> {
    let Ok(url) = server.url.join(".well-known/smart-configuration") else { return Ok(None) };
    let request = Request {
        url,
        accept: "application/json",
        credential: None,
        max_body: limits::SMALL_BODY_BYTES,
        deadline,
        if_none_match: None,
        body: None,
    };
    let exchange = client.send(&request).await?;
    if exchange.status() != 200 {
        return Ok(None);
    }
    let document = serde_json::from_slice(&exchange.body).ok();
    Ok(document.as_ref().and_then(|document| parse(document, server.url.as_str())))
}

/// A configuration out of its JSON; `None` when it is no object. Relative addresses are taken to be
/// below the base URL.
#[must_use]
pub fn parse(document: &Value, base: &str) -> Option<SmartConfiguration> {
    let document = document.as_object()?;
    let below = Url::parse(&format!("{base}/")).ok();
    let text = |name: &str| document.get(name).and_then(Value::as_str).map(str::to_owned);
    // Absolute ones stay as they are written: an audience is compared to the letter.
    let address = |name: &str| {
        text(name).map(|written| match Url::parse(&written) {
            Ok(_) => written,
            Err(_) => below
                .as_ref()
                .and_then(|below| below.join(&written).ok())
                .map_or(written, String::from),
        })
    };
    let list = |name: &str| -> Vec<String> {
        let items = document.get(name).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    Some(SmartConfiguration {
        issuer: text("issuer"),
        jwks_uri: address("jwks_uri"),
        authorization_endpoint: address("authorization_endpoint"),
        token_endpoint: address("token_endpoint"),
        introspection_endpoint: address("introspection_endpoint"),
        revocation_endpoint: address("revocation_endpoint"),
        registration_endpoint: address("registration_endpoint"),
        grant_types_supported: list("grant_types_supported"),
        scopes_supported: list("scopes_supported"),
        capabilities: list("capabilities"),
        code_challenge_methods_supported: list("code_challenge_methods_supported"),
        token_endpoint_auth_methods_supported: list("token_endpoint_auth_methods_supported"),
        token_endpoint_auth_signing_alg_values_supported: list(
            "token_endpoint_auth_signing_alg_values_supported",
        ),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_stay_as_written_and_relative_ones_are_below_the_base() {
        let document = json!({
            "token_endpoint": "https://Idp.example.org",
            "authorization_endpoint": "auth/authorize",
            "capabilities": ["permission-v2", 7],
        });
        let read = parse(&document, "https://h/fhir").unwrap();
        assert_eq!(read.token_endpoint.as_deref(), Some("https://Idp.example.org"));
        assert_eq!(read.authorization_endpoint.as_deref(), Some("https://h/fhir/auth/authorize"));
        assert_eq!(read.capabilities, ["permission-v2"]);
        assert_eq!(parse(&json!([]), "https://h/fhir"), None);
    }
}
