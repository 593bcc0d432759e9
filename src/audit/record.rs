//! One record, the line that it is, and the arithmetic of the chain.

use std::fmt;
use std::str::FromStr;

use jiff::{Timestamp, Unit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::who::Who;
use crate::model::text::{bounded, one_line};
use crate::model::{Error, Result};

/// What the first record of a log is chained to.
pub(super) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The longest line that a record makes: texts are cut so that none is longer.
pub(super) const MAX_LINE: usize = 64 * 1024;

/// The last member of every line, around the hash.
const BEFORE_HASH: &str = ",\"hash\":\"";
const AFTER_HASH: &str = "\"}";

/// What happened, before it is a record.
#[derive(Clone, Debug)]
pub struct Entry {
    pub time: Timestamp,
    /// The words of the command, such as `auth rotate`; never its arguments.
    pub command: String,
    pub server: Option<String>,
    pub kind: Kind,
    pub action: Action,
    /// Which keys were changed, or the reference to a secret; never a value.
    pub target: Option<String>,
    pub outcome: Outcome,
    /// What the step ends a run with; `None` for a credential.
    pub exit_code: Option<u8>,
    /// Why it did not go well.
    pub code: Option<String>,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A command that changes something.
    Command,
    /// A credential that was looked up, kept or deleted.
    Credential,
    /// The log itself: a torn record was cut off.
    Recovery,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Changed,
    /// Records were asked for.
    Read,
    Resolved,
    Stored,
    Deleted,
    Cut,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    /// It was tried and did not go.
    Failed,
    /// It was not done because a rule or a test was against it.
    Refused,
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Counts from 1.
    pub sequence: u64,
    pub time: Timestamp,
    /// The operating system's user.
    pub user: String,
    pub host: String,
    /// The process that wrote it.
    pub process: u32,
    /// The words of the command, without arguments.
    pub command: String,
    pub server: Option<String>,
    pub kind: Kind,
    pub action: Action,
    /// Which keys were changed, or the reference to a secret.
    pub target: Option<String>,
    pub outcome: Outcome,
    pub exit_code: Option<u8>,
    /// The reason code of what did not go well.
    pub code: Option<String>,
    /// The hash of the record before it; zeros for the first one.
    pub previous: String,
    /// SHA-256 of this record's line without this member.
    pub hash: String,
}

/// A record before its hash is known, in the order in which it is written.
#[derive(Serialize)]
struct Body<'a> {
    sequence: u64,
    time: Timestamp,
    user: &'a str,
    host: &'a str,
    process: u32,
    command: &'a str,
    server: Option<&'a str>,
    kind: Kind,
    action: Action,
    target: Option<&'a str>,
    outcome: Outcome,
    exit_code: Option<u8>,
    code: Option<&'a str>,
    previous: &'a str,
}

/// A place in the chain: what the next record is chained to, and what is kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Head {
    /// 0 for a log without records.
    pub sequence: u64,
    pub hash: String,
}

impl Head {
    /// The head of an empty log.
    #[must_use]
    pub fn genesis() -> Head {
        Head { sequence: 0, hash: GENESIS.to_owned() }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, self.hash)
    }
}

impl FromStr for Head {
    type Err = Error;

    /// Reads `SEQUENCE:HASH`, as `audit head` prints it.
    ///
    /// # Errors
    /// Exit 64 for anything else.
    fn from_str(text: &str) -> Result<Head> {
        let parts = text.trim().split_once(':');
        let head = parts.and_then(|(sequence, hash)| {
            let hash = hash.to_ascii_lowercase();
            let sequence = sequence.parse().ok()?;
            is_hash(&hash).then_some(Head { sequence, hash })
        });
        head.ok_or_else(|| {
            Error::usage(format!("{:?} is no head of an audit log", bounded(text.trim(), 100)))
                .hint("a head is SEQUENCE:HASH, as fhirctl audit head prints it")
        })
    }
}

/// The line of an entry that follows a head, with its newline, and the head after it.
pub(super) fn seal(entry: &Entry, who: &Who, after: &Head) -> Result<(String, Head)> {
    let cut = |text: &str, most: usize| bounded(&one_line(text), most);
    let target = entry.target.as_deref().map(|target| cut(target, 2000));
    let server = entry.server.as_deref().map(|server| cut(server, 200));
    let code = entry.code.as_deref().map(|code| cut(code, 100));
    let body = Body {
        sequence: after.sequence.saturating_add(1),
        // Milliseconds tell what happened first; more digits only make the line long.
        time: entry.time.round(Unit::Millisecond).unwrap_or(entry.time),
        user: &who.user,
        host: &who.host,
        process: who.process,
        command: &cut(&entry.command, 100),
        server: server.as_deref(),
        kind: entry.kind,
        action: entry.action,
        target: target.as_deref(),
        outcome: entry.outcome,
        exit_code: entry.exit_code,
        code: code.as_deref(),
        previous: &after.hash,
    };
    let mut line = serde_json::to_string(&body)
        .map_err(|error| Error::internal(format!("cannot write an audit record: {error}")))?;
    let hash = digest(line.as_bytes());
    line.truncate(line.len() - 1);
    line.push_str(BEFORE_HASH);
    line.push_str(&hash);
    line.push_str(AFTER_HASH);
    line.push('\n');
    Ok((line, Head { sequence: body.sequence, hash }))
}

/// What the chain needs to know of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) sequence: u64,
    pub(super) previous: String,
    /// The hash as it is stated.
    pub(super) hash: String,
    /// Whether the line is what its hash says.
    pub(super) is_whole: bool,
}

impl Link {
    /// Reads a line without its newline; `None` when it is no record.
    pub(super) fn of(line: &[u8]) -> Option<Link> {
        #[derive(Deserialize)]
        struct Chained {
            sequence: u64,
            previous: String,
            hash: String,
        }
        if line.len() > MAX_LINE {
            return None;
        }
        let chained: Chained = serde_json::from_slice(line).ok()?;
        let hash = std::str::from_utf8(line).ok().and_then(|line| {
            let line = line.strip_suffix(AFTER_HASH)?;
            line.split_at_checked(line.len().checked_sub(64)?)
        });
        let is_whole = hash.is_some_and(|(before, hash)| {
            before.strip_suffix(BEFORE_HASH).is_some_and(|body| {
                let mut hasher = Sha256::new();
                hasher.update(body.as_bytes());
                hasher.update(b"}");
                hex(&hasher.finalize()) == hash && chained.hash == hash
            })
        });
        Some(Link {
            sequence: chained.sequence,
            previous: chained.previous,
            hash: chained.hash,
            is_whole,
        })
    }

    pub(super) fn head(&self) -> Head {
        Head { sequence: self.sequence, hash: self.hash.clone() }
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::audit) fn entry(target: &str) -> Entry {
        Entry {
            time: "2026-11-01T10:00:00.1234567Z".parse().unwrap(),
            command: "set".into(),
            server: Some("ehr".into()),
            kind: Kind::Command,
            action: Action::Changed,
            target: Some(target.into()),
            outcome: Outcome::Done,
            exit_code: Some(0),
            code: None,
        }
    }

    pub(in crate::audit) fn who() -> Who {
        Who { user: "ada".into(), host: "desk".into(), process: 7 }
    }

    /// The lines of a chain, each with its newline.
    pub(in crate::audit) fn chain(length: usize) -> Vec<String> {
        let mut head = Head::genesis();
        (1..=length)
            .map(|number| {
                let (line, next) = seal(&entry(&format!("key{number}")), &who(), &head).unwrap();
                head = next;
                line
            })
            .collect()
    }

    #[test]
    fn a_hash_is_that_of_the_line_without_it_and_the_next_record_names_it() {
        let lines = chain(2);
        let first: Record = serde_json::from_str(&lines[0]).unwrap();
        let second: Record = serde_json::from_str(&lines[1]).unwrap();
        let body = lines[0].replace(&format!(",\"hash\":\"{}\"", first.hash), "");
        assert_eq!(digest(body.trim_end().as_bytes()), first.hash);
        assert_eq!((first.sequence, first.previous.as_str()), (1, GENESIS));
        assert_eq!((second.sequence, &second.previous), (2, &first.hash));
        assert_eq!(first.time.to_string(), "2026-11-01T10:00:00.123Z");
        assert_eq!(first.target.as_deref(), Some("key1"));
    }

    #[test]
    fn every_changed_byte_of_a_line_is_noticed() {
        let line = chain(1).remove(0);
        let line = line.trim_end().as_bytes();
        assert!(Link::of(line).unwrap().is_whole);
        for at in 0..line.len() {
            let mut changed = line.to_vec();
            changed[at] ^= 1;
            assert!(Link::of(&changed).is_none_or(|link| !link.is_whole), "byte {at}");
        }
    }

    #[test]
    fn a_text_cannot_break_out_of_its_line() {
        let mut odd = entry("a\"}\n{\"sequence\":9\u{1b}[31m");
        odd.server = Some("x".repeat(100_000));
        let (line, _) = seal(&odd, &who(), &Head::genesis()).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.len() < MAX_LINE && !line.contains('\u{1b}'));
        assert!(Link::of(line.trim_end().as_bytes()).unwrap().is_whole);
    }

    #[test]
    fn a_head_reads_as_it_is_printed_and_nothing_else_does() {
        let head = Head { sequence: 57, hash: digest(b"x") };
        assert_eq!(head.to_string().parse::<Head>().unwrap(), head);
        assert_eq!(format!(" {head}\n").parse::<Head>().unwrap(), head);
        for text in ["", "57", "57:", "57:abc", "x:00", &format!("-1:{GENESIS}"), GENESIS] {
            assert_eq!(text.parse::<Head>().unwrap_err().exit().0, 64, "{text}");
        }
    }
}
