//! Capability drift: what a server offered once against what it offers now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::text::{bounded, one_line};
use crate::model::{Error, ErrorKind, Location, Result};

use super::capability::{Capability, Resource, SearchParam, format_family};

/// The schema of a baseline file.
pub const BASELINE_SCHEMA: &str = "fhirctl/baseline/v1";

/// What a statement offers, without order, dates and texts: two equal ones mean the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Snapshot {
    pub fhir_version: Option<String>,
    /// Name and version.
    pub software: Option<String>,
    pub formats: BTreeSet<String>,
    pub security_services: BTreeSet<String>,
    /// Of the `oauth-uris` extension.
    pub oauth_uris: BTreeMap<String, String>,
    /// Of the whole system.
    pub interactions: BTreeSet<String>,
    pub operations: BTreeSet<String>,
    /// Name to type.
    pub search_parameters: BTreeMap<String, String>,
    /// DSTU2 and STU3: of the whole server.
    pub profiles: BTreeSet<String>,
    /// Canonicals of what it instantiates and of its implementation guides.
    pub guides: BTreeSet<String>,
    pub resources: BTreeMap<String, ResourceSnapshot>,
}

/// What is offered for one type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceSnapshot {
    pub interactions: BTreeSet<String>,
    pub operations: BTreeSet<String>,
    /// Name to type.
    pub search_parameters: BTreeMap<String, String>,
    pub profiles: BTreeSet<String>,
    /// `update-create`, `conditional-create`, … as far as they are offered.
    pub features: BTreeSet<String>,
    pub versioning: Option<String>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Such as `resources.Patient.search_parameters.family`.
    pub path: String,
    pub message: String,
    /// Whether a client that worked before may fail now.
    pub breaking: bool,
}

/// One file that holds what a fleet offered, by server name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineFile {
    pub schema: String,
    pub created_at: Timestamp,
    pub servers: BTreeMap<String, Snapshot>,
}

impl Snapshot {
    /// What a statement offers as a server.
    #[must_use]
    pub fn of(capability: &Capability<'_>) -> Snapshot {
        let mut snapshot = Snapshot {
            fhir_version: capability.fhir_version.as_deref().map(word),
            software: capability.software_label(),
            formats: capability.formats.iter().map(|it| word(&format_family(it))).collect(),
            profiles: capability.profiles.iter().map(|it| word(it)).collect(),
            guides: capability
                .instantiates
                .iter()
                .chain(&capability.implementation_guides)
                .map(|it| word(it))
                .collect(),
            ..Snapshot::default()
        };
        for rest in capability.server_rest() {
            snapshot.security_services.extend(rest.security.services.iter().map(|it| word(it)));
            snapshot
                .oauth_uris
                .extend(rest.security.oauth_uris.iter().map(|(name, uri)| (word(name), word(uri))));
            snapshot.interactions.extend(rest.interactions.iter().map(|it| word(it)));
            snapshot.operations.extend(rest.operations.iter().map(|it| operation(&it.name)));
            parameters(&rest.search_params, &mut snapshot.search_parameters);
            for resource in &rest.resources {
                snapshot.resources.entry(word(&resource.type_)).or_default().add(resource);
            }
        }
        snapshot
    }
}

impl ResourceSnapshot {
    fn add(&mut self, resource: &Resource<'_>) {
        self.interactions.extend(resource.interactions.iter().map(|it| word(it)));
        self.operations.extend(resource.operations.iter().map(|it| operation(&it.name)));
        parameters(&resource.search_params, &mut self.search_parameters);
        let profiles = resource.profile.iter().chain(&resource.supported_profiles);
        self.profiles.extend(profiles.map(|it| word(it)));
        let says = |value: &Option<super::Text<'_>>| {
            value.as_deref().is_some_and(|code| !matches!(code, "not-supported" | "false" | ""))
        };
        let features = [
            ("update-create", resource.update_create == Some(true)),
            ("conditional-create", resource.conditional_create == Some(true)),
            ("conditional-update", resource.conditional_update == Some(true)),
            ("conditional-read", says(&resource.conditional_read)),
            ("conditional-delete", says(&resource.conditional_delete)),
            ("read-history", resource.read_history == Some(true)),
        ];
        for (name, is_offered) in features {
            if is_offered {
                self.features.insert(name.to_owned());
            }
        }
        self.versioning = resource.versioning.as_deref().map(word);
    }
}

fn parameters(list: &[SearchParam<'_>], into: &mut BTreeMap<String, String>) {
    for parameter in list {
        into.insert(word(&parameter.name), word(parameter.type_.as_deref().unwrap_or_default()));
    }
}

fn operation(name: &str) -> String {
    word(name.trim_start_matches('$'))
}

/// A name of the server's, bounded and without controls; it goes into a file and messages.
fn word(text: &str) -> String {
    let is_plain = text.len() <= 200 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain { text.to_owned() } else { bounded(&one_line(text), 200) }
}

/// What differs, in the order of the document; breaking is whatever is less than before.
#[must_use]
pub fn compare(old: &Snapshot, new: &Snapshot) -> Vec<Change> {
    let mut changes = Changes(Vec::new());
    changes.value("fhir_version", "FHIR version", &old.fhir_version, &new.fhir_version, true);
    changes.value("software", "software", &old.software, &new.software, false);
    changes.set("formats", "format", &old.formats, &new.formats, false);
    // One more service may mean that a client has to sign in now.
    changes.set(
        "security_services",
        "security service",
        &old.security_services,
        &new.security_services,
        true,
    );
    changes.map("oauth_uris", "OAuth URI", &old.oauth_uris, &new.oauth_uris);
    changes.set("interactions", "interaction", &old.interactions, &new.interactions, false);
    changes.set("operations", "operation", &old.operations, &new.operations, false);
    changes.map(
        "search_parameters",
        "search parameter",
        &old.search_parameters,
        &new.search_parameters,
    );
    changes.set("profiles", "profile", &old.profiles, &new.profiles, false);
    changes.set("guides", "implementation guide", &old.guides, &new.guides, false);
    for (name, before) in &old.resources {
        match new.resources.get(name) {
            Some(after) => changes.resource(name, before, after),
            None => changes.add(&format!("resources.{name}"), format!("type {name} is gone"), true),
        }
    }
    for name in new.resources.keys().filter(|name| !old.resources.contains_key(*name)) {
        changes.add(&format!("resources.{name}"), format!("type {name} is new"), false);
    }
    changes.0
}

struct Changes(Vec<Change>);

impl Changes {
    fn add(&mut self, path: &str, message: String, breaking: bool) {
        self.0.push(Change { path: path.to_owned(), message, breaking });
    }

    fn value(
        &mut self,
        path: &str,
        what: &str,
        old: &Option<String>,
        new: &Option<String>,
        breaking: bool,
    ) {
        if old != new {
            let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
            self.add(path, format!("{what} was {}, is {}", show(old), show(new)), breaking);
        }
    }

    fn set(
        &mut self,
        path: &str,
        what: &str,
        old: &BTreeSet<String>,
        new: &BTreeSet<String>,
        new_is_breaking: bool,
    ) {
        for gone in old.difference(new) {
            self.add(&format!("{path}.{gone}"), format!("{what} {gone} is gone"), true);
        }
        for added in new.difference(old) {
            self.add(&format!("{path}.{added}"), format!("{what} {added} is new"), new_is_breaking);
        }
    }

    fn map(
        &mut self,
        path: &str,
        what: &str,
        old: &BTreeMap<String, String>,
        new: &BTreeMap<String, String>,
    ) {
        for (name, before) in old {
            let path = format!("{path}.{name}");
            match new.get(name) {
                None => self.add(&path, format!("{what} {name} is gone"), true),
                Some(after) if after != before => {
                    self.add(&path, format!("{what} {name} was {before}, is {after}"), true);
                }
                Some(_) => {}
            }
        }
        for name in new.keys().filter(|name| !old.contains_key(*name)) {
            self.add(&format!("{path}.{name}"), format!("{what} {name} is new"), false);
        }
    }

    fn resource(&mut self, name: &str, old: &ResourceSnapshot, new: &ResourceSnapshot) {
        let path = |part: &str| format!("resources.{name}.{part}");
        let what = |part: &str| format!("{name}: {part}");
        self.set(
            &path("interactions"),
            &what("interaction"),
            &old.interactions,
            &new.interactions,
            false,
        );
        self.set(&path("operations"), &what("operation"), &old.operations, &new.operations, false);
        self.map(
            &path("search_parameters"),
            &what("search parameter"),
            &old.search_parameters,
            &new.search_parameters,
        );
        self.set(&path("profiles"), &what("profile"), &old.profiles, &new.profiles, false);
        self.set(&path("features"), &what("feature"), &old.features, &new.features, false);
        // From no versions to versions takes nothing away; all else may: `versioned-update`
        // refuses writes that worked before.
        let gains = matches!(old.versioning.as_deref(), None | Some("no-version"))
            && new.versioning.as_deref() == Some("versioned");
        self.value(
            &path("versioning"),
            &what("versioning"),
            &old.versioning,
            &new.versioning,
            !gains && old.versioning.is_some(),
        );
    }
}

impl BaselineFile {
    #[must_use]
    pub fn new(created_at: Timestamp, servers: BTreeMap<String, Snapshot>) -> BaselineFile {
        BaselineFile { schema: BASELINE_SCHEMA.to_owned(), created_at, servers }
    }

    /// Reads a baseline from the text of a file; the path is for the error only.
    ///
    /// # Errors
    /// Exit 65 when it is no baseline of this schema, with line and column.
    pub fn parse(text: &str, file: &Path) -> Result<BaselineFile> {
        /// Read first, so that another version is named as such.
        #[derive(Deserialize)]
        struct Head {
            schema: Option<String>,
        }
        let broken = |error: &serde_json::Error| {
            let at = u32::try_from(error.line()).ok().filter(|line| *line > 0);
            let what = error.to_string();
            let what = what.split(" at line ").next().unwrap_or(&what);
            Error::new(
                ErrorKind::Data,
                format!("{} is no baseline: {}", file.display(), bounded(&one_line(what), 200)),
            )
            .at(Location {
                file: file.to_owned(),
                line: at,
                column: at.and(u32::try_from(error.column()).ok()),
                key: None,
            })
            .hint("write it again with fhirctl check --save-baseline FILE")
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let head: Head = serde_json::from_str(text).map_err(|error| broken(&error))?;
        match head.schema.as_deref() {
            Some(BASELINE_SCHEMA) => serde_json::from_str(text).map_err(|error| broken(&error)),
            Some(other) => Err(Error::new(
                ErrorKind::Data,
                format!(
                    "{} has the schema {}, not {BASELINE_SCHEMA}",
                    file.display(),
                    bounded(&one_line(other), 60)
                ),
            )
            .hint("write it again with fhirctl check --save-baseline FILE")),
            None => Err(Error::new(
                ErrorKind::Data,
                format!("{} is no baseline: it names no schema", file.display()),
            )
            .hint("a baseline is written by fhirctl check --save-baseline FILE")),
        }
    }

    /// The text of a file: indented JSON with a final newline, the same for the same content.
    ///
    /// # Errors
    /// None in practice; the types all have a JSON form.
    pub fn print(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map(|text| text + "\n")
            .map_err(|error| Error::internal(format!("cannot write the baseline: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::BodyKind;
    use super::super::capability::parse;
    use super::*;

    const HAPI: &str = include_str!("../../tests/fhir/hapi-r4.json");

    fn snapshot(text: &str) -> Snapshot {
        Snapshot::of(&parse(BodyKind::Json, text.as_bytes()).unwrap())
    }

    #[test]
    fn date_and_order_make_no_difference() {
        let other = HAPI.replace("2026-11-20", "2027-01-01").replace("Not provided", "Somebody");
        let mut value: serde_json::Value = serde_json::from_str(&other).unwrap();
        value["rest"][0]["resource"].as_array_mut().unwrap().reverse();
        value["format"].as_array_mut().unwrap().reverse();
        assert_eq!(compare(&snapshot(HAPI), &snapshot(&value.to_string())), []);
    }

    #[test]
    fn less_is_breaking_and_more_is_not() {
        let cases = [
            (r#""family""#, r#""given""#, "resources.Patient.search_parameters.family", true),
            (r#""family""#, r#""given""#, "resources.Patient.search_parameters.given", false),
            (r#""type": "Observation""#, r#""type": "Claim""#, "resources.Observation", true),
            (r#""type": "Observation""#, r#""type": "Claim""#, "resources.Claim", false),
            (r#""patch""#, r#""reed""#, "resources.Patient.interactions.patch", true),
            (r#""everything""#, r#""nothing""#, "resources.Patient.operations.everything", true),
            (r#""4.0.1""#, r#""4.3.0""#, "fhir_version", true),
            (r#""8.10.0""#, r#""8.11.0""#, "software", false),
            (
                r#""updateCreate": true"#,
                r#""x": 1"#,
                "resources.Patient.features.update-create",
                true,
            ),
            (r#""batch""#, r#""bitch""#, "interactions.batch", true),
            (
                "StructureDefinition/vitalsigns",
                "StructureDefinition/x",
                "resources.Patient.profiles.http://hl7.org/fhir/StructureDefinition/vitalsigns|4.0.1",
                true,
            ),
            (
                r#""type": "date""#,
                r#""type": "string""#,
                "resources.Patient.search_parameters.birthdate",
                true,
            ),
        ];
        for (from, to, path, breaking) in cases {
            assert!(HAPI.contains(from), "{from}");
            let changes = compare(&snapshot(HAPI), &snapshot(&HAPI.replace(from, to)));
            let change = changes.iter().find(|change| change.path == path);
            assert_eq!(
                change.map(|change| change.breaking),
                Some(breaking),
                "{path}: {changes:#?}"
            );
        }
    }

    #[test]
    fn a_new_security_service_is_breaking() {
        let guarded = HAPI.replace(
            r#""mode": "server","#,
            r#""mode": "server", "security": {"service": [{"text": "Basic"}]},"#,
        );
        let changes = compare(&snapshot(HAPI), &snapshot(&guarded));
        assert_eq!(changes.len(), 1);
        assert!(changes[0].breaking);
        assert_eq!(changes[0].message, "security service Basic is new");
    }

    #[test]
    fn a_baseline_survives_a_file_and_says_what_is_wrong_with_another() {
        let servers = BTreeMap::from([("a".to_owned(), snapshot(HAPI))]);
        let baseline = BaselineFile::new("2026-11-23T00:00:00Z".parse().unwrap(), servers);
        let text = baseline.print().unwrap();
        let file = Path::new("baseline.json");
        assert_eq!(BaselineFile::parse(&text, file).unwrap(), baseline);
        for (text, part) in [
            ("", "no baseline"),
            ("{}", "names no schema"),
            (r#"{"schema":"fhirctl/baseline/v9"}"#, "fhirctl/baseline/v9"),
            (r#"{"schema":"fhirctl/baseline/v1","servers":[]}"#, "no baseline"),
        ] {
            let error = BaselineFile::parse(text, file).unwrap_err();
            assert!(error.message.contains(part), "{}", error.message);
            assert_eq!(error.exit(), crate::model::Exit::DATA);
            assert!(!error.hints.is_empty());
        }
    }
}
