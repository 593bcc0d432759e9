//! `report capacity`: what runs full or slow, when, and how response times move with the load.

use super::Head;
use super::trends::{COLUMNS, FIGURES, between, chart, figures, row, title, unit, unit_named};
use crate::render::{Block, Cell, Output, Row, Table, Tone};
use crate::report::{Line, LoadEffect};
use crate::stats::trend::Direction;
use crate::view::human::{or_dash, table};

/// The report in every form.
#[must_use]
pub fn output(head: Head, lines: Vec<Line>) -> Output {
    let mut blocks = vec![Block::Table(rows(&head, &lines)), Block::Blank];
    if lines.iter().all(|line| line.crossing.is_none()) {
        blocks.push(Block::text("No limit is going to be crossed within what can be foreseen."));
    }
    let loads: Vec<Row> =
        lines.iter().filter_map(|line| Some(load(line, line.load.as_ref()?))).collect();
    if !loads.is_empty() {
        let loads = table(
            &[
                "server",
                "check",
                "load",
                "hours",
                "from",
                "to",
                "p95 for one more",
                "95 % interval",
                "verdict",
            ],
            loads,
        );
        blocks.push(Block::section("Response times against load", vec![Block::Table(loads)]));
    }
    blocks.extend(lines.iter().filter(|line| line.points.len() > 1).map(|line| chart(&head, line)));
    let rows = table(&FIGURES, lines.iter().map(figures).collect());
    head.output("Capacity", lines, rows, blocks)
}

fn rows(head: &Head, lines: &[Line]) -> Table {
    let columns: Vec<&str> = COLUMNS.iter().copied().chain(["between", "newest"]).collect();
    let rows = lines.iter().map(|line| {
        let mut row = row(head, line);
        row.push(or_dash(between(head, line).as_deref()));
        row.push(or_dash(line.newest.map(|newest| unit(line).say(newest.value)).as_deref()));
        row
    });
    table(&columns, rows.collect())
}

/// How the p95 of one check moves with what the server has to do.
fn load(line: &Line, load: &LoadEffect) -> Row {
    let effect = &load.effect;
    let unit = unit_named(load.unit);
    let ms = |value: f64| format!("{value:.3} ms");
    let interval = effect.per_unit_low.zip(effect.per_unit_high);
    vec![
        Cell::plain(&line.server),
        or_dash(line.check.as_deref()),
        Cell::plain(title(&load.gauge)),
        effect.pairs.to_string().into(),
        Cell::plain(unit.say(effect.load_min)),
        Cell::plain(unit.say(effect.load_max)),
        Cell::plain(ms(effect.per_unit)),
        or_dash(interval.map(|(low, high)| format!("{} to {}", ms(low), ms(high))).as_deref()),
        match effect.direction {
            Direction::Rising => Cell::toned("slower with load", Tone::Warning),
            Direction::Falling => Cell::plain("faster with load"),
            Direction::Steady => Cell::toned("does not move with load", Tone::Dim),
            Direction::Unclear => Cell::toned("unclear", Tone::Unknown),
        },
    ]
}
