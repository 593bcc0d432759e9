//! The sign-in taken apart: what would be asked for, what a provider says of a token, and what it
//! refuses.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use url::Url;

use super::keeper::Keeper;
use super::obtain::{Material, beside, send};
use super::token::{Answer, Ask, How, form};
use super::{kept, unusable};
use crate::http::{Body, Call, Failure};
use crate::model::server::{Auth, Server};
use crate::model::{Secret, limits};

/// A token request as it would be sent, without what proves it.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    pub endpoint: Url,
    pub client_id: Option<String>,
    pub key_id: Option<String>,
    /// What the assertion is made out to.
    pub audience: Option<String>,
    /// Header and claims of the assertion; its signature is left out.
    pub assertion: Option<(Value, Value)>,
    pub scopes: Vec<String>,
    /// The names of the form's fields.
    pub fields: Vec<String>,
    /// Where the provider tells about tokens (RFC 7662), as discovered.
    pub introspection: Option<Url>,
    /// The token endpoint as discovered.
    pub discovered: Option<String>,
}

/// Words the token request of a server and takes it apart; nothing but published documents is asked
/// for. `None` for a method without tokens, and for a machine's own identity.
///
/// # Errors
/// `auth.credential_missing`, `auth.token_endpoint` and whatever else stands in the way of asking.
pub async fn rehearse(
    keeper: &Keeper,
    server: &Server,
    deadline: Instant,
) -> Result<Option<Rehearsal>, Failure> {
    if !server.auth.uses_tokens() {
        return Ok(None);
    }
    let ask = worded(keeper, server, deadline).await?;
    let How::Post(fields) = &ask.how else { return Ok(None) };
    let discovered = ask.sent.discovered.as_ref();
    Ok(Some(Rehearsal {
        client_id: ask.sent.client_id.clone(),
        key_id: ask.sent.key_id.clone(),
        audience: ask.sent.audience.clone(),
        assertion: assertion(fields),
        scopes: ask.sent.scopes.clone(),
        fields: pairs(fields).into_iter().map(|(name, _)| name).collect(),
        introspection: discovered
            .and_then(|it| it.introspection_endpoint.as_deref())
            .and_then(|text| Url::parse(text).ok()),
        discovered: discovered.and_then(|it| it.token_endpoint.clone()),
        endpoint: ask.endpoint,
    }))
}

async fn worded(keeper: &Keeper, server: &Server, deadline: Instant) -> Result<Ask, Failure> {
    let material = Material::of(keeper, server).await?;
    let kept = kept(keeper, server).await?;
    material.ask(keeper, server, kept.as_ref(), deadline).await
}

fn pairs(fields: &Secret) -> Vec<(String, String)> {
    url::form_urlencoded::parse(fields.expose().as_bytes()).into_owned().collect()
}

/// Header and claims of the assertion in a form (RFC 7523), as it is sent.
fn assertion(fields: &Secret) -> Option<(Value, Value)> {
    let all = pairs(fields);
    let token = all
        .iter()
        .find(|(name, _)| matches!(name.as_str(), "client_assertion" | "assertion"))
        .map(|(_, value)| value)?;
    let mut parts = token.split('.');
    let mut part = || -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok()
    };
    Some((part()?, part()?))
}

/// What a provider says of the token that is kept (RFC 7662 §2.2), in short.
#[derive(Clone, Debug)]
pub struct Introspection {
    pub status: u16,
    pub active: Option<bool>,
    pub scope: Option<String>,
    /// Seconds since 1970.
    pub expires_at: Option<i64>,
}

/// Asks the provider about the kept token, proved as a token request is. The address has to be of
/// the token endpoint's own origin: a token goes nowhere else.
///
/// # Errors
/// When no answer came, or there is nothing to ask with.
pub async fn introspect(
    keeper: &Keeper,
    server: &Server,
    address: &Url,
    deadline: Instant,
) -> Result<Introspection, Failure> {
    let token = kept(keeper, server)
        .await?
        .ok_or_else(|| unusable("there is no token that could be asked about"))?;
    // Worded anew: a provider refuses an assertion that it has seen.
    let ask = worded(keeper, server, deadline).await?;
    let How::Post(fields) = &ask.how else {
        return Err(unusable("this method has nothing to prove itself with"));
    };
    if address.origin() != ask.endpoint.origin() {
        return Err(unusable("the address is of another origin than the token endpoint"));
    }
    let proof = pairs(fields);
    let proof = proof
        .iter()
        .filter(|(name, _)| name.starts_with("client_"))
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let body = form(proof.chain([("token", token.value.expose())]));
    let client = beside(keeper, server, address).await?;
    let call = Call {
        method: http::Method::POST,
        url: address,
        accept: "application/json",
        headers: &ask.headers,
        body: Some(Body {
            content_type: "application/x-www-form-urlencoded",
            bytes: body.expose().as_bytes(),
            confidential: true,
        }),
        credential: None,
        deadline,
    };
    let exchange = client.receive(&call, limits::SMALL_BODY_BYTES).await?;
    let said: Value = serde_json::from_slice(&exchange.body).unwrap_or_default();
    Ok(Introspection {
        status: exchange.status(),
        active: said["active"].as_bool(),
        scope: said["scope"].as_str().map(str::to_owned),
        expires_at: said["exp"].as_i64(),
    })
}

/// What came of an assertion that is made out to somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongAudience {
    /// As it has to be.
    Refused,
    /// The provider does not look whom an assertion is for: one made for another server opens it.
    Taken,
}

/// Signs in with an assertion for another audience. A provider may count it as a failed attempt:
/// only for those who ask for it.
///
/// # Errors
/// When the method has no assertion, or no answer came.
pub async fn with_wrong_audience(
    keeper: &Keeper,
    server: &Server,
    deadline: Instant,
) -> Result<WrongAudience, Failure> {
    let mut other = server.clone();
    let Auth::SmartBackend(settings) = &mut other.auth else {
        return Err(unusable("only smart-backend signs an assertion for an audience"));
    };
    settings.audience = Some("https://audience.invalid/token".to_owned());
    let ask = worded(keeper, &other, deadline).await?;
    match send(keeper, &other, &ask, deadline).await? {
        Answer::Token(_) => Ok(WrongAudience::Taken),
        Answer::Refused(_) => Ok(WrongAudience::Refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assertion_is_shown_without_what_proves_it() {
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let token = format!("{}.{}.c2lnbmF0dXJl", part(r#"{"kid":"k"}"#), part(r#"{"aud":"a"}"#));
        let fields = form([("grant_type", "client_credentials"), ("client_assertion", &token)]);
        let (header, claims) = assertion(&fields).unwrap();
        assert_eq!((header["kid"].as_str(), claims["aud"].as_str()), (Some("k"), Some("a")));
        assert!(assertion(&form([("client_secret", "x")])).is_none());
        assert!(assertion(&form([("assertion", "no.jwt")])).is_none());
    }
}
