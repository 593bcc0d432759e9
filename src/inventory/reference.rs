//! Values that may stand in the file themselves or be kept elsewhere.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::leaf::Flaw;
use crate::model::SecretRef;
use crate::model::reference::ReferenceError;
use crate::model::server::{HeaderValue, ReadTarget};

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct RawSecret(pub(super) SecretRef);

/// The value of a header: a reference, or a text that is no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawHeaderValue(pub(super) HeaderValue);

/// The record that a read check asks for: its reference, or where that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawCanary(pub(super) ReadTarget);

/// A length of time or a share.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct RawAbove(pub(super) String);

/// Checks the text of a secret reference.
pub(super) fn check_secret(text: &str) -> Result<(), Flaw> {
    SecretRef::parse(text).map(drop).map_err(|error| match error {
        ReferenceError::InTheClear => in_the_clear(),
        // The rest behind a known scheme may be the secret all the same: `file:` of nothing is
        // not, but a password can begin with `env:`.
        ReferenceError::Malformed(how) => Flaw::Secret(format!("no secret reference: {how}")),
    })
}

/// Checks the text of an extra header's value.
pub(super) fn check_header_value(name: &str, text: &str) -> Result<(), Flaw> {
    match SecretRef::parse(text) {
        Ok(_) => Ok(()),
        Err(ReferenceError::Malformed(how)) => {
            Err(Flaw::Secret(format!("no secret reference: {how}")))
        }
        Err(ReferenceError::InTheClear) if super::leaf::is_secret_header(name) => {
            Err(in_the_clear())
        }
        Err(ReferenceError::InTheClear) if text.chars().any(|c| c.is_control()) => {
            Err(Flaw::Bad("a header's value has no control characters".into()))
        }
        Err(ReferenceError::InTheClear) => Ok(()),
    }
}

/// Checks the text of a canary.
pub(super) fn check_canary(text: &str) -> Result<(), Flaw> {
    match SecretRef::parse(text) {
        Ok(_) => Ok(()),
        Err(ReferenceError::Malformed(how)) => Err(Flaw::Bad(how.to_owned())),
        Err(ReferenceError::InTheClear) if is_record(text) => Ok(()),
        Err(ReferenceError::InTheClear) => {
            Err(Flaw::Bad("write type and id, such as Patient/canary-1, or env:VARIABLE".into()))
        }
    }
}

/// Checks a URL that may be kept elsewhere because it is itself a secret.
pub(super) fn check_link(text: &str) -> Result<(), Flaw> {
    match SecretRef::parse(text) {
        Ok(_) => Ok(()),
        Err(_) => super::leaf::check("url", text),
    }
}

/// Checks a bound that is a length of time or a share.
pub(super) fn check_above(text: &str) -> Result<(), Flaw> {
    super::leaf::check("duration", text)
        .or_else(|_| super::leaf::check("percentage", text))
        .map_err(|_| Flaw::Bad("write a time such as 2s, or a share such as 5%".into()))
}

/// How a secret gets out of the file.
pub(super) fn in_the_clear() -> Flaw {
    Flaw::Secret(
        "a secret stands here in the clear; keep it elsewhere and write where: keyring:NAME/FIELD \
         (fhirctl auth set NAME stores it), env:VARIABLE, file:PATH, age:PATH#FIELD or {exec: [program, …]}"
            .to_owned(),
    )
}

fn is_record(text: &str) -> bool {
    text.split_once('/').is_some_and(|(kind, id)| {
        kind.starts_with(|c: char| c.is_ascii_uppercase())
            && kind.chars().all(|c| c.is_ascii_alphanumeric())
            && (1..=64).contains(&id.len())
            && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
    })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Wire {
    Text(String),
    Exec { exec: Vec<String> },
}

impl<'de> Deserialize<'de> for RawHeaderValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)
            .map_err(|_| D::Error::custom("neither a text nor a secret reference"))?;
        Ok(RawHeaderValue(match wire {
            Wire::Exec { exec } => HeaderValue::Secret(SecretRef::Exec { argv: exec }),
            Wire::Text(text) => match SecretRef::parse(&text) {
                Ok(reference) => HeaderValue::Secret(reference),
                Err(_) => HeaderValue::Plain(text),
            },
        }))
    }
}

impl<'de> Deserialize<'de> for RawCanary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)
            .map_err(|_| D::Error::custom("neither a reference nor a secret reference"))?;
        Ok(RawCanary(match wire {
            Wire::Exec { exec } => ReadTarget::Secret(SecretRef::Exec { argv: exec }),
            Wire::Text(text) => match SecretRef::parse(&text) {
                Ok(reference) => ReadTarget::Secret(reference),
                Err(_) => ReadTarget::Reference(text),
            },
        }))
    }
}

const REFERENCE_PATTERN: &str = "^(keyring:[^/]+/.+|env:[A-Za-z_][A-Za-z0-9_]*|file:.+|age:.+#.+)$";

fn exec_schema() -> Schema {
    json_schema!({
        "type": "object",
        "description": "A program and its arguments, run without a shell; what it prints is the secret.",
        "properties": {"exec": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
        "required": ["exec"],
        "additionalProperties": false,
    })
}

macro_rules! described {
    ($type:ident, $name:literal, $kind:literal, $text:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let text = $text;
                json_schema!({"x-kind": $kind, "anyOf": [text, exec_schema()]})
            }
        }
    };
}

described!(
    RawSecret,
    "SecretReference",
    "secret",
    json_schema!({
        "type": "string",
        "description": "keyring:NAME/FIELD, env:VARIABLE, file:PATH or age:PATH#FIELD; never the secret itself.",
        "pattern": REFERENCE_PATTERN,
    })
);
described!(
    RawHeaderValue,
    "HeaderValue",
    "header-value",
    json_schema!({"type": "string", "description": "A text that is no secret, or a secret reference."})
);
described!(
    RawCanary,
    "Canary",
    "canary",
    json_schema!({"type": "string", "description": "Type and id, or a secret reference to them."})
);

impl JsonSchema for RawAbove {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Above".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A time such as 2s, or a share such as 5%.",
            "x-kind": "above",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_where_it_may_not_stand() {
        assert!(matches!(check_secret("hunter2"), Err(Flaw::Secret(_))));
        assert!(matches!(check_secret("env:not a name"), Err(Flaw::Secret(_))));
        assert_eq!(check_secret("env:PASSWORD"), Ok(()));
        assert!(matches!(check_header_value("Authorization", "Bearer x"), Err(Flaw::Secret(_))));
        assert_eq!(check_header_value("X-Tenant", "a"), Ok(()));
        assert_eq!(check_header_value("X-Api-Key", "env:KEY"), Ok(()));
        assert_eq!(check_canary("Patient/canary-1"), Ok(()));
        assert!(check_canary("Patient").is_err());
    }
}
