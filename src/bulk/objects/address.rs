//! Where an export goes: a folder, or an address in an object store.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{Error, Result};

/// Where an export goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Absolute.
    Folder(PathBuf),
    Store(Address),
}

/// A bucket and what names in it begin with, such as `s3://bucket/exports/2026-11`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    pub scheme: Scheme,
    pub bucket: String,
    /// Without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
}

/// Whose store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    S3,
    Gs,
    Az,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Scheme::S3 => "s3",
            Scheme::Gs => "gs",
            Scheme::Az => "az",
        }
    }
}

impl Destination {
    /// Reads what stands behind `--output-dir`.
    ///
    /// # Errors
    /// Exit 64 for an address of nothing that is known here.
    pub fn parse(text: &Path) -> Result<Destination> {
        let shown = text.to_string_lossy();
        match shown.split_once("://") {
            Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
                Address::parse(&shown).map(Destination::Store)
            }
            _ => std::path::absolute(text)
                .map(Destination::Folder)
                .map_err(|error| Error::io("find", text, &error)),
        }
    }
}

impl Address {
    /// # Errors
    /// Exit 64 for what is no address of an object store.
    pub fn parse(text: &str) -> Result<Address> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let scheme = match scheme {
            "s3" => Scheme::S3,
            "gs" => Scheme::Gs,
            "az" => Scheme::Az,
            _ => {
                return Err(Error::usage(format!(
                    "{scheme}:// is no destination: a folder is one, or s3://, gs:// or az://"
                ))
                .hint("write it as s3://BUCKET/PREFIX"));
            }
        };
        let refused = |why: &str| {
            let shown: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
            // Who writes a password into an address shall not read it in a log.
            let shown = match shown.rsplit_once('@') {
                Some((_, rest)) => format!("{}://(redacted)@{rest}", scheme.as_str()),
                None => shown,
            };
            Err(Error::usage(format!("{shown} is no address in an object store: {why}"))
                .hint(format!("write it as {}://BUCKET/PREFIX", scheme.as_str())))
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return refused("the bucket is missing");
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if bucket.len() > 255 || bucket.starts_with('.') || !bucket.chars().all(is_plain) {
            return refused("a bucket has letters, digits, dots and hyphens");
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix.len() > 700 {
            return refused("the prefix is too long");
        }
        for part in prefix.split('/').filter(|_| !prefix.is_empty()) {
            if matches!(part, "" | "." | "..") {
                return refused("a part of the prefix is empty or leads elsewhere");
            }
            if part.chars().any(|c| c.is_control() || "?#*\\\"<>|%{}^`~[]".contains(c)) {
                return refused("the prefix has a character that stores do not agree on");
            }
        }
        Ok(Address { scheme, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// An address below this one.
    #[must_use]
    pub fn join(&self, below: &str) -> Address {
        let prefix = self.key(below);
        Address { prefix, ..self.clone() }
    }

    /// The whole name of an object below this address.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    /// An object below this address, as it is shown.
    #[must_use]
    pub fn object(&self, name: &str) -> String {
        format!("{}://{}/{}", self.scheme.as_str(), self.bucket, self.key(name))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Folder(path) => path.display().fmt(f),
            Destination::Store(address) => address.fmt(f),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = Error;

    fn try_from(text: String) -> Result<Address> {
        Address::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_alike() {
        for (text, shown) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://my-bucket.x/a/b=c/2026-11/", "s3://my-bucket.x/a/b=c/2026-11"),
            ("gs://bucket_1/a b", "gs://bucket_1/a b"),
            ("az://container/a", "az://container/a"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), shown, "{text}");
            assert_eq!(Address::parse(shown).unwrap(), address);
        }
        let address = Address::parse("s3://b/a").unwrap();
        assert_eq!(address.key("error/x.ndjson"), "a/error/x.ndjson");
        assert_eq!(address.join("runs/1").to_string(), "s3://b/a/runs/1");
        assert_eq!(Address::parse("s3://b").unwrap().object("x"), "s3://b/x");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "s3://",
            "s3:///a",
            "s3://b//a",
            "s3://b/../a",
            "s3://b/./a",
            "s3://b/a?versionId=1",
            "s3://b/a#x",
            "s3://b/a\nb",
            "s3://b:9000/a",
            "s3://key:hunter2@b/a",
            "s3://../a",
            "ftp://b/a",
            "https://b/a",
            "file:///tmp/a",
        ] {
            let error = Destination::parse(Path::new(text)).unwrap_err();
            assert_eq!(error.kind, crate::model::ErrorKind::Usage, "{text}");
            assert!(!error.message.contains("hunter2"), "{}", error.message);
        }
    }

    #[test]
    fn what_has_no_scheme_is_a_folder() {
        for text in ["/a/b", "/a/s3:/b", "/a b://c"] {
            let found = Destination::parse(Path::new(text)).unwrap();
            assert_eq!(found, Destination::Folder(PathBuf::from(text)), "{text}");
        }
    }
}
