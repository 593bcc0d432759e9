//! One check of one server at one instant, and a server's checks together.
//!
//! The probe makes these, the views show them, and what is stored gives the same types back.
//! The field names are those of the published JSON.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::{Code, Party, Status};

/// One check of one server at one instant.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Observation {
    /// The check: `dns`, `tcp`, `tls`, `auth`, `health`, `metadata`, `search`, `read`, `assert`.
    /// A second search, read or assertion is `search[1]` and so on.
    pub name: String,
    pub status: Status,
    /// `None` when healthy.
    pub code: Option<Code>,
    /// Our words only: no patient data, no secret, no text of the server's.
    pub message: String,
    pub party: Option<Party>,
    /// How many attempts it took; a pass after a retry says so in `message`.
    pub attempts: u32,
    #[serde(serialize_with = "millis")]
    pub duration_ms: f64,
    pub timing: Option<Timing>,
    pub http: Option<HttpFacts>,
    pub findings: Vec<Finding>,
    /// The server's own words, bounded, shown live and never stored.
    pub server_text: Option<String>,
    /// The FHIR issue type of an OperationOutcome that refuses, such as `throttled`; `None` for one
    /// that the specification does not know.
    pub issue: Option<String>,
    /// What to try next.
    pub hint: Option<String>,
    /// Set when an `accept` entry of the inventory covers this code; the status is kept as it was
    /// judged and does not count.
    pub accepted: Option<Accepted>,
    pub observed_at: Timestamp,
    /// Above the first it is slow, above the second that is critical, in milliseconds; `None`
    /// where no time is judged. Monitoring systems draw them beside the time.
    #[serde(skip)]
    pub threshold_ms: Option<(f64, f64)>,
}

impl Observation {
    /// Whether the check counts in a verdict.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.accepted.is_none() && !self.code.is_some_and(Code::is_left_out)
    }
}

/// Times of the phases of one request, in milliseconds, one after the other.
///
/// They do not overlap. `None` is a phase that did not happen: an address needs no DNS, a reused
/// connection no handshake, and behind a proxy the name is the proxy's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Timing {
    #[serde(serialize_with = "opt_millis")]
    pub dns_ms: Option<f64>,
    /// The TCP handshake.
    #[serde(serialize_with = "opt_millis")]
    pub connect_ms: Option<f64>,
    #[serde(serialize_with = "opt_millis")]
    pub tls_ms: Option<f64>,
    /// From the connection being ready to the response's header.
    #[serde(serialize_with = "opt_millis")]
    pub first_byte_ms: Option<f64>,
    /// From the response's header to the end of its body.
    #[serde(serialize_with = "opt_millis")]
    pub transfer_ms: Option<f64>,
    #[serde(serialize_with = "millis")]
    pub total_ms: f64,
}

/// What is known of one exchange, so that an incident can be shown to a vendor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct HttpFacts {
    /// The status code; `None` when no answer came.
    pub status: Option<u16>,
    /// `http/1.0`, `http/1.1` or `h2`.
    pub version: Option<String>,
    /// Bytes of the body as it was sent, before decompression.
    pub wire_bytes: u64,
    /// Bytes of the body after decompression.
    pub body_bytes: u64,
    pub content_type: Option<String>,
    /// The `X-Request-Id` that we sent.
    pub request_id: Option<String>,
    /// The server's own `X-Request-Id` or `X-Correlation-Id`.
    pub server_request_id: Option<String>,
    /// Address and port that the connection really went to.
    pub remote_address: Option<String>,
    /// The server's `Date`, as RFC 3339.
    pub server_date: Option<Timestamp>,
    /// Our clock less the server's, in milliseconds, to the second that `Date` allows.
    pub clock_skew_ms: Option<i64>,
    /// `Retry-After` in milliseconds, both forms read.
    pub retry_after_ms: Option<u64>,
}

/// A remark on a document that changes no status by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// Such as `CS-05`; documented by `explain`.
    pub id: String,
    pub severity: Severity,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
    Info,
}

/// An `accept` entry that covers an observation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Accepted {
    pub reason: String,
    /// The last day on which it holds.
    pub until: Option<jiff::civil::Date>,
}

/// The server's certificate as it was shown in the handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Certificate {
    pub not_after: Timestamp,
    /// Whole days left; negative when it has ended.
    pub days_left: i64,
    pub subject: String,
    pub issuer: String,
    /// SHA-256 of the leaf's DER, hexadecimal.
    pub sha256: String,
}

/// Whether a server is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Active,
    Maintenance,
    Inactive,
}

impl State {
    pub const ALL: [State; 3] = [State::Active, State::Maintenance, State::Inactive];

    #[must_use]
    pub fn find(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Maintenance => "maintenance",
            State::Inactive => "inactive",
        }
    }
}

/// All checks of one server in one run.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ServerReport {
    pub name: String,
    /// The base URL, without credentials.
    pub url: String,
    pub vendor: Option<String>,
    pub state: State,
    /// The worst of the checks that count.
    pub status: Status,
    /// Of the check that decided the status.
    pub code: Option<Code>,
    pub message: String,
    pub party: Option<Party>,
    #[serde(serialize_with = "millis")]
    pub duration_ms: f64,
    /// As the server says it, such as `4.0.1`.
    pub fhir_version: Option<String>,
    /// Name and version as the server says them.
    pub software: Option<String>,
    pub certificate: Option<Certificate>,
    /// Fewer days left than the first is a warning, than the second critical.
    #[serde(skip)]
    pub certificate_threshold_days: Option<(f64, f64)>,
    pub checks: Vec<Observation>,
}

/// Milliseconds to one decimal of a microsecond's worth: three decimals.
fn round(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

fn millis<S: Serializer>(ms: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(round(*ms))
}

// Serde hands a reference to the field.
fn opt_millis<S: Serializer>(ms: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match ms {
        Some(ms) => serializer.serialize_some(&round(*ms)),
        None => serializer.serialize_none(),
    }
}
