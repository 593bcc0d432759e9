//! Gauges: what servers say of themselves over time, beside the chain.

use std::sync::Arc;
use std::time::Duration;

use fhirctl::history::{Gauge, GaugeValue, Retention, Store};

use super::engines::{Engine, engines};
use super::{DAY, HOUR, MINUTE, MONDAY, assert_whole, instant, run_at, write_hours};

fn gauge(server: &str, name: &str, at: i64, value: Option<f64>) -> Gauge {
    let limit = value.map(|_| 100.0);
    Gauge { server: server.into(), name: name.into(), at: instant(at), value, limit }
}

async fn read(store: &Store, server: &str, name: &str) -> Vec<(i64, f64)> {
    let all = store.gauges(server, i64::MIN..i64::MAX).await.unwrap();
    let found = all.into_iter().find(|series| &*series.name == name);
    let values = found.map(|series| series.values).unwrap_or_default();
    values.into_iter().map(|value| (value.at, value.value)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn gauges_read_back_and_are_kept_once_however_often_they_are_sent() {
    for engine in engines() {
        let store = engine.open().await;
        write_hours(&store, &["a"], MONDAY, 1).await;
        assert!(store.gauges_asked().await.unwrap().is_empty());
        let sent = vec![
            gauge("a", "heap", MONDAY, Some(40.0)),
            gauge("a", "heap", MONDAY + HOUR, Some(50.5)),
            gauge("a", "disk:/var", MONDAY, Some(f64::NAN)),
            gauge("a", "count:Patient", MONDAY + HOUR, None),
            gauge("b", "heap", MONDAY, Some(1.0)),
        ];
        for new in [3, 0] {
            assert_eq!(store.add_gauges(&sent).await.unwrap(), new, "{}", engine.name());
        }
        // Another process sends an older one late.
        let other = engine.open().await;
        other.add_gauges(&[gauge("a", "heap", MONDAY - HOUR, Some(30.0))]).await.unwrap();

        let all = store.gauges("a", MONDAY..MONDAY + 2 * HOUR).await.unwrap();
        assert_eq!(all.len(), 1, "{}: {all:?}", engine.name());
        let value = |at, value| GaugeValue { at, value, limit: Some(100.0) };
        assert_eq!(all[0].values, [value(MONDAY, 40.0), value(MONDAY + HOUR, 50.5)]);
        assert_eq!(read(&store, "a", "heap").await.len(), 3);
        assert_eq!(store.gauges("nobody", 0..i64::MAX).await.unwrap(), []);

        let asked = store.gauges_asked().await.unwrap();
        let last = |name: &str| asked["a"].get(name).copied();
        assert_eq!(last("heap"), Some(MONDAY + HOUR));
        assert_eq!(last("count:Patient"), Some(MONDAY + HOUR), "asked for, and nothing came");
        assert_eq!(asked["b"].len(), 1);
        assert_eq!(store.status().await.unwrap().gauges, 4);
        assert_whole(&store, 60).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_of_the_same_gauges_do_not_wait_for_each_other_for_ever() {
    for engine in engines() {
        let engine = Arc::new(engine);
        engine.open().await;
        let writers: Vec<_> = (0..6)
            .map(|writer| {
                let engine = Arc::clone(&engine);
                tokio::spawn(async move {
                    let store = engine.open().await;
                    for minute in 0..5 {
                        let at = MONDAY + (minute * 6 + writer) * MINUTE;
                        let mut gauges: Vec<Gauge> = ["a", "b", "c"]
                            .iter()
                            .flat_map(|server| {
                                ["heap", "threads"].map(|name| gauge(server, name, at, Some(1.0)))
                            })
                            .collect();
                        if writer % 2 == 0 {
                            gauges.reverse();
                        }
                        store.add_gauges(&gauges).await.unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(engine.open().await.status().await.unwrap().gauges, 6 * 5 * 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gauges_go_along_with_a_server_under_every_name() {
    for engine in engines() {
        let store = engine.open().await;
        write_hours(&store, &["old"], MONDAY, 1).await;
        store.add_gauges(&[gauge("old", "heap", MONDAY, Some(7.0))]).await.unwrap();
        store.rename("old", "new").await.unwrap();
        assert_eq!(read(&store, "new", "heap").await, [(MONDAY, 7.0)]);
        assert!(read(&store, "old", "heap").await.is_empty());
        store.archive("new", instant(MONDAY + HOUR)).await.unwrap();
        assert_eq!(read(&store, "new", "heap").await.len(), 1, "its history stays");
        // Another server takes the name, and begins with nothing.
        store.rename("new", "aside").await.unwrap();
        store.append(&run_at(MONDAY + HOUR), &[]).await.unwrap();
        write_hours(&store, &["new"], MONDAY + HOUR, 1).await;
        assert!(read(&store, "new", "heap").await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_gauges_are_thinned_and_then_let_go() {
    for engine in engines() {
        let store = engine.open().await;
        let now = MONDAY + 40 * DAY;
        let mut all = Vec::new();
        for step in 0..40 * 24 * 4 {
            all.push(gauge("a", "heap", MONDAY + step * 15 * MINUTE, Some(step as f64)));
        }
        all.push(gauge("a", "gone", MONDAY, Some(1.0)));
        store.add_gauges(&all).await.unwrap();

        store.compact(instant(now)).await.unwrap();
        let thinned = read(&store, "a", "heap").await;
        assert_eq!(thinned.len(), 26 * 24 + 14 * 24 * 4, "{}", engine.name());
        // The last of the hour, at its own instant.
        assert_eq!(thinned[0], (MONDAY + 45 * MINUTE, 3.0));
        store.compact(instant(now)).await.unwrap();
        assert_eq!(read(&store, "a", "heap").await, thinned);

        let day = Duration::from_secs(86_400);
        let retention =
            Retention { raw: Some(20 * day), hourly: Some(20 * day), daily: Some(30 * day) };
        let pruned = store.prune(&retention, instant(now)).await.unwrap();
        let left = read(&store, "a", "heap").await;
        assert_eq!(left.len(), 10 + 6 * 24 + 14 * 24 * 4);
        assert_eq!(left[0].0, MONDAY + 11 * DAY - 15 * MINUTE, "of the eleventh day the last");
        assert_eq!(pruned.gauges as usize, thinned.len() + 1 - left.len());
        let asked = store.gauges_asked().await.unwrap();
        assert_eq!(asked["a"].keys().map(|name| &**name).collect::<Vec<_>>(), ["heap"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_of_the_layout_before_gauges_keeps_everything() {
    for engine in engines() {
        let store = engine.open().await;
        let written = write_hours(&store, &["a", "b"], MONDAY, 2).await;
        drop(store);
        engine.sql("DROP TABLE gauge; DROP TABLE gauge_value");
        engine.sql(match engine {
            Engine::Sqlite(_) => "PRAGMA user_version = 20261129",
            Engine::Postgres(..) => "UPDATE meta SET value = 20261129 WHERE key = 'schema'",
        });
        let store = engine.open().await;
        assert_eq!(store.status().await.unwrap().schema, 20_261_130, "{}", engine.name());
        assert_whole(&store, 240).await;
        let kept = super::read(&store, "a", i64::MIN, i64::MAX).await;
        assert_eq!(kept, super::of_server(&written, "a"));
        store.add_gauges(&[gauge("a", "heap", MONDAY, Some(1.0))]).await.unwrap();
        assert_eq!(read(&store, "a", "heap").await, [(MONDAY, 1.0)]);
    }
}
