//! Whole files from and to an object store, for work that begins anew when it is interrupted.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};

use super::super::disk::cannot_write;
use super::super::halt::Halt;
use super::super::store::hex;
use super::bucket::Bucket;
use super::sweep::sweep;
use super::upload::{PART, Source, part_bytes};
use crate::auth::Surroundings;
use crate::model::{Error, ErrorKind};

/// Brings files there and back.
pub struct Courier {
    bucket: Bucket,
    surroundings: Surroundings,
}

impl Courier {
    #[must_use]
    pub fn new(bucket: Bucket, surroundings: &Surroundings) -> Courier {
        Courier { bucket, surroundings: surroundings.clone() }
    }

    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Fetches an object into a file; gives its bytes and SHA-256.
    ///
    /// # Errors
    /// Exit 65 when it is not there, what the store or the disk say.
    pub async fn fetch(&self, name: &str, path: &Path) -> Result<(u64, String), Halt> {
        let broken = |error: std::io::Error| Halt::from(cannot_write(path, &error));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(broken)?;
        let mut out = BufWriter::with_capacity(256 * 1024, file);
        let mut digest = Context::new(&SHA256);
        let mut bytes = 0;
        let mut take = |piece: &[u8]| {
            digest.update(piece);
            bytes += piece.len() as u64;
            out.write_all(piece).map_err(broken)
        };
        if !self.bucket.stream(name, &mut take).await? {
            let object = self.bucket.address().object(name);
            return Err(Error::new(ErrorKind::Data, format!("{object} is not there any more"))
                .hint("somebody removed it; run once with --full to begin from the whole")
                .into());
        }
        out.flush().map_err(broken)?;
        Ok((bytes, hex(digest.finish().as_ref())))
    }

    /// Brings a file there, as one object or not at all; gives its bytes and SHA-256.
    ///
    /// # Errors
    /// What the store or the disk say.
    pub async fn bring(&self, path: &Path, name: &str) -> Result<(u64, String), Halt> {
        let broken = |error: std::io::Error| Halt::from(Error::io("read", path, &error));
        let mut source = Source::open(path).map_err(broken)?;
        let bytes = source.bytes;
        let digest = if bytes <= PART {
            let (content, digest) = source.part(bytes).await.map_err(broken)?;
            self.bucket.put(name, content).await?;
            digest
        } else {
            // Parts of a try that was killed would stay there for good.
            sweep(&self.bucket, &self.surroundings, name).await;
            let upload = self.bucket.begin_parts(name).await?;
            let sent = self.parts(&mut source, path, name, &upload).await;
            if sent.is_err() {
                let _ = self.bucket.abort_parts(name, &upload).await;
            }
            sent?
        };
        if self.bucket.length(name).await? != Some(bytes) {
            return Err(self.forgotten(name));
        }
        Ok((bytes, hex(digest.finish().as_ref())))
    }

    async fn parts(
        &self,
        source: &mut Source,
        path: &Path,
        name: &str,
        upload: &str,
    ) -> Result<Context, Halt> {
        let part = part_bytes(source.bytes);
        let mut parts = Vec::new();
        loop {
            let (content, digest) =
                source.part(part).await.map_err(|error| Error::io("read", path, &error))?;
            let put = self.bucket.put_part(name, upload, parts.len(), content).await?;
            parts.push(put.ok_or_else(|| self.forgotten(name))?);
            if source.left == 0 {
                return match self.bucket.join_parts(name, upload, parts).await? {
                    true => Ok(digest),
                    false => Err(self.forgotten(name)),
                };
            }
        }
    }

    fn forgotten(&self, name: &str) -> Halt {
        Halt::later(
            "bulk.store_failed",
            format!("{} is not there after it was written", self.bucket.address().object(name)),
        )
        .hint("run the same command again: what is done stays done")
    }
}
