//! An export in an object store, held against its receipt: every object is read, nothing is kept.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use futures_util::stream::{self, StreamExt as _};
use serde_json::Value;

use super::super::halt::Halt;
use super::super::receipt::{self, NAME, Verified};
use super::super::store::hex;
use super::bucket::Bucket;
use crate::model::Error;

/// How many objects are read at once.
const AT_ONCE: usize = 8;
/// Most bytes of a receipt: that of a few million files.
const RECEIPT_BYTES: u64 = 2 << 30;

/// Holds what is below an address against its receipt: every object with its bytes and digest,
/// nothing missing and nothing added.
///
/// # Errors
/// Exit 66 when there is no receipt or no bucket, 65 when the receipt is none, 75 when the store
/// does not answer, 77 when it refuses.
pub async fn verify(bucket: &Bucket, step: &(dyn Fn() + Sync)) -> Result<Verified, Halt> {
    let shown = bucket.address().object(NAME);
    let Some(bytes) = bucket.read(NAME, RECEIPT_BYTES).await? else {
        return Err(Error::not_found(format!("there is no {shown}"))
            .hint("an export holds one when it is done")
            .into());
    };
    let (receipt, mut verified) = receipt::understand(&String::from_utf8_lossy(&bytes), &shown)?;
    drop(bytes);
    let mut known = HashSet::from([PathBuf::from(NAME)]);
    let files = receipt::files(&receipt, &mut known, &mut verified);
    let mut read = stream::iter(files)
        .map(|said| async move { (said, digest_of(bucket, name_of(said)).await) })
        .buffered(AT_ONCE);
    while let Some((said, found)) = read.next().await {
        step();
        match found? {
            None => verified.problem(Some(name_of(said)), "the object is missing"),
            Some((bytes, sha256)) => {
                receipt::judge(name_of(said), said, bytes, &sha256, &mut verified);
            }
        }
    }
    drop(read);
    receipt::complain_of_missing(&receipt, &mut verified);
    let is_complete = verified.status.as_deref() != Some("incomplete");
    let mut strangers = Vec::new();
    bucket
        .list(&mut |found| {
            // Consoles make an empty object of a folder's name.
            let is_folder = found.name.is_empty() || found.name.ends_with('/');
            let is_known = known.contains(Path::new(&found.name));
            if !is_folder && !is_known && !receipt::is_own(&found.name, is_complete) {
                strangers.push(found.name);
            }
            strangers.len() < 10_000
        })
        .await?;
    strangers.sort_unstable();
    for name in strangers {
        verified.problem(Some(&name), "the receipt does not know this object");
    }
    Ok(verified)
}

fn name_of(said: &Value) -> &str {
    said["name"].as_str().unwrap_or_default()
}

async fn digest_of(bucket: &Bucket, name: &str) -> Result<Option<(u64, String)>, Halt> {
    let mut digest = Context::new(&SHA256);
    let mut bytes = 0;
    let mut take = |piece: &[u8]| {
        digest.update(piece);
        bytes += piece.len() as u64;
        Ok(())
    };
    let is_there = bucket.stream(name, &mut take).await?;
    Ok(is_there.then(|| (bytes, hex(digest.finish().as_ref()))))
}
