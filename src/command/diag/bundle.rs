//! `--bundle`: everything that was found, in one archive that a vendor's support can read.
//!
//! What goes in is made from the redacted output alone: our words, the facts, and the commands with
//! their secrets in variables. A server's own words stay out: they may speak of a patient.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::script;
use crate::diag::{Desk, TopicName};
use crate::model::error::io_reason;
use crate::model::{Error, ErrorKind, Result};
use crate::render::{self, Format, Output, Style};

/// The file of an archive, taken before anything is sent.
pub(super) struct Claimed {
    pub path: PathBuf,
    file: File,
}

/// Takes the name of the archive.
///
/// # Errors
/// Exit 73 when there is something already, or it cannot be written.
pub(super) fn claim(path: &Path) -> Result<Claimed> {
    let cannot = |error: &std::io::Error| {
        let shown = path.display();
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return Error::new(ErrorKind::CannotCreate, format!("{shown} is there already"))
                .hint("name another file; nothing is overwritten");
        }
        Error::new(ErrorKind::CannotCreate, format!("cannot write {shown}: {}", io_reason(error)))
    };
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| cannot(&error))?;
    Ok(Claimed { path: path.to_owned(), file })
}

/// Writes the archive: `README.txt`, `diag.md`, `diag.json` and `commands.sh`, in a folder.
///
/// # Errors
/// Exit 74 when it cannot be written to its end; then nothing of it is left.
pub(super) fn write(
    claimed: Claimed,
    desk: &Desk,
    topics: &[TopicName],
    output: &Output,
) -> Result<()> {
    let Claimed { path, file } = claimed;
    let style = Style { color: false, width: None };
    let members = [
        ("README.txt", readme(desk)),
        ("diag.json", render::render(output, Format::Json, style)?),
        ("diag.md", render::render(output, Format::Markdown, style)?),
        ("commands.sh", render::render(&script(desk, topics)?, Format::Table, style)?),
    ];
    let folder = format!("fhirctl-diag-{}", desk.server.name);
    pack(file, &folder, &members).map_err(|error| {
        // Half an archive helps nobody.
        let _ = std::fs::remove_file(&path);
        let shown = path.display();
        Error::new(ErrorKind::Io, format!("cannot write {shown}: {}", io_reason(&error)))
    })
}

fn pack(file: File, folder: &str, members: &[(&str, String)]) -> std::io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, text) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, format!("{folder}/{name}"), text.as_bytes())?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()
}

fn readme(desk: &Desk) -> String {
    format!(
        "A diagnosis of the FHIR server {} at {}, made by fhirctl {}.\n\n\
         diag.md      what was found, to read\n\
         diag.json    the same for programs\n\
         commands.sh  commands that look at the same things by hand; secrets stand in variables\n\n\
         There is no secret, no token and no patient data in it; the server's own words are left out.\n",
        desk.server.name,
        desk.server.url,
        env!("CARGO_PKG_VERSION"),
    )
}
