//! `egress`: the address that we leave by, against those that the vendor has on its allow list.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Serialize;

use super::shell::Command;
use super::wire::{first_stop, is_public};
use super::{Desk, Layer, Problem, Topic, TopicName, health};
use crate::auth::caller::Ask;
use crate::http::Failure;
use crate::model::{Code, Status, limits, text};
use crate::net::route;

#[derive(Debug, Serialize, JsonSchema)]
struct Details {
    is_proxy: bool,
    ways: Vec<Way>,
    /// The address that the echo of the inventory saw.
    seen: Option<IpAddr>,
    expected: Vec<String>,
    /// Whether what is seen is among what is expected; `null` where that cannot be told from here.
    is_expected: Option<bool>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Way {
    to: IpAddr,
    /// The address of this machine that packets there leave from.
    from: IpAddr,
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let sight = desk.sight().await;
    if let Some(nothing) = sight.nothing_to_look_at(TopicName::Egress) {
        return nothing;
    }
    let mut topic = Topic::new(TopicName::Egress);
    sight.tell(&mut topic);
    let network = &desk.server.network;
    let ways = ways(&sight.addresses, network.source_address);
    let row = |way: &Way| vec![way.to.to_string(), way.from.to_string()];
    topic.table("", &["to", "from"], ways.iter().map(row).collect());
    let mut seen = None;
    if let Some(echo) = &network.egress_echo {
        match ask(desk, echo).await {
            Ok(Some(address)) => {
                topic.fact("seen from outside", address.to_string());
                seen = Some(address);
            }
            Ok(None) => topic.note("network.egress_echo answers without an address"),
            Err(failure) => {
                topic.note(format!("network.egress_echo cannot be asked: {}", failure.message));
            }
        }
    }
    // What leaves by a proxy is seen with the proxy's address.
    let own: Vec<IpAddr> =
        if sight.is_proxy { Vec::new() } else { ways.iter().map(|way| way.from).collect() };
    let is_expected = is_expected(&network.egress, seen, &own);
    topic = topic.good(match (seen.or(ways.first().map(|way| way.from)), is_expected) {
        (Some(address), Some(true)) => format!("we leave by {address}, as expected"),
        (Some(address), _) => format!("we leave by {address}"),
        (None, _) => "this machine has no way to the server".to_owned(),
    });
    if network.egress.is_empty() {
        topic.note("the inventory does not say what the vendor expects (network.egress)");
    } else if is_expected.is_none() && !ways.is_empty() {
        topic.note(
            "a gateway gives another address to what leaves from here; only network.egress_echo \
             could show it",
        );
    }
    if is_expected == Some(false) {
        let who = seen.or(own.first().copied());
        let who = who.map_or_else(String::new, |address| address.to_string());
        let mut problem = Problem::new(
            Code::new("network.egress_unexpected"),
            format!(
                "we leave by {who}, which is not in network.egress ({})",
                list(&network.egress)
            ),
        );
        let report = health::topic_of(desk.report().await);
        if health::out_of_reach(&report).is_some() {
            problem = problem.at(Status::Critical).layer(Layer::Tcp);
            problem.message.push_str(", and the server does not let us through");
        }
        topic.problem(problem);
    }
    topic.details(&Details {
        is_proxy: sight.is_proxy,
        ways,
        seen,
        expected: network.egress.iter().map(ToString::to_string).collect(),
        is_expected,
    });
    topic
}

/// The address that we leave by to one of these, where it is certainly not an expected one.
pub(super) fn unexpected(desk: &Desk, to: SocketAddr) -> Option<IpAddr> {
    let network = &desk.server.network;
    let from = route::local_address(to, network.source_address).ok()?;
    (is_expected(&network.egress, None, &[from]) == Some(false)).then_some(from)
}

fn ways(addresses: &[SocketAddr], source: Option<IpAddr>) -> Vec<Way> {
    addresses
        .iter()
        .filter_map(|to| Some(Way { to: to.ip(), from: route::local_address(*to, source).ok()? }))
        .collect()
}

/// What is seen outside decides; else our own addresses, where no gateway can have changed them: a
/// private address says nothing against a list of public ones.
fn is_expected(expected: &[IpNet], seen: Option<IpAddr>, own: &[IpAddr]) -> Option<bool> {
    if expected.is_empty() {
        return None;
    }
    let listed =
        |address: &IpAddr| expected.iter().any(|net| net.contains(&address.to_canonical()));
    if let Some(seen) = seen {
        return Some(listed(&seen));
    }
    let private_listed = expected.iter().any(|net| !is_public(net.addr()));
    let telling: Vec<_> =
        own.iter().filter(|address| is_public(**address) || private_listed).collect();
    if telling.is_empty() { None } else { Some(telling.iter().all(|address| listed(address))) }
}

/// The address that the echo saw. Nothing that proves who we are goes there.
async fn ask(desk: &Desk, echo: &url::Url) -> Result<Option<IpAddr>, Failure> {
    let caller = desk.caller().await?;
    let client = caller.client_for(echo)?;
    let ask = Ask { signed: false, ..Ask::get(echo, "text/plain, application/json") };
    let answer = caller.fetch(&client, &ask, limits::SMALL_BODY_BYTES).await?;
    if answer.status() != 200 {
        return Ok(None);
    }
    Ok(address_in(&String::from_utf8_lossy(&answer.body)))
}

/// The first address among the words of a text or of a small JSON document.
fn address_in(body: &str) -> Option<IpAddr> {
    let body = text::bounded(body, 4096);
    body.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':'))
        .map(|word| word.trim_matches(':'))
        .chain(body.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':')))
        .filter(|word| word.len() >= 3)
        .find_map(|word| word.parse().ok())
}

fn list(networks: &[IpNet]) -> String {
    let mut text = networks.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if networks.len() > 3 {
        text.push_str(" and others");
    }
    text
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    let (host, _, _) = first_stop(desk);
    let mut commands = match host.parse::<IpAddr>() {
        Ok(_) => vec![Command::new(&["ip", "route", "get", &host])],
        // `ip` wants an address; the C library's own choice is the one that counts.
        Err(_) => vec![Command::new(&["getent", "ahosts", &host]), Command::new(&["ip", "route"])],
    };
    if let Some(echo) = &desk.server.network.egress_echo {
        commands.push(
            Command::new(&["curl", "-sS", echo.as_str()]).about("the address as others see it"),
        );
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_address_says_nothing_against_public_ones() {
        let nets =
            |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpNet>>();
        let public = nets(&["203.0.113.8/29"]);
        let vpn = nets(&["10.8.0.0/24"]);
        for (expected, seen, own, wanted) in [
            (&public, None, &["203.0.113.9"][..], Some(true)),
            (&public, None, &["198.51.100.1"], Some(false)),
            (&public, None, &["10.0.0.1"], None),
            (&public, Some("203.0.113.9"), &["10.0.0.1"], Some(true)),
            (&public, Some("198.51.100.1"), &["203.0.113.9"], Some(false)),
            (&vpn, None, &["10.8.0.7"], Some(true)),
            (&vpn, None, &["192.168.0.7"], Some(false)),
            (&public, None, &[], None),
            (&Vec::new(), None, &["198.51.100.1"], None),
        ] {
            let own: Vec<IpAddr> = own.iter().map(|text| text.parse().unwrap()).collect();
            let seen = seen.map(|text| text.parse().unwrap());
            assert_eq!(is_expected(expected, seen, &own), wanted, "{expected:?} {seen:?} {own:?}");
        }
    }

    #[test]
    fn an_echo_answers_in_text_or_json() {
        for (body, expected) in [
            ("203.0.113.9\n", Some("203.0.113.9")),
            ("{\"ip\":\"203.0.113.9\"}", Some("203.0.113.9")),
            ("{\"origin\": \"2001:db8::7\"}", Some("2001:db8::7")),
            ("<html>no</html>", None),
            ("", None),
        ] {
            assert_eq!(address_in(body), expected.map(|text| text.parse().unwrap()), "{body}");
        }
    }
}
