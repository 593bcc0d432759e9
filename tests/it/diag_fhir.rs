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
        // Nothing is declared: the network is not to blame for what the server leaves out.
        (
            ", faults: [ignore-parameters]",
            "",
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
fn paging_that_was_not_looked_at_is_told() {
    let (desk, _sandbox) = desk(", faults: [paging-loop]", "");
    let (found, _) = diag(&desk, &["query"]);
    let query = topic(&found, "query");
    assert!(query["message"].as_str().unwrap().contains("checks.search with _count"), "{found:#}");
    assert!(query["details"]["paging_not_looked_at"].is_string());
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

const PATIENT: &str = "{\n \"resourceType\": \"Patient\",\n \"id\": \"p\",\n \"birthDate\": \
                       \"Secret-1980\",\n \"contact\": [\n  {\"gender\": \"male\"}\n ]\n}\n";

#[test]
fn a_file_is_validated_with_path_and_line_and_without_its_values() {
    let (desk, _sandbox) = desk("", "");
    std::fs::write(desk.dir.path().join("p.json"), PATIENT).unwrap();
    let (found, code) = diag(&desk, &["validate", "--resource", "p.json"]);
    assert_eq!(code, 2, "{found:#}");
    assert_eq!(verdict(&found), ["fhir.invalid_resource", "fhir", "ours", "critical"]);
    let faults = topic(&found, "validate")["details"]["resources"][0]["faults"].clone();
    let faults: Vec<(&str, u64)> = faults
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| (fault["path"].as_str().unwrap(), fault["line"].as_u64().unwrap()))
        .collect();
    assert!(faults.contains(&("Patient.birthDate", 4)), "{faults:?}");
    assert!(faults.contains(&("Patient.contact[0]", 6)), "{faults:?}");
    assert!(!found.to_string().contains("Secret"), "{found:#}");

    let lines =
        "{\"resourceType\":\"Patient\",\"id\":\"a\"}\n\n{\"resourceType\":\"Patient\",\"nam\":1}\n";
    std::fs::write(desk.dir.path().join("p.ndjson"), lines).unwrap();
    let (found, _) = diag(&desk, &["validate", "--resource", "p.ndjson"]);
    let resources = topic(&found, "validate")["details"]["resources"].clone();
    assert_eq!(resources[0]["faults"].as_array().unwrap().len(), 0, "{found:#}");
    assert_eq!(resources[1]["source"], "p.ndjson:3");
    assert_eq!(resources[1]["faults"][0]["path"], "Patient.nam");
    assert_eq!(resources[1]["faults"][0]["line"], 3);
}

#[test]
fn synthetic_records_are_valid_and_what_cannot_be_validated_says_why() {
    let reads = ", checks: {read: [{ref: Patient/canary-1, synthetic: true}]}";
    for (version, local) in [("R4", true), ("R4B", true), ("R5", true), ("STU3", false)] {
        let (desk, _sandbox) = desk(&format!(", fhir_version: {version}"), reads);
        let (found, code) = diag(&desk, &["validate"]);
        assert_eq!(code, 0, "{version} {found:#}");
        let details = &topic(&found, "validate")["details"];
        assert_eq!(details["local"].is_string(), local, "{version} {found:#}");
        assert_eq!(details["not_local"].is_string(), !local, "{version}");
        assert!(!found.to_string().contains("canary-1"), "{found:#}");
    }
    let (desk, _sandbox) = desk("", "");
    let (found, _) = diag(&desk, &["validate"]);
    assert_eq!(topic(&found, "validate")["code"], "check.not_applicable");
    for (args, code) in [
        (["--resource", "nowhere.json"], 66),
        (["--resource", "servers.yaml"], 2),
        (["--package", "servers.yaml"], 65),
    ] {
        let done = desk.run(&[&["diag", "s", "validate"], &args[..]].concat());
        assert_eq!(done.status.code(), Some(code), "{args:?} {done:?}");
    }
}

#[test]
fn a_profile_of_a_package_holds_for_those_that_claim_it() {
    let (desk, _sandbox) = desk("", "");
    let folder = desk.dir.path().join("pack/package");
    std::fs::create_dir_all(&folder).unwrap();
    let profile = serde_json::json!({
        "resourceType": "StructureDefinition", "url": "http://example.org/p", "name": "P",
        "status": "active", "kind": "resource", "abstract": false, "type": "Patient",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
        "derivation": "constraint",
        "differential": {"element": [
            {"id": "Patient", "path": "Patient"},
            {"id": "Patient.birthDate", "path": "Patient.birthDate", "min": 1},
        ]},
    });
    std::fs::write(folder.join("p.json"), profile.to_string()).unwrap();
    std::fs::write(folder.join("other.json"), "{\"resourceType\": \"ValueSet\"}").unwrap();
    let patient =
        "{\"resourceType\":\"Patient\",\"meta\":{\"profile\":[\"http://example.org/p\"]}}";
    std::fs::write(desk.dir.path().join("r.json"), patient).unwrap();
    let packed = std::process::Command::new("tar")
        .args(["-czf", "p.tgz", "-C", "pack", "package"])
        .current_dir(desk.dir.path())
        .status();
    assert!(packed.unwrap().success());
    for package in ["pack", "p.tgz"] {
        let (found, code) =
            diag(&desk, &["validate", "--resource", "r.json", "--package", package]);
        assert_eq!(code, 2, "{package} {found:#}");
        let fault = &topic(&found, "validate")["details"]["resources"][0]["faults"][0];
        assert_eq!(fault["message"], "birthDate is missing", "{package}");
    }
}

#[test]
fn a_validator_that_never_returns_is_named() {
    let (desk, _sandbox) = desk(
        ", faults: [{kind: latency, value: 1h, path: \"/Patient/$validate\"}]",
        ", timeouts: {total: 1s}",
    );
    std::fs::write(desk.dir.path().join("p.json"), "{\"resourceType\":\"Patient\"}").unwrap();
    let args = ["validate", "--resource", "p.json", "--server-validate", "try"];
    let (found, code) = diag(&desk, &args);
    assert_eq!(
        verdict(&found),
        ["fhir.operation_failed", "fhir", "vendor", "warning"],
        "{found:#}"
    );
    assert_eq!(code, 1);
}

#[test]
fn a_smart_configuration_matters_to_those_who_need_it() {
    let (open, _sandbox) = desk("", "");
    let (found, code) = diag(&open, &["smart"]);
    assert_eq!(code, 0, "{found:#}");
    assert_eq!(topic(&found, "smart")["details"]["published"], false);

    let smart = ", auth: {method: smart-backend, client_id: c, key: \"env:NOWHERE\"}";
    let (needy, _sandbox) = desk("", smart);
    let (found, _) = diag(&needy, &["smart"]);
    assert_eq!(topic(&found, "smart")["code"], "smart.not_published", "{found:#}");
}

#[test]
fn a_secret_that_is_not_there_is_no_broken_search() {
    let (desk, _sandbox) = desk("", ", auth: {method: bearer, token: \"env:NOWHERE\"}");
    for args in [&["query"][..], &["capability", "--probe"]] {
        let (found, _) = diag(&desk, args);
        assert!(!found.to_string().contains("fhir.search_failed"), "{found:#}");
    }
}
