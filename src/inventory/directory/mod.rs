//! Published directories of servers, and what they add to an inventory.
//!
//! Enters: the bytes of a directory (FHIR Endpoints, or CSV), the inventory's value, and what is
//! said for all of them. Leaves: the entries to add, which are inactive, what is there already, and
//! what cannot be registered, with its place. Pure; called by `add --from`.

mod name;
mod route;
mod rows;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use self::name::Names;
use super::edit;
use super::preset::preset;
use crate::fhir::ParseError;
use crate::fhir::body::{BodyKind, sniff};
use crate::fhir::directory::{self as fhir, Published, version};
use crate::model::server::{BaseUrl, BaseUrlError, FhirVersion};
use crate::model::text;

pub use self::route::unroutable;

/// The label that marks a server which cannot be reached as it is published.
pub const UNROUTABLE: &str = "unroutable";

/// Something that may become a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Where it stands: `entry 12 (Endpoint/abc)`, `line 7`.
    pub place: String,
    pub url: String,
    /// A name for the inventory, where the directory gives one.
    pub name: Option<String>,
    /// What it is called where no organization is named.
    pub title: Option<String>,
    pub organization: Option<String>,
    pub vendor: Option<String>,
    pub fhir_version: Option<FhirVersion>,
    pub labels: BTreeMap<String, String>,
    pub status: Option<String>,
    pub phone: Option<String>,
    pub email: Option<String>,
    pub portal: Option<String>,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// `FHIR` or `CSV`.
    pub form: &'static str,
    pub candidates: Vec<Candidate>,
    pub invalid: Vec<Invalid>,
}

/// An entry that cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub place: String,
    pub reason: String,
}

/// An entry that is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub url: String,
    pub reason: String,
}

/// A server that is going to be registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Addition {
    pub name: String,
    pub url: String,
    pub organization: Option<String>,
    pub vendor: Option<String>,
    pub fhir_version: Option<&'static str>,
    /// Why it cannot be reached as it is published.
    pub unroutable: Option<String>,
    /// Its entry in the inventory.
    pub entry: Map<String, Value>,
}

/// What holds for every server of a directory.
#[derive(Clone, Debug, Default)]
pub struct Common {
    pub vendor: Option<String>,
    pub labels: Map<String, Value>,
}

/// What a directory does to an inventory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub additions: Vec<Addition>,
    pub skipped: Vec<Skipped>,
    pub invalid: Vec<Invalid>,
}

/// Reads a directory: FHIR in JSON, NDJSON or XML, or CSV with a header.
///
/// # Errors
/// A sentence that says what the bytes are not, with the place where that shows.
pub fn read(bytes: &[u8]) -> Result<Directory, String> {
    match sniff(None, bytes) {
        BodyKind::Empty => Err("it is empty".to_owned()),
        BodyKind::Html => Err("it is an HTML page".to_owned()),
        BodyKind::Json | BodyKind::Xml => {
            let read = fhir::read(bytes).map_err(|error| told(&error))?;
            let (candidates, mut invalid) = published(read.endpoints);
            let broken = read.broken.into_iter();
            invalid.extend(
                broken.map(|(line, reason)| Invalid { place: format!("line {line}"), reason }),
            );
            Ok(Directory { form: "FHIR", candidates, invalid })
        }
        BodyKind::Other => rows::read(bytes),
    }
}

fn told(error: &ParseError) -> String {
    match error {
        ParseError::NotFhir(why) => format!("it is not FHIR: {why}"),
        ParseError::Malformed { line, column } => {
            format!("it breaks off or is not well-formed at line {line}, column {column}")
        }
        ParseError::WrongResource(kind) => {
            format!("it is a {kind}, not a Bundle of Endpoints")
        }
    }
}

fn published(endpoints: Vec<Published>) -> (Vec<Candidate>, Vec<Invalid>) {
    let mut candidates = Vec::new();
    let mut invalid = Vec::new();
    for endpoint in endpoints {
        let wrong = if endpoint.status.as_deref() == Some("entered-in-error") {
            Some("it was entered in error".to_owned())
        } else if !endpoint.is_rest() {
            let codes = text::bounded(&text::one_line(&endpoint.connection.join(", ")), 60);
            Some(format!("its connection type is {codes}, not a FHIR server's"))
        } else {
            None
        };
        match wrong {
            Some(reason) => invalid.push(Invalid { place: endpoint.place, reason }),
            None => candidates.push(Candidate {
                place: endpoint.place,
                url: endpoint.address,
                title: endpoint.name,
                organization: endpoint.organization,
                fhir_version: endpoint.version,
                status: endpoint.status,
                phone: endpoint.phone,
                email: endpoint.email,
                portal: endpoint.portal,
                ..Candidate::default()
            }),
        }
    }
    (candidates, invalid)
}

/// What a directory adds to the inventory with this value.
#[must_use]
pub fn plan(directory: &Directory, document: &Value, common: &Common) -> Plan {
    let mut plan = Plan { invalid: directory.invalid.clone(), ..Plan::default() };
    let mut names = Names::taken(document);
    let mut known = registered(document);
    for candidate in &directory.candidates {
        let url = match address(&candidate.url) {
            Ok(url) => url,
            Err(reason) => {
                plan.invalid.push(Invalid { place: candidate.place.clone(), reason });
                continue;
            }
        };
        let written = url.as_str().to_owned();
        if let Some(name) = known.get(&written) {
            let reason = match name {
                Known::Registered(name) => format!("registered as {name}"),
                Known::Here(name) => format!("twice in the directory; first as {name}"),
            };
            plan.skipped.push(Skipped { url: written, reason });
            continue;
        }
        let addition = addition(candidate, &url, &mut names, common);
        known.insert(written, Known::Here(addition.name.clone()));
        plan.additions.push(addition);
    }
    plan
}

enum Known {
    Registered(String),
    Here(String),
}

/// The servers that are there, by the form of their URL in which two that mean the same are equal.
fn registered(document: &Value) -> HashMap<String, Known> {
    let servers = document.get("servers").and_then(Value::as_array);
    servers
        .into_iter()
        .flatten()
        .filter_map(|server| {
            let url = address(server.get("url")?.as_str()?).ok()?;
            let name = server.get("name").and_then(Value::as_str).unwrap_or_default();
            Some((url.as_str().to_owned(), Known::Registered(name.to_owned())))
        })
        .collect()
}

/// The base URL that an address means: hosts in lower case, no default port, no final slash.
fn address(text: &str) -> Result<BaseUrl, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("it has no URL".to_owned());
    }
    let plain = text.trim_end_matches('/');
    // Some list the document instead of the server.
    let plain = plain.strip_suffix("/metadata").unwrap_or(plain);
    BaseUrl::parse(plain).map_err(|error| match error {
        // The text is not repeated: it may hold a password.
        BaseUrlError::NotAUrl(_) if !text.contains("://") => {
            "its URL does not begin with https://".to_owned()
        }
        other => format!("its URL cannot be used: {other}"),
    })
}

fn addition(candidate: &Candidate, url: &BaseUrl, names: &mut Names, common: &Common) -> Addition {
    let host = url.url().host_str().unwrap_or_default();
    let wishes =
        [candidate.name.as_deref(), candidate.organization.as_deref(), candidate.title.as_deref()];
    let name = names.give(candidate.name.as_deref(), wishes.into_iter().flatten().chain([host]));
    let version = candidate.fhir_version.or_else(|| {
        let segments = url.url().path_segments()?;
        segments.rev().find_map(version)
    });
    let unroutable = unroutable(url.url()).or_else(|| match candidate.status.as_deref() {
        Some(status @ ("off" | "suspended" | "error")) => {
            Some(format!("its published status is {status}"))
        }
        _ => None,
    });
    let named = candidate.vendor.as_deref().map(str::to_ascii_lowercase);
    let vendor = match &named {
        Some(named) if preset(named).is_some() => Some(named.clone()),
        _ => common.vendor.clone(),
    };
    let mut labels = Map::new();
    for (key, value) in &candidate.labels {
        labels.insert(key.clone(), value.as_str().into());
    }
    // A vendor that no preset knows is kept as it is called.
    if let (Some(named), true) = (&candidate.vendor, named.as_deref() != vendor.as_deref()) {
        labels.insert("vendor".to_owned(), named.as_str().into());
    }
    if let Some(status) = candidate.status.as_deref().filter(|status| *status != "active") {
        labels.insert("status".to_owned(), status.into());
    }
    // The inventory has no name for the oldest version.
    if version == Some(FhirVersion::Dstu2) {
        labels.insert("fhir".to_owned(), FhirVersion::Dstu2.as_str().into());
    }
    labels.extend(common.labels.clone());
    if unroutable.is_some() {
        labels.insert(UNROUTABLE.to_owned(), "true".into());
    }
    let fhir_version =
        version.filter(|version| *version != FhirVersion::Dstu2).map(FhirVersion::as_str);
    let organization = candidate.organization.clone();
    let mut entry = Map::new();
    entry.insert("name".to_owned(), name.as_str().into());
    entry.insert("url".to_owned(), url.as_str().into());
    let texts = [
        ("vendor", vendor.as_deref()),
        ("fhir_version", fhir_version),
        ("organization", organization.as_deref()),
    ];
    for (key, value) in texts {
        if let Some(value) = value {
            entry.insert(key.to_owned(), value.into());
        }
    }
    if !labels.is_empty() {
        entry.insert("labels".to_owned(), Value::Object(labels));
    }
    if let Some(support) = support(candidate) {
        entry.insert("support".to_owned(), support);
    }
    entry.insert("active".to_owned(), false.into());
    Addition {
        name,
        url: url.as_str().to_owned(),
        organization,
        vendor,
        fhir_version,
        unroutable,
        entry,
    }
}

/// Whom to call, where the directory says it.
fn support(candidate: &Candidate) -> Option<Value> {
    let portal = candidate.portal.as_deref().filter(|text| {
        url::Url::parse(text).is_ok_and(|url| url.scheme() == "https" && url.username().is_empty())
    });
    let members = [
        ("phone", candidate.phone.as_deref()),
        ("email", candidate.email.as_deref()),
        ("portal", portal),
    ];
    let map: Map<String, Value> = members
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.into())))
        .collect();
    (!map.is_empty()).then_some(Value::Object(map))
}

/// The change of the inventory that registers them, all in one.
#[must_use]
pub fn op(additions: &[Addition]) -> edit::Op {
    let entries = additions.iter().map(|addition| Value::Object(addition.entry.clone()));
    edit::Op::Extend(vec!["servers".into()], entries.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn planned(csv: &str, document: &Value) -> Plan {
        plan(&read(csv.as_bytes()).unwrap(), document, &Common::default())
    }

    #[test]
    fn what_is_there_is_found_whatever_its_spelling() {
        let document =
            json!({"servers": [{"name": "a", "url": "https://EHR.example.org:443/R4/"}]});
        let plan = planned(
            "url\nhttps://ehr.example.org/R4\nhttps://ehr.example.org/R4/metadata\nhttps://ehr.example.org/r4\nHTTPS://EHR.example.org/r4/\n",
            &document,
        );
        assert_eq!(plan.additions.len(), 1);
        assert_eq!(plan.additions[0].url, "https://ehr.example.org/r4");
        assert_eq!(plan.additions[0].fhir_version, Some("R4"));
        let reasons: Vec<_> = plan.skipped.iter().map(|s| s.reason.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "registered as a",
                "registered as a",
                "twice in the directory; first as ehr.example.org"
            ]
        );
    }

    #[test]
    fn an_entry_says_all_that_is_known_and_is_inactive() {
        let candidate = Candidate {
            place: "entry 1".into(),
            url: "http://10.0.0.1/fhir/dstu2/".into(),
            organization: Some("Ünited Ærzte".into()),
            vendor: Some("Epic".into()),
            status: Some("suspended".into()),
            labels: [("region".to_owned(), "us".to_owned())].into(),
            email: Some("it@example.org".into()),
            portal: Some("javascript:alert(1)".into()),
            ..Candidate::default()
        };
        let directory = Directory { form: "CSV", candidates: vec![candidate], invalid: vec![] };
        let common = Common {
            vendor: Some("hapi".into()),
            labels: [("env".to_owned(), json!("prod"))].into_iter().collect(),
        };
        let plan = plan(&directory, &json!({}), &common);
        assert_eq!(
            Value::Object(plan.additions[0].entry.clone()),
            json!({"name": "united-aerzte", "url": "http://10.0.0.1/fhir/dstu2", "vendor": "epic",
                "organization": "Ünited Ærzte",
                "labels": {"region": "us", "status": "suspended", "fhir": "DSTU2", "env": "prod", "unroutable": "true"},
                "support": {"email": "it@example.org"}, "active": false})
        );
    }

    #[test]
    fn what_cannot_be_registered_is_told_and_no_password_repeated() {
        let plan = planned(
            "url\nftp://a.example.org\nehr.example.org/r4\nhttps://u:hunter2@a.example.org\nhttps://a.example.org?x=hunter2\n \n\"\"\n",
            &json!({}),
        );
        assert_eq!(plan.additions.len(), 0);
        assert_eq!(plan.invalid.len(), 6, "{:?}", plan.invalid);
        assert!(!format!("{plan:?}").contains("hunter2"));
        assert_eq!(plan.invalid[0].place, "line 2");
    }
}
