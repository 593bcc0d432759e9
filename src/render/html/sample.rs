//! A page with every chart, as a report of a month would fill it in.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::render::chart::*;
use crate::render::{Block, Cell, Figure, Page, Table, Tone};

const DAY: i64 = 86_400_000;

/// `word` stands in every text that comes from outside.
pub(super) fn page(word: &str) -> Page {
    let zone = TimeZone::get("America/New_York").unwrap();
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let period = Period {
        from_ms: at("2026-10-01T04:00:00Z").as_millisecond(),
        until_ms: at("2026-11-01T04:00:00Z").as_millisecond(),
        zone: zone.clone(),
    };
    let server = format!("epic-prod{word}");
    Page {
        title: format!("Service level of {server}"),
        subtitle: "1 October to 31 October 2026, agreement of 99.9 % a calendar month".to_owned(),
        generated_at: at("2026-11-01T04:05:12Z"),
        zone,
        language: "en".to_owned(),
        blocks: vec![
            Block::section("Result", result(word)),
            Block::section(
                "Availability",
                vec![
                    Block::text(
                        "Up by time, maintenance and time outside service hours not counted.",
                    ),
                    Block::chart(strip(&server, &period)),
                    Block::chart(timeline(&server, &period, word)),
                ],
            ),
            Block::section("Error budget", vec![Block::chart(burn_down(&period))]),
            Block::section("Performance", vec![Block::chart(latency(&period, word))]),
            Block::section("Errors", vec![Block::chart(errors(word))]),
            Block::section(
                "Capacity",
                vec![
                    Block::section("Disk", vec![Block::chart(capacity(&period))]),
                    Block::Heading("Formula".to_owned()),
                    Block::Verbatim(
                        "availability = (up + degraded) / (up + degraded + down)".to_owned(),
                    ),
                ],
            ),
        ],
    }
}

fn result(word: &str) -> Vec<Block> {
    let figure = |label: &str, value: &str, tone, note: &str| Figure {
        label: label.to_owned(),
        value: Cell::toned(value, tone),
        note: note.to_owned(),
    };
    vec![
        Block::Figures(vec![
            figure("Availability", "99.871 %", Tone::Bad, "objective 99.9 %: missed"),
            figure("Down", "57 min 24 s", Tone::Plain, "budget 44 min 38 s"),
            figure("Coverage", "99.2 %", Tone::Good, "at least 95 %: enough"),
            figure("p95 of metadata", "812 ms", Tone::Good, "objective 2 s: met"),
        ]),
        Block::Text(vec![
            Cell::plain("The objective was "),
            Cell::toned("missed", Tone::Bad),
            Cell::plain(format!(" by 12 min 46 s. Credit due: 10 % of the monthly fee {word}.")),
        ]),
        Block::Facts(vec![
            ("agreement".to_owned(), "EX-2026-118, section 4.2".into()),
            ("service hours".to_owned(), "24x7".into()),
            ("excluded".to_owned(), Cell::plain(format!("maintenance, party=ours {word}"))),
        ]),
    ]
}

fn strip(server: &str, period: &Period) -> Chart {
    let names = [server, "epic-dr", "hapi-with-a-rather-long-name"];
    let mut rows = Vec::new();
    let mut table = table(&["server", "day", "availability", "down", "unknown"]);
    for (row, name) in names.iter().enumerate() {
        let mut cells = Vec::new();
        for day in 0..31u64 {
            let mut held = Held::default();
            let whole = DAY as u64;
            match (row, day) {
                (0, 3) => held.down = 124_000,
                (0, 17) => held.down = 3_320_000,
                (0, 24) => held.maintenance = 14_400_000,
                (1, 8..=9) => held.unknown = whole / 2,
                (1, 20) => held.degraded = 9_000_000,
                (2, 0..=4) => {}
                (2, 12) => held = Held { down: whole / 3, degraded: whole / 5, ..held },
                _ => {}
            }
            if (row, day / 5) != (2, 0) {
                held.up = whole - held.total();
            }
            let share = match held.total() - held.unknown - held.maintenance {
                0 => "-".to_owned(),
                judged => {
                    format!("{:.3} %", (held.up + held.degraded) as f64 / judged as f64 * 100.0)
                }
            };
            let label = period.day(period.from_ms + day as i64 * DAY);
            table.rows.push(vec![
                Cell::plain(*name),
                Cell::plain(&label),
                Cell::plain(&share),
                Cell::plain(format!("{} s", held.down / 1000)),
                Cell::plain(format!("{} s", held.unknown / 1000)),
            ]);
            cells.push(StripCell { label: label[..label.len() - 5].to_owned(), held, text: share });
        }
        let summary = ["99.871 %", "100 %", "98.714 %"][row].to_owned();
        rows.push(StripRow { label: (*name).to_owned(), summary, cells });
    }
    Chart {
        title: "Availability by day".to_owned(),
        description: "epic-prod was down on 4 and 18 October, hapi for eight hours on 13 October; the others were up.".to_owned(),
        plot: Plot::Strip(Strip { zone: period.zone.clone(), rows }),
        table,
    }
}

fn timeline(server: &str, period: &Period, word: &str) -> Chart {
    let span = |day: i64, minutes: Option<i64>, condition, label: &str| LaneSpan {
        from_ms: period.from_ms + day * DAY + 4 * 3_600_000,
        until_ms: minutes
            .map(|minutes| period.from_ms + day * DAY + 4 * 3_600_000 + minutes * 60_000),
        condition,
        label: format!("{label} {word}"),
    };
    let mut table = table(&["server", "from", "until", "lasted", "code", "party"]);
    table.rows = [
        [server, "4 Oct 04:00:12", "4 Oct 04:02:16", "2 min 4 s", "http.status", "vendor"],
        [server, "18 Oct 04:00:01", "18 Oct 04:55:21", "55 min 20 s", "tls.expired", "vendor"],
        ["hapi", "13 Oct 04:00:31", "13 Oct 12:00:31", "8 h", "tcp.timeout", "network"],
    ]
    .map(|row| row.map(Cell::plain).to_vec())
    .to_vec();
    Chart {
        title: "Incidents".to_owned(),
        description: "Three incidents; the longest lasted eight hours, and one is not over."
            .to_owned(),
        plot: Plot::Timeline(Timeline {
            period: period.clone(),
            lanes: vec![
                Lane {
                    label: server.to_owned(),
                    spans: vec![
                        span(3, Some(2), Condition::Down, "2 min 4 s, http.status"),
                        span(17, Some(55), Condition::Down, "55 min 20 s, tls.expired"),
                        span(24, Some(240), Condition::Maintenance, "4 h, upgrade"),
                    ],
                },
                Lane {
                    label: "hapi".to_owned(),
                    spans: vec![
                        span(12, Some(480), Condition::Down, "8 h, tcp.timeout"),
                        span(14, Some(2880), Condition::Degraded, "2 d, perf.slow"),
                        span(29, None, Condition::Unknown, "auth.held_back"),
                    ],
                },
                Lane { label: "epic-dr".to_owned(), spans: Vec::new() },
            ],
        }),
        table,
    }
}

fn latency(period: &Period, word: &str) -> Chart {
    let points = |level: f64, swing: f64| -> Vec<Point> {
        (0..31 * 4)
            .map(|at| {
                let wave = (f64::from(at) * 0.9).sin() + (f64::from(at) * 0.13).cos();
                let shift = if at > 70 { 1.6 } else { 1.0 };
                let value = (!(40..48).contains(&at)).then_some((level + swing * wave) * shift);
                Point { at_ms: period.from_ms + i64::from(at) * DAY / 4, value }
            })
            .collect()
    };
    let series =
        [("p50", 210.0, 20.0), ("p90", 420.0, 60.0), ("p95", 610.0, 110.0), ("p99", 980.0, 260.0)]
            .map(|(name, level, swing)| Series {
                name: name.to_owned(),
                points: points(level, swing),
                is_reckoned: false,
            })
            .to_vec();
    let mut table = table(&["day", "p50", "p90", "p95", "p99"]);
    table.rows = (0..31)
        .map(|day| {
            let cell = |series: &Series| {
                Cell::plain(
                    series.points[day * 4].value.map_or("-".to_owned(), |v| format!("{v:.0} ms")),
                )
            };
            let mut row = vec![Cell::plain(period.day(period.from_ms + day as i64 * DAY))];
            row.extend(series.iter().map(cell));
            row
        })
        .collect();
    Chart {
        title: format!("Latency of metadata {word}"),
        description: "The 95th percentile rose from about 600 ms to about 980 ms on 18 October."
            .to_owned(),
        plot: Plot::Lines(Lines {
            period: period.clone(),
            unit: Unit::Milliseconds,
            series,
            thresholds: vec![Threshold {
                label: "objective 2 s".to_owned(),
                value: 2000.0,
                tone: Tone::Bad,
            }],
            band: None,
            marks: vec![Mark {
                at_ms: period.from_ms + 71 * DAY / 4,
                label: format!("level changed {word}"),
            }],
        }),
        table,
    }
}

fn capacity(period: &Period) -> Chart {
    let gib = 1_073_741_824.0;
    let at = |day: i64| period.from_ms + day * DAY;
    let points = (0..=20)
        .map(|day| Point {
            at_ms: at(day),
            value: Some((310.0 + 4.1 * day as f64 + (day as f64).sin() * 4.0) * gib),
        })
        .collect();
    let forecast = (20..=31)
        .map(|day| Point { at_ms: at(day), value: Some((310.0 + 4.1 * day as f64) * gib) })
        .collect();
    let band = (20..=31)
        .map(|day| {
            let (middle, half) = (310.0 + 4.1 * day as f64, 3.0 + (day - 20) as f64 * 1.4);
            BandPoint { at_ms: at(day), low: (middle - half) * gib, high: (middle + half) * gib }
        })
        .collect();
    let mut table = table(&["day", "used", "low", "high"]);
    table.rows.push(["1 Oct 2026", "310 GiB", "-", "-"].map(Cell::plain).to_vec());
    Chart {
        title: "Disk in use".to_owned(),
        description:
            "Disk use grows by 4.1 GiB a day and reaches 430 GiB between 27 October and 2 November."
                .to_owned(),
        plot: Plot::Lines(Lines {
            period: period.clone(),
            unit: Unit::Bytes,
            series: vec![
                Series { name: "used".to_owned(), points, is_reckoned: false },
                Series { name: "forecast".to_owned(), points: forecast, is_reckoned: true },
            ],
            thresholds: vec![Threshold {
                label: "limit 430 GiB".to_owned(),
                value: 430.0 * gib,
                tone: Tone::Warning,
            }],
            band: Some(Band { label: "80 % interval".to_owned(), points: band }),
            marks: Vec::new(),
        }),
        table,
    }
}

fn burn_down(period: &Period) -> Chart {
    let left = (0..=31)
        .map(|day: i64| {
            let share = match day {
                0..=3 => 1.0,
                4..=17 => 0.954,
                _ => -0.286,
            };
            Point { at_ms: period.from_ms + day * DAY, value: Some(share) }
        })
        .collect();
    let mut table = table(&["day", "left", "spent"]);
    table.rows.push(["18 Oct 2026", "-12 min 46 s", "57 min 24 s"].map(Cell::plain).to_vec());
    Chart {
        title: "Error budget left".to_owned(),
        description: "The budget of 44 min 38 s was spent on 18 October, thirteen days before the month ended.".to_owned(),
        plot: Plot::BurnDown(BurnDown { period: period.clone(), budget: "44 min 38 s".to_owned(), left }),
        table,
    }
}

fn errors(word: &str) -> Chart {
    let rows = [
        ("http.status", 1204.0, "1,204 (63 %)", Tone::Bad),
        ("tls.expired", 55.0, "55 (3 %)", Tone::Bad),
        ("perf.slow", 610.0, "610 (32 %)", Tone::Warning),
        ("auth.held_back", 41.0, "41 (2 %)", Tone::Unknown),
        ("requests in all", 1500.0, "1,500", Tone::Plain),
    ];
    let mut table = table(&["code", "count", "share"]);
    table.rows =
        rows.iter().map(|row| vec![Cell::plain(row.0), Cell::plain(row.2), "-".into()]).collect();
    Chart {
        title: "Errors by reason".to_owned(),
        description: "Two thirds of all errors were answers with a status of 500 and above."
            .to_owned(),
        plot: Plot::Bars(Bars {
            bars: rows
                .iter()
                .map(|(label, value, text, tone)| Bar {
                    label: format!("{label} {word}"),
                    value: *value,
                    text: (*text).to_owned(),
                    tone: *tone,
                })
                .collect(),
        }),
        table,
    }
}

fn table(head: &[&str]) -> Table {
    Table { head: head.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
}
