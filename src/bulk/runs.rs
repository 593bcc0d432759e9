//! What is known of a job's runs: the one that has not ended, and those that later ones are held
//! against.
//!
//! One small file a job below the state folder, written whole and in one step, and a lock beside it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::disk::{cannot_write, lock_file, private_folder, sync_folder};
use crate::model::{Error, ErrorKind, Result};

/// How many places are remembered that an export failed in.
const FAILED: usize = 32;

/// A job's runs, as they are on the disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Book {
    schema: String,
    pub job: String,
    /// Absolute.
    pub inventory: PathBuf,
    pub kind: String,
    pub server: String,
    pub url: String,
    /// The run that has not ended: the next one goes on with it.
    pub pending: Option<Pending>,
    /// The last run that was complete, with counts as expected or accepted.
    pub last: Option<Good>,
    /// The one before that.
    pub before: Option<Good>,
    /// A complete run whose counts nobody has accepted yet.
    pub held: Option<Good>,
    /// How the last run of all ended.
    pub ended: Option<Ended>,
    /// Places of exports that failed for good; a new run does not go there.
    pub failed: Vec<String>,
}

/// A run that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Where it goes to, or what an import takes: with every placeholder filled in.
    pub places: Vec<String>,
    pub begun_at: Timestamp,
    /// Its deadline.
    pub due_at: Option<Timestamp>,
}

/// A run that was complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Good {
    /// The same for what is looked at again: an export's id, the number of a run of `sync`.
    pub id: String,
    pub places: Vec<String>,
    pub begun_at: Timestamp,
    pub ended_at: Timestamp,
    pub transaction_time: Option<String>,
    /// Resources by type.
    pub counts: BTreeMap<String, u64>,
}

/// How a run ended or stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub places: Vec<String>,
    pub begun_at: Timestamp,
    pub ended_at: Timestamp,
    pub verdict: String,
    pub exit_code: u8,
    pub late: bool,
    pub transaction_time: Option<String>,
}

/// A job's book, open and locked.
#[derive(Debug)]
pub struct Runs {
    path: PathBuf,
    pub book: Book,
    /// Whether the book was of another server, and begins anew.
    pub is_changed: bool,
    _lock: File,
}

/// Whose book it is.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    pub job: &'a str,
    pub inventory: &'a Path,
    pub kind: &'a str,
    pub server: &'a str,
    pub url: &'a str,
}

fn file(state: &Path, job: &str) -> PathBuf {
    state.join("jobs").join(format!("{job}.json"))
}

fn lock_of(state: &Path, job: &str) -> PathBuf {
    state.join("jobs").join(format!("{job}.lock"))
}

impl Runs {
    /// Opens the book of a job, or begins one. What was kept for another server or another kind of
    /// work is not compared with.
    ///
    /// # Errors
    /// Exit 75 when another process runs this job, 73 when a job of this name of another inventory
    /// has its book there, 65 when the book cannot be read.
    pub fn open(state: &Path, owner: Owner<'_>) -> Result<Runs> {
        private_folder(&state.join("jobs"))?;
        let lock = lock_file(&lock_of(state, owner.job), "job")?;
        let path = file(state, owner.job);
        let inventory = std::path::absolute(owner.inventory)
            .map_err(|error| Error::io("find", owner.inventory, &error))?;
        let new = Book {
            schema: "fhirctl/job-book/v1".to_owned(),
            job: owner.job.to_owned(),
            inventory: inventory.clone(),
            kind: owner.kind.to_owned(),
            server: owner.server.to_owned(),
            url: owner.url.to_owned(),
            pending: None,
            last: None,
            before: None,
            held: None,
            ended: None,
            failed: Vec::new(),
        };
        let Some(mut book) = look(state, owner.job)? else {
            return Ok(Runs { path, book: new, is_changed: false, _lock: lock });
        };
        // An inventory that is gone was moved.
        if book.inventory != inventory && book.inventory.is_file() {
            return Err(Error::new(
                ErrorKind::CannotCreate,
                format!(
                    "{} is of the job {} in {}",
                    path.display(),
                    owner.job,
                    book.inventory.display()
                ),
            )
            .hint("give one of the two jobs another name, or another XDG_STATE_HOME"));
        }
        book.inventory = inventory;
        let is_changed =
            book.kind != owner.kind || book.server != owner.server || book.url != owner.url;
        let book = if is_changed { new } else { book };
        Ok(Runs { path, book, is_changed, _lock: lock })
    }

    /// # Errors
    /// When it cannot be written.
    pub fn write(&self) -> Result<()> {
        let part = self.path.with_extension("json.part");
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&part)?;
            writeln!(file, "{:#}", json!(self.book))?;
            file.sync_all()?;
            std::fs::rename(&part, &self.path)
        };
        write().map_err(|error| cannot_write(&self.path, &error))?;
        sync_folder(self.path.parent().unwrap_or(Path::new("/")))
    }
}

impl Book {
    /// The run that a run is held against: the last good one that is not itself.
    #[must_use]
    pub fn compared(&self, id: &str) -> Option<&Good> {
        match &self.last {
            Some(last) if last.id == id => self.before.as_ref(),
            last => last.as_ref(),
        }
    }

    /// Takes a run as the one that later ones are held against.
    pub fn accept(&mut self, run: Good) {
        if self.last.as_ref().is_none_or(|last| last.id != run.id) {
            self.before = self.last.take();
        }
        self.last = Some(run);
        self.held = None;
    }

    /// Notes that the export of a place failed for good.
    pub fn fail(&mut self, place: String) {
        if !self.failed.contains(&place) {
            self.failed.push(place);
        }
        let more = self.failed.len().saturating_sub(FAILED);
        self.failed.drain(..more);
    }
}

/// The book of a job; `None` before its first run.
///
/// # Errors
/// Exit 65 when it cannot be understood, 74 when it cannot be read.
pub fn look(state: &Path, job: &str) -> Result<Option<Book>> {
    let path = file(state, job);
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| {
            Error::new(ErrorKind::Data, format!("{} cannot be read: {error}", path.display()))
                .hint("move it away: the job begins anew, without a run to compare with")
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", &path, &error)),
    }
}

/// Whether a process runs this job now.
#[must_use]
pub fn is_running(state: &Path, job: &str) -> bool {
    let Ok(file) = File::open(lock_of(state, job)) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner<'static> {
        Owner {
            job: "nightly",
            inventory: Path::new("/nowhere/servers.yaml"),
            kind: "export",
            server: "a",
            url: "https://a.example.org",
        }
    }

    fn good(place: &str, count: u64, second: i64) -> Good {
        let at = Timestamp::from_second(second).unwrap();
        Good {
            id: place.to_owned(),
            places: vec![place.to_owned()],
            begun_at: at,
            ended_at: at,
            transaction_time: None,
            counts: BTreeMap::from([("Patient".to_owned(), count)]),
        }
    }

    #[test]
    fn a_book_comes_back_as_it_was_written_and_one_process_has_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let state = tempfile::tempdir().unwrap();
        let mut runs = Runs::open(state.path(), owner()).unwrap();
        assert_eq!(look(state.path(), "nightly").unwrap(), None);
        runs.book.accept(good("x", 5, 1));
        runs.write().unwrap();
        assert!(is_running(state.path(), "nightly"));
        assert_eq!(Runs::open(state.path(), owner()).unwrap_err().exit().0, 75);
        let book = runs.book.clone();
        drop(runs);
        assert!(!is_running(state.path(), "nightly"));
        let mode = std::fs::metadata(file(state.path(), "nightly")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Runs::open(state.path(), owner()).unwrap().book, book);
        // Another server's counts are no comparison.
        let other = Runs::open(state.path(), Owner { server: "b", ..owner() }).unwrap();
        assert!(other.is_changed && other.book.last.is_none());
    }

    #[test]
    fn a_job_of_another_inventory_keeps_its_book() {
        let state = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one.yaml"), folder.path().join("two.yaml"));
        std::fs::write(&one, "").unwrap();
        Runs::open(state.path(), Owner { inventory: &one, ..owner() }).unwrap().write().unwrap();
        let error = Runs::open(state.path(), Owner { inventory: &two, ..owner() }).unwrap_err();
        assert_eq!(error.exit().0, 73);
        std::fs::remove_file(&one).unwrap();
        assert!(Runs::open(state.path(), Owner { inventory: &two, ..owner() }).is_ok());
    }

    #[test]
    fn a_run_is_never_compared_with_itself() {
        let state = tempfile::tempdir().unwrap();
        let mut book = Runs::open(state.path(), owner()).unwrap().book;
        let count = |good: Option<&Good>| good.map(|good| good.counts["Patient"]);
        assert_eq!(count(book.compared("x")), None);
        book.accept(good("x", 1, 1));
        assert_eq!(count(book.compared("x")), None);
        assert_eq!(count(book.compared("y")), Some(1));
        book.accept(good("y", 2, 2));
        // The same again, as when it had ended before.
        book.accept(good("y", 2, 3));
        assert_eq!(count(book.compared("y")), Some(1));
        assert_eq!(count(book.compared("z")), Some(2));
    }

    #[test]
    fn few_failed_places_are_remembered() {
        let state = tempfile::tempdir().unwrap();
        let mut book = Runs::open(state.path(), owner()).unwrap().book;
        (0..100).for_each(|number| book.fail(number.to_string()));
        book.fail("99".to_owned());
        assert_eq!((book.failed.len(), book.failed[FAILED - 1].as_str()), (FAILED, "99"));
    }
}
