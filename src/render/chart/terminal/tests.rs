use jiff::tz::TimeZone;

use super::*;
use crate::render::Table;
use crate::render::chart::{Band, BandPoint, Lane, LaneSpan, Mark, Series, StripCell, Threshold};

const DAY: i64 = 86_400_000;

fn drawn(plot: Plot, room: Option<usize>) -> String {
    let chart =
        Chart { title: String::new(), description: String::new(), plot, table: Table::default() };
    let lines: Vec<String> = rows(&chart, room)
        .into_iter()
        .map(|row| row.into_iter().map(|cell| cell.text).collect::<String>().trim_end().to_owned())
        .collect();
    lines.join("\n")
}

fn period(days: i64) -> Period {
    Period { from_ms: 0, until_ms: days * DAY, zone: TimeZone::UTC }
}

fn point(day: i64, value: Option<f64>) -> Point {
    Point { at_ms: day * DAY, value }
}

fn strip(days: u64) -> Plot {
    let cells = (0..days)
        .map(|day| StripCell {
            label: format!("{} Oct", day + 1),
            held: match day {
                2 => Held { up: 10, down: 1, ..Held::default() },
                4 => Held { unknown: 1, ..Held::default() },
                5 => Held::default(),
                6 => Held { up: 1, degraded: 1, ..Held::default() },
                _ => Held { up: 1, ..Held::default() },
            },
            text: String::new(),
        })
        .collect();
    let row = StripRow { label: "epic".into(), summary: "99.9 %".into(), cells };
    Plot::Strip(Strip { zone: TimeZone::UTC, rows: vec![row] })
}

#[test]
fn a_day_shows_its_worst_and_says_it_by_letter() {
    assert_eq!(
        drawn(strip(14), Some(60)),
        "epic  ██X█? ▒███████  99.9 %\n      1 Oct   14 Oct  UTC\n      █ up  ▒ degraded  ? unknown  X down"
    );
}

#[test]
fn days_share_a_column_where_there_are_too_many_and_none_that_was_down_is_lost() {
    let text = drawn(strip(365), Some(50));
    assert!(text.lines().next().unwrap().contains('X'), "{text}");
    assert!(text.lines().all(|line| width(line) <= 50), "{text}");
}

fn lines(points: Vec<Point>) -> Lines {
    Lines {
        period: period(8),
        unit: Unit::Milliseconds,
        series: vec![Series { name: "p95".into(), points, is_reckoned: false }],
        thresholds: Vec::new(),
        band: None,
        marks: Vec::new(),
    }
}

#[test]
fn a_sparkline_keeps_its_gaps_and_tells_its_ends() {
    let values = [
        Some(100.0),
        Some(200.0),
        None,
        Some(800.0),
        Some(f64::NAN),
        Some(300.0),
        Some(100.0),
        Some(450.0),
    ];
    let points = values.into_iter().zip(0..).map(|(value, day)| point(day, value)).collect();
    let chart = Lines {
        thresholds: vec![Threshold {
            label: "objective 2 s".into(),
            value: 2000.0,
            tone: Tone::Bad,
        }],
        band: Some(Band {
            label: "80 % interval".into(),
            points: vec![BandPoint { at_ms: 0, low: 1.0, high: 2.0 }],
        }),
        marks: vec![Mark { at_ms: 3 * DAY, label: "level changed".into() }],
        ..lines(points)
    };
    assert_eq!(
        drawn(Plot::Lines(chart), Some(60)),
        "p95  ▁▂ █ ▃▁▅  100 ms to 800 ms, last 450 ms\n     1 Jan 1970 to 8 Jan 1970  UTC\n     objective 2 s\n     \
         80 % interval: 1 ms to 2 ms at the end\n     4 Jan 1970: level changed"
    );
}

#[test]
fn one_point_and_equal_points_are_drawn_and_none_is_said() {
    assert!(
        drawn(Plot::Lines(lines(vec![point(0, Some(5.0))])), None)
            .starts_with("p95  ▄  5 ms to 5 ms, last 5 ms")
    );
    for nothing in [
        Plot::Lines(lines(vec![point(0, None)])),
        Plot::Strip(Strip { zone: TimeZone::UTC, rows: Vec::new() }),
        Plot::Bars(Bars { bars: Vec::new() }),
        Plot::Timeline(Timeline { period: period(1), lanes: Vec::new() }),
        Plot::BurnDown(BurnDown { period: period(1), budget: String::new(), left: Vec::new() }),
    ] {
        assert_eq!(drawn(nothing, Some(40)), "no figures in this period");
    }
}

#[test]
fn a_short_incident_takes_a_column_and_the_worst_of_two_is_seen() {
    let span = |from_ms, until_ms, condition| LaneSpan {
        from_ms,
        until_ms,
        condition,
        label: String::new(),
    };
    let lane = Lane {
        label: "epic".into(),
        spans: vec![
            span(DAY, Some(DAY + 1000), Condition::Down),
            span(DAY, Some(2 * DAY), Condition::Degraded),
            span(7 * DAY, None, Condition::Unknown),
            span(9 * DAY, None, Condition::Down),
            span(-9 * DAY, Some(-8 * DAY), Condition::Down),
        ],
    };
    let text = drawn(Plot::Timeline(Timeline { period: period(8), lanes: vec![lane] }), Some(30));
    assert_eq!(text.lines().next(), Some("epic  ···X▒▒···············???"));
}

#[test]
fn bars_are_in_proportion_and_fit() {
    let bar = |label: &str, value, text: &str| Bar {
        label: label.into(),
        value,
        text: text.into(),
        tone: Tone::Bad,
    };
    let bars = vec![
        bar("http.status", 80.0, "80"),
        bar("tls.expired", 1.0, "1"),
        bar("none", 0.0, "0"),
        bar("odd", f64::NAN, "-"),
    ];
    assert_eq!(
        drawn(Plot::Bars(Bars { bars }), Some(33)),
        "http.status  80  ████████████████\ntls.expired   1  ▎\nnone          0\nodd           -"
    );
}

#[test]
fn what_is_left_of_a_budget_stands_beside_what_even_spending_leaves() {
    let left =
        vec![point(0, Some(1.0)), point(1, Some(0.9)), point(2, None), point(3, Some(-0.25))];
    let plot = Plot::BurnDown(BurnDown { period: period(4), budget: "43 min".into(), left });
    assert_eq!(
        drawn(plot, Some(60)),
        "budget left   █▇ ▁  -25 % of 43 min\nspent evenly  █▆▅▃  25 %\n              1 Jan 1970 to 4 Jan 1970  UTC"
    );
}

#[test]
fn a_hostile_label_is_cut_and_made_visible() {
    let bar = Bar {
        label: format!("a\u{1b}[2J{}", "日".repeat(50)),
        value: f64::MAX,
        text: "x\u{7}".into(),
        tone: Tone::Bad,
    };
    let text = drawn(Plot::Bars(Bars { bars: vec![bar] }), Some(40));
    assert!(width(&text) <= 40 && text.contains('…') && text.contains("a␛[2J"), "{text}");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let zone = TimeZone::get("America/Argentina/ComodRivadavia").unwrap();
    let period = Period { zone, ..period(31) };
    let lane = Lane { label: "a-server-with-a-long-name".into(), spans: Vec::new() };
    let points: Vec<Point> = (0..31).map(|day| point(day, Some(day as f64 * 1000.0))).collect();
    for room in [40, 60, 80, 120, 200] {
        for plot in [
            strip(31),
            Plot::Timeline(Timeline { period: period.clone(), lanes: vec![lane.clone()] }),
            Plot::Lines(Lines { period: period.clone(), ..lines(points.clone()) }),
            Plot::BurnDown(BurnDown {
                period: period.clone(),
                budget: "43 min".into(),
                left: (0..31).map(|day| point(day, Some(1.0 - day as f64 / 29.0))).collect(),
            }),
        ] {
            let text = drawn(plot, Some(room));
            assert!(text.lines().all(|line| width(line) <= room), "{room}:\n{text}");
        }
    }
}

#[test]
fn a_day_of_25_hours_leaves_no_hole() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let midnight = |month: i8, day: i8| {
        let date = jiff::civil::date(2026, month, day);
        date.to_zoned(zone.clone()).unwrap().timestamp().as_millisecond()
    };
    let period = Period { from_ms: midnight(10, 1), until_ms: midnight(11, 1), zone: zone.clone() };
    let points: Vec<Point> = (1..=31_u8)
        .map(|day| Point { at_ms: midnight(10, day as i8), value: Some(f64::from(day)) })
        .collect();
    let line = sparkline(&points, &period, 31, None);
    assert!(line.chars().count() == 31 && !line.contains(' '), "{line:?}");
    // A day without a figure is a hole.
    let some: Vec<Point> = points.into_iter().filter(|point| point.value != Some(9.0)).collect();
    assert!(sparkline(&some, &period, 30, None).chars().any(|c| c == ' '));
}
