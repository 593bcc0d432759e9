//! From how a server wants to be signed in to, to what goes into a request.
//!
//! Enters: a server's settings and the credentials store. Leaves: a [`SignIn`]. Called by probe.
//! One file per method.

mod api_key;
mod basic;
mod bearer;
mod headers;

use ::http::header::{HeaderName, HeaderValue};

use crate::credentials::{CredentialError, Credentials};
use crate::http::{Credential, Failure, Identity, Stage};
use crate::model::server::{Auth, HeaderValue as Extra, Server};
use crate::model::{Code, Secret, SecretRef};

/// Everything that proves who we are to one server.
#[derive(Clone, Debug, Default)]
pub struct SignIn {
    /// The extra headers: they go into every request.
    pub always: Credential,
    /// The extra headers and the method's own proof. `None`: the server is open.
    pub proof: Option<Credential>,
}

/// What unlocks the client certificate, and the proxy's password, where the settings name them.
///
/// # Errors
/// `auth.credential_missing` when one cannot be had.
pub async fn identity(server: &Server, credentials: &Credentials) -> Result<Identity, Failure> {
    let reference = server.tls.client_certificate.as_ref().and_then(|client| client.reference());
    let certificate_secret = match reference {
        Some(reference) => Some(secret(reference, credentials).await?),
        None => None,
    };
    Ok(Identity { certificate_secret, ..way_out(server, credentials).await? })
}

/// What a connection needs on which nothing will be sent: the proxy's password.
///
/// # Errors
/// `auth.credential_missing` when it cannot be had.
pub async fn way_out(server: &Server, credentials: &Credentials) -> Result<Identity, Failure> {
    let login = server.network.proxy.as_ref().and_then(|proxy| proxy.login.as_ref());
    let proxy_password = match login {
        Some(login) => Some(secret(&login.password, credentials).await?),
        None => None,
    };
    Ok(Identity { certificate_secret: None, proxy_password })
}

/// The extra headers of every request.
///
/// # Errors
/// `auth.credential_missing` when a header's secret cannot be had.
pub async fn extra_headers(
    server: &Server,
    credentials: &Credentials,
) -> Result<Credential, Failure> {
    let mut always = Credential::default();
    for (name, value) in &server.extra_headers {
        let header = match value {
            Extra::Plain(text) => header_value(name, text, false)?,
            Extra::Secret(reference) => {
                always.confidential = true;
                header_value(name, secret(reference, credentials).await?.expose(), true)?
            }
        };
        always.headers.push((header_name(name)?, header));
    }
    Ok(always)
}

/// The method's proof beside the extra headers; `None` when the method is `none`.
///
/// # Errors
/// `auth.credential_missing` when a secret cannot be had or cannot be sent.
pub async fn proof(
    server: &Server,
    always: &Credential,
    credentials: &Credentials,
) -> Result<Option<Credential>, Failure> {
    let mut proof = always.clone();
    match &server.auth {
        Auth::None => return Ok(None),
        Auth::ApiKey { place, value } => {
            api_key::add(&mut proof, place, secret(value, credentials).await?)?;
        }
        Auth::Basic { username, password } => {
            basic::add(&mut proof, username, &secret(password, credentials).await?)?;
        }
        Auth::Bearer { token } => bearer::add(&mut proof, &secret(token, credentials).await?)?,
        Auth::Other { method, .. } => {
            return Err(Failure::new(
                Stage::Setup,
                Code::new("auth.credential_missing"),
                format!("this version of fhirctl cannot sign in with {method}"),
            )
            .hint("Use none, api-key, basic, bearer or headers."));
        }
        Auth::Headers(references) => {
            for (name, reference) in references {
                headers::add(&mut proof, name, &secret(reference, credentials).await?)?;
            }
        }
    }
    proof.confidential = true;
    Ok(Some(proof))
}

async fn secret(reference: &SecretRef, credentials: &Credentials) -> Result<Secret, Failure> {
    credentials.resolve(reference).await.map_err(|error: CredentialError| {
        Failure::new(Stage::Setup, Code::new("auth.credential_missing"), error.message)
            .hint(error.hint)
    })
}

fn header_name(name: &str) -> Result<HeaderName, Failure> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| unusable(&format!("{name:?} is no header name")))
}

/// A header value, marked sensitive so that no library logs it.
fn header_value(name: &str, value: &str, sensitive: bool) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        unusable(&format!(
            "the value for the header {name} has characters that no header can carry"
        ))
    })?;
    value.set_sensitive(sensitive);
    Ok(value)
}

fn unusable(message: &str) -> Failure {
    Failure::new(Stage::Setup, Code::new("auth.credential_missing"), message)
        .hint("Look at what is stored: a line break at the end of a secret is a common cause.")
}
