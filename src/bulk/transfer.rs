//! What the workers of one export share, and the workers themselves.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use url::Url;

use super::crawl;
use super::download::{self, Connections, End};
use super::halt::Halt;
use super::ids::IdFile;
use super::join;
use super::ledger::{FileRow, Kind, Ledger};
use super::links;
use super::objects::Uploads;
use super::seal::{Complete, Sealer, temporary};
use super::store::{Compression, Split};
use super::wait::Pace;
use crate::auth::caller::Caller;
use crate::model::Code;

/// Files that are looked up in the ledger at once.
const AHEAD: u32 = 500;
/// Files that are complete and wait for their names.
const SEALING: usize = 128;
/// What is left free on the disk, in bytes.
const RESERVE: u64 = 8 * 1024 * 1024;

/// What happens while an export runs, for whoever shows or logs it.
#[derive(Clone, Debug)]
pub enum Event {
    KickOff {
        url: String,
    },
    Started {
        status_url: String,
        oddities: Vec<String>,
    },
    Waiting {
        progress: Option<String>,
        trouble: Option<String>,
        wait: Duration,
    },
    Manifest {
        transaction_time: Option<String>,
        output: u64,
        error: u64,
        deleted: u64,
    },
    FilesBegin {
        files: u64,
        done: u64,
    },
    FileStarted {
        file: u32,
        name: String,
        item: &'static str,
        resource_type: String,
        url: String,
        length: Option<u64>,
    },
    Bytes {
        file: u32,
        bytes: u64,
    },
    FileAgain {
        file: u32,
        url: String,
        code: Code,
        message: String,
        wait: Duration,
    },
    FileResumed {
        file: u32,
        at: u64,
    },
    FileUploads {
        file: u32,
    },
    FileDone {
        file: u32,
        name: String,
        url: String,
        lines: u64,
        bytes: u64,
        content_bytes: u64,
        found: u64,
    },
    Joining {
        name: String,
    },
    FileGivenUp {
        file: u32,
        url: String,
        code: Code,
        message: String,
    },
    Finished {
        files: u64,
        resources: u64,
        bytes: u64,
        duration_ms: u64,
    },
}

/// Told of everything that happens.
pub type Teller = Arc<dyn Fn(&Event) + Send + Sync>;

/// One export's downloads.
pub struct Transfer {
    pub caller: Arc<Caller>,
    pub ledger: Arc<Ledger>,
    pub ids: IdFile,
    pub sealer: Sealer,
    /// Set where files only wait here for their object store.
    pub uploads: Option<Arc<Uploads>>,
    /// Where the files go.
    pub folder: PathBuf,
    pub compression: Compression,
    pub split: Split,
    pub max_line: usize,
    pub parallel: usize,
    pub pace: Pace,
    pub requires_token: bool,
    pub is_organized: bool,
    /// Whether the links are searches.
    pub is_crawl: bool,
    /// Against which the manifest's links are read.
    pub links_from: Url,
    pub status_url: Url,
    /// Numbers the attempts, in this run and all others.
    pub attempt: AtomicU64,
    pub teller: Teller,
    /// How often the manifest was read anew.
    pub renewed: Mutex<u32>,
    pub sealing: Sealing,
}

/// Files that get their names while the next ones are fetched.
pub struct Sealing {
    room: Arc<Semaphore>,
    running: Mutex<JoinSet<Result<(), Halt>>>,
}

impl Sealing {
    /// Uploads take memory: there are as many at once as there are downloads.
    #[must_use]
    pub fn new(uploads: Option<usize>) -> Sealing {
        let room = Arc::new(Semaphore::new(uploads.unwrap_or(SEALING)));
        Sealing { room, running: Mutex::new(JoinSet::new()) }
    }
}

impl Transfer {
    pub fn tell(&self, event: &Event) {
        (self.teller)(event);
    }

    /// Keeps a complete file for good: under its name, and in its object store where it has one.
    ///
    /// # Errors
    /// When the disk, the ledger or the store says no.
    pub async fn keep(&self, complete: Complete) -> Result<(), Halt> {
        let uploads = self.uploads.as_ref().filter(|_| !join::is_part(&complete.done.name));
        let Some(uploads) = uploads else { return self.sealer.seal(complete).await };
        let (id, done) = (complete.id, complete.done.clone());
        self.sealer.seal(complete).await?;
        self.tell(&Event::FileUploads { file: id });
        uploads.file(id, &done).await
    }

    /// What a file is called below the export's folder: its type and number, nothing of the
    /// server's choosing.
    #[must_use]
    pub fn name_of(&self, file: &FileRow) -> String {
        let (folder, plain) = match file.kind {
            Kind::Output if self.split == Split::Type => (join::PLACE, "resources"),
            Kind::Output => ("", "resources"),
            Kind::Error => ("error/", "OperationOutcome"),
            Kind::Deleted => ("deleted/", "Bundle"),
        };
        let name = if file.resource_type.is_empty() { plain } else { &file.resource_type };
        let suffix = if file.kind == Kind::Output { self.compression.suffix() } else { "" };
        format!("{folder}{name}.{:03}.ndjson{suffix}", file.sequence + 1)
    }

    /// A wait that grows, with jitter, where nobody said how long.
    #[must_use]
    pub fn backoff(&self, waited: u32) -> Duration {
        let retry = self.caller.server.retry;
        let grown = retry.backoff.mul_f64(2_f64.powi(i32::try_from(waited.min(16)).unwrap_or(16)));
        grown.min(retry.max_backoff).mul_f64(0.75 + 0.5 * fastrand::f64())
    }

    /// Stops before the disk is full, where it is known how much is to come.
    ///
    /// # Errors
    /// Exit 75.
    pub fn make_room(&self, bytes: u64) -> Result<(), Halt> {
        match free_space(&self.folder) {
            Some(free) if free < bytes.saturating_add(RESERVE) => Err(Halt::later(
                "bulk.no_space",
                format!(
                    "{} MiB are free below {}, too little for the file that is to come",
                    free >> 20,
                    self.folder.display()
                ),
            )
            .hint("make room and run the same command again: what is done stays done")),
            _ => Ok(()),
        }
    }

    /// Has a complete file kept, and tells of it when it is, while the caller fetches the next.
    ///
    /// # Errors
    /// When an earlier one could not be kept.
    pub async fn keep_behind(
        self: &Arc<Self>,
        complete: Complete,
        event: Event,
    ) -> Result<(), Halt> {
        let room = Arc::clone(&self.sealing.room).acquire_owned().await;
        let transfer = Arc::clone(self);
        let mut running = self.sealing.running.lock().await;
        while let Some(ended) = running.try_join_next() {
            ended.unwrap_or_else(|_| Err(broken_off()))?;
        }
        running.spawn(async move {
            let path = temporary(&transfer.folder, &complete.done.name);
            let sealed = transfer.keep(complete).await;
            drop(room);
            match &sealed {
                Ok(()) => transfer.tell(&event),
                // Where there is no room it takes some that is needed.
                Err(_) => drop(std::fs::remove_file(path)),
            }
            sealed
        });
        Ok(())
    }

    /// Waits until every complete file has its name.
    async fn all_sealed(&self) -> Result<(), Halt> {
        let mut running = self.sealing.running.lock().await;
        let mut first = Ok(());
        while let Some(ended) = running.join_next().await {
            first = first.and(ended.unwrap_or_else(|_| Err(broken_off())));
        }
        first
    }

    /// Fetches every file that is wanted.
    ///
    /// # Errors
    /// When nothing more can be fetched; what is done stays done.
    pub async fn fetch_all(self: &Arc<Self>) -> Result<(), Halt> {
        let totals = self.ledger.totals()?;
        self.tell(&Event::FilesBegin { files: totals.files, done: totals.files_done });
        let queue = Arc::new(Mutex::new(Queue { waiting: Vec::new(), last: 0 }));
        let left = totals.files - totals.files_done - totals.files_missing;
        let workers = self.parallel.min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut running = JoinSet::new();
        for _ in 0..workers {
            running.spawn(work(Arc::clone(self), Arc::clone(&queue)));
        }
        while let Some(ended) = running.join_next().await {
            if let Err(halt) = ended.unwrap_or_else(|_| Err(broken_off())) {
                running.shutdown().await;
                // What is complete is worth its name.
                let _ = self.all_sealed().await;
                return Err(halt);
            }
        }
        self.all_sealed().await
    }
}

fn broken_off() -> Halt {
    Halt::from(crate::model::Error::internal("a download has broken off"))
}

struct Queue {
    /// The next one last.
    waiting: Vec<FileRow>,
    last: u32,
}

impl Queue {
    fn next(&mut self, ledger: &Ledger) -> Result<Option<FileRow>, Halt> {
        // A page that is fetched may add the one that follows it.
        if self.waiting.is_empty() {
            self.waiting = ledger.wanted(self.last, AHEAD)?;
            self.waiting.reverse();
        }
        let next = self.waiting.pop();
        if let Some(file) = &next {
            self.last = file.id;
        }
        Ok(next)
    }
}

async fn work(transfer: Arc<Transfer>, queue: Arc<Mutex<Queue>>) -> Result<(), Halt> {
    let mut connections = Connections::new(&transfer)?;
    loop {
        let next = queue.lock().await.next(&transfer.ledger)?;
        let Some(mut file) = next else { return Ok(()) };
        let known = *transfer.renewed.lock().await;
        let mut end = match transfer.is_crawl {
            true => crawl::fetch(&transfer, &mut connections, &file).await?,
            false => download::fetch(&transfer, &mut connections, &file).await?,
        };
        if matches!(end, End::LinkEnded { .. }) && links::renew(&transfer, known).await? {
            file = transfer.ledger.file(file.id)?;
            end = download::fetch(&transfer, &mut connections, &file).await?;
        }
        let (code, message) = match end {
            End::Done => continue,
            End::LinkEnded { code, message } => (code, message),
            End::GivenUp { code, message, may_come_back } => {
                if may_come_back {
                    transfer.ledger.note(&[("may_come_back", true.into())])?;
                }
                (code, message)
            }
        };
        transfer.ledger.given_up(file.id, code.as_str(), &message)?;
        transfer.tell(&Event::FileGivenUp { file: file.id, url: file.url, code, message });
    }
}

/// A number that no attempt of this export has had: runs are counted in the ledger.
///
/// # Errors
/// When the ledger cannot be written.
pub fn first_attempt(ledger: &Ledger) -> crate::model::Result<AtomicU64> {
    let run: u64 = ledger.fact("runs")?.unwrap_or(0) + 1;
    ledger.note(&[("runs", run.into())])?;
    Ok(AtomicU64::new(run << 32))
}

/// Bytes that this user may still write below a folder; `None` where nobody says.
#[must_use]
pub fn free_space(folder: &std::path::Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(folder).ok()?;
    let (blocks, size) = (stat.blocks_available(), stat.fragment_size());
    Some(blocks.saturating_mul(size))
}
