//! Keeping what a run found in the history. A history that cannot be written changes no verdict.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::context::Context;
use crate::history::Run;
use crate::inventory::Inventory;
use crate::model::{Origin, Reading, Result, ServerReport};
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

/// How often each server of an inventory is looked at, for roll-ups.
pub(super) fn intervals(inventory: &Inventory) -> impl Fn(&str) -> Option<i64> + Sync + '_ {
    |name| inventory.server(name).and_then(expected_interval)
}
