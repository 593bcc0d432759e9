//! A place in an object store that is kept current.
//!
//! `current.json` names the run and the object of every type; it is replaced in one write, behind
//! everything that it names. What a reader has found in it stays for one more run. A type that a
//! run does not touch keeps its object.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::disk::private_folder;
use super::super::halt::Halt;
use super::super::lines::is_type;
use super::super::objects::{Bucket, Courier};
use super::super::request::ExportRequest;
use super::{Applied, BOOK, Book, Deletions, Pending, deletions, hash_free, merge_type};
use crate::model::{Error, ErrorKind, Result};

/// What readers begin with.
pub const CURRENT: &str = "current.json";
/// Most bytes of the book and of what is current.
const BOOK_BYTES: u64 = 64 * 1024 * 1024;

/// The state that readers find.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Current {
    schema: String,
    run: u64,
    transaction_time: Option<String>,
    /// In the order of the types.
    files: Vec<StateFile>,
    /// What the state before named: readers may still be in that.
    before: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StateFile {
    #[serde(rename = "type")]
    resource_type: String,
    /// Below the place.
    name: String,
    count: u64,
    bytes: u64,
    sha256: String,
}

/// Where the export of a run lies below the place.
#[must_use]
pub fn run_name(number: u64) -> String {
    format!("runs/{number:06}")
}

impl Book {
    /// The book of a place in an object store, or a new one.
    ///
    /// # Errors
    /// Exit 73 when the place is of another server or scope, or holds something else; 65 when its
    /// book cannot be read; what the store says.
    pub async fn read(
        bucket: &Bucket,
        server: &str,
        url: &str,
        scope: &ExportRequest,
    ) -> Result<Book, Halt> {
        let scope = ExportRequest { since: None, ..scope.clone() };
        if let Some(bytes) = bucket.read(BOOK, BOOK_BYTES).await? {
            let text = String::from_utf8_lossy(&bytes);
            let shown = bucket.address().to_string();
            return Ok(Book::parse(&text, &shown, server, url, &scope)?);
        }
        let mut other = None;
        bucket
            .list(&mut |found| {
                if found.name.is_empty() {
                    return true;
                }
                other = Some(found.name);
                false
            })
            .await?;
        match other {
            None => Ok(Book::fresh(server, url, scope)),
            Some(name) => Err(Error::new(
                ErrorKind::CannotCreate,
                format!("{} holds something else already: {name}", bucket.address()),
            )
            .hint("choose a prefix that holds nothing yet")
            .into()),
        }
    }

    /// Keeps the book in its place.
    ///
    /// # Errors
    /// What the store says.
    pub async fn keep(&self, bucket: &Bucket) -> Result<(), Halt> {
        bucket.put(BOOK, format!("{:#}\n", json!(self)).into()).await
    }
}

/// Makes a run's export the current state: the whole of it, or the changes over the state before.
/// One type at a time is brought to `desk`, a folder that is emptied first.
///
/// # Errors
/// When the store, the disk or the data say no; what is current is as it was then.
pub async fn apply(
    courier: &Courier,
    run: &Pending,
    transaction_time: Option<&str>,
    desk: &Path,
) -> Result<Applied, Halt> {
    let bucket = courier.bucket();
    let before = current(bucket).await?;
    if before.is_none() && run.since.is_some() {
        let object = bucket.address().object(CURRENT);
        return Err(Error::new(ErrorKind::Data, format!("{object} is not there any more"))
            .hint("somebody removed it; run once with --full to begin from the whole")
            .into());
    }
    let before = before.unwrap_or_default();
    let mut applied = Applied::default();
    if before.run == run.number {
        // Only the book was not written any more.
        applied.counts = before.files.into_iter().map(|it| (it.resource_type, it.count)).collect();
        return Ok(applied);
    }
    clear(desk)?;
    private_folder(&desk.join("deleted"))?;
    let (changed, bundles) = of_run(bucket, run.number).await?;
    for name in &bundles {
        let file = name.rsplit('/').next().unwrap_or_default();
        courier.fetch(name, &desk.join("deleted").join(file)).await?;
    }
    let deleted = deletions(&desk.join("deleted"))?;
    let old: BTreeMap<&str, &StateFile> = match run.since {
        Some(_) => before.files.iter().map(|it| (it.resource_type.as_str(), it)).collect(),
        None => BTreeMap::new(),
    };
    let types: BTreeSet<&str> =
        changed.keys().map(String::as_str).chain(old.keys().copied()).collect();
    let mut files = Vec::new();
    for name in types {
        let new = changed.get(name).map(Vec::as_slice).unwrap_or_default();
        let old = old.get(name).copied();
        if let Some(old) = old
            && new.is_empty()
            && !deleted.types.contains(name)
        {
            files.push(old.clone());
            continue;
        }
        let step = Step { courier, run, desk, name };
        files.extend(step.merge(old, new, &deleted, &mut applied).await?);
    }
    applied.counts = files.iter().map(|it| (it.resource_type.clone(), it.count)).collect();
    let current = Current {
        schema: "fhirctl/sync-current/v1".to_owned(),
        run: run.number,
        transaction_time: transaction_time.map(str::to_owned),
        files,
        before: before.files.into_iter().map(|it| it.name).collect(),
    };
    bucket.put(CURRENT, format!("{:#}\n", json!(current)).into()).await?;
    clear(desk)?;
    Ok(applied)
}

/// The runs below a place that are older than the one before the last, and the objects of states
/// that neither what is current nor what was so before names.
///
/// # Errors
/// What the store says.
pub async fn old(bucket: &Bucket, last: u64) -> Result<(Vec<u64>, Vec<String>), Halt> {
    let current = current(bucket).await?.unwrap_or_default();
    let named: BTreeSet<String> =
        current.files.into_iter().map(|it| it.name).chain(current.before).collect();
    let mut runs = BTreeSet::new();
    bucket
        .below("runs")
        .list(&mut |found| {
            let number = found.name.split('/').next().and_then(|it| it.parse::<u64>().ok());
            runs.extend(number.filter(|number| number + 1 < last));
            true
        })
        .await?;
    let mut states = Vec::new();
    bucket
        .below("states")
        .list(&mut |found| {
            let name = format!("states/{}", found.name);
            if !named.contains(&name) {
                states.push(name);
            }
            true
        })
        .await?;
    Ok((runs.into_iter().collect(), states))
}

struct Step<'a> {
    courier: &'a Courier,
    run: &'a Pending,
    desk: &'a Path,
    name: &'a str,
}

impl Step<'_> {
    /// Writes the new state of one type; `None` when it has no resource any more.
    async fn merge(
        &self,
        old: Option<&StateFile>,
        new: &[String],
        deleted: &Deletions,
        applied: &mut Applied,
    ) -> Result<Option<StateFile>, Halt> {
        let here = self.desk.join("old.ndjson");
        let before = match old {
            None => None,
            Some(old) => {
                let (_, sha256) = self.courier.fetch(&old.name, &here).await?;
                if sha256 != old.sha256 {
                    let object = self.courier.bucket().address().object(&old.name);
                    return Err(Error::new(
                        ErrorKind::Data,
                        format!("{object} is not as it was written"),
                    )
                    .hint("somebody changed it; run once with --full to begin from the whole")
                    .into());
                }
                Some(here.clone())
            }
        };
        let mut changes = Vec::new();
        for (number, name) in new.iter().enumerate() {
            let path = self.desk.join(format!("new.{number}.ndjson"));
            self.courier.fetch(name, &path).await?;
            changes.push(path);
        }
        let out = self.desk.join("out.ndjson");
        let count =
            merge_type(self.name, before.as_deref(), &changes, &deleted.resources, &out, applied)?;
        let mut written = None;
        if count > 0 {
            let name = format!("states/{:06}/{}.ndjson", self.run.number, self.name);
            let (bytes, sha256) = self.courier.bring(&out, &name).await?;
            let resource_type = self.name.to_owned();
            written = Some(StateFile { resource_type, name, count, bytes, sha256 });
        }
        for path in changes.into_iter().chain([here, out]) {
            let _ = std::fs::remove_file(path);
        }
        Ok(written)
    }
}

async fn current(bucket: &Bucket) -> Result<Option<Current>, Halt> {
    let Some(bytes) = bucket.read(CURRENT, BOOK_BYTES).await? else { return Ok(None) };
    let current = serde_json::from_slice(&bytes).map_err(|error| {
        let object = bucket.address().object(CURRENT);
        Error::new(ErrorKind::Data, format!("{object} cannot be read: {error}"))
            .hint("begin anew in another place")
    })?;
    Ok(Some(current))
}

/// The data of a run by type, and its bundles of deletions.
async fn of_run(
    bucket: &Bucket,
    number: u64,
) -> Result<(BTreeMap<String, Vec<String>>, Vec<String>), Halt> {
    let run = run_name(number);
    let mut changed = BTreeMap::<String, Vec<String>>::new();
    let mut bundles = Vec::new();
    bucket
        .below(&run)
        .list(&mut |found| {
            let name = format!("{run}/{}", found.name);
            match found.name.strip_prefix("deleted/") {
                Some(_) => bundles.push(name),
                None => {
                    let plain = found.name.strip_suffix(".ndjson").unwrap_or_default();
                    let kind = plain.split('.').next().unwrap_or_default();
                    if !found.name.contains('/') && is_type(kind) {
                        changed.entry(kind.to_owned()).or_default().push(name);
                    }
                }
            }
            true
        })
        .await?;
    changed.values_mut().for_each(|names| names.sort_unstable());
    Ok((changed, bundles))
}

fn clear(desk: &Path) -> Result<()> {
    match std::fs::remove_dir_all(desk) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("remove", desk, &error)),
    }
}

/// Where a place in an object store is worked on here: one folder an address.
#[must_use]
pub fn desk(state: &Path, bucket: &Bucket) -> PathBuf {
    state.join("sync").join(hash_free(&bucket.address().to_string()))
}
