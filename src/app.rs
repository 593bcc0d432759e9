//! From the arguments to the exit code.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::command;
use crate::context::{Context, Outcome, complain};
use crate::model::{Error, ErrorKind, Exit, Result};
use crate::render::{self, Format};

/// Runs the program with the process's own arguments.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let context = Context::new(cli.global);
    let exit = match run(&cli.command, &context).and_then(|outcome| print(&outcome, &context)) {
        Ok(exit) => exit,
        Err(error) => report(&error, &context),
    };
    ExitCode::from(exit.0)
}

fn run(command: &Command, context: &Context) -> Result<Outcome> {
    match command {
        Command::Explain(args) => command::explain::run(args, context),
    }
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
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => {}
            // The reader has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(error) => {
                return Err(Error::new(
                    ErrorKind::Io,
                    format!("cannot write to standard output: {error}"),
                ));
            }
        }
    }
    Ok(outcome.exit)
}

/// Tells an error in the form that was asked for and gives the exit code.
fn report(error: &Error, context: &Context) -> Exit {
    let machine = matches!(context.options.output, Format::Json | Format::Ndjson);
    if machine {
        let line = serde_json::json!({
            "schema": "fhirctl/error/v1",
            "kind": error.kind,
            "exit_code": error.exit().0,
            "message": error.message,
            "location": error.location,
            "hints": error.hints,
        });
        complain(&line.to_string());
    } else {
        complain(&format!("error: {}", error.message));
        for hint in &error.hints {
            complain(&format!("  hint: {hint}"));
        }
    }
    error.exit()
}

fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { Exit::USAGE.0 } else { 0 })
}
