//! How many resources of a type a server has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::auth::caller::{Ask, Caller};
use crate::http::Client;
use crate::model::limits;

/// How long one count may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// After so many in a row that brought nothing, the rest is not asked for.
const FRUITLESS: u32 = 3;

#[derive(Deserialize)]
struct Counted {
    #[serde(rename = "resourceType", default)]
    resource_type: String,
    total: Option<u64>,
}

/// The totals that a server gives (FHIR R4 search, `_summary=count`); `None` where it gives none.
pub async fn totals(
    caller: &Caller,
    client: &Arc<Client>,
    types: impl Iterator<Item = &String>,
) -> BTreeMap<String, Option<u64>> {
    let mut totals = BTreeMap::new();
    let mut fruitless = 0;
    for resource_type in types {
        let total = match fruitless < FRUITLESS {
            true => total(caller, client, resource_type).await,
            false => None,
        };
        fruitless = if total.is_none() { fruitless + 1 } else { 0 };
        totals.insert(resource_type.clone(), total);
    }
    totals
}

async fn total(caller: &Caller, client: &Arc<Client>, resource_type: &str) -> Option<u64> {
    let url = caller.server.url.join(&format!("{resource_type}?_summary=count")).ok()?;
    client.admit(&url).await;
    let answer = caller.ask(client, &Ask::get(&url, "application/fhir+json")).await.ok()?;
    if answer.status().as_u16() != 200 {
        return None;
    }
    let deadline = Instant::now() + PATIENCE;
    let body = answer.whole(limits::SMALL_BODY_BYTES, deadline).await.ok()?;
    let counted: Counted = serde_json::from_slice(&body).ok()?;
    counted.total.filter(|_| counted.resource_type == "Bundle")
}
