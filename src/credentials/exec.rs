//! `exec: [argv…]`: what a program says is the secret.
//!
//! Whoever can write the inventory can run programs as whoever reads it. So only an inventory that
//! its user or root alone can write is obeyed, and in CI only when told to.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, geteuid};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use zeroize::{Zeroize as _, Zeroizing};

use super::env::Variables;
use super::{CredentialError, Policy, SECRET_BYTES, secret};
use crate::model::error::io_reason;
use crate::model::{Secret, SecretRef};

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What children get of the environment, beside `XDG_*` and what `env:` references name.
const PASSED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// Runs a program without a shell and takes its standard output.
///
/// # Errors
/// When the inventory may not run programs, or the program is not there, fails, says nothing, says
/// too much, or takes longer than 10 s; then it and its children are ended.
pub(super) async fn read(
    argv: &[String],
    policy: &Policy,
    variables: &Variables,
) -> Result<Secret, CredentialError> {
    let name = SecretRef::Exec { argv: argv.to_vec() }.to_string();
    permitted(policy, &name)?;
    let Some((program, arguments)) = argv.split_first() else {
        return Err(CredentialError::malformed(
            "exec: names no program".into(),
            "write it as {exec: [program, argument]}".into(),
        ));
    };
    let mut command = Command::new(located(program, policy.inventory.as_deref()));
    command.args(arguments).env_clear().envs(environment(policy, variables));
    run(command, &name, LIMIT).await
}

fn permitted(policy: &Policy, name: &str) -> Result<(), CredentialError> {
    let Some(inventory) = &policy.inventory else {
        return Err(CredentialError::refused(
            format!("{name}: exec: is obeyed in an inventory only"),
            "use keyring:, env:, file: or age: here".into(),
        ));
    };
    if policy.ci && !policy.allow_exec {
        return Err(CredentialError::refused(
            format!("{name}: exec: is not obeyed in CI"),
            "--allow-exec permits it; give it only where the inventory cannot come from an untrusted change"
                .into(),
        ));
    }
    inventory_trust(inventory).map_err(|mut error| {
        error.message = format!("{name}: exec: is not obeyed here: {}", error.message);
        error
    })
}

/// Whether an inventory is written by its user or root alone, so that its `exec:` may be obeyed.
///
/// The file and every folder above it count: who can write a folder can exchange what is in it,
/// unless it is sticky.
///
/// # Errors
/// Says which file or folder is open to whom, and how to close it.
pub fn inventory_trust(path: &Path) -> Result<(), CredentialError> {
    let unreadable = |path: &Path, error: &std::io::Error| {
        CredentialError::unavailable(
            format!("{} cannot be looked at: {}", path.display(), io_reason(error)),
            "look at the path and its permissions".into(),
        )
    };
    let real = path.canonicalize().map_err(|error| unreadable(path, &error))?;
    let named = std::path::absolute(path).map_err(|error| unreadable(path, &error))?;
    // Where the name is a link, its own folder counts too.
    let folders = real.ancestors().skip(1).chain(named.ancestors().skip(1));
    for place in std::iter::once(real.as_path()).chain(folders) {
        let metadata = place.metadata().map_err(|error| unreadable(place, &error))?;
        if let Some((problem, remedy)) =
            open_to_others(metadata.uid(), metadata.mode(), metadata.is_dir(), geteuid().as_raw())
        {
            return Err(CredentialError::refused(
                format!("{} {problem}", place.display()),
                format!("{remedy} {}", place.display()),
            ));
        }
    }
    Ok(())
}

fn open_to_others(owner: u32, mode: u32, folder: bool, me: u32) -> Option<(String, &'static str)> {
    let sticky = folder && mode & 0o1000 != 0;
    let shown = mode & 0o7777;
    if owner != 0 && owner != me {
        Some((format!("belongs to another user (id {owner})"), "chown to yourself or root:"))
    } else if mode & 0o022 != 0 && !sticky {
        let who = if mode & 0o002 != 0 { "others" } else { "its group" };
        Some((format!("can be written by {who} (mode {shown:04o})"), "chmod go-w"))
    } else {
        None
    }
}

/// A program named with a relative path lies beside the inventory, as every relative path in it.
fn located(program: &str, inventory: Option<&Path>) -> PathBuf {
    let path = Path::new(program);
    match inventory.and_then(Path::parent) {
        Some(folder) if program.contains('/') && path.is_relative() => {
            let joined = folder.join(path);
            std::path::absolute(&joined).unwrap_or(joined)
        }
        _ => path.to_owned(),
    }
}

fn environment(policy: &Policy, variables: &Variables) -> Vec<(OsString, OsString)> {
    let named = PASSED.iter().map(OsString::from).chain(policy.exec_env.iter().map(OsString::from));
    named
        .chain(variables.names("XDG_"))
        .filter_map(|name| {
            let value = name.to_str().and_then(|name| variables.get(name))?;
            Some((name, value))
        })
        .collect()
}

async fn run(mut command: Command, name: &str, limit: Duration) -> Result<Secret, CredentialError> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // What a program complains about may hold what it was trusted with.
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let mut group = Group(command.spawn().map_err(|error| cannot_start(&error, name))?);
    match tokio::time::timeout(limit, group.output()).await {
        Err(_) => Err(CredentialError::timeout(
            format!("{name}: the program was ended after {} s", limit.as_secs()),
            "run it by hand; it must not ask anything, and must close its standard output".into(),
        )),
        Ok(Err(error)) => Err(CredentialError::failed(
            format!("{name}: its output cannot be read: {}", io_reason(&error)),
            "run it by hand".into(),
        )),
        Ok(Ok((bytes, _))) if bytes.len() > SECRET_BYTES => Err(CredentialError::malformed(
            format!("{name}: the program said more than 64 KiB and was ended"),
            "it has to write the secret and nothing else to its standard output".into(),
        )),
        Ok(Ok((_, Some(status)))) if !status.success() => Err(CredentialError::failed(
            format!("{name}: the program failed ({status})"),
            "run it by hand to see its own words; it gets PATH, HOME, LANG, TZ, XDG_* and what env: references name"
                .into(),
        )),
        Ok(Ok((bytes, _))) => secret(&bytes, name),
    }
}

fn cannot_start(error: &std::io::Error, name: &str) -> CredentialError {
    let (what, hint) = match error.kind() {
        ErrorKind::NotFound => (
            "there is no such program".to_owned(),
            "name it with its full path, or put its folder into PATH; is its interpreter there?",
        ),
        ErrorKind::PermissionDenied => {
            ("the program may not be run".to_owned(), "chmod +x it, or name another")
        }
        _ => (format!("the program does not start: {}", io_reason(error)), "run it by hand"),
    };
    CredentialError::failed(format!("{name}: {what}"), hint.into())
}

/// A child in a process group of its own; what is left of the group is ended unless the child
/// itself came to its end.
struct Group(Child);

impl Group {
    /// The whole output and the status; at most one byte more than a secret may have, and then no
    /// status, because the child is still there.
    async fn output(&mut self) -> std::io::Result<(Zeroizing<Vec<u8>>, Option<ExitStatus>)> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES + 1));
        if let Some(mut stdout) = self.0.stdout.take() {
            let mut piece = Zeroizing::new([0; 4096]);
            loop {
                let count = stdout.read(&mut *piece).await?;
                let room = (SECRET_BYTES + 1) - bytes.len();
                bytes.extend_from_slice(&piece[..count.min(room)]);
                piece.zeroize();
                if bytes.len() > SECRET_BYTES {
                    return Ok((bytes, None));
                }
                if count == 0 {
                    break;
                }
            }
        }
        // Waited for only now: until then the group's number cannot be given to anyone else.
        let status = self.0.wait().await?;
        Ok((bytes, Some(status)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::CredentialErrorKind::*;
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    async fn say(script: &str) -> Result<Secret, CredentialError> {
        run(shell(script), "exec:sh", Duration::from_secs(60)).await
    }

    #[tokio::test]
    async fn standard_output_is_the_secret() {
        assert_eq!(say("echo hunter2; echo noise >&2").await.unwrap().expose(), "hunter2");
        // Reading standard input ends at once.
        assert_eq!(say("cat; echo done").await.unwrap().expose(), "done");
    }

    #[tokio::test]
    async fn a_failing_silent_or_absent_program_says_so_and_repeats_nothing() {
        let error = say("echo hunter2; echo hunter2 >&2; exit 3").await.unwrap_err();
        assert_eq!(error.kind, Failed);
        assert!(error.message.contains("exit status: 3"), "{}", error.message);
        assert!(!format!("{error:?}").contains("hunter2"));
        assert_eq!(say("true").await.unwrap_err().kind, Missing);
        let absent = Command::new("/no/such/program");
        let error = run(absent, "exec:x", Duration::from_secs(60)).await.unwrap_err();
        assert!(error.message.contains("no such program"), "{}", error.message);
    }

    #[tokio::test]
    async fn output_is_bounded() {
        let exactly = format!("head -c {SECRET_BYTES} /dev/zero | tr '\\0' a");
        assert_eq!(say(&exactly).await.unwrap().expose().len(), SECRET_BYTES);
        let endless = say("exec yes").await.unwrap_err();
        assert_eq!(endless.kind, Malformed);
    }

    #[tokio::test]
    async fn a_program_that_is_given_up_is_ended_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!(
            "(sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600') & wait",
            pid.display()
        );
        let running = tokio::spawn(run(shell(&script), "exec:sh", Duration::from_secs(600)));
        while !pid.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let grandchild = fs::read_to_string(&pid).unwrap().trim().to_owned();
        running.abort();
        while alive(&grandchild) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_is_a_timeout() {
        // The shell is gone at once; its child keeps the output open.
        let error = run(shell("sleep 600 & echo a"), "exec:sh", Duration::from_millis(200)).await;
        assert_eq!(error.unwrap_err().kind, Timeout);
    }

    /// A dead process may linger as a zombie until its new parent looks.
    fn alive(pid: &str) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim().starts_with('Z'))
    }

    #[test]
    fn who_can_write_decides() {
        for (owner, mode, folder, safe) in [
            (1000, 0o644, false, true),
            (0, 0o644, false, true),
            (1000, 0o600, false, true),
            (1001, 0o600, false, false),
            (1000, 0o664, false, false),
            (1000, 0o646, false, false),
            // Sticky means nothing on a file.
            (1000, 0o1666, false, false),
            (0, 0o755, true, true),
            (0, 0o1777, true, true),
            (0, 0o777, true, false),
            (1000, 0o775, true, false),
            (1001, 0o1777, true, false),
        ] {
            assert_eq!(
                open_to_others(owner, mode, folder, 1000).is_none(),
                safe,
                "{owner} {mode:o}"
            );
        }
    }

    fn inventory(mode: u32) -> (tempfile::TempDir, Policy) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("servers.yaml");
        fs::write(&path, "version: 1\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, Policy { inventory: Some(path), ..Policy::default() })
    }

    #[test]
    fn an_inventory_that_others_can_write_runs_nothing() {
        for (mode, safe) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
            let (_dir, policy) = inventory(mode);
            assert_eq!(permitted(&policy, "exec:x").is_ok(), safe, "{mode:o}");
        }
        let (dir, policy) = inventory(0o644);
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let error = permitted(&policy, "exec:x").unwrap_err();
        assert_eq!(error.kind, Refused);
        assert!(error.hint.contains("chmod go-w"), "{}", error.hint);
        assert_eq!(permitted(&Policy::default(), "exec:x").unwrap_err().kind, Refused);
    }

    #[test]
    fn a_link_in_an_open_folder_runs_nothing() {
        let (_dir, policy) = inventory(0o600);
        let open = tempfile::tempdir().unwrap();
        fs::set_permissions(open.path(), Permissions::from_mode(0o777)).unwrap();
        let link = open.path().join("servers.yaml");
        std::os::unix::fs::symlink(policy.inventory.unwrap(), &link).unwrap();
        let policy = Policy { inventory: Some(link), ..Policy::default() };
        assert_eq!(permitted(&policy, "exec:x").unwrap_err().kind, Refused);
    }

    #[test]
    fn in_ci_it_takes_a_flag() {
        let (_dir, policy) = inventory(0o600);
        let policy = Policy { ci: true, ..policy };
        let error = permitted(&policy, "exec:x").unwrap_err();
        assert!(error.hint.contains("--allow-exec"));
        assert!(permitted(&Policy { allow_exec: true, ..policy }, "exec:x").is_ok());
    }

    #[tokio::test]
    async fn children_get_only_what_is_named() {
        let (_dir, policy) = inventory(0o600);
        let policy = Policy { exec_env: vec!["NAMED".into()], ..policy };
        let variables = Variables::fixed(&[
            ("PATH", "/usr/bin:/bin"),
            ("TZ", "UTC"),
            ("XDG_DATA_HOME", "/data"),
            ("NAMED", "yes"),
            ("OTHER", "hunter2"),
        ]);
        let argv = ["env".to_owned()];
        let found = read(&argv, &policy, &variables).await.unwrap();
        let mut lines: Vec<&str> = found.expose().lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["NAMED=yes", "PATH=/usr/bin:/bin", "TZ=UTC", "XDG_DATA_HOME=/data"]);
    }

    #[test]
    fn a_relative_program_lies_beside_the_inventory() {
        let inventory = Some(Path::new("/etc/fhirctl/servers.yaml"));
        assert_eq!(located("./get", inventory), Path::new("/etc/fhirctl/get"));
        assert_eq!(located("bin/get", inventory), Path::new("/etc/fhirctl/bin/get"));
        assert_eq!(located("/bin/get", inventory), Path::new("/bin/get"));
        assert_eq!(located("get", inventory), Path::new("get"));
    }

    #[test]
    fn names_are_looked_at_as_text_only() {
        let variables = Variables::fixed(&[("XDG_A", "1"), ("YDG_A", "2")]);
        assert_eq!(variables.names("XDG_"), [OsStr::new("XDG_A")]);
    }
}
