//! An export by searches, page by page, from a server without `$export` or with groups too large
//! for it: the same ledger, the same receipt, and the server's rate limit.
//!
//! Each page is a file of its own. The page that follows is noted before this one is, so that a run
//! that was interrupted goes on where the chain was.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::caller::{Ask, Caller};
use super::download::{Connections, End};
use super::halt::Halt;
use super::job::{Words, follow};
use super::ledger::{Done, Entry, FileRow, Finding, Kind, Ledger, Severity, cannot_write};
use super::lines::{Lines, is_id, is_type};
use super::request::{ExportRequest, Level};
use super::seal::{Complete, temporary};
use super::store::{Coding, Intake, Refused};
use super::transfer::{Event, Transfer};
use crate::fhir::body::BodyKind;
use crate::fhir::outcome::{IssueSeverity, OperationOutcome};
use crate::http::Client;
use crate::model::{Code, Error, ErrorKind, limits};

const FHIR_JSON: &str = "application/fhir+json";
/// Most bytes of a page.
const PAGE_BYTES: u64 = 64 * 1024 * 1024;
/// Resources of a page, unless the request says.
const COUNT: u32 = 500;
/// Attempts at a page.
const ATTEMPTS: u32 = 5;
/// Most pages of one search: what leads on for ever is cut off there.
const PAGES: u32 = 1_000_000;

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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(default)]
    resource_type: String,
    #[serde(default)]
    link: Vec<Link>,
    #[serde(borrow, default)]
    entry: Vec<Found<'a>>,
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    relation: String,
    #[serde(default)]
    url: String,
}

#[derive(Deserialize)]
struct Found<'a> {
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    search: Option<Mode>,
}

#[derive(Deserialize)]
struct Mode {
    #[serde(default)]
    mode: String,
}

/// Fetches a page, with as many attempts as it is worth.
///
/// # Errors
/// When nothing more can be fetched at all.
pub(super) async fn fetch(
    transfer: &Arc<Transfer>,
    connections: &mut Connections,
    file: &FileRow,
) -> Result<End, Halt> {
    let started = Instant::now();
    let base = transfer.caller.server.url.url();
    let given_up = |code: Code, message: String, may_come_back: bool| {
        Ok(End::GivenUp { code, message, may_come_back })
    };
    let url = match follow(base, &file.url) {
        Ok(url) => url,
        Err(failure) => return given_up(failure.code, failure.message, false),
    };
    let client = match connections.to(transfer, &url) {
        Ok(client) => client,
        Err(failure) => return given_up(failure.code, failure.message, false),
    };
    let mut tries = 0;
    let body = loop {
        tries += 1;
        let (code, message, wait) = match page(transfer, &client, &url).await? {
            Got::Body(body) => break body,
            Got::Refused(code, message) => return given_up(code, message, false),
            Got::Again(code, message, wait) => (code, message, wait),
        };
        if tries >= ATTEMPTS {
            return given_up(code, format!("{message}; {ATTEMPTS} attempts"), true);
        }
        let wait = wait.map_or_else(
            || transfer.backoff(tries),
            |asked| transfer.pace.wait(Some(asked), tries),
        );
        let url = file.url.clone();
        transfer.tell(&Event::FileAgain { file: file.id, url, code, message, wait });
        tokio::time::sleep(wait).await;
    };
    let page: Page<'_> = match serde_json::from_slice(&body) {
        Ok(page) => page,
        Err(_) => {
            return given_up(
                Code::new("fhir.malformed"),
                "a page of the search is no JSON".to_owned(),
                false,
            );
        }
    };
    if page.resource_type != "Bundle" {
        let message = "the search is answered with something else than a Bundle".to_owned();
        return given_up(Code::new("fhir.search_failed"), message, false);
    }
    store(transfer, file, &url, &page, started, tries - 1).await?;
    Ok(End::Done)
}

/// What a request for a page brought.
enum Got {
    Body(Vec<u8>),
    Again(Code, String, Option<Duration>),
    Refused(Code, String),
}

async fn page(transfer: &Transfer, client: &Arc<Client>, url: &Url) -> Result<Got, Halt> {
    client.admit(url).await;
    let answer = match transfer.caller.ask(client, &Ask::get(url, FHIR_JSON)).await {
        Ok(answer) => answer,
        Err(failure) => {
            let halt = Halt::of(failure, true);
            return match halt.kind {
                ErrorKind::Resumable => Ok(Got::Again(halt.code, halt.message, None)),
                ErrorKind::Unavailable => Ok(Got::Refused(halt.code, halt.message)),
                _ => Err(halt),
            };
        }
    };
    let status = answer.status().as_u16();
    let wait = answer.retry_after();
    let message = format!("the search is refused: HTTP {status}");
    match status {
        200 => {
            let deadline = Instant::now() + transfer.caller.server.timeouts.total;
            match answer.whole(PAGE_BYTES, deadline).await {
                Ok(body) => Ok(Got::Body(body)),
                Err(failure) => Ok(Got::Again(failure.code, failure.message, None)),
            }
        }
        401 => Err(Halt::new(
            ErrorKind::Credential,
            "auth.unauthorized",
            "the server refuses the credential at a search (HTTP 401)",
        )),
        403 => Ok(Got::Refused(Code::new("auth.forbidden"), message)),
        429 => Ok(Got::Again(Code::new("http.rate_limited"), message, wait)),
        408 | 425 | 500..=599 => Ok(Got::Again(Code::new("http.status"), message, wait)),
        _ => Ok(Got::Refused(Code::new("fhir.search_failed"), message)),
    }
}

/// Writes a page's resources, notes the page that follows, then this one.
async fn store(
    transfer: &Arc<Transfer>,
    file: &FileRow,
    url: &Url,
    page: &Page<'_>,
    started: Instant,
    retries: u32,
) -> Result<(), Halt> {
    let name = transfer.name_of(file);
    let path = temporary(&transfer.folder, &name);
    let number = transfer.attempt.fetch_add(1, Ordering::Relaxed);
    transfer.tell(&Event::FileStarted {
        file: file.id,
        name: name.clone(),
        item: file.kind.as_str(),
        resource_type: file.resource_type.clone(),
        url: file.url.clone(),
        length: None,
    });
    let mut findings = Vec::new();
    let mut lines = Vec::new();
    for found in &page.entry {
        let Some(resource) = found.resource else { continue };
        if found.search.as_ref().is_some_and(|search| search.mode == "outcome") {
            findings.extend(outcome(resource.get()));
        } else {
            compact(resource.get(), &mut lines);
            lines.push(b'\n');
        }
    }
    let judge = Lines::new(
        Kind::Output,
        &file.resource_type,
        false,
        transfer.max_line,
        transfer.ids.of(file.id, number),
    );
    let full = |error: std::io::Error| Halt::from(cannot_write(&path, &error));
    let compression = transfer.compression;
    let stored = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || {
            let mut intake = Intake::create(&path, Coding::Identity, compression, judge)?;
            intake.take(&lines)?;
            intake.finish(None)
        })
        .await
        .map_err(|_| Halt::from(Error::internal("writing a page has broken off")))?
    };
    let stored = stored.map_err(|refused| match refused {
        Refused::Local(error) => full(error),
        Refused::Broken(code, message) => Halt::failed(code, message),
    })?;
    findings.extend(stored.seen.findings);
    let next = page.link.iter().find(|link| link.relation == "next").map(|link| &link.url);
    let next = next.and_then(|next| follow(url, next).ok());
    let leads_back = next.as_ref().is_some_and(|next| next == url) || file.position >= PAGES;
    if leads_back {
        findings.push(Finding {
            file: None,
            line: None,
            code: "fhir.search_failed".to_owned(),
            severity: Severity::Error,
            message: "the search's pages lead in a circle".to_owned(),
        });
    }
    if let Some(next) = next.filter(|_| !leads_back) {
        let entry = Entry {
            kind: Kind::Output,
            position: file.position + 1,
            resource_type: file.resource_type.clone(),
            url: next.to_string(),
            expected: None,
        };
        if transfer.ledger.knows_url(file.page, next.as_str())? {
            findings.push(Finding {
                file: None,
                line: None,
                code: "fhir.search_failed".to_owned(),
                severity: Severity::Error,
                message: "the search's pages lead in a circle".to_owned(),
            });
        } else {
            transfer.ledger.take_page(file.page, |take| take(entry), &mut Vec::new)?;
        }
    }
    let done = Done {
        name: name.clone(),
        attempt: number,
        lines: stored.seen.lines,
        bytes: stored.bytes,
        content_bytes: stored.content_bytes,
        sha256: stored.sha256,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        retries,
    };
    let (lines, bytes, content_bytes) = (done.lines, done.bytes, done.content_bytes);
    let found = findings.len() as u64;
    transfer.sealer.seal(Complete { id: file.id, file: stored.file, done, findings }).await?;
    transfer.tell(&Event::Bytes { file: file.id, bytes });
    transfer.tell(&Event::FileDone {
        file: file.id,
        name,
        url: file.url.clone(),
        lines,
        bytes,
        content_bytes,
        found,
    });
    Ok(())
}

/// What a server says beside its matches.
fn outcome(text: &str) -> Option<Finding> {
    let outcome = OperationOutcome::parse(BodyKind::Json, text.as_bytes())?;
    let worst = outcome.worst()?;
    let severity = match worst {
        IssueSeverity::Error | IssueSeverity::Fatal => Severity::Error,
        IssueSeverity::Warning => Severity::Warning,
        _ => return None,
    };
    Some(Finding {
        file: None,
        line: None,
        code: "bulk.outcome".to_owned(),
        severity,
        message: format!("the server reports an issue of severity {}", worst.as_str()),
    })
}

/// A JSON value on one line; numbers and texts stay as they came.
fn compact(json: &str, out: &mut Vec<u8>) {
    let (mut is_text, mut is_escaped) = (false, false);
    out.reserve(json.len() + 1);
    for byte in json.bytes() {
        if is_text {
            out.push(byte);
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => is_text = false,
                _ => {}
            }
        } else if !byte.is_ascii_whitespace() {
            is_text = byte == b'"';
            out.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_on_one_line_keeps_its_decimals_and_its_spaces() {
        let mut out = Vec::new();
        compact(
            "{\n  \"value\" : 1.10,\n \"text\": \"a \\\" b\\\\\" , \"x\":[ 1 , 2 ]\r\n}",
            &mut out,
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"value\":1.10,\"text\":\"a \\\" b\\\\\",\"x\":[1,2]}"
        );
    }

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
