//! Object stores as destinations: what is refused, with a store that answers one thing to all.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::Desk;

/// A store with one answer. It lives as long as the test.
struct Store {
    url: String,
    heard: Arc<Mutex<String>>,
}

impl Store {
    fn saying(status: &'static str, body: &'static str) -> Store {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::new(Mutex::new(String::new()));
        let told = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut bytes = [0; 16 * 1024];
                let read = stream.read(&mut bytes).unwrap_or(0);
                told.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Store { url, heard }
    }
}

fn desk() -> Desk {
    let desk = Desk::new(
        "version: 1\nservers:\n  - {name: a, url: \"http://127.0.0.1:9/fhir\", auth: {method: bearer, token: \"env:FHIR_TOKEN\"}}\n",
    );
    std::fs::create_dir_all(desk.dir.path().join("state")).unwrap();
    desk
}

/// Exit code and error, with a store at an endpoint.
fn ask(desk: &Desk, endpoint: &str, args: &[&str]) -> (i32, Value) {
    let output = desk
        .fhirctl()
        .args(["-o", "json", "bulk-export"])
        .args(args)
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", "AKIAPLANTED")
        .env("AWS_SECRET_ACCESS_KEY", "planted-secret")
        .env("AWS_REGION", "eu-central-1")
        .env("FHIR_TOKEN", "planted-token")
        .env_remove("AWS_SESSION_TOKEN")
        .env_remove("AWS_ALLOW_HTTP")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("planted-"), "{text}");
    let last = text.lines().last().unwrap_or_default();
    (output.status.code().unwrap(), serde_json::from_str(last).unwrap_or_default())
}

const TO: [&str; 3] = ["a", "--output-dir", "s3://bucket/exports"];

#[test]
fn what_is_no_address_is_refused_before_anything_is_asked() {
    let desk = desk();
    for address in ["ftp://host/x", "s3://", "s3://b/../x", "s3://key:planted-secret@b/x"] {
        for args in
            [&["a", "--output-dir", address][..], &["verify", address], &["status", address]]
        {
            assert_eq!(ask(&desk, "http://127.0.0.1:9", args).0, 64, "{args:?}");
        }
    }
}

#[test]
fn data_do_not_go_over_plain_http_beyond_loopback() {
    let desk = desk();
    for args in [&TO[..], &["verify", "s3://bucket/exports"]] {
        let (code, error) = ask(&desk, "http://store.example.org:9000", args);
        assert_eq!(code, 78, "{error}");
        assert!(error["message"].as_str().unwrap().contains("plain HTTP"), "{error}");
    }
}

#[test]
fn what_a_store_says_decides_the_exit_code() {
    for (status, word, wanted, part) in [
        ("403 Forbidden", "InvalidAccessKeyId", 77, "bulk.store_refused"),
        ("401 Unauthorized", "", 77, "bulk.store_refused"),
        ("400 Bad Request", "ExpiredToken", 77, "bulk.store_refused"),
        ("404 Not Found", "NoSuchBucket", 66, "bulk.store_missing"),
        ("301 Moved Permanently", "PermanentRedirect", 77, "bulk.store_refused"),
    ] {
        let body: &'static str =
            Box::leak(format!("<Error><Code>{word}</Code></Error>").into_boxed_str());
        let (store, desk) = (Store::saying(status, body), desk());
        for args in [&TO[..], &["verify", "s3://bucket/exports"]] {
            let (code, error) = ask(&desk, &store.url, args);
            assert_eq!(code, wanted, "{status} {args:?}: {error}");
            let message = error["message"].as_str().unwrap();
            assert!(
                message.contains(part) && message.contains("s3://bucket/exports/"),
                "{message}"
            );
        }
        let heard = store.heard.lock().unwrap().clone();
        assert!(heard.to_lowercase().contains("authorization: aws4-hmac-sha256"), "{heard}");
        assert!(!heard.contains("planted-"), "a secret was sent: {heard}");
        let begun = desk.dir.path().join("state/fhirctl/exports");
        assert!(!begun.exists(), "nothing was begun, and nothing is left");
    }
}

#[test]
fn an_export_that_was_not_begun_here_is_not_found() {
    let desk = desk();
    for verb in ["status", "resume", "cancel", "purge"] {
        let (code, error) = ask(&desk, "http://127.0.0.1:9", &[verb, "s3://bucket/exports"]);
        assert_eq!(code, 66, "{verb}: {error}");
    }
}
