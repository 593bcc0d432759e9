//! What a resource says, without what every server writes anew, and in what two of them differ.
//!
//! Decimals are compared as they are written: in FHIR `1.50` is not `1.5` (R4, "decimal"). No value
//! leaves this room, only paths.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// Deeper resources are not compared; FHIR's own are far less deep.
const DEPTH: usize = 100;
/// Differences of one resource that are told.
const DIFFERENCES: usize = 50;
/// Longer names of elements are none of FHIR.
const NAME: usize = 64;
/// Elements of `meta` that a server writes for itself (R4, "Resource.meta").
const OWN: [&str; 2] = ["lastUpdated", "versionId"];
/// Lists of `meta` whose order says nothing.
const SETS: [&str; 3] = ["profile", "tag", "security"];

/// A part of a resource.
#[derive(Debug, PartialEq, Eq)]
enum Node<'a> {
    /// Numbers, `true`, `false` and `null`, as they are written.
    Plain(&'a str),
    Text(String),
    List(Vec<Node<'a>>),
    Object(BTreeMap<String, Node<'a>>),
}

/// A resource that was read.
#[derive(Debug)]
pub struct Content<'a> {
    root: BTreeMap<String, Node<'a>>,
}

/// How an element is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It was exported, and the target does not have it.
    Missing,
    /// The target has it, and it was not exported.
    Added,
    Changed,
    /// The same number, written otherwise.
    Rewritten,
}

/// Where two resources differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Such as `Patient.name[0].family`.
    pub path: String,
    pub kind: Kind,
}

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    pub differences: Vec<Difference>,
    /// What a server adds to `meta`: worth telling, and no change of content.
    pub noted: Vec<Difference>,
    /// Differences beyond those that are told.
    pub more: u64,
}

/// A reference as it stands in a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub path: String,
    pub text: String,
}

impl<'a> Content<'a> {
    /// Reads a resource; `None` when it is none, or too deep.
    #[must_use]
    pub fn read(json: &'a str) -> Option<Content<'a>> {
        let Node::Object(mut root) = node(json.trim(), 0)? else { return None };
        let is_bare = match root.get_mut("meta") {
            Some(Node::Object(meta)) => {
                OWN.iter().for_each(|name| drop(meta.remove(*name)));
                meta.is_empty()
            }
            _ => false,
        };
        if is_bare {
            root.remove("meta");
        }
        matches!(root.get("resourceType"), Some(Node::Text(_))).then_some(Content { root })
    }

    #[must_use]
    pub fn resource_type(&self) -> &str {
        self.text("resourceType")
    }

    #[must_use]
    pub fn id(&self) -> &str {
        self.text("id")
    }

    fn text(&self, name: &str) -> &str {
        match self.root.get(name) {
            Some(Node::Text(text)) => text,
            _ => "",
        }
    }

    /// SHA-256 of the content, the same whatever the order of its elements.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        feed_object(&self.root, &mut digest);
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Every literal reference with its place.
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        let mut path = self.resource_type().to_owned();
        for (name, node) in &self.root {
            below(&mut path, name, |path| references(name, node, path, &mut found));
        }
        found
    }
}

/// Holds what the target has against what was exported.
#[must_use]
pub fn compare(exported: &Content<'_>, found: &Content<'_>) -> Compared {
    let mut compared = Compared::default();
    let mut path = exported.resource_type().to_owned();
    let names = |root: &BTreeMap<String, Node<'_>>| -> BTreeMap<String, ()> {
        root.keys().map(|name| (name.clone(), ())).collect()
    };
    let mut all = names(&exported.root);
    all.extend(names(&found.root));
    for name in all.keys() {
        let pair = (exported.root.get(name), found.root.get(name));
        below(&mut path, name, |path| match (name.as_str(), pair) {
            ("meta", pair) => compared.meta(pair, path),
            (_, pair) => compared.pair(pair, path),
        });
    }
    compared
}

impl Compared {
    fn tell(&mut self, path: &str, kind: Kind) {
        if self.differences.len() < DIFFERENCES {
            self.differences.push(Difference { path: path.to_owned(), kind });
        } else {
            self.more += 1;
        }
    }

    fn note(&mut self, path: &str, kind: Kind) {
        if self.noted.len() < DIFFERENCES {
            self.noted.push(Difference { path: path.to_owned(), kind });
        }
    }

    fn pair(&mut self, pair: (Option<&Node<'_>>, Option<&Node<'_>>), path: &mut String) {
        match pair {
            (Some(exported), Some(found)) => self.nodes(exported, found, path),
            (Some(_), None) => self.tell(path, Kind::Missing),
            (None, Some(_)) => self.tell(path, Kind::Added),
            (None, None) => {}
        }
    }

    fn nodes(&mut self, exported: &Node<'_>, found: &Node<'_>, path: &mut String) {
        match (exported, found) {
            (Node::Object(exported), Node::Object(found)) => {
                for (name, node) in exported {
                    below(path, name, |path| self.pair((Some(node), found.get(name)), path));
                }
                for (name, node) in found.iter().filter(|(name, _)| !exported.contains_key(*name)) {
                    below(path, name, |path| self.pair((None, Some(node)), path));
                }
            }
            (Node::List(exported), Node::List(found)) => {
                for at in 0..exported.len().max(found.len()) {
                    let length = path.len();
                    path.push_str(&format!("[{at}]"));
                    self.pair((exported.get(at), found.get(at)), path);
                    path.truncate(length);
                }
            }
            (exported, found) if exported == found => {}
            (Node::Plain(exported), Node::Plain(found)) if is_same_number(exported, found) => {
                self.tell(path, Kind::Rewritten);
            }
            _ => self.tell(path, Kind::Changed),
        }
    }

    /// `meta` without what each server writes for itself: where it came from, and profiles and tags
    /// that a server adds, are noted.
    fn meta(&mut self, pair: (Option<&Node<'_>>, Option<&Node<'_>>), path: &mut String) {
        let empty = BTreeMap::new();
        let (exported, found) = match pair {
            (Some(Node::Object(exported)), Some(Node::Object(found))) => (exported, found),
            (Some(Node::Object(exported)), None) => (exported, &empty),
            (None, Some(Node::Object(found))) => (&empty, found),
            pair => return self.pair(pair, path),
        };
        let mut names: Vec<&String> = exported.keys().chain(found.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let pair = (exported.get(name), found.get(name));
            below(path, name, |path| match (name.as_str(), pair) {
                ("source", pair) if pair.0 != pair.1 => self.note(path, kind_of(pair)),
                (name, pair) if SETS.contains(&name) => self.set(pair, path),
                (_, pair) => self.pair(pair, path),
            });
        }
    }

    fn set(&mut self, pair: (Option<&Node<'_>>, Option<&Node<'_>>), path: &mut String) {
        let (exported, found) = match pair {
            (Some(Node::List(exported)), Some(Node::List(found))) => (exported, found),
            (None, Some(Node::List(_))) => return self.note(path, Kind::Added),
            pair => return self.pair(pair, path),
        };
        for (at, _) in exported.iter().enumerate().filter(|(_, node)| !found.contains(node)) {
            self.tell(&format!("{path}[{at}]"), Kind::Missing);
        }
        if found.iter().any(|node| !exported.contains(node)) {
            self.note(path, Kind::Added);
        }
    }
}

fn kind_of(pair: (Option<&Node<'_>>, Option<&Node<'_>>)) -> Kind {
    match pair {
        (Some(_), None) => Kind::Missing,
        (None, _) => Kind::Added,
        _ => Kind::Changed,
    }
}

/// Does something one step deeper. A name that is none of FHIR's could hold anything, and is not told.
fn below(path: &mut String, name: &str, work: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push('.');
    let is_name = name.len() <= NAME
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    path.push_str(if is_name { name } else { "(odd name)" });
    work(path);
    path.truncate(length);
}

fn is_same_number(one: &str, other: &str) -> bool {
    match (one.parse::<f64>(), other.parse::<f64>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn references(name: &str, node: &Node<'_>, path: &mut String, found: &mut Vec<Reference>) {
    match node {
        Node::Text(text) if name == "reference" => {
            found.push(Reference { path: path.clone(), text: text.clone() });
        }
        Node::List(list) => {
            for (at, node) in list.iter().enumerate() {
                let length = path.len();
                path.push_str(&format!("[{at}]"));
                references("", node, path, found);
                path.truncate(length);
            }
        }
        Node::Object(object) => {
            for (name, node) in object {
                below(path, name, |path| references(name, node, path, found));
            }
        }
        Node::Text(_) | Node::Plain(_) => {}
    }
}

fn node(json: &str, depth: usize) -> Option<Node<'_>> {
    if depth > DEPTH {
        return None;
    }
    match json.as_bytes().first()? {
        b'{' => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).ok()?;
            let members = members.into_iter().map(|(name, raw)| {
                let node = node(raw.get(), depth + 1)?;
                Some((name, node))
            });
            members.collect::<Option<_>>().map(Node::Object)
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            let items = items.into_iter().map(|raw| node(raw.get(), depth + 1));
            items.collect::<Option<_>>().map(Node::List)
        }
        b'"' => serde_json::from_str(json).ok().map(Node::Text),
        _ => Some(Node::Plain(json)),
    }
}

fn feed(node: &Node<'_>, digest: &mut Sha256) {
    match node {
        Node::Plain(text) => digest.update(text),
        Node::Text(text) => feed_text(text, digest),
        Node::List(list) => {
            digest.update("[");
            for node in list {
                feed(node, digest);
                digest.update(",");
            }
            digest.update("]");
        }
        Node::Object(object) => feed_object(object, digest),
    }
}

fn feed_object(object: &BTreeMap<String, Node<'_>>, digest: &mut Sha256) {
    digest.update("{");
    for (name, node) in object {
        feed_text(name, digest);
        digest.update(":");
        feed(node, digest);
        digest.update(",");
    }
    digest.update("}");
}

fn feed_text(text: &str, digest: &mut Sha256) {
    digest.update(serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(exported: &str, found: &str) -> (Vec<String>, Vec<String>) {
        let wrap = |inner: &str| format!("{{\"resourceType\":\"Patient\",\"id\":\"a\"{inner}}}");
        let (exported, found) = (wrap(exported), wrap(found));
        let (one, other) = (Content::read(&exported).unwrap(), Content::read(&found).unwrap());
        let compared = compare(&one, &other);
        assert_eq!(
            compared.differences.is_empty() && compared.noted.is_empty(),
            one.digest() == other.digest(),
            "{exported} {found}"
        );
        let shown = |all: &[Difference]| {
            all.iter().map(|it| format!("{:?} {}", it.kind, it.path)).collect::<Vec<_>>()
        };
        (shown(&compared.differences), shown(&compared.noted))
    }

    fn owned(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn content_is_equal_whatever_the_order_of_elements_and_the_server_s_own_times() {
        for (exported, found) in [
            ("", ""),
            (r#","active":true,"gender":"male""#, r#", "gender" : "male" , "active":true"#),
            ("", r#","meta":{"versionId":"1","lastUpdated":"2026-01-01T00:00:00Z"}"#),
            (r#","meta":{"versionId":"7"}"#, r#","meta":{"lastUpdated":"x"}"#),
            (r#","text":{"div":"a\u00e4"}"#, ",\"text\":{\"div\":\"aä\"}"),
            (
                r#","meta":{"tag":[{"code":"a"},{"code":"b"}]}"#,
                r#","meta":{"tag":[{"code":"a"},{"code":"b"}],"versionId":"2"}"#,
            ),
            (r#","x":{"value":71.50}"#, r#","x":{"value":71.50}"#),
        ] {
            assert_eq!(compared(exported, found), (vec![], vec![]), "{exported} {found}");
        }
    }

    #[test]
    fn every_difference_has_its_path() {
        for (exported, found, paths) in [
            (r#","active":true"#, r#","active":false"#, &["Changed Patient.active"][..]),
            (r#","active":true"#, r#","active":"true""#, &["Changed Patient.active"]),
            (r#","active":true"#, "", &["Missing Patient.active"]),
            ("", r#","active":null"#, &["Added Patient.active"]),
            (
                r#","name":[{"family":"A"},{"family":"B"}]"#,
                r#","name":[{"family":"A"},{"family":"C","use":"old"},{}]"#,
                &[
                    "Changed Patient.name[1].family",
                    "Added Patient.name[1].use",
                    "Added Patient.name[2]",
                ],
            ),
            (
                r#","name":[{"given":["A","B"]}]"#,
                r#","name":[{"given":["B","A"]}]"#,
                &["Changed Patient.name[0].given[0]", "Changed Patient.name[0].given[1]"],
            ),
            (r#","x":{"value":71.50}"#, r#","x":{"value":71.5}"#, &["Rewritten Patient.x.value"]),
            (r#","x":1e2"#, r#","x":100"#, &["Rewritten Patient.x"]),
            (r#","x":1.0000000000000000001"#, r#","x":1.1"#, &["Changed Patient.x"]),
            (r#","x":[]"#, r#","x":{}"#, &["Changed Patient.x"]),
            (r#","Mr Secret 1.2":1"#, "", &["Missing Patient.(odd name)"]),
            (
                r#","contained":[{"meta":{"versionId":"1"}}]"#,
                r#","contained":[{"meta":{"versionId":"2"}}]"#,
                &["Changed Patient.contained[0].meta.versionId"],
            ),
            (
                r#","meta":{"tag":[{"code":"a"}]}"#,
                r#","meta":{"tag":[]}"#,
                &["Missing Patient.meta.tag[0]"],
            ),
            (
                r#","meta":{"profile":["a"]}"#,
                r#","meta":{"versionId":"2"}"#,
                &["Missing Patient.meta.profile"],
            ),
            ("", r#","meta":{"extension":[]}"#, &["Added Patient.meta.extension"]),
        ] {
            let (told, noted) = compared(exported, found);
            assert_eq!((told, noted.len()), (owned(paths), 0), "{exported} {found}");
        }
    }

    #[test]
    fn what_a_server_adds_to_meta_is_noted_apart() {
        for (exported, found, paths) in [
            ("", r##","meta":{"source":"#1"}"##, &["Added Patient.meta.source"][..]),
            (
                r##","meta":{"source":"#1","profile":["a"]}"##,
                r##","meta":{"source":"#2","profile":["b","a"]}"##,
                &["Added Patient.meta.profile", "Changed Patient.meta.source"],
            ),
            ("", r#","meta":{"tag":[{"code":"new"}]}"#, &["Added Patient.meta.tag"]),
        ] {
            let (told, noted) = compared(exported, found);
            assert_eq!((told.len(), noted), (0, owned(paths)), "{exported} {found}");
        }
    }

    #[test]
    fn a_resource_that_is_another_altogether_is_told_within_bounds() {
        let list = |to: usize| {
            let items: Vec<String> = (0..to).map(|n| n.to_string()).collect();
            format!("{{\"resourceType\":\"Basic\",\"x\":[{}]}}", items.join(","))
        };
        let (long, short) = (list(1000), list(0));
        let compared = compare(&Content::read(&long).unwrap(), &Content::read(&short).unwrap());
        assert_eq!((compared.differences.len(), compared.more), (DIFFERENCES, 950));
    }

    #[test]
    fn what_is_no_resource_is_not_read_and_depth_has_an_end() {
        let deep = |levels: usize| {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            format!("{{\"resourceType\":\"Basic\",\"x\":{open}{close}}}")
        };
        assert!(Content::read(&deep(90)).is_some());
        for text in [
            "",
            "[]",
            "\"x\"",
            "{}",
            "{\"resourceType\":1}",
            "{\"resourceType\":\"A\"",
            &deep(10_000),
        ] {
            assert!(Content::read(text).is_none());
        }
    }

    #[test]
    fn references_are_found_with_their_place() {
        let text = r##"{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/1","display":"x"},
            "hasMember":[{"reference":"#a"},{"reference":{"reference":"Observation/2"}}],"reference":7}"##;
        let found = Content::read(text).unwrap().references();
        let found: Vec<_> = found.iter().map(|it| (it.path.as_str(), it.text.as_str())).collect();
        assert_eq!(
            found,
            [
                ("Observation.hasMember[0].reference", "#a"),
                ("Observation.hasMember[1].reference.reference", "Observation/2"),
                ("Observation.subject.reference", "Patient/1"),
            ]
        );
    }
}
