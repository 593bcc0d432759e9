//! What every room speaks of: servers, statuses, reason codes, observations, secrets, errors.
//!
//! Nothing enters but plain values; nothing here opens a file or a connection. Every other room
//! may use this one, and this one uses no other.

pub mod agreement;
pub mod base_url;
pub mod clock;
pub mod code;
pub mod error;
pub mod job;
pub mod limits;
pub mod observation;
pub mod reading;
pub mod reference;
pub mod secret;
pub mod server;
pub mod sign_in;
pub mod status;
pub mod terms;
pub mod text;
pub mod verdict;

pub use agreement::{Agreement, Schedule};
pub use clock::Clock;
pub use code::{Code, CodeInfo, FindingInfo, Party};
pub use error::{Error, ErrorKind, Exit, Location, Result};
pub use observation::{
    Accepted, Certificate, Finding, HttpFacts, Observation, ServerReport, Severity, State, Timing,
};
pub use reading::{Detail, Origin, Phases, Reading, Sample};
pub use reference::SecretRef;
pub use secret::Secret;
pub use server::{Maintenance, Server};
pub use status::Status;
pub use terms::{Monitoring, MonitoringPolicy, Terms, Unapproved};
