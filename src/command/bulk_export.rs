//! `bulk-export NAME`: a FHIR Bulk Data export that survives whatever interrupts it, with a receipt.

pub(super) mod again;
pub(super) mod habits;
mod metrics;
mod progress;
pub(super) mod stores;
pub(super) mod verbs;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use self::metrics::{End, Metrics};
use self::progress::Screen;
use super::check::exact;
use super::complete;
use crate::auth::caller::Caller;
use crate::bulk::client_log::ClientLog;
use crate::bulk::crawl::{self, Declared};
use crate::bulk::export::{self, Identity, Mode, Report, Settings};
use crate::bulk::halt::Halt;
use crate::bulk::ledger::Ledger;
use crate::bulk::lines::MAX_LINE;
use crate::bulk::objects::{self, Destination};
use crate::bulk::place;
use crate::bulk::request::{ExportRequest, Level, Verb};
use crate::bulk::store::{Compression, Shape, Split};
use crate::bulk::wait::Pace;
use crate::context::{Context, Outcome, parse_duration, state_dir};
use crate::inventory::Inventory;
use crate::model::server::Server;
use crate::model::{Error, ErrorKind, Exit, Result};
use crate::render::Format;
use crate::view;

/// Export in bulk: every step is kept, an interrupted run goes on, the end has a receipt
///
/// Run the same command again after whatever stopped it: finished files are not fetched again. The
/// exit code is 0 when everything is there and good, 65 when something in the data is wrong, 69 when
/// the server failed for good, 75 when the same command goes on later.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:\n  \
    fhirctl bulk-export epic-prod --group e3ia… --type Patient,Observation --output-dir exports/2026-11\n  \
    fhirctl bulk-export hapi --level system --output-dir all --compress gzip --dry-run\n  \
    fhirctl bulk-export hapi --output-dir s3://exports/2026-11     to an object store\n  \
    fhirctl bulk-export verify exports/2026-11       holds the files against the receipt")]
pub struct BulkExportArgs {
    #[command(subcommand)]
    pub verb: Option<BulkExportVerb>,

    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub enum BulkExportVerb {
    Verify(verbs::VerifyArgs),
    Status(verbs::StatusArgs),
    List(verbs::ListArgs),
    Resume(ResumeArgs),
    Cancel(verbs::CancelArgs),
    Purge(verbs::PurgeArgs),
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The server's name in the inventory
    #[arg(value_name = "NAME", required = true, add = complete::servers())]
    pub name: Option<String>,

    #[command(flatten)]
    pub scope: ScopeArgs,

    /// The folder of this export and no other, made for its owner alone; or a place in an object
    /// store, as s3://BUCKET/PREFIX, gs:// or az://
    #[arg(long, value_name = "DIR", required = true)]
    pub output_dir: Option<PathBuf>,

    /// How files are stored; what the server has packed so already is stored as it comes
    #[arg(long, value_name = "HOW", default_value = "none")]
    pub compress: CompressArg,

    /// What a file holds: what the server has put into one of its own, or all resources of a type
    #[arg(long, value_name = "WHAT", default_value = "file")]
    pub split_by: SplitArg,

    /// How the data are asked for: by $export, by searches, or by what the server declares
    #[arg(long, value_name = "MODE", default_value = "bulk")]
    pub mode: ModeArg,

    /// Print the request that would be sent, and send nothing
    #[arg(long)]
    pub dry_run: bool,

    #[command(flatten)]
    pub again: again::AgainArgs,

    #[command(flatten)]
    pub how: HowArgs,
}

/// What is exported.
#[derive(Debug, Args)]
pub struct ScopeArgs {
    /// What is exported; otherwise the group that is named, else all patients
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<LevelArg>,

    /// The id of the Group
    #[arg(long, value_name = "ID")]
    pub group: Option<String>,

    /// Only resources of this type; several by commas or several times
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    pub types: Vec<String>,

    /// Only what changed after this instant, such as 2026-01-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// Only what changed before this instant
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,

    /// Only resources that this search finds, such as 'Observation?category=laboratory'
    #[arg(long, value_name = "SEARCH")]
    pub type_filter: Vec<String>,

    /// Only these elements, such as Patient.name; several by commas or several times
    #[arg(long, value_name = "ELEMENT", value_delimiter = ',')]
    pub elements: Vec<String>,

    /// Only this patient, by id; sent by POST
    #[arg(long, value_name = "ID")]
    pub patient: Vec<String>,

    /// What belongs to the data, such as LatestProvenanceResources
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    pub include_associated_data: Vec<String>,

    /// The format of the files; otherwise the server's, which is NDJSON
    #[arg(long, value_name = "TYPE")]
    pub output_format: Option<String>,

    /// Files by resources of this type (STU3)
    #[arg(long, value_name = "TYPE")]
    pub organize_by: Option<String>,

    /// Take manifests of what is ready while the rest is made (STU3)
    #[arg(long)]
    pub allow_partial_manifests: bool,

    /// Let the server leave out parameters that it does not know
    #[arg(long)]
    pub lenient: bool,

    /// Ask for the job's status in a header of its own (STU3)
    #[arg(long)]
    pub separate_status: bool,

    /// Ask in the forms of the STU4 ballot: by POST, every value by itself
    #[arg(long)]
    pub stu4: bool,

    /// A parameter of the vendor's own, as NAME=VALUE
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub params: Vec<String>,

    /// How it is asked for; otherwise GET where that can say it
    #[arg(long, value_name = "METHOD")]
    pub method: Option<MethodArg>,
}

/// How an export is run.
#[derive(Clone, Debug, Args)]
pub struct HowArgs {
    /// How many files are fetched at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub parallel: u16,

    /// How long this run waits for the server's job; running again waits on
    #[arg(long, value_name = "D", default_value = "30d", value_parser = parse_duration)]
    pub max_wait: Duration,

    /// Never look at the job more often than this
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    pub poll_floor: Option<Duration>,

    /// Never wait longer than this for the next look, whatever the server asks for
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    pub poll_ceiling: Option<Duration>,

    /// A longer line is bad data; in MiB
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub max_line: u16,

    /// Leave the finished job on the server
    #[arg(long)]
    pub keep_remote: bool,

    /// Write how far it is to this file, for the textfile collector of Prometheus
    #[arg(long, value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,
}

/// Go on with the export of a folder, wherever it stopped
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The export's folder, or its address in an object store
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    #[command(flatten)]
    pub how: HowArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LevelArg {
    /// Everything that the server has
    System,
    /// All patients
    Patient,
    /// The patients of a Group
    Group,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// $export
    Bulk,
    /// Searches, page by page, for servers without $export
    Crawl,
    /// $export where the server declares it at this level, else searches
    Auto,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MethodArg {
    Get,
    Post,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompressArg {
    None,
    Gzip,
    Zstd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SplitArg {
    File,
    Type,
}

impl From<SplitArg> for Split {
    fn from(arg: SplitArg) -> Split {
        match arg {
            SplitArg::File => Split::File,
            SplitArg::Type => Split::Type,
        }
    }
}

impl From<CompressArg> for Compression {
    fn from(arg: CompressArg) -> Compression {
        match arg {
            CompressArg::None => Compression::None,
            CompressArg::Gzip => Compression::Gzip,
            CompressArg::Zstd => Compression::Zstd,
        }
    }
}

/// # Errors
/// Exit 64 for what cannot be asked, 69, 73, 74, 75 and 77 as the export ends.
pub async fn run(args: &BulkExportArgs, context: &Context) -> Result<Outcome> {
    context.options.output.among(Format::ROWS)?;
    match &args.verb {
        None => start(&args.run, context).await,
        Some(BulkExportVerb::Verify(args)) => verbs::verify(args, context).await,
        Some(BulkExportVerb::Status(args)) => verbs::status(args, context),
        Some(BulkExportVerb::List(_)) => verbs::list(context),
        Some(BulkExportVerb::Resume(args)) => resume(args, context).await,
        Some(BulkExportVerb::Cancel(args)) => verbs::cancel(args, context).await,
        Some(BulkExportVerb::Purge(args)) => verbs::purge(args, context).await,
    }
}

/// Where ledgers are.
///
/// # Errors
/// Exit 66 when there is no such place.
pub(super) fn state() -> Result<PathBuf> {
    state_dir().ok_or_else(|| {
        Error::not_found("there is no place for the ledger of an export")
            .hint("set XDG_STATE_HOME or HOME to a folder")
    })
}

async fn start(args: &RunArgs, context: &Context) -> Result<Outcome> {
    let (Some(name), Some(folder)) = (&args.name, &args.output_dir) else {
        return Err(Error::usage("bulk-export wants the server's NAME and --output-dir DIR"));
    };
    let destination = Destination::parse(folder)?;
    let inventory = context.load_inventory()?;
    let server = exact(&inventory, name)?;
    let mut request = args.scope.request(server)?;
    let mut notes = habits::apply(server, &mut request)?;
    request.check()?;
    if args.dry_run {
        let kick_off = match args.mode {
            ModeArg::Crawl => crawl::first_request(&server.url, &request, &mut notes)?,
            ModeArg::Bulk | ModeArg::Auto => request.kick_off(&server.url)?,
        };
        if args.mode == ModeArg::Auto {
            notes.push(
                "--mode auto reads the CapabilityStatement first; without a declared $export at this \
                 level the data are searched for instead"
                    .to_owned(),
            );
        }
        let plan = view::bulk_export::Plan {
            server: server.name.clone(),
            auth: server.auth.method(),
            kick_off: &kick_off,
            output_dir: match &destination {
                Destination::Folder(_) => folder.display().to_string(),
                Destination::Store(address) => address.to_string(),
            },
            notes: &notes,
        };
        return Ok(Outcome::printed(plan.output()));
    }
    for note in &notes {
        context.notice(&format!("note: {note}"));
    }
    metrics::check(args.how.metrics_file.as_deref())?;
    let shape = Shape { compression: args.compress.into(), split: args.split_by.into() };
    let mode = mode(args.mode, &destination, context, &inventory, server, &request).await?;
    if mode == Mode::Bulk {
        again::admit(context, server, &request, &destination, &args.again).await?;
    }
    let ledger = begin(context, server, &destination, &request, mode, shape).await?;
    Ok(shown(context, &go(context, &inventory, server, ledger, &args.how).await?))
}

/// The ledger of the export that is asked for, at its destination: a new one, or the one that was
/// begun there.
///
/// # Errors
/// Exit 73 when the destination belongs to another export or holds other data, 75 when another
/// process works on it; as the store says where it is one.
pub(super) async fn begin(
    context: &Context,
    server: &Server,
    destination: &Destination,
    request: &ExportRequest,
    mode: Mode,
    shape: impl Into<Shape>,
) -> Result<Ledger> {
    let (state, now, shape) = (state()?, context.clock.now(), shape.into());
    match destination {
        Destination::Folder(folder) => {
            place::open_or_begin(&state, folder, server, request, mode, shape, now)
        }
        Destination::Store(address) => {
            let bucket = stores::bucket(context, address)?;
            let begun = objects::open_or_begin(&state, &bucket, server, request, mode, shape, now);
            let begun = begun.await.map_err(Error::from)?;
            if let Some(note) = begun.note {
                context.notice(&format!("note: {note}"));
            }
            Ok(begun.ledger)
        }
    }
}

/// What `--mode` comes to. An export that was begun keeps its own.
pub(super) async fn mode(
    wanted: ModeArg,
    destination: &Destination,
    context: &Context,
    inventory: &Inventory,
    server: &Server,
    request: &ExportRequest,
) -> Result<Mode> {
    match wanted {
        ModeArg::Bulk => return Ok(Mode::Bulk),
        ModeArg::Crawl => return Ok(Mode::Crawl),
        ModeArg::Auto => {}
    }
    if let Some(known) = place::known_in(&state()?, destination)? {
        return Ok(known.mode);
    }
    let surroundings = context.surroundings(inventory);
    let asked = async {
        let caller =
            Caller::new(server, &surroundings).await.map_err(|failure| Halt::of(failure, false))?;
        let client = caller.client().map_err(|failure| Halt::of(failure, false))?;
        Declared::read(&caller, &client).await
    };
    let declared = asked.await.map_err(Error::from)?;
    let mode = if declared.exports(&request.level) { Mode::Bulk } else { Mode::Crawl };
    let told = match mode {
        Mode::Bulk => "$export, which the server declares",
        Mode::Crawl => "searches, since the server declares no $export at this level",
    };
    context.notice(&format!("note: the data are asked for by {told}"));
    Ok(mode)
}

async fn resume(args: &ResumeArgs, context: &Context) -> Result<Outcome> {
    metrics::check(args.how.metrics_file.as_deref())?;
    let ledger = stores::ledger(&args.dir)?;
    let inventory = context.load_inventory()?;
    let identity = identity_of(&ledger)?;
    let server = exact(&inventory, &identity.server)?;
    if server.url.as_str() != identity.url {
        return Err(Error::config(format!(
            "{} has another URL than when the export was begun: {}",
            server.name, identity.url
        ))
        .hint("begin the export anew in another folder, or set the URL back"));
    }
    Ok(shown(context, &go(context, &inventory, server, ledger, &args.how).await?))
}

fn shown(context: &Context, report: &Report) -> Outcome {
    if report.was_done {
        context.notice("note: this export had ended before; nothing was fetched");
    }
    let exit = Exit(report.conclusion.exit_code);
    Outcome { output: Some(view::bulk_export::report(report)), exit }
}

fn identity_of(ledger: &Ledger) -> Result<Identity> {
    place::identity(ledger)
}

/// Runs an export until it ends or is stopped.
///
/// # Errors
/// Why it stopped before its end.
pub(super) async fn go(
    context: &Context,
    inventory: &Inventory,
    server: &Server,
    ledger: Ledger,
    how: &HowArgs,
) -> Result<Report> {
    let identity = identity_of(&ledger)?;
    let surroundings = context.surroundings(inventory);
    let log = ClientLog::open(&identity.folder, &identity.id)?;
    let ledger = Arc::new(ledger);
    let metrics = how.metrics_file.as_deref();
    let metrics = metrics.map(|path| Metrics::begin(path, &identity, &ledger)).transpose()?;
    let screen = Arc::new(Screen::new(context, &identity, metrics));
    let clock = context.clock;
    let teller = {
        let screen = Arc::clone(&screen);
        Arc::new(move |event: &crate::bulk::transfer::Event| {
            log.tell(event, clock.now());
            screen.tell(event);
        })
    };
    let mut pace = Pace::default();
    pace.ceiling = how.poll_ceiling.unwrap_or(pace.ceiling);
    pace.floor = how.poll_floor.unwrap_or(pace.floor.min(pace.ceiling));
    let settings = Settings {
        pace,
        quiet_pace: habits::pause(server),
        max_wait: how.max_wait,
        parallel: usize::from(how.parallel),
        max_line: usize::from(how.max_line) * (MAX_LINE / 16),
        keep_remote: how.keep_remote,
        teller,
    };
    let done = tokio::select! {
        done = export::run(Arc::clone(&ledger), server, &surroundings, &settings) => done,
        exit = crate::context::stop_signal() => Err(interrupted(exit)),
    };
    let target = format!("bulk export {} to {}", identity.id, identity.place());
    let result = done.map_err(Error::from);
    screen.finish(&End::of(&result, clock.now()));
    context.audit().outcome(Some(&server.name), &target, &result);
    result
}

pub(super) fn interrupted(exit: Exit) -> Halt {
    let kind = match exit {
        Exit::TERMINATED => ErrorKind::Terminated,
        _ => ErrorKind::Interrupted,
    };
    Halt::new(kind, "bulk.interrupted", "stopped; everything that was done is kept")
        .hint("run the same command again to go on")
}

impl ScopeArgs {
    /// What is asked for by these flags.
    pub(super) fn request(&self, server: &Server) -> Result<ExportRequest> {
        let level = match (self.level, &self.group) {
            (None | Some(LevelArg::Group), Some(group)) => Level::Group(group.clone()),
            (Some(LevelArg::Group), None) => {
                return Err(Error::usage("--level group wants --group ID"));
            }
            (Some(_), Some(_)) => {
                return Err(Error::usage("--group goes with --level group"));
            }
            (Some(LevelArg::System), None) => Level::System,
            (Some(LevelArg::Patient), None) => Level::Patient,
            (None, None) => habits::usual_level(server)?,
        };
        let params = self.params.iter().map(|text| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(Error::usage(format!("--param {text:?}: write NAME=VALUE"))),
        });
        Ok(ExportRequest {
            verb: self.method.map(|method| match method {
                MethodArg::Get => Verb::Get,
                MethodArg::Post => Verb::Post,
            }),
            types: self.types.clone(),
            since: self.since.clone(),
            until: self.until.clone(),
            type_filters: self.type_filter.clone(),
            elements: self.elements.clone(),
            patients: self.patient.clone(),
            associated_data: self.include_associated_data.clone(),
            output_format: self.output_format.clone(),
            organize_by: self.organize_by.clone(),
            allow_partial_manifests: self.allow_partial_manifests,
            lenient: self.lenient,
            separate_status: self.separate_status,
            stu4: self.stu4,
            params: params.collect::<Result<_>>()?,
            ..ExportRequest::new(level)
        })
    }
}
