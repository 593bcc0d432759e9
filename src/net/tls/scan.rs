//! The questions to one server, in their order.
//!
//! A version is asked for everything, then again without what was chosen, until the server refuses:
//! one connection for each suite and one more. The groups are found in the same way. Versions before one
//! that is refused for being too old are not asked for.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use super::Version;
use super::answer::{Answer, Demand, KeyExchange, Parser, Trouble};
use super::hello::Hello;
use super::suite::{Exchange, Suite, groups};

/// Most connections to one server at once.
const AT_ONCE: usize = 4;
/// Most different chains that are kept: servers have one for each kind of key.
const CHAINS: usize = 4;

/// Whom to ask, and how long to wait.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    /// The name for SNI; none where the server is asked by its address.
    pub name: Option<String>,
    /// The address that we leave by.
    pub source: Option<IpAddr>,
    pub connect: Duration,
    /// The longest silence.
    pub read: Duration,
    pub deadline: Instant,
}

/// What a server agrees to.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// All that were asked for, oldest first.
    pub versions: Vec<Offered>,
    /// What TLS 1.3 may use, in the server's order where it has one.
    pub groups_13: Vec<u16>,
    /// What the newest version before it may use.
    pub groups_12: Vec<u16>,
    /// Chains as they were sent, one for each own certificate of the server.
    pub chains: Vec<Vec<Vec<u8>>>,
    /// A chain had more certificates than are kept.
    pub chain_cut: bool,
    /// Of the newest version before TLS 1.3, which hides these.
    pub traits: Option<Traits>,
    /// How many connections were made.
    pub connections: usize,
    /// Why not everything could be asked.
    pub broken_off: Option<String>,
}

/// What came of asking for one version.
#[derive(Clone, Debug)]
pub struct Offered {
    pub version: Version,
    /// In the server's order where it has one, else in ours.
    pub suites: Vec<Found>,
    /// Groups that showed with them,
    pub groups: Vec<u16>,
    /// and whether there is no other.
    pub groups_complete: bool,
    /// Whether the server's order counts, not the client's; `None` where there is no choice.
    pub server_prefers: Option<bool>,
    /// Compression was offered and taken.
    pub compression: bool,
    /// How the first question that was not answered ended.
    pub end: Option<End>,
}

/// A suite that the server agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub suite: u16,
    pub exchange: Option<KeyExchange>,
}

/// Why there was no agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The number of the alert.
    Alert(u8),
    /// The server wants another version.
    OtherVersion(u16),
    /// It chose what it was not offered.
    NotOffered(u16),
    Trouble(Trouble),
    /// No connection, and why.
    Unreached(String),
    /// The time was up.
    OutOfTime,
}

/// What is seen beside version and suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    pub version: Option<Version>,
    pub alpn: Option<String>,
    /// A session may be taken up again by its identifier.
    pub sessions: bool,
    /// Or by a ticket.
    pub tickets: bool,
    /// Secure renegotiation. RFC 5746.
    pub renegotiation: bool,
    /// RFC 7627.
    pub extended_master_secret: bool,
    /// The authority's answer about the certificate, DER.
    pub staple: Option<Vec<u8>>,
    /// A certificate of the client is asked for; whether it has to be there cannot be seen.
    pub demand: Option<Demand>,
}

impl Scan {
    /// What came of asking for a version.
    #[must_use]
    pub fn version(&self, version: Version) -> Option<&Offered> {
        self.versions.iter().find(|offered| offered.version == version)
    }

    /// The versions that the server speaks, oldest first.
    pub fn spoken(&self) -> impl DoubleEndedIterator<Item = &Offered> {
        self.versions.iter().filter(|offered| !offered.suites.is_empty())
    }
}

/// Asks a server for everything. Never fails: what went wrong stands in what it returns.
pub async fn scan(target: &Target) -> Scan {
    let asker = Asker { target, gate: Semaphore::new(AT_ONCE), connections: AtomicUsize::new(0) };
    let (old, tls12, tls13) =
        tokio::join!(asker.old(), asker.version(Version::Tls12), asker.version(Version::Tls13));
    let mut scan = Scan::default();
    for (offered, answers) in old.into_iter().chain([tls12, tls13]) {
        scan.keep_chains(&answers);
        if let Some(first) = answers.first().filter(|_| offered.version < Version::Tls13) {
            scan.traits = Some(traits(offered.version, first));
        }
        scan.versions.push(offered);
    }
    let newest = |tls13: bool| {
        let fits = |offered: &&Offered| (offered.version == Version::Tls13) == tls13;
        scan.spoken().rev().find(fits).cloned()
    };
    let (one, other) = (newest(true), newest(false));
    let (one, other) = tokio::join!(asker.groups(one.as_ref()), asker.groups(other.as_ref()));
    let preferred = scan.versions.iter().map(async |offered| {
        let seen = [&one, &other].into_iter().find(|seen| seen.version == Some(offered.version));
        match seen.and_then(|seen| seen.preference) {
            Some(preference) => preference,
            None => asker.preference(offered).await,
        }
    });
    let preferred = join_all(preferred).await;
    for (offered, preference) in scan.versions.iter_mut().zip(preferred) {
        offered.server_prefers = preference.of_the_server;
        offered.compression = preference.compression;
    }
    (scan.groups_13, scan.groups_12) = (one.groups, other.groups);
    scan.connections = asker.connections.into_inner();
    scan.broken_off = scan.versions.iter().find_map(|offered| match &offered.end {
        Some(End::Unreached(why)) => Some(why.clone()),
        Some(End::OutOfTime) => Some("the time was up".to_owned()),
        _ => None,
    });
    scan
}

impl Scan {
    fn keep_chains(&mut self, answers: &[Answer]) {
        for answer in answers {
            self.chain_cut |= answer.chain_cut;
            let known = |chain: &Vec<Vec<u8>>| chain.first() == answer.chain.first();
            if !answer.chain.is_empty()
                && self.chains.len() < CHAINS
                && !self.chains.iter().any(known)
            {
                self.chains.push(answer.chain.clone());
            }
        }
    }
}

fn traits(version: Version, answer: &Answer) -> Traits {
    let hello = answer.hello.as_ref();
    Traits {
        version: Some(version),
        alpn: hello.and_then(|hello| hello.alpn.clone()),
        sessions: hello.is_some_and(|hello| hello.session),
        tickets: hello.is_some_and(|hello| hello.ticket),
        renegotiation: hello.is_some_and(|hello| hello.renegotiation),
        extended_master_secret: hello.is_some_and(|hello| hello.extended_master_secret),
        staple: answer.staple.clone(),
        demand: answer.demand.clone(),
    }
}

/// Whose order of suites counts, and whether compression is agreed on.
#[derive(Clone, Copy, Default)]
struct Preference {
    /// `None` where there is nothing to choose from.
    of_the_server: Option<bool>,
    compression: bool,
}

/// The groups of a version, and what else the questions for them told.
#[derive(Default)]
struct Groups {
    version: Option<Version>,
    groups: Vec<u16>,
    preference: Option<Preference>,
}

/// So many further questions for suites of TLS 1.3 ask for groups as well: most servers have three suites,
/// and the fourth question would be refused for either reason.
const ASKED_TOGETHER: usize = 2;

/// The alert of whoever speaks no version so old.
const PROTOCOL_VERSION: u8 = 70;

struct Asker<'a> {
    target: &'a Target,
    gate: Semaphore,
    connections: AtomicUsize,
}

impl Asker<'_> {
    /// The versions before TLS 1.2, oldest first.
    async fn old(&self) -> [(Offered, Vec<Answer>); 3] {
        let tls11 = self.version(Version::Tls11).await;
        // RFC 5246 appendix E.1: so ends who has only newer ones.
        if tls11.0.suites.is_empty() && tls11.0.end == Some(End::Alert(PROTOCOL_VERSION)) {
            let refused = |version| (Offered { version, ..tls11.0.clone() }, Vec::new());
            return [refused(Version::Ssl3), refused(Version::Tls10), tls11];
        }
        let (ssl3, tls10) = tokio::join!(self.version(Version::Ssl3), self.version(Version::Tls10));
        [ssl3, tls10, tls11]
    }

    /// Finds the suites of one version, and what came with each.
    async fn version(&self, version: Version) -> (Offered, Vec<Answer>) {
        let groups = asked_groups(version);
        let mut left = Suite::of(version);
        let mut offered = Offered {
            version,
            suites: Vec::new(),
            groups: Vec::new(),
            groups_complete: false,
            server_prefers: None,
            compression: false,
            end: None,
        };
        let mut answers: Vec<Answer> = Vec::new();
        let mut together = version >= Version::Tls12;
        while !left.is_empty() {
            let new: Vec<u16> =
                groups.iter().copied().filter(|group| !offered.groups.contains(group)).collect();
            together &= version == Version::Tls12 || offered.suites.len() <= ASKED_TOGETHER;
            // One question may find a suite and a group.
            let both = together && !offered.groups.is_empty() && !new.is_empty();
            let mut asked =
                self.ask(version, &left, if both { &new } else { &groups }, false).await;
            let has_group = |asked: &Result<(Answer, u16), End>, among: &[u16]| {
                let group = asked.as_ref().ok().and_then(|(answer, _)| answer.group());
                group.is_some_and(|group| among.contains(&group))
            };
            if both && !has_group(&asked, &new) {
                // Without a group there is another suite, or none: not what stands next. Where that one
                // has a group, it is because none is left.
                together = false;
                asked = self.ask(version, &left, &groups, false).await;
                offered.groups_complete = has_group(&asked, &groups);
            }
            match asked {
                Ok((answer, suite)) => {
                    left.retain(|&other| other != suite);
                    offered.groups.extend(answer.group().filter(|group| new.contains(group)));
                    offered.suites.push(Found { suite, exchange: answer.exchange });
                    // Whoever does not end this answer will not end the next hundred.
                    let trouble = answer.trouble;
                    // What later answers say again is not kept.
                    let known = answers.iter().any(|one| one.chain.first() == answer.chain.first());
                    if answers.len() < CHAINS && (answers.is_empty() || !known) {
                        answers.push(answer);
                    }
                    if let Some(trouble) = trouble {
                        offered.end = Some(End::Trouble(trouble));
                        break;
                    }
                }
                Err(end) => {
                    offered.end = Some(end);
                    break;
                }
            }
        }
        (offered, answers)
    }

    /// Offers what was found the other way round, and compression with it.
    async fn preference(&self, offered: &Offered) -> Preference {
        let Some(first) = offered.suites.first() else { return Preference::default() };
        let suites: Vec<_> = offered.suites.iter().rev().map(|found| found.suite).collect();
        let groups = asked_groups(offered.version);
        let compression = offered.version < Version::Tls13;
        if suites.len() < 2 && !compression {
            return Preference::default();
        }
        match self.ask(offered.version, &suites, &groups, compression).await {
            Ok((answer, suite)) => Preference {
                of_the_server: (suites.len() > 1).then_some(suite == first.suite),
                compression: answer.hello.is_some_and(|hello| hello.compressed),
            },
            Err(_) => Preference::default(),
        }
    }

    /// Finds the groups of a version by leaving out what was chosen. The first question offers the
    /// suites the other way round, and compression with them.
    async fn groups(&self, offered: Option<&Offered>) -> Groups {
        let Some(offered) = offered else { return Groups::default() };
        let over_curves = |found: &&Found| {
            Suite::find(found.suite)
                .is_some_and(|suite| matches!(suite.exchange, Exchange::Ecdhe | Exchange::Any))
        };
        let mut suites: Vec<_> =
            offered.suites.iter().filter(over_curves).map(|found| found.suite).collect();
        let first = suites.first().copied();
        suites.reverse();
        let compression = offered.version < Version::Tls13;
        let mut found = Groups {
            version: Some(offered.version),
            groups: offered.groups.clone(),
            preference: None,
        };
        let mut left = groups(offered.version);
        left.retain(|group| !found.groups.contains(group) && !offered.groups_complete);
        while !suites.is_empty() && !left.is_empty() {
            let compression = compression && found.preference.is_none();
            let asked = self.ask(offered.version, &suites, &left, compression).await;
            let Ok((answer, suite)) = asked else { break };
            let Some(group) = answer.group().filter(|group| left.contains(group)) else { break };
            if found.preference.is_none() && suites.len() > 1 {
                found.preference = Some(Preference {
                    of_the_server: Some(Some(suite) == first),
                    compression: answer.hello.is_some_and(|hello| hello.compressed),
                });
            }
            left.retain(|&other| other != group);
            found.groups.push(group);
        }
        found
    }

    /// One question: the answer and the suite that was agreed on.
    async fn ask(
        &self,
        version: Version,
        suites: &[u16],
        groups: &[u16],
        compression: bool,
    ) -> Result<(Answer, u16), End> {
        // A gate that is never closed always lets in.
        let _place = self.gate.acquire().await.map_err(|_| End::OutOfTime)?;
        let name = self.target.name.as_deref();
        let hello = Hello { version, suites, groups, name, compression };
        let answer = self.exchange(&hello.record()).await?;
        let Some(said) = &answer.hello else {
            return Err(match (answer.alert, answer.trouble) {
                (Some(alert), _) => End::Alert(alert),
                (None, trouble) => End::Trouble(trouble.unwrap_or(Trouble::Closed)),
            });
        };
        if said.version != version.number() {
            return Err(End::OtherVersion(said.version));
        }
        if !suites.contains(&said.suite) {
            return Err(End::NotOffered(said.suite));
        }
        // A hello is not yet an agreement: some servers only see then that they cannot go on.
        if let Some(alert) = answer.alert {
            return Err(End::Alert(alert));
        }
        if answer.trouble == Some(Trouble::Closed) {
            return Err(End::Trouble(Trouble::Closed));
        }
        let suite = said.suite;
        Ok((answer, suite))
    }

    async fn exchange(&self, question: &[u8]) -> Result<Answer, End> {
        let mut stream = match self.connect().await {
            // A server that takes one connection after the other may be behind.
            Err(End::Unreached(_)) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                self.connect().await?
            }
            other => other?,
        };
        let mut parser = Parser::default();
        let mut buffer = vec![0; 16 * 1024];
        let reading = async {
            if stream.write_all(question).await.is_err() {
                return Trouble::Closed;
            }
            loop {
                let read = stream.read(&mut buffer);
                match tokio::time::timeout(self.target.read, read).await {
                    Err(_) => return Trouble::Silent,
                    Ok(Ok(0) | Err(_)) => return Trouble::Closed,
                    Ok(Ok(length)) => {
                        if !parser.push(buffer.get(..length).unwrap_or_default()) {
                            return Trouble::Closed;
                        }
                    }
                }
            }
        };
        match tokio::time::timeout_at(self.target.deadline.into(), reading).await {
            Ok(why) => Ok(parser.finish(why)),
            Err(_) => Err(End::OutOfTime),
        }
    }

    async fn connect(&self) -> Result<TcpStream, End> {
        let Target { address, source, connect, deadline, .. } = self.target;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(End::OutOfTime);
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        let connecting = async {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            if let Some(source) = source {
                socket.bind(SocketAddr::new(*source, 0))?;
            }
            socket.connect(*address).await
        };
        match tokio::time::timeout((*connect).min(left), connecting).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                Ok(stream)
            }
            Ok(Err(error)) => Err(End::Unreached(error.to_string())),
            Err(_) => Err(End::Unreached("no connection in time".to_owned())),
        }
    }
}

/// The groups of an ordinary question; the oldest version cannot name any.
fn asked_groups(version: Version) -> Vec<u16> {
    if version == Version::Ssl3 { Vec::new() } else { groups(version) }
}
