//! One file per check: what it asks, and what the answer means.

pub(super) mod assert;
pub(super) mod auth;
pub(super) mod capability;
pub(super) mod health;
pub(super) mod metadata;
pub(super) mod read;
pub(super) mod search;
pub(super) mod stages;
