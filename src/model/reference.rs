//! Where a secret is kept, never the secret itself.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

/// A reference to a secret as it stands in the inventory.
///
/// `keyring:NAME/FIELD`, `env:VAR`, `file:PATH`, `age:PATH#FIELD`, or a map `exec: [argv…]`.
/// It holds nothing secret and may be printed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretRef {
    /// An entry of the operating system's keyring.
    Keyring { name: String, field: String },
    /// An environment variable.
    Env { variable: String },
    /// A file that its owner alone can read. Relative to the inventory's folder once resolved.
    File { path: PathBuf },
    /// A command, run without a shell, whose standard output is the secret.
    Exec { argv: Vec<String> },
    /// A field of an encrypted YAML map.
    Age { path: PathBuf, field: String },
}

/// Why a text is no reference. Never repeats the text: it may be the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("a secret stands here in the clear")]
    InTheClear,
    #[error("{0}")]
    Malformed(&'static str),
}

impl SecretRef {
    /// Reads the text form.
    ///
    /// # Errors
    /// [`ReferenceError::InTheClear`] when no known scheme opens the text: then it is most likely
    /// the secret itself. [`ReferenceError::Malformed`] when a scheme is there but its rest is not.
    pub fn parse(text: &str) -> Result<SecretRef, ReferenceError> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(ReferenceError::InTheClear);
        };
        match scheme {
            "keyring" => match rest.split_once('/') {
                Some((name, field)) if !name.is_empty() && !field.is_empty() => {
                    Ok(SecretRef::Keyring { name: name.to_owned(), field: field.to_owned() })
                }
                _ => Err(ReferenceError::Malformed("write it as keyring:NAME/FIELD")),
            },
            "env" if is_variable(rest) => Ok(SecretRef::Env { variable: rest.to_owned() }),
            "env" => Err(ReferenceError::Malformed("write it as env:VARIABLE")),
            "file" if !rest.is_empty() => Ok(SecretRef::File { path: PathBuf::from(rest) }),
            "file" => Err(ReferenceError::Malformed("write it as file:PATH")),
            "age" => match rest.rsplit_once('#') {
                Some((path, field)) if !path.is_empty() && !field.is_empty() => {
                    Ok(SecretRef::Age { path: PathBuf::from(path), field: field.to_owned() })
                }
                _ => Err(ReferenceError::Malformed("write it as age:PATH#FIELD")),
            },
            "exec" => Err(ReferenceError::Malformed(
                "write it as a map with a list: {exec: [\"/path/to/program\", \"argument\"]}",
            )),
            _ => Err(ReferenceError::InTheClear),
        }
    }

    /// The scheme: `keyring`, `env`, `file`, `exec` or `age`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self {
            SecretRef::Keyring { .. } => "keyring",
            SecretRef::Env { .. } => "env",
            SecretRef::File { .. } => "file",
            SecretRef::Exec { .. } => "exec",
            SecretRef::Age { .. } => "age",
        }
    }
}

fn is_variable(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretRef::Keyring { name, field } => write!(f, "keyring:{name}/{field}"),
            SecretRef::Env { variable } => write!(f, "env:{variable}"),
            SecretRef::File { path } => write!(f, "file:{}", path.display()),
            SecretRef::Age { path, field } => write!(f, "age:{}#{field}", path.display()),
            // The arguments may carry what should not be shown; the program's name is enough.
            SecretRef::Exec { argv } => {
                write!(f, "exec:{}", argv.first().map_or("", String::as_str))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Wire {
    Text(String),
    Exec { exec: Vec<String> },
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Wire::deserialize(deserializer) {
            Ok(Wire::Text(text)) => SecretRef::parse(&text).map_err(serde::de::Error::custom),
            Ok(Wire::Exec { exec }) if exec.is_empty() => {
                Err(serde::de::Error::custom("exec needs a program and its arguments"))
            }
            Ok(Wire::Exec { exec }) => Ok(SecretRef::Exec { argv: exec }),
            // The error of an untagged enum could quote the value, which may be a secret.
            Err(_) => Err(serde::de::Error::custom(
                "a secret reference is keyring:NAME/FIELD, env:VAR, file:PATH, age:PATH#FIELD or {exec: [program, …]}",
            )),
        }
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            SecretRef::Exec { argv } => {
                use serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("exec", argv)?;
                map.end()
            }
            other => serializer.collect_str(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_reads_and_prints_the_same() {
        for text in [
            "keyring:epic-prod/key",
            "env:HAPI_PASSWORD",
            "file:/run/secrets/x",
            "age:secrets.age#epic",
        ] {
            assert_eq!(SecretRef::parse(text).map(|r| r.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_secret_in_the_clear_is_refused_without_repeating_it() {
        let error = SecretRef::parse("hunter2").unwrap_err();
        assert_eq!(error, ReferenceError::InTheClear);
        assert!(!error.to_string().contains("hunter2"));
        assert_eq!(SecretRef::parse("pass:word"), Err(ReferenceError::InTheClear));
    }
}
