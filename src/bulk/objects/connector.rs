//! The store library's way to the network: our own clients, with our trust store, proxies, resolver
//! and bounds.
//!
//! Addresses are those of the store and of the services that give it credentials. Plain HTTP is
//! spoken on loopback, to the machine's own metadata service, and where the environment allows it.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpResponse, HttpResponseBody, HttpService,
};
use serde_json::json;
use url::Url;

use super::trouble::{Seen, note};
use crate::auth::Surroundings;
use crate::http::{Answer, Client, Failure, Identity, Stage, machine};
use crate::inventory::{self, Overrides};
use crate::model::server::{Server, is_loopback};
use crate::model::{Code, Error, Result};

/// Until the head of an answer is there; a part has to be sent within it.
const LIMIT: Duration = Duration::from_secs(300);
/// Most bytes of an answer that says what is wrong.
const REFUSAL_BYTES: u64 = 64 * 1024;
/// How long it may take to come.
const REFUSAL: Duration = Duration::from_secs(30);

/// Makes the library's clients.
#[derive(Clone)]
pub(super) struct Connector {
    surroundings: Surroundings,
    /// Whose settings hold: none of the inventory's, which are for FHIR servers.
    server: Server,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    pub(super) fn new(surroundings: &Surroundings) -> Result<Connector> {
        let text = json!({
            "version": 1,
            "defaults": {
                "timeouts": { "connect": "10s", "read": "300s", "write": "60s", "total": "300s" },
                "pool": { "max_connections": 64 },
                // An answer's bytes are those of the object.
                "compression": false,
            },
            "servers": [{ "name": "object-store", "url": "https://localhost" }],
        });
        let read =
            inventory::parse(&text.to_string(), std::path::Path::new("/"), &Overrides::default())?;
        let server = read
            .servers
            .into_iter()
            .next()
            .ok_or_else(|| Error::internal("the store's settings are missing"))?;
        Ok(Connector { surroundings: surroundings.clone(), server })
    }

    pub(super) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allowed = options.get_config_value(&ClientConfigKey::AllowHttp);
        Ok(HttpClient::new(Service {
            connector: self.clone(),
            allow_http: allowed.as_deref() == Some("true"),
            clients: Mutex::default(),
        }))
    }
}

struct Service {
    connector: Connector,
    allow_http: bool,
    /// By origin.
    clients: Mutex<HashMap<String, Arc<Client>>>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

type Called<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Service {
    fn call<'life0, 'async_trait>(&'life0 self, request: HttpRequest) -> Called<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move { self.ask(request).await.map_err(told) })
    }
}

impl Service {
    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, Failure> {
        let (head, body) = request.into_parts();
        let url = Url::parse(&head.uri.to_string()).map_err(|_| setup("the address is no URL"))?;
        // One piece stays one: nothing is copied.
        let body = match body.collect().await {
            Ok(whole) => whole.to_bytes(),
            Err(_) => return Err(setup("the request has no body that could be read")),
        };
        if machine::is_own(&url) && !is_loopback(&url) {
            return of_machine(&head, &url).await;
        }
        if url.scheme() == "http" && !self.allow_http && !is_loopback(&url) {
            return Err(setup("data and credentials do not go over plain HTTP")
                .hint("name an https:// endpoint; AWS_ALLOW_HTTP=true sends them in the open"));
        }
        let client = self.client(&url)?;
        let deadline = Instant::now() + LIMIT;
        let answer = client.pass(head.method, &url, head.headers, body, deadline).await?;
        whole_or_stream(answer).await
    }

    fn client(&self, url: &Url) -> Result<Arc<Client>, Failure> {
        let origin = url.origin().ascii_serialization();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = clients.get(&origin) {
            return Ok(Arc::clone(known));
        }
        let root = Url::parse(&origin).map_err(|_| setup("the address is no URL"))?;
        let transport = Arc::clone(&self.connector.surroundings.transport);
        let new = Client::beside(&self.connector.server, &root, &Identity::default(), transport)?;
        let new = Arc::new(new);
        clients.insert(origin, Arc::clone(&new));
        Ok(new)
    }
}

fn setup(message: &str) -> Failure {
    Failure::new(Stage::Setup, Code::new("bulk.store_refused"), message)
}

/// The metadata service of the machine that this runs on.
async fn of_machine(head: &http::request::Parts, url: &Url) -> Result<HttpResponse, Failure> {
    let headers: Vec<_> =
        head.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let answer = machine::ask(head.method.clone(), url, &headers).await.map_err(|why| {
        Failure::new(
            Stage::Setup,
            Code::new("auth.credential_missing"),
            format!("there is no credential for the store: none in the environment, and the machine's metadata service: {why}"),
        )
    })?;
    let mut response = HttpResponse::new(Bytes::copy_from_slice(&answer.body).into());
    *response.status_mut() =
        http::StatusCode::from_u16(answer.status).unwrap_or(http::StatusCode::BAD_GATEWAY);
    if answer.status >= 300 {
        note(Seen::Status(answer.status, None));
    }
    Ok(response)
}

/// A refusal is read whole and noted; anything else is handed on as it comes.
async fn whole_or_stream(answer: Answer) -> Result<HttpResponse, Failure> {
    let status = answer.status();
    let headers = answer.headers().clone();
    let body = if status.as_u16() < 300 {
        HttpResponseBody::new(answer.into_body().map_err(told))
    } else {
        let deadline = Instant::now() + REFUSAL;
        let bytes = Bytes::from(answer.whole(REFUSAL_BYTES, deadline).await.unwrap_or_default());
        note(Seen::Status(status.as_u16(), word_in(&bytes)));
        bytes.into()
    };
    let mut response = HttpResponse::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// The word that S3, Google and Azure have for a refusal, where it looks like one.
fn word_in(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let (_, rest) = text.split_once("<Code>")?;
    let (word, _) = rest.split_once("</Code>")?;
    let is_word = (1..=64).contains(&word.len()) && word.chars().all(|c| c.is_ascii_alphanumeric());
    is_word.then(|| word.to_owned())
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Told(String);

/// A failure in the library's terms, which decide whether it tries again.
fn told(failure: Failure) -> HttpError {
    let kind = match (failure.stage, failure.code.as_str()) {
        (Stage::Dns | Stage::Tcp, _) => HttpErrorKind::Connect,
        (Stage::Http, "http.timeout") => HttpErrorKind::Timeout,
        (Stage::Http, _) => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    let error = HttpError::new(kind, Told(failure.message.clone()));
    note(Seen::Failure(Box::new(failure)));
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_word_is_found_and_nothing_else_is() {
        for (body, word) in [
            ("<Error><Code>NoSuchBucket</Code><Message>x</Message></Error>", Some("NoSuchBucket")),
            ("<Error><Code>a b\nc</Code></Error>", None),
            ("<Code></Code>", None),
            ("<Code>", None),
            ("<html>", None),
        ] {
            assert_eq!(word_in(body.as_bytes()).as_deref(), word, "{body}");
        }
    }
}
