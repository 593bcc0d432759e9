//! From the jobs of the file to jobs that can be run.

use std::path::Path;

use super::leaf::{self, Flaw};
use super::meaning::Issue;
use super::path::{Step, steps};
use super::raw::RawInventory;
use super::raw_later::{self, RawJob};
use super::walk::quoted;
use crate::model::job::{
    Compress, Deadline, Expectation, Job, Level, Scope, Since, Template, Work,
};

/// Every job that is right, and what is wrong with the others. That a server is there is seen to
/// with all other names.
pub(super) fn resolve(raw: &RawInventory, folder: &Path) -> (Vec<Job>, Vec<Issue>) {
    let mut issues = Vec::new();
    let mut jobs = Vec::new();
    for (index, raw) in raw.jobs.iter().flatten().enumerate() {
        let base = [Step::known("jobs"), Step::Item(index)];
        let mut build = Build { base: &base, index, folder, raw, issues: &mut issues };
        jobs.extend(build.job());
    }
    (jobs, issues)
}

struct Build<'a> {
    base: &'a [Step],
    index: usize,
    folder: &'a Path,
    raw: &'a RawJob,
    issues: &'a mut Vec<Issue>,
}

impl Build<'_> {
    fn job(&mut self) -> Option<Job> {
        let raw = self.raw;
        let name = raw.name.clone()?;
        let work = self.work();
        let time_zone = raw.schedule.as_ref().and_then(|schedule| schedule.0.time_zone.clone());
        let deadline = raw
            .deadline
            .as_deref()
            .and_then(|text| self.read("deadline", Deadline::parse(text), "deadline", text));
        let mut expect = Vec::new();
        for (name, text) in raw.expect.iter().flatten() {
            match Expectation::parse(text) {
                Ok(expectation) => expect.push((name.clone(), expectation)),
                Err(why) => {
                    let mut path = steps(self.base, "expect");
                    path.push(Step::key(name));
                    let message = format!("bad expectation {}: {why}", quoted(text));
                    self.issues.push(Issue::new(path, message));
                }
            }
        }
        let min_interval = raw.min_interval.map(|pause| pause.0);
        Some(Job { name, work: work?, time_zone, deadline, expect, min_interval })
    }

    /// `None` when it does not say one thing; that is told with all other names, or here.
    fn work(&mut self) -> Option<Work> {
        let raw = self.raw;
        match (&raw.export, &raw.import, &raw.sync, &raw.migrate) {
            (Some(server), None, None, None) => {
                self.refuse("export", &[("from", raw.from.is_some())]);
                let since = raw.since.as_deref().and_then(|text| self.since(text));
                let compress = raw.compress.map_or(Compress::None, compress);
                let (scope, to) = (self.scope(), self.place("to", raw.to.as_ref()));
                Some(Work::Export {
                    server: server.clone(),
                    scope: scope?,
                    since,
                    to: to?,
                    compress,
                })
            }
            (None, Some(server), None, None) => {
                let is_scoped = self.scope_keys();
                self.refuse(
                    "import",
                    &[("to", raw.to.is_some()), ("expect", raw.expect.is_some())],
                );
                self.refuse("import", &is_scoped);
                self.refuse("import", &self.export_keys());
                let from = self.places();
                Some(Work::Import { server: server.clone(), from: from? })
            }
            (None, None, Some(server), None) => {
                let keys = [
                    ("from", raw.from.is_some()),
                    ("since", raw.since.is_some()),
                    ("compress", raw.compress.is_some()),
                ];
                self.refuse("sync", &keys);
                let (scope, to) = (self.scope(), self.place("to", raw.to.as_ref()));
                let to = to?;
                if to.is_dated() {
                    self.issue(
                        "to",
                        "sync keeps one folder current: {date} and {time} have no place in it",
                    );
                }
                Some(Work::Sync { server: server.clone(), scope: scope?, to })
            }
            (None, None, None, Some(source)) => {
                self.refuse(
                    "migrate",
                    &[("from", raw.from.is_some()), ("expect", raw.expect.is_some())],
                );
                self.refuse("migrate", &self.export_keys());
                let scope = self.scope();
                let target = self.needed("to", raw.to.as_ref())?;
                if target == *source {
                    self.issue("to", "a server cannot be moved to itself");
                }
                Some(Work::Migrate { source: source.clone(), target, scope: scope? })
            }
            _ => None,
        }
    }

    fn scope_keys(&self) -> [(&'static str, bool); 4] {
        let raw = self.raw;
        [
            ("group", raw.group.is_some()),
            ("level", raw.level.is_some()),
            ("types", raw.types.is_some()),
            ("type_filter", raw.type_filter.is_some()),
        ]
    }

    fn export_keys(&self) -> [(&'static str, bool); 3] {
        let raw = self.raw;
        [
            ("since", raw.since.is_some()),
            ("compress", raw.compress.is_some()),
            ("min_interval", raw.min_interval.is_some()),
        ]
    }

    fn scope(&mut self) -> Option<Scope> {
        let raw = self.raw;
        let level = match (raw.level, &raw.group) {
            (None | Some(raw_later::Level::Group), Some(group)) => {
                Some(Level::Group(group.clone()))
            }
            (Some(raw_later::Level::Group), None) => {
                self.issue("level", "level: group needs the group's id: group: ID");
                return None;
            }
            (Some(_), Some(_)) => {
                self.issue("group", "a group goes with level: group, or without a level");
                return None;
            }
            (Some(raw_later::Level::System), None) => Some(Level::System),
            (Some(raw_later::Level::Patient), None) => Some(Level::Patient),
            (None, None) => None,
        };
        Some(Scope {
            level,
            types: raw.types.clone().unwrap_or_default(),
            type_filter: raw.type_filter.clone().unwrap_or_default(),
        })
    }

    fn since(&mut self, text: &str) -> Option<Since> {
        if text == "last" {
            return Some(Since::Last);
        }
        let why = "write last, or date, time and offset such as 2026-01-31T00:00:00Z";
        let read = match leaf::instant(text) {
            Ok(_) => Ok(Since::Instant(text.to_owned())),
            Err(Flaw::Bad(_) | Flaw::Secret(_)) => Err(why.to_owned()),
        };
        self.read("since", read, "time", text)
    }

    fn place(&mut self, key: &'static str, text: Option<&String>) -> Option<Template> {
        let text = self.needed(key, text)?;
        let template = Template::parse(&text, self.folder);
        self.read(key, template, "place", &text)
    }

    /// Several are parted by commas.
    fn places(&mut self) -> Option<Vec<Template>> {
        let text = self.needed("from", self.raw.from.as_ref())?;
        let places = text.split(',').map(str::trim).filter(|place| !place.is_empty());
        let places: Result<Vec<_>, _> =
            places.map(|place| Template::parse(place, self.folder)).collect();
        self.read("from", places, "place", &text)
    }

    fn needed(&mut self, key: &'static str, text: Option<&String>) -> Option<String> {
        if text.is_none() {
            let message = format!("jobs[{}] has no {key}", self.index);
            self.issues.push(Issue::new(self.base.to_vec(), message));
        }
        text.cloned()
    }

    fn read<T>(
        &mut self,
        key: &'static str,
        read: Result<T, String>,
        noun: &str,
        text: &str,
    ) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(why) => {
                self.issue(key, &format!("bad {noun} {}: {why}", quoted(text)));
                None
            }
        }
    }

    fn refuse(&mut self, kind: &str, keys: &[(&'static str, bool)]) {
        for (key, _) in keys.iter().filter(|(_, is_said)| *is_said) {
            self.issue(key, &format!("a job that does {kind} has no {key}"));
        }
    }

    fn issue(&mut self, key: &'static str, message: &str) {
        self.issues.push(Issue::new(steps(self.base, key), message));
    }
}

fn compress(raw: raw_later::Compress) -> Compress {
    match raw {
        raw_later::Compress::None => Compress::None,
        raw_later::Compress::Gzip => Compress::Gzip,
        raw_later::Compress::Zstd => Compress::Zstd,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Inventory, Overrides, parse};
    use super::*;
    use crate::model::Result;

    fn read(job: &str) -> Result<Inventory> {
        let text = format!(
            "version: 1\nservers:\n  - {{name: a, url: 'https://a.example.org'}}\n  - {{name: b, url: 'https://b.example.org'}}\njobs:\n  - {{{job}}}\n"
        );
        parse(&text, Path::new("/etc/fhir/servers.yaml"), &Overrides::default())
    }

    #[test]
    fn each_kind_of_job_is_resolved() {
        for (job, kind, server, place) in [
            (
                "name: n, export: a, to: 'x/{date}', since: last, compress: gzip",
                "export",
                "a",
                "x/{date}",
            ),
            ("name: n, import: b, from: 'x, y.ndjson'", "import", "b", "x, y.ndjson"),
            ("name: n, sync: a, level: system, to: kept", "sync", "a", "kept"),
            ("name: n, migrate: a, to: b", "migrate", "a", "b"),
        ] {
            let inventory = read(job).unwrap_or_else(|error| panic!("{job}: {}", error.message));
            let found = inventory.job("n").unwrap();
            assert_eq!((found.work.kind(), found.work.server()), (kind, server));
            assert_eq!(found.work.place(), place);
        }
        let inventory = read(
            "name: n, export: a, group: g, types: [Patient], to: x, deadline: '06:00', min_interval: 0s, schedule: {time_zone: Europe/Berlin}, expect: {Patient: '>= 5'}",
        )
        .unwrap();
        let job = &inventory.jobs()[0];
        assert_eq!(job.time_zone.as_deref(), Some("Europe/Berlin"));
        assert_eq!(job.min_interval, Some(std::time::Duration::ZERO));
        assert_eq!(job.expect, [("Patient".to_owned(), Expectation::Between(5, u64::MAX))]);
        let Work::Export { scope, .. } = &job.work else { panic!("{job:?}") };
        assert_eq!(scope.level, Some(Level::Group("g".into())));
    }

    #[test]
    fn what_is_wrong_with_a_job_is_told_at_its_place() {
        for (job, key, told) in [
            ("name: n, export: c, to: x", "jobs[0].export", "no server is named \"c\""),
            ("name: n, export: a, sync: a, to: x", "jobs[0]", "needs one of export"),
            ("name: n, to: x", "jobs[0]", "needs one of export"),
            ("name: n, export: a", "jobs[0]", "jobs[0] has no to"),
            ("name: n, import: a", "jobs[0]", "jobs[0] has no from"),
            ("name: n, export: a, to: x, level: group", "jobs[0].level", "group: ID"),
            ("name: n, export: a, to: x, level: system, group: g", "jobs[0].group", "level: group"),
            ("name: n, export: a, to: 'x/{day}'", "jobs[0].to", "{date}, {time}, {job}, {server}"),
            ("name: n, export: a, to: x, deadline: '25:00'", "jobs[0].deadline", "00:00 to 23:59"),
            ("name: n, export: a, to: x, deadline: soon", "jobs[0].deadline", "such as 4h"),
            ("name: n, export: a, to: x, since: yesterday", "jobs[0].since", "write last"),
            (
                "name: n, export: a, to: x, expect: {Patient: many}",
                "jobs[0].expect.Patient",
                "within 10% of last",
            ),
            (
                "name: n, export: a, to: x, expect: {patient: '5'}",
                "jobs[0].expect.patient",
                "such as Patient",
            ),
            ("name: n, export: a, to: x, types: [patient]", "jobs[0].types[0]", "such as Patient"),
            ("name: n, export: a, to: x, from: y", "jobs[0].from", "has no from"),
            ("name: n, import: a, from: x, to: y", "jobs[0].to", "has no to"),
            ("name: n, import: a, from: x, min_interval: 1h", "jobs[0].min_interval", "has no"),
            ("name: n, sync: a, to: 'x/{date}'", "jobs[0].to", "one folder"),
            ("name: n, sync: a, to: x, since: last", "jobs[0].since", "has no since"),
            ("name: n, migrate: a, to: a", "jobs[0].to", "itself"),
            ("name: n, migrate: a, to: c", "jobs[0].to", "no server is named \"c\""),
        ] {
            let error = read(job).unwrap_err();
            assert_eq!(error.exit().0, 78, "{job}");
            assert!(error.message.contains(told), "{job}: {}", error.message);
            let location = error.location.unwrap();
            assert_eq!((location.line, location.key.as_deref()), (Some(6), Some(key)), "{job}");
        }
    }
}
