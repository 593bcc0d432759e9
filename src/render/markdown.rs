//! A table for a ticket, a wiki or a pull request.

use super::{Block, Table};
use crate::model::text::one_line;

pub(super) fn render(table: &Table) -> String {
    let mut text = line(table.head.iter().map(String::as_str));
    text.push_str(&line(table.head.iter().map(|_| "---")));
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(|cell| escaped(&cell.text)).collect();
        text.push_str(&line(cells.iter().map(String::as_str)));
    }
    text
}

/// A document for a ticket.
pub(super) fn document(blocks: &[Block]) -> String {
    let mut text = String::new();
    write(blocks, 1, &mut text);
    format!("{}\n", text.trim_end())
}

fn write(blocks: &[Block], level: usize, text: &mut String) {
    for (index, block) in blocks.iter().enumerate() {
        match block {
            Block::Heading(heading) => {
                // The first one is the title.
                let level = if index == 0 && level == 1 { 1 } else { level + 1 };
                self::heading(level, heading, text);
            }
            Block::Text(row) => {
                for cell in row {
                    text.push_str(&escaped_as_is(&cell.text));
                }
                text.push_str("\n\n");
            }
            Block::Verbatim(lines) => {
                // Four blanks make code of whatever stands in it, a fence among it.
                for line in lines.lines() {
                    text.push_str(&format!("    {}\n", crate::model::text::visible(line)));
                }
                text.push('\n');
            }
            Block::Facts(facts) => {
                for (name, value) in facts {
                    text.push_str(&format!("- {}: {}\n", escaped(name), escaped(&value.text)));
                }
                text.push('\n');
            }
            Block::Table(table) => {
                text.push_str(&render(table));
                text.push('\n');
            }
            Block::Indented(blocks) => write(blocks, level + 1, text),
            Block::Section(section) => {
                heading(level + 1, &section.title, text);
                write(&section.blocks, level + 1, text);
            }
            Block::Figures(figures) => {
                for figure in figures {
                    let (label, value) = (escaped(&figure.label), escaped(&figure.value.text));
                    let note = escaped(&figure.note);
                    let note = if note.is_empty() { note } else { format!(" ({note})") };
                    text.push_str(&format!("- {label}: **{value}**{note}\n"));
                }
                text.push('\n');
            }
            // What is drawn elsewhere is told in figures here.
            Block::Chart(chart) => {
                heading(level + 1, &chart.title, text);
                text.push_str(&format!("{}\n\n", escaped(&chart.description)));
                if !chart.table.head.is_empty() {
                    text.push_str(&render(&chart.table));
                    text.push('\n');
                }
            }
            Block::Blank => {}
        }
    }
}

fn heading(level: usize, heading: &str, text: &mut String) {
    text.push_str(&format!("{} {}\n\n", "#".repeat(level.min(6)), escaped(heading)));
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::from("|");
    for cell in cells {
        text.push(' ');
        text.push_str(cell);
        text.push_str(" |");
    }
    text.push('\n');
    text
}

/// A text that shows as it is: no cell ends early, no link, no emphasis and no HTML begins.
fn escaped(text: &str) -> String {
    escaped_as_is(&one_line(text))
}

/// The same, with the blanks at both ends kept: a paragraph is put together from pieces.
fn escaped_as_is(text: &str) -> String {
    let text = crate::model::text::visible(text);
    let mut safe = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '\\' | '`' | '*' | '[' | ']' | '|' | '~' | '$' => {
                safe.push('\\');
                safe.push(c);
            }
            // Inside a word it is only itself; codes are full of them.
            '_' if before.is_alphanumeric() && rest.peek().is_some_and(|c| c.is_alphanumeric()) => {
                safe.push('_');
            }
            '_' => safe.push_str("\\_"),
            _ => safe.push(c),
        }
        before = c;
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::chart::{Bars, Chart, Plot};
    use crate::render::{Cell, Figure};

    #[test]
    fn pipes_markup_and_lines_do_not_break_the_table() {
        let table = Table {
            head: vec!["code".into(), "message".into()],
            rows: vec![vec![
                "tls.hostname_mismatch".into(),
                Cell::plain("a|b\n<script>x</script> [c](d) _e_ \u{1b}[0m"),
            ]],
        };
        assert_eq!(
            render(&table),
            "| code | message |\n| --- | --- |\n| tls.hostname_mismatch | a\\|b \
             &lt;script&gt;x&lt;/script&gt; \\[c\\](d) \\_e\\_ ␛\\[0m |\n"
        );
    }

    #[test]
    fn a_chart_is_its_sentence_and_its_table() {
        let chart = Chart {
            title: "Errors".to_owned(),
            description: "Most are *timeouts*.".to_owned(),
            plot: Plot::Bars(Bars { bars: Vec::new() }),
            table: Table { head: vec!["code".into()], rows: vec![vec!["tcp.timeout".into()]] },
        };
        let figure = Figure {
            label: "Down".into(),
            value: Cell::plain("3 min"),
            note: "budget 43 min".into(),
        };
        let blocks = [
            Block::Heading("Report".to_owned()),
            Block::section("Why", vec![Block::Figures(vec![figure]), Block::chart(chart)]),
        ];
        assert_eq!(
            document(&blocks),
            "# Report\n\n## Why\n\n- Down: **3 min** (budget 43 min)\n\n### Errors\n\n\
             Most are \\*timeouts\\*.\n\n| code |\n| --- |\n| tcp.timeout |\n"
        );
    }
}
