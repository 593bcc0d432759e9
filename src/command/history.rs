//! `history status|verify|compact|prune|export|import`: the store of what checks have found.

mod export;
mod import;

use clap::{Args, Subcommand};

use super::record::intervals;
use crate::context::{Context, Outcome};
use crate::history::{Compacted, Retention, RolledUp, Seal, Store};
use crate::inventory::Inventory;
use crate::model::{Error, Exit, Result};
use crate::view;

/// Look after the history: how large it is, whether it is as it was written, in and out
///
/// check and test record what they find. The history lies beside the inventory, or where --history,
/// FHIRCTL_HISTORY or the inventory's history.url say.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    fhirctl history compact                         packs, rolls up and seals what is finished\n  \
    fhirctl history verify                          recomputes every chain\n  \
    fhirctl history export --last 7d -o csv >samples.csv\n  \
    fhirctl history import uptime.csv --server epic-prod\n  \
    fhirctl history import --prometheus http://prometheus:9090 --match 'instance=\"ehr\"' --server epic-prod --last 90d")]
pub struct HistoryArgs {
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// How much there is, and how far it is packed and rolled up
    Status,
    /// Recompute every chain, and hold seals and roll-ups against it; exit 65 when something is not as it was written
    Verify,
    /// Pack finished days, roll hours and days up, and seal the last finished day into the audit log
    ///
    /// The first check of a day does the same behind its verdict, for at most two seconds a run, unless it
    /// runs in CI, for Nagios or with --timeout. Where all checks do, this belongs into cron, once a day.
    Compact,
    /// Let go of what is older than history.retention says
    Prune(PruneArgs),
    Export(Box<export::ExportArgs>),
    Import(Box<import::ImportArgs>),
}

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Only say what is kept for how long
    #[arg(long)]
    pub dry_run: bool,
}

/// # Errors
/// Exit 65 when the history is damaged, 66 when there is none, 69, 74 or 75 when it cannot be used.
pub async fn run(args: &HistoryArgs, context: &Context) -> Result<Outcome> {
    let inventory = context.load_inventory()?;
    match &args.action {
        Action::Status => {
            let store = context.look_at_history(&inventory).await?;
            let status = store.status().await?;
            Ok(Outcome::printed(view::history::status(&store.place().to_string(), &status)))
        }
        Action::Verify => verify(context, &inventory).await,
        Action::Compact => compact(context, &inventory).await,
        Action::Prune(args) => prune(args, context, &inventory).await,
        Action::Export(args) => export::run(args, context, &inventory).await,
        Action::Import(args) => import::run(args, context, &inventory).await,
    }
}

async fn verify(context: &Context, inventory: &Inventory) -> Result<Outcome> {
    let store = context.look_at_history(inventory).await?;
    let progress = context.progress("verifying", 0);
    let found = store.verify().await?;
    progress.finish();
    let place = store.place().to_string();
    let unsealed = seals_not_logged(context, &place, &found.seals);
    let exit = if found.problem.is_none() && unsealed.is_empty() { Exit::OK } else { Exit::DATA };
    let output = view::history::verified(&place, &found, &unsealed, exit);
    Ok(Outcome { output: Some(output), exit })
}

/// Seals of the store that the audit log of this machine knows otherwise.
fn seals_not_logged(context: &Context, place: &str, seals: &[Seal]) -> Vec<String> {
    let Ok(log) = context.audit().log() else { return Vec::new() };
    let filter = crate::audit::Filter { last: usize::MAX, ..Default::default() };
    let Ok(found) = log.read(&filter) else { return Vec::new() };
    let begin = format!("history {place} sealed ");
    let logged: Vec<(&str, &str)> = found
        .records
        .iter()
        .filter_map(|record| record.target.as_deref()?.strip_prefix(&begin)?.split_once(' '))
        .collect();
    let differs = |seal: &&Seal| {
        let day = seal.day.to_string();
        logged.iter().any(|(logged, digest)| *logged == day && *digest != seal.digest)
    };
    seals
        .iter()
        .filter(differs)
        .map(|seal| format!("the seal of {} is another one in the audit log", seal.day))
        .collect()
}

async fn compact(context: &Context, inventory: &Inventory) -> Result<Outcome> {
    let store = context.open_history(inventory).await?;
    let progress = context.progress("compacting", 0);
    let (rolled, packed, seals) = tidy(context, inventory, &store).await?;
    progress.finish();
    let output = view::history::compacted(&store.place().to_string(), &rolled, &packed, &seals);
    Ok(Outcome::printed(output))
}

/// Rolls up, packs and seals. It may be broken off anywhere; the seal comes last, and says that the rest is
/// done.
pub(super) async fn tidy(
    context: &Context,
    inventory: &Inventory,
    store: &Store,
) -> Result<(RolledUp, Compacted, Vec<Seal>)> {
    let now = context.clock.now();
    let rolled = store.roll_up(now, &intervals(inventory)).await?;
    let packed = store.compact(now).await?;
    let seals = store.seal_days(now).await?;
    for seal in &seals {
        let key = format!("history {} sealed {} {}", store.place(), seal.day, seal.digest);
        context.audit().outcome(None, &key, &Ok::<(), Error>(()));
    }
    Ok((rolled, packed, seals))
}

async fn prune(args: &PruneArgs, context: &Context, inventory: &Inventory) -> Result<Outcome> {
    let store = context.open_history(inventory).await?;
    let kept = inventory.history.retention;
    let retention =
        Retention { raw: Some(kept.raw), hourly: Some(kept.hourly), daily: Some(kept.daily) };
    let place = store.place().to_string();
    if args.dry_run {
        let would = store.prunable(&retention, context.clock.now()).await?;
        return Ok(Outcome::printed(view::history::pruned(&place, &kept, &would, true)));
    }
    super::confirm(context, &format!("Delete what is older than it is kept for in {place}?"))?;
    tidy(context, inventory, &store).await?;
    let result = store.prune(&retention, context.clock.now()).await;
    context.audit().outcome(None, "history pruned", &result);
    let pruned = result?;
    store.vacuum().await?;
    Ok(Outcome::printed(view::history::pruned(&place, &kept, &pruned, false)))
}
