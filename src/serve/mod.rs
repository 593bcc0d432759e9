//! The one listener: whatever answers HTTP here stands on it.
//!
//! Enters: a bound socket and a [`Handler`]. Leaves: answers on the wire, HTTP/1.1 or HTTP/2, with
//! or without TLS, and also the ways in which a connection can break on purpose. Called by sandbox and bulk.
//! No other room knows the listener library.

mod body;
mod connection;
mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

pub use body::{Body, Piece};
pub use connection::{Listening, Port};
pub use tls::Tls;

/// Most bytes of one request body where the handler says no other; a longer one reaches the handler as [`Received::TooLarge`].
pub const REQUEST_BODY_BYTES: usize = 1024 * 1024;
/// Most connections of one listener at once; further ones wait in the system's queue.
pub const CONNECTIONS: usize = 1024;

/// One request, read to its end.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// As it was sent, still percent-encoded, with its leading slash.
    pub path: String,
    /// Without its question mark, still percent-encoded.
    pub query: Option<String>,
    pub headers: HeaderMap,
    /// The host and port that the client asked for: `Host`, or `:authority` of HTTP/2.
    pub authority: Option<String>,
    pub body: Received,
}

/// What came as the body of a request.
#[derive(Clone, Debug)]
pub enum Received {
    Whole(Bytes),
    /// More than [`Handler::body_limit`]; what came is thrown away.
    TooLarge,
}

/// What goes back: an answer, or a broken connection.
#[derive(Debug)]
pub enum Answer {
    Reply(Response<Body>),
    /// The connection is closed without an answer.
    Close,
    /// The connection is reset (TCP RST) without an answer.
    Reset,
}

/// Answers the requests of one listener.
pub trait Handler: Send + Sync + 'static {
    fn handle(&self, request: Request) -> impl Future<Output = Answer> + Send;

    /// Whether who connects from this address is served at all; others are cut off without a word.
    fn admits(&self, _peer: std::net::IpAddr) -> bool {
        true
    }

    /// Most bytes of one request body.
    fn body_limit(&self) -> usize {
        REQUEST_BODY_BYTES
    }

    /// The certificate for the next connection; `None`: no TLS. Asked once per connection.
    fn tls(&self) -> Option<Arc<Tls>> {
        None
    }
}

/// Serves on a port in background tasks until the returned value is dropped.
///
/// # Errors
/// When the socket cannot be handed to the runtime.
pub fn serve<H: Handler>(port: Port, handler: Arc<H>) -> std::io::Result<Listening> {
    connection::serve(port, handler)
}

/// Binds a port and listens on it. Port 0: one that the system picks.
///
/// # Errors
/// As the system says: in use, not permitted, no such address.
pub fn bind(address: SocketAddr) -> std::io::Result<Port> {
    connection::bind(address)
}

/// Binds a port without listening: every connection to it is refused, and no other process can
/// take it meanwhile.
///
/// # Errors
/// As the system says.
pub fn bind_deaf(address: SocketAddr) -> std::io::Result<connection::Deaf> {
    connection::bind_deaf(address)
}

pub use connection::Deaf;
