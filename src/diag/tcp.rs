//! `tcp`: every address apart, so that a working one does not hide a broken one.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::shell::Command;
use super::wire::{Sight, family, first_stop, ms};
use super::{Desk, Layer, Problem, Topic, TopicName, egress};
use crate::model::{Code, Party, Status};
use crate::net::route;
use crate::net::tcp::{self, Attempt, MAX_ADDRESSES, Outcome};

#[derive(Debug, Serialize, JsonSchema)]
struct Details {
    /// Connected to: the server, or its proxy.
    host: String,
    port: u16,
    is_proxy: bool,
    attempts: Vec<Tried>,
    /// Addresses that the inventory's rules forbid; not tried.
    forbidden: Vec<IpAddr>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Tried {
    #[serde(flatten)]
    attempt: Attempt,
    /// Whether this machine itself knows a way there.
    has_route: bool,
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let sight = desk.sight().await;
    if let Some(nothing) = sight.nothing_to_look_at(TopicName::Tcp) {
        return nothing;
    }
    let mut topic = Topic::new(TopicName::Tcp);
    sight.tell(&mut topic);
    let source = desk.server.network.source_address;
    let limit = desk.server.timeouts.connect.min(desk.remaining());
    let attempts = tcp::connect_each(&sight.addresses, source, limit).await;
    let tried: Vec<Tried> = attempts
        .into_iter()
        .map(|attempt| {
            let has_route =
                attempt.local.is_some() || route::local_address(attempt.address, source).is_ok();
            Tried { attempt, has_route }
        })
        .collect();
    topic.table(
        "",
        &["address", "family", "connection", "time", "from"],
        tried.iter().map(row).collect(),
    );
    if sight.addresses.len() > MAX_ADDRESSES {
        topic.note(format!("only the first {MAX_ADDRESSES} addresses are tried"));
    }
    for address in &sight.forbidden {
        topic.note(format!("{address} is not tried: the inventory does not allow it"));
    }
    let open = tried.iter().filter(|tried| tried.attempt.outcome.is_open()).count();
    if open == 0 {
        let problem = all_fail(sight, &tried);
        topic.problems.extend(problem.map(|problem| suspect_egress(desk, sight, problem)));
    } else {
        judge_some(&mut topic, sight, &tried);
        topic = topic.good(match tried.as_slice() {
            [one] => {
                format!("{} takes connections ({})", sight.shown(), ms(one.attempt.duration_ms))
            }
            _ => {
                format!("{open} of {} addresses of {} take connections", tried.len(), sight.shown())
            }
        });
    }
    topic.details(&Details {
        host: sight.host.clone(),
        port: sight.port,
        is_proxy: sight.is_proxy,
        attempts: tried,
        forbidden: sight.forbidden.clone(),
    });
    topic
}

fn row(tried: &Tried) -> Vec<String> {
    let attempt = &tried.attempt;
    let mut words = attempt.outcome.words().to_owned();
    if attempt.spoke_first {
        words.push_str(", and it speaks first, which no HTTP server does");
    }
    if !tried.has_route {
        words.push_str(" (by this machine itself)");
    }
    vec![
        attempt.address.to_string(),
        family(attempt.address.ip()).to_owned(),
        words,
        ms(attempt.duration_ms),
        attempt.local.map_or_else(String::new, |local| local.to_string()),
    ]
}

/// No address takes a connection: the one that got furthest says why.
fn all_fail(sight: &Sight, tried: &[Tried]) -> Option<Problem> {
    let furthest = tried.iter().min_by_key(|tried| distance(tried))?;
    let where_to = match tried.len() {
        1 => format!("{} ({})", sight.shown(), furthest.attempt.address.ip()),
        many => format!(
            "{} ({many} addresses, none opens; {})",
            sight.shown(),
            furthest.attempt.address
        ),
    };
    let mut problem = problem(furthest, &where_to);
    if sight.is_proxy {
        problem = Problem {
            code: Code::new("network.proxy"),
            party: Party::Network,
            next_step: Code::new("network.proxy").hint().map(str::to_owned),
            ..problem
        };
    }
    Some(problem)
}

/// Who is dropped or cut off and leaves by an address that is not on the vendor's list is so for
/// that reason.
fn suspect_egress(desk: &Desk, sight: &Sight, problem: Problem) -> Problem {
    let cut = ["tcp.timeout", "tcp.reset"].contains(&problem.code.as_str());
    let from = sight.addresses.first().and_then(|to| egress::unexpected(desk, *to));
    let Some(from) = from.filter(|_| cut && !sight.is_proxy) else { return problem };
    let message = format!(
        "{}; we leave by {from}, which is not in network.egress, so the vendor's firewall most \
         likely does not know us",
        problem.message
    );
    Problem::new(Code::new("network.egress_unexpected"), message)
        .at(Status::Critical)
        .layer(Layer::Tcp)
}

/// How little was heard of the server.
fn distance(tried: &Tried) -> u8 {
    match tried.attempt.outcome {
        Outcome::Open => 0,
        Outcome::Cut | Outcome::Closed => 1,
        Outcome::Reset => 2,
        Outcome::Refused => 3,
        Outcome::Timeout => 4,
        Outcome::Unreachable | Outcome::Prohibited if tried.has_route => 5,
        Outcome::Prohibited | Outcome::Blackhole => 6,
        Outcome::NotOurAddress => 7,
        Outcome::Unreachable | Outcome::NoRoute => 8,
        Outcome::Local => 9,
        Outcome::OtherFamily => 10,
    }
}

/// Some addresses work: those that do not cost every client that tries them first.
fn judge_some(topic: &mut Topic, sight: &Sight, tried: &[Tried]) {
    for tried in tried.iter().filter(|tried| !tried.attempt.outcome.is_open()) {
        let address = tried.attempt.address.ip();
        let family = family(address);
        match tried.attempt.outcome {
            // A machine without IPv6 is as it should be, and `localhost` often has two addresses.
            _ if address.to_canonical().is_loopback() => {}
            Outcome::NoRoute | Outcome::OtherFamily => {}
            Outcome::Unreachable if !tried.has_route => {}
            _ => {
                let where_to = format!("{} at {address} ({family})", sight.shown());
                let mut problem = problem(tried, &where_to).at(Status::Warning);
                problem.message.push_str("; other addresses of the name work, and hide it");
                if tried.attempt.outcome == Outcome::Timeout {
                    problem.next_step = Some(format!(
                        "ask the network team why {family} packets to {address} get lost; or ask the \
                         vendor to take the address out of the name"
                    ));
                }
                topic.problem(problem);
                continue;
            }
        }
        topic.note(format!(
            "{address} ({family}) cannot be used from here: {}; the others work",
            tried.attempt.outcome.words()
        ));
    }
}

fn problem(tried: &Tried, where_to: &str) -> Problem {
    let attempt = &tried.attempt;
    let waited = ms(attempt.duration_ms);
    let is = |code, message: String| Problem::new(Code::new(code), message);
    match attempt.outcome {
        Outcome::Open => is("tcp.reset", format!("{where_to} is open")).at(Status::Healthy),
        Outcome::Refused => is(
            "tcp.refused",
            format!(
                "{where_to} refused the connection after {waited}: the host is up, nothing listens"
            ),
        ),
        Outcome::Reset => {
            is("tcp.reset", format!("{where_to} reset the connection while it was being made"))
                .by(Party::Network)
        }
        // No web server cuts a connection before it has read a byte; what stands before it does.
        Outcome::Cut => is(
            "tcp.reset",
            format!(
                "{where_to} took the connection and reset it before a byte was sent: a firewall or \
                 load balancer in front does that, a web server does not"
            ),
        )
        .by(Party::Network)
        .next_step(
            "ask the network team, then the vendor, which firewall or load balancer cuts this \
             machine's address off; compare from another network",
        ),
        Outcome::Closed => is(
            "tcp.reset",
            format!(
                "{where_to} took the connection and closed it before a byte was sent, as a load \
                 balancer with nothing behind it does"
            ),
        )
        .by(Party::Vendor)
        .next_step("ask the vendor whether a server stands behind this address"),
        Outcome::Timeout => is(
            "tcp.timeout",
            format!(
                "{where_to} did not answer within {waited}: nobody refuses, so packets are dropped, \
                 most likely by a firewall"
            ),
        ),
        Outcome::Unreachable if tried.has_route => is(
            "tcp.unreachable",
            format!(
                "{where_to} cannot be reached, says a router or the last network: no route to host"
            ),
        ),
        Outcome::Prohibited if tried.has_route => is(
            "tcp.unreachable",
            format!("{where_to}: the way is administratively prohibited, as a firewall says"),
        )
        .next_step("ask the network team which rule forbids the way to this address and port"),
        Outcome::Prohibited => is(
            "tcp.unreachable",
            format!("{where_to}: a route or rule of this machine prohibits the way"),
        )
        .by(Party::Ours)
        .next_step(format!("look for the rule: ip route get {}", attempt.address.ip())),
        Outcome::Blackhole => is(
            "tcp.unreachable",
            format!("{where_to}: a blackhole route of this machine swallows what goes there"),
        )
        .by(Party::Ours)
        .next_step(format!("look for the route: ip route get {}", attempt.address.ip())),
        Outcome::Unreachable | Outcome::NoRoute => is(
            "tcp.unreachable",
            format!(
                "{where_to}: this machine has no way there, a route, link or tunnel is missing"
            ),
        )
        .by(Party::Ours)
        .next_step(format!(
            "see whether link and VPN are up, then: ip route get {}",
            attempt.address.ip()
        )),
        Outcome::NotOurAddress => is(
            "network.source_address",
            format!("{where_to}: network.source_address is not an address of this machine"),
        )
        .layer(Layer::Tcp),
        Outcome::OtherFamily => is(
            "network.source_address",
            format!("{where_to}: network.source_address is of the other family"),
        )
        .layer(Layer::Tcp),
        Outcome::Local => {
            is("tcp.unreachable", format!("{where_to}: this machine could not make a connection"))
                .by(Party::Ours)
                .next_step("see whether this machine has files and ports left: fhirctl doctor")
        }
    }
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    let (host, port, _) = first_stop(desk);
    let port = port.to_string();
    let wait = desk.server.timeouts.connect.as_secs().max(1).to_string();
    let try_by = |flag: &str, about: &str| {
        Command::new(&["nc", flag, "-v", "-z", "-w", &wait, &host, &port]).about(about)
    };
    match host.parse::<IpAddr>() {
        Ok(address) => {
            let flag = if address.is_ipv4() { "-4" } else { "-6" };
            vec![try_by(flag, "connect and hang up")]
        }
        Err(_) => vec![
            try_by("-4", "connect by IPv4 and hang up"),
            try_by("-6", "connect by IPv6 and hang up"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(is_proxy: bool) -> Sight {
        Sight {
            host: "ehr.example.org".to_owned(),
            port: 443,
            is_proxy,
            addresses: Vec::new(),
            forbidden: Vec::new(),
            error: None,
            lookup_ms: 1.0,
        }
    }

    fn tried(address: &str, outcome: Outcome, has_route: bool) -> Tried {
        let address = address.parse().unwrap();
        let attempt =
            Attempt { address, outcome, duration_ms: 5.0, local: None, spoke_first: false };
        Tried { attempt, has_route }
    }

    #[test]
    fn each_failure_has_its_code_and_its_party() {
        for (outcome, has_route, code, party) in [
            (Outcome::Refused, true, "tcp.refused", Party::Vendor),
            (Outcome::Timeout, true, "tcp.timeout", Party::Network),
            (Outcome::Cut, true, "tcp.reset", Party::Network),
            (Outcome::Closed, true, "tcp.reset", Party::Vendor),
            (Outcome::Unreachable, true, "tcp.unreachable", Party::Network),
            (Outcome::Unreachable, false, "tcp.unreachable", Party::Ours),
            (Outcome::Prohibited, true, "tcp.unreachable", Party::Network),
            (Outcome::Prohibited, false, "tcp.unreachable", Party::Ours),
            (Outcome::NoRoute, false, "tcp.unreachable", Party::Ours),
            (Outcome::Blackhole, false, "tcp.unreachable", Party::Ours),
            (Outcome::NotOurAddress, false, "network.source_address", Party::Ours),
        ] {
            let found = all_fail(&sight(false), &[tried("192.0.2.1:443", outcome, has_route)]);
            let found = found.unwrap();
            assert_eq!((found.code.as_str(), found.party), (code, party), "{outcome:?}");
            assert_eq!(found.status, Status::Critical, "{outcome:?}");
            assert_eq!(found.layer, Layer::Tcp, "{outcome:?}");
        }
    }

    #[test]
    fn the_address_that_got_furthest_speaks_for_all() {
        let found = all_fail(
            &sight(false),
            &[
                tried("[2001:db8::1]:443", Outcome::NoRoute, false),
                tried("192.0.2.1:443", Outcome::Timeout, true),
                tried("192.0.2.2:443", Outcome::Refused, true),
            ],
        );
        assert_eq!(found.unwrap().code.as_str(), "tcp.refused");
    }

    #[test]
    fn a_hole_beside_a_working_address_is_a_warning_and_a_missing_family_is_none() {
        for (address, outcome, has_route, expected) in [
            ("[2001:db8::1]:443", Outcome::Timeout, true, Some("tcp.timeout")),
            ("192.0.2.9:443", Outcome::Refused, true, Some("tcp.refused")),
            ("[2001:db8::1]:443", Outcome::NoRoute, false, None),
            ("[2001:db8::1]:443", Outcome::Unreachable, false, None),
            ("[::1]:443", Outcome::Refused, true, None),
            ("[2001:db8::1]:443", Outcome::OtherFamily, true, None),
        ] {
            let mut topic = Topic::new(TopicName::Tcp);
            let all =
                [tried("192.0.2.1:443", Outcome::Open, true), tried(address, outcome, has_route)];
            judge_some(&mut topic, &sight(false), &all);
            let codes: Vec<_> =
                topic.problems.iter().map(|p| (p.code.as_str(), p.status)).collect();
            let wanted: Vec<_> = expected.map(|code| (code, Status::Warning)).into_iter().collect();
            assert_eq!(codes, wanted, "{address} {outcome:?}");
            assert_eq!(topic.evidence.len(), usize::from(expected.is_none()));
        }
    }

    #[test]
    fn a_dead_proxy_is_named_as_the_proxy() {
        let found = all_fail(&sight(true), &[tried("192.0.2.1:3128", Outcome::Refused, true)]);
        let found = found.unwrap();
        assert_eq!(found.code.as_str(), "network.proxy");
        assert!(found.message.contains("the proxy"), "{}", found.message);
    }
}
