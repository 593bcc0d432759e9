//! The one place where a finished file gets its name.
//!
//! The order, for a batch of files at once: their bytes reach the disk, their ids do, the ledger
//! says that they are there, they get their final names, the folders' entries reach the disk. After
//! a crash at any point the ledger knows what is to be done: a file that is noted and still has its
//! temporary name gets the final one, whatever else is temporary is thrown away.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::disk::{cannot_write, sync_folder};
use super::halt::Halt;
use super::ids::IdFile;
use super::ledger::{Done, Finding, Ledger, State};
use crate::model::{Error, Result};

/// Most files of one batch.
const BATCH: usize = 256;
/// Files that are brought to the disk at once.
const SYNCS: usize = 8;

/// A file whose content is complete and written.
pub struct Complete {
    pub id: u32,
    pub file: File,
    pub done: Done,
    pub findings: Vec<Finding>,
}

struct Order {
    complete: Complete,
    reply: oneshot::Sender<Result<(), Halt>>,
}

/// Names finished files. Cheap to clone.
#[derive(Clone)]
pub struct Sealer {
    orders: mpsc::UnboundedSender<Order>,
    folder: Arc<Path>,
    syncs: Arc<Semaphore>,
}

impl Sealer {
    /// Starts the thread that does it; it ends with the last clone.
    #[must_use]
    pub fn start(folder: &Path, ledger: &Arc<Ledger>, ids: &IdFile) -> Sealer {
        let (orders, mut waiting) = mpsc::unbounded_channel::<Order>();
        let folder: Arc<Path> = Arc::from(folder);
        let sealer =
            Sealer { orders, folder: Arc::clone(&folder), syncs: Arc::new(Semaphore::new(SYNCS)) };
        let (ledger, ids) = (Arc::clone(ledger), ids.clone());
        tokio::task::spawn_blocking(move || {
            while let Some(first) = waiting.blocking_recv() {
                let mut batch = vec![first];
                while batch.len() < BATCH
                    && let Ok(next) = waiting.try_recv()
                {
                    batch.push(next);
                }
                seal(&folder, &ledger, &ids, batch);
            }
        });
        sealer
    }

    /// Names one file; it is there for good when this comes back.
    ///
    /// # Errors
    /// When the disk or the ledger says no.
    pub async fn seal(&self, complete: Complete) -> Result<(), Halt> {
        let stopped = || Halt::from(Error::internal("the thread that names files has ended"));
        let path = temporary(&self.folder, &complete.done.name);
        // Those that come at once share a turn of the disk.
        let turn = self.syncs.acquire().await;
        let (complete, synced) = tokio::task::spawn_blocking(move || {
            let synced = complete.file.sync_all();
            (complete, synced)
        })
        .await
        .map_err(|_| stopped())?;
        drop(turn);
        synced.map_err(|error| Halt::from(cannot_write(&path, &error)))?;
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order { complete, reply }).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

fn seal(folder: &Path, ledger: &Ledger, ids: &IdFile, batch: Vec<Order>) {
    let mut batch = batch;
    let named = ids
        .sync()
        .map_err(|error| cannot_write(&ledger.folder().join("ids"), &error))
        .and_then(|()| {
            let files: Vec<_> = batch
                .iter_mut()
                .map(|order| {
                    let complete = &mut order.complete;
                    let findings = std::mem::take(&mut complete.findings);
                    (complete.id, complete.done.clone(), findings)
                })
                .collect();
            ledger.sealed(&files)
        })
        .and_then(|()| name(folder, batch.iter().map(|order| order.complete.done.name.as_str())));
    for order in batch {
        let _ = order.reply.send(named.clone().map_err(Halt::from));
    }
}

pub(super) fn name<'a>(folder: &Path, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut folders = BTreeSet::new();
    for name in names {
        let path = folder.join(name);
        std::fs::rename(temporary(folder, name), &path)
            .map_err(|error| cannot_write(&path, &error))?;
        folders.extend(path.parent().map(Path::to_owned));
    }
    folders.iter().try_for_each(|folder| sync_folder(folder))
}

/// Where a file is while it grows: beside its place, hidden.
#[must_use]
pub fn temporary(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    let own = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    path.with_file_name(format!(".{own}.part"))
}

/// Finishes what a crash has interrupted: files that the ledger knows get their names, and what is
/// temporary beside them goes.
///
/// # Errors
/// Exit 65 when a file that the ledger knows is gone or has another length.
pub fn recover(folder: &Path, ledger: &Ledger) -> Result<()> {
    let mut folders = BTreeSet::new();
    ledger.each_file(&mut |file| {
        let Some(done) = file.done.as_ref().filter(|_| file.state != State::GivenUp) else {
            return Ok(());
        };
        let path = folder.join(&done.name);
        let part = temporary(folder, &done.name);
        if file.is_stored || file.state == State::Joined {
            // It only waited here for its object store, or for the others of its type.
            for left in [&path, &part] {
                let _ = std::fs::remove_file(left);
            }
            return Ok(());
        }
        let length = |path: &Path| std::fs::symlink_metadata(path).ok().map(|it| it.len());
        if length(&path) == Some(done.bytes) {
            return Ok(());
        }
        if length(&part) == Some(done.bytes) {
            std::fs::rename(&part, &path).map_err(|error| cannot_write(&path, &error))?;
            folders.extend(path.parent().map(Path::to_owned));
            return Ok(());
        }
        Err(Error::new(
            crate::model::ErrorKind::Data,
            format!("{} was fetched and is not as it was", path.display()),
        )
        .hint("somebody changed or removed it; begin the export anew in another folder"))
    })?;
    folders.iter().try_for_each(|folder| sync_folder(folder))?;
    for below in ["", "error", "deleted", super::join::FOLDER] {
        sweep(&folder.join(below))?;
    }
    Ok(())
}

fn sweep(folder: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') && name.ends_with(".part") {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(|error| Error::io("remove", &path, &error))?;
        }
    }
    Ok(())
}
