//! A PostgreSQL of the tests' own: in a temporary folder, on loopback, gone with its last user.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use fhirctl::history::{Host, Server};
use fhirctl::model::Secret;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

pub const PASSWORD: &str = "planted-database-password";

/// A running server. Over its socket everybody is let in, over TCP whoever knows the password.
pub struct Postgres {
    process: Mutex<Child>,
    folder: TempDir,
    programs: PathBuf,
    pub port: u16,
    user: Option<u32>,
    databases: AtomicU32,
}

/// The server that the tests of a process share; `None` where PostgreSQL is not installed.
pub fn shared() -> Option<Arc<Postgres>> {
    static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap();
    if let Some(running) = shared.upgrade() {
        return Some(running);
    }
    let started = Arc::new(Postgres::start(&[])?);
    *shared = Arc::downgrade(&started);
    Some(started)
}

impl Postgres {
    /// Starts one with settings of its own.
    pub fn start(settings: &[&str]) -> Option<Postgres> {
        let programs = programs()?;
        let folder = tempfile::tempdir().unwrap();
        let user = somebody();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
        own(&data, user);
        own(&folder.path().join("password"), user);
        let made = as_user(&programs.join("initdb"), user)
            .args(["--no-sync", "--username=fhirctl", "--auth-local=trust", "--encoding=UTF8"])
            .args(["--auth-host=scram-sha-256", "--locale=C", "--pwfile=../password", "--pgdata=."])
            .current_dir(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = run(&programs, &data, port, user, settings);
        let started = Postgres {
            process: Mutex::new(process),
            folder,
            programs,
            port,
            user,
            databases: AtomicU32::new(0),
        };
        started.wait();
        Some(started)
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A file that the server may read and nobody else.
    pub fn give(&self, name: &str, text: &str) {
        let path = self.data().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        own(&path, self.user);
    }

    /// A database that nobody has used yet, over the socket.
    pub fn database(&self) -> Server {
        let name = format!("history_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        Server {
            host: Host::Socket(self.data()),
            port: self.port,
            user: Some("fhirctl".into()),
            database: name,
            password: None,
            tls: false,
        }
    }

    /// The same database over TCP, with its password.
    pub fn over_tcp(&self, database: &Server) -> Server {
        Server {
            host: Host::Name("127.0.0.1".into()),
            password: Some(Secret::new(PASSWORD.into())),
            ..database.clone()
        }
    }

    /// Runs SQL as the owner and says what came of it.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = Command::new(self.programs.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--username=fhirctl"])
            .args(["--set=ON_ERROR_STOP=1", "--dbname", database, "--command", sql])
            .arg("--host")
            .arg(self.data())
            .args(["--port", &self.port.to_string()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Ends it as a crash would, and starts it again.
    pub fn crash(&self) {
        let mut process = self.process.lock().unwrap();
        kill(Pid::from_raw(process.id().try_into().unwrap()), Signal::SIGQUIT).unwrap();
        process.wait().unwrap();
        *process = run(&self.programs, &self.data(), self.port, self.user, &[]);
        drop(process);
        self.wait();
    }

    fn wait(&self) {
        let began = Instant::now();
        loop {
            let ready = Command::new(self.programs.join("pg_isready"))
                .arg("--quiet")
                .arg("--host")
                .arg(self.data())
                .args(["--port", &self.port.to_string()])
                .status()
                .unwrap();
            if ready.success() {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "PostgreSQL does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap();
        let _ = kill(Pid::from_raw(process.id().try_into().unwrap()), Signal::SIGQUIT);
        let _ = process.wait();
    }
}

fn run(programs: &Path, data: &Path, port: u16, user: Option<u32>, settings: &[&str]) -> Child {
    let mut command = as_user(&programs.join("postgres"), user);
    command.arg("-D").arg(data).arg("-k").arg(data).args(["-p", &port.to_string()]);
    command.args([
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "fsync=off",
        "-c",
        "max_connections=60",
    ]);
    for setting in settings {
        command.args(["-c", setting]);
    }
    command.current_dir(data).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Where `initdb` and its kin are: Debian keeps them out of the way.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    let all = ["initdb", "postgres", "psql", "pg_isready"];
    folders.into_iter().find(|folder| all.iter().all(|name| folder.join(name).is_file()))
}

/// PostgreSQL refuses to run as root: somebody else then, who owns nothing.
fn somebody() -> Option<u32> {
    nix::unistd::geteuid().is_root().then_some(65_534)
}

fn own(path: &Path, user: Option<u32>) {
    if user.is_some() && std::fs::metadata(path).unwrap().uid() == 0 {
        chown(path, user, user).unwrap();
    }
}

fn as_user(program: &Path, user: Option<u32>) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command
}
