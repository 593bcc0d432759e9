//! `diag`: the verdict, its evidence, the archive and the commands.

use std::process::Command;

use crate::support::{Desk, Sandbox, assert_schema};

fn desk(sandbox: &Sandbox, more: &str) -> Desk {
    let url = sandbox.url("local");
    Desk::new(&format!("version: 1\nservers:\n  - {{name: s, url: \"{url}\"{more}}}\n"))
}

#[test]
fn a_healthy_server_has_a_healthy_verdict() {
    let sandbox = Sandbox::with(&[]);
    let (found, code) = desk(&sandbox, "").json(&["diag", "s"]);
    assert_schema("diag", &found);
    assert_eq!(code, 0, "{found:#}");
    assert_eq!(found["verdict"]["status"], "healthy");
    assert!(found["verdict"]["layer"].is_null());
}

#[test]
fn a_server_that_is_gone_is_named_by_its_layer() {
    let desk = Desk::new("version: 1\nservers:\n  - {name: s, url: \"http://127.0.0.1:1/fhir\"}\n");
    let (found, code) = desk.json(&["diag", "s"]);
    assert_schema("diag", &found);
    assert_eq!(code, 2);
    assert_eq!(found["verdict"]["layer"], "tcp");
    assert_eq!(found["verdict"]["code"], "tcp.refused");
    assert_eq!(found["verdict"]["party"], "vendor");
}

#[test]
fn what_is_wrong_with_a_sign_in_is_named_with_who_has_to_act() {
    for (fault, layer, party, code, words) in [
        ("clock=10m", "clock", "identity_provider", "auth.clock_skew", "behind the clock"),
        ("audience", "auth", "ours", "auth.audience", "does not take the audience"),
    ] {
        let sandbox = Sandbox::with(&["--auth", "smart-backend", "--sign-in-fault", fault]);
        let auth = &sandbox.line["servers"][0]["auth"];
        let value = |name: &str| auth[name].as_str().unwrap();
        let desk = desk(
            &sandbox,
            &format!(
                ", auth: {{method: smart-backend, client_id: {}, key: \"file:{}\", key_id: {}, algorithm: ES384, \
                 token_url: \"{}\"}}",
                value("client_id"),
                value("secret_file"),
                value("key_id"),
                value("token_url"),
            ),
        );
        let (found, exit) = desk.json(&["diag", "s"]);
        let verdict = &found["verdict"];
        let named = ["layer", "party", "code"].map(|name| verdict[name].as_str().unwrap_or("none"));
        assert_eq!(named, [layer, party, code], "{found:#}");
        assert_eq!(exit, 2);
        assert!(verdict["message"].as_str().unwrap().contains(words), "{verdict:#}");
    }
}

#[test]
fn the_archive_is_readable_private_and_never_written_over() {
    let sandbox = Sandbox::with(&[]);
    let desk = desk(&sandbox, "");
    let run = || desk.run(&["diag", "s", "health", "--bundle", "b.tar.gz"]);
    assert_eq!(run().status.code(), Some(0));
    let path = desk.dir.path().join("b.tar.gz");
    let listed = Command::new("tar").args(["-tzf"]).arg(&path).output().unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    for name in ["README.txt", "diag.json", "diag.md", "commands.sh"] {
        assert!(names.contains(name), "{names}");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o077, 0);
    assert_eq!(run().status.code(), Some(73));
}

#[test]
fn the_commands_can_be_run_as_they_are_printed() {
    let sandbox = Sandbox::with(&[]);
    let desk = desk(&sandbox, "");
    let printed = desk.run(&["diag", "s", "health", "--curl"]);
    assert_eq!(printed.status.code(), Some(0));
    let script = String::from_utf8(printed.stdout).unwrap();
    let run = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(String::from_utf8_lossy(&run.stdout).contains("CapabilityStatement"), "{script}");
    let (listed, _) = desk.json(&["diag", "s", "health", "--curl"]);
    assert_schema("diag-commands", &listed);
}

#[test]
fn a_gate_without_its_topic_is_refused() {
    let desk = Desk::new("version: 1\nservers:\n  - {name: s, url: \"http://127.0.0.1:1/fhir\"}\n");
    for (args, topic) in [
        (&["health", "--minimum-grade", "A"][..], "tls"),
        (&["--expect", "p95<1ms"], "load"),
        (&["health", "--mix", "m.yaml"], "load"),
        (&["query", "--rate", "5"], "load"),
        (&["tls", "--probe"], "capability or query"),
        (&["--resource", "r.json"], "validate"),
        (&["--server-validate", "never"], "validate"),
        (&["health", "--negative"], "auth"),
        (&["health", "--baseline", "b.json"], "capability"),
    ] {
        let run = desk.run(&[&["diag", "s"], args].concat());
        assert_eq!(run.status.code(), Some(64), "{args:?}");
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(said.contains(&format!("topic {topic},")), "{args:?}: {said}");
    }
}

#[test]
fn a_grade_cannot_be_reached_where_there_is_no_tls() {
    let sandbox = Sandbox::with(&[]);
    let (found, code) = desk(&sandbox, "").json(&["diag", "s", "tls", "--minimum-grade", "A"]);
    assert_eq!((code, found["verdict"]["code"].as_str()), (3, Some("tls.grade")), "{found:#}");
}

#[test]
fn a_silent_server_ends_with_the_deadline() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/fhir", listener.local_addr().unwrap());
    let desk = Desk::new(&format!("version: 1\nservers:\n  - {{name: s, url: \"{url}\"}}\n"));
    let (found, code) = desk.json(&["--timeout", "1s", "diag", "s", "tcp", "health", "query"]);
    assert_schema("diag", &found);
    let topics = found["topics"].as_array().unwrap();
    let of = |name: &str| topics.iter().find(|topic| topic["name"] == name).unwrap();
    // What was found before is kept.
    assert_eq!(of("tcp")["status"], "healthy", "{found:#}");
    assert_eq!(of("query")["code"], "check.deadline", "{found:#}");
    assert!(code == 2 || code == 3, "{found:#}");
}

#[test]
fn a_build_server_sees_what_was_left_out_and_how_long_it_took() {
    let sandbox = Sandbox::with(&[]);
    let run = desk(&sandbox, "").run(&["-o", "junit", "diag", "s", "tls", "health"]);
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(text.contains("skipped=\"1\""), "{text}");
    assert!(text.contains("<skipped message=\"the server is asked over plain HTTP\"/>"), "{text}");
    let health = text.lines().find(|line| line.contains("name=\"health\"")).unwrap();
    assert!(!health.contains("time=\"0.000\""), "{text}");
}

/// Answers everything with an error that repeats the credential and names a patient.
fn talkative() -> String {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/fhir", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).replace(['\r', '\n', '"'], " ");
                let body = format!(
                    "{{\"resourceType\":\"OperationOutcome\",\"issue\":[{{\"severity\":\"error\",\
                     \"code\":\"exception\",\"diagnostics\":\"Patient Zwetschgenmann: {head}\"}}]}}"
                );
                let _ = write!(
                    stream,
                    "HTTP/1.1 500 Error\r\ncontent-type: application/fhir+json\r\n\
                     connection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
            });
        }
    });
    base
}

#[test]
fn the_archive_holds_no_secret_and_no_patient() {
    let url = talkative();
    let desk = Desk::new(&format!(
        "version: 1\nservers:\n  - name: s\n    url: \"{url}\"\n    \
         auth: {{method: basic, username: probe, password: \"env:PLANTED\"}}\n    \
         extra_headers: {{X-Key: \"env:PLANTED_HEADER\"}}\n    \
         checks: {{search: [\"Patient?family=Zwetschgenmann\"], \
         read: [{{ref: Patient/zwetschgenmann-1, synthetic: true}}]}}\n"
    ));
    let run = desk
        .fhirctl()
        .env("PLANTED", "planted-password")
        .env("PLANTED_HEADER", "planted-header")
        .args(["diag", "s", "--bundle", "b.tar.gz"])
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(2), "{}", String::from_utf8_lossy(&run.stderr));
    let archive =
        Command::new("tar").args(["-xzOf"]).arg(desk.dir.path().join("b.tar.gz")).output().unwrap();
    let text = String::from_utf8(archive.stdout).unwrap();
    assert!(text.contains("fhirctl/diag/v1"), "{text}");
    // What Basic makes of it, too.
    let basic = "cHJvYmU6cGxhbnRlZC1wYXNzd29yZA";
    for planted in ["planted-password", "planted-header", basic, "wetschgenmann"] {
        let found: Vec<_> = text.lines().filter(|line| line.contains(planted)).collect();
        assert!(found.is_empty(), "{planted}: {found:#?}");
    }
}
