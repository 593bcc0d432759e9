//! Where lines break and how wide columns are.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Columns that a text takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// Breaks a text into lines of at most `max` columns, at spaces where there are any; its own
/// newlines stay. `None` breaks at nothing but newlines.
pub(super) fn wrap(text: &str, max: Option<usize>) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let line = line.trim_end();
        match max {
            Some(max) if width(line) > max => wrap_line(line, max.max(1), &mut lines),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

/// How wide a column of a table would like to be, and what its longest word needs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Column {
    pub(super) wanted: usize,
    pub(super) word: usize,
}

impl Column {
    /// Makes room for one more cell.
    pub(super) fn hold(&mut self, text: &str) {
        self.wanted = self.wanted.max(width(text));
        self.word = text.split_whitespace().map(width).fold(self.word, usize::max);
    }
}

/// How wide each column may be. What is missing is taken from the widest: first without cutting a
/// word, then by cutting words of the last column, then by cutting the longest.
pub(super) fn column_widths(columns: &[Column], gaps: usize, max: Option<usize>) -> Vec<usize> {
    let mut widths: Vec<usize> = columns.iter().map(|column| column.wanted).collect();
    if let Some(room) = max.map(|max| max.saturating_sub(gaps)) {
        let words: Vec<usize> = columns.iter().map(|c| c.word.max(NARROWEST)).collect();
        narrow(&mut widths, &words, room);
        // The last column is prose as a rule, those before it names and codes.
        let mut last = words.clone();
        last.pop();
        last.push(NARROWEST);
        narrow(&mut widths, &last, room);
        narrow(&mut widths, &vec![NARROWEST; columns.len()], room);
    }
    widths
}

/// Below this a column is not worth reading; the terminal breaks the line instead.
const NARROWEST: usize = 12;

/// Takes from the widest columns, none below its floor, until all fit.
fn narrow(widths: &mut [usize], floors: &[usize], room: usize) {
    while widths.iter().sum::<usize>() > room {
        let widest = (0..widths.len())
            .filter(|column| widths[*column] > floors[*column])
            .max_by_key(|column| widths[*column]);
        match widest {
            Some(column) => widths[column] -= 1,
            None => return,
        }
    }
}

fn wrap_line(line: &str, max: usize, lines: &mut Vec<String>) {
    // What a line is set in by stays on the lines that go on with it.
    let indent: String = line.chars().take_while(|c| *c == ' ').take(max / 2).collect();
    let mut current = indent.clone();
    let mut empty = true;
    for word in line.split_whitespace() {
        if !empty && width(&current) + 1 + width(word) > max {
            lines.push(std::mem::replace(&mut current, indent.clone()));
            empty = true;
        }
        if !empty {
            current.push(' ');
        }
        for c in word.chars() {
            // A word that is longer than a line is cut where the line ends.
            if !empty && width(&current) + c.width().unwrap_or(0) > max {
                lines.push(std::mem::replace(&mut current, indent.clone()));
            }
            current.push(c);
            empty = false;
        }
    }
    lines.push(current);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_long_words_where_the_line_ends() {
        assert_eq!(wrap("one two three", Some(7)), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", Some(4)), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("one two three", None), ["one two three"]);
        assert_eq!(wrap("  a b c", Some(5)), ["  a b", "  c"]);
        assert_eq!(wrap("日本語", Some(4)), ["日本", "語"]);
        assert_eq!(wrap("a\nb", Some(4)), ["a", "b"]);
        assert_eq!(wrap("", Some(4)), [""]);
    }

    #[test]
    fn the_widest_column_gives_way_and_words_stay_whole() {
        for (columns, max, expected) in [
            (&[(8, 8), (10, 10), (90, 9)][..], Some(80), &[8, 10, 58][..]),
            (&[(8, 8), (60, 9), (90, 9)], Some(80), &[8, 34, 34]),
            (&[(8, 8), (10, 10), (90, 9)], None, &[8, 10, 90]),
            (&[(30, 30), (31, 12)], Some(52), &[30, 18]),
            (&[(30, 30), (40, 40)], Some(54), &[30, 20]),
            (&[(40, 40), (30, 30)], Some(34), &[18, 12]),
            (&[(20, 20), (20, 20)], Some(10), &[12, 12]),
        ] {
            let columns: Vec<Column> =
                columns.iter().map(|&(wanted, word)| Column { wanted, word }).collect();
            assert_eq!(column_widths(&columns, 4, max), expected);
        }
    }
}
