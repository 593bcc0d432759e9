//! What is wrong with a lookup, and who has to act.

use std::net::IpAddr;

use super::{Lookup, words};
use crate::diag::Problem;
use crate::diag::wire::is_public;
use crate::model::{Code, Party, Status};
use crate::net::dns::{Asked, Outcome, Reply};

/// The problems, and what is only worth knowing.
pub(super) fn judge(lookup: &Lookup) -> (Vec<Problem>, Vec<String>) {
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    let (good, bad): (Vec<_>, Vec<_>) =
        lookup.servers.iter().partition(|asked| !asked.addresses().is_empty());
    let works = !lookup.system.addresses.is_empty();
    if good.is_empty() && !bad.is_empty() {
        let problem = all_fail(lookup, &bad);
        match (works, problem) {
            (true, Some(_)) if bad.iter().all(|asked| gives_no_address(asked)) => {
                notes.push(format!(
                    "{} is known to this machine alone, as by /etc/hosts: no name server has it",
                    lookup.name
                ));
            }
            (true, Some(problem)) => {
                notes.push("the name is still known to this machine, as by /etc/hosts".to_owned());
                problems.push(problem.at(Status::Warning));
            }
            (_, problem) => problems.extend(problem),
        }
    } else {
        problems.extend(bad.iter().filter_map(|asked| one_fails(lookup, asked)));
        disagreement(lookup, &good, &mut problems, &mut notes);
        problems.extend(half(lookup, &good));
        if !works && !good.is_empty() {
            problems.push(system_fails(lookup));
        }
    }
    if lookup.servers.is_empty() && !works {
        problems.push(
            Problem::new(
                Code::new("dns.timeout"),
                format!("{} cannot be looked up: this machine has no name server", lookup.name),
            )
            .by(Party::Ours)
            .next_step("put a nameserver line into /etc/resolv.conf"),
        );
    }
    if good.iter().any(|asked| asked.addresses().iter().any(IpAddr::is_unspecified)) {
        notes.push("a name server answers 0.0.0.0 or ::, as one that blocks names does".to_owned());
    }
    (problems, notes)
}

fn gives_no_address(asked: &Asked) -> bool {
    matches!(main(asked).outcome, Outcome::NotFound | Outcome::Empty)
}

/// The reply that says most of a server that gave no address.
fn main(asked: &Asked) -> &Reply {
    let weight = |reply: &Reply| match reply.outcome {
        Outcome::Answered => 0,
        Outcome::Loop => 1,
        Outcome::Failed => 2,
        Outcome::NotFound => 3,
        Outcome::Empty => 4,
        Outcome::Refused => 5,
        Outcome::Malformed => 6,
        Outcome::Unreachable => 7,
        Outcome::Silent => 8,
    };
    if weight(&asked.aaaa) < weight(&asked.a) { &asked.aaaa } else { &asked.a }
}

/// No configured name server knows an address. They stand in our own settings: unless a server
/// that works well says what is wrong with the zone, we have to act.
fn all_fail(lookup: &Lookup, bad: &[&Asked]) -> Option<Problem> {
    let name = &lookup.name;
    let speaker = bad.iter().min_by_key(|asked| rank(asked))?;
    let server = speaker.server.ip();
    let who = match bad.len() {
        1 => format!("the name server {server}"),
        many => format!("all {many} name servers ({server} and others)"),
    };
    let knows_root = speaker.knows_root == Some(true);
    let is = |code, message: String| Problem::new(Code::new(code), message);
    if speaker.is_dnssec_broken {
        return Some(
            is("dns.servfail", format!("{who} finds the DNSSEC signatures of {name} broken"))
                .by(Party::Vendor)
                .next_step("tell whoever runs the zone that its DNSSEC signatures do not verify"),
        );
    }
    let wrong = "the resolver of this machine is most likely the wrong one";
    let resolver = format!(
        "compare /etc/resolv.conf with what the network team gives out: fhirctl doctor; then ask \
         another name server: dig @ADDRESS {name}"
    );
    Some(match main(speaker).outcome {
        Outcome::NotFound | Outcome::Empty if knows_root => is(
            "dns.not_found",
            format!(
                "{who}, set in /etc/resolv.conf, says that {name} does not exist: the name in the \
                 inventory is wrong, or this machine asks outside the network that knows it"
            ),
        )
        .by(Party::Ours)
        .next_step(format!(
            "check the host name in the inventory, then whether a VPN or another resolver is \
             needed: dig @ADDRESS {name}"
        )),
        Outcome::NotFound | Outcome::Empty => is(
            "dns.not_found",
            format!("{who}, set in /etc/resolv.conf, knows neither {name} nor the root: {wrong}"),
        )
        .by(Party::Ours)
        .next_step(resolver),
        Outcome::Loop => {
            is("dns.servfail", format!("the aliases of {name} run in a circle, says {who}"))
                .by(if knows_root { Party::Vendor } else { Party::Ours })
                .next_step(format!("follow them, then tell whoever runs the zone: dig {name}"))
        }
        Outcome::Failed if knows_root => {
            is("dns.servfail", format!("{who} works and gets no answer for {name}: its zone fails"))
                .by(Party::Vendor)
                .next_step(format!(
                    "follow the delegation, tell whoever runs it: dig +trace {name}"
                ))
        }
        Outcome::Failed => is(
            "dns.servfail",
            format!(
                "{who}, set in /etc/resolv.conf, answers every question with a failure: {wrong}"
            ),
        )
        .by(Party::Ours)
        .next_step(resolver),
        Outcome::Refused | Outcome::Malformed => is(
            "dns.servfail",
            format!("{who}, set in /etc/resolv.conf, does not answer this machine: {wrong}"),
        )
        .by(Party::Ours)
        .next_step(resolver),
        _ if knows_root => is(
            "dns.timeout",
            format!("{who} works and gives no answer for {name}: its zone does not answer"),
        )
        .by(Party::Vendor)
        .next_step(format!("follow the delegation, tell whoever runs it: dig +trace {name}")),
        outcome => is(
            "dns.timeout",
            format!(
                "no answer for {name} from {who}, set in /etc/resolv.conf ({}): {wrong}, or it is \
                 down",
                words(outcome)
            ),
        )
        .by(Party::Ours)
        .next_step(resolver),
    })
}

/// How well a failing server speaks for all.
fn rank(asked: &Asked) -> (bool, bool, u8) {
    let outcome = match main(asked).outcome {
        Outcome::Loop | Outcome::Answered => 0,
        Outcome::Failed => 1,
        Outcome::NotFound => 2,
        Outcome::Empty => 3,
        Outcome::Refused => 4,
        Outcome::Malformed => 5,
        Outcome::Unreachable => 6,
        Outcome::Silent => 7,
    };
    (!asked.is_dnssec_broken, asked.knows_root != Some(true), outcome)
}

/// Others answer: this one costs every lookup that asks it first, or sends it astray.
fn one_fails(lookup: &Lookup, asked: &Asked) -> Option<Problem> {
    let (name, server) = (&lookup.name, asked.server.ip());
    let outcome = main(asked).outcome;
    let problem = match outcome {
        Outcome::Silent | Outcome::Unreachable => Problem::new(
            Code::new("dns.timeout"),
            format!(
                "the name server {server} does not answer ({}); another one does, later",
                words(outcome)
            ),
        ),
        Outcome::NotFound | Outcome::Empty | Outcome::Loop => Problem::new(
            Code::new("dns.disagreement"),
            format!("the name server {server} has no address for {name}, and another one has"),
        ),
        _ => Problem::new(
            Code::new("dns.servfail"),
            format!(
                "the name server {server} fails for {name} ({}), another one does not",
                words(outcome)
            ),
        ),
    };
    let step = format!("mend {server} or take it out of /etc/resolv.conf: dig @{server} {name}");
    Some(problem.at(Status::Warning).by(Party::Ours).next_step(step))
}

/// Answers that do not go together: of the servers with each other, and with the system's own.
fn disagreement(
    lookup: &Lookup,
    good: &[&Asked],
    problems: &mut Vec<Problem>,
    notes: &mut Vec<String>,
) {
    let Some((first, others)) = good.split_first() else { return };
    let name = &lookup.name;
    for other in others {
        let (one, two) = (first.addresses(), other.addresses());
        if one.iter().any(|address| two.contains(address)) {
            continue;
        }
        let text = format!(
            "{} and {} give different addresses for {name}: {} and {}",
            first.server.ip(),
            other.server.ip(),
            list(&one),
            list(&two)
        );
        // Names of large sites have other addresses at every moment and place.
        if one.iter().chain(&two).all(|address| is_public(*address)) {
            notes.push(text);
        } else {
            problems.push(
                Problem::new(Code::new("dns.disagreement"), text)
                    .by(Party::Ours)
                    .next_step("use name servers of one network only in /etc/resolv.conf"),
            );
        }
    }
    let system = &lookup.system.addresses;
    let all: Vec<IpAddr> = good.iter().flat_map(|asked| asked.addresses()).collect();
    if system.is_empty() || system.iter().any(|address| all.contains(&address.to_canonical())) {
        return;
    }
    let text = format!(
        "this machine uses {} for {name}, and its name servers say {}: split horizon, or a line in \
         /etc/hosts",
        list(system),
        list(&all)
    );
    if system.iter().chain(&all).all(|address| is_public(*address)) && !from_hosts(lookup) {
        notes.push(text);
    } else {
        problems.push(
            Problem::new(Code::new("dns.disagreement"), text)
                .by(Party::Ours)
                .next_step(format!("see where the answer comes from: getent ahosts {name}")),
        );
    }
}

/// An answer of `/etc/hosts` takes no time, one of a name server does.
fn from_hosts(lookup: &Lookup) -> bool {
    lookup.system.duration_ms < 2.0
}

/// A server that answers one kind of question and not the other slows every lookup down.
fn half(lookup: &Lookup, good: &[&Asked]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for asked in good {
        let failed = [("A", &asked.a), ("AAAA", &asked.aaaa)].into_iter().find(|(_, reply)| {
            matches!(
                reply.outcome,
                Outcome::Silent | Outcome::Failed | Outcome::Malformed | Outcome::NotFound
            )
        });
        let Some((kind, reply)) = failed else { continue };
        let code = if reply.outcome == Outcome::Silent { "dns.timeout" } else { "dns.servfail" };
        problems.push(
            Problem::new(
                Code::new(code),
                format!(
                    "{} answers only half: {kind} of {} gets {}",
                    asked.server.ip(),
                    lookup.name,
                    words(reply.outcome)
                ),
            )
            .at(Status::Warning)
            .by(Party::Vendor)
            .next_step(format!("tell whoever runs the zone: dig {} {kind}", lookup.name)),
        );
    }
    problems
}

fn system_fails(lookup: &Lookup) -> Problem {
    Problem::new(
        Code::new("dns.servfail"),
        format!(
            "the name servers know {}, and this machine's own lookup fails: {}",
            lookup.name,
            lookup.system.error.as_deref().unwrap_or("no address")
        ),
    )
    .by(Party::Ours)
    .next_step(format!("look at hosts in /etc/nsswitch.conf: getent ahosts {}", lookup.name))
}

/// Few of them, so that a message stays a sentence.
fn list(addresses: &[IpAddr]) -> String {
    let mut text = addresses.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if addresses.len() > 3 {
        text.push_str(" and others");
    }
    text
}

#[cfg(test)]
mod tests;
