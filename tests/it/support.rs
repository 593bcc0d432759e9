//! What the tests share: the built binary, a sandbox fleet, an inventory in a folder of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The program with nothing of the developer's own surroundings.
pub fn fhirctl() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fhirctl"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let lower = name.to_ascii_lowercase();
        if name.starts_with("FHIRCTL_")
            || lower.ends_with("_proxy")
            || name.starts_with("SSL_CERT")
            || name == "CI"
        {
            command.env_remove(name);
        }
    }
    // What a run records belongs to the tests, not to the developer.
    let state =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("state-{}", std::process::id()));
    command.env("NO_COLOR", "1").env("XDG_STATE_HOME", state).stdin(Stdio::null());
    command
}

/// A folder with an inventory in it.
pub struct Desk {
    pub dir: TempDir,
}

impl Desk {
    pub fn new(inventory: &str) -> Desk {
        let desk = Desk { dir: tempfile::tempdir().unwrap() };
        std::fs::write(desk.inventory(), inventory).unwrap();
        desk
    }

    pub fn inventory(&self) -> PathBuf {
        self.dir.path().join("servers.yaml")
    }

    /// The program, working on this folder's inventory and state.
    pub fn fhirctl(&self) -> Command {
        let mut command = fhirctl();
        command
            .current_dir(self.dir.path())
            .env("HOME", self.dir.path())
            .env("XDG_CONFIG_HOME", self.dir.path().join("config"))
            .env("XDG_STATE_HOME", self.dir.path().join("state"))
            .env_remove("DBUS_SESSION_BUS_ADDRESS");
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.fhirctl().args(args).output().unwrap()
    }

    /// Runs with `-o json` and reads standard output, with the exit code.
    pub fn json(&self, args: &[&str]) -> (Value, i32) {
        let output = self.fhirctl().args(["-o", "json"]).args(args).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let value = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!(
                "{args:?}: {error}\nstdout: {text}\nstderr: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        });
        (value, output.status.code().unwrap())
    }
}

/// A running `fhirctl sandbox`; it ends with the value.
pub struct Sandbox {
    child: Child,
    pub line: Value,
    _dir: TempDir,
}

impl Sandbox {
    /// Starts a fleet from a scenario.
    pub fn scenario(yaml: &str) -> Sandbox {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("scenario.yaml");
        std::fs::write(&file, yaml).unwrap();
        Sandbox::start(dir, &["--scenario", file.to_str().unwrap()])
    }

    pub fn with(args: &[&str]) -> Sandbox {
        Sandbox::start(tempfile::tempdir().unwrap(), args)
    }

    fn start(dir: TempDir, args: &[&str]) -> Sandbox {
        let mut child = fhirctl()
            .args(["-o", "json", "sandbox"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Sandbox { child, line, _dir: dir }
    }

    fn server(&self, name: &str) -> &Value {
        let servers = self.line["servers"].as_array().unwrap();
        servers
            .iter()
            .find(|server| server["name"] == name)
            .unwrap_or_else(|| panic!("no server {name}"))
    }

    pub fn url(&self, name: &str) -> String {
        self.server(name)["url"].as_str().unwrap().to_owned()
    }

    pub fn ca(&self) -> &Path {
        Path::new(self.line["ca"].as_str().expect("this fleet has no CA"))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Asked, not killed: it takes its secrets and its CA away with it.
        if let Ok(id) = i32::try_from(self.child.id()) {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(id),
                nix::sys::signal::Signal::SIGTERM,
            );
        }
        let _ = self.child.wait();
    }
}

/// The entry of a server in the output of `check -o json`.
pub fn server<'a>(check: &'a Value, name: &str) -> &'a Value {
    let servers = check["servers"].as_array().unwrap();
    servers
        .iter()
        .find(|server| server["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {check}"))
}

/// The entry of a check of a server.
pub fn check<'a>(server: &'a Value, name: &str) -> &'a Value {
    let checks = server["checks"].as_array().unwrap();
    checks
        .iter()
        .find(|check| check["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {server}"))
}

/// Holds an output against the schema that the program prints for it.
pub fn assert_schema(name: &str, output: &Value) {
    let printed = fhirctl().args(["schema", name]).output().unwrap();
    let schema: Value = serde_json::from_slice(&printed.stdout)
        .unwrap_or_else(|error| panic!("schema {name}: {error}"));
    assert!(jsonschema::meta::is_valid(&schema), "{name} is no JSON Schema");
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(output)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {}\n{output}", errors.join("\n"));
}
