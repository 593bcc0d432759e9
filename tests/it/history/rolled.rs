//! Roll-ups, seals, pruning, and what verification finds.

use fhirctl::history::{Level, ProblemKind, Retention, Rollup, Store};
use fhirctl::model::{Reading, State, Status};
use std::time::Duration;

use super::engines::{Engine, engines};
use super::{DAY, HOUR, MINUTE, MONDAY, assert_whole, instant, read, reading, write, write_hours};

const EVERY_MINUTE: fn(&str) -> Option<i64> = |_| Some(MINUTE);
const UNKNOWN: fn(&str) -> Option<i64> = |_| None;

async fn hours(store: &Store, server: &str) -> Vec<(i64, Rollup)> {
    store.rollups(server, Level::Hour, i64::MIN..i64::MAX).await.unwrap()
}

async fn days(store: &Store, server: &str) -> Vec<(i64, Rollup)> {
    store.rollups(server, Level::Day, i64::MIN..i64::MAX).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_add_up_to_days_and_hold_their_time() {
    for engine in engines() {
        let store = engine.open().await;
        write_hours(&store, &["a"], MONDAY + 22 * HOUR, 4).await;
        // Maintenance, then out of use, then a gap of half an hour.
        for (minute, state) in [(0, State::Maintenance), (1, State::Inactive), (31, State::Active)]
        {
            let at = MONDAY + 26 * HOUR + minute * MINUTE;
            let mut one = vec![reading("a", at, Status::Healthy)];
            one[0].state = state;
            write(&store, at, &mut one).await;
        }
        let rolled = store.roll_up(instant(MONDAY + 28 * HOUR), &EVERY_MINUTE).await.unwrap();
        assert_eq!((rolled.hours, rolled.days), (5, 2));
        let hours = hours(&store, "a").await;
        let at: Vec<_> =
            hours.iter().map(|(at, hour)| ((at - MONDAY) / HOUR, hour.readings)).collect();
        assert_eq!(at, [(22, 60), (23, 60), (24, 60), (25, 60), (26, 3)]);
        let first = &hours[0].1;
        // Minutes 3, 10, … 59.
        assert_eq!(first.times.down_ms, 9 * MINUTE);
        assert_eq!(first.times.up_ms, 51 * MINUTE);
        assert_eq!(first.times.down_by_party.vendor_ms, 9 * MINUTE);
        assert_eq!(first.times.down_by_code["http.status"], 9 * MINUTE);
        assert_eq!(first.samples.iter().map(|counted| counted.count).sum::<u64>(), 120);
        assert_eq!(first.latencies["metadata"].total.count(), 60);
        let last = &hours[4].1.times;
        assert_eq!((last.maintenance_ms, last.up_ms), (MINUTE, MINUTE));
        assert_eq!(last.unknown_ms, 58 * MINUTE);
        let mut monday = hours[0].1.clone();
        monday.merge(&hours[1].1);
        assert_eq!(days(&store, "a").await[0], (MONDAY, monday));
        assert_whole(&store, 243).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_up_bit_by_bit_is_rolling_up_at_once() {
    for interval in [EVERY_MINUTE, UNKNOWN] {
        for engine in engines() {
            let bit_by_bit = engine.open().await;
            let mut all: Vec<Vec<Reading>> = Vec::new();
            let mut seed = 7u64;
            let mut at = MONDAY + 20 * HOUR;
            while at < MONDAY + 40 * HOUR {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Cron jitters, sometimes a run is missed, sometimes hours of them.
                at += 40_000 + (seed >> 33) as i64 % 45_000;
                at += if seed >> 58 == 0 { 3 * HOUR } else { 0 };
                let status = [Status::Healthy, Status::Critical, Status::Warning, Status::Unknown]
                    [(seed >> 40) as usize % 4];
                let mut one = vec![reading("a", at, status)];
                write(&bit_by_bit, at, &mut one).await;
                // Now and then something comes late.
                if seed >> 59 == 1 {
                    let mut late =
                        vec![reading("a", at - (seed >> 35) as i64 % (5 * HOUR), status)];
                    write(&bit_by_bit, at, &mut late).await;
                    all.push(late);
                }
                all.push(one);
                if seed >> 60 == 2 {
                    bit_by_bit.roll_up(instant(at + 1_000), &interval).await.unwrap();
                }
                if seed >> 60 == 3 {
                    bit_by_bit.compact(instant(at + 1_000)).await.unwrap();
                }
            }
            let end = instant(at + 4 * DAY);
            bit_by_bit.roll_up(end, &interval).await.unwrap();
            let found = (hours(&bit_by_bit, "a").await, days(&bit_by_bit, "a").await);
            assert_eq!(bit_by_bit.roll_up(end, &interval).await.unwrap().days, 0);
            assert_eq!(found, (hours(&bit_by_bit, "a").await, days(&bit_by_bit, "a").await));

            let at_once = super::engines::sqlite();
            let store = at_once.open().await;
            for readings in &mut all {
                write(&store, at, readings).await;
            }
            store.roll_up(end, &interval).await.unwrap();
            let expected = (hours(&store, "a").await, days(&store, "a").await);
            for (found, expected) in found.0.iter().zip(&expected.0) {
                assert_eq!(found, expected, "{}", engine.name());
            }
            assert_eq!(found, expected, "{}", engine.name());
            assert_whole(&bit_by_bit, all.iter().map(|r| r.len() as u64).sum()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_off_is_done_the_next_time() {
    for engine in engines() {
        let store = engine.open().await;
        let servers: Vec<String> = (0..12).map(|nth| format!("s{nth}")).collect();
        let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
        write_hours(&store, &servers, MONDAY, 2).await;
        let now = instant(MONDAY + 2 * DAY);
        // Dropped wherever they are by then.
        for us in 0..60 {
            let patience = Duration::from_micros(us * 250);
            let _ = tokio::time::timeout(patience, store.compact(now)).await;
            let _ = tokio::time::timeout(patience, store.roll_up(now, &EVERY_MINUTE)).await;
        }
        assert_whole(&store, 12 * 120).await;
        store.compact(now).await.unwrap();
        store.roll_up(now, &EVERY_MINUTE).await.unwrap();
        let status = store.status().await.unwrap();
        assert_eq!((status.packed, status.segments, status.hours), (12 * 120, 12, 24));
        assert_eq!(status.unpacked_from, None);
        assert_whole(&store, 12 * 120).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_let_go_and_the_chain_goes_on() {
    for engine in engines() {
        let store = engine.open().await;
        for day in 0..4 {
            write_hours(&store, &["a"], MONDAY + day * DAY, 2).await;
        }
        let now = instant(MONDAY + 4 * DAY + HOUR);
        let days_kept = |days: u64| Some(Duration::from_secs(days * 86_400));
        let retention = Retention { raw: days_kept(2), hourly: days_kept(3), daily: None };
        store.compact(now).await.unwrap();
        // Nothing is let go that is not rolled up.
        assert_eq!(store.prune(&retention, now).await.unwrap().readings, 0);
        store.roll_up(now, &EVERY_MINUTE).await.unwrap();
        store.seal_days(now).await.unwrap();
        let told = store.prunable(&retention, now).await.unwrap();
        assert_whole(&store, 480).await;
        let pruned = store.prune(&retention, now).await.unwrap();
        assert_eq!((pruned.readings, pruned.hours, pruned.days), (240, 2, 0));
        assert_eq!(told, pruned);
        assert_eq!(read(&store, "a", i64::MIN, i64::MAX).await.len(), 240);
        assert_eq!(days(&store, "a").await.len(), 4);
        assert_whole(&store, 240).await;
        // What comes late for a day that is gone changes no roll-up of it.
        let before = days(&store, "a").await;
        write(&store, MONDAY + 4 * DAY, &mut [reading("a", MONDAY + 30_000, Status::Healthy)])
            .await;
        store.roll_up(now, &EVERY_MINUTE).await.unwrap();
        assert_eq!(days(&store, "a").await, before);
        assert_whole(&store, 241).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_day_is_sealed_once_with_what_any_sha256_makes_of_it() {
    use sha2::{Digest as _, Sha256};
    for engine in engines() {
        let store = engine.open().await;
        let all = write_hours(&store, &["b", "a"], MONDAY, 1).await;
        assert_eq!(store.seal_days(instant(MONDAY + HOUR)).await.unwrap().len(), 1);
        let sealed = store.seal_days(instant(MONDAY + DAY)).await.unwrap();
        assert_eq!(store.seal_days(instant(MONDAY + DAY + HOUR)).await.unwrap(), []);
        let lines = ["a", "b"].map(|name| {
            let mut head = Sha256::digest(format!("fhirctl/history/v1\n{name}\n"));
            for reading in all.iter().filter(|reading| &*reading.server == name) {
                head = Sha256::digest([head.as_slice(), reading.text().as_bytes()].concat());
            }
            format!("{name} {}\n", hex(&head))
        });
        assert_eq!(sealed[0].digest, hex(&Sha256::digest(lines.concat())));
        assert_eq!(sealed[0].day.to_string(), "2026-11-02");
        let seen = store.verify().await.unwrap();
        assert_eq!((seen.problem, seen.seals.len()), (None, 2));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_changed_behind_its_back_is_found() {
    for engine in engines() {
        let (bytes, hex) = match engine {
            Engine::Sqlite(_) => ("X'", ""),
            Engine::Postgres(..) => ("'", "\\x"),
        };
        for (sql, kind, position) in [
            (
                "DELETE FROM reading WHERE server = 1 AND position = 70",
                ProblemKind::Missing,
                Some(60),
            ),
            ("DELETE FROM reading WHERE server = 1 AND position = 119", ProblemKind::Missing, None),
            (
                "UPDATE reading SET at = at + 1 WHERE server = 1 AND position = 70",
                ProblemKind::Seal,
                None,
            ),
            (
                "UPDATE reading SET body = BYTES010203' WHERE server = 1 AND position = 70",
                ProblemKind::Unreadable,
                Some(70),
            ),
            (
                "UPDATE segment SET points = BYTES00' WHERE server = 1",
                ProblemKind::Unreadable,
                Some(0),
            ),
            (
                "UPDATE segment SET head_after = head_before WHERE server = 1",
                ProblemKind::Chain,
                Some(0),
            ),
            ("DELETE FROM segment WHERE server = 1", ProblemKind::Missing, Some(0)),
            ("UPDATE server SET written = written - 1 WHERE id = 1", ProblemKind::Missing, None),
            ("UPDATE server SET head = kept_head WHERE id = 1", ProblemKind::Chain, None),
            ("DELETE FROM server WHERE id = 1", ProblemKind::Seal, None),
            (
                "UPDATE day_seal SET digest = (SELECT head FROM server WHERE id = 1)",
                ProblemKind::Seal,
                None,
            ),
            (
                "UPDATE rollup SET body = (SELECT body FROM rollup WHERE server = 1 AND level = 0 \
              AND at = 1793577600000) WHERE server = 1 AND level = 0",
                ProblemKind::Rollup,
                None,
            ),
        ] {
            let engine = match &engine {
                Engine::Sqlite(_) => super::engines::sqlite(),
                Engine::Postgres(..) => super::engines::on_postgres().unwrap(),
            };
            let store = engine.open().await;
            write_hours(&store, &["a"], MONDAY, 1).await;
            write(&store, MONDAY, &mut [reading("b", MONDAY, Status::Healthy)]).await;
            store.compact(instant(MONDAY + DAY)).await.unwrap();
            for minute in 0..60 {
                // Half of them, so that two hours differ.
                let at = MONDAY + DAY + minute * 2 * MINUTE;
                write(&store, at, &mut [reading("a", at, Status::Healthy)]).await;
            }
            let now = instant(MONDAY + DAY + 3 * HOUR);
            store.roll_up(now, &EVERY_MINUTE).await.unwrap();
            store.seal_days(now).await.unwrap();
            assert_whole(&store, 121).await;
            engine.sql(&sql.replace("BYTES", &format!("{bytes}{hex}")));
            let problem = engine.open().await.verify().await.unwrap().problem;
            let problem = problem.unwrap_or_else(|| panic!("not found: {sql}"));
            assert_eq!(problem.kind, kind, "{sql}: {problem:?}");
            if let (Some(position), Engine::Sqlite(_)) = (position, &engine) {
                assert_eq!(problem.position, Some(position), "{sql}: {problem:?}");
                assert_eq!(problem.server.as_deref(), Some("a"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_out_of_order_and_twice_come_in_order() {
    for engine in engines() {
        let store = engine.open().await;
        let minutes = [5, 3, 9, 3, 1, 7];
        for minute in minutes {
            let mut one = [reading("a", MONDAY + minute * MINUTE, Status::Healthy)];
            // The clock that writes jumps back as well.
            write(&store, MONDAY + DAY - minute * DAY / 8, &mut one).await;
        }
        for packed in [false, true] {
            if packed {
                store.compact(instant(MONDAY + 2 * DAY)).await.unwrap();
            }
            let found = read(&store, "a", i64::MIN, i64::MAX).await;
            let found: Vec<_> =
                found.iter().map(|r| (r.at.as_millisecond() - MONDAY) / MINUTE).collect();
            assert_eq!(found, [1, 3, 3, 5, 7, 9]);
            assert_whole(&store, 6).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_that_is_packed_leaves_no_empty_partition_and_can_be_written_again() {
    let Some(engine) = super::engines::on_postgres() else { return };
    let Engine::Postgres(server, database) = &engine else { return };
    let partitions = || {
        let sql = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'fhirctl.reading'::regclass";
        server.sql(&database.database, sql)
    };
    let store = engine.open().await;
    // Over by the database's own clock, whenever this runs.
    let begin = MONDAY - 400 * DAY;
    for nth in 0..2 {
        write_hours(&store, &["a"], begin + nth * HOUR, 1).await;
        assert_eq!(partitions(), "1");
        store.compact(instant(begin + DAY)).await.unwrap();
        assert_eq!(partitions(), "0");
    }
    assert_whole(&store, 120).await;
}
