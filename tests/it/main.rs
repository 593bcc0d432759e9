//! The program from outside: every verb through the built binary, one file per verb.

// Clippy's leave for tests ends at the test functions: their helpers fail a test by panicking too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod aws_sigv4;
mod check;
mod credentials;
mod doctor;
mod edit;
mod edit_commands;
mod generated;
mod http;
mod inventory;
mod presets;
mod render;
mod sample;
mod sandbox;
mod support;
mod transport;
