//! How many resources of a type a server has: by its total, else by walking through their ids.

use std::collections::HashSet;

use serde::Deserialize;

use super::ask::{Found, Reader};
use crate::bulk::crawl::Declared;
use crate::bulk::halt::Halt;
use crate::bulk::import::order::key;
use crate::bulk::import::report::Counts;
use crate::bulk::job::follow;
use crate::model::limits;

/// After so many types without a total no more totals are asked for.
const FRUITLESS: u32 = 3;
/// Most pages that are walked through for one type; beyond that its number is unknown.
const PAGES: u32 = 200;
const PAGE: u32 = 1000;

/// Counts on one server, type by type.
struct Counter<'a> {
    reader: &'a Reader,
    fruitless: u32,
}

#[derive(Deserialize)]
struct Bundle {
    #[serde(rename = "resourceType", default)]
    resource_type: String,
    total: Option<u64>,
    #[serde(default)]
    link: Vec<Link>,
    #[serde(default)]
    entry: Vec<Entry>,
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    relation: String,
    #[serde(default)]
    url: String,
}

#[derive(Deserialize)]
struct Entry {
    resource: Option<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "resourceType", default)]
    resource_type: String,
    #[serde(default)]
    id: String,
}

/// How many resources of some types a server has; `None` where it cannot be told.
///
/// # Errors
/// When it cannot be reached or refuses the credential.
pub async fn counts(reader: &Reader, types: impl Iterator<Item = &String>) -> Result<Counts, Halt> {
    let mut counter = Counter { reader, fruitless: 0 };
    let mut counts = Counts::new();
    for resource_type in types {
        counts.insert(resource_type.clone(), counter.count(resource_type).await?);
    }
    Ok(counts)
}

/// The types that a server can be searched for; `None` when its CapabilityStatement cannot be read.
///
/// # Errors
/// When it cannot be reached or refuses the credential.
pub async fn searchable(reader: &Reader) -> Result<Option<Vec<String>>, Halt> {
    let Found::Body(body) = reader.read("metadata", limits::BODY_BYTES).await? else {
        return Ok(None);
    };
    Ok(serde_json::from_slice::<Declared>(&body).ok().map(|declared| declared.searchable_types()))
}

impl Counter<'_> {
    async fn count(&mut self, resource_type: &str) -> Result<Option<u64>, Halt> {
        if self.fruitless < FRUITLESS {
            // FHIR R4 search, "_summary".
            let path = format!("{resource_type}?_summary=count");
            let total = self.bundle(&path).await?.and_then(|bundle| bundle.total);
            self.fruitless = if total.is_none() { self.fruitless + 1 } else { 0 };
            if total.is_some() {
                return Ok(total);
            }
        }
        self.walk(resource_type).await
    }

    async fn bundle(&self, path: &str) -> Result<Option<Bundle>, Halt> {
        let found = self.reader.read(path, limits::BODY_BYTES).await?;
        Ok(bundle(&found))
    }

    async fn walk(&self, resource_type: &str) -> Result<Option<u64>, Halt> {
        let base = self.reader.server().url.join("").ok();
        let path = format!("{resource_type}?_elements=id&_count={PAGE}");
        let Some(mut page) = self.bundle(&path).await? else { return Ok(None) };
        let mut ids = HashSet::new();
        for _ in 0..PAGES {
            let own = page.entry.iter().filter_map(|entry| entry.resource.as_ref());
            let own = own.filter(|resource| resource.resource_type == resource_type);
            let before = ids.len();
            ids.extend(own.map(|resource| key(resource_type, &resource.id)));
            let next = page.link.iter().find(|link| link.relation == "next");
            let Some(next) = next else { return Ok(Some(ids.len() as u64)) };
            // A page with nothing new that has one behind it leads in a circle.
            let next = base.as_ref().and_then(|base| follow(base, &next.url).ok());
            let Some(next) = next.filter(|_| ids.len() > before) else { return Ok(None) };
            match bundle(&self.reader.get(&next, limits::BODY_BYTES).await?) {
                Some(bundle) => page = bundle,
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}

fn bundle(found: &Found) -> Option<Bundle> {
    match found {
        Found::Body(body) => serde_json::from_slice::<Bundle>(body)
            .ok()
            .filter(|bundle| bundle.resource_type == "Bundle"),
        Found::Absent | Found::Refused(_) => None,
    }
}
