//! SMART Backend Services: a token for an assertion that the client's own key signs.
//!
//! SMART App Launch 2.2, "Backend Services" and "Client Authentication: Asymmetric".

use jiff::Timestamp;
use serde_json::{Map, json};
use url::Url;
use uuid::Uuid;

use super::key::{KeyError, Signature, SigningKey};
use super::token::{Ask, How, Sent, form};
use super::unusable;
use crate::http::Failure;
use crate::model::Secret;
use crate::model::server::{Algorithm, SmartBackend};

/// How long an assertion lives, in seconds; five minutes is the most that is allowed.
const LIFE: i64 = 240;

pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Asks for a token. `audience` is the token endpoint as the provider calls it.
pub(super) fn ask(
    settings: &SmartBackend,
    key: &Secret,
    endpoint: Url,
    audience: &str,
    now: Timestamp,
    sent: Sent,
) -> Result<Ask, Failure> {
    let key = SigningKey::parse(key, settings.key_id.as_deref())
        .map_err(|error| bad_key(settings, &error))?;
    let signature = match settings.algorithm.unwrap_or_else(|| key.algorithm()) {
        Algorithm::RS384 => Signature::Rs384,
        Algorithm::ES384 => Signature::Es384,
    };
    let id = key_id(settings, &key)?;
    let mut header = Map::new();
    header.insert("kid".into(), id.clone().into());
    if let Some(jku) = &settings.jku {
        header.insert("jku".into(), jku.as_str().into());
    }
    let claims = json!({
        "iss": settings.client_id,
        "sub": settings.client_id,
        "aud": audience,
        "exp": now.as_second() + LIFE,
        "iat": now.as_second(),
        "jti": Uuid::new_v4().to_string(),
    });
    let assertion =
        key.sign(signature, header, &claims).map_err(|error| bad_key(settings, &error))?;
    let scope = sent.scopes.join(" ");
    let mut fields = vec![("grant_type", "client_credentials")];
    if !scope.is_empty() {
        fields.push(("scope", &scope));
    }
    fields.push(("client_assertion_type", ASSERTION_TYPE));
    fields.push(("client_assertion", assertion.expose()));
    Ok(Ask {
        endpoint,
        how: How::Post(form(fields)),
        headers: Vec::new(),
        sent: Sent {
            client_id: Some(settings.client_id.clone()),
            audience: Some(audience.to_owned()),
            key_id: Some(id),
            signature: Some(signature),
            jwks_url: settings.jku.clone().or_else(|| settings.jwks_url.clone()),
            ..sent
        },
    })
}

/// The id that the provider finds the key by.
///
/// A JWK says its own; a PEM has none, and its thumbprint is what `auth jwks` publishes.
fn key_id(settings: &SmartBackend, key: &SigningKey) -> Result<String, Failure> {
    if let Some(id) = settings.key_id.as_deref().or(key.own_id()) {
        return Ok(id.to_owned());
    }
    if key.is_jwk() {
        return Err(unusable("the JWK has no kid, and auth.key_id does not name one")
            .hint("Set auth.key_id to the id under which the public key is registered."));
    }
    Ok(key.thumbprint())
}

fn bad_key(settings: &SmartBackend, error: &KeyError) -> Failure {
    let name = &settings.key;
    match error {
        KeyError::WrongAlgorithm { .. } => unusable(&format!("{name}: {error}"))
            .hint("Take auth.algorithm out, or set the one that fits the key."),
        _ => unusable(&format!("{name}: {error}"))
            .hint("fhirctl auth jwks NAME --generate makes a new key and prints what to register."),
    }
}
