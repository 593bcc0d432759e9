//! `keyring:NAME/FIELD`: the operating system's keyring.
//!
//! On Linux this is the Secret Service (GNOME Keyring, KWallet, KeePassXC), on macOS the Keychain.
//! The kernel's own keyring is not used: it forgets at logout and refuses many processes.
//!
//! All of it happens on one helper thread. A keyring that does not answer blocks that thread and
//! nothing else: who asks is told after a few seconds, and who asks later is told at once.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use ::keyring::{Entry, Error as KeyringError};
use tokio::sync::oneshot;
use zeroize::{Zeroize as _, Zeroizing};

use super::{CredentialError, SECRET_BYTES, secret};
use crate::model::Secret;
use crate::model::text::{bounded, one_line};

#[cfg(target_os = "linux")]
mod secret_service;
#[cfg(target_os = "linux")]
use secret_service::Service;
#[cfg(not(target_os = "linux"))]
mod native;
#[cfg(not(target_os = "linux"))]
use native::Service;

/// The service that all entries of this program are filed under.
pub const SERVICE: &str = "fhirctl";

/// How long a keyring may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a person may take to unlock it.
const PROMPT_LIMIT: Duration = Duration::from_secs(60);

/// What every error about the keyring itself advises beside its own words.
const OTHER_WAYS: &str =
    "or keep the secret elsewhere: env:VARIABLE, file:PATH, exec: [program], age:FILE#FIELD";

/// How the keyring is, without reading anything from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There and unlocked.
    Present,
    /// There, but what is in it cannot be read before it is unlocked.
    Locked,
    /// There is none; with the reason.
    Absent(String),
    /// There is one, but it does not answer.
    Hanging,
}

/// How an entry stands in a keyring that answers.
enum Standing {
    Readable,
    /// The entry is there, in a locked keyring.
    Locked,
    /// It is not to be found, in a locked keyring.
    Unknown,
    /// It is not there.
    Absent,
}

/// Looks how the keyring is. Unlocks nothing, asks nobody; takes 5 s at most.
pub async fn state() -> State {
    ask(LIMIT, Service::state).await.unwrap_or_else(|state| state)
}

/// Reads an entry.
///
/// # Errors
/// Tells a missing entry, a locked, an absent and a hanging keyring apart.
pub(super) async fn get(
    name: &str,
    field: &str,
    interactive: bool,
) -> Result<Secret, CredentialError> {
    let user = format!("{name}/{field}");
    let limit = if interactive { PROMPT_LIMIT } else { LIMIT };
    let shown = format!("keyring:{user}");
    let asked = shown.clone();
    let answer = ask(limit, move |service| {
        match service.find(&user).map_err(|state| unusable(&shown, &state))? {
            Standing::Readable => {}
            // Reading it makes the keyring ask for its password.
            Standing::Locked if interactive => {}
            Standing::Locked | Standing::Unknown => return Err(unusable(&shown, &State::Locked)),
            Standing::Absent => return Err(missing(&shown)),
        }
        let bytes = entry(&user)?.get_secret().map_err(|error| failed(&shown, error))?;
        let bytes = Zeroizing::new(bytes);
        if bytes.len() > SECRET_BYTES {
            return Err(CredentialError::malformed(
                format!("{shown}: the entry is larger than 64 KiB"),
                "store the right secret".into(),
            ));
        }
        secret(&bytes, &shown)
    })
    .await;
    answer.unwrap_or_else(|state| Err(unusable(&asked, &state)))
}

/// Writes an entry, or replaces what is there.
pub(super) async fn set(
    name: &str,
    field: &str,
    secret: &Secret,
    interactive: bool,
) -> Result<(), CredentialError> {
    let secret = secret.clone();
    write(name, field, interactive, move |entry| entry.set_secret(secret.expose().as_bytes())).await
}

/// Deletes an entry; one that is not there is no error.
pub(super) async fn delete(
    name: &str,
    field: &str,
    interactive: bool,
) -> Result<(), CredentialError> {
    write(name, field, interactive, |entry| match entry.delete_credential() {
        Err(KeyringError::NoEntry) => Ok(()),
        other => other,
    })
    .await
}

async fn write(
    name: &str,
    field: &str,
    interactive: bool,
    work: impl FnOnce(&Entry) -> Result<(), KeyringError> + Send + 'static,
) -> Result<(), CredentialError> {
    let user = format!("{name}/{field}");
    let limit = if interactive { PROMPT_LIMIT } else { LIMIT };
    let shown = format!("keyring:{user}");
    let asked = shown.clone();
    let answer = ask(limit, move |service| {
        match service.state() {
            State::Present => {}
            // Writing makes the keyring ask for its password.
            State::Locked if interactive => {}
            state => return Err(unusable(&shown, &state)),
        }
        work(&entry(&user)?).map_err(|error| failed(&shown, error))
    })
    .await;
    answer.unwrap_or_else(|state| Err(unusable(&asked, &state)))
}

fn entry(user: &str) -> Result<Entry, CredentialError> {
    Entry::new(SERVICE, user).map_err(|error| failed(&format!("keyring:{user}"), error))
}

fn missing(shown: &str) -> CredentialError {
    let user = shown.trim_start_matches("keyring:");
    // The arguments are what this program files its own entries under.
    let command = if cfg!(target_os = "linux") {
        format!("secret-tool store --label=fhirctl service {SERVICE} username {user}")
    } else {
        format!("the keyring's own tool (service {SERVICE}, account {user})")
    };
    CredentialError::missing(
        format!("{shown}: the keyring holds no such entry"),
        format!("store it with {command}, {OTHER_WAYS}"),
    )
}

fn unusable(shown: &str, state: &State) -> CredentialError {
    match state {
        State::Locked => CredentialError::locked(
            format!(
                "{shown}: the keyring is locked, so the secret may be there but cannot be read"
            ),
            format!("unlock it by signing in to the desktop or with its own tool, {OTHER_WAYS}"),
        ),
        State::Absent(reason) => CredentialError::unavailable(
            format!("{shown}: this session has no keyring: {reason}"),
            format!("start a session that has one, {OTHER_WAYS}"),
        ),
        State::Hanging | State::Present => CredentialError::timeout(
            format!("{shown}: the keyring does not answer (waited {} s)", LIMIT.as_secs()),
            format!("restart it or the session bus, {OTHER_WAYS}"),
        ),
    }
}

fn failed(shown: &str, error: KeyringError) -> CredentialError {
    match error {
        KeyringError::NoEntry => missing(shown),
        KeyringError::NoStorageAccess(_) => unusable(shown, &State::Locked),
        KeyringError::Ambiguous(_) => CredentialError::malformed(
            format!("{shown}: the keyring holds several such entries"),
            format!("delete all but one (service {SERVICE}) with the keyring's own tool"),
        ),
        KeyringError::BadEncoding(mut bytes) | KeyringError::BadDataFormat(mut bytes, _) => {
            bytes.zeroize();
            CredentialError::malformed(
                format!("{shown}: what the keyring holds is no text"),
                "store it again".into(),
            )
        }
        KeyringError::PlatformFailure(reason) => {
            let reason = bounded(&one_line(&reason.to_string()), 200);
            unusable(shown, &State::Absent(reason))
        }
        other => {
            let reason = bounded(&one_line(&other.to_string()), 200);
            CredentialError::failed(
                format!("{shown}: the keyring refuses: {reason}"),
                format!("look at the keyring with its own tool, {OTHER_WAYS}"),
            )
        }
    }
}

type Job = Box<dyn FnOnce(&mut Service) + Send>;

/// The helper thread, and since when it has been at its present job.
struct Worker {
    jobs: Mutex<mpsc::Sender<Job>>,
    busy_since: Arc<Mutex<Option<Instant>>>,
}

static WORKER: LazyLock<Worker> = LazyLock::new(|| {
    let (jobs, queue) = mpsc::channel::<Job>();
    let busy_since = Arc::new(Mutex::new(None));
    let busy = Arc::clone(&busy_since);
    // When no thread can be had, the queue closes and every question is answered by `Absent`.
    let _ = std::thread::Builder::new().name("keyring".into()).spawn(move || {
        let mut service = Service::default();
        for job in queue {
            *lock(&busy) = Some(Instant::now());
            job(&mut service);
            *lock(&busy) = None;
        }
    });
    Worker { jobs: Mutex::new(jobs), busy_since }
});

impl Worker {
    fn is_stuck(&self, limit: Duration) -> bool {
        lock(&self.busy_since).is_some_and(|since| since.elapsed() >= limit)
    }
}

/// Has the helper thread do something with the keyring.
///
/// The time limit is that of one job, not of the queue: many questions at once are no hang.
async fn ask<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce(&mut Service) -> T + Send + 'static,
) -> Result<T, State> {
    if WORKER.is_stuck(limit) {
        return Err(State::Hanging);
    }
    let (sender, mut receiver) = oneshot::channel();
    let job: Job = Box::new(move |service| {
        // Nobody waits for it any more.
        if !sender.is_closed() {
            let _ = sender.send(work(service));
        }
    });
    let gone = || State::Absent("the thread that speaks to it has ended".into());
    lock(&WORKER.jobs).send(job).map_err(|_| gone())?;
    loop {
        match tokio::time::timeout(limit, &mut receiver).await {
            Ok(answer) => return answer.map_err(|_| gone()),
            Err(_) if WORKER.is_stuck(limit) => return Err(State::Hanging),
            Err(_) => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::CredentialErrorKind as Kind;
    use super::*;

    #[test]
    fn locked_absent_hanging_and_missing_are_told_apart_and_name_the_other_ways() {
        for (error, kind) in [
            (missing("keyring:a/b"), Kind::Missing),
            (unusable("keyring:a/b", &State::Locked), Kind::Locked),
            (unusable("keyring:a/b", &State::Absent("none".into())), Kind::Unavailable),
            (unusable("keyring:a/b", &State::Hanging), Kind::Timeout),
        ] {
            assert_eq!(error.kind, kind);
            assert!(error.message.contains("keyring:a/b"), "{}", error.message);
            for way in ["env:", "file:", "exec:", "age:"] {
                assert!(error.hint.contains(way), "{}", error.hint);
            }
        }
    }

    #[test]
    fn what_is_no_text_is_not_repeated() {
        let error = failed("keyring:a/b", KeyringError::BadEncoding(b"hunter2\xff".to_vec()));
        assert_eq!(error.kind, Kind::Malformed);
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn a_stuck_keyring_holds_nobody_up() {
        let (release, wait) = mpsc::channel::<()>();
        let limit = Duration::from_millis(20);
        let stuck = ask(limit, move |_| wait.recv().is_ok()).await;
        assert_eq!(stuck, Err(State::Hanging));
        assert_eq!(ask(limit, |_| ()).await, Err(State::Hanging), "told at once");
        drop(release);
        // It answers again: so are the questions.
        while ask(limit, |_| ()).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}
