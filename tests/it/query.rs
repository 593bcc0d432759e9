//! `query`: one request, all pages, what is written down of it, and what is never sent.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Desk, Sandbox, assert_schema};

fn at(url: &str) -> Desk {
    Desk::new(&format!("version: 1\nservers:\n  - {{name: s, url: \"{url}\"}}\n"))
}

fn sandbox_with(args: &[&str]) -> (Sandbox, Desk) {
    let sandbox = Sandbox::with(args);
    let desk = at(&sandbox.url("local"));
    (sandbox, desk)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Makes a body from the base URL.
type Answer = Box<dyn Fn(&str) -> String + Send>;

/// Answers requests in turn, each with a body made from its own origin; gives what was asked.
fn answering(answers: Vec<Answer>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let base = format!("{origin}/fhir");
    let own = base.clone();
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                head.push(byte[0]);
            }
            asked.push(text(&head));
            let body = answer(&own);
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/fhir+json\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        }
        asked
    });
    (base, thread)
}

#[test]
fn what_is_no_fhir_ends_with_65_and_cannot_harm_a_terminal() {
    for body in ["garb\0age\u{1b}[2J", "{\"status\":\"up\"}", "[1,2]", "{\"resourceType\":\"Pat"] {
        for args in [&["query", "s", "Patient/1"][..], &["query", "s", "Patient/1", "--raw"]] {
            let (url, _asked) = answering(vec![Box::new(move |_| body.to_owned())]);
            let run = at(&url).run(args);
            assert_eq!(run.status.code(), Some(65), "{body:?} {args:?}");
            let shown = text(&run.stdout);
            assert!(!shown.is_empty());
            assert!(args.contains(&"--raw") || !shown.contains(['\0', '\u{1b}']), "{shown:?}");
        }
        let (url, _asked) = answering(vec![Box::new(move |_| body.to_owned())]);
        let (found, code) = at(&url).json(&["query", "s", "Patient/1"]);
        assert_eq!(code, 65, "{found:#}");
        assert!(found["body"].is_null() || found["text"].is_null());
    }
}

#[test]
fn what_was_sent_and_how_is_on_record() {
    let (_sandbox, desk) = sandbox_with(&[]);
    assert_eq!(desk.run(&["query", "s", "Patient?family=Hush"]).status.code(), Some(0));
    let log = text(&desk.run(&["audit", "log", "-o", "ndjson"]).stdout);
    assert!(log.contains("POST Patient/_search") && !log.contains("GET Patient"), "{log}");
}

#[test]
fn a_timeout_bounds_the_whole_request() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let desk = at(&format!("http://{}/fhir", listener.local_addr().unwrap()));
    let run = desk.run(&["--timeout", "500ms", "query", "s", "Patient/1"]);
    assert_eq!(run.status.code(), Some(69));
    assert!(text(&run.stderr).contains("within 500ms"), "{}", text(&run.stderr));
}

#[test]
fn a_change_without_its_content_is_refused() {
    let desk = at("http://127.0.0.1:1/fhir");
    let run = desk.run(&["--yes", "query", "s", "Patient/1", "--method", "put"]);
    assert_eq!(run.status.code(), Some(64));
}

#[test]
fn a_resource_is_printed_as_it_came() {
    let decimal = r#"{"resourceType":"Observation","valueQuantity":{"value":1.10}}"#;
    let (url, asked) = answering(vec![
        Box::new(move |_| decimal.to_owned()),
        Box::new(move |_| decimal.to_owned()),
        Box::new(move |_| decimal.to_owned()),
    ]);
    let desk = at(&url);
    let pretty = desk.run(&["query", "s", "Observation/1"]);
    assert_eq!(
        text(&pretty.stdout),
        "{\n  \"resourceType\": \"Observation\",\n  \"valueQuantity\": {\n    \"value\": 1.10\n  }\n}\n"
    );
    let raw = desk.run(&["query", "s", "Observation/1", "--raw"]);
    assert_eq!(text(&raw.stdout), decimal);
    let (document, code) = desk.json(&["query", "s", "Observation/1"]);
    assert_schema("query", &document);
    assert_eq!((code, document["status"].as_u64()), (0, Some(200)));
    assert_eq!(document["path"], "Observation/{id}");
    let asked = asked.join().unwrap();
    assert!(asked[0].starts_with("GET /fhir/Observation/1 HTTP/1.1\r\n"), "{}", asked[0]);
}

#[test]
fn all_pages_are_one_stream_and_as_many_as_are_counted() {
    let (_sandbox, desk) = sandbox_with(&["--patients", "23"]);
    let all = desk.run(&["query", "s", "Patient?_count=5", "--all"]);
    assert_eq!(all.status.code(), Some(0), "{}", text(&all.stderr));
    let lines: Vec<Value> =
        text(&all.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["resourceType"] == "Patient"));
    let count = desk.run(&["query", "s", "Patient", "--count"]);
    assert_eq!(text(&count.stdout).trim(), lines.len().to_string());
    let (document, _) = desk.json(&["query", "s", "Patient", "--count"]);
    assert_schema("query-count", &document);
    let ids = desk.run(&["query", "s", "Patient?_count=5", "--all", "--fhirpath", "id"]);
    assert_eq!(text(&ids.stdout).lines().count(), lines.len());
    assert_eq!(
        text(&ids.stdout).lines().next(),
        Some(lines[0]["id"].to_string().as_str()),
        "strings are printed as JSON"
    );
}

#[test]
fn a_search_that_runs_in_a_circle_or_to_another_origin_ends() {
    let page = |next: &str| {
        json!({"resourceType": "Bundle", "type": "searchset",
               "link": [{"relation": "next", "url": next}],
               "entry": [{"resource": {"resourceType": "Patient", "id": "1"}}]})
        .to_string()
    };
    let (url, circle) = answering(vec![
        Box::new(move |base| page(&format!("{base}?page=2"))),
        Box::new(move |base| page(&format!("{base}?page=2"))),
    ]);
    let run = at(&url).run(&["query", "s", "Patient", "--all"]);
    assert_eq!(run.status.code(), Some(65));
    assert!(text(&run.stderr).contains("leads back"), "{}", text(&run.stderr));
    circle.join().unwrap();

    let other = TcpListener::bind("127.0.0.2:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let address = format!("http://{}/fhir?page=2", other.local_addr().unwrap());
    let (url, away) = answering(vec![Box::new(move |_| page(&address))]);
    let run = at(&url).run(&["query", "s", "Patient", "--all"]);
    assert_eq!(run.status.code(), Some(65));
    assert!(text(&run.stderr).contains("another origin"), "{}", text(&run.stderr));
    assert!(other.accept().is_err(), "somebody called at the other origin");
    away.join().unwrap();
}

#[test]
fn what_identifies_a_person_stands_in_no_address_and_no_log() {
    let bundle = r#"{"resourceType":"Bundle","type":"searchset","total":0}"#;
    let (url, asked) = answering(vec![Box::new(move |_| bundle.to_owned())]);
    let desk = at(&url);
    let mut child = desk
        .fhirctl()
        .args(["query", "s", "Patient", "--param", "family=@-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"Zwetschgenmann\n").unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    let asked = asked.join().unwrap();
    assert!(asked[0].starts_with("POST /fhir/Patient/_search HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(!asked[0].contains("Zwetschgenmann"), "{}", asked[0]);
    let log = text(&desk.run(&["audit", "log", "-o", "ndjson"]).stdout);
    assert!(log.contains("POST Patient/_search?family") && log.contains("\"read\""), "{log}");
    assert!(!log.contains("Zwetschgenmann"), "{log}");
}

#[test]
fn a_search_by_a_persons_name_is_answered_by_a_server_without_post_too() {
    let (_sandbox, desk) = sandbox_with(&[]);
    let found = desk.run(&["query", "s", "Patient?name=Nobody-of-that-name", "--all"]);
    assert_eq!(found.status.code(), Some(0), "{}", text(&found.stderr));
}

#[test]
fn what_changes_the_server_is_confirmed_and_on_record() {
    let (_sandbox, desk) = sandbox_with(&[]);
    let file = desk.dir.path().join("p.json");
    std::fs::write(&file, r#"{"resourceType":"Patient","id":"put-here","active":true}"#).unwrap();
    let put = ["query", "s", "Patient/put-here", "--method", "put", "--data", "p.json"];
    assert_eq!(desk.run(&put).status.code(), Some(64));
    let read = || desk.run(&["query", "s", "Patient/put-here"]).status.code();
    assert_eq!(read(), Some(66), "nothing may have been written");
    let done = desk.run(&[&put[..], &["--yes"]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(read(), Some(0));
    let log = text(&desk.run(&["audit", "log", "-o", "ndjson"]).stdout);
    assert!(log.contains("PUT Patient/{id}"), "{log}");
    assert!(!log.contains("put-here"), "{log}");
}

#[test]
fn the_exit_code_tells_what_kind_of_trouble_it_was() {
    for (args, path, code) in [
        (&["--fault", "status=401"][..], "metadata", 77),
        (&["--fault", "status=403"], "metadata", 77),
        (&["--fault", "status=404"], "Patient/1", 66),
        (&["--fault", "status=500"], "Patient", 69),
        (&["--fault", "rate-limited=600"], "Patient", 75),
        (&["--fault", "login-page"], "Patient", 65),
        (&["--fault", "drop"], "Patient", 69),
        (&[], "../../etc", 64),
    ] {
        let (_sandbox, desk) = sandbox_with(args);
        let run = desk.run(&["query", "s", path]);
        assert_eq!(run.status.code(), Some(code), "{args:?} {}", text(&run.stderr));
        assert!(!run.stderr.is_empty());
    }
}

#[test]
fn the_header_comes_before_the_body_where_it_is_wanted() {
    let (_sandbox, desk) = sandbox_with(&[]);
    let with = text(&desk.run(&["query", "s", "metadata", "--include"]).stdout);
    assert!(with.starts_with("HTTP/1.1 200 OK\n"), "{with}");
    assert!(with.contains("\n\n{\n  \"resourceType\": \"CapabilityStatement\""), "{with}");
    let head = text(&desk.run(&["query", "s", "metadata", "--method", "head"]).stdout);
    assert!(head.starts_with("HTTP/1.1 200 OK\n") && !head.contains('{'), "{head}");
    let secret = desk.run(&["query", "s", "metadata", "--header", "Authorization: Bearer x"]);
    assert_eq!(secret.status.code(), Some(64));
}
