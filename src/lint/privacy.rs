//! Rules that keep persons out of the inventory.

use super::{JobRule, Notes, ServerRule, Subject};
use crate::inventory::Job;
use crate::inventory::edit::Step;
use crate::model::server::{ReadTarget, Server};

pub(super) const RULES: &[ServerRule] = &[
    ("privacy.identifier-in-query", identifier_in_query),
    ("privacy.read-not-synthetic", read_not_synthetic),
];

pub(super) const JOB_RULES: &[JobRule] = &[("privacy.identifier-in-query", identifier_in_filter)];

/// Search parameters that name a person, by what they are about.
const PERSONAL: &[&str] = &[
    "identifier",
    "name",
    "family",
    "given",
    "phonetic",
    "birthdate",
    "phone",
    "email",
    "telecom",
    "address",
    "address-city",
    "address-country",
    "address-postalcode",
    "address-state",
    "address-use",
    "_id",
];
/// References to a person; they are personal on every type.
const OF_A_PERSON: &[&str] =
    &["patient", "subject", "beneficiary", "enterer", "individual", "participant"];
/// Types that describe no person: their names and identifiers may be searched for.
const IMPERSONAL: &[&str] = &[
    "ActivityDefinition",
    "CapabilityStatement",
    "CodeSystem",
    "CompartmentDefinition",
    "ConceptMap",
    "Endpoint",
    "EventDefinition",
    "ExampleScenario",
    "GraphDefinition",
    "HealthcareService",
    "ImplementationGuide",
    "InsurancePlan",
    "Library",
    "Location",
    "Measure",
    "Medication",
    "MedicationKnowledge",
    "MessageDefinition",
    "NamingSystem",
    "OperationDefinition",
    "Organization",
    "OrganizationAffiliation",
    "PlanDefinition",
    "Questionnaire",
    "ResearchStudy",
    "SearchParameter",
    "StructureDefinition",
    "StructureMap",
    "Substance",
    "TerminologyCapabilities",
    "TestScript",
    "ValueSet",
];

fn identifier_in_query(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let server = subject.server;
    let canaries = canaries(server);
    for (index, query) in server.checks.search.iter().enumerate() {
        if let Some(what) = personal(query, &canaries) {
            notes.add(subject.item("checks.search", index), told(&what));
        }
    }
    for (index, check) in server.checks.assert.iter().enumerate() {
        if let Some(what) = personal(&check.query, &canaries) {
            notes.add(subject.item("checks.assert", index), told(&what));
        }
    }
    // A path from the root of the host is none of FHIR's.
    let health = server.checks.health.iter().filter(|health| !health.path.starts_with('/'));
    for health in health {
        if let Some(what) = personal(&health.path, &canaries) {
            notes.add(subject.at("checks.health.path"), told(&what));
        }
    }
}

fn identifier_in_filter(index: usize, job: &Job, notes: &mut Notes<'_>) {
    for (item, query) in job.type_filter.iter().enumerate() {
        if let Some(what) = personal(query, &[]) {
            let path = [Step::from("jobs"), index.into(), "type_filter".into(), item.into()];
            let location = notes.input.survey.location(&path);
            notes.add(location, told(&what));
        }
    }
}

/// Without the value: it would only stand in one more place.
fn told(what: &str) -> String {
    format!("{what} names a person")
}

/// The references and ids that are declared synthetic.
fn canaries(server: &Server) -> Vec<&str> {
    let synthetic = server.checks.read.iter().filter(|read| read.synthetic);
    let references = synthetic.filter_map(|read| match &read.target {
        ReadTarget::Reference(reference) => Some(reference.as_str()),
        ReadTarget::Secret(_) => None,
    });
    references
        .flat_map(|whole| std::iter::once(whole).chain(whole.split_once('/').map(|(_, id)| id)))
        .collect()
}

/// What in a query names a person: a parameter, or the path; `None` when nothing does.
fn personal(query: &str, canaries: &[&str]) -> Option<String> {
    let (path, parameters) = query.split_once('?').unwrap_or((query, ""));
    let mut steps = path.trim_matches('/').split('/');
    let (kind, id) = (steps.next().unwrap_or_default(), steps.next());
    let impersonal = IMPERSONAL.contains(&kind);
    let is_type = kind.starts_with(|c: char| c.is_ascii_uppercase());
    if let Some(id) = id.filter(|id| is_type && !impersonal && !id.starts_with(['$', '_'])) {
        let is_id = !id.is_empty() && !id.starts_with(|c: char| c.is_ascii_uppercase());
        if is_id && !canaries.contains(&id) {
            return Some(format!("the path below {kind}"));
        }
    }
    for (name, value) in url::form_urlencoded::parse(parameters.as_bytes()) {
        let all_synthetic = value.split(',').all(|one| canaries.contains(&one.trim()));
        if value.is_empty() || all_synthetic || name.ends_with(":missing") {
            continue;
        }
        let (asked, chained) = asked_for(&name);
        let of_a_person = OF_A_PERSON.contains(&asked);
        let personal = PERSONAL.contains(&asked) && (chained || !impersonal);
        if of_a_person || personal {
            return Some(format!("parameter {}", crate::model::text::bounded(&name, 40)));
        }
    }
    None
}

/// The parameter that the value is compared with, without modifiers; whether a chain leads there.
fn asked_for(name: &str) -> (&str, bool) {
    if name.starts_with("_has:") {
        return (name.rsplit(':').next().unwrap_or(name), true);
    }
    let (chained, last) = match name.rsplit_once('.') {
        Some((_, last)) => (true, last),
        None => (false, name),
    };
    (last.split(':').next().unwrap_or(last), chained)
}

fn read_not_synthetic(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    for (index, read) in subject.server.checks.read.iter().enumerate() {
        let location = || subject.item("checks.read", index);
        match &read.target {
            _ if read.synthetic => {}
            ReadTarget::Reference(_) => {
                notes.raise(location(), "a record that is not declared synthetic stands here");
            }
            ReadTarget::Secret(_) => {
                notes.add(location(), "this canary is not declared synthetic and is not read");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::personal;

    #[test]
    fn what_names_a_person_is_told_from_what_does_not() {
        let canaries = ["Patient/canary-1", "canary-1"];
        for (query, expected) in [
            ("Patient?_summary=count", false),
            ("Patient?identifier=http://x|123", true),
            ("Patient?identifier:exact=1", true),
            ("Patient?identifier:missing=true", false),
            ("Patient?name=", false),
            ("Patient?family=Smith&_count=1", true),
            ("Patient?birthdate=ge1980-01-01", true),
            ("Patient?address-postalcode=12345", true),
            ("Patient?gender=female&_summary=count", false),
            ("Practitioner?name=Smith", true),
            ("Organization?name=Clinic", false),
            ("ValueSet?name=x&identifier=y", false),
            ("ValueSet/abc/$expand", false),
            ("Observation?patient=123", true),
            ("Observation?subject:Patient=123", true),
            ("Observation?patient=canary-1", false),
            ("Observation?patient=Patient/canary-1,canary-1", false),
            ("Observation?patient=canary-1,real-1", true),
            ("Observation?patient.name=Smith", true),
            ("Observation?patient.organization=1", false),
            ("Location?organization.identifier=1", true),
            ("Patient?_has:Observation:patient:code=1", false),
            ("Patient?_has:Coverage:patient:identifier=1", true),
            ("Patient/123", true),
            ("Patient/canary-1/$everything", false),
            ("Patient/$export", false),
            ("Patient/_search?_summary=count", false),
            ("Patient?_id=123", true),
            ("Group/123/$export", true),
            ("metadata", false),
            ("Patient?n%61me=Smith", true),
        ] {
            assert_eq!(personal(query, &canaries).is_some(), expected, "{query}");
        }
        let told = personal("Patient?family=Smith", &[]).unwrap();
        assert!(!told.contains("Smith"), "{told}");
    }
}
