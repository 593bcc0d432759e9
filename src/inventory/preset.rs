//! Vendor presets: what is known of a kind of server, compiled in from `data/vendors/`.
//!
//! `settings` of a preset is a layer under a server's entry. Everything else is for those who ask:
//! `vendors` shows it, `add` proposes sign-in and URLs from it, [`detect`] finds the preset that
//! fits. A preset alone never makes a server sign in: how it usually does stands in `sign_in`.

mod detect;
mod kinds;
mod template;

use std::sync::OnceLock;

use serde_json::Value;

pub use self::detect::{Detectable, Detection, Rule, detect, headers as detection_headers};
pub use self::kinds::{
    Bulk, BulkLevel, BulkMethod, Environment, ExtraHeader, Fact, FileSignIn, Limits, Monitoring,
    Offer, Placeholder, Preset, PresetKind, ScopeHabit, ScopeSpelling, Scopes, SignIn, Span, Topic,
};
pub use self::template::{filled, placeholders_in};
use super::raw::RawServer;
use super::raw_auth::Flow;
pub use super::raw_auth::Method;

/// The text of each preset, by its file's name.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../data/vendors/", $name, ".yaml")))),*]
    };
}

/// One line per preset, in the order in which they are shown.
const FILES: &[(&str, &str)] = files![
    "epic",
    "epic-sandbox",
    "cerner",
    "soarian",
    "cerner-open",
    "veradigm",
    "altera",
    "athenahealth",
    "azure-fhir",
    "google",
    "healthlake",
    "ms-fhir-server",
    "hapi",
    "smilecdr",
    "ibm-fhir",
    "firely",
    "aidbox",
    "medplum",
    "blaze",
    "helios",
    "hapi-public",
    "smart-r4",
    "smart-launcher",
    "bulk-smart",
    "inferno-ref",
    "firely-public",
    "proxy-apim",
    "proxy-kong",
    "proxy-google-fhir-gateway",
];

const DEFAULTS: &str = include_str!("../../data/defaults.yaml");

/// The names of all presets, in the order in which they are shown.
pub fn names() -> impl DoubleEndedIterator<Item = &'static str> {
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
pub fn presets() -> impl DoubleEndedIterator<Item = &'static Preset> {
    names().filter_map(preset)
}

/// A preset's values as a layer.
pub(super) fn layer(preset: &Preset) -> RawServer {
    // A test reads every preset; one that does not fit cannot be released.
    serde_json::from_value(preset.settings.clone()).unwrap_or_default()
}

/// The scopes that a vendor wants where the inventory names none; `None` leaves it to the method.
///
/// They stand apart from `settings`: scopes alone, beside no method, are an error in an inventory.
pub(super) fn scopes(
    preset: &Preset,
    method: Option<Method>,
    flow: Option<Flow>,
) -> Option<Vec<String>> {
    let scopes = preset.sign_in.scopes.as_ref()?;
    match (method?, scopes.habit) {
        // A person who signs in asks for scopes of their own.
        (Method::Oauth2, _) if flow == Some(Flow::AuthorizationCode) => None,
        (Method::Oauth2 | Method::SmartBackend, ScopeHabit::NoneSent) => Some(Vec::new()),
        (Method::Oauth2 | Method::SmartBackend, ScopeHabit::ListEach)
        | (Method::Oauth2, ScopeHabit::Fixed) => Some(scopes.usual.clone()),
        _ => None,
    }
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
    use crate::inventory::{Overrides, effective, parse};
    use crate::model::server::Auth;

    /// Reads settings as a file's `defaults` would be read.
    fn faults(settings: &Value) -> Vec<String> {
        let text = serde_json::json!({"version": 1, "defaults": settings}).to_string();
        let tree = Tree::read(&text).unwrap();
        let mut report = Report::default();
        walk(&tree, tree.root().unwrap(), &mut report);
        report.problems.into_iter().map(|problem| problem.message).collect()
    }

    /// Every text of a value, at any depth.
    fn texts(value: &Value) -> Vec<&str> {
        match value {
            Value::String(text) => vec![text],
            Value::Array(items) => items.iter().flat_map(texts).collect(),
            Value::Object(members) => members.values().flat_map(texts).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn every_preset_is_complete_and_fits_the_inventory() {
        for (name, text) in FILES {
            let read: Preset = serde_yaml::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(&read.name, name);
            assert_eq!(faults(&read.settings), Vec::<String>::new(), "{name}");
            assert!(!read.facts.is_empty(), "{name}");
            assert!(
                texts(&serde_json::to_value(&read).unwrap())
                    .iter()
                    .all(|text| !text.trim().is_empty()),
                "{name} has an empty text"
            );
            assert!(
                read.sign_in.methods.iter().any(|offer| offer.method == read.sign_in.usual),
                "{name}: the usual method is not offered"
            );
            for version in &read.fhir_versions {
                assert!(
                    ["STU3", "R4", "R4B", "R5"].contains(&version.as_str()),
                    "{name}: {version}"
                );
            }
            for fact in &read.facts {
                assert!(fact.date.is_some() || fact.unconfirmed, "{name}: {fact:?}");
            }
            let sorted = read.facts.is_sorted_by_key(|fact| fact.topic);
            assert!(sorted, "{name}: the facts are not in the order of their topics");
        }
    }

    #[test]
    fn every_mark_of_doubt_is_on_a_key_that_is_there() {
        for preset in presets() {
            let value = serde_json::to_value(preset).unwrap();
            for block in ["sign_in", "bulk", "limits"] {
                for key in value[block]["unconfirmed"].as_array().unwrap() {
                    let there = &value[block][key.as_str().unwrap()];
                    let empty = there.is_null() || there.as_array().is_some_and(Vec::is_empty);
                    assert!(!empty || key == "levels", "{}: {block}.{key}", preset.name);
                }
                let dated = !value[block]["date"].is_null();
                let doubted = !value[block]["unconfirmed"].as_array().unwrap().is_empty();
                let says_nothing = value[block]["source"].as_str().unwrap().starts_with("nothing ");
                assert!(dated || doubted || says_nothing, "{}: {block}", preset.name);
            }
            for key in &preset.unconfirmed_settings {
                let pointer = format!("/{}", key.replace('.', "/"));
                assert!(preset.settings.pointer(&pointer).is_some(), "{}: {key}", preset.name);
            }
        }
    }

    #[test]
    fn every_template_asks_for_what_it_needs_and_for_nothing_else() {
        for preset in presets() {
            let known: Vec<&str> = preset.placeholders.iter().map(|p| p.name.as_str()).collect();
            let mut used: Vec<&str> = placeholders_in(&preset.base_url);
            for environment in &preset.environments {
                used.extend(placeholders_in(&environment.base_url));
            }
            for name in &used {
                assert!(known.contains(name), "{}: {name}", preset.name);
            }
            let tokens = preset.environments.iter().filter_map(|e| e.token_url.as_deref());
            for token in tokens.chain(preset.sign_in.token_url.as_deref()) {
                used.extend(placeholders_in(token));
            }
            for name in known {
                assert!(used.contains(&name), "{}: {name} is never used", preset.name);
            }
            if preset.kind == PresetKind::Public {
                assert_eq!(
                    placeholders_in(&preset.base_url),
                    Vec::<&str>::new(),
                    "{}",
                    preset.name
                );
            }
        }
    }

    #[test]
    fn a_preset_alone_makes_a_server_that_can_be_used_and_signs_in_nowhere() {
        for name in names() {
            let text = format!(
                "version: 1\nservers:\n  - {{name: a, url: 'https://a.example.org/r4', vendor: {name}}}\n"
            );
            let read = parse(&text, std::path::Path::new("servers.yaml"), &Overrides::default());
            let inventory = read.unwrap_or_else(|error| panic!("{name}: {}", error.message));
            let server = &inventory.servers[0];
            assert_eq!(server.auth, Auth::None, "{name}");
            let preset = preset(name).unwrap();
            assert_eq!(server.monitoring, preset.monitoring(), "{name}");
            assert!(server.monitoring.source.is_some());
        }
    }

    #[test]
    fn a_vendor_gets_the_scopes_that_it_wants_unless_the_entry_names_its_own() {
        let backend = "method: smart-backend, client_id: c, key: 'env:K'";
        let secret = "method: oauth2, client_id: c, client_secret: 'env:S'";
        let code = "method: oauth2, client_id: c, flow: authorization-code";
        let own = "method: smart-backend, client_id: c, key: 'env:K', scopes: [system/Patient.rs]";
        for (vendor, auth, expected) in [
            ("epic", backend, Some(vec![])),
            ("epic", own, Some(vec!["system/Patient.rs"])),
            ("cerner", backend, Some(vec!["system/Patient.read", "system/Observation.read"])),
            ("cerner", secret, Some(vec!["system/Patient.read", "system/Observation.read"])),
            ("cerner", code, None),
            ("ms-fhir-server", secret, Some(vec!["fhir-api"])),
            ("helios", backend, None),
            ("hapi", secret, None),
        ] {
            let text = format!(
                "version: 1\nservers:\n  - {{name: a, url: 'https://a.example.org/r4', vendor: {vendor}, auth: {{{auth}}}}}\n"
            );
            let path = std::path::Path::new("servers.yaml");
            let read = parse(&text, path, &Overrides::default());
            let inventory = read.unwrap_or_else(|error| panic!("{vendor}: {}", error.message));
            let scopes = match &inventory.servers[0].auth {
                Auth::OAuth2(settings) => settings.scopes.clone(),
                Auth::SmartBackend(settings) => settings.scopes.clone(),
                other => panic!("{other:?}"),
            };
            let expected =
                expected.map(|all| all.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(scopes, expected, "{vendor} {auth}");
            let values = effective(&text, path, "a", &Overrides::default()).unwrap();
            let shown = values.iter().find(|value| value.key == "auth.scopes");
            assert_eq!(shown.map(|value| &value.value), expected.map(Value::from).as_ref());
            if let Some(shown) = shown.filter(|_| auth != own) {
                assert_eq!(shown.origin, format!("preset {vendor}"));
            }
        }
    }

    #[test]
    fn watching_is_never_simply_allowed_at_a_service_that_others_run() {
        use crate::model::MonitoringPolicy::{Allowed, Forbidden};
        for preset in presets() {
            let monitoring = &preset.monitoring;
            if preset.kind == PresetKind::Hosted {
                assert_ne!(monitoring.policy, Allowed, "{}", preset.name);
            }
            if matches!(preset.kind, PresetKind::Hosted | PresetKind::Public) {
                assert!(monitoring.least_interval.is_some(), "{}", preset.name);
            }
        }
        assert_eq!(preset("altera").unwrap().monitoring.policy, Forbidden);
    }

    #[test]
    fn the_built_in_values_fit_the_inventory() {
        assert_eq!(faults(built_in_value()), Vec::<String>::new());
        assert!(built_in().deadline.is_some());
    }
}
