//! Incidents on a time axis, a lane each.

use maud::{Markup, html};

use super::chart::{clock, fill, legend, nothing, percent, ticks_below};
use super::plane::ticks;
use crate::model::text::one_line;
use crate::render::chart::{Lane, LaneSpan, Period, Timeline};

const HEIGHT: f64 = 26.0;

pub(super) fn draw(timeline: &Timeline) -> Markup {
    if timeline.lanes.is_empty() {
        return nothing();
    }
    let period = &timeline.period;
    let marks = ticks(period);
    let found = timeline.lanes.iter().flat_map(|lane| seen(lane, period)).map(|s| s.condition);
    html! {
        (legend(found))
        div.rows.lanes {
            @for lane in &timeline.lanes {
                div.row {
                    span.name { (one_line(&lane.label)) }
                    svg.lane height=(HEIGHT) role="img" aria-label=(in_words(lane, period)) {
                        @for (share, _) in &marks {
                            line.grid x1=(percent(*share)) x2=(percent(*share)) y1="0" y2=(HEIGHT) {}
                        }
                        line.track x1="0" x2="100%" y1=(HEIGHT / 2.0) y2=(HEIGHT / 2.0) {}
                        @for span in seen(lane, period) { (draw_span(span, period)) }
                    }
                }
            }
            svg.axis height="18" aria-hidden="true" { (ticks_below(&marks, 14.0)) }
        }
        (clock("Times", &period.clock()))
    }
}

fn draw_span(span: &LaneSpan, period: &Period) -> Markup {
    let from = period.share(span.from_ms).clamp(0.0, 1.0);
    let until = span.until_ms.map_or(1.0, |until| period.share(until)).clamp(from, 1.0);
    html! {
        g {
            title { (told(span)) }
            // Its edge is two pixels wide: what took a minute of a month is still seen.
            rect class=(format!("span {}", fill(span.condition))) x=(percent(from)) y="4"
                width=(percent(until - from)) height=(HEIGHT - 8.0) {}
        }
    }
}

fn seen<'a>(lane: &'a Lane, period: &Period) -> impl Iterator<Item = &'a LaneSpan> {
    let (from, until) = (period.from_ms, period.until_ms);
    lane.spans.iter().filter(move |span| {
        span.from_ms < until && span.until_ms.is_none_or(|end| end >= from && end >= span.from_ms)
    })
}

fn told(span: &LaneSpan) -> String {
    let open = if span.until_ms.is_none() { ", not over" } else { "" };
    one_line(&format!("{}: {}{open}", span.condition.as_str(), span.label))
}

/// A lane for whoever does not see it.
fn in_words(lane: &Lane, period: &Period) -> String {
    let spans: Vec<String> = seen(lane, period).map(told).collect();
    let text = match spans.len() {
        0 => "nothing".to_owned(),
        1..=5 => spans.join("; "),
        more => format!("{}; and {} more", spans[..5].join("; "), more - 5),
    };
    format!("{}: {text}", one_line(&lane.label))
}
