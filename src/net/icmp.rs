//! ICMP echoes: how they are sent, and what comes back (RFC 792, RFC 4443).

use std::io;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// What an echo carries, so that who sees it knows what it is.
const PAYLOAD: &[u8] = b"fhirctl diag: is this host there";
const HEADER: usize = 8;

/// By which leave echoes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Leave {
    /// The kernel lets every user of `ping_group_range` send echoes, and numbers them itself.
    Datagram,
    /// A raw socket, as root or with `CAP_NET_RAW`; it sees the messages of routers, too.
    Raw,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Reply {
        id: u16,
        sequence: u16,
    },
    /// A router let the packet end there: its hops were used up.
    Expired {
        id: u16,
        sequence: u16,
    },
    /// Somebody says that there is no way; `is_forbidden` where a rule is the reason.
    NoWay {
        id: u16,
        sequence: u16,
        is_forbidden: bool,
    },
}

/// A socket for echoes to one address; a raw one first where `raw` is wanted.
///
/// # Errors
/// When this process may send none.
pub fn open(to: IpAddr, source: Option<IpAddr>, raw: bool) -> io::Result<(UdpSocket, Leave)> {
    if raw {
        return Ok((socket(to, source, Leave::Raw)?, Leave::Raw));
    }
    match socket(to, source, Leave::Datagram) {
        Ok(socket) => Ok((socket, Leave::Datagram)),
        Err(_) => Ok((socket(to, source, Leave::Raw)?, Leave::Raw)),
    }
}

fn socket(to: IpAddr, source: Option<IpAddr>, leave: Leave) -> io::Result<UdpSocket> {
    let kind = match leave {
        Leave::Datagram => Type::DGRAM,
        Leave::Raw => Type::RAW,
    };
    let (domain, protocol) = if to.is_ipv4() {
        (Domain::IPV4, Protocol::ICMPV4)
    } else {
        (Domain::IPV6, Protocol::ICMPV6)
    };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    if let Some(source) = source.filter(|source| source.is_ipv4() == to.is_ipv4()) {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.set_nonblocking(true)?;
    // Its calls are those of every socket for datagrams.
    UdpSocket::from_std(socket.into())
}

/// An echo request.
#[must_use]
pub fn echo(to: IpAddr, id: u16, sequence: u16) -> Vec<u8> {
    let kind = if to.is_ipv4() { 8 } else { 128 };
    let mut packet = vec![kind, 0, 0, 0];
    packet.extend(id.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(PAYLOAD);
    // For IPv6 the kernel does it, which knows the addresses that count.
    if to.is_ipv4() {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// What a received packet says, where it speaks of an echo.
#[must_use]
pub fn read(packet: &[u8], is_ipv4: bool, leave: Leave) -> Option<Seen> {
    // A raw socket of IPv4 gives the header of IP along.
    let message = if is_ipv4 && leave == Leave::Raw { after_ipv4(packet)? } else { packet };
    let (&kind, &code) = (message.first()?, message.get(1)?);
    let (reply, expired, no_way) = if is_ipv4 { (0, 11, 3) } else { (129, 3, 1) };
    if kind == reply {
        let (id, sequence) = numbers(message)?;
        return Some(Seen::Reply { id, sequence });
    }
    if kind != expired && kind != no_way {
        return None;
    }
    // The beginning of the packet that it is about stands behind the header.
    let about = message.get(HEADER..)?;
    let inner = if is_ipv4 { after_ipv4(about)? } else { about.get(40..)? };
    if *inner.first()? != if is_ipv4 { 8 } else { 128 } {
        return None;
    }
    let (id, sequence) = numbers(inner)?;
    Some(if kind == expired {
        Seen::Expired { id, sequence }
    } else {
        let is_forbidden =
            if is_ipv4 { matches!(code, 9 | 10 | 13) } else { matches!(code, 1 | 5) };
        Seen::NoWay { id, sequence, is_forbidden }
    })
}

fn after_ipv4(packet: &[u8]) -> Option<&[u8]> {
    packet.get(usize::from(packet.first()? & 0x0f) * 4..)
}

fn numbers(message: &[u8]) -> Option<(u16, u16)> {
    let two = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    Some((two(4)?, two(6)?))
}

/// RFC 1071.
fn checksum(packet: &[u8]) -> u16 {
    let words = packet.chunks(2).map(|pair| {
        u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_of_ipv4_sums_up_to_nothing() {
        let packet = echo("192.0.2.1".parse().unwrap(), 7, 9);
        assert_eq!(checksum(&packet), 0);
        assert_eq!(numbers(&packet), Some((7, 9)));
    }

    #[test]
    fn replies_and_what_routers_say_are_read_and_the_rest_is_not() {
        let four: IpAddr = "192.0.2.1".parse().unwrap();
        let mut header = vec![0; 20];
        header[0] = 0x45;
        let mut reply = echo(four, 7, 9);
        reply[0] = 0;
        let router = |kind: u8, code: u8| {
            let mut packet = header.clone();
            packet.extend([kind, code, 0, 0, 0, 0, 0, 0]);
            packet.extend(&header);
            packet.extend(&echo(four, 7, 9)[..8]);
            packet
        };
        let raw = |message: &[u8]| [&header[..], message].concat();
        for (packet, leave, expected) in [
            (reply.clone(), Leave::Datagram, Some(Seen::Reply { id: 7, sequence: 9 })),
            (raw(&reply), Leave::Raw, Some(Seen::Reply { id: 7, sequence: 9 })),
            (router(11, 0), Leave::Raw, Some(Seen::Expired { id: 7, sequence: 9 })),
            (
                router(3, 13),
                Leave::Raw,
                Some(Seen::NoWay { id: 7, sequence: 9, is_forbidden: true }),
            ),
            (
                router(3, 1),
                Leave::Raw,
                Some(Seen::NoWay { id: 7, sequence: 9, is_forbidden: false }),
            ),
            // Our own request, as a raw socket on loopback sees it.
            (raw(&echo(four, 7, 9)), Leave::Raw, None),
            (router(5, 0), Leave::Raw, None),
        ] {
            assert_eq!(read(&packet, true, leave), expected, "{packet:?}");
        }
        let whole = router(11, 0);
        for length in 0..whole.len() - 1 {
            assert_eq!(read(&whole[..length], true, Leave::Raw), None, "{length}");
        }
    }
}
