//! `lint` through the built binary.

use serde_json::Value;

use crate::support::{Desk, assert_schema};

const CLEAN: &str = "\
version: 1
defaults:
  contact: {name: Desk, email: desk@example.org}
  support: {phone: '+1 555 0100'}
servers:
  - name: a
    url: https://a.example.org/fhir
    schedule: {every: 5m}
";

const MESSY: &str = "\
# Ours.
version: 1
defaults:
  contact: {name: Desk, email: desk@example.org}   # all day
  support: {phone: '+1 555 0100'}
  accept:
    # shared by all
    - {code: perf.slow, reason: x, until: 2020-01-01}
servers:
  # The first.
  - name: a
    url: https://a.example.org/fhir/   # the slash
    allow_insecure: true
    accept:
      - {code: tcp.refused, reason: x, until: 2020-01-01}
      # still open
      - {code: tcp.reset, reason: y, until: 2099-01-01}   # case 7
      - {code: tcp.timeout, reason: z, until: 2020-01-01}
  - {name: b, url: 'https://b.example.org/fhir/'}   # the second
  - name: c
    url: https://c.example.org
";

/// The ids of the findings.
fn rules(lint: &Value) -> Vec<&str> {
    let findings = lint["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["rule"].as_str().unwrap()).collect()
}

#[test]
fn the_exit_code_says_how_grave_it_is() {
    let basic = "    auth: {method: basic, username: u, password: 'keyring:a/p'}\n";
    let info = "    auth: {method: bearer, token: 'env:TOKEN'}\n";
    let plain = CLEAN.replace("https://a", "http://a");
    for (inventory, code) in [
        (CLEAN.to_owned(), 0),
        (format!("{CLEAN}{info}"), 0),
        (format!("{CLEAN}{basic}"), 1),
        (format!("{plain}{basic}"), 2),
    ] {
        let (lint, exit) = Desk::new(&inventory).json(&["lint"]);
        assert_eq!(exit, code, "{inventory}\n{lint}");
        assert_eq!(lint["exit_code"], code);
        assert_schema("lint", &lint);
    }
}

#[test]
fn a_finding_says_where_and_what_to_do() {
    let desk = Desk::new(&CLEAN.replace("https://a", "http://a"));
    let (lint, _) = desk.json(&["lint", "--rule", "tls.plain-http"]);
    let finding = &lint["findings"][0];
    assert_eq!((&finding["line"], &finding["column"]), (&7.into(), &10.into()));
    assert_eq!(finding["key"], "servers[0].url");
    assert_eq!(finding["server"], "a");
    assert!(finding["file"].as_str().unwrap().ends_with("servers.yaml"));
    assert!(!finding["remedy"].as_str().unwrap().is_empty());
    let load = &lint["load"][0];
    assert_eq!((&load["server"], &load["requests_per_day"]), (&"a".into(), &288.0.into()));
}

#[test]
fn rules_are_chosen_by_their_ids() {
    let desk = Desk::new(MESSY);
    let (all, _) = desk.json(&["lint", "a"]);
    assert_eq!(
        rules(&all),
        ["url.trailing-slash", "auth.insecure-needless", "accept.ended", "accept.ended"]
    );
    let (skipped, exit) =
        desk.json(&["lint", "a", "--skip", "accept.ended", "--skip", "auth.insecure-needless"]);
    assert_eq!((rules(&skipped), exit), (vec!["url.trailing-slash"], 0));
    let wrong = desk.run(&["lint", "--rule", "tls.plain-htp"]);
    assert_eq!(wrong.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("did you mean tls.plain-http?"));
    assert_eq!(desk.run(&["lint", "nobody"]).status.code(), Some(66));
}

#[test]
fn what_is_mended_keeps_comments_and_a_second_run_finds_nothing_more() {
    let desk = Desk::new(MESSY);
    let (first, exit) = desk.json(&["lint", "--fix"]);
    assert_schema("lint", &first);
    assert_eq!((exit, rules(&first).len()), (0, 0), "{first}");
    assert_eq!(first["summary"]["fixed"], 6);
    let text = std::fs::read_to_string(desk.inventory()).unwrap();
    let expected = MESSY
        .replace("    allow_insecure: true\n", "")
        .replace("      - {code: tcp.refused, reason: x, until: 2020-01-01}\n", "")
        .replace("      - {code: tcp.timeout, reason: z, until: 2020-01-01}\n", "")
        .replace("fhir/", "fhir")
        .replace("    - {code: perf.slow, reason: x, until: 2020-01-01}\n", "")
        .replacen("  accept:\n", "  accept: []\n", 1);
    assert_eq!(text, expected);
    let (second, exit) = desk.json(&["lint", "--fix"]);
    assert_eq!((exit, &second["summary"]["fixed"]), (0, &0.into()));
    assert_eq!(std::fs::read_to_string(desk.inventory()).unwrap(), text);
}

#[test]
fn plain_http_is_not_mended() {
    let plain = CLEAN.replace("https://a", "http://a");
    let desk = Desk::new(&plain);
    let (lint, exit) = desk.json(&["lint", "--fix"]);
    assert_eq!((exit, rules(&lint)), (2, vec!["tls.plain-http"]));
    assert_eq!(std::fs::read_to_string(desk.inventory()).unwrap(), plain);
}

#[test]
fn junit_has_a_suite_for_each_server_and_a_case_for_each_rule() {
    let desk = Desk::new(&format!("{MESSY}groups:\n  - {{name: solo, members: [b]}}\n"));
    let output = desk.run(&["lint", "-o", "junit"]);
    assert_eq!(output.status.code(), Some(1));
    let xml = String::from_utf8(output.stdout).unwrap();
    let cases = crate::render::cases(&xml);
    let outcome = |suite: &str, rule: &str| {
        let found = cases.iter().find(|(of, case, _)| of == suite && case == rule);
        found.map(|(_, _, outcome)| outcome.as_str())
    };
    assert_eq!(outcome("a", "accept.ended"), Some("failure"));
    assert_eq!(outcome("a", "url.trailing-slash"), Some("passed"), "an info fails nothing");
    assert_eq!(outcome("c", "tls.plain-http"), Some("passed"));
    assert_eq!(outcome("group solo", "group.single-member"), Some("failure"));
    assert!(xml.starts_with("<?xml") && xml.contains("<testsuites name=\"fhirctl lint\""));
}

#[test]
fn every_format_that_fits_is_there_and_the_others_are_refused() {
    let desk = Desk::new(MESSY);
    for format in ["table", "json", "ndjson", "yaml", "csv", "markdown", "junit"] {
        let output = desk.run(&["lint", "-o", format]);
        assert_eq!(output.status.code(), Some(1), "{format}");
        assert!(!output.stdout.is_empty(), "{format}");
    }
    for format in ["ics", "nagios", "openmetrics"] {
        let output = desk.run(&["lint", "--fix", "-o", format]);
        assert_ne!(output.status.code(), Some(0), "{format}");
        assert_eq!(std::fs::read_to_string(desk.inventory()).unwrap(), MESSY, "{format}");
    }
    let ndjson = String::from_utf8(desk.run(&["lint", "-o", "ndjson"]).stdout).unwrap();
    let schemas: Vec<String> = ndjson
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["schema"].to_string())
        .collect();
    assert_eq!(schemas.iter().filter(|name| *name == "\"fhirctl/lint-load/v1\"").count(), 3);
}

#[test]
fn a_rule_is_listed_and_explained() {
    let desk = Desk::new("version: 1\n");
    let (list, exit) = desk.json(&["lint", "--list-rules"]);
    assert_eq!(exit, 0);
    assert!(list["rules"].as_array().unwrap().len() > 25);
    let (rule, exit) = desk.json(&["explain", "tls.plain-http"]);
    assert_eq!(exit, 0);
    assert_eq!(rule["rules"][0]["id"], "tls.plain-http");
    assert_eq!(rule["codes"], serde_json::json!([]));
}

#[test]
fn a_name_in_a_query_is_not_repeated() {
    let desk =
        Desk::new(&format!("{CLEAN}    checks: {{search: ['Patient?family=Unrepeated']}}\n"));
    for format in ["table", "json", "csv", "junit"] {
        let output = desk.run(&["lint", "-o", format]);
        assert_eq!(output.status.code(), Some(2), "{format}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains("Unrepeated"), "{text}");
    }
}
