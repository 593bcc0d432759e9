//! What the topics of the wire share: who is connected to, and at which addresses.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::{Desk, Topic, TopicName};
use crate::http::Rules;
use crate::model::Code;

/// The longest that the system's own lookup may take; a resolver that is down takes ten seconds.
const LOOKUP: Duration = Duration::from_secs(15);

/// Who a connection is made to first, and where.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    pub host: String,
    pub port: u16,
    /// The host is a proxy's: the server itself is looked for by the proxy.
    pub is_proxy: bool,
    /// That the system's own lookup gave and that may be connected to, in its order.
    pub addresses: Vec<SocketAddr>,
    /// That it gave and the inventory's rules forbid.
    pub forbidden: Vec<IpAddr>,
    /// Why there is none.
    pub error: Option<String>,
    pub lookup_ms: f64,
}

impl Sight {
    /// `host:port`, or the proxy's.
    pub fn shown(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.is_proxy {
            format!("the proxy {host}:{}", self.port)
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// A topic that has no address to look at, and why.
    pub fn nothing_to_look_at(&self, name: TopicName) -> Option<Topic> {
        if !self.addresses.is_empty() {
            return None;
        }
        let why = match (&self.error, self.forbidden.first()) {
            (_, Some(address)) => {
                format!("{} is at {address}, which may not be connected to", self.host)
            }
            (Some(error), None) => format!("{} has no address: {error}", self.host),
            (None, None) => format!("{} has no address", self.host),
        };
        Some(Topic::left_out(name, Code::new("check.skipped"), why))
    }

    /// Says whose host it is, where it is not the server's.
    pub fn tell(&self, topic: &mut Topic) {
        if self.is_proxy {
            topic.note(format!(
                "requests go through {}, so the proxy is looked at: the server behind it cannot be \
                 seen from here",
                self.shown()
            ));
        }
    }
}

/// Host and port that are connected to first, and whether they are a proxy's.
pub(super) fn first_stop(desk: &Desk) -> (String, u16, bool) {
    match desk.surroundings.transport.proxy_endpoint(&desk.server) {
        Some((host, port)) => (host, port, true),
        None => {
            let (host, port) = desk.target();
            (host, port, false)
        }
    }
}

pub(super) async fn sight(desk: &Desk) -> Sight {
    let (host, port, is_proxy) = first_stop(desk);
    let started = Instant::now();
    let literal: Option<IpAddr> = host.parse().ok();
    let (found, error) = match literal {
        Some(address) => (vec![SocketAddr::new(address, port)], None),
        None => look_up(&host, port, desk.remaining().min(LOOKUP)).await,
    };
    let lookup_ms = started.elapsed().as_secs_f64() * 1000.0;
    let rules = Rules::of(&desk.server.network);
    let permitted =
        |address: &SocketAddr| is_proxy || rules.permits(address.ip(), literal.is_some());
    let (addresses, forbidden): (Vec<_>, Vec<_>) = found.into_iter().partition(permitted);
    Sight {
        host,
        port,
        is_proxy,
        addresses,
        forbidden: forbidden.iter().map(SocketAddr::ip).collect(),
        error,
        lookup_ms,
    }
}

/// As every other program of the machine does it: each address once.
async fn look_up(host: &str, port: u16, limit: Duration) -> (Vec<SocketAddr>, Option<String>) {
    match tokio::time::timeout(limit, tokio::net::lookup_host((host, port))).await {
        Err(_) => (Vec::new(), Some(format!("no answer within {} s", limit.as_secs()))),
        Ok(Err(error)) => (Vec::new(), Some(crate::model::text::one_line(&error.to_string()))),
        Ok(Ok(found)) => {
            let mut addresses: Vec<SocketAddr> = Vec::new();
            for address in found.take(256) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            (addresses, None)
        }
    }
}

/// `IPv4` or `IPv6`.
pub(super) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// `12 ms`, or `0.42 ms`.
pub(super) fn ms(duration: f64) -> String {
    if duration < 10.0 { format!("{duration:.2} ms") } else { format!("{duration:.0} ms") }
}

/// Whether an address may be seen on the Internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(four) => {
            let shared = four.octets()[0] == 100 && four.octets()[1] & 0xc0 == 64;
            !(four.is_private()
                || four.is_loopback()
                || four.is_link_local()
                || four.is_unspecified()
                || shared)
        }
        IpAddr::V6(six) => {
            !(six.is_unique_local()
                || six.is_loopback()
                || six.is_unicast_link_local()
                || six.is_unspecified())
        }
    }
}
