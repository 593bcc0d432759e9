//! What a server publishes about its sign-in: `.well-known/smart-configuration` (SMART App Launch,
//! conformance).

use std::time::Instant;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use url::Url;

use crate::fhir::body::{BodyKind, sniff};
use crate::http::{Client, Failure, Request, Stage};
use crate::model::server::{BaseUrl, Server};
use crate::model::{Code, limits};

/// Below the base URL.
const WELL_KNOWN: &str = ".well-known/smart-configuration";

/// What `.well-known/smart-configuration` says; what is missing or of a wrong type is left empty.
///
/// URLs are absolute: a relative one is read below the base URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SmartConfiguration {
    #[serde(deserialize_with = "text")]
    pub issuer: Option<String>,
    #[serde(deserialize_with = "text")]
    pub authorization_endpoint: Option<String>,
    #[serde(deserialize_with = "text")]
    pub token_endpoint: Option<String>,
    #[serde(deserialize_with = "text")]
    pub jwks_uri: Option<String>,
    #[serde(deserialize_with = "text")]
    pub registration_endpoint: Option<String>,
    #[serde(deserialize_with = "text")]
    pub management_endpoint: Option<String>,
    #[serde(deserialize_with = "text")]
    pub introspection_endpoint: Option<String>,
    #[serde(deserialize_with = "text")]
    pub revocation_endpoint: Option<String>,
    #[serde(deserialize_with = "text")]
    pub userinfo_endpoint: Option<String>,
    #[serde(deserialize_with = "text")]
    pub user_access_brand_bundle: Option<String>,
    #[serde(deserialize_with = "texts")]
    pub scopes_supported: Vec<String>,
    #[serde(deserialize_with = "texts")]
    pub response_types_supported: Vec<String>,
    #[serde(deserialize_with = "texts")]
    pub grant_types_supported: Vec<String>,
    #[serde(deserialize_with = "texts")]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(deserialize_with = "texts")]
    pub token_endpoint_auth_signing_alg_values_supported: Vec<String>,
    #[serde(deserialize_with = "texts")]
    pub code_challenge_methods_supported: Vec<String>,
    #[serde(deserialize_with = "texts")]
    pub capabilities: Vec<String>,
}

impl SmartConfiguration {
    /// Reads the document that a server published below this base URL.
    ///
    /// # Errors
    /// A plain sentence when the bytes are no JSON object.
    pub fn parse(bytes: &[u8], base: &BaseUrl) -> Result<SmartConfiguration, String> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| format!("it is not JSON (line {})", error.line()))?;
        if !value.is_object() {
            return Err("it is not a JSON object".to_owned());
        }
        let mut read: SmartConfiguration =
            serde_json::from_value(value).map_err(|_| "it cannot be read".to_owned())?;
        // Without the slash a relative URL would take the place of the last segment.
        let below = Url::parse(&format!("{}/", base.as_str())).ok();
        for url in read.urls() {
            *url = url.take().map(|text| match below.as_ref().map(|below| below.join(&text)) {
                // An absolute one stays as it is written: an audience is compared to the letter.
                _ if Url::parse(&text).is_ok() => text,
                Some(Ok(absolute)) => absolute.into(),
                _ => text,
            });
        }
        Ok(read)
    }

    /// Everything but the issuer, which is a name and is compared letter by letter.
    fn urls(&mut self) -> [&mut Option<String>; 9] {
        [
            &mut self.authorization_endpoint,
            &mut self.token_endpoint,
            &mut self.jwks_uri,
            &mut self.registration_endpoint,
            &mut self.management_endpoint,
            &mut self.introspection_endpoint,
            &mut self.revocation_endpoint,
            &mut self.userinfo_endpoint,
            &mut self.user_access_brand_bundle,
        ]
    }
}

/// Asks a server for its SMART configuration, without a credential; `None` when it publishes none.
///
/// # Errors
/// A [`Failure`] when no complete answer came, when the server is in trouble (HTTP 429 or 5xx), and
/// `fhir.not_fhir` or `fhir.malformed` when what came is no such document.
pub async fn smart_configuration(
    client: &Client,
    server: &Server,
    deadline: Instant,
) -> Result<Option<SmartConfiguration>, Failure> {
    let url = server.url.join(WELL_KNOWN).map_err(|_| {
        Failure::new(
            Stage::Setup,
            Code::new("fhir.not_fhir"),
            "the base URL takes no path below it",
        )
    })?;
    let request = Request {
        url,
        accept: "application/json, */*;q=0.1",
        credential: None,
        max_body: limits::SMALL_BODY_BYTES,
        deadline,
        if_none_match: None,
        body: None,
    };
    let exchange = client.send(&request).await?;
    let broken = |code: &'static str, message: String| {
        let mut failure = Failure::new(Stage::Http, Code::new(code), message);
        failure.timing = Some(exchange.timing);
        failure.http = Some(exchange.http.clone());
        failure
    };
    match exchange.status() {
        200..=299 => {}
        429 => {
            let message = format!("{WELL_KNOWN}: the server limits the rate of requests");
            return Err(broken("http.rate_limited", message));
        }
        // Whatever a gateway says of a path that it does not know: nothing is published there.
        400..=499 | 501 => return Ok(None),
        status => return Err(broken("http.status", format!("{WELL_KNOWN}: HTTP {status}"))),
    }
    // Some servers answer every path that they do not know with their page.
    match sniff(exchange.content_type(), &exchange.body) {
        BodyKind::Json => {}
        BodyKind::Empty => return Ok(None),
        _ => return Err(broken("fhir.not_fhir", format!("{WELL_KNOWN}: the answer is no JSON"))),
    }
    SmartConfiguration::parse(&exchange.body, &server.url)
        .map(Some)
        .map_err(|reason| broken("fhir.malformed", format!("{WELL_KNOWN}: {reason}")))
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned))
}

/// A list of texts, or one text with spaces between, as OAuth writes scopes elsewhere.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
        _ => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SmartConfiguration, String> {
        let base = BaseUrl::parse("https://ehr.example.org/tenant/fhir").unwrap();
        SmartConfiguration::parse(text.as_bytes(), &base)
    }

    #[test]
    fn urls_are_absolute_and_the_issuer_stays_as_it_is() {
        let read = read(
            r#"{"issuer": "../fhir", "token_endpoint": "../oauth/token", "jwks_uri": "keys",
                "authorization_endpoint": "/authorize",
                "revocation_endpoint": "https://login.example.org/revoke"}"#,
        )
        .unwrap();
        assert_eq!(read.issuer.as_deref(), Some("../fhir"));
        for (url, expected) in [
            (&read.token_endpoint, "https://ehr.example.org/tenant/oauth/token"),
            (&read.jwks_uri, "https://ehr.example.org/tenant/fhir/keys"),
            (&read.authorization_endpoint, "https://ehr.example.org/authorize"),
            (&read.revocation_endpoint, "https://login.example.org/revoke"),
        ] {
            assert_eq!(url.as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_is_of_a_wrong_type_is_left_out() {
        let read = read(
            r#"{"token_endpoint": 5, "issuer": " ", "jwks_uri": null, "new": {"a": 1},
                "scopes_supported": "system/*.read openid", "capabilities": ["a", 1, "b"],
                "grant_types_supported": {}}"#,
        )
        .unwrap();
        let expected = SmartConfiguration {
            scopes_supported: vec!["system/*.read".into(), "openid".into()],
            capabilities: vec!["a".into(), "b".into()],
            ..SmartConfiguration::default()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_no_object_is_told() {
        for text in ["", "[]", "5", "{", "<html>"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
