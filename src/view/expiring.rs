//! What `expiring` shows: what ends, when, and the command that renews it.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::human::{count, or_dash, table};
use crate::http::Failure;
use crate::lint::expiring::{Ending, Urgency};
use crate::model::{Code, Error, Exit, Result};
use crate::render::{Block, Calendar, Cell, Event, Output, Row, Tone};

/// Days before an end at which a calendar reminds, at most.
const REMIND_DAYS: u32 = 7;

/// A whole run.
#[derive(Debug)]
pub struct ExpiringRun {
    pub inventory: String,
    pub generated_at: Timestamp,
    pub within: Duration,
    pub offline: bool,
    /// How many were looked at.
    pub servers: usize,
    /// The soonest first.
    pub endings: Vec<Ending>,
    pub not_seen: Vec<NotSeen>,
}

/// What could not be looked at: whether it ends is not known.
#[derive(Clone, Debug, Serialize)]
pub struct NotSeen {
    pub server: String,
    /// The server's certificate, or a file.
    pub what: String,
    pub code: Code,
    pub message: String,
}

impl NotSeen {
    #[must_use]
    pub fn server(server: &str, failure: &Failure) -> NotSeen {
        NotSeen::file(server, "server certificate", failure)
    }

    #[must_use]
    pub fn file(server: &str, what: &str, failure: &Failure) -> NotSeen {
        NotSeen {
            server: server.to_owned(),
            what: what.to_owned(),
            code: failure.code,
            message: failure.message.clone(),
        }
    }
}

impl ExpiringRun {
    /// 0 when nothing ends within the time, 1 when something does or could not be looked at, 2
    /// when something has ended or is within its critical time.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.endings.iter().any(|ending| ending.status != Urgency::Ending) {
            Exit::CRITICAL
        } else if self.endings.is_empty() && self.not_seen.is_empty() {
            Exit::OK
        } else {
            Exit::WARNING
        }
    }

    /// # Errors
    /// When the document cannot be written, which is a fault of this program.
    pub fn output(&self) -> Result<Output> {
        let items = values(&self.endings)?;
        let line = |item: &Value| {
            let mut line = serde_json::Map::new();
            line.insert("schema".to_owned(), "fhirctl/expiring-item/v1".into());
            line.extend(item.as_object().cloned().unwrap_or_default());
            Value::Object(line)
        };
        let within_ms = u64::try_from(self.within.as_millis()).unwrap_or(u64::MAX);
        Ok(Output {
            json: json!({
                "schema": "fhirctl/expiring/v1",
                "fhirctl_version": super::FHIRCTL_VERSION,
                "generated_at": self.generated_at,
                "inventory": self.inventory,
                "within_ms": within_ms,
                "offline": self.offline,
                "exit_code": self.exit().0,
                "items": items,
                "not_seen": values(&self.not_seen)?,
            }),
            lines: Some(items.iter().map(line).collect()),
            document: self.document(),
            rows: Some(self.rows()),
            calendar: Some(self.calendar()),
            ..Output::default()
        })
    }

    fn rows(&self) -> crate::render::Table {
        let rows = self.endings.iter().map(|ending| {
            vec![
                Cell::plain(&ending.server),
                ending.kind.as_str().into(),
                Cell::plain(&ending.what),
                ending.ends.map_or_else(String::new, |end| end.to_string()).into(),
                ending.days_left.map_or_else(String::new, |days| days.to_string()).into(),
                status(ending.status),
                Cell::plain(&ending.action),
            ]
        });
        table(&["server", "kind", "what", "ends", "days_left", "status", "action"], rows.collect())
    }

    fn document(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let within = humantime::format_duration(self.within);
        if self.endings.is_empty() {
            blocks.push(Block::text(format!(
                "Nothing of {} ends within {within}.",
                count(self.servers, "server")
            )));
        } else {
            let head = ["ends", "days", "status", "server", "what ends"];
            blocks.push(Block::Table(table(&head, self.endings.iter().map(row).collect())));
            blocks.push(Block::Blank);
            blocks.push(Block::Heading("What to do".into()));
            let mut facts: Vec<(String, Cell)> = Vec::new();
            for ending in &self.endings {
                let fact = (ending.server.clone(), Cell::plain(&ending.action));
                if !facts.contains(&fact) {
                    facts.push(fact);
                }
            }
            blocks.push(Block::Indented(vec![Block::Facts(facts)]));
        }
        if !self.not_seen.is_empty() {
            blocks.push(Block::Blank);
            blocks.push(Block::Heading("Not seen".into()));
            let facts = self.not_seen.iter().map(|unseen| {
                let message = format!("{}: {}", unseen.what, unseen.message);
                (unseen.server.clone(), Cell::toned(message, Tone::Unknown))
            });
            blocks.push(Block::Indented(vec![Block::Facts(facts.collect())]));
        }
        if self.offline {
            blocks.push(Block::Blank);
            blocks.push(Block::text("Offline: no server's own certificate was looked at."));
        }
        blocks
    }

    fn calendar(&self) -> Calendar {
        let event = |ending: &Ending| {
            let at = ending.ends?;
            let kind = ending.kind.as_str();
            let days =
                u32::try_from(ending.days_left.unwrap_or_default().max(0)).unwrap_or(u32::MAX);
            Some(Event {
                uid: format!("{kind}-{}@fhirctl", digest(&[&ending.server, kind, &ending.what])),
                at,
                summary: format!("{}: {kind} ends ({})", ending.server, ending.what),
                description: ending.action.clone(),
                remind_days: days.clamp(1, REMIND_DAYS),
            })
        };
        Calendar {
            made_at: self.generated_at,
            events: self.endings.iter().filter_map(event).collect(),
        }
    }
}

fn values<T: Serialize>(items: &[T]) -> Result<Vec<Value>> {
    let value =
        |item| serde_json::to_value(item).map_err(|error| Error::internal(error.to_string()));
    items.iter().map(value).collect()
}

/// The same for the same texts, in every run and on every machine.
fn digest(parts: &[&str]) -> String {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(parts.join("\u{0}"));
    digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

fn row(ending: &Ending) -> Row {
    let day = ending.ends.map(|end| end.strftime("%Y-%m-%d").to_string());
    vec![
        or_dash(day.as_deref()),
        ending.days_left.map_or_else(Cell::nothing, |days| days.to_string().into()),
        status(ending.status),
        Cell::toned(&ending.server, Tone::Strong),
        format!("{}: {}", ending.kind.as_str(), ending.what).into(),
    ]
}

fn status(status: Urgency) -> Cell {
    let tone = match status {
        Urgency::Ended | Urgency::Critical => Tone::Bad,
        Urgency::Ending => Tone::Warning,
    };
    Cell::toned(status.as_str(), tone)
}
