//! `history import`: what another program has seen, so that history does not start from nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use foldhash::{HashMap, HashSet};
use uuid::Uuid;

use crate::command::report::window::WindowArgs;
use crate::context::{Context, Outcome};
use crate::history::{Foreign, Run, Store, Survey, assemble, readings, rows_csv, survey_csv};
use crate::inventory::Inventory;
use crate::model::{Error, Origin, Reading, Result};
use crate::view;

mod gauges;
mod prometheus;

/// Readings that are written in one transaction.
const AT_ONCE: usize = 40_000;

/// Take in what another program has seen: CSV, or a Prometheus with probe_success
///
/// What comes in is marked as imported and appended when it comes, so that a proof shows it. A reading
/// of the same server and instant that is there already is left out.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A CSV file with a head: at, status, and where they are there server, check, code, party,
    /// duration_ms, http_status; - is standard input
    #[arg(
        value_name = "FILE",
        required_unless_present = "prometheus",
        conflicts_with = "prometheus"
    )]
    pub file: Option<PathBuf>,

    /// The file holds gauges, as `history export --gauges -o csv` prints them: at, gauge, value, and
    /// where they are there server, limit
    #[arg(long, conflicts_with = "prometheus")]
    pub gauges: bool,

    /// The server that it is about, where the file does not say
    #[arg(long, value_name = "NAME", add = crate::command::complete::servers())]
    pub server: Option<String>,

    /// The address of a Prometheus; reads probe_success and probe_duration_seconds
    #[arg(long, value_name = "URL", requires = "server")]
    pub prometheus: Option<String>,

    /// Which series: label matchers as Prometheus writes them, such as instance="ehr"
    #[arg(long = "match", value_name = "MATCHERS", default_value = "", requires = "prometheus")]
    pub matchers: String,

    /// How far apart the samples of Prometheus are taken
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = crate::context::parse_duration)]
    pub step: Duration,

    #[command(flatten)]
    pub window: WindowArgs,
}

pub(super) async fn run(
    args: &ImportArgs,
    context: &Context,
    inventory: &Inventory,
) -> Result<Outcome> {
    if let Some(name) = &args.server {
        crate::command::check::exact(inventory, name)?;
    }
    if args.window.is_said() && args.prometheus.is_none() {
        return Err(Error::usage("a window goes with --prometheus; a file is taken in whole"));
    }
    if args.gauges
        && let Some(path) = &args.file
    {
        return gauges::run(args, path, context, inventory).await;
    }
    let (source, rows) = match (&args.prometheus, &args.file) {
        (Some(address), _) => {
            let rows = prometheus::from_prometheus(args, address, context, inventory).await?;
            (address.clone(), Rows::Held { rows, unread: Vec::new() })
        }
        (None, Some(path)) => (path.display().to_string(), from_file(args, path, context).await?),
        (None, None) => return Err(Error::usage("nothing to import: name a file or --prometheus")),
    };
    if let Some(unread) = rows.unread() {
        context.notice(&format!("not read, since their names are unknown: {unread}"));
    }
    all_known(inventory, rows.servers())?;
    let store = context.open_history(inventory).await?;
    // Two that look at the same moment what is there would both write what is not.
    store.claim_patiently().await?;
    let result = keep(context, &store, rows).await;
    context.audit().outcome(args.server.as_deref(), "history imported", &result);
    Ok(Outcome::printed(view::history::imported(&source, &result?)))
}

fn all_known(inventory: &Inventory, names: impl IntoIterator<Item = Arc<str>>) -> Result<()> {
    match names.into_iter().find(|name| inventory.server(name).is_none()) {
        None => Ok(()),
        Some(name) => Err(Error::not_found(format!(
            "the inventory has no server named \"{}\"; nothing was imported",
            name.escape_debug()
        ))),
    }
}

/// Where the rows are.
enum Rows {
    Held {
        rows: Vec<Foreign>,
        unread: Vec<String>,
    },
    /// A file that was read once and found in order, to be read again.
    Ordered {
        file: File,
        server: Option<String>,
        survey: Survey,
    },
}

impl Rows {
    fn servers(&self) -> HashSet<Arc<str>> {
        match self {
            Rows::Held { rows, .. } => rows.iter().map(|row| row.server.clone()).collect(),
            Rows::Ordered { survey, .. } => survey.servers.iter().cloned().collect(),
        }
    }

    /// The columns of a file that say nothing to us.
    fn unread(&self) -> Option<String> {
        let (Rows::Held { unread, .. } | Rows::Ordered { survey: Survey { unread, .. }, .. }) =
            self;
        (!unread.is_empty()).then(|| unread.join(", "))
    }

    fn readings(self) -> Result<Readings> {
        Ok(match self {
            Rows::Held { rows, .. } => Box::new(assemble(rows).into_iter().map(Ok)),
            Rows::Ordered { file, server, .. } => {
                Box::new(readings(rows_csv(file, server.as_deref())?))
            }
        })
    }
}

/// Looks at the whole file before anything of it is written. Standard input is kept in a file without a
/// name meanwhile.
async fn from_file(args: &ImportArgs, path: &Path, context: &Context) -> Result<Rows> {
    let (path, server) = (path.to_owned(), args.server.clone());
    let now = context.clock.now();
    let progress = context.progress("reading", 0);
    let read = tokio::task::spawn_blocking(move || {
        let mut file = opened(&path)?;
        let survey = survey_csv(&file, server.as_deref(), now)?;
        rewound(&mut file, &path)?;
        if survey.in_order {
            return Ok(Rows::Ordered { file, server, survey });
        }
        let rows = rows_csv(&file, server.as_deref())?.collect::<Result<_>>()?;
        Ok(Rows::Held { rows, unread: survey.unread })
    });
    let rows =
        read.await.map_err(|error| Error::internal(format!("reading broke off: {error}")))?;
    progress.finish();
    rows
}

/// A file, or standard input where it is called `-`.
fn opened(path: &Path) -> Result<File> {
    match path == Path::new("-") {
        true => spooled(),
        false => File::open(path).map_err(|error| Error::io("read", path, &error)),
    }
}

fn rewound(file: &mut File, path: &Path) -> Result<()> {
    file.rewind().map_err(|error| {
        Error::io("read a second time", path, &error).hint("or give it on standard input: -")
    })
}

/// Standard input, to be read more than once.
fn spooled() -> Result<File> {
    let failed =
        |error: &std::io::Error| Error::io("keep standard input in", &std::env::temp_dir(), error);
    let mut file = tempfile::tempfile().map_err(|error| failed(&error))?;
    std::io::copy(&mut std::io::stdin().lock(), &mut file).map_err(|error| failed(&error))?;
    file.flush().and_then(|()| file.rewind()).map_err(|error| failed(&error))?;
    Ok(file)
}

/// What history has of a server, and what came of the import.
#[derive(Default)]
struct Course {
    /// The newest instant, in milliseconds since the epoch.
    end: Option<i64>,
    new: u64,
    known: u64,
}

type Readings = Box<dyn Iterator<Item = Result<Reading>> + Send>;
/// From the first to the last instant, by server.
type Ranges = BTreeMap<Arc<str>, (i64, i64)>;

/// What is still to come in, and how it goes with each server.
struct Incoming {
    readings: Readings,
    courses: HashMap<Arc<str>, Course>,
}

/// Some readings.
struct Part {
    readings: Vec<Reading>,
    /// How many rows they were.
    rows: usize,
    /// Where history may have some of them already. Where there is none, what is new is counted.
    ranges: Ranges,
    is_last: bool,
}

impl Incoming {
    fn part(&mut self) -> Result<Part> {
        let mut part = Part {
            readings: Vec::with_capacity(AT_ONCE),
            rows: 0,
            ranges: Ranges::new(),
            is_last: false,
        };
        while part.readings.len() < AT_ONCE {
            let Some(reading) = self.readings.next().transpose()? else {
                part.is_last = true;
                break;
            };
            let at = reading.at.as_millisecond();
            // What lies behind all that is there is new.
            if self.courses.get(&reading.server).is_some_and(|course| Some(at) <= course.end) {
                let range = part.ranges.entry(reading.server.clone()).or_insert((at, at));
                *range = (range.0.min(at), range.1.max(at));
            }
            part.rows += reading.samples.len();
            part.readings.push(reading);
        }
        if part.ranges.is_empty() {
            self.keep_new(&mut part.readings, &HashSet::default());
        }
        Ok(part)
    }

    /// Leaves those readings that history does not have, as those of a new run.
    fn keep_new(&mut self, readings: &mut Vec<Reading>, known: &HashSet<(Arc<str>, i64)>) {
        let id = Uuid::new_v4();
        readings.retain_mut(|reading| {
            let at = reading.at.as_millisecond();
            let course = match self.courses.get_mut(&reading.server) {
                Some(course) => course,
                None => self.courses.entry(reading.server.clone()).or_default(),
            };
            if !known.is_empty() && known.contains(&(reading.server.clone(), at)) {
                course.known += 1;
                return false;
            }
            course.new += 1;
            course.end = course.end.max(Some(at));
            reading.run = id;
            true
        });
    }
}

/// Appends what is not there yet; server, how many, and how many were known.
async fn keep(context: &Context, store: &Store, rows: Rows) -> Result<Vec<(String, u64, u64)>> {
    let servers = store.servers().await?.into_iter();
    let courses = servers
        .map(|known| (known.name.into(), Course { end: known.last_at, ..Course::default() }))
        .collect();
    let length = match &rows {
        Rows::Held { rows, .. } => rows.len(),
        Rows::Ordered { survey, .. } => usize::try_from(survey.rows).unwrap_or_default(),
    };
    let progress = context.progress("importing", length);
    let mut appender = store.appender();
    let mut incoming = Incoming { readings: rows.readings()?, courses };
    let mut part = Part { readings: Vec::new(), rows: 0, ranges: Ranges::new(), is_last: false };
    loop {
        if !part.ranges.is_empty() {
            let known = known(store, &part.ranges).await?;
            incoming.keep_new(&mut part.readings, &known);
        }
        let Part { readings, rows, is_last, .. } = part;
        // One part is read while another is written.
        let next = move || (incoming.part(), incoming);
        let read = match readings.first().map(|first| first.run) {
            Some(id) => {
                let at = context.clock.now();
                let run = Run { id, at, vantage: None, origin: Origin::Import };
                appender.push(run, readings, next).await?
            }
            None => tokio::task::spawn_blocking(next)
                .await
                .map_err(|error| Error::internal(format!("reading broke off: {error}")))?,
        };
        incoming = read.1;
        progress.advance(rows);
        if is_last {
            break;
        }
        part = read.0?;
    }
    appender.finish().await?;
    progress.finish();
    let mut counts: Vec<_> = incoming
        .courses
        .into_iter()
        .filter(|(_, course)| course.new + course.known > 0)
        .map(|(name, course)| (name.to_string(), course.new, course.known))
        .collect();
    counts.sort_unstable();
    Ok(counts)
}

/// Those instants of some ranges that history has already.
async fn known(store: &Store, ranges: &Ranges) -> Result<HashSet<(Arc<str>, i64)>> {
    let mut found = HashSet::default();
    for (server, (from, to)) in ranges {
        store
            .points(server, *from..to + 1, |point| {
                found.insert((server.clone(), point.at));
                Ok(())
            })
            .await?;
    }
    Ok(found)
}
