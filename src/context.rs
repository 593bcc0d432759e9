//! Global options, environment and files, resolved once for every command.
//!
//! Enters: parsed global options and the process's environment. Leaves: the inventory, the clock,
//! credentials, and the way notices reach standard error. Only this room reads the machine's clock
//! and environment.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::{Clock, Error, Exit, Result};
use crate::render::{Format, Output, Style};

/// What every command may be told. Each option has an environment variable beside it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalOptions {
    /// The inventory [default: ./servers.yaml, then $XDG_CONFIG_HOME/fhirctl/servers.yaml]
    #[arg(short, long, global = true, value_name = "FILE", env = "FHIRCTL_INVENTORY")]
    pub inventory: Option<PathBuf>,

    /// How results are printed
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        env = "FHIRCTL_OUTPUT",
        default_value = "table"
    )]
    pub output: Format,

    /// Where history is kept
    #[arg(long, global = true, value_name = "URL", env = "FHIRCTL_HISTORY")]
    pub history: Option<String>,

    /// Deadline of one server's whole check, such as 30s
    #[arg(long, global = true, value_name = "DURATION", env = "FHIRCTL_TIMEOUT", value_parser = parse_duration)]
    pub timeout: Option<Duration>,

    /// How many servers are worked on at once
    #[arg(long, global = true, value_name = "N", env = "FHIRCTL_CONCURRENCY", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub concurrency: u32,

    /// Say more on standard error; twice for every request
    #[arg(short, long, global = true, action = clap::ArgAction::Count, env = "FHIRCTL_VERBOSE")]
    pub verbose: u8,

    /// Say nothing on standard error but errors
    #[arg(short, long, global = true, env = "FHIRCTL_QUIET", conflicts_with = "verbose")]
    pub quiet: bool,

    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", env = "FHIRCTL_COLOR", default_value = "auto")]
    pub color: ColorWhen,

    /// Show no progress
    #[arg(long, global = true, env = "FHIRCTL_NO_PROGRESS")]
    pub no_progress: bool,

    /// Never ask; fail where an answer would be needed
    #[arg(long, global = true, env = "FHIRCTL_NO_INPUT")]
    pub no_input: bool,

    /// Answer yes where a command asks for confirmation
    #[arg(long, global = true)]
    pub yes: bool,

    /// Run `exec:` references even in CI
    #[arg(long, global = true, env = "FHIRCTL_ALLOW_EXEC")]
    pub allow_exec: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorWhen {
    Auto,
    Always,
    Never,
}

/// `500ms`, `30s`, `2m`, `1h 30m`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("must be longer than nothing".into()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("write it as a number and a unit, such as 500ms, 30s, 2m or 1h".into()),
    }
}

/// What a command leaves: something to print and the code to end with.
#[derive(Debug, Default)]
pub struct Outcome {
    pub output: Option<Output>,
    pub exit: Exit,
}

impl Outcome {
    /// Prints an output and ends with 0.
    #[must_use]
    pub fn printed(output: Output) -> Outcome {
        Outcome { output: Some(output), exit: Exit::OK }
    }
}

/// The process's surroundings as every command sees them.
#[derive(Clone, Debug)]
pub struct Context {
    pub options: GlobalOptions,
    pub clock: Clock,
    /// Set when `CI` is set to anything but nothing, `0` or `false`.
    pub ci: bool,
}

impl Context {
    #[must_use]
    pub fn new(options: GlobalOptions) -> Context {
        let ci = variable("CI").is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
        Context { options, clock: Clock::system(), ci }
    }

    /// Where the inventory is: the flag or variable, `./servers.yaml`, or the one in the user's
    /// configuration folder. `None` when there is none anywhere.
    #[must_use]
    pub fn find_inventory(&self) -> Option<PathBuf> {
        if let Some(path) = &self.options.inventory {
            return Some(path.clone());
        }
        let here = PathBuf::from("servers.yaml");
        if here.exists() {
            return Some(here);
        }
        config_dir().map(|dir| dir.join("servers.yaml")).filter(|path| path.exists())
    }

    /// The inventory's path.
    ///
    /// # Errors
    /// When there is none: exit 66 with the places that were looked at.
    pub fn inventory_path(&self) -> Result<PathBuf> {
        self.find_inventory().ok_or_else(|| {
            let places = match config_dir() {
                Some(dir) => format!("./servers.yaml nor {}", dir.join("servers.yaml").display()),
                None => "./servers.yaml".to_owned(),
            };
            Error::not_found(format!("no inventory: neither {places} is there"))
                .hint("fhirctl init writes a first one; --inventory FILE names another")
        })
    }

    /// How human formats are drawn on standard output.
    #[must_use]
    pub fn style(&self) -> Style {
        let terminal = std::io::stdout().is_terminal();
        let width = terminal.then(|| comfy_table_width().unwrap_or(80));
        Style { color: self.color(terminal), width }
    }

    /// Whether colour is wanted on a stream.
    #[must_use]
    pub fn color(&self, is_terminal: bool) -> bool {
        match self.options.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => {
                is_terminal
                    && variable("NO_COLOR").is_none_or(|value| value.is_empty())
                    && variable("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }

    /// Whether progress may be drawn on standard error.
    #[must_use]
    pub fn shows_progress(&self) -> bool {
        !self.options.no_progress
            && !self.options.quiet
            && std::io::stderr().is_terminal()
            && variable("TERM").is_none_or(|term| term != "dumb")
    }

    /// Whether a person may be asked something.
    #[must_use]
    pub fn may_ask(&self) -> bool {
        !self.options.no_input && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Says something on standard error unless `--quiet`; control characters are made visible.
    pub fn notice(&self, text: &str) {
        if !self.options.quiet {
            complain(text);
        }
    }

    /// Says something on standard error at `-v` (1) or `-vv` (2).
    pub fn verbose(&self, level: u8, text: &str) {
        if self.options.verbose >= level {
            complain(text);
        }
    }
}

/// Writes a line to standard error; a closed stream is nobody's trouble.
pub fn complain(text: &str) {
    let text = crate::model::text::visible(text);
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A variable of the environment, when it is set and is text.
#[must_use]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `$XDG_CONFIG_HOME/fhirctl`, or `~/.config/fhirctl`.
#[must_use]
pub fn config_dir() -> Option<PathBuf> {
    base_dir("XDG_CONFIG_HOME", ".config")
}

/// `$XDG_STATE_HOME/fhirctl`, or `~/.local/state/fhirctl`.
#[must_use]
pub fn state_dir() -> Option<PathBuf> {
    base_dir("XDG_STATE_HOME", ".local/state")
}

fn base_dir(name: &str, below_home: &str) -> Option<PathBuf> {
    variable(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(below_home)))
        .map(|base| base.join("fhirctl"))
}

fn comfy_table_width() -> Option<u16> {
    comfy_table::Table::new().width()
}
