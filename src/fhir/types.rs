//! The code lists of each FHIR version, as data.

use crate::model::server::FhirVersion;

/// Every version that the specification's list holds; ballots and release candidates too.
pub const PUBLISHED_VERSIONS: [&str; 39] = [
    "0.01",
    "0.05",
    "0.06",
    "0.11",
    "0.0.80",
    "0.0.81",
    "0.0.82",
    "0.4.0",
    "0.5.0",
    "1.0.0",
    "1.0.1",
    "1.0.2",
    "1.1.0",
    "1.4.0",
    "1.6.0",
    "1.8.0",
    "3.0.0",
    "3.0.1",
    "3.0.2",
    "3.2.0",
    "3.3.0",
    "3.5.0",
    "3.5a.0",
    "4.0.0",
    "4.0.1",
    "4.1.0",
    "4.2.0",
    "4.3.0",
    "4.3.0-cibuild",
    "4.3.0-snapshot1",
    "4.4.0",
    "4.5.0",
    "4.6.0",
    "5.0.0",
    "5.0.0-ballot",
    "5.0.0-draft-final",
    "6.0.0-ballot1",
    "6.0.0-ballot2",
    "6.0.0-ballot3",
];

/// What a server may do with one type.
pub const TYPE_INTERACTIONS: [&str; 9] = [
    "create",
    "delete",
    "history-instance",
    "history-type",
    "patch",
    "read",
    "search-type",
    "update",
    "vread",
];

/// What a server may do as a whole.
pub const SYSTEM_INTERACTIONS: [&str; 4] =
    ["batch", "history-system", "search-system", "transaction"];

const DSTU2: &str = include_str!("../../data/fhir/resource-types-dstu2.txt");
const STU3: &str = include_str!("../../data/fhir/resource-types-stu3.txt");
const R4: &str = include_str!("../../data/fhir/resource-types-r4.txt");
const R4B: &str = include_str!("../../data/fhir/resource-types-r4b.txt");
const R5: &str = include_str!("../../data/fhir/resource-types-r5.txt");

fn list(version: FhirVersion) -> &'static str {
    match version {
        FhirVersion::Dstu2 => DSTU2,
        FhirVersion::Stu3 => STU3,
        FhirVersion::R4 => R4,
        FhirVersion::R4B => R4B,
        FhirVersion::R5 => R5,
    }
}

/// The resource types of a version, in the order of the alphabet, without abstract ones.
pub fn resource_types(version: FhirVersion) -> impl Iterator<Item = &'static str> {
    list(version).lines()
}

/// Whether a version has this resource type; the abstract two count.
#[must_use]
pub fn is_resource_type(version: FhirVersion, name: &str) -> bool {
    matches!(name, "Resource" | "DomainResource") || has_line(list(version), name)
}

/// Whether any version has this resource type.
#[must_use]
pub fn is_any_resource_type(name: &str) -> bool {
    [R4, R5, STU3, DSTU2, R4B].iter().any(|list| has_line(list, name))
}

/// Whether a version has this type of search parameter. Versions before R4 have no `special`.
#[must_use]
pub fn is_search_parameter_type(version: FhirVersion, name: &str) -> bool {
    match name {
        "number" | "date" | "string" | "token" | "reference" | "composite" | "quantity" | "uri" => {
            true
        }
        "special" => version >= FhirVersion::R4,
        "resource" => version >= FhirVersion::R5,
        _ => false,
    }
}

/// A binary search over the lines of a sorted list.
fn has_line(list: &str, name: &str) -> bool {
    let bytes = list.as_bytes();
    let (mut low, mut high) = (0, bytes.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let start = bytes[low..middle]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(low, |at| low + at + 1);
        let end =
            bytes[start..high].iter().position(|byte| *byte == b'\n').map_or(high, |at| start + at);
        match bytes[start..end].cmp(name.as_bytes()) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => low = end + 1,
            std::cmp::Ordering::Greater => high = start,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_a_list_is_found_and_no_other() {
        for version in [
            FhirVersion::Dstu2,
            FhirVersion::Stu3,
            FhirVersion::R4,
            FhirVersion::R4B,
            FhirVersion::R5,
        ] {
            let mut sorted: Vec<&str> = resource_types(version).collect();
            for name in &sorted {
                assert!(is_resource_type(version, name), "{version} {name}");
                assert!(!is_resource_type(version, &name[1..]), "{version} {}", &name[1..]);
            }
            let as_read = sorted.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, as_read, "{version}");
            assert!(sorted.len() > 90);
            assert!(!is_resource_type(version, ""));
            assert!(!is_resource_type(version, "Patients"));
        }
    }

    #[test]
    fn versions_differ_in_their_types() {
        assert!(is_resource_type(FhirVersion::Dstu2, "Conformance"));
        assert!(!is_resource_type(FhirVersion::R4, "Conformance"));
        assert!(is_resource_type(FhirVersion::R5, "Transport"));
        assert!(!is_resource_type(FhirVersion::R4, "Transport"));
        assert!(is_resource_type(FhirVersion::R4B, "SubscriptionTopic"));
    }

    #[test]
    fn search_parameter_types_differ_by_version() {
        assert!(is_search_parameter_type(FhirVersion::R4, "special"));
        assert!(!is_search_parameter_type(FhirVersion::Stu3, "special"));
        assert!(!is_search_parameter_type(FhirVersion::R5, "text"));
    }
}
