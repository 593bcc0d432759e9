//! The history: where it lies, whether it can be used, and in what shape it is.

use std::path::Path;
use std::time::Duration;

use jiff::tz::TimeZone;
use nix::unistd::{AccessFlags, access};
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::history::{Overview, Place, Problem, Settings, Store};
use crate::inventory::Inventory;
use crate::model::{Error, Result};
use crate::report::instant;
use crate::view::doctor::Check;
use crate::view::history::size;

const NAME: &str = "history";
/// For whoever holds the file.
const PATIENCE: Duration = Duration::from_secs(2);
/// For all of it.
const LIMIT: Duration = Duration::from_secs(15);
/// Days (UTC) that may be unpacked: today's, and that of who sleeps.
const MOST_UNPACKED: i32 = 2;

/// A history that was opened.
struct Found {
    overview: Overview,
    /// Why it cannot be written.
    unwritable: Option<Error>,
    /// Where segments do not fit.
    problem: Option<Problem>,
}

pub(super) async fn history(context: &Context) -> Check {
    if context.find_inventory().is_none_or(|path| !path.is_file()) {
        return Check::fine(NAME, "none yet: it lies beside the inventory");
    }
    let inventory = match context.load_inventory() {
        Ok(inventory) => inventory,
        Err(error) => {
            let why =
                format!("not looked for, since the inventory is not right: {}", error.message);
            return Check::warning(NAME, why).hint("fhirctl list says what is wrong in it");
        }
    };
    let mut details = Map::new();
    let check = match tokio::time::timeout(LIMIT, look(context, &inventory, &mut details)).await {
        Ok(Ok(check)) => check,
        Ok(Err(error)) => failed(&error),
        Err(_) => Check::error(NAME, format!("no answer within {} s", LIMIT.as_secs()))
            .hint("look at the database, and at the network in between"),
    };
    let days = |length: Duration| length.as_secs() / 86_400;
    let kept = inventory.history.retention;
    let kept =
        json!({"raw": days(kept.raw), "hourly": days(kept.hourly), "daily": days(kept.daily)});
    details.insert("kept_days".into(), kept);
    check.details(Value::Object(details))
}

async fn look(
    context: &Context,
    inventory: &Inventory,
    details: &mut Map<String, Value>,
) -> Result<Check> {
    let settings = context.history_settings(inventory).await?;
    let place = settings.place.to_string();
    details.insert("place".into(), place.clone().into());
    let Some(found) = open(&settings).await? else { return Ok(absent(&settings.place)) };
    let overview = &found.overview;
    for (key, value) in [
        ("engine", json!(overview.engine)),
        ("schema_version", json!(overview.schema)),
        ("size_bytes", json!(overview.bytes)),
        ("servers", json!(overview.servers)),
        ("readings", json!(overview.readings)),
        ("last_at", json!(overview.last_at.map(instant))),
        ("unpacked_from", json!(overview.unpacked_from)),
        ("last_seal", json!(overview.last_seal)),
        ("writable", json!(found.unwritable.is_none())),
        ("segments_fit", json!(found.problem.is_none())),
    ] {
        details.insert(key.into(), value);
    }
    if let Some(problem) = &found.problem {
        let server = problem.server.as_deref().unwrap_or("one of its servers");
        return Ok(Check::error(NAME, format!("{place}, {server}: {}", problem.message))
            .hint("fhirctl history verify shows how far it is whole; restore it from a backup"));
    }
    if let Some(error) = &found.unwritable {
        return Ok(Check { status: crate::model::Status::Warning, ..failed(error) });
    }
    let today = context.clock.now().to_zoned(TimeZone::UTC).date();
    let waits = overview.unpacked_from.filter(|day| (today - *day).get_days() >= MOST_UNPACKED);
    let told = told(&place, overview);
    Ok(match waits {
        Some(day) => Check::warning(NAME, format!("{told}; nothing was packed since {day}"))
            .hint("fhirctl history compact, once a day; check does it by itself unless it runs in CI, for Nagios or with --timeout"),
        None => Check::fine(NAME, told),
    })
}

async fn open(settings: &Settings) -> Result<Option<Found>> {
    let Some(store) = Store::look_within(settings, PATIENCE).await? else { return Ok(None) };
    Ok(Some(Found {
        overview: store.status().await?,
        problem: store.glance().await?,
        unwritable: store.try_write().await.err(),
    }))
}

fn told(place: &str, overview: &Overview) -> String {
    let newest = match overview.last_at {
        Some(at) => format!("the newest reading of {:.0}", instant(at)),
        None => "no reading".to_owned(),
    };
    let servers = match overview.servers {
        1 => "1 server".to_owned(),
        count => format!("{count} servers"),
    };
    format!(
        "{place}, layout {}, {}, {servers}, {newest}; its segments fit",
        overview.schema,
        size(overview.bytes)
    )
}

/// Nothing is there yet: whether it can be made.
fn absent(place: &Place) -> Check {
    let told = format!("{place}, not there yet: the first check makes it");
    match place {
        Place::Sqlite(path) => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            if access(folder, AccessFlags::W_OK).is_ok() {
                return Check::fine(NAME, told);
            }
            Check::error(NAME, format!("{place} is not there and cannot be made"))
                .hint("make its folder, and let it be written; --history FILE names another place")
        }
        Place::Postgres(_) => Check::fine(NAME, told),
    }
}

fn failed(error: &Error) -> Check {
    let check = Check::error(NAME, error.message.clone());
    if error.hints.is_empty() { check } else { check.hint(error.hints.join("; ")) }
}
