//! `fhirctl` registers, tests, gates and watches FHIR servers.
//!
//! The way of the data, top to bottom:
//!
//! ```text
//! argv → cli → command → inventory + credentials → probe (through auth, http)
//!      → Observation → view → render → standard output, exit code
//!                    ↘ Reading → history → stats → report ↗
//! ```
//!
//! Imports go downward only, in the order of the modules below; `tests/architecture.rs` sees to it.

pub mod app;
pub mod audit;
pub mod auth;
pub mod bulk;
pub mod cli;
pub mod command;
pub mod context;
pub mod credentials;
pub mod diag;
pub mod fhir;
pub mod history;
pub mod http;
pub mod inventory;
pub mod lint;
pub mod model;
pub mod net;
pub mod probe;
pub mod query;
pub mod render;
pub mod report;
pub mod sandbox;
pub mod serve;
pub mod stats;
pub mod view;
