//! Spans of time, and lists of them that never overlap.
//!
//! Instants are milliseconds since the epoch, UTC; a span holds its beginning and not its end.

use schemars::JsonSchema;
use serde::Serialize;

/// From an instant up to, and without, another: `[from, to)`, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
pub struct Span {
    pub from: i64,
    pub to: i64,
}

impl Span {
    /// One that ends before it begins is empty.
    #[must_use]
    pub fn new(from: i64, to: i64) -> Span {
        Span { from, to: to.max(from) }
    }

    /// How long it is, in milliseconds.
    #[must_use]
    pub fn ms(&self) -> i64 {
        self.to.saturating_sub(self.from).max(0)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.to <= self.from
    }

    #[must_use]
    pub fn contains(&self, at: i64) -> bool {
        self.from <= at && at < self.to
    }

    /// What both have; empty when they do not meet.
    #[must_use]
    pub fn intersect(&self, other: &Span) -> Span {
        Span::new(self.from.max(other.from), self.to.min(other.to))
    }
}

/// Spans in ascending order, none empty, none touching another: each set of instants has one form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Spans(Vec<Span>);

impl Spans {
    #[must_use]
    pub fn none() -> Spans {
        Spans::default()
    }

    #[must_use]
    pub fn one(span: Span) -> Spans {
        Spans::from(vec![span])
    }

    #[must_use]
    pub fn as_slice(&self) -> &[Span] {
        &self.0
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Span> {
        self.0.iter()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their length together, in milliseconds.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.0.iter().fold(0_i64, |sum, span| sum.saturating_add(span.ms()))
    }

    #[must_use]
    pub fn contains(&self, at: i64) -> bool {
        let behind = self.0.partition_point(|span| span.to <= at);
        self.0.get(behind).is_some_and(|span| span.contains(at))
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Spans) -> Spans {
        self.0.iter().chain(&other.0).copied().collect()
    }

    /// What is in both.
    #[must_use]
    pub fn intersect(&self, other: &Spans) -> Spans {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let shared = a.intersect(b);
            if !shared.is_empty() {
                both.push(shared);
            }
            if a.to < b.to {
                left.next();
            } else {
                right.next();
            }
        }
        Spans(both)
    }

    /// What is in these and not in the others.
    #[must_use]
    pub fn subtract(&self, other: &Spans) -> Spans {
        let mut rest = Vec::new();
        let mut first = 0;
        for span in &self.0 {
            let mut from = span.from;
            while other.0.get(first).is_some_and(|hole| hole.to <= span.from) {
                first += 1;
            }
            for hole in other.0[first..].iter().take_while(|hole| hole.from < span.to) {
                if hole.from > from {
                    rest.push(Span::new(from, hole.from));
                }
                from = from.max(hole.to);
            }
            if from < span.to {
                rest.push(Span::new(from, span.to));
            }
        }
        Spans(rest)
    }

    /// What of them lies in a window.
    #[must_use]
    pub fn clip(&self, window: Span) -> Spans {
        let first = self.0.partition_point(|span| span.to <= window.from);
        self.0[first..]
            .iter()
            .take_while(|span| span.from < window.to)
            .map(|span| span.intersect(&window))
            .collect()
    }
}

/// In any order, overlapping or not, empty ones among them.
impl From<Vec<Span>> for Spans {
    fn from(mut list: Vec<Span>) -> Spans {
        list.retain(|span| !span.is_empty());
        list.sort_unstable_by_key(|span| (span.from, span.to));
        let mut spans: Vec<Span> = Vec::with_capacity(list.len());
        for span in list {
            match spans.last_mut() {
                Some(last) if span.from <= last.to => last.to = last.to.max(span.to),
                _ => spans.push(span),
            }
        }
        Spans(spans)
    }
}

impl FromIterator<Span> for Spans {
    fn from_iter<I: IntoIterator<Item = Span>>(spans: I) -> Spans {
        Spans::from(spans.into_iter().collect::<Vec<_>>())
    }
}

impl<'a> IntoIterator for &'a Spans {
    type Item = &'a Span;
    type IntoIter = std::slice::Iter<'a, Span>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const END: i64 = 40;

    fn spans() -> impl Strategy<Value = Vec<Span>> {
        vec((0..END, 0..END).prop_map(|(from, to)| Span { from, to }), 0..8)
    }

    /// One bit an instant.
    fn instants(list: &[Span]) -> Vec<bool> {
        (0..END).map(|at| list.iter().any(|span| span.from <= at && at < span.to)).collect()
    }

    fn is_canonical(spans: &Spans) -> bool {
        spans.iter().all(|span| span.from < span.to)
            && spans.as_slice().windows(2).all(|pair| pair[0].to < pair[1].from)
    }

    #[test]
    fn spans_that_touch_become_one() {
        let spans = Spans::from(vec![Span::new(5, 9), Span::new(0, 5), Span::new(3, 3)]);
        assert_eq!(spans.as_slice(), [Span::new(0, 9)]);
    }

    #[test]
    fn the_ends_of_time_overflow_nothing() {
        let all = Span::new(i64::MIN, i64::MAX);
        assert_eq!(all.ms(), i64::MAX);
        assert_eq!(Spans::from(vec![all, Span::new(0, 1)]).total(), i64::MAX);
    }

    proptest! {
        #[test]
        fn sets_of_instants_behave_as_bits(a in spans(), b in spans(), window in (0..END, 0..END)) {
            let (bits_a, bits_b) = (instants(&a), instants(&b));
            let (left, right) = (Spans::from(a), Spans::from(b));
            let window = Span::new(window.0, window.1);
            let pairs = || bits_a.iter().copied().zip(bits_b.iter().copied());
            let inside = instants(&[window]);
            let cases: [(Spans, Vec<bool>); 5] = [
                (left.clone(), bits_a.clone()),
                (left.union(&right), pairs().map(|(a, b)| a || b).collect()),
                (left.intersect(&right), pairs().map(|(a, b)| a && b).collect()),
                (left.subtract(&right), pairs().map(|(a, b)| a && !b).collect()),
                (left.clip(window), bits_a.iter().zip(&inside).map(|(a, b)| *a && *b).collect()),
            ];
            for (found, bits) in cases {
                prop_assert!(is_canonical(&found), "{found:?}");
                prop_assert_eq!(instants(found.as_slice()), bits.clone());
                prop_assert_eq!(found.total(), bits.iter().map(|bit| i64::from(*bit)).sum::<i64>());
                for (at, bit) in (0..END).zip(bits) {
                    prop_assert_eq!(found.contains(at), bit);
                }
            }
        }
    }
}
