//! Microsoft Entra ID: a client secret, a certificate, or the machine's managed identity.
//!
//! Microsoft identity platform, "OAuth 2.0 client credentials flow" and "certificate credentials";
//! Azure Instance Metadata Service and App Service identity endpoints.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, json};
use sha2::{Digest as _, Sha256};
use url::Url;
use uuid::Uuid;

use super::key::{Signature, SigningKey};
use super::smart_backend::ASSERTION_TYPE;
use super::token::{Ask, How, Sent, form};
use super::unusable;
use crate::credentials::Credentials;
use crate::http::Failure;
use crate::model::Secret;
use crate::model::server::{Azure, AzureProof, Server};

/// The public cloud's login host.
const AUTHORITY: &str = "https://login.microsoftonline.com/";
/// Where a virtual machine asks for its own identity.
const INSTANCE: &str = "http://169.254.169.254/";
/// How long an assertion lives, in seconds.
const LIFE: i64 = 300;

/// The scopes that are asked for: the server itself unless others are set.
pub(super) fn scopes(server: &Server, settings: &Azure) -> Vec<String> {
    settings.scopes.clone().unwrap_or_else(|| vec![format!("{}/.default", server.url.as_str())])
}

/// The token endpoint of a tenant.
pub(super) fn endpoint(settings: &Azure) -> Result<Url, Failure> {
    let tenant = settings.tenant.as_deref().unwrap_or_default();
    if tenant.is_empty() || tenant.contains(['/', '?', '#', ' ']) {
        return Err(unusable("auth.tenant is no tenant: a UUID or a domain is meant"));
    }
    let base = match &settings.authority {
        Some(authority) => authority.as_str().to_owned(),
        None => AUTHORITY.to_owned(),
    };
    Url::parse(&format!("{}/{tenant}/oauth2/v2.0/token", base.trim_end_matches('/')))
        .map_err(|_| unusable("auth.authority and auth.tenant make no URL"))
}

/// Asks with a secret or a certificate.
pub(super) fn ask(
    settings: &Azure,
    secret: &Secret,
    now: Timestamp,
    sent: Sent,
) -> Result<Ask, Failure> {
    let endpoint = endpoint(settings)?;
    let client_id = settings.client_id.as_deref().unwrap_or_default();
    let scope = sent.scopes.join(" ");
    let mut fields = vec![
        ("grant_type", "client_credentials"),
        ("client_id", client_id),
        ("scope", scope.as_str()),
    ];
    let assertion;
    let mut sent = Sent { client_id: settings.client_id.clone(), ..sent };
    match &settings.proof {
        AzureProof::Certificate(reference) => {
            let unfit = |what: String| unusable(&format!("{reference}: {what}"));
            let certificate = CertificateDer::from_pem_slice(secret.expose().as_bytes())
                .map_err(|_| unfit("no certificate stands beside the key".into()))?;
            let key = SigningKey::parse(secret, None).map_err(|error| unfit(error.to_string()))?;
            let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate));
            let mut header = Map::new();
            header.insert("x5t#S256".into(), thumbprint.clone().into());
            let claims = json!({
                "iss": client_id,
                "sub": client_id,
                "aud": endpoint.as_str(),
                "exp": now.as_second() + LIFE,
                "nbf": now.as_second(),
                "iat": now.as_second(),
                "jti": Uuid::new_v4().to_string(),
            });
            assertion = key
                .sign(Signature::Ps256, header, &claims)
                .map_err(|error| unfit(error.to_string()))?;
            fields.push(("client_assertion_type", ASSERTION_TYPE));
            fields.push(("client_assertion", assertion.expose()));
            sent.audience = Some(endpoint.as_str().to_owned());
            sent.key_id = Some(thumbprint);
            sent.signature = Some(Signature::Ps256);
        }
        _ => fields.push(("client_secret", secret.expose())),
    }
    Ok(Ask { endpoint, how: How::Post(form(fields)), headers: Vec::new(), sent })
}

/// Asks the machine that this runs on.
///
/// `IDENTITY_ENDPOINT` and `IDENTITY_HEADER` are set where an app service gives the identity;
/// anywhere else the instance's metadata service is asked.
pub(super) fn ask_machine(
    settings: &Azure,
    credentials: &Credentials,
    sent: Sent,
) -> Result<Ask, Failure> {
    let resource =
        sent.scopes.join(" ").trim_end_matches("/.default").trim_end_matches('/').to_owned();
    let app_service = super::variable(credentials, "IDENTITY_ENDPOINT")
        .zip(super::variable(credentials, "IDENTITY_HEADER"))
        .filter(|_| settings.authority.is_none());
    let (mut endpoint, version, header) = match app_service {
        Some((endpoint, header)) => {
            // A name could lead elsewhere; this one means the machine itself.
            let endpoint = Url::parse(&endpoint.replacen("//localhost", "//127.0.0.1", 1))
                .map_err(|_| unusable("the variable IDENTITY_ENDPOINT holds no URL"))?;
            let mut value = HeaderValue::from_str(&header)
                .map_err(|_| unusable("the variable IDENTITY_HEADER fits into no header"))?;
            value.set_sensitive(true);
            (endpoint, "2019-08-01", (HeaderName::from_static("x-identity-header"), value))
        }
        None => {
            let host = match &settings.authority {
                Some(authority) => authority.as_str().to_owned(),
                None => super::variable(credentials, "AZURE_POD_IDENTITY_AUTHORITY_HOST")
                    .unwrap_or_else(|| INSTANCE.to_owned()),
            };
            let place = format!("{}/metadata/identity/oauth2/token", host.trim_end_matches('/'));
            let endpoint = Url::parse(&place)
                .map_err(|_| unusable("the address of the managed identity is no URL"))?;
            let metadata = (HeaderName::from_static("metadata"), HeaderValue::from_static("true"));
            (endpoint, "2018-02-01", metadata)
        }
    };
    endpoint
        .query_pairs_mut()
        .append_pair("api-version", version)
        .append_pair("resource", &resource);
    if let Some(client_id) = &settings.client_id {
        endpoint.query_pairs_mut().append_pair("client_id", client_id);
    }
    Ok(Ask {
        endpoint,
        how: How::Get,
        headers: vec![header],
        // These services write every number as a text.
        sent: Sent { client_id: settings.client_id.clone(), texts_as_numbers: true, ..sent },
    })
}
