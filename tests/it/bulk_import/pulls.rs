//! Imports that the server does by itself.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::server::{Fhir, outcome, told};
use super::{of_type, patients};
use crate::support::{Desk, assert_schema};

/// What a finished job says; it is told the host.
type Completion = fn(&str) -> Value;

/// A server that imports by itself; `done` is the body of its finished job.
fn importer(done: Completion) -> Fhir {
    Fhir::start(Duration::ZERO, move |asked, store| {
        match (asked.method.as_str(), asked.path.as_str()) {
            ("POST", "/fhir/$import") => {
                assert_eq!(asked.headers["prefer"], "respond-async");
                Some(told(202, Value::Null).header(
                    "content-location",
                    format!("http://{}/fhir/job", asked.headers["host"]),
                ))
            }
            ("GET", "/fhir/job")
                if store.asked.iter().filter(|it| it.1 == "/fhir/job").count() < 2 =>
            {
                Some(told(202, Value::Null).header("retry-after", "0").header("x-progress", "half"))
            }
            ("GET", "/fhir/job") => Some(told(200, done(&asked.headers["host"]))),
            ("GET", "/fhir/errors") => Some(told(200, outcome())),
            _ => None,
        }
    })
}

const REMOTE: &str = "https://files.example/Patient.000.ndjson?sig=opens-it";

#[test]
fn every_family_of_import_comes_to_the_same_table() {
    let microsoft = |host: &str| {
        json!({"transactionTime": "2026-01-01T00:00:00Z", "request": "x",
        "output": [{"type": "Patient", "count": 4, "inputUrl": REMOTE}],
        "error": [{"type": "OperationOutcome", "count": 1, "inputUrl": REMOTE, "url": format!("http://{host}/fhir/errors")}]})
    };
    let manifest = |_: &str| {
        json!({"transactionTime": "2026-01-01T00:00:00Z", "request": "x",
        "output": [{"type": "Patient", "count": 4, "inputUrl": REMOTE}],
        "error": [{"type": "OperationOutcome", "count": 1, "inputUrl": REMOTE, "url": "/fhir/errors"}]})
    };
    let hapi = |_: &str| {
        json!({"resourceType": "OperationOutcome", "issue": [
        {"severity": "error", "code": "invalid", "diagnostics": "Mr Secret"}]})
    };
    let cases: [(&str, Completion, Value); 3] = [
        ("microsoft", microsoft, json!(4)),
        ("manifest", manifest, json!(4)),
        ("hapi", hapi, Value::Null),
    ];
    for (family, done, count) in cases {
        let server = importer(done);
        let desk = server.desk();
        let args =
            ["bulk-import", "s", REMOTE, "--family", family, "--yes", "--poll-floor", "10ms"];
        let (output, exit) = desk.json(&args);
        assert_schema("bulk-import", &output);
        assert_eq!((exit, &output["family"]), (65, &json!(family)), "{output}");
        // What a server does not say is not nothing.
        assert_eq!(
            (&output["totals"]["accepted"], &output["types"][0]["accepted"]),
            (&count, &count)
        );
        assert_eq!(
            output["files"],
            json!([{"url": "https://files.example/Patient.000.ndjson?(redacted)", "type": "Patient", "count": count, "errors": 1}])
        );
        assert_eq!(of_type(&output, "Patient")["rejected"], 1);
        let finding = &output["findings"][0];
        assert_eq!(
            (&finding["code"], &finding["severity"]),
            (&json!("bulk.import_errors"), &json!("error"))
        );
        assert!(finding["message"].as_str().unwrap().contains("invalid 1"), "{finding}");
        let text = output.to_string();
        assert!(!text.contains("opens-it") && !text.contains("Mr Secret"), "{text}");
        // It is over, and not begun again.
        let (output, exit) = desk.json(&args);
        assert_eq!((exit, &output["already_done"]), (65, &json!(true)));
        let begun = server.store.lock().unwrap().asked.iter().filter(|it| it.0 == "POST").count();
        assert_eq!(begun, 1);
    }
}

#[test]
fn a_job_that_failed_ends_with_its_own_code() {
    let server = Fhir::start(Duration::ZERO, |asked, _| match asked.path.as_str() {
        "/fhir/$import" => Some(told(202, Value::Null).header("content-location", "/fhir/job")),
        "/fhir/job" => Some(told(400, outcome())),
        _ => None,
    });
    let output = server.desk().run(&["bulk-import", "s", REMOTE, "--family", "hapi", "--yes"]);
    assert_eq!(output.status.code(), Some(69), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_way_is_told_with_its_reason_and_the_request_without_secrets() {
    let server = Fhir::start(Duration::ZERO, |asked, _| {
        (asked.path == "/fhir/metadata").then(|| {
            told(200, json!({"resourceType": "CapabilityStatement", "status": "active", "fhirVersion": "4.0.1",
                "software": {"name": "HAPI FHIR Server", "version": "7.4"},
                "rest": [{"mode": "server", "operation": [{"name": "import", "definition": "x"}]}]}))
        })
    });
    let desk = server.desk();
    let (output, exit) = desk.json(&["bulk-import", "s", REMOTE, "--dry-run"]);
    assert_schema("bulk-import", &output);
    assert_eq!((exit, &output["family"]), (0, &json!("hapi")), "{output}");
    assert!(output["reason"].as_str().unwrap().contains("declares $import"));
    let inputs = &output["request"]["body"]["parameter"][3]["part"];
    assert_eq!(inputs[1]["valueUri"], "https://files.example/Patient.000.ndjson?(redacted)");
    let told = desk.run(&["bulk-import", "s", REMOTE, "--dry-run"]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("/fhir/$import") && !told.contains("opens-it"), "{told}");
    assert!(server.store.lock().unwrap().asked.iter().all(|it| it.0 == "GET"));
    for (vendor, word) in [("google", "fhirStores.import"), ("healthlake", "StartFHIRImportJob")] {
        let entry = format!(
            "version: 1\nservers:\n  - {{name: s, vendor: {vendor}, url: {}, auth: {{method: none}}}}\n",
            server.url
        );
        let desk = Desk::new(&entry);
        let refused = desk.run(&["bulk-import", "s", REMOTE, "--yes"]);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(64), "{text}");
        assert!(text.contains(word), "{text}");
    }
}

fn fetch(url: &str) -> (String, String) {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[test]
fn local_files_are_served_under_a_path_of_this_run_while_the_job_runs() {
    let server = Fhir::start(Duration::ZERO, |asked, store| match asked.path.as_str() {
        "/fhir/$import" => {
            let input = asked.body["input"].as_array().unwrap();
            assert_eq!(input.len(), 2);
            for file in input {
                let url = file["url"].as_str().unwrap();
                let (status, body) = fetch(url);
                assert!(status.contains("200"), "{status}");
                let name = file["type"].as_str().unwrap();
                assert_eq!(
                    body.matches("resourceType").count(),
                    if name == "Patient" { 3 } else { 1 }
                );
                let guessed =
                    url.replacen(&url[url.len() - 40..url.len() - 20], "00000000000000000000", 1);
                assert!(fetch(&guessed).0.contains("404"));
                store.writes.push(url.to_owned());
            }
            Some(told(202, Value::Null).header("content-location", "/fhir/job"))
        }
        "/fhir/job" => Some(told(
            200,
            json!({"transactionTime": "2026-01-01T00:00:00Z", "output": [
            {"type": "Organization", "count": 1}, {"type": "Patient", "count": 3}], "error": []}),
        )),
        _ => None,
    });
    let desk = server.desk();
    fs::write(
        desk.dir.path().join("Patient.ndjson.zst"),
        zstd::encode_all(patients(0..3).as_bytes(), 1).unwrap(),
    )
    .unwrap();
    fs::write(
        desk.dir.path().join("o.ndjson"),
        "{\"resourceType\":\"Organization\",\"id\":\"a\"}\n",
    )
    .unwrap();
    let args = [
        "bulk-import",
        "s",
        ".",
        "--family",
        "manifest",
        "--serve",
        "127.0.0.1:0",
        "--yes",
        "--poll-floor",
        "10ms",
    ];
    let (output, exit) = desk.json(&args);
    assert_schema("bulk-import", &output);
    assert_eq!((exit, &output["totals"]["accepted"]), (0, &json!(4)), "{output}");
    let url = server.store.lock().unwrap().writes[0].clone();
    let host = url.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    assert!(TcpStream::connect(host).is_err(), "it is gone with its job");
    // Who is not on the list gets nothing.
    let args = ["bulk-import", "s", ".", "--family", "manifest", "--serve", "0.0.0.0:0", "--yes"];
    assert_eq!(desk.run(&args).status.code(), Some(64));
}
