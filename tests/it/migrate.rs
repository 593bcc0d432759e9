//! `migrate` between two sandboxes: equality is proven, and what is not equal is found.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Desk, Sandbox, assert_schema};

struct Scene {
    _sandboxes: [Sandbox; 2],
    desk: Desk,
    old: String,
    new: String,
}

impl Scene {
    fn new() -> Scene {
        Scene::with(&[])
    }

    /// `more`: of the source.
    fn with(more: &[&str]) -> Scene {
        let bulk = ["--bulk", "wait=20ms", "--bulk", "retry_after=0"];
        let sandbox = |args: &[&str]| {
            let all: Vec<&str> = args.iter().copied().chain(bulk).collect();
            Sandbox::with(&all)
        };
        let mut args = vec!["--patients", "6", "--seed", "1"];
        args.extend(more);
        let sandboxes = [sandbox(&args), sandbox(&["--patients", "1", "--seed", "2"])];
        let [old, new] = [0, 1].map(|at| sandboxes[at].line["url"].as_str().unwrap().to_owned());
        let desk = Desk::new(&format!(
            "version: 1\nservers:\n  - {{name: old, url: \"{old}\"}}\n  - {{name: new, url: \"{new}\"}}\n"
        ));
        Scene { _sandboxes: sandboxes, desk, old, new }
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = self.desk.fhirctl();
        command
            .args(["-o", "json", "migrate", "old", "new", "--output-dir", "m", "--yes"])
            .args(["--poll-floor", "10ms", "--poll-ceiling", "100ms"])
            .args(more);
        command
    }

    fn migrate(&self, more: &[&str]) -> (Value, i32) {
        let output = self.command(more).output().unwrap();
        let value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| json!(String::from_utf8_lossy(&output.stderr)));
        let code = output.status.code().unwrap();
        if value.is_object() {
            assert_schema("migrate", &value);
            assert_schema("migration-report", &self.report());
        }
        (value, code)
    }

    fn folder(&self) -> PathBuf {
        self.desk.dir.path().join("m")
    }

    fn report(&self) -> Value {
        let text = std::fs::read_to_string(self.folder().join("migration.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The first exported resource of a type.
    fn first(&self, resource_type: &str) -> Value {
        let file = self.folder().join(format!("export/{resource_type}.001.ndjson"));
        let text = std::fs::read_to_string(file).unwrap();
        serde_json::from_str(text.lines().next().unwrap()).unwrap()
    }
}

/// Talks to a server as somebody else does.
fn ask(url: &str, method: &str, path: &str, body: &str) -> String {
    let rest = url.trim_start_matches("http://");
    let (address, base) = rest.split_once('/').unwrap_or((rest, ""));
    let base = if base.is_empty() { String::new() } else { format!("/{base}") };
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
    answer
}

fn codes(output: &Value, severity: &str) -> Vec<String> {
    let findings = output["findings"].as_array().unwrap();
    let findings = findings.iter().filter(|it| it["severity"] == severity);
    findings.map(|it| it["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn equality_is_proven_and_told_in_files_for_their_owner_alone() {
    let scene = Scene::new();
    let (output, code) = scene.migrate(&[]);
    assert_eq!((code, &output["status"]), (0, &json!("proven")), "{output:#}");
    assert_eq!(output["sample"]["compared"], output["sample"]["equal"]);
    assert!(output["references"]["resolved"].as_u64().unwrap() > 0, "{output:#}");
    assert_eq!(output["references"]["unresolved"], 0);
    let patients = output["types"].as_array().unwrap();
    let patients = patients.iter().find(|it| it["type"] == "Patient").unwrap();
    assert_eq!((&patients["source"], &patients["exported"]), (&json!(6), &json!(6)));
    for name in ["migration.json", "migration.md", "migrate.json"] {
        let facts = std::fs::metadata(scene.folder().join(name)).unwrap();
        assert_eq!(facts.permissions().mode() & 0o777, 0o600, "{name}");
    }
    let markdown = std::fs::read_to_string(scene.folder().join("migration.md")).unwrap();
    assert!(markdown.contains("proven") && markdown.contains("| Patient | 6 | 6 |"), "{markdown}");
    // Once more: nothing is written, and the same is looked at.
    let version = ask(&scene.new, "GET", &format!("Patient/{}", id(&scene)), "");
    let (again, code) = scene.migrate(&["--no-input"]);
    assert_eq!((code, &again["sample"]["seed"]), (0, &output["sample"]["seed"]));
    let after = ask(&scene.new, "GET", &format!("Patient/{}", id(&scene)), "");
    assert_eq!(version.lines().last(), after.lines().last());
    assert_eq!(again["export"]["was_done"], true);
    let log = String::from_utf8(scene.desk.run(&["audit", "log", "-o", "json"]).stdout).unwrap();
    assert!(log.contains("migration from old: proven"), "{log}");
}

fn id(scene: &Scene) -> String {
    scene.first("Patient")["id"].as_str().unwrap().to_owned()
}

#[test]
fn what_was_changed_or_deleted_on_the_target_is_found() {
    let scene = Scene::new();
    let (output, code) = scene.migrate(&["--sample", "all"]);
    assert_eq!((code, &output["status"]), (0, &json!("proven")), "{output:#}");
    let mut patient = scene.first("Patient");
    let id = patient["id"].as_str().unwrap().to_owned();
    let family = patient["name"][0]["family"].clone();
    patient["name"][0]["family"] = json!("Somebody-Else");
    ask(&scene.new, "PUT", &format!("Patient/{id}"), &patient.to_string());
    let (output, code) = scene.migrate(&["--sample", "all"]);
    assert_eq!((code, &output["status"]), (65, &json!("differs")), "{output:#}");
    assert_eq!(codes(&output, "error"), ["bulk.content_differs"]);
    assert_eq!(
        output["differences"],
        json!([{"path": "Patient.name.family", "kind": "changed", "resources": 1}])
    );
    let report = scene.report();
    assert_eq!(report["resources"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&report["resources"][0]["id"], &report["resources"][0]["differences"][0]["path"]),
        (&json!(id), &json!("Patient.name[0].family"))
    );
    // Neither value stands anywhere, and what is printed names no resource.
    let markdown = std::fs::read_to_string(scene.folder().join("migration.md")).unwrap();
    let table = scene.command(&["--sample", "all", "-o", "table"]).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("Patient.name.family"), "{table}");
    for text in [&report.to_string(), &output.to_string(), &markdown, &table] {
        assert!(!text.contains("Somebody-Else") && !text.contains(family.as_str().unwrap()));
    }
    assert!(!output.to_string().contains(&id) && !table.contains(&id) && !markdown.contains(&id));

    let observation = scene.first("Observation")["id"].as_str().unwrap().to_owned();
    ask(&scene.new, "DELETE", &format!("Observation/{observation}"), "");
    let (output, code) = scene.migrate(&["--sample", "all"]);
    assert_eq!(code, 65);
    let mut found = codes(&output, "error");
    found.sort();
    assert_eq!(found, ["bulk.content_differs", "bulk.count_differs", "bulk.resource_missing"]);

    // Written once more, both are as they were.
    let (output, code) = scene.migrate(&["--sample", "all", "--again"]);
    assert_eq!((code, &output["status"]), (0, &json!("proven")), "{output:#}");
}

#[test]
fn a_reference_that_leads_nowhere_is_told_with_where_it_is_lost() {
    let scene = Scene::new();
    // The source has it, the scope leaves it out.
    let (output, code) = scene.migrate(&["--type", "Observation", "--sample", "all"]);
    assert_eq!((code, codes(&output, "error")), (65, vec!["bulk.reference_unresolved".to_owned()]));
    assert_eq!(scene.report()["unresolved"][0]["is_on_source"], true);
    // Another scope is another folder.
    assert_eq!(scene.migrate(&[]).1, 73);
}

#[test]
fn what_dangles_on_the_source_too_is_no_fault_of_the_migration() {
    let scene = Scene::new();
    let basic = r##"{"resourceType":"Observation","id":"dangling","status":"final","code":{"text":"x"},
        "subject":{"reference":"Patient/nobody"},"focus":[{"reference":"OLD/Patient/nobody"},{"reference":"#c"}]}"##;
    ask(&scene.old, "PUT", "Observation/dangling", &basic.replace("OLD", &scene.old));
    let (output, code) = scene.migrate(&["--sample", "all"]);
    assert_eq!((code, codes(&output, "error").len()), (0, 0), "{output:#}");
    assert_eq!(codes(&output, "warning"), ["bulk.reference_unresolved"; 2]);
    let references = &output["references"];
    assert_eq!((&references["nowhere"], &references["to_source"]), (&json!(1), &json!(1)));
    assert_eq!(references["contained"], 1);
}

#[test]
fn nothing_is_written_without_a_yes_or_into_the_server_itself() {
    let scene = Scene::new();
    let run = |args: &[&str]| {
        let output = scene.desk.run(args);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, error) = run(&["migrate", "old", "new", "--output-dir", "m"]);
    assert!(code == 64 && error.contains("--yes"), "{error}");
    assert!(!scene.folder().join("export").exists());
    assert_eq!(run(&["--yes", "migrate", "old", "old"]).0, 64);
    assert_eq!(run(&["--yes", "migrate", "old", "gone"]).0, 66);
    let twin = format!("\n  - {{name: twin, url: \"{}/\"}}\n", scene.old);
    let text = std::fs::read_to_string(scene.desk.inventory()).unwrap() + &twin;
    std::fs::write(scene.desk.inventory(), text.replace("\n\n", "\n")).unwrap();
    assert_eq!(run(&["--yes", "migrate", "old", "twin"]).0, 64);
    let (plan, code) = scene.desk.json(&["migrate", "old", "new", "--dry-run"]);
    assert_eq!(code, 0);
    assert_schema("migrate-plan", &plan);
    assert_eq!((&plan["family"], &plan["sample_per_type"]), (&json!("bundle"), &json!(100)));
    assert!(plan["request"]["url"].as_str().unwrap().ends_with("/$export"), "{plan}");
    assert_eq!(run(&["deactivate", "new"]).0, 0);
    assert_eq!(run(&["--yes", "migrate", "old", "new"]).0, 64);
}

#[test]
fn a_folder_of_its_own_is_found_again_and_what_is_bad_is_not_imported() {
    let scene = Scene::with(&["--bulk", "traps=line-half"]);
    let args =
        ["--yes", "migrate", "old", "new", "--poll-floor", "10ms", "--poll-ceiling", "100ms"];
    let output = scene.desk.run(&args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(65) && error.contains("nothing was written"), "{error}");
    assert!(scene.desk.dir.path().join("state/fhirctl/migrations/old-to-new/export").is_dir());
    let imports = scene.desk.dir.path().join("state/fhirctl/imports");
    assert!(!imports.exists());
}

#[test]
fn an_export_that_was_touched_is_not_imported_and_a_second_process_is_refused() {
    let scene = Scene::new();
    std::fs::create_dir_all(scene.folder()).unwrap();
    let lock = std::fs::File::create(scene.folder().join("lock")).unwrap();
    lock.lock().unwrap();
    let (error, code) = scene.migrate(&[]);
    assert!(code == 75 && error.to_string().contains("works on this migration"), "{error}");
    drop(lock);
    // The import cannot be made: its ledger's place is taken.
    let imports = scene.desk.dir.path().join("state/fhirctl/imports");
    std::fs::create_dir_all(imports.parent().unwrap()).unwrap();
    std::fs::write(&imports, "").unwrap();
    assert_eq!(scene.migrate(&[]).1, 73);
    std::fs::remove_file(&imports).unwrap();
    let file = scene.folder().join("export/Patient.001.ndjson");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("Patient", "PatienT", 1)).unwrap();
    let (error, code) = scene.migrate(&[]);
    assert!(code == 65 && error.to_string().contains("is not what was exported"), "{error}");
    std::fs::write(&file, text).unwrap();
    assert_eq!(scene.migrate(&[]).1, 0);
}

#[test]
fn killed_at_any_instant_it_goes_on_and_ends_equal() {
    let scene = Scene::new();
    let mut done = false;
    for attempt in 0..120_u64 {
        let mut child = scene
            .command(&["--sample", "all", "--max-entries", "3"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(5 + attempt * 13));
        match child.try_wait().unwrap() {
            Some(status) => {
                assert_eq!(status.code(), Some(0), "attempt {attempt}");
                done = true;
                break;
            }
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
    }
    assert!(done);
    let report = scene.report();
    assert_eq!((&report["status"], &report["import"]["rejected"]), (&json!("proven"), &json!(0)));
    let types = report["types"].as_array().unwrap();
    assert!(types.iter().all(|it| it["equal"] == it["exported"]), "{report:#}");
}

#[test]
fn a_target_that_fetches_by_itself_is_held_against_the_export_too() {
    let scene = Scene::new();
    let (output, code) =
        scene.migrate(&["--family", "hapi", "--serve", "127.0.0.1:0", "--compress", "gzip"]);
    assert_eq!((code, &output["status"]), (0, &json!("proven")), "{output:#}");
    assert_eq!(output["import"]["family"], "hapi");
    ask(&scene.new, "DELETE", &format!("Patient/{}", any_patient(&scene)), "");
    assert_eq!(scene.migrate(&[]).1, 65);
}

/// Any patient of the source.
fn any_patient(scene: &Scene) -> String {
    let answer = ask(&scene.old, "GET", "Patient?_count=1", "");
    let bundle: Value = serde_json::from_str(&answer[answer.find('{').unwrap()..]).unwrap();
    bundle["entry"][0]["resource"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_source_without_an_export_is_searched_page_by_page() {
    let scene = Scene::new();
    let (plan, _) = scene.desk.json(&["migrate", "old", "new", "--dry-run", "--mode", "crawl"]);
    assert_schema("migrate-plan", &plan);
    assert_eq!((&plan["mode"], &plan["request"]), (&json!("crawl"), &Value::Null));
    let (output, code) = scene.migrate(&["--mode", "crawl"]);
    assert_eq!((code, &output["status"]), (0, &json!("proven")), "{output:#}");
    assert_eq!(output["export"]["mode"], "crawl");
}

#[test]
fn a_job_of_the_inventory_migrates_and_ends_as_the_command_does() {
    let scene = Scene::new();
    let mut text = std::fs::read_to_string(scene.desk.inventory()).unwrap();
    text.push_str("jobs:\n  - {name: move, migrate: old, to: new}\n");
    std::fs::write(scene.desk.inventory(), text).unwrap();
    let run = |yes: &[&str]| {
        let mut all = vec!["run", "move", "--poll-floor", "10ms", "--poll-ceiling", "100ms"];
        all.extend(yes);
        scene.desk.json(&all)
    };
    let unconfirmed = scene.desk.fhirctl().args(["run", "move"]).output().unwrap();
    assert_eq!(unconfirmed.status.code(), Some(64), "nothing is written that nobody agreed to");
    let (done, code) = run(&["--yes"]);
    assert_eq!((code, &done["kind"]), (0, &json!("migrate")), "{done:#}");
    assert_schema("run", &done);
    assert_schema("migrate", &done["result"]);
}
