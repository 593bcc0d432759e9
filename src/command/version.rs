//! `version`: what this program is.

use clap::Args;

use crate::context::{Context, Outcome};
use crate::model::Result;
use crate::view;

/// Say which version this is and what it was built for
#[derive(Debug, Args)]
pub struct VersionArgs {}

/// # Errors
/// None in practice.
pub fn run(_args: &VersionArgs, _context: &Context) -> Result<Outcome> {
    Ok(Outcome::printed(view::version::output()?))
}
