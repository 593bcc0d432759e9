//! The bytes of one file on their way: hashed, unpacked, judged and written as they come.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use flate2::write::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use super::lines::{Lines, Seen};

/// A window larger than this is not opened (RFC 9659).
const ZSTD_WINDOW_LOG: u32 = 23;
/// How many bytes one byte on the wire may become. Text of this kind has 5 to 30.
const MOST_GROWTH: u64 = 1000;
/// Growth is not judged below this many bytes.
const GROWTH_FROM: u64 = 64 * 1024 * 1024;

/// How files are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// What a file's name ends with.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
        }
    }

    /// Of a stored file, by its name.
    #[must_use]
    pub fn of(name: &str) -> Compression {
        if name.ends_with(".gz") {
            Compression::Gzip
        } else if name.ends_with(".zst") {
            Compression::Zstd
        } else {
            Compression::None
        }
    }
}

/// What a file of output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// What the server has put into one of its own.
    #[default]
    File,
    /// All resources of a type.
    Type,
}

/// What an export looks like when it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Shape {
    pub compression: Compression,
    pub split: Split,
}

impl From<Compression> for Shape {
    fn from(compression: Compression) -> Shape {
        Shape { compression, ..Shape::default() }
    }
}

/// How the bytes come over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Identity,
    Gzip,
    Zstd,
}

impl Coding {
    /// Reads `Content-Encoding`; `None` for what is not known here.
    #[must_use]
    pub fn parse(header: Option<&str>) -> Option<Coding> {
        match header.map(|it| it.trim().to_ascii_lowercase()).as_deref() {
            None | Some("" | "identity") => Some(Coding::Identity),
            Some("gzip" | "x-gzip") => Some(Coding::Gzip),
            Some("zstd") => Some(Coding::Zstd),
            _ => None,
        }
    }

    /// Bytes that are packed without the header saying so.
    fn sniff(first: &[u8]) -> Option<&'static str> {
        if first.starts_with(&[0x1f, 0x8b]) {
            Some("gzip")
        } else if first.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Some("zstd")
        } else if first.trim_ascii_start().starts_with(b"<") {
            Some("a page")
        } else {
            None
        }
    }
}

/// Why a file's bytes are not taken.
#[derive(Debug)]
pub enum Refused {
    /// What came is not what was said: another attempt may do better.
    Broken(&'static str, String),
    /// The disk, not the server.
    Local(std::io::Error),
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Refused {
        Refused::Local(error)
    }
}

/// What there is of a file when it is complete.
pub struct Stored {
    pub file: File,
    pub bytes: u64,
    pub content_bytes: u64,
    pub sha256: String,
    pub seen: Seen,
}

/// Takes one file's bytes.
pub struct Intake {
    unpack: Unpack,
    /// Set where the bytes are stored as they come.
    raw: Option<Out>,
    received: u64,
}

/// The way from the wire to the lines.
enum Unpack {
    Plain(Box<Sink>),
    Gzip(Box<MultiGzDecoder<Sink>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Sink>>),
}

/// What gets the content.
struct Sink {
    lines: Lines,
    /// Set where the content is stored, packed or not.
    out: Option<Packing>,
    content_bytes: u64,
    /// How many bytes may come out now.
    allowed: u64,
    is_bomb: bool,
}

/// A file whose content is packed on its way.
pub(super) enum Packing {
    Plain(Out),
    Gzip(Box<flate2::write::GzEncoder<Out>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Out>>),
}

impl Packing {
    pub(super) fn new(out: Out, wanted: Compression) -> std::io::Result<Packing> {
        Ok(match wanted {
            Compression::None => Packing::Plain(out),
            Compression::Gzip => Packing::Gzip(Box::new(
                // Without a name and a time in it: equal content gives equal bytes.
                flate2::write::GzEncoder::new(out, flate2::Compression::new(6)),
            )),
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, 3)?;
                encoder.include_checksum(true)?;
                Packing::Zstd(Box::new(encoder))
            }
        })
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Packing::Plain(out) => out.write_all(bytes),
            Packing::Gzip(out) => out.write_all(bytes),
            Packing::Zstd(out) => out.write_all(bytes),
        }
    }

    pub(super) fn finish(self) -> std::io::Result<Out> {
        match self {
            Packing::Plain(out) => Ok(out),
            Packing::Gzip(encoder) => encoder.finish(),
            Packing::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// The file itself, with the digest of its bytes.
pub(super) struct Out {
    file: File,
    digest: Context,
    bytes: u64,
    buffer: Vec<u8>,
}

/// Writes to the disk come in pieces of this size,
const PIECE: usize = 256 * 1024;
/// but what comes in such a piece is not copied first.
const WHOLE: usize = 16 * 1024;

impl Out {
    pub(super) fn create(path: &Path) -> std::io::Result<Out> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Out { file, digest: Context::new(&SHA256), bytes: 0, buffer: Vec::new() })
    }

    /// The file, its bytes and their SHA-256.
    pub(super) fn end(mut self) -> std::io::Result<(File, u64, String)> {
        self.file.write_all(&self.buffer)?;
        Ok((self.file, self.bytes, hex(self.digest.finish().as_ref())))
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        if self.buffer.is_empty() && bytes.len() >= WHOLE {
            self.file.write_all(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
            if self.buffer.len() >= PIECE {
                self.file.write_all(&self.buffer)?;
                self.buffer.clear();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.content_bytes += bytes.len() as u64;
        if self.content_bytes > self.allowed {
            self.is_bomb = true;
            return Err(std::io::Error::other("too much"));
        }
        self.lines.feed(bytes)?;
        if let Some(out) = &mut self.out {
            out.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Intake {
    /// Begins a file. What the server has packed as it is wanted is stored as it comes.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(
        path: &Path,
        coding: Coding,
        wanted: Compression,
        lines: Lines,
    ) -> std::io::Result<Intake> {
        let as_it_comes = matches!(
            (coding, wanted),
            (Coding::Gzip, Compression::Gzip) | (Coding::Zstd, Compression::Zstd)
        );
        let mut out = Some(Out::create(path)?);
        let raw = if as_it_comes { out.take() } else { None };
        let out = out.map(|out| Packing::new(out, wanted)).transpose()?;
        let sink = Sink { lines, out, content_bytes: 0, allowed: u64::MAX, is_bomb: false };
        let unpack = match coding {
            Coding::Identity => Unpack::Plain(Box::new(sink)),
            Coding::Gzip => Unpack::Gzip(Box::new(MultiGzDecoder::new(sink))),
            Coding::Zstd => {
                let mut decoder = zstd::stream::write::Decoder::new(sink)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Unpack::Zstd(Box::new(decoder))
            }
        };
        Ok(Intake { unpack, raw, received: 0 })
    }

    /// How many bytes came over the wire.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When they are not what they should be, or cannot be written.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        if self.received == 0
            && matches!(self.unpack, Unpack::Plain(_))
            && let Some(what) = Coding::sniff(bytes)
        {
            return Err(if what == "a page" {
                Refused::Broken(
                    "fhir.not_fhir",
                    "a page of HTML or XML came instead of NDJSON".to_owned(),
                )
            } else {
                Refused::Broken(
                    "http.bad_encoding",
                    format!("the file is packed with {what} and its header does not say so"),
                )
            });
        }
        self.received += bytes.len() as u64;
        if let Some(raw) = &mut self.raw {
            raw.write_all(bytes)?;
        }
        let allowed = (self.received.saturating_mul(MOST_GROWTH)).max(GROWTH_FROM);
        let written = match &mut self.unpack {
            Unpack::Plain(sink) => {
                sink.write_all(bytes)?;
                return Ok(());
            }
            Unpack::Gzip(decoder) => {
                decoder.get_mut().allowed = allowed;
                decoder.write_all(bytes)
            }
            Unpack::Zstd(decoder) => {
                decoder.get_mut().allowed = allowed;
                decoder.write_all(bytes)
            }
        };
        written.map_err(|error| self.unpacking(error))
    }

    fn unpacking(&mut self, error: std::io::Error) -> Refused {
        let sink = match &mut self.unpack {
            Unpack::Plain(sink) => sink,
            Unpack::Gzip(decoder) => decoder.get_mut(),
            Unpack::Zstd(decoder) => decoder.get_mut(),
        };
        if sink.is_bomb {
            let message =
                format!("{} bytes unpack to more than {} MiB", self.received, sink.allowed >> 20);
            return Refused::Broken("http.decompression_limit", message);
        }
        match error.raw_os_error() {
            Some(_) => Refused::Local(error),
            None => Refused::Broken("http.bad_encoding", "it cannot be unpacked".to_owned()),
        }
    }

    /// The end of the bytes.
    ///
    /// # Errors
    /// When they end too early, or cannot be written.
    pub fn finish(mut self, expected: Option<u64>) -> Result<Stored, Refused> {
        let early = || {
            Refused::Broken("http.bad_encoding", "the packed file ends in the middle".to_owned())
        };
        // A file of nothing has no frame to close.
        let is_empty = self.received == 0;
        let sink = match self.unpack {
            Unpack::Plain(sink) => *sink,
            Unpack::Gzip(mut decoder) => {
                if !is_empty && decoder.try_finish().is_err() {
                    return Err(early());
                }
                match decoder.finish() {
                    Ok(sink) => sink,
                    Err(_) => return Err(early()),
                }
            }
            Unpack::Zstd(mut decoder) => {
                decoder.flush()?;
                decoder.into_inner()
            }
        };
        let seen = sink.lines.finish(expected)?;
        let packed = sink.out.map(Packing::finish).transpose()?;
        let Some(out) = packed.or_else(|| self.raw.take()) else {
            return Err(Refused::Local(std::io::Error::other("no file was written")));
        };
        let (file, bytes, sha256) = out.end()?;
        Ok(Stored { file, bytes, content_bytes: sink.content_bytes, sha256, seen })
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
