//! Requests of a data command: signed in, renewed once when a token is refused, kept to one origin.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use http::header::{HeaderName, HeaderValue};
use tokio::sync::Mutex;
use url::Url;

use crate::auth::{self, Freshness, Proof, Surroundings};
use crate::http::{Answer, Body, Call, Client, Credential, Failure, Identity, Stage};
use crate::model::Code;
use crate::model::server::Server;

/// How long a sign-in may take.
const SIGN_IN: Duration = Duration::from_secs(60);

/// Who asks one server for data. Workers share it; each has connections of its own.
pub struct Caller {
    pub server: Server,
    pub surroundings: Surroundings,
    identity: Identity,
    always: Credential,
    proof: Mutex<Proved>,
}

/// What there is to prove who we are.
enum Proved {
    NotYet,
    /// `None`: the server is open.
    Known(Option<Box<Proof>>),
}

/// A request as a data command words it.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    pub method: Method,
    pub url: &'a Url,
    pub accept: &'a str,
    pub headers: &'a [(HeaderName, HeaderValue)],
    pub body: Option<Body<'a>>,
    /// Whether who asks has to be proved; never done beyond the server's origin.
    pub signed: bool,
}

impl<'a> Ask<'a> {
    #[must_use]
    pub fn get(url: &'a Url, accept: &'a str) -> Ask<'a> {
        Ask { method: Method::GET, url, accept, headers: &[], body: None, signed: true }
    }
}

impl Caller {
    /// # Errors
    /// When a secret that every connection needs cannot be had.
    pub async fn new(server: &Server, surroundings: &Surroundings) -> Result<Caller, Failure> {
        let identity = auth::identity(server, &surroundings.credentials).await?;
        let always = auth::extra_headers(server, &surroundings.credentials).await?;
        Ok(Caller {
            server: server.clone(),
            surroundings: surroundings.clone(),
            identity,
            always,
            proof: Mutex::new(Proved::NotYet),
        })
    }

    /// Connections to the server's own origin.
    ///
    /// # Errors
    /// When its settings make no client.
    pub fn client(&self) -> Result<Arc<Client>, Failure> {
        Client::new(&self.server, &self.identity, Arc::clone(&self.surroundings.transport))
            .map(Arc::new)
    }

    /// Connections to the origin of an address.
    ///
    /// # Errors
    /// When the address is none that could be asked.
    pub fn client_for(&self, url: &Url) -> Result<Arc<Client>, Failure> {
        if self.is_own(url) {
            return self.client();
        }
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Failure::new(
                Stage::Setup,
                Code::new("bulk.bad_link"),
                format!("a link with the scheme {:?} is not followed", url.scheme()),
            ));
        }
        let transport = Arc::clone(&self.surroundings.transport);
        let mut root = url.clone();
        root.set_path("/");
        Client::beside(&self.server, &root, &self.identity, transport).map(Arc::new)
    }

    /// Whether an address is at the server's own origin: only there does a credential go.
    #[must_use]
    pub fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.server.url.url().origin()
    }

    /// Asks the server, with another token when the first is refused.
    ///
    /// # Errors
    /// When there is nothing to sign in with, or no answer came.
    pub async fn ask(&self, client: &Arc<Client>, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let is_own = self.is_own(ask.url);
        let is_signed = ask.signed && is_own;
        let mut renewed = false;
        loop {
            let credential = if is_signed { self.credential(renewed).await? } else { None };
            let open = (is_own && !self.always.headers.is_empty()).then_some(&self.always);
            let call = Call {
                method: ask.method.clone(),
                url: ask.url,
                accept: ask.accept,
                headers: ask.headers,
                body: ask.body,
                credential: credential.as_ref().or(open),
                deadline: Instant::now() + self.server.timeouts.total,
            };
            let answer = client.open(&call).await?;
            let status = answer.status().as_u16();
            if status == 401 && credential.is_some() && !renewed && self.has_token().await {
                renewed = true;
                continue;
            }
            if credential.is_some() {
                self.tell(status).await;
            }
            return Ok(answer);
        }
    }

    /// What goes into a request; `None` where the server is open.
    async fn credential(&self, is_refused: bool) -> Result<Option<Credential>, Failure> {
        let now = self.surroundings.clock.now();
        let mut proved = self.proof.lock().await;
        let known = match &*proved {
            Proved::Known(proof) => Some(proof.as_ref()),
            Proved::NotYet => None,
        };
        let stale = known.flatten().and_then(|proof| proof.token.clone());
        let freshness = match &stale {
            Some(token) if is_refused => Freshness::Not(token),
            _ => Freshness::Usable,
        };
        let is_good = match (known, &stale) {
            (None, _) => false,
            (Some(_), Some(token)) => !is_refused && token.is_fresh(now),
            (Some(_), None) => true,
        };
        if !is_good {
            let made = auth::proof(
                &self.server,
                &self.always,
                &self.surroundings.keeper,
                freshness,
                false,
                Instant::now() + SIGN_IN,
            );
            *proved = Proved::Known(made.await?.map(Box::new));
        }
        match &*proved {
            Proved::Known(Some(proof)) => Ok(Some(proof.credential.clone())),
            _ => Ok(None),
        }
    }

    async fn has_token(&self) -> bool {
        match &*self.proof.lock().await {
            Proved::Known(Some(proof)) => proof.token.is_some(),
            _ => false,
        }
    }

    /// Remembers whether the server took the credential.
    async fn tell(&self, status: u16) {
        let keeper = &self.surroundings.keeper;
        let mut proved = self.proof.lock().await;
        let Proved::Known(Some(proof)) = &mut *proved else { return };
        match status {
            401 => proof.refused(keeper, Code::new("auth.unauthorized")).await,
            // Limits and failures say nothing of the credential.
            407 | 429 | 500.. => {}
            _ => proof.accepted(keeper),
        }
    }
}
