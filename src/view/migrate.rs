//! What `migrate` shows and what it leaves: a verdict, counts side by side, and where things differ.
//!
//! Paths are shown, values never. Ids stand in the report file alone, which is its owner's.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::human::{duration, facts, table};
use crate::bulk::export::{Mode, Report};
use crate::bulk::migrate::book::Imported;
use crate::bulk::migrate::content::Kind;
use crate::bulk::migrate::evidence::{Evidence, References};
use crate::model::server::Server;
use crate::model::{Exit, Result};
use crate::render::{self, Block, Cell, Format, Output, Row, Style, Table, Tone};

/// The report's name in the folder.
pub const REPORT: &str = "migration.json";
/// The same for people.
pub const MARKDOWN: &str = "migration.md";
/// Most places that a person is shown.
const SHOWN: usize = 20;

/// What would be done.
#[derive(Debug)]
pub struct Plan<'a> {
    pub source: &'a Server,
    pub target: &'a Server,
    pub folder: &'a Path,
    /// Of the export.
    pub export: Output,
    pub mode: &'a str,
    pub family: &'a str,
    pub reason: &'a str,
    /// `None`: all.
    pub per_type: Option<u32>,
}

impl Plan<'_> {
    #[must_use]
    pub fn output(self) -> Output {
        let export = &self.export.json;
        let is_crawl = self.mode == "crawl";
        let request = match is_crawl {
            true => Value::Null,
            false => json!({
                "method": export["method"],
                "url": export["url"],
                "headers": export["headers"],
                "body": export["body"],
            }),
        };
        let json = json!({
            "schema": "fhirctl/migrate-plan/v1",
            "fhirctl_version": super::FHIRCTL_VERSION,
            "source": side(self.source),
            "target": side(self.target),
            "output_dir": self.folder.display().to_string(),
            "mode": self.mode,
            "request": request,
            "family": self.family,
            "reason": self.reason,
            "sample_per_type": self.per_type,
            "notes": export["notes"],
        });
        let sample = match self.per_type {
            Some(number) => format!("{number} of each type"),
            None => "all".to_owned(),
        };
        let mut document = vec![
            facts([
                ("from", Some(Cell::plain(format!("{} ({})", self.source.name, self.source.url)))),
                ("to", Some(Cell::plain(format!("{} ({})", self.target.name, self.target.url)))),
                ("folder", Some(Cell::plain(self.folder.display().to_string()))),
                ("asked by", Some(Cell::plain(self.mode))),
                ("written by", Some(Cell::plain(format!("{}: {}", self.family, self.reason)))),
                ("compared", Some(Cell::plain(sample))),
            ]),
            Block::Blank,
        ];
        match is_crawl {
            true => document.push(Block::text("By searches, page by page. Nothing was sent.")),
            false => document.extend(self.export.document),
        }
        Output { json, document, ..Output::default() }
    }
}

/// `proven` or `differs`.
#[must_use]
pub fn status(evidence: &Evidence) -> &'static str {
    if evidence.is_proven() { "proven" } else { "differs" }
}

/// A migration whose comparison was made.
#[derive(Debug)]
pub struct Migration<'a> {
    pub source: &'a Server,
    pub target: &'a Server,
    pub folder: &'a Path,
    pub export: &'a Report,
    pub imported: &'a Imported,
    pub evidence: &'a Evidence,
    pub proven_at: Timestamp,
    pub duration_ms: u64,
    pub exit: Exit,
}

impl Migration<'_> {
    /// The report file: everything, resource by resource.
    ///
    /// # Errors
    /// When it cannot be said in JSON, which is a fault of this program.
    pub fn report(&self) -> Result<String> {
        let mut report = self.json("fhirctl/migration-report/v1");
        if let Value::Object(map) = &mut report {
            map.insert("resources".to_owned(), json!(self.evidence.resources));
            map.insert("unresolved".to_owned(), json!(self.evidence.unresolved));
        }
        render::json::pretty(&report)
    }

    fn json(&self, schema: &str) -> Value {
        let Migration { export, imported, evidence, .. } = self;
        let resources: u64 = evidence.types.iter().map(|it| it.exported).sum();
        let sum = |of: fn(&crate::bulk::import::report::OfType) -> u64| {
            imported.summary.types.iter().map(of).sum::<u64>()
        };
        json!({
            "schema": schema,
            "fhirctl_version": super::FHIRCTL_VERSION,
            "status": status(evidence),
            "exit_code": self.exit.0,
            "source": side(self.source),
            "target": side(self.target),
            "output_dir": self.folder.display().to_string(),
            "proven_at": self.proven_at,
            "duration_ms": self.duration_ms,
            "export": {
                "id": export.identity.id,
                "mode": mode(export),
                "transaction_time": export.conclusion.transaction_time,
                "resources": resources,
                "was_done": export.was_done,
                "receipt": export.identity.folder.join(crate::bulk::receipt::NAME).display().to_string(),
                "receipt_sha256": export.conclusion.sha256,
            },
            "import": {
                "id": imported.id,
                "family": imported.family,
                "reason": imported.reason,
                "finished_at": imported.finished_at,
                "accepted": imported.summary.gone_in(),
                "created": sum(|it| it.created),
                "rejected": imported.summary.rejected(),
                "retried": sum(|it| it.retried),
                "rejects": imported.rejects,
                "ledger": imported.ledger,
            },
            "types": evidence.types,
            "sample": evidence.sample,
            "references": evidence.references,
            "differences": places(&evidence.paths),
            "noted": places(&evidence.noted),
            "findings": evidence.findings,
        })
    }

    /// What the command prints.
    #[must_use]
    pub fn output(&self) -> Output {
        let mut json = self.json("fhirctl/migrate/v1");
        let (report, markdown) = (self.folder.join(REPORT), self.folder.join(MARKDOWN));
        if let Value::Object(map) = &mut json {
            map.insert("report".to_owned(), report.display().to_string().into());
            map.insert("report_markdown".to_owned(), markdown.display().to_string().into());
        }
        let rows = self.counts();
        let (word, tone) = match self.evidence.is_proven() {
            true => ("the same", Tone::Good),
            false => ("NOT the same", Tone::Bad),
        };
        let mut document = vec![
            Block::Text(vec![
                Cell::plain(format!("What {} and {} hold is ", self.source.name, self.target.name)),
                Cell::toned(word, tone),
                Cell::plain(", as far as it was looked at."),
            ]),
            Block::Blank,
            facts([
                ("as of", self.export.conclusion.transaction_time.as_ref().map(Cell::plain)),
                ("imported", Some(Cell::plain(self.import_words()))),
                ("compared", Some(Cell::plain(self.sample_words()))),
                ("references", Some(Cell::plain(reference_words(&self.evidence.references)))),
                ("took", Some(Cell::plain(duration(self.duration_ms as f64)))),
            ]),
            Block::Blank,
            Block::Table(rows.clone()),
        ];
        if !self.evidence.paths.is_empty() {
            document.extend([Block::Blank, Block::Table(self.differences(Some(SHOWN)))]);
        }
        if !self.evidence.findings.is_empty() {
            document.push(Block::Blank);
        }
        for finding in &self.evidence.findings {
            let tone = match finding.severity.as_str() {
                "error" => Tone::Bad,
                "warning" => Tone::Warning,
                _ => Tone::Dim,
            };
            document.push(Block::Text(vec![
                Cell::toned(finding.severity.as_str(), tone),
                Cell::plain(format!(" {} ({})", finding.message, finding.code)),
            ]));
        }
        document.push(Block::Blank);
        document.push(Block::text(match self.evidence.is_proven() {
            true => format!("The report: {}", report.display()),
            false => format!("Which resources, one by one: {}", report.display()),
        }));
        Output { json, document, rows: Some(rows), ..Output::default() }
    }

    /// The report for a ticket or a wiki; it names no resource.
    ///
    /// # Errors
    /// When a table cannot be drawn, which is a fault of this program.
    pub fn markdown(&self) -> Result<String> {
        let evidence = self.evidence;
        let mut text = String::new();
        let mut section = |title: &str, table: Table| -> Result<()> {
            let output = Output { rows: Some(table), ..Output::default() };
            let style = Style { color: false, width: None };
            let drawn = render::render(&output, Format::Markdown, style)?;
            let _ = write!(text, "\n## {title}\n\n{drawn}");
            Ok(())
        };
        let fact = |name: &str, value: String| vec![Cell::plain(name), Cell::plain(value)];
        let verdict = match evidence.is_proven() {
            true => "proven: the same, as far as it was looked at",
            false => "NOT the same",
        };
        let mut about = vec![
            fact("verdict", verdict.to_owned()),
            fact("from", format!("{} ({})", self.source.name, self.source.url)),
            fact("to", format!("{} ({})", self.target.name, self.target.url)),
            fact("compared at", self.proven_at.to_string()),
        ];
        if let Some(time) = &self.export.conclusion.transaction_time {
            about.push(fact("data as of", time.clone()));
        }
        about.extend([
            fact("exported by", mode(self.export).to_owned()),
            fact("SHA-256 of the receipt", self.export.conclusion.sha256.clone()),
            fact("imported", self.import_words()),
            fact("compared", self.sample_words()),
            fact("references", reference_words(&evidence.references)),
            fact("fhirctl", super::FHIRCTL_VERSION.to_owned()),
        ]);
        section("Summary", table(&["what", "value"], about))?;
        section("Counts", self.counts())?;
        if !evidence.paths.is_empty() {
            section("Differences", self.differences(None))?;
        }
        if !evidence.noted.is_empty() {
            let rows = places_rows(&evidence.noted, None);
            section("What a server adds to meta", table(&PLACE, rows))?;
        }
        if !evidence.findings.is_empty() {
            let rows = evidence.findings.iter().map(|it| {
                [&it.severity, &it.code, &it.message].map(|text| Cell::plain(text.as_str())).into()
            });
            section("Findings", table(&["severity", "code", "message"], rows.collect()))?;
        }
        Ok(format!("# Migration\n{text}"))
    }

    fn counts(&self) -> Table {
        let number = |number: u64| Cell::plain(number.to_string());
        let known = |count: Option<u64>| match count {
            Some(count) => Cell::plain(count.to_string()),
            None => Cell::toned("unknown", Tone::Dim),
        };
        let bad = |number: u64| {
            let tone = if number > 0 { Tone::Bad } else { Tone::Plain };
            Cell::toned(number.to_string(), tone)
        };
        let rows = self.evidence.types.iter().map(|it| {
            vec![
                Cell::toned(it.r#type.as_str(), Tone::Strong),
                known(it.source),
                number(it.exported),
                bad(it.rejected),
                known(it.target_before),
                known(it.target),
                number(it.compared),
                number(it.equal),
                bad(it.differing),
                bad(it.missing + it.unreadable),
            ]
        });
        let head = [
            "type",
            "source",
            "exported",
            "refused",
            "before",
            "target",
            "compared",
            "equal",
            "differing",
            "missing",
        ];
        table(&head, rows.collect())
    }

    fn differences(&self, most: Option<usize>) -> Table {
        table(&PLACE, places_rows(&self.evidence.paths, most))
    }

    fn import_words(&self) -> String {
        let summary = &self.imported.summary;
        let accepted = summary.gone_in();
        match summary.rejected() {
            0 => format!("{accepted} by {}", self.imported.family),
            rejected => format!("{accepted} by {}, {rejected} refused", self.imported.family),
        }
    }

    fn sample_words(&self) -> String {
        let sample = &self.evidence.sample;
        let of = match sample.per_type {
            Some(number) => format!("at most {number} of each type, seed {}", sample.seed),
            None => "all".to_owned(),
        };
        format!("{} resources ({of}), {} equal", sample.compared, sample.equal)
    }
}

const PLACE: [&str; 3] = ["place", "how", "resources"];

fn reference_words(it: &References) -> String {
    let mut words = format!("{} of {} lead somewhere", it.resolved, it.distinct);
    let beside = [
        (it.contained, "contained"),
        (it.to_source, "to the source's address"),
        (it.elsewhere, "to other addresses"),
        (it.other, "of other kinds"),
    ];
    for (number, what) in beside.iter().filter(|(number, _)| *number > 0) {
        let _ = write!(words, ", {number} {what}");
    }
    words
}

fn places_rows(places: &BTreeMap<(String, Kind), u64>, most: Option<usize>) -> Vec<Row> {
    let mut places: Vec<_> = places.iter().collect();
    places.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let more = places.len().saturating_sub(most.unwrap_or(usize::MAX));
    let row = |((place, kind), count): (&(String, Kind), &u64)| {
        vec![Cell::plain(place), Cell::plain(kind_words(*kind)), Cell::plain(count.to_string())]
    };
    let mut rows: Vec<Row> = places.into_iter().take(most.unwrap_or(usize::MAX)).map(row).collect();
    if more > 0 {
        rows.push(vec![
            Cell::toned(format!("and {more} more"), Tone::Dim),
            Cell::plain(""),
            Cell::plain(""),
        ]);
    }
    rows
}

fn kind_words(kind: Kind) -> &'static str {
    match kind {
        Kind::Missing => "missing on the target",
        Kind::Added => "only on the target",
        Kind::Changed => "changed",
        Kind::Rewritten => "the same number, written otherwise",
    }
}

fn places(places: &BTreeMap<(String, Kind), u64>) -> Vec<Value> {
    let place = |((path, kind), count): (&(String, Kind), &u64)| json!({ "path": path, "kind": kind, "resources": count });
    places.iter().map(place).collect()
}

fn mode(export: &Report) -> &'static str {
    match export.identity.mode {
        Mode::Bulk => "bulk",
        Mode::Crawl => "crawl",
    }
}

fn side(server: &Server) -> Value {
    json!({ "name": server.name, "url": server.url.as_str() })
}
