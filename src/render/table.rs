//! What a person reads: headings, paragraphs, facts and tables, fitted to the terminal.

use anstyle::{AnsiColor, Style as Ansi};
use comfy_table::ContentArrangement;

use super::chart::{Chart, terminal};
use super::layout::{Column, column_widths, width, wrap};
use super::{Block, Cell, Figure, Row, Style, Table, Tone};
use crate::model::text::{one_line, visible};

pub(super) fn render(document: &[Block], style: Style) -> String {
    let mut page = Page { text: String::new(), color: style.color };
    page.blocks(document, 0, style.width.map(usize::from));
    page.text
}

struct Page {
    text: String,
    color: bool,
}

const GAP: usize = 2;

impl Page {
    fn blocks(&mut self, blocks: &[Block], indent: usize, max: Option<usize>) {
        for block in blocks {
            match block {
                Block::Blank => self.text.push('\n'),
                Block::Heading(heading) => self.heading(heading, indent, max),
                Block::Text(row) => self.paragraph(row, indent, max),
                Block::Verbatim(text) => self.verbatim(text, indent),
                Block::Facts(facts) => self.facts(facts, indent, max),
                Block::Table(table) => self.table(table, indent, max),
                Block::Indented(inner) => self.blocks(inner, indent + 2, max),
                Block::Section(section) => {
                    self.heading(&section.title, indent, max);
                    self.blank();
                    self.blocks(&section.blocks, indent, max);
                    self.blank();
                }
                Block::Figures(figures) => {
                    let facts: Vec<_> = figures.iter().map(fact).collect();
                    self.facts(&facts, indent, max);
                    self.blank();
                }
                Block::Chart(chart) => self.chart(chart, indent, max),
            }
        }
    }

    fn heading(&mut self, heading: &str, indent: usize, max: Option<usize>) {
        for line in wrap(&one_line(heading), max.map(|max| max.saturating_sub(indent))) {
            self.pad(indent);
            self.toned(&line, Tone::Strong);
            self.text.push('\n');
        }
    }

    /// What is next stands apart by one blank line.
    fn blank(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    fn chart(&mut self, chart: &Chart, indent: usize, max: Option<usize>) {
        self.blank();
        self.heading(&chart.title, indent, max);
        self.paragraph(&vec![Cell::toned(&chart.description, Tone::Dim)], indent, max);
        for row in terminal::rows(chart, max.map(|max| max.saturating_sub(indent))) {
            self.pad(indent);
            let end = row.iter().rposition(|cell| !cell.text.trim_end().is_empty());
            for (index, cell) in row.iter().take(end.map_or(0, |end| end + 1)).enumerate() {
                let text = if Some(index) == end { cell.text.trim_end() } else { &cell.text };
                self.toned(text, cell.tone);
            }
            self.text.push('\n');
        }
        self.blank();
    }

    fn verbatim(&mut self, text: &str, indent: usize) {
        for line in visible(text).lines() {
            if !line.is_empty() {
                self.pad(indent);
            }
            self.text.push_str(line);
            self.text.push('\n');
        }
    }

    /// Cells one after the other as one text; each word keeps the tone of its cell.
    fn paragraph(&mut self, row: &Row, indent: usize, max: Option<usize>) {
        let texts: Vec<String> = row.iter().map(|cell| readable(&cell.text)).collect();
        let whole = texts.concat();
        let lines = wrap(&whole, max.map(|max| max.saturating_sub(indent)));
        // Wrapping only drops spaces, so that tones are found again by counting the others.
        let mut tones = row
            .iter()
            .zip(&texts)
            .flat_map(|(cell, text)| text.chars().filter(|c| !c.is_whitespace()).map(|_| cell.tone))
            .collect::<Vec<_>>()
            .into_iter();
        for line in lines {
            if !line.is_empty() {
                self.pad(indent);
            }
            let mut piece = String::new();
            let mut tone = Tone::Plain;
            for c in line.chars() {
                if !c.is_whitespace() {
                    let next = tones.next().unwrap_or_default();
                    if next != tone {
                        let space = piece.split_off(piece.trim_end().len());
                        self.toned(&piece, tone);
                        self.text.push_str(&space);
                        piece.clear();
                        tone = next;
                    }
                }
                piece.push(c);
            }
            self.toned(&piece, tone);
            self.text.push('\n');
        }
    }

    fn facts(&mut self, facts: &[(String, Cell)], indent: usize, max: Option<usize>) {
        let names = facts.iter().map(|(name, _)| width(&one_line(name))).max().unwrap_or(0);
        let start = indent + names + GAP;
        // On a very narrow terminal the value still gets a few columns.
        let room = max.map(|max| max.saturating_sub(start).max(16));
        for (name, value) in facts {
            let name = one_line(name);
            self.pad(indent);
            self.toned(&name, Tone::Dim);
            for (index, line) in wrap(&readable(&value.text), room).iter().enumerate() {
                if line.is_empty() {
                    self.text.push('\n');
                    continue;
                }
                self.pad(if index == 0 { start - indent - width(&name) } else { start });
                self.toned(line, value.tone);
                self.text.push('\n');
            }
        }
    }

    /// A cell is one line unless the terminal is too narrow for it; then the widest column gives
    /// way first, so that names and codes stay whole.
    fn table(&mut self, table: &Table, indent: usize, max: Option<usize>) {
        let columns = table.head.len();
        let head = table.head.iter().map(|name| (one_line(name).to_uppercase(), Tone::Dim));
        let body = table.rows.iter().map(|row| {
            row.iter().take(columns).map(|cell| (one_line(&cell.text), cell.tone)).collect()
        });
        let rows: Vec<Vec<(String, Tone)>> = std::iter::once(head.collect()).chain(body).collect();
        let mut measured = vec![Column::default(); columns];
        for row in &rows {
            for (column, (text, _)) in measured.iter_mut().zip(row) {
                column.hold(text);
            }
        }
        let gaps = GAP * columns.saturating_sub(1) + indent;
        let widths = column_widths(&measured, gaps, max);
        let mut drawn = comfy_table::Table::new();
        drawn.load_style(comfy_table::presets::NOTHING);
        drawn.set_content_arrangement(ContentArrangement::Disabled);
        for row in rows {
            drawn.add_row(row.iter().zip(&widths).map(|((text, tone), width)| {
                let lines = wrap(text, max.map(|_| *width));
                let toned: Vec<_> = lines.iter().map(|line| self.painted(line, *tone)).collect();
                comfy_table::Cell::new(toned.join("\n"))
            }));
        }
        for column in drawn.column_iter_mut() {
            column.set_padding((0, u16::try_from(GAP).unwrap_or(2)));
        }
        for line in drawn.lines() {
            self.pad(indent);
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
    }

    fn pad(&mut self, columns: usize) {
        self.text.extend(std::iter::repeat_n(' ', columns));
    }

    fn toned(&mut self, text: &str, tone: Tone) {
        let painted = self.painted(text, tone);
        self.text.push_str(&painted);
    }

    fn painted(&self, text: &str, tone: Tone) -> String {
        if self.color && tone != Tone::Plain && !text.is_empty() {
            let ansi = ansi(tone);
            format!("{ansi}{text}{ansi:#}")
        } else {
            text.to_owned()
        }
    }
}

/// A result and what it is held against, as a fact.
fn fact(figure: &Figure) -> (String, Cell) {
    let note = if figure.note.is_empty() { String::new() } else { format!("  ({})", figure.note) };
    (figure.label.clone(), Cell::toned(format!("{}{note}", figure.value.text), figure.value.tone))
}

/// Without controls, and without tabs, whose width depends on where they stand.
fn readable(text: &str) -> String {
    visible(text).replace('\t', "  ")
}

fn ansi(tone: Tone) -> Ansi {
    match tone {
        Tone::Plain => Ansi::new(),
        Tone::Strong => Ansi::new().bold(),
        Tone::Dim => Ansi::new().dimmed(),
        Tone::Good => AnsiColor::Green.on_default(),
        Tone::Warning => AnsiColor::Yellow.on_default(),
        Tone::Bad => AnsiColor::Red.on_default().bold(),
        Tone::Unknown => AnsiColor::Magenta.on_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::chart::{Bar, Bars, Plot};

    fn drawn(blocks: &[Block], width: Option<u16>) -> String {
        render(blocks, Style { color: false, width })
    }

    #[test]
    fn a_table_fits_the_terminal_and_is_whole_elsewhere() {
        let table = Block::Table(Table {
            head: vec!["status".into(), "message".into()],
            rows: vec![vec!["critical".into(), "the certificate ended on a Sunday".into()]],
        });
        assert_eq!(
            drawn(std::slice::from_ref(&table), None),
            "STATUS    MESSAGE\ncritical  the certificate ended on a Sunday\n"
        );
        assert_eq!(
            drawn(&[table], Some(28)),
            "STATUS    MESSAGE\ncritical  the certificate\n          ended on a Sunday\n"
        );
    }

    #[test]
    fn facts_are_aligned_and_hang() {
        let facts = Block::Facts(vec![
            ("url".into(), "https://a".into()),
            ("meaning".into(), "one two three four".into()),
            ("empty".into(), "".into()),
        ]);
        assert_eq!(
            drawn(&[Block::Indented(vec![facts])], Some(30)),
            "  url      https://a\n  meaning  one two three four\n  empty\n"
        );
    }

    #[test]
    fn tones_follow_their_words_over_line_ends() {
        let blocks = [Block::Text(vec![
            Cell::toned("bad thing", Tone::Bad),
            Cell::plain(" and "),
            Cell::toned("good", Tone::Good),
        ])];
        let text = render(&blocks, Style { color: true, width: Some(6) });
        assert!(text.contains("\u{1b}[32mgood\u{1b}[0m"), "{text:?}");
        assert_eq!(drawn(&blocks, Some(6)), "bad\nthing\nand\ngood\n");
    }

    #[test]
    fn nothing_from_outside_reaches_the_terminal_as_a_control() {
        let hostile = "a\u{1b}]0;x\u{7}\u{9b}2J";
        let text = drawn(
            &[
                Block::Heading(hostile.into()),
                Block::text(hostile),
                Block::Verbatim(hostile.into()),
                Block::Facts(vec![(hostile.into(), hostile.into())]),
                Block::Table(Table {
                    head: vec![hostile.into()],
                    rows: vec![vec![hostile.into()]],
                }),
            ],
            Some(40),
        );
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }

    #[test]
    fn sections_and_charts_stand_apart_by_one_blank_line() {
        let chart = Chart {
            title: "Errors".to_owned(),
            description: "One timeout.".to_owned(),
            plot: Plot::Bars(Bars {
                bars: vec![Bar {
                    label: "tcp.timeout".into(),
                    value: 1.0,
                    text: "1".into(),
                    tone: Tone::Bad,
                }],
            }),
            table: Table::default(),
        };
        let figure =
            Figure { label: "Down".into(), value: "3 min".into(), note: "of 43 min".into() };
        let section = |title: &str| {
            let chart = Block::chart(chart.clone());
            Block::section(title, vec![Block::Figures(vec![figure.clone()]), chart])
        };
        let bar = "█".repeat(24);
        let one =
            format!("Down  3 min  (of 43 min)\n\nErrors\nOne timeout.\ntcp.timeout  1  {bar}\n\n");
        assert_eq!(drawn(&[section("A"), section("B")], Some(40)), format!("A\n\n{one}B\n\n{one}"));
    }
}
