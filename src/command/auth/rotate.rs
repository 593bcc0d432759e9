//! `auth rotate NAME`: a new credential is made or taken, proven, put in use, and the old one goes.
//!
//! Old and new are kept under different names, and the inventory names one of them: the one write
//! that changes the name puts the new one in use. Whatever is interrupted, the inventory names a
//! credential that works. A note of what is under way lets the next run go on.

mod certificate;
mod note;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::jwks::{self, KeyKind};
use super::{Subject, secrets};
use crate::auth::key::SigningKey;
use crate::command::add::secret as input;
use crate::command::change::{self, StepStatus, Steps};
use crate::context::{Context, Outcome, state_dir};
use crate::inventory::edit::{self, Op, store};
use crate::model::server::{Algorithm, Auth};
use crate::model::{Error, Exit, Result, Secret, SecretRef, ServerReport};
use crate::probe::{self, CheckName, Options};
use note::Note;

/// Replace a credential: the new one is proven against the server before the old one goes
///
/// For smart-backend a new key is made; register or publish the set that is printed and run the
/// command again. Other methods take the new secret from --secret, from --secret-stdin or from you.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// The server's name
    #[arg(value_name = "NAME", add = crate::command::complete::servers())]
    pub name: String,

    /// Which secret, where the sign-in has several, such as a header's name
    #[arg(long, value_name = "KEY")]
    pub field: Option<String>,

    /// Where the new secret is kept: keyring:NAME/FIELD, env:VARIABLE, file:PATH or age:PATH#FIELD
    #[arg(long, value_name = "REF", conflicts_with_all = ["secret_stdin", "certificate"])]
    pub secret: Option<String>,

    /// Read the new secret from standard input
    #[arg(long, conflicts_with = "certificate")]
    pub secret_stdin: bool,

    /// The kind of the new key; otherwise as the old one
    #[arg(long, value_name = "ALGORITHM", conflicts_with_all = ["secret", "secret_stdin", "certificate"])]
    pub algorithm: Option<KeyKind>,

    /// The id under which the new key is registered; otherwise its thumbprint
    #[arg(long, value_name = "ID", conflicts_with = "certificate")]
    pub key_id: Option<String>,

    /// Replace the client certificate by this file instead (PEM or PKCS#12)
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,

    /// Where the new certificate's key is kept, otherwise in the certificate's own file; the
    /// password of a PKCS#12 file
    #[arg(long, value_name = "REF", requires = "certificate")]
    pub key: Option<String>,

    /// The last day of the new secret, such as 2027-03-31
    #[arg(long, value_name = "DAY")]
    pub expires: Option<jiff::civil::Date>,

    /// Keep the old secret where it is
    #[arg(long)]
    pub keep_old: bool,

    /// Give up a rotation that is under way: the new credential is thrown away
    #[arg(long, conflicts_with_all = ["secret", "secret_stdin", "certificate", "algorithm"])]
    pub abandon: bool,
}

/// # Errors
/// Exit 64 for what cannot be meant, 73 or 78 when something cannot be written, 77 when there is no
/// new credential to be had. The old one is in use then.
pub async fn run(args: &RotateArgs, context: &Context) -> Result<Outcome> {
    change::fits(context)?;
    let subject = Subject::load(context, &args.name)?;
    let rotation = Rotation { args, context, subject: &subject };
    if args.certificate.is_some() {
        return rotation.certificate().await;
    }
    let folder = state_dir().ok_or_else(|| {
        Error::credential(
            "there is no folder to note a rotation in: neither HOME nor XDG_STATE_HOME is set",
        )
    })?;
    let notes = note::Notes::open(&folder, &subject.server.name)?;
    if args.abandon {
        return rotation.abandon(&notes).await;
    }
    rotation.secret(&notes).await
}

struct Rotation<'a> {
    args: &'a RotateArgs,
    context: &'a Context,
    subject: &'a Subject,
}

/// What became of it.
struct Ended {
    rotated: bool,
    exit: Exit,
    old: Option<String>,
    new: Option<String>,
    key_id: Option<String>,
    jwks: Option<Value>,
}

impl Rotation<'_> {
    async fn secret(&self, notes: &note::Notes) -> Result<Outcome> {
        let mut steps = Steps::default();
        let (field, current) = self.field()?;
        let mut note = notes.read()?;
        // In use already: only the end of an interrupted run is left to do.
        if let Some(done) = note.as_ref().filter(|note| note.new == current.to_string()) {
            steps.push("switch", StepStatus::Done, "was done by an earlier run");
            let ended = Ended {
                rotated: true,
                exit: Exit::OK,
                old: Some(done.old.clone()),
                new: Some(done.new.clone()),
                key_id: done.key_id.clone(),
                jwks: None,
            };
            self.retire(&mut steps, notes, done).await;
            return Ok(self.outcome(&steps, &ended, &[]));
        }
        // A note of another time, of a secret that never came to be, or that a new one replaces.
        if let Some(old) = &note
            && (old.old != current.to_string()
                || self.args.secret.is_some()
                || self.args.secret_stdin
                || !self.is_there(&old.new).await)
        {
            self.throw_away(old).await;
            notes.remove()?;
            note = None;
        }
        let note = match note {
            Some(note) => {
                let made = format!("{} is there from an earlier run", note.new);
                steps.push("make", StepStatus::Done, made);
                note
            }
            None => {
                let note = self.make(notes, &field, current).await?;
                let made = if note.ours { "is kept" } else { "was named" };
                steps.push("make", StepStatus::Done, format!("{} {made}", note.new));
                note
            }
        };
        let ops = |document: &Value| self.ops(document, &field, &note);
        let report = self.prove(ops).await?;
        let passed = change::passes(&report);
        let status = if passed { StepStatus::Done } else { StepStatus::Failed };
        steps.push("prove", status, change::told(&report));
        let mut ended = Ended {
            rotated: passed,
            exit: Exit::OK,
            old: Some(note.old.clone()),
            new: Some(note.new.clone()),
            key_id: note.key_id.clone(),
            jwks: None,
        };
        if !passed {
            steps.push("switch", StepStatus::Skipped, format!("{} stays in use", note.old));
            change::refused(self.context, &self.args.name, &format!("auth.{field}"), Some(&report));
            let next = self.not_proven(notes, &note, &mut ended, &report).await?;
            return Ok(self.outcome(&steps, &ended, &next));
        }
        change::write(self.context, &self.subject.path, |document, _| {
            self.ops(document, &field, &note)
        })?;
        steps.push("switch", StepStatus::Done, format!("auth.{field} is {} now", note.new));
        self.retire(&mut steps, notes, &note).await;
        let mut next = Vec::new();
        if self.subject.server.sign_in.expires.is_some() && self.args.expires.is_none() {
            next.push("auth.expires was the old one's end and was taken out; --expires says the new one's.".to_owned());
        }
        Ok(self.outcome(&steps, &ended, &next))
    }

    /// The secret that is meant, and where it is kept now.
    fn field(&self) -> Result<(String, &SecretRef)> {
        let all = secrets(&self.subject.server);
        let name = &self.subject.server.name;
        let found = match (&self.args.field, all.as_slice()) {
            (Some(field), _) => all.iter().find(|(known, _)| known == field).cloned(),
            (None, [one]) => Some(one.clone()),
            (None, _) => None,
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|(field, _)| field.as_str()).collect();
            if names.is_empty() {
                Error::usage(format!(
                    "{name} signs in by {}, without a secret of ours to rotate",
                    self.subject.server.auth.method()
                ))
                .hint("--certificate replaces a client certificate")
            } else {
                Error::usage(format!("which secret of {name}?"))
                    .hint(format!("--field {}", names.join(" or --field ")))
            }
        })
    }

    /// Makes or takes the new secret, and notes it before it is kept.
    async fn make(&self, notes: &note::Notes, field: &str, current: &SecretRef) -> Result<Note> {
        let credentials = &self.subject.surroundings.credentials;
        let smart = match &self.subject.server.auth {
            Auth::SmartBackend(settings) => Some(settings),
            _ => None,
        };
        if let Some(text) = &self.args.secret {
            let new = reference(text, "--secret")?;
            let new = crate::inventory::below(&self.subject.path, new);
            let secret = credentials
                .resolve(&new)
                .await
                .map_err(|error| change::credential_error(&error))?;
            let key_id = smart.map(|_| self.id_of(&secret)).transpose()?;
            let note = Note {
                field: field.to_owned(),
                old: current.to_string(),
                new: new.to_string(),
                key_id,
                ours: false,
            };
            notes.write(&note)?;
            return Ok(note);
        }
        let new = place(current, self.context.clock.now())?;
        let (secret, key_id) = match smart {
            Some(settings) if !self.args.secret_stdin => {
                let old = jwks::read(credentials, settings).await;
                let algorithm = self
                    .args
                    .algorithm
                    .map(Algorithm::from)
                    .or_else(|| old.ok().map(|old| old.algorithm()))
                    .unwrap_or(Algorithm::ES384);
                let (key, pem) = SigningKey::generate(algorithm)
                    .map_err(|error| Error::internal(error.to_string()))?;
                (pem, Some(self.args.key_id.clone().unwrap_or_else(|| key.id())))
            }
            Some(_) => {
                let secret = input::secret_from_stdin()?;
                let id = self.id_of(&secret)?;
                (secret, Some(id))
            }
            None if self.args.secret_stdin => (input::secret_from_stdin()?, None),
            None if self.context.may_ask() => {
                (input::ask(&self.subject.server.name, &format!("new {field}"))?, None)
            }
            None => {
                return Err(Error::usage(
                    "the new secret is not given, and nobody is there to be asked",
                )
                .hint("--secret REF names it, --secret-stdin reads it from standard input"));
            }
        };
        let note = Note {
            field: field.to_owned(),
            old: current.to_string(),
            new: new.to_string(),
            key_id,
            ours: true,
        };
        notes.write(&note)?;
        let kept = jwks::keep(credentials, &new, &secret).await;
        self.context.audit().outcome(Some(&self.args.name), &note.new, &kept);
        kept?;
        Ok(note)
    }

    fn id_of(&self, secret: &Secret) -> Result<String> {
        let key = SigningKey::parse(secret, None)
            .map_err(|error| Error::credential(format!("the new key: {error}")))?;
        Ok(self.args.key_id.clone().unwrap_or_else(|| key.id()))
    }

    async fn is_there(&self, text: &str) -> bool {
        let Ok(found) = SecretRef::parse(text) else { return false };
        let found = crate::inventory::below(&self.subject.path, found);
        self.subject.surroundings.credentials.resolve(&found).await.is_ok()
    }

    /// The changes that put the new secret in use, all in one write.
    fn ops(&self, document: &Value, field: &str, note: &Note) -> Result<Vec<Op>> {
        let base = edit::find_server(document, &self.args.name)?;
        let at = |key: &str| -> edit::Path {
            let mut path = base.clone();
            path.extend(["auth".into(), key.into()]);
            path
        };
        let mut path = at(field);
        if edit::lookup(document, &path).is_none() {
            // Headers stand directly in auth or in a map of their own.
            let mut named = at("headers");
            named.push(field.into());
            if edit::lookup(document, &named).is_some() {
                path = named;
            }
        }
        let mut ops = vec![Op::Set(path, self.written(&note.new).into())];
        if let Some(id) = &note.key_id {
            ops.push(Op::Set(at("key_id"), id.as_str().into()));
            if edit::lookup(document, &at("algorithm")).is_some() {
                ops.push(Op::Remove(at("algorithm")));
            }
        }
        match self.args.expires {
            Some(day) => ops.push(Op::Set(at("expires"), day.to_string().into())),
            None if edit::lookup(document, &at("expires")).is_some() => {
                ops.push(Op::Remove(at("expires")));
            }
            None => {}
        }
        Ok(ops)
    }

    /// A reference as it goes into the inventory: a path below its folder is relative.
    fn written(&self, reference: &str) -> String {
        let inventory = std::path::absolute(&self.subject.path).unwrap_or_default();
        let below = inventory.parent().and_then(|folder| {
            Path::new(reference.strip_prefix("file:")?).strip_prefix(folder).ok()
        });
        match below {
            Some(path) => format!("file:{}", path.display()),
            None => reference.to_owned(),
        }
    }

    /// Signs in with the changed entry; the inventory's file stays as it is.
    async fn prove(&self, ops: impl FnOnce(&Value) -> Result<Vec<Op>>) -> Result<ServerReport> {
        let path = &self.subject.path;
        let text = store::read(path)?;
        let document = edit::document(&text)?;
        let ops = ops(&document)?;
        let (candidate, _) = change::checked(&text, document, &ops, path)?;
        let inventory = crate::inventory::parse(&candidate, path, &self.context.overrides())?;
        let server = crate::command::check::exact(&inventory, &self.args.name)?;
        let surroundings = self.context.surroundings(&inventory);
        let options = Options {
            only: vec![CheckName::Dns, CheckName::Tcp, CheckName::Tls, CheckName::Auth],
            every_stage: true,
            by_hand: true,
            ..Options::default()
        };
        let progress = self.context.progress("proving the new credential", 0);
        let report = probe::check_one(server, &surroundings, &options).await.report;
        progress.finish();
        Ok(report)
    }

    /// What to do with a new credential that the server does not take.
    async fn not_proven(
        &self,
        notes: &note::Notes,
        note: &Note,
        ended: &mut Ended,
        report: &ServerReport,
    ) -> Result<Vec<String>> {
        let name = &self.args.name;
        if let (Auth::SmartBackend(settings), true) = (&self.subject.server.auth, note.ours) {
            // A key is good once it is registered: it waits.
            let credentials = &self.subject.surroundings.credentials;
            let fresh = SecretRef::parse(&note.new).ok();
            let mut keys = Vec::new();
            if let Some(fresh) = fresh {
                let fresh = crate::inventory::below(&self.subject.path, fresh);
                if let Ok(secret) = credentials.resolve(&fresh).await
                    && let Ok(key) = SigningKey::parse(&secret, None)
                {
                    keys.push(key.public_jwk(note.key_id.as_deref().unwrap_or_default()));
                }
            }
            if let Ok(old) = jwks::read(credentials, settings).await {
                keys.push(jwks::public(settings, &old));
            }
            ended.jwks = Some(json!({"keys": keys}));
            ended.exit = Exit(75);
            return Ok(vec![
                "The new key waits. Register or publish this set, which holds both keys:"
                    .to_owned(),
                json!({"keys": keys}).to_string(),
                format!("Then run it again: fhirctl auth rotate {name}; --abandon gives it up."),
            ]);
        }
        self.throw_away(note).await;
        notes.remove()?;
        let of_sign_in = report.code.is_some_and(|code| code.as_str().starts_with("auth."));
        ended.exit = Exit(if of_sign_in { 77 } else { 69 });
        Ok(vec![format!("Nothing was changed: {} is in use as before.", note.old)])
    }

    async fn abandon(&self, notes: &note::Notes) -> Result<Outcome> {
        let mut steps = Steps::default();
        let (_, current) = self.field()?;
        let ended = Ended {
            rotated: false,
            exit: Exit::OK,
            old: Some(current.to_string()),
            new: None,
            key_id: None,
            jwks: None,
        };
        match notes.read()? {
            Some(note) if note.new != current.to_string() => {
                self.throw_away(&note).await;
                notes.remove()?;
                let told = format!("{} is thrown away, {current} is in use", note.new);
                steps.push("abandon", StepStatus::Done, told);
            }
            _ => steps.push("abandon", StepStatus::Skipped, "no rotation is under way"),
        }
        Ok(self.outcome(&steps, &ended, &[]))
    }

    /// Takes back a new secret that we put there.
    async fn throw_away(&self, note: &Note) {
        if note.ours {
            self.delete(&note.new).await;
        }
    }

    async fn retire(&self, steps: &mut Steps, notes: &note::Notes, note: &Note) {
        let message = if self.args.keep_old {
            format!("{} is kept, as asked", note.old)
        } else if self.delete(&note.old).await {
            self.context.audit().outcome(Some(&self.args.name), &note.old, &Ok(()));
            format!("{} is deleted here; revoke it at the provider", note.old)
        } else {
            format!("{} is not ours to delete; do that, and revoke it at the provider", note.old)
        };
        steps.push("retire", StepStatus::Done, message);
        if let Err(error) = notes.remove() {
            self.context.notice(&format!("warning: {}", error.message));
        }
    }

    /// Deletes a secret where that is ours: in the keyring, and the files that a rotation made.
    async fn delete(&self, text: &str) -> bool {
        let Ok(reference) = SecretRef::parse(text) else { return false };
        match crate::inventory::below(&self.subject.path, reference) {
            reference @ SecretRef::Keyring { .. } => {
                self.subject.surroundings.credentials.delete(&reference).await.is_ok()
            }
            SecretRef::File { path } if is_made_here(&path) => std::fs::remove_file(path).is_ok(),
            _ => false,
        }
    }

    fn outcome(&self, steps: &Steps, ended: &Ended, next: &[String]) -> Outcome {
        let json = json!({
            "schema": "fhirctl/auth-rotate/v1",
            "server": self.args.name,
            "inventory": change::shown(&self.subject.path),
            "exit_code": ended.exit.0,
            "rotated": ended.rotated,
            "old": ended.old,
            "new": ended.new,
            "key_id": ended.key_id,
            "jwks": ended.jwks,
            "steps": steps.json(),
        });
        Outcome { output: Some(steps.output(json, next)), exit: ended.exit }
    }
}

fn reference(text: &str, flag: &str) -> Result<SecretRef> {
    SecretRef::parse(text).map_err(|error| {
        Error::usage(format!("{flag}: {error}")).hint(
            "a reference is meant: keyring:NAME/FIELD, env:VARIABLE, file:PATH or age:PATH#FIELD",
        )
    })
}

/// What marks a secret that a rotation put in place.
const MARK: &str = "-rotated-";

/// A new name beside the old one.
fn place(current: &SecretRef, now: jiff::Timestamp) -> Result<SecretRef> {
    let stamp = now.strftime("%Y%m%dT%H%M%S%3fZ");
    let plain = |name: &str| name.split(MARK).next().unwrap_or(name).to_owned();
    match current {
        SecretRef::Keyring { name, field } => Ok(SecretRef::Keyring {
            name: name.clone(),
            field: format!("{}{MARK}{stamp}", plain(field)),
        }),
        SecretRef::File { path } => {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let mut name = format!("{}{MARK}{stamp}", plain(&stem));
            if let Some(extension) = path.extension() {
                name = format!("{name}.{}", extension.to_string_lossy());
            }
            Ok(SecretRef::File { path: path.with_file_name(name) })
        }
        other => {
            Err(Error::usage(format!("the secret is kept at {other}, which is not ours to write"))
                .hint("put the new one there under another name and give that: --secret REF"))
        }
    }
}

fn is_made_here(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(MARK))
}
