//! The way to an address, hop by hop, and where it ends.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::net::UdpSocket;

use super::icmp::{self, Leave, Seen};
use super::tcp::{self, Outcome};

/// Most routers that are looked for.
const MAX_HOPS: u8 = 30;
/// How often each hop is asked.
const ROUNDS: u8 = 2;
/// Apart, so that routers which answer only now and then answer the second one.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(300);
/// How many hops are tried at once with connections: few, for each may reach the server.
const AT_ONCE: u8 = 4;
/// So many silent hops in a row end a search with connections.
const SILENT_HOPS: usize = 8;

/// What stands at a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Router,
    /// The address itself.
    Target,
    /// Says that there is no way on.
    NoWay,
    /// Says that a rule forbids the way on.
    Forbidden,
    Silent,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Hop {
    pub number: u8,
    pub kind: Kind,
    /// Who answered, where that can be seen.
    pub address: Option<IpAddr>,
    pub round_trip_ms: Option<f64>,
}

/// What was seen of the way.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Path {
    pub to: IpAddr,
    /// Without leave to read what routers say, their addresses are not known.
    pub shows_routers: bool,
    /// Up to the last one that answered.
    pub hops: Vec<Hop>,
    pub is_complete: bool,
}

/// Looks for the routers on the way with ICMP, all hops at once; where this process may not, counts
/// them with connections that end early.
pub async fn trace(to: SocketAddr, source: Option<IpAddr>, limit: Duration) -> Path {
    match icmp::open(to.ip(), source, true) {
        Ok((socket, leave)) => by_icmp(&socket, to.ip(), leave, limit).await,
        Err(_) => by_tcp(to, source, limit).await,
    }
}

async fn by_icmp(socket: &UdpSocket, to: IpAddr, leave: Leave, limit: Duration) -> Path {
    let id = fastrand::u16(..);
    let started = Instant::now();
    let mut hops: Vec<Hop> = (1..=MAX_HOPS).map(silent).collect();
    let mut sent_at = [started; (MAX_HOPS as usize + 1) * ROUNDS as usize];
    for round in 0..ROUNDS {
        for number in 1..=MAX_HOPS {
            let sequence = usize::from(round) * usize::from(MAX_HOPS) + usize::from(number);
            let packet = icmp::echo(to, id, u16::try_from(sequence).unwrap_or_default());
            sent_at[sequence] = Instant::now();
            if tcp::set_hops(socket, to, number).is_ok() {
                let _ = socket.send_to(&packet, SocketAddr::new(to, 0)).await;
            }
        }
        let is_last = round + 1 == ROUNDS;
        let wait = if is_last { limit.saturating_sub(started.elapsed()) } else { BETWEEN_ROUNDS };
        let _ = tokio::time::timeout(wait, async {
            let mut buffer = [0; 1500];
            while !is_known(&hops) {
                let Ok((length, from)) = socket.recv_from(&mut buffer).await else { return };
                note(
                    &mut hops,
                    &sent_at,
                    id,
                    from.ip(),
                    icmp::read(&buffer[..length], to.is_ipv4(), leave),
                );
            }
        })
        .await;
    }
    path(to, true, hops)
}

/// Whether every hop up to the end is known: then there is nothing to wait for.
fn is_known(hops: &[Hop]) -> bool {
    let end = hops
        .iter()
        .position(|hop| matches!(hop.kind, Kind::Target | Kind::NoWay | Kind::Forbidden));
    end.is_some_and(|end| hops[..end].iter().all(|hop| hop.kind != Kind::Silent))
}

fn note(hops: &mut [Hop], sent_at: &[Instant], id: u16, from: IpAddr, seen: Option<Seen>) {
    let (its, sequence, kind) = match seen {
        Some(Seen::Reply { id, sequence }) => (id, sequence, Kind::Target),
        Some(Seen::Expired { id, sequence }) => (id, sequence, Kind::Router),
        Some(Seen::NoWay { id, sequence, is_forbidden: true }) => (id, sequence, Kind::Forbidden),
        Some(Seen::NoWay { id, sequence, .. }) => (id, sequence, Kind::NoWay),
        None => return,
    };
    let sequence = usize::from(sequence);
    if its != id || sequence == 0 {
        return;
    }
    let Some(sent) = sent_at.get(sequence) else { return };
    let Some(hop) = hops.get_mut((sequence - 1) % usize::from(MAX_HOPS)) else { return };
    if hop.kind == Kind::Silent {
        hop.kind = kind;
        hop.address = Some(from);
        hop.round_trip_ms = Some(sent.elapsed().as_secs_f64() * 1000.0);
    }
}

/// A connection whose hops are used up fails at once where a router says so, and nobody's address is
/// told to a process without leave.
async fn by_tcp(to: SocketAddr, source: Option<IpAddr>, limit: Duration) -> Path {
    let started = Instant::now();
    let mut hops: Vec<Hop> = Vec::new();
    for first in (1..=MAX_HOPS).step_by(usize::from(AT_ONCE)) {
        let left = limit.saturating_sub(started.elapsed());
        if left.is_zero() {
            break;
        }
        let numbers = first..(first + AT_ONCE).min(MAX_HOPS + 1);
        let wait = left.min(Duration::from_secs(1));
        let tries = numbers.clone().map(|number| tcp::connect_over(to, source, wait, Some(number)));
        let answers = join_all(tries).await;
        for (number, attempt) in numbers.zip(answers) {
            let kind = match attempt.outcome {
                Outcome::Open | Outcome::Closed | Outcome::Cut | Outcome::Refused => Kind::Target,
                Outcome::Unreachable => Kind::Router,
                Outcome::Prohibited => Kind::Forbidden,
                Outcome::Timeout => Kind::Silent,
                _ => Kind::NoWay,
            };
            let trip = (kind != Kind::Silent).then_some(attempt.duration_ms);
            let address = (kind == Kind::Target).then(|| to.ip());
            hops.push(Hop { number, kind, address, round_trip_ms: trip });
        }
        let ended = hops.iter().any(|hop| !matches!(hop.kind, Kind::Router | Kind::Silent));
        let quiet = hops.iter().rev().take_while(|hop| hop.kind == Kind::Silent).count();
        if ended || quiet >= SILENT_HOPS {
            break;
        }
    }
    path(to.ip(), false, hops)
}

fn silent(number: u8) -> Hop {
    Hop { number, kind: Kind::Silent, address: None, round_trip_ms: None }
}

/// Cut off behind its end, or behind the last who answered.
fn path(to: IpAddr, shows_routers: bool, mut hops: Vec<Hop>) -> Path {
    let end = hops.iter().position(|hop| !matches!(hop.kind, Kind::Router | Kind::Silent));
    let last = hops.iter().rposition(|hop| hop.kind != Kind::Silent);
    hops.truncate(end.or(last).map_or(0, |last| last + 1));
    let is_complete = hops.last().is_some_and(|hop| hop.kind == Kind::Target);
    Path { to, shows_routers, hops, is_complete }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_with_its_target_or_with_the_last_who_answered() {
        let hops = |kinds: &[Kind]| {
            let all = (1..).zip(kinds).map(|(number, &kind)| Hop { kind, ..silent(number) });
            path("192.0.2.1".parse().unwrap(), true, all.collect())
        };
        for (kinds, length, is_complete) in [
            (&[Kind::Router, Kind::Target, Kind::Target][..], 2, true),
            (&[Kind::Router, Kind::Silent, Kind::Router, Kind::Silent], 3, false),
            (&[Kind::Router, Kind::Forbidden, Kind::Silent], 2, false),
            (&[Kind::Silent, Kind::Silent], 0, false),
            (&[Kind::Silent, Kind::Target], 2, true),
        ] {
            let found = hops(kinds);
            assert_eq!((found.hops.len(), found.is_complete), (length, is_complete), "{kinds:?}");
        }
    }

    #[test]
    fn what_others_were_told_is_no_hop_of_ours() {
        let mut hops: Vec<Hop> = (1..=MAX_HOPS).map(silent).collect();
        let sent = vec![Instant::now(); 62];
        let from: IpAddr = "192.0.2.9".parse().unwrap();
        note(&mut hops, &sent, 7, from, Some(Seen::Expired { id: 8, sequence: 1 }));
        note(&mut hops, &sent, 7, from, Some(Seen::Expired { id: 7, sequence: 0 }));
        note(&mut hops, &sent, 7, from, Some(Seen::Expired { id: 7, sequence: 999 }));
        assert!(hops.iter().all(|hop| hop.kind == Kind::Silent));
        note(&mut hops, &sent, 7, from, Some(Seen::Expired { id: 7, sequence: 32 }));
        assert_eq!((hops[1].kind, hops[1].address), (Kind::Router, Some(from)));
    }

    #[tokio::test]
    async fn loopback_is_one_hop_away_by_connections() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let found = by_tcp(to, None, Duration::from_secs(5)).await;
        assert!(found.is_complete && found.hops.len() == 1, "{found:?}");
    }
}
