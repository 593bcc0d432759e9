//! What an export is asked for, and the request that asks it.
//!
//! Bulk Data Access STU1 to STU3, and the STU4 ballot's forms where they are asked for.

use http::Method;
use http::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::job::KickOff;
use super::lines::{is_id, is_type};
use super::manifest::is_instant;
use crate::model::server::BaseUrl;
use crate::model::{Error, Result};

const FHIR_JSON: &str = "application/fhir+json";
/// Longer ones are posted: some servers and gateways cut a request line off there.
const LONG_URL: usize = 4000;
/// Parameters of a search's result, which a type filter may not carry.
const RESULT_PARAMETERS: [&str; 11] = [
    "_include",
    "_revinclude",
    "_sort",
    "_count",
    "_summary",
    "_elements",
    "_total",
    "_contained",
    "_containedType",
    "_format",
    "_maxresults",
];

/// What is exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    System,
    Patient,
    Group(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    Get,
    Post,
}

/// An export as it is asked for. Two runs with equal requests are the same export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportRequest {
    pub level: Level,
    /// `None`: by what the parameters need.
    pub verb: Option<Verb>,
    pub types: Vec<String>,
    pub since: Option<String>,
    pub until: Option<String>,
    /// Searches such as `Observation?category=laboratory`.
    pub type_filters: Vec<String>,
    pub elements: Vec<String>,
    /// Ids or references of patients.
    pub patients: Vec<String>,
    pub associated_data: Vec<String>,
    pub output_format: Option<String>,
    pub organize_by: Option<String>,
    pub allow_partial_manifests: bool,
    /// Whether parameters that the server does not know may be ignored.
    pub lenient: bool,
    pub separate_status: bool,
    /// The forms of the STU4 ballot: POST only, every value by itself.
    pub stu4: bool,
    /// Vendors' own, as they are.
    pub params: Vec<(String, String)>,
}

impl ExportRequest {
    #[must_use]
    pub fn new(level: Level) -> ExportRequest {
        ExportRequest {
            level,
            verb: None,
            types: Vec::new(),
            since: None,
            until: None,
            type_filters: Vec::new(),
            elements: Vec::new(),
            patients: Vec::new(),
            associated_data: Vec::new(),
            output_format: None,
            organize_by: None,
            allow_partial_manifests: false,
            lenient: false,
            separate_status: false,
            stu4: false,
            params: Vec::new(),
        }
    }

    /// Refuses what the specification does, before the server is asked.
    ///
    /// # Errors
    /// Exit 64, with what is wrong.
    pub fn check(&self) -> Result<()> {
        if let Level::Group(id) = &self.level
            && !is_id(id)
        {
            return Err(Error::usage(format!("{id:?} is no id of a Group"))
                .hint("letters, digits, - and . and at most 64 of them"));
        }
        for name in self.types.iter().chain(&self.organize_by) {
            if !is_type(name) {
                return Err(Error::usage(format!("{name:?} is no resource type"))
                    .hint("write it as FHIR does, such as Patient"));
            }
        }
        for (flag, value) in [("--since", &self.since), ("--until", &self.until)] {
            if let Some(value) = value
                && !is_instant(value)
            {
                return Err(Error::usage(format!("{flag}: {value:?} is no instant")).hint(
                    "write date, time with seconds, and zone, such as 2026-01-31T00:00:00Z",
                ));
            }
        }
        if let (Some(since), Some(until)) = (instant(&self.since), instant(&self.until))
            && until <= since
        {
            return Err(Error::usage("--until is not after --since"));
        }
        for filter in &self.type_filters {
            check_filter(filter)?;
        }
        if !self.patients.is_empty() {
            if self.level == Level::System {
                return Err(Error::usage("--patient goes with --level patient or group only"));
            }
            if self.verb == Some(Verb::Get) {
                return Err(Error::usage("--patient is sent by POST only")
                    .hint("leave --method away, or write --method post"));
            }
        }
        if self.stu4 && self.verb == Some(Verb::Get) {
            return Err(Error::usage("the forms of STU4 are sent by POST only"));
        }
        Ok(())
    }

    /// The request as it is sent.
    ///
    /// # Errors
    /// Exit 64 when base and path make no URL, or `--method get` makes one that is too long.
    pub fn kick_off(&self, base: &BaseUrl) -> Result<KickOff> {
        let path = match &self.level {
            Level::System => "$export".to_owned(),
            Level::Patient => "Patient/$export".to_owned(),
            Level::Group(id) => format!("Group/{id}/$export"),
        };
        let url = base
            .join(&path)
            .map_err(|error| Error::usage(format!("no URL for the export: {error}")))?;
        let query = self.query();
        let needs_post = !self.patients.is_empty() || self.stu4;
        let is_long = url.as_str().len() + query.len() > LONG_URL;
        let verb = self.verb.unwrap_or(if needs_post || is_long { Verb::Post } else { Verb::Get });
        let mut preferences = vec!["respond-async"];
        if self.separate_status {
            preferences.push("separate-export-status");
        }
        if self.lenient {
            preferences.push("handling=lenient");
        }
        let prefer = HeaderValue::from_str(&preferences.join(", "))
            .map_err(|_| Error::internal("the preferences make no header"))?;
        let mut kick_off = KickOff {
            method: Method::GET,
            url,
            headers: vec![(HeaderName::from_static("prefer"), prefer)],
            accept: FHIR_JSON,
            content_type: FHIR_JSON,
            body: None,
        };
        match verb {
            Verb::Get => {
                if !query.is_empty() {
                    kick_off.url = parse(&format!("{}?{query}", kick_off.url))?;
                }
            }
            Verb::Post => {
                kick_off.method = Method::POST;
                kick_off.body = Some(self.parameters().to_string().into_bytes());
            }
        }
        Ok(kick_off)
    }

    /// Names and values in the order in which they are sent; several values are joined.
    fn values(&self) -> Vec<(&str, String)> {
        let mut values = Vec::new();
        let mut joined = |name: &'static str, all: &[String]| {
            if !all.is_empty() {
                values.push((name, all.join(",")));
            }
        };
        joined("_type", &self.types);
        joined("_elements", &self.elements);
        joined("includeAssociatedData", &self.associated_data);
        for (name, value) in [
            ("_outputFormat", &self.output_format),
            ("_since", &self.since),
            ("_until", &self.until),
            ("organizeOutputBy", &self.organize_by),
        ] {
            if let Some(value) = value {
                values.push((name, value.clone()));
            }
        }
        for filter in &self.type_filters {
            values.push(("_typeFilter", filter.clone()));
        }
        if self.allow_partial_manifests {
            values.push(("allowPartialManifests", "true".to_owned()));
        }
        values
    }

    fn query(&self) -> String {
        let own = self.values();
        let all = own
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain(self.params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let pairs: Vec<String> =
            all.map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        pairs.join("&")
    }

    /// The Parameters of a POST.
    fn parameters(&self) -> Value {
        let mut all = Vec::new();
        let mut push = |name: &str, kind: &str, value: Value| {
            let mut parameter = serde_json::Map::new();
            parameter.insert("name".to_owned(), name.into());
            parameter.insert(kind.to_owned(), value);
            all.push(Value::Object(parameter));
        };
        if self.stu4 {
            for (name, values) in [("_type", &self.types), ("_elements", &self.elements)] {
                for value in values {
                    push(name, "valueString", value.as_str().into());
                }
            }
            for value in &self.associated_data {
                let coding = json!({
                    "system": "http://hl7.org/fhir/uv/bulkdata/CodeSystem/include-associated-data",
                    "code": value,
                });
                push("includeAssociatedData", "valueCoding", coding);
            }
        }
        for (name, value) in self.values() {
            let is_repeated = matches!(name, "_type" | "_elements" | "includeAssociatedData");
            if self.stu4 && is_repeated {
                continue;
            }
            match name {
                "_since" | "_until" => push(name, "valueInstant", value.into()),
                "includeAssociatedData" => {
                    for code in &self.associated_data {
                        push(name, "valueCode", code.as_str().into());
                    }
                }
                "allowPartialManifests" => push(name, "valueBoolean", true.into()),
                _ => push(name, "valueString", value.into()),
            }
        }
        for patient in &self.patients {
            let reference = match patient.contains('/') {
                true => patient.clone(),
                false => format!("Patient/{patient}"),
            };
            push("patient", "valueReference", json!({ "reference": reference }));
        }
        for (name, value) in &self.params {
            match value.as_str() {
                "true" => push(name, "valueBoolean", true.into()),
                "false" => push(name, "valueBoolean", false.into()),
                _ => push(name, "valueString", value.as_str().into()),
            }
        }
        json!({ "resourceType": "Parameters", "parameter": all })
    }
}

fn parse(text: &str) -> Result<Url> {
    Url::parse(text).map_err(|error| Error::usage(format!("no URL for the export: {error}")))
}

fn instant(text: &Option<String>) -> Option<Timestamp> {
    text.as_ref()?.parse().ok()
}

/// Bulk Data Access, "_typeFilter": a search for one type, without parameters of the result.
fn check_filter(filter: &str) -> Result<()> {
    let Some((name, query)) = filter.split_once('?') else {
        return Err(Error::usage(format!("--type-filter: {filter:?} is no search"))
            .hint("such as Observation?category=laboratory"));
    };
    if !is_type(name) {
        return Err(Error::usage(format!("--type-filter: {name:?} is no resource type")));
    }
    for parameter in query.split('&') {
        let key = parameter.split(['=', ':']).next().unwrap_or_default();
        if RESULT_PARAMETERS.contains(&key) {
            return Err(Error::usage(format!("--type-filter: {key} is not for filters"))
                .hint("a filter chooses resources; it does not shape the result"));
        }
    }
    Ok(())
}

/// Percent-encodes a value. `,`, `:` and `/` stay: some servers split before they decode.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'-' | b'.' | b'_' | b'~' | b',' | b':' | b'/' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> BaseUrl {
        BaseUrl::parse("https://h.example/fhir").unwrap()
    }

    #[test]
    fn a_get_has_everything_in_its_query_and_a_plus_survives() {
        let request = ExportRequest {
            types: vec!["Patient".into(), "Observation".into()],
            since: Some("2024-01-01T00:00:00+02:00".into()),
            type_filters: vec!["Observation?category=laboratory".into()],
            params: vec![("_container".into(), "a b".into())],
            ..ExportRequest::new(Level::Group("g1".into()))
        };
        request.check().unwrap();
        let asked = request.kick_off(&base()).unwrap();
        assert_eq!(asked.method, Method::GET);
        assert_eq!(
            asked.url.as_str(),
            "https://h.example/fhir/Group/g1/$export?_type=Patient,Observation&_since=2024-01-01T00:00:00%2B02:00&_typeFilter=Observation%3Fcategory%3Dlaboratory&_container=a%20b"
        );
        assert_eq!(asked.headers[0].1, "respond-async");
    }

    #[test]
    fn patients_are_posted_and_stu4_says_every_value_by_itself() {
        let mut request = ExportRequest {
            types: vec!["Patient".into(), "Observation".into()],
            patients: vec!["1".into(), "Patient/2".into()],
            lenient: true,
            ..ExportRequest::new(Level::Patient)
        };
        let asked = request.kick_off(&base()).unwrap();
        assert_eq!(asked.headers[0].1, "respond-async, handling=lenient");
        let body: Value = serde_json::from_slice(&asked.body.unwrap()).unwrap();
        assert_eq!(
            body["parameter"],
            json!([
                {"name": "_type", "valueString": "Patient,Observation"},
                {"name": "patient", "valueReference": {"reference": "Patient/1"}},
                {"name": "patient", "valueReference": {"reference": "Patient/2"}},
            ])
        );
        request.stu4 = true;
        let asked = request.kick_off(&base()).unwrap();
        let body: Value = serde_json::from_slice(&asked.body.unwrap()).unwrap();
        assert_eq!(body["parameter"][1], json!({"name": "_type", "valueString": "Observation"}));
    }

    #[test]
    fn what_no_server_may_be_asked_is_refused_before() {
        let plain = || ExportRequest::new(Level::System);
        for request in [
            ExportRequest::new(Level::Group("../x".into())),
            ExportRequest { types: vec!["patient".into()], ..plain() },
            ExportRequest { since: Some("2024-01-01".into()), ..plain() },
            ExportRequest {
                since: Some("2024-01-02T00:00:00Z".into()),
                until: Some("2024-01-01T00:00:00Z".into()),
                ..plain()
            },
            ExportRequest { type_filters: vec!["Observation".into()], ..plain() },
            ExportRequest { type_filters: vec!["Observation?_count=5".into()], ..plain() },
            ExportRequest { patients: vec!["1".into()], ..plain() },
            ExportRequest { stu4: true, verb: Some(Verb::Get), ..plain() },
        ] {
            assert!(request.check().is_err(), "{request:?}");
        }
    }

    #[test]
    fn a_query_that_is_too_long_is_posted() {
        let filters = (0..200).map(|n| format!("Observation?code=http://loinc.org|{n}")).collect();
        let request = ExportRequest { type_filters: filters, ..ExportRequest::new(Level::Patient) };
        assert_eq!(request.kick_off(&base()).unwrap().method, Method::POST);
    }
}
