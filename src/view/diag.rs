//! What `diag` shows: the verdict first, then the evidence.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::FHIRCTL_VERSION;
use super::check::to_millisecond;
use super::human::{duration, facts, or_dash, status, table};
use crate::diag::{Evidence, Problem, Topic, TopicName, Verdict};
use crate::model::{Code, Error, Result, Server, Status};
use crate::render::{Block, Case, Cell, Output, Suite, Suites, Table, Tone};

/// One server's diagnosis.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DiagDocument {
    /// `fhirctl/diag/v1`
    pub schema: &'static str,
    pub fhirctl_version: &'static str,
    pub run_id: String,
    pub generated_at: Timestamp,
    pub inventory: String,
    pub server: DiagServer,
    pub status: Status,
    /// What the process returns.
    pub exit_code: u8,
    /// Whether it was told to stop before it was done.
    pub cut_short: bool,
    pub verdict: Verdict,
    pub topics: Vec<Topic>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct DiagServer {
    pub name: String,
    /// The base URL, without credentials.
    pub url: String,
    pub vendor: Option<String>,
}

/// The commands of `--curl`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CommandsDocument {
    /// `fhirctl/diag-commands/v1`
    pub schema: &'static str,
    pub server: String,
    pub commands: Vec<CommandLine>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct CommandLine {
    pub topic: TopicName,
    pub about: String,
    /// For a POSIX shell; secrets stand in variables.
    pub command: String,
}

impl CommandsDocument {
    /// The commands as the given script, and as rows of JSON.
    ///
    /// # Errors
    /// As [`DiagDocument::output`].
    pub fn output(&self, script: &str) -> Result<Output> {
        let json =
            serde_json::to_value(self).map_err(|error| Error::internal(error.to_string()))?;
        let document = vec![Block::Verbatim(script.to_owned())];
        Ok(Output { json, document, ..Output::default() })
    }
}

impl DiagDocument {
    #[must_use]
    pub fn new(
        server: &Server,
        inventory: String,
        generated_at: Timestamp,
        verdict: Verdict,
        topics: Vec<Topic>,
        exit_code: u8,
        cut_short: bool,
    ) -> DiagDocument {
        DiagDocument {
            schema: "fhirctl/diag/v1",
            fhirctl_version: FHIRCTL_VERSION,
            run_id: uuid::Uuid::new_v4().to_string(),
            generated_at: to_millisecond(generated_at),
            inventory,
            server: DiagServer {
                name: server.name.clone(),
                url: server.url.to_string(),
                vendor: server.vendor.clone(),
            },
            status: verdict.status,
            exit_code,
            cut_short,
            verdict,
            topics,
        }
    }

    /// The diagnosis in every form.
    ///
    /// # Errors
    /// When the document cannot be written, which is a fault of this program.
    pub fn output(&self) -> Result<Output> {
        let json =
            serde_json::to_value(self).map_err(|error| Error::internal(error.to_string()))?;
        Ok(Output {
            json,
            document: self.blocks(),
            ticket: Some(self.blocks()),
            rows: Some(self.rows()),
            suites: Some(self.suites()),
            ..Output::default()
        })
    }

    /// The same without what the server said in its own words: they may speak of a patient.
    #[must_use]
    pub fn in_our_words(mut self) -> DiagDocument {
        for topic in &mut self.topics {
            topic.details = without_their_words(std::mem::take(&mut topic.details));
            for problem in &mut topic.problems {
                problem.server_text = None;
            }
        }
        self
    }

    fn blocks(&self) -> Vec<Block> {
        let verdict = &self.verdict;
        let mut blocks = vec![
            Block::Heading(self.server.name.clone()),
            Block::Text(vec![
                status(verdict.status),
                Cell::plain(": "),
                Cell::toned(&verdict.message, Tone::Strong),
            ]),
            Block::Indented(vec![facts([
                ("layer", verdict.layer.map(|layer| Cell::plain(layer.as_str()))),
                ("who acts", verdict.party.map(|party| Cell::plain(party.as_str()))),
                ("code", verdict.code.map(|code| Cell::plain(code.as_str()))),
                ("next step", verdict.next_step.as_ref().map(Cell::plain)),
                ("url", Some(Cell::plain(&self.server.url))),
                ("at", Some(Cell::plain(self.generated_at.to_string()))),
            ])]),
            Block::Blank,
            Block::Table(table(
                &["topic", "status", "time", "what"],
                self.topics.iter().map(line).collect(),
            )),
        ];
        for topic in self.topics.iter().filter(|topic| topic.has_run()) {
            blocks.push(Block::Blank);
            blocks.push(Block::Heading(topic.name.as_str().to_owned()));
            blocks.push(Block::Indented(evidence(topic)));
        }
        blocks.push(Block::Blank);
        if self.cut_short {
            blocks.push(Block::text("Cut short by hand: this is what was found until then."));
        }
        blocks.push(Block::text(format!("Exit code {}.", self.exit_code)));
        blocks
    }

    /// One problem a row; a topic without one has a row of its own.
    fn rows(&self) -> Table {
        let head = ["server", "topic", "status", "code", "layer", "party", "message"];
        let mut rows = Vec::new();
        for topic in &self.topics {
            let name = || Cell::plain(topic.name.as_str());
            let server = || Cell::plain(&self.server.name);
            for problem in topic.problems.iter().filter(|problem| problem.counts()) {
                rows.push(vec![
                    server(),
                    name(),
                    problem.status.as_str().into(),
                    problem.code.as_str().into(),
                    problem.layer.as_str().into(),
                    problem.party.as_str().into(),
                    Cell::plain(&problem.message),
                ]);
            }
            if !topic.problems.iter().any(Problem::counts) {
                rows.push(vec![
                    server(),
                    name(),
                    topic.status.as_str().into(),
                    topic.code.map(Code::as_str).unwrap_or_default().into(),
                    Cell::default(),
                    Cell::default(),
                    Cell::plain(&topic.message),
                ]);
            }
        }
        table(&head, rows)
    }

    fn suites(&self) -> Suites {
        let told = |topic: &Topic, is_unknown: bool| -> Vec<String> {
            let problems = topic.problems.iter().filter(|problem| problem.counts());
            problems
                .filter(|problem| (problem.status == Status::Unknown) == is_unknown)
                .map(|problem| format!("{}: {}", problem.code, problem.message))
                .collect()
        };
        let case = |topic: &Topic| Case {
            name: topic.name.as_str().to_owned(),
            failure: told(topic, false),
            error: told(topic, true),
            skipped: (!topic.has_run()).then(|| topic.message.clone()),
            notes: Vec::new(),
            duration_ms: topic.duration_ms,
        };
        Suites {
            name: "fhirctl diag".to_owned(),
            suites: vec![Suite {
                name: self.server.name.clone(),
                cases: self.topics.iter().map(case).collect(),
            }],
        }
    }
}

fn line(topic: &Topic) -> Vec<Cell> {
    let name = Cell::toned(topic.name.as_str(), Tone::Strong);
    if !topic.has_run() {
        let message = Cell::toned(&topic.message, Tone::Dim);
        return vec![name, Cell::nothing(), Cell::default(), message];
    }
    vec![
        name,
        status(topic.status),
        duration(topic.duration_ms).into(),
        topic.message.clone().into(),
    ]
}

/// Everything that a topic found, problems first.
fn evidence(topic: &Topic) -> Vec<Block> {
    let mut blocks = Vec::new();
    for problem in &topic.problems {
        let accepted = problem.accepted.as_ref().map(|reason| format!(" (accepted: {reason})"));
        blocks.push(Block::Text(vec![
            status(problem.status),
            Cell::toned(format!(" {}", problem.code), Tone::Strong),
            Cell::plain(format!(": {}{}", problem.message, accepted.unwrap_or_default())),
        ]));
        blocks.push(Block::Indented(vec![facts([
            ("who acts", Some(Cell::plain(problem.party.as_str()))),
            ("next step", problem.next_step.as_ref().map(Cell::plain)),
            ("the server says", problem.server_text.as_ref().map(Cell::plain)),
        ])]));
    }
    let mut known: Vec<(String, Cell)> = Vec::new();
    for piece in &topic.evidence {
        if !matches!(piece, Evidence::Fact { .. }) && !known.is_empty() {
            blocks.push(Block::Facts(std::mem::take(&mut known)));
        }
        match piece {
            Evidence::Fact { name, value } => {
                known.push((name.clone(), or_dash(Some(value.as_str()))));
            }
            Evidence::Table { title, head, rows } => {
                if !title.is_empty() {
                    blocks.push(Block::text(title.clone()));
                }
                let rows = rows.iter().map(|row| row.iter().map(Cell::plain).collect()).collect();
                blocks.push(Block::Table(Table { head: head.clone(), rows }));
            }
            Evidence::Note(text) => blocks.push(Block::text(text.clone())),
        }
    }
    if !known.is_empty() {
        blocks.push(Block::Facts(known));
    }
    if blocks.is_empty() {
        blocks.push(Block::text(topic.message.clone()));
    }
    blocks
}

fn without_their_words(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| {
                let value =
                    if name == "server_text" { Value::Null } else { without_their_words(value) };
                (name, value)
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(without_their_words).collect(),
        other => other,
    }
}
