//! A migration: what was exported from one server, imported into another and compared there.
//!
//! Enters: a finished export, what came of its import, and both servers. Leaves: evidence, and a
//! verdict from it. Called by the command. `book` remembers which steps are done, `content` reads a
//! resource and holds two of them against each other, `choose` picks the sample, `ask` reads from a
//! server, `count` counts there, `prove` puts them together, `evidence` is what comes of it.

pub mod ask;
pub mod book;
mod choose;
pub mod content;
pub mod count;
pub mod evidence;
pub mod prove;
