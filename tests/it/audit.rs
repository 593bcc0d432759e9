//! The audit log, through the built binary: what is written, what is found when it was touched.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use fhirctl::view;
use serde_json::Value;

use crate::support::Desk;

/// Nothing listens there.
const TWO: &str = "\
version: 1
servers:
  - {name: a, url: \"http://127.0.0.1:9/fhir\"}
  - {name: b, url: \"http://127.0.0.1:9/fhir\"}
";

/// Stands behind `env:PLANTED` and must be nowhere.
const PLANTED: &str = "hunter2-planted-secret";

fn log_of(desk: &Desk) -> PathBuf {
    desk.dir.path().join("state/fhirctl/audit.ndjson")
}

fn lines(desk: &Desk) -> Vec<String> {
    let text = std::fs::read_to_string(log_of(desk)).unwrap();
    text.lines().map(|line| format!("{line}\n")).collect()
}

fn rewrite(desk: &Desk, lines: &[String]) {
    std::fs::write(log_of(desk), lines.concat()).unwrap();
}

/// Runs and expects a code; gives standard output.
fn run(desk: &Desk, code: i32, args: &[&str]) -> String {
    let output = desk.fhirctl().env("PLANTED", PLANTED).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn records(desk: &Desk, args: &[&str]) -> Vec<Value> {
    let (log, code) = desk.json(&[&["audit", "log"], args].concat());
    assert_eq!(code, 0);
    assert_fits("audit-log", &log);
    log["records"].as_array().unwrap().clone()
}

fn verify(desk: &Desk, args: &[&str]) -> (Value, i32) {
    let (found, code) = desk.json(&[&["audit", "verify"], args].concat());
    assert_fits("audit-verify", &found);
    assert_eq!(found["exit_code"], code);
    assert_eq!(found["verified"], code == 0);
    (found, code)
}

fn problems(found: &Value) -> Vec<(String, u64, Option<u64>)> {
    let problem = |it: &Value| {
        let kind = it["kind"].as_str().unwrap().to_owned();
        (kind, it["line"].as_u64().unwrap(), it["sequence"].as_u64())
    };
    found["problems"].as_array().unwrap().iter().map(problem).collect()
}

fn assert_fits(name: &str, value: &Value) {
    let (_, schema) = view::schemas().into_iter().find(|(known, _)| *known == name).unwrap();
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(value).map(|it| format!("{}: {it}", it.instance_path())).collect();
    assert!(errors.is_empty(), "{name}: {errors:?}\n{value}");
}

fn told(records: &[Value]) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let told = |it: &Value| {
        ["command", "server", "target", "outcome", "exit_code", "code"].map(|key| text(&it[key]))
    };
    records.iter().map(|record| told(record).join(" | ")).collect()
}

/// A log of six records.
fn six() -> Desk {
    let desk = Desk::new(TWO);
    for _ in 0..3 {
        run(&desk, 0, &["deactivate", "a"]);
        run(&desk, 0, &["activate", "a"]);
    }
    desk
}

#[test]
fn every_verb_that_changes_something_leaves_one_record_for_each_server() {
    let desk = Desk::new(TWO);
    run(&desk, 0, &["set", "a", "--no-test", "timeouts.total=30s", "labels.env=prod"]);
    run(&desk, 2, &["set", "a", "timeouts.total=31s"]);
    run(&desk, 0, &["deactivate", "a", "b"]);
    run(&desk, 0, &["activate", "a"]);
    run(&desk, 0, &["rename", "b", "c"]);
    run(&desk, 0, &["maintenance", "on", "a", "--reason", "a private reason"]);
    run(&desk, 0, &["maintenance", "off", "a"]);
    run(&desk, 0, &["add", "d", "http://127.0.0.1:9/fhir", "--no-test"]);
    run(&desk, 2, &["add", "e", "http://127.0.0.1:9/fhir"]);
    run(&desk, 0, &["remove", "c", "--yes"]);
    run(&desk, 0, &["init", "other.yaml"]);
    run(&desk, 73, &["init", "other.yaml"]);
    assert_eq!(
        told(&records(&desk, &[])),
        [
            "set | a | timeouts.total, labels.env | done | 0 | -",
            "set | a | timeouts.total | refused | 2 | tcp.refused",
            "deactivate | a | active | done | 0 | -",
            "deactivate | b | active | done | 0 | -",
            "activate | a | active | done | 0 | -",
            "rename | b | name, now c | done | 0 | -",
            "maintenance on | a | maintenance | done | 0 | -",
            "maintenance off | a | maintenance[0].until | done | 0 | -",
            "add | d | registered with name, url | done | 0 | -",
            "add | e | registered with name, url, active | done | 0 | -",
            "add | e | active | refused | 2 | tcp.refused",
            "remove | c | entry taken out | done | 0 | -",
            "init | - | inventory other.yaml | done | 0 | -",
            "init | - | inventory other.yaml | failed | 73 | -",
        ]
    );
    let text = std::fs::read_to_string(log_of(&desk)).unwrap();
    for private in ["30s", "127.0.0.1", "a private reason"] {
        assert!(!text.contains(private), "{private} in {text}");
    }
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap();
    assert_eq!(first["user"], user.name);
    assert!(!first["host"].as_str().unwrap().is_empty());
    assert!(first["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(verify(&desk, &[]).1, 0);
}

#[test]
fn a_change_that_could_not_be_written_is_recorded_as_failed() {
    let desk = Desk::new(TWO);
    run(&desk, 78, &["set", "a", "--no-test", "timeouts.total=soon"]);
    assert!(!log_of(&desk).exists(), "what was never tried is no change");
    let needed = format!("{TWO}jobs:\n  - {{name: n, export: a, to: out}}\n");
    std::fs::write(desk.inventory(), needed).unwrap();
    run(&desk, 78, &["remove", "a", "--yes"]);
    assert!(!log_of(&desk).exists());
    // As root everything can be written: then there is nothing to see here.
    if !nix::unistd::geteuid().is_root() {
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::create_dir(desk.dir.path().join("state")).unwrap();
        std::fs::set_permissions(desk.dir.path(), mode(0o500)).unwrap();
        let output = desk.run(&["deactivate", "a"]);
        std::fs::set_permissions(desk.dir.path(), mode(0o700)).unwrap();
        assert_eq!(output.status.code(), Some(73), "{output:?}");
        assert_eq!(told(&records(&desk, &[])), ["deactivate | a | active | failed | 73 | -"]);
    }
}

#[test]
fn what_only_reads_or_plays_writes_nothing() {
    let desk = Desk::new(TWO);
    for args in [
        &["version"][..],
        &["list"],
        &["show", "a"],
        &["explain", "tcp.refused"],
        &["schema"],
        &["vendors"],
        &["maintenance", "list"],
        &["completions", "bash"],
        &["audit", "log"],
        &["audit", "verify"],
        &["audit", "head"],
        &["remove", "a", "--dry-run"],
        &["activate", "a"],
        &["demo"],
    ] {
        run(&desk, 0, args);
        assert!(!log_of(&desk).exists(), "{args:?}");
    }
    run(&desk, 2, &["check"]);
    assert!(!log_of(&desk).exists(), "no credential was used");
}

#[test]
fn every_credential_that_a_run_uses_is_recorded_once_and_no_secret_anywhere() {
    let desk = Desk::new(
        "\
version: 1
servers:
  - name: a
    url: http://127.0.0.1:9/fhir
    auth: {method: basic, username: probe, password: \"env:PLANTED\"}
    extra_headers: {X-Key: \"env:PLANTED\"}
  - name: b
    url: http://127.0.0.1:9/fhir
    extra_headers: {X-Key: \"env:PLANTED\", X-Other: \"env:UNSET\"}
",
    );
    for args in [&["check"][..], &["test", "a", "-o", "json"]] {
        let output = desk.fhirctl().env("PLANTED", PLANTED).args(args).output().unwrap();
        assert!([2, 3].contains(&output.status.code().unwrap()), "{output:?}");
        let both = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&both).contains(PLANTED));
    }
    let of_check = records(&desk, &["--command", "check"]);
    let uses: BTreeSet<String> = told(&of_check).into_iter().collect();
    assert_eq!(
        uses.into_iter().collect::<Vec<_>>(),
        [
            "check | a | env:PLANTED | done | - | -",
            "check | b | env:PLANTED | done | - | -",
            "check | b | env:UNSET | failed | - | auth.credential_missing",
        ]
    );
    assert_eq!(of_check.len(), 3);
    assert!(of_check.iter().all(|it| it["kind"] == "credential" && it["action"] == "resolved"));
    assert_eq!(
        told(&records(&desk, &["--command", "test"])),
        ["test | a | env:PLANTED | done | - | -"]
    );
    for entry in std::fs::read_dir(log_of(&desk).parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            assert!(!text.contains(PLANTED), "{}", path.display());
        }
    }
    assert_eq!(verify(&desk, &[]).1, 0);
}

#[test]
fn the_log_is_its_owners_alone() {
    let desk = six();
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(log_of(&desk)), 0o600);
    assert_eq!(mode(log_of(&desk).parent().unwrap().to_owned()), 0o700);
}

#[test]
fn a_touched_chain_is_found_with_the_place() {
    type Touch = fn(&mut Vec<String>);
    type Place = (&'static str, u64, Option<u64>);
    let cases: [(&str, Touch, Place); 6] = [
        ("edited", |it| it[2] = it[2].replace("\"a\"", "\"z\""), ("changed", 3, Some(3))),
        ("dropped", |it| drop(it.remove(2)), ("missing", 3, Some(3))),
        ("swapped", |it| it.swap(2, 3), ("reordered", 4, Some(3))),
        ("copied", |it| it.insert(4, it[1].clone()), ("inserted", 5, Some(2))),
        ("first dropped", |it| drop(it.remove(0)), ("missing", 1, Some(1))),
        ("overwritten", |it| it[3] = "?\n".to_owned(), ("unreadable", 4, Some(4))),
    ];
    let desk = six();
    let whole = lines(&desk);
    for (what, touch, (kind, line, sequence)) in cases {
        let mut touched = whole.clone();
        touch(&mut touched);
        rewrite(&desk, &touched);
        let (found, code) = verify(&desk, &[]);
        assert_eq!(code, 65, "{what}");
        assert_eq!(problems(&found), [(kind.to_owned(), line, sequence)], "{what}");
        let table = run(&desk, 65, &["audit", "verify"]);
        assert!(table.contains("does NOT verify") && table.contains(kind), "{what}: {table}");
    }
    rewrite(&desk, &whole);
    assert_eq!(verify(&desk, &[]).1, 0);
}

#[test]
fn a_cut_tail_is_found_by_a_head_that_was_kept_elsewhere() {
    let desk = six();
    let head = run(&desk, 0, &["audit", "head"]);
    let head = head.trim_end();
    assert!(head.starts_with("6:"), "{head}");
    let (document, _) = desk.json(&["audit", "head"]);
    assert_fits("audit-head", &document);
    assert_eq!(document["head"], head);
    let kept = desk.dir.path().join("heads");
    std::fs::write(&kept, format!("# by cron\n{head}\n")).unwrap();
    let kept = kept.to_str().unwrap();
    assert_eq!(verify(&desk, &["--expect", head, "--expect-file", kept]).1, 0);

    let whole = lines(&desk);
    rewrite(&desk, &whole[..4]);
    assert_eq!(verify(&desk, &[]).1, 0, "the chain alone cannot tell");
    for args in [["--expect", head], ["--expect-file", kept]] {
        let (found, code) = verify(&desk, &args);
        assert_eq!((code, &found["expected"][0]["held"]), (65, &Value::Bool(false)));
    }
    let table = run(&desk, 65, &["audit", "verify", "--expect", head]);
    assert!(table.contains("the log ends with record 4: 2 records after it are gone"), "{table}");
    // What is written after the cut does not heal it.
    run(&desk, 0, &["deactivate", "a", "b"]);
    assert_eq!(verify(&desk, &["--expect", head]).1, 65);

    std::fs::remove_file(log_of(&desk)).unwrap();
    assert_eq!(verify(&desk, &["--expect", head]).1, 65);
    run(&desk, 64, &["audit", "verify", "--expect", "six"]);
    std::fs::write(desk.dir.path().join("heads"), "six\n").unwrap();
    run(&desk, 65, &["audit", "verify", "--expect-file", kept]);
}

#[test]
fn a_torn_last_line_is_told_then_recovered_by_the_next_record() {
    let desk = six();
    let whole = lines(&desk).concat();
    std::fs::write(log_of(&desk), &whole[..whole.len() - 30]).unwrap();
    let (found, code) = verify(&desk, &[]);
    assert_eq!((code, &found["torn"]["line"]), (0, &6.into()));
    assert!(run(&desk, 0, &["audit", "verify"]).contains("line 6 is no whole record"));
    let bytes = found["torn"]["bytes"].as_u64().unwrap();

    run(&desk, 0, &["deactivate", "b"]);
    let (found, code) = verify(&desk, &[]);
    assert_eq!((code, &found["torn"], &found["records"]), (0, &Value::Null, &7.into()));
    assert_eq!(found["recovered"][0]["sequence"], 6);
    let message = found["recovered"][0]["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("{bytes} bytes of a torn record")), "{message}");
    let aside = log_of(&desk).with_file_name("audit.ndjson.torn-6");
    assert_eq!(std::fs::metadata(&aside).unwrap().len(), bytes);
    let commands: Vec<Value> = records(&desk, &[]).iter().map(|it| it["kind"].clone()).collect();
    assert_eq!(commands[5..], ["recovery", "command"]);
}

#[test]
fn an_empty_log_is_fine() {
    let desk = Desk::new(TWO);
    assert_eq!(records(&desk, &[]), Vec::<Value>::new());
    let (found, code) = verify(&desk, &[]);
    assert_eq!((code, &found["head"], &found["records"]), (0, &Value::Null, &0.into()));
    assert!(run(&desk, 0, &["audit", "log"]).contains("The audit log is empty"));
    assert!(run(&desk, 0, &["audit", "verify"]).contains("The audit log is empty"));
    let head = run(&desk, 0, &["audit", "head"]);
    assert_eq!(head, format!("0:{}\n", "0".repeat(64)));
    assert_eq!(verify(&desk, &["--expect", head.trim()]).1, 0);
    run(&desk, 0, &["deactivate", "a"]);
    assert_eq!(verify(&desk, &["--expect", head.trim()]).1, 0);
}

#[test]
fn filters_narrow_and_formats_agree() {
    let desk = Desk::new(TWO);
    run(&desk, 0, &["deactivate", "a", "b"]);
    run(&desk, 0, &["maintenance", "on", "b"]);
    run(&desk, 2, &["set", "a", "timeouts.total=31s"]);
    for (args, expected) in [
        (&[][..], &[1, 2, 3, 4][..]),
        (&["--server", "a"], &[1, 4]),
        (&["--server", "[ab]", "--command", "deactivate"], &[1, 2]),
        (&["--command", "maintenance"], &[3]),
        (&["--outcome", "refused"], &[4]),
        (&["--kind", "credential"], &[]),
        (&["--user", "nobody-of-this-name"], &[]),
        (&["--last", "2"], &[3, 4]),
        (&["--limit", "1"], &[4]),
        (&["--since", "1h"], &[1, 2, 3, 4]),
        (&["--to", "2020-01-01"], &[]),
        (&["--from", "2020-01-01", "--to", "2999-01-01", "--last", "1"], &[4]),
    ] {
        let found: Vec<u64> =
            records(&desk, args).iter().map(|it| it["sequence"].as_u64().unwrap()).collect();
        assert_eq!(found, expected, "{args:?}");
    }
    run(&desk, 64, &["audit", "log", "--since", "yesterday"]);

    let ndjson = run(&desk, 0, &["audit", "log", "-o", "ndjson"]);
    for (line, record) in ndjson.lines().zip(records(&desk, &[])) {
        let mut line: Value = serde_json::from_str(line).unwrap();
        assert_fits("audit-record", &line);
        line.as_object_mut().unwrap().remove("schema");
        assert_eq!(line, record);
    }
    let csv = run(&desk, 0, &["audit", "log", "-o", "csv"]);
    assert!(csv.starts_with("sequence,time,user,host,process,command,server,kind,"), "{csv}");
    assert_eq!(csv.lines().count(), 5);
    assert!(run(&desk, 0, &["audit", "log", "-o", "yaml"]).contains("fhirctl/audit-log/v1"));
    assert!(run(&desk, 0, &["audit", "log"]).contains("refused: tcp.refused"));
}

#[test]
fn records_come_as_audit_events_of_fhir() {
    let desk = Desk::new(TWO);
    let empty = run(&desk, 0, &["audit", "log", "--as", "fhir", "-o", "json"]);
    let empty: Value = serde_json::from_str(&empty).unwrap();
    assert_eq!((&empty["type"], &empty["entry"]), (&"collection".into(), &Value::Null));
    run(&desk, 0, &["deactivate", "a", "b"]);
    let bundle = run(&desk, 0, &["audit", "log", "--as", "fhir", "-o", "json"]);
    let bundle: Value = serde_json::from_str(&bundle).unwrap();
    let entries = bundle["entry"].as_array().unwrap();
    assert_eq!((&bundle["resourceType"], entries.len()), (&"Bundle".into(), 2));
    let lines = run(&desk, 0, &["audit", "log", "--as", "fhir", "-o", "ndjson"]);
    for (line, entry) in lines.lines().zip(entries) {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event, entry["resource"]);
        assert_eq!(event["resourceType"], "AuditEvent");
        assert_eq!((&event["action"], &event["outcome"]), (&"U".into(), &"0".into()));
        assert_eq!(event["agent"][0]["requestor"], true);
        assert_eq!(event["agent"][0]["network"]["type"], "1");
    }
    run(&desk, 64, &["audit", "log", "--as", "fhir", "-o", "csv"]);
}

#[test]
fn processes_beside_each_other_lose_no_record() {
    let names: Vec<String> = (0..8).map(|number| format!("s{number}")).collect();
    let entry = |name: &String| format!("  - {{name: {name}, url: \"http://127.0.0.1:9/fhir\"}}\n");
    let servers: String = names.iter().map(entry).collect();
    let desk = Desk::new(&format!("version: 1\nservers:\n{servers}"));
    std::thread::scope(|scope| {
        for name in &names {
            let desk = &desk;
            scope.spawn(move || {
                run(desk, 0, &["deactivate", name]);
                run(desk, 0, &["maintenance", "on", name]);
                run(desk, 0, &["activate", name]);
            });
        }
    });
    let all = records(&desk, &[]);
    assert_eq!(all.len(), 24);
    for name in &names {
        let own: Vec<&Value> =
            all.iter().filter(|it| it["server"] == **name).map(|it| &it["command"]).collect();
        assert_eq!(own, ["deactivate", "maintenance on", "activate"], "{name}");
    }
    assert_eq!(verify(&desk, &[]).1, 0);
}

#[test]
fn a_log_that_cannot_be_written_warns_and_stops_nobody() {
    let desk = Desk::new(TWO);
    std::fs::write(desk.dir.path().join("state"), "a file in the way").unwrap();
    let output = desk.run(&["--quiet", "deactivate", "a"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("warning: this change is NOT in the audit log"), "{told}");
    assert!(std::fs::read_to_string(desk.inventory()).unwrap().contains("active: false"));

    let output = desk
        .fhirctl()
        .env_remove("XDG_STATE_HOME")
        .env_remove("HOME")
        .args(["activate", "a"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("NOT in the audit log"));
}

#[test]
fn an_interrupted_check_has_recorded_its_credentials() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/fhir", listener.local_addr().unwrap());
    let desk = Desk::new(&format!(
        "version: 1\nservers:\n  - {{name: a, url: \"{url}\", extra_headers: {{X-Key: \"env:PLANTED\"}}}}\n"
    ));
    let child = desk
        .fhirctl()
        .env("PLANTED", PLANTED)
        .args(["check", "--timeout", "60s"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // It has asked, and gets no answer: the credential was resolved before.
    let (mut stream, _) = listener.accept().unwrap();
    let _ = stream.write_all(b"");
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
    let status = child.wait_with_output().unwrap().status;
    assert_eq!(status.code(), Some(130), "{status:?}");
    assert_eq!(told(&records(&desk, &[])), ["check | a | env:PLANTED | done | - | -"]);
}
