//! What is known of a migration: between whom, and which steps are done.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::bulk::disk::{cannot_write, private_folder, sync_folder};
use crate::bulk::import::report::{Counts, Summary};
use crate::bulk::request::ExportRequest;
use crate::model::server::Server;
use crate::model::{Error, ErrorKind, Result};

const NAME: &str = "migrate.json";
/// How many proofs stand in it.
const PROOFS: usize = 100;

/// The book of a folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Book {
    schema: String,
    pub source: String,
    pub source_url: String,
    pub target: String,
    pub target_url: String,
    pub scope: ExportRequest,
    pub begun_at: Timestamp,
    /// Chooses the sample unless another is said: a proof that is repeated looks at the same.
    pub seed: u64,
    /// What the target had before anything was written; `None`: nothing was.
    pub before: Option<Counts>,
    /// What came of the import, once it is over.
    pub imported: Option<Imported>,
    /// The last one last.
    pub proofs: Vec<Proved>,
}

/// An import that is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Imported {
    pub id: String,
    pub ledger: PathBuf,
    pub family: String,
    pub reason: String,
    pub finished_at: Timestamp,
    pub summary: Summary,
    /// Where what was refused lies.
    pub rejects: Option<PathBuf>,
}

/// A proof that was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Proved {
    pub at: Timestamp,
    pub status: String,
    pub seed: u64,
    pub compared: u64,
}

impl Book {
    /// The book of a folder, or a new one.
    ///
    /// # Errors
    /// Exit 73 when the folder is of another migration or holds something else, 65 when its book
    /// cannot be read.
    pub fn open(
        folder: &Path,
        source: &Server,
        target: &Server,
        scope: &ExportRequest,
        now: Timestamp,
    ) -> Result<Book> {
        let path = folder.join(NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                private_folder(folder)?;
                refuse_others(folder)?;
                return Ok(Book {
                    schema: "fhirctl/migrate-book/v1".to_owned(),
                    source: source.name.clone(),
                    source_url: source.url.as_str().to_owned(),
                    target: target.name.clone(),
                    target_url: target.url.as_str().to_owned(),
                    scope: scope.clone(),
                    begun_at: now,
                    seed: u64::from(fastrand::u32(..)),
                    before: None,
                    imported: None,
                    proofs: Vec::new(),
                });
            }
            Err(error) => return Err(Error::io("read", &path, &error)),
        };
        let book: Book = serde_json::from_str(&text).map_err(|error| {
            Error::new(ErrorKind::Data, format!("{} cannot be read: {error}", path.display()))
                .hint("begin anew in another folder")
        })?;
        let other = if book.source != source.name {
            Some(format!("it is from {}", book.source))
        } else if book.target != target.name {
            Some(format!("it goes to {}", book.target))
        } else if book.source_url != source.url.as_str() {
            Some(format!("{} had another URL", book.source))
        } else if book.target_url != target.url.as_str() {
            Some(format!("{} had another URL", book.target))
        } else if book.scope != *scope {
            Some("what it moves is another".to_owned())
        } else {
            None
        };
        match other {
            Some(what) => Err(Error::new(
                ErrorKind::CannotCreate,
                format!("{} belongs to another migration: {what}", folder.display()),
            )
            .hint("choose another --output-dir; one migration has one folder")),
            None => Ok(book),
        }
    }

    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        put(folder, NAME, &format!("{:#}\n", json!(self)))
    }

    /// Notes that a proof was made.
    pub fn proved(&mut self, proof: Proved) {
        self.proofs.push(proof);
        let more = self.proofs.len().saturating_sub(PROOFS);
        self.proofs.drain(..more);
    }
}

/// Writes a file of the folder for its owner alone; it has its name when it is whole and on the disk.
///
/// # Errors
/// When it cannot be written.
pub fn put(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    let part = folder.join(format!(".{name}.part"));
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&part, &path)
    };
    write().map_err(|error| cannot_write(&path, &error))?;
    sync_folder(folder)
}

/// The resources of an export by type.
#[must_use]
pub fn exported(report: &crate::bulk::export::Report) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for total in report.by_type.iter().filter(|total| total.kind == "output" && total.count > 0) {
        *counts.entry(total.name.clone()).or_default() += total.count;
    }
    counts
}

/// A folder that holds something else is left alone.
fn refuse_others(folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::io("read", folder, &error))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // What a run leaves that was killed before its first word.
        if !matches!(name.as_str(), "lost+found" | "lock" | ".migrate.json.part") {
            return Err(Error::new(
                ErrorKind::CannotCreate,
                format!("{} holds something else already: {name}", folder.display()),
            )
            .hint("choose an empty folder, or one that is not there yet"));
        }
    }
    Ok(())
}
