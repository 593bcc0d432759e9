//! `vendors [NAME]`: the built-in presets, with their facts and sources.

use clap::Args;

use crate::context::{Context, Outcome};
use crate::inventory::preset::{self, Preset};
use crate::model::text::nearest;
use crate::model::{Error, Result};
use crate::view;

/// Show the built-in vendor presets, with their facts and sources
#[derive(Debug, Args)]
pub struct VendorsArgs {
    /// One preset, with everything that is known of it
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// # Errors
/// Exit 66 when there is no such preset.
pub fn run(args: &VendorsArgs, _context: &Context) -> Result<Outcome> {
    let presets: Vec<&Preset> = match &args.name {
        None => preset::presets().collect(),
        Some(name) => vec![preset::preset(name).ok_or_else(|| unknown(name))?],
    };
    Ok(Outcome::printed(view::vendors::output(&presets, args.name.is_some())))
}

fn unknown(name: &str) -> Error {
    let error = Error::not_found(format!("no preset is named {name:?}"));
    match nearest(name, preset::names()) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error.hint("fhirctl vendors lists all presets"),
    }
}
