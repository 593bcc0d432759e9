//! `diag NAME tls`: what a server agrees to, its chain, its grade, and hosts that speak no sense.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Instant;

use serde_json::Value;

use crate::support::{Desk, Sandbox, assert_schema};

fn sandbox_desk(sandbox: &Sandbox) -> Desk {
    let (url, ca) = (sandbox.url("local"), sandbox.ca().display());
    Desk::new(&format!(
        "version: 1\nservers:\n  - {{name: s, url: \"{url}\", tls: {{ca: {ca}}}}}\n"
    ))
}

fn tls(found: &Value) -> &Value {
    &found["topics"][0]
}

#[test]
fn a_good_server_is_healthy_and_graded() {
    let sandbox = Sandbox::with(&["--tls"]);
    let desk = sandbox_desk(&sandbox);
    let (found, code) = desk.json(&["diag", "s", "tls"]);
    assert_schema("diag", &found);
    let topic = tls(&found);
    assert_eq!((code, &topic["status"]), (0, &Value::from("healthy")), "{found:#}");
    let details = &topic["details"];
    // No header, so no A+.
    assert_eq!(details["rating"]["grade"], "A", "{details:#}");
    let offered = |version: &str| {
        let protocols = details["protocols"].as_array().unwrap();
        protocols.iter().find(|one| one["version"] == version).unwrap()["offered"] == true
    };
    assert!(offered("TLSv1.3") && offered("TLSv1.2"));
    assert!(!offered("TLSv1.1") && !offered("TLSv1.0") && !offered("SSLv3"));
    assert!(details["groups_tls13"].as_array().unwrap().iter().any(|group| group == "x25519"));
    assert_eq!(details["chains"][0]["in_order"], true);
    assert!(details["connections"].as_u64().unwrap() < 60);
}

#[test]
fn a_grade_that_is_missed_is_a_problem_with_its_reasons() {
    let sandbox = Sandbox::with(&["--tls"]);
    let desk = sandbox_desk(&sandbox);
    assert_eq!(desk.json(&["diag", "s", "tls", "--minimum-grade", "A"]).1, 0);
    let (found, code) = desk.json(&["diag", "s", "tls", "--minimum-grade", "A+"]);
    assert_eq!(code, 2);
    assert_eq!(tls(&found)["code"], "tls.grade");
    assert_eq!(tls(&found)["party"], "vendor");
    let message = tls(&found)["message"].as_str().unwrap();
    assert!(message.contains("Strict-Transport-Security"), "{message}");
    assert_eq!(desk.run(&["diag", "s", "--minimum-grade", "S"]).status.code(), Some(64));
}

#[test]
fn a_certificate_without_its_authority_is_not_trusted_and_says_what_it_would_be() {
    let sandbox = Sandbox::with(&["--tls"]);
    let url = sandbox.url("local");
    let desk = Desk::new(&format!("version: 1\nservers:\n  - {{name: s, url: \"{url}\"}}\n"));
    let (found, code) = desk.json(&["diag", "s", "tls"]);
    assert_eq!(code, 2);
    assert_eq!(tls(&found)["code"], "tls.untrusted");
    assert_eq!(tls(&found)["details"]["rating"]["grade"], "T");
    assert_eq!(tls(&found)["details"]["rating"]["without_trust"], "A");
}

#[test]
fn plain_http_has_no_tls_to_look_at() {
    let sandbox = Sandbox::with(&[]);
    let url = sandbox.url("local");
    let desk = Desk::new(&format!("version: 1\nservers:\n  - {{name: s, url: \"{url}\"}}\n"));
    let (found, _) = desk.json(&["diag", "s", "tls"]);
    assert_eq!(tls(&found)["code"], "check.not_applicable");
}

/// A listener that reads a little, says `answer` and closes, or stays silent.
fn host(answer: Option<Vec<u8>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            match &answer {
                Some(answer) => drop(stream.write_all(answer)),
                None => kept.push(stream),
            }
        }
    });
    port
}

/// A `ServerHello` of TLS 1.2 and a chain of so many certificates of so many bytes.
fn flight(certificates: usize, size: usize) -> Vec<u8> {
    let length = |value: usize| u32::try_from(value).unwrap().to_be_bytes()[1..].to_vec();
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0xc0, 0x2f, 0]);
    let mut list = Vec::new();
    for _ in 0..certificates {
        list.extend(length(size));
        list.extend(std::iter::repeat_n(0x30, size));
    }
    let mut messages = vec![2];
    messages.extend(length(hello.len()));
    messages.extend(hello);
    messages.push(11);
    messages.extend(length(list.len() + 3));
    messages.extend(length(list.len()));
    messages.extend(list);
    messages.extend([14, 0, 0, 0]);
    let mut wire = Vec::new();
    for part in messages.chunks(16_384) {
        wire.extend([22, 3, 3]);
        wire.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
        wire.extend(part);
    }
    wire
}

#[test]
fn hosts_that_speak_no_sense_are_findings() {
    for (what, answer, said) in [
        ("text", Some(b"220 mail.example ESMTP\r\n".to_vec()), "is no TLS"),
        ("one byte", Some(vec![22]), "closed"),
        ("nothing", None, "in time"),
        // As long as the length of a message can say.
        ("a chain of 16 MB", Some(flight(16, 1024 * 1024 - 20)), "256 KiB"),
        ("200 certificates", Some(flight(200, 600)), ""),
    ] {
        let port = host(answer);
        let desk = Desk::new(&format!(
            "version: 1\nservers:\n  - {{name: s, url: \"https://127.0.0.1:{port}/fhir\", \
             timeouts: {{connect: 2s, read: 1s, total: 8s}}}}\n"
        ));
        let begun = Instant::now();
        let (found, code) = desk.json(&["diag", "s", "tls"]);
        assert_schema("diag", &found);
        assert_eq!(code, 2, "{what}: {found:#}");
        let details = &tls(&found)["details"];
        let seen = format!("{} {}", tls(&found)["message"], details["protocols"]);
        assert!(seen.contains(said), "{what}: {seen}");
        if what == "200 certificates" {
            assert_eq!(details["chains"][0]["cut"], true, "{details:#}");
        }
        // A bound against hanging, no measurement.
        assert!(begun.elapsed().as_secs() < 60, "{what}");
    }
}

#[test]
fn the_commands_name_the_host() {
    let sandbox = Sandbox::with(&["--tls"]);
    let output = sandbox_desk(&sandbox).run(&["diag", "s", "tls", "--curl"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("openssl s_client -connect 127.0.0.1:"), "{text}");
    assert!(text.contains("-CAfile"), "{text}");
}
