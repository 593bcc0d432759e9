//! Walks a tree by the shape of the inventory, finds everything that is wrong with it, and leaves
//! what is right as a plain value.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::leaf::{self, Flaw};
use super::path::{Step, name_of};
use super::problem::{Report, sounds_secret};
use super::reference;
use super::shape::{Record, Shape, Shapes};
use super::tree::{Class, Entry, Kind, NodeId, Place, Scalar, Tree};
use crate::model::text::{bounded, nearest, one_line};

/// Walks the whole file. What is wrong is left out of the value, except that an item of a list of
/// records stays as an empty one, so that places keep their numbers.
pub(super) fn walk(tree: &Tree<'_>, root: NodeId, report: &mut Report) -> Value {
    let mut walk = Walk { tree, shapes: Shapes::of_inventory(), report, path: Vec::new() };
    match &tree.node(root).kind {
        Kind::Map(entries) => walk.record(root, entries, &walk.shapes.root),
        _ => {
            walk.wrong::<()>(root, "a map with the keys version, servers and so on");
            Value::Null
        }
    }
}

struct Walk<'t, 'a> {
    tree: &'t Tree<'a>,
    shapes: &'static Shapes,
    report: &'t mut Report,
    path: Vec<Step>,
}

impl Walk<'_, '_> {
    /// `None` when it is not what belongs here; the reason is in the report.
    fn value(&mut self, id: NodeId, shape: &'static Shape) -> Option<Value> {
        let tree = self.tree;
        let kind = &tree.node(id).kind;
        match (self.shapes.resolve(shape), kind) {
            (Shape::Any, _) => self.any(id),
            (Shape::Object, Kind::Map(_)) => self.any(id),
            (Shape::Object, _) => self.wrong(id, "a map"),
            (Shape::Boolean, Kind::Scalar(Scalar { text, class: Class::Boolean })) => {
                Some(Value::Bool(text.starts_with(['t', 'T'])))
            }
            (Shape::Boolean, _) => self.wrong(id, "true or false"),
            (Shape::Number { whole, low, high, above }, Kind::Scalar(scalar))
                if scalar.class == Class::Number =>
            {
                self.number(id, &scalar.text, *whole, (*low, *high, *above))
            }
            (Shape::Number { .. }, _) => self.wrong(id, "a number"),
            (Shape::Text { kind }, Kind::Scalar(scalar)) if scalar.class == Class::Text => {
                self.text(id, &scalar.text, kind)
            }
            (Shape::Text { kind }, Kind::Scalar(scalar))
                if scalar.class == Class::Number
                    && matches!(kind.as_str(), "duration" | "pause") =>
            {
                self.wrong(id, "a number with a unit, such as 500ms, 30s or 5m")
            }
            (Shape::Text { .. }, _) => self.wrong(id, "a text"),
            (Shape::Choice(words), Kind::Scalar(scalar)) if scalar.class == Class::Text => {
                self.choice(id, &scalar.text, words)
            }
            (Shape::Choice(words), _) => {
                let words = words.join(", ");
                self.wrong(id, &format!("one of {words} (as a text, in quotes)"))
            }
            (Shape::Reference { kind }, _) => self.reference(id, kind, ""),
            (Shape::TextOr { kind, .. }, Kind::Scalar(scalar)) if scalar.class == Class::Text => {
                self.text(id, &scalar.text, kind)
            }
            (Shape::TextOr { more, .. }, Kind::Map(_)) => self.value(id, more),
            (Shape::TextOr { .. }, _) => self.wrong(id, "a text or a map"),
            (Shape::List(items), Kind::List(children)) => Some(self.list(children, items)),
            (Shape::List(_), _) => self.wrong(id, "a list"),
            (Shape::Dictionary { keys, values }, Kind::Map(entries)) => {
                Some(self.dictionary(entries, keys, values))
            }
            (Shape::Dictionary { .. }, _) => self.wrong(id, "a map"),
            (Shape::Record(record), Kind::Map(entries)) => Some(self.record(id, entries, record)),
            (Shape::Record(record), _) => {
                if record.guarded {
                    self.hide(id);
                }
                self.wrong(id, "a map")
            }
            (Shape::Named(_), _) => self.wrong(id, "something else"),
        }
    }

    fn record(&mut self, id: NodeId, entries: &[Entry], record: &'static Record) -> Value {
        self.doubles(entries);
        let names_headers = record.is_auth
            && self.tree.entry(id, "method").and_then(|entry| self.tree.text(entry.value))
                == Some("headers");
        let mut map = Map::new();
        for entry in entries {
            let Some(key) = self.tree.text(entry.key).map(str::to_owned) else { continue };
            let Some(field) = record.fields.get(&key) else {
                if names_headers && leaf::check("header", &key).is_ok() {
                    self.path.push(Step::key(&key));
                    if let Some(value) = self.reference(entry.value, "secret", "") {
                        map.insert(key, value);
                    }
                    self.path.pop();
                } else {
                    self.unknown(*entry, &key, record);
                }
                continue;
            };
            if field.nullable && self.is_null(entry.value) {
                continue;
            }
            self.path.push(Step::key(&key));
            if let Some(value) = self.value(entry.value, &field.shape) {
                map.insert(key, value);
            }
            self.path.pop();
        }
        for name in &record.required {
            if !entries.iter().any(|entry| self.tree.text(entry.key) == Some(name)) {
                let place = self.first_line(id);
                let message = match self.name() {
                    path if path.is_empty() => format!("{name} is missing"),
                    path => format!("{path} has no {name}"),
                };
                self.path.push(Step::key(name));
                self.complain(place, message);
                self.path.pop();
            }
        }
        Value::Object(map)
    }

    fn unknown(&mut self, entry: Entry, key: &str, record: &Record) {
        let near = nearest(key, record.names.iter().map(String::as_str));
        let sounds = sounds_secret(key) || near.is_some_and(sounds_secret);
        if sounds || record.guarded {
            self.hide(entry.value);
        }
        let place = self.tree.node(entry.key).place;
        let within = match self.name() {
            path if path.is_empty() => String::new(),
            path => format!(" in {path}"),
        };
        // `{hunter2}` is a key without a value: beside secrets it is more likely one of them.
        if record.guarded && near.is_none() && self.is_null(entry.value) {
            self.report.secrets.push(place);
            return self.complain(place, format!("unknown key{within}"));
        }
        self.path.push(Step::key(key));
        let message = match near {
            Some(near) => {
                format!("unknown key {}{within}; did you mean \"{near}\"?", quoted(key))
            }
            None => {
                let known = record.names.join(", ");
                format!("unknown key {}{within}; known: {}", quoted(key), bounded(&known, 300))
            }
        };
        self.complain(place, message);
        self.path.pop();
    }

    fn dictionary(&mut self, entries: &[Entry], keys: &str, values: &'static Shape) -> Value {
        self.doubles(entries);
        let mut map = Map::new();
        for entry in entries {
            let Some(key) = self.tree.text(entry.key).map(str::to_owned) else { continue };
            let place = self.tree.node(entry.key).place;
            self.path.push(Step::key(&key));
            if let Err(Flaw::Bad(why) | Flaw::Secret(why)) = leaf::check(keys, &key) {
                let noun = leaf::noun(keys);
                self.complain(place, format!("bad {noun} {}: {why}", quoted(&key)));
            }
            let value = match self.shapes.resolve(values) {
                // Whether a header may stand in the clear depends on its name.
                Shape::Reference { kind } => self.reference(entry.value, kind, &key),
                _ => self.value(entry.value, values),
            };
            if let Some(value) = value {
                map.insert(key, value);
            }
            self.path.pop();
        }
        Value::Object(map)
    }

    fn list(&mut self, children: &[NodeId], items: &'static Shape) -> Value {
        let of_records = matches!(self.shapes.resolve(items), Shape::Record(_));
        let mut list = Vec::with_capacity(children.len());
        for (index, child) in children.iter().enumerate() {
            self.path.push(Step::Item(index));
            match self.value(*child, items) {
                Some(value) => list.push(value),
                None if of_records => list.push(Value::Object(Map::new())),
                None => {}
            }
            self.path.pop();
        }
        Value::Array(list)
    }

    fn number(
        &mut self,
        id: NodeId,
        text: &str,
        whole: bool,
        (low, high, above): (Option<f64>, Option<f64>, Option<f64>),
    ) -> Option<Value> {
        let number = text.strip_prefix('+').unwrap_or(text);
        let value = if whole {
            number.parse::<u64>().ok().map(Value::from)
        } else {
            number.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Value::Number)
        };
        let fits = |value: &Value| {
            value.as_f64().is_some_and(|value| {
                low.is_none_or(|low| value >= low)
                    && high.is_none_or(|high| value <= high)
                    && above.is_none_or(|above| value > above)
            })
        };
        if let Some(value) = value.filter(fits) {
            return Some(value);
        }
        let what = if whole { "a whole number" } else { "a number" };
        let range = match (low, high, above) {
            (Some(low), Some(high), _) => format!(" from {low} to {high}"),
            (_, _, Some(above)) => format!(" above {above}"),
            (Some(low), _, _) => format!(" of at least {low}"),
            _ => String::new(),
        };
        self.wrong(id, &format!("{what}{range}"))
    }

    fn text(&mut self, id: NodeId, text: &str, kind: &str) -> Option<Value> {
        let result = match kind {
            "above" => reference::check_above(text),
            _ => leaf::check(kind, text),
        };
        match result {
            Ok(()) => Some(Value::String(text.to_owned())),
            Err(Flaw::Secret(why)) => {
                self.hide(id);
                self.say(id, format!("{}: {why}", self.name()))
            }
            Err(Flaw::Bad(why)) if kind == "code" => {
                self.say(id, format!("unknown reason code {}; {why}", quoted(text)))
            }
            Err(Flaw::Bad(why)) => {
                let noun = leaf::noun(kind);
                self.say(id, format!("bad {noun} {} in {}: {why}", quoted(text), self.name()))
            }
        }
    }

    fn choice(&mut self, id: NodeId, text: &str, words: &[String]) -> Option<Value> {
        if words.iter().any(|word| word == text) {
            return Some(Value::String(text.to_owned()));
        }
        let path = self.name();
        let key = path.rsplit('.').next().unwrap_or_default();
        let (what, within) = match self.path.as_slice() {
            [.., Step::Key(parent), Step::Key(last)] if parent == "auth" && last == "method" => {
                ("auth method".to_owned(), String::new())
            }
            [.., Step::Item(_)] => ("value".to_owned(), format!(" in {path}")),
            _ => (key.to_owned(), format!(" in {path}")),
        };
        let near = nearest(text, words.iter().map(String::as_str)).or_else(|| {
            // `r4`, `JSON`
            words.iter().map(String::as_str).find(|word| word.eq_ignore_ascii_case(text))
        });
        let message = match near {
            Some(near) => {
                format!("unknown {what} {}{within}; did you mean \"{near}\"?", quoted(text))
            }
            None => format!("unknown {what} {}{within}; known: {}", quoted(text), words.join(", ")),
        };
        self.say(id, message)
    }

    /// A text that is a reference, or `{exec: [program, …]}`.
    fn reference(&mut self, id: NodeId, kind: &str, header: &str) -> Option<Value> {
        let tree = self.tree;
        match &tree.node(id).kind {
            Kind::Scalar(scalar) => {
                let result = match kind {
                    _ if scalar.class == Class::Null => {
                        return self.wrong(id, "a secret reference or a text");
                    }
                    "header-value" => reference::check_header_value(header, &scalar.text),
                    "canary" => reference::check_canary(&scalar.text),
                    "link" => reference::check_link(&scalar.text),
                    _ => reference::check_secret(&scalar.text),
                };
                match result {
                    Ok(()) if scalar.class == Class::Text => {
                        Some(Value::String(scalar.text.to_string()))
                    }
                    Ok(()) => self.wrong(id, "a text"),
                    Err(Flaw::Secret(why)) => {
                        self.hide(id);
                        self.say(id, format!("{}: {why}", self.name()))
                    }
                    Err(Flaw::Bad(why)) => {
                        self.say(id, format!("bad value in {}: {why}", self.name()))
                    }
                }
            }
            Kind::Map(entries)
                if entries.len() == 1 && tree.text(entries[0].key) == Some("exec") =>
            {
                self.exec(entries[0].value)
            }
            _ => {
                self.hide(id);
                self.wrong(id, "a secret reference: keyring:NAME/FIELD, env:VARIABLE, file:PATH, age:PATH#FIELD or {exec: [program, …]}")
            }
        }
    }

    fn exec(&mut self, id: NodeId) -> Option<Value> {
        let tree = self.tree;
        let words: Option<Vec<Value>> = tree
            .items(id)
            .iter()
            .map(|item| match &tree.node(*item).kind {
                Kind::Scalar(scalar) if scalar.class == Class::Text => {
                    Some(Value::String(scalar.text.to_string()))
                }
                _ => None,
            })
            .collect();
        match words {
            Some(words) if words.first().is_some_and(|word| word != "") => {
                let mut map = Map::new();
                map.insert("exec".into(), Value::Array(words));
                Some(Value::Object(map))
            }
            _ => {
                self.hide(id);
                self.wrong(id, "a list of texts: the program and its arguments")
            }
        }
    }

    /// Whatever stands there, as JSON.
    fn any(&mut self, id: NodeId) -> Option<Value> {
        self.any_doubles(id);
        Some(plain(self.tree, id))
    }

    fn any_doubles(&mut self, id: NodeId) {
        let tree = self.tree;
        self.doubles(tree.entries(id));
        for entry in tree.entries(id) {
            self.any_doubles(entry.value);
        }
        for item in tree.items(id) {
            self.any_doubles(*item);
        }
    }

    fn doubles(&mut self, entries: &[Entry]) {
        let tree = self.tree;
        let mut seen: HashSet<&str> = HashSet::with_capacity(entries.len());
        for entry in entries.iter().filter(|entry| !entry.merged) {
            let Some(key) = tree.text(entry.key) else { continue };
            if !seen.insert(key) {
                self.path.push(Step::key(key));
                let message = format!("the key {} stands here twice; keep one", quoted(key));
                self.complain(tree.node(entry.key).place, message);
                self.path.pop();
            }
        }
    }

    /// Says what was wanted and what was found, without the value.
    fn wrong<T>(&mut self, id: NodeId, wanted: &str) -> Option<T> {
        let (found, hint) = match &self.tree.node(id).kind {
            Kind::Map(_) => ("a map", ""),
            Kind::List(_) => ("a list", ""),
            Kind::Scalar(scalar) => match scalar.class {
                Class::Null => ("nothing", ""),
                Class::Boolean if wanted == "a text" => ("true or false", "; put quotes around it"),
                Class::Number if wanted == "a text" => ("a number", "; put quotes around it"),
                Class::Boolean => ("true or false", ""),
                Class::Number => ("a number", ""),
                Class::Text => ("a text", ""),
            },
        };
        let what = match self.name() {
            path if path.is_empty() => "the file".to_owned(),
            path => path,
        };
        let message = if found == "a number" && wanted.contains("number") {
            format!("{what} should be {wanted}")
        } else {
            format!("{what} should be {wanted}, not {found}{hint}")
        };
        self.say(id, message)
    }

    fn say<T>(&mut self, id: NodeId, message: String) -> Option<T> {
        let place = self.tree.node(id).place;
        self.complain(place, message);
        None
    }

    fn complain(&mut self, place: Place, message: String) {
        let key = self.name();
        self.report.add(place, key, message);
    }

    /// Keeps every text below a node out of what is shown.
    fn hide(&mut self, id: NodeId) {
        let node = self.tree.node(id);
        match &node.kind {
            Kind::Scalar(_) => self.report.secrets.push(node.place),
            Kind::List(items) => items.iter().for_each(|item| self.hide(*item)),
            Kind::Map(entries) => {
                for entry in entries {
                    self.hide(entry.value);
                }
            }
        }
    }

    fn is_null(&self, id: NodeId) -> bool {
        matches!(&self.tree.node(id).kind, Kind::Scalar(Scalar { class: Class::Null, .. }))
    }

    /// Where a map begins, without the lines below.
    fn first_line(&self, id: NodeId) -> Place {
        let place = self.tree.node(id).place;
        match self.tree.entries(id).first() {
            Some(entry) if !entry.merged => self.tree.node(entry.key).place,
            _ => Place { start: place.start, end: place.start + 1 },
        }
    }

    fn name(&self) -> String {
        name_of(&self.path)
    }
}

/// Whatever stands at a node, as JSON.
pub(super) fn plain(tree: &Tree<'_>, id: NodeId) -> Value {
    match &tree.node(id).kind {
        Kind::Scalar(scalar) => match scalar.class {
            Class::Null => Value::Null,
            Class::Boolean => Value::Bool(scalar.text.starts_with(['t', 'T'])),
            Class::Number => serde_json::from_str(&scalar.text)
                .ok()
                .or_else(|| {
                    let float = scalar.text.parse::<f64>().ok()?;
                    serde_json::Number::from_f64(float).map(Value::Number)
                })
                .unwrap_or_else(|| Value::String(scalar.text.to_string())),
            Class::Text => Value::String(scalar.text.to_string()),
        },
        Kind::List(items) => items.iter().map(|item| plain(tree, *item)).collect(),
        Kind::Map(entries) => entries
            .iter()
            .filter_map(|entry| Some((tree.text(entry.key)?.to_owned(), plain(tree, entry.value))))
            .collect(),
    }
}

pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", bounded(&one_line(text), 80))
}
