//! The record of what was changed and which credentials were used: an append-only log whose lines
//! are chained by their digests.
//!
//! Enters: [`Entry`]s, from the context. Leaves: lines of `audit.ndjson` in the folder of the
//! program's state, a [`Verification`] of their chain, and [`Record`]s that are asked for. Called
//! by context and by the verb `audit`. No secret and no patient's data enters: an entry has words
//! for commands, names of keys and references to secrets, never values.
//!
//! A line's hash is the SHA-256 of the line without its last member, `"hash"`; its `previous` is
//! the hash of the line before it. What the chain cannot prove stands in `SECURITY.md`.

mod event;
mod lines;
mod log;
mod read;
mod record;
mod tail;
mod verify;
mod who;

pub use event::audit_event;
pub use log::Log;
pub use read::{Filter, Found};
pub use record::{Action, Entry, Head, Kind, Outcome, Record};
pub use verify::{Expected, Problem, ProblemKind, Recovered, Torn, Verification};
