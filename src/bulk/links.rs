//! From the server's manifest to the ledger: saved as it came, read as a stream, read anew when
//! its links have ended.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::disk::cannot_write;
use super::halt::Halt;
use super::job::{Look, Watch, follow};
use super::ledger::Ledger;
use super::manifest::{self, Head};
use super::store::Coding;
use super::transfer::Transfer;
use super::wait::Pace;
use crate::auth::caller::Caller;
use crate::http::{Answer, Client};
use crate::model::{Error, ErrorKind};

/// Most bytes of one page, on the wire and unpacked.
const PAGE_BYTES: u64 = 1024 * 1024 * 1024;
/// Most pages.
const PAGES: u32 = 100_000;
/// How often a page that follows is asked for.
const TRIES: u32 = 5;

/// What the pages together say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    pub head: Head,
    pub pages: u32,
    /// `Expires` of the first page, verbatim.
    pub expires: Option<String>,
    pub oddities: Vec<String>,
    /// Why pages are missing: a reason code, our words, whether another run may get them.
    pub missing: Option<(String, String, bool)>,
}

/// Who reads pages into which ledger.
pub struct Reading<'a> {
    pub caller: &'a Caller,
    pub client: &'a Arc<Client>,
    pub ledger: &'a Arc<Ledger>,
    pub pace: Pace,
}

impl Reading<'_> {
    /// Takes the first page and all that follow it. What was taken of a page before keeps its place.
    ///
    /// # Errors
    /// Exit 65 when it is no manifest, 75 when the disk is full.
    pub async fn take(&self, first: Answer) -> Result<Pages, Halt> {
        let mut pages = Pages { expires: first.header("expires"), ..Pages::default() };
        let mut seen = HashSet::from([first.url().clone()]);
        let mut answer = first;
        loop {
            let number = pages.pages;
            let from = answer.url().clone();
            let head = self.take_page(answer, number).await?;
            pages.pages += 1;
            let next = head.next.clone();
            note(&mut pages, head);
            let Some(next) = next else { return Ok(pages) };
            let missing = |code: &str, message: &str, later| {
                Some((code.to_owned(), message.to_owned(), later))
            };
            let next = match follow(&from, &next) {
                Ok(next) => next,
                Err(failure) => {
                    pages.missing = missing(failure.code.as_str(), &failure.message, false);
                    return Ok(pages);
                }
            };
            if !seen.insert(next.clone()) || pages.pages >= PAGES {
                let message = "the manifest's pages lead in a circle";
                pages.missing = missing("bulk.manifest_invalid", message, false);
                return Ok(pages);
            }
            answer = match self.next_page(&next).await {
                Ok(answer) => answer,
                Err(halt) if halt.kind == ErrorKind::Credential => return Err(halt),
                Err(halt) => {
                    let later = halt.kind == ErrorKind::Resumable;
                    pages.missing = missing(halt.code.as_str(), &halt.message, later);
                    return Ok(pages);
                }
            };
        }
    }

    async fn next_page(&self, url: &Url) -> Result<Answer, Halt> {
        let client = self.caller.client_for(url).map_err(|failure| Halt::of(failure, true))?;
        let client = if self.caller.is_own(url) { self.client } else { &client };
        let mut watch = Watch::new(self.caller, url.clone(), false);
        let mut tries = 0;
        loop {
            tries += 1;
            let (wait, halt) = match watch.look(client).await? {
                Look::Done(answer) => return Ok(answer),
                Look::Running { wait, .. } => (
                    wait,
                    Halt::later("bulk.status_failed", "a page of the manifest is not there yet"),
                ),
                Look::Unclear { wait, halt } => (wait, halt),
            };
            if tries >= TRIES {
                return Err(halt);
            }
            let wait = self.pace.wait(wait, tries).min(Duration::from_secs(60));
            tokio::time::sleep(wait).await;
        }
    }

    /// Saves a page, then reads it into the ledger.
    async fn take_page(&self, mut answer: Answer, number: u32) -> Result<Head, Halt> {
        let encoding = answer.header("content-encoding");
        let Some(coding) = Coding::parse(encoding.as_deref()) else {
            return Err(Halt::failed(
                "http.bad_encoding",
                "the manifest comes in an encoding that was not asked for",
            ));
        };
        let path = self.ledger.folder().join(format!("manifest-{number:05}.json"));
        let part = path.with_extension("part");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)
            .map_err(|error| cannot_write(&part, &error))?;
        let mut length = 0;
        while let Some(bytes) = answer.chunk().await.map_err(|failure| Halt::of(failure, true))? {
            length += bytes.len() as u64;
            if length > PAGE_BYTES {
                return Err(Halt::failed("http.too_large", "the manifest is longer than 1 GiB"));
            }
            file.write_all(&bytes).map_err(|error| cannot_write(&part, &error))?;
        }
        let ledger = Arc::clone(self.ledger);
        let read = tokio::task::spawn_blocking(move || -> Result<Head, Error> {
            file.sync_all()
                .and_then(|()| std::fs::rename(&part, &path))
                .map_err(|error| cannot_write(&path, &error))?;
            read_into(&ledger, &path, coding, number)
        });
        let read =
            read.await.map_err(|_| Error::internal("reading the manifest has broken off"))?;
        Ok(read?)
    }
}

fn read_into(ledger: &Ledger, path: &Path, coding: Coding, number: u32) -> Result<Head, Error> {
    let broken = |error: std::io::Error| Error::io("read", path, &error);
    let file = File::open(path).map_err(broken)?;
    let plain: Box<dyn Read> = match coding {
        Coding::Identity => Box::new(file),
        Coding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(file).map_err(broken)?),
    };
    let mut head = Head::default();
    ledger.take_page(
        number,
        |take| {
            head = manifest::read(plain.take(PAGE_BYTES), take)?;
            Ok(())
        },
        &mut Vec::new,
    )?;
    Ok(head)
}

/// Puts a page's head beside the others (Bulk Data Access STU3: all pages say the same).
fn note(pages: &mut Pages, head: Head) {
    for oddity in &head.oddities {
        if !pages.oddities.contains(oddity) && pages.oddities.len() < 50 {
            pages.oddities.push(oddity.clone());
        }
    }
    if pages.pages == 1 {
        pages.head = head;
        return;
    }
    for (what, same) in [
        ("transactionTime", head.transaction_time == pages.head.transaction_time),
        ("request", head.request == pages.head.request),
        ("requiresAccessToken", head.requires_access_token == pages.head.requires_access_token),
    ] {
        let oddity = format!("the manifest's pages differ in {what}");
        if !same && !pages.oddities.contains(&oddity) {
            pages.oddities.push(oddity);
        }
    }
    pages.head.files += head.files;
}

/// Reads the manifest anew, unless somebody did since a link was looked up; `false` when there is
/// no newer one to be had.
///
/// # Errors
/// When the ledger cannot be written, or the credential is refused.
pub async fn renew(transfer: &Transfer, known: u32) -> Result<bool, Halt> {
    let mut renewed = transfer.renewed.lock().await;
    if *renewed > known {
        return Ok(true);
    }
    let caller = &transfer.caller;
    let client = caller.client().map_err(|failure| Halt::of(failure, true))?;
    let mut watch = Watch::new(caller, transfer.status_url.clone(), false);
    let answer = match watch.look(&client).await {
        Ok(Look::Done(answer)) => answer,
        Ok(_) => return Ok(false),
        Err(halt) if halt.kind == ErrorKind::Credential => return Err(halt),
        Err(_) => return Ok(false),
    };
    let reading =
        Reading { caller, client: &client, ledger: &transfer.ledger, pace: transfer.pace };
    match reading.take(answer).await {
        Ok(pages) => {
            transfer.ledger.note(&[("links_renewed", json!(pages.pages))])?;
            *renewed += 1;
            Ok(true)
        }
        Err(halt) if matches!(halt.kind, ErrorKind::Resumable | ErrorKind::Credential) => Err(halt),
        Err(_) => Ok(false),
    }
}
