//! `diag NAME write`: whatever happens, its record is gone afterwards or named.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::support::Desk;

/// What becomes of a create once its record is stored.
#[derive(Clone, Copy, PartialEq)]
enum Create {
    Answered,
    Slow,
    Failed,
    Cut,
}

/// A server with one type that stores what is posted and finds it by its identifier.
struct Store {
    url: String,
    records: Arc<Mutex<Vec<Value>>>,
}

impl Store {
    fn new(create: Create, deletes: bool) -> Store {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/fhir", listener.local_addr().unwrap());
        let records = Arc::new(Mutex::new(vec![
            // Somebody else's, which has to stay.
            json!({"resourceType": "Basic", "id": "other", "identifier": [{"value": "other"}]}),
        ]));
        let shared = Arc::clone(&records);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || answer(stream, &shared, create, deletes));
            }
        });
        Store { url, records }
    }

    fn ids(&self) -> Vec<String> {
        let records = self.records.lock().unwrap();
        records.iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect()
    }
}

fn request(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.to_ascii_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    let _ = stream.read_exact(&mut body);
    (head, body)
}

fn answer(mut stream: TcpStream, records: &Mutex<Vec<Value>>, create: Create, deletes: bool) {
    let (head, body) = request(&mut stream);
    let mut words = head.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let id = path.strip_prefix("/fhir/Basic/").map(str::to_owned);
    let place = |id: &str| records.lock().unwrap().iter().position(|one| one["id"] == id);
    let (status, more, body) = match (method, &id) {
        ("POST", None) => {
            let mut record: Value = serde_json::from_slice(&body).unwrap();
            record["id"] = "new".into();
            records.lock().unwrap().push(record.clone());
            match create {
                Create::Answered => {}
                Create::Slow => std::thread::sleep(Duration::from_millis(1500)),
                Create::Failed => return send(&mut stream, 500, "", &json!({})),
                Create::Cut => return,
            }
            (201, "location: /fhir/Basic/new\r\n", record)
        }
        ("PUT", Some(id)) if place(id).is_some() => (200, "", json!({"resourceType": "Basic"})),
        ("DELETE", Some(_)) if !deletes => (403, "", json!({})),
        ("DELETE", Some(id)) if place(id).is_some() => {
            let at = place(id).unwrap();
            records.lock().unwrap().remove(at);
            (204, "", json!({}))
        }
        ("GET", Some(id)) => match place(id) {
            Some(at) => (200, "", records.lock().unwrap()[at].clone()),
            None => (404, "", json!({})),
        },
        ("GET", None) if path.starts_with("/fhir/Basic?") => {
            // It heeds no parameter: everything is found.
            let all = records.lock().unwrap();
            let entry: Vec<_> = all.iter().map(|record| json!({"resource": record})).collect();
            (200, "", json!({"resourceType": "Bundle", "type": "searchset", "entry": entry}))
        }
        ("GET", None) => {
            (200, "", json!({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}))
        }
        _ => (404, "", json!({})),
    };
    send(&mut stream, status, more, &body);
}

fn send(stream: &mut TcpStream, status: u16, more: &str, body: &Value) {
    let body = if status == 204 { String::new() } else { body.to_string() };
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-type: application/fhir+json\r\nconnection: close\r\n{more}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
}

fn desk(store: &Store) -> Desk {
    let url = &store.url;
    Desk::new(&format!("version: 1\nservers:\n  - {{name: s, url: \"{url}\"}}\n"))
}

fn begun(desk: &Desk) -> Child {
    let mut command = desk.fhirctl();
    command.args(["-o", "json", "--yes", "diag", "s", "write"]).stdout(Stdio::piped());
    command.spawn().unwrap()
}

fn topic(found: &Value) -> &Value {
    &found["topics"][0]
}

#[test]
fn a_create_whose_answer_got_lost_is_found_and_deleted_and_nothing_else() {
    for create in [Create::Failed, Create::Cut] {
        let store = Store::new(create, true);
        let (found, code) = desk(&store).json(&["--yes", "diag", "s", "write"]);
        assert_eq!(code, 2, "{found:#}");
        assert_eq!(store.ids(), ["other"], "{found:#}");
        assert_eq!(topic(&found)["details"]["is_gone"], true);
    }
}

#[test]
fn a_record_that_cannot_be_deleted_is_named() {
    let store = Store::new(Create::Answered, false);
    let (found, code) = desk(&store).json(&["--yes", "diag", "s", "write"]);
    assert_eq!(code, 2, "{found:#}");
    let next = found["verdict"]["next_step"].as_str().unwrap();
    assert!(next.contains(&format!("{}/Basic/new", store.url)), "{found:#}");
    assert_eq!(topic(&found)["details"]["is_gone"], false);
    let store = Store::new(Create::Failed, false);
    let (found, code) = desk(&store).json(&["--yes", "diag", "s", "write"]);
    assert_eq!(code, 2, "{found:#}");
    let text = found.to_string();
    assert!(text.contains(&format!("{}/Basic/new", store.url)), "{found:#}");
}

#[test]
fn whoever_stops_a_write_has_it_cleaned_up() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let store = Store::new(Create::Slow, true);
        let desk = desk(&store);
        let child = begun(&desk);
        // The create is under way: its record is stored and its answer is not there.
        while store.ids().len() < 2 {
            std::thread::sleep(Duration::from_millis(10));
        }
        kill(nix::unistd::Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(found["cut_short"], true, "{found:#}");
        assert_eq!(store.ids(), ["other"], "{found:#}");
        assert_eq!(topic(&found)["details"]["is_gone"], true);
    }
}
