//! `migrate SOURCE TARGET`: exported here, imported there, and proven to be the same.

mod steps;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use self::steps::Step;
use super::bulk_export::{CompressArg, ModeArg, ScopeArgs, habits, state};
use super::bulk_import::{self, BulkImportArgs, Family, parse_size, pulls::PullArgs};
use super::check::exact;
use super::complete;
use crate::bulk::disk;
use crate::bulk::lines::MAX_LINE;
use crate::bulk::migrate::book::{self, Book, Proved};
use crate::bulk::request::{ExportRequest, Level};
use crate::context::{Context, Outcome};
use crate::model::server::Server;
use crate::model::{Error, Exit, Result, State};
use crate::render::Format;
use crate::view;

/// Move a server's data to another server, and prove that they are the same there
///
/// Exports SOURCE (everything, unless flags say less), imports into TARGET under the same ids, then
/// compares: counts by type on both
/// sides, a sample of each type as content, and where its references lead. Run the same command
/// again after whatever stopped it; once all is there only the comparison is made again. It writes
/// to TARGET: it asks before, or wants --yes. The exit code is 0 when they are proven to be the
/// same, 65 when something differs, is missing or was refused.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    fhirctl migrate old new --output-dir migration\n  \
    fhirctl --yes migrate old new --sample all        compares every resource\n  \
    fhirctl migrate old new --dry-run")]
pub struct MigrateArgs {
    /// The server that is read, by its name in the inventory
    #[arg(value_name = "SOURCE", add = complete::servers())]
    pub source: String,

    /// The server that is written to
    #[arg(value_name = "TARGET", add = complete::servers())]
    pub target: String,

    /// The folder of this migration: export, book and report [default: one in the state folder]
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,

    #[command(flatten)]
    pub scope: ScopeArgs,

    /// How the data are asked for: by $export, by searches, or by what SOURCE declares
    #[arg(long, value_name = "MODE", default_value = "bulk")]
    pub mode: ModeArg,

    /// How the exported files are stored
    #[arg(long, value_name = "HOW", default_value = "none")]
    pub compress: CompressArg,

    /// How many files are fetched at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub parallel: u16,

    /// A longer line is bad data; in MiB
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub max_line: u16,

    /// Leave the finished job on SOURCE
    #[arg(long)]
    pub keep_remote: bool,

    /// How the resources get into TARGET
    #[arg(long, value_name = "FAMILY", default_value = "auto")]
    pub family: Family,

    /// Each bundle as a transaction: it goes in whole or not at all
    #[arg(long)]
    pub atomic: bool,

    /// Most resources in one bundle
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_entries: u32,

    /// Most bytes of one bundle, such as 5MB
    #[arg(long, value_name = "SIZE", default_value = "5MB", value_parser = parse_size)]
    pub max_bytes: usize,

    /// Most bundles under way at once; fewer when TARGET has too much
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub in_flight: u32,

    /// Import again what was imported before
    #[arg(long)]
    pub again: bool,

    /// How many resources of each type are compared, or all
    #[arg(long, value_name = "N", default_value = "100", value_parser = parse_sample)]
    pub sample: Sample,

    /// Chooses the sample [default: drawn once, then the same in every run]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Show what would be asked and how it would be written; send nothing
    #[arg(long)]
    pub dry_run: bool,

    #[command(flatten)]
    pub pull: PullArgs,
}

/// How many resources of each type are compared; `None`: all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample(pub Option<u32>);

fn parse_sample(text: &str) -> Result<Sample, String> {
    match text {
        "all" => Ok(Sample(None)),
        _ => match text.parse() {
            Ok(number) if number > 0 => Ok(Sample(Some(number))),
            _ => Err("write a number from 1, or all".to_owned()),
        },
    }
}

/// # Errors
/// Exit 64 for what cannot be asked or when nobody can be asked and --yes is missing, 65 when the
/// export is not good, 69, 73, 74, 75 and 77 as the steps end.
pub async fn run(args: &MigrateArgs, context: &Context) -> Result<Outcome> {
    context.options.output.among(Format::ROWS)?;
    let begun = Instant::now();
    let inventory = context.load_inventory()?;
    let source = exact(&inventory, &args.source)?;
    let target = exact(&inventory, &args.target)?;
    check_servers(source, target, context)?;
    let mut scope = args.scope.request(source)?;
    if args.scope.level.is_none() && args.scope.group.is_none() {
        scope.level = habits::widest_level(source)?;
    }
    let notes = habits::apply(source, &mut scope)?;
    scope.check()?;
    let folder = folder(args)?;
    if args.dry_run {
        return plan(args, context, source, target, &scope, &notes, &folder).await;
    }
    let now = context.clock.now();
    let mut book = Book::open(&folder, source, target, &scope, now)?;
    let _lock = disk::lock(&folder, "migration")?;
    // Another process may have written it meanwhile.
    book = Book::open(&folder, source, target, &scope, now).unwrap_or(book);
    if args.again {
        book.imported = None;
    }
    if book.imported.is_none() && !context.options.yes && !context.may_ask() {
        return Err(Error::usage(format!(
            "Write the resources of {} to {}: this has to be confirmed",
            source.name, target.name
        ))
        .hint("--yes confirms it; nothing was exported either")
        .hint("--dry-run shows what would be done"));
    }
    notes.iter().for_each(|note| context.notice(&format!("note: {note}")));
    book.write(&folder)?;
    let step = Step { args, context, inventory: &inventory, source, target, folder: &folder };
    let report = step.export(&scope, book.imported.is_some()).await?;
    let imported = match book.imported.clone() {
        Some(imported) => {
            context.notice("note: everything was imported before; only the comparison is made");
            imported
        }
        None => step.import(&report, &mut book).await?,
    };
    let proven = step.prove(&report, &imported, &book, &scope).await;
    let target_text = match &proven {
        Ok(evidence) => format!(
            "migration from {}: {}, {} compared",
            source.name,
            view::migrate::status(evidence),
            evidence.sample.compared
        ),
        Err(_) => format!("migration from {}: not proven", source.name),
    };
    context.audit().outcome(
        Some(&target.name),
        &target_text,
        &proven.as_ref().map(drop).map_err(Clone::clone),
    );
    let evidence = proven?;
    let exit = if evidence.is_proven() { Exit::OK } else { Exit::DATA };
    let shown = view::migrate::Migration {
        source,
        target,
        folder: &folder,
        export: &report,
        imported: &imported,
        evidence: &evidence,
        proven_at: context.clock.now(),
        duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        exit,
    };
    book::put(&folder, view::migrate::MARKDOWN, &shown.markdown()?)?;
    book::put(&folder, view::migrate::REPORT, &shown.report()?)?;
    book.proved(Proved {
        at: shown.proven_at,
        status: view::migrate::status(&evidence).to_owned(),
        seed: evidence.sample.seed,
        compared: evidence.sample.compared,
    });
    book.write(&folder)?;
    Ok(Outcome { output: Some(shown.output()), exit })
}

/// A server is not moved into itself, nor into one that is out of use.
fn check_servers(source: &Server, target: &Server, context: &Context) -> Result<()> {
    if source.name == target.name || source.url == target.url {
        return Err(Error::usage(format!(
            "{} and {} are the same server: {}",
            source.name, target.name, target.url
        ))
        .hint("a migration goes from one server to another"));
    }
    if target.state(context.clock.now()) == State::Inactive {
        return Err(Error::usage(format!("{} is inactive: nothing is written to it", target.name))
            .hint(format!("fhirctl activate {} puts it in use", target.name)));
    }
    Ok(())
}

fn folder(args: &MigrateArgs) -> Result<PathBuf> {
    let folder = match &args.output_dir {
        Some(folder) => folder.clone(),
        None => state()?.join("migrations").join(format!("{}-to-{}", args.source, args.target)),
    };
    if folder.to_string_lossy().contains("://") {
        return Err(Error::usage("--output-dir of a migration is a folder on this machine"));
    }
    std::path::absolute(&folder).map_err(|error| Error::io("find", &folder, &error))
}

/// What would be done.
async fn plan(
    args: &MigrateArgs,
    context: &Context,
    source: &Server,
    target: &Server,
    scope: &ExportRequest,
    notes: &[String],
    folder: &Path,
) -> Result<Outcome> {
    let kick_off = scope.kick_off(&source.url)?;
    let export = view::bulk_export::Plan {
        server: source.name.clone(),
        auth: source.auth.method(),
        kick_off: &kick_off,
        output_dir: folder.join("export").display().to_string(),
        notes,
    };
    let (family, reason) = bulk_import::way(&import_args(args, folder), context).await?;
    let plan = view::migrate::Plan {
        source,
        target,
        folder,
        export: export.output(),
        mode: match args.mode {
            ModeArg::Bulk => "bulk",
            ModeArg::Crawl => "crawl",
            ModeArg::Auto => "auto",
        },
        family,
        reason: &reason,
        per_type: args.sample.0,
    };
    Ok(Outcome::printed(plan.output()))
}

fn import_args(args: &MigrateArgs, folder: &Path) -> BulkImportArgs {
    BulkImportArgs {
        name: args.target.clone(),
        sources: vec![folder.join("export").display().to_string()],
        family: args.family,
        atomic: args.atomic,
        assign_ids: false,
        max_entries: args.max_entries,
        max_bytes: args.max_bytes,
        max_line: Some(max_line(args)),
        in_flight: args.in_flight,
        apply_deleted: false,
        rejects: Some(folder.join("rejects")),
        resend: false,
        again: args.again,
        dry_run: false,
        pull: args.pull.clone(),
    }
}

fn max_line(args: &MigrateArgs) -> usize {
    usize::from(args.max_line) * (MAX_LINE / 16)
}

/// Whether all that a server has of some types was asked for.
fn is_whole(scope: &ExportRequest) -> bool {
    let ExportRequest { level, since, until, type_filters, elements, patients, .. } = scope;
    *level == Level::System
        && since.is_none()
        && until.is_none()
        && type_filters.is_empty()
        && elements.is_empty()
        && patients.is_empty()
        && scope.params.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_number_or_all() {
        assert_eq!(parse_sample("all"), Ok(Sample(None)));
        assert_eq!(parse_sample("7"), Ok(Sample(Some(7))));
        for wrong in ["0", "-1", "", "some", "1.5"] {
            assert!(parse_sample(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn everything_is_asked_for_only_without_a_filter() {
        let whole = ExportRequest::new(Level::System);
        assert!(is_whole(&whole));
        assert!(!is_whole(&ExportRequest::new(Level::Patient)));
        let since = Some("2026-01-01T00:00:00Z".to_owned());
        assert!(!is_whole(&ExportRequest { since, ..whole.clone() }));
        let until = Some("2026-01-01T00:00:00Z".to_owned());
        assert!(!is_whole(&ExportRequest { until, ..whole.clone() }));
        assert!(is_whole(&ExportRequest { types: vec!["Patient".to_owned()], ..whole }));
    }
}
