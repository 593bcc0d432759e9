//! A proof: the readings of a window as they were chained, the rules as data, and what they come to.
//! Whoever doubts a figure recomputes it from the file alone.

use std::path::Path;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::seen::{Seen, expected_interval};
use super::sla::objective;
use super::{FORMULA, instant};
use crate::history::Store;
use crate::model::{Error, ErrorKind, Result, Server};
use crate::stats::span::{Span, Spans};
use crate::stats::uptime::{Kind, Point, Rule, Totals, timeline};

/// The file of `--proof`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// `fhirctl/proof/v1`
    pub schema: String,
    pub fhirctl_version: String,
    pub generated_at: Timestamp,
    /// `[from, to)`
    pub from: Timestamp,
    pub to: Timestamp,
    /// The rules in words; what follows is the same as data.
    pub formula: Vec<String>,
    pub servers: Vec<Proven>,
    /// The seals of finished days, as the audit log has them.
    pub seals: Vec<Sealed>,
    /// SHA-256 of this document without this member, in JSON without spaces.
    pub digest: String,
}

/// What is proven of one server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    pub name: String,
    /// How often a reading is expected.
    pub interval_ms: i64,
    /// A reading holds until the next one when that comes within so many intervals.
    pub tolerance: f64,
    /// Time that counts, as pairs of milliseconds since the epoch, `[from, to)`.
    pub counted: Vec<[i64; 2]>,
    /// Planned time within it.
    pub planned: Vec<[i64; 2]>,
    pub chain: Chain,
    /// The text of each reading, in the order of writing; `head = SHA-256(head before, text)`.
    pub readings: Vec<String>,
    pub result: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// The name that the chain began with.
    pub name: String,
    /// Which reading the first one is, from 0.
    pub position: u64,
    /// The heads before the first and behind the last reading, hexadecimal.
    pub before: String,
    pub after: String,
}

/// What the readings come to by the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    pub window_ms: i64,
    pub up_ms: i64,
    pub degraded_ms: i64,
    pub down_ms: i64,
    pub unknown_ms: i64,
    pub maintenance_ms: i64,
    /// (up + degraded) ÷ (up + degraded + down) in millionths, rounded down: whole numbers are the
    /// same in every language. Null when nothing is known.
    pub availability_millionths: Option<i64>,
    /// 1 − unknown ÷ (window − maintenance) in millionths, rounded down.
    pub coverage_millionths: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    pub day: String,
    pub digest: String,
}

/// What a look at a proof found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Checked {
    pub from: Timestamp,
    pub to: Timestamp,
    pub servers: Vec<CheckedServer>,
    /// What is not as the proof says, a sentence each.
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CheckedServer {
    pub name: String,
    pub readings: usize,
    pub availability: Option<f64>,
    pub coverage: Option<f64>,
    pub verified: bool,
}

const SCHEMA: &str = "fhirctl/proof/v1";
/// A larger file is refused unread.
const MAX_BYTES: u64 = 4 << 30;

/// Writes down what a window of some servers comes to, and from what.
///
/// # Errors
/// When the history cannot be read.
pub async fn prove(
    store: &Store,
    servers: &[&Server],
    window: Span,
    now: Timestamp,
) -> Result<Proof> {
    let mut proven = Vec::with_capacity(servers.len());
    for server in servers {
        proven.push(prove_one(store, server, window).await?);
    }
    let days = instant(window.from).strftime("%F").to_string()
        ..=instant(window.to).strftime("%F").to_string();
    let seals = store
        .seals()
        .await?
        .into_iter()
        .map(|seal| Sealed { day: seal.day.to_string(), digest: seal.digest });
    let mut proof = Proof {
        schema: SCHEMA.to_owned(),
        fhirctl_version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: now,
        from: instant(window.from),
        to: instant(window.to),
        formula: FORMULA.iter().map(|line| (*line).to_owned()).collect(),
        servers: proven,
        seals: seals.filter(|seal| days.contains(&seal.day)).collect(),
        digest: String::new(),
    };
    proof.digest = proof.computed_digest()?;
    Ok(proof)
}

async fn prove_one(store: &Store, server: &Server, window: Span) -> Result<Proven> {
    let seen = Seen::load(store, server, true, window, 0).await?;
    let reach = seen.rule.reach_ms();
    let wide = window.from.saturating_sub(reach)..window.to.saturating_add(reach);
    let chained = store.chained(&server.name, wide).await?;
    let counted = match &server.agreement {
        Some(agreement) => {
            let terms = objective(agreement)?;
            terms.hours.spans(window, &terms.zone, &terms.holidays)
        }
        None => Spans::one(window),
    };
    let pairs = |spans: &Spans| spans.iter().map(|span| [span.from, span.to]).collect();
    let mut proven = Proven {
        name: server.name.clone(),
        interval_ms: expected_interval(server).unwrap_or(seen.interval.interval_ms),
        tolerance: seen.rule.tolerance,
        counted: pairs(&counted),
        planned: pairs(&seen.planned.clip(window)),
        chain: Chain {
            name: chained.born,
            position: chained.position,
            before: chained.before,
            after: chained.after,
        },
        readings: chained.readings.iter().map(crate::model::Reading::text).collect(),
        result: Outcome::of(&Totals::default()),
    };
    let (outcome, problems) = proven.recompute(window);
    if let Some(problem) = problems.first() {
        return Err(Error::new(ErrorKind::Data, format!("no proof can be made: {problem}"))
            .hint("fhirctl history verify says where the history is not as it was written"));
    }
    proven.result = outcome;
    Ok(proven)
}

impl Proof {
    /// Reads a proof.
    ///
    /// # Errors
    /// Exit 66 when there is no such file, 65 when it is none of ours.
    pub fn read(path: &Path) -> Result<Proof> {
        let size = std::fs::metadata(path).map_err(|error| Error::io("read", path, &error))?.len();
        let wrong = |why: String| {
            Error::new(ErrorKind::Data, format!("{} is no proof: {why}", path.display()))
                .hint("fhirctl report KIND --proof FILE writes one")
        };
        if size > MAX_BYTES {
            return Err(wrong("it is larger than 4 GiB".to_owned()));
        }
        let bytes = std::fs::read(path).map_err(|error| Error::io("read", path, &error))?;
        let proof: Proof =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if proof.schema != SCHEMA {
            return Err(wrong(format!("its schema is {}", proof.schema.escape_debug())));
        }
        Ok(proof)
    }

    /// The file's text.
    ///
    /// # Errors
    /// When it cannot be said in JSON, which is a fault of this program.
    pub fn print(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::internal(format!("a proof cannot be written: {error}")))?;
        Ok(text + "\n")
    }

    fn computed_digest(&self) -> Result<String> {
        let mut value = serde_json::to_value(self)
            .map_err(|error| Error::internal(format!("a proof cannot be written: {error}")))?;
        if let Some(object) = value.as_object_mut() {
            object.shift_remove("digest");
        }
        Ok(hex(&Sha256::digest(value.to_string())))
    }

    /// Recomputes everything from the samples.
    #[must_use]
    pub fn verify(&self) -> Checked {
        let window = Span::new(self.from.as_millisecond(), self.to.as_millisecond());
        let mut checked =
            Checked { from: self.from, to: self.to, servers: Vec::new(), problems: Vec::new() };
        match self.computed_digest() {
            Ok(digest) if digest == self.digest => {}
            Ok(_) => checked.problems.push("the document is not what its digest says".to_owned()),
            Err(error) => checked.problems.push(error.message),
        }
        for server in &self.servers {
            let (outcome, mut problems) = server.recompute(window);
            if outcome != server.result {
                problems.push(format!(
                    "{}: the readings come to {} ms down and {} ms up, the proof says {} and {}",
                    server.name,
                    outcome.down_ms,
                    outcome.up_ms,
                    server.result.down_ms,
                    server.result.up_ms
                ));
            }
            checked.servers.push(CheckedServer {
                name: server.name.clone(),
                readings: server.readings.len(),
                availability: outcome.availability_millionths.map(|share| share as f64 / 1e6),
                coverage: outcome.coverage_millionths.map(|share| share as f64 / 1e6),
                verified: problems.is_empty(),
            });
            checked.problems.append(&mut problems);
        }
        checked
    }
}

impl Proven {
    /// What the readings come to, and what is wrong with them.
    fn recompute(&self, window: Span) -> (Outcome, Vec<String>) {
        let mut problems = Vec::new();
        let mut head = unhex(&self.chain.before).unwrap_or_default();
        if head.len() != 32 {
            problems.push(format!("{}: the chain begins with no hash", self.name));
        }
        let mut points = Vec::with_capacity(self.readings.len());
        for (index, text) in self.readings.iter().enumerate() {
            head = Sha256::new().chain_update(&head).chain_update(text).finalize().to_vec();
            match point(text) {
                Some(Some(point)) => points.push(point),
                Some(None) => {}
                None => problems.push(format!("{}: reading {index} cannot be read", self.name)),
            }
        }
        if hex(&head) != self.chain.after {
            problems.push(format!("{}: the readings are not those of the chain", self.name));
        }
        let rule = Rule { interval_ms: self.interval_ms, tolerance: self.tolerance };
        let spans = |pairs: &[[i64; 2]]| {
            Spans::from(pairs.iter().map(|[from, to]| Span::new(*from, *to)).collect::<Vec<_>>())
        };
        let pieces = timeline(&points, window, &rule, &spans(&self.planned));
        (Outcome::of(&Totals::of(&pieces, &spans(&self.counted), &[])), problems)
    }
}

/// The point that a reading's text tells; `Some(None)` for a server that was out of use.
fn point(text: &str) -> Option<Option<Point>> {
    let mut fields = text.lines().next()?.split('|');
    if fields.next()? != "r" {
        return None;
    }
    let at: Timestamp = fields.next()?.parse().ok()?;
    let (_origin, state, status) = (fields.next()?, fields.next()?, fields.next()?);
    let kind = match status {
        "healthy" => Kind::Up,
        "warning" => Kind::Degraded,
        "critical" => Kind::Down,
        "unknown" => Kind::Unknown,
        _ => return None,
    };
    let point = Point { at: at.as_millisecond(), kind, party: None, code: None };
    Some((state != "inactive").then_some(point))
}

impl Outcome {
    fn of(totals: &Totals) -> Outcome {
        Outcome {
            window_ms: totals.window_ms,
            up_ms: totals.up_ms,
            degraded_ms: totals.degraded_ms,
            down_ms: totals.down_ms,
            unknown_ms: totals.unknown_ms,
            maintenance_ms: totals.maintenance_ms,
            availability_millionths: millionths(totals.available_ms(), totals.judged_ms()),
            coverage_millionths: {
                let due = totals.window_ms - totals.maintenance_ms;
                millionths(due - totals.unknown_ms, due)
            },
        }
    }
}

fn millionths(part: i64, whole: i64) -> Option<i64> {
    let share = (i128::from(part) * 1_000_000).checked_div(i128::from(whole))?;
    (whole > 0).then(|| i64::try_from(share).ok()).flatten()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || text.len() % 2 == 1 {
        return None;
    }
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()).collect()
}
