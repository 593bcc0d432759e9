//! Errors that end a run, and the exit codes they end it with.
//!
//! A sick server is not an error: it is data. An [`Error`] is for what could not be run at all.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

/// The exit codes of the program, after `sysexits.h`; verdicts use 0 to 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    pub const OK: Exit = Exit(0);
    pub const WARNING: Exit = Exit(1);
    pub const CRITICAL: Exit = Exit(2);
    pub const UNKNOWN: Exit = Exit(3);
    pub const USAGE: Exit = Exit(64);
    pub const DATA: Exit = Exit(65);
    pub const NO_INPUT: Exit = Exit(66);
    pub const UNAVAILABLE: Exit = Exit(69);
    pub const CANT_CREATE: Exit = Exit(73);
    pub const IO: Exit = Exit(74);
    pub const RESUMABLE: Exit = Exit(75);
    pub const NO_PERMISSION: Exit = Exit(77);
    pub const CONFIG: Exit = Exit(78);
    pub const INTERRUPTED: Exit = Exit(130);
    pub const TERMINATED: Exit = Exit(143);
}

/// What kind of trouble ended the run; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    Usage,
    Data,
    NotFound,
    Unavailable,
    CannotCreate,
    Io,
    Resumable,
    Credential,
    Config,
    Interrupted,
    Terminated,
    Internal,
}

impl ErrorKind {
    #[must_use]
    pub fn exit(self) -> Exit {
        match self {
            ErrorKind::Usage => Exit::USAGE,
            ErrorKind::Data => Exit::DATA,
            ErrorKind::NotFound => Exit::NO_INPUT,
            ErrorKind::Unavailable => Exit::UNAVAILABLE,
            ErrorKind::CannotCreate => Exit::CANT_CREATE,
            ErrorKind::Io | ErrorKind::Internal => Exit::IO,
            ErrorKind::Resumable => Exit::RESUMABLE,
            ErrorKind::Credential => Exit::NO_PERMISSION,
            ErrorKind::Config => Exit::CONFIG,
            ErrorKind::Interrupted => Exit::INTERRUPTED,
            ErrorKind::Terminated => Exit::TERMINATED,
        }
    }
}

/// A place in a file. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    pub file: PathBuf,
    pub line: Option<u32>,
    pub column: Option<u32>,
    /// The key path inside the file, such as `servers[2].auth.method`.
    pub key: Option<String>,
}

/// An error with what a tired person needs: what happened, where, and what to do next.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    /// What happened, in one or several lines, without a trailing newline.
    pub message: String,
    pub location: Option<Location>,
    /// What to try, first things first.
    pub hints: Vec<String>,
}

impl Error {
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), location: None, hints: Vec::new() }
    }

    #[must_use]
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Usage, message)
    }

    #[must_use]
    pub fn config(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Config, message)
    }

    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::NotFound, message)
    }

    #[must_use]
    pub fn credential(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Credential, message)
    }

    #[must_use]
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Internal, message)
    }

    /// An input or output error on a path: not found is 66, all others 74.
    #[must_use]
    pub fn io(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Error {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        Error::new(kind, format!("cannot {doing} {}: {}", path.display(), io_reason(error)))
    }

    /// An output file or directory that cannot be made: 73.
    #[must_use]
    pub fn cannot_create(path: &std::path::Path, error: &std::io::Error) -> Error {
        Error::new(
            ErrorKind::CannotCreate,
            format!("cannot write {}: {}", path.display(), io_reason(error)),
        )
    }

    #[must_use]
    pub fn at(mut self, location: Location) -> Error {
        self.location = Some(location);
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hints.push(hint.into());
        self
    }

    #[must_use]
    pub fn exit(&self) -> Exit {
        self.kind.exit()
    }
}

/// What a library could not do for reasons of its own, with the whole chain of them.
impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Error {
        Error::internal(format!("{error:#}"))
    }
}

/// The operating system's words without Rust's `(os error N)`.
#[must_use]
pub fn io_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
