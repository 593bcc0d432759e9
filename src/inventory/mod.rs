//! The inventory: which servers there are, and every value that holds for each.
//!
//! Enters: the text of `servers.yaml`, presets and built-in values, and what the command line
//! overrides. Leaves: [`Inventory`] with one usable [`Server`] per entry, the schema of the file,
//! and every value with its origin. Called by commands, through the context.
//!
//! ```text
//! text → tree (with places) → walk by the schema → raw → meaning, resolve → Server
//!                              ↘ problems, all of them, with line, column and caret
//! ```

mod agreement;
mod cron;
pub mod directory;
pub mod edit;
mod effective;
mod jobs;
mod layer;
mod leaf;
mod link;
mod meaning;
mod path;
pub mod preset;
mod problem;
mod raw;
mod raw_auth;
mod raw_later;
mod raw_transport;
mod reference;
mod resolve;
pub mod select;
mod shape;
mod sign_in;
mod survey;
mod tree;
mod walk;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use agreement::{HistorySettings, Retention};
pub use cron::runs_per_day;
pub use effective::{Effective, effective};
pub use select::{Selection, select};
pub use shape::inventory_schema;
pub use survey::{GroupKind, Job, Layer, Said, Survey};

use self::path::{Step, name_of, place_of};
use self::problem::Report;
use self::raw::RawInventory;
use self::tree::{Place, Tree};
use crate::model::{Error, ErrorKind, Location, Result, Server, job};

/// A larger file is refused unread.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// A reference as it stands in an inventory, with its relative path below the inventory's folder.
#[must_use]
pub fn below(inventory: &Path, reference: crate::model::SecretRef) -> crate::model::SecretRef {
    sign_in::absolute(inventory.parent().unwrap_or(Path::new("")), reference)
}

/// Every server of one file, ready to be used.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    pub path: PathBuf,
    /// In the order of the file.
    pub servers: Vec<Server>,
    pub groups: Vec<Group>,
    pub history: HistorySettings,
    jobs: Vec<job::Job>,
    names: HashMap<String, usize>,
}

/// Servers that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    /// Names of servers, the preferred one first.
    pub members: Vec<String>,
}

/// What the command line and the environment say over the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides {
    /// The deadline of one server's whole check, and which flag or variable says so.
    pub deadline: Option<(Duration, &'static str)>,
    /// Shortens the built-in deadline: a Nagios waits ten seconds.
    pub nagios: bool,
}

impl Inventory {
    /// The server of exactly this name.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.get(self.index_of(name)?)
    }

    /// The jobs, in the order of the file.
    #[must_use]
    pub fn jobs(&self) -> &[job::Job] {
        &self.jobs
    }

    /// The job of exactly this name.
    #[must_use]
    pub fn job(&self, name: &str) -> Option<&job::Job> {
        self.jobs.iter().find(|job| job.name == name)
    }

    fn index_of(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }
}

/// Reads the inventory from a file.
///
/// # Errors
/// Exit 66 when there is no such file, 74 when it cannot be read, 78 for what is wrong in it: all
/// of that at once, each with line, column and key.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Inventory> {
    parse(&read(path)?, path, overrides)
}

/// The text of an inventory's file.
///
/// # Errors
/// As [`load`]; 78 for a file that is no UTF-8 text.
pub fn read(path: &Path) -> Result<String> {
    let metadata = std::fs::metadata(path).map_err(|error| {
        let error = Error::io("read the inventory", path, &error);
        match error.kind {
            ErrorKind::NotFound => {
                error.hint("fhirctl init writes a first one; --inventory FILE names another")
            }
            _ => error,
        }
    })?;
    let unfit = |why: &str| {
        let message = format!("{}: {why}", path.display());
        Error::config(message).at(Location {
            file: path.to_owned(),
            line: None,
            column: None,
            key: None,
        })
    };
    if metadata.is_dir() {
        return Err(unfit("this is a folder; name the file, such as servers.yaml in it"));
    }
    if metadata.len() > MAX_BYTES {
        return Err(unfit("larger than 64 MiB; this is no inventory"));
    }
    let bytes =
        std::fs::read(path).map_err(|error| Error::io("read the inventory", path, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let upto = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..upto].iter().filter(|byte| **byte == b'\n').count() + 1;
        let mut problem = unfit(&format!("line {line} is not UTF-8; save the file as UTF-8"));
        if let Some(location) = &mut problem.location {
            location.line = u32::try_from(line).ok();
        }
        problem
    })
}

/// Reads an inventory from its text; the path is for messages and relative paths.
///
/// # Errors
/// Exit 78, as [`load`].
pub fn parse(text: &str, path: &Path, overrides: &Overrides) -> Result<Inventory> {
    let text = without_mark(text);
    let mut report = Report::default();
    let Some((tree, root, mut raw)) = understand(text, &mut report) else {
        return Err(report.into_error(text, path));
    };
    let mut issues = meaning::issues(&raw);
    let entries = raw.servers.take().unwrap_or_default();
    let mut resolver = resolve::Resolver::new(&raw, path, overrides);
    let mut servers = Vec::with_capacity(entries.len());
    let broken = Broken::of(&report);
    let (jobs, found) = jobs::resolve(&raw, &resolver.folder);
    // As with servers: what is wrong already is told once.
    let is_told = |issue: &meaning::Issue| {
        let job = name_of(&issue.path[..issue.path.len().min(2)]);
        report.problems.iter().any(|problem| problem.key.starts_with(&job))
    };
    issues.extend(found.into_iter().filter(|issue| !is_told(issue)));
    for (index, entry) in entries.into_iter().enumerate() {
        // What is wrong already would only be told a second time in other words.
        if broken.covers(index) {
            continue;
        }
        match resolver.server(index, entry) {
            Ok(server) => servers.push(server),
            Err(found) => issues.extend(found),
        }
    }
    for issue in issues {
        report.add(place_of(&tree, root, &issue.path), name_of(&issue.path), issue.message);
    }
    if !report.problems.is_empty() {
        return Err(report.into_error(text, path));
    }
    let history = agreement::history(raw.history.as_ref(), &resolver.folder);
    let names = servers.iter().enumerate().map(|(index, s)| (s.name.clone(), index)).collect();
    let groups = raw
        .groups
        .unwrap_or_default()
        .into_iter()
        .filter_map(|group| Some(Group { name: group.name?, members: group.members? }))
        .collect();
    Ok(Inventory { path: path.to_owned(), servers, groups, history, jobs, names })
}

/// The names in a file, for completion in a shell: whatever can be read, without a word about
/// what cannot.
#[must_use]
pub fn server_names(path: &Path) -> Vec<String> {
    names_below(path, "servers")
}

/// The names of the jobs in a file, as [`server_names`].
#[must_use]
pub fn job_names(path: &Path) -> Vec<String> {
    names_below(path, "jobs")
}

fn names_below(path: &Path, list: &str) -> Vec<String> {
    let Ok(text) = read(path) else { return Vec::new() };
    let Ok(tree) = Tree::read(without_mark(&text)) else { return Vec::new() };
    let Some(list) = tree.root().and_then(|root| tree.entry(root, list)) else {
        return Vec::new();
    };
    tree.items(list.value)
        .iter()
        .filter_map(|item| tree.text(tree.entry(*item, "name")?.value))
        .filter(|name| leaf::check("name", name).is_ok())
        .map(str::to_owned)
        .collect()
}

/// The tree and its typed reading; `None` when the text cannot be understood at all.
fn understand<'a>(
    text: &'a str,
    report: &mut Report,
) -> Option<(Tree<'a>, tree::NodeId, RawInventory)> {
    let mut tree = match Tree::read(text) {
        Ok(tree) => tree,
        Err(broken) => {
            report.unread = true;
            let end = text.len().min(broken.at + 1);
            report.add(Place { start: broken.at, end }, "", broken.message);
            return None;
        }
    };
    let Some(root) = tree.root() else {
        report.add(
            Place::default(),
            "",
            "the file is empty; an inventory begins with version: 1 (fhirctl init writes one)",
        );
        return None;
    };
    for flaw in std::mem::take(&mut tree.flaws) {
        report.add(Place { start: flaw.at, end: flaw.at + 1 }, "", flaw.message);
    }
    let value = walk::walk(&tree, root, report);
    if value.is_null() {
        return None;
    }
    match serde_json::from_value(value) {
        Ok(raw) => Some((tree, root, raw)),
        Err(_) if !report.problems.is_empty() => None,
        // The types and the schema are one description; the error's text could quote a secret.
        Err(_) => {
            report.add(Place::default(), "", "the file does not fit its own description");
            None
        }
    }
}

/// Windows editors begin a file with a byte-order mark.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Which parts of the file have problems already.
struct Broken {
    shared: bool,
    servers: Vec<usize>,
}

impl Broken {
    fn of(report: &Report) -> Broken {
        let mut broken = Broken { shared: false, servers: Vec::new() };
        for problem in &report.problems {
            match problem.key.strip_prefix("servers[").and_then(|rest| rest.split_once(']')) {
                Some((index, _)) => broken.servers.extend(index.parse::<usize>()),
                None => {
                    broken.shared |= problem.key.starts_with("defaults") || problem.key.is_empty();
                }
            }
        }
        broken.servers.sort_unstable();
        broken
    }

    fn covers(&self, index: usize) -> bool {
        self.shared || self.servers.binary_search(&index).is_ok()
    }
}

/// A server's path in the file.
fn server_path(index: usize) -> [Step; 2] {
    [Step::known("servers"), Step::Item(index)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_text(text: &str) -> Result<Inventory> {
        parse(text, Path::new("servers.yaml"), &Overrides::default())
    }

    #[test]
    fn the_least_that_can_stand_in_a_file_is_read() {
        for text in [
            "version: 1",
            "version: 1\nservers:\n",
            "version: 1\nservers: []\n",
            "\u{feff}version: 1\r\nservers:\r\n  - name: a\r\n    url: https://a.example.org\r\n",
            "{\"version\": 1, \"servers\": [{\"name\": \"a\", \"url\": \"https://a.example.org\"}]}",
        ] {
            let inventory = read_text(text).unwrap_or_else(|error| panic!("{}", error.message));
            assert_eq!(inventory.server("a").is_some(), text.contains('a'), "{text}");
        }
    }

    #[test]
    fn names_for_completion_come_out_of_a_broken_file_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("servers.yaml");
        assert_eq!(server_names(&path), Vec::<String>::new());
        std::fs::write(&path, "servers: [{name: a, nope: 1}, {name: b}, {url: x}, 5]").unwrap();
        assert_eq!(server_names(&path), ["a", "b"]);
        std::fs::write(&path, "jobs: [{name: nightly, nope: 1}]").unwrap();
        assert_eq!(job_names(&path), ["nightly"]);
        std::fs::write(&path, "servers: [").unwrap();
        assert_eq!(server_names(&path), Vec::<String>::new());
    }

    #[test]
    fn every_broken_server_is_told_once() {
        let error = read_text(
            "version: 1\nservers:\n  - {name: a, url: x}\n  - {name: b, url: 'https://b', auth: {method: basic}}\n",
        )
        .unwrap_err();
        assert_eq!(error.exit().0, 78);
        assert_eq!(error.message.matches("servers.yaml:").count(), 2, "{}", error.message);
        let location = error.location.unwrap();
        assert_eq!((location.line, location.column), (Some(3), Some(20)));
        assert_eq!(location.key.as_deref(), Some("servers[0].url"));
    }

    /// Where a person may write the secret itself; `SECRET` is where it goes.
    const SLIPS: [&str; 22] = [
        "auth: {method: basic, username: u, password: SECRET}",
        "auth: {method: basic, username: u, passwrod: SECRET}",
        "auth: {method: bearer, token: SECRET, tokn: SECRET}",
        "auth: {method: bearer, token: {exec: SECRET}}",
        "auth: {method: bearer, token: [SECRET]}",
        "auth: {method: bearer, token: {value: SECRET}}",
        "auth: {method: api-key, header: X-Key, value: SECRET, valeu: SECRET}",
        "auth: SECRET",
        "auth: [SECRET]",
        "auth: {SECRET}",
        "auth: {method: headers, Authorization: SECRET}",
        "auth: {method: headers, headers: {X-Key: SECRET}}",
        "extra_headers: {Authorization: SECRET, nope nope: x}",
        "auth: {method: basic, password: \"SECRET}",
        "auth: {method: basic, username: u, password: SECRET, password: SECRET}",
        "auth:\n      method: basic\n      username: u\n      password: |\n        SECRET\n      nope: 1",
        "auth:\n      method: basic\n      password: >\n        SECRET\n     broken: [",
        "network: {proxy: \"http://u:SECRET@proxy.example.org:3128\"}",
        "password: SECRET",
        "token: SECRET",
        "tls: {client_certificate: {certificate: c.pem, key: SECRET}}",
        "checks: {search: [\"Patient?access_token=SECRET\"]}",
    ];

    #[test]
    fn a_secret_in_the_clear_is_never_repeated() {
        for slip in SLIPS {
            for url in ["https://a.example.org", "https://u:hunter2hunter2@a.example.org"] {
                let slip = slip.replace("SECRET", "hunter2hunter2");
                let text =
                    format!("version: 1\nservers:\n  - name: a\n    url: \"{url}\"\n    {slip}\n");
                let error = read_text(&text).unwrap_err();
                let all = format!("{error:?} {}", error.message);
                assert!(!all.contains("hunter2"), "{text}\n{all}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC*") {
            let _ = read_text(&text);
        }

        #[test]
        fn no_shuffled_inventory_makes_the_reader_panic(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    "version: 1\n", "servers:\n", "  - name: a\n", "    url: https://a\n", "&x ",
                    "*x", "<<: ", "{", "}", "[", "]", ", ", "auth: ", "method: basic", "password: ",
                    "\t", "|\n", ">\n", "'", "\"", "? ", ": ", "- ", "!!str ", "---\n", "é", "\u{0}",
                    "null", "groups:\n", "members: ", "#", "%", "\r\n", "defaults_for:\n", "select: a=b\n",
                ]),
                0..40,
            )
        ) {
            let _ = read_text(&pieces.concat());
        }

        #[test]
        fn no_password_in_the_clear_is_repeated(
            secret in "[A-Za-z0-9!$%^&*()+=:;,.?/@_-]{8,24}",
            slip in proptest::sample::select(SLIPS.to_vec()),
        ) {
            // Distinct enough that its letters stand in no message by chance.
            let secret = format!("Zq{secret}Zq");
            let slip = slip.replace("SECRET", &secret);
            let text = format!("version: 1\nservers:\n  - name: a\n    url: https://a.example.org\n    {slip}\n");
            if let Err(error) = read_text(&text) {
                prop_assert!(!error.message.contains(&secret), "{text}\n{}", error.message);
            }
        }
    }
}
