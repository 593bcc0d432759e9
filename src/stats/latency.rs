//! How long answers took: mean and percentiles, exactly or from sketches.
//!
//! Percentiles follow the nearest rank ([`rank`](super::sketch::rank)). Exact figures come from all
//! values; a [`Digest`] holds sum, smallest and largest exactly and its percentiles within
//! [`RELATIVE_ERROR`], and adds up, so that a month is made of its hours.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::sketch::{Encoded, RELATIVE_ERROR, Sketch, exact_quantile};
use crate::model::{Phases, Sample, Status};

/// The percentiles that are shown, as shares.
pub const SHOWN: [f64; 4] = [0.5, 0.9, 0.95, 0.99];

/// What durations come to, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Latency {
    pub count: u64,
    pub mean_ms: f64,
    pub min_ms: f64,
    pub max_ms: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    /// How far a percentile may be off, as a share of it: 0 where all values were at hand.
    pub relative_error: f64,
}

/// Durations that can be added to others, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    pub sum_us: u64,
    /// `None` while it is empty.
    min_us: Option<u64>,
    max_us: u64,
    pub sketch: Sketch,
}

/// The total of requests and their phases: of one check, or of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phased<T> {
    pub total: T,
    /// In the order of [`Phases::NAMES`].
    pub phases: [T; 5],
}

/// Durations by check, exact or not.
pub type ByCheck<T> = BTreeMap<Arc<str>, Phased<T>>;

/// What durations are collected in.
pub trait Collect: Default {
    fn add(&mut self, us: u64);
    /// `None` when there is no duration in it.
    fn latency(&mut self) -> Option<Latency>;
}

/// Exact figures of durations in microseconds, which are sorted for it. `None` when there are none.
#[must_use]
pub fn exact(values: &mut [u64]) -> Option<Latency> {
    values.sort_unstable();
    let (first, last) = (values.first()?, values.last()?);
    let sum: u128 = values.iter().map(|us| u128::from(*us)).sum();
    let [p50_ms, p90_ms, p95_ms, p99_ms] =
        SHOWN.map(|q| exact_quantile(values, q).unwrap_or_default() / 1000.0);
    Some(Latency {
        count: values.len() as u64,
        mean_ms: sum as f64 / values.len() as f64 / 1000.0,
        min_ms: *first as f64 / 1000.0,
        max_ms: *last as f64 / 1000.0,
        p50_ms,
        p90_ms,
        p95_ms,
        p99_ms,
        relative_error: 0.0,
    })
}

impl Digest {
    pub fn add(&mut self, us: u64) {
        self.sum_us = self.sum_us.saturating_add(us);
        self.min_us = Some(self.min_us.map_or(us, |min| min.min(us)));
        self.max_us = self.max_us.max(us);
        self.sketch.add(us);
    }

    pub fn merge(&mut self, other: &Digest) {
        if let Some(min_us) = other.min_us {
            self.widen(other.sum_us, min_us, other.max_us);
            self.sketch.merge(&other.sketch);
        }
    }

    /// Adds what a roll-up keeps of another one.
    pub fn absorb(&mut self, sum_us: u64, min_us: u64, max_us: u64, sketch: Encoded<'_>) {
        self.widen(sum_us, min_us, max_us);
        self.sketch.merge_encoded(sketch);
    }

    fn widen(&mut self, sum_us: u64, min_us: u64, max_us: u64) {
        self.sum_us = self.sum_us.saturating_add(sum_us);
        self.min_us = Some(self.min_us.map_or(min_us, |min| min.min(min_us)));
        self.max_us = self.max_us.max(max_us);
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.sketch.count()
    }

    /// The smallest; `None` when it is empty.
    #[must_use]
    pub fn min_us(&self) -> Option<u64> {
        self.min_us
    }

    /// The largest; `None` when it is empty.
    #[must_use]
    pub fn max_us(&self) -> Option<u64> {
        self.min_us.map(|_| self.max_us)
    }

    /// `None` when it is empty.
    #[must_use]
    pub fn latency(&self) -> Option<Latency> {
        let (min, max) = (self.min_us? as f64, self.max_us as f64);
        // The middle of the first or last bucket may lie beyond what was seen.
        let percentile = |q| Some(self.sketch.quantile(q)?.clamp(min, max.max(min)) / 1000.0);
        Some(Latency {
            count: self.count(),
            mean_ms: self.sum_us as f64 / self.count() as f64 / 1000.0,
            min_ms: min / 1000.0,
            max_ms: max / 1000.0,
            p50_ms: percentile(0.5)?,
            p90_ms: percentile(0.9)?,
            p95_ms: percentile(0.95)?,
            p99_ms: percentile(0.99)?,
            relative_error: RELATIVE_ERROR,
        })
    }
}

impl Collect for Digest {
    fn add(&mut self, us: u64) {
        Digest::add(self, us);
    }

    fn latency(&mut self) -> Option<Latency> {
        Digest::latency(self)
    }
}

impl Collect for Vec<u64> {
    fn add(&mut self, us: u64) {
        self.push(us);
    }

    fn latency(&mut self) -> Option<Latency> {
        exact(self)
    }
}

impl<T: Collect> Phased<T> {
    pub fn add(&mut self, total_us: u64, phases: &Phases) {
        self.total.add(total_us);
        for (phase, us) in self.phases.iter_mut().zip(phases.all()) {
            if let Some(us) = us {
                phase.add(us);
            }
        }
    }

    /// The figures of the total, then of each phase by its name; phases that never happened are left
    /// out.
    pub fn latencies(&mut self) -> Vec<(&'static str, Latency)> {
        let total = self.total.latency().map(|total| ("total", total));
        let phases = Phases::NAMES.into_iter().zip(&mut self.phases);
        let phases = phases.filter_map(|(name, phase)| Some((name, phase.latency()?)));
        total.into_iter().chain(phases).collect()
    }
}

impl Phased<Digest> {
    pub fn merge(&mut self, other: &Phased<Digest>) {
        self.total.merge(&other.total);
        for (mine, theirs) in self.phases.iter_mut().zip(&other.phases) {
            mine.merge(theirs);
        }
    }
}

/// Adds a sample to its check. One that asked nothing has no duration: see [`took_time`].
pub fn add<T: Collect>(by_check: &mut ByCheck<T>, sample: &Sample) {
    if !took_time(sample) {
        return;
    }
    if let Some(known) = by_check.get_mut(&sample.check) {
        known.add(sample.duration_us, &sample.phases);
    } else {
        let new = by_check.entry(sample.check.clone()).or_default();
        new.add(sample.duration_us, &sample.phases);
    }
}

/// Whether a sample says how long an answer takes: one of a check that was skipped, did not apply, or
/// failed before there was an answer does not. A refused connection is quick, and a timeout takes as
/// long as it was set to; neither is a response time. Nor is no time at all: it was not measured.
#[must_use]
pub fn took_time(sample: &Sample) -> bool {
    let left_out = matches!(sample.code.as_deref(), Some("check.skipped" | "check.not_applicable"));
    let answered = sample.http_status.is_some()
        // Histories of other programs do not tell the HTTP status.
        || matches!(sample.status, Status::Healthy | Status::Warning);
    answered && !left_out && sample.duration_us > 0
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn exact_figures_follow_the_nearest_rank() {
        let mut values: Vec<u64> = (1..=100).rev().map(|ms| ms * 1000).collect();
        let found = exact(&mut values).unwrap();
        assert_eq!(
            (found.count, found.mean_ms, found.min_ms, found.max_ms),
            (100, 50.5, 1.0, 100.0)
        );
        assert_eq!(
            (found.p50_ms, found.p90_ms, found.p95_ms, found.p99_ms),
            (50.0, 90.0, 95.0, 99.0)
        );
        assert_eq!(exact(&mut []), None);
        assert_eq!(Digest::default().latency(), None);
    }

    #[test]
    fn phases_that_did_not_happen_have_no_figures() {
        let mut phased: Phased<Vec<u64>> = Phased::default();
        let phases = Phases { dns_us: Some(1000), transfer_us: Some(5000), ..Phases::default() };
        phased.add(9000, &phases);
        phased.add(7000, &Phases { transfer_us: Some(3000), ..Phases::default() });
        let found: Vec<_> = phased
            .latencies()
            .into_iter()
            .map(|(name, latency)| (name, latency.count, latency.mean_ms))
            .collect();
        assert_eq!(found, [("total", 2, 8.0), ("dns", 1, 1.0), ("transfer", 2, 4.0)]);
    }

    #[test]
    fn only_answers_have_a_response_time() {
        for (status, code, http_status, expected) in [
            (Status::Healthy, None, Some(200), 1),
            (Status::Critical, Some("http.status"), Some(503), 1),
            (Status::Critical, Some("tcp.timeout"), None, 0),
            (Status::Unknown, Some("check.skipped"), None, 0),
            (Status::Healthy, None, None, 1),
        ] {
            let sample = Sample {
                check: "metadata".into(),
                status,
                code: code.map(Arc::from),
                party: None,
                counts: true,
                attempts: 1,
                duration_us: 7,
                phases: Phases::default(),
                http_status,
                wire_bytes: 0,
                issue: None,
                detail: None,
            };
            let mut by_check: ByCheck<Vec<u64>> = ByCheck::new();
            add(&mut by_check, &sample);
            let times = by_check.get("metadata").map_or(0, |phased| phased.total.len());
            assert_eq!(times, expected, "{status} {code:?}");
        }
    }

    proptest! {
        #[test]
        fn digests_add_up_to_the_exact_figures(parts in vec(vec(0_u64..60_000_000, 0..30), 1..5)) {
            let mut sum = Digest::default();
            for part in &parts {
                let mut digest = Digest::default();
                part.iter().for_each(|us| digest.add(*us));
                sum.merge(&digest);
            }
            let mut all = parts.concat();
            let (Some(exact), Some(found)) = (exact(&mut all), sum.latency()) else {
                prop_assert!(all.is_empty() && sum.latency().is_none());
                return Ok(());
            };
            prop_assert_eq!(
                (found.count, found.min_ms, found.max_ms),
                (exact.count, exact.min_ms, exact.max_ms)
            );
            prop_assert!((found.mean_ms - exact.mean_ms).abs() <= 1e-9 * exact.mean_ms);
            for (found, exact) in [
                (found.p50_ms, exact.p50_ms),
                (found.p90_ms, exact.p90_ms),
                (found.p95_ms, exact.p95_ms),
                (found.p99_ms, exact.p99_ms),
            ] {
                prop_assert!((found - exact).abs() <= exact * RELATIVE_ERROR * 1.000_001);
            }
        }
    }
}
