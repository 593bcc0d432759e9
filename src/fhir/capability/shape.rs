//! Which members of the document are wanted, and where they go.

use super::super::wire::{Nested, Shape, Text, Want};
use super::{
    Capability, Document, Implementation, Messaging, Operation, Resource, Rest, SearchParam,
    Security, Software,
};

impl<'a> Shape<'a> for Capability<'a> {
    const NAME: &'static str = "";

    fn want(&self, key: &str) -> Want {
        match key {
            "resourceType"
            | "fhirVersion"
            | "url"
            | "name"
            | "title"
            | "status"
            | "date"
            | "kind"
            | "publisher"
            | "copyright"
            | "description"
            | "format"
            | "instantiates"
            | "implementationGuide" => Want::Text,
            "profile" => Want::TextOrObject,
            "software" | "implementation" | "rest" | "messaging" | "document" | "extension" => {
                Want::Object
            }
            _ => Want::Skip,
        }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "resourceType" => self.resource_type = value,
            "fhirVersion" => self.fhir_version = Some(value),
            "url" => self.url = Some(value),
            "name" => self.name = Some(value),
            "title" => self.title = Some(value),
            "status" => self.status = Some(value),
            "date" => self.date = Some(value),
            "kind" => self.kind = Some(value),
            "publisher" => self.publisher = Some(value),
            "copyright" => self.copyright = Some(value),
            "description" => self.description = Some(value),
            "format" => self.formats.push(value),
            "instantiates" => self.instantiates.push(value),
            "implementationGuide" => self.implementation_guides.push(value),
            "profile" => self.profiles.push(value),
            _ => {}
        }
    }

    fn object<N: Nested<'a>>(&mut self, key: &str, nested: N) -> Result<(), N::Error> {
        match key {
            "software" => nested.read(self.software.insert(Software::default())),
            "implementation" => nested.read(self.implementation.insert(Implementation::default())),
            "rest" => nested.push(&mut self.rest),
            "messaging" => nested.push(&mut self.messaging),
            "document" => nested.push(&mut self.documents),
            "profile" => reference(nested, &mut self.profiles),
            "extension" => extension(nested, &mut self.extensions),
            _ => nested.skip(),
        }
    }
}

impl<'a> Shape<'a> for Software<'a> {
    const NAME: &'static str = "software";

    fn want(&self, key: &str) -> Want {
        match key {
            "name" | "version" | "releaseDate" => Want::Text,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "name" => self.name = Some(value),
            "version" => self.version = Some(value),
            "releaseDate" => self.release_date = Some(value),
            _ => {}
        }
    }
}

impl<'a> Shape<'a> for Implementation<'a> {
    const NAME: &'static str = "implementation";

    fn want(&self, key: &str) -> Want {
        match key {
            "description" | "url" => Want::Text,
            "extension" => Want::Object,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "description" => self.description = Some(value),
            "url" => self.url = Some(value),
            _ => {}
        }
    }

    fn object<N: Nested<'a>>(&mut self, _key: &str, nested: N) -> Result<(), N::Error> {
        extension(nested, &mut self.extensions)
    }
}

impl<'a> Shape<'a> for Messaging {
    const NAME: &'static str = "messaging";

    fn want(&self, key: &str) -> Want {
        if key == "endpoint" { Want::TextOrObject } else { Want::Skip }
    }

    fn text(&mut self, _key: &str, _value: Text<'a>) {
        self.endpoints += 1;
    }

    fn object<N: Nested<'a>>(&mut self, _key: &str, nested: N) -> Result<(), N::Error> {
        self.endpoints += 1;
        nested.skip()
    }
}

impl<'a> Shape<'a> for Document<'a> {
    const NAME: &'static str = "document";

    fn want(&self, key: &str) -> Want {
        match key {
            "mode" => Want::Text,
            "profile" => Want::TextOrObject,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "mode" => self.mode = Some(value),
            "profile" => self.profile = Some(value),
            _ => {}
        }
    }

    fn object<N: Nested<'a>>(&mut self, _key: &str, nested: N) -> Result<(), N::Error> {
        self.profile = referenced(nested)?;
        Ok(())
    }
}

impl<'a> Shape<'a> for Rest<'a> {
    const NAME: &'static str = "rest";

    fn want(&self, key: &str) -> Want {
        match key {
            "mode" => Want::Text,
            "security" | "resource" | "interaction" | "searchParam" | "operation" | "extension" => {
                Want::Object
            }
            _ => Want::Skip,
        }
    }

    fn text(&mut self, _key: &str, value: Text<'a>) {
        self.mode = Some(value);
    }

    fn object<N: Nested<'a>>(&mut self, key: &str, nested: N) -> Result<(), N::Error> {
        match key {
            "security" => nested.read(&mut self.security),
            "resource" => nested.push(&mut self.resources),
            "interaction" => code(nested, &mut self.interactions),
            "searchParam" => nested.push(&mut self.search_params),
            "operation" => nested.push(&mut self.operations),
            "extension" => extension(nested, &mut self.extensions),
            _ => nested.skip(),
        }
    }
}

impl<'a> Shape<'a> for Resource<'a> {
    const NAME: &'static str = "rest.resource";

    fn want(&self, key: &str) -> Want {
        match key {
            "type" | "supportedProfile" | "versioning" | "conditionalDelete"
            | "conditionalRead" => Want::Text,
            "readHistory" | "updateCreate" | "conditionalCreate" | "conditionalUpdate" => {
                Want::Flag
            }
            "profile" => Want::TextOrObject,
            "interaction" | "searchParam" | "operation" | "extension" => Want::Object,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "type" => self.type_ = value,
            "profile" => self.profile = Some(value),
            "supportedProfile" => self.supported_profiles.push(value),
            "versioning" => self.versioning = Some(value),
            "conditionalRead" => self.conditional_read = Some(value),
            "conditionalDelete" => self.conditional_delete = Some(value),
            "readHistory" => self.read_history = flag(&value),
            "updateCreate" => self.update_create = flag(&value),
            "conditionalCreate" => self.conditional_create = flag(&value),
            "conditionalUpdate" => self.conditional_update = flag(&value),
            _ => {}
        }
    }

    fn object<N: Nested<'a>>(&mut self, key: &str, nested: N) -> Result<(), N::Error> {
        match key {
            "profile" => {
                self.profile = referenced(nested)?;
                Ok(())
            }
            "interaction" => code(nested, &mut self.interactions),
            "searchParam" => nested.push(&mut self.search_params),
            "operation" => nested.push(&mut self.operations),
            "extension" => extension(nested, &mut self.extensions),
            _ => nested.skip(),
        }
    }
}

impl<'a> Shape<'a> for SearchParam<'a> {
    const NAME: &'static str = "searchParam";

    fn want(&self, key: &str) -> Want {
        if matches!(key, "name" | "type") { Want::Text } else { Want::Skip }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "name" => self.name = value,
            "type" => self.type_ = Some(value),
            _ => {}
        }
    }
}

impl<'a> Shape<'a> for Operation<'a> {
    const NAME: &'static str = "operation";

    fn want(&self, key: &str) -> Want {
        match key {
            "name" => Want::Text,
            "definition" => Want::TextOrObject,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "name" => self.name = value,
            "definition" => self.definition = Some(value),
            _ => {}
        }
    }

    fn object<N: Nested<'a>>(&mut self, _key: &str, nested: N) -> Result<(), N::Error> {
        self.definition = referenced(nested)?;
        Ok(())
    }
}

impl<'a> Shape<'a> for Security<'a> {
    const NAME: &'static str = "rest.security";

    fn want(&self, key: &str) -> Want {
        match key {
            "cors" => Want::Flag,
            "service" | "extension" => Want::Object,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, _key: &str, value: Text<'a>) {
        self.cors = flag(&value);
    }

    fn object<N: Nested<'a>>(&mut self, key: &str, nested: N) -> Result<(), N::Error> {
        if key == "service" {
            let mut concept = Concept::default();
            nested.read(&mut concept)?;
            if concept.codes.is_empty() {
                self.services.extend(concept.text);
            } else {
                self.services.append(&mut concept.codes);
            }
            return Ok(());
        }
        let mut extension = Extension::default();
        nested.read(&mut extension)?;
        if extension.url.as_deref().is_some_and(|url| url.ends_with("/oauth-uris")) {
            self.oauth_uris.append(&mut extension.parts);
        }
        keep(extension.url, &mut self.extensions);
        Ok(())
    }
}

/// A CodeableConcept: its codes, or else its text.
#[derive(Default)]
struct Concept<'a> {
    codes: Vec<Text<'a>>,
    text: Option<Text<'a>>,
}

impl<'a> Shape<'a> for Concept<'a> {
    const NAME: &'static str = "rest.security.service";

    fn want(&self, key: &str) -> Want {
        match key {
            "text" => Want::Text,
            "coding" => Want::Object,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, _key: &str, value: Text<'a>) {
        self.text = Some(value);
    }

    fn object<N: Nested<'a>>(&mut self, _key: &str, nested: N) -> Result<(), N::Error> {
        code(nested, &mut self.codes)
    }
}

/// An extension, and one level of extensions in it, with their URIs.
#[derive(Default)]
struct Extension<'a> {
    url: Option<Text<'a>>,
    value: Option<Text<'a>>,
    parts: Vec<(Text<'a>, Text<'a>)>,
}

impl<'a> Shape<'a> for Extension<'a> {
    const NAME: &'static str = "extension";

    fn want(&self, key: &str) -> Want {
        match key {
            "url" | "valueUri" | "valueUrl" => Want::Text,
            "extension" => Want::Object,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "url" => self.url = Some(value),
            _ => self.value = Some(value),
        }
    }

    fn object<N: Nested<'a>>(&mut self, _key: &str, nested: N) -> Result<(), N::Error> {
        let mut part = Part::default();
        nested.read(&mut part)?;
        if let (Some(url), Some(value)) = (part.url, part.value) {
            self.parts.push((url, value));
        }
        Ok(())
    }
}

#[derive(Default)]
struct Part<'a> {
    url: Option<Text<'a>>,
    value: Option<Text<'a>>,
}

impl<'a> Shape<'a> for Part<'a> {
    const NAME: &'static str = "extension.extension";

    fn want(&self, key: &str) -> Want {
        match key {
            "url" | "valueUri" | "valueUrl" => Want::Text,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "url" => self.url = Some(value),
            _ => self.value = Some(value),
        }
    }
}

/// An object of which one member counts.
struct One<'a> {
    key: &'static str,
    value: Option<Text<'a>>,
}

impl<'a> Shape<'a> for One<'a> {
    const NAME: &'static str = "";

    fn want(&self, key: &str) -> Want {
        if key == self.key { Want::Text } else { Want::Skip }
    }

    fn text(&mut self, _key: &str, value: Text<'a>) {
        self.value = Some(value);
    }
}

fn one<'a, N: Nested<'a>>(key: &'static str, nested: N) -> Result<Option<Text<'a>>, N::Error> {
    let mut one = One { key, value: None };
    nested.read(&mut one)?;
    Ok(one.value)
}

fn code<'a, N: Nested<'a>>(nested: N, list: &mut Vec<Text<'a>>) -> Result<(), N::Error> {
    list.extend(one("code", nested)?);
    Ok(())
}

/// A Reference, which DSTU2 and STU3 have where later versions have a canonical.
fn referenced<'a, N: Nested<'a>>(nested: N) -> Result<Option<Text<'a>>, N::Error> {
    one("reference", nested)
}

fn reference<'a, N: Nested<'a>>(nested: N, list: &mut Vec<Text<'a>>) -> Result<(), N::Error> {
    list.extend(referenced(nested)?);
    Ok(())
}

fn extension<'a, N: Nested<'a>>(nested: N, list: &mut Vec<Text<'a>>) -> Result<(), N::Error> {
    keep(one("url", nested)?, list);
    Ok(())
}

/// Each URL once.
fn keep<'a>(url: Option<Text<'a>>, list: &mut Vec<Text<'a>>) {
    if let Some(url) = url
        && !list.contains(&url)
    {
        list.push(url);
    }
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}
