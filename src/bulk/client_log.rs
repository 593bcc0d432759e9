//! `log.ndjson` beside the data: what happened, in the layout of the Bulk Data client log.
//!
//! One line an event: `exportId`, `timestamp`, `eventId`, `eventDetail`, as the reference client of
//! SMART writes it and others read it. Addresses are written without their queries, which may be
//! secrets.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::disk::cannot_write;
use super::transfer::Event;
use crate::model::Result;

pub const NAME: &str = "log.ndjson";

/// The log of one export.
pub struct ClientLog {
    export_id: String,
    file: Mutex<File>,
}

impl ClientLog {
    /// Goes on with the log of a folder, or begins one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(folder: &Path, export_id: &str) -> Result<ClientLog> {
        let path = folder.join(NAME);
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| cannot_write(&path, &error))?;
        Ok(ClientLog { export_id: export_id.to_owned(), file: Mutex::new(file) })
    }

    /// Writes an event down; a disk that is full says so elsewhere.
    pub fn tell(&self, event: &Event, now: Timestamp) {
        let Some((id, detail)) = worded(event) else { return };
        let line = json!({
            "exportId": self.export_id,
            "timestamp": now,
            "eventId": id,
            "eventDetail": detail,
        });
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

fn worded(event: &Event) -> Option<(&'static str, Value)> {
    let plain = |url: &str| url.split('?').next().unwrap_or_default().to_owned();
    Some(match event {
        Event::KickOff { url } => (
            "kickoff",
            json!({
                "exportUrl": plain(url),
                "softwareName": "fhirctl",
                "softwareVersion": env!("CARGO_PKG_VERSION"),
                "requestParameters": names_of(url),
            }),
        ),
        Event::Waiting { progress, trouble: None, wait } => (
            "status_progress",
            json!({
                "xProgress": progress,
                "retryAfter": wait.as_secs(),
            }),
        ),
        Event::Waiting { trouble: Some(message), .. } => {
            ("status_error", json!({ "code": null, "message": message }))
        }
        Event::Manifest { transaction_time, output, error, deleted } => (
            "status_complete",
            json!({
                "transactionTime": transaction_time,
                "outputFileCount": output,
                "deletedFileCount": deleted,
                "errorFileCount": error,
            }),
        ),
        Event::FileStarted { name, item, resource_type, url, .. } => (
            "download_request",
            json!({
                "fileUrl": plain(url),
                "itemType": item,
                "resourceType": resource_type,
                "fileName": name,
            }),
        ),
        Event::FileDone { url, lines, content_bytes, .. } => (
            "download_complete",
            json!({
                "fileUrl": plain(url),
                "resourceCount": lines,
                "fileSize": content_bytes,
            }),
        ),
        Event::FileAgain { url, code, message, .. }
        | Event::FileGivenUp { url, code, message, .. } => (
            "download_error",
            json!({ "fileUrl": plain(url), "code": code.as_str(), "message": message }),
        ),
        Event::Finished { files, resources, bytes, duration_ms } => (
            "export_complete",
            json!({
                "files": files,
                "resources": resources,
                "bytes": bytes,
                "attachments": 0,
                "duration": duration_ms,
            }),
        ),
        Event::Started { .. }
        | Event::FilesBegin { .. }
        | Event::Joining { .. }
        | Event::Bytes { .. }
        | Event::FileResumed { .. }
        | Event::FileUploads { .. } => return None,
    })
}

/// The parameters of a kick-off by name; a value may name a person.
fn names_of(url: &str) -> Vec<String> {
    match url::Url::parse(url) {
        Ok(url) => url.query_pairs().map(|(name, _)| name.into_owned()).collect(),
        Err(_) => Vec::new(),
    }
}
