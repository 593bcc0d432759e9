//! A small FHIR server of raw HTTP, which does what its test tells it.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Desk;

/// A request as it came.
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Value,
}

/// An answer; no status: the connection is closed without one.
pub struct Told {
    status: u16,
    headers: Vec<(String, String)>,
    body: Value,
}

pub fn told(status: u16, body: Value) -> Told {
    Told { status, headers: Vec::new(), body }
}

impl Told {
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Told {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

type Rule = dyn Fn(&Asked, &mut Store) -> Option<Told> + Send + Sync;

/// What a server holds and was asked for.
#[derive(Default)]
pub struct Store {
    pub resources: BTreeMap<String, Value>,
    /// Every write that was applied, in its order.
    pub writes: Vec<String>,
    /// Kind and number of entries of every bundle that came.
    pub bundles: Vec<(String, usize)>,
    pub asked: Vec<(String, String, Value)>,
    pub preferences: Vec<String>,
}

pub struct Fhir {
    pub url: String,
    pub store: Arc<Mutex<Store>>,
}

impl Fhir {
    /// `rule` answers before the server does.
    pub fn start(
        pause: Duration,
        rule: impl Fn(&Asked, &mut Store) -> Option<Told> + Send + Sync + 'static,
    ) -> Fhir {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/fhir", listener.local_addr().unwrap());
        let store = Arc::new(Mutex::new(Store::default()));
        let (shared, rule): (_, Arc<Rule>) = (Arc::clone(&store), Arc::new(rule));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, rule) = (Arc::clone(&shared), Arc::clone(&rule));
                std::thread::spawn(move || converse(&stream, pause, &shared, &*rule));
            }
        });
        Fhir { url, store }
    }

    pub fn plain() -> Fhir {
        Fhir::start(Duration::ZERO, |_, _| None)
    }

    pub fn desk(&self) -> Desk {
        Desk::new(&format!(
            "version: 1\nservers:\n  - name: s\n    url: {}\n    retry: {{backoff: 10ms, max_backoff: 50ms}}\n    rate_limit: {{requests_per_second: 1000, burst: 1000}}\n",
            self.url
        ))
    }
}

fn converse(stream: &TcpStream, pause: Duration, store: &Mutex<Store>, rule: &Rule) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(0, |it| it.parse().unwrap());
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let asked = Asked { method, path, headers, body };
        std::thread::sleep(pause);
        let told = {
            let mut store = store.lock().unwrap();
            let kind = asked.body["type"].as_str().unwrap_or_default().to_owned();
            if asked.body["resourceType"] == "Bundle" {
                let entries = asked.body["entry"].as_array().unwrap().len();
                store.bundles.push((kind, entries));
                store.preferences.push(asked.headers["prefer"].clone());
            }
            store.asked.push((asked.method.clone(), asked.path.clone(), asked.body.clone()));
            match rule(&asked, &mut store) {
                Some(told) => told,
                None => usual(&asked, &mut store),
            }
        };
        if told.status == 0 {
            return;
        }
        let text = told.body.to_string();
        let mut answer =
            format!("HTTP/1.1 {} X\r\ncontent-length: {}\r\n", told.status, text.len());
        answer.push_str("content-type: application/fhir+json\r\n");
        for (name, value) in &told.headers {
            answer.push_str(&format!("{name}: {value}\r\n"));
        }
        answer.push_str(&format!("\r\n{text}"));
        let mut out = stream;
        if out.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// What a server does that takes everything.
pub fn usual(asked: &Asked, store: &mut Store) -> Told {
    if let Some(name) =
        asked.path.strip_prefix("/fhir/").and_then(|it| it.strip_suffix("?_summary=count"))
    {
        let start = format!("{name}/");
        let total = store.resources.keys().filter(|key| key.starts_with(&start)).count();
        return told(200, json!({"resourceType": "Bundle", "type": "searchset", "total": total}));
    }
    if asked.method != "POST" || asked.path != "/fhir" {
        return told(404, Value::Null);
    }
    apply(asked, store, |_| None)
}

/// Applies a bundle but for the entries of which `refuse` knows a status.
pub fn apply(asked: &Asked, store: &mut Store, refuse: impl Fn(&Value) -> Option<u16>) -> Told {
    let entries = asked.body["entry"].as_array().unwrap();
    if asked.body["type"] == "transaction"
        && let Some(status) = entries.iter().find_map(&refuse)
    {
        return told(status, outcome());
    }
    let mut answers = Vec::new();
    for entry in entries {
        if let Some(status) = refuse(entry) {
            answers.push(json!({"response": {"status": status.to_string(), "outcome": outcome()}}));
            continue;
        }
        let request = &entry["request"];
        let url = request["url"].as_str().unwrap().to_owned();
        let key = match request["method"].as_str().unwrap() {
            "POST" => format!("{url}/new-{}", store.resources.len()),
            _ => url,
        };
        store.writes.push(key.clone());
        let status = if request["method"] == "DELETE" {
            store.resources.remove(&key);
            "204"
        } else if store.resources.insert(key, entry["resource"].clone()).is_some() {
            "200 OK"
        } else {
            "201 Created"
        };
        answers.push(json!({"response": {"status": status}}));
    }
    told(200, json!({"resourceType": "Bundle", "type": "batch-response", "entry": answers}))
}

pub fn outcome() -> Value {
    json!({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "invalid", "diagnostics": "Mr Secret"}]})
}

pub fn has_id(entry: &Value, id: &str) -> bool {
    entry["resource"]["id"] == id
}
