//! What `audit` shows: the state of the chain, records, the head.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::human::{count, or_dash};
use crate::audit::{
    Action, Expected, Found, Head, Kind, Outcome, Problem, Record, Recovered, Torn, Verification,
    audit_event,
};
use crate::model::{Error, Exit, Result};
use crate::render::{Block, Cell, Output, Row, Table, Tone};

/// The object of `audit verify -o json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct VerifyDocument {
    #[schemars(extend("const" = "fhirctl/audit-verify/v1"))]
    pub schema: String,
    /// The log's file.
    pub log: String,
    /// Whether the chain is whole and holds every expected head.
    pub verified: bool,
    /// 0 when it verifies, 65 when it does not.
    pub exit_code: u8,
    pub records: u64,
    /// The last record; null for an empty log.
    pub head: Option<HeadPlace>,
    /// How many problems there are; the first hundred are told.
    pub problem_count: u64,
    pub problems: Vec<Problem>,
    /// A last line that a crash cut short; the next append moves it aside.
    pub torn: Option<Torn>,
    /// Torn records that were moved aside before.
    pub recovered: Vec<Recovered>,
    /// What became of each head that was given.
    pub expected: Vec<Expected>,
}

/// A place in the chain.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct HeadPlace {
    pub sequence: u64,
    pub hash: String,
    /// `SEQUENCE:HASH`, as `--expect` takes it.
    pub head: String,
}

impl From<&Head> for HeadPlace {
    fn from(head: &Head) -> HeadPlace {
        HeadPlace { sequence: head.sequence, hash: head.hash.clone(), head: head.to_string() }
    }
}

/// The object of `audit head -o json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct HeadDocument {
    #[schemars(extend("const" = "fhirctl/audit-head/v1"))]
    pub schema: String,
    /// The log's file.
    pub log: String,
    #[serde(flatten)]
    pub place: HeadPlace,
}

/// The object of `audit log -o json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LogDocument {
    #[schemars(extend("const" = "fhirctl/audit-log/v1"))]
    pub schema: String,
    /// The log's file.
    pub log: String,
    /// How many records match, those beyond `--last` too.
    pub matched: u64,
    /// How many lines of the log are no records.
    pub unreadable: u64,
    /// In the order of the log.
    pub records: Vec<Record>,
}

/// One line of `audit log -o ndjson`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RecordLine {
    #[schemars(extend("const" = "fhirctl/audit-record/v1"))]
    pub schema: String,
    #[serde(flatten)]
    pub record: Record,
}

/// What `audit verify` prints, and the code that it ends with.
///
/// # Errors
/// Never for what this program finds; an internal error otherwise.
pub fn verify(log: &str, found: Verification) -> Result<(Output, Exit)> {
    let exit = if found.holds() { Exit::OK } else { Exit::DATA };
    let document = VerifyDocument {
        schema: "fhirctl/audit-verify/v1".to_owned(),
        log: log.to_owned(),
        verified: found.holds(),
        exit_code: exit.0,
        records: found.records,
        head: found.head.as_ref().map(HeadPlace::from),
        problem_count: found.problem_count,
        problems: found.problems,
        torn: found.torn,
        recovered: found.recovered,
        expected: found.expected,
    };
    let output = Output {
        json: value(&document)?,
        document: verdict(&document),
        rows: Some(problems(&document)),
        ..Output::default()
    };
    Ok((output, exit))
}

fn verdict(document: &VerifyDocument) -> Vec<Block> {
    let mut blocks = vec![Block::Text(vec![headline(document)]), Block::Blank];
    let mut facts = vec![("log".to_owned(), Cell::plain(&document.log))];
    if let Some(head) = &document.head {
        facts.push(("head".to_owned(), Cell::plain(&head.head)));
    }
    for kept in document.expected.iter().filter(|kept| kept.held) {
        facts.push((
            "kept".to_owned(),
            Cell::toned(format!("{} is in it", short(&kept.head)), Tone::Good),
        ));
    }
    for recovered in &document.recovered {
        let text = format!("record {}: {}", recovered.sequence, recovered.message);
        facts.push(("recovered".to_owned(), Cell::toned(text, Tone::Warning)));
    }
    if let Some(torn) = &document.torn {
        let text = format!(
            "line {} is no whole record ({} bytes): a crash cut it short, or somebody did; the next record moves it aside",
            torn.line, torn.bytes
        );
        facts.push(("torn".to_owned(), Cell::toned(text, Tone::Warning)));
    }
    blocks.push(Block::Facts(facts));
    if document.verified {
        return blocks;
    }
    blocks.extend([Block::Blank, Block::Table(problems(document)), Block::Blank]);
    let told = document.problems.len() as u64;
    if document.problem_count > told {
        let more = document.problem_count - told;
        blocks.push(Block::text(format!("And {more} more.")));
    }
    blocks.push(Block::text(
        "Next: keep a copy of the log as it is, and hold it against a backup and against heads that were kept elsewhere.",
    ));
    blocks
}

fn headline(document: &VerifyDocument) -> Cell {
    let records = count(usize::try_from(document.records).unwrap_or(usize::MAX), "record");
    match (document.verified, document.records) {
        (true, 0) => Cell::plain("The audit log is empty: there is nothing to verify yet."),
        (true, 1) => Cell::toned("The audit log verifies: 1 record.", Tone::Good),
        (true, _) => Cell::toned(
            format!("The audit log verifies: {records} in one unbroken chain."),
            Tone::Good,
        ),
        (false, _) => Cell::toned(format!("The audit log does NOT verify ({records})."), Tone::Bad),
    }
}

fn problems(document: &VerifyDocument) -> Table {
    let mut rows: Vec<Row> = document
        .problems
        .iter()
        .map(|problem| {
            vec![
                Cell::plain(problem.line.to_string()),
                or_dash(problem.sequence.map(|it| it.to_string()).as_deref()),
                Cell::toned(word(&problem.kind), Tone::Bad),
                Cell::plain(&problem.message),
            ]
        })
        .collect();
    for kept in document.expected.iter().filter(|kept| !kept.held) {
        let sequence = kept.head.split(':').next().unwrap_or_default();
        let what = kept.message.as_deref().unwrap_or_default();
        rows.push(vec![
            or_dash(None),
            Cell::plain(sequence),
            Cell::toned("unexpected", Tone::Bad),
            Cell::plain(format!("{} is not in it: {what}", short(&kept.head))),
        ]);
    }
    Table { head: ["LINE", "RECORD", "PROBLEM", "MESSAGE"].map(str::to_owned).to_vec(), rows }
}

/// A head with as much of its hash as a person compares.
fn short(head: &str) -> String {
    match head.split_once(':') {
        Some((sequence, hash)) => format!("{sequence}:{}…", &hash[..hash.len().min(12)]),
        None => head.to_owned(),
    }
}

/// What `audit head` prints.
///
/// # Errors
/// As [`verify`].
pub fn head(log: &str, head: &Head) -> Result<Output> {
    let document = HeadDocument {
        schema: "fhirctl/audit-head/v1".to_owned(),
        log: log.to_owned(),
        place: HeadPlace::from(head),
    };
    // Nothing beside it: it is copied and piped.
    let document_text = vec![Block::Verbatim(head.to_string())];
    Ok(Output { json: value(&document)?, document: document_text, ..Output::default() })
}

/// What `audit log` prints; `is_all` says that no filter was given.
///
/// # Errors
/// As [`verify`].
pub fn log(log: &str, found: Found, is_all: bool) -> Result<Output> {
    let lines = found
        .records
        .iter()
        .map(|record| {
            let schema = "fhirctl/audit-record/v1".to_owned();
            value(&RecordLine { schema, record: record.clone() })
        })
        .collect::<Result<Vec<Value>>>()?;
    let document = match (found.records.is_empty(), is_all) {
        (true, true) => vec![Block::text(format!(
            "The audit log is empty: no server was changed and no credential used yet ({log})."
        ))],
        (true, false) => vec![Block::text("No record matches.")],
        (false, _) => vec![Block::Table(table(&found.records))],
    };
    let rows = Some(rows(&found.records));
    let json = value(&LogDocument {
        schema: "fhirctl/audit-log/v1".to_owned(),
        log: log.to_owned(),
        matched: found.matched,
        unreadable: found.unreadable,
        records: found.records,
    })?;
    Ok(Output { json, lines: Some(lines), document, rows, ..Output::default() })
}

/// The records as FHIR R4: a Bundle of type collection, or one `AuditEvent` a line.
///
/// # Errors
/// As [`verify`].
pub fn fhir(found: &Found) -> Result<Output> {
    let events: Vec<Value> = found.records.iter().map(audit_event).collect();
    let mut bundle = json!({"resourceType": "Bundle", "type": "collection"});
    if !events.is_empty() {
        // FHIR has no empty lists.
        bundle["entry"] = events.iter().map(|event| json!({"resource": event})).collect();
    }
    let text = serde_json::to_string_pretty(&bundle)
        .map_err(|error| Error::internal(error.to_string()))?;
    let document = vec![Block::Verbatim(text)];
    Ok(Output { json: bundle, lines: Some(events), document, ..Output::default() })
}

fn table(records: &[Record]) -> Table {
    let row = |record: &Record| {
        vec![
            Cell::toned(record.sequence.to_string(), Tone::Dim),
            Cell::plain(record.time.strftime("%Y-%m-%d %H:%M:%S").to_string()),
            Cell::plain(&record.user),
            Cell::toned(&record.command, Tone::Strong),
            or_dash(record.server.as_deref()),
            Cell::plain(what(record)),
            how(record),
        ]
    };
    let head = ["#", "TIME (UTC)", "USER", "COMMAND", "SERVER", "WHAT", "OUTCOME"];
    Table { head: head.map(str::to_owned).to_vec(), rows: records.iter().map(row).collect() }
}

fn what(record: &Record) -> String {
    let target = record.target.as_deref().unwrap_or("-");
    match record.action {
        Action::Changed | Action::Read => target.to_owned(),
        Action::Resolved => format!("used {target}"),
        Action::Stored => format!("stored {target}"),
        Action::Deleted => format!("deleted {target}"),
        Action::Cut => format!("cut {target}"),
    }
}

fn how(record: &Record) -> Cell {
    let (word, tone) = match record.outcome {
        Outcome::Done if record.kind == Kind::Recovery => ("recovered", Tone::Warning),
        Outcome::Done => ("done", Tone::Good),
        Outcome::Failed => ("failed", Tone::Bad),
        Outcome::Refused => ("refused", Tone::Warning),
    };
    let text = match (&record.code, record.exit_code) {
        (Some(code), _) => format!("{word}: {code}"),
        (None, Some(exit)) if record.outcome != Outcome::Done => format!("{word}: exit {exit}"),
        _ => word.to_owned(),
    };
    Cell::toned(text, tone)
}

/// Every member of the records, for spreadsheets.
fn rows(records: &[Record]) -> Table {
    let head = [
        "sequence",
        "time",
        "user",
        "host",
        "process",
        "command",
        "server",
        "kind",
        "action",
        "target",
        "outcome",
        "exit_code",
        "code",
        "previous",
        "hash",
    ];
    let text = |text: &Option<String>| Cell::plain(text.as_deref().unwrap_or_default());
    let row = |record: &Record| {
        vec![
            Cell::plain(record.sequence.to_string()),
            Cell::plain(record.time.to_string()),
            Cell::plain(&record.user),
            Cell::plain(&record.host),
            Cell::plain(record.process.to_string()),
            Cell::plain(&record.command),
            text(&record.server),
            Cell::plain(word(&record.kind)),
            Cell::plain(word(&record.action)),
            text(&record.target),
            Cell::plain(word(&record.outcome)),
            Cell::plain(record.exit_code.map(|code| code.to_string()).unwrap_or_default()),
            text(&record.code),
            Cell::plain(&record.previous),
            Cell::plain(&record.hash),
        ]
    };
    Table { head: head.map(str::to_owned).to_vec(), rows: records.iter().map(row).collect() }
}

/// A word as it stands in the JSON.
fn word<T: Serialize>(word: &T) -> String {
    match serde_json::to_value(word) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

fn value<T: Serialize>(document: &T) -> Result<Value> {
    serde_json::to_value(document).map_err(|error| Error::internal(error.to_string()))
}
