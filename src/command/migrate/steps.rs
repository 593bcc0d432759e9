//! The three steps of a migration: export, import, proof.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::bulk_export::{HowArgs, go, mode, state};
use super::super::bulk_import;
use super::super::confirm;
use super::{MigrateArgs, import_args, is_whole, max_line};
use crate::bulk::export::{Mode, Report, Status};
use crate::bulk::halt::Halt;
use crate::bulk::import::source;
use crate::bulk::migrate::ask::Reader;
use crate::bulk::migrate::book::{self, Book, Imported};
use crate::bulk::migrate::count;
use crate::bulk::migrate::evidence::Evidence;
use crate::bulk::migrate::prove::{Proof, Told};
use crate::bulk::objects::Destination;
use crate::bulk::request::ExportRequest;
use crate::bulk::{place, receipt};
use crate::context::{Context, Progress};
use crate::inventory::Inventory;
use crate::model::server::Server;
use crate::model::{Error, ErrorKind, Exit, Result};

/// How often it is told where nobody watches a terminal, in seconds.
const TELL_EVERY: u64 = 60;

/// A migration whose servers and folder are known.
pub(super) struct Step<'a> {
    pub(super) args: &'a MigrateArgs,
    pub(super) context: &'a Context,
    pub(super) inventory: &'a Inventory,
    pub(super) source: &'a Server,
    pub(super) target: &'a Server,
    pub(super) folder: &'a Path,
}

impl Step<'_> {
    /// Exports, or finds what was exported. `is_over`: it is, whatever the flags say now.
    ///
    /// # Errors
    /// As the export ends; exit 65 when it is not good.
    pub(super) async fn export(&self, scope: &ExportRequest, is_over: bool) -> Result<Report> {
        let Step { args, context, inventory, source, .. } = *self;
        let folder = self.folder.join("export");
        let known = if is_over { place::known(&state()?, &folder)? } else { None };
        let (mode, compression) = match known {
            Some(known) => (known.mode, known.compression),
            None => {
                let place = Destination::Folder(folder.clone());
                let mode = mode(args.mode, &place, context, inventory, source, scope).await?;
                (mode, args.compress.into())
            }
        };
        let ledger = place::open_or_begin(
            &state()?,
            &folder,
            source,
            scope,
            mode,
            compression,
            context.clock.now(),
        )?;
        let how = HowArgs {
            parallel: args.parallel,
            max_wait: args.pull.max_wait.unwrap_or(Duration::from_secs(30 * 86_400)),
            poll_floor: args.pull.poll_floor,
            poll_ceiling: args.pull.poll_ceiling,
            max_line: args.max_line,
            keep_remote: args.keep_remote,
            metrics_file: None,
        };
        let report = go(context, inventory, source, ledger, &how).await?;
        let kind = match (report.conclusion.status, Exit(report.conclusion.exit_code)) {
            (Status::Complete, _) => return Ok(report),
            (_, Exit::RESUMABLE) => ErrorKind::Resumable,
            (_, Exit::UNAVAILABLE) => ErrorKind::Unavailable,
            _ => ErrorKind::Data,
        };
        let status = report.conclusion.status.as_str().replace('_', " ");
        let error = Error::new(
            kind,
            format!(
                "the export of {} is {status}; nothing was written to {}",
                source.name, self.target.name
            ),
        )
        .hint(format!("what is wrong stands in {}", folder.join(receipt::NAME).display()));
        Err(match kind {
            ErrorKind::Data => error.hint(
                "begin anew in another folder once it is put right, or import by hand: \
                 fhirctl bulk-import",
            ),
            _ => error.hint("run the same command again to go on"),
        })
    }

    /// Asks, imports, and notes that it is over.
    ///
    /// # Errors
    /// As the import ends; exit 65 when the export was touched.
    pub(super) async fn import(&self, report: &Report, book: &mut Book) -> Result<Imported> {
        let Step { args, context, target, folder, .. } = *self;
        let counts = book::exported(report);
        let total: u64 = counts.values().sum();
        if total == 0 {
            return Err(Error::new(
                ErrorKind::Data,
                format!("the export of {} holds no resources: nothing to move", self.source.name),
            ));
        }
        if report.was_done {
            self.check_export().await?;
        }
        let before = match &book.before {
            Some(before) => before.clone(),
            None => {
                let reader = self.reader(target).await?;
                count::counts(&reader, counts.keys()).await.map_err(Error::from)?
            }
        };
        let types: Vec<String> =
            counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let had: u64 = before.values().flatten().sum();
        if had > 0 {
            context.notice(&format!(
                "note: {} had {had} resources of these types before; those with the same ids are \
                 replaced",
                target.name
            ));
        }
        let question = format!(
            "Write {total} resources of {} ({}) to {} ({})?",
            self.source.name,
            types.join(", "),
            target.name,
            target.url
        );
        confirm(context, &question)?;
        if book.before.is_none() {
            book.before = Some(before);
            book.write(folder)?;
        }
        let done = bulk_import::import(&import_args(args, folder), context).await?;
        let imported = Imported {
            id: done.id,
            ledger: done.ledger,
            family: done.family.to_owned(),
            reason: done.reason,
            finished_at: context.clock.now(),
            summary: done.summary,
            rejects: done.rejects,
        };
        book.imported = Some(imported.clone());
        book.write(folder)?;
        Ok(imported)
    }

    /// What was exported by an earlier run is imported only as it was received.
    async fn check_export(&self) -> Result<()> {
        let folder = self.folder.join("export");
        let progress = self.context.progress(&format!("verifying {}", folder.display()), 0);
        let looked = folder.clone();
        let verified =
            tokio::task::spawn_blocking(move || receipt::verify(&looked, &mut || {})).await;
        progress.finish();
        let verified = verified.map_err(|error| Error::internal(error.to_string()))??;
        if verified.problem_count == 0 {
            return Ok(());
        }
        let message =
            format!("{} is not what was exported; nothing more was written", folder.display());
        Err(Error::new(ErrorKind::Data, message)
            .hint(format!("fhirctl bulk-export verify {} shows in what", folder.display())))
    }

    async fn reader(&self, server: &Server) -> Result<Reader> {
        let surroundings = self.context.surroundings(self.inventory);
        Reader::new(server, &surroundings).await.map_err(Error::from)
    }

    /// Compares both sides.
    ///
    /// # Errors
    /// When a server cannot be read.
    pub(super) async fn prove(
        &self,
        report: &Report,
        imported: &Imported,
        book: &Book,
        scope: &ExportRequest,
    ) -> Result<Evidence> {
        let Step { args, context, .. } = *self;
        let (source, target) = (self.reader(self.source).await?, self.reader(self.target).await?);
        let inputs = Arc::new(source::collect(&[self.folder.join("export")], false)?);
        let exported = book::exported(report);
        let before = book.before.clone().unwrap_or_default();
        let screen = Screen::new(context, &self.target.name);
        let tell = |told: Told| screen.tell(told);
        let proof = Proof {
            source: &source,
            target: &target,
            inputs,
            exported: &exported,
            imported: &imported.summary,
            before: &before,
            max_line: max_line(args),
            seed: args.seed.unwrap_or(book.seed),
            most: args.sample.0.map(|most| most as usize),
            is_whole: is_whole(scope),
            types: &scope.types,
            is_crawl: report.identity.mode == Mode::Crawl,
            tell: &tell,
        };
        tokio::select! {
            done = proof.run() => done.map_err(Error::from),
            exit = crate::context::stop_signal() => {
                let kind = match exit {
                    Exit::TERMINATED => ErrorKind::Terminated,
                    _ => ErrorKind::Interrupted,
                };
                Err(Halt::new(kind, "bulk.interrupted", "stopped; everything is imported")
                    .hint("run the same command again to compare")
                    .into())
            }
        }
    }
}

/// How far the comparison is, for whoever looks on.
struct Screen<'a> {
    context: &'a Context,
    target: &'a str,
    state: std::sync::Mutex<(Option<Progress>, u64, u64, Instant)>,
}

impl<'a> Screen<'a> {
    fn new(context: &'a Context, target: &'a str) -> Screen<'a> {
        let state = std::sync::Mutex::new((None, 0, 0, Instant::now()));
        Screen { context, target, state }
    }

    fn tell(&self, told: Told) {
        let Ok(mut state) = self.state.lock() else { return };
        let (progress, total, done, told_at) = &mut *state;
        match told {
            Told::Chosen(number) => {
                *total = number;
                let what = format!("comparing with {}", self.target);
                let number = usize::try_from(number).unwrap_or(0);
                *progress = Some(self.context.progress(&what, number));
            }
            Told::Compared => {
                *done += 1;
                if let Some(progress) = progress {
                    progress.step();
                }
            }
        }
        if told_at.elapsed().as_secs() >= TELL_EVERY && !self.context.shows_progress() {
            *told_at = Instant::now();
            self.context.notice(&format!("{}: {done} of {total} compared", self.target));
        }
    }
}
