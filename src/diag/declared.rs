//! What a server says it can do, as far as topics try it: owned, bounded, and fit for a URL.

use super::Desk;
use crate::fhir::body::sniff;
use crate::fhir::capability::{self, Capability};
use crate::fhir::types;
use crate::model::server::{ReadTarget, Server};

/// Most types that are looked at; FHIR has fewer than two hundred.
const MOST_KINDS: usize = 250;
/// Most search parameters of a type that are kept.
const MOST_PARAMETERS: usize = 200;

/// Types that nearly every server has, those without patients' data last: counted, never read.
const COMMON: [&str; 8] = [
    "Patient",
    "Observation",
    "Encounter",
    "Condition",
    "Organization",
    "Practitioner",
    "Location",
    "Medication",
];

/// Types that are about no patient: a page of them may be read.
pub(super) const ABOUT_NOBODY: [&str; 12] = [
    "Organization",
    "Location",
    "ValueSet",
    "CodeSystem",
    "StructureDefinition",
    "SearchParameter",
    "OperationDefinition",
    "Questionnaire",
    "HealthcareService",
    "Endpoint",
    "Medication",
    "Substance",
];

#[derive(Debug, Default)]
pub(super) struct Declared {
    pub kinds: Vec<Kind>,
    pub formats: Vec<String>,
    /// Of the whole system, without `$`.
    pub operations: Vec<String>,
}

/// One type and what is declared for it.
#[derive(Debug, Default)]
pub(super) struct Kind {
    pub name: String,
    pub interactions: Vec<String>,
    /// Name and type.
    pub parameters: Vec<(String, String)>,
    /// Without `$`.
    pub operations: Vec<String>,
}

impl Kind {
    pub(super) fn has(&self, interaction: &str) -> bool {
        self.interactions.iter().any(|known| known == interaction)
    }
}

impl Declared {
    pub(super) fn of(capability: &Capability<'_>) -> Declared {
        let mut kinds: Vec<Kind> = Vec::new();
        for resource in capability.resources().take(MOST_KINDS) {
            // Only names of FHIR's own go into a path.
            if !types::is_any_resource_type(&resource.type_)
                || kinds.iter().any(|known| known.name == *resource.type_)
            {
                continue;
            }
            let parameters = resource.search_params.iter().filter(|it| is_plain(&it.name));
            kinds.push(Kind {
                name: resource.type_.to_string(),
                interactions: resource.interactions.iter().map(ToString::to_string).collect(),
                parameters: parameters
                    .take(MOST_PARAMETERS)
                    .map(|it| (it.name.to_string(), it.type_.as_deref().unwrap_or("").to_owned()))
                    .collect(),
                operations: resource.operations.iter().map(operation).collect(),
            });
        }
        Declared {
            kinds,
            formats: capability.formats.iter().map(ToString::to_string).collect(),
            operations: capability
                .server_rest()
                .flat_map(|rest| &rest.operations)
                .map(operation)
                .collect(),
        }
    }

    pub(super) fn kind(&self, name: &str) -> Option<&Kind> {
        self.kinds.iter().find(|kind| kind.name == name)
    }

    /// Whether an operation is declared for a type, or for the whole system.
    pub(super) fn has_operation(&self, kind: &str, name: &str) -> bool {
        let of_kind = self.kind(kind).map(|kind| kind.operations.as_slice()).unwrap_or_default();
        of_kind.iter().chain(&self.operations).any(|known| known == name)
    }

    /// A common type that can be searched, the inventory's own first.
    pub(super) fn common(&self, server: &Server) -> Option<&Kind> {
        let searchable = |name: &str| self.kind(name).filter(|kind| kind.has("search-type"));
        wanted(server)
            .iter()
            .find_map(|name| searchable(name))
            .or_else(|| COMMON.iter().find_map(|name| searchable(name)))
            .or_else(|| self.kinds.iter().find(|kind| kind.has("search-type")))
    }
}

/// Types that the inventory speaks of, those of its searches first.
pub(super) fn wanted(server: &Server) -> Vec<String> {
    let searched = server.checks.search.iter().filter_map(|query| query.split(['?', '/']).next());
    let read = server.checks.read.iter().filter_map(|read| match &read.target {
        ReadTarget::Reference(reference) => reference.split('/').next(),
        ReadTarget::Secret(_) => None,
    });
    let mut names: Vec<String> = Vec::new();
    let expected = server.checks.metadata.resources.iter().map(String::as_str);
    for name in searched.chain(read).chain(expected) {
        if types::is_any_resource_type(name) && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// What the server declares; `None` where its statement cannot be had or read.
pub(super) async fn declared(desk: &Desk) -> Option<Declared> {
    let exchange = desk.statement().await.ok()?;
    let kind = sniff(exchange.content_type(), &exchange.body);
    capability::parse(kind, &exchange.body).ok().map(|capability| Declared::of(&capability))
}

/// The references of the records that the inventory declares to be synthetic. They are never told:
/// they may come from a secret store.
pub(super) async fn synthetic(desk: &Desk) -> Vec<String> {
    let mut found = Vec::new();
    for read in desk.server.checks.read.iter().filter(|read| read.synthetic) {
        match &read.target {
            ReadTarget::Reference(reference) => found.push(reference.clone()),
            ReadTarget::Secret(secret) => {
                let credentials = desk.surroundings.credentials.serving(&desk.server.name);
                if let Ok(value) = credentials.resolve(secret).await {
                    found.push(value.expose().trim().to_owned());
                }
            }
        }
    }
    found
}

fn operation(operation: &capability::Operation<'_>) -> String {
    operation.name.trim_start_matches('$').to_owned()
}

/// A name or an id that goes into a URL as it is.
pub(super) fn is_plain(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}
