//! What a failure of PostgreSQL means to somebody who is tired.

use std::error::Error as _;

use tokio_postgres::error::SqlState;

use crate::history::place::Server;
use crate::model::{Error, ErrorKind};

pub(super) fn told(server: &Server, error: &tokio_postgres::Error) -> Error {
    let Some(database) = error.as_db_error() else { return out_of_reach(server, error) };
    let says = format!("history in {server}: PostgreSQL says: {}", one_line(database.message()));
    let code = database.code();
    if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
    {
        return Error::credential(says)
            .hint("check the user in the history URL and the reference history.password")
            .hint("check which users and addresses pg_hba.conf lets in");
    }
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        return Error::credential(says)
            .hint("the first run makes a schema: GRANT CREATE ON DATABASE … TO …; later runs use what it made");
    }
    if *code == SqlState::INVALID_CATALOG_NAME {
        return Error::config(says).hint("make it: createdb --owner=USER DATABASE");
    }
    if *code == SqlState::DISK_FULL {
        return Error::new(ErrorKind::Resumable, says)
            .hint("make room; what was written before stays, and nothing is half written");
    }
    if *code == SqlState::LOCK_NOT_AVAILABLE {
        return Error::new(ErrorKind::Resumable, says)
            .hint("somebody holds a lock: see pg_locks, then run the same command again");
    }
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return Error::new(ErrorKind::Io, says)
            .hint("name the primary in the history URL: a replica can only be read");
    }
    let class = code.code().get(..2).unwrap_or_default();
    if matches!(class, "57" | "53" | "08") {
        return Error::new(ErrorKind::Unavailable, says);
    }
    Error::new(ErrorKind::Io, says)
}

pub(super) fn foreign(server: &Server) -> Error {
    Error::new(
        ErrorKind::Data,
        format!("history in {server}: the schema fhirctl is there and was not made by fhirctl"),
    )
    .hint("name another database in the history URL; this one is left as it is")
}

pub(super) fn no_trust(server: &Server) -> Error {
    Error::internal(format!("history in {server} wants TLS, and no trust store was handed in"))
}

/// Whether another connection may do what this one could not.
pub(super) fn is_lost(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        // Shut down, crashed, or starting up.
        Some(error) => error.code().code().starts_with("57P"),
        None => true,
    }
}

fn out_of_reach(server: &Server, error: &tokio_postgres::Error) -> Error {
    let mut reasons = vec![error.to_string()];
    let mut source = error.source();
    let mut is_tls = false;
    while let Some(error) = source {
        is_tls |= error.is::<rustls::Error>();
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            is_tls |= io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        }
        reasons.push(error.to_string());
        source = error.source();
    }
    reasons.dedup();
    let told = one_line(reasons.last().map_or("", String::as_str));
    if reasons.iter().any(|reason| reason.contains("password missing")) {
        return Error::credential(format!("history in {server} wants a password, and none is named"))
            .hint("refer to it in the inventory: history: {url: …, password: \"keyring:history/password\"}");
    }
    if reasons.iter().any(|reason| reason.contains("server does not support TLS")) {
        return Error::new(
            ErrorKind::Unavailable,
            format!("history in {server} is to be reached over TLS, and the server does not offer it"),
        )
        .hint("set ssl = on in postgresql.conf; on a network that nobody else is on, ?sslmode=disable");
    }
    let message = format!("history in {server} cannot be reached: {told}");
    let error = Error::new(ErrorKind::Unavailable, message);
    if is_tls {
        return error
            .hint("check the server's certificate and name the CA that signed it: history.ca");
    }
    error.hint("check that PostgreSQL runs there and listens on that address and port")
}

fn one_line(text: &str) -> String {
    crate::model::text::one_line(text)
}
