//! FHIR documents, read tolerantly and judged. Pure: bytes and expectations enter, values leave.
//!
//! Entered by: a body and its media type. Leaves: what it is ([`body`]), what it says
//! ([`capability`], [`bundle`], [`outcome`], [`resource`], [`health`], [`directory`]), what is wrong with it
//! ([`capability::judge`], [`capability::unmet`], [`validate`]) and what has changed ([`drift`]).
//! The probe calls it for every answer; the commands for baselines.

pub mod body;
pub mod bundle;
pub mod capability;
pub mod directory;
pub mod drift;
pub mod health;
pub mod outcome;
pub mod resource;
pub mod text;
pub mod types;
pub mod validate;
mod wire;

pub use wire::{Oddity, ParseError, Text};
