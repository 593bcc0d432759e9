//! The command line: global options and one arm per verb.

use clap::{Parser, Subcommand};

use crate::command;
use crate::context::GlobalOptions;

/// Registers, tests, gates and watches FHIR servers
#[derive(Debug, Parser)]
#[command(name = "fhirctl", version, max_term_width = 100, propagate_version = false)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalOptions,

    #[command(subcommand)]
    pub command: Command,
}

/// The verbs, in the order in which a newcomer meets them.
#[derive(Debug, Subcommand)]
pub enum Command {
    Explain(command::explain::ExplainArgs),
}
