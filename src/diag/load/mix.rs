//! What a load test asks for, and how often.

use std::path::{Path, PathBuf};

use http::Method;
use serde::Deserialize;

use crate::diag::Desk;
use crate::http::load::{Likeness, Operation, Target};
use crate::model::error::io_reason;
use crate::model::server::ReadTarget;
use crate::model::{Error, Result};

/// Most bytes of a mix, and of a file of values.
const FILE_BYTES: u64 = 4 * 1024 * 1024;
/// Most operations of a mix.
const OPERATIONS: usize = 100;
/// Most values of one operation.
const VALUES: usize = 10_000;

/// Operations below any base URL.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix(Vec<Item>);

#[derive(Clone, Debug, PartialEq)]
struct Item {
    name: String,
    method: Method,
    /// Paths with their forms, one for each value.
    targets: Vec<(String, Option<String>)>,
    weight: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawItem {
    name: Option<String>,
    method: Option<String>,
    path: String,
    weight: Option<u32>,
    /// A search's parameters, for `POST _search`.
    body: Option<String>,
    /// Each takes the place of `{}` in turn.
    values: Option<Vec<String>>,
    /// The same from a file, one on a line.
    values_from: Option<PathBuf>,
}

impl Mix {
    /// Reads a file.
    ///
    /// # Errors
    /// With the operation and what is wrong with it.
    pub fn read(path: &Path) -> Result<Mix> {
        let text = read(path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Mix::parse(&text, folder)
            .map_err(|reason| Error::usage(format!("--mix {}: {reason}", path.display())))
    }

    /// # Errors
    /// What is wrong, in words.
    fn parse(text: &str, folder: &Path) -> std::result::Result<Mix, String> {
        let raw: Vec<RawItem> = serde_yaml::from_str(text).map_err(|error| {
            let reason = error.to_string();
            let first = reason.lines().next().unwrap_or_default().to_owned();
            format!("{first}; it is a list of {{method, path, weight}}")
        })?;
        if raw.is_empty() || raw.len() > OPERATIONS {
            return Err(format!("it has 1 to {OPERATIONS} operations"));
        }
        let mut items: Vec<Item> = Vec::with_capacity(raw.len());
        for (number, raw) in raw.into_iter().enumerate() {
            let mut item = item(raw, folder)
                .map_err(|reason| format!("operation {}: {reason}", number + 1))?;
            let same = items.iter().filter(|other| other.name == item.name).count();
            if same > 0 {
                item.name = format!("{} [{}]", item.name, number + 1);
            }
            items.push(item);
        }
        Ok(Mix(items))
    }

    /// What the inventory declares: `/metadata`, its searches, its synthetic records.
    pub(super) async fn declared(desk: &Desk) -> Mix {
        let get = |name: String, path: String, weight| Item {
            name,
            method: Method::GET,
            targets: vec![(path, None)],
            weight,
        };
        let checks = &desk.server.checks;
        let mut items = vec![get("GET metadata".to_owned(), "metadata".to_owned(), 1)];
        for path in &checks.search {
            items.push(get(label(&Method::GET, path), path.trim_start_matches('/').to_owned(), 3));
        }
        for read in checks.read.iter().filter(|read| read.synthetic) {
            let path = match &read.target {
                ReadTarget::Reference(reference) => reference.clone(),
                ReadTarget::Secret(secret) => {
                    let credentials = desk.surroundings.credentials.serving(&desk.server.name);
                    // What cannot be had is told by `test`; there is enough else to ask for.
                    let Ok(secret) = credentials.resolve(secret).await else { continue };
                    secret.expose().to_owned()
                }
            };
            items.push(get(label(&Method::GET, &path), path, 3));
        }
        Mix(items)
    }

    /// As the transport sends them, each beside its name, which shows no value.
    ///
    /// # Errors
    /// When a path leads out of the base URL.
    pub(super) fn operations(
        &self,
        desk: &Desk,
    ) -> std::result::Result<(Vec<String>, Vec<Operation>), crate::http::Failure> {
        let mut operations = Vec::with_capacity(self.0.len());
        for item in &self.0 {
            let mut targets = Vec::with_capacity(item.targets.len());
            for (path, form) in &item.targets {
                targets.push(Target { url: desk.url(path)?, form: form.clone() });
            }
            let (method, weight) = (item.method.clone(), item.weight);
            operations.push(Operation { method, targets, weight, likeness: Likeness::default() });
        }
        Ok((self.0.iter().map(|item| item.name.clone()).collect(), operations))
    }
}

fn item(raw: RawItem, folder: &Path) -> std::result::Result<Item, String> {
    let method = match raw.method.as_deref().unwrap_or("GET") {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        "POST" => Method::POST,
        other => return Err(format!("{other} is not sent: load uses GET, HEAD and POST _search")),
    };
    let path = raw.path.trim_start_matches('/').to_owned();
    below_the_base(&path)?;
    let is_search = path.split('?').next().is_some_and(|path| path.ends_with("_search"));
    match (method == Method::POST, is_search, raw.body.is_some()) {
        (true, false, _) => return Err("of POST only _search is sent".to_owned()),
        (true, true, false) => return Err("POST _search needs a body such as name=x".to_owned()),
        (false, _, true) => return Err("only POST _search has a body".to_owned()),
        _ => {}
    }
    let weight = raw.weight.unwrap_or(1);
    if !(1..=1000).contains(&weight) {
        return Err("a weight is between 1 and 1000".to_owned());
    }
    let values = match (raw.values, raw.values_from) {
        (Some(_), Some(_)) => return Err("values and values_from exclude each other".to_owned()),
        (Some(values), None) => Some(values),
        (None, Some(file)) => {
            let text = read(&folder.join(&file)).map_err(|error| error.to_string())?;
            Some(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
        }
        (None, None) => None,
    };
    let has_place = path.contains("{}") || raw.body.as_deref().is_some_and(|b| b.contains("{}"));
    let fill = |value: &str| {
        let value = encoded(value);
        let form = raw.body.as_deref().map(|body| body.replace("{}", &value));
        (path.replace("{}", &value), form)
    };
    let targets = match (&values, has_place) {
        (None, false) => vec![(path.clone(), raw.body.clone())],
        (None, true) => return Err("{} is there, and no values to put into it".to_owned()),
        (Some(_), false) => return Err("there is no {} for the values".to_owned()),
        (Some(values), true) if values.is_empty() || values.len() > VALUES => {
            return Err(format!("an operation has 1 to {VALUES} values"));
        }
        (Some(values), true) => values.iter().map(|value| fill(value)).collect(),
    };
    let name = raw.name.unwrap_or_else(|| label(&method, &path));
    Ok(Item { name, method, targets, weight })
}

fn below_the_base(path: &str) -> std::result::Result<(), String> {
    let before = path.split('?').next().unwrap_or_default();
    if before.contains("://") || path.contains('#') || path.chars().any(char::is_control) {
        return Err("a path is below the base URL, such as Patient?_count=10".to_owned());
    }
    let decoded = before.to_ascii_lowercase().replace("%2e", ".").replace("%24", "$");
    for step in decoded.split('/') {
        if step == ".." {
            return Err("a path does not lead out of the base URL".to_owned());
        }
        if step == "$export" {
            return Err("$export starts a job at every request; it is no load".to_owned());
        }
    }
    Ok(())
}

/// Names an operation without a value that could speak of a person: ids and values are cut out, but for
/// parameters that only shape the answer.
fn label(method: &Method, path: &str) -> String {
    let (steps, query) =
        path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let shown: Vec<_> = steps
        .split('/')
        .enumerate()
        .map(|(index, step)| {
            let is_word = index == 0 || step.starts_with(['_', '$']);
            if is_word { step } else { "…" }
        })
        .collect();
    let mut label = format!("{method} {}", shown.join("/"));
    for (index, pair) in query.unwrap_or_default().split('&').enumerate() {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name.is_empty() {
            continue;
        }
        label.push(if index == 0 { '?' } else { '&' });
        let plain = ["_count", "_summary", "_total", "_format", "_sort", "_elements"];
        let value = if plain.contains(&name) { value } else { "…" };
        label.push_str(&format!("{name}={value}"));
    }
    label
}

/// A value with every character but the unreserved ones (RFC 3986 §2.3) percent-encoded.
fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.trim().bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn read(path: &Path) -> Result<String> {
    let cannot = |reason: &str| {
        Error::not_found(format!("the file {} cannot be read: {reason}", path.display()))
    };
    let length = std::fs::metadata(path).map_err(|error| cannot(&io_reason(&error)))?.len();
    if length > FILE_BYTES {
        return Err(cannot("it is longer than 4 MiB"));
    }
    std::fs::read_to_string(path).map_err(|error| cannot(&io_reason(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<Mix, String> {
        Mix::parse(text, Path::new("."))
    }

    #[test]
    fn a_mix_is_read_with_its_weights_and_values() {
        let mix = parse(
            "- {path: 'Patient?_count=10', weight: 3}\n\
             - {method: HEAD, path: /metadata}\n\
             - {method: POST, path: Patient/_search, body: 'family={}&_count=5', values: [Smith, 'O Neil&x']}\n\
             - {path: 'Patient/{}', values: [p1], name: a read}\n",
        )
        .unwrap();
        let names: Vec<_> = mix.0.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(
            names,
            ["GET Patient?_count=10", "HEAD metadata", "POST Patient/_search", "a read"]
        );
        assert_eq!(mix.0[0].weight, 3);
        let forms: Vec<_> = mix.0[2].targets.iter().filter_map(|(_, form)| form.clone()).collect();
        assert_eq!(forms, ["family=Smith&_count=5", "family=O%20Neil%26x&_count=5"]);
        assert_eq!(mix.0[3].targets[0].0, "Patient/p1");
    }

    #[test]
    fn what_is_no_load_is_refused() {
        for (text, says) in [
            ("[]", "1 to 100"),
            ("a: b", "list"),
            ("- {path: x, wieght: 3}", "wieght"),
            ("- {method: PUT, path: Patient/1}", "PUT is not sent"),
            ("- {method: DELETE, path: Patient/1}", "DELETE is not sent"),
            ("- {method: POST, path: Patient, body: x}", "only _search"),
            ("- {method: POST, path: Patient/_search}", "needs a body"),
            ("- {path: Patient, body: x}", "only POST"),
            ("- {path: 'https://other.test/x'}", "below the base"),
            ("- {path: ../admin}", "lead out"),
            ("- {path: 'a/%2E%2e/b'}", "lead out"),
            ("- {path: $export}", "job"),
            ("- {path: Group/1/%24export}", "job"),
            ("- {path: 'Patient/{}'}", "no values"),
            ("- {path: Patient, values: [a]}", "no {}"),
            ("- {path: 'Patient/{}', values: []}", "1 to 10000"),
            ("- {path: Patient, weight: 0}", "weight"),
        ] {
            let reason = parse(text).unwrap_err();
            assert!(reason.contains(says), "{text}: {reason}");
        }
    }

    #[test]
    fn no_name_shows_an_id_or_a_value() {
        for (path, shown) in [
            ("Patient/secret-1", "GET Patient/…"),
            ("Patient/secret-1/_history/7", "GET Patient/…/_history/…"),
            ("Patient?family=Secret&_count=5", "GET Patient?family=…&_count=5"),
            ("Patient/secret-1/$everything", "GET Patient/…/$everything"),
            ("metadata", "GET metadata"),
        ] {
            assert_eq!(label(&Method::GET, path), shown);
        }
    }
}
