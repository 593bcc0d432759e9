//! `expiring` through the built binary: against the sandbox's own certificate, and files.

use serde_json::Value;

use crate::support::{Desk, Sandbox, assert_schema};

/// What ends of a kind.
fn of_kind<'a>(expiring: &'a Value, kind: &str) -> Vec<&'a Value> {
    expiring["items"].as_array().unwrap().iter().filter(|item| item["kind"] == kind).collect()
}

fn inventory(url: &str, more: &str) -> String {
    format!("version: 1\nservers:\n  - {{name: a, url: '{url}', {more}}}\n")
}

#[test]
fn the_certificate_that_a_server_presents_is_seen_without_a_request() {
    let sandbox = Sandbox::with(&["--tls"]);
    let url = sandbox.line["url"].as_str().unwrap();
    // No trust is needed for looking, and a credential that is missing hinders nothing.
    let desk = Desk::new(&inventory(url, "auth: {method: bearer, token: 'env:NOT_SET'}"));
    let (far, _) = desk.json(&["expiring", "--within", "4000d"]);
    assert_schema("expiring", &far);
    let found = of_kind(&far, "server-certificate");
    let [certificate] = found.as_slice() else { panic!("{far}") };
    assert!(certificate["days_left"].as_i64().unwrap() >= 0, "{far}");
    assert_eq!(far["not_seen"], serde_json::json!([]));
    // A bound that its end is beyond.
    let (near, exit) = desk.json(&["expiring", "--within", "1s", "--offline"]);
    assert_eq!((exit, of_kind(&near, "server-certificate").len()), (0, 0));
}

#[test]
fn an_ended_certificate_is_seen_and_critical() {
    let sandbox = Sandbox::with(&["--tls", "--fault", "certificate-expired"]);
    let desk = Desk::new(&inventory(sandbox.line["url"].as_str().unwrap(), ""));
    let (ended, exit) = desk.json(&["expiring"]);
    assert_eq!(exit, 2, "{ended}");
    let found = of_kind(&ended, "server-certificate");
    assert_eq!(found.len(), 1, "{ended}");
    assert_eq!(found[0]["status"], "ended");
    assert!(found[0]["days_left"].as_i64().unwrap() < 0);
}

#[test]
fn a_pin_of_another_key_has_ended() {
    let sandbox = Sandbox::with(&["--tls"]);
    let pin = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let desk = Desk::new(&inventory(
        sandbox.line["url"].as_str().unwrap(),
        &format!("tls: {{pins: ['{pin}']}}"),
    ));
    let (lost, exit) = desk.json(&["expiring"]);
    assert_eq!(exit, 2);
    assert_schema("expiring", &lost);
    let found = of_kind(&lost, "pin");
    assert_eq!(found.len(), 1, "{lost}");
    assert_eq!((&found[0]["ends"], &found[0]["status"]), (&Value::Null, &"ended".into()));
    assert_eq!(found[0]["action"], "fhirctl auth pins accept a");
}

#[test]
fn what_cannot_be_seen_is_said_and_is_a_warning() {
    let desk = Desk::new(&inventory("https://127.0.0.1:9/fhir", "tls: {ca: nowhere.pem}"));
    let (unseen, exit) = desk.json(&["expiring"]);
    assert_eq!(exit, 1, "{unseen}");
    assert_schema("expiring", &unseen);
    let codes: Vec<&str> = unseen["not_seen"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["tcp.refused", "tls.untrusted"]);
}

#[test]
fn certificates_in_files_and_secrets_end_too() {
    let sandbox = Sandbox::with(&["--tls"]);
    let ca = std::fs::read(sandbox.ca()).unwrap();
    let desk = Desk::new(&inventory(
        "https://a.example.org",
        "tls: {ca: ca.pem, client_certificate: {certificate: ca.pem, key: 'file:key'}}, \
         auth: {method: bearer, token: 'file:token', expires: 2020-01-01, max_age: 400000d}",
    ));
    std::fs::write(desk.dir.path().join("ca.pem"), ca).unwrap();
    std::fs::write(desk.dir.path().join("token"), "x").unwrap();
    let (found, exit) = desk.json(&["expiring", "--offline", "--within", "5000d"]);
    assert_eq!(exit, 2, "{found}");
    assert_schema("expiring", &found);
    assert_eq!(of_kind(&found, "ca-certificate").len(), 1);
    assert_eq!(of_kind(&found, "client-certificate").len(), 1);
    let secrets = of_kind(&found, "secret");
    assert_eq!(secrets.len(), 1, "{found}");
    assert_eq!(secrets[0]["action"], "fhirctl auth rotate a");
    // The soonest stands first.
    assert_eq!(found["items"][0]["kind"], "secret");
    let young = inventory(
        "https://a.example.org",
        "auth: {method: bearer, token: 'file:token', max_age: 10d}",
    );
    std::fs::write(desk.inventory(), young).unwrap();
    let (found, exit) = desk.json(&["expiring", "--offline"]);
    assert_eq!((exit, of_kind(&found, "secret").len()), (1, 1), "{found}");
}

#[test]
fn nothing_that_ends_is_0_in_every_format_and_a_calendar_is_well_formed() {
    let day = "2099-01-01";
    let accept = format!("accept: [{{code: tcp.refused, reason: 'a, b; c', until: {day}}}]");
    let desk = Desk::new(&inventory("https://a.example.org", &accept));
    for format in ["table", "json", "ndjson", "yaml", "csv", "markdown", "ics"] {
        let output = desk.run(&["expiring", "--offline", "-o", format]);
        assert_eq!(output.status.code(), Some(0), "{format}");
    }
    let refused = desk.run(&["expiring", "--offline", "-o", "junit"]);
    assert_eq!(refused.status.code(), Some(64));

    let calendar = |desk: &Desk| {
        let output = desk.run(&["expiring", "--offline", "--within", "40000d", "-o", "ics"]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = calendar(&desk);
    assert!(text.ends_with("\r\n"));
    for line in text.split("\r\n") {
        assert!(line.len() <= 75 && !line.contains(['\r', '\n']), "{line:?}");
    }
    let unfolded = text.replace("\r\n ", "");
    let names: Vec<&str> = unfolded
        .lines()
        .map(|line| line.split([':', ';']).next().unwrap())
        .filter(|name| *name != "DTSTAMP")
        .collect();
    assert_eq!(
        names,
        [
            "BEGIN",
            "VERSION",
            "PRODID",
            "CALSCALE",
            "METHOD",
            "BEGIN",
            "UID",
            "DTSTART",
            "SUMMARY",
            "DESCRIPTION",
            "TRANSP",
            "BEGIN",
            "ACTION",
            "DESCRIPTION",
            "TRIGGER",
            "END",
            "END",
            "END"
        ]
    );
    assert!(unfolded.contains("DTSTART:20990102T000000Z"), "the last day is whole: {unfolded}");
    let uid = |text: &str| text.lines().find(|line| line.starts_with("UID:")).unwrap().to_owned();
    assert_eq!(uid(&unfolded), uid(&calendar(&desk).replace("\r\n ", "")), "the same in each run");
}

#[test]
fn a_secret_that_is_in_no_file_is_as_old_as_its_first_use() {
    let sandbox = Sandbox::with(&["--auth", "bearer"]);
    let server = &sandbox.line["servers"][0];
    let secret = std::fs::read_to_string(server["auth"]["secret_file"].as_str().unwrap()).unwrap();
    let desk = Desk::new(&inventory(
        server["url"].as_str().unwrap(),
        "auth: {method: bearer, token: 'env:TOKEN', max_age: 10d}",
    ));
    let (unused, exit) = desk.json(&["expiring"]);
    assert_eq!((exit, of_kind(&unused, "secret").len()), (0, 0), "{unused}");
    let check = desk.fhirctl().env("TOKEN", secret.trim()).arg("check").output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{check:?}");
    let (used, exit) = desk.json(&["expiring"]);
    let found = of_kind(&used, "secret");
    assert_eq!((exit, found.len()), (1, 1), "{used}");
    // Ten days from now, or a second less.
    assert!(matches!(found[0]["days_left"].as_i64(), Some(9 | 10)), "{used}");
}
