//! What is said on the wire below HTTP: connections, name lookups, echoes and routes.
//!
//! Enters: addresses, names and time limits. Leaves: what each peer did, as plain values that nobody
//! has judged yet. Called by the topics of `diag`. Everything here is bounded in time, in questions
//! and in memory, whatever the peer does.

pub mod dns;
pub mod icmp;
pub mod ping;
pub mod route;
pub mod tcp;
pub mod tls;
pub mod trace;
