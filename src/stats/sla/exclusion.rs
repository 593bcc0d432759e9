//! What an agreement leaves out, and what each exclusion does to the figure.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::Party;
use crate::stats::span::Spans;
use crate::stats::uptime::{PARTIES, Piece, Totals, over};

/// What does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// Planned time.
    Maintenance,
    /// Down time of a party.
    Party(Party),
    /// Spans that were agreed upon, such as a claim that both sides settled.
    Named { name: String, spans: Spans },
}

/// What one exclusion moves. Shares are from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Step {
    /// As it is written: `maintenance`, `party=ours`; `planned_max` and `least_outage` for the limits
    /// of the agreement.
    pub exclusion: String,
    pub availability_before: Option<f64>,
    pub availability_after: Option<f64>,
    /// What availability is a share of: up, degraded and down.
    pub judged_before_ms: i64,
    pub judged_after_ms: i64,
    pub down_before_ms: i64,
    pub down_after_ms: i64,
}

impl Exclusion {
    /// `maintenance`, or `party=` with a party.
    ///
    /// # Errors
    /// A sentence that says how to write it.
    pub fn parse(text: &str) -> Result<Exclusion, String> {
        if text == "maintenance" {
            return Ok(Exclusion::Maintenance);
        }
        let named = text.strip_prefix("party=");
        let party = PARTIES.into_iter().find(|party| Some(party.as_str()) == named);
        party.map(Exclusion::Party).ok_or_else(|| {
            format!(
                "\"{}\" is no exclusion; write maintenance, or party= with ours, network, identity_provider, vendor or undetermined",
                text.escape_debug()
            )
        })
    }
}

impl std::fmt::Display for Exclusion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exclusion::Maintenance => f.write_str("maintenance"),
            Exclusion::Party(party) => write!(f, "party={}", party.as_str()),
            Exclusion::Named { name, .. } => f.write_str(name),
        }
    }
}

/// A timeline on its way through the exclusions.
pub(super) struct Adjusted {
    pub(super) pieces: Vec<Piece>,
    pub(super) counted: Spans,
    /// Parties whose down time is out.
    pub(super) without: Vec<Party>,
    pub(super) steps: Vec<Step>,
}

impl Adjusted {
    pub(super) fn new(pieces: Vec<Piece>, counted: Spans) -> Adjusted {
        Adjusted { pieces, counted, without: Vec::new(), steps: Vec::new() }
    }

    pub(super) fn totals(&self) -> Totals {
        Totals::of(&self.pieces, &self.counted, &self.without)
    }

    pub(super) fn exclude(&mut self, exclusion: &Exclusion, maintenance: &Spans) {
        self.step(exclusion.to_string(), |now| match exclusion {
            Exclusion::Maintenance => {
                now.pieces = over(std::mem::take(&mut now.pieces), maintenance);
            }
            Exclusion::Party(party) => now.without.push(*party),
            Exclusion::Named { spans, .. } => now.counted = now.counted.subtract(spans),
        });
    }

    /// Does something to the timeline and notes what became of the figure.
    pub(super) fn step(&mut self, exclusion: String, adjust: impl FnOnce(&mut Adjusted)) {
        let before = self.totals();
        adjust(self);
        let after = self.totals();
        self.steps.push(Step {
            exclusion,
            availability_before: before.availability(),
            availability_after: after.availability(),
            judged_before_ms: before.judged_ms(),
            judged_after_ms: after.judged_ms(),
            down_before_ms: before.down_ms,
            down_after_ms: after.down_ms,
        });
    }
}
