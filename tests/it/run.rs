//! Jobs of the inventory: where they go, what they expect, when they stop, and what they remember.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Desk, Sandbox, assert_schema};

/// A sandbox's server `a`, and a desk whose inventory has these jobs.
struct Scene {
    _sandbox: Sandbox,
    desk: Desk,
    url: String,
    log: PathBuf,
}

impl Scene {
    fn new(bulk: &[&str], jobs: &str) -> Scene {
        let desk = Desk::new("");
        let log = desk.dir.path().join("requests.ndjson");
        let mut args = vec!["--patients", "5", "--bulk", "retry_after=0"];
        args.extend(["--log", log.to_str().unwrap()]);
        for key in bulk {
            args.extend(["--bulk", key]);
        }
        let sandbox = Sandbox::with(&args);
        let url = sandbox.line["url"].as_str().unwrap().to_owned();
        let scene = Scene { _sandbox: sandbox, desk, url, log };
        scene.jobs(jobs);
        scene
    }

    /// Writes the inventory with these jobs.
    fn jobs(&self, jobs: &str) {
        let text = format!(
            "version: 1\nservers:\n  - {{name: a, url: \"{}\"}}\njobs:\n{}",
            self.url,
            jobs.lines().map(|job| format!("  - {{{job}}}\n")).collect::<String>()
        );
        std::fs::write(self.desk.inventory(), text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.desk.fhirctl();
        command.args(["-o", "json", "run"]).args(args);
        command.args(["--poll-floor", "10ms", "--poll-ceiling", "100ms"]);
        command
    }

    /// The result on standard output, or the error, and the exit code.
    fn run(&self, args: &[&str]) -> (Value, i32) {
        ended(&mut self.command(args))
    }

    fn path(&self, below: &str) -> PathBuf {
        self.desk.dir.path().join(below)
    }

    fn book(&self, job: &str) -> Value {
        let path = self.path(&format!("state/fhirctl/jobs/{job}.json"));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// The queries of every kick-off that the server saw.
    fn kick_offs(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|line| line["path"].as_str().unwrap().to_owned())
            .filter(|path| path.contains("$export"))
            .collect()
    }

    /// Talks to the server as somebody else does.
    fn write(&self, method: &str, path: &str, body: &str) {
        use std::io::{Read as _, Write as _};
        let address = self.url.trim_start_matches("http://").split('/').next().unwrap();
        let base = &self.url[self.url.find(address).unwrap() + address.len()..];
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(
            stream,
            "{method} {base}/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/fhir+json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
    }

    fn add_patients(&self, count: usize) {
        for number in 0..count {
            let id = format!("more-{number}");
            let body = format!(r#"{{"resourceType":"Patient","id":"{id}"}}"#);
            self.write("PUT", &format!("Patient/{id}"), &body);
        }
    }
}

fn ended(command: &mut Command) -> (Value, i32) {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let value = match output.stdout.is_empty() {
        // Notes may stand before an error.
        true => serde_json::from_str(errors.lines().last().unwrap_or_default()),
        false => serde_json::from_slice(&output.stdout),
    };
    let value = value.unwrap_or_else(|error| panic!("{error}: {errors}"));
    (value, output.status.code().unwrap())
}

fn message(error: &Value) -> &str {
    error["message"].as_str().unwrap_or_else(|| panic!("{error:#}"))
}

/// Zones between which the date differs at every instant.
const AHEAD: &str = "<+14>-14";
const BEHIND: &str = "<-12>12";

#[test]
fn an_export_job_goes_to_a_dated_folder_beside_the_inventory() {
    let scene = Scene::new(
        &["wait=20ms"],
        "name: nightly, export: a, level: system, types: [Patient], to: 'exports/{job}-{date}', deadline: 1h, expect: {Patient: '5', Basic: '0'}",
    );
    let (list, code) = scene.run(&[]);
    assert_eq!((code, &list["jobs"][0]["last_run"]), (0, &Value::Null), "{list:#}");
    assert_schema("run-list", &list);
    let elsewhere = tempfile::tempdir().unwrap();
    let inventory = scene.desk.inventory();
    let (first, code) = ended(
        scene
            .command(&["-i", inventory.to_str().unwrap(), "nightly"])
            .current_dir(elsewhere.path())
            .env("TZ", "UTC0"),
    );
    assert_eq!(code, 0, "{first:#}");
    assert_schema("run", &first);
    assert_schema("bulk-export", &first["result"]);
    assert_eq!((&first["verdict"], &first["late"]), (&json!("complete"), &json!(false)));
    assert_eq!(first["expectations"][1]["count"], 5);
    let begun = first["begun_at"].as_str().unwrap();
    let folder = PathBuf::from(first["places"][0].as_str().unwrap());
    assert!(folder.ends_with(format!("exports/nightly-{}", &begun[..10])), "{folder:?}");
    assert!(folder.starts_with(scene.desk.dir.path()));
    assert!(folder.join("receipt.json").is_file());
    use std::os::unix::fs::PermissionsExt as _;
    let book = scene.path("state/fhirctl/jobs/nightly.json");
    assert_eq!(std::fs::metadata(book).unwrap().permissions().mode() & 0o777, 0o600);
    // What is finished is not done again, and is no run to compare with itself.
    let text = std::fs::read_to_string(&inventory).unwrap();
    std::fs::write(&inventory, text.replace("{job}-{date}", &format!("{{job}}-{}", &begun[..10])))
        .unwrap();
    let (again, code) = scene.run(&["nightly"]);
    assert_eq!((code, &again["result"]["was_done"]), (0, &json!(true)), "{again:#}");
    assert_eq!(again["expectations"][1]["last_count"], Value::Null);
    assert_eq!(scene.kick_offs().len(), 1);
    let (list, _) = scene.run(&[]);
    assert_schema("run-list", &list);
    assert_eq!(list["jobs"][0]["last_run"]["verdict"], "complete");
    let table = scene.desk.run(&["run"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("nightly") && table.contains("complete"), "{table}");
}

#[test]
fn a_run_that_was_interrupted_goes_on_in_its_folder_on_another_day() {
    let job = "name: j, export: a, level: system, to: 'x/{date}'";
    let scene = Scene::new(&["wait=1500ms"], job);
    let (error, code) = ended(scene.command(&["j", "--max-wait", "200ms"]).env("TZ", AHEAD));
    assert_eq!(code, 75, "{error:#}");
    assert!(message(&error).contains("bulk.max_wait"), "{error:#}");
    let folder = scene.book("j")["pending"]["places"][0].clone();
    let (list, _) = scene.run(&[]);
    assert_schema("run-list", &list);
    assert_eq!(list["jobs"][0]["last_run"]["verdict"], "stopped");
    let (done, code) = ended(scene.command(&["j"]).env("TZ", BEHIND));
    assert_eq!((code, &done["went_on"], &done["places"][0]), (0, &json!(true), &folder));
    assert_eq!((scene.kick_offs().len(), &scene.book("j")["pending"]), (1, &Value::Null));
    // The next one is of its own day.
    let (next, code) = ended(scene.command(&["j"]).env("TZ", BEHIND));
    assert_eq!((code, &next["went_on"]), (0, &json!(false)), "{next:#}");
    assert_ne!(next["places"][0], folder);
}

#[test]
fn an_export_that_the_server_never_took_is_begun_anew() {
    let scene = Scene::new(&["wait=20ms"], "name: j, export: a, level: system, to: 'x/{date}'");
    let good = std::fs::read_to_string(scene.desk.inventory()).unwrap();
    let away = good.replace(&scene.url, "http://127.0.0.1:9/fhir");
    std::fs::write(scene.desk.inventory(), away).unwrap();
    let (error, code) = ended(scene.command(&["j"]).env("TZ", AHEAD));
    assert_eq!(code, 69, "{error:#}");
    std::fs::write(scene.desk.inventory(), good).unwrap();
    let (done, code) = ended(scene.command(&["j"]).env("TZ", BEHIND));
    assert_eq!((code, &done["went_on"]), (0, &json!(false)), "{done:#}");
}

#[test]
fn a_second_process_is_turned_away_and_what_a_killed_one_left_goes_on() {
    let scene = Scene::new(&["wait=1500ms"], "name: j, export: a, level: system, to: 'x/{date}'");
    let mut first = scene
        .command(&["j"])
        .env("TZ", AHEAD)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let took = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        scene.log.is_file() && !scene.kick_offs().is_empty()
    });
    assert!(took);
    assert_eq!(scene.run(&[]).0["jobs"][0]["running"], true);
    let (error, code) = scene.run(&["j"]);
    assert_eq!(code, 75, "{error:#}");
    assert!(message(&error).contains("works on this job"), "{error:#}");
    first.kill().unwrap();
    first.wait().unwrap();
    let folder = scene.book("j")["pending"]["places"][0].clone();
    let (done, code) = ended(scene.command(&["j"]).env("TZ", BEHIND));
    // Killed between the answer and its note, the ledger knows of no job: then it is a new run.
    if done["went_on"] == json!(true) {
        assert_eq!(done["places"][0], folder);
    }
    assert_eq!(code, 0, "{done:#}");
}

#[test]
fn unexpected_counts_are_held_until_somebody_accepts_them() {
    let job = |to: &str| {
        format!(
            "name: j, export: a, level: system, types: [Patient], to: {to}, expect: {{Patient: within 10% of last}}"
        )
    };
    let scene = Scene::new(&["wait=20ms"], &job("one"));
    let (first, code) = scene.run(&["j"]);
    assert_eq!((code, &first["expectations"][0]["verdict"]), (0, &json!("no_comparison")));
    scene.add_patients(5);
    for to in ["two", "three"] {
        scene.jobs(&job(to));
        let (run, code) = scene.run(&["j"]);
        assert_eq!(code, 65, "{run:#}");
        assert_schema("run", &run);
        assert_eq!(
            (&run["verdict"], &run["code"], &run["accepted"], &run["result"]["status"]),
            (
                &json!("unexpected"),
                &json!("bulk.count_unexpected"),
                &json!(false),
                &json!("complete")
            )
        );
        let expected = json!({
            "type": "Patient", "count": 10, "last_count": 5,
            "expectation": "within 10% of last", "verdict": "unexpected",
        });
        assert_eq!(run["expectations"], json!([expected]));
    }
    let table = scene.desk.run(&["run", "j"]);
    let text = String::from_utf8(table.stdout).unwrap();
    assert_eq!(table.status.code(), Some(65));
    assert!(text.contains("UNEXPECTED") && text.contains("--accept"), "{text}");
    let asked = scene.kick_offs().len();
    let (accepted, code) = scene.run(&["j", "--accept"]);
    assert_eq!((code, &accepted["result"]), (0, &Value::Null), "{accepted:#}");
    assert_schema("run", &accepted);
    assert_eq!(scene.kick_offs().len(), asked);
    // Seen again, it is as good as it was said to be.
    let (again, code) = scene.run(&["j"]);
    assert_eq!((code, &again["verdict"]), (0, &json!("accepted")), "{again:#}");
    assert_eq!(scene.kick_offs().len(), asked);
    scene.jobs(&job("four"));
    let (next, code) = scene.run(&["j"]);
    assert_eq!((code, &next["expectations"][0]["last_count"]), (0, &json!(10)), "{next:#}");
    // At once, with the run itself.
    scene.jobs(&job("five").replace("within 10% of last", "'>= 1000'"));
    let (taken, code) = scene.run(&["j", "--accept"]);
    assert_eq!((code, &taken["verdict"]), (0, &json!("accepted")), "{taken:#}");
    assert_eq!(scene.book("j")["last"]["places"], taken["places"]);
    let log = scene.desk.json(&["audit", "log"]).0.to_string();
    assert!(log.contains("job j (export): counts accepted"), "{log}");
}

#[test]
fn since_last_is_the_time_of_the_last_good_run() {
    let job = |to: &str, more: &str| {
        format!("name: j, export: a, level: system, types: [Patient], since: last, to: {to}{more}")
    };
    let scene = Scene::new(&["wait=20ms"], &job("one", ""));
    let (first, code) = scene.run(&["j"]);
    assert_eq!(code, 0, "{first:#}");
    let time = first["result"]["transaction_time"].as_str().unwrap();
    // A run whose counts are held moves nothing.
    scene.jobs(&job("two", ", expect: {Patient: '>= 1000'}"));
    assert_eq!(scene.run(&["j"]).1, 65);
    scene.jobs(&job("three", ""));
    assert_eq!(scene.run(&["j"]).1, 0);
    let since = |folder: &str| -> Value {
        let receipt = std::fs::read(scene.path(folder).join("receipt.json")).unwrap();
        serde_json::from_slice::<Value>(&receipt).unwrap()["request"]["since"].clone()
    };
    assert_eq!(
        [since("one"), since("two"), since("three")],
        [json!(null), json!(time), json!(time)]
    );
    // The same folder again means the changes that it holds.
    let (again, code) = scene.run(&["j"]);
    assert_eq!((code, &again["result"]["was_done"]), (0, &json!(true)), "{again:#}");
}

#[test]
fn the_same_export_is_asked_for_again_when_its_interval_is_over() {
    let job = |to: &str, interval: &str| {
        format!("name: j, export: a, level: system, to: {to}, min_interval: {interval}")
    };
    let scene = Scene::new(&["wait=20ms"], &job("one", "1h"));
    assert_eq!(scene.run(&["j"]).1, 0);
    scene.jobs(&job("two", "1h"));
    let (error, code) = scene.run(&["j"]);
    assert_eq!(code, 75, "{error:#}");
    let kicked_off = scene.book("j")["last"]["begun_at"].as_str().unwrap().to_owned();
    assert!(message(&error).contains("bulk.too_early"), "{error:#}");
    assert!(message(&error).contains(&kicked_off[..10]), "{error:#}");
    assert_eq!(scene.kick_offs().len(), 1);
    assert!(!scene.path("two").exists());
    // What is finished is looked at whenever that is.
    scene.jobs(&job("one", "1h"));
    assert_eq!(scene.run(&["j"]).1, 0);
    // The commands themselves keep to it; another scope is another export.
    let direct = |more: &[&str]| {
        let mut command = scene.desk.fhirctl();
        command.args(["-o", "json"]).args(more).args(["--poll-floor", "10ms"]);
        ended(&mut command)
    };
    let system =
        ["bulk-export", "a", "--level", "system", "--output-dir", "three", "--min-interval", "1h"];
    let (error, code) = direct(&system);
    assert_eq!(code, 75, "{error:#}");
    let sync = ["sync", "a", "--level", "system", "--output-dir", "kept", "--min-interval", "1h"];
    assert_eq!(direct(&sync).1, 75);
    let patients =
        ["bulk-export", "a", "--level", "patient", "--output-dir", "four", "--min-interval", "1h"];
    assert_eq!(direct(&patients).1, 0);
    // A rest of seconds is waited for.
    scene.jobs(&job("five", "1s"));
    assert_eq!(scene.run(&["j"]).1, 0);
    let waits = scene.command(&["j", "--min-interval", "2s"]).output().unwrap();
    assert_eq!(waits.status.code(), Some(0), "the folder is finished: nothing is waited for");
    scene.jobs(&job("six", "4s"));
    let waits = scene.command(&["j"]).output().unwrap();
    assert_eq!(waits.status.code(), Some(0), "{waits:?}");
    assert!(String::from_utf8_lossy(&waits.stderr).contains("waiting"), "{waits:?}");
    // Unless that is not wanted.
    scene.jobs(&job("seven", "1m"));
    assert_eq!(scene.run(&["j", "--wait", "0s"]).1, 75);
}

#[test]
fn a_vendor_that_says_too_recently_is_no_failure() {
    let scene =
        Scene::new(&["wait=20ms", "min_interval=1h"], "name: j, export: a, level: system, to: one");
    assert_eq!(scene.run(&["j"]).1, 0);
    scene.jobs("name: j, export: a, level: system, to: two");
    let (error, code) = scene.run(&["j"]);
    assert_eq!(code, 75, "{error:#}");
    assert!(message(&error).contains("bulk.too_early"), "{error:#}");
}

#[test]
fn a_run_stops_at_its_deadline_and_says_later_that_it_is_late() {
    let job = |deadline: &str| {
        format!("name: j, export: a, level: system, to: 'x/{{date}}', deadline: {deadline}")
    };
    let scene = Scene::new(&["wait=4s"], &job("1s"));
    // On a machine that is very slow the server is not asked within the time.
    let stopped = (0..20).any(|_| {
        let (error, code) = scene.run(&["j"]);
        assert_eq!(code, 75, "{error:#}");
        assert!(message(&error).contains("bulk.deadline"), "{error:#}");
        scene.kick_offs().len() == 1
    });
    assert!(stopped);
    let due = scene.book("j")["pending"]["due_at"].clone();
    assert!(due.is_string());
    // Its deadline is over: a new one holds for the rest, and it is late all the same.
    scene.jobs(&job("1h"));
    let (done, code) = scene.run(&["j"]);
    assert_eq!((code, &done["late"]), (0, &json!(true)), "{done:#}");
    assert_schema("run", &done);
    assert_eq!((&done["deadline"]["due_at"], &done["went_on"]), (&due, &json!(true)));
    assert!(done["late_ms"].as_u64().unwrap() > 0);
    assert_eq!(scene.run(&[]).0["jobs"][0]["last_run"]["late"], true);
}

#[test]
fn what_failed_for_good_or_was_changed_is_begun_anew_beside_it() {
    let scene =
        Scene::new(&["wait=20ms", "traps=job-failed"], "name: j, export: a, level: system, to: x");
    assert_eq!(scene.run(&["j"]).1, 69);
    assert_eq!(scene.book("j")["ended"]["verdict"], "failed");
    assert_eq!(scene.run(&["j"]).1, 69);
    assert_eq!(scene.kick_offs().len(), 2);
    assert!(scene.path("x").is_dir() && scene.path("x-2").is_dir());

    let scene = Scene::new(&["wait=1s"], "name: j, export: a, level: system, to: x");
    assert_eq!(scene.run(&["j", "--max-wait", "50ms"]).1, 75);
    scene.jobs("name: j, export: a, level: system, types: [Patient], to: x");
    let (done, code) = scene.run(&["j"]);
    assert_eq!((code, &done["went_on"]), (0, &json!(false)), "{done:#}");
    assert!(Path::new(done["places"][0].as_str().unwrap()).ends_with("x-2"));
}

#[test]
fn sync_and_import_are_jobs_too() {
    let scene = Scene::new(
        &["wait=20ms"],
        "name: keep, sync: a, level: system, types: [Patient], to: 'kept/{server}', expect: {Patient: '>= 5'}\n\
         name: load, import: a, from: kept/a/current\n\
         name: move, migrate: a, to: b",
    );
    let text = std::fs::read_to_string(scene.desk.inventory()).unwrap();
    let two = text.replace("jobs:", &format!("  - {{name: b, url: \"{}\"}}\njobs:", scene.url));
    std::fs::write(scene.desk.inventory(), two).unwrap();
    assert!(scene.desk.run(&["rename", "b", "c"]).status.success());
    assert_eq!(scene.run(&[]).0["jobs"][2]["place"], "c", "the target of a migration is a server");
    let (error, code) = scene.run(&["move", "--yes"]);
    assert_eq!(code, 64, "both are one server: {error:#}");
    for number in 1..3 {
        let (kept, code) = scene.run(&["keep"]);
        assert_eq!((code, &kept["result"]["run"]), (0, &json!(number)), "{kept:#}");
        assert_schema("run", &kept);
        assert_schema("sync", &kept["result"]);
        assert_eq!(kept["expectations"][0]["count"], 5);
    }
    assert!(scene.path("kept/a/current/Patient.ndjson").is_file());
    let (error, code) = scene.run(&["load"]);
    assert_eq!((code, error["hints"].to_string().contains("--yes")), (64, true), "{error:#}");
    let (loaded, code) = scene.run(&["load", "--yes"]);
    assert_eq!((code, &loaded["result"]["schema"]), (0, &json!("fhirctl/bulk-import/v1")));
    assert_schema("run", &loaded);
    assert_eq!((&loaded["expectations"], &loaded["accepted"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_job_that_is_wrong_is_told_with_its_line_and_an_unknown_one_by_its_name() {
    let scene = Scene::new(
        &[],
        "name: good, export: a, to: x\nname: bad, export: a, to: 'x/{day}', deadline: never",
    );
    let output = scene.desk.run(&["run", "good"]);
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stderr).unwrap();
    for told in
        ["servers.yaml:6:", "{day} is not known here; known: {date}", "bad deadline \"never\""]
    {
        assert!(text.contains(told), "{told}\n{text}");
    }
    scene.jobs("name: nightly, export: a, to: x, schedule: {time_zone: Nowhere/Atall}");
    let (error, code) = scene.run(&["nigthly"]);
    assert_eq!((code, &error["hints"][0]), (66, &json!("did you mean nightly?")));
    let (error, code) = scene.run(&["nightly"]);
    assert_eq!(code, 78, "{error:#}");
    assert!(message(&error).contains("Nowhere/Atall"));
}
