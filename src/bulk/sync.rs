//! A directory that is kept current: the last complete state of a server's data, and how it came.
//!
//! `current` is a link to one state, a folder with one file a type. A new state is built beside it
//! and the link is moved in one step, so that a reader sees one or the other and never a half.

pub mod stored;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::disk::{cannot_write, private_folder, sync_folder};
use super::lines::{is_id, is_type};
use super::request::ExportRequest;
use crate::model::{Error, ErrorKind, Result};

/// The history of a directory, and what is under way.
const BOOK: &str = "sync.json";
/// How many runs stand in the history.
const HISTORY: usize = 1000;

/// What is known of a directory that is kept current.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Book {
    schema: String,
    pub server: String,
    pub url: String,
    /// Without `since`, which each run has of its own.
    pub scope: ExportRequest,
    /// The next run asks for what changed after it.
    pub watermark: Option<String>,
    /// The number of the last run that was begun.
    pub begun: u64,
    /// The run that is under way.
    pub pending: Option<Pending>,
    /// The last one last.
    pub runs: Vec<Run>,
}

/// A run that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub number: u64,
    /// `None`: a full export.
    pub since: Option<String>,
}

/// A run that ended well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub number: u64,
    pub since: Option<String>,
    pub transaction_time: Option<String>,
    pub finished_at: Timestamp,
    /// Resources that came.
    pub received: u64,
    /// Resources that were taken out.
    pub deleted: u64,
    /// Resources of the state.
    pub resources: u64,
}

/// What a state holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub received: u64,
    pub deleted: u64,
    /// Resources by type.
    pub counts: BTreeMap<String, u64>,
}

impl Book {
    /// The book of a directory, or a new one.
    ///
    /// # Errors
    /// Exit 73 when the directory is of another server or scope, or holds something else; 65 when
    /// its book cannot be read.
    pub fn open(folder: &Path, server: &str, url: &str, scope: &ExportRequest) -> Result<Book> {
        let scope = ExportRequest { since: None, ..scope.clone() };
        let path = folder.join(BOOK);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                private_folder(folder)?;
                let is_empty = std::fs::read_dir(folder)
                    .map_err(|error| Error::io("read", folder, &error))?
                    .flatten()
                    .all(|entry| {
                        let name = entry.file_name();
                        // What a run leaves that was killed before its first word.
                        name == "lost+found" || name == "lock" || name == ".sync.json.part"
                    });
                if !is_empty {
                    return Err(Error::new(
                        ErrorKind::CannotCreate,
                        format!("{} holds something else already", folder.display()),
                    )
                    .hint("choose an empty folder, or one that is not there yet"));
                }
                return Ok(Book::fresh(server, url, scope));
            }
            Err(error) => return Err(Error::io("read", &path, &error)),
        };
        Book::parse(&text, &path.display().to_string(), server, url, &scope)
    }

    fn fresh(server: &str, url: &str, scope: ExportRequest) -> Book {
        Book {
            schema: "fhirctl/sync-book/v1".to_owned(),
            server: server.to_owned(),
            url: url.to_owned(),
            scope,
            watermark: None,
            begun: 0,
            pending: None,
            runs: Vec::new(),
        }
    }

    /// A book that was kept, which has to be of this server and scope.
    fn parse(
        text: &str,
        shown: &str,
        server: &str,
        url: &str,
        scope: &ExportRequest,
    ) -> Result<Book> {
        let book: Book = serde_json::from_str(text).map_err(|error| {
            Error::new(ErrorKind::Data, format!("{shown} cannot be read: {error}"))
                .hint("begin anew in another place")
        })?;
        let other = if book.server != server {
            Some(format!("it is of {}", book.server))
        } else if book.url != url {
            Some("the server had another URL".to_owned())
        } else if book.scope != *scope {
            Some("its scope is another".to_owned())
        } else {
            None
        };
        match other {
            Some(what) => Err(Error::new(
                ErrorKind::CannotCreate,
                format!("{shown} is kept current for something else: {what}"),
            )
            .hint("one directory has one server and one scope; choose another")),
            None => Ok(book),
        }
    }

    /// The run that is to be made: the one under way, or a new one.
    pub fn next(&mut self, full: bool) -> Pending {
        if let Some(pending) = &self.pending {
            return pending.clone();
        }
        self.begun += 1;
        let since = self.watermark.clone().filter(|_| !full);
        let next = Pending { number: self.begun, since };
        self.pending = Some(next.clone());
        next
    }

    /// How many runs in a row asked for changes only.
    #[must_use]
    pub fn since_full(&self) -> usize {
        self.runs.iter().rev().take_while(|run| run.since.is_some()).count()
    }

    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(BOOK);
        let part = folder.join(format!(".{BOOK}.part"));
        let write = || {
            let mut file = create(&part)?;
            writeln!(file, "{:#}", json!(self))?;
            file.sync_all()?;
            std::fs::rename(&part, &path)
        };
        write().map_err(|error| cannot_write(&path, &error))?;
        sync_folder(folder)
    }

    /// Notes that a run ended well; the watermark moves.
    pub fn close(&mut self, run: Run) {
        self.watermark.clone_from(&run.transaction_time);
        self.pending = None;
        self.runs.push(run);
        let more = self.runs.len().saturating_sub(HISTORY);
        self.runs.drain(..more);
    }
}

/// Where the export of a run lies.
#[must_use]
pub fn run_folder(folder: &Path, number: u64) -> PathBuf {
    folder.join("runs").join(format!("{number:06}"))
}

fn state_folder(folder: &Path, number: u64) -> PathBuf {
    folder.join("states").join(format!("{number:06}"))
}

/// Makes a run's export the current state: the whole of it, or the changes over the state before.
///
/// # Errors
/// When a file cannot be read or written; `current` is as it was then.
pub fn apply(folder: &Path, run: &Pending) -> Result<Applied> {
    let state = state_folder(folder, run.number);
    let part = folder.join("states").join(format!(".{:06}.part", run.number));
    private_folder(&folder.join("states"))?;
    let link = PathBuf::from(format!("states/{:06}", run.number));
    if std::fs::read_link(folder.join("current")).is_ok_and(|to| to == link) {
        // Only the book was not written any more.
        return counted(&state);
    }
    if part.exists() {
        std::fs::remove_dir_all(&part).map_err(|error| Error::io("remove", &part, &error))?;
    }
    private_folder(&part)?;
    let export = run_folder(folder, run.number);
    let before = run.since.as_ref().map(|_| folder.join("current"));
    let applied = merge(before.as_deref(), &export, &part)?;
    sync_folder(&part)?;
    if state.exists() {
        // Nobody has seen it: the link was not moved yet.
        std::fs::remove_dir_all(&state).map_err(|error| Error::io("remove", &state, &error))?;
    }
    std::fs::rename(&part, &state).map_err(|error| cannot_write(&state, &error))?;
    sync_folder(&folder.join("states"))?;
    let moving = folder.join(".current.part");
    let _ = std::fs::remove_file(&moving);
    let current = folder.join("current");
    std::os::unix::fs::symlink(&link, &moving)
        .and_then(|()| std::fs::rename(&moving, &current))
        .map_err(|error| cannot_write(&current, &error))?;
    sync_folder(folder)?;
    Ok(applied)
}

/// The folders of runs, or of states, that are older than the one before the last.
#[must_use]
pub fn old(folder: &Path, below: &str, last: u64) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder.join(below)) else { return Vec::new() };
    let mut old: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            let number = entry.file_name().to_string_lossy().parse::<u64>();
            number.is_ok_and(|number| number + 1 < last)
        })
        .map(|entry| entry.path())
        .collect();
    old.sort();
    old
}

/// A state that is there already.
fn counted(state: &Path) -> Result<Applied> {
    let mut applied = Applied::default();
    for (name, path) in files(state)? {
        let mut count = 0;
        each(&path, &mut |_, _| {
            count += 1;
            Ok(())
        })?;
        applied.counts.insert(name, count);
    }
    Ok(applied)
}

/// Writes the new state of each type.
fn merge(before: Option<&Path>, export: &Path, to: &Path) -> Result<Applied> {
    let mut applied = Applied::default();
    let mut changed = BTreeMap::<String, Vec<PathBuf>>::new();
    for (name, path) in files(export)? {
        changed.entry(name).or_default().push(path);
    }
    let deleted = deletions(&export.join("deleted"))?.resources;
    let mut types: BTreeSet<String> = changed.keys().cloned().collect();
    if let Some(before) = before {
        types.extend(files(before)?.into_iter().map(|(name, _)| name));
    }
    for name in types {
        let new = changed.get(&name).map(Vec::as_slice).unwrap_or_default();
        let path = to.join(format!("{name}.ndjson"));
        let old = before.map(|before| before.join(format!("{name}.ndjson")));
        let old = old.filter(|old| old.exists());
        let count = merge_type(&name, old.as_deref(), new, &deleted, &path, &mut applied)?;
        if count > 0 {
            applied.counts.insert(name, count);
        }
    }
    Ok(applied)
}

/// Writes the new state of one type, and gives how many resources it has; without any there is no
/// file.
fn merge_type(
    name: &str,
    old: Option<&Path>,
    new: &[PathBuf],
    deleted: &HashSet<[u8; 16]>,
    path: &Path,
    applied: &mut Applied,
) -> Result<u64> {
    let broken = |error: std::io::Error| cannot_write(path, &error);
    let mut out = BufWriter::with_capacity(256 * 1024, create(path).map_err(broken)?);
    let mut count = 0;
    if let Some(old) = old {
        let mut replaced = HashSet::new();
        for file in new {
            each(file, &mut |_, id| {
                replaced.insert(hash(name, id));
                Ok(())
            })?;
        }
        each(old, &mut |line, id| {
            let hash = hash(name, id);
            if deleted.contains(&hash) && !replaced.contains(&hash) {
                applied.deleted += 1;
            } else if !replaced.contains(&hash) {
                out.write_all(line).map_err(broken)?;
                count += 1;
            }
            Ok(())
        })?;
    }
    for file in new {
        each(file, &mut |line, _| {
            out.write_all(line).map_err(broken)?;
            count += 1;
            applied.received += 1;
            Ok(())
        })?;
    }
    let file = out.into_inner().map_err(|error| broken(error.into_error()))?;
    file.sync_all().map_err(broken)?;
    if count == 0 {
        std::fs::remove_file(path).map_err(|error| Error::io("remove", path, &error))?;
    }
    Ok(count)
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// The data files of a folder with their types, in order.
fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::io("read", folder, &error))?;
    let mut all: Vec<(String, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name().to_string_lossy().into_owned();
            let plain = file.strip_suffix(".ndjson")?;
            let name = plain.split('.').next().unwrap_or_default().to_owned();
            is_type(&name).then(|| (name, entry.path()))
        })
        .collect();
    all.sort();
    Ok(all)
}

/// Hands on each line of a file, its end included, with its resource's id.
fn each(path: &Path, take: &mut dyn FnMut(&[u8], &str) -> Result<()>) -> Result<()> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        id: std::borrow::Cow<'a, str>,
    }
    let broken = |error: std::io::Error| Error::io("read", path, &error);
    let mut input = BufReader::with_capacity(256 * 1024, File::open(path).map_err(broken)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).map_err(broken)? == 0 {
            return Ok(());
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let head: Head<'_> = serde_json::from_slice(&line).map_err(|_| {
            let message = format!("{} holds a line without a resource", path.display());
            Error::new(ErrorKind::Data, message)
        })?;
        let id = head.id.into_owned();
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        take(&line, &id)?;
    }
}

/// What was deleted.
#[derive(Default)]
struct Deletions {
    resources: HashSet<[u8; 16]>,
    /// Their types.
    types: BTreeSet<String>,
}

/// What the bundles of deletions name.
fn deletions(folder: &Path) -> Result<Deletions> {
    let mut all = Deletions::default();
    if !folder.is_dir() {
        return Ok(all);
    }
    for (_, path) in files(folder)? {
        let broken = |error: std::io::Error| Error::io("read", &path, &error);
        for line in BufReader::new(File::open(&path).map_err(broken)?).lines() {
            let line = line.map_err(broken)?;
            let bundle: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            for entry in bundle["entry"].as_array().into_iter().flatten() {
                let url = entry["request"]["url"].as_str().unwrap_or_default();
                let mut parts = url.rsplit('/');
                let id = parts.next().unwrap_or_default();
                let name = parts.next().unwrap_or_default();
                if entry["request"]["method"] == "DELETE" && is_type(name) && is_id(id) {
                    all.resources.insert(hash(name, id));
                    all.types.insert(name.to_owned());
                }
            }
        }
    }
    Ok(all)
}

/// A name for a folder that stands for a text of any form.
fn hash_free(text: &str) -> String {
    super::store::hex(&digest(&SHA256, text.as_bytes()).as_ref()[..12])
}

fn hash(name: &str, id: &str) -> [u8; 16] {
    let digest = digest(&SHA256, format!("{name}/{id}").as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&digest.as_ref()[..16]);
    short
}

#[cfg(test)]
mod tests;
