//! What is in an export: which resources of the store, in which files, as they were at kick-off.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::fhir::outcome::{Refusal, outcome};
use super::super::fhir::store::Store;
use super::super::fhir::table;
use super::generate::{LAST_UPDATED, Made, MadeFile};
use super::kick_off::{Asked, COMPARTMENT};
use super::plan::{BulkPlan, Level};
use super::trap::Trap;

/// All files of one export.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) output: Output,
    pub(super) deleted: Vec<File>,
    pub(super) errors: Vec<File>,
    pub(super) organised_by: Option<String>,
}

#[derive(Debug)]
pub(super) enum Output {
    /// Of the store.
    Kept(Vec<File>),
    Made(Made),
}

/// One file.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// Such as `Patient-1`.
    pub(super) name: String,
    /// `None`: organised, of many types.
    pub(super) kind: Option<&'static str>,
    pub(super) lines: Lines,
    /// How many of its lines are resources.
    pub(super) count: u64,
    /// The file in which its last block goes on.
    pub(super) continues: Option<String>,
    /// Whether the traps of lines are laid in it.
    pub(super) trapped: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Lines {
    Kept(Arc<Vec<Arc<Value>>>),
    Made(MadeFile),
}

impl Content {
    /// Picks what a kick-off asks for. `group`: the group that is asked for.
    ///
    /// # Errors
    /// When the group, or a patient, is not there.
    pub(super) fn pick(
        store: &Store,
        asked: &Asked,
        level: Level,
        group: Option<&str>,
        plan: &BulkPlan,
        seed: u64,
    ) -> Result<Content, Refusal> {
        let patients = patients(store, asked, group)?;
        let wanted = |kind: &str| {
            asked.types.as_ref().is_none_or(|types| types.contains(&kind))
                && (level == Level::System || COMPARTMENT.contains(&kind))
        };
        let (output, organised_by) = match (plan.generates(), &asked.organised_by) {
            (true, _) => (Output::Made(made(plan, asked, seed, wanted)), None),
            (false, by) => {
                let kinds = table::TYPES.iter().map(|kind| kind.name).filter(|name| wanted(name));
                let picked: Vec<_> = kinds
                    .map(|kind| (kind, of_type(store, asked, kind, patients.as_deref())))
                    .collect();
                let files = match by {
                    Some(_) => organised(&picked, plan),
                    None => by_type(picked, plan),
                };
                (Output::Kept(trapped(files)), by.clone())
            }
        };
        let deleted = deleted(store, asked, plan, &output, wanted);
        let errors = errors(asked, plan);
        Ok(Content { output, deleted, errors, organised_by })
    }

    /// How many files have data.
    pub(super) fn outputs(&self) -> u64 {
        match &self.output {
            Output::Kept(files) => files.len() as u64,
            Output::Made(made) => made.files(),
        }
    }

    /// The n-th file with data, counted from 0.
    pub(super) fn output(&self, n: u64) -> Option<File> {
        match &self.output {
            Output::Kept(files) => files.get(usize::try_from(n).ok()?).cloned(),
            Output::Made(made) => {
                made.file(n).map(|(kind, number, file)| of_made(kind, number, file))
            }
        }
    }

    /// The file of a name, with its place among those with data.
    pub(super) fn named(&self, name: &str) -> Option<(Option<u64>, File)> {
        let others = self.deleted.iter().chain(&self.errors);
        if let Some(file) = others.clone().find(|file| file.name == name) {
            return Some((None, file.clone()));
        }
        match &self.output {
            Output::Kept(files) => {
                let n = files.iter().position(|file| file.name == name)?;
                Some((Some(n as u64), files[n].clone()))
            }
            Output::Made(made) => {
                let (kind, number) = name.split_once('-')?;
                let kind = table::find(kind)?.name;
                let (n, file) = made.named(kind, number.parse().ok()?)?;
                Some((Some(n), of_made(kind, n + 1, file)))
                    .map(|(n, file)| (n, File { name: name.to_owned(), ..file }))
            }
        }
    }
}

fn of_made(kind: &'static str, number: u64, file: MadeFile) -> File {
    File {
        name: format!("{kind}-{number}"),
        kind: Some(kind),
        count: file.lines,
        lines: Lines::Made(file),
        continues: None,
        trapped: false,
    }
}

fn kept(name: String, kind: Option<&'static str>, lines: Vec<Arc<Value>>) -> File {
    File {
        name,
        kind,
        count: lines.len() as u64,
        lines: Lines::Kept(Arc::new(lines)),
        continues: None,
        trapped: false,
    }
}

/// The first file in which a line can differ from another is the one in which traps are laid.
fn trapped(mut files: Vec<File>) -> Vec<File> {
    let place = files.iter().position(|file| file.count > 1).unwrap_or(0);
    if let Some(file) = files.get_mut(place) {
        file.trapped = true;
    }
    files
}

fn made(plan: &BulkPlan, asked: &Asked, seed: u64, wanted: impl Fn(&str) -> bool) -> Made {
    let at: Option<Timestamp> = LAST_UPDATED.parse().ok();
    let too_old = asked.since.is_some() && asked.since >= at;
    let too_new = asked.until.is_some() && asked.until <= at;
    Made::new(plan, seed, |kind| wanted(kind) && !too_old && !too_new)
}

/// The patients that are asked for; `None`: all.
fn patients(
    store: &Store,
    asked: &Asked,
    group: Option<&str>,
) -> Result<Option<Vec<String>>, Refusal> {
    let members = match group {
        None => None,
        Some(id) => {
            let (_, resource) = store.read("Group", id)?;
            let members = resource["member"].as_array().map(Vec::as_slice).unwrap_or_default();
            let ids = members.iter().filter_map(|member| {
                let reference = member["entity"]["reference"].as_str()?;
                reference.strip_prefix("Patient/").map(str::to_owned)
            });
            Some(ids.collect::<Vec<_>>())
        }
    };
    if asked.patients.is_empty() {
        return Ok(members);
    }
    for id in &asked.patients {
        let known = match &members {
            Some(members) => members.contains(id),
            None => store.read("Patient", id).is_ok(),
        };
        if !known {
            let why = format!("Patient/{id} is not among those that can be exported here");
            return Err(Refusal::bad_request("not-found", why));
        }
    }
    Ok(Some(asked.patients.clone()))
}

fn of_type(
    store: &Store,
    asked: &Asked,
    kind: &'static str,
    patients: Option<&[String]>,
) -> Vec<Arc<Value>> {
    let filters: Vec<_> = asked.filters.iter().filter(|(of, _)| of.name == kind).collect();
    store
        .all(kind)
        .filter(|resource| {
            let at: Option<Timestamp> =
                resource["meta"]["lastUpdated"].as_str().and_then(|text| text.parse().ok());
            at.is_none_or(|at| {
                asked.since.is_none_or(|since| at > since)
                    && asked.until.is_none_or(|until| at < until)
            })
        })
        .filter(|resource| {
            patients.is_none_or(|ids| {
                patient_of(resource).is_some_and(|id| ids.iter().any(|it| it == id))
            })
        })
        .filter(|resource| {
            filters.is_empty() || filters.iter().any(|(_, search)| search.holds(resource))
        })
        .map(|resource| shortened(resource, kind, asked))
        .collect()
}

/// The id of the patient to whom a resource belongs.
fn patient_of(resource: &Value) -> Option<&str> {
    match resource["resourceType"].as_str() {
        Some("Patient") => resource["id"].as_str(),
        _ => resource["subject"]["reference"].as_str()?.strip_prefix("Patient/"),
    }
}

/// What `_elements` leaves of a resource, marked as a part.
fn shortened(resource: &Arc<Value>, kind: &str, asked: &Asked) -> Arc<Value> {
    /// Elements that have to be there (cardinality 1..) in the types that are served.
    const MANDATORY: [&str; 8] =
        ["resourceType", "id", "meta", "status", "class", "code", "subject", "type"];
    let mut wanted = asked
        .elements
        .iter()
        .filter(|(of, _)| of.as_ref().is_none_or(|of| of == kind))
        .map(|(_, element)| element.as_str())
        .peekable();
    let Value::Object(whole) = &**resource else { return resource.clone() };
    if wanted.peek().is_none() {
        return resource.clone();
    }
    let wanted: Vec<&str> = wanted.collect();
    let mut part = serde_json::Map::new();
    for (name, value) in whole {
        if MANDATORY.contains(&name.as_str()) || wanted.contains(&name.as_str()) {
            part.insert(name.clone(), value.clone());
        }
    }
    let subsetted = json!({
        "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED",
    });
    if let Some(meta) = part.get_mut("meta") {
        match meta.get_mut("tag").and_then(Value::as_array_mut) {
            Some(tags) => tags.push(subsetted),
            None => meta["tag"] = json!([subsetted]),
        }
    }
    Arc::new(Value::Object(part))
}

fn by_type(picked: Vec<(&'static str, Vec<Arc<Value>>)>, plan: &BulkPlan) -> Vec<File> {
    let mut files = Vec::new();
    for (kind, lines) in picked.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        let most = match (plan.files_per_type, plan.lines_per_file) {
            (Some(files), _) => (lines.len() as u64).div_ceil(files),
            (None, Some(most)) => most,
            (None, None) => lines.len() as u64,
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
        for (n, part) in lines.chunks(most).enumerate() {
            files.push(kept(format!("{kind}-{}", n + 1), Some(kind), part.to_vec()));
        }
    }
    files
}

/// One block per patient, with a header before it.
fn organised(picked: &[(&'static str, Vec<Arc<Value>>)], plan: &BulkPlan) -> Vec<File> {
    let all: Vec<&Arc<Value>> = picked.iter().flat_map(|(_, resources)| resources).collect();
    let ids =
        all.iter().filter_map(|it| (it["resourceType"] == "Patient").then(|| it["id"].as_str())?);
    let blocks: Vec<(Arc<Value>, Vec<Arc<Value>>)> = ids
        .map(|id| {
            let header = Arc::new(json!({
                "resourceType": "Parameters",
                "parameter": [{
                    "name": "header", "valueReference": {"reference": format!("Patient/{id}")},
                }],
            }));
            let of = all.iter().filter(|it| patient_of(it) == Some(id)).map(|it| (*it).clone());
            (header, of.collect())
        })
        .collect();
    let name = |n: usize| format!("Patient-block-{}", n + 1);
    let most =
        plan.lines_per_file.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let split = plan.has(Trap::OrganisedSplit);
    let mut files: Vec<File> = Vec::new();
    let mut lines: Vec<Arc<Value>> = Vec::new();
    let mut count = 0;
    let last = blocks.len().saturating_sub(1);
    for (nth, (header, resources)) in blocks.into_iter().enumerate() {
        lines.push(header.clone());
        // The trap splits the block in the middle of the list.
        let cut = (split && nth == last / 2).then_some(resources.len() / 2);
        for (n, resource) in resources.into_iter().enumerate() {
            if cut == Some(n) {
                let mut file = kept(name(files.len()), None, std::mem::take(&mut lines));
                file.count = std::mem::take(&mut count);
                file.continues = Some(name(files.len() + 1));
                files.push(file);
                lines.push(header.clone());
            }
            lines.push(resource);
            count += 1;
        }
        if lines.len() >= most || nth == last {
            let mut file = kept(name(files.len()), None, std::mem::take(&mut lines));
            file.count = std::mem::take(&mut count);
            files.push(file);
        }
    }
    files
}

fn deleted(
    store: &Store,
    asked: &Asked,
    plan: &BulkPlan,
    output: &Output,
    wanted: impl Fn(&str) -> bool,
) -> Vec<File> {
    let mut urls = Vec::new();
    if let Some(since) = asked.since {
        for kind in table::TYPES.iter().filter(|kind| wanted(kind.name)) {
            let ids = store.deleted(kind.name, since);
            urls.extend(ids.map(|id| format!("{}/{id}", kind.name)));
        }
    }
    urls.extend((1..=plan.deleted.unwrap_or(0)).map(|n| format!("Observation/gone-{n}")));
    if plan.has(Trap::DeletedAlsoOutput)
        && let Output::Kept(files) = output
        && let Some(Lines::Kept(lines)) = files.first().map(|file| &file.lines)
        && let Some(first) = lines.first()
    {
        let word = |name: &str| first[name].as_str().unwrap_or_default().to_owned();
        urls.push(format!("{}/{}", word("resourceType"), word("id")));
    }
    if urls.is_empty() {
        return Vec::new();
    }
    let lines = urls.iter().map(|url| {
        Arc::new(json!({
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [{"request": {"method": "DELETE", "url": url}}],
        }))
    });
    vec![kept("deleted-1".to_owned(), Some("Bundle"), lines.collect())]
}

fn errors(asked: &Asked, plan: &BulkPlan) -> Vec<File> {
    let mut issues: Vec<(String, String, String)> = Vec::new();
    for why in &asked.ignored {
        issues.push(("warning".into(), "not-supported".into(), format!("{why}; it was left out")));
    }
    for (trap, severity, code) in [
        (Trap::ErrorInformation, "information", "informational"),
        (Trap::ErrorWarning, "warning", "incomplete"),
        (Trap::ErrorError, "error", "processing"),
        (Trap::ErrorFatal, "fatal", "exception"),
    ] {
        if plan.has(trap) {
            issues.push((severity.into(), code.into(), format!("asked for by the trap {trap}")));
        }
    }
    for issue in plan.outcomes.iter().flatten() {
        let text = "asked for by the scenario".to_owned();
        issues.push((issue.severity.clone(), issue.code.clone(), text));
    }
    if issues.is_empty() {
        return Vec::new();
    }
    let lines = issues.iter().map(|(severity, code, text)| Arc::new(outcome(severity, code, text)));
    vec![kept("outcome-1".to_owned(), Some("OperationOutcome"), lines.collect())]
}
