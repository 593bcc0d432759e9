//! Bundles that are posted to the base: `batch` and `transaction` (FHIR, section 3.1.0.11).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::answer::Reply;
use super::super::fhir::outcome::{Refusal, outcome};
use super::super::fhir::store::{Store, Version, instant};
use super::super::fhir::table::{self, Type};
use super::super::routes::is_id;
use super::super::site::{Site, locked};
use super::{Bulk, BulkPlan};
use crate::serve::{Received, Request, StatusCode, header};

/// Most bytes of a Bundle when nothing is said.
pub(super) const BYTES: u64 = 8 * 1024 * 1024;

/// One entry as it was understood.
struct Entry {
    act: Act,
    kind: &'static Type,
    /// Of what is written or deleted; `None`: the server picks one.
    id: Option<String>,
    /// Has to be the newest version.
    expected: Option<u32>,
    resource: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    // In the order in which a transaction is carried out.
    Delete,
    Create,
    Update,
    Read,
}

impl Bulk {
    /// Carries out a Bundle.
    pub(super) fn bundle(&self, site: &Site, request: &Request) -> Result<Reply, Refusal> {
        if let Some(refused) = self.busy() {
            return Ok(refused);
        }
        let bundle = self.read_bundle(request)?;
        let entries = bundle["entry"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_transaction = match bundle["type"].as_str() {
            Some("batch") => false,
            Some("transaction") => true,
            other => {
                let why =
                    format!("a Bundle of type {} is not carried out", other.unwrap_or("none"));
                return Err(Refusal::bad_request("invalid", why));
            }
        };
        if self.plan.bundle_entries.is_some_and(|most| entries.len() > most) {
            return Err(too_large("the Bundle has too many entries"));
        }
        for row in entries {
            let kind = row["resource"]["resourceType"].as_str().and_then(table::find);
            if let Some(kind) = site.not_permitted(request, kind.map(|kind| kind.name).as_slice()) {
                let why = format!("the token's scopes do not permit {kind}");
                return Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", why));
            }
        }
        let (base, now) = (site.base_for(request), site.now());
        let mut store = locked(&site.store);
        let done = match is_transaction {
            true => self.transaction(&mut store, entries, &base, now)?,
            false => entries
                .iter()
                .map(|row| {
                    let entry = Entry::read(row, &self.plan)?;
                    carry_out(&mut store, entry, &base, now)
                })
                .map(|done| done.unwrap_or_else(|refusal| refused(&refusal)))
                .collect(),
        };
        Ok(Reply::ok(json!({
            "resourceType": "Bundle",
            "id": uuid::Uuid::new_v4().to_string(),
            "type": if is_transaction { "transaction-response" } else { "batch-response" },
            "entry": done,
        })))
    }

    /// Every n-th Bundle is refused where the plan says so.
    fn busy(&self) -> Option<Reply> {
        let n = self.bundles.fetch_add(1, Ordering::Relaxed) + 1;
        let strikes = |percent: Option<u8>| {
            let percent = u64::from(percent.unwrap_or(0));
            n * percent / 100 > (n - 1) * percent / 100
        };
        let (status, code) = match () {
            () if strikes(self.plan.busy) => (StatusCode::TOO_MANY_REQUESTS, "throttled"),
            () if strikes(self.plan.unavailable) => (StatusCode::SERVICE_UNAVAILABLE, "transient"),
            () => return None,
        };
        let reply = Reply::from(Refusal::new(status, code, "this server has enough to do"));
        let text = self.plan.retry_after.as_ref().map_or("1", |text| text.0.as_str());
        Some(reply.with(header::RETRY_AFTER, text))
    }

    fn read_bundle(&self, request: &Request) -> Result<Value, Refusal> {
        let most = self.plan.bundle_bytes.map_or(BYTES, |size| size.0);
        let body = match &request.body {
            Received::Whole(body) if body.len() as u64 <= most => body,
            _ => return Err(too_large(&format!("a Bundle has at most {most} bytes here"))),
        };
        let bundle: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal::bad_request("structure", format!("no JSON: {error}")))?;
        match bundle["resourceType"].as_str() {
            Some("Bundle") => Ok(bundle),
            _ => Err(Refusal::bad_request("structure", "the body is no Bundle")),
        }
    }

    /// All or nothing: everything that can be refused is looked at before anything is written.
    fn transaction(
        &self,
        store: &mut Store,
        rows: &[Value],
        base: &str,
        now: Timestamp,
    ) -> Result<Vec<Value>, Refusal> {
        let at = |n: usize| {
            move |refusal: Refusal| Refusal {
                text: format!("Bundle.entry[{n}]: {}", refusal.text),
                ..refusal
            }
        };
        let mut entries = Vec::new();
        let mut places = HashMap::new();
        let mut seen = HashSet::new();
        for (n, row) in rows.iter().enumerate() {
            let mut entry = Entry::read(row, &self.plan).map_err(at(n))?;
            if entry.act == Act::Create {
                entry.id = Some(store.free_id(entry.kind.name));
            } else {
                entry.check(store).map_err(at(n))?;
            }
            let place = format!("{}/{}", entry.kind.name, entry.id.as_deref().unwrap_or_default());
            if entry.act != Act::Read && !seen.insert(place.clone()) {
                let why = format!("{place} is there twice");
                return Err(at(n)(Refusal::bad_request("invalid", why)));
            }
            if let Some(full_url) = row["fullUrl"].as_str().filter(|it| it.starts_with("urn:")) {
                places.insert(full_url.to_owned(), place);
            }
            entries.push((n, entry));
        }
        for (_, entry) in &mut entries {
            redirect(&mut entry.resource, &places);
        }
        entries.sort_by_key(|(n, entry)| (entry.act, *n));
        let mut done = vec![Value::Null; rows.len()];
        for (n, entry) in entries {
            done[n] = carry_out(store, entry, base, now).map_err(at(n))?;
        }
        Ok(done)
    }
}

impl Entry {
    fn read(row: &Value, plan: &BulkPlan) -> Result<Entry, Refusal> {
        let word = |name: &str| row["request"][name].as_str();
        let url = word("url").unwrap_or_default();
        if url.contains('?') || word("ifNoneExist").is_some() {
            let why = "conditional interactions are not supported here";
            return Err(Refusal::new(StatusCode::PRECONDITION_FAILED, "not-supported", why));
        }
        let (name, id) = match url.trim_matches('/').split_once('/') {
            Some((name, id)) => (name, Some(id)),
            None => (url.trim_matches('/'), None),
        };
        let kind = table::find(name)
            .ok_or_else(|| Refusal::not_found(format!("{name:?} is not served here")))?;
        let act = match (word("method"), id) {
            (Some("POST"), None) => Act::Create,
            (Some("PUT"), Some(_)) => Act::Update,
            (Some("DELETE"), Some(_)) => Act::Delete,
            (Some("GET"), Some(_)) => Act::Read,
            (method, _) => {
                let why = format!("{} {url} is not supported here", method.unwrap_or("no method"));
                return Err(Refusal::bad_request("not-supported", why));
            }
        };
        if id.is_some_and(|id| !is_id(id)) {
            return Err(Refusal::bad_request("value", format!("{url} has no id that can be one")));
        }
        let resource = row["resource"].clone();
        if matches!(act, Act::Create | Act::Update) {
            judge(&resource, kind, id, plan)?;
        }
        let expected = match word("ifMatch") {
            None => None,
            Some(tag) => {
                let number = tag.trim_start_matches("W/").trim_matches('"').parse();
                Some(number.map_err(|_| Refusal::bad_request("value", "ifMatch is no ETag"))?)
            }
        };
        Ok(Entry { act, kind, id: id.map(str::to_owned), expected, resource })
    }

    /// Whether it can be carried out, without doing so.
    fn check(&self, store: &Store) -> Result<(), Refusal> {
        let id = self.id.as_deref().unwrap_or_default();
        match self.act {
            Act::Read => store.read(self.kind.name, id).map(|_| ()),
            _ => store.expect(self.kind.name, id, self.expected),
        }
    }
}

/// Looks at a resource before it is stored, also for import.
pub(super) fn judge(
    resource: &Value,
    kind: &Type,
    id: Option<&str>,
    plan: &BulkPlan,
) -> Result<(), Refusal> {
    let unfit = |why: String| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "processing", why);
    match resource["resourceType"].as_str() {
        Some(name) if name == kind.name => {}
        Some(name) => {
            return Err(unfit(format!("a {name} was sent to the place of {}", kind.name)));
        }
        None => return Err(Refusal::bad_request("structure", "there is no resourceType")),
    }
    let own = resource["id"].as_str();
    if id.is_some() && own != id {
        return Err(Refusal::bad_request("invalid", "the resource has not the id of its URL"));
    }
    let listed = |ids: &Option<super::value::List<String>>| {
        ids.as_ref().is_some_and(|ids| own.is_some_and(|own| ids.0.iter().any(|id| id == own)))
    };
    if listed(&plan.refuse_ids) {
        return Err(unfit(format!("{}/{} is refused here", kind.name, own.unwrap_or_default())));
    }
    if listed(&plan.conflict_ids) {
        let why = format!("{}/{} is in conflict here", kind.name, own.unwrap_or_default());
        return Err(Refusal::new(StatusCode::PRECONDITION_FAILED, "conflict", why));
    }
    Ok(())
}

fn carry_out(
    store: &mut Store,
    entry: Entry,
    base: &str,
    now: Timestamp,
) -> Result<Value, Refusal> {
    let Entry { act, kind, id, expected, resource } = entry;
    match (act, id) {
        (Act::Create, None) => {
            let (id, version) = store.create(kind.name, resource, now)?;
            Ok(written(base, kind, &id, &version))
        }
        (Act::Create | Act::Update, Some(id)) => {
            let version = store.update(kind.name, &id, resource, expected, now)?;
            Ok(written(base, kind, &id, &version))
        }
        (Act::Delete, id) => {
            store.delete(kind.name, &id.unwrap_or_default(), expected, now)?;
            Ok(json!({"response": {"status": "204 No Content"}}))
        }
        (_, id) => {
            let id = id.unwrap_or_default();
            let (version, resource) = store.read(kind.name, &id)?;
            let etag = format!("W/\"{}\"", version.number);
            Ok(json!({
                "fullUrl": format!("{base}/{}/{id}", kind.name),
                "resource": *resource,
                "response": {"status": "200 OK", "etag": etag},
            }))
        }
    }
}

fn written(base: &str, kind: &Type, id: &str, version: &Version) -> Value {
    let status = if version.number == 1 { "201 Created" } else { "200 OK" };
    json!({"response": {
        "status": status,
        "location": format!("{base}/{}/{id}/_history/{}", kind.name, version.number),
        "etag": format!("W/\"{}\"", version.number),
        "lastModified": instant(version.at),
    }})
}

fn refused(refusal: &Refusal) -> Value {
    json!({"response": {
        "status": refusal.status.to_string(),
        "outcome": outcome("error", refusal.code, &refusal.text),
    }})
}

fn too_large(why: &str) -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too-long", why)
}

/// Lets references to other entries lead to where these are stored.
fn redirect(value: &mut Value, places: &HashMap<String, String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| redirect(item, places)),
        Value::Object(members) => {
            for (name, member) in members {
                let place = member.as_str().filter(|_| name == "reference");
                match place.and_then(|reference| places.get(reference)) {
                    Some(place) => *member = place.as_str().into(),
                    None => redirect(member, places),
                }
            }
        }
        _ => {}
    }
}
