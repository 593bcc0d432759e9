//! `diag` on the level of FHIR: what is declared, searches and their pages, resources, SMART.

use serde_json::Value;

use crate::support::{Desk, Sandbox, assert_schema};

const MODEST: &str = "rate_limit: {requests_per_second: 1000, burst: 1000}";

/// A desk with one server `s`, and the running sandbox behind it.
fn desk(server: &str, entry: &str) -> (Desk, Sandbox) {
    let sandbox = Sandbox::scenario(&format!("servers:\n  - {{name: s{server}}}\n"));
    let url = sandbox.url("s");
    let desk = Desk::new(&format!(
        "version: 1\nservers:\n  - {{name: s, url: \"{url}\", {MODEST}{entry}}}\n"
    ));
    (desk, sandbox)
}

fn diag(desk: &Desk, args: &[&str]) -> (Value, i32) {
    let (found, code) = desk.json(&[&["diag", "s"], args].concat());
    assert_schema("diag", &found);
    (found, code)
}

fn topic<'a>(found: &'a Value, name: &str) -> &'a Value {
    let topics = found["topics"].as_array().unwrap();
    topics.iter().find(|topic| topic["name"] == name).unwrap_or_else(|| panic!("{found:#}"))
}

/// Code, layer, party and status of the verdict.
fn verdict(found: &Value) -> [&str; 4] {
    let verdict = &found["verdict"];
    ["code", "layer", "party", "status"].map(|name| verdict[name].as_str().unwrap_or("none"))
}

#[test]
fn each_planted_fault_is_named_with_its_layer_and_party() {
    let paged = ", checks: {search: [\"Patient?_count=2\"]}";
    let cases: &[(&str, &str, &[&str], [&str; 4])] = &[
        ("", paged, &["query", "capability"], ["none", "none", "none", "healthy"]),
        ("", paged, &["query", "capability", "--probe"], ["none", "none", "none", "healthy"]),
        (
            ", faults: [paging-loop]",
            paged,
            &["query"],
            ["fhir.paging_loop", "fhir", "vendor", "critical"],
        ),
        (
            ", faults: [prefer-lost]",
            "",
            &["query"],
            ["network.prefer_stripped", "proxy", "network", "warning"],
        ),
        (
            ", faults: [{kind: status, value: 500, path: /Observation}]",
            "",
            &["capability", "--probe"],
            ["fhir.search_failed", "fhir", "vendor", "warning"],
        ),
        (
            ", faults: [{kind: status, value: 500, path: /Observation}]",
            ", checks: {metadata: {expect: {resources: [Observation]}}}",
            &["capability", "--probe"],
            ["fhir.search_failed", "fhir", "vendor", "critical"],
        ),
        (
            ", faults: [{kind: status, value: 501, path: /Patient}]",
            "",
            &["query"],
            ["fhir.search_failed", "fhir", "vendor", "critical"],
        ),
        (
            ", faults: [ignore-parameters]",
            ", checks: {search: [\"Patient?family=nobody\"]}",
            &["query"],
            ["fhir.parameter_ignored", "fhir", "vendor", "warning"],
        ),
    ];
    for (server, entry, args, expected) in cases {
        let (desk, _sandbox) = desk(server, entry);
        let (found, _) = diag(&desk, args);
        assert_eq!(verdict(&found), *expected, "{server} {entry} {args:?}\n{found:#}");
    }
}

#[test]
fn links_to_plain_http_are_the_networks_fault() {
    let sandbox = Sandbox::scenario("servers:\n  - {name: s, tls: true, faults: [plain-links]}\n");
    let desk = Desk::new(&format!(
        "version: 1\nservers:\n  - {{name: s, url: \"{}\", {MODEST}, tls: {{ca: {}}}, \
         checks: {{search: [\"Patient?_count=2\"]}}}}\n",
        sandbox.url("s"),
        sandbox.ca().display()
    ));
    let (found, code) = diag(&desk, &["query"]);
    assert_eq!(
        verdict(&found),
        ["network.links_rewritten", "proxy", "network", "critical"],
        "{found:#}"
    );
    assert_eq!(code, 2);
}

#[test]
fn a_query_topic_shows_no_value_and_no_id() {
    let (desk, _sandbox) = desk(
        "",
        ", checks: {search: [\"Patient?family=Test-Canary&_count=1\"], \
                  read: [{ref: Patient/canary-1, synthetic: true}]}",
    );
    let (found, _) = diag(&desk, &["query", "capability", "--probe"]);
    let text = found.to_string();
    assert!(!text.contains("Test-Canary") && !text.contains("canary-1"), "{found:#}");
    let negotiated = topic(&found, "query")["details"]["negotiation"].as_array().unwrap();
    let got = |asked: &str| {
        let row = negotiated.iter().find(|row| row["asked"] == asked);
        row.unwrap_or_else(|| panic!("no {asked}"))["got"].as_str().unwrap().to_owned()
    };
    assert_eq!(got("if-none-match"), "304, not sent again");
    assert_eq!(got("_format=xml"), "XML");
    assert!(got("Accept-Encoding: gzip").starts_with("gzip"));
}

#[test]
fn every_check_of_the_statement_is_shown_and_a_baseline_is_compared() {
    let (desk, _sandbox) = desk("", "");
    let saved = desk.run(&["check", "s", "--save-baseline", "b.json"]);
    assert_eq!(saved.status.code(), Some(0), "{saved:?}");
    let (found, code) = diag(&desk, &["capability", "--baseline", "b.json"]);
    assert_eq!(code, 0, "{found:#}");
    let details = &topic(&found, "capability")["details"];
    let ids: Vec<_> = details["checks"].as_array().unwrap().iter().map(|row| &row["id"]).collect();
    assert_eq!(ids.len(), 23);
    assert_eq!(details["changes"].as_array().unwrap().len(), 0);

    let file = desk.dir.path().join("b.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut baseline: Value = serde_json::from_str(&text).unwrap();
    baseline["servers"]["s"]["formats"].as_array_mut().unwrap().push("ttl".into());
    std::fs::write(&file, baseline.to_string()).unwrap();
    let (found, code) = diag(&desk, &["capability", "--baseline", "b.json"]);
    assert_eq!((verdict(&found)[0], code), ("capability.breaking", 2), "{found:#}");
    let missing = desk.run(&["diag", "s", "capability", "--baseline", "nowhere.json"]);
    assert_eq!(missing.status.code(), Some(66));
}
