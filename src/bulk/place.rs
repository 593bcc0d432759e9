//! Which export a folder belongs to, and where its ledger is.

mod begin;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::disk::cannot_write;
use super::export::{Identity, Mode};
use super::ledger::Ledger;
use super::objects::{Address, Destination};
use super::receipt;
use super::request::ExportRequest;
use super::store::Shape;
use crate::model::server::Server;
use crate::model::{Error, ErrorKind, Result};

pub use begin::sweep;
pub(super) use begin::unfinished;

/// What stands in the folder and names its export.
pub const MARKER: &str = ".fhirctl-export.json";
/// How often a folder is looked at anew where another process was faster and is gone again.
const LOOKS: u32 = 5;

#[derive(Serialize, Deserialize)]
struct Marker {
    schema: String,
    export_id: String,
}

/// Where ledgers lie below the state folder.
#[must_use]
pub fn ledgers(state: &Path) -> PathBuf {
    state.join("exports")
}

/// The ledgers of this machine.
///
/// # Errors
/// When their folder cannot be read.
pub fn all(state: &Path) -> Result<Vec<PathBuf>> {
    let folder = ledgers(state);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", &folder, &error)),
    };
    // A hidden one is in the making.
    let is_ledger = |name: &std::ffi::OsStr| !name.as_encoded_bytes().starts_with(b".");
    let named = entries.flatten().filter(|entry| is_ledger(&entry.file_name()));
    let mut all: Vec<PathBuf> = named.map(|entry| entry.path()).collect();
    all.retain(|path| path.join("ledger.db").is_file());
    all.sort_unstable();
    Ok(all)
}

/// The ledger of the export that is asked for: the one that the folder belongs to, or a new one.
///
/// # Errors
/// Exit 73 when the folder belongs to another export, is a copy of one, or holds other data, 75 when
/// another process works on it.
pub fn open_or_begin(
    state: &Path,
    folder: &Path,
    server: &Server,
    request: &ExportRequest,
    mode: Mode,
    shape: impl Into<Shape>,
    now: Timestamp,
) -> Result<Ledger> {
    let shape = shape.into();
    let folder = std::path::absolute(folder).map_err(|error| Error::io("find", folder, &error))?;
    for _ in 0..LOOKS {
        if let Some(id) = marked(&folder)? {
            let ledger = open(state, &folder, &id)?;
            admit(&ledger, server, request, mode, shape, now)?;
            return Ok(ledger);
        }
        let identity = Identity {
            id: Uuid::new_v4().to_string(),
            server: server.name.clone(),
            url: server.url.as_str().to_owned(),
            folder: folder.clone(),
            address: None,
            request: request.clone(),
            mode,
            compression: shape.compression,
            split: shape.split,
            created_at: now,
        };
        if let Some(ledger) = begin::begin(state, &identity)? {
            return Ok(ledger);
        }
    }
    Err(Error::new(
        ErrorKind::Resumable,
        format!("other processes begin and end exports in {} at this moment", folder.display()),
    )
    .hint("run the same command again"))
}

/// What the export of a folder is; `None` where none was begun.
///
/// # Errors
/// When its marker cannot be read; exit 73 when the folder is a copy.
pub fn known(state: &Path, folder: &Path) -> Result<Option<Identity>> {
    let folder = std::path::absolute(folder).map_err(|error| Error::io("find", folder, &error))?;
    let Some(id) = marked(&folder)? else { return Ok(None) };
    let known = Ledger::look(&ledgers(state).join(id)).and_then(|peek| peek.fact("export"));
    match known {
        Ok(Some(known)) => Ok(Some(placed(known, &folder)?.0)),
        // The one who opens it says what is wrong.
        _ => Ok(None),
    }
}

/// What the export of a destination is; `None` where none was begun.
///
/// # Errors
/// When its marker or ledger cannot be read.
pub fn known_in(state: &Path, destination: &Destination) -> Result<Option<Identity>> {
    match destination {
        Destination::Folder(folder) => known(state, folder),
        Destination::Store(address) => known_at(state, address),
    }
}

/// What the export to an address is; `None` where this machine began none.
///
/// # Errors
/// When the ledgers cannot be read.
pub fn known_at(state: &Path, address: &Address) -> Result<Option<Identity>> {
    match at_address(state, address)? {
        Some((folder, _)) => Ledger::look(&folder)?.fact("export"),
        None => Ok(None),
    }
}

/// The ledger of a folder that an export was begun in.
///
/// # Errors
/// Exit 66 when none was, or its ledger is not on this machine; 75 when another process works on it.
pub fn of_folder(state: &Path, folder: &Path) -> Result<Ledger> {
    let folder = std::path::absolute(folder).map_err(|error| Error::io("find", folder, &error))?;
    let id = id_of(&folder)?;
    open(state, &folder, &id)
}

/// Where the ledger of a folder is, and what its export is.
///
/// # Errors
/// Exit 66 when no export was begun there, 73 when the folder is a copy, 65 when the ledger does not
/// say what it is of.
pub fn look(state: &Path, folder: &Path) -> Result<(PathBuf, Identity)> {
    let folder = std::path::absolute(folder).map_err(|error| Error::io("find", folder, &error))?;
    let place = ledgers(state).join(id_of(&folder)?);
    let known = Ledger::look(&place)?.fact("export")?.ok_or_else(says_nothing)?;
    Ok((place, placed(known, &folder)?.0))
}

/// What an export is, from its ledger.
///
/// # Errors
/// Exit 65 when the ledger does not say.
pub fn identity(ledger: &Ledger) -> Result<Identity> {
    ledger.fact("export")?.ok_or_else(says_nothing)
}

fn says_nothing() -> Error {
    Error::new(ErrorKind::Data, "the ledger does not say what it is of")
}

/// The ledger folder of an export to an object store that was begun on this machine.
///
/// # Errors
/// Exit 66 when none was.
pub fn of_address(state: &Path, address: &Address) -> Result<PathBuf> {
    at_address(state, address)?.map(|(folder, _)| folder).ok_or_else(|| {
        Error::not_found(format!("no export to {address} was begun on this machine"))
            .hint("fhirctl bulk-export list shows all of them")
    })
}

/// The ledger folder of an address, and whether its marker was put there: that one before others,
/// else the last that was begun.
pub(super) fn at_address(state: &Path, address: &Address) -> Result<Option<(PathBuf, bool)>> {
    let mut best: Option<(bool, Timestamp, PathBuf)> = None;
    for path in all(state)? {
        // One that cannot be read is of something else, or is told of by `list`.
        let Ok(peek) = Ledger::look(&path) else { continue };
        let Ok(Some(known)) = peek.fact::<Identity>("export") else { continue };
        if known.address.as_ref() != Some(address) {
            continue;
        }
        let is_marked = peek.fact("marked").ok().flatten().unwrap_or(false);
        let rank = (is_marked, known.created_at);
        if best.as_ref().is_none_or(|(marked, at, _)| (*marked, *at) < rank) {
            best = Some((rank.0, rank.1, path));
        }
    }
    Ok(best.map(|(is_marked, _, path)| (path, is_marked)))
}

fn id_of(folder: &Path) -> Result<String> {
    marked(folder)?.ok_or_else(|| {
        Error::not_found(format!("no export was begun in {}", folder.display()))
            .hint("fhirctl bulk-export list shows all of them")
    })
}

fn open(state: &Path, folder: &Path, id: &str) -> Result<Ledger> {
    let place = ledgers(state).join(id);
    begin::settle(&ledgers(state), id)?;
    if !place.join("ledger.db").is_file() {
        let is_done = folder.join(receipt::NAME).is_file();
        let message = match is_done {
            true => format!("{} holds an export that was concluded elsewhere", folder.display()),
            false => format!(
                "{} holds the beginnings of an export whose ledger is not in {}",
                folder.display(),
                ledgers(state).display()
            ),
        };
        return Err(Error::new(ErrorKind::CannotCreate, message)
            .hint("choose another folder, or remove this one if nothing in it is wanted"));
    }
    // A copy is told as one also while somebody works on the original.
    if let Some(known) = Ledger::look(&place)?.fact("export")? {
        placed(known, folder)?;
    }
    let ledger = Ledger::open(&place)?;
    let (known, is_moved) = placed(identity(&ledger)?, folder)?;
    if is_moved {
        ledger.note(&[("export", json!(known))])?;
    }
    Ok(ledger)
}

/// An export in the folder that its marker was found in, and whether that is another one than its
/// ledger knows.
///
/// # Errors
/// Exit 73 when the export is still where the ledger knows it: what was found is a copy, and
/// whatever is done to it would be done to the original.
fn placed(known: Identity, folder: &Path) -> Result<(Identity, bool)> {
    if known.address.is_none() {
        if is_same_folder(&known.folder, folder) {
            return Ok((known, false));
        }
        if let Ok(there) = marked(&known.folder)
            && there.as_ref() != Some(&known.id)
        {
            return Ok((Identity { folder: folder.to_owned(), ..known }, true));
        }
    }
    let (copy, original) = (folder.display(), known.place());
    Err(Error::new(
        ErrorKind::CannotCreate,
        format!("{copy} is a copy of the export in {original}, which is still there"),
    )
    .hint(format!("name the original: {original}; fhirctl bulk-export verify works on both"))
    .hint(format!(
        "the copy may be changed and removed by hand: nothing else knows of it, and without the file {MARKER} it is a folder like any other"
    )))
}

/// By what they are and not by their names: a link and a bind mount lead to the same.
fn is_same_folder(one: &Path, two: &Path) -> bool {
    let facts = |path: &Path| std::fs::metadata(path).map(|it| (it.dev(), it.ino()));
    matches!((facts(one), facts(two)), (Ok(one), Ok(two)) if one == two)
}

fn marked(folder: &Path) -> Result<Option<String>> {
    use std::io::ErrorKind as Io;
    let path = folder.join(MARKER);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), Io::NotFound | Io::NotADirectory) => return Ok(None),
        Err(error) => return Err(Error::io("read", &path, &error)),
    };
    id_in(&text, &path.display().to_string()).map(Some)
}

/// The export that a marker names.
///
/// # Errors
/// Exit 65 when it names none.
pub(super) fn id_in(text: &str, shown: &str) -> Result<String> {
    serde_json::from_str::<Marker>(text)
        .ok()
        .map(|marker| marker.export_id)
        .filter(|id| Uuid::parse_str(id).is_ok())
        .ok_or_else(|| {
            Error::new(ErrorKind::Data, format!("{shown} does not say which export this is"))
                .hint("choose another --output-dir")
        })
}

/// The marker of an export.
pub(super) fn marker(id: &str) -> String {
    let marker =
        Marker { schema: "fhirctl/bulk-export-folder/v1".to_owned(), export_id: id.to_owned() };
    format!("{}\n", json!(marker))
}

/// Holds an export that was begun against the one that is asked for. One that has fetched nothing and
/// that no server took gives its place to the other.
///
/// # Errors
/// Exit 73 when it is another.
pub(super) fn admit(
    ledger: &Ledger,
    server: &Server,
    request: &ExportRequest,
    mode: Mode,
    shape: Shape,
    now: Timestamp,
) -> Result<()> {
    let known = identity(ledger)?;
    let Some(what) = differs(&known, server, request, mode, shape) else { return Ok(()) };
    // The job of searches is our own word for them.
    let is_taken = known.mode == Mode::Bulk && ledger.fact::<serde_json::Value>("job")?.is_some();
    if is_taken || ledger.totals()?.files_done > 0 {
        return Err(Error::new(
            ErrorKind::CannotCreate,
            format!("{} belongs to another export: {what}", known.place()),
        )
        .hint("choose another --output-dir; one export has one folder"));
    }
    let receipt = known.folder.join(receipt::NAME);
    match std::fs::remove_file(&receipt) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(cannot_write(&receipt, &error));
        }
        _ => {}
    }
    ledger.begin_anew(&Identity {
        server: server.name.clone(),
        url: server.url.as_str().to_owned(),
        request: request.clone(),
        mode,
        compression: shape.compression,
        split: shape.split,
        created_at: now,
        ..known
    })
}

/// In what an export is not the one that is asked for.
fn differs(
    known: &Identity,
    server: &Server,
    request: &ExportRequest,
    mode: Mode,
    shape: Shape,
) -> Option<String> {
    if known.server != server.name {
        return Some(format!("it is of {}", known.server));
    }
    if known.url != server.url.as_str() {
        return Some("the server had another URL".to_owned());
    }
    if known.mode != mode {
        return Some("its --mode is another".to_owned());
    }
    if known.compression != shape.compression {
        return Some("its --compress is another".to_owned());
    }
    if known.split != shape.split {
        return Some("its --split-by is another".to_owned());
    }
    if known.request == *request {
        return None;
    }
    let (old, new) = (json!(known.request), json!(request));
    let keys = old.as_object().into_iter().flatten();
    let key = keys.filter(|(key, value)| new[key.as_str()] != **value).map(|(key, _)| key).next();
    Some(format!("its request differs in {}", key.map_or("something", String::as_str)))
}
