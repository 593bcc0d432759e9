//! Writers and databases that die in the middle.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fhirctl::history::{Place, Settings, Store};
use fhirctl::model::{ErrorKind, Origin, Status};
use serde_json::Value;
use uuid::Uuid;

use super::engines::{Engine, engines, on_postgres};
use super::{DAY, MINUTE, MONDAY, assert_whole, instant, read, reading, run_at, write};
use crate::postgres::shared;
use crate::support::{Desk, Sandbox};

const WRITER: &str = "FHIRCTL_TEST_WRITES_TO";
/// For how many seconds writers are killed; a full minute in the gate.
const SECONDS: &str = "FHIRCTL_TEST_SECONDS";
const SERVERS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Readings of one imported file.
const ROWS: usize = 40;

/// Ten processes that write at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// This test, started once more: writes runs through the library as fast as it can.
    Library,
    /// `fhirctl check`, which looks after the history behind it.
    Check,
    /// `fhirctl history import`, of the same file until it was told that it is in.
    Import,
}

const WRITERS: [Writer; 10] = [
    Writer::Library,
    Writer::Check,
    Writer::Import,
    Writer::Library,
    Writer::Library,
    Writer::Check,
    Writer::Library,
    Writer::Import,
    Writer::Library,
    Writer::Library,
];

/// What the test starts and kills: writes as fast as it can, and notes what it was told is kept.
async fn write_until_killed(line: &str) {
    let (url, notes) = line.split_once('\n').unwrap();
    let place = Place::parse(url, Path::new("/")).unwrap();
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

/// What writers were told is kept.
#[derive(Default)]
struct Told {
    runs: HashSet<Uuid>,
    checks: usize,
    /// Instants of readings that were imported.
    imported: HashSet<i64>,
}

impl Told {
    fn add(&mut self, other: Told) {
        self.runs.extend(other.runs);
        self.checks += other.checks;
        self.imported.extend(other.imported);
    }
}

fn length() -> Duration {
    let seconds = std::env::var(SECONDS).map_or(4, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_are_killed_leave_every_acknowledged_run_once() {
    if let Ok(line) = std::env::var(WRITER) {
        return write_until_killed(&line).await;
    }
    let sandbox = Sandbox::with(&[]);
    let killing: Vec<_> = engines()
        .into_iter()
        .map(|engine| {
            let fhir = sandbox.url("local");
            tokio::spawn(async move { kill_writers(&engine, &fhir).await })
        })
        .collect();
    for one in killing {
        one.await.unwrap();
    }
}

async fn kill_writers(engine: &Engine, fhir: &str) {
    let url = match engine.settings().place {
        Place::Sqlite(path) => format!("sqlite:{}", path.display()),
        Place::Postgres(server) => format!("{server}&user=fhirctl&port={}", server.port),
    };
    let mut inventory = format!("version: 1\nhistory: {{url: \"{url}\"}}\nservers:\n");
    for name in SERVERS {
        writeln!(inventory, "  - {{name: {name}, url: \"{fhir}\"}}").unwrap();
    }
    let desk = Arc::new(Desk::new(&inventory));
    // Made beforehand: the first writers are killed early.
    let store = engine.open().await;
    let end = Instant::now() + length();
    let writers = WRITERS.into_iter().zip(0..).map(|(writer, nth)| {
        let (desk, url) = (Arc::clone(&desk), url.clone());
        tokio::task::spawn_blocking(move || match writer {
            Writer::Library => library(&desk, &url, nth, end),
            Writer::Check => checks(&desk, end),
            Writer::Import => imports(&desk, nth, end),
        })
    });
    let mut told = Told::default();
    for writer in writers.collect::<Vec<_>>() {
        told.add(writer.await.unwrap());
    }
    assert!(told.runs.len() >= 10, "{}: {}", engine.name(), told.runs.len());
    if length() >= Duration::from_secs(30) {
        assert!(told.checks > 0 && !told.imported.is_empty(), "{}", engine.name());
    }
    assert_all_once(engine, &store, &told).await;
}

/// Every run once and whole, every reading that was imported once.
async fn assert_all_once(engine: &Engine, store: &Store, told: &Told) {
    let engine = engine.name();
    let seen = store.verify().await.unwrap();
    assert_eq!(seen.problem, None, "{engine}");
    let mut present: Option<HashSet<Uuid>> = None;
    for server in SERVERS {
        let found = read(store, server, i64::MIN, i64::MAX).await;
        let (imported, found): (Vec<_>, Vec<_>) =
            found.iter().partition(|reading| reading.origin == Origin::Import);
        let runs: HashSet<_> = found.iter().map(|reading| reading.run).collect();
        assert_eq!(runs.len(), found.len(), "{engine} {server}: twice");
        assert!(told.runs.is_subset(&runs), "{engine} {server}: lost");
        // All of a run or nothing of it.
        assert_eq!(present.get_or_insert_with(|| runs.clone()), &runs);
        if server == SERVERS[0] {
            let at: HashSet<_> = imported.iter().map(|r| r.at.as_millisecond()).collect();
            assert_eq!(at.len(), imported.len(), "{engine}: imported twice");
            assert!(told.imported.is_subset(&at), "{engine}: an import is lost");
        }
    }
}

/// Lets a child be for a while, and ends it as a crash would, unless it was quicker.
fn kill(mut child: Child, most_ms: u64) -> std::process::Output {
    let end = Instant::now() + Duration::from_millis(below(most_ms));
    while Instant::now() < end && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    child.wait_with_output().unwrap()
}

/// Some number below.
fn below(most: u64) -> u64 {
    let bytes = Uuid::new_v4().into_bytes();
    u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])) % most
}

fn library(desk: &Desk, url: &str, nth: u64, end: Instant) -> Told {
    let notes = desk.dir.path().join(format!("notes-{nth}"));
    while Instant::now() < end {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "history::crash::writers_that_are_killed_leave_every_acknowledged_run_once",
            ])
            .env(WRITER, format!("{url}\n{}", notes.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        kill(child, 1_500);
    }
    let text = std::fs::read_to_string(notes).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    Told { runs: whole.map(|id| id.parse().unwrap()).collect(), ..Told::default() }
}

fn checks(desk: &Desk, end: Instant) -> Told {
    let mut told = Told::default();
    while Instant::now() < end {
        let mut check = desk.fhirctl();
        check.args(["-o", "json", "check"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let output = kill(check.spawn().unwrap(), 4_000);
        let Ok(json) = serde_json::from_slice::<Value>(&output.stdout) else { continue };
        if json["recorded"] == true {
            told.runs.insert(json["run_id"].as_str().unwrap().parse().unwrap());
            told.checks += 1;
        }
    }
    told
}

fn imports(desk: &Desk, nth: u64, end: Instant) -> Told {
    let mut told = Told::default();
    let file = desk.dir.path().join(format!("import-{nth}.csv"));
    let first = MONDAY - (1 + i64::try_from(nth).unwrap()) * 30 * DAY;
    let mut done = 0;
    while Instant::now() < end {
        let at = |row: usize| first + i64::try_from(done * ROWS + row).unwrap() * MINUTE;
        let mut csv = String::from("at,status\n");
        for row in 0..ROWS {
            writeln!(csv, "{},up", instant(at(row))).unwrap();
        }
        std::fs::write(&file, csv).unwrap();
        let mut import = desk.fhirctl();
        import.args(["history", "import", "--server", SERVERS[0]]).arg(&file);
        import.stdout(Stdio::null()).stderr(Stdio::null());
        if kill(import.spawn().unwrap(), 3_000).status.success() {
            told.imported.extend((0..ROWS).map(at));
            done += 1;
        }
    }
    told
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

/// The way that bytes go through a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToDatabase,
    FromDatabase,
}

/// Passes bytes on to a database, and cuts the first connection after so many of one way.
struct Relay {
    port: u16,
    /// How many went each way over the first connection.
    passed: [Arc<AtomicUsize>; 2],
}

impl Relay {
    fn start(database: u16, cut: Option<(Way, usize)>) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let passed = [Arc::<AtomicUsize>::default(), Arc::default()];
        let counts = passed.clone();
        std::thread::spawn(move || {
            for (nth, client) in listener.incoming().enumerate() {
                let (Ok(client), Ok(server)) =
                    (client, TcpStream::connect(("127.0.0.1", database)))
                else {
                    return;
                };
                for (way, count) in [Way::ToDatabase, Way::FromDatabase].into_iter().zip(&counts) {
                    let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                    let (from, to) = if way == Way::ToDatabase { (from, to) } else { (to, from) };
                    let most = cut.filter(|(cut, _)| nth == 0 && *cut == way).map(|(_, most)| most);
                    let count = if nth == 0 { Arc::clone(count) } else { Arc::default() };
                    std::thread::spawn(move || pass(from, to, most, &count));
                }
            }
        });
        Relay { port, passed }
    }
}

/// Until one end closes or enough have passed; then both ways are closed.
fn pass(mut from: TcpStream, mut to: TcpStream, most: Option<usize>, passed: &AtomicUsize) {
    let mut buffer = [0; 4096];
    while let Ok(count) = from.read(&mut buffer) {
        let before = passed.load(Ordering::Relaxed);
        let fits = most.map_or(count, |most| count.min(most - before));
        if to.write_all(&buffer[..fits]).is_err() || fits < count || count == 0 {
            break;
        }
        passed.store(before + count, Ordering::Relaxed);
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_after_any_byte_loses_and_doubles_nothing() {
    let Some(engine) = on_postgres() else { return };
    let Engine::Postgres(server, database) = &engine else { return };
    let over = |relay: &Relay| Settings {
        place: Place::Postgres(fhirctl::history::Server {
            port: relay.port,
            ..server.over_tcp(database)
        }),
        tls: None,
    };
    // Servers that nobody knows yet, so that they are made as well.
    let batch = |nth: usize| {
        let run = run_at(MONDAY);
        let names = ["x", "y", "z"].map(|name| format!("{name}{nth:03}"));
        let mut readings = Vec::new();
        for minute in 0..30 {
            let at = MONDAY + minute * MINUTE;
            readings.extend(names.iter().map(|name| reading(name, at, Status::Warning)));
        }
        readings.iter_mut().for_each(|reading| reading.run = run.id);
        (run, readings)
    };
    drop(engine.open().await);
    let whole = Relay::start(server.port, None);
    let (run, readings) = batch(0);
    Store::open(&over(&whole)).await.unwrap().append(&run, &readings).await.unwrap();
    let mut written = readings.len() as u64;
    let totals = whole.passed.each_ref().map(|count| count.load(Ordering::Relaxed));
    let mut nth = 0;
    for (way, total) in [Way::ToDatabase, Way::FromDatabase].into_iter().zip(totals) {
        for step in 0..48 {
            nth += 1;
            let cut = total * step / 47;
            let relay = Relay::start(server.port, Some((way, cut)));
            let (run, readings) = batch(nth);
            let first = match Store::open(&over(&relay)).await {
                Ok(store) => store.append(&run, &readings).await,
                Err(error) => Err(error),
            };
            if let Err(error) = first {
                assert_eq!(error.kind, ErrorKind::Unavailable, "{way:?} {cut}: {error:?}");
                let store = Store::open(&over(&relay)).await.unwrap();
                store.append(&run, &readings).await.unwrap();
            }
            // Whoever was not told sends it once more.
            engine.open().await.append(&run, &readings).await.unwrap();
            written += readings.len() as u64;
            let store = engine.open().await;
            for name in ["x", "y", "z"] {
                let found = read(&store, &format!("{name}{nth:03}"), i64::MIN, i64::MAX).await;
                assert_eq!(found.len(), 30, "{way:?} after {cut} bytes");
            }
        }
    }
    assert_whole(&engine.open().await, written).await;
}
