//! Which resources of an export are compared: the same ones for the same seed, in whatever order
//! they stand in the files.

use std::collections::{BTreeMap, BinaryHeap};

use sha2::{Digest as _, Sha256};

use crate::bulk::import::plan::broken;
use crate::bulk::import::source::{Held, Input, Lines, held};
use crate::model::Result;

/// What is looked at of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Resources of the export.
    pub exported: u64,
    /// Resources that are compared.
    pub chosen: u64,
    /// The greatest weight that is.
    threshold: u64,
}

/// The choice, by type.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    seed: u64,
    pub types: BTreeMap<String, Share>,
}

/// Reads an export once and chooses `most` of each type; `None`: all.
///
/// # Errors
/// When a file cannot be read or unpacked.
pub fn choose(inputs: &[Input], max_line: usize, seed: u64, most: Option<usize>) -> Result<Choice> {
    let mut heaps: BTreeMap<String, (u64, BinaryHeap<u64>)> = BTreeMap::new();
    each(inputs, max_line, &mut |resource_type, id, _| {
        if !heaps.contains_key(resource_type) {
            heaps.insert(resource_type.to_owned(), (0, BinaryHeap::new()));
        }
        let Some((count, heap)) = heaps.get_mut(resource_type) else { return Ok(true) };
        *count += 1;
        if let Some(most) = most {
            let weight = weight(seed, resource_type, id);
            if heap.len() < most {
                heap.push(weight);
            } else if heap.peek().is_some_and(|&heaviest| weight < heaviest) {
                heap.pop();
                heap.push(weight);
            }
        }
        Ok(true)
    })?;
    let types = heaps.into_iter().map(|(name, (exported, heap))| {
        let share = match most {
            None => Share { exported, chosen: exported, threshold: u64::MAX },
            Some(_) => Share {
                exported,
                chosen: heap.len() as u64,
                threshold: heap.peek().copied().unwrap_or(0),
            },
        };
        (name, share)
    });
    Ok(Choice { seed, types: types.collect() })
}

impl Choice {
    #[must_use]
    pub fn has(&self, resource_type: &str, id: &str) -> bool {
        self.types.get(resource_type).is_some_and(|share| {
            share.threshold == u64::MAX || weight(self.seed, resource_type, id) <= share.threshold
        })
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.types.values().map(|share| share.chosen).sum()
    }
}

/// Hands on type, id and text of every resource with an id, until it is told `false`.
///
/// # Errors
/// When a file cannot be read or unpacked, or what is told of it fails.
pub fn each(
    inputs: &[Input],
    max_line: usize,
    take: &mut dyn FnMut(&str, &str, &str) -> Result<bool>,
) -> Result<()> {
    for input in inputs {
        let mut lines = Lines::open(input, max_line)?;
        while let Some((_, line)) = lines.next_line().map_err(|error| broken(input, &error))? {
            if let Held::Resource { resource_type, id: Some(id), text } = held(&line, max_line)
                && !take(&resource_type, &id, text)?
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn weight(seed: u64, resource_type: &str, id: &str) -> u64 {
    let mut digest = Sha256::new();
    digest.update(seed.to_le_bytes());
    digest.update(resource_type);
    digest.update("/");
    digest.update(id);
    let mut first = [0; 8];
    first.copy_from_slice(&digest.finalize()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::bulk::import::source::collect;

    fn export(ids: &[usize]) -> (tempfile::TempDir, Vec<Input>) {
        let folder = tempfile::tempdir().unwrap();
        let text: String = ids
            .iter()
            .map(|id| format!("{{\"resourceType\":\"Patient\",\"id\":\"p{id}\"}}\n"))
            .collect();
        std::fs::write(folder.path().join("Patient.001.ndjson"), text).unwrap();
        std::fs::write(
            folder.path().join("Basic.001.ndjson"),
            "{\"resourceType\":\"Basic\",\"id\":\"b\"}\n",
        )
        .unwrap();
        let inputs = collect(&[folder.path().to_owned()], false).unwrap();
        (folder, inputs)
    }

    fn chosen(inputs: &[Input], seed: u64, most: Option<usize>) -> BTreeSet<String> {
        let choice = choose(inputs, 1000, seed, most).unwrap();
        let mut chosen = BTreeSet::new();
        each(inputs, 1000, &mut |resource_type, id, _| {
            if choice.has(resource_type, id) {
                chosen.insert(format!("{resource_type}/{id}"));
            }
            Ok(true)
        })
        .unwrap();
        assert_eq!(choice.total(), chosen.len() as u64);
        chosen
    }

    #[test]
    fn a_seed_chooses_the_same_resources_in_any_order_and_every_type_has_its_share() {
        let forward: Vec<usize> = (0..500).collect();
        let backward: Vec<usize> = (0..500).rev().collect();
        let (_one, forward) = export(&forward);
        let (_other, backward) = export(&backward);
        let first = chosen(&forward, 7, Some(20));
        assert_eq!((first.len(), first.contains("Basic/b")), (21, true));
        assert_eq!(chosen(&backward, 7, Some(20)), first);
        assert_ne!(chosen(&forward, 8, Some(20)), first);
        assert_eq!(chosen(&forward, 7, None).len(), 501);
        assert_eq!(chosen(&forward, 7, Some(1000)).len(), 501);
    }
}
