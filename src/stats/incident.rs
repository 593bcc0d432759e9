//! Incidents: stretches of bad readings, from the first bad one to the first good one behind it.
//!
//! Time within an incident of which nothing is known counts as unknown, not as down, and maintenance
//! as maintenance; neither begins or ends an incident, nor breaks a row of readings. How many bad
//! readings in a row open one, and how many good ones close it, changes whether there is one, not
//! where it begins and ends: those stay the first bad and the first good reading.
//!
//! MTTR is the mean length of the incidents that ended. MTBF is the mean operating time between
//! failures, as in IEC 60050-192: time up or degraded ÷ number of incidents.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::span::{Span, Spans};
use super::uptime::{Kind, PARTIES, PartyTimes, Piece, Point, Totals};
use crate::model::Party;

/// What an incident is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Down,
    /// It answers, and is worse than it should be; going down ends it.
    Degraded,
}

/// How many readings in a row it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Confirmation {
    /// Bad ones, to open an incident.
    pub bad: u32,
    /// Good ones, to close it.
    pub good: u32,
}

impl Default for Confirmation {
    fn default() -> Confirmation {
        Confirmation { bad: 1, good: 1 }
    }
}

/// One stretch of bad readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    pub level: Level,
    /// From the first bad reading to the first good one, or to the window's end while it is open.
    pub span: Span,
    /// Not confirmed as over when the window ended.
    pub open: bool,
    /// Time in it that was bad, as the level says.
    pub bad_ms: i64,
    /// Time in it that was good again, for too short to close it.
    pub good_ms: i64,
    pub unknown_ms: i64,
    pub maintenance_ms: i64,
    /// The bad time by party.
    pub by_party: PartyTimes,
    /// The party of most of the bad time; of the first such reading when two have as much.
    pub party: Option<Party>,
    /// The reason code of most of the bad time, in the same way.
    pub code: Option<Arc<str>>,
    /// How many bad readings it has.
    pub readings: u32,
    /// The place of the first bad reading in the list of points.
    pub first: usize,
    /// The place of the last bad one.
    pub last: usize,
    /// The place of the good one that ended it.
    pub recovered: Option<usize>,
    /// From the last good reading to the first bad one: by so much may it have begun earlier. `None`
    /// when no good one came before it.
    pub uncertainty_ms: Option<i64>,
    /// From the last bad reading to the first good one: by so much may it have ended earlier.
    pub recovery_uncertainty_ms: Option<i64>,
}

/// Finds the incidents of a timeline, in order. `points` are those that it was made of.
#[must_use]
pub fn incidents(
    pieces: &[Piece],
    points: &[Point],
    level: Level,
    confirmation: Confirmation,
) -> Vec<Incident> {
    let mut finder = Finder { level, confirmation, points, last_good: None, current: None };
    let mut found = Vec::new();
    for piece in pieces {
        found.extend(finder.see(piece));
    }
    let end = pieces.last().map_or(0, |piece| piece.span.to);
    found.extend(finder.end(end));
    found
}

struct Finder<'a> {
    level: Level,
    confirmation: Confirmation,
    points: &'a [Point],
    /// The last good reading while there is no incident.
    last_good: Option<usize>,
    current: Option<Draft>,
}

/// An incident in the making.
struct Draft {
    incident: Incident,
    confirmed: bool,
    /// Bad readings in a row, up to its confirmation.
    row: u32,
    /// Good readings in a row, the first of them, where it began, and what the incident was then: if
    /// they close it, what followed was no part of it.
    recovery: Option<Recovery>,
    parties: Vec<(Option<Party>, i64)>,
    codes: Vec<(Option<Arc<str>>, i64)>,
}

struct Recovery {
    first: usize,
    from: i64,
    row: u32,
    last: usize,
    before: Incident,
}

impl Finder<'_> {
    /// Takes the next piece; an incident that it closes comes out.
    fn see(&mut self, piece: &Piece) -> Option<Incident> {
        match (piece.kind, piece.point) {
            (Kind::Unknown | Kind::Maintenance, _) | (_, None) => {
                self.neither(piece);
                None
            }
            (kind, Some(point)) if kind == self.level.kind() => {
                self.bad(piece, point);
                None
            }
            (_, Some(point)) => self.good(piece, point),
        }
    }

    fn neither(&mut self, piece: &Piece) {
        if let Some(draft) = &mut self.current {
            let time = match piece.kind {
                Kind::Maintenance => &mut draft.incident.maintenance_ms,
                _ => &mut draft.incident.unknown_ms,
            };
            *time += piece.span.ms();
        }
    }

    fn bad(&mut self, piece: &Piece, point: usize) {
        let draft = self.current.get_or_insert_with(|| {
            let since = self.last_good.map(|good| self.points[good].at);
            Draft::new(self.level, piece, point, since)
        });
        draft.recovery = None;
        let incident = &mut draft.incident;
        // Maintenance cuts the time of one reading into several pieces.
        if incident.readings == 0 || incident.last != point {
            incident.readings += 1;
            draft.row += 1;
        }
        incident.last = point;
        draft.confirmed |= draft.row >= self.confirmation.bad.max(1);
        let ms = piece.span.ms();
        incident.bad_ms += ms;
        incident.by_party.add(piece.party, ms);
        add(&mut draft.parties, piece.party.as_ref(), ms);
        add(&mut draft.codes, piece.code.as_ref(), ms);
    }

    fn good(&mut self, piece: &Piece, point: usize) -> Option<Incident> {
        // A row that was too short is no incident.
        self.current.take_if(|draft| !draft.confirmed);
        if self.current.is_some() {
            return self.good_in_incident(piece, point);
        }
        self.last_good = Some(point);
        None
    }

    fn good_in_incident(&mut self, piece: &Piece, point: usize) -> Option<Incident> {
        let draft = self.current.as_mut()?;
        let incident = &mut draft.incident;
        let recovery = draft.recovery.get_or_insert_with(|| Recovery {
            first: point,
            from: piece.span.from,
            row: 0,
            last: point,
            before: incident.clone(),
        });
        if recovery.row == 0 || recovery.last != point {
            recovery.row += 1;
        }
        recovery.last = point;
        incident.good_ms += piece.span.ms();
        if recovery.row < self.confirmation.good.max(1) {
            return None;
        }
        let draft = self.current.take()?;
        self.last_good = Some(point);
        let recovery = draft.recovery?;
        let mut incident = recovery.before;
        incident.span.to = recovery.from;
        incident.recovered = Some(recovery.first);
        let last = self.points[incident.last].at;
        incident.recovery_uncertainty_ms = Some(recovery.from.saturating_sub(last));
        incident.party = most(&draft.parties);
        incident.code = most(&draft.codes);
        Some(incident)
    }

    /// What is still open when the window ends.
    fn end(self, end: i64) -> Option<Incident> {
        let draft = self.current.filter(|draft| draft.confirmed)?;
        let mut incident = draft.incident;
        incident.span.to = end;
        incident.open = true;
        incident.party = most(&draft.parties);
        incident.code = most(&draft.codes);
        Some(incident)
    }
}

impl Draft {
    fn new(level: Level, piece: &Piece, point: usize, since: Option<i64>) -> Draft {
        let begun = piece.span.from;
        Draft {
            incident: Incident {
                level,
                span: Span::new(begun, begun),
                open: false,
                bad_ms: 0,
                good_ms: 0,
                unknown_ms: 0,
                maintenance_ms: 0,
                by_party: PartyTimes::default(),
                party: None,
                code: None,
                readings: 0,
                first: point,
                last: point,
                recovered: None,
                uncertainty_ms: since.map(|since| begun.saturating_sub(since)),
                recovery_uncertainty_ms: None,
            },
            confirmed: false,
            row: 0,
            recovery: None,
            parties: Vec::new(),
            codes: Vec::new(),
        }
    }
}

impl Level {
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Level::Down => Kind::Down,
            Level::Degraded => Kind::Degraded,
        }
    }
}

fn add<T: Clone + PartialEq>(sums: &mut Vec<(Option<T>, i64)>, what: Option<&T>, ms: i64) {
    match sums.iter_mut().find(|(known, _)| known.as_ref() == what) {
        Some((_, sum)) => *sum += ms,
        None => sums.push((what.cloned(), ms)),
    }
}

/// What has the most; the first of those that have as much.
fn most<T: Clone>(sums: &[(Option<T>, i64)]) -> Option<T> {
    let most = sums.iter().map(|(_, ms)| *ms).max()?;
    sums.iter().find(|(_, ms)| *ms == most).and_then(|(what, _)| what.clone())
}

/// Outages with less down time than `least_ms` count as degraded: the server is taken to have been
/// there, and the pieces still show what was seen. Time that is unknown lengthens no outage.
#[must_use]
pub fn least_outage(mut pieces: Vec<Piece>, least_ms: i64) -> Vec<Piece> {
    let mut first = 0;
    while first < pieces.len() {
        let is_end = |piece: &Piece| matches!(piece.kind, Kind::Up | Kind::Degraded);
        let rest = &pieces[first..];
        let end = first + rest.iter().position(is_end).unwrap_or(rest.len());
        let outage = &mut pieces[first..end];
        let down = outage.iter().filter(|piece| piece.kind == Kind::Down);
        if down.map(|piece| piece.span.ms()).sum::<i64>() < least_ms {
            let down = outage.iter_mut().filter(|piece| piece.kind == Kind::Down);
            down.for_each(|piece| piece.kind = Kind::Degraded);
        }
        first = end + 1;
    }
    pieces
}

/// What incidents come to.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Summary {
    pub count: usize,
    pub open: usize,
    /// Bad time of them all.
    pub bad_ms: i64,
    /// The longest, from its first bad reading to its first good one.
    pub longest_ms: Option<i64>,
    /// Mean time to repair: the mean length of those that ended.
    pub mttr_ms: Option<f64>,
    /// Mean operating time between failures: time up or degraded ÷ number of incidents.
    pub mtbf_ms: Option<f64>,
    /// The bad time by party.
    pub by_party: PartyTimes,
}

/// Adds incidents up; `totals` are those of the same window.
#[must_use]
pub fn summary(incidents: &[Incident], totals: &Totals) -> Summary {
    let lengths = || incidents.iter().map(|incident| incident.span.ms());
    let ended: Vec<i64> = incidents
        .iter()
        .filter(|incident| !incident.open)
        .map(|incident| incident.span.ms())
        .collect();
    let mean = |sum: i64, count: usize| (count > 0).then(|| sum as f64 / count as f64);
    let mut by_party = PartyTimes::default();
    for incident in incidents {
        for party in PARTIES {
            by_party.add(Some(party), incident.by_party.of(party));
        }
    }
    Summary {
        count: incidents.len(),
        open: incidents.len() - ended.len(),
        bad_ms: incidents.iter().map(|incident| incident.bad_ms).sum(),
        longest_ms: lengths().max(),
        mttr_ms: mean(ended.iter().sum(), ended.len()),
        mtbf_ms: mean(totals.available_ms(), incidents.len()),
        by_party,
    }
}

/// What of an incident lies in the time that counts, added up by the timeline that it was found in.
#[must_use]
pub fn counted(incident: &Incident, pieces: &[Piece], counted: &Spans) -> Totals {
    Totals::within(pieces, incident.span, counted, &[])
}

#[cfg(test)]
mod tests;
