//! `history import --gauges`: what servers said of themselves, out of another history.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc::Sender;

use super::{ImportArgs, all_known, opened, rewound};
use crate::context::{Context, Outcome};
use crate::history::{Gauge, Store, gauges_csv};
use crate::inventory::Inventory;
use crate::model::{Error, Result};
use crate::probe::gauges::is_name;
use crate::view;

/// Values that are written in one transaction.
const AT_ONCE: usize = 10_000;

/// How many values there are of each server.
type Counts = BTreeMap<Arc<str>, u64>;

pub(super) async fn run(
    args: &ImportArgs,
    path: &Path,
    context: &Context,
    inventory: &Inventory,
) -> Result<Outcome> {
    let (file, servers) = looked_at(args, path, context).await?;
    all_known(inventory, servers.keys().cloned())?;
    let store = context.open_history(inventory).await?;
    let result = keep(args, context, &store, file, &servers).await;
    context.audit().outcome(args.server.as_deref(), "history imported", &result);
    Ok(Outcome::printed(view::history::gauges_imported(&path.display().to_string(), &result?)))
}

/// Reads the file to its end before anything of it is written.
async fn looked_at(args: &ImportArgs, path: &Path, context: &Context) -> Result<(File, Counts)> {
    let (path, server, now) = (path.to_owned(), args.server.clone(), context.clock.now());
    let progress = context.progress("reading", 0);
    let read = tokio::task::spawn_blocking(move || {
        let mut file = opened(&path)?;
        let mut servers = Counts::new();
        for gauge in gauges_csv(&file, server.as_deref(), now, is_name)? {
            *servers.entry(gauge?.server).or_default() += 1;
        }
        rewound(&mut file, &path)?;
        Ok((file, servers))
    });
    let read =
        read.await.map_err(|error| Error::internal(format!("reading broke off: {error}")))?;
    progress.finish();
    read
}

/// Server, how many values are new, and how many were known.
async fn keep(
    args: &ImportArgs,
    context: &Context,
    store: &Store,
    file: File,
    servers: &Counts,
) -> Result<Vec<(String, u64, u64)>> {
    let length = usize::try_from(servers.values().sum::<u64>()).unwrap_or_default();
    let progress = context.progress("importing", length);
    let (server, now) = (args.server.clone(), context.clock.now());
    let (sender, mut parts) = tokio::sync::mpsc::channel(1);
    let reader = tokio::task::spawn_blocking(move || {
        let sent = gauges_csv(file, server.as_deref(), now, is_name)
            .and_then(|gauges| send(gauges, &sender));
        // Who no longer listens has an error of its own to tell.
        sent.or_else(|error| sender.blocking_send(Err(error)).or(Ok::<(), Error>(())))
    });
    let mut new = Counts::new();
    while let Some(part) = parts.recv().await {
        let (server, gauges) = part?;
        *new.entry(server).or_default() += store.add_gauges(&gauges).await?;
        progress.advance(gauges.len());
    }
    reader.await.map_err(|error| Error::internal(format!("reading broke off: {error}")))??;
    progress.finish();
    let counts = servers.iter().map(|(server, all)| {
        let new = new.get(server).copied().unwrap_or_default();
        (server.to_string(), new, all.saturating_sub(new))
    });
    Ok(counts.collect())
}

type Part = (Arc<str>, Vec<Gauge>);

/// Hands over all of it, some of one server at a time.
fn send(gauges: impl Iterator<Item = Result<Gauge>>, parts: &Sender<Result<Part>>) -> Result<()> {
    let mut open: BTreeMap<Arc<str>, Vec<Gauge>> = BTreeMap::new();
    let mut held = 0;
    for gauge in gauges {
        let gauge = gauge?;
        open.entry(Arc::clone(&gauge.server)).or_default().push(gauge);
        held += 1;
        if held == AT_ONCE {
            held = 0;
            for part in std::mem::take(&mut open) {
                if parts.blocking_send(Ok(part)).is_err() {
                    return Ok(());
                }
            }
        }
    }
    for part in open {
        if parts.blocking_send(Ok(part)).is_err() {
            break;
        }
    }
    Ok(())
}
