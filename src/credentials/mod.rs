//! From a reference to the secret it stands for.
//!
//! Enters: a [`SecretRef`] of the inventory or the command line, and the [`Policy`] it is read
//! under. Leaves: a [`Secret`], or a [`CredentialError`] that says what to do. Called by auth, by
//! the commands that keep secrets, and by `doctor`. The only room that speaks to the keyring.
//!
//! Nothing here waits without an end: what may hang runs on a helper thread under a time limit.

mod age;
mod env;
mod error;
pub mod exec;
pub mod file;
mod harden;
pub mod keyring;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use env::{AGE_IDENTITY_FILE, ALLOW_READABLE_SECRETS};
pub use error::{CredentialError, CredentialErrorKind};
pub use harden::{dumps_core, harden};

use crate::model::{Secret, SecretRef};
use env::Variables;

/// Most bytes of one secret.
pub const SECRET_BYTES: usize = 64 * 1024;

/// Most bytes of a file that belongs to another program.
const FOREIGN_BYTES: usize = 1024 * 1024;

/// How long a failure is told again instead of being tried again.
///
/// Without it, a fleet that shares a broken reference would run its program once per server.
const FAILURE_KEPT: Duration = Duration::from_secs(10);

/// How long a file may take; network file systems can hang for ever.
const FILE_LIMIT: Duration = Duration::from_secs(5);

/// Under which circumstances references are resolved.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The inventory that the references stand in; `exec:` is refused without one.
    pub inventory: Option<PathBuf>,
    /// Whether this is a CI job: `exec:` is refused there unless allowed.
    pub ci: bool,
    /// `--allow-exec`.
    pub allow_exec: bool,
    /// Variables that `exec:` children get beside the fixed ones: those that `env:` references of
    /// the inventory name.
    pub exec_env: Vec<String>,
    /// Whether a person may be asked, such as by a keyring's own window.
    pub interactive: bool,
}

/// Resolves references and keeps what it found, for the life of the process.
///
/// Cheap to clone; clones share what they know. A reference is resolved once even when many ask
/// for it at the same time.
#[derive(Clone)]
pub struct Credentials {
    inner: Arc<Inner>,
    /// The server for which this handle asks.
    server: Option<Arc<str>>,
    observer: Option<Observer>,
}

/// Told of every use of a reference, also of one that was resolved before.
pub type Observer = Arc<dyn Fn(&Use<'_>) + Send + Sync>;

/// One use of a credential; it holds nothing secret.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    pub server: Option<&'a str>,
    /// The reference, or the place where another program's conventions keep it.
    pub reference: &'a str,
    pub kind: UseKind,
    /// Why it failed.
    pub error: Option<CredentialErrorKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseKind {
    Resolved,
    Stored,
    Deleted,
}

struct Inner {
    policy: Policy,
    variables: Variables,
    cells: Mutex<HashMap<SecretRef, Cell>>,
}

/// What became of one reference. The lock is held while it is being resolved.
type Cell = Arc<tokio::sync::Mutex<Option<(Instant, Result<Secret, CredentialError>)>>>;

impl Credentials {
    #[must_use]
    pub fn new(policy: Policy) -> Credentials {
        Credentials::with_variables(policy, Variables::Process)
    }

    fn with_variables(policy: Policy, variables: Variables) -> Credentials {
        let inner = Inner { policy, variables, cells: Mutex::default() };
        Credentials { inner: Arc::new(inner), server: None, observer: None }
    }

    /// The same with somebody who is told of every use.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Credentials {
        Credentials { observer: Some(observer), ..self }
    }

    /// The same for one server: its name stands beside every use.
    #[must_use]
    pub fn serving(&self, server: &str) -> Credentials {
        Credentials { server: Some(server.into()), ..self.clone() }
    }

    /// The secret behind a reference.
    ///
    /// # Errors
    /// When it is not there, may not be read, or did not come in time. The error names the
    /// reference and never a secret.
    pub async fn resolve(&self, reference: &SecretRef) -> Result<Secret, CredentialError> {
        let found = self.known_or_found(reference).await;
        self.tell(&reference.to_string(), UseKind::Resolved, found.as_ref().err());
        found
    }

    async fn known_or_found(&self, reference: &SecretRef) -> Result<Secret, CredentialError> {
        let cell = self.cell(reference);
        let mut known = cell.lock().await;
        match &*known {
            Some((_, Ok(secret))) => return Ok(secret.clone()),
            Some((at, Err(error))) if at.elapsed() < FAILURE_KEPT => return Err(error.clone()),
            _ => {}
        }
        let found = self.fetch(reference).await;
        *known = Some((Instant::now(), found.clone()));
        found
    }

    /// Puts a secret into the keyring; a secret that is there is replaced.
    ///
    /// # Errors
    /// For any reference but `keyring:`, and when the keyring cannot be written.
    pub async fn store(
        &self,
        reference: &SecretRef,
        secret: &Secret,
    ) -> Result<(), CredentialError> {
        let (name, field) = keyring_entry(reference, "stored")?;
        self.forget(reference);
        let stored = keyring::set(name, field, secret, self.inner.policy.interactive).await;
        self.tell(&reference.to_string(), UseKind::Stored, stored.as_ref().err());
        stored
    }

    /// Takes a secret out of the keyring; one that is not there is no error.
    ///
    /// # Errors
    /// For any reference but `keyring:`, and when the keyring cannot be written.
    pub async fn delete(&self, reference: &SecretRef) -> Result<(), CredentialError> {
        let (name, field) = keyring_entry(reference, "deleted")?;
        self.forget(reference);
        let deleted = keyring::delete(name, field, self.inner.policy.interactive).await;
        self.tell(&reference.to_string(), UseKind::Deleted, deleted.as_ref().err());
        deleted
    }

    /// Tells of a credential that no reference names: the machine's own, or another program's.
    pub fn used(&self, place: &str, is_found: bool) {
        self.told(place, UseKind::Resolved, (!is_found).then_some(CredentialErrorKind::Missing));
    }

    fn tell(&self, reference: &str, kind: UseKind, error: Option<&CredentialError>) {
        self.told(reference, kind, error.map(|error| error.kind));
    }

    fn told(&self, reference: &str, kind: UseKind, error: Option<CredentialErrorKind>) {
        if let Some(observer) = &self.observer {
            observer(&Use { server: self.server.as_deref(), reference, kind, error });
        }
    }

    /// The age identity of this user's environment, as the key that it is; `None` without one.
    pub async fn age_identity(&self) -> Option<Secret> {
        let path = self.inner.variables.identity_file()?;
        self.resolve(&SecretRef::File { path }).await.ok()
    }

    /// The value of an environment variable that another program's conventions give a meaning to,
    /// such as `AWS_PROFILE`; `None` when it is unset, empty or not text.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<Secret> {
        env::read(&self.inner.variables, name).ok()
    }

    /// A file of another program's making, such as `~/.aws/credentials`: at most 1 MiB of text.
    ///
    /// Its permissions are that program's business, and so is its format.
    ///
    /// # Errors
    /// When it is not there, cannot be read, is too large or did not come in time.
    pub async fn file(&self, path: &Path) -> Result<Secret, CredentialError> {
        let reference = SecretRef::File { path: path.to_owned() };
        let path = path.to_owned();
        let bytes = off_thread(FILE_LIMIT, &reference, move || {
            file::read(&path, file::Rules::open(FOREIGN_BYTES))
        })
        .await?;
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            CredentialError::malformed(
                format!("{reference}: what is there is not UTF-8 text"),
                "is this the right file?".into(),
            )
        })?;
        Ok(Secret::new(text.to_owned()))
    }

    async fn fetch(&self, reference: &SecretRef) -> Result<Secret, CredentialError> {
        let Inner { policy, variables, .. } = &*self.inner;
        match reference {
            SecretRef::Keyring { name, field } => {
                keyring::get(name, field, policy.interactive).await
            }
            SecretRef::Env { variable } => env::read(variables, variable),
            SecretRef::File { path } => {
                let path = path.clone();
                let lenient = variables.allow_readable();
                let bytes = off_thread(FILE_LIMIT, reference, move || {
                    file::read(&path, file::Rules::secret(lenient))
                })
                .await?;
                secret(&bytes, &reference.to_string())
            }
            SecretRef::Exec { argv } => exec::read(argv, policy, variables).await,
            SecretRef::Age { path, field } => {
                let (path, field) = (path.clone(), field.clone());
                let identity = variables.identity_file();
                let lenient = variables.allow_readable();
                off_thread(FILE_LIMIT, reference, move || {
                    age::read(&path, &field, identity.as_deref(), lenient)
                })
                .await
            }
        }
    }

    fn cell(&self, reference: &SecretRef) -> Cell {
        let mut cells = self.inner.cells.lock().unwrap_or_else(PoisonError::into_inner);
        match cells.get(reference) {
            Some(cell) => Arc::clone(cell),
            None => Arc::clone(cells.entry(reference.clone()).or_default()),
        }
    }

    fn forget(&self, reference: &SecretRef) {
        self.inner.cells.lock().unwrap_or_else(PoisonError::into_inner).remove(reference);
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("policy", &self.inner.policy).finish_non_exhaustive()
    }
}

fn keyring_entry<'a>(
    reference: &'a SecretRef,
    doing: &str,
) -> Result<(&'a str, &'a str), CredentialError> {
    match reference {
        SecretRef::Keyring { name, field } => Ok((name, field)),
        other => Err(CredentialError::refused(
            format!("{other}: only keyring: secrets can be {doing} by this program"),
            format!("change the secret where {}: reads it from", other.scheme()),
        )),
    }
}

/// Runs what may hang on a thread of its own.
///
/// Not the runtime's blocking threads: those are waited for when the program ends.
async fn off_thread<T: Send + 'static>(
    limit: Duration,
    reference: &SecretRef,
    work: impl FnOnce() -> Result<T, CredentialError> + Send + 'static,
) -> Result<T, CredentialError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let started = std::thread::Builder::new().name("secret".into()).spawn(move || {
        let _ = sender.send(work());
    });
    if let Err(error) = started {
        return Err(CredentialError::unavailable(
            format!(
                "{reference}: no thread to read it on: {}",
                crate::model::error::io_reason(&error)
            ),
            "the machine is out of threads or memory; fhirctl doctor shows the limits".into(),
        ));
    }
    match tokio::time::timeout(limit, receiver).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(CredentialError::failed(
            format!("{reference}: reading it failed inside this program"),
            "please report this".into(),
        )),
        Err(_) => Err(CredentialError::timeout(
            format!("{reference}: not read within {} s", limit.as_secs()),
            "is it on a network file system that does not answer?".into(),
        )),
    }
}

/// Makes a secret of bytes: checks that they are text and not empty, and takes one final newline
/// off. Wiping the bytes is left to their owner.
fn secret(bytes: &[u8], name: &str) -> Result<Secret, CredentialError> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        CredentialError::malformed(
            format!("{name}: what is there is not UTF-8 text"),
            "a secret is text; encode a binary key as PEM".into(),
        )
    })?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return Err(CredentialError::missing(
            format!("{name}: it is there but empty"),
            "put the secret there".into(),
        ));
    }
    // A new string of exactly this size: turning a larger one into a secret would move it and
    // leave a copy behind.
    Ok(Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(variables: &[(&str, &str)]) -> Credentials {
        Credentials::with_variables(Policy::default(), Variables::fixed(variables))
    }

    fn reference(text: &str) -> SecretRef {
        SecretRef::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_variable_gives_its_value() {
        let found = credentials(&[("A", "hunter2")]).resolve(&reference("env:A")).await.unwrap();
        assert_eq!(found.expose(), "hunter2");
    }

    #[tokio::test]
    async fn an_unset_and_an_empty_variable_are_missing_and_named() {
        for name in ["env:EMPTY", "env:UNSET"] {
            let error = credentials(&[("EMPTY", "")]).resolve(&reference(name)).await.unwrap_err();
            assert_eq!(error.kind, CredentialErrorKind::Missing);
            assert!(error.message.contains(name), "{}", error.message);
        }
    }

    #[tokio::test]
    async fn one_final_newline_is_taken_off_and_no_more() {
        for (written, read) in
            [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a ", "a "), ("a\nb\n", "a\nb")]
        {
            let found = secret(written.as_bytes(), "x").unwrap();
            assert_eq!(found.expose(), read);
        }
        for written in ["", "\n", "\r\n"] {
            let error = secret(written.as_bytes(), "x").unwrap_err();
            assert_eq!(error.kind, CredentialErrorKind::Missing);
        }
        let error = secret(&[0xff], "x").unwrap_err();
        assert_eq!(error.kind, CredentialErrorKind::Malformed);
    }

    #[tokio::test]
    async fn only_the_keyring_is_written_to() {
        let error = credentials(&[])
            .store(&reference("env:A"), &Secret::new("s".into()))
            .await
            .unwrap_err();
        assert_eq!(error.kind, CredentialErrorKind::Refused);
        let error = credentials(&[]).delete(&reference("file:/x")).await.unwrap_err();
        assert_eq!(error.kind, CredentialErrorKind::Refused);
    }

    #[test]
    fn debug_shows_the_policy_and_no_secret() {
        assert!(format!("{:?}", credentials(&[("A", "hunter2")])).starts_with("Credentials"));
        assert!(!format!("{:?}", credentials(&[("A", "hunter2")])).contains("hunter2"));
    }
}
