//! What a server says in the clear, read as it comes in.
//!
//! Whatever comes, no more is kept than the bounds here say, and what cannot be read is told, not
//! an error: it is what was looked for.

use super::Version;

/// Most bytes of handshake that are kept of one answer.
pub const HANDSHAKE_BYTES: usize = 256 * 1024;
/// Most certificates of one chain that are kept.
pub const CERTIFICATES: usize = 64;
/// Most names of authorities that are kept.
const AUTHORITIES: usize = 64;
/// A record may hold this much and a little more. RFC 5246 §6.2.3.
const RECORD_BYTES: usize = 16 * 1024 + 2048;

/// Marks a `ServerHello` that asks for another `ClientHello`. RFC 8446 §4.1.3.
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// An answer, as far as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub hello: Option<ServerHello>,
    /// As they came, the server's own first, DER.
    pub chain: Vec<Vec<u8>>,
    /// Whether more certificates came than are kept.
    pub chain_cut: bool,
    pub exchange: Option<KeyExchange>,
    pub demand: Option<Demand>,
    /// The authority's answer about the certificate (OCSP), DER.
    pub staple: Option<Vec<u8>>,
    /// The number of the alert that ended it. RFC 5246 §7.2.
    pub alert: Option<u8>,
    pub trouble: Option<Trouble>,
    /// The server has said all that it says in the clear.
    pub done: bool,
}

impl Answer {
    /// The named group that keys are agreed on over.
    #[must_use]
    pub fn group(&self) -> Option<u16> {
        match self.exchange {
            Some(KeyExchange::Curve(group)) => Some(group),
            _ => self.hello.as_ref()?.group,
        }
    }
}

/// Why an answer is no whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No TLS at all.
    Garbage,
    /// TLS, then something that makes no sense.
    Malformed,
    /// More than is read.
    TooMuch,
    /// The connection ended.
    Closed,
    /// Nothing more came in time.
    Silent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// As it stands on the wire, that of TLS 1.3 as well.
    pub version: u16,
    pub suite: u16,
    pub compressed: bool,
    /// Whether a session identifier came, so the session may be taken up again.
    pub session: bool,
    pub ticket: bool,
    pub renegotiation: bool,
    pub extended_master_secret: bool,
    pub alpn: Option<String>,
    /// TLS 1.3: the group that the server wants.
    pub group: Option<u16>,
}

/// How the keys are agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyExchange {
    /// Over this named group.
    Curve(u16),
    /// In whole numbers below a prime of this many bits.
    Prime(u32),
}

/// What a server wants to see of its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Names of authorities, DER.
    pub authorities: Vec<Vec<u8>>,
}

/// Takes bytes and keeps what they say.
#[derive(Debug, Default)]
pub struct Parser {
    /// Bytes that make no whole record yet.
    wire: Vec<u8>,
    /// Handshake bytes that make no whole message yet.
    messages: Vec<u8>,
    /// All handshake bytes so far.
    taken: usize,
    /// All bytes so far.
    came: usize,
    answer: Answer,
}

impl Parser {
    /// Takes what came. Whether more is wanted.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        if self.is_over() {
            return false;
        }
        self.came = self.came.saturating_add(bytes.len());
        self.wire.extend_from_slice(bytes);
        if self.came > 2 * HANDSHAKE_BYTES {
            self.answer.trouble = Some(Trouble::TooMuch);
        }
        while !self.is_over() && self.record().is_some() {}
        !self.is_over()
    }

    /// What was understood; `why` is why no more came, where more was wanted.
    #[must_use]
    pub fn finish(mut self, why: Trouble) -> Answer {
        if !self.is_over() {
            self.answer.trouble = Some(why);
        }
        self.answer
    }

    fn is_over(&self) -> bool {
        let answer = &self.answer;
        answer.done || answer.alert.is_some() || answer.trouble.is_some()
    }

    /// Takes one whole record off the wire, where there is one.
    fn record(&mut self) -> Option<()> {
        let mut at = At(&self.wire);
        // What no server of TLS says is told at once: a greeting in text ends nowhere.
        let kind = at.u8()?;
        let major = self.wire.get(1).copied();
        if !matches!(kind, 20..=24) || major.is_some_and(|major| major != 3) {
            let begun = self.answer.hello.is_some();
            self.answer.trouble = Some(if begun { Trouble::Malformed } else { Trouble::Garbage });
            return None;
        }
        let _version = at.u16()?;
        let length = usize::from(at.u16()?);
        if length > RECORD_BYTES {
            self.answer.trouble = Some(Trouble::Malformed);
            return None;
        }
        let body = at.take(length)?.to_vec();
        self.wire.drain(..5 + length);
        match kind {
            21 => self.answer.alert = Some(body.get(1).copied().unwrap_or_default()),
            22 => self.handshake(&body),
            // Behind a request for another hello there may be a change of ciphers that says nothing.
            20 if self.answer.hello.is_some() => {}
            _ => self.answer.trouble = Some(Trouble::Malformed),
        }
        Some(())
    }

    fn handshake(&mut self, body: &[u8]) {
        self.taken += body.len();
        if self.taken > HANDSHAKE_BYTES {
            self.messages.clear();
            self.answer.trouble = Some(Trouble::TooMuch);
            return;
        }
        self.messages.extend_from_slice(body);
        while !self.is_over() {
            let mut at = At(&self.messages);
            let Some((kind, message)) = at.u8().zip(at.block24()) else {
                if self.announces_too_much() {
                    self.answer.trouble = Some(Trouble::TooMuch);
                }
                return;
            };
            let (message, rest) = (message.to_vec(), at.0.to_vec());
            self.messages = rest;
            if self.message(kind, &message).is_none() {
                self.answer.trouble = Some(Trouble::Malformed);
            }
        }
    }

    /// Whether the message that has begun is longer than what is read at all.
    fn announces_too_much(&self) -> bool {
        let mut at = At(&self.messages);
        at.u8().and_then(|_| at.u24()).is_some_and(|length| length > HANDSHAKE_BYTES)
    }

    fn message(&mut self, kind: u8, body: &[u8]) -> Option<()> {
        let suite = self.answer.hello.as_ref().map(|hello| hello.suite);
        if suite.is_none() && kind != 2 && kind != 0 {
            return None;
        }
        match kind {
            // A request to negotiate anew means nothing here.
            0 => {}
            2 if suite.is_none() => {
                let hello = hello(body)?;
                self.answer.done = hello.version == Version::Tls13.number();
                self.answer.hello = Some(hello);
            }
            11 => self.certificates(body)?,
            12 => self.answer.exchange = key_exchange(suite?, body),
            13 => {
                let version = self.answer.hello.as_ref()?.version;
                self.answer.demand = Some(demand(version, body)?);
            }
            14 => self.answer.done = true,
            // status_type 1: ocsp.
            22 => {
                let mut at = At(body);
                self.answer.staple =
                    (at.u8()? == 1).then(|| at.block24()).flatten().map(<[u8]>::to_vec);
            }
            // A new session ticket, or supplemental data: not before the end, and harmless.
            4 | 23 => {}
            _ => return None,
        }
        Some(())
    }

    fn certificates(&mut self, body: &[u8]) -> Option<()> {
        let mut list = At(At(body).block24()?);
        while !list.0.is_empty() {
            let certificate = list.block24()?;
            if self.answer.chain.len() == CERTIFICATES {
                self.answer.chain_cut = true;
                break;
            }
            self.answer.chain.push(certificate.to_vec());
        }
        Some(())
    }
}

fn hello(body: &[u8]) -> Option<ServerHello> {
    let mut at = At(body);
    let mut version = at.u16()?;
    let is_retry = at.take(32)? == RETRY;
    let session = !at.block8()?.is_empty();
    let suite = at.u16()?;
    let compressed = at.u8()? != 0;
    let mut hello = ServerHello {
        version,
        suite,
        compressed,
        session: session && !is_retry,
        ticket: false,
        renegotiation: false,
        extended_master_secret: false,
        alpn: None,
        group: None,
    };
    // The oldest servers end here.
    let mut extensions = At(if at.0.is_empty() { &[] } else { at.block16()? });
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut value = At(extensions.block16()?);
        match kind {
            16 => {
                let name = At(value.block16()?).block8()?;
                hello.alpn = Some(String::from_utf8_lossy(name).into_owned());
            }
            23 => hello.extended_master_secret = true,
            35 => hello.ticket = true,
            43 => version = value.u16()?,
            51 => hello.group = Some(value.u16()?),
            0xff01 => hello.renegotiation = true,
            _ => {}
        }
    }
    hello.version = version;
    Some(hello)
}

/// What the keys are made from; `None` where it is neither a prime nor a named curve.
fn key_exchange(suite: u16, body: &[u8]) -> Option<KeyExchange> {
    use super::suite::{Exchange, Suite};
    let mut at = At(body);
    match Suite::find(suite)?.exchange {
        Exchange::Ecdhe => (at.u8()? == 3).then(|| at.u16()).flatten().map(KeyExchange::Curve),
        Exchange::Dhe => {
            let prime = at.block16()?;
            let first = prime.iter().position(|&byte| byte != 0)?;
            let bytes = u32::try_from(prime.len() - first).ok()?;
            Some(KeyExchange::Prime(bytes * 8 - prime.get(first)?.leading_zeros()))
        }
        _ => None,
    }
}

fn demand(version: u16, body: &[u8]) -> Option<Demand> {
    let mut at = At(body);
    let _kinds = at.block8()?;
    if version >= Version::Tls12.number() {
        let _signatures = at.block16()?;
    }
    let mut names = At(at.block16()?);
    let mut authorities = Vec::new();
    while !names.0.is_empty() {
        let name = names.block16()?;
        if authorities.len() < AUTHORITIES {
            authorities.push(name.to_vec());
        }
    }
    Some(Demand { authorities })
}

/// A place in bytes; it never goes past their end.
struct At<'a>(&'a [u8]);

impl<'a> At<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u24(&mut self) -> Option<usize> {
        Some(usize::from(self.u8()?) << 16 | usize::from(self.u16()?))
    }

    fn block8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    fn block16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    fn block24(&mut self) -> Option<&'a [u8]> {
        let length = self.u24()?;
        self.take(length)
    }
}

#[cfg(test)]
#[path = "answer/tests.rs"]
mod tests;
