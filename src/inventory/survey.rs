//! The file beside the servers: which layer says a value, where it stands, and what no server
//! keeps of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::path::{Step, find, name_of, place_of, steps};
use super::problem::{Lines, Report};
use super::raw::RawInventory;
use super::raw_later::{Policy, RawJob, RawSchedule};
use super::resolve::{Below, Resolver};
use super::tree::{NodeId, Tree};
use super::{Inventory, Overrides, cron, edit, parse, preset, server_path, understand, walk};
use crate::model::{Error, Location, Result};

/// Which layer of the inventory says a value, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// The server's own entry.
    Own,
    /// `defaults_for`.
    Rule,
    Defaults,
    Preset,
    BuiltIn,
}

/// A value with where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub layer: Layer,
    pub value: Value,
    /// Where it stands in the file; `None` for a preset's and a built-in value.
    pub path: Option<edit::Path>,
}

/// Recurring data work, as far as the file tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub name: String,
    /// `export`, `import`, `sync` or `migrate`.
    pub work: &'static str,
    pub server: String,
    /// How many resource types it names.
    pub types: usize,
    /// Queries that narrow it.
    pub type_filter: Vec<String>,
    /// `None`: it has no schedule of its own.
    pub runs_per_day: Option<f64>,
}

/// What a group is for, beside its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupKind {
    /// Whether one member stands in for another.
    pub failover: bool,
}

/// The text of one inventory, read for questions about it.
pub struct Survey<'a> {
    tree: Tree<'a>,
    root: NodeId,
    lines: Lines,
    text: &'a str,
    path: PathBuf,
    below: Vec<Below>,
    group_kinds: Vec<GroupKind>,
    jobs: Vec<Job>,
}

impl<'a> Survey<'a> {
    /// Reads an inventory together with what is asked about its text. Servers, groups and jobs have
    /// the indices of the file.
    ///
    /// # Errors
    /// Exit 78, as [`parse`].
    pub fn read(
        text: &'a str,
        path: &Path,
        overrides: &Overrides,
    ) -> Result<(Inventory, Survey<'a>)> {
        let inventory = parse(text, path, overrides)?;
        let text = super::without_mark(text);
        let mut report = Report::default();
        let Some((tree, root, raw)) = understand(text, &mut report) else {
            return Err(report.into_error(text, path));
        };
        let resolver = Resolver::new(&raw, path, overrides);
        let below: Vec<Below> =
            raw.servers.iter().flatten().map(|own| resolver.below(own)).collect();
        if below.len() != inventory.servers.len() {
            return Err(Error::internal("the inventory was read in two ways"));
        }
        let lines = Lines::new(text);
        let (path, group_kinds, jobs) = (path.to_owned(), group_kinds(&raw), jobs(&raw));
        Ok((inventory, Survey { tree, root, lines, text, path, below, group_kinds, jobs }))
    }

    /// The strongest layer that says a key of a server, such as `tls.pins`.
    #[must_use]
    pub fn said(&self, server: usize, key: &'static str) -> Option<Said> {
        let below = self.below.get(server)?;
        let rule = below.rule.map(|rule| vec![Step::known("defaults_for"), Step::Item(rule)]);
        let files = [
            (Layer::Own, Some(server_path(server).to_vec())),
            (Layer::Rule, rule),
            (Layer::Defaults, Some(vec![Step::known("defaults")])),
        ];
        for (layer, base) in files {
            let Some(base) = base else { continue };
            let path = steps(&base, key);
            if let Some(id) = self.node(&path) {
                let value = walk::plain(&self.tree, id);
                return Some(Said { layer, value, path: Some(public(&path)) });
            }
        }
        let pointer = format!("/{}", key.replace('.', "/"));
        let preset = below.vendor.as_deref().and_then(preset::preset);
        let within = |layer, value: &Value| {
            let value = value.pointer(&pointer)?.clone();
            Some(Said { layer, value, path: None })
        };
        preset
            .and_then(|preset| within(Layer::Preset, &preset.settings))
            .or_else(|| within(Layer::BuiltIn, preset::built_in_value()))
    }

    /// Where a key of a server stands; the server's entry where the file does not say it.
    #[must_use]
    pub fn locate(&self, server: usize, key: &'static str) -> Location {
        match self.said(server, key).and_then(|said| said.path) {
            Some(path) => self.location(&path),
            None => self.location(&public(&server_path(server))),
        }
    }

    /// Where a value of the file stands; the nearest one around it where there is none.
    #[must_use]
    pub fn location(&self, path: &[edit::Step]) -> Location {
        let path = inner(path);
        let place = place_of(&self.tree, self.root, &path);
        let (line, column) = self.lines.position(self.text, place.start);
        Location {
            file: self.path.clone(),
            line: u32::try_from(line).ok(),
            column: u32::try_from(column).ok(),
            key: Some(name_of(&path)),
        }
    }

    /// How often a server is checked on a schedule; `None` where it has none.
    #[must_use]
    pub fn checks_per_day(&self, server: usize) -> Option<f64> {
        let (every, cron) =
            (self.said(server, "schedule.every"), self.said(server, "schedule.cron"));
        // The layer that says one of them leaves out the other one of those below.
        let by_cron = match (&every, &cron) {
            (Some(every), Some(cron)) => cron.layer < every.layer,
            (None, Some(_)) => true,
            _ => false,
        };
        let said = if by_cron { cron } else { every }?;
        let text = said.value.as_str()?;
        if by_cron {
            cron::runs_per_day(text)
        } else {
            per_day(humantime::parse_duration(text).ok()?)
        }
    }

    /// What each group is for, in the order of the file.
    #[must_use]
    pub fn group_kinds(&self) -> &[GroupKind] {
        &self.group_kinds
    }

    /// The jobs, in the order of the file.
    #[must_use]
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn node(&self, path: &[Step]) -> Option<NodeId> {
        let mut at = self.root;
        for step in path {
            at = match step {
                Step::Key(key) => self.tree.entry(at, key)?.value,
                Step::Item(index) => *self.tree.items(at).get(*index)?,
            };
        }
        debug_assert_eq!(at, find(&self.tree, self.root, path));
        // A key without a value says nothing.
        (!walk::plain(&self.tree, at).is_null()).then_some(at)
    }
}

fn group_kinds(raw: &RawInventory) -> Vec<GroupKind> {
    let groups = raw.groups.iter().flatten();
    groups.map(|group| GroupKind { failover: group.policy == Some(Policy::Failover) }).collect()
}

fn jobs(raw: &RawInventory) -> Vec<Job> {
    raw.jobs.iter().flatten().filter_map(job).collect()
}

fn job(raw: &RawJob) -> Option<Job> {
    let works = [
        ("export", &raw.export),
        ("import", &raw.import),
        ("sync", &raw.sync),
        ("migrate", &raw.migrate),
    ];
    let (work, server) = works.into_iter().find_map(|(work, of)| Some((work, of.clone()?)))?;
    Some(Job {
        name: raw.name.clone()?,
        work,
        server,
        types: raw.types.as_ref().map_or(0, Vec::len),
        type_filter: raw.type_filter.clone().unwrap_or_default(),
        runs_per_day: raw.schedule.as_ref().and_then(runs),
    })
}

fn runs(schedule: &RawSchedule) -> Option<f64> {
    match (&schedule.0.every, &schedule.0.cron) {
        (Some(every), _) => per_day(every.0),
        (None, Some(cron)) => cron::runs_per_day(cron),
        (None, None) => None,
    }
}

fn per_day(every: Duration) -> Option<f64> {
    (!every.is_zero()).then(|| 86_400.0 / every.as_secs_f64())
}

fn public(path: &[Step]) -> edit::Path {
    path.iter()
        .map(|step| match step {
            Step::Key(key) => edit::Step::Key(key.clone().into_owned()),
            Step::Item(index) => edit::Step::Index(*index),
        })
        .collect()
}

fn inner(path: &[edit::Step]) -> Vec<Step> {
    path.iter()
        .map(|step| match step {
            edit::Step::Key(key) => Step::key(key),
            edit::Step::Index(index) => Step::Item(*index),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
version: 1
defaults:
  contact: {email: a@example.org}
  schedule: {every: 5m}
defaults_for:
  - {select: env=prod, tls: {pins: []}, schedule: {cron: '0 * * * *'}}
servers:
  - name: a
    url: https://a.example.org
    vendor: hapi
    labels: {env: prod}
    checks: {search: ['Patient?_summary=count', 'Observation?_summary=count']}
  - {name: b, url: 'https://b.example.org', schedule: {every: 1h}}
  - {name: c, url: 'https://c.example.org'}
groups:
  - {name: g, members: [a, b], policy: failover}
jobs:
  - {name: j, export: a, to: x, types: [Patient], schedule: {cron: '@daily'}, type_filter: ['Patient?a=b']}
";

    #[test]
    fn each_value_has_its_layer_and_its_place() {
        let path = Path::new("servers.yaml");
        let (_, survey) = Survey::read(TEXT, path, &Overrides::default()).unwrap();
        for (server, key, layer, line) in [
            (0, "url", Some(Layer::Own), 9),
            (0, "tls.pins", Some(Layer::Rule), 6),
            (1, "tls.pins", None, 13),
            (1, "contact.email", Some(Layer::Defaults), 3),
            (0, "checks.health.path", Some(Layer::Preset), 8),
            (1, "thresholds.health.warning", Some(Layer::BuiltIn), 13),
            (2, "sla", None, 14),
        ] {
            assert_eq!(survey.said(server, key).map(|said| said.layer), layer, "{server} {key}");
            let location = survey.locate(server, key);
            assert_eq!(location.line, Some(line), "{server} {key}");
        }
        let second = edit::Path::from([
            "servers".into(),
            0.into(),
            "checks".into(),
            "search".into(),
            1.into(),
        ]);
        let location = survey.location(&second);
        assert_eq!((location.line, location.column), (Some(12), Some(49)));
        assert_eq!(location.key.as_deref(), Some("servers[0].checks.search[1]"));
    }

    #[test]
    fn schedules_and_jobs_are_counted_by_the_day() {
        let path = Path::new("servers.yaml");
        let (_, survey) = Survey::read(TEXT, path, &Overrides::default()).unwrap();
        let days: Vec<_> = (0..3).map(|server| survey.checks_per_day(server)).collect();
        assert_eq!(days, [Some(24.0), Some(24.0), Some(288.0)]);
        assert_eq!(survey.group_kinds(), [GroupKind { failover: true }]);
        assert_eq!(
            survey.jobs(),
            [Job {
                name: "j".into(),
                work: "export",
                server: "a".into(),
                types: 1,
                type_filter: vec!["Patient?a=b".into()],
                runs_per_day: Some(1.0),
            }]
        );
    }
}
