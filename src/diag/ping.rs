//! `ping`: whether each address is there, how far away and how evenly. Never a reason by itself: many
//! hosts do not answer echoes.

use futures_util::future::join_all;
use std::net::IpAddr;
use std::time::Duration;

use super::shell::Command;
use super::wire::{first_stop, ms};
use super::{Desk, Topic, TopicName};
use crate::net::ping::{self, Echoes, Means};

/// How long the last echo is waited for.
const WAIT: Duration = Duration::from_millis(1000);
/// Most addresses that are asked.
const MAX_ADDRESSES: usize = 8;

pub(super) async fn run(desk: &Desk) -> Topic {
    let sight = desk.sight().await;
    if let Some(nothing) = sight.nothing_to_look_at(TopicName::Ping) {
        return nothing;
    }
    let mut topic = Topic::new(TopicName::Ping);
    sight.tell(&mut topic);
    let source = desk.server.network.source_address;
    let wait = WAIT.min(desk.remaining());
    let addresses = sight.addresses.iter().take(MAX_ADDRESSES);
    let found = join_all(addresses.map(|address| ping::ping(*address, source, wait))).await;
    topic.table(
        "",
        &["address", "by", "answered", "min", "average", "max", "jitter"],
        found.iter().map(row).collect(),
    );
    if found.iter().any(|echoes| echoes.means == Means::Tcp) {
        topic.note(
            "ICMP is not allowed to this process, so connections are timed; for echoes the kernel \
             wants net.ipv4.ping_group_range to hold our group, or CAP_NET_RAW",
        );
    }
    let silent = found.iter().filter(|echoes| echoes.received == 0).count();
    if silent > 0 {
        topic.note("an address that answers no echo may work all the same: firewalls drop them");
    }
    let nearest = found.iter().filter_map(|echoes| echoes.average_ms).reduce(f64::min);
    topic = topic.good(match nearest {
        Some(nearest) if silent == 0 => format!("{} answers in {}", sight.shown(), ms(nearest)),
        Some(nearest) => format!(
            "{} of {} addresses of {} answer, the nearest in {}",
            found.len() - silent,
            found.len(),
            sight.shown(),
            ms(nearest)
        ),
        None => format!("{} answers no echo, which by itself says little", sight.shown()),
    });
    topic.details(&found);
    topic
}

fn row(echoes: &Echoes) -> Vec<String> {
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), ms);
    let answered = if echoes.is_unreachable && echoes.received == 0 {
        "no way, says somebody on it".to_owned()
    } else {
        format!("{} of {} ({:.0}% lost)", echoes.received, echoes.sent, echoes.loss_percent())
    };
    vec![
        echoes.address.to_string(),
        match echoes.means {
            Means::IcmpDatagram | Means::IcmpRaw => "ICMP".to_owned(),
            Means::Tcp => "TCP".to_owned(),
        },
        answered,
        shown(echoes.min_ms),
        shown(echoes.average_ms),
        shown(echoes.max_ms),
        shown(echoes.jitter_ms),
    ]
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    let (host, _, _) = first_stop(desk);
    let by = |flag: &str| Command::new(&["ping", flag, "-c", "3", &host]);
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => vec![by("-4")],
        Ok(IpAddr::V6(_)) => vec![by("-6")],
        Err(_) => vec![by("-4"), by("-6")],
    }
}
