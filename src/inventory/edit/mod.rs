//! Changes to a hand-written inventory that keep everything else as it stands.
//!
//! Enters: the text of an inventory and changes to its value. Leaves: the new text, in which only
//! what was meant differs: comments, anchors, order, quotes, indentation and line ends stay. The
//! new text is parsed again and compared with the intended value; where they differ nothing is
//! written. [`store`] puts it into the file. Called by the commands that change the inventory.

mod scalar;
mod server;
mod splice;
pub mod store;
mod tree;

use serde_json::Value;

pub use server::{find_server, remove_server, rename_server, server_entry, server_names};

use crate::model::{Error, Result};

/// More than this is no inventory that a person edits.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// A step from a value to one inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// The way from the top of the document to a value.
pub type Path = Vec<Step>;

impl From<&str> for Step {
    fn from(key: &str) -> Step {
        Step::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Step {
        Step::Index(index)
    }
}

/// One change of the document's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Sets a value; maps on the way to it are made where they are missing.
    Set(Path, Value),
    /// Adds an item to a list, which is made where it is missing.
    Append(Path, Value),
    /// The same with many items at once: the cost is that of one.
    Extend(Path, Vec<Value>),
    /// Takes a key or a list item out.
    Remove(Path),
}

impl Op {
    /// The place that it changes.
    #[must_use]
    pub fn path(&self) -> &[Step] {
        match self {
            Op::Set(path, _) | Op::Append(path, _) | Op::Extend(path, _) | Op::Remove(path) => path,
        }
    }
}

/// Makes changes to the text of an inventory.
///
/// # Errors
/// Exit 78 when the text is no single YAML map, or when a change cannot be made without touching
/// something else; the error then says what to write by hand.
pub fn apply(text: &str, ops: &[Op]) -> Result<String> {
    if text.len() > MAX_BYTES {
        return Err(Error::config("the inventory is larger than 64 MiB"));
    }
    apply_to(text, document(text)?, ops)
}

/// The same for a text whose value has been read already.
///
/// # Errors
/// As [`apply`].
pub fn apply_to(text: &str, mut model: Value, ops: &[Op]) -> Result<String> {
    let mut target = model.clone();
    let mut small = Vec::new();
    for op in ops {
        for op in expand(&target, op) {
            intend(&mut target, &op)?;
            small.push(op);
        }
    }
    // Many changes at once cost one reading; positions after a removed item are not those of the
    // text, and changes may get in each other's way: then one goes after the other.
    let shifts = small.iter().any(|op| matches!(op, Op::Remove(_)));
    if small.len() > 1
        && !shifts
        && let Ok(changed) = change(text, &small, &target)
    {
        return Ok(changed);
    }
    let mut current = text.to_owned();
    for op in &small {
        let place = place_of(&model, op);
        intend(&mut model, op)?;
        current = change(&current, std::slice::from_ref(op), &model)
            .map_err(|reason| by_hand(&place, op, &reason))?;
    }
    Ok(current)
}

/// The value of a document with aliases and merge keys applied; a map, empty where nothing stands.
///
/// # Errors
/// Exit 78 when the text is no single YAML document or no map.
pub fn document(text: &str) -> Result<Value> {
    match parse_value(text) {
        Ok(Value::Null) => Ok(Value::Object(serde_json::Map::new())),
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Error::config("the inventory is not a map of keys and values")),
        Err(()) => Err(Error::config("the inventory is not one valid YAML document")
            .hint("fhirctl list shows what is wrong and where")),
    }
}

/// Reads one YAML value, as it is written after a `KEY=`.
///
/// # Errors
/// When the text is no YAML. Says nothing more: the text may hold a secret.
#[expect(clippy::result_unit_err, reason = "the parser's words could quote a secret")]
pub fn parse_value(text: &str) -> Result<Value, ()> {
    let options = serde_yaml::options! {
        strict_booleans: true,
        budget: serde_yaml::budget! {
            max_events: 40_000_000,
            max_nodes: 4_000_000,
            max_total_scalar_bytes: 128 * 1024 * 1024,
            max_merge_keys: 1_000_000,
            max_aliases: 1_000_000,
            max_depth: 48,
        },
    };
    serde_yaml::from_str_with_options(text, options).map_err(|_| ())
}

/// The value at the end of a path.
#[must_use]
pub fn lookup<'v>(value: &'v Value, path: &[Step]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    })
}

/// The new text, when it reads as it should.
fn change(text: &str, ops: &[Op], intended: &Value) -> Result<String, String> {
    let tree = tree::read(text)?;
    let mut splices = Vec::new();
    for op in ops {
        let planned = splice::plan(text, &tree, op, intended)?;
        let loses_comment = |splice: &splice::Splice| {
            let from = tree.comments.partition_point(|comment| comment.start < splice.range.start);
            tree.comments.get(from).is_some_and(|comment| comment.start < splice.range.end)
        };
        if !matches!(op, Op::Remove(_)) && planned.iter().any(loses_comment) {
            return Err("a comment would be lost".to_owned());
        }
        splices.extend(planned);
    }
    splices.sort_by_key(|splice| splice.range.start);
    if splices.windows(2).any(|pair| pair[1].range.start < pair[0].range.end) {
        return Err("two changes of one place".to_owned());
    }
    let changed = splice::apply(text, &splices);
    match document(&changed) {
        Ok(value) if &value == intended => Ok(changed),
        _ => Err("something else would change too, through an anchor, an alias or a merge key, \
                  or the layout is unusual"
            .to_owned()),
    }
}

/// Breaks a change into the smallest ones, so that what stays the same keeps its text.
fn expand(model: &Value, op: &Op) -> Vec<Op> {
    let (path, new) = match op {
        Op::Set(path, new) => (path, new),
        Op::Extend(_, items) if items.is_empty() => return Vec::new(),
        _ => return vec![op.clone()],
    };
    let old = lookup(model, path);
    if old == Some(new) {
        return Vec::new();
    }
    let below = |step: Step| -> Path { path.iter().cloned().chain([step]).collect() };
    match (old, new) {
        (Some(Value::Object(old)), Value::Object(new)) if !old.is_empty() && !new.is_empty() => {
            let set = new.iter().flat_map(|(key, value)| {
                expand(model, &Op::Set(below(Step::Key(key.clone())), value.clone()))
            });
            let gone = old.keys().filter(|key| !new.contains_key(*key));
            set.chain(gone.map(|key| Op::Remove(below(Step::Key(key.clone()))))).collect()
        }
        (Some(Value::Array(old)), Value::Array(new)) if old.len() == new.len() => new
            .iter()
            .enumerate()
            .flat_map(|(index, value)| {
                expand(model, &Op::Set(below(Step::Index(index)), value.clone()))
            })
            .collect(),
        (Some(Value::Array(old)), Value::Array(new)) if !old.is_empty() && new.starts_with(old) => {
            vec![Op::Extend(path.clone(), new[old.len()..].to_vec())]
        }
        _ => vec![op.clone()],
    }
}

/// Makes a change to the document's value.
fn intend(value: &mut Value, op: &Op) -> Result<()> {
    match op {
        Op::Set(path, new) => *reach(value, path)? = new.clone(),
        Op::Append(path, item) => extend(value, path, std::slice::from_ref(item))?,
        Op::Extend(path, items) => extend(value, path, items)?,
        Op::Remove(path) => {
            let missing = || Error::not_found(format!("{} is not there", show(path)));
            let (last, parent) = path.split_last().ok_or_else(missing)?;
            lookup(value, path).ok_or_else(missing)?;
            match (reach(value, parent)?, last) {
                (Value::Object(map), Step::Key(key)) => {
                    map.shift_remove(key);
                }
                (Value::Array(items), Step::Index(index)) => {
                    items.remove(*index);
                }
                _ => return Err(missing()),
            }
        }
    }
    Ok(())
}

fn extend(value: &mut Value, path: &[Step], new: &[Value]) -> Result<()> {
    let list = reach(value, path)?;
    match list {
        Value::Null => *list = Value::Array(new.to_vec()),
        Value::Array(items) => items.extend_from_slice(new),
        _ => return Err(misfit(path, "a list")),
    }
    Ok(())
}

/// The place a path leads to, with maps made on the way.
fn reach<'v>(value: &'v mut Value, path: &[Step]) -> Result<&'v mut Value> {
    let mut at = value;
    for (depth, step) in path.iter().enumerate() {
        let place = &path[..depth];
        at = match step {
            Step::Key(key) => {
                if at.is_null() {
                    *at = Value::Object(serde_json::Map::new());
                }
                let map = at.as_object_mut().ok_or_else(|| misfit(place, "a map"))?;
                map.entry(key.clone()).or_insert(Value::Null)
            }
            Step::Index(index) => at.get_mut(*index).ok_or_else(|| misfit(place, "such a list"))?,
        };
    }
    Ok(at)
}

fn misfit(path: &[Step], wanted: &str) -> Error {
    Error::config(format!("{} is not {wanted}", show(path)))
}

/// A path as it is named in messages: `servers[2].auth.method`.
#[must_use]
pub fn show(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.extend([".", key]),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// The place of a change, with the name of the server or group that it belongs to.
fn place_of(model: &Value, op: &Op) -> String {
    let path = op.path();
    let whose = match path {
        [list @ Step::Key(_), index @ Step::Index(_), ..] => {
            lookup(model, &[list.clone(), index.clone(), "name".into()])
                .and_then(Value::as_str)
                .map_or(String::new(), |name| format!(" of {name}"))
        }
        _ => String::new(),
    };
    format!("{}{whose}", show(path))
}

/// What to write by hand, and why.
fn by_hand(place: &str, op: &Op, reason: &str) -> Error {
    let error = Error::config(format!("{place} has to be changed by hand: {reason}"));
    let written = |value| scalar::render(value, scalar::Place::Block);
    match op {
        Op::Set(_, value) => error.hint(format!("set it to: {}", written(value))),
        Op::Append(_, value) => error.hint(format!("add to this list: {}", written(value))),
        Op::Extend(_, values) => match values.first() {
            Some(value) => error.hint(format!("add to this list, and so on: {}", written(value))),
            None => error,
        },
        Op::Remove(_) => {
            error.hint("take it out of the file, and look for anchors that others use")
        }
    }
    .hint("nothing was written")
}
