//! What the commands that change the inventory share: assignments on the command line, the guard
//! that keeps secrets out of them, and an edit that is checked before it is written.

mod touched;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use self::touched::touched_by;
use super::complete;
use crate::context::Context;
use crate::credentials::CredentialError;
use crate::inventory::edit::{self, Op, Step, store};
use crate::inventory::{self, Inventory, Overrides, Selection};
use crate::model::{Error, Exit, Result, SecretRef, ServerReport, Status};
use crate::render::{Block, Cell, Format, Output, Table, Tone};

/// Where secrets stand in `auth`. With the method `headers` every other key is one too.
const SECRET_KEYS: [&str; 11] = [
    "value",
    "password",
    "token",
    "client_secret",
    "key",
    "certificate",
    "credentials",
    "secret_key",
    "session_token",
    "secret",
    "refresh_token",
];

/// What `KEY=VALUE` says: a path by words, and a value; `null` takes the key out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Assignment {
    pub(super) key: Vec<String>,
    pub(super) value: Value,
}

impl Assignment {
    /// Reads `timeouts.total=30s`; the value is YAML, and an empty one is null. A word that holds a
    /// dot stands in double quotes.
    ///
    /// # Errors
    /// Exit 64, without repeating the value: it may be a secret.
    pub(super) fn parse(text: &str) -> Result<Assignment> {
        let Some((key, value)) = text.split_once('=') else {
            return Err(Error::usage("a setting is written KEY=VALUE")
                .hint("such as timeouts.total=30s or labels.env=prod"));
        };
        let words = words(key).ok_or_else(|| {
            Error::usage("the key of a KEY=VALUE is words joined by dots").hint(
                "such as checks.metadata.strict; a word with a dot in it stands in \"quotes\"",
            )
        })?;
        let value = edit::parse_value(value).map_err(|()| {
            Error::usage(format!("the value of {key} is not YAML"))
                .hint("quote it for the shell and for YAML: 'description=\"a: b\"'")
        })?;
        Ok(Assignment { key: words, value })
    }
}

fn words(key: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = key;
    loop {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        let plain = |c: char| !c.is_control() && !matches!(c, '"' | '{' | '}' | '[' | ']');
        if word.is_empty() || !word.chars().all(plain) {
            return None;
        }
        words.push(word.to_owned());
        match after.strip_prefix('.') {
            Some(more) => rest = more,
            None if after.is_empty() => return Some(words),
            None => return None,
        }
    }
}

/// Refuses a secret that stands in the clear, in an assignment that was given on the command line.
///
/// # Errors
/// Exit 64; names the key and never the value.
pub(super) fn refuse_secrets(assignment: &Assignment, method: Option<&str>) -> Result<()> {
    let within = assignment
        .key
        .iter()
        .rev()
        .fold(assignment.value.clone(), |value, word| json!({ word.as_str(): value }));
    if let Some(auth) = within.get("auth").and_then(Value::as_object) {
        let method = auth.get("method").and_then(Value::as_str).or(method);
        let headers = method == Some("headers");
        for (key, value) in auth {
            let plain = !headers && !SECRET_KEYS.contains(&key.as_str());
            match value {
                Value::Object(map) if key == "headers" => {
                    for (name, value) in map {
                        refuse_clear(&format!("auth.headers.{name}"), value)?;
                    }
                }
                _ if plain || key == "method" => {}
                _ => refuse_clear(&format!("auth.{key}"), value)?,
            }
        }
    }
    for (place, key) in [
        ("/tls/client_certificate/key", "tls.client_certificate.key"),
        ("/tls/client_certificate/password", "tls.client_certificate.password"),
        ("/network/proxy/password", "network.proxy.password"),
    ] {
        if let Some(value) = within.pointer(place) {
            refuse_clear(key, value)?;
        }
    }
    for place in ["/network/proxy", "/network/proxy/url"] {
        let url = within.pointer(place).and_then(Value::as_str);
        if url.is_some_and(|url| url.contains('@')) {
            return Err(Error::usage("a password stands in the proxy's URL").hint(
                "give it as a reference: 'network.proxy={url: \"http://HOST:PORT\", \
                 username: USER, password: env:VARIABLE}'",
            ));
        }
    }
    if let Some(url) = within.get("url").and_then(Value::as_str) {
        base_url(url)?;
    }
    Ok(())
}

fn refuse_clear(key: &str, value: &Value) -> Result<()> {
    let reference = match value {
        Value::Null => return Ok(()),
        Value::String(text) => SecretRef::parse(text).map_err(|error| error.to_string()),
        Value::Object(map) if map.contains_key("exec") => return Ok(()),
        _ => Err("a secret stands here in the clear".to_owned()),
    };
    reference.map(drop).map_err(|reason| {
        Error::usage(format!(
            "{key}: {reason}; other users of this machine can read a command line"
        ))
        .hint("give a reference: keyring:NAME/FIELD, env:VARIABLE, file:PATH or age:PATH#FIELD")
        .hint("or let fhirctl add ask for it, or pipe it in with --secret-stdin")
    })
}

/// A base URL from the command line, as it was written.
///
/// # Errors
/// Exit 64, without repeating a URL that holds a password.
pub(super) fn base_url(text: &str) -> Result<()> {
    use crate::model::server::{BaseUrl, BaseUrlError};
    BaseUrl::parse(text).map(drop).map_err(|error| match error {
        BaseUrlError::Credential => Error::usage("a password stands in the URL")
            .hint("leave user and password out of it and use --auth basic"),
        other => Error::usage(format!("the URL: {other}"))
            .hint("write it as https://host/path, the address below which /metadata is"),
    })
}

/// The changes that assignments make to a server's entry.
///
/// # Errors
/// Exit 66 when the document has no such server.
pub(super) fn ops(document: &Value, name: &str, assignments: &[Assignment]) -> Result<Vec<Op>> {
    let base = edit::find_server(document, name)?;
    let mut ops = Vec::new();
    for assignment in assignments {
        let mut path = base.clone();
        for word in &assignment.key {
            let in_list = edit::lookup(document, &path).is_some_and(Value::is_array);
            path.push(match word.parse::<usize>() {
                Ok(index) if in_list => Step::Index(index),
                _ => Step::Key(word.clone()),
            });
        }
        match (&assignment.value, edit::lookup(document, &path)) {
            (Value::Null, None) => {}
            (Value::Null, Some(_)) => ops.push(Op::Remove(path)),
            (value, _) => ops.push(Op::Set(path, value.clone())),
        }
    }
    Ok(ops)
}

/// The text after some changes of its value, when it is a valid inventory.
///
/// # Errors
/// Exit 78 when a change cannot be made or its result would not be valid.
pub(super) fn checked(
    text: &str,
    document: Value,
    ops: &[Op],
    path: &Path,
) -> Result<(String, Inventory)> {
    let changed = edit::apply_to(text, document, ops)?;
    match inventory::parse(&changed, path, &Overrides::default()) {
        Ok(inventory) => Ok((changed, inventory)),
        Err(mut error) => {
            error.message =
                format!("the inventory would not be valid; nothing was written\n{}", error.message);
            Err(error)
        }
    }
}

/// Changes the inventory's file. `plan` gets the document's value and the inventory as they stand
/// under the lock. What is changed of which server goes into the audit log, with how it went.
///
/// # Errors
/// As [`checked`], `plan` and [`store::edit`]; nothing is written then.
pub(super) fn write(
    context: &Context,
    path: &Path,
    plan: impl FnOnce(&Value, &Inventory) -> Result<Vec<Op>>,
) -> Result<Inventory> {
    let mut after = None;
    let mut touched = Vec::new();
    let written = store::edit(path, |text| {
        let before = inventory::parse(text, path, &Overrides::default())?;
        let document = edit::document(text)?;
        let ops = plan(&document, &before)?;
        if ops.is_empty() {
            after = Some(before);
            return Ok(text.to_owned());
        }
        touched = touched_by(&document, &ops);
        let (changed, inventory) = checked(text, document, &ops, path)?;
        after = Some(inventory);
        Ok(changed)
    });
    context.audit().outcomes(&touched, &written);
    written?;
    after.ok_or_else(|| Error::internal("the inventory was not read"))
}

/// The selectors of a command that changes something: one of them has to be given.
#[derive(Clone, Debug, Default, Args)]
pub struct ChosenArgs {
    /// Names or globs such as 'prod-*'; they add up, and inactive servers match too
    #[arg(value_name = "SELECTOR", add = complete::servers(), required_unless_present_any = ["labels", "vendor", "group"])]
    pub selectors: Vec<String>,

    /// Only servers whose labels match, such as env=prod,region!=us
    #[arg(short, long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,

    /// Only servers of this vendor preset
    #[arg(long, value_name = "NAME")]
    pub vendor: Vec<String>,

    /// Only members of this group
    #[arg(long, value_name = "NAME")]
    pub group: Vec<String>,
}

impl ChosenArgs {
    fn selection(&self) -> Selection {
        Selection {
            names: self.selectors.clone(),
            labels: self.labels.clone(),
            vendor: self.vendor.clone(),
            group: self.group.clone(),
        }
    }
}

/// The names that are chosen, active or not, in the order of the inventory.
///
/// # Errors
/// Exit 66 when nothing matches.
pub(super) fn chosen(inventory: &Inventory, args: &ChosenArgs) -> Result<Vec<String>> {
    selected(inventory, &args.selection())
}

/// The names that a selection means, active or not, in the order of the inventory.
///
/// # Errors
/// Exit 66 when nothing matches.
pub(super) fn selected(inventory: &Inventory, selection: &Selection) -> Result<Vec<String>> {
    let mut all = inventory.clone();
    for server in &mut all.servers {
        server.active = true;
    }
    let chosen = inventory::select(&all, selection)?;
    Ok(chosen.into_iter().map(|server| server.name.clone()).collect())
}

/// Refuses a format that these commands have no form for, before anything is changed.
///
/// # Errors
/// Exit 64.
pub(super) fn fits(context: &Context) -> Result<()> {
    match context.options.output {
        Format::Junit | Format::Nagios | Format::Openmetrics | Format::Ics => {
            Err(Error::usage("this format does not fit this command; nothing was changed")
                .hint("-o table, json, ndjson, yaml, csv and markdown do"))
        }
        _ => Ok(()),
    }
}

/// One step of a sequence that is shown.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) step: &'static str,
    pub(super) status: StepStatus,
    pub(super) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepStatus {
    Done,
    Failed,
    Skipped,
}

impl StepStatus {
    fn as_str(self) -> &'static str {
        match self {
            StepStatus::Done => "done",
            StepStatus::Failed => "failed",
            StepStatus::Skipped => "skipped",
        }
    }
}

/// The steps of a command as they are taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps(Vec<Done>);

impl Steps {
    pub(super) fn push(
        &mut self,
        step: &'static str,
        status: StepStatus,
        message: impl Into<String>,
    ) {
        self.0.push(Done { step, status, message: message.into() });
    }

    pub(super) fn json(&self) -> Value {
        self.0
            .iter()
            .map(|done| {
                json!({"step": done.step, "status": done.status.as_str(), "message": done.message})
            })
            .collect()
    }

    fn table(&self) -> Table {
        let row = |done: &Done| {
            let tone = match done.status {
                StepStatus::Done => Tone::Good,
                StepStatus::Failed => Tone::Bad,
                StepStatus::Skipped => Tone::Dim,
            };
            vec![
                done.step.into(),
                Cell::toned(done.status.as_str(), tone),
                done.message.as_str().into(),
            ]
        };
        Table {
            head: ["STEP", "STATUS", "MESSAGE"].map(str::to_owned).to_vec(),
            rows: self.0.iter().map(row).collect(),
        }
    }

    /// The steps as a command's output, with what to do next.
    pub(super) fn output(&self, json: Value, next: &[String]) -> Output {
        let mut document = vec![Block::Table(self.table())];
        for line in next {
            document.push(Block::Text(vec![Cell::plain(line.as_str())]));
        }
        Output { json, document, rows: Some(self.table()), ..Output::default() }
    }
}

/// Servers and what became of each, as a command's output.
pub(super) fn servers_output(json: Value, head: &[&str], rows: Vec<Vec<Cell>>) -> Output {
    let table = Table { head: head.iter().map(|&word| word.to_owned()).collect(), rows };
    Output {
        json,
        document: vec![Block::Table(table.clone())],
        rows: Some(table),
        ..Output::default()
    }
}

/// Records a change that a test was against.
pub(super) fn refused(context: &Context, server: &str, keys: &str, report: Option<&ServerReport>) {
    let exit = report.map_or(Exit::OK, |report| Exit(report.status.exit_code()));
    let code = report.and_then(|report| report.code).map(|code| code.to_string());
    context.audit().refused(Some(server), keys, exit, code);
}

/// Whether a test lets a server be used.
pub(super) fn passes(report: &ServerReport) -> bool {
    matches!(report.status, Status::Healthy | Status::Warning)
}

/// A test's result in one line.
pub(super) fn told(report: &ServerReport) -> String {
    let code = report.code.map(|code| format!(" {code}")).unwrap_or_default();
    match report.message.as_str() {
        "" => format!("{}{code}", report.status),
        message => format!("{}{code}: {message}", report.status),
    }
}

/// A report as it stands under `report`; null when there was no test.
pub(super) fn report_json(report: Option<&ServerReport>) -> Value {
    report.and_then(|report| serde_json::to_value(report).ok()).unwrap_or(Value::Null)
}

/// A credential that cannot be used, as an error that ends the run.
pub(super) fn credential_error(error: &CredentialError) -> Error {
    Error::credential(error.message.clone()).hint(error.hint.clone())
}

/// The inventory's path as it is shown.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The inventory that a first server goes into: the one there is, or `./servers.yaml`.
pub(super) fn destination(context: &Context) -> PathBuf {
    context.find_inventory().unwrap_or_else(|| PathBuf::from("servers.yaml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_words_and_a_yaml_value() {
        let cases = [
            ("timeouts.total=30s", &["timeouts", "total"][..], json!("30s")),
            ("active=false", &["active"], json!(false)),
            ("checks.search=[\"Patient?a=b\"]", &["checks", "search"], json!(["Patient?a=b"])),
            (
                "labels.\"app.kubernetes.io/name\"=x",
                &["labels", "app.kubernetes.io/name"],
                json!("x"),
            ),
            ("labels.env=", &["labels", "env"], Value::Null),
        ];
        for (text, key, value) in cases {
            let expected = Assignment { key: key.iter().map(|&w| w.to_owned()).collect(), value };
            assert_eq!(Assignment::parse(text).unwrap(), expected, "{text}");
        }
        for text in
            ["x", "=1", "a..b=1", ".a=1", "a.=1", "\"a=1", "\"a\"b=1", "a=[1", "a={x: hunter2"]
        {
            let error = Assignment::parse(text).unwrap_err();
            assert_eq!(error.exit().0, 64, "{text}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_secret_in_the_clear_is_refused_and_not_repeated() {
        let cases = [
            ("auth.password=hunter2", None),
            ("auth.password=1234", None),
            ("auth={method: basic, password: hunter2}", None),
            ("auth.X-Token=hunter2", Some("headers")),
            ("auth.headers.X-Token=hunter2", None),
            ("auth={method: headers, X-Token: hunter2}", None),
            ("tls.client_certificate.key=hunter2", None),
            ("tls={client_certificate: {key: hunter2}}", None),
            ("tls.client_certificate.password=hunter2", None),
            ("network.proxy=http://u:hunter2@proxy:3128", None),
            ("network={proxy: {url: \"http://u:hunter2@proxy:3128\"}}", None),
            ("network.proxy.password=hunter2", None),
            ("url=https://me:hunter2@h.example/fhir", None),
        ];
        for (text, method) in cases {
            let error = refuse_secrets(&Assignment::parse(text).unwrap(), method).unwrap_err();
            assert_eq!(error.exit().0, 64, "{text}");
            assert!(!format!("{error:?}").contains("hunter2"), "{text}");
        }
        for (text, method) in [
            ("auth.password=env:PW", None),
            ("auth={method: basic, username: probe, password: {exec: [pass, x]}}", None),
            ("auth.username=probe", None),
            ("auth.X-Token=\"keyring:a/b\"", Some("headers")),
            ("auth.password=", None),
            ("url=https://h.example/fhir", None),
        ] {
            refuse_secrets(&Assignment::parse(text).unwrap(), method).unwrap();
        }
    }
}
