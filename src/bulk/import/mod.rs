//! Resources on their way into a server: in bundles, or fetched by the server itself.
//!
//! Enters: NDJSON files and a server. Leaves: what became of every resource. `source` reads files,
//! `order` says what comes before what, `plan` looks at everything before anything is sent, `chunk`
//! cuts it into bundles, `bundle` words one and reads its answer, `delivery` decides what an answer
//! means, `window` how many are under way, `ledger` remembers, `post` brings one to its end,
//! `send` puts them together. `family`
//! words an `$import`, `pull` waits for it, `completion` reads what came of it, `offer` serves files
//! to the server.

pub mod bundle;
pub mod chunk;
pub mod completion;
pub mod count;
pub mod delivery;
pub mod family;
pub mod ledger;
pub mod offer;
pub mod order;
pub mod plan;
pub(in crate::bulk) mod post;
pub mod pull;
pub mod rejects;
pub mod report;
pub mod send;
pub mod source;
pub mod window;
