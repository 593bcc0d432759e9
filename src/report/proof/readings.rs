//! The readings of a proof, made from their chained texts and from nothing else.

use std::sync::Arc;

use super::Proven;
use crate::model::{Error, ErrorKind, Reading, Result};
use crate::report::seen::{Look, Seen, cut};
use crate::report::sla::Planned;
use crate::stats::latency::took_time;
use crate::stats::span::Span;
use crate::stats::uptime::{Kind, Point};

/// Readings as their texts tell them, in order of time.
pub(super) struct Readings {
    pub(super) scheduled_ms: Option<i64>,
    pub(super) kept_from_ms: Option<i64>,
    all: Vec<Told>,
}

/// What counts of one reading.
struct Told {
    look: Look,
    /// How long its answers took, in microseconds.
    answered_us: Vec<u64>,
}

impl Readings {
    pub(super) fn of(proven: &Proven) -> Result<Readings> {
        let server: Arc<str> = proven.name.as_str().into();
        let told = proven.readings.iter().enumerate().map(|(index, text)| {
            let reading = Reading::from_text(&server, text).ok_or_else(|| {
                let words = format!("{server}: reading {index} cannot be read");
                Error::new(ErrorKind::Data, words)
            })?;
            let timed = reading.samples.iter().filter(|sample| took_time(sample));
            let answered_us = timed.map(|sample| sample.duration_us).collect();
            let point = Point {
                at: reading.at.as_millisecond(),
                kind: Kind::of(reading.status),
                party: reading.party,
                code: reading.code,
            };
            Ok(Told { look: Look { state: reading.state, point }, answered_us })
        });
        let mut all = told.collect::<Result<Vec<Told>>>()?;
        // Stable: at one instant in the order of writing, as history tells them.
        all.sort_by_key(|told| told.look.point.at);
        Ok(Readings { scheduled_ms: proven.scheduled_ms, kept_from_ms: proven.kept_from_ms, all })
    }

    pub(super) fn seen(&self, maintenance: &[Planned], window: Span, wide: Span) -> Seen {
        let first = self.place(wide.from).saturating_sub(1);
        let looks = self.all[first..self.place(wide.to).max(first)].iter();
        let planned = maintenance.iter().map(|planned| (planned.from, planned.until));
        let looks = looks.map(|told| told.look.clone());
        Seen::of(looks, (self.scheduled_ms, None), &cut(planned, wide), window, wide)
    }

    /// Response times of a window in microseconds, ascending.
    pub(super) fn latencies(&self, window: Span) -> Vec<u64> {
        let inside = &self.all[self.place(window.from)..self.place(window.to)];
        let mut all: Vec<u64> =
            inside.iter().flat_map(|told| told.answered_us.iter().copied()).collect();
        all.sort_unstable();
        all
    }

    /// How many were taken before an instant.
    fn place(&self, at: i64) -> usize {
        self.all.partition_point(|told| told.look.point.at < at)
    }
}
