//! What is going to be registered, out of the arguments, the preset and what was asked for.

use std::collections::BTreeMap;

use clap::ValueEnum as _;
use serde_json::{Map, Value};

use super::ask::{Answers, Missing};
use super::from::known_vendor;
use super::secret::{self, Wanted};
use super::{AddArgs, Method, label};
use crate::command::change::{self, Assignment};
use crate::inventory::preset::{Preset, PresetKind, ScopeHabit, filled};
use crate::model::{Error, Result};

/// The header of an API key when none is named.
const API_KEY_HEADER: &str = "X-API-Key";

/// What is going to be registered.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) entry: Map<String, Value>,
    pub(super) method: Option<Method>,
    /// A secret that still has to be got, with its place in `auth`.
    pub(super) wanted: Option<Wanted>,
    /// What only a person can know and has not said; nothing is registered before it is empty.
    pub(super) missing: Vec<Missing>,
    pub(super) preset: Option<&'static Preset>,
}

impl Plan {
    /// Where the preset expects the token endpoint.
    pub(super) fn preset_token_url(&self) -> Option<String> {
        self.preset?.token_url(&self.url)
    }

    /// A key of `auth`.
    pub(super) fn auth(&self, key: &str) -> Option<&Value> {
        self.entry.get("auth")?.get(key)
    }
}

/// # Errors
/// Exit 64 for what cannot be meant.
pub(super) fn plan(args: &AddArgs, answers: &Answers) -> Result<Plan> {
    let name = args.name.clone().ok_or_else(|| Error::usage("the server's name is missing"))?;
    let preset = args.vendor.as_deref().map(known_vendor).transpose()?;
    let settings =
        args.settings.iter().map(|text| Assignment::parse(text)).collect::<Result<Vec<_>>>()?;
    let (parts, settings) = split(preset, settings)?;
    let parts: BTreeMap<String, String> = parts.into_iter().chain(answers.parts.clone()).collect();

    let mut missing = Vec::new();
    let url = match &args.url {
        Some(url) => url.clone(),
        None => base_url(preset, &parts, &mut missing)?,
    };
    if missing.is_empty() {
        change::base_url(&url)?;
    }
    let mut entry = Map::new();
    entry.insert("name".to_owned(), name.as_str().into());
    entry.insert("url".to_owned(), url.as_str().into());
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
    for setting in &settings {
        change::refuse_secrets(setting, args.auth.map(Method::as_str))?;
        if matches!(setting.key[0].as_str(), "name" | "url" | "active") {
            return Err(Error::usage(format!("--set cannot give {}", setting.key[0]))
                .hint("fhirctl add NAME URL names them; the test decides whether it is active"));
        }
        assign(&mut entry, setting)?;
    }
    let method = args.auth.or_else(|| usual_method(args, preset, answers, &entry));
    let mut draft = Draft { args, name: &name, preset, parts: &parts, answers, missing };
    let wanted = draft.sign_in(method, &mut entry)?;
    let missing = draft.missing;
    Ok(Plan { name, url, entry, method, wanted, missing, preset })
}

/// Values for the braces of the preset's URLs, apart from values of the entry.
fn split(
    preset: Option<&Preset>,
    settings: Vec<Assignment>,
) -> Result<(BTreeMap<String, String>, Vec<Assignment>)> {
    let is_part = |setting: &Assignment| {
        setting.key.len() == 1
            && preset.is_some_and(|preset| {
                preset.placeholders.iter().any(|part| part.name == setting.key[0])
            })
    };
    let (parts, settings): (Vec<_>, Vec<_>) = settings.into_iter().partition(is_part);
    let parts = parts
        .into_iter()
        .map(|part| {
            let text = match &part.value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => String::new(),
            };
            fits(&part.key[0], &text)?;
            Ok((part.key[0].clone(), text))
        })
        .collect::<Result<_>>()?;
    Ok((parts, settings))
}

/// Whether a text can stand in a URL in the place of braces.
///
/// # Errors
/// Exit 64.
pub(super) fn fits(name: &str, text: &str) -> Result<()> {
    let odd = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '@' | '?' | '#' | '\\' | '{' | '}')
    };
    if text.is_empty() || text.contains(odd) || text.contains("://") {
        return Err(Error::usage(format!("{name}: this cannot stand in a URL"))
            .hint("give the part alone, such as ehr.example.org for a host"));
    }
    Ok(())
}

fn base_url(
    preset: Option<&Preset>,
    parts: &BTreeMap<String, String>,
    missing: &mut Vec<Missing>,
) -> Result<String> {
    let Some(preset) = preset else {
        return Err(Error::usage("the server's URL is missing")
            .hint("fhirctl add NAME URL, or --vendor of a preset that knows it"));
    };
    let Err(lacks) = filled(&preset.base_url, parts) else {
        return filled(&preset.base_url, parts).map_err(|_| Error::internal("a URL with braces"));
    };
    for name in lacks {
        let part = preset.placeholders.iter().find(|part| part.name == name);
        missing.push(Missing::part(
            name,
            part.map_or(name, |part| part.ask.as_str()),
            part.and_then(|part| part.example.as_deref()),
        ));
    }
    Ok(preset.base_url.clone())
}

/// How servers of the vendor are signed in to, where a person wants that or began to set it up.
fn usual_method(
    args: &AddArgs,
    preset: Option<&Preset>,
    answers: &Answers,
    entry: &Map<String, Value>,
) -> Option<Method> {
    let told = entry.get("auth").and_then(|auth| auth.get("method")).and_then(Value::as_str);
    if let Some(told) = told {
        return Method::from_str(told, false).ok();
    }
    let usual = Method::from_str(preset?.sign_in.usual_method(), false).ok()?;
    let begun = args.url.is_none()
        || args.secret.is_some()
        || args.secret_stdin
        || entry.contains_key("auth")
        || answers.sign_in;
    (usual != Method::None && begun && !is_open(preset?)).then_some(usual)
}

/// Whether anybody may read there: a test server for all.
fn is_open(preset: &Preset) -> bool {
    preset.kind == PresetKind::Public
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

/// The sign-in while it is put together.
struct Draft<'a> {
    args: &'a AddArgs,
    name: &'a str,
    preset: Option<&'static Preset>,
    parts: &'a BTreeMap<String, String>,
    answers: &'a Answers,
    missing: Vec<Missing>,
}

impl Draft<'_> {
    /// Completes `auth` and says which secret has to be got.
    fn sign_in(
        &mut self,
        method: Option<Method>,
        entry: &mut Map<String, Value>,
    ) -> Result<Option<Wanted>> {
        let args = self.args;
        let given = args.secret.is_some() || args.secret_stdin;
        let Some(method) = method else {
            if given || args.username.is_some() || args.header.is_some() {
                return Err(Error::usage("a secret needs to be told what it is for").hint(
                    "add --auth with the method: api-key, basic, bearer, headers, oauth2, smart-backend, mtls, azure, google or aws-sigv4",
                ));
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
        if let Some(Value::Object(set)) = entry.shift_remove("auth") {
            auth.extend(set);
            // The method that is told by a flag counts.
            auth.insert("method".to_owned(), method.as_str().into());
        }
        if method == Method::Mtls {
            let wanted = self.certificate(entry)?;
            entry.insert("auth".to_owned(), Value::Object(auth));
            return Ok(wanted);
        }
        let field = self.keys(method, &mut auth)?;
        self.scopes(method, &mut auth);
        let wanted = match field {
            Some(field) => secret::place(args, self.name, &mut auth, &field)?,
            None if given => {
                return Err(Error::usage(format!(
                    "--auth {} takes no secret with these settings",
                    method.as_str()
                )));
            }
            None => None,
        };
        entry.insert("auth".to_owned(), Value::Object(auth));
        Ok(wanted)
    }

    /// Completes the keys of a method; gives the one that holds its main secret, where it has one.
    fn keys(&mut self, method: Method, auth: &mut Map<String, Value>) -> Result<Option<String>> {
        let args = self.args;
        let given = args.secret.is_some() || args.secret_stdin;
        let is_true = |auth: &Map<String, Value>, key: &str| auth.get(key) == Some(&true.into());
        let field = match method {
            Method::None | Method::Mtls => return Ok(None),
            Method::Bearer => "token".to_owned(),
            Method::Basic => {
                if let Some(name) = &args.username {
                    auth.insert("username".to_owned(), name.as_str().into());
                }
                self.text(auth, "username", "the user's name", "--username NAME");
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
            Method::Oauth2 => {
                self.client_id(auth);
                let code = auth.get("flow").and_then(Value::as_str) == Some("authorization-code");
                if code && !given && !auth.contains_key("client_secret") {
                    return Ok(None);
                }
                "client_secret".to_owned()
            }
            Method::SmartBackend => {
                self.client_id(auth);
                if !given && !auth.contains_key("key") {
                    match &self.answers.key {
                        Some(reference) => {
                            auth.insert("key".to_owned(), reference.as_str().into());
                        }
                        None => self.missing.push(Missing::key(self.name)),
                    }
                    return Ok(None);
                }
                "key".to_owned()
            }
            Method::Azure => {
                if is_true(auth, "managed_identity") && !given {
                    return Ok(None);
                }
                self.text(auth, "tenant", "the Entra tenant's id or domain", "");
                self.client_id(auth);
                if auth.contains_key("certificate") && !given {
                    return Ok(None);
                }
                "client_secret".to_owned()
            }
            Method::Google => {
                // Without a key the machine's own credentials are used.
                if !given && !auth.contains_key("credentials") {
                    return Ok(None);
                }
                "credentials".to_owned()
            }
            Method::AwsSigv4 => {
                self.text(auth, "region", "the AWS region", "");
                // Without a key the environment, a profile or the machine's own role is used.
                if !auth.contains_key("access_key") {
                    if given {
                        self.text(auth, "access_key", "the access key's id", "");
                        return Ok(Some("secret_key".to_owned()));
                    }
                    return Ok(None);
                }
                "secret_key".to_owned()
            }
        };
        Ok(Some(field))
    }

    fn client_id(&mut self, auth: &mut Map<String, Value>) {
        self.text(auth, "client_id", "the client's id, as the vendor registered it", "");
    }

    /// A key that is no secret: given, answered, known from the URL, or missing.
    fn text(&mut self, auth: &mut Map<String, Value>, key: &str, what: &str, flag: &str) {
        if auth.contains_key(key) {
            return;
        }
        let known = self.answers.auth.get(key).or_else(|| self.parts.get(key));
        match known {
            Some(value) => {
                auth.insert(key.to_owned(), value.as_str().into());
            }
            None => self.missing.push(Missing::text(key, what, flag)),
        }
    }

    /// What the vendor's servers are asked for, where nothing else is said.
    fn scopes(&self, method: Method, auth: &mut Map<String, Value>) {
        let Some(scopes) = self.preset.and_then(|preset| preset.sign_in.scopes.as_ref()) else {
            return;
        };
        // The other methods know their one scope themselves.
        if !method.is_discovered() || auth.contains_key("scopes") {
            return;
        }
        let usual: Vec<Value> = scopes.usual.iter().map(|scope| scope.as_str().into()).collect();
        let known = scopes.usual.iter().all(|scope| !scope.contains('{'));
        if scopes.habit == ScopeHabit::NoneSent || (!usual.is_empty() && known) {
            auth.insert("scopes".to_owned(), Value::Array(usual));
        }
    }

    /// A client certificate is a matter of TLS: a file, and the key to it.
    fn certificate(&mut self, entry: &mut Map<String, Value>) -> Result<Option<Wanted>> {
        let there = |entry: &Map<String, Value>, key: &str| {
            let tls = entry.get("tls").and_then(|tls| tls.get("client_certificate"));
            tls.is_some_and(|certificate| certificate.get(key).is_some())
        };
        if !there(entry, "certificate") {
            match self.answers.auth.get("certificate") {
                Some(file) => {
                    certificate_map(entry)?.insert("certificate".to_owned(), file.as_str().into())
                }
                None => {
                    self.missing.push(Missing::certificate());
                    None
                }
            };
        }
        if there(entry, "key") && self.args.secret.is_none() && !self.args.secret_stdin {
            return Ok(None);
        }
        secret::place_as(self.args, self.name, certificate_map(entry)?, "key", "tls")
    }
}

fn certificate_map(entry: &mut Map<String, Value>) -> Result<&mut Map<String, Value>> {
    let mut map = entry;
    for word in ["tls", "client_certificate"] {
        map = map
            .entry(word)
            .or_insert_with(|| Value::Object(Map::new()))
            .as_object_mut()
            .ok_or_else(|| Error::usage(format!("--set: {word} is no map")))?;
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::super::ask::refused;
    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        add: AddArgs,
    }

    fn planned(line: &str) -> Result<Plan> {
        let words =
            ["add", "a", "https://h.example/fhir"].into_iter().chain(line.split_whitespace());
        plan(&Cli::try_parse_from(words).unwrap().add, &Answers::default())
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
            let error = match planned(line) {
                Ok(plan) if !plan.missing.is_empty() => refused(&plan),
                Ok(_) => panic!("{line} is let through"),
                Err(error) => error,
            };
            assert_eq!(error.exit().0, 64, "{line}");
            assert!(!format!("{error:?}").contains("hunter2"), "{line}");
        }
    }
}
