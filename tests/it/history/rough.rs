//! What the program says, from outside, of a history that cannot be used, and what it makes of odd ones.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use fhirctl::history::{Place, Settings, Store};
use fhirctl::model::{ErrorKind, Status};
use jiff::Timestamp;
use serde_json::Value;

use super::{HOUR, MINUTE, instant, reading, run_at};
use crate::support::{Desk, Sandbox};

/// A desk with one server that is well.
fn desk(sandbox: &Sandbox) -> Desk {
    let url = sandbox.url("local");
    Desk::new(&format!(
        "version: 1\nservers: [{{name: s, url: \"{url}\", schedule: {{every: 15m}}}}]\n"
    ))
}

fn database(desk: &Desk) -> PathBuf {
    desk.dir.path().join("servers.history.db")
}

/// Some hours that another program has seen.
fn imported(desk: &Desk) -> Vec<u8> {
    let mut csv = String::from("at,status,duration_ms\n");
    for quarter in 0..200 {
        let at = instant(super::MONDAY + quarter * 15 * MINUTE);
        writeln!(csv, "{at},up,{}", 100 + quarter).unwrap();
    }
    std::fs::write(desk.dir.path().join("seen.csv"), csv).unwrap();
    assert_eq!(exit(&desk.run(&["history", "import", "seen.csv", "--server", "s"])), 0);
    std::fs::read(database(desk)).unwrap()
}

fn exit(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// What looks back fails with this exit code, says this and what to do about it.
fn look_back_fails(desk: &Desk, code: i32, says: &str) {
    for args in [&["report", "summary"][..], &["status"], &["history", "status"]] {
        let output = desk.fhirctl().args(["-o", "json"]).args(args).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((exit(&output), output.stdout.len()), (code, 0), "{args:?}: {told}");
        let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        assert!(told["message"].as_str().unwrap().contains(says), "{args:?}: {told}");
        assert_ne!(told["hints"].as_array().map(Vec::len), Some(0), "{args:?}: {told}");
    }
}

/// A check gives its verdict, and warns that nobody will read of it.
fn check_warns(mut check: Command, says: &str) {
    let output = check.args(["-o", "json", "check"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(exit(&output), 0, "{told}");
    assert_eq!((&json["status"], &json["recorded"]), (&"healthy".into(), &false.into()), "{told}");
    assert!(told.contains("not in the history") && told.contains(says), "{told}");
}

#[test]
fn a_database_that_is_cut_off_is_told_and_left_alone() {
    let sandbox = Sandbox::with(&[]);
    let desk = desk(&sandbox);
    let whole = imported(&desk);
    let all = whole.len();
    for length in [50, 99, 100, 512, 4096, 5000, all / 2, all - 4096, all - 1] {
        std::fs::write(database(&desk), &whole[..length]).unwrap();
        look_back_fails(&desk, 65, "is damaged");
        check_warns(desk.fhirctl(), "is damaged");
        assert_eq!(std::fs::read(database(&desk)).unwrap(), whole[..length], "{length}");
    }
    std::fs::write(database(&desk), "a letter, and no database").unwrap();
    look_back_fails(&desk, 65, "no SQLite database");
    check_warns(desk.fhirctl(), "no SQLite database");
    // Nothing is in there that could be damaged.
    std::fs::write(database(&desk), "").unwrap();
    look_back_fails(&desk, 66, "no history");
    assert_eq!(std::fs::metadata(database(&desk)).unwrap().len(), 0, "looking makes nothing");
    assert_eq!(desk.json(&["check"]).0["recorded"], true);
}

#[test]
fn a_log_that_is_cut_off_costs_its_last_runs_and_no_more() {
    let sandbox = Sandbox::with(&[]);
    let from = desk(&sandbox);
    imported(&from);
    let log = |desk: &Desk| desk.dir.path().join("servers.history.db-wal");
    // Whoever has it open keeps the log from being brought in.
    let open = rusqlite::Connection::open(database(&from)).unwrap();
    let tables = "SELECT count(*) FROM sqlite_schema";
    open.query_row(tables, [], |row| row.get::<_, i64>(0)).unwrap();
    for _ in 0..4 {
        assert_eq!(from.json(&["check"]).0["recorded"], true);
    }
    let (base, whole) =
        (std::fs::read(database(&from)).unwrap(), std::fs::read(log(&from)).unwrap());
    let to = desk(&sandbox);
    let mut before = 200;
    for length in [0, 16, 32, 1000, whole.len() / 3, whole.len() / 2, whole.len() - 1, whole.len()]
    {
        let _ = std::fs::remove_file(to.dir.path().join("servers.history.db-shm"));
        std::fs::write(database(&to), &base).unwrap();
        std::fs::write(log(&to), &whole[..length]).unwrap();
        let (told, code) = to.json(&["history", "verify"]);
        assert_eq!((code, &told["verified"]), (0, &true.into()), "{length}: {told}");
        let readings = told["readings"].as_u64().unwrap();
        assert!((before..=204).contains(&readings), "{length}: {readings}");
        before = readings;
        assert_eq!(to.json(&["check"]).0["recorded"], true, "{length}");
        assert_eq!(to.json(&["history", "verify"]).0["readings"], readings + 1);
    }
    assert_eq!(before, 204);
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    let sandbox = Sandbox::with(&[]);
    let desk = desk(&sandbox);
    let theirs = rusqlite::Connection::open(database(&desk)).unwrap();
    theirs.execute_batch("CREATE TABLE customer (name TEXT)").unwrap();
    drop(theirs);
    let before = std::fs::read(database(&desk)).unwrap();
    look_back_fails(&desk, 65, "another program");
    check_warns(desk.fhirctl(), "another program");
    assert_eq!(std::fs::read(database(&desk)).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_somebody_holds_keeps_no_verdict_back() {
    let sandbox = Sandbox::with(&[]);
    let desk = desk(&sandbox);
    imported(&desk);
    let holder = rusqlite::Connection::open(database(&desk)).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut check = desk.fhirctl();
    check.args(["--timeout", "6s"]);
    check_warns(check, "locked by another process");
    let nagios = desk.run(&["check", "-o", "nagios"]);
    assert_eq!(exit(&nagios), 0);
    let line = String::from_utf8(nagios.stdout).unwrap();
    assert_eq!((line.lines().count(), line.contains("OK")), (1, true), "{line}");
    // Whoever only reads reads what was there before.
    let (told, code) = desk.json(&["history", "status"]);
    assert_eq!((code, &told["readings"]), (0, &200.into()));
    let settings = Settings { place: Place::Sqlite(database(&desk)), tls: None };
    let patience = std::time::Duration::from_millis(50);
    let store = Store::open_within(&settings, patience).await.unwrap();
    assert_eq!(store.try_write().await.unwrap_err().kind, ErrorKind::Resumable);
    holder.execute_batch("ROLLBACK").unwrap();
    store.try_write().await.unwrap();
    assert_eq!(desk.json(&["check"]).0["recorded"], true);
}

/// The program with the rights of a user: root writes what is read-only, unless it gives that up.
fn as_user(desk: &Desk) -> Command {
    let plain = desk.fhirctl();
    if !nix::unistd::geteuid().is_root() {
        return plain;
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override"]);
    command.arg(plain.get_program()).current_dir(desk.dir.path());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_cannot_be_written_can_be_read() {
    let sandbox = Sandbox::with(&[]);
    let place = tempfile::tempdir().unwrap();
    let desk = Desk::new(&format!(
        "version: 1\nhistory: {{url: \"sqlite:{}/h.db\"}}\nservers: [{{name: s, url: \"{}\"}}]\n",
        place.path().display(),
        sandbox.url("local")
    ));
    assert_eq!(desk.json(&["check"]).0["recorded"], true);
    let file = place.path().join("h.db");
    for (what, path, closed, open) in
        [("file", file.as_path(), 0o400, 0o600), ("folder", place.path(), 0o500, 0o700)]
    {
        set_mode(path, closed);
        let status = as_user(&desk).args(["-o", "json", "history", "status"]).output().unwrap();
        let told: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        assert_eq!((exit(&status), &told["readings"]), (0, &1.into()), "{what}: {status:?}");
        assert_eq!(exit(&as_user(&desk).arg("status").output().unwrap()), 0, "{what}");
        let report = as_user(&desk).args(["report", "summary"]).output().unwrap();
        assert_eq!(exit(&report), 0, "{what}: {report:?}");
        check_warns(as_user(&desk), "can be read only");
        let compact = as_user(&desk).args(["history", "compact"]).output().unwrap();
        assert_eq!(exit(&compact), 74, "{what}: {compact:?}");
        set_mode(path, open);
    }
    assert_eq!(desk.json(&["check"]).0["recorded"], true);
    assert_eq!(desk.json(&["history", "verify"]).0["readings"], 2);
}

#[test]
fn a_file_that_several_import_at_the_same_moment_is_there_once() {
    let sandbox = Sandbox::with(&[]);
    let desk = desk(&sandbox);
    imported(&desk);
    std::fs::remove_file(database(&desk)).unwrap();
    let import = |_| {
        let args = ["history", "import", "seen.csv", "--server", "s"];
        desk.fhirctl().args(args).stdout(Stdio::null()).spawn().unwrap()
    };
    let all: Vec<_> = (0..4).map(import).collect();
    for mut one in all {
        assert_eq!(one.wait().unwrap().code(), Some(0));
    }
    assert_eq!(desk.json(&["history", "verify"]).0["readings"], 200);
}

#[test]
fn a_summary_with_planned_work_tells_of_readings_that_are_let_go() {
    let planned = |hour| instant(super::MONDAY + hour * HOUR);
    let desk = Desk::new(&format!(
        "version: 1\nhistory: {{retention: {{raw: 1d}}}}\nservers: [{{name: s, url: \"https://a.example.org\", \
         schedule: {{every: 15m}}, maintenance: [{{from: {}, until: {}}}]}}]\n",
        planned(2),
        planned(3)
    ));
    imported(&desk);
    assert_eq!(exit(&desk.run(&["history", "compact"])), 0);
    let times = || {
        let (from, to) = (planned(0).to_string(), planned(48).to_string());
        let told = desk.json(&["report", "summary", "--from", &from, "--to", &to]).0;
        told["servers"][0]["times"].clone()
    };
    let before = times();
    assert_eq!((&before["up_ms"], &before["maintenance_ms"]), (&(47 * HOUR).into(), &HOUR.into()));
    let pruned = desk.json(&["--yes", "history", "prune"]).0;
    assert_eq!(pruned["readings"], 200, "{pruned}");
    // Roll-ups know nothing of the inventory.
    let after = times();
    assert_eq!((&after["up_ms"], &after["unknown_ms"]), (&(48 * HOUR).into(), &0.into()));
}

#[test]
fn a_day_of_25_hours_and_a_window_without_a_sample_are_told_as_they_are() {
    let desk = Desk::new(
        "version: 1\nservers: [{name: s, url: \"https://a.example.org\", schedule: {every: 15m}}]\n",
    );
    let begin: Timestamp = "2026-11-01T04:00:00Z".parse().unwrap();
    let mut rows: Vec<String> = (0..100)
        .map(|quarter| {
            let at = instant(begin.as_millisecond() + quarter * 15 * MINUTE);
            format!("{at},{}", if (4..8).contains(&quarter) { "down" } else { "up" })
        })
        .collect();
    // Out of order, and some of them again in another file.
    rows.sort_by_key(|row| row.chars().rev().collect::<String>());
    for (name, rows) in [("all.csv", &rows[..]), ("again.csv", &rows[20..60])] {
        let csv = format!("at,status\n{}\n", rows.join("\n"));
        std::fs::write(desk.dir.path().join(name), csv).unwrap();
    }
    let import = |name| desk.json(&["history", "import", name, "--server", "s"]).0;
    assert_eq!(import("all.csv")["servers"][0]["readings"], 100);
    let again = import("again.csv");
    assert_eq!(again["servers"][0]["readings"], 0, "{again}");
    assert_eq!(again["servers"][0]["known_already"], 40);
    let of_the_day = [
        "report",
        "availability",
        "--from=2026-11-01",
        "--to=2026-11-02",
        "--time-zone=America/New_York",
    ];
    for packed in [false, true] {
        if packed {
            assert_eq!(exit(&desk.run(&["history", "compact"])), 0);
        }
        let (told, code) = desk.json(&of_the_day);
        let server = &told["servers"][0];
        assert_eq!((code, server["days"].as_array().map(Vec::len)), (0, Some(1)), "{told}");
        let totals = &server["totals"];
        assert_eq!(&server["days"][0]["totals"], totals);
        assert_eq!(totals["window_ms"], 25 * HOUR);
        assert_eq!((&totals["up_ms"], &totals["down_ms"]), (&(24 * HOUR).into(), &HOUR.into()));
        // The same from roll-ups.
        let summary = desk.json(&[&["report", "summary"], &of_the_day[2..]].concat()).0;
        assert_eq!(&summary["servers"][0]["times"], totals);
    }
    for kind in ["availability", "summary", "performance", "errors"] {
        let (told, code) = desk.json(&["report", kind, "--month", "2026-01"]);
        let server = &told["servers"][0];
        assert_eq!((code, &server["availability"]), (0, &Value::Null), "{kind}: {told}");
    }
}

/// A history with a run of the day before yesterday.
async fn of_old(desk: &Desk) {
    let settings = Settings { place: Place::Sqlite(database(desk)), tls: None };
    let store = Store::open(&settings).await.unwrap();
    let at = Timestamp::now().as_millisecond() - 2 * 24 * HOUR;
    store.append(&run_at(at), &[reading("s", at, Status::Healthy)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_check_of_a_day_packs_and_seals_what_was_finished() {
    let sandbox = Sandbox::with(&[]);
    let desk = desk(&sandbox);
    of_old(&desk).await;
    let packed = || {
        let status = desk.json(&["history", "status"]).0;
        (status["packed_readings"].as_u64().unwrap(), status["last_seal"].is_string())
    };
    // Not where somebody waits for the exit code.
    assert_eq!(exit(&desk.run(&["check", "-o", "nagios"])), 0);
    assert_eq!(exit(&desk.run(&["check", "--timeout", "9s"])), 0);
    assert_eq!(exit(&desk.fhirctl().env("CI", "true").arg("check").output().unwrap()), 0);
    assert_eq!(packed(), (0, false));
    // Nor beside somebody who is at it.
    let claim = std::fs::File::create(desk.dir.path().join("servers.history.db-tidy")).unwrap();
    claim.lock().unwrap();
    assert_eq!(desk.json(&["check"]).0["recorded"], true);
    assert_eq!(packed(), (0, false));
    drop(claim);
    // A slow machine may need several, each of which does its part.
    let done = (0..20).any(|_| {
        let (told, code) = desk.json(&["check"]);
        assert_eq!((code, &told["recorded"]), (0, &true.into()));
        packed() == (1, true)
    });
    assert!(done, "{:?}", packed());
    // Its seal stands in the audit log, as that of `history compact` does.
    assert!(desk.json(&["audit", "log"]).0.to_string().contains("servers.history.db sealed "));
    // Once a day is enough.
    of_old(&desk).await;
    assert_eq!(desk.json(&["check"]).0["recorded"], true);
    assert_eq!(packed(), (1, true));
    assert_eq!(desk.json(&["history", "verify"]).1, 0);
}
