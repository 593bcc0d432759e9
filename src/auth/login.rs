//! A user's own sign-in in a browser: authorization code with PKCE over a loopback redirect
//! (RFC 6749 §4.1, RFC 7636, RFC 8252 §7.3; SMART App Launch 2.2, "Standalone Launch").

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use url::Url;

use super::keeper::Keeper;
use super::obtain;
use super::token::Token;
use super::{seal, unusable};
use crate::http::{Failure, Stage};
use crate::model::Code;
use crate::model::server::{Auth, Flow, OAuth2, Server, is_loopback};
use crate::serve::{self, Answer, Body, Handler, Listening, Request, Response, StatusCode, header};

/// A sign-in that waits for its user.
pub struct Login {
    /// What has to be opened in a browser.
    pub address: Url,
    redirect_uri: String,
    state: String,
    verifier: String,
    returned: mpsc::Receiver<Result<String, Failure>>,
    /// What the browser came back with, once it was waited for.
    came: Option<Result<String, Failure>>,
    _listening: Listening,
}

/// Starts to listen for the redirect and makes the address to open.
///
/// # Errors
/// When the server does not sign users in, has no authorization endpoint, or the sign-in could not
/// be kept afterwards.
pub async fn begin(keeper: &Keeper, server: &Server, deadline: Instant) -> Result<Login, Failure> {
    let settings = settings(server)?;
    obtain::can_keep(keeper, server).await?;
    let authorize = match &settings.authorize_url {
        Some(url) => url.clone(),
        None => discovered(keeper, server, deadline).await?,
    };
    if authorize.scheme() != "https" && !is_loopback(&authorize) {
        return Err(Failure::new(
            Stage::Setup,
            Code::new("auth.insecure_transport"),
            format!("the authorization endpoint {authorize} is not https"),
        ));
    }
    let random = || seal::random().ok_or_else(|| unusable("the machine gives no random numbers"));
    let verifier = URL_SAFE_NO_PAD.encode(random()?);
    let state = URL_SAFE_NO_PAD.encode(random()?);
    let (path, port) = callback(settings)?;
    let port =
        serve::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)).map_err(|error| {
            unusable(&format!(
                "cannot listen for the browser's return: {}",
                crate::model::error::io_reason(&error)
            ))
            .hint("Is another sign-in under way, or the port of auth.redirect_url in use?")
        })?;
    let redirect_uri = match &settings.redirect_url {
        Some(url) => url.to_string(),
        None => format!("http://127.0.0.1:{}{path}", port.address().port()),
    };
    let (sender, returned) = mpsc::channel(1);
    let handler = Callback { path, state: state.clone(), sender };
    let listening = serve::serve(port, Arc::new(handler))
        .map_err(|_| unusable("cannot listen for the browser's return"))?;
    let address = address(authorize, server, settings, &redirect_uri, &state, &verifier);
    Ok(Login {
        address,
        redirect_uri,
        state,
        verifier,
        returned,
        came: None,
        _listening: listening,
    })
}

impl Login {
    /// Waits until the browser comes back.
    pub async fn returned(&mut self) {
        if self.came.is_none() {
            self.came = self.returned.recv().await;
        }
    }

    /// Waits until the browser comes back, and exchanges its code for a token.
    ///
    /// # Errors
    /// When the user or the provider said no, or nobody came until the deadline.
    pub async fn finish(
        mut self,
        keeper: &Keeper,
        server: &Server,
        until: Instant,
    ) -> Result<Token, Failure> {
        let _ = tokio::time::timeout_at(until.into(), self.returned()).await;
        let code = match self.came.take() {
            Some(code) => code?,
            None => {
                return Err(unusable("nobody signed in within the time").hint(
                    "Give it longer with --wait, or paste the address that the browser ended at.",
                ));
            }
        };
        self.redeem(keeper, server, &code).await
    }

    /// Exchanges what the browser ended at, pasted by the user.
    ///
    /// # Errors
    /// When the address is not the answer to this sign-in, or the provider refuses the code.
    pub async fn finish_with(
        self,
        keeper: &Keeper,
        server: &Server,
        pasted: &str,
    ) -> Result<Token, Failure> {
        let query =
            Url::parse(pasted.trim())
                .ok()
                .and_then(|url| url.query().map(str::to_owned))
                .ok_or_else(|| unusable("what was pasted is no address with an answer in it"))?;
        let code = answer(&query, &self.state)?;
        self.redeem(keeper, server, &code).await
    }

    async fn redeem(&self, keeper: &Keeper, server: &Server, code: &str) -> Result<Token, Failure> {
        let deadline = Instant::now() + server.timeouts.total;
        obtain::redeem(keeper, server, code, &self.redirect_uri, &self.verifier, deadline).await
    }
}

fn settings(server: &Server) -> Result<&OAuth2, Failure> {
    match &server.auth {
        Auth::OAuth2(settings) if settings.flow == Flow::AuthorizationCode => Ok(settings),
        other => Err(unusable(&format!(
            "{} signs in by {}, which needs no browser",
            server.name,
            other.method()
        ))
        .hint("auth login is for method oauth2 with flow: authorization-code.")),
    }
}

async fn discovered(keeper: &Keeper, server: &Server, deadline: Instant) -> Result<Url, Failure> {
    let found = obtain::discover(keeper, server, deadline).await?;
    let endpoint = found.and_then(|it| it.authorization_endpoint);
    endpoint.and_then(|text| Url::parse(&text).ok()).ok_or_else(|| {
        Failure::new(
            Stage::Setup,
            Code::new("auth.token_endpoint"),
            "the server names no authorization endpoint, and the inventory has none",
        )
        .hint(format!("fhirctl set {} auth.authorize_url=URL", server.name))
    })
}

/// Path and port of the redirect: the registered one, or any port.
fn callback(settings: &OAuth2) -> Result<(String, u16), Failure> {
    let Some(url) = &settings.redirect_url else { return Ok(("/callback".to_owned(), 0)) };
    if url.scheme() != "http" || !is_loopback(url) {
        return Err(unusable(
            "auth.redirect_url is not on loopback: http://127.0.0.1:PORT/PATH is meant",
        ));
    }
    Ok((url.path().to_owned(), url.port_or_known_default().unwrap_or(80)))
}

fn address(
    mut authorize: Url,
    server: &Server,
    settings: &OAuth2,
    redirect_uri: &str,
    state: &str,
    verifier: &str,
) -> Url {
    let scope = obtain::asked_scopes(server).join(" ");
    let audience = settings.audience.clone().unwrap_or_else(|| server.url.as_str().to_owned());
    authorize
        .query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &settings.client_id)
        .append_pair("redirect_uri", redirect_uri)
        .append_pair("scope", &scope)
        .append_pair("state", state)
        .append_pair("aud", &audience)
        .append_pair("code_challenge", &challenge(verifier))
        .append_pair("code_challenge_method", "S256");
    authorize
}

/// RFC 7636 §4.2.
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

/// The code in the redirect's query, once its state is ours.
fn answer(query: &str, state: &str) -> Result<String, Failure> {
    let value = |name: &str| {
        url::form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    if value("state").as_deref() != Some(state) {
        return Err(unusable("the answer does not belong to this sign-in: its state differs"));
    }
    if let Some(error) = value("error") {
        let error = crate::model::text::one_line(&crate::model::text::bounded(&error, 60));
        let text = value("error_description")
            .map(|text| crate::model::text::one_line(&crate::model::text::bounded(&text, 300)));
        let code =
            if error == "invalid_scope" { "auth.invalid_scope" } else { "auth.unauthorized" };
        return Err(Failure::new(
            Stage::Setup,
            Code::new(code),
            format!("the sign-in was not granted: {error}"),
        )
        .server_text(text));
    }
    value("code")
        .filter(|code| !code.is_empty())
        .ok_or_else(|| unusable("the answer holds neither a code nor an error"))
}

struct Callback {
    path: String,
    state: String,
    sender: mpsc::Sender<Result<String, Failure>>,
}

impl Handler for Callback {
    async fn handle(&self, request: Request) -> Answer {
        if request.path != self.path {
            return page(StatusCode::NOT_FOUND, "Not found.");
        }
        let found = answer(request.query.as_deref().unwrap_or_default(), &self.state);
        let (status, text) = match &found {
            Ok(_) => (StatusCode::OK, "You are signed in. This window can be closed."),
            Err(_) => (StatusCode::BAD_REQUEST, "That did not work; the terminal says why."),
        };
        // A stranger's request with another state ends nothing.
        let is_ours = found.is_ok()
            || request.query.as_deref().is_some_and(|query| query.contains(&self.state));
        if is_ours {
            let _ = self.sender.try_send(found);
        }
        page(status, text)
    }
}

fn page(status: StatusCode, text: &str) -> Answer {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>fhirctl</title>\
         <body style=\"font:1.2rem system-ui;margin:4rem\"><p>{text}</p></body></html>"
    );
    let mut response = Response::new(Body::Whole(html.into_bytes().into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, serve::HeaderValue::from_static("text/html; charset=utf-8"));
    Answer::Reply(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_rfc() {
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn only_an_answer_with_our_state_counts() {
        assert_eq!(answer("code=a%2Fb&state=s", "s").unwrap(), "a/b");
        assert!(answer("code=a&state=t", "s").unwrap_err().message.contains("state"));
        assert!(answer("code=a", "s").is_err());
        assert!(answer("state=s", "s").unwrap_err().message.contains("neither"));
        let refused = answer("error=access_denied&error_description=no&state=s", "s").unwrap_err();
        assert_eq!(refused.code, Code::new("auth.unauthorized"));
        assert_eq!(refused.server_text.as_deref(), Some("no"));
    }
}
