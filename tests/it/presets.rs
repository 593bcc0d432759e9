//! Presets through the built binary: what `vendors` shows, and servers that are not watched
//! without an approval.

use std::net::TcpListener;

use serde_json::Value;

use crate::support::{Desk, Sandbox, check, server};

fn fits(desk: &Desk, schema: &str, value: &Value) {
    let (schema, _) = desk.json(&["schema", schema]);
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

fn text(desk: &Desk, args: &[&str]) -> (String, i32) {
    let output = desk.run(args);
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

#[test]
fn every_preset_is_shown_in_every_form() {
    let desk = Desk::new("version: 1\n");
    let (all, code) = desk.json(&["vendors"]);
    assert_eq!(code, 0);
    fits(&desk, "vendors", &all);
    let names: Vec<&str> =
        all["vendors"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
    for name in ["epic", "cerner", "azure-fhir", "healthlake", "hapi", "proxy-apim", "helios"] {
        assert!(names.contains(&name), "{name}");
    }
    let (lines, _) = text(&desk, &["vendors", "-o", "ndjson"]);
    assert_eq!(lines.lines().count(), names.len());
    assert!(lines.starts_with("{\"schema\":\"fhirctl/vendor/v1\",\"name\":"), "{lines:.80}");
    let (csv, _) = text(&desk, &["vendors", "-o", "csv"]);
    assert_eq!(csv.lines().count(), names.len() + 1);
    assert!(
        csv.starts_with("name,title,kind,versions,sign-in,health,monitoring,base URL"),
        "{csv:.80}"
    );
    let (altera, code) = text(&desk, &["vendors", "altera"]);
    assert_eq!(code, 0);
    assert!(altera.contains("forbidden") && altera.contains("unconfirmed"), "{altera}");
}

/// A fleet with a server whose vendor forbids monitoring: that one counts who knocks.
fn fleet(watched: &Sandbox, extra: &str) -> (Desk, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let desk = Desk::new(&format!(
        "version: 1\nservers:\n  \
         - {{name: ehr-a, url: 'http://127.0.0.1:{port}/R4/fhir-Prod', vendor: altera, labels: {{env: prod}}, deadline: 1s{extra}}}\n  \
         - {{name: free, url: '{}', labels: {{env: prod}}}}\n",
        watched.url("free")
    ));
    (desk, listener)
}

fn nobody_knocked(listener: &TcpListener) -> bool {
    listener.accept().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn a_forbidden_server_is_left_out_of_the_fleet_and_shown() {
    let sandbox = Sandbox::scenario("servers: [{name: free}]");
    let (desk, listener) = fleet(&sandbox, "");
    for selector in
        [&[][..], &["*"], &["ehr-*", "free"], &["-l", "env=prod"], &["--include-maintenance"]]
    {
        let (run, code) = desk.json(&[&["check"], selector].concat());
        assert_eq!((code, &run["status"]), (0, &"healthy".into()), "{selector:?} {run}");
        fits(&desk, "check", &run);
        let left_out = server(&run, "ehr-a");
        assert_eq!(run["servers"][0], *left_out, "the order of the inventory");
        assert_eq!(
            (&left_out["state"], &left_out["code"]),
            (&"active".into(), &"check.skipped".into())
        );
        assert!(
            left_out["message"].as_str().unwrap().contains("no approval is on record"),
            "{left_out}"
        );
        let metadata = check(left_out, "metadata");
        assert_eq!(
            (&metadata["code"], &metadata["attempts"]),
            (&"check.skipped".into(), &0.into())
        );
        let hint = metadata["hint"].as_str().unwrap();
        assert!(hint.contains("fhirctl set ehr-a terms.approved_by="), "{hint}");
        let (summary, free) = (&run["summary"], server(&run, "free"));
        assert_eq!(
            (&summary["skipped"], &summary["healthy"], &summary["total"]),
            (&1.into(), &1.into(), &2.into())
        );
        assert_eq!(free["status"], "healthy");
        assert!(run["notes"][0].as_str().unwrap().contains("ehr-a was not checked"), "{run}");
    }
    assert!(nobody_knocked(&listener));
}

#[test]
fn every_form_says_that_a_server_was_left_out() {
    let sandbox = Sandbox::scenario("servers: [{name: free}]");
    let (desk, listener) = fleet(&sandbox, "");
    for (format, words) in [
        ("table", "terms.approved_by"),
        ("nagios", "1 servers healthy; 1 not checked"),
        ("junit", "<skipped type=\"check.skipped\""),
        ("csv", "ehr-a,metadata,unknown,check.skipped"),
        ("markdown", "check.skipped"),
        ("openmetrics", "fhirctl_servers{status=\"skipped\"} 1"),
    ] {
        let (said, code) = text(&desk, &["check", "-o", format]);
        assert_eq!(code, 0, "{format}");
        assert!(said.contains(words), "{format}\n{said}");
    }
    let (said, _) = text(&desk, &["check", "-o", "openmetrics"]);
    assert!(!said.contains("probe_success{server=\"ehr-a\"}"), "{said}");
    // Alone it is no failure either, and says why nothing was judged.
    let (said, code) = text(&desk, &["check", "ehr-*", "-o", "nagios"]);
    assert_eq!(code, 0);
    assert!(said.contains("ehr-a: check.skipped: not checked: the vendor's terms"), "{said}");
    assert!(nobody_knocked(&listener));
}

#[test]
fn who_asks_by_name_gets_an_answer() {
    let sandbox = Sandbox::scenario("servers: [{name: free}]");
    let (desk, listener) = fleet(&sandbox, "");
    let (run, code) = desk.json(&["check", "ehr-a"]);
    assert_eq!(code, 2, "{run}");
    assert!(!nobody_knocked(&listener));
    let (test, _) = desk.json(&["test", "ehr-a"]);
    assert_eq!(test["server"]["status"], "critical", "{test}");
}

#[test]
fn an_approval_that_holds_lets_the_fleet_check() {
    let sandbox = Sandbox::scenario("servers: [{name: free}]");
    let desk = Desk::new(&format!(
        "version: 1\nservers:\n  - name: ehr\n    url: {}\n    vendor: altera   # hospital\n",
        sandbox.url("free")
    ));
    let terms = |until: &str| {
        let until = format!("terms.until={until}");
        let args = ["set", "ehr", "terms.approved_by=Legal", "terms.reference=C-17", &until];
        let output = desk.run(&args);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let skipped = || server(&desk.json(&["check"]).0, "ehr")["code"] == "check.skipped";
    assert!(skipped());
    terms("2999-12-31");
    assert!(!skipped());
    terms("2020-01-31");
    assert!(skipped());
    let (run, code) = desk.json(&["check"]);
    assert_eq!((code, &run["status"]), (0, &"healthy".into()));
    let message = server(&run, "ehr")["message"].as_str().unwrap();
    assert!(message.contains("ended on 2020-01-31"), "{message}");
    assert!(std::fs::read_to_string(desk.inventory()).unwrap().contains("altera   # hospital"));
}

#[test]
fn an_approval_without_a_name_or_a_reference_is_none() {
    for (terms, words) in [
        ("{approved_by: Legal}", "terms has no reference"),
        ("{reference: C-1, until: 2027-01-01}", "terms has no approved_by"),
        ("{approved_by: Legal, reference: C-1, until: soon}", "write year, month and day"),
        ("{approved_by: Legal, reference: C-1, untill: 2027-01-01}", "did you mean \"until\"?"),
    ] {
        let desk = Desk::new(&format!(
            "version: 1\nservers:\n  - {{name: a, url: 'https://a.example.org', terms: {terms}}}\n"
        ));
        let output = desk.run(&["list"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(words), "{terms}\n{said}");
    }
}

#[test]
fn many_left_out_servers_make_one_note_and_keep_their_order() {
    let mut inventory = "version: 1\nservers:\n".to_owned();
    for index in 0..8 {
        let vendor = if index % 2 == 0 { ", vendor: altera" } else { ", deadline: 1s" };
        inventory += &format!("  - {{name: s{index}, url: 'http://127.0.0.1:1/r4'{vendor}}}\n");
    }
    let desk = Desk::new(
        &(inventory
            + "  - {name: t, url: 'http://127.0.0.1:1', vendor: altera}\n  - {name: u, url: 'http://127.0.0.1:1', vendor: altera}\n"),
    );
    let (run, code) = desk.json(&["check"]);
    assert_eq!(code, 2);
    let names: Vec<&str> =
        run["servers"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "t", "u"]);
    let summary = &run["summary"];
    assert_eq!((&summary["skipped"], &summary["critical"]), (&6.into(), &4.into()));
    let note = run["notes"][0].as_str().unwrap();
    assert!(note.starts_with("6 servers were not checked"), "{note}");
    assert!(note.contains("(s0, s2, s4, s6, t, …)"), "{note}");
}
