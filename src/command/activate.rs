//! `activate`: put servers in use.

use clap::Args;
use serde_json::{Value, json};

use super::change::{self, ChosenArgs};
use crate::context::{Context, Outcome};
use crate::inventory::edit::{self, Op};
use crate::model::Result;
use crate::render::{Cell, Tone};

/// Put servers in use, so that check works on them
///
/// Nothing is sent to them; fhirctl test NAME tries one before.
#[derive(Debug, Args)]
pub struct ActivateArgs {
    #[command(flatten)]
    pub selector: ChosenArgs,
}

/// # Errors
/// Exit 64 without a selector, 66 when nothing matches, 73, 74 or 78 when the inventory cannot be
/// changed.
pub fn run(args: &ActivateArgs, context: &Context) -> Result<Outcome> {
    switch(&args.selector, true, context)
}

/// Sets `active` of the selected servers; what `activate` and `deactivate` do.
pub(super) fn switch(selector: &ChosenArgs, active: bool, context: &Context) -> Result<Outcome> {
    change::fits(context)?;
    let path = context.inventory_path()?;
    let mut servers: Vec<(String, bool)> = Vec::new();
    change::write(context, &path, |document, inventory| {
        let mut ops = Vec::new();
        for name in change::chosen(inventory, selector)? {
            let changes = inventory.server(&name).is_some_and(|server| server.active != active);
            if changes {
                let mut place = edit::find_server(document, &name)?;
                place.push("active".into());
                ops.push(Op::Set(place, Value::Bool(active)));
            }
            servers.push((name, changes));
        }
        Ok(ops)
    })?;
    let (command, state) = if active { ("activate", "active") } else { ("deactivate", "inactive") };
    let output = json!({
        "schema": format!("fhirctl/{command}/v1"),
        "inventory": change::shown(&path),
        "servers": servers
            .iter()
            .map(|(name, changed)| json!({"name": name, "state": state, "changed": changed}))
            .collect::<Vec<Value>>(),
    });
    let rows = servers
        .iter()
        .map(|(name, changed)| {
            let note = if *changed { "changed" } else { "was so already" };
            let tone = if active { Tone::Good } else { Tone::Dim };
            vec![Cell::plain(name.as_str()), Cell::toned(state, tone), Cell::plain(note)]
        })
        .collect();
    Ok(Outcome::printed(change::servers_output(output, &["SERVER", "STATE", "NOTE"], rows)))
}
