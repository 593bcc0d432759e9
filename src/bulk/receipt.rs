//! The receipt of an export: what was asked, what came, what is missing; and a directory held
//! against it.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::{Map, Value, json};
use url::Url;

use super::client_log::NAME as LOG;
use super::disk::{cannot_write, sync_folder};
use super::join;
use super::ledger::{FileRow, Kind, Ledger, Severity, State};
use super::place::MARKER;
use super::store::hex;
use crate::model::{Error, ErrorKind, Result};

pub const NAME: &str = "receipt.json";
pub const SCHEMA: &str = "fhirctl/bulk-export-receipt/v1";

/// Writes the receipt: head, files, what is missing, findings, and the digest of all before it.
///
/// # Errors
/// When it cannot be written.
pub fn write(folder: &Path, ledger: &Ledger, head: &Map<String, Value>) -> Result<String> {
    let path = folder.join(NAME);
    let part = folder.join(format!(".{NAME}.part"));
    let broken = |error: std::io::Error| cannot_write(&part, &error);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .map_err(broken)?;
    let mut out = Hashed { out: BufWriter::new(file), digest: Context::new(&SHA256) };
    out.put(&format!("{{\n\"schema\": {}", json!(SCHEMA))).map_err(broken)?;
    for (key, value) in head {
        out.put(&format!(",\n{}: {value}", json!(key))).map_err(broken)?;
    }
    out.put(",\n\"files\": [").map_err(broken)?;
    let mut separator = "\n";
    let mut missing = Vec::new();
    let mut joined = Vec::new();
    ledger.each_file(&mut |file| {
        if file.state == State::Joined {
            return Ok(());
        }
        if file.holds_others() {
            joined.push(file);
            return Ok(());
        }
        if file.state != State::There {
            if missing.len() < 10_000 {
                missing.push(lacking(&file));
            }
            return Ok(());
        }
        out.put(&format!("{separator}{}", entry(&file))).map_err(broken)?;
        separator = ",\n";
        Ok(())
    })?;
    for file in &joined {
        let whole = entry(file).to_string();
        let open = whole.trim_end_matches('}');
        out.put(&format!("{separator}{open},\"parts\":[")).map_err(broken)?;
        separator = ",\n";
        let mut inner = "\n  ";
        ledger.each_part(file.id, &mut |part| {
            out.put(&format!("{inner}{}", part_entry(&part))).map_err(broken)?;
            inner = ",\n  ";
            Ok(())
        })?;
        out.put("]}").map_err(broken)?;
    }
    out.put("\n],\n\"missing\": [").map_err(broken)?;
    list(&mut out, missing.into_iter()).map_err(broken)?;
    out.put("\n],\n\"findings\": [").map_err(broken)?;
    list(&mut out, ledger.findings()?.into_iter().map(|finding| json!(finding))).map_err(broken)?;
    out.put("\n],\n").map_err(broken)?;
    let digest = hex(out.digest.clone().finish().as_ref());
    out.put(&format!("\"sha256\": \"{digest}\"\n}}\n")).map_err(broken)?;
    let file = out.out.into_inner().map_err(|error| broken(error.into_error()))?;
    file.sync_all().and_then(|()| std::fs::rename(&part, &path)).map_err(broken)?;
    sync_folder(folder)?;
    Ok(digest)
}

struct Hashed {
    out: BufWriter<File>,
    digest: Context,
}

impl Hashed {
    fn put(&mut self, text: &str) -> std::io::Result<()> {
        self.digest.update(text.as_bytes());
        self.out.write_all(text.as_bytes())
    }
}

fn list(out: &mut Hashed, items: impl Iterator<Item = Value>) -> std::io::Result<()> {
    let mut separator = "\n";
    for item in items {
        out.put(&format!("{separator}{item}"))?;
        separator = ",\n";
    }
    Ok(())
}

fn entry(file: &FileRow) -> Value {
    let done = file.done.clone().unwrap_or_else(|| super::ledger::Done {
        name: String::new(),
        attempt: 0,
        lines: 0,
        bytes: 0,
        content_bytes: 0,
        sha256: String::new(),
        duration_ms: 0,
        retries: 0,
    });
    json!({
        "name": done.name,
        "kind": file.kind.as_str(),
        "type": kind_of(file),
        "url_path": url_path(&file.url),
        "count": done.lines,
        "expected_count": file.expected,
        "bytes": done.bytes,
        "content_bytes": done.content_bytes,
        "sha256": done.sha256,
        "duration_ms": done.duration_ms,
        "retries": done.retries,
    })
}

/// A file of the server that is in one with others of its type.
fn part_entry(file: &FileRow) -> Value {
    json!({
        "url_path": url_path(&file.url),
        "count": file.done.as_ref().map(|done| done.lines),
        "expected_count": file.expected,
        "bytes": file.done.as_ref().map(|done| done.bytes),
        "sha256": file.done.as_ref().map(|done| done.sha256.as_str()),
        "lines_before": file.joined.map(|joined| joined.1),
    })
}

fn lacking(file: &FileRow) -> Value {
    let (code, message) = match &file.trouble {
        Some((code, message)) => (Some(code.as_str()), message.as_str()),
        None => (None, "not fetched yet"),
    };
    json!({
        "kind": file.kind.as_str(),
        "type": kind_of(file),
        "url_path": url_path(&file.url),
        "expected_count": file.expected,
        "code": code,
        "message": message,
    })
}

fn kind_of(file: &FileRow) -> Option<&str> {
    Some(file.resource_type.as_str()).filter(|name| !name.is_empty())
}

/// A link without what may be a secret in it: the query of a signed address.
#[must_use]
pub fn url_path(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) => url.path().to_owned(),
        Err(_) => url.split(['?', '#']).next().unwrap_or_default().to_owned(),
    }
}

/// What was found when a directory was held against its receipt.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    pub export_id: Option<String>,
    pub server: Option<String>,
    pub status: Option<String>,
    pub transaction_time: Option<String>,
    pub files: u64,
    pub resources: u64,
    pub bytes: u64,
    pub problems: Vec<Problem>,
    /// Problems, those too many to be kept included.
    pub problem_count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: Option<String>,
    pub line: Option<u64>,
    pub severity: Severity,
    pub message: String,
}

/// Most problems that are told one by one.
const PROBLEMS: usize = 100;

impl Verified {
    pub(super) fn problem(&mut self, file: Option<&str>, message: impl Into<String>) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS {
            self.problems.push(Problem {
                file: file.map(str::to_owned),
                line: None,
                severity: Severity::Error,
                message: message.into(),
            });
        }
    }
}

/// Holds a directory against its receipt: every file with its bytes, digest and number of lines,
/// nothing missing and nothing added.
///
/// # Errors
/// Exit 66 when there is no receipt, 65 when it is none or was edited.
pub fn verify(folder: &Path, step: &mut dyn FnMut()) -> Result<Verified> {
    let path = folder.join(NAME);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Error::io("read", &path, &error)
            .hint("a directory of fhirctl bulk-export holds one when it is done")
    })?;
    let (receipt, mut verified) = understand(&text, &path.display().to_string())?;
    let mut known = HashSet::from([PathBuf::from(NAME)]);
    for said in files(&receipt, &mut known, &mut verified) {
        step();
        let name = said["name"].as_str().unwrap_or_default();
        check_file(folder, name, said, &mut verified);
    }
    complain_of_missing(&receipt, &mut verified);
    strangers(folder, &known, &mut verified);
    Ok(verified)
}

/// Reads a receipt, and what is wrong with it by itself.
///
/// # Errors
/// Exit 65 when it is none.
pub(super) fn understand(text: &str, shown: &str) -> Result<(Value, Verified)> {
    let receipt: Value = serde_json::from_str(text)
        .map_err(|error| Error::new(ErrorKind::Data, format!("{shown} is no receipt: {error}")))?;
    let mut verified = Verified::default();
    let text_of = |key: &str| receipt[key].as_str().map(str::to_owned);
    if text_of("schema").as_deref() != Some(SCHEMA) {
        return Err(Error::new(ErrorKind::Data, format!("{shown} is no receipt of a bulk export")));
    }
    verified.export_id = text_of("export_id");
    verified.server = text_of("server");
    verified.status = text_of("status");
    verified.transaction_time = text_of("transaction_time");
    if !is_intact(text, receipt["sha256"].as_str().unwrap_or_default()) {
        verified.problem(Some(NAME), "the receipt was changed after it was written");
    }
    Ok((receipt, verified))
}

/// What a receipt says of each file; a name that is none is a problem.
pub(super) fn files<'a>(
    receipt: &'a Value,
    known: &mut HashSet<PathBuf>,
    verified: &mut Verified,
) -> Vec<&'a Value> {
    let mut all = Vec::new();
    for file in receipt["files"].as_array().into_iter().flatten() {
        let Some(name) = file["name"].as_str().filter(|name| is_below(name)) else {
            verified.problem(Some(NAME), "a file's name in it leads out of the directory");
            continue;
        };
        if known.insert(PathBuf::from(name)) {
            all.push(file);
        } else {
            verified.problem(Some(name), "the receipt names it twice");
        }
    }
    all
}

/// What the receipt itself says to be missing.
pub(super) fn complain_of_missing(receipt: &Value, verified: &mut Verified) {
    let missing = receipt["missing"].as_array().map_or(0, Vec::len);
    if missing > 0 {
        let what = if missing == 1 { "file of the export is" } else { "files of the export are" };
        verified.problem(None, format!("{missing} {what} missing"));
    }
    if verified.status.as_deref() == Some("incomplete") && missing == 0 {
        verified.problem(None, "the export was not complete");
    }
}

fn is_intact(text: &str, digest: &str) -> bool {
    let tail = format!("\"sha256\": \"{digest}\"\n}}\n");
    let Some(before) = text.strip_suffix(&tail) else { return false };
    let mut context = Context::new(&SHA256);
    context.update(before.as_bytes());
    hex(context.finish().as_ref()) == digest
}

fn is_below(name: &str) -> bool {
    !name.is_empty()
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

fn check_file(folder: &Path, name: &str, said: &Value, verified: &mut Verified) {
    let path = folder.join(name);
    match std::fs::symlink_metadata(&path) {
        Err(_) => return verified.problem(Some(name), "the file is missing"),
        Ok(facts) if !facts.is_file() => {
            return verified.problem(Some(name), "it is no plain file");
        }
        Ok(_) => {}
    }
    let (bytes, sha256) = match digest_of(&path) {
        Ok(found) => found,
        Err(error) => return verified.problem(Some(name), format!("cannot be read: {error}")),
    };
    judge(name, said, bytes, &sha256, verified);
}

/// Holds what was read of a file against what the receipt says of it.
pub(super) fn judge(name: &str, said: &Value, bytes: u64, sha256: &str, verified: &mut Verified) {
    verified.files += 1;
    verified.bytes += bytes;
    let count = said["count"].as_u64().unwrap_or(0);
    if said["kind"] == Kind::Output.as_str() {
        verified.resources += count;
    }
    if said["bytes"].as_u64() != Some(bytes) {
        let expected = said["bytes"].as_u64().unwrap_or(0);
        verified.problem(Some(name), format!("it has {bytes} bytes, the receipt says {expected}"));
    } else if said["sha256"].as_str() != Some(sha256) {
        verified.problem(Some(name), "its content is not what was received: the digest differs");
    }
}

fn digest_of(path: &Path) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, hex(context.finish().as_ref())));
        }
        context.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// Whether a name below an export is one of those that it keeps and its receipt does not list.
pub(super) fn is_own(name: &str, is_complete: bool) -> bool {
    let (below, own) = name.rsplit_once('/').unwrap_or(("", name));
    let is_here = matches!(below, "" | "error" | "deleted" | join::FOLDER);
    // What is half fetched belongs to an export that goes on.
    let is_part = is_here && own.starts_with('.') && own.ends_with(".part");
    (below.is_empty() && matches!(own, NAME | LOG | MARKER | "lock")) || (is_part && !is_complete)
}

/// Whatever the receipt does not know. A folder is told of as one; those that the export makes are
/// looked into.
fn strangers(folder: &Path, known: &HashSet<PathBuf>, verified: &mut Verified) {
    let is_complete = verified.status.as_deref() != Some("incomplete");
    for below in ["", "error", "deleted", join::FOLDER] {
        let Ok(entries) = std::fs::read_dir(folder.join(below)) else { continue };
        let mut found: Vec<(String, bool)> = entries
            .flatten()
            .map(|entry| {
                let name = Path::new(below).join(entry.file_name());
                let is_folder = entry.file_type().is_ok_and(|it| it.is_dir());
                (name.to_string_lossy().into_owned(), is_folder)
            })
            .collect();
        found.sort_unstable();
        for (name, is_folder) in found {
            let is_made = matches!(name.as_str(), "error" | "deleted" | join::FOLDER);
            if is_folder && !is_made {
                // A disk's own folder, where one is mounted for the export alone.
                if name != "lost+found" {
                    verified.problem(Some(&name), "the receipt does not know this folder");
                }
            } else if !is_folder && !known.contains(Path::new(&name)) && !is_own(&name, is_complete)
            {
                verified.problem(Some(&name), "the receipt does not know this file");
            }
        }
    }
}
