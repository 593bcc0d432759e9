//! Google: a service account's key, or the machine's application default credentials.
//!
//! "Using OAuth 2.0 for Server to Server Applications" (RFC 7523) and "How Application Default
//! Credentials works".

use http::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use url::Url;

use super::key::{Signature, SigningKey};
use super::token::{Ask, How, Sent, form};
use super::unusable;
use crate::credentials::Credentials;
use crate::http::{Failure, Stage};
use crate::model::server::{Google, is_loopback};
use crate::model::{Code, Secret};

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-healthcare";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// How long an assertion lives, in seconds.
const LIFE: i64 = 3600;

/// Where application default credentials are, in the order in which they are looked for.
#[derive(Debug)]
pub(super) enum Source {
    /// The text of a credentials file.
    File(Secret),
    /// The machine's own account.
    Machine,
}

pub(super) fn scopes(settings: &Google) -> Vec<String> {
    settings.scopes.clone().unwrap_or_else(|| vec![SCOPE.to_owned()])
}

/// `GOOGLE_APPLICATION_CREDENTIALS`, the file that `gcloud` leaves, the machine.
pub(super) async fn default_credentials(credentials: &Credentials) -> Result<Source, Failure> {
    let named = super::variable(credentials, "GOOGLE_APPLICATION_CREDENTIALS");
    let left_by_gcloud = || {
        let folder = super::variable(credentials, "CLOUDSDK_CONFIG").or_else(|| {
            super::variable(credentials, "HOME").map(|home| format!("{home}/.config/gcloud"))
        })?;
        let path = format!("{folder}/application_default_credentials.json");
        std::path::Path::new(&path).exists().then_some(path)
    };
    match named.clone().or_else(left_by_gcloud) {
        Some(path) => {
            let reference = crate::model::SecretRef::File { path: path.into() };
            super::secret(&reference, credentials).await.map(Source::File)
        }
        None => Ok(Source::Machine),
    }
}

/// Asks with the key of a service account, or with the refresh token of a user.
pub(super) fn ask(
    settings: &Google,
    text: &Secret,
    now: Timestamp,
    sent: Sent,
) -> Result<Ask, Failure> {
    let document: Value = serde_json::from_str(text.expose())
        .map_err(|_| unusable("the Google credentials are not JSON"))?;
    let member = |name: &str| -> Result<&str, Failure> {
        document.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or_else(
            || {
                unusable(&format!("the Google credentials lack the member {name}"))
                    .hint("Download the service account's key again; it is JSON and whole.")
            },
        )
    };
    match member("type")? {
        "service_account" => {
            let endpoint = endpoint(settings, member("token_uri").unwrap_or(TOKEN_URI))?;
            let email = member("client_email")?;
            let key_id = member("private_key_id")?;
            let key = Secret::new(member("private_key")?.to_owned());
            let key = SigningKey::parse(&key, None)
                .map_err(|error| unusable(&format!("the member private_key: {error}")))?;
            let mut header = Map::new();
            header.insert("kid".into(), key_id.into());
            let claims = json!({
                "iss": email,
                "scope": sent.scopes.join(" "),
                "aud": endpoint.as_str(),
                "iat": now.as_second(),
                "exp": now.as_second() + LIFE,
            });
            let assertion = key
                .sign(Signature::Rs256, header, &claims)
                .map_err(|error| unusable(&format!("the member private_key: {error}")))?;
            let sent = Sent {
                client_id: Some(email.to_owned()),
                audience: Some(endpoint.as_str().to_owned()),
                key_id: Some(key_id.to_owned()),
                signature: Some(Signature::Rs256),
                ..sent
            };
            let how = How::Post(form([("grant_type", GRANT), ("assertion", assertion.expose())]));
            Ok(Ask { endpoint, how, headers: Vec::new(), sent })
        }
        "authorized_user" => {
            let endpoint = endpoint(settings, member("token_uri").unwrap_or(TOKEN_URI))?;
            let client_id = member("client_id")?;
            let how = How::Post(form([
                ("grant_type", "refresh_token"),
                ("client_id", client_id),
                ("client_secret", member("client_secret")?),
                ("refresh_token", member("refresh_token")?),
            ]));
            let sent = Sent { client_id: Some(client_id.to_owned()), ..sent };
            Ok(Ask { endpoint, how, headers: Vec::new(), sent })
        }
        other => {
            let kind = crate::model::text::bounded(other, 40);
            Err(unusable(&format!("Google credentials of type {kind:?} cannot be used here"))
                .hint("Use a service account's key, the machine's own account, or auth.method: bearer with a token of gcloud."))
        }
    }
}

/// Asks the machine that this runs on for its account's token.
pub(super) fn ask_machine(credentials: &Credentials, sent: Sent) -> Result<Ask, Failure> {
    let host = super::variable(credentials, "GCE_METADATA_HOST")
        .unwrap_or_else(|| "169.254.169.254".to_owned());
    let place = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
    let mut endpoint =
        Url::parse(&place).map_err(|_| unusable("the variable GCE_METADATA_HOST is no host"))?;
    endpoint.query_pairs_mut().append_pair("scopes", &sent.scopes.join(","));
    let flavor = (HeaderName::from_static("metadata-flavor"), HeaderValue::from_static("Google"));
    Ok(Ask { endpoint, how: How::Get, headers: vec![flavor], sent })
}

/// The token endpoint that a credentials file names, where it may be trusted: an assertion goes to
/// Google, to loopback, or to what the inventory says.
fn endpoint(settings: &Google, named: &str) -> Result<Url, Failure> {
    if let Some(url) = &settings.token_url {
        return Ok(url.clone());
    }
    let url = Url::parse(named).map_err(|_| unusable("the member token_uri holds no URL"))?;
    let is_google = url.scheme() == "https"
        && url
            .host_str()
            .is_some_and(|host| host == "accounts.google.com" || host.ends_with(".googleapis.com"));
    if is_google || is_loopback(&url) {
        return Ok(url);
    }
    Err(Failure::new(
        Stage::Setup,
        Code::new("auth.token_endpoint"),
        format!(
            "the Google credentials name the token endpoint {}, which is not Google's; nothing was sent",
            super::token::place(&url)
        ),
    )
    .hint("If it is right, say so in the inventory: auth.token_url."))
}
