//! Recurring data work as the inventory defines it.
//!
//! The inventory makes these out of what stands in the file; the small languages in which a job is
//! written (when it has to be done, what counts are expected, where it goes) are read here.

mod deadline;
mod expectation;
mod template;

use std::time::Duration;

pub use self::deadline::Deadline;
pub use self::expectation::{Expectation, Verdict};
pub use self::template::{Filling, PLACEHOLDERS, Template};

/// One job, ready to be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub name: String,
    pub work: Work,
    /// A name of the time zone database for dates and times of day; `None`: the machine's own.
    pub time_zone: Option<String>,
    pub deadline: Option<Deadline>,
    /// By resource type, in its order.
    pub expect: Vec<(String, Expectation)>,
    /// Said over what is known of the vendor; nothing switches it off.
    pub min_interval: Option<Duration>,
}

/// What a job does.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    Export { server: String, scope: Scope, since: Option<Since>, to: Template, compress: Compress },
    Import { server: String, from: Vec<Template> },
    Sync { server: String, scope: Scope, to: Template },
    Migrate { source: String, target: String, scope: Scope },
}

/// What of a server is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// `None`: what is usual for the vendor.
    pub level: Option<Level>,
    pub types: Vec<String>,
    /// Searches such as `Observation?category=laboratory`.
    pub type_filter: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Level {
    System,
    Patient,
    /// With its id.
    Group(String),
}

/// From when on changes are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// The transaction time of this job's last good run; everything where there is none.
    Last,
    Instant(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    #[default]
    None,
    Gzip,
    Zstd,
}

impl Work {
    /// `export`, `import`, `sync` or `migrate`: the key that says it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Work::Export { .. } => "export",
            Work::Import { .. } => "import",
            Work::Sync { .. } => "sync",
            Work::Migrate { .. } => "migrate",
        }
    }

    /// The server that it names first.
    #[must_use]
    pub fn server(&self) -> &str {
        match self {
            Work::Export { server, .. }
            | Work::Import { server, .. }
            | Work::Sync { server, .. }
            | Work::Migrate { source: server, .. } => server,
        }
    }

    /// Where it goes, as the inventory writes it; for an import where it comes from.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Work::Export { to, .. } | Work::Sync { to, .. } => to.text().to_owned(),
            Work::Import { from, .. } => {
                from.iter().map(Template::text).collect::<Vec<_>>().join(", ")
            }
            Work::Migrate { target, .. } => target.clone(),
        }
    }
}
