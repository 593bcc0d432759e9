//! What `lint` shows: findings by what they are about, what to do, and the load of each server.

use serde::Serialize;
use serde_json::{Value, json};

use super::explain::severity;
use super::human::{count, table};
use crate::lint::{About, Finding, Load, RuleInfo, rules_by_subject};
use crate::model::{Error, Exit, Result, Severity};
use crate::render::{Block, Case, Cell, Output, Row, Suite, Suites, Tone};

/// A whole run.
#[derive(Debug)]
pub struct LintRun {
    pub inventory: String,
    pub generated_at: jiff::Timestamp,
    /// Names of the servers that were looked at.
    pub servers: Vec<String>,
    pub findings: Vec<Finding>,
    /// What was mended before.
    pub fixed: Vec<Finding>,
    pub load: Vec<Load>,
    /// Whether a rule was looked at.
    pub ran: Vec<&'static str>,
}

/// One finding as it stands in `fhirctl/lint/v1`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    rule: &'a str,
    severity: Severity,
    server: Option<&'a str>,
    group: Option<&'a str>,
    job: Option<&'a str>,
    file: String,
    line: Option<u32>,
    column: Option<u32>,
    key: Option<&'a str>,
    message: &'a str,
    remedy: &'a str,
    fixable: bool,
}

impl<'a> From<&'a Finding> for Line<'a> {
    fn from(finding: &'a Finding) -> Line<'a> {
        let (mut server, mut group, mut job) = (None, None, None);
        match &finding.about {
            About::Server(name) => server = Some(name.as_str()),
            About::Group(name) => group = Some(name.as_str()),
            About::Job(name) => job = Some(name.as_str()),
        }
        Line {
            rule: &finding.rule.id,
            severity: finding.severity,
            server,
            group,
            job,
            file: finding.location.file.display().to_string(),
            line: finding.location.line,
            column: finding.location.column,
            key: finding.location.key.as_deref(),
            message: &finding.message,
            remedy: &finding.rule.remedy,
            fixable: finding.fix.is_some(),
        }
    }
}

impl LintRun {
    /// 0 when nothing is worse than an info, 1 for warnings, 2 for errors.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.count(Severity::Error) > 0 {
            Exit::CRITICAL
        } else if self.count(Severity::Warning) > 0 {
            Exit::WARNING
        } else {
            Exit::OK
        }
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// # Errors
    /// When the document cannot be written, which is a fault of this program.
    pub fn output(&self) -> Result<Output> {
        let fault = |error: serde_json::Error| Error::internal(error.to_string());
        let values = |findings: &[Finding]| -> Result<Vec<Value>> {
            let lines = findings.iter().map(Line::from);
            lines.map(|line| serde_json::to_value(line).map_err(fault)).collect()
        };
        let findings = values(&self.findings)?;
        let load: Vec<Value> = self
            .load
            .iter()
            .map(|load| serde_json::to_value(load).map_err(fault))
            .collect::<Result<_>>()?;
        let line = |schema: &str, value: &Value| {
            let mut line = serde_json::Map::new();
            line.insert("schema".to_owned(), schema.into());
            line.extend(value.as_object().cloned().unwrap_or_default());
            Value::Object(line)
        };
        let lines = findings
            .iter()
            .map(|finding| line("fhirctl/lint-finding/v1", finding))
            .chain(load.iter().map(|load| line("fhirctl/lint-load/v1", load)))
            .collect();
        Ok(Output {
            json: json!({
                "schema": "fhirctl/lint/v1",
                "fhirctl_version": super::FHIRCTL_VERSION,
                "generated_at": self.generated_at,
                "inventory": self.inventory,
                "exit_code": self.exit().0,
                "summary": {
                    "servers": self.servers.len(),
                    "errors": self.count(Severity::Error),
                    "warnings": self.count(Severity::Warning),
                    "infos": self.count(Severity::Info),
                    "fixed": self.fixed.len(),
                },
                "findings": findings,
                "fixed": values(&self.fixed)?,
                "load": load,
            }),
            lines: Some(lines),
            document: self.document(),
            rows: Some(self.rows()),
            suites: Some(self.suites()),
            ..Output::default()
        })
    }

    fn rows(&self) -> crate::render::Table {
        let rows = self.findings.iter().map(|finding| {
            let line = Line::from(finding);
            let number = |number: Option<u32>| {
                Cell::plain(number.map_or_else(String::new, |n| n.to_string()))
            };
            vec![
                severity(finding.severity),
                line.rule.into(),
                line.server.unwrap_or_default().into(),
                line.group.or(line.job).unwrap_or_default().into(),
                number(line.line),
                number(line.column),
                line.key.unwrap_or_default().into(),
                line.message.into(),
                line.remedy.into(),
            ]
        });
        table(
            &[
                "severity",
                "rule",
                "server",
                "group_or_job",
                "line",
                "column",
                "key",
                "message",
                "remedy",
            ],
            rows.collect(),
        )
    }

    fn document(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        for finding in &self.fixed {
            blocks.push(Block::Text(vec![
                Cell::toned("mended ", Tone::Good),
                Cell::plain(format!("{}: {}", title(&finding.about), finding.message)),
            ]));
        }
        if !self.fixed.is_empty() {
            blocks.push(Block::Blank);
        }
        let mut rest = self.findings.as_slice();
        while let Some(first) = rest.first() {
            let length = rest.iter().take_while(|finding| finding.about == first.about).count();
            let (group, after) = rest.split_at(length);
            blocks.push(Block::Heading(title(&first.about)));
            blocks.push(Block::Indented(vec![Block::Table(table(
                &["line", "severity", "rule", "finding"],
                group.iter().map(row).collect(),
            ))]));
            blocks.push(Block::Blank);
            rest = after;
        }
        let mut rules: Vec<&RuleInfo> = Vec::new();
        for finding in &self.findings {
            if !rules.contains(&finding.rule) {
                rules.push(finding.rule);
            }
        }
        if !rules.is_empty() {
            blocks.push(Block::Heading("What to do".into()));
            let facts = rules.iter().map(|rule| (rule.id.clone(), Cell::plain(&rule.remedy)));
            blocks.push(Block::Indented(vec![Block::Facts(facts.collect())]));
            blocks.push(Block::Blank);
        }
        blocks.push(Block::Heading("What is asked of each server in a day".into()));
        blocks.push(Block::Indented(vec![Block::Table(self.load_table())]));
        blocks.push(Block::Blank);
        blocks.push(Block::text(self.summary()));
        blocks
    }

    fn load_table(&self) -> crate::render::Table {
        let rows = self.load.iter().map(|load| {
            vec![
                Cell::toned(&load.server, Tone::Strong),
                load.requests_per_day.to_string().into(),
                load.token_requests_per_day.to_string().into(),
                load.record_reads_per_day.to_string().into(),
                Cell::toned(&load.basis, Tone::Dim),
            ]
        });
        table(&["server", "requests", "tokens", "records", "basis"], rows.collect())
    }

    fn summary(&self) -> String {
        let findings =
            [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Info, "info")];
        let found = findings.map(|(severity, word)| count(self.count(severity), word)).join(", ");
        let fixable = self.findings.iter().filter(|finding| finding.fix.is_some()).count();
        let mend = match fixable {
            0 => String::new(),
            number => format!("; fhirctl lint --fix mends {number}"),
        };
        format!("{found} in {}{mend}.", count(self.servers.len(), "server"))
    }

    /// A suite is a server, group or job, a case a rule that looked at it.
    fn suites(&self) -> Suites {
        let [servers, groups, jobs] = rules_by_subject();
        let mut subjects: Vec<(About, &[&'static str])> = self
            .servers
            .iter()
            .map(|name| (About::Server(name.clone()), servers.as_slice()))
            .collect();
        for finding in &self.findings {
            let rules = match finding.about {
                About::Server(_) => continue,
                About::Group(_) => groups.as_slice(),
                About::Job(_) => jobs.as_slice(),
            };
            if !subjects.iter().any(|(about, _)| *about == finding.about) {
                subjects.push((finding.about.clone(), rules));
            }
        }
        let mut by_subject: std::collections::BTreeMap<&About, Vec<&Finding>> = Default::default();
        for finding in &self.findings {
            by_subject.entry(&finding.about).or_default().push(finding);
        }
        let suite = |(about, rules): &(About, &[&'static str])| {
            let findings = by_subject.get(about).map(Vec::as_slice).unwrap_or_default();
            let rules = rules.iter().filter(|rule| self.ran.contains(rule));
            Suite { name: title(about), cases: rules.map(|rule| case(rule, findings)).collect() }
        };
        Suites { name: "fhirctl lint".into(), suites: subjects.iter().map(suite).collect() }
    }
}

fn case(rule: &str, findings: &[&Finding]) -> Case {
    let mut case = Case { name: rule.to_owned(), ..Case::default() };
    for finding in findings.iter().filter(|finding| finding.rule.id == rule) {
        let line = finding.location.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        let text = format!("{line}{}", finding.message);
        match finding.severity {
            Severity::Info => case.notes.push(text),
            Severity::Error | Severity::Warning => case.failure.push(text),
        }
        let remedy = format!("to do: {}", finding.rule.remedy);
        if !case.notes.contains(&remedy) {
            case.notes.push(remedy);
        }
    }
    case
}

fn title(about: &About) -> String {
    match about {
        About::Server(name) => name.clone(),
        About::Group(name) => format!("group {name}"),
        About::Job(name) => format!("job {name}"),
    }
}

fn row(finding: &Finding) -> Row {
    vec![
        Cell::toned(
            finding.location.line.map_or_else(String::new, |line| line.to_string()),
            Tone::Dim,
        ),
        severity(finding.severity),
        Cell::plain(&finding.rule.id),
        Cell::plain(&finding.message),
    ]
}

/// The rules themselves.
///
/// # Errors
/// As [`LintRun::output`].
pub fn rules() -> Result<Output> {
    let rules: Vec<&RuleInfo> = RuleInfo::all().collect();
    let values = rules
        .iter()
        .map(|rule| serde_json::to_value(rule).map_err(|error| Error::internal(error.to_string())))
        .collect::<Result<Vec<_>>>()?;
    let rows = rules.iter().map(|rule| {
        let fix = if rule.fixable { "--fix" } else { "" };
        vec![
            Cell::toned(&rule.id, Tone::Strong),
            severity(rule.severity),
            Cell::plain(&rule.title),
            Cell::toned(fix, Tone::Dim),
        ]
    });
    let table = table(&["rule", "severity", "what it finds", "mended by"], rows.collect());
    Ok(Output {
        json: json!({"schema": "fhirctl/lint-rules/v1", "rules": values}),
        document: vec![
            Block::Table(table.clone()),
            Block::Blank,
            Block::text("fhirctl explain RULE says why and what to do."),
        ],
        rows: Some(table),
        ..Output::default()
    })
}
