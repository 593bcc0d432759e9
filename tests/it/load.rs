//! `diag NAME load`: what is sent, what is counted, when it is refused.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::support::{Desk, Sandbox};

fn desk(url: &str, more: &str) -> Desk {
    Desk::new(&format!("version: 1\nservers:\n  - {{name: s, url: \"{url}\"{more}}}\n"))
}

fn details(found: &Value) -> &Value {
    let topics = found["topics"].as_array().unwrap();
    &topics.iter().find(|topic| topic["name"] == "load").unwrap()["details"]
}

#[test]
fn every_request_of_a_load_test_is_counted() {
    let sandbox = Sandbox::with(&[]);
    let desk = desk(&sandbox.url("local"), ", checks: {search: [\"Patient?_count=1\"]}");
    let (found, code) = desk.json(&[
        "diag",
        "s",
        "load",
        "--connections",
        "4",
        "--max-requests",
        "200",
        "--duration",
        "60s",
        "--expect",
        "errors<1%",
        "--expect",
        "p99<60s",
    ]);
    assert_eq!(code, 0, "{found:#}");
    let details = details(&found);
    assert_eq!(details["requests"], 200, "{details:#}");
    assert_eq!(details["statuses"]["2xx"], 200);
    assert_eq!(details["ended"], "requests");
    assert_eq!((&details["model"], &details["corrected"]), (&"closed".into(), &false.into()));
    let of = |index: usize| details["operations"][index]["requests"].as_u64().unwrap();
    assert_eq!(of(0) + of(1), 200);
    assert!(of(1) > of(0), "the search weighs three times as much: {details:#}");
    assert_eq!(details["latency"]["count"], 200);
    assert_eq!(details["connects"]["count"], 4, "connections are kept open");
    assert!(details["bytes"].as_u64().unwrap() > 0);
}

#[test]
fn an_open_model_keeps_to_its_schedule_and_shows_the_wait_behind_a_slow_server() {
    let sandbox = Sandbox::with(&["--fault", "latency=100ms"]);
    let desk = desk(&sandbox.url("local"), "");
    // One connection bears ten a second: of forty due in a second the last waits for the others.
    let (found, _) =
        desk.json(&["diag", "s", "load", "--connections", "1", "--rate", "40", "--duration", "1s"]);
    let details = details(&found);
    assert_eq!((&details["model"], &details["corrected"]), (&"open".into(), &true.into()));
    assert_eq!(details["scheduled"], 40, "{details:#}");
    assert!(details["late"].as_u64().unwrap() > 5, "{details:#}");
    // Each answer takes 100 ms; whoever measures from the sending sees only that.
    assert!(details["latency"]["max"].as_f64().unwrap() > 300.0, "{details:#}");
    assert_eq!(found["verdict"]["code"], "perf.slow", "{found:#}");
    assert_eq!(found["verdict"]["layer"], "server");
}

#[test]
fn an_expectation_that_is_not_met_is_critical() {
    let sandbox = Sandbox::with(&["--fault", "latency=50ms"]);
    let desk = desk(&sandbox.url("local"), "");
    let (found, code) =
        desk.json(&["diag", "s", "load", "--max-requests", "20", "--expect", "p50<10ms"]);
    assert_eq!(code, 2, "{found:#}");
    assert_eq!(found["verdict"]["code"], "perf.expectation");
    assert_eq!(
        (&found["verdict"]["layer"], &found["verdict"]["party"]),
        (&"server".into(), &"vendor".into())
    );
    assert_eq!(details(&found)["expectations"][0]["met"], false);
}

#[test]
fn a_load_test_stops_when_too_much_fails() {
    let (port, _) = turning(20, STATEMENT, ("503 Busy", "text/plain", "busy"));
    let desk = desk(&format!("http://127.0.0.1:{port}/fhir"), "");
    let (found, code) = desk.json(&["diag", "s", "load", "--duration", "60s"]);
    assert_eq!(code, 2, "{found:#}");
    assert_eq!(details(&found)["ended"], "errors");
    assert_eq!(found["verdict"]["code"], "perf.errors");
}

#[test]
fn a_server_without_a_good_answer_is_not_loaded_and_not_called_healthy() {
    let outcome = "{\"resourceType\":\"OperationOutcome\",\"issue\":[{\"severity\":\"error\",\
                   \"code\":\"exception\"}]}";
    let json = "application/fhir+json";
    for (answer, code) in [
        (("200 OK", "text/html", "<!doctype html><title>Sign in</title>"), "fhir.not_fhir"),
        (("200 OK", json, outcome), "fhir.operation_outcome"),
        (("200 OK", json, "{\"resourceType\":\"Capa"), "fhir.malformed"),
        (("200 OK", json, "{\"status\":\"up\"}"), "fhir.not_fhir"),
        (("200 OK", json, ""), "fhir.not_fhir"),
        (("302 Found\r\nlocation: /fhir/metadata", json, ""), "http.redirect_refused"),
        (("500 Error", json, ""), "http.status"),
    ] {
        let (port, seen) = turning(0, STATEMENT, answer);
        let desk = desk(&format!("http://127.0.0.1:{port}/fhir"), "");
        let (found, exit) =
            desk.json(&["diag", "s", "load", "--expect", "errors<1%", "--max-requests", "5000"]);
        assert_eq!((found["verdict"]["code"].as_str(), exit), (Some(code), 2), "{found:#}");
        assert!(details(&found).is_null(), "{found:#}");
        assert!(seen.load(Ordering::Relaxed) < 100, "{found:#}");
    }
}

#[test]
fn a_server_that_turns_bad_under_load_is_seen() {
    for answer in [
        ("200 OK", "text/html", "<!doctype html><title>Sorry</title>"),
        ("200 OK", "application/fhir+json", ""),
    ] {
        let (port, _) = turning(30, STATEMENT, answer);
        let desk = desk(&format!("http://127.0.0.1:{port}/fhir"), "");
        let (found, exit) = desk.json(&["diag", "s", "load", "--max-requests", "500"]);
        assert_eq!(found["verdict"]["code"], "fhir.not_fhir", "{found:#}");
        assert_eq!(exit, 2);
        assert!(details(&found)["errors"]["fhir.not_fhir"].as_u64().unwrap() > 20, "{found:#}");
    }
}

#[test]
fn an_interrupted_load_says_so() {
    let (port, seen) = counting();
    let desk = desk(&format!("http://127.0.0.1:{port}/fhir"), "");
    let mut command = desk.fhirctl();
    command.args(["-o", "json", "diag", "s", "load", "--rate", "200", "--duration", "60s"]);
    let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    while seen.load(Ordering::Relaxed) < 100 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let id = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(130), "{found:#}");
    assert_eq!((&found["cut_short"], &found["exit_code"]), (&true.into(), &130.into()));
    assert_eq!(details(&found)["ended"], "asked");
}

#[test]
fn production_is_not_loaded_without_a_word_and_nothing_is_sent_before() {
    let (port, seen) = counting();
    let url = format!("http://127.0.0.1:{port}/fhir");
    let desk = desk(&url, ", labels: {env: prod}");
    for args in [
        &["diag", "s", "load"][..],
        // What cannot be meant is refused as early.
        &["diag", "s", "load", "--yes", "--expect", "p95<500"],
        &["diag", "s", "load", "--yes", "--rate", "0"],
        &["diag", "s", "load", "--yes", "--mix", "bad.yaml"],
    ] {
        std::fs::write(desk.dir.path().join("bad.yaml"), "- {method: DELETE, path: Patient/1}")
            .unwrap();
        let output = desk.run(args);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
    }
    assert_eq!(seen.load(Ordering::Relaxed), 0);
    let output = desk.run(&["--yes", "diag", "s", "load", "--max-requests", "20"]);
    assert_ne!(output.status.code(), Some(64));
    assert!(seen.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_mix_is_sent_as_it_is_written_and_its_values_are_not_shown() {
    let sandbox = Sandbox::with(&[]);
    let desk = desk(&sandbox.url("local"), "");
    std::fs::write(
        desk.dir.path().join("mix.yaml"),
        "- {path: 'Patient?family={}&_count=1', values: [Hushhush, Quietquiet], weight: 2}\n\
         - {method: POST, path: Patient/_search, body: 'family={}', values: [Hushhush]}\n\
         - {method: HEAD, path: metadata}\n",
    )
    .unwrap();
    let output = desk
        .fhirctl()
        .args(["-o", "json", "diag", "s", "load", "--max-requests", "80", "--mix", "mix.yaml"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let found: Value = serde_json::from_str(&text).unwrap();
    let counts: Vec<_> = details(&found)["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), one["requests"].as_u64().unwrap()))
        .collect();
    let names: Vec<_> = counts.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["GET Patient?family=…&_count=1", "POST Patient/_search", "HEAD metadata"]);
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 80);
    assert!(!text.contains("Hushhush"), "{text}");
}

#[test]
fn a_token_goes_with_every_request_and_into_no_output() {
    let (port, seen) = expecting("authorization: bearer s3cr3t-t0ken");
    let url = format!("http://127.0.0.1:{port}/fhir");
    let desk = desk(&url, ", auth: {method: bearer, token: \"env:LOAD_TOKEN\"}");
    let output = desk
        .fhirctl()
        .env("LOAD_TOKEN", "s3cr3t-t0ken")
        .args(["-o", "json", "diag", "s", "load", "--max-requests", "30", "--connections", "2"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(details(&found)["statuses"]["2xx"], 30, "{text}");
    assert!(seen.load(Ordering::Relaxed) >= 30);
    assert!(!text.contains("s3cr3t-t0ken"));
}

#[test]
fn pins_and_allowed_addresses_hold_for_load_too() {
    let sandbox = Sandbox::with(&["--tls"]);
    let ca = sandbox.ca().display().to_string();
    let url = sandbox.url("local");
    let run = |more: &str| {
        let desk = desk(&url, &format!(", tls: {{ca: \"{ca}\"{more}}}"));
        desk.json(&["diag", "s", "load", "--max-requests", "20", "--connections", "2"])
    };
    let (found, code) = run("");
    assert_eq!(code, 0, "{found:#}");
    assert_eq!(details(&found)["statuses"]["2xx"], 20);
    let wrong = ", pins: [\"sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]";
    let (found, _) = run(wrong);
    // It does not even come to load.
    let why = found["topics"][0]["message"].as_str().unwrap();
    assert!(why.contains("tls.pin_mismatch"), "{found:#}");
    assert!(details(&found).is_null());
}

#[test]
fn load_does_not_go_through_a_proxy_and_says_so() {
    let sandbox = Sandbox::with(&[]);
    let desk = desk(&sandbox.url("local"), "");
    let output = desk
        .fhirctl()
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .args(["-o", "json", "diag", "s", "load"])
        .output()
        .unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["verdict"]["code"], "network.proxy", "{found:#}");
}

const STATEMENT: &str = "{\"resourceType\":\"CapabilityStatement\",\"fhirVersion\":\"4.0.1\"}";

/// A server whose first requests are answered with a statement, all others with this; it counts them.
fn turning(
    good: u64,
    first: &'static str,
    (status, kind, body): (&'static str, &'static str, &'static str),
) -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&seen);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let count = Arc::clone(&count);
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut piece = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut piece) {
                    head.extend_from_slice(&piece[..length]);
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    head.clear();
                    let (status, kind, body) = if count.fetch_add(1, Ordering::Relaxed) < good {
                        ("200 OK", "application/fhir+json", first)
                    } else {
                        (status, kind, body)
                    };
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n\
                         content-length: {length}\r\n\r\n{body}"
                    );
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, seen)
}

/// A server that counts requests and answers each with 200.
fn counting() -> (u16, Arc<AtomicU64>) {
    expecting("")
}

/// A server that answers 200 where the head of a request holds a text, else 401; it counts the good
/// ones. It ends with the test.
fn expecting(text: &'static str) -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&seen);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let count = Arc::clone(&count);
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut piece = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut piece) {
                    head.extend_from_slice(&piece[..length]);
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let good = String::from_utf8_lossy(&head).to_ascii_lowercase().contains(text);
                    head.clear();
                    let status = if good { "200 OK" } else { "401 Unauthorized" };
                    count.fetch_add(u64::from(good), Ordering::Relaxed);
                    let body =
                        "{\"resourceType\":\"CapabilityStatement\",\"fhirVersion\":\"4.0.1\"}";
                    let answer = format!(
                        "HTTP/1.1 {status}\r\nContent-Type: application/fhir+json\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, seen)
}
