//! One export, from where it is to its end.
//!
//! Each phase reads in the ledger whether it was done: a run that was interrupted anywhere goes on
//! with the same call.

mod conclude;
mod ending;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::crawl;
use super::halt::Halt;
use super::ids::IdFile;
use super::job::{self, Began, Cancelled, Look, Watch};
use super::join;
use super::ledger::Ledger;
use super::links::{Pages, Reading};
use super::objects::{Address, Bucket, Uploads};
use super::request::ExportRequest;
use super::seal::{self, Sealer};
use super::store::{Compression, Split};
use super::transfer::{Event, Sealing, Teller, Transfer, first_attempt, free_space};
use super::wait::Pace;
use crate::auth::Surroundings;
use crate::auth::caller::Caller;
use crate::model::server::Server;
use crate::model::text::span;
use crate::model::{Error, ErrorKind, Result};

pub use ending::{Conclusion, Status, Stopped};
use report::report;
pub use report::{Report, TypeTotal};

/// Less than this is too little to begin with, in bytes.
const LEAST_FREE: u64 = 16 * 1024 * 1024;
/// How often a busy server is asked to begin within one run.
const KICK_OFFS: u32 = 50;

/// How an export is run; nothing here changes what it is.
#[derive(Clone)]
pub struct Settings {
    pub pace: Pace,
    /// The least time between two looks at a server that names none.
    pub quiet_pace: Option<Duration>,
    pub max_wait: Duration,
    pub parallel: usize,
    pub max_line: usize,
    pub keep_remote: bool,
    pub teller: Teller,
}

/// What an export is: from its ledger, and never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    pub id: String,
    pub server: String,
    pub url: String,
    /// Absolute. Where its files are written: what was asked for, or where they wait for their
    /// object store.
    pub folder: PathBuf,
    /// The object store that it goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    pub request: ExportRequest,
    pub mode: Mode,
    pub compression: Compression,
    #[serde(default)]
    pub split: Split,
    pub created_at: Timestamp,
}

impl Identity {
    /// Where the export goes, as it is shown.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.address {
            Some(address) => address.to_string(),
            None => self.folder.display().to_string(),
        }
    }

    /// A file of the export where it goes, as it is shown.
    #[must_use]
    pub fn place_of(&self, name: &str) -> String {
        match &self.address {
            Some(address) => address.object(name),
            None => self.folder.join(name).display().to_string(),
        }
    }
}

/// How the data are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By `$export`.
    Bulk,
    /// By searches, page by page.
    Crawl,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Job {
    status_url: Url,
    separate_status: bool,
    kicked_off_at: Timestamp,
    kick_off_url: String,
    oddities: Vec<String>,
}

/// Runs an export to its end.
///
/// # Errors
/// Why it stopped before; the same call goes on from there where that can help.
pub async fn run(
    ledger: Arc<Ledger>,
    server: &Server,
    surroundings: &Surroundings,
    settings: &Settings,
) -> Result<Report, Halt> {
    let identity: Identity = ledger
        .fact("export")?
        .ok_or_else(|| Error::new(ErrorKind::Data, "the ledger does not say what it is of"))?;
    if let Some(conclusion) = ledger.fact::<Conclusion>("conclusion")?
        && conclusion.status != Status::Incomplete
    {
        seal::recover(&identity.folder, &ledger)?;
        if let Some(uploads) = uploads(&ledger, &identity, surroundings)? {
            uploads.deliver(&conclusion.sha256).await?;
        }
        return report(&ledger, identity, conclusion, true, None);
    }
    let uploads = uploads(&ledger, &identity, surroundings)?;
    ledger.unnote(&["stopped"])?;
    let begun = Instant::now();
    let notes = Arc::clone(&ledger);
    let export = Export { ledger, server, surroundings, settings, identity, uploads, begun };
    let result = export.run().await;
    if let Err(halt) = &result {
        // For who asks later why nothing came; the stop itself is what counts now.
        let at = surroundings.clock.now();
        let (code, message) = (halt.code.to_string(), halt.message.clone());
        let stopped = Stopped { code, message, at, exit_code: Some(halt.kind.exit().0) };
        let _ = notes.note(&[("stopped", json!(stopped))]);
    }
    result
}

/// The way to the object store of an export that goes to one.
fn uploads(
    ledger: &Arc<Ledger>,
    identity: &Identity,
    surroundings: &Surroundings,
) -> Result<Option<Arc<Uploads>>, Halt> {
    let Some(address) = &identity.address else { return Ok(None) };
    let bucket = Bucket::open(address, surroundings)?;
    let uploads = Uploads::new(bucket, ledger, &identity.folder, surroundings);
    Ok(Some(Arc::new(uploads)))
}

/// Tells a thread that nobody waits for it any more.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Export<'a> {
    ledger: Arc<Ledger>,
    server: &'a Server,
    surroundings: &'a Surroundings,
    settings: &'a Settings,
    identity: Identity,
    uploads: Option<Arc<Uploads>>,
    begun: Instant,
}

impl Export<'_> {
    async fn run(self) -> Result<Report, Halt> {
        let folder = &self.identity.folder;
        let parts = (self.identity.split == Split::Type).then_some(join::FOLDER);
        for below in ["", "error", "deleted"].into_iter().chain(parts) {
            super::disk::private_folder(&folder.join(below))?;
        }
        if let Some(free) = free_space(folder)
            && free < LEAST_FREE
        {
            return Err(Halt::later(
                "bulk.no_space",
                format!("{} MiB are free below {}", free >> 20, folder.display()),
            )
            .hint("make room and run the same command again"));
        }
        seal::recover(folder, &self.ledger)?;
        if let Some(uploads) = &self.uploads {
            uploads.catch_up(self.settings.parallel).await?;
        }
        let caller = Caller::new(self.server, self.surroundings)
            .await
            .map_err(|failure| Halt::of(failure, false))?;
        let caller = Arc::new(caller);
        if self.identity.mode == Mode::Crawl {
            return self.crawl(&caller).await;
        }
        let job = match self.ledger.fact::<Job>("job")? {
            Some(job) => job,
            None => self.kick_off(&caller).await?,
        };
        let transfer = |pages: &Pages| self.transfer(&caller, &job, pages);
        let pages = match self.ledger.fact::<Pages>("manifest")? {
            Some(pages) if pages.missing.is_none() => pages,
            _ => self.wait(&caller, &job, &transfer).await?,
        };
        // What another run has given up may be there now.
        self.ledger.want_again()?;
        self.ledger.note(&[("may_come_back", false.into())])?;
        let transfer = transfer(&pages)?;
        transfer.fetch_all().await?;
        let ids = transfer.ids.clone();
        drop(transfer);
        self.join().await?;
        let conclusion = self.conclude(&job, &pages, &ids)?;
        self.finish(&conclusion).await?;
        let remote = self.tidy_up(&caller, &job, &conclusion).await;
        report(&self.ledger, self.identity, conclusion, false, remote)
    }

    /// The export by searches. What it is of is as it was when the first search began.
    async fn crawl(self, caller: &Arc<Caller>) -> Result<Report, Halt> {
        let job = match self.ledger.fact::<Job>("job")? {
            Some(job) => job,
            None => {
                let job = Job {
                    status_url: self.server.url.url().clone(),
                    separate_status: false,
                    kicked_off_at: self.now(),
                    kick_off_url: self.server.url.as_str().to_owned(),
                    oddities: Vec::new(),
                };
                self.ledger.note(&[("job", json!(job))])?;
                job
            }
        };
        let pages = match self.ledger.fact::<Pages>("manifest")? {
            Some(pages) => pages,
            None => {
                let client = caller.client().map_err(|failure| Halt::of(failure, false))?;
                crawl::plan(caller, &client, &self.ledger, &self.identity.request).await?;
                let mut pages = Pages::default();
                pages.head.transaction_time = Some(job.kicked_off_at.to_string());
                self.ledger.note(&[("manifest", json!(pages))])?;
                pages
            }
        };
        self.ledger.want_again()?;
        self.ledger.note(&[("may_come_back", false.into())])?;
        let transfer = self.transfer(caller, &job, &pages)?;
        // Workers end when nothing waits; a page that came meanwhile may have added one.
        while !self.ledger.wanted(0, 1)?.is_empty() {
            transfer.fetch_all().await?;
        }
        let ids = transfer.ids.clone();
        drop(transfer);
        self.join().await?;
        let conclusion = self.conclude(&job, &pages, &ids)?;
        self.finish(&conclusion).await?;
        report(&self.ledger, self.identity, conclusion, false, None)
    }

    /// Joins the files of each type, where one a type is wanted.
    async fn join(&self) -> Result<(), Halt> {
        if self.identity.split == Split::File {
            return Ok(());
        }
        let stop = Stop(Arc::new(AtomicBool::new(false)));
        let (folder, ledger) = (self.identity.folder.clone(), Arc::clone(&self.ledger));
        let (compression, teller) = (self.identity.compression, Arc::clone(&self.settings.teller));
        let told = Arc::clone(&stop.0);
        let joining = tokio::task::spawn_blocking(move || {
            join::join(&folder, &ledger, compression, &teller, &told)
        });
        joining.await.map_err(|_| Error::internal("the thread that joins files has ended"))??;
        match &self.uploads {
            Some(uploads) => uploads.catch_up(self.settings.parallel).await,
            None => Ok(()),
        }
    }

    /// The last words: into the log, then log and receipt to their object store.
    async fn finish(&self, conclusion: &Conclusion) -> Result<(), Halt> {
        self.tell(&Event::Finished {
            files: self.ledger.totals()?.files_done,
            resources: self.ledger.totals()?.resources,
            bytes: self.ledger.totals()?.bytes,
            duration_ms: conclusion.duration_ms,
        });
        match &self.uploads {
            Some(uploads) => uploads.deliver(&conclusion.sha256).await,
            None => Ok(()),
        }
    }

    fn tell(&self, event: &Event) {
        (self.settings.teller)(event);
    }

    fn now(&self) -> Timestamp {
        self.surroundings.clock.now()
    }

    async fn kick_off(&self, caller: &Caller) -> Result<Job, Halt> {
        let client = caller.client().map_err(|failure| Halt::of(failure, false))?;
        let kick_off = self.identity.request.kick_off(&self.server.url)?;
        // Noted before it is sent: after a crash in between it is known that a job may be running.
        self.ledger.note(&[("kick_off_sent_at", json!(self.now()))])?;
        self.tell(&Event::KickOff { url: kick_off.url.to_string() });
        let started = Instant::now();
        let mut asked = 0;
        loop {
            match job::begin(caller, &client, &kick_off).await? {
                Began::Started(started) => {
                    let job = Job {
                        status_url: started.status_url,
                        separate_status: started.separate_status,
                        kicked_off_at: self.now(),
                        kick_off_url: kick_off.url.to_string(),
                        oddities: started.oddities,
                    };
                    self.ledger.note(&[("job", json!(job))])?;
                    self.tell(&Event::Started {
                        status_url: job.status_url.to_string(),
                        oddities: job.oddities.clone(),
                    });
                    return Ok(job);
                }
                Began::Busy { wait, halt } => {
                    asked += 1;
                    let wait = self.pause(wait, asked);
                    let left = self.settings.max_wait.saturating_sub(started.elapsed());
                    if asked >= KICK_OFFS || wait >= left {
                        return Err(Halt { kind: ErrorKind::Resumable, ..halt }.hint(
                            "another export may be running; run the same command again later",
                        ));
                    }
                    self.tell(&Event::Waiting {
                        progress: None,
                        trouble: Some(halt.message),
                        wait,
                    });
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// What the server asks for; without that what the vendor does.
    fn pause(&self, asked_for: Option<Duration>, waited: u32) -> Duration {
        self.settings.pace.wait(asked_for.or(self.settings.quiet_pace), waited)
    }

    /// Waits for the manifest; what a partial one names is fetched meanwhile.
    async fn wait(
        &self,
        caller: &Arc<Caller>,
        job: &Job,
        transfer: &dyn Fn(&Pages) -> Result<Arc<Transfer>, Halt>,
    ) -> Result<Pages, Halt> {
        let client = caller.client().map_err(|failure| Halt::of(failure, true))?;
        let mut watch = Watch::new(caller, job.status_url.clone(), job.separate_status);
        let reading =
            Reading { caller, client: &client, ledger: &self.ledger, pace: self.settings.pace };
        let started = Instant::now();
        let mut waited = 0;
        loop {
            let (wait, progress, trouble) = match watch.look(&client).await? {
                Look::Done(answer) => {
                    let pages = reading.take(answer).await?;
                    self.ledger.note(&[("manifest", json!(pages))])?;
                    self.tell(&self.manifest_event(&pages)?);
                    return Ok(pages);
                }
                Look::Running { wait, progress, partial } => {
                    if let Some(answer) = partial
                        && self.identity.request.allow_partial_manifests
                    {
                        let pages = reading.take(answer).await?;
                        transfer(&pages)?.fetch_all().await?;
                    }
                    (wait, progress, None)
                }
                Look::Unclear { wait, halt } => (wait, None, Some(halt.message)),
            };
            waited += 1;
            let left = self.settings.max_wait.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(Halt::later(
                    "bulk.max_wait",
                    format!("the job is not done after {}", span(self.settings.max_wait)),
                )
                .hint(
                    "it goes on; run the same command again, or fhirctl bulk-export cancel DIR",
                ));
            }
            // One last look when the time is over.
            let wait = self.pause(wait, waited).min(left);
            self.tell(&Event::Waiting { progress, trouble, wait });
            tokio::time::sleep(wait).await;
        }
    }

    fn manifest_event(&self, pages: &Pages) -> Result<Event, Halt> {
        let mut counts = [0_u64; 3];
        self.ledger.each_file(&mut |file| {
            counts[file.kind as usize] += 1;
            Ok(())
        })?;
        Ok(Event::Manifest {
            transaction_time: pages.head.transaction_time.clone(),
            output: counts[0],
            error: counts[1],
            deleted: counts[2],
        })
    }

    fn transfer(
        &self,
        caller: &Arc<Caller>,
        job: &Job,
        pages: &Pages,
    ) -> Result<Arc<Transfer>, Halt> {
        let ids = IdFile::open(self.ledger.folder())?;
        Ok(Arc::new(Transfer {
            caller: Arc::clone(caller),
            ledger: Arc::clone(&self.ledger),
            sealer: Sealer::start(&self.identity.folder, &self.ledger, &ids),
            ids,
            uploads: self.uploads.clone(),
            folder: self.identity.folder.clone(),
            compression: self.identity.compression,
            split: self.identity.split,
            max_line: self.settings.max_line,
            parallel: self.settings.parallel,
            pace: self.settings.pace,
            // Where nothing is said it is as for the job itself; no token leaves the origin anyway.
            requires_token: pages.head.requires_access_token.unwrap_or(true),
            is_crawl: self.identity.mode == Mode::Crawl,
            is_organized: pages.head.organized_by.is_some()
                || self.identity.request.organize_by.is_some(),
            links_from: job.status_url.clone(),
            status_url: job.status_url.clone(),
            attempt: first_attempt(&self.ledger)?,
            teller: Arc::clone(&self.settings.teller),
            renewed: tokio::sync::Mutex::new(0),
            sealing: Sealing::new(self.uploads.as_ref().map(|_| self.settings.parallel)),
        }))
    }

    /// Lets the server purge the job, once everything is there and judged.
    async fn tidy_up(
        &self,
        caller: &Caller,
        job: &Job,
        conclusion: &Conclusion,
    ) -> Option<&'static str> {
        // What is not as it should be may have to be looked at there.
        if self.settings.keep_remote || conclusion.status != Status::Complete {
            return Some("kept");
        }
        let client = caller.client().ok()?;
        let told = match job::delete(caller, &client, &job.status_url).await {
            Ok(Cancelled::Done) => "deleted",
            Ok(Cancelled::Oddly(_)) => "deleted_oddly",
            Ok(Cancelled::Gone) => "gone",
            // The data are here and judged: that the server keeps its copy changes nothing of it.
            Err(_) => "not_deleted",
        };
        Some(told)
    }
}

/// As of when the data of an export are, once the server has said it.
///
/// # Errors
/// When the ledger cannot be read.
pub fn transaction_time(ledger: &Ledger) -> Result<Option<String>> {
    Ok(ledger.fact::<Pages>("manifest")?.and_then(|pages| pages.head.transaction_time))
}

/// Cancels an export that is under way on the server.
///
/// # Errors
/// When there is no job, or the server does not do it.
pub async fn cancel(
    ledger: &Ledger,
    server: &Server,
    surroundings: &Surroundings,
) -> Result<Cancelled, Halt> {
    let Some(job) = ledger.fact::<Job>("job")? else {
        return Err(Error::not_found("this export has no job on the server").into());
    };
    let caller =
        Caller::new(server, surroundings).await.map_err(|failure| Halt::of(failure, true))?;
    let client = caller.client().map_err(|failure| Halt::of(failure, true))?;
    let cancelled = job::delete(&caller, &client, &job.status_url).await?;
    ledger.note(&[("cancelled_at", json!(surroundings.clock.now()))])?;
    Ok(cancelled)
}
