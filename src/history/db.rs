//! What both engines do, in the same words: rows in, rows out.
//!
//! Everything that decides anything is above this, so that both engines tell the same.

use super::chain::Head;
use super::postgres::Postgres;
use super::roll_up::REACH;
use super::segment::Body;
use super::sqlite::Sqlite;
use super::{HOUR, hour_of};

/// A connection to one of the engines.
pub(super) enum Db {
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

/// The same call on whichever engine it is.
macro_rules! on {
    ($db:expr, $engine:ident => $call:expr) => {
        match $db {
            $crate::history::db::Db::Sqlite($engine) => $call,
            $crate::history::db::Db::Postgres($engine) => $call,
        }
    };
}
pub(super) use on;

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Sees one state throughout.
    Read,
    Write,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerRow {
    pub id: i64,
    pub name: String,
    pub born: String,
    pub head: Head,
    /// How many readings were ever written.
    pub written: i64,
    /// The position of the first that is still kept.
    pub kept: i64,
    /// The head before it.
    pub kept_head: Head,
    /// The newest fresh row, in the engine's own terms.
    pub tail: Option<i64>,
    pub first_at: Option<i64>,
    pub last_at: Option<i64>,
    pub removed_at: Option<i64>,
    pub rolled_to: Option<i64>,
    pub pruned_to: Option<i64>,
}

/// Where a fresh row is, and when it was taken and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fresh {
    /// In the engine's own terms.
    pub seq: i64,
    pub position: i64,
    pub at: i64,
    pub written: i64,
}

#[derive(Clone, Debug)]
pub(super) struct RawRow {
    pub seq: i64,
    pub position: i64,
    pub at: i64,
    pub run: i64,
    pub body: Vec<u8>,
}

/// A segment without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentRow {
    /// Its key in the database; 0 before it has one.
    pub id: i64,
    pub server: i64,
    /// Of its first reading.
    pub position: i64,
    pub readings: i64,
    /// The day on which it was written, since the epoch.
    pub day: i64,
    pub from_at: i64,
    pub to_at: i64,
    /// The lowest row of a run in it.
    pub first_run: i64,
    pub before: Head,
    pub after: Head,
}

/// A server as a batch changes it.
pub(super) struct Advance {
    pub server: ServerRow,
    /// Hours that have to be rolled up again; one may come several times.
    pub late: Vec<i64>,
}

impl Advance {
    pub fn new(server: ServerRow) -> Advance {
        Advance { server, late: Vec::new() }
    }

    /// Takes a reading in and says its position.
    pub fn take(&mut self, at: i64, text: &str) -> i64 {
        let server = &mut self.server;
        let position = server.written;
        server.head = super::chain::advance(&server.head, text);
        server.written += 1;
        let newest = server.last_at;
        server.first_at = Some(server.first_at.map_or(at, |first| first.min(at)));
        server.last_at = Some(server.last_at.map_or(at, |last| last.max(at)));
        server.removed_at = None;
        self.late.extend(server.rolled_to.and_then(|rolled| late(at, rolled, newest)));
        position
    }
}

/// The hour to be rolled up again because of a reading.
fn late(at: i64, rolled_to: i64, newest: Option<i64>) -> Option<i64> {
    if at < rolled_to {
        return Some(hour_of(at));
    }
    // Behind what is rolled up it may still say that the last reading in there held for longer. Whoever
    // comes behind another one that is behind it, too, says nothing new.
    let is_first = newest.is_none_or(|newest| newest < rolled_to || at < newest);
    (is_first && at - rolled_to <= REACH).then(|| rolled_to - HOUR)
}

/// A figure that a server gave of itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GaugeRow {
    pub server: i64,
    /// The number of its name.
    pub word: i64,
    pub at: i64,
    /// `None`: it was asked for, and nothing came.
    pub value: Option<f64>,
    pub limit: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SealRow {
    /// Since the epoch.
    pub day: i64,
    pub digest: Head,
    pub sealed_at: i64,
    /// See `seal.rs`.
    pub heads: Vec<u8>,
}

/// How much there is of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub schema: i64,
    pub bytes: u64,
    pub runs: u64,
    pub fresh: u64,
    pub segments: u64,
    pub packed: u64,
    pub packed_bytes: u64,
    pub hours: u64,
    pub days: u64,
    pub notes: u64,
    pub gauges: u64,
    pub oldest_fresh: Option<i64>,
    pub last_seal: Option<i64>,
}

/// The bytes of a segment with its row, to be written.
pub(super) type Packed = (SegmentRow, Body);
