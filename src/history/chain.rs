//! The chain of hashes that each server's readings hang on.
//!
//! The first head is the SHA-256 of a line that names the server; each reading's head is the SHA-256
//! of the head before it and the reading's text. The README shows how to recompute it elsewhere.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::model::Reading;

/// Where a chain has come to.
pub type Head = [u8; 32];

/// The head before the first reading, by the name that the server had then.
#[must_use]
pub fn start(name: &str) -> Head {
    Sha256::digest(format!("fhirctl/history/v1\n{name}\n")).into()
}

/// The head behind a reading.
#[must_use]
pub fn advance(head: &Head, text: &str) -> Head {
    let mut digest = Sha256::new();
    digest.update(head);
    digest.update(text.as_bytes());
    digest.finalize().into()
}

/// The head behind many readings, in the order in which they were written.
#[must_use]
pub fn over<'a>(start: Head, readings: impl IntoIterator<Item = &'a Reading>) -> Head {
    readings.into_iter().fold(start, |head, reading| advance(&head, &reading.text()))
}

/// The digest of a day: over a line a server, its name and its head, sorted.
#[must_use]
pub fn seal<'a>(heads: impl IntoIterator<Item = (&'a str, Head)>) -> Head {
    let mut lines: Vec<String> =
        heads.into_iter().map(|(name, head)| format!("{name} {}\n", hex(&head))).collect();
    lines.sort_unstable();
    Sha256::digest(lines.concat()).into()
}

#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A head as [`hex`] writes it.
#[must_use]
pub fn unhex(text: &str) -> Option<Head> {
    let mut head = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in head.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with `printf … | sha256sum`, not with this code.
    #[test]
    fn the_chain_is_what_any_sha256_makes_of_its_text() {
        let start = start("a");
        assert_eq!(hex(&start), "9ac194fb71241a2f677f1ce4822d74ca0873fe31e2a9f356111ec7f536189348");
        assert_eq!(
            hex(&advance(&start, "r|x\n")),
            "1b788cddb88e1a443fa80f2bd7ac54f062df5991eb50526d7847d9f74d2669c1"
        );
        assert_eq!(unhex(&hex(&start)), Some(start));
        assert_eq!(unhex("zz"), None);
    }

    #[test]
    fn a_seal_asks_for_no_order() {
        let (a, b) = (start("a"), start("b"));
        assert_eq!(seal([("a", a), ("b", b)]), seal([("b", b), ("a", a)]));
        assert_ne!(seal([("a", a), ("b", b)]), seal([("a", b), ("b", a)]));
    }
}
