//! The CapabilityStatement: what this server really does, in the words of its version.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::store::instant;
use super::table::{COMMON, TYPES, Type};
use crate::model::server::FhirVersion;
use crate::sandbox::bulk::{BulkPlan, ImportStyle, Level};
use crate::sandbox::persona::Persona;
use crate::sandbox::sign_in::Method;

/// What a CapabilityStatement depends on.
pub(in crate::sandbox) struct Facts<'a> {
    pub(in crate::sandbox) version: FhirVersion,
    /// The base URL under which it is asked for.
    pub(in crate::sandbox) base: &'a str,
    pub(in crate::sandbox) auth: Method,
    pub(in crate::sandbox) persona: Option<&'a Persona>,
    pub(in crate::sandbox) bulk: &'a BulkPlan,
    pub(in crate::sandbox) started: Timestamp,
}

/// The version's own number.
pub(in crate::sandbox) fn version_number(version: FhirVersion) -> &'static str {
    match version {
        FhirVersion::Dstu2 => "1.0.2",
        FhirVersion::Stu3 => "3.0.2",
        FhirVersion::R4 => "4.0.1",
        FhirVersion::R4B => "4.3.0",
        FhirVersion::R5 => "5.0.0",
    }
}

/// Makes the CapabilityStatement, its elements in the order of the definition.
pub(in crate::sandbox) fn statement(facts: &Facts) -> Value {
    let version = facts.version;
    let mut statement = json!({
        "resourceType": "CapabilityStatement",
        "id": "sandbox",
        "url": format!("{}/metadata", facts.base),
        "version": env!("CARGO_PKG_VERSION"),
        "name": "FhirctlSandbox",
        "title": "fhirctl sandbox",
        "status": "active",
        "experimental": true,
        "date": instant(facts.started),
        "publisher": "fhirctl sandbox",
        "description": "A small FHIR server with synthetic records, for trials and drills. \
                        Requests take JSON; answers come as JSON or XML.",
        "kind": "instance",
        // Its place in the order; it goes when there is no export.
        "instantiates": [],
        "software": {"name": "fhirctl sandbox", "version": env!("CARGO_PKG_VERSION")},
        "implementation": {
            "description": "A sandbox on this machine; what is written here is lost when it stops",
            "url": facts.base,
        },
        "fhirVersion": version_number(version),
    });
    if let Some(persona) = facts.persona {
        play(&mut statement, persona);
    }
    if version == FhirVersion::Stu3 {
        statement["acceptUnknown"] = json!("both");
    }
    let json_alone = facts.persona.is_some_and(|persona| !persona.xml);
    statement["format"] = match json_alone {
        true => json!(["application/fhir+json", "json"]),
        false => json!(["application/fhir+json", "application/fhir+xml", "json", "xml"]),
    };
    let mut rest = json!({"mode": "server", "security": security(facts.auth)});
    rest["resource"] = TYPES.iter().map(|kind| resource(kind, version)).collect();
    rest["interaction"] = json!([{"code": "transaction"}, {"code": "batch"}]);
    if version != FhirVersion::Stu3 {
        rest["operation"] = json!([{
            "name": "versions",
            "definition": "http://hl7.org/fhir/OperationDefinition/CapabilityStatement-versions",
        }]);
    }
    declare_bulk(&mut statement, &mut rest, facts);
    statement["rest"] = json!([rest]);
    statement
}

/// Says which exports there are (Bulk Data Access, section on the CapabilityStatement).
fn declare_bulk(statement: &mut Value, rest: &mut Value, facts: &Facts) {
    const BASE: &str = "http://hl7.org/fhir/uv/bulkdata";
    let mark = facts.bulk.version.as_ref().map(|version| format!("|{version}")).unwrap_or_default();
    let stu3 = facts.version == FhirVersion::Stu3;
    let mut offered = false;
    for (level, kind, definition) in [
        (Level::System, None, "export"),
        (Level::Patient, Some("Patient"), "patient-export"),
        (Level::Group, Some("Group"), "group-export"),
    ] {
        if !facts.bulk.offers(level) {
            continue;
        }
        offered = true;
        let url = format!("{BASE}/OperationDefinition/{definition}{mark}");
        let definition = if stu3 { json!({"reference": url}) } else { json!(url) };
        // STU3 has operations at the system alone.
        let name = if stu3 && kind.is_some() { url_name(&url) } else { "export" };
        let operation = json!({"name": name, "definition": definition});
        let kind = kind.filter(|_| !stu3);
        let rows = rest["resource"].as_array_mut();
        let row = match (kind, rows) {
            (Some(kind), Some(rows)) => rows.iter_mut().find(|row| row["type"] == kind),
            _ => None,
        };
        let place = if let Some(row) = row { row } else { &mut *rest };
        match place.get_mut("operation").and_then(Value::as_array_mut) {
            Some(operations) => operations.push(operation),
            None => place["operation"] = json!([operation]),
        }
    }
    declare_import(rest, facts);
    if offered {
        let url = format!("{BASE}/CapabilityStatement/bulk-data{mark}");
        statement["instantiates"] = json!([url]);
    } else if let Some(members) = statement.as_object_mut() {
        members.shift_remove("instantiates");
    }
}

fn declare_import(rest: &mut Value, facts: &Facts) {
    let definition = match facts.bulk.import {
        _ if !facts.bulk.is_enabled() => return,
        Some(ImportStyle::None) => return,
        Some(ImportStyle::Hapi) => format!("{}/OperationDefinition/-s-import", facts.base),
        Some(ImportStyle::Microsoft) => format!("{}/OperationDefinition/import", facts.base),
        Some(ImportStyle::Manifest) | None => {
            "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/import".to_owned()
        }
    };
    let definition = match facts.version {
        FhirVersion::Stu3 => json!({"reference": definition}),
        _ => json!(definition),
    };
    let operation = json!({"name": "import", "definition": definition});
    match rest.get_mut("operation").and_then(Value::as_array_mut) {
        Some(operations) => operations.push(operation),
        None => rest["operation"] = json!([operation]),
    }
}

fn url_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}

/// Says of itself what the persona's server says.
fn play(statement: &mut Value, persona: &Persona) {
    let Some(members) = statement.as_object_mut() else { return };
    match &persona.publisher {
        Some(publisher) => members.insert("publisher".into(), publisher.as_str().into()),
        None => members.shift_remove("publisher"),
    };
    match persona.software.as_deref() {
        Some("") => drop(members.shift_remove("software")),
        Some(name) => {
            let mut software = json!({"name": name});
            if let Some(version) = &persona.software_version {
                software["version"] = version.as_str().into();
            }
            members.insert("software".into(), software);
        }
        None => {}
    }
    if !persona.xml {
        let description = "A small FHIR server with synthetic records, for trials and drills. \
                           Requests and answers are JSON.";
        members.insert("description".into(), description.into());
    }
    if let Some(copyright) = &persona.copyright {
        members.insert("copyright".into(), copyright.as_str().into());
    }
}

fn security(auth: Method) -> Value {
    let text = match auth {
        Method::None => "Open: no sign-in is asked for".to_owned(),
        Method::Basic => "HTTP Basic (RFC 7617)".to_owned(),
        Method::Bearer => "A fixed bearer token (RFC 6750), given out of band".to_owned(),
        Method::ApiKey | Method::Headers => {
            format!("A key in the header {}", auth.header().unwrap_or_default())
        }
        Method::Oauth2 => "OAuth 2.0 (RFC 6749)".to_owned(),
        Method::SmartBackend => "SMART Backend Services".to_owned(),
        Method::Mtls => "A client certificate (RFC 8446)".to_owned(),
        Method::Azure => "A token of Microsoft Entra ID".to_owned(),
        Method::Google => "A token for a Google service account".to_owned(),
        Method::AwsSigv4 => "AWS Signature Version 4".to_owned(),
    };
    json!({"cors": false, "description": text})
}

fn resource(kind: &Type, version: FhirVersion) -> Value {
    let interactions =
        ["read", "vread", "update", "delete", "history-instance", "create", "search-type"];
    let mut row = json!({"type": kind.name});
    if version == FhirVersion::Stu3 {
        row["profile"] = json!({
            "reference": format!("http://hl7.org/fhir/StructureDefinition/{}", kind.name),
        });
    } else {
        row["profile"] = json!(format!("http://hl7.org/fhir/StructureDefinition/{}", kind.name));
    }
    if version == FhirVersion::R4 && !kind.us_core.is_empty() {
        row["supportedProfile"] = kind
            .us_core
            .iter()
            .map(|name| json!(format!("http://hl7.org/fhir/us/core/StructureDefinition/{name}")))
            .collect();
    }
    row["interaction"] = interactions.iter().map(|code| json!({"code": code})).collect();
    row["versioning"] = json!("versioned-update");
    row["readHistory"] = json!(true);
    row["updateCreate"] = json!(true);
    row["conditionalCreate"] = json!(false);
    row["conditionalRead"] = json!("not-match");
    row["conditionalUpdate"] = json!(false);
    row["conditionalDelete"] = json!("not-supported");
    row["searchParam"] = COMMON
        .iter()
        .chain(kind.parameters)
        .map(|parameter| {
            json!({
                "name": parameter.name,
                "definition":
                    format!("http://hl7.org/fhir/SearchParameter/{}", parameter.definition),
                "type": parameter.kind.as_str(),
            })
        })
        .collect();
    row
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn of(version: FhirVersion) -> Value {
        statement(&Facts {
            version,
            base: "http://127.0.0.1:1/fhir",
            auth: Method::Basic,
            persona: None,
            bulk: &BulkPlan::default(),
            started: "2026-01-02T03:04:05Z".parse().unwrap(),
        })
    }

    #[test]
    fn a_statement_has_what_every_version_demands() {
        for version in [FhirVersion::Stu3, FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5] {
            let statement = of(version);
            assert_eq!(FhirVersion::of(statement["fhirVersion"].as_str().unwrap()), Some(version));
            assert_eq!(statement["kind"], "instance");
            assert_eq!(statement["date"], "2026-01-02T03:04:05.000Z");
            assert_eq!(statement["implementation"]["url"], "http://127.0.0.1:1/fhir");
            assert!(statement["implementation"]["description"].is_string());
            assert!(statement["software"]["version"].is_string());
            assert_eq!(statement["rest"][0]["mode"], "server");
            assert_eq!(statement.get("acceptUnknown").is_some(), version == FhirVersion::Stu3);
        }
    }

    #[test]
    fn types_and_search_parameters_are_named_once() {
        let statement = of(FhirVersion::R4);
        let resources = statement["rest"][0]["resource"].as_array().unwrap();
        let types: BTreeSet<_> = resources.iter().map(|row| row["type"].as_str()).collect();
        assert_eq!(types.len(), resources.len());
        for row in resources {
            let parameters = row["searchParam"].as_array().unwrap();
            let names: BTreeSet<_> = parameters.iter().map(|row| row["name"].as_str()).collect();
            assert_eq!(names.len(), parameters.len());
        }
    }
}
