//! The kinds of text that an inventory holds, and how each is read.
//!
//! A kind is named in the schema by `x-kind`; the walk over the file and the resolving both read a
//! text by the functions here, so that they cannot disagree.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use jiff::civil::Date;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::link::{base_url, history_url, secret_in_url, url};
use crate::model::Code;
use crate::model::text::nearest;
use crate::stats::sla::{DownWhen, Exclusion, Percent};
use crate::stats::window::ServiceHours;

/// Why a text is not of its kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// What is wrong with the text, which may be repeated.
    Bad(String),
    /// A secret stands in the text: it may not be repeated.
    Secret(String),
}

pub(super) fn bad<T>(text: impl Into<String>) -> Result<T, Flaw> {
    Err(Flaw::Bad(text.into()))
}

/// What a proxy's URL may start with.
pub(super) const PROXY_SCHEMES: &[&str] = &["http", "https", "socks5", "socks5h"];

/// Whether a text is of the kind that the schema names.
pub(super) fn check(kind: &str, text: &str) -> Result<(), Flaw> {
    check_form(kind, text).map_err(|flaw| match (kind, flaw) {
        ("proxy-url", Flaw::Secret(_)) => Flaw::Secret(
            "a password stands in the URL; move it out, as a reference: \
             proxy: {url: \"http://HOST:PORT\", username: USER, password: \"env:VARIABLE\"}"
                .to_owned(),
        ),
        ("history-url", Flaw::Secret(_)) => Flaw::Secret(
            "a password stands in the URL; write it as password beside the url, as a reference"
                .to_owned(),
        ),
        ("smtp-url", Flaw::Secret(_)) => Flaw::Secret(
            "a password stands in the URL; write it as username and password beside it".to_owned(),
        ),
        (_, flaw) => flaw,
    })
}

fn check_form(kind: &str, text: &str) -> Result<(), Flaw> {
    match kind {
        "duration" => duration(text).map(drop),
        "pause" => pause(text).map(drop),
        "base-url" => base_url(text).map(drop),
        "url" => url(text, &["http", "https"]).map(drop),
        "proxy-url" => url(text, PROXY_SCHEMES).map(drop),
        "history-url" => history_url(text),
        "smtp-url" => url(text, &["smtp", "smtps"]).map(drop),
        "address" => address(text).map(drop),
        "network" => network(text).map(drop),
        "percentage" => percentage(text),
        "cron" => super::cron::check(text).map_err(Flaw::Bad),
        "instant" => instant(text).map(drop),
        "day" => day(text).map(drop),
        "name" => name(text),
        "condition" => condition(text).map(drop),
        "header" => header(text),
        "code" => code(text).map(drop),
        "pin" => pin(text),
        "query" => query(text),
        "type" => resource_type(text),
        "exclusion" => exclusion(text),
        "down" => down(text),
        "service-hours" => service_hours(text),
        "zone" => zone(text),
        _ if text.trim().is_empty() => bad("nothing stands here"),
        _ => Ok(()),
    }
}

/// What the schema calls the kind, for messages.
pub(super) fn noun(kind: &str) -> &str {
    match kind {
        "pause" => "duration",
        "base-url" | "url" | "proxy-url" | "history-url" | "smtp-url" => "URL",
        "address" => "IP address",
        "network" => "network",
        "cron" => "cron expression",
        "instant" => "time",
        "header" => "header name",
        "code" => "reason code",
        "query" => "path",
        "type" => "resource type",
        "service-hours" => "service hours",
        "down" => "status",
        "zone" => "time zone",
        "" => "value",
        other => other,
    }
}

fn pause(text: &str) -> Result<Duration, Flaw> {
    humantime::parse_duration(text.trim())
        .or_else(|_| bad("write a number and a unit, such as 250ms, 30s, 5m, 12h or 21d"))
}

fn duration(text: &str) -> Result<Duration, Flaw> {
    match pause(text)? {
        Duration::ZERO => bad("it has to be longer than nothing"),
        other => Ok(other),
    }
}

pub(super) fn address(text: &str) -> Result<IpAddr, Flaw> {
    text.parse().or_else(|_| bad("write an IPv4 or IPv6 address, such as 192.0.2.10"))
}

/// A network, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, Flaw> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .or_else(|_| bad("write a network with its prefix length, such as 198.51.100.0/24"))
}

/// As a fraction: `99.9%` is 0.999.
fn percentage(text: &str) -> Result<(), Flaw> {
    match Percent::parse(text) {
        Ok(percent) if percent > Percent::whole(0) => Ok(()),
        _ => bad("write it above 0% and at most 100%, such as 99.9%"),
    }
}

pub(super) fn instant(text: &str) -> Result<Timestamp, Flaw> {
    text.parse().or_else(|_| {
        bad("write date, time and offset, such as 2026-12-01T22:00:00-05:00 or 2026-12-02T03:00:00Z")
    })
}

pub(super) fn day(text: &str) -> Result<Date, Flaw> {
    if text.len() != 10 {
        return bad("write year, month and day, such as 2027-03-31");
    }
    text.parse().or_else(|_| bad("write year, month and day, such as 2027-03-31"))
}

/// Letters, digits, `-`, `_` and `.`, beginning with a letter or digit.
fn name(text: &str) -> Result<(), Flaw> {
    if text.is_empty() {
        return bad("a name is not empty");
    }
    if text.len() > 128 {
        return bad("a name has at most 128 characters");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return bad("a name is made of letters, digits, - _ and .");
    }
    // One that begins with a hyphen reads as a flag, one with a dot as a hidden file.
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return bad("a name begins with a letter or a digit");
    }
    if SUBCOMMANDS.contains(&text.to_ascii_lowercase().as_str()) {
        return bad("that is a command of fhirctl; choose another name");
    }
    Ok(())
}

/// The words that no server and no group may be named like.
const SUBCOMMANDS: &[&str] = &[
    "demo",
    "init",
    "sandbox",
    "doctor",
    "add",
    "list",
    "show",
    "set",
    "activate",
    "deactivate",
    "rename",
    "remove",
    "maintenance",
    "vendors",
    "lint",
    "expiring",
    "auth",
    "test",
    "check",
    "status",
    "diag",
    "explain",
    "query",
    "monitor",
    "alerts",
    "incidents",
    "resolve",
    "failover",
    "bulk-export",
    "bulk-import",
    "sync",
    "migrate",
    "run",
    "subscribe",
    "listen",
    "changes",
    "smart",
    "report",
    "history",
    "backup",
    "audit",
    "completions",
    "man",
    "schema",
    "version",
    "help",
    "on",
    "off",
    "login",
    "token",
    "rotate",
    "forget",
    "jwks",
    "pins",
    "accept",
    "ack",
    "silence",
    "note",
    "close",
    "drill",
    "switch",
    "resume",
    "cancel",
    "verify",
    "launch",
    "import",
    "export",
    "prune",
    "compact",
    "create",
    "restore",
    "replicate",
    "log",
    "head",
];

/// `key=value` and `key!=value`, joined by commas; all have to hold.
pub(super) fn condition(text: &str) -> Result<Vec<Term>, Flaw> {
    let mut terms = Vec::new();
    for part in text.split(',') {
        let Some((key, value)) = part.split_once('=') else {
            return bad("write key=value or key!=value, joined by commas");
        };
        let (key, equal) = match key.strip_suffix('!') {
            Some(key) => (key, false),
            None => (key, true),
        };
        // `key==value` is how some tools write it.
        let value = value.strip_prefix('=').unwrap_or(value);
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() {
            return bad("write key=value or key!=value, joined by commas");
        }
        terms.push(Term { key: key.to_owned(), value: value.to_owned(), equal });
    }
    Ok(terms)
}

/// One part of a condition on labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) equal: bool,
}

impl Term {
    /// Whether it holds for the value that a server has; a server without the key has no value.
    pub(super) fn holds(&self, value: Option<&str>) -> bool {
        (value == Some(self.value.as_str())) == self.equal
    }
}

fn header(text: &str) -> Result<(), Flaw> {
    match http::HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(_) => bad("a header's name has no spaces and no colon, such as X-Tenant"),
    }
}

/// Whether a header of this name carries a credential.
pub(super) fn is_secret_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.as_str(), "authorization" | "proxy-authorization" | "cookie" | "apikey")
        || ["token", "secret", "password", "api-key", "apikey", "subscription-key", "access-key"]
            .iter()
            .any(|word| name.contains(word))
}

pub(super) fn code(text: &str) -> Result<Code, Flaw> {
    if let Some(code) = Code::find(text) {
        return Ok(code);
    }
    match nearest(text, Code::all().map(|row| row.code.as_str())) {
        Some(near) => bad(format!("did you mean \"{near}\"?")),
        None => bad("fhirctl explain lists all codes"),
    }
}

fn pin(text: &str) -> Result<(), Flaw> {
    use base64::Engine as _;
    let digest = text
        .strip_prefix("sha256/")
        .and_then(|rest| base64::engine::general_purpose::STANDARD.decode(rest).ok());
    match digest {
        Some(bytes) if bytes.len() == 32 => Ok(()),
        _ => bad("write sha256/ and the base64 of the 32 bytes of the public key's digest"),
    }
}

/// A path below the base URL, perhaps with a query.
fn query(text: &str) -> Result<(), Flaw> {
    secret_in_url(text)?;
    if text.trim().is_empty() {
        return bad("nothing stands here");
    }
    // Behind the question mark stand values, and those of FHIR are often URLs: a code's system.
    let path = text.split('?').next().unwrap_or_default();
    if path.contains("://") || path.starts_with("//") {
        return bad("write a path below the server's base URL, such as Patient?_summary=count");
    }
    if text.chars().any(|c| c.is_control() || c == '#') {
        return bad("a path has no # and no control characters");
    }
    Ok(())
}

fn resource_type(text: &str) -> Result<(), Flaw> {
    let upper = text.starts_with(|c: char| c.is_ascii_uppercase());
    if upper && text.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Ok(());
    }
    bad("write it as FHIR does, such as Patient")
}

/// What an agreement leaves out.
fn exclusion(text: &str) -> Result<(), Flaw> {
    let write = "write maintenance, or party= with ours, network, identity_provider, vendor or undetermined";
    Exclusion::parse(text).map(drop).or_else(|_| bad(write))
}

/// What an agreement calls down.
fn down(text: &str) -> Result<(), Flaw> {
    let known = match DownWhen::parse(text) {
        Ok(DownWhen::Code(code)) if !code.ends_with('*') => Code::find(&code).is_some(),
        Ok(_) => true,
        Err(_) => false,
    };
    if known {
        return Ok(());
    }
    bad(
        "write critical, warning or unknown, a reason code such as http.status, or a family such as tcp.*",
    )
}

/// `24x7`, or days and hours.
fn service_hours(text: &str) -> Result<(), Flaw> {
    ServiceHours::parse(text).map(drop).or_else(bad)
}

/// By its form only: the machine's own list of zones is not the inventory's business.
fn zone(text: &str) -> Result<(), Flaw> {
    let part = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+'))
    };
    if text == "UTC" || (text.contains('/') && text.split('/').all(part)) {
        return Ok(());
    }
    bad("write a name of the time zone database, such as America/New_York or UTC")
}

/// A length of time above nothing, such as `30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Length(pub(super) Duration);

/// A length of time that may be nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pause(pub(super) Duration);

macro_rules! length {
    ($type:ident, $kind:literal, $read:path) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                $read(&text).map($type).map_err(|_| serde::de::Error::custom("not a duration"))
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                $kind.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": "^ *[0-9]+ *[a-zA-Z]+( *[0-9]+ *[a-zA-Z]+)* *$",
                    "x-kind": $kind,
                    "examples": ["500ms", "30s", "5m", "21d"],
                })
            }
        }
    };
}

length!(Length, "duration", duration);
length!(Pause, "pause", pause);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_by_their_kind() {
        for (kind, text) in [
            ("duration", "250ms"),
            ("duration", "10y"),
            ("pause", "0s"),
            ("network", "198.51.100.0/24"),
            ("network", "::1"),
            ("percentage", "99.95%"),
            ("instant", "2026-12-01T22:00:00-05:00"),
            ("day", "2027-03-31"),
            ("name", "epic-prod_2.eu"),
            ("condition", "env=prod,region!=us"),
            ("header", "X-Tenant"),
            ("code", "tcp.refused"),
            ("query", "Patient?_summary=count"),
            ("query", "Observation?code=http://loinc.org|8480-6"),
            ("exclusion", "party=identity_provider"),
            ("zone", "America/Argentina/Buenos_Aires"),
            ("pin", "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
            ("history-url", "sqlite:servers.history.db"),
            ("history-url", "postgresql://fhirctl@db.example.org:5432/fhirctl?sslmode=require"),
            ("history-url", "postgres:///fhirctl?host=/run/postgresql&user=fhirctl"),
            ("url", "https://ops.example.org/hooks/fhir?x=1"),
        ] {
            assert_eq!(check(kind, text), Ok(()), "{kind} {text}");
        }
        for (kind, text) in [
            ("duration", "5"),
            ("duration", "0s"),
            ("duration", "99999999999999999999y"),
            ("network", "198.51.100.0/33"),
            ("percentage", "99.9"),
            ("percentage", "101%"),
            ("percentage", "NaN%"),
            ("instant", "2026-12-01"),
            ("day", "2027-02-30"),
            ("name", ""),
            ("name", "a b"),
            ("name", "-a"),
            ("name", "check"),
            ("condition", "prod"),
            ("header", "X Tenant"),
            ("code", "tcp.refuzed"),
            ("query", "https://elsewhere.example.org/x"),
            ("zone", "Nowhere"),
            ("pin", "sha256/abc"),
            ("history-url", "mysql:x"),
            ("type", "patient"),
        ] {
            assert!(matches!(check(kind, text), Err(Flaw::Bad(_))), "{kind} {text}");
        }
        for text in [
            "postgresql://fhirctl:secret@db.example.org/fhirctl",
            "postgresql://fhirctl:@db.example.org/fhirctl",
            "postgresql://fhirctl@sec@ret@db.example.org/fhirctl",
            "postgresql://fhirctl@db.example.org/fhirctl?password=secret",
        ] {
            assert!(matches!(check("history-url", text), Err(Flaw::Secret(_))), "{text}");
        }
    }
}
