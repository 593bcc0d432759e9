//! What the file says as a whole: names that occur twice, members and channels that do not exist.

use std::collections::HashMap;

use super::path::{Step, steps};
use super::raw::RawInventory;
use super::walk::quoted;
use crate::model::text::nearest;

/// Something wrong at a path of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Issue {
    pub(super) path: Vec<Step>,
    pub(super) message: String,
}

impl Issue {
    pub(super) fn new(path: Vec<Step>, message: impl Into<String>) -> Issue {
        Issue { path, message: message.into() }
    }
}

/// The version of the file's form that is read here.
const VERSION: u32 = 1;

pub(super) fn issues(raw: &RawInventory) -> Vec<Issue> {
    let mut issues = Vec::new();
    if let Some(version) = raw.version.filter(|version| *version != VERSION) {
        issues.push(Issue::new(
            vec![Step::known("version")],
            format!("version {version} of the inventory is not known; this fhirctl reads version {VERSION}"),
        ));
    }
    let servers = raw.servers.as_deref().unwrap_or_default();
    let groups = raw.groups.as_deref().unwrap_or_default();
    let jobs = raw.jobs.as_deref().unwrap_or_default();
    let alerts = raw.alerts.clone().unwrap_or_default();
    let channels = alerts.channels.unwrap_or_default();
    let rules = alerts.rules.unwrap_or_default();

    let name_of = |name: &Option<String>| name.clone().unwrap_or_default();
    let server_names: Vec<String> = servers.iter().map(|server| name_of(&server.name)).collect();
    let group_names: Vec<String> = groups.iter().map(|group| name_of(&group.name)).collect();
    let channel_names: Vec<String> =
        channels.iter().map(|channel| name_of(&channel.name)).collect();
    let job_names: Vec<String> = jobs.iter().map(|job| name_of(&job.name)).collect();
    let rule_names: Vec<String> = rules.iter().map(|rule| name_of(&rule.name)).collect();

    let alerts_path = [Step::known("alerts")];
    doubles(&mut issues, &steps(&[], "servers"), "servers", &server_names);
    doubles(&mut issues, &steps(&[], "groups"), "groups", &group_names);
    doubles(&mut issues, &steps(&[], "jobs"), "jobs", &job_names);
    doubles(&mut issues, &steps(&alerts_path, "channels"), "channels", &channel_names);
    doubles(&mut issues, &steps(&alerts_path, "rules"), "rules", &rule_names);

    for (index, group) in groups.iter().enumerate() {
        let path = vec![Step::known("groups"), Step::Item(index), Step::known("members")];
        let members = group.members.as_deref().unwrap_or_default();
        if group.members.is_some() && members.is_empty() {
            issues.push(Issue::new(path.clone(), format!("groups[{index}] has no members")));
        }
        known(&mut issues, &path, "server", members, &server_names);
        for (item, member) in members.iter().enumerate() {
            if members[..item].contains(member) {
                let mut path = path.clone();
                path.push(Step::Item(item));
                issues.push(Issue::new(path, format!("{} is a member twice", quoted(member))));
            }
        }
    }
    for (index, job) in jobs.iter().enumerate() {
        let base = [Step::known("jobs"), Step::Item(index)];
        let works = [
            ("export", &job.export),
            ("import", &job.import),
            ("sync", &job.sync),
            ("migrate", &job.migrate),
        ];
        for (key, server) in works {
            if let Some(server) = server {
                one_known(&mut issues, steps(&base, key), "server", server, &server_names);
            }
        }
        if let (Some(_), Some(target)) = (&job.migrate, &job.to) {
            one_known(&mut issues, steps(&base, "to"), "server", target, &server_names);
        }
        let count = works.iter().filter(|(_, server)| server.is_some()).count();
        if count != 1 && job.name.is_some() {
            issues.push(Issue::new(
                base.to_vec(),
                format!("jobs[{index}] needs one of export, import, sync and migrate"),
            ));
        }
        let heard = job.channels.as_deref().unwrap_or_default();
        known(&mut issues, &steps(&base, "channels"), "channel", heard, &channel_names);
    }
    for (index, rule) in rules.iter().enumerate() {
        let base = [Step::known("alerts"), Step::known("rules"), Step::Item(index)];
        let heard = rule.channels.as_deref().unwrap_or_default();
        known(&mut issues, &steps(&base, "channels"), "channel", heard, &channel_names);
    }
    issues
}

/// Finds names that occur twice in a list; empty ones have been told already.
fn doubles(issues: &mut Vec<Issue>, list: &[Step], what: &str, names: &[String]) {
    let mut seen: HashMap<&str, usize> = HashMap::with_capacity(names.len());
    for (index, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        if let Some(first) = seen.insert(name, index) {
            let mut path = list.to_vec();
            path.extend([Step::Item(index), Step::known("name")]);
            issues.push(Issue::new(
                path,
                format!("two {what} are named {}; the other is {what}[{first}]", quoted(name)),
            ));
        }
    }
}

fn known(issues: &mut Vec<Issue>, list: &[Step], what: &str, names: &[String], all: &[String]) {
    for (index, name) in names.iter().enumerate() {
        let mut path = list.to_vec();
        path.push(Step::Item(index));
        one_known(issues, path, what, name, all);
    }
}

fn one_known(issues: &mut Vec<Issue>, path: Vec<Step>, what: &str, name: &str, all: &[String]) {
    if all.iter().any(|known| known == name) {
        return;
    }
    let message = match nearest(name, all.iter().map(String::as_str)) {
        Some(near) if !near.is_empty() => {
            format!("no {what} is named {}; did you mean \"{near}\"?", quoted(name))
        }
        _ => format!("no {what} is named {}", quoted(name)),
    };
    issues.push(Issue::new(path, message));
}
