//! The same figures the slow way: millisecond by millisecond, from the definitions alone.
//!
//! It shares no line with what it is compared with, and no cleverness: each question is asked of one
//! instant at a time, over windows of a few hundred milliseconds (or of other units, where all that
//! happens lies on a grid of them).

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::span::{Span, Spans};
use super::uptime::{Kind, Point};
use crate::model::Party;

/// What is said of one instant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) kind: Kind,
    pub(crate) party: Option<Party>,
    pub(crate) code: Option<Arc<str>>,
}

const NOTHING_KNOWN: Said = Said { kind: Kind::Unknown, party: None, code: None };
const PLANNED: Said = Said { kind: Kind::Maintenance, party: None, code: None };

/// What holds at an instant: maintenance; else the last reading before it, if the next one is at
/// most one and a half intervals behind that, or it is not older than the interval.
pub(super) fn said_at(at: i64, points: &[Point], interval: i64, maintenance: &[Span]) -> Said {
    if maintenance.iter().any(|span| span.from <= at && at < span.to) {
        return PLANNED;
    }
    let Some(last) = points.iter().map(|point| point.at).filter(|then| *then <= at).max() else {
        return NOTHING_KNOWN;
    };
    let next = points.iter().map(|point| point.at).filter(|then| *then > last).min();
    let followed = next.is_some_and(|next| 2 * (next - last) <= 3 * interval);
    if !followed && at - last >= interval {
        return NOTHING_KNOWN;
    }
    let worst_first = [Kind::Maintenance, Kind::Down, Kind::Unknown, Kind::Degraded, Kind::Up];
    for kind in worst_first {
        // Readings that are as bad as each other: the one whose party, then code, is the last by name.
        let there = points.iter().filter(|point| point.at == last && point.kind == kind);
        let names = |point: &&Point| (point.party.map_or("", Party::as_str), point.code.clone());
        if let Some(point) = there.max_by_key(names) {
            return Said { kind, party: point.party, code: point.code.clone() };
        }
    }
    NOTHING_KNOWN
}

pub(crate) fn walk(
    window: Span,
    points: &[Point],
    interval: i64,
    maintenance: &[Span],
) -> Vec<Said> {
    (window.from..window.to).map(|at| said_at(at, points, interval, maintenance)).collect()
}

/// A history of a server, small enough to walk through.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) window: Span,
    pub(super) interval: i64,
    pub(super) points: Vec<Point>,
    pub(super) maintenance: Vec<Span>,
    pub(super) counted: Vec<Span>,
}

impl Story {
    pub(super) fn planned(&self) -> Spans {
        self.maintenance.iter().copied().collect()
    }

    pub(super) fn counts(&self) -> Spans {
        self.counted.iter().copied().collect()
    }

    /// What is said of each instant of the window that counts.
    pub(super) fn counted_walk(&self) -> Vec<Said> {
        let said = walk(self.window, &self.points, self.interval, &self.maintenance);
        let within = |at: &i64| self.counted.iter().any(|span| span.from <= *at && *at < span.to);
        (self.window.from..self.window.to)
            .zip(said)
            .filter(|(at, _)| within(at))
            .map(|(_, said)| said)
            .collect()
    }
}

pub(super) fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => Just(Kind::Up),
        2 => Just(Kind::Degraded),
        4 => Just(Kind::Down),
        1 => Just(Kind::Unknown),
        1 => Just(Kind::Maintenance),
    ]
}

fn point(at: i64) -> impl Strategy<Value = Point> {
    let party = prop_oneof![
        Just(None),
        Just(Some(Party::Ours)),
        Just(Some(Party::Vendor)),
        Just(Some(Party::Network))
    ];
    let code = prop_oneof![Just(None), Just(Some("tcp.refused")), Just(Some("http.status"))];
    (kind(), party, code).prop_map(move |(kind, party, code)| match kind {
        Kind::Down | Kind::Degraded => Point { at, kind, party, code: code.map(Arc::from) },
        _ => Point { at, kind, party: None, code: None },
    })
}

fn span(within: std::ops::Range<i64>) -> impl Strategy<Value = Span> {
    (within.clone(), within).prop_map(|(a, b)| Span { from: a.min(b), to: a.max(b) })
}

/// Readings in any order, some missing, some twice, some early or late, with clocks that jumped back.
pub(super) fn story() -> impl Strategy<Value = Story> {
    let points = vec((-30_i64..330).prop_flat_map(point), 0..40);
    let regular = (1_i64..12, any::<bool>()).prop_flat_map(|(step, jitter)| {
        let count = usize::try_from(330 / step).unwrap_or_default();
        vec((0..=i64::from(jitter) * step / 2, prop::bool::weighted(0.9), kind()), count..=count)
            .prop_map(move |all| {
                let at = |place: usize| i64::try_from(place).unwrap_or_default() * step - 15;
                let each = all.into_iter().enumerate().filter(|(_, (_, kept, _))| *kept);
                each.map(|(place, (late, _, kind))| Point {
                    at: at(place) + late,
                    kind,
                    party: (kind == Kind::Down).then_some(Party::Vendor),
                    code: None,
                })
                .collect::<Vec<_>>()
            })
    });
    (
        prop_oneof![points, regular],
        1_i64..25,
        vec(span(-20..320), 0..3),
        vec(span(-20..320), 0..4),
        (0_i64..150, 150_i64..300),
    )
        .prop_map(|(points, interval, maintenance, counted, (from, to))| Story {
            window: Span { from, to },
            interval,
            points,
            maintenance,
            counted,
        })
}

/// An agreement in the few words that a walk understands.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// What is down beside what is critical, or instead of it.
    pub(super) down: Vec<&'static str>,
    pub(super) maintenance_is_out: bool,
    pub(super) party_out: Option<Party>,
    pub(super) named: Vec<Span>,
    pub(super) planned_max: Option<i64>,
    pub(super) least_outage: i64,
}

/// Instants of a period by what they count as, in the order of [`Kind::ALL`], and those that are out
/// for their party.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) kinds: [i64; 5],
    pub(super) excluded: i64,
}

pub(super) fn terms() -> impl Strategy<Value = Terms> {
    let down = prop_oneof![
        Just(vec![]),
        Just(vec!["critical"]),
        Just(vec!["warning", "critical"]),
        Just(vec!["unknown", "tcp.*"]),
        Just(vec!["http.status"]),
    ];
    (
        down,
        any::<bool>(),
        prop::option::of(prop_oneof![Just(Party::Ours), Just(Party::Vendor)]),
        vec(span(0..300), 0..2),
        prop::option::of(0_i64..80),
        prop_oneof![Just(0_i64), 1_i64..60],
    )
        .prop_map(|(down, maintenance_is_out, party_out, named, planned_max, least_outage)| {
            Terms { down, maintenance_is_out, party_out, named, planned_max, least_outage }
        })
}

/// Counts each instant of a story's window by the terms of an agreement.
pub(super) fn settle(story: &Story, terms: &Terms) -> Count {
    // Far enough around the window that an outage over its ends is seen as long as it has to be. One that
    // nothing was seen of in between may go on behind that; so much is agreed on.
    let around = terms.least_outage + story.interval * 3 / 2;
    let wide = Span { from: story.window.from - around, to: story.window.to + around };
    let points: Vec<Point> = story.points.iter().map(|point| by_terms(point, terms)).collect();
    let planned: &[Span] = if terms.maintenance_is_out { &story.maintenance } else { &[] };
    let mut said = walk(wide, &points, story.interval, planned);

    let within = |spans: &[Span], at: i64| spans.iter().any(|span| span.from <= at && at < span.to);
    let counts = |at: i64| {
        within(&[story.window], at) && within(&story.counted, at) && !within(&terms.named, at)
    };
    // Where nothing was seen, too much planned work is no outage either.
    let seen = walk(story.window, &points, story.interval, &[]);
    let is_judged = (story.window.from..story.window.to).zip(seen).any(|(at, said)| {
        within(&story.counted, at) && !matches!(said.kind, Kind::Unknown | Kind::Maintenance)
    });
    let planned_max = terms.planned_max.filter(|_| is_judged);
    let mut used = 0;
    for (at, said) in (wide.from..wide.to).zip(&mut said) {
        if said.kind == Kind::Maintenance && counts(at) {
            used += 1;
            if planned_max.is_some_and(|most| used > most) {
                *said = Said { kind: Kind::Down, party: None, code: None };
            }
        }
    }
    let answers = |said: &&Said| !matches!(said.kind, Kind::Up | Kind::Degraded);
    let mut count = Count::default();
    for (place, _) in (wide.from..wide.to).enumerate().filter(|(_, at)| counts(*at)) {
        let mut kind = said[place].kind;
        if kind == Kind::Down {
            let before = said[..place].iter().rev().take_while(answers);
            let outage = before.chain(said[place..].iter().take_while(answers));
            let down = outage.filter(|said| said.kind == Kind::Down).count();
            if down < usize::try_from(terms.least_outage).unwrap_or_default() {
                kind = Kind::Degraded;
            } else if terms.party_out.is_some() && said[place].party == terms.party_out {
                count.excluded += 1;
                continue;
            }
        }
        let index = Kind::ALL.iter().position(|one| *one == kind).unwrap_or_default();
        count.kinds[index] += 1;
    }
    count
}

fn by_terms(point: &Point, terms: &Terms) -> Point {
    let status = match point.kind {
        Kind::Up | Kind::Maintenance => return point.clone(),
        Kind::Degraded => "warning",
        Kind::Down => "critical",
        Kind::Unknown => "unknown",
    };
    let code = point.code.as_deref().unwrap_or_default();
    let is_down = match terms.down[..] {
        [] => status == "critical",
        ref all => all.iter().any(|word| match word.strip_suffix(".*") {
            Some(family) => code.split('.').next() == Some(family),
            None => *word == status || *word == code,
        }),
    };
    let kind = match (is_down, status) {
        (true, _) => Kind::Down,
        (false, "critical") => Kind::Degraded,
        (false, _) => point.kind,
    };
    Point { kind, ..point.clone() }
}
