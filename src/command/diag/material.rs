//! What `validate` is given: resources from files or standard input, profiles from packages.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::diag::Document;
use crate::model::{Error, ErrorKind, Result};

/// Most bytes of one file with resources.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// Most bytes of one definition in a package.
const MOST_DEFINITION: u64 = 8 * 1024 * 1024;
/// Most bytes and files of a package, unpacked.
const MOST_PACKAGE: u64 = 512 * 1024 * 1024;
const MOST_FILES: usize = 50_000;

/// Reads what is to be validated; `-` is standard input.
///
/// # Errors
/// When a file cannot be read, is too long, or is no text.
pub(super) fn documents(paths: &[PathBuf]) -> Result<Vec<Document>> {
    paths.iter().map(|path| document(path)).collect()
}

fn document(path: &Path) -> Result<Document> {
    let name = path.display().to_string();
    let bytes = if path == Path::new("-") {
        bounded(std::io::stdin().lock(), &name, MOST_BYTES)?
    } else {
        bounded(open(path)?, &name, MOST_BYTES)?
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::new(ErrorKind::Data, format!("{name} is no UTF-8 text")))?;
    if text.trim_start_matches('\u{feff}').trim_start().starts_with('<') {
        return Err(Error::new(
            ErrorKind::Data,
            format!("{name} is XML; resources are taken as JSON or NDJSON"),
        ));
    }
    Ok(Document { name, text })
}

/// The texts of the StructureDefinitions in packages: archives (`.tgz`) or unpacked folders.
///
/// # Errors
/// When one cannot be read or is too large.
pub(super) fn definitions(packages: &[PathBuf]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for package in packages {
        if package.is_dir() {
            of_folder(package, &mut found)?;
        } else {
            of_archive(package, &mut found)?;
        }
    }
    Ok(found)
}

fn of_folder(folder: &Path, found: &mut Vec<String>) -> Result<()> {
    let unreadable = |error: &std::io::Error| {
        Error::new(ErrorKind::NotFound, format!("cannot read {}: {error}", folder.display()))
    };
    // An unpacked package has its definitions in a folder of this name.
    let inner = folder.join("package");
    let folder = if inner.is_dir() { inner } else { folder.to_owned() };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(|error| unreadable(&error))? {
        let path = entry.map_err(|error| unreadable(&error))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
        if paths.len() > MOST_FILES {
            return Err(too_large(&folder.display().to_string()));
        }
    }
    paths.sort();
    let mut total = 0;
    for path in paths {
        let name = path.display().to_string();
        let length = path.metadata().map(|known| known.len()).unwrap_or_default();
        total += length;
        if total > MOST_PACKAGE {
            return Err(too_large(&name));
        }
        if length <= MOST_DEFINITION {
            keep(bounded(open(&path)?, &name, MOST_DEFINITION)?, found);
        }
    }
    Ok(())
}

fn of_archive(path: &Path, found: &mut Vec<String>) -> Result<()> {
    let name = path.display().to_string();
    let broken = |error: std::io::Error| {
        Error::new(ErrorKind::Data, format!("{name} is no package (.tgz): {error}"))
    };
    let unpacked = flate2::read::GzDecoder::new(open(path)?).take(MOST_PACKAGE);
    let mut archive = tar::Archive::new(unpacked);
    for (index, entry) in archive.entries().map_err(broken)?.enumerate() {
        let entry = entry.map_err(broken)?;
        if index > MOST_FILES {
            return Err(too_large(&name));
        }
        let is_json = entry
            .path()
            .is_ok_and(|path| path.extension().is_some_and(|extension| extension == "json"));
        if is_json && entry.header().entry_type().is_file() && entry.size() <= MOST_DEFINITION {
            keep(bounded(entry, &name, MOST_DEFINITION)?, found);
        }
    }
    Ok(())
}

/// Keeps a StructureDefinition; everything else in a package is passed over.
fn keep(bytes: Vec<u8>, found: &mut Vec<String>) {
    #[derive(serde::Deserialize)]
    struct Kind {
        #[serde(rename = "resourceType")]
        resource_type: Option<String>,
    }
    let is_definition = serde_json::from_slice::<Kind>(&bytes)
        .is_ok_and(|kind| kind.resource_type.as_deref() == Some("StructureDefinition"));
    if is_definition && let Ok(text) = String::from_utf8(bytes) {
        found.push(text);
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| {
        Error::new(ErrorKind::NotFound, format!("cannot read {}: {error}", path.display()))
    })
}

fn bounded(source: impl Read, name: &str, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::new(ErrorKind::NotFound, format!("cannot read {name}: {error}")))?;
    if bytes.len() as u64 > most {
        return Err(too_large(name));
    }
    Ok(bytes)
}

fn too_large(name: &str) -> Error {
    Error::new(ErrorKind::Data, format!("{name} is too large to be validated at once"))
}
