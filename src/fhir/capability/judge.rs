//! What is wrong with a CapabilityStatement: the findings CS-02 to CS-23.

use jiff::{SignedDuration, Timestamp};

use crate::model::server::{FhirVersion, Format};
use crate::model::{Finding, Severity};

use super::super::body::{is_fhir_media_type, media_parameter, media_type};
use super::super::types;
use super::{Capability, format_family, shown, without_version};

mod lists;

/// Most names that a message gives as examples.
const EXAMPLES: usize = 5;

const YEARS_2: SignedDuration = SignedDuration::from_hours(2 * 365 * 24);

const US_CORE: &str = "http://hl7.org/fhir/us/core/";

/// What else is known when a statement is judged.
#[derive(Clone, Copy, Debug)]
pub struct JudgeContext<'c> {
    /// The base URL that was asked.
    pub base_url: &'c str,
    pub content_type: Option<&'c str>,
    /// The form that the body really has.
    pub format: Format,
    pub now: Timestamp,
    /// Of the connection; `None` when it was plain or is not known.
    pub tls: Option<TlsFacts<'c>>,
}

/// What a handshake told.
#[derive(Clone, Copy, Debug)]
pub struct TlsFacts<'c> {
    /// Such as `TLSv1.3`.
    pub version: Option<&'c str>,
    /// Whole days until the certificate ends.
    pub days_left: Option<i64>,
    /// Days below which that is worth a warning.
    pub warn_days: i64,
}

/// Judges a statement; what is in order gives no finding but for a few notes.
#[must_use]
pub fn judge(capability: &Capability<'_>, context: &JudgeContext<'_>) -> Vec<Finding> {
    let mut findings = Findings::default();
    let version = capability.version();
    media(capability, context, &mut findings);
    fhir_version(capability, context, &mut findings);
    header(capability, context, &mut findings);
    if version.is_none_or(|version| version >= FhirVersion::R4) {
        implementation(capability, context, &mut findings);
    }
    formats(capability, context, &mut findings);
    content(capability, &mut findings);
    lists::duplicates(capability, &mut findings);
    if let Some(version) = version.filter(|version| *version >= FhirVersion::R4) {
        lists::codes(capability, version, &mut findings);
        lists::unresolvable(capability, &mut findings);
    }
    for oddity in capability.oddities.iter().take(EXAMPLES) {
        findings.warning("CS-10", oddity.to_string());
    }
    guides(capability, &mut findings);
    us_core(capability, version, &mut findings);
    bulk_export(capability, &mut findings);
    loading(capability, version, &mut findings);
    if let Some(tls) = context.tls {
        findings.list.extend(tls_findings(tls));
    }
    software(capability, &mut findings);
    findings.list
}

/// CS-01, for a fetch that gave no statement at all.
#[must_use]
pub fn fetch_finding(message: impl Into<String>) -> Finding {
    Finding { id: "CS-01".to_owned(), severity: Severity::Error, message: message.into() }
}

/// CS-20: the version of TLS and the days that the certificate has left.
#[must_use]
pub fn tls_findings(tls: TlsFacts<'_>) -> Vec<Finding> {
    let mut findings = Findings::default();
    if let Some(version) = tls.version
        && matches!(version, "SSLv3" | "TLSv1" | "TLSv1.0" | "TLSv1.1")
    {
        findings.error("CS-20", format!("the connection uses {version}; TLS 1.2 is the least"));
    }
    match tls.days_left {
        Some(days) if days < 0 => {
            findings.error("CS-20", "the certificate has ended".to_owned());
        }
        Some(days) if days < tls.warn_days => {
            findings.warning("CS-20", format!("the certificate ends in {days} days"));
        }
        _ => {}
    }
    findings.list
}

/// CS-22: status, time and size of the answer, for the record.
#[must_use]
pub fn response_finding(status: u16, duration_ms: f64, body_bytes: u64) -> Finding {
    Finding {
        id: "CS-22".to_owned(),
        severity: Severity::Info,
        message: format!("answered {status} in {duration_ms:.0} ms with {body_bytes} bytes"),
    }
}

#[derive(Default)]
struct Findings {
    list: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, id: &str, severity: Severity, message: String) {
        self.list.push(Finding { id: id.to_owned(), severity, message });
    }

    fn error(&mut self, id: &str, message: String) {
        self.add(id, Severity::Error, message);
    }

    fn warning(&mut self, id: &str, message: String) {
        self.add(id, Severity::Warning, message);
    }

    fn info(&mut self, id: &str, message: String) {
        self.add(id, Severity::Info, message);
    }
}

/// A few names for a message: bounded in number and length, and made safe to show.
pub(super) fn examples<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut names = names.into_iter();
    let mut list: Vec<String> = names.by_ref().take(EXAMPLES).map(shown).collect();
    let rest = names.count();
    if rest > 0 {
        list.push(format!("and {rest} more"));
    }
    list.join(", ")
}

fn media(capability: &Capability<'_>, context: &JudgeContext<'_>, findings: &mut Findings) {
    let Some(name) = media_type(context.content_type) else {
        findings.warning("CS-02", "the answer has no Content-Type".to_owned());
        return;
    };
    let is_old = matches!(name.as_str(), "application/json+fhir" | "application/xml+fhir");
    let is_dstu2 = capability.version() == Some(FhirVersion::Dstu2);
    if matches!(name.as_str(), "text/html" | "application/xhtml+xml") {
        findings.error("CS-02", format!("Content-Type is {name} although the body is FHIR"));
    } else if is_old && !is_dstu2 {
        findings.warning("CS-02", format!("Content-Type {} is that of DSTU2", shown(&name)));
    } else if !is_fhir_media_type(&name) {
        let right = right_media_type(context.format);
        findings.warning("CS-02", format!("Content-Type is {}, not {right}", shown(&name)));
    } else if (name.contains("json")) != (context.format == Format::Json) {
        findings.error("CS-02", format!("Content-Type is {name}, but the body is of another form"));
    }
    if let Some(charset) = context.content_type.and_then(|full| media_parameter(full, "charset"))
        && !matches!(charset.to_ascii_lowercase().as_str(), "utf-8" | "utf8" | "us-ascii" | "")
    {
        findings.warning("CS-02", format!("charset is {}; FHIR is UTF-8 only", shown(charset)));
    }
}

fn right_media_type(format: Format) -> &'static str {
    match format {
        Format::Json => "application/fhir+json",
        Format::Xml => "application/fhir+xml",
    }
}

fn fhir_version(capability: &Capability<'_>, context: &JudgeContext<'_>, findings: &mut Findings) {
    let Some(said) = capability.fhir_version.as_deref().map(str::trim) else {
        findings.error("CS-03", "fhirVersion is missing".to_owned());
        return;
    };
    let known = capability.version();
    if !types::PUBLISHED_VERSIONS.contains(&said) {
        let message = format!("fhirVersion {} was never published", shown(said));
        if known.is_some() {
            findings.warning("CS-03", message);
        } else {
            findings.error("CS-03", message);
        }
    } else if known.is_none() || said.contains('-') {
        findings.warning("CS-03", format!("fhirVersion {said} is not a final release"));
    }
    let is_conformance = capability.resource_type == "Conformance";
    if known.is_some_and(|version| (version == FhirVersion::Dstu2) != is_conformance) {
        findings.error(
            "CS-03",
            format!("fhirVersion {said} does not go with a {}", capability.resource_type),
        );
    }
    if let Some(known) = known
        && let Some(parameter) =
            context.content_type.and_then(|full| media_parameter(full, "fhirVersion"))
        && parameter != known.mime_parameter()
        && FhirVersion::of(parameter) != Some(known)
    {
        findings.warning(
            "CS-03",
            format!("Content-Type says fhirVersion {}, the statement {said}", shown(parameter)),
        );
    }
}

fn header(capability: &Capability<'_>, context: &JudgeContext<'_>, findings: &mut Findings) {
    let is_dstu2 = capability.version() == Some(FhirVersion::Dstu2);
    match capability.status.as_deref() {
        // DSTU2 lets it out.
        None if is_dstu2 => {}
        None => findings.error("CS-04", "status is missing".to_owned()),
        Some("draft" | "active" | "unknown") => {}
        Some("retired") => findings.warning("CS-04", "status is retired".to_owned()),
        Some(other) => findings.error("CS-04", format!("status {} is no code", shown(other))),
    }
    match capability.kind.as_deref() {
        None => findings.error("CS-04", "kind is missing".to_owned()),
        Some("instance" | "capability" | "requirements") => {}
        Some(other) => findings.error("CS-04", format!("kind {} is no code", shown(other))),
    }
    if capability.formats.is_empty() {
        findings.error("CS-04", "format is missing: none is declared".to_owned());
    }
    match capability.date.as_deref() {
        None => findings.error("CS-04", "date is missing".to_owned()),
        Some(date) => match instant(date) {
            None => findings.warning("CS-04", format!("date {} is no date", shown(date))),
            Some(at) => {
                // A day of tolerance: a date without a time means the server's own day.
                let age = context.now.duration_since(at);
                if age < SignedDuration::from_hours(-36) {
                    findings.warning("CS-04", format!("date {} is in the future", shown(date)));
                } else if age > YEARS_2 {
                    findings.info("CS-04", format!("date {} is over two years ago", shown(date)));
                }
            }
        },
    }
}

/// A FHIR dateTime of any precision, as the instant at which it begins.
fn instant(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let day = match text.len() {
        4 => format!("{text}-01-01"),
        7 => format!("{text}-01"),
        _ => text.get(..10)?.to_owned(),
    };
    let date: jiff::civil::Date = day.parse().ok()?;
    date.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

fn implementation(
    capability: &Capability<'_>,
    context: &JudgeContext<'_>,
    findings: &mut Findings,
) {
    match capability.kind.as_deref() {
        Some("instance") => match &capability.implementation {
            None => findings.warning("CS-05", "implementation is missing".to_owned()),
            Some(place) if place.description.as_deref().is_none_or(str::is_empty) => {
                findings.warning("CS-05", "implementation.description is missing".to_owned());
            }
            Some(_) => {}
        },
        Some(kind @ ("capability" | "requirements")) => findings.warning(
            "CS-05",
            format!("kind is {kind}: it does not describe a running server (instance)"),
        ),
        _ => {}
    }
    if let Some(url) = capability.implementation.as_ref().and_then(|place| place.url.as_deref())
        && comparable(url) != comparable(context.base_url)
    {
        findings.warning(
            "CS-05",
            format!("implementation.url is {}, not the base that was asked", shown_url(url)),
        );
    }
}

/// A URL without what makes no difference: case of scheme and host, default port, final slash.
fn comparable(url: &str) -> String {
    match url::Url::parse(url.trim()) {
        Ok(url) => url.as_str().trim_end_matches('/').to_owned(),
        Err(_) => url.trim().trim_end_matches('/').to_owned(),
    }
}

/// A URL without user, password and query.
fn shown_url(url: &str) -> String {
    match url::Url::parse(url.trim()) {
        Ok(mut url) => {
            // These fail for URLs that cannot hold a user at all, which is as good.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.set_query(None);
            url.set_fragment(None);
            shown(url.as_str())
        }
        Err(_) => "no URL".to_owned(),
    }
}

fn formats(capability: &Capability<'_>, context: &JudgeContext<'_>, findings: &mut Findings) {
    if capability.formats.is_empty() {
        return;
    }
    let families: Vec<String> = capability.formats.iter().map(|it| format_family(it)).collect();
    let offers = |name: &str| families.iter().any(|family| family == name);
    match context.format {
        Format::Json if !offers("json") => {
            findings.error("CS-06", "it is served as JSON, which format does not list".to_owned());
        }
        Format::Xml if !offers("xml") => {
            findings.error("CS-06", "it is served as XML, which format does not list".to_owned());
        }
        // Who asks for XML knows.
        Format::Xml if !offers("json") => {
            findings.warning("CS-06", "format does not list JSON".to_owned());
        }
        _ => {}
    }
}

fn content(capability: &Capability<'_>, findings: &mut Findings) {
    let declares_something = !capability.rest.is_empty()
        || !capability.messaging.is_empty()
        || !capability.documents.is_empty();
    if !declares_something {
        findings.error("CS-07", "none of rest, messaging and document is there".to_owned());
    }
    if capability.description.is_none()
        && capability.software.is_none()
        && capability.implementation.is_none()
    {
        findings
            .error("CS-07", "none of description, software and implementation is there".to_owned());
    }
    let has_endpoint = capability.messaging.iter().any(|messaging| messaging.endpoints > 0);
    if has_endpoint && capability.kind.as_deref().is_some_and(|kind| kind != "instance") {
        findings.error("CS-07", "messaging.endpoint is there, but kind is not instance".to_owned());
    }
    let has_server = capability.rest.iter().any(|rest| rest.mode.as_deref() == Some("server"));
    if declares_something && !has_server {
        findings.error("CS-08", "no rest entry has the mode server".to_owned());
    }
}

fn guides(capability: &Capability<'_>, findings: &mut Findings) {
    let list = capability.instantiates.iter().chain(&capability.implementation_guides);
    let mut list: Vec<&str> = list.map(|url| without_version(url)).collect();
    list.dedup();
    if !list.is_empty() {
        findings.info("CS-15", format!("says it follows {}", examples(list)));
    }
}

fn us_core(capability: &Capability<'_>, version: Option<FhirVersion>, findings: &mut Findings) {
    if version != Some(FhirVersion::R4) {
        return;
    }
    let claims = capability
        .instantiates
        .iter()
        .chain(&capability.implementation_guides)
        .any(|url| url.starts_with(US_CORE) || url.contains("hl7.fhir.us.core"));
    let mut has_patient = false;
    let mut others = 0;
    for resource in capability.resources() {
        let supports = resource
            .supported_profiles
            .iter()
            .chain(&resource.profile)
            .any(|profile| profile.starts_with(US_CORE));
        match (&*resource.type_, supports) {
            ("Patient", true) => has_patient = true,
            (_, true) => others += 1,
            _ => {}
        }
    }
    // A server that never speaks of US Core is not held to it.
    if (claims || has_patient || others > 0) && !(has_patient && others > 0) {
        findings.warning(
            "CS-16",
            "it speaks of US Core, but does not list US Core profiles for Patient and one more type"
                .to_owned(),
        );
    }
}

fn bulk_export(capability: &Capability<'_>, findings: &mut Findings) {
    let mut places: Vec<&str> = capability
        .operations()
        .filter(|(_, operation)| is_export(&operation.name, operation.definition.as_deref()))
        .map(|(resource, operation)| match resource {
            Some(resource) => resource,
            None if operation
                .definition
                .as_deref()
                .is_some_and(|it| it.ends_with("group-export")) =>
            {
                "Group"
            }
            None if operation
                .definition
                .as_deref()
                .is_some_and(|it| it.ends_with("patient-export")) =>
            {
                "Patient"
            }
            None => "system",
        })
        .collect();
    places.sort_unstable();
    places.dedup();
    if !places.is_empty() {
        findings.info("CS-17", format!("declares bulk export for {}", examples(places)));
    }
}

fn is_export(name: &str, definition: Option<&str>) -> bool {
    let name = name.trim_start_matches('$');
    matches!(name, "export" | "patient-export" | "group-export")
        || definition.is_some_and(|it| {
            without_version(it).starts_with("http://hl7.org/fhir/uv/bulkdata/OperationDefinition/")
                && without_version(it).ends_with("export")
        })
}

/// CS-18 speaks only where the server looks like one that is loaded: most types can be written.
fn loading(capability: &Capability<'_>, version: Option<FhirVersion>, findings: &mut Findings) {
    if version.is_none_or(|version| version < FhirVersion::R4) {
        return;
    }
    let (mut all, mut updatable, mut creatable, mut by_update) = (0, 0, 0, 0);
    for resource in capability.resources() {
        let can = |code: &str| resource.interactions.iter().any(|name| name == code);
        all += 1;
        updatable += usize::from(can("update"));
        creatable += usize::from(can("create"));
        by_update += usize::from(resource.update_create == Some(true));
    }
    let takes_bundles = capability.server_rest().any(|rest| {
        rest.interactions.iter().any(|name| matches!(&**name, "batch" | "transaction"))
    });
    let is_writable = all > 0 && creatable.max(updatable) * 2 > all;
    if is_writable && !takes_bundles {
        findings.warning(
            "CS-18",
            "most types can be written, but neither batch nor transaction is declared".to_owned(),
        );
    }
    if is_writable && updatable * 2 > all && by_update == 0 {
        findings.info(
            "CS-18",
            "no type declares updateCreate: records cannot be loaded under their own ids"
                .to_owned(),
        );
    }
}

fn software(capability: &Capability<'_>, findings: &mut Findings) {
    let released = capability
        .software
        .as_ref()
        .and_then(|software| software.release_date.as_deref())
        .map(|date| format!(", released {}", shown(date)))
        .unwrap_or_default();
    if let Some(label) = capability.software_label() {
        findings.info("CS-23", format!("software is {label}{released}"));
    }
}
