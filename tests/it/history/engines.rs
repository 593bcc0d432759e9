//! Where the tests keep their history.

use std::sync::Arc;

use fhirctl::history::{Place, Server, Settings, Store};
use tempfile::TempDir;

use crate::postgres::{self, Postgres};

/// A history of its own, on one of the engines; gone with its last user.
#[derive(Clone)]
pub enum Engine {
    Sqlite(Arc<TempDir>),
    Postgres(Arc<Postgres>, Server),
}

/// One on SQLite and, where it is installed, one on PostgreSQL.
pub fn engines() -> Vec<Engine> {
    let mut engines = vec![sqlite()];
    engines.extend(on_postgres());
    engines
}

pub fn sqlite() -> Engine {
    Engine::Sqlite(Arc::new(tempfile::tempdir().unwrap()))
}

pub fn on_postgres() -> Option<Engine> {
    let server = postgres::shared()?;
    let database = server.database();
    Some(Engine::Postgres(server, database))
}

impl Engine {
    pub fn name(&self) -> &'static str {
        match self {
            Engine::Sqlite(_) => "sqlite",
            Engine::Postgres(..) => "postgresql",
        }
    }

    pub fn settings(&self) -> Settings {
        let place = match self {
            Engine::Sqlite(folder) => Place::Sqlite(folder.path().join("h.db")),
            Engine::Postgres(_, database) => Place::Postgres(database.clone()),
        };
        Settings { place, tls: None }
    }

    pub async fn open(&self) -> Store {
        Store::open(&self.settings()).await.unwrap()
    }

    /// Changes the database behind the store's back.
    pub fn sql(&self, sql: &str) {
        match self {
            Engine::Sqlite(folder) => {
                let connection = rusqlite::Connection::open(folder.path().join("h.db")).unwrap();
                connection.execute_batch(sql).unwrap();
            }
            Engine::Postgres(server, database) => {
                server.sql(&database.database, &format!("SET search_path = fhirctl; {sql}"));
            }
        }
    }
}
