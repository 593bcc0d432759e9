//! Personas: how a vendor's server behaves where a client can notice, compiled in from
//! `data/personas/`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Deserializer};

use super::bulk::BulkPlan;
use super::sign_in::Method;
use crate::model::text::nearest;

/// One line per persona, by name.
const FILES: &[(&str, &str)] = &[
    ("aidbox", include_str!("../../data/personas/aidbox.yaml")),
    ("altera", include_str!("../../data/personas/altera.yaml")),
    ("athenahealth", include_str!("../../data/personas/athenahealth.yaml")),
    ("azure-fhir", include_str!("../../data/personas/azure-fhir.yaml")),
    ("blaze", include_str!("../../data/personas/blaze.yaml")),
    ("bulk-smart", include_str!("../../data/personas/bulk-smart.yaml")),
    ("cerner", include_str!("../../data/personas/cerner.yaml")),
    ("cerner-open", include_str!("../../data/personas/cerner-open.yaml")),
    ("epic", include_str!("../../data/personas/epic.yaml")),
    ("epic-sandbox", include_str!("../../data/personas/epic-sandbox.yaml")),
    ("firely", include_str!("../../data/personas/firely.yaml")),
    ("firely-public", include_str!("../../data/personas/firely-public.yaml")),
    ("google", include_str!("../../data/personas/google.yaml")),
    ("hapi", include_str!("../../data/personas/hapi.yaml")),
    ("hapi-public", include_str!("../../data/personas/hapi-public.yaml")),
    ("healthlake", include_str!("../../data/personas/healthlake.yaml")),
    ("helios", include_str!("../../data/personas/helios.yaml")),
    ("ibm-fhir", include_str!("../../data/personas/ibm-fhir.yaml")),
    ("inferno-ref", include_str!("../../data/personas/inferno-ref.yaml")),
    ("medplum", include_str!("../../data/personas/medplum.yaml")),
    ("ms-fhir-server", include_str!("../../data/personas/ms-fhir-server.yaml")),
    ("proxy-apim", include_str!("../../data/personas/proxy-apim.yaml")),
    (
        "proxy-google-fhir-gateway",
        include_str!("../../data/personas/proxy-google-fhir-gateway.yaml"),
    ),
    ("proxy-kong", include_str!("../../data/personas/proxy-kong.yaml")),
    ("smart-launcher", include_str!("../../data/personas/smart-launcher.yaml")),
    ("smart-r4", include_str!("../../data/personas/smart-r4.yaml")),
    ("smilecdr", include_str!("../../data/personas/smilecdr.yaml")),
    ("soarian", include_str!("../../data/personas/soarian.yaml")),
    ("veradigm", include_str!("../../data/personas/veradigm.yaml")),
];

/// How a vendor's server behaves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Persona {
    /// As the preset's.
    pub name: String,
    /// What is particular about it.
    pub about: String,
    /// The path of the FHIR base; empty at the root of the host.
    pub base_path: String,
    /// The sign-in that it demands.
    pub auth: Method,
    #[serde(default)]
    pub protect_metadata: bool,
    /// What its CapabilityStatement says of itself. An empty software leaves the element out.
    #[serde(default)]
    pub software: Option<String>,
    #[serde(default)]
    pub software_version: Option<String>,
    #[serde(default)]
    pub publisher: Option<String>,
    #[serde(default)]
    pub copyright: Option<String>,
    /// Headers of every answer; `{fhir}` stands for the version that is served, as `4.0.1/R4`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The media type of FHIR JSON, where it is not the standard's.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Whether it knows XML; if not, it answers 406 with nothing.
    #[serde(default = "yes")]
    pub xml: bool,
    /// `None`: there is no such endpoint.
    #[serde(default)]
    pub health: Option<Health>,
    #[serde(default)]
    pub smart_configuration: SmartConfiguration,
    /// How it refuses those who ask too often, where that differs from plain HTTP.
    #[serde(default)]
    pub throttle: Option<Throttle>,
    /// Whether a path outside of the FHIR base is answered with 200 and a page of HTML.
    #[serde(default)]
    pub soft_404: bool,
    /// The header of its API key.
    #[serde(default)]
    pub api_key_header: Option<String>,
    /// What its bulk data is like.
    #[serde(default)]
    pub bulk: BulkPlan,
    /// The challenge of its 401.
    #[serde(default)]
    pub challenge: Option<String>,
}

/// A health endpoint, well and ill.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// From the root of the host.
    pub path: String,
    pub status: u16,
    pub content_type: String,
    pub body: String,
    pub down: Down,
}

/// What it answers when it is down.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Down {
    pub status: u16,
    pub body: String,
}

/// Whether there is a SMART configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SmartConfiguration {
    /// Where the sign-in has one.
    #[default]
    BySignIn,
    Never,
    /// Without a token endpoint while there is no sign-in.
    Always,
}

/// The answer of a server that is asked too often. In headers and body `{seconds}` and `{ms}` stand
/// for the time to wait.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throttle {
    #[serde(default)]
    pub retry_after: Wait,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// In the place of an OperationOutcome.
    #[serde(default)]
    pub page: Option<Page>,
}

/// What `Retry-After` is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wait {
    #[default]
    Seconds,
    /// The time at which to come back, in milliseconds since 1970; no standard knows this.
    EpochMs,
    /// It is not sent.
    Absent,
}

/// A body that is no FHIR.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    pub content_type: String,
    pub body: String,
}

impl Persona {
    /// The names of all.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FILES.iter().map(|(name, _)| *name)
    }

    /// The persona of a preset.
    ///
    /// # Errors
    /// What would be right.
    pub fn find(name: &str) -> Result<&'static Persona, String> {
        // Each is read when it is first asked for.
        static READ: [OnceLock<Option<Persona>>; FILES.len()] =
            [const { OnceLock::new() }; FILES.len()];
        let index = FILES.iter().position(|(known, _)| *known == name);
        let found = index.and_then(|index| {
            READ[index].get_or_init(|| serde_yaml::from_str(FILES[index].1).ok()).as_ref()
        });
        found.ok_or_else(|| match nearest(name, Persona::names()) {
            Some(near) => format!("no such preset; did you mean {near}?"),
            None => format!(
                "no such preset; there are {}",
                Persona::names().collect::<Vec<_>>().join(", ")
            ),
        })
    }
}

/// Reads the name of a persona in a scenario.
pub(super) fn named<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'static Persona>, D::Error> {
    let name = String::deserialize(deserializer)?;
    Persona::find(&name).map(Some).map_err(serde::de::Error::custom)
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::serve::{HeaderName, HeaderValue};

    #[test]
    fn every_persona_reads_and_bears_its_own_name() {
        for (name, text) in FILES {
            let read: Persona =
                serde_yaml::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(&read.name, name);
            assert!(read.base_path.is_empty() || read.base_path.starts_with('/'), "{name}");
            assert!(!read.base_path.ends_with('/'), "{name}");
            let throttle = read.throttle.iter().flat_map(|throttle| &throttle.headers);
            for (header, value) in read.headers.iter().chain(throttle) {
                let plain = HeaderName::from_bytes(header.as_bytes()).is_ok()
                    && HeaderValue::from_str(value).is_ok();
                assert!(plain, "{name}: {header}: {value}");
            }
            assert_eq!(read.bulk.validate(), Ok(()), "{name}");
            if let Some(health) = &read.health {
                assert!(health.path.starts_with('/'), "{name}");
                for status in [health.status, health.down.status] {
                    assert!((200..600).contains(&status), "{name}: {status}");
                }
            }
        }
        assert!(Persona::find("hapy").unwrap_err().contains("hapi"));
    }

    #[test]
    fn every_preset_has_a_persona_and_every_persona_a_preset() {
        let folder = |name: &str| -> BTreeSet<String> {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name);
            let files = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
        };
        let compiled: BTreeSet<String> = Persona::names().map(str::to_owned).collect();
        assert_eq!(compiled, folder("vendors"));
        assert_eq!(compiled, folder("personas"));
    }
}
