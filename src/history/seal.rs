//! Sealing finished days: the heads of all chains, digested.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::civil::Date;

use super::bytes::{pack, unpack};
use super::chain::{self, Head};
use super::db::{Mode, SealRow, ServerRow, on};
use super::{Inner, PATIENCE, Store, date_of, day_of};
use crate::model::{Error, ErrorKind, Result};

/// The seal of a day, to be put where who changes the database does not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    pub day: Date,
    /// SHA-256 over a line a server, `<name> <head in hex>`, sorted; in hex.
    pub digest: String,
    pub sealed_at: Timestamp,
}

/// What a seal says of one server: how many readings it had, and the head behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    pub server: i64,
    pub written: i64,
    pub head: Head,
    pub name: String,
}

const LEVEL: i32 = 3;

impl Store {
    /// Seals the last finished day (UTC), where it has no seal yet, and says so; the caller writes it
    /// into the audit log. A seal covers what was written until it was made, so days on which nobody
    /// sealed are covered by the next one.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn seal_days(&self, now: Timestamp) -> Result<Vec<Seal>> {
        let mut inner = self.inner().await?;
        inner.begin(Mode::Write).await?;
        let result = seal(&mut inner, now).await;
        Ok(inner.end(result).await?.into_iter().collect())
    }

    /// Whether a finished day (UTC) waits for its seal, which comes last of what is done once a day.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn is_behind(&self, now: Timestamp) -> Result<bool> {
        let today = day_of(now.as_millisecond());
        let mut inner = self.inner().await?;
        let (sealed, begun) = on!(&mut inner.db, db => db.sealed_and_begun().await)?;
        let waits = sealed.is_none_or(|day| day < today - 1);
        Ok(waits && begun.is_some_and(|at| day_of(at) < today))
    }

    /// Makes sure that nobody else does what is done once a day while this store is open; `false` where
    /// somebody does.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn claim(&self) -> Result<bool> {
        let mut inner = self.inner().await?;
        on!(&mut inner.db, db => db.claim().await)
    }

    /// The same for somebody who waits for whoever does.
    ///
    /// # Errors
    /// As [`claim`](Store::claim); 75 when it takes too long.
    pub async fn claim_patiently(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.claim().await? {
            if Instant::now() >= deadline {
                let message = format!("somebody else is at work on the history in {}", self.place);
                return Err(Error::new(ErrorKind::Resumable, message).hint(
                    "an import, or a check that packs what is over: try again when it is done",
                ));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// The seals that are kept, by day.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn seals(&self) -> Result<Vec<Seal>> {
        let mut inner = self.inner().await?;
        let rows = on!(&mut inner.db, db => db.seals().await)?;
        Ok(rows.iter().filter_map(told).collect())
    }
}

async fn seal(inner: &mut Inner, now: Timestamp) -> Result<Option<Seal>> {
    let day = day_of(now.as_millisecond()) - 1;
    let seals = on!(&mut inner.db, db => db.seals().await)?;
    if seals.last().is_some_and(|last| last.day >= day) {
        return Ok(None);
    }
    let mut servers = on!(&mut inner.db, db => db.servers().await)?;
    servers.retain(|server| server.written > 0);
    if servers.is_empty() {
        return Ok(None);
    }
    let row = SealRow {
        day,
        digest: chain::seal(servers.iter().map(|server| (server.name.as_str(), server.head))),
        sealed_at: now.as_millisecond(),
        heads: pack(heads(&servers).as_bytes(), LEVEL),
    };
    let seal = told(&row);
    let is_new = on!(&mut inner.db, db => db.put_seal(row).await)?;
    Ok(seal.filter(|_| is_new))
}

pub(super) fn told(row: &SealRow) -> Option<Seal> {
    Some(Seal {
        day: date_of(row.day)?,
        digest: chain::hex(&row.digest),
        sealed_at: Timestamp::from_millisecond(row.sealed_at).ok()?,
    })
}

/// A line a server: its number, how many readings it had, its head, its name.
fn heads(servers: &[ServerRow]) -> String {
    let line = |row: &ServerRow| {
        format!("{} {} {} {}\n", row.id, row.written, chain::hex(&row.head), row.name)
    };
    servers.iter().map(line).collect()
}

pub(super) fn read_heads(bytes: &[u8]) -> Option<Vec<Sealed>> {
    let text = String::from_utf8(unpack(bytes)?.into_owned()).ok()?;
    let line = |line: &str| {
        let mut parts = line.splitn(4, ' ');
        Some(Sealed {
            server: parts.next()?.parse().ok()?,
            written: parts.next()?.parse().ok()?,
            head: chain::unhex(parts.next()?)?,
            name: parts.next()?.to_owned(),
        })
    };
    text.lines().map(line).collect()
}
