//! Bulk data: exports that end complete with a receipt or honestly incomplete, and the way back in.
//!
//! Enters: a server's settings, a request and a folder. Leaves: files, a receipt, and a ledger from
//! which an interrupted run goes on. Called by the commands. `job` waits for the server, `manifest`
//! reads what it made, `download` fetches and `lines` judges it, `ledger` remembers every step before
//! the next one is made, `receipt` tells what came of it, `objects` brings it to an object store.

pub mod again;
pub mod client_log;
pub mod crawl;
mod database;
pub mod disk;
mod download;
pub mod export;
pub mod halt;
mod ids;
pub mod import;
pub mod job;
mod join;
pub mod known;
pub mod ledger;
pub mod lines;
mod links;
pub mod manifest;
pub mod migrate;
pub mod objects;
pub mod place;
pub mod receipt;
pub mod request;
pub mod runs;
mod seal;
pub mod store;
pub mod sync;
pub mod transfer;
pub mod wait;
