//! `check` asks servers how they are doing, and `report capacity` says when something runs full.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use fhirctl::history::{Gauge, Place, Settings, Store};
use jiff::Timestamp;
use serde_json::Value;

use crate::support::{Desk, Sandbox, assert_schema};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A page of metrics on loopback; how often it was asked for.
struct Metrics {
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Metrics {
    fn new(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Metrics {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || {
                    let mut head = [0; 8 * 1024];
                    let _ = stream.read(&mut head);
                    answer(&mut stream);
                });
            }
        });
        Metrics { port, asked }
    }

    fn page(text: impl Fn() -> String + Send + Sync + 'static) -> Metrics {
        Metrics::new(move |stream| {
            let body = text();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A healthy server whose metrics are elsewhere, and some of whose resources are counted.
fn desk(sandbox: &Sandbox, metrics: &Metrics, more: &str) -> Desk {
    Desk::new(&format!(
        "version: 1\nservers:\n  - name: ehr\n    url: \"{}\"\n    schedule: {{every: 1h}}\n    \
         checks: {{resources: {{url: \"http://127.0.0.1:{}/metrics\"}}{more}}}\n",
        sandbox.url("local"),
        metrics.port
    ))
}

fn disk(used_gib: u64) -> String {
    let size = 100_u64 << 30;
    format!(
        "node_filesystem_size_bytes{{mountpoint=\"/var\",fstype=\"ext4\"}} {size}\n\
         node_filesystem_avail_bytes{{mountpoint=\"/var\",fstype=\"ext4\"}} {}\n\
         hikaricp_connections_active{{pool=\"main\"}} 3\n\
         hikaricp_connections_max{{pool=\"main\"}} 10\n\
         hikaricp_connections_pending{{pool=\"main\"}} 0\n",
        size - (used_gib << 30)
    )
}

fn gauges(desk: &Desk) -> u64 {
    desk.json(&["history", "status"]).0["gauges"].as_u64().unwrap()
}

fn line<'a>(told: &'a Value, metric: &str, of: &str) -> &'a Value {
    let lines = told["servers"].as_array().unwrap();
    let is_meant = |line: &&Value| {
        (line["metric"] == metric || line["gauge"] == metric)
            && (line["of"] == of || line["check"] == of)
    };
    lines.iter().find(is_meant).unwrap_or_else(|| panic!("no {metric} of {of} in {told:#}"))
}

/// Writes what a server would have said at so many instants up to now.
fn said(desk: &Desk, name: &str, apart: i64, values: &[f64], limit: Option<f64>) {
    let now = Timestamp::now().as_millisecond();
    let first = now - apart * i64::try_from(values.len()).unwrap();
    let at = |n: usize| first + apart * i64::try_from(n).unwrap();
    let gauges: Vec<Gauge> = values
        .iter()
        .enumerate()
        .map(|(n, value)| Gauge {
            server: "ehr".into(),
            name: name.into(),
            at: Timestamp::from_millisecond(at(n)).unwrap(),
            value: Some(*value),
            limit,
        })
        .collect();
    let place = Place::Sqlite(desk.dir.path().join("servers.history.db"));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = Store::open(&Settings { place, tls: None }).await.unwrap();
        store.add_gauges(&gauges).await.unwrap();
    });
}

#[test]
fn a_disk_that_fills_up_is_told_with_the_day_on_which_it_is_full() {
    let sandbox = Sandbox::with(&["--patients", "7"]);
    let metrics = Metrics::page(|| disk(70));
    let desk = desk(&sandbox, &metrics, ", counts: {types: [Patient]}");
    // 40 GiB a month ago, and a GiB more each day.
    let gib = f64::from(1 << 30);
    let days: Vec<f64> = (0..30 * 4)
        .map(|n| (40.0 + f64::from(n) / 4.0 + f64::from(n * 7 % 5) / 10.0) * gib)
        .collect();
    said(&desk, "disk:/var", 6 * HOUR, &days, Some(100.0 * gib));

    let (checked, code) = desk.json(&["check"]);
    assert_schema("check", &checked);
    assert_eq!((code, &checked["recorded"]), (0, &true.into()));
    let (told, code) = desk.json(&["report", "capacity"]);
    assert_schema("report-trends", &told);
    assert_eq!((code, &told["kind"]), (0, &"capacity".into()));
    let full = line(&told, "disk", "/var");
    assert_eq!(full["newest"]["value"], 70.0 * gib, "{full:#}");
    assert_eq!(
        (&full["limit"]["value"], &full["limit_source"]),
        (&(100.0 * gib).into(), &"server".into())
    );
    assert_eq!((&full["step"], &full["trend"]["direction"]), (&"day".into(), &"rising".into()));
    let now = Timestamp::now().as_millisecond();
    let crossing = &full["crossing"];
    let day = |key: &str| (crossing[key].as_i64().unwrap() - now) / DAY;
    assert!((27..=32).contains(&day("at")), "{crossing:#}");
    assert!(day("earliest") <= day("at") && day("at") <= day("latest"), "{crossing:#}");
    let end = full["forecast"].as_array().unwrap().last().unwrap();
    assert!(end["low"].as_f64() <= end["value"].as_f64(), "{end}");

    let pool = line(&told, "hikari_pool", "main");
    assert_eq!((&pool["newest"]["value"], &pool["limit"]["value"]), (&3.0.into(), &10.0.into()));
    assert_eq!(line(&told, "hikari_pool_waiting", "main")["newest"]["value"], 0.0);
    assert_eq!(line(&told, "count", "Patient")["newest"]["value"], 7.0);

    // A line of one's own is crossed before.
    let args = ["report", "capacity", "--line", "disk:/var=85%", "--line", "count:Encounter=5k"];
    let (told, code) = desk.json(&args);
    assert_eq!(code, 0);
    let sooner = line(&told, "disk", "/var");
    assert_eq!(sooner["limit_source"], "flag");
    let at = (sooner["crossing"]["at"].as_i64().unwrap() - now) / DAY;
    assert!((12..=17).contains(&at), "{sooner:#}");
    let notes = told["notes"].to_string();
    assert!(notes.contains("count:Encounter=5k"), "what changed nothing is said: {notes}");

    let exported = desk.run(&["-o", "ndjson", "history", "export", "--gauges", "--last", "31d"]);
    let exported = String::from_utf8(exported.stdout).unwrap();
    let lines: Vec<Value> =
        exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 120 + 5, "the past, and a page, a disk, a pool, its queue, a count");
    assert_schema("history-gauge", &lines[0]);
    let csv = desk.run(&["-o", "csv", "history", "export", "--gauges", "--last", "1h"]);
    assert!(String::from_utf8_lossy(&csv.stdout).contains("hikari_pool:main,3,10\n"));

    // They go over to another history, once.
    let csv = desk.run(&["-o", "csv", "history", "export", "--gauges", "--last", "31d"]).stdout;
    std::fs::write(desk.dir.path().join("gauges.csv"), &csv).unwrap();
    let other = ["--history", "sqlite:other.db", "history"];
    for (new, known) in [(125, 0), (0, 125)] {
        let import = [&other[..], &["import", "--gauges", "gauges.csv"]].concat();
        let told = desk.json(&import).0;
        assert_schema("history-import", &told);
        let one = &told["servers"][0];
        assert_eq!((&one["values"], &one["known_already"]), (&new.into(), &known.into()));
    }
    let export = [&other[..], &["export", "--gauges", "--last", "31d", "-o", "csv"]].concat();
    assert_eq!(desk.run(&export).stdout, csv);
    for row in ["ehr,2026-11-01T00:00:00Z,=1+1,3,", "ehr,2026-11-01T00:00:00Z,heap,many,"] {
        std::fs::write(
            desk.dir.path().join("bad.csv"),
            format!("server,at,gauge,value,limit\nehr,2026-11-01T00:00:00Z,heap,3,\n{row}\n"),
        )
        .unwrap();
        let bad = desk.run(&[&other[..], &["import", "--gauges", "bad.csv"]].concat());
        let words = String::from_utf8_lossy(&bad.stderr).into_owned();
        assert_eq!(bad.status.code(), Some(65), "{words}");
        assert!(words.contains("line 3: ") && words.contains("nothing was imported"), "{words}");
    }
    assert_eq!(desk.run(&export).stdout, csv);

    let output = |format: &str| {
        let output = desk.run(&["-o", format, "report", "capacity"]);
        assert_eq!(output.status.code(), Some(0), "{format}");
        String::from_utf8(output.stdout).unwrap()
    };
    let day = crossing["at"].as_i64().unwrap();
    let day = Timestamp::from_millisecond(day).unwrap().strftime("%F").to_string();
    for format in ["table", "csv", "markdown", "html"] {
        let text = output(format);
        assert!(text.contains("/var") && text.contains(&day), "{format}: {text}");
    }
    let page = output("html");
    assert!(page.contains("class=\"band\"") && page.contains("line reckoned"));
    assert!(page.contains("70 GiB") && page.contains("expected"), "the table behind it");
}

#[test]
fn servers_are_asked_at_a_rhythm_of_their_own() {
    let sandbox = Sandbox::with(&[]);
    let metrics = Metrics::page(|| disk(70));
    let desk = desk(&sandbox, &metrics, ", counts: {types: [Patient, Observation]}");
    for args in [&["check", "--no-record"][..], &["check", "--only", "metadata"], &["test", "ehr"]]
    {
        desk.json(args);
        assert_eq!(metrics.asked(), 0, "{args:?}");
    }
    desk.json(&["check"]);
    let once = gauges(&desk);
    assert_eq!((metrics.asked(), once), (1, 6), "a page, a disk, a pool and its queue, two counts");
    for _ in 0..2 {
        desk.json(&["check"]);
    }
    assert_eq!((metrics.asked(), gauges(&desk)), (1, once), "not again so soon");

    // Six minutes later the page is due, and the counts are not.
    let file = desk.dir.path().join("servers.history.db");
    let history = rusqlite::Connection::open(file).unwrap();
    history
        .execute_batch("UPDATE gauge SET asked_at = asked_at - 360000; UPDATE gauge_value SET at = at - 360000")
        .unwrap();
    drop(history);
    desk.json(&["check"]);
    assert_eq!((metrics.asked(), gauges(&desk)), (2, once + 4));
}

#[test]
fn what_only_a_preset_guesses_is_asked_for_by_nobody() {
    let sandbox = Sandbox::with(&[]);
    let url = sandbox.url("local");
    for (checks, asks) in
        [("{}", 0), ("{resources: {every: 5m}}", 1), ("{resources: {enabled: false}}", 0)]
    {
        let desk = Desk::new(&format!(
            "version: 1\nservers:\n  - {{name: ehr, url: \"{url}\", vendor: hapi, checks: {checks}}}\n"
        ));
        let said = desk.run(&["check", "-v", "--skip", "health"]);
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.matches("page was not read").count(), asks, "{checks}: {said}");
    }
}

#[test]
fn metrics_that_are_dead_endless_or_garbage_change_no_verdict() {
    let sandbox = Sandbox::with(&[]);
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let endless = Metrics::new(move |stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n");
        let piece = "some_metric{path=\"/a/b/c\"} 1234567\n".repeat(2000);
        while stream.write_all(piece.as_bytes()).is_ok() {
            count.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    });
    let silent = Metrics::new(|stream| {
        let _ = stream.read(&mut [0; 1]);
    });
    let garbage = Metrics::page(|| "<html>\u{0}\n{{{{\n".repeat(100));
    let failing = Metrics::new(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
    });
    for metrics in [endless, silent, garbage, failing] {
        let desk = desk(&sandbox, &metrics, "");
        let output = desk.run(&["-o", "json", "check", "--timeout", "4s", "-v"]);
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{told:#}");
        assert_eq!((&told["status"], &told["recorded"]), (&"healthy".into(), &true.into()));
        assert_eq!(metrics.asked(), 1);
        // What was of no use is not asked for again at once either.
        assert_eq!(desk.json(&["check"]).1, 0);
        assert_eq!(metrics.asked(), 1);
        assert_eq!(desk.json(&["history", "verify"]).1, 0);
    }
    assert!(sent.load(Ordering::Relaxed) < 100_000_000, "{sent:?} bytes were taken");
    // Nobody listens there at all.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead = Metrics { port, asked: Arc::default() };
    let desk = desk(&sandbox, &dead, "");
    let output = desk.run(&["check"]);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("ehr: its metrics page was not read"), "{said}");
    assert_eq!(gauges(&desk), 0);
}

#[test]
fn a_server_that_refuses_the_credential_is_not_asked_for_more() {
    let sandbox = Sandbox::with(&["--auth", "bearer"]);
    let desk = Desk::new(&format!(
        "version: 1\nservers:\n  - name: ehr\n    url: \"{}\"\n    auth: {{method: bearer, token: \"env:TOKEN\"}}\n    \
         checks: {{search: [\"Patient?_summary=count\"], counts: {{types: [Patient, Observation]}}}}\n",
        sandbox.url("local")
    ));
    let output =
        desk.fhirctl().env("TOKEN", "wrong").args(["-o", "json", "check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(gauges(&desk), 0);
    let secret = sandbox.line["servers"][0]["auth"]["secret_file"].as_str().unwrap();
    let token = std::fs::read_to_string(secret).unwrap();
    let output =
        desk.fhirctl().env("TOKEN", token.trim()).args(["-o", "json", "check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(gauges(&desk), 2, "counts are asked for with the credential");
}

#[test]
fn response_times_are_held_against_the_load() {
    let desk = Desk::new(
        "version: 1\nservers:\n  - {name: ehr, url: \"https://ehr.example.org/fhir\", schedule: {every: 1h}}\n",
    );
    let now = Timestamp::now().as_millisecond() / HOUR * HOUR;
    let load = |hour: i64| (hour * 7 % 23) as f64;
    let mut csv = String::from("server,at,check,status,duration_ms\n");
    for hour in 0..72 {
        let at = Timestamp::from_millisecond(now - (72 - hour) * HOUR + MINUTE).unwrap();
        writeln!(csv, "ehr,{at},metadata,healthy,{}", 100.0 + 8.0 * load(hour)).unwrap();
    }
    std::fs::write(desk.dir.path().join("past.csv"), csv).unwrap();
    assert_eq!(desk.json(&["history", "import", "past.csv"]).1, 0);
    let hours: Vec<f64> = (0..72).map(load).collect();
    let shift = Timestamp::now().as_millisecond() - now;
    said(&desk, "active_requests", HOUR, &hours, None);
    assert!(shift < HOUR);

    let (told, _) = desk.json(&["report", "capacity", "--last", "4d"]);
    assert_schema("report-trends", &told);
    let found = &line(&told, "response_p95", "metadata")["load"];
    assert_eq!(
        (&found["gauge"], &found["direction"]),
        (&"active_requests".into(), &"rising".into())
    );
    let slope = found["per_unit"].as_f64().unwrap();
    assert!((7.5..8.5).contains(&slope), "{found:#}");
    let output = desk.run(&["report", "capacity", "--last", "4d"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("slower with load"));
}

#[test]
fn a_line_that_cannot_be_meant_is_refused_with_what_could_be() {
    let desk =
        Desk::new("version: 1\nservers:\n  - {name: ehr, url: \"https://ehr.example.org\"}\n");
    for (written, says) in [
        ("dsik=90%", "did you mean disk?"),
        ("disk", "NAME=VALUE"),
        ("disk=lots", "500MB or 80GiB"),
        ("response_p95=90%", "no limit of its own"),
    ] {
        let output = desk.run(&["report", "capacity", "--line", written]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{written}: {said}");
        assert!(said.contains(says), "{written}: {said}");
    }
}

#[test]
fn rhythms_and_types_are_held_against_what_may_stand_there() {
    for (checks, says) in [
        ("{counts: {types: [patient]}}", "bad resource type \"patient\""),
        ("{counts: {types: [Patient], every: 10s}}", "shorter than a minute"),
        ("{counts: {types: [Patient], often: 6h}}", "unknown key \"often\""),
        ("{resources: {path: /metrics, every: 1s}}", "shorter than a minute"),
    ] {
        let desk = Desk::new(&format!(
            "version: 1\nservers:\n  - {{name: ehr, url: \"https://ehr.example.org\", checks: {checks}}}\n"
        ));
        let output = desk.run(&["list"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{checks}: {said}");
        assert!(said.contains(says), "{checks}: {said}");
    }
}
