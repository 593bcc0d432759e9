//! The lines of a log, one after the other, none longer in memory than a record may be.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Result, Take};

use super::record::MAX_LINE;

/// Reads a log from its beginning to a length.
pub(super) struct Lines {
    reader: BufReader<Take<File>>,
    /// Counts from 1.
    pub(super) number: u64,
    /// The line without its newline; cut where it is longer than any record.
    pub(super) line: Vec<u8>,
    /// Its length with its newline.
    pub(super) bytes: u64,
    /// Whether a newline ends it.
    pub(super) is_ended: bool,
}

impl Lines {
    pub(super) fn new(file: File, length: u64) -> Lines {
        let reader = BufReader::with_capacity(128 * 1024, file.take(length));
        Lines { reader, number: 0, line: Vec::new(), bytes: 0, is_ended: false }
    }

    /// Goes to the next line; `false` at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn advance(&mut self) -> Result<bool> {
        self.line.clear();
        self.bytes = 0;
        self.is_ended = false;
        self.number += 1;
        while !self.is_ended {
            let seen = self.reader.fill_buf()?;
            if seen.is_empty() {
                break;
            }
            let newline = seen.iter().position(|&byte| byte == b'\n');
            let part = &seen[..newline.unwrap_or(seen.len())];
            // One byte more than a record may have: a longer line is none.
            let room = (MAX_LINE + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            self.is_ended = newline.is_some();
            let used = part.len() + usize::from(self.is_ended);
            self.bytes += used as u64;
            self.reader.consume(used);
        }
        Ok(self.bytes > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    #[test]
    fn a_line_without_an_end_costs_no_more_memory_than_a_record() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"a\n\n").unwrap();
        file.write_all(&vec![b'x'; 1_000_000]).unwrap();
        file.write_all(b"\nb and what is not ours").unwrap();
        file.rewind().unwrap();
        let mut lines = Lines::new(file, 1_000_005);
        let mut told = Vec::new();
        while lines.advance().unwrap() {
            told.push((lines.number, lines.line.len(), lines.bytes, lines.is_ended));
        }
        assert_eq!(
            told,
            [
                (1, 1, 2, true),
                (2, 0, 1, true),
                (3, MAX_LINE + 1, 1_000_001, true),
                (4, 1, 1, false)
            ]
        );
    }
}
