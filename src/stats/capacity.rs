//! When a line is crossed: memory that runs full, a disk, a count of records, a latency.
//!
//! The robust line of [`trend`](super::trend) is prolonged: the instant is where it meets the limit,
//! and its interval comes from the interval of the slope, each with the height that the points ask of
//! that slope. A forecast further away than the time that was seen is told nowhere: the horizon is the
//! caller's, and [`FARTHEST`] times the seen time at most.

use schemars::JsonSchema;
use serde::Serialize;

use super::trend::Line;

/// A forecast reaches at most so many times as far as what was seen.
pub const FARTHEST: i64 = 4;

/// A line that is not to be crossed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Limit {
    pub value: f64,
    pub side: Side,
}

/// On which side of a limit the trouble is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// It must not rise to it, such as memory in use.
    Above,
    /// It must not fall to it, such as space that is free.
    Below,
}

/// When a limit is reached, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Crossing {
    pub at: i64,
    /// By the steepest slope of the 95 % interval; null with too few points for one.
    pub earliest: Option<i64>,
    /// By the least steep one; null when that does not reach it within the horizon.
    pub latest: Option<i64>,
    /// The line is beyond the limit already; then `at` is now.
    pub already: bool,
}

/// When the points `(ms since the epoch, value)` are going to cross a limit, from `now` on. `None` when
/// they do not before `now + horizon_ms`, or there are too few to say.
#[must_use]
pub fn crossing(
    points: &[(i64, f64)],
    limit: Limit,
    now: i64,
    horizon_ms: i64,
) -> Option<Crossing> {
    let line = Line::of(points)?;
    let seen = line.series.last()?.0.saturating_sub(line.series.first()?.0);
    let horizon = horizon_ms.min(seen.saturating_mul(FARTHEST));
    let meets = |slope: f64| meeting(&line, slope, limit, now, horizon);
    let at = meets(line.slope)?;
    let (gentle, steep) = match (line.interval, limit.side) {
        (None, _) => (None, None),
        (Some((low, high)), Side::Above) => (Some(low), Some(high)),
        (Some((low, high)), Side::Below) => (Some(high), Some(low)),
    };
    Some(Crossing {
        at,
        // By its own height, a steeper line may in rare cases be later; the interval holds the instant.
        earliest: steep.and_then(meets).map(|earliest| earliest.min(at)),
        latest: gentle.and_then(meets).map(|latest| latest.max(at)),
        already: at <= now,
    })
}

/// Where figures are expected at an instant, if they go on like that.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Ahead {
    /// Milliseconds since the epoch.
    pub at: i64,
    pub value: f64,
    /// By the ends of the 95 % interval of the slope.
    pub low: f64,
    pub high: f64,
}

/// The line of the points from `now` until `until`, or until [`FARTHEST`] times the seen time; empty
/// with too few points for an interval. What was never below zero is not expected there.
#[must_use]
pub fn ahead(points: &[(i64, f64)], now: i64, until: i64) -> Vec<Ahead> {
    /// Pieces: where the ends of the interval meet the line they bend.
    const PIECES: i64 = 30;
    let Some(line) = Line::of(points) else { return Vec::new() };
    let (Some((low, high)), Some(first), Some(last)) =
        (line.interval, line.series.first(), line.series.last())
    else {
        return Vec::new();
    };
    let seen = last.0.saturating_sub(first.0);
    let until = until.min(now.saturating_add(seen.saturating_mul(FARTHEST)));
    if until <= now {
        return Vec::new();
    }
    let floor = match line.series.iter().all(|(_, value)| *value >= 0.0) {
        true => 0.0,
        false => f64::NEG_INFINITY,
    };
    let step = (until - now) / PIECES;
    (0..=PIECES)
        .map(|piece| {
            let at = if piece == PIECES { until } else { now + piece * step };
            let [value, low, high] =
                [line.slope, low, high].map(|slope| line.at(slope, at).max(floor));
            Ahead { at, value, low: low.min(value).min(high), high: high.max(value).max(low) }
        })
        .collect()
}

/// Where a line with a slope meets the limit; `now` when it is beyond it.
// The distance is below the horizon.
fn meeting(line: &Line, slope: f64, limit: Limit, now: i64, horizon: i64) -> Option<i64> {
    let toward = match limit.side {
        Side::Above => 1.0,
        Side::Below => -1.0,
    };
    let missing = (limit.value - line.at(slope, now)) * toward;
    if missing <= 0.0 {
        return Some(now);
    }
    let speed = slope * toward;
    let wait = missing / speed;
    (speed > 0.0 && wait <= horizon as f64).then(|| now.saturating_add(wait.ceil() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    /// A value a day, with something added to it.
    fn days(count: i64, value: impl Fn(i64) -> f64) -> Vec<(i64, f64)> {
        (0..count).map(|day| (day * DAY, value(day))).collect()
    }

    fn rough(day: i64) -> f64 {
        [0.0, 3.0, -2.0, 1.0, -3.0, 2.0, -1.0][(day % 7) as usize]
    }

    fn above(value: f64) -> Limit {
        Limit { value, side: Side::Above }
    }

    #[test]
    fn a_straight_line_meets_its_limit_to_the_millisecond() {
        let points = days(30, |day| 40.0 + day as f64);
        let found = crossing(&points, above(90.0), 29 * DAY, 365 * DAY).unwrap();
        assert_eq!(found.at, 50 * DAY);
        assert_eq!((found.earliest, found.latest), (Some(50 * DAY), Some(50 * DAY)));
        assert!(!found.already);

        let free = days(30, |day| 60.0 - day as f64);
        let limit = Limit { value: 10.0, side: Side::Below };
        assert_eq!(crossing(&free, limit, 29 * DAY, 365 * DAY).unwrap().at, 50 * DAY);
    }

    #[test]
    fn the_interval_of_a_rough_series_holds_the_truth() {
        let points = days(40, |day| 20.0 + 0.5 * day as f64 + rough(day));
        let found = crossing(&points, above(60.0), 39 * DAY, 365 * DAY).unwrap();
        let (earliest, latest) = (found.earliest.unwrap(), found.latest.unwrap());
        assert!(earliest < 80 * DAY && 80 * DAY < latest, "{found:?}");
        assert!(earliest <= found.at && found.at <= latest);
    }

    #[test]
    fn what_does_not_come_near_a_limit_crosses_none() {
        let rising = days(30, |day| 40.0 + day as f64);
        for (what, points, limit, horizon) in [
            ("steady", days(30, rough), above(90.0), 365 * DAY),
            ("falling", days(30, |day| 40.0 - day as f64), above(90.0), 365 * DAY),
            ("beyond the horizon", rising.clone(), above(90.0), 20 * DAY),
            ("farther than four times what was seen", rising.clone(), above(200.0), i64::MAX),
            ("a single point", days(1, |_| 40.0), above(90.0), 365 * DAY),
            ("no limit at all", rising, above(f64::NAN), 365 * DAY),
        ] {
            assert_eq!(crossing(&points, limit, 29 * DAY, horizon), None, "{what}");
        }
    }

    #[test]
    fn a_limit_that_is_behind_is_crossed_now() {
        let points = days(30, |day| 40.0 + day as f64);
        let found = crossing(&points, above(50.0), 29 * DAY, 365 * DAY).unwrap();
        assert!(found.already);
        assert_eq!(found.at, 29 * DAY);
    }

    #[test]
    fn what_is_ahead_widens_and_ends_where_nothing_can_be_known() {
        let points = days(40, |day| 20.0 + 0.5 * day as f64 + rough(day));
        let told = ahead(&points, 39 * DAY, 80 * DAY);
        let (first, last) = (told.first().unwrap(), told.last().unwrap());
        assert_eq!((first.at, last.at), (39 * DAY, 80 * DAY));
        assert!((last.value - 60.0).abs() < 3.0, "{last:?}");
        assert!(last.low < 60.0 && 60.0 < last.high, "{last:?}");
        assert!(last.high - last.low > first.high - first.low);
        assert_eq!(ahead(&points, 39 * DAY, i64::MAX).last().unwrap().at, (39 + 4 * 39) * DAY);
        let falling = ahead(&days(20, |day| 20.0 - day as f64), 19 * DAY, 60 * DAY);
        assert_eq!(falling.last().unwrap().value, 0.0);
        assert_eq!(ahead(&days(5, |day| day as f64), 5 * DAY, 9 * DAY), []);
    }

    #[test]
    fn a_slope_that_may_be_none_has_no_latest_end() {
        let points = days(30, |day| 50.0 + 0.02 * day as f64 + rough(day));
        let found = crossing(&points, above(51.5), 29 * DAY, 365 * DAY).unwrap();
        assert_eq!(found.latest, None);
        assert!(found.earliest.is_some());
    }
}
