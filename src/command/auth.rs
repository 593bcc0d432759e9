//! `auth`: credentials: get, try, renew, rotate.

mod forget;
mod jwks;
mod login;
mod pins;
mod rotate;
mod set;
mod status;
mod test;
mod token;

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Subcommand};

use crate::auth::Keeper;
use crate::auth::Surroundings;
use crate::context::{Context, Outcome};
use crate::http::Failure;
use crate::inventory::Inventory;
use crate::model::server::Server;
use crate::model::{Error, Result, SecretRef};

/// Get, try, renew and rotate the credentials of servers
#[derive(Debug, Args)]
pub struct AuthArgs {
    #[command(subcommand)]
    pub command: AuthCommand,
}

#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    Login(login::LoginArgs),
    Set(set::SetArgs),
    Token(token::TokenArgs),
    Test(test::TestArgs),
    Rotate(rotate::RotateArgs),
    Status(status::StatusArgs),
    Forget(forget::ForgetArgs),
    Jwks(jwks::JwksArgs),
    Pins(pins::PinsArgs),
}

/// # Errors
/// As each verb says; exit 77 when a credential is missing, refused or not permitted.
pub async fn run(args: &AuthArgs, context: &Context) -> Result<Outcome> {
    match &args.command {
        AuthCommand::Login(args) => login::run(args, context).await,
        AuthCommand::Set(args) => set::run(args, context).await,
        AuthCommand::Token(args) => token::run(args, context).await,
        AuthCommand::Test(args) => test::run(args, context).await,
        AuthCommand::Rotate(args) => rotate::run(args, context).await,
        AuthCommand::Status(args) => status::run(args, context).await,
        AuthCommand::Forget(args) => forget::run(args, context).await,
        AuthCommand::Jwks(args) => jwks::run(args, context).await,
        AuthCommand::Pins(args) => pins::run(args, context).await,
    }
}

/// One server with what signing in to it needs.
struct Subject {
    path: PathBuf,
    server: Server,
    surroundings: Surroundings,
}

impl Subject {
    fn load(context: &Context, name: &str) -> Result<Subject> {
        let inventory: Inventory = context.load_inventory()?;
        let server = super::check::exact(&inventory, name)?.clone();
        let mut surroundings = context.surroundings(&inventory);
        surroundings.credentials = surroundings.credentials.serving(&server.name);
        Ok(Subject { path: inventory.path, server, surroundings })
    }

    fn keeper(&self) -> &Keeper {
        &self.surroundings.keeper
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.server.deadline
    }
}

/// A sign-in that failed, as an error that ends the run.
fn refusal(failure: &Failure) -> Error {
    let mut error = Error::credential(format!("{} ({})", failure.message, failure.code));
    if let Some(words) = &failure.server_text {
        let words = crate::model::text::one_line(words);
        error = error.hint(format!("the provider says: {words}"));
    }
    if let Some(hint) = &failure.hint {
        error = error.hint(hint.clone());
    }
    error.hint(format!("fhirctl explain {} tells the usual causes", failure.code))
}

/// The secrets that a server's sign-in is made of, with the key that each stands under in `auth`.
fn secrets(server: &Server) -> Vec<(String, &SecretRef)> {
    use crate::model::server::{Auth, AwsKeys, AzureProof};
    let one = |field: &str, reference| vec![(field.to_owned(), reference)];
    match &server.auth {
        Auth::None | Auth::Mtls => Vec::new(),
        Auth::ApiKey { value, .. } => one("value", value),
        Auth::Basic { password, .. } => one("password", password),
        Auth::Bearer { token } => one("token", token),
        Auth::Headers(all) => {
            all.iter().map(|(name, reference)| (name.clone(), reference)).collect()
        }
        Auth::OAuth2(it) => {
            it.client_secret.iter().map(|secret| ("client_secret".to_owned(), secret)).collect()
        }
        Auth::SmartBackend(it) => one("key", &it.key),
        Auth::Azure(it) => match &it.proof {
            AzureProof::Secret(secret) => one("client_secret", secret),
            AzureProof::Certificate(certificate) => one("certificate", certificate),
            AzureProof::ManagedIdentity => Vec::new(),
        },
        Auth::Google(it) => {
            it.credentials.iter().map(|secret| ("credentials".to_owned(), secret)).collect()
        }
        Auth::AwsSigv4(it) => match &it.keys {
            AwsKeys::Static { secret_key, .. } => one("secret_key", secret_key),
            AwsKeys::Profile(_) | AwsKeys::Chain => Vec::new(),
        },
    }
}
