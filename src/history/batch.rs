//! A run on its way into the database, encoded but for its place in the chains.

use std::borrow::Borrow;

use foldhash::HashMap;
use uuid::Uuid;

use super::append::Run;
use super::bytes::Out;
use super::coded::Coded;
use super::words::Words;
use crate::model::{Error, Reading, Result};

#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub run: Uuid,
    /// When it is said to be written.
    pub at: i64,
    pub vantage: Option<String>,
    pub origin: &'static str,
    /// Distinct, sorted by name.
    pub servers: Vec<String>,
    rows: Vec<Placed>,
    /// Of all rows, one behind the other: tens of thousands of small buffers would take longer to get and
    /// to give back than to fill.
    texts: String,
    bodies: Out,
}

/// Where a row of a batch ends; it begins where the one before it ends.
#[derive(Clone, Copy, Debug)]
struct Placed {
    server: usize,
    at: i64,
    text_end: usize,
    body_end: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct BatchRow<'a> {
    /// Which of the batch's servers.
    pub server: usize,
    pub at: i64,
    pub text: &'a str,
    pub body: &'a [u8],
}

impl Batch {
    /// # Errors
    /// 70 when a word of theirs has no number: they are numbered before.
    pub fn of<R: Borrow<Reading>>(run: &Run, readings: &[R], words: &Words) -> Result<Batch> {
        let mut places: HashMap<&str, usize> = HashMap::default();
        for reading in readings {
            places.entry(&reading.borrow().server).or_default();
        }
        let mut servers: Vec<&str> = places.keys().copied().collect();
        servers.sort_unstable();
        for (nth, name) in servers.iter().enumerate() {
            places.insert(name, nth);
        }
        let mut batch = Batch {
            run: run.id,
            at: run.at.as_millisecond(),
            vantage: run.vantage.as_deref().map(str::to_owned),
            origin: run.origin.as_str(),
            servers: servers.into_iter().map(str::to_owned).collect(),
            rows: Vec::with_capacity(readings.len()),
            texts: String::new(),
            bodies: Out::default(),
        };
        for reading in readings {
            let reading: &Reading = reading.borrow();
            let server = places.get(&*reading.server).copied();
            server
                .and_then(|server| batch.push(server, reading, words))
                .ok_or_else(|| Error::internal("a word of a reading has no number"))?;
        }
        Ok(batch)
    }

    fn push(&mut self, server: usize, reading: &Reading, words: &Words) -> Option<()> {
        let coded = Coded::of(reading, 0, words)?;
        reading.write_text(&mut self.texts);
        coded.write(&mut self.bodies);
        let (text_end, body_end) = (self.texts.len(), self.bodies.0.len());
        self.rows.push(Placed { server, at: coded.at, text_end, body_end });
        Some(())
    }

    /// In the order in which they were given.
    pub fn rows(&self) -> impl Iterator<Item = BatchRow<'_>> {
        let (mut text_start, mut body_start) = (0, 0);
        self.rows.iter().map(move |row| {
            let text = &self.texts[text_start..row.text_end];
            let body = &self.bodies.0[body_start..row.body_end];
            (text_start, body_start) = (row.text_end, row.body_end);
            BatchRow { server: row.server, at: row.at, text, body }
        })
    }
}
