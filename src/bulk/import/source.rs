//! The files that are imported, read line by line in bounded memory.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Cursor, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use memchr::memchr;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::bulk::disk::{cannot_write, private_folder};
use crate::model::{Error, ErrorKind, Result};

/// How deep folders are searched.
const DEPTH: usize = 8;
const READ_AHEAD: usize = 256 * 1024;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub path: PathBuf,
    /// As it is told to people: as they named it.
    pub shown: String,
    pub bytes: u64,
    /// Nanoseconds since 1970.
    pub modified: u128,
    /// Bundles of deletions, as an export writes them.
    pub is_deletions: bool,
    /// Of standard input: what it holds, since it has no name and no time.
    pub digest: Option<String>,
}

impl Input {
    /// Tells this content from any other, as far as can be told without reading it.
    #[must_use]
    pub fn identity(&self) -> String {
        match &self.digest {
            Some(digest) => format!("sha256:{digest}"),
            None => format!("{}:{}:{}", self.path.display(), self.bytes, self.modified),
        }
    }

    /// # Errors
    /// Exit 65 when it is not what it was.
    pub fn check_unchanged(&self) -> Result<()> {
        let facts =
            fs::metadata(&self.path).map_err(|error| Error::io("read", &self.path, &error))?;
        if facts.len() == self.bytes && modified(&facts) == self.modified {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Data, format!("{} was changed meanwhile", self.shown))
            .hint("run the command again once nobody writes to it: it is then a new import"))
    }
}

fn modified(facts: &fs::Metadata) -> u128 {
    let since = facts.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos())
}

/// The files that are named or lie in folders that are, sorted within each folder.
///
/// What an export leaves beside its data is left aside: the receipt, `error/`, and, unless
/// deletions are to be applied, `deleted/`.
///
/// # Errors
/// Exit 66 when one is not there or there is none, 64 when a file is named twice.
pub fn collect(named: &[PathBuf], apply_deleted: bool) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for path in named {
        let facts = fs::metadata(path).map_err(|error| Error::io("read", path, &error))?;
        if facts.is_dir() {
            let before = inputs.len();
            folder(path, DEPTH, apply_deleted, false, &mut inputs)?;
            if inputs.len() == before {
                return Err(Error::not_found(format!(
                    "{} holds no .ndjson, .ndjson.gz or .ndjson.zst",
                    path.display()
                )));
            }
        } else {
            let in_deleted =
                path.parent().and_then(Path::file_name).is_some_and(|it| it == "deleted");
            inputs.push(input(path, &facts, in_deleted && apply_deleted)?);
        }
    }
    let mut known = std::collections::HashSet::new();
    for input in &inputs {
        if !known.insert(&input.path) {
            return Err(Error::usage(format!("{} is named twice", input.shown)));
        }
    }
    Ok(inputs)
}

fn folder(
    path: &Path,
    depth: usize,
    apply_deleted: bool,
    is_deletions: bool,
    inputs: &mut Vec<Input>,
) -> Result<()> {
    let broken = |error: &std::io::Error| Error::io("read", path, error);
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| broken(&error))? {
        entries.push(entry.map_err(|error| broken(&error))?.path());
    }
    entries.sort();
    for entry in entries {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let facts = fs::metadata(&entry).map_err(|error| Error::io("read", &entry, &error))?;
        if facts.is_dir() {
            let is_left_aside = name == "error" || (name == "deleted" && !apply_deleted);
            if !is_left_aside && depth > 0 {
                let deletes = is_deletions || name == "deleted";
                folder(&entry, depth - 1, apply_deleted, deletes, inputs)?;
            }
        } else if is_ndjson(&name) {
            inputs.push(input(&entry, &facts, is_deletions)?);
        }
    }
    Ok(())
}

fn is_ndjson(name: &str) -> bool {
    // `log.ndjson` tells what an export did.
    name != "log.ndjson"
        && [".ndjson", ".ndjson.gz", ".ndjson.zst"].iter().any(|end| name.ends_with(end))
}

fn input(path: &Path, facts: &fs::Metadata, is_deletions: bool) -> Result<Input> {
    let whole = fs::canonicalize(path).map_err(|error| Error::io("read", path, &error))?;
    Ok(Input {
        path: whole,
        shown: path.display().to_string(),
        bytes: facts.len(),
        modified: modified(facts),
        is_deletions,
        digest: None,
    })
}

/// Keeps what comes from standard input in a folder: an import that is interrupted needs it again.
///
/// # Errors
/// Exit 74 when it cannot be read, 73 or 75 when it cannot be kept.
pub fn keep_stream(stream: &mut dyn Read, folder: &Path) -> Result<Input> {
    private_folder(folder)?;
    let path = folder.join(format!("stdin-{}", uuid::Uuid::new_v4()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| cannot_write(&path, &error))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; READ_AHEAD];
    let copied: Result<()> = loop {
        let read = match stream.read(&mut buffer) {
            Ok(0) => break file.sync_all().map_err(|error| cannot_write(&path, &error)),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => break Err(Error::io("read", Path::new("standard input"), &error)),
        };
        digest.update(&buffer[..read]);
        if let Err(error) = file.write_all(&buffer[..read]) {
            break Err(cannot_write(&path, &error));
        }
    };
    // A fixed name, so that the same content finds the same import.
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let kept = folder.join(format!("stdin-{digest}.ndjson"));
    let moved =
        copied.and_then(|()| fs::rename(&path, &kept).map_err(|error| cannot_write(&kept, &error)));
    if let Err(error) = moved {
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    let facts = fs::metadata(&kept).map_err(|error| Error::io("read", &kept, &error))?;
    Ok(Input {
        shown: "standard input".to_owned(),
        digest: Some(digest),
        ..input(&kept, &facts, false)?
    })
}

/// The bytes of a file, unpacked.
///
/// # Errors
/// When it cannot be opened.
pub fn content(input: &Input) -> Result<Box<dyn Read + Send>> {
    let broken = |error: &std::io::Error| Error::io("read", &input.path, error);
    let mut file = File::open(&input.path).map_err(|error| broken(&error))?;
    let mut head = Vec::new();
    (&mut file).take(4).read_to_end(&mut head).map_err(|error| broken(&error))?;
    let (is_gzip, is_zstd) = (head.starts_with(b"\x1f\x8b"), head == b"\x28\xb5\x2f\xfd");
    let whole = Cursor::new(head).chain(file);
    Ok(if is_gzip {
        Box::new(flate2::read::MultiGzDecoder::new(whole))
    } else if is_zstd {
        Box::new(zstd::stream::read::Decoder::new(whole).map_err(|error| broken(&error))?)
    } else {
        Box::new(whole)
    })
}

/// A line as it was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    Text(&'a [u8]),
    TooLong,
}

/// Reads lines, unpacking gzip and Zstandard by what the file begins with.
pub struct Lines {
    input: BufReader<Box<dyn Read + Send>>,
    max_line: usize,
    number: u64,
    line: Vec<u8>,
}

impl Lines {
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(input: &Input, max_line: usize) -> Result<Lines> {
        let input = BufReader::with_capacity(READ_AHEAD, content(input)?);
        Ok(Lines { input, max_line, number: 0, line: Vec::new() })
    }

    /// The next line with its number, which counts from 1.
    ///
    /// # Errors
    /// As the system says; a file that is cut short among it.
    pub fn next_line(&mut self) -> std::io::Result<Option<(u64, Line<'_>)>> {
        if self.line.capacity() > 1024 * 1024 {
            // One long line is no reason to keep its room.
            self.line = Vec::new();
        }
        self.line.clear();
        let mut is_begun = false;
        let mut is_too_long = false;
        loop {
            let bytes = match self.input.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if bytes.is_empty() {
                if !is_begun {
                    return Ok(None);
                }
                break;
            }
            is_begun = true;
            let end = memchr(b'\n', bytes);
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + piece.len() > self.max_line {
                is_too_long = true;
                self.line = Vec::new();
            } else if !is_too_long {
                self.line.extend_from_slice(piece);
            }
            let used = end.map_or(bytes.len(), |end| end + 1);
            self.input.consume(used);
            if end.is_some() {
                break;
            }
        }
        self.number += 1;
        if is_too_long {
            return Ok(Some((self.number, Line::TooLong)));
        }
        let mut line = self.line.as_slice();
        if self.number == 1 {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        Ok(Some((self.number, Line::Text(line.trim_ascii()))))
    }
}

/// What a line holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Held<'a> {
    Resource {
        resource_type: String,
        id: Option<String>,
        text: &'a str,
    },
    Blank,
    /// Our words.
    Bad(String),
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "resourceType", default)]
    resource_type: Option<String>,
    #[serde(default)]
    id: Option<String>,
}

/// Looks at a line.
#[must_use]
pub fn held<'a>(line: &Line<'a>, max_line: usize) -> Held<'a> {
    let line = match line {
        Line::Text(line) => *line,
        Line::TooLong => {
            return Held::Bad(format!("the line is longer than {} MiB", max_line >> 20));
        }
    };
    if line.is_empty() {
        return Held::Blank;
    }
    let Ok(text) = std::str::from_utf8(line) else {
        return Held::Bad("the line is not UTF-8".to_owned());
    };
    let head: Head = match serde_json::from_str(text) {
        Ok(head) => head,
        Err(error) if error.is_eof() => {
            return Held::Bad("the line ends in the middle of a JSON object".to_owned());
        }
        Err(error) => {
            let column = error.column();
            return Held::Bad(format!("the line is not a JSON object of FHIR (column {column})"));
        }
    };
    // A list parses as the fields of an object in their order.
    let resource_type = head.resource_type.filter(|_| text.starts_with('{'));
    match resource_type {
        Some(resource_type) if crate::bulk::lines::is_type(&resource_type) => {
            Held::Resource { resource_type, id: head.id, text }
        }
        _ => Held::Bad("the line has no resourceType".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], max_line: usize) -> Vec<(u64, Option<String>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.ndjson");
        fs::write(&path, bytes).unwrap();
        let input = collect(&[path], false).unwrap().remove(0);
        let mut lines = Lines::open(&input, max_line).unwrap();
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next_line().unwrap() {
            all.push((
                number,
                match line {
                    Line::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
                    Line::TooLong => None,
                },
            ));
        }
        all
    }

    #[test]
    fn plain_gzip_and_zstandard_hold_the_same_lines() {
        let text = b"\xef\xbb\xbf{\"a\":1}\r\n\n{\"b\":2}";
        let line = |number, text: &str| (number, Some(text.to_owned()));
        let expected = [line(1, "{\"a\":1}"), line(2, ""), line(3, "{\"b\":2}")];
        assert_eq!(all(text, 100), expected);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).unwrap();
        assert_eq!(all(&gzip.finish().unwrap(), 100), expected);
        assert_eq!(all(&zstd::encode_all(&text[..], 1).unwrap(), 100), expected);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_with_its_number() {
        let mut text = vec![b'x'; 3_000_000];
        text.extend_from_slice(b"\n{}\n");
        assert_eq!(all(&text, 1_000_000), [(1, None), (2, Some("{}".to_owned()))]);
    }

    #[test]
    fn what_is_no_resource_is_told_in_our_words() {
        for (line, message) in [
            (&b"{\"resourceType\":\"Patient\""[..], "ends in the middle"),
            (b"[\"Patient\",\"1\"]", "no resourceType"),
            (b"{\"id\":\"1\"}", "no resourceType"),
            (b"{\"resourceType\":\"../x\"}", "no resourceType"),
            (b"{\"resourceType\":7}", "not a JSON object"),
            (b"\xff", "not UTF-8"),
        ] {
            let Held::Bad(told) = held(&Line::Text(line), 1) else { panic!("{line:?}") };
            assert!(told.contains(message), "{told}");
        }
        assert_eq!(held(&Line::Text(b""), 1), Held::Blank);
    }

    #[test]
    fn an_export_is_read_without_its_receipt_errors_and_deletions() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["b.ndjson", "a.ndjson.gz", "receipt.json", "log.ndjson", ".c.ndjson"] {
            fs::write(root.join(name), "x").unwrap();
        }
        for name in ["error", "deleted", "more"] {
            fs::create_dir(root.join(name)).unwrap();
            fs::write(root.join(name).join("d.ndjson"), "x").unwrap();
        }
        let names = |apply| {
            let inputs = collect(&[root.to_owned()], apply).unwrap();
            let name =
                |it: &Input| it.shown.strip_prefix(root.to_str().unwrap()).unwrap().to_owned();
            inputs.iter().map(|it| (name(it), it.is_deletions)).collect::<Vec<_>>()
        };
        let named = |name: &str, deletes| (name.to_owned(), deletes);
        let data = [named("/a.ndjson.gz", false), named("/b.ndjson", false)];
        assert_eq!(names(false)[..2], data);
        assert_eq!(names(false)[2..], [named("/more/d.ndjson", false)]);
        assert_eq!(names(true)[2], named("/deleted/d.ndjson", true));
    }

    #[test]
    fn standard_input_is_kept_for_its_owner_under_its_digest() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let first = keep_stream(&mut &b"{}\n"[..], folder.path()).unwrap();
        let again = keep_stream(&mut &b"{}\n"[..], folder.path()).unwrap();
        assert_eq!(first.identity(), again.identity());
        assert_eq!(fs::metadata(&again.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
