//! A page for readers who have no `fhirctl`: one file, nothing loaded, nothing run.
//!
//! Every text goes through [`maud`], which escapes it; controls are made visible before. What a
//! chart shows is said in words beside it and in a table behind it.

mod bars;
mod chart;
mod ids;
mod lines;
mod path;
mod plane;
mod strip;
mod timeline;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Block, Cell, Figure, Page, Row, Section, Table, Tone};
use crate::model::text::{one_line, visible};
use ids::Ids;

/// What the page looks like, on screens and on paper.
const CSS: &str = include_str!("../../../data/page.css");

/// Nothing is loaded, run or sent, whatever the texts are.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

pub(super) fn render(page: &Page) -> String {
    let sections = contents(&page.blocks, &mut Ids::default());
    let mut writer = Writer { ids: Ids::default(), context: one_line(&page.title) };
    let body = writer.blocks(&page.blocks, 2);
    let made = page.generated_at.to_zoned(page.zone.clone());
    let whole = html! {
        (DOCTYPE)
        html lang=(one_line(&page.language)) {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta name="generator" content=(generator());
                title { (one_line(&page.title)) }
                style { (PreEscaped(CSS)) }
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                (chart::patterns())
                header {
                    h1 { (one_line(&page.title)) }
                    @if !page.subtitle.is_empty() { p.subtitle { (one_line(&page.subtitle)) } }
                }
                @if sections.len() > 1 {
                    nav aria-labelledby="contents" {
                        h2 #contents { "Contents" }
                        ol {
                            @for (id, title) in &sections { li { a href={ "#" (id) } { (title) } } }
                        }
                    }
                }
                main #main tabindex="-1" { (body) }
                footer {
                    p {
                        "Made by " (generator()) " on "
                        time datetime=(page.generated_at) { (made.strftime("%-d %B %Y, %H:%M:%S %Z")) }
                        ". This file holds all that it shows and loads nothing."
                    }
                }
            }
        }
    };
    let mut text = whole.into_string();
    text.push('\n');
    text
}

fn generator() -> String {
    format!("fhirctl {}", env!("CARGO_PKG_VERSION"))
}

/// What the table of contents names: the sections of the page, by the ids that they will have. All
/// are walked, since an id depends on those before it.
fn contents(blocks: &[Block], ids: &mut Ids) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for block in blocks {
        match block {
            Block::Section(section) => {
                found.push((ids.section(&section.title), one_line(&section.title)));
                contents(&section.blocks, ids);
            }
            Block::Indented(inner) => {
                contents(inner, ids);
            }
            _ => {}
        }
    }
    found
}

/// What is known of the page while it is written.
pub(super) struct Writer {
    ids: Ids,
    /// What is being told, for the names of tables.
    context: String,
}

impl Writer {
    /// Blocks below a heading of the level above `level`.
    fn blocks(&mut self, blocks: &[Block], level: u8) -> Markup {
        html! { @for block in blocks { (self.block(block, level)) } }
    }

    fn block(&mut self, block: &Block, level: u8) -> Markup {
        match block {
            Block::Blank => html! {},
            Block::Heading(heading) => {
                self.context = one_line(heading);
                chart::heading(level, None, &self.context)
            }
            Block::Text(row) => html! { p { (inline(row)) } },
            Block::Verbatim(text) => html! { pre { (visible(text)) } },
            Block::Facts(facts) => html! {
                dl.facts {
                    @for (name, value) in facts {
                        div { dt { (one_line(name)) } dd { (toned(value)) } }
                    }
                }
            },
            Block::Figures(figures) => html! {
                dl.figures { @for one in figures { (figure(one)) } }
            },
            Block::Table(table) => self.table(table),
            // The blocks may hold headings of a server each; they are one level further down.
            Block::Indented(inner) => html! { div.indented { (self.blocks(inner, level + 1)) } },
            Block::Section(section) => self.section(section, level),
            Block::Chart(chart) => {
                let id = self.ids.chart();
                self.context = one_line(&chart.title);
                let table = self.table(&chart.table);
                chart::figure(chart, &id, level, &table)
            }
        }
    }

    fn section(&mut self, section: &Section, level: u8) -> Markup {
        let id = self.ids.section(&section.title);
        let title = one_line(&section.title);
        self.context.clone_from(&title);
        let body = self.blocks(&section.blocks, level + 1);
        let heading = format!("{id}-title");
        html! {
            section #(id) aria-labelledby=(heading) {
                (chart::heading(level, Some(&heading), &title))
                (body)
            }
        }
    }

    /// A table that scrolls by itself where the screen is too narrow for it.
    fn table(&mut self, table: &Table) -> Markup {
        let columns = table.head.len();
        let numeric: Vec<bool> = (0..columns).map(|column| is_numeric(table, column)).collect();
        let class =
            |column: usize| numeric.get(column).copied().unwrap_or_default().then_some("number");
        html! {
            div.scroll role="group" tabindex="0" aria-label=(format!("Table: {}", self.context)) {
                table {
                    thead {
                        tr {
                            @for (column, name) in table.head.iter().enumerate() {
                                th scope="col" class=[class(column)] { (one_line(name)) }
                            }
                        }
                    }
                    tbody {
                        @for row in &table.rows {
                            tr {
                                @for (column, cell) in row.iter().take(columns).enumerate() {
                                    @if column == 0 && class(0).is_none() {
                                        th scope="row" { (toned(cell)) }
                                    } @else {
                                        td class=[class(column)] { (toned(cell)) }
                                    }
                                }
                            }
                        }
                        @if table.rows.is_empty() {
                            tr { td.empty colspan=(columns.max(1)) { "nothing in this period" } }
                        }
                    }
                }
            }
        }
    }
}

fn figure(figure: &Figure) -> Markup {
    html! {
        div {
            dt { (one_line(&figure.label)) }
            dd.value { (toned(&figure.value)) }
            @if !figure.note.is_empty() { dd.note { (one_line(&figure.note)) } }
        }
    }
}

fn inline(row: &Row) -> Markup {
    html! { @for cell in row { (toned(cell)) } }
}

/// A text in its tone; the words say what the colour does.
fn toned(cell: &Cell) -> Markup {
    let text = visible(&cell.text);
    match class(cell.tone) {
        Some(class) => html! { span class=(class) { (text) } },
        None => html! { (text) },
    }
}

fn class(tone: Tone) -> Option<&'static str> {
    match tone {
        Tone::Plain => None,
        Tone::Strong => Some("strong"),
        Tone::Dim => Some("dim"),
        Tone::Good => Some("good"),
        Tone::Warning => Some("warning"),
        Tone::Bad => Some("bad"),
        Tone::Unknown => Some("unclear"),
    }
}

/// Whether a column holds figures, whose last digits belong below each other. Days and times do not.
fn is_numeric(table: &Table, column: usize) -> bool {
    let mut found = false;
    for text in table.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.trim()) {
        if matches!(text, "" | "-" | "–" | "—") {
            continue;
        }
        let digits = text.trim_start_matches(['-', '+', '−', '<', '>', '≤', '≥', '~', ' ']);
        let is_figure = digits.starts_with(|c: char| c.is_ascii_digit())
            && !digits.contains(['-', ':', '/'])
            && digits.split_whitespace().all(is_figure_or_unit);
        if !is_figure {
            return false;
        }
        found = true;
    }
    found
}

/// `1,204`, `(63`, `%)`, `min`, `GiB`; not the name of a month.
fn is_figure_or_unit(word: &str) -> bool {
    let word = word.trim_matches(['(', ')']);
    word.starts_with(|c: char| c.is_ascii_digit() || c.is_ascii_lowercase())
        || word.chars().count() <= 1
        || word.ends_with('B')
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
