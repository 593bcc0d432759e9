//! What did not go in, in files of its own: the resources as they were, and why.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::ledger::{Ledger, Reject};
use super::plan::broken;
use super::source::{Input, Line, Lines};
use crate::bulk::disk::{cannot_write, private_folder, sync_folder};
use crate::model::Result;

/// The resources, one a line.
pub const RESOURCES: &str = "rejected.ndjson";
/// File, line, type, status and issue codes, one a line.
pub const OUTCOMES: &str = "rejected-outcomes.ndjson";

/// Writes both files, readable for their owner alone; `false` when there is nothing to write.
///
/// They are made anew from the ledger each time, and take their names when they are whole.
///
/// # Errors
/// Exit 73 or 75 when they cannot be written, 65 or 66 when an input is not what it was.
pub fn write(
    ledger: &mut Ledger,
    inputs: &[Input],
    max_line: usize,
    folder: &Path,
) -> Result<bool> {
    let mut files: Option<(Out, Out)> = None;
    let mut source: Option<(u32, Lines)> = None;
    // Where the source stands: the line that was read last, and whether it was written.
    let mut at = 0;
    ledger.each_reject(&mut |reject| {
        let (resources, outcomes) = match &mut files {
            Some(files) => files,
            none => {
                private_folder(folder)?;
                none.insert((Out::open(folder, RESOURCES)?, Out::open(folder, OUTCOMES)?))
            }
        };
        let Some(input) = inputs.get(reject.file as usize) else { return Ok(()) };
        outcomes.line(outcome(&reject, input).to_string().as_bytes())?;
        // A deletion is in the outcomes only: it is no resource.
        if input.is_deletions {
            return Ok(());
        }
        if source.as_ref().is_none_or(|(file, _)| *file != reject.file) {
            source = Some((reject.file, Lines::open(input, max_line)?));
            at = 0;
        }
        let Some((_, lines)) = &mut source else { return Ok(()) };
        while at < reject.line {
            match lines.next_line().map_err(|error| broken(input, &error))? {
                Some((number, Line::Text(text))) => {
                    at = number;
                    if number == reject.line {
                        resources.line(text)?;
                    }
                }
                Some((number, Line::TooLong)) => at = number,
                None => return Ok(()),
            }
        }
        Ok(())
    })?;
    let Some((resources, outcomes)) = files else { return Ok(false) };
    resources.finish()?;
    outcomes.finish()?;
    sync_folder(folder)?;
    Ok(true)
}

fn outcome(reject: &Reject, input: &Input) -> serde_json::Value {
    let issues: Vec<&str> = reject.issues.split(',').filter(|code| !code.is_empty()).collect();
    json!({
        "file": input.shown,
        "line": reject.line,
        "type": reject.resource_type,
        "status": reject.status,
        "code": reject.code,
        "issues": issues,
        "message": reject.message,
    })
}

/// A file under a temporary name.
struct Out {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
}

impl Out {
    fn open(folder: &Path, name: &str) -> Result<Out> {
        let path = folder.join(name);
        let temporary = folder.join(format!(".{name}.part"));
        let _ = fs::remove_file(&temporary);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|error| cannot_write(&temporary, &error))?;
        Ok(Out { path, temporary, file: BufWriter::new(file) })
    }

    fn line(&mut self, line: &[u8]) -> Result<()> {
        let written = self.file.write_all(line).and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|error| cannot_write(&self.temporary, &error))
    }

    fn finish(mut self) -> Result<()> {
        let done = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.path));
        done.map_err(|error| cannot_write(&self.path, &error))
    }
}
