//! `doctor`: the tool's own surroundings: keyring, clock, resolver, proxy, paths, permissions, history.
//!
//! It opens no connection to any server but that of the history, and changes nothing but with `--write`.

mod history;
mod machine;
mod paths;

use clap::Args;
use serde_json::json;

use crate::context::{Context, Outcome};
use crate::credentials::keyring::{self, State};
use crate::credentials::{CredentialError, Credentials, Policy, dumps_core};
use crate::model::{Exit, Result, Secret, SecretRef};
use crate::view::doctor::{Check, Doctor};

/// Look at the tool's own surroundings: keyring, clock, resolver, proxy, paths, permissions, history
///
/// Nothing is sent to any FHIR server. Ends with 0 when all is fine, 1 with warnings, 2 with errors.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Also write an entry to the keyring, read it back and delete it
    #[arg(long)]
    pub write: bool,
}

/// # Errors
/// None of what it looks for is an error: it is shown.
pub async fn run(args: &DoctorArgs, context: &Context) -> Result<Outcome> {
    let mut checks = vec![
        keyring(args.write, context).await,
        machine::clock(context),
        machine::resolver().await,
        machine::proxy(),
        machine::trust_store(),
    ];
    checks.extend(paths::all(context));
    checks.push(history::history(context).await);
    checks.extend([machine::file_limit(context), core_dumps(), machine::terminal(context)]);
    let doctor = Doctor::new(context.clock.now(), checks);
    Ok(Outcome { output: Some(doctor.output()?), exit: Exit(doctor.exit_code) })
}

async fn keyring(write: bool, context: &Context) -> Check {
    const NAME: &str = "keyring";
    const OTHER_WAYS: &str =
        "keep secrets in env:VARIABLE, file:PATH, exec: [program] or age:FILE#FIELD";
    let state = keyring::state().await;
    let word = match state {
        State::Present => "present",
        State::Locked => "locked",
        State::Absent(_) => "absent",
        State::Hanging => "hanging",
    };
    let mut written = None;
    let check = match state {
        State::Present if write => {
            let proof = prove(context).await;
            written = Some(proof.is_ok());
            match proof {
                Ok(()) => {
                    Check::fine(NAME, "there and unlocked; an entry was written, read and deleted")
                }
                Err(error) => Check::error(NAME, error.message).hint(error.hint),
            }
        }
        State::Present => Check::fine(NAME, "there and unlocked"),
        State::Locked => Check::warning(NAME, "there but locked: nothing in it can be read").hint(
            format!("unlock it by signing in to the desktop or with its own tool, or {OTHER_WAYS}"),
        ),
        // Nothing else is to be expected there.
        State::Absent(reason) if context.ci => {
            Check::fine(NAME, format!("none, as usual in CI ({reason})"))
        }
        State::Absent(reason) => Check::warning(NAME, format!("none: {reason}")).hint(OTHER_WAYS),
        State::Hanging => Check::error(NAME, "there, but it does not answer")
            .hint(format!("restart it or the session bus, or {OTHER_WAYS}")),
    };
    check.details(json!({"state": word, "written": written}))
}

/// Writes an entry, reads it back and deletes it.
async fn prove(context: &Context) -> Result<(), CredentialError> {
    let credentials =
        Credentials::new(Policy { interactive: context.may_ask(), ..Policy::default() });
    let entry = SecretRef::Keyring {
        name: "fhirctl-doctor".into(),
        field: uuid::Uuid::new_v4().to_string(),
    };
    let secret = Secret::new(uuid::Uuid::new_v4().to_string());
    credentials.store(&entry, &secret).await?;
    let found = credentials.resolve(&entry).await;
    credentials.delete(&entry).await?;
    if found?.expose() == secret.expose() {
        return Ok(());
    }
    Err(CredentialError {
        kind: crate::credentials::CredentialErrorKind::Malformed,
        message: "the keyring gave back something else than was stored".into(),
        hint: "look at the keyring with its own tool".into(),
    })
}

fn core_dumps() -> Check {
    const NAME: &str = "core_dumps";
    if dumps_core() {
        Check::warning(NAME, "cannot be switched off: a crash could leave secrets on disk")
            .hint("start it under: ulimit -c 0")
    } else {
        Check::fine(NAME, "off: a crash leaves no secret on disk")
    }
}
