//! What is remembered of a credential: whether it was taken, how often it was refused, and until
//! when it is held back. Arithmetic only.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::Code;

/// Refusals after which a credential is held back.
const REFUSALS: u32 = 2;
/// The longest time that a credential is held back.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The record of one credential at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Name of the server in the inventory.
    #[serde(default)]
    pub server: String,
    #[serde(default)]
    pub method: String,
    /// When this very credential was first used.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// When it was last taken; `None` once it was refused.
    #[serde(default)]
    pub accepted_at: Option<Timestamp>,
    /// Refusals in a row.
    #[serde(default)]
    pub refusals: u32,
    #[serde(default)]
    pub refused_at: Option<Timestamp>,
    #[serde(default)]
    pub held_until: Option<Timestamp>,
    /// Why it was last refused.
    #[serde(default)]
    pub code: Option<String>,
}

impl Record {
    /// Whether it was taken the last time: then many may use it at once.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.accepted_at.is_some() && self.refusals == 0
    }

    /// The instant until which it is not offered; `None` when it may be.
    #[must_use]
    pub fn held_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.held_until.filter(|until| now < *until)
    }

    pub fn accept(&mut self, now: Timestamp) {
        *self = Record {
            server: std::mem::take(&mut self.server),
            method: std::mem::take(&mut self.method),
            since: self.since.or(Some(now)),
            accepted_at: Some(now),
            ..Record::default()
        };
    }

    /// One refusal more; from the second on it is held back for `breaker`, doubled with each.
    pub fn refuse(&mut self, code: Code, breaker: Duration, now: Timestamp) {
        self.refusals = self.refusals.saturating_add(1);
        self.accepted_at = None;
        self.refused_at = Some(now);
        self.code = Some(code.as_str().to_owned());
        self.since.get_or_insert(now);
        self.held_until = (self.refusals >= REFUSALS).then(|| {
            let doubled = breaker.saturating_mul(1 << (self.refusals - REFUSALS).min(16));
            now.saturating_add(doubled.min(LONGEST.max(breaker))).unwrap_or(Timestamp::MAX)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKER: Duration = Duration::from_secs(1800);

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + minute * 60).unwrap()
    }

    fn refused(minutes: &[i64]) -> Record {
        let mut record = Record::default();
        for minute in minutes {
            record.refuse(Code::new("auth.unauthorized"), BREAKER, at(*minute));
        }
        record
    }

    #[test]
    fn the_second_refusal_holds_it_back_and_each_more_doubles_the_time() {
        assert_eq!(refused(&[0]).held_until(at(0)), None);
        assert_eq!(refused(&[0, 1]).held_until(at(1)), Some(at(31)));
        assert_eq!(refused(&[0, 1]).held_until(at(31)), None);
        assert_eq!(refused(&[0, 1, 31]).held_until(at(31)), Some(at(91)));
        let many: Vec<i64> = (0..100).collect();
        assert_eq!(refused(&many).held_until(at(99)), Some(at(99 + 24 * 60)));
    }

    #[test]
    fn being_taken_clears_it_and_keeps_its_age() {
        let mut record = refused(&[0, 1]);
        record.accept(at(5));
        assert!(record.is_proven());
        assert_eq!((record.refusals, record.held_until, record.since), (0, None, Some(at(0))));
        record.refuse(Code::new("auth.unauthorized"), BREAKER, at(9));
        assert!(!record.is_proven());
        assert_eq!(record.held_until(at(9)), None);
    }
}
