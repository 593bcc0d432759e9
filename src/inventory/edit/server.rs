//! Changes of whole servers, as changes of the document.

use serde_json::{Map, Value};

use super::{Op, Path, Step, lookup};
use crate::model::text::nearest;
use crate::model::{Error, Result};

/// The keys of a job that name a server.
const JOB_KEYS: [&str; 9] =
    ["server", "export", "import", "sync", "changes", "migrate", "source", "target", "subscribe"];

/// The names of all servers, in the order of the file.
#[must_use]
pub fn server_names(document: &Value) -> Vec<&str> {
    servers(document).filter_map(name_of).collect()
}

/// The path of a server's entry.
///
/// # Errors
/// Exit 66 when there is no server of that name, with the one that may be meant.
pub fn find_server(document: &Value, name: &str) -> Result<Path> {
    match servers(document).position(|server| name_of(server) == Some(name)) {
        Some(index) => Ok(vec!["servers".into(), index.into()]),
        None => {
            let error = Error::not_found(format!("no server is named {name}"));
            Err(match nearest(name, server_names(document)) {
                Some(near) => error.hint(format!("did you mean {near}?")),
                None => error.hint("fhirctl list shows them"),
            })
        }
    }
}

/// A server's entry as it stands, merge keys and aliases applied.
#[must_use]
pub fn server_entry<'v>(document: &'v Value, name: &str) -> Option<&'v Map<String, Value>> {
    servers(document).find(|server| name_of(server) == Some(name)).and_then(Value::as_object)
}

/// Takes a server out of the list and out of the groups that it is a member of.
///
/// # Errors
/// Exit 66 when there is no such server. Exit 78 when a job works on it or when a group would
/// name nobody.
pub fn remove_server(document: &Value, name: &str) -> Result<Vec<Op>> {
    let path = find_server(document, name)?;
    if let Some((job, _)) = jobs_with(document, name).next() {
        let job = named(&lookup(document, &job), "a job");
        return Err(
            Error::config(format!("{job} works on {name}")).hint("change or remove the job first")
        );
    }
    let mut ops = Vec::new();
    for (group, members) in memberships(document, name) {
        if members.total == members.places.len() {
            let group = named(&lookup(document, &group), "a group");
            return Err(Error::config(format!("{group} has no other member than {name}"))
                .hint("remove the group first, or give it another member"));
        }
        ops.extend(members.places.into_iter().rev().map(Op::Remove));
    }
    ops.push(Op::Remove(path));
    Ok(ops)
}

/// Gives a server another name, in its groups and jobs too. References to its secrets stay.
///
/// # Errors
/// Exit 66 when there is no such server, exit 64 when the new name is taken.
pub fn rename_server(document: &Value, from: &str, to: &str) -> Result<Vec<Op>> {
    let mut path = find_server(document, from)?;
    if server_entry(document, to).is_some() {
        return Err(Error::usage(format!("a server is already named {to}"))
            .hint("choose another name; fhirctl list shows those in use"));
    }
    path.push("name".into());
    let name = Value::from(to);
    let mut ops = vec![Op::Set(path, name.clone())];
    for (_, members) in memberships(document, from) {
        ops.extend(members.places.into_iter().map(|place| Op::Set(place, name.clone())));
    }
    ops.extend(jobs_with(document, from).map(|(mut job, key)| {
        job.push(key.into());
        Op::Set(job, name.clone())
    }));
    Ok(ops)
}

struct Members {
    total: usize,
    places: Vec<Path>,
}

/// The groups that a server is in, with its places in them.
fn memberships<'v>(
    document: &'v Value,
    name: &'v str,
) -> impl Iterator<Item = (Path, Members)> + use<'v> {
    list(document, "groups").enumerate().filter_map(move |(index, group)| {
        let path: Path = vec!["groups".into(), index.into()];
        let members = group.get("members")?.as_array()?;
        let places: Vec<Path> = members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.as_str() == Some(name))
            .map(|(place, _)| {
                path.iter().cloned().chain([Step::from("members"), place.into()]).collect()
            })
            .collect();
        (!places.is_empty()).then_some((path, Members { total: members.len(), places }))
    })
}

/// The jobs that name a server, with the key that does.
fn jobs_with<'v>(
    document: &'v Value,
    name: &'v str,
) -> impl Iterator<Item = (Path, &'static str)> + use<'v> {
    list(document, "jobs").enumerate().flat_map(move |(index, job)| {
        // Where a migration goes to is a server; of every other job it is a place.
        let target = job.get("migrate").map(|_| "to");
        JOB_KEYS
            .into_iter()
            .chain(target)
            .filter(move |key| job.get(key).and_then(Value::as_str) == Some(name))
            .map(move |key| (vec!["jobs".into(), index.into()], key))
    })
}

fn named(value: &Option<&Value>, otherwise: &str) -> String {
    match value.and_then(name_of) {
        Some(name) => format!("{otherwise} ({name})").replacen("a ", "the ", 1),
        None => otherwise.to_owned(),
    }
}

fn servers(document: &Value) -> impl Iterator<Item = &Value> {
    list(document, "servers")
}

fn list<'v>(document: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    document.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn name_of(value: &Value) -> Option<&str> {
    value.get("name").and_then(Value::as_str)
}
