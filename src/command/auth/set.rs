//! `auth set NAME`: puts a secret where the inventory says that it is kept.

use clap::Args;
use serde_json::json;

use super::{Subject, secrets};
use crate::command::add::secret as input;
use crate::command::change;
use crate::context::{Context, Outcome};
use crate::model::{Error, Result, SecretRef};
use crate::render::{Block, Output};

/// Store a server's secret in the keyring, asked for without echo or read from standard input
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The server's name
    #[arg(value_name = "NAME", add = crate::command::complete::servers())]
    pub name: String,

    /// Which secret, where the sign-in has several, such as a header's name
    #[arg(long, value_name = "KEY")]
    pub field: Option<String>,

    /// Read the secret from standard input
    #[arg(long)]
    pub secret_stdin: bool,
}

/// # Errors
/// Exit 64 when it is not clear which secret is meant, 77 when it cannot be stored.
pub async fn run(args: &SetArgs, context: &Context) -> Result<Outcome> {
    let subject = Subject::load(context, &args.name)?;
    let server = &subject.server;
    let all = secrets(server);
    let names: Vec<&str> = all.iter().map(|(field, _)| field.as_str()).collect();
    let chosen = match (&args.field, all.as_slice()) {
        (Some(field), _) => all.iter().find(|(name, _)| name == field),
        (None, [one]) => Some(one),
        (None, _) => None,
    };
    let Some((field, reference)) = chosen else {
        let error = Error::usage(match names.as_slice() {
            [] => format!(
                "{} signs in by {}, without a secret of ours",
                server.name,
                server.auth.method()
            ),
            _ => format!("which secret of {}?", server.name),
        });
        return Err(match names.as_slice() {
            [] => error,
            names => error.hint(format!("--field {}", names.join(" or --field "))),
        });
    };
    if !matches!(reference, SecretRef::Keyring { .. }) {
        return Err(Error::credential(format!(
            "auth.{field} is kept at {reference}, which is not ours to write"
        ))
        .hint(format!("Change it there, then: fhirctl auth test {}", server.name)));
    }
    let secret = if args.secret_stdin {
        input::secret_from_stdin()?
    } else if context.may_ask() {
        input::ask(&server.name, field)?
    } else {
        return Err(Error::usage("nobody is there to be asked for the secret")
            .hint("--secret-stdin reads it from standard input"));
    };
    let stored = subject
        .surroundings
        .credentials
        .store(reference, &secret)
        .await
        .map_err(|error| change::credential_error(&error));
    context.audit().outcome(Some(&server.name), &reference.to_string(), &stored);
    stored?;
    let json = json!({
        "schema": "fhirctl/auth-set/v1",
        "server": server.name,
        "key": format!("auth.{field}"),
        "reference": reference.to_string(),
    });
    let document = vec![
        Block::text(format!("{reference} holds the new secret.")),
        Block::text(format!("Next: fhirctl auth test {}", server.name)),
    ];
    Ok(Outcome::printed(Output { json, document, ..Output::default() }))
}
