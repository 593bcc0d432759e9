//! The table of words: names of checks, codes, issue types and places, each kept once.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::HashMap;

use crate::model::{Detail, Reading, Sample};

/// Words by number and numbers by word, as far as they are known here.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    ids: HashMap<Arc<str>, u64>,
    texts: HashMap<u64, Arc<str>>,
}

impl Words {
    pub fn learn(&mut self, id: u64, text: &str) {
        let text: Arc<str> = text.into();
        self.ids.insert(text.clone(), id);
        self.texts.insert(id, text);
    }

    pub fn id(&self, text: &str) -> Option<u64> {
        self.ids.get(text).copied()
    }

    pub fn text(&self, id: u64) -> Option<Arc<str>> {
        self.texts.get(&id).cloned()
    }

    /// Zero is no word.
    pub fn maybe(&self, id: u64) -> Option<Option<Arc<str>>> {
        if id == 0 { Some(None) } else { self.text(id).map(Some) }
    }

    /// What these readings speak of and this table does not know, sorted.
    pub fn missing<'a>(&self, readings: impl IntoIterator<Item = &'a Reading>) -> Vec<String> {
        let mut missing = BTreeSet::new();
        let mut look = |word: &Arc<str>| {
            if !self.ids.contains_key(word) {
                missing.insert(word.to_string());
            }
        };
        for reading in readings {
            reading.code.iter().chain(&reading.vantage).for_each(&mut look);
            for sample in &reading.samples {
                look(&sample.check);
                sample.code.iter().chain(&sample.issue).for_each(&mut look);
            }
        }
        missing.into_iter().collect()
    }
}

/// The longest word, in bytes: what a server says must not fill the table.
const LONGEST_WORD: usize = 200;
/// The longest text of a detail, in bytes.
const LONGEST_TEXT: usize = 2_000;
/// The largest number: 285 years in microseconds.
const LARGEST: u64 = 1 << 53;

/// As it is kept: to the millisecond, its words and numbers bounded.
///
/// The chain is made of what comes out, so nothing is bounded behind its back.
pub(super) fn bounded(reading: &Reading) -> Cow<'_, Reading> {
    if is_bounded(reading) {
        return Cow::Borrowed(reading);
    }
    let word = |word: &Arc<str>| cut(word, LONGEST_WORD);
    let number = |number: u64| number.min(LARGEST);
    let sample = |sample: &Sample| {
        let mut sample = sample.clone();
        sample.check = word(&sample.check);
        sample.code = sample.code.as_ref().map(word);
        sample.issue = sample.issue.as_ref().map(word);
        sample.duration_us = number(sample.duration_us);
        sample.wire_bytes = number(sample.wire_bytes);
        let phases = &mut sample.phases;
        for phase in [
            &mut phases.dns_us,
            &mut phases.connect_us,
            &mut phases.tls_us,
            &mut phases.first_byte_us,
            &mut phases.transfer_us,
        ] {
            *phase = phase.map(number);
        }
        if let Some(detail) = &mut sample.detail {
            let text = |text: &Arc<str>| cut(text, LONGEST_TEXT);
            **detail = Detail {
                message: text(&detail.message),
                request_id: detail.request_id.as_ref().map(text),
                server_request_id: detail.server_request_id.as_ref().map(text),
                remote_address: detail.remote_address.as_ref().map(text),
            };
        }
        sample
    };
    Cow::Owned(Reading {
        at: crate::model::reading::to_millis(reading.at),
        vantage: reading.vantage.as_ref().map(word),
        code: reading.code.as_ref().map(word),
        duration_us: number(reading.duration_us),
        samples: reading.samples.iter().map(sample).collect(),
        ..reading.clone()
    })
}

fn is_bounded(reading: &Reading) -> bool {
    let words = |words: &[Option<&Arc<str>>], most: usize| {
        words.iter().flatten().all(|word| word.len() <= most)
    };
    reading.at.subsec_nanosecond() % 1_000_000 == 0
        && reading.duration_us <= LARGEST
        && words(&[reading.vantage.as_ref(), reading.code.as_ref()], LONGEST_WORD)
        && reading.samples.iter().all(|sample| {
            sample.duration_us.max(sample.wire_bytes) <= LARGEST
                && sample.phases.all().iter().flatten().all(|phase| *phase <= LARGEST)
                && words(
                    &[Some(&sample.check), sample.code.as_ref(), sample.issue.as_ref()],
                    LONGEST_WORD,
                )
                && sample.detail.as_ref().is_none_or(|detail| {
                    let ids = [&detail.request_id, &detail.server_request_id];
                    detail.message.len() <= LONGEST_TEXT
                        && words(&ids.map(Option::as_ref), LONGEST_TEXT)
                        && words(&[detail.remote_address.as_ref()], LONGEST_TEXT)
                })
        })
}

/// At most so many bytes, whole characters.
fn cut(text: &Arc<str>, most: usize) -> Arc<str> {
    if text.len() <= most { text.clone() } else { text[..text.floor_char_boundary(most)].into() }
}
