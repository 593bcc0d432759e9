//! The inventory through the real binary: samples that are read, samples that are refused with
//! their exact words, and output held against its published schema.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

const EXAMPLE: &str = "servers.example.yaml";

fn fhirctl(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fhirctl"));
    command.current_dir(folder).env_clear().env("HOME", folder);
    command
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn samples(kind: &str) -> Vec<PathBuf> {
    let folder = root().join("tests/inventories").join(kind);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn json(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn schema(name: &str) -> jsonschema::Validator {
    let schema = json(fhirctl(&root()).args(["schema", name, "-o", "json"]));
    assert!(jsonschema::meta::is_valid(&schema), "{name} is no JSON Schema");
    jsonschema::validator_for(&schema).unwrap()
}

fn assert_fits(schema: &jsonschema::Validator, value: &Value, what: &str) {
    let errors: Vec<String> = schema
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}\n{}", errors.join("\n"));
}

fn yaml(path: &Path) -> Value {
    let options = serde_yaml::options! { strict_booleans: true };
    serde_yaml::from_str_with_options(&std::fs::read_to_string(path).unwrap(), options).unwrap()
}

#[test]
fn valid_samples_are_read_and_fit_the_schema() {
    let schema = schema("inventory");
    let mut files = samples("valid");
    files.push(root().join(EXAMPLE));
    for file in files {
        let list = json(fhirctl(&root()).arg("-i").arg(&file).args(["list", "-o", "json"]));
        assert_eq!(list["schema"], "fhirctl/list/v1", "{}", file.display());
        assert_fits(&schema, &yaml(&file), &file.display().to_string());
    }
}

/// `FHIRCTL_TEST_WRITE=1` writes what is said now beside the samples, to be read and committed.
#[test]
fn invalid_samples_are_refused_with_all_their_errors() {
    for file in samples("invalid") {
        let name = file.file_name().unwrap();
        let output = fhirctl(file.parent().unwrap()).arg("-i").arg(name).arg("list").output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{}\n{said}", file.display());
        assert!(output.stdout.is_empty());
        assert!(!said.contains("hunter2"), "{said}");
        let expected = file.with_extension("txt");
        if std::env::var_os("FHIRCTL_TEST_WRITE").is_some() {
            std::fs::write(&expected, &said).unwrap();
        }
        assert_eq!(said, std::fs::read_to_string(expected).unwrap(), "{}", file.display());
    }
}

/// What the schema lets through but the walk refuses is told by the walk alone: names that occur
/// twice and the like. The other way round would make an editor complain of a good file.
#[test]
fn misspelt_keys_and_wrong_types_are_refused_by_the_schema_too() {
    let schema = schema("inventory");
    for name in ["unknown-keys", "wrong-types", "secrets-in-the-clear"] {
        let file = root().join(format!("tests/inventories/invalid/{name}.yaml"));
        assert!(!schema.is_valid(&yaml(&file)), "{name}");
    }
}

#[test]
fn outputs_fit_their_schemas() {
    let example = ["-i", EXAMPLE, "-o", "json"];
    for (name, args) in [
        ("list", vec!["list"]),
        ("list", vec!["list", "records-*", "-l", "region=north"]),
        ("show", vec!["show", "records-prod"]),
        ("show", vec!["show", "records-prod", "--effective"]),
        ("show", vec!["show", "imaging", "--effective"]),
        ("vendors", vec!["vendors"]),
        ("vendors", vec!["vendors", "hapi"]),
    ] {
        let output = json(fhirctl(&root()).args(example).args(&args));
        assert_fits(&schema(name), &output, &format!("{args:?}"));
    }
}

#[test]
fn show_names_a_program_without_its_arguments() {
    let shown = json(fhirctl(&root()).args([
        "-i",
        EXAMPLE,
        "-o",
        "json",
        "show",
        "imaging",
        "--effective",
    ]));
    let text = shown.to_string();
    assert!(text.contains("exec:/usr/local/bin/imaging-token"), "{text}");
    assert!(!text.contains("--print"), "{text}");
}

#[test]
fn the_environment_is_shown_with_its_origin_and_no_password() {
    let shown = json(
        fhirctl(&root())
            .args(["-i", EXAMPLE, "-o", "json", "show", "first", "--effective", "--timeout", "7s"])
            .env("SSL_CERT_FILE", "/etc/ssl/own.pem")
            .env("HTTPS_PROXY", "http://user:hunter2@proxy.example.org:3128"),
    );
    let text = shown.to_string();
    assert!(!text.contains("hunter2"), "{text}");
    let value = |key: &str| {
        let values = shown["values"].as_array().unwrap();
        let found = values.iter().find(|value| value["key"] == key).unwrap();
        (found["value"].clone(), found["origin"].clone())
    };
    assert_eq!(value("SSL_CERT_FILE"), ("/etc/ssl/own.pem".into(), "environment".into()));
    assert_eq!(value("deadline"), ("7s".into(), "flag --timeout or FHIRCTL_TIMEOUT".into()));
}

#[test]
fn what_is_not_there_is_66() {
    let folder = tempfile::tempdir().unwrap();
    fhirctl(folder.path()).arg("list").assert().code(66);
    fhirctl(folder.path()).args(["-i", "none.yaml", "list"]).assert().code(66);
    fhirctl(&root()).args(["-i", EXAMPLE, "show", "records-prd"]).assert().code(66).stderr(
        predicates::str::contains("no server is named \"records-prd\"")
            .and(predicates::str::contains("did you mean records-prod?")),
    );
    fhirctl(&root()).args(["vendors", "happi"]).assert().code(66);
    fhirctl(&root()).args(["schema", "inventry"]).assert().code(66);
}

#[test]
fn what_is_no_inventory_is_78() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("servers.yaml");
    for (bytes, words) in [
        (&b"version: 1\nservers: [\xff]\n"[..], "line 2 is not UTF-8"),
        (b"", "the file is empty"),
        (b"# nothing yet\n", "the file is empty"),
        (b"just words", "should be a map"),
        (b"version: 2\n", "version 2 of the inventory is not known"),
        (b"servers: []\n", "version is missing"),
        (b"version: 1\n---\nversion: 1\n", "a second document starts here"),
        (b"version: 1\nservers:\n\t- name: a\n", "a tab stands in the indentation"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        fhirctl(folder.path())
            .arg("list")
            .assert()
            .code(78)
            .stderr(predicates::str::contains(words));
    }
    fhirctl(folder.path())
        .args(["-i", ".", "list"])
        .assert()
        .code(78)
        .stderr(predicates::str::contains("this is a folder"));
}

#[test]
fn an_error_as_json_carries_its_place() {
    let folder = root().join("tests/inventories/invalid");
    let output =
        fhirctl(&folder).args(["-i", "unknown-keys.yaml", "list", "-o", "json"]).output().unwrap();
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["schema"], "fhirctl/error/v1");
    assert_eq!(error["kind"], "config");
    assert_eq!(error["exit_code"], 78);
    assert_eq!(error["location"]["file"], "unknown-keys.yaml");
    assert_eq!(error["location"]["line"], 3);
    assert_eq!(error["location"]["column"], 3);
    assert_eq!(error["location"]["key"], "defaults.tiemouts");
}

use predicates::prelude::PredicateBooleanExt as _;
