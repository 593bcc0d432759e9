//! `auth login NAME`: a user signs in in a browser.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tokio::io::AsyncBufReadExt as _;

use super::{Subject, refusal};
use crate::auth::login;
use crate::context::{Context, Outcome, complain, parse_duration, variable};
use crate::model::Result;
use crate::render::{Block, Output};

/// Sign in to a server in a browser (oauth2 with flow: authorization-code)
///
/// The address is printed, and opened where there is a browser. Where the browser is on another
/// machine, paste the address that it ended at. What renews the sign-in is kept sealed.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The server's name
    #[arg(value_name = "NAME", add = crate::command::complete::servers())]
    pub name: String,

    /// Only print the address
    #[arg(long)]
    pub no_browser: bool,

    /// How long to wait for the user
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    pub wait: Duration,
}

/// # Errors
/// Exit 77 when the sign-in is not granted, does not come in time or cannot be kept.
pub async fn run(args: &LoginArgs, context: &Context) -> Result<Outcome> {
    let subject = Subject::load(context, &args.name)?;
    let (keeper, server) = (subject.keeper(), &subject.server);
    let mut started = login::begin(keeper, server, subject.deadline())
        .await
        .map_err(|failure| refusal(&failure))?;
    complain("Open this address to sign in:");
    complain(started.address.as_str());
    if !args.no_browser && has_browser() {
        open(started.address.as_str());
    }
    let pastes = context.may_ask() && std::io::stdin().is_terminal();
    if pastes {
        complain("Or paste the address that the browser ended at:");
    }
    let until = Instant::now() + args.wait;
    let result = if pastes {
        let mut line = String::new();
        let mut input = tokio::io::BufReader::new(tokio::io::stdin());
        let pasted = async {
            match input.read_line(&mut line).await {
                Ok(length) if length > 1 => {}
                // Nobody types: the browser's return is waited for alone.
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = started.returned() => started.finish(keeper, server, until).await,
            () = pasted => started.finish_with(keeper, server, &line).await,
            () = tokio::time::sleep_until(until.into()) => started.finish(keeper, server, until).await,
        }
    } else {
        started.finish(keeper, server, until).await
    };
    let result = result.map_err(|failure| refusal(&failure));
    context.audit().outcome(Some(&server.name), "login", &result);
    let token = result?;
    let scopes = token.scopes.clone().unwrap_or_else(|| crate::auth::asked_scopes(server));
    let renewable = token.refresh_token.is_some();
    let json = json!({
        "schema": "fhirctl/auth-login/v1",
        "server": server.name,
        "endpoint": token.endpoint,
        "scopes": scopes,
        "expires_at": token.expires_at,
        "renewable": renewable,
    });
    let mut document = vec![Block::text(format!(
        "Signed in to {}; scopes: {}.",
        server.name,
        if scopes.is_empty() { "none named".to_owned() } else { scopes.join(" ") }
    ))];
    document.push(Block::text(if renewable {
        "It renews itself from now on.".to_owned()
    } else {
        format!(
            "It ends at {} and cannot be renewed: ask for the scope offline_access.",
            token.expires_at.strftime("%Y-%m-%d %H:%M UTC")
        )
    }));
    Ok(Outcome::printed(Output { json, document, ..Output::default() }))
}

/// Whether somebody sits before this machine.
fn has_browser() -> bool {
    cfg!(target_os = "macos")
        || ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| variable(name).is_some())
}

/// Opens the address as the desktop does; the address is printed anyway when nothing happens.
fn open(address: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let null = std::process::Stdio::null;
    let _ = std::process::Command::new(program)
        .arg(address)
        .stdin(null())
        .stdout(null())
        .stderr(null())
        .spawn();
}
