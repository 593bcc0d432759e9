//! `completions SHELL`: the script that lets a shell complete commands, options, server names
//! and reason codes.

use clap::{Args, ValueEnum};
use clap_complete::env::Shells;

use crate::context::{Context, Outcome};
use crate::model::{Error, Result};
use crate::render::{Block, Output};

/// Print the script that makes a shell complete commands, options and server names
///
/// The script asks fhirctl itself for the words, so that it never grows old:
///
///   bash:        source <(fhirctl completions bash)
///   zsh:         source <(fhirctl completions zsh)
///   fish:        fhirctl completions fish | source
///   elvish:      eval (fhirctl completions elvish | slurp)
///   powershell:  fhirctl completions powershell | Out-String | Invoke-Expression
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
    Elvish,
}

impl Shell {
    pub const ALL: [Shell; 5] =
        [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Powershell, Shell::Elvish];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
            Shell::Powershell => "powershell",
            Shell::Elvish => "elvish",
        }
    }

    /// The name under which packages install the script.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Shell::Bash => "fhirctl.bash",
            Shell::Zsh => "_fhirctl",
            Shell::Fish => "fhirctl.fish",
            Shell::Powershell => "fhirctl.ps1",
            Shell::Elvish => "fhirctl.elv",
        }
    }
}

/// # Errors
/// When the script cannot be made, which is a fault of this program.
pub fn run(args: &CompletionsArgs, _context: &Context) -> Result<Outcome> {
    let script = script(args.shell)?;
    Ok(Outcome::printed(Output {
        json: serde_json::json!({
            "schema": "fhirctl/completions/v1",
            "shell": args.shell.name(),
            "script": script,
        }),
        document: vec![Block::Verbatim(script)],
        ..Output::default()
    }))
}

/// The script of a shell. It calls `fhirctl` from the path, with `COMPLETE` set.
///
/// # Errors
/// When the script cannot be made, which is a fault of this program.
pub fn script(shell: Shell) -> Result<String> {
    let fault =
        |error: &dyn std::fmt::Display| Error::internal(format!("cannot make the script: {error}"));
    let shells = Shells::builtins();
    let completer =
        shells.completer(shell.name()).ok_or_else(|| fault(&"this shell is not known"))?;
    let mut script = Vec::new();
    completer
        .write_registration("COMPLETE", "fhirctl", "fhirctl", "fhirctl", &mut script)
        .map_err(|error| fault(&error))?;
    String::from_utf8(script).map_err(|error| fault(&error))
}
