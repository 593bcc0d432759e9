//! What all charts have around them: a name, a sentence, a legend, the table behind.
//!
//! The drawing is made here and beside it, element by element, and not by a plotting library. Those
//! (plotters and poloto were tried) draw at one size in fixed colours, so that a narrow screen shrinks
//! the text and a dark one shows dark on dark; and none knows the midnights of a time zone. Here all
//! that goes across is a share of the width, and all that goes up is in pixels: text keeps its size.

use maud::{Markup, html};

use super::{bars, lines, strip, timeline};
use crate::model::text::one_line;
use crate::render::chart::{Chart, Condition, Plot, Tick};

/// A chart with all that stands around it; `level` is that of its heading.
pub(super) fn figure(chart: &Chart, id: &str, level: u8, table: &Markup) -> Markup {
    let (title, text) = (format!("{id}-title"), format!("{id}-text"));
    let name = Name { title: &title, text: &text };
    let plot = match &chart.plot {
        Plot::Strip(plot) => strip::draw(plot),
        Plot::Lines(plot) => lines::draw(plot, name),
        Plot::Timeline(plot) => timeline::draw(plot),
        Plot::Bars(plot) => bars::draw(plot),
        Plot::BurnDown(plot) => lines::burn_down(plot, name),
    };
    html! {
        // On paper a figure stays on one page, and the table goes on over as many as it takes.
        div.chart #(id) {
            figure aria-labelledby=(title) aria-describedby=(text) {
                figcaption {
                    (heading(level, Some(&title), &one_line(&chart.title)))
                    p #(text) { (one_line(&chart.description)) }
                }
                (plot)
            }
            // Where there is none, it stands beside the chart.
            @if !chart.table.head.is_empty() {
                details {
                    summary { "Figures" span.aside { " behind " (one_line(&chart.title)) } }
                    (table)
                }
            }
        }
    }
}

/// Which elements of the page name and describe a drawing.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) title: &'a str,
    pub(super) text: &'a str,
}

pub(super) fn heading(level: u8, id: Option<&str>, text: &str) -> Markup {
    match level {
        ..=2 => html! { h2 id=[id] { (text) } },
        3 => html! { h3 id=[id] { (text) } },
        4 => html! { h4 id=[id] { (text) } },
        5 => html! { h5 id=[id] { (text) } },
        _ => html! { h6 id=[id] { (text) } },
    }
}

/// Said in the place of a drawing that would be empty.
pub(super) fn nothing() -> Markup {
    html! { p.nothing { "No figures in this period." } }
}

/// The fillings that tell conditions apart without colour, once a page.
pub(super) fn patterns() -> Markup {
    html! {
        svg.patterns width="0" height="0" aria-hidden="true" focusable="false" {
            defs {
                pattern #fill-degraded patternUnits="userSpaceOnUse" width="6" height="6" {
                    rect.base width="6" height="6" {}
                    path.ink d="M-1.5 1.5l3-3M0 6l6-6M4.5 7.5l3-3" {}
                }
                pattern #fill-down patternUnits="userSpaceOnUse" width="6" height="6" {
                    rect.base width="6" height="6" {}
                    path.ink d="M0 0l6 6M6 0l-6 6" {}
                }
                pattern #fill-unknown patternUnits="userSpaceOnUse" width="6" height="6" {
                    rect.base width="6" height="6" {}
                    circle.ink cx="1.5" cy="1.5" r="1" {}
                    circle.ink cx="4.5" cy="4.5" r="1" {}
                }
                pattern #fill-maintenance patternUnits="userSpaceOnUse" width="6" height="4" {
                    rect.base width="6" height="4" {}
                    path.ink d="M0 1h6" {}
                }
            }
        }
    }
}

/// The class by which a condition is filled.
pub(super) fn fill(condition: Condition) -> &'static str {
    match condition {
        Condition::Up => "is-up",
        Condition::Degraded => "is-degraded",
        Condition::Down => "is-down",
        Condition::Unknown => "is-unknown",
        Condition::Maintenance => "is-maintenance",
    }
}

/// What the fillings mean, of those that occur.
pub(super) fn legend(conditions: impl Iterator<Item = Condition>) -> Markup {
    let found: Vec<Condition> = conditions.collect();
    html! {
        ul.legend {
            @for condition in Condition::ALL.iter().filter(|one| found.contains(one)) {
                li {
                    svg width="18" height="12" aria-hidden="true" {
                        rect class=(fill(*condition)) width="18" height="12" {}
                    }
                    (condition.as_str())
                }
            }
        }
    }
}

/// A share as a position across.
pub(super) fn percent(share: f64) -> String {
    let share = if share.is_finite() { share.clamp(-0.01, 1.01) } else { 0.0 };
    let text = format!("{:.3}", share * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Names below a drawing, with their places from 0 to 1; on a narrow screen every other one.
pub(super) fn names_below<'a>(names: impl Iterator<Item = (f64, &'a str)>, y: f64) -> Markup {
    html! {
        @for (index, (share, text)) in names.enumerate() {
            text class=(if index % 2 == 0 { "tick" } else { "tick wide-only" })
                x=(percent(share)) y=(y) text-anchor=(anchor(share)) { (one_line(text)) }
        }
    }
}

pub(super) fn ticks_below(ticks: &[(f64, Tick)], y: f64) -> Markup {
    names_below(ticks.iter().map(|(share, tick)| (*share, tick.label.as_str())), y)
}

/// Which end of a text stands at its place, so that none leaves the drawing.
pub(super) fn anchor(share: f64) -> &'static str {
    match share {
        // Half of `25 Oct` on the narrowest screens.
        share if share < 0.1 => "start",
        share if share > 0.88 => "end",
        _ => "middle",
    }
}

/// By whose clock the times are told.
pub(super) fn clock(what: &str, zone: &str) -> Markup {
    html! { p.clock { (what) " in " (one_line(zone)) "." } }
}
