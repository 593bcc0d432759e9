//! What each kind of job comes to, by the commands that do it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::ArgMatches;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::JobArgs;
use crate::bulk::export::{Mode, Report, Status};
use crate::bulk::objects::Destination;
use crate::bulk::request::{self, ExportRequest};
use crate::bulk::runs::{Good, Pending, Runs};
use crate::bulk::store::Compression;
use crate::bulk::{again, place};
use crate::command::bulk_export::again::{AgainArgs, admit};
use crate::command::bulk_export::{begin, go, habits, state};
use crate::command::bulk_import::{self, BulkImportArgs};
use crate::command::migrate::{self, MigrateArgs};
use crate::command::sync::{self, SyncArgs};
use crate::context::Context;
use crate::inventory::Inventory;
use crate::model::job::{Compress, Filling, Job, Level, Scope, Since, Template, Work};
use crate::model::server::Server;
use crate::model::{Error, ErrorKind, Exit, Result};
use crate::render::Output;
use crate::view;

/// One run of a job.
pub(super) struct Run<'a> {
    pub(super) args: &'a JobArgs,
    pub(super) context: &'a Context,
    pub(super) inventory: &'a Inventory,
    pub(super) server: &'a Server,
    pub(super) job: &'a Job,
    pub(super) runs: &'a mut Runs,
}

/// What the work left.
pub(super) struct Ended {
    pub(super) output: Option<Output>,
    pub(super) exit: Exit,
    /// Whether an earlier run had done it.
    was_done: bool,
    /// Of what is complete: its id, transaction time and counts by type.
    complete: Option<(String, Option<String>, BTreeMap<String, u64>)>,
}

impl Ended {
    /// The run as later ones may be held against it, where it is complete.
    pub(super) fn good(&self, pending: &Pending, ended_at: Timestamp) -> Option<Good> {
        let (id, transaction_time, counts) = self.complete.clone()?;
        Some(Good {
            id,
            places: pending.places.clone(),
            begun_at: pending.begun_at,
            ended_at,
            transaction_time,
            counts,
        })
    }
}

impl Run<'_> {
    /// The run to go on with, or a new one; and whether it is the former.
    pub(super) fn begin(&mut self, now: Timestamp, zone: &TimeZone) -> Result<(Pending, bool)> {
        if let Some(pending) = self.runs.book.pending.clone()
            && self.goes_on(&pending)?
        {
            return Ok((pending, true));
        }
        let begun = now.to_zoned(zone.clone());
        let filling = Filling { begun: &begun, job: &self.job.name, server: &self.server.name };
        let places = match &self.job.work {
            Work::Export { to, .. } => vec![self.choose(to, &filling)?],
            Work::Sync { to, .. } => vec![to.fill(&filling)],
            Work::Import { from, .. } => from.iter().map(|place| place.fill(&filling)).collect(),
            Work::Migrate { target, .. } => vec![target.clone()],
        };
        let due_at = self.job.deadline.and_then(|deadline| deadline.after(now, zone));
        Ok((Pending { places, begun_at: now, due_at }, false))
    }

    /// An export is gone on with once the server has it; before, a new run has nothing to lose.
    fn goes_on(&self, pending: &Pending) -> Result<bool> {
        let Work::Export { .. } = &self.job.work else { return Ok(true) };
        let [folder] = pending.places.as_slice() else { return Ok(false) };
        if again::kicked_off(&state()?, &Destination::parse(Path::new(folder))?)?.is_none() {
            return Ok(false);
        }
        let fits = self.fits(folder)?;
        if !fits {
            self.context.notice(&format!(
                "note: {} has been changed; what was begun in {folder} stays as it is, and \
                 fhirctl bulk-export resume {folder} would go on with it",
                self.job.name
            ));
        }
        Ok(fits)
    }

    /// The folder of a new export: as the job says it, with a number behind it where an export
    /// failed there for good, or another one was put there.
    fn choose(&self, to: &Template, filling: &Filling<'_>) -> Result<String> {
        let plain = to.fill(filling);
        let plain = plain.trim_end_matches('/');
        let mut number = 1;
        loop {
            let folder = match number {
                1 => plain.to_owned(),
                _ => format!("{plain}-{number}"),
            };
            if !self.runs.book.failed.contains(&folder) && self.fits(&folder)? {
                return Ok(folder);
            }
            number += 1;
        }
    }

    /// Whether a folder is new, or holds the same export.
    fn fits(&self, folder: &str) -> Result<bool> {
        let Work::Export { compress, .. } = &self.job.work else { return Ok(true) };
        let destination = Destination::parse(Path::new(folder))?;
        let Some(known) = place::known_in(&state()?, &destination)? else { return Ok(true) };
        let asked = ExportRequest { since: known.request.since.clone(), ..self.request()?.0 };
        Ok(known.server == self.server.name
            && known.url == self.server.url.as_str()
            && known.mode == Mode::Bulk
            && known.compression == compression(*compress)
            && known.request == asked)
    }

    /// What an export job asks for, and what there is to say of it.
    fn request(&self) -> Result<(ExportRequest, Vec<String>)> {
        let Work::Export { scope, since, .. } = &self.job.work else {
            return Err(Error::internal("this job is no export"));
        };
        let level = match &scope.level {
            Some(Level::System) => request::Level::System,
            Some(Level::Patient) => request::Level::Patient,
            Some(Level::Group(id)) => request::Level::Group(id.clone()),
            None => habits::usual_level(self.server)?,
        };
        let since = match since {
            Some(Since::Instant(text)) => Some(text.clone()),
            Some(Since::Last) => {
                self.runs.book.last.as_ref().and_then(|last| last.transaction_time.clone())
            }
            None => None,
        };
        let mut request = ExportRequest {
            types: scope.types.clone(),
            type_filters: scope.type_filter.clone(),
            since,
            ..ExportRequest::new(level)
        };
        let notes = habits::apply(self.server, &mut request)?;
        request.check()?;
        Ok((request, notes))
    }

    fn again(&self) -> AgainArgs {
        let min_interval = self.args.again.min_interval.or(self.job.min_interval);
        AgainArgs { min_interval, ..self.args.again.clone() }
    }

    /// Does it.
    ///
    /// # Errors
    /// As the command that does the same.
    pub(super) async fn work(&mut self, pending: &Pending) -> Result<Ended> {
        match &self.job.work {
            Work::Export { to, compress, .. } => {
                let ended = self.export(pending, compression(*compress)).await?;
                if ended.was_done && !to.is_dated() {
                    self.context.notice(&format!(
                        "note: each run of {} goes to the same folder; {{date}} in its to: parts them",
                        self.job.name
                    ));
                }
                Ok(ended)
            }
            Work::Sync { server, scope, .. } => self.sync(server, scope, pending).await,
            Work::Import { server, .. } => self.import(server, pending).await,
            Work::Migrate { source, target, scope } => self.migrate(source, target, scope).await,
        }
    }

    async fn export(&mut self, pending: &Pending, compression: Compression) -> Result<Ended> {
        let place = pending.places.first().cloned().unwrap_or_default();
        let destination = Destination::parse(Path::new(&place))?;
        let state = state()?;
        let (mut request, notes) = self.request()?;
        for note in notes {
            self.context.notice(&format!("note: {note}"));
        }
        // Which changes are meant was settled when it was begun.
        if let Some(known) = place::known_in(&state, &destination)? {
            request.since = known.request.since;
        }
        admit(self.context, self.server, &request, &destination, &self.again()).await?;
        let mode = Mode::Bulk;
        let ledger =
            begin(self.context, self.server, &destination, &request, mode, compression).await?;
        let report = go(self.context, self.inventory, self.server, ledger, &self.args.how).await;
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                let is_lost = matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Data);
                if is_lost && again::kicked_off(&state, &destination)?.is_some() {
                    self.runs.book.fail(place);
                }
                return Err(error);
            }
        };
        if report.was_done {
            self.context.notice("note: this export had ended before; nothing was fetched");
        }
        Ok(exported(&report))
    }

    async fn sync(&self, server: &str, scope: &Scope, pending: &Pending) -> Result<Ended> {
        let mut words: Vec<OsString> = vec![server.into()];
        for place in &pending.places {
            words.extend(["--output-dir".into(), place.into()]);
        }
        words.extend(scope_words(scope));
        let mut args: SyncArgs = parsed(words)?;
        (args.how, args.again) = (self.args.how.clone(), self.again());
        let kept = sync::keep(&args, self.context).await?;
        let complete = kept.applied.as_ref().map(|applied| {
            let time = kept.report.conclusion.transaction_time.clone();
            (format!("sync-{}", kept.run.number), time, applied.counts.clone())
        });
        Ok(Ended { output: Some(kept.output()), exit: kept.exit, was_done: false, complete })
    }

    async fn migrate(&self, source: &str, target: &str, scope: &Scope) -> Result<Ended> {
        let mut words: Vec<OsString> = vec![source.into(), target.into()];
        words.extend(scope_words(scope));
        let mut args: MigrateArgs = parsed(words)?;
        args.pull.poll_floor = self.args.how.poll_floor;
        args.pull.poll_ceiling = self.args.how.poll_ceiling;
        args.parallel = self.args.how.parallel;
        args.max_line = self.args.how.max_line;
        args.keep_remote = self.args.how.keep_remote;
        let done = migrate::run(&args, self.context).await?;
        Ok(Ended { output: done.output, exit: done.exit, was_done: false, complete: None })
    }

    async fn import(&self, server: &str, pending: &Pending) -> Result<Ended> {
        let words = std::iter::once(server).chain(pending.places.iter().map(String::as_str));
        let mut args: BulkImportArgs = parsed(words.map(OsString::from).collect())?;
        args.pull.poll_floor = self.args.how.poll_floor;
        args.pull.poll_ceiling = self.args.how.poll_ceiling;
        let done = bulk_import::run(&args, self.context).await?;
        Ok(Ended { output: done.output, exit: done.exit, was_done: false, complete: None })
    }
}

/// What is asked for, as the flags of a command say it.
fn scope_words(scope: &Scope) -> Vec<OsString> {
    let mut words = Vec::new();
    let mut say = |flag: &str, value: &str| words.extend([flag.into(), value.into()]);
    match &scope.level {
        Some(Level::System) => say("--level", "system"),
        Some(Level::Patient) => say("--level", "patient"),
        Some(Level::Group(id)) => say("--group", id),
        None => {}
    }
    scope.types.iter().for_each(|name| say("--type", name));
    scope.type_filter.iter().for_each(|search| say("--type-filter", search));
    words
}

fn exported(report: &Report) -> Ended {
    let complete = (report.conclusion.status == Status::Complete).then(|| {
        let mut counts = BTreeMap::new();
        for total in report.by_type.iter().filter(|total| total.kind == "output") {
            *counts.entry(total.name.clone()).or_insert(0) += total.count;
        }
        let time = report.conclusion.transaction_time.clone();
        (report.identity.id.clone(), time, counts)
    });
    Ended {
        output: Some(view::bulk_export::report(report)),
        exit: Exit(report.conclusion.exit_code),
        was_done: report.was_done,
        complete,
    }
}

fn compression(compress: Compress) -> Compression {
    match compress {
        Compress::None => Compression::None,
        Compress::Gzip => Compression::Gzip,
        Compress::Zstd => Compression::Zstd,
    }
}

/// The arguments of another command as these words say them, everything else by its default.
fn parsed<A: clap::Args>(words: Vec<OsString>) -> Result<A> {
    let broken = |error: &clap::Error| Error::internal(error.to_string());
    let command = A::augment_args(clap::Command::new("run").no_binary_name(true));
    let matches: ArgMatches =
        command.try_get_matches_from(words).map_err(|error| broken(&error))?;
    A::from_arg_matches(&matches).map_err(|error| broken(&error))
}
