//! The command line: global options and one arm per verb.

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::command;
use crate::context::{GlobalOptions, is_set_to_nothing};

/// Registers, tests, gates and watches FHIR servers
#[derive(Debug, Parser)]
#[command(name = "fhirctl", version, max_term_width = 100, propagate_version = false)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalOptions,

    #[command(subcommand)]
    pub command: Command,

    /// The words of the command without its arguments, such as `maintenance on`.
    #[arg(skip)]
    pub words: String,
}

/// The verbs, in the order in which a newcomer meets them.
#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(command::demo::DemoArgs),
    Init(command::init::InitArgs),
    Add(command::add::AddArgs),
    List(command::list::ListArgs),
    Show(command::show::ShowArgs),
    Set(command::set::SetArgs),
    Activate(command::activate::ActivateArgs),
    Deactivate(command::deactivate::DeactivateArgs),
    Rename(command::rename::RenameArgs),
    Remove(command::remove::RemoveArgs),
    Maintenance(command::maintenance::MaintenanceArgs),
    Vendors(command::vendors::VendorsArgs),
    Lint(command::lint::LintArgs),
    Expiring(command::expiring::ExpiringArgs),
    Auth(command::auth::AuthArgs),
    Diag(Box<command::diag::DiagArgs>),
    Query(Box<command::query::QueryArgs>),
    Test(command::test::TestArgs),
    Check(command::check::CheckArgs),
    BulkExport(Box<command::bulk_export::BulkExportArgs>),
    Sync(Box<command::sync::SyncArgs>),
    BulkImport(Box<command::bulk_import::BulkImportArgs>),
    Migrate(Box<command::migrate::MigrateArgs>),
    Run(Box<command::run::JobArgs>),
    Status(command::status::StatusArgs),
    Report(Box<command::report::ReportArgs>),
    Incidents(Box<command::incidents::IncidentsArgs>),
    History(Box<command::history::HistoryArgs>),
    Audit(command::audit::AuditArgs),
    Explain(command::explain::ExplainArgs),
    Doctor(command::doctor::DoctorArgs),
    Sandbox(command::sandbox::SandboxArgs),
    Schema(command::schema::SchemaArgs),
    Completions(command::completions::CompletionsArgs),
    Man(command::man::ManArgs),
    Version(command::version::VersionArgs),
}

impl Cli {
    /// Reads the process's arguments and environment. A variable that is set to nothing counts as
    /// not set.
    ///
    /// # Errors
    /// What the parser has to say, a wish for help or the version among it.
    pub fn read() -> Result<Cli, clap::Error> {
        let mut command = Cli::command().mut_args(|arg| {
            let empty = arg.get_env().and_then(|name| name.to_str()).is_some_and(is_set_to_nothing);
            if empty { arg.env(None::<&str>) } else { arg }
        });
        let mut matches = command.try_get_matches_from_mut(std::env::args_os())?;
        let words = words(&matches);
        let mut cli =
            Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
        cli.words = words;
        Ok(cli)
    }
}

fn words(matches: &ArgMatches) -> String {
    let below = std::iter::successors(matches.subcommand(), |(_, below)| below.subcommand());
    below.map(|(word, _)| word).collect::<Vec<_>>().join(" ")
}
