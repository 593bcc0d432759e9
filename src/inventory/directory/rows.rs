//! A directory as a table: a header and a server a line.

use std::collections::BTreeMap;

use super::{Candidate, Directory, Invalid};
use crate::fhir::directory::{MOST, version};
use crate::model::text;

/// The longest header or cell that is looked at.
const LONGEST: usize = 2_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Name,
    Url,
    Vendor,
    Organization,
    Version,
    Labels,
    Other,
}

/// Reads CSV with a header, whatever the order and the case of its columns, with commas,
/// semicolons or tabs between them.
///
/// # Errors
/// A sentence, when the text is no such table.
pub(super) fn read(bytes: &[u8]) -> Result<Directory, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.contains(&0) {
        return Err("it is neither FHIR nor CSV: it holds zero bytes".to_owned());
    }
    let head = bytes.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty());
    let delimiter = delimiter(head.unwrap_or_default());
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(bytes);
    let headers = reader.byte_headers().map_err(|_| "its header cannot be read".to_owned())?;
    let columns: Vec<Column> =
        headers.iter().map(|cell| column(&String::from_utf8_lossy(cell))).collect();
    if !columns.contains(&Column::Url) {
        return Err("it is neither FHIR nor CSV with a column named url".to_owned());
    }
    let repeats = [Column::Url, Column::Name]
        .into_iter()
        .any(|one| columns.iter().filter(|column| **column == one).count() > 1);
    if repeats {
        return Err("two columns of its header mean the same".to_owned());
    }
    let mut directory = Directory { form: "CSV", ..Directory::default() };
    let mut record = csv::ByteRecord::new();
    let mut lines = Lines { bytes, upto: 0, line: 1 };
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                let line = lines.at(error.position());
                return Err(format!("it cannot be read at line {line}"));
            }
        }
        let place = format!("line {}", lines.at(record.position()));
        if directory.candidates.len() + directory.invalid.len() >= MOST {
            return Err(format!("it has more than {MOST} rows"));
        }
        match row(&columns, &record, place.clone()) {
            Ok(candidate) => directory.candidates.push(candidate),
            Err(reason) => directory.invalid.push(Invalid { place, reason }),
        }
    }
    Ok(directory)
}

/// Counts lines as an editor does: the parser leaves the second half of a CRLF to the next row.
struct Lines<'a> {
    bytes: &'a [u8],
    upto: usize,
    line: usize,
}

impl Lines<'_> {
    fn at(&mut self, position: Option<&csv::Position>) -> usize {
        let byte = position.and_then(|position| usize::try_from(position.byte()).ok());
        let start = byte.unwrap_or(self.upto).clamp(self.upto, self.bytes.len());
        let rest = &self.bytes[start..];
        let breaks = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let passed = &self.bytes[self.upto..start + breaks];
        self.line += passed.iter().filter(|byte| **byte == b'\n').count();
        self.upto = start + breaks;
        self.line
    }
}

/// What stands most often between the words of the header.
fn delimiter(head: &[u8]) -> u8 {
    let count = |sign: u8| head.iter().filter(|byte| **byte == sign).count();
    [b',', b';', b'\t', b'|'].into_iter().rev().max_by_key(|sign| count(*sign)).unwrap_or(b',')
}

fn column(head: &str) -> Column {
    let plain: String =
        head.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect();
    match plain.as_str() {
        "name" | "servername" => Column::Name,
        "url" | "baseurl" | "fhirurl" | "fhirbaseurl" | "endpoint" | "endpointurl" | "address" => {
            Column::Url
        }
        "vendor" | "preset" => Column::Vendor,
        "organization" | "organisation" | "org" | "organizationname" => Column::Organization,
        "fhirversion" | "version" => Column::Version,
        "labels" | "label" | "tags" => Column::Labels,
        _ => Column::Other,
    }
}

fn row(columns: &[Column], record: &csv::ByteRecord, place: String) -> Result<Candidate, String> {
    if record.len() != columns.len() {
        return Err(format!(
            "it has {} columns, the header has {}; a text with the separator in it stands in quotes",
            record.len(),
            columns.len()
        ));
    }
    let mut candidate = Candidate { place, ..Candidate::default() };
    for (column, cell) in columns.iter().zip(record) {
        let Ok(cell) = std::str::from_utf8(cell) else {
            return Err("it is not UTF-8 text".to_owned());
        };
        if cell.len() > LONGEST && *column != Column::Other {
            return Err("a cell is longer than any name or URL".to_owned());
        }
        let cell = text::one_line(cell);
        if cell.is_empty() {
            continue;
        }
        match column {
            Column::Name => candidate.name = Some(cell),
            Column::Url => candidate.url = cell,
            Column::Vendor => candidate.vendor = Some(text::bounded(&cell, 100)),
            Column::Organization => candidate.organization = Some(text::bounded(&cell, 200)),
            Column::Version => {
                let known = version(&cell);
                candidate.fhir_version =
                    Some(known.ok_or("its FHIR version is none of DSTU2, STU3, R4, R4B and R5")?);
            }
            Column::Labels => candidate.labels = labels(&cell)?,
            Column::Other => {}
        }
    }
    Ok(candidate)
}

/// `env=prod;region=us`, with spaces, commas, semicolons or bars between.
fn labels(cell: &str) -> Result<BTreeMap<String, String>, String> {
    let pairs = cell.split([';', ',', '|', ' ']).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair
                .split_once('=')
                .or_else(|| pair.split_once(':'))
                .filter(|(key, value)| !key.trim().is_empty() && !value.trim().is_empty())
                .ok_or_else(|| "its labels are not written key=value".to_owned())?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::server::FhirVersion;

    #[test]
    fn columns_come_in_any_order_case_and_form() {
        for text in [
            "name,url,vendor,organization,fhir_version,labels\nn,https://a,epic,Org,R4,env=prod;x=y\n",
            "\u{feff}URL;Labels;FHIR Version;Name;Organisation;VENDOR;note\r\nhttps://a;env=prod x=y;4.0.1;n;Org;epic;z\r\n",
            "Base URL\tname\tOrg\tvendor\tversion\tlabels\n\nhttps://a\tn\tOrg\tepic\tr4\tenv:prod,x:y\n",
            "url,name,organization,vendor,fhir_version,labels\n\"https://a\" , n ,\"Org\n\",epic,R4,\"env=prod,x=y\"",
        ] {
            let read = read(text.as_bytes()).unwrap();
            assert_eq!(read.invalid, [], "{text}");
            let expected = Candidate {
                place: read.candidates[0].place.clone(),
                url: "https://a".into(),
                name: Some("n".into()),
                organization: Some("Org".into()),
                vendor: Some("epic".into()),
                fhir_version: Some(FhirVersion::R4),
                labels: [("env", "prod"), ("x", "y")]
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .into(),
                ..Candidate::default()
            };
            assert_eq!(read.candidates, [expected], "{text}");
        }
    }

    #[test]
    fn a_row_that_does_not_fit_is_told_by_its_line() {
        let text = "url,name,labels,version\nhttps://a,n\nhttps://b,n,a=b,R4,x\nhttps://c,c,nope,\nhttps://d,d,,R9\nhttps://e,e,,\n";
        let read = read(text.as_bytes()).unwrap();
        assert_eq!(read.candidates.len(), 1);
        let places: Vec<_> = read.invalid.iter().map(|invalid| invalid.place.as_str()).collect();
        assert_eq!(places, ["line 2", "line 3", "line 4", "line 5"]);
        assert!(read.invalid[0].reason.contains("2 columns, the header has 4"));
    }

    #[test]
    fn lines_are_those_of_an_editor() {
        for text in ["url,n\n\na\nb\n", "url,n\r\n\r\na\r\nb\r\n", "url,n\n\na\r\nb"] {
            let read = read(text.as_bytes()).unwrap();
            let places: Vec<_> = read.invalid.iter().map(|row| row.place.as_str()).collect();
            assert_eq!(places, ["line 3", "line 4"], "{text:?}");
        }
        let quoted = read(b"url,n\n\"a\nb\",c\nd\n").unwrap();
        assert_eq!(quoted.invalid[0].place, "line 4");
    }

    #[test]
    fn what_is_no_such_table_is_an_error() {
        for text in ["plain words", "name,organization\na,b\n", "url,url\na,b\n", "a\0b"] {
            assert!(read(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
