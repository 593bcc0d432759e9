//! The file: appended to under a lock, in one write, and never rewritten.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::record::{Action, Entry, Head, Kind, Outcome, seal};
use super::tail::Tail;
use super::who::Who;
use crate::model::error::io_reason;
use crate::model::{Error, ErrorKind, Result};

/// The log's name in the folder of the program's state.
const NAME: &str = "audit.ndjson";

/// How long another process is waited for. An append takes milliseconds; a stopped process should
/// not hang us.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a taken lock is tried again, at the most.
const PAUSE: Duration = Duration::from_millis(4);

/// How many records one write holds.
const BATCH: usize = 1000;

/// An audit log. It needs no file until something is appended.
#[derive(Clone, Debug)]
pub struct Log {
    path: PathBuf,
    who: Who,
}

impl Log {
    /// The log in a folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Log {
        Log { path: folder.join(NAME), who: Who::here() }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends records in their order, and comes back when they are on the disk. A record that a
    /// crash has torn is moved aside before, which is recorded too.
    ///
    /// # Errors
    /// Exit 73 or 74 when the log cannot be written; it ends with a whole record then, as far as
    /// the disk allows.
    pub fn append_all(&self, entries: &[Entry]) -> Result<()> {
        let Some(first) = entries.first() else { return Ok(()) };
        let (file, is_new) = self.open()?;
        let length = file.metadata().map_err(|error| self.broken("read", &error))?.len();
        let mut tail = Tail::of(&file, length).map_err(|error| self.broken("read", &error))?;
        let aside = self.sidecar("");
        if tail.end < length {
            set_aside(&file, tail.end, &aside).map_err(|error| self.broken("write", &error))?;
            file.set_len(tail.end).map_err(|error| self.broken("write", &error))?;
        }
        // It is there, too, when a run was killed between the cut and its record.
        let torn = std::fs::metadata(&aside).ok().map(|metadata| metadata.len());
        let recovery = torn.map(|bytes| {
            let name = sidecar_name(&format!("-{}", tail.head.sequence.saturating_add(1)));
            Entry {
                kind: Kind::Recovery,
                action: Action::Cut,
                server: None,
                target: Some(format!("{bytes} bytes of a torn record, kept in {name}")),
                outcome: Outcome::Done,
                exit_code: None,
                code: None,
                ..first.clone()
            }
        });
        let after_cut = tail.head.sequence.saturating_add(1);
        let mut end = tail.end;
        let all: Vec<&Entry> = recovery.iter().chain(entries).collect();
        for batch in all.chunks(BATCH) {
            let mut text = if tail.lacks_newline { "\n".to_owned() } else { String::new() };
            tail.lacks_newline = false;
            for entry in batch {
                let (line, head) = seal(entry, &self.who, &tail.head)?;
                text.push_str(&line);
                tail.head = head;
            }
            let written = (&file).write_all(text.as_bytes()).and_then(|()| file.sync_data());
            if let Err(error) = written {
                // Half a batch must not stay behind when it can be taken back.
                let _ = file.set_len(end);
                return Err(self.broken("write", &error));
            }
            end += text.len() as u64;
        }
        if torn.is_some() {
            let _ = std::fs::rename(&aside, self.sidecar(&format!("-{after_cut}")));
        }
        if is_new {
            self.sync_folder();
        }
        Ok(())
    }

    /// The last record's place in the chain; that of an empty log when there is none.
    ///
    /// # Errors
    /// Exit 74 when the log cannot be read.
    pub fn head(&self) -> Result<Head> {
        let Some((file, length)) = self.open_to_read()? else { return Ok(Head::genesis()) };
        let tail = Tail::of(&file, length).map_err(|error| self.broken("read", &error))?;
        Ok(tail.head)
    }

    /// The file and how much of it is complete; `None` when there is none. Nobody writes at the
    /// moment its length is taken.
    pub(super) fn open_to_read(&self) -> Result<Option<(File, u64)>> {
        match std::fs::metadata(&self.path) {
            // Opening a pipe would wait for somebody to write into it.
            Ok(metadata) if !metadata.is_file() => return Err(self.no_file()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            _ => {}
        }
        let file = File::open(&self.path).map_err(|error| self.broken("read", &error))?;
        self.wait(|| file.try_lock_shared())?;
        let length = file.metadata().map_err(|error| self.broken("read", &error))?.len();
        let _ = file.unlock();
        Ok(Some((file, length)))
    }

    /// Opens the log, with the lock that ends when it is closed; tells whether it was made.
    fn open(&self) -> Result<(File, bool)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (file, is_new) = self.open_once()?;
            self.wait(|| file.try_lock())?;
            let mine = file.metadata().map_err(|error| self.broken("read", &error))?;
            if !mine.is_file() {
                return Err(self.no_file());
            }
            // Somebody may have moved the log away while we waited.
            let there = std::fs::metadata(&self.path).ok();
            if there.is_some_and(|it| (it.dev(), it.ino()) == (mine.dev(), mine.ino())) {
                return Ok((file, is_new));
            }
            if Instant::now() > deadline {
                return Err(self.busy());
            }
        }
    }

    fn open_once(&self) -> Result<(File, bool)> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(0o600);
        match options.open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::cannot_create(&self.path, &error)),
            Ok(file) => return Ok((file, false)),
        }
        if let Some(folder) = self.path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|error| Error::cannot_create(folder, &error))?;
        }
        let file = options
            .create(true)
            .open(&self.path)
            .map_err(|error| Error::cannot_create(&self.path, &error))?;
        Ok((file, true))
    }

    fn wait(&self, mut lock: impl FnMut() -> std::result::Result<(), TryLockError>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                    return Err(self.busy());
                }
                Err(TryLockError::WouldBlock) => {
                    std::thread::sleep(PAUSE.mul_f64(fastrand::f64()));
                }
                Err(TryLockError::Error(error)) => return Err(self.broken("lock", &error)),
            }
        }
    }

    fn sidecar(&self, suffix: &str) -> PathBuf {
        self.path.with_file_name(sidecar_name(suffix))
    }

    /// A new file is there after a crash only when its folder was written too.
    fn sync_folder(&self) {
        if let Some(Ok(folder)) = self.path.parent().map(File::open) {
            let _ = folder.sync_all();
        }
    }

    pub(super) fn broken(&self, doing: &str, error: &io::Error) -> Error {
        Error::new(
            ErrorKind::Io,
            format!("cannot {doing} {}: {}", self.path.display(), io_reason(error)),
        )
    }

    fn no_file(&self) -> Error {
        Error::new(ErrorKind::Io, format!("{} is no regular file", self.path.display()))
    }

    fn busy(&self) -> Error {
        Error::new(
            ErrorKind::Io,
            format!("{} was locked by another process the whole time", self.path.display()),
        )
        .hint("look for a fhirctl that hangs or was stopped")
    }
}

fn sidecar_name(suffix: &str) -> String {
    format!("{NAME}.torn{suffix}")
}

/// Copies what stands behind the last whole record into a file of its own.
fn set_aside(file: &File, from: u64, aside: &Path) -> io::Result<()> {
    let length = file.metadata()?.len().saturating_sub(from);
    let mut torn = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut torn, from)?;
    let mut options = OpenOptions::new();
    let mut kept = options.read(true).append(true).create(true).mode(0o600).open(aside)?;
    let mut before = Vec::new();
    (&kept).take(length + 1).read_to_end(&mut before)?;
    // A run that was killed before it cut has copied the same already.
    if before != torn {
        kept.write_all(&torn)?;
        kept.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::record::tests::entry;
    use super::super::record::{Link, Record};
    use super::*;

    fn log(dir: &tempfile::TempDir) -> Log {
        Log::in_folder(&dir.path().join("state/fhirctl"))
    }

    fn records(log: &Log) -> Vec<Record> {
        let text = std::fs::read_to_string(log.path()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn folder_and_file_are_their_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir);
        assert_eq!(log.head().unwrap(), Head::genesis());
        log.append_all(&[]).unwrap();
        assert!(!log.path().exists(), "nothing to say makes no file");
        log.append_all(&[entry("a"), entry("b")]).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(log.path()), 0o600);
        assert_eq!(mode(log.path().parent().unwrap()), 0o700);
        assert_eq!(log.head().unwrap().sequence, 2);
    }

    #[test]
    fn writers_beside_each_other_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<Log> = (0..4).map(|_| log(&dir)).collect();
        std::thread::scope(|scope| {
            for (writer, log) in paths.iter().enumerate() {
                scope.spawn(move || {
                    for number in 0..50 {
                        log.append_all(&[entry(&format!("{writer}/{number}"))]).unwrap();
                    }
                });
            }
        });
        let records = records(&paths[0]);
        for writer in 0..4 {
            let prefix = format!("{writer}/");
            let own: Vec<&str> = records
                .iter()
                .filter_map(|record| record.target.as_deref()?.strip_prefix(&prefix))
                .collect();
            let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
            assert_eq!(own, expected);
        }
        assert!(paths[0].verify(&[]).unwrap().holds());
    }

    #[test]
    fn ten_thousand_records_in_one_go_are_one_chain() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir);
        let entries: Vec<Entry> = (0..10_000).map(|number| entry(&number.to_string())).collect();
        log.append_all(&entries).unwrap();
        let verified = log.verify(&[]).unwrap();
        assert_eq!((verified.holds(), verified.records), (true, 10_000));
    }

    #[test]
    fn a_torn_record_is_moved_aside_and_the_cut_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir);
        log.append_all(&[entry("a"), entry("b")]).unwrap();
        let text = std::fs::read(log.path()).unwrap();
        let torn = &text[..text.len() - 20];
        std::fs::write(log.path(), torn).unwrap();
        let length = torn.len() - torn.iter().position(|&byte| byte == b'\n').unwrap() - 1;
        log.append_all(&[entry("c")]).unwrap();
        let records = records(&log);
        let told: Vec<_> = records.iter().map(|it| (it.sequence, it.kind)).collect();
        assert_eq!(told, [(1, Kind::Command), (2, Kind::Recovery), (3, Kind::Command)]);
        let target = records[1].target.as_deref().unwrap();
        assert_eq!(target, format!("{length} bytes of a torn record, kept in audit.ndjson.torn-2"));
        let aside = std::fs::read(log.path().with_file_name("audit.ndjson.torn-2")).unwrap();
        assert_eq!(aside, torn[torn.len() - length..]);
        assert!(log.verify(&[]).unwrap().holds());
    }

    #[test]
    fn a_run_that_was_killed_while_it_recovered_is_finished_by_the_next() {
        for cut in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let log = log(&dir);
            log.append_all(&[entry("a")]).unwrap();
            if !cut {
                let mut file = OpenOptions::new().append(true).open(log.path()).unwrap();
                file.write_all(b"{\"seq").unwrap();
            }
            std::fs::write(log.path().with_file_name("audit.ndjson.torn"), b"{\"seq").unwrap();
            log.append_all(&[entry("b")]).unwrap();
            let records = records(&log);
            assert_eq!(records.len(), 3);
            assert!(records[1].target.as_deref().unwrap().starts_with("5 bytes"), "{records:?}");
            assert!(log.verify(&[]).unwrap().holds());
        }
    }

    #[test]
    fn a_lost_last_newline_loses_no_record() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir);
        log.append_all(&[entry("a")]).unwrap();
        let text = std::fs::read_to_string(log.path()).unwrap();
        std::fs::write(log.path(), text.trim_end()).unwrap();
        assert!(log.verify(&[]).unwrap().torn.is_none());
        log.append_all(&[entry("b")]).unwrap();
        assert_eq!(records(&log).len(), 2);
        assert!(log.verify(&[]).unwrap().holds());
    }

    #[test]
    fn an_append_after_a_changed_record_leaves_the_change_to_be_found() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir);
        log.append_all(&[entry("a")]).unwrap();
        let text = std::fs::read_to_string(log.path()).unwrap().replace("ehr", "her");
        assert!(!Link::of(text.trim_end().as_bytes()).unwrap().is_whole);
        std::fs::write(log.path(), text).unwrap();
        log.append_all(&[entry("b")]).unwrap();
        let verified = log.verify(&[]).unwrap();
        let places: Vec<_> = verified.problems.iter().map(|it| (it.line, it.sequence)).collect();
        assert_eq!(places, [(1, Some(1))]);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_with_the_place() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("state"), "a file in the way").unwrap();
        let error = log(&dir).append_all(&[entry("a")]).unwrap_err();
        assert!(error.message.contains("state/fhirctl"), "{}", error.message);
        let other = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(other.path().join("state/fhirctl/audit.ndjson")).unwrap();
        assert!(log(&other).append_all(&[entry("a")]).is_err());
        assert!(log(&other).head().is_err());
    }
}
