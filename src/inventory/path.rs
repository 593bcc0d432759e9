//! Paths of keys inside the file, such as `servers[2].auth.method`.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::tree::{NodeId, Place, Tree};
use crate::model::text::{bounded, one_line};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(Cow<'static, str>),
    Item(usize),
}

impl Step {
    pub(super) fn key(name: &str) -> Step {
        Step::Key(Cow::Owned(name.to_owned()))
    }

    pub(super) const fn known(name: &'static str) -> Step {
        Step::Key(Cow::Borrowed(name))
    }
}

/// Reads `servers[2].auth.method` from constant text; keys with dots are pushed by hand.
pub(super) fn steps(base: &[Step], below: &'static str) -> Vec<Step> {
    let mut steps = base.to_vec();
    steps.extend(below.split('.').filter(|key| !key.is_empty()).map(Step::known));
    steps
}

pub(super) fn name_of(path: &[Step]) -> String {
    let mut name = String::new();
    for step in path {
        match step {
            Step::Key(key) => {
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(&bounded(&one_line(key), 60));
            }
            Step::Item(index) => {
                let _ = write!(name, "[{index}]");
            }
        }
    }
    name
}

/// The node at the end of a path, or the last one on the way that is there.
pub(super) fn find(tree: &Tree<'_>, root: NodeId, path: &[Step]) -> NodeId {
    let mut at = root;
    for step in path {
        let next = match step {
            Step::Key(key) => tree.entry(at, key).map(|entry| entry.value),
            Step::Item(index) => tree.items(at).get(*index).copied(),
        };
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    at
}

/// Where a path's value begins; for a map or a list only its first key.
pub(super) fn place_of(tree: &Tree<'_>, root: NodeId, path: &[Step]) -> Place {
    let id = find(tree, root, path);
    match tree.entries(id).first() {
        Some(entry) if !entry.merged => tree.node(entry.key).place,
        _ => tree.node(id).place,
    }
}
