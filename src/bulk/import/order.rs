//! What has to be there before what: types by layers, and within a layer what refers to another of it.

use std::collections::HashMap;
use std::sync::OnceLock;

use memchr::memmem;

/// Types in the order in which they are sent; those of one layer go together. What is not named
/// goes before the last layer (FHIR R4, references of the resources).
const LAYERS: &[&str] = &[
    "CodeSystem NamingSystem",
    "ValueSet",
    "ConceptMap StructureDefinition SearchParameter OperationDefinition CompartmentDefinition",
    "Organization",
    "Location Endpoint Practitioner Substance",
    "PractitionerRole HealthcareService OrganizationAffiliation Medication MedicationKnowledge Library ActivityDefinition Questionnaire",
    "PlanDefinition Measure InsurancePlan ResearchStudy",
    "Patient",
    "Person RelatedPerson Device Group Binary",
    "Coverage Account EpisodeOfCare CareTeam Schedule Consent",
    "Slot ResearchSubject",
    "Appointment Goal",
    "AppointmentResponse ServiceRequest NutritionOrder VisionPrescription DeviceRequest",
    "Encounter",
    "Condition AllergyIntolerance FamilyMemberHistory Specimen",
    "Procedure ImagingStudy Media",
    "Observation QuestionnaireResponse",
    "MedicationRequest DiagnosticReport ImmunizationRecommendation",
    "MedicationDispense MedicationAdministration MedicationStatement Immunization SupplyRequest",
    "ClinicalImpression RiskAssessment CarePlan RequestGroup GuidanceResponse DetectedIssue Flag",
    "Composition DocumentReference",
    "DocumentManifest Communication CommunicationRequest Task",
    "Claim",
    "ClaimResponse",
    "ExplanationOfBenefit",
    "PaymentReconciliation MeasureReport",
    "List Basic Linkage",
    "",
    "AuditEvent Provenance",
];

/// How many layers there are.
#[must_use]
pub fn layers() -> u8 {
    u8::try_from(LAYERS.len()).unwrap_or(u8::MAX)
}

/// The layer of a type, from 0.
#[must_use]
pub fn layer(resource_type: &str) -> u8 {
    static TABLE: OnceLock<HashMap<&'static str, u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let numbered = (0..layers()).zip(LAYERS);
        numbered.flat_map(|(n, types)| types.split_whitespace().map(move |it| (it, n))).collect()
    });
    table.get(resource_type).copied().unwrap_or(layers() - 2)
}

/// Type and id of every literal reference in a resource, as far as they stand in its text.
pub fn references(text: &str) -> impl Iterator<Item = (&str, &str)> {
    static FINDER: OnceLock<memmem::Finder<'static>> = OnceLock::new();
    let finder = FINDER.get_or_init(|| memmem::Finder::new("\"reference\""));
    finder.find_iter(text.as_bytes()).filter_map(|at| {
        let rest = text.get(at + "\"reference\"".len()..)?;
        let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
        let end = rest.find('"')?;
        parts(&rest[..end])
    })
}

/// `Patient/1`, also at the end of an address and before a version.
fn parts(reference: &str) -> Option<(&str, &str)> {
    let reference = reference.split("/_history/").next()?;
    let (before, id) = reference.rsplit_once('/')?;
    let resource_type = before.rsplit('/').next()?;
    let is_one = crate::bulk::lines::is_type(resource_type) && crate::bulk::lines::is_id(id);
    is_one.then_some((resource_type, id))
}

/// A resource that refers to others of its own layer.
#[derive(Clone, Debug)]
pub struct Dependent {
    /// Which file and line it stands in.
    pub place: (u32, u64),
    pub key: u64,
    pub needs: Vec<u64>,
}

/// Deepest chain that is followed.
pub const LEVELS: u8 = 15;

/// How far each dependent is from those that need nothing: 1 and up, at most [`LEVELS`]. Circles
/// end there too.
#[must_use]
pub fn levels(dependents: &[Dependent]) -> Vec<u8> {
    let by_key: HashMap<u64, usize> =
        dependents.iter().enumerate().map(|(index, it)| (it.key, index)).collect();
    let mut levels = vec![1_u8; dependents.len()];
    for _ in 1..LEVELS {
        let mut changed = false;
        for (index, dependent) in dependents.iter().enumerate() {
            let above = dependent.needs.iter().filter_map(|key| by_key.get(key));
            let deepest = above.filter(|&&at| at != index).map(|&at| levels[at]).max();
            let level = deepest.map_or(1, |level| (level + 1).min(LEVELS));
            changed |= level != levels[index];
            levels[index] = level;
        }
        if !changed {
            break;
        }
    }
    levels
}

/// Tells resources apart in bounded room.
#[must_use]
pub fn key(resource_type: &str, id: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (resource_type, id).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_referred_to_comes_first() {
        for pair in [
            ("Organization", "Location"),
            ("Location", "PractitionerRole"),
            ("Practitioner", "PractitionerRole"),
            ("Organization", "Patient"),
            ("Patient", "RelatedPerson"),
            ("Patient", "Coverage"),
            ("Patient", "Group"),
            ("Coverage", "Encounter"),
            ("Encounter", "Condition"),
            ("Encounter", "Observation"),
            ("Observation", "DiagnosticReport"),
            ("Specimen", "Observation"),
            ("MedicationRequest", "MedicationDispense"),
            ("Claim", "ClaimResponse"),
            ("List", "Provenance"),
            ("MolecularSequence", "Provenance"),
            ("Observation", "MolecularSequence"),
        ] {
            assert!(layer(pair.0) < layer(pair.1), "{pair:?}");
        }
    }

    #[test]
    fn no_type_stands_in_two_layers() {
        let all: Vec<&str> = LAYERS.iter().flat_map(|it| it.split_whitespace()).collect();
        let once: std::collections::HashSet<&&str> = all.iter().collect();
        assert_eq!(all.len(), once.len());
    }

    #[test]
    fn references_are_found_in_the_text_alone() {
        let text = r##"{"resourceType":"Observation","a":{"reference":"Patient/1"},"b":[{"reference" : "https://h/fhir/Encounter/e-1/_history/3"}],
            "text":{"div":"<p>\"reference\":\"Patient/no\"</p>"},"c":{"reference":"#contained"},"d":{"reference":"urn:uuid:1"},"reference":{"x":1},"e":{"reference":"Patient?identifier=1"}}"##;
        let found: Vec<_> = references(text).collect();
        assert_eq!(found, [("Patient", "1"), ("Encounter", "e-1")]);
    }

    #[test]
    fn chains_are_sent_from_their_beginning_and_circles_end() {
        let one =
            |key: u64, needs: &[u64]| Dependent { place: (0, key), key, needs: needs.to_vec() };
        // 4 → 3 → 2 → 1 (which needs nothing and is no dependent).
        let chain = [one(4, &[3]), one(2, &[1]), one(3, &[2]), one(9, &[9])];
        assert_eq!(levels(&chain), [3, 1, 2, 1]);
        let circle = [one(1, &[2]), one(2, &[1])];
        assert!(levels(&circle).iter().all(|&level| level <= LEVELS));
    }
}
