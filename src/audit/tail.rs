//! The end of a log: what the next record is chained to, found without reading the whole file.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt as _;

use super::record::{Head, Link};

/// How much is read first; the last record is nearly always in it.
const FIRST_LOOK: u64 = 16 * 1024;

/// How far back a record is looked for. A crash can leave as much as a batch of torn bytes.
const FARTHEST_LOOK: u64 = 64 * 1024 * 1024;

/// How a log ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// The last record.
    pub(super) head: Head,
    /// Where complete lines end; what comes behind is torn.
    pub(super) end: u64,
    /// Whether the last record lacks only its newline.
    pub(super) lacks_newline: bool,
}

impl Tail {
    /// Reads backwards from the end until a record is found.
    ///
    /// # Errors
    /// When the file cannot be read, or its last part holds no record.
    pub(super) fn of(file: &File, length: u64) -> Result<Tail> {
        let mut look = FIRST_LOOK;
        loop {
            let start = length.saturating_sub(look);
            let size = usize::try_from(length - start).map_err(Error::other)?;
            let mut bytes = vec![0; size];
            file.read_exact_at(&mut bytes, start)?;
            if let Some(tail) = last_of(&bytes, start) {
                return Ok(tail);
            }
            if look >= FARTHEST_LOOK {
                return Err(Error::new(ErrorKind::InvalidData, "its last 64 MiB hold no record"));
            }
            look *= 4;
        }
    }
}

/// The tail of a file whose bytes from `start` on are given; `None` when more have to be seen.
fn last_of(bytes: &[u8], start: u64) -> Option<Tail> {
    let at = |index: usize| start + index as u64;
    let after_newline = bytes.iter().rposition(|&byte| byte == b'\n').map(|index| index + 1);
    let lines_end = match after_newline {
        Some(index) => index,
        None if start == 0 => 0,
        None => return None,
    };
    // Whoever edits a file may take its last newline away: the record is whole all the same.
    let rest = Link::of(&bytes[lines_end..]).filter(|link| link.is_whole);
    if let Some(link) = rest {
        return Some(Tail { head: link.head(), end: at(bytes.len()), lacks_newline: true });
    }
    let end = at(lines_end);
    let mut lines = &bytes[..lines_end];
    // Lines that are no records are left for `verify` to tell of.
    while let Some(line) = lines.strip_suffix(b"\n") {
        let before = line.iter().rposition(|&byte| byte == b'\n').map(|index| index + 1);
        let begin = match before {
            Some(index) => index,
            None if start == 0 => 0,
            None => return None,
        };
        if let Some(link) = Link::of(&line[begin..]) {
            return Some(Tail { head: link.head(), end, lacks_newline: false });
        }
        lines = &lines[..begin];
    }
    (start == 0).then(|| Tail { head: Head::genesis(), end, lacks_newline: false })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::record::tests::chain;
    use super::*;

    fn tail(bytes: &[u8]) -> Tail {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Tail::of(&file, bytes.len() as u64).unwrap()
    }

    #[test]
    fn the_last_record_is_found_whatever_stands_behind_it() {
        let text = chain(3).concat();
        let (whole, end) = (text.as_bytes(), text.len() as u64);
        for (behind, what) in [
            (&b""[..], "nothing"),
            (b"{\"sequence\":4,\"ti", "half a record"),
            (&[0; 100_000], "a block of zeros, as a power cut leaves it"),
        ] {
            let found = tail(&[whole, behind].concat());
            assert_eq!(
                (found.head.sequence, found.end, found.lacks_newline),
                (3, end, false),
                "{what}"
            );
        }
        let found = tail(&[whole, b"not a record\n"].concat());
        assert_eq!((found.head.sequence, found.end), (3, end + 13));
        let found = tail(&whole[..whole.len() - 1]);
        assert_eq!((found.head.sequence, found.lacks_newline), (3, true));
    }

    #[test]
    fn a_log_without_a_record_begins_the_chain() {
        assert_eq!(tail(b"").head, Head::genesis());
        let torn = tail(b"{\"seq");
        assert_eq!((torn.head, torn.end), (Head::genesis(), 0));
    }

    #[test]
    fn only_the_end_of_a_long_log_is_looked_at() {
        let lines = chain(200);
        let text = lines.concat();
        let start = text.len() - lines[199].len() - 10;
        let found = last_of(&text.as_bytes()[start..], start as u64).unwrap();
        assert_eq!((found.head.sequence, found.end), (200, text.len() as u64));
        let start = text.len() - 10;
        assert_eq!(last_of(&text.as_bytes()[start..], start as u64), None);
    }
}
