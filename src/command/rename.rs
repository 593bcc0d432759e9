//! `rename OLD NEW`.

use clap::Args;
use serde_json::json;

use super::change::{self, StepStatus, Steps};
use crate::context::{Context, Outcome};
use crate::inventory::edit;
use crate::model::Result;

/// Give a server another name, in its groups and jobs too
///
/// References to secrets stay as they are: a keyring entry keeps the name under which it was
/// stored.
#[derive(Debug, Args)]
pub struct RenameArgs {
    /// The name it has
    #[arg(value_name = "OLD", add = super::complete::servers())]
    pub old: String,

    /// The name it gets, of letters, digits, dots, - and _
    #[arg(value_name = "NEW")]
    pub new: String,
}

/// # Errors
/// Exit 66 when there is no such server, 64 when the new name is taken, 78 when it is no name.
pub async fn run(args: &RenameArgs, context: &Context) -> Result<Outcome> {
    change::fits(context)?;
    let path = context.inventory_path()?;
    let mut places = Vec::new();
    change::write(context, &path, |document, _| {
        let ops = edit::rename_server(document, &args.old, &args.new)?;
        places = ops.iter().map(|op| edit::show(op.path())).collect();
        Ok(ops)
    })?;
    let mut steps = Steps::default();
    steps.push(
        "rename",
        StepStatus::Done,
        format!("{} is now {}: {}", args.old, args.new, places.join(", ")),
    );
    let inventory = context.load_inventory()?;
    match super::record::renamed(context, &inventory, &args.old, &args.new).await {
        Ok(true) => steps.push(
            "history",
            StepStatus::Done,
            format!("what history has of {} is that of {} now", args.old, args.new),
        ),
        Ok(false) => {}
        Err(error) => {
            let message = format!("history still says {}: {}", args.old, error.message);
            steps.push("history", StepStatus::Failed, message);
        }
    }
    let output = json!({
        "schema": "fhirctl/rename/v1",
        "inventory": change::shown(&path),
        "old": args.old,
        "new": args.new,
        "changed": places,
        "steps": steps.json(),
    });
    Ok(Outcome::printed(steps.output(output, &[])))
}
