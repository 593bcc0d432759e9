//! Parsing, judging and expectations, over the sample documents in `tests/fhir`.

use std::collections::BTreeMap;

use super::super::body::{BodyKind, sniff};
use super::*;
use crate::model::server::{Format, MetadataCheck};
use crate::model::{Finding, Severity};

const HAPI: &[u8] = include_bytes!("../../../tests/fhir/hapi-r4.json");
const EHR: &[u8] = include_bytes!("../../../tests/fhir/ehr-r4.json");
const STU3: &[u8] = include_bytes!("../../../tests/fhir/stu3.json");
const DSTU2: &[u8] = include_bytes!("../../../tests/fhir/dstu2.json");
const R5: &[u8] = include_bytes!("../../../tests/fhir/r5.json");
const R4B_XML: &[u8] = include_bytes!("../../../tests/fhir/r4b.xml");
const BROKEN: &[u8] = include_bytes!("../../../tests/fhir/broken-r4.json");
const ODD: &[u8] = include_bytes!("../../../tests/fhir/odd-r4.json");
const LOGIN: &[u8] = include_bytes!("../../../tests/fhir/login.html");

fn read(body: &[u8]) -> Capability<'_> {
    parse(sniff(None, body), body).unwrap()
}

fn fails(body: &[u8]) -> ParseError {
    parse(sniff(Some("application/fhir+json"), body), body).unwrap_err()
}

fn findings(body: &[u8], base_url: &str, content_type: &str) -> Vec<Finding> {
    let format = if sniff(None, body) == BodyKind::Xml { Format::Xml } else { Format::Json };
    let now = "2026-11-23T06:00:00Z".parse().unwrap();
    let context =
        JudgeContext { base_url, content_type: Some(content_type), format, now, tls: None };
    judge(&read(body), &context)
}

/// Ids of the findings that are more than a note.
fn troubles(findings: &[Finding]) -> Vec<(&str, Severity)> {
    findings
        .iter()
        .filter(|finding| finding.severity != Severity::Info)
        .map(|finding| (finding.id.as_str(), finding.severity))
        .collect()
}

#[test]
fn every_version_is_told_in_json_and_xml() {
    let cases = [
        (HAPI, FhirVersion::R4),
        (EHR, FhirVersion::R4),
        (STU3, FhirVersion::Stu3),
        (DSTU2, FhirVersion::Dstu2),
        (R5, FhirVersion::R5),
        (R4B_XML, FhirVersion::R4B),
    ];
    for (body, version) in cases {
        assert_eq!(read(body).version(), Some(version));
        assert!(read(body).oddities.is_empty(), "{:?}", read(body).oddities);
    }
}

#[test]
fn xml_gives_what_json_gives() {
    let xml = read(R4B_XML);
    assert_eq!(xml.publisher.as_deref(), Some("Tom & Co"));
    assert_eq!(xml.formats, ["xml", "json"]);
    let rest = &xml.rest[0];
    assert_eq!(rest.security.services, ["OAuth"]);
    assert_eq!(rest.security.cors, Some(true));
    assert_eq!(rest.security.oauth_uris.len(), 1);
    assert_eq!(rest.resources[0].interactions, ["read", "search-type"]);
    assert_eq!(rest.resources[0].search_params[0].name, "family");
    assert_eq!(rest.resources[0].update_create, Some(true));
    assert_eq!(rest.operations[0].name, "export");
    assert_eq!(xml.software_label().as_deref(), Some("Server 2"));
}

#[test]
fn references_of_old_versions_are_read_like_canonicals() {
    let stu3 = read(STU3);
    assert_eq!(stu3.profiles, ["http://example.org/StructureDefinition/my-patient"]);
    assert_eq!(
        stu3.rest[0].operations[0].definition.as_deref(),
        Some("OperationDefinition/everything")
    );
    assert_eq!(
        stu3.rest[0].resources[0].profile.as_deref(),
        Some("http://hl7.org/fhir/StructureDefinition/Patient")
    );
    assert_eq!(stu3.rest[0].security.services, ["Basic"]);
}

#[test]
fn what_is_no_statement_is_told_apart() {
    assert!(matches!(fails(b""), ParseError::NotFhir(_)));
    assert!(matches!(fails(LOGIN), ParseError::NotFhir(_)));
    assert!(matches!(fails(b"[1,2]"), ParseError::NotFhir(_)));
    assert!(matches!(fails(br#"{"detail":"Not Found"}"#), ParseError::NotFhir(_)));
    assert!(matches!(fails(br#"{"resourceType":"secret-name"}"#), ParseError::NotFhir(_)));
    assert!(matches!(fails(b"<note><to>x</to></note>"), ParseError::NotFhir(_)));
    let wrong = |name: &str| ParseError::WrongResource(name.to_owned());
    assert_eq!(fails(br#"{"type":"searchset","resourceType":"Bundle"}"#), wrong("Bundle"));
    assert_eq!(
        fails(b"<OperationOutcome xmlns=\"http://hl7.org/fhir\"/>"),
        wrong("OperationOutcome")
    );
}

#[test]
fn a_broken_body_is_malformed_at_its_place() {
    let at = |line, column| ParseError::Malformed { line, column };
    assert_eq!(fails(b"{\n \"resourceType\": oops}"), at(2, 18));
    assert_eq!(fails(b"nonsense"), at(1, 2));
    assert_eq!(fails(b"{\"a\":\n\"\xff\"}"), at(2, 2));
    assert!(matches!(fails(&HAPI[..HAPI.len() / 2]), ParseError::Malformed { .. }));
    assert!(matches!(fails(&R4B_XML[..R4B_XML.len() / 2]), ParseError::Malformed { .. }));
    assert!(matches!(
        fails(b"<CapabilityStatement xmlns='http://hl7.org/fhir'><a></b></CapabilityStatement>"),
        ParseError::Malformed { .. }
    ));
    let twice = [HAPI, HAPI].concat();
    assert!(matches!(fails(&twice), ParseError::Malformed { .. }));
}

#[test]
fn deep_nesting_is_bounded() {
    let wanted = format!("{{\"rest\":{}", "[{\"resource\":".repeat(100_000));
    assert!(matches!(fails(wanted.as_bytes()), ParseError::Malformed { .. }));
    let unwanted = format!(
        "{{\"resourceType\":\"CapabilityStatement\",\"x\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(read(unwanted.as_bytes()).rest.is_empty());
    let xml = format!(
        "<CapabilityStatement xmlns=\"http://hl7.org/fhir\">{}{}</CapabilityStatement>",
        "<extension>".repeat(100_000),
        "</extension>".repeat(100_000)
    );
    assert!(read(xml.as_bytes()).rest.is_empty());
    let entities = b"<!DOCTYPE c [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>
        <CapabilityStatement xmlns=\"http://hl7.org/fhir\"><name value=\"&b;\"/></CapabilityStatement>";
    assert_eq!(read(entities).name.as_deref(), Some("&b;"));
}

#[test]
fn wrong_types_are_findings_and_what_can_be_used_is_used() {
    let odd = read(ODD);
    assert_eq!(odd.version(), None);
    assert_eq!(odd.formats, ["json"]);
    assert_eq!(odd.rest[0].resources[0].type_, "Patient");
    assert_eq!(odd.rest[0].resources[0].update_create, Some(true));
    let elements: Vec<&str> = odd.oddities.iter().map(|odd| odd.element.as_str()).collect();
    for element in [
        "date",
        "kind",
        "fhirVersion",
        "software",
        "implementation.description",
        "rest.resource.updateCreate",
        "rest.resource.interaction",
        "rest.resource.searchParam",
    ] {
        assert!(elements.contains(&element), "{element} is not among {elements:?}");
    }
    assert_eq!(odd.oddities[0].to_string(), "date is a number, a text expected");
    let found = findings(ODD, "http://h", "application/fhir+json");
    assert!(found.iter().any(|finding| finding.id == "CS-10"));
}

#[test]
fn good_statements_give_notes_only() {
    let json = "application/fhir+json;charset=utf-8";
    let cases = [
        (HAPI, "https://fhir.example.org/fhir", json),
        (EHR, "https://EHR.example.org:443/api/FHIR/R4/", "application/fhir+json; fhirVersion=4.0"),
        (STU3, "https://h/fhir", json),
        (DSTU2, "https://h/fhir", "application/json+fhir"),
        (R5, "http://127.0.0.1:8000", json),
        (R4B_XML, "https://fhir.example.org/r4b", "application/fhir+xml"),
    ];
    for (body, base_url, content_type) in cases {
        let found = findings(body, base_url, content_type);
        assert_eq!(troubles(&found), [], "{base_url}: {found:#?}");
    }
    let found = findings(HAPI, "https://fhir.example.org/fhir", json);
    let notes: Vec<&str> = found.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(
        notes,
        ["declares bulk export for Patient, system", "software is HAPI FHIR Server 8.10.0"]
    );
}

#[test]
fn a_bad_statement_gives_each_of_its_findings() {
    let found = findings(BROKEN, "https://fhir.example.org/fhir", "text/html");
    let has = |id: &str, part: &str| {
        assert!(
            found.iter().any(|finding| finding.id == id && finding.message.contains(part)),
            "no {id} with {part:?} in {found:#?}"
        );
    };
    has("CS-02", "text/html");
    has("CS-03", "4.0.7 was never published");
    has("CS-04", "status live");
    has("CS-04", "in the future");
    has("CS-05", "kind is requirements");
    has("CS-05", "http://internal:8080/fhir");
    has("CS-06", "served as JSON");
    has("CS-07", "messaging.endpoint");
    has("CS-08", "mode server");
    has("CS-09", "more than once: Patient");
    has("CS-09", "Patient.a");
    has("CS-09", "document profile");
    has("CS-10", "unknown code: bulk, Patient.search");
    has("CS-10", "unknown type: Patient.a");
    has("CS-10", "without name or definition: Patient x");
    has("CS-10", "R4 does not have: Nope");
}

#[test]
fn an_empty_statement_names_what_is_missing() {
    let body = br#"{"resourceType":"CapabilityStatement"}"#;
    let found = findings(body, "https://h", "application/json");
    let ids: Vec<(&str, Severity)> = troubles(&found);
    assert_eq!(ids[0], ("CS-02", Severity::Warning));
    assert_eq!(ids[1], ("CS-03", Severity::Error));
    assert_eq!(ids.iter().filter(|(id, _)| *id == "CS-04").count(), 4);
    assert_eq!(ids.iter().filter(|(id, _)| *id == "CS-07").count(), 2);
}

#[test]
fn media_types_and_versions_have_to_agree() {
    let first = |body, content_type| {
        let found = findings(body, "https://fhir.example.org/fhir", content_type);
        troubles(&found).first().map(|(id, severity)| ((*id).to_owned(), *severity))
    };
    let trouble = |id: &str, severity| Some((id.to_owned(), severity));
    assert_eq!(first(HAPI, "application/json+fhir"), trouble("CS-02", Severity::Warning));
    assert_eq!(first(HAPI, "application/fhir+xml"), trouble("CS-02", Severity::Error));
    assert_eq!(
        first(HAPI, "application/fhir+json; charset=ISO-8859-1"),
        trouble("CS-02", Severity::Warning)
    );
    assert_eq!(
        first(HAPI, "application/fhir+json; fhirVersion=5.0"),
        trouble("CS-03", Severity::Warning)
    );
    assert_eq!(first(HAPI, "application/fhir+json; fhirVersion=4.0"), None);
    assert_eq!(first(HAPI, "application/fhir+json; fhirVersion=4.0.1"), None);
}

#[test]
fn tls_findings_follow_version_and_days() {
    let judge = |version, days_left| {
        tls_findings(TlsFacts { version: Some(version), days_left, warn_days: 30 })
            .iter()
            .map(|finding| finding.severity)
            .collect::<Vec<_>>()
    };
    assert_eq!(judge("TLSv1.3", Some(90)), []);
    assert_eq!(judge("TLSv1.1", None), [Severity::Error]);
    assert_eq!(judge("TLSv1.2", Some(5)), [Severity::Warning]);
    assert_eq!(judge("TLSv1.2", Some(-1)), [Severity::Error]);
}

#[test]
fn what_the_inventory_expects_and_is_not_there_is_listed_by_code() {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let map = |key: &str, names: &[&str]| BTreeMap::from([(key.to_owned(), list(names))]);
    let met = MetadataCheck {
        fhir_version: Some(FhirVersion::R4),
        resources: list(&["Patient"]),
        interactions: map("Patient", &["read", "search-type", "search"]),
        operations: list(&[
            "export",
            "$everything",
            "Patient/$export",
            "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export",
        ]),
        profiles: list(&["http://hl7.org/fhir/StructureDefinition/vitalsigns"]),
        formats: list(&["json", "application/fhir+xml"]),
        search_parameters: map("Patient", &["family"]),
        extensions: list(&["http://example.org/websocket"]),
        strict: false,
    };
    assert_eq!(unmet(&read(HAPI), &met, Some(Format::Json)), []);
    let unmet_one = MetadataCheck {
        fhir_version: Some(FhirVersion::R5),
        resources: list(&["Patient", "Claim", "Coverage"]),
        interactions: map("Patient", &["operation"]),
        operations: list(&["Observation/$everything"]),
        profiles: list(&["http://example.org/p"]),
        formats: list(&["yaml"]),
        search_parameters: map("Claim", &["use"]),
        extensions: list(&["http://example.org/e"]),
        strict: false,
    };
    let found = unmet(&read(HAPI), &unmet_one, Some(Format::Json));
    let messages: Vec<(&str, &str)> =
        found.iter().map(|unmet| (unmet.code.as_str(), unmet.message.as_str())).collect();
    assert_eq!(
        messages,
        [
            ("fhir.version_mismatch", "FHIR version: expected R5; the server says R4 (4.0.1)"),
            ("fhir.resource_missing", "types not offered: Claim, Coverage"),
            ("fhir.interaction_missing", "interactions not offered: Patient.operation"),
            ("fhir.operation_missing", "operations not offered: Observation/$everything"),
            ("fhir.profile_missing", "profiles not offered: http://example.org/p"),
            ("fhir.format_missing", "formats not offered: yaml"),
            ("fhir.search_parameter_missing", "search parameters not offered: Claim.use"),
            ("fhir.extension_missing", "extensions not offered: http://example.org/e"),
        ]
    );
    assert!(found.iter().all(|unmet| unmet.code.info().is_some()));
}

#[test]
fn a_message_gives_a_few_examples_only() {
    let wanted: Vec<String> = (0..9).map(|number| format!("Type{number}")).collect();
    let expected = MetadataCheck { resources: wanted, ..MetadataCheck::default() };
    let found = unmet(&read(HAPI), &expected, None);
    assert_eq!(
        found[0].message,
        "types not offered: Type0, Type1, Type2, Type3, Type4, and 4 more"
    );
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_anything_panic(body: Vec<u8>, content_type: Option<String>) {
        let kind = sniff(content_type.as_deref(), &body);
        for kind in [kind, BodyKind::Json, BodyKind::Xml, BodyKind::Other] {
            let _ = parse(kind, &body);
            let _ = super::super::outcome::OperationOutcome::parse(kind, &body);
            let _ = super::super::bundle::BundleFacts::parse(kind, &body);
            let _ = super::super::resource::facts(kind, &body);
            let _ = super::super::health::judge(kind, &body, None);
        }
    }

    #[test]
    fn no_damage_to_a_document_makes_anything_panic(
        which in 0_usize..7, at in 0_usize..8_000, byte: u8, cut in 0_usize..8_000
    ) {
        let mut body = [HAPI, EHR, STU3, DSTU2, R5, R4B_XML, ODD][which].to_vec();
        let length = body.len();
        body[at % length] = byte;
        body.truncate(length - cut % length);
        let kind = sniff(None, &body);
        if let Ok(capability) = parse(kind, &body) {
            let now = jiff::Timestamp::UNIX_EPOCH;
            let context = JudgeContext {
                base_url: "http://h", content_type: None, format: Format::Json, now, tls: None,
            };
            let _ = judge(&capability, &context);
            let snapshot = super::super::drift::Snapshot::of(&capability);
            proptest::prop_assert!(super::super::drift::compare(&snapshot, &snapshot).is_empty());
        }
    }

    #[test]
    fn no_link_makes_the_comparison_panic(requested: String, link: Option<String>) {
        let _ = super::super::bundle::ignored_parameters(&requested, link.as_deref());
    }
}
