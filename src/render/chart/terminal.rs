//! Charts in characters: one line a series or a server, fitted to the terminal. Letters say what
//! the colours say.

use super::{
    Bar, Bars, BurnDown, Chart, Condition, Held, Lines, Period, Plot, Point, Strip, StripRow,
    Timeline, Unit, extremes, time_ticks,
};
use crate::model::text::one_line;
use crate::render::layout::width;
use crate::render::{Cell, Row, Tone};

/// Lines that are printed as they are; none is wider than `room`, where a row of figures fits in it.
pub(in crate::render) fn rows(chart: &Chart, room: Option<usize>) -> Vec<Row> {
    let room = room.unwrap_or(USUAL).max(NARROWEST);
    let rows = match &chart.plot {
        Plot::Strip(strip) => strip_rows(strip, room),
        Plot::Lines(lines) => line_rows(lines, room),
        Plot::Timeline(timeline) => timeline_rows(timeline, room),
        Plot::Bars(bars) => bar_rows(bars, room),
        Plot::BurnDown(burn_down) => burn_down_rows(burn_down, room),
    };
    if rows.is_empty() {
        vec![vec![Cell::toned("no figures in this period", Tone::Dim)]]
    } else {
        rows
    }
}

/// How wide a chart is where there is no terminal to fit.
const USUAL: usize = 100;
/// What is narrower than this is left to the terminal to break.
const NARROWEST: usize = 30;
/// More columns than this make a sparkline no clearer.
const LONGEST: usize = 72;
const GAP: &str = "  ";

fn strip_rows(strip: &Strip, room: usize) -> Vec<Row> {
    let Some(first) = strip.rows.iter().find(|row| !row.cells.is_empty()) else {
        return Vec::new();
    };
    let labels = Labels::of(strip.rows.iter().map(|row| &row.label), room);
    let summary = strip.rows.iter().map(|row| width(&one_line(&row.summary))).max().unwrap_or(0);
    let columns = labels.room(room).saturating_sub(summary + GAP.len()).max(8);
    let mut rows: Vec<Row> =
        strip.rows.iter().map(|row| strip_row(row, &labels, columns)).collect();
    let drawn = merged(first, columns).len();
    let ends = [first.cells.first(), first.cells.last()]
        .map(|cell| cell.map(|cell| one_line(&cell.label)).unwrap_or_default());
    let between = drawn.saturating_sub(width(&ends[0]) + width(&ends[1]));
    let names = if between > 0 && first.cells.len() > 1 {
        format!("{}{}{}", ends[0], " ".repeat(between), ends[1])
    } else {
        ends[0].clone()
    };
    rows.extend(below(&names, drawn, &super::clock(&strip.zone), &labels, room));
    let found = strip.rows.iter().flat_map(|row| &row.cells).filter_map(|cell| cell.held.worst());
    rows.extend(legend(&labels, found, room));
    rows
}

fn strip_row(row: &StripRow, labels: &Labels, columns: usize) -> Row {
    let mut cells = vec![labels.cell(&row.label)];
    cells.extend(merged(row, columns).into_iter().map(|held| glyph(held.worst())));
    cells.push(Cell::plain(format!("{GAP}{}", one_line(&row.summary))));
    cells
}

/// The days of a row, several as one where there are more than columns.
fn merged(row: &StripRow, columns: usize) -> Vec<Held> {
    let days = row.cells.len().div_ceil(columns).max(1);
    row.cells
        .chunks(days)
        .map(|cells| cells.iter().fold(Held::default(), |sum, cell| sum.and(cell.held)))
        .collect()
}

/// One character for what a server was at worst.
fn glyph(condition: Option<Condition>) -> Cell {
    let text = match condition {
        None => " ",
        Some(Condition::Up) => "█",
        Some(Condition::Degraded) => "▒",
        Some(Condition::Down) => "X",
        Some(Condition::Unknown) => "?",
        Some(Condition::Maintenance) => "m",
    };
    Cell::toned(text, condition.map_or(Tone::Plain, Condition::tone))
}

/// What the characters mean, of those that occur, on as many lines as it takes.
fn legend(labels: &Labels, found: impl Iterator<Item = Condition>, room: usize) -> Vec<Row> {
    let found: Vec<Condition> = found.collect();
    let mut rows = Vec::new();
    let mut row = vec![labels.cell("")];
    let mut used = 0;
    for condition in Condition::ALL.into_iter().filter(|one| found.contains(one)) {
        let text = format!(" {}{GAP}", condition.as_str());
        let next = 1 + width(text.trim_end());
        if used > 0 && used + next > labels.room(room) {
            rows.push(std::mem::replace(&mut row, vec![labels.cell("")]));
            used = 0;
        }
        used += 1 + width(&text);
        row.push(glyph(Some(condition)));
        row.push(Cell::toned(text, Tone::Dim));
    }
    rows.push(row);
    rows
}

fn line_rows(lines: &Lines, room: usize) -> Vec<Row> {
    if lines.series.iter().all(|series| series.points.iter().all(|p| p.known().is_none())) {
        return Vec::new();
    }
    let labels = Labels::of(lines.series.iter().map(|series| &series.name), room);
    let told: Vec<String> =
        lines.series.iter().map(|series| range(&series.points, lines)).collect();
    let behind = told.iter().map(|text| width(text)).max().unwrap_or(0) + GAP.len();
    let longest = lines.series.iter().map(|series| series.points.len()).max().unwrap_or(0);
    let columns = labels.room(room).saturating_sub(behind).clamp(8, LONGEST).min(longest.max(1));
    let mut rows: Vec<Row> = Vec::new();
    // What was reckoned goes on from what was measured; other series have a scale of their own each,
    // since a median beside the worst percent would be a flat line.
    let goes_on = lines.series.iter().any(|series| series.is_reckoned);
    let known = lines.series.iter().flat_map(|series| &series.points).filter_map(Point::known);
    let ends = if goes_on { extremes(known) } else { None };
    for (series, told) in lines.series.iter().zip(told) {
        let line = sparkline(&series.points, &lines.period, columns, ends);
        rows.push(vec![
            labels.cell(&series.name),
            Cell::plain(line),
            Cell::plain(format!("{GAP}{told}")),
        ]);
    }
    rows.extend(axis(&lines.period, &labels, columns, room));
    for threshold in &lines.thresholds {
        rows.push(vec![labels.cell(""), Cell::toned(one_line(&threshold.label), threshold.tone)]);
    }
    if let Some(band) = &lines.band
        && let Some(last) = band.points.last()
    {
        let (low, high) = (lines.unit.say(last.low), lines.unit.say(last.high));
        let text = format!("{}: {low} to {high} at the end", one_line(&band.label));
        rows.push(vec![labels.cell(""), Cell::toned(text, Tone::Dim)]);
    }
    for mark in &lines.marks {
        let text = format!("{}: {}", lines.period.day(mark.at_ms), one_line(&mark.label));
        rows.push(vec![labels.cell(""), Cell::toned(text, Tone::Unknown)]);
    }
    rows
}

/// From what to what a series goes, and where it ends.
fn range(points: &[Point], lines: &Lines) -> String {
    let known = || points.iter().filter_map(Point::known);
    match (extremes(known()), known().next_back()) {
        (Some((low, high)), Some(last)) => {
            let say = |value| lines.unit.say(value);
            format!("{} to {}, last {}", say(low), say(high), say(last))
        }
        _ => "no figures".to_owned(),
    }
}

/// The highest figure of each column; a column without one stays empty.
fn sparkline(
    points: &[Point],
    period: &Period,
    columns: usize,
    ends: Option<(f64, f64)>,
) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let mut peaks: Vec<Option<f64>> = vec![None; columns];
    let each_has_one = points.len() == columns && are_even(points);
    for (nth, point) in points.iter().enumerate() {
        let share = period.share(point.at_ms);
        let column = match each_has_one {
            true => nth as f64,
            false => ((share + 1e-9) * columns as f64).floor().min(columns as f64 - 1.0),
        };
        if let (Some(value), 0.0..=1.0) = (point.known(), share)
            && let Some(peak) = peaks.get_mut(column as usize)
        {
            *peak = Some(peak.map_or(value, |peak: f64| peak.max(value)));
        }
    }
    let Some((low, high)) = ends.or_else(|| extremes(peaks.iter().flatten().copied())) else {
        return " ".repeat(columns);
    };
    let level = |value: f64| {
        if high <= low {
            return LEVELS[3];
        }
        let at =
            ((value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0) * 7.0).round().clamp(0.0, 7.0);
        LEVELS[at as usize]
    };
    peaks.into_iter().map(|peak| peak.map_or(' ', level)).collect()
}

/// Whether points come one a step, such as a day, of which two a year are an hour shorter or longer.
fn are_even(points: &[Point]) -> bool {
    let mut steps = points.windows(2).map(|pair| (pair[1].at_ms - pair[0].at_ms) as f64);
    steps.next().is_none_or(|first| steps.all(|step| (step / first - 1.0).abs() < 0.1))
}

fn timeline_rows(timeline: &Timeline, room: usize) -> Vec<Row> {
    if timeline.lanes.is_empty() {
        return Vec::new();
    }
    let period = &timeline.period;
    let labels = Labels::of(timeline.lanes.iter().map(|lane| &lane.label), room);
    let columns = labels.room(room).clamp(8, LONGEST);
    let mut rows = Vec::new();
    let mut found = Vec::new();
    for lane in &timeline.lanes {
        let mut worst: Vec<Option<Condition>> = vec![None; columns];
        for span in &lane.spans {
            let until_ms = span.until_ms.unwrap_or(period.until_ms);
            if span.from_ms >= period.until_ms || until_ms < period.from_ms {
                continue;
            }
            found.push(span.condition);
            let at = |ms: i64| (period.share(ms).clamp(0.0, 1.0) * columns as f64).floor() as usize;
            // The end is not in it, and what is short still takes one column.
            let (from, until) = (at(span.from_ms).min(columns - 1), at(until_ms.saturating_sub(1)));
            let until = until.clamp(from, columns - 1);
            for column in &mut worst[from..=until] {
                *column = worse(*column, Some(span.condition));
            }
        }
        let mut row = vec![labels.cell(&lane.label)];
        row.extend(worst.into_iter().map(|condition| match condition {
            None => Cell::toned("·", Tone::Dim),
            some => glyph(some),
        }));
        rows.push(row);
    }
    rows.extend(axis(period, &labels, columns, room));
    rows.extend(legend(&labels, found.into_iter(), room));
    rows
}

fn worse(one: Option<Condition>, other: Option<Condition>) -> Option<Condition> {
    let rank = |condition: &Option<Condition>| {
        condition.and_then(|condition| Condition::ALL.iter().position(|one| *one == condition))
    };
    if rank(&other) > rank(&one) { other } else { one }
}

fn bar_rows(bars: &Bars, room: usize) -> Vec<Row> {
    let labels = Labels::of(bars.bars.iter().map(|bar| &bar.label), room);
    let text = bars.bars.iter().map(|bar| width(&one_line(&bar.text))).max().unwrap_or(0);
    let columns = labels.room(room).saturating_sub(text + GAP.len()).clamp(8, 40);
    let most = extremes(bars.bars.iter().map(|bar| bar.value)).map_or(0.0, |(_, most)| most);
    bars.bars
        .iter()
        .map(|bar| {
            let drawn = drawn_bar(bar, most, columns);
            vec![
                labels.cell(&bar.label),
                Cell::plain(format!("{:>text$}{GAP}", one_line(&bar.text))),
                Cell::toned(drawn, bar.tone),
            ]
        })
        .collect()
}

fn drawn_bar(bar: &Bar, most: f64, columns: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if !bar.value.is_finite() || bar.value <= 0.0 || most <= 0.0 {
        return String::new();
    }
    // What is there at all is seen.
    let eighths = ((bar.value / most * columns as f64 * 8.0).round() as usize).max(1);
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

fn burn_down_rows(chart: &BurnDown, room: usize) -> Vec<Row> {
    let Some((at_ms, left)) = chart.last() else {
        return Vec::new();
    };
    let names = ["budget left".to_owned(), "spent evenly".to_owned()];
    let labels = Labels::of(names.iter(), room);
    let said = |share: f64| Unit::Percent.say((share * 1000.0).round() / 10.0);
    let told = format!("{GAP}{} of {}", said(left), one_line(&chart.budget));
    let columns = labels.room(room).saturating_sub(width(&told)).clamp(8, LONGEST);
    let columns = columns.min(chart.left.len().max(2));
    let even: Vec<Point> = chart
        .left
        .iter()
        .map(|point| Point { at_ms: point.at_ms, value: Some(chart.even(point.at_ms)) })
        .collect();
    let line = |points: &[Point]| sparkline(points, &chart.period, columns, Some((0.0, 1.0)));
    let tone = match left {
        left if left <= 0.0 => Tone::Bad,
        left if left < chart.even(at_ms) => Tone::Warning,
        _ => Tone::Good,
    };
    let even_now = format!("{GAP}{}", said(chart.even(at_ms)));
    let mut rows = vec![
        vec![labels.cell(&names[0]), Cell::toned(line(&chart.left), tone), Cell::toned(told, tone)],
        vec![
            labels.cell(&names[1]),
            Cell::toned(line(&even), Tone::Dim),
            Cell::toned(even_now, Tone::Dim),
        ],
    ];
    rows.extend(axis(&chart.period, &labels, columns, room));
    rows
}

/// The names of instants below their columns, as many as have room, and by whose clock they are told.
fn axis(period: &Period, labels: &Labels, columns: usize, room: usize) -> Vec<Row> {
    let mut line = String::new();
    for tick in time_ticks(period, (columns / 8).max(2)) {
        let at = (period.share(tick.at_ms) * columns as f64).floor() as usize;
        let used = width(&line);
        let fits = at + width(&tick.label) <= columns && (used == 0 || at > used);
        if fits {
            line.push_str(&" ".repeat(at.saturating_sub(used)));
            line.push_str(&tick.label);
        }
    }
    if line.is_empty() {
        // The last instant is the first that is not in it.
        let last = period.until_ms.saturating_sub(1).max(period.from_ms);
        line = format!("{} to {}", period.day(period.from_ms), period.day(last));
    }
    below(&line, columns, &period.clock(), labels, room)
}

/// Names below columns, and by whose clock they are told, on one line where both have room.
fn below(names: &str, columns: usize, clock: &str, labels: &Labels, room: usize) -> Vec<Row> {
    let dim = |text: String| vec![labels.cell(""), Cell::toned(text, Tone::Dim)];
    let pad = columns.max(width(names)) - width(names) + GAP.len();
    if width(names) + pad + width(clock) <= labels.room(room) {
        vec![dim(format!("{names}{}{clock}", " ".repeat(pad)))]
    } else {
        // A long name of a zone begins further left than the columns do.
        let left = (labels.width + GAP.len()).min(room.saturating_sub(width(clock)));
        let clock = format!("{}{clock}", " ".repeat(left));
        vec![dim(names.to_owned()), vec![Cell::toned(clock, Tone::Dim)]]
    }
}

/// The names in front of the rows, all of one width.
struct Labels {
    width: usize,
}

impl Labels {
    fn of<'a>(labels: impl Iterator<Item = &'a String>, room: usize) -> Labels {
        let longest = labels.map(|label| width(&one_line(label))).max().unwrap_or(0);
        Labels { width: longest.min(room / 3) }
    }

    /// What is left behind the names.
    fn room(&self, room: usize) -> usize {
        room.saturating_sub(self.width + GAP.len())
    }

    fn cell(&self, label: &str) -> Cell {
        let mut text = String::new();
        let label = one_line(label);
        let is_cut = width(&label) > self.width;
        for c in label.chars() {
            let next = width(&text) + width(c.encode_utf8(&mut [0; 4]));
            if next + usize::from(is_cut) > self.width {
                break;
            }
            text.push(c);
        }
        if is_cut {
            text.push('…');
        }
        text.push_str(&" ".repeat((self.width + GAP.len()).saturating_sub(width(&text))));
        Cell::plain(text)
    }
}

#[cfg(test)]
mod tests;
