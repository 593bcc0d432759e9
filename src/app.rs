//! From the arguments to the exit code.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style as Ansi};
use clap::{CommandFactory as _, ValueEnum};
use clap_complete::CompleteEnv;

use crate::cli::{Cli, Command};
use crate::command;
use crate::context::{ColorWhen, Context, Outcome, complain, variable, wants_color};
use crate::credentials;
use crate::model::text::visible;
use crate::model::{Error, Exit, Result};
use crate::render::{self, Format};
use crate::view;

/// Runs the program with the process's own arguments.
#[must_use]
pub fn main() -> ExitCode {
    credentials::harden();
    let here = std::env::current_dir().ok();
    // The shell asks for words with `COMPLETE` set; nothing else is done then.
    match CompleteEnv::with_factory(Cli::command).try_complete(std::env::args_os(), here.as_deref())
    {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => return ExitCode::from(usage(&error).0),
    }
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(usage(&error).0),
    };
    let context = Context::new(cli.global, &cli.words);
    let done = run(&cli.command, &context);
    context.audit().finish();
    let exit = match done.and_then(|outcome| print(&outcome, &context)) {
        Ok(exit) => exit,
        Err(error) => report(&error, context.options.output, context.options.color),
    };
    ExitCode::from(exit.0)
}

fn run(command: &Command, context: &Context) -> Result<Outcome> {
    match command {
        Command::Demo(args) => block_on(command::demo::run(args, context)),
        Command::Test(args) => block_on(command::test::run(args, context)),
        Command::Diag(args) => block_on(command::diag::run(args, context)),
        Command::Query(args) => block_on(command::query::run(args, context)),
        Command::Check(args) => block_on(command::check::run(args, context)),
        Command::Sandbox(args) => sandbox(args, context),
        Command::Sync(args) => block_on(command::sync::run(args, context)),
        Command::BulkImport(args) => block_on(command::bulk_import::run(args, context)),
        Command::Migrate(args) => block_on(command::migrate::run(args, context)),
        Command::Run(args) => block_on(command::run::run(args, context)),
        Command::Doctor(args) => block_on(command::doctor::run(args, context)),
        Command::BulkExport(args) => block_on(command::bulk_export::run(args, context)),
        Command::Status(args) => block_on(command::status::run(args, context)),
        Command::Incidents(args) => block_on(command::incidents::run(args, context)),
        Command::History(args) => block_on(command::history::run(args, context)),
        Command::Report(args) => block_on(command::report::run(args, context)),
        Command::Audit(args) => command::audit::run(args, context),
        Command::Explain(args) => command::explain::run(args, context),
        Command::Completions(args) => command::completions::run(args, context),
        Command::Man(args) => command::man::run(args, Cli::command(), context),
        Command::Version(args) => command::version::run(args, context),
        Command::Init(args) => command::init::run(args, context),
        Command::Add(args) => block_on(command::add::run(args, context)),
        Command::List(args) => command::list::run(args, context),
        Command::Show(args) => block_on(command::show::run(args, context)),
        Command::Set(args) => block_on(command::set::run(args, context)),
        Command::Activate(args) => command::activate::run(args, context),
        Command::Deactivate(args) => command::deactivate::run(args, context),
        Command::Rename(args) => block_on(command::rename::run(args, context)),
        Command::Remove(args) => block_on(command::remove::run(args, context)),
        Command::Maintenance(args) => command::maintenance::run(args, context),
        Command::Vendors(args) => command::vendors::run(args, context),
        Command::Lint(args) => command::lint::run(args, context),
        Command::Expiring(args) => block_on(command::expiring::run(args, context)),
        Command::Auth(args) => block_on(command::auth::run(args, context)),
        Command::Schema(args) => command::schema::run(args, context),
    }
}

/// Announces what is served before it serves, and comes back when it is told to stop.
fn sandbox(args: &command::sandbox::SandboxArgs, context: &Context) -> Result<Outcome> {
    block_on(async {
        let serving = command::sandbox::start(args, context)?;
        let mut context = context.clone();
        if context.options.output == Format::Json {
            // One line: who reads it knows that it is complete while we go on serving.
            context.options.output = Format::Ndjson;
        }
        print(&Outcome::printed(serving.announcement()), &context)?;
        Ok(serving.until_stopped().await)
    })
}

/// Runs a future to its end.
///
/// # Errors
/// When the machine gives no threads, or the future fails.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal(format!("cannot start: {error}")))?
        .block_on(future)
}

fn print(outcome: &Outcome, context: &Context) -> Result<Exit> {
    if let Some(output) = &outcome.output {
        let text = render::render(output, context.options.output, context.style())?;
        render::write(&text)?;
    }
    Ok(outcome.exit)
}

/// Tells an error in the form that was asked for and gives the exit code: one JSON line on
/// standard error beside a structured format; for Nagios its one line on standard output and 3,
/// since it takes every other code for a verdict or a crash; else words.
fn report(error: &Error, format: Format, color: ColorWhen) -> Exit {
    if format == Format::Nagios {
        // Where even this cannot be written, the exit code still says it.
        let _ = render::write(&render::nagios::error(error));
        return Exit::UNKNOWN;
    }
    let exit = error.exit();
    if format.is_structured() {
        match render::json::lines([view::error::document(error, exit.0)]) {
            Ok(line) => complain(line.trim_end()),
            Err(_) => complain(&error.message),
        }
        return exit;
    }
    let (bad, note) = if wants_color(color, std::io::stderr().is_terminal()) {
        (AnsiColor::Red.on_default().bold(), AnsiColor::Cyan.on_default())
    } else {
        (Ansi::new(), Ansi::new())
    };
    let mut text = format!("{bad}error:{bad:#} {}\n", visible(&error.message));
    for hint in &error.hints {
        text.push_str(&format!("  {note}hint:{note:#} {}\n", visible(hint)));
    }
    write_complaint(&text);
    exit
}

/// Tells what is wrong with the command line, or prints the help or version that was asked for.
fn usage(error: &clap::Error) -> Exit {
    let asked = Asked::of(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into()));
    let wrong = error.use_stderr();
    if wrong && (asked.output == Format::Nagios || asked.output.is_structured()) {
        return report(&explained(error), asked.output, asked.color);
    }
    let styled = error.render();
    let terminal =
        if wrong { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
    let mut text = if wants_color(asked.color, terminal) {
        styled.ansi().to_string()
    } else {
        styled.to_string()
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if wrong {
        write_complaint(&text);
        Exit::USAGE
    } else {
        match render::write(&text) {
            Ok(_) => Exit::OK,
            Err(error) => report(&error, Format::Table, asked.color),
        }
    }
}

fn write_complaint(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// The parser's words as one of our errors: what is wrong, and its tips as hints.
fn explained(error: &clap::Error) -> Error {
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Error::usage("a command is missing").hint("fhirctl --help lists the commands");
    }
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let message = paragraphs.next().unwrap_or_default();
    let mut explained = Error::usage(message.strip_prefix("error: ").unwrap_or(message).trim());
    for line in paragraphs.flat_map(str::lines).map(str::trim) {
        let is_tip = line.starts_with("Usage: ") || line.starts_with('[');
        if let Some(tip) = line.strip_prefix("tip: ").or(is_tip.then_some(line)) {
            explained = explained.hint(tip);
        }
    }
    explained
}

/// How to answer when the command line itself cannot be read: what can be made out of it.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    output: Format,
    color: ColorWhen,
}

impl Asked {
    fn of(words: impl Iterator<Item = String>) -> Asked {
        let mut output = variable("FHIRCTL_OUTPUT");
        let mut color = variable("FHIRCTL_COLOR");
        let mut words = words.take_while(|word| word != "--");
        while let Some(word) = words.next() {
            if let Some(value) = word.strip_prefix("--output=") {
                output = Some(value.to_owned());
            } else if let Some(value) = word.strip_prefix("--color=") {
                color = Some(value.to_owned());
            } else if word == "--output" {
                output = words.next();
            } else if word == "--color" {
                color = words.next();
            } else if let Some(rest) = short_output(&word) {
                output = if rest.is_empty() { words.next() } else { Some(rest.to_owned()) };
            }
        }
        Asked {
            output: known(output).unwrap_or(Format::Table),
            color: known(color).unwrap_or(ColorWhen::Auto),
        }
    }
}

/// What follows `o` in `-o`, `-ojson` or `-qo`.
fn short_output(word: &str) -> Option<&str> {
    let rest = word.strip_prefix('-')?.trim_start_matches(['v', 'q']).strip_prefix('o')?;
    Some(rest.strip_prefix('=').unwrap_or(rest))
}

fn known<T: ValueEnum>(word: Option<String>) -> Option<T> {
    T::from_str(&word?, false).ok()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn the_format_is_found_on_a_line_that_cannot_be_parsed() {
        for (line, expected) in [
            ("check --nope -o json", Format::Json),
            ("check -ojson --nope", Format::Json),
            ("check -o=json --nope", Format::Json),
            ("-vvo nagios check --nope", Format::Nagios),
            ("check --output=yaml", Format::Yaml),
            ("check --output ndjson", Format::Ndjson),
            ("check --nope -- -o json", Format::Table),
            ("check -o bogus", Format::Table),
            ("check -o", Format::Table),
        ] {
            let words = line.split(' ').map(str::to_owned);
            assert_eq!(Asked::of(words).output, expected, "{line}");
        }
    }

    #[test]
    fn the_parsers_tips_become_hints() {
        let error = Cli::try_parse_from(["fhirctl", "explain", "--outptu", "json"]).unwrap_err();
        let error = explained(&error);
        assert_eq!(error.message, "unexpected argument '--outptu' found");
        assert!(error.hints[0].contains("--output"), "{:?}", error.hints);
        assert!(!error.message.contains("error:"));
    }
}
