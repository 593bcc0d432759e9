//! `check`: the gate. The health of many servers at once, and a verdict by exit code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use uuid::Uuid;

use super::record::{gauges_asked, keep_gauges, look_after, record};
use super::selector::SelectorArgs;
use crate::context::{Context, Outcome, parse_duration, replace_file};
use crate::fhir::drift::BaselineFile;
use crate::history::{Gauge, Store};
use crate::inventory::Inventory;
use crate::model::server::Server;
use crate::model::verdict::{FailOn, judge};
use crate::model::{Error, ErrorKind, Exit, Origin, Result, ServerReport, Unapproved};
use crate::probe::{self, CheckName, Checked, LastAsked, Options};
use crate::render::{CheckRun, Format, Output};
use crate::view;

/// How often `--wait` looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Check the health of many servers; the exit code is the verdict
///
/// Every active server is checked unless a selector says otherwise. The exit code is 0 when all is
/// healthy, 1 for warnings, 2 when something is critical, 3 when something could not be judged.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub selector: SelectorArgs,

    /// From which status on the exit code says so
    #[arg(long, value_name = "STATUS", default_value = "warning")]
    pub fail_on: FailOnArg,

    /// Look again every 2 s until all is well, for at most this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub wait: Option<Duration>,

    /// Check again and again, with this pause
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "10s",
          value_parser = parse_duration, conflicts_with = "wait")]
    pub watch: Option<Duration>,

    /// How often a failed check is tried again
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10))]
    pub retries: u32,

    /// Make only these checks: auth, health, metadata, search, read, assert, tls, capability
    #[arg(long, value_name = "CHECK")]
    pub only: Vec<CheckName>,

    /// Leave these checks out
    #[arg(long, value_name = "CHECK")]
    pub skip: Vec<CheckName>,

    /// Hold what the servers can do against this file
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,

    /// Write what the servers can do into this file; servers that are in it already are renewed
    #[arg(long, value_name = "FILE")]
    pub save_baseline: Option<PathBuf>,

    /// Let servers in maintenance count
    #[arg(long)]
    pub include_maintenance: bool,

    /// Write the result into this file, by rename, instead of to standard output
    #[arg(long, value_name = "FILE")]
    pub output_file: Option<PathBuf>,

    /// Leave no trace in the history
    #[arg(long)]
    pub no_record: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOnArg {
    Warning,
    Unknown,
    Critical,
    Never,
}

impl From<FailOnArg> for FailOn {
    fn from(arg: FailOnArg) -> FailOn {
        match arg {
            FailOnArg::Warning => FailOn::Warning,
            FailOnArg::Unknown => FailOn::Unknown,
            FailOnArg::Critical => FailOn::Critical,
            FailOnArg::Never => FailOn::Never,
        }
    }
}

/// # Errors
/// When the inventory, the selection or the baseline cannot be used; never for a sick server.
pub async fn run(args: &CheckArgs, context: &Context) -> Result<Outcome> {
    let inventory = context.load_inventory()?;
    let selected = crate::inventory::select::select(&inventory, &args.selector.selection())?;
    let servers: Vec<Arc<Server>> = selected.into_iter().cloned().map(Arc::new).collect();
    let gate = Gate { args, context, inventory: &inventory, servers, options: options(args)? };
    match (args.watch, args.wait) {
        (Some(pause), _) => gate.watch(pause).await,
        (None, Some(limit)) => gate.wait(limit).await,
        (None, None) => gate.once().await,
    }
}

fn options(args: &CheckArgs) -> Result<Options> {
    let baseline = args.baseline.as_deref().map(read_baseline).transpose()?;
    Ok(Options {
        only: args.only.clone(),
        skip: args.skip.clone(),
        retries: args.retries,
        every_stage: false,
        by_hand: false,
        keep_snapshots: args.save_baseline.is_some(),
        baseline: baseline.map(Arc::new),
        gauges: None,
    })
}

pub(super) fn read_baseline(path: &Path) -> Result<BaselineFile> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io("read", path, &error))?;
    BaselineFile::parse(&text, path)
}

/// One invocation: what is checked, how, and where the result goes.
struct Gate<'a> {
    args: &'a CheckArgs,
    context: &'a Context,
    inventory: &'a Inventory,
    servers: Vec<Arc<Server>>,
    options: Options,
}

impl Gate<'_> {
    async fn once(&self) -> Result<Outcome> {
        let (output, exit, store) = self.round().await?;
        let outcome = self.deliver(output, exit)?;
        let Some(store) = store.filter(|_| self.has_time()) else { return Ok(outcome) };
        // The verdict first: nobody waits for what comes behind it but for the exit code.
        if let Some(output) = &outcome.output {
            self.context.emit(output)?;
        }
        look_after(self.context, self.inventory, &store).await;
        Ok(Outcome { output: None, ..outcome })
    }

    /// Whether the run may take a little longer, once a day: as a job of cron may.
    fn has_time(&self) -> bool {
        let options = &self.context.options;
        !self.context.ci && options.timeout.is_none() && options.output != Format::Nagios
    }

    async fn wait(&self, limit: Duration) -> Result<Outcome> {
        let end = Instant::now() + limit;
        loop {
            let (output, exit, _) = self.round().await?;
            if exit == Exit::OK || Instant::now() + LOOK_EVERY > end {
                return self.deliver(output, exit);
            }
            self.context.verbose(1, "not all is well yet; looking again in 2 s");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn watch(&self, pause: Duration) -> Result<Outcome> {
        let stop = crate::context::stopped();
        tokio::pin!(stop);
        loop {
            let (output, exit, _) = tokio::select! {
                round = self.round() => round?,
                () = &mut stop => return Ok(Outcome::default()),
            };
            let outcome = self.deliver(output, exit)?;
            if let Some(output) = &outcome.output
                && !self.context.emit(output)?
            {
                return Ok(Outcome::default());
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = &mut stop => return Ok(Outcome::default()),
            }
        }
    }

    /// Checks everything once; with the history that it stands in now.
    async fn round(&self) -> Result<(Output, Exit, Option<Store>)> {
        let started = Instant::now();
        let surroundings = self.context.surroundings(self.inventory);
        let concurrency = self.context.options.concurrency as usize;
        let progress = self.context.progress("checking", self.servers.len());
        let held = self.held();
        let servers: Vec<Arc<Server>> = (self.servers.iter().zip(&held))
            .filter(|(_, held)| held.is_none())
            .map(|(server, _)| Arc::clone(server))
            .collect();
        let asked = servers.len();
        let options = Options { gauges: self.asked(&servers).await, ..self.options.clone() };
        let checked = probe::check_all(servers, &surroundings, &options, concurrency, |_| {
            progress.step();
        })
        .await;
        progress.finish();
        let Parts { reports: checked, snapshots, gauges } = self.split(checked);
        let notes = note(&held);
        let mut checked = checked.into_iter();
        let reports: Vec<ServerReport> =
            held.into_iter().filter_map(|held| held.or_else(|| checked.next())).collect();
        if let Some(path) = &self.args.save_baseline {
            self.save_baseline(path, snapshots, asked)?;
        }
        let fail_on = FailOn::from(self.args.fail_on);
        let verdict = judge(&reports, fail_on, self.args.include_maintenance);
        let run = CheckRun {
            command: "check",
            status: verdict.status,
            exit_code: verdict.exit.0,
            warning_fails: fail_on == FailOn::Warning,
            include_maintenance: self.args.include_maintenance,
            generated_at: self.context.clock.now(),
            duration_ms: started.elapsed().as_secs_f64() * 1000.0,
            reports,
        };
        let id = Uuid::new_v4();
        let store = if self.args.no_record {
            None
        } else {
            record(self.context, self.inventory, id, Origin::Check, &run.reports).await
        };
        if let Some(store) = &store {
            keep_gauges(self.context, store, &gauges).await;
        }
        let meta = view::check::Meta {
            inventory: self.inventory.path.display().to_string(),
            run_id: id.to_string(),
            recorded: store.is_some(),
            notes,
        };
        Ok((view::check::output(run, meta), verdict.exit, store))
    }

    /// When gauges were asked for last, looked up while servers are checked; `None` where none are
    /// kept, or nobody names any.
    async fn asked(&self, servers: &[Arc<Server>]) -> Option<LastAsked> {
        let has_any = |server: &Arc<Server>| server.checks.has_gauges();
        // Who picks out checks wants those and nothing else.
        if self.args.no_record || !self.args.only.is_empty() || !servers.iter().any(has_any) {
            return None;
        }
        gauges_asked(self.context, self.inventory).await
    }

    /// For each server that nobody named and whose vendor forbids to watch it the report that takes
    /// the checks' place; `None` for those that are checked.
    fn held(&self) -> Vec<Option<ServerReport>> {
        let now = self.context.clock.now();
        let hold = |server: &Arc<Server>| {
            let reason = server.may_be_scheduled(now).err()?;
            let named = self.args.selector.selectors.contains(&server.name);
            (!named).then(|| probe::unapproved(server, &self.options, &reason, now))
        };
        self.servers.iter().map(hold).collect()
    }

    fn split(&self, checked: Vec<Checked>) -> Parts {
        let mut parts = Parts::default();
        for one in checked {
            if let Some(snapshot) = one.snapshot {
                parts.snapshots.push((one.report.name.clone(), snapshot));
            }
            parts.reports.push(one.report);
            parts.gauges.extend(one.gauged.gauges);
            for note in one.gauged.notes {
                self.context.notice(&format!("warning: {note}"));
            }
        }
        parts
    }

    fn save_baseline(
        &self,
        path: &Path,
        snapshots: Vec<(String, crate::fhir::drift::Snapshot)>,
        asked: usize,
    ) -> Result<()> {
        let now = self.context.clock.now();
        let mut file = match read_baseline(path) {
            Ok(file) => file,
            Err(error) if error.kind == ErrorKind::NotFound => {
                BaselineFile::new(now, BTreeMap::new())
            }
            Err(error) => return Err(error),
        };
        let saved = snapshots.len();
        file.created_at = now;
        file.servers.extend(snapshots);
        replace_file(path, file.print()?.as_bytes())?;
        if saved < asked {
            self.context.notice(&format!(
                "warning: {} of {asked} servers showed no CapabilityStatement and are not renewed in {}",
                asked - saved,
                path.display()
            ));
        }
        Ok(())
    }

    /// Hands the result to standard output, or writes it into the file that was asked for.
    fn deliver(&self, output: Output, exit: Exit) -> Result<Outcome> {
        match &self.args.output_file {
            None => Ok(Outcome { output: Some(output), exit }),
            Some(path) => {
                let text = crate::render::render(
                    &output,
                    self.context.options.output,
                    crate::render::Style { color: false, width: None },
                )?;
                replace_file(path, text.as_bytes())?;
                Ok(Outcome { output: None, exit })
            }
        }
    }
}

/// What came of a round, apart.
#[derive(Default)]
struct Parts {
    reports: Vec<ServerReport>,
    snapshots: Vec<(String, crate::fhir::drift::Snapshot)>,
    gauges: Vec<Gauge>,
}

/// How many servers a note names.
const NAMED: usize = 5;

/// What a reader has to know of the servers that were left out.
fn note(held: &[Option<ServerReport>]) -> Vec<String> {
    let mut names = held.iter().flatten().map(|report| report.name.as_str());
    let count = held.iter().flatten().count();
    match held.iter().flatten().next() {
        None => Vec::new(),
        Some(only) if count == 1 => {
            vec![format!("{} was {}; {}", only.name, only.message, Unapproved::hint(&only.name))]
        }
        Some(_) => {
            let mut named: Vec<&str> = names.by_ref().take(NAMED).collect();
            if names.next().is_some() {
                named.push("…");
            }
            vec![format!(
                "{count} servers were not checked, because their vendors' terms forbid monitoring and \
                 no approval holds ({}); {}",
                named.join(", "),
                Unapproved::hint("NAME")
            )]
        }
    }
}

/// A server by its exact name.
pub(super) fn exact<'a>(inventory: &'a Inventory, name: &str) -> Result<&'a Server> {
    let selection =
        crate::inventory::select::Selection { names: vec![name.to_owned()], ..Default::default() };
    let found = crate::inventory::select::select(inventory, &selection)?;
    match found.as_slice() {
        [server] => Ok(server),
        _ => Err(Error::usage(format!("{name} names {} servers; name one", found.len()))),
    }
}
