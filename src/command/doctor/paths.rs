//! The paths: inventory, folders, files with secrets, and who may write them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{AccessFlags, access, geteuid};
use serde_json::json;

use crate::context::{Context, config_dir, state_dir, variable};
use crate::credentials::exec::inventory_trust;
use crate::credentials::file::{self, Rules};
use crate::credentials::{AGE_IDENTITY_FILE, ALLOW_READABLE_SECRETS};
use crate::model::error::io_reason;
use crate::view::doctor::Check;

pub(super) fn all(context: &Context) -> Vec<Check> {
    vec![
        inventory(context),
        exec(context),
        folder("config_dir", config_dir().as_deref(), false),
        folder("state_dir", state_dir().as_deref(), true),
        secret_files(),
    ]
}

fn inventory(context: &Context) -> Check {
    const NAME: &str = "inventory";
    let Some(path) = context.find_inventory() else {
        let places = match config_dir() {
            Some(dir) => {
                format!("neither ./servers.yaml nor {}", dir.join("servers.yaml").display())
            }
            None => "no ./servers.yaml".to_owned(),
        };
        return Check::fine(NAME, format!("none yet: {places}"))
            .hint("fhirctl init writes a first one");
    };
    let shown = path.display();
    let details = json!({"path": path});
    let check = match std::fs::File::open(&path).and_then(|file| file.metadata()) {
        Err(error) => Check::error(NAME, format!("{shown} cannot be read: {}", io_reason(&error)))
            .hint("look at the path and its permissions; --inventory FILE names another"),
        Ok(metadata) if !metadata.is_file() => Check::error(NAME, format!("{shown} is not a file"))
            .hint("--inventory FILE names another"),
        Ok(metadata) if metadata.mode() & 0o002 != 0 => Check::warning(
            NAME,
            format!("{shown} can be written by others (mode {:04o})", metadata.mode() & 0o7777),
        )
        .hint(format!("chmod o-w {shown}; who can write it decides where credentials are sent")),
        Ok(_) if access(&path, AccessFlags::W_OK).is_err() => {
            Check::fine(NAME, format!("{shown}, read-only: add and set cannot change it"))
        }
        Ok(_) => Check::fine(NAME, shown.to_string()),
    };
    check.details(details)
}

/// Whether `exec:` references would be obeyed.
fn exec(context: &Context) -> Check {
    const NAME: &str = "exec";
    let Some(path) = context.find_inventory().filter(|path| path.is_file()) else {
        return Check::fine(NAME, "no inventory that could run programs");
    };
    let used = uses_exec(&path);
    let details = |obeyed: bool| json!({"obeyed": obeyed, "used": used});
    match inventory_trust(&path) {
        Err(error) if used => {
            Check::warning(NAME, format!("exec: references are not obeyed: {}", error.message))
                .hint(error.hint)
                .details(details(false))
        }
        Err(error) => {
            Check::fine(NAME, format!("none in use; none would be obeyed: {}", error.message))
                .details(details(false))
        }
        Ok(()) if context.ci && !context.options.allow_exec => {
            Check::fine(NAME, "exec: references are not obeyed in CI without --allow-exec")
                .details(details(false))
        }
        Ok(()) => Check::fine(
            NAME,
            "exec: references are obeyed: you or root alone can write the inventory",
        )
        .details(details(true)),
    }
}

/// Whether the word stands in the file; a comment counts, which does no harm here.
fn uses_exec(path: &Path) -> bool {
    const MOST: usize = 64 * 1024 * 1024;
    file::read(path, Rules::open(MOST)).is_ok_and(|bytes| {
        const WORD: &[u8] = b"exec";
        bytes.windows(WORD.len()).any(|window| window == WORD)
    })
}

/// A folder that is made when it is first needed.
fn folder(name: &'static str, path: Option<&Path>, private: bool) -> Check {
    let Some(path) = path else {
        return Check::warning(name, "unknown: HOME is not set")
            .hint("set HOME, or XDG_CONFIG_HOME and XDG_STATE_HOME");
    };
    let shown = path.display();
    let check = match path.metadata() {
        Ok(metadata) if !metadata.is_dir() => {
            Check::error(name, format!("{shown} is not a folder")).hint("move it out of the way")
        }
        Ok(metadata) => {
            let mode = metadata.mode() & 0o7777;
            let open = if private { 0o077 } else { 0o022 };
            let foreign = metadata.uid() != geteuid().as_raw() && metadata.uid() != 0;
            if foreign {
                Check::warning(
                    name,
                    format!("{shown} belongs to another user (id {})", metadata.uid()),
                )
                .hint(format!("chown it to yourself: {shown}"))
            } else if mode & open != 0 {
                let allowed = if private { 0o700 } else { 0o755 };
                Check::warning(name, format!("{shown} is open to others (mode {mode:04o})"))
                    .hint(format!("chmod {allowed:o} {shown}"))
            } else if private && access(path, AccessFlags::W_OK).is_err() {
                Check::error(name, format!("{shown} cannot be written"))
                    .hint("chown it to yourself, or set XDG_STATE_HOME to a folder of yours")
            } else {
                Check::fine(name, format!("{shown} (mode {mode:04o})"))
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let above = path.ancestors().skip(1).find(|above| above.exists());
            let writable = above.is_some_and(|above| access(above, AccessFlags::W_OK).is_ok());
            if writable || !private {
                Check::fine(name, format!("{shown}, not there yet"))
            } else {
                Check::error(name, format!("{shown} is not there and cannot be made"))
                    .hint("set XDG_STATE_HOME to a folder of yours")
            }
        }
        Err(error) => {
            Check::error(name, format!("{shown} cannot be looked at: {}", io_reason(&error)))
                .hint("look at the permissions of the folders above it")
        }
    };
    check.details(json!({"path": path}))
}

/// The identity for `age:` and whether the permission rule of `file:` holds.
fn secret_files() -> Check {
    const NAME: &str = "secret_files";
    let lenient =
        variable(ALLOW_READABLE_SECRETS).is_some_and(|value| value == "1" || value == "true");
    let rule = if lenient {
        format!("{ALLOW_READABLE_SECRETS} lifts the permission rule of file:")
    } else {
        "file: refuses what its group can write or others can read".to_owned()
    };
    let identity = variable(AGE_IDENTITY_FILE).filter(|value| !value.is_empty());
    let details = json!({"permission_rule": !lenient, "age_identity_file": identity});
    let check = match &identity {
        None => Check::fine(NAME, format!("{rule}; no identity for age:")),
        Some(path) => match file::judge(Path::new(path), Rules::secret(lenient)) {
            Ok(()) => Check::fine(NAME, format!("{rule}; identity for age: {path}")),
            Err(error) => Check::warning(NAME, format!("{AGE_IDENTITY_FILE}: {}", error.message))
                .hint(error.hint),
        },
    };
    check.details(details)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::model::Status;

    #[test]
    fn a_private_folder_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, private, status) in [
            (0o700, true, Status::Healthy),
            (0o750, true, Status::Warning),
            (0o755, true, Status::Warning),
            (0o755, false, Status::Healthy),
            (0o777, false, Status::Warning),
        ] {
            fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            let check = folder("state_dir", Some(dir.path()), private);
            assert_eq!(check.status, status, "{mode:o}: {}", check.message);
        }
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_fine_and_a_file_in_its_place_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert_eq!(folder("state_dir", Some(&path), true).status, Status::Healthy);
        fs::write(dir.path().join("file"), "").unwrap();
        let check = folder("state_dir", Some(&dir.path().join("file")), true);
        assert_eq!(check.status, Status::Critical);
        assert_eq!(folder("state_dir", None, true).status, Status::Warning);
    }
}
