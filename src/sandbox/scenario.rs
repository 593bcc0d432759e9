//! Scenarios: which servers there are and what is wrong with them, from YAML or from code.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize};

use super::bulk::BulkPlan;
use super::fault::{Effect, Fault, duration};
use super::persona::Persona;
use super::sign_in::{Defect, Method, TOKEN_LIFE};
use super::strike::{Share, Window};
use crate::model::server::FhirVersion;
use crate::model::{Error, Location, Result};

/// The path of the FHIR base where no persona says another.
const BASE_PATH: &str = "/fhir";
/// Most servers of one scenario.
pub const MAX_SERVERS: usize = 256;
/// Most synthetic patients of one server.
pub const MAX_PATIENTS: u32 = 5_000;

/// The servers of one sandbox, in the order in which they are listed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub servers: Vec<ServerPlan>,
}

/// One server as it is wanted.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerPlan {
    pub name: String,
    #[serde(default = "r4", deserialize_with = "fhir_version")]
    pub fhir_version: FhirVersion,
    /// Whose behaviour it takes on.
    #[serde(default, rename = "as", deserialize_with = "super::persona::named")]
    pub persona: Option<&'static Persona>,
    /// `None`: as the persona demands, else none.
    #[serde(default)]
    pub auth: Option<Method>,
    /// Whether the sign-in is asked for at `/metadata` too.
    #[serde(default)]
    pub protect_metadata: bool,
    /// What is wrong with the sign-in.
    #[serde(default)]
    pub sign_in_fault: Option<Defect>,
    /// How long a token lives, in seconds.
    #[serde(default = "token_life")]
    pub token_lifetime: u32,
    /// How many synthetic patients it holds, the canary among them.
    #[serde(default = "twenty")]
    pub patients: u32,
    #[serde(default = "one")]
    pub seed: u64,
    #[serde(default)]
    pub tls: bool,
    /// 0: one that the system picks.
    #[serde(default)]
    pub port: u16,
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// A port at which every connection is refused.
    #[serde(default)]
    pub unreachable: bool,
    /// What its bulk data is like, where that is not as the persona's.
    #[serde(default)]
    pub bulk: BulkPlan,
}

impl ServerPlan {
    /// A healthy R4 server without sign-in.
    #[must_use]
    pub fn new(name: impl Into<String>) -> ServerPlan {
        ServerPlan {
            name: name.into(),
            fhir_version: r4(),
            persona: None,
            auth: None,
            protect_metadata: false,
            sign_in_fault: None,
            token_lifetime: TOKEN_LIFE,
            patients: twenty(),
            seed: one(),
            tls: false,
            port: 0,
            faults: Vec::new(),
            unreachable: false,
            bulk: BulkPlan::default(),
        }
    }

    /// The sign-in that it asks for.
    #[must_use]
    pub fn method(&self) -> Method {
        self.auth.or(self.persona.map(|persona| persona.auth)).unwrap_or_default()
    }

    /// The header that carries a secret, where there is one.
    #[must_use]
    pub fn header(&self) -> Option<&'static str> {
        let own = self.persona.and_then(|persona| persona.api_key_header.as_deref());
        own.filter(|_| self.method() == Method::ApiKey).or(self.method().header())
    }

    /// The path of the FHIR base.
    #[must_use]
    pub fn base_path(&self) -> &'static str {
        self.persona.map_or(BASE_PATH, |persona| &persona.base_path)
    }

    /// What its bulk data is like.
    #[must_use]
    pub fn bulk(&self) -> BulkPlan {
        match self.persona {
            Some(persona) => self.bulk.over(&persona.bulk),
            None => self.bulk.clone(),
        }
    }

    /// Whether it speaks TLS: asked for, or because a fault of the certificate needs it.
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        self.tls
            || self.method() == Method::Mtls
            || self.faults.iter().any(|fault| fault.effect.is_certificate())
    }
}

impl Scenario {
    /// One server.
    #[must_use]
    pub fn single(plan: ServerPlan) -> Scenario {
        Scenario { servers: vec![plan] }
    }

    /// Reads a scenario file's text; `path` is for the messages alone.
    ///
    /// # Errors
    /// Exit 78 with file, line and column.
    pub fn parse(path: &Path, text: &str) -> Result<Scenario> {
        // `yes` and `on` are words, as in the inventory.
        let options = serde_yaml::options! { strict_booleans: true };
        let scenario: Scenario =
            serde_yaml::from_str_with_options(text, options).map_err(|error| {
                let (line, column) = match error.location() {
                    Some(at) => (u32::try_from(at.line()).ok(), u32::try_from(at.column()).ok()),
                    None => (None, None),
                };
                let mut place = path.display().to_string();
                if let (Some(line), Some(column)) = (line, column) {
                    place = format!("{place}:{line}:{column}");
                }
                let reason = error.without_snippet().to_string();
                Error::config(format!("{place}: {reason}")).at(Location {
                    file: path.to_owned(),
                    line,
                    column,
                    key: None,
                })
            })?;
        scenario.validate().map_err(|error| {
            let message = format!("{}: {}", path.display(), error.message);
            Error { message, ..error }.at(Location {
                file: path.to_owned(),
                line: None,
                column: None,
                key: None,
            })
        })?;
        Ok(scenario)
    }

    /// What types alone do not say: names that are there and differ, numbers within bounds.
    ///
    /// # Errors
    /// Exit 78, naming the server.
    pub fn validate(&self) -> Result<()> {
        if self.servers.is_empty() {
            return Err(Error::config("a scenario needs at least one server under servers:"));
        }
        if self.servers.len() > MAX_SERVERS {
            return Err(Error::config(format!("a scenario has at most {MAX_SERVERS} servers")));
        }
        for (index, plan) in self.servers.iter().enumerate() {
            let name = &plan.name;
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || !name.chars().all(fits) {
                return Err(Error::config(format!(
                    "servers[{index}].name: {name:?} is no name; use letters, digits, - _ ."
                )));
            }
            if self.servers.iter().take(index).any(|other| other.name == *name) {
                return Err(Error::config(format!(
                    "servers[{index}].name: there are two servers named {name}"
                )));
            }
            if !(1..=MAX_PATIENTS).contains(&plan.patients) {
                return Err(Error::config(format!(
                    "servers[{index}].patients: a server has from 1 to {MAX_PATIENTS} patients"
                )));
            }
            if let Err(why) = plan.bulk.validate() {
                return Err(Error::config(format!("servers[{index}].bulk.{why}")));
            }
            if plan.fhir_version == FhirVersion::Dstu2 {
                return Err(Error::config(format!(
                    "servers[{index}].fhir_version: choose STU3, R4, R4B or R5"
                )));
            }
        }
        Ok(())
    }
}

fn token_life() -> u32 {
    TOKEN_LIFE
}

fn r4() -> FhirVersion {
    FhirVersion::R4
}

fn twenty() -> u32 {
    20
}

fn one() -> u64 {
    1
}

/// The versions that a sandbox serves, by the names of an inventory.
///
/// # Errors
/// What would be right.
pub fn served_version(text: &str) -> Result<FhirVersion, String> {
    match text.to_ascii_uppercase().as_str() {
        "STU3" => Ok(FhirVersion::Stu3),
        "R4" => Ok(FhirVersion::R4),
        "R4B" => Ok(FhirVersion::R4B),
        "R5" => Ok(FhirVersion::R5),
        _ => Err("choose STU3, R4, R4B or R5".into()),
    }
}

fn fhir_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FhirVersion, D::Error> {
    let text = String::deserialize(deserializer)?;
    served_version(&text)
        .map_err(|hint| D::Error::custom(format!("unknown fhir_version {text:?}; {hint}")))
}

/// A fault spelt out: `{kind: status, value: 503, share: 0.5, path: /metadata, from: 10s}`.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FaultRow {
    kind: String,
    #[serde(default)]
    value: Option<Value>,
    #[serde(default)]
    share: Option<f64>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    until: Option<String>,
    #[serde(default)]
    every: Option<String>,
    #[serde(default, rename = "for")]
    lasting: Option<String>,
}

/// A value may be written as a number or as text.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Value {
    Number(u64),
    Text(String),
}

impl FaultRow {
    fn fault(self) -> Result<Fault, String> {
        let value = self.value.map(|value| match value {
            Value::Number(number) => number.to_string(),
            Value::Text(text) => text,
        });
        let time = |name: &str, text: Option<String>| -> Result<Option<Duration>, String> {
            text.map(|text| duration(&text).map_err(|reason| format!("{name}: {reason}")))
                .transpose()
        };
        let window = Window {
            from: time("from", self.from)?.unwrap_or_default(),
            until: time("until", self.until)?,
            every: time("every", self.every)?,
            lasting: time("for", self.lasting)?,
        };
        if window.every.is_some() && window.lasting.is_none() {
            return Err("every: say with for: how long the fault stays each time".into());
        }
        if let Some(path) = &self.path
            && !path.starts_with('/')
        {
            return Err(format!("path: {path:?} has no leading slash"));
        }
        let effect = Effect::make(&self.kind, value.as_deref())?;
        if effect.is_certificate() && self.path.is_some() {
            return Err("path: a certificate is shown before any path is asked for".into());
        }
        Ok(Fault {
            effect,
            share: self.share.map_or(Ok(Share::ALL), Share::new)?,
            path: self.path,
            window,
        })
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fault, D::Error> {
        struct TextOrRow;

        impl<'de> Visitor<'de> for TextOrRow {
            type Value = Fault;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a fault such as latency=2s@0.5, or a map with kind:")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Fault, E> {
                Fault::parse(text).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fault, A::Error> {
                FaultRow::deserialize(MapAccessDeserializer::new(map))?
                    .fault()
                    .map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(TextOrRow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind;

    fn parse(text: &str) -> Result<Scenario> {
        Scenario::parse(Path::new("drill.yaml"), text)
    }

    #[test]
    fn a_scenario_is_read_with_its_defaults() {
        let scenario = parse(
            "servers:\n  - name: good\n  - name: bad\n    fhir_version: R5\n    auth: api-key\n    \
             patients: 3\n    seed: 9\n    tls: true\n    faults:\n      - latency=2s@0.5\n      - \
             {kind: status, value: 503, share: 0.5, path: /metadata, from: 10s, until: 30s}\n      \
             - {kind: drop, every: 1m, for: 5s}\n  - {name: gone, unreachable: true}\n",
        )
        .unwrap();
        assert_eq!(scenario.servers[0], ServerPlan::new("good"));
        let bad = &scenario.servers[1];
        assert_eq!(
            (bad.fhir_version, bad.method(), bad.patients),
            (FhirVersion::R5, Method::ApiKey, 3)
        );
        assert_eq!(bad.faults[0], Fault::parse("latency=2s@0.5").unwrap());
        assert_eq!(bad.faults[1].effect, Effect::Status(503));
        assert_eq!(bad.faults[1].path.as_deref(), Some("/metadata"));
        assert_eq!(bad.faults[1].window.from, Duration::from_secs(10));
        assert_eq!(bad.faults[2].window.lasting, Some(Duration::from_secs(5)));
        assert!(scenario.servers[2].unreachable);
    }

    #[test]
    fn a_wrong_scenario_names_file_line_and_column() {
        for (text, place, part) in [
            ("servers:\n  - name: a\n    colour: red\n", "drill.yaml:3:", "colour"),
            ("servers:\n  - name: a\n    faults: [latencie=2s]\n", "drill.yaml:3:", "did you mean"),
            ("servers:\n  - name: a\n    auth: magic\n", "drill.yaml:3:", "magic"),
            ("servers:\n  - name: a\n    fhir_version: R6\n", "drill.yaml:3:", "STU3, R4, R4B"),
            ("servers:\n  - name: a\n    name: b\n", "drill.yaml:3:", "name"),
            (
                "servers:\n  - name: a\n    faults:\n      - {kind: drop, shape: 1}\n",
                "drill.yaml:4:",
                "shape",
            ),
            ("servers: []\n", "drill.yaml: ", "at least one server"),
            ("servers: [{name: a}, {name: a}]\n", "drill.yaml: ", "two servers named a"),
            ("servers: [{name: a b}]\n", "drill.yaml: ", "is no name"),
            ("servers: [{name: a, patients: 0}]\n", "drill.yaml: ", "from 1 to 5000"),
            (
                "servers: [{name: a, faults: [{kind: drop, every: 5s}]}]\n",
                "drill.yaml:1:",
                "with for:",
            ),
            ("- name: a\n", "drill.yaml:1:", ""),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Config);
            assert!(error.message.starts_with(place), "{text}: {}", error.message);
            assert!(error.message.contains(part), "{text}: {}", error.message);
            assert!(error.location.is_some());
        }
    }

    #[test]
    fn a_certificate_fault_implies_tls() {
        let mut plan = ServerPlan::new("a");
        assert!(!plan.speaks_tls());
        plan.faults.push(Fault::parse("certificate-expired@0.5").unwrap());
        assert!(plan.speaks_tls());
    }
}
