//! History: what checks leave behind, and what is made of it: status and reports.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value;

use crate::support::{Desk, Sandbox, assert_schema, server};

pub const HOUR: i64 = 3_600_000;

/// A server that is looked at every hour, with an agreement, and October 2026 as another program saw
/// it: down from 5 October 10:00 to 13:00, not looked at on the 20th.
pub fn october() -> Desk {
    let desk = Desk::new(
        "version: 1\nservers:\n  - name: ehr\n    url: https://ehr.example.org/fhir\n    vendor: hapi\n    \
         schedule: {every: 1h}\n    \
         sla: {agreement: contract 7, availability: 99.9%, exclude: [maintenance], credits: [{below: 99.9%, credit: 5%}, {below: 99%, credit: 10%}]}\n    \
         maintenance: [{from: 2026-10-12T00:00:00Z, until: 2026-10-12T06:00:00Z, reason: upgrade}]\n  \
         - {name: elsewhere, url: https://elsewhere.example.org/fhir}\n",
    );
    let first: jiff::Timestamp = "2026-10-01T00:00:00Z".parse().unwrap();
    let mut csv = String::from("server,at,check,status,code,duration_ms,http_status\n");
    for hour in 0..31 * 24_i64 {
        let at = jiff::Timestamp::from_millisecond(first.as_millisecond() + hour * HOUR).unwrap();
        let (day, of_day) = (hour / 24 + 1, hour % 24);
        if day == 20 {
            continue;
        }
        let result = match day == 5 && (10..13).contains(&of_day) {
            true => "critical,http.status,90,503",
            false => "healthy,,120,200",
        };
        writeln!(csv, "ehr,{at},metadata,{result}").unwrap();
    }
    std::fs::write(desk.dir.path().join("october.csv"), csv).unwrap();
    let (told, code) = desk.json(&["history", "import", "october.csv"]);
    assert_schema("history-import", &told);
    assert_eq!((code, &told["servers"][0]["readings"]), (0, &720.into()));
    desk
}

/// The exit code alone: an error has nothing on standard output.
fn exit(desk: &Desk, args: &[&str]) -> i32 {
    desk.run(args).status.code().unwrap()
}

fn text(desk: &Desk, args: &[&str], format: &str) -> String {
    let output = desk.run(&[args, &["-o", format]].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

/// The rows of a CSV, each by the names of its columns.
fn rows(desk: &Desk, args: &[&str]) -> Vec<HashMap<String, String>> {
    let text = text(desk, args, "csv");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.deserialize().map(Result::unwrap).collect()
}

#[test]
fn what_is_checked_is_kept_and_can_be_told_without_asking_again() {
    let sandbox = Sandbox::with(&["--fault", "status=503"]);
    let desk = Desk::new(&format!(
        "version: 1\nservers:\n  - {{name: s, url: \"{}\", schedule: {{every: 1h}}}}\n",
        sandbox.url("local")
    ));
    assert_eq!(exit(&desk, &["status"]), 66, "there is no history yet");
    let (checked, code) = desk.json(&["check", "--no-record"]);
    assert_eq!((code, &checked["recorded"]), (2, &false.into()));
    assert_eq!(exit(&desk, &["status"]), 66);
    for _ in 0..2 {
        assert_eq!(desk.json(&["check"]).0["recorded"], true);
    }
    assert_eq!(desk.json(&["test", "s"]).0["recorded"], true);
    drop(sandbox);
    let (status, code) = desk.json(&["status"]);
    assert_schema("status", &status);
    assert_eq!((code, &status["status"]), (0, &"critical".into()));
    let told = &status["servers"][0];
    assert_eq!(told["code"], "http.status", "{status:#}");
    assert_eq!(told["party"], "vendor");
    assert!(told["incident"].as_str().unwrap().starts_with("s@20"));
    assert!(told["evidence"]["request_id"].is_string());
    let (summary, code) = desk.json(&["report", "summary", "--last", "1h"]);
    assert_schema("report-summary", &summary);
    assert_eq!(code, 0);
    assert_eq!(summary["servers"][0]["readings"], 3);
    let (all, _) = desk.json(&["history", "status"]);
    assert_schema("history-status", &all);
    assert_eq!(all["readings"], 3);
    use std::os::unix::fs::PermissionsExt as _;
    let file = desk.dir.path().join("servers.history.db");
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_history_that_cannot_be_written_changes_no_verdict() {
    let sandbox = Sandbox::with(&[]);
    let desk = Desk::new(&format!(
        "version: 1\nservers:\n  - {{name: s, url: \"{}\"}}\nhistory: {{url: \"sqlite:nowhere/h.db\"}}\n",
        sandbox.url("local")
    ));
    let output = desk.run(&["check", "-o", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["recorded"], false);
    assert_eq!(server(&told, "s")["status"], "healthy");
    let warned = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(warned.contains("not in the history") && warned.contains("h.db"), "{warned}");
    // Another program's file is left as it is.
    let strange = desk.dir.path().join("servers.history.db");
    std::fs::write(&strange, "not a database, but somebody's notes").unwrap();
    std::fs::write(
        desk.inventory(),
        format!("version: 1\nservers:\n  - {{name: s, url: \"{}\"}}\n", sandbox.url("local")),
    )
    .unwrap();
    assert_eq!(desk.json(&["check"]).0["recorded"], false);
    assert_eq!(exit(&desk, &["report", "summary"]), 65);
    assert_eq!(std::fs::read_to_string(strange).unwrap(), "not a database, but somebody's notes");
}

#[test]
fn an_agreement_is_judged_to_the_millisecond_with_its_credit() {
    let desk = october();
    let (told, code) =
        desk.json(&["report", "sla", "ehr", "--month", "2026-10", "--fail-on-breach"]);
    assert_schema("report-sla", &told);
    assert_eq!(code, 2, "{told:#}");
    let period = &told["servers"][0]["periods"][0];
    let judged = &period["judgement"];
    assert_eq!(judged["verdict"], "breached");
    let totals = &judged["totals"];
    // October has 744 hours: 6 planned, 24 not looked at but for the hour that the last reading holds.
    assert_eq!(totals["window_ms"], 744 * HOUR);
    assert_eq!(totals["down_ms"], 3 * HOUR);
    assert_eq!(totals["maintenance_ms"], 6 * HOUR);
    assert_eq!(totals["unknown_ms"], 24 * HOUR);
    assert_eq!(totals["up_ms"], (744 - 3 - 6 - 24) * HOUR);
    // 3 of 714 hours: 99.58 %, below 99.9 and not below 99.
    assert_eq!(judged["credit_due"], 5.0);
    assert_eq!(period["incidents"][0]["duration_ms"], 3 * HOUR);
    assert_eq!(period["incidents"][0]["begin_uncertainty_ms"], HOUR);
    assert_eq!(period["planned"][0]["reason"], "upgrade");
    let step = &judged["steps"][0];
    assert_eq!(step["exclusion"], "maintenance");
    // In a month of which too little is known there is no verdict.
    let (thin, code) =
        desk.json(&["report", "sla", "ehr", "--month", "2026-11", "--fail-on-breach"]);
    assert_eq!(code, 3, "{thin:#}");
    // Without an agreement there is nothing to judge, and that is no success.
    let (none, code) = desk.json(&["report", "sla", "elsewhere", "--fail-on-breach"]);
    assert_eq!((code, none["servers"].as_array().map(Vec::len)), (3, Some(0)));
}

#[test]
fn roll_ups_and_readings_say_the_same() {
    let desk = october();
    let figures = |desk: &Desk| {
        let window = ["--from", "2026-10-01T00:30:00Z", "--to", "2026-10-30T07:20:00Z"];
        let summary = desk.json(&[&["report", "summary", "ehr"], &window[..]].concat()).0;
        let exact = desk.json(&[&["report", "availability", "ehr"], &window[..]].concat()).0;
        assert_schema("report-availability", &exact);
        assert_eq!(summary["servers"][0]["times"], exact["servers"][0]["totals"]);
        (summary["servers"].clone(), exact["servers"].clone())
    };
    let before = figures(&desk);
    let (packed, _) = desk.json(&["history", "compact"]);
    assert_schema("history-compact", &packed);
    assert_eq!(figures(&desk), before);
    let (whole, code) = desk.json(&["history", "verify"]);
    assert_schema("history-verify", &whole);
    assert_eq!((code, &whole["verified"]), (0, &true.into()), "{whole:#}");
    for (kind, schema) in [
        ("performance", "report-performance"),
        ("errors", "report-errors"),
        ("trends", "report-trends"),
        ("capacity", "report-trends"),
        ("security", "report-security"),
        ("incident", "report-incident"),
    ] {
        let (told, code) = desk.json(&["report", kind, "ehr", "--month", "2026-10"]);
        assert_eq!(code, 0, "{kind}");
        assert_schema(schema, &told);
        assert_eq!(told["kind"], kind);
    }
}

#[test]
fn a_reading_that_was_altered_in_the_database_is_found() {
    let desk = october();
    assert_eq!(exit(&desk, &["history", "verify"]), 0);
    let alter = "import sqlite3\n\
        db = sqlite3.connect('servers.history.db')\n\
        db.execute('UPDATE reading SET at = at + 1000 WHERE seq = (SELECT seq FROM reading LIMIT 1 OFFSET 100)')\n\
        db.commit()\n";
    let done = Command::new("python3").args(["-c", alter]).current_dir(desk.dir.path()).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let (found, code) = desk.json(&["history", "verify"]);
    assert_eq!((code, &found["verified"]), (65, &false.into()), "{found:#}");
    assert_eq!(found["problem"]["server"], "ehr");
    // No proof is made of what does not verify.
    let args = ["report", "availability", "ehr", "--month", "2026-10", "--proof", "proof.json"];
    assert_eq!(exit(&desk, &args), 65);
}

#[test]
fn incidents_carry_what_people_find_out() {
    let desk = october();
    let (list, _) = desk.json(&["incidents", "list", "ehr", "--month", "2026-10"]);
    assert_schema("incidents", &list);
    let id = list["incidents"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(id, "ehr@2026-10-05T10:00:00Z");
    let args =
        ["incidents", "note", &id, "told the vendor", "--case", "4711", "--party", "network"];
    let (kept, code) = desk.json(&args);
    assert_schema("incidents-note", &kept);
    assert_eq!(code, 0);
    assert_eq!(exit(&desk, &["incidents", "close", &id, "--cause", "a switch"]), 0);
    let (list, _) = desk.json(&["incidents", "list", "ehr", "--month", "2026-10"]);
    let told = &list["incidents"][0];
    assert_eq!(
        (&told["closed"], &told["case_number"], &told["party"], &told["cause"]),
        (&true.into(), &"4711".into(), &"network".into(), &"a switch".into())
    );
    // Whose it was is not said anew without a word, and what was said is in every form.
    let again = desk.run(&["incidents", "close", &id, "--cause", "a cable"]);
    assert_eq!(again.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&again.stderr).contains("incidents note"));
    assert_eq!(
        (&told["party_seen"], &told["party_changed"]["at"].is_string()),
        (&"vendor".into(), &true)
    );
    let incident = ["report", "incident", "ehr", "--month", "2026-10"];
    let row = &rows(&desk, &incident)[0];
    for (name, value) in [
        ("incident", id.as_str()),
        ("duration_ms", "10800000"),
        ("party", "network"),
        ("party_seen", "vendor"),
        ("cause", "a switch"),
        ("case_number", "4711"),
        ("http_status", "503"),
    ] {
        assert_eq!(row[name], value, "{name}");
    }
    assert!(row["notes"].contains("told the vendor") && row["notes"].contains("cause a switch"));
    let words = text(&desk, &incident, "markdown");
    for said in ["told the vendor", "a switch", "4711", "503", "from vendor to network"] {
        assert!(words.contains(said), "{said}: {words}");
    }
    assert_eq!(words.matches("# Outages\n").count(), 1, "{words}");
    let open = ["incidents", "list", "ehr", "--month", "2026-10", "--unclosed"];
    assert_eq!(desk.json(&open).0["incidents"].as_array().map(Vec::len), Some(0));
    assert_eq!(exit(&desk, &["incidents", "note", "ehr@2026-10-05T10:00:01Z", "x"]), 66);
    assert_eq!(exit(&desk, &["incidents", "note", "ehr", "x"]), 64);
    assert_eq!(exit(&desk, &["incidents", "note", &id, " "]), 64);
}

#[test]
fn a_server_takes_its_history_along_and_leaves_it_behind() {
    let desk = october();
    assert_eq!(exit(&desk, &["rename", "ehr", "main"]), 0);
    let (told, _) = desk.json(&["report", "summary", "main", "--month", "2026-10"]);
    assert_eq!(told["servers"][0]["readings"], 720);
    // The chain goes on under the old name that it began with.
    assert_eq!(exit(&desk, &["history", "verify"]), 0);
    assert_eq!(exit(&desk, &["remove", "main", "--yes"]), 0);
    assert_eq!(desk.json(&["history", "status"]).0["readings"], 720);
}

#[test]
fn samples_go_out_and_come_in_again_as_they_were() {
    let desk = october();
    let csv = desk.run(&["history", "export", "ehr", "--month", "2026-10", "-o", "csv"]).stdout;
    let lines = desk.run(&["history", "export", "ehr", "--month", "2026-10"]).stdout;
    let lines = String::from_utf8(lines).unwrap();
    assert_eq!(lines.lines().count(), 720);
    assert_schema("history-sample", &serde_json::from_str(lines.lines().next().unwrap()).unwrap());
    std::fs::write(desk.dir.path().join("again.csv"), &csv).unwrap();
    let (told, _) = desk.json(&["history", "import", "again.csv"]);
    assert_eq!(told["servers"][0]["known_already"], 720);
    assert_eq!(told["servers"][0]["readings"], 0);
    let other = desk.json(&["--history", "sqlite:other.db", "history", "import", "again.csv"]);
    assert_eq!(other.0["servers"][0]["readings"], 720);
    let window = ["report", "availability", "ehr", "--month", "2026-10"];
    let there = desk.json(&[&["--history", "sqlite:other.db"], &window[..]].concat()).0;
    assert_eq!(there["servers"], desk.json(&window).0["servers"]);
    std::fs::write(desk.dir.path().join("bad.csv"), "server,at,status\nehr,never,up\n").unwrap();
    assert_eq!(exit(&desk, &["history", "import", "bad.csv"]), 65);
    // Which of two columns is meant nobody knows; what is not known is told.
    let row = "ehr,2026-11-01T00:00:00Z,up,up\n";
    std::fs::write(desk.dir.path().join("bad.csv"), format!("server,at,status,Status\n{row}"))
        .unwrap();
    assert_eq!(exit(&desk, &["history", "import", "bad.csv"]), 65);
    std::fs::write(desk.dir.path().join("odd.csv"), format!("server,at,status,colour\n{row}"))
        .unwrap();
    let odd = desk.run(&["history", "import", "odd.csv"]);
    let (code, words) = (odd.status.code(), String::from_utf8_lossy(&odd.stderr).into_owned());
    assert!(code == Some(0) && words.contains("colour"), "{words}");
    // States, phases and what does not count come back as well.
    let head = String::from_utf8(csv).unwrap().lines().next().unwrap().to_owned();
    let odd = format!(
        "{head}\n\
         ehr,2026-11-02T00:00:00Z,import,inactive,metadata,critical,http.status,vendor,true,3,9.5,1,2,,,,503,77,transient\n\
         ehr,2026-11-02T00:00:00Z,import,inactive,search[1],warning,http.status,vendor,false,1,2,,,,,,200,5,\n"
    );
    std::fs::write(desk.dir.path().join("odd.csv"), &odd).unwrap();
    assert_eq!(exit(&desk, &["history", "import", "odd.csv"]), 0);
    let back =
        text(&desk, &["history", "export", "--from", "2026-11-02", "--to", "2026-11-03"], "csv");
    let wanted =
        odd.replace(",9.5,1,2,,", ",9.500,1.000,2.000,,").replace(",2,,,,,,200", ",2.000,,,,,,200");
    assert_eq!(back, wanted);
    let own = desk.run(&["history", "import", "again.csv"]);
    assert_eq!(String::from_utf8_lossy(&own.stderr), "");
    std::fs::write(
        desk.dir.path().join("bad.csv"),
        "server,at,status\nnobody,2026-10-01T00:00:00Z,up\n",
    )
    .unwrap();
    assert_eq!(exit(&desk, &["history", "import", "bad.csv"]), 66);
}

/// A server that is looked at every hour, seen by another program. `bad` are hours since the beginning.
fn seen(desk: &Desk, from: &str, hours: i64, bad: std::ops::Range<i64>) {
    let first: jiff::Timestamp = from.parse().unwrap();
    let mut csv = String::from("at,status,duration_ms\n");
    for hour in 0..hours {
        let at = jiff::Timestamp::from_millisecond(first.as_millisecond() + hour * HOUR).unwrap();
        let status = if bad.contains(&hour) { "down" } else { "up" };
        writeln!(csv, "{at},{status},{}", 100 + hour % 7).unwrap();
    }
    std::fs::write(desk.dir.path().join("seen.csv"), csv).unwrap();
    assert_eq!(exit(desk, &["history", "import", "seen.csv", "--server", "ehr"]), 0);
    assert_eq!(exit(desk, &["history", "compact"]), 0);
}

#[test]
fn what_was_let_go_takes_the_verdict_with_it() {
    // Kept for so long that the first of the month is let go.
    let now = jiff::Timestamp::now();
    let first: jiff::Timestamp = "2026-10-01T00:00:00Z".parse().unwrap();
    let days = (now.as_millisecond() - first.as_millisecond()) / (24 * HOUR) - 1;
    let desk = Desk::new(&format!(
        "version: 1\nhistory: {{retention: {{raw: {days}d, hourly: 800d, daily: 10y}}}}\nservers:\n  \
         - {{name: ehr, url: https://ehr.example.org/fhir, schedule: {{every: 1h}}, \
         sla: {{availability: 99.9%, credits: [{{below: 99.9%, credit: 5%}}]}}}}\n"
    ));
    // Two imports, since what is written at once goes at once.
    seen(&desk, "2026-10-01T00:00:00Z", 24, 5..7);
    seen(&desk, "2026-10-02T00:00:00Z", 30 * 24, 0..0);
    let args = ["report", "sla", "ehr", "--month", "2026-10", "--fail-on-breach", "--proof", "p"];
    let (told, code) = desk.json(&args);
    let period = &told["servers"][0]["periods"][0]["judgement"];
    assert_eq!((code, &period["verdict"], &period["lost_ms"]), (2, &"breached".into(), &0.into()));

    let dry = desk.json(&["history", "prune", "--dry-run"]).0;
    assert_schema("history-prune", &dry);
    assert_eq!((&dry["readings"], &dry["dry_run"]), (&24.into(), &true.into()), "{dry}");
    let pruned = desk.json(&["--yes", "history", "prune"]).0;
    assert_eq!((&pruned["readings"], &pruned["hours"]), (&24.into(), &0.into()), "{pruned}");

    let (told, code) = desk.json(&args);
    let period = &told["servers"][0]["periods"][0]["judgement"];
    assert_eq!(
        (code, &period["verdict"], &period["credit_due"], &period["lost_ms"]),
        (3, &"unknown".into(), &Value::Null, &(24 * HOUR).into()),
        "{told:#}"
    );
    assert_eq!(exit(&desk, &["report", "verify", "p"]), 0);
    let proof = std::fs::read_to_string(desk.dir.path().join("p")).unwrap();
    assert!(proof.contains("\"verdict\": \"unknown\""));
    for kind in ["sla", "availability", "incident", "security", "summary"] {
        let notes = desk.json(&["report", kind, "--month", "2026-10"]).0["notes"].to_string();
        assert!(notes.contains("from before 2026-10-02T00:00:00Z are no longer kept"), "{notes}");
    }
    let status = desk.json(&["history", "status"]).0;
    assert_eq!(status["first_at"], "2026-10-02T00:00:00Z");
    assert_eq!(exit(&desk, &["history", "verify"]), 0);
}

#[test]
fn an_outage_over_the_end_of_a_month_is_one_in_both() {
    let desk = Desk::new(
        "version: 1\nservers:\n  - {name: ehr, url: https://ehr.example.org/fhir, schedule: {every: 1h}, \
         maintenance: [{from: 2026-11-05T00:00:00Z, until: 2026-11-05T01:00:00Z, reason: pump on db01.corp}], \
         sla: {agreement: by wiki.corp, availability: 99.9%}}\n",
    );
    // From 30 October 20:00 to 2 November 04:00.
    seen(&desk, "2026-10-01T00:00:00Z", 40 * 24, 29 * 24 + 20..32 * 24 + 4);
    let id = "ehr@2026-10-30T20:00:00Z";
    let close = ["incidents", "close", id, "--cause", "disk", "--case", "4711", "see pump.corp"];
    assert_eq!(exit(&desk, &close), 0);
    for (month, counts) in [("2026-10", 28 * HOUR), ("2026-11", 28 * HOUR)] {
        let listed = desk.json(&["incidents", "list", "--month", month]).0;
        let sla = desk.json(&["report", "sla", "--month", month]).0;
        let period = &sla["servers"][0]["periods"][0];
        for outage in [&listed["incidents"][0], &period["incidents"][0]] {
            assert_eq!(outage["id"], id, "{month}: {outage:#}");
            assert_eq!(outage["until"], "2026-11-02T04:00:00Z");
            assert_eq!((&outage["closed"], &outage["case_number"]), (&true.into(), &"4711".into()));
            assert_eq!(outage["duration_ms"], 56 * HOUR);
            assert_eq!(outage["first"]["at"], "2026-10-30T20:00:00Z");
            assert_eq!(outage["last"]["at"], "2026-11-02T03:00:00Z");
            assert_eq!(outage["begin_uncertainty_ms"], HOUR);
        }
        assert_eq!(period["incidents"][0]["counts_ms"], counts, "{month}");
        assert_eq!(period["judgement"]["spent_ms"], counts, "{month}");
    }
    // Also where an agreement says what is down.
    let path = desk.dir.path().join("servers.yaml");
    let inventory = std::fs::read_to_string(&path).unwrap();
    let strict = inventory.replace("availability: 99.9%", "availability: 99.9%, down: [unknown]");
    std::fs::write(&path, strict).unwrap();
    let text_of = std::fs::read_to_string(desk.dir.path().join("seen.csv")).unwrap();
    std::fs::write(desk.dir.path().join("seen.csv"), text_of.replace("down", "unknown")).unwrap();
    let other = ["--history", "sqlite:other.db"];
    let import = [&other[..], &["history", "import", "seen.csv", "--server", "ehr"]].concat();
    assert_eq!(exit(&desk, &import), 0);
    let sla = desk.json(&[&other[..], &["report", "sla", "--month", "2026-11"]].concat()).0;
    assert_eq!(sla["servers"][0]["periods"][0]["incidents"][0]["id"], id, "{sla:#}");
    std::fs::write(&path, inventory).unwrap();
    // What is sent to the vendor with it is cleared as well, and still proves what it says.
    let args = ["report", "sla", "ehr", "--month", "2026-11", "--for-vendor"];
    let page = text(&desk, &[&args[..], &["--proof", "p"]].concat(), "markdown");
    assert!(page.contains("by up to 1 h") && page.contains("4711; see \\[internal\\]"), "{page}");
    let proof = std::fs::read_to_string(desk.dir.path().join("p")).unwrap();
    assert!(!proof.contains(".corp") && proof.contains("pump on [internal]"));
    assert_eq!(exit(&desk, &["report", "verify", "p"]), 0);
}

#[test]
fn who_does_not_say_how_long_it_took_says_nothing_of_response_times() {
    let desk = Desk::new(
        "version: 1\nservers:\n  - {name: ehr, url: https://ehr.example.org/fhir, schedule: {every: 1h}, \
         sla: {availability: 90%, latency_p95: 2s}}\n",
    );
    let mut csv = String::from("server,at,status\n");
    for hour in 0..24 {
        writeln!(csv, "ehr,2026-10-01T{hour:02}:00:00Z,up").unwrap();
    }
    std::fs::write(desk.dir.path().join("a.csv"), csv).unwrap();
    assert_eq!(exit(&desk, &["history", "import", "a.csv"]), 0);
    let window = ["--from", "2026-10-01", "--to", "2026-10-02"];
    let summary = desk.json(&[&["report", "summary"], &window[..]].concat()).0;
    assert_eq!(summary["servers"][0]["latency"], Value::Null, "{summary:#}");
    let sla = desk.json(&["report", "sla", "--month", "2026-10"]).0;
    let p95 = &sla["servers"][0]["periods"][0]["judgement"]["latency"][0];
    assert_eq!((&p95["measured_ms"], &p95["met"]), (&Value::Null, &Value::Null), "{sla:#}");
}

#[test]
fn the_page_needs_nothing_else_and_the_vendors_copy_tells_nothing_of_ours() {
    let desk = october();
    let args = ["report", "sla", "ehr", "--month", "2026-10", "-o", "html"];
    let page = String::from_utf8(desk.run(&args).stdout).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>"));
    for word in ["<script", "src=\"http", "href=\"http", "url(http"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("breached") && page.contains("<svg"));
    let copy = desk.json(&["report", "sla", "ehr", "--month", "2026-10", "--for-vendor"]).0;
    let text = copy.to_string();
    let folder = desk.dir.path().to_string_lossy().into_owned();
    assert!(!text.contains(&folder) && !text.contains("elsewhere"), "{text}");
    assert!(text.contains("contract 7"));
    assert_eq!(exit(&desk, &["report", "sla", "--for-vendor"]), 64);
}

/// What happens in [`between_zones`], by day and quarter of an hour of UTC.
const FAULTS: [(i64, std::ops::Range<i64>, &str); 5] = [
    (5, 64..68, "critical,http.status,vendor,90,503"),
    (5, 70..72, "critical,auth.unauthorized,ours,40,401"),
    (6, 64..65, "critical,tcp.timeout,network,,"),
    (10, 64..68, "critical,http.status,vendor,90,503"),
    (12, 57..60, "critical,http.status,vendor,90,503"),
];

/// A server that is looked at every quarter of an hour, with an agreement in New York's time: October and
/// the days around it.
fn between_zones() -> Desk {
    let desk = Desk::new(
        "version: 1\nservers:\n  - name: ehr\n    url: https://ehr.example.org/fhir\n    schedule: {every: 15m}\n    \
         sla: {agreement: 'contract 7, https://wiki.corp/7', availability: 99%, latency_p95: 200ms, time_zone: America/New_York, \
         service_hours: 'Mon-Fri 07:00-19:00', exclude: [maintenance, party=ours], least_outage: 20m, planned_max: 2h, \
         credits: [{below: 99%, credit: 5%}, {below: 98%, credit: 12.5%}]}\n    \
         maintenance: [{from: 2026-10-12T14:00:00Z, until: 2026-10-12T17:00:00Z, entered: 2026-10-13T00:00:00Z, entered_by: anna, \
         reason: 'db01.corp (10.1.2.3) moved beside pacs; ehr.example.org stays'}]\n  \
         - {name: pacs, url: https://pacs.example.org/fhir}\n",
    );
    let first: jiff::Timestamp = "2026-09-30T00:00:00Z".parse().unwrap();
    let mut csv = String::from("at,status,code,party,duration_ms,http_status\n");
    for quarter in 0..33 * 96_i64 {
        let ms = first.as_millisecond() + quarter * HOUR / 4;
        let at = jiff::Timestamp::from_millisecond(ms).unwrap();
        let (day, of_day) = (quarter / 96, quarter % 96);
        let fault = FAULTS.iter().find(|(on, when, _)| *on == day && when.contains(&of_day));
        writeln!(csv, "{at},{}", fault.map_or("healthy,,,120,200", |(.., fault)| fault)).unwrap();
    }
    std::fs::write(desk.dir.path().join("october.csv"), csv).unwrap();
    assert_eq!(exit(&desk, &["history", "import", "october.csv", "--server", "ehr"]), 0);
    desk
}

#[test]
fn an_agreement_is_told_whole_in_csv_and_markdown_by_its_own_calendar() {
    let desk = between_zones();
    // A month of New York, also where nobody says so.
    let sla = ["report", "sla", "ehr", "--month", "2026-10"];
    for vendor in [&[][..], &["--for-vendor"]] {
        let args = [&sla[..], vendor].concat();
        let rows = rows(&desk, &args);
        assert_eq!(rows.len(), 1, "one month, one row: {rows:?}");
        for (name, value) in [
            ("from", "2026-10-01T04:00:00Z"),
            ("to", "2026-11-01T04:00:00Z"),
            ("verdict", "met"),
            ("objective", "0.99"),
            ("coverage", "1"),
            // One hour of the vendor, one of planned work beyond the agreed two.
            ("spent_ms", "7200000"),
            ("planned_over_ms", "3600000"),
            ("credit", ""),
            ("p95_limit_ms", "200"),
            ("outages", "1"),
            ("outages_left_out", "4"),
        ] {
            assert_eq!(rows[0][name], value, "{name}");
        }
        assert!(rows[0]["availability"].parse::<f64>().unwrap() > 0.99);
        assert!(rows[0]["remaining_ms"].parse::<i64>().unwrap() > 0);
        let words = text(&desk, &args, "markdown");
        for said in [
            "October 2026",
            "Verdict: **met**",
            "Error budget",
            "Outages that count",
            "What exclusions move",
            "of planned work are beyond what was agreed",
        ] {
            assert!(words.contains(said), "{said}: {words}");
        }
    }
    // The proof is of the same month, and is read from a pipe.
    let proof = [&sla[..], &["--proof", "proof.json"]].concat();
    assert_eq!(exit(&desk, &proof), 0);
    let file = std::fs::File::open(desk.dir.path().join("proof.json")).unwrap();
    let mut verify = desk.fhirctl();
    let verify = verify.args(["-o", "json", "report", "verify", "-"]).stdin(file);
    let told: Value = serde_json::from_slice(&verify.output().unwrap().stdout).unwrap();
    assert_eq!((&told["verified"], &told["file"]), (&true.into(), &"standard input".into()));
    let periods = told["servers"][0]["periods"].as_array().unwrap();
    assert_eq!((periods.len(), &periods[0]["from"]), (1, &"2026-10-01T04:00:00Z".into()));
    // Nor has October another number of days there.
    let trends = ["report", "trends", "ehr", "--month", "2026-10", "--time-zone"];
    for (zone, of, first) in [
        ("America/New_York", "America/New_York", "2026-10-01T04:00:00Z"),
        ("UTC", "UTC", "2026-10-01T00:00:00Z"),
        // Its midnights are at half past.
        ("Asia/Kolkata", "UTC", "2026-09-30T00:00:00Z"),
    ] {
        let told = desk.json(&[&trends[..], &[zone]].concat()).0;
        let line = &told["servers"][0];
        assert_eq!((&line["days_of"], &line["points"][0]["day"]), (&of.into(), &first.into()));
        let days = if of == zone { 31 } else { 32 };
        assert_eq!(line["points"].as_array().map(Vec::len), Some(days), "{zone}");
    }
}

#[test]
fn a_vendor_reads_what_was_agreed_what_counts_and_who_said_otherwise_but_no_word_of_ours() {
    let desk = between_zones();
    let id = "ehr@2026-10-05T16:00:00Z";
    let note = ["incidents", "note", id, "seen from db01.corp, see pacs", "--party", "network"];
    assert_eq!(exit(&desk, &note), 0);
    assert_eq!(exit(&desk, &["incidents", "close", id, "--case", "INC-7 of pacs"]), 0);
    let args = ["report", "sla", "ehr", "--month", "2026-10", "--for-vendor"];
    let words = text(&desk, &args, "markdown");
    for said in [
        "response time, p95: at most 200 ms",
        "largest planned time: 2 h",
        "credit below 99%: 5%",
        "credit below 98%: 12.5%",
        "| anna |",
        "\\[internal\\] (\\[internal\\]) moved beside \\[internal\\]; ehr.example.org stays",
        "the party was changed afterwards, from vendor to network, by ",
    ] {
        assert!(words.contains(said), "{said}: {words}");
    }
    // Each that does not count has its reason.
    let (_, behind) = words.split_once("# Outages that do not count\n").unwrap();
    for (when, why) in [
        ("2026-10-05 13:30:00", "of a party that is left out"),
        ("2026-10-06 12:00:00", "shorter than the least outage"),
        ("2026-10-10 12:00:00", "outside of service hours"),
        ("2026-10-12 10:15:00", "planned work"),
    ] {
        let line = behind.lines().find(|line| line.contains(when)).unwrap_or_default();
        assert!(line.contains(why), "{when}: {behind}");
    }
    for format in ["json", "csv", "markdown", "html", "table"] {
        let text = text(&desk, &args, format);
        for ours in ["db01", "10.1.2.3", "wiki", "pacs"] {
            assert!(!text.contains(ours), "{format} tells {ours}: {text}");
        }
    }
    assert_schema("report-sla", &desk.json(&args).0);
}

#[test]
fn what_is_yet_to_come_is_neither_counted_nor_the_present() {
    let now = jiff::Timestamp::now();
    let every = HOUR / 12;
    let ago = |steps: i64| {
        jiff::Timestamp::from_millisecond(now.as_millisecond() - steps * every).unwrap()
    };
    let desk = Desk::new(
        "version: 1\nservers:\n  - {name: ehr, url: https://ehr.example.org/fhir, schedule: {every: 5m}}\n",
    );
    // Down now; and two hours from now a reading of a clock that jumped says that all is well.
    let mut csv = String::from("at,status\n");
    for step in 0..6 {
        writeln!(csv, "{},{}", ago(step), if step < 3 { "down" } else { "up" }).unwrap();
    }
    writeln!(csv, "{},up", ago(-24)).unwrap();
    std::fs::write(desk.dir.path().join("a.csv"), csv).unwrap();
    assert_eq!(exit(&desk, &["history", "import", "a.csv", "--server", "ehr"]), 0);
    let status = desk.json(&["status"]).0;
    assert_schema("status", &status);
    let one = &status["servers"][0];
    assert_eq!((&one["status"], &one["stale"]), (&"critical".into(), &false.into()), "{one:#}");
    assert!(one["future"].is_string() && one["incident"].is_string(), "{one:#}");
    assert!(text(&desk, &["status"], "table").contains("readings of the future"));

    let to = now.checked_add(jiff::SignedDuration::from_hours(48)).unwrap().to_string();
    let window = ["--from", &ago(5).to_string(), "--to", &to];
    for kind in ["summary", "availability"] {
        let told = desk.json(&[&["report", kind], &window[..]].concat()).0;
        let instant = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let (to, made) = (instant(&told["window"]["to"]), instant(&told["generated_at"]));
        assert_eq!(to.as_millisecond(), made.as_millisecond(), "{kind}");
        assert!(told["notes"].to_string().contains("future"), "{told:#}");
        assert_eq!(told["servers"][0]["coverage"], 1.0, "{kind}: {told:#}");
    }
    assert_eq!(exit(&desk, &["report", "summary", "--from", &to]), 64);
}

#[test]
fn response_times_are_told_over_days_and_over_the_hours_of_a_short_window() {
    let desk = october();
    desk.json(&["history", "compact"]);
    let month = ["report", "performance", "ehr", "--month", "2026-10"];
    let days = ["report", "performance", "ehr", "--from", "2026-10-18", "--to", "2026-10-21T12:00"];
    let hours =
        ["report", "performance", "ehr", "--from", "2026-10-05T00:30", "--to", "2026-10-06"];
    for (args, parts, first) in [
        (&month[..], 30, "2026-10-01T00:00:00Z"),
        (&days[..], 3, "2026-10-18T00:00:00Z"),
        (&hours[..], 23, "2026-10-05T01:00:00Z"),
    ] {
        let (told, _) = desk.json(args);
        assert_schema("report-performance", &told);
        let one = &told["servers"][0];
        let over_time = one["over_time"].as_array().unwrap();
        assert_eq!((over_time.len(), &over_time[0]["at"]), (parts, &first.into()), "{args:?}");
        let count: u64 = over_time.iter().map(|part| part["count"].as_u64().unwrap()).sum();
        assert_eq!(one["overall"]["count"], count);
        // 120 ms, and 90 where it failed: within the 1 % of a sketch.
        let p99 = over_time[0]["p99_ms"].as_f64().unwrap();
        assert!((p99 - 120.0).abs() <= 1.2, "{p99}");
    }
    let page = desk.run(&[&month[..], &["-o", "html"]].concat()).stdout;
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("ehr: response times") && page.contains("<svg"));
    for series in ["<title>p50</title>", "<title>p95</title>", "<title>p99</title>"] {
        assert!(page.contains(series), "{series}");
    }
    // The table behind it.
    assert!(page.contains("day (UTC)") && page.contains("2026-10-31"));
}

#[test]
fn windows_that_cannot_be_meant_are_refused_before_anything_is_read() {
    let desk = Desk::new("version: 1\nservers:\n  - {name: a, url: https://a.example.org}\n");
    for args in [
        &["--last", "30"][..],
        &["--last", "-1d"],
        &["--month", "2026-13"],
        &["--from", "2026-10-02", "--to", "2026-10-01"],
        &["--month", "2026-10", "--last", "3d"],
        &["--last", "3d", "--time-zone", "Mars/Olympus"],
        &["--to", "2026-10-01"],
    ] {
        let all = [&["report", "summary"], args].concat();
        assert_eq!(exit(&desk, &all), 64, "{args:?}");
    }
    assert_eq!(exit(&desk, &["report", "summary"]), 66, "there is no history");
    assert_eq!(exit(&desk, &["report", "summary", "nobody"]), 66);
    let told = desk.run(&["report", "summary", "--last", "-1d"]).stderr;
    assert!(String::from_utf8_lossy(&told).contains("no length of time"));
    // A flag that would change nothing.
    assert_eq!(exit(&desk, &["report", "sla", "--group-by", "vendor"]), 64);
    assert_eq!(exit(&desk, &["history", "import", "a.csv", "--last", "3d"]), 64);
}

#[test]
fn both_engines_report_the_same() {
    let Some(postgres) = crate::postgres::shared() else { return };
    let desk = october();
    let database = postgres.database();
    let url = format!(
        "postgres:///{}?host={}&port={}&user=fhirctl",
        database.database,
        postgres.data().display(),
        postgres.port
    );
    let other = ["--history", url.as_str()];
    assert_eq!(exit(&desk, &[&other[..], &["history", "import", "october.csv"]].concat()), 0);
    let told = |args: &[&str]| {
        let (mut told, code) = desk.json(args);
        for own in ["history", "generated_at"] {
            told.as_object_mut().unwrap().remove(own);
        }
        (told, code)
    };
    let window = ["--from", "2026-10-01T00:30:00Z", "--to", "2026-10-31T23:20:00Z"];
    let mut asked: Vec<Vec<&str>> = [
        "summary",
        "availability",
        "performance",
        "errors",
        "sla",
        "trends",
        "capacity",
        "security",
        "incident",
    ]
    .map(|kind| [&["report", kind], &window[..]].concat())
    .to_vec();
    asked.push([&["incidents", "list"], &window[..]].concat());
    for is_packed in [false, true] {
        for engine in [&[][..], &other[..]] {
            if is_packed {
                assert_eq!(exit(&desk, &[engine, &["history", "compact"]].concat()), 0);
            }
        }
        for args in &asked {
            let (file, server) = (told(args), told(&[&other[..], args].concat()));
            assert_eq!(file, server, "{args:?}");
            assert_eq!(file.1, 0, "{args:?}");
        }
    }
}

#[test]
fn many_servers_are_added_up_as_each_alone_is() {
    let names: Vec<String> = (0..150).map(|nth| format!("s{nth:03}")).collect();
    let mut inventory = String::from("version: 1\nservers:\n");
    let mut csv = String::from("server,at,status,duration_ms\n");
    for (nth, name) in names.iter().enumerate() {
        writeln!(
            inventory,
            "  - {{name: {name}, url: \"https://{name}.example.org/fhir\", schedule: {{every: 1h}}}}"
        )
        .unwrap();
        for hour in 0..30 {
            let status = if (nth + hour) % 11 == 0 { "down" } else { "up" };
            let at = 1_790_812_800 + hour * 3_600;
            writeln!(csv, "{name},{at},{status},{}", nth * 7 + hour).unwrap();
        }
    }
    let desk = Desk::new(&inventory);
    std::fs::write(desk.dir.path().join("many.csv"), csv).unwrap();
    assert_eq!(exit(&desk, &["history", "import", "many.csv"]), 0);
    let window = ["--from", "2026-10-01T00:30:00Z", "--to", "2026-10-02T04:20:00Z"];
    let all = desk.json(&[&["report", "summary"], &window[..]].concat()).0;
    let told: Vec<&str> = all["servers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(told, names);
    for nth in [0, 74, 75, 149] {
        let alone = ["report", "summary", &names[nth]];
        let alone = desk.json(&[&alone[..], &window[..]].concat()).0;
        assert_eq!(alone["servers"][0], all["servers"][nth], "{nth}");
    }
}
