//! One connection: opened under the server's rules, and driven by the task that uses it.

use std::error::Error as StdError;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;
use tokio_rustls::TlsConnector;

use super::{Head, Likeness};
use crate::http::classify::{self, Circumstances};
use crate::http::client::{host_of, target_of};
use crate::http::dial::dial;
use crate::http::resolve::{Rules, addresses};
use crate::http::timing::{Instants, Marks};
use crate::http::tls::{self, Peer, Seen};
use crate::http::{Failure, Identity, Stage, Transport};
use crate::model::Code;
use crate::model::server::Server;

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

type Driver = http1::Connection<TokioIo<Box<dyn Wire>>, Full<Bytes>>;

/// Opens connections to one server.
pub struct Opener {
    /// Looked up once, so that every connection leads to the same place.
    addresses: Vec<SocketAddr>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    seen: Seen,
    source_address: Option<IpAddr>,
    has_client_certificate: bool,
    connect: Duration,
    target: String,
}

/// An open connection.
pub struct Open {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Pin<Box<Driver>>,
    is_over: bool,
    /// Whether it has brought an answer: only then is it no surprise that it ends.
    is_used: bool,
}

/// Why a request has no answer.
pub enum Broken {
    /// The connection, used before, had ended: nothing was sent.
    NotSent,
    Failed(Box<Failure>),
}

impl Broken {
    fn failed(failure: Failure) -> Broken {
        Broken::Failed(Box::new(failure))
    }
}

/// A complete answer.
pub struct Answered {
    pub status: u16,
    /// Of the body, over the wire.
    pub bytes: u64,
    /// Whether it could be a good answer, by its media type and by whether there is a body.
    pub is_alike: bool,
}

impl Opener {
    /// # Errors
    /// When the settings make no connection, or the name leads nowhere.
    pub async fn new(
        server: &Server,
        identity: &Identity,
        transport: &Transport,
    ) -> Result<Opener, Failure> {
        let url = server.url.url();
        let seen = Seen::default();
        let mut has_client_certificate = false;
        let tls = if url.scheme() == "https" {
            let host = host_of(url);
            let peer = Peer { host: &host, tls_proxy: false, look_only: false };
            let marks = Marks::default();
            let (mut config, own) =
                tls::config(&server.tls, peer, identity, &transport.trust, &marks, &seen)?;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            has_client_certificate = own.is_some();
            let name = ServerName::try_from(host).map_err(|_| {
                Failure::new(
                    Stage::Setup,
                    Code::new("tls.hostname_mismatch"),
                    format!("{} is no name that a certificate could have", target_of(url)),
                )
            })?;
            Some((TlsConnector::from(Arc::new(config)), name))
        } else {
            None
        };
        Ok(Opener {
            addresses: addresses(&transport.names, &Rules::of(&server.network), url).await?,
            tls,
            seen,
            source_address: server.network.source_address,
            has_client_certificate,
            connect: server.timeouts.connect,
            target: target_of(url),
        })
    }

    /// Opens one more.
    ///
    /// # Errors
    /// Why there is none, by the layer that it broke at.
    pub async fn open(&self) -> Result<Open, Failure> {
        let start = Instant::now();
        let mut instants = Instants { connect_start: Some(start), ..Instants::default() };
        let opened = self.wire(&mut instants);
        match tokio::time::timeout(self.connect, opened).await {
            Ok(opened) => opened.map_err(|error| {
                self.failed(instants, start, |known| classify::chain(error.as_ref(), known))
            }),
            Err(_) => Err(self.failed(instants, start, classify::timeout)),
        }
    }

    async fn wire(&self, instants: &mut Instants) -> Result<Open, Box<dyn StdError + Send + Sync>> {
        let stream = dial(&self.addresses, self.source_address).await?;
        let wire: Box<dyn Wire> = match &self.tls {
            Some((connector, name)) => {
                instants.tls_start = Some(Instant::now());
                Box::new(connector.connect(name.clone(), stream).await?)
            }
            None => Box::new(stream),
        };
        instants.ready = Some(Instant::now());
        let (sender, driver) = http1::handshake(TokioIo::new(wire)).await?;
        Ok(Open { sender, driver: Box::pin(driver), is_over: false, is_used: false })
    }

    /// Names what broke an exchange on an open connection.
    fn broken(&self, start: Instant, error: &hyper::Error) -> Failure {
        self.failed(in_exchange(start), start, |known| classify::chain(error, known))
    }

    /// Names a connection that ended before anything could be sent.
    fn closed(&self, start: Instant) -> Failure {
        let error = std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
        let name = |known: &Circumstances<'_>| classify::chain(&error, known);
        self.failed(in_exchange(start), start, name)
    }

    fn too_slow(&self, start: Instant) -> Failure {
        self.failed(in_exchange(start), start, classify::timeout)
    }

    fn failed(
        &self,
        instants: Instants,
        start: Instant,
        name: impl FnOnce(&Circumstances<'_>) -> Failure,
    ) -> Failure {
        name(&Circumstances {
            target: &self.target,
            instants,
            seen: &self.seen,
            proxied: false,
            proxy_login: false,
            has_client_certificate: self.has_client_certificate,
            source_address: self.source_address,
            waited: start.elapsed().as_secs_f64(),
        })
    }
}

/// As it stands while an answer is awaited.
fn in_exchange(start: Instant) -> Instants {
    Instants { connect_start: Some(start), ready: Some(start), ..Instants::default() }
}

impl Open {
    /// Sends one request, begun at `start`, and reads its answer to the end.
    ///
    /// # Errors
    /// When there is no complete answer before `deadline`; the connection is of no more use then.
    pub async fn exchange(
        &mut self,
        opener: &Opener,
        (head, likeness): (&Head, &Likeness),
        patience: &mut Patience,
        start: Instant,
        deadline: Instant,
    ) -> Result<Answered, Broken> {
        let mut request = Request::new(Full::new(head.body.clone()));
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.uri.clone();
        *request.headers_mut() = head.headers.clone();
        let Open { sender, driver, is_over, is_used } = self;
        let mut work = pin!(async {
            if poll_fn(|context| sender.poll_ready(context)).await.is_err() {
                return Err(None::<hyper::Error>);
            }
            let response = sender.send_request(request).await.map_err(Some)?;
            let status = response.status().as_u16();
            let takes = likeness.takes(response.headers().get(http::header::CONTENT_TYPE));
            let mut body = response.into_body();
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(Some)?;
                bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            let is_alike = takes && (bytes > 0 || !likeness.has_body);
            Ok(Answered { status, bytes, is_alike })
        });
        let mut has_begun = false;
        let mut drive = |context: &mut Context<'_>| {
            // What the driver brings is looked at behind it; before it there is only the first word.
            if (!std::mem::replace(&mut has_begun, true) || *is_over)
                && let Poll::Ready(done) = work.as_mut().poll(context)
            {
                return Poll::Ready(Some(done));
            }
            if !*is_over {
                // Its errors come to the request, too.
                *is_over = driver.as_mut().poll(context).is_ready();
                if let Poll::Ready(done) = work.as_mut().poll(context) {
                    return Poll::Ready(Some(done));
                }
            }
            patience.poll(context, deadline).map(|()| None)
        };
        match poll_fn(&mut drive).await {
            Some(Ok(answered)) => {
                *is_used = true;
                Ok(answered)
            }
            Some(Err(None)) if *is_used => Err(Broken::NotSent),
            Some(Err(Some(error))) if *is_used && error.is_canceled() => Err(Broken::NotSent),
            Some(Err(None)) => Err(Broken::failed(opener.closed(start))),
            Some(Err(Some(error))) => Err(Broken::failed(opener.broken(start, &error))),
            None => Err(Broken::failed(opener.too_slow(start))),
        }
    }

    /// Waits, and notices meanwhile when the other side ends the connection.
    pub async fn idle(&mut self, until: Instant) {
        let mut sleep = pin!(tokio::time::sleep_until(until.into()));
        poll_fn(|context| {
            if !self.is_over {
                self.is_over = self.driver.as_mut().poll(context).is_ready();
            }
            sleep.as_mut().poll(context)
        })
        .await;
    }

    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over || self.sender.is_closed()
    }
}

/// The timeout of one request after the other, on one timer: it is set anew only when it rings.
pub struct Patience(Pin<Box<Sleep>>);

impl Patience {
    #[must_use]
    pub fn new(first: Instant) -> Patience {
        Patience(Box::pin(tokio::time::sleep_until(first.into())))
    }

    /// Ready once the deadline has passed; no deadline may be before the one of an earlier call.
    fn poll(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        loop {
            std::task::ready!(self.0.as_mut().poll(context));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(deadline.into());
        }
    }
}
