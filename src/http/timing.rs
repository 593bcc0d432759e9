//! The instants of one exchange, noted where they happen.
//!
//! The resolver notes the name lookup, the TLS session store is asked the moment a handshake
//! starts, and a layer around the connector notes when the connection was asked for and when it was
//! ready. Nothing is derived from guesses.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use tower::{Layer, Service};

use super::Stage;
use crate::model::Timing;

/// Shared by the hooks of one client.
#[derive(Clone, Debug, Default)]
pub struct Marks(Arc<Mutex<Instants>>);

#[derive(Clone, Copy, Debug, Default)]
pub struct Instants {
    pub dns_start: Option<Instant>,
    pub dns_end: Option<Instant>,
    pub connect_start: Option<Instant>,
    pub tls_start: Option<Instant>,
    /// The connection was ready for a request.
    pub ready: Option<Instant>,
}

impl Marks {
    pub fn reset(&self) {
        self.with(|marks| *marks = Instants::default());
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut Instants) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[must_use]
    pub fn snapshot(&self) -> Instants {
        self.with(|marks| *marks)
    }
}

impl Instants {
    /// The stage that was going on when nothing more was noted.
    #[must_use]
    pub fn pending(&self) -> Stage {
        if self.ready.is_some() || self.connect_start.is_none() {
            Stage::Http
        } else if self.tls_start.is_some() {
            Stage::Tls
        } else if self.dns_start.is_some() && self.dns_end.is_none() {
            Stage::Dns
        } else {
            Stage::Tcp
        }
    }

    /// The phases in order; `first_byte` and `end` are set when they were reached.
    #[must_use]
    pub fn timing(&self, start: Instant, first_byte: Option<Instant>, end: Instant) -> Timing {
        let span = |from: Option<Instant>, to: Option<Instant>| match (from, to) {
            (Some(from), Some(to)) => Some(millis(from, to)),
            _ => None,
        };
        let tcp_from = self.dns_end.or(self.connect_start);
        Timing {
            dns_ms: span(self.dns_start, self.dns_end),
            connect_ms: span(tcp_from, self.tls_start.or(self.ready)),
            tls_ms: span(self.tls_start, self.ready),
            first_byte_ms: span(self.ready.or(Some(start)), first_byte),
            transfer_ms: span(first_byte, Some(end)).filter(|_| first_byte.is_some()),
            total_ms: millis(start, end),
        }
    }
}

pub fn millis(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1000.0
}

/// Notes when a connection is asked for and when it is ready, TLS included.
#[derive(Clone, Debug)]
pub struct ConnectMarks(pub Marks);

impl<S> Layer<S> for ConnectMarks {
    type Service = MarkedConnector<S>;

    fn layer(&self, inner: S) -> MarkedConnector<S> {
        MarkedConnector { inner, marks: self.0.clone() }
    }
}

#[derive(Clone, Debug)]
pub struct MarkedConnector<S> {
    inner: S,
    marks: Marks,
}

impl<S, R> Service<R> for MarkedConnector<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
    S::Response: 'static,
    S::Error: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, target: R) -> Self::Future {
        self.marks.with(|marks| {
            *marks = Instants { connect_start: Some(Instant::now()), ..Instants::default() };
        });
        let marks = self.marks.clone();
        self.inner
            .call(target)
            .map(move |result| {
                if result.is_ok() {
                    marks.with(|marks| marks.ready = Some(Instant::now()));
                }
                result
            })
            .boxed()
    }
}

/// A session store that keeps nothing: a probe always makes a full handshake. The library asks it
/// for a key-exchange hint as the first thing of a handshake, and that is the mark.
#[derive(Debug)]
pub struct HandshakeMark(pub Marks);

impl ClientSessionStore for HandshakeMark {
    fn set_kx_hint(&self, _name: ServerName<'static>, _group: rustls::NamedGroup) {}

    fn kx_hint(&self, _name: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        self.0.with(|marks| {
            marks.tls_start.get_or_insert_with(Instant::now);
        });
        None
    }

    fn set_tls12_session(&self, _name: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _name: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _name: ServerName<'static>, _value: Tls13ClientSessionValue) {}

    fn take_tls13_ticket(&self, _name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}
