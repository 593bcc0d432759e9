//! `man [DIR]`: the manual pages.

use std::path::{Path, PathBuf};

use clap::Args;
use clap_mangen::Man;

use crate::context::{Context, Outcome};
use crate::model::{Error, Result};
use crate::render::{Block, Output};

/// Print the manual page, or write the pages of all commands into a directory
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Where the pages are written, one a command; without it fhirctl(1) is printed
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// # Errors
/// Exit 73 when a page cannot be written.
pub fn run(args: &ManArgs, command: clap::Command, _context: &Context) -> Result<Outcome> {
    let pages = pages(command)?;
    let Some(directory) = &args.directory else {
        let page = pages.into_iter().next().map(|(_, text)| text).unwrap_or_default();
        return Ok(Outcome::printed(Output {
            json: serde_json::json!({"schema": "fhirctl/man/v1", "page": page, "files": []}),
            document: vec![Block::Verbatim(page)],
            ..Output::default()
        }));
    };
    std::fs::create_dir_all(directory).map_err(|error| Error::cannot_create(directory, &error))?;
    let mut files = Vec::new();
    for (name, text) in pages {
        let path = directory.join(name);
        write(&path, &text)?;
        files.push(path.display().to_string());
    }
    Ok(Outcome::printed(Output {
        json: serde_json::json!({"schema": "fhirctl/man/v1", "page": null, "files": files}),
        document: vec![Block::text(format!(
            "{} pages written to {}",
            files.len(),
            directory.display()
        ))],
        ..Output::default()
    }))
}

/// The pages by file name: `fhirctl.1` first, then one for each command below it.
///
/// # Errors
/// When a page cannot be made, which is a fault of this program.
pub fn pages(mut command: clap::Command) -> Result<Vec<(String, String)>> {
    command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add(&command, &mut pages)?;
    Ok(pages)
}

fn add(command: &clap::Command, pages: &mut Vec<(String, String)>) -> Result<()> {
    // `build` has given each command its full name, `fhirctl-alerts-list`, as its display name.
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .source(concat!("fhirctl ", env!("CARGO_PKG_VERSION")))
        .manual("fhirctl manual");
    let mut text = Vec::new();
    man.render(&mut text)
        .map_err(|error| Error::internal(format!("cannot make a manual page: {error}")))?;
    let mut page = String::from_utf8_lossy(&text).into_owned();
    if pages.is_empty() {
        page.push_str(&exit_status());
    }
    pages.push((format!("{name}.1"), page));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        add(below, pages)?;
    }
    Ok(())
}

/// The codes by which a script goes, as a section of the first page.
fn exit_status() -> String {
    let mut section = String::from(".SH \"EXIT STATUS\"\n");
    for (code, meaning) in EXIT_STATUS {
        section.push_str(&format!(".TP\n\\fB{code}\\fR\n{meaning}\n"));
    }
    section
}

const EXIT_STATUS: [(&str, &str); 13] = [
    ("0", "healthy, or done"),
    ("1", "warning"),
    ("2", "critical"),
    ("3", "unknown: it could not be judged"),
    ("64", "usage: an unknown option, a missing argument"),
    ("65", "data that is not what it says it is"),
    ("66", "nothing matched, no such server, no such file"),
    ("69", "the remote side failed for good"),
    ("73, 74", "output cannot be created; other input or output errors"),
    ("75", "stopped but resumable: run the same command again"),
    ("77", "a credential is missing, refused or not permitted"),
    ("78", "the inventory or configuration is invalid"),
    ("130, 143", "interrupted, state saved"),
];

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| Error::cannot_create(path, &error))
}
