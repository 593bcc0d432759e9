//! What is kept of requests: counts and a histogram, never the requests.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::http::Failure;
use crate::model::Code;

/// Latencies in microseconds, to three digits, in bounded memory.
#[derive(Clone, Debug)]
pub struct Latency(Option<Histogram<u64>>);

impl Default for Latency {
    fn default() -> Latency {
        // Fails for a number of digits above five only.
        Latency(Histogram::new(3).ok())
    }
}

impl Latency {
    pub fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(HOUR);
        if let Some(histogram) = &mut self.0 {
            let _ = histogram.record(micros);
        }
    }

    pub fn add(&mut self, other: &Latency) {
        if let (Some(mine), Some(others)) = (&mut self.0, &other.0) {
            let _ = mine.add(others);
        }
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// In milliseconds; `None` where nothing was recorded.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        self.of(|histogram| histogram.value_at_percentile(percent) as f64)
    }

    /// In milliseconds.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        self.of(Histogram::mean)
    }

    /// In milliseconds.
    #[must_use]
    pub fn min(&self) -> Option<f64> {
        self.of(|histogram| histogram.min() as f64)
    }

    /// In milliseconds.
    #[must_use]
    pub fn max(&self) -> Option<f64> {
        self.of(|histogram| histogram.max() as f64)
    }

    fn of(&self, what: impl Fn(&Histogram<u64>) -> f64) -> Option<f64> {
        let histogram = self.0.as_ref().filter(|histogram| !histogram.is_empty())?;
        Some((what(histogram)).round() / 1000.0)
    }
}

/// Nothing takes longer; in microseconds.
const HOUR: u64 = 3_600_000_000;

/// What came of one operation.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Of what was answered, with any status, and of what was waited for in vain until the timeout.
    pub latency: Latency,
    /// Answers by class: 1xx to 5xx.
    pub classes: [u64; 5],
    /// Answers with a status of 300 or above, each status apart.
    ///
    /// A redirect is not followed: whoever answers with one has not answered.
    pub refused: BTreeMap<u16, u64>,
    /// Answers that say success and are not what a good one was before the load.
    pub unlike: u64,
    /// Requests without an answer, by reason code.
    pub errors: BTreeMap<Code, u64>,
    /// The first failure of each kind, in words.
    pub samples: BTreeMap<Code, Failure>,
    /// Bytes of bodies, as they came over the wire.
    pub bytes: u64,
}

impl Tally {
    pub fn answered(&mut self, status: u16, bytes: u64, time: Duration) {
        self.latency.record(time);
        self.bytes += bytes;
        if let Some(class) = self.classes.get_mut(usize::from(status / 100).saturating_sub(1)) {
            *class += 1;
        }
        if status >= 300 {
            *self.refused.entry(status).or_default() += 1;
        }
    }

    /// An answer that says success and cannot be a good one.
    pub fn unlike(&mut self, status: u16, bytes: u64, time: Duration) {
        self.answered(status, bytes, time);
        self.unlike += 1;
    }

    pub fn failed(&mut self, failure: Failure, time: Duration) {
        // Left out, the worst would make the percentiles better.
        if failure.code == Code::new("http.timeout") {
            self.latency.record(time);
        }
        *self.errors.entry(failure.code).or_default() += 1;
        self.samples.entry(failure.code).or_insert(failure);
    }

    pub fn add(&mut self, other: &Tally) {
        self.latency.add(&other.latency);
        self.bytes += other.bytes;
        self.unlike += other.unlike;
        for (mine, others) in self.classes.iter_mut().zip(other.classes) {
            *mine += others;
        }
        for (status, count) in &other.refused {
            *self.refused.entry(*status).or_default() += count;
        }
        for (code, count) in &other.errors {
            *self.errors.entry(*code).or_default() += count;
        }
        for (code, failure) in &other.samples {
            self.samples.entry(*code).or_insert_with(|| failure.clone());
        }
    }

    /// Requests that are over, whatever came of them.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.answers() + self.errors.values().sum::<u64>()
    }

    #[must_use]
    pub fn answers(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// Requests without an answer, with a status of 300 or above, or with an answer that is none.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.errors.values().sum::<u64>() + self.refused.values().sum::<u64>() + self.unlike
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Stage;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentile(50.0), None);
        for millis in 1..=100 {
            latency.record(Duration::from_millis(millis));
        }
        for (percent, expected) in [(50.0, 50.0), (90.0, 90.0), (99.0, 99.0), (100.0, 100.0)] {
            let found = latency.percentile(percent).unwrap();
            assert!((found - expected).abs() <= expected * 0.001, "p{percent}: {found}");
        }
        assert!(latency.mean().is_some_and(|mean| (mean - 50.5).abs() < 0.1));
    }

    #[test]
    fn what_was_waited_for_in_vain_is_in_the_percentiles_and_a_refused_connection_is_not() {
        let mut tally = Tally::default();
        tally.answered(200, 10, Duration::from_millis(1));
        let failure = |code| Failure::new(Stage::Http, Code::new(code), "no");
        tally.failed(failure("http.timeout"), Duration::from_secs(30));
        tally.failed(failure("tcp.refused"), Duration::from_millis(1));
        tally.answered(503, 10, Duration::from_millis(2));
        assert_eq!(tally.latency.count(), 3);
        assert!(tally.latency.max().is_some_and(|max| max > 29_900.0));
        assert_eq!((tally.requests(), tally.answers(), tally.failures()), (4, 2, 3));
        let mut sum = Tally::default();
        sum.add(&tally);
        sum.add(&tally);
        assert_eq!((sum.requests(), sum.failures(), sum.bytes), (8, 6, 40));
        // A redirect is no answer, and neither is a page in the place of a resource.
        let mut fooled = Tally::default();
        fooled.answered(302, 0, Duration::from_millis(1));
        fooled.unlike(200, 10, Duration::from_millis(1));
        fooled.answered(200, 10, Duration::from_millis(1));
        assert_eq!((fooled.requests(), fooled.answers(), fooled.failures()), (3, 3, 2));
    }
}
