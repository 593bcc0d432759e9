//! A proof: the readings of a window as they were chained, the rules as data, and what they come to.
//! Whoever doubts a figure recomputes it from the file alone.

use std::io::Read;
use std::path::Path;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::seen::{expected_interval, wide};
use super::sla::{Planned, Terms, margin_ms, planned};
use super::{FORMULA, instant};
use crate::history::{Known, Store, chain};
use crate::model::{Error, ErrorKind, Reading, Result, Server};
use crate::stats::span::{Span, Spans};
use crate::stats::uptime::{Rule, Totals, timeline};

mod agreement;
mod check;
mod readings;

pub use agreement::{ProvenAgreement, ProvenPeriod};
pub use check::{Checked, CheckedPeriod, CheckedServer};
use readings::Readings;

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
    /// How often the inventory says that it is looked at; null where it does not, and the interval is
    /// the median gap between readings.
    pub scheduled_ms: Option<i64>,
    /// Readings that were taken before are no longer kept: milliseconds since the epoch.
    pub kept_from_ms: Option<i64>,
    /// Planned work as it was entered.
    pub maintenance: Vec<Planned>,
    pub chain: Chain,
    /// The text of each reading, in the order of writing; `head = SHA-256(head before, text)`.
    pub readings: Vec<String>,
    /// How often a reading is expected.
    pub interval_ms: i64,
    /// A reading holds until the next one when that comes within so many intervals.
    pub tolerance: f64,
    /// Time of the window that counts: within service hours, where some were agreed; as pairs of
    /// milliseconds since the epoch, `[from, to)`.
    pub counted: Vec<[i64; 2]>,
    /// Planned time of the window: readings that were taken in maintenance, and what was entered.
    pub planned: Vec<[i64; 2]>,
    /// What the window comes to, whatever was agreed of it.
    pub result: Outcome,
    /// What was agreed, and what each period comes to by it; null where nothing was.
    pub agreement: Option<ProvenAgreement>,
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
    /// Down time of parties that an agreement leaves out.
    pub excluded_ms: i64,
    /// What availability is a share of: up, degraded and down.
    pub judged_ms: i64,
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

const SCHEMA: &str = "fhirctl/proof/v1";
/// A larger file is refused.
const MAX_BYTES: u64 = 4 << 30;
/// A century: no longer window is asked for, and no server is looked at more seldom.
const LONGEST_MS: i64 = 36_525 * 86_400_000;
/// The year 9999: behind it no period has an end.
const LAST_MS: i64 = 253_370_764_800_000;

/// Writes down what a window of some servers comes to, and from what.
///
/// # Errors
/// When the history cannot be read.
pub async fn prove(
    store: &Store,
    servers: &[(&Server, Option<&Known>)],
    window: Span,
    now: Timestamp,
) -> Result<Proof> {
    let mut proven = Vec::with_capacity(servers.len());
    for (server, known) in servers {
        proven.push(prove_one(store, server, *known, window, now.as_millisecond()).await?);
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

async fn prove_one(
    store: &Store,
    server: &Server,
    known: Option<&Known>,
    window: Span,
    now: i64,
) -> Result<Proven> {
    let terms = server.agreement.as_ref().map(Terms::of).transpose()?;
    let scheduled_ms = expected_interval(server);
    let mut all = wide(window, scheduled_ms, 0);
    if let Some(terms) = &terms {
        let objective = terms.objective()?;
        for period in agreement::windows(&objective, window, now) {
            let period = wide(period, scheduled_ms, margin_ms(&objective));
            all = Span::new(all.from.min(period.from), all.to.max(period.to));
        }
    }
    let from = first_look(store, &server.name, all.from).await?;
    let chained = store.chained(&server.name, from..all.to).await?;
    let mut proven = Proven {
        name: server.name.clone(),
        scheduled_ms,
        kept_from_ms: known.and_then(|known| known.pruned_to),
        maintenance: planned(server, all),
        chain: Chain {
            name: chained.born,
            position: chained.position,
            before: chained.before,
            after: chained.after,
        },
        readings: chained.readings.iter().map(Reading::text).collect(),
        interval_ms: 0,
        tolerance: Rule::TOLERANCE,
        counted: Vec::new(),
        planned: Vec::new(),
        result: Outcome::of(&Totals::default()),
        agreement: terms.map(|terms| ProvenAgreement { terms, periods: Vec::new() }),
    };
    proven.settle(window, now).map_err(|error| {
        Error::new(ErrorKind::Data, format!("no proof can be made: {}", error.message))
            .hint("fhirctl history verify says where the history is not as it was written")
    })?;
    Ok(proven)
}

/// When the last reading before an instant was taken, since it may hold beyond it.
async fn first_look(store: &Store, server: &str, before: i64) -> Result<i64> {
    let mut first = before;
    store
        .points(server, before..before.saturating_add(1), |point| {
            first = first.min(point.at);
            Ok(())
        })
        .await?;
    Ok(first)
}

impl Proof {
    /// Reads a proof.
    ///
    /// # Errors
    /// Exit 66 when there is no such file, 65 when it is none of ours.
    pub fn read(path: &Path) -> Result<Proof> {
        let file = std::fs::File::open(path).map_err(|error| Error::io("read", path, &error))?;
        Proof::read_from(file, &path.display().to_string())
    }

    /// Reads a proof from what has a name.
    ///
    /// # Errors
    /// Exit 65 when it is none of ours, 74 when it cannot be read.
    pub fn read_from(input: impl Read, name: &str) -> Result<Proof> {
        let wrong = |why: String| {
            Error::new(ErrorKind::Data, format!("{name} is no proof: {why}"))
                .hint("fhirctl report KIND --proof FILE writes one")
        };
        let mut bytes = Vec::new();
        input
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io("read", Path::new(name), &error))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(wrong("it is larger than 4 GiB".to_owned()));
        }
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

    pub(super) fn computed_digest(&self) -> Result<String> {
        let mut value = serde_json::to_value(self)
            .map_err(|error| Error::internal(format!("a proof cannot be written: {error}")))?;
        if let Some(object) = value.as_object_mut() {
            object.shift_remove("digest");
        }
        Ok(chain::hex(&Sha256::digest(value.to_string())))
    }
}

/// What the readings of a server come to.
struct Reckoned {
    interval_ms: i64,
    counted: Vec<[i64; 2]>,
    planned: Vec<[i64; 2]>,
    result: Outcome,
    periods: Vec<ProvenPeriod>,
}

impl Proven {
    /// Fills in what the readings come to.
    fn settle(&mut self, window: Span, now: i64) -> Result<()> {
        if let Some(problem) = self.breach() {
            return Err(Error::new(ErrorKind::Data, problem));
        }
        let reckoned = self.reckon(window, now)?;
        self.interval_ms = reckoned.interval_ms;
        self.counted = reckoned.counted;
        self.planned = reckoned.planned;
        self.result = reckoned.result;
        if let Some(agreement) = &mut self.agreement {
            agreement.periods = reckoned.periods;
        }
        Ok(())
    }

    /// What is wrong with the chain.
    fn breach(&self) -> Option<String> {
        let Some(mut head) = chain::unhex(&self.chain.before) else {
            return Some(format!("{}: the chain begins with no hash", self.name));
        };
        if self.chain.position == 0 && head != chain::start(&self.chain.name) {
            return Some(format!("{}: the chain does not begin with its name", self.name));
        }
        for text in &self.readings {
            head = chain::advance(&head, text);
        }
        let is_whole = chain::hex(&head) == self.chain.after;
        (!is_whole).then(|| format!("{}: the readings are not those of the chain", self.name))
    }

    /// What the readings come to by the rules and the terms.
    fn reckon(&self, window: Span, now: i64) -> Result<Reckoned> {
        let wrong = |what: &str| Error::new(ErrorKind::Data, format!("{}: {what}", self.name));
        if self.scheduled_ms.is_some_and(|ms| !(1..=LONGEST_MS).contains(&ms)) {
            return Err(wrong("so often no server is looked at"));
        }
        let readings = Readings::of(self)?;
        let seen = readings.seen(&self.maintenance, window, wide(window, self.scheduled_ms, 0));
        let mut counted = Spans::one(window);
        let mut periods = Vec::new();
        if let Some(ProvenAgreement { terms, .. }) = &self.agreement {
            let told = |error: Error| wrong(&error.message);
            let objective = terms.objective().map_err(told)?;
            counted = objective.hours.spans(window, &objective.zone, &objective.holidays);
            periods = agreement::reckon(terms, &readings, &self.maintenance, window, now)
                .map_err(told)?;
        }
        let pieces = timeline(&seen.points, window, &seen.rule, &seen.planned);
        Ok(Reckoned {
            interval_ms: seen.interval.interval_ms,
            counted: pairs(&counted),
            planned: pairs(&seen.planned.clip(window)),
            result: Outcome::of(&Totals::of(&pieces, &counted, &[])),
            periods,
        })
    }
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
            excluded_ms: totals.excluded_ms,
            judged_ms: totals.judged_ms(),
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

fn pairs(spans: &Spans) -> Vec<[i64; 2]> {
    spans.iter().map(|span| [span.from, span.to]).collect()
}

#[cfg(test)]
mod tests;
