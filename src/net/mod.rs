//! What is asked below HTTP, by hand.
//!
//! Enters: a host, addresses, limits. Leaves: what came back, bounded and not judged. Called by
//! `diag`, whose topics say what it means. Nothing here keeps a connection or knows a secret.

pub mod tls;
