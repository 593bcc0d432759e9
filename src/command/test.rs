//! `test NAME`: every stage of reaching one server, where it broke, and what to do.

use std::path::Path;

use clap::Args;
use uuid::Uuid;

use super::check::exact;
use super::record::record;
use crate::context::{Context, Outcome};
use crate::inventory::Inventory;
use crate::model::server::Server;
use crate::model::verdict::{FailOn, judge};
use crate::model::{Origin, Result, ServerReport};
use crate::probe::{self, Checked, Options, Shown};
use crate::view;

/// Test one server stage by stage: name, connection, TLS, sign-in, health, metadata, search, read
///
/// Nothing is written to the server. The exit code is 0, 1, 2 or 3 as for check.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The server's name in the inventory
    #[arg(value_name = "NAME", add = super::complete::servers())]
    pub name: String,

    /// How often a failed check is tried again
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10))]
    pub retries: u32,

    /// Leave no trace in the history
    #[arg(long)]
    pub no_record: bool,
}

/// # Errors
/// When the inventory cannot be used or knows no such server; never for a sick one.
pub async fn run(args: &TestArgs, context: &Context) -> Result<Outcome> {
    let inventory = context.load_inventory()?;
    let server = exact(&inventory, &args.name)?;
    let progress = context.progress(&format!("testing {}", server.name), 0);
    let report = test_server(context, &inventory, server, args.retries).await.report;
    progress.finish();
    // A server in maintenance is tested because somebody asked: it counts.
    let verdict = judge(std::slice::from_ref(&report), FailOn::Warning, true);
    let id = Uuid::new_v4();
    let reports = std::slice::from_ref(&report);
    let recorded =
        !args.no_record && record(context, &inventory, id, Origin::Test, reports).await.is_some();
    let meta = view::check::Meta {
        inventory: inventory.path.display().to_string(),
        run_id: id.to_string(),
        recorded,
        ..view::check::Meta::default()
    };
    let output = view::test::output(report, verdict.exit.0, context.clock.now(), &meta)?;
    Ok(Outcome { output: Some(output), exit: verdict.exit })
}

/// Tests a server that stands in an inventory file, active or not.
///
/// # Errors
/// When the inventory cannot be used or knows no such server.
pub async fn probe_registered(
    context: &Context,
    inventory: &Path,
    name: &str,
) -> Result<ServerReport> {
    Ok(probe_and_show(context, inventory, name).await?.0)
}

/// The same, with what the server shows of itself where it showed a CapabilityStatement.
///
/// # Errors
/// As [`probe_registered`].
pub async fn probe_and_show(
    context: &Context,
    inventory: &Path,
    name: &str,
) -> Result<(ServerReport, Option<Shown>)> {
    let inventory = crate::inventory::load(inventory, &context.overrides())?;
    let server = exact(&inventory, name)?;
    let checked = test_server(context, &inventory, server, 0).await;
    Ok((checked.report, checked.shown))
}

async fn test_server(
    context: &Context,
    inventory: &Inventory,
    server: &Server,
    retries: u32,
) -> Checked {
    let surroundings = context.surroundings(inventory);
    let options = Options { retries, every_stage: true, ..Options::default() };
    probe::check_one(server, &surroundings, &options).await
}
