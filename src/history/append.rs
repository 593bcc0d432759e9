//! Writing a run: encoded first, then one transaction.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::batch::Batch;
use super::db::on;
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
        let batch = Batch::of(run, &readings, &inner.words)?;
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
    /// Takes a run; the one before it is on the disk when this returns. Beside the writing of that one
    /// this one is encoded, and then something else is done: there is work for two processors, of which
    /// the database may need one.
    ///
    /// # Errors
    /// As [`Store::append`], for either of them.
    pub async fn push<T: Send + 'static>(
        &mut self,
        run: Run,
        readings: Vec<Reading>,
        then: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (of, words) = (run.clone(), Arc::clone(&self.words));
        let encoding = spawn_blocking(move || (ready(&of, readings, &words), then()));
        let (written, encoded) = tokio::join!(self.write(), encoding);
        written?;
        let broken = |error| Error::internal(format!("encoding readings broke off: {error}"));
        let (mut made, done) = encoded.map_err(broken)?;
        let batch = loop {
            let (readings, missing) = match made? {
                Ready::Encoded(batch) => break batch,
                Ready::Missing(readings, words) => (readings, words),
            };
            let mut inner = self.store.inner().await?;
            inner.number(missing).await?;
            self.words = Arc::new(inner.words.clone());
            drop(inner);
            let (of, words) = (run.clone(), Arc::clone(&self.words));
            let encoding = spawn_blocking(move || ready(&of, readings, &words));
            made = encoding.await.map_err(broken)?;
        };
        self.waiting = Some(batch);
        Ok(done)
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

/// What came of making readings ready.
enum Ready {
    Encoded(Batch),
    /// These words have no number yet.
    Missing(Vec<Reading>, Vec<String>),
}

fn ready(run: &Run, mut readings: Vec<Reading>, words: &Words) -> Result<Ready> {
    for reading in &mut readings {
        if let Cow::Owned(bounded) = bounded(reading) {
            *reading = bounded;
        }
    }
    let missing = words.missing(&readings);
    if missing.is_empty() {
        Batch::of(run, &readings, words).map(Ready::Encoded)
    } else {
        Ok(Ready::Missing(readings, missing))
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
