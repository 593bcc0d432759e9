//! `add NAME URL`: register, validate, test, activate.

pub(super) mod secret;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use self::secret::{Wanted, keep};
use super::change::{self, Assignment, StepStatus, Steps};
use super::init::TEMPLATE;
use super::test::probe_registered;
use crate::context::{Context, Outcome};
use crate::inventory::edit::{self, Op, store};
use crate::inventory::{self, Overrides};
use crate::model::{Error, Exit, Result, ServerReport};

/// The header of an API key when none is named.
const API_KEY_HEADER: &str = "X-API-Key";

/// Register a server, test it, and put it in use when the test passes
///
/// The steps are register, validate, test, activate. When the test fails the server stays
/// registered but inactive, and the exit code is the test's: 1 for a warning (it is activated), 2
/// critical, 3 unknown.
///
/// A secret is never taken from the command line. Say where it is kept with --secret, pipe it in
/// with --secret-stdin, or be asked for it; the last two keep it in the system's keyring.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    fhirctl add ehr https://fhir.example.org/fhir --vendor hapi --label env=prod\n  \
    fhirctl add lab https://lab.example.org/r4 --auth bearer --secret env:LAB_TOKEN\n  \
    pass show lab | fhirctl add lab https://lab.example.org/r4 --auth basic --username probe --secret-stdin")]
pub struct AddArgs {
    /// A name of your own, of letters, digits, dots, - and _
    #[arg(value_name = "NAME")]
    pub name: String,

    /// The base URL, below which /metadata is
    #[arg(value_name = "URL")]
    pub url: String,

    /// What kind of server it is; fhirctl vendors lists the presets
    #[arg(long, value_name = "VENDOR")]
    pub vendor: Option<String>,

    /// The FHIR version that it is expected to speak: STU3, R4, R4B or R5
    #[arg(long, value_name = "VERSION")]
    pub fhir_version: Option<String>,

    /// How to sign in
    #[arg(long, value_name = "METHOD")]
    pub auth: Option<Method>,

    /// The user's name, for --auth basic
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,

    /// The header that carries the secret, for --auth api-key (X-API-Key) and headers
    #[arg(long, value_name = "NAME")]
    pub header: Option<String>,

    /// Where the secret is kept: keyring:NAME/FIELD, env:VARIABLE, file:PATH or age:PATH#FIELD
    #[arg(long, value_name = "REF", conflicts_with = "secret_stdin")]
    pub secret: Option<String>,

    /// Read the secret from standard input and keep it in the keyring
    #[arg(long)]
    pub secret_stdin: bool,

    /// Any other value of the server's entry, such as timeouts.total=30s; the value is YAML
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,

    /// A label, such as env=prod
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,

    /// Put it in use without a test
    #[arg(long)]
    pub no_test: bool,

    /// Put it in use even when the test fails
    #[arg(long)]
    pub force: bool,
}

/// The ways of signing in that `add` can set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    None,
    ApiKey,
    Basic,
    Bearer,
    Headers,
}

impl Method {
    fn as_str(self) -> &'static str {
        match self {
            Method::None => "none",
            Method::ApiKey => "api-key",
            Method::Basic => "basic",
            Method::Bearer => "bearer",
            Method::Headers => "headers",
        }
    }
}

/// # Errors
/// Exit 64 for what cannot be meant, 73, 74 or 78 when the inventory cannot be changed, 77 when the
/// secret cannot be kept. Nothing is registered then.
pub async fn run(args: &AddArgs, context: &Context) -> Result<Outcome> {
    change::fits(context)?;
    let path = change::destination(context);
    let plan = plan(args)?;
    let fresh = !path.exists();

    // All that can be wrong is found before a secret is asked for.
    let text = if fresh { TEMPLATE.to_owned() } else { store::read(&path)? };
    if !fresh {
        inventory::parse(&text, &path, &Overrides::default())?;
    }
    let document = edit::document(&text)?;
    let ops = register_ops(&document, &plan, args.no_test)?;
    change::checked(&text, document, &ops, &path)?;

    let mut steps = Steps::default();
    let kept = keep(&plan.name, plan.wanted.as_ref(), &path, context).await?;
    if let Err(error) = register(&path, &plan, args.no_test) {
        if let Some((credentials, reference)) = kept {
            // The error that matters is the first; a secret that stays behind is told with it.
            if credentials.delete(&reference).await.is_err() {
                return Err(error.hint(format!("{reference} stays in the keyring")));
            }
        }
        return Err(error);
    }
    let shown = change::shown(&path);
    let whither = if fresh { format!("{shown}, a new file") } else { shown.clone() };
    steps.push("register", StepStatus::Done, format!("{} in {whither}", plan.name));
    if let Some((_, reference)) = &kept {
        steps.push("secret", StepStatus::Done, format!("kept as {reference}"));
    }
    steps.push("validate", StepStatus::Done, "the inventory is valid with it");

    let sequence = Sequence { args, context, path: &path, plan: &plan };
    sequence.finish(steps).await
}

/// What is going to be registered.
struct Plan {
    name: String,
    entry: Map<String, Value>,
    /// A secret that still has to be got, with its place in `auth`.
    wanted: Option<Wanted>,
}

fn plan(args: &AddArgs) -> Result<Plan> {
    change::base_url(&args.url)?;
    let mut entry = Map::new();
    entry.insert("name".to_owned(), args.name.as_str().into());
    entry.insert("url".to_owned(), args.url.as_str().into());
    let plain = [("vendor", &args.vendor), ("fhir_version", &args.fhir_version)];
    for (key, value) in plain {
        if let Some(value) = value {
            entry.insert(key.to_owned(), value.as_str().into());
        }
    }
    let labels = args.labels.iter().map(|text| label(text)).collect::<Result<Map<_, _>>>()?;
    if !labels.is_empty() {
        entry.insert("labels".to_owned(), Value::Object(labels));
    }
    let settings =
        args.settings.iter().map(|text| Assignment::parse(text)).collect::<Result<Vec<_>>>()?;
    for setting in &settings {
        change::refuse_secrets(setting, args.auth.map(Method::as_str))?;
        if matches!(setting.key[0].as_str(), "name" | "url" | "active") {
            return Err(Error::usage(format!("--set cannot give {}", setting.key[0]))
                .hint("fhirctl add NAME URL names them; the test decides whether it is active"));
        }
        assign(&mut entry, setting)?;
    }
    let wanted = sign_in(args, &mut entry)?;
    Ok(Plan { name: args.name.clone(), entry, wanted })
}

fn label(text: &str) -> Result<(String, Value)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.into())),
        _ => Err(Error::usage("a label is written KEY=VALUE, such as env=prod")),
    }
}

fn assign(entry: &mut Map<String, Value>, setting: &Assignment) -> Result<()> {
    let Some((last, parents)) = setting.key.split_last() else { return Ok(()) };
    let mut map = entry;
    for word in parents {
        let below = map.entry(word.clone()).or_insert_with(|| Value::Object(Map::new()));
        map = below.as_object_mut().ok_or_else(|| {
            Error::usage(format!("--set {}: {word} is no map", setting.key.join(".")))
        })?;
    }
    if setting.value.is_null() {
        map.shift_remove(last);
    } else {
        map.insert(last.clone(), setting.value.clone());
    }
    Ok(())
}

/// Completes `auth` and says which secret has to be got.
fn sign_in(args: &AddArgs, entry: &mut Map<String, Value>) -> Result<Option<Wanted>> {
    let given = args.secret.is_some() || args.secret_stdin;
    let Some(method) = args.auth else {
        if given || args.username.is_some() || args.header.is_some() {
            return Err(Error::usage("a secret needs to be told what it is for")
                .hint("add --auth api-key, basic, bearer or headers"));
        }
        return Ok(None);
    };
    if method == Method::None {
        if given {
            return Err(Error::usage("--auth none has no secret"));
        }
        return Ok(None);
    }
    let mut auth = Map::new();
    auth.insert("method".to_owned(), method.as_str().into());
    if let Some(Value::Object(set)) = entry.remove("auth") {
        auth.extend(set);
    }
    let field = match method {
        Method::None => return Ok(None),
        Method::Bearer => "token".to_owned(),
        Method::Basic => {
            if let Some(name) = &args.username {
                auth.insert("username".to_owned(), name.as_str().into());
            }
            if !auth.contains_key("username") {
                return Err(
                    Error::usage("--auth basic needs the user's name").hint("add --username NAME")
                );
            }
            "password".to_owned()
        }
        Method::ApiKey => {
            if !auth.contains_key("query") && !auth.contains_key("header") {
                let header = args.header.as_deref().unwrap_or(API_KEY_HEADER);
                auth.insert("header".to_owned(), header.into());
            }
            "value".to_owned()
        }
        Method::Headers => match &args.header {
            Some(name) => name.clone(),
            None if auth.len() > 1 && !given => String::new(),
            None => {
                return Err(Error::usage("--auth headers needs the header's name")
                    .hint("add --header NAME, and --set auth.NAME=REF for more of them"));
            }
        },
    };
    let wanted = secret::place(args, &mut auth, &field)?;
    entry.insert("auth".to_owned(), Value::Object(auth));
    Ok(wanted)
}

fn register_ops(document: &Value, plan: &Plan, active: bool) -> Result<Vec<Op>> {
    if edit::server_entry(document, &plan.name).is_some() {
        return Err(Error::usage(format!("a server is already named {}", plan.name)).hint(
            format!("fhirctl set {} KEY=VALUE changes it; fhirctl remove takes it out", plan.name),
        ));
    }
    let mut entry = plan.entry.clone();
    if !active {
        entry.insert("active".to_owned(), false.into());
    }
    Ok(vec![Op::Append(vec!["servers".into()], Value::Object(entry))])
}

fn register(path: &Path, plan: &Plan, active: bool) -> Result<()> {
    if !path.exists() {
        // Somebody else may have made it in the meantime; then it is used.
        match store::create(path, TEMPLATE, false) {
            Err(error) if !path.exists() => return Err(error),
            _ => {}
        }
    }
    change::write(path, |document, _| register_ops(document, plan, active)).map(drop)
}

/// The second half: test and activate.
struct Sequence<'a> {
    args: &'a AddArgs,
    context: &'a Context,
    path: &'a PathBuf,
    plan: &'a Plan,
}

impl Sequence<'_> {
    async fn finish(&self, mut steps: Steps) -> Result<Outcome> {
        let name = &self.plan.name;
        if self.args.no_test {
            steps.push("test", StepStatus::Skipped, "--no-test");
            steps.push("activate", StepStatus::Done, format!("{name} is active"));
            let next = format!("Next: fhirctl test {name} shows each stage of reaching it.");
            return Ok(self.outcome(&steps, None, true, &[next]));
        }
        let progress = self.context.progress(&format!("{name} is registered; testing it"), 0);
        let report = probe_registered(self.context, self.path, name).await;
        progress.finish();
        let report = report.map_err(|error| {
            error
                .hint(format!("{name} is registered but inactive; fhirctl test {name} tries again"))
        })?;
        let passed = change::passes(&report);
        let status = if passed { StepStatus::Done } else { StepStatus::Failed };
        steps.push("test", status, change::told(&report));
        if !passed && !self.args.force {
            steps.push("activate", StepStatus::Skipped, format!("{name} stays inactive"));
            let next = [
                format!(
                    "Next: fhirctl test {name} shows where it breaks; fhirctl set {name} KEY=VALUE changes its entry."
                ),
                format!("Then fhirctl activate {name}, or fhirctl remove {name}."),
            ];
            return Ok(self.outcome(&steps, Some(&report), false, &next));
        }
        self.activate()?;
        let forced = if passed { "" } else { ", by --force" };
        steps.push("activate", StepStatus::Done, format!("{name} is active{forced}"));
        Ok(self.outcome(&steps, Some(&report), true, &[]))
    }

    /// Takes `active: false` out again; says `true` where a default says otherwise.
    fn activate(&self) -> Result<()> {
        let name = &self.plan.name;
        let place = |document: &Value| -> Result<edit::Path> {
            let mut place = edit::find_server(document, name)?;
            place.push("active".into());
            Ok(place)
        };
        let after = change::write(self.path, |document, _| {
            let place = place(document)?;
            let there = edit::lookup(document, &place).is_some();
            Ok(if there { vec![Op::Remove(place)] } else { Vec::new() })
        })?;
        if after.server(name).is_some_and(|server| !server.active) {
            change::write(self.path, |document, _| {
                Ok(vec![Op::Set(place(document)?, Value::Bool(true))])
            })?;
        }
        Ok(())
    }

    fn outcome(
        &self,
        steps: &Steps,
        report: Option<&ServerReport>,
        active: bool,
        next: &[String],
    ) -> Outcome {
        let exit = report.map_or(Exit::OK, |report| Exit(report.status.exit_code()));
        let output = json!({
            "schema": "fhirctl/add/v1",
            "inventory": change::shown(self.path),
            "exit_code": exit.0,
            "steps": steps.json(),
            "server": {
                "name": self.plan.name,
                "url": self.args.url,
                "vendor": self.args.vendor,
                "state": if active { "active" } else { "inactive" },
            },
            "report": change::report_json(report),
        });
        Outcome { output: Some(steps.output(output, next)), exit }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        add: AddArgs,
    }

    fn planned(line: &str) -> Result<Plan> {
        let words =
            ["add", "a", "https://h.example/fhir"].into_iter().chain(line.split_whitespace());
        plan(&Cli::try_parse_from(words).unwrap().add)
    }

    #[test]
    fn every_method_gets_its_keys() {
        let cases = [
            ("--auth bearer --secret env:T", json!({"method": "bearer", "token": "env:T"})),
            (
                "--auth basic --username u --secret file:p",
                json!({"method": "basic", "username": "u", "password": "file:p"}),
            ),
            (
                "--auth basic --set auth.username=u --secret file:p",
                json!({"method": "basic", "username": "u", "password": "file:p"}),
            ),
            (
                "--auth api-key --secret env:K",
                json!({"method": "api-key", "header": "X-API-Key", "value": "env:K"}),
            ),
            (
                "--auth api-key --set auth.query=key --secret env:K",
                json!({"method": "api-key", "query": "key", "value": "env:K"}),
            ),
            (
                "--auth headers --header X-T --set auth.X-U=env:U --secret env:K",
                json!({"method": "headers", "X-U": "env:U", "X-T": "env:K"}),
            ),
            ("--auth headers --set auth.X-U=env:U", json!({"method": "headers", "X-U": "env:U"})),
            ("--auth bearer --set auth.token=env:T", json!({"method": "bearer", "token": "env:T"})),
        ];
        for (line, auth) in cases {
            let plan = planned(line).unwrap();
            assert_eq!(plan.entry["auth"], auth, "{line}");
            assert!(plan.wanted.is_none(), "{line}");
        }
    }

    #[test]
    fn a_secret_that_is_not_given_is_wanted_for_the_keyring() {
        let plan = planned("--auth bearer").unwrap();
        let wanted = plan.wanted.unwrap();
        assert_eq!(wanted.reference.to_string(), "keyring:a/token");
        assert_eq!(plan.entry["auth"]["token"], "keyring:a/token");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_no_secret_repeated() {
        for line in [
            "--secret env:X",
            "--auth none --secret env:X",
            "--auth bearer --secret hunter2",
            "--auth basic --secret env:X",
            "--auth headers --secret env:X",
            "--auth basic --username u --set auth.password=hunter2",
            "--auth headers --set auth.X-Token=hunter2",
            "--set url=https://u:hunter2@h/",
            "--set active=true",
            "--label env",
        ] {
            let error = planned(line).err().unwrap();
            assert_eq!(error.exit().0, 64, "{line}");
            assert!(!format!("{error:?}").contains("hunter2"), "{line}");
        }
    }
}
