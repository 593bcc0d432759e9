//! Figures over time, and what is left of a budget.

use maud::{Markup, html};

use super::chart::{Name, clock, nothing};
use super::path::{band, path};
use super::plane::{HEIGHT, Plane, is_cut, letter, sample, swatch};
use crate::model::text::one_line;
use crate::render::Tone;
use crate::render::chart::{BurnDown, Lines, Point, Scale, Threshold, Unit, extremes, scale};

pub(super) fn draw(lines: &Lines, name: Name<'_>) -> Markup {
    if lines.series.iter().all(|series| series.points.iter().all(|p| p.known().is_none())) {
        return nothing();
    }
    let scale = scale(lines.extremes(), &lines.unit);
    let plane = Plane { period: &lines.period, scale: &scale, unit: &lines.unit, name };
    let between = lines.band.as_ref().map(|one| band(&one.points, &lines.period, &scale, HEIGHT));
    let stretched = html! {
        @if let Some(outline) = &between { path.band d=(outline) {} }
        @for (index, series) in lines.series.iter().enumerate() {
            @let drawn = path(&series.points, &lines.period, &scale, HEIGHT);
            g {
                title { (one_line(&series.name)) }
                @let pen = pen(index, series.is_reckoned);
                @if !drawn.lines.is_empty() { path class=(pen) d=(drawn.lines) {} }
                @if !drawn.dots.is_empty() { path class=(format!("dot {pen}")) d=(drawn.dots) {} }
            }
        }
    };
    let above = html! {
        @for threshold in &lines.thresholds {
            (plane.threshold(threshold, is_clearer_at_left(lines, threshold.value, &scale)))
        }
        @for (row, mark) in lines.marks.iter().enumerate() {
            (plane.mark(mark.at_ms, row))
        }
    };
    html! {
        ul.legend {
            @for (index, series) in lines.series.iter().enumerate() {
                li { (sample(pen(index, series.is_reckoned))) (one_line(&series.name)) }
            }
            @if let Some(band) = &lines.band { li { (swatch("band")) (one_line(&band.label)) } }
            @for threshold in lines.thresholds.iter().filter(|threshold| is_cut(threshold)) {
                li { (sample("threshold-sample")) (one_line(&threshold.label)) }
            }
            @for (row, mark) in lines.marks.iter().enumerate() {
                li {
                    span.letter { (letter(row)) }
                    span { (lines.period.day(mark.at_ms)) ": " (one_line(&mark.label)) }
                }
            }
        }
        (plane.draw(&stretched, &above))
        (clock("Times", &lines.period.clock()))
    }
}

pub(super) fn burn_down(chart: &BurnDown, name: Name<'_>) -> Markup {
    if chart.left.iter().all(|point| point.known().is_none()) {
        return nothing();
    }
    let percent = |share: f64| share * 100.0;
    let left: Vec<Point> = chart
        .left
        .iter()
        .map(|point| Point { value: point.known().map(percent), ..*point })
        .collect();
    let period = &chart.period;
    let even: Vec<Point> = [period.from_ms, period.until_ms]
        .into_iter()
        .map(|at_ms| Point { at_ms, value: Some(percent(chart.even(at_ms))) })
        .collect();
    let known = left.iter().filter_map(Point::known);
    let scale = scale(extremes(known.chain([0.0, 100.0])), &Unit::Percent);
    let plane = Plane { period, scale: &scale, unit: &Unit::Percent, name };
    let (left, even) = (path(&left, period, &scale, HEIGHT), path(&even, period, &scale, HEIGHT));
    let missed = plane.y(0.0);
    let stretched = html! {
        @if missed < HEIGHT - 0.5 {
            rect.missed y=(format!("{missed:.1}")) width="100%" height="100%" {}
        }
        path.area d=(left.area) {}
        path.even d=(even.lines) {}
        path.line.line-1 d=(left.lines) {}
        @if !left.dots.is_empty() { path.dot.line.line-1 d=(left.dots) {} }
    };
    let spent =
        Threshold { label: "objective missed below".to_owned(), value: 0.0, tone: Tone::Bad };
    html! {
        ul.legend {
            li { (sample("line line-1")) "budget left of " (one_line(&chart.budget)) }
            li { (sample("even")) "spent evenly over the period" }
        }
        (plane.draw(&stretched, &plane.threshold(&spent, true)))
        (clock("Times", &period.clock()))
    }
}

/// Whether the name of a threshold covers less at its left end than at its right.
fn is_clearer_at_left(lines: &Lines, threshold: f64, scale: &Scale) -> bool {
    // How near the lines come to the threshold in a part of the period, as a share of the height.
    let nearest = |part: std::ops::RangeInclusive<f64>| {
        let distance = |value: f64| (scale.share(value) - scale.share(threshold)).abs();
        let is_there = |at_ms: i64| part.contains(&lines.period.share(at_ms));
        let points = lines.series.iter().flat_map(|series| &series.points);
        let points = points.filter(|point| is_there(point.at_ms)).filter_map(Point::known);
        points.map(distance).fold(f64::INFINITY, f64::min)
    };
    let right = nearest(0.8..=1.0);
    right < 0.12 && nearest(0.0..=0.2) > right
}

/// How a series is drawn: what comes seventh looks like the first again.
fn pen(index: usize, is_reckoned: bool) -> &'static str {
    const MEASURED: [&str; 6] =
        ["line line-1", "line line-2", "line line-3", "line line-4", "line line-5", "line line-6"];
    if is_reckoned { "line reckoned" } else { MEASURED[index % MEASURED.len()] }
}
