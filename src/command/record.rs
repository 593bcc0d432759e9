//! Keeping what a run found in the history. A history that cannot be written changes no verdict.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use uuid::Uuid;

use crate::context::Context;
use crate::history::{Gauge, Run, Store};
use crate::inventory::Inventory;
use crate::model::{Origin, Reading, Result, ServerReport};
use crate::probe::LastAsked;
use crate::report::expected_interval;

/// How long a run waits for the history at most.
const PATIENCE: Duration = Duration::from_secs(15);

/// Keeps the reports of a run; whether they stand in the history. Why not is said on standard error.
pub(super) async fn record(
    context: &Context,
    inventory: &Inventory,
    run: Uuid,
    origin: Origin,
    reports: &[ServerReport],
) -> bool {
    let now = context.clock.now();
    let readings: Vec<Reading> =
        reports.iter().filter_map(|report| Reading::of(report, run, origin, None, now)).collect();
    if readings.is_empty() {
        return false;
    }
    let written = tokio::time::timeout(PATIENCE, write(context, inventory, run, origin, &readings));
    let trouble = match written.await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.message,
        Err(_) => format!("the history did not answer within {} s", PATIENCE.as_secs()),
    };
    context.notice(&format!("warning: this run is not in the history: {trouble}"));
    false
}

async fn write(
    context: &Context,
    inventory: &Inventory,
    id: Uuid,
    origin: Origin,
    readings: &[Reading],
) -> Result<()> {
    let store = context.open_history(inventory).await?;
    let run = Run { id, at: context.clock.now(), vantage: None::<Arc<str>>, origin };
    store.append(&run, readings).await
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
pub(super) async fn keep_gauges(context: &Context, inventory: &Inventory, gauges: &[Gauge]) {
    if gauges.is_empty() {
        return;
    }
    let keep = async { context.open_history(inventory).await?.add_gauges(gauges).await };
    let trouble = match tokio::time::timeout(PATIENCE, keep).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.message,
        Err(_) => format!("the history did not answer within {} s", PATIENCE.as_secs()),
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
    let names = crate::report::known_names(&store).await?;
    Ok(names.contains(name).then_some(store))
}

/// How often each server of an inventory is looked at, for roll-ups.
pub(super) fn intervals(inventory: &Inventory) -> impl Fn(&str) -> Option<i64> + Sync + '_ {
    |name| inventory.server(name).and_then(expected_interval)
}
