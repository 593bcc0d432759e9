//! `bulk-import` against small servers that play what real ones do.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Desk, assert_schema};

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

fn outcome() -> Value {
    json!({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "invalid", "diagnostics": "Mr Secret"}]})
}

fn has_id(entry: &Value, id: &str) -> bool {
    entry["resource"]["id"] == id
}

fn patients(ids: impl IntoIterator<Item = usize>) -> String {
    ids.into_iter()
        .map(|id| format!("{}\n", json!({"resourceType": "Patient", "id": format!("p{id}")})))
        .collect()
}

fn of_type<'a>(output: &'a Value, name: &str) -> &'a Value {
    let types = output["types"].as_array().unwrap();
    types.iter().find(|it| it["type"] == name).unwrap_or_else(|| panic!("no {name}: {output}"))
}

#[test]
fn an_export_goes_in_in_order_and_a_second_run_says_that_it_is_done() {
    let server = Fhir::plain();
    let desk = server.desk();
    let data = desk.dir.path().join("data");
    fs::create_dir_all(data.join("deleted")).unwrap();
    let observations: String = (0..250)
        .map(|n| format!("{}\n", json!({"resourceType": "Observation", "id": format!("o{n}"), "subject": {"reference": "Patient/p1"}})))
        .collect();
    fs::write(
        data.join("Observation.000.ndjson.zst"),
        zstd::encode_all(observations.as_bytes(), 1).unwrap(),
    )
    .unwrap();
    fs::write(data.join("Patient.000.ndjson"), patients(0..3)).unwrap();
    fs::write(
        data.join("Organization.000.ndjson"),
        "{\"resourceType\":\"Organization\",\"id\":\"b\",\"partOf\":{\"reference\":\"Organization/a\"}}\n{\"resourceType\":\"Organization\",\"id\":\"a\"}\n",
    )
    .unwrap();
    fs::write(data.join("receipt.json"), "{}").unwrap();
    fs::write(
        data.join("deleted/Bundle.ndjson"),
        json!({"resourceType": "Bundle", "type": "transaction", "entry": [{"request": {"method": "DELETE", "url": "Patient/p2"}}]}).to_string(),
    )
    .unwrap();
    let args = ["bulk-import", "s", "data", "--yes"];
    let (output, exit) = desk.json(&args);
    assert_schema("bulk-import", &output);
    assert_eq!(exit, 0, "{output}");
    assert_eq!(output["totals"]["accepted"], 255);
    assert_eq!(of_type(&output, "Observation")["after"], 250);
    assert_eq!(of_type(&output, "Patient")["created"], 3);
    {
        let store = server.store.lock().unwrap();
        assert_eq!(
            store.writes[..5],
            ["Organization/a", "Organization/b", "Patient/p0", "Patient/p1", "Patient/p2"]
        );
        assert!(store.bundles.iter().all(|(kind, count)| kind == "batch" && *count <= 100));
        assert!(store.preferences.iter().all(|it| it == "return=minimal"));
    }
    let writes = server.store.lock().unwrap().writes.len();
    let (output, exit) = desk.json(&args);
    assert_schema("bulk-import", &output);
    assert_eq!(
        (exit, &output["already_done"], &output["totals"]["accepted"]),
        (0, &json!(true), &json!(255))
    );
    assert_eq!(server.store.lock().unwrap().writes.len(), writes);

    let (output, exit) = desk.json(&["bulk-import", "s", "data", "--yes", "--apply-deleted"]);
    assert_eq!((exit, &output["totals"]["deleted"]), (0, &json!(1)), "{output}");
    assert!(!server.store.lock().unwrap().resources.contains_key("Patient/p2"));

    // What was written is in the audit log, without an id.
    let log = String::from_utf8(desk.run(&["audit", "log", "-o", "json"]).stdout).unwrap();
    assert!(log.contains("Observation 250") && !log.contains("o249"), "{log}");
}

#[test]
fn nothing_is_written_without_a_yes_or_to_an_inactive_server() {
    let server = Fhir::plain();
    let desk = server.desk();
    fs::write(desk.dir.path().join("a.ndjson"), patients(0..1)).unwrap();
    let refused = desk.run(&["bulk-import", "s", "a.ndjson"]);
    assert_eq!(refused.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes"));
    let (output, exit) = desk.json(&["bulk-import", "s", "a.ndjson", "--dry-run"]);
    assert_schema("bulk-import", &output);
    assert_eq!((exit, &output["request"]["body"]["type"]), (0, &json!("batch")));
    assert!(desk.run(&["deactivate", "s"]).status.success());
    assert_eq!(desk.run(&["bulk-import", "s", "a.ndjson", "--yes"]).status.code(), Some(64));
    assert_eq!(desk.run(&["bulk-import", "s", "b.ndjson", "--yes"]).status.code(), Some(64));
    assert!(server.store.lock().unwrap().asked.is_empty());
    assert!(!desk.dir.path().join("state/fhirctl/imports").exists());
}

#[test]
fn what_the_server_refuses_is_kept_with_its_reasons_for_its_owner_alone() {
    let server = Fhir::start(Duration::ZERO, |asked, store| {
        (asked.method == "POST")
            .then(|| apply(asked, store, |entry| has_id(entry, "p3").then_some(422)))
    });
    let desk = server.desk();
    let mut text = patients(0..5).into_bytes();
    text.extend_from_slice(b"{\"resourceType\":\"Patient\"}\n{\"resourceType\":\n");
    text.extend(std::iter::repeat_n(b'x', 200_000));
    text.extend_from_slice(b"\n");
    text.extend_from_slice(patients(5..6).as_bytes());
    fs::write(desk.dir.path().join("a.ndjson"), &text).unwrap();
    let (output, exit) = desk.json(&[
        "bulk-import",
        "s",
        "a.ndjson",
        "--yes",
        "--rejects",
        "out",
        "--max-line",
        "100KB",
    ]);
    assert_schema("bulk-import", &output);
    assert_eq!(exit, 65);
    assert_eq!(
        (&output["totals"]["accepted"], &output["totals"]["rejected"]),
        (&json!(5), &json!(4))
    );
    let out = desk.dir.path().join("out");
    let rejected = fs::read_to_string(out.join("rejected.ndjson")).unwrap();
    assert_eq!(
        rejected,
        "{\"resourceType\":\"Patient\",\"id\":\"p3\"}\n{\"resourceType\":\"Patient\"}\n{\"resourceType\":\n"
    );
    let outcomes = fs::read_to_string(out.join("rejected-outcomes.ndjson")).unwrap();
    let outcomes: Vec<Value> =
        outcomes.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let places: Vec<_> =
        outcomes.iter().map(|it| (it["line"].as_u64().unwrap(), &it["status"])).collect();
    assert_eq!(places, [(4, &json!(422)), (6, &Value::Null), (7, &Value::Null), (8, &Value::Null)]);
    assert_eq!(outcomes[0]["issues"], json!(["invalid"]));
    for name in ["rejected.ndjson", "rejected-outcomes.ndjson"] {
        let text = fs::read_to_string(out.join(name)).unwrap();
        assert!(!text.contains("Mr Secret"), "a server's words are not kept");
        assert_eq!(fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn bundles_that_are_too_large_are_halved() {
    let server = Fhir::start(Duration::ZERO, |asked, _| {
        let entries = asked.body["entry"].as_array()?.len();
        (entries > 10).then(|| told(413, Value::Null))
    });
    let desk = server.desk();
    fs::write(desk.dir.path().join("a.ndjson"), patients(0..100)).unwrap();
    let (output, exit) = desk.json(&["bulk-import", "s", "a.ndjson", "--yes"]);
    assert_eq!((exit, &output["totals"]["accepted"]), (0, &json!(100)), "{output}");
    assert_eq!(server.store.lock().unwrap().writes.len(), 100);
}

#[test]
fn a_refused_transaction_is_bisected_to_the_bad_resource() {
    let server = Fhir::start(Duration::ZERO, |asked, store| {
        (asked.method == "POST")
            .then(|| apply(asked, store, |entry| has_id(entry, "p37").then_some(422)))
    });
    let desk = server.desk();
    fs::write(desk.dir.path().join("a.ndjson"), patients(0..64)).unwrap();
    let (output, exit) = desk.json(&["bulk-import", "s", "a.ndjson", "--yes", "--atomic"]);
    assert_eq!((exit, &output["totals"]["rejected"]), (65, &json!(1)), "{output}");
    let store = server.store.lock().unwrap();
    assert_eq!(store.resources.len(), 63);
    assert!(store.bundles.iter().all(|(kind, _)| kind == "transaction"));
    assert!(store.bundles.len() <= 13, "{:?}", store.bundles);
}

#[test]
fn a_busy_server_is_asked_again_and_loses_nothing() {
    let server = Fhir::start(Duration::from_millis(5), |asked, store| {
        let is_busy = asked.method == "POST" && store.bundles.len() % 3 == 1;
        is_busy.then(|| match store.bundles.len() % 2 {
            0 => told(429, Value::Null).header("retry-after", "0"),
            _ => told(503, Value::Null),
        })
    });
    let desk = server.desk();
    fs::write(desk.dir.path().join("a.ndjson"), patients(0..200)).unwrap();
    let (output, exit) =
        desk.json(&["bulk-import", "s", "a.ndjson", "--yes", "--max-entries", "10"]);
    assert_eq!((exit, &output["totals"]["accepted"]), (0, &json!(200)), "{output}");
    let store = server.store.lock().unwrap();
    assert_eq!(store.writes.len(), 200, "what was refused as busy was not applied");
}

#[test]
fn a_killed_import_goes_on_without_loss() {
    let server = Fhir::start(Duration::from_millis(10), |_, _| None);
    let desk = server.desk();
    fs::write(desk.dir.path().join("a.ndjson"), patients(0..600)).unwrap();
    let args = ["bulk-import", "s", "a.ndjson", "--yes", "--max-entries", "5", "-o", "json"];
    for enough in [1, 150, 400] {
        let mut child =
            desk.fhirctl().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while server.store.lock().unwrap().writes.len() < enough
            && child.try_wait().unwrap().is_none()
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        // A second one keeps away.
        if enough == 150 {
            assert_eq!(desk.run(&args).status.code(), Some(75));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (output, exit) = desk.json(&args[..6]);
    assert_eq!((exit, &output["totals"]["accepted"]), (0, &json!(600)), "{output}");
    let store = server.store.lock().unwrap();
    assert_eq!(store.resources.len(), 600);
    // Only what was under way came twice.
    assert!(store.writes.len() <= 600 + 3 * 8 * 5, "{}", store.writes.len());
}

#[test]
fn a_transaction_that_may_have_arrived_is_not_sent_again_unasked() {
    let server = Fhir::start(Duration::ZERO, |asked, store| {
        if asked.body["type"] == "transaction" && store.bundles.len() == 1 {
            apply(asked, store, |_| None);
            return Some(told(0, Value::Null));
        }
        None
    });
    let desk = server.desk();
    fs::write(desk.dir.path().join("a.ndjson"), patients(0..3)).unwrap();
    let args = ["bulk-import", "s", "a.ndjson", "--yes", "--assign-ids"];
    for _ in 0..2 {
        let stopped = desk.run(&args);
        assert_eq!(stopped.status.code(), Some(75));
        assert!(String::from_utf8_lossy(&stopped.stderr).contains("bulk.import_uncertain"));
    }
    assert_eq!(server.store.lock().unwrap().bundles.len(), 1);
    let (output, exit) =
        desk.json(&["bulk-import", "s", "a.ndjson", "--yes", "--assign-ids", "--resend"]);
    assert_eq!((exit, &output["totals"]["accepted"]), (0, &json!(3)), "{output}");
    let store = server.store.lock().unwrap();
    let entry = &store.asked.iter().rfind(|it| it.0 == "POST").unwrap().2["entry"][0];
    assert_eq!(entry["request"], json!({"method": "POST", "url": "Patient"}));
    assert!(entry["resource"].get("id").is_none());
}

#[test]
fn a_credential_that_is_refused_ends_it_and_the_same_command_goes_on() {
    let server = Fhir::start(Duration::ZERO, |asked, store| {
        (asked.method == "POST" && store.bundles.len() == 3).then(|| told(403, outcome()))
    });
    let desk = server.desk();
    fs::write(desk.dir.path().join("a.ndjson"), patients(0..50)).unwrap();
    let args = ["bulk-import", "s", "a.ndjson", "--yes", "--max-entries", "10", "--in-flight", "1"];
    assert_eq!(desk.run(&args).status.code(), Some(77));
    assert_eq!(server.store.lock().unwrap().writes.len(), 20);
    let (output, exit) = desk.json(&args);
    assert_eq!((exit, &output["totals"]["accepted"]), (0, &json!(50)));
    assert_eq!(server.store.lock().unwrap().writes.len(), 50);
}

#[test]
fn standard_input_is_imported_and_not_kept() {
    let server = Fhir::plain();
    let desk = server.desk();
    let mut child = desk
        .fhirctl()
        .args(["bulk-import", "s", "-", "--yes", "-o", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(patients(0..7).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(server.store.lock().unwrap().resources.len(), 7);
    let left = fs::read_dir(desk.dir.path().join("state/fhirctl/imports")).unwrap();
    assert!(left.flatten().all(|it| it.path().is_dir()));
}

/// A server that imports by itself; `done` is the body of its finished job.
fn importer(done: fn(&str) -> Value) -> Fhir {
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
    let cases: [(&str, fn(&str) -> Value, Value); 3] = [
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
        assert_eq!((exit, &output["already_done"]), (0, &json!(true)));
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
