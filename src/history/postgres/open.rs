//! Connecting, and the layout of the database.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Config, NoTls, Socket};

use super::tls::Tls;
use super::{Line, Postgres, Raw, trouble};
use crate::history::db::Mode;
use crate::history::migrations::{self, Migration};
use crate::history::place::{Host, Server};
use crate::model::{Error, Result};

static MIGRATIONS: &[Migration] = &[
    Migration {
        version: 20_261_129,
        sql: include_str!("../migrations/postgres/20261129_readings.sql"),
    },
    Migration {
        version: 20_261_130,
        sql: include_str!("../migrations/postgres/20261130_gauges.sql"),
    },
];

/// `fhir` in ASCII: what migrations and the making of partitions wait for each other with.
pub(super) const LOCK: i64 = 0x6668_6972;
/// For the connection and the first answer.
const PATIENCE: Duration = Duration::from_secs(10);

impl Postgres {
    /// Connects. `None` when there is no history and none shall be made.
    pub async fn open(
        server: Server,
        tls: Option<Arc<rustls::ClientConfig>>,
        create: bool,
    ) -> Result<Option<Postgres>> {
        let line = connect(&server, tls.as_ref()).await?;
        let months = HashSet::new();
        let mut open = Postgres { server, tls, line, in_transaction: false, months };
        match open.version().await? {
            Some(version) => {
                let known = migrations::is_known(MIGRATIONS, version)
                    .map_err(|error| error(open.server.to_string()))?;
                if !known {
                    open.migrate().await?;
                }
            }
            None if create => open.migrate().await?,
            None => return Ok(None),
        }
        Ok(Some(open))
    }

    /// The layout that is there; `None` when there is none.
    pub(super) async fn version(&mut self) -> Result<Option<i64>> {
        let tables: Option<i64> = self
            .value(
                "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('fhirctl') \
                 AND relkind IN ('r', 'p', 'v', 'm')",
                &[],
            )
            .await?;
        if tables.unwrap_or(0) == 0 {
            return Ok(None);
        }
        let ours: Option<bool> = self
            .value("SELECT to_regclass('fhirctl.meta') IS NOT NULL AND to_regclass('fhirctl.day_seal') IS NOT NULL", &[])
            .await?;
        if ours != Some(true) {
            return Err(trouble::foreign(&self.server));
        }
        self.value("SELECT value FROM meta WHERE key = 'schema'", &[]).await
    }

    async fn migrate(&mut self) -> Result<()> {
        self.begin(Mode::Write).await?;
        let result = self.migrate_locked().await;
        match result {
            Ok(()) => self.commit().await,
            Err(error) => {
                // The first error is the one to be told.
                let _ = self.rollback().await;
                Err(error)
            }
        }
    }

    async fn migrate_locked(&mut self) -> Result<()> {
        self.run(&format!("SELECT pg_advisory_xact_lock({LOCK})")).await?;
        // Somebody else may have been first.
        let version = self.version().await?.unwrap_or(0);
        migrations::is_known(MIGRATIONS, version)
            .map_err(|error| error(self.server.to_string()))?;
        if version == 0 {
            // Who may not make one may use one that is there.
            let there: Option<bool> =
                self.value("SELECT to_regnamespace('fhirctl') IS NOT NULL", &[]).await?;
            if there != Some(true) {
                self.run("CREATE SCHEMA fhirctl").await?;
            }
        }
        for migration in migrations::missing(MIGRATIONS, version) {
            self.run(migration.sql).await?;
            let sql = "INSERT INTO meta (key, value) VALUES ('schema', $1) \
                       ON CONFLICT (key) DO UPDATE SET value = excluded.value";
            self.execute(sql, &[&migration.version]).await?;
        }
        Ok(())
    }

    pub(super) async fn run(&mut self, sql: &str) -> Result<()> {
        self.ready().await?;
        let result = self.line.client.batch_execute(sql).await;
        result.map_err(|error| self.told(&error))
    }
}

pub(super) async fn connect(
    server: &Server,
    tls: Option<&Arc<rustls::ClientConfig>>,
) -> Result<Line> {
    let mut config = Config::new();
    config
        .port(server.port)
        .dbname(&server.database)
        .application_name("fhirctl")
        .connect_timeout(PATIENCE)
        .keepalives_idle(Duration::from_secs(30));
    match &server.host {
        Host::Name(name) => config.host(name),
        Host::Socket(folder) => config.host_path(folder),
    };
    if let Some(user) = &server.user {
        config.user(user);
    }
    if let Some(password) = &server.password {
        config.password(password.expose());
    }
    let connecting = async {
        let line = if server.tls {
            let tls = tls.ok_or_else(|| trouble::no_trust(server))?;
            config.ssl_mode(SslMode::Require);
            dial(&config, Tls::new(tls)).await
        } else {
            config.ssl_mode(SslMode::Disable);
            dial(&config, NoTls).await
        };
        line.map_err(|error| trouble::told(server, &error))
    };
    match tokio::time::timeout(PATIENCE, connecting).await {
        Ok(line) => line,
        Err(_) => Err(Error::new(
            crate::model::ErrorKind::Unavailable,
            format!(
                "history in {server} cannot be reached: no answer within {} s",
                PATIENCE.as_secs()
            ),
        )
        .hint("check the address, and that no firewall is in between")),
    }
}

async fn dial<T>(config: &Config, tls: T) -> Raw<Line>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await?;
    // Its end is seen by whoever asks next.
    let task = tokio::spawn(async move { drop(connection.await) });
    let line = Line { client, task, prepared: HashMap::new() };
    // A commit that came back is on the disk, whatever the database's default is.
    line.client
        .batch_execute(
            "SET search_path = fhirctl; SET synchronous_commit = on; SET lock_timeout = '30s'; \
             SET client_min_messages = warning",
        )
        .await?;
    Ok(line)
}
