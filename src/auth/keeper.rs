//! Tokens and refusals, shared between the processes of one user.
//!
//! One file a credential in the state folder, named by a fingerprint: what happened to it (readable,
//! no secret in it), its token (sealed), and a lock. Whoever asks for a token or offers a credential
//! that is not proven holds the lock, so that twenty processes ask once, and a wrong password is
//! offered twice and no more.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::hold_back::Record;
use super::lock::{self, Lock, NotLocked};
use super::seal::{self, Seal};
use super::token::Token;
use crate::credentials::Credentials;
use crate::http::{Failure, Stage, Transport};
use crate::model::server::Server;
use crate::model::{Code, Secret, SecretRef};

/// Largest file of ours that is read back.
const FILE_BYTES: u64 = 256 * 1024;
/// How long the record of a refusal may wait for its lock.
const RECORDING: Duration = Duration::from_secs(2);

/// Keeps tokens and refusals. Cheap to clone; clones share what they know.
#[derive(Clone)]
pub struct Keeper {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None`: nothing survives the process.
    folder: Option<PathBuf>,
    credentials: Credentials,
    transport: Arc<Transport>,
    salt: OnceLock<Option<Zeroizing<Vec<u8>>>>,
    tokens: Mutex<HashMap<String, Token>>,
    /// Refusals that could not be written down.
    records: Mutex<HashMap<String, Record>>,
    /// One at a time within this process, where there is no folder for a lock.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// How new a token has to be.
#[derive(Clone, Copy, Debug)]
pub enum Freshness<'a> {
    /// Less than four fifths of its life are over.
    Usable,
    /// Usable, and obtained at most so long ago.
    AtMost(Duration),
    /// Usable, and not this one, which was refused.
    Not(&'a Token),
    /// Obtained now.
    New,
}

/// Leave to offer one credential to one place; holds its lock while it is not proven.
#[derive(Debug)]
pub struct Ticket {
    id: String,
    record: Record,
    turn: Option<Turn>,
    breaker: Duration,
}

#[derive(Debug)]
pub(super) enum Turn {
    File { _lock: Lock },
    Process { _guard: tokio::sync::OwnedMutexGuard<()> },
}

impl Keeper {
    /// `state` is the user's state folder; without one nothing survives the process.
    #[must_use]
    pub fn new(
        state: Option<PathBuf>,
        credentials: Credentials,
        transport: Arc<Transport>,
    ) -> Keeper {
        Keeper {
            inner: Arc::new(Inner {
                folder: state.map(|state| state.join("sign-in")),
                credentials,
                transport,
                salt: OnceLock::new(),
                tokens: Mutex::default(),
                records: Mutex::default(),
                turns: Mutex::default(),
            }),
        }
    }

    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.inner.credentials
    }

    #[must_use]
    pub fn transport(&self) -> &Arc<Transport> {
        &self.inner.transport
    }

    pub(super) fn now(&self) -> Timestamp {
        self.inner.transport.now()
    }

    /// A name for a credential at a place, which tells nothing of it.
    pub(super) fn id(&self, parts: &[&str]) -> String {
        // Without a salt nothing is written, and the name never leaves the process.
        seal::fingerprint(self.salt().unwrap_or(b"no state"), parts)
    }

    /// Leave to offer a credential: at once when it is proven, one process at a time when not.
    ///
    /// # Errors
    /// `auth.held_back` when it was refused twice and its time is not over, unless `by_hand`; also
    /// when another process tries it until the deadline.
    pub(super) async fn admit(
        &self,
        server: &Server,
        id: &str,
        by_hand: bool,
        deadline: Instant,
    ) -> Result<Ticket, Failure> {
        let mut ticket = Ticket {
            id: id.to_owned(),
            record: self.record(id),
            turn: None,
            breaker: server.sign_in.breaker,
        };
        if !ticket.record.is_proven() {
            self.may_offer(&ticket.record, by_hand)?;
            ticket.turn = Some(self.turn(id, deadline).await?);
            // Somebody may have tried it while we waited.
            ticket.record = self.record(id);
            self.may_offer(&ticket.record, by_hand)?;
        }
        ticket.record.server.clone_from(&server.name);
        server.auth.method().clone_into(&mut ticket.record.method);
        Ok(ticket)
    }

    /// Keeps everybody else of this user from doing the same; over when the value is dropped.
    ///
    /// # Errors
    /// `auth.held_back` when somebody else does it until the deadline.
    pub(super) async fn exclusive(&self, id: &str, deadline: Instant) -> Result<Turn, Failure> {
        self.turn(id, deadline).await
    }

    fn may_offer(&self, record: &Record, by_hand: bool) -> Result<(), Failure> {
        let now = self.now();
        let Some(until) = record.held_until(now).filter(|_| !by_hand) else { return Ok(()) };
        let minutes = (until.as_second() - now.as_second()).max(0) / 60 + 1;
        let why = record.code.as_deref().unwrap_or("refused");
        Err(Failure::new(
            Stage::Setup,
            Code::new("auth.held_back"),
            format!(
                "the credential was refused {} times ({why}) and is held back until {} (about {minutes} min)",
                record.refusals,
                until.strftime("%Y-%m-%dT%H:%M:%SZ")
            ),
        )
        .hint(format!(
            "Put the credential right, then prove it by hand: fhirctl auth test {}",
            if record.server.is_empty() { "NAME" } else { &record.server }
        )))
    }

    /// The credential was taken.
    pub(super) fn accepted(&self, ticket: &mut Ticket) {
        if !ticket.record.is_proven() {
            ticket.record.accept(self.now());
            self.write_record(&ticket.id, &ticket.record);
        }
        ticket.turn = None;
    }

    /// The credential was refused: that is written down before anybody else may try it.
    pub(super) async fn refused(&self, ticket: &mut Ticket, code: Code) {
        if ticket.turn.is_none() {
            let deadline = Instant::now() + RECORDING;
            ticket.turn = self.turn(&ticket.id, deadline).await.ok();
            let known = self.record(&ticket.id);
            ticket.record.refusals = ticket.record.refusals.max(known.refusals);
        }
        ticket.record.refuse(code, ticket.breaker, self.now());
        self.write_record(&ticket.id, &ticket.record);
        ticket.turn = None;
    }

    /// Everything that is remembered of the credentials of a server, or of all.
    #[must_use]
    pub fn records(&self, server: Option<&str>) -> Vec<Record> {
        let mut found: Vec<Record> = self
            .files("json")
            .iter()
            .filter_map(|path| read_record(path))
            .filter(|record| server.is_none_or(|name| record.server == name))
            .collect();
        found.sort_by_key(|record| record.since);
        found
    }

    /// Forgets tokens and refusals of a server; returns how many files went.
    ///
    /// # Errors
    /// When one is there and cannot be deleted.
    pub fn forget(&self, server: &str) -> std::io::Result<usize> {
        let mut gone = 0;
        for path in self.files("json") {
            if read_record(&path).is_none_or(|record| record.server != server) {
                continue;
            }
            for extension in ["token", "json"] {
                match std::fs::remove_file(path.with_extension(extension)) {
                    Ok(()) => gone += 1,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            locked(&self.inner.tokens).remove(&id);
            locked(&self.inner.records).remove(&id);
        }
        Ok(gone)
    }

    /// The token that is kept, whatever its age.
    pub(super) fn kept(&self, id: &str, seal: Option<&Seal>) -> Option<Token> {
        let own = locked(&self.inner.tokens).get(id).cloned();
        let shared = seal.and_then(|seal| {
            let sealed = read_bounded(&self.path(id, "token")?)?;
            Token::from_bytes(&seal.open(id, &sealed)?)
        });
        match (own, shared) {
            (Some(own), Some(shared)) if shared.obtained_at > own.obtained_at => Some(shared),
            (own, shared) => own.or(shared),
        }
    }

    pub(super) fn keep(&self, id: &str, token: &Token, seal: Option<&Seal>) {
        locked(&self.inner.tokens).insert(id.to_owned(), token.clone());
        let (Some(path), Some(seal)) = (self.path(id, "token"), seal) else { return };
        if let Some(sealed) = seal.close(id, &token.to_bytes()) {
            // A token that cannot be kept is asked for again: nothing is lost.
            let _ = lock::replace(&path, &sealed);
        }
    }

    /// What tokens are sealed with: the credential's own secret, which whoever may use the token
    /// has anyway; where there is none, a key of ours in the keyring, or the age identity.
    pub(super) async fn seal(&self, server: &Server, secret: Option<&Secret>) -> Option<Seal> {
        if !server.sign_in.shares_tokens || self.inner.folder.is_none() {
            return None;
        }
        let salt = self.salt()?;
        if let Some(secret) = secret {
            return Seal::new(secret, salt);
        }
        if let Some(identity) = self.inner.credentials.age_identity().await {
            return Seal::new(&identity, salt);
        }
        let reference =
            SecretRef::Keyring { name: "fhirctl".to_owned(), field: "token-seal".to_owned() };
        let held = self.inner.credentials.resolve(&reference).await;
        let key = match held {
            Ok(key) => key,
            Err(error) if error.kind == crate::credentials::CredentialErrorKind::Missing => {
                let _turn = self.turn("seal", Instant::now() + RECORDING).await.ok()?;
                let fresh: String = seal::random()?.iter().map(|it| format!("{it:02x}")).collect();
                let fresh = Secret::new(fresh);
                self.inner.credentials.store(&reference, &fresh).await.ok()?;
                fresh
            }
            Err(_) => return None,
        };
        Seal::new(&key, salt)
    }

    async fn turn(&self, id: &str, deadline: Instant) -> Result<Turn, Failure> {
        if let Some(path) = self.path(id, "lock") {
            match lock::take(&path, deadline).await {
                Ok(lock) => return Ok(Turn::File { _lock: lock }),
                Err(NotLocked::Taken) => {
                    return Err(Failure::new(
                        Stage::Setup,
                        Code::new("auth.held_back"),
                        "another process was signing in with this credential the whole time",
                    )
                    .hint("Give it longer with --timeout, or look for a process that hangs."));
                }
                // A folder that cannot be written: the process still takes its own turns.
                Err(NotLocked::Unusable) => {}
            }
        }
        let turn = Arc::clone(locked(&self.inner.turns).entry(id.to_owned()).or_default());
        let guard = turn.lock_owned().await;
        Ok(Turn::Process { _guard: guard })
    }

    fn record(&self, id: &str) -> Record {
        let written = self.path(id, "json").and_then(|path| read_record(&path));
        written.or_else(|| locked(&self.inner.records).get(id).cloned()).unwrap_or_default()
    }

    fn write_record(&self, id: &str, record: &Record) {
        locked(&self.inner.records).insert(id.to_owned(), record.clone());
        let Some(path) = self.path(id, "json") else { return };
        if let Ok(text) = serde_json::to_vec(record) {
            let _ = lock::replace(&path, &text);
        }
    }

    fn path(&self, id: &str, extension: &str) -> Option<PathBuf> {
        self.salt()?;
        Some(self.inner.folder.as_ref()?.join(format!("{id}.{extension}")))
    }

    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let Some(folder) = &self.inner.folder else { return Vec::new() };
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .collect()
    }

    /// Random bytes that make the names in this folder tell nothing; made once.
    fn salt(&self) -> Option<&[u8]> {
        let folder = self.inner.folder.as_deref()?;
        self.inner.salt.get_or_init(|| salt_of(folder)).as_ref().map(|salt| salt.as_slice())
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("folder", &self.inner.folder).finish_non_exhaustive()
    }
}

fn salt_of(folder: &Path) -> Option<Zeroizing<Vec<u8>>> {
    lock::private_folder(folder).ok()?;
    let path = folder.join("salt");
    let read = || read_bounded(&path).filter(|salt| salt.len() == 32).map(Zeroizing::new);
    if let Some(salt) = read() {
        return Some(salt);
    }
    // Written beside and linked into place: of many processes one wins, and all read the same.
    let temporary = folder.join(format!("salt.{}-{:x}.tmp", std::process::id(), fastrand::u64(..)));
    lock::replace(&temporary, &seal::random()?).ok()?;
    let _ = std::fs::hard_link(&temporary, &path);
    let _ = std::fs::remove_file(&temporary);
    read()
}

fn read_record(path: &Path) -> Option<Record> {
    serde_json::from_slice(&read_bounded(path)?).ok()
}

fn read_bounded(path: &Path) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(FILE_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
