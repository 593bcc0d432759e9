//! Looking at a proof: everything in it is recomputed from its readings and terms.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{LAST_MS, LONGEST_MS, Proof, Proven, Reckoned};
use crate::stats::sla::{Percent, Verdict};
use crate::stats::span::Span;
use crate::stats::uptime::Rule;

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
    pub periods: Vec<CheckedPeriod>,
    pub verified: bool,
}

/// One period of an agreement, as it was recomputed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CheckedPeriod {
    pub from: Timestamp,
    pub to: Timestamp,
    /// Not over yet when the proof was made.
    pub running: bool,
    pub verdict: Verdict,
    pub objective: Option<Percent>,
    pub availability: Option<f64>,
    pub coverage: Option<f64>,
    pub credit_due: Option<Percent>,
}

impl Proof {
    /// Recomputes everything from the readings and the terms.
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
        if window.ms() > LONGEST_MS || window.from < -LAST_MS || window.to > LAST_MS {
            checked
                .problems
                .push("there is no such window: a century at most, before 9999".to_owned());
            return checked;
        }
        for server in &self.servers {
            let (one, mut problems) = server.check(window, self.generated_at.as_millisecond());
            checked.servers.push(one);
            checked.problems.append(&mut problems);
        }
        checked
    }
}

impl Proven {
    /// Recomputes what is said of a server, and tells what is not so.
    fn check(&self, window: Span, now: i64) -> (CheckedServer, Vec<String>) {
        let mut problems: Vec<String> = self.breach().into_iter().collect();
        let mut checked = CheckedServer {
            name: self.name.clone(),
            readings: self.readings.len(),
            availability: None,
            coverage: None,
            periods: Vec::new(),
            verified: false,
        };
        match self.reckon(window, now) {
            Ok(reckoned) => {
                problems.extend(self.differences(&reckoned));
                let objective =
                    self.agreement.as_ref().and_then(|agreement| agreement.terms.availability);
                checked.availability = share(reckoned.result.availability_millionths);
                checked.coverage = share(reckoned.result.coverage_millionths);
                checked.periods = reckoned
                    .periods
                    .iter()
                    .map(|period| CheckedPeriod {
                        from: period.from,
                        to: period.to,
                        running: period.until < period.to,
                        verdict: period.verdict,
                        objective,
                        availability: share(period.result.availability_millionths),
                        coverage: share(period.result.coverage_millionths),
                        credit_due: period.credit_due,
                    })
                    .collect();
            }
            Err(error) => problems.push(error.message),
        }
        checked.verified = problems.is_empty();
        (checked, problems)
    }

    /// Where the proof says something else than its readings, a sentence each.
    fn differences(&self, reckoned: &Reckoned) -> Vec<String> {
        let mut all = Vec::new();
        let mut differs = |what: &str| {
            all.push(format!("{}: {what} is not what the readings come to", self.name));
        };
        if self.tolerance != Rule::TOLERANCE {
            differs("tolerance");
        }
        if self.interval_ms != reckoned.interval_ms {
            differs("interval_ms");
        }
        if self.counted != reckoned.counted {
            differs("counted");
        }
        if self.planned != reckoned.planned {
            differs("planned");
        }
        if self.result != reckoned.result {
            all.push(format!(
                "{}: the readings come to {} ms down and {} ms up, the proof says {} and {}",
                self.name,
                reckoned.result.down_ms,
                reckoned.result.up_ms,
                self.result.down_ms,
                self.result.up_ms
            ));
        }
        let said = self.agreement.as_ref().map_or(&[][..], |agreement| &agreement.periods);
        if said.len() != reckoned.periods.len() {
            all.push(format!(
                "{}: {} periods are told, and there are {}",
                self.name,
                said.len(),
                reckoned.periods.len()
            ));
        }
        for (said, found) in said.iter().zip(&reckoned.periods).filter(|(a, b)| a != b) {
            all.push(format!(
                "{}, period from {}: {} not what readings and terms come to",
                self.name,
                found.from,
                match differing(said, found).as_slice() {
                    [one] => format!("{one} is"),
                    many => format!("{} are", many.join(", ")),
                }
            ));
        }
        all
    }
}

/// The members of two values of one kind that are not the same.
fn differing<T: Serialize>(one: &T, other: &T) -> Vec<String> {
    let (one, other) = (serde_json::to_value(one), serde_json::to_value(other));
    match (one, other) {
        (Ok(serde_json::Value::Object(one)), Ok(other)) => one
            .iter()
            .filter(|(name, value)| other.get(name) != Some(value))
            .map(|(name, _)| name.clone())
            .collect(),
        _ => Vec::new(),
    }
}

fn share(millionths: Option<i64>) -> Option<f64> {
    millionths.map(|share| share as f64 / 1e6)
}
