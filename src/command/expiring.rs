//! `expiring`: every certificate, secret, key, pin and approval that ends within a time.

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;

use super::selector::SelectorArgs;
use super::{change, lint};
use crate::auth;
use crate::auth::Surroundings;
use crate::context::{Context, Outcome, parse_duration};
use crate::http::{self, CertificateFacts, Client, Failure, Presented};
use crate::inventory;
use crate::lint::expiring::{Evidence, Seen, endings};
use crate::model::server::ClientCertificate;
use crate::model::{Result, Server};
use crate::render::Format;
use crate::view::expiring::{ExpiringRun, NotSeen};

/// List every certificate, secret, key, pin and approval that ends within a time
///
/// Makes a TLS handshake with each server to see its certificate: no request is sent and no
/// credential is used. Ends with 0 when nothing ends within the time, 1 when something does or
/// could not be looked at, 2 when something has ended or ends within tls.expiry.critical.
#[derive(Debug, Args)]
pub struct ExpiringArgs {
    #[command(flatten)]
    pub selector: SelectorArgs,

    /// How far to look ahead
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = parse_duration)]
    pub within: Duration,

    /// Open no connection: leave out what only the servers themselves show
    #[arg(long)]
    pub offline: bool,
}

/// # Errors
/// Exit 66 when nothing matches, 78 when the inventory is not valid; never for a server that
/// cannot be reached.
pub async fn run(args: &ExpiringArgs, context: &Context) -> Result<Outcome> {
    let mut fitting = Format::ROWS.to_vec();
    fitting.push(Format::Ics);
    context.options.output.among(&fitting)?;
    let inventory = context.load_inventory()?;
    let servers = inventory::select(&inventory, &args.selector.selection())?;
    let surroundings = context.surroundings(&inventory);
    let presented = if args.offline {
        servers.iter().map(|_| None).collect()
    } else {
        look_at(&servers, &surroundings, context).await
    };
    let ages = lint::Ages::read(context, &inventory);
    let now = context.clock.now();
    let mut run = ExpiringRun {
        inventory: change::shown(&inventory.path),
        generated_at: now,
        within: args.within,
        offline: args.offline,
        servers: servers.len(),
        endings: Vec::new(),
        not_seen: Vec::new(),
    };
    for (server, presented) in servers.iter().zip(presented) {
        let presented = match presented {
            Some(Err(failure)) => {
                run.not_seen.push(NotSeen::server(&server.name, &failure));
                None
            }
            Some(Ok(shown)) => Some(
                shown
                    .chain
                    .into_iter()
                    .map(|it| Seen { name: it.subject, not_after: it.not_after, pin: pin(&it.pin) })
                    .collect(),
            ),
            None => None,
        };
        let client = match client_certificate(server, &surroundings).await {
            Ok(found) => found,
            Err(failure) => {
                run.not_seen.push(NotSeen::server(&server.name, &failure));
                Vec::new()
            }
        };
        let evidence = evidence(server, presented, client, &ages, &mut run.not_seen);
        run.endings.extend(endings(server, &evidence, now, args.within));
    }
    run.endings.sort_by_key(|ending| ending.ends);
    let exit = run.exit();
    Ok(Outcome { output: Some(run.output()?), exit })
}

/// What is known of one server beside its entry.
fn evidence(
    server: &Server,
    presented: Option<Vec<Seen>>,
    client: Vec<Seen>,
    ages: &lint::Ages,
    not_seen: &mut Vec<NotSeen>,
) -> Evidence {
    let mut in_file = |file: &std::path::Path| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match http::certificates_in(file) {
            Ok(found) => found
                .into_iter()
                .map(|facts| {
                    let seen = seen(facts);
                    Seen { name: format!("{name}: {}", seen.name), ..seen }
                })
                .collect(),
            Err(failure) => {
                not_seen.push(NotSeen::file(&server.name, &name, &failure));
                Vec::new()
            }
        }
    };
    Evidence {
        presented,
        client,
        authorities: server.tls.ca.as_deref().map(&mut in_file).unwrap_or_default(),
        credential_since: ages.since(server),
    }
}

fn seen(facts: CertificateFacts) -> Seen {
    let pin = pin(&facts.spki_pin);
    Seen { name: facts.subject, not_after: facts.not_after, pin }
}

fn pin(text: &str) -> Option<String> {
    Some(text.strip_prefix("sha256/").unwrap_or(text).to_owned())
}

/// Our own certificate for a server; a PKCS#12 file is opened with its password.
async fn client_certificate(
    server: &Server,
    surroundings: &Surroundings,
) -> std::result::Result<Vec<Seen>, Failure> {
    let Some(client) = &server.tls.client_certificate else { return Ok(Vec::new()) };
    let password = match client {
        ClientCertificate::Pem { .. } => None,
        ClientCertificate::Pkcs12 { .. } => {
            auth::identity(server, &surroundings.credentials).await?.certificate_secret
        }
    };
    let name = client.file().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let seen = seen(http::certificate_facts(client, password.as_ref())?);
    Ok(vec![Seen { name: format!("{name}: {}", seen.name), ..seen }])
}

/// What each server presents; `None` where there is no TLS.
async fn look_at(
    servers: &[&Server],
    surroundings: &Surroundings,
    context: &Context,
) -> Vec<Option<std::result::Result<Presented, Failure>>> {
    let progress = context.progress("looking at certificates", servers.len());
    let mut found: Vec<_> = servers.iter().map(|_| None).collect();
    let over_tls =
        servers.iter().enumerate().filter(|(_, server)| server.url.url().scheme() == "https").map(
            |(index, server)| {
                let (server, surroundings) = ((*server).clone(), surroundings.clone());
                async move { (index, look(&server, &surroundings).await) }
            },
        );
    let looks: Vec<_> = over_tls.collect();
    let mut looks =
        futures_util::stream::iter(looks).buffer_unordered(context.options.concurrency as usize);
    while let Some((index, result)) = looks.next().await {
        progress.step();
        found[index] = Some(result);
    }
    progress.finish();
    found
}

async fn look(
    server: &Server,
    surroundings: &Surroundings,
) -> std::result::Result<Presented, Failure> {
    let identity = auth::way_out(server, &surroundings.credentials).await?;
    Client::look(server, &identity, surroundings.transport.clone()).await
}
