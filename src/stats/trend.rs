//! Where figures are going: a slope that a few outliers do not bend, and whether there is one at all.
//!
//! - Slope: Theil–Sen, the median of the slopes of all pairs of points (Theil 1950; Sen 1968, *J. Am.
//!   Stat. Assoc.* 63, 1379–1389).
//! - Its 95 % interval: Sen's, from the variance of Kendall's S (Gilbert 1987, *Statistical Methods for
//!   Environmental Pollution Monitoring*, §16.5).
//! - Whether there is a trend: Mann–Kendall, two-sided, corrected for ties (Gilbert 1987, §16.4).
//! - Whether the level changed: Pettitt's test (1979, *Applied Statistics* 28, 126–135). Where: at the
//!   step that comes closest to the ranks by least squares, since the extreme of Pettitt's own figure
//!   is a little off where the parts differ in length. A straight trend also makes that test speak, so
//!   a change is told only where a step comes closer to the points than the line does.
//!
//! The tests take points for independent of each other. Figures of minutes are not; those of days come
//! near enough. Points at one instant become one, their median. Above [`MOST`] points, so many are
//! taken at even distances, and the intervals are those of so many: the cost is bounded, and the
//! choice is always the same.

use schemars::JsonSchema;
use serde::Serialize;

/// How many points are looked at, at most; their pairs are two million.
pub const MOST: usize = 2_000;
/// With how many points tests and intervals begin: below, the normal distribution that they use is too
/// far off.
pub const LEAST: usize = 8;
/// Below this probability of chance a trend or a change is told.
pub const SIGNIFICANT: f64 = 0.05;
/// Of 95 %, two-sided, of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

const DAY_MS: f64 = 86_400_000.0;

/// What is said of a series. Figures are in the unit of the series.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Trend {
    /// How many points it stands on.
    pub points: usize,
    pub slope_per_day: f64,
    /// The lower end of the 95 % interval of the slope; null with too few points.
    pub slope_low: Option<f64>,
    pub slope_high: Option<f64>,
    /// The probability to see as much by chance; null with too few points.
    pub p_value: Option<f64>,
    pub direction: Direction,
    /// The line's value at the last point.
    pub level: f64,
    pub change: Option<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Rising,
    Falling,
    /// Nothing that could not be chance, or no slope at all.
    Steady,
    /// Too few points to say.
    Unclear,
}

impl Direction {
    /// As it is written in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Rising => "rising",
            Direction::Falling => "falling",
            Direction::Steady => "steady",
            Direction::Unclear => "unclear",
        }
    }
}

/// Where a level became another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Change {
    /// The first point at the new level, in milliseconds since the epoch.
    pub at: i64,
    /// The medians before and from there on.
    pub before: f64,
    pub after: f64,
    pub p_value: f64,
}

/// The trend of points `(ms since the epoch, value)`, in any order. `None` with fewer than two
/// instants; values that are no numbers are left out.
#[must_use]
pub fn trend(points: &[(i64, f64)]) -> Option<Trend> {
    let line = Line::of(points)?;
    let series = &line.series;
    let (slope_low, slope_high) = line.interval.unzip();
    let kendall = (series.len() >= LEAST).then(|| kendall(series));
    let direction = match kendall {
        None => Direction::Unclear,
        // Where most figures are the same, the few others move the ranks and not the line.
        Some(_) if line.slope == 0.0 => Direction::Steady,
        Some((s, p)) if p < SIGNIFICANT && s > 0 => Direction::Rising,
        Some((s, p)) if p < SIGNIFICANT && s < 0 => Direction::Falling,
        Some(_) => Direction::Steady,
    };
    let per_day = |slope: f64| slope * DAY_MS;
    let last = series.last()?.0;
    Some(Trend {
        points: series.len(),
        slope_per_day: per_day(line.slope),
        slope_low: slope_low.map(per_day),
        slope_high: slope_high.map(per_day),
        p_value: kendall.map(|(_, p)| p),
        direction,
        level: line.at(line.slope, last),
        change: line.change(),
    })
}

/// A robust line through a series.
pub(super) struct Line {
    /// One point an instant, in order, at most [`MOST`].
    pub(super) series: Vec<(i64, f64)>,
    /// Per millisecond.
    pub(super) slope: f64,
    /// The 95 % interval of the slope.
    pub(super) interval: Option<(f64, f64)>,
}

impl Line {
    pub(super) fn of(points: &[(i64, f64)]) -> Option<Line> {
        let series = thinned(one_an_instant(points));
        if series.len() < 2 {
            return None;
        }
        let mut slopes = Vec::with_capacity(series.len() * (series.len() - 1) / 2);
        for (place, (then, before)) in series.iter().enumerate() {
            for (now, after) in &series[place + 1..] {
                slopes.push((after - before) / distance(*then, *now));
            }
        }
        let slope = median(&mut slopes)?;
        let interval = (series.len() >= LEAST).then(|| interval(&mut slopes, variance(&series)));
        Some(Line { series, slope, interval })
    }

    /// The value at an instant of the line with a slope, whose height is the median of what the points
    /// ask for (Conover 1980).
    pub(super) fn at(&self, slope: f64, at: i64) -> f64 {
        let from = self.series[0].0;
        let mut heights: Vec<f64> =
            self.series.iter().map(|(then, value)| value - slope * distance(from, *then)).collect();
        median(&mut heights).unwrap_or_default() + slope * distance(from, at)
    }

    /// Pettitt's test, and the place that divides the ranks best.
    fn change(&self) -> Option<Change> {
        let series = &self.series;
        if series.len() < LEAST {
            return None;
        }
        let n = series.len() as f64;
        let (mut sum, mut most, mut best, mut place) = (0.0, 0.0_f64, 0.0, 0);
        for (index, rank) in ranks(series).into_iter().enumerate().take(series.len() - 1) {
            sum += rank;
            let left = (index + 1) as f64;
            let u: f64 = 2.0 * sum - left * (n + 1.0);
            most = most.max(u.abs());
            // What a step here would explain of the squares of the ranks.
            let explained = u * u / (left * (n - left));
            if explained > best {
                (best, place) = (explained, index + 1);
            }
        }
        let p_value = (2.0 * (-6.0 * most * most / (n * n * n + n * n)).exp()).min(1.0);
        if p_value >= SIGNIFICANT {
            return None;
        }
        let (left, right) = series.split_at(place);
        let level = |part: &[(i64, f64)]| {
            median(&mut part.iter().map(|(_, value)| *value).collect::<Vec<_>>())
        };
        let (before, after) = (level(left)?, level(right)?);
        let off = |part: &[(i64, f64)], level: f64| {
            part.iter().map(|(_, value)| (value - level).abs()).sum::<f64>()
        };
        let from = series[0].0;
        let height = self.at(self.slope, from);
        let line =
            |(at, value): &(i64, f64)| (value - height - self.slope * distance(from, *at)).abs();
        let by_line: f64 = series.iter().map(line).sum();
        let by_step = off(left, before) + off(right, after);
        (by_step < by_line).then_some(Change { at: series[place].0, before, after, p_value })
    }
}

/// Kendall's S and the probability of one as far from zero by chance.
fn kendall(series: &[(i64, f64)]) -> (i64, f64) {
    let mut s = 0_i64;
    for (place, (_, before)) in series.iter().enumerate() {
        for (_, after) in &series[place + 1..] {
            s += i64::from(after > before) - i64::from(after < before);
        }
    }
    let variance = variance(series);
    if variance <= 0.0 {
        return (s, 1.0);
    }
    // Continuity: S moves in steps of two.
    let z = (s.unsigned_abs() as f64 - 1.0).max(0.0) / variance.sqrt();
    (s, erfc(z / std::f64::consts::SQRT_2))
}

/// The variance of S without a trend, with groups of equal values taken into account.
fn variance(series: &[(i64, f64)]) -> f64 {
    let term = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let mut values: Vec<f64> = series.iter().map(|(_, value)| *value).collect();
    values.sort_unstable_by(f64::total_cmp);
    let ties: f64 = values.chunk_by(|a, b| a == b).map(|group| term(group.len() as f64)).sum();
    (term(series.len() as f64) - ties) / 18.0
}

/// Sen's interval: the slopes whose ranks lie Z standard deviations of S around the middle.
// A rank is clamped.
fn interval(slopes: &mut [f64], variance: f64) -> (f64, f64) {
    let pairs = slopes.len() as f64;
    let c = Z * variance.max(0.0).sqrt();
    let top = slopes.len() - 1;
    // Ranks between two slopes are taken outward, so that the interval is rather too wide.
    let low = (((pairs - c) / 2.0).floor() as usize).saturating_sub(1).min(top);
    let high = (((pairs + c) / 2.0).ceil() as usize).min(top);
    let low = *slopes.select_nth_unstable_by(low, f64::total_cmp).1;
    let high = *slopes.select_nth_unstable_by(high, f64::total_cmp).1;
    (low, high)
}

/// Ranks of the values from 1; equal ones share the mean of theirs.
fn ranks(series: &[(i64, f64)]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..series.len()).collect();
    order.sort_by(|a, b| series[*a].1.total_cmp(&series[*b].1));
    let mut ranks = vec![0.0; series.len()];
    let mut before = 0;
    for group in order.chunk_by(|a, b| series[*a].1 == series[*b].1) {
        let rank = before as f64 + (group.len() as f64 + 1.0) / 2.0;
        group.iter().for_each(|place| ranks[*place] = rank);
        before += group.len();
    }
    ranks
}

fn one_an_instant(points: &[(i64, f64)]) -> Vec<(i64, f64)> {
    let mut sorted: Vec<(i64, f64)> =
        points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.total_cmp(&b.1)));
    sorted
        .chunk_by(|a, b| a.0 == b.0)
        .filter_map(|group| {
            let mut values: Vec<f64> = group.iter().map(|(_, value)| *value).collect();
            Some((group[0].0, median(&mut values)?))
        })
        .collect()
}

/// At even distances, the first and the last among them.
fn thinned(series: Vec<(i64, f64)>) -> Vec<(i64, f64)> {
    if series.len() <= MOST {
        return series;
    }
    let last = series.len() - 1;
    (0..MOST).map(|place| series[place * last / (MOST - 1)]).collect()
}

/// The middle value, or the mean of the two in the middle.
fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    if values.is_empty() {
        return None;
    }
    let even = values.len().is_multiple_of(2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if !even {
        return Some(upper);
    }
    let lower = below.iter().copied().max_by(f64::total_cmp)?;
    Some(lower + (upper - lower) / 2.0)
}

fn distance(from: i64, to: i64) -> f64 {
    to as f64 - from as f64
}

/// The complementary error function, to 1.2e-7 of its value: Numerical Recipes in C, 2nd edition, §6.2.
fn erfc(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let z = x.abs();
    let t = 1.0 / (1.0 + 0.5 * z);
    let sum = COEFFICIENTS.iter().rev().fold(0.0, |sum, coefficient| sum * t + coefficient);
    let tail = t * (-z * z + sum).exp();
    if x >= 0.0 { tail } else { 2.0 - tail }
}

#[cfg(test)]
mod tests;
