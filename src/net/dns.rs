//! Asks every configured name server for itself (RFC 1035), with one question at a time.
//!
//! The system's own lookup hides which server answered, what it said, and that another one did not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hickory_resolver::proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// Most name servers that are asked; the C library uses three.
const MAX_SERVERS: usize = 8;
/// Most aliases on the way from a name to its addresses.
const MAX_ALIASES: usize = 16;
/// Most addresses of one answer that are kept.
const MAX_ADDRESSES: usize = 64;
/// How long one question over UDP is waited for before it is asked again.
const TRY: Duration = Duration::from_millis(1500);
/// How often a question is asked.
const TRIES: u32 = 2;
/// What is announced as the largest answer (DNS Flag Day 2020).
const PAYLOAD: u16 = 1232;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Kind {
    A,
    #[serde(rename = "AAAA")]
    Aaaa,
    /// The name servers of the root, which every resolver of the Internet knows.
    Root,
}

/// What one answer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Records came.
    Answered,
    /// The name exists and has no such record.
    Empty,
    /// NXDOMAIN.
    NotFound,
    /// SERVFAIL.
    Failed,
    /// REFUSED, or another code that is no answer.
    Refused,
    /// The aliases run in a circle or are too many.
    Loop,
    /// No answer in time.
    Silent,
    /// The host is there, and no name server on it; or there is no way to it.
    Unreachable,
    /// An answer that cannot be read.
    Malformed,
}

/// One step from a name to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Alias {
    pub name: String,
    pub target: String,
    pub ttl_seconds: u32,
}

/// One answer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Reply {
    pub kind: Kind,
    pub outcome: Outcome,
    /// As DNS names it: NOERROR, NXDOMAIN, SERVFAIL.
    pub rcode: Option<String>,
    pub addresses: Vec<IpAddr>,
    /// The shortest life of the addresses.
    pub ttl_seconds: Option<u32>,
    pub aliases: Vec<Alias>,
    /// The name server says that it checked signatures (DNSSEC, AD).
    pub is_authenticated: bool,
    /// The name server asks others on behalf of its clients (RA).
    pub is_recursive: bool,
    pub over_tcp: bool,
    pub duration_ms: f64,
}

/// What one name server says.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Asked {
    pub server: SocketAddr,
    pub a: Reply,
    pub aaaa: Reply,
    /// SERVFAIL that becomes an answer when signatures are not checked: DNSSEC of the zone is broken.
    pub is_dnssec_broken: bool,
    /// Whether it knows the root; asked only of a server that gave no address.
    pub knows_root: Option<bool>,
}

impl Asked {
    /// Of both families, sorted.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<_> =
            self.a.addresses.iter().chain(&self.aaaa.addresses).copied().collect();
        all.sort();
        all
    }
}

/// The name servers and search domains of `/etc/resolv.conf`.
///
/// # Errors
/// When there is none, or it names no server; in words.
pub fn system_servers() -> Result<(Vec<SocketAddr>, Vec<String>), String> {
    let (config, _) = read_system_conf().map_err(|error| error.to_string())?;
    let mut servers: Vec<SocketAddr> = Vec::new();
    for server in config.name_servers() {
        let address = SocketAddr::new(server.ip, 53);
        if !servers.contains(&address) && servers.len() < MAX_SERVERS {
            servers.push(address);
        }
    }
    let search = config.search().iter().take(6).map(shown).collect();
    Ok((servers, search))
}

/// Asks each server for the addresses of a name, all at the same time.
pub async fn ask_each(servers: &[SocketAddr], name: &str, limit: Duration) -> Vec<Asked> {
    let servers = &servers[..servers.len().min(MAX_SERVERS)];
    join_all(servers.iter().map(|&server| ask_both(server, name, limit))).await
}

async fn ask_both(server: SocketAddr, name: &str, limit: Duration) -> Asked {
    let (a, aaaa) = tokio::join!(
        ask(server, name, Kind::A, false, limit),
        ask(server, name, Kind::Aaaa, false, limit)
    );
    let is_failed = a.outcome == Outcome::Failed;
    let mut asked = Asked { server, a, aaaa, is_dnssec_broken: false, knows_root: None };
    if is_failed {
        let unchecked = ask(server, name, Kind::A, true, limit).await;
        asked.is_dnssec_broken = matches!(unchecked.outcome, Outcome::Answered | Outcome::Empty);
    }
    if asked.addresses().is_empty() && !asked.is_dnssec_broken {
        let root = ask(server, ".", Kind::Root, false, limit).await;
        asked.knows_root = Some(root.outcome == Outcome::Answered);
    }
    asked
}

/// Asks one question; with `unchecked` the name server is told not to check signatures (CD).
pub async fn ask(
    server: SocketAddr,
    name: &str,
    kind: Kind,
    unchecked: bool,
    limit: Duration,
) -> Reply {
    let started = Instant::now();
    let mut reply = match question(name, kind, unchecked) {
        None => Reply::none(kind, Outcome::Malformed),
        Some(question) => match tokio::time::timeout(limit, exchange(server, &question)).await {
            Err(_) => Reply::none(kind, Outcome::Silent),
            Ok(Err(outcome)) => Reply::none(kind, outcome),
            Ok(Ok((answer, over_tcp))) => Reply { over_tcp, ..read(&question, kind, &answer) },
        },
    };
    reply.duration_ms = started.elapsed().as_secs_f64() * 1000.0;
    reply
}

fn question(name: &str, kind: Kind, unchecked: bool) -> Option<Message> {
    let mut name = Name::from_utf8(name).ok()?;
    name.set_fqdn(true);
    let kind = match kind {
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
        Kind::Root => RecordType::NS,
    };
    let mut message = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = unchecked;
    // RFC 6840 §5.7: asks for the AD bit without the signatures themselves.
    message.metadata.authentic_data = true;
    message.add_query(Query::query(name, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    message.set_edns(edns);
    Some(message)
}

/// Over UDP, and over TCP where the answer does not fit.
async fn exchange(server: SocketAddr, question: &Message) -> Result<(Message, bool), Outcome> {
    let bytes = question.to_vec().map_err(|_| Outcome::Malformed)?;
    let unreachable = |_| Outcome::Unreachable;
    let any = if server.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
    };
    let socket = UdpSocket::bind(any).await.map_err(unreachable)?;
    socket.connect(server).await.map_err(unreachable)?;
    let mut failure = Outcome::Silent;
    for _ in 0..TRIES {
        socket.send(&bytes).await.map_err(unreachable)?;
        match tokio::time::timeout(TRY, receive(&socket, question)).await {
            Ok(Ok(answer)) if answer.metadata.truncation => {
                return Ok((over_tcp(server, &bytes, question).await?, true));
            }
            Ok(Ok(answer)) => return Ok((answer, false)),
            Ok(Err(Outcome::Unreachable)) => return Err(Outcome::Unreachable),
            Ok(Err(outcome)) => failure = outcome,
            Err(_) => {}
        }
    }
    Err(failure)
}

/// Waits for the answer to this question; what others send is passed over.
async fn receive(socket: &UdpSocket, question: &Message) -> Result<Message, Outcome> {
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(|_| Outcome::Unreachable)?;
        match Message::from_vec(&buffer[..length]) {
            Ok(answer) if answers(&answer, question) => return Ok(answer),
            Ok(_) => {}
            // The beginning is the question's number: it was meant for us and is garbage.
            Err(_) if buffer[..length].starts_with(&question.metadata.id.to_be_bytes()) => {
                return Err(Outcome::Malformed);
            }
            Err(_) => {}
        }
    }
}

fn answers(answer: &Message, question: &Message) -> bool {
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        // A server that refuses may leave the question out.
        && (answer.queries.is_empty() || answer.queries == question.queries)
}

async fn over_tcp(
    server: SocketAddr,
    bytes: &[u8],
    question: &Message,
) -> Result<Message, Outcome> {
    let talk = async {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(bytes).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(TRY * 2, talk).await.map_err(|_| Outcome::Silent)?;
    let answer = answer.map_err(|_| Outcome::Unreachable)?;
    let message = Message::from_vec(&answer).map_err(|_| Outcome::Malformed)?;
    if answers(&message, question) { Ok(message) } else { Err(Outcome::Malformed) }
}

impl Reply {
    fn none(kind: Kind, outcome: Outcome) -> Reply {
        Reply {
            kind,
            outcome,
            rcode: None,
            addresses: Vec::new(),
            ttl_seconds: None,
            aliases: Vec::new(),
            is_authenticated: false,
            is_recursive: false,
            over_tcp: false,
            duration_ms: 0.0,
        }
    }
}

/// Follows the aliases of an answer from the name that was asked for.
fn read(question: &Message, kind: Kind, answer: &Message) -> Reply {
    let mut reply = Reply::none(kind, Outcome::Empty);
    let rcode = answer.metadata.response_code;
    reply.rcode = Some(rcode_name(rcode));
    reply.is_authenticated = answer.metadata.authentic_data;
    reply.is_recursive = answer.metadata.recursion_available;
    let failure = match rcode {
        ResponseCode::NoError => None,
        ResponseCode::NXDomain => Some(Outcome::NotFound),
        ResponseCode::ServFail => Some(Outcome::Failed),
        _ => Some(Outcome::Refused),
    };
    let mut name = question.queries.first().map(|query| query.name().clone()).unwrap_or_default();
    let mut seen = vec![name.to_lowercase()];
    while let Some((target, ttl_seconds)) = alias(answer, &name) {
        reply.aliases.push(Alias { name: shown(&name), target: shown(&target), ttl_seconds });
        if seen.contains(&target.to_lowercase()) || reply.aliases.len() >= MAX_ALIASES {
            return Reply { outcome: Outcome::Loop, ..reply };
        }
        seen.push(target.to_lowercase());
        name = target;
    }
    for record in answer.answers.iter().filter(|record| same(&record.name, &name)) {
        let address = match (&record.data, kind) {
            (RData::A(address), Kind::A) => IpAddr::V4(address.0),
            (RData::AAAA(address), Kind::Aaaa) => IpAddr::V6(address.0),
            (RData::NS(_), Kind::Root) => {
                reply.outcome = Outcome::Answered;
                continue;
            }
            _ => continue,
        };
        if reply.addresses.len() < MAX_ADDRESSES {
            reply.addresses.push(address);
        }
        let shortest = reply.ttl_seconds.map_or(record.ttl, |ttl| ttl.min(record.ttl));
        reply.ttl_seconds = Some(shortest);
        reply.outcome = Outcome::Answered;
    }
    if let Some(failure) = failure {
        reply.outcome = failure;
    }
    reply
}

fn alias(answer: &Message, name: &Name) -> Option<(Name, u32)> {
    answer.answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if same(&record.name, name) => Some((target.0.clone(), record.ttl)),
        _ => None,
    })
}

fn same(one: &Name, other: &Name) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

fn rcode_name(rcode: ResponseCode) -> String {
    match rcode {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        other => format!("code {}", u16::from(other)),
    }
}

/// A name without its last dot; other bytes than printable ASCII are escaped.
fn shown(name: &Name) -> String {
    let text = name.to_ascii();
    match text.strip_suffix('.') {
        Some("") | None => text,
        Some(text) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::Record;
    use hickory_resolver::proto::rr::rdata::{A, CNAME};

    fn name(text: &str) -> Name {
        let mut name = Name::from_utf8(text).unwrap();
        name.set_fqdn(true);
        name
    }

    fn answer(records: &[(&str, u32, RData)]) -> Reply {
        let question = question("Ehr.example.org", Kind::A, false).unwrap();
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        for (owner, ttl, data) in records {
            message.add_answer(Record::from_rdata(name(owner), *ttl, data.clone()));
        }
        read(&question, Kind::A, &message)
    }

    fn to(target: &str) -> RData {
        RData::CNAME(CNAME(name(target)))
    }

    #[test]
    fn aliases_are_followed_to_the_addresses_in_whatever_order_they_come() {
        let found = answer(&[
            ("lb.example.net", 20, RData::A(A::new(192, 0, 2, 1))),
            ("lb.example.net", 10, RData::A(A::new(192, 0, 2, 2))),
            ("other.example.net", 5, RData::A(A::new(192, 0, 2, 3))),
            ("cdn.example.net", 60, to("LB.example.net")),
            ("ehr.example.org", 300, to("cdn.example.net")),
        ]);
        assert_eq!(found.outcome, Outcome::Answered);
        assert_eq!((found.addresses.len(), found.ttl_seconds), (2, Some(10)));
        let lives: Vec<_> = found.aliases.iter().map(|alias| alias.ttl_seconds).collect();
        assert_eq!(lives, [300, 60]);
        assert_eq!(found.aliases[0].target, "cdn.example.net");
    }

    #[test]
    fn aliases_without_an_end_are_bounded() {
        let circle = answer(&[
            ("ehr.example.org", 1, to("a.example.org")),
            ("a.example.org", 1, to("EHR.example.org")),
        ]);
        assert_eq!((circle.outcome, circle.aliases.len()), (Outcome::Loop, 2));
        let names: Vec<String> = (0..100).map(|number| format!("n{number}.example.org")).collect();
        let mut records = vec![("ehr.example.org", 1, to(&names[0]))];
        for pair in names.windows(2) {
            records.push((pair[0].as_str(), 1, to(&pair[1])));
        }
        let long = answer(&records);
        assert_eq!((long.outcome, long.aliases.len()), (Outcome::Loop, MAX_ALIASES));
    }

    #[test]
    fn the_root_and_names_are_asked_for_as_they_are() {
        for (text, shown) in [("ehr.example.org", "ehr.example.org."), (".", ".")] {
            let message = question(text, Kind::A, true).unwrap();
            assert_eq!(message.queries[0].name().to_ascii(), shown);
            assert!(message.metadata.checking_disabled);
        }
        assert!(question(&"a".repeat(64), Kind::A, false).is_none());
    }
}
