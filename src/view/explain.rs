//! Reason codes and findings, explained.

use schemars::JsonSchema;
use serde::Serialize;

use super::human::{facts, status, table};
use crate::lint::RuleInfo;
use crate::model::{CodeInfo, Error, FindingInfo, Result, Severity};
use crate::render::{Block, Cell, Output, Row, Tone};

/// One code or finding or many of them; the same shape for all.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ExplainDocument<'a> {
    /// `fhirctl/explain/v1`
    pub schema: &'static str,
    pub codes: &'a [&'a CodeInfo],
    /// Remarks on a CapabilityStatement.
    pub findings: &'a [&'a FindingInfo],
    /// Rules of `lint`.
    pub rules: &'a [&'a RuleInfo],
}

/// One at full length, or many as tables by what stands before the dot.
///
/// # Errors
/// When the document cannot be written, which is a fault of this program.
pub fn output(
    codes: &[&CodeInfo],
    findings: &[&FindingInfo],
    rules: &[&RuleInfo],
) -> Result<Output> {
    let document = ExplainDocument { schema: "fhirctl/explain/v1", codes, findings, rules };
    Ok(Output {
        json: serde_json::to_value(&document)
            .map_err(|error| Error::internal(error.to_string()))?,
        document: match (codes, findings, rules) {
            ([only], [], []) => one(only),
            ([], [only], []) => one_finding(only),
            ([], [], [only]) => one_rule(only),
            _ => all(codes, findings),
        },
        rows: Some(rows(codes, findings, rules)),
        ..Output::default()
    })
}

fn rows(
    codes: &[&CodeInfo],
    findings: &[&FindingInfo],
    rules: &[&RuleInfo],
) -> crate::render::Table {
    let codes = codes.iter().map(|info| {
        vec![
            info.code.as_str().into(),
            info.title.as_str().into(),
            info.status.as_str().into(),
            info.party.as_str().into(),
            info.meaning.as_str().into(),
        ]
    });
    let findings = findings.iter().map(|info| {
        vec![
            info.id.as_str().into(),
            info.title.as_str().into(),
            Cell::default(),
            Cell::default(),
            info.meaning.as_str().into(),
        ]
    });
    let rules = rules.iter().map(|rule| {
        vec![
            rule.id.as_str().into(),
            rule.title.as_str().into(),
            severity(rule.severity),
            Cell::default(),
            rule.why.as_str().into(),
        ]
    });
    table(
        &["code", "title", "status", "party", "meaning"],
        codes.chain(findings).chain(rules).collect(),
    )
}

fn one_rule(rule: &RuleInfo) -> Vec<Block> {
    let mut blocks = vec![
        Block::Text(vec![
            Cell::toned(&rule.id, Tone::Strong),
            Cell::plain(format!(": {}", rule.title)),
        ]),
        Block::Indented(vec![facts([
            ("severity", Some(severity(rule.severity))),
            ("mended by", rule.fixable.then(|| "fhirctl lint --fix".into())),
        ])]),
        Block::Blank,
        Block::text(&rule.why),
    ];
    blocks.extend(list("What to do", std::slice::from_ref(&rule.remedy)));
    blocks
}

/// How grave a finding is, in its own tone.
pub(super) fn severity(severity: Severity) -> Cell {
    match severity {
        Severity::Error => Cell::toned("error", Tone::Bad),
        Severity::Warning => Cell::toned("warning", Tone::Warning),
        Severity::Info => Cell::toned("info", Tone::Dim),
    }
}

fn one_finding(info: &FindingInfo) -> Vec<Block> {
    let mut blocks = vec![
        Block::Text(vec![
            Cell::toned(&info.id, Tone::Strong),
            Cell::plain(format!(": {}", info.title)),
        ]),
        Block::Blank,
        Block::text(&info.meaning),
    ];
    blocks.extend(list("What to try", std::slice::from_ref(&info.remedy)));
    blocks.push(Block::Blank);
    blocks.push(Block::text(
        "A finding changes no status, unless checks.metadata.strict is set; CS-01 always does.",
    ));
    blocks
}

fn one(info: &CodeInfo) -> Vec<Block> {
    let mut blocks = vec![
        Block::Text(vec![
            Cell::toned(&info.code, Tone::Strong),
            Cell::plain(format!(": {}", info.title)),
        ]),
        Block::Indented(vec![facts([
            ("status", Some(status(info.status))),
            ("party", Some(party(info).into())),
        ])]),
        Block::Blank,
        Block::text(&info.meaning),
    ];
    blocks.extend(list("Usual causes", &info.causes));
    blocks.extend(list("What to try", &info.remedies));
    blocks
}

/// A heading with its points, or nothing. The first point is the likeliest.
pub(super) fn list(heading: &str, points: &[String]) -> Vec<Block> {
    if points.is_empty() {
        return Vec::new();
    }
    let points = points
        .iter()
        .enumerate()
        .map(|(index, point)| (format!("{}.", index + 1), Cell::plain(point)))
        .collect();
    vec![
        Block::Blank,
        Block::Heading(heading.to_owned()),
        Block::Indented(vec![Block::Facts(points)]),
    ]
}

fn party(info: &CodeInfo) -> &'static str {
    use crate::model::Party;
    match info.party {
        Party::Ours => "ours: our side has to act",
        Party::Network => "network: something between us and the server",
        Party::IdentityProvider => "identity provider: the one that issues tokens",
        Party::Vendor => "vendor: the server's operator has to act",
        Party::Undetermined => "undetermined: it takes a look to say whose it is",
    }
}

fn all(codes: &[&CodeInfo], findings: &[&FindingInfo]) -> Vec<Block> {
    let mut groups: Vec<(&str, Vec<Row>)> = Vec::new();
    for info in codes {
        let prefix = info.code.split(['.', '-']).next().unwrap_or_default();
        let row = vec![
            Cell::toned(&info.code, Tone::Strong),
            status(info.status),
            info.party.as_str().into(),
            info.title.as_str().into(),
        ];
        match groups.iter_mut().find(|(name, _)| *name == prefix) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((prefix, vec![row])),
        }
    }
    // One table, so that the columns stand in line; an empty row between the groups.
    let mut rows = Vec::new();
    for (_, group) in groups {
        if !rows.is_empty() {
            rows.push(vec![Cell::default(); 4]);
        }
        rows.extend(group);
    }
    let mut blocks = Vec::new();
    if !rows.is_empty() {
        blocks.push(Block::Table(table(&["code", "status", "party", "title"], rows)));
        blocks.push(Block::Blank);
    }
    if !findings.is_empty() {
        let rows = findings
            .iter()
            .map(|info| vec![Cell::toned(&info.id, Tone::Strong), info.title.as_str().into()])
            .collect();
        blocks.push(Block::Table(table(&["finding", "what is in order without it"], rows)));
        blocks.push(Block::Blank);
    }
    blocks.push(Block::text("fhirctl explain CODE says what one means and what to try."));
    blocks
}
