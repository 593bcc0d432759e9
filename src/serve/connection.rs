//! Sockets, the accept loop, and one task per connection.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, JoinSet};

use super::body::WireBody;
use super::{Answer, CONNECTIONS, Handler, Received, Request};

/// How long a client may take for a TLS handshake, a request head, or a request body.
const PATIENCE: Duration = Duration::from_secs(30);

/// A port that is listened on; connections queue until it is served.
#[derive(Debug)]
pub struct Port {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl Port {
    /// With the port that the system picked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A port that is held but not listened on.
#[derive(Debug)]
pub struct Deaf {
    _socket: Socket,
    address: SocketAddr,
}

impl Deaf {
    /// With the port that the system picked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A listener at work; it stops, with all its connections, when this is dropped.
#[derive(Debug)]
pub struct Listening {
    task: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn bind(address: SocketAddr) -> io::Result<Port> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A port that was just given up can be taken again at once.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    let listener: std::net::TcpListener = socket.into();
    let address = listener.local_addr()?;
    Ok(Port { listener, address })
}

pub(super) fn bind_deaf(address: SocketAddr) -> io::Result<Deaf> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&address.into())?;
    let address = socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("the socket has no internet address"))?;
    Ok(Deaf { _socket: socket, address })
}

pub(super) fn serve<H: Handler>(port: Port, handler: Arc<H>) -> io::Result<Listening> {
    let listener = tokio::net::TcpListener::from_std(port.listener)?;
    let task = tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        // Dropped with this task, and every connection with it.
        let mut connections = JoinSet::new();
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let stream = loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => break stream,
                        // Out of file descriptors, or a client that has gone already.
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    },
                    Some(_) = connections.join_next() => {}
                }
            };
            let handler = handler.clone();
            connections.spawn(async move {
                connection(stream, handler).await;
                drop(place);
            });
        }
    });
    Ok(Listening { task: task.abort_handle() })
}

/// Serves one connection until it ends or is to be broken. Nobody is there to be told of a client
/// that went away.
async fn connection<H: Handler>(stream: TcpStream, handler: Arc<H>) {
    if stream.peer_addr().is_ok_and(|peer| !handler.admits(peer.ip())) {
        return;
    }
    let _ = stream.set_nodelay(true);
    let breaker = Breaker::default();
    let wire = Wire { stream, reset: breaker.reset.clone() };
    match handler.tls() {
        None => exchange(wire, handler, breaker).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.acceptor.accept(wire)).await
            {
                exchange(stream, handler, breaker).await;
            }
        }
    }
}

/// How a request in flight breaks its own connection.
#[derive(Clone, Default)]
struct Breaker {
    broken: Arc<Notify>,
    reset: Arc<AtomicBool>,
}

async fn exchange<H: Handler, S>(stream: S, handler: Arc<H>, breaker: Breaker)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(128);
    let service = {
        let breaker = breaker.clone();
        service_fn(move |request| respond(request, handler.clone(), breaker.clone()))
    };
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // What is ready to be sent goes out before the connection is broken.
        biased;
        _ = connection => {}
        () = breaker.broken.notified() => {}
    }
}

async fn respond<H: Handler>(
    request: http::Request<Incoming>,
    handler: Arc<H>,
    breaker: Breaker,
) -> Result<http::Response<WireBody>, Infallible> {
    let (head, incoming) = request.into_parts();
    let answer = match tokio::time::timeout(PATIENCE, receive(incoming, handler.body_limit())).await
    {
        Ok(Some(body)) => {
            let authority = match head.uri.authority() {
                Some(authority) => Some(authority.as_str().to_owned()),
                None => head
                    .headers
                    .get(http::header::HOST)
                    .and_then(|host| host.to_str().ok())
                    .map(str::to_owned),
            };
            let request = Request {
                method: head.method,
                path: head.uri.path().to_owned(),
                query: head.uri.query().map(str::to_owned),
                headers: head.headers,
                authority,
                body,
            };
            handler.handle(request).await
        }
        // The client broke off, or never came to an end.
        Ok(None) | Err(_) => Answer::Close,
    };
    match answer {
        Answer::Reply(response) => {
            Ok(response.map(|body| WireBody::new(body, breaker.broken.clone())))
        }
        Answer::Close | Answer::Reset => {
            breaker.reset.store(matches!(answer, Answer::Reset), Ordering::Release);
            breaker.broken.notify_one();
            std::future::pending().await
        }
    }
}

/// Reads a body to its end; `None` when it broke off.
async fn receive(incoming: Incoming, most: usize) -> Option<Received> {
    if incoming.size_hint().lower() > most as u64 {
        return Some(Received::TooLarge);
    }
    let mut incoming = std::pin::pin!(incoming);
    let mut whole = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| incoming.as_mut().poll_frame(cx)).await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if whole.len() + data.len() > most {
            return Some(Received::TooLarge);
        }
        whole.extend_from_slice(&data);
    }
    Some(Received::Whole(Bytes::from(whole)))
}

/// A TCP stream that can be told to end in a reset.
struct Wire {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Acquire) {
            // Without lingering, closing throws away what is unsent and sends RST.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
