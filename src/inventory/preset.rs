//! Vendor presets: what is known of a kind of server, compiled in from `data/vendors/`.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::raw::RawServer;

/// One line per preset, by name.
const FILES: &[(&str, &str)] = &[
    ("hapi", include_str!("../../data/vendors/hapi.yaml")),
    ("helios", include_str!("../../data/vendors/helios.yaml")),
    ("epic", include_str!("../../data/vendors/epic.yaml")),
    ("hapi-public", include_str!("../../data/vendors/hapi-public.yaml")),
    ("smart-r4", include_str!("../../data/vendors/smart-r4.yaml")),
    ("smart-launcher", include_str!("../../data/vendors/smart-launcher.yaml")),
    ("bulk-smart", include_str!("../../data/vendors/bulk-smart.yaml")),
    ("inferno-ref", include_str!("../../data/vendors/inferno-ref.yaml")),
    ("firely-public", include_str!("../../data/vendors/firely-public.yaml")),
];

const DEFAULTS: &str = include_str!("../../data/defaults.yaml");

/// What is known of a kind of server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    pub name: String,
    pub title: String,
    /// `server`: software that one runs; `public`: a test server that others run.
    pub kind: PresetKind,
    /// One or two sentences.
    pub summary: String,
    /// What a base URL looks like, or the one that there is.
    pub base_url: String,
    pub fhir_versions: Vec<String>,
    /// Values that a server of this vendor starts from, as they could stand in an inventory.
    pub settings: Value,
    pub facts: Vec<Fact>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PresetKind {
    Server,
    Public,
}

/// Something that is known, and from where.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// Such as `sign-in`, `health`, `bulk`, `limits`, `fault`.
    pub topic: String,
    pub text: String,
    pub source: String,
    /// When the source was read, or the date it carries.
    pub date: Option<jiff::civil::Date>,
    /// Not seen in the vendor's own documentation or behaviour.
    #[serde(default)]
    pub unconfirmed: bool,
}

/// The names of all presets, in the order in which they are shown.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The preset of this name.
#[must_use]
pub fn preset(name: &str) -> Option<&'static Preset> {
    let (index, _) = FILES.iter().enumerate().find(|(_, (known, _))| *known == name)?;
    // Each is read when it is first asked for: a start pays for what it uses.
    static READ: [OnceLock<Option<Preset>>; FILES.len()] = [const { OnceLock::new() }; FILES.len()];
    READ[index].get_or_init(|| serde_yaml::from_str(FILES[index].1).ok()).as_ref()
}

/// All presets.
pub fn presets() -> impl Iterator<Item = &'static Preset> {
    names().filter_map(preset)
}

/// A preset's values as a layer.
pub(super) fn layer(preset: &Preset) -> RawServer {
    // A test reads every preset; one that does not fit cannot be released.
    serde_json::from_value(preset.settings.clone()).unwrap_or_default()
}

/// The values that hold where nothing else is said.
pub(super) fn built_in() -> &'static RawServer {
    static READ: OnceLock<RawServer> = OnceLock::new();
    READ.get_or_init(|| serde_json::from_value(built_in_value().clone()).unwrap_or_default())
}

/// The same as a plain value.
pub(super) fn built_in_value() -> &'static Value {
    static READ: OnceLock<Value> = OnceLock::new();
    READ.get_or_init(|| serde_yaml::from_str(DEFAULTS).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::problem::Report;
    use crate::inventory::tree::Tree;
    use crate::inventory::walk::walk;

    /// Reads settings as a file's `defaults` would be read.
    fn faults(settings: &Value) -> Vec<String> {
        let text = serde_json::json!({"version": 1, "defaults": settings}).to_string();
        let tree = Tree::read(&text).unwrap();
        let mut report = Report::default();
        walk(&tree, tree.root().unwrap(), &mut report);
        report.problems.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn every_preset_is_complete_and_fits_the_inventory() {
        for (name, text) in FILES {
            let read: Preset = serde_yaml::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(&read.name, name);
            assert_eq!(faults(&read.settings), Vec::<String>::new(), "{name}");
            assert!(!read.facts.is_empty(), "{name}");
            for fact in &read.facts {
                assert!(!fact.source.is_empty() && !fact.text.is_empty(), "{name}: {fact:?}");
                assert!(fact.date.is_some() || fact.unconfirmed, "{name}: {fact:?}");
            }
        }
    }

    #[test]
    fn the_built_in_values_fit_the_inventory() {
        assert_eq!(faults(built_in_value()), Vec::<String>::new());
        assert!(built_in().deadline.is_some());
    }
}
