//! What was found of a server's TLS, for people and for programs.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Found, end_words};
use crate::diag::Topic;
use crate::net::tls::Version;
use crate::net::tls::answer::KeyExchange;
use crate::net::tls::certificate::{Certificate, authority_name, in_order};
use crate::net::tls::grade::{Rating, Trust};
use crate::net::tls::scan::{Found as Agreed, Offered};
use crate::net::tls::suite::{Suite, group_name};

/// A server's TLS, for programs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TlsDetails {
    /// The address that was asked, with its port.
    address: String,
    connections: usize,
    protocols: Vec<Protocol>,
    /// What TLS 1.3 may agree on keys with.
    groups_tls13: Vec<String>,
    /// What the newest version before it may.
    groups_tls12: Vec<String>,
    /// As sent, the server's own certificate first; one for each of its own certificates.
    chains: Vec<Chain>,
    /// What TLS 1.3 hides from whoever does not finish a handshake; `null` where only that is spoken.
    traits: Option<Traits>,
    compression: bool,
    /// Seconds of `Strict-Transport-Security`.
    hsts_seconds: Option<u64>,
    rating: Option<Rating>,
    /// Why not everything could be asked.
    broken_off: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Protocol {
    version: Version,
    offered: bool,
    /// Whether the server's order counts; `null` where there is no choice.
    server_prefers: Option<bool>,
    suites: Vec<CipherSuite>,
    /// How the question that got no agreement ended.
    end: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct CipherSuite {
    name: String,
    bits: u32,
    forward_secrecy: bool,
    aead: bool,
    /// Such as `x25519` or `DH 2048`.
    key_exchange: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Chain {
    in_order: bool,
    certificates: Vec<Certificate>,
    /// More came than is kept.
    cut: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Traits {
    version: Option<Version>,
    alpn: Option<String>,
    session_ids: bool,
    session_tickets: bool,
    secure_renegotiation: bool,
    extended_master_secret: bool,
    ocsp_stapling: bool,
    client_certificate: Option<ClientCertificate>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ClientCertificate {
    /// Whose certificates are taken; empty: the server does not say.
    issuers: Vec<String>,
}

impl TlsDetails {
    pub(super) fn of(found: &Found) -> TlsDetails {
        let scan = &found.scan;
        let named = |groups: &[u16]| groups.iter().map(|&group| group_name(group)).collect();
        TlsDetails {
            address: found.address.clone(),
            connections: scan.connections,
            protocols: scan.versions.iter().map(protocol).collect(),
            groups_tls13: named(&scan.groups_13),
            groups_tls12: named(&scan.groups_12),
            chains: found
                .chains
                .iter()
                .map(|chain| Chain {
                    in_order: in_order(chain),
                    certificates: chain.clone(),
                    cut: scan.chain_cut,
                })
                .collect(),
            traits: scan.traits.as_ref().map(|traits| Traits {
                version: traits.version,
                alpn: traits.alpn.as_deref().map(crate::model::text::one_line),
                session_ids: traits.sessions,
                session_tickets: traits.tickets,
                secure_renegotiation: traits.renegotiation,
                extended_master_secret: traits.extended_master_secret,
                ocsp_stapling: traits.staple.is_some(),
                client_certificate: traits
                    .demand
                    .as_ref()
                    .map(|demand| ClientCertificate { issuers: issuers(&demand.authorities) }),
            }),
            compression: scan.versions.iter().any(|offered| offered.compression),
            hsts_seconds: found.hsts,
            rating: found.rating.clone(),
            broken_off: scan.broken_off.clone(),
        }
    }
}

fn protocol(offered: &Offered) -> Protocol {
    let suite = |agreed: &Agreed| {
        let known = Suite::find(agreed.suite);
        CipherSuite {
            name: suite_name(agreed.suite),
            bits: known.map_or(0, |suite| suite.bits),
            forward_secrecy: known.is_some_and(Suite::keeps_past_secret),
            aead: known.is_some_and(|suite| suite.aead),
            key_exchange: agreed.exchange.map(exchange_name),
        }
    };
    Protocol {
        version: offered.version,
        offered: !offered.suites.is_empty(),
        server_prefers: offered.server_prefers,
        suites: offered.suites.iter().map(suite).collect(),
        end: offered.end.as_ref().map(end_words),
    }
}

fn suite_name(number: u16) -> String {
    Suite::find(number).map_or_else(|| format!("0x{number:04x}"), |suite| suite.name.to_owned())
}

fn exchange_name(exchange: KeyExchange) -> String {
    match exchange {
        KeyExchange::Curve(group) => group_name(group),
        KeyExchange::Prime(bits) => format!("DH {bits}"),
    }
}

fn issuers(authorities: &[Vec<u8>]) -> Vec<String> {
    authorities.iter().filter_map(|der| authority_name(der)).collect()
}

/// What is said when nothing is wrong.
pub(super) fn sentence(found: &Found) -> String {
    let spoken: Vec<_> = found.scan.spoken().map(|offered| offered.version.as_str()).collect();
    match &found.rating {
        Some(rating) => {
            format!("TLS is graded {}; offered: {}", rating.grade.as_str(), spoken.join(", "))
        }
        None => "an ordinary handshake works, and nothing could be asked beside it".to_owned(),
    }
}

pub(super) fn evidence(topic: &mut Topic, found: &Found) {
    topic.fact("address", found.address.clone());
    if let Some(rating) = &found.rating {
        grade(topic, rating, found.trust);
    }
    topic.table(
        "protocols",
        &["version", "offered", "suites", "order", "what else"],
        found.scan.versions.iter().map(version_row).collect(),
    );
    let suites =
        found.scan.spoken().rev().flat_map(|offered| {
            offered.suites.iter().map(|agreed| suite_row(offered.version, agreed))
        });
    topic.table(
        "cipher suites",
        &["version", "suite", "bits", "forward secrecy", "AEAD", "key exchange"],
        suites.collect(),
    );
    for (name, groups) in
        [("groups (TLS 1.3)", &found.scan.groups_13), ("groups (before)", &found.scan.groups_12)]
    {
        if !groups.is_empty() {
            let names: Vec<_> = groups.iter().map(|&group| group_name(group)).collect();
            topic.fact(name, names.join(", "));
        }
    }
    chains(topic, found);
    traits(topic, found);
    topic.fact("connections of this scan", found.scan.connections.to_string());
    if let Some(why) = &found.scan.broken_off {
        topic.note(format!("not everything could be asked: {why}"));
    }
}

fn grade(topic: &mut Topic, rating: &Rating, trust: Trust) {
    let mut grade = rating.grade.as_str().to_owned();
    if trust != Trust::Trusted {
        grade.push_str(&format!(" (were it trusted: {})", rating.without_trust.as_str()));
    }
    topic.fact("grade", grade);
    topic.fact(
        "score",
        format!(
            "{} of 100: protocol {}, key exchange {}, cipher {}",
            rating.score, rating.protocol, rating.key_exchange, rating.cipher
        ),
    );
    let row = |deduction: &crate::net::tls::grade::Deduction| {
        vec![deduction.grade.as_str().to_owned(), deduction.reason.clone()]
    };
    topic.table("deductions", &["at best", "because"], rating.deductions.iter().map(row).collect());
}

fn version_row(offered: &Offered) -> Vec<String> {
    let spoken = !offered.suites.is_empty();
    let order = match offered.server_prefers {
        Some(true) => "the server's",
        Some(false) => "the client's",
        None => "-",
    };
    // How the last question ended tells something only where nothing was agreed on.
    let end = offered.end.as_ref().filter(|_| !spoken).map(end_words).unwrap_or_default();
    vec![
        offered.version.as_str().to_owned(),
        yes(spoken),
        offered.suites.len().to_string(),
        order.to_owned(),
        if offered.compression { "compression".to_owned() } else { end },
    ]
}

fn suite_row(version: Version, agreed: &Agreed) -> Vec<String> {
    let suite = Suite::find(agreed.suite);
    vec![
        version.as_str().to_owned(),
        suite_name(agreed.suite),
        suite.map_or_else(String::new, |suite| suite.bits.to_string()),
        yes(suite.is_some_and(Suite::keeps_past_secret)),
        yes(suite.is_some_and(|suite| suite.aead)),
        agreed.exchange.map(exchange_name).unwrap_or_default(),
    ]
}

fn chains(topic: &mut Topic, found: &Found) {
    for chain in &found.chains {
        let row = |certificate: &Certificate| {
            vec![
                certificate.subject.clone(),
                certificate.issuer.clone(),
                certificate.not_after.strftime("%F").to_string(),
                format!("{} {}", certificate.key, certificate.bits),
                certificate.signature.clone(),
            ]
        };
        topic.table(
            "chain as sent",
            &["subject", "issuer", "ends", "key", "signature"],
            chain.iter().map(row).collect(),
        );
        if let Some(own) = chain.first() {
            topic.fact("names", own.names.join(", "));
        }
        if !in_order(chain) {
            topic.note("the certificates of the chain do not follow one another");
        }
        for ended in chain.iter().filter(|certificate| certificate.not_after < found.now) {
            topic.note(format!("{} ended on {}", ended.subject, ended.not_after.strftime("%F")));
        }
    }
    let came: usize = found.scan.chains.iter().map(Vec::len).sum();
    let unread = came.saturating_sub(found.chains.iter().map(Vec::len).sum());
    if unread > 0 {
        topic.note(format!("{unread} of the certificates that came cannot be read"));
    }
    if found.scan.chain_cut {
        topic.note("the chain has more certificates than the 64 that are looked at");
    }
}

fn traits(topic: &mut Topic, found: &Found) {
    topic.fact(
        "HSTS",
        found.hsts.map_or_else(|| "not seen".to_owned(), |seconds| format!("{seconds} s")),
    );
    let Some(traits) = &found.scan.traits else {
        if found.scan.spoken().next().is_some() {
            topic.note(
                "ALPN, stapling, resumption and the demand for a client certificate are hidden in \
                 TLS 1.3, and nothing older is offered",
            );
        }
        return;
    };
    let alpn = traits.alpn.as_deref().map(crate::model::text::one_line);
    topic.fact("ALPN", alpn.unwrap_or_else(|| "no".to_owned()));
    topic.fact("OCSP stapling", yes(traits.staple.is_some()));
    topic.fact("session identifiers", yes(traits.sessions));
    topic.fact("session tickets", yes(traits.tickets));
    topic.fact("secure renegotiation", yes(traits.renegotiation));
    topic.fact("extended master secret", yes(traits.extended_master_secret));
    let demand = match &traits.demand {
        None => "not asked for".to_owned(),
        Some(demand) => match issuers(&demand.authorities) {
            issuers if issuers.is_empty() => "asked for, of any issuer".to_owned(),
            issuers => format!("asked for, issued by {}", issuers.join(" or by ")),
        },
    };
    topic.fact("client certificate", demand);
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}
