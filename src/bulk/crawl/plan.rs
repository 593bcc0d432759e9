//! Which searches a crawl makes: by what the server declares, for everybody or patient by patient.

use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;
use url::Url;

use super::super::halt::Halt;
use super::super::job::{KickOff, Words};
use super::super::ledger::{Entry, Kind, Ledger};
use super::super::lines::{is_id, is_type};
use super::super::request::{ExportRequest, Level};
use super::{FHIR_JSON, PAGE_BYTES};
use crate::auth::caller::{Ask, Caller};
use crate::http::Client;
use crate::model::server::BaseUrl;
use crate::model::{Error, ErrorKind, Result, limits};

/// Resources of a page, unless the request says.
const COUNT: u32 = 500;

/// What a server says of itself, as far as a crawl or the choice of one needs it.
#[derive(Debug, Default, Deserialize)]
pub struct Declared {
    #[serde(default)]
    rest: Vec<Rest>,
}

#[derive(Debug, Default, Deserialize)]
struct Rest {
    #[serde(default)]
    resource: Vec<Resource>,
    #[serde(default)]
    operation: Vec<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    interaction: Vec<Coded>,
    #[serde(default)]
    operation: Vec<Named>,
    #[serde(default)]
    search_param: Vec<Named>,
}

#[derive(Debug, Default, Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Debug, Default, Deserialize)]
struct Coded {
    #[serde(default)]
    code: String,
}

impl Declared {
    /// Reads the server's CapabilityStatement.
    ///
    /// # Errors
    /// When it cannot be had, or is no JSON.
    pub async fn read(caller: &Caller, client: &Arc<Client>) -> Result<Declared, Halt> {
        let url = caller
            .server
            .url
            .join("metadata")
            .map_err(|error| Error::usage(format!("no URL for the metadata: {error}")))?;
        let bytes = get(caller, client, &url, limits::BODY_BYTES).await?;
        serde_json::from_slice(&bytes).map_err(|_| {
            Halt::failed(
                "fhir.not_a_capability_statement",
                "the server's CapabilityStatement cannot be read as JSON",
            )
        })
    }

    /// Whether an export at this level is declared; STU1 has all of them at the top.
    #[must_use]
    pub fn exports(&self, level: &Level) -> bool {
        let named = |all: &[Named]| all.iter().any(|it| it.name.contains("export"));
        let of = |name: &str| {
            let resources = self.rest.iter().flat_map(|rest| &rest.resource);
            resources.filter(|it| it.r#type == name).any(|it| named(&it.operation))
        };
        let top = self.rest.iter().any(|rest| named(&rest.operation));
        match level {
            Level::System => top,
            Level::Patient => of("Patient") || top,
            Level::Group(_) => of("Group") || top,
        }
    }

    /// The names of the types that can be searched.
    #[must_use]
    pub fn searchable_types(&self) -> Vec<String> {
        self.searchable().iter().map(|it| it.r#type.clone()).collect()
    }

    /// Types that can be searched.
    fn searchable(&self) -> Vec<&Resource> {
        let resources = self.rest.iter().flat_map(|rest| &rest.resource);
        resources
            .filter(|it| is_type(&it.r#type))
            .filter(|it| it.interaction.iter().any(|it| it.code == "search-type"))
            .collect()
    }
}

/// Types whose resources belong to a patient (FHIR R4, CompartmentDefinition/patient).
const OF_PATIENTS: [&str; 58] = [
    "Patient",
    "Account",
    "AdverseEvent",
    "AllergyIntolerance",
    "Appointment",
    "AppointmentResponse",
    "Basic",
    "BodyStructure",
    "CarePlan",
    "CareTeam",
    "ChargeItem",
    "Claim",
    "ClaimResponse",
    "ClinicalImpression",
    "Communication",
    "CommunicationRequest",
    "Composition",
    "Condition",
    "Consent",
    "Coverage",
    "CoverageEligibilityRequest",
    "CoverageEligibilityResponse",
    "DetectedIssue",
    "DeviceRequest",
    "DeviceUseStatement",
    "DiagnosticReport",
    "DocumentManifest",
    "DocumentReference",
    "Encounter",
    "EnrollmentRequest",
    "EpisodeOfCare",
    "ExplanationOfBenefit",
    "FamilyMemberHistory",
    "Flag",
    "Goal",
    "ImagingStudy",
    "Immunization",
    "ImmunizationEvaluation",
    "ImmunizationRecommendation",
    "Invoice",
    "List",
    "MeasureReport",
    "Media",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationRequest",
    "MedicationStatement",
    "MolecularSequence",
    "NutritionOrder",
    "Observation",
    "Procedure",
    "Provenance",
    "QuestionnaireResponse",
    "RelatedPerson",
    "RiskAssessment",
    "ServiceRequest",
    "Specimen",
    "VisionPrescription",
];

/// Notes the first page of every search in the ledger.
///
/// # Errors
/// When the server does not say what can be searched, or the group cannot be read.
pub async fn plan(
    caller: &Caller,
    client: &Arc<Client>,
    ledger: &Ledger,
    request: &ExportRequest,
) -> Result<(), Halt> {
    let declared = match Declared::read(caller, client).await {
        Ok(declared) => declared,
        // With types that are named it goes without.
        Err(_) if !request.types.is_empty() => Declared::default(),
        Err(halt) => return Err(halt),
    };
    let types = types(&declared, request);
    if types.is_empty() {
        return Err(Halt::failed(
            "fhir.interaction_missing",
            "the server declares no type that can be searched",
        )
        .hint("name the types: --type Patient,Observation"));
    }
    let patients = match &request.level {
        Level::Group(id) => Some(members(caller, client, id).await?),
        _ if !request.patients.is_empty() => {
            Some(request.patients.iter().map(|it| plain_id(it).to_owned()).collect())
        }
        _ => None,
    };
    let base = &caller.server.url;
    let mut searches = Vec::new();
    for name in &types {
        let filters: Vec<&str> = request
            .type_filters
            .iter()
            .filter_map(|filter| filter.split_once('?'))
            .filter(|(of, _)| of == name)
            .map(|(_, query)| query)
            .collect();
        // Filters of one type add up.
        let filters = if filters.is_empty() { vec![""] } else { filters };
        for filter in filters {
            match &patients {
                None => searches.push((name.clone(), query(filter, None, request))),
                Some(ids) => {
                    for id in ids {
                        let who = match name.as_str() {
                            "Patient" => format!("_id={id}"),
                            _ => format!("patient={id}"),
                        };
                        searches.push((name.clone(), query(filter, Some(&who), request)));
                    }
                }
            }
        }
    }
    for (number, (name, query)) in (0..).zip(searches) {
        let url = base
            .join(&format!("{name}?{query}"))
            .map_err(|error| Error::usage(format!("no URL for the search: {error}")))?;
        ledger.take_page(
            number,
            |take| {
                take(Entry {
                    kind: Kind::Output,
                    position: 0,
                    resource_type: name,
                    url: url.to_string(),
                    expected: None,
                })
            },
            &mut Vec::new,
        )?;
    }
    Ok(())
}

/// What a crawl asks for first; the notes say what follows.
///
/// # Errors
/// When the base leads to no URL.
pub fn first_request(
    base: &BaseUrl,
    request: &ExportRequest,
    notes: &mut Vec<String>,
) -> Result<KickOff> {
    let url = base
        .join("metadata")
        .map_err(|error| Error::usage(format!("no URL for the metadata: {error}")))?;
    let types = match request.types.is_empty() {
        true => "each type that the server can search".to_owned(),
        false => request.types.join(", "),
    };
    let whose = match &request.level {
        Level::Group(id) => format!(", for each patient of Group/{id}"),
        _ if !request.patients.is_empty() => ", for each patient that is named".to_owned(),
        _ => String::new(),
    };
    let query = query("", None, request);
    notes.push(format!("then searches, page by page{whose}: TYPE?{query} of {types}"));
    for filter in &request.type_filters {
        notes.push(format!("with {filter}"));
    }
    Ok(KickOff {
        method: http::Method::GET,
        url,
        headers: Vec::new(),
        accept: FHIR_JSON,
        content_type: FHIR_JSON,
        body: None,
    })
}

fn types(declared: &Declared, request: &ExportRequest) -> Vec<String> {
    if !request.types.is_empty() {
        return request.types.clone();
    }
    let all = declared.searchable();
    let names = all.iter().filter(|it| match request.level {
        Level::System => {
            !matches!(it.r#type.as_str(), "Bundle" | "OperationOutcome" | "Parameters")
        }
        Level::Patient => OF_PATIENTS.contains(&it.r#type.as_str()),
        Level::Group(_) => {
            let by_patient = it.search_param.iter().any(|param| param.name == "patient");
            it.r#type == "Patient" || (OF_PATIENTS.contains(&it.r#type.as_str()) && by_patient)
        }
    });
    names.map(|it| it.r#type.clone()).collect()
}

fn query(filter: &str, who: Option<&str>, request: &ExportRequest) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(who.map(str::to_owned));
    parts.extend((!filter.is_empty()).then(|| filter.to_owned()));
    let encoded = |text: &str| text.replace('+', "%2B");
    parts.extend(request.since.iter().map(|since| format!("_lastUpdated=ge{}", encoded(since))));
    parts.extend(request.until.iter().map(|until| format!("_lastUpdated=lt{}", encoded(until))));
    let own: Vec<String> =
        request.params.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    if !own.iter().any(|it| it.starts_with("_count=")) {
        parts.push(format!("_count={COUNT}"));
    }
    parts.extend(own);
    parts.join("&")
}

fn plain_id(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    member: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    entity: Option<Reference>,
    #[serde(default)]
    inactive: bool,
}

#[derive(Deserialize)]
struct Reference {
    #[serde(default)]
    reference: String,
}

/// The patients of a group that are members now.
async fn members(caller: &Caller, client: &Arc<Client>, id: &str) -> Result<Vec<String>, Halt> {
    let url = caller
        .server
        .url
        .join(&format!("Group/{id}"))
        .map_err(|error| Error::usage(format!("no URL for the group: {error}")))?;
    let bytes = get(caller, client, &url, PAGE_BYTES).await?;
    let group: Group = serde_json::from_slice(&bytes)
        .map_err(|_| Halt::failed("fhir.read_failed", "the Group cannot be read as JSON"))?;
    let members = group.member.into_iter().filter(|member| !member.inactive);
    let references = members.filter_map(|member| member.entity).map(|entity| entity.reference);
    Ok(references
        .filter(|reference| reference.contains("Patient/"))
        .map(|reference| plain_id(&reference).to_owned())
        .filter(|id| is_id(id))
        .collect())
}

async fn get(caller: &Caller, client: &Arc<Client>, url: &Url, most: u64) -> Result<Vec<u8>, Halt> {
    client.admit(url).await;
    let answer = caller
        .ask(client, &Ask::get(url, FHIR_JSON))
        .await
        .map_err(|failure| Halt::of(failure, false))?;
    let status = answer.status().as_u16();
    if status != 200 {
        let (words, _) = Words::read(answer).await;
        let kind = match status {
            401 | 403 => ErrorKind::Credential,
            429 | 503 => ErrorKind::Resumable,
            _ => ErrorKind::Unavailable,
        };
        let what = url.path().rsplit('/').next().unwrap_or_default().to_owned();
        let what = if what == "metadata" { "its metadata" } else { "what is asked for" };
        return Err(Halt::new(
            kind,
            "http.status",
            format!("the server refuses {what}: HTTP {status}"),
        )
        .server_text(words.text));
    }
    let deadline = Instant::now() + caller.server.timeouts.total;
    answer.whole(most, deadline).await.map_err(|failure| Halt::of(failure, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_carry_time_and_own_parameters() {
        let request = ExportRequest {
            since: Some("2024-01-01T00:00:00+02:00".into()),
            params: vec![("_count".into(), "50".into())],
            ..ExportRequest::new(Level::System)
        };
        assert_eq!(
            query("category=laboratory", Some("patient=1"), &request),
            "patient=1&category=laboratory&_lastUpdated=ge2024-01-01T00:00:00%2B02:00&_count=50"
        );
    }

    #[test]
    fn an_export_is_found_at_its_level_or_at_the_top() {
        let declared: Declared = serde_json::from_str(
            r#"{"rest":[{"resource":[{"type":"Group","operation":[{"name":"group-export"}]},{"type":"Patient"}]}]}"#,
        )
        .unwrap();
        assert!(declared.exports(&Level::Group("g".into())));
        assert!(!declared.exports(&Level::Patient) && !declared.exports(&Level::System));
    }
}
