//! `file:PATH`: a file that its owner alone can write and that others cannot read.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use super::{ALLOW_READABLE_SECRETS, CredentialError, SECRET_BYTES};
use crate::model::error::io_reason;

/// Write for the group; read or write for others.
const TOO_OPEN: u32 = 0o026;

/// What a file has to be like.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    max: usize,
    private: bool,
}

impl Rules {
    /// A secret in the clear. `lenient` lifts the permission rule.
    #[must_use]
    pub fn secret(lenient: bool) -> Rules {
        Rules { max: SECRET_BYTES, private: !lenient }
    }

    /// A file of at most `max` bytes that is not secret as it lies there, such as an encrypted one.
    #[must_use]
    pub fn open(max: usize) -> Rules {
        Rules { max, private: false }
    }
}

/// Reads a whole file under rules. The bytes are wiped when they are dropped.
///
/// A symbolic link is followed and its target judged; what is judged is the file that was opened,
/// so it cannot be exchanged in between.
///
/// # Errors
/// When it is not there, not a regular file, too open, or too large.
pub fn read(path: &Path, rules: Rules) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let (file, metadata) = open(path, rules)?;
    // One more than allowed, and room for it from the start: a growing buffer leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        rules.max.min(usize::try_from(metadata.len()).unwrap_or(rules.max)) + 1,
    ));
    let limit = u64::try_from(rules.max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(|error| cannot_read(path, &error))?;
    if bytes.len() > rules.max {
        return Err(CredentialError::malformed(
            format!("{} is larger than {} KiB", path.display(), rules.max / 1024),
            "is this the right file?".into(),
        ));
    }
    Ok(bytes)
}

/// Judges a file without reading it.
///
/// # Errors
/// As [`read`], but for its size.
pub fn judge(path: &Path, rules: Rules) -> Result<(), CredentialError> {
    open(path, rules).map(|_| ())
}

fn open(path: &Path, rules: Rules) -> Result<(File, Metadata), CredentialError> {
    // O_NONBLOCK: opening a pipe would otherwise wait until someone writes to it.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(|error| cannot_read(path, &error))?;
    let metadata = file.metadata().map_err(|error| cannot_read(path, &error))?;
    if !metadata.is_file() {
        return Err(not_regular(path));
    }
    let mode = metadata.mode() & 0o7777;
    if rules.private && mode & TOO_OPEN != 0 {
        let who = match (mode & 0o020 != 0, mode & 0o002 != 0) {
            (_, true) => "others can write it",
            (true, false) => "its group can write it",
            (false, false) => "others can read it",
        };
        return Err(CredentialError::refused(
            format!("{} is not safe for a secret: {who} (mode {mode:04o})", path.display()),
            format!(
                "chmod 600 {}; where a container mounts it so, set {ALLOW_READABLE_SECRETS}=1",
                path.display()
            ),
        ));
    }
    Ok((file, metadata))
}

fn cannot_read(path: &Path, error: &std::io::Error) -> CredentialError {
    let shown = path.display();
    match error.kind() {
        ErrorKind::NotFound => CredentialError::missing(
            format!("{shown} is not there"),
            "a relative path counts from the inventory's folder".into(),
        ),
        ErrorKind::PermissionDenied => CredentialError::refused(
            format!("{shown} may not be read by this user"),
            "make this user its owner, or run as its owner".into(),
        ),
        // What opening a socket says.
        _ if error.raw_os_error() == Some(nix::errno::Errno::ENXIO as i32) => not_regular(path),
        _ => CredentialError::unavailable(
            format!("{shown} cannot be read: {}", io_reason(error)),
            "look at the file and its file system".into(),
        ),
    }
}

fn not_regular(path: &Path) -> CredentialError {
    CredentialError::refused(
        format!("{} is not a regular file", path.display()),
        "name a file; for a program's output use exec: [program, argument]".into(),
    )
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::super::CredentialErrorKind::{Malformed, Missing, Refused};
    use super::*;

    fn secret_file(mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "hunter2\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn the_mode_decides() {
        for (mode, safe) in [
            (0o600, true),
            (0o400, true),
            (0o640, true),
            (0o440, true),
            (0o700, true),
            (0o660, false),
            (0o620, false),
            (0o644, false),
            (0o604, false),
            (0o602, false),
            (0o666, false),
            (0o777, false),
        ] {
            let (_dir, path) = secret_file(mode);
            let strict = read(&path, Rules::secret(false));
            match strict {
                Ok(bytes) => assert!(safe && bytes.as_slice() == b"hunter2\n", "{mode:o}"),
                Err(error) => {
                    assert!(!safe, "{mode:o}");
                    assert_eq!(error.kind, Refused);
                    assert!(error.message.contains(&format!("{mode:04o}")), "{}", error.message);
                    assert!(!format!("{error:?}").contains("hunter2"));
                }
            }
            assert!(read(&path, Rules::secret(true)).is_ok(), "{mode:o} with the rule lifted");
        }
    }

    #[test]
    fn a_link_is_as_safe_as_its_target() {
        let (dir, path) = secret_file(0o600);
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(read(&link, Rules::secret(false)).is_ok());
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read(&link, Rules::secret(false)).unwrap_err().kind, Refused);
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [fifo.as_path(), socket.as_path(), dir.path(), Path::new("/dev/zero")] {
            let error = read(path, Rules::secret(true)).unwrap_err();
            assert_eq!(error.kind, Refused, "{}", error.message);
        }
    }

    #[test]
    fn a_missing_and_an_overlong_file_say_so() {
        let (dir, path) = secret_file(0o600);
        let error = read(&dir.path().join("none"), Rules::secret(false)).unwrap_err();
        assert_eq!(error.kind, Missing);
        fs::write(&path, vec![b'a'; SECRET_BYTES]).unwrap();
        assert_eq!(read(&path, Rules::secret(false)).unwrap().len(), SECRET_BYTES);
        fs::write(&path, vec![b'a'; SECRET_BYTES + 1]).unwrap();
        assert_eq!(read(&path, Rules::secret(false)).unwrap_err().kind, Malformed);
    }
}
