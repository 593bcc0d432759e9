//! Why a secret could not be had.

use crate::model::{Error, ErrorKind};

/// An error that names the reference, what happened and what to do, and never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CredentialError {
    pub kind: CredentialErrorKind,
    /// What happened, in one line.
    pub message: String,
    /// What to do next, in one line.
    pub hint: String,
}

/// The sorts of failure that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialErrorKind {
    /// Nothing is there.
    Missing,
    /// It is there but may not be used: permissions, or the rules for `exec:`.
    Refused,
    /// The place itself is not there: no keyring, no identity.
    Unavailable,
    /// The keyring is locked; whether the secret is in it cannot be said.
    Locked,
    /// It did not come in time.
    Timeout,
    /// A program failed or a file did not decrypt.
    Failed,
    /// What came is no usable secret: not text, too long, not a map.
    Malformed,
}

impl CredentialError {
    fn new(kind: CredentialErrorKind, message: String, hint: String) -> CredentialError {
        CredentialError { kind, message, hint }
    }

    pub(super) fn missing(message: String, hint: String) -> CredentialError {
        CredentialError::new(CredentialErrorKind::Missing, message, hint)
    }

    pub(super) fn refused(message: String, hint: String) -> CredentialError {
        CredentialError::new(CredentialErrorKind::Refused, message, hint)
    }

    pub(super) fn unavailable(message: String, hint: String) -> CredentialError {
        CredentialError::new(CredentialErrorKind::Unavailable, message, hint)
    }

    pub(super) fn locked(message: String, hint: String) -> CredentialError {
        CredentialError::new(CredentialErrorKind::Locked, message, hint)
    }

    pub(super) fn timeout(message: String, hint: String) -> CredentialError {
        CredentialError::new(CredentialErrorKind::Timeout, message, hint)
    }

    pub(super) fn failed(message: String, hint: String) -> CredentialError {
        CredentialError::new(CredentialErrorKind::Failed, message, hint)
    }

    pub(super) fn malformed(message: String, hint: String) -> CredentialError {
        CredentialError::new(CredentialErrorKind::Malformed, message, hint)
    }
}

impl From<CredentialError> for Error {
    fn from(error: CredentialError) -> Error {
        Error::new(ErrorKind::Credential, error.message).hint(error.hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Exit;

    #[test]
    fn a_credential_error_ends_a_run_with_77_and_keeps_its_hint() {
        let error = Error::from(CredentialError::missing("gone".into(), "put it back".into()));
        assert_eq!(error.exit(), Exit::NO_PERMISSION);
        assert_eq!(error.hints, ["put it back"]);
    }
}
