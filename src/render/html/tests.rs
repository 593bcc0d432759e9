use std::collections::HashSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;
use crate::render::chart::{
    Bar, Bars, BurnDown, Chart, Lines, Period, Plot, Point, Series, Strip, StripRow, Timeline, Unit,
};
use crate::render::output::Block;

/// An opening tag with its attributes. The pages are our own, so their tags are written one way.
#[derive(Debug)]
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
}

impl Tag {
    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

fn tags(page: &str) -> Vec<Tag> {
    let mut found = Vec::new();
    let (head, rest) = page.split_once("<style>").unwrap();
    let (_, rest) = rest.split_once("</style>").unwrap();
    for piece in head
        .split('<')
        .chain(rest.split('<'))
        .filter(|piece| piece.starts_with(char::is_alphabetic))
    {
        let inner = piece.split_once('>').expect("a tag ends").0;
        let (name, mut rest) = inner.split_once(' ').unwrap_or((inner, ""));
        let mut attributes = Vec::new();
        while let Some((name, value)) = rest.split_once("=\"") {
            let (value, after) = value.split_once('"').expect("a value ends");
            attributes.push((name.trim().to_owned(), value.to_owned()));
            rest = after;
        }
        assert!(rest.trim().is_empty(), "an attribute without a value: {inner}");
        let names: HashSet<&String> = attributes.iter().map(|(name, _)| name).collect();
        assert_eq!(
            names.len(),
            attributes.len(),
            "an attribute twice, of which one is lost: {inner}"
        );
        found.push(Tag { name: name.to_owned(), attributes });
    }
    found
}

fn all<'a>(tags: &'a [Tag], name: &'a str) -> impl Iterator<Item = &'a Tag> {
    tags.iter().filter(move |tag| tag.name == name)
}

#[test]
fn a_page_has_landmarks_and_its_headings_are_in_order() {
    let text = render(&sample::page(""));
    // To look at it: FHIRCTL_TEST_PAGE=/tmp/page.html cargo test --lib render::html
    if let Ok(path) = std::env::var("FHIRCTL_TEST_PAGE") {
        std::fs::write(path, &text).unwrap();
    }
    let tags = tags(&text);
    for (landmark, count) in
        [("main", 1), ("h1", 1), ("header", 1), ("nav", 1), ("footer", 1), ("title", 1)]
    {
        let found = tags.iter().filter(|tag| tag.name == landmark && tag.attribute("x").is_none());
        let found = if landmark == "title" {
            text.matches("<title>Service").count()
        } else {
            found.count()
        };
        assert_eq!(found, count, "{landmark}");
    }
    assert_eq!(all(&tags, "html").next().unwrap().attribute("lang"), Some("en"));
    let levels: Vec<u8> =
        tags.iter().filter_map(|tag| tag.name.strip_prefix('h')?.parse().ok()).collect();
    assert_eq!(levels[0], 1);
    assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{levels:?}");
}

#[test]
fn every_name_is_given_once_and_every_reference_finds_its_own() {
    let tags = tags(&render(&sample::page("")));
    let ids: Vec<&str> = tags.iter().filter_map(|tag| tag.attribute("id")).collect();
    let unique: HashSet<&str> = ids.iter().copied().collect();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
    let mut references = 0;
    for tag in &tags {
        let hash = tag.attribute("href").and_then(|href| href.strip_prefix('#'));
        let named = ["aria-labelledby", "aria-describedby"].map(|name| tag.attribute(name));
        for id in named.into_iter().flatten().chain(hash) {
            assert!(unique.contains(id), "{tag:?}");
            references += 1;
        }
    }
    assert!(references > 20, "{references}");
    assert!(unique.contains("part-error-budget"), "a link to a part stays good: {ids:?}");
}

#[test]
fn nothing_is_run_and_nothing_is_loaded() {
    let text = render(&sample::page("<script src=//x>\"onload=\"y\" javascript:alert(1)"));
    let tags = tags(&text);
    for tag in &tags {
        assert!(
            !matches!(
                tag.name.as_str(),
                "script" | "link" | "img" | "iframe" | "object" | "use" | "image" | "a:href"
            ),
            "{tag:?}"
        );
        for (name, value) in &tag.attributes {
            assert!(!name.starts_with("on") && name != "src" && name != "style", "{tag:?}");
            assert!(name != "href" || value.starts_with('#'), "{tag:?}");
        }
    }
    assert!(!CSS.contains("@import") && !CSS.contains("http"), "no style from elsewhere");
    assert!(
        CSS.split("url(").skip(1).all(|rest| rest.starts_with("#fill-")),
        "only our own fillings"
    );
    let policy = all(&tags, "meta").find(|tag| tag.attribute("http-equiv").is_some()).unwrap();
    assert!(policy.attribute("content").unwrap().starts_with("default-src 'none'; style-src"));
}

#[test]
fn a_hostile_text_is_shown_and_does_nothing() {
    let text =
        render(&sample::page("</style><script>alert(1)</script>\"'&\u{1b}[31m\u{0}\u{202e}\u{7f}"));
    assert!(!text.contains("<script"), "no tag of theirs");
    assert_eq!(text.matches("</style>").count(), 1);
    assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;'&amp;␛[31m␀␡"));
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "no control");
    assert!(!text.contains('\u{202e}'), "no override of the direction");
    // Every tag is still ours.
    tags(&text);
}

#[test]
fn every_chart_has_its_sentence_and_the_table_behind_it() {
    let text = render(&sample::page(""));
    let figures: Vec<&str> = text
        .split("<div class=\"chart\"")
        .skip(1)
        .map(|rest| rest.split("</details>").next().unwrap())
        .collect();
    assert_eq!(figures.len(), 6);
    for figure in figures {
        assert!(
            figure.contains("<figcaption><h3 id=") || figure.contains("<figcaption><h4 id="),
            "{figure}"
        );
        let (_, caption) = figure.split_once("-text\">").expect("a sentence");
        assert!(caption.split("</p>").next().unwrap().ends_with('.'), "{caption}");
        let (_, behind) = figure.split_once("<details>").expect("figures");
        assert!(behind.contains("<table>") && behind.contains("<td"), "{behind}");
        assert!(
            figure.contains("role=\"img\" aria-label") || figure.contains("<ol class=\"bars\">"),
            "{figure}"
        );
    }
}

fn period(until_ms: i64) -> Period {
    Period { from_ms: 0, until_ms, zone: TimeZone::UTC }
}

fn lines(points: Vec<Point>, unit: Unit, until_ms: i64) -> Plot {
    Plot::Lines(Lines {
        period: period(until_ms),
        unit,
        series: vec![Series { name: "s".to_owned(), points, is_reckoned: false }],
        thresholds: Vec::new(),
        band: None,
        marks: Vec::new(),
    })
}

fn page(plot: Plot) -> String {
    let chart = Chart {
        title: "t".into(),
        description: "d.".into(),
        plot,
        table: Table { head: vec!["a".into()], rows: Vec::new() },
    };
    render(&Page {
        title: "p".to_owned(),
        subtitle: String::new(),
        generated_at: Timestamp::UNIX_EPOCH,
        zone: TimeZone::UTC,
        language: "en".to_owned(),
        blocks: vec![Block::chart(chart)],
    })
}

#[test]
fn where_there_are_no_figures_the_page_says_so() {
    let row = StripRow { label: "s".into(), summary: "-".into(), cells: Vec::new() };
    for plot in [
        Plot::Strip(Strip { zone: TimeZone::UTC, rows: Vec::new() }),
        Plot::Strip(Strip { zone: TimeZone::UTC, rows: vec![row] }),
        Plot::Timeline(Timeline { period: period(1000), lanes: Vec::new() }),
        Plot::Bars(Bars { bars: Vec::new() }),
        Plot::BurnDown(BurnDown { period: period(1000), budget: "0 s".into(), left: Vec::new() }),
        lines(Vec::new(), Unit::Percent, 1000),
        lines(vec![Point { at_ms: 5, value: None }], Unit::Percent, 1000),
        lines(vec![Point { at_ms: 5, value: Some(f64::NAN) }], Unit::Percent, 1000),
    ] {
        let name = format!("{plot:?}");
        let text = page(plot);
        assert!(text.contains("No figures in this period."), "{name}");
        assert!(text.contains("nothing in this period"), "{name}: the table");
    }
}

#[test]
fn extremes_leave_no_figure_that_is_none() {
    let point = |at_ms, value| Point { at_ms, value: Some(value) };
    for plot in [
        lines(vec![point(5, f64::MAX), point(6, f64::MIN)], Unit::Bytes, 1000),
        lines(vec![point(5, 1.0)], Unit::Count, 1000),
        lines(vec![point(0, 1.0)], Unit::Count, 0),
        lines(vec![point(i64::MIN, 1.0), point(i64::MAX, 2.0)], Unit::Count, i64::MAX),
        lines(vec![point(1, 0.0), point(2, 0.0)], Unit::Milliseconds, 1000),
        Plot::Bars(Bars {
            bars: [f64::NAN, -1.0, 0.0, f64::INFINITY, 1e300]
                .map(|value| Bar { label: "b".into(), value, text: "x".into(), tone: Tone::Bad })
                .to_vec(),
        }),
        Plot::BurnDown(BurnDown {
            period: period(1000),
            budget: "1 s".into(),
            left: vec![point(1, 1.0), point(2, -1e9)],
        }),
    ] {
        let name = format!("{plot:?}");
        let text = page(plot);
        let body = text.split_once("</style>").unwrap().1;
        assert!(!body.contains("NaN") && !body.contains("inf"), "{name}: {body}");
        tags(&text);
    }
}
