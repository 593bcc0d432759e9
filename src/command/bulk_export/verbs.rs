//! `bulk-export verify|status|list|cancel|purge`: what is asked of an export that was begun.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{identity_of, state, stores};
use crate::bulk::export::{self, Conclusion, Identity, Stopped};
use crate::bulk::job::Cancelled;
use crate::bulk::ledger::{Ledger, Peek};
use crate::bulk::objects::{self, Destination};
use crate::bulk::{place, receipt};
use crate::command::check::exact;
use crate::context::{Context, Outcome};
use crate::model::{Error, ErrorKind, Exit, Result};
use crate::view::bulk_export as view;

/// Hold an export's files against its receipt: bytes, digests, nothing missing, nothing added
///
/// The exit code is 0 when everything is as it was received, 65 when it is not.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The export's folder, or its address in an object store
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Show how far an export is, from its ledger
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The export's folder or address; without one, every export that has not ended
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// List the exports that were begun on this machine
#[derive(Debug, Args)]
pub struct ListArgs {}

/// Cancel an export's job on the server
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The export's folder, or its address in an object store
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Destroy the copy of an export: its files, its receipt and its ledger
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// The export's folder, or its address in an object store
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// # Errors
/// Exit 66 without a receipt.
pub(super) async fn verify(args: &VerifyArgs, context: &Context) -> Result<Outcome> {
    let progress = context.progress(&format!("verifying {}", args.dir.display()), 0);
    let verified = match Destination::parse(&args.dir)? {
        Destination::Folder(_) => receipt::verify(&args.dir, &mut || progress.step())?,
        Destination::Store(address) => {
            let bucket = stores::bucket(context, &address)?;
            objects::verify(&bucket, &|| progress.step()).await.map_err(Error::from)?
        }
    };
    progress.finish();
    let exit = if verified.problem_count == 0 { Exit::OK } else { Exit::DATA };
    let output = view::verified(&args.dir.display().to_string(), &verified, exit);
    Ok(Outcome { output: Some(output), exit })
}

/// # Errors
/// Exit 66 when no export was begun there.
pub(super) fn status(args: &StatusArgs, context: &Context) -> Result<Outcome> {
    let state = state()?;
    let mut lines = Vec::new();
    match &args.dir {
        Some(dir) => lines.push(match Destination::parse(dir)? {
            Destination::Folder(folder) => {
                let (ledger, identity) = place::look(&state, &folder)?;
                // Where it was found: a folder that was moved is where it is.
                view::Line { identity, ..look(&ledger)? }
            }
            Destination::Store(address) => look(&place::of_address(&state, &address)?)?,
        }),
        None => lines = unfinished(context)?,
    }
    Ok(Outcome::printed(view::lines("fhirctl/bulk-export-status/v1", &lines)))
}

/// Exports that are not over, as their ledgers tell.
///
/// # Errors
/// When the folder of ledgers cannot be read.
pub(in crate::command) fn unfinished(context: &Context) -> Result<Vec<view::Line>> {
    let mut lines = Vec::new();
    each(&state()?, context, &mut |line| {
        if !line.is_over() {
            lines.push(line);
        }
    })?;
    Ok(lines)
}

/// # Errors
/// When the ledgers cannot be read.
pub(super) fn list(context: &Context) -> Result<Outcome> {
    let mut lines = Vec::new();
    each(&state()?, context, &mut |line| lines.push(line))?;
    lines.sort_by_key(|line| std::cmp::Reverse(line.identity.created_at));
    Ok(Outcome::printed(view::lines("fhirctl/bulk-export-list/v1", &lines)))
}

/// Every export of this machine; what cannot be read is told of.
fn each(state: &Path, context: &Context, tell: &mut dyn FnMut(view::Line)) -> Result<()> {
    place::sweep(&place::ledgers(state));
    for folder in place::all(state)? {
        match look(&folder) {
            Ok(line) => tell(line),
            Err(error) => context.notice(&format!("warning: {}", error.message)),
        }
    }
    Ok(())
}

fn look(folder: &Path) -> Result<view::Line> {
    let peek: Peek = Ledger::look(folder)?;
    let identity: Identity = peek.fact("export")?.ok_or_else(|| {
        Error::new(ErrorKind::Data, format!("{} does not say what it is of", folder.display()))
    })?;
    let conclusion: Option<Conclusion> = peek.fact("conclusion")?;
    let worker = peek.worker();
    let failed = peek.fact::<Stopped>("stopped")?.filter(|it| it.is_final() && worker.is_none());
    let phase = if peek.fact::<serde_json::Value>("cancelled_at")?.is_some() {
        "cancelled"
    } else if let Some(conclusion) = &conclusion {
        conclusion.status.as_str()
    } else if failed.is_some() {
        "failed"
    } else if peek.fact::<serde_json::Value>("manifest")?.is_some() {
        "downloading"
    } else if peek.fact::<serde_json::Value>("job")?.is_some() {
        "waiting"
    } else {
        "begun"
    };
    let totals = peek.totals()?;
    Ok(view::Line { identity, phase, conclusion, failed, totals, worker })
}

/// # Errors
/// Exit 66 without a job, 69 when the server refuses.
pub(super) async fn cancel(args: &CancelArgs, context: &Context) -> Result<Outcome> {
    let ledger = stores::ledger(&args.dir)?;
    let identity = identity_of(&ledger)?;
    let inventory = context.load_inventory()?;
    let server = exact(&inventory, &identity.server)?;
    let surroundings = context.surroundings(&inventory);
    let result = export::cancel(&ledger, server, &surroundings).await.map_err(Error::from);
    let target = format!("bulk export {} cancelled", identity.id);
    context.audit().outcome(Some(&server.name), &target, &result);
    let told = match result? {
        Cancelled::Done => "the server cancels the job".to_owned(),
        Cancelled::Oddly(status) => format!("the server cancels the job, with HTTP {status}"),
        Cancelled::Gone => "the server knew nothing of the job any more".to_owned(),
    };
    Ok(Outcome::printed(view::told("fhirctl/bulk-export-cancel/v1", &identity, &told)))
}

/// # Errors
/// Exit 64 without `--yes` where nobody can be asked, 74 when something cannot be removed.
pub(super) async fn purge(args: &PurgeArgs, context: &Context) -> Result<Outcome> {
    let ledger = stores::ledger(&args.dir)?;
    let identity = identity_of(&ledger)?;
    let question = format!("Destroy the export of {} in {}?", identity.server, args.dir.display());
    crate::command::confirm(context, &question)?;
    let result = match &identity.address {
        None => destroy(&ledger, &identity.folder),
        Some(address) => {
            let bucket = stores::bucket(context, address)?;
            objects::destroy(&ledger, &bucket).await.map_err(Error::from)
        }
    };
    let target = format!("bulk export {} purged from {}", identity.id, identity.place());
    context.audit().outcome(Some(&identity.server), &target, &result);
    let files = result?;
    let told = match files {
        1 => "1 file is destroyed".to_owned(),
        _ => format!("{files} files are destroyed"),
    };
    Ok(Outcome::printed(view::told("fhirctl/bulk-export-purge/v1", &identity, &told)))
}

/// Removes what the export wrote, and nothing else.
pub(in crate::command) fn destroy(ledger: &Ledger, folder: &Path) -> Result<u64> {
    let mut files = 0;
    let mut remove = |path: &Path| match std::fs::remove_file(path) {
        Ok(()) => {
            files += 1;
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("remove", path, &error)),
    };
    ledger.each_file(&mut |file| match &file.done {
        Some(done) => remove(&folder.join(&done.name)),
        None => Ok(()),
    })?;
    for name in [receipt::NAME, "log.ndjson", place::MARKER] {
        remove(&folder.join(name))?;
    }
    for below in ["error", "deleted", "parts", ""] {
        // One that holds something else stays.
        let _ = std::fs::remove_dir(folder.join(below));
    }
    std::fs::remove_dir_all(ledger.folder())
        .map_err(|error| Error::io("remove", ledger.folder(), &error))?;
    Ok(files)
}
