//! Requests that are more than a check: signed in, renewed once when a token is refused, kept to one origin.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use http::header::{HeaderName, HeaderValue};
use tokio::sync::Mutex;
use url::Url;

use super::{Freshness, Proof, Surroundings};
use crate::http::{Answer, Body, Call, Client, Credential, Exchange, Failure, Identity, Stage};
use crate::model::Code;
use crate::model::server::Server;

/// How long a sign-in may take.
const SIGN_IN: Duration = Duration::from_secs(60);

/// Who asks one server. Workers share it; each has connections of its own.
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

/// A request as who asks words it.
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
        let identity = super::identity(server, &surroundings.credentials).await?;
        let always = super::extra_headers(server, &surroundings.credentials).await?;
        Ok(Caller {
            server: server.clone(),
            surroundings: surroundings.clone(),
            identity,
            always,
            proof: Mutex::new(Proved::NotYet),
        })
    }

    /// What goes into a request at this instant: the sign-in, its token renewed when it is about to
    /// end, and the extra headers; `None` where there is nothing.
    ///
    /// # Errors
    /// When there is nothing to sign in with.
    pub async fn standing(&self) -> Result<Option<Credential>, Failure> {
        let open = || (!self.always.headers.is_empty()).then(|| self.always.clone());
        Ok(self.credential(false).await?.or_else(open))
    }

    /// What connections need before anything is sent on them.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
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

    /// Asks the server, with another token when the first is refused; the body of the answer is
    /// still on its way, as it came over the wire.
    ///
    /// # Errors
    /// When there is nothing to sign in with, or no answer came.
    pub async fn ask(&self, client: &Arc<Client>, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let mut is_refused = false;
        loop {
            let credential = self.credential_for(ask, is_refused).await?;
            let answer = client.open(&self.call(ask, credential.as_ref())).await?;
            let status = answer.status().as_u16();
            if self.is_settled(status, credential.as_ref(), &mut is_refused).await {
                return Ok(answer);
            }
        }
    }

    /// Asks the server, with another token when the first is refused, and reads the whole answer,
    /// unpacked. The server's rate limit holds.
    ///
    /// # Errors
    /// As [`ask`](Caller::ask), and `http.too_large` above `max_body` bytes.
    pub async fn fetch(
        &self,
        client: &Client,
        ask: &Ask<'_>,
        max_body: u64,
    ) -> Result<Exchange, Failure> {
        let mut is_refused = false;
        loop {
            let credential = self.credential_for(ask, is_refused).await?;
            let exchange = client.receive(&self.call(ask, credential.as_ref()), max_body).await?;
            if self.is_settled(exchange.status(), credential.as_ref(), &mut is_refused).await {
                return Ok(exchange);
            }
        }
    }

    /// What proves who asks, where that is to be proved.
    async fn credential_for(
        &self,
        ask: &Ask<'_>,
        is_refused: bool,
    ) -> Result<Option<Credential>, Failure> {
        if ask.signed && self.is_own(ask.url) {
            self.credential(is_refused).await
        } else {
            Ok(None)
        }
    }

    fn call<'a>(&'a self, ask: &Ask<'a>, credential: Option<&'a Credential>) -> Call<'a> {
        let is_own = self.is_own(ask.url);
        let open = (is_own && !self.always.headers.is_empty()).then_some(&self.always);
        Call {
            method: ask.method.clone(),
            url: ask.url,
            accept: ask.accept,
            headers: ask.headers,
            body: ask.body,
            credential: credential.or(open),
            deadline: Instant::now() + self.server.timeouts.total,
        }
    }

    /// Whether an answer stands; `false` where it is worth a second try with another token.
    async fn is_settled(
        &self,
        status: u16,
        credential: Option<&Credential>,
        is_refused: &mut bool,
    ) -> bool {
        if credential.is_none() {
            return true;
        }
        if status == 401 && !*is_refused && self.has_token().await {
            *is_refused = true;
            return false;
        }
        self.tell(status).await;
        true
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
            let made = super::proof(
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
