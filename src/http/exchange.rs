//! What goes to a server and what comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use url::Url;

use super::{Failure, parse_retry_after};
use crate::model::{HttpFacts, Secret, Timing};

/// Signs a request whose method, URL, headers and body are complete; gives the headers to add.
///
/// The URL is the one that is sent. Its query is strictly encoded.
pub type Signer = Arc<
    dyn Fn(Unsigned) -> BoxFuture<'static, Result<Vec<(HeaderName, HeaderValue)>, Failure>>
        + Send
        + Sync,
>;

/// A request as a [`Signer`] sees it.
#[derive(Debug)]
pub struct Unsigned {
    pub method: http::Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// What proves who we are, ready to be put into a request. It is for one origin only.
#[derive(Clone, Default)]
pub struct Credential {
    /// Values are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// An API key in the query.
    pub query: Option<(String, Secret)>,
    /// Whether there is a secret in it, which is not for everyone's ears.
    pub confidential: bool,
    /// Proves each request by a signature over it.
    pub signer: Option<Signer>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("headers", &self.headers)
            .field("query", &self.query)
            .field("confidential", &self.confidential)
            .field("signs", &self.signer.is_some())
            .finish()
    }
}

/// What a `POST` carries.
#[derive(Clone, Copy)]
pub struct Body<'a> {
    pub content_type: &'static str,
    pub bytes: &'a [u8],
    /// Whether there is a secret in it.
    pub confidential: bool,
}

impl std::fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({}, {} bytes)", self.content_type, self.bytes.len())
    }
}

/// One `GET`, or one `POST` when there is a body.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub url: Url,
    pub accept: &'a str,
    pub credential: Option<&'a Credential>,
    /// Most bytes of the body after decompression.
    pub max_body: u64,
    /// The instant by which an answer has to be there, whatever the timeouts say.
    pub deadline: Instant,
    /// An entity tag to revalidate against (RFC 9110 §13.1.2).
    pub if_none_match: Option<&'a str>,
    pub body: Option<Body<'a>>,
}

/// One request of any method, whose answer is read piece by piece.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    pub method: http::Method,
    pub url: &'a Url,
    pub accept: &'a str,
    /// Beside those of every request, or in their place.
    pub headers: &'a [(HeaderName, HeaderValue)],
    pub body: Option<Body<'a>>,
    pub credential: Option<&'a Credential>,
    /// The instant by which the head of the answer has to be there.
    pub deadline: Instant,
}

/// A complete answer.
#[derive(Debug)]
pub struct Exchange {
    pub http: HttpFacts,
    pub timing: Timing,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// How long our own rate limit held the request back before it was sent.
    pub held_back: Duration,
    /// Whether the request was proved by a signature over it.
    pub signed: bool,
    pub(super) received_at: Timestamp,
}

impl Exchange {
    /// Where it redirects to from this URL, when it does.
    #[must_use]
    pub fn redirect(&self, url: &Url) -> Option<Url> {
        if !matches!(self.status(), 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        url.join(self.header("location")?).ok()
    }

    #[must_use]
    pub fn status(&self) -> u16 {
        self.http.status.unwrap_or(0)
    }

    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.header("content-type")
    }

    /// How long the server asks us to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        parse_retry_after(self.header("retry-after")?, self.received_at)
    }
}
