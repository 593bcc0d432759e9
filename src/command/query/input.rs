//! What a query takes from its user: parameters, headers and a body.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use http::header::{HeaderName, HeaderValue};

use crate::model::{Error, Result};
use crate::query::{LARGEST, Method};

/// A search parameter whose value may stand elsewhere: not on the command line, where every user of
/// the machine sees it.
#[derive(Clone, Debug)]
pub struct Parameter {
    name: String,
    value: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Here(String),
    File(PathBuf),
    StandardInput,
}

/// A header that goes with the request.
#[derive(Clone, Debug)]
pub struct Header(pub (HeaderName, HeaderValue));

/// The longest value of a parameter, in bytes.
const LONGEST_VALUE: u64 = 64 * 1024;

pub(super) fn parameter(text: &str) -> Result<Parameter, String> {
    let (name, value) =
        text.split_once('=').ok_or("write it as NAME=VALUE, NAME=@FILE or NAME=@-")?;
    if name.is_empty() {
        return Err("the name before the = is missing".to_owned());
    }
    let value = match value.strip_prefix('@') {
        Some("-") => Source::StandardInput,
        // A value that begins with the sign itself.
        Some(rest) if rest.starts_with('@') => Source::Here(rest.to_owned()),
        Some("") => return Err("the name of a file after the @ is missing".to_owned()),
        Some(file) => Source::File(file.into()),
        None => Source::Here(value.to_owned()),
    };
    Ok(Parameter { name: name.to_owned(), value })
}

pub(super) fn header(text: &str) -> Result<Header, String> {
    let (name, value) = text.split_once(':').ok_or("write it as NAME: VALUE")?;
    let name: HeaderName = name.trim().parse().map_err(|_| "that is no name of a header")?;
    // A secret has no place on a command line, where every user of the machine sees it.
    if matches!(name.as_str(), "authorization" | "proxy-authorization" | "cookie" | "x-api-key") {
        return Err(format!("{name} is a secret: set auth or extra_headers in the inventory"));
    }
    if matches!(name.as_str(), "host" | "content-length" | "transfer-encoding" | "connection") {
        return Err(format!("{name} is not for users to set"));
    }
    let value = value.trim().parse().map_err(|_| "that value cannot be sent in a header")?;
    Ok(Header((name, value)))
}

/// Parameters with their values; lines end values from files and standard input.
///
/// # Errors
/// When a file cannot be read, is too long, or standard input is named twice.
pub(super) fn read(parameters: &[Parameter]) -> Result<Vec<(String, String)>> {
    let from_input = parameters.iter().filter(|p| matches!(p.value, Source::StandardInput)).count();
    if from_input > 1 {
        return Err(Error::usage("standard input can give one value only"));
    }
    parameters
        .iter()
        .map(|parameter| {
            let value = match &parameter.value {
                Source::Here(value) => value.clone(),
                Source::File(path) => text_of(path)?,
                Source::StandardInput => text_of(Path::new("-"))?,
            };
            Ok((parameter.name.clone(), value))
        })
        .collect()
}

fn text_of(path: &Path) -> Result<String> {
    let bytes = bytes_of(path, LONGEST_VALUE)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::usage(format!("{} is no text", shown(path))))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The body of a request.
///
/// # Errors
/// When it cannot be read or is too long.
pub(super) fn body(path: &Path) -> Result<Vec<u8>> {
    bytes_of(path, LARGEST)
}

fn bytes_of(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(most + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| Error::io("read", path, &error))?;
    if bytes.len() as u64 > most {
        return Err(Error::usage(format!("{} is longer than {most} bytes", shown(path))));
    }
    Ok(bytes)
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// The media type of what is sent, by its first byte (FHIR R4, §3.1.0.9 for patches).
pub(super) fn content_type(body: &[u8], method: Method) -> &'static str {
    match (body.trim_ascii_start().first(), method) {
        (Some(b'<'), _) => "application/fhir+xml",
        (Some(b'['), Method::Patch) => "application/json-patch+json",
        _ => "application/fhir+json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_stand_elsewhere_and_a_secret_not_here() {
        for text in ["family=Smith", "family=@-", "family=@f.txt", "x=@@y"] {
            assert!(parameter(text).is_ok(), "{text}");
        }
        for text in ["family", "=x", "family=@"] {
            assert!(parameter(text).is_err(), "{text}");
        }
        assert!(header("If-Match: W/\"1\"").is_ok());
        for text in ["Authorization: Bearer x", "Cookie: a", "Host: h", "no colon", "a b: c"] {
            assert!(header(text).is_err(), "{text}");
        }
    }
}
