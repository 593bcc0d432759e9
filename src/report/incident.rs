//! Outages as they are told: when, whose, what was seen first and last, and what people wrote of them.

use std::borrow::Cow;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::instant;
use super::seen::{DAY_MS, FURTHER_DAYS, Seen};
use crate::history::{Note, NoteKind, Store};
use crate::model::{Error, Party, Reading, Result, Server, Status};
use crate::stats::incident::{Confirmation, Incident, Level, incidents};
use crate::stats::sla::Objective;
use crate::stats::span::Span;
use crate::stats::uptime::{Piece, Point, timeline};

/// One incident of one server.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Outage {
    /// The server and the first bad reading: `epic-prod@2026-11-03T02:14:05.123Z`.
    pub id: String,
    pub server: String,
    pub level: Level,
    pub from: Timestamp,
    /// The first good reading behind it; null while it lasts.
    pub until: Option<Timestamp>,
    pub duration_ms: i64,
    /// Of that, time known to be bad.
    pub bad_ms: i64,
    /// Time of it that counts as down by the agreement; null where none is judged.
    pub counts_ms: Option<i64>,
    pub unknown_ms: i64,
    pub maintenance_ms: i64,
    /// As people found out, else as the readings say.
    pub party: Option<Party>,
    /// As the readings say.
    pub party_seen: Option<Party>,
    /// Who said last that it is another's; null where it is as the readings say.
    pub party_changed: Option<PartyChange>,
    pub code: Option<String>,
    /// How many bad readings it has.
    pub readings: u32,
    /// It may have begun earlier by as much: the time since the last good reading.
    pub begin_uncertainty_ms: Option<i64>,
    /// It may have ended earlier by as much.
    pub end_uncertainty_ms: Option<i64>,
    pub first: Option<Evidence>,
    pub last: Option<Evidence>,
    /// Closed by a person.
    pub closed: bool,
    pub cause: Option<String>,
    pub case_number: Option<String>,
    pub notes: Vec<NoteFigures>,
}

/// Who said whose an incident is, and when.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PartyChange {
    pub by: String,
    pub at: Timestamp,
}

/// What was seen in one bad reading.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Evidence {
    pub at: Timestamp,
    pub check: String,
    pub code: Option<String>,
    pub message: String,
    pub http_status: Option<u16>,
    /// The `X-Request-Id` that we sent.
    pub request_id: Option<String>,
    pub server_request_id: Option<String>,
    pub remote_address: Option<String>,
}

/// What somebody wrote of an incident.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct NoteFigures {
    pub written_at: Timestamp,
    pub author: String,
    pub kind: String,
    pub cause: Option<String>,
    pub party: Option<Party>,
    pub case_number: Option<String>,
    /// May be empty where one of those is said.
    pub text: String,
}

impl Outage {
    /// While it lasts, up to the end of what was looked at.
    #[must_use]
    pub fn span(&self) -> Span {
        let from = self.from.as_millisecond();
        Span::new(from, from.saturating_add(self.duration_ms))
    }
}

/// The name of an incident: its server and its first bad reading.
#[must_use]
pub fn key_of(server: &str, from_ms: i64) -> String {
    format!("{server}@{}", instant(from_ms))
}

/// Takes the name of an incident apart.
///
/// # Errors
/// A usage error that says how one is written.
pub fn parse_key(text: &str) -> Result<(String, i64)> {
    let parts = text.rsplit_once('@').and_then(|(server, at)| {
        Some((server.to_owned(), at.parse::<Timestamp>().ok()?.as_millisecond()))
    });
    parts.filter(|(server, _)| !server.is_empty()).ok_or_else(|| {
        Error::usage(format!("\"{}\" names no incident", text.escape_debug()))
            .hint("an incident is named SERVER@INSTANT, as `fhirctl incidents list` shows it")
    })
}

/// The incidents of a server's timeline, with evidence and notes. One that goes on beyond an end of the
/// timeline is told whole: it has one name, whatever was looked at. What is down an agreement may say.
///
/// # Errors
/// When the history cannot be read.
pub async fn incidents_of(
    store: &Store,
    server: &Server,
    seen: &Seen,
    pieces: &[Piece],
    agreed: Option<&Objective>,
    now: i64,
) -> Result<Vec<Outage>> {
    let found = incidents(pieces, &seen.points, Level::Down, Confirmation::default());
    let from = pieces.first().map_or(0, |piece| piece.span.from);
    let to = pieces.last().map_or(0, |piece| piece.span.to);
    let mut all = Vec::with_capacity(found.len());
    for incident in found {
        let goes_on = incident.span.from <= from || incident.open && to < now;
        let whole = match goes_on {
            true => whole(store, server, &incident, agreed, now).await?,
            false => None,
        };
        all.push(match whole {
            Some((points, incident)) => (Cow::Owned(points), incident),
            None => (Cow::Borrowed(&seen.points), incident),
        });
    }
    let Some(first) = all.iter().map(|(_, incident)| incident.span.from).min() else {
        return Ok(Vec::new());
    };
    let last = all.iter().map(|(_, incident)| incident.span.from).max().unwrap_or(first);
    let notes = store.notes(Some(&server.name), first..last.saturating_add(1)).await?;
    let mut outages = Vec::with_capacity(all.len());
    for (points, incident) in all {
        let at = |index: usize| points.get(index).map(|point| point.at);
        let first = evidence(store, &server.name, at(incident.first)).await?;
        let last = match incident.last == incident.first {
            true => first.clone(),
            false => evidence(store, &server.name, at(incident.last)).await?,
        };
        let own = notes.iter().filter(|note| note.at == incident.span.from);
        outages.push(told(&server.name, &incident, first, last, own));
    }
    Ok(outages)
}

/// The incident that another one is a part of, with the points that it was found in; `None` where
/// readings alone tell of none.
async fn whole(
    store: &Store,
    server: &Server,
    part: &Incident,
    agreed: Option<&Objective>,
    now: i64,
) -> Result<Option<(Vec<Point>, Incident)>> {
    let mut found = None;
    for days in FURTHER_DAYS {
        let further = days * DAY_MS;
        let window = Span::new(
            part.span.from.saturating_sub(further),
            part.span.to.saturating_add(further).min(now).max(part.span.to),
        );
        let seen = Seen::load(store, server, true, window, 0).await?;
        let points = match agreed {
            Some(objective) => objective.counted_as(&seen.points),
            None => seen.points,
        };
        let pieces = timeline(&points, window, &seen.rule, &seen.planned);
        let all = incidents(&pieces, &points, Level::Down, Confirmation::default());
        let meets = |one: &Incident| !one.span.intersect(&part.span).is_empty();
        let Some(incident) = all.into_iter().find(meets) else { break };
        let is_whole = incident.uncertainty_ms.is_some() && (!incident.open || window.to >= now);
        found = Some((points, incident));
        if is_whole {
            break;
        }
    }
    Ok(found)
}

fn told<'a>(
    server: &str,
    incident: &Incident,
    first: Option<Evidence>,
    last: Option<Evidence>,
    notes: impl Iterator<Item = &'a Note>,
) -> Outage {
    let mut outage = Outage {
        id: key_of(server, incident.span.from),
        server: server.to_owned(),
        level: incident.level,
        from: instant(incident.span.from),
        until: (!incident.open).then(|| instant(incident.span.to)),
        duration_ms: incident.span.ms(),
        bad_ms: incident.bad_ms,
        counts_ms: None,
        unknown_ms: incident.unknown_ms,
        maintenance_ms: incident.maintenance_ms,
        party: incident.party,
        party_seen: incident.party,
        party_changed: None,
        code: incident.code.as_deref().map(str::to_owned),
        readings: incident.readings,
        begin_uncertainty_ms: incident.uncertainty_ms,
        end_uncertainty_ms: incident.recovery_uncertainty_ms,
        first,
        last,
        closed: false,
        cause: None,
        case_number: None,
        notes: Vec::new(),
    };
    for note in notes {
        outage.closed |= note.kind == NoteKind::Close;
        if let Some(party) = note.party {
            let change = PartyChange { by: note.author.clone(), at: note.written_at };
            outage.party = Some(party);
            outage.party_changed = (outage.party != outage.party_seen).then_some(change);
        }
        outage.cause = note.cause.clone().or(outage.cause);
        outage.case_number = note.case_number.clone().or(outage.case_number);
        outage.notes.push(NoteFigures {
            written_at: note.written_at,
            author: note.author.clone(),
            kind: note.kind.as_str().to_owned(),
            cause: note.cause.clone(),
            party: note.party,
            case_number: note.case_number.clone(),
            text: note.text.clone(),
        });
    }
    outage
}

async fn evidence(store: &Store, server: &str, at: Option<i64>) -> Result<Option<Evidence>> {
    let Some(at) = at else { return Ok(None) };
    let mut found = None;
    store
        .readings(server, at..at.saturating_add(1), |reading| {
            if reading.at.as_millisecond() == at {
                found = worst(&reading).or(found.take());
            }
            Ok(())
        })
        .await?;
    Ok(found)
}

/// The sample that decided a reading.
pub(super) fn worst(reading: &Reading) -> Option<Evidence> {
    let counted = reading.samples.iter().filter(|sample| sample.counts);
    let bad = counted.filter(|sample| sample.status != Status::Healthy);
    let sample = bad.rev().max_by_key(|sample| sample.status.rank())?;
    let detail = sample.detail.clone().unwrap_or_default();
    let text = |text: Option<std::sync::Arc<str>>| text.map(|text| text.to_string());
    Some(Evidence {
        at: reading.at,
        check: sample.check.to_string(),
        code: sample.code.as_deref().map(str::to_owned),
        message: detail.message.to_string(),
        http_status: sample.http_status,
        request_id: text(detail.request_id),
        server_request_id: text(detail.server_request_id),
        remote_address: text(detail.remote_address),
    })
}
