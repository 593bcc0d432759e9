//! `remove NAME`: the entry goes, and the secrets that were kept for it.

use clap::Args;
use serde_json::{Value, json};

use super::change::{self, StepStatus, Steps};
use crate::context::{Context, Outcome};
use crate::inventory::edit;
use crate::model::{ErrorKind, Exit, Result, SecretRef};

/// Take a server out of the inventory and its secrets out of the keyring
///
/// Groups that it is a member of lose it. Secrets that are kept elsewhere than in the keyring, or
/// that another server uses too, stay. Asks before it does anything; --yes answers.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The server's name
    #[arg(value_name = "NAME", add = super::complete::servers())]
    pub name: String,

    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// # Errors
/// Exit 64 when nobody can be asked and --yes is missing, 66 when there is no such server, 78 when
/// a job or a group still needs it, 130 when the answer is no.
pub async fn run(args: &RemoveArgs, context: &Context) -> Result<Outcome> {
    change::fits(context)?;
    let path = context.inventory_path()?;
    let name = &args.name;
    let text = edit::store::read(&path)?;
    let document = edit::document(&text)?;
    let ops = edit::remove_server(&document, name)?;
    let places: Vec<String> = ops.iter().map(|op| edit::show(op.path())).collect();
    let secrets = own_secrets(&document, name);
    change::checked(&text, document, &ops, &path)?;

    // While it still says where the history is.
    let inventory = context.load_inventory()?;
    let mut steps = Steps::default();
    let mut exit = Exit::OK;
    let mut deleted = Vec::new();
    if args.dry_run {
        steps.push("remove", StepStatus::Skipped, format!("would take out {}", places.join(", ")));
        for secret in &secrets {
            steps.push("secret", StepStatus::Skipped, format!("would delete {secret}"));
        }
    } else {
        confirm(name, &secrets, context)?;
        change::write(context, &path, |document, _| edit::remove_server(document, name))?;
        steps.push("remove", StepStatus::Done, format!("took out {}", places.join(", ")));
        match super::record::archived(context, &inventory, name).await {
            Ok(true) => {
                let message = "its history is kept and marked as that of a removed server";
                steps.push("history", StepStatus::Done, message.to_owned());
            }
            Ok(false) => {}
            Err(error) => steps.push("history", StepStatus::Failed, error.message),
        }
        let credentials = context.credentials(Some(&path)).serving(name);
        for secret in &secrets {
            match credentials.delete(secret).await {
                Ok(()) => {
                    deleted.push(secret.to_string());
                    steps.push("secret", StepStatus::Done, format!("deleted {secret}"));
                }
                Err(error) => {
                    exit = ErrorKind::Credential.exit();
                    let reason = change::credential_error(&error).message;
                    let message = format!("{secret} could not be deleted: {reason}");
                    steps.push("secret", StepStatus::Failed, message);
                }
            }
        }
    }
    let output = json!({
        "schema": "fhirctl/remove/v1",
        "inventory": change::shown(&path),
        "exit_code": exit.0,
        "server": name,
        "dry_run": args.dry_run,
        "removed": places,
        "secrets": secrets.iter().map(|secret| secret.to_string().into()).collect::<Vec<Value>>(),
        "deleted_secrets": deleted,
        "steps": steps.json(),
    });
    Ok(Outcome { output: Some(steps.output(output, &[])), exit })
}

fn confirm(name: &str, secrets: &[SecretRef], context: &Context) -> Result<()> {
    let more = match secrets.len() {
        0 => String::new(),
        1 => " and its secret in the keyring".to_owned(),
        count => format!(" and its {count} secrets in the keyring"),
    };
    super::confirm(context, &format!("Remove {name}{more}?")).map_err(|error| match error.kind {
        ErrorKind::Usage => error.hint("--dry-run shows what would be done"),
        _ => error,
    })
}

/// The keyring entries that this server names and no other part of the document does.
fn own_secrets(document: &Value, name: &str) -> Vec<SecretRef> {
    let Some(entry) = edit::server_entry(document, name) else { return Vec::new() };
    let mut own = Vec::new();
    entry.values().for_each(|value| references(value, &mut own));
    let mut all = Vec::new();
    references(document, &mut all);
    let count = |list: &[SecretRef], one: &SecretRef| list.iter().filter(|x| *x == one).count();
    let mut unique: Vec<SecretRef> = Vec::new();
    for reference in &own {
        if count(&all, reference) == count(&own, reference) && !unique.contains(reference) {
            unique.push(reference.clone());
        }
    }
    unique
}

fn references(value: &Value, found: &mut Vec<SecretRef>) {
    match value {
        Value::String(text) if text.starts_with("keyring:") => found.extend(SecretRef::parse(text)),
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(map) => map.values().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_another_server_uses_stays() {
        let document = json!({"servers": [
            {"name": "a", "auth": {"password": "keyring:shared/password"}, "extra_headers": {"X": "keyring:a/x"}},
            {"name": "b", "auth": {"password": "keyring:shared/password"}},
            {"name": "c", "auth": {"token": "env:T"}},
        ]});
        let own =
            |name| own_secrets(&document, name).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(own("a"), ["keyring:a/x"]);
        assert!(own("b").is_empty());
        assert!(own("c").is_empty());
    }
}
