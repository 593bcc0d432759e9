//! `env:VARIABLE`, and the variables that this room itself listens to.

use std::ffi::OsString;
use std::path::PathBuf;

use zeroize::{Zeroize as _, Zeroizing};

use super::{CredentialError, SECRET_BYTES};
use crate::model::Secret;

/// Where the identity for `age:` references is.
pub const AGE_IDENTITY_FILE: &str = "FHIRCTL_AGE_IDENTITY_FILE";
/// Set to `1`, it lifts the permission rule of `file:`; for container mounts.
pub const ALLOW_READABLE_SECRETS: &str = "FHIRCTL_ALLOW_READABLE_SECRETS";

/// Where variables are looked up.
pub(super) enum Variables {
    /// The process's own environment.
    Process,
    /// A fixed set; changing the process's own is not safe where there are threads.
    #[cfg(test)]
    Fixed(Vec<(String, String)>),
}

impl Variables {
    #[cfg(test)]
    pub(super) fn fixed(pairs: &[(&str, &str)]) -> Variables {
        Variables::Fixed(pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<OsString> {
        match self {
            Variables::Process => std::env::var_os(name),
            #[cfg(test)]
            Variables::Fixed(pairs) => {
                pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.into())
            }
        }
    }

    /// The names that begin like this.
    pub(super) fn names(&self, prefix: &str) -> Vec<OsString> {
        let begins = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with(prefix));
        match self {
            Variables::Process => {
                std::env::vars_os().map(|(name, _)| name).filter(begins).collect()
            }
            #[cfg(test)]
            Variables::Fixed(pairs) => {
                pairs.iter().map(|(name, _)| name.into()).filter(begins).collect()
            }
        }
    }

    pub(super) fn allow_readable(&self) -> bool {
        self.get(ALLOW_READABLE_SECRETS).is_some_and(|value| value == "1" || value == "true")
    }

    pub(super) fn identity_file(&self) -> Option<PathBuf> {
        self.get(AGE_IDENTITY_FILE).filter(|value| !value.is_empty()).map(PathBuf::from)
    }
}

/// The value of a variable, as it is: no newline is taken off.
///
/// # Errors
/// When it is unset or empty, not text, or larger than 64 KiB.
pub(super) fn read(variables: &Variables, name: &str) -> Result<Secret, CredentialError> {
    let missing = |what: &str| {
        CredentialError::missing(
            format!("env:{name}: the environment variable {name} is {what}"),
            format!(
                "set {name} for this process, or name another place such as keyring:, file: or age:"
            ),
        )
    };
    let value = variables.get(name).ok_or_else(|| missing("not set"))?;
    let value = match value.into_string() {
        Ok(text) => Zeroizing::new(text),
        Err(other) => {
            other.into_encoded_bytes().zeroize();
            return Err(CredentialError::malformed(
                format!("env:{name}: the environment variable {name} is not UTF-8 text"),
                "a secret is text; encode a binary key as PEM".into(),
            ));
        }
    };
    if value.is_empty() {
        return Err(missing("empty"));
    }
    if value.len() > SECRET_BYTES {
        return Err(CredentialError::malformed(
            format!("env:{name}: the environment variable {name} is larger than 64 KiB"),
            "is this the right variable?".into(),
        ));
    }
    Ok(Secret::new(value.as_str().to_owned()))
}
