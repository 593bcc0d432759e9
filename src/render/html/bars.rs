//! Amounts beside each other. The words are words of the page; only the bars are drawn.

use maud::{Markup, html};

use super::chart::{nothing, percent};
use crate::model::text::one_line;
use crate::render::Tone;
use crate::render::chart::{Bars, extremes};

pub(super) fn draw(bars: &Bars) -> Markup {
    if bars.bars.is_empty() {
        return nothing();
    }
    let most = extremes(bars.bars.iter().map(|bar| bar.value)).map_or(0.0, |(_, most)| most);
    html! {
        ol.bars {
            @for bar in &bars.bars {
                li {
                    span.name { (one_line(&bar.label)) }
                    span.summary { (one_line(&bar.text)) }
                    svg height="12" aria-hidden="true" focusable="false" {
                        rect.track width="100%" height="12" {}
                        @let width = percent(share(bar.value, most));
                        rect class=(filling(bar.tone)) width=(width) height="12" {}
                    }
                }
            }
        }
    }
}

fn share(value: f64, most: f64) -> f64 {
    if value.is_finite() && value > 0.0 && most > 0.0 { value / most } else { 0.0 }
}

fn filling(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "is-up",
        Tone::Warning => "is-degraded",
        Tone::Bad => "is-down",
        Tone::Unknown => "is-unknown",
        Tone::Dim => "is-maintenance",
        Tone::Plain | Tone::Strong => "is-amount",
    }
}
