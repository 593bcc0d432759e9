//! One folder is of one export: begun at once, moved, copied, refused, left half made.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{Scene, assert_fits, data, kill_at};

const MARKER: &str = ".fhirctl-export.json";

fn kick_offs(scene: &Scene) -> usize {
    scene.seen().iter().filter(|it| it.contains("/$export")).count()
}

/// The exports that `bulk-export list` shows, and whatever it warns of.
fn listed(scene: &Scene) -> (Vec<Value>, String) {
    let output = scene.desk.run(&["-o", "json", "bulk-export", "list"]);
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_fits("bulk-export-list", &list);
    let warnings = String::from_utf8(output.stderr).unwrap();
    (list["exports"].as_array().unwrap().clone(), warnings)
}

fn message(error: &Value) -> &str {
    error["message"].as_str().unwrap_or_else(|| panic!("{error:#}"))
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn of_processes_that_begin_at_once_in_a_new_folder_one_asks_the_server() {
    let scene = Scene::new("");
    for round in 0..6 {
        let dir = format!("out-{round}");
        let before = if scene.log.exists() { kick_offs(&scene) } else { 0 };
        let children: Vec<_> = (0..4)
            .map(|_| {
                let mut command = scene.command(&dir, &["--type", "Patient"]);
                command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let mut done = 0;
        for child in children {
            let output = child.wait_with_output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            match output.status.code() {
                Some(0) => done += 1,
                Some(75) => assert!(errors.contains("works on this export already"), "{errors}"),
                other => panic!("{other:?}: {errors}"),
            }
        }
        assert!(done > 0);
        assert_eq!(kick_offs(&scene) - before, 1, "{dir}");
        assert_eq!(scene.desk.json(&["bulk-export", "verify", &dir]).1, 0);
    }
    let (exports, warnings) = listed(&scene);
    assert_eq!((exports.len(), warnings.as_str()), (6, ""));
    assert!(exports.iter().all(|it| it["phase"] == "complete"), "{exports:#?}");
}

#[test]
fn what_is_done_to_a_copy_is_not_done_to_the_original() {
    let scene = Scene::new("");
    assert_eq!(scene.export("out", &[]).1, 0);
    let expected = data(&scene.path("out"));
    copy(&scene.path("out"), &scene.path("copy"));
    for args in [
        &["--yes", "bulk-export", "purge", "copy"][..],
        &["bulk-export", "status", "copy"],
        &["bulk-export", "resume", "copy"],
        &["bulk-export", "cancel", "copy"],
        &["bulk-export", "a", "--level", "system", "--output-dir", "copy"],
    ] {
        let output = scene.desk.run(args);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(73), "{args:?}: {errors}");
        let both = ["copy", "out"].map(|dir| scene.path(dir).display().to_string());
        assert!(both.iter().all(|dir| errors.contains(dir)), "{args:?}: {errors}");
    }
    assert_eq!(scene.desk.json(&["bulk-export", "verify", "copy"]).1, 0);
    assert!(data(&scene.path("out")) == expected && data(&scene.path("copy")) == expected);
    // By another name it is the same folder.
    std::os::unix::fs::symlink(scene.path("out"), scene.path("link")).unwrap();
    assert_eq!(scene.export("link", &[]).0["was_done"], true);
}

#[test]
fn a_moved_folder_is_gone_on_with_where_it_is() {
    let scene = Scene::new("traps=job-forever");
    assert_eq!(scene.export("out", &["--max-wait", "100ms"]).1, 75);
    std::fs::rename(scene.path("out"), scene.path("moved")).unwrap();
    let (status, code) = scene.desk.json(&["bulk-export", "status", "moved"]);
    let moved = scene.path("moved").canonicalize().unwrap().display().to_string();
    assert_eq!((code, &status["exports"][0]["output_dir"]), (0, &json!(moved)), "{status:#}");
    let before = kick_offs(&scene);
    assert_eq!(scene.export("moved", &["--max-wait", "100ms"]).1, 75);
    assert_eq!(kick_offs(&scene), before);
    assert!(!scene.path("out").exists());
    assert_eq!(listed(&scene).0[0]["output_dir"], json!(moved));
    // Another export has the place where it was; both are left in peace.
    assert_eq!(scene.export("out", &["--max-wait", "100ms"]).1, 75);
    assert_eq!(scene.desk.run(&["--yes", "bulk-export", "purge", "moved"]).status.code(), Some(0));
    assert!(!scene.path("moved").exists() && scene.path("out").join(MARKER).exists());
    assert_eq!(listed(&scene).0.len(), 1);
}

#[test]
fn what_ended_for_good_is_not_shown_as_going_on() {
    for (trap, exit) in [("job-failed", 69), ("location-missing", 69), ("manifest-html", 65)] {
        let scene = Scene::new(&format!("traps={trap}"));
        assert_eq!(scene.export("out", &[]).1, exit, "{trap}");
        let (status, _) = scene.desk.json(&["bulk-export", "status", "out"]);
        assert_fits("bulk-export-status", &status);
        let export = &status["exports"][0];
        assert_eq!(
            (&export["phase"], &export["exit_code"], export["finished_at"].is_string()),
            (&json!("failed"), &json!(exit), true),
            "{trap}: {status:#}"
        );
        let (going_on, _) = scene.desk.json(&["bulk-export", "status"]);
        assert_eq!(going_on["exports"], json!([]), "{trap}");
    }
}

#[test]
fn what_no_server_took_binds_no_folder() {
    let scene = Scene::with(&["--as", "blaze"], "", ", vendor: blaze");
    let (refused, code) = scene.export("out", &["--type", "Patient"]);
    assert_eq!(code, 69, "{refused:#}");
    let (result, code) = scene.export("out", &["--type", "Patient", "--mode", "crawl"]);
    assert_eq!((code, &result["status"]), (0, &json!("complete")), "{result:#}");
    assert_eq!(scene.desk.json(&["bulk-export", "verify", "out"]).1, 0);
    // What was fetched is not given up for another request.
    let (error, code) = scene.export("out", &["--type", "Observation", "--mode", "crawl"]);
    assert_eq!(code, 73, "{error:#}");
    assert_eq!(listed(&scene).0.len(), 1);
}

#[test]
fn a_folder_of_somebody_else_is_left_as_it_is() {
    let scene = Scene::new("");
    let refused = |dir: &str, why: &str| {
        let (error, code) = scene.export(dir, &[]);
        assert_eq!(code, 73, "{dir}: {error:#}");
        assert!(message(&error).contains(why), "{dir}: {error:#}");
    };
    refused(".", "holds something else already");
    std::fs::create_dir(scene.path("other")).unwrap();
    std::fs::write(scene.path("other").join("notes.txt"), "mine").unwrap();
    refused("other", "notes.txt");
    assert_eq!(std::fs::read_dir(scene.path("other")).unwrap().count(), 1);
    refused("/dev/null", "/dev/null");
    assert!(listed(&scene).0.is_empty());
    // An empty one becomes its owner's alone.
    let folder = scene.path("empty");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(scene.export("empty", &["--type", "Patient"]).1, 0);
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn killed_in_its_first_steps_it_leaves_nothing_that_list_warns_of() {
    let scene = Scene::new("");
    let library = kill_at(scene.desk.dir.path());
    let ledgers = scene.path("state/fhirctl/exports");
    let mut kills = 0;
    for at in 1..30 {
        let mut killed = scene.command(&format!("step-{at}"), &["--type", "Patient"]);
        killed.env("LD_PRELOAD", &library).env("KILL_AT", at.to_string());
        kills += u32::from(killed.output().unwrap().status.code().is_none());
        assert_eq!(listed(&scene).1, "", "step {at}");
    }
    assert!(kills > 20, "{kills} kills");
    // What an earlier version left: no table at all, and one that does not say what it is of.
    for (number, table) in [(1, ""), (2, "CREATE TABLE fact (key TEXT, value TEXT);")] {
        let ledger = ledgers.join(format!("00000000-0000-4000-8000-00000000000{number}"));
        std::fs::create_dir(&ledger).unwrap();
        let database = rusqlite::Connection::open(ledger.join("ledger.db")).unwrap();
        database.execute_batch(table).unwrap();
        File::create(ledger.join("lock")).unwrap();
    }
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    let entries = || std::fs::read_dir(&ledgers).unwrap().map(|entry| entry.unwrap().path());
    let hidden = |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with('.');
    assert!(entries().any(|path| hidden(&path)));
    for path in entries() {
        for file in [path.join("lock"), path] {
            if let Ok(file) = File::open(file) {
                file.set_modified(long_ago).unwrap();
            }
        }
    }
    let (exports, warnings) = listed(&scene);
    assert_eq!(warnings, "");
    let left: Vec<_> = entries().collect();
    assert_eq!(left.len(), exports.len(), "{left:#?}");
    // Whatever was left, the folder of each is still one to go on with.
    for at in [1, 8, 12, 16, 20, 24] {
        let (result, code) = scene.export(&format!("step-{at}"), &["--type", "Patient"]);
        assert_eq!(code, 0, "step {at}: {result:#}");
    }
}

#[test]
fn whatever_the_receipt_does_not_know_is_told() {
    let scene = Scene::new("traps=error-information");
    assert_eq!(scene.export("out", &["--type", "Patient"]).1, 0);
    let folder = scene.path("out");
    std::fs::write(folder.join("notes.txt"), "x").unwrap();
    std::fs::write(folder.join(".hidden.part"), "x").unwrap();
    std::fs::create_dir_all(folder.join("more/data")).unwrap();
    std::fs::write(folder.join("error/extra"), "x").unwrap();
    let (verified, code) = scene.desk.json(&["bulk-export", "verify", "out"]);
    assert_eq!(code, 65, "{verified:#}");
    let problems = verified["problems"].as_array().unwrap();
    let files: Vec<&str> = problems.iter().map(|it| it["file"].as_str().unwrap()).collect();
    assert_eq!(files, [".hidden.part", "more", "notes.txt", "error/extra"]);
}
