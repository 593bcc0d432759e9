//! One question to one name server (RFC 1035), over UDP, and over TCP where the answer was cut.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::proto::op::{Edns, Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// The name servers of this machine, in its order; no more than eight are looked at.
#[must_use]
pub fn name_servers() -> Vec<SocketAddr> {
    let Ok((config, _)) = read_system_conf() else { return Vec::new() };
    let mut servers: Vec<SocketAddr> =
        config.name_servers.iter().map(|server| SocketAddr::new(server.ip, 53)).collect();
    servers.dedup();
    servers.truncate(8);
    servers
}

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// What one name server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Addresses {
        /// Of both ends of the chain, sorted.
        addresses: Vec<IpAddr>,
        /// The names that the first one leads through.
        aliases: Vec<String>,
        /// The shortest life of a record, in seconds.
        ttl: Option<u32>,
        /// Whether the server says that DNSSEC proves it (the AD bit, RFC 4035 §3.2.3).
        is_authentic: bool,
    },
    /// NXDOMAIN.
    NoSuchName,
    /// Another code, such as SERVFAIL or REFUSED.
    Failed(String),
    /// Nothing came in time.
    Silent,
    /// It cannot be asked, or what came is no answer.
    Broken(String),
}

/// Asks one server for one family of addresses.
pub async fn ask(
    server: SocketAddr,
    name: &str,
    family: Family,
    limit: Duration,
) -> (Said, Duration) {
    let start = Instant::now();
    let said = match tokio::time::timeout(limit, exchange(server, name, family, false)).await {
        Err(_) => Said::Silent,
        Ok(Err(reason)) => Said::Broken(reason),
        Ok(Ok(message)) => read(&message),
    };
    (said, start.elapsed())
}

/// Whether a name that fails is answered once DNSSEC is not checked (the CD bit): then its
/// signatures are broken.
pub async fn answers_unchecked(server: SocketAddr, name: &str, limit: Duration) -> bool {
    let asked = exchange(server, name, Family::V4, true);
    matches!(
        tokio::time::timeout(limit, asked).await,
        Ok(Ok(message)) if message.metadata.response_code == ResponseCode::NoError
    )
}

async fn exchange(
    server: SocketAddr,
    name: &str,
    family: Family,
    unchecked: bool,
) -> Result<Message, String> {
    let kind = match family {
        Family::V4 => RecordType::A,
        Family::V6 => RecordType::AAAA,
    };
    let mut asked = Name::from_utf8(name).map_err(|_| "that is no name".to_owned())?;
    asked.set_fqdn(true);
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.metadata.checking_disabled = unchecked;
    question.add_query(Query::query(asked, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    edns.set_dnssec_ok(true);
    question.set_edns(edns);
    let bytes = question.to_vec().map_err(|error| error.to_string())?;
    let answer = by_udp(server, &bytes, &question).await?;
    if answer.metadata.truncation {
        return by_tcp(server, &bytes, &question).await;
    }
    Ok(answer)
}

async fn by_udp(server: SocketAddr, bytes: &[u8], question: &Message) -> Result<Message, String> {
    let reason = |error: std::io::Error| crate::model::error::io_reason(&error);
    let any: SocketAddr = if server.is_ipv4() {
        (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await.map_err(reason)?;
    socket.connect(server).await.map_err(reason)?;
    socket.send(bytes).await.map_err(reason)?;
    let mut buffer = vec![0; 4096];
    // Strays and forgeries are passed over; the caller's limit ends it.
    loop {
        let length = socket.recv(&mut buffer).await.map_err(reason)?;
        if let Some(answer) = answering(&buffer[..length], question) {
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, bytes: &[u8], question: &Message) -> Result<Message, String> {
    let reason = |error: std::io::Error| crate::model::error::io_reason(&error);
    let mut stream = TcpStream::connect(server).await.map_err(reason)?;
    let length = u16::try_from(bytes.len()).map_err(|_| "the question is too long".to_owned())?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await.map_err(reason)?;
    let length = stream.read_u16().await.map_err(reason)?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await.map_err(reason)?;
    answering(&buffer, question).ok_or_else(|| "what came is no answer to the question".to_owned())
}

fn answering(bytes: &[u8], question: &Message) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let is_it = answer.metadata.id == question.metadata.id && answer.queries == question.queries;
    is_it.then_some(answer)
}

fn read(message: &Message) -> Said {
    match message.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Said::NoSuchName,
        other => return Said::Failed(other.to_string()),
    }
    let (mut addresses, mut aliases) = (Vec::new(), Vec::new());
    for record in message.answers.iter().take(64) {
        match &record.data {
            RData::A(address) => addresses.push(IpAddr::V4(address.0)),
            RData::AAAA(address) => addresses.push(IpAddr::V6(address.0)),
            RData::CNAME(target) => aliases.push(target.0.to_utf8()),
            _ => {}
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    Said::Addresses {
        addresses,
        aliases,
        ttl: message.answers.iter().take(64).map(|record| record.ttl).min(),
        is_authentic: message.metadata.authentic_data,
    }
}
