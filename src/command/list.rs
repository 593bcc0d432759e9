//! `list`: what is registered.

use clap::Args;
use serde_json::{Value, json};

use super::selector;
use crate::context::{Context, Outcome};
use crate::inventory::{Inventory, select};
use crate::model::{Result, Server, State};
use crate::render::{Block, Cell, Output, Table, Tone};
use crate::view::human::or_dash;

/// List the registered servers, inactive ones too
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub selector: selector::SelectorArgs,
}

/// # Errors
/// Exit 66 when nothing matches, 78 when the inventory is not valid.
pub fn run(args: &ListArgs, context: &Context) -> Result<Outcome> {
    let inventory = context.load_inventory()?;
    let selection = args.selector.selection();
    // Without a selector the list is of everything: it answers what is registered.
    let servers: Vec<&Server> = if selection == select::Selection::default() {
        inventory.servers.iter().collect()
    } else {
        select::select(&inventory, &selection)?
    };
    let now = context.clock.now();
    let rows: Vec<(&Server, State)> =
        servers.into_iter().map(|server| (server, server.state(now))).collect();
    Ok(Outcome::printed(output(&inventory, &rows)))
}

fn output(inventory: &Inventory, servers: &[(&Server, State)]) -> Output {
    let items: Vec<Value> = servers
        .iter()
        .map(|(server, state)| {
            json!({
                "name": server.name,
                "url": server.url.as_str(),
                "vendor": server.vendor,
                "fhir_version": server.fhir_version,
                "state": state,
                "labels": server.labels,
                "description": server.description,
                "organization": server.organization,
                "auth": server.auth.method(),
                "groups": groups(inventory, &server.name),
            })
        })
        .collect();
    let head = ["NAME", "URL", "VENDOR", "VERSION", "STATE", "LABELS"];
    let table = Table {
        head: head.map(str::to_owned).to_vec(),
        rows: servers.iter().map(|(server, state)| row(server, *state)).collect(),
    };
    let document = if servers.is_empty() {
        vec![Block::Text(vec![Cell::plain(format!(
            "{} registers no server yet; fhirctl add NAME URL registers one.",
            inventory.path.display()
        ))])]
    } else {
        vec![Block::Table(table.clone())]
    };
    Output {
        json: json!({
            "schema": "fhirctl/list/v1",
            "inventory": inventory.path,
            "servers": items,
        }),
        lines: Some(super::lines("fhirctl/list-server/v1", &items)),
        document,
        rows: Some(table),
        ..Output::default()
    }
}

fn row(server: &Server, state: State) -> Vec<Cell> {
    let labels: Vec<String> =
        server.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let state = match state {
        State::Active => Cell::toned("active", Tone::Good),
        State::Maintenance => Cell::toned("maintenance", Tone::Warning),
        State::Inactive => Cell::toned("inactive", Tone::Dim),
    };
    vec![
        Cell::toned(&server.name, Tone::Strong),
        Cell::plain(server.url.as_str()),
        or_dash(server.vendor.as_deref()),
        or_dash(server.fhir_version.map(|version| version.as_str())),
        state,
        Cell::plain(labels.join(",")),
    ]
}

/// The groups that a server is a member of.
fn groups<'a>(inventory: &'a Inventory, name: &str) -> Vec<&'a str> {
    let of = |members: &[String]| members.iter().any(|member| member == name);
    let groups = inventory.groups.iter().filter(|group| of(&group.members));
    groups.map(|group| group.name.as_str()).collect()
}
