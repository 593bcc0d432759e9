//! One server's client: its settings, its connections, its requests.

mod look;
mod open;
mod refusal;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use url::Url;
use uuid::Uuid;

use super::body::{self, BodyError};
use super::classify::{self, Circumstances};
use super::exchange::{Body, Call, Credential, Exchange, Request, Unsigned};
use super::identity::CertificateFacts;
use super::proxy;
use super::redact::Sent;
use super::resolve::{Rules, SystemResolver};
use super::signing;
use super::timing::{ConnectMarks, Marks};
use super::tls::{self, Peer, Seen};
use super::{Failure, Identity, Stage, Transport, parse_retry_after};
use crate::model::server::{BaseUrl, MetadataService, RateLimit, Server, is_loopback};
use crate::model::{Certificate, Code, HttpFacts, Timing, limits};

pub use look::{Presented, PresentedCertificate};
pub use open::Answer;

const ACCEPT_ENCODING: HeaderValue = HeaderValue::from_static("gzip, br, zstd, deflate");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// A client for one server: one configuration, one set of connections.
pub struct Client {
    inner: reqwest::Client,
    /// Of the connections; `None` for plain HTTP.
    tls: Option<Arc<rustls::ClientConfig>>,
    transport: Arc<Transport>,
    marks: Marks,
    seen: Seen,
    rate_limit: RateLimit,
    total: Duration,
    proxied: bool,
    compression: bool,
    allow_insecure: bool,
    /// Of our own certificate, where one is shown.
    client_certificate: Option<CertificateFacts>,
    rules: Rules,
    source_address: Option<IpAddr>,
    proxy_login: bool,
}

impl Client {
    /// Makes the client of a server. No connection is opened.
    ///
    /// # Errors
    /// A [`Failure`] of stage `Setup` when a CA, certificate, key or proxy cannot be used.
    pub fn new(
        server: &Server,
        identity: &Identity,
        transport: Arc<Transport>,
    ) -> Result<Client, Failure> {
        Client::build(server, identity, transport, false)
    }

    fn build(
        server: &Server,
        identity: &Identity,
        transport: Arc<Transport>,
        look_only: bool,
    ) -> Result<Client, Failure> {
        let marks = Marks::default();
        let seen = Seen::default();
        let way = proxy::way(server, identity, &transport.proxies)?;
        let mut rules = Rules::of(&server.network);
        if way.is_some() {
            // It is the proxy that is connected to.
            rules.source_address = None;
        }
        let resolver = SystemResolver {
            names: transport.names.clone(),
            rules: rules.clone(),
            marks: marks.clone(),
            proxy_host: way.as_ref().map(|way| way.host.clone()),
        };
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            // Bodies are unpacked here, within bounds; a dependency switches reqwest's own way on.
            .no_gzip()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(user_agent(server))
            .connect_timeout(server.timeouts.connect)
            .read_timeout(server.timeouts.read)
            .tcp_user_timeout(server.timeouts.write)
            .pool_max_idle_per_host(server.pool.max_connections)
            .pool_idle_timeout(server.pool.idle_timeout)
            .local_address(server.network.source_address)
            .dns_resolver(Arc::new(resolver))
            .connector_layer(ConnectMarks(marks.clone()));
        let is_tls = server.url.url().scheme() == "https";
        let mut client_certificate = None;
        let mut own_tls = None;
        if is_tls {
            let peer = Peer {
                host: &host_of(server.url.url()),
                tls_proxy: way.as_ref().is_some_and(|way| way.is_tls),
                look_only,
            };
            let (config, own) =
                tls::config(&server.tls, peer, identity, &transport.trust, &marks, &seen)?;
            client_certificate = own;
            own_tls = Some(Arc::new(config.clone()));
            builder = builder.tls_backend_preconfigured(config).https_only(true);
        } else {
            builder = builder.tls_backend_preconfigured(transport.no_tls());
        }
        let proxied = way.is_some();
        let proxy_login = way.as_ref().is_some_and(|way| way.has_login);
        if let Some(way) = way {
            builder = builder.proxy(way.proxy);
        }
        let inner = builder.build().map_err(|_| {
            Failure::new(
                Stage::Setup,
                Code::new("tls.protocol"),
                "the client cannot be set up with these settings",
            )
        })?;
        Ok(Client {
            inner,
            tls: own_tls,
            transport,
            marks,
            seen,
            rate_limit: server.rate_limit,
            total: server.timeouts.total,
            proxied,
            compression: server.compression,
            allow_insecure: server.allow_insecure,
            client_certificate,
            rules,
            source_address: server.network.source_address,
            proxy_login,
        })
    }

    /// What there is to know of the certificate that we show; `None` where none is set.
    #[must_use]
    pub fn client_certificate(&self) -> Option<&CertificateFacts> {
        self.client_certificate.as_ref()
    }

    /// The client of another address that belongs to a server's sign-in, such as its token
    /// endpoint.
    ///
    /// On the server's own host its settings hold. Elsewhere its pins, client certificate and
    /// allowed addresses do not, and its CA counts beside the system's.
    ///
    /// # Errors
    /// As [`Client::new`]; `auth.token_endpoint` when the address is none that could be asked.
    pub fn beside(
        server: &Server,
        address: &Url,
        identity: &Identity,
        transport: Arc<Transport>,
    ) -> Result<Client, Failure> {
        let mut origin = address.clone();
        origin.set_query(None);
        origin.set_fragment(None);
        let mut other = server.clone();
        other.url = BaseUrl::parse(origin.as_str()).map_err(|error| {
            Failure::new(
                Stage::Setup,
                Code::new("auth.token_endpoint"),
                format!("the address for the sign-in cannot be used: {error}"),
            )
        })?;
        let mut identity = identity.clone();
        if address.host() != server.url.url().host() {
            other.tls.pins.clear();
            other.tls.client_certificate = None;
            other.tls.ca_adds = true;
            other.network.allowed_addresses.clear();
            // An address that others name leads to no service that trusts every caller.
            other.network.metadata_service = MetadataService::Refused;
            identity.certificate_secret = None;
        }
        Client::new(&other, &identity, transport)
    }

    /// The certificate that the server showed in the last handshake, also in one that failed.
    #[must_use]
    pub fn certificate(&self) -> Option<Certificate> {
        self.seen.certificate(self.transport.clock.now())
    }

    /// The TLS version of the last handshake, such as `TLSv1.3`.
    #[must_use]
    pub fn tls_version(&self) -> Option<&'static str> {
        self.seen.version()
    }

    /// Whether requests go through a proxy, where names are its business.
    #[must_use]
    pub fn is_proxied(&self) -> bool {
        self.proxied
    }

    /// Sends one request, once, and reads the whole answer. Redirects are followed within the
    /// origin only.
    ///
    /// # Errors
    /// A [`Failure`] when no complete answer came. An answer with an error status is no failure.
    pub async fn send(&self, request: &Request<'_>) -> Result<Exchange, Failure> {
        let held_back = self.transport.admit(&request.url, self.rate_limit).await;
        let deadline = request.deadline + held_back;
        let start = Instant::now();
        let end = deadline.min(start + self.total);
        self.check_transport(&request.url, request.credential, request.body.as_ref())?;
        let mut url = request.url.clone();
        for _ in 0..=limits::REDIRECTS {
            let mut exchange = self.exchange(request, &url, start, end).await?;
            exchange.held_back = held_back;
            let Some(target) = exchange.redirect(&url) else { return Ok(exchange) };
            // What is posted is for this address alone: nothing of it is sent on.
            if target.origin() != url.origin() || request.body.is_some() {
                return Err(self.refuse_redirect(
                    &exchange,
                    &target,
                    request.credential.is_some_and(|credential| credential.confidential),
                ));
            }
            url = target;
        }
        Err(Failure::new(
            Stage::Http,
            Code::new("http.redirect_refused"),
            "the server redirects in a circle",
        ))
    }

    /// Sends one request, once; a redirect is an answer like any other. For what is public and may
    /// have moved: the caller decides where to go on.
    ///
    /// # Errors
    /// A [`Failure`] when no complete answer came.
    pub async fn send_once(&self, request: &Request<'_>) -> Result<Exchange, Failure> {
        let held_back = self.transport.admit(&request.url, self.rate_limit).await;
        let start = Instant::now();
        let end = (request.deadline + held_back).min(start + self.total);
        self.check_transport(&request.url, request.credential, request.body.as_ref())?;
        let mut exchange = self.exchange(request, &request.url, start, end).await?;
        exchange.held_back = held_back;
        Ok(exchange)
    }

    /// Sends one request of any method, once, and reads the whole answer, unpacked. A redirect is an
    /// answer like any other.
    ///
    /// # Errors
    /// A [`Failure`] when no complete answer of at most `max_body` bytes came.
    pub async fn receive(&self, call: &Call<'_>, max_body: u64) -> Result<Exchange, Failure> {
        let held_back = self.transport.admit(call.url, self.rate_limit).await;
        let start = Instant::now();
        let end = (call.deadline + held_back).min(start + self.total);
        self.check_transport(call.url, call.credential, call.body.as_ref())?;
        let request = Request {
            url: call.url.clone(),
            accept: call.accept,
            credential: call.credential,
            max_body,
            deadline: call.deadline,
            if_none_match: None,
            body: call.body,
        };
        let mut exchange =
            self.exchange_as(&call.method, call.headers, &request, call.url, start, end).await?;
        exchange.held_back = held_back;
        Ok(exchange)
    }

    /// A credential goes over TLS, to a loopback address, or nowhere; so does every request go to
    /// an allowed address.
    pub(super) fn check_transport(
        &self,
        url: &Url,
        credential: Option<&Credential>,
        body: Option<&Body<'_>>,
    ) -> Result<(), Failure> {
        let confidential = credential.is_some_and(|credential| credential.confidential)
            || body.is_some_and(|body| body.confidential);
        if confidential && url.scheme() == "http" && !self.allow_insecure && !is_loopback(url) {
            return Err(Failure::new(
                Stage::Setup,
                Code::new("auth.insecure_transport"),
                "a credential is not sent over plain HTTP",
            ));
        }
        self.check_address(url)
    }

    /// A name is checked where it is resolved.
    fn check_address(&self, url: &Url) -> Result<(), Failure> {
        let address = match url.host() {
            Some(url::Host::Ipv4(address)) => IpAddr::V4(address),
            Some(url::Host::Ipv6(address)) => IpAddr::V6(address),
            _ => return Ok(()),
        };
        self.rules.check_literal(&target_of(url), address).map_err(|refused| refused.failure())
    }

    async fn exchange(
        &self,
        request: &Request<'_>,
        url: &Url,
        start: Instant,
        end: Instant,
    ) -> Result<Exchange, Failure> {
        let method = if request.body.is_some() { Method::POST } else { Method::GET };
        self.exchange_as(&method, &[], request, url, start, end).await
    }

    async fn exchange_as(
        &self,
        method: &Method,
        extra: &[(HeaderName, HeaderValue)],
        request: &Request<'_>,
        url: &Url,
        start: Instant,
        end: Instant,
    ) -> Result<Exchange, Failure> {
        let request_id = Uuid::new_v4().to_string();
        let mut headers = self.request_headers(request, &request_id);
        for (name, value) in extra {
            headers.insert(name.clone(), value.clone());
        }
        let body = request.body.as_ref().map(|body| body.bytes).unwrap_or_default();
        let sent_url = prove(request.credential, method, url, body, &mut headers).await?;
        let secrets = Sent::of(&headers, request.credential, request.body.as_ref());
        self.marks.reset();
        let mut prepared = self.inner.request(method.clone(), sent_url).headers(headers);
        if let Some(body) = &request.body {
            prepared = prepared.body(body.bytes.to_vec());
        }
        let sent = prepared.send();
        let mut http = HttpFacts { request_id: Some(request_id), ..HttpFacts::default() };
        let answer = tokio::time::timeout_at(end.into(), sent).await;
        let first_byte = Instant::now();
        let mut response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let failure =
                    self.with_circumstances(url, start, |known| classify::request(&error, known));
                let failure = self.broken(failure, method, url, start, None, http);
                return Err(self.reason_of_refusal(failure, url, end).await);
            }
            Err(_) => {
                let failure = self.with_circumstances(url, start, classify::timeout);
                return Err(self.broken(failure, method, url, start, None, http));
            }
        };
        let received_at = self.transport.clock.now();
        self.note_answer(&mut http, &response, received_at);
        let read = body::read(&mut response, request.max_body, &self.transport.large_bodies);
        let (result, wire_bytes) = match tokio::time::timeout_at(end.into(), read).await {
            Ok(read) => read,
            Err(_) => {
                let failure = self.with_circumstances(url, start, classify::timeout);
                return Err(self.broken(failure, method, url, start, Some(first_byte), http));
            }
        };
        http.wire_bytes = wire_bytes;
        match result {
            Ok(mut body) => {
                secrets.taken_out_of(response.headers_mut(), &mut body);
                http.body_bytes = body.len() as u64;
                let timing = self.marks.snapshot().timing(start, Some(first_byte), Instant::now());
                self.trace(method, url, &http, &timing, None);
                Ok(Exchange {
                    http,
                    timing,
                    headers: std::mem::take(response.headers_mut()),
                    body,
                    held_back: Duration::ZERO,
                    signed: request
                        .credential
                        .is_some_and(|credential| credential.signer.is_some()),
                    received_at,
                })
            }
            Err(error) => {
                let failure = self.body_failure(error, url, start, wire_bytes, request.max_body);
                Err(self.broken(failure, method, url, start, Some(first_byte), http))
            }
        }
    }

    /// Names what broke while a body was read.
    fn body_failure(
        &self,
        error: BodyError,
        url: &Url,
        start: Instant,
        wire_bytes: u64,
        max_body: u64,
    ) -> Failure {
        let (code, message) = match error {
            BodyError::TooLarge => (
                "http.too_large",
                format!("the answer is longer than {} MiB", body::wire_limit(max_body) >> 20),
            ),
            BodyError::DecompressionLimit => (
                "http.decompression_limit",
                format!("{wire_bytes} bytes unpack to more than {} MiB", max_body >> 20),
            ),
            BodyError::BadEncoding(reason) => {
                ("http.bad_encoding", format!("the body cannot be unpacked: {reason}"))
            }
            BodyError::Transport(error) => {
                return self.with_circumstances(url, start, |known| classify::body(&error, known));
            }
        };
        Failure::new(Stage::Http, Code::new(code), message)
    }

    fn request_headers(&self, request: &Request<'_>, request_id: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Ok(accept) = HeaderValue::from_str(request.accept) {
            headers.insert(header::ACCEPT, accept);
        }
        let encoding =
            if self.compression { ACCEPT_ENCODING } else { HeaderValue::from_static("identity") };
        headers.insert(header::ACCEPT_ENCODING, encoding);
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(X_REQUEST_ID, id);
        }
        if let Some(tag) = request.if_none_match.and_then(|tag| HeaderValue::from_str(tag).ok()) {
            headers.insert(header::IF_NONE_MATCH, tag);
        }
        if let Some(body) = &request.body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(body.content_type));
        }
        for (name, value) in request.credential.iter().flat_map(|credential| &credential.headers) {
            headers.insert(name.clone(), value.clone());
        }
        headers
    }

    fn note_answer(&self, http: &mut HttpFacts, response: &reqwest::Response, now: Timestamp) {
        let text =
            |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        let bounded =
            |text: &str| crate::model::text::one_line(&crate::model::text::bounded(text, 200));
        http.status = Some(response.status().as_u16());
        http.version = Some(version(response.version()).to_owned());
        http.content_type = text(header::CONTENT_TYPE).map(bounded);
        http.server_request_id = text(X_REQUEST_ID)
            .filter(|id| Some(*id) != http.request_id.as_deref())
            .or_else(|| text(X_CORRELATION_ID))
            .map(bounded);
        http.remote_address = response.remote_addr().map(|address| address.to_string());
        http.server_date = text(header::DATE).and_then(super::retry::parse_http_date);
        http.clock_skew_ms =
            http.server_date.map(|date| now.as_millisecond() - date.as_millisecond());
        http.retry_after_ms = text(header::RETRY_AFTER)
            .and_then(|value| parse_retry_after(value, now))
            .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    }

    fn with_circumstances(
        &self,
        url: &Url,
        start: Instant,
        name: impl FnOnce(&Circumstances<'_>) -> Failure,
    ) -> Failure {
        name(&Circumstances {
            target: &target_of(url),
            instants: self.marks.snapshot(),
            seen: &self.seen,
            proxied: self.proxied,
            proxy_login: self.proxy_login,
            has_client_certificate: self.client_certificate.is_some(),
            source_address: self.source_address,
            waited: start.elapsed().as_secs_f64(),
        })
    }

    fn broken(
        &self,
        mut failure: Failure,
        method: &Method,
        url: &Url,
        start: Instant,
        first_byte: Option<Instant>,
        http: HttpFacts,
    ) -> Failure {
        let timing = self.marks.snapshot().timing(start, first_byte, Instant::now());
        self.trace(method, url, &http, &timing, Some(&failure));
        failure.timing = Some(timing);
        // Below HTTP no request was sent: there is nothing to show a vendor.
        failure.http = (failure.stage == Stage::Http).then_some(http);
        failure
    }

    fn refuse_redirect(&self, exchange: &Exchange, target: &Url, has_credential: bool) -> Failure {
        let mut message = format!(
            "the server redirects to another origin, {}",
            target.origin().ascii_serialization()
        );
        if has_credential {
            message.push_str("; the credential was not sent there");
        }
        let mut failure = Failure::new(Stage::Http, Code::new("http.redirect_refused"), message);
        failure.timing = Some(exchange.timing);
        failure.http = Some(exchange.http.clone());
        failure
    }

    fn trace(
        &self,
        method: &Method,
        url: &Url,
        http: &HttpFacts,
        timing: &Timing,
        failure: Option<&Failure>,
    ) {
        let Some(trace) = &self.transport.trace else { return };
        let outcome = match (failure, http.status) {
            (Some(failure), _) => failure.code.to_string(),
            (None, Some(status)) => status.to_string(),
            (None, None) => "no answer".to_owned(),
        };
        // Nothing of a body was read yet where it is read piece by piece.
        let bytes = match http.wire_bytes {
            0 => String::new(),
            bytes => format!(" {bytes} bytes,"),
        };
        trace(&format!(
            "{method} {} → {outcome}, {:.1} ms,{bytes} X-Request-Id {}",
            without_values(url),
            timing.total_ms,
            http.request_id.as_deref().unwrap_or("-"),
        ));
    }
}

/// The host as the TLS library names it: an IPv6 address without its brackets.
pub(super) fn host_of(url: &Url) -> String {
    match url.host() {
        Some(url::Host::Domain(name)) => name.to_owned(),
        Some(url::Host::Ipv4(address)) => address.to_string(),
        Some(url::Host::Ipv6(address)) => address.to_string(),
        None => String::new(),
    }
}

/// `fhirctl/1.2.3 (fhir-ops@example.org)`: who asks, and whom to write to.
pub(super) fn user_agent(server: &Server) -> HeaderValue {
    const PLAIN: &str = concat!("fhirctl/", env!("CARGO_PKG_VERSION"));
    let contact = server.contact.email.as_deref().or(server.contact.name.as_deref());
    contact
        .and_then(|contact| HeaderValue::from_str(&format!("{PLAIN} ({contact})")).ok())
        .unwrap_or(HeaderValue::from_static(PLAIN))
}

/// The URL as it is sent. Where the credential signs, the headers of its signature are added.
async fn prove(
    credential: Option<&Credential>,
    method: &Method,
    url: &Url,
    body: &[u8],
    headers: &mut HeaderMap,
) -> Result<Url, Failure> {
    let url = with_key(url, credential);
    let Some(signer) = credential.and_then(|credential| credential.signer.as_ref()) else {
        return Ok(url);
    };
    let url = signing::strictly_encoded(url);
    let unsigned = Unsigned {
        method: method.clone(),
        url: url.clone(),
        headers: headers.clone(),
        body: body.to_vec(),
    };
    for (name, value) in signer(unsigned).await? {
        headers.insert(name, value);
    }
    Ok(url)
}

pub(super) fn with_key(url: &Url, credential: Option<&Credential>) -> Url {
    let mut url = url.clone();
    if let Some((name, value)) = credential.and_then(|credential| credential.query.as_ref()) {
        url.query_pairs_mut().append_pair(name, value.expose());
    }
    url
}

pub(super) fn target_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("the server");
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// A URL that may be logged: names of parameters, no values, no record's id.
fn without_values(url: &Url) -> String {
    let mut shown = url[..url::Position::AfterPath].to_owned();
    let names: Vec<_> = url.query_pairs().map(|(name, _)| format!("{name}=…")).collect();
    if !names.is_empty() {
        shown.push('?');
        shown.push_str(&names.join("&"));
    }
    shown
}

fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "http/0.9",
        http::Version::HTTP_10 => "http/1.0",
        http::Version::HTTP_2 => "h2",
        http::Version::HTTP_3 => "h3",
        _ => "http/1.1",
    }
}
