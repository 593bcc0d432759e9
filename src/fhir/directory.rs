//! Published directories of FHIR servers: Endpoints, with the Organizations that they belong to.
//!
//! Vendors publish them as a Bundle, in any version of FHIR from STU3 on; so do the user-access
//! brands of SMART App Launch. Single resources, JSON arrays of them and NDJSON are read too.

use std::collections::HashMap;

use super::body::{BodyKind, sniff};
use super::wire::{self, ParseError, Text};
use crate::model::server::FhirVersion;

mod shape;

use self::shape::{Contact, Resource};

/// Endpoints beyond this are not read: no vendor has so many, and an inventory could not hold them.
pub const MOST: usize = 100_000;

/// One endpoint as it was published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Where it stands, such as `entry 12 (Endpoint/abc)`.
    pub place: String,
    /// As it is written; empty when it is missing.
    pub address: String,
    /// Its own name.
    pub name: Option<String>,
    /// `active`, `suspended`, `error`, `off`, `entered-in-error` or `test`.
    pub status: Option<String>,
    /// The name of the organization that it belongs to.
    pub organization: Option<String>,
    /// As the endpoint says it; the URL may say more.
    pub version: Option<FhirVersion>,
    /// The codes of its connection type; empty when it says none.
    pub connection: Vec<String>,
    pub phone: Option<String>,
    pub email: Option<String>,
    /// Where the organization's own portal is.
    pub portal: Option<String>,
}

impl Published {
    /// Whether a FHIR server answers there, as far as the connection type tells.
    #[must_use]
    pub fn is_rest(&self) -> bool {
        self.connection.is_empty()
            || self.connection.iter().any(|code| code.starts_with("hl7-fhir-rest"))
    }
}

/// What a directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    pub endpoints: Vec<Published>,
    /// Lines that could not be read, with their number; only NDJSON has them.
    pub broken: Vec<(usize, String)>,
}

/// Reads a directory in JSON, NDJSON or XML.
///
/// # Errors
/// [`ParseError`] when it is none, or breaks off.
pub fn read(bytes: &[u8]) -> Result<Directory, ParseError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let kind = sniff(None, bytes);
    if kind == BodyKind::Json && is_lines(bytes) {
        return lines(bytes);
    }
    let wrapped;
    let body = match bytes.trim_ascii_start().first() {
        // An array is read as a Bundle without a wrapper around each entry; no line moves by it.
        Some(b'[') => {
            wrapped = [br#"{"resourceType":"Bundle","item":"#, bytes, b"}"].concat();
            &wrapped
        }
        _ => bytes,
    };
    let mut root = Resource::default();
    wire::read(kind, body, &mut root)?;
    if !matches!(&*root.resource_type, "Bundle" | "Endpoint" | "Organization" | "List") {
        return Err(super::capability::wrong_resource(&root.resource_type));
    }
    Ok(Directory { endpoints: endpoints(vec![(String::new(), root)]), broken: Vec::new() })
}

/// Whether a text is several JSON objects, one to a line.
fn is_lines(bytes: &[u8]) -> bool {
    let mut lines =
        bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    first.starts_with(b"{")
        && lines.next().is_some_and(|line| line.starts_with(b"{"))
        && serde_json::from_slice::<serde::de::IgnoredAny>(first).is_ok()
}

fn lines(bytes: &[u8]) -> Result<Directory, ParseError> {
    let mut roots = Vec::new();
    let mut broken = Vec::new();
    let mut first = None;
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let (number, line) = (index + 1, line.trim_ascii());
        if line.is_empty() {
            continue;
        }
        let mut root = Resource::default();
        match wire::read(BodyKind::Json, line, &mut root) {
            Ok(_) => roots.push((format!("line {number}"), root)),
            Err(error) => {
                if let ParseError::Malformed { column, .. } = error {
                    first.get_or_insert(ParseError::Malformed { line: number, column });
                }
                if broken.len() < MOST {
                    broken.push((number, "this line is no JSON object".to_owned()));
                }
            }
        }
    }
    match first {
        Some(error) if roots.is_empty() => Err(error),
        _ => Ok(Directory { endpoints: endpoints(roots), broken }),
    }
}

/// The endpoints of all resources, in their order, each with its organization.
fn endpoints(roots: Vec<(String, Resource<'_>)>) -> Vec<Published> {
    let mut flat = Flat::default();
    for (place, root) in roots {
        flat.take(place, String::new(), None, root);
    }
    flat.published()
}

/// Every resource at any depth, and how to find it.
#[derive(Default)]
struct Flat<'a> {
    resources: Vec<Kept<'a>>,
    /// From what a reference may say to the resource's index.
    names: HashMap<String, usize>,
}

struct Kept<'a> {
    place: String,
    /// The resource that contains it.
    within: Option<usize>,
    resource: Resource<'a>,
}

impl<'a> Flat<'a> {
    fn take(
        &mut self,
        place: String,
        full_url: String,
        within: Option<usize>,
        mut resource: Resource<'a>,
    ) {
        let contained = std::mem::take(&mut resource.contained);
        let entries = std::mem::take(&mut resource.entries);
        let items = std::mem::take(&mut resource.items);
        for (index, entry) in entries.into_iter().enumerate() {
            let below = within_place(&place, &format!("entry {}", index + 1));
            if let Some(inner) = entry.resource {
                self.take(below, entry.full_url.into_owned(), None, *inner);
            }
        }
        for (index, item) in items.into_iter().enumerate() {
            let below = within_place(&place, &format!("item {}", index + 1));
            self.take(below, String::new(), None, item);
        }
        if !matches!(&*resource.resource_type, "Endpoint" | "Organization")
            || self.resources.len() >= 4 * MOST
        {
            return;
        }
        let index = self.resources.len();
        if let Some(owner) = within {
            self.names.entry(format!("{owner}#{}", resource.id)).or_insert(index);
        } else {
            if !full_url.is_empty() {
                self.names.entry(full_url).or_insert(index);
            }
            if !resource.id.is_empty() {
                let local = format!("{}/{}", resource.resource_type, resource.id);
                self.names.entry(local).or_insert(index);
            }
        }
        let place = match (&*resource.id, &*resource.resource_type) {
            ("", kind) if place.is_empty() => kind.to_owned(),
            ("", _) => place,
            (id, kind) if place.is_empty() => format!("{kind}/{id}"),
            (id, kind) => format!("{place} ({kind}/{id})"),
        };
        self.resources.push(Kept { place: super::capability::shown(&place), within, resource });
        for inner in contained {
            let place = within_place(&self.resources[index].place, "contained");
            self.take(place, String::new(), Some(index), inner);
        }
    }

    /// The resource that a reference of another one means.
    fn find(&self, from: usize, reference: &str) -> Option<usize> {
        if let Some(id) = reference.strip_prefix('#') {
            let owner = self.resources[from].within.unwrap_or(from);
            return self.names.get(&format!("{owner}#{id}")).copied();
        }
        let plain = reference.split("/_history/").next().unwrap_or(reference);
        self.names.get(plain).copied().or_else(|| {
            // An absolute reference to a resource that is here under its relative name.
            let mut parts = plain.rsplitn(3, '/');
            let (id, kind) = (parts.next()?, parts.next()?);
            self.names.get(&format!("{kind}/{id}")).copied()
        })
    }

    fn published(&self) -> Vec<Published> {
        let listed = self.listed();
        let mut all = Vec::new();
        for (index, kept) in self.resources.iter().enumerate() {
            if kept.resource.resource_type != "Endpoint" || all.len() >= MOST {
                continue;
            }
            all.push(self.publish(index, kept, listed.get(&index).copied()));
        }
        all
    }

    /// For each endpoint the first organization that lists it; one at the top of its brand counts
    /// more than its parts.
    fn listed(&self) -> HashMap<usize, usize> {
        let mut listed: HashMap<usize, usize> = HashMap::new();
        for (index, kept) in self.resources.iter().enumerate() {
            let organization = &kept.resource;
            if organization.resource_type != "Organization" {
                continue;
            }
            for reference in &organization.endpoints {
                let Some(endpoint) = self.find(index, reference) else { continue };
                let known = listed.entry(endpoint).or_insert(index);
                let is_part = |index: usize| self.resources[index].resource.is_part;
                if is_part(*known) && !organization.is_part {
                    *known = index;
                }
            }
        }
        listed
    }

    fn publish(&self, index: usize, kept: &Kept<'a>, listed: Option<usize>) -> Published {
        let endpoint = &kept.resource;
        let managing = &endpoint.managing;
        let owner = managing
            .reference
            .as_deref()
            .and_then(|reference| self.find(index, reference))
            .or(listed)
            // An endpoint that an organization contains is its own.
            .or(kept.within)
            .map(|index| &self.resources[index].resource)
            .filter(|owner| owner.resource_type == "Organization");
        let organization = owner
            .and_then(|owner| own(&owner.name))
            .or_else(|| managing.display.as_ref().and_then(own));
        let contacts =
            || endpoint.contacts.iter().chain(owner.into_iter().flat_map(|owner| &owner.contacts));
        let contact = |system: &str| contacts().find_map(|contact| contact.of(system));
        Published {
            place: kept.place.clone(),
            address: endpoint.address.trim().to_owned(),
            name: own(&endpoint.name),
            status: own(&endpoint.status),
            organization,
            version: endpoint.versions.iter().find_map(|text| version(text)),
            connection: endpoint.connection.iter().map(|code| code.to_string()).collect(),
            phone: contact("phone"),
            email: contact("email"),
            portal: owner.and_then(|owner| owner.portal.as_ref().and_then(own)),
        }
    }
}

impl Contact<'_> {
    fn of(&self, system: &str) -> Option<String> {
        let value = own(&self.value).filter(|_| self.system == system)?;
        // Some write a mail address as a link.
        Some(value.strip_prefix("mailto:").unwrap_or(&value).to_owned())
    }
}

fn own(text: &Text<'_>) -> Option<String> {
    let text = crate::model::text::one_line(text);
    (!text.is_empty()).then(|| crate::model::text::bounded(&text, 200))
}

fn within_place(place: &str, inner: &str) -> String {
    if place.is_empty() { inner.to_owned() } else { format!("{place}, {inner}") }
}

/// From `4.0.1`, `R4`, `http://hl7.org/fhir/4.0` or a word of a URL's path such as `baseR4`.
#[must_use]
pub fn version(text: &str) -> Option<FhirVersion> {
    let text = text.trim().trim_end_matches('/');
    let word = text.rsplit('/').next().unwrap_or(text).to_ascii_lowercase();
    let word = word.strip_prefix("base").unwrap_or(&word);
    match word.strip_prefix("fhir").map_or(word, |rest| rest.trim_start_matches(['-', '_'])) {
        "dstu2" | "r2" => Some(FhirVersion::Dstu2),
        "stu3" | "dstu3" | "r3" => Some(FhirVersion::Stu3),
        "r4" => Some(FhirVersion::R4),
        "r4b" => Some(FhirVersion::R4B),
        "r5" => Some(FhirVersion::R5),
        number => FhirVersion::of(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Published> {
        read(text.as_bytes()).unwrap().endpoints
    }

    #[test]
    fn a_vendors_bundle_names_the_organization_by_reference_or_in_the_endpoint() {
        let found = all(r##"{"resourceType":"Bundle","type":"collection","entry":[
            {"fullUrl":"urn:uuid:1","resource":{"resourceType":"Organization","id":"o1","name":"North Clinic",
              "telecom":[{"system":"phone","value":"+1 555 0101"}]}},
            {"resource":{"resourceType":"Endpoint","id":"e1","status":"active","name":"FHIR R4",
              "connectionType":{"code":"hl7-fhir-rest"},"address":"https://north.example.org/R4/",
              "managingOrganization":{"reference":"Organization/o1"}}},
            {"resource":{"resourceType":"Endpoint","id":"e2","status":"off",
              "contained":[{"resourceType":"Organization","id":"x","name":"South  Clinic\n"}],
              "managingOrganization":{"reference":"#x"},
              "extension":[{"url":"http://hl7.org/fhir/StructureDefinition/endpoint-fhir-version","valueCode":"3.0.2"}],
              "contact":[{"system":"email","value":"mailto:it@south.example.org"}],
              "address":"https://south.example.org/fhir"}},
            {"resource":{"resourceType":"Endpoint","id":"e3","address":"https://w.example.org",
              "connectionType":[{"coding":[{"code":"direct-project"}]}],
              "managingOrganization":{"display":"West","reference":"https://else.example.org/Organization/9"}}}
        ]}"##);
        let [north, south, west] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(north.organization.as_deref(), Some("North Clinic"));
        assert_eq!(north.phone.as_deref(), Some("+1 555 0101"));
        assert_eq!(north.place, "entry 2 (Endpoint/e1)");
        assert!(north.is_rest());
        assert_eq!(south.organization.as_deref(), Some("South Clinic"));
        assert_eq!(
            (south.version, south.status.as_deref()),
            (Some(FhirVersion::Stu3), Some("off"))
        );
        assert_eq!(south.email.as_deref(), Some("it@south.example.org"));
        assert_eq!(west.organization.as_deref(), Some("West"));
        assert!(!west.is_rest());
    }

    #[test]
    fn brands_own_the_endpoints_that_they_list() {
        let found = all(r##"{"resourceType":"Bundle","entry":[
            {"fullUrl":"https://b.example.org/Endpoint/e","resource":{"resourceType":"Endpoint","id":"e","address":"https://b.example.org/r4"}},
            {"resource":{"resourceType":"Organization","id":"site","name":"Site 7","partOf":{"reference":"Organization/brand"},
              "endpoint":[{"reference":"Endpoint/e"}]}},
            {"resource":{"resourceType":"Organization","id":"brand","name":"The Brand","endpoint":[{"reference":"https://b.example.org/Endpoint/e"}],
              "extension":[{"url":"http://hl7.org/fhir/StructureDefinition/organization-portal","extension":[
                {"url":"portalName","valueString":"My"},{"url":"portalUrl","valueUrl":"https://my.example.org"}]}]}},
            {"resource":{"resourceType":"Organization","id":"own","name":"Own",
              "contained":[{"resourceType":"Endpoint","id":"in","address":"https://own.example.org/r4"}],
              "endpoint":[{"reference":"#in"}]}},
            {"resource":{"resourceType":"Endpoint","id":"p","address":"https://p.example.org/r4"}},
            {"resource":{"resourceType":"Organization","id":"op","name":"By portal",
              "extension":[{"url":"http://hl7.org/fhir/StructureDefinition/organization-portal","extension":[
                {"url":"portalEndpoint","valueReference":{"reference":"Endpoint/p"}}]}]}}
        ]}"##);
        let names: Vec<_> = found.iter().map(|e| e.organization.as_deref().unwrap()).collect();
        assert_eq!(names, ["The Brand", "Own", "By portal"]);
        assert_eq!(found[0].portal.as_deref(), Some("https://my.example.org"));
    }

    #[test]
    fn arrays_lines_xml_and_single_resources_are_read() {
        let one = r#"{"resourceType":"Endpoint","id":"a","address":"https://a.example.org"}"#;
        let two = r#"{"resourceType":"Endpoint","address":"https://b.example.org"}"#;
        let bundle = format!(r#"{{"resourceType":"Bundle","entry":[{{"resource":{one}}}]}}"#);
        for (text, count) in [
            (one.to_owned(), 1),
            (format!("[{one},\n{two}]"), 2),
            (format!("{one}\n\n{two}\r\n"), 2),
            (format!("\u{feff}[{bundle},{two}]"), 2),
            (format!("{bundle}\n{two}\n"), 2),
            ("[]".to_owned(), 0),
            (
                "<Bundle xmlns=\"http://hl7.org/fhir\"><entry><fullUrl value=\"u\"/><resource><Endpoint><id value=\"a\"/>\
                 <address value=\"https://a.example.org\"/></Endpoint></resource></entry></Bundle>"
                    .to_owned(),
                1,
            ),
        ] {
            let found = all(&text);
            assert_eq!(found.len(), count, "{text}");
            assert!(found.iter().all(|e| e.address.starts_with("https://")), "{found:?}");
        }
    }

    #[test]
    fn a_broken_line_is_told_and_a_broken_document_is_an_error() {
        let one = r#"{"resourceType":"Endpoint","address":"https://a.example.org"}"#;
        let read_lines = read(format!("{one}\n{{\"a\":\n{one}\n").as_bytes()).unwrap();
        assert_eq!(read_lines.endpoints.len(), 2);
        assert_eq!(read_lines.broken[0].0, 2);
        for text in [
            "",
            "{",
            "[{\"a\":1]",
            "<html></html>",
            "{\"resourceType\":\"Patient\"}",
            "{\"resourceType\":\"Bundle\",\"entry\":[\n{\"resource\":",
            "\"text\"",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn wrong_types_cost_no_more_than_themselves() {
        let found = all(
            r#"{"resourceType":"Bundle","entry":[5,{"resource":[]},{"resource":{"resourceType":"Endpoint","name":5,
            "address":{"line":["x"]},"contained":"x","contact":[1],"connectionType":"x","extension":{"url":1}}},null]}"#,
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].address, "");
    }

    #[test]
    fn a_version_is_told_by_number_name_and_path() {
        for (text, expected) in [
            ("4.0.1", Some(FhirVersion::R4)),
            ("4.0", Some(FhirVersion::R4)),
            ("R4", Some(FhirVersion::R4)),
            ("baseR4", Some(FhirVersion::R4)),
            ("baseDstu3", Some(FhirVersion::Stu3)),
            ("http://hl7.org/fhir/5.0", Some(FhirVersion::R5)),
            ("dstu2", Some(FhirVersion::Dstu2)),
            ("fhir-r4b", Some(FhirVersion::R4B)),
            ("fhir", None),
            ("r44", None),
            ("", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }
}
