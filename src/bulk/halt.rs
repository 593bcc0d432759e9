//! Why a transfer stopped before its end.

use crate::http::{Failure, Stage};
use crate::model::{Code, Error, ErrorKind};

/// A stop with its reason code; decides the exit code.
#[derive(Clone, Debug)]
pub struct Halt {
    pub kind: ErrorKind,
    pub code: Code,
    /// Our words.
    pub message: String,
    pub hint: Option<String>,
    /// The server's own words, for a live screen and never for a log.
    pub server_text: Option<String>,
}

impl Halt {
    #[must_use]
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Halt {
        Halt { kind, code: Code::new(code), message: message.into(), hint: None, server_text: None }
    }

    /// The remote side failed for good.
    #[must_use]
    pub fn failed(code: &'static str, message: impl Into<String>) -> Halt {
        Halt::new(ErrorKind::Unavailable, code, message)
    }

    /// The same command goes on later.
    #[must_use]
    pub fn later(code: &'static str, message: impl Into<String>) -> Halt {
        Halt::new(ErrorKind::Resumable, code, message)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Halt {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn server_text(mut self, text: Option<String>) -> Halt {
        self.server_text = text;
        self
    }

    /// A request that got no answer. Once there is a job to go back to, what the network did is no
    /// end of it.
    #[must_use]
    pub fn of(failure: Failure, is_begun: bool) -> Halt {
        let kind = match failure.code.as_str() {
            code if code.starts_with("auth.") => ErrorKind::Credential,
            _ if failure.stage == Stage::Setup => ErrorKind::Config,
            code if is_begun && !code.starts_with("tls.") => ErrorKind::Resumable,
            _ => ErrorKind::Unavailable,
        };
        Halt {
            kind,
            code: failure.code,
            message: failure.message,
            hint: failure.hint,
            server_text: failure.server_text,
        }
    }
}

impl From<Error> for Halt {
    fn from(error: Error) -> Halt {
        let code = match error.kind {
            ErrorKind::Resumable => "bulk.no_space",
            ErrorKind::Data => "bulk.manifest_invalid",
            _ => "bulk.local",
        };
        Halt {
            kind: error.kind,
            code: Code::new(code),
            message: error.message,
            hint: error.hints.into_iter().next(),
            server_text: None,
        }
    }
}

impl From<Halt> for Error {
    fn from(halt: Halt) -> Error {
        let mut error = Error::new(halt.kind, format!("{} ({})", halt.message, halt.code));
        error.hints.extend(halt.hint);
        if let Some(text) = halt.server_text {
            error.hints.push(format!("the server says: {text}"));
        }
        error
    }
}
