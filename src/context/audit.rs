//! The audit log as commands use it: who does what is known, and a log that cannot be written
//! warns and stops nobody.
//!
//! A change is on the disk when the call comes back. Credentials are many and are written in
//! batches: soon after they were used, when the command is done, and when it is interrupted.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::complain;
use crate::audit::{Action, Entry, Kind, Log, Outcome};
use crate::credentials::{CredentialErrorKind, Observer, Use, UseKind};
use crate::model::{Clock, Error, Exit, Result};

/// How long a credential's record waits at the most before it is written.
const SOON: Duration = Duration::from_millis(300);

/// How many wait at the most when nobody writes them.
const WAITING: usize = 100_000;

/// Set once something waits for Ctrl-C itself; then it is not for us to end the process.
static IS_STOPPED_ELSEWHERE: AtomicBool = AtomicBool::new(false);

/// The audit log of one run. Cheap to clone; clones write the same log.
#[derive(Clone)]
pub struct Audit {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None` when there is no folder for it.
    log: Option<Log>,
    clock: Clock,
    command: String,
    waiting: Mutex<Waiting>,
    /// Held while records go to the disk, so that they go in their order.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Waiting {
    entries: Vec<Entry>,
    /// What was recorded already: a server's use of a reference, and how it went.
    known: HashSet<(Option<String>, String, Outcome)>,
    has_writer: bool,
    /// Whether the last write failed: then only the end of the run tries again.
    is_broken: bool,
    has_warned: bool,
}

impl Audit {
    /// The log in the program's state folder, for a command by its words.
    #[must_use]
    pub fn new(folder: Option<PathBuf>, clock: Clock, command: &str) -> Audit {
        let log = folder.map(|folder| Log::in_folder(&folder));
        let waiting = Mutex::default();
        let command = command.to_owned();
        Audit { inner: Arc::new(Inner { log, clock, command, waiting, writing: Mutex::default() }) }
    }

    /// The log itself, for those who read it.
    ///
    /// # Errors
    /// Exit 66 when there is no folder for it.
    pub fn log(&self) -> Result<&Log> {
        self.inner.log.as_ref().ok_or_else(|| {
            Error::not_found("there is no place for an audit log")
                .hint("set XDG_STATE_HOME or HOME to a folder")
        })
    }

    /// Records what became of a change: which keys of which server, and how it went.
    ///
    /// `target` names keys or references to secrets, never values.
    pub fn outcome<T>(&self, server: Option<&str>, target: &str, result: &Result<T>) {
        self.outcomes(&[(server.map(str::to_owned), target.to_owned())], result);
    }

    /// The same for many servers at once.
    pub fn outcomes<T>(&self, changes: &[(Option<String>, String)], result: &Result<T>) {
        let (outcome, exit) = match result {
            Ok(_) => (Outcome::Done, Exit::OK),
            Err(error) => (Outcome::Failed, error.exit()),
        };
        let entry = |(server, target): &(Option<String>, String)| {
            self.change(server.clone(), target, outcome, exit, None)
        };
        self.inner.write_now(changes.iter().map(entry).collect());
    }

    /// Records that records were asked for: by types and names alone, and how it went.
    pub fn read<T>(&self, server: Option<&str>, target: &str, result: &Result<T>) {
        let (outcome, exit) = match result {
            Ok(_) => (Outcome::Done, Exit::OK),
            Err(error) => (Outcome::Failed, error.exit()),
        };
        let change = self.change(server.map(str::to_owned), target, outcome, exit, None);
        self.inner.write_now(vec![Entry { action: Action::Read, ..change }]);
    }

    /// Records a change that was not made because a test or a rule was against it.
    pub fn refused(&self, server: Option<&str>, target: &str, exit: Exit, code: Option<String>) {
        let server = server.map(str::to_owned);
        self.inner.write_now(vec![self.change(server, target, Outcome::Refused, exit, code)]);
    }

    /// What credentials tell whenever a reference is used.
    #[must_use]
    pub fn observer(&self) -> Observer {
        let audit = self.clone();
        Arc::new(move |used: &Use<'_>| audit.used(used))
    }

    /// Writes what waits. Called at the end of a command, however it ended.
    pub fn finish(&self) {
        self.inner.flush(true);
    }

    fn change(
        &self,
        server: Option<String>,
        target: &str,
        outcome: Outcome,
        exit: Exit,
        code: Option<String>,
    ) -> Entry {
        Entry {
            time: self.inner.clock.now(),
            command: self.inner.command.clone(),
            server,
            kind: Kind::Command,
            action: Action::Changed,
            target: (!target.is_empty()).then(|| target.to_owned()),
            outcome,
            exit_code: Some(exit.0),
            code,
        }
    }

    fn used(&self, used: &Use<'_>) {
        let outcome = match used.error {
            None => Outcome::Done,
            Some(CredentialErrorKind::Refused) => Outcome::Refused,
            Some(_) => Outcome::Failed,
        };
        let entry = Entry {
            time: self.inner.clock.now(),
            command: self.inner.command.clone(),
            server: used.server.map(str::to_owned),
            kind: Kind::Credential,
            action: match used.kind {
                UseKind::Resolved => Action::Resolved,
                UseKind::Stored => Action::Stored,
                UseKind::Deleted => Action::Deleted,
            },
            target: Some(used.reference.to_string()),
            outcome,
            exit_code: None,
            code: used.error.map(|_| "auth.credential_missing".to_owned()),
        };
        if used.kind == UseKind::Resolved {
            self.note(entry);
        } else {
            self.inner.write_now(vec![entry]);
        }
    }

    /// Lets a credential's record wait, once per server, reference and outcome.
    fn note(&self, entry: Entry) {
        let mut waiting = self.inner.waiting();
        let reference = entry.target.clone().unwrap_or_default();
        if !waiting.known.insert((entry.server.clone(), reference, entry.outcome)) {
            return;
        }
        waiting.entries.push(entry);
        let is_full = waiting.entries.len() > WAITING;
        if !waiting.has_writer {
            waiting.has_writer = true;
            let inner = Arc::downgrade(&self.inner);
            let thread = std::thread::Builder::new().name("audit".into());
            let (ready, begun) = std::sync::mpsc::channel();
            // Without a thread the records wait for the end of the command.
            if thread.spawn(move || write_soon(&inner, &ready)).is_ok() {
                // From here on an interrupt finds what waits.
                let _ = begun.recv_timeout(Duration::from_secs(1));
            }
        }
        drop(waiting);
        if is_full {
            self.inner.flush(true);
        }
    }
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("log", &self.inner.log).finish_non_exhaustive()
    }
}

impl Inner {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits and then these.
    fn write_now(&self, entries: Vec<Entry>) {
        if !entries.is_empty() {
            self.waiting().entries.extend(entries);
            self.flush(true);
        }
    }

    /// Writes what waits; what cannot be written is told, once, and given up.
    fn flush(&self, insist: bool) {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = {
            let mut waiting = self.waiting();
            if waiting.is_broken && !insist {
                return;
            }
            std::mem::take(&mut waiting.entries)
        };
        if entries.is_empty() {
            return;
        }
        let written = match &self.log {
            Some(log) => log.append_all(&entries),
            None => Err(Error::not_found("neither XDG_STATE_HOME nor HOME names a folder for it")),
        };
        let Err(error) = written else { return };
        let mut waiting = self.waiting();
        waiting.is_broken = true;
        let changes = entries.iter().filter(|entry| entry.kind == Kind::Command).count();
        if !insist {
            // Its place is before what came in the meantime.
            let later = std::mem::replace(&mut waiting.entries, entries);
            waiting.entries.extend(later);
            return;
        }
        // Each change that is missing is told; credentials once.
        if changes > 0 || !waiting.has_warned {
            waiting.has_warned = true;
            drop(waiting);
            warn(&error, entries.len(), changes);
        }
    }
}

/// Tells what is not in the log, with `--quiet` too: somebody will look for it there.
fn warn(error: &Error, count: usize, changes: usize) {
    let what = match (changes, count) {
        (0, 1) => "the use of a credential is not in the audit log".to_owned(),
        (0, count) => format!("the use of {count} credentials is not in the audit log"),
        (1, _) => "this change is NOT in the audit log".to_owned(),
        (changes, _) => format!("{changes} changes are NOT in the audit log"),
    };
    complain(&format!("warning: {what}: {}", error.message));
    for hint in &error.hints {
        complain(&format!("  hint: {hint}"));
    }
}

/// Writes what waits again and again, and once more when the process is interrupted.
fn write_soon(inner: &Weak<Inner>, ready: &Sender<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let mut stopped = std::pin::pin!(stop_signal());
        let _ = ready.send(());
        loop {
            tokio::select! {
                exit = &mut stopped => {
                    if let Some(inner) = inner.upgrade() {
                        inner.flush(true);
                    }
                    if IS_STOPPED_ELSEWHERE.load(Ordering::SeqCst) {
                        return;
                    }
                    end(exit);
                }
                () = tokio::time::sleep(SOON) => match inner.upgrade() {
                    Some(inner) => inner.flush(false),
                    None => return,
                },
            }
        }
    });
}

/// Says that Ctrl-C is waited for elsewhere, which ends the run in its own way.
pub(super) fn leave_stopping() {
    IS_STOPPED_ELSEWHERE.store(true, Ordering::SeqCst);
}

/// Listens from the moment it is called, not only once it is waited for.
pub(super) fn stop_signal() -> impl Future<Output = Exit> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async {
        let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => Exit::INTERRUPTED,
            _ = terminate.recv() => Exit::TERMINATED,
        }
    }
}

#[expect(clippy::exit, reason = "the signal would have ended the process; its records are written")]
fn end(exit: Exit) {
    std::process::exit(i32::from(exit.0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Filter, Record};

    fn records(audit: &Audit) -> Vec<Record> {
        let filter = Filter { last: 100, ..Filter::default() };
        audit.log().unwrap().read(&filter).unwrap().records
    }

    fn used<'a>(server: &'a str, reference: &'a str) -> Use<'a> {
        Use { server: Some(server), reference, kind: UseKind::Resolved, error: None }
    }

    #[test]
    fn a_credential_is_recorded_once_per_server_and_process() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::new(Some(dir.path().to_owned()), Clock::system(), "check");
        let observe = audit.observer();
        for server in ["a", "b", "a", "a"] {
            observe(&used(server, "env:A"));
        }
        let missing = Some(CredentialErrorKind::Missing);
        observe(&Use { error: missing, ..used("a", "env:A") });
        audit.finish();
        let told: Vec<_> = records(&audit)
            .into_iter()
            .map(|it| (it.server.unwrap(), it.outcome, it.target.unwrap(), it.command))
            .collect();
        let told: Vec<_> =
            told.iter().map(|it| (it.0.as_str(), it.1, it.2.as_str(), it.3.as_str())).collect();
        assert_eq!(
            told,
            [
                ("a", Outcome::Done, "env:A", "check"),
                ("b", Outcome::Done, "env:A", "check"),
                ("a", Outcome::Failed, "env:A", "check"),
            ]
        );
    }

    #[test]
    fn changes_come_behind_the_credentials_that_were_used_for_them() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::new(Some(dir.path().to_owned()), Clock::system(), "set");
        audit.observer()(&used("a", "env:A"));
        audit.outcome(Some("a"), "timeouts.total", &Ok(()));
        let failed: Result<()> = Err(Error::config("no"));
        audit.outcome(Some("a"), "labels", &failed);
        audit.refused(None, "url", Exit::CRITICAL, Some("tcp.refused".into()));
        let told: Vec<_> = records(&audit)
            .into_iter()
            .map(|it| (it.kind, it.outcome, it.exit_code, it.code))
            .collect();
        assert_eq!(
            told,
            [
                (Kind::Credential, Outcome::Done, None, None),
                (Kind::Command, Outcome::Done, Some(0), None),
                (Kind::Command, Outcome::Failed, Some(78), None),
                (Kind::Command, Outcome::Refused, Some(2), Some("tcp.refused".into())),
            ]
        );
    }

    #[test]
    fn a_log_without_a_place_stops_nobody() {
        let audit = Audit::new(None, Clock::system(), "set");
        audit.outcome(Some("a"), "url", &Ok(()));
        audit.finish();
        assert_eq!(audit.log().unwrap_err().exit(), Exit::NO_INPUT);
    }
}
