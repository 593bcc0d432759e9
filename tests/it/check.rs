//! `check`: the right status and reason code for every way in which a server can be sick.

use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::Value;

use crate::support::{Desk, Sandbox, check, server};

/// One healthy server and one for each fault, with what has to be said of it.
struct Case {
    name: &'static str,
    /// The sandbox's scenario entry after the name.
    scenario: &'static str,
    /// The inventory's entry after name and URL.
    entry: &'static str,
    status: &'static str,
    code: Option<&'static str>,
}

const CASES: &[Case] = &[
    Case {
        name: "healthy",
        scenario: "",
        entry: "checks: {health: {path: /health}}",
        status: "healthy",
        code: None,
    },
    Case {
        name: "refused",
        scenario: "unreachable: true",
        entry: "",
        status: "critical",
        code: Some("tcp.refused"),
    },
    Case {
        name: "silent",
        scenario: "faults: [latency=60s]",
        entry: "deadline: 2s",
        status: "critical",
        code: Some("http.timeout"),
    },
    Case {
        name: "dripping",
        scenario: "faults: [slow-drip]",
        entry: "deadline: 2s",
        status: "critical",
        code: Some("http.timeout"),
    },
    Case {
        name: "dropping",
        scenario: "faults: [drop]",
        entry: "",
        status: "critical",
        code: Some("http.closed"),
    },
    Case {
        name: "resetting",
        scenario: "faults: [reset]",
        entry: "",
        status: "critical",
        code: Some("tcp.reset"),
    },
    Case {
        name: "expired",
        scenario: "faults: [certificate-expired]",
        entry: "tls: {ca: CA}",
        status: "critical",
        code: Some("tls.expired"),
    },
    Case {
        name: "wrong-host",
        scenario: "faults: [certificate-wrong-host]",
        entry: "tls: {ca: CA}",
        status: "critical",
        code: Some("tls.hostname_mismatch"),
    },
    Case {
        name: "self-signed",
        scenario: "faults: [certificate-self-signed]",
        entry: "tls: {ca: CA}",
        status: "critical",
        code: Some("tls.self_signed"),
    },
    Case {
        name: "untrusted",
        scenario: "tls: true",
        entry: "",
        status: "critical",
        code: Some("tls.untrusted"),
    },
    Case {
        name: "trusted",
        scenario: "tls: true",
        entry: "tls: {ca: CA}",
        status: "healthy",
        code: None,
    },
    Case {
        name: "unauthorized",
        scenario: "auth: basic",
        entry: "auth: {method: basic, username: probe, password: \"env:WRONG\"}",
        status: "critical",
        code: Some("auth.unauthorized"),
    },
    Case {
        name: "secretless",
        scenario: "auth: basic",
        entry: "auth: {method: basic, username: probe, password: \"env:NOT_SET_ANYWHERE\"}",
        status: "unknown",
        code: Some("auth.credential_missing"),
    },
    Case {
        name: "http-503",
        scenario: "faults: [status=503]",
        entry: "",
        status: "critical",
        code: Some("http.status"),
    },
    Case {
        name: "login-page",
        scenario: "faults: [login-page]",
        entry: "",
        status: "critical",
        code: Some("fhir.not_fhir"),
    },
    Case {
        name: "down-at-200",
        scenario: "faults: [health-down]",
        entry: "checks: {health: {path: /health}}",
        status: "critical",
        code: Some("health.down"),
    },
    Case {
        name: "outcome-at-200",
        scenario: "faults: [outcome-error]",
        entry: "",
        status: "critical",
        code: Some("fhir.operation_outcome"),
    },
    Case {
        name: "truncated",
        scenario: "faults: [truncate]",
        entry: "",
        status: "critical",
        code: Some("http.closed"),
    },
    Case {
        name: "garbage",
        scenario: "faults: [garbage]",
        entry: "",
        status: "critical",
        code: Some("fhir.malformed"),
    },
    Case {
        name: "endless",
        scenario: "faults: [endless]",
        entry: "",
        status: "critical",
        code: Some("http.too_large"),
    },
    Case {
        name: "bomb",
        scenario: "faults: [bomb]",
        entry: "",
        status: "critical",
        code: Some("http.decompression_limit"),
    },
    Case {
        name: "rate-limited",
        scenario: "faults: [rate-limited=30]",
        entry: "",
        status: "warning",
        code: Some("http.rate_limited"),
    },
    Case {
        name: "redirecting",
        scenario: "auth: bearer, faults: [\"redirect=http://127.0.0.9:9/fhir\"]",
        entry: "auth: {method: bearer, token: \"env:WRONG\"}",
        status: "critical",
        code: Some("http.redirect_refused"),
    },
    Case {
        name: "ignoring",
        scenario: "faults: [ignore-parameters]",
        entry: "checks: {search: [\"Patient?family=Canary\"]}",
        status: "warning",
        code: Some("fhir.parameter_ignored"),
    },
    Case {
        name: "canary-there",
        scenario: "",
        entry: "checks: {read: [{ref: Patient/canary-1, synthetic: true}]}",
        status: "healthy",
        code: None,
    },
    Case {
        name: "canary-gone",
        scenario: "",
        entry: "checks: {read: [{ref: Patient/canary-2, synthetic: true}]}",
        status: "critical",
        code: Some("fhir.record_missing"),
    },
    Case {
        name: "empty-search",
        scenario: "faults: [empty-search]",
        entry: "checks: {search: [\"Patient?_summary=count\"], read: [{ref: Patient/canary-1, synthetic: true}]}",
        status: "critical",
        code: Some("fhir.record_missing"),
    },
    Case {
        name: "asserted",
        scenario: "",
        entry: "checks: {assert: [{query: \"Patient?_summary=count\", expression: \"total > 0\"}]}",
        status: "healthy",
        code: None,
    },
    Case {
        name: "refuted",
        scenario: "",
        entry: "checks: {assert: [{query: \"Patient?_summary=count\", expression: \"total < 0\"}]}",
        status: "critical",
        code: Some("assert.failed"),
    },
    Case {
        name: "other-version",
        scenario: "fhir_version: R5",
        entry: "fhir_version: R4",
        status: "critical",
        code: Some("fhir.version_mismatch"),
    },
    Case {
        name: "expecting",
        scenario: "",
        entry: "checks: {metadata: {expect: {resources: [Patient, Spaceship]}}}",
        status: "critical",
        code: Some("fhir.resource_missing"),
    },
    Case {
        name: "slow",
        scenario: "faults: [latency=300ms]",
        entry: "thresholds: {metadata: {warning: 100ms, critical: 20s}}",
        status: "warning",
        code: Some("perf.slow"),
    },
    Case {
        name: "accepted",
        scenario: "faults: [status=503]",
        entry: "accept: [{code: http.status, reason: known, until: 2999-01-01}]",
        status: "healthy",
        code: None,
    },
];

fn fleet() -> (Sandbox, Desk) {
    let scenario: Vec<_> = CASES
        .iter()
        .map(|case| {
            format!(
                "  - {{name: {}{}{}}}\n",
                case.name,
                if case.scenario.is_empty() { "" } else { ", " },
                case.scenario
            )
        })
        .collect();
    let sandbox = Sandbox::scenario(&format!("servers:\n{}", scenario.concat()));
    let ca = sandbox.ca().display().to_string();
    let mut inventory = String::from("version: 1\nservers:\n");
    for case in CASES {
        let entry = case.entry.replace("CA}", &format!("\"{ca}\"}}"));
        let comma = if entry.is_empty() { "" } else { ", " };
        inventory.push_str(&format!(
            "  - {{name: {}, url: \"{}\"{comma}{entry}}}\n",
            case.name,
            sandbox.url(case.name)
        ));
    }
    (sandbox, Desk::new(&inventory))
}

fn run(desk: &Desk, args: &[&str]) -> (Value, i32) {
    let output = desk
        .fhirctl()
        .env("WRONG", "planted-secret")
        .args(["-o", "json", "check"])
        .args(args)
        .output()
        .unwrap();
    let value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (value, output.status.code().unwrap())
}

#[test]
fn every_sickness_has_its_own_status_and_code() {
    let (_sandbox, desk) = fleet();
    let (result, exit) = run(&desk, &[]);
    let mut wrong = Vec::new();
    for case in CASES {
        let found = server(&result, case.name);
        if found["status"] != case.status || found["code"].as_str() != case.code {
            wrong.push(format!(
                "{}: {} {} {}",
                case.name, found["status"], found["code"], found["message"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(exit, 2);
    assert_eq!(result["status"], "critical");
    assert_eq!(result["exit_code"], 2);
    assert_eq!(result["recorded"], true);
    let names: Vec<_> = result["servers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|server| server["name"].as_str().unwrap())
        .collect();
    let expected: Vec<_> = CASES.iter().map(|case| case.name).collect();
    assert_eq!(names, expected, "servers come in the order of the inventory");
}

#[test]
fn a_planted_secret_is_in_no_output_at_any_verbosity() {
    let (_sandbox, desk) = fleet();
    for format in
        ["table", "json", "ndjson", "yaml", "csv", "markdown", "junit", "nagios", "openmetrics"]
    {
        let output = desk
            .fhirctl()
            .env("WRONG", "planted-secret")
            .args(["-vv", "-o", format, "check", "unauthorized", "redirecting"])
            .output()
            .unwrap();
        let all = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&all).contains("planted-secret"), "{format}");
        assert!(!String::from_utf8_lossy(&all).contains("cGxhbnRlZC1zZWNyZXQ"), "{format}");
    }
}

#[test]
fn a_name_that_does_not_exist_is_told_apart_from_a_silent_host() {
    // A listener whose queue is full answers nothing to a connection.
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let fillers: Vec<_> = (0..2)
        .filter_map(|_| {
            TcpStream::connect_timeout(&address, std::time::Duration::from_millis(300)).ok()
        })
        .collect();
    let desk = Desk::new(&format!(
        "version: 1\nservers:\n  - {{name: nowhere, url: \"http://ehr.invalid/fhir\"}}\n  - {{name: full, url: \"http://{address}/fhir\", timeouts: {{connect: 1s}}}}\n"
    ));
    let (result, exit) = run(&desk, &[]);
    assert_eq!(server(&result, "nowhere")["code"], "dns.not_found", "{result}");
    assert_eq!(server(&result, "full")["code"], "tcp.timeout", "{result}");
    assert_eq!(exit, 2);
    drop(fillers);
}

#[test]
fn what_breaks_below_http_is_told_by_its_stage_and_the_rest_is_skipped() {
    let (_sandbox, desk) = fleet();
    let (result, exit) = desk.json(&["test", "refused"]);
    assert_eq!(exit, 2);
    let found = &result["server"];
    assert_eq!(check(found, "dns")["code"], "check.not_applicable");
    assert_eq!(check(found, "tcp")["code"], "tcp.refused");
    assert_eq!(check(found, "metadata")["code"], "check.skipped");
    assert!(check(found, "tcp")["hint"].is_string());
}

#[test]
fn phases_do_not_overlap_and_a_reused_connection_has_none() {
    let (_sandbox, desk) = fleet();
    let (result, _) = run(&desk, &["trusted", "healthy"]);
    let tls = &check(server(&result, "trusted"), "metadata")["timing"];
    assert!(tls["dns_ms"].is_null(), "an address needs no lookup: {tls}");
    for phase in ["connect_ms", "tls_ms", "first_byte_ms", "transfer_ms"] {
        assert!(tls[phase].as_f64().unwrap() >= 0.0, "{phase} in {tls}");
    }
    let sum: f64 = ["connect_ms", "tls_ms", "first_byte_ms", "transfer_ms"]
        .iter()
        .map(|phase| tls[phase].as_f64().unwrap())
        .sum();
    assert!(sum <= tls["total_ms"].as_f64().unwrap() + 0.01, "{tls}");
    let reused = &check(server(&result, "healthy"), "metadata")["timing"];
    assert!(reused["connect_ms"].is_null(), "health has opened the connection already: {reused}");
}

#[test]
fn an_exchange_keeps_what_proves_an_incident() {
    let (_sandbox, desk) = fleet();
    let (result, _) = run(&desk, &["trusted"]);
    let found = server(&result, "trusted");
    let http = &check(found, "metadata")["http"];
    assert_eq!(http["status"], 200);
    assert_eq!(http["version"], "h2");
    assert!(http["remote_address"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(http["request_id"].as_str().unwrap().len(), 36);
    assert!(http["clock_skew_ms"].as_i64().unwrap().abs() < 60_000);
    assert!(found["certificate"]["days_left"].as_i64().unwrap() >= 0);
}

#[test]
fn a_pass_after_a_retry_is_said_to_be_one() {
    let sandbox = Sandbox::scenario("servers:\n  - {name: flaky, faults: [status=503@0.5]}\n");
    let desk = Desk::new(&format!(
        "version: 1\nservers:\n  - {{name: flaky, url: \"{}\"}}\n",
        sandbox.url("flaky")
    ));
    // Every second request fails, so that of two runs without retries one fails.
    let alone: Vec<i32> = (0..2).map(|_| run(&desk, &["--only", "metadata"]).1).collect();
    assert!(alone.contains(&2) && alone.contains(&0), "{alone:?}");
    let mut passed_late = false;
    for _ in 0..2 {
        let (result, exit) = run(&desk, &["--only", "metadata", "--retries", "2"]);
        assert_eq!(exit, 0, "{result}");
        let metadata = check(server(&result, "flaky"), "metadata");
        if metadata["attempts"] == 2 {
            passed_late = true;
            assert!(metadata["message"].as_str().unwrap().contains("attempt 2"), "{metadata}");
        }
    }
    assert!(passed_late);
}

#[test]
fn a_gate_fails_only_for_what_it_is_told_to() {
    let (_sandbox, desk) = fleet();
    for (selector, fail_on, expected) in [
        ("slow", "warning", 1),
        ("slow", "unknown", 0),
        ("slow", "critical", 0),
        ("refused", "critical", 2),
        ("refused", "never", 0),
        ("secretless", "critical", 3),
        ("secretless", "never", 0),
        ("healthy", "warning", 0),
    ] {
        assert_eq!(
            run(&desk, &[selector, "--fail-on", fail_on]).1,
            expected,
            "{selector} --fail-on {fail_on}"
        );
    }
}

#[test]
fn a_missing_capability_breaks_the_baseline() {
    let old = Sandbox::with(&["--fhir-version", "R4"]);
    let desk = Desk::new(&format!(
        "version: 1\nservers:\n  - {{name: ehr, url: \"{}\"}}\n",
        old.line["url"].as_str().unwrap()
    ));
    assert_eq!(desk.run(&["check", "--save-baseline", "baseline.json"]).status.code(), Some(0));
    let (same, exit) = run(&desk, &["--baseline", "baseline.json"]);
    assert_eq!(
        (exit, &check(server(&same, "ehr"), "capability")["status"]),
        (0, &Value::from("healthy"))
    );
    let text = std::fs::read_to_string(desk.dir.path().join("baseline.json")).unwrap();
    let mut baseline: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(baseline["schema"], "fhirctl/baseline/v1");
    baseline["servers"]["ehr"]["fhir_version"] = Value::from("3.0.2");
    std::fs::write(desk.dir.path().join("baseline.json"), baseline.to_string()).unwrap();
    let (drifted, exit) = run(&desk, &["--baseline", "baseline.json"]);
    assert_eq!(exit, 2);
    assert_eq!(server(&drifted, "ehr")["code"], "capability.breaking");
    assert_eq!(desk.run(&["check", "--baseline", "nowhere.json"]).status.code(), Some(66));
    std::fs::write(desk.dir.path().join("broken.json"), "{").unwrap();
    assert_eq!(desk.run(&["check", "--baseline", "broken.json"]).status.code(), Some(65));
}

#[test]
fn waiting_ends_when_all_is_well() {
    let sandbox = Sandbox::scenario(
        "servers:\n  - {name: late, faults: [{kind: status, value: 503, until: 3s}]}\n",
    );
    let desk = Desk::new(&format!(
        "version: 1\nservers:\n  - {{name: late, url: \"{}\"}}\n",
        sandbox.url("late")
    ));
    assert_eq!(run(&desk, &["--wait", "30s"]).1, 0);
}

#[test]
fn nothing_matched_ends_with_66_before_any_request() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let desk = Desk::new(&format!(
        "version: 1\nservers:\n  - {{name: ehr, url: \"http://{address}/fhir\"}}\n"
    ));
    let output = desk.run(&["check", "ehr", "ehhr"]);
    assert_eq!(output.status.code(), Some(66));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ehr"), "the nearest name is offered");
    assert!(listener.accept().is_err(), "no connection was opened");
}

#[test]
fn a_result_goes_into_a_file_by_rename() {
    let (_sandbox, desk) = fleet();
    let output = desk.run(&["-o", "openmetrics", "check", "healthy", "--output-file", "fhir.prom"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty());
    let text = std::fs::read_to_string(desk.dir.path().join("fhir.prom")).unwrap();
    assert!(text.contains("probe_success"), "{text}");
    let left: Vec<_> = std::fs::read_dir(desk.dir.path())
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    assert!(!left.iter().any(|name| name.contains("tmp")), "{left:?}");
    assert_eq!(
        desk.run(&["-o", "openmetrics", "check", "healthy", "--output-file", "no/such/dir/x"])
            .status
            .code(),
        Some(73)
    );
}
