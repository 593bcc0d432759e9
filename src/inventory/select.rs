//! Which servers a command is about.

use super::{Inventory, leaf};
use crate::model::text::nearest;
use crate::model::{Error, Result, Server};

/// What the command line says about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Exact names and globs; they add up.
    pub names: Vec<String>,
    /// Conditions such as `env=prod,region!=us`; all have to hold.
    pub labels: Vec<String>,
    /// Any of these vendors.
    pub vendor: Vec<String>,
    /// A member of any of these groups.
    pub group: Vec<String>,
}

/// The servers that a selection means, in the order of the inventory, each once.
///
/// No name means every active server. An inactive one is meant by its exact name alone.
///
/// # Errors
/// Exit 66 when an exact name, a vendor or a group is not in the inventory, or nothing matches;
/// exit 64 for a condition or glob that cannot be read.
pub fn select<'a>(inventory: &'a Inventory, selection: &Selection) -> Result<Vec<&'a Server>> {
    let mut chosen = vec![selection.names.is_empty(); inventory.servers.len()];
    for (server, chosen) in inventory.servers.iter().zip(&mut chosen) {
        *chosen &= server.active;
    }
    for name in &selection.names {
        add(inventory, name, &mut chosen)?;
    }

    let mut terms = Vec::new();
    for text in &selection.labels {
        terms.extend(leaf::condition(text).map_err(|_| {
            Error::usage(format!("cannot read the label condition {text:?}"))
                .hint("write key=value or key!=value, joined by commas")
        })?);
    }
    let members = members(inventory, &selection.group)?;

    let servers: Vec<&Server> = inventory
        .servers
        .iter()
        .zip(&chosen)
        .filter(|(_, chosen)| **chosen)
        .map(|(server, _)| server)
        .filter(|server| terms.iter().all(|term| term.holds(label(server, &term.key))))
        .filter(|server| {
            selection.vendor.is_empty()
                || selection.vendor.iter().any(|name| server.vendor.as_deref() == Some(name))
        })
        .filter(|server| members.as_ref().is_none_or(|all| all.contains(&server.name.as_str())))
        .collect();
    if servers.is_empty() {
        return Err(nothing(inventory, selection));
    }
    Ok(servers)
}

/// A label's value; `vendor` counts as a label where there is none of that name.
fn label<'a>(server: &'a Server, key: &str) -> Option<&'a str> {
    match server.labels.get(key) {
        Some(value) => Some(value),
        None if key == "vendor" => server.vendor.as_deref(),
        None => None,
    }
}

fn add(inventory: &Inventory, name: &str, chosen: &mut [bool]) -> Result<()> {
    if let Some(index) = inventory.index_of(name) {
        chosen[index] = true;
        return Ok(());
    }
    if !name.contains(['*', '?', '[']) {
        return Err(unknown("server", name, inventory.servers.iter().map(|s| s.name.as_str()))
            .hint("fhirctl list shows what is registered"));
    }
    let pattern = glob::Pattern::new(name).map_err(|error| {
        Error::usage(format!("cannot read the pattern {name:?}: {}", error.msg))
    })?;
    let mut any = false;
    for (server, chosen) in inventory.servers.iter().zip(chosen) {
        if server.active && pattern.matches(&server.name) {
            *chosen = true;
            any = true;
        }
    }
    if any {
        return Ok(());
    }
    Err(Error::not_found(format!("no active server matches {name:?}"))
        .hint("fhirctl list shows what is registered"))
}

fn members<'a>(inventory: &'a Inventory, groups: &[String]) -> Result<Option<Vec<&'a str>>> {
    if groups.is_empty() {
        return Ok(None);
    }
    let mut members = Vec::new();
    for name in groups {
        let group = inventory.groups.iter().find(|group| group.name == *name).ok_or_else(|| {
            unknown("group", name, inventory.groups.iter().map(|group| group.name.as_str()))
        })?;
        members.extend(group.members.iter().map(String::as_str));
    }
    Ok(Some(members))
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let error = Error::not_found(format!("no {what} is named {name:?}"));
    match nearest(name, known) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error,
    }
}

fn nothing(inventory: &Inventory, selection: &Selection) -> Error {
    let path = inventory.path.display();
    if inventory.servers.is_empty() {
        return Error::not_found(format!("{path} registers no server yet"))
            .hint("fhirctl add NAME URL registers one");
    }
    if *selection == Selection::default() {
        return Error::not_found(format!("no server of {path} is active"))
            .hint("fhirctl activate NAME puts one in use");
    }
    let error = Error::not_found(format!("no server of {path} matches the selection"));
    let vendors = inventory.servers.iter().filter_map(|server| server.vendor.as_deref());
    for name in &selection.vendor {
        let known: Vec<&str> = vendors.clone().collect();
        if !known.contains(&name.as_str())
            && let Some(near) = nearest(name, known)
        {
            return error.hint(format!("no server has the vendor {name:?}; did you mean {near}?"));
        }
    }
    error.hint("fhirctl list shows names, vendors and labels")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{Overrides, parse};

    const TEXT: &str = "\
version: 1
servers:
  - {name: a-1, url: 'https://a1.example.org', vendor: hapi, labels: {env: prod, region: eu}}
  - {name: a-2, url: 'https://a2.example.org', labels: {env: test}}
  - {name: b, url: 'https://b.example.org', vendor: helios, labels: {env: prod, region: us}}
  - {name: old, url: 'https://old.example.org', active: false, labels: {env: prod}}
groups:
  - {name: pair, members: [b, a-1]}
";

    fn names(selection: &Selection) -> Result<Vec<String>, (u8, String)> {
        let inventory = parse(TEXT, std::path::Path::new("servers.yaml"), &Overrides::default())
            .map_err(|error| (error.exit().0, error.message))?;
        select(&inventory, selection)
            .map(|servers| servers.iter().map(|server| server.name.clone()).collect())
            .map_err(|error| {
                (error.exit().0, format!("{} {}", error.message, error.hints.join(" ")))
            })
    }

    fn texts(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn names_add_up_and_filters_narrow() {
        type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], &'a [&'a str], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            (&[], &[], &[], &[], &["a-1", "a-2", "b"]),
            (&["b", "a-*"], &[], &[], &[], &["a-1", "a-2", "b"]),
            (&["a-*", "a-1"], &[], &[], &[], &["a-1", "a-2"]),
            (&["old"], &[], &[], &[], &["old"]),
            (&["*"], &[], &[], &[], &["a-1", "a-2", "b"]),
            (&[], &["env=prod"], &[], &[], &["a-1", "b"]),
            (&[], &["env=prod,region!=us"], &[], &[], &["a-1"]),
            (&[], &["env=prod", "region=us"], &[], &[], &["b"]),
            (&[], &["region!=us"], &[], &[], &["a-1", "a-2"]),
            (&[], &["vendor=hapi"], &[], &[], &["a-1"]),
            (&[], &[], &["hapi", "helios"], &[], &["a-1", "b"]),
            (&[], &[], &[], &["pair"], &["a-1", "b"]),
            (&["a-?"], &["env=prod"], &[], &["pair"], &["a-1"]),
        ];
        for (name, labels, vendor, group, expected) in cases {
            let selection = Selection {
                names: texts(name),
                labels: texts(labels),
                vendor: texts(vendor),
                group: texts(group),
            };
            assert_eq!(names(&selection), Ok(texts(expected)), "{selection:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_66_with_a_near_name() {
        let named = |name: &str| Selection { names: texts(&[name]), ..Selection::default() };
        let (exit, text) = names(&named("zebra")).unwrap_err();
        assert_eq!(exit, 66);
        assert!(text.contains("\"zebra\""), "{text}");
        assert!(names(&named("a-3")).unwrap_err().1.contains("did you mean a-1?"));
        assert_eq!(names(&named("zzz-*")).unwrap_err().0, 66);
        assert_eq!(names(&named("ol*")).unwrap_err().0, 66);
        let group = Selection { group: texts(&["pairs"]), ..Selection::default() };
        assert!(names(&group).unwrap_err().1.contains("did you mean pair?"));
        let labels = Selection { labels: texts(&["env=none"]), ..Selection::default() };
        assert_eq!(names(&labels).unwrap_err().0, 66);
        let broken = Selection { labels: texts(&["env"]), ..Selection::default() };
        assert_eq!(names(&broken).unwrap_err().0, 64);
        assert_eq!(names(&named("a[")).unwrap_err().0, 64);
    }
}
