//! What the inventory expects of a server and its statement does not offer.

use crate::model::Code;
use crate::model::server::{Format, MetadataCheck};

use super::judge::examples;
use super::{Capability, Resource, format_family, without_version};

/// One kind of thing that is missing, with all that is missing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    pub code: Code,
    pub message: String,
}

/// What is expected and not there, most telling first; at most one entry for each code.
///
/// `served` is the form of the answer itself: a statement that came as JSON proves JSON, whatever
/// its `format` says.
#[must_use]
pub fn unmet(
    capability: &Capability<'_>,
    expected: &MetadataCheck,
    served: Option<Format>,
) -> Vec<Unmet> {
    let mut list = Vec::new();
    let mut missing = |code: &'static str, what: &str, names: &[String]| {
        if !names.is_empty() {
            let names = examples(names.iter().map(String::as_str));
            list.push(Unmet { code: Code::new(code), message: format!("{what}: {names}") });
        }
    };
    missing("fhir.version_mismatch", "FHIR version", &version(capability, expected));
    missing("fhir.resource_missing", "types not offered", &resources(capability, expected));
    missing(
        "fhir.interaction_missing",
        "interactions not offered",
        &interactions(capability, expected),
    );
    missing("fhir.operation_missing", "operations not offered", &operations(capability, expected));
    missing("fhir.profile_missing", "profiles not offered", &profiles(capability, expected));
    missing("fhir.format_missing", "formats not offered", &formats(capability, expected, served));
    missing(
        "fhir.search_parameter_missing",
        "search parameters not offered",
        &search_parameters(capability, expected),
    );
    missing("fhir.extension_missing", "extensions not offered", &extensions(capability, expected));
    list
}

fn version(capability: &Capability<'_>, expected: &MetadataCheck) -> Vec<String> {
    let Some(wanted) = expected.fhir_version else { return Vec::new() };
    let found = capability.version();
    if found == Some(wanted) {
        return Vec::new();
    }
    let said = match (found, capability.fhir_version.as_deref()) {
        (Some(found), Some(said)) => format!("{found} ({said})"),
        (Some(found), None) => found.to_string(),
        (None, Some(said)) => said.to_owned(),
        (None, None) => "none".to_owned(),
    };
    vec![format!("expected {wanted}; the server says {said}")]
}

fn of_type<'c>(
    capability: &'c Capability<'_>,
    name: &str,
) -> impl Iterator<Item = &'c Resource<'c>> {
    capability.resources().filter(move |resource| resource.type_ == name)
}

fn resources(capability: &Capability<'_>, expected: &MetadataCheck) -> Vec<String> {
    expected
        .resources
        .iter()
        .filter(|name| !capability.resources().any(|resource| resource.type_ == name.as_str()))
        .cloned()
        .collect()
}

fn interactions(capability: &Capability<'_>, expected: &MetadataCheck) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, wanted) in &expected.interactions {
        for interaction in wanted {
            // `search` is what people say for both of the codes.
            let is_it = |code: &str| {
                code == interaction || (interaction == "search" && code.starts_with("search-"))
            };
            let is_offered = if matches!(name.as_str(), "system" | "*") {
                capability
                    .server_rest()
                    .any(|rest| rest.interactions.iter().any(|code| is_it(code)))
            } else {
                of_type(capability, name)
                    .any(|resource| resource.interactions.iter().any(|code| is_it(code)))
            };
            if !is_offered {
                missing.push(format!("{name}.{interaction}"));
            }
        }
    }
    missing
}

/// An operation is meant by its name with or without `$`, as `Type/$name`, or by its canonical.
fn operations(capability: &Capability<'_>, expected: &MetadataCheck) -> Vec<String> {
    let is_offered = |wanted: &str| {
        if wanted.contains("://") {
            return capability.operations().any(|(_, operation)| {
                operation
                    .definition
                    .as_deref()
                    .is_some_and(|it| it == wanted || without_version(it) == wanted)
            });
        }
        let (place, name) = match wanted.rsplit_once('/') {
            Some((place, name)) => (Some(place), name),
            None => (None, wanted),
        };
        let name = name.trim_start_matches('$');
        capability.operations().any(|(resource, operation)| {
            operation.name.trim_start_matches('$') == name && (place.is_none() || place == resource)
        })
    };
    expected.operations.iter().filter(|wanted| !is_offered(wanted)).cloned().collect()
}

fn profiles(capability: &Capability<'_>, expected: &MetadataCheck) -> Vec<String> {
    let is_offered = |wanted: &str| {
        capability.all_profiles().any(|it| it == wanted || without_version(it) == wanted)
    };
    expected.profiles.iter().filter(|wanted| !is_offered(wanted)).cloned().collect()
}

fn formats(
    capability: &Capability<'_>,
    expected: &MetadataCheck,
    served: Option<Format>,
) -> Vec<String> {
    let is_offered = |wanted: &str| {
        let wanted = format_family(wanted);
        let proven = match served {
            Some(Format::Json) => wanted == "json",
            Some(Format::Xml) => wanted == "xml",
            None => false,
        };
        proven || capability.formats.iter().any(|offered| format_family(offered) == wanted)
    };
    expected.formats.iter().filter(|wanted| !is_offered(wanted)).cloned().collect()
}

fn search_parameters(capability: &Capability<'_>, expected: &MetadataCheck) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, wanted) in &expected.search_parameters {
        for parameter in wanted {
            let is_it = |offered: &super::SearchParam<'_>| offered.name == parameter.as_str();
            // A parameter of the system holds for every type.
            let is_offered = of_type(capability, name)
                .any(|resource| resource.search_params.iter().any(is_it))
                || capability.server_rest().any(|rest| rest.search_params.iter().any(is_it));
            if !is_offered {
                missing.push(format!("{name}.{parameter}"));
            }
        }
    }
    missing
}

/// An extension is offered when the statement uses it or lists it as a profile.
fn extensions(capability: &Capability<'_>, expected: &MetadataCheck) -> Vec<String> {
    let is_offered = |wanted: &str| {
        capability.all_extensions().any(|url| url == wanted)
            || capability.all_profiles().any(|url| without_version(url) == wanted)
            || capability
                .instantiates
                .iter()
                .chain(&capability.implementation_guides)
                .any(|url| without_version(url) == wanted)
    };
    expected.extensions.iter().filter(|wanted| !is_offered(wanted)).cloned().collect()
}
