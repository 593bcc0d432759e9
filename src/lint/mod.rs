//! The inventory held against best practice, and the ends of what does not last.
//!
//! Enters: an inventory with its [`Survey`], what is known beside it ([`Known`]) and the present
//! instant. Leaves: [`Finding`]s with rule, severity and place, the [`Load`] of each server, and
//! for [`expiring`] the [`Ending`](expiring::Ending)s. Called by the commands `lint` and `expiring`. Everything here is
//! arithmetic over values: no file, no network, no clock. The rules are rows of `data/lint.yaml`.

mod care;
pub mod expiring;
mod load;
mod privacy;
mod rule;
mod sign_in;
mod transport;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

pub use load::{Load, load};
pub use rule::RuleInfo;

use crate::inventory::edit::{Op, Path};
use crate::inventory::{Group, Inventory, Job, Survey};
use crate::model::{Location, Server, Severity};

/// What is known of the servers beside the inventory, by their names.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Since when the present secret or key is in place.
    pub credential_since: BTreeMap<String, Timestamp>,
    /// Certificates that were seen, with their ends.
    pub certificates: BTreeMap<String, Vec<KnownCertificate>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownCertificate {
    pub kind: expiring::Kind,
    pub not_after: Timestamp,
}

/// Everything the rules look at.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    pub inventory: &'a Inventory,
    pub survey: &'a Survey<'a>,
    pub known: &'a Known,
    pub now: Timestamp,
}

/// What is looked at, and by which rules.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Names of the servers that are looked at.
    pub servers: BTreeSet<String>,
    /// Ids; empty: every rule.
    pub only: Vec<String>,
    pub skip: Vec<String>,
}

impl Options {
    #[must_use]
    pub fn wants(&self, rule: &str) -> bool {
        (self.only.is_empty() || self.only.iter().any(|id| id == rule))
            && !self.skip.iter().any(|id| id == rule)
    }
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    Server(String),
    Group(String),
    Job(String),
}

/// One breach of a rule.
#[derive(Clone, Debug)]
pub struct Finding {
    pub rule: &'static RuleInfo,
    pub severity: Severity,
    pub about: About,
    /// Of the key concerned; of the entry where the key is missing.
    pub location: Location,
    /// One line that repeats no secret and no person's data.
    pub message: String,
    /// What mends it without changing what the inventory means.
    pub fix: Option<Op>,
}

/// Every finding: server by server in the order of the inventory, then groups, then jobs.
///
/// Of the groups those with a selected member, of the jobs those that work on a selected server.
#[must_use]
pub fn lint(input: &Input<'_>, options: &Options) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, server) in input.inventory.servers.iter().enumerate() {
        if options.servers.contains(&server.name) {
            let subject = Subject { input, server, index, load: load(input, index) };
            let about = About::Server(server.name.clone());
            let start = findings.len();
            for (id, look) in SERVER_RULES.iter().copied().flatten() {
                apply(id, &about, input, options, &mut findings, |notes| look(&subject, notes));
            }
            // As one meets them in the file; fixes of one list keep their order by it, too.
            findings[start..]
                .sort_by_key(|finding| (finding.location.line, finding.location.column));
        }
    }
    for (index, group) in input.inventory.groups.iter().enumerate() {
        if group.members.iter().any(|member| options.servers.contains(member)) {
            let about = About::Group(group.name.clone());
            for (id, look) in care::GROUP_RULES {
                apply(id, &about, input, options, &mut findings, |notes| look(index, group, notes));
            }
        }
    }
    for (index, job) in input.survey.jobs().iter().enumerate() {
        if options.servers.contains(&job.server) {
            let about = About::Job(job.name.clone());
            for (id, look) in privacy::JOB_RULES {
                apply(id, &about, input, options, &mut findings, |notes| look(index, job, notes));
            }
        }
    }
    findings
}

/// The ids of the rules that look at servers, at groups and at jobs.
#[must_use]
pub fn rules_by_subject() -> [Vec<&'static str>; 3] {
    [
        SERVER_RULES.iter().copied().flatten().map(|(id, _)| *id).collect(),
        care::GROUP_RULES.iter().map(|(id, _)| *id).collect(),
        privacy::JOB_RULES.iter().map(|(id, _)| *id).collect(),
    ]
}

/// A rule by its id, and what it does with what it looks at.
type ServerRule = (&'static str, fn(&Subject<'_>, &mut Notes<'_>));
type GroupRule = (&'static str, fn(usize, &Group, &mut Notes<'_>));
type JobRule = (&'static str, fn(usize, &Job, &mut Notes<'_>));

const SERVER_RULES: &[&[ServerRule]] =
    &[transport::RULES, sign_in::RULES, care::RULES, privacy::RULES, load::RULES];

fn apply(
    id: &str,
    about: &About,
    input: &Input<'_>,
    options: &Options,
    findings: &mut Vec<Finding>,
    look: impl FnOnce(&mut Notes<'_>),
) {
    // A test holds every id against the table.
    if let Some(rule) = RuleInfo::find(id).filter(|_| options.wants(id)) {
        look(&mut Notes { rule, about, input, findings });
    }
}

/// One server with what its rules look at.
struct Subject<'a> {
    input: &'a Input<'a>,
    server: &'a Server,
    index: usize,
    load: Load,
}

impl Subject<'_> {
    /// Where a key stands, or the server where nothing says it.
    fn at(&self, key: &'static str) -> Location {
        self.input.survey.locate(self.index, key)
    }

    /// Where an item of a list stands.
    fn item(&self, key: &'static str, index: usize) -> Location {
        match self.path(key) {
            Some(mut path) => {
                path.push(index.into());
                self.input.survey.location(&path)
            }
            None => self.at(key),
        }
    }

    fn path(&self, key: &'static str) -> Option<Path> {
        self.input.survey.said(self.index, key)?.path
    }

    /// Whether much depends on it: by its label, or because somebody gave it a stand-in.
    fn is_critical(&self) -> bool {
        let label = |key: &str| self.server.labels.get(key).map(|value| value.to_lowercase());
        matches!(label("critical").as_deref(), Some("true" | "yes"))
            || matches!(label("criticality").as_deref(), Some("critical" | "high"))
            || matches!(label("tier").as_deref(), Some("0" | "1"))
            || self.groups().any(|(group, failover)| failover && is_member(group, self.server))
    }

    fn groups(&self) -> impl Iterator<Item = (&Group, bool)> {
        let kinds = self.input.survey.group_kinds().iter();
        self.input.inventory.groups.iter().zip(kinds.map(|kind| kind.failover))
    }
}

fn is_member(group: &Group, server: &Server) -> bool {
    group.members.contains(&server.name)
}

/// Where a rule writes what it found.
struct Notes<'a> {
    rule: &'static RuleInfo,
    about: &'a About,
    input: &'a Input<'a>,
    findings: &'a mut Vec<Finding>,
}

impl Notes<'_> {
    fn add(&mut self, location: Location, message: impl Into<String>) {
        self.push(self.rule.severity, location, message.into(), None);
    }

    /// The same, as an error.
    fn raise(&mut self, location: Location, message: impl Into<String>) {
        self.push(Severity::Error, location, message.into(), None);
    }

    fn add_fixable(&mut self, location: Location, message: impl Into<String>, fix: Option<Op>) {
        self.push(self.rule.severity, location, message.into(), fix);
    }

    fn push(&mut self, severity: Severity, location: Location, message: String, fix: Option<Op>) {
        let (rule, about) = (self.rule, self.about.clone());
        self.findings.push(Finding { rule, severity, about, location, message, fix });
    }
}

/// The instant at which a last day has passed, UTC.
fn end_of(day: jiff::civil::Date) -> Option<Timestamp> {
    let next = day.tomorrow().ok()?;
    next.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// A later instant; the end of time where there is none.
fn after(from: Timestamp, length: Duration) -> Timestamp {
    let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    from.checked_add(length).unwrap_or(Timestamp::MAX)
}

/// Whole days until an instant; negative once it has passed.
fn days_left(now: Timestamp, end: Timestamp) -> i64 {
    (end.as_second() - now.as_second()).div_euclid(86_400)
}

#[cfg(test)]
mod tests;
