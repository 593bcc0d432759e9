//! A response's body, read and decoded within bounds.
//!
//! The wire bytes are read first and decoded after, so that what a body claims to be never decides
//! how much memory it gets: above a modest size a body needs one of few slots.

use std::io::Write;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::model::limits;

/// Bodies larger than this take a slot.
const MODEST: usize = 512 * 1024;
/// How many larger bodies a process holds at once.
pub const LARGE_BODIES: usize = 8;
/// A zstd frame may not ask for a larger window (RFC 9659 §3).
const ZSTD_WINDOW_LOG: u32 = 23;

/// Why a body was given up.
#[derive(Debug)]
pub enum BodyError {
    /// More bytes on the wire than allowed.
    TooLarge,
    /// More bytes after decompression than allowed.
    DecompressionLimit,
    /// Not what `Content-Encoding` says.
    BadEncoding(String),
    Transport(reqwest::Error),
}

/// Reads to the end. The second value is the number of bytes on the wire, on an error too.
pub async fn read(
    response: &mut reqwest::Response,
    max_body: u64,
    slots: &Semaphore,
) -> (Result<Vec<u8>, BodyError>, u64) {
    let mut wire_bytes = 0;
    let result = read_counted(response, max_body, slots, &mut wire_bytes).await;
    (result, wire_bytes)
}

/// Most bytes on the wire: who asks for more than an ordinary body gets it.
pub fn wire_limit(max_body: u64) -> u64 {
    if max_body > limits::BODY_BYTES { max_body } else { max_body.min(limits::WIRE_BYTES) }
}

async fn read_counted(
    response: &mut reqwest::Response,
    max_body: u64,
    slots: &Semaphore,
    wire_bytes: &mut u64,
) -> Result<Vec<u8>, BodyError> {
    let max_wire = wire_limit(max_body);
    let expected = response.content_length().unwrap_or(0).min(MODEST as u64);
    let mut slot: Option<SemaphorePermit<'_>> = None;
    let mut wire = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Transport)? {
        *wire_bytes += chunk.len() as u64;
        if *wire_bytes > max_wire {
            return Err(BodyError::TooLarge);
        }
        if slot.is_none() && wire.len() + chunk.len() > MODEST {
            slot = slots.acquire().await.ok();
        }
        wire.extend_from_slice(&chunk);
    }
    let encodings = encodings(response);
    if encodings.is_empty() {
        return Ok(wire);
    }
    let max_body = usize::try_from(max_body).unwrap_or(usize::MAX);
    let bytes = match decode_all(
        &encodings,
        &wire,
        if slot.is_some() { max_body } else { MODEST.min(max_body) },
    ) {
        Err(BodyError::DecompressionLimit) if slot.is_none() && max_body > MODEST => {
            slot = slots.acquire().await.ok();
            decode_all(&encodings, &wire, max_body)?
        }
        other => other?,
    };
    drop(slot);
    Ok(bytes)
}

/// The encodings in the order in which they were applied.
fn encodings(response: &reqwest::Response) -> Vec<String> {
    response
        .headers()
        .get_all(http::header::CONTENT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty() && name != "identity")
        .collect()
}

fn decode_all(encodings: &[String], wire: &[u8], limit: usize) -> Result<Vec<u8>, BodyError> {
    // Nobody compresses three times; somebody who does is out to cost us something.
    if encodings.len() > 2 {
        return Err(BodyError::BadEncoding("more than two encodings".into()));
    }
    let mut bytes: Option<Vec<u8>> = None;
    for encoding in encodings.iter().rev() {
        bytes = Some(decode(encoding, bytes.as_deref().unwrap_or(wire), limit)?);
    }
    Ok(bytes.unwrap_or_default())
}

fn decode(encoding: &str, input: &[u8], limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut out = Bounded { bytes: Vec::new(), limit, exceeded: false };
    // An empty body needs no frame: some servers label a 304 or a HEAD answer all the same.
    if input.is_empty() {
        return Ok(out.bytes);
    }
    let result = match encoding {
        "gzip" | "x-gzip" => {
            let mut decoder = flate2::write::MultiGzDecoder::new(&mut out);
            decoder.write_all(input).and_then(|()| decoder.try_finish())
        }
        // RFC 9110 §8.4.1.2 means zlib; some servers send the bare stream.
        "deflate" if is_zlib(input) => {
            let mut decoder = flate2::write::ZlibDecoder::new(&mut out);
            decoder.write_all(input).and_then(|()| decoder.try_finish())
        }
        "deflate" => {
            let mut decoder = flate2::write::DeflateDecoder::new(&mut out);
            decoder.write_all(input).and_then(|()| decoder.try_finish())
        }
        "br" => {
            let mut decoder = brotli::DecompressorWriter::new(&mut out, 4096);
            decoder.write_all(input).and_then(|()| decoder.close())
        }
        "zstd" => zstd_into(input, &mut out),
        other => {
            return Err(BodyError::BadEncoding(format!(
                "unknown encoding {}",
                crate::model::text::bounded(other, 20)
            )));
        }
    };
    match result {
        _ if out.exceeded => Err(BodyError::DecompressionLimit),
        Ok(()) => Ok(out.bytes),
        Err(_) => Err(BodyError::BadEncoding(format!("it is not {encoding}"))),
    }
}

fn zstd_into(input: &[u8], out: &mut Bounded) -> std::io::Result<()> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    std::io::copy(&mut decoder, out)?;
    Ok(())
}

fn is_zlib(input: &[u8]) -> bool {
    matches!(input, [cmf, flg, ..] if cmf & 0x0f == 8 && (u16::from(*cmf) << 8 | u16::from(*flg)) % 31 == 0)
}

/// Takes bytes up to a limit and then refuses.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    exceeded: bool,
}

impl Write for Bounded {
    fn write(&mut self, input: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + input.len() > self.limit {
            self.exceeded = true;
            return Err(std::io::Error::other("too large"));
        }
        self.bytes.extend_from_slice(input);
        Ok(input.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn brotli(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 4, 20);
        encoder.write_all(bytes).unwrap();
        encoder.into_inner()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_offered_encoding_is_read() {
        let text = b"{\"resourceType\":\"CapabilityStatement\"}".repeat(100);
        let zstd = zstd::stream::encode_all(text.as_slice(), 3).unwrap();
        for (name, wire) in
            [("gzip", gzip(&text)), ("br", brotli(&text)), ("zstd", zstd), ("deflate", zlib(&text))]
        {
            assert_eq!(decode(name, &wire, text.len()).unwrap(), text, "{name}");
            let cut = &wire[..wire.len() / 2];
            assert!(decode(name, cut, text.len()).is_err(), "a cut {name} body is no whole one");
        }
    }

    #[test]
    fn a_bomb_is_given_up_at_the_limit() {
        let bomb = gzip(&vec![0; 4 << 20]);
        assert!(bomb.len() < 100_000);
        assert!(matches!(decode("gzip", &bomb, 1 << 20), Err(BodyError::DecompressionLimit)));
        let twice = gzip(&bomb);
        let names = ["gzip".to_owned(), "gzip".to_owned()];
        assert!(matches!(decode_all(&names, &twice, 1 << 20), Err(BodyError::DecompressionLimit)));
    }

    #[test]
    fn what_is_not_the_encoding_it_claims_is_told() {
        assert!(matches!(decode("gzip", b"{}", 100), Err(BodyError::BadEncoding(_))));
        assert!(matches!(decode("compress", b"{}", 100), Err(BodyError::BadEncoding(_))));
    }
}
