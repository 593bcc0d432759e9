//! The secret of a server that is being added: where it comes from and where it is kept.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::AddArgs;
use crate::command::change;
use crate::context::Context;
use crate::credentials::Credentials;
use crate::model::{Error, ErrorKind, Result, Secret, SecretRef};

/// The longest secret that is read from standard input.
const MAX_SECRET_BYTES: usize = 64 * 1024;

/// A secret that still has to be got.
pub(super) struct Wanted {
    pub(super) reference: SecretRef,
    pub(super) from_stdin: bool,
    /// What it is, for the question.
    pub(super) what: String,
}

/// Puts the reference to the secret into `auth`; says what still has to be got.
///
/// # Errors
/// Exit 64 when `--secret` is no reference; the text is not repeated.
pub(super) fn place(
    args: &AddArgs,
    name: &str,
    auth: &mut Map<String, Value>,
    field: &str,
) -> Result<Option<Wanted>> {
    place_as(args, name, auth, field, field)
}

/// The same with another field in the keyring.
///
/// # Errors
/// As [`place`].
pub(super) fn place_as(
    args: &AddArgs,
    name: &str,
    auth: &mut Map<String, Value>,
    field: &str,
    kept_as: &str,
) -> Result<Option<Wanted>> {
    if let Some(text) = &args.secret {
        SecretRef::parse(text).map_err(|error| {
            Error::usage(format!("--secret: {error}"))
                .hint("--secret takes a reference: keyring:NAME/FIELD, env:VARIABLE, file:PATH or age:PATH#FIELD")
                .hint("leave it out to be asked, or use --secret-stdin")
        })?;
        auth.insert(field.to_owned(), text.as_str().into());
        return Ok(None);
    }
    if !args.secret_stdin && (field.is_empty() || auth.contains_key(field)) {
        return Ok(None);
    }
    let reference = SecretRef::Keyring { name: name.to_owned(), field: kept_as.to_owned() };
    auth.insert(field.to_owned(), reference.to_string().into());
    let what = match field {
        "value" => "API key".to_owned(),
        "password" | "token" => field.to_owned(),
        "client_secret" => "client secret".to_owned(),
        "key" => "private key".to_owned(),
        "credentials" => "credentials".to_owned(),
        "secret_key" => "secret key".to_owned(),
        header => format!("value of the header {header}"),
    };
    Ok(Some(Wanted { reference, from_stdin: args.secret_stdin, what }))
}

/// Gets the secret that is still wanted and keeps it; says where, so that it can be taken back.
///
/// # Errors
/// Exit 64 or 77 when there is no way to the secret, or none to keep it.
pub(super) async fn keep(
    name: &str,
    wanted: Option<&Wanted>,
    path: &Path,
    context: &Context,
) -> Result<Option<(Credentials, SecretRef)>> {
    let Some(wanted) = wanted else { return Ok(None) };
    let secret = if wanted.from_stdin {
        secret_from_stdin()?
    } else if context.may_ask() {
        ask(name, &wanted.what)?
    } else {
        return Err(Error::credential(format!("{} needs its {}", name, wanted.what))
            .hint("--secret REF says where it is kept: keyring:NAME/FIELD, env:VARIABLE, file:PATH or age:PATH#FIELD")
            .hint("--secret-stdin reads it from standard input; on a terminal you are asked")
            .hint("nothing was registered"));
    };
    let credentials = context.credentials(Some(path)).serving(name);
    credentials.store(&wanted.reference, &secret).await.map_err(|error| {
        change::credential_error(&error)
            .hint("--secret REF says where it is kept then; nothing was registered")
    })?;
    Ok(Some((credentials, wanted.reference.clone())))
}

pub(in crate::command) fn secret_from_stdin() -> Result<Secret> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Error::usage("standard input is a terminal, which would show the secret")
            .hint("leave --secret-stdin out to be asked without echo, or pipe the secret in"));
    }
    // Room for all of it from the start: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 1));
    stdin
        .lock()
        .take(MAX_SECRET_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io("read", Path::new("standard input"), &error))?;
    if bytes.len() > MAX_SECRET_BYTES {
        return Err(Error::usage("standard input holds more than 64 KiB; that is no secret"));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Error::usage("the secret on standard input is not UTF-8 text"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Error::usage("standard input held no secret"));
    }
    Ok(Secret::new(text.to_owned()))
}

pub(in crate::command) fn ask(name: &str, what: &str) -> Result<Secret> {
    dialoguer::Password::new()
        .with_prompt(format!("{what} for {name} (not shown)"))
        .interact()
        .map(Secret::new)
        .map_err(|_| Error::new(ErrorKind::Interrupted, "no secret was given; nothing was changed"))
}
