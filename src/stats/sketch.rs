//! Percentiles of many durations in little space: buckets that grow with what they hold.
//!
//! The buckets are log-linear, as in Tene's HDR histogram: each power of two is cut into 64 of equal
//! width. Which bucket a value falls into is decided by its bits alone, without a logarithm, so every
//! machine agrees on it. Two sketches add up bucket by bucket, and so exactly: the sketch of a day is
//! the same whether it was made of its samples or of its hours.

/// How far a percentile of a sketch may be from the exact one, as a share of it: under 0.8 %.
///
/// Values below 128 µs have a bucket each and are exact.
pub const RELATIVE_ERROR: f64 = 1.0 / 128.0;

/// Each power of two is cut into `2^PRECISION` buckets.
const PRECISION: u32 = 6;
const PER_OCTAVE: u64 = 1 << PRECISION;
/// How many buckets all of `u64` falls into.
const SLOTS: u16 = 59 * 64;
/// The first byte of a sketch's encoding: its form, and the precision with it.
const FORM: u8 = 1;

/// Counts of durations in microseconds, by bucket; only those that hold something are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    /// Ascending.
    slots: Vec<u16>,
    /// One for each slot, none of them zero.
    counts: Vec<u64>,
    total: u64,
}

/// One bucket: how many values are in `[from_us, upto_us]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub from_us: u64,
    /// The largest value that falls into it.
    pub upto_us: u64,
    pub count: u64,
}

impl Sketch {
    #[must_use]
    pub fn new() -> Sketch {
        Sketch::default()
    }

    pub fn add(&mut self, us: u64) {
        let slot = slot_of(us);
        match self.slots.binary_search(&slot) {
            Ok(at) => self.counts[at] = self.counts[at].saturating_add(1),
            Err(at) => {
                self.slots.insert(at, slot);
                self.counts.insert(at, 1);
            }
        }
        self.total = self.total.saturating_add(1);
    }

    /// Adds all that another one holds; the order of many merges makes no difference.
    pub fn merge(&mut self, other: &Sketch) {
        self.absorb(other.entries());
    }

    /// Adds what another one was written as, without a sketch in between.
    pub fn merge_encoded(&mut self, encoded: Encoded<'_>) {
        self.absorb(encoded.entries());
    }

    /// How many values were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.total
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The value of the nearest rank (see [`rank`]) in microseconds, at most [`RELATIVE_ERROR`] off:
    /// the middle of the bucket that holds it. `None` when nothing was added, or for a `q` outside of
    /// 0 to 1.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = rank(q, self.total)?;
        let mut seen = 0_u64;
        for (slot, count) in self.entries() {
            seen = seen.saturating_add(count);
            if seen >= rank {
                let (from, upto) = bounds(slot);
                return Some(from as f64 + (upto - from) as f64 / 2.0);
            }
        }
        None
    }

    /// What it holds, in ascending order.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.entries().map(|(slot, count)| {
            let (from_us, upto_us) = bounds(slot);
            Bucket { from_us, upto_us, count }
        })
    }

    /// Its encoding: a byte for the form, then for each bucket how many empty ones lie before it and
    /// how many values it holds, as varints. The lowest bit of the first says that the count is one,
    /// which then is not written.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + self.slots.len() * 2);
        bytes.push(FORM);
        let mut next = 0_u16;
        for (slot, count) in self.entries() {
            let gap = u64::from(slot - next) << 1;
            if count == 1 {
                put(&mut bytes, gap | 1);
            } else {
                put(&mut bytes, gap);
                put(&mut bytes, count);
            }
            next = slot + 1;
        }
        bytes
    }

    fn entries(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        self.slots.iter().copied().zip(self.counts.iter().copied())
    }

    /// Adds entries with ascending slots. Most of them fall into buckets that are there already, and
    /// cost no move; the others are put in from the back, so that each old one moves once.
    fn absorb(&mut self, entries: impl Iterator<Item = (u16, u64)>) {
        let mut at = 0;
        let mut missing = Vec::new();
        for (slot, count) in entries {
            at += self.slots[at..].iter().take_while(|here| **here < slot).count();
            match self.slots.get(at) {
                Some(here) if *here == slot => {
                    self.counts[at] = self.counts[at].saturating_add(count);
                }
                _ => missing.push((slot, count)),
            }
            self.total = self.total.saturating_add(count);
        }
        let mut read = self.slots.len();
        let mut write = read + missing.len();
        self.slots.resize(write, 0);
        self.counts.resize(write, 0);
        while let Some((slot, count)) = missing.pop() {
            while read > 0 && self.slots[read - 1] > slot {
                (read, write) = (read - 1, write - 1);
                self.slots[write] = self.slots[read];
                self.counts[write] = self.counts[read];
            }
            write -= 1;
            self.slots[write] = slot;
            self.counts[write] = count;
        }
    }
}

/// The exact counterpart of [`Sketch::quantile`], over all values in ascending order.
#[must_use]
pub fn exact_quantile(sorted: &[u64], q: f64) -> Option<f64> {
    let rank = rank(q, sorted.len() as u64)?;
    let at = usize::try_from(rank - 1).ok()?;
    sorted.get(at).map(|value| *value as f64)
}

/// The nearest rank of a quantile among `count` values: the smallest rank, from 1, at or below which
/// lies at least the share `q` of them, that is `max(1, ⌈q × count⌉)`.
///
/// `q` is taken as a decimal of nine places, since 0.07 × 100 is a little above 7 in binary fractions
/// and would give the rank 8. `None` when there are no values, or `q` is not from 0 to 1.
#[must_use]
// `q` is from 0 to 1.
pub fn rank(q: f64, count: u64) -> Option<u64> {
    const PLACES: u128 = 1_000_000_000;
    if count == 0 || !(0.0..=1.0).contains(&q) {
        return None;
    }
    let share = (q * PLACES as f64).round() as u128;
    let rank = (share * u128::from(count)).div_ceil(PLACES);
    u64::try_from(rank).ok().map(|rank| rank.max(1))
}

fn slot_of(value: u64) -> u16 {
    let slot = if value < PER_OCTAVE {
        value
    } else {
        let octave = value.ilog2() - PRECISION;
        (u64::from(octave) << PRECISION) + (value >> octave)
    };
    // At most 58 × 64 + 127: it fits, and the ceiling is never used.
    u16::try_from(slot).unwrap_or(SLOTS - 1)
}

/// The smallest and the largest value of a bucket.
fn bounds(slot: u16) -> (u64, u64) {
    let slot = u64::from(slot);
    if slot < 2 * PER_OCTAVE {
        return (slot, slot);
    }
    let octave = (slot >> PRECISION) - 1;
    let from = (PER_OCTAVE + slot % PER_OCTAVE) << octave;
    (from, from + ((1 << octave) - 1))
}

/// What [`Sketch::to_bytes`] made.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a>(Decoder<'a>);

impl<'a> Encoded<'a> {
    /// Bytes that are a sketch, all the way to the end; `None` for others. Each sketch has one encoding
    /// only, and bytes of any other are refused.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Encoded<'a>> {
        let decoder = Decoder::new(bytes)?;
        let mut total = 0_u64;
        for entry in decoder {
            let (_, count) = entry?;
            total = total.checked_add(count)?;
        }
        Some(Encoded(decoder))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.rest.is_empty()
    }

    fn entries(self) -> impl Iterator<Item = (u16, u64)> {
        self.0.map_while(|entry| entry)
    }
}

/// The entries of an encoding; `None` among them is where it breaks.
#[derive(Clone, Copy, Debug)]
struct Decoder<'a> {
    rest: &'a [u8],
    next: u64,
}

impl Decoder<'_> {
    fn new(bytes: &[u8]) -> Option<Decoder<'_>> {
        match bytes {
            [FORM, rest @ ..] => Some(Decoder { rest, next: 0 }),
            _ => None,
        }
    }

    fn entry(&mut self) -> Option<(u16, u64)> {
        let head = take(&mut self.rest)?;
        let count =
            if head & 1 == 1 { 1 } else { take(&mut self.rest).filter(|count| *count > 1)? };
        let slot = self.next.checked_add(head >> 1).filter(|slot| *slot < u64::from(SLOTS))?;
        self.next = slot + 1;
        Some((u16::try_from(slot).ok()?, count))
    }
}

impl Iterator for Decoder<'_> {
    type Item = Option<(u16, u64)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_none() {
            self.rest = &[];
        }
        Some(entry)
    }
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// `None` for a number that is cut off, too large, or longer than it has to be.
fn take(rest: &mut &[u8]) -> Option<u64> {
    // Most numbers are one byte, and a report reads many millions of them.
    if let [byte @ 0..0x80, tail @ ..] = *rest {
        *rest = tail;
        return Some(u64::from(*byte));
    }
    let mut value = 0_u64;
    for (at, byte) in rest.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * at;
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            if *byte == 0 && at > 0 {
                return None;
            }
            *rest = &rest[at + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn sketch(values: &[u64]) -> Sketch {
        let mut sketch = Sketch::new();
        values.iter().for_each(|value| sketch.add(*value));
        sketch
    }

    fn read(bytes: &[u8]) -> Option<Sketch> {
        let mut sketch = Sketch::new();
        sketch.merge_encoded(Encoded::read(bytes)?);
        Some(sketch)
    }

    /// Durations of all sizes alike: as many below a millisecond as above an hour.
    fn duration() -> impl Strategy<Value = u64> {
        (0_u32..64, any::<u64>()).prop_map(|(shift, bits)| bits >> shift)
    }

    #[test]
    fn buckets_follow_each_other_without_hole_over_all_of_u64() {
        let mut next = Some(0_u64);
        for slot in 0..SLOTS {
            let (from, upto) = bounds(slot);
            assert_eq!(Some(from), next, "{slot}");
            assert_eq!((slot_of(from), slot_of(upto)), (slot, slot));
            next = upto.checked_add(1);
        }
        assert_eq!(next, None, "the last bucket ends with u64");
    }

    #[test]
    fn ranks_are_those_of_decimals() {
        for (q, count, expected) in [
            (0.07, 100, Some(7)),
            (0.5, 4, Some(2)),
            (0.5, 5, Some(3)),
            (0.95, 20, Some(19)),
            (0.95, 21, Some(20)),
            (0.99, 1, Some(1)),
            (0.0, 9, Some(1)),
            (1.0, 9, Some(9)),
            (0.999, u64::MAX, Some(18_428_297_329_635_842_064)),
            (0.5, 0, None),
            (1.1, 9, None),
            (-0.1, 9, None),
            (f64::NAN, 9, None),
        ] {
            assert_eq!(rank(q, count), expected, "{q} of {count}");
        }
    }

    #[test]
    fn nothing_and_zero_are_told_apart() {
        assert_eq!(Sketch::new().quantile(0.5), None);
        assert_eq!(exact_quantile(&[], 0.5), None);
        assert_eq!(sketch(&[0, 0]).quantile(0.5), Some(0.0));
        assert_eq!(sketch(&[0, 0]).count(), 2);
        assert_eq!(read(&Sketch::new().to_bytes()), Some(Sketch::new()));
    }

    #[test]
    fn an_hour_of_even_latencies_takes_few_bytes() {
        let values: Vec<u64> = (0..60).map(|at| 200_000 + at * 500).collect();
        assert!(sketch(&values).to_bytes().len() < 40);
    }

    #[test]
    fn bytes_that_are_no_sketch_are_refused() {
        for (what, bytes) in [
            ("nothing", &[][..]),
            ("another form", &[9]),
            ("an empty bucket", &[FORM, 0, 0]),
            ("a single value in the long form", &[FORM, 0, 1]),
            ("a count that is missing", &[FORM, 2]),
            ("a number that is cut off", &[FORM, 0x80]),
            ("a number in too many bytes", &[FORM, 0x81, 0]),
            ("a bucket behind the last", &[FORM, 0xc1, 0x3b]),
            (
                "a number above u64",
                &[FORM, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            ),
            (
                "counts that overflow",
                &[FORM, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1],
            ),
        ] {
            assert_eq!(read(bytes), None, "{what}");
        }
    }

    proptest! {
        #[test]
        fn quantiles_are_within_the_bound_of_the_exact_ones(
            mut values in vec(duration(), 1..200),
            q in 0.0..=1.0,
        ) {
            let found = sketch(&values).quantile(q).unwrap();
            values.sort_unstable();
            let exact = exact_quantile(&values, q).unwrap();
            prop_assert!((found - exact).abs() <= exact * RELATIVE_ERROR, "{found} for {exact}");
            if exact < 128.0 {
                prop_assert_eq!(found, exact);
            }
        }

        #[test]
        fn merging_is_as_good_as_adding(parts in vec(vec(duration(), 0..40), 0..6)) {
            let all = sketch(&parts.concat());
            let mut forth = Sketch::new();
            parts.iter().for_each(|part| forth.merge(&sketch(part)));
            let mut back = Sketch::new();
            for part in parts.iter().rev() {
                back.merge_encoded(Encoded::read(&sketch(part).to_bytes()).unwrap());
            }
            prop_assert_eq!(&forth, &all);
            prop_assert_eq!(&back, &all);
            prop_assert_eq!(all.count(), all.buckets().map(|bucket| bucket.count).sum::<u64>());
        }

        #[test]
        fn bytes_give_the_same_sketch_back(values in vec(duration(), 0..200)) {
            let sketch = sketch(&values);
            prop_assert_eq!(read(&sketch.to_bytes()), Some(sketch));
        }

        #[test]
        fn hostile_bytes_are_refused_or_mean_what_they_say(mut bytes in vec(any::<u8>(), 0..60)) {
            bytes.insert(0, FORM);
            if let Some(sketch) = read(&bytes) {
                prop_assert_eq!(sketch.to_bytes(), bytes);
            }
        }
    }
}
