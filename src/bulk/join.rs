//! One file for each type, from the files that the server made.
//!
//! They lie in a folder of their own until all are there. Then, for one type after the other: the
//! joined file reaches the disk, the ledger names it in the place of its parts, it gets its name,
//! the parts go. What is packed is joined as it is: members and frames follow each other.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::digest::{Context, SHA256};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::disk::cannot_write;
use super::halt::Halt;
use super::ledger::{Done, FileRow, Joined, Kind, Ledger, State};
use super::lines::is_type;
use super::seal;
use super::store::{Compression, Out, Packing, hex};
use super::transfer::{Event, Teller};
use crate::model::{Error, ErrorKind, Result};

/// Where parts wait for the others.
pub const FOLDER: &str = "parts";
/// The same, before a name.
pub const PLACE: &str = "parts/";

/// Whether a file's name is that of a part.
#[must_use]
pub fn is_part(name: &str) -> bool {
    name.starts_with(PLACE)
}

/// Joins what is there, unless something is missing.
///
/// # Errors
/// Exit 75 when the disk is full, 65 when a part is not as it was.
pub fn join(
    folder: &Path,
    ledger: &Ledger,
    compression: Compression,
    teller: &Teller,
    stop: &AtomicBool,
) -> Result<(), Halt> {
    let mut groups: Vec<Vec<FileRow>> = Vec::new();
    let mut is_missing = false;
    let mut has_mixed = false;
    ledger.each_file(&mut |file| {
        if file.kind != Kind::Output || file.state == State::Joined || file.holds_others() {
            return Ok(());
        }
        is_missing |= file.state != State::There;
        has_mixed |= !is_type(&file.resource_type);
        match groups.last_mut() {
            Some(group) if group[0].resource_type == file.resource_type => group.push(file),
            _ => groups.push(vec![file]),
        }
        Ok(())
    })?;
    if is_missing {
        return Ok(());
    }
    if has_mixed {
        groups = vec![groups.into_iter().flatten().collect()];
    }
    for parts in groups {
        let joining = Joining { folder, compression, teller, stop, out: BTreeMap::new() };
        joining.group(ledger, &parts, !has_mixed)?;
    }
    let _ = std::fs::remove_dir(folder.join(FOLDER));
    Ok(())
}

struct Joining<'a> {
    folder: &'a Path,
    compression: Compression,
    teller: &'a Teller,
    stop: &'a AtomicBool,
    /// By type.
    out: BTreeMap<String, Target>,
}

/// A file that grows.
struct Target {
    name: String,
    packing: Packing,
    joined: Joined,
    lines: u64,
}

impl Joining<'_> {
    fn group(mut self, ledger: &Ledger, parts: &[FileRow], is_typed: bool) -> Result<(), Halt> {
        for part in parts {
            let Some(done) = &part.done else { continue };
            (self.teller)(&Event::Joining { name: done.name.clone() });
            match is_typed {
                true => self.append(part, done)?,
                false => self.scatter(done)?,
            }
        }
        let mut names = Vec::new();
        let mut all = Vec::new();
        for (_, target) in std::mem::take(&mut self.out) {
            let path = seal::temporary(self.folder, &target.name);
            let end = || {
                let (file, bytes, sha256) = target.packing.finish()?.end()?;
                file.sync_all()?;
                Ok((bytes, sha256))
            };
            let (bytes, sha256) = end().map_err(|error| cannot_write(&path, &error))?;
            let mut joined = target.joined;
            (joined.done.bytes, joined.done.sha256) = (bytes, sha256);
            names.push(target.name);
            all.push(joined);
        }
        let scattered: Vec<u32> = match is_typed {
            true => Vec::new(),
            false => parts.iter().map(|part| part.id).collect(),
        };
        ledger.joined(&all, &scattered)?;
        seal::name(self.folder, names.iter().map(String::as_str))?;
        for done in parts.iter().filter_map(|part| part.done.as_ref()) {
            let path = self.folder.join(&done.name);
            std::fs::remove_file(&path).map_err(|error| Error::io("remove", &path, &error))?;
        }
        Ok(())
    }

    /// Puts a part behind those of its type, as it is.
    fn append(&mut self, part: &FileRow, done: &Done) -> Result<(), Halt> {
        let compression = self.compression;
        // What is packed stays so: nothing packs it again.
        let raw = Compression::None;
        let (path, stop) = (self.folder.join(&done.name), self.stop);
        let target = target(self, &part.resource_type, raw)?;
        let Packing::Plain(out) = &mut target.packing else {
            return Err(Error::internal("a part is put into what packs it again").into());
        };
        let mut source = Source::open(&path, done, Some(out), stop)?;
        let seen = source.count(compression).map_err(|error| source.broken(&path, &error))?;
        source.check(&path, done)?;
        let mut lines = seen.lines;
        if seen.is_open {
            // The next one begins on a line of its own.
            lines += 1;
            let end = newline(compression).and_then(|end| out.write_all(&end));
            end.map_err(|error| cannot_write(&path, &error))?;
        }
        let joined = &mut target.joined;
        joined.parts.push((part.id, target.lines));
        joined.expected = joined.expected.zip(part.expected).map(|(all, more)| all + more);
        joined.done.lines += done.lines;
        joined.done.content_bytes += done.content_bytes + u64::from(seen.is_open);
        joined.done.duration_ms += done.duration_ms;
        joined.done.retries += done.retries;
        target.lines += lines;
        Ok(())
    }

    /// Puts each line of a part behind those of its type.
    fn scatter(&mut self, done: &Done) -> Result<(), Halt> {
        let path = self.folder.join(&done.name);
        let compression = self.compression;
        let mut source = Source::open(&path, done, None, self.stop)?;
        let mut line = Vec::new();
        {
            let mut content = source
                .content(compression)
                .map_err(|error| Halt::from(Error::io("read", &path, &error)))?;
            loop {
                line.clear();
                let read = content
                    .read_until(b'\n', &mut line)
                    .map_err(|error| Halt::from(Error::io("read", &path, &error)))?;
                if read == 0 {
                    break;
                }
                if line.last() != Some(&b'\n') {
                    line.push(b'\n');
                }
                let name = type_of(&line);
                let target = target(self, &name, compression)?;
                target.packing.write_all(&line).map_err(|error| cannot_write(&path, &error))?;
                target.lines += 1;
                target.joined.expected = None;
                target.joined.done.content_bytes += line.len() as u64;
                if is_type(&name) && name != "Parameters" {
                    target.joined.done.lines += 1;
                }
            }
        }
        source.check(&path, done)
    }
}

/// The file of a type, begun where there is none yet.
fn target<'a>(
    joining: &'a mut Joining<'_>,
    resource_type: &str,
    packing: Compression,
) -> Result<&'a mut Target, Halt> {
    let plain = if is_type(resource_type) { resource_type } else { "resources" };
    let name = format!("{plain}.ndjson{}", joining.compression.suffix());
    match joining.out.entry(resource_type.to_owned()) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(new) => {
            let path = seal::temporary(joining.folder, &name);
            let packing = Out::create(&path).and_then(|out| Packing::new(out, packing));
            let packing = packing.map_err(|error| cannot_write(&path, &error))?;
            let done = Done {
                name: name.clone(),
                attempt: 0,
                lines: 0,
                bytes: 0,
                content_bytes: 0,
                sha256: String::new(),
                duration_ms: 0,
                retries: 0,
            };
            let resource_type = resource_type.to_owned();
            let joined = Joined { resource_type, expected: Some(0), done, parts: Vec::new() };
            Ok(new.insert(Target { name, packing, joined, lines: 0 }))
        }
    }
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "resourceType")]
    resource_type: String,
}

/// The type of a line's resource; empty for what is none.
fn type_of(line: &[u8]) -> String {
    serde_json::from_slice::<Head>(line)
        .ok()
        .map(|head| head.resource_type)
        .filter(|name| is_type(name))
        .unwrap_or_default()
}

/// An end of line, packed like the rest.
fn newline(compression: Compression) -> std::io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(b"\n".to_vec()),
        Compression::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            encoder.write_all(b"\n")?;
            encoder.finish()
        }
        Compression::Zstd => zstd::stream::encode_all(&b"\n"[..], 3),
    }
}

/// A part that is read, hashed, and copied as it is where that is wanted.
struct Source<'a> {
    file: File,
    digest: Context,
    bytes: u64,
    copy: Option<&'a mut Out>,
    /// Set where it was the copy that could not be written.
    copy_failed: bool,
    stop: &'a AtomicBool,
}

struct Counted {
    lines: u64,
    /// Whether the last line has no end.
    is_open: bool,
}

impl<'a> Source<'a> {
    fn open(
        path: &Path,
        done: &Done,
        copy: Option<&'a mut Out>,
        stop: &'a AtomicBool,
    ) -> Result<Source<'a>, Halt> {
        let file = File::open(path).map_err(|error| changed(path, done, &error.to_string()))?;
        let digest = Context::new(&SHA256);
        Ok(Source { file, digest, bytes: 0, copy, copy_failed: false, stop })
    }

    fn content(&mut self, compression: Compression) -> std::io::Result<Box<dyn BufRead + '_>> {
        let packed = BufReader::with_capacity(BUFFER, self);
        Ok(match compression {
            Compression::None => Box::new(packed),
            Compression::Gzip => {
                Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(packed)))
            }
            Compression::Zstd => Box::new(BufReader::with_capacity(
                BUFFER,
                zstd::stream::read::Decoder::with_buffer(packed)?,
            )),
        })
    }

    fn count(&mut self, compression: Compression) -> std::io::Result<Counted> {
        let mut counted = Counted { lines: 0, is_open: false };
        let mut content = self.content(compression)?;
        loop {
            let bytes = content.fill_buf()?;
            let Some(last) = bytes.last() else { return Ok(counted) };
            counted.lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
            counted.is_open = *last != b'\n';
            let length = bytes.len();
            content.consume(length);
        }
    }

    fn broken(&self, path: &Path, error: &std::io::Error) -> Halt {
        match self.copy_failed {
            true => cannot_write(path, error).into(),
            false => Error::io("read", path, error).into(),
        }
    }

    /// Holds what was read against what was received.
    fn check(self, path: &Path, done: &Done) -> Result<(), Halt> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Halt::later(
                "bulk.interrupted",
                "stopped; everything that was done is kept",
            ));
        }
        let is_same = self.bytes == done.bytes && hex(self.digest.finish().as_ref()) == done.sha256;
        match is_same {
            true => Ok(()),
            false => Err(changed(path, done, "its digest differs")),
        }
    }
}

/// What is read at once, in bytes.
const BUFFER: usize = 256 * 1024;

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let read = self.file.read(buffer)?;
        self.digest.update(&buffer[..read]);
        self.bytes += read as u64;
        if let Some(copy) = &mut self.copy {
            let copied = copy.write_all(&buffer[..read]);
            self.copy_failed = copied.is_err();
            copied?;
        }
        Ok(read)
    }
}

fn changed(path: &Path, done: &Done, what: &str) -> Halt {
    Error::new(
        ErrorKind::Data,
        format!(
            "{} was fetched with {} bytes and is not as it was: {what}",
            path.display(),
            done.bytes
        ),
    )
    .hint("somebody changed or removed it; begin the export anew in another folder")
    .into()
}
