//! Findings on the lists of a statement: nothing twice, nothing unknown (CS-09, CS-10, CS-11).

use std::collections::HashSet;

use crate::model::server::FhirVersion;

use super::super::super::types;
use super::super::{Capability, Rest, SearchParam};
use super::{Findings, examples};

pub(super) fn duplicates(capability: &Capability<'_>, findings: &mut Findings) {
    for rest in &capability.rest {
        let types = repeated(rest.resources.iter().map(|resource| &*resource.type_));
        if !types.is_empty() {
            findings
                .error("CS-09", format!("types are declared more than once: {}", examples(types)));
        }
        let mut parameters = Vec::new();
        for resource in &rest.resources {
            for name in repeated(resource.search_params.iter().map(|param| &*param.name)) {
                parameters.push(format!("{}.{name}", resource.type_));
            }
        }
        if !parameters.is_empty() {
            let list = examples(parameters.iter().map(String::as_str));
            findings
                .error("CS-09", format!("search parameters are declared more than once: {list}"));
        }
    }
    let documents: Vec<(&str, &str)> = capability
        .documents
        .iter()
        .filter_map(|document| Some((document.profile.as_deref()?, document.mode.as_deref()?)))
        .collect();
    let distinct: HashSet<_> = documents.iter().collect();
    if distinct.len() < documents.len() {
        findings.error("CS-09", "a document profile is declared twice for one mode".to_owned());
    }
}

/// The names that come more than once, each once.
fn repeated<'n>(names: impl ExactSizeIterator<Item = &'n str> + Clone) -> Vec<&'n str> {
    // Most lists are short, and comparing beats hashing there.
    let mut found = Vec::new();
    if names.len() <= 24 {
        for (index, name) in names.clone().enumerate() {
            if names.clone().take(index).any(|other| other == name) && !found.contains(&name) {
                found.push(name);
            }
        }
        return found;
    }
    let mut seen = HashSet::with_capacity(names.len());
    for name in names {
        if !seen.insert(name) && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

pub(super) fn codes(capability: &Capability<'_>, version: FhirVersion, findings: &mut Findings) {
    let mut unknown_types = Vec::new();
    let mut interactions = Vec::new();
    let mut parameters = Vec::new();
    let mut operations = Vec::new();
    for rest in &capability.rest {
        for interaction in &rest.interactions {
            if !types::SYSTEM_INTERACTIONS.contains(&&**interaction) {
                interactions.push(interaction.to_string());
            }
        }
        check_parameters("", &rest.search_params, version, &mut parameters);
        for resource in &rest.resources {
            if !types::is_resource_type(version, &resource.type_) {
                unknown_types.push(&*resource.type_);
            }
            for interaction in &resource.interactions {
                if !types::TYPE_INTERACTIONS.contains(&&**interaction) {
                    interactions.push(format!("{}.{interaction}", resource.type_));
                }
            }
            check_parameters(&resource.type_, &resource.search_params, version, &mut parameters);
        }
        incomplete(rest, &mut operations);
    }
    let mut report = |what: &str, names: &[String]| {
        if !names.is_empty() {
            let list = examples(names.iter().map(String::as_str));
            findings.error("CS-10", format!("{what}: {list}"));
        }
    };
    report("interactions with an unknown code", &interactions);
    report("search parameters with an unknown type", &parameters);
    report("operations without name or definition", &operations);
    if !unknown_types.is_empty() {
        findings.error(
            "CS-10",
            format!("types that {version} does not have: {}", examples(unknown_types)),
        );
    }
}

fn check_parameters(
    resource: &str,
    parameters: &[SearchParam<'_>],
    version: FhirVersion,
    wrong: &mut Vec<String>,
) {
    for parameter in parameters {
        let is_right = parameter
            .type_
            .as_deref()
            .is_some_and(|name| types::is_search_parameter_type(version, name));
        if !is_right {
            let dot = if resource.is_empty() { "" } else { "." };
            wrong.push(format!("{resource}{dot}{}", parameter.name));
        }
    }
}

fn incomplete(rest: &Rest<'_>, wrong: &mut Vec<String>) {
    let system = rest.operations.iter().map(|operation| ("system", operation));
    let typed = rest.resources.iter().flat_map(|resource| {
        resource.operations.iter().map(|operation| (&*resource.type_, operation))
    });
    for (place, operation) in system.chain(typed) {
        let has_definition = operation.definition.as_deref().is_some_and(|it| !it.is_empty());
        if operation.name.is_empty() || !has_definition {
            let name = if operation.name.is_empty() { "(no name)" } else { &operation.name };
            wrong.push(format!("{place} {name}"));
        }
    }
}

/// CS-11 as far as it goes without asking: a definition that nobody could look up.
pub(super) fn unresolvable(capability: &Capability<'_>, findings: &mut Findings) {
    let mut names: Vec<&str> = capability
        .operations()
        .filter(|(_, operation)| {
            operation.definition.as_deref().is_some_and(|definition| {
                !definition.is_empty()
                    && !definition.contains("://")
                    && !definition.starts_with("urn:")
            })
        })
        .map(|(_, operation)| &*operation.name)
        .collect();
    names.dedup();
    if !names.is_empty() {
        findings.info(
            "CS-11",
            format!("operations whose definition is no absolute URL: {}", examples(names)),
        );
    }
}
