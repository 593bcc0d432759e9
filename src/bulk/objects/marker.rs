//! Which export a place in an object store belongs to, and its ledger on this machine.

use std::path::Path;

use futures_util::stream::{self, TryStreamExt as _};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::super::disk::private_folder;
use super::super::export::{Identity, Mode};
use super::super::halt::Halt;
use super::super::ledger::Ledger;
use super::super::place::{self, MARKER, ledgers};
use super::super::receipt;
use super::super::request::ExportRequest;
use super::super::store::Shape;
use super::bucket::{Bucket, Surely};
use crate::model::server::Server;
use crate::model::{Error, ErrorKind, Result};

/// Where files wait for their store, below the ledger.
const STAGING: &str = "staging";
/// Most bytes of a marker.
const MARKER_BYTES: u64 = 64 * 1024;

/// An export that was begun or gone on with.
pub struct Begun {
    pub ledger: Ledger,
    /// What the user should know of it.
    pub note: Option<String>,
}

/// The ledger of the export that is asked for: the one that the place belongs to, or a new one.
///
/// # Errors
/// Exit 73 when the place belongs to another export or holds other data, 75 when another process
/// works on it or the store does not answer, 66 when there is no such bucket, 77 when it refuses.
pub async fn open_or_begin(
    state: &Path,
    bucket: &Bucket,
    server: &Server,
    request: &ExportRequest,
    mode: Mode,
    shape: impl Into<Shape>,
    now: Timestamp,
) -> Result<Begun, Halt> {
    let shape = shape.into();
    if let Some(begun) = go_on(state, bucket, server, request, mode, shape, now).await? {
        return Ok(begun);
    }
    match take(state, bucket, server, request, mode, shape, now).await {
        // Somebody else may have been faster: whose the place is now its marker says.
        Err(refused) if refused.kind == ErrorKind::CannotCreate => {
            go_on(state, bucket, server, request, mode, shape, now).await?.ok_or(refused)
        }
        begun => begun,
    }
}

/// The export that the place belongs to; `None` where it belongs to none.
async fn go_on(
    state: &Path,
    bucket: &Bucket,
    server: &Server,
    request: &ExportRequest,
    mode: Mode,
    shape: Shape,
    now: Timestamp,
) -> Result<Option<Begun>, Halt> {
    let Some(id) = marked(bucket).await? else { return Ok(None) };
    let ledger = open(state, bucket, &id).await?;
    place::admit(&ledger, server, request, mode, shape, now)?;
    ledger.note(&[("marked", true.into())])?;
    Ok(Some(Begun { ledger, note: None }))
}

/// Takes a place that belongs to none.
async fn take(
    state: &Path,
    bucket: &Bucket,
    server: &Server,
    request: &ExportRequest,
    mode: Mode,
    shape: Shape,
    now: Timestamp,
) -> Result<Begun, Halt> {
    refuse_others(bucket).await?;
    let ledger = match place::at_address(state, bucket.address())? {
        Some((_, true)) => {
            return Err(Error::new(
                ErrorKind::CannotCreate,
                format!("{} was begun here, and somebody has emptied it", bucket.address()),
            )
            .hint(format!("forget it first: fhirctl bulk-export purge {}", bucket.address()))
            .into());
        }
        // Its marker did not get there.
        Some((folder, false)) => {
            let ledger = Ledger::open(&folder)?;
            match place::admit(&ledger, server, request, mode, shape, now) {
                Ok(()) => ledger,
                Err(_) => begin(state, bucket, server, request, mode, shape, now)?,
            }
        }
        None => begin(state, bucket, server, request, mode, shape, now)?,
    };
    let identity = place::identity(&ledger)?;
    let made = bucket.create(MARKER, place::marker(&identity.id).into()).await?;
    // The answer to our own may have been lost, or somebody else was faster.
    if made != Some(Surely::ByStore) && marked(bucket).await? != Some(identity.id) {
        std::fs::remove_dir_all(ledger.folder())
            .map_err(|error| Error::io("remove", ledger.folder(), &error))?;
        return Err(Error::new(
            ErrorKind::CannotCreate,
            format!("another export was begun in {} at this moment", bucket.address()),
        )
        .hint("choose another --output-dir; one export has one place")
        .into());
    }
    ledger.note(&[("marked", true.into())])?;
    let note = (made == Some(Surely::ByLook)).then(|| {
        format!(
            "the store has no conditional writes: that nobody else begins an export in {} at the same moment is not certain",
            bucket.address()
        )
    });
    Ok(Begun { ledger, note })
}

/// Removes what an export put into its store, and its ledger; gives how many objects.
///
/// # Errors
/// When the store does not remove one; the same call goes on.
pub async fn destroy(ledger: &Ledger, bucket: &Bucket) -> Result<u64, Halt> {
    for name in ledger.uploads()? {
        if let Some(id) = ledger.upload(&name)?.and_then(|upload| upload.id) {
            bucket.abort_parts(&name, &id).await?;
        }
        ledger.upload_ended(&name)?;
    }
    let mut names = Vec::new();
    ledger.each_file(&mut |file| {
        names.extend(file.done.filter(|_| file.is_stored).map(|done| done.name));
        Ok(())
    })?;
    for name in [receipt::NAME, "log.ndjson"] {
        if bucket.length(name).await?.is_some() {
            names.push(name.to_owned());
        }
    }
    let files = names.len() as u64;
    stream::iter(names.into_iter().map(Ok))
        .try_for_each_concurrent(16, |name| async move { bucket.delete(&name).await })
        .await?;
    if let Some(id) = marked(bucket).await?
        && id == place::identity(ledger)?.id
    {
        // Last: what is left by a crash belongs to somebody.
        bucket.delete(MARKER).await?;
    }
    std::fs::remove_dir_all(ledger.folder())
        .map_err(|error| Error::io("remove", ledger.folder(), &error))?;
    Ok(files)
}

async fn marked(bucket: &Bucket) -> Result<Option<String>, Halt> {
    let Some(bytes) = bucket.read(MARKER, MARKER_BYTES).await? else { return Ok(None) };
    let shown = bucket.address().object(MARKER);
    Ok(Some(place::id_in(&String::from_utf8_lossy(&bytes), &shown)?))
}

async fn open(state: &Path, bucket: &Bucket, id: &str) -> Result<Ledger, Halt> {
    let folder = ledgers(state).join(id);
    if folder.join("ledger.db").is_file() {
        return Ok(Ledger::open(&folder)?);
    }
    let address = bucket.address();
    let message = match bucket.length(receipt::NAME).await? {
        Some(_) => format!("{address} holds an export that was concluded elsewhere"),
        None => format!(
            "{address} holds the beginnings of an export whose ledger is not in {}",
            ledgers(state).display()
        ),
    };
    Err(Error::new(ErrorKind::CannotCreate, message)
        .hint("choose another address, or empty this one if nothing in it is wanted")
        .into())
}

fn begin(
    state: &Path,
    bucket: &Bucket,
    server: &Server,
    request: &ExportRequest,
    mode: Mode,
    shape: Shape,
    now: Timestamp,
) -> Result<Ledger> {
    let id = Uuid::new_v4().to_string();
    let root = ledgers(state);
    let named = std::path::absolute(root.join(&id))
        .map_err(|error| Error::io("find", &root.join(&id), &error))?;
    let ledger = Ledger::begin(&place::unfinished(&root, &id))?;
    private_folder(&ledger.folder().join(STAGING))?;
    let identity = Identity {
        id,
        server: server.name.clone(),
        url: server.url.as_str().to_owned(),
        folder: named.join(STAGING),
        address: Some(bucket.address().clone()),
        request: request.clone(),
        mode,
        compression: shape.compression,
        split: shape.split,
        created_at: now,
    };
    ledger.note(&[("export", json!(identity))])?;
    ledger.named(&named)
}

/// A place that holds anything is left alone.
async fn refuse_others(bucket: &Bucket) -> Result<(), Halt> {
    let mut other = None;
    bucket
        .list(&mut |found| {
            // Consoles make an empty object of a folder's name.
            if found.name.is_empty() || found.name == MARKER {
                return true;
            }
            other = Some(found.name);
            false
        })
        .await?;
    match other {
        None => Ok(()),
        Some(name) => Err(Error::new(
            ErrorKind::CannotCreate,
            format!("{} holds other data already: {name}", bucket.address()),
        )
        .hint("choose a prefix that holds nothing yet")
        .into()),
    }
}
