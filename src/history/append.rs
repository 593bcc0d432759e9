//! Writing a run: encoded first, then one transaction.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::coded::Coded;
use super::db::{Batch, BatchRow, on};
use super::words::{Words, bounded};
use super::{Inner, Store};
use crate::model::{Error, Origin, Reading, Result};

/// A run of the program that took readings; written once, whoever repeats it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub id: Uuid,
    /// When it is written: the day that its readings are sealed with.
    pub at: Timestamp,
    pub vantage: Option<Arc<str>>,
    pub origin: Origin,
}

impl Store {
    /// Writes the readings of a run, all or none, each the next link of its server's chain.
    ///
    /// What it returned for is on the disk. A run whose id is there already is written no second time,
    /// so whoever does not know whether a call succeeded repeats it.
    ///
    /// # Errors
    /// 74 it cannot be written, 75 the disk is full or others hold it for too long, 69 PostgreSQL is
    /// out of reach.
    pub async fn append(&self, run: &Run, readings: &[Reading]) -> Result<()> {
        let mut inner = self.inner().await?;
        let readings: Vec<Cow<'_, Reading>> = readings.iter().map(bounded).collect();
        inner.number_words(&readings).await?;
        let batch = batch(run, &readings, &inner.words)?;
        on!(&mut inner.db, db => db.append(batch).await).map(drop)
    }
}

impl Inner {
    /// Sees to it that every word has its number.
    async fn number_words(&mut self, readings: &[Cow<'_, Reading>]) -> Result<()> {
        let missing = self.words.missing(readings.iter().map(AsRef::as_ref));
        self.number(missing).await
    }

    /// Gives words their numbers; they are sorted, each once.
    pub(super) async fn number(&mut self, missing: Vec<String>) -> Result<()> {
        if !missing.is_empty() {
            for (id, text) in on!(&mut self.db, db => db.add_words(missing).await)? {
                self.words.learn(id.unsigned_abs(), &text);
            }
        }
        Ok(())
    }
}

fn batch(run: &Run, readings: &[Cow<'_, Reading>], words: &Words) -> Result<Batch> {
    let mut servers: BTreeMap<&str, usize> =
        readings.iter().map(|reading| (&*reading.server, 0)).collect();
    for (nth, place) in servers.values_mut().enumerate() {
        *place = nth;
    }
    let rows = readings.iter().map(|reading| {
        let coded = Coded::of(reading, 0, words)?;
        Some(BatchRow {
            server: servers.get(&*reading.server).copied()?,
            at: coded.at,
            text: reading.text(),
            body: coded.to_bytes(),
        })
    });
    let rows = rows.collect::<Option<Vec<_>>>();
    Ok(Batch {
        run: run.id,
        at: run.at.as_millisecond(),
        vantage: run.vantage.as_deref().map(str::to_owned),
        origin: run.origin.as_str(),
        rows: rows.ok_or_else(|| Error::internal("a word of a reading has no number"))?,
        servers: servers.into_keys().map(str::to_owned).collect(),
    })
}
