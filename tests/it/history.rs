//! The store through the library, the same on both engines.

mod crash;
mod engines;
mod gauges;
mod rolled;
mod rough;
mod trouble;

use std::sync::Arc;

use fhirctl::history::{Note, NoteKind, Run, Store};
use fhirctl::model::{Detail, Origin, Party, Phases, Reading, Sample, State, Status};
use jiff::Timestamp;
use uuid::Uuid;

use engines::{Engine, engines};

pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;
/// 2026-11-02T00:00:00Z.
pub const MONDAY: i64 = 1_793_577_600_000;

pub fn instant(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

/// One check of one server, whose figures hang on the time alone.
pub fn reading(server: &str, at: i64, status: Status) -> Reading {
    let noise = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let bad = status != Status::Healthy;
    let code = bad.then(|| Arc::from("http.status"));
    let party = bad.then_some(Party::Vendor);
    let sample = |check: &str, first_byte: u64| Sample {
        check: check.into(),
        status,
        code: code.clone(),
        party,
        counts: true,
        attempts: 1,
        duration_us: first_byte + 700,
        phases: Phases {
            dns_us: None,
            connect_us: Some(300),
            tls_us: Some(400),
            first_byte_us: Some(first_byte),
            transfer_us: noise.is_multiple_of(3).then_some(0),
        },
        http_status: Some(if bad { 503 } else { 200 }),
        wire_bytes: 9_000 + noise % 7,
        issue: bad.then(|| "throttled".into()),
        detail: Some(Box::new(Detail {
            message: format!("answered in {first_byte} µs").into(),
            request_id: Some(Uuid::from_u128(noise.into()).to_string().into()),
            server_request_id: None,
            remote_address: Some("192.0.2.7:443".into()),
        })),
    };
    Reading {
        server: server.into(),
        at: instant(at),
        run: Uuid::nil(),
        origin: Origin::Check,
        vantage: Some("east".into()),
        state: State::Active,
        status,
        code: code.clone(),
        party,
        duration_us: 90_000 + noise % 1_000,
        samples: vec![
            sample("health", 4_000 + noise % 500),
            sample("metadata", 60_000 + noise % 20_000),
        ],
    }
}

pub fn run_at(at: i64) -> Run {
    Run { id: Uuid::new_v4(), at: instant(at), vantage: None, origin: Origin::Check }
}

/// Writes readings as one run, which they all name.
pub async fn write(store: &Store, at: i64, readings: &mut [Reading]) {
    let run = run_at(at);
    readings.iter_mut().for_each(|reading| reading.run = run.id);
    store.append(&run, readings).await.unwrap();
}

/// A reading a minute and server, over so many hours, written as they were taken; each seventh bad.
pub async fn write_hours(store: &Store, servers: &[&str], from: i64, hours: i64) -> Vec<Reading> {
    let mut all = Vec::new();
    for minute in 0..hours * 60 {
        let at = from + minute * MINUTE;
        let status = if minute % 7 == 3 { Status::Critical } else { Status::Healthy };
        let mut readings: Vec<_> =
            servers.iter().map(|server| reading(server, at, status)).collect();
        write(store, at, &mut readings).await;
        all.extend(readings);
    }
    all
}

pub async fn read(store: &Store, server: &str, from: i64, to: i64) -> Vec<Reading> {
    let mut found = Vec::new();
    store
        .readings(server, from..to, |reading| {
            found.push(reading);
            Ok(())
        })
        .await
        .unwrap();
    found
}

pub async fn assert_whole(store: &Store, readings: u64) {
    let seen = store.verify().await.unwrap();
    assert_eq!((seen.problem, seen.readings), (None, readings));
}

fn of_server(all: &[Reading], server: &str) -> Vec<Reading> {
    all.iter().filter(|reading| &*reading.server == server).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_reads_back_from_both_engines() {
    for engine in engines() {
        let store = engine.open().await;
        let mut all = write_hours(&store, &["a", "b"], MONDAY + 22 * HOUR, 4).await;
        // Taken earlier and written last, as an import is.
        let mut late = vec![reading("a", MONDAY + 23 * HOUR + 30_000, Status::Warning)];
        late[0].origin = Origin::Import;
        write(&store, MONDAY + 27 * HOUR, &mut late).await;
        all.extend(late);
        all.sort_by_key(|reading| reading.at);

        let everything = of_server(&all, "a");
        assert_eq!(read(&store, "a", i64::MIN, i64::MAX).await, everything);
        // The one before the window comes along; its end is not in it.
        let (from, to) = (MONDAY + 23 * HOUR, MONDAY + 24 * HOUR);
        let window: Vec<_> = everything
            .iter()
            .filter(|r| (from - MINUTE..to).contains(&r.at.as_millisecond()))
            .cloned()
            .collect();
        assert_eq!(window.len(), 62);
        assert_eq!(read(&store, "a", from, to).await, window);
        assert_eq!(store.last("a").await.unwrap().as_ref(), everything.last());
        assert_whole(&store, 481).await;

        // Monday of both, and of the one server what was written before the late one.
        let packed = store.compact(instant(MONDAY + 26 * HOUR)).await.unwrap();
        assert_eq!((packed.readings, packed.segments), (361, 3));
        let texts = |readings: &[Reading]| readings.iter().map(Reading::text).collect::<Vec<_>>();
        for (from, to) in [(i64::MIN, i64::MAX), (from, to)] {
            let expected: Vec<_> = if to == i64::MAX { everything.clone() } else { window.clone() };
            let found = read(&store, "a", from, to).await;
            assert_eq!(texts(&found), texts(&expected));
            assert!(found.iter().zip(&expected).all(|(a, b)| a.run == b.run));
        }
        let found = read(&store, "a", i64::MIN, MONDAY + DAY).await;
        let kept = |nth: usize| found[nth].samples[0].detail.is_some();
        // Minutes 3 and 10 are bad: they keep theirs, and so do the ends of what was well.
        let kept: Vec<_> = (0..12).filter(|nth| kept(*nth)).collect();
        assert_eq!(kept, [0, 2, 3, 4, 9, 10, 11]);
        assert_whole(&store, 481).await;
        assert_eq!(store.compact(instant(MONDAY + 26 * HOUR)).await.unwrap().readings, 0);

        // Everything packed, and the newest reading with it.
        store.compact(instant(MONDAY + 9 * DAY)).await.unwrap();
        assert_eq!(store.status().await.unwrap().packed, 481);
        let last = store.last("a").await.unwrap().unwrap();
        assert_eq!(last.text(), everything.last().unwrap().text());
        assert_whole(&store, 481).await;

        let mut points = Vec::new();
        let visit = |point| {
            points.push(point);
            Ok(())
        };
        store.points("a", i64::MIN..i64::MAX, visit).await.unwrap();
        let expected = everything.iter().map(|r| (r.at.as_millisecond(), r.status, r.code.clone()));
        let found = points.iter().map(|point| (point.at, point.status, point.code.clone()));
        assert!(found.eq(expected), "{}", engine.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_written_once_however_often_it_is_sent() {
    for engine in engines() {
        let store = engine.open().await;
        let run = run_at(MONDAY);
        let readings = [reading("a", MONDAY, Status::Healthy)];
        for _ in 0..3 {
            store.append(&run, &readings).await.unwrap();
        }
        let other = engine.open().await;
        other.append(&run, &readings).await.unwrap();
        assert_whole(&store, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_once_neither_lose_nor_double() {
    for engine in engines() {
        let writers = (0..6).map(|writer| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let store = engine.open().await;
                for nth in 0..12 {
                    let at = MONDAY + nth * MINUTE + writer;
                    // Everybody writes to all, each in another order.
                    let mut servers = ["a", "b", "c", "d"];
                    servers.rotate_left(writer as usize % 4);
                    let mut readings = servers.map(|server| reading(server, at, Status::Healthy));
                    write(&store, at, &mut readings).await;
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        let store = engine.open().await;
        assert_whole(&store, 6 * 12 * 4).await;
        for server in ["a", "b", "c", "d"] {
            let found = read(&store, server, i64::MIN, i64::MAX).await;
            let mut at: Vec<_> = found.iter().map(|reading| reading.at).collect();
            at.dedup();
            assert_eq!(at.len(), 72, "{} {server}", engine.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_keeps_its_history_under_another_name() {
    for engine in engines() {
        let store = engine.open().await;
        let mut all = write_hours(&store, &["a", "b"], MONDAY, 1).await;
        store.rename("a", "new").await.unwrap();
        assert!(store.rename("new", "b").await.unwrap_err().message.contains("already"));
        let mut more = vec![reading("new", MONDAY + HOUR, Status::Healthy)];
        write(&store, MONDAY + HOUR, &mut more).await;
        all.retain(|reading| &*reading.server == "a");
        all.iter_mut().for_each(|reading| reading.server = "new".into());
        all.extend(more);
        assert_eq!(read(&store, "new", i64::MIN, i64::MAX).await, all);
        assert!(store.last("a").await.is_err());
        assert_whole(&store, 121).await;

        store.archive("b", instant(MONDAY + DAY)).await.unwrap();
        let names = |known: Vec<fhirctl::history::Known>| {
            known.into_iter().map(|k| (k.name, k.readings, k.removed_at)).collect::<Vec<_>>()
        };
        assert_eq!(
            names(store.servers().await.unwrap()),
            [("b".into(), 60, Some(MONDAY + DAY)), ("new".into(), 61, None)]
        );
        // What was taken out makes room for its name.
        store.rename("new", "b").await.unwrap();
        assert_eq!(
            names(store.servers().await.unwrap()),
            [
                ("b".into(), 61, None),
                ("b (removed 2026-11-03T00:00:00Z)".into(), 60, Some(MONDAY + DAY))
            ]
        );
        assert_whole(&store, 121).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_follow_their_server() {
    for engine in engines() {
        let store = engine.open().await;
        write_hours(&store, &["a"], MONDAY, 1).await;
        let mut note = Note {
            id: 0,
            server: Some("a".into()),
            at: MONDAY + MINUTE,
            written_at: instant(MONDAY + HOUR),
            author: "ops".into(),
            kind: NoteKind::Cause,
            cause: Some("certificate".into()),
            party: Some(Party::Vendor),
            case_number: Some("88".into()),
            text: "renewed too late".into(),
        };
        note.id = store.add_note(&note).await.unwrap();
        let all = Note { server: None, at: MONDAY, id: 0, kind: NoteKind::Note, ..note.clone() };
        store.add_note(&all).await.unwrap();
        store.rename("a", "b").await.unwrap();
        let found = store.notes(Some("b"), MONDAY..MONDAY + DAY).await.unwrap();
        assert_eq!(found, [Note { server: Some("b".into()), ..note.clone() }]);
        assert_eq!(store.notes(None, MONDAY..MONDAY + DAY).await.unwrap().len(), 2);
        assert_eq!(store.notes(None, MONDAY..MONDAY + 1).await.unwrap().len(), 1);
        let long = Note { text: "x".repeat(5_000), ..note };
        assert!(store.add_note(&long).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_is_bounded_and_the_chain_holds_what_is_kept() {
    for engine in engines() {
        let store = engine.open().await;
        let mut long = reading("a", MONDAY, Status::Critical);
        long.at = "2026-11-02T00:00:00.123456789Z".parse().unwrap();
        long.samples[0].issue = Some("ä".repeat(500).into());
        long.samples[0].detail =
            Some(Box::new(Detail { message: "x".repeat(10_000).into(), ..Detail::default() }));
        long.samples[1].duration_us = u64::MAX;
        store.append(&run_at(MONDAY), &[long]).await.unwrap();
        let last = store.last("a").await.unwrap().unwrap();
        assert_eq!(last.at.to_string(), "2026-11-02T00:00:00.123Z");
        assert_eq!(last.samples[0].issue.as_ref().unwrap().len(), 200);
        assert_eq!(last.samples[0].detail.as_ref().unwrap().message.len(), 2_000);
        assert_whole(&store, 1).await;
    }
}

#[tokio::test]
async fn looking_makes_nothing() {
    for engine in engines() {
        assert!(Store::look(&engine.settings()).await.unwrap().is_none());
        engine.open().await;
        assert!(Store::look(&engine.settings()).await.unwrap().is_some());
        if let Engine::Sqlite(folder) = &engine {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(folder.path().join("h.db")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
