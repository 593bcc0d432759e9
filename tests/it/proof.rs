//! Proofs: what a report stands on, recomputed by us and by others, and forged in vain.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::report::{HOUR, october};
use crate::support::{Desk, assert_schema};

const MINUTE: i64 = 60_000;

/// A server with all that an agreement can say, and October 2026 every quarter of an hour, on working
/// days down
/// - on the 5th for an hour by the vendor, and for half an hour because our sign-in was refused,
/// - on the 6th for a quarter of an hour, which is less than counts,
/// - on the 7th throttled, which this agreement calls down, for an hour,
/// - on the 12th in planned work, one hour longer than was agreed.
fn disputed() -> Desk {
    let desk = Desk::new(
        "version: 1\nservers:\n  - name: ehr\n    url: https://ehr.example.org/fhir\n    \
         schedule: {every: 15m}\n    \
         sla: {availability: 99%, latency_p95: 200ms, time_zone: America/New_York, service_hours: 'Mon-Fri 07:00-19:00', \
         holidays: [2026-10-08], exclude: [maintenance, party=ours], down: [critical, http.rate_limited], \
         least_outage: 20m, planned_max: 2h, credits: [{below: 99%, credit: 5%}, {below: 98%, credit: 12.5%}]}\n    \
         maintenance: [{from: 2026-10-12T14:00:00Z, until: 2026-10-12T17:00:00Z, reason: upgrade}]\n",
    );
    let first: jiff::Timestamp = "2026-10-01T00:00:00Z".parse().unwrap();
    let mut csv = String::from("at,status,code,party,duration_ms,http_status\n");
    for quarter in 0..32 * 96_i64 {
        let ms = first.as_millisecond() + quarter * 15 * MINUTE;
        let at = jiff::Timestamp::from_millisecond(ms).unwrap();
        let result = match (quarter / 96 + 1, quarter % 96) {
            (5, 64..68) => "critical,http.status,vendor,90,503",
            (5, 70..72) => "critical,auth.unauthorized,ours,40,401",
            (6, 64) => "critical,tcp.timeout,network,,",
            (7, 64..68) => "warning,http.rate_limited,vendor,20,429",
            (_, of_day) if of_day % 10 == 0 => "healthy,,,150,200",
            _ => "healthy,,,120,200",
        };
        writeln!(csv, "{at},{result}").unwrap();
    }
    std::fs::write(desk.dir.path().join("october.csv"), csv).unwrap();
    let (told, code) = desk.json(&["history", "import", "october.csv", "--server", "ehr"]);
    assert_eq!(code, 0, "{told:#}");
    desk
}

/// The report and the proof that was written beside it.
fn proven(desk: &Desk) -> (Value, Value) {
    let month = ["--month", "2026-10", "--time-zone", "America/New_York"];
    let (report, code) =
        desk.json(&[&["report", "sla", "ehr", "--proof", "proof.json"], &month[..]].concat());
    assert_eq!(code, 0, "{report:#}");
    let text = std::fs::read_to_string(desk.dir.path().join("proof.json")).unwrap();
    let proof: Value = serde_json::from_str(&text).unwrap();
    assert_schema("proof", &proof);
    (report, proof)
}

fn verified(desk: &Desk) -> (Value, i32) {
    let (told, code) = desk.json(&["report", "verify", "proof.json"]);
    assert_schema("report-verify", &told);
    assert_eq!(told["verified"] == true, code == 0);
    (told, code)
}

/// Writes a proof with the digest that it has to have: what a careful forger does.
fn sign(desk: &Desk, proof: &Value) {
    let mut proof = proof.clone();
    proof.as_object_mut().unwrap().shift_remove("digest");
    let digest = Sha256::digest(proof.to_string());
    proof["digest"] = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
    std::fs::write(desk.dir.path().join("proof.json"), proof.to_string()).unwrap();
}

/// The program of the README, word for word.
fn readers_program(desk: &Desk) -> (String, i32) {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let begin = readme.find("```python\n").unwrap() + "```python\n".len();
    let length = readme[begin..].find("```").unwrap();
    let program = &readme[begin..begin + length];
    assert!(program.lines().count() < 40, "it is to be read at one glance");
    let file = desk.dir.path().join("proof.json");
    let told = Command::new("python3").args(["-c", program]).arg(file).output().unwrap();
    let errors = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(errors, "");
    (String::from_utf8(told.stdout).unwrap(), told.status.code().unwrap())
}

#[test]
fn a_window_is_recomputed_by_us_and_by_a_page_of_another_language() {
    let desk = october();
    desk.json(&["history", "compact"]);
    let args = ["report", "availability", "ehr", "--month", "2026-10", "--proof", "proof.json"];
    assert_eq!(desk.json(&args).1, 0);
    let (good, code) = verified(&desk);
    assert_eq!(code, 0, "{good:#}");
    let path = desk.dir.path().join("proof.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let proof: Value = serde_json::from_str(&text).unwrap();
    assert_schema("proof", &proof);
    assert_eq!(proof["servers"][0]["result"]["down_ms"], 3 * HOUR);
    let (words, code) = readers_program(&desk);
    let share = proof["servers"][0]["result"]["availability_millionths"].to_string();
    assert_eq!(code, 0, "{words}");
    // The window, and the month of the agreement, which says the same.
    assert_eq!(words.matches(&share).count(), 2, "{words}");

    // Here is the beginning of the chain, and that is made of a name.
    let mut other = proof.clone();
    assert_eq!(other["servers"][0]["chain"]["position"], 0);
    other["servers"][0]["chain"]["name"] = "elsewhere".into();
    sign(&desk, &other);
    assert_eq!(verified(&desk).1, 65);

    // One figure changed, one reading changed, one interval stretched, one piece of planned work moved.
    for (what, with) in [
        ("\"down_ms\": 10800000", "\"down_ms\": 7200000"),
        ("|critical|http.status|", "|healthy|-|"),
        ("\"interval_ms\": 3600000", "\"interval_ms\": 7200000"),
        ("2026-10-12", "2026-10-05"),
    ] {
        assert!(text.contains(what), "{what}");
        std::fs::write(&path, text.replacen(what, with, 1)).unwrap();
        assert_eq!(verified(&desk).1, 65, "{what}");
    }
    std::fs::write(&path, text.replacen("|critical|http.status|", "|healthy|-|", 1)).unwrap();
    assert_eq!(readers_program(&desk).1, 65);
    // The page asks for the digest, and under one of its own for what it stands for.
    std::fs::write(&path, text.replacen("fhirctl/proof/v1", "fhirctl/proof/v2", 1)).unwrap();
    assert_eq!(readers_program(&desk).1, 65);
    let period = "/servers/0/agreement/periods/0";
    for (place, value) in [
        (format!("{period}/verdict"), json!("met")),
        (format!("{period}/result/availability_millionths"), json!(999_999)),
        ("/servers/0/result/availability_millionths".to_owned(), Value::Null),
        ("/servers/0/chain/after".to_owned(), json!("00")),
    ] {
        let mut forged = proof.clone();
        *forged.pointer_mut(&place).unwrap() = value;
        sign(&desk, &forged);
        assert_eq!(readers_program(&desk).1, 65, "{place}");
    }
    sign(&desk, &proof);
    assert_eq!(readers_program(&desk).1, 0);
}

#[test]
fn breach_and_credit_are_recomputed_from_the_file_alone() {
    let desk = disputed();
    let (report, proof) = proven(&desk);
    let one = &proof["servers"][0];
    let period = &one["agreement"]["periods"][0];
    let judged = &report["servers"][0]["periods"][0]["judgement"];
    // The report's figures, in whole numbers.
    assert_eq!(one["agreement"]["terms"], report["servers"][0]["agreement"]);
    for name in
        ["verdict", "credit_due", "budget_ms", "remaining_ms", "planned_over_ms", "counted_ms"]
    {
        assert_eq!(period[name], judged[name], "{name}");
    }
    for (ours, theirs) in [("before", "before"), ("result", "totals")] {
        for name in [
            "window_ms",
            "up_ms",
            "degraded_ms",
            "down_ms",
            "unknown_ms",
            "maintenance_ms",
            "excluded_ms",
        ] {
            assert_eq!(period[ours][name], judged[theirs][name], "{ours} {name}");
        }
    }
    let names = |steps: &Value, name: &str| -> Vec<Value> {
        steps.as_array().unwrap().iter().map(|step| step[name].clone()).collect()
    };
    for name in ["exclusion", "down_before_ms", "down_after_ms"] {
        assert_eq!(names(&period["steps"], name), names(&judged["steps"], name));
    }
    let share = judged["availability"].as_f64().unwrap();
    assert_eq!(period["result"]["availability_millionths"], (share * 1e6).floor() as i64);
    assert_eq!(period["latency"][0]["measured_us"], 150_000);
    assert_eq!(one["maintenance"][0]["reason"], "upgrade");

    // By hand. Each reading is a quarter of an hour. Before: 1 h of the vendor, 1/2 h ours, 1/4 h, 1 h
    // throttled. Ours is out, planned work beyond two hours comes in, the short one goes.
    let steps: Vec<(String, i64, i64)> = period["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| {
            let quarters = |name: &str| step[name].as_i64().unwrap() / (15 * MINUTE);
            (
                step["exclusion"].as_str().unwrap().to_owned(),
                quarters("down_before_ms"),
                quarters("down_after_ms"),
            )
        })
        .collect();
    let step = |name: &str, before, after| (name.to_owned(), before, after);
    assert_eq!(
        steps,
        [
            step("maintenance", 11, 11),
            step("party=ours", 11, 9),
            step("planned_max", 9, 13),
            step("least_outage", 13, 12),
        ]
    );
    // 22 working days of October without the holiday: 21 of 12 hours; 2 h planned and 1/2 h ours are out.
    assert_eq!(period["counted_ms"], 21 * 12 * HOUR);
    assert_eq!(period["result"]["judged_ms"], 21 * 12 * HOUR - 5 * HOUR / 2);
    assert_eq!((&period["verdict"], &period["credit_due"]), (&"breached".into(), &5.0.into()));

    let (told, code) = verified(&desk);
    assert_eq!(code, 0, "{told:#}");
    let told = &told["servers"][0]["periods"][0];
    assert_eq!((&told["verdict"], &told["credit_due"]), (&"breached".into(), &5.0.into()));
    let (words, code) = readers_program(&desk);
    assert_eq!((code, words.lines().count()), (0, 2), "{words}");
    // Where nobody names a window, what is running is proven, as the report shows it.
    let running = ["report", "sla", "ehr", "--proof", "proof.json"];
    let (report, _) = desk.json(&running);
    assert_eq!(verified(&desk).1, 0);
    let text = std::fs::read_to_string(desk.dir.path().join("proof.json")).unwrap();
    let proof: Value = serde_json::from_str(&text).unwrap();
    let judged = &report["servers"][0]["periods"][0]["judgement"];
    let period = &proof["servers"][0]["agreement"]["periods"][0];
    assert_eq!(period["budget_ms"], judged["budget_ms"]);
    assert_eq!(period["result"]["unknown_ms"], judged["totals"]["unknown_ms"]);
}

#[test]
fn what_is_forged_is_found_also_under_a_digest_of_its_own() {
    let desk = disputed();
    let (_, proof) = proven(&desk);
    sign(&desk, &proof);
    assert_eq!(verified(&desk).1, 0, "nothing was changed yet");
    let period = "/servers/0/agreement/periods/0";
    let terms = "/servers/0/agreement/terms";
    let server = "/servers/0";
    let readings = proof["servers"][0]["readings"].as_array().unwrap();
    let bad =
        readings.iter().position(|text| text.as_str().unwrap().contains("http.status")).unwrap();
    let theirs = readings[bad].as_str().unwrap().replace("|vendor|", "|ours|");
    let slower = readings[9].as_str().unwrap().replace("|120000|", "|950000|");
    assert!(theirs != readings[bad] && slower != readings[9]);
    let forged: Vec<(String, Value)> = vec![
        // Figures.
        (format!("{period}/verdict"), "met".into()),
        (format!("{period}/credit_due"), Value::Null),
        (format!("{period}/credit_due"), 12.5.into()),
        (format!("{period}/budget_ms"), (100 * HOUR).into()),
        (format!("{period}/remaining_ms"), 1.into()),
        (format!("{period}/result/down_ms"), 0.into()),
        (format!("{period}/result/availability_millionths"), 999_999.into()),
        (format!("{period}/before/down_ms"), 0.into()),
        (format!("{period}/steps/1/down_after_ms"), 0.into()),
        (format!("{period}/steps/0/exclusion"), "goodwill".into()),
        (format!("{period}/latency/0/measured_us"), 1.into()),
        (format!("{period}/latency/0/met"), false.into()),
        (format!("{period}/planned_over_ms"), 0.into()),
        (format!("{period}/interval_ms"), (24 * HOUR).into()),
        (format!("{period}/counted/0/1"), 0.into()),
        (format!("{period}/planned/0/0"), 0.into()),
        (format!("{period}/until"), "2026-10-20T00:00:00Z".into()),
        ("/servers/0/agreement/periods".into(), json!([])),
        (format!("{server}/result/down_ms"), 0.into()),
        (format!("{server}/planned/0/0"), 0.into()),
        (format!("{server}/counted"), json!([])),
        (format!("{server}/tolerance"), 50.0.into()),
        ("/from".into(), "2026-09-01T00:00:00Z".into()),
        ("/to".into(), "9999-12-30T00:00:00Z".into()),
        // Terms, with figures of others.
        (format!("{terms}/availability"), 90.0.into()),
        (format!("{terms}/exclude"), json!(["maintenance", "party=ours", "party=vendor"])),
        (format!("{terms}/exclude"), json!(["goodwill"])),
        (format!("{terms}/down"), json!(["critical"])),
        (format!("{terms}/least_outage_ms"), (2 * HOUR).into()),
        (format!("{terms}/planned_max_ms"), Value::Null),
        (format!("{terms}/latency_p95_ms"), 100.into()),
        (format!("{terms}/service_hours"), "Mon-Fri 07:00-12:00".into()),
        (format!("{terms}/time_zone"), "Europe/Berlin".into()),
        (format!("{terms}/holidays"), json!(["2026-10-05"])),
        (format!("{terms}/period"), "calendar-year".into()),
        (format!("{terms}/credits/0/credit"), 1.0.into()),
        (format!("{server}/maintenance/0/until"), "2026-10-13T17:00:00Z".into()),
        (format!("{server}/scheduled_ms"), (6 * HOUR).into()),
        (format!("{server}/scheduled_ms"), i64::MAX.into()),
        (format!("{server}/agreement"), Value::Null),
        // Readings.
        (format!("{server}/readings/{bad}"), theirs.into()),
        (format!("{server}/readings/9"), slower.into()),
        (format!("{server}/readings"), json!(readings[1..])),
        (format!("{server}/chain/after"), "00".repeat(32).into()),
        (format!("{server}/chain/before"), "00".into()),
    ];
    for (place, value) in forged {
        let mut forged = proof.clone();
        let at = forged.pointer_mut(&place).unwrap_or_else(|| panic!("{place}"));
        assert_ne!(*at, value, "{place}");
        *at = value.clone();
        sign(&desk, &forged);
        let (told, code) = verified(&desk);
        if place == format!("{server}/agreement") {
            // Without its agreement the window has no service hours.
            assert!(told["problems"][0].as_str().unwrap().contains("counted"), "{told:#}");
        }
        assert_eq!(code, 65, "{place} {value}");
        assert!(!told["problems"].as_array().unwrap().is_empty());
    }
}
