//! Which members of the resources are wanted, and where they go.

use super::super::wire::{Nested, Shape, Text, Want};

/// Deeper Bundles in Bundles are passed over.
const DEEPEST: u8 = 4;

/// A Bundle, an Endpoint or an Organization: what is wanted of any of them.
#[derive(Default)]
pub(super) struct Resource<'a> {
    pub(super) resource_type: Text<'a>,
    pub(super) id: Text<'a>,
    pub(super) name: Text<'a>,
    pub(super) address: Text<'a>,
    pub(super) status: Text<'a>,
    pub(super) connection: Vec<Text<'a>>,
    pub(super) managing: Reference<'a>,
    /// What an Organization lists as its own.
    pub(super) endpoints: Vec<Text<'a>>,
    pub(super) is_part: bool,
    pub(super) contacts: Vec<Contact<'a>>,
    pub(super) versions: Vec<Text<'a>>,
    pub(super) portal: Option<Text<'a>>,
    pub(super) contained: Vec<Resource<'a>>,
    pub(super) entries: Vec<Entry<'a>>,
    /// The items of an array of resources.
    pub(super) items: Vec<Resource<'a>>,
    depth: u8,
}

impl Resource<'_> {
    fn below(&self) -> Self {
        Resource { depth: self.depth + 1, ..Resource::default() }
    }
}

impl<'a> Shape<'a> for Resource<'a> {
    const NAME: &'static str = "";

    fn want(&self, key: &str) -> Want {
        match key {
            "resourceType" | "id" | "name" | "status" => Want::Text,
            // The URL of an Endpoint, and where an Organization is.
            "address" => Want::TextOrObject,
            "connectionType"
            | "managingOrganization"
            | "endpoint"
            | "partOf"
            | "telecom"
            | "contact"
            | "extension" => Want::Object,
            "contained" | "entry" | "item" if self.depth < DEEPEST => Want::Object,
            // In XML the resource is one more element, named by its type.
            "Endpoint" | "Organization" | "Bundle" if self.depth > 0 => Want::Object,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "resourceType" => self.resource_type = value,
            "id" => self.id = value,
            "name" => self.name = value,
            "address" => self.address = value,
            "status" => self.status = value,
            _ => {}
        }
    }

    fn object<N: Nested<'a>>(&mut self, key: &str, nested: N) -> Result<(), N::Error> {
        match key {
            "connectionType" => {
                let mut concept = Concept::default();
                nested.read(&mut concept)?;
                self.connection.append(&mut concept.codes);
                Ok(())
            }
            "managingOrganization" => nested.read(&mut self.managing),
            "endpoint" => {
                let mut reference = Reference::default();
                nested.read(&mut reference)?;
                self.endpoints.extend(reference.reference);
                Ok(())
            }
            "partOf" => {
                self.is_part = true;
                nested.skip()
            }
            "telecom" => nested.push(&mut self.contacts),
            "contact" => {
                let mut contact = Contact::default();
                nested.read(&mut contact)?;
                self.contacts.append(&mut contact.telecom);
                self.contacts.push(contact);
                Ok(())
            }
            "extension" => {
                let mut extension = Extension::default();
                nested.read(&mut extension)?;
                self.extended(extension);
                Ok(())
            }
            "entry" => {
                let mut entry = Entry { depth: self.depth, ..Entry::default() };
                nested.read(&mut entry)?;
                self.entries.push(entry);
                Ok(())
            }
            "contained" | "item" => {
                let mut inner = self.below();
                nested.read(&mut inner)?;
                let list = if key == "item" { &mut self.items } else { &mut self.contained };
                list.push(inner);
                Ok(())
            }
            "Endpoint" | "Organization" | "Bundle" => {
                self.resource_type = Text::Owned(key.to_owned());
                nested.read(self)
            }
            _ => nested.skip(),
        }
    }
}

impl<'a> Resource<'a> {
    fn extended(&mut self, extension: Extension<'a>) {
        if extension.url.ends_with("/endpoint-fhir-version") {
            self.versions.extend(extension.value);
        } else if extension.url.ends_with("/organization-portal") {
            for part in extension.parts {
                match &*part.url {
                    "portalUrl" => self.portal = part.value.or(self.portal.take()),
                    "portalEndpoint" => self.endpoints.extend(part.reference.reference),
                    _ => {}
                }
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Entry<'a> {
    pub(super) full_url: Text<'a>,
    pub(super) resource: Option<Box<Resource<'a>>>,
    depth: u8,
}

impl<'a> Shape<'a> for Entry<'a> {
    const NAME: &'static str = "entry";

    fn want(&self, key: &str) -> Want {
        match key {
            "fullUrl" => Want::Text,
            "resource" => Want::Object,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, _key: &str, value: Text<'a>) {
        self.full_url = value;
    }

    fn object<N: Nested<'a>>(&mut self, _key: &str, nested: N) -> Result<(), N::Error> {
        let mut inner = Resource { depth: self.depth + 1, ..Resource::default() };
        nested.read(&mut inner)?;
        self.resource = Some(Box::new(inner));
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Reference<'a> {
    pub(super) reference: Option<Text<'a>>,
    pub(super) display: Option<Text<'a>>,
}

impl<'a> Shape<'a> for Reference<'a> {
    const NAME: &'static str = "reference";

    fn want(&self, key: &str) -> Want {
        if matches!(key, "reference" | "display") { Want::Text } else { Want::Skip }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "reference" => self.reference = Some(value),
            _ => self.display = Some(value),
        }
    }
}

/// A Coding, or from R5 on a CodeableConcept.
#[derive(Default)]
struct Concept<'a> {
    codes: Vec<Text<'a>>,
}

impl<'a> Shape<'a> for Concept<'a> {
    const NAME: &'static str = "connectionType";

    fn want(&self, key: &str) -> Want {
        match key {
            "code" => Want::Text,
            "coding" => Want::Object,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, _key: &str, value: Text<'a>) {
        self.codes.push(value);
    }

    fn object<N: Nested<'a>>(&mut self, _key: &str, nested: N) -> Result<(), N::Error> {
        // A Coding is a concept without codings of its own; an untrue one ends at the parser's depth.
        nested.read(self)
    }
}

/// A ContactPoint, or a contact of an Organization that holds some.
#[derive(Default)]
pub(super) struct Contact<'a> {
    pub(super) system: Text<'a>,
    pub(super) value: Text<'a>,
    pub(super) telecom: Vec<Contact<'a>>,
}

impl<'a> Shape<'a> for Contact<'a> {
    const NAME: &'static str = "contact";

    fn want(&self, key: &str) -> Want {
        match key {
            "system" | "value" => Want::Text,
            "telecom" => Want::Object,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "system" => self.system = value,
            _ => self.value = value,
        }
    }

    fn object<N: Nested<'a>>(&mut self, _key: &str, nested: N) -> Result<(), N::Error> {
        nested.push(&mut self.telecom)
    }
}

#[derive(Default)]
struct Extension<'a> {
    url: Text<'a>,
    value: Option<Text<'a>>,
    reference: Reference<'a>,
    parts: Vec<Extension<'a>>,
}

impl<'a> Shape<'a> for Extension<'a> {
    const NAME: &'static str = "extension";

    fn want(&self, key: &str) -> Want {
        match key {
            "url" => Want::Text,
            "valueReference" | "extension" => Want::Object,
            name if name.starts_with("value") => Want::Text,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "url" => self.url = value,
            _ => self.value = Some(value),
        }
    }

    fn object<N: Nested<'a>>(&mut self, key: &str, nested: N) -> Result<(), N::Error> {
        match key {
            "extension" => nested.push(&mut self.parts),
            _ => nested.read(&mut self.reference),
        }
    }
}
