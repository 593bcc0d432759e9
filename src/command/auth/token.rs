//! `auth token NAME`: prints an access token, the one place where a secret is printed.

use std::io::IsTerminal as _;

use clap::Args;
use serde_json::json;

use super::{Subject, refusal};
use crate::auth::{self, Freshness};
use crate::context::{Context, Outcome};
use crate::http::Credential;
use crate::model::{Error, Result};
use crate::render::{Block, Output};

/// Print an access token, for other programs
///
/// On a terminal only with --show: whoever looks on would see it.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The server's name
    #[arg(value_name = "NAME", add = crate::command::complete::servers())]
    pub name: String,

    /// Print it on a terminal too
    #[arg(long)]
    pub show: bool,

    /// Get a new one even when one is kept
    #[arg(long)]
    pub fresh: bool,
}

/// # Errors
/// Exit 64 on a terminal without `--show` and for a method without tokens, 77 when no token can be
/// had.
pub async fn run(args: &TokenArgs, context: &Context) -> Result<Outcome> {
    if std::io::stdout().is_terminal() && !args.show {
        return Err(Error::usage("a token would stand on the screen").hint(
            "--show prints it all the same; or pass it on: fhirctl auth token NAME | program",
        ));
    }
    let subject = Subject::load(context, &args.name)?;
    let server = &subject.server;
    if !server.auth.uses_tokens() {
        return Err(Error::usage(format!(
            "{} signs in by {}, which has no access token",
            server.name,
            server.auth.method()
        )));
    }
    let freshness = if args.fresh { Freshness::New } else { Freshness::Usable };
    let proof = auth::proof(
        server,
        &Credential::default(),
        subject.keeper(),
        freshness,
        false,
        subject.deadline(),
    )
    .await
    .map_err(|failure| refusal(&failure));
    context.audit().outcome(Some(&server.name), "token printed", &proof);
    let token = proof?
        .and_then(|proof| proof.token)
        .ok_or_else(|| Error::internal("the sign-in gave no token"))?;
    let json = json!({
        "schema": "fhirctl/auth-token/v1",
        "server": server.name,
        "access_token": token.value.expose(),
        "token_type": "Bearer",
        "endpoint": token.endpoint,
        "scopes": token.scopes,
        "obtained_at": token.obtained_at,
        "expires_at": token.expires_at,
    });
    let document = vec![Block::Verbatim(token.value.expose().to_owned())];
    Ok(Outcome::printed(Output { json, document, ..Output::default() }))
}
