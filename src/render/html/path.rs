//! From points to the path of a line: gaps stay gaps, and a million points draw no more than a
//! screen can show, with every peak among them.

use std::fmt::Write as _;

use crate::render::chart::{BandPoint, Period, Point, Scale};

/// How many units wide a drawing is before it is stretched.
pub(super) const WIDTH: f64 = 1000.0;

/// The lines of a series, and the points that have no neighbour to draw a line to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Path {
    pub(super) lines: String,
    pub(super) dots: String,
    /// Between the lines and the figure zero, or the nearer end of the axis.
    pub(super) area: String,
}

pub(super) fn path(points: &[Point], period: &Period, scale: &Scale, height: f64) -> Path {
    let ground = (1.0 - scale.share(0.0).clamp(0.0, 1.0)) * height;
    let mut path = Path::default();
    for piece in pieces(points, period, scale, height) {
        match piece.as_slice() {
            [] => {}
            [(x, y)] => {
                let _ = write!(path.dots, "M{x:.1} {y:.1}h0");
            }
            [(first, _), .., (last, _)] => {
                let mut line = String::new();
                for (index, (x, y)) in piece.iter().enumerate() {
                    let _ = write!(line, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
                }
                let _ = write!(path.area, "{line}L{last:.1} {ground:.1}L{first:.1} {ground:.1}Z");
                path.lines.push_str(&line);
            }
        }
    }
    path
}

/// The outline of a band.
pub(super) fn band(points: &[BandPoint], period: &Period, scale: &Scale, height: f64) -> String {
    let mut points: Vec<&BandPoint> = points
        .iter()
        .filter(|point| point.low.is_finite() && point.high.is_finite())
        .filter(|point| (0.0..=1.0).contains(&period.share(point.at_ms)))
        .collect();
    points.sort_by_key(|point| point.at_ms);
    if points.len() < 2 {
        return String::new();
    }
    let there = points.iter().map(|point| (point.at_ms, point.high));
    let back = points.iter().rev().map(|point| (point.at_ms, point.low));
    let mut outline = String::new();
    for (at_ms, value) in there.chain(back) {
        let (x, y) = (period.share(at_ms) * WIDTH, (1.0 - scale.share(value)) * height);
        let _ = write!(outline, "{}{x:.1} {y:.1}", if outline.is_empty() { 'M' } else { 'L' });
    }
    outline.push('Z');
    outline
}

/// Points that belong together, as places in the drawing.
fn pieces(points: &[Point], period: &Period, scale: &Scale, height: f64) -> Vec<Vec<(f64, f64)>> {
    let mut sorted: Vec<&Point> = points.iter().collect();
    sorted.sort_by_key(|point| point.at_ms);
    let mut pieces = vec![Vec::new()];
    for point in sorted {
        let share = period.share(point.at_ms);
        if !(0.0..=1.0).contains(&share) {
            continue;
        }
        match (point.known(), pieces.last_mut()) {
            (Some(value), Some(piece)) => {
                piece.push((share * WIDTH, (1.0 - scale.share(value)) * height));
            }
            _ => pieces.push(Vec::new()),
        }
    }
    pieces.into_iter().map(thinned).collect()
}

/// Of each column the first, the lowest, the highest and the last: the same ink, and no peak lost.
fn thinned(piece: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if piece.len() as f64 <= 2.0 * WIDTH {
        return piece;
    }
    piece
        .chunk_by(|one, next| one.0.floor() == next.0.floor())
        .flat_map(|column| {
            let extreme = |sign: f64| {
                (0..column.len())
                    .max_by(|a, b| (sign * column[*a].1).total_cmp(&(sign * column[*b].1)))
            };
            let mut kept: Vec<usize> =
                [Some(0), extreme(-1.0), extreme(1.0), column.len().checked_sub(1)]
                    .into_iter()
                    .flatten()
                    .collect();
            kept.sort_unstable();
            kept.dedup();
            kept.into_iter().map(|index| column[index]).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::render::chart::{Unit, scale};

    fn drawn(points: &[(i64, Option<f64>)]) -> Path {
        let points: Vec<Point> =
            points.iter().map(|&(at_ms, value)| Point { at_ms, value }).collect();
        let period = Period { from_ms: 0, until_ms: 1000, zone: TimeZone::UTC };
        path(&points, &period, &scale(Some((0.0, 4.0)), &Unit::Count), 100.0)
    }

    #[test]
    fn a_gap_is_not_drawn_over_and_a_lonely_point_is_a_dot() {
        let path = drawn(&[
            (0, Some(0.0)),
            (100, Some(4.0)),
            (200, None),
            (300, Some(2.0)),
            (400, Some(f64::NAN)),
            (500, Some(1.0)),
            (600, Some(1.0)),
        ]);
        assert_eq!(path.lines, "M0.0 100.0L100.0 0.0M500.0 75.0L600.0 75.0");
        assert_eq!(path.dots, "M300.0 50.0h0");
        assert_eq!(drawn(&[]), Path::default());
        assert_eq!(drawn(&[(10, None), (20, None)]), Path::default());
        assert_eq!(drawn(&[(-5, Some(1.0)), (2000, Some(1.0))]), Path::default(), "outside");
    }

    #[test]
    fn of_many_points_every_peak_is_kept() {
        let mut points: Vec<Point> = (0..100_000)
            .map(|at_ms| Point { at_ms, value: Some(1.0 + (at_ms % 7) as f64 / 10.0) })
            .collect();
        points[54_321].value = Some(4.0);
        points[54_322].value = Some(0.0);
        let period = Period { from_ms: 0, until_ms: 100_000, zone: TimeZone::UTC };
        let scale = scale(Some((0.0, 4.0)), &Unit::Count);
        let pieces = pieces(&points, &period, &scale, 100.0);
        let heights: Vec<f64> = pieces.concat().iter().map(|(_, y)| *y).collect();
        assert!(heights.len() <= 4004, "{}", heights.len());
        assert!(heights.contains(&0.0) && heights.contains(&100.0));
    }
}
