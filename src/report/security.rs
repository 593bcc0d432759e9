//! What may mean that somebody stands between us and a server, or that a sign-in is refused: when,
//! how often, until when.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::history::Store;
use crate::model::{Code, Party, Result, Server};
use crate::stats::span::Span;

/// One row of equal security findings of one check.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SecurityEvent {
    pub server: String,
    pub check: String,
    pub code: String,
    pub party: Option<Party>,
    pub first: Timestamp,
    pub last: Timestamp,
    /// When the same check was first seen without it; null while it lasts.
    pub ended: Option<Timestamp>,
    /// How many samples had it.
    pub samples: u64,
    pub message: String,
}

/// Whether a code belongs into this report: sign-in, TLS, and what may be somebody in between.
fn is_security(code: &str) -> bool {
    let family = code.split('.').next().unwrap_or_default();
    matches!(family, "auth" | "tls")
        || matches!(code, "network.address_not_allowed" | "http.redirect_refused")
        || Code::find(code).is_some_and(Code::is_security)
}

/// # Errors
/// When the history cannot be read.
pub async fn security(store: &Store, server: &Server, window: Span) -> Result<Vec<SecurityEvent>> {
    let mut open: BTreeMap<(String, String), SecurityEvent> = BTreeMap::new();
    let mut all = Vec::new();
    store
        .readings(&server.name, window.from..window.to, |reading| {
            if !window.contains(reading.at.as_millisecond()) {
                return Ok(());
            }
            for sample in &reading.samples {
                let code = sample.code.as_deref().filter(|code| is_security(code));
                // Another result of the same check ends what it had before.
                let ended: Vec<_> = open
                    .keys()
                    .filter(|(check, other)| {
                        **check == *sample.check && Some(other.as_str()) != code
                    })
                    .cloned()
                    .collect();
                for key in ended {
                    if let Some(mut event) = open.remove(&key) {
                        event.ended = Some(reading.at);
                        all.push(event);
                    }
                }
                let Some(code) = code else { continue };
                let key = (sample.check.to_string(), code.to_owned());
                let event = open.entry(key).or_insert_with(|| SecurityEvent {
                    server: server.name.clone(),
                    check: sample.check.to_string(),
                    code: code.to_owned(),
                    party: sample.party,
                    first: reading.at,
                    last: reading.at,
                    ended: None,
                    samples: 0,
                    message: String::new(),
                });
                event.last = reading.at;
                event.samples += 1;
                if let Some(detail) = &sample.detail {
                    event.message = detail.message.to_string();
                }
            }
            Ok(())
        })
        .await?;
    all.extend(open.into_values());
    all.sort_by(|a, b| (a.first, &a.check, &a.code).cmp(&(b.first, &b.check, &b.code)));
    Ok(all)
}
