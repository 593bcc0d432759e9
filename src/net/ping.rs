//! A few echoes to an address: whether it is there, how far, how evenly.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::net::UdpSocket;

use super::icmp::{self, Leave, Seen};
use super::tcp::{self, Outcome};

/// How many echoes are sent.
const PROBES: u16 = 3;
/// From one to the next.
const PAUSE: Duration = Duration::from_millis(60);

/// How it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// ICMP, as every user may where the kernel is set so.
    IcmpDatagram,
    /// ICMP over a raw socket.
    IcmpRaw,
    /// Connections, where ICMP is not allowed to this process.
    Tcp,
}

/// What came of the echoes to one address.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Echoes {
    pub address: IpAddr,
    pub means: Means,
    pub sent: usize,
    pub received: usize,
    pub min_ms: Option<f64>,
    pub average_ms: Option<f64>,
    pub max_ms: Option<f64>,
    /// The mean difference from one round trip to the next.
    pub jitter_ms: Option<f64>,
    /// Somebody on the way says that there is none.
    pub is_unreachable: bool,
}

impl Echoes {
    #[must_use]
    pub fn loss_percent(&self) -> f64 {
        let lost = self.sent.saturating_sub(self.received);
        if self.sent == 0 { 0.0 } else { 100.0 * lost as f64 / self.sent as f64 }
    }
}

/// Sends three echoes by ICMP, or where this process may not, connects three times.
pub async fn ping(to: SocketAddr, source: Option<IpAddr>, wait: Duration) -> Echoes {
    match icmp::open(to.ip(), source, false) {
        Ok((socket, leave)) => by_icmp(&socket, to.ip(), leave, wait).await,
        Err(_) => by_tcp(to, source, wait).await,
    }
}

async fn by_icmp(socket: &UdpSocket, to: IpAddr, leave: Leave, wait: Duration) -> Echoes {
    let id = fastrand::u16(..);
    let mut sent_at: Vec<Instant> = Vec::new();
    let mut trips: Vec<Option<Duration>> = vec![None; usize::from(PROBES)];
    let mut is_unreachable = false;
    let target = SocketAddr::new(to, 0);
    let work = async {
        let mut buffer = [0; 1500];
        for sequence in 0..PROBES {
            sent_at.push(Instant::now());
            if socket.send_to(&icmp::echo(to, id, sequence), target).await.is_err() {
                is_unreachable = true;
                continue;
            }
            let is_last = sequence + 1 == PROBES;
            let until = Instant::now() + if is_last { wait } else { PAUSE };
            while trips.iter().take(sent_at.len()).any(Option::is_none) || !is_last {
                let left = until.saturating_duration_since(Instant::now());
                let came = tokio::time::timeout(left, socket.recv_from(&mut buffer)).await;
                let Ok(Ok((length, _))) = came else { break };
                match icmp::read(&buffer[..length], to.is_ipv4(), leave) {
                    Some(Seen::Reply { id: its, sequence })
                        if leave == Leave::Datagram || its == id =>
                    {
                        let at = usize::from(sequence);
                        if let (Some(sent), Some(trip)) = (sent_at.get(at), trips.get_mut(at)) {
                            trip.get_or_insert(sent.elapsed());
                        }
                    }
                    Some(Seen::NoWay { id: its, .. }) if its == id => is_unreachable = true,
                    _ => {}
                }
                if is_unreachable {
                    break;
                }
            }
        }
    };
    // What is awaited above is bounded; a flood of other packets is not.
    let _ = tokio::time::timeout(wait + PAUSE * u32::from(PROBES) * 2, work).await;
    let means = match leave {
        Leave::Datagram => Means::IcmpDatagram,
        Leave::Raw => Means::IcmpRaw,
    };
    let trips: Vec<_> = trips.into_iter().flatten().collect();
    sum_up(to, means, sent_at.len(), &trips, is_unreachable)
}

async fn by_tcp(to: SocketAddr, source: Option<IpAddr>, wait: Duration) -> Echoes {
    let mut trips = Vec::new();
    let mut is_unreachable = false;
    for _ in 0..PROBES {
        let attempt = tcp::connect(to, source, wait).await;
        match attempt.outcome {
            // A refusal comes from there, too.
            Outcome::Open | Outcome::Closed | Outcome::Cut | Outcome::Refused => {
                trips.push(Duration::from_secs_f64(attempt.duration_ms / 1000.0));
            }
            Outcome::Timeout => {}
            _ => is_unreachable = true,
        }
        // One that is silent stays so: three waits say no more than one.
        if trips.is_empty() {
            return sum_up(to.ip(), Means::Tcp, 1, &trips, is_unreachable);
        }
    }
    sum_up(to.ip(), Means::Tcp, usize::from(PROBES), &trips, is_unreachable)
}

fn sum_up(
    address: IpAddr,
    means: Means,
    sent: usize,
    trips: &[Duration],
    is_unreachable: bool,
) -> Echoes {
    let ms: Vec<f64> = trips.iter().map(|trip| trip.as_secs_f64() * 1000.0).collect();
    let mean = |values: &[f64]| {
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let steps: Vec<f64> = ms.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
    Echoes {
        address,
        means,
        sent,
        received: ms.len(),
        min_ms: ms.iter().copied().reduce(f64::min),
        average_ms: mean(&ms),
        max_ms: ms.iter().copied().reduce(f64::max),
        jitter_ms: mean(&steps),
        is_unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trips_are_summed_up() {
        let trips = [10, 14, 12].map(Duration::from_millis);
        let found = sum_up("192.0.2.1".parse().unwrap(), Means::IcmpRaw, 4, &trips, false);
        assert_eq!(found.loss_percent(), 25.0);
        assert_eq!((found.min_ms, found.max_ms), (Some(10.0), Some(14.0)));
        assert_eq!((found.average_ms, found.jitter_ms), (Some(12.0), Some(3.0)));
        let none = sum_up("192.0.2.1".parse().unwrap(), Means::IcmpRaw, 3, &[], false);
        assert_eq!((none.loss_percent(), none.average_ms), (100.0, None));
    }

    #[tokio::test]
    async fn connections_stand_in_where_icmp_may_not_be_sent() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let found = by_tcp(to, None, Duration::from_secs(5)).await;
        assert_eq!((found.means, found.sent, found.received), (Means::Tcp, 3, 3));
    }

    #[tokio::test]
    async fn loopback_answers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let found = ping(to, None, Duration::from_secs(5)).await;
        assert_eq!((found.sent, found.received), (3, 3), "{found:?}");
    }
}
