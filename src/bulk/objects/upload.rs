//! Brings finished files to their object store, in steps that the ledger knows.
//!
//! A file that is larger than a part goes in parts, and becomes an object when all of them are
//! there: no half of a file ever has its name. After a crash the parts that are there stay, and
//! what is whole is not sent again. Every byte is held against the digest of what was received on
//! its way, so that a disk that forgets is found before the object has its name.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use futures_util::stream::{self, TryStreamExt as _};

use super::super::halt::Halt;
use super::super::join;
use super::super::ledger::{Done, Ledger, Upload};
use super::super::receipt;
use super::super::store::hex;
use super::bucket::Bucket;
use super::sweep::sweep;
use crate::auth::Surroundings;
use crate::model::{Error, ErrorKind};

/// What is held of a file at once.
pub(super) const PART: u64 = 8 * 1024 * 1024;
/// No store takes more parts of one object.
const PARTS: u64 = 10_000;
/// How often an upload is begun anew that the store has forgotten.
const ANEW: u32 = 3;
/// Files that are looked up in the ledger at once.
const AHEAD: u32 = 500;

/// The way of one export's files to their store.
pub struct Uploads {
    bucket: Bucket,
    ledger: Arc<Ledger>,
    /// Where they wait.
    folder: PathBuf,
    surroundings: Surroundings,
}

impl Uploads {
    #[must_use]
    pub fn new(
        bucket: Bucket,
        ledger: &Arc<Ledger>,
        folder: &Path,
        surroundings: &Surroundings,
    ) -> Uploads {
        Uploads {
            bucket,
            ledger: Arc::clone(ledger),
            folder: folder.to_owned(),
            surroundings: surroundings.clone(),
        }
    }

    /// Brings a complete file to the store; it is there for good when this comes back, and no
    /// longer here.
    ///
    /// # Errors
    /// When the store or the ledger says no; the same call goes on.
    pub async fn file(&self, id: u32, done: &Done) -> Result<(), Halt> {
        self.send(&done.name, Some(&done.sha256)).await?;
        self.ledger.stored(id, &done.name)?;
        // What is left by a crash here goes with the next start.
        let _ = std::fs::remove_file(self.folder.join(&done.name));
        Ok(())
    }

    /// Brings to the store what an interrupted run has left.
    ///
    /// # Errors
    /// As [`file`](Uploads::file).
    pub async fn catch_up(&self, parallel: usize) -> Result<(), Halt> {
        let mut last = 0;
        loop {
            let batch = self.ledger.staged(last, AHEAD)?;
            let Some(end) = batch.last() else { return Ok(()) };
            last = end.id;
            let files = batch
                .into_iter()
                .filter_map(|file| Some((file.id, file.done?)))
                .filter(|(_, done)| !join::is_part(&done.name));
            stream::iter(files.map(Ok))
                .try_for_each_concurrent(parallel, |(id, done)| async move {
                    self.file(id, &done).await
                })
                .await?;
        }
    }

    /// Brings log and receipt to the store, the receipt last; `digest` tells one receipt from
    /// another.
    ///
    /// # Errors
    /// As [`file`](Uploads::file).
    pub async fn deliver(&self, digest: &str) -> Result<(), Halt> {
        if self.ledger.fact::<String>("delivered")?.as_deref() == Some(digest) {
            return Ok(());
        }
        for name in ["log.ndjson", receipt::NAME] {
            // Parts that are there may be of an older one.
            self.give_up(name).await?;
            self.send(name, None).await?;
            self.ledger.upload_ended(name)?;
        }
        self.ledger.note(&[("delivered", digest.into())])?;
        Ok(())
    }

    async fn send(&self, name: &str, sha256: Option<&str>) -> Result<(), Halt> {
        let path = self.folder.join(name);
        let broken = |error: std::io::Error| Error::io("read", &path, &error);
        let mut source = Source::open(&path).map_err(broken)?;
        let bytes = source.bytes;
        if bytes <= PART {
            let (content, after) = source.part(bytes).await.map_err(broken)?;
            self.same(&path, after, sha256)?;
            self.bucket.put(name, content).await?;
        } else {
            let mut begun = 0;
            while !self.send_parts(name, &mut source, sha256).await? {
                begun += 1;
                if begun >= ANEW {
                    return Err(Halt::later(
                        "bulk.store_failed",
                        format!(
                            "the store forgets the upload of {} again and again",
                            self.bucket.address().object(name)
                        ),
                    )
                    .hint("run the same command again: what is done stays done"));
                }
                source = Source::open(&path).map_err(broken)?;
            }
        }
        match self.bucket.length(name).await? {
            Some(found) if found == bytes => Ok(()),
            found => Err(Halt::later(
                "bulk.store_failed",
                format!(
                    "{} has {} bytes after it was written, and not {bytes}",
                    self.bucket.address().object(name),
                    found.unwrap_or(0)
                ),
            )
            .hint("run the same command again; does something else write there?")),
        }
    }

    /// `false` when the store has forgotten the upload: it is to be begun anew.
    async fn send_parts(
        &self,
        name: &str,
        source: &mut Source,
        sha256: Option<&str>,
    ) -> Result<bool, Halt> {
        let path = self.folder.join(name);
        let part = part_bytes(source.bytes);
        let (upload, known) = match self.ledger.upload(name)? {
            Some(Upload { id: Some(id), part_bytes, parts }) if part_bytes == part => (id, parts),
            _ => {
                self.give_up(name).await?;
                self.ledger.upload_begins(name, part)?;
                let id = self.bucket.begin_parts(name).await?;
                self.ledger.upload_named(name, &id)?;
                (id, Vec::new())
            }
        };
        let mut there: HashMap<usize, String> = known.into_iter().collect();
        let count = usize::try_from(source.bytes.div_ceil(part)).unwrap_or(usize::MAX);
        let mut parts = Vec::with_capacity(count);
        let mut whole = Context::new(&SHA256);
        for number in 0..count {
            let (content, digest) =
                source.part(part).await.map_err(|error| Error::io("read", &path, &error))?;
            whole = digest;
            let id = match there.remove(&number) {
                Some(id) => id,
                None => {
                    let put = self.bucket.put_part(name, &upload, number, content).await?;
                    let Some(id) = put else {
                        self.ledger.upload_ended(name)?;
                        return Ok(false);
                    };
                    self.ledger.part_there(name, number, &id)?;
                    id
                }
            };
            parts.push(id);
        }
        if let Err(halt) = self.same(&path, whole, sha256) {
            self.give_up(name).await?;
            return Err(halt);
        }
        if self.bucket.join_parts(name, &upload, parts).await? {
            return Ok(true);
        }
        // The answer to an earlier try may have been lost: then the object is there.
        if self.bucket.length(name).await? == Some(source.bytes) {
            return Ok(true);
        }
        self.ledger.upload_ended(name)?;
        Ok(false)
    }

    /// Gives an upload up that was begun before.
    async fn give_up(&self, name: &str) -> Result<(), Halt> {
        match self.ledger.upload(name)? {
            None => return Ok(()),
            Some(Upload { id: Some(id), .. }) => self.bucket.abort_parts(name, &id).await?,
            // It may have been begun without our knowing its name.
            Some(Upload { id: None, .. }) => sweep(&self.bucket, &self.surroundings, name).await,
        }
        self.ledger.upload_ended(name)?;
        Ok(())
    }

    fn same(&self, path: &Path, digest: Context, sha256: Option<&str>) -> Result<(), Halt> {
        let found = hex(digest.finish().as_ref());
        if sha256.is_none_or(|known| known == found) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Data,
            format!("{} was fetched and is not as it was", path.display()),
        )
        .hint("the disk or somebody changed it; begin the export anew at another address")
        .into())
    }
}

/// How large the parts of a file are.
pub(super) fn part_bytes(bytes: u64) -> u64 {
    PART.max(bytes.div_ceil(PARTS).next_multiple_of(1024 * 1024))
}

/// A file that is read part by part, and hashed.
pub(super) struct Source {
    file: Option<(File, Context)>,
    pub(super) bytes: u64,
    pub(super) left: u64,
}

impl Source {
    pub(super) fn open(path: &Path) -> std::io::Result<Source> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Source { file: Some((file, Context::new(&SHA256))), bytes, left: bytes })
    }

    /// The next part, and the digest of everything up to its end.
    pub(super) async fn part(&mut self, most: u64) -> std::io::Result<(Bytes, Context)> {
        let gone = || std::io::Error::other("the file is read no more");
        let (mut file, mut digest) = self.file.take().ok_or_else(gone)?;
        let length = usize::try_from(most.min(self.left)).map_err(std::io::Error::other)?;
        let read = move || {
            let mut content = vec![0; length];
            file.read_exact(&mut content)?;
            digest.update(&content);
            Ok::<_, std::io::Error>((file, digest, content))
        };
        let (file, digest, content) =
            tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)??;
        self.left -= length as u64;
        let after = digest.clone();
        self.file = Some((file, digest));
        Ok((content.into(), after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Keeper;
    use crate::credentials::{Credentials, Policy};
    use crate::http::Transport;
    use crate::model::Clock;

    fn surroundings() -> Surroundings {
        let clock = Clock::system();
        let transport = Arc::new(Transport::new(clock));
        let credentials = Credentials::new(Policy::default());
        let keeper = Keeper::new(None, credentials.clone(), Arc::clone(&transport));
        Surroundings { transport, credentials, keeper, clock }
    }

    /// A file of two and a half parts that waits, and what the ledger knows of it.
    fn scene(folder: &Path) -> (Uploads, Vec<u8>, Done) {
        let content: Vec<u8> = (0..PART * 5 / 2).map(|at| (at % 251) as u8).collect();
        std::fs::write(folder.join("Patient.001.ndjson"), &content).unwrap();
        let done = Done {
            name: "Patient.001.ndjson".into(),
            attempt: 1,
            lines: 1,
            bytes: content.len() as u64,
            content_bytes: content.len() as u64,
            sha256: hex(aws_lc_rs::digest::digest(&SHA256, &content).as_ref()),
            duration_ms: 0,
            retries: 0,
        };
        let ledger = Arc::new(Ledger::begin(&folder.join("ledger")).unwrap());
        let bucket = Bucket::in_memory("s3://bucket/a");
        (Uploads::new(bucket, &ledger, folder, &surroundings()), content, done)
    }

    async fn stored(bucket: &Bucket, name: &str) -> Option<Vec<u8>> {
        bucket.read(name, u64::MAX).await.unwrap().map(|bytes| bytes.to_vec())
    }

    #[tokio::test]
    async fn parts_that_are_there_are_not_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        let (uploads, content, done) = scene(dir.path());
        // What an earlier process left: told apart from what is here by its first byte.
        let (bucket, ledger) = (&uploads.bucket, &uploads.ledger);
        ledger.upload_begins(&done.name, PART).unwrap();
        let id = bucket.begin_parts(&done.name).await.unwrap();
        ledger.upload_named(&done.name, &id).unwrap();
        let mut first = content[..PART as usize].to_vec();
        first[0] ^= 1;
        let part = bucket.put_part(&done.name, &id, 0, first.into()).await.unwrap().unwrap();
        ledger.part_there(&done.name, 0, &part).unwrap();

        uploads.file(1, &done).await.unwrap();
        let mut found = stored(bucket, &done.name).await.unwrap();
        found[0] ^= 1;
        assert!(found == content);
        assert_eq!(ledger.upload(&done.name).unwrap(), None);
        assert!(!dir.path().join(&done.name).exists(), "it waits no longer");
    }

    #[tokio::test]
    async fn what_the_disk_has_changed_never_becomes_an_object() {
        for length in [PART * 5 / 2, 1000] {
            let dir = tempfile::tempdir().unwrap();
            let (uploads, mut content, mut done) = scene(dir.path());
            content.truncate(usize::try_from(length).unwrap());
            done.sha256 = hex(aws_lc_rs::digest::digest(&SHA256, &content).as_ref());
            *content.last_mut().unwrap() ^= 1;
            std::fs::write(dir.path().join(&done.name), &content).unwrap();
            let halt = uploads.file(1, &done).await.unwrap_err();
            assert_eq!(halt.kind, ErrorKind::Data);
            assert_eq!(stored(&uploads.bucket, &done.name).await, None);
            assert_eq!(uploads.ledger.uploads().unwrap(), Vec::<String>::new());
        }
    }
}
