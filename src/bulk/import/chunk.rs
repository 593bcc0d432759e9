//! Cuts what is to be sent into bundles: the same inputs always into the same ones.

use std::collections::{HashMap, HashSet};

use super::bundle::{EMPTY, Item, Verb, renamed};
use super::order::{key, layer, layers};
use super::plan::{Plan, Step, broken, deletions, id_trouble};
use super::source::{Held, Input, Lines, held};
use crate::model::{Error, Result};

/// How large a bundle may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub entries: usize,
    pub bytes: usize,
    pub max_line: usize,
}

/// The items of one bundle.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Counts from 0 within its step.
    pub number: u64,
    pub items: Vec<Item>,
}

impl Chunk {
    /// What tells its items from others.
    #[must_use]
    pub fn keys(&self) -> Vec<u64> {
        self.items.iter().map(|item| key(&item.resource_type, &item.id)).collect()
    }
}

/// Reads the chunks of a step in their order; `take` says `false` when it wants no more.
///
/// # Errors
/// Exit 65 when a file was changed or cannot be read to its end.
pub fn read(
    step: &Step,
    plan: &Plan,
    inputs: &[Input],
    limits: Limits,
    take: &mut dyn FnMut(Chunk) -> bool,
) -> Result<()> {
    let mut cutter = Cutter::new(limits);
    for &file in &step.files {
        let Some(input) = inputs.get(file as usize) else { continue };
        let mut lines = Lines::open(input, limits.max_line)?;
        while let Some((number, line)) = lines.next_line().map_err(|error| broken(input, &error))? {
            if step.is_deletions {
                for (part, deletion) in (0_u32..).zip(deletions(&line, limits.max_line)) {
                    let Ok((resource_type, id)) = deletion else { continue };
                    if layers() - layer(&resource_type) != step.layer {
                        continue;
                    }
                    let (verb, text) = (Verb::Delete, String::new());
                    let item = Item { file, line: number, part, verb, resource_type, id, text };
                    if !cutter.push(item, take) {
                        return Ok(());
                    }
                }
                continue;
            }
            let Held::Resource { resource_type, id, text } = held(&line, limits.max_line) else {
                continue;
            };
            if layer(&resource_type) != step.layer
                || plan.level(file, number) != step.level
                || id_trouble(id.as_deref(), true).is_some()
            {
                continue;
            }
            let item = Item {
                file,
                line: number,
                part: 0,
                verb: Verb::Put,
                resource_type,
                id: id.unwrap_or_default(),
                text: text.to_owned(),
            };
            if !cutter.push(item, take) {
                return Ok(());
            }
        }
        input.check_unchanged()?;
    }
    cutter.finish(take);
    Ok(())
}

/// Everything as one transaction, under ids that the server gives.
///
/// # Errors
/// Exit 64 when it is too much for one, exit 65 as [`read`].
pub fn whole(plan: &Plan, inputs: &[Input], limits: Limits) -> Result<Chunk> {
    let too_much = |what: String| {
        Error::usage(format!("--assign-ids needs one transaction, and this is too much: {what}"))
            .hint("references to new ids hold within one transaction only: raise --max-entries and --max-bytes")
            .hint("without --assign-ids every resource keeps its id and any amount can be sent")
    };
    let resources: u64 = plan.read.values().sum();
    if resources > limits.entries as u64 {
        return Err(too_much(format!("{resources} resources, {} allowed", limits.entries)));
    }
    let mut items: Vec<Item> = Vec::new();
    let mut names = HashMap::new();
    let mut bytes = EMPTY;
    for (file, input) in (0_u32..).zip(inputs).filter(|(_, input)| !input.is_deletions) {
        let mut lines = Lines::open(input, limits.max_line)?;
        while let Some((line_number, line)) =
            lines.next_line().map_err(|error| broken(input, &error))?
        {
            let Held::Resource { resource_type, id, text } = held(&line, limits.max_line) else {
                continue;
            };
            let new_name = format!("urn:uuid:{}", uuid::Uuid::new_v4());
            if let Some(id) = id {
                let old = format!("{resource_type}/{id}");
                if names.insert(old, new_name.clone()).is_some() {
                    return Err(Error::usage(format!(
                        "line {line_number} of {} has the id of another resource",
                        input.shown
                    ))
                    .hint("with --assign-ids every id may stand once only"));
                }
            }
            let item = Item {
                file,
                line: line_number,
                part: 0,
                verb: Verb::Post,
                resource_type,
                id: new_name,
                text: text.to_owned(),
            };
            bytes += item.weight();
            if bytes > limits.bytes {
                return Err(too_much(format!("more than {} bytes", limits.bytes)));
            }
            items.push(item);
        }
        input.check_unchanged()?;
    }
    for item in &mut items {
        item.text = renamed(&item.text, &names)
            .map_err(|_| Error::internal("a resource that was read cannot be read again"))?;
    }
    items.sort_by_key(|item| (layer(&item.resource_type), plan.level(item.file, item.line)));
    Ok(Chunk { number: 0, items })
}

struct Cutter {
    limits: Limits,
    number: u64,
    items: Vec<Item>,
    bytes: usize,
    keys: HashSet<u64>,
}

impl Cutter {
    fn new(limits: Limits) -> Cutter {
        Cutter { limits, number: 0, items: Vec::new(), bytes: EMPTY, keys: HashSet::new() }
    }

    fn push(&mut self, item: Item, take: &mut dyn FnMut(Chunk) -> bool) -> bool {
        let key = key(&item.resource_type, &item.id);
        let is_full = self.items.len() >= self.limits.entries
            || self.bytes + item.weight() > self.limits.bytes
            // No bundle may name a resource twice (FHIR R4, "transaction").
            || self.keys.contains(&key);
        if is_full && !self.items.is_empty() && !self.cut(take) {
            return false;
        }
        self.bytes += item.weight();
        self.keys.insert(key);
        self.items.push(item);
        true
    }

    fn finish(&mut self, take: &mut dyn FnMut(Chunk) -> bool) {
        if !self.items.is_empty() {
            self.cut(take);
        }
    }

    fn cut(&mut self, take: &mut dyn FnMut(Chunk) -> bool) -> bool {
        let chunk = Chunk { number: self.number, items: std::mem::take(&mut self.items) };
        self.number += 1;
        self.bytes = EMPTY;
        self.keys.clear();
        take(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::look;
    use super::*;

    fn patients(ids: &[&str]) -> String {
        ids.iter().map(|id| format!("{{\"resourceType\":\"Patient\",\"id\":\"{id}\"}}\n")).collect()
    }

    fn chunks(text: &str, limits: Limits) -> Vec<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson");
        std::fs::write(&path, text).unwrap();
        let inputs = super::super::source::collect(&[path], false).unwrap();
        let plan = look(&inputs, limits.max_line, true, &mut |_| Ok(())).unwrap();
        let mut all = Vec::new();
        for step in &plan.steps {
            let mut take = |chunk: Chunk| {
                all.push(chunk.items.into_iter().map(|item| item.id).collect());
                true
            };
            read(step, &plan, &inputs, limits, &mut take).unwrap();
        }
        all
    }

    #[test]
    fn bundles_are_cut_by_number_by_size_and_before_a_second_of_the_same() {
        let limits = Limits { entries: 2, bytes: 100_000, max_line: 10_000 };
        assert_eq!(chunks(&patients(&["1", "2", "3"]), limits), [vec!["1", "2"], vec!["3"]]);
        let limits = Limits { entries: 9, bytes: EMPTY + 500, ..limits };
        assert_eq!(chunks(&patients(&["1", "2", "3"]), limits), [vec!["1", "2"], vec!["3"]]);
        let limits = Limits { bytes: 10, ..limits };
        assert_eq!(chunks(&patients(&["1", "2"]), limits), [vec!["1"], vec!["2"]]);
        let limits = Limits { bytes: 100_000, ..limits };
        assert_eq!(chunks(&patients(&["1", "2", "1"]), limits), [vec!["1", "2"], vec!["1"]]);
    }

    #[test]
    fn new_ids_need_one_transaction() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson");
        std::fs::write(&path, patients(&["1", "2"])).unwrap();
        let inputs = super::super::source::collect(&[path], false).unwrap();
        let plan = look(&inputs, 1000, false, &mut |_| Ok(())).unwrap();
        let limits = Limits { entries: 2, bytes: 1000, max_line: 1000 };
        let chunk = whole(&plan, &inputs, limits).unwrap();
        assert!(chunk.items.iter().all(|item| item.id.starts_with("urn:uuid:")));
        assert!(chunk.items.iter().all(|item| !item.text.contains("\"id\"")));
        for limits in [Limits { entries: 1, ..limits }, Limits { bytes: 300, ..limits }] {
            let error = whole(&plan, &inputs, limits).unwrap_err();
            assert_eq!(error.exit().0, 64, "{error}");
        }
    }
}
