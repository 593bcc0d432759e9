//! `explain CODE`: what a reason code means, its usual causes, what to try.

use clap::Args;

use super::complete;
use crate::context::{Context, Outcome};
use crate::lint::RuleInfo;
use crate::model::text::nearest;
use crate::model::{Code, CodeInfo, Error, FindingInfo, Result};
use crate::view;

/// Say what a reason code means, its usual causes, and what to try
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A code such as tls.expired, a finding such as CS-05, a rule such as tls.plain-http, or a
    /// family such as tls; none lists all codes and findings
    #[arg(value_name = "CODE", add = complete::codes())]
    pub code: Option<String>,
}

/// # Errors
/// Exit 66 when there is no such code.
pub fn run(args: &ExplainArgs, _context: &Context) -> Result<Outcome> {
    let rule = args.code.as_deref().and_then(|name| RuleInfo::find(&name.trim().to_lowercase()));
    if let Some(rule) = rule {
        return Ok(Outcome::printed(view::explain::output(&[], &[], &[rule])?));
    }
    let (codes, findings) = match &args.code {
        None => (Code::all().collect(), FindingInfo::all().collect()),
        Some(name) => find(name.trim())?,
    };
    Ok(Outcome::printed(view::explain::output(&codes, &findings, &[])?))
}

type Found = (Vec<&'static CodeInfo>, Vec<&'static FindingInfo>);

/// The code or finding of this name, in whatever case, or the codes of this family.
fn find(name: &str) -> Result<Found> {
    if let Some(info) = Code::find(&name.to_lowercase()).and_then(Code::info) {
        return Ok((vec![info], Vec::new()));
    }
    if let Some(finding) = FindingInfo::find(name) {
        return Ok((Vec::new(), vec![finding]));
    }
    let family = name.trim_end_matches(['.', '-']);
    let is_in = |code: &str| {
        code.split_once(['.', '-']).is_some_and(|(prefix, _)| prefix.eq_ignore_ascii_case(family))
    };
    let codes: Vec<_> = Code::all().filter(|info| is_in(&info.code)).collect();
    let findings: Vec<_> = FindingInfo::all().filter(|info| is_in(&info.id)).collect();
    if !codes.is_empty() || !findings.is_empty() {
        return Ok((codes, findings));
    }
    let error = Error::not_found(format!("no such code: {name}"));
    let known = Code::all()
        .map(|info| info.code.as_str())
        .chain(FindingInfo::all().map(|info| info.id.as_str()))
        .chain(RuleInfo::all().map(|rule| rule.id.as_str()));
    Err(match nearest(&name.to_lowercase(), known) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error.hint("fhirctl explain lists all codes"),
    })
}
