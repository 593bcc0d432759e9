//! `sync NAME`: a directory that holds the present state of a server's data, kept so by exports of
//! what has changed.

mod stored;

use std::path::{Path, PathBuf};

use clap::Args;

use super::bulk_export::again::{self, AgainArgs};
use super::bulk_export::verbs::destroy;
use super::bulk_export::{HowArgs, ScopeArgs, begin, go, habits, state};
use super::check::exact;
use super::complete;
use crate::bulk::export::{Mode, Report, Status};
use crate::bulk::objects::Destination;
use crate::bulk::request::ExportRequest;
use crate::bulk::store::Compression;
use crate::bulk::sync::{self, Applied, Book, Pending, Run};
use crate::bulk::{disk, place};
use crate::context::{Context, Outcome};
use crate::inventory::Inventory;
use crate::model::server::Server;
use crate::model::{Error, ErrorKind, Exit, Result};
use crate::render::{Format, Output};
use crate::view;

/// Keep a directory current: export what has changed, apply it, and let readers see all or nothing
///
/// DIR/current leads to one file a type; it moves in one step, and only behind an export that is
/// complete and good. In an object store DIR/current.json names the objects. The first run is a full export, the next ones ask for what has changed since.
/// Interrupted, the same command goes on.
#[derive(Debug, Args)]
#[command(after_help = "Example, by cron:\n  \
    fhirctl sync hapi --level system --output-dir /srv/fhir --full-every 30")]
pub struct SyncArgs {
    /// The server's name in the inventory
    #[arg(value_name = "NAME", add = complete::servers())]
    pub name: String,

    /// The directory that is kept current, or its place in an object store: s3://BUCKET/PREFIX,
    /// gs:// or az://
    #[arg(long, value_name = "DIR")]
    pub output_dir: PathBuf,

    #[command(flatten)]
    pub scope: ScopeArgs,

    /// Make every so manieth run a full export, which finds deletions that were not told
    #[arg(long, value_name = "RUNS", value_parser = clap::value_parser!(u32).range(1..))]
    pub full_every: Option<u32>,

    /// Make this run a full export
    #[arg(long)]
    pub full: bool,

    #[command(flatten)]
    pub again: AgainArgs,

    #[command(flatten)]
    pub how: HowArgs,
}

/// A run that came to its end.
pub(super) struct Kept {
    place: String,
    /// Where readers begin.
    current: String,
    pub(super) run: Pending,
    pub(super) report: Report,
    /// `None`: the directory is as it was.
    pub(super) applied: Option<Applied>,
    pub(super) exit: Exit,
}

impl Kept {
    pub(super) fn output(&self) -> Output {
        let Kept { place, current, run, report, applied, exit } = self;
        view::sync::output(place, current, run, report, applied.as_ref(), *exit)
    }
}

/// # Errors
/// Exit 64 for what cannot be asked, 65, 69, 73, 74, 75 and 77 as the export ends.
pub async fn run(args: &SyncArgs, context: &Context) -> Result<Outcome> {
    let kept = keep(args, context).await?;
    Ok(Outcome { output: Some(kept.output()), exit: kept.exit })
}

/// # Errors
/// As [`run`].
pub(super) async fn keep(args: &SyncArgs, context: &Context) -> Result<Kept> {
    context.options.output.among(Format::ROWS)?;
    if args.scope.since.is_some() {
        return Err(Error::usage("sync keeps the time of its last run itself")
            .hint("leave --since away; --full begins from the whole again"));
    }
    let inventory = context.load_inventory()?;
    let server = exact(&inventory, &args.name)?;
    let mut scope = args.scope.request(server)?;
    for note in habits::apply(server, &mut scope)? {
        context.notice(&format!("note: {note}"));
    }
    scope.check()?;
    let folder = match Destination::parse(&args.output_dir)? {
        Destination::Folder(folder) => folder,
        Destination::Store(address) => {
            let order = stored::Order { args, context, inventory: &inventory, server };
            return order.run(&address, &scope).await;
        }
    };
    let mut book = Book::open(&folder, &server.name, server.url.as_str(), &scope)?;
    let _lock = disk::lock(&folder, "directory")?;
    // Another process may have written it meanwhile.
    book = Book::open(&folder, &server.name, server.url.as_str(), &scope).unwrap_or(book);
    let is_due = args.full_every.is_some_and(|every| book.since_full() + 1 >= every as usize);
    let next = book.next(args.full || is_due || habits::has_no_since(server));
    book.write(&folder)?;
    let step = Step { args, context, inventory: &inventory, server, folder: &folder };
    let result = step.export(&scope, &next).await;
    let report = match result {
        Ok(report) => report,
        Err(error) => {
            // What the server has given up is not gone on with; anything else is.
            if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Data) {
                book.pending = None;
                book.write(&folder)?;
            }
            return Err(error);
        }
    };
    if report.conclusion.status != Status::Complete {
        if report.conclusion.exit_code != Exit::RESUMABLE.0 {
            book.pending = None;
            book.write(&folder)?;
        }
        let exit = Exit(report.conclusion.exit_code);
        return Ok(step.kept(next, report, None, exit));
    }
    let applied = sync::apply(&folder, &next)?;
    book.close(Run {
        number: next.number,
        since: next.since.clone(),
        transaction_time: report.conclusion.transaction_time.clone(),
        finished_at: context.clock.now(),
        received: applied.received,
        deleted: applied.deleted,
        resources: applied.counts.values().sum(),
    });
    book.write(&folder)?;
    step.tidy_up(&next)?;
    step.record(&applied);
    Ok(step.kept(next, report, Some(applied), Exit::OK))
}

struct Step<'a> {
    args: &'a SyncArgs,
    context: &'a Context,
    inventory: &'a Inventory,
    server: &'a Server,
    folder: &'a Path,
}

impl Step<'_> {
    fn kept(&self, run: Pending, report: Report, applied: Option<Applied>, exit: Exit) -> Kept {
        let place = self.folder.display().to_string();
        let current = self.folder.join("current").display().to_string();
        Kept { place, current, run, report, applied, exit }
    }

    async fn export(&self, scope: &ExportRequest, next: &Pending) -> Result<Report> {
        let request = ExportRequest { since: next.since.clone(), ..scope.clone() };
        let place = Destination::Folder(sync::run_folder(self.folder, next.number));
        again::admit(self.context, self.server, &request, &place, &self.args.again).await?;
        let (server, mode, shape) = (self.server, Mode::Bulk, Compression::None);
        let ledger = begin(self.context, server, &place, &request, mode, shape).await?;
        go(self.context, self.inventory, self.server, ledger, &self.args.how).await
    }

    /// Removes what is older than the state before this one: readers may still be in that.
    fn tidy_up(&self, next: &Pending) -> Result<()> {
        for path in sync::old(self.folder, "states", next.number) {
            std::fs::remove_dir_all(&path).map_err(|error| Error::io("remove", &path, &error))?;
        }
        for path in sync::old(self.folder, "runs", next.number) {
            match place::of_folder(&state()?, &path) {
                Ok(ledger) => drop(destroy(&ledger, &path)?),
                // Its ledger is elsewhere: the copy is ours all the same.
                Err(_) => std::fs::remove_dir_all(&path)
                    .map_err(|error| Error::io("remove", &path, &error))?,
            }
        }
        Ok(())
    }

    fn record(&self, applied: &Applied) {
        let target = format!(
            "{}: {} received, {} deleted",
            self.folder.display(),
            applied.received,
            applied.deleted
        );
        self.context.audit().outcome(Some(&self.server.name), &target, &Ok(()));
    }
}
