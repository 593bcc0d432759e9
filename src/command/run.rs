//! `run JOB`: a job of the inventory, so that a crontab line is three words.

mod work;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use self::work::{Ended, Run};
use super::bulk_export::again::{AgainArgs, instant, until};
use super::bulk_export::{HowArgs, state};
use super::check::exact;
use super::complete;
use crate::bulk::halt::Halt;
use crate::bulk::runs::{self, Good, Owner, Pending, Runs};
use crate::context::{Context, Outcome};
use crate::inventory::Inventory;
use crate::model::job::{Job, Verdict, Work};
use crate::model::text::{nearest, span};
use crate::model::{Error, ErrorKind, Exit, Result};
use crate::render::Format;
use crate::view::run as view;

/// Run a job that the inventory defines; without a name, list the jobs and how they last ended
///
/// A run that was interrupted goes on with the same command, in the folder that it began in, on
/// another day too. The exit code is that of the work itself; 65 also when counts are not as the job
/// expects, 75 when the deadline has come or the vendor takes the export only later.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    fhirctl run                     lists the jobs\n  \
    fhirctl run nightly\n  \
    0 1 * * *  fhirctl -i /etc/fhirctl/servers.yaml run nightly       a line of a crontab\n  \
    fhirctl run nightly --accept    takes the counts as the ones to compare with")]
pub struct JobArgs {
    /// The job's name in the inventory
    #[arg(value_name = "JOB", add = complete::jobs())]
    pub name: Option<String>,

    /// Take unexpected counts as right: those of the run that is held, else those of this run
    #[arg(long, requires = "name")]
    pub accept: bool,

    #[command(flatten)]
    pub again: AgainArgs,

    #[command(flatten)]
    pub how: HowArgs,
}

/// # Errors
/// As the job's work ends; exit 66 when there is no such job, 75 when another process runs it or its
/// deadline has come.
pub async fn run(args: &JobArgs, context: &Context) -> Result<Outcome> {
    context.options.output.among(Format::ROWS)?;
    let inventory = context.load_inventory()?;
    let Some(name) = &args.name else { return list(&inventory) };
    let job = find(&inventory, name)?;
    let server = exact(&inventory, job.work.server())?;
    let owner = Owner {
        job: &job.name,
        inventory: &inventory.path,
        kind: job.work.kind(),
        server: &server.name,
        url: server.url.as_str(),
    };
    let mut runs = Runs::open(&state()?, owner)?;
    if runs.is_changed {
        context.notice(&format!(
            "note: {name} did something else before; it begins without a run to compare with"
        ));
    }
    if args.accept
        && runs.book.pending.is_none()
        && let Some(held) = runs.book.held.clone()
    {
        return accept(context, job, &mut runs, &held);
    }
    let zone = zone(job)?;
    let begun_at = context.clock.now();
    let mut run = Run { args, context, inventory: &inventory, server, job, runs: &mut runs };
    let (pending, goes_on) = run.begin(begun_at, &zone)?;
    run.runs.book.pending = Some(pending.clone());
    run.runs.write()?;
    if goes_on {
        context.notice(&format!(
            "note: {name} goes on with the run of {} ({})",
            instant(pending.begun_at),
            pending.places.join(", ")
        ));
    }
    let stop_at = stop_at(job, &pending, begun_at, &zone);
    let worked = tokio::select! {
        worked = run.work(&pending) => worked,
        () = stopped(context, stop_at) => Err(missed(job, &pending, context.clock.now())),
    };
    conclude(args, context, job, &mut runs, &pending, goes_on, worked)
}

fn find<'a>(inventory: &'a Inventory, name: &str) -> Result<&'a Job> {
    inventory.job(name).ok_or_else(|| {
        let error = Error::not_found(format!("no job is named {name}"));
        let names = inventory.jobs().iter().map(|job| job.name.as_str());
        match nearest(name, names) {
            Some(near) => error.hint(format!("did you mean {near}?")),
            None => {
                error.hint("fhirctl run lists the jobs; they stand under jobs: in the inventory")
            }
        }
    })
}

/// The zone of a job's dates and times of day.
fn zone(job: &Job) -> Result<TimeZone> {
    match &job.time_zone {
        Some(name) => TimeZone::get(name).map_err(|_| {
            Error::config(format!("job {}: this machine knows no time zone {name}", job.name))
                .hint("write its name as in America/New_York; the package tzdata brings the list")
        }),
        None => Ok(TimeZone::system()),
    }
}

/// Where this run is stopped: at the deadline of the run that it goes on with, or, when that is
/// over, at the next one.
fn stop_at(job: &Job, pending: &Pending, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    match pending.due_at {
        Some(due) if due > now => Some(due),
        _ => job.deadline.and_then(|deadline| deadline.after(now, zone)),
    }
}

async fn stopped(context: &Context, at: Option<Timestamp>) {
    match at {
        Some(at) => until(context, at).await,
        None => std::future::pending().await,
    }
}

fn missed(job: &Job, pending: &Pending, now: Timestamp) -> Error {
    let due = pending.due_at.unwrap_or(now);
    let deadline = job.deadline.map(|deadline| deadline.to_string()).unwrap_or_default();
    let late = now.duration_since(due).as_secs();
    let late = match late {
        ..=0 => "at that time".to_owned(),
        _ => {
            let late = std::time::Duration::from_secs(late.unsigned_abs());
            format!("{} behind that", span(late))
        }
    };
    let message = format!(
        "job {} had to be done by {} ({deadline}) and is not; it is stopped {late}, and everything is kept",
        job.name,
        instant(due),
    );
    Halt::later("bulk.deadline", message)
        .hint("run the same command again: it goes on, and says that it is late")
        .into()
}

/// Takes the counts of a run that is held, without asking a server.
fn accept(context: &Context, job: &Job, runs: &mut Runs, held: &Good) -> Result<Outcome> {
    let ended_at = context.clock.now();
    if let Some(ended) = &mut runs.book.ended
        && ended.begun_at == held.begun_at
    {
        view::ACCEPTED.clone_into(&mut ended.verdict);
        ended.exit_code = Exit::OK.0;
    }
    let judged = judge(job, &runs.book, held);
    runs.book.accept(held.clone());
    let result = runs.write();
    record(context, job, "counts accepted", &result);
    result?;
    let shown = view::Shown {
        job,
        places: &held.places,
        begun_at: held.begun_at,
        ended_at,
        due_at: None,
        went_on: false,
        expectations: Some(judged),
        accepted: Some(true),
        verdict: view::ACCEPTED,
        exit: Exit::OK,
        result: None,
    };
    Ok(Outcome::printed(shown.output()))
}

/// Holds the counts against what the job expects, notes how the run ended, and shows it.
fn conclude(
    args: &JobArgs,
    context: &Context,
    job: &Job,
    runs: &mut Runs,
    pending: &Pending,
    went_on: bool,
    worked: Result<Ended>,
) -> Result<Outcome> {
    let ended_at = context.clock.now();
    let mut note = runs::Ended {
        places: pending.places.clone(),
        begun_at: pending.begun_at,
        ended_at,
        verdict: String::new(),
        exit_code: 0,
        late: pending.due_at.is_some_and(|due| ended_at > due),
        transaction_time: None,
    };
    let ended = match worked {
        Ok(ended) => ended,
        Err(error) => {
            note.exit_code = error.exit().0;
            view::verdict(error.exit()).clone_into(&mut note.verdict);
            runs.book.ended = Some(note);
            if !goes_on_later(error.kind, &job.work) {
                runs.book.pending = None;
            }
            runs.write()?;
            record::<()>(context, job, "stopped", &Err(error.clone()));
            return Err(error);
        }
    };
    let good = ended.good(pending, ended_at);
    let judged = good.as_ref().map(|good| judge(job, &runs.book, good));
    let is_unexpected =
        judged.iter().flatten().any(|expectation| expectation.verdict == Verdict::Unexpected);
    // The counts that later runs are held against are not refused when they are seen again.
    let was_accepted = |good: &Good| {
        let last = runs.book.last.as_ref();
        last.is_some_and(|last| last.id == good.id && last.counts == good.counts)
    };
    let is_accepted = good.as_ref().map(|good| !is_unexpected || args.accept || was_accepted(good));
    let (verdict, exit) = match is_accepted {
        Some(false) => (view::UNEXPECTED, Exit::DATA),
        Some(true) if is_unexpected => (view::ACCEPTED, ended.exit),
        _ => (view::verdict(ended.exit), ended.exit),
    };
    note.exit_code = exit.0;
    verdict.clone_into(&mut note.verdict);
    note.transaction_time = good.as_ref().and_then(|good| good.transaction_time.clone());
    runs.book.ended = Some(note);
    if ended.exit != Exit::RESUMABLE {
        runs.book.pending = None;
    }
    match (good, is_accepted) {
        (Some(good), Some(true)) => runs.book.accept(good),
        (Some(good), _) if runs.book.last.as_ref().is_none_or(|last| last.id != good.id) => {
            runs.book.held = Some(good);
        }
        _ => {}
    }
    runs.write()?;
    if verdict == view::ACCEPTED && args.accept {
        record(context, job, "counts accepted", &Ok(()));
    }
    let shown = view::Shown {
        job,
        places: &pending.places,
        begun_at: pending.begun_at,
        ended_at,
        due_at: pending.due_at,
        went_on,
        expectations: judged,
        accepted: is_accepted,
        verdict,
        exit,
        result: ended.output,
    };
    Ok(Outcome { output: Some(shown.output()), exit })
}

/// Whether the next run goes on with this one. What a server has given up is not gone on with; an
/// import that failed otherwise is begun anew, which doubles nothing.
fn goes_on_later(kind: ErrorKind, work: &Work) -> bool {
    match kind {
        ErrorKind::Resumable | ErrorKind::Interrupted | ErrorKind::Terminated => true,
        ErrorKind::Unavailable | ErrorKind::Data | ErrorKind::Usage => false,
        _ => matches!(work, Work::Export { .. }),
    }
}

fn judge(job: &Job, book: &runs::Book, run: &Good) -> Vec<view::Judged> {
    let last = book.compared(&run.id);
    let judged = job.expect.iter().map(|(name, expectation)| {
        let of = |good: &Good| good.counts.get(name).copied().unwrap_or(0);
        let (count, last_count) = (of(run), last.map(of));
        view::Judged {
            name: name.clone(),
            count,
            last_count,
            expectation: expectation.to_string(),
            verdict: expectation.judge(count, last_count),
        }
    });
    judged.collect()
}

fn record<T>(context: &Context, job: &Job, what: &str, result: &Result<T>) {
    let target = format!("job {} ({}): {what}", job.name, job.work.kind());
    context.audit().outcome(Some(job.work.server()), &target, result);
}

fn list(inventory: &Inventory) -> Result<Outcome> {
    let state = state()?;
    let mut lines = Vec::new();
    for job in inventory.jobs() {
        let book = runs::look(&state, &job.name)?;
        let is_running = runs::is_running(&state, &job.name);
        lines.push(view::Line { job, book, is_running });
    }
    Ok(Outcome::printed(view::list(&inventory.path, &lines)))
}
