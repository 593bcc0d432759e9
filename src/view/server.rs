//! One check of a server, told in short for the gate and at length for a test.

use super::explain::list;
use super::human::{duration, status};
use crate::model::{Code, Observation, Severity, Status};
use crate::render::{Block, Cell, Tone};

/// What the gate says of a check; nothing when it passed at the first attempt or never ran.
pub(super) fn short(check: &Observation) -> Vec<Block> {
    if check.code.is_some_and(Code::is_left_out) {
        return Vec::new();
    }
    if check.status == Status::Healthy {
        return if check.attempts > 1 {
            vec![Block::Text(vec![
                Cell::plain(format!("{}  ", check.name)),
                status(check.status),
                Cell::plain(format!("  after {} attempts: {}", check.attempts, check.message)),
            ])]
        } else {
            Vec::new()
        };
    }
    let mut facts = vec![("what".to_owned(), Cell::plain(&check.message))];
    if let Some(accepted) = accepted(check) {
        facts.push(("accepted".to_owned(), Cell::toned(accepted, Tone::Dim)));
    } else if let Some(hint) = &check.hint {
        facts.push(("next".to_owned(), Cell::plain(hint)));
    }
    if let Some(party) = check.party {
        facts.push(("party".to_owned(), Cell::plain(party.as_str())));
    }
    vec![title(check), Block::Indented(vec![Block::Facts(facts)])]
}

/// All that is known of a check that did not pass.
pub(super) fn long(check: &Observation) -> Vec<Block> {
    let info = check.code.and_then(Code::info);
    let mut facts = vec![("what", Cell::plain(&check.message))];
    if let Some(info) = info {
        facts.push(("meaning", Cell::plain(&info.meaning)));
    }
    if let Some(accepted) = accepted(check) {
        facts.push(("accepted", Cell::toned(accepted, Tone::Dim)));
    }
    if let Some(hint) = &check.hint {
        facts.push(("next", Cell::toned(hint, Tone::Strong)));
    }
    if let Some(party) = check.party {
        facts.push(("party", party.as_str().into()));
    }
    if let Some(text) = &check.server_text {
        facts.push(("server says", Cell::plain(text)));
    }
    facts.extend(evidence(check));
    let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut blocks = vec![title(check), Block::Indented(vec![Block::Facts(facts)])];
    if let Some(info) = info {
        blocks.extend(list("Usual causes", &info.causes));
        let others: Vec<String> = info
            .remedies
            .iter()
            .filter(|remedy| Some(*remedy) != check.hint.as_ref())
            .cloned()
            .collect();
        let heading = if check.hint.is_some() { "What else to try" } else { "What to try" };
        blocks.extend(list(heading, &others));
    }
    blocks
}

/// Remarks on the documents that were read, worst first as they came.
pub(super) fn findings(checks: &[Observation]) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for severity in [Severity::Error, Severity::Warning, Severity::Info] {
        let (name, tone) = match severity {
            Severity::Error => ("error", Tone::Bad),
            Severity::Warning => ("warning", Tone::Warning),
            Severity::Info => ("info", Tone::Dim),
        };
        for finding in checks.iter().flat_map(|check| &check.findings) {
            if finding.severity == severity {
                rows.push(vec![
                    finding.id.as_str().into(),
                    Cell::toned(name, tone),
                    finding.message.as_str().into(),
                ]);
            }
        }
    }
    rows
}

fn title(check: &Observation) -> Block {
    let code = check.code.map_or("", Code::as_str);
    let words = check.code.and_then(Code::info).map_or("", |info| info.title.as_str());
    let mut row = vec![
        Cell::plain(format!("{}  ", check.name)),
        status(check.status),
        Cell::plain("  "),
        Cell::toned(code, Tone::Strong),
    ];
    if !words.is_empty() {
        row.push(Cell::plain(format!("  {words}")));
    }
    Block::Text(row)
}

fn accepted(check: &Observation) -> Option<String> {
    let accepted = check.accepted.as_ref()?;
    Some(match accepted.until {
        Some(day) => format!("does not count until {day}: {}", accepted.reason),
        None => format!("does not count: {}", accepted.reason),
    })
}

/// What an incident is shown to a vendor with.
fn evidence(check: &Observation) -> Vec<(&'static str, Cell)> {
    let mut facts = Vec::new();
    if let Some(timing) = &check.timing {
        let phases = [
            ("dns", timing.dns_ms),
            ("connect", timing.connect_ms),
            ("tls", timing.tls_ms),
            ("first byte", timing.first_byte_ms),
            ("transfer", timing.transfer_ms),
        ];
        let phases: Vec<String> = phases
            .into_iter()
            .filter_map(|(name, ms)| ms.map(|ms| format!("{name} {}", duration(ms))))
            .collect();
        if !phases.is_empty() {
            facts.push(("phases", Cell::plain(phases.join(", "))));
        }
    }
    let Some(http) = &check.http else { return facts };
    if let Some(code) = http.status {
        let version = http.version.as_deref().unwrap_or("HTTP");
        let kind = http.content_type.as_deref().unwrap_or("no content type");
        facts.push((
            "answer",
            format!("{version} {code}, {kind}, {} bytes", http.body_bytes).into(),
        ));
    }
    for (name, value) in [
        ("address", &http.remote_address),
        ("request id", &http.request_id),
        ("server's id", &http.server_request_id),
    ] {
        if let Some(value) = value {
            facts.push((name, Cell::plain(value)));
        }
    }
    if let Some(date) = http.server_date {
        let skew = match http.clock_skew_ms {
            Some(skew) if skew.unsigned_abs() >= 2000 => {
                let side = if skew > 0 { "ahead of" } else { "behind" };
                let distance = duration(skew.unsigned_abs() as f64);
                format!(", our clock is {distance} {side} it")
            }
            _ => String::new(),
        };
        facts.push(("server's time", format!("{date}{skew}").into()));
    }
    if let Some(ms) = http.retry_after_ms {
        facts.push(("retry after", duration(ms as f64).into()));
    }
    facts
}
