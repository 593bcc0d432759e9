//! An exchange whose answer is read piece by piece: for what is too large to hold.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use jiff::Timestamp;
use url::Url;
use uuid::Uuid;

use super::{Client, prove};
use crate::http::exchange::{Call, Request};
use crate::http::{Failure, Stage, body, classify, parse_retry_after};
use crate::model::{Code, HttpFacts};

/// The head of an answer; its body is still on its way.
///
/// The body is as it comes over the wire: `Content-Encoding` is the caller's business.
pub struct Answer {
    client: Arc<Client>,
    response: reqwest::Response,
    url: Url,
    start: Instant,
    received_at: Timestamp,
    request_id: String,
}

impl Client {
    /// Sends one request, once, and comes back with the head of the answer. A redirect is an answer
    /// like any other. Between two pieces of the body at most `timeouts.read` may pass; there is no
    /// bound on the whole.
    ///
    /// # Errors
    /// A [`Failure`] when no answer came before the call's deadline.
    pub async fn open(self: &Arc<Self>, call: &Call<'_>) -> Result<Answer, Failure> {
        let start = Instant::now();
        self.check_transport(call.url, call.credential, call.body.as_ref())?;
        let request_id = Uuid::new_v4().to_string();
        let mut headers = self.request_headers(
            &Request {
                url: call.url.clone(),
                accept: call.accept,
                credential: call.credential,
                max_body: 0,
                deadline: call.deadline,
                if_none_match: None,
                body: call.body,
            },
            &request_id,
        );
        for (name, value) in call.headers {
            headers.insert(name.clone(), value.clone());
        }
        let bytes = call.body.as_ref().map(|body| body.bytes).unwrap_or_default();
        let sent_url = prove(call.credential, &call.method, call.url, bytes, &mut headers).await?;
        self.marks.reset();
        let mut prepared = self.inner.request(call.method.clone(), sent_url).headers(headers);
        if !bytes.is_empty() {
            prepared = prepared.body(bytes.to_vec());
        }
        self.answer(prepared, &call.method, call.url, request_id, start, call.deadline).await
    }

    /// Sends a request that another library has worded and signed: nothing is added but the name
    /// of this program. Otherwise as [`open`](Client::open).
    ///
    /// # Errors
    /// A [`Failure`] when no answer came before the deadline.
    pub async fn pass(
        self: &Arc<Self>,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let start = Instant::now();
        self.check_address(url)?;
        self.marks.reset();
        let mut prepared = self.inner.request(method.clone(), url.clone()).headers(headers);
        if !body.is_empty() {
            prepared = prepared.body(body);
        }
        self.answer(prepared, &method, url, String::new(), start, deadline).await
    }

    async fn answer(
        self: &Arc<Self>,
        prepared: reqwest::RequestBuilder,
        method: &Method,
        url: &Url,
        request_id: String,
        start: Instant,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let mut http = HttpFacts {
            request_id: Some(request_id.clone()).filter(|id| !id.is_empty()),
            ..HttpFacts::default()
        };
        match tokio::time::timeout_at(deadline.into(), prepared.send()).await {
            Ok(Ok(response)) => {
                let received_at = self.transport.clock.now();
                self.note_answer(&mut http, &response, received_at);
                let timing =
                    self.marks.snapshot().timing(start, Some(Instant::now()), Instant::now());
                self.trace(method, url, &http, &timing, None);
                let (client, url) = (Arc::clone(self), url.clone());
                Ok(Answer { client, response, url, start, received_at, request_id })
            }
            Ok(Err(error)) => {
                let failure =
                    self.with_circumstances(url, start, |known| classify::request(&error, known));
                let failure = self.broken(failure, method, url, start, None, http);
                Err(self.reason_of_refusal(failure, url, deadline).await)
            }
            Err(_) => {
                let failure = self.with_circumstances(url, start, classify::timeout);
                Err(self.broken(failure, method, url, start, None, http))
            }
        }
    }

    /// Waits until the server's rate limit lets another request through.
    pub async fn admit(&self, url: &Url) -> Duration {
        self.transport.admit(url, self.rate_limit).await
    }
}

impl Answer {
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header's text; bytes beyond ASCII are kept as well as they can be.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let value = self.response.headers().get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// The address that answered.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Our own id of this request, as the server saw it.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// How long the server asks us to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        parse_retry_after(&self.header("retry-after")?, self.received_at)
    }

    /// Where it redirects to, when it does.
    #[must_use]
    pub fn redirect(&self) -> Option<Url> {
        if !matches!(self.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        self.url.join(&self.header("location")?).ok()
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// A [`Failure`] when it breaks off or stalls.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        self.response.chunk().await.map_err(|error| {
            self.client
                .with_circumstances(&self.url, self.start, |known| classify::body(&error, known))
        })
    }

    /// The rest of the body, as libraries take one.
    pub fn into_body(self) -> impl Body<Data = Bytes, Error = Failure> + Send + Sync + 'static {
        let Answer { client, response, url, start, .. } = self;
        let body = http::Response::<reqwest::Body>::from(response).into_body();
        body.map_err(move |error| {
            client.with_circumstances(&url, start, |known| classify::body(&error, known))
        })
    }

    /// The whole body, unpacked, when it is at most so long; for answers that speak of the work.
    ///
    /// # Errors
    /// A [`Failure`] when it is longer, breaks off or is not there by the deadline.
    pub async fn whole(mut self, max_body: u64, deadline: Instant) -> Result<Vec<u8>, Failure> {
        let slots = &self.client.transport.large_bodies;
        let read = body::read(&mut self.response, max_body, slots);
        match tokio::time::timeout_at(deadline.into(), read).await {
            Ok((Ok(bytes), _)) => Ok(bytes),
            Ok((Err(error), wire_bytes)) => {
                Err(self.client.body_failure(error, &self.url, self.start, wire_bytes, max_body))
            }
            Err(_) => Err(Failure::new(
                Stage::Http,
                Code::new("http.timeout"),
                "the answer did not come to its end in time",
            )),
        }
    }

    /// Whether the body may be asked for again from a place in it (RFC 9110 §14): the server says
    /// so, the bytes are those of the file, and a strong tag tells whether it changed.
    #[must_use]
    pub fn resumable_tag(&self) -> Option<String> {
        let accepts = self.header("accept-ranges").is_some_and(|units| units.trim() == "bytes");
        let is_plain = !self.headers().contains_key(header::CONTENT_ENCODING);
        let tag = self.header("etag").filter(|tag| tag.starts_with('"'))?;
        (accepts && is_plain).then_some(tag)
    }
}
