//! `completions/` and `man/` are what the program itself prints.
//!
//! `FHIRCTL_REGENERATE=1 cargo test --test it generated` writes them anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use clap::CommandFactory as _;
use fhirctl::cli::Cli;
use fhirctl::command::completions::{Shell, script};
use fhirctl::command::man::pages;

#[track_caller]
fn same(directory: &str, wanted: &BTreeMap<String, String>) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    if std::env::var_os("FHIRCTL_REGENERATE").is_some() {
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        for (name, text) in wanted {
            std::fs::write(directory.join(name), text).unwrap();
        }
    }
    let found: BTreeMap<String, String> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| {
            let path: PathBuf = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    let again = "FHIRCTL_REGENERATE=1 cargo test --test it generated";
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        wanted.keys().collect::<Vec<_>>(),
        "{} has other files; write them anew with {again}",
        directory.display()
    );
    for (name, text) in wanted {
        assert!(
            found[name] == *text,
            "{} is out of date; write it anew with {again}",
            directory.join(name).display()
        );
    }
}

#[test]
fn completions_are_up_to_date() {
    let wanted = Shell::ALL
        .into_iter()
        .map(|shell| (shell.file_name().to_owned(), script(shell).unwrap()))
        .collect();
    same("completions", &wanted);
}

#[test]
fn manual_pages_are_up_to_date() {
    let wanted: BTreeMap<String, String> = pages(Cli::command()).unwrap().into_iter().collect();
    assert!(wanted.contains_key("fhirctl.1") && wanted.contains_key("fhirctl-explain.1"));
    same("man", &wanted);
}

#[test]
fn completions_and_man_print_the_same_as_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let fhirctl = || {
        let mut command = Command::cargo_bin("fhirctl").unwrap();
        command.env_remove("FHIRCTL_OUTPUT").env_remove("COMPLETE");
        command
    };
    for shell in Shell::ALL {
        fhirctl()
            .args(["completions", shell.name()])
            .assert()
            .success()
            .stdout(script(shell).unwrap());
    }
    let pages = pages(Cli::command()).unwrap();
    fhirctl().arg("man").assert().success().stdout(pages[0].1.clone());
    fhirctl().arg("man").arg(folder.path()).assert().success();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), pages.len());
}

/// What the shell is offered for the last of `words`.
fn offered(words: &[&str], folder: &Path) -> Vec<String> {
    let mut command = Command::cargo_bin("fhirctl").unwrap();
    let output = command
        .env("COMPLETE", "fish")
        .env_remove("FHIRCTL_INVENTORY")
        .current_dir(folder)
        .arg("--")
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.split('\t').next().unwrap().to_owned())
        .collect()
}

#[test]
fn the_shell_completes_commands_and_reason_codes() {
    let folder = tempfile::tempdir().unwrap();
    assert!(offered(&["fhirctl", "exp"], folder.path()).contains(&"explain".to_owned()));
    let codes = offered(&["fhirctl", "explain", "tcp.re"], folder.path());
    assert!(codes.contains(&"tcp.refused".to_owned()), "{codes:?}");
    assert!(codes.iter().all(|code| code.starts_with("tcp.re")), "{codes:?}");
}

#[test]
fn the_shell_completes_server_names_without_the_keyring() {
    let folder = tempfile::tempdir().unwrap();
    let text = "version: 1\nservers:\n  - name: epic-prod\n    url: https://a.example.org\n    \
                auth: {method: bearer, token: \"keyring:epic-prod/token\"}\n  - name: hapi\n    \
                url: https://b.example.org\n";
    std::fs::write(folder.path().join("servers.yaml"), text).unwrap();
    for verb in ["check", "test", "show", "set", "remove", "rename", "activate"] {
        assert_eq!(offered(&["fhirctl", verb, "ep"], folder.path()), ["epic-prod"], "{verb}");
    }
    let jobs = format!("{text}jobs:\n  - {{name: nightly, export: hapi, to: x}}\n");
    std::fs::write(folder.path().join("servers.yaml"), jobs).unwrap();
    assert_eq!(offered(&["fhirctl", "run", "ni"], folder.path()), ["nightly"]);
}
