//! Synthetic records: seeded, marked as test data, with names that nobody bears.

use jiff::civil::{Date, date};
use serde_json::{Value, json};

use crate::model::server::FhirVersion;

/// Trees for families and flowers for given names: nobody is meant.
const FAMILIES: &[&str] = &[
    "Test-Alder",
    "Test-Birch",
    "Test-Cedar",
    "Test-Elm",
    "Test-Fir",
    "Test-Hazel",
    "Test-Larch",
    "Test-Maple",
    "Test-Oak",
    "Test-Pine",
    "Test-Rowan",
    "Test-Willow",
];
const GIVENS: &[&str] = &[
    "Synthetic-Aster",
    "Synthetic-Clover",
    "Synthetic-Daisy",
    "Synthetic-Fern",
    "Synthetic-Iris",
    "Synthetic-Lupin",
    "Synthetic-Poppy",
    "Synthetic-Sage",
];
const CONDITIONS: &[(&str, &str)] = &[
    ("38341003", "Hypertensive disorder, systemic arterial (disorder)"),
    ("44054006", "Diabetes mellitus type 2 (disorder)"),
    ("195967001", "Asthma (disorder)"),
    ("82423001", "Chronic pain (finding)"),
];

/// A vital sign: its LOINC code, its UCUM unit, and its profile in US Core.
struct Sign {
    code: &'static str,
    display: &'static str,
    unit: &'static str,
    us_core: &'static str,
}

const HEART_RATE: Sign =
    Sign { code: "8867-4", display: "Heart rate", unit: "/min", us_core: "us-core-heart-rate" };
const BODY_TEMPERATURE: Sign = Sign {
    code: "8310-5",
    display: "Body temperature",
    unit: "Cel",
    us_core: "us-core-body-temperature",
};

/// Makes the records of one server: an organization, a practitioner, a group of all patients
/// (`Group/all`), and per patient an encounter, a condition and two observations. The first patient is `Patient/canary-1`, the others are
/// `patient-2`, `patient-3` and so on; the same seed gives the same records.
pub(in crate::sandbox) fn records(version: FhirVersion, patients: u32, seed: u64) -> Vec<Value> {
    let mut random = fastrand::Rng::with_seed(seed);
    let words = Words { version };
    let mut records = vec![words.organization(), words.practitioner(), words.group(patients)];
    for number in 1..=patients {
        let day = date(2024, 1, 1).saturating_add(jiff::Span::new().days(random.i64(0..600)));
        records.push(words.patient(number, &mut random));
        records.push(words.encounter(number, day));
        records.push(words.condition(number, day, &mut random));
        let pulse = json!(random.u16(55..95));
        let temperature = json!(f64::from(random.u16(362..376)) / 10.0);
        records.push(words.observation(number, 1, day, &HEART_RATE, &pulse));
        records.push(words.observation(number, 2, day, &BODY_TEMPERATURE, &temperature));
    }
    records
}

/// The id of the n-th patient, counted from 1.
fn patient_id(number: u32) -> String {
    match number {
        1 => "canary-1".to_owned(),
        _ => format!("patient-{number}"),
    }
}

/// What the versions of FHIR call the same things.
struct Words {
    version: FhirVersion,
}

impl Words {
    /// A code system of HL7, which moved after STU3.
    fn system(&self, stu3: &str, later: &str) -> String {
        match self.version {
            FhirVersion::Stu3 => format!("http://hl7.org/fhir/{stu3}"),
            _ => format!("http://terminology.hl7.org/CodeSystem/{later}"),
        }
    }

    /// Says that the record is test data, in the way that FHIR foresees (HTEST), and that a
    /// sandbox made it.
    fn meta(&self, us_core: &str) -> Value {
        let mut meta = json!({});
        if self.version == FhirVersion::R4 && !us_core.is_empty() {
            meta["profile"] =
                json!([format!("http://hl7.org/fhir/us/core/StructureDefinition/{us_core}")]);
        }
        meta["security"] = json!([{
            "system": self.system("v3/ActReason", "v3-ActReason"),
            "code": "HTEST",
            "display": "test health data",
        }]);
        meta["tag"] = json!([{"system": "urn:fhirctl:sandbox", "code": "synthetic"}]);
        meta
    }

    fn organization(&self) -> Value {
        json!({
            "resourceType": "Organization", "id": "organization-1", "meta": self.meta(""),
            "identifier": [{"system": "urn:fhirctl:sandbox:organization", "value": "1"}],
            "active": true, "name": "Synthetic Test Clinic",
        })
    }

    fn practitioner(&self) -> Value {
        json!({
            "resourceType": "Practitioner", "id": "practitioner-1", "meta": self.meta(""),
            "identifier": [{"system": "urn:fhirctl:sandbox:practitioner", "value": "1"}],
            "active": true, "name": [{"family": "Test-Juniper", "given": ["Synthetic-Rue"]}],
        })
    }

    fn group(&self, patients: u32) -> Value {
        let mut group = json!({
            "resourceType": "Group", "id": "all", "meta": self.meta(""),
            "identifier": [{"system": "urn:fhirctl:sandbox:group", "value": "all"}],
            "active": true, "type": "person",
        });
        match self.version {
            FhirVersion::R5 => group["membership"] = json!("enumerated"),
            _ => group["actual"] = json!(true),
        }
        group["name"] = json!("All synthetic patients");
        group["quantity"] = json!(patients);
        group["member"] = (1..=patients)
            .map(|n| json!({"entity": {"reference": format!("Patient/{}", patient_id(n))}}))
            .collect();
        group
    }

    fn patient(&self, number: u32, random: &mut fastrand::Rng) -> Value {
        let mut pick = |words: &[&'static str]| words[random.usize(..words.len())];
        let (family, given) = match number {
            1 => ("Test-Canary", "Synthetic-One"),
            _ => (pick(FAMILIES), pick(GIVENS)),
        };
        let gender = pick(&["female", "male", "other"]);
        let birth: Date =
            date(1940, 1, 1).saturating_add(jiff::Span::new().days(random.i64(0..29_000)));
        json!({
            "resourceType": "Patient", "id": patient_id(number), "meta": self.meta("us-core-patient"),
            "identifier": [
                {"system": "urn:fhirctl:sandbox:patient", "value": format!("SYNTHETIC-{number:05}")},
            ],
            "active": true,
            "name": [{"use": "official", "family": family, "given": [given]}],
            "gender": gender,
            "birthDate": birth.to_string(),
            "managingOrganization": {"reference": "Organization/organization-1"},
        })
    }

    fn encounter(&self, number: u32, day: Date) -> Value {
        let ambulatory = json!({
            "system": self.system("v3/ActCode", "v3-ActCode"),
            "code": "AMB",
            "display": "ambulatory",
        });
        let r5 = self.version == FhirVersion::R5;
        let period =
            json!({"start": format!("{day}T09:00:00Z"), "end": format!("{day}T09:30:00Z")});
        let mut encounter = json!({
            "resourceType": "Encounter", "id": format!("encounter-{number}"),
            "meta": self.meta("us-core-encounter"),
            "status": if r5 { "completed" } else { "finished" },
            "class": if r5 { json!([{"coding": [ambulatory]}]) } else { ambulatory },
            "type": [{"coding": [{
                "system": "http://snomed.info/sct", "code": "185349003",
                "display": "Encounter for check up (procedure)",
            }], "text": "Check up"}],
            "subject": {"reference": format!("Patient/{}", patient_id(number))},
        });
        encounter[if r5 { "actualPeriod" } else { "period" }] = period;
        encounter
    }

    fn condition(&self, number: u32, day: Date, random: &mut fastrand::Rng) -> Value {
        let (code, display) = CONDITIONS[random.usize(..CONDITIONS.len())];
        let stu3 = self.version == FhirVersion::Stu3;
        let status = |system: &str, code: &str| match stu3 {
            true => json!(code),
            false => json!({"coding": [{"system": self.system("", system), "code": code}]}),
        };
        let category = match stu3 {
            true => "http://hl7.org/fhir/condition-category".to_owned(),
            false => self.system("", "condition-category"),
        };
        let mut condition = json!({
            "resourceType": "Condition", "id": format!("condition-{number}"),
            "meta": self.meta("us-core-condition-problems-health-concerns"),
            "clinicalStatus": status("condition-clinical", "active"),
            "verificationStatus": status("condition-ver-status", "confirmed"),
            "category": [{"coding": [{
                "system": category, "code": "problem-list-item", "display": "Problem List Item",
            }]}],
            "code": {
                "coding": [{"system": "http://snomed.info/sct", "code": code, "display": display}],
            },
            "subject": {"reference": format!("Patient/{}", patient_id(number))},
        });
        condition[self.encounter_element()] =
            json!({"reference": format!("Encounter/encounter-{number}")});
        condition["onsetDateTime"] = json!(day.to_string());
        condition
    }

    fn observation(&self, number: u32, nth: u32, day: Date, sign: &Sign, value: &Value) -> Value {
        let mut observation = json!({
            "resourceType": "Observation", "id": format!("observation-{number}-{nth}"),
            "meta": self.meta(sign.us_core),
            "status": "final",
            "category": [{"coding": [{
                "system": self.system("observation-category", "observation-category"),
                "code": "vital-signs", "display": "Vital Signs",
            }]}],
            "code": {
                "coding": [{"system": "http://loinc.org", "code": sign.code, "display": sign.display}],
            },
            "subject": {"reference": format!("Patient/{}", patient_id(number))},
        });
        observation[self.encounter_element()] =
            json!({"reference": format!("Encounter/encounter-{number}")});
        observation["effectiveDateTime"] = json!(format!("{day}T09:10:00Z"));
        observation["valueQuantity"] = json!({
            "value": value, "unit": sign.unit,
            "system": "http://unitsofmeasure.org", "code": sign.unit,
        });
        observation
    }

    fn encounter_element(&self) -> &'static str {
        match self.version {
            FhirVersion::Stu3 => "context",
            _ => "encounter",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_records() {
        let of = |seed| records(FhirVersion::R4, 5, seed);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn the_canary_is_the_first_patient_and_all_are_marked_as_test_data() {
        for version in [FhirVersion::Stu3, FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5] {
            let all = records(version, 2, 1);
            let ids: Vec<_> = all
                .iter()
                .filter(|record| record["resourceType"] == "Patient")
                .filter_map(|record| record["id"].as_str())
                .collect();
            assert_eq!(ids, ["canary-1", "patient-2"]);
            assert!(all.iter().all(|record| record["meta"]["security"][0]["code"] == "HTEST"));
            assert!(all.iter().all(|record| record["meta"]["tag"][0]["code"] == "synthetic"));
        }
    }

    #[test]
    fn an_encounter_speaks_its_version() {
        let class = |version| {
            let all = records(version, 1, 1);
            all.iter().find(|record| record["resourceType"] == "Encounter").cloned().unwrap()
        };
        assert_eq!(class(FhirVersion::R4)["class"]["code"], "AMB");
        assert_eq!(class(FhirVersion::R5)["class"][0]["coding"][0]["code"], "AMB");
        assert_eq!(class(FhirVersion::Stu3)["class"]["system"], "http://hl7.org/fhir/v3/ActCode");
    }
}
