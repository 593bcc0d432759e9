//! Keeping what a run found in the history. A history that cannot be written changes no verdict.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use uuid::Uuid;

use super::history;
use crate::context::Context;
use crate::history::{Gauge, Run, Store};
use crate::inventory::Inventory;
use crate::model::{Error, Origin, Reading, Result, ServerReport};
use crate::probe::LastAsked;
use crate::render::Format;
use crate::report::expected_interval;

/// How long a run may look after the history, once its result is out.
const CARE: Duration = Duration::from_secs(2);

/// How long a run waits for the history at most: no longer than for a server, and for Nagios, which
/// gives up after ten seconds, no longer than the deadline of eight leaves.
fn patience(context: &Context) -> Duration {
    let most = match context.options.output {
        Format::Nagios => Duration::from_millis(1_500),
        _ => Duration::from_secs(15),
    };
    context.options.timeout.map_or(most, |timeout| timeout.min(most))
}

/// Keeps the reports of a run; the history, when they stand in it. Why not is said on standard error.
pub(super) async fn record(
    context: &Context,
    inventory: &Inventory,
    run: Uuid,
    origin: Origin,
    reports: &[ServerReport],
) -> Option<Store> {
    let now = context.clock.now();
    let readings: Vec<Reading> =
        reports.iter().filter_map(|report| Reading::of(report, run, origin, None, now)).collect();
    if readings.is_empty() {
        return None;
    }
    let patience = patience(context);
    let writing = write(context, inventory, patience, run, origin, &readings);
    let trouble = match tokio::time::timeout(patience, writing).await {
        Ok(Ok(store)) => return Some(store),
        Ok(Err(error)) => error.message,
        Err(_) => format!("the history did not answer within {:.1} s", patience.as_secs_f64()),
    };
    context.notice(&format!("warning: this run is not in the history: {trouble}"));
    None
}

async fn write(
    context: &Context,
    inventory: &Inventory,
    patience: Duration,
    id: Uuid,
    origin: Origin,
    readings: &[Reading],
) -> Result<Store> {
    let settings = context.history_settings(inventory).await?;
    // The database gives up first, and says why.
    let store = Store::open_within(&settings, patience * 2 / 3).await?;
    let run = Run { id, at: context.clock.now(), vantage: None::<Arc<str>>, origin };
    store.append(&run, readings).await?;
    Ok(store)
}

/// Does what has to be done once a day, where nobody has yet: for a bounded while, and alone. What is left
/// is for the next run, and a failure is nothing to a run whose result is out.
pub(super) async fn look_after(context: &Context, inventory: &Inventory, store: &Store) {
    let care = async {
        if store.is_behind(context.clock.now()).await? && store.claim().await? {
            history::tidy(context, inventory, store).await?;
        }
        Ok::<(), Error>(())
    };
    match tokio::time::timeout(CARE, care).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            context.verbose(1, &format!("the history was not packed: {}", error.message));
        }
        Err(_) => context.verbose(1, "the history is not packed yet; the next run goes on"),
    }
}

/// Begins to look up when gauges were last asked for; what it needs that may ask the user is had first.
pub(super) async fn gauges_asked(context: &Context, inventory: &Inventory) -> Option<LastAsked> {
    let settings = context.history_settings(inventory).await.ok()?;
    let asked = tokio::spawn(async move {
        match Store::look(&settings).await.ok()? {
            Some(store) => store.gauges_asked().await.ok().map(Arc::new),
            None => Some(Arc::default()),
        }
    });
    Some(async move { asked.await.ok().flatten() }.boxed().shared())
}

/// Keeps gauges behind a run that stands in the history; why not is said to whoever wants to know.
pub(super) async fn keep_gauges(context: &Context, store: &Store, gauges: &[Gauge]) {
    if gauges.is_empty() {
        return;
    }
    let patience = patience(context);
    let trouble = match tokio::time::timeout(patience, store.add_gauges(gauges)).await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.message,
        Err(_) => format!("the history did not answer within {} ms", patience.as_millis()),
    };
    context.verbose(1, &format!("what servers say of themselves is not in the history: {trouble}"));
}

/// Gives a server's history its new name; whether there is any.
pub(super) async fn renamed(
    context: &Context,
    inventory: &Inventory,
    old: &str,
    new: &str,
) -> Result<bool> {
    let Some(store) = known(context, inventory, old).await? else { return Ok(false) };
    store.rename(old, new).await?;
    Ok(true)
}

/// Marks a server's history as that of one that was taken out; whether there is any.
pub(super) async fn archived(context: &Context, inventory: &Inventory, name: &str) -> Result<bool> {
    let Some(store) = known(context, inventory, name).await? else { return Ok(false) };
    store.archive(name, context.clock.now()).await?;
    Ok(true)
}

/// The history, where it knows a server.
async fn known(context: &Context, inventory: &Inventory, name: &str) -> Result<Option<Store>> {
    let Some(store) = Store::look(&context.history_settings(inventory).await?).await? else {
        return Ok(None);
    };
    let known = crate::report::known(&store).await?;
    Ok(known.contains_key(name).then_some(store))
}

/// How often each server of an inventory is looked at, for roll-ups.
pub(super) fn intervals(inventory: &Inventory) -> impl Fn(&str) -> Option<i64> + Sync + '_ {
    |name| inventory.server(name).and_then(expected_interval)
}
