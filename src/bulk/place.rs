//! Which export a folder belongs to, and where its ledger is.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::disk::{cannot_write, private_folder, sync_folder};
use super::export::{Identity, Mode};
use super::ledger::Ledger;
use super::objects::{Address, Destination};
use super::receipt;
use super::request::ExportRequest;
use super::store::Shape;
use crate::model::server::Server;
use crate::model::{Error, ErrorKind, Result};

/// What stands in the folder and names its export.
pub const MARKER: &str = ".fhirctl-export.json";

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

/// The ledger of the export that is asked for: the one that the folder belongs to, or a new one.
///
/// # Errors
/// Exit 73 when the folder belongs to another export or holds other data, 75 when another process
/// works on it.
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
    if let Some(id) = marked(&folder)? {
        let ledger = open(state, &folder, &id)?;
        let known = identity(&ledger)?;
        same(&known, server, request, mode, shape)?;
        Ok(ledger)
    } else {
        begin(state, &folder, server, request, mode, shape, now)
    }
}

/// What the export of a folder is; `None` where none was begun.
///
/// # Errors
/// When its marker or ledger cannot be read.
pub fn known(state: &Path, folder: &Path) -> Result<Option<Identity>> {
    let folder = std::path::absolute(folder).map_err(|error| Error::io("find", folder, &error))?;
    match marked(&folder)? {
        Some(id) => match Ledger::look(&ledgers(state).join(id)) {
            Ok(peek) => peek.fact("export"),
            // The one who opens it says what is wrong.
            Err(_) => Ok(None),
        },
        None => Ok(None),
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

/// Where the ledger of a folder is.
///
/// # Errors
/// Exit 66 when no export was begun there.
pub fn ledger_folder(state: &Path, folder: &Path) -> Result<PathBuf> {
    let folder = std::path::absolute(folder).map_err(|error| Error::io("find", folder, &error))?;
    Ok(ledgers(state).join(id_of(&folder)?))
}

/// What an export is, from its ledger.
///
/// # Errors
/// Exit 65 when the ledger does not say.
pub fn identity(ledger: &Ledger) -> Result<Identity> {
    ledger
        .fact("export")?
        .ok_or_else(|| Error::new(ErrorKind::Data, "the ledger does not say what it is of"))
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
    let folder = ledgers(state);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &folder, &error)),
    };
    let mut best: Option<(bool, Timestamp, PathBuf)> = None;
    for path in entries.flatten().map(|entry| entry.path()) {
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
    Ledger::open(&place)
}

fn marked(folder: &Path) -> Result<Option<String>> {
    let path = folder.join(MARKER);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
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

fn begin(
    state: &Path,
    folder: &Path,
    server: &Server,
    request: &ExportRequest,
    mode: Mode,
    shape: Shape,
    now: Timestamp,
) -> Result<Ledger> {
    private_folder(folder)?;
    refuse_others(folder)?;
    let id = Uuid::new_v4().to_string();
    let ledger = Ledger::open(&ledgers(state).join(&id))?;
    let identity = Identity {
        id: id.clone(),
        server: server.name.clone(),
        url: server.url.as_str().to_owned(),
        folder: folder.to_owned(),
        address: None,
        request: request.clone(),
        mode,
        compression: shape.compression,
        split: shape.split,
        created_at: now,
    };
    ledger.note(&[("export", json!(identity))])?;
    sync_folder(&ledgers(state))?;
    // Last: a folder that is marked has a ledger.
    let path = folder.join(MARKER);
    let part = folder.join(format!("{MARKER}.part"));
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(marker(&id).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&part, &path)
    };
    write().map_err(|error| cannot_write(&path, &error))?;
    sync_folder(folder)?;
    Ok(ledger)
}

/// A folder that holds data of somebody else is left alone.
fn refuse_others(folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(|error| cannot_write(folder, &error))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_data = name.contains(".ndjson")
            || matches!(
                name.as_str(),
                receipt::NAME | "error" | "deleted" | "parts" | "current.json"
            );
        if is_data {
            return Err(Error::new(
                ErrorKind::CannotCreate,
                format!("{} holds other data already: {name}", folder.display()),
            )
            .hint("choose an empty folder, or one that is not there yet"));
        }
    }
    Ok(())
}

/// Holds an export that was begun against the one that is asked for.
///
/// # Errors
/// Exit 73 when it is another.
pub(super) fn same(
    known: &Identity,
    server: &Server,
    request: &ExportRequest,
    mode: Mode,
    shape: Shape,
) -> Result<()> {
    match differs(known, server, request, mode, shape) {
        None => Ok(()),
        Some(what) => Err(Error::new(
            ErrorKind::CannotCreate,
            format!("{} belongs to another export: {what}", known.place()),
        )
        .hint("choose another --output-dir; one export has one folder")),
    }
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
