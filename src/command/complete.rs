//! What the shell completes beside words that never change: server names and reason codes.
//!
//! Nothing here touches the keyring or the network, and nothing here fails: no answer is an
//! answer.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use crate::context;
use crate::inventory;
use crate::lint::RuleInfo;
use crate::model::{Code, FindingInfo};

/// For arguments that name a server: `#[arg(add = complete::servers())]`.
#[must_use]
pub fn servers() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let words: Vec<OsString> = std::env::args_os().collect();
        server_names(word, &words)
    })
}

/// For arguments that name a job.
#[must_use]
pub fn jobs() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let words: Vec<OsString> = std::env::args_os().collect();
        let path = context::find_inventory(named_inventory(&words));
        let names = path.map(|path| inventory::job_names(&path)).unwrap_or_default();
        beginning_with(word, names.into_iter().map(|name| (name, None)))
    })
}

/// For arguments that name a reason code.
#[must_use]
pub fn codes() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        beginning_with(
            word,
            Code::all()
                .map(|info| (info.code.clone(), Some(info.title.clone())))
                .chain(FindingInfo::all().map(|info| (info.id.clone(), Some(info.title.clone()))))
                .chain(rule_names()),
        )
    })
}

/// For arguments that name a rule of `lint`.
#[must_use]
pub fn rules() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| beginning_with(word, rule_names()))
}

fn rule_names() -> impl Iterator<Item = (String, Option<String>)> {
    RuleInfo::all().map(|rule| (rule.id.clone(), Some(rule.title.clone())))
}

fn server_names(word: &OsStr, words: &[OsString]) -> Vec<CompletionCandidate> {
    let Some(path) = context::find_inventory(named_inventory(words)) else { return Vec::new() };
    beginning_with(word, inventory::server_names(&path).into_iter().map(|name| (name, None)))
}

fn beginning_with(
    word: &OsStr,
    known: impl Iterator<Item = (String, Option<String>)>,
) -> Vec<CompletionCandidate> {
    let word = word.to_string_lossy();
    known
        .filter(|(name, _)| name.starts_with(&*word))
        .map(|(name, help)| CompletionCandidate::new(name).help(help.map(Into::into)))
        .collect()
}

/// The inventory that the half-typed command line names; the shell hands the line over after
/// `--`. Without one the environment and the usual places count.
fn named_inventory(words: &[OsString]) -> Option<PathBuf> {
    let typed = words.iter().position(|word| word == "--").map_or(words, |at| &words[at + 1..]);
    let mut typed = typed.iter();
    while let Some(word) = typed.next() {
        if word == "-i" || word == "--inventory" {
            return typed.next().map(PathBuf::from);
        }
        if let Some(path) = word.to_str().and_then(|word| word.strip_prefix("--inventory=")) {
            return Some(PathBuf::from(path));
        }
    }
    context::variable("FHIRCTL_INVENTORY").map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inventory_on_the_half_typed_line_is_used() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for line in [
            "fhirctl -- fhirctl check -i a.yaml ep",
            "fhirctl -- fhirctl --inventory=a.yaml check ep",
        ] {
            assert_eq!(named_inventory(&words(line)), Some("a.yaml".into()), "{line}");
        }
    }

    #[test]
    fn servers_of_that_inventory_are_offered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("servers.yaml");
        let entry = |name: &str| format!("  - name: {name}\n    url: https://{name}.example.org\n");
        let text = format!("version: 1\nservers:\n{}{}", entry("epic-prod"), entry("hapi"));
        std::fs::write(&path, text).unwrap();
        let words = ["fhirctl".into(), "--".into(), "-i".into(), path.into_os_string()];
        let offered = |word: &str| -> Vec<OsString> {
            let candidates = server_names(OsStr::new(word), &words);
            candidates.iter().map(|candidate| candidate.get_value().to_owned()).collect()
        };
        assert_eq!(offered("ep"), ["epic-prod"]);
        assert_eq!(offered(""), ["epic-prod", "hapi"]);
        let absent = [OsString::from("-i"), "/nowhere/servers.yaml".into()];
        assert!(server_names(OsStr::new(""), &absent).is_empty());
    }
}
