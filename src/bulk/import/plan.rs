//! A look at everything before anything is sent: what there is, what cannot be sent, what goes first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;

use super::order::{self, Dependent, key, layer, layers};
use super::source::{Held, Input, Line, Lines, held};
use crate::bulk::lines::{is_id, is_type};
use crate::model::{Error, ErrorKind, Result};

/// Most resources whose order within their layer is worked out.
const DEPENDENTS: usize = 200_000;

/// Resources that may be under way together; the next step begins when this one is over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    pub layer: u8,
    /// Within the layer: 0 first.
    pub level: u8,
    pub is_deletions: bool,
    /// Which inputs hold resources of it.
    pub files: Vec<u32>,
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Resources by type, deletions and what cannot be sent without a type left out.
    pub read: BTreeMap<String, u64>,
    pub deletions: BTreeMap<String, u64>,
    /// Resources and deletions that are to be sent.
    pub total: u64,
    /// Types by file.
    pub types: Vec<BTreeSet<String>>,
    levels: HashMap<(u32, u64), u8>,
}

/// A line that cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    pub file: u32,
    pub line: u64,
    pub resource_type: Option<String>,
    /// Our words.
    pub message: String,
}

impl Plan {
    /// The level of a line within its layer.
    #[must_use]
    pub fn level(&self, file: u32, line: u64) -> u8 {
        self.levels.get(&(file, line)).copied().unwrap_or(0)
    }
}

/// Reads all inputs once. `keeps_ids`: every resource needs one.
///
/// # Errors
/// Exit 65 when a file cannot be unpacked, 66 or 74 when it cannot be read; what `unfit` says.
pub fn look(
    inputs: &[Input],
    max_line: usize,
    keeps_ids: bool,
    unfit: &mut dyn FnMut(Unfit) -> Result<()>,
) -> Result<Plan> {
    let mut plan = Plan::default();
    let mut places: BTreeMap<(bool, u8, u8), BTreeSet<u32>> = BTreeMap::new();
    let mut dependents: Vec<(u8, Dependent)> = Vec::new();
    for (file, input) in (0_u32..).zip(inputs) {
        let mut lines = Lines::open(input, max_line)?;
        plan.types.push(BTreeSet::new());
        while let Some((number, line)) = lines.next_line().map_err(|error| broken(input, &error))? {
            if input.is_deletions {
                for deletion in deletions(&line, max_line) {
                    match deletion {
                        Ok((resource_type, _)) => {
                            let place = (true, layers() - layer(&resource_type), 0);
                            places.entry(place).or_default().insert(file);
                            *plan.deletions.entry(resource_type).or_default() += 1;
                            plan.total += 1;
                        }
                        Err(message) => {
                            let resource_type = None;
                            unfit(Unfit { file, line: number, resource_type, message })?;
                        }
                    }
                }
                continue;
            }
            let (resource_type, id, text) = match held(&line, max_line) {
                Held::Blank => continue,
                Held::Bad(message) => {
                    unfit(Unfit { file, line: number, resource_type: None, message })?;
                    continue;
                }
                Held::Resource { resource_type, id, text } => (resource_type, id, text),
            };
            *plan.read.entry(resource_type.clone()).or_default() += 1;
            if let Some(types) = plan.types.last_mut()
                && !types.contains(&resource_type)
            {
                types.insert(resource_type.clone());
            }
            if let Some(message) = id_trouble(id.as_deref(), keeps_ids) {
                let resource_type = Some(resource_type);
                unfit(Unfit { file, line: number, resource_type, message })?;
                continue;
            }
            plan.total += 1;
            let layer = layer(&resource_type);
            let own = key(&resource_type, id.as_deref().unwrap_or_default());
            let needs: Vec<u64> = order::references(text)
                .filter(|(kind, _)| order::layer(kind) == layer)
                .map(|(kind, id)| key(kind, id))
                .filter(|key| *key != own)
                .collect();
            if needs.is_empty() || dependents.len() >= DEPENDENTS {
                places.entry((false, layer, 0)).or_default().insert(file);
            } else {
                dependents.push((layer, Dependent { place: (file, number), key: own, needs }));
            }
        }
        input.check_unchanged()?;
    }
    let (of_layer, dependents): (Vec<u8>, Vec<Dependent>) = dependents.into_iter().unzip();
    let levels = order::levels(&dependents);
    for ((layer, dependent), level) in of_layer.into_iter().zip(&dependents).zip(levels) {
        places.entry((false, layer, level)).or_default().insert(dependent.place.0);
        plan.levels.insert(dependent.place, level);
    }
    plan.steps = places
        .into_iter()
        .map(|((is_deletions, layer, level), files)| Step {
            layer,
            level,
            is_deletions,
            files: files.into_iter().collect(),
        })
        .collect();
    Ok(plan)
}

/// Why a resource cannot be sent under its id.
#[must_use]
pub fn id_trouble(id: Option<&str>, keeps_ids: bool) -> Option<String> {
    match id {
        Some(id) if is_id(id) => None,
        _ if !keeps_ids => None,
        Some(_) => Some("the resource's id is no FHIR id".to_owned()),
        None => Some("the resource has no id; --assign-ids lets the server give one".to_owned()),
    }
}

/// A file that cannot be read to its end.
#[must_use]
pub fn broken(input: &Input, error: &std::io::Error) -> Error {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::UnexpectedEof | Io::InvalidData | Io::InvalidInput | Io::Other => Error::new(
            ErrorKind::Data,
            format!("{} cannot be unpacked: it is cut short or damaged", input.shown),
        )
        .hint("fetch it again: an import of a part would look like a whole one"),
        _ => Error::io("read", &input.path, error),
    }
}

#[derive(Deserialize)]
struct Deletions {
    #[serde(default)]
    entry: Vec<Deletion>,
}

#[derive(Deserialize)]
struct Deletion {
    request: Option<Requested>,
}

#[derive(Deserialize)]
struct Requested {
    #[serde(default)]
    method: String,
    #[serde(default)]
    url: String,
}

/// The deletions of a line (Bulk Data Access STU2, "deleted": transactions of deletions), or what
/// is wrong with one.
#[must_use]
pub fn deletions(line: &Line<'_>, max_line: usize) -> Vec<Result<(String, String), String>> {
    let text = match held(line, max_line) {
        Held::Blank => return Vec::new(),
        Held::Bad(message) => return vec![Err(message)],
        Held::Resource { resource_type, text, .. } if resource_type == "Bundle" => text,
        Held::Resource { .. } => return vec![Err("the line is no Bundle of deletions".to_owned())],
    };
    let Ok(bundle) = serde_json::from_str::<Deletions>(text) else {
        return vec![Err("the line is no Bundle of deletions".to_owned())];
    };
    let deletions = bundle.entry.into_iter().map(|entry| {
        let request = entry.request.filter(|it| it.method == "DELETE");
        let url = request.map(|it| it.url).unwrap_or_default();
        let mut parts = url.rsplit('/');
        let (id, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if is_type(kind) && is_id(id) {
            Ok((kind.to_owned(), id.to_owned()))
        } else {
            Err("an entry of the Bundle is no deletion of a resource".to_owned())
        }
    });
    deletions.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<Input>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let inputs = super::super::source::collect(&[folder.path().to_owned()], true).unwrap();
        (folder, inputs)
    }

    #[test]
    fn steps_go_from_what_is_referred_to_and_deletions_come_last_and_backwards() {
        let (_folder, inputs) = inputs(&[
            (
                "a.ndjson",
                concat!(
                    "{\"resourceType\":\"Observation\",\"id\":\"1\",\"subject\":{\"reference\":\"Patient/1\"}}\n",
                    "{\"resourceType\":\"Organization\",\"id\":\"3\",\"partOf\":{\"reference\":\"Organization/2\"}}\n",
                    "{\"resourceType\":\"Organization\",\"id\":\"2\",\"partOf\":{\"reference\":\"Organization/1\"}}\n",
                    "{\"resourceType\":\"Organization\",\"id\":\"1\"}\n",
                    "{\"resourceType\":\"Patient\"}\nnonsense\n",
                ),
            ),
            ("b.ndjson", "{\"resourceType\":\"Patient\",\"id\":\"1\"}\n"),
            (
                "deleted/d.ndjson",
                "{\"resourceType\":\"Bundle\",\"entry\":[{\"request\":{\"method\":\"DELETE\",\"url\":\"Patient/9\"}},\
                 {\"request\":{\"method\":\"DELETE\",\"url\":\"Observation/9\"}},{\"request\":{\"method\":\"GET\",\"url\":\"x\"}}]}\n",
            ),
        ]);
        let mut unfit = Vec::new();
        let plan = look(&inputs, 1000, true, &mut |it| {
            unfit.push((it.file, it.line));
            Ok(())
        })
        .unwrap();
        let steps: Vec<_> = plan
            .steps
            .iter()
            .map(|it| (it.layer, it.level, it.is_deletions, &it.files[..]))
            .collect();
        let (patient, observation) = (layer("Patient"), layer("Observation"));
        assert_eq!(
            steps,
            [
                (layer("Organization"), 0, false, &[0][..]),
                (layer("Organization"), 1, false, &[0]),
                (layer("Organization"), 2, false, &[0]),
                (patient, 0, false, &[1]),
                (observation, 0, false, &[0]),
                (layers() - observation, 0, true, &[2]),
                (layers() - patient, 0, true, &[2]),
            ]
        );
        assert_eq!(unfit, [(0, 5), (0, 6), (2, 1)]);
        assert_eq!((plan.total, plan.read["Patient"], plan.level(0, 2)), (7, 2, 2));
    }

    #[test]
    fn a_file_that_is_cut_short_is_refused_before_anything_is_sent() {
        use std::io::Write as _;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&b"{\"resourceType\":\"Patient\",\"id\":\"1\"}\n".repeat(1000)).unwrap();
        let bytes = gzip.finish().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson.gz");
        std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
        let inputs = super::super::source::collect(&[path], false).unwrap();
        let error = look(&inputs, 1000, true, &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Data);
    }
}
