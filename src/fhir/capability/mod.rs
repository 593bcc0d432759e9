//! What a server says of itself: CapabilityStatement, and DSTU2's Conformance.
//!
//! [`parse`] reads the document of any version, JSON or XML; [`judge`] finds what is wrong with it;
//! [`unmet`] compares it with what the inventory expects.

mod judge;
mod shape;
mod unmet;

pub use judge::{JudgeContext, TlsFacts, fetch_finding, judge, response_finding, tls_findings};
pub use unmet::{Unmet, unmet};

use crate::model::server::FhirVersion;
use crate::model::text;

use super::body::BodyKind;
use super::types;
use super::wire::{self, Oddity, ParseError, Text};

/// A CapabilityStatement (STU3 and later) or a Conformance (DSTU2), as far as it is needed.
///
/// Texts are borrowed from the body. What the server left out is `None` or empty.
#[derive(Debug, Default)]
pub struct Capability<'a> {
    pub resource_type: Text<'a>,
    /// As the server says it, such as `4.0.1`.
    pub fhir_version: Option<Text<'a>>,
    pub url: Option<Text<'a>>,
    pub name: Option<Text<'a>>,
    pub title: Option<Text<'a>>,
    pub status: Option<Text<'a>>,
    pub date: Option<Text<'a>>,
    pub kind: Option<Text<'a>>,
    pub publisher: Option<Text<'a>>,
    pub copyright: Option<Text<'a>>,
    pub description: Option<Text<'a>>,
    pub formats: Vec<Text<'a>>,
    pub software: Option<Software<'a>>,
    pub implementation: Option<Implementation<'a>>,
    pub instantiates: Vec<Text<'a>>,
    pub implementation_guides: Vec<Text<'a>>,
    /// DSTU2 and STU3 list their profiles for the whole server.
    pub profiles: Vec<Text<'a>>,
    pub rest: Vec<Rest<'a>>,
    pub messaging: Vec<Messaging>,
    pub documents: Vec<Document<'a>>,
    /// URLs of the extensions on the statement itself and on its implementation.
    pub extensions: Vec<Text<'a>>,
    /// What had the wrong type.
    pub oddities: Vec<Oddity>,
}

#[derive(Debug, Default)]
pub struct Software<'a> {
    pub name: Option<Text<'a>>,
    pub version: Option<Text<'a>>,
    pub release_date: Option<Text<'a>>,
}

#[derive(Debug, Default)]
pub struct Implementation<'a> {
    pub description: Option<Text<'a>>,
    pub url: Option<Text<'a>>,
    pub extensions: Vec<Text<'a>>,
}

/// Only what the invariants ask for.
#[derive(Debug, Default)]
pub struct Messaging {
    pub endpoints: usize,
}

#[derive(Debug, Default)]
pub struct Document<'a> {
    pub mode: Option<Text<'a>>,
    pub profile: Option<Text<'a>>,
}

/// One `rest` entry: what the server does in one mode.
#[derive(Debug, Default)]
pub struct Rest<'a> {
    /// `server` or `client`.
    pub mode: Option<Text<'a>>,
    pub security: Security<'a>,
    pub resources: Vec<Resource<'a>>,
    /// Of the whole system: `batch`, `transaction`, `search-system`, `history-system`.
    pub interactions: Vec<Text<'a>>,
    pub search_params: Vec<SearchParam<'a>>,
    pub operations: Vec<Operation<'a>>,
    pub extensions: Vec<Text<'a>>,
}

#[derive(Debug, Default)]
pub struct Security<'a> {
    pub cors: Option<bool>,
    /// Codes of the security services, or their text where they carry no code.
    pub services: Vec<Text<'a>>,
    /// What the `oauth-uris` extension says: `authorize`, `token`, … and the URL.
    pub oauth_uris: Vec<(Text<'a>, Text<'a>)>,
    pub extensions: Vec<Text<'a>>,
}

/// What a server does with one type.
#[derive(Debug, Default)]
pub struct Resource<'a> {
    pub type_: Text<'a>,
    pub profile: Option<Text<'a>>,
    pub supported_profiles: Vec<Text<'a>>,
    pub interactions: Vec<Text<'a>>,
    pub search_params: Vec<SearchParam<'a>>,
    pub operations: Vec<Operation<'a>>,
    pub versioning: Option<Text<'a>>,
    pub read_history: Option<bool>,
    pub update_create: Option<bool>,
    pub conditional_create: Option<bool>,
    pub conditional_read: Option<Text<'a>>,
    pub conditional_update: Option<bool>,
    pub conditional_delete: Option<Text<'a>>,
    pub extensions: Vec<Text<'a>>,
}

#[derive(Debug, Default)]
pub struct SearchParam<'a> {
    pub name: Text<'a>,
    pub type_: Option<Text<'a>>,
}

#[derive(Debug, Default)]
pub struct Operation<'a> {
    /// Without a leading `$` in the standard; some servers write it.
    pub name: Text<'a>,
    pub definition: Option<Text<'a>>,
}

/// Reads a CapabilityStatement or Conformance from a body of the given kind.
///
/// Unknown members are passed over, wrong types become [`Capability::oddities`]. Protocol checks
/// CS-01, HT-25.
///
/// # Errors
/// [`ParseError`]; it quotes nothing of the body.
pub fn parse(kind: BodyKind, body: &[u8]) -> Result<Capability<'_>, ParseError> {
    let mut capability = Capability::default();
    let oddities = wire::read(kind, body, &mut capability)?;
    capability.oddities = oddities;
    match capability.resource_type.as_ref() {
        "CapabilityStatement" | "Conformance" => Ok(capability),
        other => Err(wrong_resource(other)),
    }
}

/// The error for a resource of another type; a name that FHIR does not know is not repeated.
pub(super) fn wrong_resource(name: &str) -> ParseError {
    match name {
        "" => ParseError::NotFhir("it has no resourceType"),
        _ if types::is_any_resource_type(name) => ParseError::WrongResource(name.to_owned()),
        _ => ParseError::NotFhir("its resourceType is none of FHIR's"),
    }
}

impl Capability<'_> {
    /// The version of FHIR; a Conformance without one is DSTU2.
    #[must_use]
    pub fn version(&self) -> Option<FhirVersion> {
        match self.fhir_version.as_deref() {
            Some(version) => FhirVersion::of(version.trim()),
            None if self.resource_type == "Conformance" => Some(FhirVersion::Dstu2),
            None => None,
        }
    }

    /// Name and version of the software, on one line, at most 80 characters.
    #[must_use]
    pub fn software_label(&self) -> Option<String> {
        let software = self.software.as_ref()?;
        let words: Vec<&str> = [software.name.as_deref(), software.version.as_deref()]
            .into_iter()
            .flatten()
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .collect();
        // Some put the version into the name as well.
        let label = match words.as_slice() {
            [name, version] if name.contains(version) => (*name).to_owned(),
            words => words.join(" "),
        };
        (!label.is_empty()).then(|| text::bounded(&text::one_line(&label), 80))
    }

    /// The `rest` entries of mode `server`; one without a mode counts.
    pub fn server_rest(&self) -> impl Iterator<Item = &Rest<'_>> {
        self.rest.iter().filter(|rest| rest.mode.as_deref().is_none_or(|mode| mode == "server"))
    }

    /// Every type of every server entry.
    pub fn resources(&self) -> impl Iterator<Item = &Resource<'_>> {
        self.server_rest().flat_map(|rest| rest.resources.iter())
    }

    /// Every operation, with the type it belongs to; `None` is the whole system.
    pub fn operations(&self) -> impl Iterator<Item = (Option<&str>, &Operation<'_>)> {
        self.server_rest().flat_map(|rest| {
            let system = rest.operations.iter().map(|operation| (None, operation));
            let typed = rest.resources.iter().flat_map(|resource| {
                resource.operations.iter().map(|operation| (Some(&*resource.type_), operation))
            });
            system.chain(typed)
        })
    }

    /// Every profile: of the types, and of the whole server in DSTU2 and STU3.
    pub fn all_profiles(&self) -> impl Iterator<Item = &str> {
        self.profiles.iter().map(|profile| &**profile).chain(self.resources().flat_map(
            |resource| {
                resource
                    .profile
                    .iter()
                    .chain(&resource.supported_profiles)
                    .map(|profile| &**profile)
            },
        ))
    }

    /// Every extension URL that was met, at any level that is read.
    pub fn all_extensions(&self) -> impl Iterator<Item = &str> {
        let rest = self.rest.iter().flat_map(|rest| {
            rest.extensions
                .iter()
                .chain(&rest.security.extensions)
                .chain(rest.resources.iter().flat_map(|resource| &resource.extensions))
        });
        self.extensions
            .iter()
            .chain(self.implementation.iter().flat_map(|place| &place.extensions))
            .chain(rest)
            .map(|url| &**url)
    }
}

/// A name of the server's, bounded and on one line; fit for a message.
pub(super) fn shown(name: &str) -> String {
    let name = text::bounded(&text::one_line(name), 100);
    if name.is_empty() { "(empty)".to_owned() } else { name }
}

/// A canonical without its `|version`.
pub(super) fn without_version(canonical: &str) -> &str {
    canonical.split_once('|').map_or(canonical, |(url, _)| url)
}

/// `json`, `xml` or `ttl` for any of their media types; other formats as they stand.
#[must_use]
pub fn format_family(format: &str) -> String {
    let name = format.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match name.as_str() {
        "json" => "json".to_owned(),
        "xml" => "xml".to_owned(),
        "ttl" | "turtle" | "text/turtle" | "application/fhir+turtle" => "ttl".to_owned(),
        // Some write the plus sign of a query string.
        "application/fhir json" => "json".to_owned(),
        "application/fhir xml" => "xml".to_owned(),
        _ if super::body::is_json_name(&name) => "json".to_owned(),
        _ if super::body::is_xml(&name) => "xml".to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests;
