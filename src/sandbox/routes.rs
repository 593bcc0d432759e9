//! The FHIR interactions (FHIR, section 3.1): which path and method do what.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use serde_json::{Value, json};

use super::answer::{self, Content, Format, Reply, text};
use super::bulk::Way;
use super::fhir::capability::{Facts, statement, version_number};
use super::fhir::outcome::{Refusal, outcome};
use super::fhir::search::Search;
use super::fhir::store::{Version, instant};
use super::fhir::table::{self, Type};
use super::inject::Struck;
use super::persona::Persona;
use super::site::{Site, health, health_of, locked, pairs};
use crate::model::server::FhirVersion;
use crate::serve::{HeaderName, Method, Received, Request, StatusCode, header};

/// Most CapabilityStatements that are kept, one per base URL under which a server is asked.
const STATEMENTS: usize = 8;
/// Most versions in one answer of a history.
const MAX_HISTORY: usize = 1_000;

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Health,
    Metadata,
    SmartConfiguration,
    Versions,
    Type { name: String },
    SearchByPost { name: String },
    Instance { name: String, id: String },
    History { name: String, id: String },
    Version { name: String, id: String, number: String },
    Bulk(Way),
    Nowhere,
}

impl Route {
    /// A persona has the health endpoint that it names, or none, in the place of the usual ones.
    pub(super) fn of(path: &str, base_path: &str, persona: Option<&Persona>) -> Route {
        let path = path.replace("%24", "$");
        let is_health = match persona {
            Some(persona) => persona.health.as_ref().is_some_and(|own| own.path == path),
            None => matches!(path.as_str(), "/health" | "/actuator/health"),
        };
        if is_health {
            return Route::Health;
        }
        let Some(below) = path.strip_prefix(base_path).filter(|rest| rest.starts_with('/')) else {
            return Route::Nowhere;
        };
        let parts: Vec<&str> = below.trim_matches('/').split('/').collect();
        let own = |part: &str| part.to_owned();
        match parts.as_slice() {
            ["metadata"] => Route::Metadata,
            ["health"] | ["actuator", "health"] if persona.is_none() => Route::Health,
            [".well-known", "smart-configuration"] => Route::SmartConfiguration,
            ["$versions"] => Route::Versions,
            [name, "_search"] => Route::SearchByPost { name: own(name) },
            [name] if is_type_like(name) => Route::Type { name: own(name) },
            [name, id] if is_type_like(name) && is_id(id) => {
                Route::Instance { name: own(name), id: own(id) }
            }
            [name, id, "_history"] if is_id(id) => Route::History { name: own(name), id: own(id) },
            [name, id, "_history", number] if is_id(id) => {
                Route::Version { name: own(name), id: own(id), number: own(number) }
            }
            _ => Route::Nowhere,
        }
    }
}

/// A CapabilityStatement that was written out.
#[derive(Debug)]
pub(super) struct Statement {
    base: String,
    etag: String,
    json: Arc<answer::Kept>,
    xml: Arc<answer::Kept>,
}

/// Answers a request that came through faults and sign-in.
///
/// # Errors
/// What is refused, with its status.
pub(super) fn answer(
    site: &Site,
    request: &Request,
    route: &Route,
    query: &[(String, String)],
    format: Format,
    struck: &Struck,
) -> Result<Reply, Refusal> {
    let get = matches!(request.method, Method::GET | Method::HEAD);
    match route {
        Route::Health if get => {
            let own = site.persona.and_then(|persona| persona.health.as_ref());
            Ok(own.map_or_else(
                || health(struck.health_down),
                |own| health_of(own, struck.health_down),
            ))
        }
        Route::Metadata if get => Ok(metadata(site, request, format)),
        Route::SmartConfiguration if get => match site.smart_configuration() {
            Some(document) => {
                let body = document.to_string().into_bytes().into();
                Ok(Reply::new(StatusCode::OK, Content::Text("application/json", body)))
            }
            None => Err(Refusal::not_found("this server has no SMART sign-in")),
        },
        Route::Versions if get && site.version != FhirVersion::Stu3 => {
            let version = site.version.mime_parameter();
            Ok(Reply::ok(json!({
                "resourceType": "Parameters",
                "parameter": [
                    {"name": "version", "valueCode": version},
                    {"name": "default", "valueCode": version},
                ],
            })))
        }
        Route::Type { name } if get => search(site, request, kind(name)?, query, struck),
        Route::Type { name } if request.method == Method::POST => {
            create(site, request, kind(name)?)
        }
        Route::SearchByPost { name } if request.method == Method::POST => {
            let mut all = query.to_vec();
            all.extend(pairs(whole(request)?));
            search(site, request, kind(name)?, &all, struck)
        }
        Route::Instance { name, id } if get => read(site, request, kind(name)?, id),
        Route::Instance { name, id } if request.method == Method::PUT => {
            update(site, request, kind(name)?, id)
        }
        Route::Instance { name, id } if request.method == Method::DELETE => {
            let expected = expected_version(request)?;
            locked(&site.store).delete(kind(name)?.name, id, expected, site.now())?;
            Ok(Reply::new(StatusCode::NO_CONTENT, Content::Empty))
        }
        Route::History { name, id } if get => history(site, request, kind(name)?, id),
        Route::Version { name, id, number } if get => {
            let kind = kind(name)?;
            let store = locked(&site.store);
            let version = store
                .history(kind.name, id)?
                .iter()
                .find(|version| version.number.to_string() == *number)
                .ok_or_else(|| {
                    Refusal::not_found(format!("{name}/{id} has no version {number}"))
                })?;
            let resource = version.resource.clone().ok_or_else(|| {
                Refusal::new(StatusCode::GONE, "deleted", "this version deleted the resource")
            })?;
            Ok(versioned(Reply::ok((*resource).clone()), version))
        }
        Route::Bulk(way) => site.bulk.answer(site, request, way, query),
        Route::Nowhere => Err(Refusal::not_found(format!(
            "nothing is here; the FHIR base is {}",
            site.base_for(request)
        ))),
        _ => Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "not-supported",
            format!("{} is not supported here; /metadata says what is", request.method),
        )),
    }
}

fn metadata(site: &Site, request: &Request, format: Format) -> Reply {
    let base = site.base_for(request);
    let (etag, body) = {
        let mut statements = locked(&site.statements);
        let place = match statements.iter().position(|kept| kept.base == base) {
            Some(place) => place,
            None => {
                if statements.len() == STATEMENTS {
                    statements.remove(0);
                }
                statements.push(Statement::new(site, base));
                statements.len() - 1
            }
        };
        let kept = &statements[place];
        match format {
            Format::Json => (format!("W/\"{}-json\"", kept.etag), kept.json.clone()),
            Format::Xml => (format!("W/\"{}-xml\"", kept.etag), kept.xml.clone()),
        }
    };
    let reply = match unchanged(request, &etag) {
        true => Reply::new(StatusCode::NOT_MODIFIED, Content::Empty),
        false => Reply::new(StatusCode::OK, Content::Kept(body)),
    };
    reply.with(header::ETAG, &etag).with(header::CACHE_CONTROL, "no-cache")
}

impl Statement {
    fn new(site: &Site, base: String) -> Statement {
        let resource = statement(&Facts {
            version: site.version,
            base: &base,
            auth: site.method,
            persona: site.persona,
            bulk: &site.bulk.plan,
            started: site.started,
        });
        let json = Format::Json.write(&resource);
        let mut hasher = DefaultHasher::new();
        json.hash(&mut hasher);
        let kept = |bytes| Arc::new(answer::Kept::new(bytes));
        Statement {
            etag: format!("{}-{:016x}", version_number(site.version), hasher.finish()),
            json: kept(json),
            xml: kept(Format::Xml.write(&resource)),
            base,
        }
    }
}

fn search(
    site: &Site,
    request: &Request,
    kind: &'static Type,
    query: &[(String, String)],
    struck: &Struck,
) -> Result<Reply, Refusal> {
    let strict = text(&request.headers, &HeaderName::from_static("prefer"))
        .is_some_and(|prefer| prefer.contains("handling=strict") && !struck.prefer_lost);
    let query: Vec<_> = query
        .iter()
        .filter(|(name, _)| name != super::sign_in::API_KEY_PARAMETER)
        .cloned()
        .collect();
    let mut search = Search::read(kind, &query, strict && !struck.ignore_parameters)?;
    if struck.ignore_parameters {
        search.forget_criteria();
    }
    let store = locked(&site.store);
    let page = match struck.empty_search {
        true => search.run(std::iter::empty()),
        false => search.run(store.all(kind.name)),
    };
    drop(store);
    let base = site.base_for(request);
    let linked = match struck.plain_links {
        true => base.replacen("https://", "http://", 1),
        false => base.clone(),
    };
    let mut links = page.links;
    if struck.paging_loop
        && let Some(own) = links.iter().find(|(relation, _)| *relation == "self").cloned()
        && let Some(next) = links.iter_mut().find(|(relation, _)| *relation == "next")
    {
        next.1 = own.1;
    }
    let links: Vec<Value> = links
        .iter()
        .map(|(relation, query)| {
            let mark = if query.is_empty() { "" } else { "?" };
            json!({"relation": relation, "url": format!("{linked}/{}{mark}{query}", kind.name)})
        })
        .collect();
    let mut bundle = json!({
        "resourceType": "Bundle",
        "id": uuid::Uuid::new_v4().to_string(),
        "meta": {"lastUpdated": instant(site.now())},
        "type": "searchset",
        "total": page.total,
        "link": links,
    });
    if !page.matches.is_empty() {
        bundle["entry"] = page
            .matches
            .iter()
            .map(|resource| {
                json!({
                    "fullUrl": full_url(&base, kind, resource["id"].as_str().unwrap_or_default()),
                    "resource": **resource,
                    "search": {"mode": "match"},
                })
            })
            .collect();
    }
    Ok(Reply::ok(bundle))
}

fn read(site: &Site, request: &Request, kind: &Type, id: &str) -> Result<Reply, Refusal> {
    let store = locked(&site.store);
    let (version, resource) = store.read(kind.name, id)?;
    if unchanged(request, &etag(version)) {
        return Ok(versioned(Reply::new(StatusCode::NOT_MODIFIED, Content::Empty), version));
    }
    Ok(versioned(Reply::ok((*resource).clone()), version))
}

fn create(site: &Site, request: &Request, kind: &'static Type) -> Result<Reply, Refusal> {
    if request.headers.contains_key("if-none-exist") {
        return Err(Refusal::bad_request("not-supported", "conditional create is not supported"));
    }
    let resource = resource_of(request, kind)?;
    let (id, version) = locked(&site.store).create(kind.name, resource, site.now())?;
    Ok(written(site, request, kind, &id, &version, StatusCode::CREATED))
}

fn update(site: &Site, request: &Request, kind: &'static Type, id: &str) -> Result<Reply, Refusal> {
    let resource = resource_of(request, kind)?;
    if resource["id"].as_str() != Some(id) {
        return Err(Refusal::bad_request(
            "invalid",
            format!("the resource has to carry the id of its URL, {id}"),
        ));
    }
    let expected = expected_version(request)?;
    let version = locked(&site.store).update(kind.name, id, resource, expected, site.now())?;
    let status = if version.number == 1 { StatusCode::CREATED } else { StatusCode::OK };
    Ok(written(site, request, kind, id, &version, status))
}

/// The answer to something that was stored, as `Prefer` asks for it (FHIR, section 3.1.0.1.9).
fn written(
    site: &Site,
    request: &Request,
    kind: &Type,
    id: &str,
    version: &Version,
    status: StatusCode,
) -> Reply {
    let prefer = text(&request.headers, &HeaderName::from_static("prefer")).unwrap_or_default();
    let content = match &version.resource {
        _ if prefer.contains("return=OperationOutcome") => {
            Content::Resource(outcome("information", "informational", "stored"))
        }
        Some(resource) if !prefer.contains("return=minimal") => {
            Content::Resource((**resource).clone())
        }
        _ => Content::Empty,
    };
    let place = full_url(&site.base_for(request), kind, id);
    let reply = versioned(Reply::new(status, content), version);
    match status {
        StatusCode::CREATED => {
            reply.with(header::LOCATION, &format!("{place}/_history/{}", version.number))
        }
        _ => reply,
    }
}

fn history(site: &Site, request: &Request, kind: &Type, id: &str) -> Result<Reply, Refusal> {
    let base = site.base_for(request);
    let place = full_url(&base, kind, id);
    let store = locked(&site.store);
    let versions = store.history(kind.name, id)?;
    let entries: Vec<Value> = versions
        .iter()
        .rev()
        .take(MAX_HISTORY)
        .map(|version| {
            let (method, status) = match (&version.resource, version.number) {
                (None, _) => ("DELETE", "204"),
                (Some(_), 1) => ("PUT", "201"),
                (Some(_), _) => ("PUT", "200"),
            };
            let mut entry = json!({"fullUrl": place});
            if let Some(resource) = &version.resource {
                entry["resource"] = (**resource).clone();
            }
            entry["request"] = json!({"method": method, "url": format!("{}/{id}", kind.name)});
            entry["response"] = json!({
                "status": status, "etag": etag(version), "lastModified": instant(version.at),
            });
            entry
        })
        .collect();
    Ok(Reply::ok(json!({
        "resourceType": "Bundle",
        "type": "history",
        "total": versions.len(),
        "link": [{"relation": "self", "url": format!("{place}/_history")}],
        "entry": entries,
    })))
}

fn kind(name: &str) -> Result<&'static Type, Refusal> {
    table::find(name).ok_or_else(|| {
        let served: Vec<_> = table::TYPES.iter().map(|kind| kind.name).collect();
        Refusal::new(
            StatusCode::NOT_FOUND,
            "not-supported",
            format!("{name} is not served here; {} are", served.join(", ")),
        )
    })
}

fn whole(request: &Request) -> Result<&[u8], Refusal> {
    match &request.body {
        Received::Whole(bytes) if bytes.len() <= crate::serve::REQUEST_BODY_BYTES => Ok(bytes),
        _ => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-long",
            format!("a body has at most {} bytes here", crate::serve::REQUEST_BODY_BYTES),
        )),
    }
}

/// The resource in a request's body.
fn resource_of(request: &Request, kind: &Type) -> Result<Value, Refusal> {
    let content_type = text(&request.headers, &header::CONTENT_TYPE).unwrap_or("application/json");
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !matches!(essence, "application/fhir+json" | "application/json" | "text/json") {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not-supported",
            format!("{essence} is not taken; send application/fhir+json"),
        ));
    }
    let resource: Value = serde_json::from_slice(whole(request)?)
        .map_err(|error| Refusal::bad_request("structure", format!("no JSON: {error}")))?;
    match resource.get("resourceType").and_then(Value::as_str) {
        Some(name) if name == kind.name => Ok(resource),
        Some(name) => Err(Refusal::bad_request(
            "invalid",
            format!("a {name} was sent to the place of {}", kind.name),
        )),
        None => Err(Refusal::bad_request("structure", "the body has no resourceType")),
    }
}

/// The version that `If-Match` names.
fn expected_version(request: &Request) -> Result<Option<u32>, Refusal> {
    let Some(tag) = text(&request.headers, &header::IF_MATCH) else { return Ok(None) };
    let number = tag.trim_start_matches("W/").trim_matches('"').parse();
    number
        .map(Some)
        .map_err(|_| Refusal::bad_request("value", "If-Match takes an ETag such as W/\"1\""))
}

/// Whether the client has this already (RFC 9110, section 13.1.2: compared weakly).
fn unchanged(request: &Request, etag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    text(&request.headers, &header::IF_NONE_MATCH)
        .is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == "*" || bare(tag) == bare(etag)))
}

fn versioned(reply: Reply, version: &Version) -> Reply {
    reply
        .with(header::ETAG, &etag(version))
        .with(header::LAST_MODIFIED, &version.at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

fn etag(version: &Version) -> String {
    format!("W/\"{}\"", version.number)
}

fn full_url(base: &str, kind: &Type, id: &str) -> String {
    format!("{base}/{}/{id}", kind.name)
}

fn is_type_like(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(char::is_alphanumeric)
}

/// The data type `id` of FHIR.
pub(super) fn is_id(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    (1..=64).contains(&text.len()) && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_where_fhir_says() {
        let own = str::to_owned;
        for (path, route) in [
            ("/health", Route::Health),
            ("/fhir/actuator/health", Route::Health),
            ("/fhir/metadata", Route::Metadata),
            ("/fhir/.well-known/smart-configuration", Route::SmartConfiguration),
            ("/fhir/%24versions", Route::Versions),
            ("/fhir/Patient", Route::Type { name: own("Patient") }),
            ("/fhir/Patient/", Route::Type { name: own("Patient") }),
            ("/fhir/Patient/a", Route::Instance { name: own("Patient"), id: own("a") }),
            ("/fhir/Patient/_search", Route::SearchByPost { name: own("Patient") }),
            ("/fhir/Patient/a/_history", Route::History { name: own("Patient"), id: own("a") }),
            ("/fhir/Patient/a_b", Route::Nowhere),
            ("/fhir", Route::Nowhere),
            ("/fhirPatient", Route::Nowhere),
            ("/Patient", Route::Nowhere),
        ] {
            assert_eq!(Route::of(path, "/fhir", None), route, "{path}");
        }
    }

    #[test]
    fn a_persona_has_the_health_endpoint_that_it_names_or_none() {
        for (name, path, route) in [
            ("hapi", "/actuator/health", Route::Health),
            ("hapi", "/health", Route::Nowhere),
            ("hapi", "/fhir/health", Route::Nowhere),
            ("ibm-fhir", "/fhir-server/api/v4/%24healthcheck", Route::Health),
            ("helios", "/health", Route::Health),
            ("epic", "/health", Route::Nowhere),
            ("epic", "/FHIRProxy/api/FHIR/R4/health", Route::Nowhere),
            ("epic", "/FHIRProxy/api/FHIR/R4/metadata", Route::Metadata),
        ] {
            let persona = Persona::find(name).unwrap();
            assert_eq!(Route::of(path, &persona.base_path, Some(persona)), route, "{name} {path}");
        }
    }
}
