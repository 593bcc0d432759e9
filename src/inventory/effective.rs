//! Every value that holds for a server, and where it comes from.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::path::{Step, find};
use super::problem::{Lines, Report};
use super::raw_auth::{Flow, Method};
use super::resolve::Resolver;
use super::tree::{NodeId, Tree};
use super::{Overrides, parse, preset, server_path, understand, without_mark};
use crate::model::{Error, Result};

/// One value with its origin.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effective {
    /// Such as `timeouts.connect`.
    pub key: String,
    pub value: Value,
    /// `flag --timeout or FHIRCTL_TIMEOUT`, `servers.yaml:14`, `servers.yaml:9 (defaults_for[0])`,
    /// `servers.yaml:3 (defaults)`, `preset hapi`, `built-in`.
    pub origin: String,
}

/// Every value that holds for the server of this name, in the order of the layers' keys.
///
/// # Errors
/// Exit 78 as [`parse`]; exit 66 when no server has the name.
pub fn effective(
    text: &str,
    path: &Path,
    name: &str,
    overrides: &Overrides,
) -> Result<Vec<Effective>> {
    let inventory = parse(text, path, overrides)?;
    let index = inventory.index_of(name).ok_or_else(|| {
        Error::not_found(format!("no server is named {name:?}"))
            .hint("fhirctl list shows what is registered")
    })?;
    let text = without_mark(text);
    let mut report = Report::default();
    let Some((tree, root, raw)) = understand(text, &mut report) else {
        return Err(report.into_error(text, path));
    };
    let resolver = Resolver::new(&raw, path, overrides);
    let Some(own) = raw.servers.as_ref().and_then(|servers| servers.get(index)) else {
        return Err(Error::internal("the inventory changed while it was read"));
    };
    let below = resolver.below(own);
    let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let reader = Reader { tree: &tree, lines: Lines::new(text), text, file };

    let mut layers = Vec::new();
    if let Some((deadline, origin)) = overrides.deadline {
        let text = humantime::format_duration(deadline).to_string();
        layers.push(named(&serde_json::json!({"deadline": text}), origin));
    }
    layers.push(reader.layer(find(&tree, root, &server_path(index)), ""));
    if let Some(rule) = below.rule {
        let id = find(&tree, root, &[Step::known("defaults_for"), Step::Item(rule)]);
        let mut layer = reader.layer(id, &format!(" (defaults_for[{rule}])"));
        layer.remove("select");
        layers.push(layer);
    }
    if let Some(defaults) = tree.entry(root, "defaults") {
        layers.push(reader.layer(defaults.value, " (defaults)"));
    }
    if let Some(preset) = below.vendor.as_deref().and_then(preset::preset) {
        let origin = format!("preset {}", preset.name);
        layers.push(named(&preset.settings, &origin));
        let sign_in = layers.iter().find_map(|layer| layer.sign_in());
        let scopes = sign_in.and_then(|(method, flow)| preset::scopes(preset, method, flow));
        if let Some(scopes) = scopes {
            layers.push(named(&serde_json::json!({"auth": {"scopes": scopes}}), &origin));
        }
    }
    let mut built_in = preset::built_in_value().clone();
    if overrides.nagios {
        built_in["deadline"] = "8s".into();
    }
    layers.push(named(&built_in, "built-in"));

    let mut merged = Layer::default();
    for layer in layers {
        merged.fill(layer);
    }
    let mut values = Vec::new();
    merged.flatten("", &mut values);
    Ok(values)
}

/// A map whose values remember where they stand.
#[derive(Debug, Default)]
struct Layer {
    entries: Vec<(String, Held)>,
}

#[derive(Debug)]
enum Held {
    Map(Layer),
    Value { value: Value, origin: String },
}

impl Layer {
    fn position(&self, key: &str) -> Option<usize> {
        self.entries.iter().position(|(name, _)| name == key)
    }

    /// The method of signing in that this layer names, and its flow.
    fn sign_in(&self) -> Option<(Option<Method>, Option<Flow>)> {
        let Held::Map(auth) = &self.entries.get(self.position("auth")?)?.1 else { return None };
        let word = |key: &str| auth.text(key).map(Value::from);
        let method = word("method").and_then(|word| serde_json::from_value(word).ok())?;
        Some((Some(method), word("flow").and_then(|word| serde_json::from_value(word).ok())))
    }

    fn remove(&mut self, key: &str) {
        self.entries.retain(|(name, _)| name != key);
    }

    fn text(&self, key: &str) -> Option<&str> {
        match &self.entries.get(self.position(key)?)?.1 {
            Held::Value { value, .. } => value.as_str(),
            Held::Map(_) => None,
        }
    }

    /// Takes from a lower layer what this one does not say, by the rules of the resolving.
    fn fill(&mut self, lower: Layer) {
        for (key, held) in lower.entries {
            match (self.position(&key).and_then(|at| self.entries.get_mut(at)), held) {
                (None, held) => self.entries.push((key, held)),
                (Some((_, Held::Map(own))), Held::Map(mut lower)) => {
                    let exclusive: &[&str] = match key.as_str() {
                        "schedule" => &["every", "cron"],
                        "auth" => &["header", "query"],
                        _ => &[],
                    };
                    if exclusive.iter().any(|key| own.text(key).is_some()) {
                        exclusive.iter().for_each(|key| lower.remove(key));
                    }
                    if key == "client_certificate" {
                        lower.leave_out_other_form(own);
                    }
                    let methods = (own.text("method"), lower.text("method"));
                    let other_method = key == "auth"
                        && matches!(methods, (Some(own), Some(lower)) if own != lower);
                    if !other_method {
                        own.fill(lower);
                    }
                }
                (Some(_), _) => {}
            }
        }
    }

    /// A PKCS#12 file in the layer above leaves out PEM files, and the other way round.
    fn leave_out_other_form(&mut self, above: &Layer) {
        for (form, other) in
            [("pkcs12", ["certificate", "key"]), ("certificate", ["pkcs12", "password"])]
        {
            if above.text(form).is_some() {
                other.iter().for_each(|key| self.remove(key));
            }
        }
    }

    fn flatten(self, prefix: &str, values: &mut Vec<Effective>) {
        for (key, held) in self.entries {
            let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            match held {
                Held::Map(map) => map.flatten(&key, values),
                Held::Value { value, origin } => values.push(Effective { key, value, origin }),
            }
        }
    }
}

fn named(value: &Value, origin: &str) -> Layer {
    let empty = Map::new();
    let entries = value
        .as_object()
        .unwrap_or(&empty)
        .iter()
        .map(|(key, value)| {
            let held = match value {
                Value::Object(_) => Held::Map(named(value, origin)),
                other => Held::Value { value: other.clone(), origin: origin.to_owned() },
            };
            (key.clone(), held)
        })
        .collect();
    Layer { entries }
}

/// Reads layers out of the tree, with line numbers.
struct Reader<'t, 'a> {
    tree: &'t Tree<'a>,
    lines: Lines,
    text: &'t str,
    file: String,
}

impl Reader<'_, '_> {
    fn layer(&self, id: NodeId, suffix: &str) -> Layer {
        let mut layer = Layer::default();
        for entry in self.tree.entries(id) {
            let Some(key) = self.tree.text(entry.key) else { continue };
            let is_program = self.tree.entry(entry.value, "exec").is_some();
            let held = if !self.tree.entries(entry.value).is_empty() && !is_program {
                Held::Map(self.layer(entry.value, suffix))
            } else {
                let (line, _) =
                    self.lines.position(self.text, self.tree.node(entry.key).place.start);
                let origin = format!("{}:{line}{suffix}", self.file);
                let value = without_arguments(super::walk::plain(self.tree, entry.value));
                Held::Value { value, origin }
            };
            layer.entries.push((key.to_owned(), held));
        }
        layer
    }
}

/// Names a program that prints a secret without its arguments: they may carry what should not be
/// shown.
fn without_arguments(value: Value) -> Value {
    match value {
        Value::Object(map) => match map.get("exec").and_then(|argv| argv.get(0)) {
            Some(Value::String(program)) => Value::String(format!("exec:{program}")),
            _ => map.into_iter().map(|(key, value)| (key, without_arguments(value))).collect(),
        },
        Value::Array(items) => items.into_iter().map(without_arguments).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::inventory::load;

    const TEXT: &str = "\
version: 1
defaults:
  timeouts: {connect: 4s, read: 20s}
  auth: {method: bearer, token: env:SHARED}
defaults_for:
  - {select: 'env=prod', timeouts: {read: 15s}, schedule: {every: 5m}}
  - select: env=prod,vendor=hapi
    timeouts: {read: 10s}
servers:
  - name: a
    url: https://a.example.org/fhir
    vendor: hapi
    labels: {env: prod}
    timeouts:
      total: 50s
    auth: {method: basic, username: u, password: {exec: [bin/secret, --really]}}
  - {name: b, url: 'https://b.example.org', labels: {env: prod}}
  - {name: c, url: 'https://c.example.org', deadline: 9s}
  - {name: d, url: 'https://d.example.org', labels: {env: prod}, schedule: {cron: '@daily'}}
";

    fn value(name: &str, key: &str, overrides: &Overrides) -> Option<(String, String)> {
        let all = effective(TEXT, Path::new("x/servers.yaml"), name, overrides).unwrap();
        let found = all.into_iter().find(|value| value.key == key)?;
        let text = match found.value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Some((text, found.origin))
    }

    #[test]
    fn each_value_comes_from_the_first_layer_that_says_it() {
        let plain = Overrides::default();
        let flag = Overrides { deadline: Some((Duration::from_secs(7), "flag")), nagios: true };
        let nagios = Overrides { nagios: true, ..Overrides::default() };
        let rule1 = "servers.yaml:8 (defaults_for[1])";
        for (name, key, overrides, expected) in [
            ("a", "timeouts.total", &plain, Some(("50s", "servers.yaml:15"))),
            ("a", "timeouts.read", &plain, Some(("10s", rule1))),
            ("a", "timeouts.connect", &plain, Some(("4s", "servers.yaml:3 (defaults)"))),
            ("a", "timeouts.write", &plain, Some(("30s", "built-in"))),
            // Only the last entry that matches counts.
            ("a", "schedule.every", &plain, None),
            ("b", "schedule.every", &plain, Some(("5m", "servers.yaml:6 (defaults_for[0])"))),
            ("b", "timeouts.read", &plain, Some(("15s", "servers.yaml:6 (defaults_for[0])"))),
            ("a", "checks.health.path", &plain, Some(("/actuator/health", "preset hapi"))),
            ("b", "checks.health.path", &plain, None),
            ("a", "deadline", &plain, Some(("30s", "built-in"))),
            ("a", "deadline", &nagios, Some(("8s", "built-in"))),
            ("c", "deadline", &nagios, Some(("9s", "servers.yaml:18"))),
            ("c", "deadline", &flag, Some(("7s", "flag"))),
            // Another method leaves nothing behind of the one below it.
            ("a", "auth.token", &plain, None),
            ("a", "auth.password", &plain, Some(("exec:bin/secret", "servers.yaml:16"))),
            ("b", "auth.token", &plain, Some(("env:SHARED", "servers.yaml:4 (defaults)"))),
            ("a", "select", &plain, None),
            // One of two keys that exclude each other leaves out the other.
            ("d", "schedule.cron", &plain, Some(("@daily", "servers.yaml:19"))),
            ("d", "schedule.every", &plain, None),
        ] {
            let expected = expected.map(|(text, from)| (text.to_owned(), from.to_owned()));
            assert_eq!(value(name, key, overrides), expected, "{name} {key}");
        }
    }

    #[test]
    fn what_is_shown_is_what_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("servers.yaml");
        std::fs::write(&path, TEXT).unwrap();
        for overrides in [Overrides::default(), Overrides { nagios: true, deadline: None }] {
            let inventory = load(&path, &overrides).unwrap();
            for server in &inventory.servers {
                let shown = |key: &str| {
                    let (text, _) = value(&server.name, key, &overrides).unwrap();
                    humantime::parse_duration(&text).unwrap()
                };
                assert_eq!(server.timeouts.connect, shown("timeouts.connect"));
                assert_eq!(server.timeouts.read, shown("timeouts.read"));
                assert_eq!(server.timeouts.write, shown("timeouts.write"));
                assert_eq!(server.timeouts.total, shown("timeouts.total"));
                assert_eq!(server.deadline, shown("deadline"));
                let method = value(&server.name, "auth.method", &overrides).unwrap().0;
                assert_eq!(server.auth.method(), method);
            }
        }
    }
}
