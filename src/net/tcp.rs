//! Connects to addresses one by one, so that a working one does not hide a broken one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nix::errno::Errno;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};

/// Most addresses of one name that are tried.
pub const MAX_ADDRESSES: usize = 32;
/// How long an open connection is watched for a peer that cuts it off before anything was said.
const WATCHED: Duration = Duration::from_millis(80);

/// What came of one attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Open, and it stays open.
    Open,
    /// Open, and ended by the peer in order, before anything was said.
    Closed,
    /// Open, and cut off by the peer (RST) before anything was said.
    Cut,
    /// Nothing listens (RST in answer to SYN).
    Refused,
    /// Reset while the connection was being made.
    Reset,
    /// No answer in time: packets are dropped on the way there or back.
    Timeout,
    /// A router, or this machine, says that there is no way.
    Unreachable,
    /// A rule of this machine, or a router, forbids the way.
    Prohibited,
    /// This machine has no address of that family, or its interface is down.
    NoRoute,
    /// A route of this machine swallows what goes there.
    Blackhole,
    /// The source address is not one of this machine's.
    NotOurAddress,
    /// The source address is of the other family.
    OtherFamily,
    /// Something on this machine, such as too many open files.
    Local,
}

impl Outcome {
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Outcome::Open)
    }

    /// In a few words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Outcome::Open => "open",
            Outcome::Closed => "opened and closed at once",
            Outcome::Cut => "opened and reset at once",
            Outcome::Refused => "refused",
            Outcome::Reset => "reset",
            Outcome::Timeout => "no answer",
            Outcome::Unreachable => "unreachable",
            Outcome::Prohibited => "prohibited",
            Outcome::NoRoute => "no route",
            Outcome::Blackhole => "swallowed by a route of this machine",
            Outcome::NotOurAddress => "the source address is not ours",
            Outcome::OtherFamily => "other family than the source address",
            Outcome::Local => "failed on this machine",
        }
    }
}

/// One attempt.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Attempt {
    pub address: SocketAddr,
    pub outcome: Outcome,
    /// Until the connection was open, or had failed.
    pub duration_ms: f64,
    /// The address that it left from, where it came so far.
    pub local: Option<IpAddr>,
    /// The peer spoke first, which an HTTP server never does.
    pub spoke_first: bool,
}

/// Connects to each address at the same time and says nothing to any of them.
///
/// At most [`MAX_ADDRESSES`] are tried; the answer keeps their order.
pub async fn connect_each(
    addresses: &[SocketAddr],
    source: Option<IpAddr>,
    timeout: Duration,
) -> Vec<Attempt> {
    let addresses = &addresses[..addresses.len().min(MAX_ADDRESSES)];
    join_all(addresses.iter().map(|&address| connect(address, source, timeout))).await
}

/// Connects once and watches for a moment whether the connection stays.
pub async fn connect(address: SocketAddr, source: Option<IpAddr>, timeout: Duration) -> Attempt {
    connect_over(address, source, timeout, None).await
}

/// As [`connect`], over so many hops at most: a router that ends the way makes it unreachable.
pub async fn connect_over(
    address: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
    hops: Option<u8>,
) -> Attempt {
    let started = Instant::now();
    let answer = tokio::time::timeout(timeout, open(address, source, hops)).await;
    let duration_ms = started.elapsed().as_secs_f64() * 1000.0;
    let failed =
        |outcome| Attempt { address, outcome, duration_ms, local: None, spoke_first: false };
    match answer {
        Err(_) => failed(Outcome::Timeout),
        Ok(Err(outcome)) => failed(outcome),
        Ok(Ok(mut stream)) => {
            let local = stream.local_addr().ok().map(|local| local.ip());
            let (outcome, spoke_first) = watch(&mut stream).await;
            Attempt { address, outcome, duration_ms, local, spoke_first }
        }
    }
}

async fn open(
    address: SocketAddr,
    source: Option<IpAddr>,
    hops: Option<u8>,
) -> Result<TcpStream, Outcome> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
        .map_err(|error| outcome(&error))?;
    if let Some(hops) = hops {
        set_hops(&socket, address.ip(), hops).map_err(|error| outcome(&error))?;
    }
    if let Some(source) = source {
        if source.is_ipv4() != address.is_ipv4() {
            return Err(Outcome::OtherFamily);
        }
        socket.bind(SocketAddr::new(source, 0)).map_err(|error| outcome(&error))?;
    }
    socket.connect(address).await.map_err(|error| outcome(&error))
}

/// Bounds how many routers pass on what a socket sends.
pub(super) fn set_hops<'a, S>(socket: &'a S, to: IpAddr, hops: u8) -> io::Result<()>
where
    socket2::SockRef<'a>: From<&'a S>,
{
    let socket = socket2::SockRef::from(socket);
    match to {
        IpAddr::V4(_) => socket.set_ttl_v4(u32::from(hops)),
        IpAddr::V6(_) => socket.set_unicast_hops_v6(u32::from(hops)),
    }
}

async fn watch(stream: &mut TcpStream) -> (Outcome, bool) {
    let mut byte = [0; 1];
    match tokio::time::timeout(WATCHED, stream.read(&mut byte)).await {
        Err(_) => (Outcome::Open, false),
        Ok(Ok(0)) => (Outcome::Closed, false),
        Ok(Ok(_)) => (Outcome::Open, true),
        Ok(Err(_)) => (Outcome::Cut, false),
    }
}

/// What the operating system's error says of the way.
#[must_use]
pub fn outcome(error: &io::Error) -> Outcome {
    let Some(number) = error.raw_os_error() else {
        return match error.kind() {
            io::ErrorKind::TimedOut => Outcome::Timeout,
            _ => Outcome::Local,
        };
    };
    match Errno::from_raw(number) {
        Errno::ECONNREFUSED => Outcome::Refused,
        Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED => Outcome::Reset,
        Errno::ETIMEDOUT => Outcome::Timeout,
        Errno::EHOSTUNREACH | Errno::EHOSTDOWN => Outcome::Unreachable,
        Errno::EACCES | Errno::EPERM => Outcome::Prohibited,
        Errno::ENETUNREACH | Errno::ENETDOWN | Errno::EAFNOSUPPORT => Outcome::NoRoute,
        // Linux answers so for a route of type blackhole.
        Errno::EINVAL => Outcome::Blackhole,
        Errno::EADDRNOTAVAIL => Outcome::NotOurAddress,
        _ => Outcome::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn the_system_s_errors_are_told_apart() {
        for (errno, expected) in [
            (Errno::ECONNREFUSED, Outcome::Refused),
            (Errno::ECONNRESET, Outcome::Reset),
            (Errno::ETIMEDOUT, Outcome::Timeout),
            (Errno::EHOSTUNREACH, Outcome::Unreachable),
            (Errno::EACCES, Outcome::Prohibited),
            (Errno::EPERM, Outcome::Prohibited),
            (Errno::ENETUNREACH, Outcome::NoRoute),
            (Errno::ENETDOWN, Outcome::NoRoute),
            (Errno::EINVAL, Outcome::Blackhole),
            (Errno::EADDRNOTAVAIL, Outcome::NotOurAddress),
            (Errno::EMFILE, Outcome::Local),
        ] {
            assert_eq!(outcome(&io::Error::from_raw_os_error(errno as i32)), expected, "{errno}");
        }
        assert_eq!(outcome(&io::ErrorKind::TimedOut.into()), Outcome::Timeout);
    }

    #[tokio::test]
    async fn each_address_has_its_own_outcome() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cutting = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses: Vec<_> =
            [&open, &closing, &cutting, &free].map(|l| l.local_addr().unwrap()).to_vec();
        drop(free);
        tokio::spawn(async move { drop(closing.accept().await) });
        tokio::spawn(async move {
            let (stream, _) = cutting.accept().await.unwrap();
            stream.set_zero_linger().unwrap();
        });
        let found = connect_each(&addresses, None, SOON).await;
        let outcomes: Vec<_> = found.iter().map(|attempt| attempt.outcome).collect();
        assert_eq!(outcomes, [Outcome::Open, Outcome::Closed, Outcome::Cut, Outcome::Refused]);
        assert_eq!(found[0].local, Some("127.0.0.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_source_address_has_to_be_ours_and_of_the_same_family() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = open.local_addr().unwrap();
        for (source, expected) in [
            ("127.0.0.2", Outcome::Open),
            ("192.0.2.1", Outcome::NotOurAddress),
            ("::1", Outcome::OtherFamily),
        ] {
            let attempt = connect(address, Some(source.parse().unwrap()), SOON).await;
            assert_eq!(attempt.outcome, expected, "{source}");
        }
    }
}
