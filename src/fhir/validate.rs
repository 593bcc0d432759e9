//! Resources against the specification and profiles: structure, cardinality, types, invariants.
//!
//! The schemas of R4, R4B and R5 are compiled in; profiles come as StructureDefinitions. Nothing is
//! fetched, so what is bound to a value set is not looked up. What is told of a resource is where and
//! what kind of thing is wrong, never a value.

mod locate;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use octofhir_fhirpath::{FhirPathEngine, create_function_registry};
use octofhir_fhirschema::embedded::{R4_SCHEMAS, R4B_SCHEMAS, R5_SCHEMAS};
use octofhir_fhirschema::provider::FhirSchemaModelProvider;
use octofhir_fhirschema::{
    FhirSchema, FhirValidator, ModelFhirVersion, StructureDefinition, ValidationError, translate,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::model::Severity;
use crate::model::server::FhirVersion;
use crate::model::text::{bounded, one_line};

pub use locate::line_of;

/// Most faults that are kept of one resource.
const MOST_FAULTS: usize = 200;
/// Most resources that are looked at inside of one.
const MOST_NESTED: usize = 5_000;
/// A resource may be nested; a thread with this much room walks it.
const STACK_BYTES: usize = 64 * 1024 * 1024;
/// Invariants that the engine cannot evaluate rightly; they are about StructureDefinitions.
const UNRELIABLE: [&str; 3] = ["sdf-8", "sdf-8a", "sdf-8b"];

/// One thing that is wrong with a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fault {
    pub severity: Severity,
    pub kind: FaultKind,
    /// A FHIRPath, such as `Patient.contact[0].name`.
    pub path: String,
    /// Our words, or those of the specification or profile.
    pub message: String,
    /// The invariant's key, such as `pat-1`.
    pub rule: Option<String>,
    /// The line in the text, from 1, where the text is known.
    pub line: Option<usize>,
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    UnknownType,
    UnknownElement,
    WrongType,
    InvalidValue,
    Cardinality,
    Invariant,
    Slicing,
    Reference,
    /// An invariant that could not be evaluated: nothing is known.
    NotEvaluated,
    /// A profile that the resource claims and nobody gave.
    UnknownProfile,
}

/// Validates resources of one version.
pub struct Validator {
    inner: FhirValidator,
    profiles: BTreeSet<String>,
}

/// Whether resources of a version can be looked at.
#[must_use]
pub fn supports(version: FhirVersion) -> bool {
    schemas_of(version).is_some()
}

fn schemas_of(version: FhirVersion) -> Option<(&'static [u8], ModelFhirVersion)> {
    match version {
        FhirVersion::R4 => Some((R4_SCHEMAS, ModelFhirVersion::R4)),
        FhirVersion::R4B => Some((R4B_SCHEMAS, ModelFhirVersion::R4B)),
        FhirVersion::R5 => Some((R5_SCHEMAS, ModelFhirVersion::R5)),
        FhirVersion::Dstu2 | FhirVersion::Stu3 => None,
    }
}

/// Validates resources, each with the text it stands in, on a thread of its own that is left behind
/// when the time is over. `definitions`: the texts of StructureDefinitions of profiles.
///
/// # Errors
/// A plain sentence when the version is not supported, a definition cannot be read, or time ran out.
pub async fn validate_all(
    version: FhirVersion,
    definitions: Arc<Vec<String>>,
    resources: Vec<Value>,
    limit: Duration,
) -> Result<Vec<Vec<Fault>>, String> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let found = match runtime {
            Ok(runtime) => runtime.block_on(async {
                let validator = Validator::new(version, &definitions).await?;
                let mut found = Vec::with_capacity(resources.len());
                for resource in &resources {
                    found.push(validator.validate(resource).await);
                }
                Ok(found)
            }),
            Err(error) => Err(error.to_string()),
        };
        // Nobody listens any more when the time was over.
        let _ = tell.send(found);
    };
    std::thread::Builder::new()
        .name("validate".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(work)
        .map_err(|error| format!("no thread to validate in: {error}"))?;
    match tokio::time::timeout(limit, told).await {
        Ok(Ok(found)) => found,
        Ok(Err(_)) => Err("the validation broke off".to_owned()),
        Err(_) => Err(format!("the validation took longer than {} s", limit.as_secs())),
    }
}

impl Validator {
    /// # Errors
    /// A plain sentence, as [`validate_all`].
    pub async fn new(version: FhirVersion, definitions: &[String]) -> Result<Validator, String> {
        let (bytes, model) = schemas_of(version)
            .ok_or_else(|| format!("{version} is not supported; R4, R4B and R5 are"))?;
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let mut schemas: HashMap<String, FhirSchema> = serde_json::from_str(&silenced(text))
            .map_err(|error| format!("the schemas of {version} cannot be read: {error}"))?;
        let mut profiles = BTreeSet::new();
        for definition in definitions {
            let parsed: StructureDefinition = serde_json::from_str(&silenced(definition))
                .map_err(|error| format!("a StructureDefinition cannot be read: {error}"))?;
            let url = parsed.url.clone();
            // Those of the specification itself are there already.
            if parsed.derivation.as_deref() != Some("constraint") || schemas.contains_key(&url) {
                continue;
            }
            let schema = translate(parsed, None).map_err(|error| {
                format!("{} cannot be used: {error}", bounded(&one_line(&url), 200))
            })?;
            profiles.insert(url.clone());
            schemas.insert(url, schema);
        }
        let registry = Arc::new(create_function_registry());
        let provider = Arc::new(FhirSchemaModelProvider::new(schemas.clone(), model));
        let engine = FhirPathEngine::new(registry, provider)
            .await
            .map_err(|error| format!("FHIRPath cannot be started: {error}"))?;
        let inner = FhirValidator::from_schemas(schemas, Some(Arc::new(engine)));
        Ok(Validator { inner, profiles })
    }

    /// What is wrong with a resource and those inside of it: contained, of a Bundle, of Parameters.
    pub async fn validate(&self, resource: &Value) -> Vec<Fault> {
        let mut nested = Vec::new();
        collect(resource, String::new(), &mut nested);
        let mut faults = Vec::new();
        for (place, resource) in nested {
            self.validate_one(&place, resource, &mut faults).await;
            if faults.len() >= MOST_FAULTS {
                break;
            }
        }
        faults.truncate(MOST_FAULTS);
        faults
    }

    async fn validate_one(&self, place: &str, resource: &Value, faults: &mut Vec<Fault>) {
        let Some(kind) = resource["resourceType"].as_str() else {
            faults.push(fault(FaultKind::UnknownType, place, "it has no resourceType"));
            return;
        };
        let mut schemas = vec![kind.to_owned()];
        let mut unknown = 0;
        let claimed = resource["meta"]["profile"].as_array().map(Vec::as_slice).unwrap_or_default();
        for profile in claimed.iter().filter_map(Value::as_str) {
            let url = profile.split('|').next().unwrap_or(profile);
            if self.profiles.contains(url) {
                schemas.push(url.to_owned());
            } else {
                unknown += 1;
            }
        }
        let result = self.inner.validate(resource, schemas).await;
        for error in result.errors.iter().chain(&result.warnings) {
            faults.extend(told(place, error));
        }
        if !has_valid_id(resource) {
            let path = joined(place, &format!("{}.id", plain(kind)));
            faults.push(fault(FaultKind::InvalidValue, &path, "it is no valid id"));
        }
        if unknown > 0 {
            let path = joined(place, &format!("{}.meta.profile", plain(kind)));
            let message = format!("claims {unknown} that no given package holds: not looked at");
            faults.push(Fault {
                severity: Severity::Info,
                ..fault(FaultKind::UnknownProfile, &path, &message)
            });
        }
        faults.dedup();
    }
}

/// Resources inside of one, with their place; the outermost first.
fn collect<'v>(value: &'v Value, place: String, found: &mut Vec<(String, &'v Value)>) {
    if found.len() >= MOST_NESTED {
        return;
    }
    match value {
        Value::Object(members) => {
            let is_root = found.is_empty();
            let kind = members.get("resourceType").and_then(Value::as_str);
            if is_root || kind.is_some() {
                found.push((place.clone(), value));
            }
            let base = match kind {
                Some(kind) if is_root => plain(kind),
                _ => place,
            };
            for (name, member) in members {
                if member.is_object() || member.is_array() {
                    collect(member, joined(&base, &plain(name)), found);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, format!("{place}[{index}]"), found);
            }
        }
        _ if found.is_empty() => found.push((place, value)),
        _ => {}
    }
}

/// The FHIR id, where there is one; the schemas do not hold its form.
fn has_valid_id(resource: &Value) -> bool {
    match resource.get("id") {
        None => true,
        Some(Value::String(id)) => {
            (1..=64).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        }
        // Its type is told already.
        Some(_) => true,
    }
}

fn fault(kind: FaultKind, path: &str, message: &str) -> Fault {
    Fault {
        severity: Severity::Error,
        kind,
        path: path.to_owned(),
        message: message.to_owned(),
        rule: None,
        line: None,
    }
}

/// What the library says, without what it says of values.
fn told(place: &str, error: &ValidationError) -> Option<Fault> {
    let expected = error.expected.as_ref().and_then(Value::as_str).map(plain);
    let message = error.message.as_deref().unwrap_or_default();
    let quoted = || message.split('\'').nth(1).map(plain);
    let (kind, text) = match error.error_type.as_str() {
        "FS1001" => (FaultKind::UnknownElement, "no such element".to_owned()),
        "FS1002" if message.contains("://") => return None,
        "FS1002" => (FaultKind::UnknownType, "no such type in this version of FHIR".to_owned()),
        "FS1003" => (FaultKind::WrongType, "an array is expected".to_owned()),
        "FS1004" => (FaultKind::WrongType, "a single value is expected, not an array".to_owned()),
        "FS1005" => (FaultKind::UnknownElement, "not allowed here".to_owned()),
        "FS1006" => match expected {
            Some(expected) => (FaultKind::WrongType, format!("{expected} is expected")),
            None => (FaultKind::WrongType, "another type is expected".to_owned()),
        },
        "FS1007" => (FaultKind::Slicing, "it matches no slice of the profile".to_owned()),
        "FS1008" => (FaultKind::Slicing, "it matches several slices of the profile".to_owned()),
        "FS1009" => (FaultKind::Slicing, "a slice has too few or too many items".to_owned()),
        "FS1010" => return invariant(place, error),
        "FS1011" => match quoted() {
            Some(name) if message.contains("missing") => {
                (FaultKind::Cardinality, format!("{name} is missing"))
            }
            _ => (FaultKind::Cardinality, "too few or too many".to_owned()),
        },
        "FS1013" | "FS1015" | "FS1017" => {
            (FaultKind::Reference, "a reference to a type that is not allowed here".to_owned())
        }
        "FS1014" => match expected {
            Some(expected) => (FaultKind::InvalidValue, format!("it is no valid {expected}")),
            None => (FaultKind::InvalidValue, "the value is not valid".to_owned()),
        },
        // Value sets and questionnaires would have to be fetched.
        "FS1012" | "FS1016" => return None,
        _ => (FaultKind::InvalidValue, "not valid".to_owned()),
    };
    Some(fault(kind, &path_of(place, error), &text))
}

fn invariant(place: &str, error: &ValidationError) -> Option<Fault> {
    let key = plain(error.constraint_key.as_deref().unwrap_or_default());
    if UNRELIABLE.contains(&key.as_str()) {
        return None;
    }
    let message = error.message.as_deref().unwrap_or_default();
    let path = path_of(place, error);
    if message.contains("evaluation failed") {
        return Some(Fault {
            severity: Severity::Info,
            rule: Some(key),
            ..fault(FaultKind::NotEvaluated, &path, "this invariant could not be evaluated")
        });
    }
    // What it demands stands in the specification or the profile.
    let human = message.split_once("failed: ").map_or("it does not hold", |(_, human)| human);
    let severity = match error.constraint_severity.as_deref() {
        Some("warning") => Severity::Warning,
        _ => Severity::Error,
    };
    Some(Fault {
        severity,
        rule: Some(key),
        ..fault(FaultKind::Invariant, &path, &bounded(&one_line(human), 200))
    })
}

/// The library's path below the place of the resource.
fn path_of(place: &str, error: &ValidationError) -> String {
    let steps = error.path.iter().map(|step| match step {
        Value::String(step) => plain(step),
        other => plain(&other.to_string()),
    });
    let steps: Vec<String> = steps.collect();
    if place.is_empty() {
        return steps.join(".");
    }
    // Inside another resource its own type is no step.
    joined(place, &steps.get(1..).unwrap_or_default().join("."))
}

fn joined(place: &str, step: &str) -> String {
    match (place.is_empty(), step.is_empty()) {
        (true, _) => step.to_owned(),
        (_, true) => place.to_owned(),
        _ => format!("{place}.{step}"),
    }
}

/// A name of the resource's own making, fit to be shown.
fn plain(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-[]().$".contains(c);
    if !name.is_empty() && name.len() <= 100 && name.chars().all(is_plain) {
        name.to_owned()
    } else {
        "(odd name)".to_owned()
    }
}

/// A text of definitions whose expressions do not `trace`: the engine would write values, which may be
/// a patient's, to standard error.
fn silenced(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(".trace(") {
        out.push_str(&rest[..at]);
        let behind = &rest[at + ".trace(".len()..];
        let mut depth = 1;
        let end = behind.bytes().take(1_000).position(|byte| {
            match byte {
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        match end {
            Some(end) => rest = &behind[end + 1..],
            None => {
                // No such function: the expression is told not to be evaluated.
                out.push_str(".untraced(");
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn found(version: FhirVersion, resource: Value) -> Vec<String> {
        let validator = Validator::new(version, &[]).await.unwrap();
        let mut lines: Vec<String> = validator
            .validate(&resource)
            .await
            .into_iter()
            .map(|fault| format!("{}: {}", fault.path, fault.message))
            .collect();
        lines.sort();
        lines
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_by_its_place_and_never_by_its_value() {
        let patient = json!({
            "resourceType": "Patient", "id": "a b", "nam": [], "active": "Secret-yes",
            "birthDate": "1980-13-46", "name": {"family": "Secret"},
            "contact": [{"relationship": [{"text": "Secret"}]}],
            "contained": [{"resourceType": "Observation", "id": "o", "status": "final"}],
        });
        let lines = found(FhirVersion::R4, patient).await;
        for expected in [
            "Patient.active: boolean is expected",
            "Patient.birthDate: it is no valid date",
            "Patient.id: it is no valid id",
            "Patient.nam: no such element",
            "Patient.name: an array is expected",
            "Patient.contact[0]: SHALL at least contain a contact's details or a reference to an \
             organization",
            "Patient.contained[0]: code is missing",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected}: {lines:#?}");
        }
        assert!(!lines.join(" ").contains("Secret"), "{lines:#?}");
    }

    #[tokio::test]
    async fn a_good_resource_has_no_fault_in_any_version() {
        for version in [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5] {
            let bundle = json!({"resourceType": "Bundle", "type": "collection", "entry": [
                {"fullUrl": "urn:uuid:2b8b2b66-0c1c-4a9e-8f4b-0d8f4a7f0b11", "resource": {
                    "resourceType": "Observation", "id": "o", "status": "final",
                    "code": {"text": "weight"}, "valueQuantity": {"value": 71.5, "unit": "kg"},
                    "effectiveDateTime": "2026-01-02T03:04:05Z"}}]});
            assert_eq!(found(version, bundle).await, Vec::<String>::new(), "{version}");
        }
        assert!(!supports(FhirVersion::Stu3));
    }

    #[tokio::test]
    async fn a_profile_that_is_given_holds_where_it_is_claimed() {
        let profile = json!({
            "resourceType": "StructureDefinition", "url": "http://example.org/p", "name": "P",
            "status": "active", "kind": "resource", "abstract": false, "type": "Patient",
            "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
            "derivation": "constraint",
            "differential": {"element": [
                {"id": "Patient", "path": "Patient"},
                {"id": "Patient.birthDate", "path": "Patient.birthDate", "min": 1},
            ]},
        });
        let validator = Validator::new(FhirVersion::R4, &[profile.to_string()]).await.unwrap();
        let patient = |profile: &str| json!({"resourceType": "Patient", "id": "a", "meta": {"profile": [profile]}});
        let faults = validator.validate(&patient("http://example.org/p")).await;
        let lines: Vec<_> = faults.iter().map(|fault| fault.message.as_str()).collect();
        assert_eq!(lines, ["birthDate is missing"]);
        let faults = validator.validate(&patient("http://example.org/other")).await;
        assert_eq!(faults[0].kind, FaultKind::UnknownProfile);
        assert_eq!(faults[0].severity, Severity::Info);
    }

    #[test]
    fn an_expression_does_not_write_what_it_sees() {
        for (text, expected) in [
            ("a.trace('ids').b", "a.b"),
            ("a.trace('x', b.c()).d", "a.d"),
            ("a.trace(", "a.untraced("),
            ("a.b", "a.b"),
        ] {
            assert_eq!(silenced(text), expected);
        }
    }
}
