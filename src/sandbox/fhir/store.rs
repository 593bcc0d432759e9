//! The resources of one server with their versions, in memory and bounded.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::outcome::Refusal;
use super::table;
use crate::serve::StatusCode;

/// Most versions of resources that are written into one server after its start.
const MAX_WRITES: usize = 200_000;
/// Most bytes of JSON that are written into one server after its start.
const MAX_WRITTEN_BYTES: usize = 128 * 1024 * 1024;

/// One version of a resource.
#[derive(Clone, Debug)]
pub(in crate::sandbox) struct Version {
    /// From 1.
    pub(in crate::sandbox) number: u32,
    pub(in crate::sandbox) at: Timestamp,
    /// `None`: this version deleted it.
    pub(in crate::sandbox) resource: Option<Arc<Value>>,
}

/// All resources of one server.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Store {
    types: HashMap<&'static str, Shelf>,
    writes: usize,
    written_bytes: usize,
    next_id: u32,
}

/// The resources of one type, in the order in which they came.
#[derive(Debug, Default)]
struct Shelf {
    order: Vec<Vec<Version>>,
    places: HashMap<String, usize>,
}

impl Store {
    /// Holds the records that a server starts with.
    pub(in crate::sandbox) fn new(records: Vec<Value>, now: Timestamp) -> Store {
        let mut store = Store { next_id: 1, ..Store::default() };
        for record in records {
            let kind = record["resourceType"].as_str().and_then(table::find);
            let id = record["id"].as_str().map(str::to_owned);
            if let (Some(kind), Some(id)) = (kind, id) {
                store.push(kind.name, &id, Some(record), now);
            }
        }
        store
    }

    /// The newest version; one that deleted the resource is a refusal with 410.
    pub(in crate::sandbox) fn read(
        &self,
        kind: &str,
        id: &str,
    ) -> Result<(&Version, Arc<Value>), Refusal> {
        let newest = self.history(kind, id)?.last();
        let newest = newest.ok_or_else(|| unknown(kind, id))?;
        match &newest.resource {
            Some(resource) => Ok((newest, resource.clone())),
            None => Err(Refusal::new(
                StatusCode::GONE,
                "deleted",
                format!("{kind}/{id} was deleted at {}", newest.at),
            )),
        }
    }

    /// All versions, oldest first.
    pub(in crate::sandbox) fn history(&self, kind: &str, id: &str) -> Result<&[Version], Refusal> {
        self.types
            .get(kind)
            .and_then(|shelf| shelf.order.get(*shelf.places.get(id)?))
            .map(Vec::as_slice)
            .ok_or_else(|| unknown(kind, id))
    }

    /// The newest versions of all resources of a type that are not deleted.
    pub(in crate::sandbox) fn all(&self, kind: &str) -> impl Iterator<Item = &Arc<Value>> {
        self.types
            .get(kind)
            .into_iter()
            .flat_map(|shelf| &shelf.order)
            .filter_map(|versions| versions.last()?.resource.as_ref())
    }

    /// The ids of resources of a type that were deleted after an instant.
    pub(in crate::sandbox) fn deleted(
        &self,
        kind: &str,
        since: Timestamp,
    ) -> impl Iterator<Item = &String> {
        self.types.get(kind).into_iter().flat_map(move |shelf| {
            shelf.places.iter().filter_map(move |(id, place)| {
                let newest = shelf.order[*place].last()?;
                (newest.resource.is_none() && newest.at > since).then_some(id)
            })
        })
    }

    /// Stores a resource under a new id and says which.
    pub(in crate::sandbox) fn create(
        &mut self,
        kind: &'static str,
        resource: Value,
        now: Timestamp,
    ) -> Result<(String, Version), Refusal> {
        self.admit(&resource)?;
        let id = self.free_id(kind);
        let version = self.push(kind, &id, Some(resource), now);
        Ok((id, version))
    }

    /// An id that no resource of a type has, and that is not given out again.
    pub(in crate::sandbox) fn free_id(&mut self, kind: &str) -> String {
        let taken =
            |id: &str| self.types.get(kind).is_some_and(|shelf| shelf.places.contains_key(id));
        let mut number = self.next_id;
        while taken(&format!("created-{number}")) {
            number += 1;
        }
        self.next_id = number + 1;
        format!("created-{number}")
    }

    /// Stores a resource under its id. `expected`: the version that has to be the newest.
    pub(in crate::sandbox) fn update(
        &mut self,
        kind: &'static str,
        id: &str,
        resource: Value,
        expected: Option<u32>,
        now: Timestamp,
    ) -> Result<Version, Refusal> {
        self.admit(&resource)?;
        self.expect(kind, id, expected)?;
        Ok(self.push(kind, id, Some(resource), now))
    }

    /// Deletes a resource; one that is deleted or was never there stays so.
    pub(in crate::sandbox) fn delete(
        &mut self,
        kind: &'static str,
        id: &str,
        expected: Option<u32>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.expect(kind, id, expected)?;
        if self.read(kind, id).is_ok() {
            self.admit(&Value::Null)?;
            self.push(kind, id, None, now);
        }
        Ok(())
    }

    /// Whether the newest version is the one that is expected.
    pub(in crate::sandbox) fn expect(
        &self,
        kind: &str,
        id: &str,
        expected: Option<u32>,
    ) -> Result<(), Refusal> {
        let newest = self.history(kind, id).ok().and_then(|versions| versions.last());
        match (expected, newest.map(|version| version.number)) {
            (Some(expected), found) if found != Some(expected) => Err(Refusal::new(
                StatusCode::PRECONDITION_FAILED,
                "conflict",
                match found {
                    Some(found) => format!("{kind}/{id} is at version {found}, not {expected}"),
                    None => format!("{kind}/{id} has no version {expected}"),
                },
            )),
            _ => Ok(()),
        }
    }

    /// Counts what is written, so that nobody fills the memory.
    fn admit(&mut self, resource: &Value) -> Result<(), Refusal> {
        let bytes = self.written_bytes + resource.to_string().len();
        if self.writes >= MAX_WRITES || bytes > MAX_WRITTEN_BYTES {
            return Err(Refusal::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "no-store",
                "this sandbox is full; start it again to empty it",
            ));
        }
        self.writes += 1;
        self.written_bytes = bytes;
        Ok(())
    }

    fn push(
        &mut self,
        kind: &'static str,
        id: &str,
        resource: Option<Value>,
        at: Timestamp,
    ) -> Version {
        let shelf = self.types.entry(kind).or_default();
        let place = *shelf.places.entry(id.to_owned()).or_insert_with(|| {
            shelf.order.push(Vec::new());
            shelf.order.len() - 1
        });
        let number = u32::try_from(shelf.order[place].len()).unwrap_or(u32::MAX - 1) + 1;
        let resource = resource.map(|resource| Arc::new(stamped(resource, id, number, at)));
        let version = Version { number, at, resource };
        shelf.order[place].push(version.clone());
        version
    }
}

/// Gives a resource its id, version and time, with `id` and `meta` in front as FHIR orders them.
fn stamped(resource: Value, id: &str, number: u32, at: Timestamp) -> Value {
    let Value::Object(mut given) = resource else { return resource };
    let mut meta = serde_json::Map::new();
    meta.insert("versionId".into(), json!(number.to_string()));
    meta.insert("lastUpdated".into(), json!(instant(at)));
    if let Some(Value::Object(old)) = given.shift_remove("meta") {
        meta.extend(
            old.into_iter().filter(|(name, _)| name != "versionId" && name != "lastUpdated"),
        );
    }
    let mut whole = serde_json::Map::new();
    if let Some(kind) = given.shift_remove("resourceType") {
        whole.insert("resourceType".into(), kind);
    }
    given.shift_remove("id");
    whole.insert("id".into(), json!(id));
    whole.insert("meta".into(), Value::Object(meta));
    whole.extend(given);
    Value::Object(whole)
}

/// A FHIR instant with milliseconds.
pub(in crate::sandbox) fn instant(at: Timestamp) -> String {
    format!("{at:.3}")
}

fn unknown(kind: &str, id: &str) -> Refusal {
    Refusal::not_found(format!("{kind}/{id} is not known here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T03:04:05.678Z".parse().unwrap()
    }

    fn store() -> Store {
        let patient = json!({"resourceType": "Patient", "id": "a", "active": true});
        Store::new(vec![patient], now())
    }

    #[test]
    fn a_resource_is_stamped_with_id_version_and_time() {
        let store = store();
        let (version, resource) = store.read("Patient", "a").unwrap();
        assert_eq!(version.number, 1);
        assert_eq!(
            resource.to_string(),
            r#"{"resourceType":"Patient","id":"a","meta":{"versionId":"1","lastUpdated":"2026-01-02T03:04:05.678Z"},"active":true}"#
        );
    }

    #[test]
    fn an_update_makes_a_version_and_a_deletion_is_gone() {
        let mut store = store();
        let patient = json!({"resourceType": "Patient", "id": "a", "active": false});
        assert_eq!(
            store.update("Patient", "a", patient.clone(), Some(1), now()).unwrap().number,
            2
        );
        let stale = store.update("Patient", "a", patient, Some(1), now()).unwrap_err();
        assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
        store.delete("Patient", "a", None, now()).unwrap();
        assert_eq!(store.read("Patient", "a").unwrap_err().status, StatusCode::GONE);
        assert_eq!(store.history("Patient", "a").unwrap().len(), 3);
        assert_eq!(store.all("Patient").count(), 0);
        assert_eq!(store.read("Patient", "b").unwrap_err().status, StatusCode::NOT_FOUND);
    }

    #[test]
    fn a_full_store_says_so() {
        let mut store = store();
        store.writes = MAX_WRITES;
        let refusal = store.create("Patient", json!({"resourceType": "Patient"}), now());
        assert_eq!(refusal.unwrap_err().status, StatusCode::INSUFFICIENT_STORAGE);
    }

    #[test]
    fn a_new_id_is_never_one_that_is_taken() {
        let mut store = store();
        let patient = || json!({"resourceType": "Patient"});
        store.update("Patient", "created-1", patient(), None, now()).unwrap();
        assert_eq!(store.create("Patient", patient(), now()).unwrap().0, "created-2");
    }
}
