//! Comma-separated rows, quoted after RFC 4180, for spreadsheets and scripts.

use super::Table;
use crate::model::text::visible;
use crate::model::{Error, Result};

/// # Errors
/// Only when memory is out.
pub(super) fn render(table: &Table) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let fault =
        |error: &dyn std::fmt::Display| Error::internal(format!("cannot write CSV: {error}"));
    writer.write_record(&table.head).map_err(|error| fault(&error))?;
    for row in &table.rows {
        writer
            .write_record(row.iter().map(|cell| harmless(cell.data.as_ref().unwrap_or(&cell.text))))
            .map_err(|error| fault(&error))?;
    }
    let bytes = writer.into_inner().map_err(|error| fault(&error))?;
    String::from_utf8(bytes).map_err(|error| fault(&error))
}

/// A text that no spreadsheet takes for a formula: a quote stands before what would begin one.
fn harmless(text: &str) -> String {
    let begins_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    // -1 is a number and a lone dash is a dash.
    let is_plain = text == "-" || text.parse::<f64>().is_ok_and(f64::is_finite);
    let mut safe = visible(text);
    if begins_formula && !is_plain {
        safe.insert(0, '\'');
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Cell;

    #[test]
    fn cells_are_quoted_and_formulas_disarmed() {
        for (cell, expected) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("a\nb", "\"a\nb\""),
            ("=1+1", "'=1+1"),
            ("+1 555", "'+1 555"),
            ("-cmd", "'-cmd"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "'␍=1"),
            ("-1.5", "-1.5"),
            ("-", "-"),
            ("-inf", "'-inf"),
            ("\u{1b}[2J", "␛[2J"),
        ] {
            let table = Table {
                head: vec!["a".into(), "b".into()],
                rows: vec![vec![Cell::plain(cell), "x".into()]],
            };
            assert_eq!(render(&table).unwrap(), format!("a,b\n{expected},x\n"), "{cell:?}");
        }
    }

    #[test]
    fn a_program_reads_numbers_where_a_person_reads_words() {
        let table = Table {
            head: vec!["down_ms".into(), "left_ms".into(), "case".into()],
            rows: vec![vec![
                Cell::plain("3 min").with_data(180_000),
                Cell::plain("-1 min").with_data(-60_000),
                Cell::nothing(),
            ]],
        };
        assert_eq!(render(&table).unwrap(), "down_ms,left_ms,case\n180000,-60000,\n");
    }
}
