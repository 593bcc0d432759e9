//! What only a person can know: asked for on a terminal, listed everywhere else.

use std::collections::BTreeMap;

use super::plan::{Plan, fits};
use crate::inventory::preset::PresetKind;
use crate::model::{Error, ErrorKind, Result, SecretRef};

/// What a person said.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    /// For the braces of the preset's base URL.
    pub(super) parts: BTreeMap<String, String>,
    /// Keys of `auth` that are no secrets.
    pub(super) auth: BTreeMap<String, String>,
    /// Where the private key is kept.
    pub(super) key: Option<String>,
    /// Whether the vendor's usual sign-in is to be set up.
    pub(super) sign_in: bool,
}

/// Something that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    kind: Kind,
    key: String,
    what: String,
    example: Option<String>,
    /// How to give it on the command line.
    flag: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Part,
    Text,
    Key,
}

impl Missing {
    /// A piece of the base URL.
    pub(super) fn part(name: &str, what: &str, example: Option<&str>) -> Missing {
        Missing {
            kind: Kind::Part,
            key: name.to_owned(),
            what: what.to_owned(),
            example: example.map(str::to_owned),
            flag: format!("--set {name}={}", example.unwrap_or("VALUE")),
        }
    }

    /// A key of `auth` that is no secret.
    pub(super) fn text(key: &str, what: &str, flag: &str) -> Missing {
        let flag =
            if flag.is_empty() { format!("--set auth.{key}=VALUE") } else { flag.to_owned() };
        Missing {
            kind: Kind::Text,
            key: key.to_owned(),
            what: what.to_owned(),
            example: None,
            flag,
        }
    }

    /// The private key of a server's client.
    pub(super) fn key(name: &str) -> Missing {
        Missing {
            kind: Kind::Key,
            key: "key".to_owned(),
            what: "where the private key is kept".to_owned(),
            example: Some(format!("keyring:{name}/key")),
            flag: format!(
                "--secret REF or --secret-stdin; for a new key --secret keyring:{name}/key, then fhirctl auth jwks {name} --generate ES384"
            ),
        }
    }

    /// The file of a client certificate.
    pub(super) fn certificate() -> Missing {
        Missing {
            kind: Kind::Text,
            key: "certificate".to_owned(),
            what: "the client certificate's PEM file".to_owned(),
            example: None,
            flag: "--set tls.client_certificate.certificate=FILE".to_owned(),
        }
    }
}

/// Everything that is missing in one error, with how to give it.
pub(super) fn refused(plan: &Plan) -> Error {
    let secret = plan.wanted.as_ref().filter(|wanted| !wanted.from_stdin);
    let count = plan.missing.len() + usize::from(secret.is_some());
    let noun = if count == 1 { "one thing is" } else { "some things are" };
    let mut message = match plan.preset {
        Some(preset) => format!("{noun} missing that the preset {} cannot know", preset.name),
        None => format!("{noun} missing"),
    };
    for missing in &plan.missing {
        message.push_str(&format!("\n  {}: {} ({})", missing.key, missing.what, missing.flag));
    }
    if let Some(wanted) = secret {
        message.push_str(&format!("\n  the {} (--secret REF or --secret-stdin)", wanted.what));
    }
    let error = Error::usage(message).hint("on a terminal you are asked; nothing was registered");
    match (plan.method, plan.preset) {
        (Some(_), Some(_)) => error.hint("--auth none registers it without a sign-in"),
        _ => error,
    }
}

/// Asks for everything that is missing.
///
/// # Errors
/// When nothing is answered.
pub(super) fn ask(plan: &Plan, answers: &mut Answers) -> Result<()> {
    for missing in &plan.missing {
        let mut prompt = missing.what.clone();
        if let (Kind::Part, Some(example)) = (missing.kind, &missing.example) {
            prompt.push_str(&format!(", such as {example}"));
        }
        let kind = missing.kind;
        let key = missing.key.clone();
        let mut input = dialoguer::Input::<String>::new().with_prompt(prompt).validate_with(
            move |text: &String| match kind {
                Kind::Part => fits(&key, text.trim()).map_err(|error| error.message),
                Kind::Text if text.trim().is_empty() => Err("an answer is needed".to_owned()),
                Kind::Text => Ok(()),
                Kind::Key => {
                    SecretRef::parse(text.trim()).map(drop).map_err(|error| error.to_string())
                }
            },
        );
        if let (Kind::Key, Some(example)) = (kind, &missing.example) {
            input = input.default(example.clone());
        }
        let answer = input.interact_text().map_err(|_| stopped())?.trim().to_owned();
        match kind {
            Kind::Part => drop(answers.parts.insert(missing.key.clone(), answer)),
            Kind::Text => drop(answers.auth.insert(missing.key.clone(), answer)),
            Kind::Key => answers.key = Some(answer),
        }
    }
    Ok(())
}

/// Whether the vendor's usual sign-in is wanted, where nothing was said of any.
pub(super) fn wants_sign_in(plan: &Plan) -> Result<bool> {
    let Some(preset) = plan.preset.filter(|preset| preset.kind != PresetKind::Public) else {
        return Ok(false);
    };
    let method = preset.sign_in.usual_method();
    if method == "none" || plan.method.is_some() {
        return Ok(false);
    }
    dialoguer::Confirm::new()
        .with_prompt(format!("{} signs in with {method}. Set that up?", preset.title))
        .default(true)
        .interact()
        .map_err(|_| stopped())
}

fn stopped() -> Error {
    Error::new(ErrorKind::Interrupted, "no answer was given; nothing was registered")
}
