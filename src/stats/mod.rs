//! The arithmetic of history: time, availability, latency, agreements and trends, over plain values.
//!
//! Enters: instants in milliseconds since the epoch (UTC), durations in microseconds, points of a
//! timeline, agreements as values. Leaves: spans, totals, percentiles, verdicts, each with the
//! definition that it follows. Nothing here opens a file of its own, reads a clock or knows a database,
//! so that every figure can be checked against a slower way to the same one. Called by history, which
//! rolls up with it, and by report and the commands above, which show it.
//!
//! The way through it: `window` says what time is asked for and what of it counts, as `span`s;
//! `uptime` makes a timeline of readings; `incident` and `sla` read the timeline. `sketch` stands under
//! `latency`, and `trend` under `capacity` and `against`.

pub mod against;
pub mod capacity;
pub mod error;
pub mod incident;
pub mod latency;
#[cfg(test)]
pub(crate) mod reference;
pub mod sketch;
pub mod sla;
pub mod span;
pub mod trend;
pub mod uptime;
pub mod window;

pub use sketch::Sketch;
pub use span::{Span, Spans};
pub use uptime::{Kind, Piece, Point, Rule, Totals};
pub use window::{Period, ServiceHours};
