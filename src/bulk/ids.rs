//! The ids of every resource, as hashes on the disk: twins are found among millions without
//! keeping them in memory.
//!
//! A record names hash, file, attempt and line. What an attempt that failed has left behind is told
//! from the rest by its number.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};

use super::disk::cannot_write;
use super::ledger::Kind;
use crate::model::{Error, Result};

/// Hash (16), file (4), attempt (8), line (4).
const RECORD: usize = 32;
/// Records that are sorted at once: 16 MiB,
const AT_ONCE: u64 = 512 * 1024;
/// and halves of their hashes: as much.
const HALVES_AT_ONCE: u64 = 2 * 1024 * 1024;
/// Records of one file are written in blocks of so many bytes.
const BLOCK: usize = 32 * 1024;

/// The file of all ids of an export. Cheap to clone; clones write to the same file.
#[derive(Clone)]
pub struct IdFile {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

impl IdFile {
    /// Opens it, or begins one; what a crash has cut is taken off.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(folder: &Path) -> Result<IdFile> {
        let path = folder.join("ids");
        let open = || {
            let file =
                OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
            let length = file.metadata()?.len();
            file.set_len(length - length % RECORD as u64)?;
            Ok(file)
        };
        let file = open().map_err(|error| cannot_write(&path, &error))?;
        Ok(IdFile { path: path.clone(), file: Arc::new(Mutex::new(file)) })
    }

    /// Takes the ids of one attempt at one file.
    #[must_use]
    pub fn of(&self, file: u32, attempt: u64) -> Ids {
        Ids { out: self.clone(), file, attempt, block: Vec::new(), name: Vec::new() }
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn sync(&self) -> std::io::Result<()> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).sync_data()
    }

    fn append(&self, block: &[u8]) -> std::io::Result<()> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(block)
    }

    /// Finds ids that stand twice in output, and those that are both there and deleted.
    ///
    /// `counts` says of a file's attempt whether it is the one that is kept, and of which kind.
    ///
    /// # Errors
    /// Exit 74 when the file cannot be read.
    pub fn twins(&self, counts: &dyn Fn(u32, u64) -> Option<Kind>, most: usize) -> Result<Twins> {
        let broken = |error: std::io::Error| Error::io("read", &self.path, &error);
        let length = std::fs::metadata(&self.path).map_err(broken)?.len();
        // Where halves of hashes differ there are no twins, which is what nearly every export has.
        if let Some(distinct) = self.all_differ(length, counts).map_err(broken)? {
            return Ok(Twins { distinct, ..Twins::default() });
        }
        let passes = passes(length, AT_ONCE);
        let mut twins = Twins::default();
        for pass in 0..passes {
            let mut records = Vec::with_capacity(room(length, passes));
            self.records(pass, passes, counts, |hash, is_deleted, file, line| {
                records.push((hash, is_deleted, file, line));
            })
            .map_err(broken)?;
            records.sort_unstable();
            let mut at = 0;
            while at < records.len() {
                let same = records[at..].iter().take_while(|it| it.0 == records[at].0).count();
                twins.note(&records[at..at + same], most);
                at += same;
            }
        }
        twins.places.sort_unstable();
        twins.contradictions.sort_unstable();
        Ok(twins)
    }

    /// How many resources are there, if no two have the same half of a hash, and none is deleted.
    fn all_differ(
        &self,
        length: u64,
        counts: &dyn Fn(u32, u64) -> Option<Kind>,
    ) -> std::io::Result<Option<u64>> {
        let passes = passes(length, HALVES_AT_ONCE);
        let mut distinct = 0;
        for pass in 0..passes {
            let mut halves = Vec::with_capacity(room(length, passes));
            let mut has_deleted = false;
            self.records(pass, passes, counts, |hash, is_deleted, _, _| {
                has_deleted |= is_deleted;
                halves.push((hash >> 64) as u64);
            })?;
            halves.sort_unstable();
            if has_deleted || halves.windows(2).any(|two| two[0] == two[1]) {
                return Ok(None);
            }
            distinct += halves.len() as u64;
        }
        Ok(Some(distinct))
    }

    /// Visits those of one pass: hash, whether it is deleted, file, line.
    fn records(
        &self,
        pass: u64,
        passes: u64,
        counts: &dyn Fn(u32, u64) -> Option<Kind>,
        mut visit: impl FnMut(u128, bool, u32, u32),
    ) -> std::io::Result<()> {
        let mut input = File::open(&self.path)?;
        let mut block = vec![0; 8192 * RECORD];
        let mut filled = 0;
        // Records of one file come in blocks: it is asked for once a block.
        let mut last: Option<((u32, u64), Option<Kind>)> = None;
        loop {
            match input.read(&mut block[filled..]) {
                Ok(0) => return Ok(()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let (records, _) = block[..filled].as_chunks::<RECORD>();
            let whole = records.len() * RECORD;
            for record in records {
                let (hash, file, attempt, line) = unpack(record);
                if hash as u64 % passes != pass {
                    continue;
                }
                let kind = match last {
                    Some((known, kind)) if known == (file, attempt) => kind,
                    _ => {
                        let kind = counts(file, attempt);
                        last = Some(((file, attempt), kind));
                        kind
                    }
                };
                match kind {
                    Some(Kind::Output) => visit(hash, false, file, line),
                    Some(Kind::Deleted) => visit(hash, true, file, line),
                    _ => {}
                }
            }
            block.copy_within(whole..filled, 0);
            filled -= whole;
        }
    }
}

/// In how many passes a file of so many bytes is looked through.
fn passes(length: u64, at_once: u64) -> u64 {
    (length / RECORD as u64).div_ceil(at_once).max(1)
}

/// How many records a pass may have: hashes fall evenly, and a list that grows by doubling would need
/// three times its room.
fn room(length: u64, passes: u64) -> usize {
    let share = length / RECORD as u64 / passes;
    usize::try_from(share + share / 16 + 1024).unwrap_or_default()
}

/// What stands twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Twins {
    /// File and line of those that came before: the first ones in order.
    pub places: Vec<(u32, u32)>,
    pub count: u64,
    /// File and line in output of what is deleted too.
    pub contradictions: Vec<(u32, u32)>,
    pub contradiction_count: u64,
    /// Different resources.
    pub distinct: u64,
}

impl Twins {
    fn note(&mut self, same: &[(u128, bool, u32, u32)], most: usize) {
        let output: Vec<_> = same.iter().filter(|it| !it.1).collect();
        if output.is_empty() {
            return;
        }
        self.distinct += 1;
        for twin in &output[1..] {
            self.count += 1;
            keep(&mut self.places, (twin.2, twin.3), most);
        }
        if output.len() < same.len() {
            self.contradiction_count += 1;
            keep(&mut self.contradictions, (output[0].2, output[0].3), most);
        }
    }
}

/// Keeps the smallest ones: what is told does not depend on the order of hashes.
fn keep(places: &mut Vec<(u32, u32)>, place: (u32, u32), most: usize) {
    if places.len() < most {
        places.push(place);
    } else if let Some(largest) = places.iter_mut().max()
        && place < *largest
    {
        *largest = place;
    }
}

/// The ids of one attempt at one file, on their way to the disk.
pub struct Ids {
    out: IdFile,
    file: u32,
    attempt: u64,
    block: Vec<u8>,
    /// Of the resource that is being added.
    name: Vec<u8>,
}

impl Ids {
    /// # Errors
    /// When the disk says no.
    pub fn add(&mut self, resource_type: &str, id: &str, line: u64) -> std::io::Result<()> {
        // One call over one piece: there are millions of them.
        self.name.clear();
        self.name.extend_from_slice(resource_type.as_bytes());
        self.name.push(b'/');
        self.name.extend_from_slice(id.as_bytes());
        let digest = digest(&SHA256, &self.name);
        self.block.extend_from_slice(&digest.as_ref()[..16]);
        self.block.extend_from_slice(&self.file.to_le_bytes());
        self.block.extend_from_slice(&self.attempt.to_le_bytes());
        self.block.extend_from_slice(&u32::try_from(line).unwrap_or(u32::MAX).to_le_bytes());
        if self.block.len() >= BLOCK {
            self.out.append(&self.block)?;
            self.block.clear();
        }
        Ok(())
    }

    /// # Errors
    /// When the disk says no.
    pub fn finish(&mut self) -> std::io::Result<()> {
        self.out.append(&std::mem::take(&mut self.block))
    }
}

fn unpack(record: &[u8; RECORD]) -> (u128, u32, u64, u32) {
    let mut hash = [0; 16];
    hash.copy_from_slice(&record[..16]);
    let mut file = [0; 4];
    file.copy_from_slice(&record[16..20]);
    let mut attempt = [0; 8];
    attempt.copy_from_slice(&record[20..28]);
    let mut line = [0; 4];
    line.copy_from_slice(&record[28..]);
    (
        u128::from_le_bytes(hash),
        u32::from_le_bytes(file),
        u64::from_le_bytes(attempt),
        u32::from_le_bytes(line),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_are_found_across_files_and_failed_attempts_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let all = IdFile::open(dir.path()).unwrap();
        for (file, attempt, ids) in [
            (1, 10, vec!["a", "b", "c"]),
            (2, 11, vec!["a"]),
            (2, 12, vec!["d", "b", "d"]),
            (3, 13, vec!["c", "z"]),
        ] {
            let mut out = all.of(file, attempt);
            for (id, line) in ids.iter().zip(1..) {
                out.add("Patient", id, line).unwrap();
            }
            out.finish().unwrap();
        }
        let counts = |file: u32, attempt: u64| match (file, attempt) {
            (1, 10) | (2, 12) => Some(Kind::Output),
            (3, 13) => Some(Kind::Deleted),
            _ => None,
        };
        let twins = all.twins(&counts, 100).unwrap();
        assert_eq!(twins.places, [(2, 2), (2, 3)]);
        assert_eq!((twins.count, twins.distinct), (2, 4));
        assert_eq!(
            (twins.contradictions.as_slice(), twins.contradiction_count),
            (&[(1, 3)][..], 1)
        );
    }

    #[test]
    fn where_all_differ_they_are_counted_whatever_blocks_they_are_read_in() {
        let dir = tempfile::tempdir().unwrap();
        let all = IdFile::open(dir.path()).unwrap();
        let mut out = all.of(1, 1);
        // More than one block of a read, and no whole number of them.
        for line in 1..=20_001 {
            out.add("Patient", &line.to_string(), line).unwrap();
        }
        out.finish().unwrap();
        let twins = |all: &IdFile| all.twins(&|_, _| Some(Kind::Output), 100).unwrap();
        assert_eq!(twins(&all), Twins { distinct: 20_001, ..Twins::default() });
        let mut again = all.of(2, 1);
        again.add("Patient", "20001", 5).unwrap();
        again.finish().unwrap();
        let found = twins(&all);
        assert_eq!((found.places, found.distinct), (vec![(2, 5)], 20_001));
    }

    #[test]
    fn what_a_crash_has_cut_is_taken_off() {
        let dir = tempfile::tempdir().unwrap();
        let all = IdFile::open(dir.path()).unwrap();
        let mut out = all.of(1, 1);
        out.add("Patient", "a", 1).unwrap();
        out.finish().unwrap();
        all.append(b"half").unwrap();
        let again = IdFile::open(dir.path()).unwrap();
        let mut out = again.of(2, 2);
        out.add("Patient", "a", 7).unwrap();
        out.finish().unwrap();
        let twins = again.twins(&|_, _| Some(Kind::Output), 100).unwrap();
        assert_eq!(twins.places, [(2, 7)]);
    }
}
