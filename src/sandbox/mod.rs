//! A small honest FHIR server on loopback, with faults on request.
//!
//! Enters: a [`Scenario`], from flags, from a file or from code. Leaves: servers at work in the
//! background, one port each, until [`Running`] is dropped. Called by command alone; imports model
//! and serve and shares no parser with the client side.

mod answer;
mod bulk;
mod certificate;
mod fault;
mod fhir;
mod inject;
mod log;
mod persona;
mod routes;
mod running;
mod scenario;
mod sign_in;
mod site;
mod strike;

pub use bulk::{BulkPlan, ImportStyle, Level, TRAPS, Trap, Verb};
pub use fault::{Effect, Fault, KINDS, Kind, RetryAfter};
pub use log::{RequestSeen, Watcher};
pub use persona::Persona;
pub use running::{Options, Running, RunningServer, SignInFacts, start};
pub use scenario::{MAX_PATIENTS, MAX_SERVERS, Scenario, ServerPlan, served_version};
pub use sign_in::{Credential, DEFECTS, Defect, Method, TOKEN_LIFE};
pub use strike::{Share, Window};
