//! Two axes and what is drawn between them.

use maud::{Markup, html};

use super::chart::{Name, anchor, percent, ticks_below};
use super::path::WIDTH;
use crate::model::text::{bounded, one_line};
use crate::render::chart::{Period, Scale, Threshold, Tick, Unit, time_ticks};
use crate::render::html::class;

/// How tall the drawing is between its axes.
pub(super) const HEIGHT: f64 = 220.0;
/// Room for the names of marks above it.
const ABOVE: f64 = 20.0;
const BELOW: f64 = 24.0;
/// Room for the figures beside it.
const BESIDE: f64 = 64.0;

pub(super) struct Plane<'a> {
    pub(super) period: &'a Period,
    pub(super) scale: &'a Scale,
    pub(super) unit: &'a Unit,
    pub(super) name: Name<'a>,
}

impl Plane<'_> {
    /// `lines` is stretched to the width; `above` is put on it as it is.
    pub(super) fn draw(&self, lines: &Markup, above: &Markup) -> Markup {
        let marks = ticks(self.period);
        let whole = ABOVE + HEIGHT + BELOW;
        html! {
            div.plane {
                svg.beside width=(BESIDE) height=(whole) aria-hidden="true" {
                    @for tick in &self.scale.ticks {
                        text.tick x=(BESIDE - 8.0) y=(pixels(ABOVE + self.y(*tick) + 4.0))
                            text-anchor="end" { (self.unit.say(*tick)) }
                    }
                }
                svg.plot height=(whole) role="img" aria-labelledby=(self.name.title)
                    aria-describedby=(self.name.text)
                {
                    svg.inner y=(ABOVE) width="100%" height=(HEIGHT) {
                        @for tick in &self.scale.ticks {
                            @let y = pixels(self.y(*tick));
                            line class=(if *tick == 0.0 { "ground" } else { "grid" })
                                x1="0" x2="100%" y1=(y) y2=(y) {}
                        }
                        @for (share, _) in &marks {
                            line.grid x1=(percent(*share)) x2=(percent(*share)) y1="0" y2=(HEIGHT) {}
                        }
                        svg.stretched width="100%" height=(HEIGHT) preserveAspectRatio="none"
                            viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) { (lines) }
                        (above)
                    }
                    (ticks_below(&marks, ABOVE + HEIGHT + 18.0))
                }
            }
        }
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        (1.0 - self.scale.share(value)) * HEIGHT
    }

    /// A line across, named at its right end, or at its left.
    pub(super) fn threshold(&self, threshold: &Threshold, is_left: bool) -> Markup {
        if !threshold.value.is_finite() {
            return html! {};
        }
        let y = self.y(threshold.value);
        // Below the line where there is no room above it.
        let text = if y < 16.0 { y + 14.0 } else { y - 5.0 };
        let (x, dx, end) = if is_left { ("0", "6", "start") } else { ("100%", "-4", "end") };
        html! {
            g class=(format!("threshold {}", class(threshold.tone).unwrap_or("plain"))) {
                line x1="0" x2="100%" y1=(pixels(y)) y2=(pixels(y)) {}
                text x=(x) dx=(dx) y=(pixels(text)) text-anchor=(end) { (short(&threshold.label)) }
            }
        }
    }

    /// A line upright with a letter at its top; what it means stands in the legend, where it has room.
    pub(super) fn mark(&self, at_ms: i64, row: usize) -> Markup {
        let share = self.period.share(at_ms);
        if !(0.0..=1.0).contains(&share) {
            return html! {};
        }
        let x = percent(share);
        // Neighbours keep out of each other's way.
        let y = if row.is_multiple_of(2) { -6.0 } else { 14.0 };
        html! {
            g.mark {
                line x1=(x) x2=(x) y1="0" y2=(HEIGHT) {}
                text x=(x) y=(pixels(y)) text-anchor=(anchor(share)) { (letter(row)) }
            }
        }
    }
}

/// What a mark is called in its drawing and in the legend.
pub(super) fn letter(row: usize) -> String {
    match u8::try_from(row).ok().and_then(|row| b'A'.checked_add(row)) {
        Some(letter @ b'A'..=b'Z') => char::from(letter).to_string(),
        _ => (row + 1).to_string(),
    }
}

/// A name that has room above its line on a narrow screen too.
fn short(label: &str) -> String {
    bounded(&one_line(label), 24)
}

/// The instants that are named below a drawing, with their places.
pub(super) fn ticks(period: &Period) -> Vec<(f64, Tick)> {
    time_ticks(period, 8).into_iter().map(|tick| (period.share(tick.at_ms), tick)).collect()
}

fn pixels(length: f64) -> String {
    format!("{length:.1}")
}

/// A threshold whose name has no room in the drawing, for the legend.
pub(super) fn is_cut(threshold: &Threshold) -> bool {
    short(&threshold.label) != one_line(&threshold.label)
}

/// What stands for a line in a legend.
pub(super) fn sample(class: &str) -> Markup {
    html! {
        svg width="28" height="12" aria-hidden="true" { path class=(class) d="M0 6h28" {} }
    }
}

/// What stands for a band in a legend.
pub(super) fn swatch(class: &str) -> Markup {
    html! {
        svg width="28" height="12" aria-hidden="true" { rect class=(class) width="28" height="12" {} }
    }
}
