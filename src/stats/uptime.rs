//! What held when: from readings at instants to time that is up, degraded, down, unknown or planned.
//!
//! The rule. Readings are sorted by time; of several at one instant the worst one stands (down, then
//! unknown, degraded, up). A reading holds until the next one, where that is at most `interval ×
//! tolerance` away; else it holds for `interval`, and what is left up to the next one is unknown: a
//! gap is never uptime. A reading without a next one holds for `interval`. One before the window
//! holds into it, and one behind it ends the hold of the last one inside, by the same rule: so the
//! hours of a day add up to the day, wherever it is cut. Maintenance comes over all of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::span::{Span, Spans};
use crate::model::{Party, Status};

/// What a server is said to be for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Up,
    Degraded,
    Down,
    Unknown,
    Maintenance,
}

/// One reading: what was seen at an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Milliseconds since the epoch.
    pub at: i64,
    pub kind: Kind,
    pub party: Option<Party>,
    /// The reason code, such as `tcp.refused`.
    pub code: Option<Arc<str>>,
}

/// How long a reading holds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Rule {
    /// How often a reading is expected, in milliseconds.
    pub interval_ms: i64,
    /// By what factor the next one may be late before there is a gap.
    pub tolerance: f64,
}

/// A part of a timeline with one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub span: Span,
    pub kind: Kind,
    pub party: Option<Party>,
    pub code: Option<Arc<str>>,
    /// The place of the reading in the list that was handed in; `None` in a gap and in maintenance
    /// that lies over what was seen.
    pub point: Option<usize>,
}

impl Kind {
    pub const ALL: [Kind; 5] =
        [Kind::Up, Kind::Degraded, Kind::Down, Kind::Unknown, Kind::Maintenance];

    #[must_use]
    pub fn of(status: Status) -> Kind {
        match status {
            Status::Healthy => Kind::Up,
            Status::Warning => Kind::Degraded,
            Status::Critical => Kind::Down,
            Status::Unknown => Kind::Unknown,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Up => "up",
            Kind::Degraded => "degraded",
            Kind::Down => "down",
            Kind::Unknown => "unknown",
            Kind::Maintenance => "maintenance",
        }
    }

    /// Which of several readings at one instant stands: the highest.
    fn rank(self) -> u8 {
        match self {
            Kind::Up => 0,
            Kind::Degraded => 1,
            Kind::Unknown => 2,
            Kind::Down => 3,
            Kind::Maintenance => 4,
        }
    }
}

impl Rule {
    /// The next reading may be late by half an interval: cron starts late, and checks take time.
    pub const TOLERANCE: f64 = 1.5;

    #[must_use]
    pub fn every(interval_ms: i64) -> Rule {
        Rule { interval_ms, tolerance: Rule::TOLERANCE }
    }

    /// The longest that a reading may hold: who wants a window to the last second hands in what was
    /// read this long before it and behind it as well.
    #[must_use]
    // A float is clamped by the cast.
    pub fn reach_ms(&self) -> i64 {
        let interval = self.interval_ms.max(0);
        let reach = (interval as f64 * self.tolerance).floor() as i64;
        reach.max(interval)
    }
}

/// A window cut into pieces, without hole and without overlap, in order. Pieces of one kind are not
/// joined: each reading keeps its own. Points may come unsorted and twice.
#[must_use]
pub fn timeline(points: &[Point], window: Span, rule: &Rule, maintenance: &Spans) -> Vec<Piece> {
    over(seen(points, window, rule), maintenance)
}

/// When readings hold that fulfil a condition, such as those that were made in maintenance.
#[must_use]
pub fn held(points: &[Point], window: Span, rule: &Rule, which: impl Fn(usize) -> bool) -> Spans {
    let pieces = seen(points, window, rule);
    pieces.iter().filter(|piece| piece.point.is_some_and(&which)).map(|piece| piece.span).collect()
}

fn seen(points: &[Point], window: Span, rule: &Rule) -> Vec<Piece> {
    let order = standing(points);
    let (interval, reach) = (rule.interval_ms.max(0), rule.reach_ms());
    let mut pieces = Vec::with_capacity(order.len() + 1);
    let mut done = window.from;
    let gap = |from: i64, to: i64| Piece {
        span: Span::new(from, to),
        kind: Kind::Unknown,
        party: None,
        code: None,
        point: None,
    };
    for (place, index) in order.iter().enumerate() {
        let point = &points[*index];
        if point.at >= window.to {
            break;
        }
        let next = order.get(place + 1).map(|next| points[*next].at);
        let end = match next {
            Some(next) if next.saturating_sub(point.at) <= reach => next,
            _ => point.at.saturating_add(interval),
        };
        let span = Span::new(point.at, end).intersect(&window);
        if span.is_empty() {
            continue;
        }
        if done < span.from {
            pieces.push(gap(done, span.from));
        }
        pieces.push(Piece {
            span,
            kind: point.kind,
            party: point.party,
            code: point.code.clone(),
            point: Some(*index),
        });
        done = span.to;
    }
    if done < window.to {
        pieces.push(gap(done, window.to));
    }
    pieces
}

/// The places of the points in order of time, one for each instant: the worst of it. Which one that
/// is does not depend on the order in which they came.
fn standing(points: &[Point]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by_key(|index| {
        let point = &points[*index];
        let party = point.party.map_or("", Party::as_str);
        (point.at, Reverse(point.kind.rank()), Reverse(party), Reverse(point.code.as_deref()))
    });
    order.dedup_by_key(|index| points[*index].at);
    order
}

/// Lays maintenance over pieces.
#[must_use]
pub fn over(pieces: Vec<Piece>, maintenance: &Spans) -> Vec<Piece> {
    lay(pieces, maintenance, Kind::Maintenance)
}

/// Makes spans of a timeline something else than what was seen in them.
#[must_use]
pub fn lay(pieces: Vec<Piece>, spans: &Spans, kind: Kind) -> Vec<Piece> {
    if spans.is_empty() {
        return pieces;
    }
    let mut laid = Vec::with_capacity(pieces.len());
    let mut first = 0;
    let spans = spans.as_slice();
    for piece in pieces {
        while spans.get(first).is_some_and(|span| span.to <= piece.span.from) {
            first += 1;
        }
        let mut from = piece.span.from;
        for span in spans[first..].iter().take_while(|span| span.from < piece.span.to) {
            let shared = span.intersect(&piece.span);
            if from < shared.from {
                laid.push(Piece { span: Span::new(from, shared.from), ..piece.clone() });
            }
            laid.push(Piece { span: shared, kind, party: None, code: None, point: None });
            from = shared.to;
        }
        if from < piece.span.to {
            laid.push(Piece { span: Span::new(from, piece.span.to), ..piece });
        }
    }
    laid
}

/// The median gap between readings, in milliseconds: the interval where no schedule says one. Of an
/// even number of gaps the lower middle one. `None` with fewer than two instants.
#[must_use]
pub fn interval(instants: &[i64]) -> Option<i64> {
    let mut sorted = instants.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut gaps: Vec<i64> =
        sorted.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    let middle = gaps.len().checked_sub(1)? / 2;
    Some(*gaps.select_nth_unstable(middle).1)
}

/// Milliseconds by party.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PartyTimes {
    pub ours_ms: i64,
    pub network_ms: i64,
    pub identity_provider_ms: i64,
    pub vendor_ms: i64,
    /// Also of what names no party.
    pub undetermined_ms: i64,
}

impl PartyTimes {
    #[must_use]
    pub fn of(&self, party: Party) -> i64 {
        let mut copy = *self;
        *copy.place(party)
    }

    pub fn add(&mut self, party: Option<Party>, ms: i64) {
        let place = self.place(party.unwrap_or(Party::Undetermined));
        *place = place.saturating_add(ms);
    }

    fn place(&mut self, party: Party) -> &mut i64 {
        match party {
            Party::Ours => &mut self.ours_ms,
            Party::Network => &mut self.network_ms,
            Party::IdentityProvider => &mut self.identity_provider_ms,
            Party::Vendor => &mut self.vendor_ms,
            Party::Undetermined => &mut self.undetermined_ms,
        }
    }
}

/// The time of a timeline, added up. `window = up + degraded + down + unknown + maintenance +
/// excluded`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Totals {
    /// All that counts: the window within service hours, without holidays.
    pub window_ms: i64,
    pub up_ms: i64,
    pub degraded_ms: i64,
    pub down_ms: i64,
    pub unknown_ms: i64,
    pub maintenance_ms: i64,
    /// Down time of parties that the agreement leaves out.
    pub excluded_ms: i64,
    pub down_by_party: PartyTimes,
    /// By reason code; what has none is not in it.
    pub down_by_code: BTreeMap<String, i64>,
}

impl Totals {
    /// Adds up what of a timeline lies in the time that counts; down time of `without` is excluded.
    #[must_use]
    pub fn of(pieces: &[Piece], counted: &Spans, without: &[Party]) -> Totals {
        let mut totals = Totals::default();
        let spans = counted.as_slice();
        let mut first = 0;
        let mut by_code: BTreeMap<&str, i64> = BTreeMap::new();
        for piece in pieces {
            while spans.get(first).is_some_and(|span| span.to <= piece.span.from) {
                first += 1;
            }
            let ms: i64 = spans[first..]
                .iter()
                .take_while(|span| span.from < piece.span.to)
                .map(|span| span.intersect(&piece.span).ms())
                .sum();
            if ms == 0 {
                continue;
            }
            let party = piece.party.unwrap_or(Party::Undetermined);
            totals.window_ms += ms;
            match piece.kind {
                Kind::Up => totals.up_ms += ms,
                Kind::Degraded => totals.degraded_ms += ms,
                Kind::Unknown => totals.unknown_ms += ms,
                Kind::Maintenance => totals.maintenance_ms += ms,
                Kind::Down if without.contains(&party) => totals.excluded_ms += ms,
                Kind::Down => {
                    totals.down_ms += ms;
                    totals.down_by_party.add(piece.party, ms);
                    if let Some(code) = &piece.code {
                        *by_code.entry(code).or_default() += ms;
                    }
                }
            }
        }
        totals.down_by_code = by_code.into_iter().map(|(code, ms)| (code.to_owned(), ms)).collect();
        totals
    }

    /// The same for a part of the timeline, such as an hour or a day, without a look at the rest.
    #[must_use]
    pub fn within(pieces: &[Piece], part: Span, counted: &Spans, without: &[Party]) -> Totals {
        let first = pieces.partition_point(|piece| piece.span.to <= part.from);
        let last = pieces.partition_point(|piece| piece.span.from < part.to);
        Totals::of(&pieces[first..last.max(first)], &counted.clip(part), without)
    }

    /// Adds those of another window, or of another server.
    pub fn merge(&mut self, other: &Totals) {
        self.window_ms += other.window_ms;
        self.up_ms += other.up_ms;
        self.degraded_ms += other.degraded_ms;
        self.down_ms += other.down_ms;
        self.unknown_ms += other.unknown_ms;
        self.maintenance_ms += other.maintenance_ms;
        self.excluded_ms += other.excluded_ms;
        for party in PARTIES {
            self.down_by_party.add(Some(party), other.down_by_party.of(party));
        }
        for (code, ms) in &other.down_by_code {
            *self.down_by_code.entry(code.clone()).or_default() += ms;
        }
    }

    /// Time of which it is known that the server answered, and counts.
    #[must_use]
    pub fn available_ms(&self) -> i64 {
        self.up_ms + self.degraded_ms
    }

    /// What availability is a share of: up, degraded and down.
    #[must_use]
    pub fn judged_ms(&self) -> i64 {
        self.available_ms() + self.down_ms
    }

    /// (up + degraded) ÷ (up + degraded + down), from 0 to 1; `None` when nothing was known.
    #[must_use]
    pub fn availability(&self) -> Option<f64> {
        share(self.available_ms(), self.judged_ms())
    }

    /// 1 − unknown ÷ (window − maintenance), from 0 to 1; `None` when all was maintenance, or none of
    /// the window counts.
    #[must_use]
    pub fn coverage(&self) -> Option<f64> {
        let due = self.window_ms - self.maintenance_ms;
        share(due - self.unknown_ms, due)
    }
}

/// Every party, in the order of their names' declaration.
pub const PARTIES: [Party; 5] =
    [Party::Ours, Party::Network, Party::IdentityProvider, Party::Vendor, Party::Undetermined];

fn share(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests;
