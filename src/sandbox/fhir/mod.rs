//! The FHIR side of a sandbox server: what it holds, how it is searched and written out.
//!
//! Enters: resources as JSON and decoded query parameters. Leaves: resources, Bundles, a
//! CapabilityStatement, OperationOutcomes, as JSON or XML. Called by the sandbox's server alone. It
//! is written anew from the specification and shares nothing with the client side, so that the two
//! cannot agree on a mistake.

pub(super) mod capability;
mod interval;
pub(super) mod outcome;
pub(super) mod people;
pub(super) mod search;
pub(super) mod store;
pub(super) mod table;
pub(super) mod xml;
