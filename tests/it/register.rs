//! `add`: whole directories, and one server from its preset to its token endpoint.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::Desk;

const EMPTY: &str = "# Ours.\nversion: 1\nservers:\n  - name: north   # first\n    url: https://NORTH.example.org:443/r4/\n";

/// Answers on loopback until the tests end, by path; keeps what it was asked.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` gets the path and this server's own URL; gives status, headers and body.
    fn start(
        answer: impl Fn(&str, &str) -> (u16, String, String) + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (own, log, answer) = (url.clone(), asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (own, log, answer) = (own.clone(), log.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &own, &log, &*answer));
            }
        });
        Server { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    own: &str,
    log: &Mutex<Vec<String>>,
    answer: &dyn Fn(&str, &str) -> (u16, String, String),
) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    log.lock().unwrap().push(head);
    let (status, headers, body) = answer(&path, own);
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}

fn found(body: impl Into<String>) -> (u16, String, String) {
    (200, "Content-Type: application/fhir+json\r\n".to_owned(), body.into())
}

fn nothing() -> (u16, String, String) {
    (404, String::new(), String::new())
}

/// A CapabilityStatement of this software.
fn statement(software: &str) -> String {
    json!({
        "resourceType": "CapabilityStatement", "status": "active", "date": "2026-01-01",
        "kind": "instance", "fhirVersion": "4.0.1", "format": ["json"],
        "software": {"name": software, "version": "1"},
        "implementation": {"description": "test"},
        "rest": [{"mode": "server", "resource": [{"type": "Patient", "interaction": [{"code": "read"}]}]}],
    })
    .to_string()
}

fn endpoint(id: &str, address: &str, organization: &str, status: &str) -> Value {
    json!({"resource": {
        "resourceType": "Endpoint", "id": id, "status": status, "address": address,
        "connectionType": {"code": "hl7-fhir-rest"},
        "managingOrganization": {"display": organization},
    }})
}

fn bundle(entries: &[Value]) -> String {
    json!({"resourceType": "Bundle", "type": "collection", "entry": entries}).to_string()
}

fn sample() -> String {
    bundle(&[
        endpoint("1", "https://north.example.org/r4", "North", "active"),
        endpoint("2", "https://south.example.org/R4/", "South Clinic", "active"),
        endpoint("3", "https://south2.example.org/stu3", "South Clinic", "active"),
        endpoint("4", "http://west.example.org/r4", "West", "active"),
        endpoint("5", "https://10.0.0.7/r4", "East", "active"),
        endpoint("6", "https://intranet/r4", "Check", "active"),
        endpoint("7", "https://off.example.org/dstu2", "Off", "off"),
        endpoint("8", "https://SOUTH.example.org:443/R4", "South again", "active"),
        endpoint("9", "https://u:hunter2@bad.example.org/r4", "Bad", "active"),
        endpoint("10", "ehr.example.org/r4", "Worse", "active"),
    ])
}

fn assert_fits(output: &Value) {
    let name = output["schema"].as_str().unwrap().split('/').nth(1).unwrap();
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("data/schema/{name}.json"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(output).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{name}: {errors:?}");
}

fn run(desk: &Desk, code: i32, args: &[&str]) -> Value {
    let (output, exit) = desk.json(args);
    assert_eq!(exit, code, "{args:?}: {output}");
    assert_fits(&output);
    output
}

/// What standard error says; nothing may be written.
fn refused(desk: &Desk, code: i32, args: &[&str]) -> String {
    let before = std::fs::read(desk.inventory()).unwrap();
    let output = desk.run(args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    assert_eq!(std::fs::read(desk.inventory()).unwrap(), before, "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn text(desk: &Desk) -> String {
    std::fs::read_to_string(desk.inventory()).unwrap()
}

fn column<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|row| row[key].as_str().unwrap()).collect()
}

fn steps(output: &Value) -> Vec<(&str, &str)> {
    let steps = output["steps"].as_array().unwrap().iter();
    steps.map(|s| (s["step"].as_str().unwrap(), s["status"].as_str().unwrap())).collect()
}

#[test]
fn a_bundle_is_registered_once_inactive_and_marked() {
    let desk = Desk::new(EMPTY);
    std::fs::write(desk.dir.path().join("endpoints.json"), sample()).unwrap();
    let add = ["add", "--from", "endpoints.json", "--vendor", "epic", "--label", "env=prod"];

    let dry = run(&desk, 0, &[&add[..], &["--dry-run"]].concat());
    assert_eq!(text(&desk), EMPTY);
    let output = run(&desk, 0, &add);
    assert_eq!(dry["added"], output["added"]);
    let names = ["south-clinic", "south-clinic-2", "west", "east", "check-fhir", "off-fhir"];
    assert_eq!(column(&output["added"], "name"), names);
    assert_eq!(output["totals"], json!({"added": 6, "unroutable": 4, "skipped": 2, "invalid": 2}));
    assert_eq!(output["skipped"][0]["reason"], "registered as north");
    assert_eq!(output["added"][0]["fhir_version"], "R4");
    assert_eq!(output["added"][0]["url"], "https://south.example.org/R4");
    assert_eq!(output["added"][2]["labels"]["unroutable"], "true");
    assert!(!output.to_string().contains("hunter2"));

    assert!(text(&desk).starts_with(EMPTY), "{}", text(&desk));
    let (list, _) = desk.json(&["list"]);
    let servers = list["servers"].as_array().unwrap();
    assert_eq!(servers.len(), 7);
    assert!(servers[1..].iter().all(|s| s["state"] == "inactive" && s["vendor"] == "epic"));

    let after = text(&desk);
    let again = run(&desk, 0, &add);
    assert_eq!(again["totals"]["added"], 0);
    assert_eq!(text(&desk), after);
    let table = String::from_utf8(desk.run(&add).stdout).unwrap();
    assert!(table.contains("Nothing was added") && !table.contains("hunter2"), "{table}");
}

#[test]
fn a_table_gives_names_versions_and_labels() {
    let desk = Desk::new(EMPTY);
    let csv = "\u{feff}Name;URL;Vendor;Organisation;FHIR_Version;Labels\r\n\
        Mine;https://a.example.org/fhir;epic;A;R4;region=us tier=1\r\n\
        north;https://b.example.org/fhir;Some Vendor;B;;\r\n\
        short;https://c.example.org\r\n";
    std::fs::write(desk.dir.path().join("servers.csv"), csv).unwrap();
    let output = run(&desk, 0, &["add", "--from", "servers.csv"]);
    assert_eq!(output["form"], "CSV");
    assert_eq!(column(&output["added"], "name"), ["Mine", "north-2"]);
    assert_eq!(output["added"][0]["labels"], json!({"region": "us", "tier": "1"}));
    assert_eq!(output["added"][1]["labels"]["vendor"], "Some Vendor");
    assert_eq!(output["invalid"][0]["place"], "line 4");
    let (shown, _) = desk.json(&["show", "Mine"]);
    assert_eq!(shown["vendor"], "epic", "{shown}");
}

#[test]
fn a_directory_is_fetched_with_redirects_and_without_a_credential() {
    let server = Server::start(|path, own| match path {
        "/moved?key=hunter2" => (301, format!("Location: {own}/endpoints\r\n"), String::new()),
        "/endpoints" => found(sample()),
        "/list.csv" => found("url,name\nhttps://csv.example.org/r4,from-csv\n"),
        "/away" => (302, "Location: http://192.0.2.1/x\r\n".to_owned(), String::new()),
        "/round" => (302, format!("Location: {own}/round\r\n"), String::new()),
        _ => nothing(),
    });
    let desk = Desk::new(EMPTY);
    let url = format!("{}/moved?key=hunter2", server.url);
    let output = run(&desk, 0, &["add", "--from", &url]);
    assert_eq!(output["totals"]["added"], 6);
    assert_eq!(output["source"], format!("{}/moved", server.url));
    let csv = format!("{}/list.csv", server.url);
    assert_eq!(run(&desk, 0, &["add", "--from", &csv])["added"][0]["name"], "from-csv");
    for request in server.asked() {
        assert!(!request.to_ascii_lowercase().contains("authorization"), "{request}");
    }
    for (path, code) in [("/none", 69), ("/away", 69), ("/round", 69)] {
        let said = refused(&desk, code, &["add", "--from", &format!("{}{path}", server.url)]);
        assert!(said.contains("cannot fetch"), "{said}");
    }
    refused(&desk, 64, &["add", "--from", "http://directory.example.org/x"]);
    let said = refused(&desk, 64, &["add", "--from", "https://u:hunter2@directory.example.org"]);
    assert!(!said.contains("hunter2"), "{said}");
    refused(&desk, 69, &["add", "--from", "http://127.0.0.1:9/x"]);
}

#[test]
fn what_is_no_directory_is_told_and_nothing_written() {
    let desk = Desk::new(EMPTY);
    let file = desk.dir.path().join("x");
    for (content, expected) in [
        ("", "it is empty"),
        ("<html><body>Sign in</body></html>", "HTML"),
        ("{\"resourceType\":\"Bundle\",\"entry\":[\n{\"resource\":", "line 2"),
        ("{\"resourceType\":\"Patient\"}", "Patient"),
        ("{\"resourceType\":\"Bundle\"}", "no endpoint"),
        ("[]", "no endpoint"),
        ("name,organization\na,b\n", "column named url"),
        ("just words", "column named url"),
    ] {
        std::fs::write(&file, content).unwrap();
        let said = refused(&desk, 65, &["add", "--from", "x"]);
        assert!(said.contains(expected), "{content}: {said}");
    }
    std::fs::write(&file, "url\nnope\n").unwrap();
    assert_eq!(run(&desk, 65, &["add", "--from", "x"])["totals"]["invalid"], 1);
    refused(&desk, 66, &["add", "--from", "missing.json"]);
    refused(&desk, 64, &["add", "--from", "x", "--vendor", "epik"]);
    refused(&desk, 64, &["add", "name", "--from", "x"]);
    let large = std::fs::File::create(&file).unwrap();
    large.set_len(65 * 1024 * 1024).unwrap();
    assert!(refused(&desk, 65, &["add", "--from", "x"]).contains("64 MiB"));
}

#[test]
fn two_thousand_endpoints_go_in_at_once_and_once() {
    let desk = Desk::new(EMPTY);
    let entries: Vec<Value> = (0..2000)
        .map(|n| {
            let url = format!("https://ehr{n}.example.org/api/FHIR/R4");
            endpoint(&n.to_string(), &url, &format!("Clinic {}", n % 50), "active")
        })
        .collect();
    std::fs::write(desk.dir.path().join("all.json"), bundle(&entries)).unwrap();
    let output = run(&desk, 0, &["add", "--from", "all.json"]);
    assert_eq!(output["totals"]["added"], 2000);
    let mut names = column(&output["added"], "name");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 2000);
    assert!(text(&desk).starts_with(EMPTY));
    let again = run(&desk, 0, &["add", "--from", "all.json"]);
    assert_eq!(again["totals"]["skipped"], 2000);
}

#[test]
fn a_first_inventory_is_made_for_a_directory() {
    let desk = Desk::new(EMPTY);
    std::fs::remove_file(desk.inventory()).unwrap();
    std::fs::write(desk.dir.path().join("x.json"), sample()).unwrap();
    run(&desk, 0, &["add", "--from", "x.json", "--dry-run"]);
    assert!(!desk.inventory().exists());
    run(&desk, 0, &["add", "--from", "x.json"]);
    assert!(text(&desk).starts_with("# The FHIR servers"));
    assert_eq!(desk.json(&["list"]).0["servers"].as_array().unwrap().len(), 7);
}

#[test]
fn a_vendor_is_told_by_what_the_server_shows() {
    let server = Server::start(|path, _| match path {
        "/fhir/metadata" => found(statement("Helios FHIR Server")),
        "/fhir/health" | "/health" | "/_liveness" => found("{}"),
        _ => nothing(),
    });
    let desk = Desk::new(EMPTY);
    let output = run(
        &desk,
        0,
        &["add", "mine", &format!("{}/fhir", server.url), "--set", "checks.health=null"],
    );
    let vendor = output["steps"].as_array().unwrap().iter().find(|step| step["step"] == "vendor");
    let vendor = vendor.unwrap_or_else(|| panic!("{output}"));
    assert!(vendor["message"].as_str().unwrap().contains("Helios"), "{vendor}");
    if vendor["status"] == "done" {
        assert_eq!(output["server"]["vendor"], "helios");
        assert_eq!(output["detected"]["software"], "Helios FHIR Server");
        assert!(text(&desk).contains("vendor: helios"));
    } else {
        // The preset's own checks decide whether it fits.
        assert!(!text(&desk).contains("vendor: helios"));
    }
    assert_eq!(output["server"]["state"], "active");

    let plain = Server::start(|path, _| match path {
        "/metadata" => found(statement("Something Else")),
        _ => nothing(),
    });
    let output = run(&desk, 0, &["add", "other", &plain.url]);
    assert_eq!(output["detected"], Value::Null);
    assert_eq!(output["server"]["vendor"], Value::Null);
}

#[test]
fn a_token_endpoint_is_discovered_shown_and_stored() {
    let server = Server::start(|path, _| match path {
        "/fhir/.well-known/smart-configuration" => {
            found(r#"{"token_endpoint": "../oauth/token", "issuer": "x"}"#)
        }
        "/fhir/metadata" => found(statement("x")),
        "/oauth/token" => (401, String::new(), r#"{"error":"invalid_client"}"#.to_owned()),
        _ => nothing(),
    });
    let desk = Desk::new(EMPTY);
    std::fs::write(desk.dir.path().join("secret"), "hunter2hunter2").unwrap();
    std::fs::set_permissions(
        desk.dir.path().join("secret"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let url = format!("{}/fhir", server.url);
    let sign_in = ["--auth", "oauth2", "--set", "auth.client_id=me", "--secret", "file:secret"];
    let output = run(&desk, 2, &[&["add", "mine", &url], &sign_in[..]].concat());
    let token_url = format!("{}/oauth/token", server.url);
    assert_eq!(output["discovered"], json!({"token_url": token_url, "source": "server"}));
    assert_eq!(
        steps(&output),
        [
            ("register", "done"),
            ("validate", "done"),
            ("discover", "done"),
            ("test", "failed"),
            ("activate", "skipped")
        ]
    );
    assert!(text(&desk).contains(&token_url), "{}", text(&desk));
    assert_eq!(output["server"]["state"], "inactive");

    let forced = run(&desk, 2, &[&["add", "forced", &url, "--force"], &sign_in[..]].concat());
    assert_eq!(forced["server"]["state"], "active");
    let asked = server.asked().len();
    let untested = run(&desk, 0, &[&["add", "untested", &url, "--no-test"], &sign_in[..]].concat());
    assert_eq!(server.asked().len(), asked, "--no-test asks nobody");
    assert_eq!(untested["discovered"], Value::Null);
    for text in [output.to_string(), forced.to_string(), untested.to_string(), text(&desk)] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_token_endpoint_in_the_clear_is_not_stored() {
    let server = Server::start(|path, _| match path {
        "/.well-known/smart-configuration" => {
            found(r#"{"token_endpoint": "http://tokens.example.org/token"}"#)
        }
        "/metadata" => found(statement("x")),
        _ => nothing(),
    });
    let desk = Desk::new(EMPTY);
    let output = run(
        &desk,
        3,
        &[
            "add",
            "m",
            &server.url,
            "--auth",
            "oauth2",
            "--set",
            "auth.client_id=me",
            "--secret",
            "env:NONE",
        ],
    );
    assert_eq!(output["discovered"], Value::Null);
    assert!(steps(&output).contains(&("discover", "failed")), "{output}");
    assert!(!text(&desk).contains("tokens.example.org"));
}

#[test]
fn a_preset_asks_only_for_what_it_cannot_know() {
    let desk = Desk::new(EMPTY);
    let said = refused(&desk, 64, &["add", "ehr", "--vendor", "epic", "--no-test"]);
    for word in ["host", "prefix", "client_id", "key", "--set host=", "auth jwks ehr"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let said = refused(&desk, 64, &["add", "ehr", "--vendor", "athenahealth", "--no-test"]);
    assert!(said.contains("client_id") && said.contains("client secret"), "{said}");
    refused(&desk, 64, &["add", "ehr", "--no-test"]);
    refused(&desk, 64, &["add", "ehr", "--vendor", "epic", "--set", "host=a b"]);
    refused(&desk, 64, &["add", "ehr", "--vendor", "epic", "--set", "host=u:hunter2@x"]);

    let output = run(
        &desk,
        0,
        &[
            "add",
            "ehr",
            "--vendor",
            "epic",
            "--no-test",
            "--set",
            "host=ehr.example.org",
            "--set",
            "prefix=Proxy",
            "--set",
            "auth.client_id=6a1c",
            "--secret",
            "keyring:ehr/key",
        ],
    );
    assert_eq!(output["server"]["url"], "https://ehr.example.org/Proxy/api/FHIR/R4");
    assert_eq!(
        output["discovered"],
        json!({"token_url": "https://ehr.example.org/Proxy/oauth2/token", "source": "preset"})
    );
    assert!(text(&desk).contains("method: smart-backend"), "{}", text(&desk));

    // A public server has one address, and lets everybody read.
    let output = run(&desk, 0, &["add", "public", "--vendor", "hapi-public", "--no-test"]);
    assert_eq!(output["server"]["url"], "https://hapi.fhir.org/baseR4");
    // An address of its own says nothing of a sign-in.
    run(
        &desk,
        0,
        &["add", "plain", "https://x.example.org/api/FHIR/R4", "--vendor", "epic", "--no-test"],
    );
}

#[test]
fn every_method_is_set_up_or_says_what_it_lacks() {
    let desk = Desk::new(EMPTY);
    let url = "https://x.example.org/fhir";
    for (name, words, expected) in [
        (
            "a1",
            "--auth azure --set auth.tenant=t --set auth.client_id=c --secret env:S",
            "method: azure",
        ),
        ("a2", "--auth azure --set auth.managed_identity=true", "managed_identity: true"),
        ("g1", "--auth google", "method: google"),
        ("g2", "--auth google --secret file:key.json", "credentials: \"file:key.json\""),
        ("w1", "--auth aws-sigv4 --set auth.region=us-east-1", "region: us-east-1"),
        (
            "w2",
            "--auth aws-sigv4 --set auth.region=us-east-1 --set auth.access_key=AKID --secret env:S",
            "secret_key: \"env:S\"",
        ),
        (
            "m1",
            "--auth mtls --set tls.client_certificate.certificate=c.pem --secret file:c.key",
            "key: \"file:c.key\"",
        ),
        (
            "s1",
            "--auth smart-backend --set auth.client_id=c --secret file:k.pem",
            "key: \"file:k.pem\"",
        ),
        (
            "o1",
            "--auth oauth2 --set auth.client_id=c --set auth.flow=authorization-code",
            "authorization-code",
        ),
    ] {
        let args: Vec<&str> =
            ["add", name, url, "--no-test"].into_iter().chain(words.split(' ')).collect();
        run(&desk, 0, &args);
        assert!(text(&desk).contains(expected), "{words}\n{}", text(&desk));
    }
    for (words, lacks) in [
        ("--auth azure --secret env:S", &["tenant", "client_id"][..]),
        ("--auth aws-sigv4", &["region"]),
        ("--auth mtls --secret env:S", &["client_certificate.certificate"]),
        ("--auth smart-backend", &["client_id", "auth jwks z --generate ES384"]),
        ("--auth oauth2 --secret env:S", &["client_id"]),
        ("--auth oauth2 --set auth.client_secret=hunter2 --set auth.client_id=c", &["clear"]),
    ] {
        let args: Vec<&str> =
            ["add", "z", url, "--no-test"].into_iter().chain(words.split(' ')).collect();
        let said = refused(&desk, 64, &args);
        for word in lacks {
            assert!(said.contains(word), "{words}: {said}");
        }
        assert!(!said.contains("hunter2"), "{said}");
    }
}
