//! `diag NAME resources`: what a server says of itself, and pages that are none.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::support::{Desk, Sandbox, assert_schema};

/// What a listener does with a connection whose request it has read.
type Answer = dyn Fn(&str, &mut TcpStream) + Send + Sync;

fn listener(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer: Arc<Answer> = Arc::new(answer);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || {
                let mut head = [0; 16 * 1024];
                let length = stream.read(&mut head).unwrap_or(0);
                answer(&String::from_utf8_lossy(&head[..length]), &mut stream);
            });
        }
    });
    port
}

fn page(text: &'static str) -> u16 {
    listener(move |_, stream| send(stream, "text/plain; version=0.0.4", text))
}

fn send(stream: &mut TcpStream, kind: &str, body: &str) {
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}

/// A healthy FHIR server whose metrics are elsewhere.
fn diag(sandbox: &Sandbox, place: &str) -> (Value, i32) {
    let url = sandbox.url("local");
    let desk = Desk::new(&format!(
        "version: 1\nservers:\n  - name: s\n    url: \"{url}\"\n    auth: {{method: bearer, token: \"env:TOKEN\"}}\n    checks: {{resources: {{{place}}}}}\n"
    ));
    let output = desk
        .fhirctl()
        .env("TOKEN", "for-the-server-alone")
        .args(["-o", "json", "diag", "s", "resources"])
        .output()
        .unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_schema("diag", &found);
    (found, output.status.code().unwrap())
}

fn at(port: u16) -> String {
    format!("url: \"http://127.0.0.1:{port}/metrics\"")
}

#[test]
fn a_server_out_of_memory_by_its_metrics_is_named() {
    let sandbox = Sandbox::with(&[]);
    let port = page(
        "# TYPE jvm_memory_used_bytes gauge\n\
         jvm_memory_used_bytes{area=\"heap\",id=\"G1 Old Gen\"} 4.2e9\n\
         jvm_memory_max_bytes{area=\"heap\",id=\"G1 Old Gen\"} 4.294967296e9\n\
         jvm_threads_live_threads 200\n",
    );
    let (found, code) = diag(&sandbox, &at(port));
    assert_eq!(code, 2, "{found:#}");
    let verdict = &found["verdict"];
    assert_eq!(verdict["code"], "server.memory");
    assert_eq!((&verdict["layer"], &verdict["party"]), (&"server".into(), &"vendor".into()));
    assert!(verdict["message"].as_str().unwrap().contains("heap"), "{verdict}");
}

#[test]
fn a_server_with_enough_of_everything_is_healthy() {
    let sandbox = Sandbox::with(&[]);
    let port =
        page("process_resident_memory_bytes 1e8\nprocess_open_fds 10\nprocess_max_fds 1024\n");
    let (found, code) = diag(&sandbox, &at(port));
    assert_eq!(code, 0, "{found:#}");
    assert_eq!(found["topics"][0]["details"]["readings"].as_array().unwrap().len(), 2);
}

#[test]
fn an_exhausted_pool_with_requests_that_wait_is_critical_by_actuator_too() {
    let sandbox = Sandbox::with(&[]);
    let port = listener(|head, stream| {
        let value = |value: f64| {
            format!(
                "{{\"name\":\"x\",\"measurements\":[{{\"statistic\":\"VALUE\",\"value\":{value}}}]}}"
            )
        };
        let body = match head.split_whitespace().nth(1).unwrap_or_default() {
            "/metrics" => {
                "{\"names\":[\"hikaricp.connections.active\",\"hikaricp.connections.max\",\"hikaricp.connections.pending\",\"other\"]}".to_owned()
            }
            "/metrics/hikaricp.connections.pending" => value(9.0),
            _ => value(10.0),
        };
        send(stream, "application/vnd.spring-boot.actuator.v3+json", &body);
    });
    let (found, code) = diag(&sandbox, &at(port));
    assert_eq!(code, 2, "{found:#}");
    assert_eq!(found["verdict"]["code"], "server.pool");
    assert_eq!(found["topics"][0]["details"]["format"], "actuator");
}

#[test]
fn a_page_of_a_gigabyte_is_left_after_its_beginning() {
    let sandbox = Sandbox::with(&[]);
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let port = listener(move |_, stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1073741824\r\n\r\n",
        );
        let piece = "some_metric{path=\"/a/b/c\"} 1234567\n".repeat(2000);
        while stream.write_all(piece.as_bytes()).is_ok() {
            count.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    });
    let (found, code) = diag(&sandbox, &at(port));
    assert_eq!(code, 1, "{found:#}");
    assert_eq!(found["verdict"]["code"], "server.metrics");
    assert_eq!(found["topics"][0]["details"]["truncated"], true);
    assert!(sent.load(Ordering::Relaxed) < 100_000_000, "{sent:?} bytes were taken");
}

#[test]
fn an_endless_line_a_web_page_and_garbage_are_told_and_break_nothing() {
    let sandbox = Sandbox::with(&[]);
    let endless = listener(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n");
        while stream.write_all(&[b'x'; 65536]).is_ok() {}
    });
    let html = page("<html><body>Welcome</body></html>");
    let json = page("{\"status\":\"UP\"}");
    for port in [endless, html, json] {
        let (found, code) = diag(&sandbox, &at(port));
        assert_eq!(code, 1, "{found:#}");
        assert_eq!(found["verdict"]["code"], "server.metrics");
    }
}

#[test]
fn metrics_that_are_not_shown_or_not_named_are_no_trouble() {
    let sandbox = Sandbox::with(&[]);
    let (found, code) = diag(&sandbox, "path: /no/such/metrics");
    assert_eq!(found["topics"][0]["code"], "check.not_applicable", "{found:#}");
    assert_eq!(code, 3);
    let url = sandbox.url("local");
    let desk = Desk::new(&format!("version: 1\nservers:\n  - {{name: s, url: \"{url}\"}}\n"));
    let (found, _) = desk.json(&["diag", "s", "resources"]);
    assert_eq!(found["topics"][0]["code"], "check.not_applicable", "{found:#}");
}

#[test]
fn the_credential_goes_to_the_servers_own_origin_only() {
    let sandbox = Sandbox::with(&[]);
    let seen = Arc::new(std::sync::Mutex::new(String::new()));
    let kept = Arc::clone(&seen);
    let port = listener(move |head, stream| {
        kept.lock().unwrap().push_str(head);
        send(stream, "text/plain", "process_open_fds 10\n");
    });
    let (found, _) = diag(&sandbox, &at(port));
    let seen = seen.lock().unwrap();
    assert!(seen.starts_with("GET /metrics "), "{found:#}");
    assert!(!seen.contains("for-the-server-alone"), "{seen}");
}
