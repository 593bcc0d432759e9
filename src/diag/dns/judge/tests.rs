use super::super::System;
use super::*;
use crate::net::dns::Kind;

fn reply(kind: Kind, outcome: Outcome, addresses: &[&str]) -> Reply {
    Reply {
        kind,
        outcome,
        rcode: None,
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        ttl_seconds: None,
        aliases: Vec::new(),
        is_authenticated: false,
        is_recursive: true,
        over_tcp: false,
        duration_ms: 1.0,
    }
}

fn says(outcome: Outcome, knows_root: bool) -> Asked {
    Asked {
        server: "192.0.2.53:53".parse().unwrap(),
        a: reply(Kind::A, outcome, &[]),
        aaaa: reply(Kind::Aaaa, outcome, &[]),
        is_dnssec_broken: false,
        knows_root: Some(knows_root),
    }
}

fn knows(addresses: &[&str]) -> Asked {
    Asked {
        server: "192.0.2.54:53".parse().unwrap(),
        a: reply(Kind::A, Outcome::Answered, addresses),
        aaaa: reply(Kind::Aaaa, Outcome::Empty, &[]),
        is_dnssec_broken: false,
        knows_root: None,
    }
}

fn lookup(servers: Vec<Asked>, system: &[&str]) -> Lookup {
    let addresses: Vec<_> = system.iter().map(|text| text.parse().unwrap()).collect();
    let error = addresses.is_empty().then(|| "no such name".to_owned());
    Lookup {
        name: "ehr.example.org".to_owned(),
        is_proxy: false,
        servers,
        system: System { addresses, error, duration_ms: 9.0 },
    }
}

#[test]
fn a_resolver_that_knows_nothing_is_ours_to_mend_and_a_broken_zone_is_not() {
    for (outcome, knows_root, code, party) in [
        (Outcome::NotFound, false, "dns.not_found", Party::Ours),
        (Outcome::NotFound, true, "dns.not_found", Party::Ours),
        (Outcome::Failed, false, "dns.servfail", Party::Ours),
        (Outcome::Failed, true, "dns.servfail", Party::Vendor),
        (Outcome::Refused, false, "dns.servfail", Party::Ours),
        (Outcome::Malformed, false, "dns.servfail", Party::Ours),
        (Outcome::Silent, false, "dns.timeout", Party::Ours),
        (Outcome::Unreachable, false, "dns.timeout", Party::Ours),
        (Outcome::Silent, true, "dns.timeout", Party::Vendor),
        (Outcome::Loop, true, "dns.servfail", Party::Vendor),
    ] {
        let (found, _) = judge(&lookup(vec![says(outcome, knows_root)], &[]));
        assert_eq!(found.len(), 1, "{outcome:?}");
        assert_eq!((found[0].code.as_str(), found[0].party), (code, party), "{outcome:?}");
        assert_eq!(found[0].status, Status::Critical);
        assert_eq!(found[0].layer, crate::diag::Layer::Dns);
    }
}

#[test]
fn broken_signatures_are_the_zone_s() {
    let broken = Asked { is_dnssec_broken: true, ..says(Outcome::Failed, false) };
    let (found, _) = judge(&lookup(vec![says(Outcome::Silent, false), broken], &[]));
    assert_eq!(found[0].party, Party::Vendor);
    assert!(found[0].message.contains("DNSSEC"), "{}", found[0].message);
}

#[test]
fn one_failing_server_among_working_ones_is_a_warning() {
    for (outcome, code) in [
        (Outcome::Silent, "dns.timeout"),
        (Outcome::NotFound, "dns.disagreement"),
        (Outcome::Refused, "dns.servfail"),
    ] {
        let servers = vec![says(outcome, false), knows(&["192.0.2.1"])];
        let (found, _) = judge(&lookup(servers, &["192.0.2.1"]));
        assert_eq!(found.len(), 1, "{outcome:?}");
        assert_eq!((found[0].code.as_str(), found[0].status), (code, Status::Warning));
        assert_eq!(found[0].party, Party::Ours);
    }
}

#[test]
fn a_split_horizon_is_a_warning_and_a_large_site_is_none() {
    let codes = |one: &str, two: &str, system: &str| {
        let (found, _) = judge(&lookup(vec![knows(&[one]), knows(&[two])], &[system]));
        found.iter().map(|problem| problem.code.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(codes("10.0.0.1", "203.0.113.9", "10.0.0.1"), ["dns.disagreement"]);
    assert_eq!(codes("198.51.100.1", "203.0.113.9", "198.51.100.1"), [""; 0]);
    assert_eq!(codes("198.51.100.1", "198.51.100.1", "10.0.0.1"), ["dns.disagreement"]);
    assert_eq!(codes("198.51.100.1", "198.51.100.1", "203.0.113.9"), [""; 0]);
}

#[test]
fn a_name_of_the_hosts_file_is_no_problem() {
    let (found, notes) = judge(&lookup(vec![says(Outcome::NotFound, true)], &["10.0.0.1"]));
    assert!(found.is_empty());
    assert_eq!(notes.len(), 1);
}

#[test]
fn a_machine_without_any_name_server_is_told_so() {
    let (found, _) = judge(&lookup(Vec::new(), &[]));
    assert_eq!((found[0].code.as_str(), found[0].party), ("dns.timeout", Party::Ours));
    assert!(judge(&lookup(Vec::new(), &["10.0.0.1"])).0.is_empty());
}
