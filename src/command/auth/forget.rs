//! `auth forget NAME…`: tokens, refusals, and on request the secrets too.

use clap::Args;
use serde_json::{Value, json};

use super::secrets;
use crate::command::change::{self, ChosenArgs};
use crate::context::{Context, Outcome};
use crate::model::{Error, ErrorKind, Result, SecretRef};
use crate::render::Cell;

/// Forget what is kept of a sign-in: tokens, a user's login, refusals
///
/// With --secrets, the secrets in the keyring too. Nothing is revoked at the provider.
#[derive(Debug, Args)]
pub struct ForgetArgs {
    #[command(flatten)]
    pub chosen: ChosenArgs,

    /// Delete the secrets from the keyring too
    #[arg(long)]
    pub secrets: bool,
}

/// # Errors
/// Exit 64 when deleting secrets is not confirmed, 66 when nothing matches, 74 when a file cannot
/// be deleted, 77 when the keyring cannot be written.
pub async fn run(args: &ForgetArgs, context: &Context) -> Result<Outcome> {
    change::fits(context)?;
    let inventory = context.load_inventory()?;
    let names = change::chosen(&inventory, &args.chosen)?;
    if args.secrets && !context.options.yes {
        confirm(context, &names)?;
    }
    let surroundings = context.surroundings(&inventory);
    let mut rows = Vec::new();
    let mut servers: Vec<Value> = Vec::new();
    for name in &names {
        let forgotten = surroundings
            .keeper
            .forget(name)
            .map_err(|error| Error::io("delete what is kept of", name.as_ref(), &error));
        context.audit().outcome(Some(name), "tokens and refusals", &forgotten);
        let files = forgotten?;
        let mut deleted = Vec::new();
        if let Some(server) = inventory.server(name).filter(|_| args.secrets) {
            for (_, reference) in secrets(server) {
                if matches!(reference, SecretRef::Keyring { .. }) {
                    let gone = surroundings
                        .credentials
                        .serving(name)
                        .delete(reference)
                        .await
                        .map_err(|error| change::credential_error(&error));
                    context.audit().outcome(Some(name), &reference.to_string(), &gone);
                    gone?;
                    deleted.push(reference.to_string());
                }
            }
        }
        rows.push(vec![
            name.as_str().into(),
            Cell::plain(files.to_string()),
            Cell::plain(deleted.join(", ")),
        ]);
        servers.push(json!({"name": name, "forgotten": files, "deleted": deleted}));
    }
    let json = json!({"schema": "fhirctl/auth-forget/v1", "servers": servers});
    Ok(Outcome::printed(change::servers_output(json, &["SERVER", "FORGOTTEN", "DELETED"], rows)))
}

fn confirm(context: &Context, names: &[String]) -> Result<()> {
    if !context.may_ask() {
        return Err(Error::usage("--secrets deletes secrets for good; it has to be confirmed")
            .hint("--yes confirms it"));
    }
    let question = format!("Delete the secrets of {} from the keyring?", names.join(", "));
    match dialoguer::Confirm::new().with_prompt(question).default(false).interact() {
        Ok(true) => Ok(()),
        _ => Err(Error::new(ErrorKind::Interrupted, "nothing was deleted")),
    }
}
