//! What reports make of a real store, held against the slow way to the same figures.
//!
//! All that happens to a server lies on a grid, so that a walk through it takes one step a cell. Hours and
//! days do not lie on it: roll-ups are cut within cells, and their parts have to add up to the millisecond.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use uuid::Uuid;

use super::{Figures, availability, daily, figures, instant, known};
use crate::history::{Place, Run, Settings, Store};
use crate::inventory::{self, Overrides};
use crate::model::server::Maintenance;
use crate::model::{Origin, Party, Phases, Reading, Sample, Schedule, Server, State, Status};
use crate::stats::latency;
use crate::stats::reference::walk;
use crate::stats::sketch::RELATIVE_ERROR;
use crate::stats::span::Span;
use crate::stats::uptime::{Kind, Point, Totals};

const HISTORIES: u64 = 1_000;
/// Midnight in New York on 2026-11-01, which has 25 hours there.
const BEGIN: i64 = 1_793_505_600_000;
const LONG_DAY: i64 = 25 * 3_600_000;

/// What a server went through, and what was done to its history meanwhile.
#[derive(Clone, Debug)]
struct Story {
    /// The length of a cell in milliseconds.
    grid: i64,
    /// All others in cells, from [`BEGIN`].
    interval: i64,
    maintenance: Vec<Span>,
    windows: Vec<Span>,
    /// In the order of time.
    looks: Vec<Look>,
}

/// One look at the server.
#[derive(Clone, Debug)]
struct Look {
    /// Cells since the one before.
    after: i64,
    state: State,
    status: Status,
    party: Party,
    code: &'static str,
    took_us: u64,
    /// How many others are written before it.
    late: usize,
    /// Whether it is written with the one before, or begins a run.
    joins: bool,
    /// By how many cells the clock of who writes is off.
    clock: i64,
    then: Then,
}

/// What happens behind a run.
#[derive(Clone, Copy, Debug)]
enum Then {
    Nothing,
    /// So many cells behind the newest reading.
    RollUp(i64),
    /// So many days behind it.
    Compact(i64),
}

fn story() -> impl Strategy<Value = Story> {
    // Parts of 25 hours, with that day as a window; or of any length.
    let of_the_day = select(vec![
        250_000,
        300_000,
        375_000,
        450_000,
        500_000,
        562_500,
        600_000,
        625_000,
        720_000,
        900_000,
        1_125_000_i64,
    ]);
    let of_the_day = of_the_day.prop_map(|grid| (grid, vec![Span::new(0, LONG_DAY / grid)]));
    let any =
        (100_003_i64..1_500_000, vec((0_i64..200, 1_i64..250), 1..3)).prop_map(|(grid, all)| {
            (grid, all.into_iter().map(|(from, length)| Span::new(from, from + length)).collect())
        });
    (prop_oneof![of_the_day, any], 1_i64..7)
        .prop_flat_map(|((grid, windows), interval)| {
            let maintenance = vec((-10_i64..300, 1_i64..40), 0..3);
            let maintenance = maintenance.prop_map(|all: Vec<(i64, i64)>| {
                all.into_iter().map(|(from, length)| Span::new(from, from + length)).collect()
            });
            let maintenance = prop_oneof![3 => Just(Vec::new()), 2 => maintenance];
            (Just((grid, windows, interval)), maintenance, vec(look(interval), 0..36))
        })
        .prop_map(|((grid, windows, interval), maintenance, looks)| Story {
            grid,
            interval,
            maintenance,
            windows,
            looks,
        })
}

fn look(interval: i64) -> impl Strategy<Value = Look> {
    let after = prop_oneof![
        12 => Just(interval),
        2 => Just(0_i64),
        4 => 1..=2 * interval,
        1 => interval..40,
    ];
    let state = prop_oneof![12 => Just(State::Active), 1 => Just(State::Maintenance), 1 => Just(State::Inactive)];
    let status = prop_oneof![
        6 => Just(Status::Healthy),
        2 => Just(Status::Warning),
        4 => Just(Status::Critical),
        1 => Just(Status::Unknown),
    ];
    let party = select(vec![Party::Ours, Party::Vendor, Party::Network]);
    let seen = (after, state, status, party, select(vec!["tcp.refused", "http.status"]));
    let late = prop_oneof![12 => Just(0_usize), 2 => 1_usize..8, 1 => 8_usize..80];
    let clock = prop_oneof![8 => Just(0_i64), 1 => -300_i64..30];
    let then = prop_oneof![
        8 => Just(Then::Nothing),
        2 => (0..4 * interval).prop_map(Then::RollUp),
        1 => (0_i64..3).prop_map(Then::Compact),
    ];
    let written = (late, any::<bool>(), clock, then);
    (seen, 1_u64..8_000_000, written).prop_map(
        |((after, state, status, party, code), took_us, (late, joins, clock, then))| Look {
            after,
            state,
            status,
            party,
            code,
            took_us,
            late,
            joins,
            clock,
            then,
        },
    )
}

impl Story {
    fn ms(&self, cell: i64) -> i64 {
        BEGIN + cell * self.grid
    }

    fn span(&self, cells: Span) -> Span {
        Span::new(self.ms(cells.from), self.ms(cells.to))
    }

    /// Each look with its cell.
    fn cells(&self) -> Vec<(i64, &Look)> {
        let mut cell = -12;
        let place = |look: &Look| {
            cell += look.after;
            cell
        };
        let cells: Vec<i64> = self.looks.iter().map(place).collect();
        cells.into_iter().zip(&self.looks).collect()
    }

    fn server(&self, plain: &Server) -> Server {
        let every = Duration::from_millis((self.interval * self.grid).unsigned_abs());
        let maintenance = self.maintenance.iter().map(|cells| {
            let span = self.span(*cells);
            Maintenance {
                from: Some(instant(span.from)),
                until: Some(instant(span.to)),
                reason: None,
                entered: None,
                entered_by: None,
            }
        });
        Server {
            schedule: Some(Schedule::Every(every)),
            maintenance: maintenance.collect(),
            ..plain.clone()
        }
    }

    /// Writes it down as it came, and has the history rolled up and packed on the way.
    async fn play(&self, store: &Store) {
        let interval = self.interval * self.grid;
        let cells = self.cells();
        let mut order: Vec<(usize, usize)> =
            cells.iter().enumerate().map(|(nth, (_, look))| (nth + look.late, nth)).collect();
        order.sort_unstable();
        let mut newest = i64::MIN;
        for run in order.chunk_by(|_, (_, next)| cells[*next].1.joins) {
            let id = Uuid::new_v4();
            let looks = run.iter().map(|(_, nth)| cells[*nth]);
            newest = looks.clone().map(|(cell, _)| cell).fold(newest, i64::max);
            let readings: Vec<Reading> =
                looks.clone().map(|(cell, look)| look.reading(self.ms(cell), id)).collect();
            let Some((_, last)) = looks.clone().next_back() else { continue };
            let at = instant(self.ms(newest + last.clock));
            let run = Run { id, at, vantage: None, origin: Origin::Check };
            store.append(&run, &readings).await.unwrap();
            match last.then {
                Then::Nothing => {}
                Then::RollUp(behind) => {
                    let now = instant(self.ms(newest + behind));
                    store.roll_up(now, &|_| Some(interval)).await.unwrap();
                }
                Then::Compact(days) => {
                    let now = instant(self.ms(newest) + days * 86_400_000);
                    store.compact(now).await.unwrap();
                }
            }
        }
    }

    /// How the time of a window was spent, cell by cell.
    fn times(&self, window: Span) -> Totals {
        let cells = self.cells();
        let looked = cells.iter().filter(|(_, look)| look.state != State::Inactive);
        let points: Vec<Point> = looked.map(|(cell, look)| look.point(*cell)).collect();
        let mut totals = Totals::default();
        for said in walk(window, &points, self.interval, &self.maintenance) {
            totals.window_ms += self.grid;
            match said.kind {
                Kind::Up => totals.up_ms += self.grid,
                Kind::Degraded => totals.degraded_ms += self.grid,
                Kind::Unknown => totals.unknown_ms += self.grid,
                Kind::Maintenance => totals.maintenance_ms += self.grid,
                Kind::Down => {
                    totals.down_ms += self.grid;
                    totals.down_by_party.add(said.party, self.grid);
                    let code = said.code.unwrap().to_string();
                    *totals.down_by_code.entry(code).or_default() += self.grid;
                }
            }
        }
        totals
    }

    fn taken(&self, window: Span) -> Vec<&Look> {
        let cells = self.cells().into_iter();
        cells.filter(|(cell, _)| window.contains(*cell)).map(|(_, look)| look).collect()
    }
}

impl Look {
    fn bad(&self) -> Option<(&'static str, Party)> {
        (self.status != Status::Healthy).then_some((self.code, self.party))
    }

    fn reading(&self, at: i64, run: Uuid) -> Reading {
        let code: Option<Arc<str>> = self.bad().map(|(code, _)| code.into());
        let party = self.bad().map(|(_, party)| party);
        Reading {
            server: "a".into(),
            at: instant(at),
            run,
            origin: Origin::Check,
            vantage: None,
            state: self.state,
            status: self.status,
            code: code.clone(),
            party,
            duration_us: self.took_us + 9,
            samples: vec![Sample {
                check: "metadata".into(),
                status: self.status,
                code,
                party,
                counts: true,
                attempts: 1,
                duration_us: self.took_us,
                phases: Phases::default(),
                http_status: Some(200),
                wire_bytes: 7,
                issue: None,
                detail: None,
            }],
        }
    }

    fn point(&self, at: i64) -> Point {
        let kind = match self.state {
            State::Maintenance => Kind::Maintenance,
            _ => Kind::of(self.status),
        };
        let (code, party) = self.bad().unzip();
        Point { at, kind, party, code: code.map(Arc::from) }
    }
}

/// Counts and percentiles of one window, from the looks themselves.
fn compare(found: &Figures, looks: &[&Look]) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.rollup.readings, looks.len() as u64);
    let count = |status: Status| looks.iter().filter(|look| look.status == status).count() as u64;
    let errors = found.errors();
    prop_assert_eq!(errors.samples, looks.len() as u64);
    prop_assert_eq!(errors.failed, count(Status::Critical));
    prop_assert_eq!(errors.warned, count(Status::Warning));
    prop_assert_eq!(errors.unknown, count(Status::Unknown));
    let mut codes: BTreeMap<String, u64> = BTreeMap::new();
    for (code, _) in looks.iter().filter_map(|look| look.bad()) {
        *codes.entry(code.to_owned()).or_default() += 1;
    }
    let found_codes: BTreeMap<_, _> =
        errors.by_code.iter().map(|share| (share.name.clone(), share.count)).collect();
    prop_assert_eq!(found_codes, codes);
    let mut took: Vec<u64> = looks.iter().map(|look| look.took_us).collect();
    let (Some(exact), Some(told)) = (latency::exact(&mut took), found.latency()) else {
        prop_assert!(took.is_empty() && found.latency().is_none());
        return Ok(());
    };
    prop_assert_eq!(
        (told.count, told.mean_ms, told.min_ms, told.max_ms),
        (exact.count, exact.mean_ms, exact.min_ms, exact.max_ms)
    );
    for (told, exact) in [
        (told.p50_ms, exact.p50_ms),
        (told.p90_ms, exact.p90_ms),
        (told.p95_ms, exact.p95_ms),
        (told.p99_ms, exact.p99_ms),
    ] {
        prop_assert!((told - exact).abs() <= exact * RELATIVE_ERROR, "{told} is not {exact}");
    }
    Ok(())
}

/// Figures of every window, from roll-ups as far as they reach.
async fn compare_figures(
    story: &Story,
    store: &Store,
    server: &Server,
    when: &str,
) -> Result<(), TestCaseError> {
    let known = known(store).await.unwrap();
    for cells in &story.windows {
        let found =
            figures(store, server, known.get(&server.name), story.span(*cells)).await.unwrap();
        prop_assert_eq!(found.times(), &story.times(*cells), "{}", when);
        compare(&found, &story.taken(*cells))?;
    }
    let problem = store.verify().await.unwrap().problem;
    prop_assert_eq!(problem, None, "{}", when);
    Ok(())
}

/// What is made day by day, in New York and in UTC.
async fn compare_days(story: &Story, store: &Store, server: &Server) -> Result<(), TestCaseError> {
    let zone = TimeZone::get("America/New_York").unwrap();
    let all = known(store).await.unwrap();
    for cells in &story.windows {
        let window = story.span(*cells);
        let expected = story.times(*cells);
        let known = !story.looks.is_empty();
        let told = availability(store, server, known, window, &zone, i64::MAX).await.unwrap();
        prop_assert_eq!(&told.totals, &expected);
        let mut sum = Totals::default();
        told.days.iter().for_each(|day| sum.merge(&day.totals));
        prop_assert_eq!(&sum, &expected);
        if window.ms() == LONG_DAY {
            prop_assert_eq!(told.days.len(), 1, "the day of 25 hours is one");
        }
        let exact =
            availability(store, server, known, window, &TimeZone::UTC, i64::MAX).await.unwrap();
        let days = daily(store, server, all.get(&server.name), window).await.unwrap();
        let readings: u64 = days.iter().map(|(_, day)| day.readings).sum();
        prop_assert_eq!(readings, story.taken(*cells).len() as u64);
        for (at, day) in days {
            let date = instant(at).to_zoned(TimeZone::UTC).date();
            let exact = exact.days.iter().find(|day| day.date == date).unwrap();
            let known = |times: &Totals| {
                (times.up_ms, times.degraded_ms, times.down_ms, times.maintenance_ms)
            };
            prop_assert_eq!(known(&day.times), known(&exact.totals), "{}", date);
        }
    }
    Ok(())
}

async fn hold(story: &Story, plain: &Server) -> Result<(), TestCaseError> {
    // Where memory can be had as files, nobody waits for a disk.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.unwrap();
    let place = Place::Sqlite(folder.path().join("h.db"));
    let store = Store::open(&Settings { place, tls: None }).await.unwrap();
    let server = story.server(plain);
    story.play(&store).await;
    // As for somebody who may only read.
    compare_figures(story, &store, &server, "as it was left").await?;
    let end = story.cells().iter().map(|(cell, _)| *cell).max().unwrap_or_default();
    let interval = story.interval * story.grid;
    let now = instant(story.ms(end) + 2 * interval);
    store.roll_up(now, &|_| Some(interval)).await.unwrap();
    compare_figures(story, &store, &server, "rolled up").await?;
    store.compact(instant(story.ms(end) + 3 * 86_400_000)).await.unwrap();
    compare_figures(story, &store, &server, "packed").await?;
    compare_days(story, &store, &server).await
}

#[test]
fn reports_say_what_a_walk_through_the_readings_finds() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = "version: 1\nservers: [{name: a, url: \"http://127.0.0.1/fhir\"}]\n";
    let path = Path::new("servers.yaml");
    let inventory = inventory::parse(text, path, &Overrides::default()).unwrap();
    let plain = &inventory.servers[0];
    for seed in 0..HISTORIES {
        let config = Config {
            cases: 1,
            failure_persistence: None,
            max_shrink_iters: 1_000,
            ..Config::default()
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let found = runner.run(&story(), |story| runtime.block_on(hold(&story, plain)));
        if let Err(failure) = found {
            panic!("the history of seed {seed}: {failure}");
        }
    }
}
