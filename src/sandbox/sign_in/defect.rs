//! What can be wrong with a sign-in on purpose.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::sandbox::fault::duration;

/// One thing that is wrong with a server's sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The provider expects another audience than its token endpoint.
    Audience,
    /// Its clock is ahead by so much.
    Clock(Duration),
    /// It does not find the client's key.
    KeyUnknown,
    /// It takes no algorithm that the client's key can sign with.
    Algorithm,
    /// It grants less than was asked for.
    ScopeReduced,
    SecretExpired,
    ClientUnknown,
    /// The server names another token endpoint than the one that works.
    Moved,
    /// The token endpoint answers with a page.
    Html,
    NoToken,
    ExpiresText,
    ExpiresZero,
    ExpiresAbsent,
    Redirect,
    /// The published key set never ends within reason.
    HugeKeys,
}

/// Name, value and meaning of each, for the help.
pub const DEFECTS: &[(&str, &str)] = &[
    ("audience", "expects another audience"),
    ("clock=DURATION", "its clock is ahead, such as clock=10m"),
    ("key-unknown", "does not find the client's key"),
    ("algorithm", "refuses the signing algorithm"),
    ("scope-reduced", "grants less than was asked for"),
    ("secret-expired", "says that the secret has ended"),
    ("client-unknown", "does not know the client"),
    ("moved", "another token endpoint is published"),
    ("html", "the token endpoint answers with a page"),
    ("no-token", "200 without a token"),
    ("expires-text", "expires_in as a text"),
    ("expires-zero", "expires_in of 0"),
    ("expires-absent", "no expires_in"),
    ("redirect", "the token endpoint redirects"),
    ("huge-keys", "a published key set of 50 MB"),
];

impl Defect {
    /// By its name; `clock` takes a time.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Defect, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        Ok(match (name, value) {
            ("clock", Some(value)) => Defect::Clock(duration(value)?),
            ("clock", None) => return Err("write clock=10m".into()),
            (_, Some(_)) => return Err(format!("{name} takes no value")),
            ("audience", None) => Defect::Audience,
            ("key-unknown", None) => Defect::KeyUnknown,
            ("algorithm", None) => Defect::Algorithm,
            ("scope-reduced", None) => Defect::ScopeReduced,
            ("secret-expired", None) => Defect::SecretExpired,
            ("client-unknown", None) => Defect::ClientUnknown,
            ("moved", None) => Defect::Moved,
            ("html", None) => Defect::Html,
            ("no-token", None) => Defect::NoToken,
            ("expires-text", None) => Defect::ExpiresText,
            ("expires-zero", None) => Defect::ExpiresZero,
            ("expires-absent", None) => Defect::ExpiresAbsent,
            ("redirect", None) => Defect::Redirect,
            ("huge-keys", None) => Defect::HugeKeys,
            _ => {
                let names: Vec<_> = DEFECTS.iter().map(|(name, _)| *name).collect();
                return Err(format!("choose {}", names.join(", ")));
            }
        })
    }
}

impl<'de> Deserialize<'de> for Defect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Defect, D::Error> {
        Defect::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_the_help_is_read() {
        for (name, _) in DEFECTS {
            let text = name.replace("DURATION", "10m");
            assert!(Defect::parse(&text).is_ok(), "{name}");
        }
        for text in ["", "clock", "html=1", "nothing"] {
            assert!(Defect::parse(text).is_err(), "{text}");
        }
    }
}
