//! Global options, environment and files, resolved once for every command.
//!
//! Enters: parsed global options and the process's environment. Leaves: the inventory, the clock,
//! credentials, and the way notices reach standard error. Only this room reads the machine's clock
//! and environment.

mod audit;
mod history;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub use self::audit::Audit;
use crate::auth::Keeper;
use crate::auth::Surroundings;
use crate::credentials::{Credentials, Policy};
use crate::http::Transport;
use crate::inventory::{self, Inventory, Overrides};
use crate::model::text::visible;
use crate::model::{Clock, Error, ErrorKind, Exit, Result, SecretRef, Server};
use crate::render::{self, Format, Output, Style};

/// What every command may be told. Each option has an environment variable beside it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalOptions {
    /// The inventory [default: ./servers.yaml, then $XDG_CONFIG_HOME/fhirctl/servers.yaml]
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "FHIRCTL_INVENTORY",
        hide_env_values = true
    )]
    pub inventory: Option<PathBuf>,

    /// How results are printed
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        env = "FHIRCTL_OUTPUT",
        hide_env_values = true,
        default_value = "table"
    )]
    pub output: Format,

    /// Where history is kept
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "FHIRCTL_HISTORY",
        hide_env_values = true
    )]
    pub history: Option<String>,

    /// Deadline of one server's whole check, such as 30s
    #[arg(long, global = true, value_name = "DURATION", env = "FHIRCTL_TIMEOUT", hide_env_values = true, value_parser = parse_duration)]
    pub timeout: Option<Duration>,

    /// How many servers are worked on at once
    #[arg(long, global = true, value_name = "N", env = "FHIRCTL_CONCURRENCY", hide_env_values = true, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub concurrency: u32,

    /// Say more on standard error; twice for every request
    #[arg(short, long, global = true, action = clap::ArgAction::Count, env = "FHIRCTL_VERBOSE", hide_env_values = true)]
    pub verbose: u8,

    /// Say nothing on standard error but errors, whatever else is said
    #[arg(short, long, global = true, env = "FHIRCTL_QUIET", hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub quiet: bool,

    /// When to use colour
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        env = "FHIRCTL_COLOR",
        hide_env_values = true,
        default_value = "auto"
    )]
    pub color: ColorWhen,

    /// Show no progress
    #[arg(long, global = true, env = "FHIRCTL_NO_PROGRESS", hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub no_progress: bool,

    /// Never ask; fail where an answer would be needed
    #[arg(long, global = true, env = "FHIRCTL_NO_INPUT", hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub no_input: bool,

    /// Answer yes where a command asks for confirmation
    #[arg(long, global = true)]
    pub yes: bool,

    /// Run `exec:` references even in CI
    #[arg(long, global = true, env = "FHIRCTL_ALLOW_EXEC", hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub allow_exec: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorWhen {
    Auto,
    Always,
    Never,
}

/// `500ms`, `30s`, `2m`, `1h 30m`.
///
/// # Errors
/// What is wrong with the text, for the command line.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
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
    audit: Audit,
}

impl Context {
    /// For a command by its words, such as `auth rotate`.
    #[must_use]
    pub fn new(options: GlobalOptions, command: &str) -> Context {
        let ci = variable("CI").is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
        let clock = Clock::system();
        Context { options, clock, ci, audit: Audit::new(state_dir(), clock, command) }
    }

    /// The audit log. A command that changes something says so here.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Where the inventory is: the flag or variable, `./servers.yaml`, or the one in the user's
    /// configuration folder. `None` when there is none anywhere.
    #[must_use]
    pub fn find_inventory(&self) -> Option<PathBuf> {
        find_inventory(self.options.inventory.clone())
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

    /// What flags and environment put before every value of the inventory.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            deadline: self
                .options
                .timeout
                .map(|timeout| (timeout, "flag --timeout or FHIRCTL_TIMEOUT")),
            nagios: self.options.output == Format::Nagios,
        }
    }

    /// Reads the inventory.
    ///
    /// # Errors
    /// Exit 66 when there is none, 78 when it is not right.
    pub fn load_inventory(&self) -> Result<Inventory> {
        inventory::load(&self.inventory_path()?, &self.overrides())
    }

    /// What the checks of one inventory share.
    #[must_use]
    pub fn surroundings(&self, inventory: &Inventory) -> Surroundings {
        let mut transport = Transport::new(self.clock);
        if self.options.verbose >= 2 {
            transport = transport.traced(complain);
        }
        let transport = Arc::new(transport);
        let credentials = Credentials::new(Policy {
            exec_env: exec_variables(inventory),
            ..self.policy(Some(&inventory.path))
        })
        .observed(self.audit.observer());
        let keeper = Keeper::new(state_dir(), credentials.clone(), Arc::clone(&transport));
        Surroundings { transport, credentials, keeper, clock: self.clock }
    }

    /// The way to secrets, under the rules for the inventory that names them.
    #[must_use]
    pub fn credentials(&self, inventory: Option<&Path>) -> Credentials {
        Credentials::new(self.policy(inventory)).observed(self.audit.observer())
    }

    fn policy(&self, inventory: Option<&Path>) -> Policy {
        Policy {
            inventory: inventory.map(Path::to_owned),
            ci: self.ci,
            allow_exec: self.options.allow_exec,
            interactive: self.may_ask(),
            ..Policy::default()
        }
    }

    /// Progress on standard error; draws nothing where nobody looks. A length of 0 is not known.
    #[must_use]
    pub fn progress(&self, what: &str, length: usize) -> Progress {
        let target = if self.shows_progress() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = match length {
            0 => ProgressBar::new_spinner(),
            length => ProgressBar::new(length as u64),
        };
        bar.set_draw_target(target);
        let template = if length == 0 {
            "{spinner} {msg} {elapsed}"
        } else {
            "{msg} {bar:30} {pos}/{len} {elapsed}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        if self.shows_progress() {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Progress(bar)
    }

    /// Prints one result of several while a command goes on; `false` when nobody reads any more.
    ///
    /// # Errors
    /// When the format does not fit, or standard output cannot be written.
    pub fn emit(&self, output: &Output) -> Result<bool> {
        render::write(&render::render(output, self.options.output, self.style())?)
    }

    /// Writes a piece of a result that is passed on as it came: as it is to a pipe or a file, with
    /// its control characters made visible to a terminal. `false` when nobody reads any more.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn pass_on(&self, bytes: &[u8]) -> Result<bool> {
        if std::io::stdout().is_terminal() {
            return render::write(&visible(&String::from_utf8_lossy(bytes)));
        }
        render::write_bytes(bytes)
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
        wants_color(self.options.color, is_terminal)
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
        if !self.options.quiet && self.options.verbose >= level {
            complain(text);
        }
    }
}

/// Something long on its way; gone from the screen when it is finished or dropped.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// One more is done.
    pub fn step(&self) {
        self.advance(1);
    }

    /// So many more are done.
    pub fn advance(&self, count: usize) {
        self.0.inc(count as u64);
    }

    /// What it is about now.
    pub fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    pub fn finish(self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// The variables that an `exec:` child may see: those that the inventory's own `env:` references
/// name.
fn exec_variables(inventory: &Inventory) -> Vec<String> {
    let references = inventory.servers.iter().flat_map(Server::references);
    let mut names: Vec<String> = references
        .filter_map(|reference| match reference {
            SecretRef::Env { variable } => Some(variable.clone()),
            _ => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Replaces a file in one step: whoever reads it sees the old or the new content, never a half.
///
/// # Errors
/// Exit 73 when it cannot be written.
pub fn replace_file(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = beside(path);
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        Error::cannot_create(path, &error)
    })
}

/// Whether a file can be replaced; it stays as it is.
///
/// # Errors
/// Exit 73 when it cannot.
pub fn replaceable(path: &Path) -> Result<()> {
    if std::fs::metadata(path).is_ok_and(|facts| !facts.is_file()) {
        let message = format!("cannot write {}: it is no plain file", path.display());
        return Err(Error::new(ErrorKind::CannotCreate, message));
    }
    let temporary = beside(path);
    std::fs::File::create(&temporary)
        .and_then(|_| std::fs::remove_file(&temporary))
        .map_err(|error| Error::cannot_create(path, &error))
}

/// Where the next content of a file grows.
fn beside(path: &Path) -> PathBuf {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    folder.join(format!(".{name}.{}.tmp", std::process::id()))
}

/// Waits until the process is asked to stop: Ctrl-C or SIGTERM.
pub async fn stopped() {
    stop_signal().await;
}

/// The same, with the exit code of a run that ends there.
pub async fn stop_signal() -> Exit {
    audit::leave_stopping();
    audit::stop_signal().await
}

/// Whether colour is wanted on a stream: as told, else on a terminal that has it and unless
/// `NO_COLOR` is set.
#[must_use]
pub fn wants_color(when: ColorWhen, is_terminal: bool) -> bool {
    match when {
        ColorWhen::Always => true,
        ColorWhen::Never => false,
        ColorWhen::Auto => {
            is_terminal
                && variable("NO_COLOR").is_none_or(|value| value.is_empty())
                && variable("TERM").is_none_or(|term| term != "dumb")
        }
    }
}

/// The inventory that was named, else the first of the usual places that is there.
#[must_use]
pub fn find_inventory(named: Option<PathBuf>) -> Option<PathBuf> {
    if named.is_some() {
        return named;
    }
    let here = PathBuf::from("servers.yaml");
    if here.exists() {
        return Some(here);
    }
    config_dir().map(|dir| dir.join("servers.yaml")).filter(|path| path.exists())
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

/// Whether a variable is there without a value.
#[must_use]
pub fn is_set_to_nothing(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value.is_empty())
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
