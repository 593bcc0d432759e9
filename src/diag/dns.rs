//! `dns`: what each configured name server says, against each other and the system's own answer.

mod judge;

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::shell::Command;
use super::wire::{first_stop, ms};
use super::{Desk, Topic, TopicName};
use crate::model::Code;
use crate::net::dns::{self, Alias, Asked, Outcome, Reply};

/// What was found out about one name.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Lookup {
    pub name: String,
    /// The name is a proxy's.
    pub is_proxy: bool,
    pub servers: Vec<Asked>,
    pub system: System,
}

/// The answer that every program of this machine gets, `/etc/hosts` included.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct System {
    pub addresses: Vec<IpAddr>,
    pub error: Option<String>,
    pub duration_ms: f64,
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let (host, _, is_proxy) = first_stop(desk);
    let nothing =
        |why: String| Topic::left_out(TopicName::Dns, Code::new("check.not_applicable"), why);
    if host.parse::<IpAddr>().is_ok() {
        return nothing(format!("{host} is an address: there is no name to look up"));
    }
    // RFC 6761 §6.3: no name server is asked for it.
    let lower = host.trim_end_matches('.').to_ascii_lowercase();
    if lower == "localhost" || lower.ends_with(".localhost") {
        return nothing(format!("{host} is this machine by definition"));
    }
    let mut topic = Topic::new(TopicName::Dns);
    let (servers, search) = match dns::system_servers() {
        Ok(found) => found,
        Err(why) => {
            topic.note(format!("/etc/resolv.conf names no server to ask: {why}"));
            (Vec::new(), Vec::new())
        }
    };
    // As the C library does with a name of one label.
    let name = match search.first().filter(|_| !lower.contains('.')) {
        Some(domain) => format!("{lower}.{}", domain.trim_end_matches('.')),
        None => lower,
    };
    let (servers, sight) =
        tokio::join!(dns::ask_each(&servers, &name, desk.remaining()), desk.sight());
    let system = System {
        addresses: sight
            .addresses
            .iter()
            .map(std::net::SocketAddr::ip)
            .chain(sight.forbidden.iter().copied())
            .collect(),
        error: sight.error.clone(),
        duration_ms: sight.lookup_ms,
    };
    let lookup = Lookup { name, is_proxy, servers, system };
    show(&mut topic, &lookup);
    let (problems, notes) = judge::judge(&lookup);
    topic.problems = problems;
    for note in notes {
        topic.note(note);
    }
    let mut topic = topic.good(format!(
        "{} has {} address{} ({})",
        lookup.name,
        lookup.system.addresses.len(),
        if lookup.system.addresses.len() == 1 { "" } else { "es" },
        ms(lookup.system.duration_ms)
    ));
    topic.details(&lookup);
    topic
}

fn show(topic: &mut Topic, lookup: &Lookup) {
    let list = |addresses: &[IpAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    topic.fact(
        "the system's own answer",
        match &lookup.system.error {
            Some(error) => format!("none: {error}"),
            None => {
                format!("{} ({})", list(&lookup.system.addresses), ms(lookup.system.duration_ms))
            }
        },
    );
    let row = |asked: &Asked, reply: &Reply, kind: &str| {
        vec![
            asked.server.ip().to_string(),
            kind.to_owned(),
            reply.rcode.clone().unwrap_or_else(|| words(reply.outcome).to_owned()),
            list(&reply.addresses),
            reply.ttl_seconds.map_or_else(String::new, |ttl| format!("{ttl} s")),
            ms(reply.duration_ms),
        ]
    };
    let rows = lookup
        .servers
        .iter()
        .flat_map(|asked| [row(asked, &asked.a, "A"), row(asked, &asked.aaaa, "AAAA")])
        .collect();
    topic.table("name servers", &["server", "type", "answer", "addresses", "TTL", "time"], rows);
    let longest = lookup.servers.iter().flat_map(|asked| [&asked.a, &asked.aaaa]);
    if let Some(reply) = longest.max_by_key(|reply| reply.aliases.len()) {
        let row = |alias: &Alias| {
            vec![alias.name.clone(), alias.target.clone(), format!("{} s", alias.ttl_seconds)]
        };
        topic.table(
            "aliases",
            &["name", "leads to", "TTL"],
            reply.aliases.iter().map(row).collect(),
        );
    }
    let answered: Vec<_> =
        lookup.servers.iter().filter(|asked| !asked.addresses().is_empty()).collect();
    if !answered.is_empty() {
        let checked = answered
            .iter()
            .filter(|asked| asked.a.is_authenticated || asked.aaaa.is_authenticated)
            .count();
        let state = match checked {
            0 => "no name server says that it checked signatures".to_owned(),
            some if some == answered.len() => {
                "checked by every name server that answered".to_owned()
            }
            some => format!("checked by {some} of {} name servers", answered.len()),
        };
        topic.fact("DNSSEC", state);
    }
}

/// In a few words, where there is no code of DNS for it.
pub(super) fn words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Answered => "an answer",
        Outcome::Empty => "no such record",
        Outcome::NotFound => "no such name",
        Outcome::Failed => "failure",
        Outcome::Refused => "refusal",
        Outcome::Loop => "aliases in a circle",
        Outcome::Silent => "silence",
        Outcome::Unreachable => "unreachable",
        Outcome::Malformed => "garbage",
    }
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    let (host, _, _) = first_stop(desk);
    if host.parse::<IpAddr>().is_ok() {
        return Vec::new();
    }
    let mut commands =
        vec![Command::new(&["getent", "ahosts", &host]).about("the system's own answer")];
    let (servers, _) = dns::system_servers().unwrap_or_default();
    for server in servers {
        let at = format!("@{}", server.ip());
        commands.push(
            Command::new(&[
                "dig",
                "+noall",
                "+comments",
                "+answer",
                &at,
                &host,
                "A",
                &host,
                "AAAA",
            ])
            .about("one configured name server"),
        );
    }
    commands.push(Command::new(&["dig", "+cd", &host]).about("without checking signatures"));
    commands
}
