//! `auth jwks NAME`: the public key set to publish or register; makes the key when there is none.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::Subject;
use crate::auth::key::SigningKey;
use crate::command::change;
use crate::context::{Context, Outcome};
use crate::credentials::{CredentialErrorKind, Credentials};
use crate::model::server::{Algorithm, Auth, SmartBackend};
use crate::model::{Error, Result, Secret, SecretRef};
use crate::render::{Block, Output};

/// Print the public key set of a server's SMART Backend Services client
///
/// It is what the vendor registers, or what stands at the address of auth.jku. Private members are
/// never printed.
#[derive(Debug, Args)]
pub struct JwksArgs {
    /// The server's name
    #[arg(value_name = "NAME", add = crate::command::complete::servers())]
    pub name: String,

    /// Make the key first and keep it where auth.key says; ES384 is a P-384 key, RS384 an RSA key
    #[arg(long, value_name = "ALGORITHM", num_args = 0..=1, require_equals = true, default_missing_value = "ES384")]
    pub generate: Option<KeyKind>,

    /// Write the set to this file
    #[arg(long, value_name = "FILE")]
    pub output_file: Option<std::path::PathBuf>,
}

/// What a new key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyKind {
    #[value(name = "ES384")]
    Es384,
    #[value(name = "RS384")]
    Rs384,
}

impl From<KeyKind> for Algorithm {
    fn from(kind: KeyKind) -> Algorithm {
        match kind {
            KeyKind::Es384 => Algorithm::ES384,
            KeyKind::Rs384 => Algorithm::RS384,
        }
    }
}

/// # Errors
/// Exit 64 when the server signs in another way, 73 when the key or the set cannot be written, 77
/// when the key cannot be read.
pub async fn run(args: &JwksArgs, context: &Context) -> Result<Outcome> {
    let subject = Subject::load(context, &args.name)?;
    let server = &subject.server;
    let Auth::SmartBackend(settings) = &server.auth else {
        return Err(Error::usage(format!(
            "{} signs in by {}; only smart-backend has a key set",
            server.name,
            server.auth.method()
        )));
    };
    let credentials = &subject.surroundings.credentials;
    let key = if let Some(kind) = args.generate {
        match credentials.resolve(&settings.key).await {
            Ok(_) => {
                return Err(Error::usage(format!("{} holds a key already", settings.key)).hint(
                    format!(
                        "fhirctl auth rotate {} replaces it, once the new one is proven",
                        server.name
                    ),
                ));
            }
            Err(error) if error.kind == CredentialErrorKind::Missing => {}
            Err(error) => return Err(change::credential_error(&error)),
        }
        let (key, pem) = SigningKey::generate(kind.into())
            .map_err(|error| Error::internal(error.to_string()))?;
        let kept = keep(credentials, &settings.key, &pem).await;
        context.audit().outcome(Some(&server.name), &settings.key.to_string(), &kept);
        kept?;
        key
    } else {
        read(credentials, settings).await?
    };
    let set = json!({"keys": [public(settings, &key)]});
    let text =
        serde_json::to_string_pretty(&set).map_err(|error| Error::internal(error.to_string()))?;
    if let Some(path) = &args.output_file {
        crate::context::replace_file(path, format!("{text}\n").as_bytes())?;
    }
    if args.generate.is_some() {
        context.notice(&format!(
            "A new {} key is kept at {}. Register the set below, then: fhirctl auth test {}",
            key.algorithm().as_str(),
            settings.key,
            server.name
        ));
    }
    let json =
        json!({"schema": "fhirctl/auth-jwks/v1", "server": server.name, "keys": set["keys"]});
    Ok(Outcome::printed(Output {
        json,
        document: vec![Block::Verbatim(text)],
        ..Output::default()
    }))
}

/// The key of a server.
///
/// # Errors
/// Exit 77 when it cannot be read or cannot sign.
pub(super) async fn read(credentials: &Credentials, settings: &SmartBackend) -> Result<SigningKey> {
    let secret = credentials
        .resolve(&settings.key)
        .await
        .map_err(|error| change::credential_error(&error))?;
    SigningKey::parse(&secret, settings.key_id.as_deref())
        .map_err(|error| Error::credential(format!("{}: {error}", settings.key)))
}

/// The public half under the id that assertions name.
pub(super) fn public(settings: &SmartBackend, key: &SigningKey) -> Value {
    let id = settings.key_id.clone().unwrap_or_else(|| key.id());
    key.public_jwk(&id)
}

/// Puts a new secret where nothing is yet: into the keyring, or into a file for its owner alone.
///
/// # Errors
/// Exit 73 when the file cannot be made, 77 when the place is none of ours to write.
pub(super) async fn keep(
    credentials: &Credentials,
    reference: &SecretRef,
    secret: &Secret,
) -> Result<()> {
    match reference {
        SecretRef::File { path } => {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .map_err(|error| Error::cannot_create(path, &error))?;
            let write = file
                .write_all(secret.expose().as_bytes())
                .and_then(|()| file.write_all(b"\n"))
                .and_then(|()| file.sync_all());
            write.map_err(|error| {
                // Half a secret is worse than none.
                let _ = std::fs::remove_file(path);
                Error::cannot_create(path, &error)
            })?;
            sync_folder(path);
            Ok(())
        }
        SecretRef::Keyring { .. } => credentials
            .store(reference, secret)
            .await
            .map_err(|error| change::credential_error(&error)),
        other => Err(Error::credential(format!("{other} is not ours to write"))
            .hint("keyring: and file: references are; set auth.key to one of them first")),
    }
}

/// So that a name survives a power cut as its content does.
fn sync_folder(path: &Path) {
    if let Some(folder) = path.parent()
        && let Ok(folder) = std::fs::File::open(folder)
    {
        let _ = folder.sync_all();
    }
}
