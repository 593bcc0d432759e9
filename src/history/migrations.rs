//! Layouts of the database: dated, forward only.

use crate::model::{Error, ErrorKind};

/// One step from a layout to the next.
pub(super) struct Migration {
    /// The date in the name of its file.
    pub version: i64,
    pub sql: &'static str,
}

/// The layout that this program works with.
pub(super) fn newest(all: &[Migration]) -> i64 {
    all.last().map_or(0, |migration| migration.version)
}

/// Whether a database has the newest layout already.
///
/// # Errors
/// How to say, given a place, that a newer program made it.
pub(super) fn is_known(
    all: &[Migration],
    version: i64,
) -> Result<bool, impl FnOnce(String) -> Error + use<>> {
    let newest = newest(all);
    if version <= newest {
        return Ok(version == newest);
    }
    Err(move |place| {
        Error::new(
            ErrorKind::Config,
            format!("history in {place} was written by a newer fhirctl: its layout is {version}, this program knows {newest}"),
        )
        .hint("use that version, or name another history with --history; this one is left as it is")
    })
}

pub(super) fn missing(all: &[Migration], version: i64) -> impl Iterator<Item = &Migration> {
    all.iter().filter(move |migration| migration.version > version)
}
