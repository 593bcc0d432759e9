//! What an export is asked for: the parameters of a kick-off, by GET or by POST.

use jiff::Timestamp;
use serde_json::Value;

use super::super::fhir::outcome::Refusal;
use super::super::fhir::search::Search;
use super::super::fhir::table::{self, Type};
use super::plan::{BulkPlan, Level};
use crate::serve::{HeaderMap, HeaderName, Method, Received, Request, StatusCode, header};

/// The types that belong to patients.
pub(super) const COMPARTMENT: [&str; 4] = ["Patient", "Encounter", "Condition", "Observation"];

/// What one kick-off asks for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// `None`: all.
    pub(super) types: Option<Vec<&'static str>>,
    /// `(type, element)`; no type: of every type.
    pub(super) elements: Vec<(Option<String>, String)>,
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    pub(super) filters: Vec<(&'static Type, Search)>,
    /// Ids of patients; empty: all.
    pub(super) patients: Vec<String>,
    pub(super) organised_by: Option<String>,
    pub(super) partial: bool,
    pub(super) lenient: bool,
    pub(super) separate_status: bool,
    /// What was left out, since leniency was asked for.
    pub(super) ignored: Vec<String>,
}

impl Asked {
    /// Reads a kick-off.
    ///
    /// # Errors
    /// 400 for what is not understood, unless the client asks for leniency.
    pub(super) fn read(
        request: &Request,
        query: &[(String, String)],
        level: Level,
        plan: &BulkPlan,
    ) -> Result<Asked, Refusal> {
        let prefer = prefer(&request.headers);
        let prefers = |word: &str| prefer.iter().any(|part| part == word);
        if plan.needs_prefer == Some(true) && !prefers("respond-async") {
            return Err(Refusal::bad_request("required", "send Prefer: respond-async"));
        }
        let mut parameters = query.to_vec();
        let by_post = request.method == Method::POST;
        if by_post {
            parameters.extend(posted(request)?);
        }
        let mut asked = Asked {
            lenient: prefers("handling=lenient"),
            separate_status: prefers("separate-export-status"),
            ..Asked::default()
        };
        let repeats = parameters.iter().filter(|(name, _)| name == "_type").count() > 1;
        if repeats && plan.comma_type == Some(true) {
            let why = "_type is given once here, with commas between the types";
            return Err(Refusal::bad_request("invalid", why));
        }
        for (name, value) in &parameters {
            let refused = plan.refuse.as_ref().is_some_and(|names| names.0.contains(name));
            let own = plan.accept.as_ref().is_some_and(|names| names.0.contains(name));
            let taken = match refused {
                true => Err(format!("{name} is not supported")),
                false if own => Ok(()),
                false => asked.take(name, value, level, by_post),
            };
            if let Err(why) = taken {
                if !asked.lenient {
                    return Err(Refusal::bad_request("not-supported", why));
                }
                asked.ignored.push(why);
            }
        }
        if let (Some(since), Some(until)) = (asked.since, asked.until)
            && until <= since
        {
            return Err(Refusal::bad_request("invalid", "_until lies before _since"));
        }
        if asked.organised_by.is_none() {
            asked.organised_by = plan.organize_output_by.clone();
        }
        Ok(asked)
    }

    fn take(&mut self, name: &str, value: &str, level: Level, by_post: bool) -> Result<(), String> {
        match name {
            "_outputFormat" => match value.replace(' ', "+").as_str() {
                "application/fhir+ndjson" | "application/ndjson" | "ndjson" => Ok(()),
                other => Err(format!("_outputFormat={other} is not supported; ndjson is")),
            },
            "_type" => {
                for kind in value.split(',').map(str::trim).filter(|kind| !kind.is_empty()) {
                    let found = table::find(kind).ok_or(format!("{kind} is not served here"))?;
                    if level != Level::System && !COMPARTMENT.contains(&found.name) {
                        return Err(format!("{kind} does not belong to patients"));
                    }
                    self.types.get_or_insert_default().push(found.name);
                }
                Ok(())
            }
            "_since" => instant(name, value).map(|at| self.since = Some(at)),
            "_until" => instant(name, value).map(|at| self.until = Some(at)),
            "_elements" => {
                for element in value.split(',').map(str::trim).filter(|it| !it.is_empty()) {
                    let (kind, element) = match element.split_once('.') {
                        Some((kind, element)) => (Some(kind.to_owned()), element),
                        None => (None, element),
                    };
                    if element.contains('.') {
                        return Err(format!("_elements names elements at the root, not {element}"));
                    }
                    self.elements.push((kind, element.to_owned()));
                }
                Ok(())
            }
            "_typeFilter" => filters(value).into_iter().try_for_each(|one| self.filter(&one)),
            "patient" if level == Level::System => Err("patient has no place at the system".into()),
            "patient" if !by_post => Err("patient is taken by POST alone".into()),
            "patient" => {
                let id = value.rsplit('/').next().unwrap_or_default();
                self.patients.push(id.to_owned());
                Ok(())
            }
            // Nothing here has a provenance.
            "includeAssociatedData" => Ok(()),
            "organizeOutputBy" if value == "Patient" => {
                self.organised_by = Some(value.to_owned());
                Ok(())
            }
            "organizeOutputBy" => Err(format!("organizeOutputBy={value} is not supported")),
            "allowPartialManifests" => match value.parse() {
                Ok(yes) => {
                    self.partial = yes;
                    Ok(())
                }
                Err(_) => Err("allowPartialManifests takes true or false".into()),
            },
            "_format" | super::super::sign_in::API_KEY_PARAMETER => Ok(()),
            _ => Err(format!("{name} is not supported")),
        }
    }

    fn filter(&mut self, filter: &str) -> Result<(), String> {
        let (kind, query) =
            filter.split_once('?').ok_or(format!("_typeFilter={filter} has no question mark"))?;
        let kind = table::find(kind).ok_or(format!("{kind} is not served here"))?;
        let pairs = super::super::site::pairs(query.as_bytes());
        if let Some((name, _)) = pairs.iter().find(|(name, _)| {
            let name = name.split(':').next().unwrap_or_default();
            matches!(
                name,
                "_include"
                    | "_revinclude"
                    | "_sort"
                    | "_count"
                    | "_summary"
                    | "_elements"
                    | "_total"
            )
        }) {
            return Err(format!("_typeFilter takes no {name}"));
        }
        let search = Search::read(kind, &pairs, true).map_err(|refusal| refusal.text)?;
        self.filters.push((kind, search));
        Ok(())
    }
}

/// The preferences of a request (RFC 7240), in several headers or in one.
pub(super) fn prefer(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(HeaderName::from_static("prefer")).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .map(|part| part.trim().to_owned())
        .collect()
}

/// Filters that were joined with commas; a comma within a filter is no end of it.
fn filters(value: &str) -> Vec<String> {
    let mut filters: Vec<String> = Vec::new();
    for part in value.split(',') {
        let begins = part.split_once('?').is_some_and(|(kind, _)| {
            kind.starts_with(|c: char| c.is_ascii_uppercase())
                && kind.chars().all(|c| c.is_ascii_alphanumeric())
        });
        match filters.last_mut() {
            Some(last) if !begins => {
                last.push(',');
                last.push_str(part);
            }
            _ => filters.push(part.to_owned()),
        }
    }
    filters
}

fn instant(name: &str, value: &str) -> Result<Timestamp, String> {
    // A plus that was not percent-encoded reads as a space.
    let text = value.replace(' ', "+");
    text.parse().map_err(|_| format!("{name}={value} is no instant, with seconds and zone"))
}

/// The parameters of a POST, each value as text.
fn posted(request: &Request) -> Result<Vec<(String, String)>, Refusal> {
    let Received::Whole(body) = &request.body else {
        return Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-long",
            "the body is too long",
        ));
    };
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let kind = super::super::answer::text(&request.headers, &header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
        return Ok(super::super::site::pairs(body));
    }
    let document: Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request("structure", format!("no JSON: {error}")))?;
    if document["resourceType"] != "Parameters" {
        return Err(Refusal::bad_request("structure", "the body is no Parameters resource"));
    }
    let rows = document["parameter"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter()
        .map(|row| {
            let name = row["name"].as_str().unwrap_or_default().to_owned();
            value_of(row)
                .map(|value| (name.clone(), value))
                .ok_or_else(|| Refusal::bad_request("value", format!("{name} has no value")))
        })
        .collect()
}

/// The `value[x]` of a parameter as text.
pub(super) fn value_of(row: &Value) -> Option<String> {
    let (_, value) = row.as_object()?.iter().find(|(name, _)| name.starts_with("value"))?;
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(_) => {
            let text = value["reference"].as_str().or(value["code"].as_str())?;
            Some(text.to_owned())
        }
        Value::Null | Value::Array(_) => None,
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_ends_a_filter_only_where_another_begins() {
        for (joined, parts) in [
            ("Observation?code=a,b", &["Observation?code=a,b"][..]),
            ("Observation?code=a,Condition?code=b", &["Observation?code=a", "Condition?code=b"]),
        ] {
            assert_eq!(filters(joined), parts);
        }
    }
}
