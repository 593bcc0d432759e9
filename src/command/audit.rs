//! `audit verify|log|head`: who changed what, which credentials were used, and whether that record
//! is whole.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use glob::Pattern;
use jiff::{SignedDuration, Timestamp};

use super::complete;
use super::maintenance::time::Moment;
use crate::audit::{Filter, Head, Kind, Log, Outcome as How};
use crate::context::{Context, Outcome, parse_duration};
use crate::model::{Error, ErrorKind, Location, Result};
use crate::render::Format;
use crate::view;

/// The largest file of kept heads that is read.
const MAX_HEADS: u64 = 16 * 1024 * 1024;

/// How many records are shown when nobody says how many.
const SHOWN: usize = 10_000;

/// Show who changed what and which credentials were used, and prove that record whole
///
/// Every command that changes something, and every credential that a run uses, leaves a record. The
/// records are chained by SHA-256; none holds a secret.
#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    Verify(VerifyArgs),
    Log(LogArgs),
    Head(HeadArgs),
}

/// Find changed, missing, inserted and reordered records
///
/// The exit code is 0 when the chain is whole and 65 when it is not. The chain alone cannot tell
/// that its end was cut off, or that all of it was written anew: heads that were kept elsewhere can.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    fhirctl audit head >> /mnt/elsewhere/heads       keeps a head, by cron for example\n  \
    fhirctl audit verify --expect-file /mnt/elsewhere/heads")]
pub struct VerifyArgs {
    /// A head that the log must hold: SEQUENCE:HASH, as audit head prints it
    #[arg(long, value_name = "HEAD")]
    pub expect: Vec<String>,

    /// A file of kept heads, one a line; lines that begin with # are left out
    #[arg(long, value_name = "FILE")]
    pub expect_file: Vec<PathBuf>,
}

/// Print the records that are asked for
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    fhirctl audit log --server 'epic-*' --since 24h\n  \
    fhirctl audit log --command auth --outcome failed\n  \
    fhirctl audit log --as fhir -o ndjson            AuditEvent resources of FHIR R4")]
pub struct LogArgs {
    /// Only records of this server, by name or glob such as 'prod-*'
    #[arg(long, value_name = "SERVER", add = complete::servers())]
    pub server: Vec<String>,

    /// Only records of this command, such as set or 'auth rotate'; auth means all of its verbs
    #[arg(long, value_name = "WORDS")]
    pub command: Vec<String>,

    /// Only records of this user
    #[arg(long, value_name = "USER")]
    pub user: Vec<String>,

    /// Only changes, or only uses of credentials
    #[arg(long, value_name = "KIND")]
    pub kind: Vec<KindArg>,

    /// Only records that ended so
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Vec<OutcomeArg>,

    /// Only records from then on: 2026-12-01T22:00, or 24h for the last day
    #[arg(long, visible_alias = "since", value_name = "TIME")]
    pub from: Option<String>,

    /// Only records before then
    #[arg(long, visible_alias = "until", value_name = "TIME")]
    pub to: Option<String>,

    /// At most so many records, the last ones
    #[arg(long, visible_alias = "limit", value_name = "N", default_value_t = SHOWN)]
    pub last: usize,

    /// As resources of a standard; fhir gives a Bundle, or with -o ndjson one resource a line
    #[arg(long = "as", value_name = "STANDARD")]
    pub standard: Option<Standard>,
}

/// Print sequence and hash of the last record, to be kept elsewhere
#[derive(Debug, Args)]
pub struct HeadArgs {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Standard {
    /// AuditEvent of FHIR R4
    Fhir,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    Command,
    Credential,
    Recovery,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutcomeArg {
    Done,
    Failed,
    Refused,
}

/// # Errors
/// Exit 64 for what cannot be meant, 65 when the log does not verify, 66 when there is no place for
/// a log or a file of heads is missing, 74 when the log cannot be read.
pub fn run(args: &AuditArgs, context: &Context) -> Result<Outcome> {
    let log = context.audit().log()?;
    match &args.action {
        Action::Verify(args) => verify(args, log, context),
        Action::Log(args) => show(args, log, context),
        Action::Head(_) => Ok(Outcome::printed(view::audit::head(&shown(log), &log.head()?)?)),
    }
}

fn verify(args: &VerifyArgs, log: &Log, context: &Context) -> Result<Outcome> {
    context.options.output.among(Format::ROWS)?;
    let mut expected =
        args.expect.iter().map(|text| text.parse()).collect::<Result<Vec<Head>>>()?;
    for path in &args.expect_file {
        expected.extend(kept_heads(path)?);
    }
    let (output, exit) = view::audit::verify(&shown(log), log.verify(&expected)?)?;
    Ok(Outcome { output: Some(output), exit })
}

fn show(args: &LogArgs, log: &Log, context: &Context) -> Result<Outcome> {
    let fitting = if args.standard.is_some() { Format::COMMON } else { Format::ROWS };
    context.options.output.among(fitting)?;
    let filter = filter(args, context.clock.now())?;
    let found = log.read(&filter)?;
    if found.matched > found.records.len() as u64 && args.last == SHOWN {
        context.notice(&format!(
            "only the last {} of {} records are shown; --last N shows more",
            found.records.len(),
            found.matched
        ));
    }
    if found.unreadable > 0 {
        context.notice(&format!(
            "{} lines of the log are no records; fhirctl audit verify says which",
            found.unreadable
        ));
    }
    let output = match args.standard {
        Some(Standard::Fhir) => view::audit::fhir(&found)?,
        None => view::audit::log(&shown(log), found, is_all(args))?,
    };
    Ok(Outcome::printed(output))
}

fn is_all(args: &LogArgs) -> bool {
    args.server.is_empty()
        && args.command.is_empty()
        && args.user.is_empty()
        && args.kind.is_empty()
        && args.outcome.is_empty()
        && args.from.is_none()
        && args.to.is_none()
}

fn filter(args: &LogArgs, now: Timestamp) -> Result<Filter> {
    let server = |text: &String| {
        Pattern::new(text)
            .map_err(|_| Error::usage(format!("{text:?} is no name and no glob of servers")))
    };
    let command = |text: &String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let instant = |text: &Option<String>| text.as_deref().map(|it| time(it, now)).transpose();
    Ok(Filter {
        servers: args.server.iter().map(server).collect::<Result<_>>()?,
        commands: args.command.iter().map(command).collect(),
        users: args.user.clone(),
        kinds: args.kind.iter().map(|kind| (*kind).into()).collect(),
        outcomes: args.outcome.iter().map(|outcome| (*outcome).into()).collect(),
        from: instant(&args.from)?,
        to: instant(&args.to)?,
        last: args.last,
    })
}

/// A time, or how long ago it was.
fn time(text: &str, now: Timestamp) -> Result<Timestamp> {
    match parse_duration(text) {
        Ok(ago) => SignedDuration::try_from(ago)
            .ok()
            .and_then(|ago| now.checked_sub(ago).ok())
            .ok_or_else(|| Error::usage(format!("{text:?} ago is before the calendar begins"))),
        Err(_) => Ok(Moment::parse(text)
            .map_err(|error| error.hint("or how long ago it was, such as 24h"))?
            .instant),
    }
}

fn kept_heads(path: &Path) -> Result<Vec<Head>> {
    let size = std::fs::metadata(path).map_err(|error| Error::io("read", path, &error))?.len();
    if size > MAX_HEADS {
        return Err(Error::new(
            ErrorKind::Data,
            format!("{} is larger than any file of heads", path.display()),
        ));
    }
    let text = std::fs::read_to_string(path).map_err(|error| Error::io("read", path, &error))?;
    let lines = text.lines().zip(1..).map(|(line, number)| (line.trim(), number));
    lines
        .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, number): (&str, u32)| {
            line.parse::<Head>().map_err(|error| Error {
                kind: ErrorKind::Data,
                message: format!("{}:{number}: {}", path.display(), error.message),
                location: Some(Location {
                    file: path.to_owned(),
                    line: Some(number),
                    column: None,
                    key: None,
                }),
                ..error
            })
        })
        .collect()
}

fn shown(log: &Log) -> String {
    log.path().display().to_string()
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Kind {
        match kind {
            KindArg::Command => Kind::Command,
            KindArg::Credential => Kind::Credential,
            KindArg::Recovery => Kind::Recovery,
        }
    }
}

impl From<OutcomeArg> for How {
    fn from(outcome: OutcomeArg) -> How {
        match outcome {
            OutcomeArg::Done => How::Done,
            OutcomeArg::Failed => How::Failed,
            OutcomeArg::Refused => How::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_an_instant_or_how_long_ago_it_was() {
        let now: Timestamp = "2026-11-02T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("24h", "2026-11-01T12:00:00Z"),
            ("2days", "2026-10-31T12:00:00Z"),
            ("2026-11-01T10:00:00-05:00", "2026-11-01T15:00:00Z"),
        ] {
            assert_eq!(time(text, now).unwrap().to_string(), expected, "{text}");
        }
        for text in ["yesterday", "", "90000years"] {
            assert_eq!(time(text, now).unwrap_err().exit().0, 64, "{text}");
        }
    }

    #[test]
    fn a_file_of_heads_may_have_comments_and_an_error_names_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("heads");
        let head = Head::genesis();
        std::fs::write(&path, format!("# kept by cron\n\n{head}\n  {head}\r\n")).unwrap();
        assert_eq!(kept_heads(&path).unwrap(), [head.clone(), head.clone()]);
        std::fs::write(&path, format!("{head}\n12:zz\n")).unwrap();
        let error = kept_heads(&path).unwrap_err();
        assert_eq!((error.exit().0, error.location.unwrap().line), (65, Some(2)));
        assert_eq!(kept_heads(&dir.path().join("none")).unwrap_err().exit().0, 66);
    }
}
