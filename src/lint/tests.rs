use std::collections::HashSet;
use std::path::Path;

use super::expiring::Kind;
use super::*;
use crate::inventory::Overrides;
use crate::model::Code;

const NOW: &str = "2026-11-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn findings(text: &str, known: &Known, options: Option<Options>) -> Vec<Finding> {
    let (inventory, survey) = Survey::read(text, Path::new("servers.yaml"), &Overrides::default())
        .unwrap_or_else(|error| panic!("{}\n{text}", error.message));
    let input = Input { inventory: &inventory, survey: &survey, known, now: now() };
    let options = options.unwrap_or_else(|| Options {
        servers: inventory.servers.iter().map(|server| server.name.clone()).collect(),
        ..Options::default()
    });
    lint(&input, &options)
}

/// Whole entries of a server `a`, at an address that no rule minds unless it is told.
fn inventory(entry: &str) -> String {
    let (entry, rest) = entry.split_once('|').unwrap_or((entry, ""));
    let url = if entry.contains("url:") { "" } else { ", url: 'https://a.example.org/fhir'" };
    let comma = if entry.is_empty() { "" } else { ", " };
    format!("version: 1\nservers:\n  - {{name: a{url}{comma}{entry}}}\n{}\n", rest.trim_end())
}

/// A server with much load: twelve checks a minute.
const HEAVY: &str = "schedule: {every: 5s}";
const BACKEND: &str = "auth: {method: smart-backend, client_id: x, key: 'keyring:a/key'";

#[test]
fn each_rule_finds_what_it_is_for_and_nothing_else() {
    let heavy = |more: &str| format!("{HEAVY}, {more}");
    let backend = |more: &str| format!("{BACKEND}, {more}}}");
    let cases: Vec<(&str, String, String)> = vec![
        ("tls.plain-http", "url: 'http://a.example.org'".into(), "url: 'http://127.0.0.1:8080'".into()),
        ("tls.plain-http", "url: 'http://10.0.0.1/fhir'".into(), "url: 'http://localhost/fhir'".into()),
        ("tls.no-pin-on-critical", "labels: {critical: 'true'}".into(), "labels: {critical: 'false'}".into()),
        ("tls.no-pin-on-critical", "labels: {tier: '1'}".into(), format!("labels: {{tier: '1'}}, tls: {{pins: ['{PIN}']}}")),
        ("tls.no-pin-on-critical", "|groups: [{name: g, members: [a], policy: failover}]".into(), "|groups: [{name: g, members: [a]}]".into()),
        ("tls.no-pin-on-critical", "labels: {criticality: High}".into(), "labels: {criticality: low}".into()),
        ("tls.single-pin", format!("tls: {{pins: ['{PIN}']}}"), format!("tls: {{pins: ['{PIN}', '{OTHER_PIN}']}}")),
        ("auth.basic", "auth: {method: basic, username: u, password: 'keyring:a/p'}".into(), "auth: {method: bearer, token: 'keyring:a/t'}".into()),
        ("auth.insecure-allowed", "url: 'http://a.example.org', allow_insecure: true".into(), "url: 'http://a.example.org'".into()),
        ("auth.insecure-allowed", "url: 'http://a.example.org', auth: {method: none, allow_insecure: true}".into(), "url: 'http://127.0.0.1', allow_insecure: true".into()),
        ("auth.insecure-needless", "allow_insecure: true".into(), "allow_insecure: false".into()),
        ("auth.insecure-needless", "url: 'http://127.0.0.1', allow_insecure: true".into(), "|defaults: {allow_insecure: true}".into()),
        ("auth.wildcard-scope", backend("scopes: ['system/*.read']"), backend("scopes: [system/Patient.rs, openid]")),
        ("auth.wildcard-scope", backend("scopes: ['system/*.rs?_tag=x']"), backend("scopes: []")),
        ("auth.wildcard-scope", backend("scopes: ['*']"), backend("key_id: k")),
        ("auth.expires-soon", backend("expires: 2026-11-30"), backend("expires: 2027-01-15")),
        ("auth.expires-soon", backend("expires: 2026-10-31"), backend("max_age: 10d")),
        ("auth.secret-in-environment", "auth: {method: bearer, token: 'env:TOKEN'}".into(), "auth: {method: bearer, token: 'file:token'}".into()),
        ("contact.missing", "contact: {account: '1'}".into(), "|defaults: {contact: {email: a@example.org}}".into()),
        ("support.missing", "support: {account: '1'}".into(), "support: {portal: 'https://help.example.org'}".into()),
        ("thresholds.missing", "sla: {availability: 99%}".into(), "sla: {availability: 99%}, thresholds: {search: {warning: 1s}}".into()),
        ("thresholds.missing", "vendor: hapi-public, sla: {availability: 99%}".into(), "vendor: hapi-public".into()),
        ("retention.too-short", "sla: {availability: 99%, period: calendar-quarter}".into(), "sla: {availability: 99%}".into()),
        ("retention.too-short", "sla: {availability: 99%, period: rolling-90d}|history: {retention: {raw: 179d}}".into(), "sla: {availability: 99%, period: rolling-90d}|history: {retention: {raw: 180d}}".into()),
        ("retention.too-short", "sla: {availability: 99%}|history: {retention: {raw: 12h}}".into(), "sla: {availability: 99%, period: calendar-year}|history: {retention: {raw: 732d}}".into()),
        ("retention.too-short", "|defaults: {sla: {period: calendar-year}}".into(), "|history: {retention: {raw: 12h}}".into()),
        ("group.single-member", "|groups: [{name: g, members: [a]}]".into(), "|  - {name: b, url: 'https://b.example.org'}\ngroups: [{name: g, members: [a, b]}]".into()),
        ("privacy.identifier-in-query", "checks: {search: ['Patient?family=Smith']}".into(), "checks: {search: ['Patient?_summary=count']}".into()),
        ("privacy.identifier-in-query", "checks: {assert: [{query: 'Observation?patient=1', expression: 'total > 0'}]}".into(), "checks: {assert: [{query: 'Observation?patient=1', expression: 'total > 0'}], read: [{ref: Patient/1, synthetic: true}]}".into()),
        ("privacy.identifier-in-query", "|jobs: [{name: j, export: a, to: x, type_filter: ['Patient?identifier=1']}]".into(), "|jobs: [{name: j, export: a, to: x, type_filter: ['Observation?category=laboratory']}]".into()),
        ("privacy.read-not-synthetic", "checks: {read: [{ref: Patient/1}]}".into(), "checks: {read: [{ref: Patient/1, synthetic: true}]}".into()),
        ("privacy.read-not-synthetic", "checks: {read: [{ref: 'env:CANARY'}]}".into(), "checks: {read: [{ref: 'env:CANARY', synthetic: true}]}".into()),
        ("load.no-pool", heavy("pool: {max_connections: 1}"), heavy("pool: {max_connections: 2}")),
        ("load.no-pool", "pool: {max_connections: 1}|jobs: [{name: j, export: a, to: x}]".into(), "pool: {max_connections: 1}, schedule: {every: 5m}".into()),
        ("load.no-cache", heavy("cache: {metadata: 0s}"), heavy("cache: {metadata: 1m}")),
        ("load.no-cache", "cache: {metadata: 0s}|jobs: [{name: j, import: a, from: x}]".into(), "cache: {metadata: 0s}".into()),
        ("load.token-not-shared", format!("schedule: {{every: 1m}}, {}", backend("token_cache: process")), format!("schedule: {{every: 1m}}, {}", backend("token_cache: shared"))),
        ("load.token-not-shared", format!("schedule: {{cron: '* * * * *'}}, {}", backend("token_cache: process")), backend("token_cache: process")),
        ("load.no-second-endpoint", HEAVY.into(), format!("{HEAVY}|  - {{name: b, url: 'https://b.example.org'}}\ngroups: [{{name: g, members: [a, b]}}]")),
        ("monitoring.forbidden", "vendor: altera, schedule: {every: 1h}".into(), "vendor: altera, schedule: {every: 1h}, terms: {approved_by: x, reference: y, until: 2026-11-01}".into()),
        ("monitoring.forbidden", "vendor: altera, schedule: {every: 1h}, terms: {approved_by: x, reference: y, until: 2026-10-31}".into(), "vendor: altera".into()),
        ("monitoring.not-agreed", "vendor: epic, schedule: {every: 1h}".into(), "vendor: epic, schedule: {every: 1h}, terms: {approved_by: x, reference: y}".into()),
        ("monitoring.not-agreed", "vendor: epic, schedule: {cron: '@daily'}".into(), "vendor: hapi, schedule: {every: 1h}".into()),
        ("monitoring.too-often", "vendor: hapi-public, schedule: {every: 29m}".into(), "vendor: hapi-public, schedule: {every: 30m}".into()),
        ("monitoring.too-often", "vendor: hapi-public, schedule: {cron: '*/15 * * * *'}".into(), "vendor: hapi, schedule: {every: 1m}".into()),
        ("accept.ended", "accept: [{code: tcp.refused, reason: x, until: 2026-10-31}]".into(), "accept: [{code: tcp.refused, reason: x, until: 2026-11-01}]".into()),
        ("accept.no-end", "accept: [{code: tcp.refused, reason: x}]".into(), "accept: [{code: tcp.refused, reason: x, until: 2027-01-01}]".into()),
        ("maintenance.no-end", "maintenance: [{from: '2026-10-01T00:00:00Z'}]".into(), "maintenance: [{from: '2026-10-30T00:00:00Z'}]".into()),
        ("maintenance.no-end", "maintenance: [{from: '2026-10-01T00:00:00Z'}]".into(), "maintenance: [{from: '2026-10-01T00:00:00Z', until: '2026-12-01T00:00:00Z'}]".into()),
        ("url.trailing-slash", "url: 'https://a.example.org/fhir/'".into(), "url: 'https://a.example.org/fhir'".into()),
    ];
    let mut seen = HashSet::new();
    for (rule, wrong, right) in &cases {
        seen.insert(*rule);
        for (entry, expected) in [(wrong, true), (right, false)] {
            let found = findings(&inventory(entry), &Known::default(), None);
            let found: Vec<&str> = found.iter().map(|finding| finding.rule.id.as_str()).collect();
            assert_eq!(found.contains(rule), expected, "{rule}: {entry}: {found:?}");
        }
    }
    // What is known from outside of the file has its own tests below.
    let outside = ["tls.certificate-near-end", "auth.credential-old"];
    for rule in RuleInfo::all() {
        let id = rule.id.as_str();
        assert!(seen.contains(id) != outside.contains(&id), "{id} has no sample, or two kinds");
    }
}

const PIN: &str = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
const OTHER_PIN: &str = "sha256/LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";

/// The severities of one rule's findings.
fn severities(rule: &str, entry: &str, known: &Known) -> Vec<Severity> {
    let found = findings(&inventory(entry), known, None);
    found.iter().filter(|finding| finding.rule.id == rule).map(|finding| finding.severity).collect()
}

#[test]
fn a_certificate_is_judged_by_the_bounds_of_its_server() {
    for (not_after, expected) in [
        ("2026-12-30T00:00:00Z", vec![]),
        ("2026-11-20T00:00:00Z", vec![Severity::Warning]),
        ("2026-11-03T00:00:00Z", vec![Severity::Error]),
        ("2026-10-03T00:00:00Z", vec![Severity::Error]),
    ] {
        let certificate = KnownCertificate {
            kind: Kind::ServerCertificate,
            not_after: not_after.parse().unwrap(),
        };
        let certificates = BTreeMap::from([("a".to_owned(), vec![certificate])]);
        let known = Known { certificates, ..Known::default() };
        assert_eq!(severities("tls.certificate-near-end", "", &known), expected, "{not_after}");
    }
    let nothing = severities("tls.certificate-near-end", "", &Known::default());
    assert!(nothing.is_empty(), "nothing known is nothing said");
}

#[test]
fn what_is_kept_too_shortly_is_told_with_what_it_takes() {
    let entry = inventory("sla: {availability: 99%, period: calendar-quarter}");
    let found = findings(&entry, &Known::default(), None);
    let found = found.iter().find(|finding| finding.rule.id == "retention.too-short").unwrap();
    assert_eq!(found.about, About::Server("a".into()));
    assert_eq!(found.location.key.as_deref(), Some("servers[0].sla"));
    for word in ["calendar-quarter", "after 120d", "history.retention.raw", "184d"] {
        assert!(found.message.contains(word), "{}", found.message);
    }
}

#[test]
fn a_credential_is_old_by_its_own_policy_or_the_usual_one() {
    let own = format!("{BACKEND}, max_age: 30d}}");
    for (since, entry, expected) in [
        ("2026-09-01T00:00:00Z", own.as_str(), true),
        ("2026-10-15T00:00:00Z", own.as_str(), false),
        ("2026-09-01T00:00:00Z", "", false),
        ("2025-10-01T00:00:00Z", "", true),
    ] {
        let credential_since = BTreeMap::from([("a".to_owned(), since.parse().unwrap())]);
        let known = Known { credential_since, ..Known::default() };
        let found = severities("auth.credential-old", entry, &known);
        assert_eq!(!found.is_empty(), expected, "{since} {entry}");
    }
}

#[test]
fn some_cases_are_graver_than_their_rule() {
    let backend = |day: &str| format!("{BACKEND}, expires: {day}}}");
    for (rule, entry, expected) in [
        ("auth.expires-soon", backend("2026-11-30"), Severity::Warning),
        ("auth.expires-soon", backend("2026-11-02"), Severity::Error),
        ("auth.expires-soon", backend("2026-10-01"), Severity::Error),
        (
            "privacy.read-not-synthetic",
            "checks: {read: [{ref: Patient/1}]}".into(),
            Severity::Error,
        ),
        (
            "privacy.read-not-synthetic",
            "checks: {read: [{ref: 'env:C'}]}".into(),
            Severity::Warning,
        ),
    ] {
        assert_eq!(severities(rule, &entry, &Known::default()), [expected], "{rule} {entry}");
    }
}

#[test]
fn findings_stand_where_the_file_says_it_and_only_of_what_was_chosen() {
    let text = "\
version: 1
defaults:
  accept:
    - {code: tcp.refused, reason: x, until: 2026-01-01}
servers:
  - name: a
    url: http://a.example.org
    checks:
      search:
        - Patient?_summary=count
        - Patient?name=x
  - {name: b, url: 'http://b.example.org'}
groups:
  - {name: g, members: [b]}
";
    let chosen = |only: &[&str], skip: &[&str]| Options {
        servers: BTreeSet::from(["a".to_owned()]),
        only: only.iter().map(|&id| id.to_owned()).collect(),
        skip: skip.iter().map(|&id| id.to_owned()).collect(),
    };
    let all = findings(text, &Known::default(), Some(chosen(&[], &["tls.plain-http"])));
    assert!(all.iter().all(|finding| finding.about == About::Server("a".into())), "{all:?}");
    assert!(all.iter().all(|finding| finding.rule.id != "tls.plain-http"));
    for (rule, line, column, key) in [
        ("tls.plain-http", 7, 10, "servers[0].url"),
        ("privacy.identifier-in-query", 11, 11, "servers[0].checks.search[1]"),
        ("accept.ended", 4, 8, "defaults.accept[0]"),
        ("contact.missing", 6, 5, "servers[0]"),
    ] {
        let found = findings(text, &Known::default(), Some(chosen(&[rule], &[])));
        let [finding] = found.as_slice() else { panic!("{rule}: {found:?}") };
        let location = &finding.location;
        assert_eq!((location.line, location.column), (Some(line), Some(column)), "{rule}");
        assert_eq!(location.key.as_deref(), Some(key), "{rule}");
    }
}

#[test]
fn the_table_and_the_code_have_the_same_rules() {
    let rows: Vec<RuleInfo> = serde_yaml::from_str(include_str!("../../data/lint.yaml")).unwrap();
    let ids: HashSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids.len(), rows.len());
    let judged: HashSet<&str> = rules_by_subject().into_iter().flatten().collect();
    assert_eq!(judged, ids);
    for row in &rows {
        assert!(Code::find(&row.id).is_none(), "{} is a reason code too", row.id);
        for text in [&row.why, &row.remedy] {
            assert!(text.ends_with('.') && text.len() > 20, "{}: {text}", row.id);
        }
    }
}

#[test]
fn the_load_is_counted_from_schedule_checks_and_jobs() {
    let checks = "checks: {search: ['Patient?_summary=count', 'Observation?code=x'], read: [{ref: Patient/1, synthetic: true}, {ref: Patient/2}]}";
    for (entry, expected) in [
        ("", (None, 1.0, 0.0, 0.0)),
        ("vendor: hapi, schedule: {every: 1h}", (Some(24.0), 48.0, 0.0, 0.0)),
        (checks, (None, 4.0, 0.0, 2.0)),
        (&format!("schedule: {{cron: '0 6 * * *'}}, {checks}"), (Some(1.0), 4.0, 0.0, 2.0)),
        (&format!("schedule: {{every: 1m}}, {BACKEND}}}"), (Some(1440.0), 2880.0, 360.0, 0.0)),
        (&format!("schedule: {{every: 1h}}, {BACKEND}}}"), (Some(24.0), 48.0, 24.0, 0.0)),
        (&format!("{BACKEND}}}"), (None, 2.0, 1.0, 0.0)),
        (
            "schedule: {every: 1d}|jobs: [{name: j, export: a, to: x, types: [Patient, Observation], schedule: {every: 12h}}, {name: k, sync: a, to: y}]",
            (Some(1.0), 9.0, 0.0, 0.0),
        ),
    ] {
        let text = inventory(entry);
        let (inventory, survey) =
            Survey::read(&text, Path::new("servers.yaml"), &Overrides::default()).unwrap();
        let known = Known::default();
        let input = Input { inventory: &inventory, survey: &survey, known: &known, now: now() };
        let load = load(&input, 0);
        let numbers = (
            load.checks_per_day,
            load.requests_per_day,
            load.token_requests_per_day,
            load.record_reads_per_day,
        );
        assert_eq!(numbers, expected, "{entry}: {}", load.basis);
        assert!(!load.basis.is_empty());
    }
}

#[test]
fn what_is_called_fixable_has_a_fix_and_nothing_else_has() {
    for (entry, expected) in [
        ("url: 'https://a.example.org/fhir/', allow_insecure: true", 2),
        ("accept: [{code: tcp.refused, reason: x, until: 2026-10-31}]", 1),
        ("url: 'http://a.example.org', auth: {method: basic, username: u, password: 'env:P'}", 0),
    ] {
        let found = findings(&inventory(entry), &Known::default(), None);
        assert_eq!(
            found.iter().filter(|finding| finding.fix.is_some()).count(),
            expected,
            "{entry}"
        );
        for finding in &found {
            assert_eq!(finding.fix.is_some(), finding.rule.fixable, "{entry}: {}", finding.rule.id);
        }
    }
}
