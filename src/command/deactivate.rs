//! `deactivate`: take servers out of use and keep their entries.

use clap::Args;

use super::change::ChosenArgs;
use crate::context::{Context, Outcome};
use crate::model::Result;

/// Take servers out of use and keep their entries
///
/// An inactive server is checked only when it is named exactly.
#[derive(Debug, Args)]
pub struct DeactivateArgs {
    #[command(flatten)]
    pub selector: ChosenArgs,
}

/// # Errors
/// As `activate`.
pub fn run(args: &DeactivateArgs, context: &Context) -> Result<Outcome> {
    super::activate::switch(&args.selector, false, context)
}
