//! An export by searches, page by page, from a server without `$export` or with groups too large
//! for it: the same ledger, the same receipt, and the server's rate limit.
//!
//! Each page is a file of its own. The page that follows is noted before this one is, so that a run
//! that was interrupted goes on where the chain was.

mod plan;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::disk::cannot_write;
use super::download::{Connections, End};
use super::halt::Halt;
use super::job::follow;
use super::ledger::{Done, Entry, FileRow, Finding, Kind, Severity};
use super::lines::Lines;
use super::seal::{Complete, temporary};
use super::store::{Coding, Intake, Refused};
use super::transfer::{Event, Transfer};
use crate::auth::caller::Ask;
use crate::fhir::body::BodyKind;
use crate::fhir::outcome::{IssueSeverity, OperationOutcome};
use crate::fhir::text::compact;
use crate::http::Client;
use crate::model::{Code, Error, ErrorKind};

pub use plan::{Declared, first_request, plan};

const FHIR_JSON: &str = "application/fhir+json";
/// Most bytes of a page.
const PAGE_BYTES: u64 = 64 * 1024 * 1024;
/// Attempts at a page.
const ATTEMPTS: u32 = 5;
/// Most pages of one search: what leads on for ever is cut off there.
const PAGES: u32 = 1_000_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(default)]
    resource_type: String,
    #[serde(default)]
    link: Vec<Link>,
    #[serde(borrow, default)]
    entry: Vec<Found<'a>>,
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    relation: String,
    #[serde(default)]
    url: String,
}

#[derive(Deserialize)]
struct Found<'a> {
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    search: Option<Mode>,
}

#[derive(Deserialize)]
struct Mode {
    #[serde(default)]
    mode: String,
}

/// Fetches a page, with as many attempts as it is worth.
///
/// # Errors
/// When nothing more can be fetched at all.
pub(super) async fn fetch(
    transfer: &Arc<Transfer>,
    connections: &mut Connections,
    file: &FileRow,
) -> Result<End, Halt> {
    let started = Instant::now();
    let base = transfer.caller.server.url.url();
    let given_up = |code: Code, message: String, may_come_back: bool| {
        Ok(End::GivenUp { code, message, may_come_back })
    };
    let url = match follow(base, &file.url) {
        Ok(url) => url,
        Err(failure) => return given_up(failure.code, failure.message, false),
    };
    let client = match connections.to(transfer, &url) {
        Ok(client) => client,
        Err(failure) => return given_up(failure.code, failure.message, false),
    };
    let mut tries = 0;
    let body = loop {
        tries += 1;
        let (code, message, wait) = match page(transfer, &client, &url).await? {
            Got::Body(body) => break body,
            Got::Refused(code, message) => return given_up(code, message, false),
            Got::Again(code, message, wait) => (code, message, wait),
        };
        if tries >= ATTEMPTS {
            return given_up(code, format!("{message}; {ATTEMPTS} attempts"), true);
        }
        let wait = wait.map_or_else(
            || transfer.backoff(tries),
            |asked| transfer.pace.wait(Some(asked), tries),
        );
        let url = file.url.clone();
        transfer.tell(&Event::FileAgain { file: file.id, url, code, message, wait });
        tokio::time::sleep(wait).await;
    };
    let page: Page<'_> = match serde_json::from_slice(&body) {
        Ok(page) => page,
        Err(_) => {
            return given_up(
                Code::new("fhir.malformed"),
                "a page of the search is no JSON".to_owned(),
                false,
            );
        }
    };
    if page.resource_type != "Bundle" {
        let message = "the search is answered with something else than a Bundle".to_owned();
        return given_up(Code::new("fhir.search_failed"), message, false);
    }
    store(transfer, file, &url, &page, started, tries - 1).await?;
    Ok(End::Done)
}

/// What a request for a page brought.
enum Got {
    Body(Vec<u8>),
    Again(Code, String, Option<Duration>),
    Refused(Code, String),
}

async fn page(transfer: &Transfer, client: &Arc<Client>, url: &Url) -> Result<Got, Halt> {
    client.admit(url).await;
    let answer = match transfer.caller.ask(client, &Ask::get(url, FHIR_JSON)).await {
        Ok(answer) => answer,
        Err(failure) => {
            let halt = Halt::of(failure, true);
            return match halt.kind {
                ErrorKind::Resumable => Ok(Got::Again(halt.code, halt.message, None)),
                ErrorKind::Unavailable => Ok(Got::Refused(halt.code, halt.message)),
                _ => Err(halt),
            };
        }
    };
    let status = answer.status().as_u16();
    let wait = answer.retry_after();
    let message = format!("the search is refused: HTTP {status}");
    match status {
        200 => {
            let deadline = Instant::now() + transfer.caller.server.timeouts.total;
            match answer.whole(PAGE_BYTES, deadline).await {
                Ok(body) => Ok(Got::Body(body)),
                Err(failure) => Ok(Got::Again(failure.code, failure.message, None)),
            }
        }
        401 => Err(Halt::new(
            ErrorKind::Credential,
            "auth.unauthorized",
            "the server refuses the credential at a search (HTTP 401)",
        )),
        403 => Ok(Got::Refused(Code::new("auth.forbidden"), message)),
        429 => Ok(Got::Again(Code::new("http.rate_limited"), message, wait)),
        408 | 425 | 500..=599 => Ok(Got::Again(Code::new("http.status"), message, wait)),
        _ => Ok(Got::Refused(Code::new("fhir.search_failed"), message)),
    }
}

/// Writes a page's resources, notes the page that follows, then this one.
async fn store(
    transfer: &Arc<Transfer>,
    file: &FileRow,
    url: &Url,
    page: &Page<'_>,
    started: Instant,
    retries: u32,
) -> Result<(), Halt> {
    let name = transfer.name_of(file);
    let path = temporary(&transfer.folder, &name);
    let number = transfer.attempt.fetch_add(1, Ordering::Relaxed);
    transfer.tell(&Event::FileStarted {
        file: file.id,
        name: name.clone(),
        item: file.kind.as_str(),
        resource_type: file.resource_type.clone(),
        url: file.url.clone(),
        length: None,
    });
    let mut findings = Vec::new();
    let mut lines = Vec::new();
    for found in &page.entry {
        let Some(resource) = found.resource else { continue };
        if found.search.as_ref().is_some_and(|search| search.mode == "outcome") {
            findings.extend(outcome(resource.get()));
        } else {
            compact(resource.get(), &mut lines);
            lines.push(b'\n');
        }
    }
    let judge = Lines::new(
        Kind::Output,
        &file.resource_type,
        false,
        transfer.max_line,
        transfer.ids.of(file.id, number),
    );
    let full = |error: std::io::Error| Halt::from(cannot_write(&path, &error));
    let compression = transfer.compression;
    let stored = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || {
            let mut intake = Intake::create(&path, Coding::Identity, compression, judge)?;
            intake.take(&lines)?;
            intake.finish(None)
        })
        .await
        .map_err(|_| Halt::from(Error::internal("writing a page has broken off")))?
    };
    let stored = stored.map_err(|refused| match refused {
        Refused::Local(error) => full(error),
        Refused::Broken(code, message) => Halt::failed(code, message),
    })?;
    findings.extend(stored.seen.findings);
    let next = page.link.iter().find(|link| link.relation == "next").map(|link| &link.url);
    let next = next.and_then(|next| follow(url, next).ok());
    let leads_back = next.as_ref().is_some_and(|next| next == url) || file.position >= PAGES;
    if leads_back {
        findings.push(Finding {
            file: None,
            line: None,
            code: "fhir.search_failed".to_owned(),
            severity: Severity::Error,
            message: "the search's pages lead in a circle".to_owned(),
        });
    }
    if let Some(next) = next.filter(|_| !leads_back) {
        let entry = Entry {
            kind: Kind::Output,
            position: file.position + 1,
            resource_type: file.resource_type.clone(),
            url: next.to_string(),
            expected: None,
        };
        if transfer.ledger.was_at(file.page, next.as_str(), file.position)? {
            findings.push(Finding {
                file: None,
                line: None,
                code: "fhir.search_failed".to_owned(),
                severity: Severity::Error,
                message: "the search's pages lead in a circle".to_owned(),
            });
        } else {
            transfer.ledger.take_page(file.page, |take| take(entry), &mut Vec::new)?;
        }
    }
    let done = Done {
        name: name.clone(),
        attempt: number,
        lines: stored.seen.lines,
        bytes: stored.bytes,
        content_bytes: stored.content_bytes,
        sha256: stored.sha256,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        retries,
    };
    let (lines, bytes, content_bytes) = (done.lines, done.bytes, done.content_bytes);
    let found = findings.len() as u64;
    transfer.keep(Complete { id: file.id, file: stored.file, done, findings }).await?;
    transfer.tell(&Event::Bytes { file: file.id, bytes });
    transfer.tell(&Event::FileDone {
        file: file.id,
        name,
        url: file.url.clone(),
        lines,
        bytes,
        content_bytes,
        found,
    });
    Ok(())
}

/// What a server says beside its matches.
fn outcome(text: &str) -> Option<Finding> {
    let outcome = OperationOutcome::parse(BodyKind::Json, text.as_bytes())?;
    let worst = outcome.worst()?;
    let severity = match worst {
        IssueSeverity::Error | IssueSeverity::Fatal => Severity::Error,
        IssueSeverity::Warning => Severity::Warning,
        _ => return None,
    };
    Some(Finding {
        file: None,
        line: None,
        code: "bulk.outcome".to_owned(),
        severity,
        message: format!("the server reports an issue of severity {}", worst.as_str()),
    })
}
