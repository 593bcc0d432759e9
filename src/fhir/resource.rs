//! A single resource as a read gives it: which record it is, and whether it is marked as synthetic.

use super::body::BodyKind;
use super::wire::{self, Nested, Shape, Text, Want};

/// What identifies a record; nothing of its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceFacts {
    pub resource_type: String,
    pub id: Option<String>,
    pub meta_version_id: Option<String>,
    pub meta_last_updated: Option<String>,
    /// Whether a tag or security label says that this is test data.
    pub is_synthetic_tag: bool,
}

/// Codes of tags and labels that mark test data, in lower case.
const SYNTHETIC_CODES: [&str; 6] =
    ["htest", "synthetic", "test", "test-data", "testdata", "actest"];

/// Reads a resource; `None` when the body is no FHIR resource at all.
#[must_use]
pub fn facts(kind: BodyKind, body: &[u8]) -> Option<ResourceFacts> {
    let mut root = Root::default();
    wire::read(kind, body, &mut root).ok()?;
    super::types::is_any_resource_type(&root.resource_type).then(|| ResourceFacts {
        resource_type: root.resource_type.into_owned(),
        id: root.id.map(Text::into_owned),
        meta_version_id: root.meta.version_id.map(Text::into_owned),
        meta_last_updated: root.meta.last_updated.map(Text::into_owned),
        is_synthetic_tag: root.meta.is_synthetic,
    })
}

/// The type that a document says it is of, known here or not; `None` for what is no FHIR document:
/// broken, without a type, or none that a type could have.
#[must_use]
pub fn type_of(kind: BodyKind, body: &[u8]) -> Option<String> {
    let mut root = Root::default();
    wire::read(kind, body, &mut root).ok()?;
    let name = root.resource_type.into_owned();
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    is_name.then_some(name)
}

#[derive(Default)]
struct Root<'a> {
    resource_type: Text<'a>,
    id: Option<Text<'a>>,
    meta: Meta<'a>,
}

impl<'a> Shape<'a> for Root<'a> {
    const NAME: &'static str = "";

    fn want(&self, key: &str) -> Want {
        match key {
            "resourceType" | "id" => Want::Text,
            "meta" => Want::Object,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "id" => self.id = Some(value),
            _ => self.resource_type = value,
        }
    }

    fn object<N: Nested<'a>>(&mut self, _key: &str, nested: N) -> Result<(), N::Error> {
        nested.read(&mut self.meta)
    }
}

#[derive(Default)]
struct Meta<'a> {
    version_id: Option<Text<'a>>,
    last_updated: Option<Text<'a>>,
    is_synthetic: bool,
}

impl<'a> Shape<'a> for Meta<'a> {
    const NAME: &'static str = "meta";

    fn want(&self, key: &str) -> Want {
        match key {
            "versionId" | "lastUpdated" => Want::Text,
            "tag" | "security" => Want::Object,
            _ => Want::Skip,
        }
    }

    fn text(&mut self, key: &str, value: Text<'a>) {
        match key {
            "versionId" => self.version_id = Some(value),
            _ => self.last_updated = Some(value),
        }
    }

    fn object<N: Nested<'a>>(&mut self, _key: &str, nested: N) -> Result<(), N::Error> {
        let mut tag = Tag::default();
        nested.read(&mut tag)?;
        let code = tag.code.to_ascii_lowercase();
        self.is_synthetic |= SYNTHETIC_CODES.contains(&code.as_str());
        Ok(())
    }
}

#[derive(Default)]
struct Tag<'a> {
    code: Text<'a>,
}

impl<'a> Shape<'a> for Tag<'a> {
    const NAME: &'static str = "meta.tag";

    fn want(&self, key: &str) -> Want {
        if key == "code" { Want::Text } else { Want::Skip }
    }

    fn text(&mut self, _key: &str, value: Text<'a>) {
        self.code = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_known_by_type_and_id() {
        let json = br#"{"resourceType":"Patient","id":"canary-1","meta":{"versionId":"3",
            "tag":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"HTEST"}]},
            "contained":[{"resourceType":"Organization","id":"x"}]}"#;
        let facts = facts(BodyKind::Json, json).unwrap();
        assert_eq!(facts.resource_type, "Patient");
        assert_eq!(facts.id.as_deref(), Some("canary-1"));
        assert_eq!(facts.meta_version_id.as_deref(), Some("3"));
        assert!(facts.is_synthetic_tag);
    }

    #[test]
    fn xml_is_read_and_other_json_is_not_a_resource() {
        let xml = br#"<Patient xmlns="http://hl7.org/fhir"><id value="p1"/></Patient>"#;
        assert_eq!(facts(BodyKind::Xml, xml).unwrap().id.as_deref(), Some("p1"));
        assert_eq!(facts(BodyKind::Json, br#"{"detail":"Not Found"}"#), None);
        assert_eq!(facts(BodyKind::Html, b"<html>"), None);
    }
}
