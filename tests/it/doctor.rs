//! `fhirctl doctor` in surroundings of our own making.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// A home with nothing in it and no session bus.
struct Home {
    dir: TempDir,
}

impl Home {
    fn new() -> Home {
        Home { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn doctor(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fhirctl"));
        let bus = format!("unix:path={}", self.path("bus").display());
        command
            .args(["doctor", "-o", "json"])
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.dir.path())
            .env("XDG_RUNTIME_DIR", self.dir.path())
            .env("DBUS_SESSION_BUS_ADDRESS", bus);
        command
    }

    fn inventory(&self, mode: u32, token: &str) {
        let path = self.path("servers.yaml");
        let text = format!(
            "version: 1\nservers:\n  - name: a\n    url: http://127.0.0.1/fhir\n    auth: {{method: bearer, token: {token}}}\n"
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
}

fn told(command: &mut Command) -> (Value, i32) {
    let output = command.output().unwrap();
    let code = output.status.code().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["schema"], "fhirctl/doctor/v1");
    assert_eq!(told["exit_code"], code);
    (told, code)
}

fn check<'a>(told: &'a Value, name: &str) -> &'a Value {
    let checks = told["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap()
}

#[test]
fn every_part_of_the_surroundings_is_looked_at() {
    let (told, _) = told(&mut Home::new().doctor());
    let names: Vec<&str> =
        told["checks"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "keyring",
            "clock",
            "resolver",
            "proxy",
            "trust_store",
            "inventory",
            "exec",
            "config_dir",
            "state_dir",
            "secret_files",
            "history",
            "file_limit",
            "core_dumps",
            "terminal"
        ]
    );
    assert_eq!(check(&told, "core_dumps")["status"], "healthy");
}

#[test]
fn no_keyring_is_a_warning_that_names_the_other_ways_and_is_usual_in_ci() {
    let home = Home::new();
    let (found, code) = told(&mut home.doctor());
    let keyring = check(&found, "keyring");
    assert_eq!((&keyring["details"]["state"], code), (&Value::from("absent"), 1));
    for way in ["env:", "file:", "exec:", "age:"] {
        assert!(keyring["hint"].as_str().unwrap().contains(way));
    }
    let (found, _) = told(home.doctor().env("CI", "true"));
    assert_eq!(check(&found, "keyring")["status"], "healthy");
}

#[test]
fn a_session_bus_that_never_answers_is_an_error_and_holds_nobody_up() {
    let home = Home::new();
    let _bus = UnixListener::bind(home.path("bus")).unwrap();
    let (found, code) = told(home.doctor().timeout(std::time::Duration::from_secs(60)));
    assert_eq!(check(&found, "keyring")["details"]["state"], "hanging");
    assert_eq!(code, 2);
}

#[test]
fn an_inventory_that_others_can_write_runs_no_programs() {
    let home = Home::new();
    for (mode, token, obeyed, inventory, exec) in [
        (0o644, "{exec: [get]}", true, "healthy", "healthy"),
        (0o664, "{exec: [get]}", false, "healthy", "warning"),
        (0o666, "{exec: [get]}", false, "warning", "warning"),
        // What is not used needs no warning.
        (0o664, "env:TOKEN", false, "healthy", "healthy"),
    ] {
        home.inventory(mode, token);
        let (found, _) = told(&mut home.doctor());
        assert_eq!(check(&found, "inventory")["status"], inventory, "{mode:o} {token}");
        assert_eq!(check(&found, "exec")["status"], exec, "{mode:o} {token}");
        assert_eq!(check(&found, "exec")["details"]["obeyed"], obeyed, "{mode:o} {token}");
    }
}

#[test]
fn an_inventory_that_was_named_and_is_not_there_is_an_error() {
    let (found, code) = told(Home::new().doctor().args(["--inventory", "none.yaml"]));
    assert_eq!(check(&found, "inventory")["status"], "critical");
    assert_eq!(code, 2);
}

#[test]
fn a_state_folder_open_to_others_is_a_warning() {
    let home = Home::new();
    let state = home.path(".local/state/fhirctl");
    fs::create_dir_all(&state).unwrap();
    fs::set_permissions(&state, Permissions::from_mode(0o755)).unwrap();
    let (found, _) = told(&mut home.doctor());
    assert_eq!(check(&found, "state_dir")["status"], "warning");
}

#[test]
fn no_trusted_root_is_an_error() {
    let home = Home::new();
    fs::write(home.path("empty.pem"), "").unwrap();
    let (found, code) = told(home.doctor().env("SSL_CERT_FILE", home.path("empty.pem")));
    assert_eq!(check(&found, "trust_store")["status"], "critical");
    assert_eq!(code, 2);
}

#[test]
fn a_proxy_password_is_never_shown() {
    let output = Home::new()
        .doctor()
        .arg("-vv")
        .env("HTTPS_PROXY", "http://user:hunter2@proxy.example:3128")
        .env("http_proxy", "hunter2@:bad:")
        .env("NO_PROXY", "localhost,.example.org")
        .output()
        .unwrap();
    let all = format!("{output:?}");
    assert!(!all.contains("hunter2"), "{all}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let proxy = check(&told, "proxy");
    assert_eq!(proxy["details"]["HTTPS_PROXY"], "http://(redacted)@proxy.example:3128");
    assert_eq!(proxy["details"]["NO_PROXY"], "localhost,.example.org");
    assert_eq!(proxy["status"], "critical");
}

#[test]
fn an_identity_that_others_can_read_is_a_warning() {
    let home = Home::new();
    let identity = home.path("identity");
    fs::write(&identity, "AGE-SECRET-KEY-1\n").unwrap();
    fs::set_permissions(&identity, Permissions::from_mode(0o644)).unwrap();
    let (found, _) = told(home.doctor().env("FHIRCTL_AGE_IDENTITY_FILE", &identity));
    assert_eq!(check(&found, "secret_files")["status"], "warning");
}

#[test]
fn the_history_is_told_with_its_shape_and_its_troubles() {
    let home = Home::new();
    let history = |home: &Home| {
        let (found, _) = told(&mut home.doctor());
        check(&found, "history").clone()
    };
    assert!(history(&home)["message"].as_str().unwrap().contains("none yet"));
    home.inventory(0o600, "env:TOKEN");
    let absent = history(&home);
    assert_eq!(absent["status"], "healthy");
    assert!(absent["message"].as_str().unwrap().contains("not there yet"), "{absent}");
    let file = home.path("servers.history.db");
    assert!(!file.exists(), "looking makes nothing");

    fs::write(home.path("seen.csv"), "at,status\n2026-10-01T00:00:00Z,up\n").unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fhirctl"));
        command.args(args).current_dir(home.dir.path()).env("HOME", home.dir.path());
        command.env("XDG_STATE_HOME", home.path("state")).assert().success();
    };
    run(&["history", "import", "seen.csv", "--server", "a"]);
    let fine = history(&home);
    assert_eq!(fine["status"], "healthy", "{fine}");
    let details = &fine["details"];
    assert_eq!((&details["readings"], &details["servers"]), (&1.into(), &1.into()));
    assert_eq!((&details["writable"], &details["segments_fit"]), (&true.into(), &true.into()));
    assert_eq!(details["last_at"], "2026-10-01T00:00:00Z");
    assert_eq!(details["kept_days"]["raw"], 120);
    assert_eq!(details["place"], file.to_str().unwrap());

    let sql = |text: &str| rusqlite::Connection::open(&file).unwrap().execute_batch(text).unwrap();
    sql("UPDATE reading SET written = written - 432000000");
    let waiting = history(&home);
    assert_eq!(waiting["status"], "warning");
    assert!(waiting["hint"].as_str().unwrap().contains("history compact"), "{waiting}");
    run(&["history", "compact"]);
    assert_eq!(history(&home)["status"], "healthy");
    sql("UPDATE segment SET head_after = head_before");
    let torn = history(&home);
    assert_eq!(torn["status"], "critical");
    assert!(torn["message"].as_str().unwrap().contains("do not follow"), "{torn}");
    fs::write(&file, "no database").unwrap();
    let (found, code) = told(&mut home.doctor());
    assert_eq!((&check(&found, "history")["status"], code), (&"critical".into(), 2));
}
