//! Writing a run: encoded first, then one transaction.

use std::borrow::{Borrow, Cow};
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
        let missing = inner.words.missing(readings.iter().map(AsRef::as_ref));
        inner.number(missing).await?;
        let batch = batch(run, &readings, &inner.words)?;
        on!(&mut inner.db, db => db.append(batch).await).map(drop)
    }

    /// For many runs, one after the other.
    #[must_use]
    pub fn appender(&self) -> Appender<'_> {
        Appender { store: self, words: Arc::default(), waiting: None }
    }
}

/// Writes runs in the order in which they come, each while the next one is made ready.
pub struct Appender<'a> {
    store: &'a Store,
    words: Arc<Words>,
    waiting: Option<Batch>,
}

impl Appender<'_> {
    /// Takes a run; the one before it is on the disk when this returns.
    ///
    /// # Errors
    /// As [`Store::append`], for either of them.
    pub async fn push(&mut self, run: Run, readings: Vec<Reading>) -> Result<()> {
        let kept = |reading: Reading| match bounded(&reading) {
            Cow::Owned(bounded) => bounded,
            Cow::Borrowed(_) => reading,
        };
        let readings: Vec<Reading> = readings.into_iter().map(kept).collect();
        let missing = self.words.missing(&readings);
        if !missing.is_empty() {
            self.write().await?;
            let mut inner = self.store.inner().await?;
            inner.number(missing).await?;
            self.words = Arc::new(inner.words.clone());
        }
        let words = Arc::clone(&self.words);
        let ready = tokio::task::spawn_blocking(move || batch(&run, &readings, &words));
        let (written, ready) = tokio::join!(self.write(), ready);
        written?;
        let broken = |error| Error::internal(format!("encoding readings broke off: {error}"));
        self.waiting = Some(ready.map_err(broken)??);
        Ok(())
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub async fn finish(mut self) -> Result<()> {
        self.write().await
    }

    async fn write(&mut self) -> Result<()> {
        let Some(batch) = self.waiting.take() else { return Ok(()) };
        let mut inner = self.store.inner().await?;
        on!(&mut inner.db, db => db.append(batch).await).map(drop)
    }
}

impl Inner {
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

fn batch<R: Borrow<Reading>>(run: &Run, readings: &[R], words: &Words) -> Result<Batch> {
    let all = || readings.iter().map(Borrow::borrow);
    let mut servers: BTreeMap<&str, usize> = all().map(|reading| (&*reading.server, 0)).collect();
    for (nth, place) in servers.values_mut().enumerate() {
        *place = nth;
    }
    let rows = all().map(|reading: &Reading| {
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
