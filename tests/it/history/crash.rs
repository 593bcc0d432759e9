//! Writers and databases that die in the middle.

use std::collections::HashSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use fhirctl::history::{Place, Settings, Store};
use fhirctl::model::Status;

use super::engines::{Engine, engines, on_postgres};
use super::{MINUTE, MONDAY, assert_whole, instant, read, reading, run_at, write};
use crate::postgres::shared;

const WRITER: &str = "FHIRCTL_TEST_WRITES_TO";
const SERVERS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What the test starts and kills: writes as fast as it can, and notes what it was told is kept.
async fn write_until_killed(line: &str) {
    let (url, notes) = line.split_once('\n').unwrap();
    let place = Place::parse(url, std::path::Path::new("/")).unwrap();
    let mut notes = std::fs::File::options().append(true).create(true).open(notes).unwrap();
    let store = Store::open(&Settings { place, tls: None }).await.unwrap();
    for nth in 0.. {
        let run = run_at(MONDAY);
        let at = MONDAY + nth * MINUTE;
        let mut readings = SERVERS.map(|server| reading(server, at, Status::Healthy));
        readings.iter_mut().for_each(|reading| reading.run = run.id);
        store.append(&run, &readings).await.unwrap();
        notes.write_all(format!("{}\n", run.id).as_bytes()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_are_killed_leave_every_acknowledged_run_once() {
    // Started once more by itself, it is one of the writers.
    if let Ok(line) = std::env::var(WRITER) {
        return write_until_killed(&line).await;
    }
    for engine in engines() {
        let notes = tempfile::tempdir().unwrap();
        let url = match engine.settings().place {
            Place::Sqlite(path) => format!("sqlite:{}", path.display()),
            Place::Postgres(server) => format!("{server}&user=fhirctl&port={}", server.port),
        };
        // Made beforehand: the first writers are killed early.
        engine.open().await;
        let mut seed = 11u64;
        for round in 0..4 {
            let children: Vec<_> = (0..4)
                .map(|nth| {
                    let file = notes.path().join(format!("{round}-{nth}"));
                    Command::new(std::env::current_exe().unwrap())
                        .args([
                            "--exact",
                            "history::crash::writers_that_are_killed_leave_every_acknowledged_run_once",
                        ])
                        .env(WRITER, format!("{url}\n{}", file.display()))
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .spawn()
                        .unwrap()
                })
                .collect();
            for mut child in children {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                tokio::time::sleep(Duration::from_millis(250 + (seed >> 33) % 400)).await;
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
        let mut acknowledged = HashSet::new();
        for entry in std::fs::read_dir(notes.path()).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            acknowledged.extend(text.split_inclusive('\n').filter_map(|line| {
                line.strip_suffix('\n').map(|id| id.parse::<uuid::Uuid>().unwrap())
            }));
        }
        assert!(acknowledged.len() > 20, "{}: {}", engine.name(), acknowledged.len());
        let store = engine.open().await;
        let seen = store.verify().await.unwrap();
        assert_eq!(seen.problem, None, "{}", engine.name());
        let mut present: Option<HashSet<uuid::Uuid>> = None;
        for server in SERVERS {
            let found = read(&store, server, i64::MIN, i64::MAX).await;
            let runs: HashSet<_> = found.iter().map(|reading| reading.run).collect();
            assert_eq!(runs.len(), found.len(), "{} {server}: twice", engine.name());
            assert!(acknowledged.is_subset(&runs), "{} {server}: lost", engine.name());
            // All of a run or nothing of it.
            assert_eq!(present.get_or_insert_with(|| runs.clone()), &runs);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_in_the_middle_of_a_batch_loses_and_doubles_nothing() {
    let Some(engine) = on_postgres() else { return };
    let store = engine.open().await;
    write(&store, MONDAY, &mut [reading("a", MONDAY, Status::Healthy)]).await;
    // The second row of the first batch kills its own connection; a sequence forgets no rollback.
    engine.sql(
        "CREATE SEQUENCE fatal; CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN IF nextval('fhirctl.fatal') = 2 THEN \
         PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); END IF; RETURN NEW; END $$; \
         CREATE TRIGGER die BEFORE INSERT ON reading FOR EACH ROW EXECUTE FUNCTION die()",
    );
    let mut batch: Vec<_> =
        (1..5).map(|nth| reading("a", MONDAY + nth * MINUTE, Status::Healthy)).collect();
    write(&store, MONDAY, &mut batch).await;
    assert_whole(&store, 5).await;
    // Between two batches.
    engine.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE application_name = 'fhirctl' AND datname = current_database()",
    );
    write(&store, MONDAY, &mut [reading("a", MONDAY + 9 * MINUTE, Status::Healthy)]).await;
    assert_whole(&store, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_comes_back_with_all_it_had_acknowledged() {
    let Some(_) = shared() else { return };
    let server = std::sync::Arc::new(crate::postgres::Postgres::start(&[]).unwrap());
    let database = server.database();
    let engine = Engine::Postgres(server.clone(), database);
    let store = engine.open().await;
    write(&store, MONDAY, &mut [reading("a", MONDAY, Status::Healthy)]).await;
    let crashing = tokio::task::spawn_blocking(move || server.crash());
    crashing.await.unwrap();
    write(&store, MONDAY, &mut [reading("a", MONDAY + MINUTE, Status::Healthy)]).await;
    assert_whole(&store, 2).await;
    store.compact(instant(MONDAY + 2 * 86_400_000)).await.unwrap();
    assert_whole(&store, 2).await;
}
