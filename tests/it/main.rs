//! The program from outside: every verb through the built binary, one file per verb.

// Clippy's leave for tests ends at the test functions: their helpers fail a test by panicking too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod audit;
mod aws_sigv4;
mod bulk_export;
mod bulk_import;
mod capacity;
mod check;
mod credentials;
mod diag;
mod diag_fhir;
mod diag_write;
mod doctor;
mod edit;
mod edit_commands;
mod expiring;
mod generated;
mod history;
mod http;
mod inventory;
mod lint;
mod load;
mod migrate;
mod netns;
mod perf;
mod personas;
mod postgres;
mod presets;
mod proof;
mod query;
mod register;
mod render;
mod report;
mod resources;
mod run;
mod sample;
mod sandbox;
mod sign_in;
mod stores;
mod support;
mod sync;
mod tls_scan;
mod transport;
