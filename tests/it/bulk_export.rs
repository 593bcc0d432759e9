//! Bulk export: what is interrupted goes on, what is wrong is told, what is done can be proved.

mod folders;
mod metrics;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Desk, Sandbox};

/// A sandbox's server with these keys of `bulk:`, and a desk that knows it.
struct Scene {
    sandbox: Sandbox,
    desk: Desk,
    log: PathBuf,
}

impl Scene {
    fn new(bulk: &str) -> Scene {
        Scene::with(&["--bulk", "wait=50ms", "--bulk", "retry_after=0"], bulk, "")
    }

    fn with(flags: &[&str], bulk: &str, entry: &str) -> Scene {
        let desk = Desk::new("");
        let log = desk.dir.path().join("requests.ndjson");
        let mut args = vec!["--log", log.to_str().unwrap()];
        args.extend(flags);
        for key in bulk.split(' ').filter(|key| !key.is_empty()) {
            args.extend(["--bulk", key]);
        }
        let sandbox = Sandbox::with(&args);
        let url = sandbox.line["url"].as_str().unwrap();
        std::fs::write(
            desk.inventory(),
            format!("version: 1\nservers:\n  - {{name: a, url: \"{url}\"{entry}}}\n"),
        )
        .unwrap();
        Scene { sandbox, desk, log }
    }

    fn command(&self, dir: &str, more: &[&str]) -> Command {
        let mut command = self.desk.fhirctl();
        command
            .args(["-o", "json", "bulk-export", "a", "--level", "system", "--output-dir", dir])
            .args(["--poll-floor", "10ms", "--poll-ceiling", "100ms"])
            .args(more);
        command
    }

    /// The result on standard output, or the error, and the exit code.
    fn export(&self, dir: &str, more: &[&str]) -> (Value, i32) {
        let output = self.command(dir, more).output().unwrap();
        let text = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
        let last = String::from_utf8_lossy(text);
        let json = last.find('{').map_or("null", |at| &last[at..]);
        let value = serde_json::from_str(json)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)));
        (value, output.status.code().unwrap())
    }

    fn path(&self, dir: &str) -> PathBuf {
        self.desk.dir.path().join(dir)
    }

    /// Method and path of each request that the server saw.
    fn seen(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        text.lines()
            .map(|line| {
                let request: Value = serde_json::from_str(line).unwrap();
                let text = |key: &str| request[key].as_str().unwrap().to_owned();
                format!("{} {}", text("method"), text("path"))
            })
            .collect()
    }
}

/// The data of an export: names below the folder, and content.
fn data(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for below in ["", "error", "deleted"] {
        let Ok(entries) = std::fs::read_dir(folder.join(below)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.contains(".ndjson") && name != "log.ndjson" {
                all.insert(format!("{below}/{name}"), std::fs::read(&path).unwrap());
            }
        }
    }
    all
}

fn codes(result: &Value) -> Vec<String> {
    let findings = result["findings"].as_array().into_iter().flatten();
    let mut codes: Vec<String> =
        findings.map(|it| it["code"].as_str().unwrap().to_owned()).collect();
    codes.sort();
    codes.dedup();
    codes
}

/// Real output against its published schema.
fn assert_fits(name: &str, value: &Value) {
    let output = crate::support::fhirctl().args(["schema", name]).output().unwrap();
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    let errors: Vec<String> = jsonschema::validator_for(&schema)
        .unwrap()
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}\n{value:#}");
}

#[test]
fn an_export_is_complete_with_a_receipt_and_the_job_is_deleted() {
    let scene = Scene::new("");
    let (result, code) = scene.export("out", &[]);
    assert_eq!(code, 0, "{result:#}");
    assert_eq!(result["schema"], "fhirctl/bulk-export/v1");
    assert_eq!(result["status"], "complete");
    assert_eq!(result["remote_job"], "deleted");
    assert_fits("bulk-export", &result);
    let folder = scene.path("out");
    let receipt: Value =
        serde_json::from_slice(&std::fs::read(folder.join("receipt.json")).unwrap()).unwrap();
    assert_fits("bulk-export-receipt", &receipt);
    let files = receipt["files"].as_array().unwrap();
    let named: Vec<&str> = files.iter().map(|file| file["name"].as_str().unwrap()).collect();
    let there: Vec<String> =
        data(&folder).keys().map(|name| name.trim_start_matches('/').to_owned()).collect();
    assert_eq!(named, there);
    assert_eq!(receipt["transaction_time"], result["transaction_time"]);
    for file in files {
        let content = std::fs::read(folder.join(file["name"].as_str().unwrap())).unwrap();
        let lines = content.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(file["count"], lines);
        assert_eq!(file["bytes"], content.len());
    }
    let mut kinds = Vec::new();
    for line in std::fs::read_to_string(folder.join("log.ndjson")).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["exportId"], result["export_id"]);
        kinds.push(line["eventId"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        (kinds.first().unwrap().as_str(), kinds.last().unwrap().as_str()),
        ("kickoff", "export_complete")
    );
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("Patient.001.ndjson")), 0o600);
    assert_eq!(mode(&folder.join("receipt.json")), 0o600);
    // Once more: nothing is asked of the server.
    let before = scene.seen().len();
    let (again, code) = scene.export("out", &[]);
    assert_eq!((code, &again["was_done"], scene.seen().len()), (0, &json!(true), before));
    assert!(scene.seen().iter().any(|it| it.starts_with("DELETE ")));
}

#[test]
fn every_trap_ends_as_it_should() {
    let none: &[&str] = &[];
    for (trap, keys, flags, code, status, found) in [
        ("retry-after-date", "", none, 0, "complete", none),
        ("retry-after-negative", "", none, 0, "complete", none),
        ("retry-after-absurd", "", none, 0, "complete", none),
        ("retry-after-garbage", "", none, 0, "complete", none),
        ("retry-after-epoch", "", none, 0, "complete", none),
        ("retry-after-epoch-ms", "", none, 0, "complete", none),
        ("retry-after-absent", "", none, 0, "complete", none),
        ("poll-429", "", none, 0, "complete", none),
        ("poll-503-html", "", none, 0, "complete", none),
        ("poll-500-transient", "", none, 0, "complete", none),
        ("location-relative", "", none, 0, "complete", &["bulk.odd_manifest"]),
        ("location-missing", "", none, 69, "bulk.no_status_url", none),
        ("job-failed", "", none, 69, "bulk.job_failed", none),
        ("job-forever", "", &["--max-wait", "500ms"], 75, "bulk.max_wait", none),
        ("progress-curly", "", none, 0, "complete", none),
        ("progress-bytes", "", none, 0, "complete", none),
        ("progress-long", "", none, 0, "complete", none),
        ("export-status", "", &["--separate-status"], 0, "complete", none),
        ("export-status-bare", "", &["--separate-status"], 0, "complete", none),
        ("export-status-failed", "", &["--separate-status"], 69, "bulk.job_failed", none),
        ("manifest-grows", "", &["--allow-partial-manifests"], 0, "complete", none),
        ("manifest-stu4", "", none, 0, "complete", none),
        ("manifest-no-error", "", none, 0, "complete", none),
        ("manifest-html", "", none, 65, "bulk.manifest_invalid", none),
        ("manifest-time", "", none, 0, "complete", &["bulk.odd_manifest"]),
        ("manifest-long", "", none, 65, "bulk.manifest_invalid", none),
        ("extension-object", "", none, 0, "complete", none),
        ("extension-array", "", none, 0, "complete", none),
        ("url-relative", "", none, 0, "complete", none),
        (
            "url-escapes",
            "",
            none,
            65,
            "complete_with_errors",
            &["bulk.duplicate", "bulk.odd_manifest", "bulk.wrong_type"],
        ),
        ("link-loop", "links=3", none, 69, "incomplete", &["bulk.manifest_invalid"]),
        ("link-500-once", "links=3", none, 0, "complete", none),
        ("link-404", "links=3", none, 69, "incomplete", &["bulk.job_gone"]),
        ("error-information", "", none, 0, "complete", &["bulk.outcome"]),
        ("error-warning", "", none, 0, "complete", &["bulk.outcome"]),
        ("error-error", "", none, 65, "complete_with_errors", &["bulk.outcome"]),
        ("error-fatal", "", none, 65, "complete_with_errors", &["bulk.outcome"]),
        (
            "deleted-also-output",
            "deleted=2",
            &["--since", "2020-01-01T00:00:00Z"],
            65,
            "complete_with_errors",
            &["bulk.deleted_and_exported"],
        ),
        ("organised-split", "", &["--organize-by", "Patient"], 0, "complete", none),
        ("count-wrong", "", none, 65, "complete_with_errors", &["bulk.count_mismatch"]),
        ("file-302", "", none, 0, "complete", none),
        ("file-307", "", none, 0, "complete", none),
        ("file-gzip", "", none, 0, "complete", none),
        ("file-gzip-members", "", none, 0, "complete", none),
        ("file-gzip-truncated", "", none, 0, "complete", none),
        ("file-gzip-unmarked", "", none, 69, "incomplete", none),
        ("file-cut", "", none, 0, "complete", none),
        ("file-503", "", none, 0, "complete", none),
        ("file-html", "", none, 69, "incomplete", none),
        ("file-gone", "", none, 69, "incomplete", none),
        ("expires-past", "", none, 0, "complete", none),
        ("line-blank", "", none, 0, "complete", &["bulk.odd_line"]),
        ("line-crlf", "", none, 0, "complete", none),
        ("line-bom", "", none, 0, "complete", &["bulk.odd_line"]),
        ("line-open", "", none, 0, "complete", none),
        (
            "line-half",
            "",
            none,
            65,
            "complete_with_errors",
            &["bulk.bad_line", "bulk.count_mismatch"],
        ),
        ("line-twice", "", none, 65, "complete_with_errors", &["bulk.duplicate"]),
        ("line-type", "", none, 65, "complete_with_errors", &["bulk.wrong_type"]),
        ("line-no-id", "", none, 65, "complete_with_errors", &["bulk.bad_line"]),
        (
            "line-utf8",
            "",
            none,
            65,
            "complete_with_errors",
            &["bulk.bad_line", "bulk.count_mismatch"],
        ),
        ("line-deep", "", none, 0, "complete", none),
        ("delete-404", "", none, 0, "complete", none),
        ("delete-200", "", none, 0, "complete", none),
    ] {
        let scene = Scene::new(&format!("traps={trap} {keys}"));
        let (result, exit) = scene.export("out", flags);
        assert_eq!(exit, code, "{trap}: {result:#}");
        if result["schema"] == "fhirctl/error/v1" {
            let message = result["message"].as_str().unwrap();
            assert!(message.contains(status), "{trap}: {message}");
        } else {
            assert_eq!(result["status"], status, "{trap}: {result:#}");
            assert_fits("bulk-export", &result);
            assert_eq!(codes(&result), found, "{trap}: {result:#}");
        }
    }
}

#[test]
fn a_file_that_stalls_is_fetched_again_and_storage_that_is_down_is_for_later() {
    let quick = ", timeouts: {read: 500ms}, retry: {attempts: 1, backoff: 1ms, max_backoff: 2ms}";
    let flags = ["--bulk", "wait=50ms", "--bulk", "retry_after=0"];
    let scene = Scene::with(&flags, "traps=file-stall", quick);
    let (result, code) = scene.export("out", &[]);
    assert_eq!((code, &result["status"]), (0, &json!("complete")), "{result:#}");
    assert!(result["totals"]["retries"].as_u64().unwrap() > 0, "{result:#}");

    let scene = Scene::with(&flags, "traps=storage-down", quick);
    let (result, code) = scene.export("out", &[]);
    assert_eq!((code, &result["status"]), (75, &json!("incomplete")), "{result:#}");
    assert_eq!(result["totals"]["files_missing"], 1, "{result:#}");
    assert_fits("bulk-export", &result);
}

#[test]
fn a_line_longer_than_is_taken_is_bad_data_and_held_in_no_memory() {
    let scene = Scene::new("traps=line-long");
    let (result, code) = scene.export("out", &["--max-line", "1"]);
    assert_eq!(code, 65, "{result:#}");
    assert_eq!(codes(&result), ["bulk.bad_line", "bulk.count_mismatch"]);
    let bad = &result["findings"].as_array().unwrap().iter().find(|it| it["line"].is_u64());
    assert!(bad.unwrap()["message"].as_str().unwrap().contains("longer than 1 MiB"));
}

#[test]
fn a_token_that_ends_is_renewed_once_each_and_never_leaves_the_origin() {
    for (keys, flags) in [
        ("traps=poll-401", ""),
        ("traps=file-401", ""),
        ("traps=file-307", ""),
        ("storage=separate", ""),
    ] {
        let desk = Desk::new("");
        let log = desk.dir.path().join("requests.ndjson");
        let sandbox = Sandbox::with(&[
            "--auth",
            "oauth2",
            "--log",
            log.to_str().unwrap(),
            "--bulk",
            "retry_after=0",
            "--bulk",
            keys,
        ]);
        let server = &sandbox.line["servers"][0];
        let secret = server["auth"]["secret_file"].as_str().unwrap();
        let url = server["url"].as_str().unwrap();
        let origin = &url[..url.rfind('/').unwrap()];
        std::fs::write(
            desk.inventory(),
            format!("version: 1\nservers:\n  - {{name: a, url: \"{url}\", auth: {{method: oauth2, client_id: sandbox-client, client_secret: \"file:{secret}\", token_url: \"{origin}/oauth2/token\", scopes: [system/*.rs]}}}}\n"),
        )
        .unwrap();
        let output = desk
            .fhirctl()
            .args(["-o", "json", "bulk-export", "a", "--level", "system", "--output-dir", "out"])
            .args(["--poll-floor", "10ms", "--poll-ceiling", "100ms"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{keys}{flags}: {output:?}");
        let text = std::fs::read_to_string(&log).unwrap();
        for line in text.lines() {
            let request: Value = serde_json::from_str(line).unwrap();
            let path = request["path"].as_str().unwrap();
            let is_elsewhere = request["place"] == "storage" || path.starts_with("/storage");
            assert!(!is_elsewhere || request["authorization"] == false, "{line}");
        }
    }
}

#[test]
fn killed_at_any_instant_it_goes_on_to_the_same_files_and_fetches_none_twice() {
    let scene = Scene::new("lines=600 files_per_type=6 deleted=3");
    let flags = ["--since", "2020-01-01T00:00:00Z"];
    let (whole, code) = scene.export("whole", &flags);
    assert_eq!(code, 0, "{whole:#}");
    let expected = data(&scene.path("whole"));
    assert!(expected.len() > 4, "{:?}", expected.keys());
    let mut kills = 0;
    for round in 0..60_u64 {
        if kills >= 100 {
            break;
        }
        let dir = format!("killed-{round}");
        let mut done = None;
        for attempt in 0..60_u64 {
            let mut child = scene
                .command(&dir, &flags)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // On the whole later and later, so that every phase is met and the end is reached.
            std::thread::sleep(Duration::from_millis(fastrand::u64(5..60 + attempt * 40)));
            match child.try_wait().unwrap() {
                Some(status) => {
                    done = Some(status.code());
                    break;
                }
                None => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    kills += 1;
                }
            }
        }
        assert_eq!(done, Some(Some(0)), "round {round}");
        let folder = scene.path(&dir);
        assert_eq!(data(&folder), expected, "round {round}");
        let (verified, code) = scene.desk.json(&["bulk-export", "verify", &dir]);
        assert_eq!((code, &verified["verified"]), (0, &json!(true)), "{verified:#}");
        let leftover = std::fs::read_dir(&folder)
            .unwrap()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().ends_with(".part"));
        assert!(!leftover, "round {round}");
    }
    assert!(kills >= 100, "{kills} kills");
}

/// A library that ends a process at a durable step of one's choosing.
fn kill_at(folder: &Path) -> PathBuf {
    let library = folder.join("kill_at.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/kill_at.c"))
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(built.success());
    library
}

#[test]
fn killed_before_and_after_each_durable_step_it_ends_as_if_undisturbed() {
    let scene = Scene::new("lines=40 files_per_type=2 deleted=2 traps=error-information");
    let flags =
        ["--since", "2020-01-01T00:00:00Z", "--type", "Patient,Observation", "--parallel", "2"];
    let (whole, code) = scene.export("whole", &flags);
    assert_eq!(code, 0, "{whole:#}");
    let expected = data(&scene.path("whole"));
    let kinds = ["/Patient", "/Observation", "error/", "deleted/"];
    assert!(kinds.iter().all(|kind| expected.keys().any(|name| name.starts_with(kind))));
    let library = kill_at(scene.desk.dir.path());
    let next = AtomicU32::new(1);
    let last = AtomicU32::new(u32::MAX);
    let kill_and_go_on = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= last.load(Ordering::Relaxed) {
                return;
            }
            let dir = format!("step-{at}");
            let killed = scene
                .command(&dir, &flags)
                .env("LD_PRELOAD", &library)
                .env("KILL_AT", at.to_string())
                .output()
                .unwrap();
            match killed.status.code() {
                // Beyond the last step nothing kills it.
                Some(0) => last.fetch_min(at, Ordering::Relaxed),
                Some(other) => panic!("step {at}: exit {other}, {killed:?}"),
                None => 0,
            };
            let (after, code) = scene.export(&dir, &flags);
            assert_eq!(code, 0, "step {at}: {after:#}");
            let folder = scene.path(&dir);
            assert!(data(&folder) == expected, "step {at}: other data");
            let (verified, code) = scene.desk.json(&["bulk-export", "verify", &dir]);
            assert_eq!((code, &verified["verified"]), (0, &json!(true)), "{at}: {verified:#}");
            std::fs::remove_dir_all(&folder).unwrap();
        }
    };
    std::thread::scope(|threads| {
        threads.spawn(kill_and_go_on);
        threads.spawn(kill_and_go_on);
    });
    let steps = last.load(Ordering::Relaxed);
    assert!((60..2000).contains(&steps), "{steps} instants");
}

#[test]
fn a_finished_file_is_not_fetched_again() {
    let scene = Scene::new("traps=file-gone");
    let (first, code) = scene.export("out", &[]);
    assert_eq!((code, &first["status"]), (69, &json!("incomplete")));
    let files = |seen: &[String]| {
        seen.iter().filter(|it| it.starts_with("GET ") && it.contains("file")).count()
    };
    let before = files(&scene.seen());
    let (second, _) = scene.export("out", &[]);
    assert_eq!(second["totals"]["files_done"], first["totals"]["files_done"]);
    let again = files(&scene.seen()) - before;
    let missing = first["totals"]["files_missing"].as_u64().unwrap();
    // The one that is missing, and once more after its link was renewed.
    assert!(again as u64 <= missing * 2, "{again} requests for {missing} files");
}

#[test]
fn one_folder_is_of_one_export_and_of_one_process() {
    let scene = Scene::new("traps=job-forever");
    let mut first = scene
        .command("out", &["--max-wait", "30s"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let marker = scene.path("out").join(".fhirctl-export.json");
    while !marker.exists() || scene.seen().len() < 2 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (error, code) = scene.export("out", &[]);
    assert_eq!(code, 75, "{error:#}");
    assert!(error["message"].as_str().unwrap().contains("works on this export already"));
    let (listed, code) = scene.desk.json(&["bulk-export", "list"]);
    assert_eq!(code, 0);
    assert_fits("bulk-export-list", &listed);
    let (status, _) = scene.desk.json(&["bulk-export", "status", "out"]);
    assert_fits("bulk-export-status", &status);
    assert_eq!(
        (
            &listed["exports"][0]["phase"],
            &listed["exports"][0]["running"],
            &listed["exports"][0]["pid"]
        ),
        (&json!("waiting"), &json!(true), &json!(first.id()))
    );
    first.kill().unwrap();
    first.wait().unwrap();
    let (error, code) = scene.export("out", &["--type", "Patient"]);
    assert_eq!(code, 73, "{error:#}");
    assert!(error["message"].as_str().unwrap().contains("differs in types"), "{error:#}");
    let (told, code) = scene.desk.json(&["bulk-export", "cancel", "out"]);
    assert_eq!(code, 0, "{told:#}");
    assert_fits("bulk-export-cancel", &told);
    assert!(scene.seen().iter().any(|it| it.starts_with("DELETE ")));
    // Somebody else's data stay as they are.
    std::fs::create_dir(scene.path("other")).unwrap();
    std::fs::write(scene.path("other").join("Patient.ndjson"), "x").unwrap();
    let (error, code) = scene.export("other", &[]);
    assert_eq!(code, 73, "{error:#}");
    assert_eq!(std::fs::read(scene.path("other").join("Patient.ndjson")).unwrap(), b"x");
}

#[test]
fn a_flipped_byte_a_missing_a_strange_file_and_an_edited_receipt_are_found() {
    let scene = Scene::new("");
    assert_eq!(scene.export("out", &[]).1, 0);
    let folder = scene.path("out");
    let patient = folder.join("Patient.001.ndjson");
    let receipt = folder.join("receipt.json");
    let (good, kept) = (std::fs::read(&patient).unwrap(), std::fs::read(&receipt).unwrap());
    let problem = |what: &str| {
        let (verified, code) = scene.desk.json(&["bulk-export", "verify", "out"]);
        assert_eq!(code, 65, "{what}: {verified:#}");
        assert_fits("bulk-export-verify", &verified);
        let message = verified["problems"][0]["message"].as_str().unwrap();
        assert!(message.contains(what), "{what}: {message}");
    };
    let mut flipped = good.clone();
    flipped[100] ^= 1;
    std::fs::write(&patient, &flipped).unwrap();
    problem("the digest differs");
    std::fs::write(&patient, &good[..good.len() - 1]).unwrap();
    problem("the receipt says");
    std::fs::remove_file(&patient).unwrap();
    problem("missing");
    std::fs::write(&patient, &good).unwrap();
    std::fs::write(folder.join("Patient.999.ndjson"), "{}\n").unwrap();
    problem("does not know this file");
    std::fs::remove_file(folder.join("Patient.999.ndjson")).unwrap();
    let text = String::from_utf8(kept.clone()).unwrap();
    std::fs::write(&receipt, text.replacen("\"exit_code\": 0", "\"exit_code\": 1", 1)).unwrap();
    problem("was changed after it was written");
    std::fs::write(&receipt, b"{\"schema\":").unwrap();
    assert_eq!(scene.desk.run(&["bulk-export", "verify", "out"]).status.code(), Some(65));
    std::fs::write(&receipt, &kept).unwrap();
    assert_eq!(scene.desk.json(&["bulk-export", "verify", "out"]).1, 0);
    assert_eq!(scene.desk.run(&["bulk-export", "verify", "nowhere"]).status.code(), Some(66));
}

#[test]
fn packed_files_hold_the_same_content() {
    let scene = Scene::new("");
    assert_eq!(scene.export("plain", &[]).1, 0);
    let plain = std::fs::read(scene.path("plain").join("Patient.001.ndjson")).unwrap();
    assert_eq!(scene.export("gzip", &["--compress", "gzip"]).1, 0);
    let packed = std::fs::File::open(scene.path("gzip").join("Patient.001.ndjson.gz")).unwrap();
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(packed), &mut content)
        .unwrap();
    assert_eq!(content, plain);
    assert_eq!(scene.export("zstd", &["--compress", "zstd"]).1, 0);
    let packed = std::fs::read(scene.path("zstd").join("Patient.001.ndjson.zst")).unwrap();
    assert_eq!(zstd::decode_all(packed.as_slice()).unwrap(), plain);
    for dir in ["gzip", "zstd"] {
        assert_eq!(scene.desk.json(&["bulk-export", "verify", dir]).1, 0);
    }
}

/// What a stored file holds.
fn content(path: &Path) -> Vec<u8> {
    let stored = std::fs::read(path).unwrap();
    let mut content = Vec::new();
    match path.extension().unwrap().to_str().unwrap() {
        "gz" => {
            let mut unpacked = flate2::read::MultiGzDecoder::new(stored.as_slice());
            std::io::Read::read_to_end(&mut unpacked, &mut content).unwrap();
        }
        "zst" => content = zstd::decode_all(stored.as_slice()).unwrap(),
        _ => content = stored,
    }
    content
}

#[test]
fn split_by_type_a_file_holds_all_of_its_type_and_says_of_which_files_it_is_made() {
    let scene = Scene::new("lines=300 files_per_type=4 traps=line-open");
    assert_eq!(scene.export("plain", &[]).1, 0);
    let plain = scene.path("plain");
    let mut expected = Vec::new();
    for number in 1..=4 {
        expected.extend(content(&plain.join(format!("Patient.{number:03}.ndjson"))));
        if expected.last() != Some(&b'\n') {
            expected.push(b'\n');
        }
    }
    for (compress, suffix) in [("none", ""), ("gzip", ".gz"), ("zstd", ".zst")] {
        let flags = ["--split-by", "type", "--compress", compress];
        let (result, code) = scene.export(compress, &flags);
        assert_eq!(code, 0, "{result:#}");
        let folder = scene.path(compress);
        let whole = content(&folder.join(format!("Patient.ndjson{suffix}")));
        assert!(whole == expected, "{compress}");
        assert!(!folder.join("parts").exists());
        let text = std::fs::read_to_string(folder.join("receipt.json")).unwrap();
        let receipt: Value = serde_json::from_str(&text).unwrap();
        assert_fits("bulk-export-receipt", &receipt);
        let files = receipt["files"].as_array().unwrap();
        let patients: Vec<_> = files.iter().filter(|it| it["type"] == "Patient").collect();
        assert_eq!((patients.len(), patients[0]["parts"].as_array().unwrap().len()), (1, 4));
        let (verified, code) = scene.desk.json(&["bulk-export", "verify", compress]);
        assert_eq!((code, &verified["verified"]), (0, &json!(true)), "{verified:#}");
        // Once more: nothing is fetched, nothing changes.
        assert_eq!(scene.export(compress, &flags).1, 0);
        assert!(content(&folder.join(format!("Patient.ndjson{suffix}"))) == expected);
    }
    let (refused, code) = scene.export("gzip", &["--compress", "gzip"]);
    assert_eq!(code, 73, "{refused:#}");
}

#[test]
fn split_by_type_sorts_mixed_files_and_tells_lines_of_the_whole() {
    let scene = Scene::new("lines=60 traps=organised-split");
    assert_eq!(scene.export("mixed", &["--organize-by", "Patient"]).1, 0);
    let flags = ["--organize-by", "Patient", "--split-by", "type", "--compress", "gzip"];
    let (result, code) = scene.export("sorted", &flags);
    assert_eq!(code, 0, "{result:#}");
    let mut lines = 0;
    for entry in std::fs::read_dir(scene.path("sorted")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let Some(of_type) = name.strip_suffix(".ndjson.gz") else { continue };
        for line in String::from_utf8(content(&entry.path())).unwrap().lines() {
            let resource: Value = serde_json::from_str(line).unwrap();
            assert_eq!(resource["resourceType"], of_type);
            lines += 1;
        }
    }
    let mixed: usize = data(&scene.path("mixed"))
        .values()
        .map(|content| content.iter().filter(|byte| **byte == b'\n').count())
        .sum();
    assert_eq!(lines, mixed);

    let scene = Scene::new("files_per_type=2 traps=line-twice");
    let (result, code) = scene.export("out", &["--split-by", "type"]);
    assert_eq!(code, 65, "{result:#}");
    let twin = &result["findings"][0];
    let path = scene.path("out").join(twin["file"].as_str().unwrap());
    let text = String::from_utf8(content(&path)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let line = lines[usize::try_from(twin["line"].as_u64().unwrap()).unwrap() - 1];
    assert_eq!(lines.iter().filter(|other| **other == line).count(), 2, "{twin:#}");
}

#[test]
fn killed_while_it_joins_it_ends_as_if_undisturbed() {
    let scene = Scene::new("lines=200 files_per_type=3");
    let flags = ["--split-by", "type", "--type", "Patient,Observation", "--parallel", "1"];
    assert_eq!(scene.export("whole", &flags).1, 0);
    let expected = data(&scene.path("whole"));
    let library = kill_at(scene.desk.dir.path());
    let mut kills = 0;
    // From the last steps backwards: that is where files are joined.
    for at in (60..140).step_by(3) {
        let dir = format!("step-{at}");
        let mut killed = scene.command(&dir, &flags);
        killed.env("LD_PRELOAD", &library).env("KILL_AT", at.to_string());
        kills += u32::from(killed.output().unwrap().status.code().is_none());
        let (after, code) = scene.export(&dir, &flags);
        assert_eq!(code, 0, "step {at}: {after:#}");
        assert!(data(&scene.path(&dir)) == expected, "step {at}: other data");
        assert!(!scene.path(&dir).join("parts").exists());
    }
    assert!(kills > 10, "{kills} kills");
}

#[test]
fn a_dry_run_shows_the_request_and_sends_nothing() {
    let scene = Scene::new("");
    let output = scene
        .desk
        .fhirctl()
        .args([
            "-o",
            "json",
            "bulk-export",
            "a",
            "--group",
            "g1",
            "--output-dir",
            "out",
            "--dry-run",
        ])
        .args(["--type", "Patient,Observation", "--since", "2024-01-01T00:00:00+02:00"])
        .args(["--type-filter", "Observation?category=laboratory", "--param", "_x=1"])
        .output()
        .unwrap();
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_fits("bulk-export-plan", &plan);
    let url = plan["url"].as_str().unwrap();
    assert!(
        url.ends_with("/Group/g1/$export?_type=Patient,Observation&_since=2024-01-01T00:00:00%2B02:00&_typeFilter=Observation%3Fcategory%3Dlaboratory&_x=1"),
        "{url}"
    );
    assert_eq!(plan["headers"]["prefer"], "respond-async");
    let crawl = ["--mode", "crawl", "--type", "Patient", "--dry-run"];
    let (plan, code) = scene.export("out", &crawl);
    assert_eq!(code, 0, "{plan:#}");
    assert_fits("bulk-export-plan", &plan);
    assert!(plan["url"].as_str().unwrap().ends_with("/fhir/metadata"), "{plan:#}");
    assert!(plan["notes"].to_string().contains("TYPE?_count=500 of Patient"), "{plan:#}");
    assert!(!scene.path("out").exists());
    assert!(!scene.log.exists() || scene.seen().is_empty());
    for wrong in [
        &["--since", "2024-01-01"][..],
        &["--type", "patient"],
        &["--type-filter", "Observation?_count=1"],
        &["--patient", "1", "--method", "get"],
        &["--level", "group"],
        &["--output-dir", "ftp://bucket/x"],
    ] {
        let mut command = scene.desk.fhirctl();
        command.args(["bulk-export", "a"]).args(wrong);
        if wrong[0] != "--output-dir" {
            command.args(["--output-dir", "out"]);
        }
        assert_eq!(command.output().unwrap().status.code(), Some(64), "{wrong:?}");
    }
}

#[test]
fn purge_destroys_what_the_export_wrote_and_records_it() {
    let scene = Scene::new("");
    assert_eq!(scene.export("out", &[]).1, 0);
    let folder = scene.path("out");
    std::fs::write(folder.join("mine.txt"), "kept").unwrap();
    assert_eq!(scene.desk.run(&["bulk-export", "purge", "out"]).status.code(), Some(64));
    assert!(folder.join("receipt.json").exists());
    assert_eq!(scene.desk.run(&["--yes", "bulk-export", "purge", "out"]).status.code(), Some(0));
    let left: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["mine.txt"]);
    let (log, _) = scene.desk.json(&["audit", "log", "--command", "bulk-export"]);
    let text = log.to_string();
    assert!(text.contains("purged from"), "{text}");
    let _ = &scene.sandbox;
}

/// Every resource of an export by type and id.
fn resources(folder: &Path) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for content in data(folder).values() {
        for line in String::from_utf8(content.clone()).unwrap().lines() {
            let resource: Value = serde_json::from_str(line).unwrap();
            let key = format!("{}/{}", resource["resourceType"], resource["id"]);
            all.insert(key, resource);
        }
    }
    all
}

#[test]
fn a_crawl_brings_what_an_export_does_and_goes_on_when_killed() {
    let scene = Scene::new("");
    assert_eq!(scene.export("bulk", &[]).1, 0);
    let expected = resources(&scene.path("bulk"));
    let flags = ["--mode", "crawl", "--param", "_count=7"];
    let (result, code) = scene.export("crawl", &flags);
    assert_eq!((code, &result["status"]), (0, &json!("complete")), "{result:#}");
    assert_eq!(resources(&scene.path("crawl")), expected);
    assert_eq!(scene.desk.json(&["bulk-export", "verify", "crawl"]).1, 0);
    let pages = scene.seen().len();
    let mut kills = 0;
    let mut done = false;
    for attempt in 0..60_u64 {
        let mut child = scene
            .command("killed", &flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(20 + attempt * 12));
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(0));
            done = true;
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(done && kills > 0, "{kills} kills");
    assert_eq!(resources(&scene.path("killed")), expected);
    assert!(scene.seen().len() > pages);
}

#[test]
fn without_a_declared_export_the_data_are_searched_for() {
    let scene = Scene::with(&["--as", "blaze"], "", ", vendor: blaze");
    let (result, code) = scene.export("out", &["--mode", "auto"]);
    assert_eq!(code, 0, "{result:#}");
    let receipt: Value =
        serde_json::from_slice(&std::fs::read(scene.path("out").join("receipt.json")).unwrap())
            .unwrap();
    assert_eq!(receipt["mode"], "crawl");
    assert!(result["totals"]["resources"].as_u64().unwrap() > 10);
}
