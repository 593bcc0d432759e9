//! What history keeps of a run: one [`Reading`] a server, one [`Sample`] a check.
//!
//! A reading is what an auditor recomputes from, so it has one text ([`Reading::text`]) that the
//! hash chain of its server is made of. It holds our words only: no patient data, no secret, and
//! nothing that a server said.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Observation, Party, ServerReport, State, Status};

mod text;

/// One run's results of one server.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub server: Arc<str>,
    /// When its first check was made, to the millisecond.
    pub at: Timestamp,
    pub run: Uuid,
    pub origin: Origin,
    /// From where it was looked at; `None` where nobody named the place.
    pub vantage: Option<Arc<str>>,
    /// As it stood in the inventory at that instant.
    pub state: State,
    /// The worst of the samples that count.
    pub status: Status,
    /// Of the sample that decided the status, such as `tls.expired`; `None` when healthy.
    pub code: Option<Arc<str>>,
    pub party: Option<Party>,
    /// Of the whole check, in microseconds.
    pub duration_us: u64,
    pub samples: Vec<Sample>,
}

/// What made a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    Check,
    Test,
    Monitor,
    /// Taken over from another program's history, after the fact.
    Import,
}

/// One check of one reading.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Such as `metadata` or `search[1]`.
    pub check: Arc<str>,
    pub status: Status,
    pub code: Option<Arc<str>>,
    pub party: Option<Party>,
    /// Whether it takes part in the reading's status: not when the inventory accepts its code, nor
    /// when it had nothing to say.
    pub counts: bool,
    pub attempts: u32,
    pub duration_us: u64,
    pub phases: Phases,
    pub http_status: Option<u16>,
    /// Bytes of the body as it was sent.
    pub wire_bytes: u64,
    /// The FHIR issue type of a refusing OperationOutcome, such as `throttled`.
    pub issue: Option<Arc<str>>,
    /// Kept for what was not healthy, and for the first and last of a run of equal results.
    pub detail: Option<Box<Detail>>,
}

/// Times of the phases of one request, in microseconds; `None` is one that did not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    pub dns_us: Option<u64>,
    pub connect_us: Option<u64>,
    pub tls_us: Option<u64>,
    pub first_byte_us: Option<u64>,
    pub transfer_us: Option<u64>,
}

/// What an incident is shown to a vendor with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Our words.
    pub message: Arc<str>,
    /// The `X-Request-Id` that we sent.
    pub request_id: Option<Arc<str>>,
    pub server_request_id: Option<Arc<str>>,
    /// Address and port that the connection really went to.
    pub remote_address: Option<Arc<str>>,
}

impl Origin {
    pub const ALL: [Origin; 4] = [Origin::Check, Origin::Test, Origin::Monitor, Origin::Import];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Check => "check",
            Origin::Test => "test",
            Origin::Monitor => "monitor",
            Origin::Import => "import",
        }
    }

    #[must_use]
    pub fn find(text: &str) -> Option<Origin> {
        Origin::ALL.into_iter().find(|origin| origin.as_str() == text)
    }
}

impl Reading {
    /// What is kept of a server's report. `None` when it was left out of the run.
    #[must_use]
    pub fn of(
        report: &ServerReport,
        run: Uuid,
        origin: Origin,
        vantage: Option<&Arc<str>>,
        now: Timestamp,
    ) -> Option<Reading> {
        if report.was_left_out() {
            return None;
        }
        let first = report.checks.iter().map(|check| check.observed_at).min().unwrap_or(now);
        Some(Reading {
            server: report.name.as_str().into(),
            at: to_millis(first),
            run,
            origin,
            vantage: vantage.cloned(),
            state: report.state,
            status: report.status,
            code: report.code.map(|code| code.as_str().into()),
            party: report.party,
            duration_us: micros(report.duration_ms),
            samples: report.checks.iter().map(Sample::of).collect(),
        })
    }
}

impl Sample {
    fn of(check: &Observation) -> Sample {
        let timing = check.timing.unwrap_or_default();
        let http = check.http.as_ref();
        let text = |text: Option<&String>| text.map(|text| Arc::from(text.as_str()));
        Sample {
            check: check.name.as_str().into(),
            status: check.status,
            code: check.code.map(|code| code.as_str().into()),
            party: check.party,
            counts: check.counts(),
            attempts: check.attempts,
            duration_us: micros(check.duration_ms),
            phases: Phases {
                dns_us: timing.dns_ms.map(micros),
                connect_us: timing.connect_ms.map(micros),
                tls_us: timing.tls_ms.map(micros),
                first_byte_us: timing.first_byte_ms.map(micros),
                transfer_us: timing.transfer_ms.map(micros),
            },
            http_status: http.and_then(|http| http.status),
            wire_bytes: http.map_or(0, |http| http.wire_bytes),
            issue: check.issue.as_deref().map(Arc::from),
            detail: Some(Box::new(Detail {
                message: check.message.as_str().into(),
                request_id: text(http.and_then(|http| http.request_id.as_ref())),
                server_request_id: text(http.and_then(|http| http.server_request_id.as_ref())),
                remote_address: text(http.and_then(|http| http.remote_address.as_ref())),
            })),
        }
    }
}

impl Phases {
    /// In the order in which they happen: DNS, connect, TLS, first byte, transfer.
    #[must_use]
    pub fn all(&self) -> [Option<u64>; 5] {
        [self.dns_us, self.connect_us, self.tls_us, self.first_byte_us, self.transfer_us]
    }

    /// The names of [`all`](Phases::all), in its order.
    pub const NAMES: [&'static str; 5] = ["dns", "connect", "tls", "first_byte", "transfer"];
}

/// Cut to the millisecond, which is what history keeps.
#[must_use]
pub fn to_millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

// A float is clamped by the cast.
fn micros(ms: f64) -> u64 {
    (ms * 1000.0).round() as u64
}
