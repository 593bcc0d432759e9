//! `bulk-import` against small servers that play what real ones do.

mod pulls;
mod server;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use self::server::{Fhir, apply, has_id, outcome, told};
use crate::support::assert_schema;

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
