//! The conversation with one server during one check.

use std::time::{Duration, Instant};

use url::Url;

use super::verdict::Problem;
use super::{CheckName, Options, Surroundings};
use crate::auth::{self, Freshness, Proof, Token};
use crate::fhir::body::{BodyKind, sniff};
use crate::fhir::outcome::OperationOutcome;
use crate::http::{Client, Credential, Exchange, Failure, Request, Stage};
use crate::model::server::{Auth, Format, Server};
use crate::model::{Code, Timing, limits};

/// One server's client, credential and clock for one check.
pub(super) struct Session<'a> {
    pub server: &'a Server,
    pub surroundings: &'a Surroundings,
    pub options: &'a Options,
    client: Client,
    always: Credential,
    /// `None` until it is first needed.
    proof: Option<Result<Option<Proof>, Failure>>,
    deadline: Instant,
    /// The first exchange that opened a connection: it tells of DNS, TCP and TLS.
    pub handshake: Option<Timing>,
    /// The failure that makes every further request pointless.
    pub broken: Option<Failure>,
    /// Set when the server refused the credential: it is not offered again.
    pub refused: Option<Problem>,
}

impl<'a> Session<'a> {
    /// # Errors
    /// A [`Failure`] of stage `Setup` when the client cannot be made.
    pub(super) async fn open(
        server: &'a Server,
        surroundings: &'a Surroundings,
        options: &'a Options,
        deadline: Instant,
    ) -> Result<Session<'a>, Failure> {
        let credentials = &surroundings.credentials;
        let identity = auth::identity(server, credentials).await?;
        let client = Client::new(server, &identity, surroundings.transport.clone())?;
        let always = auth::extra_headers(server, credentials).await?;
        Ok(Session {
            server,
            surroundings,
            options,
            client,
            always,
            proof: None,
            deadline,
            handshake: None,
            broken: None,
            refused: None,
        })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Signs in, unless that was done: gets a token, or leave to offer a fixed credential.
    ///
    /// # Errors
    /// Why there is nothing to sign in with.
    pub(super) async fn sign_in(&mut self, freshness: Freshness<'_>) -> Result<(), Failure> {
        if self.proof.is_none() {
            let made = auth::proof(
                self.server,
                &self.always,
                &self.surroundings.keeper,
                freshness,
                self.options.by_hand,
                self.deadline,
            )
            .await;
            self.proof = Some(made);
        }
        match &self.proof {
            Some(Err(failure)) => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    /// The token that was got, where the method uses tokens.
    pub(super) fn token(&self) -> Option<&Token> {
        self.proof.as_ref()?.as_ref().ok()?.as_ref()?.token.as_ref()
    }

    /// Whether there is a credential, offered or not.
    pub(super) fn has_proof(&self) -> bool {
        matches!(self.proof, Some(Ok(Some(_))))
    }

    /// Whether there is a credential that may still be offered.
    pub(super) async fn can_sign_in(&mut self) -> bool {
        self.refused.is_none()
            && self.sign_in(Freshness::Usable).await.is_ok()
            && matches!(self.proof, Some(Ok(Some(_))))
    }

    /// Whether it makes sense to ask for more: the server is there, and takes the credential.
    pub(super) async fn may_ask(&mut self) -> bool {
        self.broken.is_none() && (self.server.auth == Auth::None || self.can_sign_in().await)
    }

    /// A request that proves nothing but the extra headers.
    pub(super) async fn get_open(&mut self, url: Url, max_body: u64) -> Result<Exchange, Failure> {
        let always = self.always.clone();
        let credential = (!always.headers.is_empty()).then_some(&always);
        self.get(url, credential, max_body).await
    }

    /// A request with the credential; without one where the server is open.
    pub(super) async fn get_signed(
        &mut self,
        url: Url,
        max_body: u64,
    ) -> Result<Exchange, Failure> {
        self.sign_in(Freshness::Usable).await?;
        let Some(credential) = self.credential() else { return self.get_open(url, max_body).await };
        let mut exchange = self.get(url.clone(), Some(&credential), max_body).await?;
        if exchange.status() == 401 && self.renew().await {
            let renewed = self.credential();
            exchange = self.get(url, renewed.as_ref(), max_body).await?;
        }
        self.note_verdict(&exchange).await;
        Ok(exchange)
    }

    fn credential(&self) -> Option<Credential> {
        let proof = self.proof.as_ref()?.as_ref().ok()?.as_ref()?;
        Some(proof.credential.clone())
    }

    /// Another token in the place of one that was refused; `false` when there is none.
    async fn renew(&mut self) -> bool {
        let Some(stale) = self.token().cloned() else { return false };
        let renewed = auth::proof(
            self.server,
            &self.always,
            &self.surroundings.keeper,
            Freshness::Not(&stale),
            self.options.by_hand,
            self.deadline,
        )
        .await;
        match renewed {
            Ok(proof) => {
                self.proof = Some(Ok(proof));
                true
            }
            // The refusal of the old one is what the server said; it stands.
            Err(_) => false,
        }
    }

    /// Remembers whether the server took the credential.
    async fn note_verdict(&mut self, exchange: &Exchange) {
        let keeper = &self.surroundings.keeper;
        let Some(Ok(Some(proof))) = &mut self.proof else { return };
        if let Some(problem) = refused_signature(exchange) {
            // A wrong clock says nothing of the key.
            if problem.code != Code::new("auth.clock_skew") {
                proof.refused(keeper, problem.code).await;
            }
            self.refused = Some(problem);
            return;
        }
        match exchange.status() {
            401 => {
                proof.refused(keeper, Code::new("auth.unauthorized")).await;
                self.refused = judge_status(exchange, true);
            }
            // Limits and failures say nothing of the credential.
            429 | 407 | 500.. => {}
            _ => proof.accepted(keeper),
        }
    }

    /// Open first, as the specification expects it of `/metadata`; with the credential where the
    /// server asks for one or is known to.
    pub(super) async fn get_open_first(
        &mut self,
        url: Url,
        max_body: u64,
        needs_auth: bool,
    ) -> Result<Exchange, Failure> {
        if needs_auth && self.can_sign_in().await {
            return self.get_signed(url, max_body).await;
        }
        let exchange = self.get_open(url.clone(), max_body).await?;
        match exchange.status() {
            401 | 403 if self.can_sign_in().await => self.get_signed(url, max_body).await,
            _ => Ok(exchange),
        }
    }

    async fn get(
        &mut self,
        url: Url,
        credential: Option<&Credential>,
        max_body: u64,
    ) -> Result<Exchange, Failure> {
        let request = Request {
            url,
            accept: accept(self.server.format),
            credential,
            max_body,
            deadline: self.deadline,
            if_none_match: None,
            body: None,
        };
        match self.client.send(&request).await {
            Ok(exchange) => {
                // Our own politeness is not the server's time.
                self.deadline += exchange.held_back;
                self.note_handshake(exchange.timing);
                Ok(exchange)
            }
            Err(failure) => {
                if let Some(timing) = failure.timing {
                    self.note_handshake(timing);
                }
                if failure.stage < Stage::Http
                    && failure.code != Code::new("auth.insecure_transport")
                {
                    self.broken = Some(failure.clone());
                }
                Err(failure)
            }
        }
    }

    fn note_handshake(&mut self, timing: Timing) {
        if self.handshake.is_none() {
            self.handshake = Some(timing);
        }
    }

    /// A URL below the base.
    pub(super) fn url(&self, path: &str) -> Result<Url, Problem> {
        self.server.url.join(path).map_err(|_| {
            Problem::new(
                Code::new("fhir.search_failed"),
                "the path in the inventory makes no URL with the base",
            )
        })
    }

    pub(super) fn wants(&self, check: CheckName) -> bool {
        self.options.wants(check)
    }
}

/// What is asked for; the other format is taken when the server knows nothing else.
fn accept(format: Format) -> &'static str {
    match format {
        Format::Json => {
            "application/fhir+json, application/json;q=0.9, application/json+fhir;q=0.8, application/fhir+xml;q=0.5, */*;q=0.1"
        }
        Format::Xml => {
            "application/fhir+xml, application/xml;q=0.9, application/xml+fhir;q=0.8, application/fhir+json;q=0.5, */*;q=0.1"
        }
    }
}

/// What a status other than success means.
pub(super) fn judge_status(exchange: &Exchange, signed: bool) -> Option<Problem> {
    let status = exchange.status();
    if let Some(problem) = refused_signature(exchange) {
        return Some(problem);
    }
    let problem = match status {
        200..=299 | 304 => return None,
        400 | 495 | 496 => match client_certificate(exchange) {
            Some(problem) => problem,
            None => http_status(status),
        },
        401 if signed => Problem::new(
            Code::new("auth.unauthorized"),
            "the server refused the credential (HTTP 401)",
        ),
        401 => Problem::new(
            Code::new("auth.unauthorized"),
            "the server demands a sign-in (HTTP 401) and none was offered",
        ),
        403 if signed => Problem::new(
            Code::new("auth.forbidden"),
            "the server knows the credential but does not permit this (HTTP 403)",
        ),
        403 => {
            Problem::new(Code::new("auth.forbidden"), "the server does not permit this (HTTP 403)")
        }
        407 => Problem::new(Code::new("network.proxy"), "the proxy demands a sign-in (HTTP 407)"),
        429 => {
            let wait = exchange
                .retry_after()
                .map(|wait| format!("; it asks to wait {} s", wait.as_secs()));
            Problem::new(
                Code::new("http.rate_limited"),
                format!(
                    "the server limits the rate of requests (HTTP 429){}",
                    wait.unwrap_or_default()
                ),
            )
        }
        _ => http_status(status),
    };
    let issue = outcome(exchange).and_then(|outcome| outcome.issue_type());
    Some(problem.issue(issue).server_text(server_words(exchange)))
}

/// What AWS says about a signature that it does not take.
pub(super) fn refused_signature(exchange: &Exchange) -> Option<Problem> {
    let refusal = exchange
        .signed
        .then(|| auth::aws_sigv4::explain(exchange.status(), &exchange.body))
        .flatten()?;
    let mut problem = Problem::new(refusal.code, refusal.message).server_text(refusal.server_text);
    problem.hint = refusal.hint;
    Some(problem)
}

fn http_status(status: u16) -> Problem {
    let reason =
        http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    Problem::new(
        Code::new("http.status"),
        format!("HTTP {status}{}", reason.map(|reason| format!(" {reason}")).unwrap_or_default()),
    )
}

/// Proxies that end TLS tell a missing or bad client certificate by a page.
pub(super) fn client_certificate(exchange: &Exchange) -> Option<Problem> {
    let page = String::from_utf8_lossy(&exchange.body[..exchange.body.len().min(2048)]);
    if page.contains("No required SSL certificate") || exchange.status() == 496 {
        return Some(Problem::new(
            Code::new("tls.client_certificate_required"),
            "the server demands a client certificate",
        ));
    }
    (page.contains("SSL certificate error") || exchange.status() == 495).then(|| {
        Problem::new(
            Code::new("tls.client_certificate_rejected"),
            "the server refused the client certificate",
        )
    })
}

/// The server's own words: its OperationOutcome, or the title of its page.
pub(super) fn server_words(exchange: &Exchange) -> Option<String> {
    let body = &exchange.body[..exchange.body.len().min(limits::SERVER_TEXT_CHARS * 40)];
    let kind = sniff(exchange.content_type(), body);
    match kind {
        BodyKind::Json | BodyKind::Xml => OperationOutcome::parse(kind, &exchange.body)
            .map(|outcome| outcome.summary(limits::SERVER_TEXT_CHARS)),
        BodyKind::Html => title(&String::from_utf8_lossy(body)),
        BodyKind::Other => Some(String::from_utf8_lossy(body).into_owned()),
        BodyKind::Empty => None,
    }
}

/// The OperationOutcome that came with a refusal.
fn outcome(exchange: &Exchange) -> Option<OperationOutcome> {
    let body = &exchange.body[..exchange.body.len().min(limits::SERVER_TEXT_CHARS * 40)];
    match sniff(exchange.content_type(), body) {
        kind @ (BodyKind::Json | BodyKind::Xml) => OperationOutcome::parse(kind, &exchange.body),
        _ => None,
    }
}

fn title(page: &str) -> Option<String> {
    let lower = page.to_ascii_lowercase();
    let start = lower.find("<title")?;
    let open = start + lower[start..].find('>')? + 1;
    let end = open + lower[open..].find("</title")?;
    Some(format!("page titled \"{}\"", page.get(open..end)?.trim()))
}

/// What kind of document a successful answer carries, or what is wrong with it.
pub(super) fn document(exchange: &Exchange) -> Result<BodyKind, Problem> {
    let not_fhir = |message: &str| {
        Problem::new(Code::new("fhir.not_fhir"), message).server_text(server_words(exchange))
    };
    match sniff(exchange.content_type(), &exchange.body) {
        BodyKind::Empty => Err(not_fhir(&format!("HTTP {} with an empty body", exchange.status()))),
        BodyKind::Html => Err(not_fhir(&format!(
            "HTTP {} with an HTML page, such as a sign-in or maintenance page",
            exchange.status()
        ))),
        BodyKind::Other => {
            Err(not_fhir(&format!("HTTP {} with neither JSON nor XML", exchange.status())))
        }
        kind => Ok(kind),
    }
}

/// The kind of document in an answer that should carry `wanted`, once its status and an
/// OperationOutcome in its place are ruled out.
pub(super) fn answered(
    exchange: &Exchange,
    signed: bool,
    failed: Code,
    wanted: &str,
) -> Result<BodyKind, Problem> {
    if let Some(problem) = judge_status(exchange, signed) {
        // Refusals and limits keep their own names; anything else is what failed.
        return Err(if problem.code == Code::new("http.status") {
            Problem { code: failed, status: failed.status(), ..problem }
        } else {
            problem
        });
    }
    let kind = document(exchange)?;
    match OperationOutcome::parse(kind, &exchange.body) {
        None => Ok(kind),
        Some(outcome) => Err(Problem::new(
            Code::new("fhir.operation_outcome"),
            format!("HTTP {} with an OperationOutcome instead of {wanted}", exchange.status()),
        )
        .issue(outcome.issue_type())
        .server_text(Some(outcome.summary(limits::SERVER_TEXT_CHARS)))),
    }
}

#[cfg(test)]
mod tests {
    use super::title;

    #[test]
    fn the_title_of_a_page_is_found_whatever_its_case() {
        assert_eq!(
            title("<HTML><Title >Sign in</TITLE>").as_deref(),
            Some("page titled \"Sign in\"")
        );
        assert_eq!(title("<html><title>"), None);
    }
}
