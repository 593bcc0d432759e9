//! Where history lies: a file, or a database on PostgreSQL.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use crate::model::{Error, Result, Secret};

/// What a store is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub place: Place,
    /// Trust for PostgreSQL over TLS; without it, a place that wants TLS cannot be reached.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Sqlite(PathBuf),
    Postgres(Server),
}

/// A database on PostgreSQL.
#[derive(Clone, Debug)]
pub struct Server {
    pub host: Host,
    pub port: u16,
    /// `None` is the user of the operating system.
    pub user: Option<String>,
    pub database: String,
    pub password: Option<Secret>,
    /// Whether the connection is encrypted and its certificate checked.
    pub tls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Name(String),
    /// The folder of a Unix socket.
    Socket(PathBuf),
}

impl PartialEq for Server {
    fn eq(&self, other: &Server) -> bool {
        let key = |s: &Server| (s.host.clone(), s.port, s.user.clone(), s.database.clone(), s.tls);
        key(self) == key(other)
    }
}

impl Eq for Server {}

impl Place {
    /// Reads `sqlite:FILE` or `postgres://user@host:port/database?sslmode=…`; a relative file is
    /// relative to `base`.
    ///
    /// # Errors
    /// Exit 78 with what is wrong with it; a password in it is refused.
    pub fn parse(text: &str, base: &Path) -> Result<Place> {
        if let Some(file) = text.strip_prefix("sqlite:") {
            let file = file.strip_prefix("//").unwrap_or(file);
            if file.is_empty() {
                return Err(Error::config("the history URL sqlite: names no file")
                    .hint("write it as sqlite:servers.history.db"));
            }
            return Ok(Place::Sqlite(base.join(file)));
        }
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            // Not shown: what is no URL may be a password.
            return Err(Error::config("a history URL begins with sqlite: or postgres://")
                .hint("write it as sqlite:FILE or postgres://user@host/database"));
        }
        let url = Url::parse(text).map_err(|error| {
            Error::config(format!("the history URL cannot be read: {error}"))
                .hint("write it as postgres://user@host:5432/database")
        })?;
        Server::parse(&url).map(Place::Postgres)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Sqlite(path) => path.display().fmt(f),
            Place::Postgres(server) => server.fmt(f),
        }
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "postgres://{name}:{}/{}", self.port, self.database),
            Host::Socket(folder) => {
                write!(f, "postgres:///{}?host={}", self.database, folder.display())
            }
        }
    }
}

impl Server {
    fn parse(url: &Url) -> Result<Server> {
        if url.password().is_some() {
            return Err(password_in_url());
        }
        let decoded = |text: &str| {
            percent(text)
                .ok_or_else(|| Error::config("the history URL holds bytes that are no text"))
        };
        let mut host = url.host_str().filter(|host| !host.is_empty()).map(str::to_owned);
        let mut port = url.port();
        let mut user = Some(decoded(url.username())?).filter(|user| !user.is_empty());
        let mut database = Some(decoded(url.path().trim_start_matches('/'))?);
        let mut mode = None;
        for (key, value) in url.query_pairs() {
            match key.as_ref() {
                "host" => host = Some(value.into_owned()),
                "port" => {
                    port = Some(value.parse().map_err(|_| {
                        Error::config(format!("{value} in the history URL is no port"))
                    })?);
                }
                "user" => user = Some(value.into_owned()),
                "dbname" => database = Some(value.into_owned()),
                "sslmode" => mode = Some(value.into_owned()),
                "password" => return Err(password_in_url()),
                other => {
                    return Err(Error::config(format!(
                        "the history URL has a parameter that is not known: {other}"
                    ))
                    .hint("known are host, port, user, dbname and sslmode"));
                }
            }
        }
        let host = match host {
            None => {
                return Err(Error::config("the history URL names no host").hint(
                    "write postgres://user@host/database, or ?host=/run/postgresql for a socket",
                ));
            }
            Some(host) if host.starts_with('/') => Host::Socket(host.into()),
            Some(host) => Host::Name(host.trim_matches(['[', ']']).to_owned()),
        };
        let database = database.filter(|name| !name.is_empty()).ok_or_else(|| {
            Error::config("the history URL names no database")
                .hint("write it as postgres://user@host/database")
        })?;
        let tls = wants_tls(mode.as_deref(), &host)?;
        Ok(Server { host, port: port.unwrap_or(5432), user, database, password: None, tls })
    }
}

fn wants_tls(mode: Option<&str>, host: &Host) -> Result<bool> {
    let is_here = match host {
        Host::Socket(_) => true,
        Host::Name(name) => {
            name == "localhost"
                || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    };
    match mode {
        None => Ok(!is_here),
        Some("disable") => Ok(false),
        Some("require" | "verify-ca" | "verify-full") => Ok(true),
        Some(other) => Err(Error::config(format!("sslmode={other} is not one that fhirctl knows"))
            .hint("use verify-full, which is the default off this machine, or disable")),
    }
}

fn password_in_url() -> Error {
    Error::config("the history URL holds a password, which would show in logs and process lists")
        .hint(
            "take it out, and refer to it in the inventory: \
         history: {url: \"postgres://user@host/database\", password: \"keyring:history/password\"}",
        )
}

fn percent(text: &str) -> Option<String> {
    // The query's own rules differ only in the plus sign, which a path keeps.
    let escaped = text.replace('+', "%2B");
    let pairs: Vec<_> = url::form_urlencoded::parse(escaped.as_bytes()).collect();
    match pairs.as_slice() {
        [] => Some(String::new()),
        [(name, value)] if value.is_empty() && !name.contains('\u{fffd}') => {
            Some(name.clone().into_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Place> {
        Place::parse(text, Path::new("/srv"))
    }

    #[test]
    fn a_file_is_relative_to_the_inventory() {
        for (text, path) in [
            ("sqlite:a.db", "/srv/a.db"),
            ("sqlite:/var/a.db", "/var/a.db"),
            ("sqlite:///var/a.db", "/var/a.db"),
        ] {
            assert_eq!(parse(text).unwrap(), Place::Sqlite(path.into()), "{text}");
        }
    }

    #[test]
    fn off_this_machine_the_connection_is_encrypted_unless_said_otherwise() {
        for (text, tls, shown) in [
            ("postgres://f@db.example.org/h", true, "postgres://db.example.org:5432/h"),
            ("postgresql://f@db:6/h?sslmode=disable", false, "postgres://db:6/h"),
            ("postgres://localhost/h", false, "postgres://localhost:5432/h"),
            ("postgres://[::1]/h?sslmode=verify-full", true, "postgres://::1:5432/h"),
            ("postgres:///h?host=/run/pg&user=me", false, "postgres:///h?host=/run/pg"),
        ] {
            let Place::Postgres(server) = parse(text).unwrap() else { panic!("{text}") };
            assert_eq!((server.tls, server.to_string().as_str()), (tls, shown), "{text}");
        }
        let Place::Postgres(server) = parse("postgres://a%2Bb@localhost/h").unwrap() else {
            panic!()
        };
        assert_eq!(server.user.as_deref(), Some("a+b"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, says) in [
            ("postgres://f:hunter2@db/h", "holds a password"),
            ("postgres://db/h?password=hunter2", "holds a password"),
            ("hunter2", "begins with"),
            ("postgres://db/", "no database"),
            ("postgres:///h", "no host"),
            ("postgres://db/h?sslmode=prefer", "sslmode=prefer"),
            ("postgres://db/h?colour=red", "not known: colour"),
            ("sqlite:", "no file"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.message.contains(says), "{text}: {error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{text}: {error:?}");
        }
    }
}
