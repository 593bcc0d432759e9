//! What is wrong with one server, from the wire up, and who has to act.
//!
//! Enters: a resolved server and what the process shares. Leaves: a [`Topic`] for each thing that
//! was looked at, with its problems and its evidence, and one [`Verdict`] over all of them. Called
//! by the commands. One file per topic; `desk` is what topics share, `engine` decides what runs
//! when, `verdict` names the layer that broke, `shell` words commands that do the same by hand.
//!
//! A sick server is data here, too: no topic fails, it reports.

mod auth;
mod bulk;
mod capability;
mod clock;
mod declared;
mod desk;
mod dns;
mod egress;
mod engine;
mod health;
mod load;
mod perf;
mod ping;
mod prefer;
mod proxy;
mod query;
mod redirects;
mod resources;
mod sample;
pub mod shell;
mod smart;
mod stop;
mod tcp;
mod tls;
mod topic;
mod trace;
mod validate;
mod verdict;
mod wire;
mod write;

pub use desk::{Desk, Options};
pub use engine::{Step, commands, diagnose};
pub use load::{Expectation, LoadDetails, LoadOptions, Mix, is_production};
pub use perf::PerfDetails;
pub use prefer::{Handling, PreferSeen};
pub use resources::ResourcesDetails;
pub use stop::Stop;
pub use tls::TlsDetails;
pub use topic::{Evidence, Layer, Problem, Topic, TopicName};
pub use validate::{Document, Remote, ValidateOptions};
pub use verdict::{Verdict, judge};
