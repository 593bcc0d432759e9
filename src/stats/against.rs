//! How one figure moves with another: response times with the load.
//!
//! The same robust line as in [`trend`](super::trend), over the load in the place of time: Theil–Sen
//! with Sen's interval, and Mann–Kendall, which there is Kendall's rank correlation. It says that two
//! figures move together, not that one is the other's cause.

use schemars::JsonSchema;
use serde::Serialize;

use super::trend::{Direction, trend};

/// With fewer pairs, or fewer different loads, nothing is told.
pub const LEAST_PAIRS: usize = 24;
const LEAST_LOADS: usize = 8;

/// How a figure moves with a load.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Against {
    pub pairs: usize,
    pub load_min: f64,
    pub load_max: f64,
    /// By how much the figure changes when the load grows by one.
    pub per_unit: f64,
    /// The ends of the 95 % interval.
    pub per_unit_low: Option<f64>,
    pub per_unit_high: Option<f64>,
    /// The probability to see as much by chance.
    pub p_value: Option<f64>,
    pub direction: Direction,
}

/// Holds figures against loads, pairs of `(load, figure)`. `None` with too few to say.
#[must_use]
pub fn against(pairs: &[(f64, f64)]) -> Option<Against> {
    /// Steps of the load between its ends.
    const STEPS: f64 = 1e9;
    const DAY_MS: f64 = 86_400_000.0;
    let known: Vec<(f64, f64)> = pairs
        .iter()
        .copied()
        .filter(|(load, figure)| load.is_finite() && figure.is_finite())
        .collect();
    let load_min = known.iter().map(|(load, _)| *load).fold(f64::INFINITY, f64::min);
    let load_max = known.iter().map(|(load, _)| *load).fold(f64::NEG_INFINITY, f64::max);
    let range = load_max - load_min;
    if known.len() < LEAST_PAIRS || range <= 0.0 || !range.is_finite() {
        return None;
    }
    // A share of the steps.
    let steps = |load: f64| ((load - load_min) / range * STEPS).round() as i64;
    let points: Vec<(i64, f64)> =
        known.iter().map(|(load, figure)| (steps(*load), *figure)).collect();
    let line = trend(&points).filter(|line| line.points >= LEAST_LOADS)?;
    let per_unit = |per_day: f64| per_day / DAY_MS * STEPS / range;
    Some(Against {
        pairs: known.len(),
        load_min,
        load_max,
        per_unit: per_unit(line.slope_per_day),
        per_unit_low: line.slope_low.map(per_unit),
        per_unit_high: line.slope_high.map(per_unit),
        p_value: line.p_value,
        direction: line.direction,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A load that comes and goes, with something rough beside it.
    fn pairs(count: usize, figure: impl Fn(f64, f64) -> f64) -> Vec<(f64, f64)> {
        (0..count)
            .map(|n| {
                let load = (n * 7 % 31) as f64;
                let rough = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
                (load, figure(load, rough as f64))
            })
            .collect()
    }

    #[test]
    fn a_time_that_grows_with_the_load_is_told_with_its_interval() {
        let found = against(&pairs(100, |load, rough| 80.0 + 4.0 * load + rough)).unwrap();
        assert_eq!((found.pairs, found.direction), (100, Direction::Rising));
        assert!((found.per_unit - 4.0).abs() < 0.3, "{found:?}");
        assert!(found.per_unit_low.unwrap() <= 4.0 && 4.0 <= found.per_unit_high.unwrap());
        assert_eq!((found.load_min, found.load_max), (0.0, 30.0));
    }

    #[test]
    fn what_does_not_hang_on_the_load_is_steady() {
        let found = against(&pairs(100, |_, rough| 80.0 + rough)).unwrap();
        assert_eq!(found.direction, Direction::Steady, "{found:?}");
    }

    #[test]
    fn too_few_pairs_or_one_load_say_nothing() {
        assert_eq!(against(&pairs(LEAST_PAIRS - 1, |load, _| load)), None);
        assert_eq!(against(&vec![(3.0, 1.0); 100]), None);
        let two: Vec<_> = (0..100).map(|n| (f64::from(n % 2), f64::from(n))).collect();
        assert_eq!(against(&two), None);
        assert_eq!(against(&vec![(f64::NAN, 1.0); 100]), None);
    }
}
