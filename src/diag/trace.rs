//! `trace`: the routers on the way, and where it ends. Never a reason by itself: many do not answer.

use std::net::IpAddr;
use std::time::Duration;

use super::shell::Command;
use super::wire::{first_stop, ms};
use super::{Desk, Topic, TopicName};
use crate::model::text::counted;
use crate::net::trace::{self, Hop, Kind, Path};

/// For the whole way.
const LIMIT: Duration = Duration::from_secs(3);
const LIMIT_TCP: Duration = Duration::from_secs(8);

pub(super) async fn run(desk: &Desk) -> Topic {
    let sight = desk.sight().await;
    if let Some(nothing) = sight.nothing_to_look_at(TopicName::Trace) {
        return nothing;
    }
    let mut topic = Topic::new(TopicName::Trace);
    sight.tell(&mut topic);
    let source = desk.server.network.source_address;
    // One of each family: the others seldom go another way.
    let of = |four: bool| sight.addresses.iter().find(|address| address.is_ipv4() == four);
    let mut paths: Vec<Path> = Vec::new();
    for to in [of(true), of(false)].into_iter().flatten() {
        let limit = if paths.iter().all(|path| path.shows_routers) { LIMIT } else { LIMIT_TCP };
        paths.push(trace::trace(*to, source, limit.min(desk.remaining())).await);
    }
    for path in &paths {
        let title = format!("to {}", path.to);
        topic.table(&title, &["hop", "who", "time"], path.hops.iter().map(row).collect());
        topic.note(end(path));
    }
    if paths.iter().any(|path| !path.shows_routers) {
        topic.note(
            "this process may not see what routers say, so hops are counted with connections and \
             have no address; they would be seen as root or with CAP_NET_RAW",
        );
    }
    topic = topic.good(paths.iter().map(end).collect::<Vec<_>>().join("; "));
    topic.details(&paths);
    topic
}

fn row(hop: &Hop) -> Vec<String> {
    let who = match (hop.kind, hop.address) {
        (Kind::Silent, _) => "*".to_owned(),
        (Kind::Router, None) => "a router".to_owned(),
        (Kind::Router | Kind::Target, Some(address)) => address.to_string(),
        (Kind::Target, None) => "the server".to_owned(),
        (Kind::NoWay, address) => format!("{}: no way on", named(address)),
        (Kind::Forbidden, address) => format!("{}: the way on is prohibited", named(address)),
    };
    vec![hop.number.to_string(), who, hop.round_trip_ms.map_or_else(String::new, ms)]
}

fn named(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "somebody".to_owned(), |address| address.to_string())
}

/// Where the way ends, in a sentence.
fn end(path: &Path) -> String {
    let to = path.to;
    match path.hops.last() {
        None => format!("nobody on the way to {to} answers"),
        Some(last) if path.is_complete => {
            format!("{to} is {} away", counted(last.number.into(), "hop"))
        }
        Some(Hop { kind: Kind::Forbidden, number, address, .. }) => {
            format!("the way to {to} is prohibited at hop {number} by {}", named(*address))
        }
        Some(Hop { kind: Kind::NoWay, number, address, .. }) => {
            format!("the way to {to} ends at hop {number}: {} knows none", named(*address))
        }
        Some(Hop { number, address, .. }) => format!(
            "the last who answers on the way to {to} is {} at hop {number}",
            named(*address)
        ),
    }
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    let (host, port, _) = first_stop(desk);
    vec![
        Command::new(&["traceroute", &host]).about("by UDP, as every user may"),
        Command::new(&["traceroute", "-T", "-p", &port.to_string(), &host])
            .about("as a connection goes; root only"),
    ]
}
