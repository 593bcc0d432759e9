//! The commands that change the inventory, through the built binary.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

/// Nothing listens there.
const DEAD: &str = "http://127.0.0.1:9/fhir";

const TWO: &str = "\
# Ours.
version: 1
servers:
  - name: a   # first
    url: http://127.0.0.1:9/fhir
    labels: {env: prod}
  - {name: b, url: \"http://127.0.0.1:9/fhir\", labels: {env: test}}
groups:
  - {name: both, members: [a, b]}
";

struct Desk {
    dir: TempDir,
}

impl Desk {
    fn empty() -> Desk {
        Desk { dir: tempfile::tempdir().unwrap() }
    }

    fn new(text: &str) -> Desk {
        let desk = Desk::empty();
        std::fs::write(desk.file(), text).unwrap();
        desk
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("servers.yaml")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    /// The program with nothing of the developer's own surroundings.
    fn fhirctl(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fhirctl"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.fhirctl().args(["-o", "json"]).args(args).output().unwrap()
    }

    /// Standard output as JSON; the run has to end with this code.
    fn json(&self, code: i32, args: &[&str]) -> Value {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        let output: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_fits(&output);
        output
    }

    /// What standard error says; the file has to stay as it was.
    fn refused(&self, code: i32, args: &[&str]) -> String {
        let before = std::fs::read(self.file()).ok();
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert_eq!(std::fs::read(self.file()).ok(), before, "{args:?} changed the file");
        String::from_utf8(output.stderr).unwrap()
    }

    fn leftovers(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.dir.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("fhirctl-")).collect()
    }
}

/// Serves a CapabilityStatement on loopback until the tests end; gives the base URL.
fn fhir_server() -> String {
    const BODY: &str = r#"{"resourceType":"CapabilityStatement","status":"active","date":"2026-01-01","kind":"instance","fhirVersion":"4.0.1","format":["json"],"implementation":{"description":"test"},"rest":[{"mode":"server","resource":[{"type":"Patient","interaction":[{"code":"read"}]}]}]}"#;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/fhir", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n{BODY}",
                    BODY.len()
                );
            });
        }
    });
    url
}

/// Holds an output against its published schema, which is a file of that name.
fn assert_fits(output: &Value) {
    let name = output["schema"].as_str().unwrap().split('/').nth(1).unwrap();
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("data/schema/{name}.json"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(output)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:?}");
}

fn column(list: &Value, key: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|row| row[key].as_str().unwrap().to_owned()).collect()
}

#[test]
fn init_writes_a_valid_inventory_once() {
    let desk = Desk::empty();
    let output = desk.json(0, &["init"]);
    assert_eq!(output["schema"], "fhirctl/init/v1");
    assert_eq!(output["server"], Value::Null);
    assert!(desk.text().starts_with("# The FHIR servers"));
    desk.json(0, &["list"]);
    desk.refused(73, &["init"]);
    let url = "https://h.example/fhir";
    desk.json(0, &["init", "--force", "--vendor", "hapi", "--url", url, "--name", "ehr"]);
    assert_eq!(desk.json(0, &["list"])["servers"][0]["name"], "ehr");
    desk.json(0, &["init", "other.yaml", "--vendor", "hapi", "--name", "later"]);
    desk.refused(64, &["init", "third.yaml", "--vendor", "hapy"]);
    desk.refused(73, &["init", "missing/servers.yaml"]);
    desk.refused(64, &["init", "third.yaml", "--url", "https://me:hunter2@h.example"]);
    assert_eq!(desk.leftovers(), Vec::<String>::new());
}

#[test]
fn add_registers_tests_and_activates() {
    let (desk, url) = (Desk::empty(), fhir_server());
    let output =
        desk.json(0, &["add", "ehr", &url, "--label", "env=prod", "--set", "timeouts.total=20s"]);
    assert_eq!(output["schema"], "fhirctl/add/v1");
    assert_eq!(column(&output["steps"], "step"), ["register", "validate", "test", "activate"]);
    assert_eq!(output["server"]["state"], "active");
    assert_eq!(output["report"]["status"], "healthy");
    let list = desk.json(0, &["list"]);
    assert_eq!(list["servers"][0]["state"], "active");
    assert_eq!(list["servers"][0]["labels"]["env"], "prod");
    assert!(!desk.text().contains("active:"), "{}", desk.text());
    assert!(desk.refused(64, &["add", "ehr", &url]).contains("already named ehr"));
}

#[test]
fn add_activates_where_the_defaults_say_inactive() {
    let (desk, url) =
        (Desk::new("version: 1\ndefaults: {active: false}\nservers: []\n"), fhir_server());
    desk.json(0, &["add", "ehr", &url]);
    assert_eq!(desk.json(0, &["list"])["servers"][0]["state"], "active");
}

#[test]
fn add_with_a_failed_test_leaves_the_server_inactive() {
    let desk = Desk::new(TWO);
    let output = desk.json(2, &["add", "c", DEAD]);
    assert_eq!(output["server"]["state"], "inactive");
    assert_eq!(output["exit_code"], 2);
    assert!(desk.text().contains("active: false}\n"));
    let output = desk.json(2, &["add", "d", DEAD, "--force"]);
    assert_eq!(output["server"]["state"], "active");
    let output = desk.json(0, &["add", "e", DEAD, "--no-test"]);
    assert_eq!(output["report"], Value::Null);
    let list = desk.json(0, &["list"]);
    assert_eq!(column(&list["servers"], "name"), ["a", "b", "c", "d", "e"]);
    let states = ["active", "active", "inactive", "active", "active"];
    assert_eq!(column(&list["servers"], "state"), states);
}

#[test]
fn no_secret_is_taken_from_the_command_line_or_repeated() {
    let desk = Desk::new(TWO);
    for args in [
        &["add", "c", "https://me:hunter2@h.example/fhir"][..],
        &["add", "c", DEAD, "--auth", "bearer", "--secret", "hunter2"],
        &["add", "c", DEAD, "--auth", "basic", "--username", "u", "--set", "auth.password=hunter2"],
        &["add", "c", DEAD, "--set", "auth={method: bearer, token: hunter2}"],
        &["add", "c", DEAD, "--set", "auth={token: hunter2"],
        &["set", "a", "auth.password=hunter2"],
        &["set", "a", "url=https://me:hunter2@h.example/fhir"],
    ] {
        let said = desk.refused(64, args);
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn add_without_a_way_to_the_secret_does_not_hang_and_registers_nothing() {
    let desk = Desk::new(TWO);
    let add = ["add", "c", DEAD, "--auth", "bearer", "--no-test"];
    assert!(desk.refused(77, &add).contains("--secret-stdin"));

    // There is no keyring here to keep it in.
    let mut child = desk
        .fhirctl()
        .args(add)
        .arg("--secret-stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"hunter2\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!said.contains("hunter2") && said.contains("nothing was registered"), "{said}");
    assert_eq!(desk.text(), TWO);
}

#[test]
fn add_writes_the_reference_that_is_named() {
    let desk = Desk::new(TWO);
    let sign_in = ["--auth", "basic", "--username", "probe", "--secret", "env:PW"];
    desk.json(0, &[&["add", "c", DEAD, "--no-test"], &sign_in[..]].concat());
    let line = "auth: {method: basic, username: probe, password: \"env:PW\"}}\n";
    assert!(desk.text().contains(line), "{}", desk.text());
    desk.refused(78, &["add", "d", DEAD, "--no-test", "--set", "timeuots.total=3s"]);
    desk.refused(78, &["add", "check", DEAD, "--no-test"]);
    let output =
        desk.fhirctl().args(["-o", "nagios", "add", "d", DEAD, "--no-test"]).output().unwrap();
    assert!(!output.status.success());
    assert!(!desk.text().contains("name: d"));
}

#[test]
fn set_keeps_a_change_only_when_the_test_passes() {
    let (desk, url) = (Desk::new(TWO), fhir_server());
    let output = desk.json(2, &["set", "a", "timeouts.total=20s"]);
    assert_eq!(output["kept"], false);
    assert_eq!(desk.text(), TWO);

    let output = desk.json(0, &["set", "a", &format!("url={url}"), "labels.env="]);
    assert_eq!(output["kept"], true);
    assert_eq!(output["report"]["status"], "healthy");
    let entry = format!("  - name: a   # first\n    url: {url}\n    labels: {{}}\n");
    assert!(desk.text().contains(&entry), "{}", desk.text());

    desk.json(0, &["set", "b", "timeouts.total=20s", "--no-test"]);
    desk.json(2, &["set", "b", "timeouts.connect=2s", "--force"]);
    assert!(desk.text().contains("timeouts: {total: 20s, connect: 2s}"));
    assert_eq!(desk.json(0, &["set", "b", "timeouts.connect=2s"])["kept"], false);
    desk.refused(64, &["set", "a", "name=x"]);
    desk.refused(64, &["set", "a"]);
    desk.refused(66, &["set", "aa", "format=json"]);
    assert!(
        desk.refused(78, &["set", "a", "format=yaml", "--no-test"]).contains("nothing was written")
    );
    assert_eq!(desk.leftovers(), Vec::<String>::new());
}

#[test]
fn remove_takes_the_server_out_of_its_groups() {
    let desk = Desk::new(TWO);
    desk.refused(64, &["remove", "a"]);
    desk.refused(66, &["remove", "c", "--yes"]);
    let output = desk.json(0, &["remove", "a", "--dry-run"]);
    assert_eq!(output["removed"], json!(["groups[0].members[0]", "servers[0]"]));
    assert_eq!(desk.text(), TWO);
    desk.json(0, &["remove", "a", "--yes"]);
    assert!(desk.text().contains("members: [b]"));
    assert!(!desk.text().contains("name: a"));
    assert!(desk.refused(78, &["remove", "b", "--yes"]).contains("no other member"));
}

#[test]
fn rename_follows_into_groups() {
    let desk = Desk::new(TWO);
    let output = desk.json(0, &["rename", "a", "alpha"]);
    assert_eq!(output["changed"], json!(["servers[0].name", "groups[0].members[0]"]));
    let expected = TWO.replace("name: a ", "name: alpha ").replace("[a, b]", "[alpha, b]");
    assert_eq!(desk.text(), expected);
    desk.refused(64, &["rename", "alpha", "b"]);
    desk.refused(66, &["rename", "a", "c"]);
    desk.refused(78, &["rename", "b", "two words"]);
    desk.refused(78, &["rename", "b", "check"]);
}

#[test]
fn deactivate_and_activate_take_selectors() {
    let desk = Desk::new(TWO);
    let output = desk.json(0, &["deactivate", "-l", "env=prod"]);
    assert_eq!(output["servers"], json!([{"name": "a", "state": "inactive", "changed": true}]));
    let output = desk.json(0, &["activate", "*"]);
    assert_eq!(output["servers"][0]["changed"], true);
    assert_eq!(output["servers"][1]["changed"], false);
    assert!(desk.text().contains("    active: true\n"));
    desk.refused(64, &["deactivate"]);
    desk.refused(66, &["activate", "c"]);
}

#[test]
fn maintenance_is_switched_on_and_off_and_entered_afterwards() {
    let desk = Desk::new(TWO);
    let output = desk.json(0, &["maintenance", "on", "a", "--for", "2h", "--reason", "upgrade"]);
    assert_eq!(output["schema"], "fhirctl/maintenance/v1");
    assert_eq!(output["servers"][0]["state"], "maintenance");
    assert_eq!(output["servers"][0]["windows"][0]["state"], "open");
    let output = desk.json(0, &["maintenance", "off", "a", "b"]);
    assert_eq!(output["servers"][0]["changed"], true);
    assert_eq!(output["servers"][1]["changed"], false);

    let (from, to) = ("2026-01-01T22:00:00-05:00", "2026-01-02T02:00:00-05:00");
    desk.json(0, &["maintenance", "add", "-l", "env=test", "--from", from, "--to", to]);
    let written = format!("maintenance: [{{from: {from}, until: {to}, entered: ");
    assert!(desk.text().contains(&written), "{}", desk.text());
    desk.json(0, &["maintenance", "add", "b", "--from", "2099-01-01T00:00:00Z", "--for", "1h"]);
    let list = desk.json(0, &["maintenance", "list", "b"]);
    assert_eq!(column(&list["servers"][0]["windows"], "state"), ["past", "planned"]);
    // Who entered it is kept, for the dispute about it.
    let window = &list["servers"][0]["windows"][0];
    assert!(window["entered"].is_string() && window["entered_by"].is_string(), "{window}");
    let again = desk.json(0, &["maintenance", "add", "b", "--from", from, "--to", to]);
    assert_eq!(again["servers"][0]["changed"], false);

    desk.refused(64, &["maintenance", "on"]);
    desk.refused(64, &["maintenance", "add", "a", "--from", "tomorrow", "--for", "1h"]);
    desk.refused(64, &["maintenance", "on", "a", "--until", "2020-01-01T00:00:00Z"]);
    desk.refused(64, &["maintenance", "add", "a", "--from", to, "--to", from]);
    desk.refused(66, &["maintenance", "on", "zzz"]);
}

#[test]
fn two_processes_adding_at_once_lose_nothing() {
    let desk = Arc::new(Desk::new(TWO));
    let adders = ["x", "y"].map(|who| {
        let desk = desk.clone();
        std::thread::spawn(move || {
            for index in 0..20 {
                desk.json(0, &["add", &format!("{who}{index}"), DEAD, "--no-test"]);
            }
        })
    });
    adders.into_iter().for_each(|adder| adder.join().unwrap());
    assert_eq!(desk.json(0, &["list"])["servers"].as_array().unwrap().len(), 42);
    assert!(desk.text().starts_with("# Ours.\nversion: 1\nservers:\n  - name: a   # first\n"));
    assert_eq!(desk.leftovers(), Vec::<String>::new());
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_file() {
    let desk = Desk::new(TWO);
    let mut random = fastrand::Rng::with_seed(3);
    for index in 0..40 {
        let mut child = desk
            .fhirctl()
            .args(["-o", "json", "add", &format!("s{index}"), DEAD, "--no-test"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(random.u64(0..30_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let text = desk.text();
        let whole = text.starts_with("# Ours.\n") && text.ends_with("members: [a, b]}\n");
        assert!(whole, "{text}");
    }
    desk.json(0, &["add", "last", DEAD, "--no-test"]);
    desk.json(0, &["list"]);
}

#[test]
fn mode_and_link_stay() {
    let desk = Desk::empty();
    let real = desk.dir.path().join("real.yaml");
    std::fs::write(&real, TWO).unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    symlink("real.yaml", desk.file()).unwrap();
    desk.json(0, &["deactivate", "a"]);
    assert!(std::fs::symlink_metadata(desk.file()).unwrap().file_type().is_symlink());
    assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o7777, 0o640);
    assert!(std::fs::read_to_string(&real).unwrap().contains("active: false"));
}

#[test]
fn an_invalid_inventory_is_not_edited() {
    let desk =
        Desk::new("version: 1\nservers:\n  - {name: a, url: \"https://h.example\", colour: red}\n");
    for args in [&["deactivate", "a"][..], &["rename", "a", "b"], &["add", "c", DEAD, "--no-test"]]
    {
        let error: Value = serde_json::from_str(&desk.refused(78, args)).unwrap();
        assert_eq!(error["location"]["line"], 3, "{error}");
    }
}
