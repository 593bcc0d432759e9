//! `status`: how every server stands, from history alone.

use clap::Args;

use super::selector::SelectorArgs;
use crate::context::{Context, Outcome};
use crate::inventory::select;
use crate::model::Result;
use crate::report::{self, standing};
use crate::view;

/// Show what is wrong, since when and whose it is, from history; nothing is asked of a server
///
/// It tells and judges nothing: the exit code is 0 when it could be told. check is the gate.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub selector: SelectorArgs,
}

/// # Errors
/// Exit 66 when nothing matches or there is no history.
pub async fn run(args: &StatusArgs, context: &Context) -> Result<Outcome> {
    let inventory = context.load_inventory()?;
    let servers = select(&inventory, &args.selector.selection())?;
    let store = context.look_at_history(&inventory).await?;
    let known = report::known(&store).await?;
    let now = context.clock.now();
    let mut all = Vec::with_capacity(servers.len());
    for server in servers {
        all.push(standing(&store, server, known.get(&server.name), now).await?);
    }
    let exports = super::bulk_export::verbs::unfinished(context)?;
    let head = view::status::Head {
        generated_at: now,
        inventory: inventory.path.display().to_string(),
        history: store.place().to_string(),
    };
    Ok(Outcome::printed(view::status::output(&head, all, &exports)))
}
