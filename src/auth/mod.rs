//! From how a server wants to be signed in to, to what goes into a request.
//!
//! Enters: a server's settings and a [`Keeper`] of tokens and refusals. Leaves: a [`Proof`] for
//! requests to that server, which is told how it went; `caller` sends signed requests for whoever asks
//! for more than a check does. Called by probe, bulk, diag and command. One file per method.

mod api_key;
pub mod aws_sigv4;
mod azure;
mod basic;
mod bearer;
#[cfg(test)]
mod bent_names;
pub mod caller;
pub mod discovery;
mod explain;
mod google;
mod headers;
mod hold_back;
mod keeper;
pub mod key;
mod lock;
pub mod login;
mod oauth2;
mod obtain;
pub mod rehearse;
pub mod scope;
mod seal;
mod smart_backend;
mod token;

use std::sync::Arc;
use std::time::Instant;

use ::http::header::{HeaderName, HeaderValue};

use crate::credentials::{CredentialError, Credentials};
use crate::http::{Credential, Failure, Identity, Stage, Transport};
use crate::model::server::{Auth, HeaderValue as Extra, Server};
use crate::model::{Clock, Code, Secret, SecretRef};

pub use hold_back::Record;
pub use keeper::{Freshness, Keeper};
pub use obtain::{asked_scopes, can_keep, kept, redeem};
pub use token::Token;

use keeper::Ticket;

/// What a run shares between all servers.
#[derive(Clone)]
pub struct Surroundings {
    pub transport: Arc<Transport>,
    pub credentials: Credentials,
    pub keeper: Keeper,
    pub clock: Clock,
}

/// What proves who we are to one server, for one conversation.
#[derive(Debug)]
pub struct Proof {
    /// The extra headers and the method's own proof.
    pub credential: Credential,
    /// The token in it, where the method uses tokens.
    pub token: Option<Token>,
    /// Leave to offer a fixed credential.
    ticket: Option<Ticket>,
}

impl Proof {
    /// Tells that the server took the credential.
    pub fn accepted(&mut self, keeper: &Keeper) {
        if let Some(ticket) = &mut self.ticket {
            keeper.accepted(ticket);
        }
    }

    /// Tells that the server refused the credential.
    ///
    /// A token that is refused says nothing of the credential behind it.
    pub async fn refused(&mut self, keeper: &Keeper, code: Code) {
        if let Some(ticket) = &mut self.ticket {
            keeper.refused(ticket, code).await;
        }
    }
}

/// What unlocks the client certificate, and the proxy's password, where the settings name them.
///
/// # Errors
/// `auth.credential_missing` when one cannot be had.
pub async fn identity(server: &Server, credentials: &Credentials) -> Result<Identity, Failure> {
    let credentials = &credentials.serving(&server.name);
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
    let credentials = &credentials.serving(&server.name);
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
    let credentials = &credentials.serving(&server.name);
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
/// A fixed credential that is not proven is held by one process at a time until [`Proof::accepted`]
/// or [`Proof::refused`] is told. `by_hand` lets one through that is held back.
///
/// # Errors
/// `auth.credential_missing` when a secret cannot be had or cannot be sent, `auth.held_back`, and
/// whatever a token endpoint has to say.
pub async fn proof(
    server: &Server,
    always: &Credential,
    keeper: &Keeper,
    freshness: Freshness<'_>,
    by_hand: bool,
    deadline: Instant,
) -> Result<Option<Proof>, Failure> {
    let credentials = &keeper.credentials().serving(&server.name);
    let mut proof = always.clone();
    proof.confidential = true;
    let mut parts: Vec<String> = Vec::new();
    match &server.auth {
        Auth::None => return Ok(None),
        Auth::ApiKey { place, value } => {
            let value = secret(value, credentials).await?;
            parts.push(value.expose().to_owned());
            api_key::add(&mut proof, place, value)?;
        }
        Auth::Basic { username, password } => {
            let password = secret(password, credentials).await?;
            parts.extend([username.clone(), password.expose().to_owned()]);
            basic::add(&mut proof, username, &password)?;
        }
        Auth::Bearer { token } => {
            let token = secret(token, credentials).await?;
            parts.push(token.expose().to_owned());
            bearer::add(&mut proof, &token)?;
        }
        Auth::Headers(references) => {
            for (name, reference) in references {
                let value = secret(reference, credentials).await?;
                parts.extend([name.clone(), value.expose().to_owned()]);
                headers::add(&mut proof, name, &value)?;
            }
        }
        // The client certificate alone proves it, in the handshake.
        Auth::Mtls => return Ok(Some(Proof { credential: proof, token: None, ticket: None })),
        Auth::OAuth2(_) | Auth::SmartBackend(_) | Auth::Azure(_) | Auth::Google(_) => {
            let token = obtain::token(keeper, server, freshness, by_hand, deadline).await?;
            proof.headers.push(token.header()?);
            return Ok(Some(Proof { credential: proof, token: Some(token), ticket: None }));
        }
        Auth::AwsSigv4(settings) => {
            match aws_sigv4::add(&mut proof, settings, server, keeper, deadline).await? {
                Some(fixed) => parts.extend(fixed),
                None => return Ok(Some(Proof { credential: proof, token: None, ticket: None })),
            }
        }
    }
    // An account is one at one origin, whatever entry of the inventory offers it.
    let origin = server.url.url().origin().ascii_serialization();
    let id = {
        let parts = zeroize::Zeroizing::new(parts);
        let mut all = vec!["offer", server.auth.method(), origin.as_str()];
        all.extend(parts.iter().map(String::as_str));
        keeper.id(&all)
    };
    let ticket = keeper.admit(server, &id, by_hand, deadline).await?;
    Ok(Some(Proof { credential: proof, token: None, ticket: Some(ticket) }))
}

/// A variable by which a machine says where its own credentials are.
fn variable(credentials: &Credentials, name: &str) -> Option<String> {
    credentials.variable(name).map(|value| value.expose().to_owned())
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
        .hint("Look at what is stored: a line break at the end of a secret is a common cause.")
    })?;
    value.set_sensitive(sensitive);
    Ok(value)
}

/// Something of ours that cannot be used for signing in.
fn unusable(message: &str) -> Failure {
    Failure::new(Stage::Setup, Code::new("auth.credential_missing"), message)
}
