//! Availability day by day. A short outage of a long day is drawn tall enough to be seen; the true
//! shares stand in the table.

use maud::{Markup, html};

use super::chart::{clock, fill, legend, names_below, nothing, percent};
use crate::model::text::one_line;
use crate::render::chart::{self, Condition, Held, Strip, StripCell, StripRow};

const HEIGHT: f64 = 32.0;
/// What every condition that held at all gets.
const LEAST: f64 = 8.0;

pub(super) fn draw(strip: &Strip) -> Markup {
    let Some(first) = strip.rows.iter().find(|row| !row.cells.is_empty()) else {
        return nothing();
    };
    let found = strip.rows.iter().flat_map(|row| &row.cells).flat_map(|cell| conditions(cell.held));
    html! {
        (legend(found))
        div.rows {
            @for row in &strip.rows { (draw_row(row)) }
            svg.axis height="18" aria-hidden="true" { (names_below(days(&first.cells), 14.0)) }
        }
        @let told = "Short parts of a day are drawn taller; the figures are exact. Days";
        (clock(told, &chart::clock(&strip.zone)))
    }
}

fn draw_row(row: &StripRow) -> Markup {
    let count = row.cells.len().max(1) as f64;
    html! {
        div.row {
            span.name { (one_line(&row.label)) }
            svg class=(density(row.cells.len())) height=(HEIGHT) role="img" aria-label=(in_words(row)) {
                @for (index, cell) in row.cells.iter().enumerate() {
                    g {
                        title { (one_line(&format!("{}: {}", cell.label, cell.text))) }
                        (draw_cell(cell, index as f64 / count, 1.0 / count))
                    }
                }
            }
            span.summary { (one_line(&row.summary)) }
        }
    }
}

/// The gaps between days get narrower with them: what is drawn of a day must not be less than its gap.
fn density(days: usize) -> &'static str {
    match days {
        0..=45 => "strip",
        46..=120 => "strip dense",
        _ => "strip packed",
    }
}

fn draw_cell(cell: &StripCell, x: f64, width: f64) -> Markup {
    let parts = heights(cell.held);
    let (x, width) = (percent(x), percent(width));
    let mut top = 0.0;
    html! {
        @if parts.is_empty() { rect.is-none x=(x) width=(width) height=(HEIGHT) {} }
        @for (condition, height) in parts {
            rect class=(fill(condition)) x=(x) y=(format!("{top:.1}")) width=(width)
                height=(format!("{height:.1}")) {}
            @let () = top += height;
        }
    }
}

/// How tall each part of a cell is, from the best on top to the worst.
fn heights(held: Held) -> Vec<(Condition, f64)> {
    let total = held.total() as f64;
    let mut parts: Vec<(Condition, f64)> = conditions(held)
        .map(|condition| (condition, (held.of(condition) as f64 / total * HEIGHT).max(LEAST)))
        .collect();
    let over: f64 = parts.iter().map(|(_, height)| height).sum::<f64>() - HEIGHT;
    let spare: f64 = parts.iter().map(|(_, height)| height - LEAST).sum();
    if over > 0.0 && spare > 0.0 {
        for (_, height) in &mut parts {
            *height -= (*height - LEAST) * (over / spare).min(1.0);
        }
    }
    parts
}

fn conditions(held: Held) -> impl Iterator<Item = Condition> {
    Condition::ALL.into_iter().filter(move |condition| held.of(*condition) > 0)
}

/// About six days that are named below the strip.
fn days(cells: &[StripCell]) -> impl Iterator<Item = (f64, &str)> {
    let count = cells.len();
    let step = [1, 2, 7, 14, 28, 91, 182].into_iter().find(|step| count <= step * 7).unwrap_or(364);
    cells
        .iter()
        .enumerate()
        .step_by(step)
        .map(move |(index, cell)| ((index as f64 + 0.5) / count as f64, cell.label.as_str()))
}

/// A row for whoever does not see it: how many days were what.
fn in_words(row: &StripRow) -> String {
    let mut parts = Vec::new();
    for condition in Condition::ALL {
        let days = row.cells.iter().filter(|cell| cell.held.worst() == Some(condition)).count();
        match (days, condition) {
            (0, _) => {}
            (days, Condition::Up) => parts.push(format!("{days} all up")),
            (days, condition) => parts.push(format!("{days} with time {}", condition.as_str())),
        }
    }
    if parts.is_empty() {
        parts.push("no figures".to_owned());
    }
    one_line(&format!("{}: {} days, {}", row.label, row.cells.len(), parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_down_is_seen_and_a_cell_is_as_tall_as_the_next() {
        let day = 86_400_000;
        for held in [
            Held { up: day - 60_000, down: 60_000, ..Held::default() },
            Held { up: 1, degraded: 1, down: 1, unknown: 1, ..Held::default() },
            Held { down: u64::MAX, up: u64::MAX, ..Held::default() },
            Held { up: day, ..Held::default() },
        ] {
            let parts = heights(held);
            let sum: f64 = parts.iter().map(|(_, height)| height).sum();
            assert!((sum - HEIGHT).abs() < 0.01, "{parts:?}");
            assert!(parts.iter().all(|(_, height)| *height >= LEAST - 0.01), "{parts:?}");
        }
        assert!(heights(Held::default()).is_empty());
    }
}
