//! `bulk-import NAME SOURCE…`: NDJSON into a server, in bundles or fetched by the server itself.

pub(super) mod pulls;
mod show;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use sha2::{Digest as _, Sha256};

use crate::auth::caller::Caller;
use crate::bulk::disk::cannot_write;
use crate::bulk::halt::Halt;
use crate::bulk::import::chunk::Limits;
use crate::bulk::import::completion::Row;
use crate::bulk::import::family::Way;
use crate::bulk::import::ledger::Ledger;
use crate::bulk::import::rejects;
use crate::bulk::import::report::Summary;
use crate::bulk::import::send::{self, Settings, Standing, Uncertain};
use crate::bulk::import::source::{self, Input};
use crate::bulk::lines::MAX_LINE;
use crate::context::{Context, Outcome, state_dir};
use crate::model::{Error, ErrorKind, Exit, Result, Server, State};

/// How often progress is drawn.
const TICK: Duration = Duration::from_millis(200);
/// How often it is told where nobody watches a terminal.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Import NDJSON files into a server
///
/// Every resource keeps its id (PUT), so that the same command goes on after an interruption and
/// nothing is doubled. Resources go in bundles, ordered by what refers to what; what the server
/// refuses is written to a file of its own, with the reasons beside it. It writes to the server:
/// it asks before, or wants --yes.
#[derive(Debug, Args)]
pub struct BulkImportArgs {
    /// The server's name
    #[arg(value_name = "NAME", add = super::complete::servers())]
    pub name: String,

    /// NDJSON files (plain, gzip or Zstandard), folders of them such as an export's, - for standard
    /// input; or addresses that the server fetches, such as Patient=https://…
    #[arg(value_name = "FILE|DIR", required = true)]
    pub sources: Vec<String>,

    /// How the resources get in
    #[arg(long, value_name = "FAMILY", default_value = "auto")]
    pub family: Family,

    /// Each bundle as a transaction: it goes in whole or not at all
    #[arg(long)]
    pub atomic: bool,

    /// Let the server give new ids; everything goes in one transaction
    #[arg(long)]
    pub assign_ids: bool,

    /// Most resources in one bundle
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_entries: u32,

    /// Most bytes of one bundle, such as 5MB
    #[arg(long, value_name = "SIZE", default_value = "5MB", value_parser = parse_size)]
    pub max_bytes: usize,

    /// Most bytes of one line [default: 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_line: Option<usize>,

    /// Most bundles under way at once; fewer when the server has too much
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub in_flight: u32,

    /// Apply the deletions of an export's deleted/ too
    #[arg(long)]
    pub apply_deleted: bool,

    /// Folder for what the server refuses [default: beside the ledger]
    #[arg(long, value_name = "DIR")]
    pub rejects: Option<PathBuf>,

    /// Send a transaction again of which nobody knows whether it arrived
    #[arg(long)]
    pub resend: bool,

    /// Import again what was imported before
    #[arg(long)]
    pub again: bool,

    /// Show what would be sent and how; send nothing
    #[arg(long)]
    pub dry_run: bool,

    #[command(flatten)]
    pub pull: pulls::PullArgs,
}

/// The ways into a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Family {
    /// By what the server says and the vendor is known for
    Auto,
    /// $import by ping and pull: the server is told where a manifest is
    Parameters,
    /// $import with a JSON manifest
    Manifest,
    /// $import in HAPI's form
    Hapi,
    /// $import in Microsoft's form
    Microsoft,
    /// $bulk-submit of the STU4 ballot
    Submit,
    /// Batches or transactions, written by us
    Bundle,
}

/// What an import works on.
struct Job<'a> {
    args: &'a BulkImportArgs,
    context: &'a Context,
    server: Server,
    inventory: PathBuf,
    inputs: Arc<Vec<Input>>,
    settings: Settings,
    /// Its ledger's folder.
    folder: PathBuf,
    id: String,
    way: Way,
    reason: String,
}

/// # Errors
/// Exit 64 when nobody can be asked and --yes is missing, 65 for a file that is cut short, 66 when
/// there is no such server or file, 69 when the server refuses for good, 75 when the same command
/// goes on later, 77 when it does not permit writing.
pub async fn run(args: &BulkImportArgs, context: &Context) -> Result<Outcome> {
    let begun = Instant::now();
    let (job, caller) = prepare(args, context).await?;
    if args.dry_run {
        return job.dry_run().await;
    }
    job.confirm()?;
    Ok(job.carry_out(&caller, begun).await?.outcome)
}

/// What an import was, for a command that is made of several.
pub(super) struct Imported {
    pub(super) outcome: Outcome,
    pub(super) id: String,
    pub(super) ledger: PathBuf,
    pub(super) family: &'static str,
    pub(super) reason: String,
    pub(super) summary: Summary,
    /// The folder of what was refused.
    pub(super) rejects: Option<PathBuf>,
}

/// Imports without asking: the caller has.
///
/// # Errors
/// As [`run`].
pub(super) async fn import(args: &BulkImportArgs, context: &Context) -> Result<Imported> {
    let begun = Instant::now();
    let (job, caller) = prepare(args, context).await?;
    job.carry_out(&caller, begun).await
}

/// Which way the resources would go in, with the reason.
///
/// # Errors
/// Exit 64 where it has to be said.
pub(super) async fn way(
    args: &BulkImportArgs,
    context: &Context,
) -> Result<(&'static str, String)> {
    let inventory = context.load_inventory()?;
    let server = super::check::exact(&inventory, &args.name)?;
    let caller = Caller::new(server, &context.surroundings(&inventory)).await;
    let caller = caller.map_err(|failure| Error::from(Halt::of(failure, false)))?;
    let (way, reason) = pulls::choose(args, server, &caller).await?;
    Ok((way_name(way), reason))
}

/// An import that nothing has been sent of yet.
async fn prepare<'a>(
    args: &'a BulkImportArgs,
    context: &'a Context,
) -> Result<(Job<'a>, Arc<Caller>)> {
    let inventory = context.load_inventory()?;
    let server = super::check::exact(&inventory, &args.name)?.clone();
    if server.state(context.clock.now()) == State::Inactive {
        return Err(Error::usage(format!("{} is inactive: nothing is written to it", server.name))
            .hint(format!("fhirctl activate {} puts it in use", server.name)));
    }
    let state = state_dir().ok_or_else(|| {
        Error::not_found("there is no place for the ledger")
            .hint("set XDG_STATE_HOME or HOME to a folder")
    })?;
    let imports = state.join("imports");
    let mut surroundings = context.surroundings(&inventory);
    surroundings.credentials = surroundings.credentials.serving(&server.name);
    let caller = Caller::new(&server, &surroundings).await;
    let caller = Arc::new(caller.map_err(|failure| Error::from(Halt::of(failure, false)))?);
    let (way, reason) = pulls::choose(args, &server, &caller).await?;
    let inputs = inputs(args, &imports)?;
    let settings = Settings {
        is_atomic: args.atomic,
        assigns_ids: args.assign_ids,
        limits: Limits {
            entries: args.max_entries as usize,
            bytes: args.max_bytes,
            max_line: args.max_line.unwrap_or(MAX_LINE),
        },
        in_flight: args.in_flight as usize,
        uncertain: if args.resend { Uncertain::Send } else { Uncertain::Say },
    };
    let id = identity(&server, args, way, &inputs, settings);
    let job = Job {
        args,
        context,
        server,
        inventory: inventory.path.clone(),
        inputs: Arc::new(inputs),
        settings,
        folder: imports.join(&id),
        id,
        way,
        reason,
    };
    Ok((job, caller))
}

fn inputs(args: &BulkImportArgs, imports: &Path) -> Result<Vec<Input>> {
    let urls = args.sources.iter().filter(|it| pulls::is_url(it)).count();
    if urls == args.sources.len() {
        return Ok(Vec::new());
    }
    if urls > 0 {
        return Err(Error::usage("addresses and files do not go together in one import"));
    }
    if args.sources.iter().any(|it| it == "-") {
        if args.sources.len() > 1 {
            return Err(Error::usage("- stands alone: standard input is the whole import"));
        }
        return Ok(vec![source::keep_stream(&mut std::io::stdin().lock(), imports)?]);
    }
    let paths: Vec<PathBuf> = args.sources.iter().map(PathBuf::from).collect();
    source::collect(&paths, args.apply_deleted)
}

/// The same server, inputs and ways give the same import.
fn identity(
    server: &Server,
    args: &BulkImportArgs,
    way: Way,
    inputs: &[Input],
    settings: Settings,
) -> String {
    let limits = settings.limits;
    let mut digest = Sha256::new();
    let mut add = |text: &str| {
        digest.update(text.as_bytes());
        digest.update([0]);
    };
    add(&server.name);
    add(server.url.as_str());
    add(&format!("{} {}", settings.is_atomic, settings.assigns_ids));
    add(&format!("{} {} {}", limits.entries, limits.bytes, limits.max_line));
    add(&format!("{way:?}"));
    for input in inputs {
        add(&input.identity());
    }
    for url in args.sources.iter().filter(|it| pulls::is_url(it)) {
        add(url);
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl Job<'_> {
    /// Imports from where it stands to the end.
    async fn carry_out(&self, caller: &Arc<Caller>, begun: Instant) -> Result<Imported> {
        let mut ledger = Ledger::open(&self.folder)?;
        if self.args.again {
            ledger.forget()?;
        }
        let done = self.import(caller, &mut ledger).await;
        if done.is_err() && self.way == Way::Bundles {
            // What was refused so far can be looked at while the rest waits.
            let _ = self.write_rejects(&mut ledger);
        }
        self.record(&mut ledger, &done);
        let done = done.map_err(|error| {
            error.hint(format!("the ledger of this import: {}", self.folder.display()))
        })?;
        self.tidy();
        let exit = match done.summary.rejected() {
            0 => Exit::OK,
            _ => Exit::DATA,
        };
        let shown = show::Shown {
            done: &done,
            exit,
            duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        Ok(Imported {
            outcome: Outcome { output: Some(self.output(&shown)), exit },
            id: self.id.clone(),
            ledger: self.folder.clone(),
            family: way_name(self.way),
            reason: self.reason.clone(),
            rejects: done.has_rejects.then(|| self.rejects_folder().to_owned()),
            summary: done.summary,
        })
    }

    fn confirm(&self) -> Result<()> {
        let files = match self.args.sources.len() {
            1 => self.args.sources[0].split('?').next().unwrap_or_default().to_owned(),
            count => format!("{count} files and folders"),
        };
        let (name, url) = (&self.server.name, self.server.url.as_str());
        let question = format!("Write the resources of {files} to {name} ({url})?");
        super::confirm(self.context, &question).map_err(|error| match error.kind {
            ErrorKind::Usage => error.hint("--dry-run shows what would be sent"),
            _ => error,
        })
    }

    /// Does it, unless somebody stops it.
    async fn import(&self, caller: &Arc<Caller>, ledger: &mut Ledger) -> Result<Done> {
        let work = async {
            match self.way {
                Way::Bundles => {
                    let (summary, is_old) = self.send(caller, ledger).await?;
                    let has_rejects = self.write_rejects(ledger)?;
                    Ok(Done { summary, files: Vec::new(), is_old, has_rejects })
                }
                Way::Pull(family) => {
                    let (summary, files, is_old) = self.pull(family, caller, ledger).await?;
                    Ok(Done { summary, files, is_old, has_rejects: false })
                }
            }
        };
        tokio::select! {
            done = work => done,
            exit = crate::context::stop_signal() => {
                let kind = match exit {
                    Exit::TERMINATED => ErrorKind::Terminated,
                    _ => ErrorKind::Interrupted,
                };
                Err(Error::new(kind, "stopped; everything that was done is kept")
                    .hint("run the same command again to go on"))
            }
        }
    }

    /// Sends, and tells how far it is meanwhile.
    async fn send(&self, caller: &Arc<Caller>, ledger: &mut Ledger) -> Result<(Summary, bool)> {
        let standing = Standing::default();
        let work = send::run(caller, &self.inputs, self.settings, ledger, &standing);
        let mut work = std::pin::pin!(work);
        let mut tick = tokio::time::interval(TICK);
        let mut progress = self.context.progress("reading", 0);
        let mut drawn: Option<u64> = None;
        let mut told = Instant::now();
        loop {
            tokio::select! {
                done = &mut work => return done.map_err(Error::from),
                _ = tick.tick() => {
                    let total = standing.total.load(Ordering::Relaxed);
                    let settled = standing.settled.load(Ordering::Relaxed);
                    if total > 0 && drawn.is_none() {
                        progress.finish();
                        let what = format!("importing into {}", self.server.name);
                        progress = self.context.progress(&what, usize::try_from(total).unwrap_or(0));
                        drawn = Some(0);
                    }
                    if let Some(drawn) = &mut drawn {
                        (*drawn..settled).for_each(|_| progress.step());
                        *drawn = settled;
                    }
                    if told.elapsed() >= TELL_EVERY && !self.context.shows_progress() {
                        told = Instant::now();
                        let rejected = standing.rejected.load(Ordering::Relaxed);
                        self.context.notice(&format!(
                            "{}: {settled} of {total} resources, {rejected} rejected",
                            self.server.name
                        ));
                    }
                }
            }
        }
    }

    fn rejects_folder(&self) -> &Path {
        self.args.rejects.as_deref().unwrap_or(&self.folder)
    }

    fn write_rejects(&self, ledger: &mut Ledger) -> Result<bool> {
        let max_line = self.settings.limits.max_line;
        rejects::write(ledger, &self.inputs, max_line, self.rejects_folder())
    }

    /// What was written to the server goes into the audit log, however it ended.
    fn record(&self, ledger: &mut Ledger, done: &Result<Done>) {
        if done.as_ref().is_ok_and(|done| done.is_old) {
            return;
        }
        let counts: Vec<(String, u64, u64)> = match (self.way, done) {
            (Way::Pull(_), Ok(done)) => {
                let types = done.summary.types.iter();
                types.map(|it| (it.r#type.clone(), it.gone_in(), it.deleted)).collect()
            }
            _ => {
                let tallies = ledger.tallies().unwrap_or_default().into_iter();
                tallies.map(|(name, it)| (name, it.accepted, it.deleted)).collect()
            }
        };
        let counts = counts.into_iter().filter(|it| it.1 + it.2 > 0);
        let counts: Vec<String> = counts
            .map(|(name, accepted, deleted)| match deleted {
                0 => format!("{name} {accepted}"),
                _ => format!("{name} {accepted} (deleted {deleted})"),
            })
            .collect();
        let what = if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") };
        let target = format!("import by {}: {what}", way_name(self.way));
        self.context.audit().outcome(Some(&self.server.name), &target, done);
    }

    /// What came from standard input is not needed any more.
    fn tidy(&self) {
        for input in self.inputs.iter().filter(|input| input.digest.is_some()) {
            if let Err(error) = std::fs::remove_file(&input.path) {
                self.context.notice(&cannot_write(&input.path, &error).message);
            }
        }
    }

    async fn dry_run(&self) -> Result<Outcome> {
        let looked = if self.inputs.is_empty() { None } else { Some(self.look().await?) };
        self.tidy();
        let output = match self.way {
            Way::Bundles => {
                let (plan, unfit) = looked.unwrap_or_default();
                self.planned(&plan, unfit)
            }
            Way::Pull(family) => {
                let fetched = self.fetched(family, looked.as_ref().map(|it| &it.0))?;
                self.asked(&self.kick_off(family, &fetched)?)
            }
        };
        Ok(Outcome::printed(output))
    }
}

/// What came of an import.
struct Done {
    summary: Summary,
    /// What the server says of each file that it fetched.
    files: Vec<Row>,
    /// Whether it was over before this run.
    is_old: bool,
    has_rejects: bool,
}

fn way_name(way: Way) -> &'static str {
    match way {
        Way::Bundles => "bundle",
        Way::Pull(family) => family.as_str(),
    }
}

/// `5MB`, `16MiB`, `100000`.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    let wrong = || "write it as a number and a unit, such as 500KB, 5MB or 16MiB".to_owned();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: usize = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "kib" => 1 << 10,
        "m" | "mb" => 1_000_000,
        "mib" => 1 << 20,
        "g" | "gb" => 1_000_000_000,
        "gib" => 1 << 30,
        _ => return Err(wrong()),
    };
    let number: usize = number.parse().map_err(|_| wrong())?;
    match number.checked_mul(factor) {
        Some(0) | None => Err(wrong()),
        Some(size) => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, size) in [("5MB", 5_000_000), ("16MiB", 16 << 20), ("7", 7), ("2 k", 2000)] {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for wrong in ["", "0", "MB", "5 parsecs", "-1", "99999999999999999999GB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
