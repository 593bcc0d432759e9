//! `report KIND`: what history says of a window of time, for people, programs and auditors.

mod desk;
pub mod window;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use self::desk::Desk;
use self::window::WindowArgs;
use super::selector::SelectorArgs;
use crate::context::{Context, Outcome, replace_file};
use crate::model::{Error, Exit, Result, Server};
use crate::render::{Format, Output, Style};
use crate::report::{self, Proof};
use crate::stats::sla::Verdict;
use crate::view;

/// Report on availability, response times, errors, agreements and trends, from history
///
/// Nothing is asked of a server. A window is [from, to): the last 30 days unless something else is
/// said. `-o html` makes one page that needs nothing else; `--proof` writes down what everybody can
/// recompute.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    fhirctl report summary --last 7d\n  \
    fhirctl report sla 'epic-*' --month 2026-10 --fail-on-breach\n  \
    fhirctl report availability --month 2026-10 -o html --output-file october.html\n  \
    fhirctl report capacity --last 90d --line disk=90% --line count:Observation=50M\n  \
    fhirctl report sla epic-prod --month 2026-10 --proof proof.json && fhirctl report verify proof.json")]
pub struct ReportArgs {
    #[command(subcommand)]
    pub kind: ReportKind,
}

#[derive(Debug, Subcommand)]
pub enum ReportKind {
    /// Every server in a line: availability, outages, response times, errors
    Summary(CommonArgs),
    /// Time up, degraded, down, unknown and planned, day by day, and each outage
    Availability(CommonArgs),
    /// Response times: mean and percentiles by check and phase
    Performance(CommonArgs),
    /// What failed how often: by HTTP class, reason code and FHIR issue type
    Errors(CommonArgs),
    /// Agreements kept or breached, with error budget, credits and every outage
    Sla(SlaArgs),
    /// Where response times, availability, errors and sizes are heading
    Trends(CommonArgs),
    Capacity(CapacityArgs),
    /// Refused sign-ins, certificates, pins and addresses, and how long each lasted
    Security(CommonArgs),
    /// Every outage with its evidence and what was written of it
    Incident(CommonArgs),
    Verify(VerifyArgs),
}

/// Recompute a proof from its own readings and terms
///
/// Chain, times, exclusions, verdicts and credits. The exit code is 0 when all of them are what the
/// proof says, 65 when they are not.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A file that --proof wrote; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub struct CommonArgs {
    #[command(flatten)]
    pub selector: SelectorArgs,

    #[command(flatten)]
    pub window: WindowArgs,

    /// summary, performance, errors: add servers up by vendor, organization, or the value of a label
    #[arg(long, value_name = "vendor|organization|label:KEY")]
    pub group_by: Option<GroupBy>,

    /// Exit with 2 when an agreement was breached in the window, with 3 when too little is known to say
    #[arg(long)]
    pub fail_on_breach: bool,

    /// Write readings, rules, the terms of each agreement and all that they come to into a file: for
    /// `report verify`, and for anybody's own program
    #[arg(long, value_name = "FILE")]
    pub proof: Option<PathBuf>,

    /// Write the report into this file, by rename, instead of to standard output
    #[arg(long, value_name = "FILE")]
    pub output_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct SlaArgs {
    #[command(flatten)]
    pub common: CommonArgs,

    /// What is sent to the vendor: this server alone, with evidence, and nothing of ours
    #[arg(long)]
    pub for_vendor: bool,
}

/// What fills up or slows down, and when a limit is crossed
///
/// Memory, pools, disks and queues by the server's own metrics (checks.resources), resource counts
/// (checks.counts), response times, also against the load, availability and sizes. check reads them.
#[derive(Debug, Args)]
pub struct CapacityArgs {
    #[command(flatten)]
    pub common: CommonArgs,

    /// A line that is not to be crossed, in the place of the one that is known: disk=90%,
    /// heap=6GiB, disk:/var=80GB, count:Patient=5M, response_p95:metadata=2s; several times
    #[arg(long = "line", value_name = "NAME=VALUE")]
    pub lines: Vec<report::Asked>,
}

/// By what servers are added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    Vendor,
    Organization,
    Label(String),
}

impl std::str::FromStr for GroupBy {
    type Err = String;

    fn from_str(text: &str) -> Result<GroupBy, String> {
        match text {
            "vendor" => Ok(GroupBy::Vendor),
            "organization" => Ok(GroupBy::Organization),
            _ => match text.strip_prefix("label:") {
                Some(key) if !key.is_empty() => Ok(GroupBy::Label(key.to_owned())),
                _ => Err("write vendor, organization or label:KEY".to_owned()),
            },
        }
    }
}

impl GroupBy {
    fn of(&self, server: &Server) -> String {
        let value = match self {
            GroupBy::Vendor => server.vendor.clone(),
            GroupBy::Organization => server.organization.clone(),
            GroupBy::Label(key) => server.labels.get(key).cloned(),
        };
        value.unwrap_or_else(|| "(none)".to_owned())
    }
}

/// # Errors
/// Exit 64 for a window that cannot be meant, 65 for a proof that does not verify, 66 when nothing
/// matches or there is no history.
pub async fn run(args: &ReportArgs, context: &Context) -> Result<Outcome> {
    let (common, for_vendor) = match &args.kind {
        ReportKind::Verify(args) => return verify(args, context),
        ReportKind::Sla(args) => (&args.common, args.for_vendor),
        ReportKind::Capacity(args) => (&args.common, false),
        ReportKind::Summary(args)
        | ReportKind::Availability(args)
        | ReportKind::Performance(args)
        | ReportKind::Errors(args)
        | ReportKind::Trends(args)
        | ReportKind::Security(args)
        | ReportKind::Incident(args) => (args, false),
    };
    context.options.output.among(&formats())?;
    let adds_up = matches!(
        args.kind,
        ReportKind::Summary(_) | ReportKind::Performance(_) | ReportKind::Errors(_)
    );
    if common.group_by.is_some() && !adds_up {
        return Err(Error::usage("--group-by adds servers up, which this kind of report does not")
            .hint("it goes with summary, performance and errors"));
    }
    let desk = Desk::open(common, context).await?;
    if for_vendor && desk.servers.len() != 1 {
        return Err(Error::usage(format!(
            "--for-vendor is about one server, and {} match",
            desk.servers.len()
        ))
        .hint("name the server: fhirctl report sla NAME --for-vendor"));
    }
    let (output, verdict) = desk.report(&args.kind, for_vendor).await?;
    if let Some(path) = &common.proof {
        let proof = desk.proof(&args.kind, for_vendor).await?;
        replace_file(path, proof.print()?.as_bytes())?;
    }
    let verdict = match verdict {
        None if common.fail_on_breach => report::worst(&desk.agreed().await?),
        verdict => verdict,
    };
    let exit = match verdict {
        Some(Verdict::Breached) if common.fail_on_breach => Exit::CRITICAL,
        Some(Verdict::Unknown) if common.fail_on_breach => Exit::UNKNOWN,
        _ => Exit::OK,
    };
    deliver(output, exit, common, context)
}

fn formats() -> Vec<Format> {
    let mut formats = Format::ROWS.to_vec();
    formats.push(Format::Html);
    formats
}

fn deliver(output: Output, exit: Exit, args: &CommonArgs, context: &Context) -> Result<Outcome> {
    match &args.output_file {
        None => Ok(Outcome { output: Some(output), exit }),
        Some(path) => {
            let style = Style { color: false, width: None };
            let text = crate::render::render(&output, context.options.output, style)?;
            replace_file(path, text.as_bytes())?;
            Ok(Outcome { output: None, exit })
        }
    }
}

fn verify(args: &VerifyArgs, context: &Context) -> Result<Outcome> {
    context.options.output.among(Format::ROWS)?;
    let (name, proof) = match args.file.as_os_str() == "-" {
        true => {
            let name = "standard input".to_owned();
            let proof = Proof::read_from(std::io::stdin().lock(), &name);
            (name, proof)
        }
        false => (args.file.display().to_string(), Proof::read(&args.file)),
    };
    let checked = proof?.verify();
    let exit = if checked.problems.is_empty() { Exit::OK } else { Exit::DATA };
    let output = view::report::verified(&name, &checked, exit);
    Ok(Outcome { output: Some(output), exit })
}
