//! `diag`: the verdict, its evidence, the archive and the commands.

use std::process::Command;

use crate::support::{Desk, Sandbox, assert_schema};

fn desk(sandbox: &Sandbox, more: &str) -> Desk {
    let url = sandbox.url("local");
    Desk::new(&format!("version: 1\nservers:\n  - {{name: s, url: \"{url}\"{more}}}\n"))
}

#[test]
fn a_healthy_server_has_a_healthy_verdict() {
    let sandbox = Sandbox::with(&[]);
    let (found, code) = desk(&sandbox, "").json(&["diag", "s"]);
    assert_schema("diag", &found);
    assert_eq!(code, 0, "{found:#}");
    assert_eq!(found["verdict"]["status"], "healthy");
    assert!(found["verdict"]["layer"].is_null());
}

#[test]
fn a_server_that_is_gone_is_named_by_its_layer() {
    let desk = Desk::new("version: 1\nservers:\n  - {name: s, url: \"http://127.0.0.1:1/fhir\"}\n");
    let (found, code) = desk.json(&["diag", "s"]);
    assert_schema("diag", &found);
    assert_eq!(code, 2);
    assert_eq!(found["verdict"]["layer"], "tcp");
    assert_eq!(found["verdict"]["code"], "tcp.refused");
    assert_eq!(found["verdict"]["party"], "vendor");
}

#[test]
fn the_archive_is_readable_private_and_never_written_over() {
    let sandbox = Sandbox::with(&[]);
    let desk = desk(&sandbox, "");
    let run = || desk.run(&["diag", "s", "health", "--bundle", "b.tar.gz"]);
    assert_eq!(run().status.code(), Some(0));
    let path = desk.dir.path().join("b.tar.gz");
    let listed = Command::new("tar").args(["-tzf"]).arg(&path).output().unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    for name in ["README.txt", "diag.json", "diag.md", "commands.sh"] {
        assert!(names.contains(name), "{names}");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o077, 0);
    assert_eq!(run().status.code(), Some(73));
}

#[test]
fn the_commands_can_be_run_as_they_are_printed() {
    let sandbox = Sandbox::with(&[]);
    let desk = desk(&sandbox, "");
    let printed = desk.run(&["diag", "s", "health", "--curl"]);
    assert_eq!(printed.status.code(), Some(0));
    let script = String::from_utf8(printed.stdout).unwrap();
    let run = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(String::from_utf8_lossy(&run.stdout).contains("CapabilityStatement"), "{script}");
    let (listed, _) = desk.json(&["diag", "s", "health", "--curl"]);
    assert_schema("diag-commands", &listed);
}
