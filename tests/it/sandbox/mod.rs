//! `sandbox` as its users meet it: what it announces, what is on the wire, how it ends.

mod bulk;
mod personas;
mod wire;

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};

use wire::{Wire, connect, exchange, get, send};

/// How long a test waits before it calls something silent.
const SILENCE: Duration = Duration::from_millis(300);

struct Sandbox {
    child: Child,
    line: Value,
}

impl Sandbox {
    fn start(arguments: &[&str]) -> Sandbox {
        let mut child = command(arguments)
            .args(["-o", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let line = serde_json::from_str(&line).expect("one line of JSON");
        Sandbox { child, line }
    }

    fn scenario(yaml: &str) -> Sandbox {
        let file = scenario_file(yaml);
        Sandbox::start(&["--scenario", file.path().to_str().unwrap()])
    }

    fn url(&self) -> &str {
        self.line["url"].as_str().unwrap()
    }

    fn server(&self, name: &str) -> &Value {
        let servers = self.line["servers"].as_array().unwrap();
        servers.iter().find(|server| server["name"] == name).unwrap()
    }

    fn url_of(&self, name: &str) -> &str {
        self.server(name)["url"].as_str().unwrap()
    }

    fn stop(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), self.child.id().try_into()) {
            // A clean stop, so that nothing is left in the folder for temporary files.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fhirctl"));
    command.arg("sandbox").args(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FHIRCTL_")) {
        command.env_remove(name);
    }
    command
}

fn fails(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command(arguments).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn scenario_file(yaml: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    file
}

#[test]
fn one_line_announces_what_is_served_and_a_signal_ends_it_cleanly() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let sandbox = Sandbox::start(&["--tls", "--auth", "basic"]);
        let line = &sandbox.line;
        assert_eq!(line["schema"], "fhirctl/sandbox/v1");
        assert_eq!(line["pid"], sandbox.child.id());
        assert_eq!(line["url"], line["servers"][0]["url"]);
        assert!(sandbox.url().starts_with("https://127.0.0.1:"));
        assert_eq!(line["servers"][0]["name"], "local");
        let auth = &line["servers"][0]["auth"];
        assert_eq!((&auth["method"], &auth["username"]), (&json!("basic"), &json!("probe")));
        let secret = Path::new(auth["secret_file"].as_str().unwrap()).to_owned();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&secret), mode(secret.parent().unwrap())), (0o600, 0o700));
        let ca = std::fs::read_to_string(line["ca"].as_str().unwrap()).unwrap();
        assert!(ca.starts_with("-----BEGIN CERTIFICATE-----"));
        assert_eq!(sandbox.stop(signal), Some(0));
        assert!(!secret.parent().unwrap().exists());
    }
}

#[test]
fn without_tls_and_sign_in_there_is_neither_ca_nor_secret() {
    let sandbox = Sandbox::start(&[]);
    assert_eq!(sandbox.line["ca"], Value::Null);
    assert_eq!(sandbox.line["servers"][0]["auth"], json!({"method": "none"}));
}

#[test]
fn for_people_it_says_what_to_paste() {
    let mut child = command(&["--auth", "basic"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    // The inventory's last line comes last.
    let mut text = String::new();
    while !text.contains("canary-1") {
        text.push_str(&lines.next().unwrap());
        text.push('\n');
    }
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for part in
        ["http://127.0.0.1:", "user probe", "| curl -K - ", "auth: {method: basic, username: probe"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn metadata_is_right_in_every_version_and_format() {
    for (version, number) in [("STU3", "3.0.2"), ("R4", "4.0.1"), ("R4B", "4.3.0"), ("r5", "5.0.0")]
    {
        let sandbox = Sandbox::start(&["--fhir-version", version]);
        let url = format!("{}/metadata", sandbox.url());
        let answer = get(&url, &[("X-Request-Id", "id-1")]);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "application/fhir+json; charset=utf-8");
        assert_eq!(answer.header("x-request-id"), "id-1");
        assert!(answer.header("date").ends_with("GMT"));
        let statement = answer.json();
        assert_eq!(statement["resourceType"], "CapabilityStatement");
        assert_eq!(statement["fhirVersion"], number);
        assert_eq!(statement["implementation"]["url"], sandbox.url());

        let again = get(&url, &[("If-None-Match", answer.header("etag"))]);
        assert_eq!((again.status, again.body.len()), (304, 0));

        let xml = get(&url, &[("Accept", "application/fhir+xml")]);
        assert_eq!(xml.header("content-type"), "application/fhir+xml; charset=utf-8");
        assert!(xml.text().contains("<CapabilityStatement xmlns=\"http://hl7.org/fhir\">"));
        assert_ne!(xml.header("etag"), answer.header("etag"));

        let packed = get(&url, &[("Accept-Encoding", "gzip")]);
        assert_eq!(packed.header("content-encoding"), "gzip");
        let mut opened = Vec::new();
        flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_end(&mut opened).unwrap();
        assert_eq!(opened, answer.body);

        let versions = get(&format!("{}/$versions", sandbox.url()), &[]);
        assert_eq!(versions.status, if version == "STU3" { 405 } else { 200 });
    }
}

#[test]
fn a_host_name_that_was_used_stands_in_links_and_metadata() {
    let sandbox = Sandbox::start(&[]);
    let (mut stream, host, path) = connect(sandbox.url());
    let host = host.replace("127.0.0.1", "localhost");
    let head = format!("GET {path}/metadata HTTP/1.1\r\nHost: {host}\r\n");
    let answer = exchange(&mut stream, &head, &[], "", 1 << 20);
    assert_eq!(answer.json()["implementation"]["url"], format!("http://{host}/fhir"));
}

#[test]
fn records_are_created_read_updated_and_deleted() {
    let sandbox = Sandbox::start(&["--patients", "2"]);
    let base = sandbox.url();
    let patient = |id: &str, active: bool| {
        json!({"resourceType": "Patient", "id": id, "active": active}).to_string()
    };
    let made = send("POST", &format!("{base}/Patient"), &[], &patient("mine", true));
    assert_eq!(made.status, 201);
    let place = format!("{base}/Patient/created-1");
    assert_eq!(made.header("location"), format!("{place}/_history/1"));
    assert_eq!(made.json()["id"], "created-1");

    let read = get(&place, &[]);
    assert_eq!((read.status, read.header("etag")), (200, "W/\"1\""));
    assert_eq!(get(&place, &[("If-None-Match", "W/\"1\"")]).status, 304);

    let changed = patient("created-1", false);
    assert_eq!(send("PUT", &place, &[("If-Match", "W/\"7\"")], &changed).status, 412);
    let updated = send("PUT", &place, &[("If-Match", "W/\"1\"")], &changed);
    assert_eq!((updated.status, updated.header("etag")), (200, "W/\"2\""));
    assert_eq!(get(&format!("{place}/_history/1"), &[]).json()["active"], true);
    assert_eq!(send("PUT", &place, &[], &patient("other", true)).status, 400);
    let new = send("PUT", &format!("{base}/Patient/new"), &[], &patient("new", true));
    assert_eq!(new.status, 201);

    assert_eq!(send("DELETE", &place, &[], "").status, 204);
    let gone = get(&place, &[]);
    assert_eq!((gone.status, &gone.json()["issue"][0]["code"]), (410, &json!("deleted")));
    let history = get(&format!("{place}/_history"), &[]).json();
    assert_eq!((&history["type"], &history["total"]), (&json!("history"), &json!(3)));
}

#[test]
fn what_cannot_be_done_is_told_in_an_outcome() {
    let sandbox = Sandbox::start(&[]);
    let base = sandbox.url().to_owned();
    let root = base.trim_end_matches("/fhir").to_owned();
    let json_type = ("Content-Type", "application/fhir+json");
    let large = "x".repeat(1024 * 1024 + 1);
    let accept = [("Accept", "text/turtle")];
    for (method, url, headers, body, status) in [
        ("GET", format!("{base}/Patient/nobody"), &[][..], "", 404),
        ("GET", format!("{base}/Basic"), &[], "", 404),
        ("GET", format!("{base}/.well-known/smart-configuration"), &[], "", 404),
        ("GET", format!("{root}/elsewhere"), &[], "", 404),
        ("PATCH", format!("{base}/Patient/canary-1"), &[], "", 405),
        ("POST", format!("{base}/Patient"), &[json_type], "{", 400),
        ("POST", format!("{base}/Patient"), &[json_type], "{\"resourceType\":\"Group\"}", 400),
        ("POST", format!("{base}/Patient"), &[("Content-Type", "text/csv")], "a,b", 415),
        ("POST", format!("{base}/Patient"), &[json_type], &large, 413),
        ("GET", format!("{base}/Patient?birthdate=soon"), &[], "", 400),
        ("GET", format!("{base}/Patient?colour=red"), &[("Prefer", "handling=strict")], "", 400),
        ("GET", format!("{base}/Patient"), &accept, "", 406),
    ] {
        let answer = send(method, &url, headers, body);
        assert_eq!(answer.status, status, "{method} {url}");
        assert_eq!(answer.json()["resourceType"], "OperationOutcome", "{method} {url}");
    }
}

#[test]
fn a_search_is_paged_counted_and_tells_what_it_used() {
    let sandbox = Sandbox::start(&["--patients", "7", "--seed", "5"]);
    let base = sandbox.url();
    let mut ids = Vec::new();
    let mut next = Some(format!("{base}/Patient?_count=3&colour=red"));
    while let Some(url) = next {
        let bundle = get(&url, &[]).json();
        assert_eq!(bundle["total"], 7);
        for entry in bundle["entry"].as_array().unwrap() {
            ids.push(entry["resource"]["id"].as_str().unwrap().to_owned());
        }
        let links = bundle["link"].as_array().unwrap();
        let link = |relation: &str| links.iter().find(|link| link["relation"] == relation);
        assert!(!link("self").unwrap()["url"].as_str().unwrap().contains("colour"));
        next = link("next").map(|link| link["url"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids[0], "canary-1");
    assert_eq!(ids[6], "patient-7");
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), 7);

    let count = get(&format!("{base}/Patient?_summary=count"), &[]).json();
    assert_eq!((&count["total"], count.get("entry")), (&json!(7), None));
    let found = get(&format!("{base}/Patient?family=test-canary"), &[]).json();
    assert_eq!(found["total"], 1);
    assert_eq!(found["link"][0]["url"], format!("{base}/Patient?family=test-canary"));
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let posted = send("POST", &format!("{base}/Patient/_search"), &form, "family=test-canary");
    assert_eq!(posted.json()["total"], 1);
    let of = get(&format!("{base}/Observation?patient=Patient/canary-1&code=8867-4"), &[]).json();
    assert_eq!(of["total"], 1);
}

#[test]
fn every_sign_in_is_asked_for_and_taken() {
    let sandbox = Sandbox::scenario(
        "servers:\n  - {name: api-key, auth: api-key}\n  - {name: basic, auth: basic}\n  \
         - {name: bearer, auth: bearer}\n  - {name: headers, auth: headers}\n  \
         - {name: closed, auth: bearer, protect_metadata: true}\n",
    );
    for name in ["api-key", "basic", "bearer", "headers", "closed"] {
        let server = sandbox.server(name);
        let base = server["url"].as_str().unwrap();
        let root = base.trim_end_matches("/fhir");
        let secret = std::fs::read_to_string(server["auth"]["secret_file"].as_str().unwrap());
        let secret = secret.unwrap();
        let header = |secret: &str| match server["auth"]["method"].as_str().unwrap() {
            "basic" => {
                let pair =
                    base64::engine::general_purpose::STANDARD.encode(format!("probe:{secret}"));
                ("Authorization".to_owned(), format!("Basic {pair}"))
            }
            "bearer" => ("Authorization".to_owned(), format!("Bearer {secret}")),
            _ => (server["auth"]["header"].as_str().unwrap().to_owned(), secret.to_owned()),
        };
        let patients = format!("{base}/Patient");
        let missing = get(&patients, &[]);
        assert_eq!(missing.status, 401, "{name}");
        assert!(missing.header("www-authenticate").contains("realm="), "{name}");
        assert_eq!(missing.json()["issue"][0]["code"], "login");
        let (key, value) = header("wrong");
        assert_eq!(get(&patients, &[(&key, &value)]).status, 401, "{name}");
        let (key, value) = header(&secret);
        assert_eq!(get(&patients, &[(&key, &value)]).status, 200, "{name}");
        let open = get(&format!("{base}/metadata"), &[]).status;
        assert_eq!(open, if name == "closed" { 401 } else { 200 }, "{name}");
        assert_eq!(get(&format!("{root}/actuator/health"), &[]).json(), json!({"status": "UP"}));
    }
    // A key in the query stays out of the links.
    let server = sandbox.server("api-key");
    let secret = std::fs::read_to_string(server["auth"]["secret_file"].as_str().unwrap()).unwrap();
    let url = format!("{}/Patient?_count=1&api_key={secret}", sandbox.url_of("api-key"));
    let answer = get(&url, &[]);
    assert_eq!(answer.status, 200);
    assert!(!answer.text().contains(&secret));
}

/// A server per fault; each of them strikes every request.
fn faulty(faults: &[&str]) -> Sandbox {
    let mut yaml = "servers:\n".to_owned();
    for (index, fault) in faults.iter().enumerate() {
        yaml.push_str(&format!("  - {{name: s{index}, faults: ['{fault}']}}\n"));
    }
    Sandbox::scenario(&yaml)
}

#[test]
fn a_fault_takes_the_place_of_the_answer() {
    type Proof = fn(&Wire);
    let table: &[(&str, &str, Proof)] = &[
        ("status=503", "metadata", |wire| {
            assert_eq!(
                (wire.status, wire.json()["resourceType"].clone()),
                (503, json!("OperationOutcome"))
            );
        }),
        ("status=401", "metadata", |wire| {
            assert_eq!(wire.status, 401);
            assert!(wire.header("www-authenticate").starts_with("Bearer"));
        }),
        ("drop", "metadata", |wire| assert_eq!((wire.status, wire.broken), (0, None))),
        ("reset", "metadata", |wire| {
            assert_eq!((wire.status, wire.broken), (0, Some(ErrorKind::ConnectionReset)));
        }),
        ("truncate", "metadata", |wire| {
            let promised: usize = wire.header("content-length").parse().unwrap();
            assert_eq!((wire.status, wire.body.len()), (200, promised / 2));
            assert!(serde_json::from_slice::<Value>(&wire.body).is_err());
        }),
        ("garbage", "metadata", |wire| {
            assert_eq!(wire.status, 200);
            assert!(wire.header("content-type").starts_with("application/fhir+json"));
            assert_eq!(wire.header("content-length"), wire.body.len().to_string());
            assert!(serde_json::from_slice::<Value>(&wire.body).is_err());
        }),
        ("slow-drip=1ms", "Patient/canary-1", |wire| assert_eq!(wire.json()["id"], "canary-1")),
        ("content-type=text/plain", "metadata", |wire| {
            assert_eq!(wire.header("content-type"), "text/plain");
            assert_eq!(wire.json()["resourceType"], "CapabilityStatement");
        }),
        ("redirect=http://127.0.0.2:9/x", "metadata", |wire| {
            assert_eq!((wire.status, wire.header("location")), (302, "http://127.0.0.2:9/x"));
        }),
        ("rate-limited=7", "metadata", |wire| {
            assert_eq!((wire.status, wire.header("retry-after")), (429, "7"));
        }),
        ("rate-limited=date", "metadata", |wire| {
            assert_eq!(wire.status, 429);
            assert!(wire.header("retry-after").ends_with(" GMT"));
        }),
        ("health-down", "health", |wire| {
            assert_eq!((wire.status, wire.json()), (200, json!({"status": "DOWN"})));
        }),
        ("outcome-error", "Patient", |wire| {
            assert_eq!(wire.status, 200);
            assert_eq!(wire.json()["issue"][0]["severity"], "error");
        }),
        ("login-page", "metadata", |wire| {
            assert_eq!(
                (wire.status, wire.header("content-type")),
                (200, "text/html; charset=utf-8")
            );
            assert!(wire.text().contains("type=\"password\""));
        }),
        ("ignore-parameters", "Patient?family=nobody", |wire| {
            assert_eq!(wire.json()["total"], 20);
            assert!(!wire.json()["link"][0]["url"].as_str().unwrap().contains("family"));
        }),
        ("paging-loop", "Patient?_count=2", |wire| {
            let links = wire.json()["link"].clone();
            assert_eq!(
                (&links[1]["relation"], &links[1]["url"]),
                (&json!("next"), &links[0]["url"])
            );
        }),
        ("empty-search", "Patient?family=test-canary", |wire| {
            assert_eq!((&wire.json()["total"], wire.json().get("entry")), (&json!(0), None));
            assert!(wire.json()["link"][0]["url"].as_str().unwrap().contains("family"));
        }),
    ];
    let faults: Vec<_> = table.iter().map(|(fault, _, _)| *fault).collect();
    let sandbox = faulty(&faults);
    for (index, (_, path, proof)) in table.iter().enumerate() {
        let wire = get(&format!("{}/{path}", sandbox.url_of(&format!("s{index}"))), &[]);
        proof(&wire);
    }
}

#[test]
fn a_held_back_answer_stays_away_and_a_dripping_one_comes_byte_by_byte() {
    let sandbox = faulty(&["latency=1h", "slow-drip=1h"]);
    for (name, has_head) in [("s0", false), ("s1", true)] {
        let (mut stream, host, path) = connect(sandbox.url_of(name));
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let head = format!("GET {path}/metadata HTTP/1.1\r\nHost: {host}\r\n");
        let wire = exchange(&mut stream, &head, &[], "", 1 << 20);
        assert_eq!(wire.broken, Some(ErrorKind::WouldBlock), "{name}");
        assert_eq!((wire.status == 200, wire.body.len()), (has_head, 0), "{name}");
    }
}

#[test]
fn an_endless_body_goes_on_and_a_bomb_is_small_until_it_is_opened() {
    let sandbox = faulty(&["endless", "bomb"]);
    let read = |name: &str, limit: u64| {
        let (mut stream, host, path) = connect(sandbox.url_of(name));
        let head = format!("GET {path}/Patient HTTP/1.1\r\nHost: {host}\r\n");
        exchange(&mut stream, &head, &[], "", limit)
    };
    let endless = read("s0", 8 << 20);
    assert_eq!((endless.status, endless.header("transfer-encoding")), (200, "chunked"));
    assert_eq!(endless.broken, None);
    assert!(endless.body.len() > 7 << 20);

    let bomb = read("s1", 64 << 20);
    assert_eq!(bomb.header("content-encoding"), "gzip");
    assert_eq!(bomb.header("content-length"), bomb.body.len().to_string());
    assert!(bomb.body.len() < 8 << 20);
    // The last four bytes say how much there is, modulo 2^32: 4 GiB and the Bundle around it.
    let size = u32::from_le_bytes(bomb.body[bomb.body.len() - 4..].try_into().unwrap());
    let around = "{\"resourceType\":\"Bundle\",\"type\":\"searchset\",\"entry\":[]}";
    assert_eq!(size as usize, around.len());
    let mut opened = vec![0; 32 << 20];
    flate2::read::GzDecoder::new(bomb.body.as_slice()).read_exact(&mut opened).unwrap();
    assert!(opened.starts_with(b"{\"resourceType\":\"Bundle\""));
}

#[test]
fn a_share_strikes_evenly_and_a_path_keeps_the_others_well() {
    let sandbox = Sandbox::scenario(
        "servers:\n  - {name: fifth, faults: ['status=503@0.2']}\n  - name: part\n    faults:\n      \
         - {kind: status, value: 500, path: /Patient}\n      \
         - {kind: status, value: 502, path: /metadata, from: 1h}\n",
    );
    let fifth = format!("{}/metadata", sandbox.url_of("fifth"));
    let statuses: Vec<u16> = (0..10).map(|_| get(&fifth, &[]).status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 503, 200, 200, 200, 200, 503]);
    let part = sandbox.url_of("part");
    assert_eq!(get(&format!("{part}/Patient/canary-1"), &[]).status, 500);
    assert_eq!(get(&format!("{part}/metadata"), &[]).status, 200);
}

#[test]
fn an_unreachable_server_refuses_the_connection() {
    let sandbox = Sandbox::scenario("servers: [{name: gone, unreachable: true}]");
    let host = sandbox.url().trim_start_matches("http://").trim_end_matches("/fhir");
    let error = TcpStream::connect(host).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// A TLS handshake and one request; the error of the handshake as text.
fn get_tls(url: &str, ca: &str, protocol: &[u8], host: &str) -> Result<Wire, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let (mut tcp, authority, path) = connect(url);
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut tcp).map_err(|error| error.to_string())?;
    }
    assert_eq!(session.alpn_protocol(), Some(protocol));
    if protocol == b"h2" {
        return Ok(Wire::default());
    }
    let mut stream = rustls::Stream::new(&mut session, &mut tcp);
    let head = format!("GET {path}/metadata HTTP/1.1\r\nHost: {authority}\r\n");
    Ok(exchange(&mut stream, &head, &[], "", 1 << 20))
}

#[test]
fn certificates_are_right_or_wrong_as_asked_for() {
    let sandbox = Sandbox::scenario(
        "servers:\n  - {name: right, tls: true}\n  - {name: expired, faults: [certificate-expired]}\n  \
         - {name: other, faults: [certificate-wrong-host]}\n  \
         - {name: own, faults: [certificate-self-signed]}\n  \
         - {name: half, faults: ['certificate-expired@0.5']}\n",
    );
    let ca = sandbox.line["ca"].as_str().unwrap();
    let ask = |name: &str| get_tls(sandbox.url_of(name), ca, b"http/1.1", "127.0.0.1");
    let right = ask("right").unwrap();
    assert_eq!(right.json()["implementation"]["url"], sandbox.url_of("right"));
    for host in ["localhost", "::1"] {
        assert!(get_tls(sandbox.url_of("right"), ca, b"h2", host).is_ok(), "{host}");
    }
    for (name, part) in
        [("expired", "expired"), ("other", "not valid for name"), ("own", "UnknownIssuer")]
    {
        let error = ask(name).unwrap_err();
        assert!(error.contains(part), "{name}: {error}");
    }
    let half: Vec<bool> = (0..4).map(|_| ask("half").is_ok()).collect();
    assert_eq!(half, [true, false, true, false]);
}

#[test]
fn what_cannot_be_started_says_why() {
    let (code, text) = fails(&["--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(64));
    assert!(text.contains("--expose"), "{text}");
    let (code, text) = fails(&["--fault", "latencie=2s"]);
    assert_eq!(code, Some(64));
    assert!(text.contains("did you mean latency?"), "{text}");
    let (code, _) = fails(&["--scenario", "/nowhere/drill.yaml"]);
    assert_eq!(code, Some(66));
    let file = scenario_file("servers:\n  - name: a\n    colour: red\n");
    let path = file.path().to_str().unwrap();
    let (code, text) = fails(&["--scenario", path]);
    assert_eq!(code, Some(78));
    assert!(text.contains(&format!("{path}:3:")) && text.contains("colour"), "{text}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, text) = fails(&["--listen", &address]);
    assert_eq!(code, Some(74));
    assert!(text.contains(&address) && text.contains("in use"), "{text}");
}

#[test]
fn exposed_it_listens_on_all_addresses_and_names_one_that_works() {
    let sandbox = Sandbox::start(&["--listen", "0.0.0.0:0", "--expose"]);
    assert!(sandbox.url().starts_with("http://127.0.0.1:"));
    assert_eq!(get(&format!("{}/metadata", sandbox.url()), &[]).status, 200);
}

#[test]
fn from_code_a_sandbox_remembers_its_requests_and_stops_when_dropped() {
    use fhirctl::sandbox::{Credential, Fault, Method, Options, Scenario, ServerPlan, start};
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _guard = runtime.enter();
    let plan = ServerPlan {
        auth: Some(Method::Bearer),
        faults: vec![Fault::parse("drop@0.5").unwrap()],
        ..ServerPlan::new("a")
    };
    let folder = tempfile::tempdir().unwrap();
    let options = Options::loopback(folder.path().to_owned());
    let running = start(&Scenario::single(plan), &options).unwrap();
    let server = running.server("a").unwrap().clone();
    let secret = std::fs::read_to_string(server.auth.secret_file.unwrap()).unwrap();
    let bearer = format!("Bearer {secret}");
    get(&format!("{}/Patient?_count=1", server.url), &[("Authorization", &bearer)]);
    get(&format!("{}/metadata", server.url), &[]);
    let seen = running.requests("a");
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("GET", "/fhir/Patient?_count=1"));
    assert_eq!((seen[0].credential, seen[0].status), (Credential::Right, Some(200)));
    assert!(seen[0].headers.contains(&"authorization".to_owned()));
    assert_eq!((seen[1].credential, seen[1].status), (Credential::Missing, None));
    assert!(!format!("{seen:?}").contains(&secret));
    drop(running);
    drop(runtime);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let host = server.url.trim_start_matches("http://").trim_end_matches("/fhir");
    assert!(TcpStream::connect(host).is_err());
}
