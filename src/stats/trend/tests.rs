use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const DAY: i64 = 86_400_000;

fn days(values: &[f64]) -> Vec<(i64, f64)> {
    values.iter().zip(0..).map(|(value, day)| (day * DAY, *value)).collect()
}

#[test]
fn the_slope_is_the_median_of_the_slopes_of_pairs() {
    // The slopes of its six pairs are 1, 2, 3, 3, 4 and 5.
    let found = trend(&days(&[0.0, 1.0, 4.0, 9.0])).unwrap();
    assert_eq!(found.slope_per_day, 3.0);
    assert_eq!((found.direction, found.p_value), (Direction::Unclear, None));
    assert_eq!(trend(&[]), None);
    assert_eq!(trend(&[(0, 1.0), (0, 2.0)]), None);
    assert_eq!(trend(&[(0, 1.0), (DAY, f64::NAN)]), None);
}

#[test]
fn the_test_and_the_interval_are_those_of_the_textbook() {
    // Gilbert 1987, §16.4 and §16.5: S and its variance by hand for ten values without ties are
    // 10 × 9 × 25 ÷ 18 = 125.
    let series = days(&[4.0, 1.0, 2.0, 6.0, 3.0, 7.0, 5.0, 9.0, 8.0, 10.0]);
    assert_eq!(variance(&series), 125.0);
    let (s, p) = kendall(&series);
    assert_eq!(s, 31);
    // Z = 30 ÷ √125 = 2.683; two-sided 0.0073.
    assert!((p - 0.007_290).abs() < 1e-5, "{p}");
    // With a group of two and one of three: less by (2 × 1 × 9 + 3 × 2 × 11) ÷ 18.
    let tied = days(&[1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    assert!((variance(&tied) - (125.0 - 84.0 / 18.0)).abs() < 1e-9);
}

#[test]
fn a_line_without_a_slope_rises_nowhere() {
    let mut values = [100.0; 26];
    values[20..].fill(101.0);
    let found = trend(&days(&values)).unwrap();
    assert!(found.p_value.unwrap() < SIGNIFICANT, "the ranks move: {found:?}");
    assert_eq!((found.slope_per_day, found.direction), (0.0, Direction::Steady));
}

#[test]
fn the_error_function_is_that_of_the_tables() {
    for (x, expected) in [
        (0.0, 1.0),
        (0.5, 0.479_500_122),
        (1.0, 0.157_299_207),
        (2.0, 0.004_677_735),
        (-1.0, 1.842_700_793),
    ] {
        assert!((erfc(x) - expected).abs() < 2e-7, "{x}: {}", erfc(x));
    }
    // 1.96 standard deviations are 5 %.
    assert!((erfc(Z / std::f64::consts::SQRT_2) - 0.05).abs() < 1e-7);
}

#[test]
fn a_rise_is_told_and_a_few_outliers_do_not_bend_it() {
    let mut values: Vec<f64> =
        (0..60).map(|day| 100.0 + 2.0 * f64::from(day) + f64::from(day * 7 % 5)).collect();
    for day in [5, 20, 41] {
        values[day] = 100_000.0;
    }
    let found = trend(&days(&values)).unwrap();
    assert_eq!(found.direction, Direction::Rising);
    assert!((found.slope_per_day - 2.0).abs() < 0.05, "{found:?}");
    assert!(found.slope_low.unwrap() <= 2.0 && 2.0 <= found.slope_high.unwrap());
    assert!((found.level - 220.0).abs() < 3.0);
    assert_eq!(found.change, None, "a line is not a step");
}

#[test]
fn what_could_be_chance_is_steady() {
    let values: Vec<f64> = (0..40).map(|day| f64::from(day * 17 % 11)).collect();
    let found = trend(&days(&values)).unwrap();
    assert_eq!(found.direction, Direction::Steady);
    assert_eq!(found.change, None);
    assert!(found.slope_low.unwrap() <= 0.0 && 0.0 <= found.slope_high.unwrap());
    let flat = trend(&days(&[5.0; 20])).unwrap();
    assert_eq!(
        (flat.direction, flat.slope_per_day, flat.p_value),
        (Direction::Steady, 0.0, Some(1.0))
    );
}

#[test]
fn a_step_is_told_with_its_day_and_both_levels() {
    let values: Vec<f64> =
        (0..40).map(|day| f64::from(day * 7 % 5) + if day < 23 { 100.0 } else { 180.0 }).collect();
    let change = trend(&days(&values)).unwrap().change.unwrap();
    assert_eq!(change.at, 23 * DAY);
    assert_eq!((change.before, change.after), (102.0, 182.0));
    assert!(change.p_value < 0.001);
}

#[test]
fn many_points_cost_no_more_than_the_most() {
    let minutes: Vec<(i64, f64)> =
        (0..50_000).map(|minute| (minute * 60_000, 3.0 * minute as f64 / 1440.0)).collect();
    let found = trend(&minutes).unwrap();
    assert_eq!(found.points, MOST);
    assert!((found.slope_per_day - 3.0).abs() < 1e-9);
    let series = thinned(minutes.clone());
    assert_eq!((series[0], series[MOST - 1]), (minutes[0], minutes[49_999]));
}

proptest! {
    #[test]
    fn figures_are_those_of_all_pairs_in_order(
        values in vec((0_i64..60, -50_i32..50), 2..40),
    ) {
        let points: Vec<(i64, f64)> =
            values.iter().map(|(day, value)| (day * DAY, f64::from(*value))).collect();
        // The median of each day, by sorting.
        let middle = |mut all: Vec<f64>| {
            all.sort_by(f64::total_cmp);
            (all[(all.len() - 1) / 2] + all[all.len() / 2]) / 2.0
        };
        let mut series = Vec::new();
        for day in 0..60 {
            let of_day: Vec<f64> =
                points.iter().filter(|point| point.0 == day * DAY).map(|point| point.1).collect();
            if !of_day.is_empty() {
                series.push((day, middle(of_day)));
            }
        }
        let found = trend(&points);
        prop_assert_eq!(found.is_some(), series.len() > 1);
        let Some(found) = found else { return Ok(()) };
        let mut slopes = Vec::new();
        for (day, value) in &series {
            for (later, other) in series.iter().filter(|(later, _)| later > day) {
                slopes.push((other - value) / (later - day) as f64);
            }
        }
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9 * (1.0 + b.abs());
        prop_assert!(near(found.slope_per_day, middle(slopes.clone())));
        slopes.sort_by(f64::total_cmp);
        if let (Some(low), Some(high)) = (found.slope_low, found.slope_high) {
            prop_assert!(low <= found.slope_per_day && found.slope_per_day <= high);
            // The interval and the test agree on whether there is a trend, but for the edge.
            if found.p_value.unwrap() < 0.03 {
                prop_assert!(low >= 0.0 || high <= 0.0, "{found:?}");
            }
            if found.p_value.unwrap() > 0.08 {
                prop_assert!(low <= 0.0 && high >= 0.0, "{found:?}");
            }
        }
        let turned: Vec<(i64, f64)> = points.iter().rev().copied().collect();
        prop_assert_eq!(trend(&turned), Some(found));
    }
}
