//! `history import`: what another program has seen, so that history does not start from nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use foldhash::{HashMap, HashSet};
use tokio::sync::mpsc::Sender;
use uuid::Uuid;

use crate::command::report::window::WindowArgs;
use crate::context::{Context, Outcome};
use crate::history::{Assembler, Foreign, Run, Store, Survey, assemble, rows_csv, survey_csv};
use crate::inventory::Inventory;
use crate::model::{Error, Origin, Reading, Result};
use crate::view;

mod gauges;
mod prometheus;

/// Readings that are written in one transaction.
const AT_ONCE: usize = 30_000;

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

    /// Hands over all readings, some at a time; a break-off of the other end ends it.
    fn send(self, parts: &Sender<Result<Vec<Reading>>>) {
        let mut part = Vec::new();
        let mut push = |reading| {
            part.push(reading);
            if part.len() < AT_ONCE {
                return true;
            }
            parts.blocking_send(Ok(std::mem::take(&mut part))).is_ok()
        };
        match self {
            Rows::Held { rows, .. } => {
                let _ = assemble(rows).into_iter().all(&mut push);
            }
            Rows::Ordered { file, server, .. } => {
                let mut assembler = Assembler::default();
                let rows = match rows_csv(file, server.as_deref()) {
                    Ok(rows) => rows,
                    Err(error) => return drop(parts.blocking_send(Err(error))),
                };
                for row in rows {
                    match row.map(|row| assembler.take(row)) {
                        Ok(None) => {}
                        Ok(Some(reading)) => {
                            if !push(reading) {
                                return;
                            }
                        }
                        Err(error) => return drop(parts.blocking_send(Err(error))),
                    }
                }
                if !assembler.finish().into_iter().all(&mut push) {
                    return;
                }
            }
        }
        drop(parts.blocking_send(Ok(part)));
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

/// Appends what is not there yet; server, how many, and how many were known.
async fn keep(context: &Context, store: &Store, rows: Rows) -> Result<Vec<(String, u64, u64)>> {
    let servers = store.servers().await?.into_iter();
    let mut courses: HashMap<Arc<str>, Course> = servers
        .map(|known| (known.name.into(), Course { end: known.last_at, ..Course::default() }))
        .collect();
    let length = match &rows {
        Rows::Held { rows, .. } => rows.len(),
        Rows::Ordered { survey, .. } => usize::try_from(survey.rows).unwrap_or_default(),
    };
    let progress = context.progress("importing", length);
    // One part is read while another is written.
    let (sender, mut parts) = tokio::sync::mpsc::channel(1);
    let reader = tokio::task::spawn_blocking(move || rows.send(&sender));
    let mut appender = store.appender();
    while let Some(part) = parts.recv().await {
        let mut part = part?;
        let taken = part.iter().map(|reading| reading.samples.len()).sum();
        keep_new(store, &mut part, &mut courses).await?;
        if let Some(first) = part.first() {
            let (id, at) = (first.run, context.clock.now());
            let run = Run { id, at, vantage: None, origin: Origin::Import };
            appender.push(run, part).await?;
        }
        progress.advance(taken);
    }
    appender.finish().await?;
    reader.await.map_err(|error| Error::internal(format!("reading broke off: {error}")))?;
    progress.finish();
    let mut counts: Vec<_> = courses
        .into_iter()
        .filter(|(_, course)| course.new + course.known > 0)
        .map(|(name, course)| (name.to_string(), course.new, course.known))
        .collect();
    counts.sort_unstable();
    Ok(counts)
}

/// Leaves those readings of a part that history does not have, as those of a new run.
async fn keep_new(
    store: &Store,
    part: &mut Vec<Reading>,
    courses: &mut HashMap<Arc<str>, Course>,
) -> Result<()> {
    let known = known(store, part, courses).await?;
    let id = Uuid::new_v4();
    part.retain_mut(|reading| {
        let at = reading.at.as_millisecond();
        let course = match courses.get_mut(&reading.server) {
            Some(course) => course,
            None => courses.entry(reading.server.clone()).or_default(),
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
    Ok(())
}

/// Those instants of a part that history has already.
async fn known(
    store: &Store,
    part: &[Reading],
    courses: &HashMap<Arc<str>, Course>,
) -> Result<HashSet<(Arc<str>, i64)>> {
    let mut ranges: BTreeMap<Arc<str>, (i64, i64)> = BTreeMap::new();
    for reading in part {
        let at = reading.at.as_millisecond();
        // What lies behind all that is there is new.
        if courses.get(&reading.server).is_some_and(|course| Some(at) <= course.end) {
            let range = ranges.entry(reading.server.clone()).or_insert((at, at));
            *range = (range.0.min(at), range.1.max(at));
        }
    }
    let mut found = HashSet::default();
    for (server, (from, to)) in ranges {
        store
            .points(&server, from..to + 1, |point| {
                found.insert((server.clone(), point.at));
                Ok(())
            })
            .await?;
    }
    Ok(found)
}
