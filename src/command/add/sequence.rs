//! One server, step by step: register, validate, discover, test, vendor, activate.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use url::Url;

use super::ask::{self, Answers};
use super::plan::{Plan, plan};
use super::secret::keep;
use super::{AddArgs, Method};
use crate::auth::{self, discovery};
use crate::command::change::{self, StepStatus, Steps};
use crate::command::init::TEMPLATE;
use crate::command::test::probe_and_show;
use crate::context::{Context, Outcome};
use crate::http::Client;
use crate::inventory::edit::{self, Op, store};
use crate::inventory::preset::{Preset, PresetKind};
use crate::inventory::{self, Overrides};
use crate::model::server::{Server, is_loopback};
use crate::model::{Code, Error, Exit, Result, ServerReport};
use crate::probe::Shown;

/// # Errors
/// Exit 64 for what cannot be meant, 73, 74 or 78 when the inventory cannot be changed, 77 when the
/// secret cannot be kept. Nothing is registered then.
pub(super) async fn run(args: &AddArgs, context: &Context) -> Result<Outcome> {
    change::fits(context)?;
    let path = change::destination(context);
    let plan = complete(args, context)?;
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
    if let Err(error) = register(context, &path, &plan, args.no_test) {
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

/// The plan with nothing missing: asked for on a terminal, refused elsewhere.
fn complete(args: &AddArgs, context: &Context) -> Result<Plan> {
    let mut answers = Answers::default();
    let mut draft = plan(args, &answers)?;
    let may_ask = context.may_ask() && !context.ci;
    if may_ask && ask::wants_sign_in(&draft)? {
        answers.sign_in = true;
        draft = plan(args, &answers)?;
    }
    if draft.missing.is_empty() {
        return Ok(draft);
    }
    if !may_ask {
        return Err(ask::refused(&draft));
    }
    ask::ask(&draft, &mut answers)?;
    let complete = plan(args, &answers)?;
    if complete.missing.is_empty() { Ok(complete) } else { Err(ask::refused(&complete)) }
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

fn register(context: &Context, path: &Path, plan: &Plan, active: bool) -> Result<()> {
    if !path.exists() {
        // Somebody else may have made it in the meantime; then it is used.
        match store::create(path, TEMPLATE, false) {
            Err(error) if !path.exists() => return Err(error),
            _ => {}
        }
    }
    change::write(context, path, |document, _| register_ops(document, plan, active)).map(drop)
}

/// What follows once the server is registered.
struct Sequence<'a> {
    args: &'a AddArgs,
    context: &'a Context,
    path: &'a PathBuf,
    plan: &'a Plan,
}

/// What was found out on the way.
#[derive(Default)]
struct Found {
    report: Option<ServerReport>,
    active: bool,
    /// The token endpoint that was stored, and who named it.
    token_url: Option<(String, &'static str)>,
    /// The vendor that the server looks like, where none was named.
    vendor: Option<&'static Preset>,
    shown: Option<Shown>,
    next: Vec<String>,
}

impl Sequence<'_> {
    async fn finish(&self, mut steps: Steps) -> Result<Outcome> {
        let name = &self.plan.name;
        let mut found = Found { token_url: self.discover(&mut steps).await?, ..Found::default() };
        self.mention_headers(&mut found);
        if self.args.no_test {
            steps.push("test", StepStatus::Skipped, "--no-test");
            steps.push("activate", StepStatus::Done, format!("{name} is active"));
            found.active = true;
            found.next.push(format!("Next: fhirctl test {name} shows each stage of reaching it."));
            return Ok(self.outcome(&steps, &found));
        }
        let (report, shown) = self.test("testing it").await?;
        let passed = change::passes(&report);
        let status = if passed { StepStatus::Done } else { StepStatus::Failed };
        steps.push("test", status, change::told(&report));
        found.shown = shown;
        found.report = Some(report);
        self.vendor(&mut steps, &mut found, passed).await?;
        if !passed && !self.args.force {
            steps.push("activate", StepStatus::Skipped, format!("{name} stays inactive"));
            change::refused(self.context, name, "active", found.report.as_ref());
            self.way_on(&mut found);
            return Ok(self.outcome(&steps, &found));
        }
        self.activate()?;
        let forced = if passed { "" } else { ", by --force" };
        steps.push("activate", StepStatus::Done, format!("{name} is active{forced}"));
        found.active = true;
        Ok(self.outcome(&steps, &found))
    }

    async fn test(&self, doing: &str) -> Result<(ServerReport, Option<Shown>)> {
        let name = &self.plan.name;
        let progress = self.context.progress(&format!("{name} is registered; {doing}"), 0);
        let tested = probe_and_show(self.context, self.path, name).await;
        progress.finish();
        tested.map_err(|error| {
            error
                .hint(format!("{name} is registered but inactive; fhirctl test {name} tries again"))
        })
    }

    /// Finds the token endpoint where none is named, shows and stores it.
    async fn discover(&self, steps: &mut Steps) -> Result<Option<(String, &'static str)>> {
        let is_discovered = self.plan.method.is_some_and(Method::is_discovered);
        if !is_discovered || self.plan.auth("token_url").is_some() {
            return Ok(None);
        }
        let expected = self.plan.preset_token_url();
        let found = if self.args.no_test {
            Err("--no-test".to_owned())
        } else {
            self.published(expected.as_deref()).await?
        };
        let (url, whose) = match (found, expected) {
            (Ok(url), _) => (url, "server"),
            (Err(_), Some(url)) => (url, "preset"),
            (Err(_), None) if self.args.no_test => {
                steps.push("discover", StepStatus::Skipped, "--no-test");
                return Ok(None);
            }
            (Err(why), None) => {
                let name = &self.plan.name;
                let way = format!("fhirctl set {name} auth.token_url=URL names it");
                steps.push("discover", StepStatus::Failed, format!("{why}; {way}"));
                return Ok(None);
            }
        };
        change::write(self.context, self.path, |document, _| {
            let mut place = edit::find_server(document, &self.plan.name)?;
            place.extend(["auth".into(), "token_url".into()]);
            Ok(vec![Op::Set(place, url.as_str().into())])
        })?;
        let message = match (whose, self.plan.preset) {
            ("preset", Some(preset)) => {
                format!("token endpoint {url}, by the preset {}", preset.name)
            }
            _ => format!("token endpoint {url}, as the server publishes it"),
        };
        steps.push("discover", StepStatus::Done, message);
        Ok(Some((url, whose)))
    }

    /// The token endpoint that the server publishes, where it may be used; else why not.
    async fn published(&self, expected: Option<&str>) -> Result<Result<String, String>> {
        let inventory = inventory::load(self.path, &self.context.overrides())?;
        let Some(server) = inventory.server(&self.plan.name) else {
            return Ok(Err("the server is gone from the inventory".to_owned()));
        };
        let surroundings = self.context.surroundings(&inventory);
        let deadline = Instant::now() + server.deadline;
        let asked = async {
            let identity = auth::identity(server, &surroundings.credentials).await?;
            let client = Client::new(server, &identity, surroundings.transport.clone())?;
            discovery::smart_configuration(&client, server, deadline).await
        };
        Ok(match asked.await {
            Err(failure) => Err(failure.message),
            Ok(None) => Err("the server publishes no SMART configuration".to_owned()),
            Ok(Some(configuration)) => match configuration.token_endpoint {
                None => Err("the server's SMART configuration names no token endpoint".to_owned()),
                Some(url) => usable(&url, server, expected).map(|()| url),
            },
        })
    }

    /// Tells and stores the vendor that the server looks like, unless its preset does not fit.
    async fn vendor(&self, steps: &mut Steps, found: &mut Found, passed: bool) -> Result<()> {
        if self.plan.preset.is_some() {
            return Ok(());
        }
        let Some(preset) = found.shown.as_ref().and_then(|shown| shown.vendor(&self.plan.url))
        else {
            return Ok(());
        };
        let name = &self.plan.name;
        if !passed {
            found.next.push(format!(
                "It looks like {}: fhirctl set {name} vendor={} uses what is known of it.",
                preset.title, preset.name
            ));
            return Ok(());
        }
        self.set_vendor(Some(preset))?;
        let (report, _) = self.test("testing it with its vendor's preset").await?;
        if change::passes(&report) {
            let message = format!("{}: it looks like {}", preset.name, preset.title);
            steps.push("vendor", StepStatus::Done, message);
            found.report = Some(report);
            found.vendor = Some(preset);
            return Ok(());
        }
        self.set_vendor(None)?;
        steps.push(
            "vendor",
            StepStatus::Skipped,
            format!(
                "it looks like {}, but the test fails with that preset: {}",
                preset.title,
                change::told(&report)
            ),
        );
        Ok(())
    }

    fn set_vendor(&self, preset: Option<&Preset>) -> Result<()> {
        change::write(self.context, self.path, |document, _| {
            let mut place = edit::find_server(document, &self.plan.name)?;
            place.push("vendor".into());
            Ok(vec![match preset {
                Some(preset) => Op::Set(place, preset.name.as_str().into()),
                None => Op::Remove(place),
            }])
        })
        .map(drop)
    }

    /// Headers that the vendor wants beside the sign-in, and nobody gave.
    fn mention_headers(&self, found: &mut Found) {
        let Some(preset) = self.plan.preset.filter(|preset| preset.kind != PresetKind::Public)
        else {
            return;
        };
        let given = self.plan.entry.get("extra_headers").and_then(Value::as_object);
        for header in preset.sign_in.headers.iter().filter(|header| header.required) {
            let there = given.is_some_and(|given| {
                given.keys().any(|name| name.eq_ignore_ascii_case(&header.name))
            });
            if !there {
                let value = if header.secret { "REF" } else { "VALUE" };
                found.next.push(format!(
                    "{} wants the header {} too: fhirctl set {} extra_headers.{}={value}",
                    preset.title, header.name, self.plan.name, header.name
                ));
            }
        }
    }

    /// What to do after a failed test.
    fn way_on(&self, found: &mut Found) {
        let name = &self.plan.name;
        let missing = found
            .report
            .as_ref()
            .is_some_and(|report| report.code == Some(Code::new("auth.credential_missing")));
        if missing && self.plan.method == Some(Method::SmartBackend) {
            found.next.push(format!(
                "Next: fhirctl auth jwks {name} --generate ES384 makes a key and prints the public set to register."
            ));
        }
        found.next.push(format!(
            "Next: fhirctl test {name} shows where it breaks; fhirctl set {name} KEY=VALUE changes its entry."
        ));
        found.next.push(format!("Then fhirctl activate {name}, or fhirctl remove {name}."));
    }

    /// Takes `active: false` out again; says `true` where a default says otherwise.
    fn activate(&self) -> Result<()> {
        let name = &self.plan.name;
        let place = |document: &Value| -> Result<edit::Path> {
            let mut place = edit::find_server(document, name)?;
            place.push("active".into());
            Ok(place)
        };
        let after = change::write(self.context, self.path, |document, _| {
            let place = place(document)?;
            let there = edit::lookup(document, &place).is_some();
            Ok(if there { vec![Op::Remove(place)] } else { Vec::new() })
        })?;
        if after.server(name).is_some_and(|server| !server.active) {
            change::write(self.context, self.path, |document, _| {
                Ok(vec![Op::Set(place(document)?, Value::Bool(true))])
            })?;
        }
        Ok(())
    }

    fn outcome(&self, steps: &Steps, found: &Found) -> Outcome {
        let report = found.report.as_ref();
        let exit = report.map_or(Exit::OK, |report| Exit(report.status.exit_code()));
        let vendor = self.plan.preset.or(found.vendor).map(|preset| preset.name.as_str());
        let shown = found.shown.as_ref();
        let output = json!({
            "schema": "fhirctl/add/v1",
            "inventory": change::shown(self.path),
            "exit_code": exit.0,
            "steps": steps.json(),
            "server": {
                "name": self.plan.name,
                "url": self.plan.url,
                "vendor": vendor,
                "state": if found.active { "active" } else { "inactive" },
            },
            "detected": found.vendor.map(|preset| json!({
                "vendor": preset.name,
                "software": shown.and_then(|shown| shown.software_name.as_deref()),
                "publisher": shown.and_then(|shown| shown.publisher.as_deref()),
            })),
            "discovered": found.token_url.as_ref().map(|(url, whose)| json!({
                "token_url": url,
                "source": whose,
            })),
            "report": change::report_json(report),
        });
        Outcome { output: Some(steps.output(output, &found.next)), exit }
    }
}

/// Whether a discovered token endpoint may get the credential.
fn usable(text: &str, server: &Server, expected: Option<&str>) -> std::result::Result<(), String> {
    let url = Url::parse(text).map_err(|_| "the token endpoint is no URL".to_owned())?;
    let place = &url[..url::Position::AfterPath];
    let refuse = |why: &str| Err(format!("the server names the token endpoint {place}: {why}"));
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("a password stands in it");
    }
    let open = server.allow_insecure && url.host() == server.url.url().host();
    if url.scheme() != "https" && !(url.scheme() == "http" && (is_loopback(&url) || open)) {
        return refuse("a credential does not go over plain HTTP");
    }
    let is_link_local = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_link_local(),
        Some(url::Host::Ipv6(address)) => {
            address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some_and(|address| address.is_link_local())
        }
        _ => false,
    };
    if is_link_local {
        return refuse("that is a link-local address");
    }
    // Where the vendor's place is known, a third host is not believed.
    if let Some(expected) = expected.and_then(|expected| Url::parse(expected).ok())
        && url.host() != expected.host()
        && url.host() != server.url.url().host()
    {
        return refuse(&format!("the preset knows it at {expected}"));
    }
    Ok(())
}
