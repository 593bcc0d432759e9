//! Search: which parameters are known, what matches, which page (FHIR, section 3.1.1).

use std::sync::Arc;

use serde_json::Value;

use super::interval::Interval;
use super::outcome::Refusal;
use super::table::{Parameter, Type};

/// Matches on a page when `_count` is not given.
const PAGE: usize = 20;
/// Most matches on a page.
const MAX_PAGE: usize = 1_000;

/// How the values of a search parameter are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sandbox) enum Kind {
    String,
    Token,
    Date,
    Reference,
}

impl Kind {
    /// As a CapabilityStatement names it.
    pub(in crate::sandbox) fn as_str(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Token => "token",
            Kind::Date => "date",
            Kind::Reference => "reference",
        }
    }
}

/// A search, read from its parameters.
#[derive(Debug)]
pub(in crate::sandbox) struct Search {
    criteria: Vec<Criterion>,
    count: usize,
    offset: usize,
    pub(in crate::sandbox) only_count: bool,
    /// The parameters that take part, as they were given, for the `self` link.
    used: Vec<(String, String)>,
}

#[derive(Debug)]
struct Criterion {
    parameter: &'static Parameter,
    modifier: Option<String>,
    /// Any of them.
    values: Vec<String>,
}

/// A page of matches.
#[derive(Debug)]
pub(in crate::sandbox) struct Page {
    pub(in crate::sandbox) total: usize,
    pub(in crate::sandbox) matches: Vec<Arc<Value>>,
    /// Relation to the query of its link.
    pub(in crate::sandbox) links: Vec<(&'static str, String)>,
}

impl Search {
    /// Reads decoded parameters. With `strict` one that is not known is refused; else it is left
    /// out, of the search and of the `self` link.
    pub(in crate::sandbox) fn read(
        kind: &'static Type,
        parameters: &[(String, String)],
        strict: bool,
    ) -> Result<Search, Refusal> {
        let mut search = Search {
            criteria: Vec::new(),
            count: PAGE,
            offset: 0,
            only_count: false,
            used: Vec::new(),
        };
        for (full_name, value) in parameters {
            let (name, modifier) = match full_name.split_once(':') {
                Some((name, modifier)) => (name, Some(modifier)),
                None => (full_name.as_str(), None),
            };
            let used = match name {
                "_count" => {
                    search.count = number(name, value)?.min(MAX_PAGE);
                    true
                }
                "_offset" => {
                    search.offset = number(name, value)?;
                    true
                }
                "_summary" => {
                    search.only_count = value == "count";
                    matches!(value.as_str(), "count" | "false")
                }
                // The total is always exact.
                "_total" => matches!(value.as_str(), "none" | "estimate" | "accurate"),
                "_format" => true,
                _ => match kind.all_parameters().find(|parameter| parameter.name == name) {
                    Some(parameter) => {
                        let criterion = Criterion::read(parameter, modifier, value)?;
                        // An empty value asks for nothing.
                        let asks = !criterion.values.is_empty();
                        if asks {
                            search.criteria.push(criterion);
                        }
                        asks
                    }
                    None => false,
                },
            };
            if used {
                search.used.push((full_name.clone(), value.clone()));
            } else if strict {
                return Err(Refusal::bad_request(
                    "not-supported",
                    format!("{}?{full_name} is not supported here", kind.name),
                ));
            }
        }
        Ok(search)
    }

    /// Forgets what was asked for; the `self` link forgets it as well.
    pub(in crate::sandbox) fn forget_criteria(&mut self) {
        self.criteria.clear();
        self.used.retain(|(name, _)| {
            matches!(name.as_str(), "_count" | "_offset" | "_summary" | "_total" | "_format")
        });
    }

    /// Whether a resource has what is asked for.
    pub(in crate::sandbox) fn holds(&self, resource: &Value) -> bool {
        self.criteria.iter().all(|criterion| criterion.holds(resource))
    }

    /// Picks what matches.
    pub(in crate::sandbox) fn run<'a>(&self, all: impl Iterator<Item = &'a Arc<Value>>) -> Page {
        let mut matches: Vec<Arc<Value>> = Vec::new();
        let mut total = 0;
        let wanted = if self.only_count { 0 } else { self.count };
        for resource in all {
            if self.criteria.iter().all(|criterion| criterion.holds(resource)) {
                if total >= self.offset && matches.len() < wanted {
                    matches.push(resource.clone());
                }
                total += 1;
            }
        }
        let mut links = vec![("self", self.query(None))];
        if wanted > 0 {
            if self.offset + matches.len() < total && !matches.is_empty() {
                links.push(("next", self.query(Some(self.offset + wanted))));
            }
            if self.offset > 0 {
                links.push(("previous", self.query(Some(self.offset.saturating_sub(wanted)))));
            }
        }
        Page { total, matches, links }
    }

    /// The query of a link: of this page, or of the one at an offset.
    fn query(&self, offset: Option<usize>) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in &self.used {
            if offset.is_none() || !matches!(name.as_str(), "_count" | "_offset") {
                query.append_pair(name, value);
            }
        }
        if let Some(offset) = offset {
            query.append_pair("_count", &self.count.to_string());
            query.append_pair("_offset", &offset.to_string());
        }
        query.finish()
    }
}

impl Criterion {
    fn read(
        parameter: &'static Parameter,
        modifier: Option<&str>,
        value: &str,
    ) -> Result<Criterion, Refusal> {
        let allowed: &[&str] = match parameter.kind {
            Kind::String => &["exact", "contains", "missing"],
            Kind::Token => &["not", "missing"],
            Kind::Date | Kind::Reference => &["missing"],
        };
        if let Some(modifier) = modifier
            && !allowed.contains(&modifier)
        {
            // The specification asks for a refusal here, even where unknown parameters are ignored.
            return Err(Refusal::bad_request(
                "not-supported",
                format!("{}:{modifier} is not supported here", parameter.name),
            ));
        }
        let values: Vec<String> =
            value.split(',').filter(|value| !value.is_empty()).map(str::to_owned).collect();
        if modifier == Some("missing") {
            if !matches!(value, "true" | "false") {
                return Err(Refusal::bad_request("value", ":missing takes true or false"));
            }
        } else if parameter.kind == Kind::Date
            && let Some(wrong) = values.iter().find(|value| Interval::asked(value).is_none())
        {
            return Err(Refusal::bad_request(
                "value",
                format!("{}: {wrong:?} is no date", parameter.name),
            ));
        }
        Ok(Criterion { parameter, modifier: modifier.map(str::to_owned), values })
    }

    fn holds(&self, resource: &Value) -> bool {
        let mut found = Vec::new();
        for path in self.parameter.paths {
            collect(resource, path, &mut found);
        }
        let any = |matches: &dyn Fn(&Value, &str) -> bool| {
            found.iter().any(|value| self.values.iter().any(|wanted| matches(value, wanted)))
        };
        match (self.parameter.kind, self.modifier.as_deref()) {
            (_, Some("missing")) => {
                found.is_empty() == (self.values.first().is_some_and(|v| v == "true"))
            }
            (Kind::String, Some("exact")) => any(&|value, wanted| texts(value).contains(&wanted)),
            (Kind::String, Some("contains")) => any(&|value, wanted| {
                texts(value).iter().any(|text| folded(text).contains(&folded(wanted)))
            }),
            (Kind::String, _) => any(&|value, wanted| {
                texts(value).iter().any(|text| folded(text).starts_with(&folded(wanted)))
            }),
            (Kind::Token, Some("not")) => !any(&token),
            (Kind::Token, _) => any(&token),
            (Kind::Reference, _) => any(&reference),
            (Kind::Date, _) => any(&|value, wanted| {
                Interval::asked(wanted)
                    .zip(Interval::of(value))
                    .is_some_and(|((prefix, asked), found)| found.fits(prefix, asked))
            }),
        }
    }
}

/// What a path leads to, through lists.
fn collect<'a>(value: &'a Value, path: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, path, found)),
        Value::Null => {}
        _ if path.is_empty() => found.push(value),
        Value::Object(members) => {
            let (first, rest) = path.split_once('.').unwrap_or((path, ""));
            if let Some(member) = members.get(first) {
                collect(member, rest, found);
            }
        }
        _ => {}
    }
}

/// The texts of a string, or of a HumanName.
fn texts(value: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    match value {
        Value::String(text) => found.push(text.as_str()),
        Value::Object(name) => {
            for part in ["text", "family", "given", "prefix", "suffix"] {
                match name.get(part) {
                    Some(Value::String(text)) => found.push(text.as_str()),
                    Some(Value::Array(items)) => {
                        found.extend(items.iter().filter_map(Value::as_str));
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
    found
}

fn folded(text: &str) -> String {
    text.to_lowercase()
}

/// `code`, `system|code`, `|code` or `system|` against a code, a boolean, a Coding, a
/// CodeableConcept or an Identifier.
fn token(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => wanted == text || wanted.strip_prefix('|') == Some(text),
        Value::Bool(truth) => wanted == truth.to_string(),
        Value::Object(members) => {
            if let Some(Value::Array(codings)) = members.get("coding") {
                return codings.iter().any(|coding| token(coding, wanted));
            }
            let system = members.get("system").and_then(Value::as_str);
            let code = members.get("code").or_else(|| members.get("value")).and_then(Value::as_str);
            match wanted.split_once('|') {
                None => code == Some(wanted),
                Some(("", wanted)) => system.is_none() && code == Some(wanted),
                Some((wanted, "")) => system == Some(wanted),
                Some((of, wanted)) => system == Some(of) && code == Some(wanted),
            }
        }
        _ => false,
    }
}

/// `Patient/a`, `a`, or a URL that ends in it.
fn reference(value: &Value, wanted: &str) -> bool {
    let Some(target) = value.get("reference").and_then(Value::as_str) else { return false };
    target == wanted
        || target.rsplit('/').next() == Some(wanted)
        || wanted.strip_suffix(target).is_some_and(|base| base.ends_with('/'))
}

fn number(name: &str, value: &str) -> Result<usize, Refusal> {
    value
        .parse()
        .map_err(|_| Refusal::bad_request("value", format!("{name} takes a number, not {value:?}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::table;
    use super::*;

    fn patient() -> Arc<Value> {
        Arc::new(json!({
            "resourceType": "Patient", "id": "a",
            "meta": {"lastUpdated": "2026-01-02T03:04:05.000Z"},
            "identifier": [{"system": "urn:s", "value": "7"}],
            "active": true,
            "name": [{"family": "Test-Oak", "given": ["Fern"]}],
            "gender": "female", "birthDate": "1980-05-06",
        }))
    }

    fn search(query: &str) -> Result<Search, Refusal> {
        let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Search::read(table::find("Patient").unwrap(), &pairs, false)
    }

    #[test]
    fn a_patient_is_found_by_what_is_asked_for() {
        for (query, found) in [
            ("", true),
            ("_id=a", true),
            ("_id=b", false),
            ("_id=b,a", true),
            ("family=test", true),
            ("family=oak", false),
            ("family:contains=oak", true),
            ("family:exact=test-oak", false),
            ("name=fern", true),
            ("given=fern&family=none", false),
            ("gender=female", true),
            ("gender:not=female", false),
            ("active=true", true),
            ("identifier=urn:s|7", true),
            ("identifier=urn:t|7", false),
            ("identifier=7", true),
            ("identifier=|7", false),
            ("birthdate=1980", true),
            ("birthdate=1980-05-06", true),
            ("birthdate=1980-05-07", false),
            ("birthdate=gt1980-05-05", true),
            ("birthdate=lt1980-05-06", false),
            ("birthdate=ge1980-05-06&birthdate=le1980-05-06", true),
            ("birthdate=ne1980", false),
            ("_lastUpdated=ge2026-01-02T03:04:05Z", true),
            ("_lastUpdated=gt2026-01-03", false),
            ("birthdate:missing=false", true),
            ("birthdate:missing=true", false),
            ("unknown=1", true),
            ("family=", true),
        ] {
            let page = search(query).unwrap().run([patient()].iter());
            assert_eq!(page.total == 1, found, "{query}");
        }
    }

    #[test]
    fn a_search_that_makes_no_sense_is_refused() {
        for query in ["birthdate=soon", "family:sounds=x", "_count=many", "birthdate:missing=maybe"]
        {
            let refusal = search(query).unwrap_err();
            assert_eq!(refusal.status, crate::serve::StatusCode::BAD_REQUEST, "{query}");
        }
        let pairs = [("unknown".to_owned(), "1".to_owned())];
        assert!(Search::read(table::find("Patient").unwrap(), &pairs, true).is_err());
    }

    #[test]
    fn the_self_link_names_only_what_took_part() {
        let page = search("family=test&unknown=1&_count=5").unwrap().run([patient()].iter());
        assert_eq!(page.links, [("self", "family=test&_count=5".to_owned())]);
        let mut ignoring = search("family=none&_count=5").unwrap();
        ignoring.forget_criteria();
        let page = ignoring.run([patient()].iter());
        assert_eq!((page.total, page.links[0].1.as_str()), (1, "_count=5"));
    }

    #[test]
    fn pages_lead_through_all_matches() {
        let all: Vec<_> = (0..5).map(|_| patient()).collect();
        let page = search("gender=female&_count=2").unwrap().run(all.iter());
        assert_eq!((page.total, page.matches.len()), (5, 2));
        assert_eq!(page.links[1], ("next", "gender=female&_count=2&_offset=2".to_owned()));
        let last = search("_count=2&_offset=4").unwrap().run(all.iter());
        assert_eq!(last.matches.len(), 1);
        assert_eq!(last.links[1], ("previous", "_count=2&_offset=2".to_owned()));
        assert_eq!(last.links.len(), 2);
        assert!(search("_summary=count").unwrap().run(all.iter()).matches.is_empty());
    }

    #[test]
    fn a_reference_is_found_by_id_by_type_and_id_and_by_url() {
        let value = json!({"reference": "Patient/a"});
        for (wanted, found) in
            [("a", true), ("Patient/a", true), ("http://h/fhir/Patient/a", true), ("b", false)]
        {
            assert_eq!(reference(&value, wanted), found, "{wanted}");
        }
    }
}
